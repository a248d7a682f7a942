"""The ways in without Python: one file for psql, and the extension. Both end where `pydb init` does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from deploy import installer
from pydb import NotAuthorized, TenantAwareStorage, doctor, migrate
from tests.conftest import Database, Server
from tests.helpers import ACME, client, dump, key, until
from tests.schema import GOLDEN, GOLDEN_MAJOR
from tests.schema import dump as schema_of

ROOT = Path(__file__).parent.parent
LEDGER = "select path, sha256 from ai_storage_migration.applied_file order by 1"
SCHEMAS = "select count(*) from pg_namespace where nspname like 'ai_storage%'"
# Of the logins in a database, and not of how it was installed.
OF_LOGINS = {"authorization-unused", "authorization-wide"}


def said(page: str, begins: str) -> str:
    """The one statement of a page that begins so. tests/pages.py follows the rest of it."""
    lines = [line.strip() for line in (ROOT / "docs" / "how-to" / page).read_text().splitlines()]
    (found,) = [line for line in lines if line.startswith(begins)]
    return found


def run_file(server: Server, dsn: str, file: Path, *, check: bool = True) -> tuple[list[str], str]:
    """Run an installing file. Returns: the files it says it applied, and what it said of errors."""
    options = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align")
    done = client(server, "psql", *options, "--file", file, "--dbname", dsn, check=check)
    # psql's own code for a script that stopped at an error.
    assert done.returncode == (0 if check else 3), done
    return done.stdout.split(), done.stderr


def write(folder: Path, root: Path = ROOT) -> Path:
    """The file for psql, made of a source tree."""
    ((name, content),) = installer.sql(root).items()
    path = folder / name
    path.write_text(content, "utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path)


@pytest.fixture
def next_tree(tmp_path: Path) -> Path:
    """The sources of a next release, with a migration and a changed function."""
    root = tmp_path / "next"
    for folder in ("sql", "migrations", "deploy"):
        shutil.copytree(ROOT / folder, root / folder)
    for name, before, after in (
        ("pyproject.toml", f'version = "{installer.release()}"', 'version = "99.0.0"'),
        ("sql/00_version.sql", f"select '{installer.release()}'", "select '99.0.0'"),
        ("CHANGELOG.md", "# Changelog\n", "# Changelog\n\n## 99.0.0 (unreleased)\n"),
    ):
        text = (ROOT / name).read_text()
        assert text.count(before) == 1
        (root / name).write_text(text.replace(before, after))
    (root / "migrations" / "9999_note.sql").write_text(
        "create table ai_storage_private.note (tenant_id bigint not null);\n"
        "alter table ai_storage_private.note enable row level security;\n"
        "alter table ai_storage_private.note force row level security;\n"
    )
    return root


def everything(database: Database) -> tuple[str, list[Any], list[Any]]:
    """The schema, what the ledger holds, and what yoyo's tables hold."""
    admin = database.connect()
    return (
        schema_of(database.server.cluster, database.dsn()),
        admin.execute(LEDGER).fetchall(),
        admin.execute(
            "select migration_hash, migration_id, l.operation, l.username, l.hostname, l.comment, v.version "
            "from ai_storage_migration._yoyo_migration "
            "join ai_storage_migration._yoyo_log as l using (migration_hash, migration_id) "
            "cross join ai_storage_migration._yoyo_version as v order by 2"
        ).fetchall(),
    )


def ailing(database: Database) -> set[str]:
    with migrate.connect(database.dsn()) as connection:
        return {result.id for result in doctor.examine(connection) if result.status == "failed"} - OF_LOGINS


def test_the_file_makes_what_pydb_makes_and_pydb_goes_on_from_it(
    empty_database: Database, database: Database, file: Path
) -> None:
    server = empty_database.server
    schema = migrate.Schema()
    assert run_file(server, empty_database.dsn(), file)[0] == [*schema.migrations, *schema.files]
    assert everything(empty_database) == everything(database)
    if server.major == GOLDEN_MAJOR:
        assert everything(empty_database)[0] == GOLDEN.read_text()

    assert {entry.state for entry in migrate.status(empty_database.dsn())} == {"applied"}
    assert migrate.migrate(empty_database.dsn()) == []
    assert ailing(empty_database) == ailing(database)

    before = everything(empty_database), dump(empty_database)
    assert run_file(server, empty_database.dsn(), file) == ([], "")
    assert (everything(empty_database), dump(empty_database)) == before

    migrate.init(empty_database.dsn(), app_login="app", pattern="acme:*:*:*:*")
    assert empty_database.storage(ACME).save_ai_progress("m", 0.5).version == 1


def test_a_newer_file_upgrades_and_the_older_one_is_refused_then(
    empty_database: Database, database: Database, file: Path, next_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = database.server
    database.storage(ACME).save_ai_progress("m", 0.5)
    rows = dump(database)
    newer = write(next_tree, next_tree)
    schema = migrate.Schema(next_tree)
    # All of sql/ follows a migration.
    assert run_file(server, database.dsn(), newer)[0] == ["migrations/9999_note.sql", *schema.files]
    assert dump(database) == {**rows, "note": []}
    monkeypatch.setattr(migrate, "__version__", "99.0.0")
    assert migrate.migrate(database.dsn(), schema=schema) == []
    assert {entry.state for entry in migrate.status(database.dsn(), schema=schema)} == {"applied"}
    run_file(server, empty_database.dsn(), newer)
    assert everything(database) == everything(empty_database)

    # Without a migration, from the first changed file on.
    changed = next_tree / "sql" / "55_metrics.sql"
    changed.write_text(changed.read_text() + "\n-- a change\n")
    assert run_file(server, database.dsn(), write(next_tree, next_tree))[0] == [
        "sql/55_metrics.sql",
        "sql/60_cell.sql",
        "sql/62_move.sql",
        "sql/90_grants.sql",
    ]
    (next_tree / "migrations" / "9999_other.sql").write_text(
        "create index note_key on ai_storage_private.note (tenant_id);\n"
    )
    added = run_file(server, database.dsn(), write(next_tree, next_tree))[0]
    assert added == ["migrations/9999_other.sql", *schema.files]

    before = everything(database)
    _, said = run_file(server, database.dsn(), file, check=False)
    assert "newer" in said
    assert everything(database) == before


def test_the_file_stops_at_the_first_error_and_leaves_the_database_as_it_was(
    empty_database: Database, database: Database, file: Path, next_tree: Path, tmp_path: Path
) -> None:
    server = database.server

    def refused(where: Database, changed: Path, what: str, user: str = "postgres") -> None:
        applied, said = run_file(server, where.dsn(user), changed, check=False)
        assert applied == []
        assert what in said
        assert "HINT:  " in said
        # Not the texts of the files.
        assert len(said) < 1000

    text = file.read_text()
    broken = tmp_path / "broken.sql"

    assert text.count(" < 150000 then") == 1
    broken.write_text(text.replace(" < 150000 then", " < 990000 then"))
    refused(empty_database, broken, "too old")

    last = (next_tree / "sql" / "90_grants.sql").read_text()
    (next_tree / "sql" / "90_grants.sql").write_text(last + "select 1 / 0;\n")
    refused(empty_database, write(next_tree, next_tree), "sql/90_grants.sql: division by zero")

    refused(empty_database, file, "CREATEROLE", user="stranger")
    assert empty_database.connect().execute(SCHEMAS).fetchone() == (0,)

    before = everything(database)
    assert text.count("create table ai_storage_private.tenant (") == 1
    broken.write_text(
        text.replace("create table ai_storage_private.tenant (", "create table  ai_storage_private.tenant (")
    )
    refused(database, broken, "migrations/0001_tenant.sql")
    holder = database.connect()
    holder.execute("begin")
    holder.execute("lock table ai_storage_migration.applied_file in exclusive mode")
    refused(database, file, "another migration")
    holder.execute("rollback")
    assert everything(database) == before

    admin = database.connect()
    admin.execute("create database latin encoding 'LATIN1' locale 'C' template template0")
    try:
        _, said = run_file(server, server.dsn(dbname="latin"), file, check=False)
        assert "UTF8" in said
    finally:
        admin.execute("drop database latin with (force)")


def test_the_file_takes_no_superuser_and_no_role_that_another_administrator_made(
    own_server: Server, file: Path
) -> None:
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("create role plain_admin login createrole")
        admin.execute("create database managed owner plain_admin")
        admin.execute("create database other")
    dsn = own_server.dsn("plain_admin", "managed")
    assert run_file(own_server, dsn, file)[0]
    assert run_file(own_server, dsn, file) == ([], "")
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("create role acme_app login")
        admin.execute("select ai_storage.authorize_login('acme_app', 'acme:*:*:*:*')")
    with TenantAwareStorage.from_dsn(own_server.dsn("acme_app", "managed"), ACME) as storage:
        assert storage.save_ai_progress("m", 0.5).version == 1
    _, said = run_file(own_server, own_server.dsn(dbname="other"), file, check=False)
    assert "plain_admin is a member of it" in said
    assert "revoke ai_storage_" in said


def test_the_file_runs_nothing_that_lies_on_its_path(own_server: Server, file: Path) -> None:
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("create role mallory login")
        admin.execute("create database hers owner mallory")
    with psycopg.connect(own_server.dsn("mallory", "hers"), autocommit=True) as mallory:
        mallory.execute("create schema evil")
        mallory.execute(
            "create function evil.spring() returns boolean language plpgsql as "
            "$$ begin alter role mallory superuser; return true; end $$"
        )
        for name in ("text", "name", "oid", "regclass", "int8", "varchar"):
            mallory.execute(f"create domain evil.{name} as pg_catalog.{name} check (evil.spring())")
        for function, result in (("set_config(text, text, boolean)", "$2"), ("current_setting(text)", "''")):
            mallory.execute(
                f"create function evil.{function} returns pg_catalog.text language sql as "
                f"$$ select case when evil.spring() then {result} end $$"
            )
        mallory.execute("alter database hers set search_path = evil, pg_catalog")
    dsn = own_server.dsn("postgres", "hers")
    for expected in (True, False):
        assert bool(run_file(own_server, dsn, file)[0]) == expected
    assert {entry.state for entry in migrate.status(dsn)} == {"applied"}
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        assert admin.execute("select rolsuper from pg_roles where rolname = 'mallory'").fetchone() == (False,)


def test_the_file_gives_way_to_whoever_holds_a_table_and_needs_another(database: Database, file: Path) -> None:
    # As pydb does, see tests/test_migrate.py, and in the same order.
    (order,) = re.findall(r"'\{.*\}'::name\[\]", migrate.CLOSE_TABLES)
    assert order in file.read_text()
    with psycopg.connect(database.dsn(), autocommit=True) as admin, ThreadPoolExecutor(1) as pool:
        admin.execute("update ai_storage_migration.applied_file set sha256 = '' where path = 'sql/90_grants.sql'")
        admin.execute("begin")
        admin.execute("select from ai_storage_private.model_share")
        upgrading = pool.submit(run_file, database.server, database.dsn(), file)
        waiting = "select exists (select from pg_locks where not granted and mode = 'AccessExclusiveLock')"
        watcher = database.connect()
        until(lambda: watcher.execute(waiting).fetchone() == (True,), "the upgrade to wait")
        admin.execute("select from ai_storage_private.signing_key")
        admin.execute("select from ai_storage_private.tenant")
        assert not upgrading.done()
        admin.execute("commit")
        assert upgrading.result(60) == (["sql/90_grants.sql"], "")


# The extension -------------------------------------------------------------------------------------------------------


@pytest.fixture
def make(server: Server, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Install the extension's files, made of a source tree, for the server of this run."""
    pg_config = server.cluster.bin_dir / "pg_config"
    shared = subprocess.run([pg_config, "--sharedir"], capture_output=True, text=True, check=True).stdout.strip()
    if not os.access(Path(shared) / "extension", os.W_OK):
        pytest.skip(f"only root may put an extension into {shared}")

    def make(root: Path, target: str = "install") -> None:
        where = [f"PG_CONFIG={pg_config}", f"PYTHON={sys.executable}", f"BUILD={tmp_path / 'build'}"]
        subprocess.run(["make", "-C", root / "deploy" / "extension", target, *where], check=True, capture_output=True)

    yield make
    make(ROOT, "uninstall")
    assert list((Path(shared) / "extension").glob("tenant_ai_storage*")) == []


def test_the_extension_makes_what_pydb_makes_and_survives_dump_and_restore(
    make: Callable[..., None], empty_database: Database, database: Database, tmp_path: Path
) -> None:
    make(ROOT)
    server = empty_database.server
    admin = empty_database.connect()
    admin.execute(said("install.md", "create extension"))
    install = said("install.md", "select tenant_ai_storage")
    schema = migrate.Schema()
    assert [path for (path,) in admin.execute(install)] == [*schema.migrations, *schema.files]
    assert admin.execute("select current_setting('search_path'), current_setting('role')").fetchone() == (
        '"$user", public',
        "none",
    )
    assert admin.execute(install).fetchall() == []
    assert everything(empty_database) == everything(database)
    assert migrate.migrate(empty_database.dsn()) == []
    assert ailing(empty_database) == ailing(database)

    migrate.init(empty_database.dsn(), app_login="app", pattern="acme:*:*:*:*")
    mine = empty_database.storage(ACME)
    mine.save_ai_progress("m", 0.5)
    mine.put_artifact("m", "weights", b"\0" * 3_000_000)
    admin.execute("select ai_storage.set_artifact_limit(4000000)")
    admin.execute("select ai_storage.create_signing_key()")
    admin.execute("select ai_storage.seal_audit()")
    with pytest.raises(NotAuthorized):  # which moves a sequence, and that is data too
        empty_database.storage(key("beta")).load_ai_progress()
    before = dump(empty_database)
    assert all(before[table] for table in ("context_secret", "signing_key", "audit_event", "artifact_chunk"))

    archive = tmp_path / "archive"
    client(server, "pg_dump", "--format=custom", "--file", archive, "--dbname", empty_database.dsn())
    admin.execute("create database restored")
    restored = Database(server, "restored", empty_database.stack)
    try:
        client(server, "pg_restore", "--exit-on-error", "--dbname", restored.dsn(), archive)
        assert dump(restored) == before
        assert everything(restored) == everything(empty_database)
        again = restored.connect()
        assert again.execute("select last_value from ai_storage_private.refused_credential").fetchone() == (1,)
        assert again.execute(install).fetchall() == []
        assert migrate.migrate(restored.dsn()) == []
        theirs = restored.storage(ACME)
        assert theirs.save_ai_progress("m", 0.4).version == 2
        assert theirs.get_artifact("m", "weights", tmp_path / "copy", or_earlier=True).size_bytes == 3_000_000

        # Only the three functions are the extension's.
        again.execute("drop extension tenant_ai_storage")
        assert [(row.model_name, row.version) for row in theirs.load_ai_progress()] == [("m", 2)]

        # A server that does not have its files restores the rest.
        make(ROOT, "uninstall")
        empty_database.stack.close()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("drop database restored with (force)")
            connection.execute("create database restored")
        done = client(server, "pg_restore", "--dbname", restored.dsn(), archive, check=False)
        assert "tenant_ai_storage" in done.stderr
        assert dump(restored) == before
        assert migrate.migrate(restored.dsn()) == []
    finally:
        empty_database.stack.close()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("drop database restored with (force)")


def test_an_updated_extension_upgrades_the_database(
    make: Callable[..., None], empty_database: Database, next_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(ROOT)
    admin = empty_database.connect()
    admin.execute(said("install.md", "create extension"))
    admin.execute(said("install.md", "select tenant_ai_storage"))
    make(next_tree)
    admin.execute(said("upgrade.md", "alter extension"))
    schema = migrate.Schema(next_tree)
    assert [path for (path,) in admin.execute(said("upgrade.md", "select tenant_ai_storage"))] == [
        "migrations/9999_note.sql",
        *schema.files,
    ]
    assert admin.execute("select ai_storage.version()").fetchone() == ("99.0.0",)
    monkeypatch.setattr(migrate, "__version__", "99.0.0")
    assert {entry.state for entry in migrate.status(empty_database.dsn(), schema=schema)} == {"applied"}
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        empty_database.connect("app").execute("select tenant_ai_storage.install()")
