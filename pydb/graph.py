"""Draws the grants of one tenant as a picture: who reaches which of its models and how, and what reaches it.

Each grant is one row: a line with its permissions above and its end and version below. Sharers stand left of the
tenant's models, targets right of them; what a target passed on stands right of that target. So no line crosses
another, no label covers another, and a hundred grants make a long picture instead of a knot.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from xml.sax.saxutils import escape

from .calls import Grant

__all__ = ["draw_shares"]

# Okabe and Ito's colours, which colour-blind people can tell apart too; the text beside each line says the same.
COLOURS = {"read": "#0072b2", "execute": "#009e73", "write": "#d55e00", "share": "#cc79a7"}
INK, GREY, PALE = "#1f2933", "#6b7785", "#f3f5f7"
FONT = "'DejaVu Sans Mono', Menlo, Consolas, monospace"

# A character's width is known for a monospaced font only: 0.602 of its size, and twice that for wide characters.
ADVANCE = 0.602
TITLE, SIZE, SMALL = 15.0, 12.0, 10.5
ROW, BETWEEN = 44.0, 12.0
MARGIN, PADDING, TRUNK, ARROW = 24.0, 10.0, 16.0, 12.0
LEVEL_CELLS, NAME_CELLS = 12, 32


@dataclass(slots=True)
class _Node:
    """A box. grant: what the line from its parent stands for; None draws a dotted line. labels: above and below it."""

    lines: list[str]
    title: str
    grant: Grant | None = None
    labels: list[str] = field(default_factory=list)
    children: list[_Node] = field(default_factory=list)
    depth: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0

    @property
    def height(self) -> float:
        return 24.0 if len(self.lines) == 1 else 36.0

    def below(self) -> Iterator[_Node]:
        """All nodes that descend from this one."""
        for child in self.children:
            yield child
            yield from child.below()


# Texts


def _clean(text: str) -> str:
    """A name without what XML cannot hold, and without what moves or reverses the text around it. Keys need none."""
    kinds = ((character, unicodedata.category(character)) for character in text)
    return "".join("\ufffd" if kind[0] == "C" else " " if kind[0] == "Z" else character for character, kind in kinds)


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _cut(text: str, cells: int) -> str:
    """At most that many cells wide, with an ellipsis for what is left out."""
    text = _clean(text)
    if _cells(text) <= cells:
        return text
    while _cells(text) > cells - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def _short(key: str, me: str) -> str:
    """A key or target with a dot for each level that is mine."""
    pairs = zip(key.split(":"), me.split(":"), strict=True)
    return ":".join("·" if level == mine else _cut(level, LEVEL_CELLS) for level, mine in pairs)


def _end(grant: Grant) -> str:
    assert grant.expires_at is not None
    return f"{grant.expires_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _permissions(grant: Grant) -> str:
    return ", ".join(permission for permission in COLOURS if permission in grant.permissions)


def _labels(grant: Grant, target: str | None = None) -> list[str]:
    """What stands above and below a line. target: to be said, because the line leads to my own box."""
    above = _permissions(grant) + ("" if grant.version is None else f" (version {grant.version} only)")
    below = ([f"to {target}"] if target else []) + ([f"until {_end(grant)}"] if grant.expires_at else [])
    return [above, ", ".join(below)]


def _describe(grant: Grant) -> str:
    return "\n".join(
        [
            f"model {_clean(grant.model_name)}",
            f"of {grant.owner_key}",
            f"shared by {grant.shared_by}",
            f"to {grant.target}",
            f"permissions: {_permissions(grant)}",
            f"version: {'all' if grant.version is None else f'{grant.version} only'}",
            f"end: {'none' if grant.expires_at is None else _end(grant)}",
            f"grant {grant.share_id}",
        ]
    )


# Trees of grants


def _pass_on(model: _Node, given: Sequence[Grant], me: str) -> None:
    """Hang the grants on one model under it: mine, then each below the one that it was passed on from."""
    nodes = {grant.share_id: _Node([_short(grant.target, me)], grant.target, grant, _labels(grant)) for grant in given}

    def sharer(parent: _Node, grant: Grant) -> _Node:
        """The node that a grant starts at: its parent, or one beside it for the sharer that the parent covers."""
        if parent.title == grant.shared_by:
            return parent
        for child in parent.children:
            if child.grant is None and child.title == grant.shared_by:
                return child
        parent.children.append(_Node([_short(grant.shared_by, me)], grant.shared_by))
        return parent.children[-1]

    for grant in given:
        parent = nodes.get(grant.parent_id) if grant.parent_id else None
        if grant.shared_by == me:
            model.children.append(nodes[grant.share_id])
        else:
            # Its parent is not there when the lists were loaded at different times.
            sharer(parent or model, grant).children.append(nodes[grant.share_id])


def _models(me: str, given: Sequence[Grant], received: Sequence[Grant]) -> list[tuple[_Node, _Node]]:
    """One pair per model, the same box as root of what goes out (right) and of what comes in (left)."""
    known = {grant.share_id for grant in given}
    # What I passed on may cover me too. It is drawn once, as given.
    incoming = [grant for grant in received if grant.share_id not in known]
    names = {(grant.owner_key != me, grant.model_name, grant.owner_key) for grant in (*given, *incoming)}
    pairs = []
    for foreign, name, owner in sorted(names):
        lines = [_cut(name, NAME_CELLS), *([f"of {_short(owner, me)}"] if foreign else [])]
        title = f"model {_clean(name)}\nof {owner}"
        right, left = _Node(lines, title), _Node(lines, title)
        _pass_on(right, [grant for grant in given if (grant.model_name, grant.owner_key) == (name, owner)], me)
        for grant in incoming:
            if (grant.model_name, grant.owner_key) == (name, owner):
                wide = _short(grant.target, me) if grant.target != me else None
                node = _Node([_short(grant.shared_by, me)], grant.shared_by, grant, _labels(grant, wide))
                if grant.shared_by != owner:
                    node.children.append(_Node([_short(owner, me)], owner))
                left.children.append(node)
        pairs.append((right, left))
    return pairs


# Places


def _text_width(text: str, size: float = SIZE) -> float:
    return _cells(text) * size * ADVANCE


def _box_width(nodes: Sequence[_Node]) -> float:
    return max((_text_width(line) for node in nodes for line in node.lines), default=0.0) + 2 * PADDING


def _rows(node: _Node) -> int:
    return sum(_rows(child) for child in node.children) or 1


def _place_rows(node: _Node, top: float, depth: int = 0) -> None:
    """Give each leaf a row of its own, from top on, and each parent the middle of its children."""
    node.depth = depth
    node.y = top
    for child in node.children:
        _place_rows(child, top, depth + 1)
        top += _rows(child) * ROW
    if node.children:
        node.y = (node.children[0].y + node.children[-1].y) / 2


def _place_columns(roots: Sequence[_Node], edge: float, side: int) -> list[float]:
    """Give the nodes of each depth one column, from the edge of my box to one side.

    Returns: where each column's boxes end, seen from me.
    """
    ends = []
    nodes = [node for root in roots for node in root.below()]
    for depth in range(1, max((node.depth for node in nodes), default=0) + 1):
        column = [node for node in nodes if node.depth == depth]
        labels = max((_text_width(label, SMALL) for node in column for label in node.labels), default=0.0)
        width = _box_width(column)
        start = edge + side * (TRUNK + 8 + labels + 8 + ARROW)
        edge = start + side * width
        for node in column:
            node.width, node.x = width, min(start, edge)
        ends.append(edge)
    return ends


# SVG


def _text(x: float, y: float, text: str, *, size: float = SIZE, fill: str = INK, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    # The width is that of a monospaced font. A character the font lacks comes from another one: it is fitted in.
    fit = "" if text.isascii() else f' textLength="{_text_width(text, size):.1f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}"{weight}{fit}>{escape(text)}</text>'


def _box(node: _Node, *, fill: str = "#ffffff", bold: bool = False) -> str:
    top = node.y - node.height / 2
    lines = [_text(node.x + PADDING, top + 16, node.lines[0], bold=bold)]
    lines += [_text(node.x + PADDING, top + 30, line, size=SMALL, fill=GREY) for line in node.lines[1:]]
    return (
        f"<g><title>{escape(node.title)}</title>"
        f'<rect x="{node.x:.1f}" y="{top:.1f}" width="{node.width:.1f}" height="{node.height:.1f}" rx="5" '
        f'fill="{fill}" stroke="{GREY}"/>{"".join(lines)}</g>'
    )


def _colour(grant: Grant) -> str:
    return next((COLOURS[permission] for permission in reversed(COLOURS) if permission in grant.permissions), GREY)


def _arrow(x: float, y: float, colour: str) -> str:
    return f'<path d="M{x - 9:.1f} {y - 4.5:.1f}L{x:.1f} {y:.1f}L{x - 9:.1f} {y + 4.5:.1f}Z" fill="{colour}"/>'


def _line(start: float, end: float, y: float, colour: str, dashes: str = "", width: float = 2) -> str:
    style = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="M{start:.1f} {y:.1f}H{end:.1f}" stroke="{colour}" stroke-width="{width}"{style}/>'


def _lines(parent: _Node, edge: float, side: int) -> Iterator[str]:
    """The lines between one node and its children. edge: where the parent's column ends on that side."""
    if not parent.children:
        return
    trunk = edge + side * TRUNK
    start = parent.x + parent.width if side > 0 else parent.x
    heights = [child.y for child in parent.children]
    yield (
        f'<path d="M{start:.1f} {parent.y:.1f}H{trunk:.1f}M{trunk:.1f} {min(*heights, parent.y):.1f}'
        f'V{max(*heights, parent.y):.1f}" stroke="{GREY}" stroke-width="1.5" fill="none"/>'
    )
    if side < 0 and parent.depth == 0:
        yield _arrow(start, parent.y, GREY)
    for child in parent.children:
        left, right = (trunk, child.x) if side > 0 else (child.x + child.width, trunk)
        if child.grant is None:
            yield _line(left, right, child.y, GREY, "1.5 3.5", 1.5)
            continue
        colour = _colour(child.grant)
        dashes = "7 4" if child.grant.expires_at else ""
        yield f'<g class="grant"><title>{escape(_describe(child.grant))}</title>'
        yield _line(left, right - (6 if side > 0 else 0), child.y, colour, dashes)
        if side > 0:
            yield _arrow(right, child.y, colour)
        for label, drop in zip(child.labels, (-5.0, 13.0), strict=True):
            if label:
                yield _text(left + 8, child.y + drop, label, size=SMALL)
        yield "</g>"


def _legend(y: float) -> tuple[list[str], float]:
    """Three rows below the picture, and how far they reach to the right."""
    samples = [(permission, colour, "") for permission, colour in COLOURS.items()]
    dashes = [("ends by itself", GREY, "7 4"), ("how a model came to who passed it on", GREY, "1.5 3.5")]
    notes = (
        "colour: the furthest permission of a grant",
        "",
        "key: org:server:project:env:code (· same level as mine, * any)",
    )
    parts = []
    reach = 0.0
    for number, (row, note) in enumerate(zip((samples, dashes, []), notes, strict=True)):
        x = MARGIN
        for text, colour, dash in row:
            parts.append(_line(x, x + 24, y + 20 * number - 4, colour, dash))
            parts.append(_text(x + 30, y + 20 * number, text, size=SMALL))
            x += 30 + _text_width(text, SMALL) + 18
        if note:
            parts.append(_text(x, y + 20 * number, note, size=SMALL, fill=GREY))
        reach = max(reach, x + _text_width(note, SMALL))
    return parts, reach


def draw_shares(me: str, given: Sequence[Grant], received: Sequence[Grant]) -> str:
    """Draw who can reach which models of a tenant, and what reaches it.

    me: its isolation key. given, received: what list_shares and list_received_shares return for it.
    Returns: an SVG document that refers to nothing outside itself.
    """
    # What was declined reaches nobody.
    given, received = ([grant for grant in grants if grant.state != "declined"] for grants in (given, received))
    pairs = _models(me, given, received)
    nothing = "" if pairs else "nothing is shared, by this tenant or with it"
    heading = "Models shared by and with " + ":".join(_cut(level, 2 * LEVEL_CELLS) for level in me.split(":"))

    row = top = MARGIN + 84
    for pair in pairs:
        rows = max(_rows(root) for root in pair)
        for root in pair:
            _place_rows(root, row + (rows - _rows(root)) * ROW / 2)
            root.y = row + (rows - 1) * ROW / 2  # both halves are one box
        row += rows * ROW + BETWEEN
    bottom = max(row - BETWEEN, top + ROW) - ROW / 2

    width = max(_box_width([root for pair in pairs for root in pair]), _text_width(nothing) + 2 * PADDING, 120.0)
    rights, lefts = [right for right, _ in pairs], [left for _, left in pairs]
    right_ends = [width + PADDING, *_place_columns(rights, width + PADDING, 1)]
    left_ends = [-PADDING, *_place_columns(lefts, -PADDING, -1)]
    shift = MARGIN - left_ends[-1]
    for root in (*rights, *lefts):
        root.width = width
        for node in (root, *root.below()):
            node.x += shift

    parts = [_box(right, bold=True) for right in rights]
    for roots, ends, side in ((rights, right_ends, 1), (lefts, left_ends, -1)):
        for root in roots:
            for node in (root, *root.below()):
                parts += _lines(node, ends[node.depth] + shift, side)
            parts += [_box(node) for node in root.below()]
    y = top - ROW / 2 - 24
    parts.append(_text(shift, y, "me, with my models", size=SMALL, fill=GREY))
    for roots, text in ((lefts, "shared with me by"), (rights, "shared with")):
        child = next((child for root in roots for child in root.children), None)
        if child:
            parts.append(_text(child.x, y, text, size=SMALL, fill=GREY))
    if nothing:
        parts.append(_text(shift + PADDING, top + 4, nothing, fill=GREY))
    legend, legend_width = _legend(bottom + 44)
    full_width = max(right_ends[-1] + shift, MARGIN + _text_width(heading, TITLE), legend_width) + MARGIN
    height = bottom + 44 + 40 + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{full_width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {full_width:.0f} {height:.0f}" font-family="{FONT}">',
            f"<title>{escape(heading)}</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            _text(MARGIN, MARGIN + 14, heading, size=TITLE, bold=True),
            f'<rect x="{shift - PADDING:.1f}" y="{top - ROW / 2 - 10:.1f}" width="{width + 2 * PADDING:.1f}" '
            f'height="{bottom - top + ROW / 2 + 20:.1f}" rx="8" fill="{PALE}"/>',
            *parts,
            *legend,
            "</svg>\n",
        ]
    )
