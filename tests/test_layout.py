"""What a parser can see: where each statement lives and how each function is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pglast
import pytest
from pglast import ast
from pglast.enums import (
    A_Expr_Kind,
    AlterTableType,
    ConstrType,
    FunctionParameterMode,
    ObjectType,
)
from pglast.visitors import Visitor

ROOT = Path(__file__).parent.parent
SQL = sorted((ROOT / "sql").glob("*.sql"))
MIGRATIONS = sorted((ROOT / "migrations").glob("*.sql"))

# Present state: what can be said again at any time.
IN_SQL = (
    ast.CreateFunctionStmt,
    ast.CreateTrigStmt,
    ast.ViewStmt,
    ast.CreatePolicyStmt,
    ast.CommentStmt,
    ast.GrantStmt,
    ast.VariableSetStmt,
    ast.DoStmt,
)
# History: what can be said once.
IN_MIGRATIONS = (
    ast.CreateStmt,
    ast.CreateSeqStmt,
    ast.IndexStmt,
    ast.AlterTableStmt,
    ast.CompositeTypeStmt,
    ast.InsertStmt,
    ast.DropStmt,
)

# The only functions that run with their owner's rights. Everything a caller can reach is listed by its owner.
DEFINERS = {
    "ai_storage_operator": {
        "ai_storage.authorize_login",
        "ai_storage.clear_tenant",
        "ai_storage.current_tenant",
        "ai_storage.deauthorize_login",
        "ai_storage.list_authorizations",
        "ai_storage.renew_context_secret",
        "ai_storage.create_checkpoint",
        "ai_storage.seal_audit",
        "ai_storage.verify_all_audit",
        "ai_storage_private.list_checkpoints",
        "ai_storage_private.record_event",
        "ai_storage_private.record_use",
        "ai_storage_private.render_seals",
        "ai_storage.set_tenant",
        "ai_storage.create_signing_key",
        "ai_storage.list_signing_keys",
        "ai_storage.retire_signing_key",
        "ai_storage.allow_external_sharing",
        "ai_storage.forbid_external_sharing",
        "ai_storage.list_external_sharing",
        "ai_storage_private.current_credential",
        "ai_storage_private.current_tenant_id",
        "ai_storage_private.enter",
        "ai_storage_private.enter_code_version",
        "ai_storage_private.list_covered_versions",
        "ai_storage_private.lend",
        "ai_storage_private.lent_ids",
        "ai_storage_private.lent_tenant_ids",
        "ai_storage.apply_retention",
        "ai_storage.break_glass",
        "ai_storage.collect_evidence",
        "ai_storage.compliance_report",
        "ai_storage.drop_retention",
        "ai_storage.erase_tenant",
        "ai_storage.erasure_certificate",
        "ai_storage.list_erasures",
        "ai_storage.list_retention",
        "ai_storage.list_tenants",
        "ai_storage.metrics",
        "ai_storage.report_backup",
        "ai_storage.set_retention",
        "ai_storage.set_artifact_limit",
        "ai_storage_private.artifact_limit",
        "ai_storage_private.check_hold",
        "ai_storage_private.pass_gate",
        "ai_storage_private.is_held",
        "ai_storage_private.count_use",
        "ai_storage.set_quota",
        "ai_storage.drop_quota",
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
        "ai_storage.home",
        "ai_storage_private.check_home",
        "ai_storage_private.compliance_status",
    },
    "ai_storage_owner": {
        "ai_storage.export_tenant",
        "ai_storage.import_tenant",
        "ai_storage.tenant_stats",
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
        "ai_storage_private.erase_content",
        "ai_storage_private.list_own_rows",
        "ai_storage_private.read_own_rows",
        "ai_storage_private.write_own_rows",
        "ai_storage_private.list_bundle",
        "ai_storage_private.keep_held",
        "ai_storage_private.count_bytes",
        "ai_storage_private.count_models",
        "ai_storage_private.measure_tenant",
        "ai_storage_private.sweep_uploads",
        "ai_storage_private.find_unlogged_artifact",
        "ai_storage_private.find_unlogged_row",
        "ai_storage_private.find_unlogged_model",
        "ai_storage_private.list_subjects",
        "ai_storage_private.lock_models",
        "ai_storage_private.sweep_versions",
        "ai_storage_private.report_models",
        "ai_storage.audit_proof",
        "ai_storage.audit_trail",
        "ai_storage.changes",
        "ai_storage.export_audit",
        "ai_storage.verify_audit",
        "ai_storage.delete_progress",
        "ai_storage.load_history",
        "ai_storage.load_progress",
        "ai_storage.promote_progress",
        "ai_storage.list_code_versions",
        "ai_storage.save_progress",
        "ai_storage.save_progress_batch",
        "ai_storage.has_permission",
        "ai_storage.share_model",
        "ai_storage_private.check_shared_write",
    },
    "ai_storage_sharing": {
        "ai_storage.decline_share",
        "ai_storage.list_received_shares",
        "ai_storage.list_shares",
        "ai_storage.revoke_share",
        "ai_storage.unshare_model",
        "ai_storage_private.has_grant",
        "ai_storage_private.hold_grant",
        "ai_storage_private.load_shared",
        "ai_storage_private.load_shared_history",
        "ai_storage_private.may_receive",
        "ai_storage_private.write_shares",
        "ai_storage_private.may_write",
        "ai_storage_private.may_share_with",
        "ai_storage_private.count_permitted",
        "ai_storage_private.write_shared",
        "ai_storage_private.count_received",
        "ai_storage_private.list_shared_artifacts",
        "ai_storage_private.open_shared_artifact",
        "ai_storage_private.read_shared_artifact",
        "ai_storage_private.read_shared_chunks",
        "ai_storage_private.erase_shares",
        "ai_storage_private.summarize_shares",
        "ai_storage_private.sweep_shares",
    },
}

OPTION_ORDER = ["language", "volatility", "strict", "security", "parallel", "cost", "rows", "set"]
# Tables that lie before or between tenants, which reach them only through functions that say whose rows they want.
WITHOUT_TENANT = {
    "tenant",
    "login_authorization",
    "context_secret",
    "signing_key",
    "model_share",
    "share_end",
    "share_decline",
    "external_sharing_permit",
    "audit_checkpoint",
    "refusal_report",
    "refused_credential",
    "retention_rule",
    "retention_gate",
    "quota",
    "quota_use",
    "cell",
    "home",
    "erasure_certificate",
    "artifact_limit",
}
# They chain what belongs to all tenants, or erase or count it.
ACROSS_TENANTS = {
    "ai_storage.apply_retention",
    "ai_storage.collect_evidence",
    "ai_storage.erase_tenant",
    "ai_storage.create_checkpoint",
    "ai_storage.metrics",
    "ai_storage.seal_audit",
    "ai_storage.verify_all_audit",
    "ai_storage_private.collect_events",
    "ai_storage_private.render_seals",
    "ai_storage_private.seal_events",
}


def statements(path: Path) -> Iterator[tuple[ast.Node, str]]:
    text = path.read_text("utf-8")
    for raw in pglast.parse_sql(text):
        # pglast counts bytes
        start, end = raw.stmt_location, raw.stmt_location + (raw.stmt_len or len(text.encode()))
        yield raw.stmt, text.encode()[start:end].decode().strip()


def dotted(names: tuple[ast.String, ...]) -> str:
    return ".".join(name.sval for name in names)


def functions() -> list[tuple[Path, str, ast.CreateFunctionStmt, str]]:
    found = []
    for path in SQL:
        role = ""
        for statement, _ in statements(path):
            if isinstance(statement, ast.VariableSetStmt):
                role = statement.args[0].val.sval
            if isinstance(statement, ast.CreateFunctionStmt):
                found.append((path, dotted(statement.funcname), statement, role))
    return found


FUNCTIONS = functions()
function_ids = [name for _, name, _, _ in FUNCTIONS]


def options(function: ast.CreateFunctionStmt) -> list[tuple[str, object]]:
    return [(option.defname, option.arg) for option in function.options if option.defname != "as"]


def body(function: ast.CreateFunctionStmt) -> str:
    return next(option.arg[0].sval for option in function.options if option.defname == "as")


def is_constraint(statement: ast.Node) -> bool:
    return isinstance(statement, ast.CreateTrigStmt) and bool(statement.isconstraint)


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.name)
def test_sql_holds_only_what_can_be_applied_again(path: Path) -> None:
    for statement, text in statements(path):
        if isinstance(statement, ast.DropStmt):
            # Neither can be replaced, a constraint trigger at least, so it is dropped right before it is made.
            assert statement.removeType in (ObjectType.OBJECT_POLICY, ObjectType.OBJECT_TRIGGER), text
            assert statement.missing_ok, text
            continue
        if isinstance(statement, ast.AlterTableStmt):
            assert {step.subtype for step in statement.cmds} == {AlterTableType.AT_EnableAlwaysTrig}, text
            continue
        assert isinstance(statement, IN_SQL), f"{path.name}: this belongs in migrations/:\n{text}"
        if isinstance(statement, (ast.CreateFunctionStmt, ast.CreateTrigStmt, ast.ViewStmt)):
            assert statement.replace or is_constraint(statement), f"{path.name}: say create or replace:\n{text[:80]}"


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.name)
def test_migrations_hold_only_what_can_be_applied_once(path: Path) -> None:
    for statement, text in statements(path):
        assert isinstance(statement, IN_MIGRATIONS), f"{path.name}: this belongs in sql/:\n{text}"


def test_every_policy_and_constraint_trigger_is_dropped_right_before_it_is_created() -> None:
    for path in SQL:
        before = None
        for statement, _ in statements(path):
            if isinstance(statement, ast.CreatePolicyStmt) or is_constraint(statement):
                name = statement.policy_name if isinstance(statement, ast.CreatePolicyStmt) else statement.trigname
                assert isinstance(before, ast.DropStmt)
                assert before.objects[0][-1].sval == name
            elif isinstance(before, ast.DropStmt):
                raise AssertionError(f"{path.name}: dropped, and not created again")
            before = statement


@pytest.mark.parametrize("path", [*SQL, *MIGRATIONS, ROOT / "deploy" / "roles.sql"], ids=lambda path: path.name)
def test_files_open_with_a_header_and_keep_to_100_columns(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    header = next(index for index, line in enumerate(lines) if not line.startswith("--"))
    assert 1 <= header <= 15
    assert [line for line in lines if len(line) > 100] == []
    assert [line for line in lines if line != line.rstrip() or "\t" in line] == []


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.name)
def test_no_text_is_read_otherwise_when_a_session_says_so(path: Path) -> None:
    # A function's body is read when a session first calls it. With standard_conforming_strings off, a backslash in a
    # plain text escapes what follows: '\.' would be '.' and match what it must not. E'..' is always the same.
    bodies = re.findall(r"as (\$\w+\$)(.*?)\1", path.read_text("utf-8"), re.DOTALL)
    plain = [
        text
        for _, body in bodies
        for text in re.findall(r"E?'(?:[^']|'')*'", re.sub(r"--.*", "", body))
        if "\\" in text and not text.startswith("E")
    ]
    assert plain == []


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.name)
def test_no_function_takes_time_in_the_square_of_a_callers_document(path: Path) -> None:
    # jsonb_path_query() moves all that is left at each row: a mebibyte of numbers took it 8 s, and one call a core.
    # jsonb_path_query_array() does not.
    assert not re.search(r"\bjsonb_path_query\s*\(", re.sub(r"--.*", "", path.read_text("utf-8")))


@pytest.mark.parametrize("path", SQL, ids=lambda path: path.name)
def test_sql_files_say_first_whose_objects_they_make(path: Path) -> None:
    first = next(statements(path))[0]
    assert isinstance(first, ast.VariableSetStmt)
    assert (first.name, first.is_local) == ("role", True)


# Settings that a function may make for its own queries besides.
BESIDES = {"enable_nestloop", "plan_cache_mode", "lock_timeout"}
# Settings that say how values look as texts: for functions that put them into texts or documents.
BESIDES |= {"datestyle", "extra_float_digits", "intervalstyle", "quote_all_identifiers", "timezone"}


@pytest.mark.parametrize(("path", "name", "function", "role"), FUNCTIONS, ids=function_ids)
class TestFunction:
    def test_names_its_options_in_one_order(
        self, path: Path, name: str, function: ast.CreateFunctionStmt, role: str
    ) -> None:
        names = [option for option, _ in options(function)]
        assert names == sorted(names, key=OPTION_ORDER.index)
        assert names[:2] == ["language", "volatility"], "the volatility is always said"

    def test_runs_with_its_owners_rights_only_when_listed(
        self, path: Path, name: str, function: ast.CreateFunctionStmt, role: str
    ) -> None:
        definer = ("security", True) in [(key, getattr(arg, "boolval", arg)) for key, arg in options(function)]
        assert definer == (name in DEFINERS[role])

    def test_pins_the_search_path_when_a_caller_can_reach_it(
        self, path: Path, name: str, function: ast.CreateFunctionStmt, role: str
    ) -> None:
        if name.startswith("ai_storage.") or name in DEFINERS[role]:
            pinned = [arg for key, arg in options(function) if key == "set"]
            # pg_temp comes last by name: left out, it would come first, and a temporary table could stand
            # for any type named here.
            expected = [("search_path", ["pg_catalog", "pg_temp"])]
            if name in DEFINERS[role]:
                # A caller who asks for messages of level LOG would be shown the plans of our queries, and with them
                # what the planner knows of everybody's rows.
                expected.append(("client_min_messages", ["notice"]))
            settings = [(arg.name, [value.val.sval for value in arg.args]) for arg in pinned]
            assert settings[: len(expected)] == expected
            assert {setting for setting, _ in settings[len(expected) :]} <= BESIDES

    def test_is_written_with_prefixed_parameters_and_a_credential_last(
        self, path: Path, name: str, function: ast.CreateFunctionStmt, role: str
    ) -> None:
        given = [
            parameter
            for parameter in function.parameters or ()
            if parameter.mode not in (FunctionParameterMode.FUNC_PARAM_TABLE, FunctionParameterMode.FUNC_PARAM_OUT)
        ]
        assert all(parameter.name.startswith("p_") for parameter in given)
        if name.startswith("ai_storage.") and name in DEFINERS["ai_storage_owner"]:
            assert given[-1].name == "p_as"
            assert given[-1].defexpr is not None

    def test_parses_inside_and_out(self, path: Path, name: str, function: ast.CreateFunctionStmt, role: str) -> None:
        language = dict(options(function))["language"].sval
        text = next(text for statement, text in statements(path) if statement == function)
        if language == "plpgsql":
            plpgsql(text)
        else:
            pglast.parse_sql(body(function))

    def test_names_its_variables_with_v(
        self, path: Path, name: str, function: ast.CreateFunctionStmt, role: str
    ) -> None:
        declared = re.search(r"^\s*declare\n(.*?)^begin", body(function), re.DOTALL | re.MULTILINE)
        for line in declared.group(1).splitlines() if declared else []:
            if re.match(r"    \w", line):
                assert line.startswith("    v_"), line


class _Tenantless(Visitor):
    """Collects every statement inside a PL/pgSQL body that touches a tenant's table without naming the tenant."""

    def __init__(self) -> None:
        self.tables: list[str] = []

    def _check(self, sources: Iterable[ast.Node], where: object) -> None:
        conditions = [where]
        relations = []
        pending = list(sources)
        while pending:
            source = pending.pop()
            if isinstance(source, ast.JoinExpr):
                pending += [source.larg, source.rarg]
                conditions.append(source.quals)
            elif isinstance(source, ast.RangeVar):
                relations.append(source)
        for relation in relations:
            if relation.schemaname != "ai_storage_private" or relation.relname in WITHOUT_TENANT:
                continue
            alias = relation.alias.aliasname if relation.alias else relation.relname
            if not any(_compares_tenant(condition, alias) for condition in conditions):
                self.tables.append(relation.relname)

    def visit_SelectStmt(self, ancestors: object, node: ast.SelectStmt) -> None:
        self._check(node.fromClause or (), node.whereClause)

    def visit_UpdateStmt(self, ancestors: object, node: ast.UpdateStmt) -> None:
        self._check([node.relation, *(node.fromClause or ())], node.whereClause)

    def visit_DeleteStmt(self, ancestors: object, node: ast.DeleteStmt) -> None:
        self._check([node.relation, *(node.usingClause or ())], node.whereClause)


def _compares_tenant(where: object, alias: str) -> bool:
    """Whether one of the ANDed conditions is alias.tenant_id = something."""
    if isinstance(where, ast.BoolExpr):
        return any(_compares_tenant(part, alias) for part in where.args)
    return (
        isinstance(where, ast.A_Expr)
        and where.kind in (A_Expr_Kind.AEXPR_OP, A_Expr_Kind.AEXPR_OP_ANY)
        and where.name[-1].sval == "="
        and isinstance(where.lexpr, ast.ColumnRef)
        and [part.sval for part in where.lexpr.fields] == [alias, "tenant_id"]
    )


def plpgsql(text: str) -> object:
    """Parse a PL/pgSQL function. pglast knows no types of ours, so they become records for it."""
    text = re.sub(r"\b([pv]_\w+\s+(?:constant\s+)?)ai_storage_private\.\w+(\[\])", r"\1text\2", text)
    text = re.sub(r"\b([pv]_\w+\s+(?:constant\s+)?)ai_storage_private\.\w+", r"\1record", text)
    text = re.sub(r"^returns (setof )?ai_storage_private\.\w+", r"returns \1record", text, flags=re.MULTILINE)
    return pglast.parse_plpgsql(text)


def embedded_statements(text: str) -> Iterator[str]:
    """The SQL statements of a PL/pgSQL function, as its compiler sees them."""

    def walk(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "PLpgSQL_expr":
                    query = value["query"]
                    # Mode 0 is a statement. Others are an expression, or an assignment of one.
                    mode = value.get("parseMode", 0)
                    yield query if mode == 0 else "select " + re.sub(r"^\s*[\w.\[\](), /+]+?\s*:=\s", "", query)
                else:
                    yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    yield from walk(plpgsql(text))


@pytest.mark.parametrize(("path", "name", "function", "role"), FUNCTIONS, ids=function_ids)
def test_queries_say_whose_rows_they_want(path: Path, name: str, function: ast.CreateFunctionStmt, role: str) -> None:
    # Row level security hides the rows of others all the same: it is the second wall, and this is the first.
    if dict(options(function))["language"].sval != "plpgsql" or name in ACROSS_TENANTS:
        return
    text = next(text for statement, text in statements(path) if statement == function)
    for query in embedded_statements(text):
        tenantless = _Tenantless()
        tenantless(pglast.parse_sql(query))
        assert tenantless.tables == [], f"name the tenant_id in:\n{query}"


def test_policies_are_permissive_and_for_roles_that_cannot_log_in() -> None:
    for path in SQL:
        for statement, text in statements(path):
            if isinstance(statement, ast.CreatePolicyStmt):
                assert statement.permissive, text
                assert {role.rolename for role in statement.roles} <= {
                    "ai_storage_owner",
                    "ai_storage_sharing",
                    "ai_storage_operator",
                }, "no policy names a role that can log in"


def test_keys_and_indexes_of_tenant_tables_lead_with_the_tenant() -> None:
    for path in MIGRATIONS:
        for statement, text in statements(path):
            if isinstance(statement, ast.CreateStmt) and statement.relation.relname not in WITHOUT_TENANT:
                for element in statement.tableElts:
                    if isinstance(element, ast.Constraint) and element.contype in (
                        ConstrType.CONSTR_PRIMARY,
                        ConstrType.CONSTR_UNIQUE,
                        ConstrType.CONSTR_FOREIGN,
                    ):
                        keys = element.keys or element.fk_attrs
                        assert keys[0].sval == "tenant_id", text
            if (
                isinstance(statement, ast.IndexStmt)
                and statement.relation.relname not in WITHOUT_TENANT
                and statement.idxname != "audit_seal_checkpoint"  # for the operator alone
            ):
                assert statement.indexParams[0].name == "tenant_id", text


def test_constraints_and_indexes_are_named_by_us() -> None:
    for path in MIGRATIONS:
        for statement, text in statements(path):
            if isinstance(statement, ast.CreateStmt):
                for element in statement.tableElts:
                    if isinstance(element, ast.Constraint):
                        assert element.conname.startswith(statement.relation.relname), text
            if isinstance(statement, ast.IndexStmt):
                assert statement.idxname, text


def test_tables_are_born_closed() -> None:
    for path in MIGRATIONS:
        made = [s.relation.relname for s, _ in statements(path) if isinstance(s, ast.CreateStmt)]
        closed = re.findall(
            r"alter table ai_storage_private\.(\w+) (enable|force) row level security", path.read_text()
        )
        for table in made:
            assert (table, "enable") in closed
            assert (table, "force") in closed


def code(path: Path) -> str:
    """A file without its comments and without the comments it makes."""
    text = re.sub(r"--[^\n]*", "", path.read_text())
    return re.sub(r"comment on [^;]*;", "", text)


def test_dynamic_sql_only_quotes_identifiers_and_never_tenant_text() -> None:
    dynamic = re.compile(r"\bexecute\s+(?!function|on)(.*?);", re.DOTALL)
    found = {" ".join(match.split()) for path in SQL for match in dynamic.findall(code(path))}
    assert found == {
        "format('grant ai_storage_app to %I', p_login) || v_inherits",
        "evidence into status, result",  # the queries of list_controls()
        # in 90_grants.sql, over the names in the catalog
        "format('set local role %s', v_right.owner::regrole)",
        "format('revoke all on %s from %s', v_right.target, v_right.grantee)",
        # in 62_move.sql, over tables of a list and their columns
        "format( 'select to_jsonb(r) ' 'from ai_storage_private.%1$I as r ' "
        "'join jsonb_populate_recordset(null::ai_storage_private.%1$I, $2) as k using (%2$s) ' "
        "'where r.tenant_id = $1', p_table_name, "
        "ai_storage_private.name_columns(p_table_name, p_of_key => true) ) using p_tenant_id, p_row_ids",
        "format( 'delete from ai_storage_private.%1$I ' 'where tenant_id = $1 and (%2$s) in (' "
        "'select %2$s from jsonb_populate_recordset(null::ai_storage_private.%1$I, $2))', p_table_name, v_key ) "
        "using p_tenant_id, p_gone",
        "format( 'insert into ai_storage_private.%1$I ' "
        "'select * from jsonb_populate_recordset(null::ai_storage_private.%1$I, $1) ' "
        "'on conflict (%2$s) do update set (%3$s) = row(excluded.*)', p_table_name, v_key, v_columns ) using p_rows",
    }


class _Settings(Visitor):
    """Collects how settings are written."""

    def __init__(self) -> None:
        self.written: list[object] = []

    def visit_FuncCall(self, ancestors: object, node: ast.FuncCall) -> None:
        if node.funcname[-1].sval == "set_config":
            self.written.append(node.args[-1])

    def visit_VariableSetStmt(self, ancestors: object, node: ast.VariableSetStmt) -> None:
        self.written.append(node)


def test_no_function_writes_a_setting_that_outlives_the_transaction() -> None:
    # Custom settings are in no list a test could compare, so what stays of them in a pooled session is found here.
    settings = _Settings()
    for path, _, function, _ in FUNCTIONS:
        language = dict(options(function))["language"].sval
        text = next(text for statement, text in statements(path) if statement == function)
        for query in embedded_statements(text) if language == "plpgsql" else [body(function)]:
            settings(pglast.parse_sql(query))
    calls = [local for local in settings.written if not isinstance(local, ast.VariableSetStmt)]
    assert len(calls) == sum(code(path).count("set_config(") for path in SQL) > 5
    for local in settings.written:
        if isinstance(local, ast.VariableSetStmt):
            assert local.is_local, local
        else:
            assert isinstance(local, ast.A_Const), local
            assert local.val.boolval is True


def test_the_concern_has_one_name_in_every_folder() -> None:
    for path in SQL:
        concern = path.stem.split("_", 1)[1]
        if concern not in ("version", "grants"):
            assert (ROOT / "tests" / f"test_{concern}.py").exists()
