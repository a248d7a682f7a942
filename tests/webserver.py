"""What the tests of web applications share: tokens of a database, servers in a thread, and examples as processes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import httpx
import uvicorn

from pydb import token
from pydb.calls import NewSigningKey
from tests.conftest import Database
from tests.helpers import call

Mint = Callable[[str], str]
AT_MOST = 300  # s; a machine that is busy takes its time to start a process


def minter(database: Database, **options: object) -> Mint:
    """Makes tokens of this database: of an isolation key, a bearer token."""
    (row,) = call(database.connect(), "create_signing_key", audience="web")
    key = NewSigningKey(*row)

    def mint(tenant: str) -> str:
        return token.mint(token.Tenant(*tenant.split(":")), kid=key.kid, secret=key.secret, audience="web", **options)

    return mint


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(app: Any, asgi: bool = True) -> Iterator[httpx.Client]:
    """A server in a thread, and a client of it."""
    if asgi:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],))
        port = listener.getsockname()[1]

        def stop() -> None:
            server.should_exit = True
    else:
        wsgi = WSGIServer(("127.0.0.1", 0), Quiet)
        wsgi.set_app(app)
        thread = threading.Thread(target=wsgi.serve_forever, args=(0.01,))
        port = wsgi.server_port

        def stop() -> None:
            wsgi.shutdown()
            wsgi.server_close()

    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        stop()
        thread.join(30)


class Example:
    """examples.MODULE as a process, on a port of its own. lines: what it printed so far."""

    def __init__(self, module: str, dsn: str, *options: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"examples.{module}", "--port", "0", *options],
            env={**os.environ, "DATABASE_URL": dsn, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)
            if "Uvicorn running" in line:
                self._ready.set()
        self._ready.set()

    def url(self) -> str:
        """Where it listens, once it does."""
        assert self._ready.wait(AT_MOST), self.lines
        found = re.search(r"Uvicorn running on (http://[0-9.:]+)", "".join(self.lines))
        assert found, "".join(self.lines)
        return found[1]

    def end(self) -> int:
        """Tell it to end, and wait until it has. Returns: its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(AT_MOST)
        finally:
            self.process.kill()
            self._reader.join(AT_MOST)


@contextmanager
def example(module: str, dsn: str) -> Iterator[tuple[str, list[str]]]:
    """Serve examples.MODULE: its URL, and the lines it printed so far."""
    running = Example(module, dsn)
    try:
        yield running.url(), running.lines
    finally:
        running.end()
