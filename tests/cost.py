"""What the hot calls cost, counted and not timed: the same figures on a slow machine, a fast one and a busy one.

`python -m tests.cost` (`make cost`) writes them to tests/cost.json, which test_cost compares with.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import Trace

from pydb import TenantAwareStorage, migrate, token
from tests import servers
from tests.conftest import FAST, new_cluster
from tests.helpers import call, key

FILE = Path(__file__).parent / "cost.json"
# Plans, pages and the write-ahead log differ from one major version to the next, so the figures are one version's.
MAJOR = 18

SETTINGS = {
    **FAST,
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "all",
    "track_functions": "all",
    # Nobody else touches a page.
    "autovacuum": "off",
    "checkpoint_timeout": "1d",
    "max_wal_size": "10GB",
}

MODELS = 20  # of a tenant
VERSIONS = 5  # of a model
BATCH = 100  # models saved at once
GRANTS = 10  # of a tenant that shares
OTHERS = 1000  # tenants that only make the tables so large that an index is of use
WARM = 10  # calls that do not count: the driver prepares a statement after 5, a function settles on plans after 5 more
COUNTED = 20
CONTENT = bytes(2**20)

#: measure -> figure; those of a batch are of one model.
Cost = dict[str, float]


def model(number: int) -> str:
    return f"model-{number:03d}"


def state(name: str, samples: int) -> dict[str, Any]:
    """A model's state, always of the same length: bytes are counted."""
    return {
        "model_name": name,
        "mse": 0.125,
        "training_samples": 100_000 + samples,
        "metrics": {"mae": 0.25, "r2": 0.5},
        "metadata": {"framework": "xgboost", "learning_rate": 0.03},
    }


def states(count: int, samples: int) -> list[dict[str, Any]]:
    return [state(model(number), samples) for number in range(count)]


@dataclass(frozen=True, slots=True)
class Tenants:
    """Tenants by their number. All act over one connection, one call each: a server's calls are of many tenants.

    tokens: one for each owner. grants: of each giver one that can be revoked.
    """

    connection: psycopg.Connection[Any]
    tokens: list[str] = field(default_factory=list)
    grants: list[UUID] = field(default_factory=list)

    def owner(self, number: int) -> TenantAwareStorage:
        """Has MODELS models. Nothing is shared in its organisation."""
        return TenantAwareStorage(self.connection, key(project=f"owner-{number:04d}"))

    def owner_by_token(self, number: int) -> TenantAwareStorage:
        return TenantAwareStorage(self.connection, self.tokens[number])

    def trainer(self, number: int) -> TenantAwareStorage:
        """Has BATCH models."""
        return TenantAwareStorage(self.connection, key(project=f"trainer-{number:04d}"))

    def giver(self, number: int) -> TenantAwareStorage:
        """Has MODELS models and shares the first GRANTS of them with the taker of its number."""
        return TenantAwareStorage(self.connection, key("beta", project=f"giver-{number:04d}"))

    def taker(self, number: int) -> TenantAwareStorage:
        return TenantAwareStorage(self.connection, key("beta", project=f"taker-{number:04d}"))

    def share(self, number: int, shared: int) -> UUID:
        (share,) = self.giver(number).share_model(model(shared), [{"project_id": f"taker-{number:04d}"}])
        return share.share_id


# In this order: the later ones use or change what the earlier ones read.
CALLS: dict[str, Callable[[Tenants, int], object]] = {
    "load one model by key": lambda of, n: of.owner(n).load_ai_progress(model(0)),
    "load one model by token": lambda of, n: of.owner_by_token(n).load_ai_progress(model(0)),
    "load 20 models by key": lambda of, n: of.owner(n).load_ai_progress(),
    "load one model in an organisation that shares": lambda of, n: of.giver(n).load_ai_progress(model(0)),
    "load a shared model": lambda of, n: of.taker(n).load_model(model(0), key("beta", project=f"giver-{n:04d}")),
    "load the history of a model": lambda of, n: of.owner(n).load_history(model(0)),
    "save a model by key": lambda of, n: of.owner(n).save_ai_progress(**state(model(1), 9)),
    "save a model by token": lambda of, n: of.owner_by_token(n).save_ai_progress(**state(model(2), 9)),
    "save a model with an idempotency key": lambda of, n: of.owner(n).save_ai_progress(
        **state(model(3), 9), idempotency_key=f"request-{n:04d}"
    ),
    "save a new model": lambda of, n: of.owner(n).save_ai_progress(**state("newcomer", 9)),
    "save 100 models at once, per model": lambda of, n: of.trainer(n).save_ai_progress_batch(states(BATCH, 9)),
    "share a model": lambda of, n: of.share(n, MODELS - 1),
    "revoke a share": lambda of, n: of.giver(n).revoke_share(of.grants[n]),
    "put an artifact of 1 MiB": lambda of, n: of.owner(n).put_artifact(model(4), "weights", CONTENT),
    "get an artifact of 1 MiB": lambda of, n: of.owner(n).get_artifact(model(4), "weights"),
}


def models_in(name: str) -> int:
    """How many models the figures of a call are divided by."""
    return BATCH if name.endswith("per model") else 1


def fill(admin: psycopg.Connection[Any], connection: psycopg.Connection[Any]) -> Tenants:
    """Make all tenants."""
    tenants = Tenants(connection)
    ((kid, secret),) = call(admin, "create_signing_key", kid="k1", audience="here")
    for number in range(OTHERS):
        TenantAwareStorage(connection, key(f"org-{number:04d}")).save_ai_progress(**state(model(0), 0))
    for number in range(WARM + COUNTED):
        for samples in range(VERSIONS):
            tenants.owner(number).save_ai_progress_batch(states(MODELS, samples))
        # A tenant's first use of an artifact makes its cache key.
        tenants.owner(number).put_artifact(model(0), "first", b"")
        tenants.owner(number).get_artifact(model(0), "first")
        tenants.trainer(number).save_ai_progress_batch(states(BATCH, 0))
        tenants.giver(number).save_ai_progress_batch(states(MODELS, 0))
        tenants.taker(number).save_ai_progress(**state("own", 0))
        tenants.grants.append([tenants.share(number, shared) for shared in range(GRANTS)][-1])
        levels = token.Tenant(*key(project=f"owner-{number:04d}").split(":"))
        tenants.tokens.append(token.mint(levels, kid=kid, secret=secret, audience="here"))

    # Ids are random, and so is which call has to split a full page of an index: leave so much room that none has.
    indexes = admin.execute(
        "select c.oid::regclass::text from pg_class as c join pg_am as a on a.oid = c.relam "
        "where c.relnamespace = 'ai_storage_private'::regnamespace and c.relkind = 'i' and a.amname = 'btree'"
    ).fetchall()
    for (index,) in indexes:
        admin.execute(f"alter index {index} set (fillfactor = 30)")
    admin.execute("reindex schema ai_storage_private")
    # The models of a tenant lie together, in the order of their making.
    admin.execute("vacuum (full) ai_storage_private.ai_progress_tenant")
    admin.execute("vacuum (analyze)")
    return tenants


class Meter:
    """Counts what is done over one connection. admin: another one, whose own statements do not count."""

    def __init__(self, admin: psycopg.Connection[Any], connection: psycopg.Connection[Any]) -> None:
        self._admin = admin
        self._connection = connection
        admin.execute("set pg_stat_statements.track = none")
        admin.execute("set track_functions = none")
        admin.execute("create extension pg_stat_statements")

    def cost(self, run: Callable[[], object]) -> Cost:
        """Of what run does.

        statements, round trips: what the client sends, and how often it waits for an answer. nested statements: what
        functions run, without the expressions that PL/pgSQL evaluates by itself. function calls: of ours, unless
        they are inlined. buffers: accesses to pages, whether they lie in memory or not. WAL: without the commit.
        """
        before = self._function_calls()
        self._admin.execute("select pg_stat_statements_reset()")
        round_trips = self._round_trips(run)
        # What nested statements touch and write is in the figures of the statement that called them, too.
        ((statements, nested, buffers, wal_records, wal_bytes),) = self._admin.execute(
            """
            select
                sum(calls) filter (where toplevel)::bigint,
                coalesce(sum(calls) filter (where not toplevel), 0)::bigint,
                sum(shared_blks_hit + shared_blks_read) filter (where toplevel)::bigint,
                sum(wal_records) filter (where toplevel)::bigint,
                sum(wal_bytes) filter (where toplevel)::bigint
            from pg_stat_statements
            """
        )
        return {
            "statements": statements,
            "round trips": round_trips,
            "nested statements": nested,
            "function calls": self._function_calls() - before,
            "buffers": buffers,
            "WAL records": wal_records,
            "WAL bytes": wal_bytes,
        }

    def _round_trips(self, run: Callable[[], object]) -> int:
        """How often the server answers after the client has sent, by libpq's own trace of their messages."""
        with tempfile.TemporaryFile("w+", errors="replace") as trace:
            self._connection.pgconn.trace(trace.fileno())
            self._connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
            run()
            self._connection.pgconn.untrace()
            trace.seek(0)
            sides = [line[0] for line in trace if line.startswith(("F\t", "B\t"))]  # frontend or backend
        return sum(pair == ("F", "B") for pair in pairwise(sides))

    def _function_calls(self) -> int:
        # A backend reports its counts when it is idle for a while, or when told.
        self._connection.execute("select pg_stat_force_next_flush()")
        ((calls,),) = self._admin.execute("select coalesce(sum(calls), 0)::bigint from pg_stat_user_functions")
        return int(calls)


def measure() -> tuple[str, dict[str, Cost]]:
    """The server's version, and the cost of each of CALLS: the smallest of several, as a page is full now and then."""
    for cluster in new_cluster(servers.bin_dir(MAJOR)):
        with ExitStack() as stack:
            cluster.start(SETTINGS, database="cost")
            dsn = cluster.url("cost")
            migrate.init(dsn, app_login="app", pattern="*:*:*:*:*")
            admin, connection = (
                stack.enter_context(psycopg.connect(make_conninfo(dsn, user=user), autocommit=True))
                for user in ("postgres", "app")
            )
            tenants = fill(admin, connection)
            meter = Meter(admin, connection)
            costs = {}
            for name, run in CALLS.items():
                # Dead rows are removed from a full page by whoever comes next.
                admin.execute("vacuum")
                for number in range(WARM):
                    run(tenants, number)
                counted = [meter.cost(partial(run, tenants, number)) for number in range(WARM, WARM + COUNTED)]
                smallest = {measure: min(cost[measure] for cost in counted) for measure in counted[0]}
                models = models_in(name)
                costs[name] = (
                    smallest if models == 1 else {what: round(each / models, 2) for what, each in smallest.items()}
                )
            return connection.info.parameter_status("server_version"), costs
    raise AssertionError("unreachable")


def main() -> None:
    version, costs = measure()
    # A call to a line, so that a difference between two commits can be read.
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(cost)}" for name, cost in costs.items())
    FILE.write_text(f'{{\n  "PostgreSQL": {json.dumps(version)},\n  "calls": {{\n{lines}\n  }}\n}}\n', "utf-8")
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
