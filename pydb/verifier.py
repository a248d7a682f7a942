"""Verify an audit log without its database: one file, for Python 3.11 or newer, that imports nothing else.

    python verifier.py BUNDLE.jsonl [--checkpoint HASH] [--seal HASH] [--json]
    python verifier.py CERTIFICATE.json [--checkpoint HASH] [--json]
    python verifier.py EVIDENCE_FOLDER [--checkpoint HASH] [--public-key FILE_OR_HEX] [--json]

A bundle holds one JSON object per line: what ai_storage.export_audit() returns, all events, seals and checkpoints of
one tenant, in that order; or what ai_storage.audit_proof() returns, followed by the checkpoints of an export. Exit
code: 0 verified; 1 not verified, and the first bad line is named; 2 the file cannot be read, or the command is wrong.

What a verified bundle shows: no event was changed, added, moved or taken out from among the others since it was sealed,
and every seal with a path existed when its checkpoint was made. Names that an erasure took (salt and detail) are not
missed: the leaf is made of their digest.

What it cannot show by itself: whoever may write the database can compute everything anew. A hash kept outside ends
that. --checkpoint, the hash of a checkpoint: it has to be in the chain, so the checkpoints up to it, and all events
under seals with a path to one of them, are those of that time. --seal, the hash of a seal of this tenant: it has to be
in the tenant's chain, so this seal and all before it are still there. Only that, or ai_storage.verify_all_audit(),
tells that the newest seals of one tenant were left out with their events: a checkpoint does not say whose seals it
covers. So keep both: the operator the hash of each checkpoint, a tenant the hash of its newest seal.

A certificate of an erasure is one JSON object: the statement, the proof of the event that holds the statement's digest,
and the checkpoint over it. Here --checkpoint is that checkpoint's hash. White space, the order of fields, and how JSON
writes a character are not covered; everything that the file says is.

A folder of evidence is what `pydb evidence` wrote. Verified: it holds the files of its manifest and no other, none was
changed since, the manifest's signature (Ed25519, RFC 8032), and the chain of checkpoints. Whoever changes a file may
also write the manifest and sign it with a key of his own: that shows by --public-key, or by the manifest's sha256. What
the files say, such as that a control failed, is printed and changes no exit code.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Run where it lies, a neighbour such as token.py would be taken for the standard library's.
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]

import argparse
import json
import re
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import sha256, sha512
from itertools import islice
from operator import itemgetter
from typing import Any

__all__ = [
    "Evidence",
    "Result",
    "ed25519_verify",
    "merkle_root",
    "read_public_key",
    "verify",
    "verify_certificate",
    "verify_evidence",
]


@dataclass(frozen=True, slots=True)
class Result:
    """What a bundle shows. events, seals, checkpoints: how many were verified.

    problem: the line and what is wrong with it, or None. tenant_id, seal_number, leaf_index, event_id: where, as far as
    it is known; of a line that is missing, its place.
    """

    verified: bool
    events: int = 0
    seals: int = 0
    checkpoints: int = 0
    problem: str | None = None
    tenant_id: int | None = None
    seal_number: int | None = None
    leaf_index: int | None = None
    event_id: str | None = None


def verify(
    lines: Iterable[str], *, checkpoint: str | None = None, seal: str | None = None, processes: int = 1
) -> Result:
    """Verify the lines of a bundle. The first bad line ends it.

    checkpoint, seal: hashes kept outside, in lower-case hexadecimal. processes: how many parse and hash events.
    Memory: a hash per event of the seal at hand, and the lines in work.
    """
    check = _Check(checkpoint, seal)
    try:
        for part in _read_all(lines, processes):
            check.take(part)
        if not (check.events or check.seals or check.checkpoints):
            raise _Problem(None, "the file is empty")
        check.finish()
    except _Problem as problem:
        return check.result(problem)
    return check.result(None)


_ZEROS = "0" * 64
_BLOCK = 20_000  # lines that one process takes at a time

_event_values = itemgetter(
    "tenant_id",
    "event_id",
    "seal_number",
    "leaf_index",
    "recorded_at",
    "action",
    "model_id",
    "version",
    "credential",
    "content_digest",
    "detail_digest",
    "login",
    "leaf_hash",
    "salt",
    "detail",
)
_EVENT_FIELDS = 16  # with kind
_is_hash = re.compile("[0-9a-f]{64}").fullmatch
_is_step = re.compile("(left|right) [0-9a-f]{64}").fullmatch


class _Problem(Exception):
    def __init__(
        self,
        line: int | None,
        text: str,
        tenant_id: int | None = None,
        seal_number: int | None = None,
        leaf_index: int | None = None,
        event_id: str | None = None,
    ) -> None:
        super().__init__(line, text, tenant_id, seal_number, leaf_index, event_id)
        self.text = text if line is None else f"line {line}: {text}"
        self.place = (tenant_id, seal_number, leaf_index, event_id)


@dataclass(slots=True)
class _Run:
    """Events that follow each other under one seal."""

    line: int
    tenant_id: int
    seal_number: int
    leaf_index: int
    event_id: str
    leaves: list[bytes]


@dataclass(slots=True)
class _Line:
    """A line that is no plain event."""

    line: int
    value: dict[str, Any]


@dataclass(slots=True)
class _Path:
    """The root that a seal's path leads to, until its checkpoint is read."""

    line: int
    tenant_id: int
    seal_number: int
    root: str


_Part = _Run | _Line | _Problem


# Reading: what several processes do


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a field twice")
    return value


_decode = json.JSONDecoder(object_pairs_hook=_unique).raw_decode
_BAD = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def _leaf(event: Mapping[str, Any]) -> bytes:
    """The leaf of an event, as ai_storage_private.leaf_hash() makes it.

    Raises: ValueError, KeyError, TypeError, AttributeError: it is no event, or a changed one.
    """
    (tenant_id, event_id, seal_number, leaf_index, recorded_at, action, model_id, version, credential) = (
        values := _event_values(event)
    )[:9]
    (content_digest, detail_digest, login, leaf_hash, salt, detail) = values[9:]
    # A number that is none shows, as repr() tells 1 from "1", 1.0 and true, and join() takes nothing but text.
    text = "|".join(
        (
            f"\0{tenant_id!r}",
            event_id,
            f"{seal_number!r}|{leaf_index!r}|{recorded_at!r}",
            action,
            "" if model_id is None else model_id,
            "" if version is None else repr(version),
            credential,
            "" if content_digest is None else content_digest,
            detail_digest,
            login,
        )
    )
    # One text has one meaning: only the login, which comes last, may hold a bar.
    if (
        len(event) != _EVENT_FIELDS
        or not (type(tenant_id) is type(seal_number) is type(leaf_index) is type(recorded_at) is int)
        or model_id == ""
        or content_digest == ""
        or text.count("|") != 11 + login.count("|")
        or (salt is None) != (detail is None)
    ):
        raise ValueError("an event with wrong fields")
    if salt is not None:
        key = bytes.fromhex(salt)
        # fromhex() takes blanks and capitals too.
        if key.hex() != salt or sha256(key + detail.encode()).hexdigest() != detail_digest:
            raise ValueError("a changed event")
    leaf = sha256(text.encode()).digest()
    if leaf.hex() != leaf_hash:
        raise ValueError("a changed event")
    return leaf


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeError | RecursionError):
        return "not JSON in UTF-8"
    return str(error) if isinstance(error, ValueError) else "an event with wrong fields"


def _read(lines: Sequence[str], first: int) -> list[_Part]:
    """Parse and hash a block of lines, up to the first bad one. first: the number of its first line."""
    parts: list[_Part] = []
    run = _Run(0, 0, 0, -1, "", [])
    following = (0, 0, -1)
    for number, line in enumerate(lines, first):
        value: Any = None
        try:
            text = line.strip()
            value, end = _decode(text)
            if end < len(text) or type(value) is not dict or value.get("kind") not in _KINDS:
                raise ValueError("not a line of a bundle")
            if value["kind"] != "event" or "seal" in value:
                parts.append(_Line(number, value))
                following = (0, 0, -1)
                continue
            leaf = _leaf(value)
        except _BAD as error:
            parts.append(_Problem(number, _reason(error), *_place(value)))
            break
        here = (value["tenant_id"], value["seal_number"], value["leaf_index"])
        if here != following:
            run = _Run(number, *here, value["event_id"], [])
            parts.append(run)
        run.leaves.append(leaf)
        following = (here[0], here[1], here[2] + 1)
    return parts


def _place(value: object) -> tuple[Any, ...]:
    """What a bad line says of its place."""
    fields = {"tenant_id": int, "seal_number": int, "leaf_index": int, "event_id": str}
    known = value if type(value) is dict else {}
    return tuple(known.get(name) if type(known.get(name)) is kind else None for name, kind in fields.items())


def _read_all(lines: Iterable[str], processes: int) -> Iterator[_Part]:
    rest = iter(lines)
    first = 1
    block = list(islice(rest, _BLOCK))
    if processes < 2 or len(block) < _BLOCK:
        while block:
            yield from _read(block, first)
            first += len(block)
            block = list(islice(rest, _BLOCK))
        return
    with ProcessPoolExecutor(processes) as pool:
        work: deque[Future[list[_Part]]] = deque()
        while block or work:
            while block and len(work) <= processes:
                work.append(pool.submit(_read, block, first))
                first += len(block)
                block = list(islice(rest, _BLOCK))
            yield from work.popleft().result()


# Checking: what one process does


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root of a Merkle tree (RFC 6962, section 2.1) over leaves that are hashed already. leaves: at least one."""
    level = list(leaves)
    while len(level) > 1:
        above = [sha256(b"\1" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        # A hash without a partner goes up as it is.
        level = above + level[2 * len(above) :]
    return level[0]


def _sides(index: int, count: int) -> list[str]:
    """On which side the siblings on a leaf's path stand, from the bottom."""
    sides = []
    while count > 1:
        if index ^ 1 < count:
            sides.append("right" if index % 2 == 0 else "left")
        index, count = index // 2, (count + 1) // 2
    return sides


def _follow(start: bytes, path: Iterable[str]) -> str:
    """The root to which a path leads, in hexadecimal."""
    here = start
    for step in path:
        side, sibling = step.split(" ")
        other = bytes.fromhex(sibling)
        here = sha256(b"\1" + (here + other if side == "right" else other + here)).digest()
    return here.hex()


def _text_hash(*fields: object) -> str:
    return sha256("|".join(map(str, fields)).encode()).hexdigest()


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_time(value: object) -> bool:
    return type(value) is int


def _is_digest(value: object) -> bool:
    return type(value) is str and _is_hash(value) is not None


def _is_path(value: object) -> bool:
    return type(value) is list and all(type(step) is str and _is_step(step) is not None for step in value)


_SEAL: dict[str, Callable[[object], bool]] = {
    "tenant_id": _is_count,
    "seal_number": _is_count,
    "checkpoint_number": _is_count,
    "sealed_at": _is_time,
    "event_count": _is_count,
    "root": _is_digest,
    "previous_hash": _is_digest,
    "seal_hash": _is_digest,
    "path": lambda value: value is None or _is_path(value),
}
_CHECKPOINT: dict[str, Callable[[object], bool]] = {
    "checkpoint_number": _is_count,
    "created_at": _is_time,
    "root": _is_digest,
    "previous_hash": _is_digest,
    "checkpoint_hash": _is_digest,
}
_KINDS = ("event", "seal", "checkpoint")


def _has_fields(value: Mapping[str, Any], fields: Mapping[str, Callable[[object], bool]]) -> bool:
    return value.keys() == {"kind", *fields} and all(good(value[name]) for name, good in fields.items())


@dataclass(slots=True)
class _Check:
    """The state of one verification."""

    kept_checkpoint: str | None
    kept_seal: str | None
    events: int = 0
    seals: int = 0
    checkpoints: int = 0
    tenant_id: int | None = None
    # Counts and roots of the events read, seal by seal; the last is still growing.
    trees: list[tuple[int, str]] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    end_of_events: int | None = None  # the first line of another kind
    seal_hash: str = _ZEROS
    checkpoint_hash: str = _ZEROS
    # By the number of their checkpoint: seals with a path to it, and seals without.
    paths: dict[int, list[_Path]] = field(default_factory=dict)
    open: list[tuple[int, _Path]] = field(default_factory=list)

    def result(self, problem: _Problem | None) -> Result:
        if problem is None:
            return Result(True, self.events, self.seals, self.checkpoints)
        return Result(False, self.events, self.seals, self.checkpoints, problem.text, *problem.place)

    def take(self, part: _Part) -> None:
        if isinstance(part, _Problem):
            raise part
        if isinstance(part, _Run):
            self.take_events(part)
        elif part.value["kind"] == "event":
            self.take_proof(part)
        else:
            if self.end_of_events is None:
                self.end_of_events = part.line
            if part.value["kind"] == "seal":
                self.take_seal(part)
            else:
                self.take_checkpoint(part)

    def know_tenant(self, line: int, tenant_id: int) -> None:
        if self.tenant_id is None:
            self.tenant_id = tenant_id
        if tenant_id != self.tenant_id:
            raise _Problem(line, "of another tenant", tenant_id)

    def take_events(self, run: _Run) -> None:
        self.know_tenant(run.line, run.tenant_id)
        here = (run.seal_number, run.leaf_index)
        if self.leaves and here == (len(self.trees) + 2, 0):
            self.end_tree()
        seal_number = len(self.trees) + 1
        expected = (seal_number, len(self.leaves))
        # Back under the seal before: its events ended too early, or this one stood there already.
        back = bool(self.trees) and run.seal_number == seal_number - 1
        if back:
            expected = (run.seal_number, self.trees[-1][0])
        elif self.leaves and run.seal_number > seal_number:
            expected = (seal_number + 1, 0)
        if self.end_of_events is not None and here >= expected:
            raise _Problem(self.end_of_events, "an event comes after it", self.tenant_id)
        if here > expected:
            raise _Problem(run.line, "a missing event before it", self.tenant_id, *expected)
        if here < expected or back or self.end_of_events is not None:
            raise _Problem(run.line, "an event out of place", self.tenant_id, *here, run.event_id)
        self.leaves += run.leaves
        self.events += len(run.leaves)

    def end_tree(self) -> None:
        if self.leaves:
            self.trees.append((len(self.leaves), merkle_root(self.leaves).hex()))
            self.leaves = []

    def check_seal(self, line: int, seal: Any) -> None:
        """A seal by itself, of an export or of a proof."""
        if type(seal) is not dict or seal.get("kind") != "seal" or not _has_fields(seal, _SEAL):
            raise _Problem(line, "a seal with wrong fields", self.tenant_id, *_place(seal)[1:2])
        self.know_tenant(line, seal["tenant_id"])
        at = (self.tenant_id, seal["seal_number"])
        if seal["seal_hash"] != _text_hash(
            "seal",
            seal["tenant_id"],
            seal["seal_number"],
            seal["checkpoint_number"],
            seal["sealed_at"],
            seal["event_count"],
            seal["root"],
            seal["previous_hash"],
        ):
            raise _Problem(line, "a changed seal", *at)
        if self.checkpoints:
            raise _Problem(line, "a seal after a checkpoint", *at)
        path = _Path(line, seal["tenant_id"], seal["seal_number"], "")
        if seal["path"] is None:
            self.open.append((seal["checkpoint_number"], path))
        else:
            path.root = _follow(bytes.fromhex(seal["seal_hash"]), seal["path"])
            self.paths.setdefault(seal["checkpoint_number"], []).append(path)
        if seal["seal_hash"] == self.kept_seal:
            self.kept_seal = None

    def take_proof(self, part: _Line) -> None:
        event = dict(part.value)
        path, seal = event.pop("path", None), event.pop("seal")
        try:
            leaf = _leaf(event)
        except _BAD as error:
            raise _Problem(part.line, _reason(error), *_place(event)) from error
        place = _place(event)
        self.know_tenant(part.line, event["tenant_id"])
        self.check_seal(part.line, seal)
        if (
            not _is_path(path)
            or event["seal_number"] != seal["seal_number"]
            or not 0 <= event["leaf_index"] < seal["event_count"]
            or [step.split(" ")[0] for step in path] != _sides(event["leaf_index"], seal["event_count"])
            or _follow(leaf, path) != seal["root"]
        ):
            raise _Problem(part.line, "an event that is not under its seal", *place)
        self.events += 1

    def take_seal(self, part: _Line) -> None:
        line, seal = part.line, part.value
        self.end_tree()
        self.check_seal(line, seal)
        number, expected = seal["seal_number"], self.seals + 1
        if number > expected:
            raise _Problem(line, "a missing seal before it", self.tenant_id, expected)
        if number < expected:
            raise _Problem(line, "a seal out of place", self.tenant_id, number)
        if seal["previous_hash"] != self.seal_hash:
            raise _Problem(line, "a seal that does not follow the one before", self.tenant_id, number)
        count, root = self.trees[number - 1] if number <= len(self.trees) else (0, "")
        if count < seal["event_count"]:
            raise _Problem(line, "an event of this seal is missing", self.tenant_id, number, count)
        if count > seal["event_count"]:
            raise _Problem(line, "an event too many under this seal", self.tenant_id, number, seal["event_count"])
        if root != seal["root"]:
            raise _Problem(line, "a changed event under this seal", self.tenant_id, number)
        self.seal_hash = seal["seal_hash"]
        self.seals = number

    def end_seals(self, line: int | None) -> None:
        self.end_tree()
        if len(self.trees) > self.seals:
            raise _Problem(line, "the seal after the last one is missing", self.tenant_id, self.seals + 1)

    def take_checkpoint(self, part: _Line) -> None:
        line, checkpoint = part.line, part.value
        self.end_seals(line)
        if not _has_fields(checkpoint, _CHECKPOINT):
            raise _Problem(line, "a checkpoint with wrong fields")
        number = checkpoint["checkpoint_number"]
        if checkpoint["checkpoint_hash"] != _text_hash(
            "checkpoint", number, checkpoint["created_at"], checkpoint["root"], checkpoint["previous_hash"]
        ):
            raise _Problem(line, f"checkpoint {number} is changed")
        if number != self.checkpoints + 1 or checkpoint["previous_hash"] != self.checkpoint_hash:
            raise _Problem(line, f"checkpoint {number} does not follow the one before")
        for path in self.paths.pop(number, []):
            if path.root != checkpoint["root"]:
                raise _Problem(path.line, "a seal that is not under its checkpoint", path.tenant_id, path.seal_number)
        self.checkpoint_hash = checkpoint["checkpoint_hash"]
        self.checkpoints = number
        if self.checkpoint_hash == self.kept_checkpoint:
            self.kept_checkpoint = None

    def finish(self) -> None:
        self.end_seals(None)
        if self.paths:
            number = min(self.paths)
            path = self.paths[number][0]
            text = f"checkpoint {number} is missing, which covers this seal"
            raise _Problem(path.line, text, path.tenant_id, path.seal_number)
        for number, path in self.open:
            # The next checkpoint will cover it.
            if number != self.checkpoints + 1:
                raise _Problem(path.line, "a seal without its path", path.tenant_id, path.seal_number)
        if self.kept_checkpoint is not None:
            raise _Problem(None, "the checkpoint kept outside is not in the chain")
        if self.kept_seal is not None:
            raise _Problem(None, "the seal kept outside is not in the chain", self.tenant_id)


# A certificate of an erasure


def _parse(text: str) -> Any:
    """One JSON value. Raises: ValueError, RecursionError."""
    return json.loads(text, object_pairs_hook=_unique)


def verify_certificate(text: str, *, checkpoint: str | None = None) -> Result:
    """Verify the certificate of an erasure: the text of its file.

    checkpoint: the hash of its checkpoint, kept outside, in lower-case hexadecimal.
    """
    check = _Check(checkpoint, None)
    try:
        _take_certificate(check, text)
    except _Problem as problem:
        return check.result(problem)
    return check.result(None)


def _take_certificate(check: _Check, text: str) -> None:
    try:
        certificate = _parse(text)
    except (ValueError, RecursionError) as error:
        raise _Problem(None, _reason(error)) from error
    if type(certificate) is not dict or certificate.keys() != {"kind", "statement", "proof", "checkpoint"}:
        raise _Problem(None, "not a certificate")
    statement, proof, checkpoint = certificate["statement"], certificate["proof"], certificate["checkpoint"]
    if certificate["kind"] != "certificate" or type(statement) is not str:
        raise _Problem(None, "not a certificate")
    numbers = ("tenant_id", "seal_number", "leaf_index")
    if (
        type(proof) is not dict
        or proof.get("kind") != "event"
        or "seal" not in proof
        or not all(_is_count(proof.get(name)) for name in numbers)
    ):
        raise _Problem(None, "a proof with wrong fields")
    if (
        type(checkpoint) is not dict
        or checkpoint.get("kind") != "checkpoint"
        or not _has_fields(checkpoint, _CHECKPOINT)
    ):
        raise _Problem(None, "a checkpoint with wrong fields")
    try:
        check.take_proof(_Line(0, proof))
        # It stands alone: what came before it is known by its previous_hash only.
        check.checkpoints = checkpoint["checkpoint_number"] - 1
        check.checkpoint_hash = checkpoint["previous_hash"]
        check.take_checkpoint(_Line(0, checkpoint))
        check.checkpoints = 1
    except _Problem as problem:
        problem.text = problem.text.removeprefix("line 0: ")
        raise
    here = _place(proof)
    if check.paths or check.open:
        raise _Problem(None, "the checkpoint is not the one over the proof's seal", *here)
    if proof["action"] != "erase tenant":
        raise _Problem(None, "the proof is not of an erasure", *here)
    try:
        digest = sha256(bytes.fromhex(proof["salt"] or "") + statement.encode()).hexdigest()
    except UnicodeError:
        digest = ""
    if digest != proof["content_digest"]:
        raise _Problem(None, "the statement is not the one that was logged", *here)
    if check.kept_checkpoint is not None:
        raise _Problem(None, "the checkpoint is not the one kept outside")


# A signature (Ed25519, RFC 8032, section 5.1). Nothing here is secret, so nothing has to take the same time.

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_Point = tuple[int, int, int, int]  # extended coordinates X, Y, Z, T
_NEUTRAL: _Point = (0, 1, 1, 0)


def _add(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0])
    b = (one[1] + one[0]) * (other[1] + other[0])
    c = 2 * one[3] * other[3] * _D
    d = 2 * one[2] * other[2]
    e, f, g, h = (b - a) % _P, (d - c) % _P, (d + c) % _P, (b + a) % _P
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _multiply(scalar: int, point: _Point) -> _Point:
    product = _NEUTRAL
    while scalar:
        if scalar & 1:
            product = _add(product, point)
        point = _add(point, point)
        scalar >>= 1
    return product


def _decode_point(data: bytes) -> _Point:
    """Raises: ValueError when it is no point, or not written in the one way that a point is."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if x * x % _P != square:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if y >= _P or x * x % _P != square or (x == 0 and sign):
        raise ValueError("not a point")
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _encode_point(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


_BASE = _decode_point(bytes.fromhex("58" + "66" * 31))


def ed25519_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature fits. Of two signatures of one message that differ in writing only, one is taken.

    A key of small order is refused: a signature by it fits many messages.
    """
    if len(public_key) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    try:
        key = _decode_point(public_key)
    except ValueError:
        return False
    if s >= _ORDER or _encode_point(_multiply(8, key)) == _encode_point(_NEUTRAL):
        return False
    digest = sha512(signature[:32] + public_key + message).digest()
    k = int.from_bytes(digest, "little") % _ORDER
    minus_key = (_P - key[0], key[1], 1, _P - key[3])
    # Written anew, so another way to write the same R does not pass.
    return _encode_point(_add(_multiply(s, _BASE), _multiply(k, minus_key))) == signature[:32]


_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----").fullmatch
_DER = bytes.fromhex("302a300506032b6570032100")  # what an Ed25519 key begins with


def read_public_key(text: str) -> bytes:
    """An Ed25519 public key of 64 hexadecimal digits, or in PEM as openssl writes it.

    Raises: ValueError.
    """
    text = text.strip()
    if re.fullmatch("[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    found = _PEM(text)
    der = b64decode("".join(found[1].split()), validate=True) if found else b""
    if not der.startswith(_DER) or len(der) != len(_DER) + 32:
        raise ValueError("not an Ed25519 public key")
    return der[len(_DER) :]


# A folder of evidence

_MANIFEST, _SIGNATURE, _KEY, _CHAIN = "manifest.json", "manifest.sig", "public_key.pem", "checkpoints.json"
_is_file_name = re.compile(r"[a-z0-9_]+\.[a-z]+").fullmatch


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a folder of evidence shows. files, checkpoints: how many were verified.

    manifest: its sha256. signed_by: the public key that it was signed with, or None. attacks: whether results of the
    attack suite are among the files. problem: the file and what is wrong with it, or None. says: what the files say of
    controls, audit trail and attack suite, in words; None while the folder is not verified.
    """

    verified: bool
    files: int = 0
    checkpoints: int = 0
    manifest: str | None = None
    signed_by: str | None = None
    attacks: bool = False
    problem: str | None = None
    says: str | None = None


def verify_evidence(
    folder: str | os.PathLike[str], *, public_key: bytes | None = None, checkpoint: str | None = None
) -> Evidence:
    """Verify a folder of evidence. The first bad file ends it.

    public_key: the key that must have signed it, 32 bytes; None takes the folder's own, if it has one. checkpoint: the
    hash of a checkpoint, kept outside, in lower-case hexadecimal.
    Raises: OSError.
    """
    files: dict[str, bytes] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.is_file(follow_symlinks=False):
                return Evidence(False, problem=f"{entry.name!a}: not a file")
            if not _is_file_name(entry.name):
                return Evidence(False, problem=f"{entry.name!a}: not in the manifest")
            with open(entry.path, "rb") as file:
                files[entry.name] = file.read()
    return _check_evidence(files, public_key, checkpoint)


def _check_evidence(files: dict[str, bytes], public_key: bytes | None, checkpoint: str | None) -> Evidence:
    if _MANIFEST not in files:
        return Evidence(False, problem=f"{_MANIFEST}: missing")
    raw = files.pop(_MANIFEST)
    signature = files.pop(_SIGNATURE, None)
    digest = sha256(raw).hexdigest()
    signed_by: str | None = None

    def bad(problem: str) -> Evidence:
        return Evidence(False, manifest=digest, signed_by=signed_by, problem=problem)

    if (signature is None) != (_KEY not in files):
        return bad(f"{_KEY if signature else _SIGNATURE}: missing")
    if signature is not None:
        try:
            own_key = read_public_key(files[_KEY].decode("ascii"))
        except ValueError:
            return bad(f"{_KEY}: not an Ed25519 public key")
        if public_key is not None and own_key != public_key:
            return bad(f"{_KEY}: another key than the one given")
        if not ed25519_verify(own_key, raw, signature):
            return bad(f"{_SIGNATURE}: not a signature of {_MANIFEST} by this key")
        signed_by = own_key.hex()
    elif public_key is not None:
        return bad(f"{_SIGNATURE}: missing")

    try:
        manifest = _parse(raw.decode())
    except (ValueError, RecursionError):
        return bad(f"{_MANIFEST}: not JSON in UTF-8, or a field twice")
    if type(manifest) is not dict or manifest.keys() != {"kind", "attacks", "files"} or manifest["kind"] != "manifest":
        return bad(f"{_MANIFEST}: not a manifest")
    digests = manifest["files"]
    if type(digests) is not dict or not all(_is_file_name(name) and _is_digest(digests[name]) for name in digests):
        return bad(f"{_MANIFEST}: not a manifest")
    if raw != (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode():
        return bad(f"{_MANIFEST}: not written as pydb evidence does")
    for name in sorted(digests.keys() | files.keys()):
        if name not in files:
            return bad(f"{name}: missing")
        if name not in digests:
            return bad(f"{name}: not in the manifest")
        if sha256(files[name]).hexdigest() != digests[name]:
            return bad(f"{name}: changed")
    attacks = "attacks.json" in files
    if manifest["attacks"] != ("attacks.json" if attacks else "not given"):
        return bad(f"{_MANIFEST}: not a manifest")

    check = _Check(checkpoint, None)
    try:
        chain = _parse(files.get(_CHAIN, b"null").decode())
        if type(chain) is not list:
            raise _Problem(None, "not a list of checkpoints")
        for value in chain:
            if type(value) is not dict or value.get("kind") != "checkpoint":
                raise _Problem(None, "not a list of checkpoints")
            check.take_checkpoint(_Line(0, value))
        check.finish()
    except (ValueError, RecursionError):
        return bad(f"{_CHAIN}: not JSON in UTF-8, or a field twice")
    except _Problem as problem:
        return bad(f"{_CHAIN}: {problem.text.removeprefix('line 0: ')}")
    return Evidence(True, len(files), check.checkpoints, digest, signed_by, attacks, says=_what_it_says(files))


_STATUSES = ("error", "failed", "passed", "skipped", "unknown", "warning")


def _what_it_says(files: Mapping[str, bytes]) -> str:
    """What the files say, in no words of theirs: those might be anybody's."""

    def content(name: str) -> Any:
        try:
            return _parse(files[name].decode())
        except (KeyError, ValueError, RecursionError):
            return None

    def counted(found: Iterable[object]) -> str:
        values = list(found)
        counts = [f"{values.count(status)} {status}" for status in _STATUSES if status in values]
        rest = sum(value not in _STATUSES for value in values)
        return ", ".join([*counts, *([f"{rest} of another status"] if rest else [])]) or "none"

    controls, audit, attacks = (content(name) for name in ("controls.json", "audit.json", "attacks.json"))
    if type(controls) is list and all(type(row) is dict for row in controls):
        said = f"controls {counted(row.get('status') for row in controls)}"
    else:
        said = "controls in another form"
    said += f"; audit trail {'verified' if type(audit) is dict and audit.get('verified') is True else 'NOT verified'}"
    if "attacks.json" not in files:
        return f"{said}; attack suite not given"
    return f"{said}; attack suite {counted(attacks.values()) if type(attacks) is dict else 'in another form'}"


# The command

_LARGEST_CERTIFICATE = 2**24  # characters


def _certificate(path: str) -> str | None:
    """The text of a file that is a certificate, so one JSON object, or None."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        text = file.read(_LARGEST_CERTIFICATE)
    try:
        value = _parse(text)
    except (ValueError, RecursionError):
        return None
    return text if type(value) is dict and value.get("kind") == "certificate" else None


def _given_key(given: str) -> bytes:
    """Raises: OSError, ValueError."""
    if not re.fullmatch("[0-9a-fA-F]{64}", given):
        with open(given, encoding="ascii") as file:
            given = file.read()
    return read_public_key(given)


def _shown(value: object) -> str:
    """A text out of the files, as JSON writes it: no terminal obeys what somebody else chose."""
    return "".join(sign if " " <= sign <= "~" else json.dumps(sign)[1:-1] for sign in str(value))


def _verdict(result: Result | Evidence) -> str:
    if not result.verified:
        return f"NOT verified: {result.problem}"
    if isinstance(result, Evidence):
        return f"The folder is unchanged since it was written. What it says: {result.says}."
    return "verified" if result.events else "verified, but it holds no event"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns: its exit code."""
    parser = argparse.ArgumentParser(
        prog="verifier.py",
        description="Verify an audit log without its database. See the head of this file.",
        epilog="Exit code 0: verified, that is unchanged since it was written, whatever it says; 1: not verified; "
        "2: it cannot be read, or the command is wrong.",
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        help="file of JSON lines: an export, or proofs and checkpoints; a certificate of an erasure; or a folder of "
        "evidence",
    )
    parser.add_argument("--checkpoint", metavar="HASH", help="hash of a checkpoint kept outside the database")
    parser.add_argument("--seal", metavar="HASH", help="hash of a seal of this tenant kept outside the database")
    parser.add_argument(
        "--public-key", metavar="FILE_OR_HEX", help="the Ed25519 key that must have signed a folder of evidence"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    for name in ("checkpoint", "seal"):
        kept = getattr(options, name)
        if kept is not None and not _is_hash(kept):
            parser.error(f"--{name} takes 64 lower-case hexadecimal digits")
    folder = os.path.isdir(options.path)
    if options.public_key is not None and not folder:
        parser.error("--public-key goes with a folder of evidence")
    result: Result | Evidence
    public_key = None
    try:
        if options.public_key is not None:
            try:
                public_key = _given_key(options.public_key)
            except ValueError:
                parser.error("--public-key takes 64 hexadecimal digits, or a file with an Ed25519 public key in PEM")
        certificate = None if folder else _certificate(options.path)
        if options.seal is not None and (folder or certificate is not None):
            parser.error("--seal goes with a bundle")
        if folder:
            result = verify_evidence(options.path, public_key=public_key, checkpoint=options.checkpoint)
        elif certificate is not None:
            result = verify_certificate(certificate, checkpoint=options.checkpoint)
        else:
            # Bytes that are no UTF-8 become surrogates, which no line may hold.
            with open(options.path, encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
                result = verify(lines, checkpoint=options.checkpoint, seal=options.seal, processes=os.cpu_count() or 1)
    except OSError as error:
        print(f"verifier.py: {_shown(error)}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        print(_shown(_verdict(result)))
        for name, value in asdict(result).items():
            if name not in ("verified", "problem", "attacks", "says") and value is not None:
                print(f"  {name}: {_shown(value)}")
        if isinstance(result, Evidence) and result.verified and public_key is None:
            print(
                "The signing key came with the folder: compare signed_by with the key that you were given, or name it "
                "by --public-key."
                if result.signed_by
                else "Not signed: compare the manifest with the sha256 that you were given."
            )
    return 0 if result.verified else 1


if __name__ == "__main__":
    sys.exit(main())
