"""The picture of grants: well-formed, complete, safe, and readable at any size."""

from __future__ import annotations

import random
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from uuid import UUID

import pytest

from pydb.calls import Grant
from pydb.graph import draw_shares
from tests.conftest import Database

ME = "acme:mcp-1:shop:production:abc123"
SVG = "{http://www.w3.org/2000/svg}"
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def key(server: str = "mcp-1", org: str = "acme", code: str = "abc123") -> str:
    return f"{org}:{server}:shop:production:{code}"


def grant(
    number: int,
    target: str,
    permissions: tuple[str, ...] = ("read",),
    *,
    by: str = ME,
    owner: str = ME,
    model: str = "m",
    version: int | None = None,
    days: int | None = None,
    parent: int | None = None,
) -> Grant:
    end = None if days is None else NOW + timedelta(days=days)
    return Grant(
        UUID(int=number),
        model,
        owner,
        by,
        target,
        list(permissions),
        version,
        end,
        NOW,
        "active",
        None if parent is None else UUID(int=parent),
    )


def many(count: int) -> tuple[list[Grant], list[Grant]]:
    """Grants of all kinds: given, passed on by others and by me, received directly and passed on."""
    rng = random.Random(count)
    given, received = [], []
    for number in range(count):
        kind = rng.choice(["given", "given", "given", "derived", "received", "passed on"])
        other, owner = key(f"mcp-{rng.randint(2, 30)}"), key(f"mcp-{rng.randint(31, 35)}")
        target = key(rng.choice([f"mcp-{rng.randint(2, 30)}", "*"]), rng.choice(["acme", "*", "o" * 63]), "f" * 63)
        permissions = rng.sample(["read", "execute", "write", "share"], rng.randint(1, 4))
        model = rng.choice(["m", "classifier", "日本語のモデル" * 30, "n" * 255])
        more = {"model": model, "version": rng.choice([None, 9223372036854775807]), "days": rng.choice([None, 30])}
        if kind == "given":
            given.append(grant(number, target, (*permissions, "share"), **more))
        elif kind == "derived":
            given.append(grant(number, target, ("read",), by=other, **more))
        else:
            by = owner if kind == "received" else other
            received.append(grant(number, rng.choice([ME, key("*")]), (*permissions,), by=by, owner=owner, **more))
            if kind == "passed on":
                given.append(grant(number + count, other, ("read",), owner=owner, **more))
    return given, received


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def drawn(svg: str) -> list[tuple[str, list[str]]]:
    """(tooltip, labels) of each grant."""
    groups = ElementTree.fromstring(svg).iterfind(f".//{SVG}g[@class='grant']")
    return [
        (group.findtext(f"{SVG}title") or "", [text.text or "" for text in group.iter(f"{SVG}text")])
        for group in groups
    ]


def extents(svg: str) -> Iterator[tuple[float, float, float, float, str]]:
    """Left, top, right, bottom and content of each text; a character is 0.602 of its size wide, or twice that."""
    for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        text = element.text or ""
        size, x, y = (float(element.attrib[name]) for name in ("font-size", "x", "y"))
        cells = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
        yield x, y - 0.8 * size, x + 0.602 * size * cells, y + 0.25 * size, text


@pytest.mark.parametrize("count", [0, 1, 2, 20, 100, 400])
def test_no_text_covers_another_or_leaves_the_picture(count: int) -> None:
    svg = draw_shares(ME, *many(count))
    root = ElementTree.fromstring(svg)
    boxes = list(extents(svg))
    assert len(boxes) > count
    for left, top, right, bottom, text in boxes:
        assert left >= 0, text
        assert top >= 0, text
        assert right <= float(root.attrib["width"]), text
        assert bottom <= float(root.attrib["height"]), text
    for one, other in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)


@pytest.mark.parametrize("count", [1, 20, 100])
def test_names_stay_in_their_boxes_and_boxes_apart(count: int) -> None:
    root = ElementTree.fromstring(draw_shares(ME, *many(count)))
    boxes = []
    for group in root.iterfind(f"{SVG}g"):
        rectangle = group.find(f"{SVG}rect")
        if rectangle is None:
            continue
        x, y, width, height = (float(rectangle.attrib[name]) for name in ("x", "y", "width", "height"))
        boxes.append((x, y, x + width, y + height))
        for left, top, right, bottom, text in extents(ElementTree.tostring(group, "unicode")):
            assert x < left, text
            assert y < top, text
            assert right < x + width, text
            assert bottom < y + height, text
    for one, other in combinations(boxes, 2):
        assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
    # Nor does a label lie on a box.
    for group in root.iterfind(f".//{SVG}g[@class='grant']"):
        for left, top, right, bottom, text in extents(ElementTree.tostring(group, "unicode")):
            for box in boxes:
                assert right <= box[0] or box[2] <= left or bottom <= box[1] or box[3] <= top, text


@pytest.mark.parametrize("count", [0, 1, 20, 100])
def test_each_grant_is_drawn_once_with_what_it_says(count: int) -> None:
    given, received = many(count)
    shown = drawn(draw_shares(ME, given, received))
    assert len(shown) == len(given) + len(received)
    for each in (*given, *received):
        ((title, labels),) = [(title, labels) for title, labels in shown if str(each.share_id) in title]
        assert f"to {each.target}\n" in title
        assert f"shared by {each.shared_by}\n" in title
        assert f"of {each.owner_key}\n" in title
        assert set(labels[0].split(" (")[0].split(", ")) == set(each.permissions)
        assert (f"(version {each.version} only)" in labels[0]) == (each.version is not None)
        assert any("until 2030-01-31 00:00 UTC" in label for label in labels) == (each.expires_at is not None)


def test_nothing_shared_is_said() -> None:
    assert "nothing is shared, by this tenant or with it" in texts(draw_shares(ME, [], []))
    assert "nothing is shared, by this tenant or with it" not in texts(draw_shares(ME, [grant(1, key("mcp-2"))], []))


def place(svg: str, text: str) -> float:
    """Left end of the only text that reads so."""
    (left,) = [left for left, _, _, _, found in extents(svg) if found == text]
    return left


def test_levels_like_mine_are_dots() -> None:
    given = [grant(1, "globex:*:shop:production:0123456789abcdef"), grant(2, key("mcp-2"))]
    shown = texts(draw_shares(ME, given, []))
    assert "globex:*:·:·:0123456789a…" in shown
    assert "·:mcp-2:·:·:·" in shown


def test_who_shares_stands_left_and_who_receives_right() -> None:
    received = [grant(1, ME, by=key("mcp-9"), owner=key("mcp-9"), model="foreign")]
    svg = draw_shares(ME, [grant(2, key("mcp-2"), model="mine")], received)
    assert place(svg, "·:mcp-9:·:·:·") < place(svg, "foreign") == place(svg, "mine") < place(svg, "·:mcp-2:·:·:·")


def test_a_chain_starts_at_who_passed_it_on() -> None:
    both = ("read", "share")
    given = [
        grant(1, key("mcp-2"), both),
        grant(2, key("mcp-3"), both, by=key("mcp-2"), parent=1),
        grant(3, key("mcp-4"), by=key("mcp-3"), parent=2),
    ]
    svg = draw_shares(ME, given[::-1], [])
    steps = [place(svg, f"·:mcp-{number}:·:·:·") for number in (2, 3, 4)]
    assert steps == sorted(set(steps))


def test_who_passed_on_what_a_wide_grant_gave_has_a_box() -> None:
    given = [
        grant(1, key("mcp-2")),
        grant(2, key("*"), ("read", "share")),
        grant(3, key("mcp-3"), by=key("mcp-7"), parent=2),
        grant(4, key("mcp-4"), by=key("mcp-7"), parent=2),
    ]
    svg = draw_shares(ME, given, [])
    assert place(svg, "·:*:·:·:·") < place(svg, "·:mcp-7:·:·:·") < place(svg, "·:mcp-3:·:·:·")
    assert place(svg, "·:mcp-3:·:·:·") == place(svg, "·:mcp-4:·:·:·")


def test_a_chain_starts_at_the_grant_it_was_passed_on_from() -> None:
    """mcp-7 was named, but what it passed on it has from the wide grant."""
    given = [
        grant(1, key("mcp-7"), ("read", "share")),
        grant(2, key("*"), ("read", "share")),
        grant(3, key("mcp-3"), by=key("mcp-7"), parent=2),
    ]
    svg = draw_shares(ME, given, [])
    named, passed_on = sorted(left for left, _, _, _, text in extents(svg) if text == "·:mcp-7:·:·:·")
    assert named == place(svg, "·:*:·:·:·") < passed_on < place(svg, "·:mcp-3:·:·:·")


@pytest.mark.parametrize(
    ("permissions", "colour"),
    [
        (("read",), "#0072b2"),
        (("execute", "read"), "#009e73"),
        (("execute", "read", "write"), "#d55e00"),
        (("execute", "read", "share", "write"), "#cc79a7"),
    ],
)
def test_a_line_has_the_colour_of_its_furthest_permission_and_dashes_if_it_ends(
    permissions: tuple[str, ...], colour: str
) -> None:
    for days in (None, 1):
        svg = draw_shares(ME, [grant(1, key("mcp-2"), permissions, days=days)], [])
        line = ElementTree.fromstring(svg).find(f".//{SVG}g[@class='grant']/{SVG}path")
        assert line is not None
        assert line.attrib["stroke"] == colour
        assert ("stroke-dasharray" in line.attrib) == (days is not None)


def test_what_i_passed_on_starts_at_the_model_i_received() -> None:
    owner, middle = key("mcp-9"), key("mcp-8")
    received = [grant(1, key("*"), ("read", "share"), by=middle, owner=owner)]
    svg = draw_shares(ME, [grant(2, key("mcp-2"), owner=owner)], received)
    chain = ["·:mcp-9:·:·:·", "·:mcp-8:·:·:·", "m", "·:mcp-2:·:·:·"]
    assert [place(svg, text) for text in chain] == sorted(place(svg, text) for text in chain)
    assert "of ·:mcp-9:·:·:·" in texts(svg)
    assert "to ·:*:·:·:·" in texts(svg)


def test_what_comes_back_to_me_is_drawn_once() -> None:
    """A grant of mine that covers me too is in both lists."""
    mine = grant(2, key("*"), owner=key("mcp-9"))
    received = [grant(1, ME, ("read", "share"), by=key("mcp-9"), owner=key("mcp-9")), mine]
    assert len(drawn(draw_shares(ME, [mine], received))) == 2


def test_what_was_declined_is_not_drawn() -> None:
    mine, theirs = grant(1, key("mcp-2")), grant(2, ME, by=key("mcp-3"), owner=key("mcp-3"))
    assert len(drawn(draw_shares(ME, [mine], [theirs]))) == 2
    assert drawn(draw_shares(ME, [replace(mine, state="declined")], [replace(theirs, state="declined")])) == []
    assert len(drawn(draw_shares(ME, [replace(mine, state="partly declined")], []))) == 1


def test_grants_whose_origin_is_gone_are_drawn_all_the_same() -> None:
    """The two lists are loaded one after the other."""
    given = [grant(1, key("mcp-3"), by=key("mcp-2")), grant(2, key("mcp-2"), by=key("mcp-3"))]
    assert len(drawn(draw_shares(ME, given, []))) == 2


HOSTILE = [
    "<script>alert(1)</script>",
    "]]><!--",
    "&amp;&lt;&",
    "\"quotes\" and 'quotes'",
    "日本語" * 85,
    "é" * 255,
    "\U0001f468\u200d\U0001f469" * 85,
    "\u202eright to left",
    "control \x01\x1b[31m\n\t",
    "\ufffe\uffff",
    " ",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name: str) -> None:
    svg = draw_shares(ME, [grant(1, key("mcp-2"), model=name)], [])
    root = ElementTree.fromstring(svg)  # well-formed
    assert {element.tag for element in root.iter()} == {
        f"{SVG}{tag}" for tag in ("svg", "title", "rect", "text", "path", "g")
    }
    names = {attribute for element in root.iter() for attribute in element.attrib}
    assert not any(attribute.startswith("on") or attribute.endswith("href") for attribute in names)
    assert "\u202e" not in svg
    ((title, _),) = drawn(svg)
    shown = "".join(
        "\ufffd" if kind[0] == "C" else " " if kind[0] == "Z" else character
        for character, kind in ((character, unicodedata.category(character)) for character in name)
    )
    assert title.startswith(f"model {shown}\nof {ME}\n")


def test_the_database_s_own_lists_can_be_drawn(database: Database) -> None:
    first, second, third = (database.storage(key(f"mcp-{number}")) for number in (1, 2, 3))
    for name in HOSTILE[:5]:
        first.save_ai_progress(name, 0.5)
        first.share_model(name, [{"server_id": "*"}], ["read", "share"])
        second.share_model(name, [{"server_id": "mcp-3"}], owner=ME)
    assert len(drawn(draw_shares(ME, first.list_shares(), first.list_received_shares()))) == 10
    svg = draw_shares(key("mcp-2"), second.list_shares(), second.list_received_shares())
    assert len(drawn(svg)) == 10
    svg = draw_shares(key("mcp-3"), third.list_shares(), third.list_received_shares())
    assert [labels[0] for _, labels in drawn(svg)] == ["read, share", "read"] * 5
