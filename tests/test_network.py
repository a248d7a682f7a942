"""The way to the server: TLS, the pooler as deploy/pgbouncer.ini sets it, and what breaks on the way."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import itertools
import os
import random
import re
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg.conninfo import make_conninfo

from pydb import AsyncTenantAwareStorage, NoTenant, TenantAwareStorage, calls, doctor, embedded, migrate, session
from pydb.embedded import Cluster
from tests import pgbouncer, servers
from tests.conftest import FAST, Database, new_cluster
from tests.helpers import ACME, BETA, until

ROOT = Path(__file__).parent.parent
NAME, ADDRESS = "db.test", "127.0.0.1"
PASSWORD = "correct horse"

# TLS ------------------------------------------------------------------------------------------------------------------


def certificate(
    name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate of a server, or of an authority when nobody issues it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(ADDRESS))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(names, critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


@dataclass(frozen=True, slots=True)
class Secured:
    """A server that takes the application's login over TLS with SCRAM only. ca, wrong_ca: files of authorities."""

    cluster: Cluster
    port: int
    ca: Path
    wrong_ca: Path

    def dsn(self, **options: Any) -> str:
        usual = {"host": NAME, "hostaddr": ADDRESS, "sslmode": "verify-full", "sslrootcert": str(self.ca)}
        login = {"port": self.port, "user": "secured_app", "password": PASSWORD, "dbname": "app"}
        return make_conninfo(**{**usual, **login, **options})


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    # PostgreSQL 15 is a build of the system's, with OpenSSL; the embedded one has none.
    for cluster in new_cluster(servers.bin_dir(15)):
        with socket.create_server((ADDRESS, 0)) as probe:
            port = probe.getsockname()[1]
        # Nothing is bound to the second address, which is nobody's: the server only says that it is on a network.
        cluster.start({**FAST, "listen_addresses": f"{ADDRESS},192.0.2.1", "port": str(port)}, database="app")
        data, owner = cluster.data_dir, cluster.data_dir.stat()
        authority, other = certificate("authority"), certificate("another authority")
        server = certificate(NAME, authority)
        pem = serialization.Encoding.PEM
        plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        folder = data.parent
        for file, content, mode in (
            (folder / "ca.crt", authority[0].public_bytes(pem), 0o644),
            (folder / "wrong.crt", other[0].public_bytes(pem), 0o644),
            (data / "server.crt", server[0].public_bytes(pem), 0o600),
            (data / "server.key", server[1].private_bytes(pem, *plain), 0o600),
            (data / "pg_hba.conf", b"local all postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n", 0o600),
        ):
            file.write_bytes(content)
            file.chmod(mode)
            os.chown(file, owner.st_uid, owner.st_gid)
        admin = cluster.url("app")
        migrate.init(admin, app_login="secured_app", app_password=PASSWORD, pattern="acme:*:*:*:*")
        set_tls(cluster, "on")
        yield Secured(cluster, port, folder / "ca.crt", folder / "wrong.crt")


def set_tls(cluster: Cluster, to: str) -> None:
    with psycopg.connect(cluster.url("app"), autocommit=True) as admin:
        admin.execute(f"alter system set ssl = {to}")
        admin.execute("select pg_reload_conf()")
        # As a new session is told it.
        until(lambda: _shown(cluster, "ssl") == to, f"ssl = {to}")


def _shown(cluster: Cluster, setting: str) -> str:
    with psycopg.connect(cluster.url("app")) as connection:
        return str(connection.execute(f"show {setting}").fetchone()[0])


def test_a_session_with_the_servers_name_verified_works(secured: Secured) -> None:
    with TenantAwareStorage.from_dsn(secured.dsn(), ACME) as storage:
        assert storage.save_ai_progress("over tls", 0.5).created
        assert [model.model_name for model in storage.load_ai_progress()] == ["over tls"]

    async def scenario() -> list[str]:
        async with await AsyncTenantAwareStorage.from_dsn(secured.dsn(), ACME) as storage:
            return [model.model_name for model in await storage.load_ai_progress()]

    assert asyncio.run(scenario()) == ["over tls"]
    with psycopg.connect(secured.dsn()) as connection:
        assert connection.execute("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (
            True,
            "TLSv1.3",
        )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"host": "other.test"}, "does not match host name"),
        ({"sslrootcert": "wrong.crt"}, "certificate verify failed"),
        ({"sslrootcert": "/nowhere/ca.crt"}, "does not exist"),
        ({"sslmode": "disable"}, "no encryption"),
        ({"password": "wrong"}, "password authentication failed"),
    ],
    ids=["another host", "another authority", "no authority", "plain", "another password"],
)
def test_any_other_way_is_refused(secured: Secured, options: dict[str, str], told: str) -> None:
    if options.get("sslrootcert") == "wrong.crt":
        options = {"sslrootcert": str(secured.wrong_ca)}
    with pytest.raises(psycopg.OperationalError, match=told):
        TenantAwareStorage.from_dsn(secured.dsn(**options), ACME)


def test_the_doctor_and_the_report_see_whether_there_is_tls(secured: Secured) -> None:
    def seen() -> tuple[bool, str]:
        with psycopg.connect(secured.cluster.url("app"), autocommit=True) as admin:
            found = {result.id: result for result in doctor.examine(admin, probes=False)}
            (control,) = [row for row in session.run(admin, calls.compliance_report()) if "encrypted" in row.control]
        return bool(found["tls-off"].found), control.status

    assert seen() == (False, "passed")
    set_tls(secured.cluster, "off")
    try:
        assert seen() == (True, "failed")
        with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
            TenantAwareStorage.from_dsn(secured.dsn(), ACME)
    finally:
        set_tls(secured.cluster, "on")


# The pooler -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["transaction", "statement"])
def pooled(request: pytest.FixtureRequest, secured: Secured) -> Iterator[tuple[str, str]]:
    """The mode, and the DSN of a PgBouncer that runs deploy/pgbouncer.ini: with our places and names alone, and TLS."""
    text = (ROOT / "deploy" / "pgbouncer.ini").read_text("utf-8")
    text = text.replace(";server_tls_", "server_tls_")
    for name, value in {
        "app": f"host={ADDRESS} port={secured.port} dbname=app",
        "pool_mode": request.param,
        "listen_addr": "",
        "listen_port": str(pgbouncer.PORT),
        "unix_socket_dir": "{folder}",
        "auth_file": "{folder}/users",
        "server_tls_ca_file": str(secured.ca),
        "logfile": "{folder}/pgbouncer.log",
        "default_pool_size": "1",
    }.items():
        text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
        assert count == 1, name
    with psycopg.connect(secured.cluster.url("app")) as admin:
        page = (ROOT / "docs" / "how-to" / "pooling.md").read_text("utf-8")
        query = re.search(r"^select format.* 'acme_app'$", page, re.MULTILINE)[0]
        users = admin.execute(query.replace("acme_app", "secured_app")).fetchone()[0]
    with pgbouncer.running(text, f"{users}\n", str(secured.cluster.data_dir)) as folder:
        yield (
            request.param,
            make_conninfo(host=str(folder), port=pgbouncer.PORT, user="secured_app", password=PASSWORD, dbname="app"),
        )


def test_sessions_through_the_pooler_as_configured(pooled: tuple[str, str], secured: Secured) -> None:
    mode, dsn = pooled
    with TenantAwareStorage.from_dsn(dsn, ACME, prepare_threshold=None) as storage:
        first = storage.save_ai_progress(f"pooled {mode}", 0.5)
        for _ in range(10):  # more often than psycopg takes to prepare a statement
            second = storage.save_ai_progress(f"pooled {mode}", 0.25, expected_version=storage_version(storage, mode))
        assert second.version == first.version + 10
        storage.put_artifact(f"pooled {mode}", "weights", b"x" * 3_000_000)
        assert len(storage.get_artifact(f"pooled {mode}", "weights")) == 3_000_000
    with (
        psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as one,
        psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as two,
    ):
        pids = {link.execute("select pg_backend_pid()").fetchone() for link in (one, two)}
        assert len(pids) == 1
        one.execute("set work_mem = '5MB'")
        assert two.execute("show work_mem").fetchone() != ("5MB",)  # the pooler reset it in between
        assert two.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (True,)
        storage = TenantAwareStorage(one)
        if mode == "transaction":
            with one.transaction():
                session.run(one, calls.set_tenant(ACME))
                assert [model.model_name for model in storage.load_ai_progress(f"pooled {mode}")]
        else:
            with pytest.raises(psycopg.errors.ProtocolViolation):  # and the pooler ends the connection
                one.execute("begin")
        with pytest.raises(NoTenant):
            TenantAwareStorage(two).load_ai_progress()
    for wrong in ({"password": "wrong"}, {"dbname": "postgres"}):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(make_conninfo(dsn, **wrong))


def storage_version(storage: TenantAwareStorage, mode: str) -> int:
    return storage.load_ai_progress(f"pooled {mode}")[0].version


# What breaks ----------------------------------------------------------------------------------------------------------


def save_once(pause: float = 1) -> Callable[..., Any]:
    """The function that docs/how-to/retries.md shows. pause: how much of its pauses it takes."""
    page = (ROOT / "docs" / "how-to" / "retries.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?def save_once.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    names["time"] = SimpleNamespace(sleep=lambda seconds: time.sleep(pause * seconds))
    return names["save_once"]


class Proxy:
    """A socket before the server's, which cuts a connection before a save gets there or before its answer gets back."""

    def __init__(self, host: str, fates: Iterator[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pydb-proxy-"))
        self.met: Counter[str] = Counter()
        self._fates = fates
        self._behind = f"{host}/.s.PGSQL.5432"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(ConnectionError):
            server.connect(self._behind)
            cut = False
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data or (ready is server and cut):
                        return  # a small answer comes when the save is committed
                    if ready is client and b"ai_storage.save_progress" in data:
                        fate = next(self._fates)
                        self.met[fate] += 1
                        if fate == "before":
                            return
                        cut = fate == "after"
                    (server if ready is client else client).sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self.folder)


def expect_once(storage: TenantAwareStorage, name: str, acknowledged: list[int], count: int) -> None:
    """Every save happened exactly once, in order, and was told its own version."""
    history = storage.load_history(name, limit=1000)
    assert acknowledged == list(range(1, count + 1))
    assert [(version.version, version.mse) for version in reversed(history)] == [(n, float(n)) for n in acknowledged]


def test_a_save_happens_once_though_its_request_or_its_answer_is_lost(database: Database) -> None:
    save = save_once(0.1)
    fates = itertools.cycle(["pass", "after", "before", "after", "pass", "before", "before", "pass"])
    proxy = Proxy(database.server.host, fates)
    try:
        dsn = make_conninfo(database.dsn("app"), host=str(proxy.folder))
        with TenantAwareStorage.from_dsn(dsn, ACME, max_size=1, prepare_threshold=None) as storage:
            acknowledged = [save(storage, "m", float(n)).version for n in range(1, 17)]
        assert min(proxy.met.values()) > 5
        # Without the key, who goes on until it is told that it was saved has saved more.
        told = 0
        with TenantAwareStorage.from_dsn(dsn, BETA, max_size=1, prepare_threshold=None) as storage:
            while told < 8:
                with suppress(psycopg.OperationalError):
                    told += storage.save_ai_progress("m", 1).version > 0
    finally:
        proxy.close()
    expect_once(database.storage(ACME), "m", acknowledged, 16)
    assert len(database.storage(BETA).load_history("m")) > told


def test_a_save_happens_once_though_the_server_ends_its_sessions(database: Database) -> None:
    save, admin, seen = save_once(0.3), database.connect(), threading.Semaphore(0)
    rounds = 15

    def end_sessions() -> int:
        ended = 0
        for _ in range(rounds):
            assert seen.acquire(timeout=60)
            time.sleep(random.uniform(0, 0.004))
            query = (
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'app' and datname = %s"
            )
            ended += admin.execute(query, (database.name,)).fetchone()[0]
        return ended

    with TenantAwareStorage.from_dsn(database.dsn("app"), ACME) as storage, ThreadPoolExecutor(1) as pool:
        ending = pool.submit(end_sessions)
        acknowledged = []
        for n in range(1, rounds + 1):
            seen.release()
            acknowledged.append(save(storage, "m", float(n)).version)
        assert ending.result() > rounds / 2
        expect_once(storage, "m", acknowledged, rounds)


new_server = contextmanager(new_cluster)


@contextmanager
def standby_of(primary: Cluster) -> Iterator[Cluster]:
    """A standby that follows, and without which the primary acknowledges nothing."""
    with new_server(primary.bin_dir) as other:
        command = [str(primary.bin_dir / "pg_basebackup"), "-d", primary.url(), "-D", str(other.data_dir)]
        environment = embedded._env(primary.bin_dir)
        subprocess.run([*command, "-R", "-c", "fast", "--no-sync"], check=True, env=environment, capture_output=True)
        for path in other.data_dir.glob(".s.PGSQL.*"):
            path.unlink()  # the primary's own
        owner = primary.data_dir.stat()
        for path in (other.data_dir, *other.data_dir.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        other.start({**FAST, "synchronous_commit": "on"})
        with psycopg.connect(primary.url(), autocommit=True) as admin:
            admin.execute("alter system set synchronous_standby_names = '*'")
            admin.execute("select pg_reload_conf()")
            query = "select count(*) from pg_stat_replication where sync_state = 'sync'"
            until(lambda: admin.execute(query).fetchone() == (1,), "the standby to follow")
        yield other


def test_saves_go_on_once_each_when_the_standby_is_promoted() -> None:
    save = save_once()
    with ExitStack() as stack:
        primary = stack.enter_context(new_server(servers.bin_dir(18)))
        primary.start({**FAST, "synchronous_commit": "on"}, database="app")
        migrate.init(primary.url("app"), app_login="failover_app", pattern="acme:*:*:*:*")
        standby = stack.enter_context(standby_of(primary))
        hosts = [psycopg.conninfo.conninfo_to_dict(cluster.url())["host"] for cluster in (primary, standby)]
        # The standby stands first, and is passed over while it takes no writes.
        dsn = make_conninfo(
            host=f"{hosts[1]},{hosts[0]}",
            port="5432,5432",
            user="failover_app",
            dbname="app",
            target_session_attrs="read-write",
        )
        storage = stack.enter_context(TenantAwareStorage.from_dsn(dsn, ACME))
        acknowledged = []
        for n in range(1, 31):
            if n == 15:
                primary.stop("immediate")
                with psycopg.connect(standby.url(), autocommit=True) as admin:
                    admin.execute("select pg_promote(wait => false)")
            acknowledged.append(save(storage, "m", float(n)).version)
        expect_once(storage, "m", acknowledged, 30)
