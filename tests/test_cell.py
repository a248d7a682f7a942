"""Cells: an organisation lives in one server, and every other one names it. Here two databases are two servers."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pydb import (
    AsyncCells,
    AsyncTenantAwareStorage,
    Cells,
    LivesElsewhere,
    ModelNotFound,
    OrganisationMoving,
    StorageError,
    TenantAwareStorage,
    cli,
    directory,
    environment,
    token,
    web,
)
from tests.conftest import Database
from tests.helpers import ACME, ACME_2, BETA, call, dsns, key, refused, save, until, value
from tests.pgbouncer import PORT, running, settings

pytestmark = pytest.mark.sql

NEW = key("newcomer")


def test_a_cell_names_the_cell_of_another_organisation(east: Database, west: Database) -> None:
    save(west.connect("app"), "m", as_=BETA)
    for function, arguments in {
        "load_progress": {},
        "save_progress": {"model_name": "m", "mse": 1},
        "set_tenant": {"credential": BETA},
    }.items():
        with refused("TN602") as caught:
            call(east.connect("app"), function, **({"as_": BETA} if "credential" not in arguments else {}), **arguments)
        assert caught.value.diag.message_detail == "west"
    assert value(east.connect("app"), "home", as_=BETA) == value(west.connect("app"), "home", as_=BETA) == "west"
    assert value(east.connect("app"), "home", as_=ACME) == "east"
    # Whoever is not authorised learns nothing, not even that there are cells.
    for credential in (BETA, key("nobody")):
        with refused("TN003"):
            call(east.connect("acme_app"), "load_progress", as_=credential)
        with refused("TN003"):
            call(east.connect("acme_app"), "home", as_=credential)


def test_a_new_organisation_lives_in_the_cell_that_takes_new_ones(east: Database, west: Database) -> None:
    with refused("TN602") as caught:
        save(west.connect("app"), "m", as_=NEW)
    assert caught.value.diag.message_detail == "east"
    save(east.connect("app"), "m", as_=NEW)
    # It stays there with further tenants when another cell takes new ones.
    for cell, name in ((east, "east"), (west, "west")):
        cell.connect().execute("select ai_storage.set_cells(array['east', 'west'], %s, 'west')", (name,))
    save(east.connect("app"), "m", as_=key("newcomer", code="c2"))
    save(west.connect("app"), "m", as_=key("later"))
    with refused("TN602"):
        save(east.connect("app"), "m", as_=key("later"))
    homes = {(row.org_id, row.cell_name, row.is_moving) for row in call(east.connect(), "list_homes")}
    assert homes == {("acme", "east", False), ("beta", "west", False), ("newcomer", "east", False)}


def test_a_server_that_is_alone_refuses_nobody(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    assert value(app, "home", as_=ACME) is None
    assert call(database.connect(), "list_cells") == []


def test_a_storage_over_cells_follows_one_refusal_and_remembers(east: Database, west: Database) -> None:
    with Cells(dsns(east, west)) as cells:
        for tenant, cell in ((ACME, east), (BETA, west), (NEW, east)):
            mine = cells.storage(tenant)
            assert mine.save_ai_progress("m", 0.5).version == 1
            mine.put_artifact("m", "w", b"weights")
            assert mine.get_artifact("m", "w") == b"weights"
            assert [model.model_name for model in cell.storage(tenant).load_ai_progress()] == ["m"]
        east.connect().execute("drop schema ai_storage cascade")
        # What lives in the west is asked of the west alone.
        assert cells.storage(BETA).load_model("m").mse == 0.5
        with pytest.raises(ModelNotFound):
            cells.storage(BETA).load_model("other")


def test_a_storage_that_remembers_wrongly_is_put_right(east: Database, west: Database) -> None:
    with Cells(dsns(east, west)) as cells:
        cells.storage(BETA).save_ai_progress("m", 1)
        for cell in (west, east):
            call(cell.connect(), "hold_organisation", org_id="beta", cell_name="east")
        call(west.connect(), "release_organisation", org_id="beta", cell_name="east")
        call(east.connect(), "open_organisation", org_id="beta")
        assert cells.storage(BETA).save_ai_progress("m", 2).version == 1  # nothing was copied
        assert east.storage(BETA).load_model("m").mse == 2
    with Cells({"east": east.dsn("app")}) as cells:
        for cell in (east, west):
            call(cell.connect(), "set_home", org_id="gone", cell_name="west")
        with pytest.raises(LivesElsewhere) as caught:
            cells.storage(key("gone")).load_ai_progress()
        assert caught.value.detail == "west"
    with pytest.raises(ValueError, match="at least one"):
        Cells({})
    with pytest.raises(TypeError):
        TenantAwareStorage(AsyncCells(dsns(east, west)), BETA)  # type: ignore[arg-type]


def test_a_cell_that_is_down_fails_its_own_organisations_alone(east: Database, west: Database) -> None:
    kid, secret = call(west.connect(), "create_signing_key", audience="app")[0][:2]
    tenant = token.Tenant(*BETA.split(":"))
    credentials = [BETA, token.mint(tenant, kid=kid, secret=secret, audience="app")]
    down = {"east": make_conninfo(east.dsn("app"), port=1), "west": west.dsn("app")}
    for credential in credentials:
        with Cells(down) as cells:
            assert cells.storage(credential).save_ai_progress("m", 0.5).model_name == "m"
            for _ in range(2):
                with pytest.raises(psycopg.OperationalError):
                    cells.storage(ACME).load_ai_progress()
            assert [model.model_name for model in cells.storage(credential).load_ai_progress()] == ["m"]

    async def scenario() -> None:
        for credential in credentials:
            async with AsyncCells(down) as cells:
                with pytest.raises(psycopg.OperationalError):
                    await cells.storage(ACME).load_ai_progress()
                assert (await cells.storage(credential).load_model("m")).mse == 0.5

    asyncio.run(scenario())


def test_the_organisation_of_a_token_is_remembered(east: Database, west: Database) -> None:
    kid, secret = call(east.connect(), "create_signing_key", audience="app")[0][:2]
    call(west.connect(), "adopt_signing_key", kid=kid, secret=secret, audience="app")
    mine = token.mint(token.Tenant(*BETA.split(":")), kid=kid, secret=secret, audience="app")
    with Cells(dsns(east, west)) as cells:
        cells.storage(mine).save_ai_progress("m", 0.5)
        east.connect().execute("drop schema ai_storage cascade")
        assert cells.storage(mine).load_model("m").mse == 0.5
    # What is no token is refused by a cell, and not here.
    with Cells(dsns(west, east)) as cells:
        for wrong in ("", ".", "a.b.c", "a.bnVsbA.c", "a.eyJvcmciOjF9.c", "a." + "W" * 4000 + ".c"):
            with pytest.raises(StorageError):
                cells.storage(wrong).load_ai_progress()


def test_asynchronous_storages_do_the_same(east: Database, west: Database) -> None:
    async def scenario() -> None:
        async with AsyncCells(dsns(east, west)) as cells:
            for tenant in (BETA, ACME):
                mine = cells.storage(tenant)
                assert (await mine.save_ai_progress("m", 0.5)).version == 1
                assert [model.model_name for model in await mine.load_ai_progress()] == ["m"]

    asyncio.run(scenario())
    assert west.storage(BETA).load_model("m").mse == 0.5


def test_calls_wait_while_their_organisation_moves(east: Database, west: Database) -> None:
    with Cells(dsns(east, west)) as cells, Cells(dsns(east, west), wait=0.1) as hasty:
        cells.storage(BETA).save_ai_progress("m", 1)
        for cell in (west, east):
            assert value(cell.connect(), "hold_organisation", org_id="beta", cell_name="east") == (cell is west)
        for cell in (west, east):
            with refused("TN603"):
                save(cell.connect("app"), "m", as_=BETA)
            with refused("TN603"):
                call(cell.connect("app"), "home", as_=BETA)
        with pytest.raises(OrganisationMoving):
            hasty.storage(BETA).save_ai_progress("m", 2)
        answer: list[int] = []
        waiting = threading.Thread(target=lambda: answer.append(cells.storage(BETA).save_ai_progress("m", 2).version))
        waiting.start()
        waiting.join(0.3)
        assert answer == []
        # Given up: the source opens it again.
        call(west.connect(), "open_organisation", org_id="beta")
        waiting.join(10)
        assert answer == [2]


def test_a_transaction_that_began_before_a_move_may_go_on(east: Database, west: Database) -> None:
    app = west.connect("app")
    save(app, "m", as_=BETA)
    app.execute("begin")
    call(app, "set_tenant", credential=BETA)
    call(west.connect(), "hold_organisation", org_id="beta", cell_name="east")
    save(app, "m")
    app.execute("commit")
    with refused("TN603"):
        save(app, "m", as_=BETA)


def test_a_directory_set_by_hand_opens_no_tenant_that_moved_away(east: Database, west: Database) -> None:
    app, admin = west.connect("app"), west.connect()
    save(app, "m", as_=BETA)
    call(admin, "hold_organisation", org_id="beta", cell_name="east")
    call(admin, "release_organisation", org_id="beta", cell_name="east")
    for cells in (True, False):
        call(admin, "set_home", org_id="beta", cell_name="west" if cells else None)
        if not cells:
            call(admin, "set_home", org_id="acme", cell_name=None)
            admin.execute("select ai_storage.set_cells('{}', null, null)")
        for tenant in (BETA, key("beta", code="new")):
            for function, arguments in (("load_progress", {}), ("save_progress", {"model_name": "m", "mse": 1})):
                with refused("TN603"):
                    call(app, function, as_=tenant, **arguments)
    stray = "select count(*) from ai_storage_private.ai_progress_tenant where tenant_id = 0"
    assert admin.execute(stray).fetchone() == (0,)
    call(admin, "open_organisation", org_id="beta")
    assert save(app, "m", as_=BETA).version == 2


def test_a_tenant_that_registers_while_its_organisation_is_closed_is_closed_too(east: Database, west: Database) -> None:
    app, admin = west.connect("app"), west.connect()
    save(app, "m", as_=BETA)
    app.execute("begin")
    save(app, "m", as_=key("beta", code="late"))
    assert value(admin, "hold_organisation", org_id="beta", cell_name="east") == 1
    app.execute("commit")
    with refused("55000"):
        call(admin, "release_organisation", org_id="beta", cell_name="east")
    assert value(admin, "hold_organisation", org_id="beta", cell_name="east") == 1
    call(admin, "release_organisation", org_id="beta", cell_name="east")
    with refused("TN602"):
        save(app, "m", as_=key("beta", code="late"))


def test_organisations_share_within_their_cell(east: Database, west: Database) -> None:
    app, admin = east.connect("app"), east.connect()
    save(app, "m", as_=ACME)
    for other in ("beta", "newcomer"):
        call(admin, "allow_external_sharing", org_id="acme", to_org_id=other)
    with refused("TN602") as caught:
        call(app, "share_model", model_name="m", targets=[{"org_id": "beta"}], as_=ACME)
    assert caught.value.diag.message_detail == "west"
    # Not permitted: not told where it lives.
    with refused("TN302"):
        call(app, "share_model", model_name="m", targets=[{"org_id": "gamma"}], as_=ACME)
    call(app, "share_model", model_name="m", targets=[{"org_id": "newcomer"}], as_=ACME)
    call(app, "share_model", model_name="m", targets=[{"server_id": "s2"}], as_=ACME)
    with Cells(dsns(east, west)) as cells, pytest.raises(LivesElsewhere) as refusal:
        cells.storage(ACME).share_model("m", [{"org_id": "beta"}])
    assert refusal.value.detail == "west"
    assert east.storage(ACME_2).load_ai_progress() == []


def test_a_token_is_good_after_its_organisation_moved(east: Database, west: Database) -> None:
    ((kid, secret),) = call(east.connect(), "create_signing_key", audience="store")
    call(west.connect(), "adopt_signing_key", kid=kid, secret=secret, audience="store")
    mine = token.mint(
        token.Tenant("beta", "s1", "p1", "production", "c1"),
        kid=kid,
        secret=secret,
        audience="store",
        ttl=timedelta(minutes=5),
    )
    with Cells(dsns(east, west)) as cells:
        assert cells.storage(mine).save_ai_progress("m", 1).version == 1
    assert west.storage(BETA).load_model("m").mse == 1
    with refused("23505"):
        call(west.connect(), "adopt_signing_key", kid=kid, secret=secret, audience="store")
    for wrong in ({"kid": "k", "secret": "short"}, {"kid": None, "secret": secret}, {"kid": "k", "secret": None}):
        with refused("22023"):
            call(west.connect(), "adopt_signing_key", audience="store", **wrong)


@pytest.mark.parametrize(
    ("cells", "here", "new"),
    [
        (["a"], None, "a"),
        (["a"], "a", None),
        (["a", "b"], "a", "c"),
        (["a", "a"], "a", "a"),
        (["a b"], "a b", "a b"),
        (["a", None], "a", "a"),
        ([], "a", None),
    ],
)
def test_a_wrong_directory_is_refused(database: Database, cells: list[str], here: str | None, new: str | None) -> None:
    with refused("22023"):
        database.connect().execute("select ai_storage.set_cells(%s::text[], %s, %s)", (cells, here, new))


def test_the_directory_is_kept_whole_and_each_change_is_logged(east: Database) -> None:
    admin = east.connect()
    with refused("55000"):  # beta lives in the west
        admin.execute("select ai_storage.set_cells(array['east', 'south'], 'east', 'east')")
    for function, arguments in (
        ("set_home", {"org_id": "x", "cell_name": "nowhere"}),
        ("hold_organisation", {"org_id": "acme", "cell_name": "nowhere"}),
    ):
        with refused("42704"):
            call(admin, function, **arguments)
    with refused("22023"):
        call(admin, "set_home", org_id="a b", cell_name="east")
    with refused("55000"):
        call(admin, "release_organisation", org_id="beta", cell_name="west")
    call(admin, "set_home", org_id="beta", cell_name=None)
    logged = {action for (action,) in admin.execute("select action from ai_storage_private.audit_pending")}
    assert {"insert cell", "insert home", "delete home"} <= logged
    for login in ("app", "reporter"):
        for function in ("list_cells", "list_homes"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                call(east.connect(login), function)


def test_what_is_told_of_cells_needs_an_authorised_login(east: Database) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        east.connect("app").execute("select ai_storage_private.check_home('beta')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        east.connect("app").execute("table ai_storage_private.home")


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(database: Database, west: Database, tmp_path: Path) -> Path:
    """A file of two cells, whose directory nobody has set yet."""
    path = tmp_path / "cells.json"
    path.write_text(json.dumps({"east": database.dsn(), "west": west.dsn()}))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_gives_all_cells_one_directory(
    database: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(database.connect("app"), "m", as_=ACME)
    save(west.connect("app"), "m", as_=BETA)
    assert run(capsys, "cells", "check", str(file))[0] == 1
    code, out, _ = run(capsys, "cells", "apply", str(file), "--takes-new", "west")
    assert (code, out) == (0, "2 cells with 2 organisations; west takes new ones.\n")
    assert run(capsys, "cells", "check", str(file)) == (0, "The cells have the same directory.\n", "")
    with refused("TN602"):
        save(database.connect("app"), "m", as_=BETA)
    code, out, _ = run(capsys, "cells", "show", str(file), "--json")
    assert (code, {row["org_id"]: row["cell_name"] for row in json.loads(out)}) == (0, {"acme": "east", "beta": "west"})
    code, out, _ = run(capsys, "pgbouncer", str(file))
    place = {name: conninfo_to_dict(cell.dsn()) for name, cell in (("east", database), ("west", west))}
    lines = [f"{name} = host={p['host']} port={p['port']} dbname={p['dbname']}" for name, p in place.items()]
    organisations = [line.replace(name, org, 1) for line, name, org in zip(lines, place, ("acme", "beta"), strict=True)]
    assert out.splitlines() == ["[databases]", *lines, *organisations]
    # A change that the others have not heard of, and one that contradicts them.
    call(database.connect(), "set_home", org_id="beta", cell_name="east")
    code, out, _ = run(capsys, "cells", "check", str(file))
    assert (code, "beta" in out) == (1, True)
    code, _, err = run(capsys, "cells", "apply", str(file))
    assert (code, "hint:" in err) == (1, True)
    code, out, _ = run(capsys, "cells", "authorize", str(file), "stranger", "acme:*:*:*:*")
    assert (code, "2 cells" in out) == (0, True)
    for cell in (database, west):
        with pytest.raises(psycopg.Error) as caught:
            cell.connect("stranger").execute("select ai_storage.home(%s)", (BETA,))
        assert caught.value.sqlstate in ("42501", "TN003")


def test_an_organisation_that_is_born_while_the_cells_are_set_lives_in_one(
    database: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "cells", "apply", str(file), "--takes-new", "west")[0] == 0
    first = west.connect("app")
    first.execute("begin")
    save(first, "m", as_=NEW)

    def apply() -> None:
        with directory.opened(directory.read(file)) as cells:
            directory.apply(cells, "east")

    applying = threading.Thread(target=apply)
    applying.start()
    until(lambda: [cell.takes_new for cell in call(west.connect(), "list_cells")] == [True, False], "west to take none")
    for cell in (database, west):
        with refused("TN602"):
            save(cell.connect("app"), "m", as_=key("other"))
    applying.join(0.2)
    assert applying.is_alive()
    first.execute("commit")
    applying.join(20)
    assert {cell.takes_new for cell in call(west.connect(), "list_cells") if cell.cell_name == "east"} == {True}
    with refused("TN602"):
        save(database.connect("app"), "m", as_=NEW)
    assert save(west.connect("app"), "m", as_=NEW).version == 2
    assert save(database.connect("app"), "m", as_=key("other")).version == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": 1}', '{"a": "nonsense"}', "\x00"])
def test_a_file_that_names_no_cells_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    path = tmp_path / "cells.json"
    path.write_text(text)
    code, out, err = run(capsys, "cells", "show", str(path))
    assert (code, out, "hint:" in err) == (1, "", True)
    assert "nonsense" not in err
    assert run(capsys, "cells", "show", str(tmp_path / "none.json"))[0] == 1


def test_pgbouncer_leads_to_the_cell_by_the_organisations_name(
    database: Database, west: Database, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # No character of an organisation breaks the file, and none is quoted: PgBouncer takes no quotes.
    organisations = ["beta", "Org-1.x_y", "pgbouncer", "a@b", "a+b", "a=b", "a/b", "a~b"]
    for organisation in organisations:
        save(west.connect("app"), "m", as_=key(organisation))
    assert run(capsys, "cells", "apply", str(file))[0] == 0
    databases = run(capsys, "pgbouncer", str(file))[1]
    with running(databases + settings("transaction"), '"app" ""\n', west.server.host) as folder:
        for organisation in organisations:
            dbname = organisation if organisation in ("beta", "Org-1.x_y") else "west"
            assert f"; {organisation}: connect to west\n" in databases or dbname == organisation
            dsn = make_conninfo(host=str(folder), port=PORT, user="app", dbname=dbname)
            with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
                assert [row.model_name for row in call(connection, "load_progress", as_=key(organisation))] == ["m"]


# Where the environment names the cells -------------------------------------------------------------------------------


@pytest.fixture
def described(east: Database, west: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a process of beta, whose cell it does not know."""
    path = tmp_path / "cells.json"
    path.write_text(json.dumps(dsns(east, west)))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for name, text in {
        "AI_STORAGE_CELLS": str(path),
        "AI_STORAGE_ORG_ID": "beta",
        "AI_STORAGE_SERVER_ID": "s1",
        "AI_STORAGE_PROJECT_ID": "p1",
        "AI_STORAGE_ENVIRONMENT": "production",
        "AI_STORAGE_CODE_HASH": "c1",
    }.items():
        monkeypatch.setenv(name, text)


def test_a_process_reaches_the_cells_that_its_environment_names(described: None, west: Database) -> None:
    with TenantAwareStorage.from_env() as storage:
        storage.save_ai_progress("m", 0.5)
    with TenantAwareStorage.from_mcp_server("s1", "p1", "c1") as storage:
        assert storage.load_model("m").mse == 0.5

    async def scenario() -> None:
        async with await AsyncTenantAwareStorage.from_env() as storage:
            assert (await storage.load_model("m")).mse == 0.5

    asyncio.run(scenario())
    assert west.storage(BETA).load_model("m").mse == 0.5


def test_requests_are_served_from_the_cell_of_their_token(described: None, east: Database, west: Database) -> None:
    ((kid, secret),) = call(east.connect(), "create_signing_key", audience="store")
    call(west.connect(), "adopt_signing_key", kid=kid, secret=secret, audience="store")
    seen: list[str] = []
    answers: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        storage = TenantAwareStorage.from_request(environ)
        storage.save_ai_progress("m", 0.5)
        seen.append(storage.home() or "")
        start_response("204 No Content", [])
        return []

    served = web.WSGITenantMiddleware(application)
    try:
        for org in ("beta", "acme"):
            signed = token.mint(
                token.Tenant(org, "s1", "p1", "production", "c1"),
                kid=kid,
                secret=secret,
                audience="store",
                ttl=timedelta(minutes=5),
            )
            environ = {"PATH_INFO": "/", "REQUEST_METHOD": "GET", "HTTP_AUTHORIZATION": f"Bearer {signed}"}
            b"".join(served(environ, lambda status, headers, *more: answers.append(status)))
    finally:
        environment.close_shared_pool()
    assert answers == ["204 No Content"] * 2
    assert seen == ["west", "east"]
    assert west.storage(BETA).load_model("m").mse == 0.5
