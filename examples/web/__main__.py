"""Serves the example on AI_STORAGE_CELLS or DATABASE_URL, or on the embedded PostgreSQL, with tokens of two tenants."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType

import uvicorn
from fastapi import FastAPI
from psycopg.conninfo import make_conninfo

from examples.web.app import create_app
from pydb import calls, embedded, environment, migrate, session, token

LOGIN = "ai_storage_web_example"
GRACE = 30  # s; the longest answer that is waited for
# s that an idle connection is kept. A balancer has to close it first, as most do after 60, or it sends a request into
# one that just closes.
KEEP_ALIVE = 75
TENANTS = [token.Tenant("acme", server, "shop", "production", "v1") for server in ("mcp-1", "mcp-2")]
TRAIN = '{"model_name": "line", "samples": [{"x": [1], "y": 3}, {"x": [2], "y": 5}]}'


class Server(uvicorn.Server):
    """Told to end, it goes on serving for a while and says that it is not ready, so that nobody is refused meanwhile.

    drain: seconds that a balancer needs to see it. After them it takes no more connections, and ends with the last
    answer that is under way, GRACE later at most. A second SIGTERM ends the drain.
    """

    def __init__(self, app: FastAPI, host: str, port: int, drain: float) -> None:
        super().__init__(
            uvicorn.Config(app, host=host, port=port, timeout_graceful_shutdown=GRACE, timeout_keep_alive=KEEP_ALIVE)
        )
        self.app = app
        self.drain = drain
        self.ends_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
            return
        self.ends_at = time.monotonic() + (0 if self.app.state.draining else self.drain)
        self.app.state.draining = True

    async def on_tick(self, counter: int) -> bool:
        if self.ends_at is not None and time.monotonic() >= self.ends_at:
            self.should_exit = True
        return await super().on_tick(counter)


@contextmanager
def prepared() -> Iterator[str]:
    """The DSN of a login that takes tokens only, on the embedded server; prints two tokens that end with the block."""
    admin = embedded.start()
    migrate.init(admin, app_login=LOGIN, pattern="*:*:*:*:*", token_only=True)
    with migrate.connect(admin) as connection:
        key = session.run(connection, calls.create_signing_key())
        for number, tenant in enumerate(TENANTS, start=1):
            credential = token.mint(
                tenant, kid=key.kid, secret=key.secret, audience=connection.info.dbname, ttl=timedelta(hours=1)
            )
            print(f"# {':'.join(tenant)}, for an hour\nTOKEN_{number}={credential}")
        try:
            yield make_conninfo(admin, user=LOGIN)
        finally:
            session.run(connection, calls.retire_signing_key(key.kid))


def serve(app: FastAPI, args: argparse.Namespace) -> None:
    with suppress(KeyboardInterrupt):  # raised again by uvicorn when it has shut down
        Server(app, args.host, args.port, args.drain).run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.web", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    parser.add_argument(
        "--drain", type=float, default=0, metavar="SECONDS", help="how long to serve on after SIGTERM, not ready (0)"
    )
    args = parser.parse_args()
    if os.environ.get("DATABASE_URL") or environment.cells_file():
        serve(create_app(), args)
        return
    with prepared() as dsn:
        url = f"http://{args.host}:{args.port}/api/ai"
        print(f"""curl {url}/train -H "Authorization: Bearer $TOKEN_1" --json '{TRAIN}'""")
        print(f'curl {url}/models -H "Authorization: Bearer $TOKEN_1"', flush=True)
        serve(create_app(dsn), args)


if __name__ == "__main__":
    main()
