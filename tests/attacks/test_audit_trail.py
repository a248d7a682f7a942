"""Attacks on the trail, by those who own the database: they are found, not prevented."""

from __future__ import annotations

from typing import Any

import pytest

from tests.attacks import attack, only
from tests.attacks.conftest import House
from tests.helpers import BETA, call, save, value

PRIVATE = "ai_storage_private"
TRIGGERS_OFF = f"alter table {PRIVATE}.ai_progress_tenant disable trigger all"


def sealed(house: House) -> dict[str, Any]:
    """Seal everything and return the checkpoint, as somebody keeps it outside."""
    call(house.admin(), "seal_audit")
    return value(house.admin(), "create_checkpoint")


def verified(house: House) -> Any:
    (answer,) = call(house.database.connect("beta_app"), "verify_audit", as_=BETA)
    return answer


@attack(59)
@only("direct")
@pytest.mark.parametrize("off", ["set session_replication_role = replica", TRIGGERS_OFF])
def test_a_change_with_the_triggers_off_shows(house: House, off: str) -> None:
    assert verified(house).verified
    admin = house.admin()
    admin.execute(off)
    admin.execute(f"update {PRIVATE}.ai_progress_tenant set mse = 0.5 where model_name = 'victim model'")
    if off == TRIGGERS_OFF:
        assert (verified(house).verified, verified(house).problem) == (
            False,
            'model "victim model": not as it was saved',
        )
    else:
        # they fire always: the change is in the log, with whose it was
        (event,) = call(house.database.connect("beta_app"), "audit_trail", as_=BETA)[-1:]
        assert (event.action, event.login, event.credential) == ("save model", "postgres", "none")


@attack(60)
@only("direct")
def test_events_rewritten_with_their_seals_end_in_another_checkpoint(house: House) -> None:
    kept = sealed(house)
    admin = house.admin()
    admin.execute(f"update {PRIVATE}.audit_event set login = 'nobody' where action = 'save model'")
    (answer,) = call(admin, "verify_all_audit")
    assert not answer.verified
    assert answer.event_id is not None
    # The chain made anew over the other history verifies by itself, and differs from what was kept.
    admin.execute(
        f"insert into {PRIVATE}.audit_pending select tenant_id, event_id, recorded_at, version, model_id, action, "
        f"login, credential, content_digest, detail_digest, salt, detail from {PRIVATE}.audit_event; "
        f"truncate {PRIVATE}.audit_event, {PRIVATE}.audit_seal, {PRIVATE}.audit_checkpoint"
    )
    forged = sealed(house)
    (answer,) = call(admin, "verify_all_audit")
    assert answer.verified
    assert forged["checkpoint_hash"] != kept["checkpoint_hash"]


@attack(62)
@only("direct")
def test_a_tenant_that_is_deleted_by_hand_leaves_its_trail(house: House) -> None:
    sealed(house)
    admin = house.admin()
    events = (
        "select count(*) from (select tenant_id from {0}.audit_event union all select tenant_id from {0}.audit_pending)"
    )
    (tenant_id,) = admin.execute(f"select tenant_id from {PRIVATE}.tenant where isolation_key = %s", (BETA,)).fetchone()
    count = f"{events.format(PRIVATE)} as e where tenant_id = {tenant_id}"
    (before,) = admin.execute(count).fetchone()
    admin.execute(f"delete from {PRIVATE}.ai_progress_tenant where tenant_id = %s", (tenant_id,))
    admin.execute(f"delete from {PRIVATE}.tenant where tenant_id = %s", (tenant_id,))
    (after,) = admin.execute(count).fetchone()
    assert after > before > 0  # the deletions are in it too
    (answer,) = call(admin, "verify_all_audit")
    assert answer.verified
    save(house.database.connect("beta_app"), "m", as_=BETA)
    assert [event.action for event in call(house.database.connect("beta_app"), "audit_trail", as_=BETA)] == [
        "insert tenant",
        "save model",
    ]
