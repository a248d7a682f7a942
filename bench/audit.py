"""What the audit trail costs a save, and how fast it is sealed and verified.

Cost: two databases on one server, one of them with the audit triggers disabled, take turns in slices; in both
seal_audit() is called once a second meanwhile. Ratios are made between slices of the same round.

Throughput: events are laid down as saves leave them, then sealed, checkpointed and verified by verify_all_audit(); and
a bundle of one tenant with as many events is verified by pydb/verifier.py, as the command that an auditor runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg

from bench.clients import answers, start_clients, summarise_slice, tasks
from bench.contenders import MODELS, TENANTS, Ours, batches, fill_ours, isolation_key, model_name, state
from bench.server import (
    add_major,
    assigned,
    describe,
    end_well,
    install,
    median_range,
    named,
    running_server,
    table,
)
from pydb import verifier
from pydb.embedded import Cluster

ARMS = ("audited", "bare")
CLIENTS = (8, 32)
SLICE_SECONDS = 2.0
WARM_SECONDS = 0.5
SIZES = (2, 100, 1000)  # events per tenant and seal
EVENTS = 300_000
ROUNDS = 7
CHECKPOINT_SEALS = 100  # in the bundle of one tenant

# Events as saves leave them. %(tenants)s tenants, %(each)s events of each.
PENDING = """
    insert into ai_storage_private.audit_pending (
        tenant_id, event_id, recorded_at, version, model_id, action, login, credential,
        content_digest, detail_digest, salt, detail
    )
    select
        t.tenant_id,
        encode(int8send(v.version) || substr(uuid_send(gen_random_uuid()), 9), 'hex')::uuid,
        clock_timestamp(), v.version, gen_random_uuid(), 'save model', 'bench_app', 'key',
        sha256(uuid_send(s.salt) || convert_to('content', 'UTF8')),
        sha256(uuid_send(s.salt) || convert_to(s.detail, 'UTF8')), s.salt, s.detail
    from generate_series(1, %(each)s) as v (version)
    cross join generate_series(%(first)s, %(first)s + %(tenants)s - 1) as t (tenant_id)
    cross join lateral (
        select gen_random_uuid(), '{"model_name": "demand-forecast-03", "application": "bench"}'
        where v.version > 0
    ) as s (salt, detail)
"""

# The same as one seal_audit() for every few events of one tenant, which would take hours.
SEALS = """
do $seals$
declare
    v_seal ai_storage_private.audit_seal;
    v_zeros constant bytea := decode(repeat('00', 32), 'hex');
begin
    insert into ai_storage_private.audit_event
    select
        p.tenant_id, p.event_id, p.recorded_at, p.version, p.seal_number, p.leaf_index, p.model_id,
        p.action, p.login, p.credential, p.content_digest, p.detail_digest,
        ai_storage_private.leaf_hash(
            p.tenant_id, p.event_id, p.seal_number, p.leaf_index, p.recorded_at, p.action,
            p.model_id, p.version, p.credential, p.content_digest, p.detail_digest, p.login
        ),
        p.salt, p.detail
    from (
        select d.*, (d.version - 1) / {each} + 1 as seal_number, ((d.version - 1) %% {each})::integer as leaf_index
        from ai_storage_private.audit_pending as d
    ) as p;
    truncate ai_storage_private.audit_pending;
    v_seal.seal_hash := v_zeros;
    for v_seal.tenant_id, v_seal.seal_number, v_seal.event_count, v_seal.root in
        select
            e.tenant_id, e.seal_number, count(*),
            ai_storage_private.merkle_root(array_agg(e.leaf_hash order by e.leaf_index))
        from ai_storage_private.audit_event as e
        group by e.tenant_id, e.seal_number
        order by e.seal_number
    loop
        v_seal.checkpoint_number := (v_seal.seal_number - 1) / {checkpoint} + 1;
        v_seal.sealed_at := clock_timestamp();
        v_seal.previous_hash := v_seal.seal_hash;
        v_seal.seal_hash := ai_storage_private.seal_hash(v_seal);
        insert into ai_storage_private.audit_seal
        values (v_seal.*);
        if v_seal.seal_number %% {checkpoint} = 0 then
            perform ai_storage.create_checkpoint();
        end if;
    end loop;
    perform ai_storage.create_checkpoint();
end
$seals$
"""
LOG = "ai_storage_private.audit_pending, ai_storage_private.audit_event, ai_storage_private.audit_seal, "
LOG += "ai_storage_private.audit_checkpoint"


# Cost ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """A slice for one client. begin: time.monotonic() at which all clients start."""

    arm: str
    begin: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Cost:
    """One round of one arm. p50 in milliseconds."""

    clients: int
    arm: str
    p50: float
    p99: float
    per_second: float


def client(number: int, dsns: dict[str, str], pipe: Connection) -> None:
    """The life of a client process: one connection per arm, tasks in, latencies in milliseconds out."""
    chance = random.Random(number)
    turn = number * TENANTS // max(CLIENTS)
    with ExitStack() as stack:
        arms = {arm: Ours(stack.enter_context(psycopg.connect(dsn, autocommit=True))) for arm, dsn in dsns.items()}
        pipe.send([])
        task: Task
        for task in tasks(pipe):
            latencies = []
            time.sleep(max(0.0, task.begin - time.monotonic()))
            while time.monotonic() < task.begin + task.seconds:
                turn += 1
                one = state(chance, model_name(chance.randrange(MODELS)))
                began = time.perf_counter()
                arms[task.arm].save(isolation_key(turn % TENANTS), one)
                latencies.append((time.perf_counter() - began) * 1000)
            pipe.send(latencies)


def prepare_arm(cluster: Cluster, arm: str) -> tuple[str, str]:
    """A database with models in it. Returns: the superuser's and the application's DSN."""
    dsn, app_dsn = install(cluster, arm)
    with psycopg.connect(dsn, autocommit=True) as admin, psycopg.connect(app_dsn, autocommit=True) as app:
        if arm == "bare":
            triggers = admin.execute(
                "select t.tgrelid::regclass::text, t.tgname from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid "
                "where p.proname in ('record_change', 'record_model_change')"
            ).fetchall()
            for relation, name in triggers:
                admin.execute(f"alter table {relation} disable trigger {name}")
        fill_ours(app, batches(TENANTS, 1))
        admin.execute("select ai_storage.seal_audit()")
        admin.execute("vacuum analyze")
    return dsn, app_dsn


def measure_cost(cluster: Cluster, rounds: int) -> list[Cost]:
    """Save in both databases in turns, and seal once a second meanwhile."""
    dsns = {arm: prepare_arm(cluster, arm) for arm in ARMS}
    costs = []
    with ExitStack() as stack:
        sealers = {arm: stack.enter_context(psycopg.connect(dsn, autocommit=True)) for arm, (dsn, _) in dsns.items()}
        app_dsns = {arm: app_dsn for arm, (_, app_dsn) in dsns.items()}
        pipes = start_clients(max(CLIENTS), client, (app_dsns,), stack)
        answers(pipes)  # all are connected

        def run(clients: int, arm: str, seconds: float) -> Cost:
            begin = time.monotonic() + 0.02
            for pipe in pipes[:clients]:
                pipe.send(Task(arm, begin, seconds))
            # In the middle of each second, so that no sealing reaches into the next slice.
            for second in range(int(seconds)):
                time.sleep(max(0.0, begin + second + 0.5 - time.monotonic()))
                (sealed,) = sealers[arm].execute("select events from ai_storage.seal_audit()").fetchone() or (0,)
                if (sealed > 0) != (arm == "audited"):
                    raise RuntimeError(f"{sealed} events in the arm {arm}")
            latencies = [latency for one in answers(pipes[:clients]) for latency in one]
            part = summarise_slice(latencies, seconds)
            return Cost(clients, arm, part.p50, part.p99, part.per_second)

        for number in range(-1, rounds):
            # Round -1 warms up and is not counted; the arms change places in each round.
            for clients in CLIENTS:
                for arm in ARMS[:: 1 if number % 2 else -1]:
                    cost = run(clients, arm, SLICE_SECONDS if number >= 0 else WARM_SECONDS)
                    if number >= 0:
                        costs.append(cost)
    return costs


# Throughput ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Speed:
    """One round of one size: events per second."""

    each: int
    seal: float
    verify: float
    offline: float
    offline_one_core: float


def timed(connection: psycopg.Connection[Any], query: str) -> tuple[float, tuple[Any, ...]]:
    """Seconds and the row."""
    began = time.perf_counter()
    row = connection.execute(query).fetchone()
    took = time.perf_counter() - began
    assert row is not None
    return took, row


def write_bundle(admin: psycopg.Connection[Any], app_dsn: str, each: int, events: int, bundle: Path) -> None:
    """A bundle of one tenant, with so many events under each seal."""
    admin.execute(f"truncate {LOG}")
    with psycopg.connect(app_dsn, autocommit=True) as app:
        (tenant_id,) = admin.execute("select min(tenant_id) from ai_storage_private.tenant").fetchone() or (None,)
        (key,) = admin.execute(
            "select isolation_key from ai_storage_private.tenant where tenant_id = %s", (tenant_id,)
        ).fetchone() or (None,)
        admin.execute(PENDING, {"tenants": 1, "each": events, "first": tenant_id})
        admin.execute(SEALS.replace("%%", "%").format(each=each, checkpoint=CHECKPOINT_SEALS))
        admin.execute("analyze")
        with app.cursor() as cursor, bundle.open("w", encoding="utf-8") as file:
            for (line,) in cursor.stream("select ai_storage.export_audit(%s)::text", (key,)):
                file.write(line + "\n")


def measure_offline(bundle: Path, events: int) -> tuple[float, float]:
    """Events per second of the command on all cores, and of the function on one."""
    began = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, verifier.__file__, bundle, "--json"], capture_output=True, text=True, check=True
    ).stdout
    command = time.perf_counter() - began
    if json.loads(shown)["events"] != events:
        raise RuntimeError(f"the verifier saw other events: {shown}")
    began = time.perf_counter()
    with bundle.open(encoding="utf-8", newline="\n") as lines:
        verifier.verify(lines)
    return events / command, events / (time.perf_counter() - began)


def measure_speed(cluster: Cluster, events: int, rounds: int) -> list[Speed]:
    """Seal and verify logs of several sizes."""
    dsn, app_dsn = prepare_arm(cluster, "speed")
    speeds = []
    with psycopg.connect(dsn, autocommit=True) as admin, tempfile.TemporaryDirectory() as folder:
        bundles = {each: Path(folder, f"{each}.jsonl") for each in SIZES}
        for each, bundle in bundles.items():
            write_bundle(admin, app_dsn, each, events, bundle)
        for _ in range(rounds):
            for each in SIZES:
                tenants = events // each
                admin.execute(f"truncate {LOG}")
                # Ids that no tenant has: what is measured needs no names.
                admin.execute(PENDING, {"tenants": tenants, "each": each, "first": 1})
                admin.execute("analyze")
                admin.execute("checkpoint")
                sealing, sealed = timed(admin, "select * from ai_storage.seal_audit()")
                admin.execute("select ai_storage.create_checkpoint()")
                admin.execute("vacuum analyze")
                verifying, verified = timed(admin, "select * from ai_storage.verify_all_audit()")
                if sealed != (tenants * each, tenants) or verified[:3] != (True, tenants * each, tenants):
                    raise RuntimeError(f"sealed {sealed}, verified {verified}")
                offline = measure_offline(bundles[each], events)
                speeds.append(Speed(each, tenants * each / sealing, tenants * each / verifying, *offline))
    return speeds


# Report ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """load: the machine's load average before and after."""

    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, str]
    load: tuple[float, float]
    events: int
    costs: list[Cost]
    speeds: list[Speed]


def render(report: Report) -> str:
    lines = [
        named(report.machine, report.versions),
        assigned(report.settings),
        f"load average {report.load[0]:.1f} before, {report.load[1]:.1f} after; medians of the rounds, and their range",
    ]
    if report.costs:
        rows = []
        for clients in CLIENTS:
            arms = {arm: [cost for cost in report.costs if (cost.clients, cost.arm) == (clients, arm)] for arm in ARMS}
            ratios = [a.per_second / b.per_second for a, b in zip(arms["audited"], arms["bare"], strict=True)]
            for arm, costs in arms.items():
                rows.append(
                    (
                        f"{clients} clients, {arm}",
                        *median_range([cost.p50 for cost in costs], ".2f"),
                        f"{statistics.median(cost.p99 for cost in costs):.2f}",
                        *median_range([cost.per_second for cost in costs], ".0f"),
                        *(median_range(ratios, ".2f") if arm == "audited" else ("", "")),
                    )
                )
        lines += ["", f"save an existing model, sealed every second, slices of {SLICE_SECONDS:g} s (ms)"]
        lines += table(("", "p50", "range", "p99", "ops/s", "range", "x bare", "range"), rows)
    if report.speeds:
        rows = []
        for each in SIZES:
            own = [speed for speed in report.speeds if speed.each == each]
            for what, name in (
                ("seal_audit()", "seal"),
                ("verify_all_audit()", "verify"),
                ("verifier.py", "offline"),
                ("verifier.py, one core", "offline_one_core"),
            ):
                figures = [getattr(speed, name) / 1000 for speed in own]
                rows.append((f"{what}, {each} events", *median_range(figures, ".0f")))
        lines += ["", f"thousand events per second, {report.events} events, so many per tenant and seal"]
        lines += table(("", "median", "range"), rows)
    return "\n".join(lines)


def measure(major: int, rounds: int, events: int) -> Report:
    before = os.getloadavg()[0]
    with running_server(major) as cluster:
        machine, versions, settings = describe(cluster.url())
        costs = measure_cost(cluster, rounds)
        speeds = measure_speed(cluster, events, rounds)
        return Report(machine, versions, settings, (before, os.getloadavg()[0]), events, costs, speeds)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.audit",
        description="Measure what the audit trail costs a save, and how fast it is sealed and verified. "
        "Starts a PostgreSQL of its own with durable settings and removes it in the end.",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s, about five minutes")
    parser.add_argument("--events", type=int, default=EVENTS, help="per log (default: %(default)s)")
    add_major(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything, round by round, as JSON")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.events % 1000:
        parser.error("at least one round, and a multiple of 1000 events")

    def run() -> None:
        report = measure(options.pg, options.rounds, options.events)
        print(render(report))
        if options.json is not None:
            options.json.write_text(json.dumps(asdict(report), indent=2) + "\n", "utf-8")

    return end_well(run)


if __name__ == "__main__":
    sys.exit(main())
