"""Mints the signed tokens that the database verifies (sql/12_token.sql). Any JWT library does it as well."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from .errors import InvalidArgument

__all__ = ["LEVEL", "MAX_TTL", "Tenant", "mint"]

# What the database takes. mint() leaves the check of levels to it; pydb token and pydb.identity check before.
LEVEL = re.compile(r"[A-Za-z0-9._+@~=/-]{1,63}")
MAX_TTL = timedelta(hours=24)
LONGEST = MAX_TTL - timedelta(minutes=1)  # the clock here may be ahead of the database's
MIN_SECRET = 32  # bytes, as HS256 wants them (RFC 7518, section 3.2); create_signing_key makes 43


class Tenant(NamedTuple):
    """The five levels of a tenant."""

    org: str
    srv: str
    prj: str
    env: str
    code: str


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def check_secret(secret: str) -> None:
    """Refuse a secret that can be guessed from one token. Raises: InvalidArgument."""
    if len(secret.encode()) < MIN_SECRET:
        raise InvalidArgument(
            "the signing key's secret is too short",
            detail=f"It has less than {MIN_SECRET} bytes.",
            hint="Take the secret that create_signing_key, or pydb key create, showed.",
        )


def seconds(ttl: timedelta) -> int:
    """How long a token is good. Above 24 hours it stays as it is, and the database refuses it."""
    return int((LONGEST if LONGEST < ttl <= MAX_TTL else ttl).total_seconds())


def mint(
    tenant: Tenant,
    *,
    kid: str,
    secret: str,
    audience: str,
    ttl: timedelta = timedelta(minutes=15),
    subject: str | None = None,
    promote_from: Sequence[str] = (),
) -> str:
    """Sign a token for one tenant.

    kid, secret, audience: as create_signing_key gave them. ttl: how long it is good, from now, up to 24 hours; one of
    24 hours ends a minute earlier, since two clocks differ. subject: who acts, for the tenant's log: 1 to 255
    characters, no control characters. promote_from: up to 32 code versions of the same four other levels that it may
    promote from.
    Returns: a JWT (RFC 7519) in compact form, signed with HS256.
    Raises: InvalidArgument for a secret of less than 32 bytes, which can be guessed.
    """
    check_secret(secret)
    now = int(time.time())
    claims = {**tenant._asdict(), "aud": audience, "iat": now, "exp": now + seconds(ttl)}
    if subject is not None:
        claims["sub"] = subject
    if promote_from:
        claims["from"] = list(promote_from)
    parts = [{"alg": "HS256", "typ": "JWT", "kid": kid}, claims]
    signed = ".".join(_encode(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{signed}.{_encode(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"
