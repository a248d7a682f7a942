"""The web example, served by uvicorn: many tenants at once, whatever is sent to it, and what it tells about itself."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import httpx
import pytest

from examples.web.app import create_app
from tests.conftest import Database
from tests.helpers import until
from tests.webserver import AT_MOST, Mint, bearer, example, minter, serving

ACME = "acme:mcp-1:shop:production:v1"
TENANTS = [f"org{number % 7}:mcp-{number % 3}:p{number}:production:v1" for number in range(50)]
SAMPLES = [{"x": [1.0, 2.0], "y": 3.0}, {"x": [2.0, 0.5], "y": 5.0}]


@pytest.fixture
def mint(database: Database) -> Mint:
    return minter(database)


@pytest.fixture
def served(database: Database) -> Iterator[tuple[str, list[str]]]:
    """The example's URL, and what it printed."""
    # By key, so that only the application keeps whoever names a tenant from being it.
    with example("web", database.dsn("app")) as found:
        yield found


def test_a_thousand_requests_of_fifty_tenants_are_never_mixed_up(
    served: tuple[str, list[str]], mint: Mint, database: Database
) -> None:
    url, _ = served
    tokens = {tenant: mint(tenant) for tenant in TENANTS}
    trained = dict.fromkeys(TENANTS, 0)
    # All have a model of one name, and one whose name is their own.
    plan = [(tenant, kind) for tenant in TENANTS for kind in ("own", "common", "models", "audit") * 5]
    random.Random(7).shuffle(plan)
    assert len(plan) == 1000
    mixed = []

    async def ask(client: httpx.AsyncClient, tenant: str, kind: str) -> None:
        mark = tenant.replace(":", "-")
        if kind in ("own", "common"):
            name = f"of-{mark}" if kind == "own" else "common"
            training = {"model_name": name, "samples": SAMPLES, "epochs": 1}
            response = await client.post("/api/ai/train", json=training, headers=bearer(tokens[tenant]))
            # 409: another request of the tenant's trained the same model at the same time.
            assert response.status_code in (200, 409), response.text
            trained[tenant] += response.status_code == 200
        else:
            response = await client.get(f"/api/ai/{kind}", headers=bearer(tokens[tenant]))
            assert response.status_code == 200, response.text
        body = response.json()
        if kind == "models":
            mixed.extend(
                row
                for row in body["models"]
                if row["owner_key"] != tenant or row["model_name"] not in ("common", f"of-{mark}")
            )
        elif kind == "audit":
            names = {event["detail"].get("model_name", "common") for event in body["events"]}
            mixed.extend([body] if body["tenant_key"] != tenant or not names <= {"common", f"of-{mark}"} else [])
        elif response.status_code == 200:
            mixed.extend([body] if body["model_name"] != name else [])

    async def scenario() -> None:
        free = asyncio.Semaphore(32)
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:

            async def in_turn(tenant: str, kind: str) -> None:
                async with free:
                    await ask(client, tenant, kind)

            await asyncio.gather(*(in_turn(*step) for step in plan))

    asyncio.run(scenario())
    assert mixed == []
    assert all(trained.values())
    # What was answered is what the database has: a version for each, of the tenant's own.
    rows = database.connect().execute(
        "select t.isolation_key, count(*) from ai_storage_private.progress_version "
        "join ai_storage_private.tenant as t using (tenant_id) group by 1"
    )
    assert dict(rows.fetchall()) == trained


def test_training_goes_on_from_what_was_saved(served: tuple[str, list[str]], mint: Mint) -> None:
    line = {"model_name": "line", "samples": [{"x": [x], "y": 2 * x + 1} for x in range(5)], "epochs": 50}
    with httpx.Client(base_url=served[0], headers=bearer(mint(ACME)), timeout=30) as client:
        errors = [client.post("/api/ai/train", json=line).json()["mse"] for _ in range(4)]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.01
        (model,) = client.get("/api/ai/models").json()["models"]
        assert (model["version"], model["training_samples"], model["mse"]) == (200, 5, errors[-1])


def test_a_shared_model_is_seen_and_one_that_is_not_stays_unknown(served: tuple[str, list[str]], mint: Mint) -> None:
    other = ACME.replace("mcp-1", "mcp-2")
    training = {"model_name": "a/b c", "samples": SAMPLES, "epochs": 1}
    with httpx.Client(base_url=served[0], timeout=30) as client:
        client.post("/api/ai/train", json=training, headers=bearer(mint(ACME))).raise_for_status()
        sharing = {"targets": [{"server_id": "mcp-2"}]}
        share = "/api/ai/models/a%2Fb%20c/share"
        stolen = client.post(share, json={"targets": [{"server_id": "mcp-3"}]}, headers=bearer(mint(other)))
        assert (stolen.status_code, stolen.json()["code"]) == (404, "TN101")
        assert client.get("/api/ai/models", headers=bearer(mint(other))).json()["models"] == []
        shared = client.post(share, json=sharing, headers=bearer(mint(ACME)))
        assert (shared.status_code, shared.json()[0]["target"]) == (201, other)
        (model,) = client.get("/api/ai/models?scope=shared", headers=bearer(mint(other))).json()["models"]
        assert (model["model_name"], model["owner_key"], model["permissions"]) == ("a/b c", ACME, ["read"])


def test_pages_join_without_a_gap(served: tuple[str, list[str]], mint: Mint, database: Database) -> None:
    expected = [f"m{number}" for number in range(5)]
    database.storage(ACME).save_ai_progress_batch({"model_name": name, "mse": 1} for name in expected)
    with httpx.Client(base_url=served[0], headers=bearer(mint(ACME))) as client:
        found, after = [], {}
        while True:
            page = client.get("/api/ai/models", params={"limit": 2, **after}).json()
            found += [model["model_name"] for model in page["models"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
    assert found == expected


def test_the_operators_pages_need_no_token_and_name_no_tenant(
    served: tuple[str, list[str]], mint: Mint, database: Database
) -> None:
    url, printed = served
    token = mint(ACME)
    with httpx.Client(base_url=url) as client:
        training = {"model_name": "canary-model", "samples": SAMPLES}
        client.post("/api/ai/train", json=training, headers=bearer(token)).raise_for_status()
        client.get("/api/ai/canary-path", headers=bearer(token))
        client.request("CANARY", "/api/ai/models", headers=bearer(token))
        client.get("/api/ai/models", headers=bearer("forged"))
        assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}
        metrics = client.get("/metrics").text
        assert 'http_requests_total{method="POST",route="/api/ai/train",status="200"} 1.0' in metrics
        assert 'http_requests_total{method="other",route="/api/ai/models",status="405"} 1.0' in metrics
        for page in (metrics, client.get("/openapi.json").text):
            for canary in ("canary", "CANARY", "acme", token):
                assert canary not in page
        # Without the database it is alive, and not ready.
        with database.connect() as admin:
            admin.execute("alter role app connection limit 0")
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
            try:
                assert client.get("/healthz").status_code == 200
                ready = client.get("/readyz", timeout=20)
                assert (ready.status_code, ready.headers["content-type"]) == (503, "application/problem+json")
            finally:
                admin.execute("alter role app connection limit -1")
    assert not [line for line in printed if token in line]


def test_a_process_whose_connections_all_wait_is_ready_and_one_without_any_is_not(
    mint: Mint, database: Database
) -> None:
    app = create_app(database.dsn("app"), connections=1)
    with serving(app) as client, ThreadPoolExecutor(2) as pool, database.connect() as admin:

        def models() -> int:
            return client.get("/api/ai/models", headers=bearer(mint(ACME)), timeout=AT_MOST).status_code

        assert models() == 200
        with admin.transaction():
            admin.execute("lock table ai_storage_private.tenant in access exclusive mode")  # as a migration does
            waiting = [pool.submit(models) for _ in range(2)]
            until(
                lambda: "psycopg_pool_requests_waiting 1.0" in client.get("/metrics").text, "one to wait for the other"
            )
            assert client.get("/readyz").json() == {"status": "busy"}
        assert [request.result() for request in waiting] == [200, 200]
        assert client.get("/readyz").json() == {"status": "ok"}
        admin.execute("alter role app connection limit 0")
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
        try:
            for _ in range(2):  # the connection that was there, and then none
                assert client.get("/readyz").status_code == 503
        finally:
            admin.execute("alter role app connection limit -1")


def test_schemathesis_finds_no_fault(served: tuple[str, list[str]], mint: Mint, tmp_path: Path) -> None:
    # Well-formed and malformed requests made up from its OpenAPI, with a token and without, each answer compared with
    # what the OpenAPI says.
    options = {
        "--header": f"Authorization: Bearer {mint(ACME)}",
        "--checks": "all",
        # What no schema can say: all samples are equally long, a cursor is one that was given.
        "--exclude-checks": "positive_data_acceptance",
        "--phases": "examples,coverage,fuzzing",
        "--max-examples": "15",
        "--seed": "7",
    }
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "run", f"{served[0]}/openapi.json", *chain(*options.items())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 200, done.stdout


def test_the_readme_lists_the_operations_that_there_are(served: tuple[str, list[str]]) -> None:
    readme = (Path(__file__).parent.parent / "examples" / "web" / "README.md").read_text()
    listed = set(re.findall(r"^\| `(GET|POST|PUT) ([^`]+)`", readme, re.MULTILINE))
    paths = httpx.get(f"{served[0]}/openapi.json").json()["paths"]
    found = {(method.upper(), path) for path, item in paths.items() for method in item if path.startswith("/api/")}
    assert listed == found
