"""What row level security never covers: large objects, notifications, locks, statements' text, dumps, replication."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
from psycopg import sql

from pydb import TenantAwareStorage, migrate
from tests.attacks import attack, only
from tests.attacks.conftest import CANARY, CANARY_NUMBER, House, no_canary, together, tried
from tests.attacks.control import ATTACKERS, build_pattern
from tests.helpers import ACME, BETA, Connection, call, key, names, refused, save, unchanged, value

pytestmark = pytest.mark.sql

BODIES = (
    "select oid::regprocedure::text, prosrc from pg_proc where pronamespace::regnamespace::text like 'ai\\_storage%'"
)


OLDER = key("beta", code="c2")


def whole_day(victim: Connection) -> None:
    """The victim uses every function that writes, each with its canary. OLDER has to have a model."""
    save(victim, "victim model", CANARY_NUMBER, metadata={"day": CANARY}, as_=BETA)
    call(victim, "save_progress_batch", items=[{"model_name": f"{CANARY} b", "mse": 1}], as_=BETA)
    call(victim, "share_model", model_name="shared", targets=[{"server_id": "s2"}], as_=BETA)
    value(victim, "unshare_model", model_name="shared", as_=BETA)
    call(victim, "load_progress", as_=BETA)
    call(victim, "promote_progress", from_code_hash="c2", as_=BETA)
    value(victim, "delete_progress", model_name=f"{CANARY} b", as_=BETA)


def bodies_that_say(connection: Connection, word: str) -> list[str]:
    return [name for name, body in connection.execute(BODIES) if word in body.lower()]


@attack(50)
@only("direct")
def test_nothing_of_ours_is_a_large_object(house: House) -> None:
    admin = house.admin()
    victim = house.database.connect("beta_app")
    save(victim, "older", as_=OLDER)
    whole_day(victim)
    assert admin.execute("select count(*) from pg_largeobject_metadata").fetchone() == (0,)
    assert bodies_that_say(admin, "lo_") == []

    attacker = build_pattern(house)
    (oid,) = attacker.execute("select lo_from_bytea(0, %s)", (CANARY.encode(),)).fetchone()
    attacker.execute("set app.current_tenant = 'another'")
    assert attacker.execute("select lo_get(%s)", (oid,)).fetchone() == (CANARY.encode(),), "whichever tenant it is"


@attack(51, 67)
@only("direct")
def test_nothing_is_notified_to_anybody(house: House) -> None:
    attacker = house.connect()
    channels = ["ai_storage", "progress", "tenant", "ai_progress_tenant", "progress_version", "model_share", ACME, BETA]
    for channel in channels:
        attacker.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
    victim = house.database.connect("beta_app")
    save(victim, "older", as_=OLDER)
    whole_day(victim)
    assert list(attacker.notifies(timeout=0.2)) == []
    assert bodies_that_say(house.admin(), "notify") == []

    attacker.execute("select pg_notify('progress', 'mine')")
    assert [notice.payload for notice in attacker.notifies(timeout=5, stop_after=1)] == ["mine"]
    stranger = house.connect("stranger")
    stranger.execute("listen progress")
    build_pattern(house).execute(f"select pg_notify('progress', '{CANARY}')")
    assert [notice.payload for notice in stranger.notifies(timeout=5, stop_after=1)] == [CANARY], "to any login"


@attack(52)
@only("direct")
def test_advisory_locks_stop_nobody(house: House) -> None:
    admin, attacker, victim = house.admin(), house.connect(), house.database.connect("beta_app")
    guesses = (
        "select pg_advisory_lock(n) from generate_series(0, 200) as n",
        "select pg_advisory_lock(n, m) from generate_series(0, 9) as n, generate_series(0, 9) as m",
        "select pg_advisory_lock(hashtext(t)), pg_advisory_lock(hashtextextended(t, 0)) "
        f"from unnest(array['ai_storage', 'victim model', 'same name', '{BETA}', 'migrate', 'yoyo']) as t",
        "select pg_advisory_lock(oid::bigint) from pg_class where relname ~ 'tenant|progress|_model|_key|_share'",
    )
    for guess in guesses:
        attacker.execute(guess)
    victim.execute("set lock_timeout = '5s'")
    save(victim, "older", as_=OLDER)
    with victim.transaction():
        whole_day(victim)
        mine = "select count(*) from pg_locks where locktype = 'advisory' and pid = %s"
        assert admin.execute(mine, (victim.info.backend_pid,)).fetchone() == (0,)
        assert admin.execute(mine, (attacker.info.backend_pid,)).fetchone() > (200,)
    migrate.init(house.database.dsn())
    assert bodies_that_say(admin, "advisory") == []


# Text of statements ---------------------------------------------------------------------------------------------------


@attack(53)
@only("direct")
def test_no_login_reads_the_statements_of_another(house: House) -> None:
    admin, victim = house.admin(), house.database.connect("beta_app")
    admin.execute("create extension if not exists pg_stat_statements")
    victim.execute(f"select * from ai_storage.load_progress('{CANARY} secret name', p_as => '{BETA}')")  # a literal
    queries = {
        "pg_stat_activity": "select query from pg_stat_activity where usename = 'beta_app'",
        "pg_stat_statements": "select query from pg_stat_statements where userid = 'beta_app'::regrole",
    }
    others = {
        "pg_stat_activity": "v.usename is distinct from current_user",
        "pg_stat_statements": "v.userid <> current_user::regrole",
    }
    for view, query in queries.items():
        assert "load_progress" in str(admin.execute(query).fetchall()), "there is something to read"
        for login in ATTACKERS:
            assert "load_progress" not in str(tried(house.connect(login), query)), view
            # Its own statements of other tests may hold a canary, which is then its own.
            tried(house.connect(login), f"select * from {view} as v where {others[view]}")
    for login in ATTACKERS:
        for query in ("select * from pg_cursors", "select * from pg_prepared_statements"):
            assert tried(house.connect(login), query) == []


@attack(53)
@only("direct")
def test_two_tenants_of_one_login_read_each_others_statements_but_not_the_values(house: House) -> None:
    # Not closed within one login, whose sessions PostgreSQL takes for one person. pydb sends values apart.
    victim, attacker = house.database.connect("app"), house.connect("app")
    TenantAwareStorage(victim, BETA).save_ai_progress(f"{CANARY} new", 0.5, metadata={"x": CANARY})
    (statement,) = attacker.execute(
        "select query from pg_stat_activity where pid = %s", (victim.info.backend_pid,)
    ).fetchone()
    assert "save_progress" in statement
    no_canary(statement)
    victim.execute(f"select * from ai_storage.load_progress('{CANARY} new', p_as => '{BETA}')")
    (statement,) = attacker.execute(
        "select query from pg_stat_activity where pid = %s", (victim.info.backend_pid,)
    ).fetchone()
    assert CANARY in statement


# Copies of everything -------------------------------------------------------------------------------------------------


@attack(55)
@only("direct")
def test_no_login_replicates(house: House) -> None:
    admin = house.admin()
    for publications in ("pg_publication", "pg_subscription", "pg_replication_slots"):
        assert admin.execute(sql.SQL("select * from {}").format(sql.Identifier(publications))).fetchall() == []
    for login in ATTACKERS:
        attacker = house.connect(login)
        for statement in (
            "create publication everything for all tables",
            "create publication one for table ai_storage_private.ai_progress_tenant",
            "create publication ours for tables in schema ai_storage_private",
            "create publication none",
            "create subscription s connection 'host=/tmp' publication p with (connect = false)",
            "select pg_create_logical_replication_slot('slot', 'test_decoding')",
            "select pg_create_physical_replication_slot('slot')",
            "select * from pg_logical_slot_peek_changes('slot', null, null)",
            "alter table ai_storage_private.ai_progress_tenant replica identity full",
            f"alter role {login} replication",
        ):
            answer = tried(attacker, statement)
            assert isinstance(answer, psycopg.Error), statement
            assert answer.sqlstate == "42501", statement
        with pytest.raises(psycopg.OperationalError, match=r"(?i)replication"):
            psycopg.connect(house.database.dsn(login, replication="database"))

    # What it is about: a publication knows no policy.
    admin.execute("create publication ours for table ai_storage_private.ai_progress_tenant")
    admin.execute("select pg_create_logical_replication_slot('judge', 'test_decoding')")
    try:
        victim = house.database.connect("beta_app", options="-c synchronous_commit=on")  # only what is flushed is sent
        save(victim, "victim model", metadata={"x": CANARY}, as_=BETA)
        decoded = admin.execute("select data from pg_logical_slot_peek_changes('judge', null, null)").fetchall()
        assert CANARY in str(decoded)
        for login in ATTACKERS:
            for function in ("pg_logical_slot_peek_changes", "pg_logical_slot_get_changes"):
                with refused("42501", hint=False):
                    house.connect(login).execute(f"select * from {function}('judge', null, null)")
    finally:
        admin.execute("select pg_drop_replication_slot('judge')")


def pg_dump(house: House, login: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the server's own pg_dump as a login."""
    cluster = house.database.server.cluster
    return subprocess.run(
        [cluster.bin_dir / "pg_dump", "--no-sync", *options, house.database.dsn(login)],
        capture_output=True,
        text=True,
        timeout=60,
    )


@attack(56)
@only("direct")
def test_a_dump_by_a_login_fails(house: House) -> None:
    for login in ATTACKERS:
        for options in (
            (),
            ("--data-only",),
            ("--enable-row-security", "--inserts"),
            ("--schema=ai_storage_private",),
            ("--table=ai_storage_private.ai_progress_tenant", "--enable-row-security"),
        ):
            done = pg_dump(house, login, *options)
            assert done.returncode != 0, (login, options)
            assert "permission denied" in done.stderr
            no_canary(done.stdout + done.stderr)
    # The view holds no data of its own, so a dump of the API's schema is its source text.
    no_canary(pg_dump(house, "reporter", "--schema=ai_storage", "--enable-row-security").stdout)
    done = pg_dump(house, "postgres")
    assert done.returncode == 0
    assert CANARY in done.stdout


@attack(57)
@only("direct")
def test_copy_reaches_nothing(house: House) -> None:
    with unchanged(house.database):
        for login in ATTACKERS:
            attacker = house.connect(login)
            for statement in (
                "copy ai_storage_private.ai_progress_tenant to stdout",
                "copy (select * from ai_storage_private.ai_progress_tenant) to stdout",
                "copy (table ai_storage_private.context_secret) to stdout",
                "copy ai_storage_private.ai_progress_tenant (model_name) from stdin",
                "copy ai_storage_private.tenant from program 'id'",
                "copy (select 1) to program 'cat'",
                "copy (select 1) to '/tmp/of_an_attacker'",
                "copy pg_authid to stdout",
            ):
                with pytest.raises(psycopg.Error) as caught, attacker.cursor().copy(statement) as copy:
                    no_canary(list(copy))
                assert caught.value.sqlstate == "42501", statement
                no_canary(caught.value)
    reader = house.connect("reporter")
    with reader.transaction():
        value(reader, "set_tenant", credential=ACME)
        with reader.cursor().copy("copy (select model_name from ai_storage.ai_progress_tenant) to stdout") as copy:
            assert sorted(copy.rows()) == [("own",), ("same name",)]
        with reader.cursor().copy(f"copy (select ai_storage.load_progress(p_as => '{ACME}')) to stdout") as copy:
            no_canary(list(copy))


# Switches -------------------------------------------------------------------------------------------------------------


@attack(58)
def test_row_security_off_is_an_error_and_not_a_way_around(house: House) -> None:
    attacker = house.connect()
    off = "set local row_security = off"
    with unchanged(house.database):
        for statement in (
            f"select * from ai_storage.load_progress(p_as => '{ACME}')",
            f"select * from ai_storage.load_history('same name', p_as => '{ACME}')",
            f"select * from ai_storage.save_progress('x', 1, p_as => '{ACME}')",
            f"select * from ai_storage.load_progress(p_scope => 'shared', p_as => '{ACME}')",
            f"select ai_storage.delete_progress('same name', p_as => '{ACME}')",
        ):
            answer = tried(attacker, together(off, statement))
            assert isinstance(answer, psycopg.Error)
            assert answer.sqlstate == "42501"
        reader = house.connect("reporter")
        answer = tried(
            reader,
            together(off, f"select ai_storage.set_tenant('{ACME}')", "select * from ai_storage.ai_progress_tenant"),
        )
        assert getattr(answer, "sqlstate", None) == "42501"
    # and the next borrower of the connection is served as ever
    assert names(house.connect(), as_=ACME) == ["own", "same name"]


@attack(59)
@only("direct")
def test_no_login_switches_triggers_policies_or_functions_off(house: House) -> None:
    with unchanged(house.database):
        for login in ATTACKERS:
            attacker = house.connect(login)
            for statement in (
                "set session_replication_role = replica",
                "select set_config('session_replication_role', 'replica', false)",
                f"alter role {login} set session_replication_role = replica",
                "alter table ai_storage_private.ai_progress_tenant disable trigger all",
                "alter table ai_storage_private.ai_progress_tenant disable trigger forget_model",
                "alter table ai_storage_private.ai_progress_tenant no force row level security",
                "alter table ai_storage_private.ai_progress_tenant disable row level security",
                "drop policy tenant_keeps_its_models on ai_storage_private.ai_progress_tenant",
                "create policy mine on ai_storage_private.ai_progress_tenant using (true)",
                "create trigger mine after insert on ai_storage_private.ai_progress_tenant "
                "execute function pg_catalog.suppress_redundant_updates_trigger()",
                "create rule mine as on insert to ai_storage_private.ai_progress_tenant do nothing",
                "alter function ai_storage.version() reset search_path",
                "alter function ai_storage.version() owner to current_user",
                "drop function ai_storage.version()",
                "drop schema ai_storage cascade",
                "comment on schema ai_storage is 'mine'",
                "do $$ begin lock table ai_storage_private.ai_progress_tenant; end $$",
                "security label on schema ai_storage is 'x'",
            ):
                answer = tried(attacker, statement)
                assert isinstance(answer, psycopg.Error), statement
                if not statement.startswith("security label"):  # which nothing provides
                    assert answer.sqlstate == "42501", f"{login}: {statement}: {answer}"
