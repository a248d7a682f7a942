"""The common pattern, to show that an attack is a real one: it works there, and not here."""

from __future__ import annotations

from tests.attacks.conftest import CANARY, House
from tests.conftest import Database
from tests.helpers import Connection

#: Whom the attacks are run as: an application, a reader of the reporting view, and a login with no right at all.
ATTACKERS = ("acme_app", "reporter", "stranger")

# The first minors with the fixes of November 2026; 16, 17 and 18 had none yet when this was written.
FIXED = {15: 20, 16: 16, 17: 12, 18: 7}

PATTERN = f"""
    create schema pattern;
    create table pattern.model (
        tenant text not null,
        name   text primary key,
        secret text not null,
        number float8 not null default 0.5
    );
    alter table pattern.model enable row level security;
    create policy tenant_isolation on pattern.model
        using (tenant = current_setting('app.current_tenant', true));
    insert into pattern.model values ('beta', 'victim model', '{CANARY}'), ('acme', 'own', 'mine');
    grant usage on schema pattern to public;
    grant select, insert, update, delete on pattern.model to public
"""

# A function that tells what it is shown, and an operator made of it. They need a schema to lie in.
LEAK = """
    create function {schema}.leak(text, text) returns boolean language plpgsql cost 0.0001 as
    $$ begin raise notice 'saw % and %', $1, $2; return true; end $$;
    create operator {schema}.= (leftarg = text, rightarg = text, function = {schema}.leak, restrict = eqsel);
    set search_path = {schema}, pg_catalog
"""


def build_pattern(house: House) -> Connection:
    """Make the common pattern's table beside ours and connect the attacker to it, as the tenant `acme`."""
    house.admin().execute(PATTERN)
    attacker = house.connect("acme_app")
    attacker.execute("set app.current_tenant = 'acme'")
    return attacker


def bring_leak(database: Database, attacker: Connection) -> list[str]:
    """Give an attacker a leaky operator = of texts in a schema of his own. Returns what it was shown, as it comes in.

    Many logins may create objects somewhere: in a schema of theirs, or in public where a database is old.
    """
    schema = f"of_{attacker.info.user}"
    database.connect().execute(f"create schema {schema} authorization {attacker.info.user}")
    attacker.execute(LEAK.format(schema=schema))
    shown: list[str] = []
    attacker.add_notice_handler(lambda notice: shown.append(notice.message_primary or ""))
    return shown


def is_fixed(connection: Connection) -> bool:
    """Whether the server has the fixes of November 2026."""
    major, minor = divmod(connection.info.server_version, 10000)
    return minor >= FIXED[major]
