"""Runs the tests on every supported PostgreSQL: all of them on 18 and 15, those of the SQL on 17 and 16.

A version that has no safe server here is named at the end. It fails the run in CI, and wherever an unsafe minor is
installed: a result from a server with known holes would prove nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests import servers

SUITES = {18: [], 15: [], 17: ["-m", "sql"], 16: ["-m", "sql"]}


def main() -> int:
    failed, missing = [], []
    for major, selection in SUITES.items():
        try:
            servers.bin_dir(major)
        except servers.NoServer as error:
            missing.append(str(error))
            failed += [major] if error.unsafe or os.environ.get("CI") else []
            continue
        print(f"\n=== PostgreSQL {major}{': SQL tests' if selection else ''} ===", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "--pg", str(major), *selection, *sys.argv[1:]]
        if subprocess.run(command).returncode != 0:
            failed.append(major)
    for reason in missing:
        print(f"\nNOT TESTED: {reason}")
    print(f"\nfailed on PostgreSQL {', '.join(map(str, failed))}" if failed else "\nall suites passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
