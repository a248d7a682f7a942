"""pydb doctor: every check is broken once, in a transaction that is rolled back, and a healthy database passes."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pydb import AsyncTenantAwareStorage, LoginTooPowerful, TenantAwareStorage, cli, doctor, migrate
from pydb.embedded import Cluster
from tests import servers
from tests.conftest import new_cluster
from tests.helpers import Connection
from tests.pgbouncer import pgbouncer

pytestmark = pytest.mark.sql

KEY = "acme:mcp-1:shop:production:abc123"

# What a database has right after `pydb init --app-login app_login --pattern 'acme:*:*:*:*'` as a superuser: settings
# that PostgreSQL ships, and this server's own, which trusts its loopback address and has no TLS.
FRESH = {
    "connect-public",
    "hba-trust-local",
    "idle-transactions",
    "log-error-statement",
    "login-connections",
    "login-expiry",
    "login-temp",
    "tls-off",
}
# What of it is false where only the server's own user can open its one socket.
REACHABLE = {"hba-trust-local", "tls-off"}
# Nothing is bound to the second, which is nobody's: the server starts without it, and says that it listens there.
NETWORK = "127.0.0.1,192.0.2.1"


@dataclass(frozen=True, slots=True)
class Clinic:
    """A server for this file: installed as a superuser in one database, and as a managed service does in another."""

    cluster: Cluster
    port: int

    def dsn(self, user: str = "postgres", dbname: str = "postgres") -> str:
        return make_conninfo(self.cluster.url(), user=user, dbname=dbname)


@pytest.fixture(scope="module")
def clinic(request: pytest.FixtureRequest) -> Iterator[Clinic]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for cluster in new_cluster(servers.bin_dir(request.config.getoption("--pg"))):
        cluster.start({"listen_addresses": NETWORK, "port": str(port), "max_connections": "40"})
        here = Clinic(cluster, port)
        with psycopg.connect(here.dsn(), autocommit=True) as admin:
            admin.execute("create role managed_admin login createrole")
            admin.execute("create database managed owner managed_admin")
        migrate.init(here.dsn("managed_admin", "managed"), app_login="managed_app", pattern="acme:*:*:*:*")
        with psycopg.connect(here.dsn(), autocommit=True) as admin:
            admin.execute("create role stranger login")
        yield here


@pytest.fixture(scope="module")
def plain(request: pytest.FixtureRequest) -> Iterator[Clinic]:
    """A server where the package was installed by a superuser."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for cluster in new_cluster(servers.bin_dir(request.config.getoption("--pg"))):
        cluster.start({"listen_addresses": NETWORK, "port": str(port), "max_connections": "40"})
        here = Clinic(cluster, port)
        migrate.init(here.dsn(), app_login="app_login", pattern="acme:*:*:*:*")
        with psycopg.connect(here.dsn(), autocommit=True) as admin:
            admin.execute("create role stranger login")
        yield here


@pytest.fixture
def patient(plain: Clinic) -> Iterator[Connection]:
    """A superuser's connection; what the test does to the server is undone."""
    with psycopg.connect(plain.dsn()) as connection:
        yield connection
        connection.rollback()


def failed(results: list[doctor.Result]) -> set[str]:
    return {result.id for result in results if result.status == "failed"}


def unpatched(version: int) -> set[str]:
    """The holes that a server of this version has by its minor."""
    return {hole.id for hole in doctor.HOLES if version % 10000 < hole.fixed.get(version // 10000, 0)}


# A healthy database --------------------------------------------------------------------------------------------------


def test_a_fresh_database_has_no_error_of_its_own(patient: Connection) -> None:
    results = doctor.examine(patient)
    assert failed(results) == FRESH | unpatched(patient.info.server_version)
    assert {result.id for result in results if result.status == "unknown"} == set()
    assert len(results) == len(doctor.CHECKS) + len(doctor.HOLES) >= 40
    assert len({result.id for result in results}) == len(results)


def test_whoever_installed_it_without_being_superuser_is_told_what_cannot_be_seen(clinic: Clinic) -> None:
    with psycopg.connect(clinic.dsn("managed_admin", "managed")) as connection:
        results = doctor.examine(connection)
        version = connection.info.server_version
    unknown = {result.id for result in results if result.status == "unknown"}
    assert unknown == {check.id for check in doctor.CHECKS if check.needs in ("pg_hba", "passwords")}
    assert all("superusers" in result.note for result in results if result.status == "unknown")
    alone = {"internal-administrator"} if version >= 160000 else set()
    assert failed(results) == FRESH - {"hba-trust-local"} | unpatched(version) | alone
    # The holes are tried without a superuser too.
    assert {result.id for result in results if result.note == "tried"} == {h.id for h in doctor.HOLES if h.probe}


def test_a_stranger_sees_less_and_passes_nothing_that_he_cannot_see(plain: Clinic) -> None:
    with psycopg.connect(plain.dsn("stranger")) as connection:
        results = doctor.examine(connection)
    unknown = {result.id for result in results if result.status == "unknown"}
    assert unknown == {check.id for check in doctor.CHECKS if check.needs and check.group != "cluster"}
    assert all(result.note for result in results if result.status == "unknown")
    notes = {result.id: result.note for result in results}
    assert notes["cve-2026-14666"].startswith("by the minor, since it could not be tried: permission denied")


def test_it_leaves_nothing_behind_and_restores_the_session(plain: Clinic) -> None:
    counts = (
        "select (select count(*) from pg_authid), (select count(*) from pg_class), (select count(*) from pg_policy), "
        "(select count(*) from pg_namespace), (select count(*) from pg_auth_members), "
        "(select count(*) from pg_shdepend), "
        "(select array_agg(t::text order by 1) from ai_storage_private.login_authorization as t)"
    )
    session = (
        "select (select count(*) from pg_prepared_statements), current_user, current_setting('search_path'), "
        "current_setting('statement_timeout'), current_setting('transaction_read_only')"
    )
    with psycopg.connect(plain.dsn(), autocommit=True) as watcher, psycopg.connect(plain.dsn()) as connection:
        before = watcher.execute(counts).fetchone()
        session_before = connection.execute(session).fetchone()
        connection.rollback()
        doctor.examine(connection)
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        connection.prepare_threshold = None
        assert connection.execute(session).fetchone() == session_before
        assert watcher.execute(counts).fetchone() == before


def test_the_queries_run_read_only(patient: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = doctor.Check(
        "writer", "g", "error", "t", "w", "m", "select set_config('a.b', nextval('public.s')::text, true)"
    )
    monkeypatch.setattr(doctor, "CHECKS", (*doctor.CHECKS, writer))
    patient.execute("create sequence public.s")
    (result,) = [result for result in doctor.examine(patient) if result.id == "writer"]
    assert (result.status, result.note) == ("unknown", "cannot execute nextval() in a read-only transaction")


def test_it_waits_for_nobody_and_holds_up_nobody(plain: Clinic) -> None:
    with psycopg.connect(plain.dsn()) as other, psycopg.connect(plain.dsn()) as connection:
        other.execute("lock table ai_storage_private.tenant, ai_storage_private.signing_key in access exclusive mode")
        results = doctor.examine(connection)
        unknown = {result.id: result.note for result in results if result.status == "unknown"}
        assert set(unknown.values()) == {"canceling statement due to lock timeout"}
        assert unknown.keys() == {
            "policy-always-true",  # printing a policy opens its table
            *(check.id for check in doctor.CHECKS if check.needs == "keys"),
        }
        other.rollback()


def test_a_database_without_the_schema_is_named_as_such(plain: Clinic) -> None:
    with (
        psycopg.connect(plain.dsn(dbname="template1")) as connection,
        pytest.raises(migrate.MigrationError, match="no schema"),
    ):
        doctor.examine(connection)


# Holes of the server -------------------------------------------------------------------------------------------------


def test_a_hole_is_tried_and_the_answer_agrees_with_the_published_minor(patient: Connection) -> None:
    results = {result.id: result for result in doctor.examine(patient)}
    for hole in doctor.HOLES:
        result = results[hole.id]
        assert result.note == ("tried" if hole.probe else "by the minor")
        assert (result.status == "failed") == (hole.id in unpatched(patient.info.server_version)), hole.cve
        version = patient.info.server_version
        for text in result.found:
            major = version // 10000
            assert text == f"PostgreSQL {major}.{version % 10000}; mended in {major}.{hole.fixed[major]}"
        assert result.mend == doctor.UPDATE


@pytest.mark.parametrize("hole", doctor.HOLES, ids=lambda hole: hole.id)
def test_an_older_minor_has_the_hole(patient: Connection, monkeypatch: pytest.MonkeyPatch, hole: doctor.Hole) -> None:
    for major, minor in hole.fixed.items():
        for version, expected in ((major * 10000 + minor - 1, True), (major * 10000 + minor, False)):
            monkeypatch.setattr(doctor, "_server_version", lambda _, version=version: version)
            assert (hole.id in failed(doctor.examine(patient, probes=False))) == expected, version


def test_a_mended_minor_without_the_script_still_shows_statistics(patient: Connection) -> None:
    patient.execute("set local allow_system_table_mods = on")
    patient.execute("alter view pg_catalog.pg_stats_ext rename to pg_stats_ext_mended")
    patient.execute("create view pg_catalog.pg_stats_ext as select 1 as a")
    assert "cve-2024-4317" in failed(doctor.examine(patient))
    assert "cve-2024-4317" not in failed(doctor.examine(patient, probes=False))


@pytest.mark.parametrize("version", [140024, 190000])
def test_a_major_that_is_not_supported_is_an_error(
    patient: Connection, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(doctor, "_server_version", lambda _: version)
    assert "server-major" in failed(doctor.examine(patient, probes=False))


# Every check fails once ----------------------------------------------------------------------------------------------

A_KEY = (
    "insert into ai_storage_private.signing_key (kid, audience, inner_pad, outer_pad, created_at) "
    "select 'k' || n, {audience}, sha256('a') || sha256('a'), sha256('b') || sha256('b'), now() - interval '{age}' "
    "from generate_series(1, {count}) as n"
)
PRIVATE = "ai_storage_private.ai_progress_tenant"
ENTER = "ai_storage_private.enter(text, boolean, text)"

# check -> statements that break what it looks at
BREAKS: dict[str, list[str]] = {
    "encoding": ["update pg_database set encoding = 0 where datname = current_database()"],
    "schema-behind": ["delete from ai_storage_migration.applied_file where path = 'sql/90_grants.sql'"],
    "function-edited": [
        "create or replace function ai_storage.version() returns text language sql immutable parallel safe "
        "set search_path = pg_catalog, pg_temp as $$ select 'hand-made' $$"
    ],
    "function-foreign": ["create function ai_storage.extra() returns int language sql as 'select 1'"],
    "relation-foreign": ["create table ai_storage_private.extra (a int)"],
    "relation-missing": ["alter table ai_storage_private.deleted_model set schema public"],
    "secret-missing": ["delete from ai_storage_private.context_secret"],
    "context-secret": [
        "drop index ai_storage_private.context_secret_single",
        "insert into ai_storage_private.context_secret select * from ai_storage_private.context_secret",
    ],
    "internal-login": ["alter role ai_storage_sharing login"],
    "internal-superuser": ["alter role ai_storage_owner superuser"],
    "internal-bypassrls": ["alter role ai_storage_operator bypassrls"],
    "internal-attributes": ["alter role ai_storage_app createrole"],
    "internal-missing": ["alter role ai_storage_auditor rename to auditor"],
    "internal-members": ["grant ai_storage_operator to stranger"],
    "internal-memberships": ["grant pg_read_all_data to ai_storage_owner"],
    "login-superuser": ["alter role app_login superuser"],
    "login-bypassrls": ["alter role app_login bypassrls"],
    "login-createrole": ["alter role app_login createrole"],
    "login-createdb": ["alter role app_login createdb"],
    "login-replication": ["alter role app_login replication"],
    "login-owner": ["create role middle", "grant ai_storage_owner to middle", "grant middle to app_login"],
    "login-set-role": ["create role strong bypassrls", "grant strong to app_login"],
    "login-reads-all": ["grant pg_read_all_data to app_login"],
    "login-server-files": ["grant pg_execute_server_program to app_login"],
    "login-monitor": ["grant pg_monitor to app_login"],
    "login-operates": ["grant pg_signal_backend to app_login"],
    "login-admin": ["grant ai_storage_admin to app_login"],
    "login-owns": ["alter function ai_storage.version() owner to app_login"],
    "login-creates": ["grant create on database postgres to app_login"],
    "public-schema": ["grant usage on schema ai_storage to public"],
    "public-function": [f"grant execute on function {ENTER} to public"],
    "public-relation": [f"grant select (mse) on {PRIVATE} to public"],
    "relation-rights": [f"grant select (mse) on {PRIVATE} to stranger"],
    "function-rights": [f"grant execute on function {ENTER} to stranger"],
    "private-schema": ["grant usage on schema ai_storage_private to stranger"],
    "create-in-schemas": ["grant create on schema ai_storage to stranger"],
    "default-functions": ["alter default privileges for role ai_storage_sharing grant execute on functions to public"],
    "default-grants": [
        "alter default privileges for role ai_storage_owner in schema ai_storage_private grant select on tables "
        "to stranger"
    ],
    "create-in-public": ["grant create on schema public to public"],
    "create-in-database": ["grant create on database postgres to public"],
    "rls-enabled": [f"alter table {PRIVATE} disable row level security"],
    "rls-forced": [f"alter table {PRIVATE} no force row level security"],
    "rls-without-policy": ["drop policy operator_signs_contexts on ai_storage_private.context_secret"],
    "policy-foreign": [f"create policy extra on {PRIVATE} to ai_storage_owner using (false)"],
    "policy-restrictive": [f"create policy extra on {PRIVATE} as restrictive to ai_storage_owner using (true)"],
    "policy-roles": [f"create policy extra on {PRIVATE} to stranger using (false)"],
    "policy-always-true": [f"create policy extra on {PRIVATE} to ai_storage_owner using (true)"],
    "schema-owner": ["alter schema ai_storage owner to stranger"],
    "relation-owner": [f"alter table {PRIVATE} owner to stranger"],
    "function-owner": [f"alter function {ENTER} owner to stranger"],
    "definer-search-path": [f"alter function {ENTER} set search_path = ''"],
    "definer-messages": [f"alter function {ENTER} reset client_min_messages"],
    "definer-outside": ["create function public.f() returns int security definer language sql as 'select 1'"],
    "trigger-disabled": [f"alter table {PRIVATE} disable trigger forget_model"],
    "trigger-foreign": [
        "create function public.spy() returns trigger language plpgsql as 'begin return new; end'",
        f"create trigger spy before insert on {PRIVATE} for each row execute function public.spy()",
    ],
    "rule": [f"create rule spy as on delete to {PRIVATE} do instead nothing"],
    "inheritance": ["create table public.child () inherits (ai_storage_private.tenant)"],
    "foreign-reference": [
        "create table public.reference (tenant_id bigint references ai_storage_private.tenant on delete cascade)"
    ],
    "view-outside": [f"create materialized view public.copy as select * from {PRIVATE}"],
    "view-barrier": ["alter view ai_storage.ai_progress_tenant set (security_barrier = false)"],
    "publication": [f"create publication everything for table {PRIVATE}"],
    "subscription": [
        "create subscription from_there connection '' publication p with (connect = false)",
        f"insert into pg_subscription_rel select oid, '{PRIVATE}'::regclass, 'r', null from pg_subscription",
    ],
    "event-trigger": [
        "create function public.seen() returns event_trigger language plpgsql as 'begin end'",
        "create event trigger seen on ddl_command_end execute function public.seen()",
    ],
    "large-objects": ["select lo_create(4711)", "grant select on large object 4711 to public"],
    "dblink": ["create extension dblink"],
    "foreign-server": [
        "create foreign data wrapper wrapper",
        "create server elsewhere foreign data wrapper wrapper",
        "create user mapping for public server elsewhere",
    ],
    "authorization-wide": ["select ai_storage.authorize_login('app_login', '*:*:*:*:*')"],
    "authorization-organisations": ["select ai_storage.authorize_login('app_login', 'beta:*:*:*:*')"],
    "authorization-orphaned": ["drop role app_login"],
    "authorization-powerful": ["grant ai_storage_sharing to app_login"],
    "authorization-nologin": ["alter role app_login nologin"],
    "authorization-unused": ["grant ai_storage_app to stranger"],
    "authorization-without-group": [
        "set role ai_storage_operator",
        "revoke ai_storage_app from app_login",
        "reset role",
    ],
    "key-missing": ["select ai_storage.authorize_login('app_login', 'acme:*:*:*:*', true)"],
    "key-age": [A_KEY.format(audience="current_database()", age="91 days", count=1)],
    "key-count": [A_KEY.format(audience="current_database()", age="1 day", count=4)],
    "key-audience": [A_KEY.format(audience="'elsewhere'", age="1 day", count=1)],
    "password-encryption": ["set local password_encryption = 'md5'"],
    "login-md5": ["set local password_encryption = 'md5'", "alter role app_login password 'x'"],
    "log-statement": ["alter role app_login set log_statement = 'all'"],
    "log-duration": ["set local log_min_duration_statement = 500"],
    "log-error-parameters": ["set local log_parameter_max_length_on_error = -1"],
    "login-setting": ["alter role app_login set default_transaction_read_only = on"],
    "debug-print": ["alter database postgres set debug_print_plan = on"],
    "auto-explain": ["load 'auto_explain'", "set local auto_explain.log_min_duration = 0"],
    "activity-readers": ["grant pg_monitor to stranger"],
    "statement-statistics": ["create extension pg_stat_statements"],
    "replication-role": ["alter role app_login set session_replication_role = replica"],
    "row-security-off": ["alter role app_login set row_security = off"],
    "app-settings": ["alter role app_login set app.current_tenant = 'acme:s:p:e:c'"],
    "preload": ["alter role app_login set session_preload_libraries = 'auto_explain'"],
    "pgaudit": ["alter role app_login set pgaudit.log_parameter = yes"],
}

# check -> a line of pg_hba.conf, which the server reads for us but does not load
LINES = {
    "hba-trust": "host all all 192.0.2.0/24 trust",
    "hba-plain": "host all all 192.0.2.0/24 scram-sha-256",
    "hba-password": "hostssl all all 192.0.2.0/24 password",
    "hba-md5": "hostssl all all 192.0.2.0/24 md5",
    "hba-broken": "hostssl all all",
}
# Those that need more than statements have tests of their own, below.
OTHERWISE = {"durability", "connections-used", "internal-administrator", "pooler", "server-major", "tls-protocol"}


# Statements and something to think about.
PROSE = {"activity-readers", "event-trigger", "subscription"}


def mend(patient: Connection, result: doctor.Result) -> None:
    """Where the way to mend it is statements, they are right as they are printed."""
    if re.match(r"(alter (?!system)|revoke|drop)", result.mend) and result.id not in PROSE:
        for statement in result.mend.splitlines():
            patient.execute(statement)
        assert result.id not in failed(doctor.examine(patient, probes=False))


def test_no_name_is_left_to_fill_in(patient: Connection) -> None:
    for check in doctor.CHECKS:
        assert set(re.findall(r"\b[A-Z]{3,}\b", check.mend)) <= {"NEW", "UTF8"}, check.id
    for result in doctor.examine(patient, probes=False):
        if result.status == "failed":
            assert not re.search(r"[{}]", result.mend)
            mend(patient, result)


@pytest.mark.parametrize("check", BREAKS)
def test_a_check_fails_when_what_it_looks_at_is_broken(patient: Connection, check: str) -> None:
    for statement in BREAKS[check]:
        patient.execute(statement)
    results = {result.id: result for result in doctor.examine(patient, probes=False)}
    assert results[check].status == "failed", results[check]
    assert results[check].found
    # What else could not be said then is said to be unknown for a reason.
    assert all(result.note for result in results.values() if result.status == "unknown")
    mend(patient, results[check])


@pytest.mark.parametrize("check", LINES)
def test_a_line_of_pg_hba_is_found(plain: Clinic, patient: Connection, check: str) -> None:
    file = Path(patient.execute("show hba_file").fetchone()[0])
    before = file.read_text()
    file.write_text(before + LINES[check] + "\n")
    try:
        results = {result.id: result for result in doctor.examine(patient, probes=False)}
    finally:
        file.write_text(before)
    assert results[check].found[0].startswith(f"line {len(before.splitlines()) + 1}")


def test_the_administrator_of_another_database_keeps_his_role(patient: Connection) -> None:
    patient.execute("grant ai_storage_operator to stranger")
    results = {result.id: result for result in doctor.examine(patient, probes=False)}
    mend = results["internal-members"].mend
    assert mend.startswith("Where stranger administers another database of this server")
    assert mend.endswith("Else: revoke ai_storage_operator from stranger")
    patient.execute(re.search("revoke connect on database postgres from public", mend)[0])
    assert "internal-members" not in failed(doctor.examine(patient, probes=False))


def test_a_publication_of_all_tables_has_another_mend(patient: Connection) -> None:
    patient.execute("create publication everything for all tables")
    results = {result.id: result for result in doctor.examine(patient, probes=False)}
    assert results["publication"].mend.startswith("drop publication everything, and make it anew")


def test_names_are_printed_so_that_a_statement_takes_them(patient: Connection) -> None:
    patient.execute('create role "Mrs. O\'Hara; drop" login createdb')
    patient.execute("select ai_storage.authorize_login($$Mrs. O'Hara; drop$$, 'acme:*:*:*:*')")
    (wrong,) = [result for result in doctor.examine(patient, probes=False) if result.id == "login-createdb"]
    assert wrong.mend == 'alter role "Mrs. O\'Hara; drop" nocreatedb'


def test_findings_of_one_check_are_one_with_all_logins(patient: Connection) -> None:
    patient.execute("create role app_other login")
    patient.execute("select ai_storage.authorize_login('app_other', 'acme:*:*:*:*')")
    text = doctor.render(doctor.examine(patient, probes=False))
    assert text.count("login-temp: ") == 1
    assert "An application login may create temporary tables\n    app_login, app_other\n" in text


def test_every_check_fails_in_some_test() -> None:
    assert {check.id for check in doctor.CHECKS} == {*BREAKS, *LINES, *OTHERWISE, *FRESH}
    assert len(BREAKS.keys() | LINES.keys() | OTHERWISE | FRESH) == len(BREAKS) + len(LINES) + len(OTHERWISE) + len(
        FRESH
    )


def test_a_server_that_may_tear_pages_or_speak_old_tls_is_found(request: pytest.FixtureRequest) -> None:
    for cluster in new_cluster(servers.bin_dir(request.config.getoption("--pg"))):
        cluster.start({"full_page_writes": "off", "ssl_min_protocol_version": "TLSv1"})
        migrate.init(cluster.url())
        with psycopg.connect(cluster.url()) as connection:
            found = failed(doctor.examine(connection, probes=False))
        assert {"durability", "tls-protocol"} <= found
        # It listens on its socket alone, so that what only the network reaches is no concern.
        assert not {"hba-trust", "hba-plain", "tls-off"} & found


@pytest.fixture
def embedded(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A server as pydb runs it, not started yet."""
    yield from new_cluster(servers.bin_dir(request.config.getoption("--pg")))


def test_a_server_that_pydb_runs_is_told_what_is_true_there(embedded: Cluster) -> None:
    embedded.start()
    migrate.init(embedded.url(), app_login="ai_storage_local", pattern="*:*:*:*:*")
    with psycopg.connect(embedded.url()) as connection:
        results = {result.id: result for result in doctor.examine(connection)}
        assert failed([*results.values()]) == FRESH - REACHABLE | unpatched(connection.info.server_version)
        assert {results[hole.id].mend for hole in doctor.HOLES} == {doctor.UPDATE_OUR_OWN}
        # Another login with such a pattern is somebody's application.
        connection.execute("create role app_login login")
        connection.execute("select ai_storage.authorize_login('app_login', '*:*:*:*:*')")
        results = {result.id: result for result in doctor.examine(connection, probes=False)}
        assert results["authorization-wide"].found == ["app_login *:*:*:*:*"]
        assert results["authorization-wide"].mend.startswith("pydb authorize 'app_login' '*:*:*:*:*' --token-only")


def test_a_folder_that_a_group_enters_is_not_private(embedded: Cluster) -> None:
    embedded.start({"unix_socket_permissions": "0777"}, initdb_options=["--allow-group-access"])
    migrate.init(embedded.url())
    with psycopg.connect(embedded.url()) as connection:
        assert "hba-trust-local" in failed(doctor.examine(connection, probes=False))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"unix_socket_permissions": "0777"}, set()),  # the folder of the data is private
        ({"unix_socket_directories": "/tmp"}, set()),  # so is the socket
        ({"unix_socket_directories": "/tmp", "unix_socket_permissions": "0770"}, {"local"}),
        ({"unix_socket_directories": "/tmp", "unix_socket_permissions": "0777"}, {"local"}),
        ({"listen_addresses": "127.0.0.1"}, {"host"}),
    ],
    ids=str,
)
def test_trust_is_found_where_others_reach_the_server(
    embedded: Cluster, settings: dict[str, str], expected: set[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    embedded.start(settings | {"port": str(port)})
    migrate.init(embedded.url(), app_login="ai_storage_local", pattern="*:*:*:*:*")
    with psycopg.connect(embedded.url()) as connection:
        results = {result.id: result for result in doctor.examine(connection, probes=False)}
    found = results["hba-trust-local"].found
    assert {text.split(": ")[1].split()[0] for text in found if "replication" not in text} == expected
    assert (results["authorization-wide"].status == "failed") == bool(expected)
    assert results["tls-off"].status == results["hba-trust"].status == "passed"


def test_connections_that_run_out_are_found(plain: Clinic, patient: Connection) -> None:
    others = [psycopg.connect(plain.dsn()) for _ in range(35)]
    try:
        assert "connections-used" in failed(doctor.examine(patient, probes=False))
    finally:
        for other in others:
            other.close()


def test_a_pooler_between_is_found(plain: Clinic) -> None:
    with psycopg.connect(plain.dsn()) as connection:
        host, port = connection.info.host, connection.info.port
    with (
        pgbouncer(host, port, ["postgres"], "transaction") as through,
        psycopg.connect(through("postgres", "postgres"), prepare_threshold=None) as connection,
    ):
        results = doctor.examine(connection)
        assert failed(results) == FRESH | {"pooler"} | unpatched(connection.info.server_version)
        (pooler,) = [result for result in results if result.id == "pooler"]
        assert "server_reset_query_always = 1" in pooler.mend


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken(plain: Clinic) -> Iterator[None]:
    with psycopg.connect(plain.dsn(), autocommit=True) as admin:
        admin.execute("alter role app_login createrole")
        yield
        admin.execute("alter role app_login nocreaterole")


def test_the_exit_code_is_1_for_an_error_alone(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    managed = clinic.dsn("managed_admin", "managed")
    assert cli.main(["doctor", "--dsn", managed, "--no-probes"]) == 0
    out = capsys.readouterr().out
    assert "UNKNOWN  login-md5: missing: SELECT on pg_authid" in out
    assert "INFO  login-temp: " in out
    assert "\n    managed_app\n" in out
    assert "\n  why:  " in out
    assert "\n  mend: revoke temporary on database managed from public\n" in out
    assert out.splitlines()[-1].startswith(f"{len(doctor.CHECKS) + len(doctor.HOLES)} checks: ")


@pytest.mark.usefixtures("broken")
def test_json_lists_every_check(plain: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--dsn", plain.dsn(), "--json"]) == 1
    results = {result["id"]: result for result in json.loads(capsys.readouterr().out)}
    assert len(results) == len(doctor.CHECKS) + len(doctor.HOLES)
    assert {result["status"] for result in results.values()} == {"passed", "failed"}
    result = results["login-createrole"]
    assert (result["status"], result["severity"], result["found"]) == ("failed", "error", ["app_login"])
    assert result["why"]
    assert result["mend"] == "alter role app_login nocreaterole"


def test_other_outcomes_count_where_they_are_named(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    """This database has a warning, and checks that a login without superuser cannot make."""
    doctor_of = ["doctor", "--no-probes", "--dsn"]
    managed = [*doctor_of, clinic.dsn("managed_admin", "managed")]
    for options, code in (([], 0), (["error"], 0), (["warning"], 1), (["unknown"], 1), (["unknown", "warning"], 1)):
        assert cli.main([*managed, *(f"--fail-on={option}" for option in options)]) == code
    superuser = [*doctor_of, clinic.dsn("postgres", "managed")]
    assert [cli.main([*superuser, f"--fail-on={option}"]) for option in ("unknown", "warning")] == [0, 1]


def test_the_last_line_counts_by_outcome() -> None:
    def result(severity: doctor.Severity, status: doctor.Status) -> doctor.Result:
        return doctor.Result("i", "g", severity, "t", status, ["f"], "w", "m")

    results = [
        *[result("info", "passed")] * 5,
        *[result("info", "failed")] * 4,
        *[result("warning", "failed")] * 3,
        *[result("error", "failed")] * 2,
        result("error", "unknown"),
    ]
    last = doctor.render(results).splitlines()[-1]
    assert last == "15 checks: 5 passed, 2 errors, 3 warnings, 4 notes, 1 unknown."
    assert doctor.summarise(results[:9], ["warning", "unknown"]) == 0  # a note is never a failure


def test_the_run_has_a_name_of_its_own(patient: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "select current_setting('application_name')"
    (before,) = patient.execute(name).fetchone()
    monkeypatch.setattr(doctor, "CHECKS", (*doctor.CHECKS, doctor.Check("name", "g", "info", "t", "w", "m", name)))
    seen = []
    hole = doctor.Hole("CVE-0", "info", "w", {}, lambda connection, _: seen.append(connection.execute(name).fetchone()))
    monkeypatch.setattr(doctor, "HOLES", (hole,))
    assert doctor.examine(patient)[-1].found == ["pydb doctor"]
    assert seen == [("pydb doctor",)]
    assert patient.execute(name).fetchone() == (before,)


def test_a_long_list_is_cut_for_people(patient: Connection) -> None:
    for number in range(12):
        patient.execute(f"create table ai_storage_private.extra{number:02} (a int)")
    text = doctor.render(doctor.examine(patient, probes=False))
    assert "ai_storage_private.extra09\n    and 2 more\n" in text
    assert "extra10" not in text.split("relation-foreign")[1].split("why:")[0]


def test_no_secret_is_printed(patient: Connection) -> None:
    (secret,) = patient.execute("select secret from ai_storage.create_signing_key('k1', 'elsewhere')").fetchone()
    patient.execute("alter role app_login password 'hidden-word'")
    patient.execute("update ai_storage_private.signing_key set created_at = now() - interval '1 year'")
    said = doctor.as_json(doctor.examine(patient))
    (verifier,) = patient.execute("select rolpassword from pg_authid where rolname = 'app_login'").fetchone()
    (inner,) = patient.execute("select encode(inner_key, 'hex') from ai_storage_private.context_secret").fetchone()
    for hidden in (secret, verifier, inner, "hidden-word"):
        assert hidden not in said


def test_the_page_is_the_checks() -> None:
    page = Path(__file__).parent.parent / "docs" / "doctor.md"
    assert page.read_text("utf-8") == doctor.page(), "run make docs, and look at the difference"


# Powerful application logins -----------------------------------------------------------------------------------------

# what is said of a login -> how it becomes so
POWERS = {
    "is superuser": "alter role {} superuser",
    "has BYPASSRLS": "alter role {} bypassrls",
    "may become ai_storage_operator, which owns tables or functions": "grant ai_storage_operator to {}",
    "owns tables or functions": "alter table ai_storage_private.deleted_model owner to {}",
    "may become strong, which is superuser": "create role strong superuser; grant strong to {}",
}


@pytest.fixture(params=POWERS)
def powerful(request: pytest.FixtureRequest, plain: Clinic) -> Iterator[str]:
    """A login that is authorised and became powerful afterwards."""
    name = sql.Identifier("powerful")
    with psycopg.connect(plain.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login").format(name))
        admin.execute("select ai_storage.authorize_login('powerful', 'acme:*:*:*:*')")
        for statement in POWERS[request.param].split("; "):
            admin.execute(sql.SQL(statement).format(name))
        yield "powerful"
        admin.execute("select ai_storage.deauthorize_login('powerful')")
        admin.execute("alter table ai_storage_private.deleted_model owner to ai_storage_owner")
        admin.execute("drop role powerful")
        admin.execute("drop role if exists strong")


def test_a_storage_refuses_a_powerful_login_unless_it_is_named(plain: Clinic, powerful: str) -> None:
    dsn = plain.dsn(powerful)
    for trusted in (None, "app_login"):
        with pytest.raises(LoginTooPowerful, match=powerful) as caught:
            TenantAwareStorage.from_dsn(dsn, KEY, trusted_login=trusted)
        assert caught.value.hint
        with pytest.raises(LoginTooPowerful, match=powerful):
            asyncio.run(AsyncTenantAwareStorage.from_dsn(dsn, KEY, trusted_login=trusted))
    with TenantAwareStorage.from_dsn(dsn, KEY, trusted_login=powerful) as storage:
        storage.load_ai_progress()

    async def scenario() -> list[Any]:
        async with await AsyncTenantAwareStorage.from_dsn(dsn, KEY, trusted_login=powerful) as storage:
            return await storage.load_ai_progress()

    asyncio.run(scenario())


def test_the_command_refuses_a_powerful_login_unless_it_is_named(
    plain: Clinic, powerful: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["load", "--dsn", plain.dsn(powerful), "--as", KEY]
    assert cli.main(arguments) == 1
    said = capsys.readouterr().err
    assert "(TN006)" in said
    assert f"detail: Login {powerful} {request.node.callspec.params['powerful']}.\n" in said
    assert cli.main([*arguments, "--trusted-login", "app_login"]) == 1
    assert cli.main([*arguments, "--trusted-login", powerful]) == 0


def test_a_plain_login_is_served(plain: Clinic) -> None:
    with TenantAwareStorage.from_dsn(plain.dsn("app_login"), KEY) as storage:
        assert storage.load_ai_progress() == []
