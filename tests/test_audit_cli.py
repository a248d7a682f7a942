"""pydb seal, checkpoint, verify and audit: what they print and write, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, Queue

import psycopg
import pytest

from pydb import cli, verifier
from tests.conftest import Database
from tests.helpers import ACME, BETA, call, save, unchanged, until, value

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("DATABASE_URL", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


class Process:
    """A command that goes on, and the lines it has printed."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pydb.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._lines: Queue[str] = Queue()
        self._seen: list[str] = []  # at most one, that is_quiet met
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def line(self, seconds: float = 30) -> str:
        if self._seen:
            return self._seen.pop()
        return self._lines.get(timeout=seconds)

    def is_quiet(self, seconds: float) -> bool:
        try:
            self._seen.append(self.line(seconds))
        except Empty:
            return True
        return False

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def going_on(*arguments: str) -> Iterator[Process]:
    started = Process(*arguments)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def pending(database: Database) -> int:
    with psycopg.connect(database.dsn()) as connection:
        ((count,),) = connection.execute("select count(*) from ai_storage_private.audit_pending").fetchall()
    return int(count)


def test_seal_seals_once(run: Run, database: Database) -> None:
    save(database.connect("app"), "m", as_=ACME)
    dsn = ("--dsn", database.dsn())
    waiting = pending(database)
    assert run("seal", *dsn) == (0, f"Sealed {waiting} events under 2 seals.\n", "")
    assert run("seal", *dsn) == (0, "Sealed 0 events under 0 seals.\n", "")
    code, _, err = run("seal", "--dsn", database.dsn("app"))
    assert code == 1
    assert "hint:" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_seal_goes_on_until_it_is_ended(database: Database, number: int) -> None:
    app, other = database.connect("app"), database.connect()
    with going_on("seal", "--every", "1s", "--dsn", database.dsn()) as sealer:
        assert sealer.line() == "Sealing every 1 s."
        for _ in range(2):
            save(app, "m", as_=ACME)
            until(lambda: pending(database) == 0, "the sealing", 10)
        # also while it waits for another sealer
        other.execute("begin")
        call(other, "seal_audit")
        waits = "select count(*) from pg_locks where not granted and mode = 'ShareUpdateExclusiveLock'"
        until(lambda: other.execute(waits).fetchone() == (1,), "the second sealer to wait")
        assert sealer.end(number) == 0
        until(lambda: other.execute(waits).fetchone() == (0,), "the second sealer's cancel")
        # On its way out psycopg may warn of a cancel that was not answered in time, as on a slow machine.
        while not sealer.is_quiet(0.1):
            assert re.match("query (cancellation|not terminated)|error ignored", line := sealer.line()), line
        other.execute("rollback")


def test_seal_reaches_a_server_that_was_gone(database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sealer'"
    with going_on("seal", "--every", "1s", "--dsn", database.dsn(application_name="sealer")) as sealer:
        assert sealer.line() == "Sealing every 1 s."
        while sealer.is_quiet(0.1):
            admin.execute(end)
        assert sealer.line().startswith("pydb: ")
        while not (line := sealer.line()).startswith("pydb: trying again"):
            pass
        assert line == "pydb: trying again in 1 s"
        save(app, "m", as_=ACME)
        until(lambda: pending(database) == 0, "the sealing", 15)
        assert sealer.end() == 0


def test_the_pause_between_attempts_doubles_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        cli._seal_for_ever("host=/nowhere", 1.0)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_seal_gives_up_at_once_on_what_was_wrong_from_the_start(run: Run, database: Database) -> None:
    assert run("seal", "--every", "1s", "--dsn", "host=/nowhere")[0] == 1
    assert run("seal", "--every", "1s", "--dsn", database.dsn("app"))[0] == 1
    for every in ("0s", "often"):
        assert run("seal", "--every", every, "--dsn", database.dsn())[0] == 2


def test_a_checkpoint_is_kept_once(run: Run, database: Database, tmp_path: Path) -> None:
    app, dsn = database.connect("app"), ("--dsn", database.dsn())
    file = tmp_path / "checkpoints.jsonl"
    for number in (1, 2):
        save(app, "m", as_=ACME)
        assert run("checkpoint", "--out", str(file), *dsn) == (0, f"Added checkpoint {number} to {file}.\n", "")
        assert run("checkpoint", "--out", str(file), *dsn) == (0, f"{file} has checkpoint {number} already.\n", "")
    assert pending(database) == 0
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["checkpoint_number"] for row in kept] == [1, 2]
    assert kept[1]["previous_hash"] == kept[0]["checkpoint_hash"]
    code, out, _ = run("checkpoint", *dsn)
    assert (code, json.loads(out)) == (0, kept[1])

    # a crash while the second was written
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1][:40])
    assert run("checkpoint", "--out", str(file), *dsn)[0] == 0
    assert file.read_bytes() == b"".join(lines)


def test_a_file_with_another_history_is_left_alone(run: Run, database: Database, tmp_path: Path) -> None:
    dsn = ("--dsn", database.dsn())
    file = tmp_path / "checkpoints.jsonl"
    run("checkpoint", "--out", str(file), *dsn)
    good = file.read_text()
    rewritten = json.loads(good) | {"checkpoint_hash": "00"}
    later = json.loads(good) | {"checkpoint_number": 2}
    for text, said in (
        (json.dumps(rewritten) + "\n", "another history"),
        (good + json.dumps(later) + "\n", "another history"),
        (json.dumps(later) + "\n", "another history"),
        ("some notes\n", "something else"),
        ("some notes", "something else"),
        ("[1]\n", "something else"),
    ):
        file.write_text(text)
        code, _, err = run("checkpoint", "--out", str(file), *dsn)
        assert file.read_text() == text
        assert (code, said in err, "hint:" in err) == (1, True, True), text
    assert run("checkpoint", "--out", str(tmp_path / "not there" / "file"), *dsn)[0] == 1


def test_no_checkpoint_without_an_event(run: Run, database: Database) -> None:
    database.connect().execute("truncate ai_storage_private.audit_pending")
    code, out, err = run("checkpoint", "--dsn", database.dsn())
    assert (code, out) == (1, "")
    assert "hint:" in err


def test_verify_exits_with_1_when_the_log_was_changed(run: Run, database: Database) -> None:
    app, admin = database.connect("app"), database.connect()
    save(app, "m", as_=ACME)
    save(app, "m", as_=BETA)
    every, acme, beta = (
        ("--dsn", database.dsn()),
        ("--dsn", database.dsn("app"), "--as", ACME),
        ("--dsn", database.dsn("app"), "--as", BETA),
    )
    run("checkpoint", *every)
    for arguments in (every, acme, beta):
        code, out, err = run("verify", "--json", *arguments)
        assert (code, err) == (0, "")
        assert json.loads(out)[0]["verified"] is True
    admin.execute(
        "update ai_storage_private.audit_event set login = 'nobody' where action = 'save model' and tenant_id = "
        "(select tenant_id from ai_storage_private.tenant where isolation_key = %s)",
        (ACME,),
    )
    assert run("verify", *beta)[0] == 0
    for arguments in (every, acme):
        code, out, _ = run("verify", "--json", *arguments)
        (row,) = json.loads(out)
        assert (code, row["verified"], row["problem"]) == (1, False, "seal 1: a changed event")
        assert run("verify", *arguments)[0] == 1
    assert run("verify", "--dsn", database.dsn("app"))[0] == 1
    # a superuser serves no tenant
    code, _, err = run("verify", *every, "--as", ACME)
    assert code == 1
    assert "too powerful" in err


def test_verify_says_what_it_says_nothing_about(run: Run, database: Database) -> None:
    every, acme, beta = (
        ("--dsn", database.dsn()),
        ("--dsn", database.dsn("app"), "--as", ACME),
        ("--dsn", database.dsn("app"), "--as", BETA),
    )
    run("seal", *every)
    assert run("verify", *every)[2] == ""
    save(database.connect("app"), "m", as_=ACME)
    some = "2 events are not sealed yet: nothing is proved about them.\n"
    for arguments in (every, acme):
        code, out, err = run("verify", *arguments)
        assert (code, err, "pending" in out) == (0, some, True)
        code, out, err = run("verify", "--json", *arguments)
        assert (code, err, json.loads(out)[0]["pending"]) == (0, some, 2)
    for form in ([], ["--json"]):
        code, _, err = run("verify", *form, *beta)
        assert (code, err) == (0, "This tenant has no log; compare the five levels.\n")
    run("seal", *every)
    for arguments in (every, acme):
        assert run("verify", *arguments)[::2] == (0, "")
    save(database.connect("app"), "m", as_=ACME)
    for arguments in (every, acme):
        assert run("verify", *arguments)[::2] == (0, "1 event is not sealed yet: nothing is proved about it.\n")


def test_an_auditor_reads_and_changes_nothing(run: Run, database: Database, tmp_path: Path) -> None:
    save(database.connect("app"), "m", as_=ACME)
    superuser, dsn = database.connect(), ("--dsn", database.dsn("stranger"))
    may = (
        *(["verify"], ["compliance"], ["evidence", "--out", str(tmp_path / "e")], ["metrics"], ["tenants"]),
        ["retention", "list"],
    )
    may_not = (["seal"], ["checkpoint"], ["erase", ACME, "--reason", "r", "--yes", ACME], ["retention", "apply"])
    superuser.execute("grant ai_storage_auditor to stranger")
    database.stack.callback(superuser.execute, "revoke ai_storage_auditor from stranger")  # roles are the server's
    with unchanged(database):
        for command in may:
            code, out, err = run(*command, *dsn)
            assert (code in (0, 1), bool(out), "permission denied" in err) == (True, True, False), err
        for command in may_not:
            code, out, err = run(*command, *dsn)
            assert (code, out, "permission denied" in err) == (1, "", True), err


def test_the_trail_is_shown_and_filtered(run: Run, database: Database) -> None:
    app = database.connect("app")
    for name in ("a", "b", "c"):
        save(app, name, as_=ACME)
    call(app, "delete_progress", model_name="b", as_=ACME)
    tenant = ("--dsn", database.dsn("app"), "--as", ACME)

    def shown(*options: str) -> list[str]:
        code, out, err = run("audit", "--json", *tenant, *options)
        assert (code, err) == (0, "")
        return [row["action"] for row in json.loads(out)]

    assert shown() == ["insert tenant", *["save model"] * 3, "insert deleted model", "delete model"]
    assert shown("--action", "delete model") == ["delete model"]
    assert shown("--limit", "2") == ["insert tenant", "save model"]
    assert shown("--since", "5m") == shown()
    assert shown("--until", "5m") == []
    ahead = datetime.now(UTC) + timedelta(hours=1)
    assert shown("--since", ahead.isoformat()) == []
    assert shown("--until", ahead.isoformat()) == shown()
    code, out, _ = run("audit", *tenant)
    assert code == 0
    table = out.splitlines()
    assert table[0].split() == [
        "recorded_at",
        "action",
        "model_id",
        "version",
        "login",
        "credential",
        "actor",
        "sealed",
        "detail",
    ]
    assert len(table) == 7
    assert run("audit", "--dsn", database.dsn("acme_app"), "--as", BETA)[0] == 1
    for wrong in (["--since", "soon"], ["--follow", "--limit", "1"], ["--follow", "--until", "1m"], ["--after", "1.0"],
                  ["--bundle", "x", "--json"]):  # fmt: skip
        assert run("audit", *tenant, *wrong)[0] == 2, wrong
    assert run("audit", "--dsn", database.dsn("app"))[0] == 2


def test_follow_shows_each_event_once_and_late_commits_too(database: Database) -> None:
    app, late, admin = database.connect("app"), database.connect("app"), database.connect()
    save(app, "before", as_=ACME)
    late.execute("begin")
    save(late, "late", as_=ACME)
    with going_on("audit", "--follow", "--json", "--dsn", database.dsn("app"), "--as", ACME) as follower:
        assert follower.is_quiet(1.5)  # nothing is sealed
        save(app, "after", as_=ACME)
        call(admin, "seal_audit")
        shown = [json.loads(follower.line()) for _ in range(3)]
        assert [event["action"] for event in shown] == ["insert tenant", "save model", "save model"]
        after = shown[-1]
        assert after["detail"]["model_name"] == "after"
        late.execute("commit")
        call(admin, "seal_audit")
        found = json.loads(follower.line())
        assert found["detail"]["model_name"] == "late"
        assert found["recorded_at"] < after["recorded_at"]
        call(admin, "seal_audit")
        assert follower.is_quiet(1.5)
        assert follower.end(signal.SIGINT) == 0
    arguments = ("audit", "--follow", "--json", "--after", after["cursor"])
    with going_on(*arguments, "--dsn", database.dsn("app"), "--as", ACME) as follower:
        assert json.loads(follower.line()) == found
    arguments = ("audit", "--follow", "--action", "delete model", "--since", "1h")
    with going_on(*arguments, "--dsn", database.dsn("app"), "--as", ACME) as follower:
        call(app, "delete_progress", model_name="late", as_=ACME)
        call(admin, "seal_audit")
        assert "delete model" in follower.line()


def test_a_bundle_is_the_export_as_lines(run: Run, database: Database, tmp_path: Path) -> None:
    app = database.connect("app")
    save(app, "ü", as_=ACME)
    save(app, "m", as_=BETA)
    run("checkpoint", "--dsn", database.dsn())
    save(app, "m", as_=ACME)
    file = tmp_path / "acme.jsonl"
    tenant = ("--dsn", database.dsn("app"), "--as", ACME)
    wrote = f"Wrote 2 events, 1 seal, 1 checkpoint to {file}. Not sealed yet, and so not in it: 1 event.\n"
    assert run("audit", "--bundle", str(file), *tenant) == (0, wrote, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == [line for (line,) in call(app, "export_audit", as_=ACME)]
    assert [line["kind"] for line in lines] == ["event", "event", "seal", "checkpoint"]
    assert value(app, "audit_proof", event_id=lines[1]["event_id"], as_=ACME)["seal"] == lines[2]
    assert verifier.main([str(file)]) == 0
    assert run("audit", "--bundle", os.fspath(tmp_path / "not there" / "file"), *tenant)[0] == 1


def test_a_bundle_replaces_no_file_and_is_none_while_nothing_is_sealed(
    run: Run, database: Database, tmp_path: Path
) -> None:
    save(database.connect("app"), "m", as_=ACME)
    tenant = ("--dsn", database.dsn("app"), "--as", ACME)
    file = tmp_path / "acme.jsonl"
    code, out, err = run("audit", "--bundle", str(file), *tenant)
    assert (code, out, "wait for it: 2." in err, "pydb seal" in err) == (1, "", True, True)
    assert list(tmp_path.iterdir()) == []
    run("seal", "--dsn", database.dsn())
    link = tmp_path / "link"
    link.symlink_to(file)
    for path in (file, link):
        if path == file:
            path.write_text("mine")
        code, out, err = run("audit", "--bundle", str(path), *tenant)
        assert (code, out, "exists already" in err, "hint: " in err) == (1, "", True, True)
    assert file.read_text() == "mine"
    assert set(tmp_path.iterdir()) == {file, link}


def test_verify_tells_when_a_subscription_writes_the_tables(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = database.connect()
    admin.execute("create subscription from_there connection '' publication p with (connect = false)")
    try:
        for copied in (False, True):
            if copied:
                admin.execute(
                    "insert into pg_subscription_rel "
                    "select oid, 'ai_storage_private.tenant'::regclass, 'r', null from pg_subscription"
                )
            assert cli.main(["verify", "--dsn", database.dsn()]) == 0
            assert ("subscription" in capsys.readouterr().err) == copied
    finally:
        admin.execute("delete from pg_subscription_rel")
        admin.execute("alter subscription from_there set (slot_name = none)")
        admin.execute("drop subscription from_there")
