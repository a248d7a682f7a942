"""The version of the code: the same for the same code on every machine, another for other code."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pydb import code_hash
from pydb.token import LEVEL

FILES = {"main.py": "print(1)\n", "lib/é.py": "x = 1\n", "lib/deep/b.txt": "b\n"}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = write(tmp_path / "repository", {**FILES, ".gitignore": "*.log\n"})
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


def test_a_folder_has_the_digest_that_is_written_here_for_ever(tmp_path: Path) -> None:
    # A release that changes it loses every model that was saved under it.
    folder = write(tmp_path, FILES)
    (folder / "link").symlink_to("lib/deep")
    assert code_hash.from_folder(folder) == "f5baf800c74eea0dff0bb56ebb2fc80368a90c4a"


def test_neither_order_nor_time_nor_mode_nor_place_of_files_counts(tmp_path: Path) -> None:
    one = write(tmp_path / "one", FILES)
    other = write(tmp_path / "other", dict(reversed(FILES.items())))
    os.utime(other / "main.py", (1, 1))
    (other / "main.py").chmod(0o755)
    (other / "empty").mkdir()
    os.mkfifo(other / "pipe")
    assert code_hash.from_folder(one) == code_hash.from_folder(str(other))


def test_one_spelling_of_a_name_is_as_good_as_the_other(tmp_path: Path) -> None:
    composed, decomposed = write(tmp_path / "a", {"\u00e9": "x"}), write(tmp_path / "b", {"e\u0301": "x"})
    assert code_hash.from_folder(composed) == code_hash.from_folder(decomposed)


@pytest.mark.parametrize(
    "files",
    [
        {"main.py": "print(2)\n"},
        {"main.py": "print(1)\r\n"},
        {"new.py": ""},
        {"lib/main.py": "print(1)\n"},
    ],
)
def test_every_other_content_and_name_counts(tmp_path: Path, files: dict[str, str]) -> None:
    before = code_hash.from_folder(write(tmp_path, FILES))
    assert code_hash.from_folder(write(tmp_path, files)) != before


def test_a_file_is_no_link_and_a_moved_border_is_another_folder(tmp_path: Path) -> None:
    file, link = write(tmp_path / "a", {"x": "y"}), write(tmp_path / "b", {})
    link.mkdir()
    (link / "x").symlink_to("y")
    joined = write(tmp_path / "c", {"xy": ""})
    assert len({code_hash.from_folder(folder) for folder in (file, link, joined)}) == 3


def test_what_is_ignored_does_not_count_anywhere(tmp_path: Path) -> None:
    before = code_hash.from_folder(write(tmp_path, FILES))
    ignored = {
        ".env": "",
        "lib/.git/HEAD": "",
        "__pycache__/a": "",
        "lib/a.pyc": "",
        "node_modules/x.js": "",
        "venv/x": "",
    }
    write(tmp_path, ignored)
    assert code_hash.from_folder(tmp_path) == before
    assert code_hash.from_folder(tmp_path, ignore=()) != before


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder, outside = write(tmp_path / "folder", FILES), write(tmp_path / "outside", {"secret": "1"})
    (folder / "link").symlink_to(outside)
    before = code_hash.from_folder(folder)
    (outside / "secret").write_text("2")
    assert code_hash.from_folder(folder) == before


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder"):
        code_hash.from_folder(tmp_path / "nowhere")


def test_a_clean_repository_has_its_commit(repository: Path) -> None:
    assert code_hash.from_commit(repository) == git(repository, "rev-parse", "HEAD")
    assert code_hash.from_commit(repository / "lib") == git(repository, "rev-parse", "HEAD")
    (repository / "x.log").write_text("ignored")
    assert code_hash.from_commit(repository) == git(repository, "rev-parse", "HEAD")


@pytest.mark.parametrize("files", [{"main.py": "print(2)\n"}, {"new.py": "x"}, {"lib/new.py": "x"}])
def test_a_dirty_repository_has_another_version_until_it_is_clean_again(
    repository: Path, tmp_path: Path, files: dict[str, str]
) -> None:
    commit = code_hash.from_commit(repository)
    git(tmp_path, "clone", str(repository), "clone")
    write(repository, files)
    dirty = code_hash.from_commit(repository)
    assert re.fullmatch(rf"{commit}-dirty-[0-9a-f]{{16}}", dirty)
    assert LEVEL.fullmatch(dirty)
    # The same on another machine, and with the change in the index.
    git(write(tmp_path / "clone", files), "add", ".")
    assert code_hash.from_commit(tmp_path / "clone") == dirty
    write(repository, dict.fromkeys(files, "other"))
    assert code_hash.from_commit(repository) not in (commit, dirty)
    git(repository, "checkout", "--", ".")
    git(repository, "clean", "-fd")
    assert code_hash.from_commit(repository) == commit


def test_a_deleted_file_is_a_change(repository: Path) -> None:
    (repository / "main.py").unlink()
    assert "-dirty-" in code_hash.from_commit(repository)


def test_a_change_elsewhere_in_the_repository_is_none_of_the_folder(repository: Path) -> None:
    (repository / "main.py").write_text("changed")
    assert "-dirty-" in code_hash.from_commit(repository)
    assert code_hash.from_commit(repository / "lib") == git(repository, "rev-parse", "HEAD")


def test_the_files_of_a_repository_within_count_when_it_is_dirty(repository: Path) -> None:
    inner = write(repository / "inner", {"a.py": "1"})
    git(inner, "init")
    one = code_hash.from_commit(repository)
    (inner / "a.py").write_text("2")
    assert "-dirty-" in one
    assert code_hash.from_commit(repository) != one


def test_the_repository_of_a_git_hook_is_not_taken_for_the_folders(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    with pytest.raises(ValueError, match="git"):
        code_hash.from_commit(tmp_path)


def test_without_a_commit_or_git_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="git"):
        code_hash.from_commit(tmp_path)
    git(tmp_path, "init")
    with pytest.raises(ValueError, match="git"):
        code_hash.from_commit(tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="from_folder"):
        code_hash.from_commit(tmp_path)


# A repository that somebody else made --------------------------------------------------------------------------------


def submodule(repository: Path) -> Path:
    """A repository within, registered as a submodule and committed."""
    inner = write(repository / "sub", {"a.py": "1\n"})
    git(inner, "init")
    git(inner, "add", ".")
    git(inner, "commit", "-m", "inner")
    git(repository, "-c", "advice.addEmbeddedRepo=false", "add", "sub")
    git(repository, "commit", "-m", "sub")
    return inner


def filtered(folder: Path, command: str, kind: str) -> None:
    git(folder, "config", f"filter.evil.{kind}", command)
    git(folder, "config", "filter.evil.required", "true")
    for path in folder.glob("*.py"):
        os.utime(path, (1, 1))


def clean_filter(repository: Path, command: str) -> None:
    write(repository, {".git/info/attributes": "*.py filter=evil\n"})
    filtered(repository, f"{command}; cat", "clean")


def committed_process_filter(repository: Path, command: str) -> None:
    write(repository, {".gitattributes": "*.py filter=evil\n"})
    git(repository, "add", ".")
    git(repository, "commit", "-m", "attributes")
    filtered(repository, command, "process")


def included_filter(repository: Path, command: str) -> None:
    write(
        repository, {".git/info/attributes": "*.py filter=evil\n", "x": f'[filter "evil"]\nclean = "{command}; cat"\n'}
    )
    git(repository, "config", "include.path", "../x")
    filtered(repository, "cat", "smudge")


def filter_of_the_worktree(repository: Path, command: str) -> None:
    git(repository, "config", "extensions.worktreeConfig", "true")
    write(repository, {".git/info/attributes": "*.py filter=evil\n"})
    git(repository, "config", "--worktree", "filter.evil.clean", f"{command}; cat")
    filtered(repository, "cat", "smudge")


def filter_of_a_submodule(repository: Path, command: str) -> None:
    clean_filter(submodule(repository), command)


def monitor(repository: Path, command: str) -> None:
    git(repository, "config", "core.fsmonitor", command + ";:")
    git(repository, "config", "core.fsmonitorHookVersion", "2")


def monitor_of_a_submodule(repository: Path, command: str) -> None:
    monitor(submodule(repository), command)


def hooks(repository: Path, command: str) -> None:
    for name in ("post-index-change", "post-checkout", "reference-transaction", "fsmonitor-watchman"):
        write(repository, {f"hooks/{name}": f"#!/bin/sh\n{command}\n"})
        (repository / "hooks" / name).chmod(0o755)
    git(repository, "config", "core.hooksPath", "hooks")
    os.utime(repository / "main.py", (1, 1))


def what_is_missing_is_fetched(repository: Path, command: str) -> None:
    git(repository, "config", "core.repositoryFormatVersion", "1")
    git(repository, "config", "extensions.partialClone", "evil")
    for name, value in {
        "url": str(repository),
        "promisor": "true",
        "uploadpack": f"{command}; git-upload-pack",
    }.items():
        git(repository, "config", f"remote.evil.{name}", value)
    for path in (repository / ".git" / "objects").glob("??/*"):
        path.unlink()


def words_that_git_runs(repository: Path, command: str) -> None:
    for name in (
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "core.askPass",
        "core.gitProxy",
        "core.alternateRefsCommand",
        "diff.external",
        "diff.evil.textconv",
        "diff.evil.command",
        "merge.evil.driver",
        "alias.status",
        "alias.rev-parse",
        "pager.status",
        "credential.helper",
        "gpg.program",
        "uploadpack.packObjectsHook",
        "trailer.x.command",
    ):
        git(repository, "config", name, f"!{command}" if name.startswith("alias") else command)
    write(repository, {".git/info/attributes": "*.py diff=evil merge=evil\n", "main.py": "print(2)\n"})


ATTACKS = [
    clean_filter,
    committed_process_filter,
    included_filter,
    filter_of_the_worktree,
    filter_of_a_submodule,
    monitor,
    monitor_of_a_submodule,
    hooks,
    what_is_missing_is_fetched,
    words_that_git_runs,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_runs_that_a_repository_configures(
    repository: Path, tmp_path: Path, attack: Callable[[Path, str], None]
) -> None:
    mark = tmp_path / "mark"
    attack(repository, f"touch {mark}")
    mark.unlink(missing_ok=True)  # git itself ran it while it was prepared
    if attack is what_is_missing_is_fetched:
        with pytest.raises(ValueError, match="git"):
            code_hash.from_commit(repository)
    else:
        assert re.match("[0-9a-f]{40}", code_hash.from_commit(repository))
    assert not mark.exists()


@pytest.mark.parametrize("name", ["GIT_EXTERNAL_DIFF", "GIT_PAGER", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_TRACE"])
def test_nothing_of_gits_environment_counts(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv(name, str(mark) if name == "GIT_TRACE" else f"touch {mark}")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", f"touch {mark};:")
    (repository / "main.py").write_text("changed")
    assert "-dirty-" in code_hash.from_commit(repository)
    assert not mark.exists()


def test_no_filter_of_the_users_own_runs(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its command may name a program of the repository's.
    home = write(
        tmp_path / "home", {".gitconfig": '[filter "f"]\nclean = "touch mark; cat"\n', ".config/git/ignore": "*.tmp\n"}
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    write(
        repository, {".git/info/attributes": "* filter=f\n", ".git/info/exclude": "*.swp\n", "a.tmp": "", "a.swp": ""}
    )
    os.utime(repository / "main.py", (1, 1))
    # What the user has git ignore is still ignored.
    assert code_hash.from_commit(repository) == git(repository, "rev-parse", "HEAD")
    assert not (repository / "mark").exists()


def test_a_file_that_only_a_filter_makes_equal_counts_as_changed_once_touched(repository: Path) -> None:
    git(repository, "config", "filter.upper.clean", "tr a-z A-Z")
    write(repository, {".gitattributes": "a.txt filter=upper\n", "a.txt": "lower\n"})
    git(repository, "add", ".")
    git(repository, "commit", "-m", "filtered")
    os.utime(repository / "a.txt", (1, 1))
    git(repository, "update-index", "--refresh")
    assert code_hash.from_commit(repository) == git(repository, "rev-parse", "HEAD")
    os.utime(repository / "a.txt", (2, 2))
    assert "-dirty-" in code_hash.from_commit(repository)


def test_line_ends_that_git_converts_are_no_change(repository: Path) -> None:
    git(repository, "config", "core.autocrlf", "true")
    (repository / "main.py").unlink()
    git(repository, "checkout", "main.py")
    assert (repository / "main.py").read_bytes() == b"print(1)\r\n"
    os.utime(repository / "main.py", (1, 1))
    assert code_hash.from_commit(repository) == git(repository, "rev-parse", "HEAD")
    git(repository, "config", "core.autocrlf", "false")
    assert "-dirty-" in code_hash.from_commit(repository)


def test_a_change_in_a_submodule_is_a_change_of_the_folder(repository: Path) -> None:
    inner = submodule(repository)
    commit = git(repository, "rev-parse", "HEAD")
    assert code_hash.from_commit(repository) == commit
    (inner / "a.py").write_text("2\n")
    assert code_hash.from_commit(repository).startswith(f"{commit}-dirty-")
    git(inner, "commit", "-am", "more")
    assert code_hash.from_commit(repository).startswith(f"{commit}-dirty-")
    git(repository, "add", "sub")
    assert code_hash.from_commit(repository).startswith(f"{commit}-dirty-")
    git(repository, "commit", "-m", "newer")
    assert code_hash.from_commit(repository) == git(repository, "rev-parse", "HEAD")
    # What is no repository any more is not looked for in the one around it.
    (inner / ".git").rename(inner.parent.parent / "gone")
    (inner / ".git").mkdir()
    assert "-dirty-" in code_hash.from_commit(repository)


@pytest.mark.parametrize("options", [["--object-format=sha256"], ["--separate-git-dir", "../elsewhere"]])
def test_other_layouts_of_a_repository_do(tmp_path: Path, options: list[str]) -> None:
    folder = write(tmp_path / "folder", FILES)
    git(folder, "init", *options)
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    git(folder, "update-index", "--split-index")
    assert code_hash.from_commit(folder) == git(folder, "rev-parse", "HEAD")[:40]
    git(folder, "worktree", "add", "../second")
    assert code_hash.from_commit(tmp_path / "second") == git(folder, "rev-parse", "HEAD")[:40]
    write(tmp_path / "second", {"main.py": "changed"})
    assert "-dirty-" in code_hash.from_commit(tmp_path / "second")
