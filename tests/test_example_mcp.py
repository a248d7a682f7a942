"""The MCP server example, driven by the official SDK's client: by its environment, and over HTTP by bearer tokens."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from examples.mcp_server.__main__ import build
from pydb import environment
from pydb.web import TenantMiddleware
from tests.conftest import Database
from tests.helpers import call
from tests.webserver import Mint, bearer, example, minter, serving

ROOT = Path(__file__).parent.parent
ACME = "acme:mcp-1:shop:production:abc123"
OTHER = ACME.replace("mcp-1", "mcp-2")
BETA = ACME.replace("acme", "beta")


@pytest.fixture
def mint(database: Database) -> Mint:
    return minter(database)


def within(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


async def use(client: Client, tool: str, **arguments: Any) -> Any:
    """The structured result of a tool, or the text of its error."""
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        return result.content[0].text
    return result.structured_content["result"]


@asynccontextmanager
async def over_http(url: str, credential: str, **options: Any) -> Any:
    async with (
        httpx2.AsyncClient(headers=bearer(credential), timeout=30) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), **options) as client,
    ):
        yield client, http


async def names(client: Client) -> list[str]:
    return [row["model_name"] for row in await use(client, "load_progress")]


def started_by_its_client(database: Database, **changed: str) -> StdioServerParameters:
    """The server as examples/mcp_server/README.md describes it, with other values of some variables."""
    readme = (ROOT / "examples" / "mcp_server" / "README.md").read_text()
    described = json.loads(re.search(r"```json\n(.*?)```", readme, re.DOTALL)[1])["mcpServers"]["ai-storage"]
    environment = {**described["env"], "DATABASE_URL": database.dsn("acme_app"), **changed}
    return StdioServerParameters(command=sys.executable, args=described["args"], env=environment, cwd=ROOT)


def test_a_client_that_starts_the_server_saves_loads_and_shares(database: Database) -> None:
    async def scenario() -> None:
        async with Client(started_by_its_client(database)) as mine:
            tools = {tool.name for tool in (await mine.list_tools()).tools}
            assert tools == {"save_progress", "load_progress", "share_model"}
            for mse in (0.5, 0.25):
                saved = await use(
                    mine, "save_progress", model_name="m", mse=mse, metrics={"r2": 0.9}, metadata={"a": 1}
                )
            assert saved == 2
            (row,) = await use(mine, "load_progress", model_name="m")
            assert (row["owner_key"], row["mse"], row["metrics"], row["metadata"]) == (
                ACME,
                0.25,
                {"r2": 0.9},
                {"a": 1},
            )
            async with Client(started_by_its_client(database, AI_STORAGE_SERVER_ID="mcp-2")) as other:
                assert await names(other) == []
                (share,) = await use(mine, "share_model", model_name="m", targets=[{"server_id": "mcp-2"}])
                assert share["target"] == OTHER
                assert await names(other) == ["m"]

    within(scenario())


def test_started_by_its_client_it_may_take_a_token_instead(database: Database, mint: Mint, tmp_path: Path) -> None:
    with database.connect() as admin:
        call(admin, "deauthorize_login", login="acme_app")
        call(admin, "authorize_login", login="acme_app", pattern="acme:*:*:*:*", token_only=True)
    (tmp_path / "token").write_text(mint(ACME) + "\n")

    async def scenario() -> None:
        by_token = started_by_its_client(database, AI_STORAGE_TOKEN_FILE=str(tmp_path / "token"))
        async with Client(by_token) as mine:
            assert await use(mine, "save_progress", model_name="m", mse=0.5) == 1
            assert await names(mine) == ["m"]
        async with Client(started_by_its_client(database)) as by_key:
            assert "token" in await use(by_key, "load_progress")

    within(scenario())


def test_a_refusal_is_told_to_the_model(database: Database) -> None:
    async def scenario() -> None:
        async with Client(started_by_its_client(database)) as mine:
            told = await use(mine, "save_progress", model_name="m")
            assert "mse" in told
            assert "no such model" in await use(mine, "share_model", model_name="x", targets=[{"server_id": "mcp-2"}])
        # The login is not authorised for this organisation.
        async with Client(started_by_its_client(database, AI_STORAGE_ORG_ID="beta")) as stranger:
            assert "not authorised" in await use(stranger, "load_progress")

    within(scenario())


@pytest.fixture
def url(database: Database) -> Iterator[str]:
    with example("mcp_server", database.dsn("app")) as (url, _):
        yield url


def test_over_http_each_client_acts_for_the_tenant_of_its_token(url: str, database: Database, mint: Mint) -> None:
    async def scenario() -> None:
        async def client_of(tenant: str) -> None:
            async with over_http(url, mint(tenant)) as (client, _):
                for number in range(5):
                    await use(client, "save_progress", model_name=f"{tenant.split(':')[0]}-{number}", mse=0.5)
                    assert await names(client) == [f"{tenant.split(':')[0]}-{n}" for n in range(number + 1)]

        await asyncio.gather(*(client_of(tenant) for tenant in (ACME, BETA)))

    within(scenario())
    assert len(database.storage(ACME).load_ai_progress()) == 5


def test_over_http_nobody_gets_in_without_a_token(url: str, mint: Mint) -> None:
    for headers, code in (({}, "TN001"), (bearer(ACME), "TN002"), ({"X-AI-Tenant": ACME}, "TN001")):
        response = httpx.post(f"{url}/mcp", headers=headers, json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
        assert (response.status_code, response.json()["code"]) == (401, code)


def test_a_session_that_another_tenant_takes_over_acts_for_that_tenant(
    database: Database, mint: Mint, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The SDK does not ask who a session belongs to: the tenant has to come with each call.
    monkeypatch.setenv("DATABASE_URL", database.dsn("app"))
    app = TenantMiddleware(build().streamable_http_app())

    async def scenario(address: str) -> None:
        async with over_http(address, mint(ACME), mode="legacy") as (client, http):
            await use(client, "save_progress", model_name="of-acme", mse=0.5)
            http.headers.update(bearer(mint(BETA)))
            assert await names(client) == []
            await use(client, "save_progress", model_name="of-beta", mse=0.5)
            http.headers.update(bearer(mint(ACME)))
            assert await names(client) == ["of-acme"]

    with serving(app) as http:
        within(scenario(str(http.base_url).rstrip("/")))
    environment.close_shared_pool()
