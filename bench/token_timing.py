"""Whether time tells how near a forged token came: refused tokens of several kinds and a genuine one, in turns.

What must not differ is what a forger learns from: a known or unknown key, and where a signature first differs. What is
malformed is refused sooner, before any key is looked up; that tells nothing but what the token says itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import psycopg

from bench.server import describe, install, median_range, named, run_rounds, running_server, table

TENANT = {"org": "acme", "srv": "s1", "prj": "p1", "env": "production", "code": "c1"}
VARIANTS = 50
CALLS_PER_ROUND = 10
DEFAULT_ROUNDS = 400
CANONICAL = "AEIMQUYcgkosw048"  # the last character of 32 bytes in base64url
REFERENCE = "signature: last character"


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(secret: str, header: dict[str, Any], claims: dict[str, Any]) -> str:
    signed = ".".join(encode(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{signed}.{encode(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


def kinds(secret: str, number: int) -> dict[str, tuple[str | None, str]]:
    """One token of each kind with the code that refuses it. number: makes it another one, of the same length."""
    now = int(time.time())
    header = {"alg": "HS256", "kid": "k1"}
    claims = {**TENANT, "aud": "here", "exp": now + 80_000, "jti": f"{number:06d}"}
    good = sign(secret, header, claims)
    front, signature = good.rsplit(".", 1)
    claims_text = front.split(".")[1]
    first = "A" if signature[0] != "A" else "B"
    last = next(letter for letter in CANONICAL if letter != signature[-1])
    return {
        "genuine": (None, good),
        REFERENCE: ("TN003", f"{front}.{signature[:-1]}{last}"),
        "signature: first character": ("TN003", f"{front}.{first}{signature[1:]}"),
        "signature: all": ("TN003", sign("x" * 43, header, claims)),
        "key: unknown": ("TN003", sign("x" * 43, {**header, "kid": "k2"}, claims)),
        "key: retired": ("TN003", sign("x" * 43, {**header, "kid": "k0"}, claims)),
        "audience": ("TN003", sign(secret, header, {**claims, "aud": "hare"})),
        "expired": ("TN005", sign(secret, header, {**claims, "exp": now - 80_000})),
        "algorithm": ("TN002", sign(secret, {**header, "alg": "HS384"}, claims)),
        "malformed JSON": ("TN002", f"{front.split('.')[0]}.{claims_text[:-4]}.{signature}"),
        "malformed base64": ("TN002", f"{front}.{signature[:-1]}*"),
    }


def ask(app: psycopg.Connection[Any], token: str) -> tuple[float, str | None]:
    """Microseconds until the answer, and its code."""
    code = None
    began = time.perf_counter()
    try:
        app.execute("select ai_storage.set_tenant(%s)", (token,))
    except psycopg.Error as error:
        took = time.perf_counter() - began
        code = error.sqlstate
    else:
        took = time.perf_counter() - began
    return took * 1e6, code


def measure(major: int, rounds: int) -> str:
    """Run everything. Returns: the report."""
    with running_server(major) as cluster:
        dsn, app_dsn = install(cluster, "token", pattern="acme:*:*:*:*", token_only=True)
        with psycopg.connect(dsn, autocommit=True) as admin:
            make = "select secret from ai_storage.create_signing_key(%s, 'here')"
            secret, _ = (admin.execute(make, (kid,)).fetchall()[0][0] for kid in ("k1", "k0"))
            admin.execute("select ai_storage.retire_signing_key('k0')")
        tokens = [kinds(secret, number) for number in range(VARIANTS)]
        names = list(tokens[0])
        chance = random.Random(46)
        medians: dict[str, list[float]] = {name: [] for name in names}
        with psycopg.connect(app_dsn, autocommit=True) as app:
            for number in range(-rounds // 10, rounds):
                took: dict[str, list[float]] = {name: [] for name in names}
                for _ in range(CALLS_PER_ROUND):
                    for name in chance.sample(names, len(names)):
                        expected, token = chance.choice(tokens)[name]
                        duration, code = ask(app, token)
                        if code != expected:
                            raise RuntimeError(f"{name}: {code} and not {expected}")
                        took[name].append(duration)
                if number >= 0:
                    for name in names:
                        medians[name].append(statistics.median(took[name]))
        machine, versions, _ = describe(dsn)
    rows = []
    for name in names:
        ratios = [mine / reference for mine, reference in zip(medians[name], medians[REFERENCE], strict=True)]
        rows.append(
            (
                name,
                tokens[0][name][0] or "taken",
                f"{statistics.median(medians[name]):.0f}",
                *median_range(ratios, ".3f", tails=20),
            )
        )
    return "\n".join(
        [
            named(machine, versions),
            f"{rounds} rounds of {CALLS_PER_ROUND} calls of each kind, in an order drawn each time",
            "",
            "microseconds, median of the rounds' medians; ratio to the reference in each round, 5 % to 95 %",
            *table(("wrong in", "code", "us", "ratio", "range"), rows),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    return run_rounds(
        "python -m bench.token_timing",
        "Measure whether the time of a refusal tells how near a token came to a genuine one. "
        f"The ratio is to '{REFERENCE}'. Starts a PostgreSQL of its own and removes it in the end.",
        measure,
        DEFAULT_ROUNDS,
        "about 20 seconds",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
