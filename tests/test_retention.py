"""How long data is kept, and how it leaves: by a rule, by an erasure, by an export."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pydb import verifier
from tests.conftest import Database
from tests.helpers import (
    ACME,
    ACME_2,
    BETA,
    Connection,
    blocked,
    call,
    dump,
    key,
    names,
    refused,
    save,
    unchanged,
    value,
    versions,
)

pytestmark = pytest.mark.sql

OTHER = key("acme", "s2")
CANARY = "canary-7f3a91"
DAY = timedelta(days=1)


def age(database: Database, days: int) -> None:
    """Let every version and every event be so many days older, unseen by the log."""
    with psycopg.connect(database.dsn()) as connection:
        connection.execute("alter table ai_storage_private.progress_version disable trigger user")
        connection.execute("update ai_storage_private.progress_version set saved_at = saved_at - %s", (days * DAY,))
        connection.execute("alter table ai_storage_private.progress_version enable trigger user")
        for trigger in ("record_version", "record_change", "record_swept_versions", "record_truncate"):
            connection.execute(
                sql.SQL("alter table ai_storage_private.progress_version enable always trigger {}").format(
                    sql.Identifier(trigger)
                )
            )


def share_with(connection: Connection, name: str, owner: str, org: str = "acme", **more: Any) -> None:
    target = {"org_id": org, "server_id": "s2"}
    call(connection, "share_model", model_name=name, targets=[target], as_=owner, **more)


def verified(connection: Connection, tenant: str) -> bool:
    (row,) = call(connection, "verify_audit", as_=tenant)
    return bool(row.verified)


def all_verified(connection: Connection) -> bool:
    (row,) = call(connection, "verify_all_audit")
    return bool(row.verified)


class TestRules:
    def test_a_rule_is_listed_replaced_and_dropped(self, database: Database) -> None:
        admin = database.connect()
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_versions=5, keep_versions_for=30 * DAY)
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_events_for=90 * DAY, legal_hold=True)
        (rule,) = call(admin, "list_retention")
        assert rule[:5] == ("acme:*:*:*:*", None, None, 90 * DAY, True)
        assert value(admin, "drop_retention", pattern="acme:*:*:*:*") is True
        assert value(admin, "drop_retention", pattern="acme:*:*:*:*") is False

    @pytest.mark.parametrize(
        "limits",
        [
            {"pattern": "acme:*"},
            {"pattern": None},
            {"pattern": "a:*:*:*:*", "keep_versions": 0},
            {"pattern": "a:*:*:*:*", "keep_versions_for": timedelta(0)},
            {"pattern": "a:*:*:*:*", "keep_events_for": -DAY},
            {"pattern": "a:*:*:*:*", "keep_versions_for": "9000 years"},
            {"pattern": "a:*:*:*:*", "keep_events_for": "1001 years"},
        ],
    )
    def test_a_rule_that_means_nothing_is_refused(self, database: Database, limits: dict[str, Any]) -> None:
        admin = database.connect()
        with unchanged(database), refused("22023"):
            call(admin, "set_retention", **limits)

    @pytest.mark.parametrize(
        ("function", "arguments"),
        [
            ("set_retention", {"pattern": "*:*:*:*:*"}),
            ("drop_retention", {"pattern": "*:*:*:*:*"}),
            ("list_retention", {}),
            ("apply_retention", {}),
            ("erase_tenant", {"pattern": ACME, "reason": "r"}),
            ("list_erasures", {}),
            ("erasure_certificate", {"certificate_id": "00000000-0000-0000-0000-000000000000"}),
        ],
    )
    def test_they_are_for_administrators(self, database: Database, function: str, arguments: dict[str, Any]) -> None:
        with unchanged(database), refused("42501", hint=False):
            call(database.connect("app"), function, **arguments)

    def test_the_most_specific_rule_counts_and_any_hold(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        for tenant in (ACME, OTHER, BETA):
            for mse in range(5):
                save(app, "m", mse, as_=tenant)
        call(admin, "set_retention", pattern="*:*:*:*:*", keep_versions=4)
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_versions=3)
        call(admin, "set_retention", pattern="*:s1:p1:*:*", keep_versions=1)
        call(admin, "set_retention", pattern="beta:*:p1:*:*", keep_versions=2)
        (swept,) = call(admin, "apply_retention")
        assert versions(app, "m", as_=ACME) == [5]
        assert versions(app, "m", as_=OTHER) == [5, 4, 3]
        assert versions(app, "m", as_=BETA) == [5, 4]  # of two as specific, the one with the higher level
        assert swept[:2] == (3, 9)
        call(admin, "set_retention", pattern="*:*:*:production:*", legal_hold=True)
        call(admin, "set_retention", pattern=OTHER, keep_versions=1)
        call(admin, "apply_retention")
        assert versions(app, "m", as_=OTHER) == [5, 4, 3]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("erase_tenant", {"pattern": ACME, "reason": "r"}),
        ("apply_retention", {}),
        ("compliance_report", {}),
        ("break_glass", {"pattern": ACME, "reason": "r"}),
    ],
)
def test_the_transactions_own_tenant_is_there_again(
    database: Database, function: str, arguments: dict[str, Any]
) -> None:
    app, admin = database.connect("app"), database.connect()
    for mse in (1, 2):
        save(app, "a", mse, as_=ACME)
    save(app, "b", as_=BETA)
    call(admin, "set_retention", pattern="acme:*:*:*:*", keep_versions=1)
    admin.execute("grant ai_storage_admin to beta_app")
    try:
        both = database.connect("beta_app")
        both.execute("begin")
        value(both, "set_tenant", credential=BETA)
        call(both, function, **arguments)
        assert value(both, "current_tenant") == BETA
        assert names(both) == ["b"]
        both.execute("rollback")
    finally:
        admin.execute("revoke ai_storage_admin from beta_app")


class TestApply:
    def test_old_versions_go_but_the_current_and_a_shared_one(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        for mse in range(4):
            save(app, "m", mse, as_=ACME, idempotency_key=f"k{mse}")
        save(app, "still", as_=ACME)
        share_with(app, "m", ACME, version=2)
        call(admin, "seal_audit")
        save(app, "m", 9, as_=ACME)
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_versions_for=timedelta(microseconds=1))
        (swept,) = call(admin, "apply_retention")
        assert (swept.tenants, swept.versions, swept.events) == (1, 3, 0)
        assert versions(app, "m", as_=ACME) == [5, 2]
        assert versions(app, "still", as_=ACME) == [1]
        assert verified(app, ACME)
        assert [row.action for row in call(app, "audit_trail", as_=ACME)].count("apply retention") == 1
        # Nothing is left to do.
        assert call(admin, "apply_retention")[0][:3] == (0, 0, 0)

    def test_nobody_is_waited_for(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        for mse in range(3):
            save(app, "m", mse, as_=ACME)
            save(app, "n", mse, as_=ACME)
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_versions=1)
        app.execute("begin")
        call(app, "delete_progress", model_name="m", as_=ACME)
        pinning = database.connect("app")
        pinning.execute("begin")
        share_with(pinning, "n", ACME, version=1)
        admin.execute("set statement_timeout = '10s'")
        assert call(admin, "apply_retention")[0].versions == 1
        app.execute("rollback")
        pinning.execute("commit")
        assert versions(app, "n", as_=ACME) == [3, 1]
        assert call(admin, "apply_retention")[0].versions == 2
        assert versions(app, "m", as_=ACME) == [3]
        assert versions(app, "n", as_=ACME) == [3, 1]

    def test_events_of_swept_versions_lose_their_names_and_those_of_kept_ones_do_not(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        for mse in range(3):
            save(app, "m", mse, as_=ACME)
        call(admin, "seal_audit")
        call(
            admin,
            "set_retention",
            pattern="acme:*:*:*:*",
            keep_versions=1,
            keep_events_for=timedelta(microseconds=1),
        )
        call(admin, "apply_retention")
        saved = call(app, "audit_trail", action="save model", as_=ACME)
        assert [(row.version, row.detail is None) for row in saved] == [(1, True), (2, True), (3, False)]
        assert verified(app, ACME)

    def test_an_event_that_is_sealed_meanwhile_keeps_its_names(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        sealer, watcher = database.connect(), database.connect()
        save(app, "old", as_=ACME)
        call(admin, "seal_audit")
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_events_for=timedelta(microseconds=1))
        app.execute("begin")
        save(app, "new", as_=ACME)
        # Retention has read the versions when it waits for this lock; the sealer does not.
        sealer.execute("begin")
        sealer.execute("lock table ai_storage_private.audit_event in share mode")
        with blocked(watcher, admin, lambda: call(admin, "apply_retention")) as future:
            app.execute("commit")
            call(sealer, "seal_audit")
            sealer.execute("commit")
            future.result(30)
        assert verified(app, ACME)

    def test_old_keys_go(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        save(app, "m", 1, as_=ACME, idempotency_key="k")
        admin.execute("update ai_storage_private.idempotency_key set saved_at = now() - interval '31 days'")
        save(app, "m", 2, as_=ACME, idempotency_key="new")
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_versions_for=30 * DAY)
        call(admin, "apply_retention")
        keys = admin.execute("select idempotency_key from ai_storage_private.idempotency_key").fetchall()
        assert keys == [("new",)]

    def test_events_lose_names_once_their_version_is_gone_and_verify(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        save(app, "kept", as_=ACME)
        save(app, "gone", as_=ACME)
        save(app, "others", as_=BETA)
        call(app, "delete_progress", model_name="gone", as_=ACME)
        call(admin, "seal_audit")
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_events_for=timedelta(microseconds=1))
        before = call(admin, "create_checkpoint")
        (swept,) = call(admin, "apply_retention")
        assert swept.events == 3  # the registration, the save and the deletion
        details = {(row.action, (row.detail or {}).get("model_name")) for row in call(app, "audit_trail", as_=ACME)}
        assert details == {
            ("insert tenant", None),
            ("save model", None),
            ("delete model", None),
            ("insert deleted model", "gone"),  # which is remembered all the same
            ("save model", "kept"),
            ("apply retention", None),
        }
        assert {row.detail["model_name"] for row in call(app, "audit_trail", as_=BETA, action="save model")} == {
            "others"
        }
        assert verified(app, ACME)
        assert all_verified(admin)
        assert call(admin, "create_checkpoint") == before  # nothing of what was sealed changed

    def test_worthless_grants_go(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        save(app, "m", as_=ACME)
        share_with(app, "m", ACME)
        admin.execute("update ai_storage_private.model_share set expires_at = now() - interval '1 day'")
        save(app, "n", as_=ACME)
        share_with(app, "n", ACME)
        (swept,) = call(admin, "apply_retention")
        assert swept.shares == 1
        assert [row.model_name for row in call(app, "list_shares", as_=ACME)] == ["n"]

    def test_it_is_in_the_operators_log_and_refuses_an_old_snapshot(self, database: Database) -> None:
        admin = database.connect()
        call(admin, "apply_retention")
        logged = "select count(*) from ai_storage_private.audit_pending where tenant_id = 0 and action = %s"
        assert admin.execute(logged, ("apply retention",)).fetchone() == (1,)
        call(admin, "set_retention", pattern="acme:*:*:*:*")
        assert admin.execute(logged, ("insert retention rule",)).fetchone() == (1,)
        admin.execute("begin isolation level repeatable read")
        with refused("25000"):
            call(admin, "apply_retention")
        admin.execute("rollback")


def fill(database: Database, tenant: str) -> None:
    """Something with the canary in every place where a tenant may write."""
    app = database.connect("app", application_name=CANARY)
    for mse in (1, 2):
        save(
            app, f"{CANARY} model", mse, metrics={CANARY: 1.5}, metadata={"note": [CANARY, "x" * 9000]},
            idempotency_key=f"{CANARY} {mse}", as_=tenant,
        )  # fmt: skip
    save(app, f"{CANARY} deleted", as_=tenant)
    call(app, "delete_progress", model_name=f"{CANARY} deleted", as_=tenant)
    share_with(app, f"{CANARY} model", tenant)
    assert names(app, scope="shared", as_=OTHER) == [f"{CANARY} model"]
    call(app, "load_progress", model_name=f"{CANARY} model", owner=tenant, as_=OTHER)
    call(app, "load_history", model_name=f"{CANARY} model", owner=tenant, as_=OTHER)


def erase(connection: Connection, pattern: str, reason: str = "the customer left") -> dict[str, Any]:
    certificate = value(connection, "erase_tenant", pattern=pattern, reason=reason)
    assert isinstance(certificate, dict)
    return certificate


class TestErasure:
    def test_nothing_of_the_tenant_is_left_and_nothing_else_is_gone(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        for tenant in (OTHER, BETA):
            save(app, "mine", 3, metadata={"a": 1}, as_=tenant)
        fill(database, ACME)
        before = dump(database)
        assert any(CANARY in row for rows in before.values() for row in rows)
        certificate = erase(admin, ACME)
        after = dump(database)
        assert {table for table, rows in after.items() if any(CANARY in row for row in rows)} == set()
        for table in ("ai_progress_tenant", "progress_version", "deleted_model", "idempotency_key", "tenant"):
            kept = [row for row in before[table] if CANARY not in row]
            assert after[table] == kept
        assert names(app, as_=ACME) == []
        assert names(app, as_=OTHER) == ["mine"]
        assert not any(CANARY in json.dumps(line) for (line,) in call(app, "export_tenant", as_=ACME))
        assert not any(CANARY in json.dumps(line) for (line,) in call(app, "export_audit", as_=ACME))
        statement = json.loads(certificate["statement"])
        assert statement["reason"] == "the customer left"
        (erased,) = statement["tenants"]
        assert {name: erased[name] for name in ("models", "versions", "names", "shares", "idempotency_keys")} == {
            "models": 1,
            "versions": 2,
            "names": 2,
            "shares": 1,
            "idempotency_keys": 2,
        }

    def test_the_log_still_verifies_and_goes_on(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        fill(database, ACME)
        save(app, "mine", as_=OTHER)
        call(admin, "seal_audit")
        kept = value(admin, "create_checkpoint")
        erase(admin, ACME)
        assert all_verified(admin)
        assert verified(app, ACME)
        assert verified(app, OTHER)
        line = admin.execute(
            "select encode(checkpoint_hash, 'hex') from ai_storage_private.audit_checkpoint "
            "where checkpoint_number = %s",
            (kept["checkpoint_number"],),
        ).fetchone()
        assert line == (kept["checkpoint_hash"],)
        events = call(app, "audit_trail", as_=ACME)
        assert [row.action for row in events if row.detail is not None] == ["erase tenant"]
        assert {"save model", "insert share", "read model", "delete model"} <= {row.action for row in events}
        save(app, "again", as_=ACME)
        call(admin, "seal_audit")
        assert all_verified(admin)
        assert verified(app, ACME)

    def test_a_pattern_takes_all_its_tenants_and_no_other(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        for tenant in (ACME, ACME_2, OTHER, BETA):
            save(app, "m", as_=tenant)
        certificate = erase(admin, "acme:s1:*:*:*")
        statement = json.loads(certificate["statement"])
        assert [tenant["isolation_key"] for tenant in statement["tenants"]] == [ACME, ACME_2]
        assert [names(app, as_=tenant) for tenant in (ACME, ACME_2, OTHER, BETA)] == [[], [], ["m"], ["m"]]

    def test_the_certificate_verifies_offline_and_is_kept(self, database: Database, tmp_path: Path) -> None:
        app, admin = database.connect("app"), database.connect()
        save(app, "m", as_=ACME)
        certificate = erase(admin, ACME)
        certificate_id = json.loads(certificate["statement"])["certificate_id"]
        assert value(admin, "erasure_certificate", certificate_id=certificate_id) == certificate
        (listed,) = call(admin, "list_erasures")
        assert (str(listed.certificate_id), listed.pattern, listed.tenants) == (certificate_id, ACME, 1)
        path = tmp_path / "certificate.json"
        path.write_text(json.dumps(certificate))
        pinned = certificate["checkpoint"]["checkpoint_hash"]
        assert verifier.main([str(path), "--checkpoint", pinned]) == 0
        path.write_text(json.dumps(certificate | {"statement": certificate["statement"].replace(ACME, BETA)}))
        assert verifier.main([str(path)]) == 1

    def test_a_hold_forbids_it(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        save(app, "m", as_=ACME)
        save(app, "m", as_=BETA)
        call(admin, "set_retention", pattern="acme:*:*:*:*", legal_hold=True)
        with unchanged(database), refused("TN501"):
            erase(admin, "*:*:*:*:*")
        app_of_beta = database.connect("beta_app")
        with unchanged(database), refused("TN501"):
            call(app, "delete_progress", model_name="m", as_=ACME)
        save(app_of_beta, "n", as_=BETA)
        assert value(app_of_beta, "delete_progress", model_name="n", as_=BETA) is True
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_versions=9)
        with refused("TN501"):  # a rule that says nothing of the hold leaves it
            erase(admin, "*:*:*:*:*")
        call(admin, "set_retention", pattern="acme:*:*:*:*", legal_hold=False)
        erase(admin, "*:*:*:*:*")
        assert names(app, as_=ACME) == []

    @pytest.mark.parametrize(
        ("pattern", "reason", "sqlstate"),
        [
            ("acme:*", "r", "22023"),
            (None, "r", "22023"),
            (ACME, "", "22023"),
            (ACME, None, "22023"),
            (ACME, "a\nb", "22023"),
            ("nobody:*:*:*:*", "r", "42704"),
        ],
    )
    def test_bad_input_changes_nothing(self, database: Database, pattern: Any, reason: Any, sqlstate: str) -> None:
        app, admin = database.connect("app"), database.connect()
        save(app, "m", as_=ACME)
        with unchanged(database), refused(sqlstate):
            erase(admin, pattern, reason)
        with refused("TN502"):
            call(admin, "erasure_certificate", certificate_id="00000000-0000-0000-0000-000000000000")

    def test_an_open_save_is_waited_for_and_erased(self, database: Database) -> None:
        app, admin, watcher = database.connect("app"), database.connect(), database.connect()
        save(app, "m", 1, as_=ACME)
        app.execute("begin")
        save(app, "m", 2, metadata={"note": CANARY}, as_=ACME)
        with blocked(watcher, admin, lambda: erase(admin, ACME)) as future:
            app.execute("commit")
            future.result(30)
        assert not any(CANARY in row for rows in dump(database).values() for row in rows)
        assert verified(app, ACME)

    def test_sealing_goes_on_while_it_waits(self, database: Database) -> None:
        app, admin, sealer = database.connect("app"), database.connect(), database.connect()
        save(app, "m", 1, as_=ACME)
        app.execute("begin")
        save(app, "m", 2, as_=ACME)
        sealer.execute("set statement_timeout = '10s'")
        with blocked(sealer, admin, lambda: erase(admin, ACME)) as future:
            assert call(sealer, "seal_audit")[0].events > 0
            app.execute("commit")
            future.result(30)

    def test_a_writer_that_goes_on_to_delete_is_waited_for_and_not_deadlocked(self, database: Database) -> None:
        app, admin, watcher = database.connect("app"), database.connect(), database.connect()
        save(app, "m", 1, as_=ACME)
        share_with(app, "m", ACME)
        app.execute("begin")
        save(app, "m", 2, as_=ACME)
        with blocked(watcher, admin, lambda: erase(admin, ACME)) as future:
            call(app, "delete_progress", model_name="m", as_=ACME)
            app.execute("commit")
            future.result(30)
        assert names(app, as_=ACME) == []

    def test_what_the_tenant_passed_on_goes_and_what_others_gave_stays(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        third = key("acme", "s3")
        for tenant in (ACME, OTHER):
            save(app, "m", as_=tenant)
        call(
            app,
            "share_model",
            model_name="m",
            targets=[{"server_id": "s1"}],
            permissions="{read,share}",
            as_=OTHER,
        )
        call(app, "share_model", model_name="m", targets=[{"server_id": "s3"}], owner=OTHER, as_=ACME)
        assert names(app, scope="shared", as_=third) == ["m"]
        erase(admin, ACME)
        assert names(app, scope="shared", as_=third) == []
        assert [row.target for row in call(app, "list_shares", as_=OTHER)] == [ACME]

    def test_no_page_of_a_table_or_index_holds_it_after_vacuum(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        save(app, "mine", as_=OTHER)
        fill(database, ACME)
        admin.execute("checkpoint")
        assert files_with(admin, CANARY)  # it can be found
        erase(admin, ACME)
        admin.execute("vacuum full")
        admin.execute("checkpoint")
        assert files_with(admin, CANARY) == []
        assert names(app, as_=OTHER) == ["mine"]


def files_with(admin: Connection, text: str) -> list[str]:
    """The relations in whose files the text stands, even in dead rows, as the server's disk has them."""
    rows = admin.execute(
        "select c.oid::regclass::text, current_setting('data_directory') || '/' || pg_relation_filepath(c.oid) "
        "from pg_class as c where pg_relation_filepath(c.oid) is not null and ("
        "  c.relnamespace = 'ai_storage_private'::regnamespace"
        "  or c.oid in (select t.reltoastrelid from pg_class as t "
        "               where t.relnamespace = 'ai_storage_private'::regnamespace))"
    ).fetchall()
    return [name for name, path in rows if text.encode() in Path(path).read_bytes()]


class TestExport:
    def test_it_holds_everything_and_its_digest_fits(self, database: Database) -> None:
        app = database.connect("app")
        fill(database, ACME)
        rows = app.execute("select line::text from ai_storage.export_tenant(%s) as e (line)", (ACME,)).fetchall()
        manifest, *lines = [row[0] for row in rows]
        digest = sha256(b"".join(sha256(line.encode()).digest() for line in lines)).hexdigest()
        assert json.loads(manifest) == {
            "kind": "manifest",
            "format": 1,
            "isolation_key": ACME,
            "records": len(lines),
            "digest": digest,
        }
        records = [json.loads(line) for line in lines]
        assert [record["kind"] for record in records] == [
            "version",
            "version",
            "deleted model",
            "idempotency key",
            "idempotency key",
            "share",
        ]
        first, second = records[:2]
        assert (first["version"], first["previous_version"], first["mse"]) == (1, None, 1)
        assert (second["version"], second["previous_version"], second["metrics"]) == (2, 1, {CANARY: 1.5})
        assert [row.action for row in call(app, "audit_trail", as_=ACME)].count("export tenant") == 1

    def test_of_a_tenant_that_never_wrote_it_is_empty(self, database: Database) -> None:
        app = database.connect("app")
        save(app, "m", as_=BETA)
        with unchanged(database):
            ((manifest,),) = call(app, "export_tenant", as_=ACME)
        assert manifest["records"] == 0

    def test_it_is_logged_so_it_needs_a_writing_transaction(self, database: Database) -> None:
        app = database.connect("app")
        save(app, "m", as_=ACME)
        app.execute("begin read only")
        with refused("25006"):
            call(app, "export_tenant", as_=ACME)
        app.execute("rollback")


def history(connection: Connection, name: str, tenant: str) -> list[Any]:
    """The versions of a model; its owner saved them, whatever the owner is called."""
    rows = call(connection, "load_history", model_name=name, as_=tenant)
    return [row._replace(saved_by=row.saved_by == tenant) for row in rows]


class TestImport:
    def test_what_was_exported_is_there_again(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        for mse in (0.1, 0.2, 1 / 3):
            save(app, "m", mse, training_samples=7, metrics={"a": 1e-300}, metadata={"ü": ["é", None]}, as_=ACME)
        save(app, "n", None, metrics={"only": 2}, as_=ACME, idempotency_key="k")
        call(app, "delete_progress", model_name="n", as_=ACME)
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        assert value(app, "import_tenant", records=lines, as_=BETA) == 5
        assert history(app, "m", BETA) == history(app, "m", ACME)
        (old,), (new,) = (call(app, "load_progress", model_name="m", as_=tenant) for tenant in (ACME, BETA))
        assert old.created_at == new.created_at
        assert old.updated_at == new.updated_at
        assert save(app, "n", None, metrics={"only": 2}, as_=BETA, idempotency_key="k").version == 1  # the first answer
        assert save(app, "n", as_=BETA).version == 2  # and no number given twice
        call(admin, "seal_audit")
        assert verified(app, BETA)
        assert all_verified(admin)

    def test_nobody_else_is_named_as_the_author_of_what_was_imported(self, database: Database) -> None:
        app, admin = database.connect("app"), database.connect()
        save(app, "m", 1, as_=ACME)
        share_with(app, "m", ACME, permissions="{write}")
        save(app, "m", 2, owner=ACME, as_=OTHER)
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        assert [line.get("saved_by") for line in lines[1:3]] == [None, OTHER]
        for framed in (OTHER, BETA, ACME):
            lines[1]["saved_by"] = framed
            tenant = key("beta", code=framed.replace(":", "-"))
            value(app, "import_tenant", records=lines, as_=tenant)
            assert {row.saved_by for row in call(app, "load_history", model_name="m", as_=tenant)} == {tenant}
        call(admin, "seal_audit")
        assert all_verified(admin)

    def test_in_several_calls_and_once_only(self, database: Database) -> None:
        app = database.connect("app")
        for mse in range(4):
            save(app, "m", mse, as_=ACME)
        _, *lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        call(app, "import_tenant", records=lines[:2], as_=BETA)
        with unchanged(database), refused("23505"):
            call(app, "import_tenant", records=lines[:1], as_=BETA)
        with unchanged(database), refused("23505"):
            call(app, "import_tenant", records=lines[3:], as_=BETA)
        call(app, "import_tenant", records=lines[2:], as_=BETA)
        assert history(app, "m", BETA) == history(app, "m", ACME)

    def test_a_name_that_was_deleted_does_not_count_again(self, database: Database) -> None:
        app = database.connect("app")
        save(app, "m", as_=ACME)
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        call(app, "delete_progress", model_name="m", as_=ACME)
        with unchanged(database), refused("23505"):
            call(app, "import_tenant", records=lines, as_=ACME)

    @pytest.mark.parametrize(
        "change",
        [
            {"kind": "nonsense"},
            {"kind": None},
            {"version": 0},
            {"version": "one"},
            {"version": None},
            {"version": 10**30},
            {"previous_version": 5},
            {"saved_at": "yesterday-ish"},
            {"saved_at": "infinity"},
            {"saved_at": None},
            {"saved_at": "4000-01-01T00:00:00Z"},
            {"created_at": "0001-01-01T00:00:00Z BC"},
            {"version": 2**63 - 1},
            {"created_at": None},
            {"saved_by": "me"},
            {"mse": "NaN"},
            {"mse": None},
            {"metrics": [1]},
            {"metadata": 7},
            {"model_name": ""},
            {"model_name": None},
            {"training_samples": -1},
        ],
    )
    def test_a_bad_record_is_refused_whole(self, database: Database, change: dict[str, Any]) -> None:
        app = database.connect("app")
        save(app, "good", as_=ACME)
        save(app, "m", as_=ACME)
        manifest, good, bad = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        save(app, "mine", as_=BETA)
        with unchanged(database), refused("22023") as caught:
            call(app, "import_tenant", records=[manifest, good, bad | change], as_=BETA)
        assert not re.search("yesterday|nonsense", str(caught.value))

    @pytest.mark.parametrize(
        "record",
        [
            {"kind": "deleted model", "model_name": "", "last_version": 1, "deleted_at": "2026-01-01T00:00:00Z"},
            {"kind": "deleted model", "model_name": "m", "last_version": -1, "deleted_at": "2026-01-01T00:00:00Z"},
            {"kind": "deleted model", "model_name": "m", "last_version": 1, "deleted_at": None},
            {"kind": "idempotency key", "idempotency_key": "k", "model_name": "m", "version": 1, "created": True,
             "saved_at": "2026-01-01T00:00:00Z", "request_digest": "ab"},
            {"kind": "idempotency key", "idempotency_key": "k", "model_name": "m", "version": 1, "created": True,
             "saved_at": "2026-01-01T00:00:00Z", "request_digest": "x" * 64},
            {"kind": "idempotency key", "idempotency_key": "", "model_name": "m", "version": 1, "created": True,
             "saved_at": "2026-01-01T00:00:00Z", "request_digest": "ab" * 32},
            [],
            "text",
            None,
        ],
    )  # fmt: skip
    def test_so_is_any_other_bad_record(self, database: Database, record: Any) -> None:
        app = database.connect("app")
        save(app, "mine", as_=BETA)
        with unchanged(database), refused("22023"):
            call(app, "import_tenant", records=[record], as_=BETA)

    @pytest.mark.parametrize("records", [{}, None])
    def test_it_takes_an_array(self, database: Database, records: Any) -> None:
        app = database.connect("app")
        save(app, "mine", as_=BETA)
        with unchanged(database), refused("22023"):
            call(app, "import_tenant", records=records, as_=BETA)
