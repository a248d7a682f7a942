"""Artifacts by pydb: streamed in constant memory, resumed after a crash, compared at both ends."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from pydb import (
    ArtifactNotFound,
    ArtifactTooLarge,
    AsyncTenantAwareStorage,
    ContentMismatch,
    InvalidArgument,
    ModelNotFound,
    TenantAwareStorage,
    VersionConflict,
    artifact,
    calls,
    cli,
    session,
)
from pydb.artifact import CHUNK, PART
from tests.conftest import Database
from tests.helpers import ACME, key, until

OTHER = key("acme", "s2")
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, PART, PART + 1, 2 * PART + 12345]
CONTENT = random.Random(1).randbytes(max(SIZES))
LIMIT = 64 * CHUNK  # by which a process may grow


@pytest.fixture
def mine(database: Database) -> TenantAwareStorage:
    """The storage of ACME, which has the model m."""
    mine = database.storage(ACME)
    mine.save_ai_progress("m", 0.5)
    return mine


def uploads(database: Database) -> list[tuple[int, int]]:
    """(bytes that have arrived, chunks) of each upload, as the tables have them."""
    return (
        database.connect()
        .execute(
            "select u.received_bytes, count(c.*) from ai_storage_private.artifact_upload as u "
            "left join ai_storage_private.artifact_chunk as c on c.tenant_id = u.tenant_id and c.blob_id = u.upload_id "
            "group by u.upload_id, u.received_bytes"
        )
        .fetchall()
    )


class Broken(BytesIO):
    """A file that ends in an error after some bytes."""

    def __init__(self, content: bytes, good: int) -> None:
        super().__init__(content)
        self.good = good

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= self.good:
            raise OSError("the disk is gone")
        return super().read(size)


@pytest.mark.parametrize("size", SIZES)
def test_bytes_paths_and_files_go_there_and_back(mine: TenantAwareStorage, tmp_path: Path, size: int) -> None:
    content = CONTENT[:size]
    path = tmp_path / "weights"
    path.write_bytes(content)
    reader, writer = os.pipe()

    def feed() -> None:
        with open(writer, "wb") as pipe:
            pipe.write(content)

    feeder = threading.Thread(target=feed)
    feeder.start()
    ahead = BytesIO(b"ahead" + content if content else b"")
    ahead.seek(5 if content else 0)
    with open(reader, "rb", buffering=0) as pipe:
        sources = [content, bytearray(content), memoryview(content), path, str(path), ahead, pipe]
        puts = [mine.put_artifact("m", f"w{number}", source) for number, source in enumerate(sources)]
    feeder.join()
    assert [put.is_new for put in puts] == [True, *[False] * 6]
    assert {(put.sha256, put.size_bytes) for put in puts} == {(puts[0].sha256, size)}
    for number in range(len(sources)):
        assert mine.get_artifact("m", f"w{number}") == content
    file, out = BytesIO(), tmp_path / "out"
    opened = mine.get_artifact("m", "w0", file)
    assert (opened.sha256, opened.size_bytes, opened.cache_key) == (puts[0].sha256, size, None)
    assert mine.get_artifact("m", "w0", out) == opened
    assert file.getvalue() == out.read_bytes() == content
    assert mine.list_uploads() == []


def test_the_asynchronous_storage_does_the_same(database: Database, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with await AsyncTenantAwareStorage.from_dsn(database.dsn("app"), ACME) as mine:
            await mine.save_ai_progress("m", 0.5)
            told: list[tuple[int, int | None]] = []
            put = await mine.put_artifact("m", "w", CONTENT, progress=lambda *step: told.append(step))
            assert put.size_bytes == told[-1][0] == told[-1][1] == len(CONTENT)
            assert await mine.get_artifact("m", "w") == CONTENT
            await mine.get_artifact("m", "w", tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == CONTENT
            with pytest.raises(ArtifactNotFound):
                await mine.get_artifact("m", "none")
            with pytest.raises(OSError, match="gone"):
                await mine.put_artifact("m", "w2", Broken(CONTENT, PART), resume=False)
            assert await mine.list_uploads() == []
            # Cancelled while a step works in its thread, it leaves no file behind.
            loop = asyncio.get_running_loop()

            def cancel(done: int, total: int | None) -> None:
                loop.call_soon_threadsafe(task.cancel)
                time.sleep(0.3)

            task = asyncio.create_task(mine.get_artifact("m", "w", tmp_path / "never", progress=cancel))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]

    asyncio.run(scenario())


def test_progress_is_told_to_the_end(mine: TenantAwareStorage) -> None:
    for content in (b"", b"x", CONTENT):
        for transfer in (
            lambda report, content=content: mine.put_artifact("m", "w", content, progress=report),
            lambda report: mine.get_artifact("m", "w", BytesIO(), progress=report),
        ):
            told: list[tuple[int, int | None]] = []
            transfer(lambda *step, told=told: told.append(step))
            assert told == sorted(told)
            assert told[-1:] in ([(len(content), len(content))], [])
            assert told or not content


def test_bytes_go_in_binary_and_no_more_than_once(database: Database, mine: TenantAwareStorage, tmp_path: Path) -> None:
    """Hexadecimal text would be twice as long."""
    with open(tmp_path / "trace", "w+") as trace, database.connect("app") as connection:
        connection.pgconn.trace(trace.fileno())
        storage = TenantAwareStorage(connection, ACME)
        storage.put_artifact("m", "w", CONTENT)
        storage.get_artifact("m", "w")
        connection.pgconn.untrace()
        trace.seek(0)
        sent = {"F": 0, "B": 0}
        for line in trace:
            direction, length = line.split("\t")[1:3]
            sent[direction] += int(length)
    assert len(CONTENT) < sent["F"] < 1.01 * len(CONTENT)
    assert len(CONTENT) < sent["B"] < 1.01 * len(CONTENT)


def test_a_shared_artifact_is_got_by_its_owner_and_version(database: Database, mine: TenantAwareStorage) -> None:
    mine.put_artifact("m", "w", CONTENT)
    mine.save_ai_progress("m", 0.4)
    mine.put_artifact("m", "w", b"newer")
    other = database.storage(OTHER)
    with pytest.raises(ModelNotFound):
        other.get_artifact("m", "w", owner=ACME)
    mine.share_model("m", [{"server_id": "s2"}], ["execute"])
    assert other.get_artifact("m", "w", owner=ACME) == b"newer"
    assert other.get_artifact("m", "w", owner=ACME, version=1) == CONTENT
    assert [row.version for row in other.list_artifacts("m", owner=ACME)] == [2, 1]


def test_chunks_are_read_by_their_numbers(database: Database, mine: TenantAwareStorage) -> None:
    mine.put_artifact("m", "w", CONTENT)
    chunks = [CONTENT[start : start + CHUNK] for start in range(0, len(CONTENT), CHUNK)]
    mine.share_model("m", [{"server_id": "s2"}], ["execute"])
    other = database.storage(OTHER)
    for storage, owner in ((mine, None), (mine, ACME), (other, ACME)):
        for first, count in ((0, 4), (0, 0), (2, 1), (7, 2**31 - 1), (len(chunks), 4), (2**31 - 1, 2**31 - 1)):
            read = storage.run(calls.read_chunks("m", "w", owner=owner, first=first, count=count))
            assert read == chunks[first : first + count], (owner, first, count)
    with pytest.raises(ModelNotFound):
        database.storage(key("acme", "s3")).run(calls.read_chunks("m", "w", owner=ACME))


# Interrupted ---------------------------------------------------------------------------------------------------------


def test_an_interrupted_upload_goes_on_where_it_was(database: Database, mine: TenantAwareStorage) -> None:
    with pytest.raises(OSError, match="gone"):
        mine.put_artifact("m", "w", Broken(CONTENT, PART))
    assert uploads(database) == [(PART, PART // CHUNK)]
    told: list[int] = []
    mine.put_artifact("m", "w", CONTENT, progress=lambda done, total: told.append(done))
    assert told[0] == PART
    assert told == sorted(set(told))
    assert mine.get_artifact("m", "w") == CONTENT
    assert uploads(database) == []


@pytest.mark.parametrize("changed", ["bytes", "name", "media type", "shorter"])
def test_another_upload_is_left_alone(database: Database, mine: TenantAwareStorage, changed: str) -> None:
    with pytest.raises(OSError, match="gone"):
        mine.put_artifact("m", "w", Broken(CONTENT, PART))
    content, name, kind = CONTENT, "w", "application/octet-stream"
    if changed == "bytes":
        content = b"y" + CONTENT[1:]
    elif changed == "shorter":
        content = CONTENT[: PART - 1]
    elif changed == "name":
        name = "other"
    else:
        kind = "text/plain"
    mine.put_artifact("m", name, content, media_type=kind)
    assert mine.get_artifact("m", name) == content
    assert mine.list_artifacts("m")[0].media_type == kind
    assert uploads(database) == [(PART, PART // CHUNK)]


def test_an_upload_that_only_lacked_its_end_is_finished(database: Database, mine: TenantAwareStorage) -> None:
    steps = artifact.put("m", "w", CONTENT)
    with closing(steps):
        step = next(steps)
        while "ai_storage.finish" not in step.query:
            step = steps.send(mine.run(step))
    assert uploads(database) == [(len(CONTENT), -(-len(CONTENT) // CHUNK))]
    mine.put_artifact("m", "w", CONTENT)
    assert mine.get_artifact("m", "w") == CONTENT
    assert uploads(database) == []


def test_without_resume_nothing_is_left_and_nothing_found(database: Database, mine: TenantAwareStorage) -> None:
    with pytest.raises(OSError, match="gone"):
        mine.put_artifact("m", "w", Broken(CONTENT, PART), resume=False)
    assert uploads(database) == []
    with pytest.raises(OSError, match="gone"):
        mine.put_artifact("m", "w", Broken(CONTENT, PART))
    told: list[int] = []
    mine.put_artifact("m", "w", CONTENT, progress=lambda done, total: told.append(done), resume=False)
    assert told[0] == PART
    assert uploads(database) == [(PART, PART // CHUNK)]


def test_two_who_send_the_same_file_do_not_hinder_each_other(database: Database, mine: TenantAwareStorage) -> None:
    first, second = artifact.put("m", "w", CONTENT), artifact.put("m", "w", CONTENT)
    going: dict[Any, Any] = {first: next(first), second: None}
    for _ in range(3):  # list, begin, one part
        going[first] = first.send(mine.run(going[first]))
    going[second] = next(second)  # finds the upload of the first
    results = []
    draw = random.Random(3)
    while going:
        steps = draw.choice(list(going))
        try:
            try:
                answer = mine.run(going[steps])
            except Exception as error:  # noqa: BLE001  # thrown into the steps, which retry or raise it
                going[steps] = steps.throw(error)
            else:
                going[steps] = steps.send(answer)
        except StopIteration as done:
            results.append(done.value.sha256)
            del going[steps]
    assert len(set(results)) == 1
    assert mine.get_artifact("m", "w") == CONTENT


CHILD = """
import os, signal, sys
from pydb import TenantAwareStorage
dsn, tenant, path, last = sys.argv[1:]
def watch(done, total):
    if done >= int(last):
        os.kill(os.getpid(), signal.SIGKILL)
with TenantAwareStorage.from_dsn(dsn, tenant) as mine:
    mine.put_artifact("m", "w", path, progress=watch)
"""


def test_a_killed_client_goes_on_and_what_is_abandoned_is_swept(
    database: Database, mine: TenantAwareStorage, tmp_path: Path
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    command = [sys.executable, "-c", CHILD, database.dsn("app"), ACME, str(path)]
    assert subprocess.run([*command, str(PART)]).returncode == -signal.SIGKILL
    assert uploads(database) == [(PART, PART // CHUNK)]
    with pytest.raises(ArtifactNotFound):
        mine.get_artifact("m", "w")
    told: list[int] = []
    mine.put_artifact("m", "w", path, progress=lambda done, total: told.append(done))
    assert told[0] == PART
    assert mine.get_artifact("m", "w") == CONTENT

    path.write_bytes(CONTENT[::-1])
    assert subprocess.run([*command, str(2 * PART)]).returncode == -signal.SIGKILL
    assert uploads(database) == [(2 * PART, 2 * PART // CHUNK)]
    admin = database.connect()
    admin.execute("update ai_storage_private.artifact_upload set touched_at = now() - interval '25 hours'")
    session.run(admin, calls.apply_retention())
    assert uploads(database) == []
    mine.put_artifact("m", "w", path)
    assert mine.get_artifact("m", "w") == CONTENT[::-1]


def test_a_lost_connection_of_a_pool_is_no_end(database: Database) -> None:
    admin = database.connect()
    with ConnectionPool(
        database.dsn("app", application_name="pooled"), min_size=1, max_size=2, kwargs={"autocommit": True}, open=True
    ) as pool:
        mine = TenantAwareStorage(pool, ACME)
        mine.save_ai_progress("m", 0.5)

        def cut(done: int, total: int | None) -> None:
            if done < len(CONTENT):
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pooled'"
                )

        mine.put_artifact("m", "w", CONTENT, progress=cut)
        assert mine.get_artifact("m", "w", progress=cut) == CONTENT
        assert uploads(database) == []


def test_a_part_whose_answer_was_lost_is_not_sent_twice(database: Database, mine: TenantAwareStorage) -> None:
    lost = []
    queries = []

    def run(step: Any) -> Any:
        answer = mine.run(step)
        queries.append(step.query)
        if "append" in step.query and not lost:
            lost.append(answer)
            raise psycopg.OperationalError("the connection is lost")
        return answer

    artifact.drive(artifact.put("m", "w", CONTENT), run)
    assert lost == [PART]
    assert sum("begin_artifact" in query for query in queries) == 1
    assert mine.get_artifact("m", "w") == CONTENT


# Wrong bytes ---------------------------------------------------------------------------------------------------------


def damage(database: Database, how: str) -> None:
    admin = database.connect()
    admin.execute("set session_replication_role = replica")
    if how == "a byte":
        admin.execute(
            "update ai_storage_private.artifact_chunk set content = set_byte(content, 77, get_byte(content, 77) # 1) "
            "where chunk_number = 1"
        )
    elif how == "a chunk is gone":
        admin.execute("delete from ai_storage_private.artifact_chunk where chunk_number = 1")
    else:
        admin.execute(
            "update ai_storage_private.artifact_chunk set content = substr(content, 1, 10) "
            "where length(content) between 11 and 1048575"
        )


@pytest.mark.parametrize("how", ["a byte", "a chunk is gone", "the end is gone"])
def test_damaged_bytes_are_not_handed_out(
    database: Database, mine: TenantAwareStorage, tmp_path: Path, how: str
) -> None:
    mine.put_artifact("m", "w", CONTENT)
    out = tmp_path / "out"
    out.write_bytes(b"as it was")
    damage(database, how)
    for target in (None, out, BytesIO()):
        with pytest.raises(ContentMismatch):
            mine.get_artifact("m", "w", target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert out.read_bytes() == b"as it was"


def test_the_list_of_a_contents_sha256s_is_not_taken_for_the_content(mine: TenantAwareStorage) -> None:
    """Its sha256 is that of the content, which has more than one chunk."""
    mine.put_artifact("m", "w", CONTENT)
    digest = artifact.Digest()
    digest.add(*(CONTENT[start : start + CHUNK] for start in range(0, len(CONTENT), CHUNK)))

    def run(step: Any) -> Any:
        answer = mine.run(step)
        if "read_chunks" in step.query:
            answer = [b"".join(digest.chunks)] if step.params[-2] == 0 else []
        return answer

    with pytest.raises(ContentMismatch):
        artifact.drive(artifact.get("m", "w"), run)


def test_a_source_that_the_wire_changes_is_refused(mine: TenantAwareStorage) -> None:
    def run(step: Any) -> Any:
        if "append" in step.query:
            upload, offset, part = step.params
            step = calls.append_artifact(upload, offset, part[:-1] + b"!")
        return mine.run(step)

    with pytest.raises(ContentMismatch):
        artifact.drive(artifact.put("m", "w", CONTENT), run)
    with pytest.raises(ArtifactNotFound):
        mine.get_artifact("m", "w")


def test_a_content_replaced_while_it_is_read_is_read_anew(mine: TenantAwareStorage) -> None:
    mine.put_artifact("m", "w", CONTENT)
    newer = CONTENT[::-1]
    replaced = []

    def replace(done: int, total: int | None) -> None:
        if not replaced:
            replaced.append(mine.put_artifact("m", "w", newer))

    assert mine.get_artifact("m", "w", progress=replace) == newer


def test_what_is_too_large_is_refused(database: Database, mine: TenantAwareStorage) -> None:
    session.run(database.connect(), calls.set_artifact_limit(PART))
    mine.put_artifact("m", "w", CONTENT[:PART])
    with pytest.raises(ArtifactTooLarge):
        mine.put_artifact("m", "w", CONTENT)


def test_a_folder_is_no_target(mine: TenantAwareStorage, tmp_path: Path) -> None:
    mine.put_artifact("m", "w", b"x")
    with pytest.raises(IsADirectoryError):
        mine.get_artifact("m", "w", tmp_path)
    with pytest.raises(FileNotFoundError):
        mine.get_artifact("m", "w", tmp_path / "none" / "w")
    assert list(tmp_path.iterdir()) == []


def test_a_buffer_just_written_is_no_empty_artifact(mine: TenantAwareStorage) -> None:
    mine.put_artifact("m", "w", b"good")
    buffer = BytesIO()
    buffer.write(CONTENT)
    with pytest.raises(InvalidArgument):
        mine.put_artifact("m", "w", buffer)
    with pytest.raises(InvalidArgument):
        mine.put_artifact("m", "w", object())  # type: ignore[arg-type]  # the mistake that is tried
    assert mine.get_artifact("m", "w") == b"good"
    buffer.seek(0)
    assert mine.put_artifact("m", "w", buffer).size_bytes == len(CONTENT)


# Memory --------------------------------------------------------------------------------------------------------------

GROWTH = """
import hashlib, re, sys
from pathlib import Path
from pydb import TenantAwareStorage
import psycopg
def anonymous(pid):
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024
dsn, tenant, path, out = sys.argv[1:]
connection = psycopg.connect(dsn, autocommit=True)
mine = TenantAwareStorage(connection, tenant)
pids = ("self", connection.info.backend_pid)
before = [anonymous(pid) for pid in pids]
most = [0, 0]
def watch(done, total):
    for side, pid in enumerate(pids):
        most[side] = max(most[side], anonymous(pid) - before[side])
mine.put_artifact("m", "w", path, progress=watch)
mine.get_artifact("m", "w", out, progress=watch)
print(*most)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of processes is read from /proc")
def test_256_mib_take_little_memory_at_either_end(database: Database, mine: TenantAwareStorage, tmp_path: Path) -> None:
    path, out = tmp_path / "weights", tmp_path / "out"
    draw = random.Random(4)
    with open(path, "wb") as file:
        for _ in range(64):
            file.write(draw.randbytes(4 * CHUNK))
    command = [sys.executable, "-c", GROWTH, database.dsn("app"), ACME, str(path), str(out)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    client, backend = map(int, shown.split())
    assert client < LIMIT, f"{client:,} bytes"
    assert backend < LIMIT, f"{backend:,} bytes"
    assert subprocess.run(["cmp", path, out]).returncode == 0


# The command line ----------------------------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], database: Database, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DATABASE_URL", database.dsn("app"))

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsysbinary.readouterr()
        return code, out.decode("latin-1"), err.decode()

    return run


def test_the_command_line_puts_gets_and_lists(
    run: Run, mine: TenantAwareStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(CONTENT)
    code, out, _ = run("put", "m", "weights.bin", "--as", ACME, "--json")
    assert (code, json.loads(out)[0]["size_bytes"]) == (0, len(CONTENT))
    assert run("put", "m", "weights.bin", "--name", "../evil", "--media-type", "text/plain", "--as", ACME)[0] == 0
    code, out, _ = run("artifacts", "m", "--as", ACME, "--json")
    assert [(row["artifact_name"], row["media_type"]) for row in json.loads(out)] == [
        ("../evil", "text/plain"),
        ("weights.bin", "application/octet-stream"),
    ]
    assert run("get", "m", "weights.bin", "--as", ACME)[0] == 1  # the file exists
    code, out, _ = run("get", "m", "weights.bin", "--out", "copy", "--as", ACME, "--json")
    assert (code, json.loads(out)[0]["version"]) == (0, 1)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    # As for a storage: a file that is named is replaced, and keeps its mode.
    (tmp_path / "copy").write_bytes(b"old")
    (tmp_path / "copy").chmod(0o604)
    assert run("get", "m", "weights.bin", "--out", "copy", "--as", ACME)[0] == 0
    assert ((tmp_path / "copy").read_bytes(), (tmp_path / "copy").stat().st_mode & 0o777) == (CONTENT, 0o604)
    code, out, _ = run("get", "m", "weights.bin", "--out", "-", "--as", ACME)
    assert (code, out.encode("latin-1")) == (0, CONTENT)
    code, _, err = run("get", "m", "../evil", "--as", ACME)
    assert (code, "--out" in err) == (1, True)
    assert not (tmp_path.parent / "evil").exists()
    mine.share_model("m", [{"server_id": "s2"}], ["execute"])
    assert run("get", "m", "../evil", "--out", "shared", "--owner", ACME, "--version", "1", "--as", OTHER)[0] == 0
    assert run("artifacts", "m", "--owner", ACME, "--as", OTHER)[1].count("text/plain") == 1
    # macOS takes a name apart; what is typed elsewhere finds the artifact.
    (tmp_path / "e\u0301.bin").write_bytes(b"x")
    assert run("put", "m", "e\u0301.bin", "--as", ACME)[0] == 0
    assert run("get", "m", "\u00e9.bin", "--out", "-", "--as", ACME)[1] == "x"
    for wrong in (["put", "m", "none.bin"], ["get", "m", "none"], ["get", "m", "weights.bin", "--out", "no/where"]):
        code, _, err = run(*wrong, "--as", ACME)
        assert (code, "hint:" in err) == (1, True), wrong
    assert run("put", "m", "-", "--as", ACME)[0] == 2


def test_a_terminal_sees_a_bar(
    run: Run, mine: TenantAwareStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    (tmp_path / "w").write_bytes(CONTENT)
    for _, _, shown in (
        run("put", "m", str(tmp_path / "w"), "--as", ACME),
        run("get", "m", "w", "--out", str(tmp_path / "x"), "--as", ACME),
    ):
        assert shown.endswith(f"[{'#' * 30}] {len(CONTENT):,} of {len(CONTENT):,}\n")


def test_an_interrupted_command_goes_on(run: Run, database: Database, mine: TenantAwareStorage, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT * 8)
    command = [sys.executable, "-m", "pydb.cli", "put", "m", str(path), "--as", ACME, "--dsn", database.dsn("app")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    until(lambda: bool(uploads(database)) and uploads(database)[0][0] > 0, "a part to arrive")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode in (0, 1)
    assert run("put", "m", str(path), "--as", ACME)[0] == 0
    assert mine.get_artifact("m", "weights") == CONTENT * 8
    assert uploads(database) == []


# Saving together with a model


@pytest.mark.parametrize("size", SIZES)
def test_a_state_and_its_files_are_saved_at_once(database: Database, tmp_path: Path, size: int) -> None:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT[:size])
    told: list[tuple[int, int | None]] = []
    mine = database.storage(ACME)
    saved = mine.save_ai_progress(
        "new",
        0.5,
        metrics={"a": 1.0},
        artifacts={"path": path, "bytes": CONTENT[:size], "file": BytesIO(CONTENT[:size]), "small": b"x"},
        progress=lambda done, total: told.append((done, total)),
    )
    assert (saved.version, saved.created) == (1, True)
    assert {mine.get_artifact("new", name, version=1) for name in ("path", "bytes", "file")} == {CONTENT[:size]}
    assert told[-1] == (3 * size + 1, 3 * size + 1)
    assert told == sorted(told)
    assert uploads(database) == []


def test_so_they_are_by_the_asynchronous_twin(database: Database) -> None:
    async def save() -> Any:
        async with await AsyncTenantAwareStorage.from_dsn(database.dsn("app"), ACME) as storage:
            saved = await storage.save_ai_progress("m", 0.5, artifacts={"w": CONTENT, "x": b"x"})
            return saved, await storage.get_artifact("m", "w"), await storage.list_code_versions()

    saved, content, versions = asyncio.run(save())
    assert (saved.version, content, [each.code_hash for each in versions]) == (1, CONTENT, ["c1"])


@pytest.mark.parametrize("resume", [True, False])
def test_a_save_whose_upload_fails_saves_nothing_and_goes_on_or_is_cleared(database: Database, resume: bool) -> None:
    mine = database.storage(ACME)
    broken = {"first": CONTENT, "w": Broken(CONTENT, PART)}
    with pytest.raises(OSError, match="the disk is gone"):
        mine.save_ai_progress("m", 0.5, artifacts=broken, resume=resume)
    assert mine.load_ai_progress("m") == []
    assert len(uploads(database)) == (2 if resume else 0)
    told: list[int] = []
    saved = mine.save_ai_progress(
        "m", 0.5, artifacts={"first": CONTENT, "w": CONTENT}, progress=lambda done, total: told.append(done)
    )
    assert told[0] == (len(CONTENT) if resume else PART)  # the first file was there
    assert mine.get_artifact("m", "w", version=saved.version) == CONTENT
    assert uploads(database) == []


def test_a_file_that_is_not_there_fails_before_anything_is_sent(database: Database, tmp_path: Path) -> None:
    mine = database.storage(ACME)
    with pytest.raises(FileNotFoundError):
        mine.save_ai_progress("m", 0.5, artifacts={"w": CONTENT, "x": tmp_path / "none"})
    assert uploads(database) == []


def test_a_save_that_is_repeated_under_its_key_leaves_no_upload(database: Database) -> None:
    mine = database.storage(ACME)
    first = mine.save_ai_progress("m", 0.5, artifacts={"w": CONTENT}, idempotency_key="k")
    assert mine.save_ai_progress("m", 0.5, artifacts={"w": CONTENT}, idempotency_key="k") == first
    assert uploads(database) == []


def test_two_who_save_the_same_bytes_each_have_them(database: Database) -> None:
    one, two = database.storage(ACME), database.storage(ACME)
    # Theirs is staged, and found by who comes later with the same bytes: he uses it up.
    steps = artifact.save("m", 0.5, artifacts={"w": CONTENT})
    step = next(steps)
    while "save_progress" not in step.query:
        step = steps.send(one.run(step))
    assert two.save_ai_progress("n", 0.5, artifacts={"w": CONTENT}).version == 1
    assert artifact.drive((yield_again(steps, step)), one.run).version == 1
    assert one.get_artifact("m", "w") == one.get_artifact("n", "w") == CONTENT


def yield_again(steps: Any, step: Any) -> Any:
    """Steps that go on with one that was not run yet."""
    while True:
        try:
            answer = yield step
        except Exception as error:  # noqa: BLE001  # the steps decide
            step = steps.throw(error)
            continue
        try:
            step = steps.send(answer)
        except StopIteration as done:
            return done.value


def test_a_put_goes_to_the_version_it_names(mine: TenantAwareStorage) -> None:
    mine.save_ai_progress("m", 0.4)
    for size in (1, PART + 1):
        mine.put_artifact("m", f"early {size}", CONTENT[:size], version=1)
        with pytest.raises(ArtifactNotFound):
            mine.get_artifact("m", f"early {size}")
        assert mine.get_artifact("m", f"early {size}", or_earlier=True) == CONTENT[:size]
        with pytest.raises(VersionConflict):
            mine.put_artifact("m", "w", CONTENT[:size], expected_version=1)
        with pytest.raises(ModelNotFound):
            mine.put_artifact("m", "w", CONTENT[:size], version=9)


def test_an_upload_of_another_version_is_not_gone_on_with(mine: TenantAwareStorage, database: Database) -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        mine.put_artifact("m", "w", Broken(CONTENT, PART))
    mine.save_ai_progress("m", 0.4)
    mine.put_artifact("m", "w", CONTENT)
    assert [row.version for row in mine.list_artifacts("m")] == [2]
    mine.put_artifact("m", "w", CONTENT, version=1)
    assert [row.version for row in mine.list_artifacts("m")] == [2, 1]
    assert uploads(database) == []
