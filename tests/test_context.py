"""Who is calling: isolation keys, the verified context of a transaction, login authorisations, and what a login may do.

Every attack runs as an application login, never as a superuser.
"""

from __future__ import annotations

import random
import secrets
import string
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from pydb import doctor, migrate
from tests.conftest import Database
from tests.helpers import ACME, ACME_2, BETA, Connection, call, client, dump, key, names, refused, save, value, versions

pytestmark = pytest.mark.sql

ALPHABET = string.ascii_letters + string.digits + "._+@~=/-"
LEVELS = ("org_id", "server_id", "project_id", "environment", "code_hash")
OPERATOR_FUNCTIONS = {"authorize_login", "deauthorize_login", "list_authorizations"}

HOSTILE_LEVELS = {
    "colon": "a:b",
    "only a colon": ":",
    "blank": "a b",
    "leading blank": " a",
    "trailing blank": "a ",
    "tab": "a\tb",
    "newline": "a\nb",
    "trailing newline": "a\n",
    "leading newline": "\na",
    "carriage return": "a\r",
    "empty": "",
    "64 characters": "a" * 64,
    "a megabyte": "a" * 2**20,
    "null": None,
    "star": "*",
    "star inside": "a*",
    "cyrillic a": "\u0430cme",
    "full-width letter": "\uff41",
    "full-width colon": "a\uff1ab",
    "kelvin sign": "\u212a",
    "long s": "\u017f",
    "dotless i": "\u0131",
    "combining accent": "a\u0301",
    "zero-width space": "a\u200b",
    "no-break space": "a\u00a0",
    "arabic digit": "\u0661",
    "context separator": "a|b",
    "backslash": "a\\b",
    "quote": "a'b",
    "percent": "a%",
    "control character": "a\x01",
}

NO_KEYS = [
    "",
    "::::",
    "acme",
    "a:b:c:d",
    "a:b:c:d:",
    ":b:c:d:e",
    "a::c:d:e",
    ":a:b:c:d:e",
    "a:b:c:d:e:f",
    ACME + ":",
    ACME + ":x",
    ACME + "\n",
    " " + ACME,
    "\n" + ACME,
    ACME + "\n" + ACME,
    "acme:*:*:*:*",
    "*:*:*:*:*",
]

# Every function that acts for a tenant, with arguments that would otherwise do.
TENANT_CALLS: dict[str, dict[str, object]] = {
    "save_progress": {"model_name": "m", "mse": 1.0},
    "save_progress_batch": {"items": [{"model_name": "m", "mse": 1}]},
    "load_progress": {},
    "load_history": {"model_name": "m"},
    "delete_progress": {"model_name": "m"},
    "promote_progress": {"from_code_hash": "c2"},
}


def current(connection: Connection) -> str | None:
    return value(connection, "current_tenant")


def set_tenant(connection: Connection, credential: str | None) -> str:
    return value(connection, "set_tenant", credential=credential)


def context(connection: Connection) -> str:
    return connection.execute("select current_setting('app.tenant_context')").fetchone()[0]


def put_context(connection: Connection, text: str, *, local: bool = True) -> None:
    connection.execute("select set_config('app.tenant_context', %s, %s)", (text, local))


def assert_nobody(connection: Connection) -> None:
    """The transaction acts for nobody. Only outside of a transaction block or before its first error."""
    assert current(connection) is None
    for function, arguments in TENANT_CALLS.items():
        with refused("TN001"), connection.transaction():
            call(connection, function, **arguments)


def login_name() -> str:
    return f"test_{secrets.token_hex(6)}"


@pytest.fixture
def new_login(database: Database) -> Iterator[Callable[..., str]]:
    """Makes login roles of this test alone, since roles belong to the whole server."""
    superuser = database.connect()
    made: list[str] = []

    def make(options: str = "", name: str | None = None) -> str:
        name = name or login_name()
        superuser.execute(sql.SQL("create role {} login " + options).format(sql.Identifier(name)))
        made.append(name)
        return name

    yield make
    database.stack.close()
    with psycopg.connect(database.dsn()) as connection:
        for name in made:
            connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(name)))


# Keys -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**64), longest=st.sampled_from([1, 2, 63]))
def test_ten_thousand_random_tenants_at_a_time_render_to_distinct_keys_and_parse_back(
    database: Database, seed: int, longest: int
) -> None:
    # Short levels of few characters come close to each other, long ones reach the limits.
    draw = random.Random(seed)
    alphabet = ALPHABET if longest == 63 else "a-./"

    def level() -> str:
        return "".join(draw.choices(alphabet, k=draw.randint(1, longest)))

    tenants = list({tuple(level() for _ in LEVELS): None for _ in range(10_000)})
    with database.connect("app") as connection:
        rows = connection.execute(
            "select r.key, p.org_id, p.server_id, p.project_id, p.environment, p.code_hash "
            "from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[]) "
            "with ordinality as t (o, s, p, e, c, n) "
            "cross join lateral (select ai_storage.isolation_key(o, s, p, e, c) offset 0) as r (key) "
            "cross join lateral ai_storage.parse_isolation_key(r.key) as p order by t.n",
            [list(column) for column in zip(*tenants, strict=True)],
        ).fetchall()
    assert [row[0] for row in rows] == [":".join(tenant) for tenant in tenants]
    assert len({row[0] for row in rows}) == len(tenants)
    assert [row[1:6] for row in rows] == tenants


def test_a_hostile_level_is_refused_in_every_place(database: Database) -> None:
    app = database.connect("app")
    for place, hostile in product(LEVELS, HOSTILE_LEVELS.values()):
        levels = {**dict.fromkeys(LEVELS, "a"), place: hostile}
        with refused("22023"):
            call(app, "isolation_key", **levels)
        if levels[place] is not None:
            hostile_key = ":".join(str(level) for level in levels.values())
            assert value(app, "is_isolation_key", key=hostile_key) is False
            with refused("22023"):
                call(app, "parse_isolation_key", key=hostile_key)


def test_a_nul_character_never_arrives_as_a_level(database: Database) -> None:
    app = database.connect("app")
    with pytest.raises(psycopg.DataError):
        call(app, "isolation_key", **dict.fromkeys(LEVELS, "a\x00"))
    with refused("54000", hint=False):
        app.execute("select ai_storage.isolation_key('a' || chr(0), 'a', 'a', 'a', 'a')")


def test_every_allowed_character_is_a_level_and_63_of_them_are_the_most(database: Database) -> None:
    app = database.connect("app")
    for character in ALPHABET:
        assert value(app, "isolation_key", **dict.fromkeys(LEVELS, character)) == ":".join(character * 5)
    longest = dict.fromkeys(LEVELS, "a" * 63)
    assert value(app, "isolation_key", **longest) == ":".join(longest.values())


def test_is_isolation_key_accepts_five_levels_and_nothing_else(database: Database) -> None:
    app = database.connect("app")
    assert value(app, "is_isolation_key", key=ACME) is True
    for text in NO_KEYS:
        assert value(app, "is_isolation_key", key=text) is False, text
        with refused("22023"):
            call(app, "parse_isolation_key", key=text)


def test_a_null_key_is_neither_valid_nor_parsed(database: Database) -> None:
    app = database.connect("app")
    assert value(app, "is_isolation_key", key=None) is None
    with refused("22023"):
        call(app, "parse_isolation_key", key=None)


def test_levels_differ_by_case(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", 1.0, as_=ACME)
    assert names(app, as_=ACME.upper()) == []


# set_tenant, clear_tenant, current_tenant, p_as -----------------------------------------------------------------------


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_tenant_ends_with_its_transaction(database: Database, end: str) -> None:
    app = database.connect("app")
    app.execute("begin")
    assert current(app) is None
    assert set_tenant(app, ACME) == ACME
    assert current(app) == ACME
    assert app.execute("select current_setting('app.current_tenant')").fetchone() == (ACME,)
    save(app, "m")
    app.execute(end)
    assert app.execute("select current_setting('app.current_tenant')").fetchone() == ("",)
    assert_nobody(app)
    assert names(app, as_=ACME) == (["m"] if end == "commit" else [])


def test_without_a_transaction_block_the_tenant_ends_with_its_statement(database: Database) -> None:
    app = database.connect("app")
    assert set_tenant(app, ACME) == ACME
    assert_nobody(app)


def test_without_a_tenant_every_function_is_refused(database: Database) -> None:
    assert_nobody(database.connect("app"))


def test_a_rolled_back_savepoint_takes_its_tenant_along(database: Database) -> None:
    app = database.connect("app")
    with app.transaction():
        app.execute("savepoint s")
        set_tenant(app, ACME)
        app.execute("rollback to s")
        assert_nobody(app)
        set_tenant(app, BETA)
        app.execute("savepoint s")
        call(app, "clear_tenant")
        assert current(app) is None
        app.execute("rollback to s")
        assert current(app) == BETA
        app.execute("savepoint t")
        save(app, "m")
        app.execute("release t")
        assert current(app) == BETA
        assert names(app) == ["m"]


def test_an_error_in_a_savepoint_leaves_the_tenant(database: Database) -> None:
    app = database.connect("app")
    with app.transaction():
        set_tenant(app, ACME)
        for sqlstate, credential in [("TN004", BETA), ("TN002", "junk")]:
            with refused(sqlstate), app.transaction():
                set_tenant(app, credential)
        assert current(app) == ACME
        save(app, "m")
    assert names(app, as_=ACME) == ["m"]


def test_a_malformed_credential_is_refused_everywhere(database: Database) -> None:
    app = database.connect("app")
    for credential in NO_KEYS:
        with refused("TN002"):
            set_tenant(app, credential)
        for function, arguments in TENANT_CALLS.items():
            with refused("TN002"):
                call(app, function, **arguments, as_=credential)


def test_set_tenant_refuses_null(database: Database) -> None:
    with refused("TN002"):
        set_tenant(database.connect("app"), None)


def test_a_login_is_refused_a_foreign_tenant_alike_whether_that_exists_or_not(database: Database) -> None:
    save(database.connect("app"), "m", 1.0, as_=BETA)
    acme = database.connect("acme_app")
    before = dump(database)
    answers = set()
    for foreign in (BETA, key("beta", code="nobody")):
        with refused("TN003") as caught:
            set_tenant(acme, foreign)
        diag = caught.value.diag
        answers.add((diag.message_primary, diag.message_detail, diag.message_hint, diag.context))
        for function, arguments in TENANT_CALLS.items():
            with refused("TN003"):
                call(acme, function, **arguments, as_=foreign)
    assert len(answers) == 1
    assert dump(database) == before


def test_a_login_without_authorisation_reaches_nothing(database: Database, new_login: Callable[..., str]) -> None:
    stranger = database.connect(new_login())
    for function, arguments in TENANT_CALLS.items():
        with refused("42501", hint=False):
            call(stranger, function, **arguments, as_=ACME)
    with refused("42501", hint=False):
        set_tenant(stranger, ACME)


def test_one_transaction_serves_one_tenant_by_whatever_way_it_was_named(database: Database) -> None:
    app = database.connect("app")

    def first_by_set_tenant() -> None:
        set_tenant(app, ACME)

    def first_by_set_and_clear() -> None:
        set_tenant(app, ACME)
        call(app, "clear_tenant")

    def first_by_argument() -> None:
        names(app, as_=ACME)

    def first_by_argument_and_clear() -> None:
        names(app, as_=ACME)
        call(app, "clear_tenant")

    for begin in (first_by_set_tenant, first_by_set_and_clear, first_by_argument, first_by_argument_and_clear):
        with app.transaction():
            begin()
            with refused("TN004"), app.transaction():
                set_tenant(app, BETA)
            for function, arguments in TENANT_CALLS.items():
                with refused("TN004"), app.transaction():
                    call(app, function, **arguments, as_=BETA)
            # the same tenant is welcome, in both ways
            assert names(app, as_=ACME) == []
            assert set_tenant(app, ACME) == ACME
            assert current(app) == ACME


def test_one_statement_serves_one_tenant(database: Database) -> None:
    with refused("TN004"):
        database.connect("app").execute(
            "select ai_storage.save_progress('m', 1, p_as => k) from unnest(%s::text[]) as k", ([ACME, BETA],)
        )
    assert dump(database)["tenant"] == []


def test_after_clear_tenant_the_transaction_acts_for_nobody(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", 1.0, as_=ACME)
    with app.transaction():
        set_tenant(app, ACME)
        call(app, "clear_tenant")
        assert app.execute("select current_setting('app.current_tenant')").fetchone() == ("",)
        assert_nobody(app)
        assert names(app, as_=ACME) == ["m"]
        assert_nobody(app)


def test_clear_tenant_without_a_tenant_does_nothing(database: Database) -> None:
    app = database.connect("app")
    with app.transaction():
        call(app, "clear_tenant")
        assert_nobody(app)
        assert set_tenant(app, BETA) == BETA


def test_a_credential_in_a_call_counts_for_that_call_alone(database: Database) -> None:
    app = database.connect("app")
    save(app, "older", as_=ACME_2)
    with app.transaction():
        for function, arguments in TENANT_CALLS.items():
            if function != "load_history":
                call(app, function, **arguments, as_=ACME)
            assert_nobody(app)


def test_a_credential_in_a_call_does_not_end_what_set_tenant_began(database: Database) -> None:
    app = database.connect("app")
    save(app, "older", as_=ACME_2)
    with app.transaction():
        set_tenant(app, ACME)
        for function, arguments in TENANT_CALLS.items():
            with app.transaction(force_rollback=True):
                save(app, "m", as_=ACME)
                call(app, function, **arguments, as_=ACME)
                assert current(app) == ACME
        save(app, "m")
        assert names(app) == ["m"]


def test_a_credential_in_a_call_opens_the_view_to_that_call_alone(database: Database) -> None:
    reporter = database.connect("reporter")
    save(reporter, "m", 1.0, as_=ACME)
    with reporter.transaction():
        assert names(reporter, as_=ACME) == ["m"]
        assert reporter.execute("select * from ai_storage.ai_progress_tenant").fetchall() == []


# Forged contexts ------------------------------------------------------------------------------------------------------


def test_the_readable_setting_gives_no_right(database: Database) -> None:
    save(database.connect("app"), "m", 1.0, as_=ACME)
    app = database.connect("app")
    for scope in ("session", "local"):
        with app.transaction():
            app.execute(sql.SQL("set " + scope + " app.current_tenant = {}").format(ACME))
            assert_nobody(app)
    with app.transaction():
        app.execute("select set_config('app.current_tenant', %s, false)", (ACME,))
        assert_nobody(app)
    # forged together with the use of it, in one statement
    with refused("TN001"):
        app.execute(
            "select * from set_config('app.current_tenant', %s, true) as s cross join lateral "
            "ai_storage.load_progress(p_model_name => left(s, 0) || 'm')",
            (ACME,),
        )
    assert_nobody(database.connect("app", options=f"-c app.current_tenant={ACME}"))


def test_the_readable_setting_does_not_change_whom_a_transaction_acts_for(database: Database) -> None:
    app = database.connect("app")
    save(app, "secret of beta", 1.0, as_=BETA)
    with app.transaction():
        set_tenant(app, ACME)
        app.execute("select set_config('app.current_tenant', %s, true)", (BETA,))
        assert current(app) == ACME
        assert names(app) == []


def forgeries() -> list[str]:
    payload = f"transaction|1|{ACME}||key|1|1.000000"
    return [
        "",
        "junk",
        ACME,
        payload,
        "|" + payload,
        "0" * 64,
        "0" * 64 + "|",
        "0" * 64 + "|" + payload,
        "\u00e4" * 64 + "|" + payload,
        "0" * 64 + "|" + payload * 10_000,
        "|" * 100,
    ]


def test_an_invented_context_counts_as_none(database: Database) -> None:
    save(database.connect("app"), "m", 1.0, as_=ACME)
    app = database.connect("app")
    for forged in forgeries():
        with app.transaction():
            put_context(app, forged)
            assert_nobody(app)
            # and it does not stand in the way of a genuine one
            assert names(app, as_=ACME) == ["m"]
        put_context(app, forged, local=False)
        assert_nobody(app)


def test_a_context_in_the_startup_packet_counts_as_none(database: Database) -> None:
    app = database.connect("app")
    with app.transaction():
        set_tenant(app, ACME)
        genuine = context(app)
        for text in (genuine, "junk"):
            escaped = text.replace("\\", "\\\\").replace(" ", "\\ ")
            assert_nobody(database.connect("app", options=f"-c app.tenant_context={escaped}"))


def test_a_genuine_context_is_believed_only_as_it_was_written(database: Database) -> None:
    app = database.connect("app")
    save(app, "secret of acme", 1.0, as_=ACME)
    save(app, "secret of beta", 1.0, as_=BETA)
    with app.transaction():
        set_tenant(app, ACME)
        genuine = context(app)
        field = genuine.split("|")
        assert len(field) == 8
        changes = {
            "MAC": "0" * 64,
            "scope": "call",
            "tenant": str(int(field[2]) + 1),
            "key": BETA,
            "expiry": "99999999999",
            "credential": "token",
            "backend": str(app.info.backend_pid + 1),
            "transaction": "0.000000",
        }
        tampered = {
            what: "|".join([*field[:place], change, *field[place + 1 :]])
            for place, (what, change) in enumerate(changes.items())
        }
        tampered |= {
            "MAC in capitals": genuine[:64].upper() + genuine[64:],
            "longer": genuine + "|x",
            "shorter": genuine[:-1],
            "blank behind": genuine + " ",
            "blank before": " " + genuine,
            "other separator": genuine[:64] + ":" + genuine[65:],
        }
        for what, text in tampered.items():
            if what == "other separator":
                continue
            with app.transaction(force_rollback=True):
                put_context(app, text)
                assert_nobody(app)
        # The separator behind the MAC carries no meaning: nothing but the same tenant may come of it.
        with app.transaction(force_rollback=True):
            put_context(app, tampered["other separator"])
            assert current(app) in (None, ACME)
        put_context(app, genuine)
        assert names(app) == ["secret of acme"]


def test_the_context_of_a_call_cannot_be_made_one_of_the_transaction(database: Database) -> None:
    app = database.connect("app")
    with app.transaction():
        save(app, "m", as_=ACME)
        text = context(app)
        assert text.count("|call|") == 1
        put_context(app, text.replace("|call|", "|transaction|"))
        assert_nobody(app)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_context_is_worth_nothing_in_a_later_transaction(database: Database, end: str) -> None:
    app = database.connect("app")
    app.execute("begin")
    set_tenant(app, ACME)
    genuine = context(app)
    app.execute(end)
    put_context(app, genuine, local=False)
    assert_nobody(app)
    with app.transaction():
        put_context(app, genuine)
        assert_nobody(app)
        assert set_tenant(app, BETA) == BETA


def test_a_context_kept_for_the_session_is_worth_nothing_to_the_next_borrower(database: Database) -> None:
    app = database.connect("app")
    with app.transaction():
        set_tenant(app, ACME)
        app.execute("select set_config('app.tenant_context', current_setting('app.tenant_context'), false)")
        assert current(app) == ACME
    assert_nobody(app)


def test_transactions_of_one_message_count_as_one(database: Database) -> None:
    # PostgreSQL starts them at the same time, so a context that one of them kept on purpose is good in the next: for
    # the sender of that message, who had the credential, and for one tenant all the same.
    app = database.connect("app")
    with pytest.raises(psycopg.Error) as caught:
        app.execute(
            sql.SQL(
                "begin; select ai_storage.set_tenant({}); "
                "select set_config('app.tenant_context', current_setting('app.tenant_context'), false); commit; "
                "begin; select ai_storage.set_tenant({})"
            ).format(ACME, BETA)
        )
    assert caught.value.sqlstate == "TN004"
    app.execute("rollback")
    assert_nobody(app)


def test_a_context_is_worth_nothing_in_another_session_at_the_same_time(database: Database) -> None:
    victim = database.connect("app")
    with victim.transaction():
        set_tenant(victim, ACME)
        save(victim, "m")
        genuine = context(victim)
        for user in ("app", "acme_app", "beta_app"):
            attacker = database.connect(user)
            with attacker.transaction():
                put_context(attacker, genuine)
                assert_nobody(attacker)
                field = genuine.split("|")
                put_context(attacker, "|".join([*field[:6], str(attacker.info.backend_pid), field[7]]))
                assert_nobody(attacker)


def test_a_signature_counts_for_one_backend_one_transaction_and_until_it_expires(database: Database) -> None:
    # No attacker gets these signed; they show that each field behind a right signature is still looked at.
    app, superuser = database.connect("app"), database.connect()
    with app.transaction():
        set_tenant(app, ACME)
        _, *field = context(app).split("|")
        now = float(field[6])
        for place, text, believed in (
            (0, "transaction", True),
            (0, "cleared", False),
            (0, "call", False),
            (0, "operator", False),
            (0, "", False),
            (3, f"{now + 3600:.6f}", True),
            (3, f"{now - 3600:.6f}", False),
            (3, f"{now:.6f}", False),
            (5, str(app.info.backend_pid + 1), False),
            (5, str(superuser.info.backend_pid), False),
            (5, "", False),
            (6, f"{now + 0.000001:.6f}", False),
            (6, f"{now - 0.000001:.6f}", False),
            (6, "", False),
        ):
            payload = "|".join([*field[:place], text, *field[place + 1 :]])
            mac = superuser.execute(
                "select ai_storage_private.context_mac(s.inner_key, s.outer_key, %s) "
                "from ai_storage_private.context_secret as s",
                (payload,),
            ).fetchone()[0]
            put_context(app, f"{mac}|{payload}")
            assert current(app) == (ACME if believed else None), payload
            if not believed:
                assert_nobody(app)


def test_a_context_of_another_database_is_worth_nothing(database: Database) -> None:
    app = database.connect("app")
    with app.transaction():
        set_tenant(app, ACME)
        genuine = context(app)
        payload = genuine[65:]
        # what another database, with another secret, would have signed
        database.connect().execute(
            "update ai_storage_private.context_secret set inner_key = outer_key, outer_key = inner_key"
        )
        assert_nobody(app)
        set_tenant(app, ACME)
        assert context(app)[65:] == payload
        assert context(app) != genuine


def test_nobody_but_the_operator_reads_the_secret(database: Database) -> None:
    superuser = database.connect()
    for role in ("ai_storage_owner", "ai_storage_sharing"):
        with superuser.transaction():
            superuser.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
            try:
                with superuser.transaction():
                    rows = superuser.execute("select * from ai_storage_private.context_secret").fetchall()
            except psycopg.errors.InsufficientPrivilege:
                rows = []
            assert rows == []


# Authorisations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(5), ids=LEVELS)
def test_a_pattern_limits_a_login_level_by_level(database: Database, new_login: Callable[..., str], place: int) -> None:
    login = new_login()
    admin = database.connect()
    mine = ACME.split(":")
    pattern = ["*"] * 5
    pattern[place] = mine[place]
    value(admin, "authorize_login", login=login, pattern=":".join(pattern))
    connection = database.connect(login)
    elsewhere = ["x", "y", "z", "v", "w"]
    assert set_tenant(connection, ACME) == ACME
    elsewhere[place] = mine[place]
    assert set_tenant(connection, ":".join(elsewhere)) == ":".join(elsewhere)
    for other in ("other", mine[place].upper(), mine[place] + "x", mine[place][:-1] or "q"):
        foreign = [*mine[:place], other, *mine[place + 1 :]]
        with refused("TN003"):
            set_tenant(connection, ":".join(foreign))


def test_a_full_pattern_names_one_tenant_and_two_patterns_do_not_mix(
    database: Database, new_login: Callable[..., str]
) -> None:
    login = new_login()
    admin = database.connect()
    value(admin, "authorize_login", login=login, pattern=ACME)
    connection = database.connect(login)
    assert set_tenant(connection, ACME) == ACME
    with refused("TN003"):
        set_tenant(connection, ACME_2)
    value(admin, "authorize_login", login=login, pattern="beta:s2:*:*:*")
    assert set_tenant(connection, key("beta", "s2")) == key("beta", "s2")
    for mixed in (key("acme", "s2"), key("beta", "s1")):
        with refused("TN003"):
            set_tenant(connection, mixed)


NO_PATTERNS = [
    None,
    "",
    "*",
    "acme",
    "acme:*:*:*",
    "acme:*:*:*:*:*",
    "ac*:*:*:*:*",
    "**:*:*:*:*",
    ":*:*:*:*",
    "acme:*:*:*:",
    "acme:*:*:*:*\n",
    "a b:*:*:*:*",
    "%:*:*:*:*",
    "\u0430cme:*:*:*:*",
    "a" * 64 + ":*:*:*:*",
]


def test_a_malformed_pattern_is_refused(database: Database, new_login: Callable[..., str]) -> None:
    login = new_login()
    admin = database.connect()
    value(admin, "authorize_login", login=login, pattern="acme:*:*:*:*")
    before = dump(database)
    for pattern in NO_PATTERNS:
        with refused("22023"):
            call(admin, "authorize_login", login=login, pattern=pattern)
        if pattern is not None:
            with refused("22023"):
                call(admin, "deauthorize_login", login=login, pattern=pattern)
    assert dump(database) == before


def test_logins_that_row_security_does_not_bind_are_refused(database: Database, new_login: Callable[..., str]) -> None:
    admin = database.connect()
    logins = {"superuser": new_login("superuser"), "bypassrls": new_login("bypassrls")}
    for role in ("ai_storage_owner", "ai_storage_sharing", "ai_storage_operator"):
        logins[role] = new_login(f"in role {role}")
        logins[f"{role} without inheritance"] = new_login(f"noinherit in role {role}")
        group = new_login(f"in role {role}")
        logins[f"{role} through a group"] = new_login(f"in role {group}")
    before = dump(database)
    for what, login in logins.items():
        with refused("TN006"):
            call(admin, "authorize_login", login=login, pattern="acme:*:*:*:*")
        is_member = admin.execute("select 1 from pg_auth_members where roleid = 'ai_storage_app'::regrole "
                                  "and member = %s::regrole", (login,)).fetchone()  # fmt: skip
        assert is_member is None, what
    assert dump(database) == before


def test_what_is_no_login_is_refused(database: Database) -> None:
    before = dump(database)
    for login in ["nobody_of_that_name", "ai_storage_app", "", None, "x" * 64]:
        with refused("42704"):
            call(database.connect(), "authorize_login", login=login, pattern="acme:*:*:*:*")
    assert dump(database) == before


def test_a_login_of_any_name_can_be_authorised_and_deauthorised(
    database: Database, new_login: Callable[..., str]
) -> None:
    admin = database.connect()
    for name in ('Mixed "quoted" login', "with blank; drop table tenant", "l\u00f6gin", "x" * 63):
        new_login(name=name)
        value(admin, "authorize_login", login=name, pattern="acme:*:*:*:*")
        connection = database.connect(name)
        assert set_tenant(connection, ACME) == ACME
        assert value(admin, "deauthorize_login", login=name) == 1
        with refused("TN003"):
            set_tenant(connection, ACME)


def test_a_login_limited_to_tokens_may_not_use_a_key(database: Database, new_login: Callable[..., str]) -> None:
    login = new_login()
    admin = database.connect()
    value(admin, "authorize_login", login=login, pattern="acme:*:*:*:*", token_only=True)
    connection = database.connect(login)
    with refused("TN003"):
        set_tenant(connection, ACME)
    for function, arguments in TENANT_CALLS.items():
        with refused("TN003"):
            call(connection, function, **arguments, as_=ACME)
    # a narrower authorisation for keys opens that much and no more
    value(admin, "authorize_login", login=login, pattern=ACME)
    assert set_tenant(connection, ACME) == ACME
    with refused("TN003"):
        set_tenant(connection, ACME_2)


def test_repeating_an_authorisation_replaces_token_only(database: Database, new_login: Callable[..., str]) -> None:
    login = new_login()
    admin = database.connect()
    connection = database.connect(login)
    for token_only in (True, False, True, None):
        value(admin, "authorize_login", login=login, pattern="acme:*:*:*:*", token_only=token_only)
        rows = [row for row in call(admin, "list_authorizations") if row.login_name == login]
        assert [(row.pattern, row.token_only) for row in rows] == [("acme:*:*:*:*", token_only is True)]
        if token_only:
            with refused("TN003"):
                set_tenant(connection, ACME)
        else:
            assert set_tenant(connection, ACME) == ACME


def test_deauthorize_takes_back_one_pattern_or_all_and_leaves_the_role_to_other_databases(
    database: Database, new_login: Callable[..., str]
) -> None:
    login, bystander = new_login(), new_login()
    admin = database.connect()

    def is_member(name: str) -> bool:
        return admin.execute("select pg_has_role(%s, 'ai_storage_app', 'MEMBER')", (name,)).fetchone()[0]

    patterns = [ACME, ACME_2, "beta:*:*:*:*"]
    for pattern in patterns:
        value(admin, "authorize_login", login=login, pattern=pattern)
    value(admin, "authorize_login", login=bystander, pattern=ACME)
    connection = database.connect(login)

    assert value(admin, "deauthorize_login", login=login, pattern="acme:*:*:*:*") == 0
    assert value(admin, "deauthorize_login", login=login, pattern=ACME) == 1
    assert value(admin, "deauthorize_login", login=login, pattern=ACME) == 0
    with refused("TN003"):
        set_tenant(connection, ACME)
    assert set_tenant(connection, ACME_2) == ACME_2
    assert is_member(login)
    assert value(admin, "deauthorize_login", login=login) == 2
    assert is_member(login)
    with refused("TN003"):
        set_tenant(connection, ACME_2)
    assert value(admin, "deauthorize_login", login=login) == 0
    assert value(admin, "deauthorize_login", login="nobody_of_that_name") == 0
    assert is_member(bystander)
    assert set_tenant(database.connect(bystander), ACME) == ACME


def test_without_an_authorisation_the_role_alone_names_no_tenant(
    database: Database, new_login: Callable[..., str]
) -> None:
    login = new_login()
    admin = database.connect()
    value(admin, "authorize_login", login=login, pattern=ACME)
    assert value(admin, "deauthorize_login", login=login) == 1
    for function, arguments in TENANT_CALLS.items():
        with refused("TN003"):
            call(database.connect(login), function, **arguments, as_=ACME)


def test_a_login_that_inherits_nothing_is_let_in_or_refused_with_the_way_out(
    database: Database, new_login: Callable[..., str]
) -> None:
    for login in (new_login("noinherit"), new_login("noinherit in role ai_storage_app")):
        admin = database.connect()
        if database.server.major < 16:
            with refused("22023") as caught:
                value(admin, "authorize_login", login=login, pattern=ACME)
            assert "alter role NAME inherit" in caught.value.diag.message_hint
            admin.execute(sql.SQL("alter role {} inherit").format(sql.Identifier(login)))
        value(admin, "authorize_login", login=login, pattern=ACME)
        assert set_tenant(database.connect(login), ACME) == ACME


def test_a_restore_without_owners_and_rights_opens_nothing(database: Database, tmp_path: Path) -> None:
    """Then every function runs as whoever restored it, and PUBLIC may call it once somebody grants the schema."""
    save(database.connect("app"), "m", 1, as_=ACME)
    call(database.connect(), "create_signing_key", kid="k")
    server, copy = database.server, database.name + "_bare"
    admin = database.connect()
    admin.execute(f'create database "{copy}"')
    try:
        dump = tmp_path / "dump"
        client(server, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={database.dsn()}")
        client(server, "pg_restore", "--no-owner", "--no-acl", "--dbname", server.dsn(dbname=copy), dump)
        with psycopg.connect(server.dsn(dbname=copy), autocommit=True) as superuser:
            superuser.execute("grant usage on schema ai_storage to app")
            definers = superuser.execute(
                "select p.oid::regproc::text, pronargs - pronargdefaults from pg_proc as p "
                "where p.pronamespace = 'ai_storage'::regnamespace and p.prosecdef"
            ).fetchall()
        assert len(definers) > 50
        arguments: dict[str, str] = {
            "set_tenant": f"'{ACME}'",
            "authorize_login": "'app', '*:*:*:*:*'",
            "set_retention": "'acme:*:*:*:*'",
            "break_glass": "'*:*:*:*:*', 'r'",
            "erase_tenant": f"'{ACME}', 'r'",
            "report_backup": "now()",
            "deauthorize_login": "'app'",
            "retire_signing_key": "'k'",
        }
        answered, early = set(), set()
        with psycopg.connect(server.dsn("app", copy), autocommit=True) as app:
            for function, needed in definers:
                name = function.split(".")[1]
                given = arguments.get(name, ", ".join(["null"] * needed))
                try:
                    row = app.execute(f"select * from {function}({given})").fetchone()
                except psycopg.Error as error:
                    if error.sqlstate != "55000":
                        early.add((name, error.sqlstate))
                else:
                    answered.add(name)
                    assert not any(row or ()), (name, row)
        # Asked with nulls, these find nothing to do.
        assert answered == {"clear_tenant", "current_tenant", "forbid_external_sharing"}
        assert {sqlstate for _, sqlstate in early} <= {"22023"}  # arguments are looked at first, as in any database
        with psycopg.connect(server.dsn(dbname=copy)) as superuser:
            (widest,) = superuser.execute(
                "select count(*) from ai_storage_private.login_authorization where login_name = 'app'"
            ).fetchone()
            assert widest == 1
        for act in (migrate.status, migrate.migrate, migrate.init):
            with pytest.raises(migrate.MigrationError) as error:
                act(server.dsn(dbname=copy))
            assert "--no-owner" in error.value.hint
            assert "rop" not in error.value.hint
        with psycopg.connect(server.dsn(dbname=copy)) as superuser:
            results = {result.id: result for result in doctor.examine(superuser, probes=False)}
        assert "--no-owner" in results["schema-owner"].mend
    finally:
        admin.execute(f'drop database "{copy}" with (force)')


def test_one_database_takes_no_login_from_another_of_the_server(
    database: Database, empty_database: Database, new_login: Callable[..., str]
) -> None:
    login = new_login()
    migrate.init(empty_database.dsn(), app_login=login, pattern="acme:*:*:*:*")
    value(database.connect(), "authorize_login", login=login, pattern="acme:*:*:*:*")
    assert value(empty_database.connect(), "deauthorize_login", login=login) == 1
    assert save(database.connect(login), "m", 1, as_=ACME).version == 1
    with refused("TN003"):
        set_tenant(empty_database.connect(login), ACME)


def test_what_a_dropped_login_left_can_be_taken_back(database: Database, new_login: Callable[..., str]) -> None:
    login = new_login()
    admin = database.connect()
    value(admin, "authorize_login", login=login, pattern=ACME)
    admin.execute(sql.SQL("drop role {}").format(sql.Identifier(login)))
    assert value(admin, "deauthorize_login", login=login) == 1
    assert login not in {row.login_name for row in call(admin, "list_authorizations")}


def test_list_authorizations_shows_who_gave_what_in_order(database: Database, new_login: Callable[..., str]) -> None:
    login = new_login()
    admin = new_login("in role ai_storage_admin")
    value(database.connect(admin), "authorize_login", login=login, pattern="zeta:*:*:*:*")
    value(database.connect(), "authorize_login", login=login, pattern=ACME, token_only=True)
    rows = call(database.connect(admin), "list_authorizations")
    assert [(row.pattern, row.token_only, row.authorized_by) for row in rows if row.login_name == login] == [
        (ACME, True, "postgres"),
        ("zeta:*:*:*:*", False, admin),
    ]
    assert [(row.login_name, row.pattern) for row in rows] == sorted((row.login_name, row.pattern) for row in rows)
    assert all(row.authorized_at.tzinfo for row in rows)


# What the application's login may do ----------------------------------------------------------------------------------


def test_an_application_login_may_execute_the_tenant_functions_and_nothing_else(database: Database) -> None:
    admin = database.connect()
    functions = admin.execute(
        "select n.nspname, p.proname, has_function_privilege('app', p.oid, 'execute'), "
        "has_schema_privilege('app', n.oid, 'usage') from pg_proc as p "
        "join pg_namespace as n on n.oid = p.pronamespace where n.nspname like 'ai\\_storage%'"
    ).fetchall()
    private = [name for schema, name, may, usage in functions if schema != "ai_storage" and (may or usage)]
    public = {name: may for schema, name, may, usage in functions if schema == "ai_storage" and usage}
    assert private == []
    assert public
    assert {name for name in OPERATOR_FUNCTIONS if public[name]} == set()
    tenant_functions = (*TENANT_CALLS, "set_tenant", "clear_tenant", "current_tenant", "version")
    assert {name for name in tenant_functions if not public[name]} == set()


def test_an_application_login_has_no_right_on_any_table_view_sequence_or_type(database: Database) -> None:
    admin = database.connect()
    relations = admin.execute(
        "select c.oid::regclass::text, c.relkind in ('S'), c.oid from pg_class as c "
        "join pg_namespace as n on n.oid = c.relnamespace "
        "where n.nspname like 'ai\\_storage%' and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')"
    ).fetchall()
    assert len(relations) > 8
    for name, is_sequence, oid in relations:
        if is_sequence:
            rights = admin.execute("select has_sequence_privilege('app', %s::oid, 'usage, select, update')", (oid,))
        else:
            rights = admin.execute(
                "select has_table_privilege('app', %(o)s::oid, "
                "'select, insert, update, delete, truncate, references, trigger') "
                "or has_any_column_privilege('app', %(o)s::oid, 'select, insert, update, references')",
                {"o": oid},
            )
        assert rights.fetchone() == (False,), name


def test_an_application_login_is_refused_the_private_schema_and_the_operators_functions(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", 1.0, as_=ACME)
    for statement in (
        "select * from ai_storage_private.ai_progress_tenant",
        "select * from ai_storage_private.context_secret",
        "table ai_storage_private.tenant",
        "delete from ai_storage_private.progress_version",
        "truncate ai_storage_private.tenant",
        "copy ai_storage_private.ai_progress_tenant to stdout",
        "explain select * from ai_storage_private.ai_progress_tenant",
        "create temp table t (id bigint references ai_storage_private.tenant (tenant_id))",
        "select ai_storage_private.current_tenant_id()",
        "select ai_storage_private.context_mac('', '', 'x')",
        f"select ai_storage_private.enter('{ACME}')",
        "select * from ai_storage_migration.applied_file",
        "select ai_storage.authorize_login('app', '*:*:*:*:*')",
        "select ai_storage.deauthorize_login('beta_app')",
        "select * from ai_storage.list_authorizations()",
        "create function ai_storage.load_progress() returns int language sql return 1",
        "set role ai_storage_owner",
        "set role ai_storage_operator",
        "set role ai_storage_sharing",
        "set session authorization beta_app",
        "set session_replication_role = replica",
    ):
        with refused("42501", hint=False):
            app.execute(statement)


def test_switching_row_security_off_is_an_error_and_not_a_way_in(database: Database) -> None:
    save(database.connect("app"), "m", 1.0, as_=BETA)
    app = database.connect("app")
    app.execute("set row_security = off")
    for function, arguments in TENANT_CALLS.items():
        with refused("42501", hint=False):
            call(app, function, **arguments, as_=ACME)


# Objects that shadow what the functions use ---------------------------------------------------------------------------

SHADOWED_TYPES = [
    "text",
    "name",
    "bool",
    "boolean",
    "int4",
    "int8",
    "bigint",
    "integer",
    "numeric",
    "float8",
    "jsonb",
    "json",
    "uuid",
    "timestamptz",
    "bytea",
    "record",
    "acting_tenant",
    "_text",
    "oid",
    "regclass",
]
SHADOWED_RELATIONS = [
    "tenant",
    "login_authorization",
    "context_secret",
    "ai_progress_tenant",
    "progress_version",
    "deleted_model",
    "idempotency_key",
    "pg_roles",
    "pg_authid",
    "pg_auth_members",
    "pg_type",
    "pg_proc",
    "pg_class",
]
# name -> arguments
SHADOWED_FUNCTIONS = {
    "set_config": "text, text, boolean",
    "current_setting": "text, boolean",
    "sha256": "bytea",
    "convert_to": "text, name",
    "encode": "bytea, text",
    "string_to_array": "text, text",
    "array_to_string": "text[], text",
    "left": "text, int",
    "substr": "text, int",
    "strpos": "text, text",
    "length": "text",
    "repeat": "text, int",
    "chr": "int",
    "abs": "numeric",
    "now": "",
    "clock_timestamp": "",
    "statement_timestamp": "",
    "gen_random_uuid": "",
    "pg_backend_pid": "",
    "pg_has_role": "oid, name, text",
    "jsonb_typeof": "jsonb",
    "jsonb_each": "jsonb",
    "jsonb_array_elements": "jsonb",
    "jsonb_object_keys": "jsonb",
    "jsonb_path_exists": "jsonb, jsonpath",
    "jsonb_build_array": "text",
    "octet_length": "text",
    "pg_column_size": "jsonb",
    "texteq": "text, text",
}
SHADOWED_OPERATORS = {
    "=": ("text", "text"),
    "<>": ("text", "text"),
    "~": ("text", "text"),
    "||": ("text", "text"),
    ">": ("text", "text"),
    "->": ("jsonb", "text"),
    "<": ("bigint", "bigint"),
    "+": ("bigint", "integer"),
}


def shadow_everything(app: Connection) -> None:
    """Put objects of the attacker's in front of everything the API's functions could name."""

    def trap(schema: str, name: str, arguments: str) -> None:
        # Names who ran it, in a setting that the attacker can read afterwards.
        app.execute(
            sql.SQL(
                "create or replace function {}.{}(" + arguments + ") returns pg_catalog.text language plpgsql as "
                "$f$ begin perform pg_catalog.set_config('trap.ran', current_user, false); return 'evil'; end $f$"
            ).format(sql.Identifier(schema), sql.Identifier(name))
        )

    for schema in ("public", "pg_temp"):
        for name, arguments in SHADOWED_FUNCTIONS.items():
            trap(schema, name, arguments)
    for number, (operator, (left, right)) in enumerate(SHADOWED_OPERATORS.items()):
        trap("public", f"trap_{number}", f"{left}, {right}")
        for schema in ("public", "pg_temp"):
            app.execute(
                sql.SQL(
                    f"create operator {{}}.{operator} (leftarg = {left}, rightarg = {right}, function = {{}})"
                ).format(sql.Identifier(schema), sql.Identifier("public", f"trap_{number}"))
            )
    for name in SHADOWED_RELATIONS:
        app.execute(sql.SQL("create temp table {} (x int)").format(sql.Identifier(name)))
    for name in SHADOWED_TYPES:
        app.execute(sql.SQL("create type pg_temp.{} as enum ('evil')").format(sql.Identifier(name)))
    app.execute("set search_path = pg_temp, public, pg_catalog")


def trapped(connection: Connection) -> str | None:
    return connection.execute("select pg_catalog.current_setting('trap.ran', true)").fetchone()[0]


def everything_the_api_does(app: Connection, mine: str, older: str) -> list[object]:
    """One pass through the API, without values that differ from run to run."""
    answers: list[object] = [
        value(app, "isolation_key", **dict(zip(LEVELS, mine.split(":"), strict=True))),
        tuple(call(app, "parse_isolation_key", key=mine)[0]),
        value(app, "is_isolation_key", key="junk"),
    ]
    save(app, "old", 1.0, as_=older)
    for function, arguments in (
        ("save_progress", {"model_name": "m", "mse": 0.5, "metrics": {"a": 1}, "metadata": {"b": [1, {"c": 2}]}}),
        ("save_progress", {"model_name": "m", "mse": 0.25, "training_samples": 3, "idempotency_key": "k"}),
        ("save_progress_batch", {"items": [{"model_name": "n", "mse": 2}, {"model_name": "o", "metrics": {"x": 1}}]}),
    ):
        answers.append([row[:3] for row in call(app, function, **arguments, as_=mine)])
    with app.transaction():
        answers += [set_tenant(app, mine), current(app), versions(app, "m")]
        answers += [[row[:9] for row in call(app, "load_progress")], names(app, after=" m", limit=1)]
        call(app, "clear_tenant")
        answers.append(current(app))
    answers += [value(app, "delete_progress", model_name="m", as_=mine), names(app, as_=mine)]
    answers.append([tuple(row) for row in call(app, "promote_progress", from_code_hash="c2", as_=mine)])
    for sqlstate, arguments in (("22023", {"model_name": ""}), ("TN102", {"model_name": "n", "expected_version": 7})):
        with refused(sqlstate):
            call(app, "save_progress", **arguments, mse=1.0, as_=mine)
    with refused("TN001"):
        call(app, "load_progress")
    return answers


def test_the_attackers_objects_never_stand_in_for_those_the_functions_mean(database: Database) -> None:
    superuser = database.connect()
    superuser.execute("grant create on schema public to app")
    superuser.execute("grant temp on database " + '"' + database.name + '"' + " to app")
    honest = everything_the_api_does(database.connect("app"), key("org1"), key("org1", code="c2"))

    app = database.connect("app")
    shadow_everything(app)
    attacked = everything_the_api_does(app, key("org2"), key("org2", code="c2"))
    assert str(attacked).replace("org2", "org1") == str(honest)
    assert trapped(app) is None

    # The trap works: a definer function that leaves its path to the caller falls into it, as its owner.
    superuser.execute(
        "create function public.careless() returns text language plpgsql security definer as "
        "$f$ begin return left('abc', 1); end $f$"
    )
    app.execute("select public.careless()")
    assert trapped(app) == "postgres"


def test_the_attackers_objects_never_stand_in_for_those_the_operators_functions_mean(
    database: Database, new_login: Callable[..., str]
) -> None:
    # An administrator may call the operator's functions, yet must not run code as the operator.
    login, admin_login = new_login(), new_login("in role ai_storage_admin")
    superuser = database.connect()
    superuser.execute(sql.SQL("grant create on schema public to {}").format(sql.Identifier(admin_login)))
    admin = database.connect(admin_login)
    shadow_everything(admin)
    value(admin, "authorize_login", login=login, pattern=ACME)
    assert [row.pattern for row in call(admin, "list_authorizations") if row.login_name == login] == [ACME]
    with refused("22023"):
        call(admin, "authorize_login", login=login, pattern="junk")
    with refused("42704"):
        call(admin, "authorize_login", login="nobody_of_that_name", pattern=ACME)
    assert value(admin, "deauthorize_login", login=login) == 1
    assert trapped(admin) is None
    superuser.execute(sql.SQL("drop owned by {}").format(sql.Identifier(admin_login)))


def test_a_collation_under_which_other_texts_are_equal_is_refused(database: Database) -> None:
    app = database.connect("acme_app")
    save(app, "m", as_=ACME)
    try:
        app.execute(
            "create collation pg_temp.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this build of PostgreSQL has no ICU, and only ICU has such collations")
    for arguments in ("%s collate pg_temp.loose", "%s, p_scope => 'OWN' collate pg_temp.loose"):
        query = f"select * from ai_storage.load_progress(p_as => {arguments})"
        with refused("22023"):
            app.execute(query, (ACME,))
    with refused("22023"):
        app.execute("select ai_storage.set_tenant(%s collate pg_temp.loose)", (ACME.upper(),))


def test_a_database_restored_without_its_secret_says_so_until_it_has_a_new_one(database: Database) -> None:
    app, admin = database.connect("acme_app"), database.connect()
    save(app, "m", as_=ACME)
    with app.transaction():
        value(app, "set_tenant", credential=ACME)
        (genuine,) = app.execute("select current_setting('app.tenant_context')").fetchone()
        admin.execute("delete from ai_storage_private.context_secret")
        with refused("TN001"), app.transaction():
            names(app)
    with refused("55000"):
        names(app, as_=ACME)
    with refused("55000"):
        names(app, as_=ACME_2)
    with app.transaction():
        value(admin, "renew_context_secret")
        app.execute("select set_config('app.tenant_context', %s, true)", (genuine,))
        with refused("TN001"), app.transaction():
            names(app)
    assert names(app, as_=ACME) == ["m"]
    value(admin, "renew_context_secret")
    assert names(app, as_=ACME) == ["m"]
    assert admin.execute("select count(*) from ai_storage_private.context_secret").fetchone() == (1,)


def test_a_secret_that_was_renewed_is_gone_for_older_snapshots_too(database: Database) -> None:
    admin, keeper, app = database.connect(), database.connect("stranger"), database.connect("acme_app")
    save(app, "m", as_=ACME)
    secret = admin.execute("select inner_key, outer_key from ai_storage_private.context_secret").fetchone()
    with keeper.transaction():
        keeper.execute("set transaction isolation level repeatable read")
        (snapshot,) = keeper.execute("select pg_export_snapshot()").fetchone()
        value(admin, "renew_context_secret")
        with refused("55000"), app.transaction():
            app.execute("set transaction isolation level repeatable read")
            app.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
            names(app, as_=ACME)
    assert admin.execute("select inner_key, outer_key from ai_storage_private.context_secret").fetchone() != secret
    assert names(app, as_=ACME) == ["m"]
