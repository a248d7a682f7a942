"""Sharing and taking back at the same time: nothing outlives its end, and no grant is left on what is gone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from tests.conftest import Database
from tests.helpers import Connection, blocked, call, key, names, refused, save, together, until, value, versions

pytestmark = pytest.mark.sql

OWNER, READER, THIRD, FOURTH = (key(code=code) for code in ("owner", "reader", "third", "fourth"))
EVERYTHING = "{read,execute,write,share}"


def share(connection: Connection, tenant: str, permissions: str = "{read,share}", **arguments: Any) -> UUID:
    """Share model m with one tenant and return the grant's id."""
    ((share_id, _),) = call(
        connection,
        "share_model",
        model_name="m",
        targets=[{"org_id": tenant.split(":")[0], "code_hash": tenant.rsplit(":", 1)[1]}],
        permissions=permissions,
        **arguments,
    )
    return share_id


def revoke(connection: Connection, share_id: UUID, tenant: str = OWNER) -> bool:
    return value(connection, "revoke_share", share_id=share_id, as_=tenant)


def grants(database: Database) -> list[tuple[str, str]]:
    """All grants as sharer and target."""
    rows = database.connect().execute("select sharer_key, target from ai_storage_private.model_share order by 1, 2")
    return rows.fetchall()


def astray(database: Database) -> list[tuple[Any, ...]]:
    """Grants worth something on no model, on one of another name or owner, or beyond or without an ancestor."""
    rows = database.connect().execute(
        "select s.* from ai_storage_private.model_share as g "
        "cross join lateral ai_storage_private.in_force(array[g.share_id], null) as s where (not exists ("
        "  select from ai_storage_private.ai_progress_tenant as p "
        "  join ai_storage_private.tenant as t using (tenant_id) "
        "  where p.tenant_id = s.tenant_id and p.model_id = s.model_id "
        "  and p.model_name = s.model_name and t.isolation_key = s.owner_key"
        ") or exists ("
        "  select from unnest(s.ancestors) as a (share_id) "
        "  left join ai_storage_private.model_share as above using (share_id) "
        "  where above.share_id is null or above.model_id <> s.model_id "
        "  or not above.permissions @> (s.permissions || '{share}'::text[])"
        "  or coalesce(above.expires_at, 'infinity') < coalesce(s.expires_at, 'infinity')"
        "  or (above.pinned_version is not null and above.pinned_version is distinct from s.pinned_version)"
        "))"
    )
    return rows.fetchall()


def quickly_noticed(database: Database) -> None:
    """Let new sessions look for a deadlock after 10 ms."""
    database.connect().execute(
        sql.SQL("alter database {} set deadlock_timeout = '10ms'").format(sql.Identifier(database.name))
    )


# Revoked is revoked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3])
def test_no_read_that_starts_after_the_revocation_returns_the_model(database: Database, depth: int) -> None:
    app = database.connect("app")
    line = [OWNER, *(key(code=f"c{number}") for number in range(depth - 1)), READER]
    readers = [database.connect("app") for _ in range(16)]
    save(app, "m", as_=OWNER)
    for _ in range(3):
        first = share(app, line[1], as_=OWNER)
        for from_, to in pairwise(line[1:]):
            share(app, to, owner=OWNER, as_=from_)
        revoked_at: list[float] = []
        reading: set[int] = set()

        def read(
            connection: Connection, number: int, revoked_at: list[float] = revoked_at, reading: set[int] = reading
        ) -> tuple[int, int]:
            """Read until 20 reads after the end. Returns: what was seen before, and after."""
            before = after = late = 0
            while late < 20:
                began = time.monotonic()
                if number % 2:
                    seen = names(connection, as_=READER) == ["m"]
                else:
                    seen = False
                    with suppress(psycopg.errors.DatabaseError):
                        seen = bool(versions(connection, "m", owner=OWNER, as_=READER))
                if revoked_at and began > revoked_at[0]:
                    late += 1
                    after += seen
                else:
                    before += seen
                    if seen:
                        reading.add(number)
            return before, after

        def end(
            connection: Connection = app,
            first: UUID = first,
            revoked_at: list[float] = revoked_at,
            reading: set[int] = reading,
        ) -> None:
            until(lambda: len(reading) == 16, "every reader to see the model")
            assert revoke(connection, first) is True
            revoked_at.append(time.monotonic())

        counts = together(
            [end, *(lambda one=one, number=number: read(one, number) for number, one in enumerate(readers))]
        )[1:]
        assert all(before > 0 for before, _ in counts)
        assert [after for _, after in counts] == [0] * 16


def test_a_revocation_holds_within_a_transaction_that_read_before(database: Database) -> None:
    owner, reader = database.connect("app"), database.connect("app")
    save(owner, "m", as_=OWNER)
    grant = share(owner, READER, EVERYTHING, as_=OWNER)
    with reader.transaction():
        call(reader, "set_tenant", credential=READER)
        assert names(reader) == ["m"]
        revoke(owner, grant)
        assert names(reader) == []
        for use in (
            lambda: versions(reader, "m", owner=OWNER),
            lambda: save(reader, "m", owner=OWNER),
            lambda: share(reader, THIRD, owner=OWNER),
        ):
            with refused("TN101"), reader.transaction():
                use()


def test_a_revocation_that_is_rolled_back_changes_nothing(database: Database) -> None:
    owner, reader = database.connect("app"), database.connect("app")
    save(owner, "m", as_=OWNER)
    grant = share(owner, READER, as_=OWNER)
    with owner.transaction(force_rollback=True):
        assert revoke(owner, grant) is True
        assert names(owner, scope="shared", as_=OWNER) == []
        assert names(reader, as_=READER) == ["m"]
    assert names(reader, as_=READER) == ["m"]
    assert revoke(owner, grant) is True


# Pairs, step by step --------------------------------------------------------------------------------------------------


def assert_worth_nothing(connection: Connection, *tenants: str) -> None:
    """Whatever rows a race left behind: these tenants reach model m in no way."""
    for tenant in tenants:
        assert names(connection, as_=tenant) == []
        assert call(connection, "list_received_shares", as_=tenant) == []
        assert value(connection, "has_permission", owner=OWNER, model_name="m", permission="read", as_=tenant) is False
        for use in (
            lambda tenant=tenant: versions(connection, "m", owner=OWNER, as_=tenant),
            lambda tenant=tenant: save(connection, "m", owner=OWNER, as_=tenant),
            lambda tenant=tenant: share(connection, key(tenant.split(":")[0], code="fourth"), owner=OWNER, as_=tenant),
        ):
            with refused("TN101"):
                use()


def end_by(way: str, connection: Connection, grant: UUID) -> None:
    match way:
        case "revoke":
            assert revoke(connection, grant) is True
        case "unshare":
            value(connection, "unshare_model", model_name="m", as_=OWNER)
        case "narrow":
            assert share(connection, READER, "{read}", as_=OWNER) != grant
        case "delete":
            assert value(connection, "delete_progress", model_name="m", as_=OWNER) is True
        case "replace":
            assert value(connection, "delete_progress", model_name="m", as_=OWNER) is True
            save(connection, "m", as_=OWNER)


WAYS = ["revoke", "unshare", "narrow", "delete", "replace"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_passing_on_stops_no_end_and_survives_none(database: Database, way: str, depth: int) -> None:
    # Whoever passes on holds its transaction open: the owner does not wait, and what commits later is worth nothing.
    owner, reader = database.connect("app"), database.connect("app")
    owner.execute("set statement_timeout = '5s'")
    save(owner, "m", as_=OWNER)
    line = [READER, *(key(code=f"line{number}") for number in range(1, depth))]
    grant = share(owner, READER, EVERYTHING, as_=OWNER)
    for giver, taker in pairwise(line):
        share(owner, taker, EVERYTHING, owner=OWNER, as_=giver)
    reader.execute("begin")
    share(reader, THIRD, "{read,share}", owner=OWNER, as_=line[-1])
    end_by(way, owner, grant)
    reader.execute("commit")
    assert_worth_nothing(owner, THIRD, *line[1:])
    if way != "narrow":
        assert_worth_nothing(owner, READER)


@pytest.mark.parametrize("way", WAYS)
def test_passing_on_while_the_end_is_not_yet_committed_is_worth_nothing_afterwards(
    database: Database, way: str
) -> None:
    owner, reader = database.connect("app"), database.connect("app")
    save(owner, "m", as_=OWNER)
    grant = share(owner, READER, EVERYTHING, as_=OWNER)
    owner.execute("begin")
    end_by(way, owner, grant)
    share(reader, THIRD, "{read,share}", owner=OWNER, as_=READER)
    owner.execute("commit")
    assert_worth_nothing(owner, THIRD)


@pytest.mark.parametrize("held", ["given again", "taken back"])
@pytest.mark.parametrize("way", WAYS)
def test_a_receiver_that_holds_its_own_grant_stops_no_end(database: Database, way: str, held: str) -> None:
    owner, reader = database.connect("app"), database.connect("app")
    owner.execute("set statement_timeout = '5s'")
    save(owner, "m", as_=OWNER)
    grant = share(owner, READER, EVERYTHING, as_=OWNER)
    share(owner, THIRD, "{read,share}", owner=OWNER, as_=READER)
    reader.execute("begin")
    if held == "given again":
        share(reader, THIRD, "{read,share}", owner=OWNER, as_=READER)
    else:
        value(reader, "unshare_model", model_name="m", owner=OWNER, as_=READER)
    end_by(way, owner, grant)
    assert_worth_nothing(owner, THIRD)
    reader.execute("commit")
    assert_worth_nothing(owner, THIRD)


def test_a_receiver_that_holds_its_own_grant_does_not_stop_the_administrator(database: Database) -> None:
    owner, admin = database.connect("app"), database.connect()
    admin.execute("set statement_timeout = '5s'")
    value(admin, "allow_external_sharing", org_id="acme", to_org_id="beta")
    save(owner, "m", as_=OWNER)
    outside = key(org="beta", code="owner")
    # so that the tenant is registered: its first write is nobody's to hold up but its own
    save(owner, "m", as_=outside)
    value(owner, "delete_progress", model_name="m", as_=outside)
    call(owner, "share_model", model_name="m", targets=[{"org_id": "beta"}], permissions="{read,share}", as_=OWNER)
    holder = database.connect("app")
    holder.execute("begin")
    call(holder, "share_model", model_name="m", targets=[{"code_hash": "x"}], owner=OWNER, as_=outside)
    value(admin, "forbid_external_sharing", org_id="acme")
    assert_worth_nothing(owner, outside)


@pytest.mark.parametrize("way", ["revoke", "unshare", "narrow"])
def test_a_write_that_waited_longer_than_its_grant_lasted_is_refused(database: Database, way: str) -> None:
    owner, first, second = (database.connect("app") for _ in range(3))
    save(owner, "m", as_=OWNER)
    grant = share(owner, READER, EVERYTHING, as_=OWNER)
    first.execute("begin")
    save(first, "m", owner=OWNER, as_=READER)
    with blocked(database.connect(), second, lambda: save(second, "m", 666.0, owner=OWNER, as_=READER)) as saved:
        end_by(way, owner, grant)
        first.execute("rollback")
    with refused("TN101"):
        saved.result()
    assert versions(owner, "m", as_=OWNER) == [1]


def test_narrowing_reaches_what_is_passed_on_wider_at_the_same_time(database: Database) -> None:
    owner, reader = database.connect("app"), database.connect("app")
    save(owner, "m", as_=OWNER)
    share(owner, READER, "{read,write,share}", as_=OWNER)
    owner.execute("begin")
    share(owner, READER, "{read,share}", as_=OWNER)
    share(reader, THIRD, "{read,write}", owner=OWNER, as_=READER)
    owner.execute("commit")
    assert_worth_nothing(owner, THIRD)


def test_the_owner_sharing_while_the_model_is_deleted_finds_none(database: Database) -> None:
    deleter, sharer, watcher = database.connect("app"), database.connect("app"), database.connect()
    save(deleter, "m", as_=OWNER)
    deleter.execute("begin")
    value(deleter, "delete_progress", model_name="m", as_=OWNER)
    with blocked(watcher, sharer, lambda: share(sharer, THIRD, as_=OWNER)) as shared:
        deleter.execute("commit")
    with refused("TN101"):
        shared.result()
    assert grants(database) == []


def test_deleting_while_the_owner_shares_ends_the_new_grant_too(database: Database) -> None:
    sharer, deleter, watcher = database.connect("app"), database.connect("app"), database.connect()
    save(deleter, "m", as_=OWNER)
    sharer.execute("begin")
    share(sharer, THIRD, as_=OWNER)
    with blocked(watcher, deleter, lambda: value(deleter, "delete_progress", model_name="m", as_=OWNER)) as deleted:
        sharer.execute("commit")
    assert deleted.result() is True
    assert grants(database) == []


def test_saving_a_shared_model_with_an_expected_version_while_it_is_deleted_conflicts(database: Database) -> None:
    deleter, writer, watcher = database.connect("app"), database.connect("app"), database.connect()
    save(deleter, "m", as_=OWNER)
    share(deleter, READER, EVERYTHING, as_=OWNER)
    deleter.execute("begin")
    value(deleter, "delete_progress", model_name="m", as_=OWNER)
    save(deleter, "m", 7.0, as_=OWNER)
    with blocked(watcher, writer, lambda: save(writer, "m", expected_version=1, owner=OWNER, as_=READER)) as saved:
        deleter.execute("commit")
    with pytest.raises(psycopg.Error) as caught:
        saved.result()
    assert caught.value.sqlstate in ("TN101", "TN102")
    assert versions(deleter, "m", as_=OWNER) == [2]


def test_owner_and_receivers_write_one_model_without_a_gap(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    for tenant in (READER, THIRD):
        share(app, tenant, "{write}", as_=OWNER)

    def writer(tenant: str) -> Callable[[], list[int]]:
        connection = database.connect("app")
        arguments = {} if tenant == OWNER else {"owner": OWNER}
        return lambda: [save(connection, "m", as_=tenant, **arguments).version for _ in range(60)]

    answers = together([writer(tenant) for tenant in (OWNER, READER, THIRD) * 2])
    assert sorted(version for answer in answers for version in answer) == list(range(2, 362))
    by = [row.saved_by for row in call(app, "load_history", model_name="m", limit=None, as_=OWNER)]
    assert [by.count(tenant) for tenant in (OWNER, READER, THIRD)] == [121, 120, 120]


def test_many_who_share_with_the_same_target_leave_one_grant(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    sharers = [database.connect("app") for _ in range(12)]
    answers = together([lambda one=one: [share(one, READER, as_=OWNER) for _ in range(10)] for one in sharers])
    assert len({share_id for answer in answers for share_id in answer}) == 1
    assert grants(database) == [(OWNER, READER)]


# A write that began before --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*WAYS, "decline", "expire", "forbid"])
@pytest.mark.parametrize("early", [False, True])
def test_a_write_that_began_before_the_end_is_not_committed_after_it(database: Database, way: str, early: bool) -> None:
    owner, writer, admin = database.connect("app"), database.connect("app"), database.connect()
    outside = key(org="beta")
    call(admin, "allow_external_sharing", org_id="acme", to_org_id="beta")
    save(owner, "m", as_=OWNER)
    receiver = outside if way == "forbid" else READER
    save(owner, "own", as_=receiver)
    grant = share(owner, receiver, EVERYTHING, as_=OWNER)
    writer.execute("begin")
    if early:
        writer.execute("set constraints all immediate; set constraints all deferred")
    save(writer, "m", 666.0, owner=OWNER, as_=receiver)
    match way:
        case "decline":
            assert value(owner, "decline_share", share_id=grant, as_=receiver) is True
        case "expire":
            admin.execute("update ai_storage_private.model_share set expires_at = clock_timestamp()")
        case "forbid":
            assert value(admin, "forbid_external_sharing", org_id="acme") == 1
        case "delete" | "replace":
            value(owner, "unshare_model", model_name="m", as_=OWNER)
        case _:
            end_by(way, owner, grant)
    with refused("TN101"):
        writer.execute("commit")
    assert versions(owner, "m", as_=OWNER) == [1]


def test_a_write_under_a_grant_that_goes_on_is_committed(database: Database) -> None:
    owner, writer = database.connect("app"), database.connect("app")
    save(owner, "m", as_=OWNER)
    share(owner, READER, EVERYTHING, as_=OWNER)
    for _ in range(2):
        with writer.transaction():
            save(writer, "m", owner=OWNER, as_=READER)
            save(writer, "m", owner=OWNER, as_=READER)
            # another grant that allows it is as good
            share(owner, key(code="*"), EVERYTHING, as_=OWNER)
            value(owner, "unshare_model", model_name="m", targets=[{"code_hash": "reader"}], as_=OWNER)
    assert versions(owner, "m", as_=OWNER) == [5, 4, 3, 2, 1]


def test_a_receivers_open_write_keeps_the_owner_for_two_seconds_at_most(database: Database) -> None:
    owner, writer, admin = database.connect("app"), database.connect("app"), database.connect()
    owner.execute("set statement_timeout = '20s'")
    save(owner, "m", as_=OWNER)
    for use in (
        lambda: save(owner, "m", as_=OWNER),
        lambda: value(owner, "delete_progress", model_name="m", as_=OWNER),
        lambda: value(admin, "erase_tenant", pattern=OWNER, reason="r"),
    ):
        save(owner, "m", as_=OWNER)
        share(owner, READER, EVERYTHING, as_=OWNER)
        writer = database.connect("app")
        writer.execute("begin")
        save(writer, "m", owner=OWNER, as_=READER)
        began = time.monotonic()
        value(owner, "unshare_model", model_name="m", as_=OWNER)
        assert time.monotonic() - began < 1
        use()
        assert time.monotonic() - began < 8  # 2 s, on a busy machine
        with pytest.raises((psycopg.errors.IdleInTransactionSessionTimeout, psycopg.errors.TransactionTimeout)):
            writer.execute("commit")
    # stricter limits of the session's own stay
    writer = database.connect("app")
    save(owner, "m", as_=OWNER)
    share(owner, READER, EVERYTHING, as_=OWNER)
    writer.execute("set idle_in_transaction_session_timeout = '700ms'")
    with writer.transaction():
        save(writer, "m", owner=OWNER, as_=READER)
        assert writer.execute("show idle_in_transaction_session_timeout").fetchone() == ("700ms",)
    assert writer.execute("show lock_timeout").fetchone() == ("1min",)


def test_a_receiver_that_waits_for_the_owner_gives_up(database: Database) -> None:
    owner, writer = database.connect("app"), database.connect("app")
    save(owner, "m", as_=OWNER)
    share(owner, READER, EVERYTHING, as_=OWNER)
    with owner.transaction():
        save(owner, "m", as_=OWNER)
        with refused("55P03", hint=False):
            save(writer, "m", owner=OWNER, as_=READER)
    save(writer, "m", owner=OWNER, as_=READER)


def test_sixty_four_sessions_bring_no_grant_back(database: Database) -> None:
    """Sharers share, pass on, revoke and decline at once. What a session ended, it never sees again by its id."""
    quickly_noticed(database)
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    receivers = [key(code=f"c{number}") for number in range(6)]
    for tenant in receivers:
        save(app, "own", as_=tenant)
    ended: set[UUID] = set()
    returned: list[UUID] = []

    def worker(number: int) -> Callable[[], int]:
        connection = database.connect("app")
        connection.execute("set statement_timeout = '60s'")
        chance = random.Random(number)

        def step() -> None:
            me = chance.choice([OWNER, OWNER, *receivers])
            known = set(ended)
            returned.extend(known & {row.share_id for row in call(connection, "list_shares", as_=me)})
            match chance.randrange(6):
                case 0 | 1 | 2:
                    arguments = {} if me == OWNER else {"owner": OWNER}
                    share(connection, chance.choice(receivers), chance.choice(["{read,share}", EVERYTHING]),
                          as_=me, **arguments)  # fmt: skip
                case 3:
                    for row in call(connection, "list_shares", as_=me)[:1]:
                        if revoke(connection, row.share_id, me):
                            ended.add(row.share_id)
                case 4:
                    before = {row.share_id for row in call(connection, "list_shares", as_=me) if row.shared_by == me}
                    value(connection, "unshare_model", model_name="m", owner=OWNER, as_=me)
                    ended.update(before)
                case _:
                    with suppress(psycopg.errors.DatabaseError):
                        save(connection, "m", owner=OWNER, as_=me)

        def work() -> int:
            done = 0
            for _ in range(12):
                with suppress(psycopg.errors.DatabaseError, psycopg.errors.DeadlockDetected):
                    step()
                    done += 1
            return done

        return work

    done = together([worker(number) for number in range(64)])
    assert sum(done) > 64 * 12 / 3
    assert len(ended) > 20
    assert returned == []
    assert not ended & {row.share_id for tenant in (OWNER, *receivers) for row in call(app, "list_shares", as_=tenant)}
    assert astray(database) == []
    value(app, "unshare_model", model_name="m", as_=OWNER)
    for tenant in receivers:
        assert names(app, scope="shared", as_=tenant) == []
        assert call(app, "list_received_shares", as_=tenant) == []


# At random ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_random_sharing_passing_on_narrowing_and_deleting_leaves_nothing_astray(database: Database, seed: int) -> None:
    """Two levels of grants: the owner's and those that its receivers pass on."""
    quickly_noticed(database)
    app = database.connect("app")
    receivers = [key(code=f"c{number}") for number in range(3)]
    last = [key(code=f"d{number}") for number in range(3)]
    save(app, "m", as_=OWNER)

    def owner(connection: Connection, chance: random.Random) -> None:
        match chance.randrange(8):
            case 0:
                value(connection, "delete_progress", model_name="m", as_=OWNER)
            case 1 | 2:
                save(connection, "m", as_=OWNER)
            case 3:
                value(connection, "unshare_model", model_name="m", as_=OWNER)
            case 4:
                for row in call(connection, "list_shares", as_=OWNER)[:1]:
                    revoke(connection, row.share_id)
            case _:
                share(connection, chance.choice(receivers), as_=OWNER)

    def receiver(connection: Connection, chance: random.Random) -> None:
        tenant = chance.choice(receivers)
        match chance.randrange(4):
            case 0:
                value(connection, "unshare_model", model_name="m", owner=OWNER, as_=tenant)
            case 1:
                versions(connection, "m", owner=OWNER, as_=tenant)
            case _:
                share(connection, chance.choice(last), "{read}", owner=OWNER, as_=tenant)

    def worker(number: int) -> Callable[[], dict[str, int]]:
        connection = database.connect("app")
        connection.execute("set statement_timeout = '20s'")
        chance = random.Random(seed * 100 + number)

        def work() -> dict[str, int]:
            ends: dict[str, int] = {}
            for _ in range(200):
                try:
                    (owner if number % 2 else receiver)(connection, chance)
                    ends["done"] = ends.get("done", 0) + 1
                except psycopg.Error as error:
                    ends[error.sqlstate or str(error)] = ends.get(error.sqlstate or str(error), 0) + 1
            return ends

        return work

    ends = together([worker(number) for number in range(8)])
    assert {end for one in ends for end in one} <= {"done", "TN101", "TN303", "40P01", "40001"}, ends
    assert sum(one["done"] for one in ends) > 500
    assert astray(database) == []
    value(app, "delete_progress", model_name="m", as_=OWNER)
    assert_worth_nothing(app, *receivers, *last)
