"""Makes of roles.sql, migrations/ and sql/ what installs without Python: one file for psql, or an extension.

python3 deploy/installer.py sql FOLDER writes tenant-ai-storage-RELEASE.sql.
python3 deploy/installer.py extension FOLDER writes the control file and scripts of the extension tenant_ai_storage.

Needs nothing but Python: whoever builds the extension has no package of ours installed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_SERVER = 150000

FILE = """\
-- tenant-ai-storage @release@: installs it into a database, or brings an older release to this one.
--
--     psql --file=tenant-ai-storage-@release@.sql --dbname=...
--
-- As a superuser, or a login that has CREATEROLE and owns the database, over a direct connection. One
-- transaction: after an error the database is as it was. Run again, it changes nothing. It prints the
-- files that it applied, and pydb goes on from there. Made by `make dist`; clients other than psql
-- leave the next line out, and stop at errors by themselves.
\\set ON_ERROR_STOP on

begin;
set local client_encoding = 'UTF8';

@functions@
select applied from pg_temp.install() as applied;

drop function pg_temp.install();
drop function pg_temp.files();
commit;
"""

CONTROL = """\
comment = 'tenant-aware storage for the progress of AI models: select tenant_ai_storage.install()'
default_version = '@release@'
schema = 'tenant_ai_storage'
relocatable = false
superuser = false
"""

# The functions are the extension, and the schema that install() makes is not: so pg_dump dumps it with its data, as it
# does after pydb init, and DROP EXTENSION takes none of it away.
SCRIPT = """\
\\echo Use "create extension tenant_ai_storage" to load this file. \\quit

@functions@
revoke execute on all functions in schema @extschema@ from public;
comment on function @extschema@.files() is
    'What release @release@ of tenant-ai-storage consists of: the path and content of each file.';
comment on function @extschema@.install() is
    'Installs tenant-ai-storage @release@ into this database, or brings an older release to it, as '
    'pydb migrate does. Returns the files that it applied.';
"""


def release(root: Path = ROOT) -> str:
    """The version in pyproject.toml."""
    (found,) = re.findall(r'^version = "(.+)"$', (root / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    return str(found)


def earlier_releases(root: Path = ROOT) -> list[str]:
    """The releases in the changelog before this one."""
    named = re.findall(r"^## (\d+\.\d+\.\d+)", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    return [name for name in named if name != release(root)]


def functions(schema: str, root: Path = ROOT) -> str:
    """The functions files() and install(), in a schema."""
    paths = [root / "deploy" / "roles.sql", *sorted(root.glob("migrations/*.sql")), *sorted(root.glob("sql/*.sql"))]
    rows = []
    for path in paths:
        content = path.read_bytes().decode("utf-8")
        assert not re.search(r"\$(file|files)\$", content), f"{path} holds a tag that the installer uses"
        rows.append(f"    ('{path.relative_to(root).as_posix()}', $file${content}$file$)")
    files = (
        "create or replace function @schema@.files()\n"
        "returns table (path pg_catalog.text, content pg_catalog.text)\n"
        "language sql\nimmutable\nas $files$\nvalues\n" + ",\n".join(rows) + "\n$files$;\n\n"
    )
    # Without the template's header, which speaks of the template.
    install = (root / "deploy" / "install.sql").read_text("utf-8").partition("\n\n")[2]
    install = install.replace("@release@", release(root)).replace("@oldest_server@", str(OLDEST_SERVER))
    return (files.replace("@schema@", schema) + install.replace("@schema@", schema)).rstrip("\n") + "\n"


def sql(root: Path = ROOT) -> dict[str, str]:
    """Name -> content of the file for psql."""
    text = FILE.replace("@release@", release(root)).replace("@functions@", functions("pg_temp", root))
    return {f"tenant-ai-storage-{release(root)}.sql": text}


def extension(root: Path = ROOT) -> dict[str, str]:
    """Name -> content of the extension's files. A script leads from each earlier release to this one."""
    script = SCRIPT.replace("@release@", release(root)).replace("@functions@", functions("tenant_ai_storage", root))
    script = script.replace("@extschema@", "tenant_ai_storage")
    return {
        "tenant_ai_storage.control": CONTROL.replace("@release@", release(root)),
        f"tenant_ai_storage--{release(root)}.sql": script,
        **{f"tenant_ai_storage--{old}--{release(root)}.sql": script for old in earlier_releases(root)},
    }


def main() -> int:
    kinds = {"sql": sql, "extension": extension}
    if len(sys.argv) != 3 or sys.argv[1] not in kinds:
        print("usage: python3 deploy/installer.py {sql,extension} FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in kinds[sys.argv[1]]().items():
        (folder / name).write_bytes(content.encode("utf-8"))
        print(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
