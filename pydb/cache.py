"""Storage type hybrid: Redis carries the bytes of artifacts, PostgreSQL says in every call whose and which they are.

Redis keeps chunks by what they are, so nothing there is ever out of date. A chunk's name shows nothing: it is an HMAC
of its sha256 under the tenant's cache key. Its value is sealed with AES-256-GCM under a key derived from that one, and
bound to the sha256. Only the database gives the cache key, with each answer about an artifact. What does not open is
read from the database and written again: a Redis that is down, slow or lying makes reads slower, not wrong.

Needs the extra hybrid. Nothing else in pydb imports this module.
"""

from __future__ import annotations

import asyncio
import functools
import hmac
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Self

import redis
import redis.asyncio
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from .artifact import CHUNK, Fetch, Keep, Steps
from .calls import Opened

__all__ = ["AsyncCache", "Cache", "CacheStats"]

NONCE = 12  # bytes
TAG = 16  # bytes
READ = 2**20  # bytes that are taken from a socket at once; redis-py's own 64 KiB take twice as long
LARGEST = CHUNK // 32 * CHUNK  # bytes of a content whose list of chunks is no longer than a chunk
TALK = 16 * 1024  # bytes of an answer beside its values: greetings, errors, lengths

_log = logging.getLogger(__name__)


# What Redis may answer


class _Allowance:
    """How many bytes and how much time are left to the answers of one request."""

    def __init__(self, left: int, seconds: float) -> None:
        self._left = left
        self._deadline = time.monotonic() + seconds

    def take(self, count: int) -> None:
        """Raises: OSError, of which redis-py closes the connection."""
        self._left -= count
        if self._left < 0:
            raise OSError("Redis answers more than it was asked for")

    def seconds(self) -> float:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("Redis did not answer in time")
        return seconds


_allowance: ContextVar[_Allowance | None] = ContextVar("pydb.cache", default=None)


@contextmanager
def _allowed(request: Fetch | Keep, seconds: float) -> Iterator[None]:
    values = len(request.names) if isinstance(request, Fetch) else 0
    before = _allowance.set(_Allowance(values * (NONCE + CHUNK + TAG) + TALK, seconds))
    try:
        yield
    finally:
        _allowance.reset(before)


class _Socket:
    """A socket that keeps to the allowance: redis-py takes any length it is told, and waits again for each piece."""

    def __init__(self, plain: socket.socket) -> None:
        self._socket = plain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    @contextmanager
    def _timed(self) -> Iterator[_Allowance | None]:
        allowance = _allowance.get()
        if allowance is None:
            yield None
            return
        usual = self._socket.gettimeout()
        seconds = allowance.seconds()
        self._socket.settimeout(seconds if usual is None else min(usual, seconds))
        try:
            yield allowance
        finally:
            self._socket.settimeout(usual)

    def recv(self, *arguments: Any) -> bytes:
        with self._timed() as allowance:
            data = self._socket.recv(*arguments)
        if allowance is not None:
            allowance.take(len(data))
        return data

    def recv_into(self, *arguments: Any) -> int:
        with self._timed() as allowance:
            count = self._socket.recv_into(*arguments)
        if allowance is not None:
            allowance.take(count)
        return count

    def sendall(self, *arguments: Any) -> None:
        with self._timed():
            self._socket.sendall(*arguments)


class _Reader:
    """A stream that keeps to the allowance of bytes; the time is kept around it."""

    def __init__(self, plain: asyncio.StreamReader) -> None:
        self._reader = plain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def read(self, count: int = -1) -> bytes:
        return self._taken(await self._reader.read(count if count > 0 else READ))

    async def readexactly(self, count: int) -> bytes:
        if (allowance := _allowance.get()) is not None:
            allowance.take(count)
        return await self._reader.readexactly(count)

    async def readline(self) -> bytes:
        return self._taken(await self._reader.readline())

    @staticmethod
    def _taken(data: bytes) -> bytes:
        if (allowance := _allowance.get()) is not None:
            allowance.take(len(data))
        return data


class _Bounded:
    """Before a kind of connection of redis-py's, it puts a _Socket under it."""

    socket_connect_timeout: float | None

    def _connect(self) -> Any:
        allowance, usual = _allowance.get(), self.socket_connect_timeout
        if allowance is not None:
            self.socket_connect_timeout = min(usual or allowance.seconds(), allowance.seconds())
        try:
            # The method of the kind that this is put before: see _bounded().
            return _Socket(super()._connect())  # type: ignore[misc]
        finally:
            self.socket_connect_timeout = usual


class _AsyncBounded:
    """Before a kind of asynchronous connection of redis-py's, it puts a _Reader under it."""

    _reader: Any

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[misc]  # as above
        self._reader = _Reader(self._reader)


@functools.cache
def _bounded(kind: type, bounds: type) -> type:
    return type(f"Bounded{kind.__name__}", (bounds, kind), {})


def _pool(client: Any, kind: Any, pool: Any, bounds: type) -> Any:
    """A pool of bounded connections, which are otherwise as the client's, but answer in bytes.

    Raises: ValueError for something else than such a client.
    """
    if not isinstance(client, kind):
        raise ValueError(f"The client has to be a {kind.__module__.removesuffix('.client')}.Redis.")
    theirs = client.connection_pool
    options = {**theirs.connection_kwargs, "decode_responses": False}
    return pool(
        connection_class=_bounded(theirs.connection_class, bounds), max_connections=theirs.max_connections, **options
    )


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache did so far, in values: one for each chunk of 1 MiB, and one for each larger content's list of them.

    hits: that opened. misses: that were not there, or not asked for while Redis is left alone. rejects: that did not
    open. errors: requests that failed or took too long. paused: Redis is left alone just now.
    """

    hits: int
    misses: int
    rejects: int
    errors: int
    paused: bool


class _Sealed:
    """What the cache has of one content. See pydb.artifact.CachedContent."""

    def __init__(self, cache: _Cache, opened: Opened, cache_key: bytes) -> None:
        self._cache = cache
        self._key = cache_key
        self._seal = AESGCM(HKDF(SHA256(), 32, salt=None, info=b"tenant-ai-storage cache values").derive(cache_key))
        self._sha256 = bytes.fromhex(opened.sha256)
        self._count = -(-opened.size_bytes // CHUNK)
        # A content of one chunk has its sha256.
        self.chunks: list[bytes] | None = [self._sha256] if self._count == 1 else None

    def find(self) -> Steps[None]:
        """Look for the list of the content's chunks."""
        if self.chunks is not None:
            return
        claim = b"chunks " + self._sha256
        (listed,) = self._open([claim], (yield Fetch([self._name(claim)])))
        # It proves itself: the sha256 of a content of many chunks is that of this list.
        if listed is not None and len(listed) == 32 * self._count and sha256(listed).digest() == self._sha256:
            self.chunks = [listed[at : at + 32] for at in range(0, len(listed), 32)]

    def read(self, first: int, count: int) -> Steps[list[bytes] | None]:
        assert self.chunks is not None
        claims = [b"chunk " + digest for digest in self.chunks[first : first + count]]
        opened = self._open(claims, (yield Fetch([self._name(claim) for claim in claims])))
        chunks = [chunk for chunk in opened if chunk is not None]
        return chunks if len(chunks) == count else None

    def keep(self, digests: list[bytes], chunks: list[bytes]) -> Steps[None]:
        claims = [b"chunk " + digest for digest in digests]
        sealed = {self._name(claim): self._sealed(claim, chunk) for claim, chunk in zip(claims, chunks, strict=True)}
        yield Keep(sealed)

    def finish(self, digests: list[bytes]) -> Steps[None]:
        if self._count > 1:
            claim = b"chunks " + self._sha256
            yield Keep({self._name(claim): self._sealed(claim, b"".join(digests))})

    def _name(self, claim: bytes) -> str:
        return f"pydb:{hmac.new(self._key, claim, sha256).hexdigest()}"

    def _sealed(self, claim: bytes, value: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._seal.encrypt(nonce, value, claim)

    def _open(self, claims: list[bytes], values: list[Any]) -> list[bytes | None]:
        """The values that were sealed as what is claimed, None for the others."""
        opened: list[bytes | None] = []
        rejects = 0
        for claim, value in zip(claims, values, strict=True):
            opened.append(None)
            if value is None:
                continue
            try:
                if not isinstance(value, bytes) or len(value) < NONCE + TAG:
                    raise InvalidTag
                opened[-1] = self._seal.decrypt(value[:NONCE], memoryview(value)[NONCE:], claim)
            except InvalidTag:
                rejects += 1
        misses = values.count(None)
        self._cache._count(hits=len(values) - misses - rejects, misses=misses, rejects=rejects)
        return opened


class _Cache:
    """What Cache and AsyncCache have in common: all but the waiting for Redis."""

    def __init__(self, *, ttl: timedelta, min_bytes: int, timeout: float, failures: int, pause: float) -> None:
        self._ttl = max(1, round(ttl.total_seconds()))
        self._min_bytes = min_bytes
        self._timeout = timeout
        self._failures = failures
        self._pause = pause
        self._lock = threading.Lock()
        self._counts = {"hits": 0, "misses": 0, "rejects": 0, "errors": 0}
        self._failed = 0  # requests, one after the other
        self._paused_until = 0.0  # seconds of time.monotonic

    def stats(self) -> CacheStats:
        """What it did so far, since this object was made."""
        with self._lock:
            return CacheStats(**self._counts, paused=time.monotonic() < self._paused_until)

    def content(self, opened: Opened) -> Steps[_Sealed | None]:
        """See pydb.artifact.ContentCache. A tenant that never wrote has no cache key."""
        if opened.cache_key is None or not self._min_bytes <= opened.size_bytes <= LARGEST:
            return None
        sealed = _Sealed(self, opened, opened.cache_key)
        yield from sealed.find()
        return sealed

    def _count(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                self._counts[name] += count

    def _paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def _note(self, failure: str | None) -> None:
        """Leave Redis alone for a while after some failures in a row; then one more is enough."""
        with self._lock:
            self._counts["errors"] += failure is not None
            self._failed = 0 if failure is None else self._failed + 1
            pauses = self._failed >= self._failures
            if pauses:
                self._paused_until = time.monotonic() + self._pause
        if pauses:
            _log.warning("Redis is left alone for %g seconds: %s", self._pause, failure)

    def _fill(self, pipeline: Any, request: Fetch | Keep) -> Any:
        """One command for each value; so they come twice as fast as by MGET."""
        if isinstance(request, Fetch):
            for name in request.names:
                pipeline.get(name)
        else:
            for name, value in request.values.items():
                pipeline.set(name, value, ex=self._ttl)
        return pipeline

    def _answer(self, request: Fetch | Keep, answer: Any) -> list[Any]:
        """One value for each name, whatever was answered."""
        names = request.names if isinstance(request, Fetch) else []
        return answer if isinstance(answer, list) and len(answer) == len(names) else [None] * len(names)


class Cache(_Cache):
    """Carries bytes for a TenantAwareStorage. Threads and storages, of all tenants, may share one.

    client: a redis.Redis that does not try again. The cache opens connections of its own like the client's, but they
    answer in bytes and take no more than was asked for. ttl: how long Redis keeps a value. min_bytes: smaller contents
    are not cached, and none above 32 GiB. timeout: seconds to wait for Redis. failures: so many in a row, and Redis is
    left alone for pause seconds.
    Raises: ValueError for another kind of client.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        ttl: timedelta = timedelta(days=1),
        min_bytes: int = 16 * 1024,
        timeout: float = 0.5,
        failures: int = 3,
        pause: float = 30,
    ) -> None:
        super().__init__(ttl=ttl, min_bytes=min_bytes, timeout=timeout, failures=failures, pause=pause)
        self._redis = redis.Redis.from_pool(_pool(client, redis.Redis, redis.ConnectionPool, _Bounded))

    @classmethod
    def from_url(cls, url: str, *, timeout: float = 0.5, **options: Any) -> Self:
        """Connect when first needed. url: redis://, rediss:// or unix://. options: those of the class."""
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            socket_read_size=READ,
            retry=Retry(NoBackoff(), 0),
        )
        return cls(client, timeout=timeout, **options)

    def run(self, request: Fetch | Keep) -> list[Any]:
        """Ask Redis, or have it keep something."""
        answer = None
        if not self._paused():
            began = time.monotonic()
            try:
                with _allowed(request, self._timeout):
                    answer = self._fill(self._redis.pipeline(transaction=False), request).execute(raise_on_error=False)
                self._note("too slow" if time.monotonic() - began > self._timeout else None)
            except Exception as error:  # noqa: BLE001  # nobody knows what garbage from a socket makes a client raise
                self._note(type(error).__name__)
        return self._answer(request, answer)

    def close(self) -> None:
        """Close the connections to Redis."""
        self._redis.close()


class AsyncCache(_Cache):
    """Cache for an AsyncTenantAwareStorage, in one event loop."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        *,
        ttl: timedelta = timedelta(days=1),
        min_bytes: int = 16 * 1024,
        timeout: float = 0.5,
        failures: int = 3,
        pause: float = 30,
    ) -> None:
        super().__init__(ttl=ttl, min_bytes=min_bytes, timeout=timeout, failures=failures, pause=pause)
        pool = _pool(client, redis.asyncio.Redis, redis.asyncio.ConnectionPool, _AsyncBounded)
        self._redis = redis.asyncio.Redis.from_pool(pool)

    @classmethod
    def from_url(cls, url: str, *, timeout: float = 0.5, **options: Any) -> Self:
        """Connect when first needed. url: redis://, rediss:// or unix://. options: those of the class."""
        client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            socket_read_size=READ,
            retry=AsyncRetry(NoBackoff(), 0),
        )
        return cls(client, timeout=timeout, **options)

    async def run(self, request: Fetch | Keep) -> list[Any]:
        """Ask Redis, or have it keep something."""
        answer = None
        if not self._paused():
            try:
                with _allowed(request, self._timeout):
                    async with asyncio.timeout(self._timeout):
                        answer = await self._fill(self._redis.pipeline(transaction=False), request).execute(
                            raise_on_error=False
                        )
                self._note(None)
            except Exception as error:  # noqa: BLE001  # nobody knows what garbage from a socket makes a client raise
                self._note(type(error).__name__)
        return self._answer(request, answer)

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._redis.aclose()
