"""The file of a tenant's export: a manifest, then its records, a line each, byte for byte as the server writes them.
And the bundle of its log.

The manifest counts the records and holds the sha256 of the sha256 of each line, so a file that was cut off or edited is
known before anything is imported. Nothing here holds more than a batch in memory.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg.rows import tuple_row
from psycopg.types.string import TextLoader

from . import calls, session
from .adapters import GUARD, Cursor
from .errors import translate

__all__ = [
    "Manifest",
    "Progress",
    "TransferError",
    "check",
    "export_audit",
    "export_lines",
    "export_tenant",
    "import_tenant",
    "sync_folder",
]

#: Takes what passes and how much there is of it, and hands it on.
Progress = Callable[[Iterable[str], int], Iterable[str]]

LONGEST_MANIFEST = 65536  # bytes; no manifest comes near it
LONGEST_RECORD = 8 * 2**20  # bytes; metadata has 1 MiB, metrics 256 KiB
FETCH_LINES = 100
FETCH_LENGTH = 8 * 2**20  # characters, about: a chunk's line has 1.4 million
BATCH_LINES = 500
BATCH_LENGTH = 4 * 2**20  # characters


class TransferError(Exception):
    """Nothing was written or imported. message: what is wrong; hint: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Manifest:
    """The first line of an export. isolation_key: whose. digest: hexadecimal, of the further lines."""

    isolation_key: str
    records: int
    digest: str


def export_tenant(
    connection: psycopg.Connection[Any], credential: str | None, path: Path, progress: Progress
) -> Manifest:
    """Write all that a tenant has into a new file, which is there whole or not at all, and for its owner only to read.

    Raises: TransferError when the file exists; OSError when it cannot be written; StorageError and psycopg.Error.
    """
    with _new_file(path) as file:
        with closing(_lines(connection, calls.export_tenant(), credential)) as lines:
            first = next(lines)
            file.write(f"{first}\n".encode())
            file.writelines(f"{line}\n".encode() for line in progress(lines, json.loads(first)["records"]))
        file.flush()
        # What is kept is what an import takes.
        file.seek(0)
        return check(file, path)


def export_audit(
    connection: psycopg.Connection[Any], credential: str | None, path: Path
) -> tuple[Counter[str], calls.AuditVerification]:
    """Write the bundle of a tenant's sealed log into a new file, as export_tenant does.

    Returns: how many lines there are of each kind, event, seal and checkpoint; and what verify_audit tells of the same
    state, such as how many events are not sealed.
    Raises: TransferError when the file exists, or nothing is sealed; OSError; StorageError and psycopg.Error.
    """
    counts: Counter[str] = Counter()
    with connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        verification = session.run(connection, calls.verify_audit(), credential)
        with _new_file(path) as file, closing(_lines(connection, calls.export_audit(), credential)) as lines:
            for line in lines:
                counts[json.loads(line)["kind"]] += 1
                file.write(f"{line}\n".encode())
            if not counts["event"]:
                raise TransferError(
                    f"Nothing of this tenant's log is sealed yet. Events that wait for it: {verification.pending}.",
                    "An administrator seals them: pydb seal. Without any, compare the five levels.",
                )
    return counts, verification


def export_lines(connection: psycopg.Connection[Any], call: calls.Call[Any], path: Path) -> None:
    """Write what a call returns, a line each, into a new file, as export_tenant does.

    Raises: TransferError when the file exists; OSError; StorageError and psycopg.Error.
    """
    with _new_file(path) as file, closing(_lines(connection, call, None)) as lines:
        file.writelines(f"{line}\n".encode() for line in lines)


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there whole, under a name that nothing had, when the block ends without an error."""
    taken = TransferError(f"{path} exists already.", "Name a file that does not exist.")
    if os.path.lexists(path):
        raise taken
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".part") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)  # not a rename, which replaces what has come there meanwhile
        except FileExistsError:
            raise taken from None
    sync_folder(path.parent)


def _lines(
    connection: psycopg.Connection[Any], call: calls.Call[Any], credential: str | None
) -> Generator[str, None, None]:
    """What a call returns, text by text as the server writes it."""
    try:
        with connection.transaction(), connection.cursor("export", row_factory=tuple_row) as cursor:
            Cursor(connection).execute(GUARD)
            # Parsed and written again, a number might be another one.
            cursor.adapters.register_loader("jsonb", TextLoader)
            cursor.execute(call.query, call.bind(credential))
            size = 1
            while rows := cursor.fetchmany(size):
                yield from (line for (line,) in rows)
                # Lines of one kind stand together, so the next ones are about as long.
                size = max(1, min(FETCH_LINES, FETCH_LENGTH // len(rows[-1][0])))
    except psycopg.Error as error:
        raise translate(error) from error


def import_tenant(
    connection: psycopg.Connection[Any], credential: str | None, path: Path, progress: Progress
) -> tuple[Manifest, int]:
    """Restore an export into a tenant, in one transaction, once the whole file was checked.

    Returns: its manifest, and how many of its records were restored.
    Raises: TransferError when the file is no whole export; OSError; StorageError and psycopg.Error. Nothing is imported
    then.
    """
    imported = 0
    with open(path, "rb") as file:
        check(file, path)
        file.seek(0)
        with connection.transaction():
            # Checked again on the way: the file may have been changed meanwhile.
            manifest = _manifest(file, path)
            for batch in _batches(progress(_records(file, path, manifest), manifest.records)):
                imported += session.run(connection, calls.import_tenant(batch), credential)
    return manifest, imported


def check(file: IO[bytes], path: Path) -> Manifest:
    """Read a whole export, and compare it with its manifest.

    Raises: TransferError, OSError.
    """
    manifest = _manifest(file, path)
    for _ in _records(file, path, manifest):
        pass
    return manifest


def _manifest(file: IO[bytes], path: Path) -> Manifest:
    try:
        line = json.loads(file.readline(LONGEST_MANIFEST))
        manifest = Manifest(line["isolation_key"], line["records"], line["digest"])
        texts = (manifest.isolation_key, manifest.digest)
        if line["kind"] != "manifest" or type(manifest.records) is not int or type(line["format"]) is not int:
            raise ValueError
        if not all(type(text) is str and text.isprintable() for text in texts):
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise TransferError(f"{path} is not an export of a tenant.", "Name a file that pydb export wrote.") from error
    if line["format"] != 1:
        raise TransferError(f"{path} has a format that this release does not know.", "Upgrade pydb.")
    return manifest


def _records(file: IO[bytes], path: Path, manifest: Manifest) -> Iterator[str]:
    """The records of an export after its manifest. At their end it is known whether they were all, and unchanged."""
    digest, count, last = sha256(), 0, b"\n"
    changed = TransferError(f"{path} was changed after it was written.", "Take an unchanged copy, or export again.")
    while line := file.readline(LONGEST_RECORD + 1):
        if len(line) > LONGEST_RECORD:
            raise changed
        digest.update(sha256(line.removesuffix(b"\n")).digest())
        count += 1
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise changed from None
        yield text
        last = line
    if count < manifest.records or not last.endswith(b"\n"):
        raise TransferError(
            f"{path} ends too early: it holds {count} of {manifest.records} records, or less.",
            "Copy the file once more, or export again.",
        )
    if count > manifest.records or digest.hexdigest() != manifest.digest:
        raise changed


def _batches(lines: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    length = 0
    for line in lines:
        batch.append(line)
        length += len(line)
        if len(batch) == BATCH_LINES or length >= BATCH_LENGTH:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def sync_folder(path: Path) -> None:
    """Make a new name in a folder last through a crash."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
