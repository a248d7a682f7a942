"""Move an organisation to another cell, while its applications run. For pydb.cli.

The organisation is copied while it is open, and the copy is compared by digests. Then it is closed in both cells, what
changed meanwhile is copied, and it opens in the new cell; only after that it is erased in the old one. If a move is
killed, the next one continues it: the directories of the two cells tell how far it came. It is never open in two cells.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from . import calls, directory, session, transfer
from .directory import Connections, DirectoryError

__all__ = ["Moved", "move", "seal_all"]

ROWS_AT_ONCE = 500
CHUNKS_AT_ONCE = 4  # of 1 MiB, twice as long in JSON
FEW_ROWS = 1000  # differing rows that are left for when the organisation is closed
MOST_ROUNDS = 10  # of copying while it is closed; the second one finds nothing left, unless a row cannot be copied
SEALED_AT_ONCE = 50_000  # events in one call, as in ai_storage.seal_audit()

Connection = psycopg.Connection[Any]
T = TypeVar("T")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved. digest: of all tenants, in the logs of both cells. closed: seconds in which calls waited.

    erased: the cells that were left and erased.
    """

    tenants: int
    rows: int
    digest: str
    closed: float
    erased: list[str]


def move(cells: Connections, org_id: str, target: str, folder: Path, *, wait: float, say: Say) -> Moved:
    """Move an organisation to the cell target, or continue a move that was interrupted.

    folder: for the bundles of its log, and the certificate. wait: seconds to wait for transactions that began before it
    was closed. say: is told each step.
    Raises: DirectoryError, StorageError, TransferError, OSError, psycopg.Error. The organisation is then open in one
    cell, unless one could not be reached: move again.
    """
    if target not in cells:
        raise DirectoryError(f"There is no cell {target}.", "Name one of the file.")
    directory.lock(cells, org_id)
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
    if living:
        (source,) = living
        _reopen(cells, homes, source, say)
        if source != target:
            # What an earlier move left. The log of a copy may name what was erased at the source since.
            _erase_leftovers(cells, org_id, source, folder, say)
            erasures = _prepare(cells, org_id, source, target, say)
            closed, digest = _switch(cells, org_id, source, target, erasures, wait, say)
    else:
        # Interrupted after the source released it. Only the whole copy is opened.
        left = _leftovers(cells, org_id, target)
        if not left:
            raise DirectoryError(f"No cell has tenants of {org_id}.", "Run: pydb cells show FILE")
        tenants = session.run(cells[target], calls.digest_organisation(org_id))
        if not tenants or any(tenant.moved_to != target for tenant in tenants):
            whole = [name for name in left if _is_copy(cells[name], org_id, name)]
            raise DirectoryError(
                f"{org_id} is between two cells.",
                f"End that move first: pydb move-org FILE {org_id} {whole[0] if whole else 'CELL'}",
            )
        say(f"Opening it in {target}.")
        digest = _digest(tenants)
        session.run(cells[target], calls.open_organisation(org_id, digest))
    for connection in cells.values():
        session.run(connection, calls.set_home(org_id, target))
    erased = _erase_leftovers(cells, org_id, target, folder, say)
    moved = session.run(cells[target], calls.digest_organisation(org_id))
    return Moved(len(moved), sum(tenant.row_count for tenant in moved), digest or _digest(moved), closed, erased)


def _leftovers(cells: Connections, org_id: str, target: str) -> list[str]:
    """The cells that have content of the organisation and are not the target."""
    return [
        name
        for name, connection in cells.items()
        if name != target
        and any(tenant.row_count for tenant in session.run(connection, calls.digest_organisation(org_id)))
    ]


def _is_copy(connection: Connection, org_id: str, name: str) -> bool:
    """Whether a cell has a copy of the organisation that was never opened."""
    tenants = session.run(connection, calls.digest_organisation(org_id))
    return bool(tenants) and all(tenant.moved_to == name for tenant in tenants)


def _reopen(cells: Connections, homes: Mapping[str, calls.Home], source: str, say: Say) -> None:
    """Open an organisation where it lives, if an interrupted move left it closed there.

    homes: what each cell that knows it says.
    Raises: DirectoryError when it is open in another cell too.
    """
    here = homes[source]
    for name, home in homes.items():
        if name != source and home.open_tenants:
            raise DirectoryError(f"{name} has tenants of {here.org_id} that are open.", "Run: pydb cells check FILE")
    if here.closed_tenants or here.is_moving:
        say(f"Opening it in {source}, where a move left it closed.")
        session.run(cells[source], calls.open_organisation(here.org_id))
    for connection in cells.values():
        session.run(connection, calls.set_home(here.org_id, source))


def _digest(tenants: list[calls.TenantDigest]) -> str:
    """The sha256, in hexadecimal, of a line per tenant: its key, a blank, its digest."""
    return sha256("".join(f"{tenant.isolation_key} {tenant.digest}\n" for tenant in tenants).encode()).hexdigest()


def _prepare(cells: Connections, org_id: str, source: str, target: str, say: Say) -> list[calls.Erasure]:
    """Check what can be checked, and copy what there is, while the organisation is open at the source.

    Returns: the erasures at the source before it was copied.
    """
    old, new = cells[source], cells[target]
    releases = {session.run(connection, calls.version()) for connection in (old, new)}
    if len(releases) > 1:
        raise DirectoryError(f"{source} and {target} have different releases.", "Upgrade the older one: pydb migrate")
    missing = _signing_keys(old) - _signing_keys(new)
    if missing:
        raise DirectoryError(
            f"Tokens signed with the key {min(missing)[0]} would be refused in {target}.",
            "Adopt it there: pydb cells adopt-key FILE KID",
        )
    # Tried before anything is copied: it is refused under a legal hold, and when the source does not know the target.
    with old.transaction(force_rollback=True):
        session.run(old, calls.hold_organisation(org_id, target))
    _copy_settings(old, new, org_id, quotas=False)
    erasures = session.run(old, calls.list_erasures())
    last = None
    while True:
        copied, _ = _copy(old, new, org_id)
        say(f"Copied {copied} rows while {org_id} is open.")
        # When a round finds about as much as the last one, it finds what is saved while a round runs.
        if copied < FEW_ROWS or (last is not None and copied > last / 2):
            break
        last = copied
    return erasures


def _signing_keys(connection: Connection) -> set[tuple[str, str]]:
    """Those that are valid."""
    keys = session.run(connection, calls.list_signing_keys())
    return {(key.kid, key.audience) for key in keys if key.retired_at is None}


def _switch(
    cells: Connections,
    org_id: str,
    source: str,
    target: str,
    erasures: list[calls.Erasure],
    wait: float,
    say: Say,
) -> tuple[float, str]:
    """Close the organisation, copy the rest, and open it in the target.

    Returns: the seconds for which it was closed, and the digest.
    """
    old, new = cells[source], cells[target]
    begun = time.monotonic()
    try:
        for connection in (new, old):
            session.run(connection, calls.hold_organisation(org_id, target))
        say(f"Closed {org_id}.")
        directory.wait_for_older(old, wait)
        session.run(old, calls.hold_organisation(org_id, target))  # what they registered
        if session.run(old, calls.list_erasures()) != erasures:
            # The log of the copy names what was erased.
            raise DirectoryError(f"Something was erased in {source} meanwhile.", "Move again: it is then copied again.")
        for _ in range(MOST_ROUNDS):
            copied, digest = _copy(old, new, org_id)
            say(f"Copied {copied} rows while {org_id} is closed.")
            if not copied:
                break
        else:
            raise DirectoryError(f"The copy in {target} is not what {source} has.", "See the log of both servers.")
        _copy_settings(old, new, org_id, quotas=True)
        session.run(old, calls.release_organisation(org_id, target, digest))
    except BaseException:
        # Undone only before the release: from then on it lives in the target.
        session.run(old, calls.open_organisation(org_id))
        session.run(new, calls.set_home(org_id, source))
        raise
    say(f"{source} sends its calls to {target}.")
    session.run(new, calls.open_organisation(org_id, digest))
    say(f"Opened it in {target}.")
    return time.monotonic() - begun, digest


def _copy(old: Connection, new: Connection, org_id: str) -> tuple[int, str]:
    """Make the tenants in the new cell what they are in the old one.

    Returns: how many rows differed, and the digest of the old cell. If none differed, the new cell has the same.
    """
    tenants, copies = _both(old, new, calls.digest_organisation(org_id))
    copy_of = {copy.isolation_key: copy for copy in copies}
    copied = 0
    for tenant in tenants:
        key = tenant.isolation_key
        copy = copy_of.get(key)
        if copy is None or copy.tenant_id != tenant.tenant_id:  # another id is refused
            session.run(new, calls.adopt_tenant(key, tenant.tenant_id, tenant.registered_at))
        if copy is None or copy.digest != tenant.digest:
            copied += _copy_tenant(old, new, key)
    return copied, _digest(tenants)


def _both(old: Connection, new: Connection, call: calls.Call[T]) -> tuple[T, T]:
    """Run a call in both cells at the same time, because applications may be waiting. Returns: both answers."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(session.run, new, call)
        return session.run(old, call), other.result()


def _copy_tenant(old: Connection, new: Connection, key: str) -> int:
    """Returns: how many rows differed."""
    source, copy = _both(old, new, calls.list_rows(key))
    copied = set(copy)
    ids = {(row.table_name, row.row_id) for row in source}
    missing = [row for row in source if row not in copied]
    gone = [row for row in copy if (row.table_name, row.row_id) not in ids]
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


def _copy_settings(old: Connection, new: Connection, org_id: str, *, quotas: bool) -> None:
    """Give the new cell the organisation's authorisations, permits, rules and quotas of the old one, and no others.

    quotas: False for none yet: an organisation may have more than its quota allows.
    """

    def set_quota(pattern: str, models: int | None, size: int | None) -> calls.Call[None]:
        return calls.set_quota(pattern, max_models=models, max_bytes=size)

    kinds: list[tuple[calls.Call[Any], Callable[[Any], Any], Callable[..., Any], Callable[..., Any]]] = [
        (
            calls.list_authorizations(),
            attrgetter("pattern", "login_name", "token_only"),
            lambda pattern, login, token_only: calls.authorize_login(login, pattern, token_only=token_only),
            lambda pattern, login, _: calls.deauthorize_login(login, pattern),
        ),
        (
            calls.list_external_sharing(),
            attrgetter("org_id", "to_org_id"),
            calls.allow_external_sharing,
            calls.forbid_external_sharing,
        ),
        (
            calls.list_retention(),
            attrgetter("pattern", "keep_versions", "keep_versions_for", "keep_events_for"),
            lambda pattern, versions, versions_for, events_for: calls.set_retention(
                pattern, keep_versions=versions, keep_versions_for=versions_for, keep_events_for=events_for
            ),
            lambda pattern, *_: calls.drop_retention(pattern),
        ),
        (
            calls.list_quotas(),
            attrgetter("pattern", "max_models", "max_bytes"),
            set_quota,
            lambda pattern, *_: calls.drop_quota(pattern),
        ),
    ]
    for listed, columns, add, remove in kinds:
        wanted, found = (
            {values for values in map(columns, session.run(cell, listed)) if values[0].partition(":")[0] == org_id}
            for cell in (old, new)
        )
        if add is set_quota and not quotas:
            wanted = set()
        for values in found - wanted:
            session.run(new, remove(*values))
        for values in wanted - found:
            session.run(new, add(*values))


def _erase_leftovers(cells: Connections, org_id: str, home: str, folder: Path, say: Say) -> list[str]:
    """Erase the organisation in each cell that it left, after writing the bundles of its log. Returns: these cells.

    Raises: DirectoryError when a cell has content that was not moved to its home.
    """
    moved = {tenant.tenant_id for tenant in session.run(cells[home], calls.digest_organisation(org_id))}
    left = _leftovers(cells, org_id, home)
    for name in left:
        say(f"Writing the bundle of its log, and erasing it in {name}.")
        old = cells[name]
        tenants = session.run(old, calls.digest_organisation(org_id))
        for tenant in tenants:
            # An open one is no copy.
            if tenant.row_count and (tenant.moved_to is None or tenant.tenant_id not in moved):
                raise DirectoryError(
                    f"{name} has content of {tenant.isolation_key} that was not moved to {home}.",
                    "Nothing was erased there. Compare the two: select * from ai_storage.digest_organisation(org_id)",
                )
        seal_all(old)
        session.run(old, calls.create_checkpoint())
        (folder / name).mkdir(parents=True, exist_ok=True)
        for tenant in tenants:
            path = folder / name / f"{tenant.tenant_id}.jsonl"
            path.unlink(missing_ok=True)  # of a run that was interrupted
            transfer.export_lines(old, calls.export_tenant_audit(tenant.isolation_key), path)
        certificate = session.run(old, calls.erase_tenant(f"{org_id}:*:*:*:*", f"moved to {home}"))
        (folder / name / "certificate.json").write_text(json.dumps(certificate) + "\n")
    return left


def seal_all(connection: Connection) -> tuple[int, int]:
    """Seal until one call finds less than it takes. Returns: how many events and seals."""
    events = seals = 0
    while True:
        sealed = session.run(connection, calls.seal_audit())
        events, seals = events + sealed.events, seals + sealed.seals
        if sealed.events < SEALED_AT_ONCE:
            return events, seals
