"""Whether time tells an outsider what others have: asking for a thing of another tenant beside a thing of nobody.

Both questions of a pair get the same answer, and are asked in turns, call by call, so whatever else the machine does
hits both alike. Each asks for another name every time, so that nothing is warm for one of them alone.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from bench.server import describe, install, median_range, named, run_rounds, running_server, table

ME = "acme:s1:p1:production:c1"
OTHERS = 1000
MODELS = 10
CALLS_PER_ROUND = 40
DEFAULT_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Pair:
    """One question, asked of a thing that another tenant has, and of one that nobody has."""

    name: str
    statement: str
    thing: str


PAIRS = (
    Pair("load a model by name", f"select * from ai_storage.load_progress(%s, p_as => '{ME}')", "model"),
    Pair("history of a model", f"select * from ai_storage.load_history(%s, p_as => '{ME}')", "model"),
    Pair("delete a model", f"select ai_storage.delete_progress(%s, p_as => '{ME}')", "model"),
    Pair("history at an owner", f"select * from ai_storage.load_history('m0', %s, p_as => '{ME}')", "tenant"),
    Pair(
        "save at an owner", f"select * from ai_storage.save_progress('m0', 1, p_owner => %s, p_as => '{ME}')", "tenant"
    ),
    Pair("act as a tenant", "select * from ai_storage.load_progress('m0', p_as => %s)", "tenant"),
    Pair("revoke a share", f"select ai_storage.revoke_share(%s, '{ME}')", "share"),
)


def other(number: int) -> str:
    """The key of another tenant; beyond OTHERS, of nobody."""
    return f"beta{number % 97:02d}:s{number % 7}:p{number:05d}:production:c1"


def fill(dsn: str) -> dict[str, tuple[list[Any], list[Any]]]:
    """Fill the database. Returns: for each kind of thing, those that others have and those that nobody has."""
    chance = random.Random(44)
    shares: list[Any] = []
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("select ai_storage.authorize_login(%s, '*:*:*:*:*')", ("bench_victims",))
    with psycopg.connect(make_conninfo(dsn, user="bench_victims"), autocommit=True) as victims:
        names = [f"model-{number:06d}-{chance.getrandbits(32):08x}" for number in range(OTHERS * MODELS)]
        for number in range(OTHERS):
            mine = names[number * MODELS : (number + 1) * MODELS]
            items = [{"model_name": name, "mse": 0.5} for name in [*mine, "m0"]]
            victims.execute("select ai_storage.save_progress_batch(%s, %s)", (Jsonb(items), other(number)))
            shares += victims.execute(
                "select share_id from ai_storage.share_model('m0', '[{\"code_hash\": \"c2\"}]', p_as => %s)",
                (other(number),),
            ).fetchall()
        victims.execute("select ai_storage.save_progress('own', 1, p_as => %s)", (ME,))
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("vacuum analyze")
        made_up = admin.execute("select gen_random_uuid() from generate_series(1, %s)", (OTHERS,)).fetchall()
    nobodys = [f"model-{number:06d}-{chance.getrandbits(32):08x}" for number in range(OTHERS * MODELS)]
    return {
        "model": (names, nobodys),
        "tenant": ([other(n) for n in range(OTHERS)], [other(n) for n in range(OTHERS, 2 * OTHERS)]),
        "share": ([share for (share,) in shares], [share for (share,) in made_up]),
    }


def ask(app: psycopg.Connection[Any], statement: str, thing: object) -> float:
    """Microseconds until the answer, rows or a refusal."""
    began = time.perf_counter()
    with suppress(psycopg.Error):
        app.execute(statement, (thing,)).fetchall()
    return (time.perf_counter() - began) * 1e6


def measure(major: int, rounds: int) -> str:
    """Run everything. Returns: the report."""
    with running_server(major) as cluster:
        with psycopg.connect(cluster.url(), autocommit=True) as connection:
            connection.execute("create role bench_victims login")
        dsn, app_dsn = install(cluster, "oracle", pattern="acme:*:*:*:*")
        things = fill(dsn)
        chance = random.Random(45)
        medians: dict[str, list[tuple[float, float]]] = {pair.name: [] for pair in PAIRS}
        with psycopg.connect(app_dsn, autocommit=True) as app:
            for number in range(-rounds // 10, rounds):
                for pair in PAIRS:
                    took: tuple[list[float], list[float]] = ([], [])
                    for turn in range(CALLS_PER_ROUND):
                        # first the one, then the other: whoever comes second may find things warm
                        for side in (0, 1) if turn % 2 else (1, 0):
                            thing = chance.choice(things[pair.thing][side])
                            took[side].append(ask(app, pair.statement, thing))
                    if number >= 0:
                        medians[pair.name].append((statistics.median(took[0]), statistics.median(took[1])))
        machine, versions, _ = describe(dsn)
    rows = []
    for name, pairs in medians.items():
        ratios = [theirs / nobodys for theirs, nobodys in pairs]
        rows.append(
            (
                name,
                f"{statistics.median(theirs for theirs, _ in pairs):.0f}",
                f"{statistics.median(nobodys for _, nobodys in pairs):.0f}",
                *median_range(ratios, ".3f", tails=20),
            )
        )
    return "\n".join(
        [
            named(machine, versions),
            f"{OTHERS} tenants x {MODELS + 1} models; {rounds} rounds of {CALLS_PER_ROUND} calls each, in turns",
            "",
            "microseconds, median of the rounds' medians; ratio of each round: its median and 5 % to 95 %",
            *table(("question", "another's", "nobody's", "ratio", "range"), rows),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    return run_rounds(
        "python -m bench.oracle_timing",
        "Measure whether the time of an answer tells what other tenants have. A ratio of 1 tells nothing. "
        "Starts a PostgreSQL of its own and removes it in the end.",
        measure,
        DEFAULT_ROUNDS,
        "about a minute",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
