"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from pydb import cli
from tests.conftest import Database

KEY = "acme:mcp-1:shop:production:abc123"
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


def test_a_model_goes_its_way(run: Run, database: Database) -> None:
    app = ("--dsn", database.dsn("app"), "--as", KEY)
    code, out, _ = run(
        "save", "m", "--mse", "0.5", "--metric", "accuracy=0.9", "--metadata", '{"a": 1}', *app, "--json"
    )
    assert code == 0
    assert json.loads(out)[0]["version"] == 1
    assert run("save", "m", "--mse", "0.4", "--samples", "100", "--expected-version", "1", *app)[0] == 0

    code, out, _ = run("load", *app, "--json")
    assert [(row["model_name"], row["mse"], row["training_samples"]) for row in json.loads(out)] == [("m", 0.4, 100)]
    code, out, _ = run("history", "m", *app)
    assert [line.split()[:2] for line in out.splitlines()] == [["version", "mse"], ["2", "0.4"], ["1", "0.5"]]

    newer = ("--dsn", database.dsn("app"), "--as", KEY.replace("abc123", "def456"))
    code, out, _ = run("promote", "abc123", *newer, "--json")
    assert json.loads(out) == [{"model_name": "m", "version": 1}]
    assert run("delete", "m", *newer)[0] == 0
    code, out, err = run("delete", "m", *newer)
    assert (code, out) == (1, "")
    assert "hint:" in err


def test_a_model_is_saved_with_its_files_and_promoted_with_them(run: Run, database: Database, tmp_path: Path) -> None:
    app = ("--dsn", database.dsn("app"), "--as", KEY)
    (tmp_path / "large").write_bytes(b"x" * 3_000_000)
    (tmp_path / "small").write_bytes(b"y")
    files = ("--artifact", f"w={tmp_path / 'large'}", "--artifact", f"card={tmp_path / 'small'}")
    assert run("save", "m", "--mse", "0.5", *files, *app)[0] == 0
    assert run("save", "m", "--mse", "0.4", *app)[0] == 0
    out = str(tmp_path / "out")
    assert run("get", "m", "w", "--out", out, *app)[0] == 1
    assert run("get", "m", "w", "--out", out, "--version", "1", *app)[0] == 0
    assert (tmp_path / "out").read_bytes() == b"x" * 3_000_000
    assert run("get", "m", "card", "--out", out, "--or-earlier", *app)[0] == 0
    assert (tmp_path / "out").read_bytes() == b"y"
    put = ("put", "m", str(tmp_path / "small"), "--version", "1", *app)
    assert run(*put, "--expected-version", "1")[0] == 1
    assert run(*put, "--expected-version", "2")[0] == 0
    listed = json.loads(run("artifacts", "m", "--version", "1", *app, "--json")[1])
    assert [row["artifact_name"] for row in listed] == ["card", "small", "w"]
    assert json.loads(run("artifacts", "m", "--version", "2", *app, "--json")[1]) == []
    assert len(json.loads(run("artifacts", "m", "--version", "2", "--or-earlier", *app, "--json")[1])) == 3
    for wrong in (("--artifact", "w"), ("--artifact", "=x"), (*files, *files)):
        assert run("save", "m", "--mse", "0.3", *wrong, *app)[0] == 2
    code, _, err = run("save", "m", "--mse", "0.3", "--artifact", "w=/nowhere", *app)
    assert (code, "hint:" in err) == (1, True)

    newer = ("--dsn", database.dsn("app"), "--as", KEY.replace("abc123", "def456"))
    assert run("promote", "abc123", "m", "--with-history", *newer)[0] == 0
    assert run("get", "m", "w", "--out", out, "--version", "1", *newer)[0] == 0
    versions = json.loads(run("versions", *newer, "--json")[1])
    assert [(row["code_hash"], row["is_own"], row["models"]) for row in versions] == [
        ("def456", True, 1),
        ("abc123", False, 1),
    ]


def test_a_refusal_names_code_and_hint_and_exits_with_1(run: Run, database: Database) -> None:
    app = ("--dsn", database.dsn("app"), "--as", KEY)
    run("save", "m", "--mse", "0.5", *app)
    code, out, err = run("save", "m", "--mse", "0.4", "--expected-version", "5", *app)
    assert (code, out) == (1, "")
    assert "(TN102)" in err
    assert "detail: " in err
    assert "hint: " in err
    code, _, err = run("load", "--dsn", database.dsn("acme_app"), "--as", "beta:s:p:e:c")
    assert code == 1
    assert "(TN003)" in err
    code, _, err = run("load", "--dsn", "host=/nowhere", "--as", KEY)
    assert code == 1
    assert err.startswith("pydb: ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["save"],
        ["load"],
        ["save", "m", "--as", KEY, "--metric", "x"],
        ["db", "explode"],
        ["share", "m", "--as", KEY],
        ["share", "m", "--as", KEY, "--to", "mcp-2"],
        ["share", "m", "--as", KEY, "--to", ":mcp-2"],
        ["share", "m", "--as", KEY, "--to", ":mcp-2::::"],
        ["share", "m", "--as", KEY, "--to", "server_id=mcp-2,server_id=mcp-3"],
        ["share", "m", "--as", KEY, "--to", ":mcp-2:::", "--permission", "own"],
        ["share", "m", "--as", KEY, "--to", ":mcp-2:::", "--expires", "7w"],
        ["share", "m", "--as", KEY, "--to", ":mcp-2:::", "--expires", "-7d"],
        ["share", "m", "--as", KEY, "--to", ":mcp-2:::", "--expires", "9999999999d"],
        ["unshare", "--as", KEY],
        ["unshare", "m", "--id", "00000000-0000-4000-8000-000000000000", "--as", KEY],
        ["unshare", "--id", "m", "--as", KEY],
        ["unshare", "--id", "00000000-0000-4000-8000-000000000000", "--to", ":mcp-2:::", "--as", KEY],
        ["unshare", "--id", "00000000-0000-4000-8000-000000000000", "--owner", KEY, "--as", KEY],
        ["shares"],
        ["external"],
        ["external", "allow"],
        ["external", "allow", "acme"],
        ["external", "forbid"],
        ["decline", "--as", KEY],
        ["decline", "not-a-uuid", "--as", KEY],
        ["external", "list", "acme"],
        ["external", "permit", "acme"],
        ["shares", "--as", KEY, "--graph", "shares.png"],
    ],
)
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: ")


def test_every_command_has_help(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    commands = [line.split()[0] for line in out.splitlines() if line.startswith("    ") and line[4] != " "]
    assert set(commands) >= {"init", "migrate", "status", "authorize", "deauthorize", "db", "save", "load", "demo"}
    assert set(commands) >= {"share", "unshare", "shares", "decline", "external"}
    assert set(commands) >= {"stats", "export", "import-export", "retention", "erase", "compliance", "break-glass"}
    for command in commands:
        if command != "demo":  # hands --help on to the demo itself
            code, out, _ = run(command, "--help")
            assert code == 0
            assert out.startswith(f"usage: pydb {command}")


def test_init_is_safe_to_repeat_and_says_what_a_wide_pattern_means(run: Run, empty_database: Database) -> None:
    dsn = ("--dsn", empty_database.dsn())
    for _ in range(2):
        code, out, _ = run("init", "--app-login", "app", "--pattern", "*:*:*:*:*", *dsn)
        assert code == 0
        assert "may name any tenant" in out
    assert run("migrate", *dsn)[0] == 0
    code, out, _ = run("status", *dsn, "--json")
    assert code == 0
    assert {file["state"] for file in json.loads(out)} == {"applied"}


def test_repeating_init_says_what_stays_and_weakens_nothing(run: Run, empty_database: Database) -> None:
    login, pattern = ("--dsn", empty_database.dsn(), "--app-login", "app"), ("--pattern", "acme:*:*:*:*")
    assert "may name any tenant" in run("init", *login, *pattern)[1]
    assert "may name any tenant" not in run("init", *login, *pattern, "--token-only")[1]
    for again in ((), ("--token-only",)):
        code, out, _ = run("init", *login, *pattern, *again)
        assert code == 0
        assert "Login app is authorised for acme:*:*:*:* by token.\n" in out
        assert out.count("Login app is authorised") == 1
        assert "may name any tenant" not in out
        assert ("stays so" in out) == (again == ())


@pytest.mark.parametrize("more", [(), ("--token-only",)])
def test_no_login_is_authorised_without_a_pattern(run: Run, empty_database: Database, more: tuple[str, ...]) -> None:
    code, out, err = run("init", "--dsn", empty_database.dsn(), "--app-login", "app", *more)
    assert (code, out) == (2, "")
    assert "--pattern" in err
    (made,) = empty_database.connect().execute("select to_regnamespace('ai_storage')").fetchone()
    assert made is None


def test_status_exits_with_1_when_a_file_is_behind(run: Run, database: Database) -> None:
    database.connect().execute("update ai_storage_migration.applied_file set sha256 = '' where path like '%grants%'")
    code, out, err = run("status", "--dsn", database.dsn())
    assert code == 1
    assert "sql/90_grants.sql" in out
    assert "1 file is not applied" in err
    assert "pydb migrate" in err
    code, out, err = run("status", "--dsn", database.dsn("app"))
    assert (code, out) == (1, "")
    assert "pydb: The login app may not read which files are applied.\nhint: " in err


def test_authorisations_are_given_listed_and_taken_back(run: Run, database: Database) -> None:
    dsn = ("--dsn", database.dsn())
    assert run("authorize", "beta_app", "gamma:*:*:*:*", "--token-only", *dsn)[0] == 0
    rows = json.loads(run("authorizations", "--json", *dsn)[1])
    assert {("beta_app", "beta:*:*:*:*", False), ("beta_app", "gamma:*:*:*:*", True)} <= {
        (row["login_name"], row["pattern"], row["token_only"]) for row in rows
    }
    assert run("deauthorize", "beta_app", "gamma:*:*:*:*", *dsn)[0] == 0
    assert run("deauthorize", "beta_app", "gamma:*:*:*:*", *dsn)[0] == 1
    assert run("authorize", "beta_app", "gamma", *dsn)[0] == 1
    assert run("authorize", "nobody_here", "gamma:*:*:*:*", *dsn)[0] == 1
    assert run("authorize", "postgres", "gamma:*:*:*:*", *dsn)[0] == 1


def test_the_dsn_may_come_from_the_environment(run: Run, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database.dsn("app"))
    assert run("save", "m", "--mse", "0.5", "--as", KEY)[0] == 0


def test_a_model_is_shared_used_and_taken_back(run: Run, database: Database, tmp_path: Path) -> None:
    dsn = ("--dsn", database.dsn("app"))
    other = KEY.replace("mcp-1", "mcp-2")
    me, guest = (*dsn, "--as", KEY), (*dsn, "--as", other)
    run("save", "m", "--mse", "0.5", *me)
    permissions = ("--permission", "write", "--permission", "read")
    code, out, _ = run("share", "m", "--to", ":mcp-2:::", "--to", "server_id=mcp-3,project_id=*", *permissions, *me)
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()] == ["target", other, "acme:mcp-3:*:production:abc123"]

    assert run("save", "m", "--mse", "0.4", "--owner", KEY, *guest)[0] == 0
    (row,) = json.loads(run("shares", "--received", "--json", *guest)[1])
    assert (row["shared_by"], row["permissions"], row["expires_at"]) == (KEY, ["read", "write"], None)
    assert json.loads(run("shares", "--received", "another", "--json", *guest)[1]) == []
    assert json.loads(run("shares", "--json", *guest)[1]) == []
    rows = json.loads(run("shares", "m", "--json", *me)[1])
    assert [row["target"] for row in rows] == [other, "acme:mcp-3:*:production:abc123"]
    assert row == rows[0]
    assert json.loads(run("shares", "another", "--json", *me)[1]) == []
    header, *lines = run("shares", *me)[1].splitlines()
    assert header.split()[:5] == ["share_id", "model_name", "owner_key", "shared_by", "target"]
    assert [line.split()[4] for line in lines] == [other, "acme:mcp-3:*:production:abc123"]

    picture = tmp_path / "shares.svg"
    code, out, _ = run("shares", "--received", "--json", "--graph", str(picture), *me)
    assert (code, json.loads(out)) == (0, [])
    assert all(row["share_id"] in picture.read_text("utf-8") for row in rows)
    drawn = picture.read_bytes()
    for path in (picture, tmp_path / "none" / "shares.svg"):
        code, out, err = run("shares", "--graph", str(path), *me)
        assert (code, out) == (1, "")
        assert "hint: " in err
    assert picture.read_bytes() == drawn

    assert run("unshare", "m", "--to", ":mcp-3:*::", *me) == (0, "Grants ended: 1.\n", "")
    assert run("unshare", "--id", rows[0]["share_id"], *me) == (0, "The grant ended.\n", "")
    assert run("save", "m", "--mse", "0.3", "--owner", KEY, *guest)[0] == 1
    for again in (("m",), ("--id", rows[0]["share_id"])):
        code, out, err = run("unshare", *again, *me)
        assert (code, out) == (1, "")
        assert "hint: " in err


def test_a_shared_model_is_passed_on(run: Run, database: Database) -> None:
    dsn = ("--dsn", database.dsn("app"))
    me, second, third = ((*dsn, "--as", KEY.replace("mcp-1", server)) for server in ("mcp-1", "mcp-2", "mcp-3"))
    for mse in ("0.5", "0.4"):
        run("save", "m", "--mse", mse, *me)
    assert run("share", "m", "--to", ":mcp-2:::", "--permission", "read", "--permission", "share", *me)[0] == 0
    assert run("share", "m", "--to", ":mcp-3:::", "--owner", KEY, "--version", "1", *second)[0] == 0
    (row,) = json.loads(run("shares", "--received", "--json", *third)[1])
    assert (row["owner_key"], row["shared_by"]) == (KEY, KEY.replace("mcp-1", "mcp-2"))
    assert (row["permissions"], row["version"]) == (["read"], 1)
    assert run("unshare", "m", *second)[0] == 1
    assert run("unshare", "m", "--owner", KEY, *second) == (0, "Grants ended: 1.\n", "")
    assert json.loads(run("shares", "--received", "--json", *third)[1]) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("7d", 7 * 86400), ("12h", 12 * 3600), ("30m", 30 * 60), ("36500d", 36500 * 86400)]
)
def test_a_share_ends_after_a_duration(text: str, seconds: int) -> None:
    left = cli._end(text) - datetime.now(UTC)
    assert left.total_seconds() == pytest.approx(seconds, abs=60)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-07-01T18:00", "2030-07-01T12:30:00+00:00"),
        ("2030-07-01", "2030-06-30T18:30:00+00:00"),
        ("2030-07-01T18:00+02:00", "2030-07-01T16:00:00+00:00"),
        ("2030-07-01T18:00Z", "2030-07-01T18:00:00+00:00"),
    ],
)
def test_a_share_ends_at_a_time_that_is_local_unless_it_has_an_offset(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC-05:30")  # POSIX's sign: east of Greenwich
    time.tzset()
    try:
        assert cli._end(text).astimezone(UTC).isoformat() == expected
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_end_of_a_share_reaches_the_database(run: Run, database: Database) -> None:
    app = ("--dsn", database.dsn("app"), "--as", KEY)
    run("save", "m", "--mse", "0.5", *app)
    assert run("share", "m", "--to", ":*:::", "--expires", "2090-07-01T18:00Z", *app)[0] == 0
    (row,) = json.loads(run("shares", "--json", *app)[1])
    assert datetime.fromisoformat(row["expires_at"]) == datetime(2090, 7, 1, 18, tzinfo=UTC)
    code, _, err = run("share", "m", "--to", ":*:::", "--expires", "2001-01-01", *app)
    assert code == 1
    assert "(22023)" in err


def test_an_administrator_permits_sharing_outside(run: Run, database: Database) -> None:
    admin, app = ("--dsn", database.dsn()), ("--dsn", database.dsn("app"), "--as", KEY)
    run("save", "m", "--mse", "0.5", *app)
    code, _, err = run("share", "m", "--to", "beta:*:*:*:*", *app)
    assert code == 1
    assert "(TN302)" in err
    assert run("external", "allow", "acme", "beta", *admin)[0] == 0
    rows = json.loads(run("external", "list", "--json", *admin)[1])
    assert [(row["org_id"], row["to_org_id"]) for row in rows] == [("acme", "beta")]
    assert run("share", "m", "--to", "beta:*:*:*:*", "--to", ":*:::", *app)[0] == 0
    code, out, _ = run("external", "forbid", "acme", *admin)
    assert code == 0
    assert out.endswith("Grants ended: 1.\n")
    assert json.loads(run("external", "list", "--json", *admin)[1]) == []
    assert run("external", "allow", "a:b", "beta", *admin)[0] == 1
    assert run("external", "allow", "acme", "beta", "--dsn", database.dsn("app"))[0] == 1


@pytest.fixture
def data_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="pydb-cli-"))
    os.chmod(folder, 0o711)
    monkeypatch.setenv("AI_STORAGE_DATA_DIR", str(folder / "data"))
    yield folder / "data"
    cli.main(["db", "destroy", "--yes"])
    shutil.rmtree(folder)


def test_without_a_dsn_the_embedded_server_is_used(run: Run, data_dir: Path) -> None:
    assert json.loads(run("db", "status", "--json")[1])[0]["state"] == "absent"
    assert run("save", "m", "--mse", "0.5", "--as", KEY)[0] == 0
    assert json.loads(run("load", "--as", KEY, "--json")[1])[0]["version"] == 1
    code, url, _ = run("db", "url")
    assert code == 0
    with psycopg.connect(url.strip()) as connection:
        assert connection.execute("select count(*) from ai_storage_private.tenant").fetchone() == (1,)
    assert run("db", "stop") == (0, f"The server of {data_dir} is stopped. Its data stays.\n", "")
    assert json.loads(run("load", "--as", KEY, "--json")[1])[0]["version"] == 1
    assert run("db", "destroy", "--yes") == (0, f"The server and all data of {data_dir} are deleted.\n", "")
    assert not data_dir.exists()


def test_destroying_asks_first(run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("db", "start")
    monkeypatch.setattr("builtins.input", lambda prompt: "no")
    assert run("db", "destroy")[0] == 1
    assert data_dir.exists()


@pytest.mark.parametrize("arguments", [["demo"], ["demo", "--dsn", "given"]])
def test_the_demo_goes_to_no_database_of_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    demo = pytest.importorskip("pydb.demo")
    given: list[str | None] = []
    monkeypatch.setenv("DATABASE_URL", "from the environment")
    monkeypatch.setattr(demo, "MISSING", "")
    monkeypatch.setattr(demo, "_run", lambda dsn, *rest: given.append(dsn) or 0)
    assert run(*arguments)[0] == 0
    assert given == ["given" if "--dsn" in arguments else None]


def test_it_runs_as_a_module_and_as_a_command() -> None:
    for command in ([sys.executable, "-m", "pydb.cli"], [str(Path(sys.executable).parent / "pydb")]):
        shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert shown.stdout.startswith("pydb ")


def test_keys_are_made_listed_and_retired_and_tokens_minted(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = ("--dsn", database.dsn())
    (made,) = json.loads(run("key", "create", "k1", "--audience", "here", "--json", *dsn)[1])
    levels = zip(("org", "server", "project", "env", "code"), KEY.split(":"), strict=True)
    mint = [
        "token",
        "--kid",
        "k1",
        "--audience",
        "here",
        *(part for name, level in levels for part in (f"--{name}", level)),
    ]
    monkeypatch.delenv("AI_STORAGE_TOKEN_SECRET", raising=False)
    code, _, err = run(*mint)
    assert code == 1
    assert "AI_STORAGE_TOKEN_SECRET" in err
    monkeypatch.setenv("AI_STORAGE_TOKEN_SECRET", "short")
    code, out, err = run(*mint)
    assert (code, out, "too short" in err) == (1, "", True)
    monkeypatch.setenv("AI_STORAGE_TOKEN_SECRET", made["secret"])
    code, token, _ = run(*mint, "--ttl", "5m")
    assert code == 0
    app = ("--dsn", database.dsn("app"), "--as", token.strip())
    assert run("save", "m", "--mse", "0.5", *app)[0] == 0
    code, narrow, _ = run(*mint, "--from", "abc122", "--from", "abc121")
    assert code == 0
    claims = json.loads(base64.urlsafe_b64decode(narrow.split(".")[1] + "=="))
    assert claims["from"] == ["abc122", "abc121"]
    assert run(*mint, "--from", "*")[0] == 2
    for wrong in (["list", "k1"], ["list", "--audience", "here"], ["retire", "k1", "--audience", "here"]):
        assert run("key", *wrong, *dsn)[0] == 2
    assert run("key", "retire", "k1", *dsn) == (0, "Key k1 is retired: its tokens are refused from now on.\n", "")
    assert run("key", "retire", "k1", *dsn)[0] == 1
    assert run("key", "retire", *dsn)[0] == 1
    (listed,) = json.loads(run("key", "list", "--json", *dsn)[1])
    assert listed["kid"] == "k1"
    assert "secret" not in listed
    assert run("load", *app)[0] == 1
    # What the database would refuse.
    for option, wrong in (
        *(("--ttl", text) for text in ("soon", "0s", "25h", "86401s", "999999d")),
        *(("--server", text) for text in ("", "*", "a:b", "a b", "\u00e9", "x" * 64, "x\n")),
    ):
        code, out, err = run(*mint, option, wrong)
        assert (code, out) == (2, "")
        assert f"argument {option}: " in err
    assert run(*mint, "--ttl", "24h", "--server", "A.z_0+@~=/-".ljust(63, "x"))[0] == 0


def test_a_missing_or_old_schema_is_named_with_the_command_that_mends_it(
    run: Run, empty_database: Database, database: Database
) -> None:
    code, _, err = run("load", "--dsn", empty_database.dsn("app"), "--as", KEY)
    assert code == 1
    assert "pydb init" in err
    database.connect().execute("drop function ai_storage.load_history")
    code, _, err = run("history", "m", "--dsn", database.dsn("app"), "--as", KEY)
    assert code == 1
    assert "pydb migrate" in err


def test_a_name_that_is_not_there_is_said_and_an_empty_list_is_not(run: Run, database: Database) -> None:
    app = ("--dsn", database.dsn("app"), "--as", KEY)
    assert run("load", *app)[0] == 0
    assert run("load", "typo", *app)[0] == 1
