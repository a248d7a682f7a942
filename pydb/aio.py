"""Runs a call on an asynchronous psycopg connection. The twin of `pydb.session`."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg

from .adapters import GUARD, AsyncCursor, needs_guard
from .calls import Call
from .errors import translate

__all__ = ["run"]

T = TypeVar("T")


async def run(connection: psycopg.AsyncConnection[Any], call: Call[T], credential: str | None = None) -> T:
    """Run one call: one message, in the connection's transaction if it is in one.

    A call that carries a token is never prepared by name, and one statement goes before it: adapters.GUARD.
    credential: for this call alone; None acts for the tenant that set_tenant set in this transaction.
    Raises: StorageError for what the database refused; psycopg.Error for anything else.
    """
    try:
        async with AsyncCursor(connection) as cursor:
            if needs_guard(connection, call, credential):
                async with connection.pipeline(), AsyncCursor(connection) as guard:
                    await guard.execute(GUARD, prepare=False)
                    await cursor.execute(call.query, call.bind(credential), prepare=False, binary=True)
            else:
                await cursor.execute(call.query, call.bind(credential), binary=True)
            return call.parse(await cursor.fetchall())
    except (psycopg.Error, UnicodeEncodeError) as error:
        raise translate(error) from error
