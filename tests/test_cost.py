"""The hot calls cost what the committed figures say: statements, round trips, pages, write-ahead log; and no time."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

from tests import cost
from tests.cost import Cost

COMMITTED = json.loads(cost.FILE.read_text("utf-8"))

# By how much a figure may differ: by a part of the committed one, or by a number where that is more.
SLACK = {
    "statements": (0, 0),
    "round trips": (0, 0),
    "nested statements": (0, 0),
    "function calls": (0, 0),
    "buffers": (0.05, 2),
    "WAL records": (0.03, 0),
    "WAL bytes": (0.03, 0),
}


def differences(committed: Cost, now: Cost, models: int = 1) -> list[str]:
    """What differs by more than SLACK. models: how many the figures were divided by."""
    found = []
    for measure, (part, number) in SLACK.items():
        slack = max(part * committed[measure], number / models)
        if abs(now[measure] - committed[measure]) > slack:
            found.append(f"{measure}: committed {committed[measure]:.10g}, now {now[measure]:.10g}")
    return found


@pytest.fixture(scope="module")
def measured(request: pytest.FixtureRequest) -> tuple[str, dict[str, Cost]]:
    """The server's version and what each call costs on it."""
    if request.config.getoption("--pg") != cost.MAJOR:
        pytest.skip(f"pages and write-ahead log differ between major versions; the figures are those of {cost.MAJOR}")
    if sys.platform != "linux":
        pytest.skip("round trips are counted in libpq's trace, which psycopg offers on Linux only")
    return cost.measure()


@pytest.mark.parametrize("name", cost.CALLS)
def test_a_call_costs_what_is_committed(name: str, measured: tuple[str, dict[str, Cost]]) -> None:
    version, costs = measured
    found = differences(COMMITTED["calls"][name], costs[name], cost.models_in(name))
    if found:
        pytest.fail(
            "\n".join(
                [
                    f"{name}: other figures than in tests/cost.json",
                    *(f"    {line}" for line in found),
                    f"The committed ones are of PostgreSQL {COMMITTED['PostgreSQL']}, this is {version}.",
                    "If it became more, find out why. If it became less, or was meant to become more: `make cost` "
                    "writes the new figures, to be committed with the change.",
                ]
            ),
            pytrace=False,
        )


def test_every_call_has_its_committed_figures() -> None:
    assert list(COMMITTED["calls"]) == list(cost.CALLS), "run make cost"
    assert {tuple(figures) for figures in COMMITTED["calls"].values()} == {tuple(SLACK)}


def test_more_and_less_are_both_differences() -> None:
    committed = dict.fromkeys(SLACK, 100.0)
    for measure, (part, _) in SLACK.items():
        assert differences(committed, {**committed, measure: 100 * (1 + part)}) == []
        for other in (100 * (1 + part) + 1, 100 * (1 - part) - 1):
            (line,) = differences(committed, {**committed, measure: other})
            assert line.startswith(f"{measure}: committed 100, now {other:g}")


def test_the_core_imports_psycopg_and_nothing_else_from_outside() -> None:
    script = "import sys; before = set(sys.modules); import pydb; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    installed = set(loaded) & set(packages_distributions())
    assert "psycopg" in installed
    # typing_extensions: psycopg's own need.
    assert installed - {"pydb", "psycopg", "psycopg_binary", "psycopg_c", "psycopg_pool", "typing_extensions"} == set()
