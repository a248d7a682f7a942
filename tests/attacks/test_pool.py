"""Attacks by way of a pooled connection: what one borrower leaves to the next, and all calls at once through a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool

from pydb import TenantAwareStorage, TokenExpired, calls
from pydb.session import run as pydb_run
from pydb.storage import open_pool
from tests.attacks import attack, only
from tests.attacks.conftest import CANARY, House, Mint, call, no_canary, tried
from tests.conftest import Server
from tests.helpers import ACME, BETA, Connection, everything_said, names, refused, save, value, versions
from tests.helpers import together as at_once
from tests.pgbouncer import pgbouncer

Dsn = Callable[[str, str], str]


@pytest.fixture(scope="module")
def tight(server: Server, prepared: object) -> Iterator[dict[bool, Dsn]]:
    """A pool of one connection, in transaction mode; without and with the reset of deploy/pgbouncer.ini."""
    with ExitStack() as stack:
        yield {
            reset: stack.enter_context(
                pgbouncer(server.host, server.port, ["app", "reporter"], "transaction", pool_size=1, reset=reset)
            )
            for reset in (False, True)
        }


@pytest.fixture(params=[False, True], ids=["kept", "reset"])
def borrowers(
    request: pytest.FixtureRequest, house: House, mint: Mint, tight: dict[bool, Dsn]
) -> Iterator[Callable[..., tuple[bool, Connection, Connection]]]:
    """Makes an attacker and a victim that share a login and, in turn, its one server connection.

    The login `app` is limited to tokens: the attacker has full SQL and a token of ACME, the victim one of BETA. Gives
    whether the pool resets the connection between them, and both connections.
    """
    value(house.admin(), "authorize_login", login="app", pattern="*:*:*:*:*", token_only=True)
    dsn = tight[request.param]
    with ExitStack() as stack:

        def make(login: str = "app") -> tuple[bool, Connection, Connection]:
            attacker, victim = (
                stack.enter_context(
                    psycopg.connect(dsn(login, house.database.name), autocommit=True, prepare_threshold=None)
                )
                for _ in range(2)
            )
            pids = {one.execute("select pg_backend_pid()").fetchone() for one in (attacker, victim)}
            assert len(pids) == 1
            return request.param, attacker, victim

        yield make
    # Not for the next test: pools are by database, and its name is used again.
    house.admin().execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid()"
    )


# What is left behind -------------------------------------------------------------------------------------------------

SESSION = {
    "settings": "select name, setting from pg_settings where source = 'session' and name not in "
    "('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')",
    "prepared statements": "select statement from pg_prepared_statements",
    "cursors": "select statement from pg_cursors where name <> ''",
    "channels": "select * from pg_listening_channels()",
    "advisory locks": "select objid from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    "temporary objects": "select relname from pg_class where relnamespace = pg_my_temp_schema() union all "
    "select proname from pg_proc where pronamespace = pg_my_temp_schema() union all "
    "select typname from pg_type where typnamespace = pg_my_temp_schema()",
}


def session(connection: Connection) -> dict[str, list[Any]]:
    """What a session keeps beyond its transactions, where there is something."""
    found = {what: connection.execute(statement).fetchall() for what, statement in SESSION.items()}
    return {what: rows for what, rows in found.items() if rows}


@attack(47)
@only("direct")
def test_our_functions_leave_nothing_in_a_session(house: House, mint: Mint) -> None:
    connection = psycopg.connect(house.database.dsn("app"), autocommit=True, prepare_threshold=None)
    with connection:
        for credential in (ACME, mint()):
            everything(connection, credential, "beta", f"m {len(credential)}", transactions=True)
            for wrong in (BETA + "x:", mint(exp=1)):
                assert isinstance(tried(connection, "select ai_storage.set_tenant(%s)", wrong), psycopg.Error)
        assert session(connection) == {}
        for setting in ("app.tenant_context", "app.current_tenant"):
            assert connection.execute("select current_setting(%s)", (setting,)).fetchone() == ("",)


LEFT = (
    "set search_path = pg_temp, public",
    "set client_min_messages = debug1",
    "set app.current_tenant = 'beta:s1:p1:production:c1'",
    "create table pg_temp.loot (seen text)",
    "create table pg_temp.tenant (tenant_id bigint, isolation_key text)",
    "create view pg_temp.ai_progress_tenant as select 'planted'::text as model_name",
    "create function pg_temp.spy(text) returns boolean language plpgsql as "
    "$$ begin insert into pg_temp.loot values ($1); return true; end $$",
    "create function pg_temp.load_progress(p_as text) returns setof text language sql as "
    "$$ insert into pg_temp.loot values (p_as) returning seen $$",
    "create function pg_temp.sha256(bytea) returns bytea language sql as $$ select ''::bytea $$",
    "prepare mine as select * from ai_storage.load_progress()",
    "listen ai_storage",
    "listen tenant",
    "select pg_advisory_lock(n) from generate_series(0, 200) as n",
    "declare kept cursor with hold for select 'planted'",
)


@attack(47)
@only("direct")
def test_what_a_borrower_leaves_changes_nothing_for_the_next(
    house: House, mint: Mint, borrowers: Callable[..., tuple[bool, Connection, Connection]]
) -> None:
    reset, attacker, victim = borrowers()
    expected = call(house.connect("beta_app"), "load_progress", as_=BETA)
    with attacker.transaction():
        for statement in LEFT:
            attacker.execute(statement)
    # Through a pooler in transaction mode all of it is there for the next one, unless the pool resets.
    assert set(session(victim)) == (set() if reset else set(SESSION))
    token = mint(BETA)
    assert call(victim, "load_progress", as_=token) == expected
    assert save(victim, "new", 0.5, metadata={CANARY: CANARY}, as_=token).version == 1
    assert versions(victim, "new", as_=token) == [1]
    with victim.transaction():
        value(victim, "set_tenant", credential=token)
        assert "new" in names(victim)
        value(victim, "delete_progress", model_name="new")
    with refused("TN003"):
        names(victim, as_=mint(BETA, secret="x" * 43))
    # And the attacker comes back to nothing of the victim's: nothing was sent, kept or written on the side.
    for statement in (
        "table pg_temp.loot",
        "execute mine",
        "fetch all kept",
        "select current_setting('app.tenant_context')",
    ):
        answer = tried(attacker, statement)
        assert isinstance(answer, psycopg.Error) or answer in ([], [("",)], [("planted",)], [(None,)]), answer
    no_canary(session(attacker))
    assert list(attacker.notifies(timeout=0, stop_after=1)) == []
    assert "victim model" not in names(attacker, as_=mint())


SPIES = [
    statement
    for name in ("text", "jsonb", "uuid")
    for statement in (
        f"create function pg_temp.spy_{name}(pg_catalog.{name}) returns boolean language plpgsql as "
        "$$ begin insert into pg_temp.loot values ($1); return true; end $$",
        f"create domain pg_temp.{name} as pg_catalog.{name} check (pg_temp.spy_{name}(value))",
    )
]


def spied(attacker: Connection, victim: Connection, save_as: Callable[[Connection], object]) -> str:
    """What the attacker finds after the victim saved, having left types of his own under the usual names."""
    with attacker.transaction():
        attacker.execute("create table pg_temp.loot (seen pg_catalog.text)")
        for statement in SPIES:
            attacker.execute(statement)
    save_as(victim)
    try:
        return repr(attacker.execute("table pg_temp.loot").fetchall())
    except psycopg.errors.UndefinedTable:
        return "nothing"


@attack(47)
@only("direct")
def test_types_left_behind_see_nothing_of_a_plain_call(
    mint: Mint, borrowers: Callable[..., tuple[bool, Connection, Connection]]
) -> None:
    reset, attacker, victim = borrowers()
    token = mint(BETA)
    seen = spied(attacker, victim, lambda connection: save(connection, "m", metadata={CANARY: 1}, as_=token))
    assert seen == ("nothing" if reset else "[]")


@attack(47)
@only("direct")
def test_types_left_behind_see_nothing_of_a_call_by_pydb(house: House, mint: Mint, tight: dict[bool, Dsn]) -> None:
    value(house.admin(), "authorize_login", login="app", pattern="*:*:*:*:*", token_only=True)
    dsn, token = tight[False]("app", house.database.name), mint(BETA)
    with (
        psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as attacker,
        psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as victim,
    ):
        storage = TenantAwareStorage(victim, token)
        seen = spied(attacker, victim, lambda _: storage.save_ai_progress("m", 0.5, metadata={CANARY: 1}))
        attacker.execute("discard all")
    no_canary(seen)
    assert token not in seen


@attack(47)
@only("direct")
def test_what_the_victims_own_statements_leave_is_the_next_borrowers(
    mint: Mint, borrowers: Callable[..., tuple[bool, Connection, Connection]]
) -> None:
    # Not our functions' doing, and nothing they could help: within one login PostgreSQL knows no borders. It is why
    # docs/security.md asks for a reset between borrowers, or a login for each application.
    reset, attacker, victim = borrowers()
    token = mint(BETA)
    load = f"select model_name from ai_storage.load_progress(p_as => '{token}')"
    for statement in (
        f"create table pg_temp.mine as {load}",
        f"prepare theirs as {load}",
        f"declare held cursor with hold for {load}",
    ):
        victim.execute(statement)
    for statement in (
        "table pg_temp.mine",
        "select statement from pg_prepared_statements",
        "execute theirs",
        "fetch all held",
    ):
        try:
            answer = repr(attacker.execute(statement).fetchall())
        except psycopg.Error as error:
            answer = everything_said(error)
        assert (CANARY in answer or token in answer) is not reset, statement


@attack(47)
@only("direct")
def test_settings_left_behind_can_make_calls_fail_unless_the_pool_resets(
    mint: Mint, borrowers: Callable[..., tuple[bool, Connection, Connection]]
) -> None:
    reset, attacker, victim = borrowers()
    token = mint(BETA)
    for statement, sqlstate in (
        ("set default_transaction_read_only = on", "25006"),
        ("set row_security = off", "42501"),
        ("set statement_timeout = 1", "57014"),  # the last: under it the reset might not end
    ):
        attacker.execute("discard all")
        attacker.execute(statement)
        answer = tried(
            victim,
            "select version from ai_storage.save_progress('m', 1, p_as => %s), pg_sleep(0.01)",
            token,
        )
        if reset:
            assert isinstance(answer, list), answer
        else:
            assert isinstance(answer, psycopg.Error)
            assert answer.sqlstate == sqlstate, answer


@attack(7, 47)
@only("direct")
def test_a_setting_left_behind_puts_the_victims_token_into_its_own_errors_unless_the_pool_resets(
    mint: Mint, borrowers: Callable[..., tuple[bool, Connection, Connection]]
) -> None:
    # The victim is told its own token, and so is the server's log; whoever logs error texts should know.
    reset, attacker, victim = borrowers()
    attacker.execute("set log_parameter_max_length_on_error = -1")
    token = mint(exp=1)
    error = tried(victim, "select * from ai_storage.load_progress(p_as => %s)", token)
    assert isinstance(error, psycopg.Error)
    assert (token in everything_said(error)) is not reset
    assert token not in str(error.diag.message_primary)


@attack(47)
@only("direct")
def test_a_role_left_behind_is_one_of_the_logins_own(
    house: House, borrowers: Callable[..., tuple[bool, Connection, Connection]]
) -> None:
    reset, attacker, victim = borrowers("reporter")
    attacker.execute("set role ai_storage_sql")
    # The next one misses the rights it left aside; it gains none.
    answer = tried(victim, "select model_name from ai_storage.load_progress(p_as => %s)", ACME)
    assert (answer == [("own",), ("same name",)]) is reset
    assert isinstance(tried(victim, "select * from ai_storage.load_progress(p_as => %s)", BETA), psycopg.Error)


HIJACK = """
do $x$
declare
    s record;
begin
    create temp table loot (credential text, model text);
    for s in
        select name, parameter_types::text[] as types from pg_prepared_statements where statement ~ 'save_progress'
    loop
        execute format('deallocate %I', s.name);
        execute format(
            'prepare %I (%s) as with l as (insert into pg_temp.loot values ($%s::text, $1::text)) '
            'select $1::text, 4711::bigint, false, now()',
            s.name, array_to_string(s.types, ','), cardinality(s.types)
        );
    end loop;
end
$x$
"""


@attack(47)
@only("direct")
@pytest.mark.parametrize("credential", ["key", "token"])
def test_a_statement_replaced_in_a_pool_of_pydbs_takes_no_call(house: House, mint: Mint, credential: str) -> None:
    presented = mint(BETA) if credential == "token" else BETA
    with open_pool(house.database.dsn("app"), max_size=1) as pool:
        victim = TenantAwareStorage(pool, presented)
        versions = [victim.save_ai_progress("m", 1).version for _ in range(8)]
        with pool.connection() as connection:
            connection.execute(HIJACK)
            connection.execute("listen ai_storage")
            connection.execute("declare kept cursor with hold for select 1")
            connection.execute("set synchronous_commit = off")
        assert victim.save_ai_progress("m", 1).version == versions[-1] + 1
        with pool.connection() as connection:
            assert connection.execute("table pg_temp.loot").fetchall() == []
            ((prepared,),) = connection.execute("select array(select statement from pg_prepared_statements)").fetchall()
            assert "ai_storage" not in "".join(prepared)


@attack(47)
@only("direct")
@pytest.mark.parametrize("threshold", [5, None], ids=["prepared", "not prepared"])
@pytest.mark.parametrize("credential", ["key", "token"])
def test_a_statement_replaced_in_a_pool_of_yours_takes_calls_by_key_alone_and_only_if_they_are_prepared(
    house: House, mint: Mint, credential: str, threshold: int | None
) -> None:
    options = {"autocommit": True, "prepare_threshold": threshold}
    with ConnectionPool(house.database.dsn("app"), min_size=1, max_size=1, kwargs=options, open=True) as pool:
        victim = TenantAwareStorage(pool, mint(BETA) if credential == "token" else BETA)
        last = [victim.save_ai_progress("m", 1).version for _ in range(8)][-1]
        with pool.connection() as connection:
            connection.execute(HIJACK)
        taken = credential == "key" and threshold is not None
        assert victim.save_ai_progress("m", 1).version == (4711 if taken else last + 1)


@attack(7, 47)
@only("direct")
def test_a_token_that_pydb_sends_is_in_no_error_log_or_prepared_statement_whatever_a_session_has_set(
    house: House, mint: Mint
) -> None:
    log = house.database.server.cluster.data_dir / "server.log"
    begins = log.stat().st_size
    said: list[str] = []
    tokens = mint(BETA), mint(BETA, exp=1)
    for setting in ("log_parameter_max_length_on_error=-1", "debug_print_plan=on", "debug_print_rewritten=on"):
        options = f"-c {setting} -c client_min_messages=log"
        with psycopg.connect(house.database.dsn("app", options=options), autocommit=True) as connection:
            connection.prepare_threshold = 0
            connection.add_notice_handler(
                lambda notice: said.append(f"{notice.message_primary}{notice.message_detail}")
            )
            good, late = (TenantAwareStorage(connection, token) for token in tokens)
            good.save_ai_progress("m", 1)
            with pytest.raises(TokenExpired) as caught:
                late.load_ai_progress()
            assert isinstance(caught.value.__cause__, psycopg.Error)
            said.append(everything_said(caught.value.__cause__))
            with connection.transaction(), pytest.raises(TokenExpired):
                pydb_run(connection, calls.set_tenant(tokens[1]))
            ((prepared,),) = connection.execute("select array(select statement from pg_prepared_statements)").fetchall()
            assert "ai_storage" not in "".join(prepared)
    written = log.read_bytes()[begins:].decode("utf-8", "replace") + "".join(said)
    for token in tokens:
        # A plan shows a value's bytes as figures.
        assert token not in written
        assert "".join(str(byte) for byte in token.encode()) not in "".join(written.split())


@attack(47)
@only("direct")
def test_an_idempotent_request_is_the_same_under_another_bytea_output(house: House) -> None:
    victim = house.connect("beta_app")
    first = save(victim, "m", 0.5, as_=BETA, idempotency_key="request 1")
    victim.execute("set bytea_output = escape")
    assert save(victim, "m", 0.5, as_=BETA, idempotency_key="request 1") == first


# Everything, through PgBouncer, at once ------------------------------------------------------------------------------


def everything(connection: Connection, credential: str, other: str, name: str, *, transactions: bool) -> int:
    """Use the whole API for one tenant, with models of that name. Returns how many calls it made.

    Fail if an answer holds anything of the organisation `other`, or not what was just done.
    """
    calls = 0

    def do(function: str, /, **arguments: Any) -> list[Any]:
        nonlocal calls
        calls += 1
        rows = call(connection, function, **arguments, as_=credential)
        assert other not in repr(rows), rows
        return rows

    (first,) = do("save_progress", model_name=name, mse=0.5, metadata={"of": name}, idempotency_key=name)
    assert do("save_progress", model_name=name, mse=0.5, metadata={"of": name}, idempotency_key=name) == [first]
    (second,) = do("save_progress", model_name=name, mse=0.25, metadata={"of": name}, expected_version=first.version)
    assert second.version == first.version + 1
    do("save_progress_batch", items=[{"model_name": f"{name} {number}", "mse": 1} for number in range(3)])
    (row,) = do("load_progress", model_name=name)
    assert (row.version, row.mse, row.metadata) == (second.version, 0.25, {"of": name})
    assert name in {row.model_name for row in do("load_progress")}
    assert [row.version for row in do("load_history", model_name=name)][:2] == [second.version, first.version]
    (share,) = do("share_model", model_name=name, targets=[{"server_id": "s2"}], permissions="{read}")
    assert do("has_permission", owner=row.owner_key, model_name=name, permission="read") == [(True,)]
    assert [row.share_id for row in do("list_shares", model_name=name)] == [share.share_id]
    assert do("list_received_shares") == []
    assert do("unshare_model", model_name=name) == [(1,)]
    (share,) = do("share_model", model_name=name, targets=[{"server_id": "s3"}], permissions="{read}")
    assert do("revoke_share", share_id=share.share_id) == [(True,)]
    if credential == row.owner_key:
        with refused("TN101"):
            do("promote_progress", from_code_hash="c9")
    with pytest.raises(psycopg.Error) as caught:
        do("load_history", model_name="victim model", owner=f"{other}:s1:p1:production:c1")
    assert caught.value.sqlstate == "TN101"
    for number in range(3):
        assert do("delete_progress", model_name=f"{name} {number}") == [(True,)]
    if transactions:
        with connection.transaction():
            assert value(connection, "set_tenant", credential=credential) == row.owner_key
            assert value(connection, "current_tenant") == row.owner_key
            assert name in names(connection)
            assert save(connection, name, 0.125).version == second.version + 1
            assert other not in repr(call(connection, "load_progress"))
    else:
        rows = tried_together(connection, credential)
        assert name in repr(rows)
        assert other not in repr(rows)
    assert do("delete_progress", model_name=name) == [(True,)]
    with refused("TN001"):
        names(connection)
    return calls + 6


def tried_together(connection: Connection, credential: str) -> list[Any]:
    """The rows of a transaction that is one message, as statement mode allows."""
    cursor = connection.execute(
        sql.SQL("select ai_storage.set_tenant({}); select * from ai_storage.load_progress()").format(credential)
    )
    assert cursor.nextset()
    return cursor.fetchall()


@attack(48)
@only("transaction", "statement")
def test_all_calls_of_two_tenants_share_two_connections_and_mix_nothing(house: House, mint: Mint) -> None:
    # One login, so that the pool mixes them; each tenant by key and by token, from two clients each.
    def client(tenant: str, other: str, credential: str, number: int) -> Callable[[], int]:
        connection = house.connect("app")

        def run() -> int:
            return sum(
                everything(connection, credential, other, f"m{number} {n}", transactions=house.transactions)
                for n in range(12)
            )

        return run

    clients = [
        client(tenant, other, credential, number)
        for number, (tenant, other, credential) in enumerate(
            (tenant, other, credential)
            for tenant, other in ((ACME, "beta"), (BETA, "acme"))
            for credential in (tenant, mint(tenant), tenant, mint(tenant))
        )
    ]
    assert sum(at_once(clients)) > 2000
    pids = house.admin().execute(
        "select count(*) from pg_stat_activity where usename = 'app' and datname = current_database()"
    )
    assert pids.fetchone()[0] <= 2
