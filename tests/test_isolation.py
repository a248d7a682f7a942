"""Nothing of one tenant ever reaches another: every pair of tenants, every function, and the wall behind the functions.

Each tenant keeps secrets in every field that can hold text or numbers; a secret in anybody else's answer is a leak.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.conftest import Database
from tests.helpers import (
    ACME,
    ACME_2,
    BETA,
    Connection,
    call,
    dump,
    everything_said,
    key,
    names,
    refused,
    save,
    unchanged,
    value,
    versions,
)

pytestmark = pytest.mark.sql

# Two values per level: any two tenants differ in some of the five levels and agree in the others.
TENANTS = [
    ":".join(levels)
    for levels in product(
        ("acme", "beta"), ("mcp-1", "mcp-2"), ("shop", "desk"), ("production", "staging"), ("abc", "def")
    )
]


def secret(tenant: str) -> str:
    """Text that occurs in this tenant's rows and nowhere else."""
    return f"canary{TENANTS.index(tenant):02}x"


def secret_number(tenant: str) -> float:
    return 0.700001 + TENANTS.index(tenant) / 1000


def leaks(answer: object, reader: str, also: tuple[str, ...] = ()) -> list[str]:
    """The tenants, other than the reader, whose secrets an answer holds."""
    text = str(answer)
    return [
        tenant
        for tenant in TENANTS
        if tenant not in (reader, *also) and (secret(tenant) in text or str(secret_number(tenant)) in text)
    ]


def fill(app: Connection, tenant: str) -> None:
    """Give a tenant a model that everybody has, and one whose very name is secret."""
    for name in ("common", f"model of {secret(tenant)}"):
        for _ in range(2):
            save(
                app,
                name,
                secret_number(tenant),
                metrics={secret(tenant): secret_number(tenant)},
                metadata={"secret": secret(tenant)},
                as_=tenant,
            )
    save(app, "gone", metadata={"secret": secret(tenant)}, idempotency_key="same everywhere", as_=tenant)
    value(app, "delete_progress", model_name="gone", as_=tenant)


@pytest.fixture
def app(database: Database) -> Connection:
    """The most powerful application login, in a database of 32 tenants."""
    connection = database.connect("app")
    for tenant in TENANTS:
        fill(connection, tenant)
    return connection


def rows_of(database: Database, tenant: str) -> dict[str, list[str]]:
    """All private rows of one tenant, read as superuser."""
    admin = database.connect()
    tenant_id = admin.execute(
        "select tenant_id from ai_storage_private.tenant where isolation_key = %s", (tenant,)
    ).fetchone()[0]
    tables = admin.execute(
        "select a.attrelid::regclass::text from pg_attribute as a join pg_class as c on c.oid = a.attrelid "
        "where c.relnamespace = 'ai_storage_private'::regnamespace and c.relkind in ('r', 'p') "
        "and a.attname = 'tenant_id' order by 1"
    ).fetchall()
    found = {
        table: [
            text
            for (text,) in admin.execute(
                sql.SQL("select t::text from {} as t where tenant_id = %s order by 1").format(
                    sql.SQL(table)  # as regclass printed it
                ),
                (tenant_id,),
            )
        ]
        for (table,) in tables
    }
    admin.close()
    return found


# Every pair -----------------------------------------------------------------------------------------------------------


def test_the_32_tenants_are_all_there_and_their_secrets_are_told_apart(database: Database, app: Connection) -> None:
    assert len(set(TENANTS)) == 32
    for tenant in TENANTS:
        rows = rows_of(database, tenant)
        assert len(rows["ai_storage_private.progress_version"]) == 4
        assert secret(tenant) in str(rows)
        assert leaks(rows, tenant) == []
    assert leaks(dump(database), TENANTS[0]) == TENANTS[1:]


def test_no_tenant_loads_or_looks_back_at_anything_of_another(database: Database, app: Connection) -> None:
    with unchanged(database):
        for reader in TENANTS:
            for scope in ("all", "own", "shared"):
                rows = call(app, "load_progress", scope=scope, limit=None, as_=reader)
                assert len(rows) == (0 if scope == "shared" else 2)
                assert {row.owner_key for row in rows} <= {reader}
                assert leaks(rows, reader) == []
            history = call(app, "load_history", model_name="common", as_=reader)
            assert len(history) == 2
            assert leaks(history, reader) == []
            for owner in TENANTS:
                if owner == reader:
                    continue
                theirs = f"model of {secret(owner)}"
                assert call(app, "load_progress", model_name=theirs, as_=reader) == []
                for cursor in (f"{owner} ", f"{owner} common", f"{owner} {theirs}"):
                    rows = call(app, "load_progress", after=cursor, limit=None, as_=reader)
                    assert {row.owner_key for row in rows} <= {reader}
                for name in ("common", theirs):
                    with refused("TN101") as caught:
                        call(app, "load_history", model_name=name, owner=owner, as_=reader)
                    assert leaks(everything_said(caught.value), reader) == []
                with refused("TN101"):
                    call(app, "load_history", model_name=theirs, as_=reader)


def test_no_tenant_saves_into_or_deletes_anything_of_another(database: Database, app: Connection) -> None:
    with unchanged(database):
        for writer, owner in product(TENANTS, TENANTS):
            if writer == owner:
                continue
            theirs = f"model of {secret(owner)}"
            for name in ("common", theirs, "new"):
                with refused("TN101") as caught:
                    save(app, name, owner=owner, as_=writer)
                assert leaks(everything_said(caught.value), writer) == []
            for expected in (None, 2):
                assert value(app, "delete_progress", model_name=theirs, expected_version=expected, as_=writer) is False


@pytest.mark.parametrize("writer", [TENANTS[0], TENANTS[13], TENANTS[31]])
def test_what_a_tenant_does_to_its_own_models_touches_no_other_tenant(
    database: Database, app: Connection, writer: str
) -> None:
    others = {tenant: rows_of(database, tenant) for tenant in TENANTS if tenant != writer}
    for other in others:
        # names, keys and versions that others have too
        save(app, f"model of {secret(other)}", as_=writer)
    save(app, "common", 9.0, expected_version=2, as_=writer)
    save(app, "gone", 9.0, metadata={"new": "content"}, idempotency_key="another key", as_=writer)
    call(app, "save_progress_batch", items=[{"model_name": "common", "mse": 8}], as_=writer)
    with refused("TN101"):
        call(app, "promote_progress", from_code_hash="nothing", as_=writer)
    for name in [*names(app, limit=None, as_=writer)]:
        assert value(app, "delete_progress", model_name=name, as_=writer) is True
    assert {tenant: rows_of(database, tenant) for tenant in others} == others


def test_a_promotion_reaches_the_other_code_version_of_the_same_four_levels_and_no_other(
    database: Database, app: Connection
) -> None:
    for target in TENANTS:
        *levels, code = target.split(":")
        sibling = ":".join([*levels, "def" if code == "abc" else "abc"])
        with app.transaction(force_rollback=True):
            rows = call(app, "promote_progress", from_code_hash=sibling.split(":")[4], as_=target)
            assert [row.model_name for row in rows] == [f"model of {secret(sibling)}"]
            loaded = call(app, "load_progress", limit=None, as_=target)
            assert len(loaded) == 3
            assert leaks(loaded, target, also=(sibling,)) == []
            history = call(app, "load_history", model_name=f"model of {secret(sibling)}", as_=target)
            assert leaks(history, target, also=(sibling,)) == []
        if target in (TENANTS[0], TENANTS[13]):
            others = {tenant: rows_of(database, tenant) for tenant in TENANTS if tenant != target}
            call(app, "promote_progress", from_code_hash=sibling.split(":")[4], as_=target)
            assert {tenant: rows_of(database, tenant) for tenant in others} == others


def test_a_login_of_one_organisation_reaches_none_of_the_other(database: Database, app: Connection) -> None:
    acme = database.connect("acme_app")
    with unchanged(database):
        for tenant in TENANTS:
            if tenant.startswith("acme:"):
                assert len(call(acme, "load_progress", as_=tenant)) == 2
                continue
            for function, arguments in (
                ("load_progress", {}),
                ("load_history", {"model_name": "common"}),
                ("save_progress", {"model_name": "common", "mse": 1}),
                ("save_progress_batch", {"items": [{"model_name": "common", "mse": 1}]}),
                ("delete_progress", {"model_name": "common"}),
                ("promote_progress", {"from_code_hash": "abc"}),
            ):
                with refused("TN003") as caught:
                    call(acme, function, **arguments, as_=tenant)
                assert leaks(everything_said(caught.value), "") == []


def test_no_error_ever_quotes_another_tenant(database: Database) -> None:
    app, reader, other = database.connect("app"), TENANTS[0], TENANTS[1]
    for tenant in (reader, other):
        fill(app, tenant)
    item = {"model_name": "common", "mse": 1}
    attempts: list[tuple[str, dict[str, Any]]] = [
        ("save_progress", {"model_name": "common", "mse": 1, "expected_version": 0}),
        ("save_progress", {"model_name": "common", "mse": 1, "expected_version": 77}),
        ("save_progress", {"model_name": "common", "mse": float("nan")}),
        ("save_progress", {"model_name": "common", "mse": 1, "metrics": {"a": "b"}}),
        ("save_progress", {"model_name": "common", "mse": 1, "metadata": []}),
        ("save_progress", {"model_name": "common", "mse": 1, "metadata": "{"}),
        ("save_progress", {"model_name": "common", "mse": 1, "owner": other}),
        ("save_progress", {"model_name": "common", "mse": "x"}),
        ("save_progress", {"model_name": "c", "mse": 1, "idempotency_key": "same everywhere"}),
        ("save_progress_batch", {"items": [item, {**item, "expected_version": 0}]}),
        ("save_progress_batch", {"items": [item, {"x": 1}]}),
        ("save_progress_batch", {"items": "["}),
        ("load_progress", {"scope": "x"}),
        ("load_progress", {"after": "x"}),
        ("load_progress", {"limit": -1}),
        ("load_progress", {"limit": "x"}),
        ("load_history", {"model_name": "x"}),
        ("load_history", {"model_name": "common", "owner": other}),
        ("delete_progress", {"model_name": "common", "expected_version": 77}),
        ("promote_progress", {"from_code_hash": "a:b"}),
    ]
    settings = ["reset all", "set row_security = off", "set statement_timeout = 1", "set client_min_messages = debug5"]
    said: list[str] = []
    app.add_notice_handler(lambda notice: said.extend(str(getattr(notice, name, "")) for name in dir(notice)))
    failures = 0
    for setting in settings:
        app.execute(setting)
        for function, arguments in attempts:
            try:
                call(app, function, **arguments, as_=reader)
            except psycopg.Error as error:
                failures += 1
                said.append(everything_said(error))
    assert failures > len(attempts)
    assert leaks(said, reader) == []


# Behind the functions: row level security, forced on their owner ------------------------------------------------------

CARELESS_LOAD = """
create or replace function ai_storage.load_progress(
    p_model_name text default null, p_scope text default null, p_after text default null,
    p_limit integer default 1000, p_owner text default null, p_as text default null
)
returns table (
    model_name text, owner_key text, is_shared boolean, permissions text[], mse double precision,
    training_samples bigint, metrics jsonb, metadata jsonb, version bigint, created_at timestamptz,
    updated_at timestamptz, cursor text
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $fn$
begin
    perform ai_storage_private.enter(p_as);
    return query
    select p.model_name, p.tenant_id::text, false, null::text[], p.mse, p.training_samples, p.metrics, p.metadata,
        p.version, p.created_at, p.updated_at, ''
    from ai_storage_private.ai_progress_tenant as p;
end;
$fn$
"""


def test_a_function_that_forgets_its_where_still_shows_the_callers_rows_alone(
    database: Database, app: Connection
) -> None:
    admin = database.connect()
    admin.execute(CARELESS_LOAD)
    owner = admin.execute(
        "select proowner::regrole::text, prosecdef from pg_proc where oid = 'ai_storage.load_progress'::regproc"
    ).fetchone()
    assert owner == ("ai_storage_owner", True)
    for reader in TENANTS:
        rows = call(app, "load_progress", as_=reader)
        assert sorted(row.model_name for row in rows) == ["common", f"model of {secret(reader)}"]
        assert leaks(rows, reader) == []
    # The test can fail: it is FORCE that holds this wall.
    admin.execute("alter table ai_storage_private.ai_progress_tenant no force row level security")
    assert len(call(app, "load_progress", as_=TENANTS[0])) == 64


def test_a_function_that_forgets_its_where_still_changes_the_callers_rows_alone(
    database: Database, app: Connection
) -> None:
    admin = database.connect()
    admin.execute(
        "create or replace function ai_storage.delete_progress(p_model_name text, p_expected_version bigint "
        "default null, p_as text default null) returns boolean language plpgsql volatile security definer "
        "set search_path = pg_catalog, pg_temp as $f$ begin perform ai_storage_private.enter(p_as); "
        "update ai_storage_private.ai_progress_tenant set mse = 0; "
        "delete from ai_storage_private.progress_version; delete from ai_storage_private.idempotency_key; "
        "delete from ai_storage_private.deleted_model; delete from ai_storage_private.ai_progress_tenant; "
        "return true; end $f$"
    )
    writer = TENANTS[5]
    others = {tenant: rows_of(database, tenant) for tenant in TENANTS if tenant != writer}
    assert value(app, "delete_progress", model_name="x", as_=writer) is True
    assert names(app, as_=writer) == []
    assert {tenant: rows_of(database, tenant) for tenant in others} == others


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    """A superuser's session that became the tables' owner, with two tenants in the database."""
    app = database.connect("app")
    for tenant in (ACME, BETA):
        save(app, "m", idempotency_key="k", as_=tenant)
        save(app, "gone", as_=tenant)
        value(app, "delete_progress", model_name="gone", as_=tenant)
    connection = database.connect()
    # so that the owner may name the tenant it acts for
    connection.execute("grant execute on function ai_storage.set_tenant(text) to ai_storage_owner")
    connection.execute("create role owners_login login in role ai_storage_owner, ai_storage_app")
    connection.execute(
        "insert into ai_storage_private.login_authorization "
        "(login_name, org_id, server_id, project_id, environment, code_hash, token_only) "
        "values ('owners_login', '*', '*', '*', '*', '*', false)"
    )
    try:
        with psycopg.connect(database.dsn("owners_login"), autocommit=True) as session:
            session.execute("set role ai_storage_owner")
            yield session
    finally:
        connection.execute("drop role owners_login")


TENANT_TABLES = ("tenant", "ai_progress_tenant", "progress_version", "deleted_model", "idempotency_key")


def test_the_tables_owner_sees_no_row_without_a_tenant(database: Database, owner: Connection) -> None:
    tables = [*dump(database)]
    assert {*TENANT_TABLES} <= {*tables}
    for user in ("postgres", "owners_login"):
        session = database.connect(user)
        session.execute("set role ai_storage_owner")
        for table in tables:
            query = sql.SQL("select * from ai_storage_private.{}").format(sql.Identifier(table))
            assert session.execute(query).fetchall() == [], table
        session.close()


def test_the_tables_owner_sees_and_changes_the_rows_of_its_tenant_alone(database: Database, owner: Connection) -> None:
    admin = database.connect()
    ids = dict(admin.execute("select isolation_key, tenant_id from ai_storage_private.tenant").fetchall())
    before = {tenant: rows_of(database, tenant) for tenant in ids}
    for mine, theirs in ((ACME, BETA), (BETA, ACME)):
        with owner.transaction(force_rollback=True):
            value(owner, "set_tenant", credential=mine)
            for table in TENANT_TABLES:
                seen = owner.execute(
                    sql.SQL("select tenant_id from ai_storage_private.{}").format(sql.Identifier(table))
                ).fetchall()
                assert seen == [(ids[mine],)], table
            for table in TENANT_TABLES[1:]:
                # a row that moves to another tenant
                with refused("42501", hint=False), owner.transaction():
                    owner.execute(
                        sql.SQL("update ai_storage_private.{} set tenant_id = %s").format(sql.Identifier(table)),
                        (ids[theirs],),
                    )
                # a row that is born in another tenant
                with refused("42501", hint=False), owner.transaction():
                    owner.execute(
                        sql.SQL(
                            "insert into ai_storage_private.{0} select (jsonb_populate_record(t, "
                            "jsonb_build_object('tenant_id', %s::bigint))).* from ai_storage_private.{0} as t"
                        ).format(sql.Identifier(table)),
                        (ids[theirs],),
                    )
                # rows of another tenant, named
                for statement in ("delete from", "update"):
                    change = " set tenant_id = tenant_id" if statement == "update" else ""
                    cursor = owner.execute(
                        sql.SQL(statement + " ai_storage_private.{}" + change + " where tenant_id = %s").format(
                            sql.Identifier(table)
                        ),
                        (ids[theirs],),
                    )
                    assert cursor.rowcount == 0
    assert {tenant: rows_of(database, tenant) for tenant in ids} == before


def test_the_tables_owner_adds_no_tenant_and_no_authorisation(database: Database, owner: Connection) -> None:
    levels = "org_id, server_id, project_id, environment, code_hash"
    with unchanged(database):
        for statement in (
            f"insert into ai_storage_private.tenant ({levels}) values ('x', 'x', 'x', 'x', 'x')",
            f"insert into ai_storage_private.login_authorization (login_name, {levels}, token_only) "
            "values ('acme_app', '*', '*', '*', '*', '*', false)",
        ):
            with refused("42501", hint=False):
                owner.execute(statement)
        cursor = owner.execute("update ai_storage_private.login_authorization set org_id = '*'")
        assert cursor.rowcount == 0
        assert owner.execute("delete from ai_storage_private.context_secret").rowcount == 0


def test_every_private_table_enables_and_forces_row_level_security(database: Database) -> None:
    open_tables = (
        database.connect()
        .execute(
            "select relname from pg_class where relnamespace = 'ai_storage_private'::regnamespace "
            "and relkind in ('r', 'p') and not (relrowsecurity and relforcerowsecurity)"
        )
        .fetchall()
    )
    assert open_tables == []


def test_the_owning_roles_are_bound_by_row_level_security_and_cannot_log_in(database: Database) -> None:
    roles = (
        database.connect()
        .execute(
            "select rolname, rolsuper or rolbypassrls or rolcanlogin or rolcreaterole from pg_roles "
            "where rolname in ('ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator') order by 1"
        )
        .fetchall()
    )
    assert roles == [("ai_storage_operator", False), ("ai_storage_owner", False), ("ai_storage_sharing", False)]


def test_a_tenant_never_learns_from_its_own_answers_what_others_did(database: Database) -> None:
    # Versions, answers and histories are the same whether or not others use the same names and keys.
    app = database.connect("app")
    answers = []
    for reader in (key("quiet"), key("loud")):
        if reader == key("loud"):
            for other in (ACME, ACME_2, BETA):
                for _ in range(3):
                    save(app, "m", as_=other)
                save(app, "n", idempotency_key="k", as_=other)
                value(app, "delete_progress", model_name="n", as_=other)
        answers.append(
            [
                save(app, "m", expected_version=0, as_=reader)[:3],
                save(app, "n", 2.0, idempotency_key="k", as_=reader)[:3],
                versions(app, "m", as_=reader),
                value(app, "delete_progress", model_name="m", as_=reader),
                names(app, as_=reader),
            ]
        )
    assert answers[0] == answers[1]


# What is not a row ----------------------------------------------------------------------------------------------------


def test_no_caller_is_shown_the_plans_of_our_queries(database: Database) -> None:
    other = database.connect("beta_app")
    for number in range(60):
        save(other, f"zz-{number}", as_=BETA)
    database.connect().execute("analyze")
    curious = database.connect("acme_app")
    save(curious, "m", as_=ACME)
    curious.execute("set client_min_messages = log; set debug_print_plan = on; set plan_cache_mode = force_custom_plan")
    shown: list[str] = []
    curious.add_notice_handler(lambda diag: shown.append(diag.message_detail or ""))
    curious.execute("select 1")
    assert len(shown) == 1, "the caller's own plan shows that the switch works"
    for arguments in ({"model_name": "zz-1"}, {"after": " zz-1"}, {}):
        shown.clear()
        call(curious, "load_progress", **arguments, as_=ACME)
        assert len(shown) == 1, "the plan of the call, and none of the queries inside"
    shown.clear()
    save(curious, "m", as_=ACME)
    call(curious, "load_history", model_name="m", as_=ACME)
    assert len(shown) == 2


def test_a_refusal_looks_at_nothing_of_the_tenant(database: Database) -> None:
    save(database.connect("beta_app"), "m", as_=BETA)
    curious = database.connect("acme_app")
    curious.execute(
        """
        create function pg_temp.looks(p_key text) returns bigint language plpgsql as $$
        declare
            v_before bigint;
        begin
            select coalesce(sum(seq_scan + seq_tup_read + coalesce(idx_scan + idx_tup_fetch, 0)), 0) into v_before
            from pg_stat_xact_all_tables where relname = 'tenant';
            begin
                perform ai_storage.load_progress(p_as => p_key);
            exception when sqlstate 'TN003' then
                null;
            end;
            return (
                select coalesce(sum(seq_scan + seq_tup_read + coalesce(idx_scan + idx_tup_fetch, 0)), 0) - v_before
                from pg_stat_xact_all_tables where relname = 'tenant'
            );
        end $$
        """
    )
    looks = {
        tenant: [curious.execute("select pg_temp.looks(%s)", (tenant,)).fetchone()[0] for _ in range(3)]
        for tenant in (BETA, BETA.replace("beta", "nobody"))
    }
    assert set(map(tuple, looks.values())) == {(0, 0, 0)}, looks
