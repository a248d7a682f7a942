"""Values on their way to the database: numbers of other libraries are numbers, and what is none is named."""

from __future__ import annotations

import ipaddress
import json
import math
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import psycopg
import pytest

from pydb import InvalidArgument, calls, session
from pydb.calls import MAX_BATCH
from tests.conftest import Database
from tests.helpers import ACME, call, refused


class Tensor:
    """A tensor as torch has it: of any number of dimensions, and item() where it holds one number."""

    def __init__(self, *values: float, ndim: int = 0) -> None:
        self.values, self.ndim = values, ndim

    def item(self) -> float:
        (value,) = self.values
        return value

    def __float__(self) -> float:
        return float(self.item())

    def __index__(self) -> int:
        raise TypeError("only integer tensors of a single element can be converted to an index")


NUMBERS = [
    (np.float32(0.5), 0.5),
    (np.float64(0.5), 0.5),
    (np.float16(0.5), 0.5),
    (np.longdouble(0.5), 0.5),
    (np.int64(7), 7),
    (np.uint8(7), 7),
    (np.array(0.5), 0.5),
    (np.array(7), 7),
    (Tensor(0.5), 0.5),
    (Tensor(7), 7),
    (Decimal("0.5"), 0.5),
    (Fraction(1, 2), 0.5),
]


@pytest.mark.parametrize(("given", "stored"), NUMBERS)
def test_a_number_of_another_library_is_a_number_everywhere(database: Database, given: Any, stored: float) -> None:
    mine = database.storage(ACME)
    mine.save_ai_progress("one", given, metrics={"a": given}, metadata={"a": [given]}, training_samples=np.int32(3))
    mine.save_ai_progress_batch(
        [{"model_name": "two", "mse": given, "metrics": {"a": given}, "metadata": {"a": [given]}}]
    )
    for row in mine.load_ai_progress():
        assert (row.mse, row.metrics, row.metadata) == (stored, {"a": stored}, {"a": [stored]})
        assert type(row.metrics["a"]) is type(stored)


def test_other_mappings_and_truth_values_are_taken() -> None:
    metadata = MappingProxyType({"a": OrderedDict(b=np.bool_(True)), "t": (1, None)})
    call = calls.save_progress("m", 1, metrics=MappingProxyType({"x": 1}), metadata=metadata)
    assert [json.loads(call.params[at]) for at in (3, 4)] == [{"x": 1}, {"a": {"b": True}, "t": [1, None]}]


NOT_FINITE = [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf"), Tensor(math.nan), Decimal("inf")]
Save = Callable[[Any], Any]


@pytest.mark.parametrize("bad", [*NOT_FINITE, 10**400])
def test_what_is_not_finite_is_named_before_anything_is_sent(bad: Any) -> None:
    def message(build: Save) -> str:
        with pytest.raises(InvalidArgument) as caught:
            build(bad)
        assert caught.value.hint
        return str(caught.value.args[0])

    finite = "is not a finite number"
    assert message(lambda bad: calls.save_progress("m", bad)) == f"mse {finite}"
    assert message(lambda bad: calls.save_progress("m", 1, training_samples=bad)) == f"training_samples {finite}"
    if isinstance(bad, int):
        return  # JSON has it, so the database refuses it
    assert message(lambda bad: calls.save_progress("m", metrics={"acc": 1, "loss": bad})) == f"metric 'loss' {finite}"
    assert (
        message(lambda bad: calls.save_progress("m", 1, metadata={"a": {"b": [0, bad]}}))
        == f"metadata 'a.b.1' {finite}"
    )
    batch = [{"model_name": "m", "mse": 1}, {"model_name": "n", "metrics": {"loss": bad}}]
    assert message(lambda bad: calls.save_progress_batch(batch)) == f"metric 'loss' of item 1 {finite}"
    assert message(lambda bad: calls.save_progress_batch([{"mse": bad}])) == f"mse of item 0 {finite}"


OTHERS = [
    datetime.now(UTC),
    timedelta(1),
    Path("x"),
    b"1",
    {1},
    uuid.uuid4(),
    ipaddress.ip_address("10.0.0.1"),
    np.array([0.5]),
    np.datetime64("2026-01-01"),
    1j,
    Tensor(1.0, 2.0, ndim=1),
    Tensor(1.0, ndim=1),
    Decimal("sNaN"),
    object(),
]


@pytest.mark.parametrize("bad", OTHERS, ids=lambda bad: type(bad).__name__)
def test_what_is_no_json_is_named_with_its_type(bad: Any) -> None:
    for build, name in (
        (lambda: calls.save_progress("m", 1, metadata={"run": {"when": bad}}), "metadata 'run.when'"),
        (lambda: calls.save_progress("m", metrics={"when": bad}), "metric 'when'"),
        (lambda: calls.save_progress("m", bad), "mse"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            build()
        assert caught.value.args[0].startswith(name)
        assert type(bad).__name__ in (caught.value.detail or "")


def test_a_circle_a_depth_and_a_key_are_refused() -> None:
    circle: dict[str, Any] = {}
    circle["a"] = {"b": circle}
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for bad in (circle, {"a": deep}, {(1, 2): 3}):
        with pytest.raises(InvalidArgument):
            calls.save_progress("m", 1, metadata=bad)


@pytest.mark.sql
@pytest.mark.parametrize("bad", ["NaN", None, True, [1], {"x": 1}])
def test_the_database_names_the_metric_in_the_detail_alone(database: Database, bad: Any) -> None:
    app = database.connect("app")
    with refused("22023") as caught:
        call(app, "save_progress", model_name="m", mse=1, metrics={"acc": 1, 'lo"ss': bad}, as_=ACME)
    assert caught.value.diag.message_detail == 'Metric "lo\\"ss" is not a finite number.'
    assert "ss" not in (caught.value.diag.message_primary or "").replace("metrics", "")
    with refused("22023") as caught:
        call(app, "save_progress", model_name="m", mse=1, metrics=[1], as_=ACME)
    assert caught.value.diag.message_detail


# More than fits


def test_a_batch_has_a_limit_and_a_hint() -> None:
    item = {"model_name": "m", "mse": 1, "metadata": {"w": "x" * 1_000_000}}
    with pytest.raises(InvalidArgument) as caught:
        calls.save_progress_batch([item] * (MAX_BATCH // 1_000_000 + 1))
    assert "several" in (caught.value.hint or "")
    assert caught.value.sqlstate == "22023"


def test_a_limit_of_the_server_is_no_limit_of_artifacts(database: Database) -> None:
    app = database.connect("app")
    for query in ("select repeat('[', 100000)::jsonb", "select repeat('x', 1000)::text || repeat('y', 1 << 30)"):
        limit = calls.Call(query, (), lambda rows: rows, tenant=False)
        with pytest.raises(InvalidArgument) as caught:
            session.run(app, limit)
        assert caught.value.hint
        assert isinstance(caught.value.__cause__, psycopg.errors.OperationalError)
