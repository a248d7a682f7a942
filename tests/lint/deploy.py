"""Checks deploy/: the Dockerfile with hadolint, the Compose files by the specification's schema, and what is rendered
for Kubernetes by that of the API. Before a tool's silence counts, it has to find the fault in a bad sample.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

from tests import kustomize

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.prefix) / "linters" / "deploy" / "bin"


class Check(NamedTuple):
    """What a tool has to pass, and a fault to be put in the place of what is right, which it has to name."""

    command: tuple[str, ...]
    text: str
    right: str
    fault: str
    named: str


CHECKS = [
    Check(
        ("hadolint", "--failure-threshold", "style"),
        (ROOT / "deploy" / "Dockerfile").read_text(),
        "USER 10001:10001",
        "USER root",
        "DL3002",
    ),
    Check(
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
        (ROOT / "deploy" / "compose.yaml").read_text(),
        "condition: service_healthy",
        "condition: service_ready",
        "service_ready",
    ),
    Check(
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec"),
        (ROOT / "deploy" / "cells.compose.yaml").read_text(),
        "condition: service_healthy",
        "condition: service_ready",
        "service_ready",
    ),
    Check(
        ("kubernetes-validate", "--strict", "--quiet"),
        yaml.safe_dump_all(kustomize.render(kustomize.PRODUCTION)),
        "maxUnavailable: 0",
        "maxUnavailabel: 0",
        "maxUnavailabel",
    ),
    Check(
        ("kubernetes-validate", "--strict", "--quiet"),
        yaml.safe_dump_all(kustomize.render(kustomize.CELLS)),
        "secretName: ai-storage-cells",
        "secretNaem: ai-storage-cells",
        "secretNaem",
    ),
]


def said(command: tuple[str, ...], text: str) -> tuple[bool, str]:
    """Whether a tool passes a text, and what it says."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([BIN / command[0], *command[1:], file.name], capture_output=True, text=True, cwd="/")
    return done.returncode == 0, done.stdout + done.stderr


def main() -> int:
    failed = False
    for check in CHECKS:
        tool = check.command[0]
        assert check.right in check.text
        passed, found = said(check.command, check.text.replace(check.right, check.fault))
        if passed or check.named not in found:
            failed = True
            print(f"{tool} does not find {check.fault}: {found}")
        passed, found = said(check.command, check.text)
        if not passed:
            failed = True
            print(f"{tool}:\n{found}")
    print("deploy/ has findings" if failed else "deploy/ passes hadolint, check-jsonschema and kubernetes-validate")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
