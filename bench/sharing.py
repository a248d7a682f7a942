"""What being shared with costs a reader: a tenant with many received grants beside tenants with none.

All readers share one connection and take turns call by call, so whatever else the machine does hits all of them alike.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from bench.contenders import compact
from bench.server import LOGIN, describe, install, named, p99, run_rounds, running_server, table
from pydb import calls

RECEIVED = 10_000
COVERED = 100_000
DONORS = 100
OTHER_ORGS = 9
OWN = 20
PAGE = 20
DEFAULT_ROUNDS = 1000

#: A tenant of an organisation that nothing was ever shared with.
NONE = "quiet:s1:q:production:c1"
#: A tenant that nothing is shared with, among others of its organisation that receive much.
BYSTANDER = "crowd:s1:q:production:c1"
#: 10,000 grants to itself and one to each tenant of its project.
RECEIVER = "crowd:s1:p:production:c1"
WILDCARD = "crowd:*:p:production:*"
READERS = {"none": NONE, "bystander": BYSTANDER, "receiver": RECEIVER}

LOAD = calls.load_progress().query


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of load_progress. rows: how many it returns to a reader with grants, and to one without."""

    name: str
    model_name: str | None
    scope: str
    limit: int | None
    rows: tuple[int, int]

    def params(self, key: str) -> tuple[object, ...]:
        return (self.model_name, self.scope, None, self.limit, None, key)


OPERATIONS = (
    Operation(f"{OWN} own models, limit {OWN}", None, "all", OWN, (OWN, OWN)),
    Operation("one own model by name", "own 07", "all", None, (1, 1)),
    Operation(f"first page of {PAGE} shared models", None, "shared", PAGE, (PAGE, 0)),
)

# Data ------------------------------------------------------------------------------------------------------------


def fill(admin: psycopg.Connection[Any], app: psycopg.Connection[Any]) -> None:
    """Readers with 20 models each, donors with 10,000 models, the grants, and the 100,000 covered tenants."""
    donors = [f"donor:s1:p:production:c{number:03}" for number in range(DONORS)]
    for key in (*donors, *READERS.values()):
        own = [{"model_name": f"own {number:02}", "mse": 0.5} for number in range(OWN)]
        app.execute("select ai_storage.save_progress_batch(%s::jsonb, %s)", (compact(own), key))
    admin.execute(
        "insert into ai_storage_private.ai_progress_tenant (tenant_id, model_id, version, mse, training_samples, "
        "created_at, updated_at, model_name, metrics, metadata) "
        "select t.tenant_id, gen_random_uuid(), 1, 1, null, now(), now(), format('shared %%s', n), '{}', '{}' "
        "from ai_storage_private.tenant as t, generate_series(1, %s) as n where t.org_id = 'donor'",
        (RECEIVED // DONORS,),
    )
    # The receiver's own grants come last, so that a scan of the table has far to go.
    targets = [
        *(f"other{number}:s1:p:production:c1" for number in range(OTHER_ORGS)),
        RECEIVER,
    ]
    for target in targets:
        admin.execute("select ai_storage.allow_external_sharing('donor', %s)", (target.partition(":")[0],))
        give(admin, target, "shared")
    give(admin, WILDCARD, "own 00")
    admin.execute(
        "insert into ai_storage_private.tenant (tenant_id, org_id, server_id, project_id, environment, code_hash) "
        "select n, 'crowd', 's' || n %% 100, 'p', 'production', 'x' || n from generate_series(1, %s) as n",
        (COVERED,),
    )
    admin.execute("vacuum analyze")
    admin.execute("checkpoint")


def give(admin: psycopg.Connection[Any], target: str, models: str) -> None:
    """Grants on the donors' models whose names begin so: on all of them, or for a wildcard on one."""
    admin.execute(
        "insert into ai_storage_private.model_share (tenant_id, share_id, model_id, sharer_id, created_at, model_name, "
        "owner_key, sharer_key, target, permissions, ancestors, sharer_ids, permit_ids) "
        "select p.tenant_id, gen_random_uuid(), p.model_id, p.tenant_id, now(), p.model_name, t.isolation_key, "
        "t.isolation_key, %s, '{read}', '{}', array[p.tenant_id], array(select e.permit_id "
        "from ai_storage_private.external_sharing_permit as e where e.to_org_id = split_part(%s, ':', 1)) "
        "from ai_storage_private.ai_progress_tenant as p join ai_storage_private.tenant as t using (tenant_id) "
        "where t.org_id = 'donor' and starts_with(p.model_name, %s) "
        "order by p.model_id limit case when %s like '%%*%%' then 1 end",
        (target, target, models, target),
    )


# Measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    operation: str
    reader: str
    p50: float
    p99: float
    x: float


def measure_latencies(app: psycopg.Connection[Any], rounds: int) -> list[Cell]:
    """Let the readers take turns, and reduce their latencies. x: p50 compared with the reader without any grant."""
    grid = [(operation, reader) for operation in OPERATIONS for reader in READERS]
    latencies: dict[tuple[Operation, str], list[float]] = {place: [] for place in grid}
    for number in range(-rounds // 10, rounds):
        for operation, reader in grid:
            began = time.perf_counter()
            rows = app.execute(LOAD, operation.params(READERS[reader])).fetchall()
            took = (time.perf_counter() - began) * 1000
            if len(rows) != operation.rows[0 if reader == "receiver" else 1]:
                raise RuntimeError(f"{operation.name} of {reader} returned {len(rows)} rows")
            if number >= 0:
                latencies[operation, reader].append(took)
    p50 = {place: statistics.median(one) for place, one in latencies.items()}
    return [
        Cell(
            operation.name,
            reader,
            p50[operation, reader],
            p99(latencies[operation, reader]),
            p50[operation, reader] / p50[operation, "none"],
        )
        for operation, reader in grid
    ]


def measure_pages(app: psycopg.Connection[Any], timeout: float) -> list[tuple[str, str, str]]:
    """The times of loading much that is shared with the receiver in one call: how they grow with the page."""
    app.execute("select set_config('statement_timeout', %s, false)", (f"{timeout}s",))
    pages = []
    for limit in (PAGE, 100, 1000, RECEIVED):
        began = time.perf_counter()
        try:
            rows = len(app.execute(LOAD, (None, "shared", None, limit, RECEIVER)).fetchall())
        except psycopg.errors.QueryCanceled:
            pages.append((str(limit), f"> {timeout * 1000:.0f}", ""))
            continue
        took = (time.perf_counter() - began) * 1000
        pages.append((str(limit), f"{took:.1f}", f"{took / rows:.3f}"))
    app.execute("reset statement_timeout")
    return pages


def scans(dsn: str, operation: Operation, key: str) -> list[str]:
    """How the statements inside one call reach the tables, once their plans have settled."""
    heard: list[str] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary or ""))
        connection.execute("load 'auto_explain'")
        for setting, value in {
            "log_min_duration": "0",
            "log_nested_statements": "on",
            "log_level": "notice",
            "log_analyze": "on",
            "log_timing": "off",
        }.items():
            connection.execute(f"set auto_explain.{setting} = '{value}'")
        connection.execute(f"set session authorization {LOGIN}")
        for _ in range(7):
            heard.clear()
            connection.execute(LOAD, operation.params(key))
    found = []
    for plan in heard:
        lines = plan.splitlines()
        for number, line in enumerate(lines):
            if match := re.search(r"->\s+((?:Seq|Index|Index Only|Bitmap Heap) Scan.*?)\s+\(cost", line):
                actual = re.search(r"actual rows=([\d.]+) loops=(\d+)", line)
                removed = next(
                    (
                        more.strip().lower()
                        for more in lines[number + 1 : number + 4]
                        if "Rows Removed by Filter" in more
                    ),
                    "",
                )
                counted = f"rows {actual[1]} x {actual[2]}" if actual else "never executed"
                found.append(f"{match[1]}: {counted}{', ' + removed if removed else ''}")
    return found


# Report ----------------------------------------------------------------------------------------------------------


def measure(major: int, rounds: int) -> str:
    with running_server(major) as cluster:
        dsn, app_dsn = install(cluster, "sharing")
        with psycopg.connect(dsn, autocommit=True) as admin, psycopg.connect(app_dsn, autocommit=True) as app:
            fill(admin, app)
            machine, versions, _ = describe(dsn)
            (grants,) = admin.execute("select count(*) from ai_storage_private.model_share").fetchone() or (0,)
            cells = measure_latencies(app, rounds)
            pages = measure_pages(app, 60)
        plans = {
            (operation.name, reader): scans(dsn, operation, READERS[reader])
            for operation in OPERATIONS
            for reader in ("bystander", "receiver")
        }
    lines = [
        named(machine, versions),
        f"{grants} grants: {RECEIVED} to the receiver, one to the {COVERED} tenants it is one of, the others to "
        f"{OTHER_ORGS} organisations; {rounds} interleaved calls each",
        "",
        "load_progress (ms)",
        *table(
            ("operation", "reader", "p50", "p99", "x none"),
            [(cell.operation, cell.reader, f"{cell.p50:.3f}", f"{cell.p99:.3f}", f"{cell.x:.2f}") for cell in cells],
        ),
        "",
        "one page of the receiver's shared models (ms, one call)",
        *table(("models", "call", "per model"), pages),
    ]
    for (operation, reader), found in plans.items():
        lines += [
            "",
            f"scans: {operation}, {reader}",
            *(f"  {count} of {scan}" for scan, count in Counter(found).items()),
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    return run_rounds(
        "python -m bench.sharing",
        "Measure load_progress for a tenant with 10,000 received grants, and one grant that covers 100,000 tenants, "
        "beside tenants with none; and show the scans inside. A round is a call of each kind by each of them. "
        "Starts a PostgreSQL of its own and removes it in the end.",
        measure,
        DEFAULT_ROUNDS,
        "less than a minute",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
