"""Files of this machine: what is written where, with which mode, and which sources are refused."""

from __future__ import annotations

import io
import os
import stat
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydb import InvalidArgument, _files

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices and gives files away")


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def write(path: Path, content: bytes = b"new") -> None:
    with _files.writing(path) as file:
        file.write(content)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    write(tmp_path / "new")
    assert mode(tmp_path / "new") == 0o640


@pytest.mark.parametrize("before", [0o600, 0o664, 0o444, 0o755])
def test_an_existing_file_keeps_its_mode_and_is_replaced_whole(tmp_path: Path, before: int) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"the old bytes, which are longer")
    path.chmod(before)
    with path.open("rb") as reader:
        write(path)
        assert reader.read() == b"the old bytes, which are longer"
    assert (path.read_bytes(), mode(path)) == (b"new", before)


@as_root
def test_root_leaves_a_file_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_bytes(b"old")
    os.chown(path, 65534, 65533)
    path.chmod(0o4640)
    write(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, mode(path)) == (65534, 65533, 0o640)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, there: bool) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    if there:
        (volume / "real").write_bytes(b"old")
    (tmp_path / "second").symlink_to("volume/real")
    (tmp_path / "first").symlink_to("second")
    write(tmp_path / "first")
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert (volume / "real").read_bytes() == b"new"
    assert [path.name for path in volume.iterdir()] == ["real"]


def test_a_link_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic"):
        write(tmp_path / "a")


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    def read() -> None:
        with open(reader, "rb") as file:
            received.append(file.read())

    thread = threading.Thread(target=read)
    with _files.writing(pipe) as file:
        thread.start()
        content = memoryview(bytes(200_000))
        while content:
            content = content[file.write(content) :]
    thread.join(30)
    assert received == [bytes(200_000)]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_pipe_that_nobody_reads_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="nobody reads"):
        write(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@as_root
def test_a_device_is_written_into_and_stays_one(tmp_path: Path) -> None:
    device = tmp_path / "null"
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (tmp_path / "link").symlink_to(device)
    write(device)
    write(tmp_path / "link")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("old", [b"old", None])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "w"
    if old is not None:
        path.write_bytes(old)

    def fail() -> None:
        with _files.writing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == ([("w", old)] if old else [])


def test_until_it_is_whole_nobody_reads_what_replaces_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.touch(0o600)
    with _files.writing(path):
        assert {mode(found) for found in tmp_path.iterdir()} == {0o600}


def test_a_source_that_stands_at_its_end_is_refused() -> None:
    written = io.BytesIO()
    written.write(b"weights")
    with pytest.raises(InvalidArgument) as caught:
        _files.measure(written)
    assert "seek(0)" in (caught.value.hint or "")
    written.seek(0)
    assert _files.measure(written) == (0, 7)
    written.seek(3)
    assert _files.measure(written) == (3, 4)
    assert _files.measure(io.BytesIO()) == (0, 0)


def test_a_source_behind_its_end_is_refused() -> None:
    file = io.BytesIO(b"x")
    file.seek(5)
    with pytest.raises(InvalidArgument):
        _files.measure(file)


@pytest.mark.parametrize("source", [object(), None, 5, ["x"], io.StringIO("text")])
def test_what_has_no_bytes_is_refused_by_its_type(source: object) -> None:
    with pytest.raises(InvalidArgument) as caught, _files.reading(source):  # type: ignore[arg-type]  # wrong ones
        raise AssertionError("read")
    assert type(source).__name__ in (caught.value.detail or "")


def test_names_of_files_are_composed() -> None:
    composed = "gewichte-f\u00fcr-caf\u00e9.bin"
    assert _files.name_of("folder/" + unicodedata.normalize("NFD", composed)) == composed
    assert _files.name_of(Path("folder") / composed) == composed
