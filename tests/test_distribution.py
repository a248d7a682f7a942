"""One database on many servers: the plan anywhere, and everything else on a cluster (`make test-citus`)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pglast
import psycopg
import pytest

from pydb import migrate
from pydb.migrate import Schema
from tests.citus import Node
from tests.conftest import Database
from tests.helpers import ACME, ACME_2, BETA, call, names, refused, save, versions

Connection = psycopg.Connection[Any]


@pytest.fixture
def cluster(database: Database) -> Database:
    """A distributed database."""
    if database.server.nodes is None:
        pytest.skip("needs a cluster: make test-citus")
    return database


def workers(cluster: Database) -> tuple[Node, ...]:
    assert cluster.server.nodes is not None
    return cluster.server.nodes.workers


def secrets(cluster: Database) -> set[str]:
    """What the nodes have to sign and to verify contexts with; one text if all have the same."""
    return {
        str(node.query("select inner_key, outer_key from ai_storage_private.context_secret", cluster.name))
        for node in cluster.server.nodes.all()
    }


def share(connection: Connection, name: str, target: str, **arguments: Any) -> None:
    levels = dict(
        zip(("org_id", "server_id", "project_id", "environment", "code_hash"), target.split(":"), strict=True)
    )
    call(
        connection,
        "share_model",
        model_name=name,
        targets=[levels],
        permissions="{read,write}",
        as_=ACME,
        **arguments,
    )


def context_of(connection: Connection, setting: str = "app.node_context") -> str:
    row = connection.execute("select current_setting(%s, true)", (setting,)).fetchone()
    return str(row[0]) if row else ""


# The plan ----------------------------------------------------------------------------------------


@pytest.mark.sql
def test_the_plan_says_of_every_table_what_becomes_of_it(database: Database) -> None:
    connection = database.connect()
    planned = [row.table_name for row in call(connection, "distribution_plan")]
    there = connection.execute(
        "select relname from pg_class where relnamespace = 'ai_storage_private'::regnamespace and relkind in ('r', 'p')"
    ).fetchall()
    assert len(planned) == len(set(planned))
    assert set(planned) == {row[0] for row in there}


@pytest.mark.sql
def test_what_is_distributed_has_the_tenant_first_in_every_key(database: Database) -> None:
    connection = database.connect()
    distributed = [row.table_name for row in call(connection, "distribution_plan") if row.kind == "distributed"]
    assert "ai_progress_tenant" in distributed
    keys = connection.execute(
        "select c.relname, a.attname from pg_index as i join pg_class as c on c.oid = i.indrelid "
        "join pg_attribute as a on a.attrelid = c.oid and a.attnum = i.indkey[0] "
        "where i.indisunique and c.relname = any (%s) and c.relnamespace = 'ai_storage_private'::regnamespace",
        (distributed,),
    ).fetchall()
    assert {key[0] for key in keys} == set(distributed)
    assert {key[1] for key in keys} == {"tenant_id"}


@pytest.mark.one_server("the database is distributed already")
def test_a_database_without_citus_is_not_distributed(database: Database) -> None:
    with refused("55000"):
        call(database.connect(), "distribute")


def test_only_a_superuser_distributes(database: Database) -> None:
    connection = database.connect()
    with connection.transaction(), refused("42501"):
        connection.execute("set local role ai_storage_admin")
        call(connection, "distribute")


# What the nodes have -----------------------------------------------------------------------------


def test_tenants_lie_apart_each_with_all_it_has_on_one_node(cluster: Database) -> None:
    app = cluster.connect("app")
    for code in range(12):
        save(app, "m", as_=f"acme:s1:p1:production:c{code}")
    placed = (
        cluster.connect()
        .execute(
            "select t.tenant_id, array_agg(distinct s.nodeport) from ai_storage_private.tenant as t "
            "cross join unnest(array['ai_progress_tenant', 'progress_version', 'model_artifact', 'node_event']) as n "
            "join citus_shards as s on s.table_name = ('ai_storage_private.' || n)::regclass "
            "and s.shardid = get_shard_id_for_distribution_column(s.table_name, t.tenant_id) group by 1"
        )
        .fetchall()
    )
    assert len(placed) == 12
    assert all(len(ports) == 1 for _, ports in placed)
    assert {ports[0] for _, ports in placed} == {worker.port for worker in workers(cluster)}


def test_every_shard_has_row_level_security_and_the_policies(cluster: Database) -> None:
    for worker in workers(cluster):
        shards = worker.query(
            "select c.relname, c.relrowsecurity and c.relforcerowsecurity, "
            "exists (select from pg_policy as p where p.polrelid = c.oid), c.relowner::regrole::text, "
            "c.relacl::text like '%app%' "
            "from pg_class as c where c.relnamespace = 'ai_storage_private'::regnamespace and c.relkind = 'r' "
            "and c.relname ~ '_[0-9]+$'",
            cluster.name,
        )
        assert shards
        assert {shard[1:] for shard in shards} <= {
            (True, True, "ai_storage_owner", None),
            (True, True, "ai_storage_owner", False),
        }


def test_nodes_have_only_what_policies_and_triggers_run_and_it_is_closed(cluster: Database) -> None:
    for worker in workers(cluster):
        functions = worker.query(
            "select p.proname, has_function_privilege('app', p.oid, 'execute') from pg_proc as p "
            "where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace)",
            cluster.name,
        )
        assert ("verified_context", False) in functions
        assert not [name for name, open_ in functions if open_]
        assert not {"save_progress", "authorize_login", "enter", "lend", "send_context"} & {row[0] for row in functions}


def test_nodes_share_the_secret_and_no_application_reads_it(cluster: Database) -> None:
    assert len(secrets(cluster)) == 1
    for worker in workers(cluster):
        with psycopg.connect(worker.dsn(cluster.name, "app")) as attacker, refused("42501", hint=False):
            attacker.execute("select from ai_storage_private.context_secret")


def test_to_distribute_again_changes_nothing(cluster: Database) -> None:
    app = cluster.connect("app")
    save(app, "m", as_=ACME)
    call(cluster.connect(), "distribute")
    assert names(app, as_=ACME) == ["m"]
    save(app, "m", as_=ACME)
    assert versions(app, "m", as_=ACME) == [2, 1]


# A migration -------------------------------------------------------------------------------------


def test_statements_of_our_files_are_told_apart() -> None:
    for path, text in ((path, Schema().read(path)) for path in Schema().files):
        found = [match[0] for match in migrate._STATEMENT.finditer(text)]
        assert "".join(found) == text.rstrip(), path
        assert [len(pglast.parse_sql(statement)) for statement in found] == [1] * len(found)
        for statement in found:
            kind = type(pglast.parse_sql(statement)[0].stmt).__name__
            on_tables = kind in ("CreatePolicyStmt", "CreateTrigStmt") or (
                kind == "DropStmt" and re.search("drop (policy|trigger)", statement) is not None
            )
            assert (migrate._ON_TABLES.search(statement) is not None) is on_tables, statement


def test_a_migration_reaches_the_nodes_with_the_next_call_of_distribute(cluster: Database, tmp_path: Path) -> None:
    for folder in ("migrations", "sql", "deploy"):
        shutil.copytree(Schema().root / folder, tmp_path / folder)
    changed = tmp_path / "sql" / "10_context.sql"
    changed.write_text(changed.read_text("utf-8").replace("this node does not know", "this server does not know"))
    app = cluster.connect("app")
    save(app, "m", as_=ACME)
    assert "sql/10_context.sql" in migrate.migrate(cluster.dsn(), schema=Schema(tmp_path))
    call(cluster.connect(), "distribute")
    for worker in workers(cluster):
        assert worker.query(
            "select prosrc like '%this server does not%' from pg_proc where proname = 'verified_context'", cluster.name
        ) == [(True,)]
    test_nodes_have_only_what_policies_and_triggers_run_and_it_is_closed(cluster)
    test_every_shard_has_row_level_security_and_the_policies(cluster)
    assert save(app, "m", as_=ACME).version == 2
    assert names(app, as_=BETA) == []


def test_a_migration_may_add_a_function_that_a_policy_runs(cluster: Database, tmp_path: Path) -> None:
    for folder in ("migrations", "sql", "deploy"):
        shutil.copytree(Schema().root / folder, tmp_path / folder)

    def change(file: str, change: Callable[[str], str]) -> None:
        path = tmp_path / "sql" / file
        path.write_text(change(path.read_text("utf-8")))

    function = "create or replace function ai_storage_private.is_shown(p_name text) returns boolean"
    change(
        "10_context.sql", lambda text: f"{text}\n{function} language sql stable as $fn$ select p_name <> 'b'; $fn$;\n"
    )
    change(
        "20_progress.sql",
        lambda text: re.sub(
            "(tenant_keeps_its_models on ai_storage_private.ai_progress_tenant[^;]*using \\()",
            "\\1ai_storage_private.is_shown(model_name) and ",
            text,
        ),
    )
    change("60_distribution.sql", lambda text: text.replace("'forget_model()',", "'forget_model()', 'is_shown(text)',"))
    migrate.migrate(cluster.dsn(), schema=Schema(tmp_path))
    call(cluster.connect(), "distribute")
    app = cluster.connect("app")
    save(app, "a", as_=ACME)
    save(app, "b", as_=ACME)
    assert names(app, as_=ACME) == ["a"]
    test_nodes_have_only_what_policies_and_triggers_run_and_it_is_closed(cluster)


# A full database ---------------------------------------------------------------------------------


def test_what_was_there_before_is_there_afterwards(empty_database: Database) -> None:
    from tests.conftest import install

    if empty_database.server.nodes is None:
        pytest.skip("needs a cluster: make test-citus")
    install(empty_database.dsn())
    app = empty_database.connect("app")
    for key in (ACME, ACME_2, BETA):
        for mse in (3.0, 2.0, 1.0):
            save(app, "m", mse, as_=key)
    admin = empty_database.connect()
    call(admin, "seal_audit")
    call(admin, "distribute")
    # Also in the session that was open.
    for key in (ACME, ACME_2, BETA):
        assert versions(app, "m", as_=key) == [3, 2, 1]
        save(app, "m", as_=key)
        assert versions(app, "m", as_=key) == [4, 3, 2, 1]


# Calls -------------------------------------------------------------------------------------------


def test_a_call_outside_a_transaction_block_reads_what_it_wrote(cluster: Database) -> None:
    app = cluster.connect("app")
    save(app, "m", 0.5, as_=ACME)
    (row,) = call(app, "load_progress", as_=ACME)
    assert row.mse == 0.5
    assert names(app, as_=ACME_2) == []


def shard_of(admin: Connection, tenant: str) -> int:
    row = admin.execute(
        "select get_shard_id_for_distribution_column('ai_storage_private.idempotency_key', t.tenant_id) "
        "from ai_storage_private.tenant as t where t.isolation_key = %s",
        (tenant,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_one_call_keeps_a_key_and_writes_a_shared_model_in_one_shard(cluster: Database) -> None:
    app, admin = cluster.connect("app"), cluster.connect()
    save(app, "m", as_=ACME)
    # With 8 shards one of so many lies in ACME's, unless luck is worse than 1 to 200,000.
    for code in range(96):
        neighbour = f"acme:s1:p1:production:n{code}"
        save(app, "mine", as_=neighbour)
        if shard_of(admin, neighbour) == shard_of(admin, ACME):
            break
    else:
        pytest.fail("no neighbour in 96")
    share(app, "m", neighbour)
    request = {"model_name": "m", "mse": 0.5, "idempotency_key": "k", "owner": ACME}
    (first,) = call(app, "save_progress", **request, as_=neighbour)
    assert first.version == 2
    assert call(app, "save_progress", **request, as_=neighbour) == [first]
    with refused("TN103"):
        call(app, "save_progress", **{**request, "mse": 0.6}, as_=neighbour)
    assert versions(app, "m", as_=ACME) == [2, 1]
    with app.transaction():
        (second,) = call(app, "save_progress", **{**request, "idempotency_key": "k2"}, as_=neighbour)
    assert second.version == 3
    kept = admin.execute(
        "select t.isolation_key, k.version from ai_storage_private.idempotency_key as k "
        "join ai_storage_private.tenant as t using (tenant_id) order by k.version"
    ).fetchall()
    assert kept == [(neighbour, 2), (neighbour, 3)]
    actions = {event.action for event in call(app, "audit_trail", as_=neighbour)}
    assert actions == {"insert tenant", "save model", "write model"}


def test_the_log_names_the_application_login(cluster: Database) -> None:
    app = cluster.connect("app", application_name="trainer")
    save(app, "m", as_=ACME)
    events = call(app, "audit_trail", as_=ACME)
    saved = [event for event in events if event.action == "save model"]
    assert [(event.login, event.credential, event.detail["application"]) for event in saved] == [
        ("app", "key", "trainer")
    ]


def test_what_a_tenant_asks_is_asked_of_its_node_alone(cluster: Database) -> None:
    app, admin = cluster.connect("app"), cluster.connect()
    save(app, "m", as_=ACME)
    save(app, "m", as_=BETA)
    call(admin, "seal_audit")
    call(admin, "create_checkpoint")
    save(app, "m", as_=ACME)

    def asked_of_many() -> int:
        query = "select query_execution_multi_shard from citus_stat_counters where name = current_database()"
        ((count,),) = admin.execute(query).fetchall()
        return int(count)

    before = asked_of_many()
    for function in ("load_progress", "audit_trail", "verify_audit", "export_tenant", "tenant_stats"):
        assert call(app, function, as_=ACME)
        assert asked_of_many() == before, function
    # The path of a seal to its checkpoint leads through the seals of all.
    call(app, "export_audit", as_=ACME)
    assert asked_of_many() == before + 1


# The attacker ------------------------------------------------------------------------------------


def test_an_application_login_reaches_nothing_on_a_worker(cluster: Database) -> None:
    save(cluster.connect("app"), "canary", as_=ACME)
    ((at_home,),) = cluster.connect().execute(
        "select s.nodeport from ai_storage_private.tenant as t join citus_shards as s "
        "on s.table_name = 'ai_storage_private.ai_progress_tenant'::regclass "
        "and s.shardid = get_shard_id_for_distribution_column(s.table_name, t.tenant_id)"
    )
    for worker in workers(cluster):
        with psycopg.connect(worker.dsn(cluster.name, "app"), autocommit=True) as attacker:
            shards = worker.query(
                "select c.oid::regclass::text from pg_class as c "
                "where c.relnamespace = 'ai_storage_private'::regnamespace and c.relkind = 'r'",
                cluster.name,
            )
            for (shard,) in shards:
                with refused("42501", hint=False):
                    attacker.execute(f"select * from {shard}")
            for function in ("current_tenant_id()", "verified_context()", "lent_ids()"):
                with refused("42501", hint=False):
                    attacker.execute(f"select ai_storage_private.{function}")
            for role in ("ai_storage_owner", "ai_storage_sharing", "ai_storage_operator"):
                with refused("42501", hint=False):
                    attacker.execute(f"set role {role}")
            worker.execute("analyze", dbname=cluster.name)
            statistics = "select * from pg_stats where tablename like 'ai_progress_tenant_%'"
            assert (worker.query(statistics, cluster.name) != []) is (worker.port == at_home)
            attacker.execute("set citus.override_table_visibility = off")
            assert attacker.execute(statistics).fetchall() == []


def test_a_forged_context_shows_nothing(cluster: Database) -> None:
    app = cluster.connect("app")
    save(app, "canary", as_=BETA)
    attacker = cluster.connect("acme_app")
    save(attacker, "mine", as_=ACME)
    with app.transaction():
        call(app, "load_progress", as_=BETA)
        stolen, signed = context_of(app), context_of(app, "app.tenant_context")
    assert BETA in stolen
    for propagate in ("local", "none"):
        for setting in ("app.node_context", "app.tenant_context"):
            for value in (stolen, signed):
                with attacker.transaction():
                    attacker.execute(f"set local citus.propagate_set_commands = '{propagate}'")
                    call(attacker, "set_tenant", credential=ACME)
                    attacker.execute(f"set local {setting} = '{value}'")
                    found, sqlstate = [], "TN001"
                    try:
                        with attacker.transaction():
                            found = names(attacker)
                    except psycopg.Error as error:
                        sqlstate = error.sqlstate
                    assert sqlstate == "TN001"
                    assert "canary" not in found
    # Nor on a shard's worker, as whoever is connected there.
    for worker in workers(cluster):
        with psycopg.connect(worker.dsn(cluster.name, "app"), autocommit=True) as direct:
            direct.execute(f"set app.node_context = '{stolen}'")
            with refused("42501", hint=False):
                direct.execute("select * from ai_storage_private.ai_progress_tenant")


def test_a_context_that_nodes_were_sent_is_worth_nothing_in_another_transaction(cluster: Database) -> None:
    save(cluster.connect("app"), "canary", as_=BETA)
    # The superuser stands for a function of the owner with a wrong WHERE, in a transaction that sends a context.
    owner = cluster.connect()
    call(owner, "authorize_login", login="app", pattern="*:*:*:*:*")
    look = "select model_name from ai_storage_private.ai_progress_tenant"

    def seen(context: str | None) -> list[Any]:
        with owner.transaction():
            owner.execute("set local session authorization app")
            call(owner, "set_tenant", credential=BETA)
            sent = context_of(owner)
            assert BETA in sent
            owner.execute("set local session authorization default")
            owner.execute("set local role ai_storage_owner")
            owner.execute("set local citus.propagate_set_commands = 'local'")
            owner.execute(f"set local app.node_context = '{context or sent}'")
            rows = owner.execute(look).fetchall()
        contexts.append(sent)
        return rows

    contexts: list[str] = []
    assert seen(None) == [("canary",)]
    assert seen(contexts[0]) == []


TRAP = """
    create function trap.spring(what pg_catalog.text) returns pg_catalog.bool language plpgsql as
    $$ begin raise exception 'a trap ran as %', current_user; end $$;
    grant usage on schema trap to public;
    create domain trap.text as pg_catalog.text check (trap.spring(''));
    create domain trap.uuid as pg_catalog.uuid check (trap.spring(''));
    create domain trap.jsonb as pg_catalog.jsonb check (trap.spring(''));
    create domain trap.bytea as pg_catalog.bytea check (trap.spring(''));
    create domain trap.bool as pg_catalog.bool check (trap.spring(''))
"""
BAIT = "set local citus.propagate_set_commands = 'local'; set local search_path = trap, pg_catalog"


def test_nothing_that_a_caller_puts_in_front_runs_on_a_node(cluster: Database) -> None:
    # Citus makes what a login makes in its schema on nodes too, sends its SET LOCAL there, and types without a schema.
    admin = cluster.connect()
    admin.execute("create schema trap authorization app")
    app, other = cluster.connect("app"), cluster.connect("app")
    for name in ("m", "n"):
        save(app, name, as_=ACME)
    call(app, "put_artifact", model_name="m", artifact_name="a", content=b"a", as_=ACME)
    share(app, "n", ACME_2)
    app.execute("set search_path = trap, pg_catalog")
    for statement in TRAP.split(";\n    "):
        app.execute(statement)
    app.execute("reset search_path")
    # It is a trap.
    with pytest.raises(psycopg.Error, match="a trap ran as app"), app.transaction():
        app.execute(f"{BAIT}; select 'x'::text")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("save_progress", {"model_name": "m", "mse": 1.0, "idempotency_key": "k"}),
        ("save_progress_batch", {"items": [{"model_name": "a", "mse": 1}]}),
        ("load_progress", {}),
        ("load_history", {"model_name": "m"}),
        ("get_artifact", {"model_name": "m", "artifact_name": "a"}),
        ("list_artifacts", {}),
        ("list_shares", {}),
        ("audit_trail", {}),
        ("tenant_stats", {}),
        ("delete_progress", {"model_name": "a"}),
    ]
    for function, arguments in calls:
        with app.transaction():
            app.execute(BAIT)
            call(app, function, as_=ACME, **arguments)
        # Also between the calls of one transaction.
        with app.transaction():
            call(app, "set_tenant", credential=ACME)
            call(app, "load_progress")
            app.execute("select set_config('app.node_context', '', true)")
            app.execute(BAIT)
            call(app, function, **arguments)
    with other.transaction():
        other.execute(BAIT)
        assert [row.is_shared for row in call(other, "load_progress", as_=ACME_2)] == [True]
        save(other, "n", owner=ACME, as_=ACME_2)
    reporter = cluster.connect("reporter")
    with reporter.transaction():
        call(reporter, "set_tenant", credential=ACME)
        reporter.execute(BAIT)
        assert reporter.execute("select count(*) from ai_storage.ai_progress_tenant").fetchone() == (2,)
    # Nor for an administrator or an auditor, who is none of the owning roles.
    admin.execute("grant ai_storage_admin, ai_storage_auditor to beta_app")
    try:
        person = cluster.connect("beta_app")
        for function, arguments in (
            ("seal_audit", {}),
            ("create_checkpoint", {}),
            ("verify_all_audit", {}),
            ("list_tenants", {}),
            ("compliance_report", {}),
            ("collect_evidence", {}),
            ("metrics", {}),
            ("apply_retention", {}),
            ("break_glass", {"pattern": ACME, "reason": "a trap"}),
            ("erase_tenant", {"pattern": ACME, "reason": "a trap"}),
        ):
            with suppress(psycopg.errors.FeatureNotSupported), person.transaction():
                person.execute(BAIT)
                call(person, function, **arguments)
        ((certificate, *_),) = call(person, "list_erasures")
        with person.transaction():
            person.execute(BAIT)
            call(person, "erasure_certificate", certificate_id=certificate)
    finally:
        admin.execute("revoke ai_storage_admin, ai_storage_auditor from beta_app")


@pytest.mark.parametrize("here", ["on", "off"])
@pytest.mark.parametrize("there", ["on", "off"])
def test_a_value_is_never_a_statement_on_a_node(cluster: Database, here: str, there: str) -> None:
    # Citus writes values into the text of queries, by the caller's rules of quoting, and sends his SET LOCAL.
    app = cluster.connect("app")
    name = "a\\' || current_user || E\\'"
    with app.transaction():
        app.execute("set local citus.propagate_set_commands = 'local'")
        app.execute(f"set local standard_conforming_strings = {there}")
        app.execute(f"select set_config('standard_conforming_strings', '{here}', true)")
        save(app, name, metadata={"a": "b\\c"}, as_=ACME)
    (row,) = call(app, "load_progress", as_=ACME)
    assert (row.model_name, row.metadata) == (name, {"a": "b\\c"})
    with app.transaction():
        call(app, "set_tenant", credential=ACME)
        save(app, "n")
        app.execute("set local citus.propagate_set_commands = 'local'")
        app.execute(f"set local standard_conforming_strings = {there}")
        app.execute(f"select set_config('standard_conforming_strings', '{here}', true)")
        assert save(app, name).version == 2


def test_how_a_session_shows_values_changes_nothing_that_is_stored(cluster: Database) -> None:
    app = cluster.connect("app", options="-c datestyle=SQL,DMY -c extra_float_digits=-10 -c intervalstyle=iso_8601")
    app.execute("select version from ai_storage.save_progress('m', 0.1234567890123, p_as => %s)", (ACME,))
    (row,) = call(cluster.connect("app"), "load_progress", as_=ACME)
    assert row.mse == 0.1234567890123
    assert abs((row.updated_at - datetime.now(UTC)).total_seconds()) < 600


def test_row_level_security_holds_on_a_shard_without_the_functions_own_condition(cluster: Database) -> None:
    app = cluster.connect("app")
    save(app, "a", as_=ACME)
    save(app, "b", as_=BETA)
    # The superuser stands for a function of the owner with a wrong WHERE.
    owner = cluster.connect()
    with owner.transaction():
        owner.execute("select ai_storage.authorize_login('app', '*:*:*:*:*')")
        owner.execute("set local role ai_storage_owner")
        assert owner.execute("select model_name from ai_storage_private.ai_progress_tenant").fetchall() == []


def test_an_application_that_reaches_a_node_runs_no_command_there(cluster: Database) -> None:
    app = cluster.connect("app")
    rows = app.execute(
        "select success from run_command_on_workers($$select * from ai_storage_private.context_secret$$)"
    ).fetchall()
    assert {row[0] for row in rows} == {False}


def test_an_application_is_not_shown_the_context_that_nodes_are_sent(cluster: Database) -> None:
    app = cluster.connect("app")
    said: list[str] = []
    app.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    with app.transaction():
        app.execute("set local citus.log_remote_commands = on")
        save(app, "m", as_=ACME)
        assert names(app, as_=ACME) == ["m"]
    assert not [text for text in said if ACME in text]


def test_a_setting_that_somebody_left_in_a_session_hides_nothing(cluster: Database) -> None:
    app = cluster.connect("app")
    save(app, "m", as_=ACME)
    app.execute("set app.node_context = 'left by somebody'")
    assert names(app, as_=ACME) == ["m"]


# The secret --------------------------------------------------------------------------------------


def test_a_new_secret_reaches_every_node_and_replaces_the_old_one(cluster: Database) -> None:
    app, admin = cluster.connect("app"), cluster.connect()
    save(app, "m", as_=ACME)
    before = secrets(cluster)
    call(admin, "renew_context_secret")
    assert len(secrets(cluster)) == 1
    assert not secrets(cluster) & before
    assert names(app, as_=ACME) == ["m"]


def test_a_node_with_another_secret_refuses_and_does_not_show_nothing(cluster: Database) -> None:
    app, admin = cluster.connect("app"), cluster.connect()
    save(app, "m", as_=ACME)
    for worker in workers(cluster):
        worker.execute(
            "update ai_storage_private.context_secret set inner_key = outer_key, outer_key = inner_key",
            dbname=cluster.name,
        )
    with refused("55000"):
        names(app, as_=ACME)
    call(admin, "distribute")
    assert names(app, as_=ACME) == ["m"]
    assert len(secrets(cluster)) == 1


# A node that is added ----------------------------------------------------------------------------


def test_a_node_that_is_added_gets_the_secret_and_closed_functions(empty_database: Database) -> None:
    from tests.conftest import install

    nodes = empty_database.server.nodes
    if nodes is None:
        pytest.skip("needs a cluster: make test-citus")
    admin = empty_database.connect()
    late = nodes.workers[-1]
    admin.execute("select citus_remove_node('127.0.0.1', %s)", (late.port,))
    install(empty_database.dsn())
    call(admin, "distribute")
    app = empty_database.connect("app")
    keys = [f"acme:s1:p1:production:c{code}" for code in range(8)]
    for key in keys:
        save(app, "m", as_=key)
    admin.execute("select citus_add_node('127.0.0.1', %s)", (late.port,))
    # Functions come open to everybody, but nobody may look into their schema.
    with psycopg.connect(late.dsn(empty_database.name, "app")) as attacker, refused("42501", hint=False):
        attacker.execute("select ai_storage_private.current_tenant_id()")
    call(admin, "distribute")
    test_nodes_share_the_secret_and_no_application_reads_it(empty_database)
    test_nodes_have_only_what_policies_and_triggers_run_and_it_is_closed(empty_database)
    admin.execute("select rebalance_table_shards()")
    assert late.query("select 1 from pg_class where relname ~ '^ai_progress_tenant_[0-9]+$'", empty_database.name)
    test_every_shard_has_row_level_security_and_the_policies(empty_database)
    for key in keys:
        assert names(empty_database.connect("app"), as_=key) == ["m"]


# A node that dies --------------------------------------------------------------------------------


def test_no_checkpoint_is_made_while_a_node_has_a_sealing_to_finish(cluster: Database) -> None:
    app, admin = cluster.connect("app"), cluster.connect()
    save(app, "m", as_=ACME)
    call(admin, "seal_audit")
    # What a crash leaves: prepared, and not committed yet.
    worker, shard = next(
        (worker, shard)
        for worker in workers(cluster)
        for (shard,) in worker.query("select relname from pg_class where relname ~ '^audit_seal_[0-9]+$'", cluster.name)
        if worker.query(f"select from ai_storage_private.{shard}", cluster.name)
    )
    with psycopg.connect(worker.dsn(cluster.name), autocommit=True) as crashed:
        crashed.execute("begin")
        crashed.execute("set local citus.enable_manual_changes_to_shards = on")
        crashed.execute(
            f"insert into ai_storage_private.{shard} select tenant_id, seal_number + 1, checkpoint_number, sealed_at, "
            f"event_count, root, previous_hash, seal_hash from ai_storage_private.{shard} limit 1"
        )
        crashed.execute("prepare transaction 'sealing'")
    try:
        with refused("55000"):
            call(admin, "create_checkpoint")
        with refused("55000"):
            call(admin, "erase_tenant", pattern=ACME, reason="of that sealing")
    finally:
        worker.execute("rollback prepared 'sealing'", dbname=cluster.name)
    assert call(admin, "create_checkpoint")
    assert call(admin, "verify_all_audit")[0].verified


def test_figures_of_what_waits_are_missing_while_a_node_is_down_and_others_are_not(cluster: Database) -> None:
    app, admin = cluster.connect("app"), cluster.connect()
    call(admin, "seal_audit")
    assert {row.metric: row.value for row in call(admin, "metrics")}["ai_storage_unsealed_events"] == 0
    save(app, "m", as_=ACME)
    figures = {row.metric: row.value for row in call(admin, "metrics")}
    assert figures["ai_storage_unsealed_events"] > 1
    assert 0 < figures["ai_storage_oldest_unsealed_event_age_seconds"] < 60
    victim = workers(cluster)[0]
    victim.cluster.stop("immediate")
    try:
        left = {row.metric for row in call(admin, "metrics")}
        with admin.transaction():
            assert {row.metric for row in call(admin, "metrics")} == left
    finally:
        victim.start()
    assert figures.keys() - left == {
        f"ai_storage_{name}"
        for name in (
            "unsealed_events",
            "oldest_unsealed_event_age_seconds",
            "unchained_seals",
            "abandoned_uploads",
        )
    }


def test_a_dead_worker_loses_nothing_that_was_answered_and_stops_its_own_tenants_only(cluster: Database) -> None:
    victim, other = workers(cluster)
    for worker in workers(cluster):
        worker.execute(f'alter database "{cluster.name}" set synchronous_commit = on')
    app = cluster.connect("app")
    keys = [f"acme:s1:p1:production:c{code}" for code in range(8)]
    for key in keys:
        save(app, "m", as_=key)
    ports = dict(
        cluster.connect()
        .execute(
            "select t.isolation_key, s.nodeport from ai_storage_private.tenant as t join citus_shards as s "
            "on s.table_name = 'ai_storage_private.ai_progress_tenant'::regclass "
            "and s.shardid = get_shard_id_for_distribution_column(s.table_name, t.tenant_id)"
        )
        .fetchall()
    )
    assert set(ports.values()) == {victim.port, other.port}
    victim.cluster.stop("immediate")
    try:
        for key in keys:
            if ports[key] == victim.port:
                for work in (lambda key=key: save(app, "m", as_=key), lambda key=key: names(app, as_=key)):
                    with pytest.raises(psycopg.Error) as caught:
                        work()
                    assert caught.value.sqlstate.startswith("08"), caught.value
            else:
                assert save(app, "m", as_=key).version == 2
    finally:
        victim.start()
    for key in keys:
        expected = [1] if ports[key] == victim.port else [2, 1]
        assert versions(app, "m", as_=key) == expected
        save(app, "m", as_=key)
