"""One server per test run, one fresh database per test, and the logins that play in it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pytest_postgresql import factories

from pydb import TenantAwareStorage, migrate
from pydb.embedded import Cluster
from tests import servers
from tests.redis_server import RedisServer

FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
    "max_connections": "200",
    "max_prepared_transactions": "5",
    # A test that fails while another of its threads waits for a lock is to fail, and not to wait with it for ever.
    "lock_timeout": "60s",
}

# A file system in memory, and what has to be free there for two suites at a time.
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 8 * 2**30

# In the background of a script SIGINT is ignored, and would be by the commands that tests end with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# login -> what it is authorised for
LOGINS = {"app": "*:*:*:*:*", "acme_app": "acme:*:*:*:*", "beta_app": "beta:*:*:*:*", "reporter": "acme:*:*:*:*"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pg", type=int, default=18, help="major version of PostgreSQL to test on (default: 18)")
    parser.addoption("--every-setting", action="store_true", help="try each value of a setting in a session of its own")
    parser.addoption("--cache-steps", type=int, default=10_000, help="steps of the model of the cache (default: 10000)")
    parser.addoption("--writer-saves", type=int, default=8, help="saves of each of 64 writers (default: 8)")
    parser.addoption("--cache-seed", type=int, default=1, help="where its steps begin (default: 1)")


def pytest_report_header(config: pytest.Config) -> str:
    path = servers.bin_dir(config.getoption("--pg"))
    return "PostgreSQL {}.{} in {}".format(*servers.version(path), path)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, in the shape pytest-postgresql wants its processes to have."""

    cluster: Cluster
    host: str
    major: int
    port: int = 5432
    user: str = "postgres"
    password: str = ""
    options: str = ""
    maintenance_dbname: str = "postgres"
    template_dbname: str = "template1"

    def dsn(self, user: str = "postgres", dbname: str = "postgres", **more: Any) -> str:
        return make_conninfo(host=self.host, port=self.port, user=user, dbname=dbname, **more)


def new_folder(*, durable: bool = False) -> Path:
    """A folder that a server's user can enter, in memory where there is room."""
    # Each test creates and drops a database of a thousand files.
    in_memory = not durable and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    # Not pytest's tmp_path: as root it lies in a folder that the server's user cannot enter.
    folder = Path(tempfile.mkdtemp(prefix="pydb-test-", dir=MEMORY if in_memory else None))
    os.chmod(folder, 0o711)
    return folder


def new_cluster(bin_dir: Path, *, durable: bool = False) -> Iterator[Cluster]:
    """One cluster in a folder of its own, stopped and removed afterwards."""
    folder = new_folder(durable=durable)
    cluster = Cluster(data_dir=folder / "data", bin_dir=bin_dir)
    try:
        yield cluster
    finally:
        cluster.stop("immediate")
        shutil.rmtree(folder)


def _describe(cluster: Cluster, major: int) -> Server:
    with psycopg.connect(cluster.url()) as connection:
        return Server(cluster, connection.info.host, major, connection.info.port)


def start(request: pytest.FixtureRequest, settings: dict[str, str]) -> Iterator[Server]:
    """A server of this test run, stopped and removed afterwards."""
    major = request.config.getoption("--pg")
    for cluster in new_cluster(servers.bin_dir(major)):
        cluster.start(settings)
        yield _describe(cluster, major)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server of this test run: fast, not crash-safe."""
    yield from start(request, FAST)


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for one test that kills it: durable, as in production."""
    major = request.config.getoption("--pg")
    for cluster in new_cluster(servers.bin_dir(major), durable=True):
        cluster.start({"max_connections": "200", "lock_timeout": FAST["lock_timeout"]})
        yield _describe(cluster, major)


def install(dsn: str) -> None:
    """Roles, schema and the logins of these tests."""
    migrate.init(dsn)
    for login, pattern in LOGINS.items():
        migrate.init(dsn, app_login=login, pattern=pattern)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("grant ai_storage_sql to reporter")
        connection.execute("do $$ begin create role stranger login; exception when duplicate_object then null; end $$")


def _load(*, host: str, port: int, user: str, dbname: str, **_: object) -> None:
    install(make_conninfo(host=host, port=port, user=user, dbname=dbname))


prepared = factories.postgresql_noproc(depends_on="server", load=[_load])
fresh = factories.postgresql("prepared")


@dataclass(frozen=True, slots=True)
class Database:
    """A fresh database with everything installed."""

    server: Server
    name: str
    stack: ExitStack = field(repr=False)

    def dsn(self, user: str = "postgres", **more: Any) -> str:
        return self.server.dsn(user, self.name, **more)

    def connect(self, user: str = "postgres", **more: Any) -> psycopg.Connection[Any]:
        """A connection in autocommit, closed when the test ends."""
        return self.stack.enter_context(psycopg.connect(self.dsn(user), autocommit=True, **more))

    def storage(self, key: str | None, user: str = "app") -> TenantAwareStorage:
        """The storage of one tenant on a connection of its own."""
        return TenantAwareStorage(self.connect(user), key)


@contextmanager
def _fresh(request: pytest.FixtureRequest, server: Server) -> Iterator[str]:
    connection = request.getfixturevalue("fresh")
    name = connection.info.dbname
    connection.close()
    yield name


@pytest.fixture
def database(request: pytest.FixtureRequest, server: Server) -> Iterator[Database]:
    """A fresh, installed database."""
    with _fresh(request, server) as name, ExitStack() as stack:
        yield Database(server, name, stack)


@contextmanager
def new_database(server: Server) -> Iterator[Database]:
    """A database without anything in it, dropped afterwards."""
    name = "empty_" + next(tempfile._get_candidate_names())
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    with ExitStack() as stack:
        yield Database(server, name, stack)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)')


@pytest.fixture
def empty_database(server: Server) -> Iterator[Database]:
    """A database without anything in it."""
    with new_database(server) as found:
        yield found


@pytest.fixture
def west(empty_database: Database) -> Database:
    """A second installation."""
    install(empty_database.dsn())
    return empty_database


@pytest.fixture
def east(database: Database, west: Database) -> Database:
    """The first of two cells, which takes new organisations. acme lives in it, and beta in west."""
    for cell, name in ((database, "east"), (west, "west")):
        admin = cell.connect()
        admin.execute("select ai_storage.set_cells(array['east', 'west'], %s, 'east')", (name,))
        admin.execute("select ai_storage.set_home('acme', 'east'), ai_storage.set_home('beta', 'west')")
    return database


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A running Redis, empty."""
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()
