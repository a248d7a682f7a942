"""Runs the tests on every supported PostgreSQL: all on 18, what asks the server on 15, those of the SQL on 17 and 16.

Two suites run at a time, each on a server of its own; a suite's output is printed when it has ended.

A version that has no safe server here is named at the end. It fails the run in CI, and wherever an unsafe minor is
installed: a result from a server with known holes would prove nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from tests import servers

# What another server does not change: the text of the files, pages, pictures, commands, the web, other languages, what
# lies in Redis; and the long walk through the rules of sharing, each of which has a test of its own.
ONCE = [
    "audit_cli",
    "bench",
    "cache",
    "cli",
    "clients",
    "code_hash",
    "cost",
    "demo",
    "deploy",
    "embedded",
    "environment",
    "evidence",
    "example_mcp",
    "example_web",
    "graph",
    "identity",
    "importer",
    "layout",
    "lint",
    "pages",
    "release",
    "monitoring",
    "network",
    "retention_cli",
    "rollout",
    "sharing_model",
    "tracing",
    "web",
]
LATER = [f"--ignore=tests/test_{name}.py" for name in ONCE]
# Seconds after which a suite that has not ended is stopped, so that a run can say which one it was.
AT_MOST = 2400
SUITES = {18: [], 15: LATER, 17: ["-m", "sql", *LATER], 16: ["-m", "sql", *LATER]}


def run(major: int, selection: list[str]) -> bool:
    """Run the suite of one version and print what it says."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "--pg", str(major), *selection, *sys.argv[1:]]
    # Not a pipe: a process that a test left behind would hold it open, and the run with it.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as suite:
            try:
                suite.wait(AT_MOST)
            except subprocess.TimeoutExpired:
                suite.send_signal(signal.SIGABRT)  # on which the faulthandler that pytest enables shows every thread
        output.seek(0)
        said = output.read()
    kind = ": SQL tests" if "sql" in selection else ""
    print(f"\n=== PostgreSQL {major}{kind}, {time.monotonic() - began:.0f} s ===\n{said}", flush=True)
    return suite.returncode == 0


def main() -> int:
    failed, missing, suites = [], [], []
    for major, selection in SUITES.items():
        try:
            servers.bin_dir(major)
        except servers.NoServer as error:
            missing.append(str(error))
            failed += [major] if error.unsafe or os.environ.get("CI") else []
        else:
            suites.append((major, selection))
    with ThreadPoolExecutor(2) as pool:
        passed = pool.map(lambda suite: run(*suite), suites)
    failed += [major for (major, _), good in zip(suites, passed, strict=True) if not good]
    for reason in missing:
        print(f"\nNOT TESTED: {reason}")
    print(f"\nfailed on PostgreSQL {', '.join(map(str, failed))}" if failed else "\nall suites passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
