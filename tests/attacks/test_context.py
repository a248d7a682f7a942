"""Attacks on the context: pretend to be another tenant, or use a genuine context where it does not belong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.attacks import attack, only
from tests.attacks.conftest import House, Mint, together, tried
from tests.helpers import ACME, BETA, Connection, dump, names, refused, save, sleep_past, value

READ = "select current_setting('app.tenant_context')"
LOAD = "select * from ai_storage.load_progress()"
VIEW = "select * from ai_storage.ai_progress_tenant"


def put(text: str, *, local: bool = False) -> str:
    """SQL that writes a context."""
    return sql.SQL("select set_config('app.tenant_context', {}, {})").format(text, local).as_string()


def is_nobody(connection: Connection, *first: str) -> None:
    """Fail if the statements `first` give what follows them, in the same message, a tenant."""
    for statement in (LOAD, "select * from ai_storage.save_progress('planted', 1)"):
        answer = tried(connection, together(*first, statement))
        assert isinstance(answer, psycopg.Error), answer
        assert answer.sqlstate == "TN001", answer
    assert last_row(connection, *first, "select ai_storage.current_tenant()") == (None,)


def last_row(connection: Connection, *statements: str) -> Any:
    """The last row of several statements in one message, or None if there is none."""
    rows = tried(connection, together(*statements))
    assert isinstance(rows, list), rows
    return rows[-1] if rows else None


def genuine(connection: Connection, credential: str) -> str:
    """A genuine context, read in a transaction that is over by now."""
    row = last_row(connection, sql.SQL("select ai_storage.set_tenant({})").format(credential).as_string(), READ)
    assert row[0].count("|") == 7
    return str(row[0])


@contextmanager
def victims_context(house: House, victim: Connection) -> Iterator[str]:
    """The context of a transaction of the victim's that is still open: to be had by a leak of its own only."""
    victim.execute("begin")
    value(victim, "set_tenant", credential=BETA)
    assert "victim model" in names(victim)
    yield victim.execute(READ).fetchone()[0]
    victim.execute("rollback")


# SQL that ends a forged context: backend and transaction are those that it is used in.
FINISHED = "replace({}, 'HERE', pg_backend_pid() || '|' || extract(epoch from now()))"


def forged(house: House) -> list[str]:
    """Contexts made up by somebody who knows everything but the secret, the victim's tenant_id too; to be FINISHED."""
    (tenant_id,) = (
        house.admin()
        .execute("select tenant_id from ai_storage_private.tenant where isolation_key = %s", (BETA,))
        .fetchone()
    )
    payload = f"transaction|{tenant_id}|{BETA}||key|HERE"
    return [BETA, payload, f"{'0' * 64}|{payload}", f"|{payload}"]


@attack(1)
def test_a_setting_of_ones_own_names_no_tenant(house: House) -> None:
    attacker = house.connect()
    before = dump(house.database)
    for setting in ("app.current_tenant", "app.tenant_context"):
        for text in forged(house):
            finished = FINISHED.format(sql.Literal(text).as_string())
            is_nobody(attacker, f"do $do$ begin execute format('set {setting} = %L', {finished}); end $do$")
            is_nobody(attacker, f"do $do$ begin execute format('set local {setting} = %L', {finished}); end $do$")
            is_nobody(attacker, f"select set_config('{setting}', {finished}, false)")
            # forged and used in one SELECT, which is all that most injections have
            answer = tried(
                attacker,
                f"select l.* from set_config('{setting}', {finished}, true) as s, "
                "lateral ai_storage.load_progress(p_model_name => nullif(left(s, 0), '')) as l",
            )
            assert isinstance(answer, psycopg.Error)
            assert answer.sqlstate == "TN001"
    # and forged behind a genuine credential, in the middle of one statement
    rows = tried(
        attacker,
        "select l.model_name, set_config('app.current_tenant', %s, true) "
        "from ai_storage.load_progress(p_as => %s) as l union all "
        "select l.model_name, '' from ai_storage.load_progress(p_as => %s) as l",
        *(BETA, ACME, ACME),
    )
    assert [row[0] for row in rows] == ["own", "same name"] * 2
    assert dump(house.database) == before


@attack(1)
def test_a_forged_setting_opens_no_row_of_the_reporting_view(house: House) -> None:
    reporter = house.connect("reporter")
    for setting in ("app.current_tenant", "app.tenant_context"):
        for text in forged(house):
            forge = f"set_config('{setting}', {FINISHED.format(sql.Literal(text).as_string())}, true)"
            look = f"array(select id from ({VIEW}) as v)"
            assert last_row(reporter, f"select {forge}", f"select {look}") == ([],)
            assert tried(reporter, f"select case when {forge} <> '' then {look} end") == [([],)]


@attack(2)
def test_a_context_in_the_startup_packet_is_refused_or_worth_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = house.dsn("acme_app", house.database.name)
    arrived = 0
    with victims_context(house, house.database.connect("beta_app")) as context:
        for text in [*forged(house), context]:
            for setting in ("app.current_tenant", "app.tenant_context"):
                option = f"-c {setting}={text}"
                for by_environment in (False, True):
                    if by_environment:
                        monkeypatch.setenv("PGOPTIONS", option)
                    else:
                        monkeypatch.delenv("PGOPTIONS", raising=False)
                    try:
                        attacker = psycopg.connect(
                            dsn if by_environment else make_conninfo(dsn, options=option),
                            autocommit=True,
                            prepare_threshold=None,
                        )
                    except psycopg.OperationalError:
                        continue  # a pooler refuses options that it does not know
                    with attacker:
                        shown = attacker.execute(f"select current_setting('{setting}', true)").fetchone()[0]
                        arrived += shown == text
                        is_nobody(attacker)
                        # Nobody knows the backend and the transaction beforehand, so what arrived is finished here.
                        finished = FINISHED.format(f"current_setting('{setting}', true)")
                        is_nobody(attacker, f"select set_config('app.tenant_context', {finished}, true)")
    # The attack has to arrive to prove something.
    assert arrived == (20 if house.way == "direct" else 0)
    assert "PGOPTIONS" in os.environ


@attack(2)
@only("direct")
def test_a_setting_kept_for_a_role_or_a_database_names_no_tenant(house: House) -> None:
    attacker, name = house.connect(), house.database.name
    for statement in (
        f"alter role acme_app set app.current_tenant = '{BETA}'",
        f"alter role acme_app in database \"{name}\" set app.tenant_context = '{BETA}'",
        f"alter role beta_app set app.tenant_context = '{BETA}'",
        f"alter role all set app.tenant_context = '{BETA}'",
        f"alter database \"{name}\" set app.tenant_context = '{BETA}'",
        f"alter system set app.tenant_context = '{BETA}'",
    ):
        with refused("42501", hint=False):
            attacker.execute(statement)
    # Nor does it help when an administrator sets it, even to a context that was genuine.
    context = genuine(house.connect("beta_app"), BETA)
    for target in (f'role acme_app in database "{name}"', f'database "{name}"'):
        for setting, text in (("app.current_tenant", BETA), ("app.tenant_context", context)):
            house.admin().execute(sql.SQL(f"alter {target} set {setting} = {{}}").format(text))
        later = house.connect()
        assert later.execute(READ).fetchone() == (context,)
        is_nobody(later)
        assert names(later, as_=ACME) == ["own", "same name"]


@attack(3)
@only("direct")
def test_rights_on_the_setting_neither_protect_nor_are_needed(house: House) -> None:
    attacker, admin = house.connect(), house.admin()
    settings = ("app.current_tenant", "app.tenant_context")
    try:
        for right in ("revoke set on parameter {} from public", "grant set on parameter {} to acme_app"):
            for setting in settings:
                admin.execute(right.format(f'"{setting}"'))
                is_nobody(attacker, f"set {setting} = '{BETA}'")
                # the revoked right does not even keep the setting from being written
                assert attacker.execute(f"select current_setting('{setting}')").fetchone() == (BETA,)
    finally:
        for setting in settings:  # these rights are the whole server's
            admin.execute(f'revoke set on parameter "{setting}" from acme_app')


@attack(4)
def test_after_a_local_set_the_empty_setting_means_nobody(house: House) -> None:
    for login, key in (("acme_app", ACME), ("reporter", ACME)):
        attacker = house.connect(login)
        # Through a pool of several connections, all have to have been used.
        for _ in range(4):
            genuine(attacker, key)
        shown = attacker.execute("select current_setting('app.tenant_context', true)").fetchone()[0]
        assert not shown
        is_nobody(attacker)
        is_nobody(attacker, "set app.tenant_context = ''", "set app.current_tenant = ''")
    assert last_row(attacker, "set local app.tenant_context = ''", VIEW) is None
    with refused("TN002"):
        value(attacker, "set_tenant", credential="")
    with refused("TN002"):
        names(attacker, as_="")


REPLAYS: dict[str, Callable[[Connection], object]] = {
    "commit": lambda connection: connection.execute("commit"),
    "rollback": lambda connection: connection.execute("rollback"),
    "error": lambda connection: (tried(connection, "select 1/0"), connection.execute("commit")),
    "prepare transaction": lambda connection: connection.execute("prepare transaction 'replay'"),
    "commit and chain": lambda connection: connection.execute("commit and chain"),
}


@attack(5)
@only("direct", "transaction")
@pytest.mark.parametrize("end", REPLAYS)
def test_a_context_ends_with_its_transaction_however_that_ends(house: House, end: str) -> None:
    attacker = house.connect()
    attacker.execute("begin")
    value(attacker, "set_tenant", credential=ACME)
    save(attacker, "new")
    context = attacker.execute(READ).fetchone()[0]
    REPLAYS[end](attacker)
    if end == "commit and chain":
        is_nobody_in_this_transaction(attacker, context)
        attacker.execute("commit")
    try:
        is_nobody(attacker, put(context))
        is_nobody(attacker, put(context, local=True))
        attacker.execute("begin")
        is_nobody_in_this_transaction(attacker, context)
        attacker.execute("rollback")
        # nor does it bind whom the session names next
        assert "victim model" in names(house.connect("beta_app"), as_=BETA)
    finally:
        if end == "prepare transaction":
            # Another session commits it; what was saved stays with the tenant that saved it.
            house.connect().execute("commit prepared 'replay'")
    saved = end in ("commit", "commit and chain", "prepare transaction")
    assert ("new" in names(attacker, as_=ACME)) is saved


def is_nobody_in_this_transaction(connection: Connection, context: str) -> None:
    """Put a context where a transaction is open already, and find it worth nothing."""
    connection.execute(put(context, local=True))
    assert connection.execute(READ).fetchone() == (context,)
    assert value(connection, "current_tenant") is None
    with refused("TN001"), connection.transaction():
        names(connection)


@attack(5)
def test_a_context_is_worth_nothing_in_another_session(house: House) -> None:
    with victims_context(house, house.database.connect("beta_app")) as context:
        # The victim's own login, as through a pool, and the attacker's; at the same time and from another backend.
        for login in ("beta_app", "acme_app", "reporter", "app"):
            other = house.connect(login)
            pid = other.execute("select pg_backend_pid()").fetchone()[0]
            field = context.split("|")
            here = "|".join([*field[:6], str(pid), field[7]])
            for text in (context, here):
                is_nobody(other, put(text))
                is_nobody(other, put(text, local=True))
                # The start of the transaction it was made in is no secret either.
                now = "extract(epoch from now())::text"
                is_nobody(
                    other,
                    f"select set_config('app.tenant_context', {sql.Literal('|'.join(field[:6])).as_string()} || "
                    f"'|' || pg_backend_pid() || '|' || {now}, true)",
                )
            if login == "reporter":
                assert tried(other, together(put(context, local=True), VIEW)) == [(context,)]


@attack(5)
def test_a_context_kept_for_the_session_is_worth_nothing_to_the_next_borrower(house: House) -> None:
    # Both of the pool's connections, each with a context that was genuine a moment ago.
    victim, next_borrower = house.connect("beta_app"), house.connect("beta_app")
    for _ in range(4):
        last_row(
            victim,
            f"select ai_storage.set_tenant('{BETA}')",
            "select set_config('app.tenant_context', current_setting('app.tenant_context'), false) <> ''",
        )
    if house.way != "direct":
        assert BETA in next_borrower.execute(READ).fetchone()[0]  # it did stay behind
    is_nobody(next_borrower)
    is_nobody(victim)


@attack(5)
def test_a_context_expires_with_its_token(house: House, mint: Mint) -> None:
    attacker = house.connect()
    exp = int(time.time()) + 3
    token = mint(exp=exp)
    statement = (
        f"do $$ begin perform ai_storage.set_tenant('{token}'); perform {sleep_past(exp)}; "
        "perform count(*) from ai_storage.load_progress(); end $$"
    )
    with refused("TN001"):
        attacker.execute(statement)
    with refused("TN005"):
        names(attacker, as_=token)


@attack(5)
@only("direct")
def test_a_context_is_worth_nothing_after_discard_all(house: House) -> None:
    attacker = house.connect()
    context = genuine(attacker, ACME)
    attacker.execute("discard all")
    is_nobody(attacker)
    is_nobody(attacker, put(context))


@attack(5)
@only("direct", "transaction")
def test_transactions_of_one_message_serve_one_tenant_and_the_next_message_nobody(house: House) -> None:
    # PostgreSQL starts all transactions of a message at one moment, so a context can be kept from one to the next: by
    # the sender of the message, for the tenant it had the credential of. docs/design.md says so.
    attacker = house.connect("app")
    keep = (
        "begin",
        f"select ai_storage.set_tenant('{ACME}')",
        "select set_config('app.tenant_context', current_setting('app.tenant_context'), false)",
        "commit",
    )
    assert last_row(attacker, *keep, "begin", "select ai_storage.current_tenant()", "commit") == (ACME,)
    answer = tried(attacker, together(*keep, "begin", f"select ai_storage.set_tenant('{BETA}')", "commit"))
    assert isinstance(answer, psycopg.Error)
    assert answer.sqlstate == "TN004"
    attacker.execute("rollback")
    for _ in range(4):
        is_nobody(attacker)
        is_nobody(house.connect("app"))


@attack(5)
@only("direct", "transaction")
def test_a_context_is_worth_nothing_under_an_exported_snapshot(house: House) -> None:
    victim, attacker = house.connect("beta_app"), house.connect("beta_app")
    with victims_context(house, victim) as context:
        snapshot = victim.execute("select pg_export_snapshot()").fetchone()[0]
        attacker.execute("begin isolation level repeatable read")
        attacker.execute(sql.SQL("set transaction snapshot {}").format(snapshot))
        is_nobody_in_this_transaction(attacker, context)
        attacker.execute("rollback")


@attack(5)
@only("direct")
def test_a_context_gives_a_parallel_worker_no_other_tenant(house: House) -> None:
    admin = house.admin()
    admin.execute("grant create on schema public to acme_app")
    attacker = house.connect()
    # Functions that lie about being safe in a worker.
    for name, body in (
        ("who", "select coalesce(ai_storage.current_tenant(), '') || ' ' || pg_backend_pid()"),
        ("own", "select string_agg(model_name, ',') from ai_storage.load_progress()"),
        ("other", f"select string_agg(model_name, ',') from ai_storage.load_progress(p_as => '{ACME}')"),
    ):
        attacker.execute(
            f"create function public.{name}() returns text language sql volatile parallel safe as $$ {body} $$"
        )
    parallel = "debug_parallel_query" if house.database.server.major >= 16 else "force_parallel_mode"
    attacker.execute(f"set {parallel} = on")
    context = genuine(attacker, ACME)
    attacker.execute("begin")
    value(attacker, "set_tenant", credential=ACME)
    who = attacker.execute("select public.who()").fetchone()[0]
    assert who.split()[-1] != str(attacker.info.backend_pid)  # it did run in a worker
    assert len(who.split()) == 1  # where the context counts for nothing
    for function in ("own", "other"):
        attacker.execute("savepoint s")
        answer = tried(attacker, f"select public.{function}()")
        assert isinstance(answer, psycopg.Error), answer
        attacker.execute("rollback to s")
    attacker.execute("rollback")
    attacker.execute(put(context))
    assert tried(attacker, "select left(public.who(), 1)") == [(" ",)]


ROLES = (
    *("ai_storage_owner", "ai_storage_sharing", "ai_storage_operator", "ai_storage_admin", "ai_storage_auditor"),
    *("beta_app", "app", "postgres", "pg_read_all_data", "pg_read_all_settings", "pg_monitor"),
)


@attack(6)
@pytest.mark.parametrize("login", ["acme_app", "reporter", "stranger"])
def test_no_login_becomes_another_role(house: House, login: str) -> None:
    attacker = house.connect(login)
    for role in (*ROLES, *(() if login == "reporter" else ("ai_storage_sql",))):
        for statement in (
            f"set role {role}",
            f"set local role {role}",
            f"set session authorization {role}",
            f"select set_config('role', '{role}', false)",
            f"select set_config('session_authorization', '{role}', true)",
        ):
            answer = tried(attacker, statement)
            assert isinstance(answer, psycopg.Error), statement
            assert answer.sqlstate == "42501", answer
    for statement in (
        "reset role",
        "reset session authorization",
        "set role none",
        "set session authorization default",
    ):
        assert last_row(attacker, statement, "select session_user, current_user") == (login, login)
    for role in ROLES:
        assert isinstance(tried(attacker, f"grant {role} to {login}"), psycopg.Error)
        assert isinstance(tried(attacker, f"create role wider in role {role}"), psycopg.Error)


@attack(6)
def test_the_groups_a_login_may_become_reach_no_other_tenant(house: House) -> None:
    attacker = house.connect()
    # session_user counts, so the group's name opens nothing that the login was not authorised for.
    for credential in (BETA, ACME):
        answer = tried(
            attacker,
            together(
                "set local role ai_storage_app",
                f"select model_name from ai_storage.load_progress(p_as => '{credential}')",
            ),
        )
        if credential == ACME:
            assert answer == [("own",), ("same name",)]
        else:
            assert isinstance(answer, psycopg.Error)
            assert answer.sqlstate == "TN003"
    reporter = house.connect("reporter")
    for role in ("ai_storage_sql", "ai_storage_app"):
        assert isinstance(tried(reporter, f"set local role {role}"), list)
        is_closed = tried(reporter, together(f"set local role {role}", f"select ai_storage.set_tenant('{BETA}')"))
        assert isinstance(is_closed, psycopg.Error)
        assert is_closed.sqlstate == "TN003"
    as_group = ("set local role ai_storage_sql", f"select ai_storage.set_tenant('{ACME}')")
    assert last_row(
        reporter, *as_group, "select string_agg(model_name, ',' order by model_name) from ai_storage.ai_progress_tenant"
    ) == ("own,same name",)
    is_closed = tried(reporter, together(*as_group, LOAD))
    assert isinstance(is_closed, psycopg.Error)
    assert is_closed.sqlstate == "42501"


@attack(6)
@only("direct")
def test_a_function_of_ones_own_or_another_language_widens_nothing(house: House) -> None:
    attacker = house.connect()
    for body in ("set role ai_storage_operator", "set session authorization postgres", "reset role"):
        attacker.execute(
            f"create or replace function pg_temp.widen() returns void language sql security definer as $$ {body} $$"
        )
        tried(attacker, "select pg_temp.widen()")
        assert attacker.execute("select session_user, current_user").fetchone() == ("acme_app", "acme_app")
    attacker.execute(
        "create function pg_temp.peek() returns setof text language plpgsql security definer as "
        "$$ begin return query select t::text from ai_storage_private.ai_progress_tenant as t; end $$"
    )
    answer = tried(attacker, "select * from pg_temp.peek()")
    assert isinstance(answer, psycopg.errors.InsufficientPrivilege)
    # Whom the functions ask for is session_user, which no function changes.
    attacker.execute(
        "create function pg_temp.other() returns setof text language sql set role to 'acme_app' as "
        f"$$ select model_name from ai_storage.load_progress(p_as => '{BETA}') $$"
    )
    answer = tried(attacker, "select * from pg_temp.other()")
    assert isinstance(answer, psycopg.Error)
    assert answer.sqlstate in ("TN003", "42501")
