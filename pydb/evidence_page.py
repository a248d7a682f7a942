"""Draws the page of a folder of evidence: one HTML file that loads nothing and runs nothing.

Every text in it may be somebody's input. `_text` is the only way in; the page's own policy is the second wall: it
forbids scripts and everything from outside.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from hashlib import sha256
from importlib.resources import files
from itertools import count
from string import Template
from typing import Any

__all__ = ["render", "status"]

Row = Mapping[str, Any]

# From good to bad, and what a test's result counts as.
STATUSES = ("passed", "unknown", "warning", "failed")
SIGNS = {"passed": "✓", "unknown": "?", "warning": "!", "failed": "✗"}
RESULTS = {"passed": "passed", "skipped": "unknown", "error": "failed", "failed": "failed"}

MOST_ROWS = 500  # of a table; the rest is in its file
MOST_NODES = 24  # on each side of the graph
MOST_BARS = 92
MOST_KINDS = 5

# The columns that come first; what else a row has follows by name.
COLUMNS = {
    "roles": ("role", "can_login", "superuser", "bypassrls", "createrole", "replication", "member_of"),
    "rights": ("object", "grantee", "privileges"),
    "policies": ("table", "policy", "comment", "command", "roles", "using", "check"),
    "triggers": ("table", "trigger", "enabled", "definition"),
    "functions": ("function", "owner", "security_definer", "settings", "sha256"),
    "authorizations": ("login", "pattern", "token_only"),
    "signing_keys": ("kid", "audience", "created_at", "retired_at"),
    "checkpoints": ("checkpoint_number", "created_at", "checkpoint_hash", "root", "previous_hash"),
    "events": ("day", "action", "events"),
    "shares": ("owner", "target", "permissions", "models", "expires_at"),
    "retention": ("pattern",),
    "erasures": ("certificate_id", "erased_at"),
}
# One letter in the catalog.
WORDS = {
    ("policies", "command"): {"r": "select", "a": "insert", "w": "update", "d": "delete", "*": "all"},
    ("triggers", "enabled"): {"O": "yes", "D": "no", "A": "always", "R": "on replicas"},
}
CODE = ("using", "check", "definition", "sha256", "root", "previous_hash", "checkpoint_hash")


# Texts


def _shown(character: str) -> str:
    """A character; as its number where it would not be seen, or would move the text around it."""
    if character in "\n\t" or unicodedata.category(character)[0] != "C":
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def _text(value: object) -> str:
    """A value as text of an element or of a quoted attribute."""
    return html.escape("".join(map(_shown, str(value))))


def _cell(value: Any) -> str:
    if value is None or value in ("", []):
        return '<span class="none">&ndash;</span>'
    if isinstance(value, bool):
        return "yes" if value else '<span class="none">no</span>'
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(map(_text, value))
    if isinstance(value, list | dict):
        return _text(json.dumps(value, ensure_ascii=False, sort_keys=True))
    return _text(value)


def _time(micros: int) -> str:
    """Microseconds since 1970 as a time, in the form of all others."""
    return f"{datetime(1970, 1, 1) + timedelta(microseconds=micros):%Y-%m-%dT%H:%M:%S.%fZ}"


def _as_of(checkpoints: Sequence[Row]) -> str:
    if not checkpoints:
        return "without a checkpoint"
    newest = checkpoints[-1]
    return f"as of checkpoint {newest['checkpoint_number']:,} ({_time(newest['created_at'])})"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _cut(text: str, length: int) -> str:
    """At most that many characters, with an ellipsis for the middle."""
    if len(text) <= length:
        return text
    return f"{text[: (length - 1) // 2]}…{text[len(text) - length // 2 :]}"


# Parts of the page


def _badge(state: str, text: str | None = None) -> str:
    return f'<span class="badge {state}"><span aria-hidden="true">{SIGNS[state]}</span> {text or state}</span>'


def _table(section: str, rows: Sequence[Row]) -> str:
    if not rows:
        return "<p>None.</p>"
    first = COLUMNS[section]
    columns = [*first, *sorted({name for row in rows for name in row} - {*first, "kind"})]
    head = "".join(f"<th>{_text(name.replace('_', ' '))}</th>" for name in columns)
    body = []
    for row in rows[:MOST_ROWS]:
        cells = []
        for name in columns:
            value = row.get(name)
            if (section, name) in WORDS and isinstance(value, str):
                value = WORDS[section, name].get(value, value)
            cell = _cell(value)
            cells.append(f"<td><code>{cell}</code></td>" if name in CODE else f"<td>{cell}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    rest = len(rows) - MOST_ROWS
    more = f"<p>{_count(rest, 'more row')} in {section}.json.</p>" if rest > 0 else ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>{more}'
    )


def _folded(title: str, count: int, content: str, *, printed: bool = True) -> str:
    use = "" if printed else ' class="screen"'
    return f'<details{use}><summary>{title} <span class="none">({count:,})</span></summary>{content}</details>'


def _controls(controls: Sequence[Row]) -> str:
    rows = []
    # The worst first.
    for row in sorted(controls, key=lambda row: -STATUSES.index(row["status"])):
        is_open = " open" if row["status"] == "failed" else ""
        rows.append(
            f'<tr class="control"><td data-name="Status">{_badge(row["status"])}</td>'
            f'<td data-name="Control"><strong>{_text(row["control"])}</strong></td>'
            f'<td data-name="Reference">{_cell(row["reference"])}</td>'
            f'<td data-name="Result">{_cell(row["result"])}'
            f"<details{is_open}><summary>the query</summary><pre>{_cell(row['evidence'])}</pre></details></td></tr>"
        )
    return (
        '<table class="cards"><thead><tr><th>status</th><th>control</th><th>reference</th><th>result</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _attacks(attacks: Mapping[str, str] | None) -> str:
    if attacks is None:
        return "<p>Results of the attack suite were not given.</p>"
    counts = Counter(attacks.values())
    summary = ", ".join(f"{counts[result]:,} {result}" for result in RESULTS if counts[result])

    def listed(tests: Iterable[str]) -> str:
        return "".join(
            f"<li>{_badge(RESULTS[attacks[test]], attacks[test])} <code>{_text(test)}</code></li>" for test in tests
        )

    bad = sorted(test for test, result in attacks.items() if result != "passed")
    good = sorted(attacks.keys() - bad)
    return f'<p>{_count(len(attacks), "test")}: {summary}.</p><ul class="plain">{listed(bad)}</ul>' + _folded(
        "Passed", len(good), f'<ul class="plain">{listed(good)}</ul>'
    )


# Events over time


def _nice(most: int) -> list[int]:
    """From 0 to at least most, in at most five round steps."""
    step = next(size * 10**power for power in count() for size in (1, 2, 5) if size * 10**power * 5 >= most)
    return list(range(0, most + step, step))


def _slots(first: date, last: date) -> tuple[str, list[date]]:
    """What a bar stands for, and the first day of each."""
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    begins: dict[str, Callable[[date], date]] = {
        "day": lambda day: day,
        "week": lambda day: day - timedelta(days=day.weekday()),
        "month": lambda day: day.replace(day=1),
        "year": lambda day: day.replace(month=1, day=1),
    }
    slots = {unit: sorted(set(map(begin, days))) for unit, begin in begins.items()}
    unit = next((unit for unit in slots if len(slots[unit]) <= MOST_BARS), "year")
    return unit, slots[unit]


def _events(events: Sequence[Row]) -> str:
    """Bars, a colour for each of the most frequent actions."""
    if not events:
        return "<p>There are none.</p>"
    days = sorted({date.fromisoformat(row["day"]) for row in events})
    unit, slots = _slots(days[0], days[-1])
    totals: Counter[str] = Counter()
    for row in events:
        totals[row["action"]] += row["events"]
    ranked = sorted(totals, key=lambda action: (-totals[action], action))
    named = ranked if len(ranked) <= MOST_KINDS + 1 else ranked[:MOST_KINDS]
    place = {action: min(ranked.index(action), len(named)) for action in ranked}
    counts: dict[date, Counter[int]] = defaultdict(Counter)
    for row in events:
        slot = max(slot for slot in slots if slot <= date.fromisoformat(row["day"]))
        counts[slot][place[row["action"]]] += row["events"]
    kinds = [*named, *(["other"] if len(named) < len(ranked) else [])]

    left, top, height = 64, 12, 180
    wide = max(8, min(44, 800 // len(slots)))
    width = left + wide * len(slots) + 24
    ticks = _nice(max(1, *(sum(slot.values()) for slot in counts.values())))
    scale = height / ticks[-1]
    parts = []
    for tick in ticks:
        y = top + height - tick * scale
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{width - 8}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:,}</text>')
    each = math.ceil(76 / wide)
    for number, slot in enumerate(slots):
        x, y = left + wide * number, float(top + height)
        tips = [f"{kinds[kind]}: {counts[slot][kind]:,}" for kind in sorted(counts[slot])]
        parts.append(f'<g class="bar"><title>{_text(f"{slot} " + ", ".join(tips))}</title>')
        for kind, number_of in sorted(counts[slot].items()):
            y -= number_of * scale
            parts.append(
                f'<rect class="kind{kind}" x="{x + wide * 0.1:.1f}" y="{y:.1f}" width="{wide * 0.8:.1f}" '
                f'height="{number_of * scale:.1f}"/>'
            )
        parts.append("</g>")
        if number % each == 0:
            parts.append(f'<text x="{x + 2}" y="{top + height + 18}">{slot}</text>')
    full = max(width, left + 100)
    legend = "".join(
        f'<li><span class="swatch kind{number}"></span>{_text(kind)} '
        f'<span class="none">{sum(counts[slot][number] for slot in slots):,}</span></li>'
        for number, kind in enumerate(kinds)
    )
    return (
        f"<p>{_count(sum(totals.values()), 'event')} of all tenants, from {days[0]} to {days[-1]} (UTC), by {unit}.</p>"
        f'<div class="scroll"><svg role="img" aria-label="Events by {unit}" viewBox="0 0 {full} {top + height + 26}" '
        f'width="{full}" height="{top + height + 26}">{"".join(parts)}</svg></div>'
        f'<ul class="legend">{legend}</ul>'
        + _folded("As a table", len(events), _table("events", events), printed=False)
    )


# The share graph

REACH = {"inside": "inside the organisation", "outside": "to another organisation", "anyone": "to any organisation"}


def _reach(share: Row) -> str:
    owner, target = (share[side].split(":")[0] for side in ("owner", "target"))
    return "anyone" if target == "*" else "inside" if owner == target else "outside"


def _groups(shares: Sequence[Row]) -> tuple[int, dict[str, str], dict[str, str]]:
    """For owners and for targets the node of each: itself, or where that were too many, what it begins with.

    Returns: the number of levels that a node has, 0 to 5, and both.
    """
    for depth in (5, 4, 3, 2, 1):
        sides = []
        for side in ("owner", "target"):
            keys = {share[side]: share[side].split(":") for share in shares}
            sides.append({key: ":".join(levels[:depth]) for key, levels in keys.items()})
        if max(len(set(nodes.values())) for nodes in sides) <= MOST_NODES:
            return depth, sides[0], sides[1]
    # Too many organisations: those with the most grants, and the others together.
    for side, nodes in zip(("owner", "target"), sides, strict=True):
        counts = Counter(nodes[share[side]] for share in shares)
        kept = sorted(counts, key=lambda node: (-counts[node], node))[: MOST_NODES - 1]
        if len(counts) > MOST_NODES:
            nodes.update({key: "others" for key, node in nodes.items() if node not in kept})
    return 1, sides[0], sides[1]


def _graph(shares: Sequence[Row]) -> str:
    """Owners on the left, targets on the right, a line for the grants from one to another."""
    if not shares:
        return "<p>Nothing is shared.</p>"
    depth, owners, targets = _groups(shares)
    lines: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for share in shares:
        lines[owners[share["owner"]], targets[share["target"]]].append(share)
    left = sorted(set(owners.values()), key=lambda node: (node == "others", node))

    def middle(node: str) -> float:
        places = [left.index(owner) for owner, target in lines if target == node]
        return sum(places) / len(places)

    # Near those that they are reached from, so that few lines cross.
    right = sorted(set(targets.values()), key=lambda node: (node == "others", middle(node), node))
    row, size, between = 28, 6.65, 180

    def label(node: str, nodes: Mapping[str, str]) -> str:
        if depth == 5:
            return _cut(node, 48)
        return f"{_cut(node, 36)}{'' if node == 'others' else ':…'} ({list(nodes.values()).count(node):,})"

    labels = [{node: label(node, nodes) for node in set(nodes.values())} for nodes in (owners, targets)]
    wide = [max(14, *map(len, texts.values())) * size + 20 for texts in labels]
    rows = max(len(left), len(right))
    height, width = rows * row + 30, wide[0] + between + wide[1] + 4

    def y(nodes: Sequence[str], node: str) -> float:
        return 26 + (rows - len(nodes)) * row / 2 + nodes.index(node) * row + row / 2

    parts = [f'<text class="head" x="2" y="14">owner</text><text class="head" x="{wide[0] + between + 2:.0f}" y="14">']
    parts.append("may be used by</text>")
    # What reaches furthest is drawn last, so over the others.
    order = {reach: number for number, reach in enumerate(REACH)}
    for (owner, target), grants in sorted(
        lines.items(), key=lambda line: (max(order[_reach(grant)] for grant in line[1]), line[0])
    ):
        reach = max((_reach(grant) for grant in grants), key=order.__getitem__)
        permissions = sorted({permission for grant in grants for permission in grant["permissions"]})
        title = f"{owner} → {target}: {_count(len(grants), 'grant')}, {', '.join(permissions)}"
        y1, y2, x1, x2 = y(left, owner), y(right, target), wide[0] + 2, wide[0] + between + 2
        bend = f"{(x1 + x2) / 2:.1f} {y1:.1f} {(x1 + x2) / 2:.1f} {y2:.1f}"
        parts.append(
            f'<g class="grant"><title>{_text(title)}</title><path class="{reach}" '
            f'stroke-width="{min(1.5 + math.log2(len(grants)), 8):.1f}" '
            f'd="M{x1:.1f} {y1:.1f}C{bend} {x2:.1f} {y2:.1f}"/></g>'
        )
    for nodes, texts, x, box in (
        (left, labels[0], 2.0, wide[0]),
        (right, labels[1], wide[0] + between + 2, wide[1]),
    ):
        for node in nodes:
            parts.append(
                f'<g class="node"><title>{_text(node)}</title><rect x="{x:.1f}" y="{y(nodes, node) - 11:.1f}" '
                f'width="{box:.1f}" height="22" rx="4"/>'
                f'<text x="{x + 10:.1f}" y="{y(nodes, node) + 4:.1f}">{_text(texts[node])}</text></g>'
            )
    counts = Counter(map(_reach, shares))
    legend = "".join(
        f'<li><span class="swatch {reach}"></span>{text} <span class="none">{counts[reach]:,}</span></li>'
        for reach, text in REACH.items()
    )
    levels = ("organisation", "server", "project", "environment")
    grouped = "" if depth == 5 else f", drawn by {levels[depth - 1]}"
    tenants = len({share["owner"] for share in shares}), len({share["target"] for share in shares})
    return (
        f"<p>{_count(len(shares), 'grant')} of {_count(tenants[0], 'tenant')} to {_count(tenants[1], 'target')}"
        f"{grouped}; * is any. A line's width tells of how many.</p>"
        f'<div class="scroll"><svg role="img" aria-label="Who may use whose models" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">{"".join(parts)}</svg></div>'
        f'<ul class="legend">{legend}</ul>'
        + _folded("As a table", len(shares), _table("shares", shares), printed=False)
    )


# The page


def status(sections: Mapping[str, Any], attacks: Mapping[str, str] | None) -> str:
    """The worst of all controls, the verification of the log, and the attack suite where it was given."""
    found = [row["status"] for row in sections["controls"]] or ["unknown"]
    found.append("passed" if sections["audit"]["verified"] else "failed")
    found += [RESULTS[result] for result in (attacks or {}).values()]
    worst: str = max(found, key=STATUSES.index)
    return worst


def _audit(audit: Row, checkpoints: Sequence[Row]) -> str:
    state = "passed" if audit["verified"] else "failed"
    text = "Every leaf, seal and checkpoint was recomputed" if audit["verified"] else "It does not verify"
    problem = "".join(
        f" {label}: <code>{_cell(audit.get(name))}</code>."
        for name, label in (("problem", "Problem"), ("isolation_key", "Tenant"), ("event_id", "Event"))
        if audit.get(name)
    )
    newest = [{**row, "created_at": _time(row["created_at"])} for row in reversed(checkpoints)]
    last = (
        f"<p>Newest checkpoint: number {newest[0]['checkpoint_number']:,}, {newest[0]['created_at']}, hash "
        f"<code>{_text(newest[0]['checkpoint_hash'])}</code></p>"
        if newest
        else "<p>There is no checkpoint yet.</p>"
    )
    return (
        f"<p>{_badge(state)} {text}: {_count(audit['events'], 'event')}, {_count(audit['seals'], 'seal')}, "
        f"{_count(audit['checkpoints'], 'checkpoint')}.{problem} Not sealed yet, so nothing is proved about it: "
        f"{_count(audit['pending'], 'event')}.</p>{last}"
        f"{_folded('Checkpoints, the newest first', len(newest), _table('checkpoints', newest))}"
    )


def _verify(public_key: bytes | None) -> str:
    signed = (
        "<p>The manifest is signed, with the Ed25519 key <code>"
        + public_key.hex()
        + "</code>. Compare it with the key that you were given by another way; do not take it from here. The same "
        "with OpenSSL:</p><pre>openssl pkeyutl -verify -pubin -inkey KEY.pem -rawin -in manifest.json "
        "-sigfile manifest.sig</pre>"
        if public_key
        else "<p>The manifest is not signed: compare its sha256 with the one that you were given by another way.</p>"
    )
    key, signature = (" --public-key KEY", ", its signature") if public_key else ("", "")
    return (
        "<ol><li>Take <code>verifier.py</code> from the release, not from whoever gave you this folder. It is one file "
        "and needs Python 3.11 alone.</li>"
        f"<li><pre>python verifier.py FOLDER{key} --checkpoint HASH</pre>"
        "HASH is the hash of any checkpoint that was kept outside the database: it shows that the log up to it was not "
        f"written anew. Verified are the files against manifest.json{signature}, and the chain of checkpoints.</li>"
        "<li>An exported log or the certificate of an erasure is verified in the same way: "
        "<pre>python verifier.py FILE --checkpoint HASH</pre></li>"
        "<li>Run the query of any control yourself, as a login that may read the catalog. <code>pydb evidence</code> "
        "writes the same bytes as long as nothing has changed.</li></ol>" + signed
    )


def render(sections: Mapping[str, Any], attacks: Mapping[str, str] | None, public_key: bytes | None) -> str:
    """The page. sections, attacks: as pydb.evidence has them. public_key: that signs the manifest, 32 bytes."""
    template = files(__package__).joinpath("evidence.html").read_text("utf-8")
    (style,) = re.findall("<style>(.*?)</style>", template, re.DOTALL)
    worst = status(sections, attacks)
    counts = Counter(row["status"] for row in sections["controls"])
    release = sections["release"]
    lists = "".join(
        _folded(title, len(sections[name]), _table(name, sections[name]))
        for name, title in (
            ("roles", "Roles"),
            ("policies", "Policies"),
            ("rights", "Rights"),
            ("functions", "Functions"),
            ("triggers", "Triggers"),
            ("authorizations", "Authorisations of logins"),
            ("signing_keys", "Keys that sign tokens"),
        )
    )
    settings = "".join(
        f"<tr><td>{_text(name)}</td><td>{_cell(value)}</td></tr>"
        for name, value in sorted(sections["settings"].items())
    )
    lists += _folded("Settings", len(sections["settings"]), f"<table><tbody>{settings}</tbody></table>")
    return Template(template).substitute(
        style_hash=base64.b64encode(sha256(style.encode()).digest()).decode(),
        database=_text(release["database"]),
        as_of=_as_of(sections["checkpoints"]),
        version=_text(release["version"]),
        server=_text(release["server_version"]),
        status=worst,
        badge=_badge(worst),
        counts=", ".join(f"{counts[state]:,} {state}" for state in reversed(STATUSES) if counts[state]) or "none",
        count=_count(len(sections["controls"]), "control"),
        controls=_controls(sections["controls"]) if sections["controls"] else "<p>None was checked.</p>",
        attacks=_attacks(attacks),
        audit=_audit(sections["audit"], sections["checkpoints"]),
        events=_events(sections["events"]),
        graph=_graph(sections["shares"]),
        retention=_table("retention", sections["retention"]),
        erasures=_table("erasures", sections["erasures"]),
        lists=lists,
        verify=_verify(public_key),
    )
