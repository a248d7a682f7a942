"""Random sequences of saving, sharing and taking back, compared after every step with a model of the rules in Python.

Few long walks, each from a state with many grants. Some passing on is committed late: after the grant it rests on was
ended or narrowed. PYDB_MODEL_STEPS=10000 runs about that many steps instead of the usual number.

A walk is the same each time that the same tests are collected: hypothesis also draws numbers it finds in the modules
that are loaded, so that this file alone walks differently from the whole suite.
"""

from __future__ import annotations

import itertools
import math
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from psycopg.types.json import Jsonb

from tests.conftest import Database
from tests.helpers import Connection, call

pytestmark = pytest.mark.sql

STEPS = int(os.environ.get("PYDB_MODEL_STEPS", "1500"))
STEPS_PER_EXAMPLE = 200

PERMISSIONS = ("execute", "read", "share", "write")
ALL = frozenset(PERMISSIONS)
LEVELS = ("org_id", "server_id", "project_id", "environment", "code_hash")
MODELS = ("m", "n")
# The last one never saves and never shares: it stays out of the registry.
TENANTS = (
    "acme:s1:p:e:c1",
    "acme:s1:p:e:c2",
    "acme:s2:p:e:c1",
    "beta:s1:p:e:c1",
    "beta:s2:p:e:c2",
    "acme:s2:p:e:c2",
)
ACTIVE = TENANTS[:-1]
# Each tenant as it is, and with every combination of * for its levels.
PATTERNS = sorted(
    {
        ":".join("*" if wild else level for wild, level in zip(mask, tenant.split(":"), strict=True))
        for tenant in TENANTS
        for mask in itertools.product((False, True), repeat=5)
    }
)
TARGETS = st.one_of(st.sampled_from(TENANTS), st.sampled_from(PATTERNS))
# What a step does, and how often.
DEEDS = {
    "rest": 1,  # the first, which hypothesis takes at every step of its first example
    "pass_on_late": 3,
    "pass_on": 6,
    "share_own": 5,
    "share_again": 4,
    "save_own": 2,
    "save_shared": 2,
    "revoke": 1,
    "unshare": 1,
    "delete": 1,
    "decline": 1,
    "wait": 1,
    "allow": 2,
    "forbid": 1,
}
ORGS = ("acme", "beta")
DEPTH = 8
HOURS = (None, None, None, 1, 2, 3)
START = datetime(2100, 1, 1, tzinfo=UTC)


# What every run has to have come across, by its counts.
SIGHTS = (
    "passed on",
    "passed on twice",
    "pinned",
    "back to a giver",
    "expired",
    "orphan",
    "permit gone",
    "reached by a star",
    "kept",
    "declined",
    "declined in the line",
    "late",
    "revoked",
)


def org(key: str) -> str:
    return key.split(":", 1)[0]


def covers(pattern: str, tenant: str) -> bool:
    return all(mine in ("*", theirs) for mine, theirs in zip(pattern.split(":"), tenant.split(":"), strict=True))


@dataclass(frozen=True)
class Grant:
    """One row of model_share. ends: in hours of the fake clock. permits: the numbers of those it rests on."""

    share_id: UUID
    model: int
    name: str
    owner: str
    sharer: str
    target: str
    permissions: frozenset[str]
    pin: int | None
    ends: float
    line: tuple[UUID, ...]
    sharers: tuple[str, ...]
    permits: frozenset[int]


@dataclass
class Model:
    version: int
    first: int
    number: int


class Refusal(Exception):
    """The reference refuses. args: the SQLSTATE."""


class Reference:
    """The documented rules, in memory and without a thought for speed."""

    def __init__(self) -> None:
        self.hour = 0.0
        self.frozen: list[Grant] | None = None  # what all grants are worth, while nothing changes
        self.models: dict[tuple[str, str], Model] = {}
        self.last: dict[tuple[str, str], int] = {}
        self.grants: dict[UUID, Grant] = {}  # the rows
        self.ended: set[UUID] = set()  # by somebody above their sharer
        self.permits: dict[tuple[str, str], int] = {}
        self.declines: set[tuple[str, str, str, str]] = set()  # receiver, owner, name, sharer
        self.numbers = itertools.count()

    # Reading

    def permitted(self, giver: str, taker: str) -> bool:
        return org(giver) == org(taker) or (org(giver), org(taker)) in self.permits

    def stands(self, grant: Grant) -> bool:
        """Whether a grant counts for anybody: all its line is there, and nobody in it declined."""
        line = [self.grants.get(share_id) for share_id in (*grant.line, grant.share_id)]
        return (
            all(one is not None and one.share_id not in self.ended and one.ends > self.hour for one in line)
            and grant.permits <= set(self.permits.values())
            and not any(
                (taker, grant.owner, grant.name, giver) in self.declines
                for giver, taker in itertools.pairwise(grant.sharers)
            )
        )

    def standing(self) -> list[Grant]:
        if self.frozen is not None:
            return self.frozen
        return [grant for grant in self.grants.values() if self.stands(grant)]

    def offered(self, tenant: str) -> list[Grant]:
        """The grants that reach a tenant, declined ones too."""
        return [
            grant
            for grant in self.standing()
            if grant.owner != tenant and covers(grant.target, tenant) and self.permitted(grant.sharer, tenant)
        ]

    def declined(self, tenant: str, grant: Grant) -> bool:
        return (tenant, grant.owner, grant.name, grant.sharer) in self.declines

    def reach(self, tenant: str) -> list[Grant]:
        """The grants that count for a tenant."""
        return [grant for grant in self.offered(tenant) if not self.declined(tenant, grant)]

    def on(self, tenant: str, owner: str, name: str) -> list[Grant]:
        return [grant for grant in self.reach(tenant) if (grant.owner, grant.name) == (owner, name)]

    def permissions(self, tenant: str, owner: str, name: str) -> list[str]:
        if tenant == owner:
            return list(PERMISSIONS) if (owner, name) in self.models else []
        return sorted({permission for grant in self.on(tenant, owner, name) for permission in grant.permissions})

    def shows(self, tenant: str, owner: str, name: str) -> int | None:
        """The version a tenant sees, or None."""
        pins = [grant.pin for grant in self.on(tenant, owner, name) if "read" in grant.permissions]
        if not pins:
            return None
        return self.models[owner, name].version if None in pins else max(pin for pin in pins if pin is not None)

    def progress(self, tenant: str) -> list[tuple[str, str, bool, list[str], int]]:
        own = [
            (name, owner, False, ["read", "execute", "write", "share"], model.version)
            for (owner, name), model in self.models.items()
            if owner == tenant
        ]
        others = [
            (name, owner, True, self.permissions(tenant, owner, name), version)
            for owner, name in self.models
            if owner != tenant and (version := self.shows(tenant, owner, name)) is not None
        ]
        return sorted(own) + sorted(others, key=lambda row: (row[1], row[0]))

    def given(self, tenant: str) -> list[Grant]:
        return [grant for grant in self.standing() if tenant in grant.sharers]

    def state(self, grant: Grant) -> str:
        """What a sharer is told of a grant."""
        by = {one[0] for one in self.declines if one[1:] == (grant.owner, grant.name, grant.sharer)}
        if grant.target in by:
            return "declined"
        return "partly declined" if any(covers(grant.target, one) for one in by) else "active"

    # Writing

    def save(self, tenant: str, owner: str, name: str) -> int:
        if tenant != owner and "write" not in self.permissions(tenant, owner, name):
            raise Refusal("TN101")
        if (owner, name) not in self.models:
            first = self.last.get((owner, name), 0) + 1
            self.models[owner, name] = Model(first - 1, first, next(self.numbers))
        self.models[owner, name].version += 1
        return self.models[owner, name].version

    def delete(self, tenant: str, name: str) -> bool:
        model = self.models.pop((tenant, name), None)
        if model is None:
            return False
        self.last[tenant, name] = model.version
        self.grants = {
            share_id: grant
            for share_id, grant in self.grants.items()
            if grant.sharer != tenant or grant.model != model.number
        }
        return True

    def hold(
        self, tenant: str, owner: str, name: str, permissions: frozenset[str], ends: float | None, pin: int | None
    ) -> Grant | None:
        """The grant that is passed on, or None for an own model."""
        if tenant == owner:
            if (owner, name) not in self.models:
                raise Refusal("TN101")
            held = None
        else:
            fitting = [
                grant
                for grant in self.on(tenant, owner, name)
                if grant.permissions >= permissions | {"share"}
                and tenant not in grant.sharers
                and (ends is None or ends <= grant.ends)
                and (pin is None or grant.pin in (None, pin))
            ]
            if not fitting:
                raise Refusal("TN303" if self.on(tenant, owner, name) else "TN101")
            # one that can be passed on, the longest, the least pinned, the nearest to the owner
            held = min(
                fitting,
                key=lambda grant: (
                    len(grant.line) == DEPTH,
                    -grant.ends,
                    -(math.inf if grant.pin is None else grant.pin),
                    len(grant.line),
                    grant.share_id,
                ),
            )
            if len(held.line) == DEPTH:
                raise Refusal("TN306")
        model = self.models[owner, name]
        if pin is not None and not model.first <= pin <= model.version:
            raise Refusal("TN304")
        return held

    def check_share(
        self,
        tenant: str,
        owner: str,
        name: str,
        target: str,
        permissions: frozenset[str],
        ends: float | None,
        pin: int | None,
    ) -> Grant | None:
        if pin is not None and "write" in permissions:
            raise Refusal("22023")
        if target in (tenant, owner):
            raise Refusal("TN301")
        if not self.permitted(tenant, target) and not (
            org(target) == "*" and any(giver == org(tenant) for giver, _ in self.permits)
        ):
            raise Refusal("TN302")
        return self.hold(tenant, owner, name, permissions, ends, pin)

    def same(self, grant: Grant) -> Grant | None:
        """The grant that is there already and says the same."""
        for one in self.grants.values():
            if replace(one, share_id=grant.share_id) == grant and self.stands(one):
                return one
        return None

    def write_share(self, grant: Grant) -> None:
        """Enter a grant, and delete those of its sharer on the model that it replaces or that do not count."""
        self.grants = {
            share_id: one
            for share_id, one in self.grants.items()
            if (one.sharer, one.model) != (grant.sharer, grant.model)
            or (one.target != grant.target and self.stands(one))
        }
        self.grants[grant.share_id] = grant

    def count_line(self, share_ids: set[UUID]) -> int:
        return sum(one.share_id in share_ids or bool(share_ids & set(one.line)) for one in self.standing())


class Sharing(RuleBasedStateMachine):
    """Each rule does one thing in the database and in the reference, and compares the two answers."""

    app: ClassVar[Connection]
    late: ClassVar[Connection]
    admin: ClassVar[Connection]
    seen: ClassVar[Counter[str]] = Counter()
    steps: ClassVar[int] = 0
    refusals: ClassVar[int] = 0
    rows: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.ours = Reference()
        self.rested = False
        self.compared = 0

    @initialize(seed=st.integers(0, 2**32))
    def populate(self, seed: int) -> None:
        """Models of all, and grants passed on and on, since chance alone seldom gets so far."""
        self.admin.execute(
            "truncate ai_storage_private.ai_progress_tenant, ai_storage_private.progress_version, "
            "ai_storage_private.model_share, ai_storage_private.deleted_model, ai_storage_private.tenant, "
            "ai_storage_private.external_sharing_permit, ai_storage_private.share_end, ai_storage_private.share_decline"
        )
        self.admin.execute("alter sequence test_id restart")
        chance = random.Random(seed)
        for tenant in (*ACTIVE, *ACTIVE[:3]):
            self.save(tenant, "m")
        for pair in itertools.permutations(ORGS):
            self.allow_one(pair)
        for sharer, receiver in ((0, 1), (1, 2), (2, 1)):
            self.give(TENANTS[sharer], TENANTS[0], "m", TENANTS[receiver], ALL, None, None)
        # as deep as these tenants can
        line = chance.sample(ACTIVE, len(ACTIVE))
        for sharer, receiver in itertools.pairwise(line):
            self.give(sharer, line[0], "m", receiver, ALL, None, None)
        for _ in range(4):
            owner = chance.choice(ACTIVE)
            permissions = chance.choice((ALL, ALL, frozenset({"read", "share"})))
            pin = chance.choice((None, 1)) if permissions != ALL else None
            self.give(owner, owner, "m", chance.choice(PATTERNS), permissions, chance.choice(HOURS), pin)
        for _ in range(12):
            grant = chance.choice(list(self.ours.grants.values()))
            tenant = chance.choice([one for one in ACTIVE if covers(grant.target, one)] or ACTIVE)
            if tenant != grant.owner:
                target = chance.choice(chance.choice((TENANTS, PATTERNS)))
                self.give(tenant, grant.owner, grant.name, target, grant.permissions, None, None)

    def ask(self, function: str, connection: Connection | None = None, **arguments: Any) -> Any:
        """Call a function; an error answers with its SQLSTATE."""
        type(self).steps += 1
        try:
            return call(connection or self.app, function, **arguments)
        except psycopg.Error as error:
            type(self).refusals += 1
            return error.sqlstate

    def at(self, ends: float | None) -> datetime | None:
        """An hour of the fake clock as the database has it: far ahead, so that only the fake clock ends anything."""
        return None if ends is None or ends == math.inf else START + timedelta(hours=ends)

    # One rule, weighted: of several, hypothesis leaves out about half in each example.

    @rule(data=st.data(), deed=st.sampled_from([deed for deed, weight in DEEDS.items() for _ in range(weight)]))
    def act(self, data: st.DataObject, deed: str) -> None:
        self.rested = deed == "rest"
        if self.rested:
            return
        if deed in ("delete", "share_own") and not self.ours.models:
            return
        if deed in ("pass_on", "pass_on_late", "share_again", "revoke", "unshare") and not self.ours.grants:
            return
        self.seen[deed] += 1
        getattr(self, deed)(data)

    def save_own(self, data: st.DataObject) -> None:
        tenant = data.draw(st.sampled_from(ACTIVE))
        self.save(tenant, data.draw(st.sampled_from(MODELS)))

    def save(self, tenant: str, name: str) -> None:
        ((_, version, _, _),) = self.ask("save_progress", model_name=name, mse=1.0, as_=tenant)
        assert version == self.ours.save(tenant, tenant, name)

    def save_shared(self, data: st.DataObject) -> None:
        tenant = data.draw(st.sampled_from(ACTIVE))
        owner = data.draw(st.sampled_from(ACTIVE))
        name = data.draw(st.sampled_from(MODELS))
        answer = self.ask("save_progress", model_name=name, mse=1.0, owner=owner, as_=tenant)
        try:
            expected: int | str = self.ours.save(tenant, owner, name)
        except Refusal as refusal:
            expected = str(refusal)
        assert (answer if isinstance(answer, str) else answer[0].version) == expected

    def delete(self, data: st.DataObject) -> None:
        owner, name = data.draw(st.sampled_from(sorted(self.ours.models)))
        shared = any((grant.owner, grant.name) == (owner, name) for grant in self.ours.grants.values())
        if shared and data.draw(st.integers(0, 5)) < 5:
            return
        self.seen["deleted with grants"] += shared
        assert self.ask("delete_progress", model_name=name, as_=owner)[0][0] is self.ours.delete(owner, name)

    def give(
        self,
        tenant: str,
        owner: str,
        name: str,
        target: str,
        permissions: frozenset[str],
        hours: int | None,
        pin: int | None,
        meanwhile: Callable[[Grant], None] | None = None,
    ) -> None:
        """meanwhile: what happens before the grant is committed, unseen by each other."""
        with self.late.transaction() if meanwhile else nullcontext():
            grant = self.offer(tenant, owner, name, target, permissions, hours, pin, meanwhile is not None)
            if grant and meanwhile:
                meanwhile(grant)
        if grant:
            self.ours.write_share(grant)

    def offer(
        self,
        tenant: str,
        owner: str,
        name: str,
        target: str,
        permissions: frozenset[str],
        hours: int | None,
        pin: int | None,
        late: bool,
    ) -> Grant | None:
        """The grant that the database wrote, or None if both refuse."""
        ends = None if hours is None else self.ours.hour + hours
        arguments = {
            "model_name": name,
            "targets": [dict(zip(LEVELS, target.split(":"), strict=True))],
            "permissions": "{" + ",".join(permissions) + "}",
            "expires_at": self.at(ends),
            "version": pin,
            "owner": owner,
            "as_": tenant,
        }
        answer = self.ask("share_model", self.late if late else None, **arguments)
        held, expected = None, ""
        try:
            held = self.ours.check_share(tenant, owner, name, target, permissions, ends, pin)
        except Refusal as refusal:
            expected = str(refusal)
        assert (answer if isinstance(answer, str) else "") == expected
        if expected:
            return None
        ((share_id, answered),) = answer
        assert answered == target
        by = (held.sharer, tenant) if held and org(held.target) == "*" else (tenant, tenant)
        rests = [self.ours.permits.get((org(giver), org(taker))) for giver, taker in (by, (tenant, target))]
        grant = Grant(
            share_id,
            self.ours.models[owner, name].number,
            name,
            owner,
            tenant,
            target,
            permissions,
            held.pin if pin is None and held else pin,
            (held.ends if held else math.inf) if ends is None else ends,
            (*held.line, held.share_id) if held else (),
            (*(held.sharers if held else ()), tenant),
            (held.permits if held else frozenset()).union(one for one in rests if one is not None),
        )
        same = self.ours.same(grant)
        self.seen["kept"] += same is not None
        assert (share_id in self.ours.grants) == (same is not None)
        if same:
            assert share_id == same.share_id
            return None
        return grant

    def before(self, owner: str, name: str, sharer: str, target: str) -> UUID | None:
        """The id of the grant that the next one replaces."""
        asked = (owner, name, sharer, target)
        for grant in self.ours.grants.values():
            if (grant.owner, grant.name, grant.sharer, grant.target) == asked:
                return grant.share_id
        return None

    def share_own(self, data: st.DataObject) -> None:
        pattern = data.draw(TARGETS)
        permissions = data.draw(
            st.one_of(
                st.just(ALL),
                st.just(frozenset({"read", "share"})),
                st.frozensets(st.sampled_from(PERMISSIONS), min_size=1),
            )
        )
        hours = data.draw(st.sampled_from(HOURS))
        pin = data.draw(st.sampled_from((None, None, None, 1, 2, 3)))
        owner, name = data.draw(st.sampled_from(sorted(self.ours.models)))
        if pin is not None and data.draw(st.booleans()):
            permissions = permissions - {"write"} or frozenset({"read"})
        self.give(owner, owner, name, pattern, permissions, hours, pin)

    def pass_on_late(self, data: st.DataObject) -> None:
        self.pass_on(data, late=True)

    def pass_on(self, data: st.DataObject, late: bool = False) -> None:
        """Mostly what a receiver may pass on, sometimes a little more."""
        hours = None if late else data.draw(st.sampled_from(HOURS))
        held = [
            (grant, tenant)
            for grant in self.ours.standing()
            for tenant in ACTIVE
            if "share" in grant.permissions and covers(grant.target, tenant) and tenant not in grant.sharers
        ]
        if held and (late or data.draw(st.integers(0, 3))):
            grant, tenant = data.draw(st.sampled_from(held))
        else:
            grant = data.draw(st.sampled_from(list(self.ours.grants.values())))
            tenant = data.draw(st.sampled_from([one for one in ACTIVE if covers(grant.target, one)] or ACTIVE))
        pattern = data.draw(TARGETS.filter(lambda target: target not in (tenant, grant.owner)) if late else TARGETS)
        permissions, pin = grant.permissions, None
        if not late:
            permissions = data.draw(
                st.one_of(st.just(permissions), st.frozensets(st.sampled_from(PERMISSIONS), min_size=1))
            )
            pin = data.draw(st.sampled_from((None, grant.pin, 1, 2)))
        if tenant == grant.owner:
            return
        meanwhile = None
        # one that replaces another would make the others wait for it
        if late and self.before(grant.owner, grant.name, tenant, pattern) is None:
            deed = data.draw(st.sampled_from(("narrow", "narrow", "revoke", "forbid", "decline")))
            where = data.draw(st.integers(0, 3))
            less = data.draw(st.sampled_from((frozenset({"read", "share"}), frozenset({"execute", "share"}), ALL)))
            end = data.draw(st.sampled_from((None, 1)))
            only = data.draw(st.sampled_from((None, None, 1)))

            def meanwhile(given: Grant) -> None:
                place = where % len(given.line)
                under = self.ours.grants[given.line[place]]
                if deed == "decline":
                    self.seen["late"] += 1
                    self.decline_one(under, given.sharers[place + 1])
                else:
                    self.undercut(under, deed, less, end, only)

        self.give(tenant, grant.owner, grant.name, pattern, permissions, hours, pin, meanwhile)

    def undercut(
        self, grant: Grant, deed: str, permissions: frozenset[str], hours: int | None, pin: int | None
    ) -> None:
        """Take away from under what is passed on and not committed yet."""
        self.seen["late"] += 1
        if deed == "narrow":
            pin = None if "write" in permissions else pin
            self.give(grant.sharer, grant.owner, grant.name, grant.target, permissions, hours, pin)
        elif deed == "revoke":
            self.take_back(grant, grant.sharer)
        else:
            self.forbid_one(org(grant.sharer), None)

    def share_again(self, data: st.DataObject) -> None:
        """Narrow, widen or prolong a grant that is there."""
        grant = data.draw(st.sampled_from(list(self.ours.grants.values())))
        permissions = data.draw(
            st.one_of(st.just(grant.permissions), st.frozensets(st.sampled_from(PERMISSIONS), min_size=1))
        )
        hours = data.draw(st.sampled_from(HOURS))
        pin = data.draw(st.sampled_from((None, grant.pin, 1, 2)))
        self.give(grant.sharer, grant.owner, grant.name, grant.target, permissions, hours, pin)

    def revoke(self, data: st.DataObject) -> None:
        tenant = data.draw(st.sampled_from(TENANTS))
        rightly = data.draw(st.booleans())
        grant = data.draw(st.sampled_from(list(self.ours.grants.values())))
        if rightly:
            tenant = data.draw(st.sampled_from(grant.sharers))
        self.take_back(grant, tenant)

    def take_back(self, grant: Grant, tenant: str) -> None:
        answer = self.ask("revoke_share", share_id=grant.share_id, as_=tenant)
        if tenant == grant.sharer:
            expected = self.ours.grants.pop(grant.share_id, None) is not None
        else:
            expected = tenant in grant.sharers and self.ours.stands(grant)
            if expected:
                self.ours.ended.add(grant.share_id)
        assert answer[0][0] is expected
        self.seen["revoked"] += expected

    def decline(self, data: st.DataObject) -> None:
        tenant = data.draw(st.sampled_from(TENANTS))
        grants = self.ours.reach(tenant) if data.draw(st.integers(0, 3)) else list(self.ours.grants.values())
        # seldom enough that something is left
        if grants and data.draw(st.booleans()):
            self.decline_one(data.draw(st.sampled_from(grants)), tenant)

    def decline_one(self, grant: Grant, tenant: str) -> None:
        answer = self.ask("decline_share", share_id=grant.share_id, as_=tenant)
        expected = grant in self.ours.reach(tenant) and tenant not in grant.sharers
        assert answer[0][0] is expected
        if expected:
            self.ours.declines.add((tenant, grant.owner, grant.name, grant.sharer))

    def unshare(self, data: st.DataObject) -> None:
        one = data.draw(st.booleans())
        grant = data.draw(st.sampled_from(list(self.ours.grants.values())))
        targets = Jsonb([dict(zip(LEVELS, grant.target.split(":"), strict=True))]) if one else None
        answer = self.ask("unshare_model", model_name=grant.name, targets=targets, owner=grant.owner, as_=grant.sharer)
        given = {
            other.share_id
            for other in self.ours.grants.values()
            if (other.owner, other.name, other.sharer) == (grant.owner, grant.name, grant.sharer)
            and (not one or other.target == grant.target)
        }
        assert answer[0][0] == self.ours.count_line(given)
        for share_id in given:
            del self.ours.grants[share_id]

    def wait(self, data: st.DataObject) -> None:
        """Move the clock: the database's ends pass when they are put into the past."""
        hours = data.draw(st.sampled_from((0.5, 1.0)))
        type(self).steps += 1
        self.ours.hour += hours
        self.admin.execute(
            "update ai_storage_private.model_share set expires_at = '2000-01-01' where expires_at <= %s",
            (self.at(self.ours.hour),),
        )

    def allow(self, data: st.DataObject) -> None:
        self.allow_one(data.draw(st.sampled_from(list(itertools.permutations(ORGS)))))

    def allow_one(self, pair: tuple[str, str]) -> None:
        if pair in self.ours.permits:
            return
        type(self).steps += 1
        self.ours.permits[pair] = next(self.ours.numbers)
        call(self.admin, "allow_external_sharing", org_id=pair[0], to_org_id=pair[1])

    def forbid(self, data: st.DataObject) -> None:
        if data.draw(st.booleans()) and self.ours.permits:
            which, other = data.draw(st.sampled_from(sorted(self.ours.permits)))
            self.forbid_one(which, data.draw(st.sampled_from((None, other))))

    def forbid_one(self, which: str, other: str | None) -> None:
        type(self).steps += 1
        gone = {
            pair: number for pair, number in self.ours.permits.items() if pair[0] == which and other in (None, pair[1])
        }
        ended = sum(bool(grant.permits & set(gone.values())) for grant in self.ours.standing())
        for pair in gone:
            del self.ours.permits[pair]
        assert call(self.admin, "forbid_external_sharing", org_id=which, to_org_id=other)[0][0] == ended

    # After every step

    def count(self) -> None:
        """What there was to be seen in this state."""
        for grant in self.ours.grants.values():
            live = self.ours.stands(grant)
            self.seen["live"] += live
            self.seen["passed on"] += live and len(grant.line) > 0
            self.seen["passed on twice"] += live and len(grant.line) > 1
            self.seen["pinned"] += live and grant.pin is not None
            self.seen["back to a giver"] += live and any(covers(grant.target, one) for one in grant.sharers)
            self.seen["expired"] += grant.ends <= self.ours.hour
            self.seen["orphan"] += not all(share_id in self.ours.grants for share_id in grant.line)
            self.seen["permit gone"] += not grant.permits <= set(self.ours.permits.values())
            self.seen["reached by a star"] += live and any(
                covers(grant.target, one) and org(grant.target) == "*" and org(one) != org(grant.sharer)
                for one in TENANTS
            )
            self.seen["declined"] += live and self.ours.state(grant) != "active"
            self.seen["declined in the line"] += any(
                (taker, grant.owner, grant.name, giver) in self.ours.declines
                for giver, taker in itertools.pairwise(grant.sharers)
            )

    @invariant()
    def agree(self) -> None:
        if self.rested:
            return
        self.count()
        self.ours.frozen = self.ours.standing()
        self.compare()
        self.ours.frozen = None

    def compare(self) -> None:
        """The answers of the database with those of the model, for each tenant."""
        # has_permission is asked often: about one model name per step
        self.compared += 1
        names = [MODELS[self.compared % len(MODELS)]]
        ((answer,),) = self.app.execute("select test_state(%s, %s)", (list(TENANTS), names)).fetchall()
        for tenant in TENANTS:
            theirs = answer[tenant]
            assert theirs["progress"] == [list(row) for row in self.ours.progress(tenant)], tenant
            given = {grant.share_id: grant for grant in self.ours.given(tenant)}
            assert {UUID(one["share_id"]) for one in theirs["given"]} == set(given), tenant
            received = {grant.share_id: grant for grant in self.ours.offered(tenant)}
            assert {UUID(one["share_id"]) for one in theirs["received"]} == set(received), tenant
            for row in theirs["given"]:
                assert row["state"] == self.ours.state(given[UUID(row["share_id"])])
                assert row["parent_id"] in (None, *map(str, given[UUID(row["share_id"])].line[-1:]))
            for row in theirs["received"]:
                declined = self.ours.declined(tenant, received[UUID(row["share_id"])])
                assert row["state"] == ("declined" if declined else "active")
            either = given | received
            for row in (*theirs["received"], *theirs["given"]):
                grant = either[UUID(row["share_id"])]
                ends = self.at(grant.ends)
                assert (row["model_name"], row["owner_key"], row["shared_by"], row["target"], row["version"]) == (
                    grant.name,
                    grant.owner,
                    grant.sharer,
                    grant.target,
                    grant.pin,
                )
                assert row["permissions"] == sorted(grant.permissions)
                assert ends == (row["expires_at"] and datetime.fromisoformat(row["expires_at"]))
            type(self).rows += sum(map(len, theirs.values()))
            held = [
                [owner, name, permission]
                for owner in TENANTS
                for name in names
                for permission in self.ours.permissions(tenant, owner, name)
            ]
            assert sorted(theirs["held"]) == sorted(held), tenant


# All that is compared, in one round trip, as each tenant in turn: emptying the setting unbinds the transaction. The
# function runs with the rights of the login that calls it.
STATE = """
create function test_state(p_tenants text[], p_models text[]) returns jsonb language plpgsql as $fn$
declare
    v_tenant text;
    v_state  jsonb := '{}';
begin
    foreach v_tenant in array p_tenants loop
        v_state := v_state || jsonb_build_object(v_tenant, jsonb_build_object(
            'progress', (
                select coalesce(jsonb_agg(
                    jsonb_build_array(p.model_name, p.owner_key, p.is_shared, p.permissions, p.version)
                ), '[]')
                from ai_storage.load_progress(p_limit => null, p_as => v_tenant) as p
            ),
            'given', (
                select coalesce(jsonb_agg(to_jsonb(s)), '[]') from ai_storage.list_shares(p_as => v_tenant) as s
            ),
            'received', (
                select coalesce(jsonb_agg(to_jsonb(s)), '[]')
                from ai_storage.list_received_shares(p_as => v_tenant) as s
            ),
            'held', (
                select coalesce(jsonb_agg(jsonb_build_array(o, m, r)), '[]')
                from unnest(p_tenants) as o, unnest(p_models) as m,
                    unnest(array['read', 'execute', 'write', 'share']) as r
                where ai_storage.has_permission(o, m, r, v_tenant)
            )
        ));
        perform set_config('app.tenant_context', '', true);
    end loop;
    return v_state;
end;
$fn$;
"""


# Of two grants that give the same, the one with the smaller id is passed on. So that a run can be repeated, and shrunk,
# ids are no longer random in this database.
IDS = """
set allow_system_table_mods = on;
create sequence test_id;
grant usage on sequence test_id to public;
create or replace function pg_catalog.gen_random_uuid() returns uuid language sql volatile
    as $fn$ select md5(nextval('public.test_id')::text)::uuid $fn$;
reset allow_system_table_mods;
"""


def run(database: Database, steps: int) -> None:
    Sharing.app = database.connect("app", options="-c lock_timeout=10s")
    Sharing.late = database.connect("app", options="-c lock_timeout=10s")
    Sharing.admin = database.connect()
    Sharing.admin.execute(IDS)
    Sharing.admin.execute(STATE)
    Sharing.seen = Counter()
    Sharing.steps = Sharing.refusals = Sharing.rows = 0
    run_state_machine_as_test(
        Sharing,
        settings=settings(
            max_examples=1 + max(1, steps // STEPS_PER_EXAMPLE),  # the first one rests
            stateful_step_count=STEPS_PER_EXAMPLE,
            derandomize=True,
            database=None,
            deadline=None,
            print_blob=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_sharing_does_what_the_rules_say_in_any_order(database: Database) -> None:
    run(database, STEPS)
    print(f"{Sharing.steps} steps, {Sharing.refusals} of them refused, {Sharing.rows} rows compared; {Sharing.seen}")
    # it was no idle walk
    assert Sharing.steps > STEPS / 2
    assert Sharing.seen["live"] > 2 * Sharing.steps
    assert min(Sharing.seen[what] for what in SIGHTS) > STEPS / 500, Sharing.seen
