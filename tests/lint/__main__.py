"""Runs the SQL linters, `make lint`: pgspot, pgrls, squawk and plpgsql_check. A finding fails the run.

Those that stay are listed in tests/lint/exceptions.py, each with its reason; one that is listed and no longer found
fails the run as well. Before a linter's silence counts, it has to find the fault in a bad sample. plpgsql_check comes
from apt: where it is missing the run says so, and fails in CI only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import psycopg

from pydb import migrate
from tests import servers
from tests.conftest import FAST, new_cluster
from tests.lint.exceptions import EXCEPTIONS, Exceptions

ROOT = Path(__file__).parent.parent.parent
SCHEMAS = ["ai_storage", "ai_storage_private", "ai_storage_migration"]


class Finding(NamedTuple):
    """What a linter says of one object: a function, table or policy, or else a file."""

    tool: str
    rule: str
    target: str
    message: str


class LinterError(Exception):
    """A linter did not do its work."""


def _run(name: str, *options: str | Path, text: str = "", passable: str = "") -> str:
    """What a linter of an environment of its own prints. passable: a pattern for lines it may print as errors."""
    program = Path(sys.prefix) / "linters" / name / "bin" / name
    # From the root: a tool then takes no configuration of the folder it happens to be called in.
    done = subprocess.run([program, *options], input=text, capture_output=True, text=True, cwd="/")
    complaints = [line for line in done.stderr.splitlines() if not (passable and re.match(passable, line))]
    if done.returncode not in (0, 1) or complaints:
        raise LinterError(f"{name} ended with {done.returncode}: " + "\n".join(complaints))
    return done.stdout


# As `pydb migrate` applies the files: into schemas that belong to the owner, on a search path that nobody else can
# write to. It need not name pg_temp, which holds what the installer's own session made, but pgspot wants it last.
APPLIED = "".join(f"create schema {schema}; " for schema in SCHEMAS)
APPLIED += "set search_path = ai_storage_migration, pg_temp; "

SPOTTED = re.compile(r"^(PS\d{3}): ([^:]*): (.*?) at line (\d+)$", re.MULTILINE | re.DOTALL)


def pgspot(file: str, text: str) -> list[Finding]:
    """SQL that an attacker's objects, or his search path, could lead astray."""
    # Its parser of PL/pgSQL knows no types but the server's own.
    text = re.sub(r"\b([pv]_\w+\s+(?:constant\s+)?)ai_storage_(?:private|front)\.\w+", r"\1record", text)
    text = re.sub(r"^returns ai_storage_private\.\w+", "returns record", text, flags=re.MULTILINE)
    # roles.sql creates the schemas, and anybody may run it in psql on a path of his own.
    before = "" if file == "deploy/roles.sql" else APPLIED
    shown = _run("pgspot", text=before + text)
    if rest := re.sub(r"\s*Errors: \d+ Warnings: \d+ Unknown: 0\s*", "", SPOTTED.sub("", shown)).strip():
        raise LinterError(f"pgspot on {file}: {rest}")
    found, pathless = [], set()
    for rule, title, context, where in SPOTTED.findall(shown):
        if rule == "PS005":
            pathless.add(where)
        elif where in pathless and rule in ("PS001", "PS009", "PS016", "PS017"):
            continue  # of a function without a search path PS005 says it once, these at each name and operator in it
        target = file if rule in ("PS001", "PS009", "PS016", "PS017", "PS018") else context.partition("(")[0]
        found.append(Finding("pgspot", rule, target, f"{file}:{where}: {title}: {context}"))
    return found


def squawk(file: str, text: str) -> list[Finding]:
    """Migrations that block a database in use, or cannot be undone or repeated."""
    # `pydb migrate` sets a lock_timeout and applies all in one transaction. An exception is listed, never inline.
    text = "set local lock_timeout = '10s'; " + text.replace("squawk-ignore", "")
    options = ["--reporter=json", "--pg-version=15.0", "--assume-in-transaction", f"--stdin-filepath={file}"]
    return [
        Finding("squawk", said["rule_name"], file, f"{file}:{said['line'] + 1}: {said['message']}")
        for said in json.loads(_run("squawk", *options, text=text))
    ]


def pgrls(dsn: str) -> list[Finding]:
    """Tables without row level security, policies that let too much through, and ways around them."""
    options = ["lint", "--database-url", dsn, "--schemas", ",".join(SCHEMAS), "--format", "json"]
    # That rule reads functions in SQL only, and says so.
    shown = _run("pgrls", *options, passable="pgrls: warning: VIEW004 skipped SECURITY DEFINER function")
    return [
        Finding("pgrls", said["rule_id"], said["location"], f"{said['location']}: {said['message']}")
        for said in json.loads(shown)["violations"]
    ]


def plpgsql_check(dsn: str) -> list[Finding]:
    """Errors that PL/pgSQL reports only when it runs into them: columns, types, unused variables, volatility."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create extension if not exists plpgsql_check")
        # A trigger function is checked once for each table it serves.
        rows = connection.execute(
            """
            select
                p.oid::regproc::text, f.level, f.lineno, f.message, f.detail, f.context, f.sqlstate
            from pg_proc as p
            join pg_language as l on l.oid = p.prolang and l.lanname = 'plpgsql'
            left join pg_trigger as t on t.tgfoid = p.oid and not t.tgisinternal
            cross join lateral plpgsql_check_function_tb(
                p.oid, coalesce(t.tgrelid, 0), oldtable => t.tgoldtable, newtable => t.tgnewtable,
                fatal_errors => false, other_warnings => true, extra_warnings => true,
                performance_warnings => true, security_warnings => true,
                compatibility_warnings => true, use_incomment_options => false
            ) as f
            where p.pronamespace = any (%s::regnamespace[])
            order by p.oid::regproc::text, f.lineno
            """,
            (SCHEMAS,),
        ).fetchall()
    return [
        Finding(
            "plpgsql_check",
            message,
            name,
            f"{name}:{line or ''} {level} {state}: {'; '.join(filter(None, (message, detail, context)))}",
        )
        for name, level, line, message, detail, context, state in rows
    ]


FILES = [
    *sorted(ROOT.glob("sql/*.sql")),
    *sorted(ROOT.glob("migrations/*.sql")),
    ROOT / "deploy" / "roles.sql",
    ROOT / "front" / "base.sql",
    ROOT / "front" / "rights.sql",
]

BAD_FUNCTION = """
create function ai_storage_private.bad() returns bigint language plpgsql security definer
as $fn$ begin return (select t.no_such_column from ai_storage_private.tenant as t); end; $fn$;
"""
BAD_INDEX = "create index bad on ai_storage_private.tenant (org_id);"
BAD_TABLE = APPLIED + "create table ai_storage.bad (tenant_id bigint);"


def _expect(rule: str, found: list[Finding]) -> None:
    """Prove that a linter can fail."""
    if not any(finding.rule == rule for finding in found):
        raise LinterError(f"no linter says {rule} of a bad sample, but {[finding[:3] for finding in found]}")


def check_files() -> list[Finding]:
    _expect("PS003", pgspot("sample", BAD_FUNCTION))
    _expect("require-concurrent-index-creation", squawk("sample", BAD_INDEX))
    found = []
    for path in FILES:
        file, text = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        found += pgspot(file, text)
        if path.parent.name == "migrations":
            found += squawk(file, text)
    return found


cluster_of = contextmanager(new_cluster)


def check_policies() -> list[Finding]:
    with cluster_of(servers.bin_dir(18)) as cluster:
        cluster.start(FAST, database="bad")
        with psycopg.connect(cluster.url("bad")) as connection:
            connection.execute(BAD_TABLE)
        _expect("SEC001", pgrls(cluster.url("bad")))
        cluster.start(database="good")
        migrate.init(cluster.url("good"))
        return pgrls(cluster.url("good"))


def check_functions() -> list[Finding]:
    with cluster_of(servers.bin_dir(15)) as cluster:
        cluster.start(FAST, database="scratch")
        dsn = cluster.url("scratch")
        migrate.init(dsn)
        found = plpgsql_check(dsn)
        with psycopg.connect(dsn) as connection:
            connection.execute(BAD_FUNCTION)
        _expect("column t.no_such_column does not exist", plpgsql_check(dsn))
        return found


def compare(found: list[Finding], exceptions: list[Exceptions], checked: set[str]) -> tuple[list[Finding], list[str]]:
    """Set the findings of the linters that ran, checked, against the exceptions.

    Returns: the findings nobody excepted, and the exceptions that nothing was found for.
    """
    excepted = [
        (tool, rule, pattern) for tool, rules, targets, _ in exceptions for rule in rules for pattern in targets
    ]
    used = set()
    unlisted = []
    for finding in found:
        matching = {entry for entry in excepted if all(map(fnmatchcase, finding[:3], entry))}
        used |= matching
        if not matching:
            unlisted.append(finding)
    stale = [" ".join(entry) for entry in excepted if entry[0] in checked and entry not in used]
    return unlisted, stale


def main() -> int:
    checks: list[tuple[set[str], Callable[[], list[Finding]]]] = [
        ({"pgspot", "squawk"}, check_files),
        ({"pgrls"}, check_policies),
    ]
    missing, failed = "", False
    try:
        servers.require_extension("plpgsql_check")
        checks.append(({"plpgsql_check"}, check_functions))
    except servers.NoServer as error:
        missing = f"NOT CHECKED by plpgsql_check: {error}"
        failed = error.unsafe or bool(os.environ.get("CI"))

    found, checked = [], set()
    for tools, check in checks:
        try:
            found += check()
        except LinterError as error:
            print(error)
            return 1
        checked |= tools
    unlisted, stale = compare(found, EXCEPTIONS, checked)
    for finding in unlisted:
        print(f"{finding.tool} {finding.rule} {finding.message}")
    for entry in stale:
        print(f"no longer found, so take it off tests/lint/exceptions.py: {entry}")
    if missing:
        print(missing)
    print(
        f"{', '.join(sorted(checked))}: {len(unlisted)} findings, {len(found) - len(unlisted)} excepted with a reason"
    )
    return 1 if failed or unlisted or stale else 0


if __name__ == "__main__":
    sys.exit(main())
