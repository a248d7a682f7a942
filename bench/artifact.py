"""Reading artifacts, from the database alone and by way of Redis, beside the same bytes in a bare table.

Contenders have a connection each, and take turns read by read in an order drawn anew each round, so whatever else the
machine does hits all of them alike. Ratios are made within a round and only then reduced to their median.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from typing import Any

import psycopg

from bench.clients import on_cpu
from bench.server import add_major, describe, end_well, install, named, running_server, table
from pydb import TenantAwareStorage, artifact, calls, session
from pydb.cache import Cache
from tests.redis_server import RedisServer

MIB = 2**20
SIZES = {1: 8, 10: 2, 100: 0.3}  # MiB -> share of the rounds
DEFAULT_ROUNDS = 40
KEY = "bench:s1:p:production:c1"

BARE = """
    create table public.bare (name text primary key, content bytea not null);
    alter table public.bare alter content set storage external;
    grant select on public.bare to bench_app;
"""

Read = Callable[[str], object]
#: A read, and the server processes that work for it.
Contender = tuple[Read, list[int]]


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer(most_bytes=1024 * MIB)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def cpu(pids: Sequence[int]) -> float:
    """Milliseconds of processor time that this thread and some processes have used. Not a number but on Linux."""
    taken = on_cpu(pids)
    return math.nan if taken is None else taken / 1000 + time.thread_time() * 1000


def contenders(app_dsn: str, cache: Cache, redis_pid: int, stack: ExitStack) -> dict[str, Contender]:
    """What reads an artifact of the name of its size, each on a connection of its own."""

    def connect() -> psycopg.Connection[Any]:
        return stack.enter_context(psycopg.connect(app_dsn, autocommit=True))

    bare, hashed, value = connect(), connect(), connect()
    plain, cached = connect(), connect()
    database, hybrid = TenantAwareStorage(plain, KEY), TenantAwareStorage(cached, KEY, cache=cache)

    def select(connection: psycopg.Connection[Any], name: str) -> bytes:
        query = "select content from public.bare where name = %s"
        (content,) = connection.execute(query, (name,), binary=True).fetchone() or (b"",)
        return bytes(content)

    def of(connection: psycopg.Connection[Any], *more: int) -> list[int]:
        return [connection.info.backend_pid, *more]

    return {
        "bare select": (lambda name: select(bare, name), of(bare)),
        "bare select + sha256": (lambda name: sha256(select(hashed, name)).digest(), of(hashed)),
        "database": (lambda name: database.get_artifact("m", name), of(plain)),
        "hybrid": (lambda name: hybrid.get_artifact("m", name), of(cached, redis_pid)),
        "SQL get_artifact()": (lambda name: session.run(value, calls.get_artifact("m", name), KEY), of(value)),
    }


def measure(major: int, rounds: int, part: int) -> str:
    artifact.PART = part * MIB
    draw = random.Random(1)
    with running_server(major) as cluster, redis_server() as redis, ExitStack() as stack:
        dsn, app_dsn = install(cluster, "artifact")
        cache = Cache.from_url(redis.url, timeout=5)
        readers = contenders(app_dsn, cache, redis.pid, stack)
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute(BARE)
            app = stack.enter_context(psycopg.connect(app_dsn, autocommit=True))
            writer = TenantAwareStorage(app, KEY)
            writer.save_ai_progress("m", 0.5)
            for size in SIZES:
                content = draw.randbytes(size * MIB)
                admin.execute("insert into public.bare values (%s, %s)", (str(size), content))
                writer.put_artifact("m", str(size), content)
                for read, _ in readers.values():
                    read(str(size))
            admin.execute("vacuum analyze")
            admin.execute("checkpoint")
        lines = [named(*describe(dsn)[:2])]
        lines.append(f"parts of {part} MiB; PostgreSQL and Redis on Unix sockets; medians of interleaved reads")
        for size, share in SIZES.items():
            count = max(3, round(rounds * share))
            taken: dict[str, list[float]] = {name: [] for name in readers}
            worked: dict[str, list[float]] = {name: [] for name in readers}
            for _ in range(count):
                for name in draw.sample(list(readers), len(readers)):
                    read, pids = readers[name]
                    began, before = time.perf_counter(), cpu(pids)
                    read(str(size))
                    taken[name].append((time.perf_counter() - began) * 1000)
                    worked[name].append(cpu(pids) - before)

            def ratio(over: str, name: str, taken: dict[str, list[float]] = taken) -> str:
                return f"{statistics.median(a / b for a, b in zip(taken[over], taken[name], strict=True)):.2f}"

            rows = [
                (
                    name,
                    f"{statistics.median(times):.1f}",
                    f"{min(times):.1f}",
                    f"{max(times):.1f}",
                    f"{statistics.median(worked[name]):.1f}",
                    ratio("bare select", name),
                    ratio("database", name),
                )
                for name, times in taken.items()
            ]
            header = ("reader", "median", "min", "max", "cpu", "x bare", "x database")
            lines += [
                "",
                f"{size} MiB, {count} reads each (ms; cpu: of both ends; ratios: times faster)",
                *table(header, rows),
            ]
        lines += ["", str(cache.stats())]
        cache.close()
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.artifact",
        description="Measure reading artifacts of 1, 10 and 100 MiB from the database and by way of Redis, beside the "
        "same bytes in a bare table. Starts a PostgreSQL and a Redis of its own and removes them in the end.",
    )
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS, help="how long it goes on (default: %(default)s)")
    parser.add_argument("--part", type=int, default=artifact.PART // MIB, help="MiB in a call (default: %(default)s)")
    add_major(parser)
    options = parser.parse_args(arguments)
    return end_well(lambda: print(measure(options.pg, options.rounds, options.part)))


if __name__ == "__main__":
    sys.exit(main())
