"""Writes the table of docs/security.md from the catalogue and the tests; --check only compares."""

from __future__ import annotations

import importlib
import sys
from collections import defaultdict
from pathlib import Path

from tests.attacks.catalogue import ATTACKS

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- the table begins: make docs -->\n", "<!-- the table ends -->\n"


def tried_by() -> dict[int, list[str]]:
    """For each number the tests that try the attack, as file::name."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.attacks.{path.stem}")
        for name, test in vars(module).items():
            for number in getattr(test, "attacks", ()) if name.startswith("test_") else ():
                found[number].append(f"{path.stem}::{name}")
    return found


def table() -> str:
    """The catalogue as Markdown, one row an attack."""
    by_number = tried_by()
    lines = ["| | attack | by | how it is closed | tests |", "|---|---|---|---|---|"]
    for attack in sorted(ATTACKS):
        closed = " ".join([attack.closed, f"**Open:** {attack.open}." if attack.open else ""]).strip()
        names = "<br>".join(f"`{name}`" for name in by_number[attack.number])
        lines.append(f"| {attack.number} | {attack.title} | {attack.by} | {closed} | {names} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """docs/security.md with the table as it has to be."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def main() -> int:
    wanted = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text("utf-8") != wanted:
            print(f"{PAGE.name} is not what the tests say: run `make docs`", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
