"""Every setting that a login may change, at hostile values: the same rows and the same stored values, or a loud error.

`make settings` tries each value in a session of its own, and each as ALTER ROLE and as an option of the connection.
"""

from __future__ import annotations

import dataclasses
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pydb import TenantAwareStorage, calls, errors
from pydb.session import run
from tests.attacks import attack
from tests.conftest import Database, Server, install
from tests.helpers import Connection, key

OWN, PROBE = key(code="own"), key(code="probe")
RECEIVERS, OTHERS, GRANTS, MODELS = 60, 20, 100, 40
ENDS = datetime(2035, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
KEPT = timedelta(days=4000, hours=5, microseconds=1)
DIGITS = 0.1 + 0.2
STATE: dict[str, Any] = {
    "training_samples": 7,
    "metrics": {"a": DIGITS, "b": 1e300},
    "metadata": {"x": [DIGITS, "é 😀", None, "\\", 12345678901234567890], "of": 1},
}

#: What makes calls fail and nothing else: a login may hurt itself, and whoever shares its sessions. None stands for a
#: connection that was found closed.
FAIL: dict[str, set[str]] = {
    "default_transaction_deferrable": set(),
    "default_transaction_read_only": {"25006"},
    "default_transaction_isolation": {"55000"},
    "transaction_deferrable": set(),
    "transaction_isolation": set(),
    "transaction_read_only": {"25006"},
    "row_security": {"42501"},
    "max_stack_depth": {"54001"},
    "statement_timeout": {"57014"},
    "transaction_timeout": {"25P04", "None"},
    "idle_in_transaction_session_timeout": {"25P03", "None"},
    "idle_session_timeout": {"57P05", "None"},
    "lock_timeout": {"55P03"},
    "temp_file_limit": {"53400"},
    "role": {"42501"},
    "session_authorization": {"42501"},
    "local_preload_libraries": set(),  # with one that is not there, no session begins
}
TEXTS = ("", "all", "C", "pg_temp", "German", "escape", "LATIN1", "SQL_ASCII", "Asia/Kathmandu", "-1", "\\", "x")


def fill(database: Database) -> None:
    """Enough of everything that other plans are chosen than for a few rows."""
    app = database.connect("app")
    own = TenantAwareStorage(app, OWN)
    own.save_ai_progress_batch([{"model_name": f"m{number:03}", "mse": number + DIGITS} for number in range(MODELS)])
    own.save_ai_progress_batch([{"model_name": "m000", "mse": number / 7} for number in range(300)])
    own.share_model("m000", [{"code_hash": f"r{number}"} for number in range(RECEIVERS)])
    for number in range(OTHERS):
        other = TenantAwareStorage(app, key(code=f"other{number}"))
        other.save_ai_progress_batch([{"model_name": f"o{number}", "mse": 1.0} for number in range(MODELS)])
        other.share_model("o1", [{"code_hash": f"q{receiver}"} for receiver in range(GRANTS)], expires_at=ENDS)
        other.share_model("o2", [{"code_hash": "own"}])
    own.put_artifact("m000", "weights", bytes(range(256)) * 5000)
    TenantAwareStorage(app, PROBE).save_ai_progress("first", 1)
    admin = database.connect()
    run(admin, calls.seal_audit())
    run(admin, calls.create_checkpoint())
    admin.execute("vacuum (analyze)")


def asked(app: Connection) -> dict[str, Any]:
    """What a tenant is answered; nothing stays."""
    own, answers = TenantAwareStorage(app, OWN), dict[str, Any]()
    with app.transaction(force_rollback=True):
        sealed = own.audit_trail(limit=20)
        answers |= {
            "models": own.load_ai_progress(scope="own"),
            "page": own.load_ai_progress(limit=5, after=own.load_ai_progress(limit=3)[-1].cursor),
            "shared": sorted((row.owner_key, row.model_name) for row in own.load_ai_progress(scope="shared")),
            "history": own.load_history("m000", limit=100),
            "shares": own.list_shares(),
            "received": own.list_received_shares(),
            "may": [own.has_permission(key(code="other3"), name, "read") for name in ("o1", "o2", "o3")],
            "artifacts": own.list_artifacts(),
            "bytes": own.get_artifact("m000", "weights"),
            "trail": sealed,
            "proof": own.audit_proof(sealed[3].event_id),
        }
    with app.transaction(force_rollback=True):
        answers["ended"] = [own.unshare_model("m000", [{"code_hash": "r1"}]), own.unshare_model("m000")]
        answers["left"] = own.list_shares("m000")
        saved = [own.save_ai_progress("new", DIGITS, idempotency_key="k", **STATE) for _ in range(2)]
        answers["saved"] = [(one.version, one.created) for one in saved]
        answers["stored"] = [(one.mse, one.metrics, one.metadata) for one in own.load_ai_progress("new")]
        answers["deleted"] = [own.delete("new"), own.delete("new")]
    with app.transaction(force_rollback=True):
        receiver = TenantAwareStorage(app, key(code="r3"))
        answers["receiver"] = [row.model_name for row in receiver.load_ai_progress(scope="shared")]
    with app.transaction(force_rollback=True):
        answers["export"] = TenantAwareStorage(app, key(code="other4")).export_tenant()
    return answers


def stored(admin: Connection, app: Connection) -> list[Any]:
    """What one save, one share and one rule leave in the tables, as another session sees it."""
    mine = TenantAwareStorage(app, PROBE)
    version = mine.save_ai_progress("probe", DIGITS, **STATE).version
    mine.unshare_model("probe")  # where a call before failed
    mine.share_model("probe", [{"code_hash": "z"}], expires_at=ENDS)
    mine.put_artifact("probe", "w", bytes(range(256)))
    (share,) = mine.list_shares("probe")
    rows = admin.execute(
        "select mse, training_samples, metrics::text, metadata::text from ai_storage_private.progress_version "
        "where version = %s and metadata ? 'of'",
        (version,),
    ).fetchall()
    rows += admin.execute(
        "select expires_at, permissions from ai_storage_private.model_share where share_id = %s", (share.share_id,)
    ).fetchall()
    rows += admin.execute(
        "select action, (detail::jsonb - 'application' - 'share_id')::text from ai_storage_private.audit_pending "
        "where detail like '%%expires_at%%' order by event_id desc limit 1"
    ).fetchall()
    return rows


def governed(admin: Connection, app: Connection, operator: Connection) -> list[Any]:
    """What a rule of an operator leaves in the tables, and what is answered slowly."""
    stats = run(app, calls.tenant_stats(), OWN)
    run(operator, calls.set_retention("nobody:*:*:*:*", keep_versions_for=KEPT, keep_versions=3))
    rows: list[Any] = (
        run(operator, calls.list_retention())[0].keep_versions_for == KEPT
        and admin.execute(
            "select (detail::jsonb - 'application')::text from ai_storage_private.audit_pending "
            "where detail like '%%keep_versions%%' order by event_id desc limit 1"
        ).fetchall()
    )
    return [
        rows,
        dataclasses.replace(stats, compliance_status=""),  # which is about settings, those of the session too
        run(app, calls.verify_audit(), OWN).verified,
        sorted(one.isolation_key for one in run(operator, calls.list_tenants())),
        sorted((one.login_name, one.pattern) for one in run(operator, calls.list_authorizations())),
        run(operator, calls.verify_all_audit()).verified,
    ]


def values(kind: str, now: str, low: str | None, high: str | None, words: list[str] | None) -> list[str]:
    """Values that differ from the present one as much as can be."""
    found = {"bool": ["on", "off"], "enum": words or [], "string": list(TEXTS)}.get(kind)
    if found is None:
        # 1 means little where 0 means none.
        found = [*{text: None for text in (low, "1", high) if text is not None}]
    return [one for one in found if one != now]


def hostile(app: Connection) -> list[tuple[str, str]]:
    """Each setting that this login may set, with each value that is allowed."""
    TenantAwareStorage(app, OWN).load_ai_progress("m000")  # PL/pgSQL's own settings come with its first function
    pairs = []
    for name, *about in app.execute(
        "select name, vartype, setting, min_val, max_val, enumvals from pg_settings "
        "where context = 'user' or has_parameter_privilege(name, 'SET') order by name"
    ).fetchall():
        for one in values(*about):
            try:
                with app.transaction(force_rollback=True):
                    app.execute(sql.SQL("set local {} = {}").format(sql.Identifier(*name.split(".")), one))
            except psycopg.Error:
                continue
            pairs.append((name, one))
    return pairs


def setting(name: str, text: str) -> sql.Composed:
    return sql.SQL("set {} = {}").format(sql.SQL(".").join(map(sql.Identifier, name.split("."))), text)


@pytest.fixture
def filled(database: Database) -> Database:
    fill(database)
    database.connect().execute("do $$ begin create role boss login; exception when duplicate_object then null; end $$")
    database.connect().execute("grant ai_storage_admin to boss")
    return database


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[Any]:
    return [what for what in expected if found[what] != expected[what]]


@attack(47)
def test_no_setting_of_a_session_changes_an_answer_or_what_is_stored(
    filled: Database, pytestconfig: pytest.Config
) -> None:
    admin, app = filled.connect(), filled.connect("app")
    everything = pytestconfig.getoption("--every-setting")
    stored(admin, app)
    expected = asked(app), stored(admin, app)
    assert (asked(app), stored(admin, app)) == expected
    pairs = hostile(app)
    assert len({name for name, _ in pairs}) > 120
    changing: dict[str, Any] = {}
    failing: dict[str, set[str]] = {}
    for name, text in pairs:
        if everything or app.broken:
            app = filled.connect("app")
        # Plans of this session were made under other settings.
        app.execute("discard plans")
        app.execute(setting(name, text))
        try:
            answers, rows = asked(app), stored(admin, app)
            if found := differences(expected[0], answers) + ([rows] if rows != expected[1] else []):
                changing[f"{name} = {text}"] = found
        except (psycopg.Error, errors.StorageError) as error:
            failing.setdefault(name, set()).add(str(error.sqlstate))
        # A session that may be idle for a millisecond only ends here, too.
        with suppress(psycopg.errors.IdleSessionTimeout):
            if not app.broken:
                app.rollback()
                app.execute("reset all")
    assert changing == {}
    assert {name: codes for name, codes in failing.items() if not codes <= FAIL.get(name, set())} == {}
    assert {"row_security", "default_transaction_read_only"} <= set(failing)  # the test can see a failure


@attack(47)
@pytest.mark.parametrize("kept", ["for the login", "by the connection"])
def test_no_setting_that_comes_with_a_session_changes_an_answer_or_what_is_stored(filled: Database, kept: str) -> None:
    admin, app, boss = filled.connect(), filled.connect("app"), filled.connect("boss")
    stored(admin, app)
    expected = asked(app), stored(admin, app), governed(admin, app, boss)
    # The first value of each setting together, then the last. The test above tells which one it was.
    pairs = [(name, text) for name, text in hostile(app) if name not in FAIL]
    for chosen in (dict(reversed(pairs)), dict(pairs)):
        if kept == "for the login":
            for login in (filled.connect("app"), filled.connect("boss")):
                login.execute("do $$ begin null; end $$")  # PL/pgSQL's own settings come with it
                for name, text in chosen.items():
                    # As the login itself: nobody else's help is needed.
                    login.execute(sql.SQL("alter role current_user {}").format(setting(name, text)))
            options = ""
        else:
            spelt = ("{}={}".format(*pair).replace("\\", "\\\\").replace(" ", "\\ ") for pair in chosen.items())
            options = " ".join(f"-c {one}" for one in spelt)
        try:
            with (
                psycopg.connect(filled.dsn("app", options=options), autocommit=True) as app,
                psycopg.connect(filled.dsn("boss", options=options), autocommit=True) as boss,
            ):
                assert asked(app) == expected[0]
                assert stored(admin, app) == expected[1]
                assert governed(admin, app, boss) == expected[2]
        finally:
            for login in ("app", "boss"):
                admin.execute(f"alter role {login} reset all")


# A save is as durable as the database -------------------------------------------------------------------------------

WRITES = re.compile(r"\b(?:insert into|update|delete from|truncate)\s+ai_storage_private\.(\w+)")


@attack(47)
def test_every_function_that_writes_makes_its_commit_durable(database: Database) -> None:
    admin = database.connect()
    bodies = dict[str, str](
        admin.execute(
            "select pronamespace::regnamespace || '.' || proname, prosrc from pg_proc "
            "where pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)"
        ).fetchall()
    )
    triggers: dict[str, set[str]] = {}
    for table, function in admin.execute(
        "select c.relname, p.pronamespace::regnamespace || '.' || p.proname from pg_trigger as t "
        "join pg_class as c on c.oid = t.tgrelid join pg_proc as p on p.oid = t.tgfoid"
    ).fetchall():
        triggers.setdefault(table, set()).add(function)

    def reached(name: str) -> set[str]:
        seen, left = set[str](), [name]
        while left:
            if (one := left.pop()) not in seen and one in bodies:
                seen.add(one)
                left += re.findall(r"\b(ai_storage(?:_private)?\.\w+)\s*\(", bodies[one])
                left += [function for table in WRITES.findall(bodies[one]) for function in triggers.get(table, ())]
        return seen

    public = [name for name in bodies if name.startswith("ai_storage.")]
    writing = [name for name in public if any(WRITES.search(bodies[one]) for one in reached(name))]
    assert len(writing) > 30
    assert [name for name in writing if "ai_storage_private.keep_durable" not in reached(name)] == []


@attack(47)
@pytest.mark.parametrize("less", ["off", "local", "remote_write", "on", "remote_apply"])
def test_what_a_session_has_set_is_raised_for_the_transaction_and_no_longer(database: Database, less: str) -> None:
    app, admin = database.connect("app"), database.connect()
    for connection, work in (
        (app, lambda: TenantAwareStorage(app, OWN).save_ai_progress("m", 1)),
        (app, lambda: run(app, calls.begin_artifact("m", "w"), OWN)),
        (admin, lambda: run(admin, calls.set_retention("nobody:*:*:*:*", keep_versions=1))),
        (admin, lambda: run(admin, calls.seal_audit())),
        (admin, lambda: run(admin, calls.create_checkpoint())),
    ):
        connection.execute(f"set synchronous_commit = {less}")
        with connection.transaction():
            work()
            assert connection.execute("show synchronous_commit").fetchall() == [
                ("remote_apply" if less == "remote_apply" else "on",)
            ]
        assert connection.execute("show synchronous_commit").fetchall() == [(less,)]


@attack(47)
@pytest.mark.parametrize("kept", ["for the session", "for the login"])
def test_an_acknowledged_save_survives_a_crash_whatever_a_borrower_left(own_server: Server, kept: str) -> None:
    install(own_server.dsn())
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("alter system set wal_writer_delay = '10s'")  # which would write it soon
        admin.execute("select pg_reload_conf()")
    with psycopg.connect(own_server.dsn("app"), autocommit=True) as app:
        app.execute("alter role current_user set synchronous_commit = off")
    with psycopg.connect(own_server.dsn("app"), autocommit=True) as app:
        app.execute(f"set synchronous_commit = {'off' if kept == 'for the session' else 'default'}")
        mine = TenantAwareStorage(app, OWN)
        acknowledged = [mine.save_ai_progress("m", number).version for number in range(20)]
        own_server.cluster.stop("immediate")
    own_server.cluster.start({})
    with psycopg.connect(own_server.dsn("app"), autocommit=True) as app:
        history = TenantAwareStorage(app, OWN).load_history("m")
    assert [one.version for one in history] == acknowledged[::-1]
