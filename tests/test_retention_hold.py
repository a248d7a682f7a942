"""A legal hold that was acknowledged holds against whatever commits afterwards, and retention waits for nobody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.conftest import Database
from tests.helpers import ACME, BETA, Connection, blocked, call, key, refused, save, until, value, versions

pytestmark = pytest.mark.sql

OTHER = key("acme", "s2")
ALL = "acme:*:*:*:*"


def kept(database: Database) -> dict[str, set[str]]:
    """What a hold keeps of ACME: versions, and the bytes of artifacts and uploads."""
    with psycopg.connect(database.dsn()) as connection:

        def rows(query: str) -> set[str]:
            return {str(row) for row in connection.execute(query + " where tenant_id = %s", (tenant_id,))}

        (tenant_id,) = connection.execute(
            "select tenant_id from ai_storage_private.tenant where isolation_key = %s", (ACME,)
        ).fetchone() or (0,)
        return {
            "versions": rows("select model_id, version, mse, metadata from ai_storage_private.progress_version"),
            "artifacts": rows(
                "select model_id, version, artifact_name, blob_id, media_type from ai_storage_private.model_artifact"
            ),
            "bytes": rows("select sha256, length(content) from ai_storage_private.artifact_chunk"),
        }


@pytest.fixture
def filled(database: Database) -> Database:
    """ACME with a model of three versions, an artifact, and an upload that has begun."""
    app = database.connect("app")
    for mse in range(3):
        save(app, "m", mse, as_=ACME)
    call(app, "put_artifact", model_name="m", artifact_name="weights", content=b"evidence", as_=ACME)
    upload(app, "big", b"part of the evidence")
    return database


def upload(connection: Connection, name: str, content: bytes) -> Any:
    """An upload in parts that is not finished."""
    upload_id = value(connection, "begin_artifact", model_name="m", artifact_name=name, as_=ACME)
    call(connection, "append_artifact", upload_id=upload_id, offset=0, content=content, as_=ACME)
    return upload_id


# A function of the tenant's -> a call of it that takes something of ACME's away. {id}: of the upload.
TAKES: dict[str, dict[str, Any]] = {
    "delete_progress": {"model_name": "m"},
    "delete_artifact": {"model_name": "m", "artifact_name": "weights"},
    "put_artifact": {"model_name": "m", "artifact_name": "weights", "content": b"harmless"},
    "abort_artifact": {"upload_id": "{id}"},
}


# It takes uploads that were abandoned, and passes by those that are held.
SWEEPS = {"begin_artifact"}
# Those that write and take nothing: a new one stands here or above.
TAKES_NOTHING = {
    "append_artifact", "finish_artifact", "save_progress", "save_progress_batch", "promote_progress", "import_tenant",
    "get_artifact", "list_artifacts", "list_received_shares", "list_shares", "list_uploads", "load_history",
    "load_progress", "open_artifact", "read_artifact", "read_chunks", "has_permission", "share_model", "revoke_share",
    "unshare_model", "audit_proof", "audit_trail", "export_audit", "export_tenant", "tenant_stats", "verify_audit",
    "set_tenant", "clear_tenant", "changes", "stage_artifact", "list_code_versions", "decline_share",
    "home",
}  # fmt: skip
# Tables of a tenant's whose rows may go under a hold, and why.
GO_UNDER_A_HOLD = {
    "ai_progress_tenant": "no model goes without its versions",
    "artifact_blob": "no content goes before the artifact that names it",
    "artifact_chunk": "no byte goes before its content or upload",
    "deleted_model": "nothing but an erasure takes it",
    "idempotency_key": "nothing but retention and an erasure take it, which pass the gate themselves",
    "tenant_cache_key": "nothing but an erasure takes it",
    "model_share": "a grant may be ended",
    "share_end": "it says which grants have ended",
    "share_decline": "it says which grants were declined",
    "tenant": "nothing takes it",
    "audit_pending": "it is sealed",
    "audit_event": "retention and an erasure take names, and pass the gate themselves",
    "audit_seal": "nothing takes it",
}


def test_every_function_and_every_table_was_thought_of(database: Database) -> None:
    admin = database.connect()
    functions = admin.execute(
        "select distinct p.proname from pg_proc as p where p.pronamespace = 'ai_storage'::regnamespace "
        "and p.provolatile = 'v' and has_function_privilege('ai_storage_app', p.oid, 'execute')"
    ).fetchall()
    assert {name for (name,) in functions} == TAKES.keys() | SWEEPS | TAKES_NOTHING
    tables = admin.execute(
        "select c.relname, exists (select from pg_trigger as t where t.tgrelid = c.oid and t.tgname = 'keep_held' "
        "and t.tgenabled = 'A' and t.tgdeferrable and t.tginitdeferred) "
        "from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attname = 'tenant_id' "
        "where c.relnamespace = 'ai_storage_private'::regnamespace and c.relkind = 'r'"
    ).fetchall()
    assert {name for name, kept in tables if not kept} == GO_UNDER_A_HOLD.keys()


def take(connection: Connection, function: str) -> None:
    arguments = TAKES[function]
    if "upload_id" in arguments:
        (row,) = call(connection, "list_uploads", as_=ACME)
        arguments = {"upload_id": row.upload_id}
    call(connection, function, **arguments, as_=ACME)


def hold(connection: Connection, pattern: str = ALL) -> None:
    call(connection, "set_retention", pattern=pattern, legal_hold=True)


@pytest.mark.parametrize("function", TAKES)
def test_each_of_them_takes_something_without_a_hold(filled: Database, function: str) -> None:
    before = kept(filled)
    take(filled.connect("app"), function)
    assert any(kept(filled)[what] < rows or kept(filled)[what].isdisjoint(rows) for what, rows in before.items())


@pytest.mark.parametrize("function", TAKES)
def test_nothing_that_is_held_goes(filled: Database, function: str) -> None:
    hold(filled.connect())
    before = kept(filled)
    with refused("TN501"):
        take(filled.connect("app"), function)
    assert kept(filled) == before


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("function", TAKES)
def test_what_was_under_way_when_the_hold_was_set_fails_at_its_commit(
    filled: Database, function: str, level: str
) -> None:
    before = kept(filled)
    app, admin = filled.connect("app"), filled.connect()
    app.execute(f"begin isolation level {level}")
    take(app, function)
    admin.execute("set statement_timeout = '3s'")
    hold(admin)
    with refused("TN501" if level == "read committed" else "40001", hint=level == "read committed"):
        app.execute("commit")
    assert kept(filled) == before


def test_an_abandoned_upload_that_is_held_is_not_swept(filled: Database) -> None:
    app, admin = filled.connect("app"), filled.connect()
    admin.execute("update ai_storage_private.artifact_upload set touched_at = now() - interval '2 days'")
    before = kept(filled)
    app.execute("begin")
    value(app, "begin_artifact", model_name="m", artifact_name="next", as_=ACME)
    hold(admin)
    with refused("TN501"):
        app.execute("commit")
    assert kept(filled) == before
    value(app, "begin_artifact", model_name="m", artifact_name="next", as_=ACME)
    call(admin, "apply_retention")
    assert kept(filled) == before
    call(admin, "drop_retention", pattern=ALL)
    call(admin, "apply_retention")
    assert kept(filled)["bytes"] < before["bytes"]


@pytest.mark.parametrize("content", [b"new evidence", b"evidence"])
def test_what_is_held_goes_on_growing(filled: Database, content: bytes) -> None:
    app = filled.connect("app")
    hold(filled.connect())
    before = kept(filled)
    upload_id = upload(app, "more", content)
    call(
        app, "finish_artifact", upload_id=upload_id, size_bytes=len(content), sha256=sha256(content).hexdigest(),
        as_=ACME,
    )  # fmt: skip
    save(app, "m", 7, as_=ACME)
    lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
    call(filled.connect(), "set_retention", pattern="beta:*:*:*:*", legal_hold=True)
    call(app, "import_tenant", records=lines, as_=BETA)
    after = kept(filled)
    assert all(after[what] >= rows for what, rows in before.items())
    assert len(after["artifacts"]) == 2


def test_a_deletion_from_inside_a_callers_own_trigger_is_no_way_around(filled: Database) -> None:
    app, admin = filled.connect("app"), filled.connect()
    before = kept(filled)
    app.execute("create temporary table t (x int)")
    app.execute(
        "create function pg_temp.f() returns trigger language plpgsql as "
        f"$$ begin perform ai_storage.delete_progress('m', p_as => '{ACME}'); return null; end $$"
    )
    app.execute("create trigger f after insert on t for each row execute function pg_temp.f()")
    app.execute("begin")
    app.execute("insert into t values (1)")
    hold(admin)
    with refused("TN501"):
        app.execute("commit")
    assert kept(filled) == before


def test_who_keeps_a_deletion_from_ending_delays_a_hold_by_seconds_and_is_named(filled: Database) -> None:
    # Not connected by the fixture, which would miss it at the end.
    app, admin = psycopg.connect(filled.dsn("app"), autocommit=True), filled.connect()
    app.execute("begin")
    take(app, "delete_progress")
    app.execute("set constraints all immediate")
    with refused("55P03") as caught:
        hold(admin)
    assert str(app.info.backend_pid) in caught.value.diag.message_detail
    assert call(admin, "list_retention") == []
    admin.execute("select pg_terminate_backend(%s)", (app.info.backend_pid,))
    until(
        lambda: (
            admin.execute("select count(*) from pg_stat_activity where pid = %s", (app.info.backend_pid,)).fetchone()
            == (0,)
        ),
        "the end of a session",
    )
    app.close()
    hold(admin)
    assert versions(filled.connect("app"), "m", as_=ACME) == [3, 2, 1]


def test_a_deletion_waits_for_a_hold_that_is_being_set(filled: Database) -> None:
    app, admin, watcher = filled.connect("app"), filled.connect(), filled.connect()
    before = kept(filled)
    admin.execute("begin")
    hold(admin)
    with blocked(watcher, app, lambda: take(app, "delete_progress")) as future:
        admin.execute("commit")
        with refused("TN501"):
            future.result(30)
    assert kept(filled) == before


def test_saves_and_deletions_of_others_do_not_wait_for_each_other(filled: Database) -> None:
    app, other, admin = filled.connect("app"), filled.connect("app"), filled.connect()
    save(other, "m", as_=BETA)
    app.execute("begin")
    take(app, "delete_progress")
    app.execute("set constraints all immediate")
    other.execute("set statement_timeout = '3s'")
    assert value(other, "delete_progress", model_name="m", as_=BETA) is True
    save(other, "n", as_=BETA)
    app.execute("rollback")
    assert call(admin, "list_retention") == []


def test_a_rule_that_says_nothing_of_a_hold_does_not_end_one_that_is_set_meanwhile(filled: Database) -> None:
    admin, second, watcher = filled.connect(), filled.connect(), filled.connect()
    admin.execute("begin")
    hold(admin)
    with blocked(watcher, second, lambda: call(second, "set_retention", pattern=ALL, keep_versions=1)) as future:
        admin.execute("commit")
        future.result(30)
    (rule,) = call(admin, "list_retention")
    assert (rule.keep_versions, rule.legal_hold) == (1, True)


def test_an_erasure_that_is_open_does_not_commit_against_a_hold(filled: Database) -> None:
    admin, second = filled.connect(), filled.connect()
    before = kept(filled)
    hold(second)
    with refused("TN501"):
        value(admin, "erase_tenant", pattern=ALL, reason="r")
    call(second, "drop_retention", pattern=ALL)
    # It holds the gate up to its commit, so a hold comes before or after it, and never between.
    admin.execute("begin")
    value(admin, "erase_tenant", pattern=ALL, reason="r")
    with refused("55P03"):
        hold(second)
    admin.execute("rollback")
    hold(second)
    assert kept(filled) == before


def test_an_erasure_does_not_wait_without_end(filled: Database) -> None:
    app, admin = filled.connect("app"), filled.connect()
    app.execute("begin")
    save(app, "m", 9, as_=ACME)
    with refused("55P03"):
        value(admin, "erase_tenant", pattern=ALL, reason="r")
    app.execute("commit")
    value(admin, "erase_tenant", pattern=ALL, reason="r")
    assert kept(filled) == {"versions": set(), "artifacts": set(), "bytes": set()}


class TestRuns:
    @pytest.fixture
    def sealed(self, filled: Database) -> Database:
        """ACME, with names in its log that retention takes after a microsecond."""
        admin = filled.connect()
        save(filled.connect("app"), "m", 9, as_=BETA)
        call(admin, "seal_audit")
        return filled

    def run_beside(self, database: Database, what: Callable[[Connection], Any]) -> Any:
        """A run that has swept versions, and has not ended, while an administrator does something."""
        runner, second, watcher = database.connect(), database.connect(), database.connect()
        with psycopg.connect(database.dsn()) as locker:
            locker.execute("lock table ai_storage_private.audit_event in share mode")
            with blocked(watcher, runner, lambda: call(runner, "apply_retention")) as future:
                what(second)
                locker.commit()
                return future.result(30)[0]

    def test_a_hold_that_is_set_during_a_run_holds_against_it(self, sealed: Database) -> None:
        admin = sealed.connect()
        call(
            admin, "set_retention", pattern="*:*:*:*:*", keep_versions=1, keep_events_for=timedelta(microseconds=1)
        )  # fmt: skip
        before = kept(sealed)
        swept = self.run_beside(sealed, hold)
        assert (swept.tenants, swept.versions) == (1, 0)  # the events of BETA
        assert kept(sealed) == before

    def test_a_rule_that_keeps_more_counts_for_a_run_that_is_under_way(self, sealed: Database) -> None:
        admin = sealed.connect()
        call(admin, "set_retention", pattern=ALL, keep_versions=1, keep_events_for=timedelta(microseconds=1))
        swept = self.run_beside(
            sealed, lambda second: call(second, "set_retention", pattern=ALL, keep_versions=100)
        )  # fmt: skip
        assert (swept.tenants, swept.versions) == (0, 0)
        assert versions(sealed.connect("app"), "m", as_=ACME) == [3, 2, 1]

    def test_a_tenant_in_the_way_is_passed_by_and_the_others_are_not(self, filled: Database) -> None:
        app, admin = filled.connect("app"), filled.connect()
        for tenant in (OTHER, BETA):
            for mse in range(3):
                save(app, "m", mse, as_=tenant)
        call(admin, "set_retention", pattern="*:*:*:*:*", keep_versions=1)
        app.execute("begin")
        # Retention deletes the artifact's row, which this holds.
        call(app, "delete_artifact", model_name="m", artifact_name="weights", as_=ACME)
        save(app, "m", 9, as_=ACME)
        admin.execute("set statement_timeout = '10s'")
        (swept,) = call(admin, "apply_retention")
        assert swept.cursor is None
        other = filled.connect("app")
        assert versions(other, "m", as_=OTHER) == [3]
        assert versions(other, "m", as_=BETA) == [3]

    def test_a_run_goes_on_where_the_call_before_it_ended(self, filled: Database) -> None:
        app, admin = filled.connect("app"), filled.connect()
        for tenant in (OTHER, BETA):
            for mse in range(3):
                save(app, "m", mse, as_=tenant)
        call(admin, "set_retention", pattern="*:*:*:*:*", keep_versions=1)
        after, done = "", []
        while after is not None:
            (swept,) = call(admin, "apply_retention", after=after, limit=1)
            assert swept.tenants <= 1
            done.append(swept.tenants)
            after = swept.cursor
        assert sum(done) == 3
        for limit in (0, -1, None):
            with refused("22023"):
                call(admin, "apply_retention", limit=limit)

    def test_a_receiver_pushes_none_of_the_owners_versions_out(self, filled: Database) -> None:
        app, admin = filled.connect("app"), filled.connect()
        call(
            app, "share_model", model_name="m", targets=[{"org_id": "acme", "server_id": "s2"}],
            permissions="{write}", as_=ACME,
        )  # fmt: skip
        for mse in range(9):
            save(app, "m", mse, owner=ACME, as_=OTHER)
        call(admin, "set_retention", pattern=ALL, keep_versions=2)
        call(admin, "apply_retention")
        left = call(app, "load_history", model_name="m", as_=ACME)
        assert [(row.version, row.saved_by) for row in left] == [(12, OTHER), (11, OTHER), (3, ACME), (2, ACME)]


def test_importing_takes_nothing_that_is_held(filled: Database) -> None:
    hold(filled.connect())
    before = kept(filled)
    app = filled.connect("app")
    lines = [row[0] for row in call(app, "export_tenant", as_=ACME)]
    with refused("23505"):
        app.execute("select ai_storage.import_tenant(%s, %s)", (Jsonb(lines), ACME))
    assert kept(filled) == before
