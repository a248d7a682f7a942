"""Renders deploy/kubernetes as kustomize does, so far as it is used there: no registry of packages has the program.

What it does not know it refuses. Where kubectl is installed, a test compares it with the real one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent / "deploy" / "kubernetes"
PRODUCTION = ROOT / "overlays" / "production"
CELLS = ROOT / "overlays" / "cells"
KNOWN = {"apiVersion", "kind", "namespace", "resources", "images", "replicas", "patches"}
OF_THE_CLUSTER = {"Namespace"}

Object = dict[str, Any]


# Lists whose items are merged by a key; others are replaced as a whole.
KEYS = {"containers": "name", "env": "name", "volumeMounts": "mountPath", "volumes": "name"}


def merged(given: Any, patch: Any, name: str = "") -> Any:
    """A strategic merge. name: of the field."""
    if isinstance(given, dict) and isinstance(patch, dict):
        return given | {name: merged(given.get(name), value, name) for name, value in patch.items()}
    if name in KEYS and isinstance(given, list) and all(isinstance(item, dict) for item in given + patch):
        key = KEYS[name]
        known = {item[key] for item in given}
        changes = {item[key]: item for item in patch}
        added = [item for item in patch if item[key] not in known]
        return added + [merged(item, changes.get(item[key], {})) for item in given]
    return patch


def _pod_spec(item: Object) -> Object:
    spec: Object = item.get("spec", {}).get("template", {}).get("spec", {})
    return spec


def _image(name: str, images: list[Object]) -> str:
    for image in images:
        if image["name"] == name:
            return f"{image['newName']}:{image['newTag']}"
    return name


def render(folder: Path) -> list[Object]:
    """The objects of a folder with a kustomization.yaml."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(kustomization) <= KNOWN, set(kustomization) - KNOWN
    found: dict[tuple[str, str], Object] = {}
    for resource in kustomization["resources"]:
        path = folder / resource
        for item in render(path) if path.is_dir() else yaml.safe_load_all(path.read_text()):
            found[item["kind"], item["metadata"]["name"]] = item
    for patch in kustomization.get("patches", []):
        assert set(patch) == {"path"}, patch
        for change in yaml.safe_load_all((folder / patch["path"]).read_text()):
            name = change["kind"], change["metadata"]["name"]
            found[name] = merged(found[name], change)
    for replicas in kustomization.get("replicas", []):
        found["Deployment", replicas["name"]]["spec"]["replicas"] = replicas["count"]
    for item in found.values():
        for container in _pod_spec(item).get("containers", []):
            container["image"] = _image(container["image"], kustomization.get("images", []))
        if "namespace" in kustomization and item["kind"] not in OF_THE_CLUSTER:
            item["metadata"]["namespace"] = kustomization["namespace"]
    return list(found.values())


if __name__ == "__main__":
    yaml.safe_dump_all([json.loads(json.dumps(item)) for item in render(PRODUCTION)], sys.stdout)
