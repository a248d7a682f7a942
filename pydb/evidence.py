"""Writes a folder of evidence for an auditor: what the database says of itself, a page to read, and a manifest.

The same state gives the same bytes: there is no time of the run and nothing random in it. `python verifier.py FOLDER`
verifies it without the database.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psycopg

from . import calls, evidence_page, session, verifier

__all__ = ["SECTIONS", "EvidenceError", "build", "collect", "read_attacks", "read_key", "write"]

# What collect_evidence() returns. Each is a file.
SECTIONS = (
    "release",
    "controls",
    "roles",
    "rights",
    "policies",
    "triggers",
    "functions",
    "settings",
    "authorizations",
    "signing_keys",
    "audit",
    "checkpoints",
    "events",
    "shares",
    "retention",
    "erasures",
)

EXTRA_HINT = "Run: pip install 'tenant-ai-storage[identity]', or from a clone: pip install '.[identity]'"

# From good to bad: of a test that a JUnit file names twice, the worst counts.
_RESULTS = ("passed", "skipped", "error", "failed")


class EvidenceError(Exception):
    """Nothing was written. message: what is wrong; hint: what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


def collect(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """What the database says of itself, by section. connection: an administrator's or an auditor's.

    Raises: EvidenceError, StorageError, psycopg.Error.
    Source: sql/50_compliance.sql, ai_storage.collect_evidence
    """
    sections = session.run(connection, calls.collect_evidence())
    if tuple(sections) != SECTIONS:
        raise EvidenceError("The database's release is another one.", "Run: pydb migrate")
    return sections


def read_attacks(path: Path) -> dict[str, str]:
    """Test -> passed, failed, error or skipped, from the JUnit XML of the attack suite.

    Raises: EvidenceError.
    """
    attacks: dict[str, str] = {}
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (OSError, ElementTree.ParseError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise EvidenceError(f"{path} cannot be read: {reason}.", "Write it with: make attacks") from error
    for case in root.iter("testcase"):
        found = {"failure": "failed", "error": "error", "skipped": "skipped"}
        result = max((found[part.tag] for part in case if part.tag in found), default="passed", key=_RESULTS.index)
        test = f"{case.get('classname', '')}::{case.get('name', '')}"
        attacks[test] = max(result, attacks.get(test, "passed"), key=_RESULTS.index)
    if not attacks:
        raise EvidenceError(f"{path} holds no test.", "Write it with: make attacks")
    return attacks


def read_key(path: Path) -> Any:
    """The Ed25519 key in a PEM file, as `openssl genpkey -algorithm ed25519` makes it.

    Raises: EvidenceError.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # needs an extra
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise EvidenceError("Signing needs the package cryptography.", EXTRA_HINT) from error
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror}.", "Name the file of the key.") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # TypeError: it is encrypted.
        raise EvidenceError(
            f"{path} holds no private key in PEM without a password.",
            "Make one: openssl genpkey -algorithm ed25519 -out FILE",
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise EvidenceError(
            f"{path} holds a key of another kind.", "Make one: openssl genpkey -algorithm ed25519 -out FILE"
        )
    return key


def _dump(value: object) -> bytes:
    # In ASCII: no name can reverse or hide the text around it.
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode("ascii")


def build(
    sections: Mapping[str, Any], *, attacks: Mapping[str, str] | None = None, key: Any = None
) -> dict[str, bytes]:
    """The files of a folder of evidence, by name.

    sections: from collect. attacks: from read_attacks. key: from read_key; signs the manifest.
    """
    files = {f"{name}.json": _dump(content) for name, content in sections.items()}
    public_key = None
    if attacks is not None:
        files["attacks.json"] = _dump(attacks)
    if key is not None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public_key = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        files["public_key.pem"] = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files["index.html"] = evidence_page.render(sections, attacks, public_key).encode()
    manifest = _dump(
        {
            "kind": "manifest",
            "attacks": "not given" if attacks is None else "attacks.json",
            "files": {name: sha256(content).hexdigest() for name, content in files.items()},
        }
    )
    files["manifest.json"] = manifest
    if key is not None:
        files["manifest.sig"] = key.sign(manifest)
    return files


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of evidence; it replaces an earlier one as a whole.

    It is written beside and renamed, so a crash leaves the old folder, the new one, or none under the name, never half
    of one. What a crash left beside goes with the next run.
    Raises: EvidenceError when the folder holds anything but an unchanged earlier one; OSError.
    """
    folder = folder.resolve()
    new, old = (folder.parent / f".{folder.name}.evidence-{state}" for state in ("new", "old"))
    with _lock(folder.parent):
        if old.exists() and not folder.exists():
            old.rename(folder)
        for left in (new, old):
            if left.exists():
                shutil.rmtree(left)
        if _holds(folder, files):
            return
        _refuse_other_files(folder)
        new.mkdir()
        for name, content in files.items():
            with open(new / name, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        _sync(folder.parent)
        if old.exists():
            shutil.rmtree(old)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One writer at a time in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether exactly these files are there already."""
    return (
        folder.is_dir()
        and {path.name for path in folder.iterdir()} == set(files)
        and all((folder / name).is_file() and (folder / name).read_bytes() == files[name] for name in files)
    )


def _refuse_other_files(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    hint = "Name a folder that is new, empty, or holds an earlier bundle as it was written."
    if folder.is_dir():
        earlier = verifier.verify_evidence(folder)
        if not earlier.verified:
            raise EvidenceError(f"{folder} holds something else: {earlier.problem}.", hint)
    elif folder.exists():
        raise EvidenceError(f"{folder} is a file.", hint)
