"""The demo, on a real server: what it leaves in the database, in its folder and on the screen."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("rich")

from pydb import NotAuthorized, TenantAwareStorage, Version, demo
from tests.conftest import Database

EPOCHS = 4
ACME_1 = "acme:mcp-server-1:project-health:production:v1"
ACME_1_NEXT = "acme:mcp-server-1:project-health:production:v2"
ACME_2 = "acme:mcp-server-2:project-health:production:v1"
GLOBEX = "globex:mcp-server-1:project-health:production:v1"
TRAINED = (ACME_1, ACME_2, GLOBEX)
MODELS = ["diabetes-regression", "digits-classifier"]


def run(database: Database, out: Path) -> int:
    return demo.main(["--dsn", database.dsn(), "--out", str(out), "--epochs", str(EPOCHS)])


def storage(database: Database, key: str) -> TenantAwareStorage:
    return database.storage(key, f"ai_storage_demo_{key.split(':')[0]}")


def curve(database: Database, key: str, model: str) -> list[Version]:
    """Training curve, oldest version first."""
    return storage(database, key).load_history(model)[::-1]


def own(key: str, versions: list[Version]) -> list[Version]:
    """Those that the tenant saved itself."""
    return [version for version in versions if version.saved_by == key]


def table(printed: str) -> dict[tuple[str, str], list[str]]:
    """The cells of the printed table by tenant and model."""
    rows = {}
    tenant = ""
    for line in printed[printed.index("What each tenant sees") :].splitlines():
        if line.strip() in (*TRAINED, ACME_1_NEXT):
            tenant = line.strip()
        elif line.strip().startswith(tuple(MODELS)):
            model, *cells = line.split()
            rows[tenant, model] = cells
    return rows


def describe(versions: list[Version]) -> list[str]:
    """The cells that a training curve should have in the table."""
    errors = [version.mse for version in versions]
    first, best = (f"{mse:,.0f}" if mse >= 100 else f"{mse:.4f}" for mse in (errors[0], min(errors)))
    metric, value = min(versions[-1].metrics.items())
    return [str(len(versions)), f"({versions[0].version}-{versions[-1].version})", first, best, metric, f"{value:.4f}"]


def test_demo(empty_database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    assert run(empty_database, out) == 0
    printed = capsys.readouterr().out
    shown = table(printed)
    assert set(shown) == {(key, model) for key in (*TRAINED, ACME_1_NEXT) for model in MODELS}

    # Counted below the API, by the superuser: the models of these tenants and of no others.
    rows = empty_database.connect().execute(
        "select t.isolation_key, array_agg(p.model_name order by p.model_name) "
        "from ai_storage_private.ai_progress_tenant as p join ai_storage_private.tenant as t using (tenant_id) "
        "group by t.isolation_key"
    )
    assert dict(rows.fetchall()) == dict.fromkeys((*TRAINED, ACME_1_NEXT), MODELS)

    for key in TRAINED:
        assert [progress.owner_key for progress in storage(empty_database, key).load_ai_progress()] == [key, key]
        for model in MODELS:
            curves = curve(empty_database, key, model)
            assert shown[key, model] == describe(curves)
            versions = own(key, curves)
            assert [version.version for version in versions] == list(range(1, EPOCHS + 1))
            assert [version.metadata["epoch"] for version in versions] == list(range(1, EPOCHS + 1))
            samples = [version.training_samples for version in versions]
            assert samples == [samples[0] * epoch for epoch in range(1, EPOCHS + 1)]
            errors = [version.mse for version in versions]
            assert errors == sorted(errors, reverse=True)
            assert errors[-1] < errors[0]

    with pytest.raises(NotAuthorized):
        empty_database.storage(GLOBEX, "ai_storage_demo_acme").load_ai_progress()
    assert f"Refused, SQLSTATE TN003: ai_storage_demo_acme as {GLOBEX}\n" in printed

    picture = (out / "training-curves.svg").read_text("utf-8")
    assert picture.startswith("<?xml")
    assert "<svg " in picture
    # Every text of the picture is also a comment in it. The number is a tick: the axis spans what was drawn.
    texts = (*TRAINED, ACME_1_NEXT, "promoted to v2", "shared: server 2 trains on", "epoch")
    assert [text for text in texts if f"<!-- {text} -->" not in picture] == []
    assert re.search("<!-- [0-9]+,000 -->", picture)
    assert (out / "training-curves.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    for name in ("training-curves.svg", "training-curves.png"):
        assert f"{out / name}\n" in printed


def test_new_code_version_trains_on_from_the_stored_weights(empty_database: Database, tmp_path: Path) -> None:
    assert run(empty_database, tmp_path) == 0
    for model in MODELS:
        old, new = (curve(empty_database, key, model) for key in (ACME_1, ACME_1_NEXT))
        old = own(ACME_1, old)
        assert (new[0].mse, new[0].metrics, new[0].metadata) == (old[-1].mse, old[-1].metrics, old[-1].metadata)
        assert [version.metadata["epoch"] for version in new] == list(range(EPOCHS, EPOCHS + EPOCHS // 2 + 1))
        assert new[1].training_samples == old[-1].training_samples + old[0].training_samples
        # From scratch, its first epoch would end near old[0].
        assert new[1].mse < old[-1].mse


def test_a_shared_model_is_trained_on_until_it_is_taken_back(
    empty_database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(empty_database, tmp_path) == 0
    printed = capsys.readouterr().out
    versions = curve(empty_database, ACME_1, "digits-classifier")
    last, guests = versions[EPOCHS - 1], versions[EPOCHS:]
    assert [version.saved_by for version in versions] == [ACME_1] * EPOCHS + [ACME_2] * (EPOCHS // 2)
    assert [version.version for version in guests] == list(range(EPOCHS + 1, EPOCHS + EPOCHS // 2 + 1))
    assert [version.metadata["epoch"] for version in guests] == [version.version for version in guests]
    # From scratch it would be near the first epoch.
    assert guests[0].mse < last.mse
    assert guests[0].metadata["hyperparameters"]["eta0"] != last.metadata["hyperparameters"]["eta0"]

    assert f"{ACME_2} may read and write version {EPOCHS} of\n  digits-classifier of {ACME_1}\n" in printed
    assert f"{ACME_1} then has versions {EPOCHS + 1}-{EPOCHS + EPOCHS // 2}\n  saved by {ACME_2}\n" in printed
    assert f"takes it back: 1 grant ended\n  {ACME_2} now sees 0 models of it\n" in printed
    assert f"Refused, SQLSTATE TN101: {ACME_2} saves in it\n" in printed
    assert storage(empty_database, ACME_1).list_shares() == []
    assert storage(empty_database, ACME_2).load_ai_progress(scope="shared") == []


def test_a_model_that_stays_shared_is_a_failure(
    empty_database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TenantAwareStorage, "unshare_model", lambda self, name: 0)
    assert run(empty_database, tmp_path) == 1
    assert "NOT REFUSED" in capsys.readouterr().out


def test_second_run_starts_anew_and_counts_on(empty_database: Database, tmp_path: Path) -> None:
    assert run(empty_database, tmp_path) == 0
    first = {(key, model): curve(empty_database, key, model) for key in TRAINED for model in MODELS}
    assert run(empty_database, tmp_path) == 0
    for (key, model), before in first.items():
        after = curve(empty_database, key, model)
        count = len(before)
        assert [version.version for version in after] == list(range(count + 1, 2 * count + 1))
        assert [version.mse for version in after] == [version.mse for version in before]
    assert len(curve(empty_database, ACME_1_NEXT, MODELS[0])) == 1 + EPOCHS // 2


def test_a_login_that_may_name_the_other_organisation_is_a_failure(
    empty_database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(empty_database, tmp_path) == 0
    empty_database.connect().execute("select ai_storage.authorize_login('ai_storage_demo_acme', '*:*:*:*:*')")
    assert run(empty_database, tmp_path) == 1
    assert "NOT REFUSED" in capsys.readouterr().out


def test_it_says_how_to_be_rid_of_the_server_that_it_started(
    empty_database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_STORAGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(demo.embedded, "start", empty_database.dsn)
    assert demo.main(["--out", str(tmp_path), "--epochs", "1"]) == 0
    printed = capsys.readouterr().out
    for text in (str(tmp_path / "data"), "pydb db stop", "pydb db destroy"):
        assert text in printed
    assert run(empty_database, tmp_path) == 0
    assert "pydb db" not in capsys.readouterr().out


def test_an_unreachable_server_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--dsn", f"host={tmp_path} port=1", "--out", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert str(tmp_path) in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("package", ["sklearn", "matplotlib", "rich"])
def test_missing_extra_is_one_sentence(package: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from pydb import demo; sys.exit(demo.main([]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rf"The demo needs {package}\S*: pip install 'tenant-ai-storage\[demo\]'\n", done.stderr)
