"""The middlewares before small applications of each kind, on real servers: whose request it is, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import itertools
import json
import logging
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool

import pydb
from pydb import (
    AsyncTenantAwareStorage,
    ExternalSharingForbidden,
    NotAuthorized,
    StorageError,
    TenantAwareStorage,
    environment,
    errors,
    identity,
    web,
)
from tests.conftest import Database, Server, install
from tests.helpers import call, until
from tests.webserver import Mint, bearer, minter, serving

ACME = "acme:mcp-1:shop:production:v1"
BETA = "beta:mcp-1:shop:production:v1"
SECRET = "a-gateway-secret-of-32-characters"
EXEMPT = ("/open",)
DOCS = (Path(__file__).parent.parent / "docs" / "web.md").read_text()

# The small application, in each framework
#
# /whoami     the tenant, as the request's context says
# /thread     the same, from a thread or task that the request began
# /save       saves the model ?name= and, if given, expects the version ?expected=
# /models     the names of all models
# /open       needs no tenant, and tells whether there is one
# /headers    as /models, of a request that shows no more than its headers
# /broken     fails for a reason of its own


def whoami() -> str:
    return web.request_tenant().isolation_key


def nobody() -> str:
    try:
        return whoami()
    except errors.NoTenant:
        return "nobody"


def in_thread() -> str:
    found: list[str] = []
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: found.append(context.run(whoami)))
    thread.start()
    thread.join()
    return found[0]


def headers_of(request: Any) -> SimpleNamespace:
    """The same request, where its scope or environ cannot be seen."""
    return SimpleNamespace(headers={"Authorization": f"Bearer {web._bearer(request)}"})


def answer(request: Any, path: str, query: dict[str, str]) -> str:
    """What an application of one thread answers."""
    request, path = (headers_of(request), "/models") if path == "/headers" else (request, path)
    storage = TenantAwareStorage.from_request(request) if path in ("/save", "/models") else None
    if path == "/save":
        saved = storage.save_ai_progress(query["name"], 0.5, expected_version=query.get("expected"))
        return str(saved.version)
    if path == "/models":
        return ",".join(row.model_name for row in storage.load_ai_progress())
    return {"/whoami": whoami, "/thread": in_thread, "/open": nobody}[path]()


async def answer_async(request: Any, path: str, query: dict[str, str]) -> str:
    request, path = (headers_of(request), "/models") if path == "/headers" else (request, path)
    storage = await AsyncTenantAwareStorage.from_request(request) if path in ("/save", "/models") else None
    if path == "/save":
        saved = await storage.save_ai_progress(query["name"], 0.5, expected_version=query.get("expected"))
        return str(saved.version)
    if path == "/models":
        return ",".join(row.model_name for row in await storage.load_ai_progress())
    if path == "/thread":
        inner = asyncio.create_task(asyncio.to_thread(whoami))
        return await inner
    return {"/whoami": whoami, "/open": nobody}[path]()


def first_values(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}


def bare_asgi(**options: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        text = await answer_async(scope, scope["path"], first_values(scope["query_string"].decode()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text.encode()})

    return web.TenantMiddleware(app, **options)


def starlette(**options: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def asynchronous(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await answer_async(request, request.url.path, dict(request.query_params)))

    def synchronous(request: Request) -> PlainTextResponse:  # in a thread of Starlette's
        return PlainTextResponse(answer(request, request.url.path, dict(request.query_params)))

    paths = ["/save", "/models", "/thread", "/headers", "/broken"]
    app = Starlette(routes=[*(Route(path, asynchronous) for path in paths), Route("/{path}", synchronous)])
    app.add_middleware(web.TenantMiddleware, **options)
    return app


def bare_wsgi(**options: Any) -> Any:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        text = answer(environ, environ["PATH_INFO"], first_values(environ["QUERY_STRING"]))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]

    return web.WSGITenantMiddleware(app, **options)


def flask(**options: Any) -> Any:
    from flask import Flask, request

    app = Flask("test")
    for kind in (StorageError, psycopg.OperationalError):
        app.register_error_handler(kind, web.problem)

    @app.route("/<path>")
    def route(path: str) -> str:
        return answer(request, f"/{path}", request.args.to_dict())

    app.wsgi_app = web.WSGITenantMiddleware(app.wsgi_app, **options)
    return app


def route(request: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse(answer(request, request.path, request.GET.dict()))


def django(**options: Any) -> Any:
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import re_path

    if not settings.configured:
        settings.configure()
    if "tests.django_project" not in sys.modules:  # once in a process
        project = sys.modules["tests.django_project"] = ModuleType("tests.django_project")
        project.urlpatterns = [re_path(".*", route)]
        project.__dict__.update(pydb=pydb, psycopg=psycopg, HttpResponse=HttpResponse)
        (documented,) = re.findall(r"^class Problems:.*?(?=^```)", DOCS, re.DOTALL | re.MULTILINE)
        exec(documented, project.__dict__)
        settings.ROOT_URLCONF = project.__name__
        settings.ALLOWED_HOSTS = ["*"]
        settings.MIDDLEWARE = [f"{project.__name__}.Problems"]
    return web.WSGITenantMiddleware(get_wsgi_application(), **options)


APPS = {"asgi": bare_asgi, "starlette": starlette, "wsgi": bare_wsgi, "flask": flask, "django": django}
ASGI = {"asgi", "starlette"}


def unreachable(database: Database) -> str:
    return make_conninfo(database.dsn("app"), port=1, connect_timeout=1)


@pytest.fixture(scope="module")
def installed(server: Server) -> Iterator[Database]:
    """One database for all tests of this file: they need no schema of their own, and there are many."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("create database web")
        install(server.dsn(dbname="web"))
        with ExitStack() as stack:
            yield Database(server, "web", stack)
        connection.execute("drop database web with (force)")


@pytest.fixture
def deployed(installed: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The database without any tenant, which the environment names."""
    monkeypatch.setenv("DATABASE_URL", installed.dsn("app"))
    with ExitStack() as stack:
        database = dataclasses.replace(installed, stack=stack)
        yield database
        environment.close_shared_pool()
        with contextlib.suppress(psycopg.errors.UndefinedObject):  # no tenant has saved anything
            call(database.connect(), "erase_tenant", pattern="*:*:*:*:*", reason="the next test")


@pytest.fixture
def mint(deployed: Database) -> Mint:
    return minter(deployed)


@pytest.fixture(params=APPS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(kind: str, deployed: Database) -> Iterator[httpx.Client]:
    with serving(APPS[kind](exempt=EXEMPT), kind in ASGI) as client:
        yield client


@pytest.fixture
def gateway(kind: str, deployed: Database) -> Iterator[httpx.Client]:
    """As client, where a gateway is trusted."""
    with serving(APPS[kind](exempt=EXEMPT, gateway_secret=SECRET), kind in ASGI) as client:
        yield client


def assert_problem(response: httpx.Response, status: int, code: str | None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body.get("code"), body["type"]) == (status, code, "about:blank")
    assert ("www-authenticate" in response.headers) == (status == 401)
    return body


# Whose request it is


def test_each_request_is_its_tenants(client: httpx.Client, mint: Mint) -> None:
    for key in (ACME, BETA, ACME):
        headers = bearer(mint(key))
        assert client.get("/whoami", headers=headers).text == key
        assert client.get("/thread", headers=headers).text == key
        client.get("/save", params={"name": "of-" + key.split(":")[0]}, headers=headers).raise_for_status()
    assert client.get("/models", headers=bearer(mint(ACME))).text == "of-acme"
    assert client.get("/models", headers=bearer(mint(BETA))).text == "of-beta"


def test_nothing_of_a_request_is_left_for_the_next_one(client: httpx.Client, mint: Mint) -> None:
    headers = bearer(mint(ACME))
    for path in ("/whoami", "/models", "/save?name=m&expected=7", "/broken"):
        client.get(path, headers=headers)
        # The same connection, and where there is one thread, the same thread.
        assert client.get("/open").text == "nobody"
        assert_problem(client.get("/whoami"), 401, "TN001")
    assert nobody() == "nobody"


def test_an_exempt_path_has_no_tenant_and_only_that_path_is_exempt(client: httpx.Client, mint: Mint) -> None:
    assert client.get("/open", headers=bearer(mint(ACME))).text == "nobody"
    for path in (
        "/open/",
        "//open",
        "/OPEN",
        "/open/../models",
        "/open%2f..%2fmodels",
        "/models?/open",
        "/open;/models",
    ):
        assert_problem(client.get(path), 401, "TN001")


# Refusals


def test_without_a_token_it_is_401(client: httpx.Client) -> None:
    for headers in ({}, {"Authorization": ""}, {"Authorization": "Basic YTpi"}):
        response = client.get("/models", headers=headers)
        assert_problem(response, 401, "TN001")
        assert response.headers["www-authenticate"] == "Bearer"


def test_an_isolation_key_is_no_token(client: httpx.Client) -> None:
    # The login of this application may name any tenant, so the database would take it.
    for text in (ACME, f"{ACME}.a.b", "x", "a.b.c.d"):
        response = client.get("/models", headers=bearer(text))
        assert_problem(response, 401, "TN002")
        assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_a_token_that_is_over_is_401_and_a_forged_one_403(client: httpx.Client, deployed: Database, mint: Mint) -> None:
    over = minter(deployed, ttl=timedelta(seconds=-1))
    assert_problem(client.get("/models", headers=bearer(over(ACME))), 401, "TN005")
    token = mint(ACME)
    forged = token.rpartition(".")[0] + "." + mint(BETA).rpartition(".")[2]
    # /whoami asks the database nothing by itself.
    for path in ("/models", "/whoami"):
        assert_problem(client.get(path, headers=bearer(forged)), 403, "TN003")


def test_a_token_given_twice_is_refused(client: httpx.Client, mint: Mint) -> None:
    headers = [("Authorization", f"Bearer {mint(key)}") for key in (ACME, BETA)]
    assert client.get("/whoami", headers=headers).status_code == 401


def test_an_error_of_the_application_is_the_servers(client: httpx.Client, mint: Mint) -> None:
    assert client.get("/broken", headers=bearer(mint(ACME))).status_code == 500


def test_an_error_of_pydb_is_a_problem_with_its_status(client: httpx.Client, mint: Mint) -> None:
    headers = bearer(mint(ACME))
    client.get("/save?name=m", headers=headers)
    body = assert_problem(client.get("/save?name=m&expected=7", headers=headers), 409, "TN102")
    assert body["detail"] == "the model is not at the expected version. Expected version 7, current version 1."
    assert body["hint"]
    assert_problem(client.get("/save", params={"name": "x" * 300}, headers=headers), 422, "22023")
    assert_problem(client.get("/save", params={"name": "nul\0"}, headers=headers), 422, "22023")


def test_without_the_database_it_is_503_and_says_nothing_of_it(
    client: httpx.Client, deployed: Database, mint: Mint, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = mint(ACME)
    monkeypatch.setenv("DATABASE_URL", unreachable(deployed))
    response = client.get("/models", headers=bearer(token))
    body = assert_problem(response, 503, None)
    assert set(body) == {"type", "title", "status"}
    assert response.headers["retry-after"] == "1"


def test_a_model_of_somebody_else_is_as_absent_as_none(client: httpx.Client, mint: Mint, deployed: Database) -> None:
    client.get("/save?name=canary&expected=0", headers=bearer(mint(BETA))).raise_for_status()
    headers = bearer(mint(ACME))
    asked = [client.get(f"/save?name={name}&expected=5", headers=headers) for name in ("canary", "nowhere")]
    assert asked[0].status_code == asked[1].status_code
    assert asked[0].text == asked[1].text
    assert "beta" not in asked[0].text


# Headers that name a tenant


SPOOFED = [
    {"X-AI-Tenant": BETA},
    {"X-AI-Tenant": BETA, "X-AI-Gateway-Secret": ""},
    {"X-AI-Tenant": BETA, "X-AI-Gateway-Secret": SECRET[:-1]},
    {"X-AI-Tenant": BETA, "X-AI-Gateway-Secret": SECRET.upper()},
    {"X_AI_Tenant": BETA, "Tenant": BETA, "X-Tenant-Id": BETA, "X-AI-Org-Id": "beta", "X-Forwarded-User": BETA},
    {"pydb.tenant": BETA, "HTTP_AUTHORIZATION": f"Bearer {BETA}", "Cookie": f"tenant={BETA}"},
]


def test_a_spoofed_header_changes_nothing(client: httpx.Client, gateway: httpx.Client, mint: Mint) -> None:
    for headers, server in itertools.product(SPOOFED, (client, gateway)):
        assert server.get("/whoami", headers={**headers, **bearer(mint(ACME))}).text == ACME, headers
        assert_problem(server.get("/whoami", headers=headers), 401, "TN001")
        assert server.get("/open", headers=headers).text == "nobody", headers


def test_the_gateways_headers_count_only_where_it_is_trusted(client: httpx.Client, mint: Mint) -> None:
    headers = {"X-AI-Tenant": BETA, "X-AI-Gateway-Secret": SECRET}
    assert_problem(client.get("/whoami", headers=headers), 401, "TN001")
    assert client.get("/whoami", headers={**headers, **bearer(mint(ACME))}).text == ACME


def test_a_trusted_gateway_names_the_tenant(gateway: httpx.Client, mint: Mint) -> None:
    proof = {"X-AI-Gateway-Secret": SECRET}
    assert gateway.get("/whoami", headers={"X-AI-Tenant": BETA, **proof}).text == BETA
    gateway.get("/save?name=m", headers={"X-AI-Tenant": BETA, **proof}).raise_for_status()
    assert gateway.get("/models", headers=bearer(mint(BETA))).text == "m"
    # A token as well, two tenants, or what is no isolation key: somebody else wrote a part of it.
    for headers in (
        {"X-AI-Tenant": BETA, **proof, **bearer(mint(ACME))},
        {"X-AI-Tenant": mint(ACME), **proof},
        {"X-AI-Tenant": "beta:*:*:*:*", **proof},
        {"X-AI-Tenant": f"{ACME}, {BETA}", **proof},
        {"X-AI-Tenant": "", **proof},
    ):
        assert_problem(gateway.get("/whoami", headers=headers), 401, "TN002")
    assert gateway.get("/whoami", headers={**proof, **bearer(mint(ACME))}).text == ACME


def test_the_gateway_is_bound_by_what_the_login_is_authorised_for(
    deployed: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", deployed.dsn("acme_app"))
    proof = {"X-AI-Gateway-Secret": SECRET}
    with serving(bare_wsgi(gateway_secret=SECRET), asgi=False) as client:
        assert client.get("/whoami", headers={"X-AI-Tenant": ACME, **proof}).text == ACME
        assert_problem(client.get("/whoami", headers={"X-AI-Tenant": BETA, **proof}), 403, "TN003")


@pytest.mark.parametrize("secret", ["", "x" * 31, "ü" * 40, "x" * 40 + "\n", " " * 40])
def test_a_weak_gateway_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="32"):
        web.TenantMiddleware(None, gateway_secret=secret)


# Tokens of an identity provider


def test_a_providers_token_is_exchanged(kind: str, mint: Mint) -> None:
    def exchange(token: str) -> str:
        if token == "id.of.nobody":
            raise identity.IdentityRefused("the token is not valid", hint="Get another.")
        if token == "id.of.later":
            raise identity.KeysUnavailable("no keys", detail="at host idp.internal")
        return mint(ACME)

    with serving(APPS[kind](exchange=exchange), kind in ASGI) as client:
        assert client.get("/whoami", headers=bearer("id.of.acme")).text == ACME
        assert_problem(client.get("/whoami", headers=bearer("id.of.nobody")), 401, None)
        assert "idp" not in client.get("/whoami", headers=bearer("id.of.later")).text
        assert_problem(client.get("/whoami", headers=bearer("id.of.later")), 503, None)


def test_no_token_of_the_database_passes_by_the_exchange(kind: str, deployed: Database, mint: Mint) -> None:
    def exchange(token: str) -> str:
        raise identity.IdentityRefused("only tokens of the provider", hint="Get one.")

    with serving(APPS[kind](exempt=["/open", "/models", "/headers"], exchange=exchange), kind in ASGI) as client:
        token = bearer(mint(ACME))
        assert_problem(client.get("/whoami", headers=token), 401, None)
        for path in ("/models", "/headers"):
            assert_problem(client.get(path, headers=token), 401, "TN001")
            assert_problem(client.get(path), 401, "TN001")
        assert client.get("/open", headers=token).text == "nobody"


def test_a_request_that_shows_its_headers_alone_is_not_believed_within_a_middleware(
    client: httpx.Client, mint: Mint
) -> None:
    # It may be another request than the one that was admitted.
    assert_problem(client.get("/headers", headers=bearer(mint(ACME))), 401, "TN001")


def test_exchanges_that_wait_keep_no_other_work_from_the_event_loop(deployed: Database) -> None:
    ended = threading.Event()

    def exchange(token: str) -> str:
        ended.wait(60)
        raise identity.KeysUnavailable("no keys", hint="Try again.")

    async def scenario() -> None:
        app = web.TenantMiddleware(None, exchange=exchange)
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "path": "/", "headers": [(b"authorization", b"Bearer a.b.c")]}
        requests = [asyncio.create_task(app(dict(scope), None, send)) for _ in range(100)]
        try:
            await asyncio.sleep(0)
            await asyncio.wait_for(asyncio.to_thread(lambda: None), 10)
            assert not sent
        finally:
            ended.set()
        await asyncio.gather(*requests)
        assert [message["status"] for message in sent if "status" in message] == [503] * 100

    asyncio.run(scenario())


# Pools


def test_the_applications_own_pool_is_used(kind: str, deployed: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    token = minter(deployed)(ACME)
    monkeypatch.delenv("DATABASE_URL")
    dsn = deployed.dsn("app")
    if kind not in ASGI:
        with (
            ConnectionPool(dsn, min_size=1, max_size=2, open=True) as pool,
            serving(APPS[kind](pool=pool), asgi=False) as client,
        ):
            assert client.get("/save?name=m", headers=bearer(token)).text == "1"
        return
    pool = AsyncConnectionPool(dsn, min_size=1, max_size=2, open=False)
    app = APPS[kind](pool=pool)

    async def with_pool(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await pool.open()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await pool.close()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await app(scope, receive, send)

    with serving(with_pool, asgi=True) as client:
        assert client.get("/save?name=m", headers=bearer(token)).text == "1"


def test_the_shared_pool_of_an_event_loop_closes_with_the_server(deployed: Database, mint: Mint) -> None:
    count = "select count(*) from pg_stat_activity where usename = 'app'"
    watcher = deployed.connect()
    with serving(starlette(), asgi=True) as client:
        client.get("/models", headers=bearer(mint(ACME))).raise_for_status()
        assert watcher.execute(count).fetchone() > (0,)
    until(lambda: watcher.execute(count).fetchone() == (0,), "closed connections")


# What is particular to one kind


def test_a_body_that_is_made_while_it_is_sent_sees_its_tenant(deployed: Database, mint: Mint) -> None:
    seen = []

    class Body:
        def __init__(self) -> None:
            self.left = 2

        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            if not self.left:
                raise StopIteration
            self.left -= 1
            seen.append(whoami())
            return b"x"

        def close(self) -> None:
            seen.append(whoami())

    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", [])
        return Body()

    bodies = [
        web.WSGITenantMiddleware(app)(
            {"PATH_INFO": "/", "REQUEST_METHOD": "GET", "HTTP_AUTHORIZATION": f"Bearer {mint(key)}"}, lambda *_: None
        )
        for key in (ACME, BETA)
    ]
    # Two answers made in turns by one thread.
    pieces = [iter(body) for body in bodies]
    for _ in range(2):
        for piece in pieces:
            next(piece)
            assert nobody() == "nobody"
    for body in bodies:
        body.close()
    assert seen == [ACME, BETA] * 3


def run_asgi(app: Any, scope: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def scenario() -> None:
        await web.TenantMiddleware(app)(scope, receive, send)
        assert nobody() == "nobody"
        await environment.close_shared_async_pool()

    asyncio.run(scenario())
    return sent


def test_a_web_socket_is_refused_before_it_is_accepted(deployed: Database, mint: Mint) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept", "text": whoami()})

    scope = {"type": "websocket", "path": "/", "headers": []}
    assert run_asgi(app, dict(scope)) == [{"type": "websocket.close", "code": 1008}]
    answered = run_asgi(app, {**scope, "extensions": {"websocket.http.response": {}}})
    assert [message["type"] for message in answered] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert answered[0]["status"] == 401
    headers = [(b"authorization", f"Bearer {mint(ACME)}".encode())]
    assert run_asgi(app, {**scope, "headers": headers}) == [{"type": "websocket.accept", "text": ACME}]


def test_an_error_after_the_answer_began_is_not_answered_again(deployed: Database, mint: Mint) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise NotAuthorized("too late")

    headers = [(b"authorization", f"Bearer {mint(ACME)}".encode())]
    with pytest.raises(NotAuthorized):
        run_asgi(app, {"type": "http", "path": "/", "headers": headers})


# What is told, and to whom


def test_no_token_is_logged_or_shown(
    client: httpx.Client,
    mint: Mint,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    deployed: Database,
) -> None:
    token = mint(ACME)
    forged = token[:-4] + "AAAA"
    # httpx and httpcore log what the client sends.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).propagate = False
    try:
        with caplog.at_level(logging.DEBUG):
            client.get("/models", headers=bearer(token))
            texts = [client.get("/save?name=m&expected=7", headers=bearer(token)).text]
            texts += [client.get("/models", headers=bearer(forged)).text]
            environment.close_shared_pool()
            monkeypatch.setenv("DATABASE_URL", unreachable(deployed))
            texts += [client.get("/models", headers=bearer(token)).text]
    finally:
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).propagate = True
    assert any("answered with 503" in record.getMessage() for record in caplog.records)
    for credential in (token, forged):
        for part in credential.split(".")[1:]:
            assert part not in caplog.text
            assert part not in "".join(texts)
    shown = repr(web.RequestTenant(ACME, token, None))
    assert ACME in shown
    assert token not in shown


def test_every_error_has_a_status_and_stands_in_the_table() -> None:
    mentioned = {
        name: int(status)
        for status, cell in re.findall(r"^\| (\d{3})[^|]*\| (.*) \|$", DOCS, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }
    assert mentioned == web.STATUS
    own = {*errors.__all__, *(cls.__name__ for cls in identity.IdentityError.__subclasses__())} - {"StorageError"}
    assert own | {"UniqueViolation", "OperationalError"} == set(web.STATUS)


def test_a_quota_is_told_with_what_to_do_about_it() -> None:
    answer = web.problem(errors.QuotaExceeded("this is beyond the quota", hint="Delete something."))
    assert (answer.status, json.loads(answer.body)["hint"]) == (507, "Delete something.")


def test_only_errors_of_ours_and_of_the_database_are_told() -> None:
    class VersionConflict(Exception):  # of somebody else, with the name of ours
        pass

    told = web.problem(VersionConflict("secret"))
    assert told.status == 500
    assert "secret" not in told.body
    assert web.problem(psycopg.errors.DeadlockDetected("secret")).status == 503
    assert "secret" not in web.problem(psycopg.errors.UniqueViolation("secret")).body
    assert web.problem(errors.AnotherTenant("secret")).status == 500
    assert "secret" not in web.problem(errors.AnotherTenant("secret", detail="secret", hint="secret")).body
    assert web.problem(ExternalSharingForbidden("no", hint="as an administrator")).status == 403


def test_the_middlewares_import_no_framework() -> None:
    import subprocess

    code = "import sys, pydb.web, pydb.code_hash; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"starlette", "fastapi", "flask", "django", "werkzeug", "jwt", "mcp"} & set(loaded) == set()
