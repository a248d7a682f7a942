"""The folder of evidence: its bytes, its page in a real browser, and its verification; and certificates of erasures."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256, sha512
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pydb import cli, evidence, evidence_page, verifier
from pydb.verifier import ed25519_verify, read_public_key, verify_certificate, verify_evidence
from tests import servers
from tests.conftest import Database
from tests.helpers import ACME, BETA, Connection, call, save, value

ZEROS = "0" * 64


def checkpoints(count: int) -> list[dict[str, Any]]:
    """A chain of checkpoints, as create_checkpoint() makes it."""
    chain: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        root = sha256(f"root {number}".encode()).hexdigest()
        previous = chain[-1]["checkpoint_hash"] if chain else ZEROS
        created_at = 1_790_000_000_000_000 + number * 86_400_000_000
        chain.append(
            {
                "kind": "checkpoint",
                "checkpoint_number": number,
                "created_at": created_at,
                "root": root,
                "previous_hash": previous,
                "checkpoint_hash": verifier._text_hash("checkpoint", number, created_at, root, previous),
            }
        )
    return chain


def shares(count: int) -> list[dict[str, Any]]:
    """Grants within an organisation, to another one, and to anybody."""
    grants = []
    for number in range(count):
        org = ("acme", "beta", "gamma")[number % 3]
        target = (f"{org}:mcp-2", f"{org}:*", "delta:mcp-1", "*:*")[number * 7 // 3 % 4]
        grants.append(
            {
                "owner": f"{org}:mcp-{number // 3}:shop:production:abc{number % 5}",
                "target": f"{target}:shop:production:abc{number % 5}",
                "permissions": ["read", "write"][: 1 + number % 2],
                "models": 1 + number % 4,
                "expires_at": None if number % 3 else "2027-01-31T12:00:00.000000Z",
            }
        )
    return grants


def events(days: int) -> list[dict[str, Any]]:
    kinds = {"save model": 40, "read model": 25, "delete model": 3, "insert tenant": 2, "insert model_share": 5}
    kinds |= {"erase tenant": 1, "update ai_progress_tenant": 1, "refuse credentials": 4}
    return [
        {
            "day": str(date(2026, 9, 1) + timedelta(days=day)),
            "action": action,
            "events": 1 + (day * 7 + size) % (size * 3),
        }
        for day in range(days)
        for action, size in sorted(kinds.items())
        if (day + size) % 5
    ]


def sections(*, days: int = 60, grants: int = 10, chain: int = 3) -> dict[str, Any]:
    """What collect_evidence() returns, in its shape."""
    return {
        "release": {
            "database": "app",
            "version": "0.1.0",
            "server_version": "18.6",
            "migrations": ["0001_tenant.sql", "0002_progress.sql"],
        },
        "controls": [
            {
                "control": "Row level security is forced on every table",
                "reference": "SOC 2 CC6.1, ISO 27001 A.8.3",
                "status": "passed",
                "result": "14 of 14 tables",
                "evidence": "select count(*) filter (where relforcerowsecurity)\nfrom pg_catalog.pg_class",
            },
            {
                "control": "Applications have no right on a table",
                "reference": "SOC 2 CC6.3",
                "status": "failed",
                "result": "login acme_app may select from ai_storage_private.tenant",
                "evidence": "select grantee from information_schema.role_table_grants",
            },
            {
                "control": "A checkpoint was made within a day",
                "reference": "SOC 2 CC7.2, GDPR Art. 32",
                "status": "warning",
                "result": "the newest is 3 days old",
                "evidence": "select max(created_at) from ai_storage_private.audit_checkpoint",
            },
            {
                "control": "Connections are encrypted",
                "reference": "ISO 27001 A.8.24",
                "status": "unknown",
                "result": "this login may not see pg_stat_ssl",
                "evidence": "select ssl from pg_catalog.pg_stat_ssl",
            },
        ],
        "roles": [
            {
                "role": name,
                "can_login": name.endswith("app"),
                "superuser": False,
                "bypassrls": False,
                "createrole": False,
                "replication": False,
                "member_of": ["ai_storage_app"] if name.endswith("app") else [],
            }
            for name in ("acme_app", "ai_storage_app", "ai_storage_operator", "ai_storage_owner")
        ],
        "rights": [
            {"object": "function ai_storage.version()", "grantee": "ai_storage_app", "privileges": ["EXECUTE"]},
            {"object": "table ai_storage_private.tenant", "grantee": "acme_app", "privileges": ["SELECT"]},
        ],
        "policies": [
            {
                "table": "ai_storage_private.tenant",
                "policy": "own tenant",
                "roles": ["ai_storage_owner"],
                "command": "ALL",
                "using": "(tenant_id = ai_storage_private.context_tenant_id())",
                "check": None,
                "comment": "A tenant sees its own row.",
            }
        ],
        "triggers": [
            {
                "table": "ai_storage_private.tenant",
                "trigger": "record_change",
                "enabled": True,
                "definition": "CREATE TRIGGER record_change AFTER INSERT ON ai_storage_private.tenant FOR EACH ROW "
                "EXECUTE FUNCTION ai_storage_private.record_change()",
            }
        ],
        "functions": [
            {
                "function": "ai_storage.version()",
                "owner": "ai_storage_owner",
                "security_definer": False,
                "settings": ["search_path=pg_catalog, pg_temp"],
                "sha256": sha256(b"body").hexdigest(),
            }
        ],
        "settings": {"ssl": "off", "password_encryption": "scram-sha-256"},
        "authorizations": [{"login": "acme_app", "pattern": "acme:*:*:*:*", "token_only": True}],
        "signing_keys": [
            {"kid": "k1", "audience": "app", "created_at": "2026-09-01T00:00:00.000000Z", "retired_at": None}
        ],
        "audit": {
            "verified": True,
            "events": 12345,
            "seals": 678,
            "checkpoints": chain,
            "pending": 1,
            "isolation_key": None,
            "event_id": None,
            "problem": None,
        },
        "checkpoints": checkpoints(chain),
        "events": events(days),
        "shares": shares(grants),
        "retention": [{"pattern": "acme:*:*:*:*", "keep_versions": 10, "keep_for": "90 days"}],
        "erasures": [
            {
                "certificate_id": "5c6b1f0e-8f0c-4c0e-9d2b-6f2a3d1c0b9a",
                "erased_at": "2026-10-05T08:30:00.000000Z",
                "reason": "contract ended",
            }
        ],
    }


ATTACKS = {"tests.attacks.test_pool::test_a[direct]": "passed", "tests.attacks.test_pool::test_b": "skipped"}


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key as openssl makes it."""
    path = tmp_path_factory.mktemp("key") / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    return path


def written(folder: Path, **options: Any) -> dict[str, bytes]:
    """A folder of evidence, and its files."""
    files = evidence.build(sections(), **options)
    evidence.write(folder, files)
    return files


# The files


def test_the_same_state_gives_the_same_bytes(key_file: Path) -> None:
    def built(content: dict[str, Any]) -> dict[str, bytes]:
        return evidence.build(content, attacks=dict(ATTACKS), key=evidence.read_key(key_file))

    def turned(content: Any) -> Any:
        """The same, with the fields of each object in another order."""
        if isinstance(content, dict):
            return {name: turned(content[name]) for name in reversed(content)}
        return [turned(part) for part in content] if isinstance(content, list) else content

    first = built(sections())
    assert built(sections()) == first
    assert built(turned(sections())) == first
    assert set(first) == {
        *(f"{name}.json" for name in evidence.SECTIONS),
        "attacks.json",
        "index.html",
        "manifest.json",
        "manifest.sig",
        "public_key.pem",
    }
    for name, content in sections().items():
        text = first[f"{name}.json"].decode("ascii")
        assert json.loads(text) == content
        assert text.endswith("\n")


def test_the_manifest_holds_the_digest_of_every_file_by_name() -> None:
    files = evidence.build(sections())
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["files"] == {name: sha256(content).hexdigest() for name, content in files.items()}
    assert list(manifest["files"]) == sorted(files)
    assert manifest["attacks"] == "not given"
    assert b"attack suite were not given" in files["index.html"]
    assert json.loads(evidence.build(sections(), attacks=ATTACKS)["manifest.json"])["attacks"] == "attacks.json"


def test_the_attack_suite_is_read_from_its_junit_file(tmp_path: Path) -> None:
    path = tmp_path / "attacks.xml"
    path.write_text(
        '<testsuites><testsuite><testcase classname="t" name="good" time="0.1"/>'
        '<testcase classname="t" name="bad" time="0.1"><failure message="x">y</failure></testcase>'
        '<testcase classname="t" name="bad" time="0.1"><error message="x">y</error></testcase>'
        '<testcase classname="t" name="broken" time="0.1"><error message="x">y</error></testcase>'
        '<testcase classname="t" name="left"><skipped message="x"/></testcase></testsuite></testsuites>'
    )
    attacks = evidence.read_attacks(path)
    assert attacks == {"t::good": "passed", "t::bad": "failed", "t::broken": "error", "t::left": "skipped"}
    for text in ("", "<testsuites/>", "no xml"):
        path.write_text(text)
        with pytest.raises(evidence.EvidenceError):
            evidence.read_attacks(path)
    with pytest.raises(evidence.EvidenceError):
        evidence.read_attacks(tmp_path / "nothing.xml")


def test_a_file_that_holds_no_ed25519_key_is_refused(tmp_path: Path, key_file: Path) -> None:
    others = {"rsa": ["-algorithm", "rsa"], "locked": ["-algorithm", "ed25519", "-aes256", "-pass", "pass:secret"]}
    for name, options in others.items():
        subprocess.run(["openssl", "genpkey", *options, "-out", tmp_path / name], check=True, capture_output=True)
    (tmp_path / "text").write_text("hello")
    for name in ("rsa", "locked", "text", "nothing"):
        with pytest.raises(evidence.EvidenceError) as caught:
            evidence.read_key(tmp_path / name)
        assert caught.value.hint


def test_signing_without_cryptography_says_what_to_install(monkeypatch: pytest.MonkeyPatch, key_file: Path) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.ed25519", None)
    with pytest.raises(evidence.EvidenceError) as caught:
        evidence.read_key(key_file)
    assert "pip install 'tenant-ai-storage[identity]'" in caught.value.hint
    assert "pip install '.[identity]'" in caught.value.hint


# The folder


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_is_replaced_as_a_whole_and_left_alone_when_nothing_changed(tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    first = written(folder, attacks=ATTACKS)
    assert held(folder) == first
    before = folder.stat()
    written(folder, attacks=ATTACKS)
    assert folder.stat() == before
    second = written(folder)
    assert held(folder) == second
    assert "attacks.json" not in second
    assert [path.name for path in tmp_path.iterdir()] == ["evidence"]
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert written(link, attacks=ATTACKS) == held(folder)
    assert link.is_symlink()


def test_a_folder_with_anything_else_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    def noted(folder: Path) -> None:
        (folder / "notes.txt").write_text("mine")

    def edited(folder: Path) -> None:
        (folder / "roles.json").write_text("[]")

    def nested(folder: Path) -> None:
        (folder / "more").mkdir()

    def hidden(folder: Path) -> None:
        (folder / ".git").mkdir()

    def short(folder: Path) -> None:
        (folder / "roles.json").unlink()

    for change in (noted, edited, nested, hidden, short):
        folder = tmp_path / change.__name__
        written(folder)
        change(folder)
        before = sorted(folder.iterdir()), (folder / "index.html").read_bytes()
        with pytest.raises(evidence.EvidenceError) as caught:
            written(folder, attacks=ATTACKS)
        assert caught.value.hint
        assert (sorted(folder.iterdir()), (folder / "index.html").read_bytes()) == before
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(evidence.EvidenceError):
        written(file)
    assert file.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert written(tmp_path / "empty") == held(tmp_path / "empty")
    with pytest.raises(OSError, match="No such file"):
        written(tmp_path / "not there" / "folder")


def test_a_crash_leaves_no_half_of_a_folder_under_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(BaseException):
        pass

    def crashing(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash
            return real(*arguments, **options)

        return step

    for name, target in (("fsync", os), ("rename", Path), ("rmtree", evidence.shutil)):
        monkeypatch.setattr(target, name, crashing(getattr(target, name)))
    old, new = evidence.build(sections()), evidence.build(sections(), attacks=ATTACKS)
    seen = set()
    for begin in (None, old):
        for number in range(100):
            folder = tmp_path / f"{number} {begin is None}" / "evidence"
            folder.parent.mkdir()
            left = 1000
            if begin:
                evidence.write(folder, begin)
            left = number
            try:
                evidence.write(folder, new)
            except Crash:
                state = held(folder) if folder.exists() else None
                assert state in (None, begin, new)
                seen.add("none" if state is None else "old" if state == begin else "new")
                if begin and state is None:
                    # The next run brings back what was there, before anything else can go wrong.
                    left = 1
                    with pytest.raises(Crash):
                        evidence.write(folder, new)
                    assert held(folder) == begin
                left = 1000
                evidence.write(folder, new)
                assert held(folder) == new
                assert [path.name for path in folder.parent.iterdir()] == ["evidence"]
            else:
                assert held(folder) == new
                break
        assert number > len(new)
    assert seen == {"none", "old", "new"}


# The page, in a browser

HOSTILE = (
    "<script>document.title='pwned'</script><img src=\"http://{host}/text\" onerror=\"document.title='pwned'\">"
    "\"'><svg onload=\"document.title='pwned'\"><style>@import 'http://{host}/style'</style></title></pre>$status"
    "\u202e\u0000\ud800 --> ]]> &lt; é"
)


def hostile(content: Any, text: str, *, kept: tuple[str, ...] = ("status", "day")) -> Any:
    """The same with hostile texts: but for what the database itself makes of a few words and digits."""
    if isinstance(content, dict):
        return {name: part if name in kept else hostile(part, text) for name, part in content.items()}
    if isinstance(content, list):
        return [hostile(part, text) for part in content]
    return f"{content}{text}" if isinstance(content, str) else content


@pytest.fixture(scope="module")
def server_seen() -> Iterator[tuple[str, list[str]]]:
    """The address of a web server of our own, and what was asked of it."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


class Dom(HTMLParser):
    """What a browser made of a page: its elements, its texts by the element that holds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def classes(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.tags if name in (attributes.get("class") or "").split()]


def opened(page: str, folder: Path) -> Dom:
    """The page as the browser has it after it was loaded."""
    browser = servers.browser()
    assert browser is not None, "Chromium is not installed. Run `make servers` as root where apt is the way."
    file = folder / "page.html"
    file.write_text(page, "utf-8")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",  # there is none for root
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    return Dom(done.stdout)


def without_policy(page: str) -> str:
    """The page without the policy that forbids scripts and everything from outside."""
    found, count = re.subn("<meta http-equiv=[^>]*>", "", page)
    assert count == 1
    return found


def test_the_browser_shows_the_title_the_status_and_every_control(tmp_path: Path) -> None:
    content = sections()
    for attacks, status in ((None, "warning"), (ATTACKS, "warning"), ({"t::x": "failed"}, "failed")):
        content["controls"] = [row for row in sections()["controls"] if row["status"] != "failed"]
        dom = opened(evidence_page.render(content, attacks, None), tmp_path)
        assert dom.texts["title"][0] == f"Evidence of tenant isolation: {status}"
        assert status in (dom.classes("badge")[0]["class"] or "")
    content = sections()
    dom = opened(evidence_page.render(content, ATTACKS, bytes(32)), tmp_path)
    assert dom.texts["title"][0] == "Evidence of tenant isolation: failed"
    assert len(dom.classes("control")) == len(content["controls"])
    for row in content["controls"]:
        assert row["control"] in dom.texts["strong"]
        assert row["evidence"] in dom.texts["pre"]
        assert row["result"] in dom.texts["td"]
        assert row["reference"] in dom.texts["td"]
    assert [row["class"] for row in dom.classes("badge")][:5] == [
        f"badge {status}" for status in ("failed", "failed", "warning", "unknown", "passed")
    ]
    assert len(dom.classes("grant")) == len({(row["owner"], row["target"]) for row in content["shares"]})
    assert len(dom.classes("bar")) == 60


def test_the_page_tells_whoever_never_saw_such_a_database_what_it_is_about() -> None:
    content = sections()
    page = evidence_page.render(content, ATTACKS, None)
    number, created_at = (content["checkpoints"][-1][name] for name in ("checkpoint_number", "created_at"))
    time = f"{datetime.fromtimestamp(created_at / 10**6, UTC):%Y-%m-%dT%H:%M:%S}"
    assert re.search(rf"Database app as of checkpoint {number} \({time}\.\d{{6}}Z\); tenant-ai-storage 0\.1\.0", page)
    (about,) = re.findall('<section id="about">(.*?)</section>', page, re.DOTALL)
    for word in ("tenant", "passed", "warning", "failed", "unknown"):
        assert f"<strong>{word}</strong>" in about
    assert "nothing is proved about it: 1 event." in page
    assert "Database app without a checkpoint; " in evidence_page.render(content | {"checkpoints": []}, None, None)
    assert len(times_of(page)) > 3


def times_of(page: str) -> list[str]:
    """The times on a page, which have one form: in UTC, to the microsecond, and said so."""
    times = re.findall(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d[0-9:.+Z]*", page)
    assert [found for found in times if not re.fullmatch(r"[0-9-]{10}T[0-9:]{8}\.[0-9]{6}Z", found)] == []
    return times


def test_hostile_names_neither_run_nor_load_anything(tmp_path: Path, server_seen: tuple[str, list[str]]) -> None:
    host, seen = server_seen
    text = HOSTILE.replace("{host}", host)
    content = hostile(sections(days=2), text)
    content["settings"] = {text: text}
    content["erasures"][0][text] = text
    content["roles"][0][text] = {text: [text]}
    content["audit"] |= {"verified": False, "problem": text, "isolation_key": text, "event_id": text}
    page = evidence_page.render(content, {text: "failed", text + "x": "passed"}, bytes(32))

    plain = without_policy(page)
    # What is escaped is harmless without the policy too.
    for shown in (page, plain):
        dom = opened(shown, tmp_path)
        assert dom.texts["title"][0] == "Evidence of tenant isolation: failed"
        assert dom.classes("control"), "the page was cut short"
        assert [
            tag for tag, _ in dom.tags if tag in ("script", "img", "iframe", "object", "embed", "link", "base")
        ] == []
        assert sum(tag == "style" for tag, _ in dom.tags) == 1
        for tag, attributes in dom.tags:
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
            for name in ("src", "href", "xlink:href", "action", "data", "srcset", "style", "background"):
                assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        assert sum(text[:30] in part for part in dom.texts["td"]) > 10
        # What would turn or hide the text around it is written out.
        assert "\u202e" not in shown
        assert "\\u202e\\u0000\\ud800" in "".join(dom.texts["td"])
    assert seen == []

    # This test can fail: both happen where a text is not escaped, and neither under the policy.
    open_page = plain.replace("</main>", text.replace("\ud800", "") + "</main>")
    assert opened(open_page, tmp_path).texts["title"][0] == "pwned"
    assert set(seen) == {"/text", "/style"}
    seen.clear()
    guarded = page.replace("</main>", text.replace("\ud800", "") + "</main>")
    assert opened(guarded, tmp_path).texts["title"][0] == "Evidence of tenant isolation: failed"
    assert seen == []


def test_the_page_is_one_file_whose_policy_lets_its_own_style_in() -> None:
    page = evidence_page.render(sections(), None, None)
    (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    (allowed,) = re.findall("style-src 'sha256-([^']+)'", page)
    assert evidence_page.base64.b64decode(allowed) == sha256(style.encode()).digest()
    assert not re.search(r"url\(|@import|https?:|//", page.replace("<!DOCTYPE html>", ""))


@pytest.mark.parametrize("grants", [0, 1, 10, 1000])
def test_the_share_graph_holds_every_grant_in_a_picture_of_few_nodes(grants: int) -> None:
    dom = Dom(evidence_page._graph(shares(grants)))
    nodes = dom.classes("node")
    assert len(nodes) <= 2 * evidence_page.MOST_NODES
    text = "".join(dom.texts["p"])
    if not grants:
        assert text == "Nothing is shared."
        return
    assert f"{grants:,} grant" in text
    titles = [title for title in dom.texts["title"] if " → " in title]
    assert sum(int(re.search("([0-9,]+) grant", title)[1].replace(",", "")) for title in titles) == grants
    if grants <= 10:
        assert {title.split(": ")[0] for title in titles} == {f"{g['owner']} → {g['target']}" for g in shares(grants)}


def test_the_share_graph_keeps_the_largest_of_many_organisations() -> None:
    many = [
        {"owner": f"o{number % 90}:s:p:e:c", "target": f"t{number}:s:p:e:c", "permissions": ["read"], "models": 1}
        for number in range(1000)
    ]
    dom = Dom(evidence_page._graph(many))
    assert len(dom.classes("node")) == 2 * evidence_page.MOST_NODES
    assert "others" in dom.texts["title"]
    titles = [title for title in dom.texts["title"] if " → " in title]
    assert sum(int(re.search("([0-9,]+) grant", title)[1]) for title in titles) == 1000


@pytest.mark.parametrize(("days", "unit"), [(1, "day"), (92, "day"), (93, "week"), (700, "month"), (4000, "year")])
def test_events_are_counted_by_day_and_by_longer_times_when_there_are_many(days: int, unit: str) -> None:
    rows = events(days)
    dom = Dom(evidence_page._events(rows))
    total = sum(row["events"] for row in rows)
    assert f"{total:,} event" in dom.texts["p"][0]
    assert f"by {unit}." in dom.texts["p"][0]
    assert len(dom.classes("bar")) <= evidence_page.MOST_BARS
    counted = [count for title in dom.texts["title"] for count in re.findall(r": ([0-9,]+)", title)]
    assert sum(int(count.replace(",", "")) for count in counted) == total
    assert "There are none" in evidence_page._events([])


@pytest.mark.parametrize("most", [0, 1, 2, 5, 6, 9, 10, 11, 99, 100, 101, 12_345, 10**12])
def test_the_scale_reaches_the_highest_bar_in_few_steps(most: int) -> None:
    ticks = evidence_page._nice(max(1, most))
    assert ticks[0] == 0
    assert ticks[-1] >= most
    assert len(ticks) <= 6
    assert ticks[-2] < max(1, most)


# Verifying a folder


def test_a_folder_verifies_with_the_key_and_a_checkpoint_kept_outside(tmp_path: Path, key_file: Path) -> None:
    key = evidence.read_key(key_file)
    public = key.public_key().public_bytes_raw()
    kept = sections()["checkpoints"][1]["checkpoint_hash"]
    plain, signed = tmp_path / "plain", tmp_path / "signed"
    files = written(plain)
    result = verify_evidence(plain, checkpoint=kept)
    assert result == verifier.Evidence(
        True,
        len(files) - 1,
        3,
        sha256(files["manifest.json"]).hexdigest(),
        says="controls 1 failed, 1 passed, 1 unknown, 1 warning; audit trail verified; attack suite not given",
    )
    files = written(signed, key=key, attacks=ATTACKS)
    for given in (None, public):
        result = verify_evidence(signed, public_key=given, checkpoint=kept)
        assert (result.verified, result.signed_by, result.attacks) == (True, public.hex(), True)
        assert result.files == len(files) - 2
        assert result.says is not None
        assert result.says.endswith("attack suite 1 passed, 1 skipped")
    assert verify_evidence(plain, public_key=public).problem == "manifest.sig: missing"
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert verify_evidence(signed, public_key=other).problem == "public_key.pem: another key than the one given"
    result = verify_evidence(signed, checkpoint="1" * 64)
    assert result.problem == "checkpoints.json: the checkpoint kept outside is not in the chain"
    # The same by another program.
    done = subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public_key.pem", "-rawin", "-in", "manifest.json",
         "-sigfile", "manifest.sig"], cwd=signed, capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_change_of_a_folder_is_found_and_its_file_named(tmp_path: Path, key_file: Path) -> None:
    chance = random.Random(8032)
    signed = evidence.build(sections(), attacks=ATTACKS, key=evidence.read_key(key_file))
    for good in (signed, evidence.build(sections())):
        for name in good:
            for kind in ("flip", "flip", "flip", "short", "long", "missing", "empty"):
                files = dict(good)
                raw = bytearray(files.pop(name))
                if kind == "flip":
                    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
                changed = {"short": raw[:-1], "long": raw + b"\n", "empty": b""}.get(kind, raw)
                if kind != "missing":
                    files[name] = bytes(changed)
                result = verifier._check_evidence(files, None, None)
                assert not result.verified, (name, kind)
                assert result.problem is not None
                if name == "manifest.json":
                    named = "(manifest.(json|sig)|[a-z_]+.[a-z]+): "
                else:
                    named = "manifest.sig: " if name == "public_key.pem" and kind == "flip" else f"{re.escape(name)}: "
                    named = f"({named}|public_key.pem: not)" if name == "public_key.pem" else named
                assert re.match(named, result.problem), (name, kind, result)
        assert verifier._check_evidence(dict(good), None, None).verified


def test_a_folder_written_anew_needs_another_key(key_file: Path) -> None:
    key = evidence.read_key(key_file)
    content = sections()
    content["controls"] = content["controls"][:1]
    for forger, problem in ((Ed25519PrivateKey.generate(), "public_key.pem"), (None, "manifest.sig")):
        files = evidence.build(content, key=forger)
        assert verifier._check_evidence(dict(files), None, None).verified
        result = verifier._check_evidence(dict(files), key.public_key().public_bytes_raw(), None)
        assert (result.verified, (result.problem or "").split(":")[0]) == (False, problem)


def test_a_broken_chain_of_checkpoints_is_named() -> None:
    def checked(chain: Any) -> str | None:
        return verifier._check_evidence(evidence.build(sections() | {"checkpoints": chain}), None, None).problem

    good = checkpoints(4)
    real = verifier._check_evidence(evidence.build(sections(chain=4)), None, None)
    assert (real.verified, real.checkpoints) == (True, 4)
    changed = copy.deepcopy(good)
    changed[2]["root"] = ZEROS
    assert checked(changed) == "checkpoints.json: checkpoint 3 is changed"
    assert checked([good[0], good[2]]) == "checkpoints.json: checkpoint 3 does not follow the one before"
    assert checked(good[1:]) == "checkpoints.json: checkpoint 2 does not follow the one before"


def other_manifest(files: dict[str, bytes], changes: dict[str, Any]) -> dict[str, bytes]:
    manifest = json.loads(files["manifest.json"])
    return files | {"manifest.json": evidence._dump(manifest | changes)}


def test_a_manifest_of_another_form_is_refused() -> None:
    files = evidence.build(sections())
    digests = json.loads(files["manifest.json"])["files"]
    assert verifier._check_evidence(other_manifest(files, {}), None, None).verified
    for changes in (
        {"kind": "other"},
        {"more": 1},
        {"attacks": "attacks.json"},
        {"attacks": None},
        {"files": []},
        {"files": None},
        {"files": digests | {"../x.json": "0" * 64}},
        {"files": digests | {"/etc/x.json": "0" * 64}},
        {"files": digests | {"x.json": None}},
        {"files": digests | {"x.json": "0" * 64}},
        {"files": {name: digest.upper() for name, digest in digests.items()}},
        {"files": {name: digest for name, digest in digests.items() if name != "roles.json"}},
    ):
        assert not verifier._check_evidence(other_manifest(files, changes), None, None).verified, changes
    for raw in (b"", b"[]", b"[" * 100_000, b"\xff", b'{"kind": 1, "kind": 1}', b"9" * 10_000):
        assert not verifier._check_evidence(files | {"manifest.json": raw}, None, None).verified, raw[:20]
    raw = files["manifest.json"].replace(b"{", b'{"kind": "manifest", ', 1)
    result = verifier._check_evidence(files | {"manifest.json": raw}, None, None)
    assert result.problem == "manifest.json: not JSON in UTF-8, or a field twice"
    for written_otherwise in (json.dumps(json.loads(files["manifest.json"])).encode(), files["manifest.json"] + b"\n"):
        assert not verifier._check_evidence(files | {"manifest.json": written_otherwise}, None, None).verified


def test_what_a_folder_says_is_told_in_no_words_of_its_own() -> None:
    other = "controls in another form"
    for controls, said in (
        ([{"status": "\x1b[2Jpassed"}, {"status": "failed"}, {}], "controls 1 failed, 2 of another status"),
        ([], "controls none"), ({}, other), ([1], other), (None, other),
    ):  # fmt: skip
        files = {"controls.json": json.dumps(controls).encode(), "audit.json": b'{"verified": "yes"}'}
        assert verifier._what_it_says(files) == f"{said}; audit trail NOT verified; attack suite not given"
        files["attacks.json"] = b"[" * 100_000
        assert verifier._what_it_says(files).endswith("; attack suite in another form")


def test_what_is_no_file_or_has_another_name_is_refused(tmp_path: Path) -> None:
    def linked(folder: Path) -> None:
        (folder / "roles.json").rename(tmp_path / "roles.json")
        (folder / "roles.json").symlink_to(tmp_path / "roles.json")

    def piped(folder: Path) -> None:
        os.mkfifo(folder / "more.json")

    def named(folder: Path) -> None:
        (folder / b"\xff\n.json".decode("utf-8", "surrogateescape")).write_text("")

    for change in (linked, piped, named):
        folder = tmp_path / change.__name__
        written(folder)
        change(folder)
        result = verify_evidence(folder)
        assert not result.verified, change
        assert run(folder).returncode == 1


# Ed25519

RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
        "b00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
        "c027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e"
        "2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17a"
        "d9bef1177331a704",
    ),
]
ORDER, PRIME = verifier._ORDER, verifier._P
NEUTRAL = (1).to_bytes(32, "little")


def second(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """What the other implementation says."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize(("public_key", "message", "signature"), RFC_8032)
def test_the_vectors_of_rfc_8032_verify(public_key: str, message: str, signature: str) -> None:
    given = bytes.fromhex(public_key), bytes.fromhex(message), bytes.fromhex(signature)
    assert ed25519_verify(*given)
    assert not ed25519_verify(given[0], given[1] + b"x", given[2])


def test_signatures_are_judged_as_by_a_second_implementation() -> None:
    chance = random.Random(25519)
    verified = 0
    for number in range(150):
        key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        message = chance.randbytes(chance.randrange(200))
        parts = [key.public_key().public_bytes_raw(), message, key.sign(message)]
        if number % 3:
            which = chance.choice([0, 2, 1] if message else [0, 2])
            raw = bytearray(parts[which])
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            parts[which] = bytes(raw)
        expected = second(*parts)
        assert ed25519_verify(*parts) is expected
        verified += expected
    assert verified == 50


def signed_with(scalar: int, r: bytes, message: bytes) -> tuple[bytes, bytes]:
    """A public key and a signature by it whose R is the neutral point, written as r: so S is k times the key."""
    public = verifier._encode_point(verifier._multiply(scalar, verifier._BASE))
    k = int.from_bytes(sha512(r + public + message).digest(), "little")
    return public, r + (k * scalar % ORDER).to_bytes(32, "little")


def test_a_signature_has_one_form_only() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public, message = key.public_key().public_bytes_raw(), b"manifest"
    good = key.sign(message)
    assert ed25519_verify(public, message, good)
    s = int.from_bytes(good[32:], "little")
    for times in range(1, 16):
        if s + times * ORDER < 2**256:
            other = good[:32] + (s + times * ORDER).to_bytes(32, "little")
            assert not ed25519_verify(public, message, other)
            assert not second(public, message, other)
    for wrong in (b"", good[:-1], good + b"\0", bytes(64), good[32:] + good[:32], good[:32] + bytes(32)):
        assert not ed25519_verify(public, message, wrong)
    for wrong in (b"", public[:-1], public + b"\0", bytes(31) + b"\x80", b"\xff" * 32):
        assert not ed25519_verify(wrong, message, good)

    # R in its one form verifies, in another it does not.
    twisted = (PRIME + 1).to_bytes(32, "little")
    negative = (1 | 1 << 255).to_bytes(32, "little")
    assert ed25519_verify(signed_with(77, NEUTRAL, message)[0], message, signed_with(77, NEUTRAL, message)[1])
    for r in (twisted, negative):
        public, signature = signed_with(77, r, message)
        assert not ed25519_verify(public, message, signature)
        assert not second(public, message, signature)


def test_points_in_another_form_and_keys_of_small_order_are_refused() -> None:
    for y in range(19):
        for sign in (0, 1 << 255):
            with pytest.raises(ValueError, match="point"):
                verifier._decode_point((PRIME + y | sign).to_bytes(32, "little"))
    for y in (1, PRIME - 1):
        # x is 0, which has no sign.
        with pytest.raises(ValueError, match="point"):
            verifier._decode_point((y | 1 << 255).to_bytes(32, "little"))
    small = {NEUTRAL, (PRIME - 1).to_bytes(32, "little"), bytes(32), bytes(31) + b"\x80"}
    y8 = 55188659117513257062467267217118295137698188065244968500265048394206261417927  # of order 8, as -y8 is
    small |= {(y | sign).to_bytes(32, "little") for y in (y8, PRIME - y8) for sign in (0, 1 << 255)}
    assert len(small) == 8
    for key in small:
        assert verifier._encode_point(verifier._multiply(8, verifier._decode_point(key))) == NEUTRAL
        # By such a key this signature would fit any message that hashes well, by the neutral one all.
        assert not any(ed25519_verify(key, bytes([number]), NEUTRAL + bytes(32)) for number in range(16))
    assert second(NEUTRAL, b"any message", NEUTRAL + bytes(32))


def test_a_public_key_is_read_from_hexadecimal_digits_and_from_pem(key_file: Path) -> None:
    key = evidence.read_key(key_file)
    raw = key.public_key().public_bytes_raw()
    pem = subprocess.run(
        ["openssl", "pkey", "-in", key_file, "-pubout"], capture_output=True, text=True, check=True
    ).stdout
    assert pem.encode() == evidence.build(sections(), key=key)["public_key.pem"]
    for text in (pem, pem.replace("\n", "\r\n"), raw.hex(), raw.hex().upper(), f" {raw.hex()}\n"):
        assert read_public_key(text) == raw
    rsa = subprocess.run(["openssl", "genpkey", "-algorithm", "rsa"], capture_output=True, check=True).stdout
    rsa_public = subprocess.run(["openssl", "pkey", "-pubout"], input=rsa, capture_output=True, check=True).stdout
    for text in ("", raw.hex()[:-1], key_file.read_text(), rsa_public.decode(), pem.replace("M", "*"), pem[5:]):
        with pytest.raises(ValueError, match=r"Ed25519|base64"):
            read_public_key(text)


# Certificates of erasures


@pytest.fixture
def certificate(database: Database) -> dict[str, Any]:
    """A certificate of a real erasure, under the second checkpoint of three."""
    admin, app = database.connect(), database.connect("app")

    def happens(count: int) -> None:
        for number in range(count):
            save(app, f"m{number}", number, as_=ACME)
            save(app, f"m{number}", number, as_=BETA)

    happens(2)
    call(admin, "seal_audit")
    call(admin, "create_checkpoint")
    happens(3)
    # Two events of the operator under one seal.
    admin.execute("select ai_storage_private.record_event(0, 'test')")
    made = value(admin, "erase_tenant", pattern=BETA, reason='Ä "contract" ended')
    happens(1)
    call(admin, "seal_audit")
    call(admin, "create_checkpoint")
    row = admin.execute("select ai_storage.erasure_certificate(%s)", (json.loads(made["statement"])["certificate_id"],))
    assert row.fetchone() == (made,)
    return dict(made)


def logged(admin: Connection, statement: str, action: str = "erase tenant") -> str:
    """Write an event like an erasure's into a tenant's log and return its id."""
    row = admin.execute(
        "select ai_storage_private.record_event(t.tenant_id, %s, p_content => %s) "
        "from ai_storage_private.tenant as t where t.isolation_key = %s",
        (action, statement, ACME),
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_a_certificate_verifies_and_a_checkpoint_kept_outside_pins_it(certificate: dict[str, Any]) -> None:
    text = json.dumps(certificate)
    kept = certificate["checkpoint"]["checkpoint_hash"]
    assert certificate["checkpoint"]["checkpoint_number"] == 2
    assert certificate["proof"]["path"]
    assert certificate["proof"]["seal"]["path"]
    assert verify_certificate(text) == verifier.Result(True, 1, 0, 1)
    assert verify_certificate(text, checkpoint=kept).verified
    assert verify_certificate(json.dumps(certificate, indent=4, sort_keys=True)).verified
    result = verify_certificate(text, checkpoint="1" * 64)
    assert (result.verified, result.problem) == (False, "the checkpoint is not the one kept outside")


def test_each_part_of_a_certificate_is_named_when_it_is_wrong(certificate: dict[str, Any], database: Database) -> None:
    admin, app = database.connect(), database.connect("app")
    statement = certificate["statement"]
    ids = {"other": logged(admin, "another statement"), "action": logged(admin, statement, "erase nothing")}
    call(admin, "seal_audit")
    newest = value(admin, "create_checkpoint")
    proofs = {name: value(app, "audit_proof", event_id=event_id, as_=ACME) for name, event_id in ids.items()}
    blank = certificate["proof"] | {"salt": None, "detail": None}
    proof, seal = certificate["proof"], certificate["proof"]["seal"]
    for changes, problem in (
        ({"proof": proofs["other"], "checkpoint": newest}, "the statement is not the one that was logged"),
        ({"proof": proofs["action"], "checkpoint": newest}, "the proof is not of an erasure"),
        ({"checkpoint": newest}, "the checkpoint is not the one over the proof's seal"),
        ({"statement": statement + " "}, "the statement is not the one that was logged"),
        ({"statement": "\ud800"}, "the statement is not the one that was logged"),
        ({"proof": blank}, "the statement is not the one that was logged"),
        ({"proof": proof | {"login": "other"}}, "a changed event"),
        ({"proof": proof | {"leaf_index": "0"}}, "a proof with wrong fields"),
        ({"proof": proof | {"path": []}}, "an event that is not under its seal"),
        ({"proof": proof | {"seal": seal | {"sealed_at": 1}}}, "a changed seal"),
        ({"proof": proof | {"seal": seal | {"path": None}}}, "the checkpoint is not the one over the proof's seal"),
        ({"proof": proof | {"seal": seal | {"path": []}}}, "a seal that is not under its checkpoint"),
        ({"checkpoint": certificate["checkpoint"] | {"root": ZEROS}}, "checkpoint 2 is changed"),
        ({"checkpoint": certificate["checkpoint"] | {"kind": "seal"}}, "a checkpoint with wrong fields"),
        ({"kind": "event"}, "not a certificate"),
    ):
        result = verify_certificate(json.dumps(certificate | changes))
        assert (result.verified, result.problem) == (False, problem)
    for text in ("", "[]", "[" * 100_000, '{"kind": "certificate"}', '{"kind": 1, "kind": 2}', "\udcff"):
        assert not verify_certificate(text).verified


ODD = (None, "", "0", 0, 1, -1, 2**63, 1.5, True, False, [], {}, "ä", "\udcff", "f" * 64, "0" * 32, "left " + "0" * 64)


def parts(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in it."""
    yield path
    for name in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield from parts(content[name], (*path, name))


def with_change(content: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at a path; ... drops it."""
    made = copy.deepcopy(content)
    if not path:
        return new
    inner = made
    for name in path[:-1]:
        inner = inner[name]
    if new is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return made


def same(one: Any, other: Any) -> bool:
    """Whether two values are written alike in JSON: 1 is neither 1.0 nor true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_every_single_change_of_a_certificate_is_detected(certificate: dict[str, Any]) -> None:
    done = 0
    for path in parts(certificate):
        current = certificate
        for name in path:
            current = current[name]
        news: list[Any] = [*ODD]
        if path:
            news.append(...)
        if isinstance(current, bool | int):
            news += [current + 1, -current, float(current), str(current)]
        elif isinstance(current, str):
            news += [current.upper(), current + " ", current[:-1], current + "0"]
        elif isinstance(current, dict):
            news += [current | {"more": 1}, [current]]
        elif isinstance(current, list):
            news += [[*current, "left " + "0" * 64], current[::-1], current[:-1]]
        for new in news:
            changed = with_change(certificate, path, new)
            if not same(changed, certificate):
                done += 1
                assert not verify_certificate(json.dumps(changed)).verified, (path, new)
    assert done > 500


def test_random_changes_of_a_certificates_bytes_are_detected(certificate: dict[str, Any]) -> None:
    chance = random.Random(6962)
    good = json.dumps(certificate, ensure_ascii=False).encode()
    done = 0
    while done < 10_000:
        raw = bytearray(good)
        at = chance.randrange(len(raw))
        kind = chance.choice(("flip", "flip", "drop", "add"))
        if kind == "flip":
            raw[at] ^= 1 << chance.randrange(8)
        elif kind == "drop":
            del raw[at : at + chance.randrange(1, 4)]
        else:
            raw[at:at] = chance.choice((b"0", b"a", b" ", b'"', b",", bytes([chance.randrange(256)])))
        text = bytes(raw).decode("utf-8", "surrogateescape")
        try:
            if same(json.loads(text, object_pairs_hook=verifier._unique), certificate):
                continue  # white space, which is not covered
        except ValueError:
            pass
        done += 1
        assert not verify_certificate(text).verified, text


# The commands


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The verifier by itself, where neither the package nor any other is found."""
    return subprocess.run(
        [sys.executable, "-S", str(Path(verifier.__file__)), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_verifiers_command_tells_a_folder_a_certificate_and_a_bundle_apart(
    certificate: dict[str, Any], tmp_path: Path, key_file: Path
) -> None:
    file = tmp_path / "certificate.json"
    for indent in (None, 2):
        file.write_text(json.dumps(certificate, indent=indent))
        done = run(file, "--checkpoint", certificate["checkpoint"]["checkpoint_hash"], "--json")
        assert (done.returncode, json.loads(done.stdout)["checkpoints"], done.stderr) == (0, 1, "")
    assert run(file, "--checkpoint", "1" * 64).returncode == 1
    # Nothing that pins is passed over in silence.
    assert run(file, "--seal", "1" * 64).returncode == 2
    assert run(file, "--public-key", "1" * 64).returncode == 2
    file.write_text(json.dumps(certificate | {"statement": "other"}))
    done = run(file)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        1,
        "NOT verified: the statement is not the one that was logged",
    )

    folder = tmp_path / "evidence"
    key = evidence.read_key(key_file)
    files = written(folder, key=key)
    public = tmp_path / "public.pem"
    public.write_bytes(files["public_key.pem"])
    for given in (public, key.public_key().public_bytes_raw().hex()):
        done = run(folder, "--public-key", given, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["signed_by"] == key.public_key().public_bytes_raw().hex()
    done = run(folder)
    assert done.stdout.startswith("The folder is unchanged since it was written. What it says: controls 1 failed, ")
    assert "compare" in done.stdout
    assert "False" not in done.stdout
    assert "whatever it says" in " ".join(run("--help").stdout.split())
    assert run(folder, "--public-key", "1" * 64).returncode == 1
    assert run(folder, "--public-key", key_file).returncode == 2
    assert run(folder, "--public-key", tmp_path / "nothing").returncode == 2
    assert run(folder, "--seal", "1" * 64).returncode == 2
    (folder / "roles.json").write_text("[]")
    done = run(folder)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "NOT verified: roles.json: changed")


def test_the_command_prints_counts_and_the_manifests_digest(
    tmp_path: Path,
    key_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database: Database,
) -> None:
    content = sections()
    monkeypatch.setattr(evidence, "collect", lambda connection: content)
    folder = tmp_path / "evidence"
    attacks = tmp_path / "attacks.xml"
    attacks.write_text('<testsuites><testcase classname="t" name="x"/></testsuites>')
    command = ["evidence", "--out", str(folder), "--dsn", database.dsn()]
    assert cli.main([*command, "--key", str(key_file)]) == 1
    out, err = capsys.readouterr()
    digest = sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert out == (
        "Controls: 1 failed, 1 passed, 1 unknown, 1 warning.\nAttack suite: not given.\nAudit trail: verified.\n"
        f"{folder}/manifest.json: sha256 {digest}\n"
    )
    assert err == ""
    content["controls"] = [row for row in content["controls"] if row["status"] != "failed"]
    assert cli.main([*command, "--attacks", str(attacks)]) == 0
    assert "Attack suite: 1 passed.\n" in capsys.readouterr().out
    assert verify_evidence(folder).attacks
    content["audit"]["verified"] = False
    assert cli.main(command) == 1
    attacks.write_text('<testsuites><testcase classname="t" name="x"><failure/></testcase></testsuites>')
    content["audit"]["verified"] = True
    assert cli.main([*command, "--attacks", str(attacks)]) == 1
    capsys.readouterr()
    for wrong in (["--key", str(attacks)], ["--attacks", str(key_file)], ["--out", str(tmp_path / "not" / "there")]):
        assert cli.main([*command, *wrong]) == 1
        assert "hint:" in capsys.readouterr().err


# A real database


def test_the_evidence_of_a_real_database_is_whole_and_the_same_twice(
    certificate: dict[str, Any], database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = database.connect("app")
    call(app, "share_model", model_name="m0", targets=[{"server_id": "*"}], as_=ACME)
    call(database.connect(), "seal_audit")
    command = ["evidence", "--dsn", database.dsn(), "--out"]
    code = cli.main([*command, str(tmp_path / "one")])
    assert code == cli.main([*command, str(tmp_path / "two")])
    first, second = held(tmp_path / "one"), held(tmp_path / "two")
    assert {name for name in first if first[name] != second[name]} == set()
    content = {name: json.loads(first[f"{name}.json"]) for name in evidence.SECTIONS}
    assert code == any(row["status"] == "failed" for row in content["controls"])
    assert capsys.readouterr().err == ""
    # A control's result is what its own query says.
    assert times_of(re.sub('<section id="controls">.*?</section>', "", first["index.html"].decode(), flags=re.DOTALL))
    assert all(row[name] for row in content["controls"] for name in ("control", "reference", "result", "evidence"))
    assert content["audit"]["verified"]
    assert [row["certificate_id"] for row in content["erasures"]] == [
        json.loads(certificate["statement"])["certificate_id"]
    ]
    assert [row["owner"] for row in content["shares"]] == [ACME]
    pinned = certificate["checkpoint"]["checkpoint_hash"]
    assert verify_evidence(tmp_path / "one", checkpoint=pinned).verified
    dom = opened(first["index.html"].decode(), tmp_path)
    assert [row["control"] in dom.texts["strong"] for row in content["controls"]] == [True] * len(content["controls"])
    assert len(dom.classes("grant")) == 1


def test_collecting_takes_an_administrator_or_an_auditor(database: Database, tmp_path: Path) -> None:
    assert cli.main(["evidence", "--dsn", database.dsn("app"), "--out", str(tmp_path / "x")]) == 1
    superuser = database.connect()
    superuser.execute("grant ai_storage_auditor to stranger")
    database.stack.callback(superuser.execute, "revoke ai_storage_auditor from stranger")  # roles are the server's
    evidence.collect(database.connect("stranger"))
    assert list(tmp_path.iterdir()) == []
