"""What the attacks are, who can try them, and how each one is closed.

Attackers: a another tenant through the API; b somebody with full SQL as an application's login; c the next borrower of
a pooled connection; d an operator who edits history.
"""

from __future__ import annotations

from typing import NamedTuple

AUDIT_LOG = "arrives with the audit log"

#: The numbers there have to be. Those left out are not ours to close or not of this design.
NUMBERS = frozenset(
    [*range(1, 32), *range(34, 39), 40, 42, 43, 44, 47, 48, *range(50, 61), 62, 63, 65, 67],
)


class Attack(NamedTuple):
    """One attack. closed: how. open: what of it is not closed, or why there is no test yet."""

    number: int
    title: str
    by: str
    closed: str
    open: str = ""


CONTEXT = [
    Attack(
        1,
        "Forge the tenant setting with SET or set_config inside one SELECT",
        "b",
        "Settings are believed only with a MAC under a secret that no login can read.",
    ),
]

ATTACKS = [*CONTEXT]
