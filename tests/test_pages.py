"""The pages of the documentation do what they say, lead where they say, and quote what was measured."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pydb import embedded, migrate, tracing
from tests import pages, servers
from tests.conftest import new_folder

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# These begin with nothing, the others behind `pydb init --app-login acme_app --pattern 'acme:*:*:*:*'`.
FROM_NOTHING = [ROOT / "README.md", DOCS / "tutorial.md"]
FOLLOWED = [*FROM_NOTHING, *sorted((DOCS / "how-to").glob("*.md"))]
# Not those of the modules that `make servers` gets for an example.
OF_EXAMPLES = [page for page in (ROOT / "examples").rglob("*.md") if "node_modules" not in page.parts]
ALL = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *OF_EXAMPLES, ROOT / "bench" / "README.md"]


def read(page: Path) -> str:
    return page.read_text("utf-8")


@pytest.fixture(scope="module")
def shelf() -> Iterator[Path]:
    """Where the pages' servers and their readers' folders are."""
    folder = new_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def programs(shelf: Path) -> Iterator[Path]:
    with pages.commands(shelf) as found:
        yield found


@pytest.fixture(scope="module")
def prepared(shelf: Path) -> Path:
    """The data of an embedded server after pydb init with a login."""
    cluster = embedded.Cluster(shelf / "prepared", servers.bin_dir(18))
    cluster.start(database=embedded.DATABASE)
    migrate.init(cluster.url(embedded.DATABASE), app_login="acme_app", pattern="acme:*:*:*:*")
    cluster.stop()
    return cluster.data_dir


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, shelf: Path, programs: Path, prepared: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="page-", dir=shelf))
    os.chmod(folder, 0o711)
    cluster = embedded.Cluster(folder / "data", servers.bin_dir(18))
    if page not in FROM_NOTHING:
        subprocess.run(["cp", "-a", prepared, cluster.data_dir], check=True)
        cluster.start()
    try:
        with pages.reader(folder, cluster, programs) as reader:
            for block in pages.blocks(read(page)):
                reader.follow(block)
    finally:
        cluster.stop("immediate")
        tracing.uninstrument()  # the page that switches it on does so in this process


def test_a_page_that_is_wrong_is_noticed(shelf: Path, programs: Path, prepared: Path) -> None:
    wrong = [
        "    false\n",
        "```console\n$ echo one\ntwo\n```\n",
        "```console\n$ exit 1\n```\n",
        "```psql\nacme_app=> select 1 as one;\n```\n",
        "```pycon\n>>> 1 + 1\n3\n```\n",
    ]
    folder = Path(tempfile.mkdtemp(prefix="page-", dir=shelf))
    os.chmod(folder, 0o711)
    cluster = embedded.Cluster(folder / "data", servers.bin_dir(18))
    subprocess.run(["cp", "-a", prepared, cluster.data_dir], check=True)
    cluster.start()
    try:
        for number, text in enumerate(wrong):
            (block,) = pages.blocks(text)
            (folder / str(number)).mkdir()
            with (
                pages.reader(folder / str(number), cluster, programs) as reader,
                pytest.raises(AssertionError),
            ):
                reader.follow(block)
    finally:
        cluster.stop("immediate")
    assert pages.blocks("<!-- not run: for a reason -->\n\n    false\n") == []


def test_the_python_that_is_only_shown_is_python() -> None:
    for page in ALL:
        for code in re.findall(r"^```python\n(.*?)^```", read(page), re.DOTALL | re.MULTILINE):
            compile(code, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_links_lead_somewhere() -> None:
    for page in ALL:
        for target in re.findall(r"\]\(\s*([^)#\s]+)", read(page)):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_links_to_elsewhere_are_addresses() -> None:
    for page in ALL:
        for target in re.findall(r"\]\(([a-z]+:[^)]*)\)|<(https?:[^>]*)>", read(page)):
            address = urlsplit(target[0] or target[1])
            assert address.scheme == "https", f"{page.name}: {target}"
            assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", address.netloc), f"{page.name}: {target}"


def test_the_readme_quotes_the_benchmarks() -> None:
    contenders = {
        "bare table: no check, no history, no audit": "floor",
        "row level security on a setting": "pattern",
        "the same, with history and audit by triggers": "audited",
        "**this**, by key": "ours",
        "**this**, by token": "ours, token",
        "LangGraph's PostgresStore": "LangGraph store",
        "MLflow's SQL store": "MLflow store",
    }
    figures_section = read(ROOT / "README.md").split("## How fast")[1].split("\n## ")[0]
    measured = []
    for operation in ("Load one model by name", "Load all 20 models of a tenant", "Save an existing model"):
        found = re.findall(
            rf"^### {operation}: Unix socket, 1 client\n\n(.*?)\n\n",
            read(DOCS / "benchmarks.md") + "\n",
            re.DOTALL | re.MULTILINE,
        )
        measured.append(dict(re.findall(r"^\| ([^|]+) \| ([0-9.]+) \|", "\n".join(found), re.MULTILINE)))
    for label, contender in contenders.items():
        (row,) = re.findall(rf"^\| {re.escape(label)} \| (.*) \|$", figures_section, re.MULTILINE)
        for quoted, figures in zip(row.split("|"), measured, strict=True):
            assert quoted.strip() in ("", figures.get(contender)), f"{label}: {figures.get(contender)}"
