"""The fuzzer finds nothing in a sound database, and finds what we plant in an unsound one."""

from __future__ import annotations

import base64
import random
import struct
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tests import fuzz

if TYPE_CHECKING:
    from tests.conftest import Database

SEEDS = (1, 2)
STATEMENTS = 4000  # for each seed
MOST_STATEMENTS = 60_000  # until something planted has to be found

Plant = Callable[[fuzz.World], object]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_sql_of_an_attacker_learns_and_changes_nothing_of_others(database: Database, seed: int) -> None:
    report = fuzz.run(database.dsn, seed, STATEMENTS)
    assert not report.findings, f"seeds {SEEDS}\n{report}"
    assert report.statements == STATEMENTS
    # It did look, and at most statements were not turned away.
    assert report.shared_seen, report
    assert report.succeeded > 0.5, report


def test_a_seed_makes_the_same_statements_again(database: Database) -> None:
    with ExitStack() as stack:
        world = fuzz.World(database.dsn, 1, stack)
        made = []
        for seed in (1, 1, 2):
            generator = fuzz.Generator(world, random.Random(seed))
            made.append([list(generator.session(attacker)[1]) for attacker in fuzz.ATTACKERS])
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_no_statement_holds_a_canary_that_the_attacker_brought_himself(database: Database) -> None:
    with ExitStack() as stack:
        world = fuzz.World(database.dsn, 1, stack)
        world.put_victims_to_work(stack)
        for known in world.known.values():
            assert world.canaries.found(known.encode()) == []
        _, script = fuzz.Generator(world, random.Random(1)).session(fuzz.ATTACKERS[0])
        for statement in islice(script, 200):
            assert world.canaries.found(statement.text.encode()) == []


# The oracle -----------------------------------------------------------------------------------------------------------


def _rewrite(function: str, old: str, new: str, *, owner: str | None = None) -> Plant:
    """One of our functions with a part of its body replaced. owner: a superuser, to walk around the policies."""

    def plant(world: fuzz.World) -> None:
        (source,) = world.admin.execute("select pg_get_functiondef(%s::regproc)", (function,)).fetchone()
        assert source.count(old) >= 1, f"{function} no longer says {old}"
        world.admin.execute(source.replace(old, new))
        if owner is not None:
            world.admin.execute(f"alter function {function} owner to {owner}")

    return plant


def _sql(*statements: str) -> Plant:
    def plant(world: fuzz.World) -> None:
        for statement in statements:
            world.admin.execute(statement)

    return plant


_TALKATIVE = """
create or replace function ai_storage.current_tenant() returns text language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $fn$
declare
    v_all constant text := (select string_agg(p::text, ',') from ai_storage_private.ai_progress_tenant as p);
begin
    {};
    return null;
end;
$fn$;
alter function ai_storage.current_tenant() owner to postgres;
"""

LEAKS = {
    "a lost condition, and an owner whom no policy binds": _rewrite(
        "ai_storage.load_progress", "p.tenant_id = v_tenant.tenant_id", "true", owner="postgres"
    ),
    "readable tables": _sql(
        "grant usage on schema ai_storage_private to public",
        "grant select on all tables in schema ai_storage_private to public",
        "do $$declare v_table record; begin for v_table in select c.oid::regclass as name from pg_class as c "
        "where c.relnamespace = 'ai_storage_private'::regnamespace and c.relrowsecurity loop "
        "execute 'alter table ' || v_table.name || ' disable row level security'; end loop; end$$",
    ),
    "the detail of an error": _sql(_TALKATIVE.format("raise exception 'no' using detail = v_all")),
    "a notice in base64": _sql(_TALKATIVE.format("raise notice '%', encode(v_all::bytea, 'base64')")),
    "a notification in hex": _sql(
        _TALKATIVE.format("perform pg_notify('fuzz', left(encode(v_all::bytea, 'hex'), 7000))")
    ),
    "a grant that is over": _rewrite(
        "ai_storage_private.in_force", "s.expires_at > clock_timestamp()", "s.expires_at is not null"
    ),
    "more than the pinned version": _rewrite(
        "ai_storage_private.load_shared_history", "v.version = coalesce(v_share.pinned_version, v.version)", "true"
    ),
    "who else writes to a shared model": _rewrite(
        "ai_storage_private.load_shared_history",
        "coalesce(v.saved_by, p_owner) in (p_owner, p_tenant.isolation_key)",
        "true",
    ),
}

CHANGES = {
    "a lost condition, and an owner whom no policy binds": _rewrite(
        "ai_storage.delete_progress",
        "p.tenant_id = v_tenant.tenant_id",
        "p.ctid = (select min(q.ctid) from ai_storage_private.ai_progress_tenant as q "
        'where q.model_name = p_model_name collate "C")',
        owner="postgres",
    ),
    "a grant that anybody may revoke": _rewrite("ai_storage.revoke_share", "s.sharer_id = v_tenant.tenant_id", "true"),
    "a schema where anybody may create": _sql("grant create on schema ai_storage to public"),
}


# The first that is seen may be a leak or a change.
HOLES = {
    "large objects without owners": lambda world: world.admin.execute(
        f'alter database "{world.known["database"]}" set lo_compat_privileges = on'
    ),
    "a context that is not verified": _rewrite(
        "ai_storage_private.verified_context",
        "is distinct from v_context then null",
        "is distinct from v_context and false then null",
    ),
    "a context of another session": _rewrite(
        "ai_storage_private.verified_context",
        """when v_field[6] <> pg_backend_pid()::text
            or v_field[7] <> extract(epoch from now())::text then null""",
        "",
    ),
    "a key without authorisation": _rewrite(
        "ai_storage_private.check_credential", "if v_authorized is null", "if false"
    ),
    "a token whose signature is not compared": _rewrite(
        "ai_storage_private.verify_token", "if sha256(", "if false and sha256("
    ),
    "a retired key": _rewrite("ai_storage_private.verify_token", "and k.retired_at is null", ""),
}


@pytest.mark.parametrize("planted", LEAKS)
def test_a_planted_leak_is_found(database: Database, planted: str) -> None:
    report = fuzz.run(database.dsn, 1, MOST_STATEMENTS, prepare=LEAKS[planted], most_findings=5)
    assert [finding for finding in report.findings if finding.what.startswith("leak")], report
    assert report.findings[0].statements


@pytest.mark.parametrize("planted", CHANGES)
def test_a_planted_change_is_found(database: Database, planted: str) -> None:
    report = fuzz.run(database.dsn, 1, MOST_STATEMENTS, check_every=100, prepare=CHANGES[planted], most_findings=1)
    assert [finding for finding in report.findings if finding.what.startswith("change")], report


@pytest.mark.parametrize("planted", HOLES)
def test_a_planted_hole_is_found(database: Database, planted: str) -> None:
    report = fuzz.run(database.dsn, 1, MOST_STATEMENTS, prepare=HOLES[planted], most_findings=1)
    assert report.findings, report


@pytest.mark.parametrize(
    "change",
    [
        "update ai_storage_private.ai_progress_tenant set mse = mse where model_name = 'again'",
        "update ai_storage_private.ai_progress_tenant set model_name = 'other' where model_name = 'written'",
        "delete from ai_storage_private.progress_version where version = 1",
        "insert into ai_storage_private.external_sharing_permit (org_id, to_org_id) values ('acme', 'x')",
        "update ai_storage_private.signing_key set retired_at = null",
        "update ai_storage_private.login_authorization set token_only = false where token_only",
        "grant select on ai_storage_private.tenant to public",
        "grant select (tenant_id) on ai_storage_private.tenant to public",
        "alter table ai_storage_private.tenant no force row level security",
        "drop policy tenant_sees_itself on ai_storage_private.tenant",
        "alter function ai_storage.version() owner to fuzz_key",
        "revoke execute on function ai_storage.version() from ai_storage_app",
        "alter role fuzz_key createrole",
        "alter role fuzz_victim set row_security = off",
        "comment on role fuzz_victim is 'x'",
        "create table public.more ()",
        "create operator public.=== (leftarg = text, rightarg = text, function = texteq)",
    ],
)
def test_the_comparison_sees_every_kind_of_change(database: Database, change: str) -> None:
    with ExitStack() as stack:
        world = fuzz.World(database.dsn, 1, stack)
        before = world.snapshot()
        world.tidy()
        assert fuzz.changes(before, world.snapshot()) == []
        with world.admin.transaction(force_rollback=True):
            world.admin.execute(change)
            assert fuzz.changes(before, world.snapshot()) != []


@pytest.mark.parametrize(
    "write",
    [
        str.encode,
        lambda text: text.upper().encode(),
        lambda text: text[::-1].encode(),
        lambda text: text.encode().hex().upper().encode(),
        *(lambda text, before=before: base64.b64encode(f"{before}{text}!".encode()) for before in ("", "a", "ab")),
        lambda text: base64.urlsafe_b64encode(text.encode()),
        # A bytea that holds the base64 of it, and a row in a row.
        lambda text: rb"\x" + base64.b64encode(text.encode()).hex().encode(),
        lambda text: f'("{{""a"": ""{text}""}}",1)'.encode(),
    ],
)
def test_a_canary_is_found_however_it_is_written(write: Callable[[str], bytes]) -> None:
    canaries = fuzz.Canaries(random.Random(1))
    assert canaries.found(b"before " + write(canaries.text("place")) + b" after")
    assert canaries.found(b"before " + write(canaries.text("place", shared=True)) + b" after") == []


def test_a_number_is_found_as_text_and_as_bytes() -> None:
    canaries = fuzz.Canaries(random.Random(1))
    number = canaries.number()
    for written in (repr(number).encode(), f"{number:.15e}".encode(), str(canaries.count()).encode()):
        assert canaries.found(b"[" + written + b"]")
    raw = struct.pack(">d", number)
    assert canaries.found(raw)
    assert canaries.found(raw.hex().encode())
    assert canaries.found(repr(number / 3).encode()) == []
