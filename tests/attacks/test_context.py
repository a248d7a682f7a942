"""Attacks on the context: pretend to be another tenant."""

from __future__ import annotations

import psycopg

from tests.attacks import attack
from tests.attacks.conftest import House, together, tried
from tests.helpers import ACME, BETA


@attack(1)
def test_a_setting_of_ones_own_names_no_tenant(house: House) -> None:
    attacker = house.connect()
    for statement in (
        f"select set_config('app.current_tenant', '{BETA}', true), l.* from ai_storage.load_progress() as l",
        together(f"set app.current_tenant = '{BETA}'", "select * from ai_storage.load_progress()"),
        together(f"set local app.tenant_context = '{BETA}'", "select * from ai_storage.load_progress()"),
    ):
        answer = tried(attacker, statement)
        assert isinstance(answer, psycopg.Error)
        assert answer.sqlstate == "TN001"
    rows = tried(attacker, "select model_name from ai_storage.load_progress(p_as => %s)", ACME)
    assert rows == [("own",), ("same name",)]
