"""An organisation moves to another cell while it is in use: nothing lost, nothing twice, never open in both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from pydb import Cells, cli, directory, verifier
from pydb import move as move_module
from tests.conftest import Database, install, new_database
from tests.helpers import ACME, BETA, call, dsns, dump, key, names, refused, save, until, value, versions

pytestmark = pytest.mark.sql

BETA_2 = key("beta", code="c2")
TENANTS = [BETA, BETA_2, key("beta", server="s2")]


@pytest.fixture
def file(east: Database, west: Database, tmp_path: Path) -> Path:
    """A file of the two cells. What the command writes lies beside it."""
    path = tmp_path / "cells.json"
    path.write_text(json.dumps({"east": east.dsn(), "west": west.dsn()}))
    return path


@pytest.fixture
def bundles(file: Path) -> Path:
    return file.parent / "bundles" / "west"


def move(file: Path, org: str = "beta", cell: str = "east", *more: str) -> int:
    return cli.main(["move-org", str(file), org, cell, "--out", str(file.parent / "bundles"), *more])


def content(database: Database, tenant: str) -> list[str]:
    """The lines of a tenant's export but for the event that it makes."""
    return [json.dumps(line, sort_keys=True) for line in database.storage(tenant).export_tenant()]


def rows(database: Database, org: str = "beta") -> int:
    return sum(row.row_count for row in call(database.connect(), "digest_organisation", org_id=org))


def fill(database: Database) -> None:
    """Something in each table that a move copies."""
    app = database.connect("app")
    for tenant in TENANTS:
        mine = database.storage(tenant)
        for n in range(4):
            mine.save_ai_progress(
                "m", 0.1 * n, metrics={"loss": 1e-300, "n": 12345678901234567890}, metadata={"ü": "x" * n}
            )
        mine.save_ai_progress("once", 1, idempotency_key="k")
        mine.save_ai_progress("gone", 1)
        mine.delete("gone")
        mine.put_artifact("m", "weights", os.urandom(3 * 2**20 + 5))
        mine.put_artifact("m", "small", b"bytes")
        call(app, "begin_artifact", model_name="m", artifact_name="later", media_type="text/plain", as_=tenant)
    (upload,) = call(app, "list_uploads", as_=BETA)
    call(app, "append_artifact", upload_id=upload.upload_id, offset=0, content=b"half", as_=BETA)
    database.storage(BETA).share_model("m", [{"code_hash": "c2"}], ["read", "write", "share"])
    save(app, "m", 7.0, owner=BETA, as_=BETA_2)
    call(app, "share_model", model_name="m", owner=BETA, targets=[{"server_id": "s2"}], as_=BETA_2)
    call(app, "share_model", model_name="once", targets=[{"server_id": "s2"}], as_=BETA)
    (share,) = [row for row in call(app, "list_received_shares", as_=TENANTS[2]) if row.model_name == "once"]
    call(app, "decline_share", share_id=share.share_id, as_=TENANTS[2])


def test_an_organisation_moves_with_all_that_it_has(
    east: Database, west: Database, file: Path, bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(west)
    before = {tenant: content(west, tenant) for tenant in TENANTS}
    received = call(west.connect("app"), "list_received_shares", as_=TENANTS[2])
    assert all(sum(name in line for line in before[BETA]) for name in ("artifact", "chunk", "share", "idempotency key"))
    assert move(file) == 0
    assert "beta lives in east: 3 tenants" in capsys.readouterr().out
    for tenant in TENANTS:
        assert content(east, tenant) == before[tenant]
        assert east.storage(tenant).verify_audit().verified
        with refused("TN602") as caught:
            names(west.connect("app"), as_=tenant)
        assert caught.value.diag.message_detail == "east"
    assert call(east.connect("app"), "list_received_shares", as_=TENANTS[2]) == received
    # Who saved a version is still told, and a grant can be ended.
    history = call(east.connect("app"), "load_history", model_name="m", as_=BETA)
    assert [row.saved_by for row in history][:2] == [BETA_2, BETA]
    call(east.connect("app"), "unshare_model", model_name="m", targets=[{"code_hash": "c2"}], as_=BETA)
    assert [row.model_name for row in call(east.connect("app"), "list_received_shares", as_=TENANTS[2])] == ["once"]
    # An upload goes on, and an answer is given again.
    app = east.connect("app")
    (upload,) = call(app, "list_uploads", as_=BETA)
    assert upload.received_bytes == 4
    assert save(app, "once", 1.0, idempotency_key="k", as_=BETA).version == 1
    assert save(app, "gone", 1.0, as_=BETA).version == 2
    # What is left in the old cell: the logs, without names, of which the bundles are kept.
    assert rows(west) == 0
    assert len(list(bundles.glob("*.jsonl"))) == 3
    for path in bundles.iterdir():
        assert verifier.main([str(path)]) == 0
    assert json.loads((bundles / "certificate.json").read_text())["kind"] == "certificate"


def test_both_logs_tell_of_a_move_with_one_digest(east: Database, west: Database, file: Path) -> None:
    save(west.connect("app"), "m", as_=BETA)
    assert move(file) == 0
    found = [
        cell.connect()
        .execute(
            "select detail::jsonb ->> 'digest' from ("
            "select action, detail from ai_storage_private.audit_event union all "
            "select action, detail from ai_storage_private.audit_pending) as e where action = %s",
            (action,),
        )
        .fetchall()
        for cell, action in ((west, "release organisation"), (east, "open organisation"))
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 1
    assert len(found[0][0][0]) == 64
    # The tenant sees in its log who wrote its rows, and saw in the old one who read them.
    written = [row for row in call(east.connect("app"), "audit_trail", as_=BETA) if row.action == "save model"]
    assert [(row.login, row.credential) for row in written] == [("postgres", "operator")]
    read = "select login from ai_storage_private.audit_event where action = 'read rows'"
    assert west.connect().execute(read).fetchall() == [("postgres",), ("postgres",)]


def test_what_administrators_set_for_an_organisation_goes_along(east: Database, west: Database, file: Path) -> None:
    old, new = west.connect(), east.connect()
    save(west.connect("app"), "m", as_=BETA)
    call(old, "allow_external_sharing", org_id="beta", to_org_id="gamma")
    call(old, "set_retention", pattern="beta:*:*:*:*", keep_versions=3)
    save(west.connect("app"), "n", as_=BETA)
    call(old, "set_quota", pattern="beta:*:*:*:*", max_models=1)  # less than there is
    call(old, "authorize_login", login="acme_app", pattern="beta:s1:*:*:*", token_only=True)
    # What was set in the new cell only would let somebody in, or delete something.
    call(new, "authorize_login", login="acme_app", pattern="beta:*:*:*:*")
    call(new, "allow_external_sharing", org_id="beta", to_org_id="delta")
    call(new, "set_retention", pattern="beta:s1:*:*:*", keep_versions=1)
    call(new, "set_quota", pattern="beta:s1:*:*:*", max_models=0)
    assert move(file) == 0
    assert [(row.to_org_id,) for row in call(new, "list_external_sharing")] == [("gamma",)]
    assert [(row.pattern, row.keep_versions) for row in call(new, "list_retention")] == [("beta:*:*:*:*", 3)]
    assert [(row.pattern, row.max_models, row.models) for row in call(new, "list_quotas")] == [("beta:*:*:*:*", 1, 2)]
    authorized = [
        (row.pattern, row.token_only) for row in call(new, "list_authorizations") if row.login_name == "acme_app"
    ]
    assert [row for row in authorized if row[0].startswith("beta")] == [("beta:s1:*:*:*", True)]


def test_grants_to_other_organisations_end_with_a_move(east: Database, west: Database, file: Path) -> None:
    app = west.connect("app")
    call(west.connect(), "set_home", org_id="delta", cell_name="west")
    call(west.connect(), "allow_external_sharing", org_id="beta", to_org_id="delta")
    save(app, "m", as_=BETA)
    west.storage(BETA).share_model("m", [{"org_id": "delta"}], ["read", "share"])
    save(app, "own", as_=key("delta"))
    assert names(app, as_=key("delta")) == ["own", "m"]
    assert move(file) == 0
    assert names(app, as_=key("delta")) == ["own"]
    assert east.connect().execute("table ai_storage_private.model_share").fetchall() == []
    assert west.storage(key("delta")).verify_audit().verified


def test_what_changes_while_it_is_copied_changes_in_the_copy(east: Database, west: Database, file: Path) -> None:
    fill(west)
    mine = west.storage(BETA)
    after: dict[str, list[str]] = {}

    def say(words: str) -> None:
        if words.startswith("Copied") and not after:
            mine.delete("once")
            mine.delete_artifact("m", "weights")
            mine.put_artifact("m", "small", b"others")
            mine.save_ai_progress("m", 9)
            west.storage(BETA_2).delete("m")
            west.storage(BETA_2).save_ai_progress("m", 1)
            west.connect().execute("delete from ai_storage_private.idempotency_key")
            mine.unshare_model("m")
            after.update({tenant: content(west, tenant) for tenant in TENANTS})

    with directory.opened(directory.read(file)) as cells:
        move_module.move(cells, "beta", "east", file.parent / "bundles", wait=10, say=say)
    for tenant in TENANTS:
        assert content(east, tenant) == after[tenant]
        assert east.storage(tenant).verify_audit().verified


def test_what_cannot_be_moved_stays_open(
    east: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, app = west.connect(), east.connect(), west.connect("app")
    save(app, "m", as_=BETA)

    def is_refused(words: str, *more: str) -> None:
        assert move(file, *more) == 1
        assert words in capsys.readouterr().err
        assert names(app, as_=BETA) == ["m"]

    is_refused("There is no cell", "beta", "north")
    is_refused("No cell has tenants of nobody", "nobody", "east")
    call(old, "set_retention", pattern="beta:*:*:*:*", legal_hold=True)
    is_refused("legal hold")
    call(old, "drop_retention", pattern="beta:*:*:*:*")
    call(old, "create_signing_key", kid="theirs", audience="a")
    is_refused("theirs")
    call(old, "retire_signing_key", kid="theirs")
    # A quota of the new cell that is too small; a copy is there by then, and is erased by the next move.
    call(new, "set_quota", pattern="*:*:*:*:*", max_models=0)
    is_refused("quota")
    call(new, "drop_quota", pattern="*:*:*:*:*")
    # Two releases.
    new.execute("create or replace function ai_storage.version() returns text language sql as $$ select '9.9.9' $$")
    is_refused("different releases")
    assert cli.main(["cells", "check", str(file)]) == 1
    with Cells(dsns(east, west)) as cells:  # which goes on
        assert cells.storage(BETA).load_model("m").mse == 1
        assert cells.storage(ACME).save_ai_progress("m", 1).version == 1
    assert rows(east) == 0


def test_a_move_waits_for_transactions_that_began_before(
    east: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, late = west.connect("app"), key("beta", code="late")
    save(app, "m", as_=BETA)
    app.execute("begin")
    call(app, "set_tenant", credential=late)
    save(app, "new")
    assert move(file, "beta", "east", "--wait", "0.2") == 1
    assert f"process {app.info.backend_pid}" in capsys.readouterr().err
    assert names(west.connect("app"), as_=BETA) == ["m"]
    moving = threading.Thread(target=move, args=(file,))
    moving.start()
    admin = west.connect()
    until(lambda: any(row.is_moving for row in call(admin, "list_homes")), "the organisation to be closed")
    save(app, "new")
    app.execute("commit")
    moving.join(30)
    assert versions(east.connect("app"), "new", as_=late) == [2, 1]
    assert names(east.connect("app"), as_=BETA) == ["m"]


def test_a_prepared_transaction_is_waited_for(
    east: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = west.connect("app")
    save(app, "m", as_=BETA)
    app.execute("begin")
    save(app, "m", as_=BETA)
    app.execute("prepare transaction 'two'")
    assert move(file, "beta", "east", "--wait", "0.2") == 1
    assert "prepared transaction two" in capsys.readouterr().err
    app.execute("commit prepared 'two'")
    assert move(file) == 0
    assert versions(east.connect("app"), "m", as_=BETA) == [2, 1]


def test_while_it_moves_nothing_is_erased_and_nothing_swept(east: Database, west: Database) -> None:
    admin, app = west.connect(), west.connect("app")
    for _ in range(3):
        save(app, "m", as_=BETA)
    call(admin, "set_retention", pattern="beta:*:*:*:*", keep_versions=1)
    call(admin, "hold_organisation", org_id="beta", cell_name="east")
    for pattern in ("beta:*:*:*:*", "*:*:*:*:*"):
        with refused("TN603"):
            call(admin, "erase_tenant", pattern=pattern, reason="r")
    before = rows(west)
    call(admin, "apply_retention")
    assert rows(west) == before
    call(admin, "open_organisation", org_id="beta")
    call(admin, "apply_retention")
    assert rows(west) < before


def test_rows_are_written_only_into_a_tenant_that_is_closed(east: Database, west: Database) -> None:
    app, admin = west.connect("app"), west.connect()
    for tenant in (BETA, BETA_2):
        save(app, "m", as_=tenant)
    (row, _) = call(admin, "list_rows", isolation_key=BETA)
    ids = [json.loads(row.row_id)]
    text = value(admin, "read_rows", isolation_key=BETA, table_name=row.table_name, row_ids=ids)
    arguments = {"table_name": row.table_name, "rows": [json.loads(text)], "gone": []}
    with refused("55000"):
        call(admin, "write_rows", isolation_key=BETA, **arguments)
    call(admin, "hold_organisation", org_id="beta", cell_name="east")
    call(admin, "write_rows", isolation_key=BETA, **arguments)
    # Neither into another tenant, nor into another table, nor with other bytes.
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        call(admin, "write_rows", isolation_key=BETA_2, **arguments)
    call(admin, "write_rows", isolation_key=BETA_2, **{**arguments, "rows": [], "gone": ids})
    for table in ("tenant", "audit_event", "context_secret", "pg_authid", "progress_version; select 1"):
        with refused("42704"):
            call(admin, "write_rows", isolation_key=BETA, **{**arguments, "table_name": table})
        with refused("42704"):
            call(admin, "read_rows", isolation_key=BETA, table_name=table, row_ids=[])
    chunk = {"tenant_id": 1, "blob_id": "0" * 32, "chunk_number": 0, "sha256": "\\x00", "content": "\\x01"}
    with refused("22023"):
        call(admin, "write_rows", isolation_key=BETA, table_name="artifact_chunk", rows=[chunk], gone=[])
    assert rows(west) == 4
    for function in ("list_rows", "export_tenant_audit"):
        with refused("42704"):
            call(admin, function, isolation_key=key("nobody"))


def test_each_table_of_a_tenants_content_is_copied(east: Database) -> None:
    admin = east.connect()
    tables = {
        name
        for (name,) in admin.execute(
            "select c.relname from pg_class as c join pg_attribute as a on a.attrelid = c.oid "
            "where c.relnamespace = 'ai_storage_private'::regnamespace and c.relkind = 'r' and a.attname = 'tenant_id'"
        )
    }
    kept = {"tenant", "tenant_cache_key", "audit_pending", "audit_event", "audit_seal"}
    for table in tables - kept:
        assert admin.execute("select ai_storage_private.name_columns(%s, false)", (table,)).fetchone()
    (source,) = admin.execute("select prosrc from pg_proc where proname = 'list_own_rows'").fetchone()
    assert all(f"'{table}'" in source for table in tables - kept)


def test_a_tenant_with_another_id_is_not_taken_over(
    east: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(west.connect("app"), "m", as_=BETA)
    admin = east.connect()
    call(admin, "adopt_tenant", isolation_key=BETA, tenant_id=7, registered_at="2026-01-01")
    with refused("55000"):
        call(admin, "adopt_tenant", isolation_key=BETA, tenant_id=8, registered_at="2026-01-01")
    with refused("55000"):
        call(admin, "adopt_tenant", isolation_key=BETA_2, tenant_id=7, registered_at="2026-01-01")
    for wrong in ({"isolation_key": "x"}, {"tenant_id": 0}, {"registered_at": None}):
        with refused("22023"):
            call(
                admin,
                "adopt_tenant",
                **{"isolation_key": BETA_2, "tenant_id": 9, "registered_at": "2026-01-01", **wrong},
            )
    assert move(file) == 1
    assert "has another id here" in capsys.readouterr().err
    assert names(west.connect("app"), as_=BETA) == ["m"]


def test_a_cell_that_was_restored_is_told_from_the_one_that_has_the_organisation(
    east: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(west.connect("app"), "m", as_=BETA)
    assert move(file) == 0
    # An old backup: it says that the organisation lives there, and has its tenants.
    old = west.connect()
    old.execute("update ai_storage_private.tenant set moved_to = null")
    assert cli.main(["cells", "check", str(file)]) == 1
    assert "open in west too" in capsys.readouterr().out
    call(old, "set_home", org_id="beta", cell_name="west")
    save(west.connect("app"), "m", as_=BETA)
    assert cli.main(["cells", "check", str(file)]) == 1
    assert "beta" in capsys.readouterr().out
    assert move(file) == 1
    assert "both say that beta lives there" in capsys.readouterr().err
    assert cli.main(["cells", "apply", str(file)]) == 1
    assert "hold_organisation" in capsys.readouterr().err
    call(old, "hold_organisation", org_id="beta", cell_name="east")
    call(old, "release_organisation", org_id="beta", cell_name="east")
    assert cli.main(["cells", "check", str(file)]) == 0
    with refused("TN602"):
        names(west.connect("app"), as_=BETA)


def closed_at(file: Path, words: str, cell: str = "east") -> None:
    """A move that is killed when it says so."""

    class Killed(BaseException):
        pass

    def say(said: str) -> None:
        if said.startswith(words):
            # As SIGKILL: nothing is put back.
            for connection in cells.values():
                connection.close()
            raise Killed

    with directory.opened(directory.read(file)) as cells, pytest.raises((Killed, psycopg.OperationalError)):
        move_module.move(cells, "beta", cell, file.parent / "bundles", wait=10, say=say)


def test_an_interrupted_move_is_cancelled_by_a_move_to_where_it_was(
    east: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(west.connect("app"), "m", as_=BETA)
    closed_at(file, "Closed")
    with refused("TN603"):
        names(west.connect("app"), as_=BETA)
    assert move(file, "beta", "west") == 0
    assert names(west.connect("app"), as_=BETA) == ["m"]
    assert rows(east) == 0
    # Also when nothing was copied yet, and when the directory was set by hand.
    call(west.connect(), "hold_organisation", org_id="beta", cell_name="east")
    call(west.connect(), "set_home", org_id="beta", cell_name="west")
    assert cli.main(["cells", "check", str(file)]) == 1
    assert "closed there" in capsys.readouterr().out
    assert move(file, "beta", "west") == 0
    assert names(west.connect("app"), as_=BETA) == ["m"]


def test_an_interrupted_move_does_not_open_an_organisation_in_a_cell_that_has_nothing_of_it(
    east: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with new_database(east.server) as north:
        install(north.dsn())
        file.write_text(json.dumps({"east": east.dsn(), "west": west.dsn(), "north": north.dsn()}))
        assert cli.main(["cells", "apply", str(file)]) == 0
        save(west.connect("app"), "m", as_=BETA)
        closed_at(file, "west sends")
        for cell in ("north", "west"):
            assert move(file, "beta", cell) == 1
            assert "move-org FILE beta east" in capsys.readouterr().err
        with refused("TN602"):
            save(north.connect("app"), "m", as_=BETA)
        assert move(file, "beta", "east") == 0
        assert names(east.connect("app"), as_=BETA) == ["m"]
        # One that was closed, and not sent on yet, may move elsewhere; no copy stays behind.
        closed_at(file, "Closed", "west")
        assert move(file, "beta", "north") == 0
        assert names(north.connect("app"), as_=BETA) == ["m"]
        assert (rows(east), rows(west)) == (0, 0)


def test_nothing_is_saved_by_others_into_an_organisation_that_is_being_moved(
    east: Database, west: Database, file: Path
) -> None:
    delta, app = key("delta"), west.connect("app")
    call(west.connect(), "set_home", org_id="delta", cell_name="west")
    call(west.connect(), "allow_external_sharing", org_id="beta", to_org_id="delta")
    save(app, "m", as_=BETA)
    west.storage(BETA).share_model("m", [{"org_id": "delta"}], ["read", "write"])
    assert save(app, "m", 2, owner=BETA, as_=delta).version == 2
    said = []

    def say(words: str) -> None:
        for begin, sqlstate in (("Copied 0", "TN603"), ("west sends", "TN602")):
            if words.startswith(begin):
                with refused(sqlstate):
                    save(app, "m", 3, owner=BETA, as_=delta)
                said.append(begin)

    with directory.opened(directory.read(file)) as cells:
        move_module.move(cells, "beta", "east", file.parent / "bundles", wait=10, say=say)
    assert len(said) == 2
    assert versions(east.connect("app"), "m", as_=BETA) == [2, 1]


@pytest.mark.parametrize("ends", ["prepare transaction 'late'", "commit"])
def test_what_ends_while_it_is_waited_for_is_not_lost(
    east: Database, west: Database, file: Path, ends: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A save that is prepared, and an erasure that is committed."""
    app, admin = west.connect("app"), west.connect()
    save(app, "m", as_=BETA)
    save(app, "name", as_=BETA_2)
    other = app if ends.startswith("prepare") else admin
    timer = threading.Timer(0.5, lambda: other.execute(ends))

    def say(words: str) -> None:
        if words.startswith("Copied") and not timer.is_alive():
            other.execute("begin")
            if other is app:
                save(app, "m", 2, as_=BETA)
            else:
                call(admin, "erase_tenant", pattern=BETA_2, reason="asked")
            timer.start()

    with (
        directory.opened(directory.read(file)) as cells,
        pytest.raises(directory.DirectoryError, match=r"prepared transaction late|erased in west"),
    ):
        move_module.move(cells, "beta", "east", file.parent / "bundles", wait=2, say=say)
    if other is app:
        app.execute("commit prepared 'late'")
    assert move(file) == 0
    assert versions(east.connect("app"), "m", as_=BETA) == ([2, 1] if other is app else [1])
    assert any("name" in line for lines in dump(east).values() for line in lines if '"name"' in line) is (other is app)


def test_the_folder_of_an_organisation_with_a_slash_lies_where_the_command_runs(
    east: Database, west: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    for cell in (east, west):
        call(cell.connect(), "set_home", org_id="../a/b", cell_name="west")
    save(west.connect("app"), "m", as_=key("../a/b"))
    assert cli.main(["move-org", str(file), "../a/b", "east"]) == 0
    assert (file.parent / ".._a_b-moved-to-east" / "west" / "certificate.json").exists()


# Under writers, and killed --------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from pydb import directory, move, session
after = int(sys.argv[4])
run = session.run
def counting(*arguments):
    global after
    after -= 1
    if after < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return run(*arguments)
session.run = counting
with directory.opened(directory.read(Path(sys.argv[1]))) as cells:
    move.move(cells, sys.argv[2], sys.argv[3], Path(sys.argv[1]).parent / "bundles", wait=10, say=lambda words: None)
print(int(sys.argv[4]) - after)
"""


@contextmanager
def writing(east: Database, west: Database, number: int) -> Iterator[dict[tuple[str, str], list[int]]]:
    """Writers that save under idempotency keys. Yields the versions that were acknowledged, by tenant and model."""
    done: dict[tuple[str, str], list[int]] = defaultdict(list)
    failed: list[Exception] = []
    end = threading.Event()

    def write(writer: int) -> None:
        try:
            with Cells(dsns(east, west), max_size=1) as cells:
                for n in count():
                    if end.is_set():
                        return
                    tenant, name = TENANTS[n % len(TENANTS)], f"m{writer}_{n % 5}"
                    saved = cells.storage(tenant).save_ai_progress(name, n, idempotency_key=f"{writer} {n}")
                    done[tenant, name].append(saved.version)
                    end.wait(0.1)
        except Exception as error:  # noqa: BLE001 -- told by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        end.set()
        for thread in threads:
            thread.join(60)
        assert not failed, failed


def test_an_organisation_moves_twenty_times_under_writers_and_is_killed_at_every_step(
    east: Database, west: Database, file: Path
) -> None:
    def run(cell: str, after: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(file), "beta", cell, str(after)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    cells = {"east": east, "west": west}
    here, there = "west", "east"
    with writing(east, west, 8) as done:
        until(lambda: len(done) >= 40, "the writers")
        whole = run(there, 10**6)
        assert whole.returncode == 0, whole.stderr
        calls_made = int(whole.stdout)
        here, there = there, here
        for move_number in range(1, 20):
            killed = run(there, calls_made * move_number // 20)
            assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
            # Never in two cells, wherever it was killed.
            open_in = [
                name
                for name, cell in cells.items()
                if ("beta", name, False) in call(cell.connect(), "list_homes")
                and any(row.moved_to is None for row in call(cell.connect(), "digest_organisation", org_id="beta"))
            ]
            assert len(open_in) < 2
            # The session of a killed client may last a moment longer.
            while (again := run(there, 10**6)).returncode != 0:
                assert "is being moved already" in again.stderr, again.stderr
            here, there = there, here
    home = cells[here]
    for (tenant, name), acknowledged in done.items():
        found = versions(home.connect("app"), name, as_=tenant)
        assert found == list(range(len(found), 0, -1)), "a gap"
        assert sorted(acknowledged) == sorted(found), "lost, or twice"
    for tenant in TENANTS:
        assert home.storage(tenant).verify_audit().verified
    assert rows(cells[there]) == 0


def test_an_interrupted_move_is_given_up_by_a_move_to_where_it_was(east: Database, west: Database, file: Path) -> None:
    save(west.connect("app"), "m", as_=BETA)
    # A whole move makes about 40 calls; the organisation is closed from about the 20th on.
    for after in range(10, 40, 3):
        command = [sys.executable, "-c", KILLED, str(file), "beta", "east", str(after)]
        subprocess.run(command, capture_output=True, timeout=60, check=False)
        until(
            lambda: move(file, "beta", "west") == 0 or (move(file) == 0 and move(file, "beta", "west") == 0),
            "the killed client's sessions to end",
        )
        assert versions(west.connect("app"), "m", as_=BETA) == [1]
        assert rows(east) == 0
        with refused("TN602"):
            names(east.connect("app"), as_=BETA)


def test_all_of_four_cells_know_where_an_organisation_moved(
    east: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with new_database(east.server) as north, new_database(east.server) as south:
        cells = {"east": east, "west": west, "north": north, "south": south}
        for cell in (north, south):
            install(cell.dsn())
        file.write_text(json.dumps({name: cell.dsn() for name, cell in cells.items()}))
        assert cli.main(["cells", "apply", str(file)]) == 0
        save(west.connect("app"), "m", as_=BETA)
        for home in ("north", "south", "east"):
            assert move(file, "beta", home) == 0
            for name, cell in cells.items():
                assert value(cell.connect("app"), "home", as_=BETA) == home
                if name != home:
                    with refused("TN602"):
                        save(cell.connect("app"), "m", as_=BETA)
            with Cells({name: cell.dsn("app") for name, cell in cells.items()}) as routed:
                routed.storage(BETA).save_ai_progress("m", 1)
            assert cli.main(["cells", "check", str(file)]) == 0
        assert move(file, "beta", "east") == 0  # it lives there already
        # Moved on before the cell that it left was erased.
        in_the_way = file.parent / "bundles" / "east"
        in_the_way.touch()
        assert move(file, "beta", "south") == 1
        in_the_way.unlink()
        assert rows(east) > 0
        assert move(file, "beta", "north") == 0
        assert [rows(cell) for cell in (east, west, south)] == [0, 0, 0]
        assert move(file, "beta", "east") == 0
        assert versions(east.connect("app"), "m", as_=BETA) == [4, 3, 2, 1]
