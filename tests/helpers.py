"""What several test files share: calls by name, refusals, dumps of the tables, and work that runs at the same time."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from tests.conftest import Database, Server

T = TypeVar("T")
Connection = psycopg.Connection[Any]


def key(
    org: str = "acme", server: str = "s1", project: str = "p1", environment: str = "production", code: str = "c1"
) -> str:
    """An isolation key."""
    return f"{org}:{server}:{project}:{environment}:{code}"


ACME = key()
ACME_2 = key(code="c2")
BETA = key("beta")

# All events, sealed or not.
EVENTS = "({}) as e".format(
    " union all ".join(
        "select event_id, action, login, credential, content_digest, salt from ai_storage_private." + table
        for table in ("audit_event", "audit_pending")
    )
)


def call(connection: Connection, function: str, /, **arguments: Any) -> list[Any]:
    """Call a function of the API. mse=1 is sent as p_mse, as_=KEY as p_as; dicts and lists are sent as jsonb."""
    query = sql.SQL("select * from ai_storage.{}({})").format(
        sql.Identifier(function),
        sql.SQL(", ").join(
            sql.SQL("{} => {}").format(sql.Identifier("p_" + name.rstrip("_")), sql.Placeholder()) for name in arguments
        ),
    )
    values = [Jsonb(value) if isinstance(value, dict | list) else value for value in arguments.values()]
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return cursor.execute(query, values).fetchall()


def dsns(east: Database, west: Database) -> dict[str, str]:
    """Two cells for pydb.Cells."""
    return {"east": east.dsn("app"), "west": west.dsn("app")}


def value(connection: Connection, function: str, /, **arguments: Any) -> Any:
    """The only value a function of the API returns."""
    ((result,),) = call(connection, function, **arguments)
    return result


def save(connection: Connection, name: str, mse: float | None = 1.0, /, **arguments: Any) -> Any:
    """Save one model and return the answer's row."""
    (row,) = call(connection, "save_progress", model_name=name, mse=mse, **arguments)
    return row


def names(connection: Connection, **arguments: Any) -> list[str]:
    """The names of the models that load_progress returns."""
    return [row.model_name for row in call(connection, "load_progress", **arguments)]


def versions(connection: Connection, name: str, **arguments: Any) -> list[int]:
    """The versions that load_history returns, the newest first."""
    rows = call(connection, "load_history", model_name=name, limit=None, **arguments)
    return [row.version for row in rows]


@contextmanager
def refused(sqlstate: str, *, hint: bool = True) -> Iterator[pytest.ExceptionInfo[psycopg.Error]]:
    """The block ends in an error of this SQLSTATE, which says what to do about it."""
    with pytest.raises(psycopg.Error) as caught:
        yield caught
    assert caught.value.sqlstate == sqlstate, caught.value
    if hint:
        assert caught.value.diag.message_hint, f"no HINT: {caught.value}"


def dump(database: Database) -> dict[str, list[str]]:
    """Every row of every private table as text, read as superuser."""
    with psycopg.connect(database.dsn()) as connection:
        tables = connection.execute(
            "select c.relname from pg_class as c where c.relnamespace = 'ai_storage_private'::regnamespace "
            "and c.relkind in ('r', 'p') order by 1"
        ).fetchall()
        return {
            table: [
                row[0]
                for row in connection.execute(
                    sql.SQL("select t::text from ai_storage_private.{} as t order by 1").format(sql.Identifier(table))
                )
            ]
            for (table,) in tables
        }


@contextmanager
def unchanged(database: Database, *but: str) -> Iterator[None]:
    """The block leaves every private table as it was, but for those named."""
    before = {table: rows for table, rows in dump(database).items() if table not in but}
    yield
    assert {table: rows for table, rows in dump(database).items() if table not in but} == before


def everything_said(error: psycopg.Error) -> str:
    """All the text of an error, in every field the server sends."""
    fields = [getattr(error.diag, name) for name in dir(error.diag) if not name.startswith("_")]
    return "\n".join([str(error), *(field for field in fields if isinstance(field, str))])


def client(server: Server, program: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program that came with the server."""
    bin_dir = server.cluster.bin_dir
    libraries = bin_dir.parent / "lib"
    environment = {"LC_ALL": "C"}
    if (libraries / "libpq.so.5").exists():
        environment["LD_LIBRARY_PATH"] = str(libraries)
    command = [bin_dir / program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, **{"check": True, **options})


def together(workers: Sequence[Callable[[], T]]) -> list[T]:
    """Start all workers at the same moment and return their results in order. Raises the first error."""
    start = threading.Barrier(len(workers))

    def run(worker: Callable[[], T]) -> T:
        start.wait(60)
        return worker()

    with ThreadPoolExecutor(len(workers)) as pool:
        return [future.result() for future in [pool.submit(run, worker) for worker in workers]]


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait for something that sends no event."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.002)


def sleep_past(end: float) -> str:
    """A call in SQL that waits until a moment, in seconds since 1970, is over by the server's clock."""
    return f"pg_sleep(greatest(0, {end} - extract(epoch from clock_timestamp())) + 0.05)"


@contextmanager
def blocked(watcher: Connection, connection: Connection, work: Callable[[], T]) -> Iterator[Future[T]]:
    """Run work on a connection in a thread; the block begins when it waits for another transaction's lock.

    The block has to free the lock. watcher: another connection, to look at the first.
    """
    pid = connection.info.backend_pid
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        until(
            lambda: (
                future.done()
                or watcher.execute("select cardinality(pg_blocking_pids(%s)) > 0", (pid,)).fetchone() == (True,)
            ),
            "a lock wait",
        )
        assert not future.done(), "was to wait for a lock"
        yield future
