"""What the tests of web applications share: tokens of a database, and an example as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydb import token
from pydb.calls import NewSigningKey
from tests.conftest import Database
from tests.helpers import call

Mint = Callable[[str], str]


def minter(database: Database, **options: object) -> Mint:
    """Makes tokens of this database: of an isolation key, a bearer token."""
    (row,) = call(database.connect(), "create_signing_key", audience="web")
    key = NewSigningKey(*row)

    def mint(tenant: str) -> str:
        return token.mint(token.Tenant(*tenant.split(":")), kid=key.kid, secret=key.secret, audience="web", **options)

    return mint


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


@contextmanager
def example(module: str, dsn: str) -> Iterator[tuple[str, list[str]]]:
    """Serve examples.MODULE on a port of its own: its URL, and the lines it printed so far."""
    command = [sys.executable, "-m", f"examples.{module}", "--port", "0"]
    server = subprocess.Popen(
        command, env={**os.environ, "DATABASE_URL": dsn}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []

    def read() -> None:
        for line in server.stdout:
            lines.append(line)
            if "Uvicorn running" in line:
                ready.set()
        ready.set()

    ready = threading.Event()
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(30), lines
        found = re.search(r"Uvicorn running on (http://[0-9.:]+)", "".join(lines))
        assert found, "".join(lines)
        yield found[1], lines
    finally:
        server.terminate()
        server.wait(30)
        reader.join(30)
