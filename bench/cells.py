"""What a call costs in cells: two cells beside one server, by pydb.Cells and through PgBouncer.

For `python -m bench.capacity --measure`.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from bench.clients import on_cpu
from bench.contenders import MODELS, batches, model_name, state
from bench.page import Spread
from bench.server import LOGIN, install, running_server
from pydb import Cells, TenantAwareStorage, directory
from pydb.embedded import Cluster
from pydb.storage import open_pool
from tests import pgbouncer

QUIET = {"autovacuum": "off", "max_wal_size": "16GB", "checkpoint_timeout": "2h"}  # settings of a server
TENANTS, CALLS = 40, 160  # tenants of a cell; calls in a slice
#: Not counted: rounds, and calls before each slice.
WARM_ROUNDS, WARM_CALLS = 3, 10
PREPARED, ONE, CELLS = "one server, statements prepared", "one server", "cells, by `pydb.Cells`"
BY_CELL, BY_ORGANISATION = "by PgBouncer, the cell's name", "by PgBouncer, the organisation's name"
DISCARDING = "by PgBouncer, the cell's name, `DISCARD ALL`"
#: Behind the name of a way: what PgBouncer itself takes.
BOUNCER = ": PgBouncer"

CALLED = ("load", "load 20", "save", "shared")
#: Processor time in microseconds by round, of each way and call.
Rounds = dict[str, dict[str, list[float]]]


def organisation(tenant: int) -> str:
    return f"org-{tenant // 2:04d}"


def key(tenant: int) -> str:
    """Two tenants of an organisation, which share models with one another."""
    return f"{organisation(tenant)}:mcp-{tenant % 2}:project-{tenant // 2:04d}:production:v1"


def processes(parent: int) -> list[int]:
    """A server's first process and its children."""
    return [parent, *map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split())]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one call: median, lowest and highest round. us: processor time. times: as a multiple of PREPARED's."""

    us: Spread
    times: Spread


@dataclass(frozen=True, slots=True)
class Way:
    """storage: of a tenant. parts: what is measured apart, each by its first process in either cell."""

    storage: Callable[[str], TenantAwareStorage]
    parts: dict[str, tuple[int, int]]


def fill(server: Cluster, name: str, tenants: range) -> tuple[str, str]:
    """Make a database with these tenants. Returns: the superuser's and the application's DSN."""
    dsn, app_dsn = install(server, name)
    keys = [key(tenant) for tenant in tenants]
    with psycopg.connect(app_dsn, autocommit=True) as app:
        rows = [states for _, states in batches(len(keys), 1, "plain")]
        for mine, states in zip(keys, rows, strict=True):
            TenantAwareStorage(app, mine).save_ai_progress_batch(asdict(one) for one in states)
        for tenant, mine in zip(tenants, keys, strict=True):
            target = {"server_id": f"mcp-{1 - tenant % 2}"}
            TenantAwareStorage(app, mine).share_model(model_name(0), [target])
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("vacuum analyze")
    return dsn, app_dsn


@contextmanager
def ways(major: int) -> Iterator[dict[str, Way]]:
    """Three servers, and the ways to call them."""
    halves = range(TENANTS), range(TENANTS, 2 * TENANTS)
    with ExitStack() as stack:
        plain, east, west = (stack.enter_context(running_server(major, QUIET)) for _ in range(3))
        _, app_dsn = fill(plain, "plain", range(2 * TENANTS))
        cells = {
            name: fill(server, name, half)
            for name, server, half in zip(("east", "west"), (east, west), halves, strict=True)
        }
        admin_dsns = {name: admin for name, (admin, _) in cells.items()}
        with directory.opened(admin_dsns) as admins:
            homes = directory.apply(admins, "west")
        databases = directory.pgbouncer(admin_dsns, homes)
        once = {"": (pid(plain), pid(plain))}
        both = {"": (pid(east), pid(west))}
        # One connection for each cell: another one would have to warm caches of its own.
        router = stack.enter_context(Cells({name: app for name, (_, app) in cells.items()}, max_size=1))

        def direct(threshold: int | None) -> Callable[[str], TenantAwareStorage]:
            pool = stack.enter_context(open_pool(app_dsn, max_size=1, prepare_threshold=threshold))
            return lambda credential: TenantAwareStorage(pool, credential)

        def pooled(name: Callable[[str], str], config: str) -> Way:
            folder = stack.enter_context(pgbouncer.running(config, f'"{LOGIN}" ""\n', str(east.data_dir)))
            process = int((folder / "pid").read_text("ascii"))
            clients: dict[str, psycopg.Connection[Any]] = {}

            def storage(credential: str) -> TenantAwareStorage:
                dbname = name(credential.partition(":")[0])
                if dbname not in clients:
                    dsn = make_conninfo(host=str(folder), port=pgbouncer.PORT, user=LOGIN, dbname=dbname)
                    clients[dbname] = stack.enter_context(psycopg.connect(dsn, autocommit=True, prepare_threshold=None))
                return TenantAwareStorage(clients[dbname], credential)

            return Way(storage, {**both, BOUNCER: (process, process)})

        config = databases + pgbouncer.settings("transaction", reset=True)
        yield {
            PREPARED: Way(direct(5), once),
            ONE: Way(direct(None), once),
            CELLS: Way(router.storage, both),
            BY_CELL: pooled(lambda org: homes[org].cell_name, config),
            BY_ORGANISATION: pooled(lambda org: org, config),
            DISCARDING: pooled(lambda org: homes[org].cell_name, config.replace(pgbouncer.RESET, "discard all")),
        }


def pid(server: Cluster) -> int:
    found = server.pid()
    assert found is not None
    return found


def call(storage: TenantAwareStorage, what: str, tenant: int, chance: random.Random) -> None:
    name = model_name(chance.randrange(MODELS))
    if what == "save":
        storage.save_ai_progress(**asdict(state(chance, name, "plain")))
        return
    if what == "load":
        found = storage.load_ai_progress(name, scope="own")
    elif what == "load 20":
        found = storage.load_ai_progress(limit=MODELS, scope="own")
    else:
        found = storage.load_ai_progress(model_name(0), owner=key(tenant ^ 1))
    if len(found) != (MODELS if what == "load 20" else 1):
        raise RuntimeError(f"{what} found {len(found)} models")


def measure_slice(way: Way, what: str, half: int, chance: random.Random) -> dict[str, float]:
    """Call for one cell's tenants. Returns: microseconds of processor time per call, by part."""
    tenants = [chance.randrange(TENANTS) + half * TENANTS for _ in range(WARM_CALLS + CALLS)]
    storages = [way.storage(key(tenant)) for tenant in tenants]
    before: dict[str, float | None] = {}
    pids: dict[str, list[int]] = {}
    for number, (tenant, storage) in enumerate(zip(tenants, storages, strict=True)):
        if number == WARM_CALLS:
            pids = {part: processes(parents[half]) for part, parents in way.parts.items()}
            before = {part: on_cpu(one) for part, one in pids.items()}
        call(storage, what, tenant, chance)
    spent = {}
    for part, first in before.items():
        last = on_cpu(pids[part])
        if first is None or last is None:
            raise OSError("the processor time of a process cannot be read, or a process has ended")
        spent[part] = (last - first) / CALLS
    return spent


def measure(found: Mapping[str, Way], rounds: int) -> Rounds:
    """Measure all ways in turns, in an order that shifts every round.

    All calls of a slice go to one cell, whose caches are then as warm as on a machine of its own.
    """
    chance = random.Random(3)
    figures: Rounds = {}
    names = list(found)
    for turn in range(-WARM_ROUNDS, rounds):
        for what in CALLED:
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                halves = [measure_slice(found[name], what, half, chance) for half in (0, 1)]
                if turn >= 0:
                    for part in halves[0]:
                        us = statistics.mean(half[part] for half in halves)
                        figures.setdefault(name + part, {}).setdefault(what, []).append(us)
    return figures


def rounded(values: Sequence[float], digits: int) -> Spread:
    return round(statistics.median(values), digits), round(min(values), digits), round(max(values), digits)


def summary(figures: Rounds) -> dict[str, dict[str, Cost]]:
    """By way and call."""
    found: dict[str, dict[str, Cost]] = {}
    for name, by_call in figures.items():
        for what, us in by_call.items():
            times = [one / base for one, base in zip(us, figures[PREPARED][what], strict=True)]
            found.setdefault(name, {})[what] = Cost(rounded(us, 0), rounded(times, 2))
    return found
