"""Three processes of the web example behind a balancer that asks /readyz: restarts, upgrades, and a process that ends.

All are real: the processes, the database, Redis, and the command pydb. The balancer does what a Service of Kubernetes
does: it sends a request to any process that said 200 when it was last asked.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from pydb import __version__, migrate
from tests.conftest import Database
from tests.helpers import until
from tests.redis_server import RedisServer
from tests.webserver import AT_MOST, Example, Mint, bearer, minter

TENANTS = [f"acme:mcp-{number}:shop:production:v1" for number in range(6)]
TRAINING = {"model_name": "line", "samples": [{"x": [1.0], "y": 3.0}, {"x": [2.0], "y": 5.0}], "epochs": 2}
ASKED = 0.05  # s between two questions whether a process is ready
PAUSE = 0.05  # s between two requests of a tenant; without it nobody else gets the processor
DRAIN = 60  # s; longer than any test waits, which ends it by a second signal


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    server = RedisServer()
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


@pytest.fixture
def mint(database: Database) -> Mint:
    return minter(database)


@pytest.fixture
def begin(database: Database, redis_url: str) -> Iterator[Callable[[], Example]]:
    """Begins a process; all are ended."""
    begun: list[Example] = []

    def begin() -> Example:
        environment = {"AI_STORAGE_TYPE": "hybrid", "REDIS_URL": redis_url}
        begun.append(Example("web", database.dsn("app"), "--drain", str(DRAIN), **environment))
        return begun[-1]

    try:
        yield begin
    finally:
        for running in begun:
            running.process.kill()
            running.end()


class Balancer:
    """Sends each request to the next process that is ready, and notes what did not go well."""

    def __init__(self) -> None:
        self.clients: dict[Example, httpx.AsyncClient] = {}
        self.ready: set[Example] = set()
        self.failed: list[str] = []
        self.answered = 0
        self._under_way: Counter[Example] = Counter()
        self._ended: list[httpx.AsyncClient] = []
        self._next = itertools.count()

    async def add(self, running: Example) -> None:
        """Take a process in, and return when requests are sent to it."""
        url = await asyncio.to_thread(running.url)
        self.clients[running] = httpx.AsyncClient(base_url=url, timeout=AT_MOST)
        while running not in self.ready:
            await self.ask()

    async def remove(self, running: Example) -> None:
        """Tell a process to end, and return when it has, after requests were sent to it no more."""
        running.process.terminate()
        while running in self.ready or self._under_way[running]:
            await asyncio.sleep(0.01)
        # Its drain has served its purpose. In production the time that it takes is set to outlast the balancer's.
        assert await asyncio.to_thread(running.end) == 0, running.lines
        # Not closed yet: it may just be asking whether the process is ready, and that is no failure.
        self._ended.append(self.clients.pop(running))

    async def close(self) -> None:
        for client in [*self.clients.values(), *self._ended]:
            await client.aclose()

    async def ask(self) -> None:
        for running, client in list(self.clients.items()):
            try:
                good = (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                good = False
            (self.ready.add if good else self.ready.discard)(running)

    async def keep_asking(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(ASKED)

    async def request(self, method: str, path: str, **options: object) -> httpx.Response | None:
        await asyncio.sleep(PAUSE)
        ready = [running for running in self.clients if running in self.ready]
        what = f"{method} {path}"
        if not ready:
            self.failed.append(f"{what}: no process is ready")
            return None
        running = ready[next(self._next) % len(ready)]
        self._under_way[running] += 1
        try:
            response = await self.clients[running].request(method, path, **options)
        except httpx.HTTPError as error:
            self.failed.append(f"{what}: {error!r}")
            return None
        finally:
            self._under_way[running] -= 1
        if response.is_success:
            self.answered += 1
        else:
            self.failed.append(f"{what}: {response.status_code} {response.text}")
        return response


class Load:
    """Each tenant trains, reads and keeps an artifact, over and over, and counts what it was told was saved."""

    def __init__(self, balancer: Balancer, mint: Mint) -> None:
        self.balancer = balancer
        self.saved = dict.fromkeys(TENANTS, 0)
        self._tokens = {tenant: bearer(mint(tenant)) for tenant in TENANTS}

    async def of(self, tenant: str) -> None:
        headers = self._tokens[tenant]
        artifact = "/api/ai/models/line/artifacts/weights.bin"
        for turn in itertools.count():
            trained = await self.balancer.request("POST", "/api/ai/train", json=TRAINING, headers=headers)
            if trained is not None and trained.is_success:
                self.saved[tenant] = trained.json()["version"]
            content = f"{tenant} {turn}".encode()
            await self.balancer.request("PUT", artifact, content=content, headers=headers)
            fetched = await self.balancer.request("GET", artifact, headers=headers)
            if fetched is not None and fetched.content != content:
                self.balancer.failed.append(f"{tenant} has {fetched.content!r} instead of {content!r}")
            await self.balancer.request("GET", "/api/ai/models", headers=headers)


@asynccontextmanager
async def under_load(begin: Callable[[], Example], mint: Mint) -> AsyncIterator[tuple[Balancer, Load]]:
    """Three processes that serve all tenants."""
    balancer = Balancer()
    load = Load(balancer, mint)
    for running in [begin() for _ in range(3)]:
        await balancer.add(running)
    tasks = [asyncio.create_task(work) for work in (balancer.keep_asking(), *map(load.of, TENANTS))]
    try:
        yield balancer, load
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await balancer.close()


async def more(balancer: Balancer, count: int = 50) -> None:
    """Return when so many more requests were answered."""
    goal = balancer.answered + count
    async with asyncio.timeout(AT_MOST):
        while balancer.answered < goal and not balancer.failed:
            await asyncio.sleep(0.01)


def lost(database: Database, load: Load) -> set[str]:
    """The tenants who were told of a version that the database does not have."""
    rows = database.connect().execute(
        "select t.isolation_key, max(v.version) from ai_storage_private.progress_version as v "
        "join ai_storage_private.tenant as t using (tenant_id) group by 1"
    )
    found = dict(rows.fetchall())
    assert all(load.saved.values())
    return {tenant for tenant, version in load.saved.items() if found[tenant] < version}


def next_release(folder: Path) -> migrate.Schema:
    """This release with a migration more, and with every function applied anew."""
    for part in ("sql", "migrations"):
        shutil.copytree(migrate.Schema().root / part, folder / part)
    shutil.copytree(migrate.Schema().root / "deploy", folder / "deploy")
    first = folder / "sql" / "00_version.sql"
    first.write_text(first.read_text().replace(__version__, "999.0.0"))
    (folder / "migrations" / "9999_next.sql").write_text(
        "alter table ai_storage_private.ai_progress_tenant add column next_release integer;\n"
        "create index next_release on ai_storage_private.ai_progress_tenant (tenant_id, next_release);\n"
    )
    return migrate.Schema(folder)


def test_an_upgrade_and_a_rolling_restart_fail_no_request(
    begin: Callable[[], Example], mint: Mint, database: Database, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with under_load(begin, mint) as (balancer, load):
            await more(balancer)
            await asyncio.to_thread(migrate.init, database.dsn())
            await more(balancer)
            applied = await asyncio.to_thread(migrate.migrate, database.dsn(), schema=next_release(tmp_path))
            assert "migrations/9999_next.sql" in applied
            assert "sql/90_grants.sql" in applied
            await more(balancer)
            for old in list(balancer.clients):
                await balancer.add(begin())
                await balancer.remove(old)
                await more(balancer)
        assert balancer.failed == []
        assert not lost(database, load)

    asyncio.run(scenario())


def test_a_process_told_to_end_finishes_what_it_was_asked(
    begin: Callable[[], Example], mint: Mint, database: Database
) -> None:
    running = begin()
    with (
        httpx.Client(base_url=running.url(), headers=bearer(mint(TENANTS[0])), timeout=AT_MOST) as client,
        ThreadPoolExecutor(1) as pool,
        database.connect() as admin,
    ):
        client.post("/api/ai/train", json=TRAINING).raise_for_status()
        assert client.get("/readyz").status_code == 200
        # Somebody keeps the model locked, so that a request lasts.
        admin.execute("begin")
        admin.execute("select from ai_storage_private.ai_progress_tenant for update")
        lasting = pool.submit(
            httpx.post, f"{running.url()}/api/ai/train", json=TRAINING, headers=client.headers, timeout=AT_MOST
        )
        waiting = "select exists (select from pg_stat_activity where usename = 'app' and wait_event_type = 'Lock')"
        until(lambda: database.connect().execute(waiting).fetchone() == (True,), "the request to wait", AT_MOST)
        running.process.terminate()
        until(lambda: client.get("/readyz").status_code == 503, "the process to say that it ends", AT_MOST)
        # It serves on, and lets go of who asks.
        last = client.get("/api/ai/models")
        assert (last.status_code, last.headers["connection"]) == (200, "close")
        assert client.get("/healthz").status_code == 200
        running.process.terminate()
        until(lambda: "Shutting down" in "".join(running.lines), "the drain to end", AT_MOST)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{running.url()}/healthz")
        assert not lasting.done()
        admin.execute("rollback")
        assert lasting.result().json()["version"] == 4
        assert running.process.wait(AT_MOST) == 0


def test_a_process_is_not_ready_on_a_database_that_is_older(begin: Callable[[], Example], database: Database) -> None:
    url = begin().url()
    assert httpx.get(f"{url}/readyz", timeout=AT_MOST).status_code == 200
    with database.connect() as admin:
        admin.execute("create or replace function ai_storage.version() returns text language sql return '0.0.9'")
        ready = httpx.get(f"{url}/readyz", timeout=AT_MOST)
        assert (ready.status_code, ready.headers["content-type"]) == (503, "application/problem+json")
        assert "pydb migrate" in ready.json()["detail"]
        admin.execute("create or replace function ai_storage.version() returns text language sql return '999.0.0'")
        assert httpx.get(f"{url}/readyz", timeout=AT_MOST).status_code == 200
