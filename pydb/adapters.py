"""How calls and their answers go over the wire, whatever their connection's owner, login or server has set.

A connection that pydb is given may have loaders, a cursor class and settings of somebody else. Calls take psycopg's own
cursor with the adapters below, and ask for rows in binary, which no setting of a session formats.
"""

from __future__ import annotations

import json
from typing import Any, LiteralString

import psycopg
from psycopg import postgres
from psycopg.adapt import AdaptersMap, Buffer, Dumper, Loader
from psycopg.pq import Format
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.array import register_all_arrays

from .calls import Call

__all__ = ["ADAPTERS", "GUARD", "AsyncCursor", "Cursor", "needs_guard"]


class _Jsonb(Loader):
    """psycopg's loader takes what set_json_loads was told, and so does a subclass of it."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Any:
        return json.loads(bytes(data[1:]))  # after the number of the format


class _Utf8Dumper(Dumper):
    def dump(self, obj: str) -> Buffer:
        if "\0" in obj:
            raise psycopg.DataError("a text cannot contain a NUL character")
        return obj.encode()


class _Utf8Loader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        return str(data, "utf-8")


#: psycopg's adapters as they come, on a map that nobody else registers anything on.
ADAPTERS = AdaptersMap()


class _Context:
    adapters = ADAPTERS
    connection = None


postgres.register_default_types(ADAPTERS.types)
postgres.register_default_adapters(_Context())
register_all_arrays(_Context())
ADAPTERS.register_loader("jsonb", _Jsonb)

#: The same for a connection whose client_encoding is another: GUARD sets it for the call.
_UTF8 = AdaptersMap(ADAPTERS)
_UTF8.register_dumper(str, _Utf8Dumper)
_UTF8.register_loader("text", _Utf8Loader)

#: Sent before a call in the same message, for the transaction that both are in. Under the first two settings, which any
#: login may change, the server quotes parameters in the text of an error, and in its log.
GUARD: LiteralString = (
    "select pg_catalog.set_config('log_parameter_max_length_on_error', '0', true), "
    "pg_catalog.set_config('debug_print_plan', 'off', true), pg_catalog.set_config('client_encoding', 'UTF8', true)"
)


def needs_guard(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], call: Call[Any], credential: str | None
) -> bool:
    """Whether a call has to be sent behind GUARD: it carries a token, or the connection's texts are not UTF-8."""
    return call.carries_token(credential) or not _is_utf8(connection)


def _is_utf8(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    return connection.pgconn.parameter_status(b"client_encoding") == b"UTF8"


class Cursor(psycopg.Cursor[TupleRow]):
    """psycopg's cursor with the adapters of pydb, on a connection that may have others."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection, row_factory=tuple_row)

    @property
    def adapters(self) -> AdaptersMap:
        return ADAPTERS if _is_utf8(self.connection) else _UTF8


class AsyncCursor(psycopg.AsyncCursor[TupleRow]):
    """The twin of Cursor."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        super().__init__(connection, row_factory=tuple_row)

    @property
    def adapters(self) -> AdaptersMap:
        return ADAPTERS if _is_utf8(self.connection) else _UTF8
