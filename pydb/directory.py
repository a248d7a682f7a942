"""What an administrator does over all cells: set their directory, compare it, and write PgBouncer's. For pydb.cli.

A directory file is JSON: the name of each cell and the DSN of an administrator's login.
"""

from __future__ import annotations

import re
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

__all__ = ["DirectoryError", "apply", "check", "homes", "opened", "pgbouncer", "read"]

Connections = Mapping[str, psycopg.Connection[Any]]


class DirectoryError(Exception):
    """A directory that cannot be. message: what is wrong; hint: what to do about it."""

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

    Raises: DirectoryError when two of them say otherwise.
    """
    said: dict[str, dict[str, calls.Home]] = defaultdict(dict)
    for name, connection in cells.items():
        for home in session.run(connection, calls.list_homes()):
            said[home.org_id][name] = home
    found = {}
    for organisation, by_cell in sorted(said.items()):
        # Cells that have no row for it are not asked.
        different = set(by_cell.values())
        if len(different) > 1:
            words = ", ".join(f"{name} says {home.cell_name}" for name, home in sorted(by_cell.items()))
            raise DirectoryError(
                f"The cells do not agree where the organisation {organisation} lives: {words}.",
                "See which of them has its models, and set it in the others: select ai_storage.set_home(org_id, cell)",
            )
        (found[organisation],) = different
    return found


def apply(cells: Connections, takes_new: str) -> dict[str, calls.Home]:
    """Give all cells the same directory. Returns where each organisation lives.

    Raises: as homes; psycopg.Error.
    """
    names = sorted(cells)
    for name, connection in cells.items():
        session.run(connection, calls.set_cells(names, name, takes_new))
    found = homes(cells)
    for connection in cells.values():
        for home in found.values():
            session.run(connection, calls.set_home(home.org_id, home.cell_name, is_moving=home.is_moving))
    return found


def check(cells: Connections) -> list[str]:
    """What is wrong with the directory of the cells, in sentences; nothing: it is the same in all of them."""
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
    known = {
        name: {home.org_id: home for home in session.run(connection, calls.list_homes())}
        for name, connection in cells.items()
    }
    for organisation in sorted(set().union(*known.values())):
        said = {name: homes_.get(organisation) for name, homes_ in known.items()}
        if len(set(said.values())) > 1:
            words = ", ".join(f"{name} says {home.cell_name if home else 'nothing'}" for name, home in said.items())
            wrong.append(f"The cells do not agree where the organisation {organisation} lives: {words}.")
        elif (home := next(iter(said.values()))) is not None and home.is_moving:
            wrong.append(f"The organisation {organisation} is being moved, and closed.")
    versions = {session.run(connection, calls.version()) for connection in cells.values()}
    if len(versions) > 1:
        wrong.append(f"The cells have different releases: {', '.join(sorted(versions))}.")
    return wrong


# The names that PgBouncer reads in its file, where it takes no quotes. A cell has one.
POOLED = re.compile("[A-Za-z0-9_.-]+")


def pgbouncer(dsns: Mapping[str, str], found: Mapping[str, calls.Home]) -> str:
    """PgBouncer's section [databases]: each cell by its name, and each organisation by its own."""
    lines = ["[databases]"]
    places = {}
    for name, dsn in dsns.items():
        given = conninfo_to_dict(dsn)
        # No login and no password: clients present their own.
        kept = {key: given[key] for key in ("host", "port", "dbname") if given.get(key)}
        places[name] = " ".join(f"{key}={value}" for key, value in kept.items())
        lines.append(f"{name} = {places[name]}")
    lines += [
        f"{organisation} = {places[home.cell_name]}"
        if POOLED.fullmatch(organisation)
        else f"; {organisation} is no name that PgBouncer reads: connect to {home.cell_name}"
        for organisation, home in found.items()
        if home.cell_name in places and organisation not in places
    ]
    return "\n".join(lines) + "\n"
