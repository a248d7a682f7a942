"""What the environment says about a storage: whose it is, where its data lies, and of which type it is.

Behind the constructors `from_env`, `from_mcp_server` and `from_request` of the storages. The core does not import it.

    DATABASE_URL             the database, connected to as an application's login
    AI_STORAGE_CELLS         instead: a JSON file with the name of each cell and its DSN (see pydb.cells)
    AI_STORAGE_ORG_ID        the tenant's organisation
    AI_STORAGE_ENVIRONMENT   its environment, such as production
    AI_STORAGE_SERVER_ID, AI_STORAGE_PROJECT_ID, AI_STORAGE_CODE_HASH   its other levels, for from_env alone
    AI_STORAGE_TOKEN_FILE    a file with a signed token in place of these names; it is read again when it changes
    AI_STORAGE_TOKEN         the token itself
    AI_STORAGE_TYPE          the storage type where the code names none: database (the default), or hybrid
    REDIS_URL                for hybrid: the Redis that carries the bytes of artifacts (see pydb.cache)

A token names its tenant: levels may then be left out, and those that are given have to be the token's.
What is missing or wrong here is a fault of the deployment and not of a request, so it raises ValueError.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from psycopg_pool import AsyncConnectionPool, ConnectionPool

from .storage import AsyncTenantAwareStorage, Credential, TenantAwareStorage, open_async_pool, open_pool
from .token import LEVEL

if TYPE_CHECKING:
    from .cache import AsyncCache, Cache, CacheStats
    from .cells import AsyncCells, Cells

__all__ = [
    "STORAGE_TYPES",
    "StorageType",
    "TokenFile",
    "cells_file",
    "close_shared_async_pool",
    "close_shared_pool",
    "credential",
    "dsn",
    "isolation_key",
    "open_async_storage",
    "open_storage",
    "shared_async_pool",
    "shared_async_source",
    "shared_cache_stats",
    "shared_pool",
    "shared_source",
    "storage_type",
    "variable",
]

T = TypeVar("T", bound=TenantAwareStorage | AsyncTenantAwareStorage)
_Sync = TypeVar("_Sync", bound=TenantAwareStorage)
_Async = TypeVar("_Async", bound=AsyncTenantAwareStorage)

SHARED_POOL_SIZE = 10  # connections at most
LEVELS = ("org_id", "server_id", "project_id", "environment", "code_hash")
MAX_TOKEN = 4096  # characters, as the database takes
SETTLED = 2.0  # seconds after which a file's time tells whether it changed
# A signature by HS256 has 43 characters, so a token that was cut off is none.
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}")


class StorageType(Protocol):
    """Makes a storage of this type out of that of the database."""

    def __call__(self, storage: T, /) -> T: ...


def _database() -> StorageType:
    return lambda storage: storage


def _hybrid() -> StorageType:
    try:
        from . import cache
    except ModuleNotFoundError as error:
        raise ValueError(
            f"The storage type hybrid needs the package {error.name}: pip install 'tenant-ai-storage[hybrid]', from a "
            "clone '.[hybrid]'."
        ) from error
    url = variable("REDIS_URL")

    def with_cache(storage: T, /) -> T:
        # A storage that closes its pool closes its cache too; those of requests share one, as they share a pool.
        if isinstance(storage, TenantAwareStorage):
            if storage._owned is not None:
                storage._cache = storage._owned_cache = cache.Cache.from_url(url)
            else:
                storage._cache = _shared_cache(url)
        elif storage._owned is not None:
            storage._cache = storage._owned_cache = cache.AsyncCache.from_url(url)
        else:
            storage._cache = _shared_async_cache(url)
        return storage

    return with_cache


#: Every storage type, and what makes it ready or says what is missing before anything is opened.
STORAGE_TYPES: dict[str, Callable[[], StorageType]] = {
    "database": _database,
    "hybrid": _hybrid,
}


def variable(name: str) -> str:
    """The value of an environment variable.

    Raises: ValueError when it is not set, or empty.
    """
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"The environment variable {name} is not set.")
    return value


def dsn() -> str:
    """Where the database is. Raises: ValueError."""
    return variable("DATABASE_URL")


def cells_file() -> Path | None:
    """The file of cells that AI_STORAGE_CELLS names, or None."""
    path = os.environ.get("AI_STORAGE_CELLS")
    return Path(path) if path else None


def open_storage(cls: type[_Sync], credential: Credential, **options: Any) -> _Sync:
    """The storage of a process, with a pool or cells of its own. Raises: ValueError; as from_dsn."""
    file = cells_file()
    if file is None:
        return cls.from_dsn(dsn(), credential, **options)
    from .cells import Cells, read_dsns

    cache = options.pop("cache", None)
    source = Cells(read_dsns(file), **options)
    storage = cls(source, credential, cache=cache)
    storage._owned = source
    return storage


async def open_async_storage(cls: type[_Async], credential: Credential, **options: Any) -> _Async:
    """The twin of open_storage."""
    file = cells_file()
    if file is None:
        return await cls.from_dsn(dsn(), credential, **options)
    from .cells import AsyncCells, read_dsns

    cache = options.pop("cache", None)
    source = AsyncCells(read_dsns(file), **options)
    storage = cls(source, credential, cache=cache)
    storage._owned = source
    return storage


def storage_type(name: str | None) -> StorageType:
    """The storage type of this name, or of AI_STORAGE_TYPE, or `database`.

    Raises: ValueError for any other, and without REDIS_URL for `hybrid`; ImportError without its extra.
    """
    name = name or os.environ.get("AI_STORAGE_TYPE") or "database"
    if name not in STORAGE_TYPES:
        raise ValueError(f"There is no storage type {name!r}. There is: {', '.join(STORAGE_TYPES)}.")
    return STORAGE_TYPES[name]()


def isolation_key(server_id: str | None = None, project_id: str | None = None, code_hash: str | None = None) -> str:
    """The isolation key of this process. None: the level comes from the environment, as the other two do.

    Raises: ValueError for a level that is missing or none.
    """
    levels = {
        "AI_STORAGE_ORG_ID": None,
        "AI_STORAGE_SERVER_ID": server_id,
        "AI_STORAGE_PROJECT_ID": project_id,
        "AI_STORAGE_ENVIRONMENT": None,
        "AI_STORAGE_CODE_HASH": code_hash,
    }
    values = [variable(name) if value is None else value for name, value in levels.items()]
    for name, value in zip(levels, values, strict=True):
        if LEVEL.fullmatch(value) is None:
            level = name.removeprefix("AI_STORAGE_").lower()
            raise ValueError(f"The level {level} has to be 1 to 63 characters out of A-Z a-z 0-9 . _ + @ ~ = / -")
    return ":".join(values)


# Tokens


def credential(server_id: str | None = None, project_id: str | None = None, code_hash: str | None = None) -> Credential:
    """The credential of this process: a token where the environment has one, else isolation_key() of the same levels.

    Raises: ValueError for both kinds of token at once, one that is none or names another tenant, or a level missing.
    """
    path, token = os.environ.get("AI_STORAGE_TOKEN_FILE"), os.environ.get("AI_STORAGE_TOKEN", "").strip()
    if path and token:
        raise ValueError("AI_STORAGE_TOKEN and AI_STORAGE_TOKEN_FILE are both set. Unset one of them.")
    if not path and not token:
        return isolation_key(server_id, project_id, code_hash)
    levels = {
        "org": os.environ.get("AI_STORAGE_ORG_ID"),
        "srv": server_id or os.environ.get("AI_STORAGE_SERVER_ID"),
        "prj": project_id or os.environ.get("AI_STORAGE_PROJECT_ID"),
        "env": os.environ.get("AI_STORAGE_ENVIRONMENT"),
        "code": code_hash or os.environ.get("AI_STORAGE_CODE_HASH"),
    }
    if path:
        return TokenFile(path, levels)
    if not _is_token(token):
        raise ValueError("AI_STORAGE_TOKEN is no token.")
    _check(token, levels, "AI_STORAGE_TOKEN")
    return lambda: token  # where a text would be shown by repr()


class TokenFile:
    """A credential: the token in a file, read again when the file changes, as a mounted secret does.

    While the file is away, or written only in part, the token read last is used.
    """

    def __init__(self, path: str, levels: Mapping[str, str | None]) -> None:
        self._path = path
        self._levels = levels
        self._held: tuple[object, str] | None = None  # which file, and its token
        self()

    def __repr__(self) -> str:
        return f"TokenFile({self._path!r})"

    def __call__(self) -> str:
        held = self._held
        try:
            if held is not None and _file(os.stat(self._path)) == held[0]:
                return held[1]
            with open(self._path, "rb") as file:
                before = os.fstat(file.fileno())
                token = file.read(MAX_TOKEN + 1).decode("ascii", "replace").strip()
        except OSError as error:
            if held is None:
                raise ValueError(f"AI_STORAGE_TOKEN_FILE cannot be read: {error.strerror}.") from error
            return held[1]
        if not _is_token(token):
            if held is None:
                raise ValueError("AI_STORAGE_TOKEN_FILE names a file without a token.")
            return held[1]
        _check(token, self._levels, "the file of AI_STORAGE_TOKEN_FILE")
        # A file just written may change once more within the same tick of its clock.
        settled = time.time() - before.st_mtime > SETTLED
        self._held = (_file(before) if settled else None, token)
        return token


def _file(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _claims(token: str) -> dict[str, Any] | None:
    """What a token says, which nobody has verified; None for what is no token, or a part of one."""
    if _TOKEN.fullmatch(token) is None or len(token) > MAX_TOKEN:
        return None
    middle = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _is_token(token: str) -> bool:
    return _claims(token) is not None


def _check(token: str, levels: Mapping[str, str | None], where: str) -> None:
    """Refuse a token of another tenant than the process is told it acts for. Raises: ValueError."""
    claims = _claims(token) or {}
    if isinstance(claims.get("key"), str):
        claims = dict(zip(levels, claims["key"].split(":"), strict=False))
    for (level, value), name in zip(levels.items(), LEVELS, strict=True):
        if value and claims.get(level) != value:
            raise ValueError(f"The token in {where} names another {name} than the environment or the code.")


# One pool and one cache a process, or an event loop, for storages that live as long as a request


_lock = threading.Lock()
# A forked process must not use its parent's connections, nor end them: they stay here under the parent's pid.
_pools: dict[tuple[int, str], ConnectionPool[Any]] = {}
_async_pools: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Task[AsyncConnectionPool[Any]]] = {}
_cells: dict[tuple[int, str], Cells] = {}
_async_cells: dict[tuple[asyncio.AbstractEventLoop, str], AsyncCells] = {}
_caches: dict[tuple[int, str], Cache] = {}
_async_caches: dict[tuple[asyncio.AbstractEventLoop, str], AsyncCache] = {}


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # a thread of the parent may have held the other


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def shared_pool() -> ConnectionPool[Any]:
    """The pool of this process on DATABASE_URL, opened at its first use and closed when the process ends.

    Raises: ValueError, and what TenantAwareStorage.from_dsn does.
    """
    key = (os.getpid(), dsn())
    with _lock:
        if key not in _pools:
            _pools[key] = open_pool(key[1], max_size=SHARED_POOL_SIZE)
        return _pools[key]


def shared_source() -> ConnectionPool[Any] | Cells:
    """shared_pool, or the cells of this process, closed when it ends. Raises: ValueError; as shared_pool."""
    file = cells_file()
    if file is None:
        return shared_pool()
    from .cells import Cells, read_dsns

    key = (os.getpid(), str(file))
    with _lock:
        if key not in _cells:
            _cells[key] = Cells(read_dsns(file), max_size=SHARED_POOL_SIZE)
        return _cells[key]


def _shared_cache(url: str) -> Cache:
    from .cache import Cache

    key = (os.getpid(), url)
    with _lock:
        if key not in _caches:
            _caches[key] = Cache.from_url(url)
        return _caches[key]


@atexit.register
def close_shared_pool() -> None:
    """Close the pools that shared_pool opened in this process, and the caches beside them."""
    with _lock:
        for key in [key for key in _pools if key[0] == os.getpid()]:
            _pools.pop(key).close()
        for key in [key for key in _cells if key[0] == os.getpid()]:
            _cells.pop(key).close()
        for key in [key for key in _caches if key[0] == os.getpid()]:
            _caches.pop(key).close()


async def shared_async_pool() -> AsyncConnectionPool[Any]:
    """The pool of this event loop on DATABASE_URL, opened at its first use.

    pydb.web.TenantMiddleware closes it when the server shuts down; elsewhere close_shared_async_pool does.
    Raises: ValueError, and what AsyncTenantAwareStorage.from_dsn does.
    """
    loop = asyncio.get_running_loop()
    for other in list(_async_pools):
        if other[0].is_closed():
            _async_pools.pop(other, None)
    key = (loop, dsn())
    opening = _async_pools.get(key)
    if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
        opening = loop.create_task(open_async_pool(key[1], max_size=SHARED_POOL_SIZE))
        _async_pools[key] = opening
    # The first request opens it for all; when its client hangs up, the others still wait for it.
    return await asyncio.shield(opening)


async def shared_async_source() -> AsyncConnectionPool[Any] | AsyncCells:
    """shared_async_pool, or the cells of this event loop. Raises: ValueError; as shared_async_pool."""
    file = cells_file()
    if file is None:
        return await shared_async_pool()
    from .cells import AsyncCells, read_dsns

    for other in list(_async_cells):
        if other[0].is_closed():
            _async_cells.pop(other, None)
    key = (asyncio.get_running_loop(), str(file))
    if key not in _async_cells:
        _async_cells[key] = AsyncCells(read_dsns(file), max_size=SHARED_POOL_SIZE)
    return _async_cells[key]


def _shared_async_cache(url: str) -> AsyncCache:
    from .cache import AsyncCache

    for other in list(_async_caches):
        if other[0].is_closed():
            _async_caches.pop(other, None)
    key = (asyncio.get_running_loop(), url)
    if key not in _async_caches:
        _async_caches[key] = AsyncCache.from_url(url)
    return _async_caches[key]


async def close_shared_async_pool() -> None:
    """Close the pools that shared_async_pool opened in this event loop, and the caches beside them."""
    loop = asyncio.get_running_loop()
    for key in [key for key in list(_async_caches) if key[0] is loop]:
        await _async_caches.pop(key).close()
    for cell in [key for key in list(_async_cells) if key[0] is loop]:
        await _async_cells.pop(cell).close()
    for pool in [key for key in list(_async_pools) if key[0] is loop]:
        opening = _async_pools.pop(pool)
        if opening.done() and not opening.cancelled() and opening.exception() is None:
            await opening.result().close()
        else:
            opening.cancel()


def shared_cache_stats() -> list[CacheStats]:
    """What the caches of requests did so far in this process: of storage type hybrid one, and one an event loop."""
    with _lock:
        caches = [cache for (pid, _), cache in _caches.items() if pid == os.getpid()]
    return [cache.stats() for cache in [*caches, *_async_caches.values()]]
