"""Attacks with tokens: what tests/test_token.py says of the functions, here as an attacker by all three ways."""

from __future__ import annotations

import base64
import hashlib
import json
import time

import psycopg
import pytest

from tests.attacks import attack, only
from tests.attacks.conftest import House, Mint, call, together, tried
from tests.helpers import ACME, BETA, Connection, dump, everything_said, key, names, refused, save, value
from tests.test_token import encode, respelled, seal, sign

LEVELS = ("org", "srv", "prj", "env", "code")


@pytest.fixture
def attacker(house: House, mint: Mint) -> Connection:
    """The attacker's login, limited to tokens: his SQL names no tenant by key."""
    value(house.admin(), "authorize_login", login="acme_app", pattern="acme:*:*:*:*", token_only=True)
    return house.connect()


def refusals(connection: Connection, token: str) -> set[str]:
    """The codes with which three functions refuse a token; fail if one takes it or quotes it."""
    codes = set()
    for statement in (
        "select * from ai_storage.load_progress(p_as => %s)",
        "select * from ai_storage.save_progress('planted', 1, p_as => %s)",
        "select ai_storage.set_tenant(%s)",
    ):
        error = tried(connection, statement, token)
        assert isinstance(error, psycopg.Error), (token, error)
        said = everything_said(error)
        assert token[:1000] not in said, said
        for part in token.split("."):
            # the name of the algorithm is in the hint, as is the kid's claim name: only longer parts say something
            assert len(part) < 12 or part not in said, said
        codes.add(error.sqlstate)
    return codes


def claims(tenant: str = ACME, **more: object) -> str:
    """The claims of a token that would do, as JSON."""
    levels = dict(zip(LEVELS, tenant.split(":"), strict=True))
    return json.dumps({"aud": "here", "exp": int(time.time()) + 600, **levels, **more})


def signed_with_pads(header: str, payload: str) -> str:
    """A token signed with the constant that verify_token uses in place of a key it does not find."""
    signed = f"{encode(header)}.{encode(payload)}"
    pad = b"-" * 64
    return f"{signed}.{encode(hashlib.sha256(pad + hashlib.sha256(pad + signed.encode()).digest()).digest())}"


HEAD = '{"alg":"HS256","kid":"k1"}'


@attack(8)
def test_no_token_but_a_genuine_one_gives_a_tenant(house: House, mint: Mint, attacker: Connection) -> None:
    good = mint()
    header, payload, signature = good.split(".")
    raw = base64.urlsafe_b64decode(signature + "=")
    flipped = bytes([raw[0] ^ 1]) + raw[1:]
    now = int(time.time())
    admin = house.admin()
    (other,) = call(admin, "create_signing_key", kid="k2", audience="here")
    (elsewhere,) = call(admin, "create_signing_key", kid="k3", audience="elsewhere")
    secret = mint.secret
    body = claims()
    body = " " * (len(body) % 3 == 0) + body  # so that its last character has bits to spare
    expected = {
        "TN005": {
            "expired": mint(exp=now - 1),
            "expires now": mint(exp=now),
            "expired by a fraction": mint(exp=now - 0.5),
            "not yet valid": mint(nbf=now + 60),
            "longer than a day": mint(exp=now + 86460),
        },
        "TN003": {
            "another audience": mint(aud="elsewhere"),
            "the audience in capitals": mint(aud="HERE"),
            "a longer audience": mint(aud="here2"),
            "part of an audience": mint(aud="her"),
            "an audience that matches a pattern": mint(aud="%"),
            "an audience as an object": mint(aud={"here": 1}),
            "an audience within an array within": mint(aud=[["here"]]),
            "no audience at all": mint(aud=[]),
            "another key's name": mint(headers={"kid": "k2"}),
            "another key's secret": mint(secret=other.secret),
            "a key of another audience": mint(headers={"kid": "k3"}, secret=elsewhere.secret),
            "a key of another audience, its own": mint(
                headers={"kid": "k3"}, secret=elsewhere.secret, aud=["here", "nowhere"]
            ),
            "no such key": sign('{"alg":"HS256","kid":"k4"}', body, ""),
            "no such key, signed with what stands in for one": signed_with_pads('{"alg":"HS256","kid":"k4"}', body),
            "a key's name in capitals": mint(headers={"kid": "K1"}),
            "a key's name with a blank": mint(headers={"kid": "k1 "}),
            "a key's name that is SQL": mint(headers={"kid": "x' or true --"}),
            "a key's name that is a path": sign('{"alg":"HS256","kid":"../../../dev/null"}', body, ""),
            "a key's name that matches a pattern": mint(headers={"kid": "k_"}),
            "the empty secret": sign(HEAD, body, ""),
            "the key brought along": mint(
                headers={
                    "jwk": {"kty": "oct", "k": encode("mine" * 9)},
                    "jku": "http://localhost/",
                    "x5u": "http://x/",
                },
                secret="mine" * 9,
            ),
            "the first bit of the signature": f"{header}.{payload}.{encode(flipped)}",
            "a signature in other letters": f"{header}.{payload}.{signature[:-1].swapcase()}{signature[-1]}",
            "a signature of nothing": f"{header}.{payload}.{'A' * 43}",
            "other claims under the signature": f"{header}.{encode(claims(BETA))}.{signature}",
            "the victim's tenant": mint(BETA),
            "the victim's tenant as one claim": mint(**dict.fromkeys(LEVELS), key=BETA),
        },
        "TN002": {
            "no signature": f"{header}.{payload}.",
            "two parts": f"{header}.{payload}",
            "half a signature": f"{header}.{payload}.{signature[:22]}",
            "a signature in base64": f"{header}.{payload}.{base64.b64encode(raw).decode()}",
            "a signature in hexadecimal": f"{header}.{payload}.{raw.hex()}",
            "a signature twice": f"{header}.{payload}.{signature}{signature}",
            "a genuine signature in another spelling": f"{header}.{payload}.{respelled(signature)}",
            "claims in another spelling": seal(f"{encode(HEAD)}.{respelled(encode(body))}", secret),
            "a header in another spelling": seal(f"{respelled(encode(HEAD))}.{encode(body)}", secret),
            "alg none": sign('{"alg":"none","kid":"k1"}', body, secret),
            "alg None": sign('{"alg":"None","kid":"k1"}', body, secret),
            "alg HS384": sign('{"alg":"HS384","kid":"k1"}', body, secret),
            "alg RS256": sign('{"alg":"RS256","kid":"k1"}', body, secret),
            "alg in an array": sign('{"alg":["HS256"],"kid":"k1"}', body, secret),
            "a claim twice": sign(HEAD, body[:-1] + ',"org":"beta"}', secret),
            "a claim twice, once in escapes": sign(HEAD, body[:-1] + r',"\u006frg":"beta"}', secret),
            "a header twice, once in escapes": sign(HEAD[:-1] + r',"k\u0069d":"k2"}', body, secret),
            "both ways to name a tenant": mint(key=BETA),
            "a tenant in escapes": sign(HEAD, claims(org="a\u00edcme"), secret),
            "huge and genuine": mint(filler="x" * 5000),
            "ten megabytes": "A" * 10_000_000 + "." + payload + "." + signature,
            "many dots": "." * 100_000,
            "a wildcard for all": mint(**dict.fromkeys(LEVELS, "*")),
            **{f"a wildcard for {level}": mint(**{level: "*"}) for level in LEVELS},
            **{f"a pattern for {level}": mint(**{level: "%"}) for level in LEVELS},
            "a wildcard key": mint(**dict.fromkeys(LEVELS), key="*:*:*:*:*"),
        },
    }
    before = dump(house.database)
    for code, tokens in expected.items():
        for what, token in tokens.items():
            assert refusals(attacker, token) == {code}, what
    assert dump(house.database) == before
    assert names(attacker, as_=good) == ["own", "same name"]


@attack(8)
@only("direct")
def test_a_claim_with_a_colon_stands_for_no_other_level(house: House, mint: Mint) -> None:
    # Whoever mints tokens may take a claim from a user, say the server's name. What is authorised has to be what is
    # read: here the third level is p2, and the login may have p1 alone.
    save(house.connect(), "of p2", as_=key(server="s2", project="p2", environment="p1", code="x"))
    admin = house.admin()
    value(admin, "deauthorize_login", login="acme_app")
    value(admin, "authorize_login", login="acme_app", pattern="acme:*:p1:*:*", token_only=True)
    attacker = house.connect()
    for levels in (
        {"srv": "s2:p2", "prj": "p1", "env": "x", "code": None},
        {"srv": "s2:p2", "prj": "p1", "env": None, "code": "x"},
        {"srv": "s2:p2:p1:x", "prj": None, "env": None, "code": None},
        {"org": "acme:s2", "srv": "p2", "prj": "p1", "env": "x", "code": None},
    ):
        assert refusals(attacker, mint(**levels)) == {"TN002"}


@attack(8)
@only("direct")
@pytest.mark.parametrize("setting", ["standard_conforming_strings = off", "escape_string_warning = off"])
def test_a_token_of_two_parts_is_none_however_a_session_reads_strings(
    house: House, mint: Mint, attacker: Connection, setting: str
) -> None:
    # With the first setting a backslash in a function's literal is an escape: what was to match a dot may match
    # anything. It counts when a session reads the function for the first time, so each try has its own.
    for length in range(12):
        body = encode(claims(x="x" * length))
        for forged in (f"{encode(HEAD)}.{body}", f"{encode(HEAD)}x{body}.{'A' * 43}"):
            with psycopg.connect(house.database.dsn("acme_app"), autocommit=True) as connection:
                connection.execute(f"set {setting}")
                assert refusals(connection, forged) == {"TN002"}, forged


@attack(8)
def test_the_victims_token_is_good_for_no_login_but_its_own(house: House, mint: Mint, attacker: Connection) -> None:
    stolen = mint(BETA)
    assert refusals(attacker, stolen) == {"TN003"}
    # With its own login it is what it is: whoever holds both acts for the tenant, until the token ends.
    assert "victim model" in names(house.connect("beta_app"), as_=stolen)


@attack(8)
def test_a_retired_key_signs_nothing_more(house: House, mint: Mint, attacker: Connection) -> None:
    good = mint()
    assert names(attacker, as_=good) == ["own", "same name"]
    admin = house.admin()
    (newer,) = call(admin, "create_signing_key", kid="k2", audience="here")
    value(admin, "retire_signing_key", kid="k1")
    assert refusals(attacker, good) == {"TN003"}
    assert names(attacker, as_=mint(headers={"kid": "k2"}, secret=newer.secret)) == ["own", "same name"]
    with refused("23505"):
        call(admin, "create_signing_key", kid="k1", audience="here")


@attack(8)
def test_all_wrong_signatures_are_refused_in_the_same_words(house: House, mint: Mint, attacker: Connection) -> None:
    (other,) = call(house.admin(), "create_signing_key", kid="k2", audience="here")
    good = mint()
    value(house.admin(), "retire_signing_key", kid="k2")
    answers = set()
    for token in (
        mint(headers={"kid": "nobody"}),
        mint(headers={"kid": "k2"}, secret=other.secret),
        mint(headers={"kid": "k2"}, secret="x" * 43),
        mint(secret="x" * 43),
        mint(BETA, secret="x" * 43),
        mint(key(org="nobody"), secret="x" * 43),
        mint(aud="elsewhere"),
        mint(exp=1, secret="x" * 43),
        good[:-1] + ("A" if good[-1] not in "ABCD" else "w"),
    ):
        with refused("TN003") as caught:
            attacker.execute("select * from ai_storage.load_progress(p_as => %s)", (token,))
        diag = caught.value.diag
        answers.add((diag.message_primary, diag.message_detail, diag.message_hint, diag.context, diag.source_line))
    assert len(answers) == 1, answers


@attack(8)
def test_an_injection_into_a_token_only_login_names_no_tenant(house: House, mint: Mint, attacker: Connection) -> None:
    for credential in (ACME, BETA, key(project="p2"), "acme:*:*:*:*"):
        assert refusals(attacker, credential) <= {"TN002", "TN003"}
        # also not beside the token of the request that was injected into
        answer = tried(
            attacker,
            together(
                f"select model_name from ai_storage.load_progress(p_as => '{mint()}')",
                f"select model_name from ai_storage.load_progress(p_as => '{credential}')",
            ),
        )
        assert isinstance(answer, psycopg.Error), credential


@attack(8)
@only("direct")
def test_signing_keys_are_made_and_tokens_checked_by_no_application(house: House, mint: Mint) -> None:
    for login in ("acme_app", "beta_app", "reporter", "stranger"):
        attacker = house.connect(login)
        for statement in (
            "select * from ai_storage.create_signing_key('mine', 'here')",
            "select ai_storage.retire_signing_key('k1')",
            "select * from ai_storage.list_signing_keys()",
            f"select ai_storage_private.verify_token('{mint(BETA)}')",
            f"select ai_storage_private.check_credential('{BETA}', 'call')",
            "select ai_storage_private.context_mac('', '', 'x')",
            "select ai_storage_private.set_context('transaction', null)",
            f"insert into ai_storage_private.signing_key values ('mine', 'here', '{'x' * 64}', '{'x' * 64}')",
            "update ai_storage_private.signing_key set retired_at = null",
        ):
            answer = tried(attacker, statement)
            assert isinstance(answer, psycopg.errors.InsufficientPrivilege), statement
