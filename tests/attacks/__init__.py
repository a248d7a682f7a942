"""The attack catalogue as tests: each attack by its number, run as the attacker's own login.

`catalogue.ATTACKS` says what each attack is and how it is closed. A test names the attacks it tries: `@attack(1)`. The
fixture `house` (conftest.py) holds two tenants and runs each test over a direct connection and through PgBouncer in
transaction and in statement mode. `make docs` writes the table of docs/security.md from all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T", bound=Callable[..., object])


def attack(*numbers: int) -> Callable[[T], T]:
    """Say which attacks of the catalogue a test tries."""

    def mark(test: T) -> T:
        test.attacks = numbers
        return test

    return mark


def only(*ways: str) -> pytest.MarkDecorator:
    """Run a test of the house by these ways alone, where another could make no difference."""
    return pytest.mark.parametrize("house", ways, indirect=True)
