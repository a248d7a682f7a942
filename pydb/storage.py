"""The storage of one tenant: a connection, a credential, and the calls as methods."""

from __future__ import annotations

import inspect
import os
import select
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial, update_wrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, Protocol, Self, TypeVar, overload
from weakref import WeakKeyDictionary

import psycopg

from . import aio, calls, session
from .calls import OCTETS, Call, Opened, Put, Saved
from .dsn import parse
from .errors import LoginTooPowerful

# Whoever neither opens a pool nor moves an artifact does not wait for their modules.
if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from .artifact import ContentCache, Fetch, Keep, Progress, Source, Step, Target

    class _SyncCache(ContentCache, Protocol):
        """A cache for TenantAwareStorage."""

        def run(self, request: Fetch | Keep) -> Any:
            """Do what is asked, or less; raises nothing."""

        def close(self) -> None:
            """Close what it opened."""

    class _AsyncCache(ContentCache, Protocol):
        """A cache for AsyncTenantAwareStorage."""

        async def run(self, request: Fetch | Keep) -> Any:
            """Do what is asked, or less; raises nothing."""

        async def close(self) -> None:
            """Close what it opened."""


__all__ = [
    "LOGIN_POWERS",
    "AsyncTenantAwareStorage",
    "Credential",
    "TenantAwareStorage",
    "open_async_pool",
    "open_pool",
    "refuse_powerful",
    "remember",
]

T = TypeVar("T")
P = ParamSpec("P")


class _Router(ABC):
    """Source of a TenantAwareStorage that chooses a server for each call: pydb.cells."""

    @abstractmethod
    def run(self, call: Call[T], credential: str | None) -> T:
        """Run one call where the credential's organisation lives."""

    @abstractmethod
    def close(self) -> None:
        """Close what it opened."""


class _AsyncRouter(ABC):
    """Source of an AsyncTenantAwareStorage that chooses a server for each call: pydb.cells."""

    @abstractmethod
    async def run(self, call: Call[T], credential: str | None) -> T:
        """Run one call where the credential's organisation lives."""

    @abstractmethod
    async def close(self) -> None:
        """Close what it opened."""


#: An isolation key, or a function that returns a credential when one is needed. None: the caller's transaction
#: has a tenant already, set by set_tenant.
Credential = str | Callable[[], str] | None


#: (login, what powerful role it is or may become) of a connection's login, a row for each. A superuser is all of them.
#: Each operator is PostgreSQL's own: on the path that a database's owner chose, a strong login could run code of his.
LOGIN_POWERS: Call[list[tuple[str, str]]] = Call(
    "select session_user, case when r.rolname operator(pg_catalog.=) session_user then '' "
    "else pg_catalog.format('may become %%s, which ', r.rolname) end operator(pg_catalog.||) case "
    "when r.rolsuper then 'is superuser' when r.rolbypassrls then 'has BYPASSRLS' "
    "when r.rolcreaterole then 'has CREATEROLE' when r.rolreplication then 'has REPLICATION' "
    "else 'owns tables or functions' end "
    "from pg_catalog.pg_roles as r "
    "where pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER') and ("
    "r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolreplication "
    "or r.rolname operator(pg_catalog.=) any (array['ai_storage_owner', 'ai_storage_sharing', 'ai_storage_operator']) "
    "or exists (select from pg_catalog.pg_class as c "
    "join pg_catalog.pg_namespace as n on n.oid operator(pg_catalog.=) c.relnamespace "
    "where n.nspname operator(pg_catalog.=) any (array['ai_storage', 'ai_storage_private']) "
    "and c.relowner operator(pg_catalog.=) r.oid)) "
    "order by r.rolname operator(pg_catalog.<>) session_user, r.rolname",
    (),
    lambda rows: [(row[0], row[1]) for row in rows],
    tenant=False,
)


def refuse_powerful(powers: list[tuple[str, str]], trusted_login: str | None) -> None:
    """Refuse an application login that row level security does not bind, or that may become one.

    powers: the answer to LOGIN_POWERS. trusted_login: the login that is accepted in spite of it.
    Raises: LoginTooPowerful.
    """
    if not powers or powers[0][0] == trusted_login:
        return
    raise LoginTooPowerful(
        "this login is too powerful to serve tenants",
        detail=f"Login {powers[0][0]} {powers[0][1]}.",
        hint="Connect as a plain login that was authorised by authorize_login, or name this one as the trusted login.",
    )


@cache  # for both storages
def _signature(build: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(build)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    # Without the return annotation, which names the Call and not what it returns.
    return signature.replace(
        parameters=[this, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )


def _describe(method: Callable[..., Any], build: Callable[..., Any]) -> None:
    """Give a method the name, docstring and signature of the call it runs."""
    update_wrapper(method, build)
    setattr(method, "__signature__", _signature(build))  # noqa: B010  # known to inspect, not to typeshed


def _method(build: Callable[P, Call[T]]) -> Callable[Concatenate[TenantAwareStorage, P], T]:
    def method(self: TenantAwareStorage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(build(*args, **kwargs))

    _describe(method, build)
    return method


def _async_method(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncTenantAwareStorage, P], Awaitable[T]]:
    async def method(self: AsyncTenantAwareStorage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(build(*args, **kwargs))

    _describe(method, build)
    return method


def _present(credential: Credential) -> str | None:
    return credential() if callable(credential) else credential


def _options(connect: dict[str, Any]) -> dict[str, Any]:
    # Nothing is prepared by name: who borrows a connection of the pool could replace it by a statement of his own.
    return {"autocommit": True, "client_encoding": "UTF8", "prepare_threshold": None, **connect}


def open_pool(dsn: str, *, max_size: int = 4, trusted_login: str | None = None, **connect: Any) -> ConnectionPool[Any]:
    """The pool of from_dsn, which says what the parameters are and what is raised."""
    from psycopg_pool import ConnectionPool

    dsn, options = parse(dsn), _options(connect)
    # A pool goes on trying in the background and only says that it timed out; a connection says why.
    with psycopg.connect(dsn, **options) as connection:
        refuse_powerful(session.run(connection, LOGIN_POWERS), trusted_login)
    pool: ConnectionPool[Any] = ConnectionPool(dsn, min_size=1, max_size=max_size, kwargs=options, open=True)
    remember(pool)
    return pool


async def open_async_pool(
    dsn: str, *, max_size: int = 4, trusted_login: str | None = None, **connect: Any
) -> AsyncConnectionPool[Any]:
    """The twin of open_pool."""
    from psycopg_pool import AsyncConnectionPool

    dsn, options = parse(dsn), _options(connect)
    async with await psycopg.AsyncConnection.connect(dsn, **options) as connection:
        refuse_powerful(await aio.run(connection, LOGIN_POWERS), trusted_login)
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(dsn, min_size=1, max_size=max_size, kwargs=options, open=False)
    # Closed while its first connection is being made, an event loop would wait for it without end.
    await pool.open(wait=True)
    remember(pool)
    return pool


# Connections and pools, and in which process pydb saw them first. A forked process shares their sockets with its
# parent: it must not use them, nor end them.
_process: WeakKeyDictionary[object, int] = WeakKeyDictionary()
_parents: list[object] = []
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # a thread of the parent may have held the other


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def remember(source: object) -> None:
    """Note that a connection or pool is this process's, unless it was seen in another before."""
    _process.setdefault(source, os.getpid())


def _is_inherited(source: object) -> bool:
    return _process[source] != os.getpid()


def _refuse_inherited() -> NoReturn:
    raise psycopg.InterfaceError(
        "this connection or pool was opened before the process was forked, and its answers may be another process's: "
        "open one in each process, or use from_dsn"
    )


def _refuse_other(source: object, connection: type, router: type) -> None:
    if not isinstance(source, (connection, router)) and not hasattr(source, "getconn"):
        raise TypeError(
            f"a storage needs psycopg's {connection.__name__} or a pool of psycopg_pool, not {type(source).__name__}: "
            "of a connection of SQLAlchemy's, connection.connection.driver_connection"
        )


def _is_dead(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server ended a session while its connection rested in a pool. The socket knows: nothing is sent."""
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    try:
        while not connection.closed and poll.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return connection.closed


class TenantAwareStorage:
    """Saves and loads the models of one tenant.

    source: a psycopg connection or a psycopg_pool pool; it stays the caller's, as do its transactions, its adapters and
    its settings. With autocommit one call is one message and one round trip. After a fork the child needs a source of
    its own: this one raises psycopg.InterfaceError.
    credential: see Credential. cache: what carries the bytes of artifacts faster, such as pydb.cache.Cache.
    """

    def __init__(
        self,
        source: psycopg.Connection[Any] | ConnectionPool[Any] | _Router,
        credential: Credential = None,
        *,
        cache: _SyncCache | None = None,
    ) -> None:
        _refuse_other(source, psycopg.Connection, _Router)
        remember(source)
        self._source = source
        self._credential = credential
        self._cache = cache
        self._open: Callable[[], ConnectionPool[Any]] | None = None
        self._owned: ConnectionPool[Any] | _Router | None = None
        self._owned_cache: _SyncCache | None = None

    @classmethod
    def from_dsn(
        cls,
        dsn: str,
        credential: Credential,
        *,
        max_size: int = 4,
        trusted_login: str | None = None,
        cache: _SyncCache | None = None,
        **connect: Any,
    ) -> Self:
        """Open a pool of its own; close() or the end of a with block closes it.

        max_size: most connections at once. connect: options of psycopg.connect; behind PgBouncer in transaction
        mode pass prepare_threshold=None. trusted_login: serve tenants as this login though it is superuser, has
        BYPASSRLS, owns the schema, or may become a role that does. cache: as of the class.
        Raises: LoginTooPowerful for such a login; psycopg.OperationalError when the server cannot be reached or
        refuses the login.
        """
        open_anew = partial(open_pool, dsn, max_size=max_size, trusted_login=trusted_login, **connect)
        pool = open_anew()
        storage = cls(pool, credential, cache=cache)
        storage._owned, storage._open = pool, open_anew
        return storage

    @classmethod
    def from_mcp_server(
        cls, server_id: str, project_id: str, code_hash: str, storage_type: str | None = None, **options: Any
    ) -> Self:
        """The storage of an MCP server: what the code does not say, the environment does (see pydb.environment).

        code_hash: the code's version; pydb.code_hash computes one. A token in AI_STORAGE_TOKEN_FILE or AI_STORAGE_TOKEN
        has to name the same levels. storage_type: `database`, or `hybrid`, which keeps the bytes of artifacts in Redis
        too (see pydb.cache); None for AI_STORAGE_TYPE. options: of from_dsn.
        Raises: ValueError when the environment lacks something; what from_dsn raises.
        """
        from . import environment  # the core reads no environment

        of_type = environment.storage_type(storage_type)
        key = environment.credential(server_id, project_id, code_hash)
        return of_type(environment.open_storage(cls, key, **options))

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """The storage that the environment describes (see pydb.environment).

        options: of from_dsn.
        Raises: ValueError when the environment lacks something; what from_dsn raises.
        """
        from . import environment  # the core reads no environment

        of_type = environment.storage_type(None)
        return of_type(environment.open_storage(cls, environment.credential(), **options))

    @classmethod
    def from_request(
        cls, request: Any, storage_type: str | None = None, *, source: ConnectionPool[Any] | _Router | None = None
    ) -> Self:
        """The storage of whom a web request comes from. Nothing is opened for it and nothing is to be closed.

        request: of Starlette, FastAPI, Flask, Django or anything else with headers; a WSGI environ or an ASGI scope.
            Its tenant is the one that a middleware of pydb.web admitted, else the bearer token is the credential, which
            the database verifies with each call.
        storage_type: `database` or `hybrid`, as of from_mcp_server.
        source: None for the middleware's pool or cells if they are of this kind, else those of the process, on
            DATABASE_URL or AI_STORAGE_CELLS.
        Raises: NoTenant (TN001) or MalformedCredential (TN002) for a request without a bearer token; ValueError when
        the environment lacks something.
        """
        from psycopg_pool import ConnectionPool

        from . import environment, web  # the core knows no web

        of_type = environment.storage_type(storage_type)
        credential, pool = web.credential_of(request)
        if source is None:
            source = pool if isinstance(pool, ConnectionPool | _Router) else environment.shared_source()
        return of_type(cls(source, credential))

    def run(self, call: Call[T]) -> T:
        """Run any call of pydb.calls with this storage's credential."""
        credential = _present(self._credential)
        if isinstance(self._source, _Router):
            return self._source.run(call, credential)
        if _is_inherited(self._source):
            self._leave_parents()
        if isinstance(self._source, psycopg.Connection):
            return session.run(self._source, call, credential)
        dead = 0
        while True:
            with self._source.connection() as connection:
                if dead <= self._source.max_size and _is_dead(connection):
                    dead += 1
                    connection.close()  # the pool opens another
                    continue
                return session.run(connection, call, credential)

    def _leave_parents(self) -> None:
        """In a forked process: open a pool of its own where the storage has one."""
        if self._open is None:
            _refuse_inherited()
        with _lock:
            if _is_inherited(self._source):
                _parents.append(self._source)
                self._source = self._owned = self._open()

    save_ai_progress_batch = _method(calls.save_progress_batch)
    load_ai_progress = _method(calls.load_progress)
    load_model = _method(calls.load_model)
    load_history = _method(calls.load_history)
    delete = _method(calls.delete_progress)
    promote = _method(calls.promote_progress)
    list_code_versions = _method(calls.list_code_versions)
    list_artifacts = _method(calls.list_artifacts)
    delete_artifact = _method(calls.delete_artifact)
    list_uploads = _method(calls.list_uploads)
    abort_artifact = _method(calls.abort_artifact)
    share_model = _method(calls.share_model)
    revoke_share = _method(calls.revoke_share)
    unshare_model = _method(calls.unshare_model)
    list_shares = _method(calls.list_shares)
    list_received_shares = _method(calls.list_received_shares)
    decline_share = _method(calls.decline_share)
    has_permission = _method(calls.has_permission)
    audit_trail = _method(calls.audit_trail)
    changes = _method(calls.changes)
    verify_audit = _method(calls.verify_audit)
    audit_proof = _method(calls.audit_proof)
    export_audit = _method(calls.export_audit)
    export_tenant = _method(calls.export_tenant)
    import_tenant = _method(calls.import_tenant)
    get_tenant_stats = _method(calls.tenant_stats)
    home = _method(calls.home)

    def save_ai_progress(
        self,
        model_name: str,
        mse: float | None = None,
        *,
        training_samples: int | None = None,
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        expected_version: int | None = None,
        idempotency_key: str | None = None,
        owner: str | None = None,
        artifacts: Mapping[str, Source] | None = None,
        progress: Progress | None = None,
        resume: bool = True,
    ) -> Saved:
        """Save the state of one model as its next version, and its artifacts with it: all of it or nothing.

        mse: finite; may be left out when metrics is not empty. metrics: up to 256 finite numbers by name.
        metadata: any JSON object up to 1 MiB. expected_version: 0 = must not exist yet, n = must be the current
        version, None = last writer wins. idempotency_key: a repeated request returns the first answer.
        owner: the owner's isolation key, when the model was shared for writing; without artifacts.
        artifacts: by name what to keep with exactly this version: a path, bytes, or a file, each read once to its end.
        progress, resume: as of put_artifact, for all of them.
        Raises: InvalidArgument (22023), ArtifactTooLarge (54000), ModelNotFound (TN101), VersionConflict (TN102),
        IdempotencyConflict (TN103), ContentMismatch (TN203); OSError.
        Source: sql/20_progress.sql, ai_storage.save_progress
        """
        state: dict[str, Any] = {
            "training_samples": training_samples,
            "metrics": metrics,
            "metadata": metadata,
            "expected_version": expected_version,
            "idempotency_key": idempotency_key,
            "owner": owner,
        }
        if not artifacts:
            return self.run(calls.save_progress(model_name, mse, **state))
        from . import artifact

        steps = artifact.save(model_name, mse, artifacts=artifacts, progress=progress, resume=resume, **state)
        return artifact.drive(steps, self._step)

    def put_artifact(
        self,
        model_name: str,
        artifact_name: str,
        source: Source,
        *,
        media_type: str = OCTETS,
        version: int | None = None,
        expected_version: int | None = None,
        progress: Progress | None = None,
        resume: bool = True,
    ) -> Put:
        """Keep bytes as an artifact of one version of an own model, in place of what it had under the name.

        version: None for the one that is current when it begins. expected_version: only if that is the current one. To
        save a state and its artifacts at once, pass them to save_ai_progress.
        source: read once to its end, in constant memory. progress: of a storage that is asynchronous, called in another
        thread. resume: go on with an interrupted upload of the same bytes under the same name; what arrived of this one
        stays for a day to go on with. False: begin anew, and take back what arrived when it fails.
        Raises: InvalidArgument (22023), ArtifactTooLarge (54000), ModelNotFound (TN101), VersionConflict (TN102),
        ContentMismatch (TN203); OSError.
        Source: sql/25_artifact.sql, ai_storage.put_artifact, ai_storage.append_artifact
        """
        from . import artifact

        steps = artifact.put(
            model_name,
            artifact_name,
            source,
            media_type=media_type,
            version=version,
            expected_version=expected_version,
            progress=progress,
            resume=resume,
        )
        return artifact.drive(steps, self._step)

    @overload
    def get_artifact(
        self,
        model_name: str,
        artifact_name: str,
        target: None = None,
        *,
        owner: str | None = None,
        version: int | None = None,
        or_earlier: bool = False,
        progress: Progress | None = None,
    ) -> bytes: ...

    @overload
    def get_artifact(
        self,
        model_name: str,
        artifact_name: str,
        target: Target,
        *,
        owner: str | None = None,
        version: int | None = None,
        or_earlier: bool = False,
        progress: Progress | None = None,
    ) -> Opened: ...

    def get_artifact(
        self,
        model_name: str,
        artifact_name: str,
        target: Target | None = None,
        *,
        owner: str | None = None,
        version: int | None = None,
        or_earlier: bool = False,
        progress: Progress | None = None,
    ) -> bytes | Opened:
        """Get an artifact's bytes: of an own model, or with owner of one that is shared for execute.

        target: None for all the bytes at once. A path is written in constant memory: beside, and put in its place once
        the sha256 fits. A file is written as the bytes come; what stands there is worth nothing when this raises.
        version: the artifact of exactly this version; None: of the current one. or_earlier: the last one that was put
        up to it. progress: of a storage that is asynchronous, called in another thread.
        Returns: the bytes; with a target what they are.
        Raises: ModelNotFound (TN101), ContentMismatch (TN203), ArtifactNotFound (TN204); OSError.
        Source: sql/25_artifact.sql, ai_storage.open_artifact, ai_storage.read_chunks
        """
        from . import artifact

        steps = artifact.get(
            model_name,
            artifact_name,
            target,
            owner=owner,
            version=version,
            or_earlier=or_earlier,
            progress=progress,
            cache=self._cache,
        )
        return artifact.drive(steps, self._step)

    def _step(self, step: Step) -> Any:
        if isinstance(step, Call):
            return self.run(step)
        assert self._cache is not None
        return self._cache.run(step)

    def close(self) -> None:
        """Close the pool that from_dsn opened; a source given by the caller stays open."""
        if self._owned is not None and not _is_inherited(self._owned):
            self._owned.close()
        if self._owned_cache is not None:
            self._owned_cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncTenantAwareStorage:
    """TenantAwareStorage for asynchronous connections and pools: the same methods, to be awaited."""

    def __init__(
        self,
        source: psycopg.AsyncConnection[Any] | AsyncConnectionPool[Any] | _AsyncRouter,
        credential: Credential = None,
        *,
        cache: _AsyncCache | None = None,
    ) -> None:
        _refuse_other(source, psycopg.AsyncConnection, _AsyncRouter)
        remember(source)
        self._source = source
        self._credential = credential
        self._cache = cache
        self._open: Callable[[], Awaitable[AsyncConnectionPool[Any]]] | None = None
        self._owned: AsyncConnectionPool[Any] | _AsyncRouter | None = None
        self._owned_cache: _AsyncCache | None = None

    @classmethod
    async def from_dsn(
        cls,
        dsn: str,
        credential: Credential,
        *,
        max_size: int = 4,
        trusted_login: str | None = None,
        cache: _AsyncCache | None = None,
        **connect: Any,
    ) -> Self:
        """Open a pool of its own; close() or the end of an async with block closes it.

        max_size: most connections at once. connect: options of psycopg.connect; behind PgBouncer in transaction
        mode pass prepare_threshold=None. trusted_login: serve tenants as this login though it is superuser, has
        BYPASSRLS, owns the schema, or may become a role that does. cache: as of the class.
        Raises: LoginTooPowerful for such a login; psycopg.OperationalError when the server cannot be reached or
        refuses the login.
        """
        open_anew = partial(open_async_pool, dsn, max_size=max_size, trusted_login=trusted_login, **connect)
        pool = await open_anew()
        storage = cls(pool, credential, cache=cache)
        storage._owned, storage._open = pool, open_anew
        return storage

    @classmethod
    async def from_mcp_server(
        cls, server_id: str, project_id: str, code_hash: str, storage_type: str | None = None, **options: Any
    ) -> Self:
        """See TenantAwareStorage.from_mcp_server."""
        from . import environment  # the core reads no environment

        of_type = environment.storage_type(storage_type)
        key = environment.credential(server_id, project_id, code_hash)
        return of_type(await environment.open_async_storage(cls, key, **options))

    @classmethod
    async def from_env(cls, **options: Any) -> Self:
        """See TenantAwareStorage.from_env."""
        from . import environment  # the core reads no environment

        of_type = environment.storage_type(None)
        return of_type(await environment.open_async_storage(cls, environment.credential(), **options))

    @classmethod
    async def from_request(
        cls,
        request: Any,
        storage_type: str | None = None,
        *,
        source: AsyncConnectionPool[Any] | _AsyncRouter | None = None,
    ) -> Self:
        """See TenantAwareStorage.from_request. A pool of the event loop stands for that of the process."""
        from psycopg_pool import AsyncConnectionPool

        from . import environment, web  # the core knows no web

        of_type = environment.storage_type(storage_type)
        credential, pool = web.credential_of(request)
        if source is None:
            if isinstance(pool, AsyncConnectionPool | _AsyncRouter):
                source = pool
            else:
                source = await environment.shared_async_source()
        return of_type(cls(source, credential))

    async def run(self, call: Call[T]) -> T:
        """Run any call of pydb.calls with this storage's credential."""
        credential = _present(self._credential)
        if isinstance(self._source, _AsyncRouter):
            return await self._source.run(call, credential)
        if _is_inherited(self._source):
            await self._leave_parents()
        if isinstance(self._source, psycopg.AsyncConnection):
            return await aio.run(self._source, call, credential)
        dead = 0
        while True:
            async with self._source.connection() as connection:
                if dead <= self._source.max_size and _is_dead(connection):
                    dead += 1
                    await connection.close()  # the pool opens another
                    continue
                return await aio.run(connection, call, credential)

    async def _leave_parents(self) -> None:
        """See TenantAwareStorage._leave_parents."""
        if self._open is None:
            _refuse_inherited()
        pool = await self._open()
        if _is_inherited(self._source):
            _parents.append(self._source)
            self._source = self._owned = pool
        else:
            await pool.close()  # another task was faster

    save_ai_progress_batch = _async_method(calls.save_progress_batch)
    load_ai_progress = _async_method(calls.load_progress)
    load_model = _async_method(calls.load_model)
    load_history = _async_method(calls.load_history)
    delete = _async_method(calls.delete_progress)
    promote = _async_method(calls.promote_progress)
    list_code_versions = _async_method(calls.list_code_versions)
    list_artifacts = _async_method(calls.list_artifacts)
    delete_artifact = _async_method(calls.delete_artifact)
    list_uploads = _async_method(calls.list_uploads)
    abort_artifact = _async_method(calls.abort_artifact)
    share_model = _async_method(calls.share_model)
    revoke_share = _async_method(calls.revoke_share)
    unshare_model = _async_method(calls.unshare_model)
    list_shares = _async_method(calls.list_shares)
    list_received_shares = _async_method(calls.list_received_shares)
    decline_share = _async_method(calls.decline_share)
    has_permission = _async_method(calls.has_permission)
    audit_trail = _async_method(calls.audit_trail)
    changes = _async_method(calls.changes)
    verify_audit = _async_method(calls.verify_audit)
    audit_proof = _async_method(calls.audit_proof)
    export_audit = _async_method(calls.export_audit)
    export_tenant = _async_method(calls.export_tenant)
    import_tenant = _async_method(calls.import_tenant)
    get_tenant_stats = _async_method(calls.tenant_stats)
    home = _async_method(calls.home)

    async def save_ai_progress(
        self,
        model_name: str,
        mse: float | None = None,
        *,
        training_samples: int | None = None,
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        expected_version: int | None = None,
        idempotency_key: str | None = None,
        owner: str | None = None,
        artifacts: Mapping[str, Source] | None = None,
        progress: Progress | None = None,
        resume: bool = True,
    ) -> Saved:
        state: dict[str, Any] = {
            "training_samples": training_samples,
            "metrics": metrics,
            "metadata": metadata,
            "expected_version": expected_version,
            "idempotency_key": idempotency_key,
            "owner": owner,
        }
        if not artifacts:
            return await self.run(calls.save_progress(model_name, mse, **state))
        from . import artifact

        steps = artifact.save(model_name, mse, artifacts=artifacts, progress=progress, resume=resume, **state)
        return await artifact.drive_async(steps, self._step)

    async def put_artifact(
        self,
        model_name: str,
        artifact_name: str,
        source: Source,
        *,
        media_type: str = OCTETS,
        version: int | None = None,
        expected_version: int | None = None,
        progress: Progress | None = None,
        resume: bool = True,
    ) -> Put:
        from . import artifact

        steps = artifact.put(
            model_name,
            artifact_name,
            source,
            media_type=media_type,
            version=version,
            expected_version=expected_version,
            progress=progress,
            resume=resume,
        )
        return await artifact.drive_async(steps, self._step)

    @overload
    async def get_artifact(
        self,
        model_name: str,
        artifact_name: str,
        target: None = None,
        *,
        owner: str | None = None,
        version: int | None = None,
        or_earlier: bool = False,
        progress: Progress | None = None,
    ) -> bytes: ...

    @overload
    async def get_artifact(
        self,
        model_name: str,
        artifact_name: str,
        target: Target,
        *,
        owner: str | None = None,
        version: int | None = None,
        or_earlier: bool = False,
        progress: Progress | None = None,
    ) -> Opened: ...

    async def get_artifact(
        self,
        model_name: str,
        artifact_name: str,
        target: Target | None = None,
        *,
        owner: str | None = None,
        version: int | None = None,
        or_earlier: bool = False,
        progress: Progress | None = None,
    ) -> bytes | Opened:
        from . import artifact

        steps = artifact.get(
            model_name,
            artifact_name,
            target,
            owner=owner,
            version=version,
            or_earlier=or_earlier,
            progress=progress,
            cache=self._cache,
        )
        return await artifact.drive_async(steps, self._step)

    save_ai_progress.__doc__ = TenantAwareStorage.save_ai_progress.__doc__
    put_artifact.__doc__ = TenantAwareStorage.put_artifact.__doc__
    get_artifact.__doc__ = TenantAwareStorage.get_artifact.__doc__

    async def _step(self, step: Step) -> Any:
        if isinstance(step, Call):
            return await self.run(step)
        assert self._cache is not None
        return await self._cache.run(step)

    async def close(self) -> None:
        """Close the pool that from_dsn opened; a source given by the caller stays open."""
        if self._owned is not None and not _is_inherited(self._owned):
            await self._owned.close()
        if self._owned_cache is not None:
            await self._owned_cache.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
