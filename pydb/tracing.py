"""Spans of OpenTelemetry for the calls of pydb. Needs the extra otel; nothing else in pydb imports this module.

    from pydb import tracing

    tracing.instrument()

From then on each call of this process is a span with the name of its SQL function, from the statement to its answer,
inside the span that is current. Its attributes are those of the semantic conventions for databases; no parameter, no
result, no text of an error and nothing of a tenant is in them. Waiting for a connection of a pool is not in the span.
Until then, and after uninstrument(), calls run as if this module did not exist.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, TypeVar

import psycopg
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider, get_tracer

from . import __version__, aio, session
from .calls import Call

__all__ = ["instrument", "uninstrument"]

T = TypeVar("T")

_run, _run_async = session.run, aio.run


@cache  # the texts of calls are constants
def _function(query: str) -> str:
    """The function that a call selects from, or SELECT for a query of another kind."""
    found = re.search(r"ai_storage\.(\w+)\(", query)
    return found[1] if found else "SELECT"


def _failed(span: Span, error: BaseException) -> None:
    sqlstate = getattr(error.__cause__, "sqlstate", None) or getattr(error, "sqlstate", None)
    if sqlstate:
        span.set_attribute("db.response.status_code", sqlstate)
    span.set_attribute("error.type", sqlstate or type(error).__name__)
    span.set_status(StatusCode.ERROR)  # without the text, which may hold values


def instrument(tracer_provider: TracerProvider | None = None) -> None:
    """Make spans of the calls of all storages, synchronous and asynchronous. Again: with the other provider.

    tracer_provider: None for the one that is set for the process.
    """
    tracer = get_tracer("pydb", __version__, tracer_provider)
    _replace(session, _traced(tracer))
    _replace(aio, _traced_async(tracer))


def uninstrument() -> None:
    """Make no more spans."""
    _replace(session, _run)
    _replace(aio, _run_async)


def _replace(module: Any, run: Any) -> None:
    # Storages, middlewares and commands all look it up there with each call.
    module.run = run


def _span(tracer: Tracer, call: Call[Any]) -> Any:
    function = _function(call.query)
    return tracer.start_as_current_span(
        function,
        kind=SpanKind.CLIENT,
        attributes={"db.system.name": "postgresql", "db.operation.name": function},
        record_exception=False,
        set_status_on_exception=False,
    )


def _traced(tracer: Tracer) -> Any:
    def run(connection: psycopg.Connection[Any], call: Call[T], credential: str | None = None) -> T:
        with _span(tracer, call) as span:
            try:
                return _run(connection, call, credential)
            except BaseException as error:
                _failed(span, error)
                raise

    return run


def _traced_async(tracer: Tracer) -> Any:
    async def run(connection: psycopg.AsyncConnection[Any], call: Call[T], credential: str | None = None) -> T:
        with _span(tracer, call) as span:
            try:
                return await _run_async(connection, call, credential)
            except BaseException as error:
                _failed(span, error)
                raise

    return run
