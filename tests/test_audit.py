"""The audit trail: every change has its event, and no change of the log is unseen."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from pydb.token import Tenant, mint
from tests.conftest import Database, Server, install
from tests.helpers import ACME, BETA, EVENTS, Connection, blocked, call, key, refused, save, until, value

sql_test = pytest.mark.sql
LEVELS = ("org_id", "server_id", "project_id", "environment", "code_hash")
NEVER_WROTE = key(code="never-wrote")
READER = key(code="reader")
AUDIT_TABLES = ["audit_pending", "audit_event", "audit_seal", "audit_checkpoint", "refusal_report"]
# Tables with a row trigger, and an UPDATE by hand that every row of them takes.
TOUCH = {
    "ai_progress_tenant": "mse = 99",
    "progress_version": "mse = 99",
    "deleted_model": "last_version = last_version + 1",
    "idempotency_key": "saved_at = now()",
    "tenant": "registered_at = now()",
    "model_share": "expires_at = now() + interval '1 day'",
    "share_end": "ended_at = now()",
    "share_decline": "declined_at = now()",
    "external_sharing_permit": "permitted_at = now()",
    "login_authorization": "authorized_at = now()",
    "signing_key": "retired_at = now()",
    "context_secret": "inner_key = outer_key",
    "retention_rule": "keep_versions = 3",
    "erasure_certificate": "erased_at = now()",
    "model_artifact": "media_type = 'text/plain'",
    "artifact_blob": "put_at = now()",
    "artifact_upload": "touched_at = now()",
    "artifact_chunk": "content = 'x'",
    "artifact_limit": "max_bytes = 7",
    "tenant_cache_key": "cache_key = sha256('x')",
    "cell": "takes_new = false",
    "home": "is_moving = true",
}


# Statements on these leave one event, whatever the number of rows.
AT_ONCE = {
    ("delete", "progress_version"),
    ("delete", "idempotency_key"),
    ("insert", "artifact_chunk"),
    ("delete", "artifact_chunk"),
}


def to(tenant: str) -> dict[str, str]:
    return dict(zip(LEVELS, tenant.split(":"), strict=True))


def share(connection: Connection, name: str, owner: str, tenant: str, permissions: str = "{read}", **more: Any) -> Any:
    (row,) = call(
        connection, "share_model", model_name=name, targets=[to(tenant)], permissions=permissions, as_=owner, **more
    )
    return row.share_id


def trail(connection: Connection, tenant: str, **arguments: Any) -> list[Any]:
    return call(connection, "audit_trail", as_=tenant, **arguments)


def actions(connection: Connection, tenant: str, **arguments: Any) -> list[str]:
    return [row.action for row in trail(connection, tenant, **arguments)]


def operator_log(database: Database) -> list[tuple[str, str]]:
    """Action and detail of the operator's events, in order."""
    rows = database.connect().execute(
        "select action, detail from (select event_id, tenant_id, action, detail from ai_storage_private.audit_event "
        "union all select event_id, tenant_id, action, detail from ai_storage_private.audit_pending) as e "
        "where tenant_id = 0 order by event_id"
    )
    return [(action, detail) for action, detail in rows]


@contextmanager
def logged(connection: Connection, tenant: str, *expected: str) -> Iterator[None]:
    """The block leads to these events of the tenant, in this order, and no others."""
    before = len(trail(connection, tenant, limit=None))
    yield
    assert actions(connection, tenant, limit=None)[before:] == list(expected)


@contextmanager
def operator_logged(database: Database, *expected: str) -> Iterator[None]:
    before = len(operator_log(database))
    yield
    assert [action for action, _ in operator_log(database)][before:] == list(expected)


def seal(connection: Connection) -> tuple[int, int]:
    (row,) = call(connection, "seal_audit")
    return row.events, row.seals


def verified(connection: Connection, tenant: str = ACME) -> Any:
    (row,) = call(connection, "verify_audit", as_=tenant)
    return row


def all_verified(connection: Connection) -> Any:
    (row,) = call(connection, "verify_all_audit")
    return row


def count(connection: Connection, query: str) -> int:
    ((found,),) = connection.execute(query).fetchall()
    return int(found)


@contextmanager
def tampered(admin: Connection, *changes: str) -> Iterator[None]:
    """Changes by hand of the private tables, undone afterwards."""
    with admin.transaction(force_rollback=True):
        for change in changes:
            admin.execute(change)
        yield


@pytest.fixture
def app(database: Database) -> Connection:
    return database.connect("app")


@pytest.fixture
def admin(database: Database) -> Connection:
    return database.connect()


# One event per change -------------------------------------------------------------------------------------------------


@sql_test
def test_each_change_of_a_tenant_has_one_event(database: Database, app: Connection) -> None:
    with logged(app, NEVER_WROTE):
        pass
    save(app, "m", as_=ACME)
    assert actions(app, ACME) == ["insert tenant", "save model"]
    with logged(app, ACME, "save model"):
        save(app, "m", as_=ACME)
    with logged(app, ACME, "insert idempotency key", "save model"):
        save(app, "keyed", idempotency_key="k", as_=ACME)
    with logged(app, ACME):
        save(app, "keyed", idempotency_key="k", as_=ACME)
    with logged(app, ACME, *["insert idempotency key", "save model"] * 3):
        items = [{"model_name": name, "mse": 1, "idempotency_key": f"of {name}"} for name in ("a", "b", "c")]
        call(app, "save_progress_batch", items=items, as_=ACME)
    with logged(app, ACME, *["save model"] * 3):
        call(app, "save_progress_batch", items=[{"model_name": name, "mse": 2} for name in ("x", "m", "y")], as_=ACME)
    with logged(app, ACME, "insert share"):
        share_id = share(app, "m", ACME, READER)
    with logged(app, ACME, "delete share", "insert share"):
        share_id = share(app, "m", ACME, READER, "{write}")
    with logged(app, ACME):
        share(app, "m", ACME, READER, "{write}")
    with logged(app, ACME, "delete share"):
        call(app, "revoke_share", share_id=share_id, as_=ACME)
    share(app, "m", ACME, READER)
    with logged(app, ACME, "delete share"):
        call(app, "unshare_model", model_name="m", as_=ACME)
    with logged(app, ACME):
        call(app, "load_progress", as_=ACME)
        call(app, "load_history", model_name="m", as_=ACME)
        call(app, "list_shares", as_=ACME)
        call(app, "delete_progress", model_name="not there", as_=ACME)
    with logged(app, ACME, "insert deleted model", "delete model"):
        call(app, "delete_progress", model_name="a", as_=ACME)
    share(app, "b", ACME, READER)
    before = len(trail(app, ACME, limit=None))
    call(app, "delete_progress", model_name="b", as_=ACME)
    assert actions(app, ACME, limit=None)[before:] == ["delete share", "insert deleted model", "delete model"]
    newer = key(code="newer")
    call(app, "promote_progress", from_code_hash="c1", as_=newer)
    assert actions(app, newer) == ["insert tenant", *["save model"] * 5]
    assert verified(app).verified
    assert verified(app, newer).verified


@sql_test
def test_each_act_of_an_administrator_has_one_event(database: Database, admin: Connection) -> None:
    with operator_logged(database, "insert authorization"):
        call(admin, "authorize_login", login="stranger", pattern="acme:*:*:*:*")
    with operator_logged(database, "update authorization"):
        call(admin, "authorize_login", login="stranger", pattern="acme:*:*:*:*", token_only=True)
    with operator_logged(database, "delete authorization"):
        call(admin, "deauthorize_login", login="stranger")
    with operator_logged(database, "insert signing key"):
        call(admin, "create_signing_key", kid="k1")
    with operator_logged(database, "update signing key"):
        call(admin, "retire_signing_key", kid="k1")
    with operator_logged(database, "insert external sharing permit"):
        call(admin, "allow_external_sharing", org_id="acme", to_org_id="beta")
    app = database.connect("app")
    save(app, "m", as_=ACME)
    share(app, "m", ACME, BETA)
    with operator_logged(database, "delete external sharing permit"):
        call(admin, "forbid_external_sharing", org_id="acme")
    details = [detail for action, detail in operator_log(database) if action == "insert signing key"]
    assert [json.loads(detail)["kid"] for detail in details] == ["k1"]


@sql_test
def test_a_change_that_is_rolled_back_leaves_no_event(database: Database, app: Connection) -> None:
    save(app, "m", as_=ACME)
    with logged(app, ACME):
        with suppress(ZeroDivisionError), app.transaction():
            save(app, "m", as_=ACME)
            raise ZeroDivisionError
        with refused("TN102"):
            save(app, "m", expected_version=7, as_=ACME)
    with logged(app, ACME, "save model"), app.transaction():
        save(app, "m", as_=ACME)
        with suppress(ZeroDivisionError), app.transaction():
            save(app, "m", as_=ACME)
            raise ZeroDivisionError


@sql_test
def test_an_event_says_who_did_what_when_and_how(database: Database, admin: Connection) -> None:
    ((kid, secret),) = call(admin, "create_signing_key", kid="k1", audience="here")
    token = mint(Tenant(*ACME.split(":")), kid=kid, secret=secret, audience="here")
    app = database.connect("acme_app", application_name="trainer 7")
    save(app, "m", as_=ACME)
    save(app, "m", as_=token)
    (saved,) = call(app, "load_progress", as_=ACME)
    first, second = trail(app, ACME, action="save model")
    assert (first.version, first.login, first.credential) == (1, "acme_app", "key")
    assert (second.version, second.login) == (2, "acme_app")
    assert "k1" in second.credential
    assert first.detail == {"model_name": "m", "application": "trainer 7"}
    assert first.model_id == second.model_id
    assert first.recorded_at < second.recorded_at
    assert abs(second.recorded_at - saved.updated_at) < timedelta(seconds=5)
    app.execute("set application_name = ''")
    save(app, "m", as_=ACME)
    assert trail(app, ACME)[-1].detail == {"model_name": "m"}


@sql_test
def test_the_digest_is_of_salt_and_content(database: Database, app: Connection, admin: Connection) -> None:
    save(app, "m", 0.25, training_samples=7, metrics={"a": 0.5}, metadata={"b": [1, "ü"]}, as_=ACME)
    save(app, "m", None, metrics={"a": 1}, as_=ACME)
    seal(admin)
    events = admin.execute(
        "select salt, content_digest, detail_digest, detail from ai_storage_private.audit_event "
        "where action = 'save model' order by version"
    ).fetchall()
    (created, first), (_, second) = admin.execute(
        "select ai_storage_private.micros(p.created_at), ai_storage_private.micros(v.saved_at) "
        "from ai_storage_private.ai_progress_tenant as p "
        "join ai_storage_private.progress_version as v using (model_id) order by v.version"
    ).fetchall()
    contents = [
        f'3fd0000000000000|7|{created}|{first}|{{"a": 0.5}}|{{"b": [1, "ü"]}}',
        f'||{created}|{second}|{{"a": 1}}|{{}}',
    ]
    for (salt, content_digest, detail_digest, detail), content in zip(events, contents, strict=True):
        assert content_digest == sha256(salt.bytes + content.encode()).digest()
        assert detail_digest == sha256(salt.bytes + detail.encode()).digest()
    assert events[0][0] != events[1][0]


@sql_test
def test_no_event_holds_content_or_a_secret(database: Database, app: Connection, admin: Connection) -> None:
    ((kid, secret),) = call(admin, "create_signing_key", kid="k1", audience="here")
    token = mint(Tenant(*ACME.split(":")), kid=kid, secret=secret, audience="here")
    save(app, "m", 0.7391846251, training_samples=739184625, metrics={"canary_m": 7.5}, metadata={"x": "canary_x"},
         idempotency_key="canary_key", as_=ACME)  # fmt: skip
    save(app, "m", as_=token)
    with refused("TN003"):
        save(app, "m", as_=token[:-8] + "AAAAAAAA")
    share(app, "m", ACME, READER)
    call(app, "load_progress", as_=READER)
    for table, change in TOUCH.items():
        admin.execute(f"update ai_storage_private.{table} set {change}")
    pads = admin.execute("select inner_pad, outer_pad from ai_storage_private.signing_key").fetchone()
    keys = admin.execute("select inner_key, outer_key from ai_storage_private.context_secret").fetchone()
    seal(admin)
    # A change by hand reached one server alone.
    call(admin, "renew_context_secret")
    ((said,),) = admin.execute(
        "select string_agg(e::text, '') from (select e::text from ai_storage_private.audit_event as e union all "
        "select p::text from ai_storage_private.audit_pending as p) as e"
    ).fetchall()
    said += "".join(str(line) for (line,) in call(app, "export_audit", as_=ACME))
    assert '"model_name": "m"' in said
    assert '""model_name"": ""m""' in said
    signature = token.split(".")[2]
    hidden = ["canary", "739184625", "0.739", secret, token, signature, token.split(".")[1]]
    for secret_bytes in (*pads, *keys):
        hidden += [secret_bytes.hex()[:32], base64.b64encode(secret_bytes).decode()[:32]]
    assert [text for text in hidden if text in said] == []


# By hand --------------------------------------------------------------------------------------------------------------


def fill(database: Database, app: Connection, admin: Connection) -> None:
    """At least one row in every table that is audited."""
    save(app, "m", idempotency_key="k", as_=ACME)
    save(app, "gone", as_=ACME)
    call(app, "delete_progress", model_name="gone", as_=ACME)
    shared = share(app, "m", ACME, READER, "{read,share}")
    passed = call(app, "share_model", model_name="m", targets=[to(NEVER_WROTE)], owner=ACME, as_=READER)[0].share_id
    call(app, "revoke_share", share_id=passed, as_=ACME)
    call(app, "decline_share", share_id=shared, as_=READER)
    call(admin, "create_signing_key", kid="k1")
    call(admin, "allow_external_sharing", org_id="acme", to_org_id="beta")
    save(app, "m", as_=BETA)
    call(admin, "erase_tenant", pattern=BETA, reason="r")
    call(admin, "set_retention", pattern=ACME)
    call(app, "put_artifact", model_name="m", artifact_name="a", content=b"x", as_=ACME)
    call(app, "open_artifact", model_name="m", artifact_name="a", as_=ACME)
    call(app, "begin_artifact", model_name="m", artifact_name="b", as_=ACME)
    admin.execute("select ai_storage.set_cells(array['here'], 'here', 'here')")
    call(admin, "set_home", org_id="gamma", cell_name="here")


def all_events(admin: Connection) -> int:
    return count(
        admin,
        "select (select count(*) from ai_storage_private.audit_pending) "
        "+ (select count(*) from ai_storage_private.audit_event)",
    )


def noun(table: str) -> str:
    return {
        "ai_progress_tenant": "model", "progress_version": "version", "deleted_model": "deleted model",
        "idempotency_key": "idempotency key", "model_share": "share", "share_end": "share end",
        "share_decline": "share decline", "login_authorization": "authorization",
        "external_sharing_permit": "external sharing permit", "signing_key": "signing key",
        "context_secret": "context secret", "retention_rule": "retention rule",
        "erasure_certificate": "erasure certificate", "model_artifact": "artifact", "artifact_blob": "content",
        "artifact_upload": "upload", "artifact_chunk": "chunk", "artifact_limit": "artifact limit",
        "tenant_cache_key": "cache key",
    }.get(table, table)  # fmt: skip


def written(table: str, verb: str) -> str:
    """The action of an event of an insert or update."""
    if (table, verb) == ("progress_version", "insert"):
        return "save model"
    verbs = {"ai_progress_tenant": "save", "model_artifact": "put"}
    return f"{verbs.get(table, verb)} {noun(table)}"


@sql_test
@pytest.mark.parametrize("role", ["origin", "replica"])
def test_a_superusers_change_by_hand_is_logged_in_every_table(
    database: Database, app: Connection, admin: Connection, role: str
) -> None:
    fill(database, app, admin)
    admin.execute(sql.SQL("set session_replication_role = {}").format(role))
    for table, change in TOUCH.items():
        rows = count(admin, f"select count(*) from ai_storage_private.{table}")
        assert rows > 0
        latest = (
            f"select action, login, credential, count(*) from {EVENTS} where event_id > %s group by 1, 2, 3 order by 1"
        )
        (mark,) = admin.execute(f"select event_id from {EVENTS} order by event_id desc limit 1").fetchone()
        admin.execute(f"create temporary table kept as select * from ai_storage_private.{table}")
        admin.execute(f"update ai_storage_private.{table} set {change}")
        updated = (written(table, "update"), "postgres", "none", rows)
        assert admin.execute(latest, (mark,)).fetchall() == [updated], table
        with admin.transaction(force_rollback=True):
            admin.execute(f"delete from ai_storage_private.{table}")
            found = {row[0]: row[3] for row in admin.execute(latest, (mark,))}
            assert found[f"delete {noun(table)}"] == (1 if ("delete", table) in AT_ONCE else rows), table
            columns = ", ".join(
                column
                for (column,) in admin.execute(
                    "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 "
                    "and attgenerated = '' and not attisdropped",
                    (f"ai_storage_private.{table}",),
                )
            )
            (again,) = admin.execute(f"select event_id from {EVENTS} order by event_id desc limit 1").fetchone()
            admin.execute(f"delete from ai_storage_private.{table}")
            admin.execute(f"insert into ai_storage_private.{table} ({columns}) select {columns} from kept")
            found = {row[0]: row[3] for row in admin.execute(latest, (again,))}
            assert found[written(table, "insert")] == (1 if ("insert", table) in AT_ONCE else rows), table
        with admin.transaction(force_rollback=True):
            admin.execute(f"truncate ai_storage_private.{table}")
            assert f"truncate {table}" in [action for action, _ in _operators(admin)], table
        admin.execute("drop table kept")


def _operators(connection: Connection) -> list[tuple[str, str]]:
    return connection.execute(
        "select action, detail from ai_storage_private.audit_pending where tenant_id = 0"
    ).fetchall()


@sql_test
@pytest.mark.parametrize("role", ["ai_storage_owner", "ai_storage_sharing"])
def test_a_change_by_hand_as_the_owner_of_functions_is_logged(
    database: Database, app: Connection, admin: Connection, role: str
) -> None:
    fill(database, app, admin)
    admin.execute(
        "insert into ai_storage_private.login_authorization values ('postgres', '*', '*', '*', '*', '*', false)"
    )
    changed = set()
    for table, change in TOUCH.items():
        admin.execute(f"create temporary table kept as select * from ai_storage_private.{table}")
        admin.execute(f"grant select on kept to {role}")
        if table == "progress_version":  # what is exactly its model's state has the event of the model
            admin.execute("update kept set mse = 98")
        columns = admin.execute(
            "select string_agg(attname, ', ') from pg_attribute where attrelid = %s::regclass and attnum > 0 "
            "and attgenerated = '' and not attisdropped",
            (f"ai_storage_private.{table}",),
        ).fetchone()[0]
        for verb, statement in {
            "update": f"update ai_storage_private.{table} set {change}",
            "delete": f"delete from ai_storage_private.{table}",
            "insert": f"insert into ai_storage_private.{table} ({columns}) select {columns} from kept "
            "where tenant_id = ai_storage_private.current_tenant_id()",
        }.items():
            if verb == "insert" and "tenant_id" not in columns.split(", "):
                continue  # no role but a superuser may write these
            with admin.transaction(force_rollback=True):
                call(admin, "set_tenant", credential=ACME)
                if verb == "insert":
                    admin.execute(f"delete from ai_storage_private.{table}")
                before = all_events(admin)
                admin.execute(f"set local role {role}")
                try:
                    with admin.transaction():
                        rows = admin.execute(statement).rowcount
                except psycopg.errors.InsufficientPrivilege:
                    continue
                admin.execute("reset role")
                if rows:
                    changed.add((table, verb))
                    logged = all_events(admin) - before
                    assert logged >= (1 if (verb, table) in AT_ONCE else rows), (table, verb)
        admin.execute("drop table kept")
    tables = {
        "ai_progress_tenant", "progress_version", "deleted_model", "idempotency_key", "model_artifact",
        "artifact_blob", "artifact_upload", "artifact_chunk", "tenant_cache_key",
    }  # fmt: skip
    everything = {(table, verb) for table in tables for verb in ("update", "delete", "insert")}
    assert changed >= (everything if role == "ai_storage_owner" else {("model_share", "update")})


@sql_test
def test_what_the_triggers_missed_is_told_by_verify_audit(
    database: Database, app: Connection, admin: Connection
) -> None:
    tampering = {
        "the state": "update ai_storage_private.ai_progress_tenant set mse = 9",
        "the metadata": "update ai_storage_private.ai_progress_tenant set metadata = '{\"a\": 1}'",
        "the name": "update ai_storage_private.ai_progress_tenant set model_name = 'x' || model_name",
        "an old state": "update ai_storage_private.ai_progress_tenant as p set version = 1, mse = v.mse "
        "from ai_storage_private.progress_version as v where v.tenant_id = p.tenant_id and v.model_id = p.model_id "
        "and v.version = 1",
        "a version": "update ai_storage_private.progress_version set mse = 9 where version = 1",
        "the author": "update ai_storage_private.ai_progress_tenant set saved_by = 'o:s:p:e:c'",
        "the author of a version": "update ai_storage_private.progress_version set saved_by = 'o:s:p:e:c'",
        "the author in both": "with v as (update ai_storage_private.progress_version set saved_by = '') "
        "update ai_storage_private.ai_progress_tenant set saved_by = ''",
        "when it was created": "update ai_storage_private.ai_progress_tenant "
        "set created_at = created_at - interval '1 microsecond'",
        "when it was updated": "update ai_storage_private.ai_progress_tenant set updated_at = now()",
        "when a version was saved": "update ai_storage_private.progress_version set saved_at = now() where version = 1",
        "a version less": "delete from ai_storage_private.progress_version where version = 1",
        "the current version": "delete from ai_storage_private.progress_version where version = 2",
        "a version more": "insert into ai_storage_private.progress_version "
        "select tenant_id, model_id, 7, mse, training_samples, saved_at, saved_by, metrics, metadata "
        "from ai_storage_private.progress_version where version = 1",
        "a deletion": "delete from ai_storage_private.ai_progress_tenant",
        "a model more": "insert into ai_storage_private.ai_progress_tenant "
        "select tenant_id, gen_random_uuid(), version, mse, training_samples, created_at, updated_at, saved_by, "
        "'more ' || model_name, metrics, metadata from ai_storage_private.ai_progress_tenant",
        "a deleted name": "update ai_storage_private.deleted_model set last_version = 7",
        "when it was deleted": "update ai_storage_private.deleted_model set deleted_at = now()",
        "a deleted name less": "delete from ai_storage_private.deleted_model",
        "a deleted name more": "insert into ai_storage_private.deleted_model "
        "select tenant_id, last_version, deleted_at, 'more' from ai_storage_private.deleted_model",
    }
    admin.execute(
        "insert into ai_storage_private.login_authorization values ('postgres', '*', '*', '*', '*', '*', false)"
    )
    save(app, "m", 1.0, as_=ACME)
    save(app, "m", 2.0, as_=ACME)
    for _ in range(2):  # the second of this name begins at 2, and is deleted at 2
        save(app, "gone", as_=ACME)
        call(app, "delete_progress", model_name="gone", as_=ACME)
    save(app, "gone", as_=ACME)
    call(
        app,
        "save_progress_batch",
        items=Jsonb([{"model_name": "m2", "mse": 1}, {"model_name": "gone", "mse": 2}]),
        as_=ACME,
    )
    for sealed in (False, True):
        if sealed:
            seal(admin)
        assert verified(app).verified
        tables = ("ai_progress_tenant", "progress_version", "deleted_model")
        unseen = [f"alter table ai_storage_private.{table} disable trigger user" for table in tables]
        for what, change in tampering.items():
            with tampered(admin, *unseen, change):
                row = verified(admin)
            assert not row.verified, what
            assert f"not as it was {'written' if 'deleted' in what else 'saved'}" in row.problem, what


# The use of a shared model --------------------------------------------------------------------------------------------


@sql_test
def test_the_use_of_a_shared_model_stands_in_both_logs_and_in_no_other(database: Database, app: Connection) -> None:
    third = key(code="third")
    for tenant in (ACME, READER, third):
        save(app, "own", as_=tenant)
    save(app, "m", as_=ACME)
    share(app, "m", ACME, READER, "{read,write}")
    share(app, "own", ACME, third)
    with logged(app, third):
        with logged(app, ACME, "read model"), logged(app, READER, "read model"):
            call(app, "load_progress", model_name="m", owner=ACME, as_=READER)
        with logged(app, ACME, "read history"), logged(app, READER, "read history"):
            call(app, "load_history", model_name="m", owner=ACME, as_=READER)
        with logged(app, ACME, "save model", "write model"), logged(app, READER, "write model"):
            save(app, "m", owner=ACME, as_=READER)
        with logged(app, ACME), logged(app, READER):
            for arguments in ({"scope": "own"}, {}, {"model_name": "m", "scope": "all"}, {"owner": ACME}):
                call(app, "load_progress", **arguments, as_=READER)
            call(app, "has_permission", owner=ACME, model_name="m", permission="read", as_=READER)
            call(app, "list_received_shares", as_=READER)
            with refused("TN101"):
                call(app, "load_history", model_name="own", owner=ACME, as_=READER)
    at_owner = trail(app, ACME, action="write model")[0]
    at_user = trail(app, READER, action="write model")[0]
    assert (at_owner.detail["model_name"], at_owner.detail["user"]) == ("m", READER)
    assert (at_user.detail["model_name"], at_user.detail["owner"]) == ("m", ACME)
    assert at_owner.version == at_user.version == 2
    assert at_owner.model_id == at_user.model_id
    assert not [event for event in trail(app, third) if event.detail.get("model_name") == "m"]


@sql_test
def test_the_use_by_a_tenant_that_never_wrote_stands_in_the_owners_log(
    database: Database, app: Connection, admin: Connection
) -> None:
    save(app, "m", as_=ACME)
    share(app, "m", ACME, NEVER_WROTE)
    before = count(admin, "select count(*) from ai_storage_private.audit_pending where tenant_id = 0")
    with logged(app, ACME, "read model"):
        call(app, "load_progress", model_name="m", owner=ACME, as_=NEVER_WROTE)
    assert trail(app, ACME)[-1].detail == {"model_name": "m", "user": NEVER_WROTE}
    assert (trail(app, ACME)[-1].login, trail(app, ACME)[-1].credential) == ("another tenant", "shared")
    assert trail(app, NEVER_WROTE) == []
    assert count(admin, "select count(*) from ai_storage_private.audit_pending where tenant_id = 0") == before


@sql_test
def test_a_read_only_transaction_uses_no_shared_model(database: Database, app: Connection) -> None:
    save(app, "m", as_=ACME)
    save(app, "own", as_=READER)
    share(app, "m", ACME, READER)
    app.execute("set default_transaction_read_only = on")
    for function, arguments in (
        ("load_progress", {"model_name": "m", "owner": ACME}),
        ("load_history", {"model_name": "m", "owner": ACME}),
    ):
        with refused("25006"):
            call(app, function, **arguments, as_=READER)
    warnings: list[str | None] = []
    app.add_notice_handler(lambda notice: warnings.append(notice.message_hint))
    for number, arguments in enumerate(({}, {"scope": "shared"}, {"owner": ACME}), 1):
        rows = call(app, "load_progress", **arguments, as_=READER)
        assert [row.model_name for row in rows] == (["own"] if arguments == {} else [])
        assert len(warnings) == number
        assert "read-write" in str(warnings[-1])
    assert [row.model_name for row in call(app, "load_progress", scope="own", as_=READER)] == ["own"]
    assert [row.model_name for row in call(app, "load_progress", as_=ACME)] == ["m"]
    assert len(warnings) == 3
    assert actions(app, ACME)[-1] == "insert share"
    assert verified(app).verified


# Refused credentials --------------------------------------------------------------------------------------------------


@sql_test
def test_refused_credentials_are_counted_whatever_becomes_of_the_transaction(
    database: Database, admin: Connection
) -> None:
    ((kid, secret),) = call(admin, "create_signing_key", kid="k1", audience="here")
    tenant = Tenant(*ACME.split(":"))
    over = mint(tenant, kid=kid, secret=secret, audience="here", ttl=timedelta(minutes=-5))
    elsewhere = mint(tenant, kid=kid, secret=secret, audience="there")
    app = database.connect("acme_app")
    seal(admin)

    def told() -> list[int]:
        seal(admin)
        return [
            json.loads(detail)["in_all"] for action, detail in operator_log(database) if action.startswith("refuse")
        ]

    assert told() == []
    bad = [("junk", "TN002"), ("a:b", "TN002"), ("a.b.c", "TN002"), (BETA, "TN003"), (elsewhere, "TN003"),
           (over, "TN005")]  # fmt: skip
    for credential, sqlstate in bad:
        with refused(sqlstate):
            call(app, "load_progress", as_=credential)
    assert told() == [6]
    assert told() == [6]
    with suppress(ZeroDivisionError), app.transaction():
        for _ in range(2):
            with refused("TN003"), app.transaction():
                call(app, "has_permission", owner=ACME, model_name="m", permission="read", as_=BETA)
        raise ZeroDivisionError
    with refused("TN003"):
        call(app, "set_tenant", credential=BETA)
    assert told() == [6, 9]
    app.execute("set default_transaction_read_only = on")
    for credential, sqlstate in bad:
        with refused(sqlstate):
            call(app, "load_progress", as_=credential)
    assert told() == [6, 9]
    # No tenant, or another tenant, is no refused credential.
    app.execute("set default_transaction_read_only = off")
    with refused("TN001"):
        call(app, "load_progress")
    assert told() == [6, 9]


# Who reaches the log --------------------------------------------------------------------------------------------------


@sql_test
@pytest.mark.parametrize("role", ["ai_storage_app", "ai_storage_sql", "ai_storage_admin", "ai_storage_auditor", None])
def test_nobody_reaches_the_tables_of_the_log(
    database: Database, app: Connection, admin: Connection, role: str | None
) -> None:
    save(app, "m", as_=ACME)
    seal(admin)
    call(admin, "create_checkpoint")
    session = database.connect("stranger" if role is None else "postgres")
    if role is not None:
        session.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
    for table in AUDIT_TABLES:
        for statement in ("select * from {}", "delete from {}", "truncate {}", "insert into {} default values",
                          "alter table {} disable trigger all"):  # fmt: skip
            with refused("42501", hint=False):
                session.execute(sql.SQL(statement).format(sql.Identifier("ai_storage_private", table)))
        with refused("42501", hint=False):
            session.execute(sql.SQL("update {} set ctid = ctid").format(sql.Identifier("ai_storage_private", table)))
    for function in ("record_event(0, 'x')", "micros(now())", "check_log(null)", "list_checkpoints()"):
        with refused("42501", hint=False):
            session.execute(f"select ai_storage_private.{function}")
    with refused("42501", hint=False):
        session.execute("select nextval('ai_storage_private.refused_credential')")
    allowed = {
        "seal_audit": role == "ai_storage_admin",
        "create_checkpoint": role == "ai_storage_admin",
        "verify_all_audit": role in ("ai_storage_admin", "ai_storage_auditor"),
    }
    for function, may in allowed.items():
        if may:
            call(session, function)
        else:
            with refused("42501", hint=False):
                call(session, function)


@sql_test
def test_even_the_owner_changes_no_event(database: Database, app: Connection, admin: Connection) -> None:
    save(app, "m", as_=ACME)
    seal(admin)
    save(app, "m", as_=ACME)
    admin.execute(
        "insert into ai_storage_private.login_authorization values ('postgres', '*', '*', '*', '*', '*', false)"
    )
    for role in ("ai_storage_owner", "ai_storage_sharing"):
        with admin.transaction():
            call(admin, "set_tenant", credential=ACME)
            admin.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
            for table in ("audit_pending", "audit_event", "audit_seal"):
                table_ = sql.Identifier("ai_storage_private", table)
                for statement in ("delete from {}", "update {} set tenant_id = 1",
                                  "insert into {0} select * from {0} limit 1"):  # fmt: skip
                    with suppress(psycopg.errors.InsufficientPrivilege), admin.transaction():
                        assert admin.execute(sql.SQL(statement).format(table_)).rowcount == 0
    assert len(trail(app, ACME)) == 3
    assert verified(app).verified


@sql_test
def test_a_tenant_sees_its_own_log_and_not_the_operators(
    database: Database, app: Connection, admin: Connection
) -> None:
    save(app, "m", as_=ACME)
    save(app, "b", as_=BETA)
    for sealed in (False, True):
        if sealed:
            seal(admin)
            call(admin, "create_checkpoint")
        assert {row.detail.get("model_name", "m") for row in trail(app, ACME)} == {"m"}
        assert len(trail(app, ACME)) == len(trail(app, BETA)) == 2
        # The operator's log has the tenant_id 0, as tenants have that never wrote.
        assert trail(app, NEVER_WROTE) == []
        bundle = [row for (row,) in call(app, "export_audit", as_=NEVER_WROTE)]
        assert {line["kind"] for line in bundle} <= {"checkpoint"}
        row = verified(app, NEVER_WROTE)
        assert (row.verified, row.events, row.seals, row.pending) == (True, 0, 0, 0)
    with app.transaction():
        call(app, "set_tenant", credential=NEVER_WROTE)
        assert call(app, "audit_trail") == []
    (others,) = [row.event_id for row in trail(app, BETA, action="save model")]
    ((operators,),) = admin.execute(
        "select event_id from ai_storage_private.audit_event where tenant_id = 0 limit 1"
    ).fetchall()
    for event_id, tenant in ((others, ACME), (operators, ACME), (operators, NEVER_WROTE)):
        with refused("TN401"):
            call(app, "audit_proof", event_id=event_id, as_=tenant)
    assert {line["tenant_id"] for (line,) in call(app, "export_audit", as_=ACME) if line["kind"] == "event"} == {
        _tenant_id(admin, ACME)
    }
    with refused("TN003"):
        call(database.connect("acme_app"), "audit_trail", as_=BETA)
    with refused("TN001"):
        call(app, "audit_trail")


def _tenant_id(admin: Connection, tenant: str) -> int:
    return count(admin, f"select tenant_id from ai_storage_private.tenant where isolation_key = '{tenant}'")


@sql_test
def test_the_trail_is_filtered_ordered_and_paged(database: Database, app: Connection, admin: Connection) -> None:
    for number in range(12):
        save(app, f"m{number}", as_=ACME)
        if number == 6:
            seal(admin)
    call(app, "delete_progress", model_name="m3", as_=ACME)
    everything = trail(app, ACME)
    assert len(everything) == 15
    assert all(a.event_id < b.event_id and a.recorded_at <= b.recorded_at for a, b in pairwise(everything))
    assert [row.sealed for row in everything] == [True] * 8 + [False] * 7
    assert [row.detail["model_name"] for row in trail(app, ACME, action="delete model")] == ["m3"]
    assert trail(app, ACME, action="Save model") == []
    middle = everything[5].recorded_at
    assert trail(app, ACME, since=middle) == everything[5:]
    assert trail(app, ACME, until=middle) == everything[:5]
    assert trail(app, ACME, since=middle, until=middle) == []
    assert trail(app, ACME, limit=3) == everything[:3]
    assert trail(app, ACME, limit=0) == []
    assert trail(app, ACME, limit=None) == everything
    paged, after = [], None
    while page := trail(app, ACME, limit=5, after=after):
        paged += page
        after = page[-1].cursor
        if len(paged) == 5:
            # what is sealed between two pages is neither left out nor shown twice
            seal(admin)
    assert [row.event_id for row in paged] == [row.event_id for row in everything]
    for arguments in ({"limit": -1}, {"after": "junk"}, {"after": ""}, {"after": "0" * 36}):
        with refused("22023"):
            trail(app, ACME, **arguments)


# Sealing --------------------------------------------------------------------------------------------------------------


@sql_test
def test_a_backlog_is_sealed_in_parts(database: Database, app: Connection, admin: Connection) -> None:
    seal(admin)
    for number in range(3):
        save(app, f"m{number}", as_=ACME)
        save(app, f"m{number}", as_=BETA)
    parts = []
    while (part := admin.execute("select events, seals from ai_storage_private.seal_events(3)").fetchone()) != (0, 0):
        parts.append(part)
    assert [events for events, _ in parts] == [3, 3, 2]
    assert_sealed_once(admin, 2)
    assert verified(app).verified
    assert verified(app, BETA).verified
    assert all_verified(admin)


def assert_sealed_once(admin: Connection, tenants: int) -> None:
    """Nothing is pending, seals and places have no gap, and every state that was saved has its one event."""
    assert count(admin, "select count(*) from ai_storage_private.audit_pending") == 0
    gaps = (
        "select count(*) from (select s.event_count, (select array_agg(e.leaf_index order by e.leaf_index) "
        "from ai_storage_private.audit_event as e where e.tenant_id = s.tenant_id and e.seal_number = s.seal_number) "
        "as places from ai_storage_private.audit_seal as s) as s "
        "where s.places is distinct from array(select generate_series(0, s.event_count - 1))"
    )
    assert count(admin, gaps) == 0
    unmatched = (
        "with v as materialized (select * from ai_storage_private.progress_version), "
        "e as materialized (select * from ai_storage_private.audit_event) "
        "select count(*) from (select v.tenant_id, v.model_id, v.version, count(e.event_id) as events "
        "from v left join e "
        "on (e.tenant_id, e.model_id, e.version, e.action) = (v.tenant_id, v.model_id, v.version, 'save model') "
        "group by 1, 2, 3) as v where v.events <> 1"
    )
    assert count(admin, unmatched) == 0
    assert (
        count(admin, "select count(distinct tenant_id) from ai_storage_private.audit_seal where tenant_id > 0")
        == tenants
    )
    summary = all_verified(admin)
    assert summary.verified, summary
    assert summary.events == count(admin, "select count(*) from ai_storage_private.audit_event")


@sql_test
def test_every_event_is_sealed_once_under_writers_and_sealers(database: Database, admin: Connection) -> None:
    tenants = [key(code=f"w{number}") for number in range(4)]
    done = threading.Event()

    def write(number: int) -> None:
        app = database.connect("app")
        for step in range(25):
            tenant = tenants[(number + step) % len(tenants)]
            with suppress(ZeroDivisionError), app.transaction():
                save(app, f"m{number}", as_=tenant)
                if step % 5 == 0:
                    raise ZeroDivisionError

    def seal_on() -> tuple[int, int]:
        sealer = database.connect()
        events = seals = 0
        while not done.is_set():
            more = seal(sealer)
            events, seals = events + more[0], seals + more[1]
            call(sealer, "create_checkpoint")
        return events, seals

    def export_on() -> int:
        app, exports = database.connect("app"), 0
        while not done.is_set():
            bundle = [line for (line,) in call(app, "export_audit", as_=tenants[0])]
            sealed = {line["seal_number"]: line["event_count"] for line in bundle if line["kind"] == "seal"}
            events = [line["seal_number"] for line in bundle if line["kind"] == "event"]
            assert {number: events.count(number) for number in set(events)} == sealed
            exports += 1
        return exports

    with ThreadPoolExecutor(12) as pool:
        sealers = [pool.submit(seal_on) for _ in range(3)]
        exporter = pool.submit(export_on)
        writers = [pool.submit(write, number) for number in range(8)]
        try:
            for writer in writers:
                writer.result()
        finally:
            done.set()
        totals = [sealer.result() for sealer in sealers]
        assert exporter.result() > 0
    last = seal(admin)
    assert sum(events for events, _ in totals) + last[0] == all_verified(admin).events
    assert sum(seals for _, seals in totals) + last[1] == all_verified(admin).seals
    assert_sealed_once(admin, len(tenants))
    assert seal(admin) == (0, 0)


@sql_test
def test_a_bundle_is_of_one_moment(database: Database, app: Connection, admin: Connection) -> None:
    save(app, "m", as_=ACME)
    seal(admin)
    save(app, "m", as_=ACME)
    admin.execute("begin; lock table ai_storage_private.audit_event in access exclusive mode")
    seal(admin)
    with blocked(database.connect(), app, lambda: call(app, "export_audit", as_=ACME)) as future:
        admin.execute("commit")
    kinds = [line["kind"] for (line,) in future.result()]
    assert kinds in (["event", "event", "seal"], ["event", "event", "event", "seal", "seal"])


@sql_test
def test_what_commits_late_is_under_the_next_seal(database: Database, app: Connection, admin: Connection) -> None:
    save(app, "first", as_=ACME)
    late = database.connect("app")
    late.execute("begin")
    save(late, "late", as_=ACME)
    save(app, "later", as_=ACME)
    seal(admin)
    assert [row.sealed for row in trail(app, ACME)] == [True] * 3
    late.execute("commit")
    events = {row.detail.get("model_name"): row for row in trail(app, ACME, action="save model")}
    assert not events["late"].sealed
    assert events["late"].recorded_at < events["later"].recorded_at
    assert seal(admin) == (1, 1)
    assert_sealed_once(admin, 1)
    assert verified(app).verified


@sql_test
def test_sealers_take_turns_and_writers_do_not_wait(database: Database, app: Connection, admin: Connection) -> None:
    save(app, "m", as_=ACME)
    first, second = database.connect(), database.connect()
    first.execute("begin")
    sealed = seal(first)
    assert sealed[0] > 0
    app.execute("set lock_timeout = '2s'")
    assert save(app, "m", as_=ACME).version == 2
    assert len(trail(app, ACME)) == 3
    with blocked(admin, second, lambda: seal(second)) as future:
        first.execute("commit")
    assert future.result() == (1, 1)
    assert_sealed_once(admin, 1)


@sql_test
def test_a_sealing_that_is_rolled_back_leaves_everything_to_the_next(
    database: Database, app: Connection, admin: Connection
) -> None:
    save(app, "m", as_=ACME)
    admin.execute("begin")
    sealed = seal(admin)
    call(admin, "create_checkpoint")
    admin.execute("rollback")
    assert all_verified(admin).events == 0
    assert seal(admin) == sealed
    assert seal(admin) == (0, 0)
    assert_sealed_once(admin, 1)


@sql_test
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_sealing_takes_no_old_snapshot(database: Database, admin: Connection, level: str) -> None:
    for function in ("seal_audit", "create_checkpoint"):
        admin.execute(f"begin isolation level {level}")
        with refused("25000"):
            call(admin, function)
        admin.execute("rollback")


@sql_test
def test_checkpoints_are_a_chain_over_all_seals(database: Database, app: Connection, admin: Connection) -> None:
    assert value(admin, "create_checkpoint") is None
    made = []
    for number in range(3):
        save(app, "m", as_=ACME)
        save(app, "m", as_=BETA)
        seal(admin)
        if number == 1:
            save(app, "n", as_=ACME)
            seal(admin)
        made.append(value(admin, "create_checkpoint"))
        assert value(admin, "create_checkpoint") == made[-1]
    assert [checkpoint["checkpoint_number"] for checkpoint in made] == [1, 2, 3]
    assert made[0]["previous_hash"] == "00" * 32
    assert all(b["previous_hash"] == a["checkpoint_hash"] for a, b in pairwise(made))
    for checkpoint in made:
        text = "checkpoint|{checkpoint_number}|{created_at}|{root}|{previous_hash}".format(**checkpoint)
        assert checkpoint["checkpoint_hash"] == sha256(text.encode()).hexdigest()
    summary = all_verified(admin)
    assert (summary.verified, summary.checkpoints) == (True, 3)
    assert [line for (line,) in call(app, "export_audit", as_=ACME) if line["kind"] == "checkpoint"] == made


def climb(leaf: bytes, path: list[str]) -> str:
    """The root that an audit path leads to (RFC 6962, section 2.1.1)."""
    for step in path:
        side, _, sibling = step.partition(" ")
        pair = (bytes.fromhex(sibling), leaf) if side == "left" else (leaf, bytes.fromhex(sibling))
        leaf = sha256(b"\x01" + b"".join(pair)).digest()
    return leaf.hex()


def tree(leaves: list[bytes]) -> bytes:
    """The Merkle tree hash of RFC 6962, by its own definition."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + tree(leaves[:split]) + tree(leaves[split:])).digest()


@sql_test
def test_a_proof_leads_from_the_event_to_the_checkpoint(database: Database, app: Connection, admin: Connection) -> None:
    for number in range(6):
        save(app, f"m{number}", as_=ACME)
    save(app, "m", as_=BETA)
    seal(admin)
    checkpoint = value(admin, "create_checkpoint")
    leaves = []
    for event in trail(app, ACME):
        proof = value(app, "audit_proof", event_id=event.event_id, as_=ACME)
        text = "|".join(
            str(proof[field] if proof[field] is not None else "")
            for field in ("tenant_id", "event_id", "seal_number", "leaf_index", "recorded_at", "action", "model_id",
                          "version", "credential", "content_digest", "detail_digest", "login")
        )  # fmt: skip
        leaves.append(sha256(b"\x00" + text.encode()).digest())
        assert climb(leaves[-1], proof["path"]) == proof["seal"]["root"]
        assert climb(bytes.fromhex(proof["seal"]["seal_hash"]), proof["seal"]["path"]) == checkpoint["root"]
        assert len(proof["path"]) <= 3
    assert tree(leaves).hex() == proof["seal"]["root"]
    assert len(leaves) == 7
    save(app, "m0", as_=ACME)
    with refused("TN401"):
        call(app, "audit_proof", event_id=trail(app, ACME)[-1].event_id, as_=ACME)


# Changes of the log ---------------------------------------------------------------------------------------------------


# Statements with {} for the log's tables; A_SEAL is one seal of the tenant, ONE its middle event.
A_SEAL = "tenant_id = (select tenant_id from ai_storage_private.tenant) and seal_number = 2"
ONE = f"{A_SEAL} and leaf_index = 1"
LAST_SEAL = A_SEAL.replace("= 2", "= 3")
COPY = (
    "insert into {audit_event} select tenant_id, gen_random_uuid(), recorded_at, version, %s, model_id, action, login, "
    f"credential, content_digest, detail_digest, leaf_hash, salt, detail from {{audit_event}} where {ONE}"
)
ONE_CHANGED = {
    "action": "'x'",
    "recorded_at": "now()",
    "login": "'x'",
    "credential": "'x'",
    "version": "77",
    "model_id": "null",
    "content_digest": "''",
    "detail": "'{{}}'",
    "salt": "'5a170000-0000-4000-8000-000000000000'",
    "leaf_hash": "sha256('')",
}
CHANGED = ("audit_event", "audit_seal", "audit_checkpoint")
# Found by the tenant's verify_audit and by verify_all_audit.
TAMPERING = {
    "an event's place": f"update {{audit_event}} set leaf_index = 9 where {ONE}",
    "the order of two": f"update {{audit_event}} set leaf_index = leaf_index + 10 where {A_SEAL} and leaf_index <> 1; "
    f"update {{audit_event}} set leaf_index = 12 - leaf_index where {A_SEAL} and leaf_index <> 1",
    "an event deleted": f"delete from {{audit_event}} where {ONE}",
    "the last event deleted": f"delete from {{audit_event}} where {A_SEAL} and leaf_index = 2",
    "no digest and an empty one": "update {audit_event} set content_digest = '' "
    "where tenant_id > 0 and content_digest is null",
    "a bar moved from the login": "update {audit_event} set "
    "credential = credential || '|' || coalesce(encode(content_digest, 'hex'), ''), "
    "content_digest = detail_digest, detail_digest = decode('cafe', 'hex'), login = 'x' where login = 'cafe|x'",
    "half an erasure": f"update {{audit_event}} set detail = null where {ONE}",
    "all events deleted": f"delete from {{audit_event}} where {A_SEAL}",
    "an event inserted": COPY % "seal_number, 3",
    "an event under no seal": COPY % "77, 0",
    "a seal's root": f"update {{audit_seal}} set root = sha256('') where {A_SEAL}",
    "a seal's time": f"update {{audit_seal}} set sealed_at = now() where {A_SEAL}",
    "a seal's count": f"update {{audit_seal}} set event_count = 1 where {A_SEAL}",
    "a seal's checkpoint": f"update {{audit_seal}} set checkpoint_number = 7 where {A_SEAL}",
    "a seal's hash": f"update {{audit_seal}} set seal_hash = sha256('') where {A_SEAL}",
    "a seal deleted": f"delete from {{audit_seal}} where {A_SEAL}",
    "a seal deleted with its events": f"delete from {{audit_seal}} where {A_SEAL}; "
    f"delete from {{audit_event}} where {A_SEAL}",
}
# Found by verify_all_audit, which has the checkpoints. A log that lacks its end looks whole by itself.
TAMPERING_AT_THE_END = {
    "the last seal deleted with its events": f"delete from {{audit_seal}} where {LAST_SEAL}; "
    f"delete from {{audit_event}} where {LAST_SEAL}",
    "a tenant's log deleted": "delete from {audit_seal} where tenant_id > 0; "
    "delete from {audit_event} where tenant_id > 0",
    "the operator's log deleted": "delete from {audit_seal} where tenant_id = 0; "
    "delete from {audit_event} where tenant_id = 0",
    "a checkpoint's root": "update {audit_checkpoint} set root = sha256('') where checkpoint_number = 1",
    "a checkpoint's time": "update {audit_checkpoint} set created_at = now() where checkpoint_number = 1",
    "a checkpoint's count": "update {audit_checkpoint} set seal_count = 9 where checkpoint_number = 1",
    "a checkpoint's hash": "update {audit_checkpoint} set checkpoint_hash = sha256('') where checkpoint_number = 3",
    "the first checkpoint deleted": "delete from {audit_checkpoint} where checkpoint_number = 1",
}


@sql_test
def test_a_changed_log_is_found(database: Database, app: Connection, admin: Connection) -> None:
    save(app, "d", as_=ACME)
    call(app, "delete_progress", model_name="d", as_=ACME)  # an event without a digest of content
    for number in range(3):
        for name in ("a", "b", "c"):
            save(app, name, float(number), as_=ACME)
        call(admin, "create_signing_key")
        admin.execute(
            "update ai_storage_private.audit_pending set login = 'cafe|x', salt = null, detail = null "
            "where action = 'insert tenant'"
        )
        seal(admin)
        call(admin, "create_checkpoint")
    admin.execute(
        "insert into ai_storage_private.login_authorization values ('postgres', '*', '*', '*', '*', '*', false)"
    )
    assert verified(admin).verified
    assert all_verified(admin).verified
    (second,) = [
        row for row in trail(app, ACME, action="save model") if (row.version, row.detail["model_name"]) == (2, "b")
    ]
    one_changed = {
        f"an event's {column}": f"update {{audit_event}} set {column} = {new} where {ONE}"
        for column, new in ONE_CHANGED.items()
    }
    tables = {table: f"ai_storage_private.{table}" for table in AUDIT_TABLES}
    missed = []
    for what, change in (one_changed | TAMPERING | TAMPERING_AT_THE_END).items():
        with tampered(admin, change.format(**tables)):
            row = all_verified(admin)
            own = verified(admin)
        if row.verified or not row.problem:
            missed.append(f"{what}: verify_all_audit")
        if what not in TAMPERING_AT_THE_END and (own.verified or not own.problem):
            missed.append(f"{what}: verify_audit")
        if what in one_changed and {row.event_id, own.event_id} != {second.event_id}:
            missed.append(f"{what}: which event")
        if what in one_changed | TAMPERING and row.isolation_key != ACME:
            missed.append(f"{what}: whose log")
    assert missed == []
    assert all_verified(admin).verified


# Crashes and dumps ----------------------------------------------------------------------------------------------------


def kill_server(server: Server) -> None:
    pid = server.cluster.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


@contextmanager
def new_database(server: Server, name: str) -> Iterator[Database]:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    with ExitStack() as stack:
        yield Database(server, name, stack)


def until_killed(work: Any) -> None:
    with suppress(psycopg.OperationalError):
        while True:
            work()


def connected(database: Database) -> Connection:
    """A connection to a server that was killed and started: what is left of the old one may close the first."""

    def answers() -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(database.dsn()):
            return True
        return False

    until(answers, "the server to take connections")
    return database.connect()


def test_no_event_is_lost_or_sealed_twice_when_the_server_is_killed(own_server: Server) -> None:
    tenants = [key(code=f"w{number}") for number in range(3)]
    with new_database(own_server, "crash") as database:
        install(database.dsn())
        for _ in range(2):
            acknowledged = threading.Semaphore(0)

            def write(app: Connection, number: int, acknowledged: threading.Semaphore) -> None:
                with app.transaction():
                    save(app, f"m{number}", as_=tenants[number % 3])
                    save(app, f"twin of m{number}", as_=tenants[number % 3])
                acknowledged.release()

            with ThreadPoolExecutor(8) as pool:
                apps = [database.connect("app") for _ in range(5)]
                sealers = [database.connect() for _ in range(2)]
                futures = [
                    pool.submit(until_killed, lambda a=app, n=number, k=acknowledged: write(a, n, k))
                    for number, app in enumerate(apps)
                ]
                futures += [pool.submit(until_killed, lambda s=sealer: seal(s)) for sealer in sealers]
                for _ in range(random.randint(60, 150)):
                    assert acknowledged.acquire(timeout=60)
                kill_server(own_server)
                for future in futures:
                    future.result()
            own_server.cluster.start()
            admin = connected(database)
            assert all_verified(admin).verified
            app = database.connect("app")
            for tenant in tenants:
                assert verified(app, tenant).verified
            seal(admin)
            assert_sealed_once(admin, len(tenants))
        # killed while a sealing waits to commit
        app, admin, watcher = database.connect("app"), database.connect(), database.connect()
        save(app, "m0", as_=tenants[0])
        admin.execute("begin")
        assert seal(admin) == (1, 1)
        watcher.execute("checkpoint")
        kill_server(own_server)
        admin.close()
        own_server.cluster.start()
        admin = connected(database)
        assert seal(admin) == (1, 1)
        assert_sealed_once(admin, len(tenants))


def test_a_dump_is_sealed_and_verified_on_in_another_database(
    database: Database, empty_database: Database, app: Connection, admin: Connection
) -> None:
    for number in range(3):
        save(app, "m", float(number), metrics={"a": 0.1}, as_=ACME)
        save(app, "n", float(number), as_=BETA)
        seal(admin)
        call(admin, "create_checkpoint")
    save(app, "m", as_=ACME)
    with refused("TN002"):
        call(app, "load_progress", as_="junk")
    before = {row.event_id: row.sealed for row in trail(app, ACME)}
    assert not all(before.values())
    bin_dir = database.server.cluster.bin_dir
    dumped = subprocess.run([bin_dir / "pg_dump", "--dbname", database.dsn()], capture_output=True, check=True)
    subprocess.run(
        [bin_dir / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "--dbname", empty_database.dsn()],
        input=dumped.stdout, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    app, admin = empty_database.connect("app"), empty_database.connect()
    # The restore itself is no change.
    assert {row.event_id: row.sealed for row in trail(app, ACME)} == before
    assert verified(app).verified
    assert all_verified(admin).verified
    save(app, "m", as_=ACME)
    save(app, "new", as_=key(code="new"))
    events, seals = seal(admin)
    assert (events, seals) == (2 + 2 + 1, 3)
    assert_sealed_once(admin, 3)
    assert value(admin, "create_checkpoint")["checkpoint_number"] == 4
    assert all_verified(admin).checkpoints == 4
    assert verified(app).verified
    until(lambda: seal(admin) == (0, 0), "nothing left to seal")


def test_a_follower_sees_every_sealed_event_once_in_the_order_of_the_seals(database: Database) -> None:
    app, late, admin = database.connect("app"), database.connect("app"), database.connect()
    save(app, "first", as_=ACME)
    call(admin, "seal_audit")
    seen: list[tuple[str, str]] = []
    after = call(app, "changes", as_=ACME)[-1].cursor

    def follow() -> None:
        nonlocal after
        while rows := call(app, "changes", after=after, limit=2, as_=ACME):
            seen.extend((row.event_id, row.detail.get("model_name")) for row in rows)
            after = rows[-1].cursor

    for number in range(3):
        late.execute("begin")
        save(late, f"late{number}", as_=ACME)
        for other in range(3):
            save(app, f"m{number}{other}", as_=ACME)
        follow()
        assert len(seen) == number * 4
        call(admin, "seal_audit")
        follow()
        late.execute("commit")
        call(admin, "seal_audit")
        follow()
    assert [name for _, name in seen] == [
        name for number in range(3) for name in (*(f"m{number}{other}" for other in range(3)), f"late{number}")
    ]
    assert len({event_id for event_id, _ in seen}) == len(seen)
    assert {event_id for event_id, _ in seen} == {row.event_id for row in call(app, "audit_trail", as_=ACME)[2:]}
    save(app, "m", as_=BETA)
    call(admin, "seal_audit")
    follow()
    assert "m" not in {name for _, name in seen}
    assert len(call(app, "changes", limit=None, as_=ACME)) == 2 + len(seen)


def test_a_follower_with_a_wrong_cursor_or_limit_is_refused(database: Database) -> None:
    app = database.connect("app")
    for wrong in ("x", "1", "1.", "1.2.3", "-1.0", "9999999999999999999.0", " 1.0"):
        with refused("22023"):
            call(app, "changes", after=wrong, as_=ACME)
    with refused("22023"):
        call(app, "changes", limit=-1, as_=ACME)


# What an operator changes while the triggers are off -> what verification says of it.
UNSEEN = {
    "bytes": ("update {}artifact_chunk set content = '\\x00', sha256 = sha256('\\x00')", "artifact w at version 2"),
    "bytes and their digests": (
        "update {}artifact_chunk set content = '\\x00', sha256 = sha256('\\x00'); "
        "update {}artifact_blob set size_bytes = 1, sha256 = sha256('\\x00')",
        "artifact w at version 2",
    ),
    "a chunk": ("delete from {}artifact_chunk", "artifact w at version 2"),
    "a media type": ("update {}model_artifact set media_type = 'text/plain'", "artifact w at version 2"),
    "a name": ("update {}model_artifact set artifact_name = 'v'", "artifact v at version 2"),
    "a version": ("update {}model_artifact set version = 1", "artifact w at version 1"),
    "an artifact": ("delete from {}model_artifact", "artifact w at version 2"),
    "one more artifact": (
        "insert into {}model_artifact select tenant_id, model_id, 1, blob_id, put_at, artifact_name, media_type "
        "from {}model_artifact",
        "artifact w at version 1",
    ),
    "a wider grant": ("update {}model_share set permissions = '{{execute,read}}'", "grant "),
    "a grant to another": (
        "update {}model_share set target = 'acme:s1:p1:production:c9' where pinned_version = 1",
        "grant ",
    ),
    "a grant without its end": ("update {}model_share set expires_at = null", "grant "),
    "a grant of all versions": ("update {}model_share set pinned_version = null", "grant "),
    "a grant that is gone": ("delete from {}model_share where cardinality(ancestors) = 0", "grant "),
    "a grant's ancestors": ("update {}model_share set ancestors = '{{}}'", "grant "),
    "a grant's owner": ("update {}model_share set owner_key = 'o:s:p:e:c'", "grant "),
    "an end that is gone": ("delete from {}share_end", "end of grant "),
    "who ended a grant": ("update {}share_end set ended_by = 7", "end of grant "),
    "the number of a chunk": ("update {}artifact_chunk set chunk_number = 7", "artifact w at version 2"),
    "the time of an artifact": ("update {}model_artifact set put_at = now()", "artifact w at version 2"),
    "an artifact that was deleted": (
        "insert into {}model_artifact select tenant_id, model_id, version, blob_id, put_at, 'gone', media_type "
        "from {}model_artifact",
        "artifact gone at version 2",
    ),
}


@sql_test
@pytest.mark.parametrize("what", UNSEEN)
def test_what_changed_while_the_triggers_were_off_is_found_and_named(database: Database, what: str) -> None:
    app, admin = database.connect("app"), database.connect()
    for _ in range(2):
        save(app, "m", as_=ACME)
    call(app, "put_artifact", model_name="m", artifact_name="w", content=b"weights", as_=ACME)
    call(app, "put_artifact", model_name="m", artifact_name="gone", content=b"others", as_=ACME)
    value(app, "delete_artifact", model_name="m", artifact_name="gone", as_=ACME)
    share = {"model_name": "m", "targets": [{"code_hash": "c2"}], "as_": ACME}
    call(app, "share_model", **share)
    call(app, "share_model", **share, version=1, expires_at="2999-01-01 00:00:00+01")
    call(app, "share_model", model_name="m", targets=[{"code_hash": "c3"}], permissions="{read,share}", as_=ACME)
    passing = {"model_name": "m", "targets": [{"code_hash": "c4"}], "owner": ACME, "as_": key(code="c3")}
    (passed,) = call(app, "share_model", **passing)
    call(app, "revoke_share", share_id=passed.share_id, as_=ACME)
    call(admin, "seal_audit")
    assert verified(app).verified
    statement, problem = UNSEEN[what]
    with admin.transaction():
        tables = ("artifact_chunk", "artifact_blob", "model_artifact", "model_share", "share_end")
        for table in tables:
            admin.execute(f"alter table ai_storage_private.{table} disable trigger all")
        admin.execute(statement.format(*["ai_storage_private."] * 2))
        for table in tables:
            admin.execute(f"alter table ai_storage_private.{table} enable trigger all")
    found = verified(app)
    assert not found.verified
    assert found.problem.startswith(problem)
    assert found.problem.split(": ")[1] in ("not as it was put", "not as it was written")


def without_triggers(admin: Connection, table: str, statement: str) -> None:
    with admin.transaction():
        admin.execute(f"alter table ai_storage_private.{table} disable trigger user")
        admin.execute(statement)
        admin.execute(f"alter table ai_storage_private.{table} enable trigger user")


@sql_test
def test_what_was_once_so_is_not_so_for_ever(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    for mse in range(3):
        save(app, "m", mse, as_=ACME)
    share = {"model_name": "m", "targets": [to(READER)], "as_": ACME}
    (grant,) = call(app, "share_model", **share)
    admin.execute("create temporary table kept as select * from ai_storage_private.model_share")
    admin.execute("create temporary table old as select * from ai_storage_private.progress_version where version = 1")
    call(app, "revoke_share", share_id=grant.share_id, as_=ACME)
    call(admin, "set_retention", pattern=ACME, keep_versions=1)
    call(admin, "apply_retention")
    assert verified(app).verified
    for table, rows, problem in (("progress_version", "old", "model m"), ("model_share", "kept", "grant ")):
        without_triggers(admin, table, f"insert into ai_storage_private.{table} table {rows}")
        assert verified(app).problem.startswith(problem)
        without_triggers(admin, table, f"delete from ai_storage_private.{table} as t using {rows} where t = {rows}")
        assert verified(app).verified
    # A decline that is gone, in the receiver's log.
    (grant,) = call(app, "share_model", **share)
    call(app, "decline_share", share_id=grant.share_id, as_=READER)
    save(app, "own", as_=READER)
    assert verified(app, READER).verified
    without_triggers(admin, "share_decline", "delete from ai_storage_private.share_decline")
    assert verified(app, READER).problem.startswith("decline ")


@sql_test
def test_a_model_under_another_id_is_told_as_gone(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    save(app, "m", as_=ACME)
    before = len(trail(app, ACME))
    admin.execute("update ai_storage_private.ai_progress_tenant set model_id = gen_random_uuid()")
    admin.execute("delete from ai_storage_private.progress_version")
    assert [event.action for event in trail(app, ACME)[before:]] == ["delete model", "save model"]
    admin.execute("update ai_storage_private.idempotency_key set tenant_id = 7")
    save(app, "n", as_=ACME, idempotency_key="k")
    before = len(trail(app, ACME))
    admin.execute("update ai_storage_private.idempotency_key set tenant_id = 7")
    assert [event.action for event in trail(app, ACME)[before:]] == ["update idempotency key"]


@sql_test
def test_only_the_first_answer_of_an_idempotency_key_has_no_event(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    save(app, "m", as_=ACME, idempotency_key="k")
    admin.execute("update ai_storage_private.idempotency_key set version = null")
    for change in ("idempotency_key = 'k2', version = 7", "request_digest = '', version = 7", "created = true"):
        with admin.transaction(force_rollback=True):
            logged = all_events(admin)
            admin.execute(f"update ai_storage_private.idempotency_key set {change}")
            assert all_events(admin) == logged + 1


@sql_test
def test_the_log_verifies_after_legitimate_use_of_all_kinds(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    # What is kept of an artifact whose version was swept.
    for _ in range(3):
        save(app, "m", as_=ACME)
    call(app, "put_artifact", model_name="m", artifact_name="w", content=b"x", version=1, as_=ACME)
    share(app, "m", ACME, READER)
    call(admin, "set_retention", pattern=ACME, keep_versions=1, keep_events_for=timedelta(microseconds=1))
    for _ in range(2):
        call(admin, "seal_audit")
        call(admin, "apply_retention")
        assert verified(app).verified, verified(app).problem
    # A remembered deletion under a name that lives.
    other = key(code="other")
    for _ in range(3):
        save(app, "n", as_=other)
    call(app, "delete_progress", model_name="n", as_=other)
    save(app, "n", as_=ACME)
    records = [row.export_tenant for row in call(app, "export_tenant", as_=other)]
    call(app, "import_tenant", records=[r if isinstance(r, dict) else json.loads(r) for r in records], as_=ACME)
    call(app, "delete_progress", model_name="n", as_=ACME)
    assert verified(app).verified, verified(app).problem


@sql_test
def test_what_is_saved_while_its_tenant_is_erased_still_verifies(database: Database) -> None:
    app, admin, other = database.connect("app"), database.connect(), database.connect()
    save(app, "m", as_=ACME)
    other.execute("begin")
    call(other, "seal_audit")  # holds the turn that the erasure needs
    with blocked(other, admin, lambda: call(admin, "erase_tenant", pattern=ACME, reason="r")) as erasing:
        save(app, "new", as_=ACME)
        other.execute("rollback")
        erasing.result()
    assert verified(app).verified, verified(app).problem


@sql_test
def test_an_event_tells_no_credential_that_was_made_up(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    save(app, "m", as_=ACME)
    share(app, "m", ACME, READER, expires_at="2999-01-01 00:00:00+00")
    tenant_id = _tenant_id(admin, ACME)
    without_triggers(admin, "model_share", "update ai_storage_private.model_share set expires_at = now()")
    for made_up in (f"{'0' * 64}|call|99|x:x:x:x:x||key", f"{'0' * 64}|call|{tenant_id}|{ACME}||token k YWxpY2U"):
        with admin.transaction(force_rollback=True):
            admin.execute("select set_config('app.tenant_context', %s, true)", (made_up,))
            call(admin, "apply_retention")
            (login, credential) = admin.execute(
                f"select login, credential from {EVENTS} where action = 'delete share'"
            ).fetchone()
            assert (login, credential) == ("postgres", "none")
