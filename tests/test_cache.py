"""The cache: whatever Redis does, a read gives what the database says, of whom and to whom it says."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from pydb import (
    ArtifactNotFound,
    AsyncTenantAwareStorage,
    ContentMismatch,
    ModelNotFound,
    TenantAwareStorage,
    artifact,
    calls,
    session,
)
from pydb.artifact import CHUNK, Fetch, Keep
from pydb.cache import AsyncCache, Cache, CacheStats
from tests.conftest import Database
from tests.helpers import ACME, BETA, key
from tests.redis_server import RedisServer

OTHER = key("acme", "s2")
SMALL = random.Random(1).randbytes(50_000)
LARGE = random.Random(2).randbytes(5 * CHUNK + 7)  # three parts


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """What the tests look into Redis with."""
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def cache(redis_server: RedisServer) -> Iterator[Cache]:
    cache = Cache.from_url(redis_server.url)
    yield cache
    cache.close()


def storage(database: Database, tenant: str, cache: Cache | None) -> TenantAwareStorage:
    storage = TenantAwareStorage(database.connect("app"), tenant, cache=cache)
    storage.save_ai_progress("m", 0.5)
    return storage


@pytest.fixture
def mine(database: Database, cache: Cache) -> TenantAwareStorage:
    """The storage of ACME with the cache; it has the model m with the artifacts small and large."""
    mine = storage(database, ACME, cache)
    mine.put_artifact("m", "small", SMALL)
    mine.put_artifact("m", "large", LARGE)
    return mine


def kept(client: redis.Redis) -> list[bytes]:
    """The names of what Redis has."""
    return sorted(client.scan_iter(count=1000))


def stats(cache: Cache) -> tuple[int, int, int, int]:
    now = cache.stats()
    return now.hits, now.misses, now.rejects, now.errors


def test_the_second_read_comes_from_redis(
    database: Database, mine: TenantAwareStorage, cache: Cache, tmp_path: Path
) -> None:
    assert mine.get_artifact("m", "small") == SMALL
    assert mine.get_artifact("m", "large") == LARGE
    assert stats(cache) == (0, 1 + 1, 0, 0)  # of the large one, the list of its chunks was not there
    # Without the bytes in the database, only Redis can have them.
    database.connect().execute("delete from ai_storage_private.artifact_chunk")
    assert mine.get_artifact("m", "small") == SMALL
    assert mine.get_artifact("m", "large") == LARGE
    mine.get_artifact("m", "large", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == LARGE
    assert stats(cache) == (1 + 7 + 7, 2, 0, 0)
    assert not cache.stats().paused


def test_the_asynchronous_cache_does_the_same(
    database: Database, mine: TenantAwareStorage, redis_server: RedisServer
) -> None:
    async def scenario() -> CacheStats:
        cache = AsyncCache.from_url(redis_server.url, pause=60)
        async with await AsyncTenantAwareStorage.from_dsn(database.dsn("app"), ACME, cache=cache) as other:
            for _ in range(2):
                assert await other.get_artifact("m", "small") == SMALL
                assert await other.get_artifact("m", "large") == LARGE
            redis_server.kill()
            for _ in range(2):
                assert await other.get_artifact("m", "large") == LARGE
        await cache.close()
        return cache.stats()

    now = asyncio.run(scenario())
    assert (now.hits, now.rejects, now.errors, now.paused) == (1 + 7, 0, 3, True)


def test_small_and_empty_values_skip_it(database: Database, cache: Cache, client: redis.Redis) -> None:
    mine = storage(database, ACME, cache)
    for content in (b"", b"x", SMALL[:16383]):
        mine.put_artifact("m", "w", content)
        assert mine.get_artifact("m", "w") == mine.get_artifact("m", "w") == content
    assert (stats(cache), client.dbsize()) == ((0, 0, 0, 0), 0)
    mine.put_artifact("m", "w", SMALL[:16384])
    mine.get_artifact("m", "w")
    assert client.dbsize() == 1


def test_values_live_as_long_as_they_are_told(
    database: Database, mine: TenantAwareStorage, redis_server: RedisServer, client: redis.Redis
) -> None:
    cache = Cache.from_url(redis_server.url, ttl=timedelta(minutes=5))
    TenantAwareStorage(database.connect("app"), ACME, cache=cache).get_artifact("m", "large")
    assert [290 < client.ttl(name) <= 300 for name in kept(client)] == [True] * 7


def test_redis_sees_neither_names_nor_bytes(mine: TenantAwareStorage, client: redis.Redis) -> None:
    for name in ("small", "large"):
        mine.get_artifact("m", name)
    names = kept(client)
    assert len(names) == 8
    seen = b"".join(names) + b"".join(client.mget(names))
    digests = artifact.Digest()
    digests.add(*(LARGE[start : start + CHUNK] for start in range(0, len(LARGE), CHUNK)))
    for shown in (
        b"acme",
        SMALL[:16],
        LARGE[:16],
        LARGE[-5:],
        *digests.chunks,
        *(d.hex().encode() for d in digests.chunks),
    ):
        assert shown not in seen
    assert {len(name) for name in names} == {len("pydb:") + 64}


def test_tenants_with_the_same_bytes_share_nothing(
    database: Database, mine: TenantAwareStorage, cache: Cache, client: redis.Redis
) -> None:
    theirs = storage(database, BETA, cache)
    theirs.put_artifact("m", "w", SMALL)
    mine.get_artifact("m", "small")
    (first,) = kept(client)
    before = stats(cache)
    assert theirs.get_artifact("m", "w") == SMALL
    assert stats(cache) == (before[0], before[1] + 1, 0, 0)
    second = next(name for name in kept(client) if name != first)
    values = {name: client.get(name) for name in (first, second)}
    client.set(first, values[second])
    client.set(second, values[first])
    # What another tenant's client sealed does not open, though it is the same bytes.
    assert mine.get_artifact("m", "small") == theirs.get_artifact("m", "w") == SMALL
    assert stats(cache) == (before[0], before[1] + 1, 2, 0)
    assert mine.get_artifact("m", "small") == theirs.get_artifact("m", "w") == SMALL
    assert stats(cache) == (before[0] + 2, before[1] + 1, 2, 0)


def test_what_is_revoked_deleted_or_replaced_is_so_at_once(
    database: Database, mine: TenantAwareStorage, cache: Cache
) -> None:
    other = storage(database, OTHER, cache)
    mine.share_model("m", [{"server_id": "s2"}], ["execute"])
    for _ in range(2):
        assert other.get_artifact("m", "small", owner=ACME) == SMALL
    assert cache.stats().hits == 1
    mine.unshare_model("m")
    with pytest.raises(ModelNotFound):
        other.get_artifact("m", "small", owner=ACME)
    mine.get_artifact("m", "small")
    mine.put_artifact("m", "small", SMALL[::-1])
    assert mine.get_artifact("m", "small") == SMALL[::-1]
    mine.delete_artifact("m", "small")
    with pytest.raises(ArtifactNotFound):
        mine.get_artifact("m", "small")


def test_each_use_of_anothers_is_logged_also_when_redis_has_it(
    database: Database, mine: TenantAwareStorage, cache: Cache
) -> None:
    other = storage(database, OTHER, cache)
    mine.share_model("m", [{"server_id": "s2"}], ["execute"])
    used = []
    for _ in range(3):
        other.get_artifact("m", "small", owner=ACME)
        used.append(sum(event.action == "read artifact" for event in mine.audit_trail()))
    assert cache.stats().hits == 2
    assert used == sorted(set(used))


def test_what_an_erased_tenant_left_cannot_be_opened(
    database: Database, mine: TenantAwareStorage, cache: Cache, client: redis.Redis
) -> None:
    mine.get_artifact("m", "small")
    (left,) = kept(client)
    value = client.get(left)
    admin = database.connect()
    session.run(admin, calls.erase_tenant(ACME, "the customer left"))
    assert admin.execute("select count(*) from ai_storage_private.tenant_cache_key").fetchone() == (0,)
    with pytest.raises(ArtifactNotFound):
        mine.get_artifact("m", "small")
    # The same tenant with the same bytes, later: another key, other names, and the old value opens nowhere.
    mine.save_ai_progress("m2", 0.5)
    mine.put_artifact("m2", "small", SMALL)
    before = stats(cache)
    mine.get_artifact("m2", "small")
    new = next(name for name in kept(client) if name != left)
    client.set(new, value)
    assert mine.get_artifact("m2", "small") == SMALL
    assert stats(cache) == (before[0], before[1] + 1, before[2] + 1, 0)


def test_damage_in_the_database_is_noticed_also_when_redis_has_the_rest(
    database: Database, mine: TenantAwareStorage, cache: Cache, client: redis.Redis
) -> None:
    mine.get_artifact("m", "large")
    lists = [name for name in kept(client) if client.strlen(name) < CHUNK and client.strlen(name) > 100]
    assert len(lists) == 1
    for name in kept(client):
        if name not in lists:
            client.delete(name)
    database.connect().execute(
        "update ai_storage_private.artifact_chunk set content = set_byte(content, 3, get_byte(content, 3) # 1) "
        "where chunk_number = 2"
    )
    with pytest.raises(ContentMismatch):
        mine.get_artifact("m", "large")
    # Nor is it kept for the next one, as the part before it is.
    assert client.dbsize() == 1 + 2


@pytest.mark.parametrize("garbage", [b"", b"x", b"x" * 28, b"\0" * 60_000])
def test_what_does_not_open_is_read_again_and_mended(
    mine: TenantAwareStorage, cache: Cache, client: redis.Redis, garbage: bytes
) -> None:
    mine.get_artifact("m", "large")
    for name in kept(client):
        client.set(name, garbage)
    assert mine.get_artifact("m", "large") == LARGE
    assert cache.stats().rejects == 1  # the list; without it the chunks are not asked for
    names = sorted(kept(client), key=client.strlen)
    values = client.mget(names)
    for name, value in zip(
        names[2:], [*values[3:], values[2]], strict=True
    ):  # the whole chunks, each in another's place
        client.set(name, value)
    before = cache.stats()
    assert mine.get_artifact("m", "large") == LARGE
    assert cache.stats().rejects - before.rejects == 5
    assert mine.get_artifact("m", "large") == LARGE
    assert cache.stats().hits - before.hits == 1 + 1 + 7
    client.flushall()
    for name in names:
        client.lpush(name, "not a value at all")
    assert mine.get_artifact("m", "large") == LARGE
    assert cache.stats().rejects - before.rejects == 5 + 1
    assert mine.get_artifact("m", "large") == LARGE
    assert cache.stats().hits - before.hits == 1 + 1 + 7 + 7


# A Redis that is down, slow or lying ---------------------------------------------------------------------------------


def test_a_redis_that_is_down_is_left_alone_for_a_while(
    database: Database, redis_server: RedisServer, mine: TenantAwareStorage
) -> None:
    cache = Cache.from_url(redis_server.url, failures=3, pause=0.3)
    mine = TenantAwareStorage(database.connect("app"), ACME, cache=cache)
    mine.get_artifact("m", "small")
    redis_server.kill()
    for _ in range(10):
        assert mine.get_artifact("m", "small") == SMALL
    assert (cache.stats().errors, cache.stats().paused) == (3, True)
    time.sleep(0.35)
    assert not cache.stats().paused
    assert mine.get_artifact("m", "small") == SMALL  # one attempt is enough to leave it alone again
    assert (cache.stats().errors, cache.stats().paused) == (4, True)
    redis_server.start()
    time.sleep(0.35)
    for _ in range(2):
        assert mine.get_artifact("m", "small") == SMALL
    assert (cache.stats().hits, cache.stats().errors, cache.stats().paused) == (1, 4, False)


def test_a_redis_that_hangs_is_waited_for_shortly(
    database: Database, redis_server: RedisServer, mine: TenantAwareStorage
) -> None:
    cache = Cache.from_url(redis_server.url, timeout=0.1, pause=60)
    mine = TenantAwareStorage(database.connect("app"), ACME, cache=cache)
    mine.get_artifact("m", "small")
    redis_server.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for _ in range(20):
            assert mine.get_artifact("m", "small") == SMALL
        assert time.monotonic() - began < 3
        assert (cache.stats().errors, cache.stats().paused) == (3, True)
    finally:
        redis_server.signal(signal.SIGCONT)


LIES: dict[str, Callable[[random.Random], bytes]] = {
    "noise": lambda draw: draw.randbytes(draw.randrange(1, 400)),
    "noise in values": lambda draw: b"".join(b"$%d\r\n%b\r\n" % (n, draw.randbytes(n)) for n in (5, 50, 5000)),
    "too long": lambda draw: b"$999999999999\r\nx",
    "negative": lambda draw: b"$-7\r\n" * 9,
    "other types": lambda draw: b":1\r\n+OK\r\n*0\r\n*2\r\n:1\r\n$-1\r\n_\r\n#t\r\n,1.5\r\n%1\r\n+a\r\n+b\r\n" * 2,
    "errors": lambda draw: b"-ERR \xff\xfe\r\n-LOADING\r\n-MOVED 1 a:1\r\n-NOAUTH\r\n-READONLY x\r\n" * 3,
    "deep": lambda draw: b"*1\r\n" * 5000 + b":1\r\n",
    "text": lambda draw: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "nothing": lambda draw: b"",
    "the end": lambda draw: b"END",
}


@contextmanager
def liar(answer: Callable[[random.Random], bytes]) -> Iterator[str]:
    """A server that answers whatever it is asked with lies. Yields its URL."""
    draw, stop = random.Random(5), threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.settimeout(0.05)
        with connection, suppress(OSError):
            while not stop.is_set():
                try:
                    if not connection.recv(2**20):
                        return
                except TimeoutError:
                    continue
                said = answer(draw)
                if said == b"END":
                    return
                connection.sendall(said)

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=serve, args=(connection,))
            threads.append(thread)
            thread.start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            accepting.join()
            for thread in threads:
                thread.join()


GIANT = 200 * 2**20
GIANTS: dict[str, list[bytes]] = {
    "value": [b"$%d\r\n" % GIANT],
    "error": [b"-ERR "],
    "text": [b"+"],
    "number": [b":"],
    "array": [b"*%d\r\n" % GIANT, b"$-1\r\n" * 2**16],
    "map": [b"%%%d\r\n" % GIANT, b"+a\r\n:1\r\n" * 2**16],
}
MEMORY = """
import asyncio, re, sys, threading
from pathlib import Path
from pydb.artifact import Fetch, Keep
from pydb.cache import AsyncCache, Cache
url, kind = sys.argv[1:]
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
requests = [Fetch(["a"]), Fetch(["a", "b"]), Keep({"a": b"x"})] * 2
async def asynchronous():
    cache = AsyncCache.from_url(url, timeout=2, failures=10**9)
    for request in requests:
        await cache.run(request)
    return cache
if kind == "asynchronous":
    asyncio.run(AsyncCache.from_url(url).close())
    before = peak()
    cache = asyncio.run(asynchronous())
else:
    cache = Cache.from_url(url, timeout=2, failures=10**9)
    before = peak()
    for request in requests:
        cache.run(request)
print(peak() - before, cache.stats().errors, len(requests))
"""


@contextmanager
def giant(pieces: list[bytes]) -> Iterator[str]:
    """A server that never ends its answer. Yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(16) as threads:

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.settimeout(10)
                connection.recv(2**20)
                connection.sendall(pieces[0])
                for _ in range(0, GIANT, 2**20):
                    connection.sendall(pieces[1] if len(pieces) > 1 else b"7" * 2**20)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threads.submit(serve, listener.accept()[0])

        threads.submit(accept)
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
@pytest.mark.parametrize("pieces", GIANTS.values(), ids=GIANTS)
def test_an_answer_takes_no_more_memory_than_was_asked_for(kind: str, pieces: list[bytes]) -> None:
    with giant(pieces) as url:
        done = subprocess.run([sys.executable, "-c", MEMORY, url, kind], capture_output=True, text=True, check=True)
    growth, errors, requests = map(int, done.stdout.split())
    assert errors == requests
    assert growth < 48 * 2**20


@pytest.mark.parametrize("connecting", [True, False])
def test_a_redis_that_drips_holds_no_read_beyond_the_timeout(connecting: bool) -> None:
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(2**20)
            if not connecting:
                connection.sendall(b"+OK\r\n" * 4)
            connection.sendall(b"$100000\r\n")
            while not ended.wait(0.05):
                connection.sendall(b"x")

    def accept(listener: socket.socket, threads: ThreadPoolExecutor) -> None:
        with suppress(OSError):
            while True:
                threads.submit(serve, listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(8) as threads:
        threads.submit(accept, listener, threads)
        cache = Cache.from_url(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout=0.4, failures=10**9)
        try:
            for request in (Fetch(["a"]), Keep({"a": b"x"}), Fetch(["a", "b"])):
                began = time.monotonic()
                cache.run(request)
                assert time.monotonic() - began < 1
            assert cache.stats().errors >= (3 if connecting else 1)
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)


def test_a_clients_own_way_to_decode_does_not_matter_and_another_client_is_refused(redis_server: RedisServer) -> None:
    value = b"\xff" * 100
    for options in ({"decode_responses": True}, {"protocol": 3}, {"decode_responses": True, "protocol": 3}):
        with redis.Redis.from_url(redis_server.url, **options) as theirs:
            cache = Cache(theirs)
            cache.run(Keep({"k": value}))
            assert cache.run(Fetch(["k", "none"])) == [value, None]
            cache.close()
            assert theirs.ping()
            assert cache.stats().errors == 0
    for bad in (redis.asyncio.Redis(), object(), redis_server.url):
        with pytest.raises(ValueError, match="Redis"):
            Cache(bad)  # type: ignore[arg-type]  # the mistake that is tried
    with pytest.raises(ValueError, match="asyncio"):
        AsyncCache(redis.Redis())  # type: ignore[arg-type]  # and this one


def test_it_is_logged_why_redis_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache.from_url("redis://127.0.0.1:1", failures=2)
    for _ in range(5):
        cache.run(Fetch(["a"]))
    assert [record.getMessage() for record in caplog.records] == ["Redis is left alone for 30 seconds: ConnectionError"]


@pytest.mark.parametrize("lie", LIES)
def test_a_redis_that_lies_changes_no_answer(database: Database, mine: TenantAwareStorage, lie: str) -> None:
    async def scenario(url: str) -> None:
        asynchronous = AsyncCache.from_url(url, timeout=0.1, failures=10**9)
        async with await AsyncTenantAwareStorage.from_dsn(database.dsn("app"), ACME, cache=asynchronous) as other:
            for name, content in (("small", SMALL), ("large", LARGE)) * 3:
                assert await other.get_artifact("m", name) == content
        assert asynchronous.stats().hits == 0
        await asynchronous.close()

    with liar(LIES[lie]) as url:
        cache = Cache.from_url(url, timeout=0.1, failures=10**9)
        lied = TenantAwareStorage(database.connect("app"), ACME, cache=cache)
        for name, content in (("small", SMALL), ("large", LARGE)) * 3:
            assert lied.get_artifact("m", name) == content
        assert cache.stats().hits == 0
        assert cache.stats().errors + cache.stats().rejects > 0
        cache.close()
        asyncio.run(scenario(url))


# Anything after anything ---------------------------------------------------------------------------------------------

TENANTS = [ACME, OTHER, BETA, key("beta", "s2")]
MODELS = ["m", "n"]
ARTIFACTS = ["w", "x"]
CONTENTS = [random.Random(seed).randbytes(size) for seed, size in enumerate([500, 3000, 20_000, 20_001, 60_000])]
CONTENTS += [LARGE[: CHUNK + 5], LARGE[: 2 * CHUNK], LARGE[CHUNK : 3 * CHUNK]]
WEIGHTS = [4, 8, 8, 8, 8, 1, 1, 1]


@dataclass
class World:
    """What there has to be, kept beside the database. versions: the newest of each model."""

    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    artifacts: dict[tuple[str, str, str], dict[int, bytes]] = field(default_factory=dict)
    shares: set[tuple[str, str, str]] = field(default_factory=set)  # owner, model, with whom

    def forget(self, owner: str, model: str) -> None:
        self.versions.pop((owner, model), None)
        self.shares = {share for share in self.shares if share[:2] != (owner, model)}
        for name in ARTIFACTS:
            self.artifacts.pop((owner, model, name), None)

    def read(self, reader: str, owner: str, model: str, name: str, version: int | None) -> bytes | type[Exception]:
        """What exactly this version has, or the current one."""
        if reader != owner and ((owner, model, reader) not in self.shares):
            return ModelNotFound
        put = self.artifacts.get((owner, model, name), {})
        return put.get(self.versions.get((owner, model), 0) if version is None else version, ArtifactNotFound)


class Walk:
    """Takes random steps, in the database, in Redis and in a World, and compares each read."""

    def __init__(self, database: Database, server: RedisServer, seed: int) -> None:
        self.draw = random.Random(seed)
        self.server = server
        self.admin = database.connect()
        self.caches = [
            Cache.from_url(server.url, min_bytes=1000, timeout=0.05, failures=3, pause=0.01) for _ in range(2)
        ]
        self.storages = {
            tenant: TenantAwareStorage(database.connect("app"), tenant, cache=self.draw.choice(self.caches))
            for tenant in TENANTS
        }
        self.world = World()
        self.client = redis.Redis.from_url(server.url)
        self.running = True
        self.reads = 0

    def step(self) -> None:
        kind = self.draw.choices(
            ["read", "save", "put", "share", "revoke", "delete artifact", "delete", "erase", "redis"],
            [60, 4, 12, 4, 3, 3, 1, 0.1, 8],
        )[0]
        tenant, model, name = (self.draw.choice(all_) for all_ in (TENANTS, MODELS, ARTIFACTS))
        getattr(self, f"_{kind.replace(' ', '_')}")(tenant, model, name)

    def close(self) -> None:
        for each in (*self.caches, self.client):
            each.close()

    def _read(self, tenant: str, model: str, name: str) -> None:
        owner = self.draw.choice([tenant, *TENANTS])
        if self.world.artifacts and self.draw.random() < 0.8:
            owner, model, name = self.draw.choice(list(self.world.artifacts))
            tenant = self.draw.choice([owner, owner, tenant])
        version = self.draw.choice([None, None, self.draw.randrange(5)])
        wanted = self.world.read(tenant, owner, model, name, version)
        got: bytes | type[Exception]
        try:
            got = self.storages[tenant].get_artifact(
                model, name, owner=None if owner == tenant else owner, version=version
            )
        except (ModelNotFound, ArtifactNotFound) as error:
            got = type(error)
        assert got == wanted, (tenant, owner, model, name, version)
        self.reads += 1

    def _save(self, tenant: str, model: str, name: str) -> None:
        self.world.versions[tenant, model] = self.storages[tenant].save_ai_progress(model, self.draw.random()).version

    def _put(self, tenant: str, model: str, name: str) -> None:
        if (tenant, model) not in self.world.versions:
            self._save(tenant, model, name)
        (content,) = self.draw.choices(CONTENTS, WEIGHTS)
        self.storages[tenant].put_artifact(model, name, content)
        put = self.world.artifacts.setdefault((tenant, model, name), {})
        put[self.world.versions[tenant, model]] = content

    def _share(self, tenant: str, model: str, name: str) -> None:
        (other,) = self.draw.sample([each for each in TENANTS if each.split(":")[0] == tenant.split(":")[0]], 1)
        if other == tenant or (tenant, model) not in self.world.versions:
            return
        self.storages[tenant].share_model(model, [{"server_id": other.split(":")[1]}], ["execute"])
        self.world.shares.add((tenant, model, other))

    def _revoke(self, tenant: str, model: str, name: str) -> None:
        if (tenant, model) in self.world.versions:
            self.storages[tenant].unshare_model(model)
            self.world.shares = {share for share in self.world.shares if share[:2] != (tenant, model)}

    def _delete_artifact(self, tenant: str, model: str, name: str) -> None:
        put = self.world.artifacts.get((tenant, model, name), {})
        version = self.draw.choice([None, *put])
        self.storages[tenant].delete_artifact(model, name, version=version)
        if version is None:
            put.clear()
        else:
            del put[version]

    def _delete(self, tenant: str, model: str, name: str) -> None:
        self.storages[tenant].delete(model)
        self.world.forget(tenant, model)

    def _erase(self, tenant: str, model: str, name: str) -> None:
        registered = "select 1 from ai_storage_private.tenant where isolation_key = %s"
        if self.admin.execute(registered, (tenant,)).fetchone() is None:
            return
        session.run(self.admin, calls.erase_tenant(tenant, "the walk came by"))
        for each in MODELS:
            self.world.forget(tenant, each)  # what was shared with it stays shared

    def _redis(self, tenant: str, model: str, name: str) -> None:
        if not self.running:
            self.server.start()
            self.running = True
            return
        what = self.draw.choices(
            ["kill", "empty", "garbage", "swap", "shift", "cut", "hang"], [4, 2, 10, 20, 10, 10, 0.3]
        )[0]
        if what == "kill":
            self.server.kill()
            self.running = False
            return
        if what == "hang":
            self.server.signal(signal.SIGSTOP)
            try:
                self._read(tenant, model, name)
            finally:
                self.server.signal(signal.SIGCONT)
            return
        if what == "empty":
            self.client.flushall()
            return
        names = kept(self.client)
        chosen = self.draw.sample(names, min(len(names), self.draw.randrange(1, 20)))
        values = self.client.mget(chosen) if chosen else []
        if what == "garbage":
            changed = [self.draw.randbytes(self.draw.randrange(100)) for _ in chosen]
        elif what == "swap":  # whatever another tenant or another content has
            changed = values[1:] + values[:1]
        elif what == "cut":
            changed = [value[: self.draw.randrange(len(value) + 1)] for value in values]
        else:
            changed = [bytes([value[0] ^ 1]) + value[1:] if value else b"" for value in values]
        for place, value in zip(chosen, changed, strict=True):
            self.client.set(place, value)


def test_whatever_happens_a_read_is_right(
    database: Database, redis_server: RedisServer, request: pytest.FixtureRequest
) -> None:
    steps, seed = (request.config.getoption(name) for name in ("--cache-steps", "--cache-seed"))
    walk = Walk(database, redis_server, seed)
    for number in range(steps):
        try:
            walk.step()
        except BaseException as error:
            error.add_note(f"step {number} of --cache-seed {seed}")
            raise
    seen = [cache.stats() for cache in walk.caches]
    walk.close()
    print(walk.reads, "reads", *seen)
    # It did go by way of all of these.
    for count in ("hits", "misses", "rejects", "errors"):
        assert sum(getattr(each, count) for each in seen) > 0, count
