"""What is compared: ways to save and load the progress of models, their tables, and the models in them."""

from __future__ import annotations

import hashlib
import json
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, Literal, LiteralString, Self

import psycopg
from psycopg.types.json import Jsonb

from pydb import TenantAwareStorage, calls
from pydb.token import Tenant, mint

TENANTS = 200
MODELS = 20
TOKEN_SECONDS = 900

Payload = Literal["plain", "rich"]
Operation = Literal["load", "load_one", "save"]
Rows = Iterable[tuple[str, list["State"]]]

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


def state(chance: random.Random, name: str, payload: Payload = "rich") -> State:
    """A model state. plain: about 45 bytes of metadata. rich: about 150, and three metrics."""
    mse = round(chance.uniform(0.001, 0.5), 6)
    # One range of integers, so that psycopg sends one type and prepares one statement.
    samples = chance.randrange(40_000, 2_000_000)
    metadata: dict[str, Any] = {"framework": "xgboost", "learning_rate": round(chance.random(), 4)}
    if payload == "plain":
        return State(name, mse, samples, {}, metadata)
    metrics = {measure: round(chance.random(), 4) for measure in ("mae", "r2", "loss")}
    metadata |= {
        "features": ["price", "region", "season"],
        "commit": f"{chance.getrandbits(40):010x}",
        "note": "nightly retraining, shard 7",
    }
    return State(name, mse, samples, metrics, metadata)


def batches(tenants: int, rounds: int, payload: Payload = "rich") -> Iterator[tuple[str, list[State]]]:
    """All models of all tenants, some models of each tenant per round, the tenants shuffled: as tables grow in life."""
    chance = random.Random(7)
    per_round = MODELS // rounds
    order = list(range(tenants))
    for first in range(0, MODELS, per_round):
        chance.shuffle(order)
        for tenant in order:
            yield isolation_key(tenant), [state(chance, model_name(first + n), payload) for n in range(per_round)]


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


# Tables ----------------------------------------------------------------------------------------------------------

FLOOR: LiteralString = """
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
    grant usage on schema floor to bench_app;
    grant select, insert, update on floor.progress to bench_app;
"""

PATTERN: LiteralString = """
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
    grant usage on schema pattern to bench_app;
    grant select, insert, update on pattern.ai_progress_tenant to bench_app;
    grant usage on sequence pattern.ai_progress_tenant_id_seq to bench_app;
"""

# The least that is usual: one index to read a model's history by; the audit table has its key alone.
TRAIL: LiteralString = """
    create table audited.ai_progress_history (
        id               bigserial primary key,
        progress_id      integer not null,
        isolation_key    varchar(255) not null,
        model_name       varchar(255) not null,
        mse              float not null,
        training_samples integer,
        metadata         jsonb,
        recorded_at      timestamp default current_timestamp
    );
    create index on audited.ai_progress_history (isolation_key, model_name, recorded_at);
    alter table audited.ai_progress_history enable row level security;
    create policy tenant_isolation on audited.ai_progress_history
        using (isolation_key = current_setting('app.current_tenant'));
    grant select, insert on audited.ai_progress_history to bench_app;
    grant usage on sequence audited.ai_progress_history_id_seq to bench_app;

    create table audited.audit_log (
        id         bigserial primary key,
        table_name text not null,
        operation  text not null,
        old_row    jsonb,
        new_row    jsonb,
        changed_by text not null default session_user,
        changed_at timestamptz not null default clock_timestamp()
    );
    alter table audited.audit_log enable row level security;
    create policy tenant_isolation on audited.audit_log for select
        using (coalesce(new_row, old_row) ->> 'isolation_key' = current_setting('app.current_tenant'));
    grant select on audited.audit_log to bench_app;

    create function audited.keep_history() returns trigger language plpgsql as $fn$
    begin
        insert into audited.ai_progress_history
            (progress_id, isolation_key, model_name, mse, training_samples, metadata)
        values (new.id, new.isolation_key, new.model_name, new.mse, new.training_samples, new.metadata);
        return null;
    end;
    $fn$;
    create trigger keep_history after insert or update on audited.ai_progress_tenant
        for each row execute function audited.keep_history();

    create function audited.write_audit_log() returns trigger language plpgsql
        security definer set search_path = pg_catalog, pg_temp as $fn$
    begin
        insert into audited.audit_log (table_name, operation, old_row, new_row)
        values (
            tg_table_name, tg_op,
            case when tg_op <> 'INSERT' then to_jsonb(old) end,
            case when tg_op <> 'DELETE' then to_jsonb(new) end
        );
        return null;
    end;
    $fn$;
    create trigger write_audit_log after insert or update or delete on audited.ai_progress_tenant
        for each row execute function audited.write_audit_log();
"""

TABLES: LiteralString = FLOOR + PATTERN + PATTERN.replace("pattern", "audited") + TRAIL

# Contenders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where contenders find what is theirs.

    dsn: of the database, as the application's login. key: kid, secret and audience of tokens. others: contender ->
    DSN or address of what is not in that database.
    """

    dsn: str
    key: tuple[str, str, str] = ("", "", "")
    others: dict[str, str] = field(default_factory=dict)


class Contender(ABC):
    """One way to save and load, on one connection. Its methods do all the work that a caller would wait for."""

    name: ClassVar[str]
    about: ClassVar[str]
    operations: ClassVar[tuple[Operation, ...]] = ("load", "load_one", "save")
    #: psycopg prepares a statement at its sixth use, and PL/pgSQL keeps a plan from the sixth on.
    warm_calls: ClassVar[int] = 12
    #: Gets fewer calls where their number is counted.
    slow: ClassVar[bool] = False
    #: Is measured with one client only.
    alone: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def open(cls, place: Place, stack: ExitStack) -> Self:
        """Connect, and close with the stack."""

    @abstractmethod
    def save(self, key: str, state: State) -> None:
        """Save a state of an existing model."""

    @abstractmethod
    def load(self, key: str) -> list[Any]:
        """Load all models of a tenant."""

    @abstractmethod
    def load_one(self, key: str, name: str) -> list[Any]:
        """Load one model."""

    @abstractmethod
    def values(self, rows: list[Any]) -> dict[str, float]:
        """Model name -> mse of loaded rows, to compare contenders by."""

    @abstractmethod
    def backends(self) -> list[int]:
        """The server's processes that work for it."""


class Direct(Contender):
    """A contender that is nothing but a psycopg connection in autocommit."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection

    @classmethod
    def open(cls, place: Place, stack: ExitStack) -> Self:
        connection = psycopg.connect(place.dsn, autocommit=True, application_name=cls.name)
        return cls(stack.enter_context(connection))

    def backends(self) -> list[int]:
        return [self.connection.info.backend_pid]


class Floor(Direct):
    name = "floor"
    about = "bare table, explicit WHERE, one prepared statement: no tenant check, no history, no audit"

    LOAD: LiteralString = (
        "select model_name, version, mse, training_samples, metrics, metadata, created_at, updated_at "
        "from floor.progress where isolation_key = %s order by model_name"
    )
    LOAD_ONE: LiteralString = (
        "select model_name, version, mse, training_samples, metrics, metadata, created_at, updated_at "
        "from floor.progress where isolation_key = %s and model_name = %s"
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

    def load_one(self, key: str, name: str) -> list[Any]:
        return self.connection.execute(self.LOAD_ONE, (key, name)).fetchall()

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {row[0]: row[2] for row in rows}


class Pattern(Direct):
    name = "pattern"
    about = "row level security on a setting: BEGIN, set_config, statement, COMMIT, one after the other"

    SET: LiteralString = "select set_config('app.current_tenant', %s, true)"
    LOAD: LiteralString = (
        "select id, model_name, isolation_key, tenant_context, access_permissions, mse, training_samples, metadata, "
        "created_at from pattern.ai_progress_tenant order by model_name"
    )
    LOAD_ONE: LiteralString = (
        "select id, model_name, isolation_key, tenant_context, access_permissions, mse, training_samples, metadata, "
        "created_at from pattern.ai_progress_tenant where model_name = %s"
    )
    SAVE: LiteralString = (
        "insert into pattern.ai_progress_tenant (model_name, isolation_key, tenant_context, access_permissions, mse, "
        "training_samples, metadata) values (%s, %s, %s, '{read,execute,write,share}', %s, %s, %s) "
        "on conflict (isolation_key, model_name) do update set mse = excluded.mse, "
        "training_samples = excluded.training_samples, metadata = excluded.metadata returning id"
    )

    @staticmethod
    def row(key: str, state: State) -> tuple[Any, ...]:
        # The table has no column for metrics; such designs keep them in the metadata.
        metadata = {**state.metadata, "metrics": state.metrics} if state.metrics else state.metadata
        return (
            state.model_name,
            key,
            compact(tenant_context(key)),
            state.mse,
            state.training_samples,
            compact(metadata),
        )

    def run(self, key: str, query: LiteralString, parameters: tuple[Any, ...]) -> list[Any]:
        with self.connection.transaction():
            self.connection.execute(self.SET, (key,))
            return self.connection.execute(query, parameters).fetchall()

    def save(self, key: str, state: State) -> None:
        self.run(key, self.SAVE, self.row(key, state))

    def load(self, key: str) -> list[Any]:
        return self.run(key, self.LOAD, ())

    def load_one(self, key: str, name: str) -> list[Any]:
        return self.run(key, self.LOAD_ONE, (name,))

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {row[1]: row[5] for row in rows}


class PatternPipelined(Pattern):
    name = "pattern, pipelined"
    about = "the same four statements in psycopg's pipeline mode: one round trip"

    # BEGIN and COMMIT by hand: connection.transaction() would add a synchronisation of its own to the pipeline.
    def run(self, key: str, query: LiteralString, parameters: tuple[Any, ...]) -> list[Any]:
        with self.connection.pipeline():
            self.connection.execute("begin")
            self.connection.execute(self.SET, (key,))
            cursor = self.connection.execute(query, parameters)
            self.connection.execute("commit")
        return cursor.fetchall()


class Audited(Pattern):
    name = "audited"
    about = "the pattern with two triggers: old and new row as jsonb into an audit table, each version into a history"

    LOAD = Pattern.LOAD.replace("pattern.", "audited.")
    LOAD_ONE = Pattern.LOAD_ONE.replace("pattern.", "audited.")
    SAVE = Pattern.SAVE.replace("pattern.", "audited.")


class AuditedPipelined(PatternPipelined):
    name = "audited, pipelined"
    about = "the same in psycopg's pipeline mode"

    LOAD = Audited.LOAD
    LOAD_ONE = Audited.LOAD_ONE
    SAVE = Audited.SAVE


class Ours(Direct):
    name = "ours"
    about = "pydb by isolation key, in autocommit: each call checks the login, each save keeps a version and an event"

    def credential(self, key: str) -> str:
        return key

    def save(self, key: str, state: State) -> None:
        TenantAwareStorage(self.connection, self.credential(key)).save_ai_progress(
            state.model_name,
            state.mse,
            training_samples=state.training_samples,
            metrics=state.metrics,
            metadata=state.metadata,
        )

    def load(self, key: str) -> list[Any]:
        return TenantAwareStorage(self.connection, self.credential(key)).load_ai_progress()

    def load_one(self, key: str, name: str) -> list[Any]:
        return TenantAwareStorage(self.connection, self.credential(key)).load_ai_progress(name)

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {row.model_name: row.mse for row in rows}


class OursToken(Ours):
    name = "ours, token"
    about = "pydb by signed token: the same, and the database verifies a signature in every call"

    def __init__(self, connection: psycopg.Connection[Any], key: tuple[str, str, str]) -> None:
        super().__init__(connection)
        self.kid, self.secret, self.audience = key
        self.tokens: dict[str, tuple[float, str]] = {}

    @classmethod
    def open(cls, place: Place, stack: ExitStack) -> Self:
        connection = psycopg.connect(place.dsn, autocommit=True, application_name=cls.name)
        return cls(stack.enter_context(connection), place.key)

    def credential(self, key: str) -> str:
        # As a server does: one token per tenant, used until it is nearly over.
        until, token = self.tokens.get(key, (0.0, ""))
        if until < time.monotonic():
            token = mint(
                Tenant(*key.split(":")),
                kid=self.kid,
                secret=self.secret,
                audience=self.audience,
                ttl=timedelta(seconds=TOKEN_SECONDS),
            )
            self.tokens[key] = (time.monotonic() + TOKEN_SECONDS - 60, token)
        return token


class OursBare(Direct):
    name = "ours, without pydb"
    about = "the SELECTs that pydb sends, on bare psycopg: the distance to ours is what pydb itself costs"

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
                "{}",
                key,
            ),
        ).fetchall()

    def load(self, key: str) -> list[Any]:
        return self.connection.execute(self.LOAD, (None, "all", None, None, None, key)).fetchall()

    def load_one(self, key: str, name: str) -> list[Any]:
        return self.connection.execute(self.LOAD, (name, "own", None, None, None, key)).fetchall()

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {row[0]: row[4] for row in rows}


CONTENDERS: tuple[type[Contender], ...] = (
    Floor,
    Pattern,
    PatternPipelined,
    Audited,
    AuditedPipelined,
    Ours,
    OursToken,
    OursBare,
)

# Filling ---------------------------------------------------------------------------------------------------------


def fill_floor(connection: psycopg.Connection[Any], rows: Rows) -> None:
    with connection.cursor().copy(
        "copy floor.progress (isolation_key, model_name, mse, training_samples, metrics, metadata) from stdin"
    ) as copy:
        for key, states in rows:
            for one in states:
                copy.write_row(
                    (key, one.model_name, one.mse, one.training_samples, Jsonb(one.metrics), Jsonb(one.metadata))
                )


def fill_pattern(connection: psycopg.Connection[Any], rows: Rows, schema: LiteralString = "pattern") -> None:
    with connection.cursor().copy(
        f"copy {schema}.ai_progress_tenant (model_name, isolation_key, tenant_context, access_permissions, mse, "
        "training_samples, metadata) from stdin"
    ) as copy:
        for key, states in rows:
            for one in states:
                name, _, context, mse, samples, metadata = Pattern.row(key, one)
                copy.write_row((name, key, context, ["read", "execute", "write", "share"], mse, samples, metadata))


def fill_audited(connection: psycopg.Connection[Any], rows: Rows) -> None:
    fill_pattern(connection, rows, "audited")


def fill_ours(connection: psycopg.Connection[Any], rows: Rows) -> None:
    # Through the front door, so that the rows lie as they do in life.
    connection.execute("set synchronous_commit = off")
    for key, states in rows:
        TenantAwareStorage(connection, key).save_ai_progress_batch(asdict(one) for one in states)
    connection.execute("reset synchronous_commit")


#: What fills the tables of the contenders, as superuser.
FILLS: tuple[Callable[[psycopg.Connection[Any], Rows], None], ...] = (fill_floor, fill_pattern, fill_audited)
