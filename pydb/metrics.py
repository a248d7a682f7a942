"""Figures for a monitor, as text that Prometheus reads (its text format, version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from .calls import Metric

__all__ = ["render"]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def render(rows: Iterable[Metric]) -> str:
    """The answer to pydb.calls.metrics as text.

    rows: those of one metric together. Returns: lines, the last with its end.
    """
    lines = []
    for (name, kind, help_), found in groupby(rows, lambda row: (row.metric, row.kind, row.help)):
        lines += [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]
        for row in found:
            labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in row.labels.items())
            lines.append(f"{name}{{{labels}}} {row.value!r}" if labels else f"{name} {row.value!r}")
    return "".join(f"{line}\n" for line in lines)
