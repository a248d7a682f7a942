"""How a DSN is read: in the forms that people have, and never into an error message."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pydb import AsyncTenantAwareStorage, TenantAwareStorage, cli, migrate
from pydb.dsn import InvalidDsn, parse
from tests.conftest import Database
from tests.helpers import ACME

SECRET = "S3cretPw"
WRONG = [
    f"postgresql://u:{SECRET}%zz@h/d",
    f"postgresql://u:{SECRET}/1@h/d",
    f"postgresql://u:12/{SECRET}@h/d",
    f"postgresql://u:x@{SECRET}@h/d",
    f"postgresql://u:12?{SECRET}@{SECRET}@h/d",
    f"postgresql://u:12?a/{SECRET}=1@h/d",
    f"postgresql://u:p@h:{SECRET}/d",
    f'"postgresql://u:{SECRET}@h/d"',
    f"'postgresql://u:{SECRET}@h/d'",
    f"jdbc:postgresql://h/d?user=u&password={SECRET}",
    f"mysql://u:{SECRET}@h/d",
    f"host=h password={SECRET} {SECRET}",
    f"host=h password='{SECRET} ''x'",
    f"host=h {SECRET}=x",
    f"dbname=postgresql://u:{SECRET}@h/d",
    f"DATABASE_URL=postgresql://u:{SECRET}@h/d",
    f"postgresql://u:{SECRET}@h/d?sslmod=require",
    SECRET,
]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_dsn_is_refused_without_quoting_it(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for opens in (
        lambda: parse(text),
        lambda: migrate.connect(text),
        lambda: TenantAwareStorage.from_dsn(text, ACME),
        lambda: asyncio.run(AsyncTenantAwareStorage.from_dsn(text, ACME)),
    ):
        with pytest.raises(InvalidDsn) as caught:
            opens()
        # Without the lines of source, which are this test's own.
        told = [line for line in traceback.format_exception(caught.value) if not line.startswith("  File")]
        assert SECRET not in "".join(told)
    monkeypatch.setenv("DATABASE_URL", text)
    for command in (["load", "--as", ACME], ["status"], ["doctor"]):
        assert cli.main(command) == 1
        out, err = capsys.readouterr()
        assert SECRET not in out + err
        assert "hint: " in err


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:p@h:5/d",
        " postgresql://u:p@h:5/d\n",
        "postgres://u:p@h:5/d",
        "postgresql+psycopg://u:p@h:5/d",
        "postgresql+asyncpg://u:p@h:5/d",
        "host=h port=5 dbname=d user=u password=p\n",
        "postgresql:///d?host=h&port=5&user=u&password=p",
    ],
)
def test_the_forms_that_people_have_are_taken(text: str) -> None:
    fields = {"host": "h", "port": "5", "dbname": "d", "user": "u", "password": "p"}
    assert conninfo_to_dict(parse(text)) == fields


@pytest.mark.parametrize(
    "text",
    ["", "service=tenant", "postgresql:///?service=tenant", "postgresql://u@h1:1,h2:2/d", "postgresql://%2Ftmp/d"],
)
def test_what_libpq_takes_stays_as_it_is(text: str) -> None:
    assert parse(text) == text


def test_signs_in_a_password_are_taken_when_they_are_escaped() -> None:
    assert conninfo_to_dict(parse("postgresql://u:p%40%2F%3A%25#?@h/d"))["password"] == "p@/:%#?"


def test_secrets_come_from_files(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for name, text in {"DATABASE_URL": database.dsn("app"), "AI_STORAGE_TOKEN": ACME}.items():
        (tmp_path / name).write_text(text + "\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    assert cli.main(["save", "m", "--mse", "1"]) == 0
    monkeypatch.setenv("AI_STORAGE_TOKEN", ACME)
    assert cli.main(["load"]) == 1  # which of the two?
    monkeypatch.delenv("AI_STORAGE_TOKEN_FILE")
    assert cli.main(["load"]) == 0
    monkeypatch.delenv("AI_STORAGE_TOKEN")
    with pytest.raises(SystemExit) as stop:
        cli.main(["load"])
    assert stop.value.code == 2
    monkeypatch.setenv("AI_STORAGE_TOKEN_FILE", str(tmp_path / "none"))
    capsys.readouterr()
    assert cli.main(["load"]) == 1
    assert "hint: " in capsys.readouterr().err


@pytest.mark.sql
def test_no_default_of_a_database_ends_an_administrators_command(database: Database) -> None:
    defaults = {
        "default_transaction_isolation": "'repeatable read'",
        "default_transaction_read_only": "on",
        "default_transaction_deferrable": "on",
        "statement_timeout": "1",
        "datestyle": "'German'",
        "intervalstyle": "sql_standard",
        "bytea_output": "escape",
        "client_encoding": "latin1",
    }
    database.storage(ACME).save_ai_progress("m", 1)
    with psycopg.connect(database.server.dsn(), autocommit=True) as admin:
        for name, value in defaults.items():
            admin.execute(f'alter database "{database.name}" set {name} = {value}')
    for command in (
        ["migrate"],
        ["status"],
        ["seal"],
        ["checkpoint"],
        ["verify"],
        ["retention", "set", "acme:*:*:*:*", "--versions-for", "90d"],
        ["retention", "list"],
        ["retention", "apply"],
        ["authorizations"],
        ["erase", "acme:*:*:*:*", "--reason", "t", "--yes", "acme:*:*:*:*"],
    ):
        assert cli.main([*command, "--dsn", database.dsn()]) == 0, command
