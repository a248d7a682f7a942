"""pydb import: what it takes out of JSON files, into which tenant, and what it leaves alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pydb import cli, importer, token
from tests.conftest import Database
from tests.helpers import ACME, ACME_2, BETA, call, key, names, save, unchanged, until, value, versions

Import = Callable[..., tuple[int, Any]]
FOLDERS = "acme:{1}:{2}:production:c1"


@pytest.fixture
def run(database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Import:
    """Runs pydb import. Returns: the exit code and the report."""
    monkeypatch.delenv("DATABASE_URL", raising=False)

    def run(path: Path, template: str = ACME, *options: str) -> tuple[int, Any]:
        code = cli.main(["import", str(path), "--as", template, "--dsn", database.dsn("app"), "--json", *options])
        return code, json.loads(capsys.readouterr().out)

    return run


def write(path: Path, *records: Any, text: str | bytes | None = None) -> Path:
    """A file of one record, of several as an array or as lines by its suffix, or of a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        lines = path.suffix != ".json"
        text = (
            "\n".join(map(json.dumps, records)) if lines else json.dumps(records[0] if len(records) == 1 else records)
        )
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def model(name: str, mse: float = 0.5, **more: Any) -> dict[str, Any]:
    return {"model_name": name, "mse": mse, **more}


def loaded(database: Database, tenant: str = ACME) -> dict[str, Any]:
    return {row.model_name: row for row in call(database.connect("app"), "load_progress", limit=None, as_=tenant)}


# Formats -------------------------------------------------------------------------------------------------------------


def test_a_file_holds_one_model_an_array_or_lines(run: Import, database: Database, tmp_path: Path) -> None:
    write(tmp_path / "one.json", model("one", training_samples=7, metrics={"a": 1}, metadata={"b": [None]}))
    write(tmp_path / "array.json", model("a1"), model("a2"))
    write(tmp_path / "lines.jsonl", model("l1"), model("l2"))
    write(tmp_path / "more.ndjson", text=json.dumps(model("n\u2028")) + "\r\n\r\n" + json.dumps(model("n2")) + "\n")
    write(tmp_path / "marked.json", text=b"\xef\xbb\xbf" + json.dumps(model("marked")).encode())
    write(tmp_path / "empty.json", text="[]")
    write(tmp_path / "notes.txt", text="not ours")
    code, report = run(tmp_path)
    assert (code, report["files"], report["saved"], report["skipped"]) == (0, 6, 8, [])
    assert report["tenants"] == [{"isolation_key": ACME, "files": 5, "saved": 8, "unchanged": 0}]
    rows = loaded(database)
    assert sorted(rows) == ["a1", "a2", "l1", "l2", "marked", "n2", "n\u2028", "one"]
    one = rows["one"]
    assert (one.mse, one.training_samples, one.metrics, one.metadata) == (0.5, 7, {"a": 1}, {"b": [None]})


def test_a_file_can_be_named_itself(run: Import, database: Database, tmp_path: Path) -> None:
    assert run(write(tmp_path / "m.json", model("m")))[0] == 0
    (tmp_path / "link.json").symlink_to(write(tmp_path / "elsewhere" / "n.json", model("n")))
    assert run(tmp_path / "link.json")[0] == 0
    assert names(database.connect("app"), as_=ACME) == ["m", "n"]


def test_the_names_of_fields_may_be_camel_case_and_other_fields_go_into_the_metadata(
    run: Import, database: Database, tmp_path: Path
) -> None:
    record = {"modelName": "m", "mse": 1, "trainingSamples": 1000.0, "metadata": {"a": 1}, "createdAt": "2024-05-01"}
    write(tmp_path / "m.json", record)
    write(tmp_path / "n.json", {"modelName": "n", "metrics": {"x": 1}, "metadata": None, "owner": "x", "id": 5})
    assert run(tmp_path)[0] == 0
    rows = loaded(database)
    assert rows["m"].training_samples == 1000
    assert rows["m"].metadata == {"a": 1, "createdAt": "2024-05-01"}
    assert (rows["n"].mse, rows["n"].metadata) == (None, {"owner": "x", "id": 5})


# Tenants -------------------------------------------------------------------------------------------------------------


def test_folders_per_server_and_project_name_the_tenants(run: Import, database: Database, tmp_path: Path) -> None:
    for server in ("mcp-1", "mcp-2"):
        for project in ("shop", "blog"):
            write(tmp_path / server / project / "m.json", model("m", metadata={"of": f"{server} {project}"}))
            write(tmp_path / server / project / "deeper" / "n.json", model("n"))
    code, report = run(tmp_path, FOLDERS)
    assert (code, report["files"], report["saved"]) == (0, 8, 8)
    assert [count["isolation_key"] for count in report["tenants"]] == [
        f"acme:{server}:{project}:production:c1" for server in ("mcp-1", "mcp-2") for project in ("blog", "shop")
    ]
    rows = loaded(database, "acme:mcp-2:blog:production:c1")
    assert {name: row.metadata for name, row in rows.items()} == {"m": {"of": "mcp-2 blog"}, "n": {}}


def test_fields_of_a_record_name_its_tenant(run: Import, database: Database, tmp_path: Path) -> None:
    records = [
        model("m", 1, orgId="acme", context={"code": "c1"}),
        model("m", 2, orgId="beta", context={"code": "c1"}),
        model("m", 3, orgId="acme", context={"code": 2}),
        model("n", 4, orgId="acme", context={"code": "c1"}),
    ]
    write(tmp_path / "dump.jsonl", *records)
    code, report = run(tmp_path, "{orgId}:s1:p1:production:{context.code}")
    assert (code, report["files"], report["saved"]) == (0, 1, 4)
    assert {name: row.mse for name, row in loaded(database).items()} == {"m": 1, "n": 4}
    assert loaded(database, BETA)["m"].mse == 2
    assert loaded(database, key(code="2"))["m"].mse == 3


def test_what_names_no_tenant_is_skipped(run: Import, database: Database, tmp_path: Path) -> None:
    write(tmp_path / "top.json", model("m"))
    write(tmp_path / "mcp-1" / "half.json", model("m"))
    write(tmp_path / "a:b" / "shop" / "m.json", model("m"))
    write(tmp_path / "*" / "shop" / "m.json", model("m"))
    write(tmp_path / "mcp\n1" / "shop" / "m.json", model("m"))
    with unchanged(database):
        code, report = run(tmp_path, FOLDERS)
    assert (code, report["files"], report["saved"], len(report["skipped"])) == (1, 0, 0, 5)
    assert all(skipped["reason"].startswith(("{1} is missing", "{2} is missing")) for skipped in report["skipped"])
    write(tmp_path / "fields.jsonl", *[model("m", code=code) for code in ("c1", "", "a:b", None, True, 1.5, ["c1"])])
    for line in (tmp_path / "fields.jsonl").read_text().splitlines():
        write(tmp_path / "f" / "field.json", text=line)
        code, report = run(tmp_path / "f", "acme:s1:p1:production:{code}")
        assert code == (0 if '"c1"}' in line else 1), line


def test_a_tenant_that_the_login_may_not_name_is_skipped(
    database: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for org in ("acme", "beta"):
        write(tmp_path / org / "m.json", model("m"))
    write(tmp_path / "both.jsonl", model("n", org="acme"), model("n", org="beta"))
    arguments = ["--dsn", database.dsn("acme_app"), "--json"]
    assert cli.main(["import", str(tmp_path), "--as", "{1}:s1:p1:production:c1", *arguments]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [skipped["path"] for skipped in report["skipped"]] == ["beta/m.json", "both.jsonl"]
    assert cli.main(["import", str(tmp_path / "both.jsonl"), "--as", "{org}:s1:p1:production:c1", *arguments]) == 1
    # The other tenant of that file got nothing either.
    assert names(database.connect("app"), as_=ACME) == ["m"]


def test_a_token_is_a_credential_too_and_is_not_shown(
    run: Import, database: Database, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    admin = database.connect()
    kid, secret = call(admin, "create_signing_key", kid="k", audience="here")[0]
    levels = dict(zip(("org", "srv", "prj", "env", "code"), ACME.split(":"), strict=True))
    credential = token.mint(token.Tenant(**levels), kid=kid, secret=secret, audience="here", ttl=timedelta(minutes=5))
    code, report = run(write(tmp_path / "m.json", model("m")), credential)
    assert (code, report["tenants"][0]["isolation_key"]) == (0, ACME)
    assert credential not in json.dumps(report)


@pytest.mark.parametrize(
    "template", ["acme:{1}", "acme:{1}:p:e:c:x", "acme:{}:p:e:c", "acme:{1:p:e:c", "{1}:a b:p:e:c"]
)
def test_a_template_has_five_levels(template: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["import", str(tmp_path), "--as", template, "--dsn", "host=/nowhere"])
    assert stop.value.code == 2


# Again ---------------------------------------------------------------------------------------------------------------


def test_a_dry_run_reports_the_same_and_changes_nothing(run: Import, database: Database, tmp_path: Path) -> None:
    save(database.connect("app"), "there", 0.5, as_=ACME)
    write(tmp_path / "a.json", model("there"), model("new"))
    write(tmp_path / "b.json", model("other", metrics={"a": "no number"}))
    write(tmp_path / "c.jsonl", model("m"), model("m", 0.25))
    with unchanged(database):
        dry_code, dry = run(tmp_path, ACME, "--dry-run")
    code, report = run(tmp_path)
    assert (dry.pop("dry_run"), report.pop("dry_run")) == (True, False)
    assert (dry_code, dry) == (code, report)
    assert (code, report["saved"], report["unchanged"], len(report["skipped"])) == (1, 3, 1, 1)


def test_a_repetition_changes_nothing(run: Import, database: Database, tmp_path: Path) -> None:
    numbers = {"float": 1.5, "whole": 1e16, "tiny": 5e-324, "negative zero": -0.0, "big": 1.7e308, "integer": 10**17}
    write(tmp_path / "a.json", model("a", 1, training_samples=1000.0, metrics=numbers, metadata={"n": numbers}))
    write(tmp_path / "b.json", {"model_name": "b", "metrics": {"x": 1}, "mse": None, "training_samples": None})
    # A curve with a state twice, and one model in several files.
    write(tmp_path / "c.jsonl", *[model("c", mse, metadata={"s": '\u00e4\U0001f511\\"'}) for mse in (3, 2, 3, 1)])
    for number in range(3):
        write(tmp_path / f"d{number}.json", model("d", number))
    code, report = run(tmp_path)
    assert (code, report["saved"]) == (0, 9)
    app = database.connect("app")
    assert [row.mse for row in call(app, "load_history", model_name="c", as_=ACME)] == [1, 3, 2, 3]
    assert [row.mse for row in call(app, "load_history", model_name="d", as_=ACME)] == [2, 1, 0]
    with unchanged(database):
        code, report = run(tmp_path)
    assert (code, report["saved"], report["unchanged"]) == (0, 0, 9)


def test_true_is_not_one(run: Import, database: Database, tmp_path: Path) -> None:
    run(write(tmp_path / "m.json", model("m", metadata={"a": 1})))
    assert run(write(tmp_path / "m.json", model("m", metadata={"a": True})))[1]["saved"] == 1
    assert loaded(database)["m"].metadata == {"a": True}


def test_a_new_state_in_a_file_is_saved_and_an_old_one_does_not_come_back(
    run: Import, database: Database, tmp_path: Path
) -> None:
    app = database.connect("app")
    path = write(tmp_path / "m.jsonl", model("m", 3), model("m", 2))
    run(path)
    run(write(path, model("m", 3), model("m", 2), model("m", 1)))
    assert versions(app, "m", as_=ACME) == [3, 2, 1]
    for _ in range(150):
        save(app, "m", 0.5, as_=ACME)
    with unchanged(database):
        assert run(path)[1]["unchanged"] == 3
    value(app, "delete_progress", model_name="m", as_=ACME)
    assert run(path)[1]["saved"] == 3
    assert versions(app, "m", as_=ACME)[0] == 156


def test_more_models_than_are_saved_at_once(run: Import, database: Database, tmp_path: Path) -> None:
    many = [model(f"m{number:05}", number) for number in range(2500)]
    write(tmp_path / "a.jsonl", *many)
    for number in range(30):
        write(tmp_path / "small" / f"{number:02}.json", model("same", number), model(f"small {number}"))
    code, report = run(tmp_path)
    assert (code, report["saved"], report["files"]) == (0, 2560, 31)
    rows = loaded(database)
    assert {name: row.mse for name, row in rows.items() if name.startswith("m")} == {
        one["model_name"]: one["mse"] for one in many
    }
    assert (rows["same"].mse, rows["same"].version) == (29, 30)
    # What is refused at the end leaves nothing of the beginning, and is found.
    write(tmp_path / "a.jsonl", *[model(f"x{number}", number) for number in range(2499)], model("x", metrics={"a": []}))
    code, report = run(tmp_path)
    assert (code, report["saved"], report["unchanged"]) == (1, 0, 60)
    assert report["skipped"][0]["reason"].startswith("record 2500: invalid metrics")


def test_files_that_are_saved_at_the_same_time_keep_the_order_of_one_models_states(
    run: Import, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "BATCH", 1)
    for number in range(60):
        write(tmp_path / f"{number:02}.json", model("m", number))
    assert run(tmp_path)[1]["saved"] == 60
    history = call(database.connect("app"), "load_history", model_name="m", as_=ACME)
    assert [row.mse for row in history] == list(range(59, -1, -1))


def test_half_a_character_is_found_also_behind_a_model_that_is_there(
    run: Import, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "BATCH", 1)
    save(database.connect("app"), "there", as_=ACME)
    write(tmp_path / "m.jsonl", model("there"), model("\ud800"))
    with unchanged(database):
        assert run(tmp_path)[0] == 1


def test_an_import_that_was_killed_goes_on(database: Database, tmp_path: Path) -> None:
    files, models = 40, 500
    for number in range(files):
        write(tmp_path / f"{number:02}.jsonl", *[model(f"{number} {step}") for step in range(models)])
    command = [sys.executable, "-m", "pydb.cli", "import", str(tmp_path), "--as", ACME, "--json"]
    command += ["--dsn", database.dsn("app")]
    watcher = database.connect()
    count = "select count(*) from ai_storage_private.ai_progress_tenant"

    def saved() -> int:
        ((found,),) = watcher.execute(count).fetchall()
        return int(found)

    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        until(lambda: saved() > 0, "the first files")
        process.send_signal(signal.SIGKILL)
    before = saved()
    assert 0 < before < files * models, "it was to be killed on its way"
    assert before % models == 0
    until(
        lambda: watcher.execute("select from pg_stat_activity where usename = 'app'").fetchone() is None,
        "the end of its sessions",
    )
    before = saved()
    again = subprocess.run(command, check=True, capture_output=True)
    report = json.loads(again.stdout)
    assert (report["saved"], report["unchanged"]) == (files * models - before, before)
    assert watcher.execute("select max(version), count(*) from ai_storage_private.progress_version").fetchone() == (
        1,
        files * models,
    )


# Bad files -----------------------------------------------------------------------------------------------------------

GOOD = json.dumps(model("good"))
BAD: dict[str, str | bytes] = {
    "empty": b"",
    "half": GOOD[:-1],
    "two": GOOD + GOOD,
    "text": '"m"',
    "null": "null",
    "number in array": f"[{GOOD}, 5]",
    "no name": '{"mse": 1}',
    "name is a list": '{"model_name": ["m"], "mse": 1}',
    "both names": '{"model_name": "m", "modelName": "m", "mse": 1}',
    "half a character": '{"model_name": "\\ud800", "mse": 1}',
    "half a character inside": '{"model_name": "m", "mse": 1, "metadata": {"a": "\\ud800"}}',
    "NUL": '{"model_name": "m\\u0000", "mse": 1}',
    "NUL inside": '{"model_name": "m", "mse": 1, "metadata": {"a": "\\u0000"}}',
    "control character": '{"model_name": "m\\u001b[2J", "mse": 1}',
    "long name": json.dumps(model("m" * 256)),
    "field in metadata too": '{"model_name": "m", "mse": 1, "id": 1, "metadata": {"id": 2}}',
    "metadata is a list": '{"model_name": "m", "mse": 1, "id": 1, "metadata": [1]}',
    "twice": '{"model_name": "m", "mse": 1, "mse": 2}',
    "twice inside": '{"model_name": "m", "mse": 1, "metadata": {"a": {"b": 1, "b": 1}}}',
    "NaN": '{"model_name": "m", "mse": NaN}',
    "Infinity": '{"model_name": "m", "mse": 1, "metadata": {"a": -Infinity}}',
    "beyond a double": '{"model_name": "m", "mse": 1e400}',
    "many digits": '{"model_name": "m", "mse": 1, "metadata": {"a": ' + "1" * 5000 + "}}",
    "no UTF-8": b'{"model_name": "m\xff", "mse": 1}',
    "UTF-16": GOOD.encode("utf-16"),
    "deep": '{"model_name": "m", "mse": 1, "metadata": {"a": ' + "[" * 65 + "]" * 65 + "}}",
    "deeper": "[" * 100_000,
    "deepest": '{"model_name": "m", "mse": 1, "metadata": {"a": ' + "[" * 990 + "]" * 990 + "}}",
    "samples": '{"model_name": "m", "mse": 1, "training_samples": -1}',
    "mse is a text": '{"model_name": "m", "mse": "1"}',
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_bad_files_are_named_and_the_good_ones_among_them_saved(
    run: Import, database: Database, tmp_path: Path, suffix: str
) -> None:
    # "two" is what lines must not be either: two objects on one.
    bad = {
        name: text
        for name, text in BAD.items()
        if name not in (("empty", "number in array") if suffix != ".json" else ())
    }
    for name, text in bad.items():
        write(tmp_path / f"{name}{suffix}", text=text)
    for name in ("a", "m", "z"):
        write(tmp_path / f"{name} good.json", model(f"good {name}"))
    for _ in range(2):
        code, report = run(tmp_path)
        assert (code, report["files"]) == (1, 3)
        assert {skipped["path"] for skipped in report["skipped"]} == {f"{name}{suffix}" for name in bad}
        assert all(skipped["reason"] for skipped in report["skipped"])
    assert names(database.connect("app"), as_=ACME) == ["good a", "good m", "good z"]


def test_a_bad_record_leaves_nothing_of_its_file(run: Import, database: Database, tmp_path: Path) -> None:
    write(tmp_path / "client.jsonl", model("a"), model("b"), {"mse": 1}, model("c"))
    write(tmp_path / "server.jsonl", model("d"), model("e"), model("f", -1, training_samples=-1), model("g"))
    with unchanged(database):
        code, report = run(tmp_path)
    assert code == 1
    assert [skipped["reason"].split(":")[0] for skipped in report["skipped"]] == ["record 3", "record 3"]
    # Also when the tenants before it had been saved already.
    tenants = [model("h", code="c1"), model("h", code="c2"), model("h", code="c3", metrics={"": 1})]
    write(tmp_path / "tenants" / "t.jsonl", *tenants)
    with unchanged(database):
        code, report = run(tmp_path / "tenants", "acme:s1:p1:production:{code}")
    assert report["skipped"][0]["reason"].startswith("record 3: invalid metrics")
    assert names(database.connect("app"), as_=ACME_2) == []


def test_a_file_that_is_too_large_is_skipped(
    run: Import, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(tmp_path / "huge.json", "wb") as file:
        file.truncate(2**40)
    monkeypatch.setattr(importer, "MAX_JSON", 2000)
    write(tmp_path / "just.json", text=GOOD.ljust(2000))
    write(tmp_path / "over.json", text=GOOD.replace("good", "over").ljust(2001))
    code, report = run(tmp_path)
    assert (code, report["saved"]) == (1, 1)
    assert [skipped["path"] for skipped in report["skipped"]] == ["huge.json", "over.json"]


@pytest.mark.parametrize(
    ("limit", "suffix"), [("MAX_RECORD", ".json"), ("MAX_RECORD", ".jsonl"), ("MAX_JSON", ".jsonl")]
)
def test_so_is_one_with_a_record_that_is(
    run: Import, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, suffix: str
) -> None:
    monkeypatch.setattr(importer, limit, 2000)
    write(tmp_path / f"good{suffix}", model("good", metadata={"a": "x" * 1900}))
    write(tmp_path / f"over{suffix}", model("over", metadata={"a": "x" * 2000}))
    code, report = run(tmp_path)
    assert (code, report["saved"]) == (1, 1)
    assert [skipped["path"] for skipped in report["skipped"]] == [f"over{suffix}"]


def test_so_is_one_with_too_many_records(
    run: Import, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "MAX_WEIGHT", 20 * importer.RECORD_WEIGHT)
    write(tmp_path / "many.jsonl", *[model(f"m{number}") for number in range(20)])
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.jsonl", *[model(f"{name}{number}") for number in range(15)])
    code, report = run(tmp_path)
    assert (code, report["saved"]) == (1, 45)
    assert [skipped["path"] for skipped in report["skipped"]] == ["many.jsonl"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_hostile_files_do_not_add_up_in_memory(database: Database, tmp_path: Path, suffix: str) -> None:
    # Parsed, they take 24 times their size, and must not do so for each file that waits to be saved.
    size = 2**20
    hostile, harmless = tmp_path / "hostile", tmp_path / "harmless"
    for folder in (hostile, harmless):
        folder.mkdir()
    write(harmless / f"m{suffix}", text='{"model_name":"m","mse":1}')
    for number in range(8):
        text = f'{{"model_name":"m{number}","mse":1,"x":[{"[]," * (size // 3)}0]}}'
        write(hostile / f"{number}{suffix}", text=text)
    program = (
        # Not getrusage(): its maximum begins with that of the process that started this one.
        "import sys; from pydb import cli; cli.main(sys.argv[1:]); "
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )

    def peak(folder: Path) -> int:
        arguments = ["import", str(folder), "--as", ACME, "--dsn", database.dsn("app"), "--json"]
        done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
        return int(done.stdout.splitlines()[-1]) * 1024

    assert peak(hostile) - peak(harmless) < 3 * 24 * size  # all eight would take 190 MiB


def test_links_pipes_and_what_cannot_be_read_are_named_and_not_followed(
    run: Import, database: Database, tmp_path: Path
) -> None:
    outside = write(tmp_path / "outside" / "secret.json", model("secret"))
    inside = tmp_path / "in"
    write(inside / "good.json", model("good"))
    (inside / "file.json").symlink_to(outside)
    (inside / "folder").symlink_to(outside.parent)
    (inside / "round").symlink_to(inside)
    (inside / "gone.json").symlink_to(inside / "nothing")
    (inside / "folder.json").mkdir()
    os.mkfifo(inside / "pipe.json")
    code, report = run(inside)
    assert (code, report["saved"]) == (1, 1)
    assert {skipped["path"] for skipped in report["skipped"]} == {
        "file.json", "folder", "gone.json", "pipe.json", "round",
    }  # fmt: skip
    assert names(database.connect("app"), as_=ACME) == ["good"]


def test_what_a_terminal_is_shown_is_printable(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (b"\x1b]0;x\x07.json", "\u202egnp.json".encode(), b"\xff\xfe.json", "\u00e4.json".encode()):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(b"{")
    for more in ([], ["--json"]):
        assert cli.main(["import", str(tmp_path), "--as", ACME, "--dsn", database.dsn("app"), *more]) == 1
        out = capsys.readouterr().out
        assert all(letter.isprintable() or letter == "\n" for letter in out)
        assert "\u00e4.json" in out
        out.encode()


def test_people_are_told_tenants_skipped_files_and_sums(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "mcp-1" / "shop" / "m.json", model("m"), model("n"))
    write(tmp_path / "mcp-1" / "shop" / "bad.json", text="{")
    command = ["import", str(tmp_path), "--as", FOLDERS, "--dsn", database.dsn("app")]
    assert cli.main([*command, "--dry-run"]) == 1
    assert "Would save 2 states" in capsys.readouterr().out
    assert cli.main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["acme:mcp-1:shop:production:c1", "1", "2", "0"]
    assert lines[2].startswith("skipped mcp-1/shop/bad.json: not JSON")
    assert lines[3].startswith("Saved 2 states of models out of 1 file into 1 tenant.")


def test_a_path_that_is_not_there_is_an_error(database: Database, tmp_path: Path) -> None:
    assert cli.main(["import", str(tmp_path / "none"), "--as", ACME, "--dsn", database.dsn("app")]) == 1
