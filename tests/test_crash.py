"""Kills at bad moments: what was acknowledged is still there, and what was interrupted never happened."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pydb import migrate
from pydb.migrate import MigrationError, Schema
from tests.conftest import Database, Server, install
from tests.helpers import (
    ACME,
    BETA,
    Connection,
    blocked,
    call,
    key,
    names,
    refused,
    save,
    together,
    unchanged,
    until,
    versions,
)

# A process of its own that says when it is about to begin.
CHILD = """
import sys
from pydb import migrate
print("ready", flush=True)
migrate.init(sys.argv[1])
"""
RANDOM = random.Random()


def kill_server(server: Server) -> None:
    """Kill the postmaster alone; its children notice by themselves, as after an out-of-memory kill."""
    pid = server.cluster.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


@contextmanager
def new_database(server: Server, name: str) -> Iterator[Database]:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    with ExitStack() as stack:
        yield Database(server, name, stack)


def assert_works(database: Database) -> None:
    """The schema is complete: nothing is pending, and two tenants save, load and stay apart."""
    assert {file.state for file in migrate.status(database.dsn())} == {"applied"}
    assert migrate.migrate(database.dsn()) == []
    migrate.init(database.dsn(), app_login="crash_app", pattern="acme:*:*:*:*")
    app = database.connect("crash_app")
    given = save(app, "after the crash", as_=ACME).version
    assert versions(app, "after the crash", as_=ACME)[0] == given
    with refused("TN003"):
        names(app, as_=BETA)
    with refused("42501", hint=False):
        app.execute("select * from ai_storage_private.tenant")
    app.close()


def objects(database: Database) -> list[str]:
    """What the package made in a database."""
    with psycopg.connect(database.dsn()) as connection:
        rows = connection.execute(
            "select relname::text from pg_class where relnamespace in "
            "(select oid from pg_namespace where nspname like 'ai\\_storage%') union all "
            "select proname::text from pg_proc where pronamespace in "
            "(select oid from pg_namespace where nspname like 'ai\\_storage%') order by 1"
        ).fetchall()
    return [row[0] for row in rows]


def create_roles(connection: Connection) -> None:
    """As pydb init does."""
    connection.execute(Schema().read("deploy/roles.sql"))


def start_child(database: Database) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, database.dsn()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


# The server is killed while it saves ----------------------------------------------------------------------------------


Acknowledged = list[tuple[int, float]]


def save_until_the_server_dies(
    connection: Connection, name: str, number: int, acknowledged: Acknowledged, signal_one: Callable[[], None]
) -> None:
    """Save again and again, every third worker together with a second model, and note what was acknowledged."""
    with suppress(psycopg.OperationalError):
        for step in count():
            mse = number + step / 1000
            if number % 3:
                version = save(connection, name, mse, as_=ACME).version
            else:
                with connection.transaction():
                    version = save(connection, name, mse, as_=ACME).version
                    save(connection, f"twin of {name}", mse, as_=ACME)
            acknowledged.append((version, mse))
            signal_one()


def test_every_acknowledged_save_survives_a_kill_of_the_server(own_server: Server) -> None:
    with new_database(own_server, "crash") as database:
        install(database.dsn())
        for round_ in range(2):
            # Two or three writers share each model, so that row locks are held when the server dies.
            writers = [(number, f"round {round_} model {number % 3}") for number in range(8)]
            acknowledged: dict[str, Acknowledged] = {name: [] for _, name in writers}
            enough = threading.Semaphore(0)
            with ThreadPoolExecutor(len(writers)) as pool:
                futures = [
                    pool.submit(
                        save_until_the_server_dies,
                        database.connect("app"),
                        name,
                        number,
                        acknowledged[name],
                        enough.release,
                    )
                    for number, name in writers
                ]
                for _ in range(RANDOM.randint(150, 300)):
                    assert enough.acquire(timeout=60)
                kill_server(own_server)
                for future in futures:
                    future.result()

            own_server.cluster.start()
            app = database.connect("app")
            everything: set[float] = set()
            for name, saved in acknowledged.items():
                history = call(app, "load_history", model_name=name, limit=None, as_=ACME)
                assert [row.version for row in history] == list(range(len(history), 0, -1))
                content = {row.version: row.mse for row in history}
                assert {version: content.get(version) for version, _ in saved} == dict(saved)
                # At most the saves on their way were committed without an answer.
                assert len(saved) <= len(history) <= len(saved) + len(writers)
                (row,) = call(app, "load_progress", model_name=name, as_=ACME)
                assert (row.version, row.mse) == (len(history), history[0].mse)
                assert save(app, name, as_=ACME).version == len(history) + 1
                everything |= set(content.values())
            # Both models of a transaction are there, or none.
            twins = {
                row.mse
                for name in names(app, limit=None, as_=ACME)
                if name.startswith(f"twin of round {round_}")
                for row in call(app, "load_history", model_name=name, limit=None, as_=ACME)
            }
            assert twins == {mse for mse in everything if int(mse) % 3 == 0}


# A migration is killed ------------------------------------------------------------------------------------------------


def test_a_migrating_process_killed_at_any_moment_leaves_nothing_that_stops_the_next(own_server: Server) -> None:
    with new_database(own_server, "whole") as database:
        child = start_child(database)
        started = time.monotonic()
        assert child.wait(60) == 0, child.stderr.read()
        whole = time.monotonic() - started
        complete = objects(database)
    killed = 0
    for round_ in range(6):
        with new_database(own_server, f"killed_{round_}") as database:
            child = start_child(database)
            try:
                child.wait(whole * (round_ + RANDOM.random()) / 6)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                killed += 1
            # either nothing of the migration is there, or all of it
            watcher = database.connect()
            until(
                lambda watcher=watcher: (
                    watcher.execute(
                        "select count(*) from pg_stat_activity where datname = current_database() "
                        "and pid <> pg_backend_pid() and backend_type = 'client backend'"
                    ).fetchone()
                    == (0,)
                ),
                "the end of the killed process's session",
            )
            assert objects(database) in ([], complete)
            migrate.init(database.dsn())
            assert objects(database) == complete
            assert_works(database)
    assert killed > 0


def test_a_server_killed_during_a_migration_migrates_after_its_restart(own_server: Server) -> None:
    for round_ in range(3):
        with new_database(own_server, f"killed_{round_}") as database:
            child = start_child(database)
            with suppress(subprocess.TimeoutExpired):
                child.wait(RANDOM.random() * 0.4)
            kill_server(own_server)
            child.wait(60)
            own_server.cluster.start()
            migrate.init(database.dsn())
            assert_works(database)


@pytest.fixture
def release(tmp_path: Path) -> Callable[[str, str], Schema]:
    """Makes a release with one file more than this one."""

    def make(path: str, text: str) -> Schema:
        here, root = Schema().root, tmp_path / re.sub(r"\W", "_", path)
        for folder in ("migrations", "sql", "deploy"):
            shutil.copytree(here / folder, root / folder)
        (root / path).write_text(text)
        return Schema(root)

    return make


@contextmanager
def migration_in_the_middle(database: Database, schema: Schema) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that migrates and waits inside a file for lock 4711; the block kills it or its server."""
    watcher = database.connect()
    watcher.execute("select pg_advisory_lock(4711)")
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from pydb import migrate; "
            "migrate.migrate(sys.argv[1], schema=migrate.Schema(Path(sys.argv[2])))",
            database.dsn(),
            str(schema.root),
        ],
        stderr=subprocess.DEVNULL,
    )

    def migrating() -> list[tuple[int]]:
        assert child.poll() is None, "the migration ended before it reached the file"
        return watcher.execute(
            "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        ).fetchall()

    until(lambda: migrating() != [], "the migration to reach the file")
    ((pid,),) = migrating()
    yield child, pid
    assert child.wait(60) != 0
    watcher.close()


WAITING_FILES = ["migrations/9999_waits.sql", "sql/15_waits.sql", "sql/99_waits.sql"]
WAIT = "select pg_advisory_lock(4711);\n"


@pytest.mark.parametrize("path", WAITING_FILES)
def test_a_migrating_process_killed_in_the_middle_of_a_file_leaves_nothing_behind(
    empty_database: Database, release: Callable[[str, str], Schema], path: str
) -> None:
    watcher = empty_database.connect()
    create_roles(watcher)
    before = objects(empty_database)
    with migration_in_the_middle(empty_database, release(path, WAIT)) as (child, pid):
        child.kill()
    until(
        lambda: watcher.execute("select count(*) from pg_stat_activity where pid = %s", (pid,)).fetchone() == (0,),
        "the end of the killed process's session",
    )
    assert objects(empty_database) == before
    assert migrate.migrate(empty_database.dsn()) != []
    app_login_works(empty_database)


def test_a_server_killed_in_the_middle_of_a_migration_restarts_without_a_trace_of_it(
    own_server: Server, release: Callable[[str, str], Schema]
) -> None:
    with new_database(own_server, "middle") as database:
        create_roles(database.connect())
        before = objects(database)
        for path in WAITING_FILES[:2]:
            with migration_in_the_middle(database, release(path, WAIT)):
                kill_server(own_server)
            own_server.cluster.start()
            assert objects(database) == before
        assert migrate.migrate(database.dsn()) != []
        assert_works(database)


def app_login_works(database: Database) -> None:
    migrate.init(database.dsn(), app_login="app", pattern="*:*:*:*:*")
    assert save(database.connect("app"), "m", as_=key("any")).version == 1


def test_of_two_migrations_at_once_one_applies_everything_and_both_succeed(empty_database: Database) -> None:
    for _ in range(2):
        create_roles(empty_database.connect())
    answers = together([lambda: migrate.migrate(empty_database.dsn())] * 4)
    schema = Schema()
    assert sorted(answers) == [[], [], [], [*schema.migrations, *schema.files]]
    app_login_works(empty_database)


def test_two_first_installations_of_one_database_at_once_both_succeed(own_server: Server) -> None:
    with new_database(own_server, "first") as database:
        together([lambda: migrate.init(database.dsn())] * 3)
        assert_works(database)


def test_first_installations_of_several_databases_of_one_server_at_once_all_succeed(own_server: Server) -> None:
    with ExitStack() as stack:
        databases = [stack.enter_context(new_database(own_server, f"first_{number}")) for number in range(4)]
        together([lambda database=database: migrate.init(database.dsn()) for database in databases])
        for database in databases:
            assert_works(database)


def test_two_authorisations_of_a_new_login_at_once_both_succeed(database: Database) -> None:
    try:
        together([lambda: migrate.init(database.dsn(), app_login="brand_new", pattern="acme:*:*:*:*")] * 4)
        assert save(database.connect("brand_new"), "m", as_=ACME).version == 1
    finally:
        database.stack.close()
        with psycopg.connect(database.dsn()) as admin:
            admin.execute("drop role if exists brand_new")


def test_a_migration_gives_up_on_a_table_in_use_and_leaves_everything_as_it_was(
    database: Database, release: Callable[[str, str], Schema]
) -> None:
    schema = release(
        "migrations/9999_adds_a_column.sql",
        "create table ai_storage_private.before_it (x int);\n"
        "alter table ai_storage_private.tenant add column remark text;\n",
    )
    reader = database.connect()
    before = objects(database)
    with unchanged(database):
        reader.execute("begin; lock table ai_storage_private.tenant in access share mode")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            migrate.migrate(database.dsn(), schema=schema, lock_timeout="50ms")
        reader.execute("rollback")
    assert objects(database) == before
    assert migrate.migrate(database.dsn()) == []
    assert migrate.migrate(database.dsn(), schema=schema)[0] == "migrations/9999_adds_a_column.sql"
    with pytest.raises(MigrationError):
        migrate.migrate(database.dsn())


def test_a_migration_waits_for_another_only_so_long(database: Database) -> None:
    holder = database.connect()
    holder.execute("begin")
    holder.execute("lock table ai_storage_migration.applied_file in exclusive mode")
    with pytest.raises(MigrationError) as caught:
        migrate.migrate(database.dsn(), wait=0)
    assert caught.value.hint
    holder.execute("rollback")
    assert migrate.migrate(database.dsn(), wait=0) == []


# A statement is cancelled ---------------------------------------------------------------------------------------------


@pytest.fixture
def held(database: Database) -> Iterator[tuple[Connection, Connection]]:
    """A superuser and an application session that waits for a table another transaction holds."""
    app, holder = database.connect("app"), database.connect()
    save(app, "m", idempotency_key="used", as_=ACME)
    holder.execute("begin; lock table ai_storage_private.progress_version in access exclusive mode")
    yield holder, app
    holder.execute("rollback")


CHANGES = {
    "save_progress": {"model_name": "m", "mse": 2.0, "idempotency_key": "new"},
    "save_progress_batch": {"items": [{"model_name": "n", "mse": 1}, {"model_name": "m", "mse": 1}]},
    "delete_progress": {"model_name": "m"},
}


@pytest.mark.sql
def test_a_change_that_waits_too_long_for_a_table_fails_and_changes_nothing(
    database: Database, held: tuple[Connection, Connection]
) -> None:
    holder, app = held
    app.execute("set lock_timeout = '20ms'")
    for function, arguments in CHANGES.items():
        with refused("55P03", hint=False):
            call(app, function, **arguments, as_=ACME)
    app.execute("set lock_timeout = 0; set statement_timeout = '50ms'")
    for function, arguments in CHANGES.items():
        with refused("57014", hint=False):
            call(app, function, **arguments, as_=ACME)
    holder.execute("rollback")
    app.execute("reset all")
    assert save(app, "m", 2.0, idempotency_key="new", as_=ACME).version == 2
    assert names(app, as_=ACME) == ["m"]


@pytest.mark.sql
@pytest.mark.parametrize("end", ["cancel", "terminate"])
def test_a_waiting_save_that_is_ended_from_outside_changes_nothing(
    database: Database, held: tuple[Connection, Connection], end: str
) -> None:
    holder, app = held
    watcher = database.connect()
    for function, arguments in CHANGES.items():
        app = database.connect("app")
        with blocked(watcher, app, lambda a=app, f=function, p=arguments: call(a, f, **p, as_=ACME)) as future:
            watcher.execute(
                sql.SQL("select {}(%s::integer)").format(sql.Identifier(f"pg_{end}_backend")), (app.info.backend_pid,)
            )
        with refused("57014" if end == "cancel" else "57P01", hint=False):
            future.result()
    holder.execute("rollback")
    app = database.connect("app")
    (row,) = call(app, "load_progress", as_=ACME)
    assert (row.model_name, row.version, row.mse) == ("m", 1, 1.0)
    assert save(app, "m", idempotency_key="new", as_=ACME).version == 2


@pytest.mark.sql
def test_the_tenant_of_a_transaction_survives_a_cancelled_statement_in_a_savepoint(
    database: Database, held: tuple[Connection, Connection]
) -> None:
    holder, app = held
    app.execute("set lock_timeout = '20ms'")
    with app.transaction():
        call(app, "set_tenant", credential=ACME)
        with refused("55P03", hint=False), app.transaction():
            save(app, "m")
        holder.execute("rollback")
        assert call(app, "current_tenant")[0] == (ACME,)
        assert save(app, "m").version == 2
