"""Gives each web request the storage of whom it comes from. Needs no framework and imports none.

    app.add_middleware(TenantMiddleware)                    # Starlette, FastAPI
    app = TenantMiddleware(app)                             # any ASGI application
    app.wsgi_app = WSGITenantMiddleware(app.wsgi_app)       # Flask
    application = WSGITenantMiddleware(get_wsgi_application())  # Django

    storage = await AsyncTenantAwareStorage.from_request(request)
    storage = TenantAwareStorage.from_request(request)

A middleware takes the request's bearer token (Authorization: Bearer, RFC 6750), has the database verify it, and only
then calls the application. Only a signed token counts: an isolation key is a name that anybody can write.
Refusals, and the errors of pydb that leave the application, become application/problem+json (RFC 9457) with the status
that STATUS gives. docs/web.md has the table, and what to write for Flask and Django, which catch errors themselves.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hmac
import json
import logging
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from . import calls, environment
from .cells import AsyncCells, Cells
from .errors import MalformedCredential, NoTenant, StorageError
from .storage import AsyncTenantAwareStorage, TenantAwareStorage, remember
from .token import LEVEL

__all__ = [
    "GATEWAY_HEADER",
    "STATUS",
    "TENANT_HEADER",
    "Problem",
    "RequestTenant",
    "TenantMiddleware",
    "WSGITenantMiddleware",
    "credential_of",
    "problem",
    "request_tenant",
]

#: From a gateway alone: the isolation key it speaks for, and the secret that proves that it is the gateway.
TENANT_HEADER = "X-AI-Tenant"
GATEWAY_HEADER = "X-AI-Gateway-Secret"

#: Name of an error's class -> HTTP status. The first of its classes that stands here decides; all else is 500.
STATUS = {
    "NoTenant": 401,
    "MalformedCredential": 401,
    "TokenExpired": 401,
    "IdentityRefused": 401,
    "NotAuthorized": 403,
    "ExternalSharingForbidden": 403,
    "MoreThanHeld": 403,
    "PassedOnTooOften": 403,
    "ModelNotFound": 404,
    "VersionNotFound": 404,
    "EventNotFound": 404,
    "CertificateNotFound": 404,
    "ArtifactNotFound": 404,
    "UploadNotFound": 404,
    "VersionConflict": 409,
    "IdempotencyConflict": 409,
    "LegalHold": 409,
    "UploadOffset": 409,
    "ContentMismatch": 409,
    "TooManyGrants": 409,
    "UniqueViolation": 409,
    "ArtifactTooLarge": 413,
    "LivesElsewhere": 421,
    "InvalidArgument": 422,
    "InvalidTarget": 422,
    "AnotherTenant": 500,
    "LoginTooPowerful": 500,
    "InvalidProvider": 500,
    "KeysUnavailable": 503,
    "OperationalError": 503,
    "OrganisationMoving": 503,
    "QuotaExceeded": 507,
}

_ADMITTED = "pydb.tenant"  # in an ASGI scope or a WSGI environ, where no client's header gets to
# Without a colon, so that no isolation key is ever taken for a token.
_TOKEN = r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"
_BEARER = re.compile(rf"(?i:bearer) +({_TOKEN}) *")
_MAX_TOKEN = 16_384
_MIN_SECRET = 32

EXCHANGES = 8  # at a time, of a TenantMiddleware

_log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class RequestTenant:
    """Whom a request comes from, as the database verified it. credential and pool: what its storage is made of."""

    isolation_key: str
    credential: str = field(repr=False)
    pool: AsyncConnectionPool[Any] | ConnectionPool[Any] | AsyncCells | Cells = field(repr=False, compare=False)


class _Exempt:
    """Stands for a tenant where a middleware let a request through without one."""


_EXEMPT = _Exempt()
_current: contextvars.ContextVar[RequestTenant | _Exempt | None] = contextvars.ContextVar("pydb.web", default=None)


def request_tenant() -> RequestTenant:
    """Whom the request comes from that this task or thread serves, admitted by a middleware.

    Tasks and threads see it that the request began, where they copy the context, as asyncio and asyncio.to_thread do.
    Raises: NoTenant (TN001) outside of a request, and on an exempt path.
    """
    tenant = _current.get()
    if not isinstance(tenant, RequestTenant):
        raise NoTenant("no request of a tenant is being served", hint="Put a middleware of pydb.web before this code.")
    return tenant


# What goes back


class Problem(NamedTuple):
    """A problem document (RFC 9457). Flask takes it as a response, as it stands."""

    body: str
    status: int
    headers: dict[str, str]


def problem(error: Exception) -> Problem:
    """What to tell a web client about an error.

    Errors of pydb that are the client's are told in their own words, which hold the caller's own values at most; with
    a member `code`, the SQLSTATE. Of all others only the status is told.
    """
    status = 500
    if isinstance(error, (StorageError, psycopg.Error)):
        status = next((STATUS[cls.__name__] for cls in type(error).__mro__ if cls.__name__ in STATUS), 500)
    members: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    if status not in (500, 503) and isinstance(error, StorageError):
        members["detail"] = " ".join(part for part in (f"{error.args[0]}.", error.detail) if part)
        if error.hint and status not in (401, 403):  # of these two, the hint is for whoever runs the database
            members["hint"] = error.hint
    if status != 500 and isinstance(error, (StorageError, psycopg.Error)) and error.sqlstate:
        members["code"] = error.sqlstate
    if status == 401:
        # Whoever sent no token is told nothing but that one is needed (RFC 6750, section 3.1).
        headers["WWW-Authenticate"] = "Bearer" if isinstance(error, NoTenant) else 'Bearer error="invalid_token"'
    if status == 503:
        headers["Retry-After"] = "1"
    return Problem(json.dumps(members), status, headers)


# Reading a request


def _values(request: Any, name: str) -> list[str]:
    """Every value of a header, whatever kind of request this is."""
    carrier = _carrier(request)
    if carrier is None:
        return [value for key, value in request.headers.items() if key.lower() == name.lower()]
    if "headers" in carrier:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in carrier["headers"] if key.lower() == wanted]
    found = carrier.get("HTTP_" + name.upper().replace("-", "_"))
    return [] if found is None else [found]


def _carrier(request: Any) -> Mapping[str, Any] | None:
    """The ASGI scope or WSGI environ of a request, or the request itself when it is one."""
    for name in (None, "scope", "environ", "META", "env"):
        carrier = request if name is None else getattr(request, name, None)
        if isinstance(carrier, Mapping) and ("headers" in carrier or "REQUEST_METHOD" in carrier):
            return carrier
    return None


def _bearer(request: Any) -> str:
    values = _values(request, "Authorization")
    if not values or (len(values) == 1 and values[0].partition(" ")[0].lower() != "bearer"):
        raise NoTenant("a bearer token is needed", hint="Send the header Authorization: Bearer TOKEN.")
    token = _BEARER.fullmatch(values[0]) if len(values) == 1 and len(values[0]) <= _MAX_TOKEN else None
    if token is None:
        raise _malformed()
    return token[1]


def _malformed() -> MalformedCredential:
    return MalformedCredential(
        "the credential is malformed", hint="Send one signed token, in the header Authorization."
    )


def credential_of(
    request: Any,
) -> tuple[str, AsyncConnectionPool[Any] | ConnectionPool[Any] | AsyncCells | Cells | None]:
    """The credential of a request, and the pool of the middleware that admitted it.

    Without a middleware, the bearer token, which nobody has verified yet, and None. On a path that a middleware exempts
    there is no tenant, whatever token the request carries.
    Raises: NoTenant (TN001), MalformedCredential (TN002).
    """
    tenant = (_carrier(request) or {}).get(_ADMITTED)
    if isinstance(tenant, RequestTenant):
        return tenant.credential, tenant.pool
    if isinstance(tenant, _Exempt):
        raise NoTenant("this path has no tenant", hint="Take it out of exempt, or use no storage here.")
    if _current.get() is not None:
        # A token in it is not the one that the middleware verified, or exchanged.
        raise NoTenant(
            "this is not the request that the middleware admitted",
            hint="Pass the framework's request, its ASGI scope or its WSGI environ.",
        )
    return _bearer(request), None


class _Middleware:
    """What the two middlewares have in common."""

    def __init__(
        self,
        app: Any,
        *,
        pool: Any = None,
        exempt: Iterable[str] = (),
        exchange: Callable[[str], str] | None = None,
        gateway_secret: str | None = None,
    ) -> None:
        """Put it before an application.

        pool: of the application's, or its Cells, on which tokens are verified and from_request works; of its kind
            (asynchronous for ASGI), opened by the application, best with autocommit. None: one of the process, on
            DATABASE_URL or AI_STORAGE_CELLS.
        exempt: paths that need no tenant, each in full, such as /healthz. All others do.
        exchange: makes a credential of the bearer token, such as IdentityProvider.exchange of pydb.identity with its
            options filled in. The database's own tokens are then no longer taken directly. It may block.
        gateway_secret: DANGEROUS, see docs/web.md. With it the header X-AI-Tenant names the tenant, without any token,
            in requests that carry this secret in X-AI-Gateway-Secret. Only for a gateway that authenticates its
            clients and takes both headers out of what they send, also when written with underscores. 32 characters or
            more, printable.
        Raises: ValueError for a secret that is too short.
        """
        if gateway_secret is not None and re.fullmatch(f"[!-~]{{{_MIN_SECRET},}}", gateway_secret) is None:
            raise ValueError(f"gateway_secret has to have {_MIN_SECRET} printable characters or more, and no space.")
        if pool is not None:
            remember(pool)  # before a server forks its workers
        self._app = app
        self._pool = pool
        self._exempt = frozenset(exempt)
        self._exchange = exchange
        self._secret = None if gateway_secret is None else gateway_secret.encode()
        self._threads = ThreadPoolExecutor(EXCHANGES, "pydb-exchange")  # it starts them when they are needed

    @staticmethod
    def _answer(error: Exception) -> Problem | None:
        """What to tell the client, or None for what the server has to see as an error."""
        answer = problem(error)
        if answer.status == 503:
            _log.warning("a request was answered with 503: %s: %s", type(error).__name__, error)
        return None if answer.status == 500 else answer

    def _from_gateway(self, request: Any) -> str | None:
        """The tenant that a gateway names, or None: then headers of this kind count for nothing."""
        secrets = _values(request, GATEWAY_HEADER)
        if self._secret is None or len(secrets) != 1:
            return None
        if not hmac.compare_digest(secrets[0].encode("latin-1", "replace"), self._secret):
            return None
        tenants = _values(request, TENANT_HEADER)
        if not tenants:
            return None
        # With a token as well, one of the two comes from somebody whom the gateway did not mean to let through.
        levels = tenants[0].split(":")
        if (
            len(tenants) != 1
            or _values(request, "Authorization")
            or len(levels) != 5
            or not all(LEVEL.fullmatch(level) for level in levels)
        ):
            raise _malformed()
        return tenants[0]


class TenantMiddleware(_Middleware):
    """The middleware for ASGI: Starlette, FastAPI, and any other. Web sockets too: the refused are not accepted."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, _closing(send))
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            tenant = _EXEMPT if scope["path"] in self._exempt else await self._admit(scope)
            scope[_ADMITTED] = tenant
            before = _current.set(tenant)
            try:
                await self._app(scope, receive, watched)
            finally:
                _current.reset(before)
        except (StorageError, psycopg.Error) as error:
            answer = None if started else self._answer(error)
            if answer is None:
                raise
            await _send(answer, scope, send)

    async def _admit(self, scope: Scope) -> RequestTenant:
        credential = self._from_gateway(scope)
        if credential is None:
            credential = _bearer(scope)
            if self._exchange is not None:
                # In threads of its own: one that waits for a provider keeps no other work from the event loop's.
                exchange = functools.partial(contextvars.copy_context().run, self._exchange, credential)
                credential = await asyncio.get_running_loop().run_in_executor(self._threads, exchange)
        pool = self._pool or await environment.shared_async_source()
        # Cells route by the credential, so the storage needs it too.
        key = await AsyncTenantAwareStorage(pool, credential).run(calls.set_tenant(credential))
        return RequestTenant(key, credential, pool)


def _closing(send: Send) -> Send:
    """Close the pool of the event loop when the application has shut down."""

    async def closing(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            await environment.close_shared_async_pool()
        await send(message)

    return closing


async def _send(answer: Problem, scope: Scope, send: Send) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})  # the server answers 403
            return
        kind = "websocket.http.response"
    body = answer.body.encode()
    headers = {**answer.headers, "Content-Length": str(len(body))}
    await send(
        {
            "type": f"{kind}.start",
            "status": answer.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": f"{kind}.body", "body": body})


class WSGITenantMiddleware(_Middleware):
    """The middleware for WSGI: Flask, Django, and any other."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        # What the application sets lives in a context of the request's own, also while its answer is sent.
        context = contextvars.copy_context()
        try:
            tenant = _EXEMPT if environ.get("PATH_INFO", "") in self._exempt else self._admit(environ)
            environ[_ADMITTED] = tenant
            context.run(_current.set, tenant)
            return _Body(context, context.run(self._app, environ, start_response))
        except (StorageError, psycopg.Error) as error:
            answer = self._answer(error)
            if answer is None:
                raise
            body = answer.body.encode()
            headers = [*answer.headers.items(), ("Content-Length", str(len(body)))]
            # Raises the error again if the application's answer was begun already.
            start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers, sys.exc_info())
            return [body]

    def _admit(self, environ: dict[str, Any]) -> RequestTenant:
        credential = self._from_gateway(environ)
        if credential is None:
            credential = _bearer(environ)
            if self._exchange is not None:
                credential = self._exchange(credential)
        pool = self._pool or environment.shared_source()
        # Cells route by the credential, so the storage needs it too.
        key = TenantAwareStorage(pool, credential).run(calls.set_tenant(credential))
        return RequestTenant(key, credential, pool)


class _Body:
    """An application's answer, of which each piece is made in the request's context."""

    def __init__(self, context: contextvars.Context, body: Iterable[bytes]) -> None:
        self._context = context
        self._body = body
        self._pieces = context.run(iter, body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(next, self._pieces)

    def close(self) -> None:
        if hasattr(self._body, "close"):
            self._context.run(self._body.close)
