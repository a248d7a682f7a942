"""Exchanges an identity provider's token for one that the database verifies. Needs the extra `identity`.

A gateway that holds a signing secret (create_signing_key) takes the provider's token, signed with RS256, ES256 or
EdDSA, checks it, maps its claims to the five levels of a tenant, and mints a short token for exactly that tenant.

    provider = IdentityProvider(
        issuer="https://login.example/realms/acme",
        audience="ai-gateway",
        jwks="https://login.example/realms/acme/protocol/openid-connect/certs",
        claims={
            "org": "https://example.com/org",  # a claim's name, as it is
            "srv": ".resource.server",         # a path: {"resource": {"server": "mcp-1"}}
            "prj": "project",
            "env": Fixed("production"),
            "code": "code_hash",
        },
    )
    credential = provider.exchange(token, kid=kid, secret=secret, audience="DATABASE")

All of it is synchronous. A check takes a fraction of a millisecond. Keys are fetched in the background, once at a time:
while there are keys, at most one caller waits for newer ones; before that, all wait for up to `timeout`. In an event
loop call it in a thread, as TenantMiddleware does. One provider serves all threads.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import logging
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .errors import StorageError
from .token import LEVEL, MAX_TTL, Tenant, check_secret, seconds

try:
    import cryptography  # noqa: F401  # PyJWT does without, but then verifies HS256 only
    import jwt
except ModuleNotFoundError as error:
    raise ImportError(
        f"pydb.identity needs the package {error.name}. Run: pip install 'tenant-ai-storage[identity]'"
    ) from error

__all__ = [
    "Fixed",
    "IdentityError",
    "IdentityProvider",
    "IdentityRefused",
    "InvalidProvider",
    "KeysUnavailable",
    "Verified",
]

MAX_TOKEN_LENGTH = 16_384
MAX_JWKS_BYTES = 262_144
# Between two attempts to fetch the keys, in seconds: whoever sends unknown kids makes us fetch no more often.
FETCH_PAUSE = 10.0
# So long, in seconds, a token whose key is held waits for newer keys.
GRACE = 1.0

# alg -> kty and crv of its keys. One algorithm per type of key, so no key is ever used with another algorithm.
KEY_TYPES = {"RS256": ("RSA", None), "ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}
TYPES = ("jwt", "at+jwt", "application/at+jwt")
END_OF_TIME = 253_402_300_800  # the year 10000, where datetime ends

_NAME = r'\.(?:"([^"]+)"|([^."]+))'

_log = logging.getLogger(__name__)
_monotonic = time.monotonic  # tests put their own clock here


class IdentityError(StorageError):
    """Base of this module's errors. They have no SQLSTATE: the database was not asked.

    No message, detail or hint holds a token, a claim's value or a secret.
    """


class InvalidProvider(IdentityError):
    """The provider is described wrongly: its issuer, keys, algorithms, times or claims. Mend the configuration."""


class IdentityRefused(IdentityError):
    """The provider's token is not valid here, or names no tenant. A gateway answers 401."""


class KeysUnavailable(IdentityError):
    """The provider's keys cannot be had, so nothing can be checked. Try again later; a gateway answers 503."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A level that is the same for every token."""

    value: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a valid token says. expires_at: when it ends, aware. subject: its sub, or None."""

    tenant: Tenant
    expires_at: datetime
    subject: str | None


class IdentityProvider:
    """One issuer of tokens, with the keys it signs with and what its claims mean."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        jwks: str | Path,
        claims: Mapping[str, str | Fixed],
        algorithms: Sequence[str] = tuple(KEY_TYPES),
        leeway: timedelta = timedelta(seconds=30),
        timeout: timedelta = timedelta(seconds=5),
        lifetime: timedelta = timedelta(minutes=5),
        max_stale: timedelta = timedelta(hours=1),
        promote_from: Sequence[str] = (),
    ) -> None:
        """Describe the provider. Nothing is fetched before the first token.

        issuer, audience: what a token has to name as iss and among aud, exactly.
        jwks: the provider's JWK Set, a file or an https URL; http for a loopback host only. Redirects are not
            followed. A proxy and a CA are taken from the environment: HTTPS_PROXY, SSL_CERT_FILE.
        claims: for each of org, srv, prj, env and code a claim or Fixed(value). A claim is its name as it is, dots and
            slashes included; or a path, which begins with a dot, such as .realm.org, where a name with a dot in it
            stands in double quotes: ."https://example.com/tenant".org. Map claims that the provider sets, not those
            that its users may edit.
        algorithms: those that may be used, out of RS256, ES256 and EdDSA (Ed25519).
        leeway: how far nbf and iat may lie ahead, up to 5 minutes. exp has none.
        timeout: for fetching the keys, all in all.
        lifetime: how long keys are used before they are fetched again. A token with an unknown kid fetches them at
            once, but no two attempts are less than 10 seconds apart.
        max_stale: how long keys are used while they cannot be fetched again, counted from the last time they were. So
            long a key that the provider withdraws may still count, if nobody can reach the provider.
        promote_from: the code versions that the tokens it gives may promote from; no claim of the provider's says so.
        Raises: InvalidProvider.
        """
        if not (isinstance(issuer, str) and issuer and isinstance(audience, str) and audience):
            raise InvalidProvider("issuer and audience are needed", hint="Take both from the provider's settings.")
        if isinstance(algorithms, str) or not algorithms or not set(algorithms) <= set(KEY_TYPES):
            raise InvalidProvider("unknown algorithm", hint="Name one or more of: RS256, ES256, EdDSA.")
        if not (
            timedelta(0) <= leeway <= timedelta(minutes=5)
            and timedelta(0) < timeout
            and timedelta(0) <= lifetime <= max_stale
            and timedelta(minutes=1) <= max_stale
        ):
            raise InvalidProvider(
                "a time is out of range",
                hint="leeway is 0 to 5 minutes, timeout above 0, max_stale 1 minute or more, lifetime up to max_stale.",
            )
        self._issuer = issuer
        self._audience = audience
        self._algorithms = tuple(algorithms)
        self._leeway = leeway
        if isinstance(promote_from, str) or len(promote_from) > 32 or not all(map(LEVEL.fullmatch, promote_from)):
            raise InvalidProvider("promote_from is no list of code versions", hint="Name up to 32 code hashes.")
        self._claims = _mapping(claims)
        self._promote_from = list(promote_from)
        self._keys = _Keys(_location(jwks), self._algorithms, timeout, lifetime, max_stale)

    def __repr__(self) -> str:
        return f"IdentityProvider(issuer={self._issuer!r}, audience={self._audience!r})"

    def verify(self, token: str) -> Verified:
        """Check a token of the provider and read its tenant.

        Raises: IdentityRefused, KeysUnavailable.
        """
        parts = _read(token)
        if parts is None:
            raise _refused("malformed token", "Send the provider's signed JWT in its compact form, unchanged.")
        header, claims = parts
        algorithm = header.get("alg")
        if algorithm not in self._algorithms:
            raise _refused("this algorithm is not allowed", f"Have it signed with {' or '.join(self._algorithms)}.")
        key = self._keys.find(header.get("kid"), algorithm)
        if key is None:
            raise _refused("no key of the provider fits this token", "Check jwks, and the token's kid and alg.")
        problem = self._problem(token, claims, key, algorithm)
        if problem is not None:
            raise _refused(*problem)
        return Verified(
            tenant=Tenant(**{level: self._level(level, claims) for level in Tenant._fields}),
            expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
            subject=claims.get("sub"),
        )

    def exchange(
        self, token: str, *, kid: str, secret: str, audience: str, ttl: timedelta = timedelta(minutes=15)
    ) -> str:
        """Check a token of the provider and mint one for the tenant it names.

        kid, secret, audience: as create_signing_key gave them. ttl: how long the new token is good, up to 24 hours; it
        never outlives the provider's.
        Returns: a JWT signed with HS256, as pydb.token.mint makes it.
        Raises: IdentityRefused, KeysUnavailable, InvalidProvider; InvalidArgument for a secret of less than 32 bytes.
        """
        if not (kid and secret and audience and timedelta(seconds=1) <= ttl <= MAX_TTL):
            raise InvalidProvider(
                "kid, secret, audience and ttl are needed",
                hint="Take the first three from create_signing_key; ttl is 1 second to 24 hours.",
            )
        check_secret(secret)
        verified = self.verify(token)
        now = int(time.time())
        # Not mint(): it takes a duration, and reads the clock again, so its token could end a second too late.
        end = min(now + seconds(ttl), int(verified.expires_at.timestamp()))
        claims = {**verified.tenant._asdict(), "aud": audience, "iat": now, "exp": end}
        if verified.subject is not None:
            claims["sub"] = verified.subject
        if self._promote_from:
            claims["from"] = self._promote_from
        return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": kid})

    def _problem(self, token: str, claims: dict[str, Any], key: Any, algorithm: str) -> tuple[str, str] | None:
        """What is wrong with the signature or the registered claims, and what to do."""
        try:
            jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            return next(problem for cls, problem in PROBLEMS.items() if isinstance(error, cls))
        # PyJWT 2.10.0 takes a part of the issuer for it.
        if claims["iss"] != self._issuer:
            return PROBLEMS[jwt.InvalidIssuerError]
        # Its leeway is for exp too. Ours is not: what is over cannot be exchanged for something that is not.
        if claims["exp"] <= time.time():
            return PROBLEMS[jwt.ExpiredSignatureError]
        return None

    def _level(self, level: str, claims: dict[str, Any]) -> str:
        source = self._claims[level]
        if isinstance(source, Fixed):
            return source.value
        value: Any = claims
        for name in source:
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, str) or LEVEL.fullmatch(value) is None:
            raise _refused(
                "a claim names no level of a tenant",
                "It has to be a string of 1 to 63 characters out of A-Z a-z 0-9 . _ + @ ~ = / -",
                detail=f"Level {level}.",
            )
        return value


# What PyJWT raises -> message and hint. The first that fits; its own texts may quote the token.
PROBLEMS: dict[type[Exception], tuple[str, str]] = {
    jwt.InvalidSignatureError: ("the signature does not fit", "Check that jwks is this issuer's."),
    jwt.ExpiredSignatureError: ("this token is over", "Get a new one from the provider."),
    jwt.ImmatureSignatureError: ("this token is not valid yet", "Compare the clocks; leeway allows for a difference."),
    jwt.InvalidIssuerError: ("this token is of another issuer", "Compare iss with the issuer that is configured."),
    jwt.InvalidAudienceError: ("this token is for another audience", "Compare aud with the audience configured here."),
    jwt.MissingRequiredClaimError: ("a claim is missing", "A token needs exp, iss and aud."),
    jwt.PyJWTError: ("this token is not valid", "Send the provider's signed JWT in its compact form, unchanged."),
}


def _refused(message: str, hint: str, *, detail: str | None = None) -> IdentityRefused:
    return IdentityRefused(message, detail=detail, hint=hint)


# Reading a token, stricter than PyJWT does: no name twice, one spelling, numbers that are numbers


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


def _no_constant(text: str) -> float:
    raise ValueError("NaN and Infinity are not JSON")


def _decode(segment: str) -> bytes:
    data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != segment:
        raise ValueError("a second spelling of the same bytes")
    return data


def _read(token: object) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Header and claims of a token whose signature nobody has checked yet, or None when it is malformed.

    No error leaves here: it would carry the token along.
    """
    if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH or token.count(".") != 2:
        return None
    try:
        parts = [_decode(segment) for segment in token.split(".")]
        header, claims = (
            json.loads(part.decode(), object_pairs_hook=_once, parse_constant=_no_constant) for part in parts[:2]
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return None
    type_ = header.get("typ", "JWT")
    fits = (
        isinstance(header.get("alg"), str)
        and isinstance(header.get("kid", ""), str)
        and isinstance(type_, str)
        and type_.lower() in TYPES
        # Extensions that change what the token means. jwk, jku, x5c and x5u are never looked at.
        and not {"crit", "b64"} & header.keys()
        and all(isinstance(claims.get(name, ""), str) for name in ("iss", "sub"))
        # As the database takes it for its log.
        and re.fullmatch(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}", claims.get("sub", "-"))
        and all(_is_time(claims[name]) for name in ("exp", "nbf", "iat") if name in claims)
    )
    return (header, claims) if fits else None


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < END_OF_TIME


# What was configured


def _mapping(claims: Mapping[str, str | Fixed]) -> dict[str, tuple[str, ...] | Fixed]:
    if set(claims) != set(Tenant._fields):
        raise InvalidProvider("claims do not name the five levels", hint="Name org, srv, prj, env and code, each once.")
    return {level: _source(level, source) for level, source in claims.items()}


def _source(level: str, source: str | Fixed) -> tuple[str, ...] | Fixed:
    """A fixed value, or the names that lead to a claim."""
    if isinstance(source, Fixed):
        if not isinstance(source.value, str) or LEVEL.fullmatch(source.value) is None:
            raise InvalidProvider(
                "a fixed value is no level of a tenant",
                detail=f"Level {level}.",
                hint="It has 1 to 63 characters out of A-Z a-z 0-9 . _ + @ ~ = / -",
            )
        return source
    if isinstance(source, str) and source and not source.startswith("."):
        return (source,)
    if not isinstance(source, str) or re.fullmatch(f"(?:{_NAME})+", source) is None:
        raise InvalidProvider(
            "a claim is not written as one",
            detail=f"Level {level}.",
            hint='Write its name, or a path such as .realm.org or ."https://example.com/tenant".org',
        )
    return tuple(quoted or plain for quoted, plain in re.findall(_NAME, source))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _location(jwks: str | Path) -> str | Path:
    """A URL that may be fetched, or a file."""
    if isinstance(jwks, Path) or "://" not in jwks:
        return Path(jwks)
    try:
        url = urlsplit(jwks)
        good = url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.hostname or ""))
        good = good and bool(url.hostname) and "@" not in url.netloc and url.port != 0
    except ValueError:  # of a port or an address that is none
        good = False
    if not good or re.fullmatch("[!-~]+", jwks) is None:
        raise InvalidProvider(
            "jwks is no URL that keys may be fetched from",
            hint="Give a file, or a URL with https and without a user name; http is for loopback hosts.",
        )
    return jwks


# The provider's keys


class _Key(NamedTuple):
    kid: str | None
    algorithm: str
    key: Any


class _KeySet(NamedTuple):
    keys: list[_Key]
    alone: bool  # one key in all, usable or not
    fetched_at: float


class _Fetch(NamedTuple):
    done: threading.Event
    given_up_at: float


def _key(entry: Any, algorithms: Sequence[str]) -> _Key | None:
    """A public key for one of the algorithms, or None: a set may hold others."""
    if not isinstance(entry, dict):
        return None
    kind = (entry.get("kty"), entry.get("crv"))
    algorithm = next((name for name in algorithms if KEY_TYPES[name] == kind), None)
    uses = entry.get("key_ops", ["verify"])
    if (
        algorithm is None
        or entry.get("alg", algorithm) != algorithm
        or entry.get("use", "sig") != "sig"
        or not (isinstance(uses, list) and "verify" in uses)
        or "d" in entry  # a private key that was published is nobody's proof
        or not isinstance(entry.get("kid"), str | None)
    ):
        return None
    try:
        key = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if algorithm == "RS256" and key.key_size < 2048:
        return None
    return _Key(entry.get("kid"), algorithm, key)


def _unavailable(detail: str) -> KeysUnavailable:
    return KeysUnavailable(
        "the identity provider's keys cannot be had",
        detail=detail,
        hint="Check jwks and whether it can be reached from here, then try again.",
    )


class _Keys:
    """The provider's keys, fetched when they are needed and kept for a while."""

    def __init__(
        self,
        location: str | Path,
        algorithms: Sequence[str],
        timeout: timedelta,
        lifetime: timedelta,
        max_stale: timedelta,
    ) -> None:
        self._location = location
        self._algorithms = algorithms
        self._timeout = timeout.total_seconds()
        self._lifetime = lifetime.total_seconds()
        self._max_stale = max_stale.total_seconds()
        self._lock = threading.Lock()
        self._fetch: _Fetch | None = None  # that goes on
        self._held: _KeySet | None = None
        self._tried_at = float("-inf")
        self._failure = ""

    def find(self, kid: str | None, algorithm: str) -> Any:
        """The one key of this name and algorithm, or None. Without a name, the key of a set that has only one."""
        held = self._current()
        if kid is not None and all(key.kid != kid for key in held.keys):
            # The provider may have new keys. One caller waits for them: anybody can send a name that nobody knows.
            fetch, began = self._begin()
            if fetch is not None and not (began and fetch.done.wait(self._timeout + GRACE)):
                raise _unavailable("New keys are being fetched.")
            held = self._current()
        fitting = [
            key
            for key in held.keys
            if key.algorithm == algorithm and (key.kid == kid if kid is not None else held.alone)
        ]
        return fitting[0].key if len(fitting) == 1 else None

    def _current(self) -> _KeySet:
        age = self._age()
        if age > self._lifetime:
            fetch, began = self._begin()
            if fetch is not None and age > self._max_stale:
                fetch.done.wait(self._timeout + GRACE)
            elif fetch is not None and began:
                # The others go on with the keys they have, and so does this one when the provider is slow.
                fetch.done.wait(GRACE)
        held = self._held
        if held is None or self._age() > self._max_stale:
            raise _unavailable(self._failure)
        return held

    def _age(self) -> float:
        return float("inf") if self._held is None else _monotonic() - self._held.fetched_at

    def _begin(self) -> tuple[_Fetch | None, bool]:
        """The fetch that goes on, and whether this call began it. None when one was tried a moment ago."""
        with self._lock:
            # One that hangs, or of which a fork took the thread away, is not waited for any longer.
            if self._fetch is not None and time.monotonic() < self._fetch.given_up_at:
                return self._fetch, False
            if _monotonic() - self._tried_at < FETCH_PAUSE:
                return None, False
            fetch = self._fetch = _Fetch(threading.Event(), time.monotonic() + self._timeout + FETCH_PAUSE)
        threading.Thread(target=self._run, args=(fetch,), name="pydb-jwks", daemon=True).start()
        return fetch, True

    def _run(self, fetch: _Fetch) -> None:
        """Fetch the keys. A failure leaves those there are."""
        try:
            self._held = self._load()
        except KeysUnavailable as error:
            self._failure = error.detail or ""
            _log.warning("the identity provider's keys cannot be had: %s", self._failure)
        finally:
            with self._lock:
                self._tried_at = _monotonic()
                if self._fetch is fetch:
                    self._fetch = None
            fetch.done.set()

    def _load(self) -> _KeySet:
        try:
            if isinstance(self._location, Path):
                with self._location.open("rb") as file:
                    data = file.read(MAX_JWKS_BYTES + 1)
            else:
                data = _download(self._location, self._timeout)
            if len(data) > MAX_JWKS_BYTES:
                raise _unavailable(f"The answer is longer than {MAX_JWKS_BYTES} bytes.")
            document = json.loads(data)
        except urllib.error.HTTPError as error:
            error.close()
            raise _unavailable(f"HTTP status {error.code}; redirects are not followed.") from error
        except TimeoutError as error:
            raise _unavailable(f"No complete answer in {self._timeout:g} seconds.") from error
        except (OSError, http.client.HTTPException) as error:
            what = "The file cannot be read" if isinstance(self._location, Path) else "No connection or no answer"
            raise _unavailable(f"{what}: {type(error).__name__}.") from error
        except (ValueError, RecursionError) as error:
            raise _unavailable("The answer is not JSON.") from error
        entries = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise _unavailable("The answer is not a JWK Set.")
        keys = [key for key in (_key(entry, self._algorithms) for entry in entries) if key is not None]
        if not keys:
            raise _unavailable(f"The JWK Set has no public key for {', '.join(self._algorithms)}.")
        return _KeySet(keys, len(entries) == 1, _monotonic())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _download(url: str, timeout: float) -> bytes:
    """The first MAX_JWKS_BYTES + 1 bytes behind a URL. Raises: OSError, HTTPException, ValueError."""
    # A socket's timeout is for one step, and looking a name up has none. So a thread that nobody waits for any longer.
    answer: Future[bytes] = Future()
    deadline = time.monotonic() + timeout

    def run() -> None:
        try:
            answer.set_result(_get(url, timeout, deadline))
        except Exception as error:  # noqa: BLE001  # raised where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=run, name="pydb-jwks", daemon=True).start()
    return answer.result(timeout)


def _get(url: str, timeout: float, deadline: float) -> bytes:
    # http is for this machine, where no proxy belongs between.
    direct = [urllib.request.ProxyHandler({})] if url.lower().startswith("http:") else []
    opener = urllib.request.build_opener(_NoRedirect, *direct)
    request = urllib.request.Request(url, headers={"Accept": "application/json", "User-Agent": "tenant-ai-storage"})
    data = b""
    with opener.open(request, timeout=timeout) as answer:
        while len(data) <= MAX_JWKS_BYTES and (chunk := answer.read1(65_536)):
            data += chunk
            if time.monotonic() > deadline:
                raise TimeoutError
    return data
