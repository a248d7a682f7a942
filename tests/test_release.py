"""What is released: its numbers agree, it is built the same way twice, and it works away from its sources."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

import pydb
from deploy import installer
from pydb import migrate
from tests.conftest import Database

ROOT = Path(__file__).parent.parent
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` builds of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(["make", "dist", f"DIST={folder}"], cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_version_is_the_same_in_every_place() -> None:
    assert pydb.__version__ == installer.release() == VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    assert f"select '{VERSION}';" in (ROOT / "sql" / "00_version.sql").read_text()
    assert installer.OLDEST_SERVER == migrate.OLDEST_SERVER


def test_the_changelog_begins_with_this_version_and_a_tag_names_it() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    for heading in headings:
        assert re.fullmatch(r"\d+\.\d+\.\d+ \((unreleased|\d{4}-\d\d-\d\d)\)", heading)
    assert headings[0].split()[0] == VERSION
    assert all("unreleased" not in heading for heading in headings[1:])
    # What was unpacked from a source distribution has no tags.
    if (ROOT / ".git").exists():
        git = ["git", "-c", f"safe.directory={ROOT}", "-C", ROOT, "tag", "--points-at", "HEAD"]
        tags = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split()
        assert tags in ([], [f"v{VERSION}"])
        if tags:
            assert "unreleased" not in headings[0]


def test_a_source_distribution_builds_the_same_files_again(built: Path, tmp_path: Path) -> None:
    names = {path.name for path in built.iterdir()}
    assert names == {
        f"tenant_ai_storage-{VERSION}-py3-none-any.whl",
        f"tenant_ai_storage-{VERSION}.tar.gz",
        f"tenant-ai-storage-{VERSION}.sql",
    }
    with tarfile.open(built / f"tenant_ai_storage-{VERSION}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    tree = tmp_path / f"tenant_ai_storage-{VERSION}"
    again = tmp_path / "again"
    # Another day, which leaves no trace, and a mask that hides files from others.
    hatchling = [sys.executable, "-m", "hatchling", "build", "--directory", again]
    subprocess.run(hatchling, cwd=tree, check=True, capture_output=True, umask=0o077)
    subprocess.run([sys.executable, "deploy/installer.py", "sql", again], cwd=tree, check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in built.iterdir()
    }


def test_the_wheel_works_in_an_environment_of_its_own(built: Path, empty_database: Database, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    (wheel,) = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python"]
    options = ["install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*pip, *options, wheel], check=True, cwd=tmp_path)

    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DATABASE_URL")}

    def run(program: str, *arguments: str) -> str:
        command = [home / "bin" / program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done
        return done.stdout

    admin, app = ("--dsn", empty_database.dsn()), ("--dsn", empty_database.dsn("acme_app"))
    tenant = ("--as", "acme:mcp-1:shop:test:abc123")
    run("pydb", "init", *admin, "--app-login", "acme_app", "--pattern", "acme:*:*:*:*")
    # What these sources say is applied, byte by byte.
    assert {entry.state for entry in migrate.status(empty_database.dsn())} == {"applied"}
    # Warnings are the test server's: it writes nothing to disk. What an installation can get wrong is an error.
    further = [["doctor", *admin], ["save", "m", "--mse", "0.5", *app, *tenant], ["load", *app, *tenant]]
    # In one process: most of a command's time is spent importing.
    script = f"import pydb.cli; print(pydb.__file__, *[pydb.cli.main(command) for command in {further}])"
    *_, loaded, told = run("python", "-c", script).splitlines()
    assert loaded.split()[0] == "m"
    file, *codes = told.split()
    assert Path(file).is_relative_to(home)
    assert codes == ["0", "0", "0"]
