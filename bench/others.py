"""MLflow and LangGraph doing the same job on the same server, in databases of their own, where they are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from bench.contenders import (
    MODELS,
    TENANTS,
    Contender,
    Direct,
    Operation,
    Payload,
    Place,
    State,
    batches,
    isolation_key,
    model_name,
)
from bench.server import free_port

#: Package that is measured -> its distribution.
PACKAGES = {"MLflow": "mlflow", "LangGraph": "langgraph-checkpoint-postgres"}
STARTING_SECONDS = 120.0

# Nothing is sent anywhere while we measure.
os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "LANGSMITH_TRACING": "false"})


def installed() -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {}
    for name, distribution in PACKAGES.items():
        try:
            found[name] = version(distribution)
        except PackageNotFoundError:
            continue
    return found


# MLflow ----------------------------------------------------------------------------------------------------------


def experiment_id(number: int) -> int:
    return 1000 + number


def run_id(key: str, name: str) -> str:
    return sha256(f"{key} {name}".encode()).hexdigest()[:32]


def uri(dsn: str, **more: str) -> str:
    """The DSN as SQLAlchemy wants it, with psycopg 3 as the driver."""
    parts = {name: str(value) for name, value in {**conninfo_to_dict(dsn), **more}.items()}
    database = parts.pop("dbname")
    return f"postgresql+psycopg:///{database}?{urlencode(parts)}"


class MLflow(Contender):
    """What the store and the client of the tracking server have in common: both have these methods."""

    warm_calls = 8
    slow = True
    # An experiment is a tenant, a run is a model; both are known by their ids, which is the fastest way to them.
    experiments: ClassVar[dict[str, str]] = {isolation_key(n): str(experiment_id(n)) for n in range(TENANTS)}

    def __init__(self, store: Any) -> None:
        from mlflow.entities import Metric, RunTag, ViewType

        self.store = store
        self.metric, self.tag, self.active = Metric, RunTag, ViewType.ACTIVE_ONLY

    def log(self, run: str, state: State) -> None:
        now = int(time.time() * 1000)
        numbers = {"mse": state.mse, "training_samples": state.training_samples, **state.metrics}
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in state.metadata.items()}
        self.store.log_batch(
            run,
            metrics=[self.metric(name, value, now, 0) for name, value in numbers.items()],
            params=[],
            tags=[self.tag(name, value) for name, value in texts.items()],
        )

    def save(self, key: str, state: State) -> None:
        self.log(run_id(key, state.model_name), state)

    def load(self, key: str) -> list[Any]:
        return list(self.store.search_runs([self.experiments[key]], "", self.active, max_results=MODELS))

    def load_one(self, key: str, name: str) -> list[Any]:
        return [self.store.get_run(run_id(key, name))]

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {row.info.run_name: row.data.metrics["mse"] for row in rows}


class MLflowStore(MLflow):
    name = "MLflow store"
    about = (
        "mlflow's SqlAlchemyStore in the client's process: log_batch of the numbers as metrics and the metadata as "
        "tags; get_run; search_runs of one experiment"
    )

    @classmethod
    def open(cls, place: Place, stack: ExitStack) -> Self:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        address = uri(place.others["mlflow"], application_name=f"{cls.name} {os.getpid()}")
        store = SqlAlchemyStore(address, str(Path(tempfile.gettempdir()) / "mlflow-artifacts"))
        stack.callback(store.engine.dispose)
        return cls(store)

    def backends(self) -> list[int]:
        from sqlalchemy import text

        with self.store.engine.connect() as connection:
            found = connection.execute(
                text("select pid from pg_stat_activity where application_name = current_setting('application_name')")
            )
            return [pid for (pid,) in found]


class MLflowServer(MLflow):
    name = "MLflow server"
    about = (
        "the same calls by MlflowClient over HTTP to `mlflow server --workers 1` on the loopback, which has the same "
        "store"
    )
    warm_calls = 2
    alone = True

    @classmethod
    def open(cls, place: Place, stack: ExitStack) -> Self:
        from mlflow.tracking import MlflowClient

        return cls(MlflowClient(place.others["mlflow server"]))

    def backends(self) -> list[int]:
        return []  # most of the work is not PostgreSQL's


def fill_mlflow(dsn: str, payload: Payload) -> None:
    """One run through the front door, and copies of its rows for all the others: to log 4,000 takes a minute."""
    with ExitStack() as stack, psycopg.connect(dsn, autocommit=True) as admin:
        store = MLflowStore.open(Place("", others={"mlflow": dsn}), stack)
        run = store.store.create_run(store.store.create_experiment("template"), "bench", 0, [], "template")
        ((_, states),) = batches(1, 1, payload)
        store.log(run.info.run_id, states[0])
        admin.execute("create temporary table model (experiment bigint, tenant text, run text, name text)")
        with admin.cursor().copy("copy model from stdin") as copy:
            for tenant in range(TENANTS):
                key = isolation_key(tenant)
                for number in range(MODELS):
                    name = model_name(number)
                    copy.write_row((experiment_id(tenant), key, run_id(key, name), name))
        admin.execute("analyze model")
        admin.execute(
            "insert into experiments select (jsonb_populate_record(e, jsonb_build_object('experiment_id', "
            "m.experiment, 'name', m.tenant))).* from experiments as e cross join "
            "(select distinct experiment, tenant from model) as m where e.name = 'template'"
        )
        admin.execute(
            "insert into runs select (jsonb_populate_record(r, jsonb_build_object('run_uuid', m.run, 'experiment_id', "
            "m.experiment, 'name', m.name))).* from runs as r cross join model as m where r.run_uuid = %s",
            (run.info.run_id,),
        )
        for name in ("metrics", "latest_metrics", "tags"):
            admin.execute(
                f"insert into {name} select (jsonb_populate_record(t, jsonb_build_object('run_uuid', m.run) || "
                "case when to_jsonb(t) ->> 'key' = 'mlflow.runName' then jsonb_build_object('value', m.name) "
                f"else '{{}}' end)).* from {name} as t cross join model as m where t.run_uuid = %s",
                (run.info.run_id,),
            )
        admin.execute("vacuum analyze")


@contextmanager
def tracking_server(dsn: str) -> Iterator[str]:
    """`mlflow server` as its documentation starts it, with one worker. Yields its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with tempfile.TemporaryDirectory(prefix="pydb-bench-") as folder:
        process = subprocess.Popen(
            [*command, "--backend-store-uri", uri(dsn)],
            cwd=folder,
            # Half a dozen processes that wait for jobs of other kinds, and disturb while they do.
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + STARTING_SECONDS
            while True:
                try:
                    urllib.request.urlopen(f"{address}/health", timeout=5).close()
                    break
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    if process.poll() is not None or time.monotonic() > end:
                        raise RuntimeError("mlflow server does not start") from None
                    time.sleep(0.1)
            yield address
        finally:
            # It ends its worker itself, and is not left to do so for ever.
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


# LangGraph -------------------------------------------------------------------------------------------------------


class LangGraph(Direct):
    """A connection as LangGraph's from_conn_string opens it."""

    @classmethod
    def open(cls, place: Place, stack: ExitStack) -> Self:
        connection = psycopg.connect(
            place.others["langgraph"],
            autocommit=True,
            prepare_threshold=0,
            row_factory=dict_row,
            application_name=cls.name,
        )
        return cls(stack.enter_context(connection))


class LangGraphSaver(LangGraph):
    name = "LangGraph saver"
    about = (
        "langgraph's PostgresSaver: put of a checkpoint with the four values as channels, a thread per model; "
        "get_tuple; it has no load of several threads"
    )
    operations: ClassVar[tuple[Operation, ...]] = ("load_one", "save")

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        from langgraph.checkpoint.base import empty_checkpoint
        from langgraph.checkpoint.postgres import PostgresSaver

        super().__init__(connection)
        self.saver, self.empty = PostgresSaver(connection), empty_checkpoint

    def save(self, key: str, state: State) -> None:
        checkpoint = self.empty()
        values = {
            "mse": state.mse,
            "training_samples": state.training_samples,
            "metrics": state.metrics,
            "metadata": state.metadata,
        }
        # An empty channel is one that was not written.
        checkpoint["channel_values"] = {name: value for name, value in values.items() if value != {}}
        checkpoint["channel_versions"] = dict.fromkeys(checkpoint["channel_values"], f"{time.time_ns():032}.0")
        self.saver.put(
            {"configurable": {"thread_id": f"{key}/{state.model_name}", "checkpoint_ns": ""}},
            checkpoint,
            {"source": "loop", "step": 1, "parents": {}},
            checkpoint["channel_versions"],
        )

    def load(self, key: str) -> list[Any]:
        # One by one, to be compared with the others; no operation of its own, so it is not measured.
        return [row for number in range(MODELS) for row in self.load_one(key, model_name(number))]

    def load_one(self, key: str, name: str) -> list[Any]:
        found = self.saver.get_tuple({"configurable": {"thread_id": f"{key}/{name}", "checkpoint_ns": ""}})
        return [] if found is None else [found]

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {
            row.config["configurable"]["thread_id"].rpartition("/")[2]: row.checkpoint["channel_values"]["mse"]
            for row in rows
        }


class LangGraphStore(LangGraph):
    name = "LangGraph store"
    about = "langgraph's PostgresStore: put of one item, the five levels as namespace; get; search of the namespace"

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        from langgraph.store.postgres import PostgresStore

        super().__init__(connection)
        self.store = PostgresStore(connection)

    def save(self, key: str, state: State) -> None:
        value = {
            "mse": state.mse,
            "training_samples": state.training_samples,
            "metrics": state.metrics,
            "metadata": state.metadata,
        }
        self.store.put(tuple(key.split(":")), state.model_name, value)

    def load(self, key: str) -> list[Any]:
        return self.store.search(tuple(key.split(":")), limit=MODELS)

    def load_one(self, key: str, name: str) -> list[Any]:
        found = self.store.get(tuple(key.split(":")), name)
        return [] if found is None else [found]

    def values(self, rows: list[Any]) -> dict[str, float]:
        return {row.key: row.value["mse"] for row in rows}


def fill_langgraph(dsn: str, payload: Payload) -> None:
    with ExitStack() as stack, psycopg.connect(dsn, autocommit=True) as admin:
        saver = LangGraphSaver.open(Place("", others={"langgraph": dsn}), stack)
        store = LangGraphStore.open(Place("", others={"langgraph": dsn}), stack)
        saver.saver.setup()
        store.store.setup()
        for contender in (saver, store):
            contender.connection.execute("set synchronous_commit = off")
            for key, states in batches(TENANTS, 1, payload):
                for one in states:
                    contender.save(key, one)
        admin.execute("vacuum analyze")


OTHERS: tuple[type[Contender], ...] = (MLflowStore, MLflowServer, LangGraphSaver, LangGraphStore)
PACKAGE_OF: dict[str, str] = {one.name: "MLflow" if issubclass(one, MLflow) else "LangGraph" for one in OTHERS}
