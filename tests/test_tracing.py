"""Spans: one for each call, synchronous or not, with nothing of a tenant in them, and none unless asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pydb import AsyncTenantAwareStorage, VersionConflict, aio, calls, session, tracing
from tests.conftest import Database
from tests.helpers import key

CANARY = key("canary-org", code="canary-code")


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before = session.run, aio.run
    tracing.instrument(provider)
    yield exporter
    tracing.uninstrument()
    assert (session.run, aio.run) == before


def told(span: ReadableSpan) -> tuple[str, dict[str, object], StatusCode]:
    return span.name, dict(span.attributes), span.status.status_code


PLAIN = {"db.system.name": "postgresql"}


def expected(name: str, sqlstate: str | None = None) -> tuple[str, dict[str, object], StatusCode]:
    failed = {} if sqlstate is None else {"error.type": sqlstate, "db.response.status_code": sqlstate}
    return name, {**PLAIN, "db.operation.name": name, **failed}, StatusCode.ERROR if sqlstate else StatusCode.UNSET


def test_a_call_is_a_span_without_anything_of_the_tenant(database: Database, exporter: InMemorySpanExporter) -> None:
    storage = database.storage(CANARY)
    storage.save_ai_progress("canary-model", 0.5, metadata={"canary": "canary"})
    with pytest.raises(VersionConflict):
        storage.save_ai_progress("canary-model", 0.5, expected_version=77123)
    storage.put_artifact("canary-model", "canary-file", b"canary")
    spans = exporter.get_finished_spans()
    assert [told(span) for span in spans] == [
        expected("save_progress"),
        expected("save_progress", "TN102"),
        expected("put_artifact"),
    ]
    assert {span.kind for span in spans} == {SpanKind.CLIENT}
    text = "".join(span.to_json() for span in spans)
    assert "canary" not in text
    assert "77123" not in text


def test_asynchronous_calls_are_spans_too_within_the_span_that_is_current(
    database: Database, exporter: InMemorySpanExporter
) -> None:
    provider = TracerProvider()

    async def scenario() -> int:
        connection = await psycopg.AsyncConnection.connect(database.dsn("app"), autocommit=True)
        async with connection:
            storage = AsyncTenantAwareStorage(connection, CANARY)
            with provider.get_tracer("test").start_as_current_span("outer") as outer:
                await storage.save_ai_progress("m", 0.5)
                with pytest.raises(VersionConflict):
                    await storage.save_ai_progress("m", 0.5, expected_version=9)
            return outer.get_span_context().span_id

    outer = asyncio.run(scenario())
    spans = exporter.get_finished_spans()
    assert [told(span) for span in spans] == [expected("save_progress"), expected("save_progress", "TN102")]
    assert {span.parent.span_id for span in spans} == {outer}


def test_a_lost_connection_is_told_by_its_class(database: Database, exporter: InMemorySpanExporter) -> None:
    connection = database.connect("app")
    connection.close()
    with pytest.raises(psycopg.OperationalError):
        session.run(connection, calls.version())
    ((name, attributes, status),) = map(told, exporter.get_finished_spans())
    assert (name, attributes["error.type"], status) == ("version", "OperationalError", StatusCode.ERROR)
    assert "db.response.status_code" not in attributes


def test_who_instruments_twice_gets_one_span(database: Database, exporter: InMemorySpanExporter) -> None:
    other = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(other))
    tracing.instrument(provider)
    session.run(database.connect("app"), calls.version())
    assert exporter.get_finished_spans() == ()
    assert [span.name for span in other.get_finished_spans()] == ["version"]
