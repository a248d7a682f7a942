"""The compliance report: every control is checked when it is asked for, and every one can fail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.conftest import Database, Server, install
from tests.helpers import ACME, BETA, Connection, call, key, refused, save, unchanged, value

pytestmark = pytest.mark.sql

PRIVATE = "ai_storage_private"
TABLE = f"{PRIVATE}.ai_progress_tenant"
# What the tests' server does for speed, and what their logins may do.
KNOWN = {"a commit survives a crash": "failed", "no login may name every organisation by key": "warning"}

# control -> what breaks it, and the status it then has
BREAKS: dict[str, tuple[str, str]] = {
    "row level security is forced on every table": (f"alter table {TABLE} no force row level security", "failed"),
    "row policies are permissive, and for the owning roles only": (
        f"create policy open on {TABLE} to stranger using (true)",
        "failed",
    ),
    "nobody but the owning roles has a right on a table": (f"grant select (mse) on {TABLE} to stranger", "failed"),
    "functions are open to the groups that they are for": (
        "grant execute on function ai_storage.erase_tenant(text, text) to ai_storage_app",
        "failed",
    ),
    "nobody but who installed it may act as an owning role": ("grant ai_storage_operator to stranger", "failed"),
    "policies of the tables' owner name the tenant": (
        f"create policy wide on {TABLE} to ai_storage_owner using (true)",
        "failed",
    ),
    "the private schema is closed": (f"grant usage on schema {PRIVATE} to public", "failed"),
    "no function is open to everybody": ("grant execute on function ai_storage.seal_audit() to public", "failed"),
    "functions with the rights of their owner pin their search path": (
        "alter function ai_storage.seal_audit() reset search_path",
        "failed",
    ),
    "everything belongs to the owning roles": ("alter function ai_storage.seal_audit() owner to postgres", "failed"),
    "the package's roles cannot log in and have no power": ("alter role ai_storage_app login", "failed"),
    "application logins cannot walk around row level security": ("alter role beta_app bypassrls", "failed"),
    "whoever audits does not administer, and applications do neither": (
        "grant ai_storage_auditor to beta_app",
        "warning",
    ),
    "new passwords are stored as SCRAM": ("set local password_encryption = 'md5'", "failed"),
    "the triggers that record changes are on, on every table": (
        f"alter table {TABLE} disable trigger record_model_change",
        "failed",
    ),
    "no session replays changes as a replica": ("set local session_replication_role = replica", "failed"),
    "the audit log verifies": (
        f"update {PRIVATE}.audit_event set action = 'load model' where tenant_id > 0",
        "failed",
    ),
    "models are as the audit log says they were saved": (
        f"alter table {TABLE} disable trigger all; update {TABLE} set mse = 0; "
        f"alter table {TABLE} enable always trigger record_model_change",
        "failed",
    ),
    "events are sealed within a minute": (
        f"update {PRIVATE}.audit_pending set recorded_at = now() - interval '2 minutes'",
        "warning",
    ),
    "seals are under a checkpoint within a day": (
        f"update {PRIVATE}.audit_seal set sealed_at = now() - interval '2 days', checkpoint_number = 99",
        "warning",
    ),
    "the audit log is written by its own functions only": (
        f"grant delete on {PRIVATE}.audit_event to ai_storage_operator",
        "failed",
    ),
    "refused credentials are few": (
        f"select {PRIVATE}.record_event(0, 'refuse credentials', p_detail => '{{\"in_all\": 1001}}'); "
        "select ai_storage.seal_audit()",
        "warning",
    ),
    "every tenant has a retention rule": ("select ai_storage.drop_retention('*:*:*:*:*')", "warning"),
    "retention is applied": (
        f"update {PRIVATE}.audit_event set recorded_at = now() - interval '3 days' where action = 'apply retention'",
        "warning",
    ),
    "what was erased is gone from the log": (
        f"update {PRIVATE}.audit_event set salt = '{uuid4()}' where tenant_id > 0 and salt is null",
        "failed",
    ),
    "every certificate of an erasure is proved by the log": (
        f"update {PRIVATE}.erasure_certificate set statement = replace(statement, 'left', 'stayed')",
        "failed",
    ),
    "signing keys are rotated every 90 days": (
        "select ai_storage.create_signing_key(); "
        f"update {PRIVATE}.signing_key set created_at = now() - interval '91 days'",
        "warning",
    ),
    "contexts are signed with one secret": (f"delete from {PRIVATE}.context_secret", "failed"),
    "the server's log keeps no content": ("set local log_statement = 'all'", "warning"),
    "no table is left out of the write-ahead log": (f"alter table {TABLE} set unlogged", "failed"),
    "no publication carries the tables elsewhere": (f"create publication p for table {TABLE}", "warning"),
    "nobody else's trigger or rule runs on a table": (
        f"create rule r as on delete to {TABLE} do also select 1",
        "failed",
    ),
    "what is shared with another organisation has an end": (
        f"update {PRIVATE}.model_share set expires_at = null",
        "warning",
    ),
    "there is a backup of the last two days": (
        f'update {PRIVATE}.audit_event set salt = salt, detail = \'{{"taken_at": "2026-01-01"}}\' '
        "where action = 'report backup'",
        "failed",
    ),
    "no application login keeps settings for its sessions": (
        "alter role app set default_transaction_read_only = on",
        "warning",
    ),
    "nobody broke the glass in the last 30 days": (
        "select ai_storage.break_glass('acme:*:*:*:*', 'a look')",
        "warning",
    ),
}
# What cannot be changed while the server runs, and is tested by a server that was started so.
AT_START = {"connections from other machines are encrypted", "pages have checksums"}


def report(connection: Connection) -> dict[str, Any]:
    return {row.control: row for row in call(connection, "compliance_report")}


def statuses(connection: Connection) -> dict[str, str]:
    return {control: row.status for control, row in report(connection).items()}


@pytest.fixture
def admin(database: Database) -> Connection:
    """A database in which every control has something to look at and what administrators should do was done."""
    app, admin = database.connect("app"), database.connect()
    save(app, "gone", as_=BETA)
    value(admin, "erase_tenant", pattern=BETA, reason="the customer left")
    save(app, "m", as_=ACME)
    call(admin, "allow_external_sharing", org_id="acme", to_org_id="beta")
    call(
        app,
        "share_model",
        model_name="m",
        targets=[{"org_id": "beta"}],
        expires_at=datetime.now(UTC) + timedelta(days=1),
        as_=ACME,
    )
    call(admin, "set_retention", pattern="*:*:*:*:*", keep_versions=100)
    call(admin, "apply_retention")
    call(admin, "report_backup", taken_at=datetime.now(UTC) - timedelta(hours=1), location="somewhere")
    call(admin, "seal_audit")
    call(admin, "create_checkpoint")
    save(app, "pending", as_=ACME)
    return admin


# Other ways to break a control than the one above.
MORE = [
    ("nobody but the owning roles has a right on a table", f"grant truncate on {TABLE} to public"),
    (
        "functions are open to the groups that they are for",
        f"grant execute on function {PRIVATE}.lend(bigint[], uuid[]) to ai_storage_app",
    ),
    (
        "functions are open to the groups that they are for",
        "grant execute on function ai_storage.erase_tenant(text, text) to stranger",
    ),
    (
        "policies of the tables' owner name the tenant",
        f"alter policy tenant_keeps_its_models on {TABLE} using (true) with check (true)",
    ),
    ("application logins cannot walk around row level security", "grant pg_execute_server_program to beta_app"),
    ("application logins cannot walk around row level security", "grant ai_storage_owner to acme_app"),
    (
        "the triggers that record changes are on, on every table",
        f"create or replace trigger record_model_change after insert or update or delete on {TABLE} for each row "
        f"when (false) execute function {PRIVATE}.record_model_change(); "
        f"alter table {TABLE} enable always trigger record_model_change",
    ),
    (
        "the triggers that record changes are on, on every table",
        f"alter table {TABLE} enable trigger record_model_change",
    ),
    (
        "the audit log is written by its own functions only",
        f"grant update (leaf_hash) on {PRIVATE}.audit_event to ai_storage_operator",
    ),
    ("the audit log verifies", f"update {PRIVATE}.audit_event set salt = null, detail = null where tenant_id = 0"),
    ("new passwords are stored as SCRAM", "set local password_encryption = 'scram-sha-256'"),
    ("everything belongs to the owning roles", "create table ai_storage.mine ()"),
]


@contextmanager
def broken(database: Database, admin: Connection, statement: str) -> Iterator[None]:
    """What breaks a control, undone afterwards."""
    with admin.transaction(force_rollback=True):
        admin.execute(statement)
        yield


class TestReport:
    def test_all_controls_are_met_when_everything_was_done(self, admin: Connection) -> None:
        rows = report(admin)
        assert len(rows) >= 20
        assert {control: row.status for control, row in rows.items() if row.status != "passed"} == KNOWN
        for row in rows.values():
            assert re.search(r"GDPR \d+.*; SOC 2 (CC|A|C|P|PI)\d", row.reference), row.reference
            assert row.result
            assert timedelta() <= datetime.now(UTC) - row.checked_at < timedelta(minutes=1)

    def test_every_control_is_broken_by_one_of_these_tests(self, admin: Connection) -> None:
        assert set(report(admin)) == set(BREAKS) | AT_START | set(KNOWN)

    @pytest.mark.parametrize("control", BREAKS)
    def test_a_broken_control_shows_in_the_next_call(self, database: Database, admin: Connection, control: str) -> None:
        statement, status = BREAKS[control]
        before = statuses(admin)
        with broken(database, admin, statement):
            after = statuses(admin)
        assert (before[control], after[control]) == ("passed", status)

    def test_an_owning_role_that_logs_in_shows(self, admin: Connection) -> None:
        with admin.transaction(force_rollback=True):
            admin.execute("alter role ai_storage_owner login")
            assert statuses(admin)["the package's roles cannot log in and have no power"] == "failed"

    @pytest.mark.parametrize(("control", "statement"), MORE)
    def test_so_does_every_other_way_to_break_it(
        self, database: Database, admin: Connection, control: str, statement: str
    ) -> None:
        with broken(database, admin, statement):
            assert statuses(admin)[control] == "failed"

    def test_what_nobody_told_is_unknown(self, database: Database) -> None:
        found = statuses(database.connect())
        assert {control for control, status in found.items() if status == "unknown"} == {
            "retention is applied",
            "there is a backup of the last two days",
        }

    def test_logins_for_all_organisations_and_a_server_that_forgets_are_told(self, admin: Connection) -> None:
        found = statuses(admin)
        with admin.transaction(force_rollback=True):
            call(admin, "deauthorize_login", login="app")
            admin.execute("set local synchronous_commit = on")
            assert report(admin)["no login may name every organisation by key"].status == "passed"
            assert "synchronous_commit = on" in report(admin)["a commit survives a crash"].result
        assert {control: found[control] for control in KNOWN} == KNOWN

    def test_the_evidence_is_a_query_that_says_the_same(self, admin: Connection) -> None:
        admin.execute("set search_path = pg_catalog")
        for row in report(admin).values():
            assert admin.execute(row.evidence).fetchone() == (row.status, row.result), row.control

    def test_auditors_may_ask_and_nobody_else(self, database: Database, admin: Connection) -> None:
        for function in ("compliance_report", "collect_evidence"):
            with refused("42501", hint=False):
                call(database.connect("app"), function)
        admin.execute("create role an_auditor login in role ai_storage_auditor")
        try:
            auditor = database.connect("an_auditor")
            with unchanged(database):
                assert statuses(auditor) == statuses(admin)
                call(auditor, "collect_evidence")
            auditor.close()
        finally:
            admin.execute("drop role an_auditor")


def test_on_a_durable_server_a_tenant_sees_the_worst_status(own_server: Server) -> None:
    install(own_server.dsn())
    with (
        psycopg.connect(own_server.dsn(), autocommit=True) as admin,
        psycopg.connect(own_server.dsn("acme_app"), autocommit=True) as app,
    ):
        save(app, "m", as_=ACME)

        def status() -> str:
            found = call(app, "tenant_stats", as_=ACME)[0].compliance_status
            assert isinstance(found, str)
            return found

        assert status() == "warning"  # the login app may name everybody
        call(admin, "deauthorize_login", login="app")
        assert status() == "passed"
        admin.execute(f"alter table {TABLE} disable trigger record_model_change")
        assert status() == "failed"

        # As if the server listened to others, had no checksums, or lost commits: these settings hold from its start.
        for control, setting, value_then, status_then in (
            ("connections from other machines are encrypted", "current_setting('listen_addresses')", "'*'", "failed"),
            ("pages have checksums", "current_setting('data_checksums')", "'off'", "warning"),
            ("a commit survives a crash", "else s.setting", "else 'off'", "failed"),
        ):
            row = report(admin)[control]
            assert row.status == "passed"
            assert admin.execute(row.evidence.replace(setting, value_then)).fetchone()[0] == status_then


class TestTold:
    def test_a_glass_is_broken_in_front_of_everybody_it_concerns(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        for tenant in (ACME, BETA):
            save(app, "m", as_=tenant)
        assert value(admin, "break_glass", pattern="acme:*:*:*:*", reason="ticket 17") == 1
        (event,) = call(app, "audit_trail", action="break glass", as_=ACME)
        assert event.detail["reason"] == "ticket 17"
        assert event.login == "postgres"
        assert call(app, "audit_trail", action="break glass", as_=BETA) == []

    @pytest.mark.parametrize(
        ("function", "arguments"),
        [
            ("break_glass", {"pattern": "acme", "reason": "r"}),
            ("break_glass", {"pattern": "acme:*:*:*:*", "reason": ""}),
            ("break_glass", {"pattern": "acme:*:*:*:*", "reason": None}),
            ("report_backup", {"taken_at": None}),
            ("report_backup", {"taken_at": datetime.now(UTC) + timedelta(days=1)}),
            ("report_backup", {"taken_at": datetime.now(UTC) - timedelta(days=1), "location": ""}),
        ],
    )
    def test_bad_input_changes_nothing(self, database: Database, function: str, arguments: dict[str, Any]) -> None:
        with unchanged(database), refused("22023"):
            call(database.connect(), function, **arguments)

    @pytest.mark.parametrize(
        ("function", "arguments"),
        [
            ("break_glass", {"pattern": ACME, "reason": "r"}),
            ("report_backup", {"taken_at": datetime.now(UTC)}),
        ],
    )
    def test_they_are_for_administrators(self, database: Database, function: str, arguments: dict[str, Any]) -> None:
        with unchanged(database), refused("42501", hint=False):
            call(database.connect("app"), function, **arguments)


class TestEvidence:
    SECTIONS = (
        "release controls roles rights policies triggers functions settings authorizations signing_keys audit "
        "checkpoints events shares retention erasures"
    )

    def test_it_is_the_same_twice_and_says_when_something_changed(self, database: Database, admin: Connection) -> None:
        first = dict(call(admin, "collect_evidence"))
        assert " ".join(first) == self.SECTIONS
        assert dict(call(admin, "collect_evidence")) == first
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_versions=7)
        second = dict(call(admin, "collect_evidence"))
        assert {name for name in first if first[name] != second[name]} == {"audit", "controls", "events", "retention"}

    def test_no_name_of_a_model_and_no_content_is_in_it(self, database: Database, admin: Connection) -> None:
        app = database.connect("app", application_name="canary-4c")
        save(app, "canary-4c", 1, metadata={"canary-4c": 1}, idempotency_key="canary-4c", as_=ACME)
        call(app, "share_model", model_name="canary-4c", targets=[{"server_id": "s2"}], as_=ACME)
        everything = json.dumps(dict(call(admin, "collect_evidence")))
        assert "acme:s2" in everything
        assert "canary-4c" not in everything


class TestStats:
    def test_they_count_what_is_there(self, database: Database) -> None:
        app = database.connect("app")
        (empty,) = call(app, "tenant_stats", as_=ACME)
        assert tuple(empty) == (ACME, 0, 0, 0, 0, 0, None, "failed")
        for mse in (1, 2):
            last = save(app, "m", mse, as_=ACME)
        other = key("acme", "s2")
        for name in ("a", "b", "c"):
            save(app, name, as_=other)
        for name in ("a", "b"):
            call(app, "share_model", model_name=name, targets=[{"server_id": "s1"}, {"server_id": "*"}], as_=other)
        call(app, "share_model", model_name="c", targets=[{"server_id": "s1"}], permissions="{write}", as_=other)
        (stats,) = call(app, "tenant_stats", as_=ACME)
        assert tuple(stats)[:7] == (ACME, 1, 2, 3, 2, 0, last.saved_at)
        call(app, "unshare_model", model_name="a", as_=other)
        assert call(app, "tenant_stats", as_=ACME)[0].shared_models == 1

    def test_another_tenant_is_not_to_be_asked_about(self, database: Database) -> None:
        with refused("TN003"):
            call(database.connect("acme_app"), "tenant_stats", as_=BETA)
