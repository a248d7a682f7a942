"""The example clients in other languages, and a tool that makes an interface of the schema, as applications' logins."""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest

from pydb import migrate
from tests import servers
from tests.clients import CLIENTS, FOLDER, NODE, POSTGRAPHILE, Client, has_modules
from tests.conftest import FAST, Database, Server, new_cluster
from tests.helpers import ACME, BETA, call, free_port, until
from tests.webserver import minter

PASSWORD = "p@ss:word/1"  # has to be quoted in a URL
EXPECTED = (FOLDER / "expected.txt").read_text("utf-8")


@pytest.fixture(scope="module")
def asking(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server on loopback that asks applications for their password, with a database to be copied."""
    major, port = request.config.getoption("--pg"), free_port()
    for cluster in new_cluster(servers.bin_dir(major)):
        cluster.start({**FAST, "listen_addresses": "127.0.0.1", "port": str(port)})
        with psycopg.connect(cluster.url(), autocommit=True) as connection:
            (rules,) = connection.execute("show hba_file").fetchone()
            Path(rules).write_text("local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n", "utf-8")
            connection.execute("select pg_reload_conf()")
            connection.execute("create database prepared")
            server = Server(cluster, connection.info.host, major, port)
        migrate.init(server.dsn(dbname="prepared"), app_login="acme_app", app_password=PASSWORD, pattern="acme:*:*:*:*")
        yield server


@pytest.fixture
def database(asking: Server) -> Iterator[Database]:
    """A fresh database on it."""
    name = f"clients_{secrets.token_hex(4)}"
    with psycopg.connect(asking.dsn(), autocommit=True) as connection:
        connection.execute(f"create database {name} template prepared")
    with ExitStack() as stack:
        yield Database(asking, name, stack)


def url(database: Database, password: str = PASSWORD) -> str:
    """What an application is given."""
    server = f"127.0.0.1:{database.server.port}"
    return f"postgresql://acme_app:{quote(password, safe='')}@{server}/{database.name}?sslmode=disable"


def psql(database: Database) -> dict[str, str]:
    """An environment in which psql is that of the server, whose libraries lie beside it."""
    bin_dir = database.server.cluster.bin_dir
    return {"PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}", "LD_LIBRARY_PATH": str(bin_dir.parent / "lib")}


def run(client: Client, dsn: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        client.command,
        cwd=FOLDER,
        env={**os.environ, **client.environment, **environment, "DATABASE_URL": dsn},
        capture_output=True,
        text=True,
        timeout=120,
    )


PSQL = Client("psql", ("bash", "session.sh"), ("bash", "--version"))


@pytest.mark.parametrize("client", [*CLIENTS, PSQL], ids=lambda client: client.name)
def test_every_language_has_the_same_session(database: Database, client: Client) -> None:
    if not client.is_here():
        pytest.skip(f"no runtime or driver for {client.name}: run `make servers`, as root where apt is the way")
    if client is PSQL and database.server.major < 16:
        pytest.skip(r"psql 15 has no \bind")
    environment = psql(database) if client is PSQL else {}
    done = run(client, url(database), environment)
    assert (done.stdout, done.returncode) == (EXPECTED, 0), done.stderr


def test_no_password_is_an_argument_of_psql(tmp_path: Path) -> None:
    stub = tmp_path / "psql"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$PGPASSWORD" "$1"\n')
    stub.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = run(PSQL, f"postgresql://acme_app:{quote(PASSWORD, safe='')}@db:5432/app?sslmode=require", environment)
    assert done.stdout == f"{PASSWORD}\npostgresql://acme_app@db:5432/app?sslmode=require\n"


def test_the_server_asks_for_the_password(database: Database) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url(database, "another"))


def test_go_is_given_the_sums_of_the_modules_that_it_is_to_get() -> None:
    # Without them `go run` refuses, and where modules cannot be downloaded nothing else here would notice.
    wanted = re.findall(r"^require (\S+ \S+)$", (FOLDER / "go.mod").read_text("utf-8"), re.MULTILINE)
    sums = re.findall(r"^(\S+ \S+) h1:[\w+/]{43}=$", (FOLDER / "go.sum").read_text("utf-8"), re.MULTILINE)
    assert wanted
    assert sorted(sums) == sorted(name for module in wanted for name in (module, f"{module}/go.mod"))


def test_the_list_of_clients_is_that_of_the_files() -> None:
    named = {part for client in [*CLIENTS, PSQL] for part in client.command}
    assert {path.name for path in FOLDER.glob("[sS]ession.*")} <= named


@contextmanager
def postgraphile(dsn: str, folder: Path) -> Iterator[httpx.Client]:
    """PostGraphile with the example's settings, until the block ends."""
    port = free_port()
    with (folder / "postgraphile.log").open("w+", encoding="utf-8") as log:
        server = subprocess.Popen(
            [NODE / "node", "node_modules/.bin/postgraphile"],
            cwd=POSTGRAPHILE,
            env={**os.environ, "DATABASE_URL": dsn, "PORT": str(port), "GRAPHILE_ENV": "production"},
            stdout=log,
            stderr=log,
        )

        def listens() -> bool:
            assert server.poll() is None, (folder / "postgraphile.log").read_text("utf-8")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            until(listens, "PostGraphile to listen", 120)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                until(lambda: "data" in ask(client, "{ __typename }"), "PostGraphile's schema", 120)
                yield client
        finally:
            server.kill()
            server.wait()


def ask(client: httpx.Client, query: str, **variables: Any) -> dict[str, Any]:
    """The answer to a GraphQL request: its data and errors."""
    return client.post("/graphql", json={"query": query, "variables": variables}).json()


def camel(name: str) -> str:
    first, *more = name.split("_")
    return first + "".join(word.capitalize() for word in more)


SAVE = """mutation ($as: String!, $mse: Float!, $expected: BigInt) {
  saveProgress(input: {pModelName: "m", pMse: $mse, pMetrics: {accuracy: 0.9}, pExpectedVersion: $expected, pAs: $as}) {
    result { version created } } }"""
LOAD = "mutation ($as: String!) { loadProgress(input: {pAs: $as}) { result { modelName version mse metrics } } }"
SCHEMA = "{ __schema { queryType { fields { name } } mutationType { fields { name } } types { kind name } } }"


def test_postgraphile_shows_a_login_its_functions_and_nothing_else(database: Database, tmp_path: Path) -> None:
    if not has_modules(POSTGRAPHILE):
        pytest.skip("PostGraphile is not installed: run `make servers`, where npm can be reached")
    admin = database.connect()
    # What may be called without a right of this login's own is shown to everybody.
    callable_ = admin.execute(
        "select proname from pg_proc where pronamespace = 'ai_storage'::regnamespace "
        "and has_function_privilege('acme_app', oid, 'execute')"
    )
    functions = {camel(name) for (name,) in callable_}
    assert "saveProgress" in functions
    assert "authorizeLogin" not in functions
    call(admin, "deauthorize_login", login="acme_app", pattern="acme:*:*:*:*")
    call(admin, "authorize_login", login="acme_app", pattern="acme:*:*:*:*", token_only=True)
    mint = minter(database)
    with postgraphile(url(database), tmp_path) as client:
        schema = ask(client, SCHEMA)["data"]["__schema"]
        fields = [field["name"] for kind in ("queryType", "mutationType") for field in schema[kind]["fields"]]
        # The first three are GraphQL's own, and lead to nothing but these fields.
        assert sorted(fields) == sorted(["query", "id", "node", *functions])
        makes = {name[0].upper() + name[1:] for name in functions}
        objects = {kind["name"] for kind in schema["types"] if kind["kind"] == "OBJECT" and kind["name"][:2] != "__"}
        ends = ("Payload", "Record", "Connection", "Edge")
        named = {make + end for make in makes for end in ends}
        assert objects - named == {"Query", "Mutation", "PageInfo"}

        token = mint(ACME)
        saved = ask(client, SAVE, mse=0.31, **{"as": token})
        assert saved["data"]["saveProgress"]["result"] == [{"version": "1", "created": True}]
        loaded = ask(client, LOAD, **{"as": token})["data"]["loadProgress"]["result"]
        assert loaded == [{"modelName": "m", "version": "1", "mse": 0.31, "metrics": {"accuracy": 0.9}}]
        assert ask(client, LOAD, **{"as": mint(ACME.replace("s1", "s2"))})["data"]["loadProgress"]["result"] == []
        # A name is no credential for this login, and neither is a token of another organisation.
        for credential in (ACME, mint(BETA)):
            refused = ask(client, LOAD, **{"as": credential})
            assert refused["data"]["loadProgress"] is None
            assert [error["extensions"]["code"] for error in refused["errors"]] == ["TN003"]
        (conflict,) = ask(client, SAVE, mse=0.3, expected="7", **{"as": token})["errors"]
        assert conflict["extensions"]["code"] == "TN102"
        # An error that may hold values keeps its text to itself.
        (hidden,) = ask(client, SAVE.replace('"m"', '""'), mse=0.3, **{"as": token})["errors"]
        assert hidden["extensions"].keys() == {"errorId"}
