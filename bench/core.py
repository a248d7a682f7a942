"""Latency, throughput and size of the storage beside a bare table and beside the usual hand-written design.

All contenders share one server and one run: they take turns in short slices, so whatever else the machine does hits
all of them alike. Ratios are made between slices of the same round and only then reduced to their median.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, Literal, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

import pydb
from pydb import TenantAwareStorage, calls, migrate
from pydb.embedded import Cluster
from tests import servers

Operation = Literal["load", "save"]
OPERATIONS: tuple[Operation, ...] = ("load", "save")
CLIENTS = (1, 8)

LOGIN = "bench_app"
TENANTS = 200
MODELS = 20
SLICE_SECONDS = 0.3
DEFAULT_SECONDS = 80.0
SIZED_TENANTS = 5000

# Durability is PostgreSQL's default and said here, since every figure depends on it. The rest keeps a checkpoint from
# falling into some contender's slice.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "max_connections": "100",
}
SHOWN_SETTINGS = (*SETTINGS, "wal_sync_method", "wal_level", "autovacuum", "jit", "data_checksums")

TABLES: LiteralString = """
    create schema floor;
    create table floor.progress (
        isolation_key    text             not null,
        model_name       text             not null,
        version          bigint           not null default 1,
        mse              double precision not null,
        training_samples bigint,
        metrics          jsonb            not null,
        metadata         jsonb            not null,
        created_at       timestamptz      not null default now(),
        updated_at       timestamptz      not null default now(),
        primary key (isolation_key, model_name)
    );

    create schema pattern;
    create table pattern.ai_progress_tenant (
        id                 serial primary key,
        model_name         varchar(255) not null,
        isolation_key      varchar(255) not null,
        tenant_context     jsonb not null,
        access_permissions text[],
        mse                float not null,
        training_samples   integer,
        metadata           jsonb,
        created_at         timestamp default current_timestamp,
        unique (isolation_key, model_name)
    );
    alter table pattern.ai_progress_tenant enable row level security;
    create policy tenant_isolation on pattern.ai_progress_tenant
        using (isolation_key = current_setting('app.current_tenant'));

    grant usage on schema floor, pattern to bench_app;
    grant select, insert, update on floor.progress, pattern.ai_progress_tenant to bench_app;
    grant usage on sequence pattern.ai_progress_tenant_id_seq to bench_app;
"""

# Data ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """What one save carries."""

    model_name: str
    mse: float
    training_samples: int
    metrics: dict[str, float]
    metadata: dict[str, Any]


def model_name(number: int) -> str:
    return f"demand-forecast-{number:02d}"


def isolation_key(number: int) -> str:
    """The key of a tenant. Neighbours in number are no neighbours in the order of keys, as tenants come in life."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return f"org-{digest[:6]}:mcp-{number % 7}:project-{number:05d}:production:{digest[6:18]}"


def tenant_context(key: str) -> dict[str, str]:
    return dict(zip(("orgId", "serverId", "projectId", "environment", "codeHash"), key.split(":"), strict=True))


def state(chance: random.Random, name: str) -> State:
    """A model state with three metrics and about 150 bytes of metadata."""
    return State(
        model_name=name,
        mse=round(chance.uniform(0.001, 0.5), 6),
        # One range of integers, so that psycopg sends one type and prepares one statement.
        training_samples=chance.randrange(40_000, 2_000_000),
        metrics={measure: round(chance.random(), 4) for measure in ("mae", "r2", "loss")},
        metadata={
            "framework": "xgboost",
            "learning_rate": round(chance.random(), 4),
            "features": ["price", "region", "season"],
            "commit": f"{chance.getrandbits(40):010x}",
            "note": "nightly retraining, shard 7",
        },
    )


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


# Contenders ------------------------------------------------------------------------------------------------------


class Contender(ABC):
    """One way to save and load, on one connection. Both methods do all the work a caller would wait for."""

    name: ClassVar[str]
    about: ClassVar[str]

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    @abstractmethod
    def save(self, key: str, state: State) -> None:
        """Save a state of an existing model."""

    @abstractmethod
    def load(self, key: str) -> list[Any]:
        """Load all models of a tenant."""

    @abstractmethod
    def values(self, rows: list[Any]) -> dict[str, float]:
        """Model name -> mse of loaded rows, to compare contenders by."""


class Floor(Contender):
    name = "floor"
    about = "bare table, explicit WHERE, one prepared statement: no tenant check, no history"

    LOAD: LiteralString = (
        "select model_name, version, mse, training_samples, metrics, metadata, created_at, updated_at "
        "from floor.progress where isolation_key = %s order by model_name"
    )
    SAVE: LiteralString = (
        "insert into floor.progress (isolation_key, model_name, mse, training_samples, metrics, metadata) "
        "values (%s, %s, %s, %s, %s, %s) on conflict (isolation_key, model_name) do update set "
        "version = progress.version + 1, mse = excluded.mse, training_samples = excluded.training_samples, "
        "metrics = excluded.metrics, metadata = excluded.metadata, updated_at = excluded.updated_at returning version"
    )

    def save(self, key: str, state: State) -> None:
        self.connection.execute(
            self.SAVE,
            (
                key,
                state.model_name,
                state.mse,
                state.training_samples,
                compact(state.metrics),
                compact(state.metadata),
            ),
        ).fetchall()

    def load(self, key: str) -> list[Any]:
        return self.connection.execute(self.LOAD, (key,)).fetchall()

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {row[0]: row[2] for row in rows}


class Pattern(Contender):
    name = "pattern"
    about = "row level security on a setting: BEGIN, set_config, statement, COMMIT, one after the other"

    SET: LiteralString = "select set_config('app.current_tenant', %s, true)"
    LOAD: LiteralString = (
        "select id, model_name, isolation_key, tenant_context, access_permissions, mse, training_samples, metadata, "
        "created_at from pattern.ai_progress_tenant order by model_name"
    )
    SAVE: LiteralString = (
        "insert into pattern.ai_progress_tenant (model_name, isolation_key, tenant_context, access_permissions, mse, "
        "training_samples, metadata) values (%s, %s, %s, '{read,execute,write,share}', %s, %s, %s) "
        "on conflict (isolation_key, model_name) do update set mse = excluded.mse, "
        "training_samples = excluded.training_samples, metadata = excluded.metadata returning id"
    )

    def row(self, key: str, state: State) -> tuple[object, ...]:
        # The table has no column for metrics; such designs keep them in the metadata.
        return (
            state.model_name,
            key,
            compact(tenant_context(key)),
            state.mse,
            state.training_samples,
            compact({**state.metadata, "metrics": state.metrics}),
        )

    def save(self, key: str, state: State) -> None:
        with self.connection.transaction():
            self.connection.execute(self.SET, (key,))
            self.connection.execute(self.SAVE, self.row(key, state)).fetchall()

    def load(self, key: str) -> list[Any]:
        with self.connection.transaction():
            self.connection.execute(self.SET, (key,))
            return self.connection.execute(self.LOAD).fetchall()

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {row[1]: row[5] for row in rows}


class PatternPipelined(Pattern):
    name = "pattern-pipelined"
    about = "the same four statements in psycopg's pipeline mode: one round trip"

    # BEGIN and COMMIT by hand: connection.transaction() would add a synchronisation of its own to the pipeline.
    def save(self, key: str, state: State) -> None:
        with self.connection.pipeline():
            self.connection.execute("begin")
            self.connection.execute(self.SET, (key,))
            saved = self.connection.execute(self.SAVE, self.row(key, state))
            self.connection.execute("commit")
        saved.fetchall()

    def load(self, key: str) -> list[Any]:
        with self.connection.pipeline():
            self.connection.execute("begin")
            self.connection.execute(self.SET, (key,))
            loaded = self.connection.execute(self.LOAD)
            self.connection.execute("commit")
        return loaded.fetchall()


class Ours(Contender):
    name = "ours"
    about = "pydb.TenantAwareStorage by isolation key; a save keeps the earlier versions"

    def save(self, key: str, state: State) -> None:
        TenantAwareStorage(self.connection, key).save_ai_progress(
            state.model_name,
            state.mse,
            training_samples=state.training_samples,
            metrics=state.metrics,
            metadata=state.metadata,
        )

    def load(self, key: str) -> list[Any]:
        return TenantAwareStorage(self.connection, key).load_ai_progress()

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {row.model_name: row.mse for row in rows}


class OursBare(Contender):
    name = "ours-bare"
    about = "the SELECTs that pydb sends, on bare psycopg: what pydb itself adds"

    LOAD = calls.load_progress().query
    SAVE = calls.save_progress("", 0).query

    def save(self, key: str, state: State) -> None:
        self.connection.execute(
            self.SAVE,
            (
                state.model_name,
                state.mse,
                state.training_samples,
                compact(state.metrics),
                compact(state.metadata),
                None,
                None,
                None,
                key,
            ),
        ).fetchall()

    def load(self, key: str) -> list[Any]:
        return self.connection.execute(self.LOAD, (None, "all", None, None, key)).fetchall()

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {row[0]: row[4] for row in rows}


CONTENDERS: tuple[type[Contender], ...] = (Floor, Pattern, PatternPipelined, Ours, OursBare)
BASES: tuple[type[Contender], ...] = (Floor, Pattern)

# Filling ---------------------------------------------------------------------------------------------------------


def fill_floor(connection: psycopg.Connection[Any], rows: Iterable[tuple[str, list[State]]]) -> None:
    with connection.cursor().copy(
        "copy floor.progress (isolation_key, model_name, mse, training_samples, metrics, metadata) from stdin"
    ) as copy:
        for key, states in rows:
            for one in states:
                copy.write_row(
                    (key, one.model_name, one.mse, one.training_samples, Jsonb(one.metrics), Jsonb(one.metadata))
                )


def fill_pattern(connection: psycopg.Connection[Any], rows: Iterable[tuple[str, list[State]]]) -> None:
    with connection.cursor().copy(
        "copy pattern.ai_progress_tenant (model_name, isolation_key, tenant_context, access_permissions, mse, "
        "training_samples, metadata) from stdin"
    ) as copy:
        for key, states in rows:
            for one in states:
                name, _, context, mse, samples, metadata = Pattern(connection).row(key, one)
                copy.write_row((name, key, context, ["read", "execute", "write", "share"], mse, samples, metadata))


def fill_ours(connection: psycopg.Connection[Any], rows: Iterable[tuple[str, list[State]]]) -> None:
    # Through the front door, so that the rows lie as they do in life.
    connection.execute("set synchronous_commit = off")
    for key, states in rows:
        TenantAwareStorage(connection, key).save_ai_progress_batch(asdict(one) for one in states)


def batches(tenants: int, rounds: int) -> Iterator[tuple[str, list[State]]]:
    """All models of all tenants, some models of each tenant per round, the tenants shuffled: as tables grow in life."""
    chance = random.Random(7)
    per_round = MODELS // rounds
    order = list(range(tenants))
    for first in range(0, MODELS, per_round):
        chance.shuffle(order)
        for tenant in order:
            yield isolation_key(tenant), [state(chance, model_name(first + n)) for n in range(per_round)]


# Sizes -----------------------------------------------------------------------------------------------------------


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


def measure_sizes(dsn: str, app_dsn: str, tenants: int) -> list[Size]:
    """Fill both designs with the same models, one version each, and divide the vacuumed files by the rows."""
    with psycopg.connect(app_dsn, autocommit=True) as app, psycopg.connect(dsn, autocommit=True) as admin:
        fill_ours(app, batches(tenants, 4))
        fill_pattern(admin, batches(tenants, 4))
        admin.execute("vacuum analyze")
        # tenant is what ours keeps once per tenant and the pattern in every row, so it is shared out over the rows.
        tables = {
            "pattern: model": "pattern.ai_progress_tenant",
            "ours: model": "ai_storage_private.ai_progress_tenant",
            "ours: share of the tenant registry": "ai_storage_private.tenant",
            "ours: kept version": "ai_storage_private.progress_version",
        }
        rows = tenants * MODELS
        sizes: list[Size] = []
        for what, table in tables.items():
            bytes_of = admin.execute(
                "select pg_relation_size(%s::regclass), pg_indexes_size(%s::regclass)", (table, table)
            )
            sizes.extend(Size(what, rows, heap / rows, indexes / rows) for heap, indexes in bytes_of)
        return sizes


# Clients ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """A slice for one client. begin: time.monotonic() at which all clients start."""

    contender: str
    operation: Operation
    begin: float
    seconds: float


def client(number: int, dsn: str, pipe: Connection) -> None:
    """The life of a client process: one connection per contender, tasks in, latencies in milliseconds out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its clients, after it has said why
    chance = random.Random(number)
    turn = number * TENANTS // max(CLIENTS)
    with ExitStack() as stack:
        contenders = {
            one.name: one(stack.enter_context(psycopg.connect(dsn, autocommit=True, application_name=one.name)))
            for one in CONTENDERS
        }
        pipe.send([])
        while True:
            try:
                task: Task = pipe.recv()
            except EOFError:
                return
            contender = contenders[task.contender]
            latencies = []
            time.sleep(max(0.0, task.begin - time.monotonic()))
            end = task.begin + task.seconds
            while time.monotonic() < end:
                turn += 1
                key = isolation_key(turn % TENANTS)
                if task.operation == "load":
                    began = time.perf_counter()
                    rows = contender.load(key)
                    latencies.append((time.perf_counter() - began) * 1000)
                    if len(rows) != MODELS:
                        raise RuntimeError(f"{task.contender} loaded {len(rows)} models instead of {MODELS}")
                else:
                    one = state(chance, model_name(chance.randrange(MODELS)))
                    began = time.perf_counter()
                    contender.save(key, one)
                    latencies.append((time.perf_counter() - began) * 1000)
            pipe.send(latencies)


class Clients:
    """All client processes. They live through the whole run; a slice uses the first few of them."""

    def __init__(self, dsn: str, stack: ExitStack) -> None:
        # Processes, since threads would share one interpreter lock; spawned, since a fork would share libpq's state.
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        for number in range(max(CLIENTS)):
            ours, theirs = context.Pipe()
            process = context.Process(target=client, args=(number, dsn, theirs), daemon=True)
            process.start()
            stack.callback(process.terminate)
            theirs.close()
            self.pipes.append(ours)
        for pipe in self.pipes:
            pipe.recv()

    def run(self, contender: str, operation: Operation, clients: int, seconds: float) -> list[float]:
        """One slice: the latencies of all clients together."""
        task = Task(contender, operation, time.monotonic() + 0.01, seconds)
        for pipe in self.pipes[:clients]:
            pipe.send(task)
        return [latency for pipe in self.pipes[:clients] for latency in pipe.recv()]


# Latencies -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slice:
    p50: float
    p99: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One contender in one table: medians over its slices, in milliseconds. x: ratio of p50 to each base."""

    contender: str
    operation: Operation
    clients: int
    slices: int
    p50: float
    p50_min: float
    p50_max: float
    p99: float
    per_second: float
    x: dict[str, float]


def summarise_slice(latencies: Sequence[float], seconds: float) -> Slice:
    ordered = sorted(latencies)
    return Slice(
        p50=statistics.median(ordered),
        p99=ordered[math.ceil(0.99 * len(ordered)) - 1],
        per_second=len(ordered) / seconds,
    )


def measure_latencies(clients: Clients, seconds: float) -> list[Cell]:
    """Let the contenders take turns until the time is used up, and reduce their slices."""
    grid = [(count, operation) for count in CLIENTS for operation in OPERATIONS]
    rounds = max(3, round(seconds / (len(grid) * len(CONTENDERS) * SLICE_SECONDS)))
    slices: dict[tuple[int, Operation, str], list[Slice]] = {}
    for number in range(-1, rounds):
        # Round -1 warms up: plans, caches, the first touch of each page after the checkpoint. It is not counted.
        length = SLICE_SECONDS if number >= 0 else SLICE_SECONDS / 2
        # Each round begins with another contender, so that nobody always follows the same neighbour.
        shift = number % len(CONTENDERS)
        for count, operation in grid:
            for contender in CONTENDERS[shift:] + CONTENDERS[:shift]:
                latencies = clients.run(contender.name, operation, count, length)
                if number >= 0:
                    slices.setdefault((count, operation, contender.name), []).append(summarise_slice(latencies, length))
    cells = []
    for (count, operation, name), own in sorted(slices.items(), key=lambda item: item[0][:2]):
        p50s = [one.p50 for one in own]
        cells.append(
            Cell(
                contender=name,
                operation=operation,
                clients=count,
                slices=len(own),
                p50=statistics.median(p50s),
                p50_min=min(p50s),
                p50_max=max(p50s),
                p99=statistics.median(one.p99 for one in own),
                per_second=statistics.median(one.per_second for one in own),
                x={
                    base.name: statistics.median(
                        mine.p50 / other.p50
                        for mine, other in zip(own, slices[count, operation, base.name], strict=True)
                    )
                    for base in BASES
                },
            )
        )
    return cells


# Server ----------------------------------------------------------------------------------------------------------


@contextmanager
def running_server(major: int) -> Iterator[Cluster]:
    """A durable server of its own, on a Unix socket, that leaves nothing behind."""
    bin_dir = servers.bin_dir(major)
    # Open to pass through: started by root, the server runs as another user who has to reach its data.
    folder = Path(tempfile.mkdtemp(prefix="pydb-bench-"))
    os.chmod(folder, 0o711)
    cluster = Cluster(data_dir=folder / "data", bin_dir=bin_dir)
    try:
        cluster.start(SETTINGS)
        yield cluster
    finally:
        try:
            cluster.stop("immediate")
        finally:
            shutil.rmtree(folder)


def prepare(cluster: Cluster, dbname: str) -> tuple[str, str]:
    """A database with all contenders' tables. Returns: the superuser's and the application's DSN."""
    with psycopg.connect(cluster.url(), autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("create database {}").format(psycopg.sql.Identifier(dbname)))
    dsn = cluster.url(dbname)
    migrate.init(dsn, app_login=LOGIN)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
    return dsn, make_conninfo(dsn, user=LOGIN)


def preload(dsn: str, app_dsn: str) -> None:
    """The same models for every contender, then quiet files: analysed, vacuumed, on disk."""
    with psycopg.connect(dsn, autocommit=True) as admin, psycopg.connect(app_dsn, autocommit=True) as app:
        fill_floor(admin, batches(TENANTS, 1))
        fill_pattern(admin, batches(TENANTS, 1))
        fill_ours(app, batches(TENANTS, 1))
        admin.execute("vacuum analyze")
        admin.execute("checkpoint")
        loaded = [contender.values(contender.load(isolation_key(0))) for contender in (one(app) for one in CONTENDERS)]
    if any(values != loaded[0] or len(values) != MODELS for values in loaded):
        raise RuntimeError(f"the contenders do not hold the same data: {loaded}")


# Report ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, str]
    cells: list[Cell]
    sizes: list[Size]


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe(dsn: str) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Machine, versions and settings."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        settings: dict[str, str] = dict(
            connection.execute(
                "select name, current_setting(name) from pg_settings where name = any(%s) order by name",
                (list(SHOWN_SETTINGS),),
            ).fetchall()
        )
        server = connection.info.parameter_status("server_version") or "unknown"
    machine = {"cpu": cpu_name(), "cores": str(os.cpu_count()), "system": platform.system()}
    versions = {
        "PostgreSQL": server,
        "psycopg": f"{psycopg.__version__} ({psycopg.pq.__impl__})",
        "pydb": pydb.__version__,
        "Python": platform.python_version(),
    }
    return machine, versions, settings


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned columns: the first to the left, numbers to the right."""
    grid = [header, *rows]
    widths = [max(len(row[n]) for row in grid) for n in range(len(header))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in range(1, len(header)))]).rstrip()
        for row in grid
    ]


def render(report: Report) -> str:
    lines = [
        " | ".join(f"{name} {value}" for name, value in {**report.machine, **report.versions}.items()),
        " ".join(f"{name}={value}" for name, value in report.settings.items()),
        f"{TENANTS} tenants x {MODELS} models, {LOGIN} is neither superuser nor owner; {report.cells[0].slices} "
        f"interleaved slices of {SLICE_SECONDS} s each; medians over slices; min-max is of the slices' p50; "
        "ratios are medians of the rounds' ratios",
        "",
        *(f"  {contender.name:<18} {contender.about}" for contender in CONTENDERS),
    ]
    for count in CLIENTS:
        for operation, what in (("load", f"load all {MODELS} models of a tenant"), ("save", "save an existing model")):
            lines += ["", f"{what}, {count} client{'s' if count > 1 else ''} (ms)"]
            lines += table(
                ("contender", "p50", "min-max", "p99", "ops/s", *(f"x {base.name}" for base in BASES)),
                [
                    (
                        cell.contender,
                        f"{cell.p50:.3f}",
                        f"{cell.p50_min:.3f}-{cell.p50_max:.3f}",
                        f"{cell.p99:.3f}",
                        f"{cell.per_second:.0f}",
                        *(f"{cell.x[base.name]:.2f}" for base in BASES),
                    )
                    for cell in report.cells
                    if (cell.clients, cell.operation) == (count, operation)
                ],
            )
    if report.sizes:
        pattern, model, registry, version = report.sizes
        whole = Size(
            "ours: model and registry", model.rows, model.heap + registry.heap, model.indexes + registry.indexes
        )
        lines += ["", f"bytes per row, {model.rows} models of {model.rows // MODELS} tenants, vacuumed"]
        lines += table(
            ("what", "heap", "indexes", "total", "x pattern: model"),
            [
                (
                    size.what,
                    f"{size.heap:.1f}",
                    f"{size.indexes:.1f}",
                    f"{size.total:.1f}",
                    f"{size.total / pattern.total:.2f}",
                )
                for size in (pattern, model, registry, whole, version)
            ],
        )
    return "\n".join(lines)


def measure(major: int, seconds: float, sizes: bool) -> Report:
    with running_server(major) as cluster, ExitStack() as stack:
        dsn, app_dsn = prepare(cluster, "latency")
        machine, versions, settings = describe(dsn)
        preload(dsn, app_dsn)
        cells = measure_latencies(Clients(app_dsn, stack), seconds)
        return Report(
            machine,
            versions,
            settings,
            cells,
            measure_sizes(*prepare(cluster, "bytes"), SIZED_TENANTS) if sizes else [],
        )


def run_rounds(
    prog: str,
    description: str,
    measure: Callable[[int, int], str],
    rounds: int,
    takes: str,
    arguments: Sequence[str] | None,
) -> int:
    """The command of a benchmark that takes rounds on one server and prints what measure(major, rounds) returns.

    takes: how long the default takes. Returns: the exit code.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default: %(default)s, {takes}")
    parser.add_argument(
        "--pg",
        type=int,
        choices=(15, 16, 17, 18),
        default=18,
        help="major version of PostgreSQL (default: %(default)s)",
    )
    options = parser.parse_args(arguments)

    # A polite kill has to remove the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print(measure(options.pg, options.rounds))
    except servers.NoServer as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.core",
        description="Measure save, load and size beside a bare table and beside the usual hand-written design. "
        "Starts a PostgreSQL of its own with durable settings and removes it in the end.",
        epilog="A noisy machine widens min-max; the ratios, made between neighbouring slices, move far less.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=DEFAULT_SECONDS,
        help="time spent measuring latencies, in all (default: %(default)g; at least three rounds are run); "
        "preparation and sizes take about 40 s more",
    )
    parser.add_argument(
        "--pg",
        type=int,
        choices=(15, 16, 17, 18),
        default=18,
        help="major version of PostgreSQL (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    parser.add_argument("--no-sizes", action="store_true", help="leave out the bytes per row")
    options = parser.parse_args(arguments)

    # A polite kill has to remove the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        report = measure(options.pg, options.seconds, not options.no_sizes)
    except servers.NoServer as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(render(report))
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(report), indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
