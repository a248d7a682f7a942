"""Attacks through holes that PostgreSQL had: each needs something that nobody has here, or a minor that is mended."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from tests.attacks import attack, only
from tests.attacks.conftest import CANARY, CANARY_NUMBER, House, no_canary, tried
from tests.attacks.control import ATTACKERS, bring_leak, build_pattern, is_fixed
from tests.helpers import ACME, BETA, Connection, call, names, refused, save, unchanged, value

pytestmark = pytest.mark.sql

TABLES = ("tenant", "ai_progress_tenant", "progress_version", "deleted_model", "idempotency_key", "model_share")
RIGHTS = """
    select 'policy ' || polname, polrelid::regclass::text, polpermissive::text, polroles::regrole[]::text,
        pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
    from pg_policy
    union all
    select 'table', oid::regclass::text, relowner::text, relrowsecurity::text || relforcerowsecurity, relacl::text, null
    from pg_class where relnamespace::regnamespace::text like 'ai\\_storage%'
    union all
    select 'function', oid::regprocedure::text, proowner::text, prosecdef::text, proacl::text, proconfig::text
    from pg_proc where pronamespace::regnamespace::text like 'ai\\_storage%'
    union all
    select 'schema', nspname, nspowner::text, null, nspacl::text, null from pg_namespace
    order by 1, 2
"""


def refuse_all(house: House, *statements: str) -> None:
    """Every attacker is refused every statement, and nothing changes."""
    with unchanged(house.database):
        for login in ATTACKERS:
            attacker = house.connect(login)
            for statement in statements:
                answer = tried(attacker, statement)
                assert isinstance(answer, psycopg.Error), statement
                # 55000: a view of several tables takes no rows, whoever asks
                assert answer.sqlstate in ("42501", "55000"), f"{login}: {statement}: {answer}"


@attack(19)
@only("direct")
def test_nobody_drops_himself_or_a_group_out_of_our_rights(house: House) -> None:
    admin = house.admin()
    before = admin.execute(RIGHTS).fetchall()
    assert len([row for row in before if row[0].startswith("policy")]) > 10
    groups = ("ai_storage_app", "ai_storage_sql", "ai_storage_admin", "ai_storage_auditor")
    owners = ("ai_storage_owner", "ai_storage_sharing", "ai_storage_operator")
    for login in ATTACKERS:
        attacker = house.connect(login)
        attacker.execute(f"drop owned by {login}")
        for role in (*groups, *owners, "public"):
            tried(attacker, f"drop owned by {role} cascade")
        for role in owners:
            with refused("42501", hint=False):
                attacker.execute(f"drop owned by {role}")
    assert admin.execute(RIGHTS).fetchall() == before
    assert names(house.connect("beta_app"), as_=BETA, limit=1) == [f"{CANARY} secret name"]

    build_pattern(house)
    admin.execute("alter policy tenant_isolation on pattern.model using (true)")
    admin.execute("create policy not_for_him on pattern.model as restrictive to stranger, reporter using (false)")
    stranger = house.connect("stranger")
    assert stranger.execute("select * from pattern.model").fetchall() == []
    stranger.execute("drop owned by stranger")
    admin.execute("grant usage on schema pattern to public; grant select on pattern.model to public")
    assert bool(stranger.execute("select * from pattern.model").fetchall()) is not is_fixed(admin)


@attack(20, 30)
@only("direct")
def test_insert_on_conflict_shows_and_changes_nothing(house: House) -> None:
    insert = "insert into ai_storage_private.{} select * from ai_storage_private.{} on conflict do "
    refuse_all(
        house,
        *(insert.format(table, table) + "nothing" for table in TABLES),
        "insert into ai_storage_private.ai_progress_tenant as p (tenant_id, model_name) values (1, 'victim model') "
        "on conflict (tenant_id, model_name) do update set mse = 0 where p.mse is not null returning *",
        "insert into ai_storage.ai_progress_tenant (model_name) values ('victim model') on conflict do nothing",
    )

    attacker = build_pattern(house)
    shown = bring_leak(house.database, attacker)
    conflict = "insert into pattern.model values ('acme', 'victim model', 'x') on conflict (name) do update "
    with refused("42501", hint=False):
        attacker.execute(conflict + "set number = 0 where model.secret = 'x'")
    assert (CANARY in str(shown)) is not is_fixed(attacker)


@attack(30)
@only("direct")
def test_insert_on_conflict_stays_in_the_tenant_even_by_the_owners_hand(house: House) -> None:
    admin = house.admin()
    row = "select jsonb_build_object('tenant_id', tenant_id, 'model_id', model_id) from ai_storage_private"
    (theirs,) = admin.execute(f"{row}.ai_progress_tenant where model_name = 'victim model'").fetchone()
    with unchanged(house.database), admin.transaction(force_rollback=True):
        admin.execute("set local session authorization acme_app")
        value(admin, "set_tenant", credential=ACME)
        admin.execute("set local session authorization default")
        admin.execute("set local role ai_storage_owner")
        for statement in (
            # a row of the victim as it is, to be updated where it conflicts
            "insert into ai_storage_private.ai_progress_tenant select %(t)s, %(m)s, 1, mse, 1, now(), now(), 'new', "
            "metrics, metadata from ai_storage_private.ai_progress_tenant limit 1 "
            "on conflict (tenant_id, model_id) do update set mse = 0 returning *",
            "merge into ai_storage_private.ai_progress_tenant as p using (values (%(t)s)) as v (id) "
            "on p.tenant_id = v.id when matched then update set mse = 0 when not matched then insert values "
            "(%(t)s, %(m)s, 1, 0, 1, now(), now(), 'new', '{}', '{}')",
        ):
            with refused("42501", hint=False) as caught, admin.transaction():
                admin.execute(statement, {"t": theirs["tenant_id"], "m": theirs["model_id"]})
            no_canary(caught.value)


@attack(21)
@only("direct")
def test_insert_on_conflict_goes_through_no_view(house: House) -> None:
    insert = "insert into ai_storage.ai_progress_tenant (model_name, mse) values ('victim model', 0) on conflict "
    refuse_all(house, insert + "do nothing", insert + "(model_name) do update set mse = 0 returning metadata::text")
    assert house.admin().execute(
        "select is_insertable_into, is_updatable from information_schema.views where table_schema = 'ai_storage'"
    ).fetchall() == [("NO", "NO")]

    attacker = build_pattern(house)
    admin = house.admin()
    admin.execute(
        "create view pattern.mine as select * from pattern.model where tenant = current_setting('app.current_tenant')"
    )
    admin.execute("grant select, insert, update on pattern.mine to acme_app")
    conflict = "insert into pattern.mine values ('acme', 'victim model', 'x') on conflict (name) do update "
    answer = tried(attacker, conflict + "set number = 9")
    assert isinstance(answer, psycopg.Error) is is_fixed(attacker)
    changed = admin.execute("select number from pattern.model where name = 'victim model'").fetchone() == (9,)
    assert changed is not is_fixed(attacker)


# In a CASE, the operator that compares is applied to a placeholder and not to the column.
HIDDEN_LEAK = "case {} when 'x' then true else false end"


@attack(22)
@only("direct")
def test_a_leaky_operator_in_a_case_sees_no_hidden_rows(house: House) -> None:
    refuse_all(house, "select 1 from ai_storage_private.ai_progress_tenant where " + HIDDEN_LEAK.format("model_name"))
    app = house.connect("acme_app")
    shown = bring_leak(house.database, app)
    query = "select model_name from ai_storage.load_progress(p_as => '{}') where {}"
    assert tried(app, query.format(ACME, HIDDEN_LEAK.format("model_name"))) == [("own",), ("same name",)]
    assert "own" in str(shown)
    no_canary(shown)

    # The planner of a server that is not mended takes the operator for harmless and asks it first.
    reader = house.connect("reporter")
    shown = bring_leak(house.database, reader)
    for column in ("model_name", "metadata::text"):
        with reader.transaction():
            value(reader, "set_tenant", credential=ACME)
            reader.execute("set local enable_indexscan = off; set local enable_bitmapscan = off")
            reader.execute("select 1 from ai_storage.ai_progress_tenant where " + HIDDEN_LEAK.format(column))
    assert "own" in str(shown)
    no_canary(shown)

    attacker = build_pattern(house)
    shown = bring_leak_again(attacker)
    attacker.execute("select 1 from pattern.model where " + HIDDEN_LEAK.format("secret"))
    assert "mine" in str(shown)
    assert (CANARY in str(shown)) is not is_fixed(attacker), shown


def bring_leak_again(attacker: Connection) -> list[str]:
    """For a second session of a login that has a leaky operator."""
    attacker.execute(f"set search_path = of_{attacker.info.user}, pg_catalog")
    shown: list[str] = []
    attacker.add_notice_handler(lambda notice: shown.append(notice.message_primary or ""))
    return shown


# Plans that outlive what they were made for ---------------------------------------------------------------------------


@attack(23, 25, 28)
def test_no_plan_of_ours_serves_the_tenant_it_was_made_for_to_another(house: House) -> None:
    # One login for all tenants, whose sessions plan each query of ours once and then run it for everybody.
    app = house.connect("app")
    with unchanged(house.database):
        for turn in range(16):
            tenant, other = (ACME, BETA) if turn % 2 else (BETA, ACME)
            rows = call(app, "load_progress", as_=tenant)
            assert {row.owner_key for row in rows} == {tenant}
            assert len(rows) == (2 if tenant == ACME else 4)
            assert len(call(app, "load_history", model_name="same name", as_=tenant)) == 1
            with refused("TN101"):
                call(app, "load_history", model_name="same name", owner=other, as_=tenant)
            if tenant == ACME:
                no_canary(rows)


FORMS = {
    "plain": "select model_name from ai_storage.ai_progress_tenant",
    "in a subquery": "select (select string_agg(model_name, ',') from ai_storage.ai_progress_tenant)",
    "under a with": "with m as materialized (select model_name from ai_storage.ai_progress_tenant) select * from m",
    "in an invoker's view": "select * from pg_temp.invoked",
    "in an inlined function": "select * from pg_temp.inlined()",
    "in a function's plan": "select * from pg_temp.planned()",
    "in a correlated one": "select (select count(*) from pg_temp.inlined() where inlined <= m.model_name) "
    "from ai_storage.ai_progress_tenant as m",
}
HELPERS = """
    create temp view invoked with (security_invoker = true) as select model_name from ai_storage.ai_progress_tenant;
    create function pg_temp.inlined() returns setof text language sql stable as
    $$ select model_name from ai_storage.ai_progress_tenant $$;
    create function pg_temp.planned() returns setof text language plpgsql stable as
    $$ begin return query select model_name from ai_storage.ai_progress_tenant; end $$
"""


@attack(23, 25, 27, 28)
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@only("direct")
def test_no_plan_over_the_view_outlives_its_role_or_tenant(house: House, mode: str) -> None:
    admin, reader = house.admin(), house.connect("reporter")
    reader.prepare_threshold = None  # psycopg would deallocate ours along with its own
    reader.execute(HELPERS)
    reader.execute(f"set plan_cache_mode = {mode}")

    def as_tenant(tenant: str, plan: str) -> object:
        with reader.transaction():
            value(reader, "set_tenant", credential=tenant)
            return reader.execute(f"execute {plan}").fetchall()

    for number, (form, query) in enumerate(FORMS.items()):
        plan = f"plan_{number}"
        reader.execute(f"prepare {plan} as {query}")
        empty = reader.execute(f"execute {plan}").fetchall()
        assert "own" not in str(empty), form
        value(admin, "authorize_login", login="reporter", pattern="beta:*:*:*:*")
        mine = as_tenant(ACME, plan)
        for _ in range(7):
            assert as_tenant(ACME, plan) == mine
            theirs = as_tenant(BETA, plan)
        assert theirs != mine, "while it is authorised, the reader sees the other tenant"
        no_canary(mine)

        value(admin, "deauthorize_login", login="reporter", pattern="beta:*:*:*:*")
        with refused("TN003"):
            as_tenant(BETA, plan)
        assert as_tenant(ACME, plan) == mine, form
        assert reader.execute(f"execute {plan}").fetchall() == empty, form
        # as a role that may not read the view, and back
        reader.execute("set role ai_storage_app")
        no_canary(tried(reader, f"execute {plan}"))
        with refused("42501", hint=False):
            reader.execute("select * from ai_storage.ai_progress_tenant")
        reader.execute("reset role")
        assert as_tenant(ACME, plan) == mine, form
        # as a login that lost the group
        admin.execute("revoke ai_storage_sql from reporter")
        try:
            with refused("42501", hint=False):
                as_tenant(ACME, plan)
        finally:
            admin.execute("grant ai_storage_sql to reporter")


# Statistics -----------------------------------------------------------------------------------------------------------


@attack(24, 29, 31)
@only("direct")
def test_the_statistics_of_our_tables_are_shown_to_nobody(house: House) -> None:
    admin = house.admin()
    for number in range(40):
        save(house.connect("beta_app"), f"many {number}", CANARY_NUMBER, metadata={"x": CANARY}, as_=BETA)
    admin.execute(
        "create statistics ai_storage_private.both (mcv, dependencies, ndistinct) on mse, training_samples "
        "from ai_storage_private.ai_progress_tenant"
    )
    admin.execute(
        "create statistics ai_storage_private.expressions on (lower(model_name)), (metadata ->> 'x') "
        "from ai_storage_private.ai_progress_tenant"
    )
    admin.execute("analyze")
    for view in ("pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"):
        query = f"select * from {view} where schemaname like 'ai\\_storage%'"
        assert admin.execute(query).fetchall() != [], "there are statistics to hide"
        for login in ATTACKERS:
            assert tried(house.connect(login), query) == [], (login, view)
    for login in ATTACKERS:
        for catalog in ("pg_statistic", "pg_statistic_ext_data"):
            with refused("42501", hint=False):
                house.connect(login).execute(sql.SQL("select * from {}").format(sql.Identifier(catalog)))


@attack(24, 29)
@only("direct")
def test_the_planner_shows_a_leaky_operator_nothing_of_hidden_rows(house: House) -> None:
    admin = house.admin()
    admin.execute("analyze")
    reader = house.connect("reporter")
    shown = bring_leak(house.database, reader)
    leaky = "operator(of_reporter.=)"
    for column in ("model_name", "metadata::text", "isolation_key"):
        for context in (None, ACME):
            with reader.transaction():
                if context:
                    value(reader, "set_tenant", credential=context)
                no_canary(
                    reader.execute(
                        f"explain select * from ai_storage.ai_progress_tenant where {column} {leaky} 'x'"
                    ).fetchall()
                )
    no_canary(shown)
    refuse_all(house, "explain select * from ai_storage_private.ai_progress_tenant where model_name = 'x'")

    build_pattern(house)
    admin.execute("create table pattern.plain as select secret from pattern.model, generate_series(1, 50)")
    admin.execute("grant select on pattern.plain to public; analyze pattern.plain")
    reader.execute(f"explain select * from pattern.plain where secret {leaky} 'x'")
    assert CANARY in str(shown), "an estimator does show the most common values to the operator"


@attack(26)
@only("direct")
def test_merge_reaches_nothing(house: House) -> None:
    refuse_all(
        house,
        *(
            f"merge into ai_storage_private.{table} as t using (values (1)) as v (x) on true when matched then delete"
            for table in TABLES
        ),
        "merge into ai_storage_private.ai_progress_tenant as p using ai_storage_private.tenant as t "
        "on p.tenant_id = t.tenant_id when matched then update set mse = 0",
    )
    admin = house.admin()
    query = "select count(*) from ai_storage_private.ai_progress_tenant where mse = 9"
    with admin.transaction(force_rollback=True):
        admin.execute("set local session authorization acme_app")
        value(admin, "set_tenant", credential=ACME)
        admin.execute("set local session authorization default")
        admin.execute("set local role ai_storage_owner")
        merge = "merge into ai_storage_private.ai_progress_tenant as p using (values (null::text)) as v (name) on "
        update = " when matched then update set mse = 9"
        assert admin.execute(merge + "p.model_name is distinct from v.name" + update).rowcount == 2
        with refused("42501", hint=False) as caught, admin.transaction():
            admin.execute(merge + "true" + update)  # needs no SELECT, and so meets the victim's rows
        no_canary(caught.value)
        admin.execute("reset role")
        assert admin.execute(query).fetchone() == (2,)
