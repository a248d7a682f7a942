"""`python -m bench.capacity`: how many cores, how much memory, disk and log a number of organisations takes.

It reads what the benchmarks measured and writes the tables of docs/scaling.md. `--measure` measures first what only
this model needs: whole pages in the log, sealing, and calls in cells.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import random
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from bench import cells, page, scale
from bench.clients import on_cpu
from bench.contenders import MODELS, batches, fill_ours, isolation_key, model_name, state
from bench.server import add_major, describe, end_well, install, running_server, table
from pydb import TenantAwareStorage

GIB, TIB = 2**30, 2**40
PAGE = 8192
DAY, YEAR = 86_400, 31_536_000

# What is assumed -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Workload:
    """What an organisation does. saves, loads, shared: calls per second, mean of a day. busy: share of its tenants, and
    so of its models, that do it. kept: versions of a model that retention keeps."""

    name: str
    saves: float
    loads: float
    shared: float
    busy: float
    kept: int
    colour: str


WORKLOADS = (
    Workload("quiet", saves=0.02, loads=0.2, shared=0.01, busy=0.02, kept=10, colour="#9aa5b1"),
    Workload("serving", saves=0.05, loads=5.0, shared=0.05, busy=0.10, kept=10, colour="#1f6feb"),
    Workload("training", saves=1.0, loads=1.0, shared=0.05, busy=0.10, kept=50, colour="#d9822b"),
)
ORGANISATIONS = (10, 100, 1_000, 10_000)
#: Of an organisation.
TENANTS_EACH, MODELS_EACH = 100, 100_000
#: The busiest minute, times the mean of the day.
PEAK = 3.0
#: How busy the cores may be in it.
USED = 0.5
#: Seconds between two checkpoints, and between two runs of the sealer.
CHECKPOINT, SEALING = 900.0, 1.0


@dataclass(frozen=True, slots=True)
class Node:
    """A large server. memory and disk: bytes, of which `filled` are for rows, indexes and events."""

    cores: int = 64
    memory: float = 512 * GIB
    disk: float = 16 * TIB
    filled: float = 0.7


NODE = Node()

# What was measured -----------------------------------------------------------------------------------------------

CALLS = ("load", "save", "shared", "seal")


@dataclass(frozen=True, slots=True)
class Log:
    """Bytes of write-ahead log per call. first: more than that, where each page is changed for the first time since a
    checkpoint, and logged whole."""

    again: float
    first: float


@dataclass(frozen=True, slots=True)
class Figures:
    """docs/capacity.json. log: by call; of seal: per event, each under a seal of its own. seal_us: processor time per
    event, by events under a seal. calls: by way to a cell and call, see bench.cells."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, str]
    log: dict[str, Log]
    seal_us: dict[str, float]
    calls: dict[str, dict[str, cells.Cost]]


@dataclass(frozen=True, slots=True)
class Costs:
    """What the model computes with. us: processor time by call, on one server; spread: of the rounds. batch_us: of one
    model in a batch of next versions. token_us: what a signed token adds to a load. Sizes, in bytes: heap, indexes."""

    us: dict[str, float]
    spread: dict[str, page.Spread]
    per_seal_us: float
    batch_us: float
    token_us: float
    log: dict[str, Log]
    model: tuple[float, float]
    version: tuple[float, float]
    event: tuple[float, float]
    seal: float
    tenant: float
    connection: float


def read_figures(path: Path) -> Figures:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    log = {call: Log(**one) for call, one in found["log"].items()}
    calls = {way: {call: cells.Cost(**one) for call, one in by.items()} for way, by in found["calls"].items()}
    return Figures(**{**found, "log": log, "calls": calls})


def save_figures(figures: Figures, path: Path) -> None:
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(figures).items())
    path.write_text(f"{{\n{lines}\n}}\n", "utf-8")


def costs(report: page.Report, scaled: Sequence[scale.Cell], figures: Figures) -> Costs:
    """Raises: LookupError when a benchmark does not tell what is needed."""

    def us(contender: str, operation: str) -> page.Spread:
        one = page.find(report, contender, operation)
        found = one and page.spread(one.server_us)
        if not found:
            raise LookupError(f"no processor time of {operation} of {contender} in benchmarks.json")
        return found

    def size(what: str) -> tuple[float, float]:
        for one in report.sizes:
            if one.what == f"ours: {what}":
                return one.heap, one.indexes
        raise LookupError(f"no size of {what} in benchmarks.json")

    shared = [
        cell.cpu
        for cell in scaled
        if (cell.part, cell.operation, cell.access, cell.clients) == ("steps", scale.LOAD_SHARED.name, "busy", 1)
        and cell.cpu is not None
    ]
    if not shared:
        raise LookupError("no processor time of shared loads in benchmarks-scale.json")
    batch = [statistics.median(one.server_us) for one in report.batches if one.what == "next versions"]
    if not batch:
        raise LookupError("no batches of next versions in benchmarks.json")
    # Per event and per seal: two figures with 1 and MODELS events under a seal.
    one, many = figures.seal_us["1"], figures.seal_us[str(MODELS)]
    per_seal = max(0.0, (one - many) / (1 - 1 / MODELS))
    load, save = us("ours", "load_one"), us("ours", "save")
    return Costs(
        us={"load": load[0], "save": save[0], "shared": shared[-1], "seal": one - per_seal},
        spread={"load": load, "save": save},
        per_seal_us=per_seal,
        batch_us=batch[-1],
        token_us=us("ours, token", "load_one")[0] - load[0],
        log=figures.log,
        model=size("model"),
        version=size("kept version"),
        event=size("event, sealed"),
        seal=sum(size(f"seal, shared by {MODELS} events")) * MODELS,
        tenant=sum(size("share of the tenant registry")) * MODELS,
        connection=report.memory["ours"],
    )


# The model -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Need:
    """What a number of organisations takes after a year. cores: on one server, in the busiest minute. memory: bytes of
    the pages that are busy. log: bytes of a day. sealing: processor time of the sealer per second, mean of a day."""

    models: float
    saves: float
    loads: float
    cores: float
    memory: float
    disk: float
    log: float
    sealing: float

    @property
    def parts(self) -> dict[str, float]:
        """The share of one server that it takes, by resource: 1 is a full server."""
        return {
            "cores": self.cores / NODE.cores,
            "sealer": self.sealing,
            "memory": self.memory / NODE.memory / NODE.filled,
            "disk": self.disk / NODE.disk / NODE.filled,
        }

    @property
    def servers(self) -> int:
        """Plain servers, organisations split among them."""
        return max(math.ceil(part) for part in self.parts.values())


def touched(pages: float, changes: float) -> float:
    """How many of so many pages are changed by changes in random places."""
    return pages * -math.expm1(-changes / pages) if pages else 0.0


def need(work: Workload, organisations: int, cost: Costs) -> Need:
    models = float(organisations * MODELS_EACH)
    saves, loads, shared = (organisations * rate for rate in (work.saves, work.loads, work.shared))
    # Both sides log the use of a shared model.
    events = saves + 2 * shared
    in_turn = events / (organisations * TENANTS_EACH * work.busy) * SEALING
    seals = events * -math.expm1(-in_turn) / in_turn if events else 0.0

    stored_events = models + events * YEAR
    stored_seals = models + seals * YEAR
    versions = min(models * work.kept, models + saves * YEAR)
    disk = (
        models * sum(cost.model)
        + organisations * TENANTS_EACH * cost.tenant
        + versions * sum(cost.version)
        + stored_events * sum(cost.event)
        + stored_seals * cost.seal
    )
    # A busy model's page lies among others', entries of a tenant in an index lie together. Of versions the index alone
    # is read again: what is new comes to the end of the table. Events come in the order of time to the end of their
    # tenant's place in two indexes.
    on_page = PAGE / cost.model[0]
    heap = models / on_page * (1 - (1 - work.busy) ** on_page) * PAGE
    memory = heap + work.busy * (
        models * cost.model[1] + versions * cost.version[1] + organisations * TENANTS_EACH * 2 * PAGE
    )

    changes = saves * CHECKPOINT
    whole = touched(heap / PAGE, changes) / changes if changes else 0.0
    log = sum(
        rate * (cost.log[call].again + whole * cost.log[call].first)
        for rate, call in ((saves, "save"), (shared, "shared"), (events, "seal"))
    )

    spent = {
        "load": loads * cost.us["load"],
        "save": saves * cost.us["save"],
        "shared": shared * cost.us["shared"],
        "seal": events * cost.us["seal"] + seals * cost.per_seal_us,
    }

    return Need(
        models=models,
        saves=saves,
        loads=loads + shared,
        cores=sum(spent.values()) / 1e6 * PEAK / USED,
        memory=memory,
        disk=disk,
        log=log * DAY,
        sealing=spent["seal"] / 1e6,
    )


def by_way(cost: Costs, figures: Figures, way: str) -> Costs:
    """The costs of calls that go this way."""
    times = {call: cost.us[call] * figures.calls[way][call].times[0] for call in ("load", "save", "shared")}
    return replace(cost, us=cost.us | times)


def bouncers(work: Workload, cost: Costs, figures: Figures, way: str) -> float:
    """Cores of all PgBouncers together when all calls go this way."""
    calls = by_way(cost, figures, way + cells.BOUNCER)
    return need(work, ORGANISATIONS[-1], replace(calls, us=calls.us | {"seal": 0.0}, per_seal_us=0.0)).cores


# Measuring -------------------------------------------------------------------------------------------------------

TARGET = {"org_id": "guests"}


def one(connection: psycopg.Connection[Any], query: str) -> Any:
    ((value,),) = connection.execute(query).fetchall()  # type: ignore[call-overload]
    return value


def written(admin: psycopg.Connection[Any]) -> float:
    return float(one(admin, "select pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


def share_out(admin: psycopg.Connection[Any], app: psycopg.Connection[Any], tenants: int) -> None:
    """Let each tenant share its first model with the guests, who have to have written themselves to have a log."""
    for number in range(tenants):
        key = isolation_key(number)
        admin.execute("select ai_storage.allow_external_sharing(%s, 'guests')", (key.partition(":")[0],))
        TenantAwareStorage(app, key).share_model(model_name(0), [TARGET])
        guest(app, number).save_ai_progress("own", 0.1)


def guest(app: psycopg.Connection[Any], number: int) -> TenantAwareStorage:
    """Who may load the first model of a tenant of that number."""
    return TenantAwareStorage(app, "guests:" + isolation_key(number).partition(":")[2])


def measure_log(admin: psycopg.Connection[Any], app: psycopg.Connection[Any], calls: int) -> dict[str, Log]:
    """Each call for that many tenants, twice, and sealed each time: behind a checkpoint and once more."""

    chance = random.Random(11)

    def save(number: int) -> None:
        one = state(chance, model_name(number % MODELS), "plain")
        TenantAwareStorage(app, isolation_key(number)).save_ai_progress(**asdict(one))

    def load_shared(number: int) -> None:
        if not guest(app, number).load_ai_progress(model_name(0), owner=isolation_key(number)):
            raise LookupError("the model is not shared")

    found = {}
    for name, call in (("save", save), ("shared", load_shared)):
        passes = []
        for again in (False, True):
            if not again:
                admin.execute("checkpoint")
            before = written(admin)
            for number in range(calls):
                call(number)
            called = written(admin)
            events = admin.execute("select events from ai_storage.seal_audit()").fetchall()[0][0]
            passes.append(((called - before) / calls, (written(admin) - called) / events))
        (first, first_seal), (again_, again_seal) = passes
        found[name] = Log(again_, max(0.0, first - again_))
        found.setdefault("seal", Log(again_seal, max(0.0, first_seal - again_seal)))
    return found


def seal_us(admin: psycopg.Connection[Any]) -> float:
    """Seal everything. Returns: processor time of the server per event, in microseconds."""
    pid = [admin.info.backend_pid]
    before = on_cpu(pid)
    events = admin.execute("select events from ai_storage.seal_audit()").fetchall()[0][0]
    after = on_cpu(pid)
    if before is None or after is None:
        raise OSError("this system does not tell the processor time of a process")
    return (after - before) / float(events)


def measure(major: int, tenants: int, calls: int, rounds: int) -> Figures:
    """tenants: with MODELS models each. calls: of each kind per pass. rounds: of the calls in cells."""
    with cells.ways(major) as ways:
        in_cells = cells.summary(cells.measure(ways, rounds))
    with running_server(major, cells.QUIET) as server:
        dsn, app_dsn = install(server, "capacity")
        with psycopg.connect(dsn, autocommit=True) as admin, psycopg.connect(app_dsn, autocommit=True) as app:
            admin.execute("grant ai_storage_admin to postgres")
            fill_ours(app, batches(tenants, 4, "plain"))
            many = seal_us(admin)
            share_out(admin, app, calls)
            admin.execute("select ai_storage.seal_audit()")
            # Of the rest no vacuum: it offers what is left of every page, and new versions would lie one on each.
            admin.execute("vacuum ai_storage_private.audit_pending")
            admin.execute("analyze")
            log = measure_log(admin, app, calls)
            for number in range(tenants):
                TenantAwareStorage(app, isolation_key(number)).save_ai_progress(model_name(0), 0.3)
            single = seal_us(admin)
        machine, versions, settings = describe(dsn)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Figures(today, machine, versions, settings, log, {"1": single, str(MODELS): many}, in_cells)


# The page --------------------------------------------------------------------------------------------------------


def amount(value: float) -> str:
    """With two digits that count, and no more than are known."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def rounded(value: float) -> str:
    """Two digits, for what nobody knows better."""
    if value <= 0:
        return "0"
    digits = 1 - math.floor(math.log10(value))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def many(count: float) -> str:
    """A power of ten, as it is written."""
    power = round(math.log10(count))
    return f"10^{power}" if count >= 1e6 and 10**power == count else f"{count:,.0f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(
        [
            f"| {' | '.join(header)} |",
            "|" + "|".join(["---", *["--:"] * (len(header) - 1)]) + "|",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    )


NEED = (
    "organisations",
    "models",
    "saves/s",
    "loads/s",
    "cores",
    "busy pages GiB",
    "disk TiB",
    "log GiB/day",
    "plain servers",
)


def need_rows(work: Workload, cost: Costs) -> list[tuple[str, ...]]:
    rows = []
    for organisations in ORGANISATIONS:
        found = need(work, organisations, cost)
        rows.append(
            (
                f"{organisations:,}",
                many(found.models),
                rounded(found.saves),
                rounded(found.loads),
                rounded(found.cores),
                rounded(found.memory / GIB),
                rounded(found.disk / TIB),
                rounded(found.log / GIB),
                f"{found.servers:,}",
            )
        )
    return rows


def measured(figures: Figures) -> str:
    """When and on what."""
    where = f"{figures.machine['cpu']}, {figures.machine['cores']} cores"
    return f"{figures.date}, {where}, PostgreSQL {figures.versions['PostgreSQL']}"


def block_costs(cost: Costs, figures: Figures) -> Iterator[str]:
    """What one call and one row takes."""
    shown = {
        "load": "load one own model",
        "shared": "load one shared model, with the events of both sides",
        "save": "save a model, with its version and its event",
    }
    header = ["per call", "us of one server", "log, bytes", "behind a checkpoint"]
    rows = []
    for call, text in shown.items():
        middle = rounded(cost.us[call])
        if call in cost.spread:
            middle += " ({} to {})".format(*map(rounded, cost.spread[call][1:]))
        log = cost.log.get(call)
        rows.append(
            [text, middle, *(["", ""] if log is None else [rounded(log.again), rounded(log.again + log.first)])]
        )
    log = cost.log["seal"]
    rows += [
        ["the same in a batch of 1,000, per model", rounded(cost.batch_us), "", ""],
        ["more for a signed token, in every call", rounded(cost.token_us), "", ""],
        [
            "seal an event, alone under its seal",
            rounded(cost.us["seal"] + cost.per_seal_us),
            rounded(log.again),
            rounded(log.again + log.first),
        ],
        [f"seal an event, {MODELS} under a seal", rounded(cost.us["seal"] + cost.per_seal_us / MODELS), "", ""],
    ]
    yield markdown(header, rows)
    yield (
        "Processor time of the server, one client, rows in memory: [benchmarks.md](benchmarks.md), shared loads "
        f"[scale.md](scale.md), sealing and log by `python -m bench.capacity --measure` ({measured(figures)}). "
        "Medians, and the range of rounds in which others had more or less of the machine. *Behind a checkpoint*: "
        "where each page is changed for the first time since, and logged whole."
    )
    yield markdown(
        ["per row", "bytes, with indexes"],
        [
            ["model", rounded(sum(cost.model))],
            ["tenant, in the registry", rounded(cost.tenant)],
            ["kept version", rounded(sum(cost.version))],
            ["event, sealed", rounded(sum(cost.event))],
            ["seal", rounded(cost.seal)],
        ],
    )


def block_one(cost: Costs, figures: Figures) -> Iterator[str]:
    """What one large server carries."""
    seconds = NODE.cores * USED / PEAK * 1e6
    sealed = cost.us["seal"] + cost.per_seal_us
    room = NODE.disk * NODE.filled
    on_page = PAGE / cost.model[0]
    yield (
        f"A server of {NODE.cores} cores, {NODE.memory / GIB:.0f} GiB and {NODE.disk / TIB:.0f} TiB, its cores "
        f"{percent(USED)} busy in the busiest minute, which has {PEAK:g} times the calls of the mean, and "
        f"{percent(NODE.filled)} of memory and disk given to rows, carries one of these, as the mean of a day:"
    )
    yield "\n".join(
        [
            f"- {rounded(seconds / cost.us['load'])} loads of one own model per second;",
            f"- {rounded(seconds / (cost.us['save'] + sealed))} saves per second by its cores; but one sealer works at "
            f"a time, on one core, and seals {rounded(1e6 / sealed)} events per second where each has a seal of its "
            f"own, {rounded(1e6 / (cost.us['seal'] + cost.per_seal_us / MODELS))} where {MODELS} share one;",
            f"- {rounded(room / (sum(cost.model) + 10 * (sum(cost.version) + sum(cost.event))) / 1e9)} x 10^9 models "
            "with 10 versions and their 10 events each;",
            f"- {rounded(room / (sum(cost.event) + cost.seal) / 1e9)} x 10^9 events that each have a seal of "
            f"their own: a year at {rounded(room / (sum(cost.event) + cost.seal) / YEAR)} saves per second;",
            f"- {rounded(NODE.memory * NODE.filled / sum(cost.model) / 1e9)} x 10^9 models that are all busy, in "
            "memory.",
        ]
    )
    yield (
        f"A page has {on_page:.0f} models. Where 5 % of all models are busy and lie anywhere, "
        f"{percent(1 - 0.95**on_page)} of the pages of that table are; where they are the models of 5 % of the tenants "
        f"that were saved together, as few as 5 %. A connection takes {rounded(cost.connection / 2**20)} MiB besides."
    )


def block_needs(cost: Costs, figures: Figures) -> Iterator[str]:
    """The tables of the model."""
    for work in WORKLOADS:
        yield (
            f"**{work.name.capitalize()}.** Per organisation and second: {work.saves:g} saves, {work.loads:g} loads of "
            f"own models, {work.shared:g} of shared ones. {percent(work.busy)} of the tenants are busy, and "
            f"{work.kept} versions of a model are kept."
        )
        yield markdown(NEED, need_rows(work, cost))


CELL_COUNTS = (1, 2, 4, 8, 16)
PER_CELL = (
    "cells",
    "cores by `Cells`",
    "by PgBouncer, cell",
    "by PgBouncer, organisation",
    "PgBouncer's cores in all",
    "busy pages GiB",
    "disk TiB",
    "log GiB/day",
    "enough",
)


def block_ways(cost: Costs, figures: Figures) -> Iterator[str]:
    """What a call costs by each way to a cell."""
    rows = []
    for way, by_call in figures.calls.items():
        if way.endswith(cells.BOUNCER):
            continue
        row = [way]
        for call in cells.CALLED:
            (middle, low, high), us = by_call[call].times, by_call[call].us[0]
            text = f"{us:.0f} us" if way == cells.PREPARED else f"{middle:.2f} ({low:.2f} to {high:.2f})"
            if pooler := figures.calls.get(way + cells.BOUNCER):
                text += f" + {pooler[call].times[0]:.2f}"
            row.append(text)
        rows.append(row)
    yield f"Processor time per call, as a multiple of the first row, and the range of rounds ({measured(figures)}):"
    yield markdown(["", "load one own", "load 20 own", "save", "load one shared"], rows)


def block_cells(cost: Costs, figures: Figures) -> Iterator[str]:
    """What each cell needs, by the number of cells."""
    for work in WORKLOADS:
        rows = []
        for count in CELL_COUNTS:
            organisations = ORGANISATIONS[-1] // count
            ways = [
                need(work, organisations, by_way(cost, figures, way))
                for way in (cells.CELLS, cells.BY_CELL, cells.BY_ORGANISATION)
            ]
            short = [name for name, part in ways[0].parts.items() if part > 1]
            rows.append(
                [
                    f"{count}",
                    *(rounded(one.cores) for one in ways),
                    rounded(bouncers(work, cost, figures, cells.BY_CELL)),
                    rounded(ways[0].memory / GIB),
                    rounded(ways[0].disk / TIB),
                    rounded(ways[0].log / GIB),
                    f"no: {', '.join(short)}" if short else "yes",
                ]
            )
        yield f"**{work.name.capitalize()}**, for each cell:"
        yield markdown(PER_CELL, rows)


def block_assumed(cost: Costs, figures: Figures) -> Iterator[str]:
    yield "\n".join(
        [
            f"- An organisation has {TENANTS_EACH:,} tenants and {MODELS_EACH:,} models. A model carries about 45 "
            "bytes of metadata, and no artifacts: add the bytes of yours to disk and log.",
            f"- The busiest minute has {PEAK:g} times the mean; then {percent(USED)} of the cores are busy. The rest "
            "is for what no call's figure holds: writing out, vacuum, replication, a neighbour. Cores are like those "
            "measured on, of which there were few: that many of them do as many times as much is assumed.",
            "- Busy models lie anywhere among the others, so a page is busy when one of its models is; a tenant's "
            "entries in an index lie together. Of versions only the index has to be in memory, of events a page per "
            "index and busy tenant.",
            "- Disk is that after a year: all models, the versions that are kept, and every event, for events are "
            "never deleted (retention takes salt and names from them, which is not deducted). No artifacts, no spare "
            "room.",
            f"- The log holds a page whole at its first change after a checkpoint, one each {CHECKPOINT / 60:.0f} "
            f"minutes, without `wal_compression`. The sealer runs every {SEALING:g} s.",
            f"- *Plain servers*: how many of {NODE.cores} cores, {NODE.memory / GIB:.0f} GiB and "
            f"{NODE.disk / TIB:.0f} TiB, {percent(NODE.filled)} full, when organisations are split among them. One "
            "sealer works in each. No standbys are counted: they double it.",
        ]
    )


BLOCKS: dict[str, Callable[[Costs, Figures], Iterator[str]]] = {
    "costs": block_costs,
    "one": block_one,
    "needs": block_needs,
    "ways": block_ways,
    "cells": block_cells,
    "assumed": block_assumed,
}


def wrapped(text: str) -> str:
    """Paragraphs and lists in lines of 120 columns; tables as they are."""
    if text.startswith("|"):
        return text
    return "\n".join(
        textwrap.fill(line, 120, subsequent_indent="  " * line.startswith("- "), break_on_hyphens=False)
        for line in text.splitlines()
    )


def fill_in(text: str, blocks: dict[str, str]) -> str:
    """Put blocks between their markers. Raises: LookupError when there are none, or not once."""
    for name, block in blocks.items():
        begin, end = f"<!-- begin {name}: written by python -m bench.capacity -->", f"<!-- end {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise LookupError(f"the page has no place for {name}, or several")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{block}\n\n{end}{rest.partition(end)[2]}"
    return text


def draw(cost: Costs, path: Path) -> None:
    """Cores, memory and disk by organisations."""
    import matplotlib as mpl

    mpl.use("Agg")
    with mpl.rc_context({**page.STYLE, "svg.hashsalt": "capacity"}):
        from matplotlib import pyplot

        figure, panels = pyplot.subplots(1, 3, figsize=(11, 3.6))
        values: tuple[tuple[str, Callable[[Need], float | None], float], ...] = (
            ("cores", lambda found: found.cores, NODE.cores),
            ("busy pages, GiB", lambda found: found.memory / GIB, NODE.memory * NODE.filled / GIB),
            ("disk after a year, TiB", lambda found: found.disk / TIB, NODE.disk * NODE.filled / TIB),
        )
        for axes, (title, value, limit) in zip(panels, values, strict=True):
            for work in WORKLOADS:
                found = [need(work, count, cost) for count in ORGANISATIONS]
                axes.plot(
                    ORGANISATIONS, [value(one) for one in found], "o-", markersize=3, color=work.colour, label=work.name
                )
            axes.axhline(limit, color="#333333", linewidth=0.8, linestyle=":")
            axes.annotate("one large server", (ORGANISATIONS[0], limit), xytext=(0, 3), textcoords="offset points")
            axes.set(xscale="log", yscale="log", title=title, xlabel="organisations")
            axes.minorticks_off()
            axes.grid(which="major", color="#dddddd", linewidth=0.6)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
        figure.tight_layout(rect=(0, 0.07, 1, 1))
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def write_page(docs: Path) -> Costs:
    """docs/scaling.md between its markers, and its plot, from the figures that lie there."""
    figures = read_figures(docs / "capacity.json")
    scaled = [scale.Cell(**one) for one in json.loads((docs / scale.FIGURES.name).read_text("utf-8"))["cells"]]
    cost = costs(page.load_report(docs / "benchmarks.json"), scaled, figures)
    path = docs / "scaling.md"
    blocks = {name: "\n\n".join(map(wrapped, block(cost, figures))) for name, block in BLOCKS.items()}
    path.write_text(fill_in(path.read_text("utf-8"), blocks), "utf-8")
    draw(cost, docs / "benchmarks" / "capacity.svg")
    return cost


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.capacity",
        description="Compute what a number of organisations takes, from the figures in docs, and write it into "
        "docs/scaling.md. Measures nothing unless told to.",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="first measure log, sealing and calls in cells on servers of its own, about five minutes; writes "
        "docs/capacity.json",
    )
    parser.add_argument("--docs", type=Path, default=page.DOCS, help="the folder to write into (default: %(default)s)")
    add_major(parser)
    options = parser.parse_args(arguments)

    def run() -> None:
        path = options.docs / "capacity.json"
        if options.measure:
            save_figures(measure(options.pg, tenants=5_000, calls=100, rounds=16), path)
        cost = write_page(options.docs)
        for work in WORKLOADS:
            print("\n".join([work.name, *table(NEED, need_rows(work, cost)), ""]))

    return end_well(run)


if __name__ == "__main__":
    sys.exit(main())
