"""What /metrics tells: the requests, their errors, the pool, the cache, and if asked for the whole database.

No path, header or body becomes a label: they are the tenants'.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

import psycopg
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg_pool import AsyncConnectionPool

from pydb import StorageError, aio, calls, environment, metrics
from pydb.web import ASGIApp, Message, Receive, Send
from pydb.web import Scope as ASGIScope

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
# Of psycopg_pool's statistics.
POOL_GAUGES = ("pool_max", "pool_size", "pool_available", "requests_waiting")
POOL_COUNTERS = (
    *("requests_num", "requests_queued", "requests_errors", "requests_wait_ms", "usage_ms"),
    *("connections_num", "connections_errors", "connections_lost", "returns_bad"),
)
CACHE_COUNTERS = ("hits", "misses", "rejects", "errors")
AGE = 10  # s that the operator's metrics are told again before the database is asked anew


class Requests:
    """Counts requests by method, route and status, and what the database refused by the class of its SQLSTATE."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self.app = app
        labels = ("method", "route")
        self.requests = Counter("http_requests", "Requests answered", (*labels, "status"), registry=registry)
        self.seconds = Histogram("http_request_seconds", "Time to answer, in seconds", labels, registry=registry)
        self.errors = Counter(
            "storage_errors",
            "Requests that the database refused or failed, by the first two characters of the SQLSTATE",
            ("sqlstate_class",),
            registry=registry,
        )

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, sqlstate = time.perf_counter(), 500, None
        is_problem = False

        async def watched(message: Message) -> None:
            nonlocal status, sqlstate, is_problem
            if message["type"] == "http.response.start":
                status = message["status"]
                is_problem = (b"content-type", b"application/problem+json") in message.get("headers", ())
            elif is_problem and message.get("body"):
                # Of pydb.web or of this application, and then in one piece. Without a connection there is no code.
                told = json.loads(message["body"])
                sqlstate = told.get("code", "none" if told["title"] == "Service Unavailable" else None)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            sqlstate = getattr(error, "sqlstate", None)
            raise
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = getattr(scope.get("route"), "path", "none")
            self.requests.labels(method, route, status).inc()
            self.seconds.labels(method, route).observe(time.perf_counter() - began)
            if sqlstate:
                self.errors.labels("none" if sqlstate == "none" else sqlstate[:2]).inc()


class Resources(Collector):
    """The statistics of the pool, which are 0 over cells, and of the caches of storage type hybrid."""

    def __init__(self, pool: AsyncConnectionPool[Any] | None) -> None:
        self.pool = pool

    def collect(self) -> Iterable[Metric]:
        stats = self.pool.get_stats() if self.pool else {}
        for name in POOL_GAUGES:
            named = f"psycopg_pool_{name.removeprefix('pool_')}"
            yield GaugeMetricFamily(named, "See get_stats of psycopg_pool", stats.get(name, 0))
        for name in POOL_COUNTERS:
            yield CounterMetricFamily(f"psycopg_pool_{name}", "See get_stats of psycopg_pool", stats.get(name, 0))
        caches = environment.shared_cache_stats()
        for name in CACHE_COUNTERS:
            total = sum(getattr(cache, name) for cache in caches)
            yield CounterMetricFamily(f"storage_cache_{name}", "See CacheStats of pydb.cache", total)
        paused = any(cache.paused for cache in caches)
        yield GaugeMetricFamily("storage_cache_paused", "Whether Redis is left alone just now", paused)


class Operators:
    """The operator's metrics, as a login that may call ai_storage.metrics(); ai_storage_up is 0 when it failed.

    Anybody may ask, so the database is asked by one at a time, AGE seconds after the last answer at the earliest. It
    answers soon or not at all: a migration, or `pydb erase --rewrite`, holds the tables for as long as it takes.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = asyncio.Lock()
        self._text = ""
        self._until = 0.0

    async def text(self) -> str:
        async with self._lock:
            if time.monotonic() >= self._until:
                self._text = await self._ask()
                self._until = time.monotonic() + AGE
            return self._text

    async def _ask(self) -> str:
        found = ""
        try:
            async with (
                asyncio.timeout(8),  # s; where not even the limits of libpq and the server help. Prometheus waits 10 s.
                await psycopg.AsyncConnection.connect(
                    self._dsn,
                    autocommit=True,
                    connect_timeout=3,
                    options="-c statement_timeout=5s -c lock_timeout=1s",
                ) as connection,
            ):
                rows = await aio.run(connection, calls.metrics())
                found = metrics.render(rows)
        except (psycopg.Error, StorageError, TimeoutError):
            pass  # what it says may hold the DSN; the server's log has the reason
        up = "# HELP ai_storage_up Whether the database told its metrics.\n# TYPE ai_storage_up gauge\nai_storage_up"
        return f"{up} {1 if found else 0}\n{found}"


async def text(registry: CollectorRegistry, operators: Operators | None) -> str:
    """The page. operators: None leaves out the operator's metrics."""
    # The application's own are those of the moment when all is there.
    told = await operators.text() if operators else ""
    return generate_latest(registry).decode() + told
