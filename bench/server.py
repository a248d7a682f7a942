"""What all benchmarks share: a durable PostgreSQL of their own, what is said about the machine, figures as text, and
the command that runs them."""

from __future__ import annotations

import argparse
import math
import os
import platform
import secrets
import shutil
import signal
import socket
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

import pydb
from pydb import migrate
from pydb.embedded import Cluster
from tests import servers

LOGIN = "bench_app"

# Durability is PostgreSQL's default and said here, since every figure depends on it. The rest keeps a checkpoint from
# falling into some contender's slice.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "max_connections": "100",
}
SHOWN_SETTINGS = (*SETTINGS, "wal_sync_method", "wal_level", "autovacuum", "jit", "data_checksums")


@contextmanager
def running_server(major: int, settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A durable server of its own, on a Unix socket, that leaves nothing behind. settings: beside or instead of ours.

    Who measures with other settings than it fills with stops it and starts it again.
    """
    bin_dir = servers.bin_dir(major)
    # Open to pass through: started by root, the server runs as another user who has to reach its data.
    folder = Path(tempfile.mkdtemp(prefix="pydb-bench-"))
    os.chmod(folder, 0o711)
    cluster = Cluster(data_dir=folder / "data", bin_dir=bin_dir)
    try:
        # Over TCP nobody comes in without a password: other users of the machine reach that port too.
        cluster.start({**SETTINGS, **(settings or {})}, initdb_options=("--auth-host=scram-sha-256",))
        yield cluster
    finally:
        try:
            cluster.stop("immediate")
        finally:
            shutil.rmtree(folder)


def create_database(cluster: Cluster, name: str, owner: str = "postgres") -> str:
    """Returns: the superuser's DSN."""
    with psycopg.connect(cluster.url(), autocommit=True) as connection:
        connection.execute(SQL("create database {} owner {}").format(Identifier(name), Identifier(owner)))
    return cluster.url(name)


def install(cluster: Cluster, name: str, *, pattern: str = "*:*:*:*:*", token_only: bool = False) -> tuple[str, str]:
    """A database with pydb in it. pattern, token_only: of the application's login, see migrate.init.

    Returns: the superuser's and the application's DSN.
    """
    dsn = create_database(cluster, name)
    migrate.init(dsn, app_login=LOGIN, pattern=pattern, token_only=token_only)
    return dsn, make_conninfo(dsn, user=LOGIN)


def free_port() -> int:
    """A TCP port of the loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def new_password() -> str:
    return secrets.token_urlsafe(24)


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe(dsn: str, shown: Iterable[str] = SHOWN_SETTINGS) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Machine, versions and settings. shown: names of these."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        settings: dict[str, str] = dict(
            connection.execute(
                "select name, current_setting(name) from pg_settings where name = any(%s) order by name",
                (list(shown),),
            ).fetchall()
        )
        server = connection.info.parameter_status("server_version") or "unknown"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = {
        "cpu": cpu_name(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        # The kernel's version alone: what follows is a name of those who built it.
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
    }
    versions = {
        "PostgreSQL": server,
        "psycopg": f"{psycopg.__version__} ({psycopg.pq.__impl__})",
        "pydb": pydb.__version__,
        "Python": platform.python_version(),
    }
    return machine, versions, settings


def named(*parts: Mapping[str, str]) -> str:
    """Names and values in one line."""
    return " | ".join(f"{name} {value}" for part in parts for name, value in part.items())


def assigned(settings: Mapping[str, str]) -> str:
    """Settings in one line."""
    return " ".join(f"{name}={value}" for name, value in settings.items())


def p99(values: Iterable[float]) -> float:
    """The smallest of the values that at most one in a hundred is above."""
    ordered = sorted(values)
    return ordered[math.ceil(0.99 * len(ordered)) - 1]


def median_range(values: Iterable[float], form: str, *, tails: int = 0) -> tuple[str, str]:
    """Median and range, as text. tails: leave out of the range one in so many at either end."""
    ordered = sorted(values)
    cut = len(ordered) // tails if tails else 0
    low, high = ordered[cut], ordered[-cut - 1]
    return format(statistics.median(ordered), form), f"{low:{form}}-{high:{form}}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned columns: the first to the left, numbers to the right."""
    grid = [header, *rows]
    widths = [max(len(row[n]) for row in grid) for n in range(len(header))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in range(1, len(header)))]).rstrip()
        for row in grid
    ]


def run_rounds(
    prog: str,
    description: str,
    measure: Callable[[int, int], str],
    rounds: int,
    takes: str,
    arguments: Sequence[str] | None,
) -> int:
    """The command of a benchmark that takes rounds on one server and prints what measure(major, rounds) returns.

    takes: how long the default takes. Returns: the exit code.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default: %(default)s, {takes}")
    add_major(parser)
    options = parser.parse_args(arguments)
    return end_well(lambda: print(measure(options.pg, options.rounds)))


def add_major(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pg",
        type=int,
        choices=(15, 16, 17, 18),
        default=18,
        help="major version of PostgreSQL (default: %(default)s)",
    )


def end_well(run: Callable[[], object]) -> int:
    """Run what starts servers, so that they are removed however it ends. Returns: the exit code."""
    # A polite kill has to remove the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run()
    except servers.NoServer as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
