"""Runs a call on a psycopg connection. The twin of `pydb.aio`."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.rows import tuple_row

from .calls import Call
from .errors import translate

__all__ = ["run"]

T = TypeVar("T")


def run(connection: psycopg.Connection[Any], call: Call[T], credential: str | None = None) -> T:
    """Run one call: one statement, in the connection's transaction if it is in one.

    credential: for this call alone; None acts for the tenant that set_tenant set in this transaction.
    Raises: StorageError for what the database refused; psycopg.Error for anything else.
    """
    try:
        with connection.cursor(row_factory=tuple_row) as cursor:
            return call.parse(cursor.execute(call.query, call.bind(credential), binary=call.binary).fetchall())
    except psycopg.Error as error:
        raise translate(error) from error
