"""A front: one address for two cells, by PL/Proxy and a real PgBouncer. The application is given the front alone."""

from __future__ import annotations

import base64
import json
import os
import re
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pydb import ModelNotFound, TenantAwareStorage, VersionConflict, cli, token
from tests import servers
from tests.conftest import Database, Server, install, new_cluster
from tests.helpers import ACME, ACME_2, BETA, call, everything_said, key, names, refused, save, until, value
from tests.pgbouncer import PORT, running

NEW = key("newcomer")
HOMES = {"acme": "east", "beta": "west"}
APPLICATIONS = ["app", "acme_app", "beta_app", "reporter"]

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "front.md").read_text("utf-8")
(INI,) = re.findall(r"^ *```ini\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
# The page's own, in a folder of its own. Over sockets there is no TLS.
PGBOUNCER = (
    textwrap.dedent(INI)
    .replace("/etc/pydb-front/userlist.txt", "{folder}/users")
    .replace("/run/pydb-front", "{folder}")
    + "logfile = {folder}/pgbouncer.log\nclient_idle_timeout = 2\n"
)


@pytest.fixture(autouse=True)
def _plproxy(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--pg") != 15:
        pytest.skip("PL/Proxy comes from apt, for PostgreSQL 15 alone")
    try:
        servers.require_extension("plproxy")
    except servers.NoServer as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@dataclass(frozen=True, slots=True)
class Front:
    """A front and its cells. app: a storage of a tenant at the front."""

    database: Database
    east: Database
    west: Database
    file: Path
    pooler: str

    def app(self, tenant: str = ACME, login: str = "app") -> TenantAwareStorage:
        return self.database.storage(tenant, login)

    def connect(self, login: str = "app", **more: Any) -> psycopg.Connection[Any]:
        return self.database.connect(login, **more)

    def log(self) -> str:
        return (self.database.server.cluster.data_dir / "server.log").read_text("utf-8", "replace")


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = cli.main(list(arguments))
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


@contextmanager
def fronted(
    server: Server, east: Database, west: Database, folder: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Front]:
    """A front of two cells, set up as docs/how-to/front.md says."""
    file = folder / "cells.json"
    file.write_text(json.dumps({"east": east.dsn(), "west": west.dsn()}))
    command(capsys, "cells", "apply", str(file), "--takes-new", "east")
    for cell in (east, west):
        for org, home in HOMES.items():
            call(cell.connect(), "set_home", org_id=org, cell_name=home)
    databases = command(capsys, "pgbouncer", "--front", str(file))
    users = "".join(f'"{login}" ""\n' for login in APPLICATIONS)
    name = "front_" + os.urandom(6).hex()
    admin = east.stack.enter_context(psycopg.connect(server.dsn(), autocommit=True))
    admin.execute(f"create database {name}")
    with running(databases + PGBOUNCER, users, server.host) as socket, ExitStack() as stack:
        front = Front(Database(server, name, stack), east, west, file, make_conninfo(host=str(socket), port=PORT))
        front.connect("postgres").execute(command(capsys, "front-sql", str(file), front.pooler))
        for login in APPLICATIONS:
            front.connect("postgres").execute(f"grant ai_storage_app to {login}")
        yield front
    admin.execute(f"drop database {name} with (force)")


@contextmanager
def outsider(front: Front) -> Iterator[None]:
    """A login of no group. Roles are one for all databases, and other tests put theirs into groups."""
    admin = front.connect("postgres")
    admin.execute("create role outsider login")
    yield
    admin.execute("drop role outsider")


@pytest.fixture
def front(
    server: Server, database: Database, west: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Front]:
    with fronted(server, database, west, tmp_path, capsys) as front:
        yield front


# What works ----------------------------------------------------------------------------------------------------------


def test_the_calls_of_pydb_run_in_the_cell_of_each_organisation(front: Front) -> None:
    for tenant, cell in ((ACME, front.east), (BETA, front.west), (NEW, front.east)):
        app, there = front.app(tenant), cell.storage(tenant)
        assert app.save_ai_progress("m", 0.5, metrics={"a": 1 / 3}, metadata={"b": [None, "\u00fc"]}).version == 1
        assert app.save_ai_progress("m", 0.4, expected_version=1).version == 2
        with pytest.raises(VersionConflict):
            app.save_ai_progress("m", 0.3, expected_version=1)
        assert {app.save_ai_progress("n", 1, idempotency_key="k").version for _ in range(3)} == {1}
        saved = app.save_ai_progress_batch({"model_name": f"b{n}", "mse": n} for n in range(5))
        assert [(row.model_name, row.version) for row in saved] == [(f"b{n}", 1) for n in range(5)]
        assert app.load_model("m") == there.load_model("m")
        assert app.load_history("m") == there.load_history("m")
        first = app.load_ai_progress(limit=3)
        assert first + app.load_ai_progress(after=first[-1].cursor) == there.load_ai_progress()
        assert app.delete("n")
        with pytest.raises(ModelNotFound):
            app.load_model("n")
        call(cell.connect(), "seal_audit")
        assert app.verify_audit() == there.verify_audit()
        assert app.verify_audit().verified
        assert app.audit_trail() == there.audit_trail() != []
        assert app.get_tenant_stats() == there.get_tenant_stats()
        assert len(app.export_tenant()) > 8
        assert app.home() == ("west" if cell is front.west else "east")
        assert value(front.connect(), "version") == value(cell.connect("app"), "version")
    assert {row.isolation_key for row in call(front.west.connect(), "list_tenants", pattern="*:*:*:*:*")} == {BETA}


def test_artifacts_are_streamed_and_resumed(front: Front) -> None:
    app = front.app(BETA)
    app.save_ai_progress("m", 1)
    content = os.urandom(3 << 20)

    class Broken(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() >= 2 << 20:
                raise OSError("the disk is gone")
            return super().read(size)

    with pytest.raises(OSError, match="the disk is gone"):
        app.put_artifact("m", "w", Broken(content))
    (upload,) = app.list_uploads()
    assert upload.received_bytes > 0
    # Resuming reads the DETAIL of a refusal (TN202).
    assert app.put_artifact("m", "w", content).size_bytes == len(content)
    assert app.get_artifact("m", "w") == front.west.storage(BETA).get_artifact("m", "w") == content
    app.save_ai_progress("m", 1, artifacts={"w": b"new", "v": b""})
    assert app.get_artifact("m", "w", version=1) == content
    assert app.list_artifacts("m") == front.west.storage(BETA).list_artifacts("m") != []


def test_models_are_shared_within_a_cell_and_refused_across(front: Front) -> None:
    owner, receiver = front.app(), front.app(NEW)
    owner.save_ai_progress("m", 0.5)
    for other in ("newcomer", "beta"):
        call(front.east.connect(), "allow_external_sharing", org_id="acme", to_org_id=other)
    everywhere = {"serverId": "*", "projectId": "*", "environment": "*", "codeHash": "*"}
    owner.share_model("m", [{"orgId": "newcomer", **everywhere}], ["read", "write"])
    assert [share.owner_key for share in receiver.list_received_shares()] == [ACME]
    assert receiver.load_model("m", owner=ACME).mse == 0.5
    assert receiver.save_ai_progress("m", 0.4, owner=ACME).version == 2
    assert receiver.has_permission(ACME, "m", "write")
    # The cell of the other organisation refuses, too, and the first refusal is the true one.
    with refused("TN602") as caught:
        call(front.connect(), "share_model", model_name="m", targets=[{"org_id": "beta"}], as_=ACME)
    assert caught.value.diag.message_detail == "west"
    assert front.app(BETA).list_received_shares() == []


def test_tokens_reach_the_cell_of_the_organisation_that_they_claim(front: Front) -> None:
    ((kid, secret),) = call(front.west.connect(), "create_signing_key", kid="k", audience="here")
    minted = token.mint(token.Tenant(*BETA.split(":")), kid=kid, secret=secret, audience="here")
    assert front.app(minted).save_ai_progress("m", 1).version == 1
    assert names(front.west.connect("app"), as_=BETA) == ["m"]
    # Nobody else's signature is taken, whatever it claims.
    with refused("TN003"):
        save(front.connect(), "m", as_=minted[:-4] + "AAAA")


NONSENSE = [
    "",
    ":",
    "::::",
    "a.b.c",
    "..",
    "x" * 100_000,
    "e30." + base64.urlsafe_b64encode(b'{"org": {"a": 1}}').decode() + ".x",
    "e30." + base64.urlsafe_b64encode(b"[1, 2]").decode() + ".x",
    "e30." + base64.urlsafe_b64encode(b'"\xff"').decode() + ".x",
    "e30." + base64.urlsafe_b64encode(b"[" * 2000).decode() + ".x",
    "nobody's:s:p:e:c",
]


def test_what_is_no_credential_is_refused_by_a_cell(front: Front) -> None:
    app = front.connect()
    with refused("TN001"):
        save(app, "m", as_=None)
    for credential in NONSENSE:
        with refused("TN002"):
            save(app, "m", as_=credential)


def test_refusals_arrive_as_the_cell_raised_them(front: Front) -> None:
    def refusals(connection: psycopg.Connection[Any]) -> list[tuple[str | None, ...]]:
        said = []
        for arguments in (
            {"model_name": "m", "mse": 1, "expected_version": 9},
            {"model_name": "", "mse": 1},
            {"model_name": "m", "metrics": {"bad": "x"}},
        ):
            with pytest.raises(psycopg.Error) as caught:
                call(connection, "save_progress", as_=BETA, **arguments)
            diag = caught.value.diag
            said.append((diag.sqlstate, diag.message_primary, diag.message_detail, diag.message_hint))
        return said

    save(front.connect(), "m", as_=BETA)
    assert refusals(front.connect()) == refusals(front.west.connect("app"))
    odd = front.connect()
    odd.execute("set quote_all_identifiers = on")
    assert refusals(odd) == refusals(front.connect())
    assert refusals(front.connect())[0][0] == "TN102"
    assert all(hint for *_, hint in refusals(front.connect()))
    assert any(detail for *_, detail, _ in refusals(front.connect()))
    with refused("TN003"):
        call(front.connect("acme_app"), "load_progress", as_=BETA)
    with outsider(front), refused("42501", hint=False):
        call(front.connect("outsider"), "load_progress", as_=ACME)


def test_refused_calls_keep_their_backend_in_the_cell(front: Front) -> None:
    app, watcher = front.connect(), front.east.connect()
    pids = "select array_agg(pid order by pid) from pg_stat_activity where datname = %s and usename = 'app'"
    save(app, "m", as_=ACME)
    seen = [watcher.execute(pids, (front.east.name,)).fetchone()]
    for _ in range(20):
        with refused("TN102"):
            save(app, "m", expected_version=9, as_=ACME)
        seen.append(watcher.execute(pids, (front.east.name,)).fetchone())
    # On a busy machine PL/Proxy sometimes hangs up before PgBouncer knows that the cell is done, which then ends it.
    assert sum(one != other for one, other in pairwise(seen)) < 10


def test_a_stale_directory_is_put_right_by_the_cell(front: Front) -> None:
    for cell in (front.west, front.east):
        call(cell.connect(), "hold_organisation", org_id="beta", cell_name="east")
    with refused("TN603"):
        save(front.connect(), "m", as_=BETA)
    call(front.west.connect(), "release_organisation", org_id="beta", cell_name="east")
    call(front.east.connect(), "open_organisation", org_id="beta")
    assert front.app(BETA).save_ai_progress("m", 1).version == 1
    assert names(front.east.connect("app"), as_=BETA) == ["m"]
    # A cell that the front does not know.
    for cell, name in ((front.west, "west"), (front.east, "east")):
        cell.connect().execute("select ai_storage.set_cells(array['east', 'north', 'west'], %s, 'east')", (name,))
        call(cell.connect(), "set_home", org_id="remote", cell_name="north")
    with refused("TN602") as caught:
        save(front.connect(), "m", as_=key("remote"))
    assert caught.value.diag.message_detail == "north"


def test_interleaved_calls_lose_no_rows(front: Front) -> None:
    expected = [f"m{n:03}" for n in range(200)]
    for tenant in (ACME, ACME_2):
        front.app(tenant).save_ai_progress_batch({"model_name": name, "mse": 1} for name in expected)
    app = front.connect()
    both = "select (ai_storage.load_progress(p_as => %s)).model_name, (ai_storage.load_progress(p_as => %s)).model_name"
    assert app.execute(both, (ACME, ACME_2)).fetchall() == [(name, name) for name in expected]
    with app.transaction():
        app.execute(f"declare c cursor for select model_name from ai_storage.load_progress(p_as => '{ACME}')")
        read = app.execute("fetch 50 from c").fetchall()
        assert len(names(app, as_=ACME_2, limit=10)) == 10
        with pytest.raises(psycopg.Error), app.transaction():
            save(app, "", as_=ACME)
        read += app.execute("fetch all from c").fetchall()
    assert [name for (name,) in read] == expected


def test_each_call_is_a_transaction_of_its_own(front: Front) -> None:
    app = front.connect()
    app.execute("begin")
    save(app, "m", as_=ACME)
    app.execute("rollback")
    assert names(app, as_=ACME) == ["m"]
    with refused("0A000"):
        call(app, "set_tenant", credential=ACME)
    assert value(app, "current_tenant") is None
    call(app, "clear_tenant")


def test_a_read_only_transaction_is_one_in_the_cell(front: Front) -> None:
    app = front.connect()
    save(app, "m", as_=ACME)
    app.execute("begin read only")
    assert names(app, as_=ACME) == ["m"]
    with refused("25006", hint=False):
        save(app, "n", as_=ACME)
    app.execute("rollback")
    app.execute("set default_transaction_read_only = on")
    with refused("25006", hint=False):
        save(app, "n", as_=ACME)
    app.execute("set default_transaction_read_only = off")
    save(app, "n", as_=ACME)
    assert names(app, as_=ACME) == ["m", "n"]


@contextmanager
def held(cell: Database) -> Iterator[None]:
    """Calls that save in a cell wait."""
    with cell.connect() as connection, connection.transaction():
        connection.execute("lock table ai_storage_private.ai_progress_tenant in access exclusive mode")
        yield


def waiting(cell: Database) -> int:
    """How many calls of the application wait in a cell."""
    query = "select count(*) from pg_stat_activity where datname = %s and usename = 'app' and wait_event_type = 'Lock'"
    return cell.connect().execute(query, (cell.name,)).fetchone()[0]


@pytest.mark.parametrize("end", ["statement_timeout", "cancel"])
def test_cancelling_and_statement_timeout_reach_the_cell(front: Front, end: str) -> None:
    app = front.connect()
    save(app, "m", as_=ACME)
    with held(front.east):
        began = time.monotonic()
        if end == "cancel":
            threading.Timer(0.3, app.cancel).start()
        else:
            app.execute("set statement_timeout = '300ms'")
        with refused("57014", hint=False):
            save(app, "m", as_=ACME)
        assert time.monotonic() - began < 5
        until(lambda: waiting(front.east) == 0, "the cell's call to end", 5)
    app.execute("reset statement_timeout")
    assert save(app, "m", as_=ACME).version == 2


def test_a_call_that_its_cell_cancels_leaves_no_client_waiting(front: Front) -> None:
    admin = front.east.connect()
    # PL/Proxy does not notice that a call was cancelled there. So the cell's own timeout does not count.
    admin.execute(f"alter role app in database {front.east.name} set statement_timeout = '200ms'")
    app = front.connect()
    with ThreadPoolExecutor(1) as pool:
        with held(front.east):
            call_ = pool.submit(save, app, "m", as_=ACME)
            until(lambda: waiting(front.east) == 1, "the call to wait")
            time.sleep(0.5)
        assert call_.result(10).version == 1
        with held(front.east):
            call_ = pool.submit(save, app, "m", as_=ACME)
            until(lambda: waiting(front.east) == 1, "the call to wait")
            admin.execute(
                "select pg_cancel_backend(pid) from pg_stat_activity where datname = %s and wait_event_type = 'Lock'",
                (front.east.name,),
            )
            with refused("57014", hint=False) as caught:
                call_.result(20)
            assert "REMOTE" not in str(caught.value)
        assert save(app, "m", as_=ACME).version == 2


# When a cell is down -------------------------------------------------------------------------------------------------


def test_a_stopped_cell_stops_its_organisations_alone_and_comes_back(
    server: Server, own_server: Server, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(own_server.dsn())
    with ExitStack() as stack:
        west = Database(own_server, "postgres", stack)
        with fronted(server, database, west, tmp_path, capsys) as front:
            app = front.connect()
            for tenant in (ACME, BETA):
                save(app, "m", as_=tenant)
            own_server.cluster.stop("immediate")
            for connection in (app, front.connect(), app):
                began = time.monotonic()
                with refused("08006") as caught:
                    save(connection, "m", as_=BETA)
                assert time.monotonic() - began < 10
                said = everything_said(caught.value)
                for secret in (own_server.host, front.pooler.split()[0], str(PORT), "user=", "west"):
                    assert secret not in said
                save(connection, "m", as_=ACME)
            assert "front: " in front.log()
            own_server.cluster.start({"max_connections": "200"})

            def back() -> bool:
                try:
                    save(app, "m", as_=BETA)
                except psycopg.OperationalError:
                    return False
                return True

            until(back, "the cell to come back")


def test_a_cell_of_another_version_gives_the_same_answers(
    server: Server, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for cluster in new_cluster(servers.bin_dir(18)):
        cluster.start({"max_connections": "50"})
        with psycopg.connect(cluster.url()) as connection:
            newer = Server(cluster, connection.info.host, 18, connection.info.port)
        install(newer.dsn())
        # Its answers come as text, which what the login set for its sessions there must not change.
        with psycopg.connect(newer.dsn(), autocommit=True) as admin:
            for setting in ("datestyle = 'SQL, DMY'", "extra_float_digits = -15", "bytea_output = escape"):
                admin.execute(f"alter role app set {setting}")
        with ExitStack() as stack:
            west = Database(newer, "postgres", stack)
            with fronted(server, database, west, tmp_path, capsys) as front:
                app, there = front.app(BETA), west.storage(BETA)
                app.save_ai_progress("m", 1 / 3, metrics={"a": 2 / 3}, metadata={"t": "\u00fc"})
                app.put_artifact("m", "w", bytes(range(256)))
                app.share_model("m", [{"codeHash": "c2"}], ["read", "write"])
                assert app.load_model("m") == there.load_model("m")
                assert app.get_artifact("m", "w") == bytes(range(256))
                assert app.list_shares() == there.list_shares() != []
                assert app.audit_trail() == there.audit_trail()


# What an attacker with the application's SQL tries -------------------------------------------------------------------


ATTACKS = [
    "create function pg_temp.f(p_address text) returns text language plproxy as 'connect p_address; select 1;'",
    "do language plproxy 'connect ''dbname=postgres''; select 1;'",
    "select * from ai_storage_front.load_progress('dbname=postgres', null, null, null, 1, null, 'x')",
    "select ai_storage_front.route('acme:')",
    "table ai_storage_front.cell",
    "table ai_storage_front.home",
    "insert into ai_storage_front.home values ('acme', 'west')",
    "create server s foreign data wrapper plproxy options (p0 'dbname=postgres')",
    "create foreign data wrapper w",
    "create schema plproxy",
    "create function ai_storage.load_progress() returns text language sql as 'select 1'",
    "create or replace function ai_storage.version() returns text language sql as 'select 1'",
    "alter function ai_storage.version() reset all",
    "set role ai_storage_front",
    "alter role ai_storage_front login",
    "grant ai_storage_front to app",
    "select plproxy_call_handler()",
    "select plproxy_validator(0)",
    "create extension dblink",
    "select rolpassword from pg_authid",
]


def test_an_application_cannot_reach_past_the_functions(front: Front) -> None:
    app = front.connect("acme_app")
    for attack in ATTACKS:
        with refused("42501", hint=False):
            app.execute(attack)


def test_a_login_that_the_pooler_does_not_know_reaches_no_cell(front: Front) -> None:
    with refused("08006"):
        save(front.connect("postgres"), "m", as_=ACME)
    assert front.east.storage(ACME).load_ai_progress() == []
    assert "postgres" in front.log()


def test_a_login_cannot_write_the_address_by_its_name(front: Front) -> None:
    admin = front.connect("postgres")
    name = "x' host='/evil' user='postgres\\"
    admin.execute(sql.SQL("create role {} superuser").format(sql.Identifier(name)))
    try:
        admin.execute(sql.SQL("set session authorization {}").format(sql.Identifier(name)))
        (address,) = admin.execute("select ai_storage_front.route('acme:')").fetchone()
    finally:
        admin.execute("reset session authorization")
        admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
    given = conninfo_to_dict(address)
    assert given == {
        **conninfo_to_dict(front.pooler),
        "dbname": "east",
        "user": name,
        "application_name": "ai_storage_front",
    }


def test_no_setting_shows_an_address_or_a_login_of_the_cells(front: Front) -> None:
    app = front.connect("acme_app")
    heard: list[str] = []
    app.add_notice_handler(lambda diagnostic: heard.append(f"{diagnostic.message_primary} {diagnostic.message_detail}"))
    app.execute("set debug_pretty_print = off")  # it breaks lines within numbers
    for setting in ("debug_print_parse", "debug_print_rewritten", "debug_print_plan"):
        app.execute(f"set {setting} = on")
    for level in ("log", "debug5"):
        app.execute(f"set client_min_messages = {level}")
        save(app, "m", as_=ACME)
        with refused("TN003"):
            save(app, "m", as_=BETA)
    assert any("PLANNEDSTMT" in said for said in heard)
    address = front.pooler.split()[0].removeprefix("host=")
    # A plan shows a text as its bytes.
    for secret in (address, " ".join(str(byte) for byte in address.encode()), "application_name="):
        assert not any(secret in " ".join(said.split()) for said in heard)
    sources = "select string_agg(prosrc, ' ') from pg_proc where prosrc like '%ai_storage_front%'"
    assert address not in app.execute(sources).fetchone()[0]


def test_no_password_is_in_the_front(front: Front) -> None:
    admin = front.connect("postgres")
    rows = admin.execute("select c::text from ai_storage_front.cell as c").fetchall()
    assert len(rows) == 2
    assert not any("password" in row for (row,) in rows)
    assert admin.execute("select count(*) from pg_foreign_server, pg_user_mappings").fetchone() == (0,)


def test_settings_of_the_session_change_no_value_on_its_way(front: Front) -> None:
    settings = {
        "extra_float_digits": "-15",
        "datestyle": "'SQL, DMY'",
        "intervalstyle": "sql_standard",
        "bytea_output": "escape",
        "timezone": "'<odd>-05:45'",
        "array_nulls": "off",
        "transform_null_equals": "on",
        "standard_conforming_strings": "off",
        "client_encoding": "latin1",
        "search_path": "pg_temp",
    }
    plain, odd = front.east.connect("app"), front.connect()
    for name, setting in settings.items():
        odd.execute(f"set {name} = {setting}")
    read = (
        "select l.mse, l.metrics, l.metadata, s.expires_at, ai_storage.get_artifact(%(m)s, 'w', p_as => %(a)s) "
        "from ai_storage.load_progress(%(m)s, p_as => %(a)s) as l, ai_storage.list_shares(%(m)s, p_as => %(a)s) as s"
    )
    answers = []
    for model, at in (("plain", plain), ("odd", odd)):
        at.execute(
            "select from ai_storage.save_progress(%s, %s, p_metrics => %s, p_metadata => %s, p_as => %s)",
            (model, 1 / 3, '{"a": 0.6666666666666666, "b": 5e-324}', json.dumps({"t": '\u00fc\\"'}), ACME),
        )
        call(at, "put_artifact", model_name=model, artifact_name="w", content=bytes(range(256)), as_=ACME)
        at.execute(
            'select from ai_storage.share_model(%s, \'[{"code_hash": "c2"}]\', p_expires_at => '
            "make_timestamptz(2031, 2, 3, 4, 5, 6.789, 'UTC'), p_as => %s)",
            (model, ACME),
        )
        answers.append(plain.execute(read, {"m": model, "a": ACME}).fetchall())
    assert answers[0] == answers[1]
    assert answers[0][0][0] == 1 / 3
    # And on its way back.
    back = (
        "select extract(epoch from created_at), extract(epoch from expires_at) from ai_storage.list_shares(p_as => %s)"
    )
    assert odd.execute(back, (ACME,)).fetchall() == plain.execute(back, (ACME,)).fetchall()


def test_what_an_attacker_puts_in_front_of_a_name_is_not_called(front: Front) -> None:
    app = front.connect("acme_app")
    app.execute("create domain pg_temp.text as pg_catalog.text check (value is null)")
    app.execute("create function pg_temp.strpos(text, text) returns integer language sql as 'select 1 / 0'")
    app.execute("create temp table cell (cell_name text, address text, read_only_address text, takes_new boolean)")
    app.execute("set search_path = pg_temp, pg_catalog")
    save(app, "m", as_=ACME)


def test_numbers_that_print_as_gigabytes_are_refused_before_they_are_printed(front: Front) -> None:
    app = front.connect("acme_app")
    calls = {
        "save_progress": "p_model_name => 'm', p_mse => 1, p_metadata => (%s::jsonb) -> 0",
        "save_progress_batch": "p_items => %s::jsonb",
        "share_model": "p_model_name => 'm', p_targets => %s::jsonb",
        "import_tenant": "p_records => %s::jsonb",
    }
    for number, (function, arguments) in product(["1e131071", "1e-16383", "0e-16383", "-1e131071"], calls.items()):
        document = f'[{{"a": [{", ".join([number] * 50_000)}]}}]'
        began = time.monotonic()
        with refused("22023") as caught:
            app.execute(f"select * from ai_storage.{function}({arguments}, p_as => '{ACME}')", (document,))
        assert "digits" in str(caught.value)
        assert time.monotonic() - began < 5


def test_a_few_such_numbers_are_left_for_the_cell_to_judge(front: Front) -> None:
    for connection in (front.connect(), front.east.connect("app")):
        for number in ("1e131071", "1e-16383", "[" * 65 + "]" * 65):
            with refused("22023") as caught:
                connection.execute(
                    "select ai_storage.save_progress('m', 1, p_metadata => %s, p_as => %s)",
                    (f'{{"a": {number}}}', ACME),
                )
            assert "metadata" in str(caught.value)


def test_the_log_of_a_tenant_names_the_login_and_no_application_of_another_client(front: Front) -> None:
    for name in ("first", "second"):
        app = front.connect("acme_app", application_name=name)
        app.execute(f"set application_name = '{name} of the attacker'")
        save(app, name, as_=ACME)
    events = front.east.storage(ACME).audit_trail()
    assert {(event.login, event.detail["application"]) for event in events} == {("acme_app", "ai_storage_front")}


# Setting it up -------------------------------------------------------------------------------------------------------


def test_a_front_is_set_up_again_in_place(front: Front, capsys: pytest.CaptureFixture[str]) -> None:
    admin, app = front.connect("postgres"), front.connect()
    admin.execute("create function ai_storage.of_an_older_release() returns integer language sql as 'select 1'")
    save(app, "m", as_=ACME)
    for cell in (front.west, front.east):
        call(cell.connect(), "set_home", org_id="gone", cell_name="west")
    admin.execute(command(capsys, "front-sql", str(front.file), front.pooler))
    save(app, "m", as_=ACME)
    homes = admin.execute("select org_id, cell_name from ai_storage_front.home order by 1").fetchall()
    assert homes == [("acme", "east"), ("beta", "west"), ("gone", "west")]
    assert admin.execute("select to_regproc('ai_storage.of_an_older_release')").fetchone() == (None,)
    rights = (
        "select distinct proowner::regrole::text, has_function_privilege('outsider', oid, 'execute') from pg_proc "
        "where pronamespace in ('ai_storage'::regnamespace, 'ai_storage_front'::regnamespace)"
    )
    with outsider(front):
        assert admin.execute(rights).fetchall() == [("ai_storage_front", False)]
    powers = "select rolcanlogin or rolsuper or rolbypassrls or rolcreaterole from pg_roles where rolname = %s"
    assert admin.execute(powers, ("ai_storage_front",)).fetchone() == (False,)


def test_every_function_of_tenants_is_in_the_front(front: Front) -> None:
    functions = (
        "select proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), "
        "obj_description(p.oid) is null from pg_proc as p, aclexplode(p.proacl) as a "
        "where pronamespace = 'ai_storage'::regnamespace and a.grantee = 'ai_storage_app'::regrole order by 1"
    )
    there, here = (at.connect().execute(functions).fetchall() for at in (front.east, front.database))
    assert here == there
    assert len(here) > 40


def test_a_front_is_made_of_an_empty_database_and_a_directory_alone(
    front: Front, capsys: pytest.CaptureFixture[str]
) -> None:
    script = command(capsys, "front-sql", str(front.file), front.pooler)
    with refused("55000"):
        front.east.connect().execute(script)
    admin = front.connect("postgres")
    admin.execute("grant ai_storage_front to stranger")
    with refused("55000"):
        admin.execute(script)
    admin.execute("rollback; revoke ai_storage_front from stranger")
    admin.execute("alter schema ai_storage_front owner to stranger")
    with refused("55000"):
        admin.execute(script)
    admin.execute("rollback")
    assert cli.main(["front-sql", str(front.file), "host=/x password=secret"]) == 1
    assert "secret" not in capsys.readouterr().err
    twice = front.file.with_name("twice.json")
    twice.write_text(json.dumps({"east": "dbname=a", "east.read-only": "dbname=b"}))
    assert cli.main(["pgbouncer", "--front", str(twice)]) == 1
    front.east.connect().execute("truncate ai_storage_private.cell, ai_storage_private.home")
    assert cli.main(["front-sql", str(front.file), front.pooler]) == 1
