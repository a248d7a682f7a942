"""Two tenants in one database, the attacker of one, and the three ways he connects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import jwt
import psycopg
import pytest
from pytest_postgresql import factories

from tests import conftest
from tests.conftest import FAST, LOGINS, Database, Server
from tests.helpers import ACME, BETA, Connection, call, everything_said, save, value
from tests.pgbouncer import pgbouncer

# What an operator may have turned on, and what makes more attacks possible.
OPEN = {"max_prepared_transactions": "10", "shared_preload_libraries": "pg_stat_statements", "wal_level": "logical"}
WAYS = ("direct", "transaction", "statement")

# Whatever the victim keeps holds this text, and its numbers begin with these digits. The mse is one that doubles hold.
CANARY = "canaryQ7x9"
CANARY_NUMBER = 0.7312943871


@dataclass(frozen=True, slots=True)
class House:
    """An installed database with a victim in it, and a way to connect to it.

    The victim is the tenant BETA of the login beta_app. It keeps the models `victim model` and `same name`, each with
    CANARY in every text and CANARY_NUMBER in every number, and `shared` without a canary, for a test to share. The
    attacker is the tenant ACME of the login acme_app (authorised acme:*:*:*:*), who has the models `own`
    and `same name`.
    """

    database: Database
    way: str
    dsn: Callable[[str, str], str]
    stack: ExitStack = field(repr=False)

    @property
    def transactions(self) -> bool:
        """Whether the way allows transactions of several statements."""
        return self.way != "statement"

    def connect(self, login: str = "acme_app") -> Connection:
        """A connection of a login, the attacker's if not named, in autocommit, by this house's way."""
        # PgBouncer 1.18 knows nothing of prepared statements.
        options: dict[str, Any] = {} if self.way == "direct" else {"prepare_threshold": None}
        return self.stack.enter_context(
            psycopg.connect(self.dsn(login, self.database.name), autocommit=True, **options)
        )

    def admin(self) -> Connection:
        """A direct connection of the superuser, to prepare and to look, never to attack."""
        return self.database.connect()


def together(*statements: str) -> str:
    """Statements that run as one message, and so as one transaction, whatever the pool's mode: as an injection does."""
    return "; ".join(statements)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for the attacks alone, with OPEN set."""
    yield from conftest.start(request, {**FAST, **OPEN})


# Template databases on that server, and not on the one of the other tests.
prepared = factories.postgresql_noproc(depends_on="server", load=[conftest._load])
fresh = factories.postgresql("prepared")


@pytest.fixture(scope="session")
def ways(server: Server) -> Iterator[dict[str, Callable[[str, str], str]]]:
    """For each way a function that makes a DSN of a login and a database."""
    with ExitStack() as stack:
        made: dict[str, Callable[[str, str], str]] = {"direct": lambda login, name: server.dsn(login, name)}
        logins = ["postgres", "stranger", *LOGINS]
        made["transaction"] = stack.enter_context(pgbouncer(server.host, server.port, logins, "transaction"))
        made["statement"] = stack.enter_context(pgbouncer(server.host, server.port, logins, "statement"))
        yield made


@pytest.fixture(params=WAYS)
def house(
    request: pytest.FixtureRequest, database: Database, ways: dict[str, Callable[[str, str], str]]
) -> Iterator[House]:
    """The house, by each of the three ways."""
    victim, attacker = database.connect("beta_app"), database.connect("acme_app")
    for name in ("victim model", "same name"):
        save(
            victim,
            name,
            CANARY_NUMBER,
            metrics={f"{CANARY}_metric": CANARY_NUMBER},
            metadata={CANARY: [CANARY, CANARY_NUMBER]},
            idempotency_key=f"{CANARY} {name}",
            as_=BETA,
        )
    save(victim, f"{CANARY} secret name", CANARY_NUMBER, as_=BETA)
    save(victim, "shared", 0.5, as_=BETA)
    for name in ("own", "same name"):
        save(attacker, name, 0.25, as_=ACME)
    with ExitStack() as stack:
        yield House(database, request.param, ways[request.param], stack)


Mint = Callable[..., str]


@pytest.fixture
def mint(house: House) -> Mint:
    """Mints a token of the house's signing key: of a tenant's isolation key, with other claims or headers if named.

    The key has the kid k1 and the audience `here`; mint.secret is its secret. A claim of None is left out.
    """
    (made,) = call(house.admin(), "create_signing_key", kid="k1", audience="here")

    def new(tenant: str = ACME, headers: dict[str, Any] | None = None, secret: str = made.secret, **claims: Any) -> str:
        levels = dict(zip(("org", "srv", "prj", "env", "code"), tenant.split(":"), strict=True))
        payload = {"aud": "here", "exp": int(time.time()) + 600, **levels, **claims}
        payload = {name: claim for name, claim in payload.items() if claim is not None}
        return jwt.encode(payload, secret, algorithm="HS256", headers={"kid": "k1", **(headers or {})})

    new.secret = made.secret
    return new


def no_canary(answer: object) -> None:
    """Fail if an answer, or an error with all its fields, holds anything of the victim."""
    text = everything_said(answer) if isinstance(answer, psycopg.Error) else repr(answer)
    assert CANARY not in text, text
    assert str(CANARY_NUMBER)[:8] not in text, text


def tried(connection: Connection, statement: str, *parameters: Any) -> list[Any] | psycopg.Error:
    """Run an attack and return its rows or its error; either is searched for the victim's canaries.

    Of several statements in one message, the rows of all.
    """
    answer: list[Any] | psycopg.Error = []
    try:
        cursor = connection.execute(statement, parameters or None)
        more: bool | None = True
        while more:
            answer += cursor.fetchall() if cursor.description else []
            more = cursor.nextset()
    except psycopg.Error as error:
        answer = error
    no_canary(answer)
    return answer


__all__ = ["CANARY", "CANARY_NUMBER", "House", "Mint", "call", "no_canary", "together", "tried", "value"]
