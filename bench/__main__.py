"""`python -m bench`: save and load beside what people write by hand, and beside MLflow and LangGraph."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import measures, page
from bench.server import add_major, end_well


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure save and load beside a bare table, the usual hand-written designs, MLflow and LangGraph. "
        "Starts a PostgreSQL of its own with durable settings and removes it in the end.",
        epilog="Without --quick, writes docs/benchmarks.json, docs/benchmarks.md and docs/benchmarks/.",
    )
    parser.add_argument("--quick", action="store_true", help="about a minute instead of ten; writes nothing into docs")
    parser.add_argument("--write", action="store_true", help="write into docs after a quick run too")
    parser.add_argument("--docs", type=Path, default=page.DOCS, help="the folder to write into (default: %(default)s)")
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page from benchmarks.json")
    parser.add_argument(
        "--payload",
        choices=("plain", "rich"),
        default="plain",
        help="plain: about 45 bytes of metadata; rich: about 150, and three metrics (default: %(default)s)",
    )
    add_major(parser)
    options = parser.parse_args(arguments)
    if options.page:
        page.write_page(page.load_report(options.docs / "benchmarks.json"), options.docs)
        return 0

    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {line}", file=sys.stderr, flush=True)

    def run() -> None:
        plan = measures.QUICK if options.quick else measures.FULL
        report = measures.measure(options.pg, plan, options.payload, quick=options.quick, say=say)
        print(page.render(report))
        if options.write or not options.quick:
            options.docs.mkdir(parents=True, exist_ok=True)
            page.save_report(report, options.docs / "benchmarks.json")
            page.write_page(report, options.docs)

    return end_well(run)


if __name__ == "__main__":
    sys.exit(main())
