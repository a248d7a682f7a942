"""Many writers at once: no version is lost, skipped or given twice, and nobody gets anybody else's answer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import count, pairwise
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from pydb import AsyncTenantAwareStorage, VersionConflict
from tests.conftest import Database
from tests.helpers import ACME, ACME_2, Connection, blocked, call, key, names, refused, save, together, value, versions


def connections(database: Database, count: int, user: str = "app") -> list[Connection]:
    return [database.connect(user) for _ in range(count)]


def history_of(database: Database, name: str, tenant: str = ACME) -> list[int]:
    """The versions of a model as the tables have them, read as superuser, the oldest first."""
    rows = database.connect().execute(
        "select v.version from ai_storage_private.progress_version as v "
        "join ai_storage_private.ai_progress_tenant as p using (tenant_id, model_id) "
        "join ai_storage_private.tenant as t using (tenant_id) "
        "where t.isolation_key = %s and p.model_name = %s order by 1",
        (tenant, name),
    )
    return [row[0] for row in rows]


_number = count()


def save_in_a_batch(connection: Connection, name: str, *, as_: str, **arguments: Any) -> Any:
    """Save one model between two new ones of a batch, and return its row."""
    number = next(_number)
    items = [{"model_name": item, "mse": 1} for item in (f"zz {number}", name, f"aa {number}")]
    items[1] |= arguments
    return call(connection, "save_progress_batch", items=items, as_=as_)[1]


#: Both ways to save must count alike.
both_ways = pytest.mark.parametrize("save", [save, save_in_a_batch], ids=["alone", "in a batch"])


def quickly_noticed(database: Database) -> None:
    """Let new sessions look for a deadlock after 10 ms."""
    database.connect().execute(
        sql.SQL("alter database {} set deadlock_timeout = '10ms'").format(sql.Identifier(database.name))
    )


# Many at once --------------------------------------------------------------------------------------------------------


def test_64_writers_of_one_model_count_to_12800_without_gap_or_loss(database: Database) -> None:
    def writer(number: int, connection: Connection) -> Callable[[], list[int]]:
        return lambda: [save(connection, "m", number + step / 1000, as_=ACME).version for step in range(200)]

    answers = together([writer(number, connection) for number, connection in enumerate(connections(database, 64))])
    for answer in answers:
        assert answer == sorted(answer)
    assert sorted(version for answer in answers for version in answer) == list(range(1, 12801))
    app = database.connect("app")
    history = call(app, "load_history", model_name="m", limit=None, as_=ACME)
    assert [row.version for row in history] == list(range(12800, 0, -1))
    # Each version holds what the writer to whom it was answered had sent.
    sent = {
        version: number + step / 1000 for number, answer in enumerate(answers) for step, version in enumerate(answer)
    }
    assert {row.version: row.mse for row in history} == sent
    assert all(older.saved_at <= newer.saved_at for newer, older in pairwise(history))


def test_the_first_writers_of_a_tenant_register_it_once_and_create_each_model_once(database: Database) -> None:
    writers = connections(database, 24)
    for round_ in range(5):
        tenant = key(code=f"new{round_}")
        answers = together(
            [
                lambda connection=connection, name=f"model {number % 3}", tenant=tenant: save(
                    connection, name, as_=tenant
                )
                for number, connection in enumerate(writers)
            ]
        )
        for name in ("model 0", "model 1", "model 2"):
            rows = [row for row in answers if row.model_name == name]
            assert sorted(row.version for row in rows) == list(range(1, 9))
            assert [row.version for row in rows if row.created] == [1]
            assert history_of(database, name, tenant) == list(range(1, 9))
    registered = database.connect().execute("select count(*) from ai_storage_private.tenant").fetchone()
    assert registered == (5,)


def test_of_many_who_expect_no_model_one_succeeds(database: Database) -> None:
    def create(connection: Connection) -> int | str:
        try:
            return save(connection, "m", expected_version=0, as_=ACME).version
        except psycopg.Error as error:
            return error.sqlstate

    answers = Counter(together([lambda c=c: create(c) for c in connections(database, 16)]))
    assert answers == {1: 1, "TN102": 15}


def test_a_counter_kept_by_compare_and_set_equals_the_number_of_successes(database: Database) -> None:
    def worker(number: int) -> Callable[[], int]:
        storage = database.storage(ACME)

        def work() -> int:
            successes = 0
            while successes < 25:
                (row,) = storage.load_ai_progress("counter")
                with suppress(VersionConflict):
                    storage.save_ai_progress("counter", row.mse + 1, expected_version=row.version)
                    successes += 1
            return successes

        return work

    save(database.connect("app"), "counter", 0.0, as_=ACME)
    successes = sum(together([worker(number) for number in range(8)]))
    (row,) = call(database.connect("app"), "load_progress", model_name="counter", as_=ACME)
    assert successes == 200
    assert (row.mse, row.version) == (200.0, 201)


def test_concurrent_repetitions_of_one_request_save_it_once(database: Database) -> None:
    pool = connections(database, 16)
    for round_ in range(10):
        request = {"model_name": "m", "mse": float(round_), "idempotency_key": f"request {round_}"}

        def alone(connection: Connection, request: dict[str, Any] = request) -> Any:
            return call(connection, "save_progress", **request, metrics=None, metadata=None, as_=ACME)[0]

        def in_a_batch(connection: Connection, request: dict[str, Any] = request) -> Any:
            return call(connection, "save_progress_batch", items=[request], as_=ACME)[0]

        answers = together([lambda c=c, f=(alone if number % 2 else in_a_batch): f(c) for number, c in enumerate(pool)])
        assert len(set(answers)) == 1
        assert answers[0].version == round_ + 1
    assert history_of(database, "m") == list(range(1, 11))


def test_savers_and_deleters_together_give_every_version_once_and_skip_none(database: Database) -> None:
    def saver(connection: Connection) -> list[tuple[int, bool]]:
        return [save(connection, "m", as_=ACME)[1:3] for _ in range(100)]

    def deleter(connection: Connection) -> int:
        return sum(value(connection, "delete_progress", model_name="m", as_=ACME) for _ in range(100))

    app = database.connect("app")
    save(app, "other", as_=ACME)
    workers: list[Callable[[], Any]] = [lambda c=c: saver(c) for c in connections(database, 6)]
    workers += [lambda c=c: deleter(c) for c in connections(database, 3)]
    answers = together(workers)
    given = sorted(row for answer in answers[:6] for row in answer)
    deletions = sum(answers[6:])
    assert [version for version, _ in given] == list(range(1, 601))
    created = [version for version, was_created in given if was_created]
    alive = names(app, as_=ACME) == ["m", "other"]
    assert len(created) == deletions + (1 if alive else 0)
    assert history_of(database, "m") == (list(range(created[-1], 601)) if alive else [])
    assert save(app, "m", as_=ACME).version == 601


def test_batches_in_opposite_order_end_right_or_in_a_deadlock_that_can_be_retried(database: Database) -> None:
    model_names = [f"m{number}" for number in range(10)]
    rounds, writers = 20, 4

    def writer(connection: Connection, order: list[str]) -> None:
        items = [{"model_name": name, "mse": 1} for name in order]
        done = 0
        while done < rounds:
            with suppress(psycopg.errors.DeadlockDetected):
                rows = call(connection, "save_progress_batch", items=items, as_=ACME)
                assert [row.model_name for row in rows] == order
                done += 1

    quickly_noticed(database)
    pool = connections(database, writers)
    together([lambda c=c, n=n: writer(c, model_names[:: (-1) ** n]) for n, c in enumerate(pool)])
    for name in model_names:
        assert history_of(database, name) == list(range(1, rounds * writers + 1))


def test_batches_of_the_same_models_in_any_order_do_not_wait_crosswise(database: Database) -> None:
    model_names = [f"m{number}" for number in range(20)]
    rounds, writers = 20, 4

    def writer(connection: Connection, seed: int) -> None:
        order = random.Random(seed)
        for _ in range(rounds):
            items = [{"model_name": name, "mse": 1} for name in order.sample(model_names, len(model_names))]
            call(connection, "save_progress_batch", items=items, as_=ACME)

    quickly_noticed(database)
    pool = connections(database, writers)
    together([lambda c=c, n=n: writer(c, n) for n, c in enumerate(pool)])
    for name in model_names:
        assert history_of(database, name) == list(range(1, rounds * writers + 1))


# Two at once, step by step -------------------------------------------------------------------------------------------


@pytest.fixture
def two(database: Database) -> tuple[Connection, Connection, Connection]:
    """A watcher and two application sessions of a tenant that is registered already."""
    first, second = connections(database, 2)
    save(first, "other", as_=ACME)
    return database.connect(), first, second


@both_ways
@pytest.mark.parametrize("deleted_before", [False, True])
def test_a_save_that_waits_for_a_creation_which_ends_in_a_deletion_goes_on_counting(
    two: tuple[Connection, Connection, Connection], deleted_before: bool, save: Callable[..., Any]
) -> None:
    watcher, first, second = two
    given = 0
    if deleted_before:
        given = save(first, "m", as_=ACME).version
        value(first, "delete_progress", model_name="m", as_=ACME)
    first.execute("begin")
    given = save(first, "m", as_=ACME).version
    with blocked(watcher, second, lambda: save(second, "m", as_=ACME)) as future:
        assert value(first, "delete_progress", model_name="m", as_=ACME) is True
        first.execute("commit")
    assert future.result()[1:3] == (given + 1, True)
    assert value(first, "delete_progress", model_name="m", as_=ACME) is True
    assert save(first, "m", as_=ACME).version == given + 2


@both_ways
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_save_that_waits_for_a_creation_comes_after_it_or_takes_its_place(
    two: tuple[Connection, Connection, Connection], end: str, save: Callable[..., Any]
) -> None:
    watcher, first, second = two
    first.execute("begin")
    save(first, "m", as_=ACME)
    with blocked(watcher, second, lambda: save(second, "m", as_=ACME)) as future:
        first.execute(end)
    assert future.result()[1:3] == ((2, False) if end == "commit" else (1, True))
    assert versions(first, "m", as_=ACME) == ([2, 1] if end == "commit" else [1])


@both_ways
@pytest.mark.parametrize("again", [False, True])
def test_a_save_that_waits_for_a_deletion_goes_on_counting(
    two: tuple[Connection, Connection, Connection], again: bool, save: Callable[..., Any]
) -> None:
    watcher, first, second = two
    save(first, "m", as_=ACME)
    save(first, "m", as_=ACME)
    first.execute("begin")
    value(first, "delete_progress", model_name="m", as_=ACME)
    if again:
        save(first, "m", as_=ACME)
    with blocked(watcher, second, lambda: save(second, "m", as_=ACME)) as future:
        first.execute("commit")
    assert future.result()[1:3] == ((4, False) if again else (3, True))


def test_a_deletion_that_waits_while_the_model_is_replaced_deletes_the_new_one(
    two: tuple[Connection, Connection, Connection],
) -> None:
    # At no moment was there no model of that name: false would be wrong.
    watcher, first, second = two
    save(first, "m", as_=ACME)
    first.execute("begin")
    value(first, "delete_progress", model_name="m", as_=ACME)
    save(first, "m", as_=ACME)
    with blocked(watcher, second, lambda: value(second, "delete_progress", model_name="m", as_=ACME)) as future:
        first.execute("commit")
    assert (future.result(), names(first, as_=ACME)) == (True, ["other"])


def test_a_deletion_expects_the_version_there_is_when_it_gets_its_turn(
    two: tuple[Connection, Connection, Connection],
) -> None:
    watcher, first, second = two
    save(first, "m", as_=ACME)
    first.execute("begin")
    save(first, "m", as_=ACME)
    arguments = {"model_name": "m", "expected_version": 1, "as_": ACME}
    with blocked(watcher, second, lambda: value(second, "delete_progress", **arguments)) as future:
        first.execute("commit")
    with refused("TN102"):
        future.result()
    assert versions(first, "m", as_=ACME) == [2, 1]


@both_ways
def test_a_save_expects_the_version_there_is_when_it_gets_its_turn(
    two: tuple[Connection, Connection, Connection], save: Callable[..., Any]
) -> None:
    watcher, first, second = two
    save(first, "m", as_=ACME)
    first.execute("begin")
    save(first, "m", as_=ACME)
    with blocked(watcher, second, lambda: save(second, "m", expected_version=1, as_=ACME)) as future:
        first.execute("commit")
    with refused("TN102"):
        future.result()
    assert versions(first, "m", as_=ACME) == [2, 1]


def test_of_two_transactions_that_wait_for_each_other_one_fails_whole_and_can_be_retried(database: Database) -> None:
    quickly_noticed(database)
    save(database.connect("app"), "other", as_=ACME)
    first, second = connections(database, 2)
    for connection, name in ((first, "a"), (second, "b")):
        connection.execute("begin")
        save(connection, name, as_=ACME)

    def go_on(connection: Connection, name: str) -> str | None:
        try:
            save(connection, name, as_=ACME)
            connection.execute("commit")
        except psycopg.Error as error:
            connection.execute("rollback")
            return error.sqlstate
        return None

    answers = together([lambda: go_on(first, "b"), lambda: go_on(second, "a")])
    assert sorted(answers, key=str) == ["40P01", None]
    assert {name: versions(first, name, as_=ACME) for name in "ab"} == {"a": [1], "b": [1]}
    failed = first if answers[0] else second
    assert go_on(failed, "a") is None
    assert go_on(failed, "b") is None
    assert {name: versions(first, name, as_=ACME) for name in "ab"} == {"a": [2, 1], "b": [2, 1]}


@both_ways
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize("what", ["created", "changed", "deleted", "created and deleted", "recreated and deleted"])
def test_a_transaction_with_an_old_snapshot_is_told_to_retry_and_gives_no_version_twice(
    database: Database, level: str, what: str, save: Callable[..., Any]
) -> None:
    old, other = connections(database, 2)
    save(other, "other", as_=ACME)
    if what in ("changed", "deleted", "recreated and deleted"):
        save(other, "m", as_=ACME)
    if what == "recreated and deleted":
        value(other, "delete_progress", model_name="m", as_=ACME)
    old.execute(f"begin isolation level {level}")
    names(old, as_=ACME)
    if what != "deleted":
        save(other, "m", as_=ACME)
    if what not in ("created", "changed"):
        value(other, "delete_progress", model_name="m", as_=ACME)
    with refused("40001", hint=False):
        save(old, "m", as_=ACME)
        old.execute("commit")
    old.execute("rollback")


def test_a_promotion_that_meets_a_concurrent_creation_loses_nothing(
    two: tuple[Connection, Connection, Connection],
) -> None:
    watcher, first, second = two
    for name in "abc":
        save(first, name, 1.0, as_=ACME_2)
    first.execute("begin")
    save(first, "b", 9.0, as_=ACME)

    def promote() -> list[Any]:
        return call(second, "promote_progress", from_code_hash="c2", as_=ACME)

    with blocked(watcher, second, promote) as future:
        first.execute("commit")
    with refused("TN102"):
        future.result()
    assert names(first, as_=ACME) == ["b", "other"]
    assert [row.model_name for row in promote()] == ["a", "c"]
    (row,) = call(first, "load_progress", model_name="b", as_=ACME)
    assert row.mse == 9.0


@pytest.mark.parametrize("again", [False, True])
def test_a_save_to_a_borrowed_model_that_is_deleted_meanwhile_finds_no_model(
    two: tuple[Connection, Connection, Connection], again: bool
) -> None:
    watcher, owner, borrower = two
    save(owner, "m", as_=ACME)
    call(owner, "share_model", model_name="m", targets=[{"code_hash": "c2"}], permissions="{read,write}", as_=ACME)
    assert save(borrower, "m", owner=ACME, as_=ACME_2).version == 2
    borrower.execute("set statement_timeout = '5s'")
    owner.execute("begin")
    value(owner, "delete_progress", model_name="m", as_=ACME)
    if again:
        save(owner, "m", as_=ACME)
    with blocked(watcher, borrower, lambda: save(borrower, "m", owner=ACME, as_=ACME_2)) as future:
        owner.execute("commit")
    with refused("TN101"):
        future.result()
    assert names(owner, as_=ACME) == (["m", "other"] if again else ["other"])


# Asynchronous --------------------------------------------------------------------------------------------------------


def test_200_asynchronous_tasks_of_20_tenants_on_one_pool_never_mix_their_results(database: Database) -> None:
    tenants = [key(f"org{number}") for number in range(20)]

    async def task(pool: AsyncConnectionPool[Any], number: int) -> list[int]:
        tenant = tenants[number % 20]
        storage = AsyncTenantAwareStorage(pool, tenant)
        given = []
        for step in range(3):
            row = await storage.save_ai_progress("m", number, metadata={"tenant": tenant}, metrics={tenant: step})
            given.append(row.version)
            (loaded,) = await storage.load_ai_progress("m")
            history = await storage.load_history("m")
            assert loaded.owner_key == tenant
            assert loaded.metadata == {"tenant": tenant}
            assert set(loaded.metrics) == {tenant}
            assert {version.saved_by for version in history} == {tenant}
            assert {version.mse % 20 for version in history} == {number % 20}
        return given

    async def run() -> list[list[int]]:
        async with AsyncConnectionPool(
            database.dsn("app"), min_size=4, max_size=8, kwargs={"autocommit": True}, open=False
        ) as pool:
            order = random.Random(1).sample(range(200), 200)
            answers = await asyncio.gather(*(task(pool, number) for number in order))
        return [answer for _, answer in sorted(zip(order, answers, strict=True))]

    answers = asyncio.run(run())
    for number in range(20):
        given = sorted(version for answer in answers[number::20] for version in answer)
        assert given == list(range(1, 31))
