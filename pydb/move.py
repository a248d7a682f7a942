"""Move an organisation to another cell, while its applications run. For pydb.cli.

The copy is made while the organisation is open, and compared by digests. Then it is closed in both cells, what changed
meanwhile is copied, and it opens in the new cell; only after that it is erased in the old one. A move that was killed
is taken up by the next one: the directories of the two cells tell how far it came. It is never open in two cells.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from . import calls, session, transfer
from .directory import Connections, DirectoryError

__all__ = ["Moved", "move", "seal_all"]

ROWS_AT_ONCE = 500
CHUNKS_AT_ONCE = 4  # of 1 MiB, twice as long in JSON
FEW_ROWS = 1000  # which are copied at once while the organisation is closed
MOST_ROUNDS = 10  # while it is closed, where one is enough

Connection = psycopg.Connection[Any]
T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved. digest: of all tenants, in the logs of both cells. closed: seconds in which calls waited.

    certificate: of the erasure in the old cell; None: nothing was left there.
    """

    source: str | None
    tenants: int
    rows: int
    digest: str
    closed: float
    certificate: dict[str, Any] | None


def move(cells: Connections, org_id: str, target: str, folder: Path, *, wait: float, say: Say) -> Moved:
    """Move an organisation to the cell target, or go on with a move that was interrupted.

    folder: for the bundles of its log. wait: seconds to wait for transactions that began before it was closed.
    Raises: DirectoryError, StorageError, psycopg.Error. It is then open where it was, unless the error says
    that a cell could not be reached: move again.
    """
    if target not in cells:
        raise DirectoryError(f"There is no cell {target}.", "Name one of the file.")
    for connection in cells.values():
        _lock(connection, org_id)
    homes = {
        name: home
        for name, connection in cells.items()
        for home in session.run(connection, calls.list_homes())
        if home.org_id == org_id
    }
    living = [name for name, home in homes.items() if home.cell_name == name]
    if len(living) > 1:
        raise DirectoryError(
            f"{' and '.join(living)} both say that {org_id} lives there.", "Run: pydb cells check FILE"
        )
    closed, digest = 0.0, None
    if not living and not _left(cells, org_id, target):
        raise DirectoryError(f"No cell has tenants of {org_id}.", "Run: pydb cells show FILE")
    if living and living[0] != target:
        source = living[0]
        if not homes[source].is_moving:
            _prepare(cells, org_id, source, target, say)
        closed, digest = _change_over(cells, org_id, source, target, wait, say)
    elif not living:
        say(f"Opening it in {target}.")
        digest = _digest(session.run(cells[target], calls.digest_organisation(org_id)))
        session.run(cells[target], calls.open_organisation(org_id, digest))
    for connection in cells.values():
        session.run(connection, calls.set_home(org_id, target))
    certificate = None
    left = _left(cells, org_id, target)
    for name in left:
        say(f"Writing the bundle of its log, and erasing it in {name}.")
        certificate = _clear(cells, org_id, name, target, folder)
    moved = session.run(cells[target], calls.digest_organisation(org_id))
    return Moved(
        left[0] if left else None,
        len(moved),
        sum(tenant.row_count for tenant in moved),
        digest or _digest(moved),
        closed,
        certificate,
    )


def _lock(connection: Connection, org_id: str) -> None:
    """Keep other moves of the organisation away for as long as the connection lasts."""
    locked = connection.execute("select pg_try_advisory_lock(hashtextextended('move ' || %s, 0))", (org_id,)).fetchone()
    if locked != (True,):
        raise DirectoryError(f"{org_id} is being moved already.", "Wait until that move has ended.")


def _left(cells: Connections, org_id: str, target: str) -> list[str]:
    """The cells that have content of the organisation and are not the target."""
    return [
        name
        for name, connection in cells.items()
        if name != target
        and any(tenant.row_count for tenant in session.run(connection, calls.digest_organisation(org_id)))
    ]


def _digest(tenants: list[calls.TenantDigest]) -> str:
    """The sha256, in hexadecimal, of a line per tenant: its key, a blank, its digest."""
    return sha256("".join(f"{tenant.isolation_key} {tenant.digest}\n" for tenant in tenants).encode()).hexdigest()


def _prepare(cells: Connections, org_id: str, source: str, target: str, say: Say) -> None:
    """Check what can be checked, and copy what there is, while the organisation is open at the source."""
    old, new = cells[source], cells[target]
    releases = {session.run(connection, calls.version()) for connection in (old, new)}
    if len(releases) > 1:
        raise DirectoryError(f"{source} and {target} have different releases.", "Upgrade the older one: pydb migrate")
    missing = _keys(old) - _keys(new)
    if missing:
        raise DirectoryError(
            f"Tokens signed with the key {min(missing)[0]} would be refused in {target}.",
            "Adopt it there: pydb cells adopt-key FILE KID",
        )
    for connection in cells.values():
        session.run(connection, calls.set_home(org_id, source))
    # Refused under a legal hold, and when the source has no such cell: found out before anything is copied.
    with old.transaction(force_rollback=True):
        session.run(old, calls.hold_organisation(org_id, target))
    _settle(old, new, org_id)
    copies = session.run(new, calls.digest_organisation(org_id))
    if any(tenant.moved_to is None for tenant in copies):
        raise DirectoryError(f"{target} has tenants of {org_id} that are open.", "Run: pydb cells check FILE")
    if any(tenant.row_count for tenant in copies):
        # Of a move that was given up. What was erased at the source since may be named in the copy's log.
        say(f"Erasing an earlier copy in {target}.")
        session.run(new, calls.erase_tenant(f"{org_id}:*:*:*:*", "a move was given up"))
    erased = session.run(old, calls.list_erasures())
    last = None
    while True:
        copied, _ = _copy(old, new, org_id)
        say(f"Copied {copied} rows while {org_id} is open.")
        # A round that finds about as much as the last one finds what is saved in the time of a round.
        if copied < FEW_ROWS or (last is not None and copied > last / 2):
            break
        last = copied
    if session.run(old, calls.list_erasures()) != erased:
        raise DirectoryError(f"Something was erased in {source} meanwhile.", "Move again: the copy is made anew.")


def _keys(connection: Connection) -> set[tuple[str, str]]:
    keys = session.run(connection, calls.list_signing_keys())
    return {(key.kid, key.audience) for key in keys if key.retired_at is None}


def _change_over(cells: Connections, org_id: str, source: str, target: str, wait: float, say: Say) -> tuple[float, str]:
    """Close the organisation, copy the rest, and open it in the target. Returns: the seconds, and the digest."""
    old, new = cells[source], cells[target]
    begun = time.monotonic()
    try:
        for connection in (new, old):
            session.run(connection, calls.hold_organisation(org_id, target))
        say(f"Closed {org_id}.")
        _wait_for_others(old, wait)
        session.run(old, calls.hold_organisation(org_id, target))  # what they registered
        for _ in range(MOST_ROUNDS):
            copied, digest = _copy(old, new, org_id)
            say(f"Copied {copied} rows while {org_id} is closed.")
            if not copied:
                break
        else:
            raise DirectoryError(f"The copy in {target} is not what {source} has.", "See the log of both servers.")
        _settle(old, new, org_id)
        session.run(old, calls.release_organisation(org_id, target, digest))
    except BaseException:
        # Not after the release: from then on it lives in the target.
        session.run(old, calls.open_organisation(org_id))
        session.run(new, calls.set_home(org_id, source))
        raise
    say(f"{source} sends its calls to {target}.")
    session.run(new, calls.open_organisation(org_id, digest))
    say(f"Opened it in {target}.")
    return time.monotonic() - begun, digest


def _wait_for_others(connection: Connection, wait: float) -> None:
    """Wait for the transactions that are open in this database: they may have begun before it was closed."""
    # Autovacuum, which no role runs, is not waited for.
    query = """
        select 'process ' || a.pid || ' since transaction ' || l.virtualtransaction
        from pg_locks as l
        join pg_stat_activity as a using (pid)
        where l.locktype = 'virtualxid'
          and a.datname = current_database()
          and a.usename is not null
          and a.pid <> pg_backend_pid()
        union all
        select 'prepared transaction ' || p.gid
        from pg_prepared_xacts as p
        where p.database = current_database()
    """
    end = time.monotonic() + wait
    older = set(connection.execute(query).fetchall())
    while older:
        if time.monotonic() > end:
            raise DirectoryError(
                f"A transaction is open that began before: {min(older)[0]}.",
                "End it, with pg_terminate_backend() or rollback prepared, and move again.",
            )
        time.sleep(0.01)
        older &= set(connection.execute(query).fetchall())


def _copy(old: Connection, new: Connection, org_id: str) -> tuple[int, str]:
    """Make the tenants in the new cell what they are in the old one.

    Returns: how many rows differed, and the digest of the old cell; where none differed, the new one's too.
    """
    there, found = _both(old, new, calls.digest_organisation(org_id))
    here = {tenant.isolation_key: tenant for tenant in found}
    copied = 0
    for tenant in there:
        key = tenant.isolation_key
        if key not in here or here[key].tenant_id != tenant.tenant_id:  # which is refused
            session.run(new, calls.adopt_tenant(key, tenant.tenant_id, tenant.registered_at))
        if key not in here or here[key].digest != tenant.digest:
            copied += _copy_tenant(old, new, key)
    return copied, _digest(there)


def _both(old: Connection, new: Connection, call: calls.Call[T]) -> tuple[T, T]:
    """What both cells answer. They compute it at the same time, since calls may be waiting for it."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(session.run, new, call)
        return session.run(old, call), other.result()


def _copy_tenant(old: Connection, new: Connection, key: str) -> int:
    source, target = _both(old, new, calls.list_rows(key))
    has = set(target)
    keeps = {(row.table_name, row.row_id) for row in source}
    missing = [row for row in source if row not in has]
    gone = [row for row in target if (row.table_name, row.row_id) not in keeps]
    for table, keys in _by_table(gone):
        session.run(new, calls.write_rows(key, table, [], keys))
    for table, keys in _by_table(missing):
        rows = session.run(old, calls.read_rows(key, table, keys))
        session.run(new, calls.write_rows(key, table, rows, []))
    return len(gone) + len(missing)


def _by_table(rows: list[calls.RowDigest]) -> Iterator[tuple[str, list[str]]]:
    """The keys of rows, batch by batch, in the order of the tables."""
    tables: dict[str, list[str]] = {}
    for row in rows:
        tables.setdefault(row.table_name, []).append(row.row_id)
    for table, keys in tables.items():
        size = CHUNKS_AT_ONCE if table == "artifact_chunk" else ROWS_AT_ONCE
        for place in range(0, len(keys), size):
            yield table, keys[place : place + size]


def _settle(old: Connection, new: Connection, org_id: str) -> None:
    """Give the new cell the organisation's authorisations, permits, rules and quotas of the old one, and no others."""

    def is_ours(pattern: str) -> bool:
        return pattern.startswith(f"{org_id}:")

    kinds: list[tuple[Callable[[Connection], set[Any]], Callable[..., calls.Call[Any]], Callable[..., Any]]] = [
        (
            lambda cell: {
                (row.login_name, row.pattern, row.token_only)
                for row in session.run(cell, calls.list_authorizations())
                if is_ours(row.pattern)
            },
            lambda login, pattern, token_only: calls.authorize_login(login, pattern, token_only=token_only),
            lambda login, pattern, _: calls.deauthorize_login(login, pattern),
        ),
        (
            lambda cell: {
                (row.org_id, row.to_org_id)
                for row in session.run(cell, calls.list_external_sharing())
                if row.org_id == org_id
            },
            calls.allow_external_sharing,
            calls.forbid_external_sharing,
        ),
        (
            lambda cell: {
                (row.pattern, row.keep_versions, row.keep_versions_for, row.keep_events_for)
                for row in session.run(cell, calls.list_retention())
                if is_ours(row.pattern)
            },
            lambda pattern, versions, versions_for, events_for: calls.set_retention(
                pattern, keep_versions=versions, keep_versions_for=versions_for, keep_events_for=events_for
            ),
            lambda pattern, *_: calls.drop_retention(pattern),
        ),
        (
            lambda cell: {
                (row.pattern, row.max_models, row.max_bytes)
                for row in session.run(cell, calls.list_quotas())
                if is_ours(row.pattern)
            },
            lambda pattern, models, size: calls.set_quota(pattern, max_models=models, max_bytes=size),
            lambda pattern, *_: calls.drop_quota(pattern),
        ),
    ]
    for read, add, remove in kinds:
        wanted, there = read(old), read(new)
        for row in there - wanted:
            session.run(new, remove(*row))
        for row in wanted - there:
            session.run(new, add(*row))


def _clear(cells: Connections, org_id: str, name: str, target: str, folder: Path) -> dict[str, Any]:
    """Write the bundles of the log of a cell that the organisation left, then erase it there. Returns: the certificate.

    Raises: DirectoryError when the target does not have each of its tenants.
    """
    old = cells[name]
    moved = {tenant.tenant_id for tenant in session.run(cells[target], calls.digest_organisation(org_id))}
    tenants = session.run(old, calls.digest_organisation(org_id))
    for tenant in tenants:
        if tenant.row_count and (tenant.moved_to != target or tenant.tenant_id not in moved):
            raise DirectoryError(
                f"{name} has content of {tenant.isolation_key} that was not moved to {target}.",
                "Nothing was erased. Compare the two: pydb export and select ai_storage.digest_organisation(org_id)",
            )
    seal_all(old)
    session.run(old, calls.create_checkpoint())
    folder.mkdir(exist_ok=True)
    for tenant in tenants:
        path = folder / f"{tenant.tenant_id}.jsonl"
        path.unlink(missing_ok=True)  # of a run that was interrupted
        transfer.export_lines(old, calls.export_tenant_audit(tenant.isolation_key), path)
    certificate = session.run(old, calls.erase_tenant(f"{org_id}:*:*:*:*", f"moved to {target}"))
    (folder / "certificate.json").write_text(json.dumps(certificate) + "\n")
    return certificate


SEALED_AT_ONCE = 50_000  # events in one call, as in ai_storage.seal_audit()


def seal_all(connection: Connection) -> tuple[int, int]:
    """Seal until one call finds less than it takes. Returns: how many events and seals."""
    events = seals = 0
    while True:
        sealed = session.run(connection, calls.seal_audit())
        events, seals = events + sealed.events, seals + sealed.seals
        if sealed.events < SEALED_AT_ONCE:
            return events, seals
