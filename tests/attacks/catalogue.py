"""What the attacks are, who can try them, and how each one is closed.

Attackers: a another tenant through the API; b somebody with full SQL as an application's login; c the next borrower of
a pooled connection; d an operator who edits history.
"""

from __future__ import annotations

from typing import NamedTuple


class Attack(NamedTuple):
    """One attack. closed: how; where it is not closed, it says so and why."""

    number: int
    title: str
    by: str
    closed: str


ATTACKS = [
    Attack(
        1,
        "Forge the tenant setting with SET or set_config inside one SELECT",
        "b",
        "Settings are believed only with a MAC under a secret that no login can read.",
    ),
]
