"""Several servers that divide the organisations among them, as one storage.

    cells = Cells({"east": "postgresql://app@east/store", "west": "postgresql://app@west/store"})
    cells.storage("acme:mcp-1:shop:production:abc123").save_ai_progress("classifier", 0.12)

The cells know where an organisation lives, and refuse what is not theirs before anything is changed. A storage
calls the cell it remembers; if refused, it retries once in the cell that the refusal names. When a cell is down, only
calls for its organisations fail.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg

from .calls import Call
from .errors import LivesElsewhere, OrganisationMoving, StorageError
from .storage import (
    AsyncTenantAwareStorage,
    Credential,
    TenantAwareStorage,
    _AsyncRouter,
    _Router,
    open_async_pool,
    open_pool,
)

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

__all__ = ["AsyncCells", "Cells", "read_dsns"]

T = TypeVar("T")

LONGEST_PAUSE = 0.5  # seconds between two calls for an organisation that is being moved


def read_dsns(path: Path) -> dict[str, str]:
    """The DSN of each cell by its name, out of a JSON file. Raises: ValueError."""
    try:
        cells = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The file of cells cannot be read: {type(error).__name__}.") from None
    if not isinstance(cells, dict) or not cells or not all(isinstance(dsn, str) for dsn in cells.values()):
        raise ValueError("The file of cells does not name cells and their DSNs.")
    return cells


class _Cells:
    _lock_type: Callable[[], Any]

    def __init__(self, dsns: Mapping[str, str], *, wait: float = 30.0, **options: Any) -> None:
        """The DSN of each cell by its name, in the order in which to ask for an organisation that was not met yet.

        wait: seconds for which calls wait while their organisation is being moved. options: of from_dsn, for the pool
        of each cell.
        Raises: ValueError when there is no cell.
        """
        if not dsns:
            raise ValueError("Name at least one cell and its DSN.")
        self._dsns = dict(dsns)
        self._wait = wait
        self._options = options
        self._homes: dict[str, str] = {}
        # A forked process opens its own.
        self._pools: dict[tuple[int, str], Any] = {}
        # One for each cell: a cell that is down keeps nobody else waiting.
        self._locks = {name: self._lock_type() for name in self._dsns}


def _organisation(credential: str | None) -> str:
    """The organisation that a key or a token names, or "". Only a hint where to ask first: the cells verify it."""
    name, _, is_key = (credential or "").partition(":")
    if is_key:
        return name
    try:
        claims = json.loads(urlsafe_b64decode(name.split(".")[1] + "=="))
    except (IndexError, ValueError, RecursionError):
        return ""
    named = claims.get("org") if isinstance(claims, dict) else None
    return named if isinstance(named, str) else ""


class _Route:
    """Where one call goes: to the cell in which its organisation was last, and to the one that a refusal names."""

    def __init__(self, cells: _Cells, credential: str | None) -> None:
        self._cells = cells
        self._organisation = _organisation(credential)
        self._end = time.monotonic() + cells._wait
        self._pause = 0.02
        self._refusal: LivesElsewhere | None = None
        # The cells to ask next while the organisation's own is not known.
        self._others = [] if self._organisation in cells._homes else list(cells._dsns)[1:]
        self.cell = cells._homes.get(self._organisation, next(iter(cells._dsns)))

    def refused(self, error: StorageError) -> float:
        """Choose the next cell after a refusal. Returns the seconds to wait first; raises it if no cell is left."""
        if isinstance(error, OrganisationMoving):
            if time.monotonic() >= self._end:
                raise error
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._refusal = None  # it may be elsewhere afterwards
            return self._pause
        assert isinstance(error, LivesElsewhere)
        self._others = []
        if self._refusal is not None:
            # The second cell refuses too: the first refusal was about sharing with an organisation in it.
            raise self._refusal
        if error.detail not in self._cells._dsns:
            raise error
        self._refusal, self.cell = error, error.detail
        return 0

    def unreachable(self, error: psycopg.OperationalError) -> None:
        """Choose another cell when there is no connection to this one. Raises the error if no cell is left."""
        if not self._others:
            raise error
        self.cell = self._others.pop(0)

    def found(self) -> None:
        """Remember the cell that answered."""
        if self._organisation:
            self._cells._homes[self._organisation] = self.cell


class Cells(_Cells, _Router):
    """Storages of tenants in several cells. close(), or the end of a with block, closes the pools."""

    _lock_type = threading.Lock

    def storage(self, credential: Credential, *, cache: Any = None) -> TenantAwareStorage:
        """The storage of one tenant, in whichever cell its organisation lives. cache: as of TenantAwareStorage."""
        return TenantAwareStorage(self, credential, cache=cache)

    def run(self, call: Call[T], credential: str | None) -> T:
        """Run one call in the cell of the credential's organisation. For TenantAwareStorage."""
        from psycopg_pool import PoolTimeout

        route = _Route(self, credential)
        while True:
            try:
                storage = TenantAwareStorage(self.pool(route.cell), credential)
            except psycopg.OperationalError as error:
                route.unreachable(error)
                continue
            try:
                answer = storage.run(call)
            except PoolTimeout as error:
                route.unreachable(error)
            except (LivesElsewhere, OrganisationMoving) as error:
                time.sleep(route.refused(error))
            else:
                route.found()
                return answer

    def pool(self, cell: str) -> ConnectionPool[Any]:
        """The pool of a cell, opened when it is first needed. Raises: as TenantAwareStorage.from_dsn."""
        with self._locks[cell]:
            key = (os.getpid(), cell)
            if key not in self._pools:
                self._pools[key] = open_pool(self._dsns[cell], **self._options)
            pool: ConnectionPool[Any] = self._pools[key]
            return pool

    def close(self) -> None:
        """Close the pools that this process opened."""
        for (process, _), pool in self._pools.items():
            if process == os.getpid():
                pool.close()
        self._pools.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncCells(_Cells, _AsyncRouter):
    """Cells for asynchronous storages, in one event loop."""

    _lock_type = asyncio.Lock

    def storage(self, credential: Credential, *, cache: Any = None) -> AsyncTenantAwareStorage:
        """See Cells.storage."""
        return AsyncTenantAwareStorage(self, credential, cache=cache)

    async def run(self, call: Call[T], credential: str | None) -> T:
        """See Cells.run."""
        from psycopg_pool import PoolTimeout

        route = _Route(self, credential)
        while True:
            try:
                storage = AsyncTenantAwareStorage(await self.pool(route.cell), credential)
            except psycopg.OperationalError as error:
                route.unreachable(error)
                continue
            try:
                answer = await storage.run(call)
            except PoolTimeout as error:
                route.unreachable(error)
            except (LivesElsewhere, OrganisationMoving) as error:
                await asyncio.sleep(route.refused(error))
            else:
                route.found()
                return answer

    async def pool(self, cell: str) -> AsyncConnectionPool[Any]:
        """See Cells.pool."""
        async with self._locks[cell]:
            key = (os.getpid(), cell)
            if key not in self._pools:
                self._pools[key] = await open_async_pool(self._dsns[cell], **self._options)
            pool: AsyncConnectionPool[Any] = self._pools[key]
            return pool

    async def close(self) -> None:
        """See Cells.close."""
        for (process, _), pool in self._pools.items():
            if process == os.getpid():
                await pool.close()
        self._pools.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
