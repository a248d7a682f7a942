"""What an administrator does over all cells: set their directory, compare it, and write PgBouncer's. For pydb.cli.

A directory file is JSON: the name of each cell and the DSN of an administrator's login.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from . import calls, migrate, session
from .cells import read_dsns
from .dsn import parse

__all__ = ["DirectoryError", "adopt_key", "apply", "check", "homes", "opened", "pgbouncer", "read", "servers"]

Connections = Mapping[str, psycopg.Connection[Any]]


class DirectoryError(Exception):
    """The cells, or the file that names them, are not as a command needs them. hint: what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def read(path: Path) -> dict[str, str]:
    """The name of each cell and its DSN. Raises: DirectoryError, InvalidDsn."""
    try:
        dsns = read_dsns(path)
    except ValueError as error:
        raise DirectoryError(
            str(error),
            'Write JSON: {"east": "host=east dbname=store user=boss", "west": "host=west dbname=store user=boss"}',
        ) from None
    return {name: parse(dsn) for name, dsn in dsns.items()}


@contextmanager
def opened(dsns: Mapping[str, str]) -> Iterator[Connections]:
    """A connection to each cell."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(migrate.connect(dsn)) for name, dsn in dsns.items()}


def homes(cells: Connections) -> dict[str, calls.Home]:
    """Where each organisation lives, as the cells say together.

    Raises: DirectoryError when two of them disagree.
    """
    found = {}
    for organisation, by_cell in _answers(cells).items():
        # Cells that have no row for it do not count.
        different = set(by_cell.values())
        if len(different) > 1:
            words = ", ".join(f"{name} says {home.cell_name}" for name, home in sorted(by_cell.items()))
            raise DirectoryError(
                f"The cells do not agree where the organisation {organisation} lives: {words}.",
                "See which of them has its models. In each other one: select "
                "ai_storage.hold_organisation(org_id, cell), then ai_storage.release_organisation(org_id, cell).",
            )
        (found[organisation],) = different
    return found


def _answers(cells: Connections) -> dict[str, dict[str, calls.Home]]:
    """By organisation, in order, what each cell that knows it says of its home."""
    found: dict[str, dict[str, calls.Home]] = defaultdict(dict)
    for name, connection in cells.items():
        for home in session.run(connection, calls.list_homes()):
            found[home.org_id][name] = home
    return dict(sorted(found.items()))


def lock(cells: Connections, org_id: str | None = None) -> None:
    """Keep others from moving an organisation, or anybody from moving any, as long as these connections last.

    Raises: DirectoryError when somebody does.
    """
    for connection in cells.values():
        query = "select pg_try_advisory_lock(hashtextextended('cells', 0))"
        if org_id is not None:
            query = (
                "select pg_try_advisory_lock_shared(hashtextextended('cells', 0))"
                " and pg_try_advisory_lock(hashtextextended('move ' || %s, 0))"
            )
        if connection.execute(query, None if org_id is None else (org_id,)).fetchone() != (True,):
            raise DirectoryError(
                f"{org_id or 'An organisation'} is being moved already, or the cells are being set.",
                "Wait until that has ended.",
            )


def wait_for_older(connection: psycopg.Connection[Any], wait: float) -> None:
    """Wait for the transactions that are open in this database now. Not for autovacuum, which no role runs."""
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
                f"An older transaction is still open: {min(older)[0]}.",
                "End it, with pg_terminate_backend() or rollback prepared, and run this again.",
            )
        time.sleep(0.01)
        # An older one may have been prepared since, under a name that does not tell.
        older = {row for row in connection.execute(query) if row in older or row[0].startswith("prepared")}


def apply(cells: Connections, takes_new: str) -> dict[str, calls.Home]:
    """Give all cells the same directory. Returns where each organisation lives.

    Raises: as homes, lock and wait_for_older; psycopg.Error.
    """
    lock(cells)
    names = sorted(cells)
    set_already = all(
        {(cell.cell_name, cell.is_here, cell.takes_new) for cell in session.run(connection, calls.list_cells())}
        == {(other, other == name, other == takes_new) for other in names}
        for name, connection in cells.items()
    )
    if not set_already:
        homes(cells)  # contradictions are told before anything is changed
        # Meanwhile no cell takes new ones: each names another. Else one that is just being registered in the cell that
        # took them would be registered in the other one too.
        for name, other in zip(names, names[1:] + names[:1], strict=True):
            session.run(cells[name], calls.set_cells(names, name, other))
        for connection in cells.values():
            wait_for_older(connection, 10)
    found = homes(cells)
    for connection in cells.values():
        for home in found.values():
            session.run(connection, calls.set_home(home.org_id, home.cell_name, is_moving=home.is_moving))
    for name, connection in cells.items():
        session.run(connection, calls.set_cells(names, name, takes_new))
    return found


def adopt_key(cells: Connections, kid: str, secret: str) -> int:
    """Make a signing key valid in the cells that do not have it. Returns how many.

    Raises: DirectoryError unless it is known for one audience; StorageError.
    """
    audiences = {
        name: {key.audience for key in session.run(connection, calls.list_signing_keys()) if key.kid == kid}
        for name, connection in cells.items()
    }
    found = set().union(*audiences.values())
    if len(found) != 1:
        raise DirectoryError(
            f"{'The cells do not agree on the audience of' if found else 'No cell has'} the key {kid}.",
            "See select kid, audience from ai_storage.list_signing_keys()",
        )
    lacking = [name for name, audience in audiences.items() if not audience]
    for name in lacking:
        session.run(cells[name], calls.adopt_signing_key(kid, secret, *found))
    return len(lacking)


def check(cells: Connections) -> list[str]:
    """What is wrong with the directory of the cells, in sentences. Empty when it is the same in all of them."""
    wrong = []
    directories = {name: session.run(connection, calls.list_cells()) for name, connection in cells.items()}
    for name, directory in directories.items():
        here = [cell.cell_name for cell in directory if cell.is_here]
        if here != [name]:
            wrong.append(f"{name} is configured as {here[0] if here else 'a server without cells'}.")
        if sorted(cell.cell_name for cell in directory) != sorted(cells):
            wrong.append(f"{name} knows these cells: {', '.join(cell.cell_name for cell in directory) or 'none'}.")
    new = {name: [cell.cell_name for cell in directory if cell.takes_new] for name, directory in directories.items()}
    if len({tuple(cells_) for cells_ in new.values()}) > 1:
        wrong.append("The cells do not agree which of them takes new organisations.")
    for organisation, by_cell in _answers(cells).items():
        if len({by_cell.get(name) for name in cells}) > 1:
            words = ", ".join(
                f"{name} says {by_cell[name].cell_name if name in by_cell else 'nothing'}" for name in cells
            )
            wrong.append(f"The cells do not agree where the organisation {organisation} lives: {words}.")
        elif next(iter(by_cell.values())).is_moving:
            wrong.append(f"The organisation {organisation} is being moved, and closed.")
        for name, home in by_cell.items():
            if home.cell_name == name and home.closed_tenants and not home.is_moving:
                wrong.append(f"The organisation {organisation} lives in {name}, and is closed there: move it there.")
            if home.cell_name != name and home.open_tenants:
                wrong.append(f"The organisation {organisation} lives in {home.cell_name}, and is open in {name} too.")
    versions = {session.run(connection, calls.version()) for connection in cells.values()}
    if len(versions) > 1:
        wrong.append(f"The cells have different releases: {', '.join(sorted(versions))}.")
    return wrong


def servers(dsns: Mapping[str, str]) -> dict[str, str]:
    """Each cell as PgBouncer's [databases] has it: no login and no password, since clients present their own."""
    given = {name: conninfo_to_dict(dsn) for name, dsn in dsns.items()}
    return {
        name: " ".join(f"{key}={values[key]}" for key in ("host", "port", "dbname") if values.get(key))
        for name, values in given.items()
    }


def pgbouncer(dsns: Mapping[str, str], found: Mapping[str, calls.Home]) -> str:
    """PgBouncer's section [databases]: each cell by its name, and each organisation by its own.

    PgBouncer accepts no name with a character out of + @ ~ = /, and not its own. For such organisations, a comment
    names the cell.
    """
    places = servers(dsns)
    lines = ["[databases]", *(f"{name} = {place}" for name, place in places.items())]
    for organisation, home in found.items():
        if home.cell_name in places and organisation not in places:
            if re.fullmatch(r"(?!pgbouncer$)[A-Za-z0-9._-]+", organisation):
                lines.append(f"{organisation} = {places[home.cell_name]}")
            else:
                lines.append(f"; {organisation}: connect to {home.cell_name}")
    return "\n".join(lines) + "\n"
