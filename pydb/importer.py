"""Imports models that lie in JSON files, such as those of a system that kept a folder per server and project.

A file holds one model, an array of them (`.json`), or one on each line (`.jsonl`, `.ndjson`). It is saved whole or not
at all. A file that names several tenants, each of which takes a transaction of its own, is rehearsed first: only a
crash can leave a part of it.

A state that a model has, or had in a version that is kept, is not saved again. So a repetition saves nothing, one after
a crash goes on, and an old file does not undo what an application saved since. Idempotency keys would do that too, but
each would leave a row for ever, for what is done once, and keep the database from writing many models at once.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psycopg

from . import calls, session, token
from .errors import InvalidArgument, StorageError, VersionConflict
from .transfer import Progress

__all__ = ["MAX_FILE", "Report", "Skipped", "TenantCount", "check_template", "import_files"]

MAX_FILE = 32 * 2**20  # bytes of a file of lines
MAX_JSON = 8 * 2**20  # bytes that are parsed at once; the most hostile ones take some 25 times as much memory
MAX_RECORD = 2 * 2**20  # bytes of a record, written again; the database takes 1.25 MiB
MAX_WEIGHT = 128 * 2**20  # bytes that the records of a file, and those of all that wait to be saved, take in memory
RECORD_WEIGHT = 256  # bytes that a record takes besides its own
BATCH = 1000  # models that are saved at once
BATCH_SIZE = 4 * 2**20  # bytes that are saved at once
HISTORY = 20  # versions that are loaded at once; each may have 1 MiB
LINES = (".jsonl", ".ndjson")
SUFFIXES = (".json", *LINES)

# A record's field -> ours. Any other goes into the metadata, so that nothing is lost.
FIELDS = {
    "model_name": "model_name",
    "modelName": "model_name",
    "mse": "mse",
    "training_samples": "training_samples",
    "trainingSamples": "training_samples",
    "metrics": "metrics",
    "metadata": "metadata",
}
FOLDER = re.compile(r"\{([0-9]{1,9})\}")
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class TenantCount:
    """What went into a tenant. files: that named it. unchanged: models' states that it had already."""

    isolation_key: str
    files: int
    saved: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or folder, of which nothing was saved. path: below the one that was named, printable."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What an import did. files: that were saved or had been. saved, unchanged: states of models, in all tenants."""

    files: int
    saved: int
    unchanged: int
    tenants: list[TenantCount]
    skipped: list[Skipped]


class _Refused(Exception):
    """Why a file is skipped."""


@dataclass(frozen=True, slots=True)
class _Record:
    """One model of a file. number: its place there, from 1. item: the JSON that save_progress_batch takes.

    Not parsed: so it takes as much memory as it has bytes, whatever it holds.
    """

    number: int
    name: str
    item: bytes


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    weight: int
    tenants: dict[str, list[_Record]]  # by credential


# A thread's work: what it did to which tenants, and the files it skipped.
_Done = tuple[list[TenantCount], list[Skipped]]


def check_template(template: str) -> None:
    """Raises: ValueError when a credential with placeholders is none."""
    if "{" in template or "}" in template:
        filled = PLACEHOLDER.sub("x", template)
        if any(token.LEVEL.fullmatch(level) is None for level in filled.split(":")) or filled.count(":") != 4:
            raise ValueError("expected five levels joined by colons, each with {NUMBER} or {FIELD} where it differs")


def import_files(
    connections: Sequence[psycopg.Connection[Any]],
    path: Path,
    template: str,
    progress: Progress,
    *,
    dry_run: bool = False,
) -> Report:
    """Save the models of a file, or of all JSON files of a folder and those in it.

    connections: in autocommit; as many files are saved at the same time. template: a credential. In an isolation key
    `{1}` stands for the first folder below path, `{name}` for a field of the record, `{a.b}` for one inside another.
    progress: takes the files' paths. dry_run: do the same, and roll it back.
    Raises: OSError when path is not there; psycopg.Error. What was saved until then stays, and is not saved again.
    """
    root = path.resolve(strict=True)
    paths, skipped = _find(root)
    not_files = len(skipped)
    idle: SimpleQueue[psycopg.Connection[Any]] = SimpleQueue()
    for connection in connections:
        idle.put(connection)

    def work(files: list[_File]) -> _Done:
        connection = idle.get()
        try:
            return _save(connection, files, dry_run)
        finally:
            idle.put(connection)

    counts: list[TenantCount] = []
    running: dict[Future[_Done], set[tuple[str, str]]] = {}
    weights: dict[Future[_Done], int] = {}

    def finish(most: int) -> None:
        while len(running) > most or (running and sum(weights.values()) > MAX_WEIGHT):
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future], weights[future]
                done, refused = future.result()
                counts.extend(done)
                skipped.extend(refused)

    with ThreadPoolExecutor(len(connections)) as pool:
        for files in _together(_read_all(root, progress(paths, len(paths)), template, skipped)):
            names = {
                (key, record.name) for file in files for key, records in file.tenants.items() for record in records
            }
            # States of one model are saved in the order of their files.
            if any(not names.isdisjoint(others) for others in running.values()):
                finish(0)
            future = pool.submit(work, files)
            running[future] = names
            weights[future] = sum(file.weight for file in files)
            del files, names, future
            finish(2 * len(connections))
        finish(0)

    saved: Counter[str] = Counter()
    unchanged: Counter[str] = Counter()
    files_of: Counter[str] = Counter()
    for count in counts:
        saved[count.isolation_key] += count.saved
        unchanged[count.isolation_key] += count.unchanged
        files_of[count.isolation_key] += count.files
    return Report(
        files=len(paths) - (len(skipped) - not_files),
        saved=saved.total(),
        unchanged=unchanged.total(),
        tenants=[TenantCount(key, files_of[key], saved[key], unchanged[key]) for key in sorted(files_of)],
        skipped=sorted(skipped, key=lambda one: one.path),
    )


# Reading


def _find(root: Path) -> tuple[list[str], list[Skipped]]:
    """The JSON files below a folder, in the order of their names, and the folders that are left out."""
    if not root.is_dir():
        return [str(root)], []
    paths: list[str] = []
    skipped: list[Skipped] = []

    def refuse(error: OSError) -> None:
        skipped.append(Skipped(_shown(str(error.filename), root), _said(error)))

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders.sort()
        links = [path for path in (os.path.join(folder, name) for name in folders) if os.path.islink(path)]
        skipped += [Skipped(_shown(path, root), "a symbolic link, which is not followed") for path in links]
        paths += [os.path.join(folder, name) for name in sorted(names) if name.endswith(SUFFIXES)]
    return paths, skipped


def _shown(path: str, root: Path) -> str:
    """A path below root that a terminal may be shown: what is not printable is escaped."""
    below = os.path.relpath(path, root) if path != str(root) else root.name
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in below)


def _said(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a symbolic link, which is not followed"
    return f"cannot be read: {error.strerror}"


def _read_all(root: Path, paths: Iterable[str], template: str, skipped: list[Skipped]) -> Iterator[_File]:
    """The files that can be read. Adds the others to skipped."""
    for path in paths:
        try:
            yield _read_file(root, path, template)
        except OSError as error:
            skipped.append(Skipped(_shown(path, root), _said(error)))
        except _Refused as refused:
            skipped.append(Skipped(_shown(path, root), str(refused)))


def _read_file(root: Path, path: str, template: str) -> _File:
    lines = path.endswith(LINES)
    folders = os.path.relpath(path, root).split(os.sep)[:-1] if path != str(root) else []
    place = FOLDER.sub(partial(_folder, folders), template)
    tenants: dict[str, list[_Record]] = {}
    weight = 0
    for number, fields in enumerate(_parse(_read(path, MAX_FILE if lines else MAX_JSON), lines), 1):
        try:
            record = _record(number, fields)
            weight += len(record.item) + RECORD_WEIGHT
            if weight > MAX_WEIGHT:
                raise _Refused("too many for one file: split it")
            credential = PLACEHOLDER.sub(partial(_field, fields), place)
            tenants.setdefault(credential, []).append(record)
        except _Refused as refused:
            raise _Refused(f"record {number}: {refused}") from None
    return _File(_shown(path, root), weight, tenants)


def _read(path: str, most: int) -> bytes:
    # Not blocking: a pipe without a writer would never open.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _Refused("not a regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise _Refused(f"larger than {most // 2**20} MiB: split it, into lines of JSON (.jsonl) for example")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("a name stands twice in one object")
    return found


def _constant(text: str) -> None:
    raise _Refused(f"{text} is not JSON")


# One for all: made anew for each line, it takes as long as to read the line.
_load = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant).decode


def _parse(data: bytes, lines: bool) -> Iterator[Any]:
    """The records of a file. lines: it has one on each line."""
    try:
        if lines:
            for number, line in enumerate(BytesIO(data.removeprefix(BOM_UTF8)), 1):
                if not line.isspace():
                    try:
                        if len(line) > MAX_JSON:
                            raise _Refused(f"larger than {MAX_JSON // 2**20} MiB")
                        yield _load(line.decode())
                    except (ValueError, RecursionError, _Refused) as error:
                        raise _Refused(f"line {number}: {_why(error)}") from None
        else:
            found = _load(data.decode("utf-8-sig"))
            yield from found if isinstance(found, list) else [found]
    except (ValueError, RecursionError) as error:
        raise _Refused(_why(error)) from None


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error) if isinstance(error, _Refused) else f"not JSON: {error}"


def _record(number: int, fields: Any) -> _Record:
    if not isinstance(fields, dict):
        raise _Refused("not an object")
    item: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in fields.items():
        ours = FIELDS.get(name)
        if ours is None:
            others[name] = value
        elif ours in item:
            raise _Refused(f"{ours} is named twice")
        else:
            item[ours] = value
    model_name = item.get("model_name")
    if not isinstance(model_name, str):
        raise _Refused("model_name, or modelName, is missing or no text")
    if others:
        metadata = item.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise _Refused("metadata is not an object")
        if not others.keys().isdisjoint(metadata):
            raise _Refused("a field stands in the metadata too")
        item["metadata"] = {**metadata, **others}
    try:
        text = json.dumps(item, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise _Refused("a text holds half a character") from None
    except (ValueError, RecursionError) as error:
        raise _Refused(_why(error)) from None
    if len(text) > MAX_RECORD:
        raise _Refused(f"larger than {MAX_RECORD // 2**20} MiB; metadata has at most 1 MiB")
    return _Record(number, model_name, text)


def _folder(folders: Sequence[str], match: re.Match[str]) -> str:
    number = int(match[1])
    return _level(match, folders[number - 1] if 0 < number <= len(folders) else None)


def _field(fields: Any, match: re.Match[str]) -> str:
    for name in match[1].split("."):
        fields = fields.get(name) if isinstance(fields, dict) else None
    return _level(match, str(fields) if isinstance(fields, int) and not isinstance(fields, bool) else fields)


def _level(match: re.Match[str], value: Any) -> str:
    # A colon in it would make two levels of one.
    if not isinstance(value, str) or token.LEVEL.fullmatch(value) is None:
        raise _Refused(f"{match[0]} is missing, or is nothing that a level of a tenant can hold")
    return value


def _together(files: Iterable[_File]) -> Iterator[list[_File]]:
    """Neighbours of one tenant, as many as are saved at once; a file of several tenants by itself."""
    some: list[_File] = []
    count = size = 0
    for file in files:
        models = sum(map(len, file.tenants.values()))
        fits = count + models <= BATCH and size + file.weight <= BATCH_SIZE
        if some and not (fits and len(file.tenants) == 1 and file.tenants.keys() == some[0].tenants.keys()):
            yield some
            some, count, size = [], 0, 0
        some.append(file)
        count += models
        size += file.weight
    if some:
        yield some


# Saving


def _save(connection: psycopg.Connection[Any], files: list[_File], dry_run: bool) -> _Done:
    tenants: dict[str, list[_Record]] = {}
    for file in files:
        for credential, records in file.tenants.items():
            tenants.setdefault(credential, []).extend(records)
    counts: list[TenantCount] = []
    try:
        if len(tenants) > 1 or dry_run:
            counts = [_save_tenant(connection, *one, len(files), rehearsal=True) for one in tenants.items()]
        if not dry_run:
            counts = [_save_tenant(connection, *one, len(files)) for one in tenants.items()]
        return counts, []
    except (StorageError, RecursionError) as error:
        if len(files) == 1:
            return [], [Skipped(files[0].path, _refusal(connection, files[0], error))]
    # One of them is refused.
    skipped: list[Skipped] = []
    for file in files:
        done, refused = _save(connection, [file], dry_run)
        counts += done
        skipped += refused
    return counts, skipped


def _save_tenant(
    connection: psycopg.Connection[Any],
    credential: str,
    records: list[_Record],
    files: int,
    *,
    rehearsal: bool = False,
) -> TenantCount:
    with connection.transaction(force_rollback=rehearsal):
        key = session.run(connection, calls.set_tenant(credential))
        new = records
        try:
            with connection.transaction():
                _save_records(connection, new, {})
        except VersionConflict:
            # Some of the models are there.
            new, versions = _compare(connection, records)
            _save_records(connection, new, versions)
    return TenantCount(key, files, len(new), len(records) - len(new))


def _save_records(connection: psycopg.Connection[Any], records: Sequence[_Record], versions: Mapping[str, int]) -> None:
    """Save records of the transaction's tenant. versions: of the models that are there."""
    seen: set[str] = set()
    for batch in _batches(records, BATCH):
        items = []
        for record in batch:
            item = record.item
            if record.name not in seen:
                item = b'%s,"expected_version":%d}' % (item[:-1], versions.get(record.name, 0))
            seen.add(record.name)
            items.append(item)
        session.run(connection, _save_batch(items))


def _save_batch(items: Iterable[bytes]) -> calls.Call[list[calls.Saved]]:
    """save_progress_batch() of items that are JSON already."""
    return replace(calls.save_progress_batch([]), params=(f"[{b','.join(items).decode()}]",))


def _batches(records: Iterable[_Record], most: int) -> Iterator[list[_Record]]:
    """Records that are sent at once. most: how many at most."""
    batch: list[_Record] = []
    size = 0
    for record in records:
        if batch and (len(batch) == most or size + len(record.item) > BATCH_SIZE):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record.item)
    if batch:
        yield batch


def _compare(connection: psycopg.Connection[Any], records: Iterable[_Record]) -> tuple[list[_Record], dict[str, int]]:
    """Returns: the records that hold a state which their model never had, and the versions of the models there are."""
    wanted: dict[str, set[bytes]] = {}
    states = [(record, _state(**json.loads(record.item))) for record in records]
    for record, state in states:
        wanted.setdefault(record.name, set()).add(state)
    versions: dict[str, int] = {}
    for name, unknown in wanted.items():
        for model in session.run(connection, calls.load_progress(name, scope="own")):
            versions[name] = model.version
            unknown.discard(_state("", model.mse, model.training_samples, model.metrics, model.metadata))
            before: int | None = model.version
            while unknown and before is not None:
                history = session.run(connection, calls.load_history(name, before_version=before, limit=HISTORY))
                for one in history:
                    unknown.discard(_state("", one.mse, one.training_samples, one.metrics, one.metadata))
                before = history[-1].version if history else None
    return [record for record, state in states if state in wanted[record.name]], versions


def _state(
    model_name: str, mse: Any = None, training_samples: Any = None, metrics: Any = None, metadata: Any = None
) -> bytes:
    """What is compared of a model: equal for states that the database holds as equal, whatever their notation."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        # As it is sent and kept: in decimal digits, 1e16 as an integer.
        return int(Decimal(repr(value))) if isinstance(value, float) and value.is_integer() else value

    text = json.dumps(plain([mse, training_samples, metrics or {}, metadata or {}]), sort_keys=True)
    return sha256(text.encode()).digest()


def _refusal(connection: psycopg.Connection[Any], file: _File, error: Exception) -> str:
    """Why a file was refused, and in which of its records."""
    if isinstance(error, VersionConflict):
        return "somebody else saved one of its models meanwhile; import it again"
    if isinstance(error, InvalidArgument):
        for credential, records in file.tenants.items():
            found = _find_refused(connection, credential, records, BATCH)
            if found:
                return found
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _find_refused(
    connection: psycopg.Connection[Any], credential: str, records: Sequence[_Record], size: int
) -> str | None:
    """The first record that the database refuses, and why. size: how many to try at once."""
    for part in _batches(records, size):
        try:
            with connection.transaction(force_rollback=True):
                session.run(connection, calls.set_tenant(credential))
                session.run(connection, _save_batch(record.item for record in part))
        except InvalidArgument as refused:
            return (
                f"record {part[0].number}: {refused}" if size == 1 else _find_refused(connection, credential, part, 1)
            )
    return None
