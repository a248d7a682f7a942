"""A real Redis for the tests. `make servers` gets the program by apt where possible."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.helpers import until

PATHS = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def program() -> str | None:
    """The program's path, or None where it is not installed."""
    return shutil.which("redis-server", path=PATHS)


class RedisServer:
    """Redis on a socket in a folder of its own, without a file for its data: killed, it forgets."""

    def __init__(self, most_bytes: int = 256 * 2**20) -> None:
        path = program()
        assert path is not None, "Redis is not installed: run `make servers`, as root where apt is the way"
        self._path = path
        self._most_bytes = most_bytes
        self._folder = Path(tempfile.mkdtemp(prefix="pydb-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self._folder / "socket"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, empty, and wait until it listens."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "save": "",
            "appendonly": "no",
            "dir": str(self._folder),
            "maxmemory": str(self._most_bytes),
            "maxmemory-policy": "allkeys-lru",
            "enable-debug-command": "yes",
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([self._path, *arguments], stdout=subprocess.DEVNULL)
        until(self._listens, "Redis to listen")

    def kill(self) -> None:
        """Kill it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def signal(self, number: int) -> None:
        """Send it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def remove(self) -> None:
        """Kill it for good."""
        self.kill()
        shutil.rmtree(self._folder)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "Redis ended"
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.socket)) == 0
