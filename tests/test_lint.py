"""How the findings of the SQL linters are set against their exceptions. The linters themselves run in `make lint`."""

from __future__ import annotations

from tests.lint.__main__ import Finding, compare
from tests.lint.exceptions import EXCEPTIONS, Exceptions

HARMLESS = Exceptions("pgrls", ["SEC001", "SEC007"], ["s.a", "t.*"], "a reason")
FOUND = [Finding("pgrls", rule, target, "") for rule in ("SEC001", "SEC007") for target in ("s.a", "t.b", "t.c")]


def test_what_is_excepted_is_neither_reported_nor_out_of_date() -> None:
    assert compare(FOUND, [HARMLESS], {"pgrls"}) == ([], [])


def test_a_finding_is_reported_unless_its_tool_rule_and_target_are_excepted() -> None:
    others = [
        Finding("squawk", "SEC001", "s.a", ""),
        Finding("pgrls", "SEC002", "s.a", ""),
        Finding("pgrls", "SEC001", "s.ab", ""),
    ]
    assert compare([*FOUND, *others], [HARMLESS], {"pgrls"}) == (others, [])


def test_an_exception_that_nothing_was_found_for_is_out_of_date() -> None:
    assert compare(FOUND[1:], [HARMLESS], {"pgrls"}) == ([], ["pgrls SEC001 s.a"])


def test_a_linter_that_did_not_run_makes_no_exception_out_of_date() -> None:
    assert compare([], [HARMLESS], {"pgspot"}) == ([], [])


def test_every_exception_has_a_reason_and_is_listed_once() -> None:
    entries = [(tool, rule, target) for tool, rules, targets, _ in EXCEPTIONS for rule in rules for target in targets]
    assert len(entries) == len(set(entries))
    assert all(len(exception.reason.split()) > 4 for exception in EXCEPTIONS)
