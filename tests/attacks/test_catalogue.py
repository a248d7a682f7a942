"""The catalogue is complete, its tests exist, and docs/security.md shows both."""

from __future__ import annotations

from tests.attacks.__main__ import PAGE, page, tried_by
from tests.attacks.catalogue import ATTACKS, NUMBERS


def test_the_catalogue_holds_every_attack_once() -> None:
    assert sorted(attack.number for attack in ATTACKS) == sorted(NUMBERS)
    for attack in ATTACKS:
        assert set(attack.by) <= set("abcd"), attack
        assert attack.closed or attack.open, attack


def test_every_attack_is_tried_or_says_why_not() -> None:
    tried = tried_by()
    assert [attack.number for attack in ATTACKS if attack.number not in tried and not attack.open] == []
    assert set(tried) <= NUMBERS


def test_the_page_on_security_is_what_the_tests_say() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make docs`"
