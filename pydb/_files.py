"""Files on this machine: those that artifacts are read from, those they are written to, and their names."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END, BytesIO, TextIOBase
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from .errors import InvalidArgument
from .transfer import sync_folder

if TYPE_CHECKING:
    from .artifact import Source

__all__ = ["measure", "name_of", "reading", "writing"]


def name_of(path: str | PathLike[str]) -> str:
    """The name that a file gives what is made of it, in Unicode's form NFC: macOS hands names out in another form."""
    return unicodedata.normalize("NFC", Path(path).name)


@contextmanager
def reading(source: Source) -> Iterator[IO[bytes]]:
    """A source as a file. What the caller opened stays open.

    Raises: InvalidArgument for a source of another kind.
    """
    if isinstance(source, (str, PathLike)):
        with open(source, "rb", buffering=0) as file:
            yield cast(IO[bytes], file)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield BytesIO(source)
    elif not callable(getattr(source, "read", None)) or isinstance(source, TextIOBase):
        raise InvalidArgument(
            "the source has no bytes",
            detail=f"It is of the type {type(source).__name__}.",
            hint="Pass a path, bytes, or a file opened in binary mode. Write a model into one of these first, "
            "for example with joblib.dump or torch.save.",
        )
    else:
        yield source


def measure(file: IO[bytes]) -> tuple[int, int | None]:
    """Where a file stands, and how many bytes follow; None when it cannot be read twice.

    Raises: InvalidArgument for a file that stands at its end, as after writing into it: it would give nothing.
    """
    if not (hasattr(file, "seekable") and file.seekable()):
        return 0, None
    start = file.tell()
    size = file.seek(0, SEEK_END) - start
    file.seek(start)
    if start > 0 and size <= 0:
        raise InvalidArgument(
            "the source stands at its end",
            detail=f"It has {start + size} bytes, all of them before where it stands.",
            hint="Call seek(0) on the file after writing into it.",
        )
    return start, size


@contextmanager
def writing(path: str | PathLike[str]) -> Iterator[IO[bytes]]:
    """A file that takes the place of what is at a path, once the block ended without an error.

    A symbolic link stays, and what it leads to is written. An existing file keeps its mode, and its owner where that
    is permitted; a new one has the mode that the umask leaves. A pipe or a device is written into as the bytes come.
    Raises: OSError, also for a folder and for a pipe that nobody reads.
    """
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    if old is not None and stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
    if old is not None and not stat.S_ISREG(old.st_mode):
        with _special(path) as file:
            yield file
        return
    real = Path(os.path.realpath(path))
    beside = real.with_name(f"{real.name[:50]}.{secrets.token_hex(6)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # Until it has the old file's mode, nobody else reads it.
    handle = os.open(beside, flags, 0o666 if old is None else 0o600)
    try:
        with open(handle, "wb") as file:
            if old is not None:
                _take_over(beside, old)
            yield file
            file.flush()
            os.fsync(handle)
        os.replace(beside, real)
    except BaseException:
        os.unlink(beside)
        raise
    sync_folder(real.parent)


def _take_over(path: Path, old: os.stat_result) -> None:
    """Give a file the owner and mode of another."""
    new = os.stat(path)
    if hasattr(os, "chown") and (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        for user, group in (old.st_uid, old.st_gid), (-1, old.st_gid):
            try:
                os.chown(path, user, group)
                break
            except PermissionError:
                continue  # only root gives files away, and others only to groups of their own
    os.chmod(path, stat.S_IMODE(old.st_mode) & 0o777)


def _special(path: str | PathLike[str]) -> IO[bytes]:
    """Open what is no regular file, without waiting for a reader."""
    try:
        handle = os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nobody reads from it", os.fspath(path)) from error
        raise
    os.set_blocking(handle, True)
    return open(handle, "wb", buffering=0)
