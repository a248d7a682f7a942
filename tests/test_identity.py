"""The exchange of an identity provider's token: what is its own and in order is taken, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import logging
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pydb import NotAuthorized, StorageError, cli, identity, token
from pydb.identity import Fixed, IdentityError, IdentityProvider, IdentityRefused, InvalidProvider, KeysUnavailable
from tests.conftest import Database
from tests.helpers import call, together, until

ISSUER = "https://login.example/realms/acme"
AUDIENCE = "ai-gateway"
ALGORITHMS = ("RS256", "ES256", "EdDSA")
CLAIMS: dict[str, str | Fixed] = {
    "org": "https://example.com/org",
    "srv": ".resource.server",
    "prj": "project",
    "env": Fixed("production"),
    "code": '."https://example.com/build"."code.hash"',
}
BODY: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "alice",
    "https://example.com/org": "acme",
    "resource": {"server": "s1"},
    "project": "p1",
    "https://example.com/build": {"code.hash": "c1"},
}
TENANT = token.Tenant("acme", "s1", "p1", "production", "c1")
SECRET = "canary-of-the-signing-secret-0123456789abcdef"
CANARY = "canary-of-a-claim"


@cache
def _private_key(algorithm: str, name: str) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def private_key(algorithm: str, name: str = "") -> Any:
    """A key of its own for each name."""
    return _private_key(algorithm, name)


def jwk(algorithm: str, name: str = "", kid: str | None = None, **more: Any) -> dict[str, Any]:
    """The public half, under the algorithm's name as kid."""
    to_jwk = jwt.get_algorithm_by_name(algorithm).to_jwk
    made = json.loads(to_jwk(private_key(algorithm, name).public_key()))
    made.pop("key_ops", None)
    return {**made, "kid": kid or algorithm + name, **more}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


ALL_KEYS = jwks(*(jwk(algorithm) for algorithm in ALGORITHMS))


def issue(
    algorithm: str = "ES256", *, key: Any = None, headers: dict[str, Any] | None = None, ttl: float = 600, **claims: Any
) -> str:
    """A token of the provider. A claim or header that is None is left out; key: another signing key."""
    body = {**BODY, "exp": int(time.time() + ttl), **claims}
    head = {"kid": algorithm, **(headers or {})}
    return jwt.encode(
        {name: value for name, value in body.items() if value is not None},
        key or private_key(algorithm),
        algorithm=algorithm,
        headers={name: value for name, value in head.items() if value is not None},
    )


def encode(data: bytes | str) -> str:
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def issue_raw(header: str | bytes, body: str | bytes) -> str:
    """A token of any text, with the right signature for EdDSA."""
    signed = f"{encode(header)}.{encode(body)}"
    return f"{signed}.{encode(private_key('EdDSA').sign(signed.encode()))}"


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(ALL_KEYS)
    return path


@pytest.fixture
def provider(keys_file: Path) -> IdentityProvider:
    return IdentityProvider(issuer=ISSUER, audience=AUDIENCE, jwks=keys_file, claims=CLAIMS)


def refuses(provider: IdentityProvider, bad: Any, *needles: str) -> IdentityRefused:
    """The token is refused, with a hint, and nothing of it is in the error nor in what led to it."""
    with pytest.raises(IdentityRefused) as caught:
        provider.verify(bad)
    error = caught.value
    assert error.hint
    said = "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(error.detail)
    for needle in (CANARY, SECRET, *needles, *(part for part in str(bad).split(".") if len(part) > 20)):
        assert needle not in said
    # A logger may walk the chain although it is not shown.
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


# What is taken


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_of_the_provider_names_its_tenant(provider: IdentityProvider, algorithm: str) -> None:
    end = int(time.time()) + 300
    verified = provider.verify(issue(algorithm, exp=end))
    assert verified == identity.Verified(TENANT, datetime.fromtimestamp(end, UTC), "alice")
    assert provider.verify(issue(algorithm, sub=None)).subject is None


@pytest.mark.parametrize("type_", ["JWT", "at+jwt", "AT+JWT", "application/at+jwt", None])
def test_access_tokens_and_plain_ones_are_taken(provider: IdentityProvider, type_: str | None) -> None:
    header = {"alg": "EdDSA", "kid": "EdDSA", **({"typ": type_} if type_ else {})}
    body = {**BODY, "exp": time.time() + 60.5, "aud": ["account", AUDIENCE]}
    assert provider.verify(issue_raw(json.dumps(header), json.dumps(body))).tenant == TENANT


def test_the_exchanged_token_is_the_one_that_mint_makes(provider: IdentityProvider) -> None:
    exchanged = provider.exchange(issue(), kid="k1", secret=SECRET, audience="here")
    minted = token.mint(TENANT, kid="k1", secret=SECRET, audience="here", ttl=timedelta(minutes=9), subject="alice")
    assert jwt.get_unverified_header(exchanged) == jwt.get_unverified_header(minted)
    ours, theirs = (jwt.decode(one, SECRET, algorithms=["HS256"], audience="here") for one in (exchanged, minted))
    assert ours.keys() == theirs.keys()
    assert {name: ours[name] for name in TENANT._fields} == TENANT._asdict()
    assert ours["sub"] == theirs["sub"] == "alice"
    exchanged = provider.exchange(issue(sub=None), kid="k1", secret=SECRET, audience="here")
    assert "sub" not in jwt.decode(exchanged, options={"verify_signature": False})


def test_from_what_a_token_may_promote_says_the_configuration_and_no_claim(
    provider: IdentityProvider, keys_file: Path
) -> None:
    def exchanged(source: IdentityProvider) -> dict[str, Any]:
        made = source.exchange(issue(**{"from": ["c9"]}), kid="k1", secret=SECRET, audience="here")
        return jwt.decode(made, SECRET, algorithms=["HS256"], audience="here")

    assert "from" not in exchanged(provider)
    arguments = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": keys_file, "claims": CLAIMS}
    assert exchanged(IdentityProvider(**arguments, promote_from=["c1", "c2"]))["from"] == ["c1", "c2"]
    for wrong in ("c1", ["*"], [""], ["a:b"], ["c"] * 33):
        with pytest.raises(InvalidProvider):
            IdentityProvider(**arguments, promote_from=wrong)


@pytest.mark.parametrize(
    ("left", "ttl", "expected"),
    [(3600, None, 900), (60, None, 60), (3600, timedelta(minutes=1), 60), (10, timedelta(hours=24), 10)],
)
def test_an_exchanged_token_never_outlives_the_providers(
    provider: IdentityProvider, left: int, ttl: timedelta | None, expected: int
) -> None:
    now = int(time.time())
    given = issue(exp=now + left)
    more = {} if ttl is None else {"ttl": ttl}
    exchanged = provider.exchange(given, kid="k", secret=SECRET, audience="here", **more)
    end = jwt.decode(exchanged, options={"verify_signature": False})["exp"]
    assert end <= now + left
    assert now + expected <= end <= now + expected + (0 if expected == left else 30)


@pytest.mark.sql
def test_an_exchanged_token_saves_and_loads_and_reaches_no_other_tenant(
    database: Database, provider: IdentityProvider
) -> None:
    admin = database.connect()
    ((kid, secret),) = call(admin, "create_signing_key", kid="k1", audience="here")
    call(admin, "authorize_login", login="app", pattern="*:*:*:*:*", token_only=True)

    def exchange(**claims: Any) -> str:
        return provider.exchange(issue(**claims), kid=kid, secret=secret, audience="here")

    mine = database.storage(exchange())
    assert mine.save_ai_progress("m", 0.5).version == 1
    assert mine.audit_trail()[-1].actor == "alice"
    assert [model.owner_key for model in mine.load_ai_progress()] == [":".join(TENANT)]
    other = database.storage(exchange(**{"https://example.com/org": "beta"}))
    assert other.load_ai_progress() == []
    with pytest.raises(NotAuthorized):
        database.storage(":".join(TENANT)).load_ai_progress()
    with pytest.raises(NotAuthorized):
        database.storage(exchange(), user="beta_app").load_ai_progress()
    # The provider's own token is no credential of the database.
    with pytest.raises(StorageError) as caught:
        database.storage(issue()).load_ai_progress()
    assert caught.value.sqlstate == "TN002"


# Attacks on the token


def test_a_token_without_a_signature_is_refused(provider: IdentityProvider) -> None:
    body = {**BODY, "exp": int(time.time()) + 600}
    unsigned = jwt.encode(body, None, algorithm="none", headers={"kid": "RS256"})
    for bad in (unsigned, unsigned + "AAAA", unsigned.rstrip("."), issue()[: issue().rindex(".") + 1]):
        refuses(provider, bad)
    for alg in ("none", "None", "NONE", "", None, 5, ["EdDSA"], {"EdDSA": 1}):
        refuses(provider, issue_raw(json.dumps({"alg": alg, "kid": "EdDSA"}), json.dumps(body)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_public_key_is_no_hmac_secret(provider: IdentityProvider, keys_file: Path, algorithm: str) -> None:
    public = private_key(algorithm).public_key()
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    secrets = [
        public.public_bytes(serialization.Encoding.PEM, info),
        public.public_bytes(serialization.Encoding.PEM, info).strip(),
        public.public_bytes(serialization.Encoding.DER, info),
        json.dumps(jwk(algorithm)).encode(),
    ]
    body = json.dumps({**BODY, "exp": int(time.time()) + 600})
    for secret in secrets:
        for alg in ("HS256", algorithm):
            signed = f"{encode(json.dumps({'alg': alg, 'kid': algorithm}))}.{encode(body)}"
            refuses(provider, f"{signed}.{encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}")
    # Nor is a symmetric key of the set one, whatever it claims to be.
    oct_key = {"kty": "oct", "k": encode(SECRET), "kid": "sym"}
    keys_file.write_bytes(jwks(oct_key, {**oct_key, "alg": algorithm}, jwk("ES256")))
    fresh = IdentityProvider(issuer=ISSUER, audience=AUDIENCE, jwks=keys_file, claims=CLAIMS)
    refuses(fresh, jwt.encode(json.loads(body), SECRET, algorithm="HS256", headers={"kid": "sym"}))


def test_a_key_is_used_with_its_own_algorithm_only(provider: IdentityProvider, keys_file: Path) -> None:
    for signed_by in ALGORITHMS:
        for named in set(ALGORITHMS) - {signed_by}:
            refuses(provider, issue(signed_by, headers={"kid": named}))
    for other in ("RS384", "RS512", "PS256"):
        refuses(provider, issue(other, key=private_key("RS256"), headers={"kid": "RS256"}))
    # Allowed, genuine and fitting, but not in the list.
    narrow = IdentityProvider(issuer=ISSUER, audience=AUDIENCE, jwks=keys_file, claims=CLAIMS, algorithms=["ES256"])
    assert narrow.verify(issue("ES256")).tenant == TENANT
    refuses(narrow, issue("RS256"))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_tampered_or_foreign_signature_is_refused(provider: IdentityProvider, algorithm: str) -> None:
    good = issue(algorithm)
    head, body, signature = good.split(".")
    forged = encode(json.dumps({**BODY, "exp": int(time.time()) + 600, "project": CANARY}))
    raw = base64.urlsafe_b64decode(signature + "==")
    flipped = bytes([raw[0] ^ 1]) + raw[1:]
    for bad in (
        f"{head}.{forged}.{signature}",
        f"{encode(json.dumps({'alg': algorithm, 'kid': algorithm, 'x': 1}))}.{body}.{signature}",
        f"{head}.{body}.{encode(flipped)}",
        f"{head}.{body}.{encode(raw[:-1])}",
        f"{head}.{body}.{encode(raw + b'x')}",
        f"{head}.{body}.{encode(bytes(len(raw)))}",
        issue(algorithm, key=private_key(algorithm, "stranger")),
    ):
        refuses(provider, bad)
    assert provider.verify(good).tenant == TENANT


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": None},
        {"iss": ISSUER + "/"},
        {"iss": ISSUER[:-1]},
        {"iss": "acme"},
        {"iss": ISSUER.upper()},
        {"aud": None},
        {"aud": []},
        {"aud": "ai"},
        {"aud": AUDIENCE + "-2"},
        {"aud": ["account", "ai-gateway-2"]},
        {"aud": {AUDIENCE: 1}},
        {"aud": [AUDIENCE, 5]},
    ],
    ids=str,
)
def test_another_issuer_or_audience_is_refused(provider: IdentityProvider, claims: dict[str, Any]) -> None:
    refuses(provider, issue(**claims))


def test_an_issuer_or_subject_that_no_log_takes_is_refused(provider: IdentityProvider) -> None:
    for name in ("iss", "sub"):
        no_subjects = ("", "x" * 256, "a\nb", "\ud800") if name == "sub" else ()
        for value in ([BODY[name]], {BODY[name]: 1}, 5, True, *no_subjects):
            body = json.dumps({**BODY, "exp": int(time.time()) + 600, name: value})
            refuses(provider, issue_raw('{"alg":"EdDSA","kid":"EdDSA"}', body))


def test_times_are_kept(provider: IdentityProvider) -> None:
    now = int(time.time())
    for claims in (
        {"exp": None},
        {"exp": now - 1},
        {"exp": now - 5},  # within the leeway, which is not for exp
        {"exp": 0},
        {"exp": -1},
        {"exp": str(now + 600)},
        {"exp": True},
        {"exp": [now + 600]},
        {"exp": 10**12},
        {"nbf": now + 60},
        {"nbf": str(now)},
        {"iat": now + 60},
        {"iat": True},
    ):
        refuses(provider, issue(**claims))
    for text in ("1e999", "NaN", "Infinity", "1" + "0" * 5000, "null"):
        body = json.dumps({**BODY, "exp": "TIME"}).replace('"TIME"', text)
        refuses(provider, issue_raw('{"alg":"EdDSA","kid":"EdDSA"}', body))
    assert provider.verify(issue(nbf=now + 10, iat=now + 10)).tenant == TENANT


def test_a_strict_provider_has_no_leeway(keys_file: Path) -> None:
    strict = IdentityProvider(
        issuer=ISSUER, audience=AUDIENCE, jwks=keys_file, claims=CLAIMS, leeway=timedelta(seconds=0)
    )
    refuses(strict, issue(nbf=int(time.time()) + 10))


def test_a_key_is_found_by_its_name(provider: IdentityProvider, keys_file: Path) -> None:
    refuses(provider, issue(headers={"kid": "unknown"}))
    refuses(provider, issue(headers={"kid": ""}))
    refuses(provider, issue(headers={"kid": None}))
    for kid in (5, None, ["EdDSA"]):
        body = json.dumps({**BODY, "exp": int(time.time()) + 600})
        refuses(provider, issue_raw(json.dumps({"alg": "EdDSA", "kid": kid}), body))

    def verify_with(*keys: dict[str, Any]) -> Callable[[str], identity.Verified]:
        keys_file.write_bytes(jwks(*keys))
        return IdentityProvider(issuer=ISSUER, audience=AUDIENCE, jwks=keys_file, claims=CLAIMS).verify

    nameless = {name: value for name, value in jwk("ES256").items() if name != "kid"}
    assert verify_with(jwk("ES256"))(issue(headers={"kid": None})).tenant == TENANT
    assert verify_with(nameless)(issue(headers={"kid": None})).tenant == TENANT
    for keys, named in (
        ([nameless], "ES256"),
        ([nameless, jwk("RS256")], None),
        ([nameless, {"kty": "unknown"}], None),
        ([jwk("RS256")], None),
        ([jwk("ES256"), jwk("ES256", "second", kid="ES256")], "ES256"),
    ):
        with pytest.raises(IdentityRefused):
            verify_with(*keys)(issue(headers={"kid": named}))


def test_keys_that_the_token_brings_along_are_not_looked_at(provider: IdentityProvider, tmp_path: Path) -> None:
    stranger = private_key("ES256", "stranger")
    evil = jwk("ES256", "stranger", kid="ES256")
    with jwks_server(jwks(evil)) as server:
        for headers in (
            {"jwk": evil},
            {"jku": server.url},
            {"x5u": server.url},
            {"x5c": ["MIIB"]},
            {"jwk": evil, "kid": None},
            {"jku": server.url, "kid": server.url},
            {"kid": "../../../../dev/null"},
        ):
            refuses(provider, issue(key=stranger, headers=headers))
        assert server.requests == 0
    # Of a genuine token they do no harm.
    assert provider.verify(issue(headers={"jwk": evil, "jku": "https://127.0.0.1:1/"})).tenant == TENANT


def test_what_changes_the_meaning_of_a_token_is_refused(provider: IdentityProvider) -> None:
    body = json.dumps({**BODY, "exp": int(time.time()) + 600})
    for more in (
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": True},
        {"crit": None},
        {"b64": False},
        {"typ": "logout+jwt"},
        {"typ": "JWE"},
        {"typ": 5},
        {"typ": None},
    ):
        refuses(provider, issue_raw(json.dumps({"alg": "EdDSA", "kid": "EdDSA", **more}), body))


def test_a_text_that_can_be_read_in_two_ways_is_refused(provider: IdentityProvider) -> None:
    head = '{"alg":"EdDSA","kid":"EdDSA"}'
    body = json.dumps({**BODY, "exp": int(time.time()) + 600})
    assert provider.verify(issue_raw(head, body)).tenant == TENANT
    for bad_head, bad_body in (
        (head, body[:-1] + ', "project": "p2"}'),
        (head, body.replace('{"server": "s1"}', '{"server": "s1", "server": "s2"}')),
        (head, body[:-1] + ', "exp": 9999999999}'),
        (head, body[:-1] + ', "\\u0065xp": 9999999999}'),
        ('{"alg":"EdDSA","kid":"EdDSA","alg":"EdDSA"}', body),
        (head, f"[{body}]"),
        (head, f'"{CANARY}"'),
        (f"[{head}]", body),
        (head, body + "x"),
        (head, "\ufeff" + body),
        (head, body.encode("utf-16")),
        (head, body.encode() + b"\xff"),
        (head, "[" * 5000),
        (head, body[:-1] + ', "deep": ' + '{"a":' * 1500 + "1" + "}" * 1500 + "}"),
        (head, body[:-1] + ', "n": NaN}'),
    ):
        refuses(provider, issue_raw(bad_head, bad_body))
    good = issue("EdDSA")
    head_part, body_part, signature = good.split(".")
    # 64 bytes leave four bits of the last character unused.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    respelled = signature[:-1] + alphabet[alphabet.index(signature[-1]) ^ 1]
    for bad in (
        f"{head_part}.{body_part}.{respelled}",
        good + "=",
        good + "==",
        good + "\n",
        " " + good,
        good.replace(".", "..", 1),
        f"{good}.{signature}",
        good[:-1] + "\u00e9",
        "Bearer " + good,
        "",
        ".",
        "..",
        CANARY,
        "acme:s1:p1:production:c1",
        good.encode(),
        None,
        5,
    ):
        refuses(provider, bad)


def test_a_huge_token_is_refused_unread(provider: IdentityProvider) -> None:
    assert provider.verify(issue(padding="x" * 8000)).tenant == TENANT
    started = time.perf_counter()
    for size in (13_000, 10_000_000):
        refuses(provider, issue(padding="x" * size))
        refuses(provider, "A" * size + ".A.A")
    provider_only = "A." * 5_000_000
    refuses(provider, provider_only)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "value",
    [
        *("*", "a:b", "a:b:c:d:e", "", " acme", "acme\n", "ac me", "a" * 64, "\u0430cme", "acme\u0000", "a,b", "a*"),
        *(None, 5, True, ["acme"], {"org": "acme"}),
    ],
    ids=repr,
)
def test_a_claim_that_is_no_level_is_refused(provider: IdentityProvider, value: Any) -> None:
    for claims in ({"https://example.com/org": value}, {"resource": {"server": value}}, {"project": value}):
        assert "Level " in (refuses(provider, issue(**claims)).detail or "")
    refuses(provider, issue(resource=value))


def test_a_path_and_a_name_are_two_things(keys_file: Path) -> None:
    def tenant(org: str, **claims: Any) -> str:
        mapping = {**CLAIMS, "org": org}
        made = IdentityProvider(issuer=ISSUER, audience=AUDIENCE, jwks=keys_file, claims=mapping)
        return made.verify(issue(**claims)).tenant.org

    both = {"realm": {"org": "inner"}, "realm.org": "outer", ".realm": "dotted"}
    assert tenant(".realm.org", **both) == "inner"
    assert tenant("realm.org", **both) == "outer"
    assert tenant('."realm.org"', **both) == "outer"
    assert tenant('.".realm"', **both) == "dotted"
    assert tenant('."realm"."org"', **both) == "inner"
    for missing in (".realm.org.deeper", "realm", ".nothing.org", ".realm"):
        with pytest.raises(IdentityRefused):
            tenant(missing, **both)


def test_no_secret_is_shown(provider: IdentityProvider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    exchanged = provider.exchange(issue(), kid="k1", secret=SECRET, audience="here")
    refuses(provider, issue(project=CANARY + ":"), exchanged)
    with pytest.raises(IdentityRefused) as caught:
        provider.exchange(issue(project=CANARY + ":"), kid="k1", secret=SECRET, audience="here")
    said = repr(provider) + repr(vars(provider)) + str(caught.value) + repr(caught.value.__dict__) + caplog.text
    assert SECRET not in said
    assert CANARY not in said
    assert exchanged not in said
    assert repr(provider) == f"IdentityProvider(issuer='{ISSUER}', audience='{AUDIENCE}')"


# What is configured


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": ""},
        {"audience": ""},
        {"audience": [AUDIENCE]},
        {"algorithms": ["HS256"]},
        {"algorithms": ["RS256", "none"]},
        {"algorithms": []},
        {"algorithms": "ES256"},
        {"leeway": timedelta(minutes=6)},
        {"leeway": timedelta(seconds=-1)},
        {"timeout": timedelta(0)},
        {"max_stale": timedelta(minutes=2)},
        {"lifetime": timedelta(0), "max_stale": timedelta(0)},
        {"jwks": "http://login.example/keys"},
        {"jwks": "http://localhost.evil.example/keys"},
        {"jwks": "http://127.0.0.1@evil.example/keys"},
        {"jwks": "http://2130706433/keys"},
        {"jwks": "https://user:password@login.example/keys"},
        {"jwks": "https:///keys"},
        {"jwks": "https://login.example:x/keys"},
        {"jwks": "https://login.example/a b"},
        {"jwks": "https://login.example/\r\nX: y"},
        {"jwks": "file:///etc/passwd"},
        {"jwks": "ftp://127.0.0.1/keys"},
        {"claims": {}},
        {"claims": {**CLAIMS, "key": "key"}},
        {"claims": {level: claim for level, claim in CLAIMS.items() if level != "code"}},
        *({"claims": {**CLAIMS, "env": Fixed(value)}} for value in ("*", "", "a:b", "a\n", 5)),
        *({"claims": {**CLAIMS, "env": value}} for value in ("", ".", "..a", ".a.", '."a', '.a"b"', 5, None)),
    ],
    ids=str,
)
def test_a_wrong_configuration_is_refused_at_once(keys_file: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidProvider) as caught:
        IdentityProvider(**{"issuer": ISSUER, "audience": AUDIENCE, "jwks": keys_file, "claims": CLAIMS, **wrong})
    assert caught.value.hint
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://login.example/keys", "http://127.0.0.1:1/", "http://[::1]/", "HTTPS://a/"])
def test_https_and_loopback_urls_are_taken(url: str) -> None:
    IdentityProvider(issuer=ISSUER, audience=AUDIENCE, jwks=url, claims=CLAIMS)


def test_an_exchange_needs_a_key_and_a_time(provider: IdentityProvider) -> None:
    good: dict[str, Any] = {"kid": "k", "secret": SECRET, "audience": "here"}
    for wrong in ({"kid": ""}, {"secret": ""}, {"audience": ""}, {"ttl": timedelta(0)}, {"ttl": timedelta(hours=25)}):
        with pytest.raises(InvalidProvider):
            provider.exchange(issue(), **{**good, **wrong})


def test_the_errors_are_one_family() -> None:
    for cls in (InvalidProvider, IdentityRefused, KeysUnavailable):
        assert issubclass(cls, IdentityError)
    assert issubclass(IdentityError, StorageError)
    assert IdentityError.sqlstate == ""


def test_all_is_what_the_module_defines() -> None:
    defined = {
        name
        for name, value in vars(identity).items()
        if getattr(value, "__module__", None) == identity.__name__ and not name.startswith("_")
    }
    assert defined == set(identity.__all__)


def test_the_core_and_the_command_do_without_pyjwt() -> None:
    without = "import sys; sys.modules['{}'] = None; import pydb, pydb.cli; {}"
    shown = subprocess.run(
        [sys.executable, "-c", without.format("jwt", "print('pydb.identity' in sys.modules)")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "False\n"
    for missing in ("jwt", "cryptography"):
        failed = subprocess.run(
            [sys.executable, "-c", without.format(missing, "import pydb.identity")], capture_output=True, text=True
        )
        assert failed.returncode == 1
        assert "tenant-ai-storage[identity]" in failed.stderr.splitlines()[-1]
        arguments = "--exchange - --issuer i --idp-audience a --jwks j --org a --server a --project a --env a --code a"
        command = f"sys.exit(pydb.cli.main('token --kid k --audience a {arguments}'.split()))"
        failed = subprocess.run(
            [sys.executable, "-c", without.format(missing, command)],
            capture_output=True,
            text=True,
            env={"AI_STORAGE_TOKEN_SECRET": SECRET},
        )
        assert failed.returncode == 1
        assert "tenant-ai-storage[identity]" in failed.stderr


# The provider's keys


class JwksServer(ThreadingHTTPServer):
    """Serves one set of keys, or misbehaves."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = body
        self.requests = 0
        self.mode = "good"
        self.ended = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/keys"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is what some tests want."""

    def __exit__(self, *_: Any) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: JwksServer

    def log_message(self, *_: Any) -> None:
        """Not on the tests' output."""

    def do_GET(self) -> None:
        server = self.server
        server.requests += 1
        mode = server.mode
        if mode == "silent":
            server.ended.wait(60)
        elif mode == "drip headers":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
            while not server.ended.wait(0.05):
                self.wfile.write(b"x")
        elif mode == "redirect":
            self.send_response(302)
            self.send_header("Location", self.path + "2" if self.path == "/keys" else "/keys")
            self.end_headers()
        elif mode == "hang up":
            self.close_connection = True
        else:
            self.send_response(500 if mode == "error" else 200)
            if mode == "cut":
                self.send_header("Content-Length", str(len(server.body) * 2))
            self.end_headers()
            if mode == "drip":
                for byte in server.body:
                    if server.ended.wait(0.05):
                        break
                    self.wfile.write(bytes([byte]))
            elif mode == "huge":
                while not server.ended.is_set():
                    self.wfile.write(b" " * 65_536)
            else:
                self.wfile.write(server.body[:-1] if mode == "cut" else server.body)


def jwks_server(body: bytes) -> JwksServer:
    """To be used in a with statement."""
    server = JwksServer(body)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


@pytest.fixture
def keys_server() -> Iterator[JwksServer]:
    with jwks_server(ALL_KEYS) as server:
        yield server


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the age of keys is measured by."""
    clock = Clock()
    monkeypatch.setattr(identity, "_monotonic", clock)
    return clock


@pytest.fixture
def remote(keys_server: JwksServer) -> IdentityProvider:
    return at(keys_server.url)


def at(url: str, **more: Any) -> IdentityProvider:
    more = {"timeout": timedelta(seconds=10), **more}
    return IdentityProvider(issuer=ISSUER, audience=AUDIENCE, jwks=url, claims=CLAIMS, **more)


def test_keys_are_fetched_once_in_their_lifetime(
    remote: IdentityProvider, keys_server: JwksServer, clock: Clock
) -> None:
    assert keys_server.requests == 0
    for algorithm in ALGORITHMS:
        assert remote.verify(issue(algorithm)).tenant == TENANT
    clock.now += 299
    remote.verify(issue())
    assert keys_server.requests == 1
    clock.now += 2
    remote.verify(issue())
    assert keys_server.requests == 2


def test_a_new_key_is_fetched_when_its_first_token_comes(
    remote: IdentityProvider, keys_server: JwksServer, clock: Clock
) -> None:
    remote.verify(issue())
    keys_server.body = jwks(jwk("ES256"), jwk("ES256", "new"))
    rotated = issue(key=private_key("ES256", "new"), headers={"kid": "ES256new"})
    clock.now += 11
    assert remote.verify(rotated).tenant == TENANT
    assert keys_server.requests == 2
    # The old one overlaps, until the provider takes it away.
    assert remote.verify(issue()).tenant == TENANT
    keys_server.body = jwks(jwk("ES256", "new"))
    clock.now += 301
    refuses(remote, issue())
    assert remote.verify(rotated).tenant == TENANT


def test_unknown_keys_do_not_make_us_fetch_all_the_time(
    remote: IdentityProvider, keys_server: JwksServer, clock: Clock
) -> None:
    remote.verify(issue())
    for _ in range(20):
        refuses(remote, issue(headers={"kid": "nobody"}))
    assert keys_server.requests == 1
    # Nor can they put the next attempt off.
    for _ in range(30):
        clock.now += 1
        refuses(remote, issue(headers={"kid": "nobody"}))
    assert keys_server.requests == 1 + 3
    # A token that is refused anyway asks for nothing.
    clock.now += 60
    refuses(remote, issue("RS384", key=private_key("RS256"), headers={"kid": "nobody"}))
    refuses(remote, issue("RS256", headers={"kid": "ES256"}))
    assert keys_server.requests == 4


def test_old_keys_serve_while_the_provider_is_down_but_not_for_ever(
    remote: IdentityProvider, keys_server: JwksServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    remote.verify(issue())
    keys_server.mode = "error"
    clock.now += 3599
    assert remote.verify(issue()).tenant == TENANT
    assert "HTTP status 500" in caplog.text
    remote.verify(issue())
    assert keys_server.requests == 2
    clock.now += 2
    with pytest.raises(KeysUnavailable) as caught:
        remote.verify(issue())
    assert caught.value.hint
    keys_server.mode = "good"
    clock.now += 10
    assert remote.verify(issue()).tenant == TENANT


@pytest.mark.parametrize("mode", ["error", "redirect", "hang up", "huge", "cut", "silent", "drip", "drip headers"])
def test_a_provider_that_misbehaves_is_given_up_in_time(keys_server: JwksServer, mode: str) -> None:
    keys_server.mode = mode
    started = time.perf_counter()
    # An endless answer is not read until the time is over.
    timeout = timedelta(seconds=30 if mode == "huge" else 1)
    with pytest.raises(KeysUnavailable) as caught:
        at(keys_server.url, timeout=timeout).verify(issue())
    assert time.perf_counter() - started < 5
    assert caught.value.detail
    assert keys_server.requests == 1


def test_a_server_that_is_not_there_is_told(keys_server: JwksServer) -> None:
    with jwks_server(b"") as gone:
        url = gone.url
    provider = at(url)
    for _ in range(2):
        with pytest.raises(KeysUnavailable) as caught:
            provider.verify(issue())
        assert caught.value.detail


def test_a_proxy_of_the_environment_does_not_come_between_on_one_machine(
    keys_server: JwksServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jwks_server(jwks(jwk("ES256", "stranger", kid="ES256"))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert at(keys_server.url).verify(issue()).tenant == TENANT
        assert proxy.requests == 0


def test_https_takes_no_certificate_that_nobody_signed(tmp_path: Path) -> None:
    import ssl

    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "1",
            ),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server = JwksServer(ALL_KEYS)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"https://localhost:{server.server_port}/keys"
    with server:
        with pytest.raises(KeysUnavailable):
            at(url).verify(issue())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
            assert at(url).verify(issue()).tenant == TENANT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"keys": [5, None, [], {}, {"kty": 5}, {"kty": ["RSA"]}]}).encode(),
        json.dumps(
            {"keys": [{"kty": "RSA", "n": 5, "e": "AQAB"}, {"kty": "RSA"}, {"kty": "EC", "crv": "P-256"}]}
        ).encode(),
        json.dumps(
            {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, {"kty": "OKP", "crv": "Ed25519"}]}
        ).encode(),
        jwks({"kty": "EC", "crv": "P-256", "x": encode(b"\x01" * 32), "y": encode(b"\x01" * 32), "kid": "ES256"}),
        jwks(jwk("ES256", use="enc")),
        jwks(jwk("ES256", alg="ES384")),
        jwks(jwk("ES256", key_ops=["sign"])),
        jwks(jwk("ES256", key_ops="verify")),
        jwks(
            {
                **json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(private_key("ES256"))),
                "kid": "ES256",
                "key_ops": ["verify"],
            }
        ),
        jwks(jwk("ES256", kid=["ES256"])),
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_set_without_a_usable_key_is_none(keys_file: Path, body: bytes) -> None:
    keys_file.write_bytes(body)
    with pytest.raises(KeysUnavailable):
        at(str(keys_file)).verify(issue())


def test_a_short_rsa_key_or_another_curve_is_not_used(keys_file: Path) -> None:
    short = rsa.generate_private_key(65537, 1024)
    wide = ec.generate_private_key(ec.SECP384R1())
    set_ = [
        json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(short.public_key())) | {"kid": "RS256"},
        json.loads(jwt.get_algorithm_by_name("ES384").to_jwk(wide.public_key())) | {"kid": "ES384"},
        jwk("EdDSA"),
    ]
    keys_file.write_bytes(jwks(*set_))
    provider = at(str(keys_file))
    assert provider.verify(issue("EdDSA")).tenant == TENANT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer releases of PyJWT warn of such a key, others do not
        weak = issue("RS256", key=short)
    refuses(provider, weak)
    refuses(provider, issue("ES384", key=wide))


def test_a_file_is_read_again_and_may_be_away_for_a_while(
    provider: IdentityProvider, keys_file: Path, clock: Clock
) -> None:
    provider.verify(issue())
    keys_file.write_bytes(jwks(jwk("ES256", "new")))
    clock.now += 301
    refuses(provider, issue())
    keys_file.unlink()
    clock.now += 301
    fresh = issue(key=private_key("ES256", "new"), headers={"kid": "ES256new"})
    assert provider.verify(fresh).tenant == TENANT
    with pytest.raises(KeysUnavailable):
        at(str(keys_file)).verify(issue())
    keys_file.write_bytes(ALL_KEYS + b" " * 300_000)
    with pytest.raises(KeysUnavailable):
        at(str(keys_file)).verify(issue())


def test_many_threads_fetch_once_and_all_are_served(
    remote: IdentityProvider, keys_server: JwksServer, clock: Clock
) -> None:
    good = issue()
    assert {verified.tenant for verified in together([lambda: remote.verify(good)] * 16)} == {TENANT}
    assert keys_server.requests == 1
    # After a night without a token: too old to be used, so all wait for the new ones.
    clock.now += 40_000
    assert {verified.tenant for verified in together([lambda: remote.verify(good)] * 16)} == {TENANT}
    assert keys_server.requests == 2


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def test_a_slow_provider_holds_up_one_caller_for_a_second(keys_server: JwksServer, clock: Clock) -> None:
    remote = at(keys_server.url, timeout=timedelta(seconds=5))
    good = issue()
    remote.verify(good)
    keys_server.mode = "silent"
    clock.now += 301
    times = sorted(together([lambda: timed(lambda: remote.verify(good))] * 8))
    assert 1 <= times[-1] < 3
    assert times[-2] < 1
    assert keys_server.requests == 2


def test_junk_keeps_no_valid_token_waiting_while_the_provider_is_slow(keys_server: JwksServer, clock: Clock) -> None:
    remote = at(keys_server.url, timeout=timedelta(seconds=5))
    good = issue()
    remote.verify(good)
    keys_server.mode = "silent"
    clock.now += 11
    junk = [issue(headers={"kid": f"junk{number}"}) for number in range(40)]
    with ThreadPoolExecutor(4) as executor:
        begun = executor.submit(refuses, remote, junk[0])
        until(lambda: keys_server.requests == 2, "the fetch that junk begins")
        # Whoever sends more of it is answered at once, and so are valid tokens behind it.
        others = [executor.submit(remote.verify, token) for token in junk[1:]]
        assert timed(lambda: executor.submit(remote.verify, good).result()) < 2
        assert not begun.done()
        assert {type(each.exception()) for each in others} == {KeysUnavailable}
        begun.result()
    assert keys_server.requests == 2


def test_a_fetch_that_a_fork_cut_off_is_not_waited_for_by_the_child(remote: IdentityProvider, clock: Clock) -> None:
    remote.verify(issue())
    left = identity._Fetch(threading.Event(), time.monotonic() - 1)
    remote._keys._fetch = left
    clock.now += 40_000
    assert remote.verify(issue()).tenant == TENANT


# The command


@pytest.fixture
def exchange(
    keys_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """pydb token --exchange, with the options of a good one and others; None takes one away."""
    monkeypatch.setenv("AI_STORAGE_TOKEN_SECRET", SECRET)
    given = tmp_path / "token"
    given.write_text(issue() + "\n")

    def exchange(*more: str, **options: str | None) -> tuple[int, str, str]:
        good = {
            "kid": "k1",
            "audience": "here",
            "exchange": str(given),
            "issuer": ISSUER,
            "idp-audience": AUDIENCE,
            "jwks": str(keys_file),
            "env": "production",
        }
        merged = {**good, **{name.replace("_", "-"): value for name, value in options.items()}}
        claims = ["org=https://example.com/org", "server=.resource.server", "project=project"]
        claims.append('code=."https://example.com/build"."code.hash"')
        arguments = ["token"]
        for name, value in merged.items():
            arguments += [] if value is None else [f"--{name}", value]
        for claim in claims:
            arguments += ["--claim", claim]
        try:
            code = cli.main([*arguments, *more])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return exchange


def test_the_command_exchanges_a_token(
    exchange: Callable[..., tuple[int, str, str]], database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ((kid, secret),) = call(database.connect(), "create_signing_key", kid="k1", audience="here")
    monkeypatch.setenv("AI_STORAGE_TOKEN_SECRET", secret)
    code, out, err = exchange("--ttl", "5m", kid=kid)
    assert (code, err) == (0, "")
    assert database.storage(out.strip()).save_ai_progress("m", 0.5).version == 1
    claims = jwt.decode(out.strip(), secret, algorithms=["HS256"], audience="here")
    assert claims["exp"] <= time.time() + 300
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(issue().encode())))
    code, out, _ = exchange(exchange="-")
    assert code == 0
    assert [model.owner_key for model in database.storage(out.strip()).load_ai_progress()] == [":".join(TENANT)]


def test_the_command_refuses_with_1_and_wrong_usage_with_2(
    exchange: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad"
    for content in (issue(project=CANARY + ":"), issue(ttl=-5), CANARY, "", "x" * 1_000_000, "\u00e9"):
        bad.write_text(content)
        code, out, err = exchange(exchange=str(bad))
        assert (code, out) == (1, "")
        assert "hint:" in err
        assert "()" not in err
        assert CANARY not in err
        assert SECRET not in err
    for refused in (
        {"exchange": str(tmp_path / "missing")},
        {"jwks": str(tmp_path / "missing")},
        {"issuer": "https://other.example"},
        {"idp_audience": "other"},
    ):
        code, out, err = exchange(**refused)
        assert (code, out) == (1, "")
        assert "hint:" in err
    for options in (
        {"env": None},
        {"env": "*"},
        {"org": "acme"},
        {"issuer": None},
        {"jwks": None},
        {"jwks": "http://login.example/keys"},
        {"exchange": None},
        {"ttl": "25h"},
    ):
        assert exchange(**options)[:2] == (2, "")
    assert "env is given twice" in exchange("--claim", "env=env")[2]
    # By the names of options, not by those of tokens.
    bad.write_text(issue(project=CANARY + ":"))
    assert "Level project." in exchange(exchange=str(bad))[2]
    for more in (("--claim", "env=env"), ("--claim", "org=org"), ("--claim", "prj=p"), ("--claim", "env=")):
        assert exchange(*more)[:2] == (2, "")
    monkeypatch.delenv("AI_STORAGE_TOKEN_SECRET")
    code, _, err = exchange()
    assert code == 1
    assert "AI_STORAGE_TOKEN_SECRET" in err
