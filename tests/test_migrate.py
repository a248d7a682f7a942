"""Who may install, on what, and what they are told otherwise."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from pydb import LoginTooPowerful, NotAuthorized, TenantAwareStorage, doctor, migrate
from tests.conftest import Database, Server
from tests.helpers import until


@pytest.mark.sql
def test_a_createrole_login_that_owns_the_database_installs_everything(own_server: Server) -> None:
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("create role plain_admin login createrole")
        admin.execute("create database managed owner plain_admin")
    dsn = own_server.dsn("plain_admin", "managed")
    for _ in range(2):
        migrate.init(dsn, app_login="managed_app", pattern="acme:*:*:*:*")
    assert migrate.migrate(dsn) == []

    with TenantAwareStorage.from_dsn(own_server.dsn("managed_app", "managed"), "acme:s:p:e:c") as storage:
        assert storage.save_ai_progress("m", 0.5).version == 1
        assert [row.model_name for row in storage.load_ai_progress()] == ["m"]
    with (
        TenantAwareStorage.from_dsn(own_server.dsn("managed_app", "managed"), "beta:s:p:e:c") as storage,
        pytest.raises(NotAuthorized),
    ):
        storage.load_ai_progress()


@pytest.mark.sql
def test_two_databases_of_one_server_do_not_share_authorisations(database: Database, empty_database: Database) -> None:
    migrate.init(empty_database.dsn())
    with pytest.raises(NotAuthorized):
        empty_database.storage("acme:s:p:e:c").load_ai_progress()
    assert database.storage("acme:s:p:e:c").load_ai_progress() == []


@pytest.mark.sql
def test_what_others_put_on_an_administrators_path_is_not_run(own_server: Server) -> None:
    """Operators in public that fit better than PostgreSQL's own, as anybody could create up to release 14."""
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("create role mallory login")
        admin.execute("grant create on schema public to mallory")
        with psycopg.connect(own_server.dsn("mallory"), autocommit=True) as mallory:
            for left, right in (
                ("oid", "regrole"), ("regrole", "oid"), ("oid", "regclass"), ("oid", "regnamespace"),
                ("uuid[]", "uuid[]"), ("text[]", "text[]"), ("bigint[]", "bigint[]"), ("name", "varchar"),
            ):  # fmt: skip
                for name in ("=", "<>"):
                    mallory.execute(
                        f"create or replace function public.trap(a {left}, b {right}) returns boolean language plpgsql "
                        "as $$ begin alter role mallory superuser; return a::text = b::text; end $$; "
                        f"create operator public.{name} (leftarg = {left}, rightarg = {right}, function = public.trap)"
                    )
        dsn = own_server.dsn()
        for _ in range(2):
            migrate.init(dsn, app_login="app", pattern="*:*:*:*:*")
        with TenantAwareStorage.from_dsn(own_server.dsn("app"), "acme:s:p:e:c") as storage:
            storage.save_ai_progress("m", 0.5)
            storage.share_model("m", [{"server_id": "x"}], ["read"])
        admin.execute("delete from ai_storage_private.ai_progress_tenant")
        assert admin.execute("select rolsuper from pg_roles where rolname = 'mallory'").fetchone() == (False,)
        assert admin.execute("select count(*) from ai_storage_private.model_share").fetchone() == (0,)


@pytest.mark.sql
def test_what_the_owner_of_a_database_puts_on_its_path_is_not_run(own_server: Server) -> None:
    """A database's owner chooses the default path, for a superuser who comes by as well."""
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("create role mallory login")
        admin.execute("create database hers owner mallory")
    with psycopg.connect(own_server.dsn("mallory", "hers"), autocommit=True) as mallory:
        mallory.execute("create schema evil")
        mallory.execute(
            "create function evil.spring() returns boolean language plpgsql as "
            "$$ begin alter role mallory superuser; return true; end $$"
        )
        for name in ("text", "name", "oid", "regclass", "jsonb"):
            mallory.execute(f"create domain evil.{name} as pg_catalog.{name} check (evil.spring())")
        mallory.execute(
            "create function evil.set_config(text, text, boolean) returns text language sql as "
            "$$ select case when evil.spring() then $2 end $$"
        )
        mallory.execute("alter database hers set search_path = evil, pg_catalog")
    dsn = own_server.dsn("postgres", "hers")
    for _ in range(2):
        migrate.init(dsn, app_login="app", pattern="acme:*:*:*:*")
    assert {file.state for file in migrate.status(dsn)} == {"applied"}
    with migrate.connect(dsn) as connection:
        doctor.examine(connection)
    with psycopg.connect(dsn, autocommit=True) as connection:
        doctor.examine(connection)
    with pytest.raises(LoginTooPowerful):
        TenantAwareStorage.from_dsn(dsn, "acme:s:p:e:c")
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        assert admin.execute("select rolsuper from pg_roles where rolname = 'mallory'").fetchone() == (False,)


@pytest.mark.sql
@pytest.mark.parametrize("schema", ["ai_storage", "ai_storage_private", "ai_storage_migration"])
def test_a_schema_that_somebody_else_made_first_is_refused(empty_database: Database, schema: str) -> None:
    admin = empty_database.connect()
    admin.execute(f"create schema {schema} authorization stranger")
    if schema == "ai_storage_migration":
        admin.execute(
            f"create view {schema}.applied_file as select 'x' as path, 'y' as sha256, '0.1.0' as release where false"
        )
    with pytest.raises((migrate.MigrationError, psycopg.errors.InsufficientPrivilege)):
        migrate.init(empty_database.dsn())


POWERLESS = "alter role ai_storage_owner nosuperuser nobypassrls nocreaterole nocreatedb noreplication"
# What somebody with CREATEROLE may have made before the first init -> how it is undone.
PREPARED = {
    "create role ai_storage_operator login": "alter role ai_storage_operator nologin",
    "create role ai_storage_app login": "alter role ai_storage_app nologin",
    "create role ai_storage_owner createrole": POWERLESS,
    "create role ai_storage_owner createdb": POWERLESS,
    "create role ai_storage_owner password 'x'": "alter role ai_storage_owner password null",
    "create role ai_storage_owner; grant ai_storage_owner to mallory": "revoke ai_storage_owner from mallory",
    "create role ai_storage_sharing role middle": "revoke ai_storage_sharing from middle",
    "create role ai_storage_admin; grant ai_storage_admin to mallory": "revoke ai_storage_admin from mallory",
    "create role ai_storage_auditor role middle": "revoke ai_storage_auditor from middle",
    "create role ai_storage_app admin middle": "revoke ai_storage_app from middle",
    "create role ai_storage_operator in role middle": "revoke middle from ai_storage_operator",
    "create role ai_storage_sql in role middle": "revoke middle from ai_storage_sql",
    "create role ai_storage_owner; alter role ai_storage_owner set search_path = public": (
        "alter role ai_storage_owner reset all"
    ),
    "create role ai_storage_owner; alter role ai_storage_owner in database shop set work_mem = '1MB'": (
        "alter role ai_storage_owner in database shop reset all"
    ),
}


@pytest.mark.sql
def test_a_role_that_somebody_else_prepared_is_not_taken_over(own_server: Server) -> None:
    """Whoever may become an owning role reads every tenant; so nothing is installed with one that others made."""
    dsn = own_server.dsn(dbname="shop")
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("create role mallory login createrole")
        admin.execute("create role middle")
        admin.execute("grant middle to mallory with admin option")
        admin.execute("create database shop")
        for prepared, undo in PREPARED.items():
            role = re.search(r"ai_storage_\w+", prepared)[0]
            # As the superuser, since mallory may not give all of it on each version.
            admin.execute(prepared)
            with pytest.raises(migrate.MigrationError) as caught:
                migrate.init(dsn)
            assert role in caught.value.message, prepared
            assert undo in caught.value.hint, prepared
            with psycopg.connect(dsn) as connection:
                assert connection.execute("select to_regnamespace('ai_storage')").fetchone() == (None,)
            admin.execute(undo)
            migrate.init(dsn)
            admin.execute("drop database shop with (force)")
            for (name,) in admin.execute("select rolname from pg_roles where rolname like 'ai_storage%'").fetchall():
                admin.execute(f"drop role {name}")
            admin.execute("create database shop")
        with psycopg.connect(own_server.dsn("mallory"), autocommit=True) as mallory:
            mallory.execute("create role ai_storage_owner")
            if own_server.major > 15:  # whoever creates a role administers it
                with pytest.raises(migrate.MigrationError, match="ai_storage_owner"):
                    migrate.init(dsn)
                admin.execute("revoke ai_storage_owner from mallory")
        migrate.init(dsn)


@pytest.mark.sql
def test_what_a_login_keeps_for_its_group_stops_no_administrator(database: Database) -> None:
    """A member may set the group's settings and password, which do nothing: the group cannot log in."""
    app = database.connect("app")
    app.execute("set role ai_storage_app; alter role current_user set statement_timeout = 1")
    app.execute("alter role current_user password 'x'")
    database.stack.callback(app.execute, "reset all; alter role current_user reset all")
    migrate.init(database.dsn())


@pytest.mark.sql
@pytest.mark.parametrize(
    "trap",
    [
        "create schema ai_storage authorization ai_storage_owner; set role ai_storage_owner; "
        "create view ai_storage.trap as select 1",
        "alter default privileges for role ai_storage_owner grant select on tables to stranger",
        "alter default privileges for role ai_storage_operator grant execute on functions to stranger",
    ],
)
def test_an_owning_role_that_owns_something_already_is_refused(empty_database: Database, trap: str) -> None:
    admin = empty_database.connect()
    admin.execute(trap)
    with pytest.raises(migrate.MigrationError, match="owns"):
        migrate.init(empty_database.dsn())


@pytest.mark.sql
def test_roles_with_administrators_may_be_installed_again_and_in_another_database_by_them(own_server: Server) -> None:
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("create role alice login createrole; create role carol login")
        for name in ("one", "two", "three"):
            admin.execute(f"create database {name} owner alice")
        for name in ("one", "two"):
            migrate.init(own_server.dsn("alice", name), app_login="app", pattern="acme:*:*:*:*")
        admin.execute("grant ai_storage_admin, ai_storage_sql to carol")
        for login in ("alice", "postgres"):
            migrate.init(own_server.dsn(login, "one"))
        for login, named in (("alice", "carol"), ("postgres", "alice|carol")):
            with pytest.raises(migrate.MigrationError) as caught:
                migrate.init(own_server.dsn(login, "three"))
            assert re.search(named, caught.value.message)


@pytest.mark.sql
def test_administrators_come_and_go_where_a_role_without_login_installed(own_server: Server) -> None:
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("create role storage_admin nologin createrole")
        admin.execute("create role alice login; create role bob login")
        admin.execute("grant storage_admin to alice, bob")
        admin.execute("create database app owner storage_admin")
        alice, bob = (own_server.dsn(login, "app", options="-c role=storage_admin") for login in ("alice", "bob"))
        migrate.init(alice, app_login="shop", pattern="acme:*:*:*:*")
        with psycopg.connect(bob) as connection:
            results = {result.id: result.status for result in doctor.examine(connection, probes=False)}
        assert (results["internal-members"], results["internal-administrator"]) == ("passed", "passed")
        admin.execute("drop owned by alice; drop role alice")
        migrate.init(bob, app_login="shop", pattern="acme:x:*:*:*")
        assert migrate.migrate(bob) == []
    with TenantAwareStorage.from_dsn(own_server.dsn("shop", "app"), "acme:s:p:e:c") as storage:
        assert storage.save_ai_progress("m", 0.5).version == 1


@pytest.mark.sql
def test_the_error_of_an_event_trigger_is_told_as_its_own(own_server: Server) -> None:
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("create table public.ddl_log (tag text)")
        admin.execute(
            "create function public.log_ddl() returns event_trigger language plpgsql as $$ begin "
            "insert into public.ddl_log select command_tag from pg_event_trigger_ddl_commands(); end $$; "
            "create event trigger log_ddl on ddl_command_end execute function public.log_ddl()"
        )
    with pytest.raises(migrate.MigrationError, match=r"public\.log_ddl\(\).*permission denied for table ddl_log"):
        migrate.init(own_server.dsn())


@pytest.mark.sql
def test_a_server_where_public_may_use_no_language_is_installed(own_server: Server) -> None:
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("revoke usage on language plpgsql, sql from public")
        migrate.init(own_server.dsn(), app_login="app", pattern="acme:*:*:*:*")
    with TenantAwareStorage.from_dsn(own_server.dsn("app"), "acme:s:p:e:c") as storage:
        assert storage.save_ai_progress("m", 0.5).version == 1


def test_an_uninitialised_database_is_named_as_such(empty_database: Database) -> None:
    for act in (migrate.migrate, migrate.status):
        with pytest.raises(migrate.MigrationError) as caught:
            act(empty_database.dsn())
        assert "pydb init" in caught.value.hint


def test_a_login_without_the_owners_roles_may_not_migrate(database: Database) -> None:
    with pytest.raises(migrate.MigrationError) as caught:
        migrate.migrate(database.dsn("app"))
    # Membership in the owning roles would make an application's login see every tenant.
    assert caught.value.hint == "Connect as the login that ran pydb init."


def test_a_login_that_may_not_create_the_schema_is_told_so(empty_database: Database) -> None:
    with pytest.raises(migrate.MigrationError, match="stranger") as caught:
        migrate.init(empty_database.dsn("stranger"))
    assert "CREATEROLE" in caught.value.hint


def test_a_database_in_another_encoding_is_refused(server: Server) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("create database latin encoding 'LATIN1' locale 'C' template template0")
        try:
            with pytest.raises(migrate.MigrationError, match="UTF8"):
                migrate.init(server.dsn(dbname="latin"))
        finally:
            admin.execute("drop database latin with (force)")


def test_the_password_of_a_new_login_reaches_the_server_only_as_a_verifier(database: Database) -> None:
    admin = database.connect()
    made = migrate.init(database.dsn(), app_login="with_password", app_password="correct horse", pattern="a:*:*:*:*")
    try:
        assert made.created
        row = admin.execute("select rolpassword from pg_authid where rolname = 'with_password'").fetchone()
        assert row[0].startswith("SCRAM-SHA-256$")
        again = migrate.init(database.dsn(), app_login="with_password", app_password="other", pattern="a:*:*:*:*")
        assert not again.created
        assert admin.execute("select rolpassword from pg_authid where rolname = 'with_password'").fetchone() == row
    finally:
        admin.execute("drop role with_password")


def test_repeating_init_widens_no_authorisation(database: Database) -> None:
    narrow, wide = "acme:*:*:*:*", "*:*:*:*:*"

    def init(**options: Any) -> set[tuple[str, bool]]:
        login = migrate.init(database.dsn(), app_login="acme_app", **options)
        return {(row.pattern, row.token_only) for row in login.authorizations}

    admin = database.connect()
    before = admin.execute("select * from ai_storage.list_authorizations()").fetchall()
    with pytest.raises(ValueError, match="needs a pattern"):
        init()
    assert admin.execute("select * from ai_storage.list_authorizations()").fetchall() == before
    assert init(pattern=narrow, token_only=True) == {(narrow, True)}
    assert init(pattern=narrow) == {(narrow, True)}
    assert init(pattern=wide) == {(narrow, True), (wide, False)}


def test_init_makes_a_login_a_member_again_whose_authorisations_came_with_a_restore(database: Database) -> None:
    admin = database.connect()
    migrate.init(database.dsn(), app_login="restored", pattern="acme:*:*:*:*", token_only=True)
    try:
        admin.execute("drop role restored")
        login = migrate.init(database.dsn(), app_login="restored", pattern="acme:*:*:*:*")
        assert login.created
        assert [(row.pattern, row.token_only) for row in login.authorizations] == [("acme:*:*:*:*", True)]
        assert admin.execute("select pg_has_role('restored', 'ai_storage_app', 'member')").fetchone() == (True,)
    finally:
        admin.execute("drop role restored")


def test_a_package_older_than_the_database_is_refused(database: Database) -> None:
    admin = database.connect()
    admin.execute(
        "update ai_storage_migration.applied_file set release = '99.0.0', sha256 = '' where path like 'sql/9%'"
    )
    with pytest.raises(migrate.MigrationError, match=r"99\.0\.0"):
        migrate.migrate(database.dsn())


def test_no_application_holds_up_a_migration(database: Database) -> None:
    app = database.connect("app")
    app.execute("begin")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("lock table ai_storage_migration.applied_file in exclusive mode")
    assert migrate.migrate(database.dsn(), wait=0) == []


@pytest.mark.sql
def test_a_migration_gives_way_to_whoever_holds_a_table_and_needs_another(database: Database) -> None:
    # Sealing and auditors reach tables in another order than tenants' calls do. Neither side may end in a deadlock.
    with psycopg.connect(database.dsn(), autocommit=True) as admin, ThreadPoolExecutor(1) as pool:
        admin.execute("update ai_storage_migration.applied_file set sha256 = '' where path = 'sql/00_version.sql'")
        admin.execute("begin")
        admin.execute("select from ai_storage_private.model_share")
        migrating = pool.submit(migrate.migrate, database.dsn())
        waiting = "select exists (select from pg_locks where not granted and mode = 'AccessExclusiveLock')"
        with database.connect() as watcher:
            until(lambda: watcher.execute(waiting).fetchone() == (True,), "the migration to wait")
        admin.execute("select from ai_storage_private.signing_key")
        admin.execute("select from ai_storage_private.tenant")
        assert not migrating.done()
        admin.execute("commit")
        assert "sql/90_grants.sql" in migrating.result(60)
