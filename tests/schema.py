"""The schema as text: what pg_dump says of a database, without what differs between two equal ones.

`python -m tests.schema` writes the golden dump that test_drift compares with (`make golden`).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from pydb.embedded import Cluster

GOLDEN = Path(__file__).parent / "golden" / "schema.sql"
# pg_dump words a schema differently in each major version, so the golden dump is one version's.
GOLDEN_MAJOR = 18


def dump(cluster: Cluster, dsn: str) -> str:
    """Schemas, types, tables, functions, policies, owners, rights and comments."""
    libraries = cluster.bin_dir.parent / "lib"
    shown = subprocess.run(
        [cluster.bin_dir / "pg_dump", "--schema-only", "--schema=ai_storage*", "--dbname", dsn],
        capture_output=True,
        text=True,
        check=True,
        env={"LD_LIBRARY_PATH": str(libraries)} if (libraries / "libpq.so.5").exists() else {},
    ).stdout
    # The version of the dump's tools, and a random key against psql commands in restored text.
    shown = re.sub(r"^(-- Dumped .*|\\(un)?restrict .*)\n", "", shown, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", shown)


def main() -> None:
    from pydb import migrate
    from tests import servers
    from tests.conftest import FAST, new_cluster

    for cluster in new_cluster(servers.bin_dir(GOLDEN_MAJOR)):
        cluster.start(FAST, database="golden")
        dsn = cluster.url("golden")
        migrate.init(dsn)
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(dump(cluster, dsn))
        print(f"wrote {GOLDEN}", file=sys.stderr)


if __name__ == "__main__":
    main()
