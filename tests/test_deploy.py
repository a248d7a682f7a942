"""What deploy/ says is true: its install steps install, and what it names exists and fits together.

`make lint` checks the same files against the rules of their formats.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml
from packaging.requirements import Requirement

from examples.web.app import create_app
from pydb import TenantAwareStorage, __version__, token
from tests import kustomize, pgbouncer
from tests.conftest import FAST, Database, Server, start
from tests.helpers import until
from tests.webserver import bearer, serving

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "how-to" / "deploy.md").read_text()

# The Dockerfile -------------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """What a stage of the Dockerfile does, in order, as (instruction, rest)."""

    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        return [rest for name, rest in self.steps if name == instruction][-1]


def stages() -> list[Stage]:
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[Stage] = []
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            found.append(Stage(rest.partition(" AS ")[2]))
        elif found and line:
            found[-1].steps.append((instruction, rest))
    return found


BUILD, IMAGE = stages()


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out: the last pattern that fits it, or a folder above it, decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = path.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)] + (parts if "**/" in line else [])
        if any(fnmatch.fnmatchcase(name, pattern) for name in above):
            out = not line.startswith("!")
    return out


def test_the_context_of_the_image_has_what_is_named_and_no_more() -> None:
    assert not ignored("pydb/cli.py")
    assert not ignored("deploy/requirements.txt")
    for path in (".git/config", ".env", "deploy/web.env", "tests/conftest.py", "examples/mcp_server/server.py"):
        assert ignored(path)
    assert ignored("pydb/__pycache__/cli.cpython-311.pyc")


def test_the_image_runs_as_a_number_and_holds_no_secret_and_no_tool_to_build() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", IMAGE.last("USER"))
    assert [name for name, _ in IMAGE.steps if name in ("RUN", "ADD")] == []
    assert f'org.opencontainers.image.version="{__version__}"' in IMAGE.last("LABEL")
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert not re.search(r"^(ENV|ARG) .*(PASSWORD|SECRET|TOKEN|_URL)", text, re.MULTILINE)


def test_the_pins_are_what_the_package_asks_for() -> None:
    lines = re.findall(r"^([\w.-]+)==([\w.]+)", (DEPLOY / "requirements.txt").read_text(), re.MULTILINE)
    pinned = dict(lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["hybrid"], *extras["identity"], *extras["example-web"]]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[requirement.name]), f"{requirement}: run make pins"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the place of the image's root, made by the steps of the Dockerfile."""
    root = tmp_path_factory.mktemp("image")
    # In the place of Python's own image: nothing but Python and pip.
    venv.create(root / "base", with_pip=True)
    environment = {"PATH": f"{root}/base/bin:{os.environ['PATH']}", "HOME": str(root)}
    # Not below that new home, or each run would download everything.
    environment["PIP_CACHE_DIR"] = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pip")
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    context = [path for path in tracked.splitlines() if not ignored(path)]
    for stage in (BUILD, IMAGE):
        folder = root
        for instruction, rest in stage.steps:
            if instruction == "WORKDIR":
                folder = root / rest.lstrip("/")
                folder.mkdir()
            elif instruction == "COPY" and not rest.startswith("--from"):
                *sources, target = rest.split()
                for source in sources:
                    found = [path for path in context if path == source or path.startswith(f"{source}/")]
                    assert found, f"{source} is not there, or in .dockerignore"
                    for path in found:
                        into = target + Path(path).name if target.endswith("/") else target + path[len(source) :]
                        into = "." + into.removeprefix(".") if target == "./" else into
                        (folder / into).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy(ROOT / path, folder / into)
            elif instruction == "RUN":
                command = rest.replace("/opt/venv", f"{root}/opt/venv")
                done = subprocess.run(
                    ["sh", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
                )
                assert done.returncode == 0, done.stdout + done.stderr
    return root


def environment(image: Path, **more: str) -> dict[str, str]:
    # As the image sets them; where it may write nothing, and has no home.
    values = dict(word.split("=", 1) for word in IMAGE.last("ENV").split())
    values["PATH"] = values["PATH"].replace("/opt/venv", f"{image}/opt/venv").replace("$PATH", os.environ["PATH"])
    return {**values, "HOME": "/nonexistent", **more}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.timeout(1200)  # the image is made in it
def test_the_image_serves_and_migrates_and_seals(image: Path, database: Database) -> None:
    before = files(image)
    admin = environment(image, DATABASE_URL=database.dsn())
    for command in ("pydb init", "pydb seal", "pydb doctor --no-probes"):
        done = subprocess.run(shlex.split(command), env=admin, cwd=image / "app", capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    command = [*json.loads(IMAGE.last("CMD")), "--port", "0"]
    app = environment(
        image, DATABASE_URL=database.dsn("app"), AI_STORAGE_TYPE="hybrid", REDIS_URL="redis://127.0.0.1:1"
    )
    log = image.parent / "served.log"
    with open(log, "w") as output:
        server = subprocess.Popen(command, env=app, cwd=image / "app", stdout=output, stderr=output)
    try:
        until(lambda: "Uvicorn running" in log.read_text(), "the image to serve")
        port = re.search(r"running on http://[0-9.]+:(\d+)", log.read_text())[1]
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        probe = json.loads(IMAGE.last("HEALTHCHECK").partition("CMD ")[2])
        probe[-1] = probe[-1].replace(":8000", f":{port}")
        assert subprocess.run(probe, env=app, timeout=30).returncode == 0
        # Twice: the drain of the image is longer than a test waits.
        server.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 503, "the drain")
        assert subprocess.run(probe, env=app, timeout=30).returncode == 0
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait()
    assert files(image) == before


# Kubernetes -----------------------------------------------------------------------------------------------------------

OBJECTS = kustomize.render(kustomize.PRODUCTION)
CELL_OBJECTS = kustomize.render(kustomize.CELLS)


def of_kind(*kinds: str, objects: list[Any] = OBJECTS) -> dict[str, Any]:
    return {item["metadata"]["name"]: item for item in objects if item["kind"] in kinds}


def pods(objects: list[Any]) -> dict[str, Any]:
    return {name: item["spec"]["template"] for name, item in of_kind("Deployment", "Job", objects=objects).items()}


PODS = pods(OBJECTS)
CELL_PODS = pods(CELL_OBJECTS)


def fits(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="compares with kubectl, which no registry of packages has")
@pytest.mark.parametrize("overlay", [kustomize.PRODUCTION, kustomize.CELLS], ids=lambda overlay: overlay.name)
def test_kubectl_renders_the_same(overlay: Path) -> None:
    done = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=True)

    def ordered(items: list[Any]) -> list[Any]:
        return sorted(items, key=lambda item: (item["kind"], item["metadata"]["name"]))

    assert ordered(kustomize.render(overlay)) == ordered(list(yaml.safe_load_all(done.stdout)))


@pytest.mark.parametrize(
    "template", [*PODS.values(), *CELL_PODS.values()], ids=[*PODS, *(f"cells-{name}" for name in CELL_PODS)]
)
def test_a_pod_may_do_nothing_that_it_need_not(template: dict[str, Any]) -> None:
    pod = template["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] in of_kind("ServiceAccount")
    user, group = IMAGE.last("USER").split(":")
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(user),
        "runAsGroup": int(group),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        image = "pgbouncer:1.25.1" if container["name"] == "pgbouncer" else f"ai-storage:{__version__}"
        assert container["image"] == f"registry.example/{image}"
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
    assert all({"emptyDir", "secret", "projected"} & set(volume) for volume in pod.get("volumes", []))


def test_names_and_selectors_agree() -> None:
    everything = list(PODS.values())
    for name, deployment in of_kind("Deployment").items():
        selector = deployment["spec"]["selector"]["matchLabels"]
        chosen = [pod for pod in everything if fits(selector, pod["metadata"]["labels"])]
        assert chosen == [PODS[name]]
    web = PODS["ai-storage-web"]
    labels = web["metadata"]["labels"]
    (service,) = of_kind("Service").values()
    (budget,) = of_kind("PodDisruptionBudget").values()
    assert fits(service["spec"]["selector"], labels)
    assert fits(budget["spec"]["selector"]["matchLabels"], labels)
    for constraint in web["spec"]["topologySpreadConstraints"]:
        assert fits(constraint["labelSelector"]["matchLabels"], labels)
    (port,) = web["spec"]["containers"][0]["ports"]
    assert port["containerPort"] == int(IMAGE.last("EXPOSE"))
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert {item["metadata"].get("namespace") for item in OBJECTS if item["kind"] != "Namespace"} == {"ai-storage"}
    assert list(of_kind("Namespace")) == ["ai-storage"]


def test_only_postgresql_redis_and_names_can_be_reached() -> None:
    policies = of_kind("NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    reached: dict[str, set[int]] = {name: set() for name in PODS}
    for policy in policies.values():
        for name, pod in PODS.items():
            if fits(policy["spec"]["podSelector"].get("matchLabels", {}), pod["metadata"]["labels"]):
                for rule in policy["spec"].get("egress", []):
                    assert rule["to"], "to everywhere"
                    reached[name] |= {port["port"] for port in rule["ports"]}
    assert reached == {
        "ai-storage-web": {53, 5432, 6379},
        "ai-storage-seal": {53, 5432},
        "ai-storage-migrate": {53, 5432},
    }
    (ingress,) = [rule for policy in policies.values() for rule in policy["spec"].get("ingress", [])]
    assert [port["port"] for port in ingress["ports"]] == [int(IMAGE.last("EXPOSE"))]
    blocks = [to["ipBlock"]["cidr"] for name in ("to-postgresql", "to-redis")
              for to in policies[name]["spec"]["egress"][0]["to"]]  # fmt: skip
    assert all(block.endswith("/32") for block in blocks)


def test_a_rollout_never_has_fewer_pods_and_lets_the_old_ones_finish() -> None:
    web = of_kind("Deployment")["ai-storage-web"]["spec"]
    assert web["replicas"] == 3
    assert web["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = web["template"]["spec"]
    (container,) = pod["containers"]
    command = container["command"]
    assert command == json.loads(IMAGE.last("CMD"))
    drain = int(command[command.index("--drain") + 1])
    grace = int(re.search(r"^GRACE = (\d+)", (ROOT / "examples/web/__main__.py").read_text(), re.MULTILINE)[1])
    assert pod["terminationGracePeriodSeconds"] > drain + grace
    # The page says so to whoever has a balancer.
    (kept,) = re.findall(r"^KEEP_ALIVE = (\d+)", (ROOT / "examples/web/__main__.py").read_text(), re.MULTILINE)
    (waits,) = re.findall(r"^ +timeout=(\d+),  # s", (ROOT / "examples/web/app.py").read_text(), re.MULTILINE)
    assert f"after {kept} seconds" in PAGE
    assert f"for less than {waits} seconds" in PAGE
    ready = container["readinessProbe"]
    assert ready["httpGet"]["path"] == "/readyz"
    # A pod that drains answers 503 at once, so no question of these waits for its timeout.
    assert drain > ready["failureThreshold"] * ready["periodSeconds"]
    # A database that is away is no reason to restart.
    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/healthz"


def test_the_overlay_of_cells_reaches_both_and_runs_the_same_in_each() -> None:
    policies = of_kind("NetworkPolicy", objects=CELL_OBJECTS)
    blocks = [to["ipBlock"]["cidr"] for to in policies["to-postgresql"]["spec"]["egress"][0]["to"]]
    assert len(blocks) == 2
    assert all(block.endswith("/32") for block in blocks)
    labels = {name: pod["metadata"]["labels"] for name, pod in CELL_PODS.items()}
    (to,) = policies["web-to-pgbouncer"]["spec"]["egress"]
    (from_,) = policies["pgbouncer-from-web"]["spec"]["ingress"]
    assert to["ports"] == from_["ports"] == [{"protocol": "TCP", "port": 6432}]
    for rule, chosen in ((to["to"], "ai-storage-pgbouncer"), (from_["from"], "ai-storage-web")):
        selectors = [one["podSelector"]["matchLabels"] for one in rule]
        assert [name for name in labels if any(fits(selector, labels[name]) for selector in selectors)] == [chosen]
    service = of_kind("Service", objects=CELL_OBJECTS)["ai-storage-pgbouncer"]
    assert fits(service["spec"]["selector"], labels["ai-storage-pgbouncer"])
    for work in ("migrate", "seal"):
        west, east = CELL_PODS[f"ai-storage-{work}"]["spec"]["containers"]
        assert (west["name"], east["name"]) == (f"{work}-west", work)
        assert west["command"] == east["command"]


def test_pgbouncer_in_kubernetes_is_set_as_the_example_is() -> None:
    def settings(text: str) -> dict[str, str]:
        return dict(re.findall(r"^(\w+) = ?(.*)$", text.partition("[pgbouncer]")[2], re.MULTILINE))

    text = of_kind("ConfigMap", objects=CELL_OBJECTS)["ai-storage-pgbouncer"]["data"]["pgbouncer.ini"]
    mine, example = settings(text), settings((DEPLOY / "pgbouncer.ini").read_text())
    own = {"listen_addr": "*", "unix_socket_dir": "", "server_tls_sslmode": "verify-full"}
    own["server_tls_ca_file"] = "/etc/ssl/certs/ca-certificates.crt"
    del example["logfile"]
    assert mine == {**example, **own}
    assert "[databases]\neast = " in text


def secrets() -> dict[str, set[str]]:
    """Secret -> its keys, those that pods cannot do without."""
    found: dict[str, set[str]] = {}
    for pod in CELL_PODS.values():
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef", {"optional": True})
                if not reference.get("optional"):
                    found.setdefault(reference["name"], set()).add(reference["key"])
    return found


def test_the_page_creates_the_secrets_that_the_pods_use() -> None:
    files = {name: set(re.findall(r"^(\w+)=", text, re.MULTILINE))
             for name, text in re.findall(r"^```ini\n# (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)}  # fmt: skip
    made = re.findall(r"create secret generic (\S+) --from-env-file=(\S+)$", PAGE, re.MULTILINE)
    created = {secret: files[name] for secret, name in made}
    assert created == secrets()
    # A login for each, and for what works in the second cell; no value of any in the repository.
    assert len(created) == len(PODS) + 2
    assert of_kind("Secret", objects=CELL_OBJECTS) == {}
    mounted = {
        source["secret"].get("name") or source["secret"]["secretName"]
        for pod in CELL_PODS.values()
        for volume in pod["spec"].get("volumes", [])
        for source in volume.get("projected", {"sources": [volume]})["sources"]
        if "secret" in source
    }
    assert set(re.findall(r"create secret generic (\S+) --from-file=\S+$", PAGE, re.MULTILINE)) == mounted


def statements(url: str) -> list[str]:
    """What the page has psql do, connected to one of its URLs."""
    found = re.findall(rf'^    psql "\${url}" -c "(.*)"$', PAGE, re.MULTILINE)
    # Passwords are asked for: one in a command would be in the list of processes. The test's server wants none.
    assert not any("password '" in statement for statement in found)
    return [statement for statement in found if not statement.startswith("\\password ")]


def test_the_logins_of_the_page_suffice_for_what_the_pods_do(own_server: Server) -> None:
    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        for statement in statements("ADMIN_URL"):
            admin.execute(statement)

    def run(login: str, *command: str) -> None:
        environment = {**os.environ, "DATABASE_URL": own_server.dsn(login, "app"), "AI_STORAGE_APP_PASSWORD": "secret"}
        done = subprocess.run(
            [sys.executable, "-m", "pydb.cli", *command[1:]],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    for _ in range(2):
        run("ai_storage_migrate", *PODS["ai-storage-migrate"]["spec"]["containers"][0]["command"])
    with psycopg.connect(own_server.dsn("ai_storage_migrate", "app"), autocommit=True) as migrating:
        for statement in statements("MIGRATE_URL"):
            migrating.execute(statement)
    for command in ("pydb seal", "pydb retention apply", "pydb checkpoint", "pydb key create"):
        run("ai_storage_seal", *command.split())
    run("ai_storage_migrate", "pydb", "doctor")
    # What Compose seals with is no superuser, and is made as often as Compose is started.
    for _ in range(2):
        run_service(COMPOSE["services"]["seal-login"], {"postgres": own_server})
    run("seal", "pydb", "seal")
    with psycopg.connect(own_server.dsn("seal", "app")) as sealing:
        assert sealing.execute("select rolsuper from pg_roles where rolname = current_user").fetchone() == (False,)


def variables() -> Iterator[str]:
    for pod in PODS.values():
        for container in pod["spec"]["containers"]:
            yield from (variable["name"] for variable in container["env"])
    for service in COMPOSE["services"].values():
        if service["image"] == "ai-storage:0.1.0":
            yield from service.get("environment", {})


def test_each_environment_variable_is_one_that_is_read() -> None:
    sources = [*(ROOT / "pydb").glob("*.py"), *(ROOT / "examples" / "web").glob("*.py")]
    text = "".join(path.read_text() for path in sources)
    assert {name for name in variables() if f'"{name}"' not in text} == set()


@pytest.mark.parametrize("command", [*(pod["spec"]["containers"][0]["command"] for pod in PODS.values())])
def test_each_command_is_one_that_there_is(command: list[str]) -> None:
    modules = {"pydb": ["-m", "pydb.cli"], "python": []}
    arguments = [*modules[command[0]], *command[1:], "--help"]
    assert subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, timeout=60).returncode == 0


# Compose --------------------------------------------------------------------------------------------------------------

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CELLS = yaml.safe_load((DEPLOY / "cells.compose.yaml").read_text())


def with_cells() -> dict[str, Any]:
    """The services of both files, as Compose merges them."""
    services = dict(COMPOSE["services"])
    for name, service in CELLS["services"].items():
        base = service.get("extends", {"service": name})["service"]
        services[name] = kustomize.merged(services.get(base, {}), service)
    return services


def at(text: str, servers: dict[str, Server]) -> str:
    """A text in which the names of Compose's servers are addresses of the test's."""
    for name, server in servers.items():
        text = re.sub(rf"@{name}/(\w+)", rf"@/\1?host={server.host}", text)
        text = re.sub(rf"^{name}$|\bhost={name}\b", lambda found: found[0].replace(name, server.host), text)  # noqa: B023
    return text


def run_service(service: dict[str, Any], servers: dict[str, Server]) -> None:
    """Run what a service runs, with the servers of the test."""
    bin_dir = next(iter(servers.values())).cluster.bin_dir
    environment = {name: at(value, servers) for name, value in service["environment"].items()}
    environment["PATH"] = f"{Path(sys.executable).parent}:{bin_dir}:{os.environ['PATH']}"
    environment["LD_LIBRARY_PATH"] = str(bin_dir.parent / "lib")
    done = subprocess.run(
        service["command"], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_starts_things_in_order_and_publishes_to_this_machine_alone() -> None:
    services = COMPOSE["services"]
    for name in ("migrate", "web", "seal"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["image"] == f"ai-storage:{__version__}"
        for other, wanted in services[name]["depends_on"].items():
            if wanted["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"]
            else:
                assert other in ("migrate", "seal-login")
                assert wanted["condition"] == "service_completed_successfully"
    assert services["migrate"]["command"][:2] == ["pydb", "init"]
    assert [port for service in services.values() for port in service.get("ports", [])] == ["127.0.0.1:8000:8000"]
    assert services["postgres"]["image"].startswith("postgres:18.")
    migrating = PODS["ai-storage-migrate"]["spec"]["containers"][0]["command"]
    assert services["migrate"]["command"] == [word.replace("ai_storage_web", "web") for word in migrating]
    assert services["seal"]["command"] == PODS["ai-storage-seal"]["spec"]["containers"][0]["command"]
    login = services["web"]["environment"]["DATABASE_URL"].split("//")[1].split(":")[0]
    assert login == services["migrate"]["command"][-2]


def test_compose_with_cells_is_as_confined() -> None:
    services = with_cells()
    for name in CELLS["services"]:
        service = services[name]
        assert set(service.get("depends_on", ())) <= set(services)
        if name not in ("west", "west-seal-login"):
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        for volume in service.get("volumes", []):
            path, inside, *mode = volume.split(":")
            assert path == "west" or (mode == ["ro"] and (DEPLOY / path).is_file())
            assert inside.startswith("/etc/") or path == "west"
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert sorted(ports) == ["127.0.0.1:6432:6432", "127.0.0.1:8000:8000"]
    assert services["pgbouncer"]["build"]["dockerfile_inline"].split()[1] == COMPOSE["services"]["postgres"]["image"]


@pytest.fixture
def two_servers(own_server: Server, request: pytest.FixtureRequest) -> Iterator[dict[str, Server]]:
    """The servers of Compose with cells, by the names that they have there."""
    for west in start(request, FAST):
        servers = {"postgres": own_server, "west": west}
        for server in servers.values():
            with psycopg.connect(server.dsn(), autocommit=True) as admin:
                admin.execute("create database app")
        yield servers


def test_compose_with_cells_serves_organisations_of_both_through_pgbouncer(
    two_servers: dict[str, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = with_cells()
    for name in ("migrate", "west-migrate", "seal-login", "west-seal-login"):
        run_service(services[name], two_servers)
    east, west = (server.dsn(dbname="app") for server in two_servers.values())
    with psycopg.connect(east, autocommit=True) as admin, psycopg.connect(west, autocommit=True) as other:
        kid, secret = admin.execute("select kid, secret from ai_storage.create_signing_key('app')").fetchone()
        other.execute("select ai_storage.adopt_signing_key(%s, %s, 'app')", (kid, secret))
    tokens = {
        org: token.mint(token.Tenant(org, "s", "p", "e", "v"), kid=kid, secret=secret, audience="app")
        for org in ("old", "new")
    }
    with TenantAwareStorage.from_dsn(two_servers["postgres"].dsn("web", "app"), tokens["old"]) as storage:
        storage.save_ai_progress("m", 0.5)
    (tmp_path / "admin.json").write_text(at((DEPLOY / "cells" / "admin.json").read_text(), two_servers))
    cells = {**services["cells"], "command": [word.replace("/etc/cells.json", str(tmp_path / "admin.json"))
                                              for word in services["cells"]["command"]]}  # fmt: skip
    for _ in range(2):
        run_service(cells, two_servers)

    config = at((DEPLOY / "cells" / "pgbouncer.ini").read_text(), two_servers)
    for given, ours in {
        "%include /etc/pgbouncer/pgbouncer.ini": (DEPLOY / "pgbouncer.ini").read_text(),
        "/etc/pgbouncer/userlist.txt": "{folder}/users",
        "listen_addr = *\nunix_socket_dir =": "listen_addr =\nunix_socket_dir = {folder}",
    }.items():
        assert config.count(given) == 1, given
        config = config.replace(given, ours)
    users = (DEPLOY / "cells" / "userlist.txt").read_text()
    with pgbouncer.running(config, users, two_servers["west"].host) as folder:
        dsns = (DEPLOY / "cells" / "web.json").read_text().replace("host=pgbouncer", f"host={folder}")
        (tmp_path / "web.json").write_text(dsns)
        monkeypatch.setenv("AI_STORAGE_CELLS", str(tmp_path / "web.json"))
        with serving(create_app()) as client:
            assert client.get("/readyz").json() == {"status": "ok"}
            assert client.get("/metrics").status_code == 200
            training = {"model_name": "line", "samples": [{"x": [1], "y": 3}]}
            for mine in tokens.values():
                assert client.post("/api/ai/train", json=training, headers=bearer(mine)).status_code == 200
            models = client.get("/api/ai/models", headers=bearer(tokens["old"])).json()["models"]
            assert {model["model_name"] for model in models} == {"m", "line"}
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(json.loads(dsns)["east"].replace("laptop-web", "wrong"))
    for dsn, organisation in ((east, "old"), (west, "new")):
        with psycopg.connect(dsn) as admin:
            assert admin.execute("select distinct org_id from ai_storage_private.tenant").fetchall() == [
                (organisation,)
            ]
