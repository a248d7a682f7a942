"""A Citus cluster to test on: a coordinator and two workers on loopback, and databases that lie on all three."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pydb.embedded import Cluster
from tests import servers
from tests.helpers import free_port

WORKERS = 2
SETTINGS = {
    "wal_level": "logical",
    "citus.shard_count": "8",
    "max_prepared_transactions": "200",
    # distribute() sets it for a database; a copy of a template loses that.
    "citus.enable_unsafe_triggers": "on",
    "citus.max_cached_conns_per_worker": "3",
    "citus.enable_stat_counters": "on",
}


def bin_dir() -> Path | None:
    """The binaries of a PostgreSQL that has Citus, or None."""
    for major in servers.OLDEST_MINOR:
        for path in servers.candidates(major):
            config = path / "pg_config"
            if config.exists():
                shared = subprocess.run([config, "--sharedir"], capture_output=True, text=True, check=True).stdout
                if (Path(shared.strip()) / "extension" / "citus.control").exists():
                    return path
    return None


def require() -> Path:
    """The same, or the test is skipped."""
    found = bin_dir()
    if found is None:
        pytest.skip("citus is not available")
    return found


@dataclass(frozen=True, slots=True)
class Node:
    """One server of the cluster."""

    cluster: Cluster
    port: int
    settings: dict[str, str]

    def start(self) -> None:
        self.cluster.start({**self.settings, "listen_addresses": "127.0.0.1", "port": str(self.port)})

    def dsn(self, dbname: str = "postgres", user: str = "postgres") -> str:
        return make_conninfo(host="127.0.0.1", port=self.port, user=user, dbname=dbname)

    def execute(self, *statements: str, dbname: str = "postgres") -> None:
        with psycopg.connect(self.dsn(dbname), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def query(self, statement: str, dbname: str = "postgres") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn(dbname), autocommit=True) as connection:
            connection.execute("set citus.override_table_visibility = off")  # which hides shards
            return connection.execute(statement).fetchall()


@dataclass(frozen=True, slots=True)
class Nodes:
    """The coordinator and its workers."""

    coordinator: Node
    workers: tuple[Node, ...]

    def all(self) -> tuple[Node, ...]:
        return (self.coordinator, *self.workers)

    def create(self, dbname: str) -> None:
        """A database on every node, joined to a cluster, with nothing in it."""
        for node in self.all():
            node.execute(f'create database "{dbname}"')
            node.execute("create extension citus", dbname=dbname)
        self.coordinator.execute(
            f"select citus_set_coordinator_host('127.0.0.1', {self.coordinator.port})",
            *(f"select citus_add_node('127.0.0.1', {worker.port})" for worker in self.workers),
            dbname=dbname,
        )

    def freeze(self, dbname: str) -> None:
        """Make a database a template: Citus keeps a process connected to each of its databases."""
        for node in self.all():
            node.execute(
                f'alter database "{dbname}" allow_connections false',
                f"select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{dbname}'",
            )

    def copy(self, template: str, dbname: str) -> None:
        """A database like a frozen one. Nodes find each other's by its name."""
        for node in self.all():
            node.execute(f'create database "{dbname}" template "{template}"')

    def drop(self, dbname: str) -> None:
        for node in self.all():
            for attempt in range(10):
                try:
                    node.execute(f'drop database if exists "{dbname}" with (force)')
                    break
                except psycopg.errors.ObjectInUse:
                    # A process of Citus that does not end at once.
                    if attempt == 9:
                        raise
                    time.sleep(0.5)


@contextmanager
def running(new_cluster: Callable[[Path], Iterator[Cluster]], settings: dict[str, str]) -> Iterator[Nodes]:
    """A cluster of servers in folders of their own, stopped and removed afterwards."""
    path = require()
    with ExitStack() as stack:
        nodes = []
        for _ in range(1 + WORKERS):
            cluster = stack.enter_context(contextmanager(new_cluster)(path))
            # Citus wants to be the first.
            libraries = ",".join(["citus", *filter(None, [settings.get("shared_preload_libraries")])])
            node = Node(cluster, free_port(), {**settings, **SETTINGS, "shared_preload_libraries": libraries})
            node.start()
            nodes.append(node)
        yield Nodes(nodes[0], tuple(nodes[1:]))


def new_name() -> str:
    return "citus_" + next(tempfile._get_candidate_names())
