"""How fast `pydb import` is: models out of JSON files into tenants, with their history and an audit event each.

Each round imports the same folder anew, into tenants of its own, so that every model is created; then once more, when
all is there already. Rounds of the same models with one connection, of one server process, tell what that costs alone.
"""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import psycopg

from bench.clients import on_cpu
from bench.contenders import state
from bench.server import assigned, describe, install, median_range, named, run_rounds, running_server, table
from pydb import importer
from pydb.cli import IMPORTERS

MODELS = 40_000
FILES = 40
SMALL_FILES = 2_000
DEFAULT_ROUNDS = 7


def write_files(folder: Path) -> dict[str, int]:
    """The same kind of models in two layouts. Returns: folder -> how many models are below it."""
    chance = random.Random(48)
    layouts = {"lines": MODELS, "small": SMALL_FILES}
    for name, models in layouts.items():
        per_file = MODELS // FILES if name == "lines" else 1
        for first in range(0, models, per_file):
            path = folder / name / f"mcp-{first % 3}" / f"project-{first % 2}" / f"{first:06d}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            states = (state(chance, f"model-{number:06d}") for number in range(first, first + per_file))
            path.write_text("\n".join(json.dumps(asdict(one)) for one in states), "utf-8")
    return layouts


def measure(major: int, rounds: int) -> str:
    """Run everything. Returns: the report."""
    with running_server(major) as cluster, ExitStack() as stack:
        dsn, app_dsn = install(cluster, "import")
        machine, versions, settings = describe(dsn)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pydb-bench-")))
        layouts = write_files(folder)
        connections = [stack.enter_context(psycopg.connect(app_dsn, autocommit=True)) for _ in range(IMPORTERS)]
        pids = [connection.info.backend_pid for connection in connections]

        def now() -> tuple[float, float, float]:
            """Seconds: the time, and the processor time of the server's processes and of this one."""
            server = on_cpu(pids)
            return time.perf_counter(), math.nan if server is None else server / 1e6, time.process_time()

        # Models per second, and microseconds of processor time per model: the server's and the client's.
        found: dict[tuple[str, int, str], list[tuple[float, float, float]]] = {}
        load = os.getloadavg()[0]
        for number in range(-1, rounds):
            for layout, models in layouts.items():
                for count in (IMPORTERS, 1):
                    template = f"org-{count}-{number}:{{1}}:{{2}}:{layout}:c1"
                    for what in ("new", "again"):
                        began = now()
                        report = importer.import_files(
                            connections[:count], folder / layout, template, lambda paths, total: paths
                        )
                        ended = now()
                        took, server, client = (end - begin for begin, end in zip(began, ended, strict=True))
                        if (report.saved, report.unchanged)[what == "again"] != models or report.skipped:
                            raise RuntimeError(f"{what}: {report}")
                        if number >= 0:
                            figures = models / took, server / models * 1e6, client / models * 1e6
                            found.setdefault((layout, count, what), []).append(figures)
        load = max(load, os.getloadavg()[0])
    what_is = {"lines": f"files of {MODELS // FILES} models", "small": "files of one model"}
    return "\n".join(
        [
            named(machine, versions),
            assigned(settings),
            f"{rounds} rounds, the first one more is not counted; load average {load:.1f}",
            "",
            "models per second, median and range of the rounds; each with its version in the history and its event;",
            "processor time per model in microseconds, medians: depends less on who else loads the machine",
            *table(
                ("files", "connections", "models", "median", "range", "server us", "client us"),
                [
                    (
                        what_is[layout],
                        str(count),
                        "new" if what == "new" else "there already",
                        *median_range(speeds, ",.0f"),
                        f"{statistics.median(servers):.0f}",
                        f"{statistics.median(clients):.0f}",
                    )
                    for (layout, count, what), figures in found.items()
                    for speeds, servers, clients in [tuple(zip(*figures, strict=True))]
                ],
            ),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    return run_rounds(
        "python -m bench.importer",
        "Measure how many models a second pydb import saves, out of large and small files, by several connections and "
        "by one, and how fast it finds that all are there. Starts a PostgreSQL of its own and removes it in the end.",
        measure,
        DEFAULT_ROUNDS,
        "about four minutes",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
