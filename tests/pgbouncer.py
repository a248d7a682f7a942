"""A real PgBouncer in front of the tests' server. `make servers` gets the program by apt where possible."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psycopg
from psycopg.conninfo import make_conninfo

from tests.helpers import until

PoolMode = Literal["session", "transaction", "statement"]
PORT = 6432  # names the socket only: it listens on no network address
PATHS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])

# Between two clients, as deploy/pgbouncer.ini has it.
(RESET,) = re.findall(
    r"^server_reset_query = (.*)$",
    (Path(__file__).parent.parent / "deploy" / "pgbouncer.ini").read_text("utf-8"),
    re.MULTILINE,
)

SETTINGS = """\
[pgbouncer]
pool_mode = {mode}
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
pidfile = {folder}/pid
auth_type = trust
auth_file = {folder}/users
default_pool_size = {pool_size}
min_pool_size = 0
server_idle_timeout = 60
max_client_conn = 500
logfile = {folder}/pgbouncer.log
server_reset_query = {query}
server_reset_query_always = {reset:d}
"""


def settings(mode: PoolMode, *, pool_size: int = 2, reset: bool = False) -> str:
    """Everything but the databases, for running(). reset: RESET before a connection goes on."""
    return SETTINGS.format(mode=mode, port=PORT, folder="{folder}", pool_size=pool_size, reset=reset, query=RESET)


def program() -> str | None:
    """The program's path, or None where it is not installed."""
    return shutil.which("pgbouncer", path=PATHS)


@contextmanager
def running(config: str, users: str, neighbour: str) -> Iterator[Path]:
    """Run PgBouncer until the block ends. Yields the folder of its socket, whose name in config is {folder}.

    users: of its auth_file, {folder}/users. neighbour: whose owner it runs as, when we are root.
    """
    path = program()
    assert path is not None, "PgBouncer is not installed: run `make servers`, as root where apt is the way"
    folder = Path(tempfile.mkdtemp(prefix="pydb-pgbouncer-"))
    (folder / "users").write_text(users, "utf-8")
    (folder / "config").write_text(config.replace("{folder}", str(folder)), "utf-8")
    account = None
    if os.geteuid() == 0:
        # It refuses to run as root, and the server's socket lies in a folder that only the server's user may enter.
        account = pwd.getpwuid(os.stat(neighbour).st_uid) if neighbour.startswith("/") else pwd.getpwnam("nobody")
        for name in (folder, folder / "users", folder / "config"):
            os.chown(name, account.pw_uid, account.pw_gid)
    process = subprocess.Popen(
        [path, str(folder / "config")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=account and account.pw_uid,
        group=account and account.pw_gid,
        extra_groups=account and [],
    )

    def listens() -> bool:
        log = folder / "pgbouncer.log"
        assert process.poll() is None, log.read_text("utf-8") if log.exists() else "it ended without a log"
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(folder / f".s.PGSQL.{PORT}")) == 0

    try:
        until(listens, "PgBouncer to listen")
        yield folder
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@contextmanager
def pgbouncer(
    host: str, port: int, logins: list[str], mode: PoolMode, *, pool_size: int = 2, reset: bool = False
) -> Iterator[Callable[[str, str], str]]:
    """Run PgBouncer until the block ends. Yields a function that makes a DSN of a login and a database's name.

    A small pool: clients share server connections, as attackers wish. reset: see settings.
    """
    users = "".join(f'"{login}" ""\n' for login in logins)
    config = f"[databases]\n* = host={host} port={port}\n" + settings(mode, pool_size=pool_size, reset=reset)
    with running(config, users, host) as folder:

        def dsn(user: str, dbname: str) -> str:
            return make_conninfo(host=str(folder), port=PORT, user=user, dbname=dbname)

        psycopg.connect(dsn(logins[0], "postgres")).close()
        yield dsn
