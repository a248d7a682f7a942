"""The storage classes on real connections and pools: whose transaction, how many round trips, which credential."""

from __future__ import annotations

import asyncio
import tempfile

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from pydb import AsyncTenantAwareStorage, NoTenant, TenantAwareStorage, calls, session
from tests.conftest import Database

KEY = "acme:mcp-1:shop:production:abc123"


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
