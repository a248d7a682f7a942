"""Computes the fifth level of a tenant, the version of the code, where nobody wants to name it by hand.

    TenantAwareStorage.from_mcp_server("mcp-1", "shop", code_hash.from_commit("."))

Both functions give a text that is the same on every machine for the same code, and that stays the same in later
releases of this package: models are found by it.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import subprocess
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

__all__ = ["IGNORED", "from_commit", "from_folder"]

#: What from_folder leaves out by default: patterns (fnmatch, where case counts) of the name of a file or a folder.
IGNORED = (
    ".*",  # .git, .venv, .env, .DS_Store and other hidden ones
    "__pycache__",
    "*.pyc",
    "*.egg-info",
    "node_modules",
    "venv",
)
DIGITS = 40  # of a digest, as many as a commit has: a level holds 63 characters


def from_commit(folder: str | Path = ".") -> str:
    """The commit that is checked out in the git repository of a folder. Needs the program git.

    Returns: the commit's 40 digits. When something in the folder was changed or added since, and git does not ignore
    it, `-dirty-` and 16 digits follow, which stand for the content of all files there that git does not ignore: other
    changes are another version, and taking them back leads back to the commit. Elsewhere in the repository
    changes do not count; commits do.
    Raises: ValueError when there is no git, no repository or no commit.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD").strip()[:DIGITS]
    if not _git(folder, "status", "--porcelain", "--untracked-files=all", "--", "."):
        return commit
    names = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", ".")
    root = Path(folder)
    return f"{commit}-dirty-{_digest(root, _listed(root, filter(None, names.split(chr(0)))))[:16]}"


def from_folder(folder: str | Path, ignore: Sequence[str] = IGNORED) -> str:
    """A digest of what lies in a folder: names and contents of its files, and where its symbolic links lead to.

    ignore: see IGNORED; it replaces it. What .gitignore says does not count.
    Returns: 40 digits. Order, times, owners and modes of files do not count, nor do empty folders, sockets and the
    like. Line ends do, and so does every byte. A link is not followed.
    Raises: ValueError when there is no such folder; OSError when something in it cannot be read.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"There is no folder {root}.")
    return _digest(root, _walk(root, ignore))[:DIGITS]


def _git(folder: str | Path, *arguments: str) -> str:
    # A git hook that runs us would name its own repository there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, env=environment, check=True)
    except FileNotFoundError as error:
        raise ValueError("The program git is not there. Name the code's version, or use from_folder.") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise ValueError(f"git knows no commit of {folder}. It says: {said}") from error
    return os.fsdecode(done.stdout)


def _walk(folder: Path, ignore: Sequence[str]) -> Iterator[Path]:
    """The files and links below a folder, in no order."""
    for path in folder.iterdir():
        if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in ignore):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, ignore)
        else:
            yield path


def _listed(root: Path, names: Iterable[str]) -> Iterator[Path]:
    """The files and links that git lists. A folder among them is another repository within this one."""
    for name in names:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, IGNORED)
        else:
            yield path


def _digest(root: Path, paths: Iterable[Path]) -> str:
    """sha256 over kind, name and content of each file, in the order of their names."""
    entries = []
    for path in paths:
        # One spelling of letters like ü: file systems differ.
        name = os.fsencode(unicodedata.normalize("NFC", path.relative_to(root).as_posix()))
        if path.is_symlink():
            target = os.readlink(path).replace(os.sep, "/")
            entries.append((name, b"l", hashlib.sha256(os.fsencode(target)).digest()))
        elif path.is_file():
            with path.open("rb") as file:
                entries.append((name, b"f", hashlib.file_digest(file, "sha256").digest()))
    digest = hashlib.sha256()
    for name, kind, content in sorted(entries):
        digest.update(kind + len(name).to_bytes(8, "big") + name + content)
    return digest.hexdigest()
