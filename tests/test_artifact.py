"""The bytes of a model: put, streamed, shared, kept once, and gone when nothing names them."""

from __future__ import annotations

import json
import random
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from tests.helpers import (
    ACME,
    BETA,
    EVENTS,
    Connection,
    blocked,
    call,
    dump,
    everything_said,
    key,
    refused,
    save,
    together,
    unchanged,
    value,
)

pytestmark = pytest.mark.sql

MIB = 1024 * 1024
OTHER = key("acme", "s2")
NOBODY = "00000000-0000-0000-0000-000000000000"
CONTENT = random.Random(1).randbytes(3 * MIB + 7)


def digest(content: bytes) -> str:
    """The sha256 that the package gives a content."""
    chunks = [sha256(content[start : start + MIB]).digest() for start in range(0, len(content), MIB)]
    return (chunks[0] if len(chunks) == 1 else sha256(b"".join(chunks)).digest()).hex()


def put(connection: Connection, content: bytes, artifact: str = "weights", model: str = "m", **arguments: Any) -> Any:
    (row,) = call(
        connection,
        "put_artifact",
        model_name=model,
        artifact_name=artifact,
        content=content,
        **({"as_": ACME} | arguments),
    )
    return row


def get(connection: Connection, artifact: str = "weights", model: str = "m", **arguments: Any) -> bytes:
    content = value(connection, "get_artifact", model_name=model, artifact_name=artifact, **({"as_": ACME} | arguments))
    assert isinstance(content, bytes)
    return content


def share(connection: Connection, permissions: str = "{execute}", **arguments: Any) -> Any:
    (row,) = call(
        connection,
        "share_model",
        model_name="m",
        targets=[{"server_id": "s2"}],
        permissions=permissions,
        as_=ACME,
        **arguments,
    )
    return row.share_id


def begin(connection: Connection, tenant: str = ACME, artifact: str = "weights") -> Any:
    return value(connection, "begin_artifact", model_name="m", artifact_name=artifact, as_=tenant)


def append(connection: Connection, upload: Any, offset: int | None, content: bytes | None, tenant: str = ACME) -> Any:
    return value(connection, "append_artifact", upload_id=upload, offset=offset, content=content, as_=tenant)


def finish(connection: Connection, upload: Any, content: bytes, tenant: str = ACME, **changed: Any) -> Any:
    announced = {"size_bytes": len(content), "sha256": digest(content)} | changed
    (row,) = call(connection, "finish_artifact", upload_id=upload, as_=tenant, **announced)
    return row


def count(database: Database, table: str) -> int:
    return len(dump(database)[table])


@pytest.fixture
def app(database: Database) -> Connection:
    """An application whose tenant ACME has the model m."""
    app = database.connect("app")
    save(app, "m", as_=ACME)
    return app


class TestPut:
    @pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 7])
    def test_what_was_put_comes_back(self, app: Connection, size: int) -> None:
        content = CONTENT[:size]
        row = put(app, content, media_type="model/gltf+json")
        assert tuple(row) == (digest(content), size, True)
        assert get(app) == content
        (opened,) = call(app, "open_artifact", model_name="m", artifact_name="weights", as_=ACME)
        assert tuple(opened)[:5] == (1, 1, digest(content), size, "model/gltf+json")
        (listed,) = call(app, "list_artifacts", as_=ACME)
        assert tuple(listed)[:7] == ("m", ACME, "weights", 1, digest(content), size, "model/gltf+json")

    def test_parts_are_parts(self, app: Connection) -> None:
        put(app, CONTENT)
        draw = random.Random(2)
        edges = [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 5]
        for _ in range(60):
            offset = draw.choice([*edges, draw.randrange(len(CONTENT))])
            length = draw.choice([None, 0, 1, MIB, 2 * MIB, draw.randrange(len(CONTENT))])
            part = value(
                app,
                "read_artifact",
                model_name="m",
                artifact_name="weights",
                offset=offset,
                length=length,
                as_=ACME,
            )
            assert part == CONTENT[offset:][:length], (offset, length)

    def test_a_version_has_its_own_and_no_others(self, app: Connection) -> None:
        put(app, b"one")
        save(app, "m", 2, as_=ACME)
        for without in ({}, {"version": 2}, {"as_of": None}):
            with refused("TN204"):
                get(app, **without)
        save(app, "m", 3, as_=ACME)
        put(app, b"three")
        assert [get(app, version=version) for version in (1, 3, None)] == [b"one", b"three", b"three"]
        for version in (-1, 0, 2, 4, 999999):
            for function in ("get_artifact", "open_artifact", "read_artifact", "read_chunks"):
                with refused("TN204"):
                    call(app, function, model_name="m", artifact_name="weights", version=version, as_=ACME)
        assert [row.version for row in call(app, "list_artifacts", model_name="m", as_=ACME)] == [3, 1]

    def test_the_last_one_up_to_a_version_is_got_by_asking_for_it(self, app: Connection) -> None:
        put(app, CONTENT)
        save(app, "m", 2, as_=ACME)
        save(app, "m", 3, as_=ACME)
        put(app, b"three")
        as_of = {"as_of": True, "as_": ACME}
        assert [get(app, version=version, as_of=True) for version in (1, 2, 3, None)] == [
            CONTENT,
            CONTENT,
            b"three",
            b"three",
        ]
        (opened,) = call(app, "open_artifact", model_name="m", artifact_name="weights", version=2, **as_of)
        assert (opened.version, opened.for_version, opened.sha256) == (1, 2, digest(CONTENT))
        chunks = call(app, "read_chunks", model_name="m", artifact_name="weights", version=2, first=1, count=1, **as_of)
        assert [chunk for (chunk,) in chunks] == [CONTENT[MIB : 2 * MIB]]
        part = value(app, "read_artifact", model_name="m", artifact_name="weights", version=2, length=3, **as_of)
        assert part == CONTENT[:3]
        for version in (-1, 0, 4, 999999):
            with refused("TN204"):
                get(app, version=version, as_of=True)

    def test_a_list_is_of_all_versions_or_of_one(self, app: Connection) -> None:
        put(app, b"one", "a")
        put(app, b"one", "b")
        save(app, "m", 2, as_=ACME)
        put(app, b"two", "a")
        save(app, "m", 3, as_=ACME)

        def listed(**arguments: Any) -> list[tuple[str, int]]:
            rows = call(app, "list_artifacts", as_=ACME, **arguments)
            return [(row.artifact_name, row.version) for row in rows]

        assert listed() == listed(model_name="m") == [("a", 2), ("a", 1), ("b", 1)]
        assert listed(model_name="m", version=2) == [("a", 2)]
        assert listed(model_name="m", version=3) == []
        assert listed(model_name="m", version=1, as_of=True) == [("a", 1), ("b", 1)]
        assert listed(model_name="m", version=3, as_of=True) == listed(as_of=True) == [("a", 2), ("b", 1)]
        for arguments in ({"model_name": "m", "version": 4}, {"model_name": "n", "version": 1}, {"version": 1}):
            for as_of in (False, True):
                with refused("TN101"):
                    listed(as_of=as_of, **arguments)

    def test_it_is_put_at_the_version_that_is_named(self, database: Database, app: Connection) -> None:
        save(app, "m", 2, as_=ACME)
        put(app, b"one", version=1)
        put(app, b"two", version=2)
        put(app, b"two again", version=None, expected_version=2)
        assert [get(app, version=version) for version in (1, 2)] == [b"one", b"two again"]
        for version in (-1, 0, 3, 999999):
            with unchanged(database), refused("TN101"):
                put(app, b"x", version=version)
        for expected in (0, 1, 3):
            with unchanged(database), refused("TN102") as caught:
                put(app, b"x", version=1, expected_version=expected)
            assert "current version 2" in caught.value.diag.message_detail

    def test_a_content_is_kept_once_and_as_long_as_it_is_named(self, database: Database, app: Connection) -> None:
        save(app, "n", as_=ACME)
        assert [put(app, b"same", artifact, model).is_new for artifact in "ab" for model in "mn"] == [
            True,
            False,
            False,
            False,
        ]
        assert (count(database, "artifact_blob"), count(database, "artifact_chunk")) == (1, 1)
        put(app, b"other", "a")  # in place of what this version had
        assert get(app, "a") == b"other"
        call(app, "delete_progress", model_name="n", as_=ACME)
        assert get(app, "b") == b"same"
        assert value(app, "delete_artifact", model_name="m", artifact_name="b", as_=ACME) == 1
        assert value(app, "delete_artifact", model_name="m", artifact_name="b", as_=ACME) == 0
        assert (count(database, "artifact_blob"), count(database, "artifact_chunk")) == (1, 1)

    def test_the_list_of_another_contents_chunks_is_a_content_of_its_own(
        self, database: Database, app: Connection
    ) -> None:
        long = CONTENT[: 2 * MIB]
        short = b"".join(sha256(long[start : start + MIB]).digest() for start in (0, MIB))
        assert digest(long) == digest(short)
        assert put(app, long, "long").is_new is True
        assert put(app, short, "short").is_new is True
        upload = begin(app, artifact="streamed")
        append(app, upload, 0, short)
        assert finish(app, upload, short).is_new is False
        assert (get(app, "long"), get(app, "short"), get(app, "streamed")) == (long, short, short)
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        call(app, "import_tenant", records=lines, as_=BETA)
        assert (get(app, "long", as_=BETA), get(app, "short", as_=BETA)) == (long, short)

    def test_one_version_is_deleted_or_all(self, app: Connection) -> None:
        for version in (1, 2, 3):
            put(app, b"%d" % version)
            save(app, "m", version, as_=ACME)
        assert value(app, "delete_artifact", model_name="m", artifact_name="weights", version=3, as_=ACME) == 1
        assert get(app, as_of=True) == b"2"
        assert value(app, "delete_artifact", model_name="m", artifact_name="weights", as_=ACME) == 2
        with refused("TN204"):
            get(app, as_of=True)

    @pytest.mark.parametrize(
        ("arguments", "sqlstate"),
        [
            ({"artifact": ""}, "22023"),
            ({"artifact": "a\x1fb"}, "22023"),
            ({"artifact": "x" * 256}, "22023"),
            ({"artifact": None}, "22023"),
            ({"media_type": "text"}, "22023"),
            ({"media_type": "Text/plain; charset=utf-8"}, "22023"),
            ({"media_type": None}, "22023"),
            ({"content": None}, "22023"),
            ({"model": "nobody's"}, "TN101"),
            ({"as_": BETA}, "TN101"),
        ],
    )
    def test_bad_input_changes_nothing(
        self, database: Database, app: Connection, arguments: dict[str, Any], sqlstate: str
    ) -> None:
        with unchanged(database), refused(sqlstate):
            put(app, **({"content": b"x"} | arguments))

    @pytest.mark.parametrize("arguments", [{"offset": -1}, {"offset": None}, {"length": -1}])
    def test_a_range_is_counted_from_the_start(self, app: Connection, arguments: dict[str, Any]) -> None:
        put(app, b"x")
        with refused("22023"):
            call(app, "read_artifact", model_name="m", artifact_name="weights", as_=ACME, **arguments)

    def test_there_is_a_limit(self, database: Database, app: Connection) -> None:
        admin = database.connect()
        call(admin, "set_artifact_limit", max_bytes=2 * MIB)
        put(app, CONTENT[: 2 * MIB])
        upload = begin(app)
        with unchanged(database), refused("54000") as caught:
            put(app, CONTENT[: 2 * MIB + 1])
        assert "2097152" in str(caught.value.diag.message_detail)
        append(app, upload, 0, CONTENT[: 2 * MIB])
        with unchanged(database), refused("54000"):
            append(app, upload, 2 * MIB, b"x")
        for wrong in (0, -1, None):
            with refused("22023"):
                call(admin, "set_artifact_limit", max_bytes=wrong)
        with refused("42501", hint=False):
            call(app, "set_artifact_limit", max_bytes=1)

    def test_each_change_is_an_event_with_a_digest_and_no_content(self, database: Database, app: Connection) -> None:
        put(app, b"secret-bytes")
        admin = database.connect()
        micros = "select ai_storage_private.micros(put_at) from ai_storage_private.model_artifact"
        (put_at,) = admin.execute(micros).fetchone() or ()
        put(app, b"other", media_type="text/plain")
        call(app, "delete_artifact", model_name="m", artifact_name="weights", as_=ACME)
        events = [row for row in call(app, "audit_trail", as_=ACME) if "artifact" in row.action]
        assert [(row.action, row.version, row.detail["artifact_name"]) for row in events] == [
            ("put artifact", 1, "weights"),
            ("put artifact", 1, "weights"),
            ("delete artifact", 1, "weights"),
        ]
        checked = admin.execute(
            "select content_digest = sha256(uuid_send(salt) || convert_to(%s, 'UTF8')) "
            f"from {EVENTS} where event_id = %s",
            (f"{digest(b'secret-bytes')}|12|{put_at}|application/octet-stream", events[0].event_id),
        ).fetchone()
        assert checked == (True,)


class TestUpload:
    def test_parts_become_an_artifact_when_they_are_all_there(self, database: Database, app: Connection) -> None:
        upload = begin(app)
        assert append(app, upload, 0, CONTENT[: 2 * MIB]) == 2 * MIB
        assert append(app, upload, 2 * MIB, CONTENT[2 * MIB :]) == len(CONTENT)
        assert call(app, "list_artifacts", as_=ACME) == []
        with refused("TN204"):
            get(app)
        (going,) = call(app, "list_uploads", as_=ACME)
        assert tuple(going)[:6] == (upload, "m", "weights", 1, True, len(CONTENT))
        assert tuple(finish(app, upload, CONTENT)) == (digest(CONTENT), len(CONTENT), True)
        assert get(app) == CONTENT
        assert call(app, "list_uploads", as_=ACME) == []
        assert count(database, "artifact_chunk") == 4

    def test_what_the_tenant_has_already_is_not_kept_twice(self, database: Database, app: Connection) -> None:
        put(app, CONTENT, "first")
        upload = begin(app)
        append(app, upload, 0, CONTENT)
        assert finish(app, upload, CONTENT).is_new is False
        assert get(app) == CONTENT
        assert count(database, "artifact_chunk") == 4

    def test_an_empty_upload_is_an_empty_artifact(self, app: Connection) -> None:
        finish(app, begin(app), b"")
        assert get(app) == b""

    def test_it_belongs_to_the_version_there_was_when_it_began(self, app: Connection) -> None:
        upload = begin(app)
        save(app, "m", 2, as_=ACME)
        (going,) = call(app, "list_uploads", as_=ACME)
        assert (going.version, going.is_current) == (1, False)
        finish(app, upload, b"")
        (row,) = call(app, "list_artifacts", as_=ACME)
        assert row.version == 1

    def test_it_may_be_begun_for_an_earlier_version(self, database: Database, app: Connection) -> None:
        save(app, "m", 2, as_=ACME)
        arguments = {"model_name": "m", "artifact_name": "weights", "as_": ACME}
        finish(app, value(app, "begin_artifact", version=1, **arguments), b"")
        finish(app, value(app, "begin_artifact", expected_version=2, **arguments), b"")
        assert [row.version for row in call(app, "list_artifacts", as_=ACME)] == [2, 1]
        with unchanged(database), refused("TN101"):
            call(app, "begin_artifact", version=3, **arguments)
        with unchanged(database), refused("TN102"):
            call(app, "begin_artifact", expected_version=1, **arguments)
        for version in ({"version": 1}, {"expected_version": 1}):
            with unchanged(database), refused("22023"):
                call(app, "begin_artifact", artifact_name="weights", as_=ACME, **version)

    def test_a_version_that_retention_deleted_meanwhile_gets_nothing(self, database: Database, app: Connection) -> None:
        upload = begin(app)
        save(app, "m", 2, as_=ACME)
        admin = database.connect()
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_versions=1)
        call(admin, "apply_retention")
        with unchanged(database), refused("TN101"):
            finish(app, upload, b"")
        with unchanged(database), refused("TN101"):
            put(app, b"", version=1)

    @pytest.mark.parametrize("offset", [0, 1, MIB - 1, 2 * MIB, -1, None])
    def test_a_part_goes_where_the_last_one_ended(self, database: Database, app: Connection, offset: Any) -> None:
        upload = begin(app)
        append(app, upload, 0, CONTENT[:MIB])
        with unchanged(database), refused("TN202") as caught:
            append(app, upload, offset, CONTENT[:MIB])
        assert caught.value.diag.message_detail == "1048576 bytes have arrived."

    @pytest.mark.parametrize("part", [b"", None])
    def test_a_part_is_not_empty(self, database: Database, app: Connection, part: bytes | None) -> None:
        upload = begin(app)
        with unchanged(database), refused("22023"):
            append(app, upload, 0, part)

    def test_only_the_last_part_may_end_inside_a_chunk(self, database: Database, app: Connection) -> None:
        upload = begin(app)
        append(app, upload, 0, b"short")
        with unchanged(database), refused("22023"):
            append(app, upload, 5, b"more")
        finish(app, upload, b"short")

    @pytest.mark.parametrize(
        "changed", [{"size_bytes": 4}, {"size_bytes": None}, {"sha256": "0" * 64}, {"sha256": None}]
    )
    def test_other_bytes_than_announced_are_refused(
        self, database: Database, app: Connection, changed: dict[str, Any]
    ) -> None:
        upload = begin(app)
        append(app, upload, 0, b"bytes")
        with unchanged(database), refused("TN203"):
            finish(app, upload, b"bytes", **changed)
        finish(app, upload, b"bytes")

    def test_it_is_aborted(self, database: Database, app: Connection) -> None:
        upload = begin(app)
        append(app, upload, 0, CONTENT)
        assert value(app, "abort_artifact", upload_id=upload, as_=ACME) is True
        assert value(app, "abort_artifact", upload_id=upload, as_=ACME) is False
        assert (count(database, "artifact_upload"), count(database, "artifact_chunk")) == (0, 0)
        with refused("TN201"):
            append(app, upload, 0, b"x")

    @pytest.mark.parametrize("sweep", ["the next upload", "retention"])
    def test_an_abandoned_one_is_swept(self, database: Database, app: Connection, sweep: str) -> None:
        admin = database.connect()
        abandoned, going = begin(app), begin(app, artifact="other")
        append(app, abandoned, 0, CONTENT)
        append(app, going, 0, b"here")
        admin.execute(
            "update ai_storage_private.artifact_upload set touched_at = now() - interval '25 hours' "
            "where upload_id = %s",
            (abandoned,),
        )
        if sweep == "retention":
            call(admin, "apply_retention")
        else:
            value(app, "abort_artifact", upload_id=begin(app), as_=ACME)
        assert [row.upload_id for row in call(app, "list_uploads", as_=ACME)] == [going]
        assert count(database, "artifact_chunk") == 1

    def test_it_goes_with_its_model(self, database: Database, app: Connection) -> None:
        upload = begin(app)
        append(app, upload, 0, CONTENT)
        call(app, "delete_progress", model_name="m", as_=ACME)
        assert (count(database, "artifact_upload"), count(database, "artifact_chunk")) == (0, 0)
        with refused("TN201"):
            finish(app, upload, CONTENT)

    def test_another_tenants_upload_is_no_upload(self, database: Database, app: Connection) -> None:
        save(app, "m", as_=BETA)
        upload = begin(app)
        append(app, upload, 0, b"x")
        for attempt in (
            lambda: append(app, upload, 1, b"y", BETA),
            lambda: finish(app, upload, b"x", BETA),
            lambda: append(app, NOBODY, 0, b"y", BETA),
        ):
            with unchanged(database), refused("TN201"):
                attempt()
        assert value(app, "abort_artifact", upload_id=upload, as_=BETA) is False
        assert call(app, "list_uploads", as_=BETA) == []


class TestSharing:
    def test_it_takes_the_permission_execute_and_ends_with_it(self, app: Connection) -> None:
        put(app, CONTENT)
        arguments = {"owner": ACME, "as_": OTHER}
        with refused("TN101"):
            get(app, **arguments)
        share(app, "{read,write}")
        for function in ("get_artifact", "read_artifact", "open_artifact"):
            with refused("TN101"):
                call(app, function, model_name="m", artifact_name="weights", **arguments)
        with refused("TN101"):
            call(app, "list_artifacts", model_name="m", **arguments)
        share_id = share(app, "{execute}")
        assert get(app, **arguments) == CONTENT
        part = {"offset": MIB - 1, "length": 3}
        assert (
            value(app, "read_artifact", model_name="m", artifact_name="weights", **arguments, **part)
            == CONTENT[MIB - 1 : MIB + 2]
        )
        (opened,) = call(app, "open_artifact", model_name="m", artifact_name="weights", **arguments)
        assert (opened.sha256, opened.size_bytes) == (digest(CONTENT), len(CONTENT))
        (listed,) = call(app, "list_artifacts", model_name="m", **arguments)
        assert (listed.owner_key, listed.artifact_name, listed.sha256) == (ACME, "weights", digest(CONTENT))
        assert value(app, "revoke_share", share_id=share_id, as_=ACME) is True
        with refused("TN101"):
            get(app, **arguments)

    def test_a_pinned_grant_shows_the_artifacts_of_its_version_and_no_others(self, app: Connection) -> None:
        put(app, b"secret of one")
        put(app, b"held", "once")
        save(app, "m", 2, as_=ACME)
        put(app, b"two")
        save(app, "m", 3, as_=ACME)
        put(app, b"three")
        put(app, b"new", "only in three")
        share(app, version=2)
        theirs = {"owner": ACME, "as_": OTHER}
        assert get(app, **theirs) == get(app, version=2, **theirs) == get(app, as_of=True, **theirs) == b"two"
        for version in (-1, 0, 1, 3, 999999):
            for as_of in (False, True):
                for function in ("get_artifact", "open_artifact", "read_artifact", "read_chunks"):
                    with refused("TN204"):
                        call(
                            app,
                            function,
                            model_name="m",
                            artifact_name="weights",
                            version=version,
                            as_of=as_of,
                            **theirs,
                        )
                with refused("TN101"):
                    call(app, "list_artifacts", model_name="m", version=version, as_of=as_of, **theirs)
        for artifact in ("once", "only in three"):
            with refused("TN204"):
                get(app, artifact, **theirs)
        with refused("TN204"):
            get(app, "only in three", as_of=True, **theirs)
        # put before, and what holds at the pinned version
        assert get(app, "once", as_of=True, **theirs) == get(app, "once", version=2, as_of=True, **theirs) == b"held"

        def listed(**arguments: Any) -> list[tuple[str, int]]:
            rows = call(app, "list_artifacts", model_name="m", **theirs, **arguments)
            return [(row.artifact_name, row.version) for row in rows]

        assert listed() == listed(version=2) == [("weights", 2)]
        assert listed(as_of=True) == listed(version=2, as_of=True) == [("once", 1), ("weights", 2)]

    def test_another_tenants_versions_are_as_exact_as_ones_own(self, app: Connection) -> None:
        put(app, b"one")
        save(app, "m", 2, as_=ACME)
        share(app)
        theirs = {"owner": ACME, "as_": OTHER}
        assert get(app, version=1, **theirs) == get(app, version=2, as_of=True, **theirs) == b"one"
        assert get(app, as_of=True, **theirs) == b"one"
        for arguments in ({}, {"version": 2}, {"version": 3, "as_of": True}, {"version": 0, "as_of": True}):
            with refused("TN204"):
                get(app, **arguments, **theirs)
        assert [row.version for row in call(app, "list_artifacts", model_name="m", **theirs)] == [1]
        assert call(app, "list_artifacts", model_name="m", version=2, **theirs) == []
        with refused("TN101"):
            call(app, "list_artifacts", model_name="m", version=3, **theirs)

    def test_each_use_is_in_both_logs(self, app: Connection) -> None:
        save(app, "mine", as_=OTHER)
        put(app, b"bytes")
        share(app)
        get(app, owner=ACME, as_=OTHER)
        call(app, "open_artifact", model_name="m", artifact_name="weights", owner=ACME, as_=OTHER)
        for tenant, role, other in ((ACME, "user", OTHER), (OTHER, "owner", ACME)):
            events = call(app, "audit_trail", action="read artifact", as_=tenant)
            assert [(row.version, row.detail[role]) for row in events] == [(1, other)] * 2

    def test_it_is_logged_so_it_needs_a_writing_transaction(self, app: Connection) -> None:
        save(app, "mine", as_=OTHER)
        put(app, b"bytes")
        share(app)
        app.execute("begin read only")
        assert get(app) == b"bytes"
        app.execute("rollback")
        app.execute("begin read only")
        with refused("25006"):
            get(app, owner=ACME, as_=OTHER)
        app.execute("rollback")

    def test_the_owner_of_a_name_tells_nothing(self, app: Connection) -> None:
        put(app, b"bytes")
        said = []
        for model, owner in (("m", ACME), ("nothing", ACME), ("m", key("acme", "s9"))):
            with pytest.raises(psycopg.Error) as caught:
                get(app, model=model, owner=owner, as_=OTHER)
            said.append(everything_said(caught.value))
        assert said[0] == said[1] == said[2]


class TestTenants:
    def test_nobody_learns_whether_another_has_the_same_bytes(self, database: Database, app: Connection) -> None:
        for tenant in (BETA, OTHER):
            save(app, "m", as_=tenant)
        first = put(app, CONTENT, as_=ACME)
        second = put(app, CONTENT, as_=BETA)
        assert tuple(first) == tuple(second)
        assert second.is_new is True
        upload = begin(app, OTHER)
        append(app, upload, 0, CONTENT, OTHER)
        assert finish(app, upload, CONTENT, OTHER).is_new is True
        assert count(database, "artifact_chunk") == 3 * 4

    def test_each_has_a_cache_key_of_its_own(self, app: Connection) -> None:
        keys = set()
        for tenant in (ACME, BETA):
            save(app, "m", as_=tenant)
            put(app, b"x", as_=tenant)
            opened = [
                call(app, "open_artifact", model_name="m", artifact_name="weights", as_=tenant)[0].cache_key
                for _ in range(2)
            ]
            assert opened[0] == opened[1]
            keys.add(opened[0])
        assert len(keys) == 2
        assert {len(cache_key) for cache_key in keys} == {32}
        share(app)
        (opened_by_other,) = call(
            app, "open_artifact", model_name="m", artifact_name="weights", owner=ACME, as_=key("acme", "s2", code="c1")
        )
        assert opened_by_other.cache_key not in keys  # a tenant that never wrote has none, any other its own

    def test_an_erasure_takes_bytes_uploads_and_cache_key(self, database: Database, app: Connection) -> None:
        admin = database.connect()
        save(app, "m", as_=BETA)
        for tenant in (ACME, BETA):
            put(app, CONTENT, as_=tenant)
            append(app, begin(app, tenant), 0, b"going on", tenant)
            call(app, "open_artifact", model_name="m", artifact_name="weights", as_=tenant)
        tables = ("model_artifact", "artifact_blob", "artifact_upload", "artifact_chunk", "tenant_cache_key")
        before = dump(database)
        certificate = value(admin, "erase_tenant", pattern=ACME, reason="r")
        (erased,) = json.loads(certificate["statement"])["tenants"]
        assert erased["artifact_bytes"] == len(CONTENT)
        after = dump(database)
        assert {table: len(after[table]) * 2 for table in tables} == {table: len(before[table]) for table in tables}
        assert get(app, as_=BETA) == CONTENT

    def test_a_hold_keeps_them(self, database: Database, app: Connection) -> None:
        put(app, b"x")
        call(database.connect(), "set_retention", pattern="acme:*:*:*:*", legal_hold=True)
        with unchanged(database), refused("TN501"):
            call(app, "delete_artifact", model_name="m", artifact_name="weights", as_=ACME)

    def test_retention_takes_what_was_put_again_with_its_versions(self, database: Database, app: Connection) -> None:
        for version in range(1, 7):
            if version in (1, 3, 4):
                put(app, b"%d" % version)
            put(app, b"once", "kept") if version == 1 else None
            save(app, "m", version, as_=ACME)  # makes the next version
        admin = database.connect()
        call(admin, "set_retention", pattern="acme:*:*:*:*", keep_versions=4)  # 4, 5, 6 and 7
        call(admin, "apply_retention")
        assert [row.version for row in call(app, "list_artifacts", as_=ACME)] == [1, 4]
        assert (get(app, version=4), get(app, "kept", as_of=True)) == (b"4", b"once")
        for version in (1, 3):  # which the history has no longer, though what holds for the others is kept
            for artifact in ("weights", "kept"):
                for as_of in (False, True):
                    with refused("TN204"):
                        get(app, artifact, version=version, as_of=as_of)
        assert count(database, "artifact_blob") == 2


class TestTogether:
    def test_many_put_the_same_bytes(self, database: Database, app: Connection) -> None:
        connections = [database.connect("app") for _ in range(6)]
        rows = together([lambda c=c, n=n: put(c, CONTENT, f"a{n % 3}") for n, c in enumerate(connections)])
        assert sum(row.is_new for row in rows) == 1
        assert (count(database, "artifact_blob"), count(database, "artifact_chunk")) == (1, 4)
        assert get(app, "a2") == CONTENT

    def test_who_puts_bytes_again_keeps_them_from_being_swept(self, database: Database, app: Connection) -> None:
        put(app, b"same", "old")
        putting, deleting, watcher = (database.connect("app") for _ in range(3))
        putting.execute("begin")
        assert put(putting, b"same", "new").is_new is False
        admin = database.connect()
        with blocked(
            admin,
            deleting,
            lambda: value(deleting, "delete_artifact", model_name="m", artifact_name="old", as_=ACME),
        ) as deletion:
            putting.execute("commit")
            assert deletion.result(30) == 1
        assert get(watcher, "new") == b"same"

    def test_who_sweeps_bytes_lets_them_be_put_anew(self, database: Database, app: Connection) -> None:
        put(app, b"same", "old")
        putting, deleting = database.connect("app"), database.connect("app")
        deleting.execute("begin")
        call(deleting, "delete_artifact", model_name="m", artifact_name="old", as_=ACME)
        with blocked(database.connect(), putting, lambda: put(putting, b"same", "new")) as new:
            deleting.execute("commit")
            assert new.result(30).is_new is True
        assert get(app, "new") == b"same"

    def test_a_model_is_not_deleted_under_a_put(self, database: Database, app: Connection) -> None:
        putting, deleting = database.connect("app"), database.connect("app")
        putting.execute("begin")
        put(putting, b"x")
        with blocked(
            database.connect(), deleting, lambda: value(deleting, "delete_progress", model_name="m", as_=ACME)
        ) as deletion:
            save(app, "n", as_=ACME)  # and nobody else waits
            putting.execute("commit")
            assert deletion.result(30) is True
        assert (count(database, "model_artifact"), count(database, "artifact_chunk")) == (0, 0)

    def test_a_deletion_and_a_finish_do_not_deadlock(self, database: Database, app: Connection) -> None:
        watcher, appending, deleting, finishing = (database.connect(user) for user in ("postgres", "app", "app", "app"))
        first, second = begin(app), begin(app, artifact="other")
        append(app, second, 0, b"x")
        appending.execute("begin")
        append(appending, first, 0, b"x")
        with (
            blocked(
                watcher, deleting, lambda: value(deleting, "delete_progress", model_name="m", as_=ACME)
            ) as deletion,
            blocked(watcher, finishing, lambda: finish(finishing, second, b"x")) as finished,
        ):
            appending.execute("commit")
            assert deletion.result(30) is True
            with refused("TN201"):
                finished.result(30)


class TestExport:
    def test_artifacts_go_along(self, database: Database, app: Connection) -> None:
        put(app, CONTENT)
        put(app, b"", "empty")
        save(app, "m", 2, as_=ACME)
        put(app, CONTENT[:5])
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        middle = len(lines) // 2
        for part in (lines[:middle], lines[middle:]):
            call(app, "import_tenant", records=part, as_=BETA)
        theirs, ours = (
            [row._replace(owner_key="") for row in call(app, "list_artifacts", as_=tenant)] for tenant in (BETA, ACME)
        )
        assert theirs == ours
        assert get(app, version=1, as_=BETA) == CONTENT
        assert get(app, "empty", version=1, as_=BETA) == b""
        assert get(app, version=2, as_=BETA) == CONTENT[:5]
        assert count(database, "artifact_upload") == 0

    @pytest.mark.parametrize("damage", ["another byte", "a chunk is missing", "another size", "no chunk"])
    def test_a_damaged_content_is_refused(self, database: Database, app: Connection, damage: str) -> None:
        put(app, CONTENT)
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        chunks = [line for line in lines if line["kind"] == "chunk"]
        if damage == "another byte":
            content = bytearray(b64decode(chunks[1]["content"]))
            content[7] ^= 1
            chunks[1]["content"] = b64encode(content).decode()
        elif damage == "a chunk is missing":
            lines.remove(chunks[2])
        elif damage == "another size":
            next(line for line in lines if line["kind"] == "artifact")["size_bytes"] += 1
        else:
            lines = [line for line in lines if line["kind"] != "chunk"]
        save(app, "mine", as_=BETA)
        with unchanged(database), refused("22023"):
            call(app, "import_tenant", records=lines, as_=BETA)

    @pytest.mark.parametrize(
        "change",
        [{"content": "%%%"}, {"content": ""}, {"chunk_number": -1}, {"sha256": "xyz"}, {"sha256": None}],
    )
    def test_so_is_a_bad_chunk(self, database: Database, app: Connection, change: dict[str, Any]) -> None:
        put(app, b"x")
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        next(line for line in lines if line["kind"] == "chunk").update(change)
        save(app, "mine", as_=BETA)
        with unchanged(database), refused("22023"):
            call(app, "import_tenant", records=lines, as_=BETA)

    @pytest.mark.parametrize("cut", [992, 2**20 - 1])
    def test_one_content_has_one_splitting(self, database: Database, app: Connection, cut: int) -> None:
        parts = [CONTENT[:cut], CONTENT[cut : cut + 2**20]]
        size = sum(map(len, parts))
        digest = sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()
        put(app, b"x")
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME) if line["kind"] != "chunk"]
        next(line for line in lines if line["kind"] == "artifact").update(sha256=digest, size_bytes=size)
        chunks = [
            {"kind": "chunk", "sha256": digest, "size_bytes": size, "chunk_number": number,
             "content": b64encode(part).decode()}
            for number, part in enumerate(parts)
        ]  # fmt: skip
        save(app, "mine", as_=BETA)
        with unchanged(database), refused("22023"):
            call(app, "import_tenant", records=[*chunks, *lines], as_=BETA)

    def test_what_an_import_has_begun_takes_no_parts_of_an_upload(self, database: Database, app: Connection) -> None:
        put(app, CONTENT)
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        second = [line for line in lines if line["kind"] == "chunk" and line["chunk_number"] == 1]
        call(app, "import_tenant", records=second, as_=BETA)
        ((upload_id, received),) = database.connect().execute(
            "select upload_id, received_bytes from ai_storage_private.artifact_upload"
        )
        assert received == MIB
        with refused("TN201"):
            call(app, "append_artifact", upload_id=upload_id, offset=MIB, content=b"x", as_=BETA)
        digest = sha256(CONTENT[MIB : 2 * MIB]).hexdigest()
        with refused("TN201"):
            call(app, "finish_artifact", upload_id=upload_id, size_bytes=MIB, sha256=digest, as_=BETA)

    def test_chunks_that_no_artifact_came_to_name_are_swept(self, database: Database, app: Connection) -> None:
        put(app, b"x")
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        call(app, "import_tenant", records=[line for line in lines if line["kind"] == "chunk"], as_=BETA)
        assert call(app, "list_uploads", as_=BETA) == []
        admin = database.connect()
        admin.execute("update ai_storage_private.artifact_upload set touched_at = now() - interval '2 days'")
        call(admin, "apply_retention")
        assert (count(database, "artifact_upload"), count(database, "artifact_chunk")) == (0, 1)

    def test_two_imports_of_one_content_leave_it_to_both(self, database: Database, app: Connection) -> None:
        admin = database.connect()
        exports = []
        for tenant, model in ((ACME, "one"), (OTHER, "two")):
            save(app, model, as_=tenant)
            put(app, b"same" * 999, model=model, as_=tenant)
            lines = [line for (line,) in call(app, "export_tenant", as_=tenant)]
            exports.append([line for line in lines if line.get("model_name") != "m"])
        first, second = database.connect("app"), database.connect("app")
        first.execute("begin")
        call(first, "import_tenant", records=exports[0], as_=BETA)
        with blocked(admin, second, lambda: call(second, "import_tenant", records=exports[1], as_=BETA)) as future:
            first.execute("commit")
            future.result(30)
        admin.execute("update ai_storage_private.artifact_upload set touched_at = now() - interval '2 days'")
        call(admin, "apply_retention")
        assert [get(app, model=model, as_=BETA) for model in ("one", "two")] == [b"same" * 999] * 2

    def test_a_deletion_that_does_not_see_an_import_takes_nothing_from_it(
        self, database: Database, app: Connection
    ) -> None:
        save(app, "source", as_=OTHER)
        put(app, b"same", model="source", as_=OTHER)
        lines = [line for (line,) in call(app, "export_tenant", as_=OTHER)]
        put(app, b"same")
        old = database.connect("app")
        old.execute("begin isolation level repeatable read")
        assert get(old) == b"same"
        call(app, "import_tenant", records=lines, as_=ACME)
        with pytest.raises(psycopg.errors.SerializationFailure):
            call(old, "delete_artifact", model_name="m", artifact_name="weights", as_=ACME)
        old.execute("rollback")
        assert get(app, model="source") == b"same"

    @pytest.mark.parametrize("version", [0, -7, 2, 10**15, None])
    def test_an_artifact_belongs_to_a_version_there_is(self, database: Database, app: Connection, version: Any) -> None:
        put(app, b"x")
        lines = [line for (line,) in call(app, "export_tenant", as_=ACME)]
        next(line for line in lines if line["kind"] == "artifact")["version"] = version
        save(app, "mine", as_=BETA)
        with unchanged(database), refused("22023"):
            call(app, "import_tenant", records=lines, as_=BETA)
