"""Attacks on a cache that several tenants share, by a tenant who can read and write all that is in it."""

from __future__ import annotations

import hashlib
import hmac

import pytest
import redis

from pydb import NotAuthorized, TenantAwareStorage, calls
from pydb.cache import Cache
from tests.attacks import attack, only
from tests.attacks.conftest import CANARY, House, no_canary
from tests.helpers import ACME, BETA
from tests.redis_server import RedisServer

CONTENT = CANARY.encode() * 5000
OPEN = calls.open_artifact("same name", "same artifact")


@attack(65)
@only("direct")
def test_whoever_holds_redis_learns_nothing_and_hands_nothing_out(house: House, redis_server: RedisServer) -> None:
    cache = Cache.from_url(redis_server.url, min_bytes=1)
    victim = TenantAwareStorage(house.connect("beta_app"), BETA, cache=cache)
    attacker = TenantAwareStorage(house.connect("acme_app"), ACME, cache=cache)
    victim.put_artifact("same name", "same artifact", CONTENT)
    attacker.put_artifact("same name", "same artifact", b"mine" * 5000)
    for storage in (victim, attacker, victim, attacker):
        storage.get_artifact("same name", "same artifact")
    assert cache.stats().hits == 2
    key = attacker.run(OPEN).cache_key
    assert key is not None
    assert key != victim.run(OPEN).cache_key
    with redis.Redis.from_url(redis_server.url) as client:
        names = list(client.scan_iter())
        values = {name: client.get(name) for name in names}
        no_canary((names, values))
        assert len(names) == 2
        # The same bytes do not show as the same, nor can who knows them ask whether they are there.
        claim = b"chunk " + hashlib.sha256(CONTENT).digest()
        guessed = [b"pydb:" + hmac.new(each, claim, "sha256").hexdigest().encode() for each in (key, bytes(32), b"")]
        assert not set(guessed) & set(names)
        attacker.put_artifact("same name", "guess", CONTENT)
        misses = cache.stats().misses
        attacker.get_artifact("same name", "guess")
        assert cache.stats().misses == misses + 1
        assert client.dbsize() == 3
        # Each value under each other's name: nobody gets another's bytes, or other bytes than were put.
        for name in client.scan_iter():
            for sealed in values.values():
                client.set(name, sealed)
                assert victim.get_artifact("same name", "same artifact") == CONTENT
                assert attacker.get_artifact("same name", "same artifact") == b"mine" * 5000
    assert cache.stats().rejects > 0
    # The attacker's clients never had the victim's key, nor can its login ask for it.
    with pytest.raises(NotAuthorized):
        TenantAwareStorage(house.connect(), BETA).run(OPEN)
