"""The schema is what the files say: fresh, repeated, upgraded, and after anything that may go wrong between."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import psycopg
import pytest

from pydb import migrate
from tests import reference
from tests.conftest import Database
from tests.schema import GOLDEN, GOLDEN_MAJOR, dump

ROOT = Path(__file__).parent.parent


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the schema's files, to be edited."""
    for folder in ("sql", "migrations", "deploy"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def schema_of(database: Database) -> str:
    return dump(database.server.cluster, database.dsn())


def test_a_fresh_database_equals_the_golden_dump(database: Database) -> None:
    if database.server.major != GOLDEN_MAJOR:
        pytest.skip(f"pg_dump words the schema differently in each major version; the golden one is {GOLDEN_MAJOR}'s")
    assert schema_of(database) == GOLDEN.read_text(), "run make golden, and look at the difference"


def test_the_page_of_the_functions_says_what_the_database_says(database: Database) -> None:
    assert reference.sql(database.connect()) == (reference.FOLDER / "sql.md").read_text(), "run make docs"


@pytest.mark.sql
def test_applying_sql_again_changes_nothing(database: Database) -> None:
    before = schema_of(database)
    admin = database.connect()
    admin.execute("update ai_storage_migration.applied_file set sha256 = '' where path like 'sql/%'")
    assert migrate.migrate(database.dsn()) == [f"sql/{path.name}" for path in sorted((ROOT / "sql").glob("*.sql"))]
    assert schema_of(database) == before


def test_a_second_migration_does_nothing(database: Database) -> None:
    assert migrate.migrate(database.dsn()) == []
    assert {file.state for file in migrate.status(database.dsn())} == {"applied"}


@pytest.mark.sql
def test_an_older_database_upgrades_to_the_same_schema(
    empty_database: Database, database: Database, source: Path
) -> None:
    # Without sharing and what came later, and nobody was given any right.
    later = [
        *source.glob("migrations/000[35678]_*.sql"),
        *source.glob("sql/25_*.sql"),
        *source.glob("sql/[3456]?_*.sql"),
    ]
    assert len(later) == 14
    for path in later:
        path.unlink()
    (source / "sql" / "90_grants.sql").write_text("-- No rights yet.\n\nset local role ai_storage_owner;\n")
    migrate.init(empty_database.dsn(), schema=migrate.Schema(source))
    assert "model_share_pk" not in schema_of(empty_database)

    written = migrate.migrate(empty_database.dsn())
    assert written[0] == "migrations/0003_sharing.sql"
    assert schema_of(empty_database) == schema_of(database)


def test_a_changed_file_is_applied_again_with_all_that_follow(database: Database, source: Path) -> None:
    changed = source / "sql" / "20_progress.sql"
    changed.write_text(changed.read_text() + "\n-- a change\n")
    schema = migrate.Schema(source)
    states = {file.path: file.state for file in migrate.status(database.dsn(), schema=schema)}
    assert states["sql/20_progress.sql"] == "changed"
    names = [path.name for path in sorted((source / "sql").glob("*.sql"))]
    expected = [f"sql/{name}" for name in names[names.index("20_progress.sql") :]]
    assert migrate.migrate(database.dsn(), schema=schema) == expected


def test_a_right_that_is_no_longer_listed_is_taken_back(database: Database) -> None:
    admin = database.connect()
    admin.execute("grant execute on function ai_storage_private.enter(text, boolean, text) to stranger")
    admin.execute("grant select on ai_storage_private.tenant to stranger")
    admin.execute("grant select (model_name) on ai_storage_private.ai_progress_tenant to stranger")
    admin.execute("grant usage on schema ai_storage_private to stranger")
    admin.execute("update ai_storage_migration.applied_file set sha256 = '' where path = 'sql/90_grants.sql'")
    migrate.migrate(database.dsn())
    assert admin.execute(
        "select has_function_privilege('stranger', 'ai_storage_private.enter(text, boolean, text)', 'execute'), "
        "has_table_privilege('stranger', 'ai_storage_private.tenant', 'select'), "
        "has_column_privilege('stranger', 'ai_storage_private.ai_progress_tenant', 'model_name', 'select'), "
        "has_schema_privilege('stranger', 'ai_storage_private', 'usage')"
    ).fetchone() == (False, False, False, False)


def test_an_edited_migration_is_refused(database: Database, source: Path) -> None:
    edited = source / "migrations" / "0001_tenant.sql"
    edited.write_text(edited.read_text() + "\n-- rewritten history\n")
    before = schema_of(database)
    with pytest.raises(migrate.MigrationError, match=r"0001_tenant\.sql") as caught:
        migrate.migrate(database.dsn(), schema=migrate.Schema(source))
    assert caught.value.hint
    assert schema_of(database) == before


def test_a_newer_database_is_refused(database: Database, source: Path) -> None:
    sorted((source / "migrations").glob("*.sql"))[-1].unlink()
    for act in (migrate.migrate, migrate.status):
        with pytest.raises(migrate.MigrationError, match="newer"):
            act(database.dsn(), schema=migrate.Schema(source))


def test_a_failing_statement_leaves_the_database_as_it_was(database: Database, source: Path) -> None:
    (source / "migrations" / "9999_note.sql").write_text("create table ai_storage_private.note (a int);\n")
    (source / "sql" / "89_note.sql").write_text("set local role ai_storage_owner;\nselect 1 / 0;\n")
    before = schema_of(database)
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate.migrate(database.dsn(), schema=migrate.Schema(source))
    assert schema_of(database) == before
    assert migrate.migrate(database.dsn()) == []


def test_a_failing_migration_is_not_marked(database: Database, source: Path) -> None:
    broken = source / "migrations" / "9999_broken.sql"
    broken.write_text("create table ai_storage_private.note (a int);\nselect 1 / 0;\n")
    before = schema_of(database)
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate.migrate(database.dsn(), schema=migrate.Schema(source))
    assert schema_of(database) == before
    broken.write_text("create table ai_storage_private.note (a int);\n")
    assert migrate.migrate(database.dsn(), schema=migrate.Schema(source))[0] == "migrations/9999_broken.sql"


def test_the_checksums_of_the_migrations_are_committed() -> None:
    committed = (ROOT / "migrations" / "CHECKSUMS").read_text().splitlines()
    assert committed == [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
        for path in sorted((ROOT / "migrations").glob("*.sql"))
    ], "a released migration is never edited; for a new one run make checksums"
