"""Every documented rule of sharing one model: targets, permissions, pins, ends, passing on, what a receiver sees."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain, combinations, pairwise
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from tests.conftest import Database
from tests.helpers import (
    BETA,
    Connection,
    call,
    dump,
    everything_said,
    key,
    names,
    refused,
    save,
    sleep_past,
    unchanged,
    value,
    versions,
)

pytestmark = pytest.mark.sql

LEVELS = ("org_id", "server_id", "project_id", "environment", "code_hash")
CAMEL = ("orgId", "serverId", "projectId", "environment", "codeHash")
PERMISSIONS = ("execute", "read", "share", "write")
OWNER, READER, THIRD, FOURTH = (key(code=code) for code in ("owner", "reader", "third", "fourth"))


def to(tenant: str) -> dict[str, str]:
    """The target that is one tenant, or one pattern."""
    return dict(zip(LEVELS, tenant.split(":"), strict=True))


def listed(permissions: Iterable[str]) -> str:
    """Permissions as an array in text."""
    return "{" + ",".join(permissions) + "}"


def share(
    connection: Connection, name: str, *tenants: str, permissions: Iterable[str] = ("read",), **arguments: Any
) -> UUID:
    """Share one model with tenants or patterns, and return the id of the first grant."""
    rows = call(
        connection,
        "share_model",
        model_name=name,
        targets=[to(tenant) for tenant in tenants],
        permissions=listed(permissions),
        **arguments,
    )
    assert [row.target for row in rows] == list(tenants)
    return rows[0].share_id


def targets_of(connection: Connection, *targets: Any, name: str = "m", as_: str = OWNER) -> list[str]:
    """Share a model with targets as they are, and return how they were rendered."""
    return [row.target for row in call(connection, "share_model", model_name=name, targets=list(targets), as_=as_)]


def received(connection: Connection, as_: str, **arguments: Any) -> list[tuple[str, str, list[str], int]]:
    """What load_progress shows of others' models."""
    rows = call(connection, "load_progress", scope="shared", as_=as_, **arguments)
    assert all(row.is_shared for row in rows)
    return [(row.model_name, row.owner_key, row.permissions, row.version) for row in rows]


def held(connection: Connection, as_: str, owner: str = OWNER, name: str = "m") -> list[str]:
    """The permissions that has_permission affirms."""
    return [
        permission
        for permission in PERMISSIONS
        if value(connection, "has_permission", owner=owner, model_name=name, permission=permission, as_=as_)
    ]


def grants(connection: Connection, function: str, as_: str, **arguments: Any) -> set[UUID]:
    return {row.share_id for row in call(connection, function, as_=as_, **arguments)}


def count_grants(database: Database) -> int:
    return len(dump(database)["model_share"])


def soon(**units: float) -> datetime:
    return datetime.now(UTC) + timedelta(**units)


def end(database: Database, *shares: UUID) -> None:
    """Let the time of some grants run out now."""
    database.connect().execute(
        "update ai_storage_private.model_share set expires_at = clock_timestamp() where share_id = any(%s)",
        (list(shares),),
    )


def allow(database: Database, org: str, *others: str) -> None:
    """Permit an organisation to share with others."""
    admin = database.connect()
    for other in others:
        call(admin, "allow_external_sharing", org_id=org, to_org_id=other)


def loaded(connection: Connection, as_: str, owner: str = OWNER, name: str = "m") -> Any:
    """A shared model with all it has, as its use is logged."""
    (row,) = call(connection, "load_progress", model_name=name, owner=owner, as_=as_)
    return row


def assert_nothing(connection: Connection, tenant: str, owner: str = OWNER, name: str = "m") -> None:
    """The model is not there for this tenant, in any function."""
    assert received(connection, tenant) == []
    assert names(connection, model_name=name, scope="shared", as_=tenant) == []
    assert grants(connection, "list_received_shares", tenant) == set()
    assert held(connection, tenant, owner, name) == []
    with refused("TN101"):
        versions(connection, name, owner=owner, as_=tenant)
    with refused("TN101"):
        save(connection, name, owner=owner, as_=tenant)
    with refused("TN101"):
        share(connection, name, FOURTH, owner=owner, as_=tenant)


# Targets --------------------------------------------------------------------------------------------------------------


def test_each_level_alone_replaces_the_sharers_own(database: Database) -> None:
    app = database.connect("app")
    allow(database, "acme", "other0", "other1")
    for place, (snake, camel) in enumerate(zip(LEVELS, CAMEL, strict=True)):
        for number, name in enumerate((snake, camel)):
            expected = OWNER.split(":")
            expected[place] = f"other{number}"
            save(app, name, as_=OWNER)
            assert targets_of(app, {name: f"other{number}"}, name=name) == [":".join(expected)]
            assert (name, OWNER, ["read"], 2 if snake == camel and number else 1) in received(app, ":".join(expected))
            near = OWNER.split(":")
            near[place] = "yet another"[:3]
            assert received(app, ":".join(near)) == []


def test_a_star_is_any_value_of_one_level(database: Database) -> None:
    app = database.connect("app")
    allow(database, "acme", "x", "y", "z")
    for place, name in enumerate(LEVELS):
        save(app, name, as_=OWNER)
        expected = OWNER.split(":")
        expected[place] = "*"
        assert targets_of(app, {name: "*"}, name=name) == [":".join(expected)]
        for other in ("x", "y"):
            expected[place] = other
            assert received(app, ":".join(expected)) == [(name, OWNER, ["read"], 1)]
            # another value of a second level is not covered
            second = (place + 1) % 5
            assert received(app, ":".join("z" if at == second else part for at, part in enumerate(expected))) == []
        # and the owner does not receive its own
        assert received(app, OWNER) == []
        assert value(app, "unshare_model", model_name=name, as_=OWNER) == 1


def test_every_combination_of_stars_reaches_whom_it_covers(database: Database) -> None:
    app = database.connect("app")
    allow(database, "acme", "beta", "x")
    save(app, "m", as_=OWNER)
    other = "beta:s9:p9:test:c9"
    for places in chain.from_iterable(combinations(range(5), count) for count in range(6)):
        pattern = ":".join("*" if at in places else part for at, part in enumerate(other.split(":")))
        share(app, "m", pattern, as_=OWNER)
        assert received(app, other) == [("m", OWNER, ["read"], 1)], pattern
        for place in range(5):
            neighbour = ":".join("x" if at == place else part for at, part in enumerate(other.split(":")))
            assert bool(received(app, neighbour)) == (place in places), (pattern, neighbour)
        value(app, "unshare_model", model_name="m", as_=OWNER)


MALFORMED_TARGETS: dict[str, str] = {
    "none": "[]",
    "object": '{"code_hash": "x"}',
    "string": '"x"',
    "null": "null",
    "number": "1",
    "array in array": '[[{"code_hash": "x"}]]',
    "text in array": '["acme:s1:p1:production:x"]',
    "null in array": '[{"code_hash": "x"}, null]',
    "unknown level": '[{"code_hash": "x", "codehash": "x"}]',
    "unknown level, upper": '[{"CODE_HASH": "x"}]',
    "blank level name": '[{"": "x"}]',
    "both spellings": '[{"code_hash": "x", "codeHash": "x"}]',
    "both spellings, other": '[{"org_id": "acme", "orgId": "beta"}]',
    "number level": '[{"code_hash": 1}]',
    "null level": '[{"code_hash": null}]',
    "bool level": '[{"code_hash": true}]',
    "array level": '[{"code_hash": ["x"]}]',
    "object level": '[{"code_hash": {"a": "x"}}]',
    "empty level": '[{"code_hash": ""}]',
    "long level": json.dumps([{"code_hash": "x" * 64}]),
    "colon": '[{"code_hash": "x:y"}]',
    "colon and an empty level": '[{"code_hash": "", "environment": "a:b"}]',
    "part star": '[{"code_hash": "x*"}]',
    "two stars": '[{"code_hash": "**"}]',
    "percent": '[{"code_hash": "%"}]',
    "blank": '[{"code_hash": "x y"}]',
    "newline": '[{"code_hash": "x\\n"}]',
    "not ascii": '[{"code_hash": "\u00e4"}]',
    "twice": '[{"code_hash": "x"}, {"code_hash": "x"}]',
    "twice, other spelling": '[{"code_hash": "x"}, {"codeHash": "x"}]',
    "twice, own level said": '[{"code_hash": "x"}, {"code_hash": "x", "org_id": "acme", "serverId": "s1"}]',
    "twice, apart": '[{"code_hash": "x"}, {"code_hash": "y"}, {"code_hash": "x"}]',
    "oneself": '[{"code_hash": "owner"}]',
    "oneself by leaving all out": "[{}]",
    "oneself among others": '[{"code_hash": "x"}, {"org_id": "acme"}]',
}


def test_a_malformed_doubled_or_own_target_is_refused(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    share(app, "m", READER, as_=OWNER)
    with unchanged(database):
        for targets in MALFORMED_TARGETS.values():
            with refused("TN301"):
                call(app, "share_model", model_name="m", targets=targets, as_=OWNER)
            if "owner" not in targets and targets not in ("[{}]", MALFORMED_TARGETS["oneself among others"], "null"):
                with refused("TN301"):
                    call(app, "unshare_model", model_name="m", targets=targets, as_=OWNER)
        with refused("TN301"):
            call(app, "share_model", model_name="m", targets=None, as_=OWNER)
    longest = "x" * 63
    assert targets_of(app, {"code_hash": longest}, {"code_hash": "A.z_+@~=/-"}) == [
        key(code=longest),
        key(code="A.z_+@~=/-"),
    ]


def test_a_receiver_shares_neither_with_the_owner_nor_with_itself(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    share(app, "m", READER, permissions=("read", "share"), as_=OWNER)
    with unchanged(database):
        for target in (OWNER, READER):
            with refused("TN301"):
                share(app, "m", target, owner=OWNER, as_=READER)


def test_many_targets_come_back_in_their_order(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    codes = ["z", "a", "*", "m", "b"]
    assert targets_of(app, *({"code_hash": code} for code in codes)) == [key(code=code) for code in codes]
    assert len(grants(app, "list_shares", OWNER)) == 5


def test_a_target_that_does_not_exist_yet_works_when_it_appears(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", 0.25, as_=OWNER)
    share(app, "m", READER, as_=OWNER)
    with unchanged(database, "audit_pending"):
        # reading registers nothing, and is logged for the owner
        assert received(app, READER) == [("m", OWNER, ["read"], 1)]
        assert versions(app, "m", owner=OWNER, as_=READER) == [1]
        assert held(app, READER) == ["read"]
        assert len(grants(app, "list_received_shares", READER)) == 1
        assert grants(app, "list_shares", READER) == set()
        assert value(app, "unshare_model", model_name="m", as_=READER) == 0
    save(app, "mine", as_=READER)
    assert received(app, READER) == [("m", OWNER, ["read"], 1)]
    assert names(app, as_=READER) == ["mine", "m"]


# Outside the organisation ---------------------------------------------------------------------------------------------


def test_another_organisation_needs_a_permit_for_this_pair(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    save(app, "m", as_=OWNER)
    everybody = "*:s1:p1:production:owner"
    for target in (BETA, everybody, "*:*:*:*:*"):
        with unchanged(database), refused("TN302"):
            share(app, "m", READER, target, as_=OWNER)
    allow(database, "beta", "acme")
    allow(database, "acme", "gamma")
    with unchanged(database), refused("TN302"):
        share(app, "m", BETA, as_=OWNER)
    allow(database, "acme", "beta", "beta")
    rows = call(admin, "list_external_sharing")
    assert [(row.org_id, row.to_org_id) for row in rows] == [("acme", "beta"), ("acme", "gamma"), ("beta", "acme")]
    assert {row.permitted_by for row in rows} == {"postgres"}
    share(app, "m", BETA, as_=OWNER)
    assert received(app, BETA) == [("m", OWNER, ["read"], 1)]


def test_a_star_for_the_organisation_is_the_permitted_pairs_and_nobody_else(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    allow(database, "acme", "beta")
    save(app, "m", as_=OWNER)
    share(app, "m", "*:*:*:*:*", permissions=PERMISSIONS, as_=OWNER)
    gamma = key("gamma")
    for tenant in (READER, BETA):
        assert received(app, tenant) == [("m", OWNER, list(PERMISSIONS), 1)]
    # the other direction, and any pair of others, is no permit
    allow(database, "gamma", "acme", "beta")
    allow(database, "beta", "gamma")
    assert_nothing(app, gamma)
    allow(database, "acme", "gamma")
    assert received(app, gamma) == [("m", OWNER, list(PERMISSIONS), 1)]
    share(app, "m", key("gamma", code="next"), owner=OWNER, as_=gamma)
    assert value(admin, "forbid_external_sharing", org_id="acme", to_org_id="gamma") == 1
    assert_nothing(app, gamma)
    assert_nothing(app, key("gamma", code="next"))
    assert received(app, BETA) == [("m", OWNER, list(PERMISSIONS), 1)]
    # What was passed on under the old permit does not come back with a new one.
    allow(database, "acme", "gamma")
    assert received(app, gamma) == [("m", OWNER, list(PERMISSIONS), 1)]
    value(app, "unshare_model", model_name="m", as_=OWNER)
    share(app, "m", gamma, permissions=PERMISSIONS, as_=OWNER)
    assert_nothing(app, key("gamma", code="next"))


def test_passing_on_outside_needs_the_sharers_own_permit(database: Database) -> None:
    app = database.connect("app")
    allow(database, "acme", "beta", "gamma")
    save(app, "m", as_=OWNER)
    share(app, "m", BETA, permissions=("read", "share"), as_=OWNER)
    with unchanged(database):
        for target in (READER, "gamma:s:p:e:c", "*:s1:p1:production:c1"):
            with refused("TN302"):
                share(app, "m", target, owner=OWNER, as_=BETA)
    share(app, "m", key("beta", code="c2"), owner=OWNER, as_=BETA)


def test_forbidding_ends_what_left_the_organisation_and_what_derives_from_it(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    allow(database, "acme", "beta", "gamma")
    allow(database, "beta", "acme")
    save(app, "m", as_=OWNER)
    save(app, "m", as_=BETA)
    beta_2, beta_3 = key("beta", code="c2"), key("beta", code="c3")
    inside = share(app, "m", READER, permissions=("read", "share"), as_=OWNER)
    outside = share(app, "m", BETA, permissions=("read", "share"), as_=OWNER)
    derived = share(app, "m", beta_2, owner=OWNER, as_=BETA)
    wide = share(app, "m", "*:x:x:x:x", as_=OWNER)
    share(app, "m", "gamma:s:p:e:c", owner=OWNER, as_=READER)
    back = share(app, "m", OWNER, as_=BETA)
    own = share(app, "m", beta_3, as_=BETA)
    assert grants(app, "list_received_shares", beta_2) == {derived}
    with unchanged(database):
        assert value(admin, "forbid_external_sharing", org_id="acme", to_org_id="nobody") == 0
    assert value(admin, "forbid_external_sharing", org_id="acme") == 3
    for _ in range(2):
        assert grants(app, "list_shares", OWNER) == {inside, wide}
        assert grants(app, "list_shares", BETA) == {back, own}
        assert received(app, BETA) == received(app, beta_2) == received(app, "gamma:s:p:e:c") == []
        assert outside not in grants(app, "list_received_shares", BETA)
        assert received(app, OWNER) == [("m", BETA, ["read"], 1)]
        # and a permit given anew revives nothing
        allow(database, "acme", "beta", "gamma")
    value(admin, "forbid_external_sharing", org_id="acme")
    with refused("TN302"):
        share(app, "m", BETA, as_=OWNER)
    assert [row.org_id for row in call(admin, "list_external_sharing")] == ["beta"]
    with unchanged(database):
        for org in ("acme", "nobody", "*", "", None):
            assert value(admin, "forbid_external_sharing", org_id=org) == 0


def test_only_administrators_permit_and_only_two_organisations(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    with unchanged(database):
        for org in ("*", "", "a:b", "x" * 64, None, "a b"):
            for pair in ({"org_id": org, "to_org_id": "acme"}, {"org_id": "acme", "to_org_id": org}):
                with refused("22023"):
                    call(admin, "allow_external_sharing", **pair)
        with refused("22023"):
            call(admin, "allow_external_sharing", org_id="acme", to_org_id="acme")
        for function in ("allow_external_sharing", "forbid_external_sharing"):
            with refused("42501", hint=False):
                call(app, function, org_id="acme", to_org_id="beta")
        with refused("42501", hint=False):
            call(app, "list_external_sharing")


# Permissions ----------------------------------------------------------------------------------------------------------


def test_permissions_are_known_words_and_at_least_one(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    with unchanged(database):
        for wrong in ("{}", None, "{READ}", "{read,admin}", "{NULL}", "{read,NULL}", '{""}', '{"read "}', "{{read,x}}"):
            with refused("22023"):
                call(app, "share_model", model_name="m", targets=[to(READER)], permissions=wrong, as_=OWNER)
        for wrong_one in ("READ", "", None, "admin", "read,write"):
            for owner in (None, OWNER, READER):
                with refused("22023"):
                    call(app, "has_permission", owner=owner, model_name="m", permission=wrong_one, as_=OWNER)
    share(app, "m", READER, permissions=("write", "read", "read", "write"), as_=OWNER)
    (row,) = call(app, "list_received_shares", as_=READER)
    assert row.permissions == ["read", "write"]
    call(app, "share_model", model_name="m", targets=[to(THIRD)], as_=OWNER)
    assert held(app, THIRD) == ["read"]


def test_each_permission_does_its_own_thing_and_no_other(database: Database) -> None:
    app = database.connect("app")
    for count in range(1, 5):
        for permissions in combinations(PERMISSIONS, count):
            name, tenant = "+".join(permissions), key(code="-".join(permissions))
            save(app, name, 0.5, as_=OWNER)
            share(app, name, tenant, permissions=permissions, as_=OWNER)
            assert held(app, tenant, name=name) == list(permissions)
            assert held(app, tenant, name="other") == []
            assert [row.permissions for row in call(app, "list_received_shares", as_=tenant)] == [list(permissions)]
            if "read" in permissions:
                assert received(app, tenant) == [(name, OWNER, list(permissions), 1)]
                assert versions(app, name, owner=OWNER, as_=tenant) == [1]
            else:
                assert received(app, tenant) == received(app, tenant, model_name=name) == []
                with refused("TN101"):
                    versions(app, name, owner=OWNER, as_=tenant)
            if "write" in permissions:
                assert save(app, name, 0.75, owner=OWNER, as_=tenant).version == 2
            else:
                with unchanged(database), refused("TN101"):
                    save(app, name, owner=OWNER, as_=tenant)
            if "share" in permissions:
                share(app, name, FOURTH, permissions=permissions, owner=OWNER, as_=tenant)
            else:
                with unchanged(database), refused("TN303"):
                    share(app, name, FOURTH, permissions=permissions, owner=OWNER, as_=tenant)
            with unchanged(database):
                assert value(app, "delete_progress", model_name=name, as_=tenant) is False
    assert held(app, OWNER, name="read") == held(app, OWNER, None, "read") == list(PERMISSIONS)
    assert held(app, OWNER, name="no such model") == []


def test_a_reader_sees_state_and_history_as_they_are(database: Database) -> None:
    app = database.connect("app")
    metrics, metadata = {"a": 0.5, "\u00e4": -1}, {"deep": [{"x": None}]}
    save(app, "m", 0.5, training_samples=3, metrics=metrics, metadata=metadata, as_=OWNER)
    share(app, "m", READER, as_=OWNER)
    (mine,) = call(app, "load_progress", as_=OWNER)
    theirs = loaded(app, READER)
    assert theirs._replace(is_shared=False, permissions=mine.permissions, cursor=mine.cursor) == mine
    assert theirs.owner_key == OWNER
    save(app, "m", None, metrics={"b": 2}, as_=OWNER)
    theirs = loaded(app, READER)
    assert (theirs.version, theirs.mse, theirs.metrics) == (2, None, {"b": 2})
    for arguments in ({}, {"limit": 1}, {"before_version": 2}, {"limit": 0}, {"limit": None}):
        assert call(app, "load_history", model_name="m", owner=OWNER, as_=READER, **arguments) == call(
            app, "load_history", model_name="m", as_=OWNER, **arguments
        )
    with refused("22023"):
        call(app, "load_history", model_name="m", owner=OWNER, limit=-1, as_=READER)


def test_a_writer_saves_the_next_version_of_the_owners_model(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", 0.1, as_=OWNER)
    share(app, "m", READER, permissions=("read", "write"), as_=OWNER)
    row = save(app, "m", 0.2, training_samples=9, metrics={"a": 1}, metadata={"b": 2}, owner=OWNER, as_=READER)
    assert (row.model_name, row.version, row.created) == ("m", 2, False)
    assert save(app, "m", 0.3, as_=OWNER).version == 3
    (mine,) = call(app, "load_progress", as_=OWNER)
    assert (mine.version, mine.mse) == (3, 0.3)
    for reader, arguments in ((OWNER, {}), (READER, {"owner": OWNER})):
        history = call(app, "load_history", model_name="m", as_=reader, **arguments)
        assert [(row.version, row.saved_by) for row in history] == [(3, OWNER), (2, READER), (1, OWNER)]
        assert tuple(history[1])[1:5] == (0.2, 9, {"a": 1}, {"b": 2})
    assert names(app, scope="own", as_=READER) == []
    for wrong in ({"mse": float("nan")}, {"mse": 1, "training_samples": -1}, {"mse": 1, "metrics": {"a": "x"}}):
        with unchanged(database), refused("22023"):
            call(app, "save_progress", model_name="m", owner=OWNER, as_=READER, **wrong)


def test_a_writers_expected_version_is_compared_with_the_owners_model(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    share(app, "m", READER, permissions=("write",), as_=OWNER)
    with unchanged(database):
        for expected in (0, 2, 99):
            with refused("TN102"):
                save(app, "m", expected_version=expected, owner=OWNER, as_=READER)
    assert save(app, "m", expected_version=1, owner=OWNER, as_=READER).version == 2
    with unchanged(database), refused("TN102"):
        save(app, "m", expected_version=1, as_=OWNER)


def test_an_idempotency_key_belongs_to_the_one_who_saves(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    share(app, "m", READER, THIRD, permissions=("write",), as_=OWNER)
    request = {"model_name": "m", "mse": 0.5, "idempotency_key": "k", "owner": OWNER}
    (first,) = call(app, "save_progress", **request, as_=READER)
    assert first.version == 2
    with unchanged(database):
        assert call(app, "save_progress", **request, as_=READER) == [first]
        for other in ({**request, "mse": 0.6}, {**request, "owner": None}, {**request, "model_name": "n"}):
            with refused("TN103"):
                call(app, "save_progress", **other, as_=READER)
    (third,) = call(app, "save_progress", **request, as_=THIRD)
    assert third.version == 3
    (own,) = call(app, "save_progress", **{**request, "owner": None, "mse": 7}, as_=OWNER)
    assert own.version == 4
    value(app, "unshare_model", model_name="m", as_=OWNER)
    with unchanged(database):
        # the first answer stays, a new request is refused
        assert call(app, "save_progress", **request, as_=READER) == [first]
        with refused("TN101"):
            call(app, "save_progress", **{**request, "idempotency_key": "k2"}, as_=READER)


def test_a_batch_saves_own_and_shared_models_or_none(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    save(app, "hidden", as_=OWNER)
    share(app, "m", READER, permissions=("write",), as_=OWNER)
    items = [
        {"model_name": "m", "mse": 1, "owner": OWNER},
        {"model_name": "m", "mse": 2},
        {"model_name": "m", "mse": 3, "owner": OWNER, "expected_version": 2},
        {"model_name": "m", "mse": 4, "owner": None},
        {"model_name": "m", "mse": 5, "owner": READER},
    ]
    rows = call(app, "save_progress_batch", items=items, as_=READER)
    assert [(row.version, row.created) for row in rows] == [(2, False), (1, True), (3, False), (2, False), (3, False)]
    assert versions(app, "m", as_=OWNER) == [3, 2, 1]
    assert versions(app, "m", as_=READER) == [3, 2, 1]
    with unchanged(database):
        for name, owner in (("hidden", OWNER), ("m", THIRD), ("m", ""), ("none", OWNER)):
            with refused("TN101"):
                call(
                    app,
                    "save_progress_batch",
                    items=[*items[:2], {**items[0], "model_name": name, "owner": owner}],
                    as_=READER,
                )


# One version ----------------------------------------------------------------------------------------------------------


def test_a_pinned_version_is_all_there_is_to_see(database: Database) -> None:
    app = database.connect("app")
    for mse in (0.1, 0.2, 0.3):
        save(app, "m", mse, training_samples=int(mse * 10), metrics={"x": mse}, metadata={"y": mse}, as_=OWNER)
    share(app, "m", READER, version=2, as_=OWNER)
    newest, pinned, _ = call(app, "load_history", model_name="m", as_=OWNER)
    for _ in range(2):
        row = loaded(app, READER)
        assert (row.version, row.mse, row.training_samples, row.metrics, row.metadata, row.updated_at) == (
            2,
            0.2,
            2,
            {"x": 0.2},
            {"y": 0.2},
            pinned.saved_at,
        )
        assert call(app, "load_history", model_name="m", owner=OWNER, as_=READER) == [pinned]
        assert call(app, "load_history", model_name="m", owner=OWNER, before_version=2, as_=READER) == []
        save(app, "m", 0.4, as_=OWNER)
    assert newest.version == 3
    (row,) = call(app, "list_received_shares", as_=READER)
    assert row.version == 2
    (row,) = call(app, "list_shares", as_=OWNER)
    assert row.version == 2


def test_a_pinned_version_exists_and_is_not_written(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    save(app, "m", as_=OWNER)
    with unchanged(database):
        for missing in (0, -1, 3, 2**63 - 1):
            with refused("TN304"):
                share(app, "m", READER, version=missing, as_=OWNER)
        for permissions in (("write",), ("read", "write"), PERMISSIONS):
            with refused("22023"):
                share(app, "m", READER, version=1, permissions=permissions, as_=OWNER)
        with refused("TN101"):
            share(app, "none", READER, version=1, as_=OWNER)
    share(app, "m", READER, permissions=("read", "share"), as_=OWNER)
    with unchanged(database), refused("TN304"):
        share(app, "m", THIRD, version=3, owner=OWNER, as_=READER)
    share(app, "m", THIRD, version=1, owner=OWNER, as_=READER)
    assert received(app, THIRD) == [("m", OWNER, ["read"], 1)]


def test_of_several_grants_the_one_without_a_pin_shows_the_current_version(database: Database) -> None:
    app = database.connect("app")
    for _ in range(3):
        save(app, "m", as_=OWNER)
    share(app, "m", READER, version=1, as_=OWNER)
    share(app, "m", key(code="*"), version=2, permissions=("execute", "read"), as_=OWNER)
    # the later of two pins
    assert received(app, READER) == [("m", OWNER, ["execute", "read"], 2)]
    assert versions(app, "m", owner=OWNER, as_=READER) == [2]
    # a grant without read shows nothing, so its being unpinned does not either
    share(app, "m", "acme:*:p1:production:reader", permissions=("share",), as_=OWNER)
    assert received(app, READER) == [("m", OWNER, ["execute", "read", "share"], 2)]
    assert versions(app, "m", owner=OWNER, as_=READER) == [2]
    wide = share(app, "m", "acme:s1:*:production:reader", as_=OWNER)
    assert received(app, READER) == [("m", OWNER, ["execute", "read", "share"], 3)]
    assert versions(app, "m", owner=OWNER, as_=READER) == [3, 2, 1]
    assert value(app, "revoke_share", share_id=wide, as_=OWNER) is True
    assert received(app, READER) == [("m", OWNER, ["execute", "read", "share"], 2)]


def test_a_pinned_version_that_was_removed_by_hand_is_not_replaced_by_another(database: Database) -> None:
    app = database.connect("app")
    for _ in range(2):
        save(app, "m", as_=OWNER)
    share(app, "m", READER, version=1, as_=OWNER)
    database.connect().execute("delete from ai_storage_private.progress_version where version = 1")
    assert received(app, READER) == []
    assert versions(app, "m", owner=OWNER, as_=READER) == []


# Ends -----------------------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_grant_after_its_end(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    expires_at = soon(seconds=4)
    share(app, "m", READER, permissions=PERMISSIONS, expires_at=expires_at, as_=OWNER)
    share(app, "m", THIRD, permissions=PERMISSIONS, owner=OWNER, as_=READER)
    # null inherits the end
    assert [row.expires_at for row in call(app, "list_shares", as_=OWNER)] == [expires_at, expires_at]
    assert received(app, READER) == received(app, THIRD) == [("m", OWNER, list(PERMISSIONS), 1)]
    app.execute(f"select {sleep_past(expires_at.timestamp())}")
    for tenant in (READER, THIRD):
        assert_nothing(app, tenant)
    assert grants(app, "list_shares", OWNER) == grants(app, "list_shares", READER) == set()


def test_a_grant_ends_also_within_a_transaction(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    grant = share(app, "m", READER, as_=OWNER)
    with app.transaction():
        assert len(received(app, READER)) == 1
        end(database, grant)
        assert_nothing_readable = received(app, READER)
        assert assert_nothing_readable == []


def test_an_end_lies_in_the_future(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    with unchanged(database):
        for past in (soon(seconds=-1), soon(days=-1000), "-infinity", "epoch"):
            with refused("22023"):
                share(app, "m", READER, expires_at=past, as_=OWNER)


def test_an_ended_grant_can_be_given_again(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    grant = share(app, "m", READER, as_=OWNER)
    end(database, grant)
    assert received(app, READER) == []
    share(app, "m", READER, permissions=("read", "execute"), as_=OWNER)
    assert received(app, READER) == [("m", OWNER, ["execute", "read"], 1)]
    assert count_grants(database) == 1


# Passing on -----------------------------------------------------------------------------------------------------------


def test_nothing_wider_longer_or_otherwise_pinned_is_passed_on(database: Database) -> None:
    app = database.connect("app")
    for _ in range(3):
        save(app, "m", as_=OWNER)
    day = soon(days=1)
    share(app, "m", READER, permissions=("read", "share"), expires_at=day, version=2, as_=OWNER)
    with unchanged(database):
        for permissions in (("write",), ("execute",), ("read", "execute"), PERMISSIONS):
            with refused("TN303"):
                share(app, "m", THIRD, permissions=permissions, owner=OWNER, as_=READER)
        for expires_at in (day + timedelta(microseconds=1), soon(days=2), "9999-12-31"):
            with refused("TN303"):
                share(app, "m", THIRD, expires_at=expires_at, owner=OWNER, as_=READER)
        for version in (1, 3, 4):
            with refused("TN303"):
                share(app, "m", THIRD, version=version, owner=OWNER, as_=READER)
    for arguments, expected in (
        ({}, (2, day)),
        ({"version": 2}, (2, day)),
        ({"expires_at": day}, (2, day)),
        ({"expires_at": day - timedelta(hours=1)}, (2, day - timedelta(hours=1))),
    ):
        share(app, "m", THIRD, owner=OWNER, as_=READER, **arguments)
        (row,) = call(app, "list_received_shares", as_=THIRD)
        assert (row.version, row.expires_at, row.shared_by, row.owner_key) == (*expected, READER, OWNER)
    assert received(app, THIRD) == [("m", OWNER, ["read"], 2)]


def test_one_grant_has_to_cover_all_that_is_passed_on(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    share(app, "m", READER, permissions=("read", "share"), as_=OWNER)
    share(app, "m", key(code="*"), permissions=("execute", "share"), as_=OWNER)
    share(app, "m", "acme:*:p1:production:reader", permissions=("write",), as_=OWNER)
    with unchanged(database):
        for permissions in (("read", "execute"), ("write",), ("write", "share")):
            with refused("TN303"):
                share(app, "m", "acme:s2:p1:production:z", permissions=permissions, owner=OWNER, as_=READER)
    for permissions in (("read", "share"), ("execute",), ("share",)):
        share(app, "m", "acme:s2:p1:production:z", permissions=permissions, owner=OWNER, as_=READER)


def test_revoking_ends_everything_below_and_nothing_beside(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    chain_ = [OWNER, *(key(code=f"c{number}") for number in range(5))]
    ids = [
        share(app, "m", to_, permissions=("read", "share"), owner=None if from_ == OWNER else OWNER, as_=from_)
        for from_, to_ in pairwise(chain_)
    ]
    beside = share(app, "m", key(code="beside"), as_=OWNER)
    assert grants(app, "list_shares", OWNER) == {*ids, beside}
    for number, tenant in enumerate(chain_[1:], 1):
        # who passed it on sees and rules what derives from it
        assert grants(app, "list_shares", tenant) == set(ids[number:])
        assert grants(app, "list_received_shares", tenant) == {ids[number - 1]}
        with unchanged(database):
            for foreign in [*ids[:number], beside, uuid4()]:
                assert value(app, "revoke_share", share_id=foreign, as_=tenant) is False
            assert value(app, "unshare_model", model_name="m", as_=tenant) == 0
    assert value(app, "revoke_share", share_id=ids[3], as_=chain_[2]) is True
    assert grants(app, "list_shares", OWNER) == {*ids[:3], beside}
    assert value(app, "unshare_model", model_name="m", owner=OWNER, as_=chain_[1]) == 2
    assert grants(app, "list_shares", OWNER) == {ids[0], beside}
    assert value(app, "revoke_share", share_id=ids[0], as_=OWNER) is True
    for number in range(2):
        assert value(app, "revoke_share", share_id=ids[0], as_=OWNER) is False, number
    for tenant in chain_[1:]:
        assert_nothing(app, tenant)
    assert received(app, key(code="beside")) == [("m", OWNER, ["read"], 1)]
    with unchanged(database):
        assert value(app, "revoke_share", share_id=None, as_=OWNER) is False


def test_the_end_of_a_grant_is_the_end_of_what_derives_from_it(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    expires_at = soon(seconds=4)
    share(app, "m", READER, permissions=("read", "share"), expires_at=expires_at, as_=OWNER)
    share(app, "m", THIRD, permissions=("read", "share"), owner=OWNER, as_=READER)
    share(app, "m", FOURTH, owner=OWNER, as_=THIRD)
    assert received(app, FOURTH) == [("m", OWNER, ["read"], 1)]
    app.execute(f"select {sleep_past(expires_at.timestamp())}")
    for tenant in (READER, THIRD, FOURTH):
        assert received(app, tenant) == []
        assert held(app, tenant) == []


def test_unsharing_ends_what_the_caller_gave_to_some_or_to_all(database: Database) -> None:
    app = database.connect("app")
    for name in ("m", "n"):
        save(app, name, as_=OWNER)
        share(app, name, READER, THIRD, key(code="*"), permissions=("read", "share"), as_=OWNER)
    share(app, "m", FOURTH, owner=OWNER, as_=READER)
    with unchanged(database):
        assert value(app, "unshare_model", model_name="m", targets=[{"code_hash": "nobody"}], as_=OWNER) == 0
        assert value(app, "unshare_model", model_name="none", as_=OWNER) == 0
        assert value(app, "unshare_model", model_name=None, as_=OWNER) == 0
        # what others gave is theirs: named by its target it is not the caller's to unshare
        assert value(app, "unshare_model", model_name="m", targets=[to(FOURTH)], as_=OWNER) == 0
    assert value(app, "unshare_model", model_name="m", targets=[{"codeHash": "third"}], as_=OWNER) == 1
    assert len(grants(app, "list_shares", OWNER, model_name="m")) == 3
    gone = value(app, "unshare_model", model_name="m", owner=OWNER, as_=OWNER)
    assert gone == 3
    assert len(grants(app, "list_shares", OWNER)) == len(grants(app, "list_shares", OWNER, model_name="n")) == 3
    assert received(app, READER) == [("n", OWNER, ["read", "share"], 1)]


def test_sharing_again_replaces_and_ends_what_was_passed_on(database: Database) -> None:
    app = database.connect("app")
    for _ in range(2):
        save(app, "m", as_=OWNER)
    wide = {"permissions": ("read", "execute", "share")}
    for change in (
        {"permissions": PERMISSIONS},
        {"permissions": ("read", "share")},
        {**wide, "expires_at": soon(days=1)},
        {**wide, "version": 1},
    ):
        first = share(app, "m", READER, **wide, as_=OWNER)
        passed = share(app, "m", THIRD, permissions=("read",), owner=OWNER, as_=READER)
        # the same once more is the same grant
        assert share(app, "m", READER, FOURTH, **wide, as_=OWNER) == first
        assert passed in grants(app, "list_shares", OWNER)
        assert share(app, "m", READER, **change, as_=OWNER) != first
        assert received(app, THIRD) == []
        assert passed not in grants(app, "list_shares", OWNER)
        # and does not come back with the first one
        share(app, "m", READER, **wide, as_=OWNER)
        assert received(app, THIRD) == []
        value(app, "unshare_model", model_name="m", as_=OWNER)


def test_the_same_grant_from_another_line_is_another_one(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    both = ("read", "share")
    first = share(app, "m", READER, permissions=both, as_=OWNER)
    passed = share(app, "m", THIRD, owner=OWNER, as_=READER)
    value(app, "revoke_share", share_id=first, as_=OWNER)
    share(app, "m", READER, permissions=both, as_=OWNER)
    assert received(app, THIRD) == []
    assert share(app, "m", THIRD, owner=OWNER, as_=READER) != passed
    assert received(app, THIRD) == [("m", OWNER, ["read"], 1)]


def test_a_circle_of_grants_holds_nothing_up(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    both = ("read", "share")
    first = share(app, "m", READER, permissions=both, as_=OWNER)
    second = share(app, "m", THIRD, permissions=both, owner=OWNER, as_=READER)
    third = share(app, "m", READER, permissions=both, owner=OWNER, as_=THIRD)
    assert grants(app, "list_received_shares", READER) == {first, third}
    assert received(app, READER) == [("m", OWNER, ["read", "share"], 1)]
    # what came back derives from the reader's own: without the first grant it is worth nothing
    end(database, first)
    with refused("TN101"):
        share(app, "m", FOURTH, owner=OWNER, as_=READER)
    assert value(app, "revoke_share", share_id=second, as_=READER) is True
    assert third not in grants(app, "list_shares", OWNER)
    first = share(app, "m", READER, permissions=both, as_=OWNER)
    share(app, "m", THIRD, permissions=both, owner=OWNER, as_=READER)
    share(app, "m", READER, permissions=both, owner=OWNER, as_=THIRD)
    assert value(app, "revoke_share", share_id=first, as_=OWNER) is True
    assert grants(app, "list_shares", OWNER) == set()
    assert_nothing(app, READER)


def test_a_wildcard_passed_on_reaches_neither_owner_nor_outlives_its_origin(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    first = share(app, "m", READER, permissions=("read", "share"), as_=OWNER)
    share(app, "m", key(code="*"), owner=OWNER, as_=READER)
    assert received(app, OWNER) == []
    assert grants(app, "list_received_shares", OWNER) == set()
    assert received(app, READER) == [("m", OWNER, ["read", "share"], 1)]
    assert received(app, FOURTH) == [("m", OWNER, ["read"], 1)]
    value(app, "revoke_share", share_id=first, as_=OWNER)
    for tenant in (READER, THIRD):
        assert_nothing(app, tenant)


def test_the_lists_say_all_about_a_grant(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    save(app, "a", as_=OWNER)
    expires_at = soon(hours=1)
    first = share(app, "m", READER, permissions=("share", "read"), expires_at=expires_at, version=1, as_=OWNER)
    second = share(app, "m", THIRD, owner=OWNER, as_=READER)
    other = share(app, "a", READER, as_=OWNER)
    given = call(app, "list_shares", as_=OWNER)
    assert [row.share_id for row in given] == [other, first, second]
    assert tuple(given[1])[:8] == (first, "m", OWNER, OWNER, READER, ["read", "share"], 1, expires_at)
    assert tuple(given[2])[:8] == (second, "m", OWNER, READER, THIRD, ["read"], 1, expires_at)
    assert all(abs(row.created_at - datetime.now(UTC)) < timedelta(minutes=5) for row in given)
    assert call(app, "list_shares", as_=READER) == [given[2]]
    assert call(app, "list_shares", model_name="m", as_=OWNER) == given[1:]
    assert call(app, "list_shares", model_name="none", as_=OWNER) == []
    assert [(row.state, row.parent_id) for row in given] == [("active", None), ("active", None), ("active", first)]
    assert call(app, "list_received_shares", as_=READER) == given[:2]
    assert call(app, "list_received_shares", owner=OWNER, as_=READER) == given[:2]
    assert call(app, "list_received_shares", owner=THIRD, as_=READER) == []
    assert call(app, "list_received_shares", as_=THIRD) == [given[2]._replace(parent_id=None)]
    assert call(app, "list_shares", as_=THIRD) == call(app, "list_received_shares", as_=OWNER) == []
    end(database, first, second)
    assert call(app, "list_shares", as_=OWNER) == [given[0]]
    assert call(app, "list_received_shares", as_=THIRD) == []


# Consent --------------------------------------------------------------------------------------------------------------

ANYBODY_IN_ACME = "acme:*:*:*:*"


def written(connection: Connection, as_: str) -> list[str]:
    return [row.action for row in call(connection, "audit_trail", limit=None, as_=as_)]


def test_a_name_alone_means_ones_own_model(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", 0.1, as_=OWNER)
    share(app, "m", ANYBODY_IN_ACME, permissions=PERMISSIONS, as_=OWNER)
    assert call(app, "load_progress", model_name="m", as_=READER) == []
    assert names(app, model_name="m", scope="own", as_=READER) == []
    # asked for, another's is shown where there is no own one
    (row,) = call(app, "load_progress", model_name="m", scope="all", as_=READER)
    assert (row.owner_key, row.mse, row.metrics, row.metadata) == (OWNER, 0.1, None, None)
    assert loaded(app, READER).metadata == {}
    save(app, "m", 0.9, as_=READER)
    for arguments in ({}, {"scope": "all"}, {"scope": "own"}, {"owner": READER}, {"owner": READER, "scope": "shared"}):
        (row,) = call(app, "load_progress", model_name="m", as_=READER, **arguments)
        assert (row.owner_key, row.mse) == (READER, 0.9)
    for arguments in ({"scope": "shared"}, {"owner": OWNER}, {"owner": OWNER, "scope": "own"}):
        (row,) = call(app, "load_progress", model_name="m", as_=READER, **arguments)
        assert (row.owner_key, row.mse) == (OWNER, 0.1)
    assert names(app, as_=READER) == ["m", "m"]
    assert names(app, owner=READER, as_=READER) == ["m"]
    assert names(app, owner=THIRD, as_=READER) == []


def test_an_offer_tells_nobody_who_saw_it(database: Database) -> None:
    app = database.connect("app")
    allow(database, "beta", "acme")
    save(app, "bait", as_=BETA)
    save(app, "own", as_=READER)
    share(app, "bait", "*:*:*:*:*", permissions=PERMISSIONS, as_=BETA)
    baiter, victim = written(app, BETA), written(app, READER)
    for arguments in (
        {}, {"scope": "shared"}, {"model_name": "bait", "scope": "all"}, {"model_name": "bait"}, {"owner": BETA}
    ):  # fmt: skip
        call(app, "load_progress", as_=READER, **arguments)
    call(app, "list_received_shares", as_=READER)
    call(app, "tenant_stats", as_=READER)
    value(app, "has_permission", owner=BETA, model_name="bait", permission="read", as_=READER)
    assert (written(app, BETA), written(app, READER)) == (baiter, victim)


def test_an_owner_is_told_which_tenant_used_its_model_and_nothing_else_of_it(database: Database) -> None:
    app = database.connect("app")
    spy = database.connect("acme_app", application_name="canary")
    save(app, "m", as_=OWNER)
    share(app, "m", READER, permissions=PERMISSIONS, as_=OWNER)
    before = len(written(app, OWNER))
    for tenant in (READER, key(code="unregistered")):
        if tenant != READER:
            share(app, "m", tenant, as_=OWNER)
        loaded(spy, tenant)
        versions(spy, "m", owner=OWNER, as_=tenant)
    save(spy, "m", owner=OWNER, as_=READER)
    passed = share(spy, "m", THIRD, owner=OWNER, as_=READER)
    value(spy, "revoke_share", share_id=passed, as_=READER)
    told = [row for row in call(app, "audit_trail", limit=None, as_=OWNER)[before:] if row.login != "app"]
    assert len(told) == 8
    for row in told:
        assert (row.login, row.credential) == ("another tenant", "shared")
        assert "canary" not in str(row.detail)
        assert "acme_app" not in str(row)
    users = [row.detail["user"] for row in told if "user" in row.detail]
    assert users == [READER, READER, key(code="unregistered"), key(code="unregistered"), READER]
    # and one's own log tells all
    (mine,) = [row for row in call(app, "audit_trail", limit=None, as_=READER) if row.action == "write model"]
    assert (mine.login, mine.credential, mine.detail["application"]) == ("acme_app", "key", "canary")


# Refusing -------------------------------------------------------------------------------------------------------------


def states(connection: Connection, function: str, as_: str) -> dict[UUID, str]:
    return {row.share_id: row.state for row in call(connection, function, as_=as_)}


def decline(connection: Connection, share_id: UUID, as_: str) -> bool:
    return bool(value(connection, "decline_share", share_id=share_id, as_=as_))


def test_a_receiver_ends_a_grant_to_itself_for_good(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    first = share(app, "m", READER, permissions=PERMISSIONS, as_=OWNER)
    share(app, "m", THIRD, permissions=PERMISSIONS, owner=OWNER, as_=READER)
    with unchanged(database):
        for tenant in (OWNER, THIRD, key(code="nobody")):
            assert decline(app, first, tenant) is False
    assert decline(app, first, READER) is True
    assert decline(app, first, READER) is False
    assert states(app, "list_received_shares", READER) == states(app, "list_shares", OWNER) == {first: "declined"}
    assert received(app, READER) == []
    assert held(app, READER) == []
    assert_nothing(app, THIRD)
    # whatever the sharer grants now, under whatever target
    for target in (READER, key(code="*"), ANYBODY_IN_ACME):
        for permissions in (("read",), PERMISSIONS):
            share(app, "m", target, permissions=permissions, as_=OWNER)
            assert received(app, READER) == []
            with refused("TN101"):
                share(app, "m", THIRD, owner=OWNER, as_=READER)
    # and under the same name
    value(app, "delete_progress", model_name="m", as_=OWNER)
    save(app, "m", as_=OWNER)
    share(app, "m", READER, permissions=PERMISSIONS, as_=OWNER)
    assert received(app, READER) == []
    # other models, and other tenants, go on
    save(app, "n", as_=OWNER)
    share(app, "n", READER, THIRD, as_=OWNER)
    assert received(app, READER) == received(app, THIRD) == [("n", OWNER, ["read"], 1)]


def test_declining_a_star_ends_it_for_one_and_tells_the_sharer_no_name(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    wide = share(app, "m", ANYBODY_IN_ACME, as_=OWNER)
    assert states(app, "list_shares", OWNER) == {wide: "active"}
    # a tenant that never wrote may decline as well
    assert decline(app, wide, READER) is True
    assert received(app, READER) == []
    assert states(app, "list_received_shares", READER) == {wide: "declined"}
    assert received(app, THIRD) == [("m", OWNER, ["read"], 1)]
    assert states(app, "list_received_shares", THIRD) == {wide: "active"}
    assert states(app, "list_shares", OWNER) == {wide: "partly declined"}
    assert READER not in str(call(app, "list_shares", as_=OWNER))
    assert READER not in str(call(app, "audit_trail", limit=None, as_=OWNER))


def test_a_decline_holds_against_one_sharer_and_not_against_another(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    both = ("read", "share")
    share(app, "m", READER, permissions=both, as_=OWNER)
    passed = share(app, "m", THIRD, permissions=both, owner=OWNER, as_=READER)
    share(app, "m", FOURTH, owner=OWNER, as_=THIRD)
    assert decline(app, passed, THIRD) is True
    assert received(app, THIRD) == received(app, FOURTH) == []
    share(app, "m", THIRD, as_=OWNER)
    assert received(app, THIRD) == [("m", OWNER, ["read"], 1)]
    assert received(app, FOURTH) == []


def test_what_is_passed_on_while_it_is_declined_is_worth_nothing(database: Database) -> None:
    app, late = database.connect("app"), database.connect("app")
    save(app, "m", as_=OWNER)
    save(app, "own", as_=READER)
    grant = share(app, "m", READER, permissions=PERMISSIONS, as_=OWNER)
    with late.transaction():
        share(late, "m", THIRD, permissions=PERMISSIONS, owner=OWNER, as_=READER)
        assert decline(app, grant, READER) is True
    assert_nothing(app, THIRD)


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_a_model_is_passed_on_eight_times_and_no_further(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    line = [OWNER, *(key(code=f"line{number}") for number in range(10))]
    for giver, taker in pairwise(line[:10]):
        share(app, "m", taker, permissions=("read", "share"), owner=OWNER, as_=giver)
    assert received(app, line[9]) == [("m", OWNER, ["read", "share"], 1)]
    with unchanged(database), refused("TN306"):
        share(app, "m", line[10], owner=OWNER, as_=line[9])
    # from nearer to the owner it can be passed on
    share(app, "m", line[9], permissions=("read", "share"), as_=OWNER)
    share(app, "m", line[10], owner=OWNER, as_=line[9])
    assert received(app, line[10]) == [("m", OWNER, ["read"], 1)]


def test_a_sharer_has_a_thousand_grants_on_a_model(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    codes = [{"code_hash": f"c{number}"} for number in range(1001)]
    with unchanged(database), refused("TN305"):
        targets_of(app, *codes)
    targets_of(app, *codes[:1000])
    with unchanged(database), refused("TN305"):
        targets_of(app, codes[1000])
    # the same ones again are no more
    assert len(targets_of(app, *codes[:1000])) == 1000
    assert value(app, "unshare_model", model_name="m", targets=codes[:1], as_=OWNER) == 1
    targets_of(app, codes[1000])
    # what a receiver passes on is its own count
    value(app, "unshare_model", model_name="m", targets=codes[1:2], as_=OWNER)
    share(app, "m", READER, permissions=("read", "share"), as_=OWNER)
    share(app, "m", THIRD, owner=OWNER, as_=READER)


def test_ten_thousand_grants_of_one_owner_neither_hide_nor_outweigh_others(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    flood, friend = key(code="a-flood"), key(code="z-friend")
    for tenant in (flood, friend, READER):
        save(app, "m", as_=tenant)
    for tenant in (flood, friend):
        share(app, "m", READER, as_=tenant)
    for table in ("ai_progress_tenant", "model_share"):
        columns = [
            name
            for (name,) in admin.execute(
                "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped",
                (f"ai_storage_private.{table}",),
            )
        ]
        made = {"model_id": "md5('m' || n)::uuid", "model_name": "'a' || n", "share_id": "gen_random_uuid()"}
        values = ", ".join(made.get(name, f"t.{name}") for name in columns)
        admin.execute(
            f"insert into ai_storage_private.{table} ({', '.join(columns)}) select {values} "
            f"from ai_storage_private.{table} as t join ai_storage_private.tenant as o using (tenant_id), "
            "generate_series(1, 10000) as n where o.isolation_key = %s",
            (flood,),
        )
    rows = call(app, "load_progress", limit=None, as_=READER)
    assert [row.owner_key for row in rows] == [READER, *[flood] * 100, friend]
    # page by page it is the same
    got: list[Any] = []
    while page := call(app, "load_progress", limit=7, after=got[-1].cursor if got else None, as_=READER):
        got += page
    assert got == rows
    (stats,) = call(app, "tenant_stats", as_=READER)
    assert stats.shared_models == 101
    assert {row.owner_key for row in call(app, "list_received_shares", as_=READER)} == {flood, friend}
    # whoever asks for one owner gets all, in pages
    got = []
    while page := call(
        app, "load_progress", owner=flood, limit=None, after=got[-1].cursor if got else None, as_=READER
    ):
        assert len(page) <= 1000
        got += page
    assert len(got) == 10_001
    # and 10,000 grants that are over do not hide the others either
    admin.execute(
        "update ai_storage_private.model_share set expires_at = now() where owner_key = %s and model_name <> 'm'",
        (flood,),
    )
    assert friend in {row.owner_key for row in call(app, "load_progress", limit=None, as_=READER)}


# load_progress --------------------------------------------------------------------------------------------------------


def test_pages_of_any_size_add_up_to_own_models_then_shared_ones(database: Database) -> None:
    app = database.connect("app")
    owners = [key(code=code) for code in ("z", "a", "k")]
    for owner in owners:
        for name in ("b", "A", "same", f"only {owner[-1]}", "with blank", "\U0010ffff"):
            save(app, name, as_=owner)
            share(app, name, READER, as_=owner)
            share(app, name, key(code="*"), permissions=("execute", "read"), as_=owner)
    for name in ("same", "mine", "a", "\U0010ffff"):
        save(app, name, as_=READER)
    rows = call(app, "load_progress", limit=None, as_=READER)
    own = [(row.model_name, row.owner_key) for row in rows if not row.is_shared]
    others = [(row.model_name, row.owner_key) for row in rows if row.is_shared]
    assert own == [(name, READER) for name in ("a", "mine", "same", "\U0010ffff")]
    assert others == sorted(others, key=lambda row: row[::-1])
    assert len(others) == 18
    assert [row.is_shared for row in rows] == [False] * 4 + [True] * 18
    assert all(row.permissions == ["execute", "read"] for row in rows[4:])
    assert call(app, "load_progress", scope="own", limit=None, as_=READER) == rows[:4]
    assert call(app, "load_progress", scope="shared", limit=None, as_=READER) == rows[4:]
    assert len({row.cursor for row in rows}) == len(rows)
    for scope, expected in (("all", rows), ("shared", rows[4:]), ("own", rows[:4])):
        for size in range(1, len(expected) + 2):
            got: list[Any] = []
            while len(got) <= len(expected):
                after = got[-1].cursor if got else None
                page = call(app, "load_progress", scope=scope, after=after, limit=size, as_=READER)
                assert len(page) == min(size, len(expected) - len(got))
                got += page
                if len(page) < size:
                    break
            assert got == expected
    theirs = [row for row in rows[4:] if row.owner_key == owners[0]]
    same = [row for row in rows[4:] if row.model_name == "same"]
    assert [row.owner_key for row in same] == sorted(owners)
    for arguments, expected in (
        ({"owner": owners[0]}, theirs),
        ({"model_name": "same", "scope": "shared"}, same),
    ):
        for size in (1, 2, 3, 6, 7):
            got = []
            while page := call(
                app, "load_progress", after=got[-1].cursor if got else None, limit=size, as_=READER, **arguments
            ):
                got += page
                assert len(got) <= len(expected)
            assert got == expected
    assert call(app, "load_progress", limit=0, as_=READER) == []
    with refused("22023"):
        call(app, "load_progress", scope="theirs", as_=READER)


def test_several_grants_on_a_model_are_one_row_with_united_permissions(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    for number, permissions in enumerate((("read",), ("execute",), ("write",), ("share", "read"))):
        stars = ":".join("*" if place == number + 1 else part for place, part in enumerate(READER.split(":")))
        share(app, "m", stars, permissions=permissions, as_=OWNER)
    for arguments in ({}, {"model_name": "m"}, {"limit": 1}, {"limit": None}):
        assert received(app, READER, **arguments) == [("m", OWNER, list(PERMISSIONS), 1)]
    assert len(grants(app, "list_received_shares", READER)) == 4


def test_a_model_of_ones_own_of_the_same_name_is_another_model(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", 0.1, as_=OWNER)
    share(app, "m", READER, permissions=PERMISSIONS, as_=OWNER)
    assert save(app, "m", 0.9, as_=READER).created
    assert [(row.owner_key, row.mse) for row in call(app, "load_progress", as_=READER)] == [(READER, 0.9), (OWNER, 0.1)]
    save(app, "m", 0.8, as_=READER)
    save(app, "m", 0.2, owner=OWNER, as_=READER)
    assert [row.mse for row in call(app, "load_history", model_name="m", as_=READER)] == [0.8, 0.9]
    assert [row.mse for row in call(app, "load_history", model_name="m", owner=OWNER, as_=READER)] == [0.2, 0.1]
    assert [row.mse for row in call(app, "load_history", model_name="m", owner=READER, as_=READER)] == [0.8, 0.9]
    # without an owner, sharing, unsharing and deleting mean one's own
    share(app, "m", THIRD, as_=READER)
    assert received(app, THIRD) == [("m", READER, ["read"], 2)]
    assert value(app, "unshare_model", model_name="m", as_=READER) == 1
    assert value(app, "delete_progress", model_name="m", as_=READER) is True
    assert value(app, "delete_progress", model_name="m", as_=READER) is False
    assert received(app, READER) == [("m", OWNER, list(PERMISSIONS), 2)]


def test_promoting_copies_no_shared_model(database: Database) -> None:
    app = database.connect("app")
    save(app, "theirs", as_=BETA.replace("beta", "acme").replace("c1", "other"))
    share(app, "theirs", OWNER, READER, permissions=PERMISSIONS, as_=key(code="other"))
    save(app, "mine", as_=OWNER)
    rows = call(app, "promote_progress", from_code_hash="owner", as_=READER)
    assert [row.model_name for row in rows] == ["mine"]
    assert names(app, scope="own", as_=READER) == ["mine"]
    with unchanged(database), refused("TN101"):
        call(app, "promote_progress", from_code_hash="owner", model_name="theirs", as_=READER)


def test_deleting_a_model_ends_its_grants_for_good(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    share(app, "m", READER, key(code="*"), permissions=PERMISSIONS, as_=OWNER)
    share(app, "m", THIRD, permissions=PERMISSIONS, owner=OWNER, as_=READER)
    value(app, "delete_progress", model_name="m", as_=OWNER)
    assert grants(app, "list_shares", OWNER) == grants(app, "list_shares", READER) == set()
    for tenant in (READER, THIRD):
        assert_nothing(app, tenant)
    save(app, "m", as_=OWNER)
    for tenant in (READER, THIRD):
        assert_nothing(app, tenant)


def test_after_a_deletion_by_hand_no_grant_leads_anywhere(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    share(app, "m", READER, permissions=PERMISSIONS, as_=OWNER)
    database.connect().execute("delete from ai_storage_private.ai_progress_tenant")
    for _ in range(2):
        assert received(app, READER) == []
        with refused("TN101"):
            save(app, "m", owner=OWNER, as_=READER)
        save(app, "m", as_=OWNER)
    assert count_grants(database) == 0
    assert_nothing(app, READER)


def test_the_reporting_view_shows_own_models_only(database: Database) -> None:
    app, reporter = database.connect("app"), database.connect("reporter")
    save(app, "theirs", as_=OWNER)
    save(app, "mine", as_=READER)
    share(app, "theirs", READER, permissions=PERMISSIONS, as_=OWNER)
    with reporter.transaction():
        call(reporter, "set_tenant", credential=READER)
        query = "select model_name from ai_storage.ai_progress_tenant"
        assert reporter.execute(query).fetchall() == [("mine",)]
        assert names(reporter) == ["mine", "theirs"]
        assert reporter.execute(query).fetchall() == [("mine",)]
        assert len(versions(reporter, "theirs", owner=OWNER)) == 1
        assert save(reporter, "theirs", owner=OWNER).version == 2
        assert reporter.execute(query).fetchall() == [("mine",)]
        assert names(reporter, scope="own") == ["mine"]


# What nobody learns ---------------------------------------------------------------------------------------------------


def test_there_is_no_telling_a_hidden_model_from_none(database: Database) -> None:
    app = database.connect("app")
    canary = "canary7731"
    for name in ("hidden", "lent to another", "was shared", "ended", "deleted", "execute only"):
        save(app, name, 0.77317731, metadata={"note": canary}, as_=OWNER)
    share(app, "lent to another", THIRD, permissions=PERMISSIONS, as_=OWNER)
    for name in ("was shared", "ended", "deleted"):
        grant = share(app, name, READER, permissions=PERMISSIONS, as_=OWNER)
    end(database, *grants(app, "list_received_shares", READER))
    value(app, "revoke_share", share_id=grant, as_=OWNER)
    value(app, "unshare_model", model_name="was shared", as_=OWNER)
    value(app, "delete_progress", model_name="deleted", as_=OWNER)
    save(app, "own of the third", as_=THIRD)
    asked = [
        *((name, OWNER) for name in ("no such model", "hidden", "lent to another", "was shared", "ended", "deleted")),
        ("hidden", key(code="nobody")), ("own of the third", THIRD), ("hidden", "junk"), ("hidden", ""),
    ]  # fmt: skip
    said: dict[str, set[str]] = {}
    with unchanged(database, "audit_pending"):
        for name, owner in asked:
            attempts: list[tuple[str, dict[str, Any]]] = [
                ("load_history", {}),
                ("save_progress", {"mse": 1}),
                ("save_progress", {"mse": 1, "expected_version": 1}),
                ("save_progress", {"mse": 1, "idempotency_key": "k"}),
                ("share_model", {"targets": [to(FOURTH)]}),
                ("share_model", {"targets": [to(FOURTH)], "version": 1}),
            ]
            for number, (function, arguments) in enumerate(attempts):
                with refused("TN101") as caught:
                    call(app, function, model_name=name, owner=owner, as_=READER, **arguments)
                said.setdefault(f"{function} {number}", set()).add(everything_said(caught.value))
                assert owner == "" or owner not in everything_said(caught.value)
            with refused("TN101") as caught:
                item = {"model_name": name, "mse": 1, "owner": owner}
                call(app, "save_progress_batch", items=[item], as_=READER)
            said.setdefault("batch", set()).add(everything_said(caught.value))
            assert held(app, READER, owner, name) == []
            assert call(app, "load_progress", model_name=name, as_=READER) == []
            assert value(app, "unshare_model", model_name=name, owner=owner, as_=READER) == 0
        for grant in [*grants(app, "list_shares", OWNER), uuid4()]:
            assert value(app, "revoke_share", share_id=grant, as_=READER) is False
        # a grant that does not cover the use answers as none
        share_id = share(app, "execute only", READER, permissions=("execute",), as_=OWNER)
        for number, function in ((0, "load_history"), (1, "save_progress")):
            with refused("TN101") as caught:
                more = {"mse": 1} if number else {}
                call(app, function, model_name="execute only", owner=OWNER, as_=READER, **more)
            said[f"{function} {number}"].add(everything_said(caught.value))
        value(app, "revoke_share", share_id=share_id, as_=OWNER)
    assert {what: len(answers) for what, answers in said.items()} == dict.fromkeys(said, 1)
    assert canary not in str(said)
    assert "7731" not in str(said)


def test_errors_and_answers_hold_nothing_of_models_not_shared(database: Database) -> None:
    app = database.connect("app")
    canary = "canary7732"
    save(app, "m", 0.5, as_=OWNER)
    save(app, f"{canary} name", 0.77327732, metrics={canary: 1}, metadata={canary: canary}, as_=OWNER)
    share(app, "m", READER, permissions=("read", "share", "write"), as_=OWNER)
    tenant = key(code=canary)
    share(app, "m", tenant, permissions=("write",), as_=OWNER)
    save(app, "m", owner=OWNER, as_=tenant)
    heard: list[str] = [
        str(call(app, function, as_=READER)) for function in ("load_progress", "list_shares", "list_received_shares")
    ]
    heard.append(str(call(app, "load_history", model_name="m", owner=OWNER, as_=READER)))
    for sqlstate, function, arguments in (
        ("TN102", "save_progress", {"mse": 1, "expected_version": 9}),
        ("22023", "save_progress", {"mse": None}),
        ("TN303", "share_model", {"targets": [to(FOURTH)], "permissions": "{execute}"}),
        ("TN304", "share_model", {"targets": [to(FOURTH)], "version": 99}),
        ("TN302", "share_model", {"targets": [to(BETA)]}),
    ):
        with refused(sqlstate) as caught:
            call(app, function, model_name="m", owner=OWNER, as_=READER, **arguments)
        heard.append(everything_said(caught.value))
    assert canary not in str(heard)
    assert "7732" not in str(heard)


def test_who_saved_a_version_stays_between_the_owner_and_the_saver(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    share(app, "m", READER, THIRD, permissions=("read", "write"), as_=OWNER)
    save(app, "m", owner=OWNER, as_=READER)
    save(app, "m", owner=OWNER, as_=THIRD)
    seen = {
        tenant: [
            row.saved_by
            for row in call(app, "load_history", model_name="m", as_=tenant, owner=None if tenant == OWNER else OWNER)
        ]
        for tenant in (OWNER, READER, THIRD)
    }
    assert seen == {
        OWNER: [THIRD, READER, OWNER],
        READER: [None, READER, OWNER],
        THIRD: [THIRD, None, OWNER],
    }


def test_logins_share_and_receive_only_for_their_own_tenants(database: Database) -> None:
    app, acme, beta = (database.connect(login) for login in ("app", "acme_app", "beta_app"))
    allow(database, "acme", "beta")
    save(app, "m", as_=OWNER)
    grant = share(acme, "m", BETA, permissions=("read", "write"), as_=OWNER)
    assert received(beta, BETA) == [("m", OWNER, ["read", "write"], 1)]
    # what was lent once in a transaction gives the login no other tenant, and no other model
    with beta.transaction():
        call(beta, "set_tenant", credential=BETA)
        assert save(beta, "m", owner=OWNER).version == 2
        with refused("TN003"), beta.transaction():
            names(beta, as_=OWNER)
        assert names(beta) == ["m"]
    with unchanged(database):
        for function, arguments in (
            ("revoke_share", {"share_id": grant}),
            ("decline_share", {"share_id": grant}),
            ("unshare_model", {"model_name": "m"}),
            ("list_shares", {}),
            ("list_received_shares", {}),
            ("has_permission", {"owner": None, "model_name": "m", "permission": "read"}),
            ("share_model", {"model_name": "m", "targets": [to(READER)]}),
        ):
            with refused("TN003"):
                call(beta, function, as_=OWNER, **arguments)
            with refused("TN001"):
                call(beta, function, **arguments)


# The wall behind the functions ----------------------------------------------------------------------------------------

NOTHING = ", ".join(
    f"null::{kind}"
    for kind in ("text", "boolean", "text[]", "double precision", "bigint", "jsonb", "jsonb", "bigint", "timestamptz",
                 "timestamptz", "text")
)  # fmt: skip


def replace_body(database: Database, function: str, body: str) -> None:
    """Give a function another body; its owner, rights and settings stay."""
    admin = database.connect()
    (text,) = admin.execute("select pg_get_functiondef(%s::regproc)", (function,)).fetchone()
    head, rest = re.split(r"(?<=AS )\$function\$", text)[:1][0], None
    assert rest is None
    admin.execute(sql.SQL("{} $body$ {} $body$").format(sql.SQL(head), sql.SQL(body)))


@pytest.mark.parametrize("table", ["ai_progress_tenant", "progress_version", "model_share"])
def test_without_its_where_load_progress_still_shows_no_other_tenants_rows(database: Database, table: str) -> None:
    app = database.connect("app")
    for tenant in (OWNER, READER, THIRD):
        save(app, "m", metadata={"of": tenant}, as_=tenant)
    share(app, "m", READER, key(code="*"), permissions=PERMISSIONS, as_=OWNER)
    share(app, "m", FOURTH, as_=READER)
    replace_body(
        database,
        "ai_storage.load_progress",
        "begin perform ai_storage_private.enter(p_as); "
        f"return query select to_jsonb(t)::text, {NOTHING} from ai_storage_private.{table} as t; end",
    )
    admin = database.connect()
    ids = dict(admin.execute("select isolation_key, tenant_id from ai_storage_private.tenant").fetchall())
    for tenant, count in ((OWNER, 2), (READER, 1), (THIRD, 0)):
        rows = [json.loads(row.model_name) for row in call(app, "load_progress", as_=tenant)]
        assert {row["tenant_id"] for row in rows} <= {ids[tenant]}
        assert len(rows) == (count if table == "model_share" else 1)
    assert call(app, "load_progress", as_=key(code="never-registered")) == []


def test_a_sharing_function_sees_only_what_it_lent_itself_in_this_transaction(database: Database) -> None:
    app = database.connect("app")
    for name in ("lent", "shared too", "hidden"):
        save(app, name, as_=OWNER)
        save(app, name, as_=THIRD)
    save(app, "own", as_=READER)
    for name in ("lent", "shared too"):
        share(app, name, READER, permissions=PERMISSIONS, as_=OWNER)
    lend = (
        "perform ai_storage_private.lend(array[s.tenant_id], array[s.model_id]) "
        "from ai_storage_private.model_share as s where s.model_name = 'lent'; "
    )
    models = f"return query select p.model_name, {NOTHING} from ai_storage_private.ai_progress_tenant as p; "
    kept = (
        f"return query select v.metadata::text || v.model_id, {NOTHING} from ai_storage_private.progress_version as v; "
    )
    shown = f"return query select current_setting('app.tenant_context'), {NOTHING}; "

    def shared_rows() -> list[str]:
        with app.transaction():
            return names(app, scope="shared", as_=READER)

    for table in (models, kept):
        replace_body(database, "ai_storage_private.load_shared", f"begin {table} end")
        assert shared_rows() == []
    replace_body(database, "ai_storage_private.load_shared", f"begin {lend} {models} end")
    assert shared_rows() == ["lent"]
    replace_body(database, "ai_storage_private.load_shared", f"begin {lend} {kept} end")
    assert len(shared_rows()) == 1
    # A context of that kind, stolen or written by hand, is nothing in the next transaction.
    replace_body(database, "ai_storage_private.load_shared", f"begin {lend} {shown} end")
    (stolen,) = shared_rows()
    assert "|lent|" in stolen
    replace_body(database, "ai_storage_private.load_shared", f"begin {models} {kept} end")
    admin = database.connect()
    owner_id, model_id = admin.execute(
        "select tenant_id, model_id from ai_storage_private.model_share where model_name = 'lent'"
    ).fetchone()
    forged = f"lent|{owner_id}|{READER}||key|{app.info.backend_pid}|1|{owner_id}|{model_id}"
    for context in (stolen, f"{'0' * 64}|{forged}", f"{stolen[:64]}|{forged}", "lent"):
        with app.transaction():
            app.execute("select set_config('app.tenant_context', %s, true)", (context,))
            with refused("TN001"), app.transaction():
                names(app, scope="shared")
            assert names(app, scope="shared", as_=READER) == []
            assert names(app, scope="own", as_=READER) == ["own"]
        with admin.transaction():
            admin.execute("set local role ai_storage_sharing")
            admin.execute("select set_config('app.tenant_context', %s, true)", (context,))
            for table in ("ai_progress_tenant", "progress_version"):
                assert admin.execute(f"select * from ai_storage_private.{table}").fetchall() == []


def test_a_genuine_context_turned_into_a_lent_one_is_not_believed(database: Database) -> None:
    app = database.connect("app")
    save(app, "hidden", as_=OWNER)
    save(app, "own", as_=READER)
    owner_id, model_id = (
        database.connect()
        .execute("select tenant_id, model_id from ai_storage_private.ai_progress_tenant where model_name = 'hidden'")
        .fetchone()
    )
    replace_body(
        database,
        "ai_storage_private.may_receive",
        "begin return true; end",
    )
    replace_body(
        database,
        "ai_storage_private.load_shared",
        f"begin return query select p.model_name, {NOTHING} from ai_storage_private.ai_progress_tenant as p; end",
    )
    with app.transaction():
        call(app, "set_tenant", credential=READER)
        (genuine,) = app.execute("select current_setting('app.tenant_context')").fetchone()
        for forged in (
            genuine.replace("|transaction|", "|lent|") + f"|{owner_id}|{model_id}",
            genuine + f"|{owner_id}|{model_id}",
        ):
            with refused("TN001"), app.transaction():
                app.execute("select set_config('app.tenant_context', %s, true)", (forged,))
                names(app, scope="shared")
        assert names(app) == ["own"]


def test_the_helpers_of_sharing_are_out_of_an_applications_reach(database: Database) -> None:
    app = database.connect("app")
    for query in (
        "select ai_storage_private.lend(array[1::bigint], array[gen_random_uuid()])",
        "select ai_storage_private.may_receive('acme')",
        "select ai_storage_private.lent_ids()",
        "select * from ai_storage_private.model_share",
        "select * from ai_storage_private.external_sharing_permit",
        "delete from ai_storage_private.model_share",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(query)


# Plans ----------------------------------------------------------------------------------------------------------------


def test_a_shared_load_reads_one_model_of_an_owner_who_has_thousands(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    save(app, "m", as_=OWNER)
    save(app, "own", as_=READER)
    share(app, "m", READER, as_=OWNER)
    admin.execute(
        "insert into ai_storage_private.ai_progress_tenant (tenant_id, model_id, version, mse, created_at, updated_at, "
        "model_name, metrics, metadata) "
        "select p.tenant_id, gen_random_uuid(), 1, 1, now(), now(), 'x' || n, '{}', '{}' "
        "from ai_storage_private.ai_progress_tenant as p, generate_series(1, 5000) as n where p.model_name = 'm'"
    )
    admin.execute(
        "insert into ai_storage_private.model_share (tenant_id, share_id, model_id, sharer_id, created_at, model_name, "
        "owner_key, sharer_key, target, permissions, ancestors, sharer_ids, permit_ids) "
        "select p.tenant_id, gen_random_uuid(), p.model_id, s.sharer_id, now(), p.model_name, s.owner_key, "
        "s.sharer_key, s.target, s.permissions, s.ancestors, s.sharer_ids, s.permit_ids "
        "from ai_storage_private.ai_progress_tenant as p, ai_storage_private.model_share as s "
        "where p.model_name like 'x%'"
    )
    admin.execute("analyze")

    def rows_read() -> int:
        (read,) = app.execute(
            "select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_xact_all_tables "
            "where relname in ('ai_progress_tenant', 'model_share')"
        ).fetchone()
        return read

    for _ in range(7):  # beyond the change to a generic plan
        with app.transaction():
            before = rows_read()
            assert [row[0] for row in call(app, "load_progress", model_name="x777", scope="shared", as_=READER)] == [
                "x777"
            ]
            assert rows_read() - before < 200


def test_thousands_of_grants_are_reached_by_index_alone(database: Database) -> None:
    if database.server.major == 15:
        pytest.skip(
            "15 cannot use the index's order for a distinct of more columns, and reads every grant of the reader"
        )
    app, admin = database.connect("app"), database.connect()
    for number in range(20):
        save(app, "m", as_=key(code=f"donor{number}"))
        save(app, f"own {number:02}", as_=READER)
    admin.execute(
        "insert into ai_storage_private.ai_progress_tenant (tenant_id, model_id, version, mse, training_samples, "
        "created_at, updated_at, model_name, metrics, metadata) "
        "select t.tenant_id, gen_random_uuid(), 1, 1, null, now(), now(), format('shared %s', n), '{}', '{}' "
        "from ai_storage_private.tenant as t, generate_series(1, 1000) as n where t.code_hash like 'donor%'"
    )
    # Enough of everything, so that a scan is never the better plan.
    admin.execute(
        "insert into ai_storage_private.progress_version (tenant_id, model_id, version, mse, saved_at, metrics, "
        "metadata) select p.tenant_id, p.model_id, 1, 1, now(), '{}', '{}' from ai_storage_private.ai_progress_tenant "
        "as p where p.model_name like 'shared%'"
    )
    # the reader's own grants, and the same for others
    admin.execute(
        "insert into ai_storage_private.model_share (tenant_id, share_id, model_id, sharer_id, created_at, model_name, "
        "owner_key, sharer_key, target, permissions, ancestors, sharer_ids, permit_ids) "
        "select p.tenant_id, gen_random_uuid(), p.model_id, p.tenant_id, now(), p.model_name, t.isolation_key, "
        "t.isolation_key, 'acme:s1:p1:production:' || r.code, '{read}', '{}', array[p.tenant_id], '{}' "
        "from ai_storage_private.ai_progress_tenant as p join ai_storage_private.tenant as t using (tenant_id), "
        "unnest(array['reader', 'x', '*']) as r (code) where p.model_name like 'shared%' "
        "and (r.code <> '*' or p.model_name = 'shared 7')"
    )
    # Of all rows, so that the plans are the same each time.
    admin.execute("set default_statistics_target = 10000")
    admin.execute("analyze")
    plans: list[str] = []
    watched = database.connect()
    watched.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    watched.execute("load 'auto_explain'")
    for setting, text in {
        "log_min_duration": "0", "log_nested_statements": "on", "log_level": "notice", "log_analyze": "on",
        "log_timing": "off",
    }.items():  # fmt: skip
        watched.execute(f"set auto_explain.{setting} = '{text}'")
    watched.execute("set session authorization app")
    for arguments, count in (
        ({"scope": "shared", "limit": 20}, 20),
        ({"limit": 20}, 20),
        ({"limit": 30}, 30),
        ({"model_name": "shared 7", "scope": "shared"}, 20),
        ({"model_name": "shared 7", "owner": key(code="donor3")}, 1),
        ({"model_name": "own 07"}, 1),
        ({"scope": "shared", "limit": 20, "after": f"{key(code='donor3')} shared 55"}, 20),
    ):
        for _ in range(7):  # beyond the change to a generic plan
            plans.clear()
            assert len(call(watched, "load_progress", as_=READER, **arguments)) == count
            text = "\n".join(plans)
            # own models fill a page of 20, and a name means an own model: then nobody looks further
            looks = arguments not in ({"limit": 20}, {"model_name": "own 07"})
            assert ("model_share_" in text) == looks, arguments
            # The registries are a few rows: a scan of them is right. A scan that asks whether there is any grant at
            # all ends with the first row. 16 takes a list of 20 models and one of 32 patterns for 640 searches, and
            # rather reads the grants while they are few; never the models.
            for plan in plans:
                scanned = re.findall(r"Seq Scan on (?:ai_storage_private\.)?(\w+)", plan)
                assert not {"ai_progress_tenant", "progress_version"} & set(scanned), (arguments, plan)
                if database.server.major > 16:
                    assert "model_share" not in scanned or "Rows Removed" not in plan, (arguments, plan)
            for rows, loops in re.findall(r"actual rows=([\d.]+) loops=(\d+)", text):
                assert float(rows) * int(loops) < 500, (arguments, text)
            for table, removed in re.findall(
                r"on (\w+) \w+ .*\n(?:.*(?:Cond|Filter): .*\n)*.*Rows Removed by Filter: (\d+)", text
            ):
                assert table == "model_share" or int(removed) < 500, (arguments, text)


def test_an_end_that_no_client_can_read_is_refused(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=OWNER)
    for end_ in ("infinity", "10000-01-01"):
        with refused("22023"):
            app.execute(
                "select * from ai_storage.share_model('m', '[{\"code_hash\": \"x\"}]', p_expires_at => %s, p_as => %s)",
                (end_, OWNER),
            )


def test_a_pinned_version_that_is_gone_hides_no_other_model(database: Database) -> None:
    app = database.connect("app")
    for name in ("a", "b"):
        save(app, name, as_=OWNER)
        save(app, name, as_=OWNER)
    share(app, "a", READER, version=1, as_=OWNER)
    share(app, "b", READER, as_=OWNER)
    database.connect().execute(
        "delete from ai_storage_private.progress_version as v using ai_storage_private.ai_progress_tenant as p "
        "where v.tenant_id = p.tenant_id and v.model_id = p.model_id and p.model_name = 'a' and v.version = 1"
    )
    assert names(app, as_=READER) == ["b"]
    assert names(app, limit=1, as_=READER) == ["b"]


def test_a_grant_that_crosses_the_same_border_twice_rests_on_one_permit(database: Database) -> None:
    app = database.connect("app")
    allow(database, "acme", "beta")
    allow(database, "beta", "acme")
    save(app, "m", as_=OWNER)
    line = [OWNER, BETA, READER, key("beta", code="c2")]
    for giver, taker in pairwise(line):
        share(app, "m", taker, permissions=("read", "share"), owner=OWNER, as_=giver)
    assert received(app, line[-1]) == [("m", OWNER, ["read", "share"], 1)]


def test_forbidding_ends_what_came_home(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    allow(database, "acme", "beta")
    allow(database, "beta", "acme")
    save(app, "m", as_=OWNER)
    call(app, "share_model", model_name="m", targets=[{"org_id": "beta"}], permissions="{read,share}", as_=OWNER)
    home = key(code="home")
    targets = [{"org_id": "acme", "code_hash": "home"}]
    call(app, "share_model", model_name="m", targets=targets, owner=OWNER, as_=key(org="beta", code="owner"))
    assert names(app, as_=home) == ["m"]
    value(admin, "forbid_external_sharing", org_id="beta")
    assert names(app, as_=home) == []
    assert names(app, as_=key(org="beta", code="owner")) == ["m"]


def test_sharing_outside_is_worth_nothing_once_it_is_forbidden_however_late_it_commits(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    allow(database, "acme", "beta")
    save(app, "m", as_=OWNER)
    with app.transaction():
        call(app, "share_model", model_name="m", targets=[{"org_id": "beta"}], as_=OWNER)
        value(admin, "forbid_external_sharing", org_id="acme")
    allow(database, "acme", "beta")
    assert names(app, as_=key(org="beta", code="owner")) == []
    assert call(app, "list_received_shares", as_=key(org="beta", code="owner")) == []


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_shared_model_is_not_written_from_an_old_snapshot(database: Database, level: str) -> None:
    owner, writer = database.connect("app"), database.connect("app")
    save(owner, "m", as_=OWNER)
    share(owner, "m", READER, permissions=("read", "write"), as_=OWNER)
    writer.execute(f"begin isolation level {level}; select 1")
    value(owner, "unshare_model", model_name="m", as_=OWNER)
    with refused("25000"):
        save(writer, "m", owner=OWNER, as_=READER)
    writer.execute("rollback")
