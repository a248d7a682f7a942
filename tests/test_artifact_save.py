"""A save and its artifacts are one commit; a promotion takes them along."""

from __future__ import annotations

import random
import time
from base64 import b64encode
from typing import Any

import jwt
import pytest

from pydb import token
from tests.conftest import Database
from tests.helpers import ACME, ACME_2, BETA, Connection, call, key, refused, save, together, unchanged, value, versions
from tests.test_artifact import CONTENT, MIB, NOBODY, append, count, digest, get, put, share

pytestmark = pytest.mark.sql


def stage(connection: Connection, content: bytes, tenant: str = ACME, **begun: Any) -> str:
    """An upload that a save may name."""
    upload = value(connection, "begin_artifact", as_=tenant, **begun)
    for start in range(0, len(content), 2 * MIB):
        append(connection, upload, start, content[start : start + 2 * MIB], tenant)
    call(
        connection,
        "stage_artifact",
        upload_id=upload,
        size_bytes=len(content),
        sha256=digest(content),
        as_=tenant,
    )
    return str(upload)


def inline(content: bytes, **more: str) -> dict[str, str]:
    return {"content": b64encode(content).decode(), **more}


@pytest.fixture
def app(database: Database) -> Connection:
    return database.connect("app")


class TestSave:
    def test_a_first_version_comes_with_its_artifacts(self, database: Database, app: Connection) -> None:
        upload = stage(app, CONTENT)
        assert call(app, "list_artifacts", as_=ACME) == []
        artifacts = {"weights": upload, "card": inline(b"text", media_type="text/plain"), "empty": inline(b"")}
        assert save(app, "new", artifacts=artifacts, as_=ACME).version == 1
        assert [get(app, name, "new", version=1) for name in artifacts] == [CONTENT, b"text", b""]
        rows = call(app, "list_artifacts", as_=ACME)
        assert [(row.artifact_name, row.version, row.media_type) for row in rows] == [
            ("card", 1, "text/plain"),
            ("empty", 1, "application/octet-stream"),
            ("weights", 1, "application/octet-stream"),
        ]
        assert call(app, "list_uploads", as_=ACME) == []
        events = call(app, "audit_trail", action="put artifact", as_=ACME)
        assert {(row.version, row.detail["artifact_name"]) for row in events} == {(1, name) for name in artifacts}
        assert call(app, "verify_audit", as_=ACME)[0].verified

    def test_each_version_has_what_its_save_named(self, app: Connection) -> None:
        for version in range(1, 6):
            content = b"%d" % version * 1000
            artifacts = {"w": stage(app, content) if version % 2 else inline(content)}
            assert save(app, "m", artifacts=artifacts, as_=ACME).version == version
        for version in range(1, 6):
            assert get(app, "w", version=version) == b"%d" % version * 1000
        save(app, "m", as_=ACME)
        with refused("TN204"):
            get(app, "w")

    @pytest.mark.parametrize(
        ("bad", "sqlstate"),
        [
            ({"w": NOBODY}, "TN201"),
            ({"w": "no uuid"}, "TN201"),
            ({"w": {"upload": NOBODY}}, "TN201"),
            ({"w": 7}, "22023"),
            ({"w": None}, "22023"),
            ({"w": []}, "22023"),
            ({"w": {}}, "22023"),
            ({"w": {"content": "%%%"}}, "22023"),
            ({"w": {"content": 7}}, "22023"),
            ({"w": {"content": "", "upload": NOBODY}}, "22023"),
            ({"w": {"content": "", "media_type": "Text"}}, "22023"),
            ({"w": {"content": "", "media_type": 7}}, "22023"),
            ({"w": {"content": "", "more": 7}}, "22023"),
            ({"": inline(b"x")}, "22023"),
            ({"x" * 256: inline(b"x")}, "22023"),
            ({"a\x1f": inline(b"x")}, "22023"),
            ([], "22023"),
            ({str(number): inline(b"x") for number in range(101)}, "22023"),
        ],
    )
    @pytest.mark.parametrize("idempotency_key", [None, "k"])
    def test_one_bad_artifact_and_nothing_is_saved(
        self, database: Database, app: Connection, bad: Any, sqlstate: str, idempotency_key: str | None
    ) -> None:
        good = {"a": stage(app, b"good"), "b": inline(b"x")}
        bad = good | bad if isinstance(bad, dict) else bad
        with unchanged(database), refused(sqlstate):
            save(app, "m", artifacts=bad, idempotency_key=idempotency_key, as_=ACME)
        save(app, "m", artifacts=good, as_=ACME)
        assert get(app, "a") == b"good"

    def test_an_upload_that_is_not_staged_foreign_or_used_is_no_upload(
        self, database: Database, app: Connection
    ) -> None:
        save(app, "m", as_=BETA)
        going = value(app, "begin_artifact", as_=ACME)
        append(app, going, 0, b"x")
        changed = stage(app, b"")
        append(app, changed, 0, b"x")  # after it was staged
        used = stage(app, b"x")
        save(app, "m", artifacts={"w": used}, as_=ACME)
        said = set()
        foreign = stage(app, b"x", BETA)
        for upload in (str(going), changed, used, foreign, NOBODY):
            with unchanged(database), refused("TN201") as caught:
                save(app, "m", artifacts={"w": upload}, as_=ACME)
            said.add((str(caught.value), caught.value.diag.message_detail))
        assert len(said) == 1
        twice = stage(app, b"y")
        with unchanged(database), refused("TN201"):
            save(app, "m", artifacts={"one": twice, "two": twice}, as_=ACME)
        save(app, "m", artifacts={"w": foreign}, as_=BETA)

    def test_a_conflict_leaves_the_upload_to_the_next_save(self, database: Database, app: Connection) -> None:
        save(app, "m", as_=ACME)
        upload = stage(app, CONTENT)
        with unchanged(database), refused("TN102"):
            save(app, "m", expected_version=7, artifacts={"w": upload}, as_=ACME)
        assert save(app, "m", expected_version=1, artifacts={"w": upload}, as_=ACME).version == 2
        assert get(app, "w", version=2) == CONTENT

    def test_what_is_staged_is_what_was_announced(self, database: Database, app: Connection) -> None:
        upload = value(app, "begin_artifact", as_=ACME)
        append(app, upload, 0, b"bytes")
        for changed in ({"size_bytes": 4}, {"sha256": "0" * 64}, {"size_bytes": None}, {"sha256": None}):
            announced = {"size_bytes": 5, "sha256": digest(b"bytes")} | changed
            with unchanged(database), refused("TN203"):
                call(app, "stage_artifact", upload_id=upload, as_=ACME, **announced)
            with unchanged(database), refused("TN201"):
                call(app, "stage_artifact", upload_id=upload, as_=BETA, **announced)
        with unchanged(database), refused("TN101"):  # it has no model to go to
            call(app, "finish_artifact", upload_id=upload, size_bytes=5, sha256=digest(b"bytes"), as_=ACME)

    def test_there_is_a_limit(self, database: Database, app: Connection) -> None:
        call(database.connect(), "set_artifact_limit", max_bytes=3)
        with unchanged(database), refused("54000"):
            save(app, "m", artifacts={"w": inline(b"four")}, as_=ACME)

    def test_a_content_is_kept_once_however_it_came(self, database: Database, app: Connection) -> None:
        save(app, "m", artifacts={"a": stage(app, CONTENT), "b": inline(CONTENT), "c": stage(app, CONTENT)}, as_=ACME)
        put(app, CONTENT, "d")
        assert (count(database, "artifact_blob"), count(database, "artifact_chunk")) == (1, 4)
        assert {get(app, name) for name in "abcd"} == {CONTENT}

    def test_a_shared_models_bytes_are_saved_by_its_owner(self, database: Database, app: Connection) -> None:
        other = key("acme", "s2")
        save(app, "m", as_=ACME)
        share(app, "{read,write,execute}")
        artifacts = {"w": inline(b"x")}
        for idempotency_key in (None, "k"):
            arguments = {"owner": ACME, "idempotency_key": idempotency_key, "as_": other}
            with unchanged(database, "tenant"), refused("22023"):
                save(app, "m", artifacts=artifacts, **arguments)
        assert save(app, "m", owner=ACME, artifacts={}, as_=other).version == 2

    def test_nothing_of_a_save_that_was_rolled_back_stays_and_what_was_uploaded_is_swept(
        self, database: Database, app: Connection
    ) -> None:
        save(app, "m", artifacts={"w": inline(b"old")}, as_=ACME)
        upload = stage(app, CONTENT)
        with unchanged(database), app.transaction(force_rollback=True):
            save(app, "m", artifacts={"w": upload, "x": inline(b"new")}, as_=ACME)
            assert get(app, "w") == CONTENT
        assert get(app, "w") == b"old"
        admin = database.connect()
        admin.execute("update ai_storage_private.artifact_upload set touched_at = now() - interval '25 hours'")
        call(admin, "apply_retention")
        assert (count(database, "artifact_upload"), count(database, "artifact_chunk")) == (0, 1)

    def test_a_batch_saves_artifacts_too(self, database: Database, app: Connection) -> None:
        items = [
            {"model_name": "a", "mse": 1, "artifacts": {"w": stage(app, b"a")}},
            {"model_name": "b", "mse": 1},
            {"model_name": "a", "mse": 2, "artifacts": {"w": inline(b"a2")}},
        ]
        rows = call(app, "save_progress_batch", items=items, as_=ACME)
        assert [(row.model_name, row.version) for row in rows] == [("a", 1), ("b", 1), ("a", 2)]
        assert [get(app, "w", "a", version=version) for version in (1, 2)] == [b"a", b"a2"]
        with unchanged(database), refused("TN201"):
            call(app, "save_progress_batch", items=[*items[1:], items[0]], as_=ACME)
        with unchanged(database), refused("22023"):
            call(app, "save_progress_batch", items=[{"model_name": "a", "mse": 1, "artifacts": 7}], as_=ACME)


class TestIdempotency:
    def test_a_repetition_needs_no_upload_again(self, database: Database, app: Connection) -> None:
        artifacts = {"w": stage(app, CONTENT), "x": inline(b"x")}
        first = save(app, "m", artifacts=artifacts, idempotency_key="k", as_=ACME)
        with unchanged(database):
            assert save(app, "m", artifacts=artifacts, idempotency_key="k", as_=ACME) == first
        again = {"w": stage(app, CONTENT), "x": inline(b"x")}  # whoever starts anew uploads anew
        with unchanged(database):
            assert save(app, "m", artifacts=again, idempotency_key="k", as_=ACME) == first
        assert versions(app, "m", as_=ACME) == [1]

    def test_other_contents_are_another_request(self, database: Database, app: Connection) -> None:
        save(app, "m", artifacts={"w": inline(b"one")}, idempotency_key="k", as_=ACME)
        for other in (
            {},
            {"w": inline(b"two")},
            {"v": inline(b"one")},
            {"w": inline(b"one", media_type="text/plain")},
            {"w": inline(b"one"), "x": inline(b"x")},
            {"w": stage(app, b"two")},
            {"w": NOBODY},
        ):
            with unchanged(database), refused("TN103"):
                save(app, "m", artifacts=other, idempotency_key="k", as_=ACME)
        save(app, "m", artifacts={"w": stage(app, b"one")}, idempotency_key="k", as_=ACME)
        save(app, "m", idempotency_key="plain", as_=ACME)
        with refused("TN103"):
            save(app, "m", artifacts={"w": inline(b"one")}, idempotency_key="plain", as_=ACME)

    def test_twins_save_once(self, database: Database, app: Connection) -> None:
        artifacts = {"w": stage(app, CONTENT)}
        connections = [database.connect("app") for _ in range(6)]
        rows = together(
            [lambda c=c: save(c, "m", artifacts=artifacts, idempotency_key="k", as_=ACME) for c in connections]
        )
        assert len(set(rows)) == 1
        assert versions(app, "m", as_=ACME) == [1]
        assert get(app, "w") == CONTENT


def test_many_writers_never_mix_their_versions_bytes(request: pytest.FixtureRequest, database: Database) -> None:
    writers, saves = 64, request.config.getoption("--writer-saves")
    connections = [database.connect("app") for _ in range(writers)]
    expected: dict[int, bytes] = {}

    def write(number: int) -> list[tuple[int, bytes]]:
        draw = random.Random(number)
        connection, saved = connections[number], []
        for step in range(saves):
            content = b"%d %d" % (number, step) * draw.randint(1, 300)
            way = draw.randrange(4)
            if way == 3:  # a put to the version that this writer made, by name
                version = save(connection, "m", float(number), as_=ACME).version
                put(connection, content, "w", version=version)
            else:
                artifact = inline(content) if way else stage(connection, content)
                version = save(connection, "m", float(number), artifacts={"w": artifact}, as_=ACME).version
            saved.append((version, content))
        return saved

    for saved in together([lambda number=number: write(number) for number in range(writers)]):
        expected.update(saved)
    assert sorted(expected) == list(range(1, writers * saves + 1))
    reader = database.connect("app")
    for version, content in expected.items():
        assert get(reader, "w", version=version) == content
        (row,) = call(reader, "load_history", model_name="m", before_version=version + 1, limit=1, as_=ACME)
        assert float(content.split()[0]) == row.mse
    assert call(reader, "list_uploads", as_=ACME) == []


class TestPromote:
    def test_the_current_versions_artifacts_come_along(self, database: Database, app: Connection) -> None:
        save(app, "m", 1.0, artifacts={"old": inline(b"old")}, as_=ACME)
        save(app, "m", 2.0, artifacts={"w": stage(app, CONTENT), "empty": inline(b"", media_type="a/b")}, as_=ACME)
        before = call(app, "export_tenant", as_=ACME)[1:]
        assert [tuple(row) for row in call(app, "promote_progress", from_code_hash="c1", as_=ACME_2)] == [("m", 1)]
        assert get(app, "w", as_=ACME_2) == CONTENT
        rows = call(app, "list_artifacts", as_=ACME_2)
        assert [(row.artifact_name, row.version, row.media_type, row.owner_key) for row in rows] == [
            ("empty", 1, "a/b", ACME_2),
            ("w", 1, "application/octet-stream", ACME_2),
        ]
        assert call(app, "export_tenant", as_=ACME)[1:] == before
        call(app, "delete_progress", model_name="m", as_=ACME)  # each tenant has bytes of its own
        assert get(app, "w", as_=ACME_2) == CONTENT
        assert call(app, "verify_audit", as_=ACME_2)[0].verified

    def test_all_versions_come_along_when_they_are_asked_for(self, database: Database, app: Connection) -> None:
        for version in (1, 2, 3):
            save(app, "m", float(version), metadata={"v": version}, as_=ACME)
            if version != 2:
                put(app, b"%d" % version, "w")
        arguments = {"from_code_hash": "c1", "with_history": True, "as_": ACME_2}
        assert [tuple(row) for row in call(app, "promote_progress", **arguments)] == [("m", 3)]
        theirs, ours = (
            [
                (row.version, row.mse, row.metadata, row.saved_at)
                for row in call(app, "load_history", model_name="m", as_=t)
            ]
            for t in (ACME_2, ACME)
        )
        assert theirs == ours
        assert [get(app, "w", version=version, as_=ACME_2) for version in (1, 3)] == [b"1", b"3"]
        with refused("TN204"):
            get(app, "w", version=2, as_=ACME_2)
        assert save(app, "m", as_=ACME_2).version == 4
        assert call(app, "verify_audit", as_=ACME_2)[0].verified

    def test_an_artifact_of_a_deleted_version_comes_along(self, database: Database, app: Connection) -> None:
        for version in (1, 2, 3):
            save(app, "m", float(version), as_=ACME)
            if version == 1:
                put(app, b"1", "w")
        admin = database.connect()
        call(admin, "set_retention", pattern=ACME, keep_versions=1)
        call(admin, "apply_retention")
        call(app, "promote_progress", from_code_hash="c1", with_history=True, as_=ACME_2)
        for tenant in (ACME, ACME_2):
            assert get(app, "w", version=3, as_of=True, as_=tenant) == b"1"
        assert call(app, "verify_audit", as_=ACME_2)[0].verified

    def test_a_name_that_was_deleted_goes_on_counting(self, app: Connection) -> None:
        for _ in range(5):
            save(app, "m", as_=ACME_2)
        value(app, "delete_progress", model_name="m", as_=ACME_2)
        for version in (1, 2):
            save(app, "m", artifacts={"w": inline(b"%d" % version)}, as_=ACME)
        rows = call(app, "promote_progress", from_code_hash="c1", with_history=True, as_=ACME_2)
        assert [tuple(row) for row in rows] == [("m", 7)]
        assert [get(app, "w", version=version, as_=ACME_2) for version in (6, 7)] == [b"1", b"2"]

    def test_bytes_that_the_tenant_has_are_kept_once(self, database: Database, app: Connection) -> None:
        save(app, "m", artifacts={"w": stage(app, CONTENT), "same": inline(CONTENT)}, as_=ACME)
        save(app, "n", artifacts={"w": inline(CONTENT)}, as_=ACME_2)
        call(app, "promote_progress", from_code_hash="c1", as_=ACME_2)
        assert (count(database, "artifact_blob"), count(database, "artifact_chunk")) == (2, 8)


class TestToken:
    @pytest.fixture
    def login(self, database: Database) -> Connection:
        """A login that presents tokens only."""
        admin = database.connect()
        (made,) = call(admin, "create_signing_key", kid="k1", audience="here")
        self.secret = made.secret
        admin.execute("create role tokens login")
        call(admin, "authorize_login", login="tokens", pattern="acme:*:*:*:*", token_only=True)
        yield database.connect("tokens")
        call(admin, "deauthorize_login", login="tokens")
        admin.execute("drop role tokens")

    def mint(self, code: str = "c2", **more: Any) -> str:
        tenant = token.Tenant("acme", "s1", "p1", "production", code)
        return token.mint(tenant, kid="k1", secret=self.secret, audience="here", **more)

    def test_a_token_promotes_from_what_it_names(self, database: Database, app: Connection, login: Connection) -> None:
        for code in ("c1", "c3", "c4"):
            save(app, "m", artifacts={"w": inline(code.encode())}, as_=key(code=code))
        save(app, "m", as_=key("beta", code="c1"))
        for promote_from in ([], ["c3"], ["c11", "c"]):
            with unchanged(database), refused("TN003") as caught:
                call(login, "promote_progress", from_code_hash="c1", as_=self.mint(promote_from=promote_from))
            assert "from" in caught.value.diag.message_hint
        named = self.mint(promote_from=["c1", "c9"])
        rows = call(login, "list_code_versions", as_=named)
        assert [(row.code_hash, row.is_own, row.models) for row in rows] == [("c1", False, 1)]
        with unchanged(database), refused("TN101"):
            call(login, "promote_progress", from_code_hash="c9", as_=named)
        assert [tuple(row) for row in call(login, "promote_progress", from_code_hash="c1", as_=named)] == [("m", 1)]
        assert get(login, "w", as_=named) == b"c1"
        rows = call(login, "list_code_versions", as_=named)
        assert {(row.code_hash, row.is_own, row.models) for row in rows} == {("c1", False, 1), ("c2", True, 1)}
        # to read there is to promote: the token is still of one tenant
        with refused("TN003", hint=False):
            call(login, "load_progress", as_=key(code="c1"))

    def test_a_key_covers_what_its_login_is_authorised_for(self, database: Database, app: Connection) -> None:
        for code in ("c1", "c2", "c3"):
            save(app, "m", as_=key(code=code))
        save(app, "m", as_=key(server="s12", code="c9"))
        rows = call(app, "list_code_versions", as_=ACME)
        assert [row.code_hash for row in rows] == ["c3", "c2", "c1"]
        admin = database.connect()
        admin.execute("create role narrow2 login")
        try:
            for code in ("c1", "c3"):
                call(admin, "authorize_login", login="narrow2", pattern=key(code=code))
            narrow = database.connect("narrow2")
            assert [row.code_hash for row in call(narrow, "list_code_versions", as_=ACME)] == ["c3", "c1"]
        finally:
            call(admin, "deauthorize_login", login="narrow2")
            admin.execute("drop role narrow2")

    def claiming(self, claim: object) -> str:
        payload = dict(zip(("org", "srv", "prj", "env", "code"), ACME_2.split(":"), strict=True))
        payload |= {"aud": "here", "exp": int(time.time()) + 600, "from": claim}
        return jwt.encode(payload, self.secret, algorithm="HS256", headers={"kid": "k1"})

    @pytest.mark.parametrize("claim", [7, None, {}, [], [7], [None], "", "a b", "a:b", "*", ["x" * 64], ["c"] * 33])
    def test_a_claim_that_is_no_list_of_codes_is_malformed(
        self, database: Database, login: Connection, claim: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            token.Tenant, "_asdict", lambda self: dict(zip(self._fields, self, strict=True)) | {"from": claim}
        )
        with unchanged(database), refused("TN002"):
            call(login, "load_progress", as_=self.mint())

    def test_a_claim_is_one_code_or_several(
        self, app: Connection, login: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(app, "m", as_=ACME)
        monkeypatch.setattr(
            token.Tenant, "_asdict", lambda self: dict(zip(self._fields, self, strict=True)) | {"from": "c1"}
        )
        assert len(call(login, "promote_progress", from_code_hash="c1", as_=self.mint())) == 1

    def test_a_login_is_bound_by_its_authorisation_whatever_its_token_names(
        self, database: Database, app: Connection, login: Connection
    ) -> None:
        save(app, "m", as_=ACME)
        admin = database.connect()
        call(admin, "deauthorize_login", login="tokens")
        call(admin, "authorize_login", login="tokens", pattern=ACME_2, token_only=True)
        with refused("TN003"):
            call(login, "promote_progress", from_code_hash="c1", as_=self.mint(promote_from=["c1"]))
        assert call(login, "list_code_versions", as_=self.mint(promote_from=["c1"])) == []
