"""What the example exports is what the dashboard and the alerts ask for, and holds nothing of a tenant."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families as parsed
from psycopg_pool import AsyncConnectionPool

from examples.web.app import create_app
from examples.web.metrics import Resources
from pydb import AsyncTenantAwareStorage, StorageError, aio, environment
from tests.conftest import Database
from tests.helpers import call, key
from tests.redis_server import RedisServer
from tests.webserver import bearer, minter, serving

DEPLOY = Path(__file__).parent.parent / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "tenant-ai-storage.json").read_text("utf-8"))
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text("utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

CANARY = key("canary-org", "canary-server", "canary-project", "canary-env", "canary-code")
TRAINING = {"model_name": "canary-model", "samples": [{"x": [1.0], "y": 3.0}]}


@pytest.fixture
def client(database: Database) -> Iterator[httpx.Client]:
    """The example with the operator's metrics, read as an auditor."""
    admin = database.connect()
    admin.execute("create role canary_watcher login in role ai_storage_auditor")
    try:
        with serving(create_app(database.dsn("app"), database.dsn("canary_watcher"))) as client:
            yield client
    finally:
        admin.execute("drop role canary_watcher")


def asked_for(query: str) -> set[str]:
    """The metrics that a query names. Raises: ValueError for what is no PromQL."""
    normal = str(promql_parser.parse(query.replace("$__rate_interval", "5m")))
    return set(re.findall(r"([A-Za-z_:][\w:]*)\{", normal))


def labels(text: str) -> dict[str, dict[str, set[str]]]:
    """The values of each label of each metric on a page."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in parsed(text):
        for sample in family.samples:
            of = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                of.setdefault(label, set()).add(value)
    return found


def test_the_page_has_what_is_asked_for_and_nothing_of_a_tenant(database: Database, client: httpx.Client) -> None:
    token = minter(database)(CANARY)
    admin = database.connect()
    assert client.post("/api/ai/train", json=TRAINING, headers=bearer(token)).status_code == 200
    assert (
        client.post(
            "/api/ai/models/canary-none/share", json={"targets": [{"server_id": "canary"}]}, headers=bearer(token)
        ).json()["code"]
        == "TN101"
    )
    assert client.post("/api/ai/train", json={}, headers=bearer(token)).status_code == 422
    assert client.get("/api/ai/canary-path", headers=bearer(token)).status_code == 404
    assert client.get("/api/ai/models", headers=bearer("canary.forged.token")).json()["code"] == "TN002"
    assert client.get("/api/ai/models").status_code == 401
    call(admin, "seal_audit")
    call(admin, "create_checkpoint")
    page = client.get("/metrics").text
    assert "ai_storage_up 1" in page
    assert 'storage_errors_total{sqlstate_class="TN"} 3.0' in page  # and none for what is not JSON or has no route
    for canary in ("canary", token):
        assert canary not in page
    found = labels(page)
    assert {label for of in found.values() for label in of} == {
        *("method", "route", "status", "le", "sqlstate_class", "table", "version")
    }
    for query in [*QUERIES, *(rule["expr"] for rule in RULES)]:
        assert asked_for(query), query
        assert asked_for(query) <= found.keys(), query
        for label in re.findall(r"(?:by|without) \(([^)]*)\)", query):
            known = {name for metric in asked_for(query) for name in found[metric]} | {"instance"}
            assert {name.strip() for name in label.split(",")} <= known, query
    used = set().union(*map(asked_for, QUERIES))
    assert {name for name in found if name.startswith("ai_storage_")} - used == {
        *("ai_storage_info", "ai_storage_up", "ai_storage_signing_keys")
    }


def test_without_the_database_the_page_says_so(database: Database, client: httpx.Client) -> None:
    database.connect().execute("alter role canary_watcher connection limit 0")
    page = client.get("/metrics").text
    assert "ai_storage_up 0" in page
    assert "ai_storage_tenants" not in page
    assert "canary" not in page


def test_the_database_is_asked_once_however_often_anybody_asks(database: Database, client: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(lambda _: client.get("/metrics").text, range(8)))
    database.connect().execute("alter role canary_watcher connection limit 0")
    pages.append(client.get("/metrics").text)
    assert all("ai_storage_up 1" in page for page in pages)
    assert len({page.partition("ai_storage_up")[2] for page in pages}) == 1


def test_while_the_tables_are_held_the_page_has_what_the_application_knows(
    database: Database, client: httpx.Client
) -> None:
    with database.connect() as admin, admin.transaction():
        admin.execute("lock table ai_storage_private.tenant in access exclusive mode")  # as a migration does
        page = client.get("/metrics").text
    assert "ai_storage_up 0" in page
    assert "psycopg_pool_max 10.0" in page


def test_what_the_database_refuses_is_no_error_of_the_page(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise StorageError("canary")

    monkeypatch.setattr(aio, "run", refused)
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert "ai_storage_up 0" in answer.text
    assert "canary" not in answer.text


def test_the_cache_tells_what_it_did(
    database: Database, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)

    async def scenario() -> dict[str, float]:
        async with AsyncConnectionPool(database.dsn("app"), kwargs={"autocommit": True}, open=False) as pool:
            storage = environment.storage_type("hybrid")(AsyncTenantAwareStorage(pool, CANARY))
            await storage.save_ai_progress("m", 0.5)
            await storage.put_artifact("m", "a", os.urandom(50_000))
            for _ in range(3):
                await storage.get_artifact("m", "a")
            found = {sample.name: sample.value for family in Resources(pool).collect() for sample in family.samples}
            await environment.close_shared_async_pool()
        return found

    found = asyncio.run(scenario())
    assert [found[f"storage_cache_{name}_total"] for name in ("hits", "misses", "rejects", "errors")] == [2, 1, 0, 0]
    assert found["psycopg_pool_requests_num_total"] >= 5
    assert found["psycopg_pool_size"] >= 1


def test_the_dashboard_has_the_form_that_grafana_imports() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert {variable["type"] for variable in DASHBOARD["templating"]["list"]} == {"datasource"}
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels)
    for panel in panels:
        assert panel["type"] == "timeseries"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_alerts_have_the_form_that_prometheus_loads() -> None:
    assert set(ALERTS) == {"groups"}
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 4
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_what_no_longer_tells_anything_is_missed_and_probes_do_not_dilute_failures() -> None:
    exprs = {rule["alert"]: rule["expr"] for rule in RULES}
    assert "absent(ai_storage_up)" in exprs["StorageMetricsMissing"]
    left_out = re.findall(r'http_requests_total\{[^}]*\broute!~"([^"]*)"', exprs["RequestsFailing"])
    assert len(left_out) == exprs["RequestsFailing"].count("http_requests_total") == 2
    for pattern in left_out:
        assert all(re.fullmatch(pattern, path) for path in ("/healthz", "/readyz", "/metrics"))
        assert not re.fullmatch(pattern, "/api/ai/models")
