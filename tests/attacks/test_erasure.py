"""Attacks on what was erased, by those who own the server and read its files."""

from __future__ import annotations

import re
from pathlib import Path

from tests.attacks import attack, only
from tests.attacks.conftest import CANARY, House
from tests.helpers import BETA, value

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
