"""An organisation moves between two cells while it is in use: nothing lost, nothing twice, never open in both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pydb import Cells, cli
from tests.conftest import Database
from tests.helpers import BETA
from tests.test_cell import dsns, east, west  # noqa: F401 -- fixtures

pytestmark = pytest.mark.sql


@pytest.fixture
def file(east: Database, west: Database, tmp_path: Path) -> Path:  # noqa: F811 -- a fixture
    path = tmp_path / "cells.json"
    path.write_text(json.dumps({"east": east.dsn(), "west": west.dsn()}))
    return path


def test_try(east: Database, west: Database, file: Path, tmp_path: Path, capsys) -> None:  # noqa
    with Cells(dsns(east, west)) as cells:
        mine = cells.storage(BETA)
        for n in range(3):
            mine.save_ai_progress("m", n)
        mine.put_artifact("m", "w", b"weights")
        mine.save_ai_progress("k", 1, idempotency_key="one")
        mine.save_ai_progress("gone", 1)
        mine.delete("gone")
        before = mine.export_tenant()
        code = cli.main(["move-org", str(file), "beta", "east", "--out", str(tmp_path / "out")])
        out, err = capsys.readouterr()
        print(out, err)
        assert code == 0
        assert mine.export_tenant() == before
        print(mine.verify_audit())
