"""What only a live catalog can tell: rights, forced row level security, owners, comments, and the errors' registry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pydb import errors
from tests.conftest import Database
from tests.test_layout import BESIDES, DEFINERS, WITHOUT_TENANT

pytestmark = pytest.mark.sql

ROOT = Path(__file__).parent.parent
OURS = "('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)"
INTERNAL_ROLES = {"ai_storage_owner", "ai_storage_sharing", "ai_storage_operator"}

# What each group may do. Everything else is closed.
EXECUTE = {
    "ai_storage_app": {
        "ai_storage.clear_tenant",
        "ai_storage.current_tenant",
        "ai_storage.delete_progress",
        "ai_storage.is_isolation_key",
        "ai_storage.isolation_key",
        "ai_storage.load_history",
        "ai_storage.load_progress",
        "ai_storage.parse_isolation_key",
        "ai_storage.promote_progress",
        "ai_storage.list_code_versions",
        "ai_storage.save_progress",
        "ai_storage.save_progress_batch",
        "ai_storage.set_tenant",
        "ai_storage.version",
        "ai_storage.decline_share",
        "ai_storage.has_permission",
        "ai_storage.list_received_shares",
        "ai_storage.list_shares",
        "ai_storage.revoke_share",
        "ai_storage.share_model",
        "ai_storage.unshare_model",
        "ai_storage.audit_proof",
        "ai_storage.audit_trail",
        "ai_storage.changes",
        "ai_storage.export_audit",
        "ai_storage.verify_audit",
        "ai_storage.abort_artifact",
        "ai_storage.append_artifact",
        "ai_storage.begin_artifact",
        "ai_storage.delete_artifact",
        "ai_storage.finish_artifact",
        "ai_storage.get_artifact",
        "ai_storage.list_artifacts",
        "ai_storage.list_uploads",
        "ai_storage.open_artifact",
        "ai_storage.put_artifact",
        "ai_storage.stage_artifact",
        "ai_storage.read_artifact",
        "ai_storage.read_chunks",
        "ai_storage.export_tenant",
        "ai_storage.import_tenant",
        "ai_storage.tenant_stats",
        "ai_storage.home",
    },
    "ai_storage_admin": {
        "ai_storage.apply_retention",
        "ai_storage.break_glass",
        "ai_storage.collect_evidence",
        "ai_storage.compliance_report",
        "ai_storage.drop_quota",
        "ai_storage.drop_retention",
        "ai_storage.erase_tenant",
        "ai_storage.erasure_certificate",
        "ai_storage.list_erasures",
        "ai_storage.list_quotas",
        "ai_storage.adopt_signing_key",
        "ai_storage.set_cells",
        "ai_storage.set_home",
        "ai_storage.list_cells",
        "ai_storage.list_homes",
        "ai_storage.hold_organisation",
        "ai_storage.release_organisation",
        "ai_storage.open_organisation",
        "ai_storage.digest_organisation",
        "ai_storage.list_rows",
        "ai_storage.read_rows",
        "ai_storage.adopt_tenant",
        "ai_storage.write_rows",
        "ai_storage.export_tenant_audit",
        "ai_storage.list_retention",
        "ai_storage.list_tenants",
        "ai_storage.metrics",
        "ai_storage.report_backup",
        "ai_storage.set_artifact_limit",
        "ai_storage.set_quota",
        "ai_storage.set_retention",
        "ai_storage.allow_external_sharing",
        "ai_storage.authorize_login",
        "ai_storage.create_signing_key",
        "ai_storage.list_signing_keys",
        "ai_storage.retire_signing_key",
        "ai_storage.deauthorize_login",
        "ai_storage.forbid_external_sharing",
        "ai_storage.list_authorizations",
        "ai_storage.renew_context_secret",
        "ai_storage.create_checkpoint",
        "ai_storage.seal_audit",
        "ai_storage.verify_all_audit",
        "ai_storage.list_external_sharing",
        "ai_storage.version",
    },
    "ai_storage_auditor": {
        "ai_storage.collect_evidence",
        "ai_storage.compliance_report",
        "ai_storage.erasure_certificate",
        "ai_storage.list_erasures",
        "ai_storage.list_quotas",
        "ai_storage.list_cells",
        "ai_storage.list_homes",
        "ai_storage.list_retention",
        "ai_storage.list_tenants",
        "ai_storage.metrics",
        "ai_storage.verify_all_audit",
        "ai_storage.version",
    },
    "ai_storage_sql": {
        "ai_storage.clear_tenant",
        "ai_storage.current_tenant",
        "ai_storage.set_tenant",
        "ai_storage.version",
        "ai_storage_private.report_models",
    },
}


@pytest.fixture
def catalog(database: Database) -> psycopg.Connection[Any]:
    return database.connect()


def column(connection: psycopg.Connection[Any], query: str) -> list[Any]:
    return [row[0] for row in connection.execute(query)]


def test_public_has_no_right_on_anything(catalog: psycopg.Connection[Any]) -> None:
    granted = column(
        catalog,
        f"""
        select p.oid::regprocedure::text
        from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
        where p.pronamespace in {OURS} and a.grantee = 0
        union all
        select c.oid::regclass::text
        from pg_class as c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as a
        where c.relnamespace in {OURS} and c.relkind in ('r', 'v', 'p', 'm', 'S') and a.grantee = 0
        union all
        select n.nspname from pg_namespace as n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
        where n.nspname like 'ai\\_storage%' and a.grantee = 0
        """,
    )
    assert granted == []


def test_new_functions_of_the_internal_roles_are_closed_to_public(catalog: psycopg.Connection[Any]) -> None:
    for role in INTERNAL_ROLES:
        with catalog.transaction(force_rollback=True):
            catalog.execute(f"set local role {role}")
            catalog.execute("create function ai_storage_private.probe() returns int language sql as 'select 1'")
            row = catalog.execute(
                "select has_function_privilege('stranger', 'ai_storage_private.probe()', 'execute')"
            ).fetchone()
            assert row == (False,), role


@pytest.mark.parametrize("role", EXECUTE)
def test_a_group_may_call_exactly_its_functions(catalog: psycopg.Connection[Any], role: str) -> None:
    callable_now = column(
        catalog,
        f"""
        select p.pronamespace::regnamespace || '.' || p.proname from pg_proc as p
        where p.pronamespace in {OURS} and has_function_privilege('{role}', p.oid, 'execute')
        """,
    )
    assert sorted(callable_now) == sorted(EXECUTE[role])


def test_no_group_but_reporting_reads_any_relation(catalog: psycopg.Connection[Any]) -> None:
    rights = "select, insert, update, delete, truncate, references, trigger"
    found = catalog.execute(
        f"""
        select r.rolname, c.oid::regclass::text
        from pg_class as c, pg_roles as r
        where c.relnamespace::regnamespace::text like 'ai\\_storage%' and c.relkind in ('r', 'v', 'p', 'm')
          and r.rolname in ('ai_storage_app', 'ai_storage_admin', 'ai_storage_auditor', 'ai_storage_sql', 'stranger')
          and (has_table_privilege(r.oid, c.oid, '{rights}') or has_any_column_privilege(r.oid, c.oid, 'select'))
        """
    ).fetchall()
    assert found == [("ai_storage_sql", "ai_storage.ai_progress_tenant")]
    assert catalog.execute(
        f"select has_table_privilege('ai_storage_sql', 'ai_storage.ai_progress_tenant', '{rights[8:]}')"
    ).fetchone() == (False,)


def test_only_the_owners_may_use_the_private_schema(catalog: psycopg.Connection[Any]) -> None:
    allowed = column(
        catalog,
        """
        select rolname from pg_roles
        where not rolsuper and rolname not like 'pg\\_%'
          and has_schema_privilege(oid, 'ai_storage_private', 'usage, create')
        """,
    )
    assert set(allowed) == INTERNAL_ROLES


def test_row_level_security_is_enabled_and_forced_on_every_table(catalog: psycopg.Connection[Any]) -> None:
    tables = catalog.execute(
        f"""
        select relname, relrowsecurity, relforcerowsecurity, pg_get_userbyid(relowner), relispartition
        from pg_class where relnamespace in {OURS} and relkind in ('r', 'p')
        """
    ).fetchall()
    assert len(tables) >= 7
    assert [row for row in tables if row[1:4] != (True, True, "ai_storage_owner")] == []
    assert column(catalog, f"select relname from pg_class where relnamespace in {OURS} and relkind = 'm'") == []


def test_the_internal_roles_are_bound_by_row_level_security_and_cannot_log_in(
    catalog: psycopg.Connection[Any],
) -> None:
    rows = catalog.execute(
        "select rolname, rolsuper, rolbypassrls, rolcanlogin, rolcreaterole, rolcreatedb, rolreplication "
        "from pg_roles where rolname like 'ai\\_storage\\_%'"
    ).fetchall()
    groups = {row[0] for row in rows if row[0] not in ("ai_storage_local",)}
    assert groups >= INTERNAL_ROLES | set(EXECUTE)
    assert [row for row in rows if row[0] in INTERNAL_ROLES | set(EXECUTE) and any(row[1:])] == []
    members = catalog.execute(
        "select member::regrole::text, roleid::regrole::text from pg_auth_members "
        "where roleid::regrole::text = any(%s)",
        (sorted(INTERNAL_ROLES),),
    ).fetchall()
    assert members == []


def test_definer_functions_are_the_listed_ones_and_pin_their_path(catalog: psycopg.Connection[Any]) -> None:
    rows = catalog.execute(
        f"""
        select pg_get_userbyid(proowner), pronamespace::regnamespace || '.' || proname, proconfig
        from pg_proc where pronamespace in {OURS} and prosecdef
        """
    ).fetchall()
    live: dict[str, set[str]] = {role: set() for role in DEFINERS}
    for owner, name, config in rows:
        live[owner].add(name)
        assert config[:2] == ["search_path=pg_catalog, pg_temp", "client_min_messages=notice"]
        assert {setting.split("=")[0].lower() for setting in config[2:]} <= BESIDES
    assert live == DEFINERS


def test_everything_has_a_comment(catalog: psycopg.Connection[Any]) -> None:
    silent = column(
        catalog,
        f"""
        select 'function ' || oid::regprocedure from pg_proc
        where pronamespace in {OURS} and obj_description(oid, 'pg_proc') is null
        union all
        select 'relation ' || oid::regclass from pg_class
        where relnamespace in {OURS} and relkind in ('r', 'v', 'p') and obj_description(oid, 'pg_class') is null
        union all
        select 'column ' || a.attrelid::regclass || '.' || a.attname
        from pg_attribute as a join pg_class as c on c.oid = a.attrelid
        where c.relnamespace in {OURS} and c.relkind in ('r', 'v', 'p') and a.attnum > 0 and not a.attisdropped
          and col_description(a.attrelid, a.attnum) is null
        union all
        select 'policy ' || polname from pg_policy as p join pg_class as c on c.oid = p.polrelid
        where c.relnamespace in {OURS} and obj_description(p.oid, 'pg_policy') is null
        union all
        select 'trigger ' || tgname from pg_trigger as t join pg_class as c on c.oid = t.tgrelid
        where c.relnamespace in {OURS} and not t.tgisinternal and obj_description(t.oid, 'pg_trigger') is null
        union all
        select 'schema ' || nspname from pg_namespace
        where nspname like 'ai\\_storage%' and obj_description(oid, 'pg_namespace') is null
        """,
    )
    assert silent == []


def test_comments_of_tenant_functions_name_their_errors(catalog: psycopg.Connection[Any]) -> None:
    rows = catalog.execute(
        "select proname, obj_description(oid, 'pg_proc') from pg_proc "
        "where pronamespace = 'ai_storage'::regnamespace and 'p_as' = any(proargnames)"
    ).fetchall()
    assert rows
    for name, comment in rows:
        assert re.search(r"Raises .*TN001 to TN005.*\.$", comment), name


def test_no_function_is_overloaded(catalog: psycopg.Connection[Any]) -> None:
    doubled = column(
        catalog,
        f"select proname from pg_proc where pronamespace in {OURS} group by pronamespace, proname having count(*) > 1",
    )
    assert doubled == []


def test_every_index_and_key_leads_with_the_tenant(catalog: psycopg.Connection[Any]) -> None:
    astray = catalog.execute(
        f"""
        select c.relname, i.relname
        from pg_index as x
        join pg_class as c on c.oid = x.indrelid
        join pg_class as i on i.oid = x.indexrelid
        left join pg_attribute as a on a.attrelid = c.oid and a.attnum = x.indkey[0]
        where c.relnamespace in {OURS} and a.attname is distinct from 'tenant_id'
        """
    ).fetchall()
    assert {table for table, index in astray if index != "audit_seal_checkpoint"} <= WITHOUT_TENANT
    # A foreign key without the tenant would let one tenant's row decide over another's.
    assert (
        column(
            catalog,
            f"""
        select conname from pg_constraint as k join pg_class as c on c.oid = k.conrelid
        where k.contype = 'f' and c.relnamespace in {OURS}
          and (select attname from pg_attribute where attrelid = c.oid and attnum = k.conkey[1]) <> 'tenant_id'
        """,
        )
        == []
    )


def test_policies_are_permissive_and_name_internal_roles_only(catalog: psycopg.Connection[Any]) -> None:
    rows = catalog.execute(
        f"""
        select polname, polpermissive, polroles::regrole[]::text[]
        from pg_policy as p join pg_class as c on c.oid = p.polrelid where c.relnamespace in {OURS}
        """
    ).fetchall()
    assert rows
    for name, permissive, roles in rows:
        assert permissive, name
        assert set(roles) <= INTERNAL_ROLES, name


def test_the_views_have_a_barrier(catalog: psycopg.Connection[Any]) -> None:
    rows = catalog.execute(
        f"select relname, pg_get_userbyid(relowner), reloptions from pg_class "
        f"where relnamespace in {OURS} and relkind = 'v'"
    ).fetchall()
    assert sorted(rows) == [
        ("ai_progress_tenant", "ai_storage_owner", ["security_barrier=true"]),
    ]


def test_there_is_no_sequence_whose_value_could_be_shown(catalog: psycopg.Connection[Any]) -> None:
    assert column(catalog, f"select relname from pg_class where relnamespace in {OURS} and relkind = 'S'") == [
        "refused_credential"  # counts refusals, for the operator alone
    ]


def test_every_error_is_in_the_registry_the_sql_and_the_classes() -> None:
    in_sql = set()
    for path in (ROOT / "sql").glob("*.sql"):
        in_sql |= set(re.findall(r"errcode = '(\w{5})'", path.read_text()))
    ours = (ROOT / "docs" / "errors.md").read_text().split("Errors of PostgreSQL itself")[0]
    registry = set(re.findall(r"^\| `(\w{5})` \|", ours, re.MULTILINE))
    # pydb.identity, when it is imported, has errors that are not of the database.
    classes = {cls.sqlstate for cls in errors.StorageError.__subclasses__() if cls.sqlstate}
    # What PostgreSQL raises in the same case stands among its errors.
    assert in_sql == registry | {"40001", "55P03"}
    # PostgreSQL's own codes stay psycopg's own classes.
    assert classes == registry - {"42704", "23505", "25000", "25006", "55000"}
    for code, name in re.findall(r"^\| `(\w{5})` \| `([\w.]+)` \|", ours, re.MULTILINE):
        module, _, name = name.rpartition(".")
        assert getattr(psycopg.errors if module else errors, name).sqlstate == code


def test_every_class_of_errors_of_the_package_is_in_the_registry() -> None:
    registry = (ROOT / "docs" / "errors.md").read_text()
    for path in (ROOT / "pydb").glob("*.py"):
        for name in re.findall(r"^class ([A-Z]\w*)\((?:\w*Error|Exception)\):", path.read_text(), re.MULTILINE):
            # The base of those with a code, and what only the command raises and prints itself.
            if name not in ("StorageError", "CommandError"):
                assert re.search(rf"`(\w+\.)?{name}`", registry), f"{path.name}: {name}"


def test_every_error_carries_a_hint_and_no_value_in_its_message() -> None:
    for path in (ROOT / "sql").glob("*.sql"):
        # A text may hold a semicolon or a quote.
        for block in re.findall(r"raise exception using((?:'(?:[^']|'')*'|[^';])*);", path.read_text()):
            assert "hint = " in block, block
            message = re.search(r"message = ('(?:[^']|'')*'(?: \|\| p_what)?),\n", block)
            assert message, block
            assert message[1] == message[1].lower()
