"""Runs a call on a psycopg connection. The twin of `pydb.aio`."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg

from .adapters import GUARD, Cursor, needs_guard
from .calls import Call
from .errors import translate

__all__ = ["run"]

T = TypeVar("T")


def run(connection: psycopg.Connection[Any], call: Call[T], credential: str | None = None) -> T:
    """Run one call: one message, in the connection's transaction if it is in one.

    A call that carries a token is never prepared by name, and one statement goes before it: adapters.GUARD.
    credential: for this call alone; None acts for the tenant that set_tenant set in this transaction.
    Raises: StorageError for what the database refused; psycopg.Error for anything else.
    """
    try:
        with Cursor(connection) as cursor:
            if needs_guard(connection, call, credential):
                with connection.pipeline(), Cursor(connection) as guard:
                    guard.execute(GUARD, prepare=False)
                    cursor.execute(call.query, call.bind(credential), prepare=False, binary=True)
            else:
                cursor.execute(call.query, call.bind(credential), binary=True)
            return call.parse(cursor.fetchall())
    except (psycopg.Error, UnicodeEncodeError) as error:
        raise translate(error) from error
