"""The bytes of models, put and got in parts: in constant memory, and compared by their sha256 at both ends.

save(), put() and get() are generators of steps: Calls, and requests to a cache if there is one. They touch nothing but
the caller's files. `drive` and `drive_async` run them; the storages' methods of these names are that.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from io import BytesIO
from os import PathLike
from typing import IO, Any, Protocol, TypeVar, cast

import psycopg
from psycopg_pool import PoolTimeout

from . import _files, calls
from .calls import OCTETS, Call, Opened, Put, Saved, Upload
from .errors import ContentMismatch, UploadNotFound, UploadOffset

__all__ = [
    "CHUNK",
    "PART",
    "CachedContent",
    "ContentCache",
    "Digest",
    "Fetch",
    "Keep",
    "Progress",
    "Source",
    "Step",
    "Steps",
    "Target",
    "drive",
    "drive_async",
    "get",
    "put",
    "save",
]

T = TypeVar("T")

CHUNK = 2**20  # bytes; as the database keeps them
PART = 2 * CHUNK  # bytes in one call; larger ones cost more: the allocators of both ends give them back each time
INLINE = 256 * 1024  # bytes that go along with a save, larger ones are uploaded before
ATTEMPTS = 5  # of what can be repeated; a pool may have as many dead connections

#: A path, bytes, or a file open for reading in binary, from where it stands.
Source = str | PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
#: A path, or a file open for writing in binary.
Target = str | PathLike[str] | IO[bytes]
#: Is told how many bytes are done, and of how many; None when the source does not tell.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the cache for values. The answer: a list, None for each that it does not have."""

    names: list[str]


@dataclass(frozen=True, slots=True)
class Keep:
    """Have the cache keep values by their names. It may not."""

    values: dict[str, bytes]


Step = Call[Any] | Fetch | Keep
Steps = Generator[Step, Any, T]


class CachedContent(Protocol):
    """What a cache has of one content."""

    @property
    def chunks(self) -> list[bytes] | None:
        """The sha256s of the content's chunks, which fit its own; or None while they are not known."""

    def read(self, first: int, count: int) -> Steps[list[bytes] | None]:
        """Chunks by their numbers, or None unless it has them all."""

    def keep(self, digests: list[bytes], chunks: list[bytes]) -> Steps[None]:
        """Take chunks as the database gave them, with their sha256s."""

    def finish(self, digests: list[bytes]) -> Steps[None]:
        """Take the sha256s of all chunks, once they fit the content's."""


class ContentCache(Protocol):
    """What carries bytes faster than the database: see `pydb.cache`. Whose they are, the database says."""

    def content(self, opened: Opened) -> Steps[CachedContent | None]:
        """What it has of a content; None when the content is not to be cached."""


class Digest:
    """The sha256 of a content as the database makes it. size: bytes so far. chunks: sha256 of each chunk so far."""

    def __init__(self) -> None:
        self.size = 0
        self.chunks: list[bytes] = []

    def add(self, *chunks: bytes | memoryview) -> list[bytes]:
        """Add the next chunks, all whole but the content's last. Returns their sha256s."""
        digests = [sha256(chunk).digest() for chunk in chunks]
        self.chunks += digests
        self.size += sum(map(len, chunks))
        return digests

    def hexdigest(self) -> str:
        """The content's sha256, hexadecimal: up to one chunk that of the bytes, above that of the chunks' sha256s."""
        return (self.chunks[0] if len(self.chunks) == 1 else sha256(b"".join(self.chunks)).digest()).hex()


def _cut(part: bytes) -> list[memoryview]:
    """A part as chunks."""
    view = memoryview(part)
    return [view[start : start + CHUNK] for start in range(0, len(view), CHUNK)]


# Saving and putting


def save(
    model_name: str,
    mse: float | None = None,
    *,
    artifacts: Mapping[str, Source],
    progress: Progress | None = None,
    resume: bool = True,
    **state: Any,
) -> Steps[Saved]:
    """Save the state of one model together with its artifacts: all of it or nothing, in one commit.

    state: as of pydb.calls.save_progress.
    Raises: what calls.save_progress and put raise.
    """
    with ExitStack() as stack:
        files = {name: stack.enter_context(_files.reading(source)) for name, source in artifacts.items()}
        measured = {name: _files.measure(file) for name, file in files.items()}
        sizes = [size for _, size in measured.values()]
        whole = None if None in sizes else sum(size or 0 for size in sizes)
        for last in (not resume, True):
            named: dict[str, Any] = {}
            uploads: list[Any] = []
            done = 0
            try:
                for name, file in files.items():
                    start, size = measured[name]
                    report = partial(_report, progress, done, whole)
                    if size is not None:
                        file.seek(start)
                    part = _read(file)
                    if len(part) <= INLINE:
                        named[name] = {"content": b64encode(part).decode()}
                        report(len(part), None)
                        done += len(part)
                        continue
                    upload_id, digest, _ = yield from _send(
                        file,
                        start,
                        size,
                        part,
                        calls.begin_artifact(artifact_name=name),
                        calls.stage_artifact,
                        None if last else partial(_is_for_save, name),
                        report,
                        resume,
                    )
                    uploads.append(upload_id)
                    named[name] = str(upload_id)
                    done += digest.size
                call = calls.save_progress(model_name, mse, artifacts=named, **state)
                # Under a key it is safe to repeat.
                saved: Saved = yield from (_again(call) if state.get("idempotency_key") is not None else _once(call))
            except UploadNotFound:
                # Somebody else saves the same bytes, and went on with our upload: send them once more.
                if last or None in sizes:
                    raise
            except Exception:
                if not resume:
                    for upload_id in uploads:
                        yield calls.abort_artifact(upload_id)
                raise
            else:
                if state.get("idempotency_key") is not None:
                    for upload_id in uploads:  # a repetition does not use them up
                        yield calls.abort_artifact(upload_id)
                return saved
    raise AssertionError("unreachable")


def _report(progress: Progress | None, before: int, whole: int | None, done: int, total: int | None) -> None:
    if progress:
        progress(before + done, whole)


def _is_for_save(artifact_name: str, upload: Upload) -> bool:
    return (upload.model_name, upload.artifact_name) == (None, artifact_name)


def put(
    model_name: str,
    artifact_name: str,
    source: Source,
    *,
    media_type: str = OCTETS,
    version: int | None = None,
    expected_version: int | None = None,
    progress: Progress | None = None,
    resume: bool = True,
) -> Steps[Put]:
    """Keep bytes as an artifact of one version of an own model, in place of what it had under the name.

    version: None for the one that is current when it begins. expected_version: only if that is the current one. To save
    a state and its artifacts at once, pass them to save_ai_progress.
    source: read once to its end, in constant memory. progress: of a storage that is asynchronous, called in another
    thread. resume: go on with an interrupted upload of the same bytes under the same name; what arrived of this one
    stays for a day to go on with. False: begin anew, and take back what arrived when it fails.
    Raises: InvalidArgument (22023), ArtifactTooLarge (54000), ModelNotFound (TN101), VersionConflict (TN102),
    ContentMismatch (TN203); OSError.
    Source: sql/25_artifact.sql, ai_storage.put_artifact, ai_storage.append_artifact
    """
    report = progress or (lambda done, total: None)
    with _files.reading(source) as file:
        start, size = _files.measure(file)
        part = _read(file)
        if len(part) <= CHUNK and len(part) < PART:
            saved: Put = yield calls.put_artifact(
                model_name,
                artifact_name,
                part,
                media_type=media_type,
                version=version,
                expected_version=expected_version,
            )
            digest = Digest()
            digest.add(*_cut(part))
            if saved.sha256 != digest.hexdigest():
                raise _mismatch()
            report(len(part), len(part))
            return saved

        def fits(upload: Upload) -> bool:
            return (
                (upload.model_name, upload.artifact_name, upload.media_type) == (model_name, artifact_name, media_type)
                and (upload.is_current is True if version is None else upload.version == version)
                and (expected_version is None or (upload.is_current is True and upload.version == expected_version))
            )

        _, _, saved = yield from _send(
            file,
            start,
            size,
            part,
            calls.begin_artifact(
                model_name,
                artifact_name,
                media_type=media_type,
                version=version,
                expected_version=expected_version,
            ),
            calls.finish_artifact,
            fits if resume else None,
            report,
            resume,
        )
        return saved


def _send(
    file: IO[bytes],
    start: int,
    size: int | None,
    part: bytes,
    begin: Call[Any],
    end: Callable[[Any, int, str], Call[T]],
    fits: Callable[[Upload], bool] | None,
    report: Progress,
    resume: bool,
) -> Steps[tuple[Any, Digest, T]]:
    """Upload a file of which one part has been read. fits: whether to go on with an upload; None: with none."""
    found = None
    if fits is not None and size is not None:
        found = yield from _find_upload(file, start, size, fits)
    for attempt in range(ATTEMPTS):
        if found is None:
            if size is not None:
                file.seek(start)
                part = _read(file)
            upload_id, digest = (yield begin), Digest()
        else:
            upload_id, digest = found
            report(digest.size, size)
            part = _read(file)
        try:
            while part:
                digest.add(*_cut(part))
                yield from _append(upload_id, digest.size - len(part), part)
                report(digest.size, size)
                part = _read(file)
            return upload_id, digest, (yield end(upload_id, digest.size, digest.hexdigest()))
        except (UploadOffset, UploadNotFound):
            # Somebody else sends the same bytes, and went on with this upload: leave it to him.
            if size is None or attempt == ATTEMPTS - 1:
                raise
            found = None
        except Exception:
            if not resume:
                yield calls.abort_artifact(upload_id)
            raise
    raise AssertionError("unreachable")


def _append(upload_id: Any, offset: int, part: bytes) -> Steps[None]:
    """Send a part; again when the connection was lost, which the offset makes safe."""
    for attempt in range(ATTEMPTS):
        try:
            yield calls.append_artifact(upload_id, offset, part)
            return
        except UploadOffset:
            # Of a repetition: the part may have arrived though its answer did not.
            uploads = (yield calls.list_uploads()) if attempt else []
            if (upload_id, offset + len(part)) not in ((each.upload_id, each.received_bytes) for each in uploads):
                raise
            return
        except psycopg.OperationalError as error:
            if attempt == ATTEMPTS - 1 or not _lost(error):
                raise


def _find_upload(
    file: IO[bytes], start: int, size: int, fits: Callable[[Upload], bool]
) -> Steps[tuple[Any, Digest] | None]:
    """The upload last interrupted, if what arrived is how this file begins. The file then stands behind that."""
    uploads: list[Upload] = [
        upload
        for upload in (yield calls.list_uploads())
        if fits(upload)
        and 0 < upload.received_bytes <= size
        and (upload.received_bytes % CHUNK == 0 or upload.received_bytes == size)
    ]
    if not uploads:
        return None
    upload = max(uploads, key=lambda each: each.touched_at)
    digest = Digest()
    file.seek(start)
    while digest.size < upload.received_bytes and (part := _read(file, upload.received_bytes - digest.size)):
        digest.add(*_cut(part))
    return (upload.upload_id, digest) if digest.hexdigest() == upload.sha256 else None


def _read(file: IO[bytes], length: int = PART) -> bytes:
    """The next bytes, at most a part, fewer only at the end: a read of a pipe or socket gives what is there."""
    length = min(length, PART)
    pieces = []
    while length > 0 and (piece := file.read(length)):
        pieces.append(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


# Getting


def get(
    model_name: str,
    artifact_name: str,
    target: Target | None = None,
    *,
    owner: str | None = None,
    version: int | None = None,
    or_earlier: bool = False,
    progress: Progress | None = None,
    cache: ContentCache | None = None,
) -> Steps[bytes | Opened]:
    """Get an artifact's bytes: of an own model, or with owner of one that is shared for execute.

    target: None for all the bytes at once. A path is written in constant memory: beside, and put in its place once the
    sha256 fits. A file is written as the bytes come; what stands there is worth nothing when this raises.
    version: the artifact of exactly this version; None: of the current one. or_earlier: the last one that was put up
    to it. progress: of a storage that is asynchronous, called in another thread.
    Returns: the bytes; with a target what they are.
    Raises: ModelNotFound (TN101), ContentMismatch (TN203), ArtifactNotFound (TN204); OSError.
    Source: sql/25_artifact.sql, ai_storage.open_artifact, ai_storage.read_chunks
    """
    for attempt in range(ATTEMPTS):
        try:
            with _writing(target) as file:
                opened = yield from _download(
                    file, model_name, artifact_name, owner, version, or_earlier, progress, cache
                )
                if isinstance(file, _Whole):
                    return file.getvalue()
            return replace(opened, cache_key=None)
        except ContentMismatch:
            # Another content may have taken its place meanwhile.
            if attempt == ATTEMPTS - 1 or not (target is None or isinstance(target, (str, PathLike))):
                raise
    raise AssertionError("unreachable")


def _download(
    file: IO[bytes],
    model_name: str,
    artifact_name: str,
    owner: str | None,
    version: int | None,
    or_earlier: bool,
    progress: Progress | None,
    cache: ContentCache | None,
) -> Steps[Opened]:
    opened: Opened = yield from _again(
        calls.open_artifact(model_name, artifact_name, owner=owner, version=version, or_earlier=or_earlier)
    )
    if isinstance(file, _Whole):
        file.reserve(opened.size_bytes)
    cached = (yield from cache.content(opened)) if cache is not None else None
    # Chunks are compared one by one where their sha256s are known, which fit the content's; else all at the end.
    known = cached.chunks if cached is not None else None
    digest, done = Digest(), 0
    for first in range(0, -(-opened.size_bytes // CHUNK), PART // CHUNK):
        count = min(PART // CHUNK, -(-opened.size_bytes // CHUNK) - first)
        chunks: list[bytes] | None = None
        if known is not None and cached is not None:
            chunks = yield from cached.read(first, count)
        if chunks is None:
            chunks = yield from _again(
                calls.read_chunks(
                    model_name,
                    artifact_name,
                    owner=owner,
                    version=opened.for_version,
                    first=first,
                    count=count,
                    or_earlier=or_earlier,
                )
            )
            digests = digest.add(*chunks)
            if known is not None and digests != known[first : first + count]:
                raise _mismatch()
            if cached is not None:
                yield from cached.keep(digests, chunks)
        for chunk in chunks:
            _write(file, chunk)
        done += sum(map(len, chunks))
        if progress:
            progress(done, opened.size_bytes)
    if done != opened.size_bytes:
        raise _mismatch()
    if known is None:
        if digest.hexdigest() != opened.sha256:
            raise _mismatch()
        if cached is not None:
            yield from cached.finish(digest.chunks)
    return opened


class _Whole(BytesIO):
    """All the bytes at once."""

    def reserve(self, size: int) -> None:
        """Take all the memory there has to be: growing with each part takes more time than the parts."""
        self.seek(max(0, size - 1))
        self.write(bytes(min(1, size)))
        self.seek(0)


@contextmanager
def _writing(target: Target | None) -> Iterator[IO[bytes]]:
    if target is None:
        yield _Whole()
    elif isinstance(target, (str, PathLike)):
        with _files.writing(target) as file:
            yield file
    else:
        yield target


def _write(file: IO[bytes], data: bytes) -> None:
    """Write it all: a pipe or socket without a buffer may take less."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


# Both


def _mismatch() -> ContentMismatch:
    return ContentMismatch(
        "the bytes are not those announced", hint="Try again; if it stays so, the stored bytes are damaged."
    )


def _lost(error: psycopg.OperationalError) -> bool:
    """Whether the connection was lost, and not waited for in vain."""
    code = error.sqlstate
    return not isinstance(error, PoolTimeout) and (code is None or code.startswith("08") or code.startswith("57P"))


def _once(call: Call[T]) -> Steps[T]:
    answer: T = yield call
    return answer


def _again(call: Call[T]) -> Steps[T]:
    """A call that may be repeated; again when the connection was lost."""
    for attempt in range(ATTEMPTS):
        try:
            answer: T = yield call
            return answer
        except psycopg.OperationalError as error:
            if attempt == ATTEMPTS - 1 or not _lost(error):
                raise
    raise AssertionError("unreachable")


def _advance(go_on: Callable[[Any], Step], answer: Any) -> tuple[bool, Any]:
    """Go on to the next step: (True, the step), or (False, the result)."""
    try:
        return True, go_on(answer)
    except StopIteration as done:
        return False, done.value


def drive(steps: Steps[T], run: Callable[[Step], Any]) -> T:
    """Run steps to their result. run: runs one."""
    with closing(steps):
        going, step = _advance(steps.send, None)
        while going:
            try:
                answer = run(step)
            except Exception as error:  # noqa: BLE001  # thrown into the steps, which retry or raise it
                going, step = _advance(steps.throw, error)
            else:
                going, step = _advance(steps.send, answer)
        return cast(T, step)


async def drive_async(steps: Steps[T], run: Callable[[Step], Awaitable[Any]]) -> T:
    """Run steps to their result, each in a thread, as they read files and make digests. run: runs one."""

    async def advance(go_on: Callable[[Any], Step], answer: Any) -> tuple[bool, Any]:
        thread = asyncio.ensure_future(asyncio.to_thread(_advance, go_on, answer))
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            await asyncio.wait([thread])  # or the steps could not be closed
            raise

    with closing(steps):
        going, step = await advance(steps.send, None)
        while going:
            try:
                answer = await run(step)
            except Exception as error:  # noqa: BLE001  # thrown into the steps, which retry or raise it
                going, step = await advance(steps.throw, error)
            else:
                going, step = await advance(steps.send, answer)
        return cast(T, step)
