"""The offline verifier: bundles of a real database, mutations of both, and a second implementation of the trees."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pymerkle
import pytest
from psycopg import sql

from pydb import verifier
from pydb.verifier import Result, verify
from tests.conftest import Database
from tests.helpers import ACME, BETA, Connection, call, names, save, value

Line = dict[str, Any]

MUTATIONS = int(os.environ.get("AUDIT_MUTATIONS", "10000"))
DATABASE_MUTATIONS = int(os.environ.get("AUDIT_DATABASE_MUTATIONS", "1000"))


@pytest.fixture
def admin(database: Database) -> Connection:
    """A superuser where two tenants have a log: seals of several sizes, the last one under no checkpoint yet."""
    admin, app = database.connect(), database.connect("app")
    call(admin, "seal_audit")
    for size in (1, 2, 7, 4):
        for number in range(size):
            save(app, f'Ä "{number}|"', number, as_=ACME)
        save(app, "other", size, as_=BETA)
        if size == 2:
            call(app, "delete_progress", model_name='Ä "1|"', as_=ACME)
        if size == 7:
            call(app, "share_model", model_name='Ä "1|"', targets=[{"code_hash": "c9"}], as_=ACME)
        call(admin, "seal_audit")
        if size in (2, 7):
            call(admin, "create_checkpoint")
    return admin


def export(database: Database, tenant: str = ACME) -> list[Line]:
    """A bundle."""
    return [line for (line,) in call(database.connect("app"), "export_audit", as_=tenant)]


def of_kind(lines: list[Line], kind: str) -> list[Line]:
    return [line for line in lines if line["kind"] == kind]


def dumped(lines: list[Line]) -> list[str]:
    return [json.dumps(line) + "\n" for line in lines]


def newest(lines: list[Line]) -> dict[str, str]:
    """The hashes that are kept outside."""
    return {
        "checkpoint": of_kind(lines, "checkpoint")[-1]["checkpoint_hash"],
        "seal": of_kind(lines, "seal")[-1]["seal_hash"],
    }


def test_an_export_verifies_and_counts_what_it_holds(admin: Connection, database: Database) -> None:
    for tenant, events in (ACME, 18), (BETA, 4):
        lines = export(database, tenant)
        # The first save of a tenant creates it, in the same transaction.
        found = len(of_kind(lines, "event"))
        assert found >= events
        assert verify(dumped(lines), **newest(lines)) == Result(True, found, 4, 2)
    assert len(of_kind(lines, "seal")[0]["path"]) > 0
    assert of_kind(lines, "seal")[-1]["path"] is None


def test_an_empty_file_is_not_verified() -> None:
    assert verify([]) == Result(False, problem="the file is empty")
    assert not verify(["\n"]).verified


def test_an_export_without_erased_names_still_verifies(admin: Connection, database: Database) -> None:
    admin.execute(
        "update ai_storage_private.audit_event set salt = null, detail = null "
        "where leaf_index % 2 = 0 and tenant_id > 0"
    )
    lines = export(database)
    assert {line["detail"] is None for line in of_kind(lines, "event")} == {True, False}
    assert verify(dumped(lines), **newest(lines)).verified
    (row,) = call(admin, "verify_all_audit")
    assert row.verified


def test_many_events_verify_in_several_processes(
    admin: Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "_BLOCK", 5)
    lines = export(database)
    assert verify(dumped(lines), **newest(lines), processes=2) == verify(dumped(lines))
    lines[11]["version"] = 99
    result = verify(dumped(lines), processes=2)
    assert result == verify(dumped(lines))
    assert (result.event_id, result.problem) == (lines[11]["event_id"], "line 12: a changed event")


# What a hash kept outside shows


def test_the_newest_seals_left_out_show_by_a_seal_kept_outside_only(admin: Connection, database: Database) -> None:
    lines = export(database)
    kept = newest(lines)
    last = of_kind(lines, "seal")[-1]["seal_number"]
    short = [line for line in lines if line.get("seal_number") != last]
    assert verify(dumped(short), checkpoint=kept["checkpoint"]).verified
    result = verify(dumped(short), **kept)
    assert (result.verified, result.problem) == (False, "the seal kept outside is not in the chain")


def test_a_log_written_anew_shows_by_a_checkpoint_kept_outside(admin: Connection, database: Database) -> None:
    kept = newest(export(database))["checkpoint"]
    # Whoever owns the database seals another story from the beginning.
    admin.execute(
        "with e as (delete from ai_storage_private.audit_event returning *) "
        "insert into ai_storage_private.audit_pending "
        "select tenant_id, event_id, recorded_at, version, model_id, action, 'somebody', credential, content_digest, "
        "detail_digest, salt, detail from e"
    )
    admin.execute("truncate ai_storage_private.audit_seal, ai_storage_private.audit_checkpoint")
    call(admin, "seal_audit")
    call(admin, "create_checkpoint")
    lines = export(database)
    assert verify(dumped(lines)).verified
    assert verify(dumped(lines), checkpoint=kept).problem == "the checkpoint kept outside is not in the chain"


# Proofs


def test_every_proof_verifies_with_the_checkpoints_and_none_with_a_change(
    admin: Connection, database: Database
) -> None:
    lines = export(database)
    app, checkpoints = database.connect("app"), of_kind(lines, "checkpoint")
    proofs = [value(app, "audit_proof", event_id=e["event_id"], as_=ACME) for e in of_kind(lines, "event")]
    assert verify(dumped(proofs + checkpoints)) == Result(True, len(proofs), 0, 2)
    for proof in proofs:
        assert verify(dumped([proof, *checkpoints]), checkpoint=newest(lines)["checkpoint"]).verified
        covered = proof["seal"]["path"] is not None
        assert not verify(dumped([proof])).verified
        for changed in (
            proof | {"action": "do nothing"},
            proof | {"leaf_index": proof["leaf_index"] + 1},
            proof | {"path": [*proof["path"], "left " + "0" * 64]},
            proof | {"path": None},
            proof | {"seal": proof["seal"] | {"event_count": proof["seal"]["event_count"] + 1}},
            proof | {"seal": proof["seal"] | {"path": None if covered else []}},
            proof | {"seal": None},
        ):
            result = verify(dumped([changed, *checkpoints]))
            assert not result.verified, changed
            assert result.problem is not None
            assert result.problem.startswith("line 1:"), result


# A second implementation


def second(leaves: list[bytes]) -> pymerkle.InmemoryTree:
    """pymerkle's tree; it hashes what it is given, so it gets what is hashed already as it is."""

    class Tree(pymerkle.InmemoryTree):
        def hash_buff(self, data: bytes) -> bytes:
            return data

    tree = Tree(algorithm="sha256")
    tree.append_entries(leaves)
    return tree


def test_roots_and_paths_are_those_of_a_second_implementation(admin: Connection, database: Database) -> None:
    app = database.connect("app")
    events, seals = of_kind(export(database), "event"), of_kind(export(database), "seal")
    for seal in seals:
        own = [e for e in events if e["seal_number"] == seal["seal_number"]]
        tree = second([bytes.fromhex(e["leaf_hash"]) for e in own])
        assert tree.get_root().hex() == seal["root"]
        for event in own:
            path = tree.prove_inclusion(event["leaf_index"] + 1).path[1:]
            proof = value(app, "audit_proof", event_id=event["event_id"], as_=ACME)
            assert [step.split(" ")[1] for step in proof["path"]] == [step.hex() for step in path]


def test_trees_of_every_size_have_the_root_and_sides_of_a_second_implementation(database: Database) -> None:
    connection = database.connect()
    leaves = [random.Random(number).randbytes(32) for number in range(70)]
    for size in range(1, len(leaves) + 1):
        tree = second(leaves[:size])
        root = verifier.merkle_root(leaves[:size])
        assert root == tree.get_root()
        query = "select ai_storage_private.merkle_root(%s::bytea[])"
        assert connection.execute(query, (leaves[:size],)).fetchone() == (root,)
        for index in {0, size // 2, size - 1}:
            proof = tree.prove_inclusion(index + 1)
            query = "select ai_storage_private.merkle_paths(%s::bytea[], array[%s::integer]) -> 0"
            ((path,),) = connection.execute(query, (leaves[:size], index)).fetchall()
            assert [step.split(" ")[1] for step in path] == [step.hex() for step in proof.path[1:]]
            assert [step.split(" ")[0] for step in path] == verifier._sides(index, size)
            assert verifier._follow(leaves[index], path) == root.hex()


# Forgeries: who changes a line also makes its hash anew


def leaf_of(event: Line) -> str:
    optional = ["" if event[name] is None else str(event[name]) for name in ("model_id", "version")]
    fields = [event[name] for name in ("tenant_id", "event_id", "seal_number", "leaf_index", "recorded_at", "action")]
    fields += [*optional, event["credential"], event["content_digest"] or "", event["detail_digest"], event["login"]]
    return sha256(b"\0" + "|".join(map(str, fields)).encode()).hexdigest()


def forged_event(event: Line, **changes: Any) -> Line:
    return event | changes | {"leaf_hash": leaf_of(event | changes)}


def forged_seal(seal: Line, **changes: Any) -> Line:
    new = seal | changes
    names = ("tenant_id", "seal_number", "checkpoint_number", "sealed_at", "event_count", "root", "previous_hash")
    text = "|".join(["seal", *(str(new[name]) for name in names)])
    return new | {"seal_hash": sha256(text.encode()).hexdigest()}


def with_line(lines: list[Line], old: Line, new: Line) -> list[str]:
    return dumped([new if line is old else line for line in lines])


def test_a_forged_event_shows_by_its_seal(admin: Connection, database: Database) -> None:
    lines = export(database)
    event = of_kind(lines, "event")[4]
    assert forged_event(event) == event
    result = verify(with_line(lines, event, forged_event(event, login="somebody")))
    assert (result.verified, result.seal_number) == (False, event["seal_number"])


def test_a_forged_seal_shows_by_the_one_before(admin: Connection, database: Database) -> None:
    lines = export(database)
    last = of_kind(lines, "seal")[-1]
    assert forged_seal(last) == last
    result = verify(with_line(lines, last, forged_seal(last, previous_hash="0" * 64)))
    assert (result.verified, result.seal_number) == (False, last["seal_number"])


def test_two_events_never_hash_alike(admin: Connection, database: Database) -> None:
    app = database.connect("app")
    call(app, "delete_progress", model_name=names(app, as_=ACME)[0], as_=ACME)
    call(admin, "seal_audit")
    lines = export(database)
    for without, changes in (
        ("model_id", {"model_id": ""}),
        ("content_digest", {"content_digest": ""}),
        ("model_id", {"action": "a|b"}),
        ("model_id", {"credential": "key|"}),
    ):
        event = next(line for line in lines if line["kind"] == "event" and line[without] is None)
        number = lines.index(event) + 1
        result = verify(with_line(lines, event, forged_event(event, **changes)))
        assert result.problem == f"line {number}: an event with wrong fields"


@pytest.mark.parametrize("name", ["tenant_id", "seal_number", "leaf_index", "recorded_at"])
def test_a_number_is_a_number(admin: Connection, database: Database, name: str) -> None:
    lines = export(database)
    event = of_kind(lines, "event")[0]
    text = str(event[name])
    # The leaf is that of the text, as Python writes one.
    forged = event | {name: text, "leaf_hash": leaf_of(event | {name: repr(text)})}
    assert verify(with_line(lines, event, forged)).problem == "line 1: an event with wrong fields"


def test_a_field_that_stands_twice_is_refused(admin: Connection, database: Database) -> None:
    texts = dumped(export(database))
    for number, text in enumerate(texts):
        twice = text.replace("{", '{"tenant_id": 1, "root": "", "tenant_id": 1, "root": "", ', 1)
        result = verify([*texts[:number], twice, *texts[number + 1 :]])
        assert result.problem == f"line {number + 1}: a field twice"


def test_a_proof_shows_where_under_its_seal_the_event_stands(admin: Connection, database: Database) -> None:
    lines = export(database)
    seal = of_kind(lines, "seal")[-1]
    event = of_kind(lines, "event")[-1]
    first, second = (forged_event(event, leaf_index=index) for index in (0, 1))
    for order in (first, second), (second, first):
        leaves = [bytes.fromhex(line["leaf_hash"]) for line in order]
        sealed = forged_seal(seal, event_count=2, root=sha256(b"\1" + leaves[0] + leaves[1]).hexdigest())
        proof = order[0] | {"path": ["right " + leaves[1].hex()], "seal": sealed}
        assert verify(dumped([proof, *of_kind(lines, "checkpoint")])).verified is (order[0] is first)


# Mutations of a bundle

ODD = (None, "", "0", 0, 1, -1, 2**63, 1.5, True, False, [], {}, "ä", "\udcff", "f" * 64, "0" * 32, "left " + "0" * 64)


def flipped(chance: random.Random, field: Any) -> Any:
    """A field with one bit of it changed."""
    if isinstance(field, list) and field:
        at = chance.randrange(len(field))
        return [*field[:at], flipped(chance, field[at]), *field[at + 1 :]]
    if isinstance(field, str) and field:
        at = chance.randrange(len(field))
        return field[:at] + chr(ord(field[at]) ^ 1 << chance.randrange(7)) + field[at + 1 :]
    return field ^ 1 << chance.randrange(40) if isinstance(field, int) else chance.choice(ODD[1:])


def with_other_field(chance: random.Random, lines: list[Line], at: int) -> Line:
    name = chance.choice(list(lines[at]))
    other = chance.choice(
        [
            flipped(chance, lines[at][name]),
            chance.choice(ODD),
            chance.choice(lines).get(name),
            float,
            str,
            "drop",
            "add",
        ]
    )
    if other in (float, str):
        other = other(lines[at][name]) if isinstance(lines[at][name], int) else chance.choice(ODD)
    if other == "drop":
        return {key: field for key, field in lines[at].items() if key != name}
    return lines[at] | ({"more": 1} if other == "add" else {name: other})


def mutated(chance: random.Random, lines: list[Line]) -> tuple[list[str], list[int], bool]:
    """The lines with one mutation, the lines it touches (from 0), and whether just that line has to be named."""
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    texts = dumped(lines)
    kind = chance.choice(("field", "field", "field", "bit", "delete", "insert", "swap"))
    if kind == "field":
        texts[at] = json.dumps(with_other_field(chance, lines, at)) + "\n"
        return texts, [at], True
    if kind == "bit":
        raw = bytearray(texts[at], "utf-8")
        raw[chance.randrange(len(raw) - 1)] ^= 1 << chance.randrange(8)
        texts[at : at + 1] = raw.decode("utf-8", "surrogateescape").splitlines(keepends=True)
        return texts, [at], True
    if kind == "delete":
        del texts[at]
        return texts, [at], False
    if kind == "insert":
        copy = chance.choice((lines[other], with_other_field(chance, lines, other)))
        texts.insert(at, json.dumps(copy) + "\n")
        return texts, [at, other, other + 1], False
    texts[at], texts[other] = texts[other], texts[at]
    return texts, [at, other], False


def names_one(result: Result, lines: list[Line], places: list[int]) -> bool:
    """Whether the result names one of these lines: by its number, or by its place in the log."""
    for place in places:
        if (result.problem or "").startswith(f"line {place + 1}:"):
            return True
        line = lines[place] if place < len(lines) else {"kind": None}
        if line["kind"] is None:
            continue
        if line["kind"] == "event":
            if (result.seal_number, result.leaf_index) == (line["seal_number"], line["leaf_index"]):
                return True
        elif line["kind"] == "seal":
            if result.seal_number == line["seal_number"]:
                return True
        elif any(
            said in (result.problem or "")
            for said in (
                f"checkpoint {line['checkpoint_number']} is missing",
                f"checkpoint {line['checkpoint_number'] + 1} does not follow",
                "is not in the chain",
            )
        ):
            return True
    return False


def test_random_mutations_of_a_bundle_are_all_detected_and_named(admin: Connection, database: Database) -> None:
    admin.execute(
        "update ai_storage_private.audit_event set salt = null, detail = null where leaf_index = 1 and tenant_id > 0"
    )
    lines = export(database)
    kept, texts = newest(lines), dumped(lines)
    chance = random.Random(6962)
    done = 0
    while done < MUTATIONS:
        changed, places, exact = mutated(chance, lines)
        if changed == texts:
            continue
        done += 1
        result = verify(changed, **kept)
        assert not result.verified, (places, changed)
        assert names_one(result, lines, places), (result, places, changed)
        if exact and lines[places[0]]["kind"] == "event":
            assert (result.problem or "").startswith(f"line {places[0] + 1}:"), (result, places)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        "nothing",
        '{"kind": "other"}',
        '{"kind": []}',
        '{"kind": "event"}',
        '{"kind": "seal"}',
        '{"kind": "checkpoint"}',
        '{"kind": "checkpoint", "kind": "event"}',
        "[" * 100_000,
        "9" * 10_000,
        '{"kind": "event", "seal": 1}',
        '{"kind": "\udcff"}',
    ],
)
def test_a_line_that_is_no_line_of_a_bundle_is_named(text: str) -> None:
    result = verify([text + "\n"])
    assert not result.verified
    assert (result.problem or "").startswith("line 1:")


# Mutations of the database

TABLES = ("audit_event", "audit_seal", "audit_checkpoint")


def other_value(chance: random.Random, kind: str, old: str | None) -> str | None:
    """Another value of a column, as text."""
    if kind == "bytea":
        raw = bytearray.fromhex((old or "\\x00")[2:])
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        return "\\x" + raw.hex()
    if kind == "uuid":
        return str(UUID(int=chance.getrandbits(128)))
    if kind in ("bigint", "integer"):
        return str(int(old or 0) + chance.choice((-1, 1, 1000)))
    if kind.startswith("timestamp"):
        return f"2026-01-02 03:04:05.{chance.randrange(10**6):06}+00"
    at = chance.randrange(len(old or "x"))
    return (old or "x")[:at] + chance.choice("abc|") + (old or "x")[at + 1 :]


class Rows:
    """One table, as text, and how it is changed by hand."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self.name = name
        columns = connection.execute(
            "select attname, format_type(atttypid, atttypmod), attnotnull from pg_attribute "
            "where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
            ("ai_storage_private." + name,),
        ).fetchall()
        self.kinds = {column: kind for column, kind, _ in columns}
        self.nullable = {column for column, _, not_null in columns if not not_null}
        self.rows = [
            dict(zip(self.kinds, row, strict=True))
            for row in connection.execute(
                sql.SQL("select {} from ai_storage_private.{}").format(
                    sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c)) for c in self.kinds),
                    sql.Identifier(name),
                )
            )
        ]

    def delete(self, row: Line) -> None:
        same = sql.SQL(" and ").join(
            sql.SQL("{} is not distinct from %s").format(sql.Identifier(column)) for column in row
        )
        query = sql.SQL("delete from ai_storage_private.{} where {}").format(sql.Identifier(self.name), same)
        assert self.connection.execute(query, list(row.values())).rowcount == 1

    def insert(self, row: Line) -> None:
        query = sql.SQL("insert into ai_storage_private.{} values ({})").format(
            sql.Identifier(self.name), sql.SQL(", ").join([sql.Placeholder()] * len(row))
        )
        self.connection.execute(query, list(row.values()))

    def update(self, row: Line, new: Line) -> None:
        self.delete(row)
        self.insert(new)

    def changed(self, chance: random.Random) -> tuple[Line, Line, str]:
        row, column = chance.choice(self.rows), chance.choice(list(self.kinds))
        new = other_value(chance, self.kinds[column], row[column])
        if column in self.nullable and row[column] is not None and chance.random() < 0.3:
            new = None
        return row, row | {column: new}, column


def test_random_mutations_of_the_database_are_all_detected_and_events_named(
    admin: Connection, database: Database
) -> None:
    admin.execute(
        "update ai_storage_private.audit_event set salt = null, detail = null where leaf_index = 1 and tenant_id > 0"
    )
    tables = [Rows(admin, name) for name in TABLES]
    chance = random.Random(9162)
    done = 0
    while done < DATABASE_MUTATIONS:
        table = chance.choice(tables)
        row, new, column = table.changed(chance)
        other = chance.choice(table.rows)
        swapped = {column: other[column]}, {column: row[column]}
        kind = chance.choice(("update", "update", "update", "delete", "insert", "swap"))
        if new == row or (kind == "swap" and row[column] == other[column]):
            continue
        try:
            with admin.transaction(force_rollback=True):
                if kind == "update":
                    table.update(row, new)
                elif kind == "delete":
                    table.delete(row)
                elif kind == "insert":
                    table.insert(new)
                else:
                    table.delete(row)
                    table.update(other, other | swapped[1])
                    table.insert(row | swapped[0])
                (result,) = call(admin, "verify_all_audit")
        except psycopg.errors.UniqueViolation:
            # The keys refuse this one.
            continue
        done += 1
        assert not result.verified, (kind, table.name, column, row, new)
        if table.name == "audit_event" and column not in ("tenant_id", "seal_number", "leaf_index"):
            named = {row["event_id"]} | {new["event_id"]} | ({other["event_id"]} if kind == "swap" else set())
            if kind in ("update", "swap"):
                assert str(result.event_id) in named, (kind, column, result)


# The command


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The file by itself, where neither the package nor any other is found."""
    return subprocess.run(
        [sys.executable, "-S", str(Path(verifier.__file__)), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_says_by_its_exit_code_what_it_found(admin: Connection, database: Database, tmp_path: Path) -> None:
    lines = export(database)
    bundle = tmp_path / "bundle.jsonl"
    bundle.write_text("".join(dumped(lines)))
    kept = newest(lines)
    done = run(bundle, "--checkpoint", kept["checkpoint"], "--seal", kept["seal"], "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == asdict(verify(dumped(lines)))

    assert done.stdout.startswith('{"verified": true')
    assert run(bundle).stdout.splitlines()[0] == "verified"

    # A log without an event says so; no log at all is none.
    bundle.write_text("".join(dumped(of_kind(lines, "checkpoint"))))
    done = run(bundle)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "verified, but it holds no event")
    bundle.write_text("")
    done = run(bundle)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "NOT verified: the file is empty")

    bundle.write_text("".join(dumped(lines)))
    assert run(bundle, "--checkpoint", "0" * 64).returncode == 1
    bundle.write_bytes(b"\xff\n" + bundle.read_bytes())
    done = run(bundle)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "NOT verified: line 1: not JSON in UTF-8")

    assert run(tmp_path / "nothing.jsonl").returncode == 2
    assert run(bundle, "--checkpoint", "hello").returncode == 2
    assert run().returncode == 2
