"""An MCP server on the official SDK: its tools save, load and share the progress of models.

python -m examples.mcp_server               # standard input and output; the environment names the tenant
python -m examples.mcp_server --port 8001   # streamable HTTP; each request's bearer token names the tenant
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from pydb import AsyncTenantAwareStorage, Permission, Progress, Share, StorageError
from pydb.web import ASGIApp, TenantMiddleware


def build(local: AsyncTenantAwareStorage | None = None) -> MCPServer[Any]:
    """The server. local: the storage of whoever started it; without one, each request brings its tenant."""
    server: MCPServer[Any] = MCPServer("tenant-ai-storage", instructions="Keeps the progress of your AI models.")

    @asynccontextmanager
    async def storage(context: Context[Any, Any]) -> AsyncIterator[AsyncTenantAwareStorage]:
        try:
            # Of the HTTP request that carries this call. Not kept for the session: others may use it too.
            yield local or await AsyncTenantAwareStorage.from_request(context.request_context.request)
        except StorageError as error:
            raise ToolError(str(error)) from error  # in the words of the database, which hold the caller's own values
        except psycopg.OperationalError as error:
            raise ToolError("The database cannot be reached. Try again later.") from error

    @server.tool()
    async def save_progress(
        ctx: Context[Any, Any],
        model_name: str,
        mse: float | None = None,
        training_samples: int | None = None,
        metrics: dict[str, float] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> int:
        """Save what a model has learned, and tell its new version."""
        async with storage(ctx) as mine:
            saved = await mine.save_ai_progress(
                model_name,
                mse,
                training_samples=training_samples,
                metrics=metrics,
                metadata=metadata,
            )
            return saved.version

    @server.tool()
    async def load_progress(ctx: Context[Any, Any], model_name: str | None = None) -> list[Progress]:
        """Load one model or all, own ones and those shared with you."""
        async with storage(ctx) as mine:
            return await mine.load_ai_progress(model_name)

    @server.tool()
    async def share_model(
        ctx: Context[Any, Any],
        model_name: str,
        targets: list[dict[str, str]],
        permissions: list[Permission] | None = None,
    ) -> list[Share]:
        """Share a model. A target names server_id and others of the five levels; those left out are your own."""
        async with storage(ctx) as mine:
            return await mine.share_model(model_name, targets, permissions or ["read"])

    return server


def http_app(**options: Any) -> ASGIApp:
    """The server for streamable HTTP. options: of TenantMiddleware."""
    return TenantMiddleware(build().streamable_http_app(stateless_http=True), **options)


async def serve_stdio() -> None:
    async with await AsyncTenantAwareStorage.from_env() as storage:
        await build(storage).run_stdio_async()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.mcp_server", description="Serve the tools by MCP.")
    parser.add_argument("--port", type=int, help="serve streamable HTTP on this port of 127.0.0.1, at /mcp")
    args = parser.parse_args()
    if args.port is None:
        asyncio.run(serve_stdio())
    else:
        uvicorn.run(http_app(), host="127.0.0.1", port=args.port)


if __name__ == "__main__":
    main()
