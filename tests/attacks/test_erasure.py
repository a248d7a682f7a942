"""Attacks on what was erased, by those who own the server and read its files, and on what must not go or be full."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from tests.attacks import attack, only
from tests.attacks.conftest import CANARY, House
from tests.helpers import ACME, BETA, call, refused, save, value, versions

RELATIONS = (
    "select c.oid::regclass::text, current_setting('data_directory') || '/' || pg_relation_filepath(c.oid) "
    "from pg_class as c where pg_relation_filepath(c.oid) is not null "
    "and c.relnamespace in ('ai_storage_private'::regnamespace, 'pg_toast'::regnamespace)"
)


def files_with_the_canary(house: House) -> set[str]:
    """The relations in whose files it stands, be it in a dead row or in the free space of a page."""
    admin = house.admin()
    admin.execute("checkpoint")
    return {
        re.sub(r"_\d+$", "", relation)
        for relation, path in admin.execute(RELATIONS).fetchall()
        if CANARY.encode() in Path(path).read_bytes()
    }


@attack(63)
@only("direct")
def test_no_file_holds_what_was_erased_once_the_tables_are_rewritten(house: House) -> None:
    admin = house.admin()
    before = files_with_the_canary(house)
    assert "ai_storage_private.ai_progress_tenant" in before
    value(admin, "erase_tenant", pattern=BETA, reason="the customer left")
    assert files_with_the_canary(house)  # dead rows: deleting is not enough
    admin.execute("vacuum full")
    assert files_with_the_canary(house) == set()


@attack(70)
@only("direct", "transaction")
@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_no_deletion_commits_after_a_hold(house: House, level: str) -> None:
    evil, admin = house.connect(), house.admin()
    before = versions(evil, "own", as_=ACME)
    evil.execute(f"begin isolation level {level}")
    evil.execute("set local lock_timeout = 1")
    call(evil, "delete_progress", model_name="own", as_=ACME)
    value(evil, "clear_tenant")
    value(admin, "set_retention", pattern="acme:*:*:*:*", legal_hold=True)
    with pytest.raises(psycopg.Error):
        evil.execute("commit")
    assert versions(house.connect(), "own", as_=ACME) == before


@attack(71)
@only("direct", "transaction")
def test_a_tenant_with_a_quota_fills_no_disk(house: House) -> None:
    evil, admin = house.connect(), house.admin()
    value(admin, "set_quota", pattern="*:*:*:*:*", max_bytes=5000)
    upload = value(evil, "begin_artifact", model_name="own", artifact_name="u", as_=ACME)
    value(evil, "append_artifact", upload_id=upload, offset=0, content=b"x" * 4000, as_=ACME)
    with refused("TN601"):
        call(evil, "put_artifact", model_name="own", artifact_name="a", content=b"y" * 4000, as_=ACME)
    with refused("TN601"):
        evil.execute(
            "do $$ begin for i in 1 .. 9 loop perform ai_storage.put_artifact("
            f"'own', 'a' || i, convert_to(repeat(i::text, 999), 'UTF8'), p_as => '{ACME}'); end loop; end $$"
        )
    # The victim is another organisation, with a quota of its own.
    victim = house.connect("beta_app")
    save(victim, "victim model", 2, as_=BETA)
    save(victim, "new", as_=BETA)
