"""The processes that call: each has a connection to every contender, and runs slices when it is told to."""

from __future__ import annotations

import multiprocessing
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.contenders import (
    CONTENDERS,
    MODELS,
    TENANTS,
    Contender,
    Operation,
    Payload,
    Place,
    isolation_key,
    model_name,
    state,
)
from bench.others import OTHERS
from bench.server import p99

BY_NAME: dict[str, type[Contender]] = {one.name: one for one in (*CONTENDERS, *OTHERS)}


@dataclass(frozen=True, slots=True)
class Connect:
    """Leave the contenders of before, connect to these, and warm up."""

    contenders: tuple[str, ...]
    place: Place
    payload: Payload


@dataclass(frozen=True, slots=True)
class Run:
    """A slice for one client. begin: time.monotonic() at which all clients start."""

    contender: str
    operation: Operation
    begin: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Ran:
    """latencies: in ms. seconds: what the slice took really. cpu: this client's processor time in the calls, in s."""

    latencies: list[float]
    seconds: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Slice:
    """p50, p99: in ms. server_us, client_us: processor time per call; None where the system does not tell."""

    p50: float
    p99: float
    per_second: float
    server_us: float | None = None
    client_us: float | None = None


def call(contender: Contender, operation: Operation, turn: int, chance: random.Random, payload: Payload) -> Ran:
    """One call, for the tenant whose turn it is."""
    key, name = isolation_key(turn % TENANTS), model_name(chance.randrange(MODELS))
    one = state(chance, name, payload)
    rows: list[Any] | None = None
    cpu = time.process_time()
    began = time.perf_counter()
    if operation == "save":
        contender.save(key, one)
    elif operation == "load":
        rows = contender.load(key)
    else:
        rows = contender.load_one(key, name)
    took = time.perf_counter() - began
    cpu = time.process_time() - cpu
    if rows is not None and len(rows) != (MODELS if operation == "load" else 1):
        raise RuntimeError(f"{contender.name} loaded {len(rows)} models")
    return Ran([took * 1000], took, cpu)


def warm_up(contender: Contender, chance: random.Random, payload: Payload) -> None:
    """Call until statements are prepared and plans are kept."""
    for turn in range(contender.warm_calls):
        for operation in contender.operations:
            call(contender, operation, turn, chance, payload)


def start_clients(
    count: int, life: Callable[..., None], arguments: Sequence[object], stack: ExitStack
) -> list[Connection]:
    """Start processes that run life(number, *arguments, pipe), and end with the stack. Returns: the pipes to them."""
    # Processes, since threads would share one interpreter lock; spawned, since a fork would share libpq's state.
    context = multiprocessing.get_context("spawn")
    pipes = []
    for number in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=live, args=(life, number, *arguments, theirs), daemon=True)
        process.start()
        stack.callback(process.terminate)
        theirs.close()
        pipes.append(ours)
    return pipes


def live(life: Callable[..., None], *arguments: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its clients, after it has said why
    life(*arguments)


def tasks(pipe: Connection) -> Iterator[Any]:
    """What a client is told to do, until the parent is gone."""
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        yield task


def answers(pipes: Sequence[Connection]) -> list[Any]:
    """What the clients say, one answer of each."""
    try:
        return [pipe.recv() for pipe in pipes]
    except EOFError:
        raise RuntimeError("a client ended early; what it said is above") from None


def client(number: int, most: int, pipe: Connection) -> None:
    """The life of a client process. number: which one of most."""
    chance = random.Random(number)
    turn = number * TENANTS // most
    payload: Payload = "plain"
    contenders: dict[str, Contender] = {}
    with ExitStack() as stack:
        task: Connect | Run
        for task in tasks(pipe):
            if isinstance(task, Connect):
                payload = task.payload
                stack.close()
                contenders = {name: BY_NAME[name].open(task.place, stack) for name in task.contenders}
                for contender in contenders.values():
                    warm_up(contender, chance, payload)
                pipe.send({name: contender.backends() for name, contender in contenders.items()})
                continue
            latencies, cpu = [], 0.0
            time.sleep(max(0.0, task.begin - time.monotonic()))
            end = task.begin + task.seconds
            while not latencies or time.monotonic() < end:
                turn += 1
                one = call(contenders[task.contender], task.operation, turn, chance, payload)
                latencies += one.latencies
                cpu += one.cpu
            pipe.send(Ran(latencies, time.monotonic() - task.begin, cpu))


def on_cpu(pids: Sequence[int]) -> float | None:
    """Microseconds of processor time that processes have used. None where the system does not tell."""
    try:
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[0]) / 1000 for pid in pids)
    except FileNotFoundError:
        return None


def summarise_slice(latencies: Sequence[float], seconds: float) -> Slice:
    """latencies: in ms. seconds: how long they took together."""
    return Slice(statistics.median(latencies), p99(latencies), len(latencies) / seconds)


class Clients:
    """All client processes. They live through the whole run; a slice uses the first few of them."""

    def __init__(self, most: int, stack: ExitStack) -> None:
        self.pipes = start_clients(most, client, (most,), stack)
        self.backends: list[dict[str, list[int]]] = []

    def connect(self, clients: int, contenders: Sequence[str], place: Place, payload: Payload) -> None:
        """Connect the first clients and disconnect the others."""
        for number, pipe in enumerate(self.pipes):
            names = [one for one in contenders if number == 0 or not BY_NAME[one].alone]
            pipe.send(Connect(tuple(names) if number < clients else (), place, payload))
        self.backends = answers(self.pipes)

    def run(self, contender: str, operation: Operation, clients: int, seconds: float) -> Slice:
        """One slice of all clients together."""
        pids = [pid for backends in self.backends[:clients] for pid in backends[contender]]
        before = on_cpu(pids) if pids else None
        begin = time.monotonic() + 0.01
        for pipe in self.pipes[:clients]:
            pipe.send(Run(contender, operation, begin, seconds))
        ran: list[Ran] = answers(self.pipes[:clients])
        after = on_cpu(pids) if pids else None
        slice_ = summarise_slice([latency for one in ran for latency in one.latencies], seconds)
        calls = sum(len(one.latencies) for one in ran)
        return Slice(
            slice_.p50,
            slice_.p99,
            # Each client by its own time: a call that began in the slice ends behind it.
            sum(len(one.latencies) / one.seconds for one in ran),
            None if before is None or after is None else (after - before) / calls,
            sum(one.cpu for one in ran) / calls * 1e6,
        )
