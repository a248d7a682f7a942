"""Serves the example on DATABASE_URL, or else on the embedded PostgreSQL, with tokens of two tenants to try it with."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import uvicorn
from psycopg.conninfo import make_conninfo

from examples.web.app import create_app
from pydb import calls, embedded, migrate, session, token

LOGIN = "ai_storage_web_example"
TENANTS = [token.Tenant("acme", server, "shop", "production", "v1") for server in ("mcp-1", "mcp-2")]
TRAIN = '{"model_name": "line", "samples": [{"x": [1], "y": 3}, {"x": [2], "y": 5}]}'


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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.web", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    args = parser.parse_args()
    if os.environ.get("DATABASE_URL"):
        uvicorn.run(create_app(), host=args.host, port=args.port)
        return
    with prepared() as dsn:
        url = f"http://{args.host}:{args.port}/api/ai"
        print(f"""curl {url}/train -H "Authorization: Bearer $TOKEN_1" --json '{TRAIN}'""")
        print(f'curl {url}/models -H "Authorization: Bearer $TOKEN_1"', flush=True)
        uvicorn.run(create_app(dsn), host=args.host, port=args.port)


if __name__ == "__main__":
    main()
