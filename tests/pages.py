"""Runs what a page of the documentation shows, in order, as a reader would: in a shell, in psql, and in Python.

These blocks of a page are run, in a new folder, beside an embedded server of its own:

- indented blocks, and fences `sh`: lines of a shell, none of which may fail;
- fences `console`: behind `$ ` a line of a shell, below it what it prints, whether it fails or not;
- fences `psql`: a session of a login, the prompt's, or of the superuser where the prompt ends in `=#`;
- fences `pycon`: a session of Python, with the variables of those before it.

So is, though nobody sees it, what stands in a comment `<!-- run, REASON:`. In what is printed, `...` stands for
anything, and a time, a UUID or a sha256 for any other. Fences of other languages are read only, and so is a block
behind the comment `<!-- not run: REASON -->`.

Commands are the real ones, but for pydb: each would spend most of its time importing. So a process that has imported it
forks for each (`python -m tests.pages SOCKET`), with the arguments, environment, folder and files of the command.
"""

from __future__ import annotations

import doctest
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from markdown_it import MarkdownIt

from pydb import embedded

RUN = {"": "shell", "sh": "shell", "console": "console", "psql": "psql", "pycon": "pycon"}
HIDDEN = re.compile(r"<!-- run, .*?:\n(.*)-->", re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: \S.*-->", re.DOTALL)
PROMPT = re.compile(r"^(\w+)=[>#] (.*)$")
# Of these no two runs print the same: times, also as microseconds, UUIDs, digests and secrets in hexadecimal.
CHANGING = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+]\d\d(?::\d\d)?)?"
    r"|\b\d{16}\b|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}"
)
# What no output is equal to.
MARK = "=-=-="

PYDB = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    order = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(server, [len(order).to_bytes(4)], [0, 1, 2])
    server.sendall(order)
    sys.exit(int(server.recv(16)))
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A block that is run. line: where it begins in its page, from 1."""

    kind: str
    text: str
    line: int


def blocks(text: str) -> list[Block]:
    """The blocks of a page that are run."""
    found = []
    before = ""
    for token in MarkdownIt().parse(text):
        if token.level == 0 and token.type in ("fence", "code_block") and token.map:
            kind = RUN.get(token.info.strip()) if token.type == "fence" else "shell"
            if kind is not None and not NOT_RUN.match(before):
                found.append(Block(kind, token.content, token.map[0] + 1))
        before = token.content if token.type == "html_block" else ""
        hidden = HIDDEN.match(before)
        if hidden and token.map:
            found.append(Block("shell", hidden[1], token.map[0] + 1))
    return found


def steps(block: Block) -> list[tuple[str, str, str]]:
    """(who, input, what is to be printed) of each prompt of a session. who: the login of psql."""
    found: list[tuple[str, str, list[str]]] = []
    for line in block.text.splitlines():
        prompt = PROMPT.match(line) if block.kind == "psql" else re.match(r"^()\$ (.*)$", line)
        if prompt:
            found.append((prompt[1], prompt[2], []))
        elif found and found[-1][1].endswith("\\") and not found[-1][2] and block.kind == "console":
            found[-1] = (found[-1][0], f"{found[-1][1]}\n{line}", [])
        else:
            found[-1][2].append(line)
    return [(who, text, "\n".join(expected)) for who, text, expected in found]


def matches(expected: str, printed: str) -> bool:
    """Whether what was printed is what was expected, in which `...` stands for anything."""
    expected, printed = (CHANGING.sub("@", _trimmed(text)) for text in (expected, printed))
    pattern = ".*?".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


class Shell:
    """A bash that runs a page's lines one after the other."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment,
        )

    def run(self, text: str) -> tuple[int | None, str]:
        """Returns: the exit code, None when the shell has ended, and what was printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{ :\n{text}\n}} </dev/null\nprintf '\\n%s %s\\n' {MARK} $?\n")
        self._process.stdin.flush()
        printed = []
        for line in self._process.stdout:
            if line.startswith(MARK):
                return int(line.split()[1]), "".join(printed)
            printed.append(line)
        return None, "".join(printed)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(20)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who follows a page: a shell, and what Python has learned."""

    shell: Shell
    cluster: embedded.Cluster
    names: dict[str, Any]

    def follow(self, block: Block) -> None:
        """Run a block. Raises: AssertionError when it does not do what the page says."""
        {"shell": self._shell, "console": self._console, "psql": self._psql, "pycon": self._pycon}[block.kind](block)

    def _shell(self, block: Block) -> None:
        code, printed = self.shell.run(f"set -e\n{block.text}\nset +e")
        assert code == 0, f"line {block.line}: it failed:\n{block.text}\n{printed}"

    def _console(self, block: Block) -> None:
        for _, text, expected in steps(block):
            code, printed = self.shell.run(text)
            assert code is not None, f"line {block.line}: the shell ended after: {text}\n{printed}"
            assert matches(expected, printed), _differ(block, text, expected, printed)

    def _psql(self, block: Block) -> None:
        session = steps(block)
        (login,) = {who for who, _, _ in session}
        script = "".join(f"{text}\n\\echo {MARK}\n" for _, text, _ in session)
        url = self.cluster.url(embedded.DATABASE).replace(f"//{embedded.SUPERUSER}@", f"//{login}@")
        printed = run_psql(self.cluster.bin_dir, url, script).split(f"{MARK}\n")
        for (_, text, expected), answer in zip(session, printed, strict=False):
            assert matches(expected, answer), _differ(block, text, expected, answer)

    def _pycon(self, block: Block) -> None:
        _, printed = self.shell.run("pwd && env -0")
        folder, variables = printed.split("\n", 1)
        environment = dict(line.split("=", 1) for line in variables.strip("\n").split("\0") if "=" in line)
        test = doctest.DocTestParser().get_doctest(block.text, self.names, "page", None, block.line - 1)
        said = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        here = os.getcwd()
        os.chdir(folder)
        try:
            with mock.patch.dict(os.environ, environment):
                runner.run(test, out=said.write, clear_globs=False)
        finally:
            os.chdir(here)
        self.names.update(test.globs)
        assert not runner.failures, said.getvalue()


def _differ(block: Block, text: str, expected: str, printed: str) -> str:
    return f"line {block.line}: {text}\n--- the page says\n{expected}\n--- it printed\n{printed}"


def run_psql(bin_dir: Path, url: str, script: str) -> str:
    """What psql prints for a script, errors too."""
    libraries = bin_dir.parent / "lib"
    return subprocess.run(
        [bin_dir / "psql", "--no-psqlrc", "--set=SHOW_CONTEXT=never", url],
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        env={"LC_ALL": "C", **({"LD_LIBRARY_PATH": str(libraries)} if (libraries / "libpq.so.5").exists() else {})},
    ).stdout


@contextmanager
def commands(folder: Path) -> Iterator[Path]:
    """A folder with a pydb that starts at once, to be put before the others in PATH."""
    path = str(folder / "socket")
    programs = folder / "bin"
    programs.mkdir()
    (programs / "pydb").write_text(PYDB.format(python=sys.executable, path=path))
    (programs / "pydb").chmod(0o755)
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python").chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        command = [sys.executable, "-m", "tests.pages", str(listener.fileno())]
        server = subprocess.Popen(command, pass_fds=[listener.fileno()], cwd=Path(__file__).parent.parent)
    try:
        yield programs
    finally:
        server.terminate()
        server.wait()


@contextmanager
def reader(folder: Path, cluster: embedded.Cluster, programs: Path) -> Iterator[Reader]:
    """Somebody in a new folder, whose pydb uses that embedded server."""
    work = folder / "work"
    work.mkdir()
    environment = {
        "PATH": f"{programs}:{cluster.bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(work),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "COLUMNS": "120",
        "AI_STORAGE_DATA_DIR": str(cluster.data_dir),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    with ExitStack() as stack:
        shell = Shell(work, environment)
        stack.callback(shell.close)
        yield Reader(shell, cluster, {})


# The process that has imported pydb


def _answer(connection: socket.socket) -> int:
    """Run the command that a client sends, with its files."""
    from pydb import cli

    length, files, _, _ = socket.recv_fds(connection, 4, 3)
    size = int.from_bytes(length)
    order = b""
    while len(order) < size:
        order += connection.recv(size - len(order))
    arguments, environment, folder = json.loads(order)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdout.reconfigure(line_buffering=True)

    def end_with_the_client() -> None:
        if not connection.recv(1):
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_the_client, daemon=True).start()
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


def main() -> None:
    from pydb import cli  # noqa: F401  # what the forks shall find imported

    # Whoever forks is told by nobody that its children ended.
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    listener = socket.socket(fileno=int(sys.argv[1]))
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            code = 70
            try:
                code = _answer(connection)
                sys.stdout.flush()
            finally:
                connection.send(str(code).encode())
                os._exit(code)
        connection.close()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
