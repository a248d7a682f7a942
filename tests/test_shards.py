"""Where tenants live and how they move: on one server the refusals, the rest on a cluster (`make test-citus`)."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pydb import cli, doctor
from tests import citus
from tests.citus import Node
from tests.conftest import FAST, Database, new_cluster
from tests.helpers import ACME, ACME_2, BETA, call, free_port, names, refused, save, until, value, versions

Run = Callable[..., tuple[int, str, str]]
#: Longest time that a writer may wait while its tenant moves, in seconds.
BLOCKED = 5.0


@pytest.fixture
def cluster(database: Database) -> Database:
    """A distributed database."""
    if database.server.nodes is None:
        pytest.skip("needs a cluster: make test-citus")
    return database


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], database: Database) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([*arguments, "--dsn", database.dsn()])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def spare(cluster: Database) -> Iterator[Node]:
    """One more server with the same database, in no cluster yet."""
    for made in new_cluster(citus.require()):
        node = Node(made, free_port(), {**FAST, **citus.SETTINGS, "shared_preload_libraries": "citus"})
        node.start()
        # Citus sends along what is set for roles in other databases of the coordinator, too.
        others = "select datname from pg_database where datname like 'citus%'"
        for (name,) in cluster.server.nodes.coordinator.query(others):
            node.execute(f'create database "{name}"')
        node.execute("create extension citus", dbname=cluster.name)
        yield node


def home(cluster: Database, key: str) -> Any:
    (row,) = [row for row in call(cluster.connect(), "shard_map") if row.isolation_key == key]
    return row


def other_node(cluster: Database, key: str) -> str:
    assert cluster.server.nodes is not None
    return next(
        name
        for name in (f"127.0.0.1:{worker.port}" for worker in cluster.server.nodes.workers)
        if name != home(cluster, key).node
    )


def move(cluster: Database, key: str, node: str) -> list[Any]:
    """All steps of a move."""
    steps: list[Any] = []
    while not steps or not steps[-1].is_done:
        steps += call(cluster.connect(), "move_tenant", isolation_key=key, node=node)
    return steps


# One server ----------------------------------------------------------------------------------------------------------


@pytest.mark.sql
@pytest.mark.one_server("the database is distributed")
def test_on_one_server_every_tenant_lives_there(database: Database) -> None:
    app = database.connect("app")
    save(app, "m", as_=ACME)
    save(app, "n", as_=ACME)
    save(app, "m", as_=BETA)
    admin = database.connect()
    rows = call(admin, "shard_map")
    assert [(row.isolation_key, row.tenants, row.models, row.shard_id) for row in rows] == [
        (ACME, 2, 2, None),
        (BETA, 2, 1, None),
    ]
    assert len({row.node for row in rows}) == 1
    assert rows[0].bytes > 0
    assert call(admin, "check_nodes") == []


@pytest.mark.sql
@pytest.mark.one_server("the database is distributed")
def test_on_one_server_nothing_moves(database: Database) -> None:
    admin = database.connect()
    for function, arguments in (
        ("move_tenant", {"isolation_key": ACME, "node": "node:5432"}),
        ("rebalance", {}),
        ("add_node", {"host": "node"}),
    ):
        with refused("55000"):
            call(admin, function, **arguments)


@pytest.mark.sql
def test_only_a_superuser_sees_and_moves_all_tenants(database: Database) -> None:
    database.connect().execute("grant ai_storage_owner to acme_app")
    try:
        owner = database.connect("acme_app")
        owner.execute("set role ai_storage_owner")
        for function, arguments in (
            ("shard_map", {}),
            ("move_tenant", {"isolation_key": ACME, "node": "node:5432"}),
            ("rebalance", {}),
            ("add_node", {"host": "node"}),
        ):
            with refused("42501"):
                call(owner, function, **arguments)
    finally:
        database.connect().execute("revoke ai_storage_owner from acme_app")
    for user in ("app", "stranger"):
        with refused("42501", hint=False):
            call(database.connect(user), "shard_map")


def test_the_command_shows_the_plan_on_any_server(run: Run) -> None:
    code, out, _ = run("distribute", "--plan", "--json")
    assert code == 0
    assert {row["kind"] for row in json.loads(out)} == {"distributed", "every node", "coordinator"}


@pytest.mark.one_server("the database is distributed")
def test_the_commands_refuse_one_server_with_a_reason(run: Run) -> None:
    assert run("shards")[0] == 0
    for arguments, reason in (
        (["distribute"], "citus is not installed"),
        (["add-node", "node:5433"], "not distributed"),
        (["move-tenant", ACME, "node:5432"], "not distributed"),
        (["rebalance"], "not distributed"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (1, "")
        assert reason in err
        assert "hint: " in err


@pytest.mark.parametrize("node", ["", ":5432", "a:b", "a:1:2", "a b"])
def test_a_malformed_node_is_wrong_usage(run: Run, node: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("add-node", node)
    assert stopped.value.code == 2


# A cluster -----------------------------------------------------------------------------------------------------------


def test_the_map_says_where_every_tenant_lives(cluster: Database, run: Run) -> None:
    app = cluster.connect("app")
    keys = [f"acme:s1:p1:production:c{code}" for code in range(12)]
    for code, key in enumerate(keys):
        save(app, "m", as_=key)
        if code % 2:
            save(app, "n", as_=key)
    rows = json.loads(run("shards", "--json")[1])
    assert [row["isolation_key"] for row in rows] == sorted(keys)
    assert {row["isolation_key"]: row["models"] for row in rows} == {k: 1 + n % 2 for n, k in enumerate(keys)}
    nodes = {f"127.0.0.1:{worker.port}" for worker in cluster.server.nodes.workers}
    assert {row["node"] for row in rows} == nodes
    assert sum(1 / row["tenants"] for row in rows) == pytest.approx(len({row["shard_id"] for row in rows}))
    for row in rows:
        # What the map says is true of the shard itself.
        port = int(row["node"].split(":")[1])
        (worker,) = [worker for worker in cluster.server.nodes.workers if worker.port == port]
        table = f"ai_storage_private.ai_progress_tenant_{row['shard_id']}"
        counted = worker.query(f"select count(distinct tenant_id) from {table}", cluster.name)
        assert counted == [(row["tenants"],)]


def test_a_tenant_moves_with_all_it_has_and_comes_back(cluster: Database) -> None:
    app = cluster.connect("app")
    for key in (ACME, ACME_2, BETA):
        save(app, "m", 1.0, as_=key)
        save(app, "m", 2.0, as_=key)
        call(app, "put_artifact", model_name="m", artifact_name="a", content=b"bytes of " + key.encode(), as_=key)
    before = home(cluster, ACME)
    there = other_node(cluster, ACME)
    steps = move(cluster, ACME, there)
    assert {step.step for step in steps} == {"isolated", "moved"}
    assert all(step.from_node == before.node for step in steps if "ai_progress_tenant" in step.table_names)
    assert all(re.fullmatch("[0-9a-f]{64}", step.digest) for step in steps if step.step == "moved")
    moves = cluster.connect().execute(
        "select tenant_id, detail::jsonb - 'application' from ai_storage_private.audit_pending "
        "where action = 'move tenant' order by event_id"
    )
    assert moves.fetchall() == [
        (
            0,
            {
                "isolation_key": ACME,
                "tables": step.table_names,
                "from": step.from_node,
                "to": there,
                "digest": step.digest,
            },
        )
        for step in steps
        if step.step == "moved"
    ]
    after = home(cluster, ACME)
    assert (after.node, after.log_node, after.tenants, after.models) == (there, there, 1, 1)
    for key in (ACME, ACME_2, BETA):
        assert versions(app, "m", as_=key) == [2, 1]
        assert value(app, "get_artifact", model_name="m", artifact_name="a", as_=key) == b"bytes of " + key.encode()
        assert save(app, "m", as_=key).version == 3
    # It is alone now, so nothing is isolated again.
    assert {step.step for step in move(cluster, ACME, before.node)} == {"moved"}
    assert versions(app, "m", as_=ACME) == [3, 2, 1]
    assert home(cluster, ACME).node == before.node


def test_a_moved_shard_has_row_level_security_and_closed_functions(cluster: Database) -> None:
    save(cluster.connect("app"), "m", as_=ACME)
    move(cluster, ACME, other_node(cluster, ACME))
    problems = call(cluster.connect(), "check_nodes")
    assert {problem.problem for problem in problems} <= {"unsafe", "hba"}
    assert names(cluster.connect("app"), as_=ACME_2) == []


def test_refusals_of_a_move_say_why(cluster: Database, run: Run) -> None:
    save(cluster.connect("app"), "m", as_=ACME)
    admin = cluster.connect()
    node = home(cluster, ACME).node
    with refused("42704"):
        call(admin, "move_tenant", isolation_key=BETA, node=node)
    with refused("42704"):
        call(admin, "move_tenant", isolation_key=ACME, node="127.0.0.1:1")
    with refused("55000"):
        call(admin, "move_tenant", isolation_key=ACME, node=node)
    code, out, err = run("move-tenant", ACME, node)
    assert (code, out) == (1, "")
    assert "already" in err


def test_copies_that_differ_do_not_move(cluster: Database) -> None:
    app = cluster.connect("app")
    save(app, "m", as_=ACME)
    there = other_node(cluster, ACME)
    # Its own shard first; then a row that the new node gets changed.
    (step,) = call(cluster.connect(), "move_tenant", isolation_key=ACME, node=there)
    assert step.step == "isolated"
    source = home(cluster, ACME)
    admin = cluster.connect()
    admin.execute("set client_min_messages = error")
    with refused("55000"), admin.transaction():
        admin.execute("set local role postgres")
        admin.execute(
            "create or replace function ai_storage_private.shard_digests(p_shards text[], p_nodes text[]) "
            "returns text[] language sql as $$ select array['a', 'b'] $$"
        )
        call(admin, "move_tenant", isolation_key=ACME, node=there)
    assert home(cluster, ACME).node == source.node
    assert versions(app, "m", as_=ACME) == [1]
    move(cluster, ACME, there)
    assert versions(app, "m", as_=ACME) == [1]


def test_a_tenant_moves_under_write_load_and_loses_no_save(
    cluster: Database, run: Run, record_property: Callable[[str, object], None]
) -> None:
    app = cluster.connect("app")
    for key in (ACME, ACME_2):
        save(app, "m0", as_=key)
    there = other_node(cluster, ACME)
    over = threading.Event()
    answered: list[tuple[str, str, int]] = []
    waited: list[float] = []
    failures: list[psycopg.Error] = []

    def write(number: int, key: str) -> None:
        connection = cluster.connect("app")
        while not over.is_set():
            began = time.monotonic()
            try:
                row = save(connection, f"m{number}", as_=key)
            except psycopg.Error as error:
                failures.append(error)
            else:
                answered.append((key, f"m{number}", row.version))
            waited.append(time.monotonic() - began)

    threads = [threading.Thread(target=write, args=(n, key)) for n, key in ((1, ACME), (2, ACME), (3, ACME_2))]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(answered) > 50, "saves")
        code, out, err = run("move-tenant", ACME, there)
        during = len(answered)
        until(lambda: len(answered) > during + 50, "saves after the move")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert code == 0, err
    assert there in out
    record_property("blocked", max(waited))
    print(f"blocked {max(waited):.2f} s, saves {len(answered)}, failures {[str(f) for f in failures]}, {out}")
    assert failures == []
    assert home(cluster, ACME).node == there
    for key in (ACME, ACME_2):
        for number in (1, 2, 3):
            saved = [version for k, name, version in answered if (k, name) == (key, f"m{number}")]
            if saved:
                assert saved == list(range(1, len(saved) + 1))
                assert versions(app, f"m{number}", as_=key) == saved[::-1]
    assert max(waited) <= BLOCKED


def test_a_node_is_added_made_ready_and_gets_tenants(cluster: Database, run: Run, spare: Node) -> None:
    app = cluster.connect("app")
    save(app, "m", as_=ACME)
    there = f"127.0.0.1:{spare.port}"
    code, out, err = run("add-node", there)
    assert code == 0, err
    assert f"Node {there} is ready." in out
    problems = [row for row in call(cluster.connect(), "check_nodes") if row.node == there]
    assert {row.problem for row in problems} <= {"unsafe", "hba"}
    assert spare.query(
        "select count(*) from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a "
        "where p.pronamespace in ('ai_storage'::regnamespace, 'ai_storage_private'::regnamespace) and a.grantee = 0",
        cluster.name,
    ) == [(0,)]
    assert run("move-tenant", ACME, there)[0] == 0
    assert home(cluster, ACME).node == there
    assert save(app, "m", as_=ACME).version == 2
    assert versions(app, "m", as_=ACME) == [2, 1]
    code, out, err = run("rebalance")
    assert code == 0, err
    cluster.connect().execute("select citus_rebalance_wait()")
    assert versions(app, "m", as_=ACME) == [2, 1]


def test_a_node_without_the_secret_gets_no_tenant(cluster: Database) -> None:
    save(cluster.connect("app"), "m", as_=ACME)
    there = other_node(cluster, ACME)
    (worker,) = [node for node in cluster.server.nodes.workers if there.endswith(f":{node.port}")]
    worker.execute(
        "set citus.enable_ddl_propagation = off",
        "update ai_storage_private.context_secret set inner_key = outer_key",
        dbname=cluster.name,
    )
    assert [(row.node, row.problem) for row in call(cluster.connect(), "check_nodes") if row.problem == "secret"] == [
        (there, "secret")
    ]
    for function, arguments in (("move_tenant", {"isolation_key": ACME, "node": there}), ("rebalance", {})):
        with refused("55000") as caught:
            call(cluster.connect(), function, **arguments)
        assert "secret" in (caught.value.diag.message_detail or "")
    call(cluster.connect(), "distribute")
    assert [row for row in call(cluster.connect(), "check_nodes") if row.problem == "secret"] == []


def test_doctor_finds_what_is_wrong_with_a_node_and_says_how_to_mend_it(cluster: Database) -> None:
    def found() -> dict[str, doctor.Result]:
        with psycopg.connect(cluster.dsn()) as connection:
            return {result.id: result for result in doctor.examine(connection, probes=False)}

    results = found()
    assert results["node-walls"].status == "passed", results["node-walls"]
    # The servers of these tests trust whoever comes and do not write to disk.
    assert "fsync = off" in str(results["node-open"].found)
    worker = cluster.server.nodes.workers[0]
    off = "set citus.enable_ddl_propagation = off"
    table = "ai_storage_private.context_secret"
    for breaks, mends, problem in (
        (f"update {table} set inner_key = outer_key", None, "secret"),
        (
            "grant execute on function ai_storage_private.verified_context() to public",
            "revoke execute on function ai_storage_private.verified_context() from public",
            "function",
        ),
        (
            f"create policy extra on {table} as restrictive using (true)",
            f"drop policy extra on {table}",
            "policy",
        ),
        (f"alter table {table} disable row level security", f"alter table {table} enable row level security", "policy"),
    ):
        worker.execute(off, breaks, dbname=cluster.name)
        result = found()["node-walls"]
        assert result.status == "failed", breaks
        assert all(f"127.0.0.1:{worker.port}: {problem}: " in text for text in result.found), result.found
        assert "pydb distribute" in result.mend
        if mends:
            worker.execute(off, mends, dbname=cluster.name)
        else:
            call(cluster.connect(), "distribute")
    assert found()["node-walls"].status == "passed"
    with psycopg.connect(cluster.dsn("stranger")) as connection:
        unknown = {result.id for result in doctor.examine(connection, probes=False) if result.status == "unknown"}
    assert {"node-walls", "node-open"} <= unknown


# How many shards a call touches --------------------------------------------------------------------------------------


ONE_TASK = "set local citus.multi_task_query_log_level = error"


def test_a_query_of_several_tasks_would_be_noticed(cluster: Database) -> None:
    connection = cluster.connect()
    with pytest.raises(psycopg.Error, match="multi-task"), connection.transaction():
        connection.execute(f"{ONE_TASK}; select count(*) from ai_storage_private.ai_progress_tenant")


@pytest.fixture
def touched(cluster: Database) -> Callable[..., set[str]]:
    """Runs a call as an application, and returns where the shards begin that its statements on nodes name."""
    admin, connection = cluster.connect(), cluster.connect("app")
    # It would hide what is sent from the caller.
    (text,) = admin.execute("select pg_get_functiondef('ai_storage_private.send_context'::regproc)").fetchone()
    hides = "set local citus.log_remote_commands = off;"
    assert hides in text
    admin.execute("set citus.enable_ddl_propagation = off")
    admin.execute(text.replace(hides, ""))
    sent: list[str] = []
    connection.add_notice_handler(lambda notice: sent.append(notice.message_primary or ""))

    def run(function: str, **arguments: Any) -> set[str]:
        with connection.transaction():
            connection.execute("set local citus.log_remote_commands = on")
            # Nor may a query have several tasks. auto_explain would tell, too, but it asks nodes to explain queries
            # whose parameters have types that they do not know, and fails.
            connection.execute(ONE_TASK)
            sent.clear()
            call(connection, function, **arguments)
        shards = re.findall(r"ai_storage_private\.[a-z_]+_(\d{6,})", "\n".join(sent))
        assert shards, sent
        rows = cluster.connect().execute(
            "select shardminvalue from pg_dist_shard where shardid = any (%s)", ([int(shard) for shard in shards],)
        )
        return {row[0] for row in rows}

    return run


HOT = [
    ("save_progress", {"model_name": "m", "mse": 0.5}),
    ("save_progress", {"model_name": "new", "mse": 0.5}),
    ("save_progress", {"model_name": "m", "mse": 0.5, "idempotency_key": "k"}),
    ("save_progress", {"model_name": "m", "mse": 0.5, "expected_version": 1}),
    ("save_progress_batch", {"items": [{"model_name": "a", "mse": 1}, {"model_name": "b", "mse": 1}]}),
    ("load_progress", {"model_name": "m", "scope": "own"}),
    ("load_progress", {"scope": "own"}),
    ("load_history", {"model_name": "m"}),
    ("delete_progress", {"model_name": "m"}),
    ("put_artifact", {"model_name": "m", "artifact_name": "b", "content": b"b"}),
    ("get_artifact", {"model_name": "m", "artifact_name": "a"}),
    ("list_artifacts", {}),
    ("delete_artifact", {"model_name": "m", "artifact_name": "a"}),
]


@pytest.mark.parametrize(("function", "arguments"), HOT, ids=lambda value: value if isinstance(value, str) else "")
def test_a_hot_call_touches_one_shard(
    cluster: Database, touched: Callable[..., set[str]], function: str, arguments: dict[str, Any]
) -> None:
    app = cluster.connect("app")
    save(app, "m", as_=ACME)
    call(app, "put_artifact", model_name="m", artifact_name="a", content=b"a", as_=ACME)
    for number in range(8):
        save(app, "m", as_=f"acme:s1:p1:production:other{number}")
    assert len(touched(function, as_=ACME, **arguments)) == 1


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("load_progress", {}),
        ("load_progress", {"scope": "shared"}),
        ("load_history", {"model_name": "m", "owner": BETA}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_shared_read_touches_two_shards(
    cluster: Database, touched: Callable[..., set[str]], function: str, arguments: dict[str, Any]
) -> None:
    app = cluster.connect("app")
    for key in (ACME, BETA, *(f"acme:s1:p1:production:other{number}" for number in range(8))):
        save(app, "m", as_=key)
    call(cluster.connect(), "allow_external_sharing", org_id="beta")
    levels = dict(zip(("org_id", "server_id", "project_id", "environment", "code_hash"), ACME.split(":"), strict=True))
    call(app, "share_model", model_name="m", targets=[levels], as_=BETA)
    assert len(touched(function, as_=ACME, **arguments)) <= 2
