"""The storage classes on real connections and pools: whose transaction, how many round trips, which credential."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from pydb import (
    AsyncTenantAwareStorage,
    InvalidArgument,
    ModelNotFound,
    NoTenant,
    TenantAwareStorage,
    adapters,
    calls,
    session,
    token,
    web,
)
from pydb.storage import open_pool
from tests.conftest import Database
from tests.helpers import call, until
from tests.pgbouncer import pgbouncer

KEY = "acme:mcp-1:shop:production:abc123"
OTHER = "acme:mcp-2:shop:production:abc123"


def test_a_call_in_autocommit_is_one_statement_and_one_round_trip(database: Database) -> None:
    connection = database.connect("app")
    mine = TenantAwareStorage(connection, KEY)
    for _ in range(7):  # psycopg prepares a statement in its sixth use
        mine.save_ai_progress("m", 0.5)
        mine.load_ai_progress()
    with tempfile.TemporaryFile("w+") as trace:
        connection.pgconn.trace(trace.fileno())
        mine.save_ai_progress("m", 0.4)
        mine.load_ai_progress()
        connection.pgconn.untrace()
        trace.seek(0)
        # F: what the client sends. libpq waits for an answer after each Sync.
        sent = [line.split("\t")[3] for line in trace.read().splitlines() if line.split("\t")[1] == "F"]
    assert sent == ["Bind", "Describe", "Execute", "Sync"] * 2


def test_a_call_joins_the_callers_transaction(database: Database) -> None:
    connection = database.connect("app")
    mine = TenantAwareStorage(connection, KEY)
    with connection.transaction(force_rollback=True):
        mine.save_ai_progress("m", 0.5)
        assert len(mine.load_ai_progress()) == 1
    assert mine.load_ai_progress() == []


def test_a_storage_without_a_credential_acts_for_the_tenant_of_the_transaction(database: Database) -> None:
    connection = database.connect("app")
    mine = TenantAwareStorage(connection)
    with pytest.raises(NoTenant):
        mine.load_ai_progress()
    with connection.transaction():
        session.run(connection, calls.set_tenant(KEY))
        mine.save_ai_progress("m", 0.5)
    with pytest.raises(NoTenant):
        mine.load_ai_progress()
    assert [row.owner_key for row in database.storage(KEY).load_ai_progress()] == [KEY]


def test_a_credential_may_be_made_for_each_call(database: Database) -> None:
    keys = iter([KEY, KEY.replace("acme", "beta")])
    mine = TenantAwareStorage(database.connect("app"), lambda: next(keys))
    mine.save_ai_progress("m", 0.5)
    assert mine.load_ai_progress() == []


def test_a_pool_of_the_caller_stays_open(database: Database) -> None:
    with ConnectionPool(database.dsn("app"), min_size=1, max_size=2, open=True) as pool:
        with TenantAwareStorage(pool, KEY) as mine:
            assert mine.save_ai_progress("m", 0.5).created
        with pool.connection() as connection:
            assert connection.execute("select current_setting('app.tenant_context', true)").fetchone() in [
                ("",),
                (None,),
            ]
        assert [row.model_name for row in TenantAwareStorage(pool, KEY).load_ai_progress()] == ["m"]


def test_a_storage_from_a_dsn_closes_its_pool(database: Database) -> None:
    with TenantAwareStorage.from_dsn(database.dsn("app"), KEY) as mine:
        mine.save_ai_progress("m", 0.5, metrics={"accuracy": 0.75}, metadata={"note": "ü"}, training_samples=10)
        row = mine.load_ai_progress("m")[0]
    assert (row.metrics, row.metadata, row.training_samples) == ({"accuracy": 0.75}, {"note": "ü"}, 10)
    assert row.created_at.tzinfo is not None
    with pytest.raises(psycopg.Error):
        mine.load_ai_progress()


def test_an_unreachable_server_is_named_at_once(database: Database) -> None:
    nowhere = database.dsn("nobody_here")
    with pytest.raises(psycopg.OperationalError, match="nobody_here"):
        TenantAwareStorage.from_dsn(nowhere, KEY)
    with pytest.raises(psycopg.OperationalError, match="nobody_here"):
        asyncio.run(AsyncTenantAwareStorage.from_dsn(nowhere, KEY))


def test_the_asynchronous_storage_does_the_same(database: Database) -> None:
    async def scenario() -> None:
        async with AsyncConnectionPool(
            database.dsn("app"), min_size=1, max_size=2, kwargs={"autocommit": True}, open=False
        ) as pool:
            mine = AsyncTenantAwareStorage(pool, KEY)
            assert (await mine.save_ai_progress("m", 0.5)).version == 1
            assert [
                saved.version for saved in await mine.save_ai_progress_batch([{"model_name": "m", "mse": 0.4}])
            ] == [2]
            assert [version.mse for version in await mine.load_history("m")] == [0.4, 0.5]
        async with await AsyncTenantAwareStorage.from_dsn(
            database.dsn("app"), KEY.replace("abc123", "def456")
        ) as next_:
            assert [row.model_name for row in await next_.promote("abc123")] == ["m"]
            assert await next_.delete("m")
        async with await psycopg.AsyncConnection.connect(database.dsn("app"), autocommit=True) as connection:
            assert [row.version for row in await AsyncTenantAwareStorage(connection, KEY).load_ai_progress()] == [2]

    asyncio.run(scenario())


def test_all_models_come_in_one_call_and_pages_when_asked(database: Database) -> None:
    mine = database.storage(KEY)
    mine.save_ai_progress_batch({"model_name": f"m{index:04}", "mse": 0.5} for index in range(1500))
    assert len(mine.load_ai_progress()) == 1500
    page = mine.load_ai_progress(limit=1000)
    rest = mine.load_ai_progress(limit=1000, after=page[-1].cursor)
    assert [row.model_name for row in page + rest] == [f"m{index:04}" for index in range(1500)]


# On connections of somebody else --------------------------------------------------------------------------------------

Given = Iterator[psycopg.Connection[Any]]


def django_connection(database: Database) -> Given:
    from django.conf import settings
    from django.db import transaction
    from django.db.utils import ConnectionHandler

    parts = conninfo_to_dict(database.dsn("app"))
    place = {"NAME": parts["dbname"], "USER": parts["user"], "HOST": parts["host"], "PORT": parts["port"]}
    if not settings.configured:  # once in a process
        settings.configure()
    wrapper = ConnectionHandler({"default": {"ENGINE": "django.db.backends.postgresql", **place}})["default"]
    wrapper.ensure_connection()
    try:
        # In the ORM's own transaction, which is what the connection was asked for.
        wrapper.set_autocommit(False)
        yield wrapper.connection
        wrapper.rollback()
    finally:
        wrapper.close()
    assert transaction


def sqlalchemy_connection(database: Database) -> Given:
    from sqlalchemy import create_engine

    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(database.dsn("app")),
        json_deserializer=lambda text: ("custom", text),
    )
    with engine.connect() as connection:
        yield connection.connection.driver_connection
    engine.dispose()


def with_settings(*settings: str) -> Callable[[Database], Given]:
    def given(database: Database) -> Given:
        connection = database.connect("app")
        for setting in settings:
            connection.execute(setting)
        yield connection

    return given


def binding_on_the_client(database: Database) -> Given:
    yield database.connect("app", cursor_factory=psycopg.ClientCursor)


def raw_queries(database: Database) -> Given:
    yield database.connect("app", cursor_factory=psycopg.RawCursor)


def loaders_of_the_connections_own(database: Database) -> Given:
    connection = database.connect("app")
    set_json_loads(lambda text: ("custom", text), connection)
    for name in ("timestamptz", "text", "float8", "uuid"):
        connection.adapters.register_loader(name, psycopg.types.string.ByteaBinaryLoader)
    yield connection


def loaders_of_the_processs_own(database: Database) -> Given:
    set_json_loads(lambda text: ("custom", text))
    try:
        yield database.connect("app")
    finally:
        set_json_loads(json.loads)


GIVEN = {
    "plain": with_settings(),
    "django": django_connection,
    "sqlalchemy": sqlalchemy_connection,
    "binding on the client": binding_on_the_client,
    "raw queries": raw_queries,
    "loaders of the connection's": loaders_of_the_connections_own,
    "loaders of the process's": loaders_of_the_processs_own,
    "German dates": with_settings("set datestyle = German", "set intervalstyle = sql_standard"),
    "far away": with_settings("set timezone = 'Asia/Kathmandu'", "set datestyle = 'SQL, DMY'"),
    "LATIN1": with_settings("set client_encoding = LATIN1"),
    "SQL_ASCII": with_settings("set client_encoding = SQL_ASCII"),
    "other formats": with_settings("set bytea_output = escape", "set extra_float_digits = -15"),
}

# Those of PL/pgSQL are not there before its first function.
SETTINGS = "select name, setting from pg_settings where name <> 'in_hot_standby' and name !~ '^plpgsql' order by name"


@pytest.mark.parametrize("credential", ["key", "token"])
@pytest.mark.parametrize("given", GIVEN)
def test_a_given_connection_gives_the_same_values_and_is_left_as_it_was(
    database: Database, given: str, credential: str
) -> None:
    admin = database.connect()
    ((kid, secret),) = call(admin, "create_signing_key", audience="here")
    presented = KEY
    if credential == "token":
        presented = token.mint(token.Tenant(*KEY.split(":")), kid=kid, secret=secret, audience="here")
    ends = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    metadata = {"layers": [1, 2], "é 😀": 0.1 + 0.2}
    with contextmanager(GIVEN[given])(database) as connection:
        before = psycopg.Cursor(connection).execute(SETTINGS).fetchall()
        connection.commit()
        with connection.transaction(force_rollback=True):
            mine = TenantAwareStorage(connection, presented)
            for number in range(1, 8):
                saved = mine.save_ai_progress("m 😀", 0.1 + 0.2, metrics={"a": 1 / 3}, metadata=metadata)
                assert (saved.model_name, saved.version) == ("m 😀", number)
            (model,) = mine.load_ai_progress()
            assert (model.mse, model.metrics, model.metadata) == (0.1 + 0.2, {"a": 1 / 3}, metadata)
            assert (model.owner_key, model.permissions[0]) == (KEY, "read")
            assert abs(model.updated_at - datetime.now(UTC)) < timedelta(minutes=1)
            assert mine.load_history("m 😀", limit=1)[0].metadata == metadata
            mine.share_model("m 😀", [{"code_hash": "z"}], expires_at=ends)
            assert mine.list_shares()[0].expires_at == ends
            assert {event.action for event in mine.audit_trail() if isinstance(event.detail, dict)} >= {"save model"}
            mine.put_artifact("m 😀", "w", b"\0\xff'\\" * 700_000)
            assert mine.get_artifact("m 😀", "w") == b"\0\xff'\\" * 700_000
            exported = mine.export_tenant()[1]
            assert datetime.fromisoformat(exported["saved_at"]) == mine.load_history("m 😀")[-1].saved_at
        connection.commit()
        assert psycopg.Cursor(connection).execute(SETTINGS).fetchall() == before
        prepared = psycopg.Cursor(connection).execute("select statement from pg_prepared_statements").fetchall()
        assert not prepared if credential == "token" else not [one for (one,) in prepared if "set_config" in one]


def test_durations_do_not_depend_on_how_a_session_prints_them(database: Database) -> None:
    kept = timedelta(days=400, hours=5, microseconds=1)
    for style in ("iso_8601", "sql_standard", "postgres_verbose"):
        admin = database.connect()
        admin.execute(f"set intervalstyle = {style}")
        session.run(admin, calls.set_retention("*:*:*:*:*", keep_versions_for=kept))
        assert [rule.keep_versions_for for rule in session.run(admin, calls.list_retention())] == [kept]


def test_every_type_of_an_answer_has_a_loader_of_pydbs_own(database: Database) -> None:
    types = database.connect().execute(
        "select distinct t.oid, t.typname from pg_proc as p "
        "cross join lateral unnest(coalesce(p.proallargtypes, '{}') || p.prorettype) as a (oid) "
        "join pg_type as t on t.oid = a.oid "
        "where p.pronamespace = 'ai_storage'::regnamespace and t.typname not in ('record', 'void')"
    )
    for oid, name in types.fetchall():
        assert adapters.ADAPTERS.get_loader(oid, psycopg.pq.Format.BINARY), name


def test_the_asynchronous_engine_of_sqlalchemy_lends_its_connection(database: Database) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    async def scenario() -> None:
        async def connect() -> psycopg.AsyncConnection[Any]:
            return await psycopg.AsyncConnection.connect(database.dsn("app"))

        engine = create_async_engine("postgresql+psycopg://", async_creator=connect)
        async with engine.connect() as borrowed:
            connection = (await borrowed.get_raw_connection()).driver_connection
            mine = AsyncTenantAwareStorage(connection, KEY)
            assert (await mine.save_ai_progress("m", 1, metadata={"a": [1]})).version == 1
            await borrowed.commit()
            assert (await mine.load_ai_progress())[0].metadata == {"a": [1]}
            with pytest.raises(TypeError, match="driver_connection"):
                AsyncTenantAwareStorage(await borrowed.get_raw_connection(), KEY)
        await engine.dispose()

    asyncio.run(scenario())
    with pytest.raises(TypeError, match="psycopg's Connection"):
        TenantAwareStorage(database.dsn("app"), KEY)


# In another process, and after a rest ---------------------------------------------------------------------------------


def in_a_fork(work: Callable[[], object]) -> str:
    """What work returns in a forked process, or the name of its error."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        try:
            sender.send(str(work()))
        except Exception as error:  # noqa: BLE001  # whichever it is, the parent is told
            sender.send(type(error).__name__)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    assert receiver.poll(60)
    answer = receiver.recv()
    process.join(60)
    assert process.exitcode == 0
    return answer


def test_after_a_fork_the_callers_connection_and_pool_are_refused(database: Database) -> None:
    connection = database.connect("app")
    with ConnectionPool(database.dsn("app"), min_size=1, kwargs={"autocommit": True}, open=True) as pool:
        for source in (connection, pool):
            mine = TenantAwareStorage(source, KEY)
            mine.save_ai_progress("m", 1)
            assert in_a_fork(mine.load_ai_progress) == "InterfaceError"
            # A storage made in the child has the same source.
            assert (
                in_a_fork(lambda source=source: TenantAwareStorage(source, KEY).load_ai_progress()) == "InterfaceError"
            )
            assert len(mine.load_ai_progress()) == 1


def test_after_a_fork_the_pool_of_a_middleware_is_refused(database: Database) -> None:
    # As a server does it that loads the application before it forks its workers.
    with ConnectionPool(database.dsn("app"), min_size=1, kwargs={"autocommit": True}, open=True) as pool:
        web.WSGITenantMiddleware(lambda environ, start: [b""], pool=pool)
        assert in_a_fork(lambda: TenantAwareStorage(pool, KEY).load_ai_progress()) == "InterfaceError"


def test_after_a_fork_a_storage_from_a_dsn_opens_a_pool_of_its_own(database: Database) -> None:
    with TenantAwareStorage.from_dsn(database.dsn("app"), KEY) as mine:
        backend = calls.Call("select pg_catalog.pg_backend_pid()", (), lambda rows: rows[0][0], tenant=False)
        mine.save_ai_progress("m", 1)
        pids = {in_a_fork(lambda: (len(mine.load_ai_progress()), mine.run(backend), mine.close())[1]) for _ in range(2)}
        assert len(pids | {str(mine.run(backend))}) == 3
        assert mine.save_ai_progress("m", 2).version == 2  # the child closed its own alone


def test_after_a_fork_the_asynchronous_storage_does_the_same(database: Database) -> None:
    async def scenario(mine: AsyncTenantAwareStorage) -> int:
        return len(await mine.load_ai_progress())

    async def parent() -> None:
        owned = await AsyncTenantAwareStorage.from_dsn(database.dsn("app"), KEY)
        given = AsyncTenantAwareStorage(
            await psycopg.AsyncConnection.connect(database.dsn("app"), autocommit=True), KEY
        )
        await given.save_ai_progress("m", 1)
        assert in_a_fork(lambda: _in_a_thread(scenario(owned))) == "1"
        assert in_a_fork(lambda: _in_a_thread(scenario(given))) == "InterfaceError"
        assert await scenario(owned) == await scenario(given) == 1
        await owned.close()

    asyncio.run(parent())


def _in_a_thread(work: Any) -> Any:
    # A forked process seems to be in its parent's event loop.
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, work).result()


def test_a_session_that_the_server_ended_while_it_rested_is_not_used(database: Database) -> None:
    admin = database.connect()
    end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'app'"
    with TenantAwareStorage.from_dsn(database.dsn("app"), KEY, max_size=3) as mine:
        pool = mine._owned
        pool.resize(3, 3)
        until(lambda: pool.get_stats()["pool_available"] == 3, "three connections")
        for version in range(1, 4):
            admin.execute(end)
            assert mine.save_ai_progress("m", 1).version == version

    async def scenario() -> None:
        async with await AsyncTenantAwareStorage.from_dsn(database.dsn("app"), KEY) as mine:
            for version in range(4, 7):
                await mine.load_ai_progress()
                admin.execute(end)
                assert (await mine.save_ai_progress("m", 1)).version == version

    asyncio.run(scenario())


def test_an_event_loop_that_ends_early_does_not_hang(database: Database) -> None:
    code = (
        "import asyncio, sys\nfrom pydb import AsyncTenantAwareStorage\n"
        "async def make(): return await AsyncTenantAwareStorage.from_dsn(sys.argv[1], sys.argv[2])\n"
        "storage = asyncio.run(make())"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code, database.dsn("app"), KEY], check=True, timeout=60)
    assert time.monotonic() - began < 20


# Through a pooler that resets nothing ---------------------------------------------------------------------------------


def test_a_pooled_session_is_left_as_it_was(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    state = (
        f"select array(select (s.name, s.setting)::text from ({SETTINGS}) as s where s.name <> 'client_encoding'), "
        "array(select statement from pg_prepared_statements), pg_backend_pid()"
    )
    with pgbouncer(database.server.host, database.server.port, ["app", "postgres"], "transaction", pool_size=1) as dsn:
        bounced = dsn("app", database.name)

        def look() -> Any:
            with psycopg.connect(
                bounced, client_encoding="UTF8", prepare_threshold=None, autocommit=True
            ) as connection:
                return connection.execute(state).fetchone()

        before = look()
        with TenantAwareStorage.from_dsn(bounced, KEY, max_size=2) as mine:
            for _ in range(12):
                mine.save_ai_progress("m 😀", 1)
                mine.load_ai_progress()
            mine.put_artifact("m 😀", "w", b"x" * 3_000_000)
        with open_pool(bounced) as pool, pool.connection() as connection:
            assert not adapters.needs_guard(
                connection, calls.load_progress(), KEY
            )  # PgBouncer tells the encoding as asked for
        assert look() == before
        done = subprocess.run(
            [sys.executable, "-m", "pydb.cli", "load", "--as", KEY, "--dsn", bounced], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert look() == before
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        with TenantAwareStorage.from_dsn(bounced, KEY, client_encoding="SQL_ASCII") as mine:
            assert [model.model_name for model in mine.load_ai_progress()] == ["m 😀"]
        # PgBouncer 1.18 sends a SET before the calls of a client with another encoding, and sometimes closes the
        # server's connection after them.
        *before, _ = before
        assert list(look()[:2]) == before

        async def scenario() -> None:
            async with await AsyncTenantAwareStorage.from_dsn(bounced, KEY) as mine:
                for _ in range(7):
                    await mine.load_ai_progress()

        asyncio.run(scenario())
        assert list(look()[:2]) == before


def test_one_model_is_loaded_by_name_or_not_found(database: Database) -> None:
    mine, theirs = database.storage(KEY), database.storage(OTHER)
    theirs.save_ai_progress("m", 0.5, metadata={"epoch": 7})
    theirs.share_model("m", [{"server_id": "mcp-1"}])
    with pytest.raises(ModelNotFound):
        mine.load_model("m")
    with pytest.raises(ModelNotFound):
        mine.load_model("n", OTHER)
    assert (mine.load_model("m", OTHER).owner_key, mine.load_model("m", owner=OTHER).metadata) == (OTHER, {"epoch": 7})
    # a list tells less
    (listed,) = mine.load_ai_progress()
    assert (listed.owner_key, listed.metrics, listed.metadata) == (OTHER, {}, {})
    mine.save_ai_progress("m", 0.9, metadata={"epoch": 1})
    assert (mine.load_model("m").owner_key, mine.load_model("m").metadata) == (KEY, {"epoch": 1})
    assert mine.decline_share(mine.list_received_shares()[0].share_id) is True
    with pytest.raises(ModelNotFound):
        mine.load_model("m", OTHER)


def test_a_time_without_a_zone_is_refused_before_it_is_sent(database: Database) -> None:
    mine = database.storage(KEY)
    mine.save_ai_progress("m", 0.5)
    for naive in (datetime(2100, 1, 1), "2100-01-01", date(2100, 1, 1)):
        for use in (
            lambda naive=naive: mine.share_model("m", [{"code_hash": "x"}], expires_at=naive),
            lambda naive=naive: mine.audit_trail(since=naive),
            lambda naive=naive: mine.audit_trail(until=naive),
        ):
            with pytest.raises(InvalidArgument, match=r"invalid (expires_at|since|until)"):
                use()
    assert mine.list_shares() == []
    zone = timezone(timedelta(hours=5))
    mine.share_model("m", [{"code_hash": "x"}], expires_at=datetime(2100, 1, 1, 5, tzinfo=zone))
    assert mine.list_shares()[0].expires_at == datetime(2100, 1, 1, tzinfo=UTC)
