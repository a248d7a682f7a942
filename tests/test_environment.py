"""Storages that the environment describes, on a real server."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from pydb import (
    AsyncTenantAwareStorage,
    LoginTooPowerful,
    MalformedCredential,
    NotAuthorized,
    NoTenant,
    TenantAwareStorage,
    TokenExpired,
    environment,
    token,
)
from tests.conftest import Database
from tests.helpers import call, until
from tests.redis_server import RedisServer
from tests.webserver import minter

KEY = "acme:mcp-1:shop:production:abc123"
VARIABLES = {
    "AI_STORAGE_ORG_ID": "acme",
    "AI_STORAGE_SERVER_ID": "mcp-1",
    "AI_STORAGE_PROJECT_ID": "shop",
    "AI_STORAGE_ENVIRONMENT": "production",
    "AI_STORAGE_CODE_HASH": "abc123",
}


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose environment names a tenant, and a database that nobody can reach."""
    for name, value in {**VARIABLES, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AI_STORAGE_TYPE", "AI_STORAGE_TOKEN", "AI_STORAGE_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def deployed(described: None, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The same with a database."""
    monkeypatch.setenv("DATABASE_URL", database.dsn("acme_app"))
    yield database
    environment.close_shared_pool()


def awaited(storage: Any) -> str:
    """Save a model with an asynchronous storage and return whose it is."""

    async def scenario() -> str:
        async with await storage as mine:
            await mine.save_ai_progress("m", 0.5)
            return (await mine.load_ai_progress())[0].owner_key

    return asyncio.run(scenario())


def test_the_environment_names_the_tenant(deployed: Database) -> None:
    with TenantAwareStorage.from_env() as mine:
        mine.save_ai_progress("m", 0.5)
        assert mine.load_ai_progress()[0].owner_key == KEY
    with TenantAwareStorage.from_mcp_server("mcp-2", "toys", "v9", "database", max_size=1) as mine:
        mine.save_ai_progress("m", 0.5)
        assert mine.load_ai_progress()[0].owner_key == "acme:mcp-2:toys:production:v9"


def test_the_asynchronous_storages_do_the_same(deployed: Database) -> None:
    assert awaited(AsyncTenantAwareStorage.from_env()) == KEY
    mine = AsyncTenantAwareStorage.from_mcp_server("mcp-2", "toys", "v9")
    assert awaited(mine) == "acme:mcp-2:toys:production:v9"


# Tokens


Signed = Callable[..., str]


@pytest.fixture
def signed(deployed: Database, monkeypatch: pytest.MonkeyPatch) -> Signed:
    """Mints tokens for a login that may present nothing else."""
    admin = deployed.connect()
    call(admin, "deauthorize_login", login="acme_app")
    call(admin, "authorize_login", login="acme_app", pattern="acme:*:*:*:*", token_only=True)
    ((kid, secret),) = call(admin, "create_signing_key", kid="k", audience="here")

    def signed(levels: str = KEY, **options: Any) -> str:
        return token.mint(token.Tenant(*levels.split(":")), kid=kid, secret=secret, audience="here", **options)

    return signed


def put(path: Path, text: str) -> None:
    """Replace a file as a mounted secret is."""
    beside = path.with_name("beside")
    beside.write_text(text)
    beside.replace(path)


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AI_STORAGE_TOKEN_FILE", str(tmp_path / "token"))
    return tmp_path / "token"


def owner(storage: Any) -> str:
    with storage as mine:
        mine.save_ai_progress("m", 0.5)
        return mine.load_ai_progress()[0].owner_key


@pytest.mark.parametrize("by_file", [True, False])
def test_a_token_stands_for_the_names(
    signed: Signed, token_file: Path, monkeypatch: pytest.MonkeyPatch, by_file: bool
) -> None:
    monkeypatch.delenv("AI_STORAGE_TOKEN_FILE")
    with pytest.raises(NotAuthorized):
        owner(TenantAwareStorage.from_env())
    if by_file:
        put(token_file, signed() + "\n")
        monkeypatch.setenv("AI_STORAGE_TOKEN_FILE", str(token_file))
    else:
        monkeypatch.setenv("AI_STORAGE_TOKEN", signed())
    # With the names, without them, and with those of the code.
    assert owner(TenantAwareStorage.from_env()) == KEY
    for name in VARIABLES:
        monkeypatch.delenv(name)
    assert owner(TenantAwareStorage.from_env()) == KEY
    assert awaited(AsyncTenantAwareStorage.from_env()) == KEY
    assert owner(TenantAwareStorage.from_mcp_server("mcp-1", "shop", "abc123")) == KEY
    assert awaited(AsyncTenantAwareStorage.from_mcp_server("mcp-1", "shop", "abc123")) == KEY


def test_a_token_of_another_tenant_than_the_process_is_told_is_refused(
    signed: Signed, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(token_file, signed())
    for wrong in (("mcp-2", "shop", "abc123"), ("mcp-1", "toys", "abc123"), ("mcp-1", "shop", "v2")):
        with pytest.raises(ValueError, match="names another"):
            TenantAwareStorage.from_mcp_server(*wrong)
    monkeypatch.setenv("AI_STORAGE_ENVIRONMENT", "test")
    with pytest.raises(ValueError, match="another environment"):
        TenantAwareStorage.from_env()
    monkeypatch.setenv("AI_STORAGE_ENVIRONMENT", "production")
    with TenantAwareStorage.from_env() as mine:
        put(token_file, signed(KEY.replace("mcp-1", "mcp-2")))
        with pytest.raises(ValueError, match="another server_id"):
            mine.load_ai_progress()


def test_a_token_that_is_replaced_is_used_from_the_next_call_on(signed: Signed, token_file: Path) -> None:
    short = signed(ttl=timedelta(seconds=2))
    put(token_file, short)
    os.utime(token_file, (1, 1))  # long ago, so that its time tells

    async def scenario() -> None:
        async with await AsyncTenantAwareStorage.from_env() as other:
            with TenantAwareStorage.from_env() as mine:
                mine.save_ai_progress("m", 0.5)
                await other.save_ai_progress("m", 0.5)
                await asyncio.sleep(2.1)
                with pytest.raises(TokenExpired):
                    mine.load_ai_progress()
                put(token_file, signed())
                assert mine.load_ai_progress()[0].version == 2
                assert (await other.load_ai_progress())[0].version == 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "part", [lambda token: "", lambda token: token[:-1], lambda token: token[:60], lambda token: "x"]
)
def test_a_file_written_in_part_or_away_leaves_the_token_read_last(
    signed: Signed, token_file: Path, part: Callable[[str], str]
) -> None:
    put(token_file, signed())
    with TenantAwareStorage.from_env() as mine:
        token_file.write_text(part(signed()))
        mine.save_ai_progress("m", 0.5)
        token_file.unlink()
        mine.save_ai_progress("m", 0.5)
    with pytest.raises(ValueError, match="AI_STORAGE_TOKEN_FILE"):
        TenantAwareStorage.from_env()
    token_file.write_text(part(signed()))
    with pytest.raises(ValueError, match="AI_STORAGE_TOKEN_FILE"):
        TenantAwareStorage.from_env()


def test_a_file_changed_within_a_tick_of_its_clock_is_noticed(signed: Signed, token_file: Path) -> None:
    put(token_file, signed())
    found = token_file.stat()
    credential = environment.credential()
    assert callable(credential)
    other = signed(ttl=timedelta(minutes=16))
    assert len(other) == found.st_size
    token_file.write_text(other)
    os.utime(token_file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert credential() == other


def test_a_file_that_does_not_change_is_read_once(signed: Signed, token_file: Path) -> None:
    put(token_file, signed())
    os.utime(token_file, (1, 1))
    credential = environment.credential()
    assert callable(credential)
    token_file.chmod(0)
    with mock.patch("builtins.open", side_effect=AssertionError):
        assert credential() == credential()


def test_a_token_is_given_once_is_one_and_is_not_shown(
    described: None, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = token.mint(token.Tenant(*KEY.split(":")), kid="k", secret="s" * 43, audience="here")
    put(token_file, good)
    assert good not in repr(environment.credential())
    monkeypatch.setenv("AI_STORAGE_TOKEN", good)
    with pytest.raises(ValueError, match="both"):
        environment.credential()
    monkeypatch.delenv("AI_STORAGE_TOKEN_FILE")
    assert good not in repr(environment.credential())
    for bad in (KEY, good[:-1], "a.b." + "c" * 43, good.replace(".", "..", 1)):
        monkeypatch.setenv("AI_STORAGE_TOKEN", bad)
        with pytest.raises(ValueError, match="AI_STORAGE_TOKEN") as caught:
            environment.credential()
        assert bad not in str(caught.value)


@pytest.mark.parametrize("name", [*VARIABLES, "DATABASE_URL"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_missing_is_named(
    described: None, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name):
        TenantAwareStorage.from_env()
    with pytest.raises(ValueError, match=name):
        awaited(AsyncTenantAwareStorage.from_env())


@pytest.mark.parametrize("level", ["", "*", "a:b", "a b", "x" * 64, "ü", "a\n"])
def test_a_level_that_is_none_is_refused_before_anything_is_opened(described: None, level: str) -> None:
    with pytest.raises(ValueError, match="level server_id"):
        TenantAwareStorage.from_mcp_server(level, "shop", "v1")


def test_a_colon_in_a_level_moves_no_border(described: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AI_STORAGE_ORG_ID", "acme:mcp-1")
    with pytest.raises(ValueError, match="level org_id"):
        TenantAwareStorage.from_env()


def test_an_unknown_storage_type_is_refused(described: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Callable[[], object]] = [
        lambda: TenantAwareStorage.from_mcp_server("s", "p", "c", "files"),
        lambda: TenantAwareStorage.from_request({"headers": []}, "files"),
        lambda: asyncio.run(AsyncTenantAwareStorage.from_mcp_server("s", "p", "c", "files")),
        lambda: asyncio.run(AsyncTenantAwareStorage.from_request({"headers": []}, "files")),
    ]
    for make in calls:
        with pytest.raises(ValueError, match=r"'files'.*database"):
            make()
    monkeypatch.setenv("AI_STORAGE_TYPE", "files")
    with pytest.raises(ValueError, match=r"'files'.*database"):
        TenantAwareStorage.from_env()


def test_a_login_that_is_too_powerful_is_refused_for_requests_too(
    deployed: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", deployed.dsn())
    request = {"headers": [(b"authorization", b"Bearer a.b.c")]}
    with pytest.raises(LoginTooPowerful):
        TenantAwareStorage.from_request(request)
    with pytest.raises(LoginTooPowerful):
        asyncio.run(AsyncTenantAwareStorage.from_request(request))


def requests(header: str | None) -> list[Any]:
    """One request as each of the kinds there are. header: its Authorization."""
    plain = {} if header is None else {"Authorization": header}
    scope = {"headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in plain.items()]}
    environ = {"REQUEST_METHOD": "GET"} | ({} if header is None else {"HTTP_AUTHORIZATION": header})
    return [
        scope,
        environ,
        SimpleNamespace(scope=scope),
        SimpleNamespace(environ=environ, headers=plain),
        SimpleNamespace(META=environ, headers=plain),
        SimpleNamespace(headers=plain),
        SimpleNamespace(headers={name.lower(): value for name, value in plain.items()}),
    ]


def test_a_request_is_served_with_its_token_as_the_credential(deployed: Database) -> None:
    token = minter(deployed)(KEY)
    for request in requests(f"Bearer {token}"):
        TenantAwareStorage.from_request(request).save_ai_progress("m", 0.5)
    assert [row.version for row in deployed.storage(KEY).load_ai_progress()] == [len(requests(None))]


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Digest x", "Bearerx a.b.c"])
def test_a_request_without_a_token_is_nobodys(described: None, header: str | None) -> None:
    for request in requests(header):
        with pytest.raises(NoTenant):
            TenantAwareStorage.from_request(request)


@pytest.mark.parametrize(
    "header",
    [f"Bearer {KEY}", "Bearer", "Bearer a.b", "Bearer a.b.c.d", "Bearer a.b.c, Bearer a.b.c", "Bearer a.b.ü",
     "Bearer " + "a" * 20_000 + ".b.c", f"Bearer a.b.c:{KEY}", "bearer a.b.c\n"],
)  # fmt: skip
def test_an_isolation_key_or_anything_else_that_is_no_token_is_refused(described: None, header: str) -> None:
    for request in requests(header):
        with pytest.raises(MalformedCredential):
            TenantAwareStorage.from_request(request)


def test_a_token_given_twice_is_refused(deployed: Database) -> None:
    token = minter(deployed)(KEY)
    pair = (b"authorization", f"Bearer {token}".encode())
    TenantAwareStorage.from_request({"headers": [pair]}).load_ai_progress()
    with pytest.raises(MalformedCredential):
        TenantAwareStorage.from_request({"headers": [pair, pair]})


def connections(database: Database) -> int:
    row = database.connect().execute("select count(*) from pg_stat_activity where usename = 'acme_app'").fetchone()
    return row[0]


def test_requests_share_one_pool_that_nobody_has_to_close(deployed: Database) -> None:
    scope = {"headers": [(b"authorization", f"Bearer {minter(deployed)(KEY)}".encode())]}
    for _ in range(50):
        TenantAwareStorage.from_request(scope).load_ai_progress()
    assert environment.shared_pool() is environment.shared_pool()
    assert connections(deployed) <= 2  # a second one, if the first was still being opened
    environment.close_shared_pool()
    until(lambda: connections(deployed) == 0, "closed connections")


def test_each_event_loop_has_a_pool_of_its_own(deployed: Database) -> None:
    scope = {"headers": [(b"authorization", f"Bearer {minter(deployed)(KEY)}".encode())]}

    async def load() -> None:
        await (await AsyncTenantAwareStorage.from_request(scope)).load_ai_progress()

    async def scenario() -> object:
        await asyncio.gather(*(load() for _ in range(20)))
        pool = await environment.shared_async_pool()
        await environment.close_shared_async_pool()
        return pool

    assert asyncio.run(scenario()) is not asyncio.run(scenario())
    until(lambda: connections(deployed) == 0, "closed connections")


def test_a_pool_that_could_not_be_opened_is_tried_again(deployed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    scope = {"headers": [(b"authorization", f"Bearer {minter(deployed)(KEY)}".encode())]}

    async def scenario() -> None:
        with monkeypatch.context() as broken:
            broken.setattr(environment, "open_async_pool", refusing)
            with pytest.raises(ConnectionError):
                await AsyncTenantAwareStorage.from_request(scope)
        assert await (await AsyncTenantAwareStorage.from_request(scope)).load_ai_progress() == []
        await environment.close_shared_async_pool()

    async def refusing(*_: object, **__: object) -> None:
        raise ConnectionError

    asyncio.run(scenario())


def _backends(scope: dict[str, Any]) -> set[int]:
    """The server's processes that serve this process."""
    assert [row.model_name for row in TenantAwareStorage.from_request(scope).load_ai_progress()] == ["m"]
    with environment.shared_pool().connection() as one, environment.shared_pool().connection() as other:
        return {one.info.backend_pid, other.info.backend_pid}


def test_a_forked_worker_opens_a_pool_of_its_own(deployed: Database) -> None:
    scope = {"headers": [(b"authorization", f"Bearer {minter(deployed)(KEY)}".encode())]}
    TenantAwareStorage.from_request(scope).save_ai_progress("m", 0.5)
    before = _backends(scope)
    fork = multiprocessing.get_context("fork")
    results = fork.SimpleQueue()
    with environment._lock:  # as another thread of the parent might hold it
        child = fork.Process(target=lambda: results.put(_backends(scope)))
        child.start()
    child.join(30)
    child.kill()  # if it still waits
    assert child.exitcode == 0
    assert not before & results.get()
    assert _backends(scope) == before


def test_the_storage_type_hybrid_reads_by_way_of_redis(
    deployed: Database, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(100_000)
    for name in ("hybrid", None):
        monkeypatch.delenv("REDIS_URL", raising=False)
        monkeypatch.setenv("AI_STORAGE_TYPE", "database" if name else "hybrid")
        with pytest.raises(ValueError, match="REDIS_URL"):
            TenantAwareStorage.from_mcp_server("mcp-1", "shop", "abc123", name)
        monkeypatch.setenv("REDIS_URL", redis_server.url)
        with TenantAwareStorage.from_mcp_server("mcp-1", "shop", "abc123", name) as mine:
            mine.save_ai_progress("m", 0.5)
            mine.put_artifact("m", "w", content)
            assert mine.get_artifact("m", "w") == mine.get_artifact("m", "w") == content
            assert mine._cache is not None
            assert mine._cache.stats().hits > 0

    async def scenario() -> None:
        async with await AsyncTenantAwareStorage.from_env() as mine:
            assert await mine.get_artifact("m", "w") == content
            assert mine._cache is not None
            assert mine._cache.stats().hits == 1

    asyncio.run(scenario())


def test_requests_share_a_cache_as_they_share_a_pool(
    deployed: Database, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    request = {"headers": [(b"authorization", b"Bearer a.b.c")]}
    first, second = (TenantAwareStorage.from_request(request, "hybrid") for _ in range(2))
    assert first._cache is not None
    assert first._cache is second._cache
    assert TenantAwareStorage.from_request(request)._cache is None

    async def scenario() -> None:
        first, second = [await AsyncTenantAwareStorage.from_request(request, "hybrid") for _ in range(2)]
        assert first._cache is not None
        assert first._cache is second._cache
        await environment.close_shared_async_pool()

    asyncio.run(scenario())
