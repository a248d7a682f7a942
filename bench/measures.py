"""What is measured: everything that a report holds."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from bench.clients import BY_NAME, Clients, call, on_cpu, warm_up
from bench.contenders import (
    CONTENDERS,
    FILLS,
    MODELS,
    TABLES,
    TENANTS,
    Contender,
    Operation,
    Payload,
    Place,
    batches,
    fill_audited,
    fill_ours,
    fill_pattern,
    isolation_key,
    model_name,
    state,
)
from bench.others import OTHERS, PACKAGE_OF, PACKAGES, fill_langgraph, fill_mlflow, installed, tracking_server
from bench.proxy import Address, Count, counting, delaying
from bench.server import LOGIN, create_database, describe, free_port, install, new_password, running_server
from pydb import TenantAwareStorage
from pydb.embedded import Cluster

OTHER_LOGIN = "bench_other"
DELAY = 0.0005  # seconds that a round trip is to take longer

SOCKET, TCP, DELAYED = "Unix socket", "TCP, loopback", "TCP + 0.5 ms"
LOADS: tuple[Operation, ...] = ("load", "load_one")
#: What shows only in a save, and what is there to tell what pydb costs.
SAVES_ONLY = ("audited", "audited, pipelined")
ONE_CLIENT_ONLY = ("ours, without pydb",)
#: What is written is the same, however it is sent.
SAME_WRITES = ("pattern, pipelined", "audited, pipelined", "ours, token", "ours, without pydb")
#: And so is the connection, but for a token.
SAME_CONNECTION = ("pattern, pipelined", "audited, pipelined", "ours, without pydb")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done. seconds: of a slice. clients: per transport. sized: tenants whose bytes are measured."""

    rounds: int
    seconds: float
    clients: dict[str, tuple[int, ...]]
    other_rounds: int
    other_seconds: float
    other_clients: tuple[int, ...]
    sized: int
    calls: int
    batches: int
    imports: int


FULL = Plan(
    rounds=8,
    seconds=0.3,
    clients={SOCKET: (1, 8, 32), TCP: (1, 8), DELAYED: (1, 8)},
    other_rounds=6,
    other_seconds=0.5,
    other_clients=(1, 8),
    sized=5000,
    calls=1000,
    batches=20,
    imports=10,
)
QUICK = Plan(
    rounds=3,
    seconds=0.1,
    clients={SOCKET: (1, 8), TCP: (1,), DELAYED: (1, 8)},
    other_rounds=2,
    other_seconds=0.3,
    other_clients=(1,),
    sized=250,
    calls=200,
    batches=5,
    imports=5,
)


@dataclass(frozen=True, slots=True)
class Series:
    """One contender doing one thing in one place: a figure per round. p50, p99: in ms.

    server_us, client_us: processor time per call; empty where the system does not tell.
    """

    contender: str
    operation: Operation
    transport: str
    clients: int
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    client_us: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Counted:
    """What one call sends."""

    contender: str
    operation: Operation
    statements: float
    round_trips: float


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes per row of one table. rows: what it is divided by."""

    what: str
    rows: int
    heap: float
    indexes: float

    @property
    def total(self) -> float:
        return self.heap + self.indexes


@dataclass(frozen=True, slots=True)
class Batch:
    """Batches of models in one call, a figure per batch. server_us, client_us: processor time per model."""

    what: str
    models: int
    per_second: list[float]
    server_us: list[float]
    client_us: list[float]


@dataclass(frozen=True, slots=True)
class Report:
    """wal: bytes per save. memory: bytes per connection.

    added_us: operation -> what pydb takes of the client's processor time beyond bare psycopg, a figure per round.
    select_ms: transport -> `select 1`, a median per round.
    """

    date: str
    payload: Payload
    quick: bool
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, str]
    load_average: list[float]
    slice_seconds: dict[str, float]
    contenders: dict[str, str]
    missing: list[str]
    series: list[Series]
    counted: list[Counted]
    wal: dict[str, float]
    sizes: list[Size]
    memory: dict[str, float]
    batches: list[Batch]
    added_us: dict[str, list[float]]
    select_ms: dict[str, list[float]]
    import_ms: list[float]


# Place -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """The server with all that is in it. port: of TCP. admin: the superuser's DSN of the contenders' database."""

    port: int
    password: str
    admin: str
    key: tuple[str, str, str]
    dsns: dict[str, str]

    @property
    def address(self) -> Address:
        return ("127.0.0.1", self.port)

    def place(self, address: Address | None = None) -> Place:
        """Where contenders connect: by the Unix socket, or to an address over TCP."""
        more: dict[str, Any] = {}
        if address is not None:
            more = {"host": address[0], "port": address[1], "password": self.password, "sslmode": "disable"}
            more["gssencmode"] = "disable"
        dsns = {name: make_conninfo(dsn, **more) for name, dsn in self.dsns.items()}
        return Place(dsns.pop("ours"), self.key, dsns)


def prepare(cluster: Cluster, name: str) -> tuple[str, str]:
    """A database with all contenders' tables. Returns: the superuser's and the application's DSN."""
    dsn, app_dsn = install(cluster, name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
    return dsn, app_dsn


def preload(dsn: str, app_dsn: str, payload: Payload) -> None:
    """The same models for every contender, then quiet files: analysed, vacuumed, on disk."""
    with psycopg.connect(dsn, autocommit=True) as admin, psycopg.connect(app_dsn, autocommit=True) as app:
        for fill in FILLS:
            fill(admin, batches(TENANTS, 1, payload))
        fill_ours(app, batches(TENANTS, 1, payload))
        admin.execute("vacuum analyze")
        admin.execute("checkpoint")


def compare(place: Place, names: Sequence[str], payload: Payload) -> None:
    """Raise unless the contenders hold the same models."""
    models = {key: {one.model_name: one.mse for one in states} for key, states in batches(TENANTS, 1, payload)}
    with ExitStack() as stack:
        for name in names:
            contender = BY_NAME[name].open(place, stack)
            for key in (isolation_key(0), isolation_key(TENANTS - 1)):
                if contender.values(contender.load(key)) != models[key]:
                    raise RuntimeError(f"{name} does not hold the models of the others")
                one = model_name(3)
                if contender.values(contender.load_one(key, one)) != {one: models[key][one]}:
                    raise RuntimeError(f"{name} does not hold a model of the others")


@contextmanager
def site(major: int, payload: Payload, packages: dict[str, str]) -> Iterator[tuple[Cluster, Site]]:
    """A server with every contender's models."""
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(port), "max_connections": "400"}
    with running_server(major, settings) as cluster:
        password = new_password()
        dsn, app_dsn = prepare(cluster, "bench")
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute(SQL("alter role {} password {}").format(Identifier(LOGIN), Literal(password)))
            admin.execute(SQL("create role {} login password {}").format(Identifier(OTHER_LOGIN), Literal(password)))
            ((kid, secret),) = admin.execute("select * from ai_storage.create_signing_key(null, 'bench')").fetchall()
        preload(dsn, app_dsn, payload)
        dsns = {"ours": app_dsn}
        if "MLflow" in packages:
            dsns["mlflow"] = make_conninfo(create_database(cluster, "mlflow", OTHER_LOGIN), user=OTHER_LOGIN)
            fill_mlflow(dsns["mlflow"], payload)
        if "LangGraph" in packages:
            dsns["langgraph"] = make_conninfo(create_database(cluster, "langgraph", OTHER_LOGIN), user=OTHER_LOGIN)
            fill_langgraph(dsns["langgraph"], payload)
        yield cluster, Site(port, password, dsn, (kid, secret, "bench"), dsns)


# Latencies -------------------------------------------------------------------------------------------------------


def measure_slices(
    clients: Clients, grid: Sequence[tuple[int, Operation, list[str]]], transport: str, rounds: int, seconds: float
) -> list[Series]:
    """Let the contenders take turns. grid: number of clients, operation, and who does it."""
    found: dict[tuple[int, Operation, str], Series] = {}
    for number in range(-1, rounds):
        # Round -1 warms up and is not counted.
        length = seconds if number >= 0 else seconds / 4
        for count, operation, names in grid:
            # Each round begins with another contender, so that nobody always follows the same neighbour.
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                one = clients.run(name, operation, count, length)
                if number < 0:
                    continue
                series = found.setdefault((count, operation, name), Series(name, operation, transport, count))
                for figure in ("p50", "p99", "per_second", "server_us", "client_us"):
                    if (value := getattr(one, figure)) is not None:
                        getattr(series, figure).append(value)
    order = [(count, operation, name) for count, operation, names in grid for name in names]
    return [found[key] for key in order]


def ours_grid(counts: Sequence[int]) -> list[tuple[int, Operation, list[str]]]:
    grid: list[tuple[int, Operation, list[str]]] = []
    for count in counts:
        for operation in (*LOADS, "save"):
            names = [
                one.name
                for one in CONTENDERS
                if not (operation in LOADS and one.name in SAVES_ONLY)
                and not (count > 1 and one.name in ONE_CLIENT_ONLY)
            ]
            grid.append((count, operation, names))
    return grid


def others_grid(counts: Sequence[int], names: Sequence[str]) -> list[tuple[int, Operation, list[str]]]:
    """Ours beside the others."""
    grid: list[tuple[int, Operation, list[str]]] = []
    for count in counts:
        for operation in (*LOADS, "save"):
            able = [
                name
                for name in ("ours", *names)
                if operation in BY_NAME[name].operations and not (BY_NAME[name].alone and count > 1)
            ]
            grid.append((count, operation, able))
    return grid


def measure_select(places: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """What a round trip takes by each transport, in turns: medians of `select 1`, in ms."""
    found: dict[str, list[float]] = {name: [] for name in places}
    with ExitStack() as stack:
        connections = {name: stack.enter_context(psycopg.connect(dsn, autocommit=True)) for name, dsn in places.items()}
        for _ in range(rounds):
            for name, connection in connections.items():
                took = []
                for _ in range(60):
                    began = time.perf_counter()
                    connection.execute("select 1").fetchall()
                    took.append((time.perf_counter() - began) * 1000)
                found[name].append(statistics.median(took[10:]))
    return found


def holding_time(where: Site) -> float:
    """Seconds to hold back what clients send, so that with the relay's own time a round trip takes DELAY longer."""
    part = DELAY / 2
    with delaying(where.address, part) as address:
        places = {TCP: where.place(where.address).dsn, DELAYED: where.place(address).dsn}
        found = measure_select(places, 10)
    # The shortest, so that it is rather too much than too little on a busy machine.
    own = (min(found[DELAYED]) - min(found[TCP])) / 1000 - part
    return max(0.0, DELAY - own)


# Single figures --------------------------------------------------------------------------------------------------


def open_all(place: Place, names: Sequence[str], payload: Payload, stack: ExitStack) -> list[Contender]:
    opened = [BY_NAME[name].open(place, stack) for name in names]
    for contender in opened:
        warm_up(contender, random.Random(3), payload)
    return opened


def measure_counts(where: Site, names: Sequence[str], payload: Payload) -> list[Counted]:
    """Statements and round trips per call, once statements are prepared: counted on the way."""
    counted = []
    chance = random.Random(5)
    repeat = 10
    with counting(where.address) as (address, count), ExitStack() as stack:
        for contender in open_all(where.place(address), names, payload, stack):
            for operation in contender.operations:
                calls: list[tuple[int, int]] = []
                for turn in range(repeat):
                    before = Count(count.statements, count.round_trips)
                    call(contender, operation, turn, chance, payload)
                    calls.append((count.statements - before.statements, count.round_trips - before.round_trips))
                # Medians, since an answer of many bytes may come before the end of a pipeline was sent.
                statements, round_trips = (statistics.median(figures) for figures in zip(*calls, strict=True))
                counted.append(Counted(contender.name, operation, statements, round_trips))
    return counted


@contextmanager
def quiet(admin: psycopg.Connection[Any]) -> Iterator[None]:
    """No autovacuum meanwhile."""
    for change in ("alter system set autovacuum = off", "select pg_reload_conf()"):
        admin.execute(change)
    yield
    for change in ("alter system reset autovacuum", "select pg_reload_conf()"):
        admin.execute(change)


def measure_wal(where: Site, names: Sequence[str], payload: Payload, saves: int) -> dict[str, float]:
    """Write-ahead log in bytes per save of an existing model, on a server where nothing else is written.

    After a checkpoint each page is logged whole once. So every model is saved once first, and counted the second time.
    """
    found = {}
    chance = random.Random(11)
    with psycopg.connect(where.admin, autocommit=True) as admin, quiet(admin), ExitStack() as stack:
        for contender in open_all(where.place(), names, payload, stack):
            count = min(saves, 200) if contender.slow else saves
            models = [(isolation_key(n % TENANTS), model_name(n // TENANTS % MODELS)) for n in range(count)]
            admin.execute("checkpoint")
            for key, name in models:
                contender.save(key, state(chance, name, payload))
            written = "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
            ((before,),) = admin.execute(written).fetchall()
            for key, name in models:
                contender.save(key, state(chance, name, payload))
            ((after,),) = admin.execute(written).fetchall()
            found[contender.name] = float(after - before) / count
    return found


def private_bytes(pid: int) -> int | None:
    """Memory that a process has for itself alone, without the shared buffers. None where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text("utf-8", "replace").splitlines()
    except (FileNotFoundError, PermissionError):
        return None
    total, private = 0, False
    for line in lines:
        name, *rest = line.split()
        if not name.endswith(":"):
            private = rest[0].endswith("p")
        elif private and name in ("Private_Clean:", "Private_Dirty:"):
            total += int(rest[0]) * 1024
    return total


def measure_memory(where: Site, names: Sequence[str], payload: Payload, calls: int) -> dict[str, float]:
    """Private memory of a connection's server process after so many calls of all kinds."""
    found = {}
    chance = random.Random(13)
    for name in names:
        with ExitStack() as stack:
            (contender,) = open_all(where.place(), [name], payload, stack)
            for turn in range(calls // 5 if contender.slow else calls):
                call(contender, contender.operations[turn % len(contender.operations)], turn, chance, payload)
            sizes = [private_bytes(pid) for pid in contender.backends()]
            if sizes and None not in sizes:
                found[name] = float(sum(size for size in sizes if size is not None))
    return found


def measure_sizes(cluster: Cluster, payload: Payload, tenants: int) -> list[Size]:
    """Fill the designs with the same models, one version each, and divide the vacuumed files by the rows."""
    dsn, app_dsn = prepare(cluster, "bytes")
    rows = tenants * MODELS
    with psycopg.connect(app_dsn, autocommit=True) as app, psycopg.connect(dsn, autocommit=True) as admin:

        def size(what: str, table: str, before: Size | None = None) -> Size:
            ((heap, indexes),) = admin.execute(
                "select pg_relation_size(%s::regclass), pg_indexes_size(%s::regclass)", (table, table)
            ).fetchall()
            heap, indexes = heap / rows, indexes / rows
            if before is not None:
                heap, indexes = heap - before.heap, indexes - before.indexes
            return Size(what, rows, heap, indexes)

        fill_ours(app, batches(tenants, 4, payload))
        fill_pattern(admin, batches(tenants, 4, payload))
        fill_audited(admin, batches(tenants, 4, payload))
        admin.execute("vacuum analyze")
        history, log = "audited.ai_progress_history", "audited.audit_log"
        sizes = [
            size("pattern: model", "pattern.ai_progress_tenant"),
            size("audited: kept version", history),
            size("audited: audit row of a first save", log),
            size("ours: model", "ai_storage_private.ai_progress_tenant"),
            # What ours keeps once per tenant and the pattern in every row is shared out over the rows.
            size("ours: share of the tenant registry", "ai_storage_private.tenant"),
            size("ours: kept version", "ai_storage_private.progress_version"),
            size("ours: event, not sealed", "ai_storage_private.audit_pending"),
        ]
        admin.execute("update audited.ai_progress_tenant set mse = mse / 2")
        sizes.insert(3, size("audited: audit row of a further save", log, sizes[2]))
        admin.execute("select ai_storage.seal_audit()")
        admin.execute("vacuum analyze")
        sealed = size("ours: event, sealed", "ai_storage_private.audit_event")
        return [*sizes, sealed, size(f"ours: seal, shared by {MODELS} events", "ai_storage_private.audit_seal")]


def measure_batches(where: Site, payload: Payload, count: int, models: int = 1000) -> list[Batch]:
    """Batches of models in tenants of their own: new ones, then their next version."""
    chance = random.Random(17)
    found = [Batch(what, models, [], [], []) for what in ("new models", "next versions")]
    with psycopg.connect(where.place().dsn, autocommit=True) as connection:
        pids = [connection.info.backend_pid]
        for number in range(-1, count):
            for batch in found:
                items = [asdict(state(chance, f"model-{n:04d}", payload)) for n in range(models)]
                storage = TenantAwareStorage(connection, f"batch:s1:p1:production:c{number + 1}")
                before, cpu, began = on_cpu(pids), time.process_time(), time.perf_counter()
                saved = storage.save_ai_progress_batch(items)
                took, cpu, after = time.perf_counter() - began, time.process_time() - cpu, on_cpu(pids)
                if len(saved) != models or saved[0].created != (batch is found[0]):
                    raise RuntimeError("a batch did not save what it should")
                if number < 0:
                    continue
                batch.per_second.append(models / took)
                batch.client_us.append(cpu / models * 1e6)
                if before is not None and after is not None:
                    batch.server_us.append((after - before) / models)
    return found


def measure_added(where: Site, payload: Payload, calls: int, rounds: int = 10) -> dict[str, list[float]]:
    """The client's processor time of ours beyond that of the same SELECTs without pydb, call by call in turns."""
    found: dict[str, list[float]] = {}
    chance = random.Random(19)
    with ExitStack() as stack:
        pair = open_all(where.place(), ["ours", "ours, without pydb"], payload, stack)
        for operation in pair[0].operations:
            found[operation] = []
            for _ in range(rounds):
                cpu: tuple[list[float], list[float]] = ([], [])
                for turn in range(max(calls // rounds, 5)):
                    for contender, taken in zip(pair, cpu, strict=True):
                        taken.append(call(contender, operation, turn, chance, payload).cpu * 1e6)
                found[operation].append(statistics.median(cpu[0]) - statistics.median(cpu[1]))
    return found


def measure_import(times: int) -> list[float]:
    """What `import pydb` takes in a fresh interpreter more than nothing, in ms, in turns."""

    def run(program: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        return (time.perf_counter() - began) * 1000

    run("import pydb")
    return [run("import pydb") - run("pass") for _ in range(times)]


# All -------------------------------------------------------------------------------------------------------------


def rounded(value: Any) -> Any:
    """Floats to five digits: more is noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def measure(major: int, plan: Plan, payload: Payload, *, quick: bool = False, say: Any = print) -> Report:
    """Run everything. say: takes a line about how far it is."""
    load = [round(one, 2) for one in os.getloadavg()]
    packages = installed()
    missing = [name for name in PACKAGES if name not in packages]
    for name in missing:
        say(f"{name} is not installed and left out; `make bench` installs the extra bench")
    ours = [one.name for one in CONTENDERS]
    others = [one.name for one in OTHERS if PACKAGE_OF[one.name] in packages]
    direct = [name for name in others if not BY_NAME[name].alone]
    most = max(*(count for counts in plan.clients.values() for count in counts), *plan.other_clients)
    with ExitStack() as stack:
        clients = Clients(most, stack)
        say("a server with everybody's models")
        cluster, where = stack.enter_context(site(major, payload, packages))
        # MLflow's runs are copies of one, so that it does not take minutes to make them.
        alike = [name for name in [*ours, *direct] if not BY_NAME[name].slow]
        compare(where.place(), alike, payload)
        say("write-ahead log per save, statements and round trips per call, memory per connection")
        wal = measure_wal(
            where,
            [one for one in [*ours, *direct] if one not in SAME_WRITES],
            payload,
            min(2 * plan.calls, TENANTS * MODELS),
        )
        counted = measure_counts(where, [*ours, *direct], payload)
        kinds = [one for one in [*ours, *direct] if one not in SAME_CONNECTION]
        memory = measure_memory(where, kinds, payload, plan.calls)
        series: list[Series] = []
        delayed = stack.enter_context(delaying(where.address, holding_time(where)))
        places = {SOCKET: where.place(), TCP: where.place(where.address), DELAYED: where.place(delayed)}
        for transport, counts in plan.clients.items():
            say(f"latencies, {transport}, {' and '.join(map(str, counts))} clients")
            clients.connect(max(counts), ours, places[transport], payload)
            series += measure_slices(clients, ours_grid(counts), transport, plan.rounds, plan.seconds)
        select_ms = measure_select({name: place.dsn for name, place in places.items()}, plan.rounds)
        if others:
            say(f"latencies of {', '.join(others)}")
            with ExitStack() as tracking:
                place = where.place()
                if "MLflow" in packages:
                    place.others["mlflow server"] = tracking.enter_context(tracking_server(place.others["mlflow"]))
                clients.connect(max(plan.other_clients), ["ours", *others], place, payload)
                grid = others_grid(plan.other_clients, others)
                beside = measure_slices(clients, grid, SOCKET, plan.other_rounds, plan.other_seconds)
            series += [_renamed(one) for one in beside]
        clients.connect(0, [], where.place(), payload)
        say("batches, bytes per model, what pydb adds")
        batched = measure_batches(where, payload, plan.batches)
        added = measure_added(where, payload, plan.calls)
        machine, versions, settings = describe(where.admin)
        return Report(
            **rounded(
                {
                    "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                    "payload": payload,
                    "quick": quick,
                    "machine": machine,
                    "versions": {**versions, **packages},
                    "settings": settings,
                    "load_average": load,
                    "slice_seconds": {"ours": plan.seconds, "others": plan.other_seconds},
                    "contenders": {name: BY_NAME[name].about for name in [*ours, *others]},
                    "missing": missing,
                    "wal": wal,
                    "memory": memory,
                    "added_us": added,
                    "select_ms": select_ms,
                    "import_ms": measure_import(plan.imports),
                }
            ),
            series=[Series(**rounded(asdict(one))) for one in series],
            counted=[Counted(**rounded(asdict(one))) for one in counted],
            sizes=[Size(**rounded(asdict(one))) for one in measure_sizes(cluster, payload, plan.sized)],
            batches=[Batch(**rounded(asdict(one))) for one in batched],
        )


BESIDE = "ours, beside them"


def _renamed(series: Series) -> Series:
    """Ours, measured in the rounds of the others, is another series than ours among its own."""
    if series.contender != "ours":
        return series
    return Series(**{**asdict(series), "contender": BESIDE})
