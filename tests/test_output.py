"""What the command prints: text for every terminal, whoever chose the names in it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pydb import calls, cli, session
from pydb.output import Screen, escape
from tests.conftest import Database
from tests.helpers import ACME

EVIL = "\x1b]0;owned\x07\x1b[2J\u202eexe\u2066y\u200b\u2028\x9b1m"


def pydb(database: Database, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "pydb.cli", *arguments],
        env={**os.environ, "DATABASE_URL": database.dsn("app"), **environment},
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", "cp1252"])
def test_what_is_not_printable_or_not_in_the_encoding_is_written_as_json_writes_it(encoding: str) -> None:
    text = f"a\\b caf\u00e9 \U0001f600 \udc80 {EVIL}"
    shown = escape(text, encoding)
    assert shown.encode(encoding)
    assert shown.isprintable()
    assert json.loads('"' + escape(json.dumps(text, ensure_ascii=False)[1:-1], encoding) + '"') == text
    assert escape("two\nlines") == "two\nlines"
    assert escape("two\nlines", keep="") == "two\\u000alines"


def test_every_command_writes_to_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def command(argv: object) -> int:
        seen.extend([sys.stdout, sys.stderr])
        print(EVIL)
        print(EVIL, file=sys.stderr)
        return 0

    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr(cli, "_run_command", command)
    assert cli.main([]) == 0
    assert all(isinstance(stream, Screen) for stream in seen)
    for stream in streams:
        stream.seek(0)
        assert stream.read().rstrip("\n").isprintable()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_table_and_json_show_hostile_names_on_any_terminal(
    database: Database, encoding: str, more: tuple[str, ...]
) -> None:
    name = "caf\u00e9 \u202e\u200b\u2028 \U0001f600"
    with database.storage(ACME) as storage:
        storage.save_ai_progress(name, 1, metadata={"note": EVIL})
    done = pydb(database, "load", "--as", ACME, *more, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode(encoding)
    assert all(line.isprintable() for line in shown.split("\n"))
    if more:
        (row,) = json.loads(shown)
        assert (row["model_name"], row["metadata"]) == (name, {"note": EVIL})
    else:
        assert len(shown.splitlines()) == 2


def test_a_line_in_an_error_never_looks_like_another_error(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["deauthorize", "x", "--dsn", "host=/nowhere\npydb: all is well"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("pydb: ")] == lines[:1]
    assert all(line.startswith(("    ", "hint: ", "detail: ")) for line in lines[1:])


def test_doctor_escapes_what_a_login_set_for_itself_and_tells_the_way_back(database: Database) -> None:
    admin = database.connect()
    admin.execute("create role output_app login")
    try:
        session.run(admin, calls.authorize_login("output_app", "acme:*:*:*:*"))
        setting = EVIL + "\nERROR  all-is-well"
        database.connect("output_app").execute(
            "do $$ begin execute format('alter role current_user set local_preload_libraries = %L', "
            f"convert_from('\\x{setting.encode().hex()}', 'UTF8')); end $$"
        )
        done = pydb(database, "doctor", "--no-probes", DATABASE_URL=database.dsn())
        lines = done.stdout.decode().split("\n")
        assert all(line.isprintable() for line in lines)
        assert not [line for line in lines if line.startswith("ERROR  all")]
        assert "alter role output_app reset local_preload_libraries" in done.stdout.decode()
    finally:
        database.stack.close()
        admin = database.connect()
        admin.execute("drop owned by output_app")
        admin.execute("drop role output_app")


def test_the_verifier_shows_a_hostile_file_on_any_terminal(tmp_path: Path) -> None:
    bundle = tmp_path / "b\x1b[2J\u202e"
    bundle.write_text(json.dumps({"format": EVIL, "kind": EVIL}) + "\n")
    for path in (bundle, tmp_path / "none\x1b[2J"):
        done = subprocess.run(
            [sys.executable, "-m", "pydb.verifier", str(path)],
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=False,
        )
        assert done.returncode in (1, 2)
        said = (done.stdout + done.stderr).decode("ascii")
        assert all(line.isprintable() for line in said.split("\n"))
        assert "Traceback" not in said


@pytest.mark.parametrize("rows", [1, 3000])
def test_a_reader_that_has_gone_ends_a_command_without_a_word(database: Database, rows: int) -> None:
    with database.storage(ACME) as storage:
        storage.save_ai_progress_batch([{"model_name": f"m{row}", "mse": 1} for row in range(rows)])
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "pydb.cli", "load", "--as", ACME],
        env={**os.environ, "DATABASE_URL": database.dsn("app")},
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
