"""Where secrets could be read: tables, catalogues, statistics, logs, statement texts, errors, dumps."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from tests.attacks import attack, only
from tests.attacks.conftest import House, Mint, call, together, tried
from tests.conftest import Database
from tests.helpers import ACME, BETA, Connection, everything_said, names, until

TABLES = ("context_secret", "signing_key")
LOGINS = ("acme_app", "beta_app", "app", "reporter", "stranger")
GROUPS = ("ai_storage_app", "ai_storage_sql", "ai_storage_auditor", "ai_storage_admin")
OWNERS = ("ai_storage_owner", "ai_storage_sharing")

# Where PostgreSQL shows text that somebody wrote. Each as anybody may select it.
CATALOGUES = {
    "functions": "select pg_get_functiondef(p.oid) from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace "
    "where n.nspname like 'ai_storage%%'",
    "sources": "select concat(p.prosrc, p.proargnames, p.proconfig, p.proargdefaults) from pg_proc as p",
    "policies": "select p::text from pg_policies as p union all select p::text from pg_policy as p",
    "views": "select pg_get_viewdef(c.oid) from pg_class as c where c.relkind in ('v', 'm')",
    "defaults": "select pg_get_expr(adbin, adrelid) from pg_attrdef",
    "constraints": "select pg_get_constraintdef(oid) from pg_constraint",
    "indexes": "select pg_get_indexdef(indexrelid) from pg_index",
    "triggers": "select pg_get_triggerdef(oid) from pg_trigger",
    "comments": "select description from pg_description union all select description from pg_shdescription",
    "settings": "select concat(name, setting, boot_val, reset_val) from pg_settings",
    "kept settings": "select setconfig::text from pg_db_role_setting",
    "statistics": "select s::text from pg_stats as s",
    "extended statistics": "select s::text from pg_stats_ext as s",
    "activity": "select a::text from pg_stat_activity as a",
    "statements": "select s::text from pg_stat_statements as s",
    "prepared statements": "select p::text from pg_prepared_statements as p",
    "cursors": "select c::text from pg_cursors as c",
    "prepared transactions": "select p::text from pg_prepared_xacts as p",
    "locks": "select l::text from pg_locks as l",
    "large objects": "select lo_get(oid)::text from pg_largeobject_metadata",
}


def spellings(database: Database, *secrets: str) -> set[str]:
    """All secrets of a database in the forms in which they could turn up, in pieces long enough to be no chance."""
    with psycopg.connect(database.dsn()) as admin:
        pads = admin.execute(
            "select unnest(array[inner_key, outer_key]) from ai_storage_private.context_secret "
            "union all select unnest(array[inner_pad, outer_pad]) from ai_storage_private.signing_key"
        ).fetchall()
    assert len(pads) >= 4
    pieces = [pad[:32] for (pad,) in pads]
    texts = {piece.hex() for piece in pieces} | {base64.b64encode(piece).decode()[:40] for piece in pieces}
    return texts | {repr(piece)[2:-1] for piece in pieces} | set(secrets)


def holds_none(text: str, secrets: set[str]) -> None:
    found = [secret for secret in secrets if secret in text]
    assert found == [], f"{len(found)} secrets in {len(text)} characters"


@contextmanager
def role(admin: Connection, name: str) -> Iterator[Connection]:
    """The superuser as a role that nobody logs in as."""
    admin.execute(sql.SQL("set role {}").format(sql.Identifier(name)))
    try:
        yield admin
    finally:
        admin.execute("reset role")


def secrets_read(connection: Connection) -> list[object]:
    """What a role reads of the tables of secrets, by every kind of statement."""
    read: list[object] = []
    for table in TABLES:
        name = f"ai_storage_private.{table}"
        for statement in (
            f"select * from {name}",
            f"select t::text from {name} as t",
            f"select to_jsonb(t) from {name} as t",
            f"select query_to_xml('select * from {name}', true, false, '') is document",
            f"with changed as (update {name} set created_at = now() returning *) select * from changed",
            f"with gone as (delete from {name} returning *) select * from gone",
            f"select ctid, xmin from {name} for update",
            f"table {name}",
        ):
            answer = tried(connection, statement)
            read += [row for row in answer if "query_to_xml" not in statement] if isinstance(answer, list) else []
        try:
            with connection.cursor() as cursor, cursor.copy(f"copy {name} to stdout") as copy:
                read += list(copy.rows())
        except psycopg.Error:
            pass
    return read


@attack(7, 54)
@only("direct")
def test_no_role_reads_a_secret_but_the_operators_functions(house: House, mint: Mint) -> None:
    secrets = spellings(house.database, mint.secret)
    admin = house.admin()
    admin.execute("analyze")
    for login in LOGINS:
        assert secrets_read(house.connect(login)) == [], login
    for group in (*OWNERS, *GROUPS):
        with role(admin, group):
            assert secrets_read(admin) == [], group
            for statement in (
                "select ai_storage_private.context_mac('', '', 'x')",
                f"select ai_storage_private.verify_token('{mint(BETA)}')",
                "select ai_storage_private.set_context('transaction', null)",
            ):
                assert isinstance(tried(admin, statement), psycopg.errors.InsufficientPrivilege), (group, statement)
    # The operator is who reads them, in its functions; no login is a member of it, except the one that migrates.
    with role(admin, "ai_storage_operator"):
        holds = repr(secrets_read(admin))
    with pytest.raises(AssertionError):
        holds_none(holds, secrets)
    members = admin.execute(
        "select r.rolname from pg_roles as r where pg_has_role(r.oid, 'ai_storage_operator', 'MEMBER') "
        "and not r.rolsuper and r.rolname <> 'ai_storage_operator'"
    ).fetchall()
    assert members == []


@attack(7, 54)
@only("direct")
def test_no_secret_stands_in_a_catalogue(house: House, mint: Mint) -> None:
    secrets = spellings(house.database, mint.secret)
    admin = house.admin()
    admin.execute("create extension pg_stat_statements")
    names(house.connect(), as_=mint())
    admin.execute("analyze")
    for login in (*LOGINS, "postgres"):
        connection = house.connect(login)
        for what, statement in CATALOGUES.items():
            if (login, what) == ("postgres", "statistics"):
                statement += " where tablename <> all (array['context_secret', 'signing_key'])"
            answer = tried_anything(connection, statement)
            holds_none(answer, secrets)
            assert login != "postgres" or answer, what
    with role(admin, "ai_storage_admin"):
        holds_none(repr(call(admin, "list_signing_keys")), secrets)


def tried_anything(connection: Connection, statement: str) -> str:
    """The rows or the error of a statement, as text. The victim's own rows may be in it: who looks is the superuser."""
    try:
        return repr(connection.execute(statement).fetchall())
    except psycopg.Error as error:
        return everything_said(error)


# What is written down ------------------------------------------------------------------------------------------------


def written(house: House, settings: dict[str, str], work: str, token: str, *, parameter: bool) -> str:
    """What the server's log gets while a login of a database with these settings runs a statement."""
    admin = house.admin()
    for name, text in settings.items():
        admin.execute(
            sql.SQL("alter database {} set {} = {}").format(
                sql.Identifier(house.database.name), sql.Identifier(*name.split(".")), text
            )
            if "." not in name
            else f"alter database \"{house.database.name}\" set {name} = '{text}'"
        )
    log = house.database.server.cluster.data_dir / "server.log"
    begin = log.stat().st_size
    told = ""
    with psycopg.connect(house.database.dsn("acme_app"), autocommit=True) as connection:
        try:
            if parameter:
                connection.execute(work.format("%s"), (token,))
            else:
                connection.execute(work.format(f"'{token}'"))
        except psycopg.Error as error:
            told = everything_said(error)
        connection.execute("select 'the end of it'")
    end = "the end of it" if settings.get("log_statement") == "all" else ""
    seen = ""

    def arrived() -> bool:
        nonlocal seen
        with log.open("rb") as file:
            file.seek(begin)
            seen = file.read().decode("utf-8", "replace")
        return end in seen

    until(arrived, "the log")
    # With that setting the server adds the parameters of a failing statement to what the client is told, too.
    assert (token in told) is (settings.get("log_parameter_max_length_on_error") == "-1")
    return seen


EVERYTHING = {
    "log_statement": "all",
    "log_min_duration_statement": "0",
    "log_min_error_statement": "debug5",
    "log_min_messages": "debug5",
    "log_error_verbosity": "verbose",
    "log_duration": "on",
}
WORK = {
    "good": "select * from ai_storage.save_progress('m', 1, p_as => {})",
    "bad": "select * from ai_storage.load_progress(p_as => {})",
}


@attack(7, 53)
@only("direct")
@pytest.mark.parametrize("work", WORK)
def test_a_token_sent_as_a_parameter_is_in_no_log_that_keeps_no_parameters(house: House, mint: Mint, work: str) -> None:
    token = mint() if work == "good" else mint(secret="x" * 43)
    quiet = {**EVERYTHING, "log_parameter_max_length": "0", "log_parameter_max_length_on_error": "0"}
    kept = written(house, quiet, WORK[work], token, parameter=True)
    assert "the end of it" in kept
    assert ("42501" in kept or "TN003" in kept) is (work == "bad")
    pieces = {token, *(part for part in token.split("."))}
    holds_none(kept, pieces | spellings(house.database, mint.secret))


@attack(7, 53)
@only("direct")
def test_what_a_server_logs_of_a_token_otherwise(house: House, mint: Mint) -> None:
    # No function can help it: these are the server's own lines about the client's message. docs/security.md says so.
    good, bad = mint(), mint(secret="x" * 43)
    logged = {"log_statement": "all", "log_min_error_statement": "error"}
    assert good in written(house, {**logged, "log_parameter_max_length": "-1"}, WORK["good"], good, parameter=True)
    assert good not in written(house, {**logged, "log_parameter_max_length": "0"}, WORK["good"], good, parameter=True)
    kept = written(
        house, {**logged, "log_parameter_max_length_on_error": "-1"}, "select {}::text::int", bad, parameter=True
    )
    assert bad in kept
    for work, token in (("good", good), ("bad", bad)):
        assert token in written(house, logged, WORK[work], token, parameter=False)
    # Without log_statement a failing literal is logged all the same, unless log_min_error_statement is turned down.
    less = {"log_statement": "none", "log_parameter_max_length_on_error": "0"}
    assert bad in written(house, {**less, "log_min_error_statement": "error"}, WORK["bad"], bad, parameter=False)
    kept = written(house, {**less, "log_min_error_statement": "panic"}, WORK["bad"], bad, parameter=False)
    assert bad not in kept


def explaining(house: House, **more: str) -> dict[str, str]:
    """Settings under which auto_explain logs every plan, without parameters where it can leave them out."""
    settings = {
        "log_statement": "all",
        "log_parameter_max_length": "0",
        "session_preload_libraries": "auto_explain",
        "auto_explain.log_min_duration": "0",
        "auto_explain.log_analyze": "on",
    }
    if house.database.server.major >= 16:
        settings["auto_explain.log_parameter_max_length"] = "0"
    return settings | {f"auto_explain.{name}": setting for name, setting in more.items()}


@attack(7)
@only("direct")
def test_auto_explain_shows_no_token_but_as_a_parameter_or_in_a_verbose_plan(house: House, mint: Mint) -> None:
    token = mint()
    kept = written(house, explaining(house), WORK["good"], token, parameter=True)
    assert "Query Text" in kept
    holds_none(kept, {token, *token.split("."), *spellings(house.database)})
    # A plan is made for the parameters' values. What prints it whole prints them: auto_explain here, debug_print_plan
    # below, as bytes in figures.
    assert token in written(house, explaining(house, log_verbose="on"), WORK["good"], token, parameter=True)
    figures = "".join(str(byte) for byte in token.encode())
    assert figures in "".join(written(house, {"debug_print_plan": "on"}, WORK["good"], token, parameter=True).split())
    if house.database.server.major >= 16:
        # It has a length of its own, and by default keeps all.
        loud = explaining(house, log_parameter_max_length="-1")
        assert token in written(house, loud, WORK["good"], token, parameter=True)


@attack(7)
@only("direct")
def test_auto_explain_shows_no_token_in_the_plans_of_our_own_statements(house: House, mint: Mint) -> None:
    token = mint()
    kept = written(house, explaining(house, log_nested_statements="on"), WORK["good"], token, parameter=True)
    assert "ai_progress_tenant" in kept  # the statements within are explained
    holds_none(kept, {token, *token.split("."), *spellings(house.database)})


@attack(7, 53)
@pytest.mark.parametrize("parameter", [True, False])
def test_a_statement_shows_its_token_to_its_own_login_and_as_a_literal_alone(
    house: House, mint: Mint, parameter: bool
) -> None:
    token = mint()
    victim = house.connect("app")
    if parameter:
        names(victim, as_=token)
    else:
        victim.execute(f"select * from ai_storage.load_progress(p_as => '{token}')")
    shown = {}
    for login in ("app", "acme_app", "reporter", "stranger"):
        shown[login] = repr(
            house.database.connect(login)
            .execute("select query from pg_stat_activity where pid <> pg_backend_pid()")
            .fetchall()
        )
    assert "insufficient privilege" in shown["stranger"]
    assert (token in shown.pop("app")) is not parameter
    holds_none(repr(shown), {token, *token.split(".")})


@attack(7, 53)
@only("direct")
def test_pg_stat_statements_keeps_no_literal_of_a_plain_statement(house: House, mint: Mint) -> None:
    admin, attacker = house.admin(), house.connect()
    admin.execute("create extension pg_stat_statements")
    token, other = mint(), mint(jti="other")
    select = "select * from ai_storage.load_progress(p_as => '{}')"
    attacker.execute(select.format(token))
    attacker.execute("select * from ai_storage.load_progress(p_as => %s)", (token,))
    # Of this database alone: the view shows the whole server's.
    query = "select query from pg_stat_statements where dbid = (select oid from pg_database where datname = %s)"
    here = (house.database.name,)
    kept = repr(admin.execute(query, here).fetchall())
    assert "load_progress(p_as => $1)" in kept
    holds_none(kept, {token, *token.split(".")})
    # Of other commands it keeps the text as it came. Only its own login and the monitoring roles see that.
    attacker.execute(f"do $$ begin perform ai_storage.load_progress(p_as => '{other}'); end $$")
    assert other in repr(admin.execute(query, here).fetchall())
    for login in ("beta_app", "reporter", "stranger"):
        holds_none(repr(house.connect(login).execute(query, here).fetchall()), {other})


@attack(7)
def test_no_error_text_holds_a_token(house: House, mint: Mint) -> None:
    attacker = house.connect()
    tokens = [mint(secret="x" * 43), mint(exp=1), mint(org="*"), mint(BETA), mint()[:-1], mint() + "!", mint(aud="x")]
    for token in tokens:
        for statement in (
            "select * from ai_storage.load_progress(p_as => %s)",
            "select * from ai_storage.save_progress('m', 1, p_as => %s)",
            "select * from ai_storage.share_model('m', '[]', p_as => %s)",
            "select ai_storage.set_tenant(%s)",
        ):
            error = tried(attacker, statement, token)
            assert isinstance(error, psycopg.Error)
            holds_none(everything_said(error), {token, *(part for part in token.split(".") if len(part) > 12)})
    # Not even where another part of the call fails, the model's name or the JSON, with a token that is good.
    good = mint()
    for statement in (
        "select * from ai_storage.save_progress(repeat('x', 300), 1, p_as => %s)",
        "select * from ai_storage.save_progress('m', 1, p_metadata => '[]', p_as => %s)",
        "select * from ai_storage.share_model('nothing', '[{\"x\":1}]', p_as => %s)",
    ):
        error = tried(attacker, statement, good)
        assert isinstance(error, psycopg.Error)
        holds_none(everything_said(error), {good, *good.split(".")})


# What is taken along -------------------------------------------------------------------------------------------------


def dumped(database: Database, *options: str, user: str = "postgres") -> subprocess.CompletedProcess[str]:
    bin_dir = database.server.cluster.bin_dir
    libraries = bin_dir.parent / "lib"
    environment = {**os.environ, "LC_ALL": "C"}
    if (libraries / "libpq.so.5").exists():
        environment["LD_LIBRARY_PATH"] = str(libraries)
    command = [bin_dir / "pg_dump", "--dbname", database.dsn(user), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@attack(7)
@only("direct")
def test_a_full_dump_holds_the_secrets_and_one_without_their_rows_does_not(house: House, mint: Mint) -> None:
    # As COPY writes bytea. By length alone, another spelling is among them at times.
    secrets = {text for text in spellings(house.database) if re.fullmatch("[0-9a-f]{64}", text)}
    assert len(secrets) >= 4
    full = dumped(house.database)
    assert full.returncode == 0, full.stderr
    assert all(secret in full.stdout for secret in secrets)
    assert mint.secret not in full.stdout
    without = dumped(house.database, *(f"--exclude-table-data=ai_storage_private.{table}" for table in TABLES))
    assert without.returncode == 0, without.stderr
    assert "victim model" in without.stdout
    holds_none(without.stdout, secrets)


@attack(7)
def test_a_database_restored_without_its_secret_shows_nobody_anything(house: House, mint: Mint) -> None:
    token = mint()
    house.admin().execute("delete from ai_storage_private.context_secret; delete from ai_storage_private.signing_key")
    attacker = house.connect()
    for credential in (ACME, token):
        for statement in ("select * from ai_storage.load_progress(p_as => %s)",):
            answer = tried(attacker, statement, credential)
            assert isinstance(answer, psycopg.Error) or answer == [], answer
    answer = tried(
        attacker,
        together(f"select ai_storage.set_tenant('{ACME}') is null", "select * from ai_storage.load_progress()"),
    )
    assert isinstance(answer, psycopg.Error), answer
    for forged in ("", "|", f"|transaction|1|{BETA}||key|1|1"):
        answer = tried(
            attacker, together(f"set app.tenant_context = '{forged}'", "select * from ai_storage.load_progress()")
        )
        assert isinstance(answer, psycopg.Error), answer
