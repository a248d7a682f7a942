"""The pages of the documentation do what they say, and say all there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydb import embedded, migrate
from tests import pages, servers
from tests.conftest import new_folder

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# It begins with nothing. The others begin behind `pydb init --app-login acme_app --pattern 'acme:*:*:*:*'`.
TUTORIAL = DOCS / "tutorial.md"
FOLLOWED = [TUTORIAL, *sorted((DOCS / "how-to").glob("*.md"))]


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
    if page != TUTORIAL:
        subprocess.run(["cp", "-a", prepared, cluster.data_dir], check=True)
        cluster.start()
    try:
        with pages.reader(folder, cluster, programs) as reader:
            for block in pages.blocks(page.read_text("utf-8")):
                reader.follow(block)
    finally:
        cluster.stop("immediate")
