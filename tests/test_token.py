"""Signed tokens: what any JWT library mints is taken, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import psycopg
import pytest

from pydb import InvalidArgument, TokenExpired, token
from pydb.calls import NewSigningKey
from tests.conftest import Database
from tests.helpers import ACME, BETA, call, names, refused, save, sleep_past, unchanged, value

pytestmark = pytest.mark.sql

LEVELS = dict(zip(("org", "srv", "prj", "env", "code"), ACME.split(":"), strict=True))
DAY = timedelta(hours=24)
Mint = Callable[..., str]


@pytest.fixture
def key(database: Database) -> NewSigningKey:
    (row,) = call(database.connect(), "create_signing_key", kid="k1", audience="here")
    return NewSigningKey(*row)


@pytest.fixture
def mint(key: NewSigningKey) -> Mint:
    def mint(headers: dict[str, Any] | None = None, secret: str = key.secret, **claims: Any) -> str:
        payload = {"aud": "here", "exp": int(time.time()) + 600, **LEVELS, **claims}
        payload = {name: claim for name, claim in payload.items() if claim is not None}
        return jwt.encode(payload, secret, algorithm="HS256", headers={"kid": key.kid, **(headers or {})})

    return mint


def encode(data: bytes | str) -> str:
    data = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(header: str | bytes, payload: str | bytes, secret: str) -> str:
    """A token of any text, with the right signature."""
    return seal(f"{encode(header)}.{encode(payload)}", secret)


def seal(signed: str, secret: str) -> str:
    """A token of two parts that are encoded already, with the right signature."""
    return f"{signed}.{encode(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


def respelled(part: str) -> str:
    """The same bytes in base64url with a bit set that the last character has to spare."""
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = part[:-1] + last[last.index(part[-1]) ^ 1]
    padding = "=" * (-len(part) % 4)
    assert base64.urlsafe_b64decode(other + padding) == base64.urlsafe_b64decode(part + padding)
    return other


def test_a_token_of_any_library_names_its_tenant(database: Database, mint: Mint) -> None:
    app = database.connect("app")
    save(app, "m", as_=mint())
    assert names(app, as_=ACME) == ["m"]
    one_claim = mint(key=ACME, **dict.fromkeys(LEVELS))
    assert names(app, as_=one_claim) == ["m"]
    assert names(app, as_=mint(aud=["elsewhere", "here"], nbf=int(time.time()) - 1, jti="x", nested={"a": [1]})) == [
        "m"
    ]
    with app.transaction():
        assert value(app, "set_tenant", credential=mint()) == ACME
        assert names(app) == ["m"]


def test_the_sub_of_a_token_is_the_actor_of_its_events_in_its_own_log_only(database: Database, mint: Mint) -> None:
    alice, bob = mint(sub="alice|ä x"), mint(sub="b" * 255)
    mine = database.storage(alice)
    mine.save_ai_progress("m", 1)
    mine.share_model("m", [{"code_hash": "c2"}], ["read"])
    with database.connect("app") as app, app.transaction():
        save(app, "m", as_=bob)
        save(app, "m", as_=alice)
        save(app, "m", as_=mint())
    other = database.storage(mint(sub="carol", code="c2"))
    other.save_ai_progress("own", 1)
    other.load_ai_progress("m", owner=ACME)
    saved = [(event.actor, event.credential) for event in mine.audit_trail(action="save model")]
    assert saved == [("alice|ä x", "token k1"), ("b" * 255, "token k1"), ("alice|ä x", "token k1"), (None, "token k1")]
    assert [event.actor for event in other.audit_trail()][-1] == "carol"
    told = [event for event in mine.audit_trail() if "carol" in repr(event)]
    assert told == []
    assert mine.audit_trail(action="read model")
    assert mine.verify_audit().verified
    database.connect().execute("select ai_storage.erase_tenant(%s, 'asked')", [ACME])
    assert all(event.actor is None for event in database.storage(ACME).audit_trail(action="save model"))


def test_our_own_mint_is_the_same_token(database: Database, key: NewSigningKey) -> None:
    tenant = token.Tenant(*ACME.split(":"))
    minted = token.mint(
        tenant, kid=key.kid, secret=key.secret, audience="here", ttl=timedelta(minutes=1), subject="alice"
    )
    claims = jwt.decode(minted, key.secret, algorithms=["HS256"], audience="here")
    assert {name: claims[name] for name in LEVELS} == LEVELS
    assert database.storage(minted).save_ai_progress("m", 0.5).version == 1
    assert database.storage(minted).audit_trail()[-1].actor == claims["sub"] == "alice"


def test_the_examples_of_the_standards_verify(database: Database) -> None:
    admin = database.connect()
    # RFC 7515, appendix A.1: the key, what is signed, and the signature.
    secret = base64.urlsafe_b64decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
    )
    signed = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    row = admin.execute(
        "select ai_storage_private.encode_base64url(sha256(ai_storage_private.hmac_pad(%(k)s, 92) || "
        "sha256(ai_storage_private.hmac_pad(%(k)s, 54) || convert_to(%(s)s, 'UTF8'))))",
        {"k": secret, "s": signed},
    ).fetchone()
    assert row == ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",)
    # RFC 4231, test case 2
    row = admin.execute(
        "select encode(sha256(ai_storage_private.hmac_pad('Jefe', 92) || "
        "sha256(ai_storage_private.hmac_pad('Jefe', 54) || 'what do ya want for nothing?'::bytea)), 'hex')"
    ).fetchone()
    assert row == ("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",)


def test_a_token_whose_time_is_wrong_is_told_so(database: Database, mint: Mint) -> None:
    app = database.connect("app")
    now = int(time.time())
    for claims in ({"exp": now - 1}, {"exp": 0}, {"nbf": now + 60}, {"exp": now + 86460}, {"exp": 1e300}):
        with refused("TN005"):
            names(app, as_=mint(**claims))
    with pytest.raises(TokenExpired):
        database.storage(mint(exp=now - 1)).load_ai_progress()


def test_clocks_may_differ_by_seconds_but_no_token_outlives_its_end(database: Database, mint: Mint) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    now = int(time.time())
    for claims in ({"nbf": now + 8}, {"exp": now + 86_408}, {"exp": now + 86_408, "nbf": now + 8}):
        assert names(app, as_=mint(**claims)) == ["m"]
    for claims in ({"nbf": now + 30}, {"exp": now + 86_430}, {"exp": now - 1}):
        with refused("TN005"):
            names(app, as_=mint(**claims))


@pytest.mark.parametrize("ahead", [0, 5, 60])
def test_our_own_mint_of_24_hours_is_good_on_a_host_that_is_ahead(
    database: Database, key: NewSigningKey, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + ahead)
    minted = token.mint(token.Tenant(*ACME.split(":")), kid=key.kid, secret=key.secret, audience="here", ttl=DAY)
    assert database.storage(minted).save_ai_progress("m", 0.5).version == 1


def test_a_secret_that_can_be_guessed_signs_nothing() -> None:
    for secret in ("", "short", "x" * 31):
        with pytest.raises(InvalidArgument):
            token.mint(token.Tenant(*ACME.split(":")), kid="k", secret=secret, audience="here")


@pytest.mark.parametrize("first", ["key", "token"])
def test_a_second_credential_changes_nothing_of_what_is_bound(database: Database, mint: Mint, first: str) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    begun, other = (ACME, mint()) if first == "key" else (mint(), ACME)
    with app.transaction():
        value(app, "set_tenant", credential=begun)
        bound = app.execute("select current_setting('app.tenant_context')").fetchone()
        assert names(app, as_=other) == ["m"]
        assert value(app, "set_tenant", credential=other) == ACME
        assert app.execute("select current_setting('app.tenant_context')").fetchone() == bound


def test_a_context_ends_with_its_token(database: Database, mint: Mint) -> None:
    app = database.connect("app")
    with app.transaction():
        exp = int(time.time()) + 3
        value(app, "set_tenant", credential=mint(exp=exp))
        save(app, "m")
        app.execute(f"select {sleep_past(exp)}")
        with refused("TN001"), app.transaction():
            save(app, "m")


def test_a_token_of_another_key_audience_or_login_is_refused(
    database: Database, mint: Mint, key: NewSigningKey
) -> None:
    app = database.connect("app")
    for wrong in (
        mint(secret=key.secret[:-1] + ("A" if key.secret[-1] != "A" else "B")),
        mint({"kid": "k2"}),
        mint({"kid": ""}),
        mint(aud="elsewhere"),
        mint(aud=None),
        mint(aud=["elsewhere"]),
        mint()[:-43] + "A" * 43,
    ):
        with refused("TN003"):
            names(app, as_=wrong)
    with refused("TN003"):
        names(database.connect("beta_app"), as_=mint())


def test_a_wrong_token_is_refused_alike_whether_its_tenant_exists_or_not(database: Database, mint: Mint) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    answers = set()
    for levels in (LEVELS, {**LEVELS, "org": "nobody"}):
        with refused("TN003") as caught:
            names(app, as_=mint(secret="x" * 43, **levels))
        diag = caught.value.diag
        answers.add((diag.message_primary, diag.message_detail, diag.message_hint, diag.context))
    assert len(answers) == 1


def test_every_malformed_token_is_refused_and_changes_nothing(
    database: Database, mint: Mint, key: NewSigningKey
) -> None:
    good = mint()
    header, payload, signature = good.split(".")
    claims = {"aud": "here", "exp": int(time.time()) + 600, **LEVELS}
    head = json.dumps({"alg": "HS256", "kid": key.kid})
    body = json.dumps(claims)
    malformed = [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "x",
        header,
        f"{header}.{payload}",
        f"{header}.{payload}.",
        f"{good}.",
        f".{good}",
        f"{good}=",
        f" {good}",
        f"{good} ",
        f"{good}\n",
        good.replace(".", ".."),
        good[:-1],
        good + "A",
        good[1:],
        f"{header}.{payload}.{signature[:-2]}",
        f"{header}+.{payload}.{signature}",
        f"{header}/.{payload}.{signature}",
        f"{header}=.{payload}.{signature}",
        f"{header}.{payload}.{respelled(signature)}",
        "é" + good,
        good + "." + good,
        "A" * 5000,
        jwt.encode(claims, None, algorithm="none", headers={"kid": key.kid}),
        jwt.encode(claims, key.secret.ljust(64, "x"), algorithm="HS512", headers={"kid": key.kid}),
        sign('{"alg":"none","kid":"k1"}', body, key.secret),
        sign('{"alg":"HS256","kid":"k1","typ":"JWE"}', body, key.secret),
        mint({"crit": ["exp"]}),
        sign('{"alg":"HS256","kid":null}', body, key.secret),
        sign('{"alg":"HS256"}', body, key.secret),
        sign('{"alg":"HS256","kid":1}', body, key.secret),
        sign('{"alg":"hs256","kid":"k1"}', body, key.secret),
        sign('{"alg":"HS256","alg":"HS256","kid":"k1"}', body, key.secret),
        sign('{"alg":"none","kid":"k1","alg":"HS256"}', body, key.secret),
        sign(head, body[:-1] + ',"org":"beta"}', key.secret),
        sign(head, body[:-1] + ',"exp":1}', key.secret),
        sign(head, "[]", key.secret),
        sign(head, "null", key.secret),
        sign(head, "", key.secret),
        sign("[]", body, key.secret),
        sign(head, body[:-1], key.secret),
        sign(head, body + "x", key.secret),
        *(mint(sub=wrong) for wrong in ("", "x" * 256, "a\nb", "a\x7f", "a\x85", "a\x00", 5, ["a"], "\ud800")),
        sign(head, b"\xff\xfe", key.secret),
        sign(head, '{"a":"\\u0000"}', key.secret),
        sign(head, "[" * 2000, key.secret),
        sign(head, '{"exp":1e999999}', key.secret),
        mint(exp=None),
        mint(exp="9999999999"),
        mint(exp=True),
        mint(nbf="1"),
        mint(org="*"),
        mint(org=""),
        mint(org="a:b"),
        mint(org=None),
        mint(org=1),
        mint(code=["c1"]),
        mint(key=ACME),
        mint(key=ACME, **{**dict.fromkeys(LEVELS), "org": "beta"}),
        mint(key="acme:*:*:*:*", **dict.fromkeys(LEVELS)),
        mint(key=5, **dict.fromkeys(LEVELS)),
        mint(**dict.fromkeys(LEVELS)),
    ]
    app = database.connect("app")
    save(app, "m", as_=good)
    with unchanged(database):
        for wrong in malformed:
            with refused("TN002"):
                assert names(app, as_=wrong) is None, wrong


def test_keys_overlap_until_one_is_retired(database: Database, mint: Mint, key: NewSigningKey) -> None:
    admin, app = database.connect(), database.connect("app")
    (second,) = call(admin, "create_signing_key", audience="here")
    newer = mint({"kid": second.kid}, secret=second.secret)
    assert names(app, as_=mint()) == names(app, as_=newer) == []
    assert value(admin, "retire_signing_key", kid=key.kid) is True
    assert value(admin, "retire_signing_key", kid=key.kid) is False
    with refused("TN003"):
        names(app, as_=mint())
    assert names(app, as_=newer) == []
    rows = call(admin, "list_signing_keys")
    assert [(row.kid, row.retired_at is None) for row in rows] == [("k1", False), (second.kid, True)]
    with refused("23505"):
        call(admin, "create_signing_key", kid=key.kid)
    for wrong in ("", "a b", "a|b", "x" * 64):
        with refused("22023"):
            call(admin, "create_signing_key", kid=wrong)


def test_a_token_only_login_names_no_tenant_by_key(database: Database, mint: Mint) -> None:
    admin = database.connect()
    value(admin, "authorize_login", login="acme_app", pattern="acme:*:*:*:*", token_only=True)
    login = database.connect("acme_app")
    with refused("TN003"):
        names(login, as_=ACME)
    assert names(login, as_=mint()) == []
    with refused("TN003"), login.transaction():
        value(login, "set_tenant", credential=mint())
        # not even the tenant of its own token, and no other
        names(login, as_=ACME)
    with refused("TN003"):
        names(login, as_=mint(org="beta"))


def test_a_second_tenant_by_token_is_refused_too(database: Database, mint: Mint) -> None:
    app = database.connect("app")
    with app.transaction():
        value(app, "set_tenant", credential=mint())
        with refused("TN004"), app.transaction():
            names(app, as_=mint(org="beta"))
        with refused("TN004"), app.transaction():
            names(app, as_=BETA)


def test_no_application_reads_keys_or_makes_them(database: Database, key: NewSigningKey) -> None:
    app = database.connect("app")
    for statement in (
        "select * from ai_storage_private.signing_key",
        "select * from ai_storage.create_signing_key()",
        "select ai_storage.retire_signing_key('k1')",
        "select * from ai_storage.list_signing_keys()",
        "select ai_storage_private.verify_token('x')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(statement)
    admin = database.connect()
    admin.execute("set role ai_storage_owner")
    assert admin.execute("select count(*) from ai_storage_private.signing_key").fetchone() == (0,)
    shown = admin.execute(
        "select string_agg(prosrc, '') from pg_proc where pronamespace = 'ai_storage_private'::regnamespace"
    ).fetchone()[0]
    assert key.secret not in shown


def test_a_token_sent_as_a_parameter_is_in_no_statement_text(database: Database, mint: Mint) -> None:
    app, admin = database.connect("app"), database.connect()
    secret = mint()
    names(app, as_=secret)
    rows = admin.execute("select query from pg_stat_activity where pid = %s", (app.info.backend_pid,)).fetchall()
    assert all(secret not in row[0] and secret.split(".")[2] not in row[0] for row in rows)


def test_a_token_ends_within_a_statement_too(database: Database, mint: Mint) -> None:
    app = database.connect("app")
    exp = int(time.time()) + 3
    credential = mint(exp=exp)
    with pytest.raises(psycopg.Error) as caught:
        app.execute(
            "do $$ begin perform ai_storage.set_tenant('"
            + credential
            + "'); perform ai_storage.save_progress('m', 1); "
            f"perform {sleep_past(exp)}; perform ai_storage.save_progress('m', 2); end $$"
        )
    assert caught.value.sqlstate == "TN001"
