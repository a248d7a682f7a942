"""A quota holds to the last model and byte, whoever writes and however many at once."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pydb import QuotaExceeded, TenantAwareStorage, cli
from tests.conftest import Database
from tests.helpers import ACME, ACME_2, BETA, Connection, blocked, call, key, names, refused, save, together, value

pytestmark = pytest.mark.sql

ALL = "acme:*:*:*:*"
MIB = 2**20


def quota(database: Database, pattern: str = ALL, models: int | None = None, bytes_: int | None = None) -> None:
    call(database.connect(), "set_quota", pattern=pattern, max_models=models, max_bytes=bytes_)


def used(database: Database) -> dict[str, tuple[int, int]]:
    return {row.pattern: (row.models, row.bytes) for row in call(database.connect(), "list_quotas")}


def put(connection: Connection, content: bytes, name: str = "w", tenant: str = ACME) -> None:
    call(connection, "put_artifact", model_name="m", artifact_name=name, content=content, as_=tenant)


@pytest.fixture
def app(database: Database) -> Connection:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    return app


def exported(app: Connection, *kinds: str) -> list[Any]:
    return [line for (line,) in call(app, "export_tenant", as_=BETA) if line["kind"] in kinds]


# Every way to a new model of ACME_2 or of ACME.
NEW_MODELS: dict[str, Callable[[Connection], Any]] = {
    "save": lambda app: save(app, "new", as_=ACME_2),
    "save with a key": lambda app: save(app, "new", idempotency_key="k", as_=ACME_2),
    "batch": lambda app: call(
        app, "save_progress_batch", items=[{"model_name": "m", "mse": 1}, {"model_name": "new", "mse": 1}], as_=ACME
    ),
    "batch one by one": lambda app: call(
        app, "save_progress_batch", items=[{"model_name": "new", "mse": 1, "idempotency_key": "k"}], as_=ACME
    ),
    "promote": lambda app: call(app, "promote_progress", from_code_hash="c1", as_=ACME_2),
    "import": lambda app: call(app, "import_tenant", records=exported(app, "version"), as_=ACME_2),
}


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("way", NEW_MODELS)
def test_no_way_leads_past_the_most_models(database: Database, app: Connection, way: str, level: str) -> None:
    save(app, "theirs", as_=BETA)
    app.execute(f"set default_transaction_isolation = '{level}'")
    quota(database, models=1)
    with refused("TN601"):
        NEW_MODELS[way](app)
    assert used(database) == {ALL: (1, 0)}
    quota(database, models=2)
    NEW_MODELS[way](app)
    assert used(database) == {ALL: (2, 0)}


def inline(mebibytes: int) -> str:
    """A content in JSON."""
    return b64encode(bytes(range(256)) * (mebibytes * MIB // 256)).decode()


def upload(app: Connection, *parts: bytes) -> Any:
    upload_id = value(app, "begin_artifact", model_name="m", artifact_name="u", as_=ACME)
    offset = 0
    for part in parts:
        value(app, "append_artifact", upload_id=upload_id, offset=offset, content=part, as_=ACME)
        offset += len(part)
    return upload_id


# Every way to 3 MiB more of ACME's.
NEW_BYTES: dict[str, Callable[[Connection], Any]] = {
    "put": lambda app: put(app, bytes(range(256)) * (3 * MIB // 256)),
    "upload": lambda app: upload(app, b"1" * MIB, b"2" * MIB, b"3" * MIB),
    "import": lambda app: call(app, "import_tenant", records=exported(app, "chunk"), as_=ACME),
    "save with artifacts": lambda app: save(app, "m", artifacts={"w": {"content": inline(3)}}, as_=ACME),
    "promote": lambda app: call(app, "promote_progress", from_code_hash="c1", as_=key("beta", code="c2")),
}


@pytest.mark.parametrize("way", NEW_BYTES)
def test_no_way_leads_past_the_most_bytes(database: Database, app: Connection, way: str) -> None:
    save(app, "m", as_=BETA)
    put(app, b"".join(bytes([number]) * MIB for number in range(3)), tenant=BETA)
    own = "beta:*:*:*:c2" if way == "promote" else ACME
    quota(database, own, bytes_=3 * MIB - 1)
    with refused("TN601"):
        NEW_BYTES[way](app)
    assert used(database)[own][1] <= 3 * MIB - 1
    quota(database, own, bytes_=6 * MIB)
    NEW_BYTES[way](app)
    assert 0 < used(database)[own][1] <= 6 * MIB


def test_a_promise_of_64_writers_is_kept(database: Database, app: Connection) -> None:
    quota(database, models=20, bytes_=10_000)
    tenants = [key(code=f"c{number}") for number in range(8)]

    def writer(number: int) -> Callable[[], tuple[int, int]]:
        def work() -> tuple[int, int]:
            models = artifacts = 0
            tenant = tenants[number % 8]
            with psycopg.connect(database.dsn("app"), autocommit=True) as connection:
                for turn in range(3):
                    try:
                        save(connection, f"m{number}-{turn}", as_=tenant)
                        models += 1
                    except psycopg.Error as error:
                        if error.sqlstate != "TN601":
                            raise
                    try:
                        call(
                            connection, "put_artifact", model_name="m", artifact_name=f"{number}-{turn}",
                            content=f"{number} {turn}".ljust(300).encode(), as_=ACME,
                        )  # fmt: skip
                        artifacts += 1
                    except psycopg.Error as error:
                        if error.sqlstate != "TN601":
                            raise
            return models, artifacts

        return work

    done = together([writer(number) for number in range(64)])
    assert [sum(column) for column in zip(*done, strict=True)] == [19, 33]
    assert used(database) == {ALL: (20, 9900)}
    rows = database.connect().execute("select count(*) from ai_storage_private.ai_progress_tenant").fetchone()
    assert rows == (20,)


def test_a_new_version_of_a_model_neither_counts_nor_waits(database: Database, app: Connection) -> None:
    quota(database, models=1)
    adding = database.connect("app")
    quota(database, models=2)
    adding.execute("begin")
    save(adding, "new", as_=ACME_2)
    app.execute("set statement_timeout = '3s'")
    assert save(app, "m", 2, as_=ACME).version == 2
    call(app, "save_progress_batch", items=[{"model_name": "m", "mse": 3}], as_=ACME)
    save(app, "m", as_=BETA)  # another organisation does not wait either
    adding.execute("rollback")
    assert used(database) == {ALL: (1, 0)}


def test_what_goes_makes_room(database: Database, app: Connection) -> None:
    put(app, b"x" * 1000)
    quota(database, models=1, bytes_=1000)
    with refused("TN601"):
        put(app, b"y", "other")
    put(app, b"x" * 1000, "again")  # the same content: no byte more
    call(app, "delete_artifact", model_name="m", artifact_name="w", as_=ACME)
    call(app, "delete_artifact", model_name="m", artifact_name="again", as_=ACME)
    assert used(database) == {ALL: (1, 0)}
    put(app, b"y")
    call(app, "delete_progress", model_name="m", as_=ACME)
    assert used(database) == {ALL: (0, 0)}
    save(app, "new", as_=ACME_2)
    call(database.connect(), "erase_tenant", pattern=ALL, reason="r")
    assert used(database) == {ALL: (0, 0)}


def test_an_aborted_upload_makes_room(database: Database, app: Connection) -> None:
    quota(database, bytes_=1000)
    upload_id = upload(app, b"x" * 1000)
    with refused("TN601"):
        put(app, b"y")
    call(app, "abort_artifact", upload_id=upload_id, as_=ACME)
    put(app, b"y")


def test_every_quota_counts_and_an_organisations_own_replaces_that_of_all(database: Database, app: Connection) -> None:
    quota(database, "*:*:*:*:*", models=1)
    with refused("TN601"):
        save(app, "new", as_=ACME_2)
    save(app, "one", as_=BETA)
    with refused("TN601"):
        save(app, "two", as_=BETA)
    quota(database, ALL)  # an exception without a limit
    save(app, "new", as_=ACME_2)
    quota(database, "acme:*:*:production:c2", models=1)
    with refused("TN601"):
        save(app, "more", as_=ACME_2)
    save(app, "more", as_=ACME)
    call(database.connect(), "drop_quota", pattern=ALL)
    with refused("TN601"):
        save(app, "still more", as_=ACME)
    assert used(database) == {"*:*:*:*:*": (3, 0), "acme:*:*:production:c2": (1, 0)}


def test_what_is_there_stays_and_what_was_dropped_is_counted_again(database: Database, app: Connection) -> None:
    put(app, b"x" * 5000)
    quota(database, models=0, bytes_=0)
    assert used(database) == {ALL: (1, 5000)}
    save(app, "m", 2, as_=ACME)
    admin = database.connect()
    assert value(admin, "drop_quota", pattern=ALL) is True
    assert value(admin, "drop_quota", pattern=ALL) is False
    save(app, "n", as_=ACME)
    quota(database, models=2)
    assert used(database) == {ALL: (2, 5000)}


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_whoever_adds_while_a_quota_is_set_is_counted_or_refused(
    database: Database, app: Connection, level: str
) -> None:
    admin, watcher = database.connect(), database.connect()
    app.execute(f"begin isolation level {level}")
    save(app, "open", as_=ACME)
    with blocked(watcher, admin, lambda: call(admin, "set_quota", pattern=ALL, max_models=2)) as future:
        app.execute("commit")
        future.result(30)
    assert used(database) == {ALL: (2, 0)}


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_snapshot_from_before_the_first_quota_is_no_way_past_it(
    database: Database, app: Connection, level: str
) -> None:
    app.execute(f"begin isolation level {level}")
    app.execute("select 1")
    quota(database, models=1)
    with refused("40001", hint=False):
        save(app, "over", as_=ACME)
    app.execute("rollback")


def test_neither_a_quota_nor_an_addition_waits_without_end(database: Database, app: Connection) -> None:
    app.execute("begin")
    save(app, "open", as_=ACME)
    with refused("55P03") as caught:
        quota(database, models=2)
    assert str(app.info.backend_pid) in caught.value.diag.message_detail
    app.execute("commit")
    quota(database, models=9)
    app.execute("begin")
    save(app, "again", as_=ACME)
    with refused("55P03"):
        save(database.connect("app"), "waits", as_=ACME_2)
    app.execute("rollback")


@pytest.mark.parametrize("limits", [{"max_models": -1}, {"max_bytes": -1}, {"pattern": "acme:*"}, {"pattern": None}])
def test_a_quota_that_means_nothing_is_refused(database: Database, limits: dict[str, Any]) -> None:
    with refused("22023"):
        call(database.connect(), "set_quota", **{"pattern": ALL} | limits)


@pytest.mark.parametrize(
    ("function", "arguments"), [("set_quota", {"pattern": ALL}), ("drop_quota", {"pattern": ALL}), ("list_quotas", {})]
)
def test_they_are_for_administrators(database: Database, function: str, arguments: dict[str, Any]) -> None:
    with refused("42501", hint=False):
        call(database.connect("app"), function, **arguments)


def test_a_refusal_tells_nothing_of_others(database: Database, app: Connection) -> None:
    save(app, "m", as_=key("acme", "canary-7f3a91"))
    quota(database, models=2)
    with refused("TN601") as caught:
        save(app, "new", as_=ACME)
    assert "canary" not in str(caught.value)
    assert caught.value.diag.message_detail == "Models allowed: 2."


def test_a_setting_of_the_session_switches_nothing_off(database: Database) -> None:
    app = database.connect("app")
    quota(database, models=0)
    app.execute("set constraints all deferred")
    for setting in ("lock_timeout = 1", "search_path = pg_temp", "row_security = on"):
        app.execute(f"set {setting}")
    with refused("TN601"):
        save(app, "m", as_=ACME)
    assert names(database.connect("app"), as_=ACME) == []


def test_python_raises_a_class_of_its_own_and_the_command_sets_lists_and_drops(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = ["--dsn", database.dsn()]
    assert cli.main(["quota", "set", ALL, "--models", "0", "--bytes", "3MiB", *dsn]) == 0
    with pytest.raises(QuotaExceeded):
        TenantAwareStorage(database.connect("app"), ACME).save_ai_progress("m", 1.0)
    assert cli.main(["quota", "list", *dsn]) == 0
    assert cli.main(["quota", "drop", ALL, *dsn]) == 0
    assert cli.main(["quota", "drop", ALL, *dsn]) == 1
    assert capsys.readouterr().out.splitlines()[2].split()[:5] == [ALL, "0", str(3 * MIB), "0", "0"]
    with pytest.raises(SystemExit):
        cli.main(["quota", "set", ALL, *dsn])
