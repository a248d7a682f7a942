"""Every documented rule of saving, loading, history, deletion and promotion, and of the reporting view."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from tests.conftest import Database
from tests.helpers import (
    ACME,
    ACME_2,
    BETA,
    Connection,
    blocked,
    call,
    dump,
    key,
    names,
    refused,
    save,
    unchanged,
    value,
    versions,
)

pytestmark = pytest.mark.sql

MIB = 1024 * 1024
# C0 without NUL, which cannot be sent, DEL, and C1
CONTROL_CHARACTERS = [chr(code) for code in (*range(0x01, 0x20), *range(0x7F, 0xA0))]
SHOWY_NAMES = [
    "with blanks  inside",
    " leading and trailing ",
    "'; drop table ai_progress_tenant; --",
    '"double" \\backslash\\',
    "%s %(x)s {} $1 :name",
    "gro\u00dfe \u00c4nderung",
    "\u6a21\u578b",
    "\U0001f916 robot",
    "\u202e right to left",
    "a\u0301 and \u00e1",
    "null",
    "*",
    "A",
    "a",
    "B",
    "\U0010ffff",
    "\U0010ffff" * 255,
    "x" * 255,
]


def one(connection: Connection, name: str, **arguments: Any) -> Any:
    (row,) = call(connection, "load_progress", model_name=name, **arguments)
    return row


def assert_refused(database: Database, connection: Connection, sqlstate: str, function: str, **arguments: Any) -> None:
    """The call is refused with a hint and changes nothing."""
    with unchanged(database), refused(sqlstate):
        call(connection, function, **arguments)


# Saving ---------------------------------------------------------------------------------------------------------------


def test_versions_count_from_one_without_a_gap_and_only_the_first_creates(database: Database) -> None:
    app = database.connect("app")
    rows = [save(app, "m", number / 10, as_=ACME) for number in range(1, 6)]
    assert [(row.model_name, row.version, row.created) for row in rows] == [
        ("m", number, number == 1) for number in range(1, 6)
    ]
    assert all(earlier.saved_at < later.saved_at for earlier, later in pairwise(rows))
    assert versions(app, "m", as_=ACME) == [5, 4, 3, 2, 1]
    assert save(app, "other", as_=ACME).version == 1


def test_a_saved_state_is_loaded_as_it_was(database: Database) -> None:
    app = database.connect("app")
    metrics = {"accuracy": 0.5, "loss": -1e-3, "\u00e4": 0}
    metadata = {"nested": [{"a": None}, True, "\u00e4\n"], "": {}}
    first = save(app, "m", 0.1, training_samples=7, metrics=metrics, metadata=metadata, as_=ACME)
    row = one(app, "m", as_=ACME)
    assert row._asdict() == {
        "model_name": "m",
        "owner_key": ACME,
        "is_shared": False,
        "permissions": ["read", "execute", "write", "share"],
        "mse": 0.1,
        "training_samples": 7,
        "metrics": metrics,
        "metadata": metadata,
        "version": 1,
        "created_at": first.saved_at,
        "updated_at": first.saved_at,
        "cursor": row.cursor,
    }
    second = save(app, "m", None, metrics={"x": 1}, as_=ACME)
    row = one(app, "m", as_=ACME)
    assert (row.mse, row.training_samples, row.metrics, row.metadata) == (None, None, {"x": 1}, {})
    assert (row.created_at, row.updated_at) == (first.saved_at, second.saved_at)
    newest, oldest = call(app, "load_history", model_name="m", as_=ACME)
    assert tuple(oldest) == (1, 0.1, 7, metrics, metadata, first.saved_at, ACME)
    assert tuple(newest) == (2, None, None, {"x": 1}, {}, second.saved_at, ACME)


def test_every_finite_double_is_kept_to_the_last_bit(database: Database) -> None:
    app = database.connect("app")
    for mse in [0.0, -0.0, -1.5, 5e-324, 1.7976931348623157e308, -1.7976931348623157e308, 0.1 + 0.2]:
        save(app, "m", mse, as_=ACME)
        assert one(app, "m", as_=ACME).mse.hex() == mse.hex()


def test_the_expected_version_decides_whether_a_save_happens(database: Database) -> None:
    app = database.connect("app")
    for expected in (1, 7):
        assert_refused(
            database, app, "TN102", "save_progress", model_name="m", mse=1, expected_version=expected, as_=ACME
        )
    assert save(app, "m", expected_version=0, as_=ACME).version == 1
    assert save(app, "m", expected_version=1, as_=ACME).version == 2
    assert save(app, "m", as_=ACME).version == 3
    for expected in (0, 1, 2, 4, 2**63 - 1):
        with unchanged(database), refused("TN102") as caught:
            save(app, "m", 99.0, expected_version=expected, as_=ACME)
        assert caught.value.diag.message_detail.count("3") == 1 + str(expected).count("3")
    assert save(app, "m", expected_version=3, as_=ACME).version == 4
    assert_refused(database, app, "22023", "save_progress", model_name="m", mse=1.0, expected_version=-1, as_=ACME)


def test_an_owner_other_than_oneself_is_like_no_model(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    save(app, "m", as_=BETA)
    assert save(app, "m", owner=ACME, as_=ACME).version == 2
    for owner in (BETA, key("nobody"), "junk", ""):
        for name in ("m", "no such model"):
            assert_refused(database, app, "TN101", "save_progress", model_name=name, mse=2.0, owner=owner, as_=ACME)


def test_a_refused_first_save_does_not_register_the_tenant(database: Database) -> None:
    app = database.connect("app")
    assert_refused(database, app, "22023", "save_progress", model_name="", mse=1.0, as_=ACME)
    assert dump(database)["tenant"] == []


# Limits ---------------------------------------------------------------------------------------------------------------


def test_a_model_name_has_1_to_255_characters_and_no_control_character(database: Database) -> None:
    app = database.connect("app")
    with unchanged(database):
        for name in ["", None, "x" * 256, "\U0010ffff" * 256, *CONTROL_CHARACTERS]:
            wrong = name if name is None or len(name) != 1 else f"a{name}b"
            with refused("22023"):
                save(app, wrong, as_=ACME)
            with refused("22023"):
                call(app, "save_progress", model_name=wrong, mse=1, idempotency_key="k", as_=ACME)
            with refused("22023"):
                call(app, "save_progress_batch", items=[{"model_name": wrong, "mse": 1}], as_=ACME)
    for name in SHOWY_NAMES:
        assert save(app, name, as_=ACME).model_name == name
        assert one(app, name, as_=ACME).model_name == name
        assert versions(app, name, as_=ACME) == [1]
    assert names(app, as_=ACME) == sorted(SHOWY_NAMES)
    for name in SHOWY_NAMES:
        assert value(app, "delete_progress", model_name=name, as_=ACME) is True
    assert names(app, as_=ACME) == []


def test_an_idempotency_key_has_1_to_255_characters_and_no_control_character(database: Database) -> None:
    app = database.connect("app")
    for wrong in ["", "x" * 256, "a\nb", "\x7f", "\u0085"]:
        with unchanged(database):
            with refused("22023"):
                save(app, "m", idempotency_key=wrong, as_=ACME)
            with refused("22023"):
                item = {"model_name": "m", "mse": 1, "idempotency_key": wrong}
                call(app, "save_progress_batch", items=[item], as_=ACME)
    assert save(app, "m", idempotency_key="\U0001f511" * 255, as_=ACME).version == 1


def test_an_mse_that_is_no_number_is_refused(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    with unchanged(database):
        for mse, metrics in product([float("nan"), float("inf"), float("-inf"), None], [None, {}, {"a": 1}]):
            if mse is not None or not metrics:
                with refused("22023"):
                    save(app, "m", mse, metrics=metrics, as_=ACME)


def test_training_samples_are_a_count(database: Database) -> None:
    app = database.connect("app")
    for wrong in (-1, -(2**63)):
        assert_refused(database, app, "22023", "save_progress", model_name="m", mse=1, training_samples=wrong, as_=ACME)
    for samples in (0, 2**63 - 1, None):
        save(app, "m", training_samples=samples, as_=ACME)
        assert one(app, "m", as_=ACME).training_samples == samples


METRICS_REFUSED = {
    "257 names": {f"n{number}": 1 for number in range(257)},
    "nested object": {"a": {"b": 1}},
    "nested array": {"a": [1]},
    "string": {"a": "1"},
    "bool": {"a": True},
    "null value": {"a": None},
    "empty name": {"": 1},
    "long name": {"x" * 256: 1},
    "control character": {"a\nb": 1},
    "C1 control character": {"a\u0085": 1},
    "beyond a double": '{"a": 1e400}',
    "beyond a double, negative": '{"a": -1e400}',
    "just beyond a double": '{"a": 1.7976931348623159e308}',
    "array": [1],
    "array of objects": [{"a": 1}],
    "JSON null": "null",
    "JSON number": "1",
    "JSON string": '"a"',
    "JSON true": "true",
}


def test_metrics_are_a_flat_object_of_finite_numbers(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    with unchanged(database):
        for what, metrics in METRICS_REFUSED.items():
            with refused("22023"):
                save(app, "m", metrics=metrics, as_=ACME)
            text = metrics if isinstance(metrics, str) else json.dumps(metrics)
            if what != "JSON null":
                with refused("22023"):
                    items = f'[{{"model_name": "m", "mse": 1, "metrics": {text}}}]'
                    call(app, "save_progress_batch", items=items, as_=ACME)
    most = {f"{number:03}" + "\u00e4" * 252: number for number in range(256)}
    save(app, "m", None, metrics=most, as_=ACME)
    assert one(app, "m", as_=ACME).metrics == most
    for number in ("1.7976931348623157e308", "-1.7976931348623157e308", "0", "-0.0", "5e-324"):
        save(app, "m", None, metrics=f'{{"a": {number}}}', as_=ACME)
        assert float(one(app, "m", as_=ACME).metrics["a"]) == float(number)


def nested(levels: int, brackets: str = "[]") -> str:
    """Metadata of so many levels, the object itself included."""
    inside = "[" * (levels - 1) + "]" * (levels - 1)
    if brackets == "{}":
        inside = '{"a": ' * (levels - 1) + "1" + "}" * (levels - 1)
    return f'{{"a": {inside}}}'


METADATA_REFUSED = {
    "array": "[]",
    "null": "null",
    "number": "1",
    "string": '"a"',
    "65 levels of arrays": nested(65),
    "65 levels of objects": nested(65, "{}"),
    "1000 levels": nested(1000),
    "huge number": '{"a": 1e99999}',
    "huge negative number": '{"a": [{"b": -1e99999}]}',
    "tiny number": '{"a": 1e-9999}',
    "tiny negative number": '{"a": -1e-9999}',
    "huge number deep inside": nested(63).replace("[]", "[1e400]"),
}


def test_metadata_is_an_object_of_bounded_depth_and_numbers(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    with unchanged(database):
        for what, metadata in METADATA_REFUSED.items():
            with refused("22023"):
                save(app, "m", metadata=metadata, as_=ACME)
            if what != "null":
                with refused("22023"):
                    items = f'[{{"model_name": "m", "mse": 1, "metadata": {metadata}}}]'
                    call(app, "save_progress_batch", items=items, as_=ACME)
    for fine in (nested(64), nested(64, "{}"), "{}", '{"": ""}', '{"a": [0, 5e-324, true, null, "\u00e4"]}'):
        save(app, "m", metadata=fine, as_=ACME)
        assert one(app, "m", as_=ACME).metadata == json.loads(fine)
    save(app, "m", metadata='{"a": 1.7976931348623157e308}', as_=ACME)
    assert float(one(app, "m", as_=ACME).metadata["a"]) == 1.7976931348623157e308


@pytest.mark.parametrize(
    "fill",
    [
        lambda size: '{"a": "' + "x" * (size - 9) + '"}',
        # three characters of text are twelve bytes of storage: the worst there is
        lambda size: '{"a": [' + ", ".join("1" * ((size - 7) // 3)) + "]}" + " " * ((size - 7) % 3),
        lambda size: '{"a": "' + "\u00e4" * ((size - 9) // 2) + "x" * ((size - 9) % 2) + '"}',
    ],
    ids=["ascii", "numbers", "two bytes a character"],
)
def test_metadata_may_have_a_mebibyte_as_text_and_no_byte_more(database: Database, fill: Callable[[int], str]) -> None:
    app = database.connect("app")
    sizes = app.execute(
        "select octet_length(%s::jsonb::text), octet_length(%s::jsonb::text)", (fill(MIB), fill(MIB + 3))
    ).fetchone()
    assert sizes[0] <= MIB < sizes[1]
    save(app, "m", metadata=fill(MIB), as_=ACME)
    assert one(app, "m", as_=ACME).metadata == json.loads(fill(MIB))
    assert_refused(database, app, "22023", "save_progress", model_name="m", mse=1, metadata=fill(MIB + 3), as_=ACME)
    if sizes[0] == MIB and "1, 1" not in fill(MIB):
        with refused("22023"):
            save(app, "m", metadata=fill(MIB + 1), as_=ACME)


def test_null_metrics_and_metadata_are_empty_ones(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", 1.0, metrics=None, metadata=None, as_=ACME)
    row = one(app, "m", as_=ACME)
    assert (row.metrics, row.metadata) == ({}, {})


# Idempotency ----------------------------------------------------------------------------------------------------------

REQUEST: dict[str, Any] = {
    "model_name": "m",
    "mse": 0.5,
    "training_samples": 3,
    "metrics": {"a": 1},
    "metadata": {"b": 2},
    "expected_version": None,
    "idempotency_key": "k",
}


def test_a_repeated_key_with_the_same_content_returns_the_first_answer(database: Database) -> None:
    app = database.connect("app")
    (first,) = call(app, "save_progress", **REQUEST, as_=ACME)
    save(app, "m", as_=ACME)
    with unchanged(database):
        for _ in range(3):
            assert call(app, "save_progress", **REQUEST, as_=ACME) == [first]
        assert call(app, "save_progress_batch", items=[REQUEST, REQUEST], as_=ACME) == [first, first]
    assert first.created
    assert versions(app, "m", as_=ACME) == [2, 1]


def test_a_repeated_key_returns_the_first_answer_also_when_that_expected_a_version(database: Database) -> None:
    app = database.connect("app")
    request = {**REQUEST, "expected_version": 0}
    (first,) = call(app, "save_progress", **request, as_=ACME)
    with unchanged(database):
        assert call(app, "save_progress", **request, as_=ACME) == [first]


def test_a_repeated_key_with_other_content_is_an_error(database: Database) -> None:
    app = database.connect("app")
    call(app, "save_progress", **REQUEST, as_=ACME)
    changes: list[dict[str, Any]] = [
        {"model_name": "n"},
        {"mse": 0.5000000000000001},
        {"mse": None},
        {"training_samples": 4},
        {"training_samples": None},
        {"metrics": {"a": 2}},
        {"metrics": {}},
        {"metadata": {"b": 3}},
        {"expected_version": 1},
    ]
    with unchanged(database):
        for change in changes:
            with refused("TN103"):
                call(app, "save_progress", **{**REQUEST, **change}, as_=ACME)
            with refused("TN103"):
                call(app, "save_progress_batch", items=[{**REQUEST, **change}], as_=ACME)


def test_contents_are_compared_exactly_whatever_the_session_says_about_floats(database: Database) -> None:
    app = database.connect("app")
    app.execute("set extra_float_digits = -10")
    (first,) = call(app, "save_progress", **{**REQUEST, "mse": 0.1234567}, as_=ACME)
    assert_refused(database, app, "TN103", "save_progress", **{**REQUEST, "mse": 0.1234569}, as_=ACME)
    app.execute("reset extra_float_digits")
    assert call(app, "save_progress", **{**REQUEST, "mse": 0.1234567}, as_=ACME) == [first]


def test_left_out_and_empty_are_the_same_content(database: Database) -> None:
    app = database.connect("app")
    first = save(app, "m", 1.0, idempotency_key="k", as_=ACME)
    with unchanged(database):
        assert save(app, "m", 1.0, metrics=None, metadata=None, idempotency_key="k", as_=ACME) == first
        items = [{"model_name": "m", "mse": 1.0, "idempotency_key": "k"}]
        assert call(app, "save_progress_batch", items=items, as_=ACME) == [first]


def test_keys_of_different_tenants_have_nothing_to_do_with_each_other(database: Database) -> None:
    app = database.connect("app")
    call(app, "save_progress", **REQUEST, as_=ACME)
    (row,) = call(app, "save_progress", **{**REQUEST, "mse": 9.0}, as_=BETA)
    assert (row.version, row.created) == (1, True)
    assert one(app, "m", as_=BETA).mse == 9.0


def test_a_key_is_free_again_when_its_first_save_failed(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    for wrong, sqlstate in (({"expected_version": 9}, "TN102"), ({"mse": float("nan")}, "22023")):
        assert_refused(database, app, sqlstate, "save_progress", **{**REQUEST, **wrong}, as_=ACME)
    with app.transaction(force_rollback=True):
        call(app, "save_progress", **REQUEST, as_=ACME)
    (row,) = call(app, "save_progress", **{**REQUEST, "mse": 0.75}, as_=ACME)
    assert row.version == 2


def test_a_key_outlives_the_deletion_of_its_model(database: Database) -> None:
    app = database.connect("app")
    (first,) = call(app, "save_progress", **REQUEST, as_=ACME)
    value(app, "delete_progress", model_name="m", as_=ACME)
    with unchanged(database):
        assert call(app, "save_progress", **REQUEST, as_=ACME) == [first]


@pytest.mark.parametrize("how", ["alone", "in a batch"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_twin_waits_for_the_first_and_repeats_its_answer(database: Database, how: str, end: str) -> None:
    watcher, first, twin = database.connect(), database.connect("app"), database.connect("app")
    save(first, "other", as_=ACME)

    def request(connection: Connection) -> Any:
        if how == "alone":
            (row,) = call(connection, "save_progress", **REQUEST, as_=ACME)
        else:
            items = [{"model_name": "x", "mse": 1}, REQUEST]
            _, row = call(connection, "save_progress_batch", items=items, as_=ACME)
        return row

    first.execute("begin")
    answer = request(first)
    with blocked(watcher, twin, lambda: request(twin)) as future:
        first.execute(end)
    if end == "commit":
        assert future.result() == answer
    else:
        assert (future.result().version, future.result().created) == (1, True)
    assert versions(first, "m", as_=ACME) == [1]


def test_a_twin_with_other_content_waits_and_is_refused(database: Database) -> None:
    watcher, first, twin = database.connect(), database.connect("app"), database.connect("app")
    save(first, "other", as_=ACME)
    first.execute("begin")
    call(first, "save_progress", **REQUEST, as_=ACME)
    with blocked(watcher, twin, lambda: call(twin, "save_progress", **{**REQUEST, "mse": 2}, as_=ACME)) as future:
        first.execute("commit")
    with refused("TN103"):
        future.result()


# Batches --------------------------------------------------------------------------------------------------------------


def test_a_batch_is_saved_in_the_order_given_and_answers_in_it(database: Database) -> None:
    app = database.connect("app")
    save(app, "b", as_=ACME)
    items = [
        {"model_name": "z", "mse": 1},
        {"model_name": "b", "mse": 2, "expected_version": 1},
        {"model_name": "z", "mse": 3, "expected_version": 1},
        {"model_name": "a", "metrics": {"x": 1}, "metadata": {"y": 2}, "training_samples": 5},
        {"model_name": "z", "mse": 4},
        {"model_name": "n", "mse": 1, "training_samples": None, "idempotency_key": None, "metrics": None},
    ]
    rows = call(app, "save_progress_batch", items=items, as_=ACME)
    assert [row[:3] for row in rows] == [
        ("z", 1, True),
        ("b", 2, False),
        ("z", 2, False),
        ("a", 1, True),
        ("z", 3, False),
        ("n", 1, True),
    ]
    assert [row.mse for row in call(app, "load_history", model_name="z", as_=ACME)] == [4.0, 3.0, 1.0]
    row = one(app, "a", as_=ACME)
    assert (row.mse, row.metrics, row.metadata, row.training_samples) == (None, {"x": 1}, {"y": 2}, 5)
    assert call(app, "save_progress_batch", items=[], as_=ACME) == []


WRONG_ITEMS: list[tuple[str, Any]] = [
    ("22023", {"model_name": "", "mse": 1}),
    ("22023", {"mse": 1}),
    ("22023", {"model_name": None, "mse": 1}),
    ("22023", {"model_name": 5, "mse": 1}),
    ("22023", {"model_name": "m"}),
    ("22023", {"model_name": "m", "mse": "1"}),
    ("22023", {"model_name": "m", "mse": True}),
    ("22023", {"model_name": "m", "mse": 1, "mes": 1}),
    ("22023", {"model_name": "m", "mse": 1, "owner": 5}),
    ("TN101", {"model_name": "m", "mse": 1, "owner": BETA}),
    ("22023", {"model_name": "m", "mse": 1, "p_as": BETA}),
    ("22023", {"model_name": "m", "mse": 1, "tenant_id": 1}),
    ("22023", {"model_name": "m", "mse": 1, "training_samples": -1}),
    ("22023", {"model_name": "m", "mse": 1, "training_samples": "1"}),
    ("22023", {"model_name": "m", "mse": 1, "expected_version": "0"}),
    ("22023", {"model_name": "m", "mse": 1, "expected_version": -1}),
    ("22023", {"model_name": "m", "mse": 1, "idempotency_key": 1}),
    ("22023", {"model_name": "m", "mse": 1, "metrics": []}),
    ("22023", {"model_name": "m", "mse": 1, "metadata": "x"}),
    ("22023", []),
    ("22023", "m"),
    ("22023", None),
    ("TN102", {"model_name": "m", "mse": 1, "expected_version": 0}),
    ("TN102", {"model_name": "new", "mse": 1, "expected_version": 1}),
    ("TN103", {"model_name": "m", "mse": 1, "idempotency_key": "used"}),
]


def test_one_wrong_item_refuses_the_whole_batch(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", idempotency_key="used", metadata={"other": "content"}, as_=ACME)
    save(app, "there", as_=ACME)
    good = [{"model_name": "m", "mse": 2}, {"model_name": "first", "mse": 2, "idempotency_key": "free"}]
    # Each model once and without keys: written in a few statements.
    alone = [{"model_name": "there", "mse": 2}, {"model_name": "first", "mse": 2}]
    with unchanged(database):
        for sqlstate, item in WRONG_ITEMS:
            with refused(sqlstate):
                call(app, "save_progress_batch", items=[*good, item, *good], as_=ACME)
            with refused(sqlstate):
                call(app, "save_progress_batch", items=[alone[0], item, alone[1]], as_=ACME)


def test_a_batch_of_models_named_once_does_what_single_saves_do(database: Database) -> None:
    app = database.connect("app")
    for tenant in (ACME, BETA):
        for name, times in (("there", 2), ("gone", 3), ("back", 1)):
            for _ in range(times):
                save(app, name, as_=tenant)
            if name != "there":
                value(app, "delete_progress", model_name=name, as_=tenant)
        save(app, "back", as_=tenant)
    items: list[dict[str, Any]] = [
        {"model_name": "z new", "mse": 1, "training_samples": 0, "metrics": {"a": 1.50}, "metadata": {"b": [None]}},
        {"model_name": "there", "metrics": {"a": 2}, "expected_version": 2},
        {"model_name": "gone", "mse": 5e-324, "training_samples": 2**63 - 1},
        {"model_name": "back", "mse": -1.5},
        {"model_name": "\U0001f511", "mse": 0, "expected_version": 0},
        {"model_name": "A", "mse": 1, "metrics": None, "metadata": None},
    ]
    before = {row.model_name: row for row in call(app, "load_progress", as_=ACME)}
    in_a_batch = call(app, "save_progress_batch", items=items, as_=ACME)
    alone = [call(app, "save_progress", **item, as_=BETA)[0] for item in items]
    assert [row[:3] for row in in_a_batch] == [row[:3] for row in alone]
    assert [(row.model_name, row.version, row.created) for row in in_a_batch] == [
        ("z new", 1, True),
        ("there", 3, False),
        ("gone", 4, True),
        ("back", 3, False),
        ("\U0001f511", 1, True),
        ("A", 1, True),
    ]
    saved_at = {row.model_name: row.saved_at for row in in_a_batch}
    for name in saved_at:
        mine, other = one(app, name, as_=ACME), one(app, name, as_=BETA)
        assert mine[4:9] == other[4:9]
        assert mine.updated_at == saved_at[name]
        assert mine.created_at == (before[name].created_at if name in before else saved_at[name])
        mine, other = (call(app, "load_history", model_name=name, limit=None, as_=tenant) for tenant in (ACME, BETA))
        assert [row[:5] for row in mine] == [row[:5] for row in other]
        assert mine[0].saved_at == saved_at[name]
        assert {row.saved_by for row in mine} == {ACME}


def test_a_batch_is_never_saved_before_the_version_before(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    save(app, "m", as_=ACME)
    ((ahead,),) = admin.execute(
        "update ai_storage_private.ai_progress_tenant set updated_at = now() + interval '1 hour' returning updated_at"
    ).fetchall()
    rows = call(app, "save_progress_batch", items=[{"model_name": name, "mse": 2} for name in ("m", "n")], as_=ACME)
    assert (rows[0].saved_at == ahead, rows[1].saved_at < ahead) == (True, True)


def test_a_version_that_was_put_into_the_history_by_hand_refuses_the_batch(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    save(app, "m", as_=ACME)
    admin.execute(
        "insert into ai_storage_private.progress_version (tenant_id, model_id, version, mse, saved_at, metrics, "
        "metadata) select tenant_id, model_id, 2, 1, now(), '{}', '{}' from ai_storage_private.ai_progress_tenant"
    )
    items = [{"model_name": "m", "mse": 2}, {"model_name": "n", "mse": 2}]
    assert_refused(database, app, "23505", "save_progress_batch", items=items, as_=ACME)


@pytest.mark.parametrize(
    "number", ['"training_samples": 1.5', '"training_samples": 1e30', '"expected_version": 0.5', '"mse": 1e400']
)
def test_a_number_that_does_not_fit_refuses_the_batch_as_any_wrong_value_does(database: Database, number: str) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    items = f'[{{"model_name": "m", "metrics": {{"a": 1}}, {number}}}]'
    assert_refused(database, app, "22023", "save_progress_batch", items=items, as_=ACME)


def test_a_batch_is_an_array(database: Database) -> None:
    app = database.connect("app")
    with unchanged(database):
        for items in ["null", "{}", "1", '"m"', '{"model_name": "m", "mse": 1}', None]:
            with refused("22023"):
                call(app, "save_progress_batch", items=items, as_=ACME)


# Loading --------------------------------------------------------------------------------------------------------------


def test_loading_what_is_not_there_gives_no_row(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    for name in ("", "n", "M", "m ", "x" * 300, "%", "m\n"):
        assert call(app, "load_progress", model_name=name, as_=ACME) == []


def test_the_scope_chooses_own_or_shared_models(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    assert names(app, scope="all", as_=ACME) == ["m"]
    assert names(app, scope="own", as_=ACME) == ["m"]
    assert names(app, scope="shared", as_=ACME) == []
    for wrong in ("", "ALL", "mine"):
        assert_refused(database, app, "22023", "load_progress", scope=wrong, as_=ACME)


def test_pages_add_up_to_the_whole_in_a_stable_order(database: Database) -> None:
    app = database.connect("app")
    items = [{"model_name": name, "mse": number} for number, name in enumerate(SHOWY_NAMES)]
    call(app, "save_progress_batch", items=items, as_=ACME)
    save(app, "of another tenant", as_=BETA)
    expected = sorted(SHOWY_NAMES)
    for size in (1, 2, 5, len(expected), 1000):
        pages: list[str] = []
        after = None
        while page := call(app, "load_progress", after=after, limit=size, as_=ACME):
            assert len(page) <= size
            pages += [row.model_name for row in page]
            assert len(pages) <= len(expected), "a row came twice"
            after = page[-1].cursor
        assert pages == expected
    assert names(app, limit=None, as_=ACME) == expected
    assert names(app, limit=0, as_=ACME) == []
    assert_refused(database, app, "22023", "load_progress", limit=-1, as_=ACME)


def test_a_page_goes_on_where_the_last_ended_whatever_was_deleted_or_added(database: Database) -> None:
    app = database.connect("app")
    for name in "bdfhj":
        save(app, name, as_=ACME)
    after = call(app, "load_progress", limit=2, as_=ACME)[-1].cursor
    for name in "dfb":
        value(app, "delete_progress", model_name=name, as_=ACME)
    for name in "aeg":
        save(app, name, as_=ACME)
    save(app, "j", as_=ACME)
    assert names(app, after=after, as_=ACME) == ["e", "g", "h", "j"]
    # a cursor and a name together narrow down both
    assert names(app, after=after, model_name="h", as_=ACME) == ["h"]
    assert names(app, after=after, model_name="a", as_=ACME) == []


def test_a_hostile_cursor_reaches_nothing_of_another_tenant(database: Database) -> None:
    app = database.connect("app")
    save(app, "secret", as_=BETA)
    save(app, "m", as_=ACME)
    for cursor in ("", "m", "junk", "1", BETA):
        assert_refused(database, app, "22023", "load_progress", after=cursor, as_=ACME)
    for cursor in (" ", "  ", " \t", f"{BETA} ", f"{BETA} a", f"{BETA} secret", " ' or true --", " %", " \U0010ffff"):
        with unchanged(database):
            assert set(names(app, after=cursor, as_=ACME)) <= {"m"}
    with pytest.raises(psycopg.DataError):
        names(app, after=" \x00", as_=ACME)


def test_reading_registers_no_tenant(database: Database) -> None:
    app = database.connect("app")
    with unchanged(database):
        assert names(app, as_=ACME) == []
        assert value(app, "delete_progress", model_name="m", as_=ACME) is False
        with refused("TN101"):
            versions(app, "m", as_=ACME)
        with app.transaction():
            value(app, "set_tenant", credential=ACME)
            assert names(app) == []
    assert dump(database)["tenant"] == []


def test_a_transaction_that_began_before_the_tenant_was_registered_sees_it_afterwards(database: Database) -> None:
    early, writer = database.connect("app"), database.connect("app")
    with early.transaction():
        value(early, "set_tenant", credential=ACME)
        assert names(early) == []
        save(writer, "m", as_=ACME)
        assert names(early) == ["m"]
        assert save(early, "m").version == 2


def test_a_callers_own_collation_does_not_matter(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    loaded = app.execute(
        "select count(*) from (values ('m' collate \"POSIX\")) as mine (name) "
        "cross join lateral ai_storage.load_progress(mine.name, p_as => %s)",
        (ACME,),
    )
    assert loaded.fetchone() == (1,)


# History --------------------------------------------------------------------------------------------------------------


def test_history_pages_back_from_the_newest_version(database: Database) -> None:
    app = database.connect("app")
    for number in range(1, 8):
        save(app, "m", float(number), as_=ACME)
    for size in (1, 3, 7, 100):
        seen: list[int] = []
        before = None
        while page := call(app, "load_history", model_name="m", before_version=before, limit=size, as_=ACME):
            assert len(page) <= size
            assert all(row.mse == row.version for row in page)
            seen += [row.version for row in page]
            assert len(seen) <= 7, "a version came twice"
            before = page[-1].version
        assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert versions(app, "m", before_version=-5, as_=ACME) == []
    assert call(app, "load_history", model_name="m", limit=0, as_=ACME) == []
    assert_refused(database, app, "22023", "load_history", model_name="m", limit=-1, as_=ACME)


def test_the_history_of_no_model_or_another_owners_is_refused_alike(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    save(app, "m", as_=BETA)
    save(app, "of beta", as_=BETA)
    assert versions(app, "m", owner=ACME, as_=ACME) == [1]
    answers, contexts = set(), set()
    for name, owner in [("x", None), ("m", BETA), ("of beta", BETA), ("x", BETA), ("m", "junk"), (None, None)]:
        with unchanged(database), refused("TN101") as caught:
            call(app, "load_history", model_name=name, owner=owner, as_=ACME)
        diag = caught.value.diag
        answers.add((diag.message_primary, diag.message_detail, diag.message_hint))
        # where it was raised tells whose model was asked for, and that is what the caller said
        contexts.add((owner is None, diag.context))
    assert len(answers) == 1
    assert len(contexts) == 2


# Deleting -------------------------------------------------------------------------------------------------------------


def test_a_deleted_model_is_gone_and_its_versions_are_never_given_again(database: Database) -> None:
    app = database.connect("app")
    counted = 0
    for round_ in range(1, 4):
        for _ in range(round_):
            counted += 1
            row = save(app, "m", as_=ACME)
            assert row.version == counted
            assert row.created is (row.version in (1, 2, 4))
        assert versions(app, "m", as_=ACME) == list(range(counted, counted - round_, -1))
        assert value(app, "delete_progress", model_name="m", as_=ACME) is True
        assert names(app, as_=ACME) == []
        with refused("TN101"):
            versions(app, "m", as_=ACME)
        assert dump(database)["progress_version"] == []
        assert value(app, "delete_progress", model_name="m", as_=ACME) is False
    assert save(app, "m", expected_version=0, as_=ACME).version == counted + 1


def test_a_new_model_of_a_deleted_name_has_another_id(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    ids = set()
    for _ in range(2):
        save(app, "m", as_=ACME)
        ids.add(admin.execute("select model_id from ai_storage_private.ai_progress_tenant").fetchone())
        value(app, "delete_progress", model_name="m", as_=ACME)
    assert len(ids) == 2


def test_a_deletion_may_expect_a_version(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    save(app, "m", as_=ACME)
    for wrong in (0, 1, 3, -1):
        with unchanged(database), refused("TN102") as caught:
            value(app, "delete_progress", model_name="m", expected_version=wrong, as_=ACME)
        assert "2" in caught.value.diag.message_detail
    assert value(app, "delete_progress", model_name="m", expected_version=2, as_=ACME) is True
    with unchanged(database):
        for missing in (None, "", "m", "x" * 300):
            assert value(app, "delete_progress", model_name=missing, as_=ACME) is False
            assert value(app, "delete_progress", model_name=missing, expected_version=2, as_=ACME) is False


def test_a_rolled_back_deletion_leaves_everything(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    with unchanged(database), app.transaction(force_rollback=True):
        assert value(app, "delete_progress", model_name="m", as_=ACME) is True
        assert names(app, as_=ACME) == []


# Promotion ------------------------------------------------------------------------------------------------------------


def test_promotion_copies_what_the_target_does_not_have(database: Database) -> None:
    app = database.connect("app")
    content = {"training_samples": 9, "metrics": {"a": 1}, "metadata": {"b": 2}}
    save(app, "a", 0.1, as_=ACME)
    save(app, "a", 0.2, **content, as_=ACME)
    save(app, "b", 0.3, as_=ACME)
    save(app, "c", 0.4, as_=ACME)
    save(app, "b", 9.0, as_=ACME_2)
    save(app, "c", 9.0, as_=ACME_2)
    value(app, "delete_progress", model_name="c", as_=ACME_2)
    save(app, "a", 5.0, as_=BETA)
    before = [row[4:] for row in call(app, "load_progress", as_=ACME)]
    rows = call(app, "promote_progress", from_code_hash="c1", as_=ACME_2)
    assert [tuple(row) for row in rows] == [("a", 1), ("c", 2)]
    assert [(row.model_name, row.mse) for row in call(app, "load_progress", as_=ACME_2)] == [
        ("a", 0.2),
        ("b", 9.0),
        ("c", 0.4),
    ]
    row = one(app, "a", as_=ACME_2)
    assert (row.training_samples, row.metrics, row.metadata) == tuple(content.values())
    assert row.owner_key == ACME_2
    assert [(entry.version, entry.saved_by) for entry in call(app, "load_history", model_name="a", as_=ACME_2)] == [
        (1, ACME_2)
    ]
    # the source is as it was, and a second promotion finds nothing to do
    assert [row[4:] for row in call(app, "load_progress", as_=ACME)] == before
    with unchanged(database):
        assert call(app, "promote_progress", from_code_hash="c1", as_=ACME_2) == []


def test_promotion_of_one_model_copies_that_alone(database: Database) -> None:
    app = database.connect("app")
    for name in ("a", "ab", "b"):
        save(app, name, as_=ACME)
    for nothing in ("nothing", ""):
        assert_refused(database, app, "TN101", "promote_progress", from_code_hash="c1", model_name=nothing, as_=ACME_2)
    assert names(app, as_=ACME_2) == []
    assert [tuple(row) for row in call(app, "promote_progress", from_code_hash="c1", model_name="ab", as_=ACME_2)] == [
        ("ab", 1)
    ]
    assert names(app, as_=ACME_2) == ["ab"]
    assert call(app, "promote_progress", from_code_hash="c1", model_name="ab", as_=ACME_2) == []


def test_promotion_copies_any_number_of_models_of_any_name(database: Database) -> None:
    app = database.connect("app")
    many = sorted([*SHOWY_NAMES, *(f"model {number}" for number in range(300))])
    call(app, "save_progress_batch", items=[{"model_name": name, "mse": 1} for name in many], as_=ACME)
    rows = call(app, "promote_progress", from_code_hash="c1", as_=ACME_2)
    assert [row.model_name for row in rows] == many
    assert names(app, limit=None, as_=ACME_2) == many


def test_promotion_from_a_code_version_that_has_nothing_is_refused(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    save(app, "of beta", as_=key("beta", code="c9"))
    save(app, "gone", as_=ACME_2)
    value(app, "delete_progress", model_name="gone", as_=ACME_2)
    for nothing in ("c9", "c2"):
        assert_refused(database, app, "TN101", "promote_progress", from_code_hash=nothing, as_=ACME)


def test_promotion_needs_a_credential_that_covers_the_source(database: Database) -> None:
    admin, app = database.connect(), database.connect("app")
    save(app, "secret", as_=ACME)
    save(app, "m", as_=ACME_2)
    admin.execute("create role narrow login")
    try:
        value(admin, "authorize_login", login="narrow", pattern=ACME_2)
        narrow = database.connect("narrow")
        for source in ("c1", "never written"):
            source = source.replace(" ", "-")
            assert_refused(database, narrow, "TN003", "promote_progress", from_code_hash=source, as_=ACME_2)
        with narrow.transaction():
            value(narrow, "set_tenant", credential=ACME_2)
            with refused("TN003"), narrow.transaction():
                call(narrow, "promote_progress", from_code_hash="c1")
            assert names(narrow) == ["m"]
        assert names(narrow, as_=ACME_2) == ["m"]
    finally:
        value(admin, "deauthorize_login", login="narrow")
        admin.execute("drop role narrow")


def test_promotion_refuses_a_code_hash_that_is_none_or_the_callers_own(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    for wrong in (None, "c1", "", "*", "a:b", "c2:x", "a b", "c2\n", "x" * 64):
        assert_refused(database, app, "22023", "promote_progress", from_code_hash=wrong, as_=ACME)


def test_after_a_promotion_the_transaction_acts_for_its_own_tenant_again(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    with app.transaction():
        value(app, "set_tenant", credential=ACME_2)
        assert len(call(app, "promote_progress", from_code_hash="c1")) == 1
        assert value(app, "current_tenant") == ACME_2
        save(app, "n")
        with refused("22023"), app.transaction():
            call(app, "promote_progress", from_code_hash="a:b")
        assert value(app, "current_tenant") == ACME_2
        assert names(app) == ["m", "n"]
        with refused("TN004"), app.transaction():
            names(app, as_=ACME)
    with app.transaction():
        call(app, "promote_progress", from_code_hash="c1", as_=ACME_2)
        assert value(app, "current_tenant") is None
        with refused("TN001"), app.transaction():
            names(app)
    assert names(app, as_=ACME) == ["m"]
    assert names(app, as_=ACME_2) == ["m", "n"]


def test_a_promotion_that_reads_only_its_first_row_still_ends_as_its_own_tenant(database: Database) -> None:
    app = database.connect("app")
    for name in "abc":
        save(app, name, as_=ACME)
    with app.transaction():
        value(app, "set_tenant", credential=ACME_2)
        app.execute("select ai_storage.promote_progress('c1') limit 1")
        assert value(app, "current_tenant") == ACME_2
        assert names(app) == ["a", "b", "c"]


# Whole transactions ---------------------------------------------------------------------------------------------------


def test_calls_in_one_transaction_succeed_or_vanish_together(database: Database) -> None:
    app = database.connect("app")
    with unchanged(database), app.transaction(force_rollback=True):
        value(app, "set_tenant", credential=ACME)
        save(app, "m")
        call(app, "save_progress_batch", items=[REQUEST, {"model_name": "n", "mse": 1}])
        value(app, "delete_progress", model_name="n")
        assert names(app) == ["m"]
    assert app.info.transaction_status == TransactionStatus.IDLE
    assert save(app, "m", as_=ACME).version == 1


def test_read_only_transactions_read_and_refuse_to_write(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    with app.transaction():
        app.execute("set transaction read only")
        value(app, "set_tenant", credential=ACME)
        assert names(app) == ["m"]
        assert versions(app, "m") == [1]
        with refused("25006", hint=False), app.transaction():
            save(app, "m")


# The reporting view ---------------------------------------------------------------------------------------------------

VIEW = "select * from ai_storage.ai_progress_tenant order by model_name"


def test_the_view_has_the_columns_it_promises_and_the_rows_of_the_set_tenant(database: Database) -> None:
    reporter, app = database.connect("reporter"), database.connect("app")
    saved = save(reporter, "m", 0.5, training_samples=3, metadata={"x": [1]}, as_=ACME)
    save(reporter, "of the other code version", as_=ACME_2)
    save(app, "of beta", as_=BETA)
    with reporter.transaction(), reporter.cursor(row_factory=dict_row) as cursor:
        value(reporter, "set_tenant", credential=ACME)
        (row,) = cursor.execute(VIEW).fetchall()
    assert list(row) == [
        "id",
        "model_name",
        "isolation_key",
        "tenant_context",
        "access_permissions",
        "mse",
        "training_samples",
        "metadata",
        "created_at",
    ]
    assert row == {
        "id": row["id"],
        "model_name": "m",
        "isolation_key": ACME,
        "tenant_context": {
            "orgId": "acme",
            "serverId": "s1",
            "projectId": "p1",
            "environment": "production",
            "codeHash": "c1",
        },
        "access_permissions": ["read", "execute", "write", "share"],
        "mse": 0.5,
        "training_samples": 3,
        "metadata": {"x": [1]},
        "created_at": saved.saved_at,
    }


def test_the_view_is_empty_without_a_tenant_that_set_tenant_set(database: Database) -> None:
    reporter, app = database.connect("reporter"), database.connect("app")
    save(reporter, "m", as_=ACME)
    save(app, "of beta", as_=BETA)

    def rows() -> int:
        return reporter.execute("select count(*) from ai_storage.ai_progress_tenant").fetchone()[0]

    assert rows() == 0
    with reporter.transaction():
        assert rows() == 0
        value(reporter, "set_tenant", credential=ACME)
        assert rows() == 1
        genuine = reporter.execute("select current_setting('app.tenant_context')").fetchone()[0]
        field = genuine.split("|")
        forgeries = ["|".join([*field[:2], str(number), *field[3:]]) for number in range(10) if str(number) != field[2]]
        forgeries += [genuine.replace(ACME, BETA), genuine[:-1], "", "junk"]
        for forged in forgeries:
            reporter.execute("select set_config('app.tenant_context', %s, true)", (forged,))
            assert rows() == 0
        reporter.execute("select set_config('app.tenant_context', %s, true)", (genuine,))
        reporter.execute("select set_config('app.current_tenant', %s, true)", (BETA,))
        assert reporter.execute("select isolation_key from ai_storage.ai_progress_tenant").fetchall() == [(ACME,)]
        call(reporter, "clear_tenant")
        assert rows() == 0
    assert rows() == 0
    reporter.execute("select set_config('app.tenant_context', %s, false)", (genuine,))
    reporter.execute("select set_config('app.current_tenant', %s, false)", (ACME,))
    assert rows() == 0


def test_a_reporter_may_read_the_view_and_nothing_behind_it(database: Database) -> None:
    reporter, app = database.connect("reporter"), database.connect("app")
    save(app, "m", as_=ACME)
    save(app, "of beta", as_=BETA)
    with refused("TN003"):
        value(reporter, "set_tenant", credential=BETA)
    for statement in (
        "select * from ai_storage_private.ai_progress_tenant",
        "select * from ai_storage_private.tenant",
        "update ai_storage.ai_progress_tenant set mse = 0",
        "delete from ai_storage.ai_progress_tenant",
        "insert into ai_storage.ai_progress_tenant (model_name) values ('x')",
        "select ai_storage_private.current_tenant_id()",
    ):
        with reporter.transaction(force_rollback=True):
            value(reporter, "set_tenant", credential=ACME)
            with pytest.raises(psycopg.Error) as caught, reporter.transaction():
                reporter.execute(statement)
            # a view over a join is no target of a write, whoever asks
            assert caught.value.sqlstate in ("42501", "55000")
    reporter.execute("set row_security = off")
    with refused("42501", hint=False):
        reporter.execute(VIEW)


def test_a_reporters_own_function_in_a_condition_sees_no_foreign_row(database: Database) -> None:
    reporter, app, admin = database.connect("reporter"), database.connect("app"), database.connect()
    save(app, "m", as_=ACME)
    save(app, "secret of beta", as_=BETA)
    reporter.execute(
        "create function pg_temp.spy(seen text) returns boolean language plpgsql cost 0.0000001 as "
        "$f$ begin perform set_config('spy.seen', coalesce(current_setting('spy.seen', true), '') || seen, false); "
        "return true; end $f$"
    )
    admin.execute("analyze")
    with reporter.transaction():
        value(reporter, "set_tenant", credential=ACME)
        reporter.execute("select * from ai_storage.ai_progress_tenant where pg_temp.spy(model_name)")
        assert reporter.execute("select current_setting('spy.seen')").fetchone() == ("m",)


def test_an_application_login_has_no_right_on_the_view(database: Database) -> None:
    app = database.connect("app")
    with app.transaction(force_rollback=True):
        value(app, "set_tenant", credential=ACME)
        with refused("42501", hint=False):
            app.execute(VIEW)


@pytest.mark.parametrize("idempotency_key", [None, "k"])
def test_numbers_that_print_without_end_are_refused_before_they_are_printed(
    database: Database, idempotency_key: str | None
) -> None:
    app = database.connect("app")
    app.execute("set statement_timeout = '2s'")
    many = ", ".join(f'"{number}": 1e131071' for number in range(3000))
    zeros = ", ".join(f'"{number}": 0e-16383' for number in range(256))
    more_zeros = ", ".join(f'"{number}": 0e-16383' for number in range(20_000))
    for metrics, metadata in ((None, many), (zeros, None), (None, more_zeros)):
        assert_refused(
            database,
            app,
            "22023",
            "save_progress",
            model_name="m",
            mse=1.0,
            metrics=f"{{{metrics or ''}}}",
            metadata=f"{{{metadata or ''}}}",
            idempotency_key=idempotency_key,
            as_=ACME,
        )


def test_a_batch_takes_whole_numbers_however_they_are_written(database: Database) -> None:
    app = database.connect("app")
    items = '[{"model_name": "m", "mse": 1, "training_samples": 1.0, "expected_version": 0.0}]'
    assert [row.version for row in call(app, "save_progress_batch", items=items, as_=ACME)] == [1]
    assert one(app, "m", as_=ACME).training_samples == 1
