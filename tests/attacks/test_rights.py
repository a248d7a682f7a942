"""Attacks on rights: owners, views, and objects that stand in for others."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from tests.attacks import attack, only
from tests.attacks.conftest import CANARY, House, tried
from tests.attacks.control import ATTACKERS, build_pattern
from tests.conftest import Database
from tests.helpers import (
    ACME,
    ACME_2,
    BETA,
    Connection,
    call,
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

OWNERS = ("ai_storage_owner", "ai_storage_sharing", "ai_storage_operator")
OURS = "('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace, 'ai_storage_migration'::regnamespace)"


def relations(connection: Connection, kinds: str = "rpvmf") -> list[str]:
    """The names of our relations of some kinds, with their schemas."""
    rows = connection.execute(
        f"select oid::regclass::text from pg_class where relnamespace in {OURS} and relkind = any (%s) order by 1",
        (list(kinds),),
    )
    return [name for (name,) in rows]


# Owners ---------------------------------------------------------------------------------------------------------------


@attack(9)
@only("direct")
def test_the_owning_roles_themselves_see_no_model_without_a_context(house: House) -> None:
    admin = house.admin()
    unforced = (
        "select relname from pg_class where relnamespace = 'ai_storage_private'::regnamespace "
        "and relkind in ('r', 'p') and not (relrowsecurity and relforcerowsecurity)"
    )
    assert admin.execute(unforced).fetchall() == []
    for role in OWNERS:
        admin.execute(f"set role {role}")
        for table in ("tenant", "ai_progress_tenant", "progress_version", "deleted_model", "idempotency_key"):
            if (role, table) != ("ai_storage_operator", "tenant"):  # it finds tenants before there is a context
                answer = tried(admin, f"select * from ai_storage_private.{table}")
                assert answer == [] or getattr(answer, "sqlstate", None) == "42501", (role, table)
        admin.execute("reset role")
    assert CANARY in str(admin.execute("select * from ai_storage_private.ai_progress_tenant").fetchall())

    for login in ATTACKERS:
        for role in OWNERS:
            with refused("42501", hint=False):
                house.connect(login).execute(f"set role {role}")

    attacker = build_pattern(house)
    admin.execute("alter table pattern.model owner to acme_app")
    rows = attacker.execute("select secret from pattern.model").fetchall()
    assert (CANARY,) in rows, "without FORCE the owner of the common pattern's table sees everything"


@pytest.fixture
def strong_logins(database: Database) -> Iterator[dict[str, str]]:
    """Logins that row level security does not bind: what each is, and its name."""
    admin = database.connect()
    made: dict[str, str] = {}
    options = {what: what for what in ("superuser", "bypassrls", "createrole", "replication")}
    options |= {role: f"in role {role}" for role in OWNERS}
    try:
        for number, (what, option) in enumerate(options.items()):
            admin.execute(f"create role strong_{number} login {option}")
            admin.execute(f"create role strong_group_{number} in role strong_{number}")
            admin.execute(f"create role strong_member_{number} login noinherit in role strong_group_{number}")
            made |= {what: f"strong_{number}", f"may become {what}": f"strong_member_{number}"}
        yield made
    finally:
        for number in range(len(options)):
            admin.execute(f"drop role if exists strong_member_{number}, strong_group_{number}, strong_{number}")


@attack(10)
def test_a_login_that_row_level_security_does_not_bind_is_not_authorised(
    database: Database, strong_logins: dict[str, str]
) -> None:
    admin = database.connect()
    assert len(strong_logins) == 14
    for what, login in strong_logins.items():
        with refused("TN006"):
            value(admin, "authorize_login", login=login, pattern="acme:*:*:*:*")
        with pytest.raises(psycopg.Error) as caught:
            call(database.connect(login), "load_progress", as_=ACME)
        assert caught.value.sqlstate in ("42501", "TN003"), what


# Rights on tables -----------------------------------------------------------------------------------------------------


@attack(11)
@only("direct")
def test_no_login_truncates_a_table(house: House) -> None:
    tables = relations(house.admin())
    assert len(tables) > 10
    with unchanged(house.database):
        for login in ATTACKERS:
            attacker = house.connect(login)
            for table in tables:
                answer = tried(attacker, f"truncate {table} cascade")
                assert isinstance(answer, psycopg.Error)
                assert answer.sqlstate in ("42501", "42809"), table

    attacker = build_pattern(house)
    house.admin().execute("grant truncate on pattern.model to acme_app")
    attacker.execute("truncate pattern.model")
    assert house.admin().execute("select count(*) from pattern.model").fetchone() == (0,), "the victim's rows too"


@attack(12)
@only("direct")
def test_no_login_asks_a_foreign_key_whether_a_row_exists(house: House) -> None:
    admin = house.admin()
    columns = admin.execute(
        "select a.attrelid::regclass::text, a.attname, format_type(a.atttypid, null) from pg_attribute as a "
        f"join pg_class as c on c.oid = a.attrelid where c.relnamespace in {OURS} and c.relkind in ('r', 'p', 'v') "
        "and a.attnum > 0 and not a.attisdropped"
    ).fetchall()
    assert len(columns) > 50
    for login in ATTACKERS:
        admin.execute(f"create schema keys_{login} authorization {login}")
        attacker = house.connect(login)
        for table, column, kind in columns:
            answer = tried(attacker, f"create table keys_{login}.k (c {kind} references {table} ({column}))")
            assert isinstance(answer, psycopg.Error)
            assert answer.sqlstate in ("42501", "42809"), (table, column)

    attacker = build_pattern(house)
    admin.execute("grant references on pattern.model to acme_app")
    attacker.execute("create table keys_acme_app.k (name text references pattern.model (name))")
    attacker.execute("insert into keys_acme_app.k values ('victim model')")
    with refused("23503", hint=False):
        attacker.execute("insert into keys_acme_app.k values ('no such model')")


@attack(13)
@only("direct")
def test_the_view_shows_its_reader_the_tenant_of_the_transaction_alone(house: House) -> None:
    reader = house.connect("reporter")
    query = "select model_name, tenant_context from ai_storage.ai_progress_tenant order by 1"
    assert tried(reader, query) == []
    with reader.transaction():
        value(reader, "set_tenant", credential=ACME)
        assert [name for name, _ in tried(reader, query)] == ["own", "same name"]
        reader.execute("create temp view mine as select * from ai_storage.ai_progress_tenant")
        assert [name for (name,) in tried(reader, "select model_name from mine order by 1")] == ["own", "same name"]
    assert tried(reader, "select * from mine") == []
    with reader.transaction():
        assert names(reader, as_=ACME) == ["own", "same name"]
        assert tried(reader, query) == []  # a credential in a call is good for that call
    with refused("TN003"):
        value(reader, "set_tenant", credential=BETA)
    for login in ("acme_app", "stranger"):
        answer = tried(house.connect(login), query)
        assert isinstance(answer, psycopg.Error)
        assert answer.sqlstate == "42501"

    attacker = build_pattern(house)
    house.admin().execute("create view pattern.report as select * from pattern.model")
    house.admin().execute("grant select on pattern.report to public")
    rows = attacker.execute("select secret from pattern.report").fetchall()
    assert (CANARY,) in rows, "a view reads with its owner's rights, and its owner is a superuser"


@attack(14)
@only("direct")
def test_a_materialized_view_holds_what_its_maker_saw(house: House) -> None:
    admin = house.admin()
    assert relations(admin, "m") == []
    admin.execute("create schema reports authorization reporter")
    reader = house.connect("reporter")
    reader.execute("create materialized view reports.nobodys as select * from ai_storage.ai_progress_tenant")
    with reader.transaction():
        value(reader, "set_tenant", credential=ACME)
        reader.execute("create materialized view reports.mine as select * from ai_storage.ai_progress_tenant")
    assert tried(reader, "select * from reports.nobodys") == []
    assert tried(reader, "select model_name from reports.mine order by 1") == [("own",), ("same name",)]
    reader.execute("refresh materialized view reports.mine")
    assert tried(reader, "select * from reports.mine") == []

    attacker = build_pattern(house)
    admin.execute("create materialized view pattern.report as select * from pattern.model")
    admin.execute("grant select on pattern.report to public")
    assert (CANARY,) in attacker.execute("select secret from pattern.report").fetchall()


# Objects that stand in for others -------------------------------------------------------------------------------------

# What the bodies and defaults of our functions name, as the catalog holds them; quoted text is a harmless excess.
NAMED = f"""
    select string_agg(pg_get_functiondef(oid), ' ') from pg_proc where pronamespace in {OURS}
"""

# Every function that is named, with every list of arguments under which pg_catalog has it: an exact match wins.
FUNCTIONS = """
    select distinct p.proname, oidvectortypes(p.proargtypes)
    from pg_proc as p
    where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and p.proname = any (%s)
      and p.provariadic = 0
      and not exists (
          select from unnest(p.proargtypes) as a (kind) join pg_type as t on t.oid = a.kind
          where t.typtype = 'p' and t.typname not like 'any%%' and t.typname <> 'record'
             or not has_schema_privilege(t.typnamespace, 'usage')
      )
      and not ('"any"'::regtype = any (p.proargtypes))
"""
OPERATORS = """
    select distinct o.oprname, format_type(o.oprleft, null), format_type(o.oprright, null)
    from pg_operator as o
    join pg_proc as p on p.oid = o.oprcode
    where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprname = any (%s) and o.oprleft <> 0
"""
TRAP = (
    "begin perform pg_catalog.set_config('trap.ran', pg_catalog.concat({what}, ' as ', current_user), false); "
    "return null; end"
)


def shadow(attacker: Connection, schema: str, source: str) -> dict[str, int]:
    """Put a trap in front of everything that our functions name. Returns how many of each kind there are.

    Functions, operators, types and collations come into a schema and into pg_temp, relations into pg_temp as well.
    Operators and functions of pg_temp are never found without a prefix; they are tried all the same.
    """
    words = sorted(set(re.findall(r"[a-z_][a-z0-9_]*", source)))
    signs = sorted(set(re.findall(r"[-+*/<>=~!@#%^&|`?]+", source)))
    functions = attacker.execute(FUNCTIONS, (words,)).fetchall()
    operators = attacker.execute(OPERATORS, (signs,)).fetchall()
    types = attacker.execute(
        "select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'd') "
        "and (typname = any (%s) or typname = any (%s))",
        (words, ["bool", "int4", "int8", "float8", "timestamptz", "_text", "_uuid", "_int8", "_jsonb", "_bytea"]),
    ).fetchall()
    tables = attacker.execute(
        "select distinct relname from pg_class where relname = any (%s) and relkind in ('r', 'v')", (words,)
    ).fetchall()
    statements = []
    for place in (schema, "pg_temp"):
        for name, arguments in functions:
            body = TRAP.format(what=f"'function {name}'")
            statements.append(
                sql.SQL(
                    f"create function {{}}.{{}}({arguments}) returns pg_catalog.text language plpgsql as $f$ {body} $f$"
                ).format(sql.Identifier(place), sql.Identifier(name))
            )
        for number, (name, left, right) in enumerate(operators):
            body = TRAP.format(what=f"'operator {name.replace('%', '%%')}'")
            code = sql.Identifier(place, f"operator_{number}")
            statements.append(
                sql.SQL(
                    f"create function {{}}({left}, {right}) returns pg_catalog.bool language plpgsql as $f$ {body} $f$"
                ).format(code)
            )
            statements.append(
                sql.SQL(f"create operator {{}}.{name} (leftarg = {left}, rightarg = {right}, function = {{}})").format(
                    sql.Identifier(place), code
                )
            )
        statements.append(
            sql.SQL("create collation {}.{} (provider = libc, locale = 'C')").format(
                sql.Identifier(place), sql.Identifier("default")
            )
        )
        statements.append(
            sql.SQL("create collation {}.{} (provider = libc, locale = 'POSIX')").format(
                sql.Identifier(place), sql.Identifier("C")
            )
        )
        statements.append(
            sql.SQL("create function {}.check_type(pg_catalog.text) returns bool language plpgsql as {}").format(
                sql.Identifier(place), sql.Literal(TRAP.format(what="'a type'"))
            )
        )
    for (name,) in tables:
        statements.append(sql.SQL("create table pg_temp.{} (x pg_catalog.int4)").format(sql.Identifier(name)))
    # Types last, since from then on nobody's pg_temp.text is a text. Casts: a domain's check runs in each.
    for place in (schema, "pg_temp"):
        for (name,) in types:
            kind = name[1:] + "[]" if name.startswith("_") else name
            statements.append(
                sql.SQL(
                    f'create domain {{}}.{{}} as pg_catalog."{kind.removesuffix("[]")}"'
                    f"{'[]' if kind.endswith('[]') else ''} check ({{}}.check_type(''))"
                ).format(sql.Identifier(place), sql.Identifier(name), sql.Identifier(place))
            )
    with attacker.transaction():
        for statement in statements:
            attacker.execute(statement)
    attacker.execute(sql.SQL("set search_path = pg_temp, {}, pg_catalog").format(sql.Identifier(schema)))
    return {
        "functions": len(functions),
        "operators": len(operators),
        "types": len(types),
        "relations": len(tables),
    }


def whole_api(app: Connection, mine: str, older: str, friend: str) -> list[object]:
    """One pass through every function of the API. Returns: the answers, without values that differ from run to run."""
    save(app, "old", 1.0, as_=older)
    levels = dict(zip(("org_id", "server_id", "project_id", "environment", "code_hash"), mine.split(":"), strict=True))
    answers: list[object] = [
        value(app, "version"),
        value(app, "isolation_key", **levels),
        value(app, "is_isolation_key", key="junk"),
        tuple(call(app, "parse_isolation_key", key=mine)[0]),
        save(app, "m", 0.5, metrics={"a": 1}, metadata={"b": [1, {"c": 2}], "n": "x" * 3000}, as_=mine)[:3],
        save(app, "m", 0.25, training_samples=3, idempotency_key="k", as_=mine)[:3],
        [row[:3] for row in call(app, "save_progress_batch", items=[{"model_name": "n", "mse": 2}], as_=mine)],
    ]
    with app.transaction():
        answers += [value(app, "set_tenant", credential=mine), value(app, "current_tenant")]
        answers += [versions(app, "m"), [row[:9] for row in call(app, "load_progress")]]
        answers += [names(app, after=" m", limit=1)]
        call(app, "clear_tenant")
        answers.append(value(app, "current_tenant"))
    server = friend.split(":")[1]
    for targets in ([{"server_id": server}], [{"server_id": "*"}]):
        shared = call(app, "share_model", model_name="m", targets=targets, permissions="{read,write}", as_=mine)
        answers.append([row.target for row in shared])
    answers += [
        value(app, "has_permission", model_name="m", permission="write", owner=mine, as_=friend),
        [row[:9] for row in call(app, "load_progress", scope="shared", as_=friend)],
        save(app, "m", 0.125, owner=mine, as_=friend)[:3],
        versions(app, "m", owner=mine, as_=friend),
        len(call(app, "list_shares", as_=mine)),
        len(call(app, "list_received_shares", as_=friend)),
        value(app, "revoke_share", share_id=shared[0].share_id, as_=mine),
        value(app, "unshare_model", model_name="m", as_=mine),
        value(app, "delete_progress", model_name="m", as_=mine),
        [tuple(row) for row in call(app, "promote_progress", from_code_hash="c2", as_=mine)],
    ]
    for sqlstate, function, arguments in (
        ("22023", "save_progress", {"model_name": "", "mse": 1.0}),
        ("TN102", "save_progress", {"model_name": "n", "mse": 1.0, "expected_version": 7}),
        ("TN101", "load_history", {"model_name": "nothing"}),
        ("TN002", "load_progress", {"as_": "a.b.c"}),
        ("TN002", "load_progress", {"as_": f"e30.e30.{'x' * 43}"}),
    ):
        with refused(sqlstate):
            call(app, function, **{"as_": mine, **arguments})
    return answers


def tenants(org: str) -> tuple[str, str, str]:
    return key(org), key(org, code="c2"), key(org, "s2")


@attack(15)
def test_nothing_that_a_caller_puts_in_front_ever_runs(database: Database) -> None:
    superuser = database.connect()
    superuser.execute("create schema evil authorization app")
    honest = whole_api(database.connect("app"), *tenants("org1"))

    app = database.connect("app")
    (source,) = superuser.execute(NAMED).fetchone()
    made = shadow(app, "evil", source)
    assert made["functions"] > 100
    assert made["operators"] > 200
    assert made["types"] > 10
    assert made["relations"] > 8
    attacked = whole_api(app, *tenants("org2"))
    assert str(attacked).replace("org2", "org1") == str(honest)
    ran = "select pg_catalog.current_setting('trap.ran', true)"
    assert app.execute(ran).fetchone() == (None,)

    # The traps work: a definer function that leaves its path to the caller falls into all three kinds.
    careless = {"left('abc', 1)": "function left", "1 = 1": "operator =", "cast('x' as text)": "a type"}
    for number, (expression, trap) in enumerate(careless.items()):
        superuser.execute(
            f"create function public.careless_{number}() returns pg_catalog.text language plpgsql security definer "
            f"as $f$ begin perform {expression}; return null; end $f$"
        )
        tried(app, f"select public.careless_{number}()")
        assert app.execute(ran).fetchone() == (f"{trap} as postgres",)


@attack(16)
@only("direct")
def test_what_an_owning_role_makes_is_closed_to_everybody_else(house: House) -> None:
    admin = house.admin()
    for role in OWNERS:
        with admin.transaction():
            admin.execute(f"set local role {role}")
            admin.execute(f"create function ai_storage.new_of_{role}() returns int language sql return 1")
            admin.execute(f"create procedure ai_storage.do_of_{role}() language sql begin atomic select 1; end")
            admin.execute(f"create table ai_storage.table_of_{role} as select '{CANARY}'::text as secret")
            admin.execute(f"create view ai_storage.view_of_{role} as select '{CANARY}'::text as secret")
            admin.execute(f"create sequence ai_storage.sequence_of_{role}")
        for login in ATTACKERS:
            attacker = house.connect(login)
            for statement in (
                f"select ai_storage.new_of_{role}()",
                f"call ai_storage.do_of_{role}()",
                f"select * from ai_storage.table_of_{role}",
                f"select * from ai_storage.view_of_{role}",
                f"select nextval('ai_storage.sequence_of_{role}')",
            ):
                answer = tried(attacker, statement)
                assert isinstance(answer, psycopg.Error)
                assert answer.sqlstate == "42501", statement
    for login in ATTACKERS:
        for schema in ("ai_storage", "ai_storage_private", "ai_storage_migration"):
            with refused("42501", hint=False):
                house.connect(login).execute(f"create function {schema}.mine() returns int language sql return 1")

    build_pattern(house)
    admin.execute("create function pattern.new() returns int language sql return 1")
    assert house.connect("stranger").execute("select pattern.new()").fetchone() == (1,)


# Rows where they should not be ----------------------------------------------------------------------------------------


@attack(17)
@only("direct")
def test_there_is_no_partition_to_address(house: House) -> None:
    admin = house.admin()
    inherited = (
        "select count(*) from pg_inherits as i join pg_class as c on c.oid in (i.inhrelid, i.inhparent) "
        "where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'p', 'f')"
    )
    for schema in ("ai_storage", "ai_storage_private", "ai_storage_migration"):
        assert admin.execute(inherited, (schema,)).fetchone() == (0,)
    for login in ATTACKERS:
        answer = tried(
            house.connect(login), "create temp table child () inherits (ai_storage_private.progress_version)"
        )
        assert isinstance(answer, psycopg.Error)
        assert answer.sqlstate == "42501"

    attacker = build_pattern(house)
    admin.execute("create table pattern.child () inherits (pattern.model)")
    admin.execute(f"insert into pattern.child values ('beta', 'child', '{CANARY}')")
    admin.execute("grant select on pattern.child to public")
    assert attacker.execute("select secret from pattern.model").fetchall() == [("mine",)]
    assert attacker.execute("select secret from pattern.child").fetchall() == [(CANARY,)]
    assert admin.execute(inherited, ("pattern",)).fetchone() == (2,)


@attack(18)
@only("direct")
def test_no_row_moves_to_another_tenant_even_by_the_owners_hand(house: House) -> None:
    admin = house.admin()
    ids = dict(admin.execute("select isolation_key, tenant_id from ai_storage_private.tenant").fetchall())
    attacker = house.connect("acme_app")
    save(attacker, "gone", idempotency_key="k", as_=ACME)
    value(attacker, "delete_progress", model_name="gone", as_=ACME)
    call(attacker, "share_model", model_name="own", targets=[{"server_id": "s2"}], as_=ACME)

    def by_hand(role: str, *statements: tuple[str, *tuple[object, ...]]) -> int:
        """Statements of an owning role, in the context that the attacker's login opened. Returns: rows of the last."""
        with admin.transaction(force_rollback=True):
            admin.execute("set local session authorization acme_app")
            value(admin, "set_tenant", credential=ACME)
            admin.execute("set local session authorization default")
            admin.execute(f"set local role {role}")
            return [admin.execute(statement, parameters or None).rowcount for statement, *parameters in statements][-1]

    def as_owner(statement: str, *parameters: object) -> int:
        return by_hand("ai_storage_owner", (statement, *parameters))

    with unchanged(house.database):
        for table in ("ai_progress_tenant", "progress_version", "deleted_model", "idempotency_key", "model_share"):
            named = f"ai_storage_private.{table}"
            assert as_owner(f"update {named} set tenant_id = tenant_id") > 0, "there are rows to move"
            with refused("42501", hint=False) as caught:
                as_owner(f"update {named} set tenant_id = %s", ids[BETA])
            assert CANARY not in everything_said(caught.value)
            assert as_owner(f"delete from {named} where tenant_id = %s", ids[BETA]) == 0
        # The sharing functions may write what is lent, where it is: the victim's models stay the victim's.
        models = dict(
            admin.execute(
                "select model_name, model_id from ai_storage_private.ai_progress_tenant where tenant_id = %s",
                (ids[BETA],),
            ).fetchall()
        )
        lend = ("select ai_storage_private.lend(%s, %s)", [ids[BETA]], [models["shared"]])
        move = "update ai_storage_private.ai_progress_tenant set tenant_id = %s"
        add = (
            "insert into ai_storage_private.progress_version (tenant_id, model_id, version, saved_at, metrics, "
            "metadata) values (%s, %s, 9, now(), '{}', '{}')"
        )
        assert by_hand("ai_storage_sharing", lend, (move, ids[BETA])) == 1
        assert by_hand("ai_storage_sharing", lend, (add, ids[BETA], models["shared"])) == 1
        for statement in (
            (move, ids[ACME]),
            (add, ids[ACME], models["shared"]),
            (add, ids[BETA], models["victim model"]),
        ):
            with refused("42501", hint=False):
                by_hand("ai_storage_sharing", lend, statement)
    assert ACME_2 not in ids

    attacker = build_pattern(house)
    admin.execute("alter policy tenant_isolation on pattern.model with check (true)")
    attacker.execute("update pattern.model set tenant = 'beta'")
    assert admin.execute("select count(*) from pattern.model where tenant = 'beta'").fetchone() == (2,)
