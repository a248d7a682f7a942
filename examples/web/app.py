"""The application: each request acts for the tenant of its bearer token, and nothing here names a tenant."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID
from weakref import WeakSet

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException
from starlette.routing import Match

from examples.web import metrics
from examples.web.training import LinearModel
from pydb import AsyncTenantAwareStorage, Permission, Scope, __version__, aio, calls, environment
from pydb.calls import OCTETS
from pydb.cells import AsyncCells, read_dsns
from pydb.web import ASGIApp, Message, Receive, Send, TenantMiddleware
from pydb.web import Scope as ASGIScope

PUBLIC = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")
LARGEST = 8 * 2**20  # bytes of an artifact

Number = Annotated[float, Field(strict=True, ge=-1e6, le=1e6, allow_inf_nan=False)]
Level = Annotated[str, Field(pattern=r"^([A-Za-z0-9._+@~=/-]{1,63}|\*)$")]
Limit = Annotated[int, Query(ge=1, le=1000)]


# What comes in, and what goes out


class Problem(BaseModel):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str | None = None
    hint: str | None = None
    code: str | None = Field(default=None, description="SQLSTATE; docs/errors.md lists them")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Sample(Strict):
    x: list[Number] = Field(min_length=1, max_length=8)
    y: Number


class Training(Strict):
    model_name: str = Field(min_length=1, max_length=255)
    samples: list[Sample] = Field(min_length=1, max_length=1000, description="all with equally many x")
    epochs: int = Field(default=10, strict=True, ge=1, le=50)

    @model_validator(mode="after")
    def equally_long(self) -> Self:
        if len({len(sample.x) for sample in self.samples}) != 1:
            raise ValueError("all samples need equally many x")
        return self


class Trained(BaseModel):
    model_name: str
    version: int
    mse: float
    weights: list[float]
    bias: float


class Model(BaseModel):
    model_name: str
    owner_key: str
    is_shared: bool
    permissions: list[str]
    version: int
    mse: float | None
    training_samples: int | None
    updated_at: datetime


class Models(BaseModel):
    models: list[Model]
    next: str | None = Field(description="pass it as `after` for the next page")


class Target(Strict):
    """Whom to share with. A level left out is the sharer's own, * is any."""

    org_id: Level | None = None
    server_id: Level | None = None
    project_id: Level | None = None
    environment: Level | None = None
    code_hash: Level | None = None


class Sharing(Strict):
    targets: list[Target] = Field(min_length=1, max_length=100)
    permissions: list[Permission] = Field(default=["read"], min_length=1, max_length=4)
    expires_at: AwareDatetime | None = None


class Shared(BaseModel):
    share_id: UUID
    target: str


class Kept(BaseModel):
    sha256: str
    size_bytes: int


class Event(BaseModel):
    event_id: UUID
    recorded_at: datetime
    action: str
    version: int | None
    credential: str
    detail: dict[str, Any] | None
    sealed: bool


class Audit(BaseModel):
    tenant_key: str
    own_models: int
    shared_models: int
    total_accessible: int
    compliance_status: str
    events: list[Event]
    next: str | None = Field(description="pass it as `after` for the next page")


class Health(BaseModel):
    status: str


# The operations


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": "Refused", "content": content} for status in statuses}


async def _storage(request: Request) -> AsyncTenantAwareStorage:
    return await AsyncTenantAwareStorage.from_request(request)


Storage = Annotated[AsyncTenantAwareStorage, Depends(_storage)]

# HTTPBearer is for the documentation alone: the middleware has admitted the request already.
ai = APIRouter(
    prefix="/api/ai",
    dependencies=[Security(HTTPBearer(auto_error=False))],
    responses=_problems(400, 401, 403, 422, 503),
)


@ai.post("/train", responses=_problems(409))
async def train(training: Training, storage: Storage) -> Trained:
    """Train a linear model on samples and save it after each epoch. It goes on from what was saved before."""
    xs, ys = [sample.x for sample in training.samples], [sample.y for sample in training.samples]
    found = await storage.load_ai_progress(training.model_name, scope="own")
    version, model = 0, LinearModel([0.0] * len(xs[0]))
    if found:
        version, metadata = found[0].version, found[0].metadata
        if len(metadata.get("weights", [])) == len(model.weights):
            model = LinearModel(metadata["weights"], metadata["bias"])
    mse = 0.0
    for _ in range(training.epochs):
        mse = await asyncio.to_thread(model.train_epoch, xs, ys)
        saved = await storage.save_ai_progress(
            training.model_name,
            mse,
            training_samples=len(xs),
            metadata={"weights": model.weights, "bias": model.bias},
            # The file of exactly this version, in the same commit.
            artifacts={"model.json": json.dumps({"weights": model.weights, "bias": model.bias}).encode()},
            expected_version=version,  # somebody else who trains it at the same time gets 409
        )
        version = saved.version
    return Trained(model_name=training.model_name, version=version, mse=mse, weights=model.weights, bias=model.bias)


@ai.get("/models")
async def models(
    storage: Storage, scope: Scope = "all", after: Annotated[str | None, Query()] = None, limit: Limit = 100
) -> Models:
    """The tenant's models, and those shared with it."""
    rows = await storage.load_ai_progress(scope=scope, after=after, limit=limit)
    return Models(
        models=[Model.model_validate(row, from_attributes=True) for row in rows],
        next=rows[-1].cursor if len(rows) == limit else None,
    )


@ai.post("/models/{name:path}/share", status_code=201, responses=_problems(404))
async def share(name: str, sharing: Sharing, storage: Storage) -> list[Shared]:
    """Let other tenants reach one model."""
    shares = await storage.share_model(
        name,
        [target.model_dump(exclude_none=True) for target in sharing.targets],
        sharing.permissions,
        expires_at=sharing.expires_at,
    )
    return [Shared(share_id=share.share_id, target=share.target) for share in shares]


@ai.put(
    "/models/{name:path}/artifacts/{artifact}",
    responses=_problems(404, 413),
    openapi_extra={"requestBody": {"content": {OCTETS: {}}}},
)
async def keep(name: str, artifact: str, request: Request, storage: Storage) -> Kept:
    """Keep up to 8 MiB as an artifact of the current version of the tenant's model."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST:
            raise HTTPException(413, "the artifact is larger than 8 MiB")
    put = await storage.put_artifact(name, artifact, content)
    return Kept(sha256=put.sha256, size_bytes=put.size_bytes)


@ai.get(
    "/models/{name:path}/artifacts/{artifact}",
    response_class=Response,
    responses={200: {"content": {OCTETS: {}}}, **_problems(404)},
)
async def fetch(name: str, artifact: str, storage: Storage, owner: Annotated[str | None, Query()] = None) -> Response:
    """An artifact's bytes, by way of Redis where AI_STORAGE_TYPE is hybrid. owner: whose it is, where it is shared."""
    return Response(await storage.get_artifact(name, artifact, owner=owner), media_type=OCTETS)


@ai.get("/audit")
async def audit(storage: Storage, after: Annotated[str | None, Query()] = None, limit: Limit = 100) -> Audit:
    """How the tenant stands, and its log."""
    stats = await storage.get_tenant_stats()
    events = await storage.audit_trail(after=after, limit=limit)
    return Audit(
        tenant_key=stats.isolation_key,
        own_models=stats.own_models,
        shared_models=stats.shared_models,
        total_accessible=stats.total_models,
        compliance_status=stats.compliance_status,
        events=[Event.model_validate(event, from_attributes=True) for event in events],
        next=events[-1].cursor if len(events) == limit else None,
    )


# The application


class Draining:
    """Once the process is told to end, closes connections with their answers: the next request then goes elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["app"].state.draining:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self.app(scope, receive, closing)


def _release(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _refusal(status: int, detail: str, headers: Any = None) -> Response:
    told = Problem(type="about:blank", title="Refused", status=status, detail=detail)
    body = told.model_dump_json(exclude_none=True)
    return Response(body, status, headers, media_type="application/problem+json")


def create_app(database_url: str | None = None, metrics_url: str | None = None, *, connections: int = 10) -> FastAPI:
    """Build it.

    database_url: None for the cells of AI_STORAGE_CELLS, or else DATABASE_URL. metrics_url: as an auditor's login, for
    the metrics of the whole database; None for METRICS_DATABASE_URL, and without it there are none. connections: to
    the database, or each cell, at most, for requests.
    """
    metrics_url = metrics_url or os.environ.get("METRICS_DATABASE_URL")
    operators = metrics.Operators(metrics_url) if metrics_url else None
    made: WeakSet[AsyncConnection[Any]] = WeakSet()

    async def note(connection: AsyncConnection[Any]) -> None:
        made.add(connection)

    file = None if database_url else environment.cells_file()
    source: AsyncCells | AsyncConnectionPool[Any]
    if file:
        source = AsyncCells(read_dsns(file), max_size=connections)
    else:
        source = AsyncConnectionPool(
            database_url or environment.dsn(),
            min_size=1,
            max_size=connections,
            timeout=15,  # s; longer than a migration holds the tables, and a client of a database that is down is told
            kwargs={"autocommit": True},
            configure=note,
            open=False,
        )
    pool = None if isinstance(source, AsyncCells) else source

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with source:
            yield

    app = FastAPI(title="Tenant-aware training", version=__version__, lifespan=lifespan, redoc_url=None)
    app.state.draining = False
    app.include_router(ai)

    @app.get("/healthz")
    async def healthz() -> Health:
        """Whether the process answers."""
        return Health(status="ok")

    @app.get("/readyz", responses=_problems(503))
    async def readyz() -> Health:
        """Whether to send requests here: the database answers, this release runs on it, and the end is not near."""
        if app.state.draining:
            raise HTTPException(503, "shutting down")
        if pool is None:
            # One cell that is down must not take away the others' organisations.
            return Health(status="ok")
        try:
            async with pool.connection(timeout=2) as connection:
                found = await aio.run(connection, calls.version())
        except PoolTimeout:
            # None is free. If there are any all the same, requests have them: they wait for a migration, say, as they
            # would at every other process. Those of a database that is away are closed.
            if all(connection.closed for connection in made):
                raise
            return Health(status="busy")
        # A newer database serves older processes, and is what a migration leaves them with. The reverse does not hold.
        if _release(found) < _release(__version__):
            raise HTTPException(503, f"the database is at release {found}, and needs: pydb migrate")
        return Health(status="ok")

    registry = CollectorRegistry()
    registry.register(metrics.Resources(pool))

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def for_prometheus() -> Response:
        """For Prometheus."""
        return Response(await metrics.text(registry, operators), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # Without the input itself, which the default answer repeats, and which may be no JSON, such as NaN.
        return _refusal(422, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        headers = error.headers
        if error.status_code == 405:  # the framework names the methods of the first operation of the path alone
            matching = [route for route in ai.routes if route.matches(request.scope)[0] is not Match.NONE]
            methods = {method for route in matching for method in getattr(route, "methods", ())}
            headers = {"Allow": ", ".join(sorted(methods))} if methods else headers
        return _refusal(error.status_code, error.detail, headers)

    app.add_middleware(TenantMiddleware, pool=source, exempt=PUBLIC)
    app.add_middleware(Draining)
    app.add_middleware(metrics.Requests, registry=registry)  # added last, so it is the outermost
    return app
