"""Storage type hybrid: Redis carries the bytes of artifacts, PostgreSQL says in every call whose and which they are.

Redis keeps chunks by what they are, so nothing there is ever out of date. A chunk's name shows nothing: it is an HMAC
of its sha256 under the tenant's cache key. Its value is sealed with AES-256-GCM under a key derived from that one, and
bound to the sha256. Only the database gives the cache key, with each answer about an artifact. What does not open is
read from the database and written again: a Redis that is down, slow or lying makes reads slower, not wrong.

Needs the extra hybrid. Nothing else in pydb imports this module.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import threading
import time
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
        if opened.cache_key is None or opened.size_bytes < self._min_bytes:
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

    def _note(self, failed: bool) -> None:
        """Leave Redis alone for a while after some failures in a row; then one more is enough."""
        with self._lock:
            self._counts["errors"] += failed
            self._failed = self._failed + 1 if failed else 0
            if self._failed >= self._failures:
                self._paused_until = time.monotonic() + self._pause

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

    client: a connection to Redis that answers in bytes and does not try again. ttl: how long Redis keeps a value.
    min_bytes: smaller contents are not cached. timeout: seconds to wait for Redis. failures: so many in a row, and
    Redis is left alone for pause seconds.
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
        self._redis = client

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
                answer = self._fill(self._redis.pipeline(transaction=False), request).execute(raise_on_error=False)
                self._note(time.monotonic() - began > self._timeout)
            except Exception:  # noqa: BLE001  # nobody knows what garbage from a socket makes a client raise
                self._note(True)
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
        self._redis = client

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
                async with asyncio.timeout(self._timeout):
                    answer = await self._fill(self._redis.pipeline(transaction=False), request).execute(
                        raise_on_error=False
                    )
                self._note(False)
            except Exception:  # noqa: BLE001  # nobody knows what garbage from a socket makes a client raise
                self._note(True)
        return self._answer(request, answer)

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._redis.aclose()
