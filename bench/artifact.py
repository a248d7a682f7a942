"""Reading artifacts, from the database alone and by way of Redis, beside the same bytes in a bare table.

Contenders have a connection each, and take turns read by read in an order drawn anew each round, so whatever else the
machine does hits all of them alike. Ratios are made within a round and only then reduced to their median.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from bench.server import LOGIN, describe, running_server, table
from pydb import TenantAwareStorage, artifact, calls, migrate, session
from pydb.cache import Cache
from tests import servers
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
    """Milliseconds of processor time that this thread and some processes have used. Linux tells those of others."""
    taken = [int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6 for pid in pids]
    return sum(taken, time.thread_time() * 1000)


def contenders(dsn: str, cache: Cache, redis_pid: int, stack: ExitStack) -> dict[str, Contender]:
    """What reads an artifact of the name of its size, each on a connection of its own."""

    def connect() -> psycopg.Connection[Any]:
        return stack.enter_context(psycopg.connect(make_conninfo(dsn, user=LOGIN), autocommit=True))

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
        with psycopg.connect(cluster.url(), autocommit=True) as connection:
            connection.execute("create database artifact")
        dsn = cluster.url("artifact")
        migrate.init(dsn, app_login=LOGIN)
        cache = Cache.from_url(redis.url, timeout=5)
        readers = contenders(dsn, cache, redis.pid, stack)
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute(BARE)
            app = stack.enter_context(psycopg.connect(make_conninfo(dsn, user=LOGIN), autocommit=True))
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
        lines = [" | ".join(f"{name} {value}" for part_ in describe(dsn)[:2] for name, value in part_.items())]
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
    parser.add_argument(
        "--pg",
        type=int,
        choices=(15, 16, 17, 18),
        default=18,
        help="major version of PostgreSQL (default: %(default)s)",
    )
    options = parser.parse_args(arguments)

    # A polite kill has to remove the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print(measure(options.pg, options.rounds, options.part))
    except servers.NoServer as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
