"""Computes the fifth level of a tenant, the version of the code, where nobody wants to name it by hand.

    TenantAwareStorage.from_mcp_server("mcp-1", "shop", code_hash.from_commit("."))

Both functions give a text that is the same on every machine for the same code, and that stays the same in later
releases of this package: models are found by it.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
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
# Settings of git's that say how files compare with what was committed. None of them runs anything.
PLAIN = (
    "autocrlf",
    "eol",
    "filemode",
    "symlinks",
    "ignorecase",
    "precomposeunicode",
    "excludesfile",
    "attributesfile",
)
DIGITS = 40  # of a digest, as many as a commit has: a level holds 63 characters

Git = Callable[..., str]


def from_commit(folder: str | Path = ".") -> str:
    """The commit that is checked out in the git repository of a folder. Needs the program git.

    Nothing runs that the repository, or git's settings, name: no filter, hook or monitor. So a file that only a filter
    makes equal to what was committed (git-lfs) counts as changed, unless git's index has seen it unchanged.
    Returns: the commit's 40 digits. When something in the folder was changed or added since, and git does not ignore
    it, `-dirty-` and 16 digits follow, which stand for the content of all files there that git does not ignore: other
    changes are another version, and taking them back leads back to the commit. Elsewhere in the repository
    changes do not count; commits do.
    Raises: ValueError when there is no git, no repository or no commit.
    """
    root = Path(folder)
    with _repository(root) as (commit, git):
        if not _is_changed(root, git):
            return commit[:DIGITS]
        names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", ".")
    digest = _digest(root, _listed(root, filter(None, names.split("\0"))))
    return f"{commit[:DIGITS]}-dirty-{digest[:16]}"


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


def _git(folder: Path, environment: Mapping[str, str], *arguments: str) -> str:
    # A git hook that runs us would name its own repository in such variables.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**inherited, "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", **environment},
            check=True,
        )
    except FileNotFoundError as error:
        raise ValueError("The program git is not there. Name the code's version, or use from_folder.") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise ValueError(f"git knows no commit of {folder}. It says: {said}") from error
    return os.fsdecode(done.stdout)


@contextmanager
def _repository(folder: Path, **environment: str) -> Iterator[tuple[str, Git]]:
    """The commit of a folder's repository, and what runs git on its objects, index and files alone.

    git runs what the configuration of a repository names: filters, monitors, and programs that fetch what is missing,
    in each submodule too. So the repository is asked where its parts are, which runs nothing; and what looks at files
    gets a repository of our own, which has these parts and a configuration of plain values.
    """
    ask = partial(_git, folder, environment)
    commit = ask("rev-parse", "--verify", "HEAD").strip()
    parts = ["objects", "index", "info/exclude", "info/attributes"]
    where = [part for name in parts for part in ("--git-path", name)]
    found = ask("rev-parse", "--show-object-format", "--show-toplevel", *where).rstrip("\n").split("\n")
    if len(found) != 2 + len(parts):
        raise ValueError(f"git knows no commit of {folder}. Its path has a line break.")
    form, top, objects, index, *info = (part if at == 0 else _absolute(folder, part) for at, part in enumerate(found))
    try:
        values = ask("config", "-z", "--get-regexp", f"^core\\.({'|'.join(PLAIN)})$")
    except ValueError:  # there is none
        values = ""
    with tempfile.TemporaryDirectory(prefix="pydb-git-") as own:
        for name in ("refs", "info"):
            os.mkdir(os.path.join(own, name))
        for rules in filter(os.path.isfile, info):
            shutil.copyfile(rules, os.path.join(own, "info", os.path.basename(rules)))
        for split in Path(index).parent.glob("sharedindex.*"):
            shutil.copyfile(split, os.path.join(own, split.name))
        Path(own, "HEAD").write_text(commit + "\n")
        version = "repositoryformatversion = 1\n[extensions]\nobjectFormat = " + form
        Path(own, "config").write_text(f"[core]\n{version if form != 'sha1' else ''}\n")
        safe = {
            "GIT_DIR": own,
            "GIT_WORK_TREE": top,
            "GIT_OBJECT_DIRECTORY": objects,
            "GIT_INDEX_FILE": index,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_NO_REPLACE_OBJECTS": "1",
        }
        options = ["-c", "core.untrackedCache=false"]
        for value in filter(None, values.split("\0")):
            options += ["-c", value.replace("\n", "=", 1)]
        yield commit, partial(_git, folder, safe, *options)


def _absolute(folder: Path, path: str) -> str:
    return os.path.join(os.path.abspath(folder), path)


def _is_changed(folder: Path, git: Git) -> bool:
    # Of a submodule git compares the commit here, and would run itself there for the rest.
    if git("status", "--porcelain", "--untracked-files=all", "--ignore-submodules=dirty", "--", "."):
        return True
    links = [entry for entry in git("ls-files", "-s", "-z", "--", ".").split("\0") if entry.startswith("160000 ")]
    return any(_is_submodule_changed(folder / link.partition("\t")[2]) for link in links)


def _is_submodule_changed(folder: Path) -> bool:
    if not os.path.lexists(folder / ".git"):
        return False  # it was not checked out
    try:
        # Not the repository around it, when this is none.
        with _repository(folder, GIT_CEILING_DIRECTORIES=os.path.realpath(folder.parent)) as (_, git):
            return _is_changed(folder, git)
    except ValueError:
        return True


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
