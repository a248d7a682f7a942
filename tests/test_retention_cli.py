"""pydb retention, erase, export, import, compliance, stats, break-glass and report-backup: what they do and refuse."""

from __future__ import annotations

import io
import json
import re
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pydb import cli, transfer, verifier
from tests.conftest import Database, Server, install
from tests.helpers import ACME, ACME_2, BETA, call, key, names, save, unchanged, until, versions

Run = Callable[..., tuple[int, str, str]]
CANARY = "canary-51c0de"


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


@pytest.fixture
def other_database(empty_database: Database) -> Database:
    install(empty_database.dsn())
    return empty_database


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def admin(database: Database) -> tuple[str, str]:
    return "--dsn", database.dsn()


def tenant(database: Database, credential: str = ACME) -> tuple[str, str, str, str]:
    return "--dsn", database.dsn("app"), "--as", credential


def fill(database: Database, credential: str = ACME) -> None:
    """Two models, one of them with numbers that no float holds, a deleted one, an idempotency key, and a grant."""
    app = database.connect("app")
    for mse in (0.1, 1 / 3):
        save(app, "m", mse, training_samples=7, as_=credential, idempotency_key=f"k{mse}")
    app.execute(
        "select ai_storage.save_progress('exact', 1, p_metadata => %s, p_as => %s)",
        ('{"many": 0.1000000000000000055511151231257827, "ü": "\\u2028\\n\\""}', credential),
    )
    save(app, "gone", as_=credential)
    call(app, "delete_progress", model_name="gone", as_=credential)
    call(app, "share_model", model_name="m", targets=[{"server_id": "s2"}], as_=credential)


# Rules


def test_rules_are_set_listed_applied_and_dropped(run: Run, database: Database) -> None:
    app, dsn = database.connect("app"), admin(database)
    for mse in range(4):
        save(app, "m", mse, as_=ACME)
    limits = ("--versions", "2", "--versions-for", "90d", "--events-for", "1y")
    code, out, err = run("retention", "set", "acme:*:*:*:*", *limits, *dsn)
    assert (code, err) == (0, "")
    assert out.startswith("Set the rule of acme:*:*:*:*.")
    code, out, _ = run("retention", "list", "--json", *dsn)
    (rule,) = json.loads(out)
    assert code == 0
    assert {name: rule[name] for name in ("pattern", "keep_versions", "legal_hold")} == {
        "pattern": "acme:*:*:*:*",
        "keep_versions": 2,
        "legal_hold": False,
    }
    assert (rule["keep_versions_for"], rule["keep_events_for"]) == ("90d", "365d")
    head, line = run("retention", "list", *dsn)[1].splitlines()
    assert head.split()[:5] == ["pattern", "keep_versions", "keep_versions_for", "keep_events_for", "legal_hold"]
    assert line.split()[:5] == ["acme:*:*:*:*", "2", "90d", "365d", "False"]

    assert versions(app, "m", as_=ACME) == [4, 3, 2, 1]
    code, out, _ = run("retention", "apply", *dsn)
    assert [row.split() for row in out.splitlines()] == [
        ["tenants", "versions", "events", "shares"],
        ["1", "2", "0", "0"],
    ]
    assert versions(app, "m", as_=ACME) == [4, 3]
    assert json.loads(run("retention", "apply", "--json", *dsn)[1]) == [
        {"tenants": 0, "versions": 0, "events": 0, "shares": 0, "cursor": None}
    ]

    assert run("retention", "drop", "acme:*:*:*:*", *dsn) == (0, "Dropped the rule of acme:*:*:*:*.\n", "")
    code, out, err = run("retention", "drop", "acme:*:*:*:*", *dsn)
    assert (code, out) == (1, "")
    assert "hint: " in err
    assert json.loads(run("retention", "list", "--json", *dsn)[1]) == []


def test_a_hold_is_not_ended_by_another_rule(run: Run, database: Database) -> None:
    dsn = admin(database)
    code, out, _ = run("retention", "set", ACME, "--legal-hold", *dsn)
    assert code == 0
    assert "Nothing of these tenants is deleted or erased until the hold is dropped." in out
    code, _, err = run("retention", "set", ACME, "--versions", "2", *dsn)
    assert code == 1
    assert f"pydb retention drop '{ACME}'" in err
    (rule,) = json.loads(run("retention", "list", "--json", *dsn)[1])
    assert (rule["legal_hold"], rule["keep_versions"]) == (True, None)
    assert run("retention", "set", ACME, "--versions", "2", "--legal-hold", *dsn)[0] == 0
    assert run("retention", "drop", ACME, *dsn)[0] == 0
    assert run("retention", "set", ACME, "--versions", "2", *dsn)[0] == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [("90d", "90d"), ("36h", "36h"), ("24h", "1d"), ("90m", "90m"), ("90s", "90s"), ("2y", "730d"), ("0d", "0d")],
)
def test_durations_are_shown_as_they_are_taken(text: str, shown: str) -> None:
    assert cli._span(cli._keep(text)) == shown
    assert cli._keep(shown) == cli._keep(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["retention"],
        ["retention", "set"],
        ["retention", "set", ACME],
        ["retention", "drop"],
        ["retention", "set", ACME, "--versions", "many"],
        ["retention", "set", ACME, "--events-for", "1000y"],
        ["retention", "set", ACME, "--events-for", "a year"],
        ["erase", ACME],
        ["erase", "--reason", "r"],
        ["erase", ACME, "--reason", "r"],
        ["erase", ACME, "--reason", "r", "--yes", ACME_2],
        ["erase", ACME, "--reason", "r", "--yes", ""],
        ["export", "--as", ACME],
        ["export", "--out", "x"],
        ["import-export", "--as", ACME],
        ["import-export", "x"],
        ["stats"],
        ["break-glass", ACME],
        ["report-backup", "--taken-at", "soon"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, database: Database, arguments: list[str]) -> None:
    save(database.connect("app"), "m", as_=ACME)
    with unchanged(database):
        code, out, err = run(*arguments, *([] if arguments == ["retention"] else admin(database)))
    assert (code, out) == (2, "")
    assert err.startswith("usage: pydb " + arguments[0])


def test_bad_rules_are_refused(run: Run, database: Database) -> None:
    for arguments in (["acme", "--versions", "1"], [ACME, "--versions", "0"], [ACME, "--versions-for", "0d"]):
        code, _, err = run("retention", "set", *arguments, *admin(database))
        assert (code, "(22023)" in err, "hint: " in err) == (1, True, True)


def test_they_are_for_administrators(run: Run, database: Database) -> None:
    save(database.connect("app"), "m", as_=ACME)
    app = ("--dsn", database.dsn("app"))
    with unchanged(database):
        for arguments in (
            ["retention", "set", ACME, "--legal-hold"], ["retention", "list"],
            ["retention", "drop", ACME], ["retention", "apply"],
            ["erase", ACME, "--reason", "r", "--yes", ACME], ["compliance"], ["tenants"],
            ["break-glass", ACME, "--reason", "r"],
            ["report-backup"],
        ):  # fmt: skip
            code, out, err = run(*arguments, *app)
            assert (code, out, "permission denied" in err) == (1, "", True), arguments


# Erasure


def test_erasing_certifies_and_vacuums(run: Run, database: Database, tmp_path: Path) -> None:
    app, superuser, dsn = database.connect("app"), database.connect(), admin(database)
    for credential in (ACME, ACME_2, BETA):
        save(app, "m", as_=credential)
        save(app, "m", as_=credential)
    code, out, err = run("erase", ACME, "--reason", "contract ended", "--yes", ACME, *dsn)
    assert code == 0
    # Standard output is the certificate and nothing else.
    file = tmp_path / "printed.json"
    file.write_text(out)
    assert verifier.main([str(file)]) == 0
    statement = json.loads(json.loads(out)["statement"])
    assert (statement["pattern"], statement["reason"]) == (ACME, "contract ended")
    assert f"Erased {ACME}: 1 model, 2 versions.\n" in err
    assert "The tables are vacuumed." in err
    assert "backups hold what was erased" in err
    assert [names(app, as_=credential) for credential in (ACME, ACME_2, BETA)] == [[], ["m"], ["m"]]
    counts = "select min(vacuum_count), min(analyze_count) from pg_stat_user_tables where schemaname = %s"
    until(
        lambda: superuser.execute(counts, ("ai_storage_private",)).fetchone() == (1, 1), "the vacuum in the statistics"
    )

    file = tmp_path / "certificate.json"
    pattern = "acme:*:*:*:*"
    code, out, err = run("erase", pattern, "--reason", "r", "--yes", pattern, "--out", str(file), "--rewrite", *dsn)
    assert (code, err) == (0, "")
    assert f"Erased {ACME_2}: 1 model, 2 versions.\n" in out
    assert "The tables are rewritten." in out
    assert verifier.main([str(file)]) == 0
    assert len(json.loads(json.loads(file.read_text())["statement"])["tenants"]) == 2
    assert names(app, as_=BETA) == ["m"]


def test_after_a_rewrite_no_file_of_the_database_holds_it(run: Run, database: Database) -> None:
    app, superuser = database.connect("app"), database.connect()
    fill(database, BETA)
    for number in range(40):
        save(app, f"{CANARY} {number % 4}", metadata={"note": CANARY}, as_=ACME, idempotency_key=f"{CANARY} {number}")
    call(app, "delete_progress", model_name=f"{CANARY} 0", as_=ACME)
    # The samples of a table that has no row left stay; of these, rows are left.
    superuser.execute("analyze ai_storage_private.progress_version, ai_storage_private.ai_progress_tenant")
    superuser.execute("checkpoint")
    assert {"pg_statistic", "progress_version"} <= set(files_with(superuser, CANARY))
    assert run("erase", ACME, "--reason", "r", "--yes", ACME, "--rewrite", *admin(database))[0] == 0
    superuser.execute("checkpoint")
    assert files_with(superuser, CANARY) == []
    assert names(app, as_=BETA) == ["exact", "m"]


def test_the_owner_of_a_managed_database_vacuums_it(run: Run, own_server: Server) -> None:
    with psycopg.connect(own_server.dsn(), autocommit=True) as superuser:
        superuser.execute("create role managed_admin login createrole")
        superuser.execute("create database managed owner managed_admin")
    dsn = ("--dsn", own_server.dsn("managed_admin", "managed"))
    assert run("init", "--app-login", "app", "--pattern", "*:*:*:*:*", *dsn)[0] == 0
    assert run("save", "m", "--mse", "1", "--dsn", own_server.dsn("app", "managed"), "--as", ACME)[0] == 0
    for how in ([], ["--rewrite"]):
        code, out, err = run("erase", ACME, "--reason", "r", "--yes", ACME, *how, *dsn)
        assert (code, json.loads(out)["kind"], "pydb: " in err) == (0, "certificate", False), err
    assert run("verify", *dsn)[0] == 0


def files_with(superuser: psycopg.Connection[Any], text: str) -> list[str]:
    """The relations of the database in whose files the text stands."""
    rows = superuser.execute(
        "select c.relname, current_setting('data_directory') || '/' || pg_relation_filepath(c.oid) "
        "from pg_class as c where pg_relation_filepath(c.oid) is not null and not c.relisshared"
    ).fetchall()
    return [name for name, path in rows if Path(path).exists() and text.encode() in Path(path).read_bytes()]


def test_the_pattern_is_typed_on_a_terminal(run: Run, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    for typed in ("", "\n", "yes\n", f"{ACME_2}\n", f" {ACME}\n", f"{ACME} \n"):
        monkeypatch.setattr("sys.stdin", Terminal(typed))
        with unchanged(database):
            code, out, err = run("erase", ACME, "--reason", "r", *admin(database))
        assert (code, out) == (1, "")
        assert f"This erases all data of 1 tenant. It cannot be undone.\n  {ACME}\nType the pattern" in err
        assert "Nothing was erased." in err
    monkeypatch.setattr("sys.stdin", Terminal(f"{ACME}\n"))
    assert run("erase", ACME, "--reason", "r", *admin(database))[0] == 0
    assert names(app, as_=ACME) == []


def test_nobody_is_asked_about_an_erasure_that_will_be_refused(
    run: Run, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, dsn = database.connect("app"), admin(database)
    for number in range(22):
        save(app, "m", as_=key(code=f"c{number:02}"))
    save(app, "m", as_=BETA)
    run("retention", "set", "acme:*:*:*:c07", "--legal-hold", *dsn)
    file = tmp_path / "there.json"
    file.write_text("mine")
    for pattern, out_file, said in (
        ("acme:*:*:*:*", None, f"A legal hold keeps {key(code='c07')}. Nothing was erased."),
        ("gamma:*:*:*:*", None, "no tenant is covered"),
        ("gamma", None, "(22023)"),
        (BETA, file, "cannot be made"),
    ):
        monkeypatch.setattr("sys.stdin", Terminal(f"{pattern}\n"))
        with unchanged(database):
            arguments = ("--out", str(out_file)) if out_file else ()
            code, out, err = run("erase", pattern, "--reason", "r", *arguments, *dsn)
        assert (code, out, said in err, "hint: " in err, "Type" in err) == (1, "", True, True, False), err
    run("retention", "drop", "acme:*:*:*:c07", *dsn)
    run("retention", "set", key(code="c00"), "--legal-hold", *dsn)

    code, out, _ = run("tenants", "--json", "acme:*:*:*:*", *dsn)
    rows = json.loads(out)
    assert [row["isolation_key"] for row in rows] == [key(code=f"c{number:02}") for number in range(22)]
    assert [row["is_held"] for row in rows] == [True] + [False] * 21
    assert all(datetime.fromisoformat(row["registered_at"]).tzinfo for row in rows)
    code, out, _ = run("tenants", *dsn)
    assert (code, len(out.splitlines())) == (0, 24)
    assert out.split()[:3] == ["isolation_key", "registered_at", "is_held"]
    assert run("tenants", "gamma", *dsn)[0] == 1

    run("retention", "drop", key(code="c00"), *dsn)
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    out_file = tmp_path / "certificate.json"
    code, _, err = run("erase", "acme:*:*:*:*", "--reason", "r", "--out", str(out_file), *dsn)
    assert code == 1
    assert "This erases all data of 22 tenants." in err
    assert [line for line in err.splitlines() if line.startswith("  ")] == [
        *(f"  {row['isolation_key']}" for row in rows[:20]),
        "  and 2 more, which pydb tenants 'acme:*:*:*:*' shows",
    ]
    assert not out_file.exists()


def test_a_refused_erasure_changes_nothing_and_leaves_no_file(run: Run, database: Database, tmp_path: Path) -> None:
    for credential in (ACME, BETA):
        save(database.connect("app"), "m", as_=credential)
    dsn = admin(database)
    run("retention", "set", "acme:*:*:*:*", "--legal-hold", *dsn)
    file = tmp_path / "certificate.json"
    with unchanged(database):
        for pattern, reason, said in (
            (ACME, "r", f"A legal hold keeps {ACME}. "),
            ("acme:*:*:*:*", "r", f"A legal hold keeps {ACME}. "),
            ("gamma:*:*:*:*", "r", "no tenant is covered"),
            ("gamma", "r", "(22023)"),
            (BETA, "a\nb", "(22023)"),
        ):
            arguments = ("erase", pattern, "--reason", reason, "--yes", pattern, "--out", str(file))
            code, out, err = run(*arguments, *dsn)
            assert (code, out, said in err, "hint: " in err) == (1, "", True, True), err
            assert not file.exists()
        file.write_text("mine")
        for out_file in (file, tmp_path / "not there" / "file"):
            arguments = ("erase", BETA, "--reason", "r", "--yes", BETA, "--out", str(out_file))
            code, out, err = run(*arguments, *dsn)
            assert (code, out, "cannot be made" in err, "hint: " in err) == (1, "", True, True)
        assert file.read_text() == "mine"
    file.unlink()
    nowhere = ("--dsn", "host=/nowhere")
    assert run("erase", ACME, "--reason", "r", "--yes", ACME, "--out", str(file), *nowhere)[0] == 1
    assert not file.exists()


def test_the_certificate_is_printed_when_its_file_cannot_take_it(capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w") as full:
        assert cli._hand_over('{"kind": "certificate"}', full) is False
    out, err = capsys.readouterr()
    assert out == '{"kind": "certificate"}\n'
    assert "/dev/full cannot be written: No space left on device" in err


def test_the_certificate_is_printed_though_the_vacuum_fails(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, superuser = database.connect("app"), database.connect()
    save(app, "m", as_=ACME)
    save(app, "m", as_=BETA)
    erase = ("erase", ACME, "--reason", "r", "--yes", ACME)

    # a reader whose snapshot is older than the erasure
    monkeypatch.setattr(cli, "OLD_SNAPSHOT_PATIENCE", 0.3)
    with psycopg.connect(database.dsn()) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select 1")
        code, out, err = run(*erase, *admin(database))
        assert (code, json.loads(out)["kind"]) == (1, "certificate")
        assert "Open transactions can still see" in err
        assert "run: vacuum (analyze);" in err
        assert "are vacuumed" not in err

    # an administrator who does not own the database
    superuser.execute("drop role if exists clerk")
    superuser.execute("create role clerk login")
    superuser.execute("grant ai_storage_admin to clerk")
    try:
        code, out, err = run(*erase, "--rewrite", "--dsn", database.dsn("clerk"))
        assert (code, json.loads(out)["kind"]) == (1, "certificate")
        assert "pydb: permission denied for schema ai_storage_private" in err
        assert "run: vacuum (full, analyze);" in err
    finally:
        superuser.execute("drop role clerk")

    # an error of the server
    superuser.execute("alter role postgres in database " + database.name + " set lock_timeout = '200ms'")
    try:
        with psycopg.connect(database.dsn()) as holder:
            holder.execute("lock table ai_storage_private.deleted_model in row exclusive mode")
            monkeypatch.setattr(cli, "OLD_SNAPSHOTS", "select false where %s <> ''")
            code, out, err = run(*erase, "--rewrite", *admin(database))
        assert (code, json.loads(out)["kind"]) == (1, "certificate")
        assert "lock timeout" in err
    finally:
        superuser.execute("alter role postgres in database " + database.name + " reset lock_timeout")
    assert names(app, as_=BETA) == ["m"]


# Export and import


def test_an_export_is_the_servers_lines_and_only_its_owners(run: Run, database: Database, tmp_path: Path) -> None:
    fill(database)
    file = tmp_path / "acme.jsonl"
    code, out, err = run("export", "--out", str(file), *tenant(database))
    assert (code, out, err) == (0, f"Exported 7 records of {ACME} to {file}.\n", "")
    rows = database.connect("app").execute("select line::text from ai_storage.export_tenant(%s) as e (line)", (ACME,))
    assert file.read_bytes() == b"".join(row[0].encode() + b"\n" for row in rows)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["acme.jsonl"]

    code, out, _ = run("export", "--out", str(tmp_path / "again"), "--json", *tenant(database))
    digest = sha256(b"".join(sha256(line).digest() for line in file.read_bytes().splitlines()[1:])).hexdigest()
    assert json.loads(out) == {"isolation_key": ACME, "records": 7, "digest": digest}


def test_an_export_overwrites_nothing(run: Run, database: Database, tmp_path: Path) -> None:
    fill(database)
    file, link = tmp_path / "mine", tmp_path / "dangling"
    file.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    with unchanged(database):
        for out_file in (file, link, tmp_path, tmp_path / "not there" / "file"):
            code, out, err = run("export", "--out", str(out_file), *tenant(database))
            assert (code, out, "hint: " in err) == (1, "", True), err
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "mine"]


def test_what_came_meanwhile_is_not_overwritten(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    file = tmp_path / "file"

    def late(lines: Iterator[str], total: int) -> Iterator[str]:
        file.write_text("mine")
        yield from lines

    with pytest.raises(transfer.TransferError):
        transfer.export_tenant(database.connect("app"), ACME, file, late)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "mine")]


def test_an_interrupted_export_leaves_nothing(database: Database, tmp_path: Path) -> None:
    fill(database)

    def interrupted(lines: Iterator[str], total: int) -> Iterator[str]:
        yield next(iter(lines))
        raise KeyboardInterrupt

    connection = database.connect("app")
    with unchanged(database):
        try:
            transfer.export_tenant(connection, ACME, tmp_path / "file", interrupted)
        except KeyboardInterrupt:
            assert list(tmp_path.iterdir()) == []
            # The connection is fit for use, also while the error is handled.
            assert names(connection, as_=ACME) == ["exact", "m"]
        else:
            raise AssertionError("not interrupted")


def test_an_export_is_restored_in_another_database(
    run: Run, database: Database, other_database: Database, tmp_path: Path
) -> None:
    fill(database)
    file = tmp_path / "acme.jsonl"
    run("export", "--out", str(file), *tenant(database))
    code, out, err = run("import-export", str(file), *tenant(other_database, BETA))
    assert (code, err) == (0, "")
    assert out == (f"Imported 6 records of {ACME}.\nLeft out 1 grant: share anew what is to be shared from here.\n")
    # The history is the same, to the last digit of every number.
    again = tmp_path / "beta.jsonl"
    run("export", "--out", str(again), *tenant(other_database, BETA))
    assert comparable(again, BETA) == comparable(file, ACME)
    assert "0.1000000000000000055511151231257827" in again.read_text()
    assert run("verify", *tenant(other_database, BETA))[0] == 0

    # once only, unless into another tenant
    with unchanged(other_database):
        code, _, err = run("import-export", str(file), *tenant(other_database, BETA))
        assert (code, "hint: " in err) == (1, True)
    code, out, _ = run("import-export", str(file), "--json", *tenant(other_database, key("beta", "s2")))
    digest = json.loads(file.read_text().splitlines()[0])["digest"]
    assert json.loads(out) == {"isolation_key": ACME, "records": 7, "digest": digest, "imported": 6, "grants": 1}


def comparable(file: Path, isolation_key: str) -> list[str]:
    """The records of an export but for its grants and for whose it is."""
    return [
        line.replace(isolation_key, "OWNER")
        for line in file.read_text().split("\n")[1:]
        if '"kind": "share"' not in line
    ]


def test_many_records_go_in_batches_and_in_one_transaction(
    run: Run, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = database.connect("app")
    for _ in range(2):
        items = [{"model_name": f"m{number % 50}", "mse": number} for number in range(620)]
        call(app, "save_progress_batch", items=items, as_=ACME)
    file = tmp_path / "acme.jsonl"
    run("export", "--out", str(file), *tenant(database))
    assert run("import-export", str(file), *tenant(database, BETA)) == (0, f"Imported 1240 records of {ACME}.\n", "")
    imports = [row.detail for row in call(app, "audit_trail", action="import tenant", as_=BETA)]
    assert imports == [{"records": 500}, {"records": 500}, {"records": 240}]

    # The last batch fails: the first ones are gone, and the same command may run again.
    other = key("beta", "s2")
    save(app, "m9", as_=other)
    with unchanged(database):
        assert run("import-export", str(file), *tenant(database, other))[0] == 1
    call(app, "delete_progress", model_name="m9", as_=other)
    assert run("import-export", str(file), *tenant(database, key("beta", "s3")))[0] == 0


def test_batches_end_by_lines_and_by_length() -> None:
    assert [len(batch) for batch in transfer._batches(["x"] * 1001)] == [500, 500, 1]
    assert [len(batch) for batch in transfer._batches(["x" * 2**20] * 9)] == [4, 4, 1]
    assert list(transfer._batches([])) == []


def test_a_broken_file_is_refused_before_anything_is_imported(run: Run, database: Database, tmp_path: Path) -> None:
    fill(database)
    file = tmp_path / "acme.jsonl"
    run("export", "--out", str(file), *tenant(database))
    whole = file.read_bytes()
    manifest, *lines = whole.splitlines(keepends=True)
    claimed = json.loads(manifest)
    early, changed, nothing = "ends too early", "was changed", "is not an export"
    for text, said in (
        (manifest + b"".join(lines[:-1]), early),
        (whole[:-1], early),
        (whole[:-40], early),
        (manifest, early),
        (whole.replace(b'"training_samples": 7', b'"training_samples": 8', 1), changed),
        (whole.replace("ü".encode(), b"\xff"), changed),
        (whole.replace(b"\n", b"\r\n"), changed),
        (whole + lines[-1], changed),
        (manifest + lines[1] + lines[0] + b"".join(lines[2:]), changed),
        (json.dumps(claimed | {"digest": "0" * 64}).encode() + b"\n" + b"".join(lines), changed),
        (b"", nothing),
        (b"\n", nothing),
        (b"{}\n", nothing),
        (b"[" * 100000, nothing),
        (b"\xff\xfe", nothing),
        (b"".join(lines), nothing),
        (json.dumps(claimed | {"records": "7"}).encode() + b"\n" + b"".join(lines), nothing),
        (json.dumps(claimed | {"format": 2}).encode() + b"\n" + b"".join(lines), "does not know"),
    ):
        file.write_bytes(text)
        with unchanged(database):
            code, out, err = run("import-export", str(file), *tenant(database, BETA))
        assert (code, out, said in err, "hint: " in err) == (1, "", True, True), (err, said)

    def never(lines: Iterator[str], total: int) -> Iterator[str]:
        raise AssertionError("began to import")

    file.write_bytes(whole[:-1])
    with pytest.raises(transfer.TransferError):
        transfer.import_tenant(database.connect("app"), BETA, file, never)
    for path in (tmp_path, tmp_path / "not there"):
        code, _, err = run("import-export", str(path), *tenant(database, BETA))
        assert (code, "cannot be read" in err) == (1, True)


def test_a_file_that_changes_during_the_import_changes_nothing(database: Database, tmp_path: Path) -> None:
    fill(database)
    app, file = database.connect("app"), tmp_path / "acme.jsonl"
    for _ in range(20):  # more than a file's buffer holds
        save(app, "z", training_samples=7, metadata={"long": "x" * 9000}, as_=ACME)
    transfer.export_tenant(app, ACME, file, lambda lines, total: lines)

    def edit(lines: Iterator[str], total: int) -> Iterator[str]:
        file.write_bytes(file.read_bytes().replace(b'"training_samples": 7', b'"training_samples": 8'))
        yield from lines

    # The check has read the file; the import reads on from the manifest.
    with unchanged(database), pytest.raises(transfer.TransferError):
        transfer.import_tenant(app, BETA, file, edit)


def test_progress_is_drawn_on_a_terminal_only(
    run: Run, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    assert run("export", "--out", str(tmp_path / "file"), *tenant(database))[0] == 0
    assert run("import-export", str(tmp_path / "file"), *tenant(database, BETA))[0] == 0
    text = shown.getvalue()
    assert text.endswith("\n")
    assert f"\rExporting [{'#' * 30}] 7 of 7\n" in text
    assert f"\rImporting [{'#' * 30}] 7 of 7\n" in text
    assert re.search(r"\rExporting \[####  *\] 1 of 7", text)
    empty = ("--dsn", database.dsn("app"), "--as", key("beta", "s9"))
    assert run("export", "--out", str(tmp_path / "empty"), *empty)[0] == 0


# The report, and what it is told


def test_the_report_exits_with_1_when_a_control_failed(run: Run, database: Database) -> None:
    superuser = database.connect()
    save(database.connect("app"), "m", as_=ACME)
    code, out, _ = run("compliance", "--json", *admin(database))
    before = {row["control"]: row for row in json.loads(out)}
    failed = {control for control, row in before.items() if row["status"] == "failed"}
    assert code == (1 if failed else 0)
    assert all(row["evidence"].startswith(("select", "with")) and row["reference"] for row in before.values())
    assert before["the audit log verifies"]["status"] == "passed"
    head, *lines = run("compliance", *admin(database))[1].splitlines()
    assert head.split() == ["control", "status", "reference", "result"]
    assert len(lines) == len(before)

    superuser.execute("alter table ai_storage_private.deleted_model no force row level security")
    code, out, _ = run("compliance", *admin(database))
    assert code == 1
    assert re.search("^row level security is forced on every table +failed .* not on deleted_model$", out, re.MULTILINE)


def test_the_exit_code_of_the_report(run: Run, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    superuser = database.connect()
    for status, expected in (("passed", 0), ("warning", 0), ("unknown", 0), ("failed", 1)):
        superuser.execute(
            "create or replace function ai_storage_private.list_controls() returns table (place integer, control text, "
            "reference text, is_quick boolean, evidence text) language sql stable as $$ "
            f"values (1, 'c', 'r', true, 'select ''{status}'', ''x''') $$"
        )
        assert run("compliance", *admin(database))[0] == expected


def test_a_backup_and_a_broken_glass_are_told(run: Run, database: Database) -> None:
    app, dsn = database.connect("app"), admin(database)
    save(app, "m", as_=ACME)
    save(app, "m", as_=ACME_2)

    def status(control: str) -> tuple[str, str]:
        rows = json.loads(run("compliance", "--json", *dsn)[1])
        return next((row["status"], row["result"]) for row in rows if row["control"] == control)

    backup, glass = "there is a backup of the last two days", "nobody broke the glass in the last 30 days"
    assert status(backup)[0] == "unknown"
    assert run("report-backup", "--taken-at", "9d", "--location", "s3://vault", *dsn)[0] == 0
    assert status(backup)[0] == "failed"
    code, out, _ = run("report-backup", *dsn)
    assert (code, out.startswith("Reported a backup of 20")) == (0, True)
    assert status(backup) == ("passed", f"last on {datetime.now(UTC).date()}")
    ahead = datetime.now(UTC) + timedelta(hours=1)
    code, _, err = run("report-backup", "--taken-at", ahead.isoformat(), *dsn)
    assert (code, "(22023)" in err) == (1, True)

    assert status(glass) == ("passed", "none")
    code, out, _ = run("break-glass", "acme:*:*:*:*", "--reason", "ticket 7", *dsn)
    assert (code, out) == (0, "It stands in the operator's log and in the logs of 2 tenants. It granted nothing.\n")
    assert status(glass)[0] == "warning"
    (event,) = call(app, "audit_trail", action="break glass", as_=ACME)
    assert event.detail == {"reason": "ticket 7"}


def test_stats_are_the_tenants(run: Run, database: Database) -> None:
    fill(database)
    code, out, _ = run("stats", "--json", *tenant(database))
    (row,) = json.loads(out)
    assert code == 0
    assert {
        name: row[name] for name in ("isolation_key", "own_models", "shared_models", "total_models", "versions")
    } == {
        "isolation_key": ACME,
        "own_models": 2,
        "shared_models": 0,
        "total_models": 2,
        "versions": 3,
    }
    assert row["compliance_status"] in ("passed", "warning", "failed")
    guest = key(server="s2")
    head, line = run("stats", *tenant(database, guest))[1].splitlines()
    assert head.split()[:5] == ["isolation_key", "own_models", "shared_models", "total_models", "versions"]
    assert line.split()[:5] == [guest, "0", "1", "1", "0"]
    stats = database.storage(guest).get_tenant_stats()
    assert (stats.isolation_key, stats.own_models, stats.shared_models) == (guest, 0, 1)


def test_a_storage_exports_and_imports(database: Database) -> None:
    fill(database)
    records = database.storage(ACME).export_tenant()
    assert records[0]["isolation_key"] == ACME
    assert records[0]["records"] == len(records) - 1
    mine = database.storage(BETA)
    without = [record for record in records if record.get("model_name") != "exact"]
    assert mine.import_tenant(without) == 5
    assert [(version.version, version.mse) for version in mine.load_history("m")] == [(2, 1 / 3), (1, 0.1)]


def test_every_action_has_help(run: Run) -> None:
    for action in ("set", "list", "drop", "apply"):
        code, out, _ = run("retention", action, "--help")
        assert (code, out.startswith(f"usage: pydb retention {action}")) == (0, True)
    text = run("erase", "--help")[1]
    assert "write-ahead log" in text
    assert "backups" in text
