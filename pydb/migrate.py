"""Brings a database to this release: roles, migrations/ and sql/.

Migrations run through yoyo, behind a backend that mends what yoyo leaves open: one transaction holds the lock, every
pending migration with its mark, the files of sql/ from the first changed one to the end, and the ledger. So a killed
migrator leaves nothing behind, and no old function ever meets a new table.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, LiteralString, TypeVar

import psycopg
from psycopg import sql
from yoyo import internalmigrations, read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend

from . import __version__, session
from .calls import Authorization, authorize_login, list_authorizations
from .dsn import parse

__all__ = ["AppLogin", "FileStatus", "MigrationError", "Schema", "init", "migrate", "status"]

T = TypeVar("T")

OLDEST_SERVER = 150000

# The innermost function in the context of an error.
FRAME = re.compile(r"^PL/pgSQL function (.*) line \d+ at ", re.MULTILINE)

# How the server says that another session is creating the same, or holds the lock ("tuple concurrently updated" has no
# code of its own).
BUSY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateObject,
    psycopg.errors.DuplicateTable,
    psycopg.errors.InternalError_,
)

CREATE_LEDGER: LiteralString = """
    create table if not exists ai_storage_migration.applied_file (
        path       text        not null,
        sha256     text        not null,
        release    text        not null,
        applied_at timestamptz not null default clock_timestamp(),
        constraint applied_file_pk primary key (path)
    )
"""
RECORD_FILE: LiteralString = """
    insert into ai_storage_migration.applied_file (path, sha256, release)
    values (%s, %s, %s)
    on conflict (path) do update set
        sha256     = excluded.sha256,
        release    = excluded.release,
        applied_at = clock_timestamp()
"""

# Applying sql/ takes every table, one after another, while calls hold some and wait for others: a deadlock, of which a
# call may be the victim. So all are taken before anything else. First those that a call begins with, in its order, so
# that calls under way end and new ones wait before they hold anything. Whoever goes another way, as sealing does, is
# given way to before the server looks for a deadlock, which it does after 1 s.
CLOSE_TABLES: LiteralString = """
    do $close$
    declare
        v_until constant timestamptz := clock_timestamp() + interval '500 ms';
        v_table regclass;
    begin
        for v_table in
            select c.oid
            from pg_class as c
            where c.relnamespace = 'ai_storage_private'::regnamespace
              and c.relkind in ('r', 'p')
            order by
                array_position('{signing_key,login_authorization,tenant,context_secret}'::name[], c.relname),
                c.relname
        loop
            perform set_config(
                'lock_timeout',
                greatest(1, extract(epoch from v_until - clock_timestamp()) * 1000)::integer::text,
                true
            );
            execute format('lock table %s in access exclusive mode', v_table);
        end loop;
    end;
    $close$
"""
# What an administrator's session works with, whatever is the default. The path comes first.
SESSION = {
    "search_path": "pg_catalog, pg_temp",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "'read committed'",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "datestyle": "iso",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
PAUSE = 0.3  # s in which the calls that waited go on


class MigrationError(Exception):
    """The database was left as it was. message: what is wrong; hint: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One file of the schema. state: applied, pending (not applied yet) or changed (since it was applied)."""

    path: str
    state: Literal["applied", "pending", "changed"]


@dataclass(frozen=True, slots=True)
class AppLogin:
    """An application login after init. created: by this run. authorizations: all that it has now."""

    created: bool
    authorizations: list[Authorization]


class Schema:
    """The SQL that this release ships: inside an installed package, or in the source tree above it."""

    def __init__(self, root: Path | None = None) -> None:
        packaged = Path(__file__).parent / "_schema"
        self.root = root or (packaged if packaged.is_dir() else Path(__file__).parent.parent)

    @cached_property
    def migrations(self) -> dict[str, str]:
        """Path below the root -> sha256, in the order they are applied."""
        return self._digests("migrations")

    @cached_property
    def files(self) -> dict[str, str]:
        """The same for sql/."""
        return self._digests("sql")

    def _digests(self, folder: str) -> dict[str, str]:
        paths = sorted((self.root / folder).glob("*.sql"))
        if not paths:
            raise MigrationError(
                f"No SQL files in {self.root / folder}.", "The installation is damaged: install again."
            )
        return {f"{folder}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    def read(self, path: str) -> LiteralString:
        # These files are part of the package, not input.
        return (self.root / path).read_text("utf-8")


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo carries no types
    """yoyo on a connection of ours, inside a transaction of ours."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._given = connection
        super().__init__(None, "_yoyo_migration")

    def connect(self, dburi: None) -> psycopg.Connection[Any]:
        return self._given

    def copy(self) -> _Backend:
        # yoyo runs a migration's steps on a second connection and marks it on the first: two transactions.
        return self

    def __exit__(self, *error: object) -> None:
        """Keep the connection open: it is not yoyo's."""

    @contextmanager
    def lock(self, timeout: int = 10) -> Iterator[None]:
        # yoyo's lock is a row, which stays behind when its process is killed. Ours is held by the transaction.
        yield

    def list_tables(self, **kwargs: object) -> list[str]:
        rows = self.connection.execute(
            "select tablename from pg_catalog.pg_tables where schemaname = 'ai_storage_migration'"
        )
        return [row[0] for row in rows]

    def ensure_internal_schema_updated(self) -> None:
        if internalmigrations.needs_upgrading(self):
            internalmigrations.upgrade(self)

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
        # yoyo asks the operating system for a user name, which a container's numeric user may not have.
        row = self.connection.execute(
            "select pg_catalog.gen_random_uuid()::text, session_user::text, pg_catalog.timezone('UTC', now())"
        ).fetchone()
        return {
            "id": row[0],
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": row[1],
            "hostname": "",
            "created_at_utc": row[2],
            "operation": operation,
        }


def _acquire(connection: psycopg.Connection[Any]) -> bool:
    connection.execute("begin")
    try:
        _act_as_owner(connection)
        connection.execute("set local client_min_messages = warning")
        connection.execute(CREATE_LEDGER)
        connection.execute("lock table ai_storage_migration.applied_file in exclusive mode nowait")
    except BUSY:
        connection.execute("rollback")
        return False
    except BaseException:
        connection.execute("rollback")
        raise
    return True


@contextmanager
def _locked(connection: psycopg.Connection[Any], wait: float) -> Iterator[None]:
    """One transaction that acts as the owner and holds the lock of migrations.

    The lock is one on the ledger, which only the owner can take; any login could take an advisory lock, and keep it.
    It is polled, since waiting inside a transaction would hold up CREATE INDEX CONCURRENTLY elsewhere.
    """
    deadline = time.monotonic() + wait
    while not _acquire(connection):
        if time.monotonic() > deadline:
            raise MigrationError(
                "Another migration of this database is running.",
                f"Waited {wait:.0f} s for it; run again when it has ended.",
            )
        time.sleep(0.2)
    try:
        yield
    except BaseException:
        if not connection.closed:
            connection.execute("rollback")
        raise
    connection.execute("commit")


def connect(dsn: str) -> psycopg.Connection[Any]:
    """Connect as an administrator, who may be stronger than whoever owns the database.

    Its owner chooses the default search path, and what lies on it may be his: a type named text runs his CHECK. So the
    first statement, which looks nothing up, sets a path of PostgreSQL's own, and what else a default of the login, the
    database or the server may not decide here.
    """
    connection = psycopg.connect(parse(dsn), autocommit=True, client_encoding="UTF8")
    try:
        connection.execute("; ".join(f"set {name} = {value}" for name, value in SESSION.items()))
        if connection.info.server_version >= 170000:
            connection.execute("set transaction_timeout = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_server(connection: psycopg.Connection[Any]) -> None:
    if connection.info.server_version < OLDEST_SERVER:
        raise MigrationError(
            f"PostgreSQL {connection.info.server_version // 10000} is too old.", "Use PostgreSQL 15 to 18."
        )
    row = connection.execute("show server_encoding").fetchone()
    if row != ("UTF8",):
        raise MigrationError(
            "The database is not encoded in UTF8.",
            "Create it with: create database NAME encoding 'UTF8' template template0",
        )


def _applied(connection: psycopg.Connection[Any]) -> dict[str, str]:
    row = connection.execute("select pg_catalog.to_regclass('ai_storage_migration.applied_file')").fetchone()
    if row == (None,):
        return {}
    return dict(connection.execute("select path, sha256 from ai_storage_migration.applied_file").fetchall())


def _act_as_owner(connection: psycopg.Connection[Any], what: str = "migrate") -> None:
    row = connection.execute("select pg_catalog.to_regnamespace('ai_storage_migration')").fetchone()
    if row == (None,):
        raise MigrationError("This database has no schema for tenant-ai-storage yet.", "Run: pydb init")
    # Somebody else's schema of that name could hold a view that runs his code.
    row = connection.execute(
        "select n.nspname, pg_catalog.pg_get_userbyid(n.nspowner) from pg_catalog.pg_namespace as n "
        "where n.nspname in ('ai_storage', 'ai_storage_private', 'ai_storage_migration') "
        "and pg_catalog.pg_get_userbyid(n.nspowner) <> 'ai_storage_owner'"
    ).fetchone()
    if row is not None:
        raise MigrationError(
            f"The schema {row[0]} belongs to {row[1]} and not to ai_storage_owner.",
            "If this database was restored, its owners and rights were left out: restore it again, roles first, "
            "without --no-owner and --no-acl. Else find out whose the schema is; it may hold data.",
        )
    try:
        connection.execute("set local role ai_storage_owner")
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f"The login {connection.info.user} may not {what}.",
            "Connect as the login that ran pydb init.",
        ) from error


def _refuse_newer(connection: psycopg.Connection[Any]) -> None:
    def order(release: str) -> tuple[int, ...]:
        return tuple(int(part) for part in release.split("."))

    releases = connection.execute("select distinct release from ai_storage_migration.applied_file").fetchall()
    newest = max((row[0] for row in releases), key=order, default=__version__)
    if order(newest) > order(__version__):
        raise MigrationError(
            f"The database is newer than this package: it is at release {newest}.",
            "Install that release of the package, or a later one.",
        )


def _compare(schema: Schema, applied: dict[str, str]) -> list[FileStatus]:
    unknown = sorted(path for path in applied if path.startswith("migrations/") and path not in schema.migrations)
    if unknown:
        raise MigrationError(
            f"The database is newer than this package: it has {unknown[-1]}.",
            "Install the newer release of the package.",
        )
    return [
        FileStatus(path, "pending" if path not in applied else "applied" if applied[path] == digest else "changed")
        for path, digest in {**schema.migrations, **schema.files}.items()
    ]


def _close_tables(connection: psycopg.Connection[Any], lock_timeout: str) -> None:
    """Keep everybody out of the tables until the end of the transaction.

    Raises: psycopg.errors.LockNotAvailable after lock_timeout.
    """
    set_timeout: LiteralString = "select pg_catalog.set_config('lock_timeout', %s, true)"
    connection.execute(set_timeout, (lock_timeout,))
    (milliseconds,) = connection.execute(
        "select setting::float from pg_catalog.pg_settings where name = 'lock_timeout'"
    ).fetchone() or (0,)
    deadline = time.monotonic() + milliseconds / 1000
    while True:
        try:
            with connection.transaction():  # rolled back, it holds no table
                connection.execute(CLOSE_TABLES)
        except psycopg.errors.LockNotAvailable:
            if milliseconds and time.monotonic() > deadline:
                raise
            time.sleep(PAUSE)
        else:
            connection.execute(set_timeout, (lock_timeout,))
            return


def _upgrade(connection: psycopg.Connection[Any], schema: Schema, lock_timeout: str) -> list[str]:
    connection.execute("set local search_path = ai_storage_migration")
    _refuse_newer(connection)
    state = _compare(schema, _applied(connection))
    edited = [file.path for file in state if file.state == "changed" and file.path in schema.migrations]
    if edited:
        raise MigrationError(
            f"{edited[0]} was edited after it was applied.",
            "A migration is history: restore the file and write a new migration.",
        )

    if all(file.state == "applied" for file in state):
        return []
    _close_tables(connection, lock_timeout)

    backend = _Backend(connection)
    backend._in_transaction = True  # yoyo then nests in ours by savepoints
    pending = backend.to_apply(read_migrations(str(schema.root / "migrations")))
    backend.apply_migrations_only(pending)

    # From the first changed file to the end: later files build on earlier ones, and the grants come last.
    names = list(schema.files)
    stale = {file.path for file in state if file.state != "applied"}
    first = next((index for index, name in enumerate(names) if name in stale), len(names))
    if pending:
        first = 0
    for name in names[first:]:
        connection.execute(schema.read(name))

    connection.execute("set local role ai_storage_owner")
    written = [f"migrations/{migration.id}.sql" for migration in pending] + names[first:]
    for path in written:
        connection.execute(RECORD_FILE, (path, {**schema.migrations, **schema.files}[path], __version__))
    return written


def migrate(dsn: str, *, schema: Schema | None = None, lock_timeout: str = "10s", wait: float = 60) -> list[str]:
    """Bring a database to this release, in one transaction. Connect directly, not through a transaction pooler.

    lock_timeout: longest wait for tables in use, as PostgreSQL's parameter takes it. wait: seconds to wait for another
    migration.
    Returns: the files applied; an empty list when the database was up to date.
    Raises: MigrationError; psycopg.Error when a statement fails. Either way the database is as it was.
    """
    with connect(dsn) as connection:
        _check_server(connection)
        with _locked(connection, wait):
            return _upgrade(connection, schema or Schema(), lock_timeout)


def status(dsn: str, *, schema: Schema | None = None) -> list[FileStatus]:
    """Compare a database with this release.

    Raises: MigrationError when the database is newer, or was never initialised.
    """
    with connect(dsn) as connection:
        _check_server(connection)
        with connection.transaction():
            _act_as_owner(connection, "read which files are applied")
            return _compare(schema or Schema(), _applied(connection))


def _in_turn(connection: psycopg.Connection[Any], work: Callable[[], T]) -> T:
    """Do work on roles in a transaction, again when somebody else was at the same roles.

    They belong to the server, so that may be the init of another database.
    """
    for _ in range(9):
        try:
            with connection.transaction():
                return work()
        except BUSY:
            time.sleep(0.1)
    with connection.transaction():
        return work()


def _create_roles(connection: psycopg.Connection[Any], schema: Schema) -> None:
    def work() -> None:
        connection.execute("set local client_min_messages = warning")
        connection.execute(schema.read("deploy/roles.sql"))

    try:
        _in_turn(connection, work)
    except psycopg.errors.InsufficientPrivilege as error:
        # Of our own, or raised by something else that runs meanwhile, such as an event trigger: its own words count.
        diag = error.diag
        said = f"{diag.message_primary}. {diag.message_detail or ''}".strip()
        raised_by = FRAME.search(diag.context or "")
        if raised_by is not None and raised_by[1] != "inline_code_block":
            raise MigrationError(
                f"The function {raised_by[1]}, which is not this package's, failed: {said}",
                diag.message_hint or "An event trigger may have run it. Disable that, or let its function succeed.",
            ) from error
        if diag.message_hint:  # roles.sql's own
            raise MigrationError(f"Nothing was created: {said}", diag.message_hint) from error
        raise MigrationError(
            f"The login {connection.info.user} cannot create the roles and schemas: {said}",
            "Use a superuser, or a login that has CREATEROLE, owns the database, may use the language plpgsql, and "
            "first created the roles.",
        ) from error


def _create_login(connection: psycopg.Connection[Any], name: str, password: str | None) -> bool:
    row = connection.execute("select from pg_catalog.pg_roles where rolname = %s", (name,)).fetchone()
    if row is not None:
        return False
    statement = sql.SQL("create role {} login").format(sql.Identifier(name))
    if password:
        # Hashed here, so that the server's log never holds it.
        verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
        statement += sql.SQL(" password {}").format(sql.Literal(verifier.decode()))
    connection.execute(statement)
    return True


def _authorize(connection: psycopg.Connection[Any], login: str, pattern: str, token_only: bool) -> list[Authorization]:
    """Authorise a login; a pattern that it has by token stays so. Returns: all its authorisations."""

    def existing() -> list[Authorization]:
        return [row for row in session.run(connection, list_authorizations()) if row.login_name == login]

    token_only = token_only or any(row.token_only for row in existing() if row.pattern == pattern)
    session.run(connection, authorize_login(login, pattern, token_only=token_only))
    return existing()


def init(
    dsn: str,
    *,
    app_login: str | None = None,
    app_password: str | None = None,
    pattern: str | None = None,
    token_only: bool = False,
    schema: Schema | None = None,
    wait: float = 60,
) -> AppLogin | None:
    """Create roles and schemas, migrate, and authorise an application login. Safe to repeat.

    dsn: a superuser, or a login that has CREATEROLE and owns the database. app_login: created with LOGIN when it does
    not exist, and authorised for pattern, too. app_password: for a login created here; None leaves it without one.
    token_only: it presents signed tokens; a pattern that it already has by token stays so.
    Returns: the application login, if there is one.
    Raises: ValueError for a login without a pattern; MigrationError, StorageError, psycopg.Error.
    """
    if app_login is not None and pattern is None:
        raise ValueError("An application login needs a pattern: the tenants it may name, such as acme:*:*:*:*.")
    schema = schema or Schema()
    with connect(dsn) as connection:
        _check_server(connection)
        _create_roles(connection, schema)
    migrate(dsn, schema=schema, wait=wait)
    if app_login is None or pattern is None:
        return None
    with connect(dsn) as connection:

        def work() -> AppLogin:
            created = _create_login(connection, app_login, app_password)
            return AppLogin(created, _authorize(connection, app_login, pattern, token_only))

        return _in_turn(connection, work)
