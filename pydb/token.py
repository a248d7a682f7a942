"""Mints the signed tokens that the database verifies (sql/12_token.sql). Any JWT library does it as well."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from datetime import timedelta
from typing import NamedTuple

__all__ = ["LEVEL", "MAX_TTL", "Tenant", "mint"]

# What the database takes. mint() leaves the check to it; pydb token and pydb.identity check before.
LEVEL = re.compile(r"[A-Za-z0-9._+@~=/-]{1,63}")
MAX_TTL = timedelta(hours=24)


class Tenant(NamedTuple):
    """The five levels of a tenant."""

    org: str
    srv: str
    prj: str
    env: str
    code: str


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def mint(
    tenant: Tenant,
    *,
    kid: str,
    secret: str,
    audience: str,
    ttl: timedelta = timedelta(minutes=15),
    subject: str | None = None,
) -> str:
    """Sign a token for one tenant.

    kid, secret, audience: as create_signing_key gave them. ttl: how long it is good, from now, up to 24 hours.
    subject: who acts, for the tenant's log: 1 to 255 characters, no control characters.
    Returns: a JWT (RFC 7519) in compact form, signed with HS256.
    """
    now = int(time.time())
    claims = {**tenant._asdict(), "aud": audience, "iat": now, "exp": now + int(ttl.total_seconds())}
    if subject is not None:
        claims["sub"] = subject
    parts = [{"alg": "HS256", "typ": "JWT", "kid": kid}, claims]
    signed = ".".join(_encode(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{signed}.{_encode(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"
