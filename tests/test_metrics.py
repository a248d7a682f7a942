"""The operator's metrics: they say what is there, cost the same however much that is, and tell of nobody."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from pydb import calls, cli, metrics, session
from pydb.calls import Metric
from tests.conftest import Database
from tests.helpers import Connection, call, key, refused, save, value

CANARY = key("canary-org", "canary-server", "canary-project", "canary-env", "canary-code")


def figures(connection: Connection) -> dict[str, float]:
    """The metrics without labels, by name."""
    return {row.metric: row.value for row in session.run(connection, calls.metrics()) if not row.labels}


def flush(connection: Connection) -> None:
    """Let PostgreSQL count this session's rows, which it does a moment later by itself."""
    connection.execute("select pg_stat_force_next_flush()")


@pytest.mark.sql
def test_they_say_what_is_there(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    call(admin, "seal_audit")  # what installing left
    before = figures(admin)
    assert {before[f"ai_storage_{name}"] for name in ("unsealed_events", "oldest_unsealed_event_age_seconds")} == {0}
    assert "ai_storage_last_checkpoint_age_seconds" not in before
    for version in range(3):
        save(app, "m", version, as_=key())
    call(app, "share_model", model_name="m", targets=[{"code_hash": "*"}], as_=key())
    value(app, "begin_artifact", model_name="m", artifact_name="a", as_=key())
    value(app, "begin_artifact", model_name="m", artifact_name="b", as_=key())
    call(admin, "create_signing_key")
    for _ in range(2):
        with refused("TN002"):
            save(app, "m", as_="x")
    flush(app)
    flush(admin)
    admin.execute("select ai_storage.version()")
    now = figures(admin)
    assert [now[f"ai_storage_{name}"] for name in ("tenants", "models", "versions", "grants")] == [1, 1, 3, 1]
    assert now["ai_storage_unsealed_events"] > 5
    assert 0 < now["ai_storage_oldest_unsealed_event_age_seconds"] < 60
    assert now["ai_storage_refused_credentials_total"] - before["ai_storage_refused_credentials_total"] == 2
    assert now["ai_storage_signing_keys"] - before["ai_storage_signing_keys"] == 1
    assert now["ai_storage_database_age_transactions"] >= before["ai_storage_database_age_transactions"] > 0

    admin.execute(
        "update ai_storage_private.artifact_upload set touched_at = now() - interval '25 hours' "
        "where artifact_name = 'a'"
    )
    call(admin, "seal_audit")
    sealed = figures(admin)
    assert sealed["ai_storage_unsealed_events"] == sealed["ai_storage_oldest_unsealed_event_age_seconds"] == 0
    assert 0 < sealed["ai_storage_last_seal_age_seconds"] < 60
    assert (
        sealed["ai_storage_unchained_seals"] - before["ai_storage_unchained_seals"] == 2
    )  # the tenant's and the operator's
    assert sealed["ai_storage_abandoned_uploads"] == 1
    value(admin, "create_checkpoint")
    chained = figures(admin)
    assert chained["ai_storage_unchained_seals"] == 0
    assert 0 < chained["ai_storage_last_checkpoint_age_seconds"] < 60


@pytest.mark.sql
def test_an_estimate_outlives_the_statistics_and_grows_with_the_table(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()

    def save_more(count: int) -> None:
        items = [{"model_name": str(uuid4()), "mse": 1, "metadata": {"x": "x" * 500}} for _ in range(count)]
        call(app, "save_progress_batch", items=items, as_=key())

    save_more(30)
    flush(app)
    app.execute("select ai_storage.version()")
    assert figures(admin)["ai_storage_models"] == 30  # never analyzed
    admin.execute("analyze ai_storage_private.ai_progress_tenant")
    admin.execute("select pg_stat_reset()")  # as a crash does
    assert figures(admin)["ai_storage_models"] == 30
    save_more(300)
    assert 250 < figures(admin)["ai_storage_models"] < 400


@pytest.mark.sql
def test_no_tenant_and_no_login_is_in_them(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    save(app, "canary-model", metadata={"canary": "canary"}, idempotency_key="canary-key", as_=CANARY)
    call(app, "share_model", model_name="canary-model", targets=[{"code_hash": "*"}], as_=CANARY)
    call(admin, "create_signing_key", kid="canary-kid", audience="canary-audience")
    call(admin, "set_retention", pattern="canary-org:*:*:*:*", keep_versions=3)
    call(admin, "seal_audit")
    rows = session.run(admin, calls.metrics())
    assert not re.search("canary|acme|beta|reporter", repr(rows))
    assert {label for row in rows for label in row.labels} == {"table", "version"}
    ours = {
        table for (table,) in admin.execute("select tablename from pg_tables where schemaname = 'ai_storage_private'")
    }
    assert {row.labels["table"] for row in rows if "table" in row.labels} == ours


# What grows with the tenants, filled by hand and without events.
FILL = {
    "tenant": "select n, 'o', 's' || n, 'p', 'e', 'c' from ns",
    "audit_seal": "select n, 1, 1, now() - interval '1 h' + n * interval '1 ms', 1, '', '', '' from ns",
    "audit_pending": "select n, gen_random_uuid(), now(), 1, null, 'a', 'l', 'c', null, '', null, null from ns",
    "artifact_upload": "select n, gen_random_uuid(), gen_random_uuid(), 1, 1, now(), now(), null, 'a', 't' from ns",
}


def test_they_cost_the_same_however_much_there_is(database: Database) -> None:
    admin = database.connect()

    def fill(first: int, last: int) -> None:
        for table, select in FILL.items():
            columns = "(tenant_id, org_id, server_id, project_id, environment, code_hash)" if table == "tenant" else ""
            admin.execute(f"alter table ai_storage_private.{table} disable trigger all")
            admin.execute(
                f"with ns as (select generate_series({first}, {last}) as n) "
                f"insert into ai_storage_private.{table} {columns} {select}"
            )
            admin.execute(f"vacuum analyze ai_storage_private.{table}")

    def pages() -> int:
        figures(admin)  # what a session reads of the catalog but once
        query = "explain (analyze, buffers, timing off, summary off, format json) select * from ai_storage.metrics()"
        ((((plan),),),) = admin.execute(query).fetchall()
        return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]

    fill(1, 12_000)
    few = pages()
    began = time.monotonic()
    fill(12_001, 24_000)
    assert few < 1500
    assert abs(pages() - few) < 100
    now = figures(admin)
    assert (now["ai_storage_unsealed_events"], now["ai_storage_unchained_seals"]) == (10_000, 10_000)
    assert now["ai_storage_tenants"] == 24_000
    # The newest of all: an hour less 24 s old when it was filled in.
    assert 0 < now["ai_storage_last_seal_age_seconds"] - 3576 < time.monotonic() - began


def test_the_command_prints_what_prometheus_reads(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["metrics", "--dsn", database.dsn()]) == 0
    families = list(parsed(capsys.readouterr().out))
    rows = session.run(database.connect(), calls.metrics())
    found = {(sample.name, *sample.labels.items()) for family in families for sample in family.samples}
    assert found == {(row.metric, *row.labels.items()) for row in rows}
    for family in families:
        name = family.name + ("_total" if family.type == "counter" else "")
        assert (family.type, family.documentation) in {(row.kind, row.help) for row in rows if row.metric == name}


def test_text_in_a_label_stays_in_it() -> None:
    odd = 'a"b\\c\nd'
    (family,) = parsed(metrics.render([Metric("m", "gauge", "help", {"l": odd, "k": "v"}, 1e16)]))
    (sample,) = family.samples
    assert (sample.labels, sample.value) == ({"l": odd, "k": "v"}, 1e16)
