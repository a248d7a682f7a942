"""The sessions in README.md, executed: what is printed there is what comes back."""

from __future__ import annotations

import doctest
import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from pydb import cli
from tests.conftest import Database
from tests.helpers import call

README = (Path(__file__).parent.parent / "README.md").read_text()
PROMPT = re.compile(r"^(\w+)=> (.*)$")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def session(block: str) -> list[tuple[str, str, list[str]]]:
    """(login, input, expected lines) of each prompt."""
    found: list[tuple[str, str, list[str]]] = []
    for line in block.splitlines():
        prompt = PROMPT.match(line)
        if prompt:
            found.append((prompt[1], prompt[2], []))
        else:
            found[-1][2].append(line)
    return found


@pytest.mark.sql
def test_the_psql_sessions_print_what_they_say(database: Database) -> None:
    assert len(blocks("psql")) == 3
    # The quick start comes first, and leaves the sessions as they are.
    (quick_start,) = re.findall(r"^    pydb (save .*)$", README, re.MULTILINE)
    assert cli.main([*quick_start.split(), "--dsn", database.dsn("app")]) == 0
    psql = database.server.cluster.bin_dir / "psql"
    libraries = psql.parent.parent / "lib"
    for block in blocks("psql"):
        steps = session(block)
        assert {login for login, _, _ in steps} == {"acme_app"}
        # One session as one input; a marker between the steps tells whose output is whose.
        script = "".join(f"{text}\n\\echo =====\n" for _, text, _ in steps)
        shown = subprocess.run(
            [psql, "--no-psqlrc", "--set=SHOW_CONTEXT=never", database.dsn("acme_app")],
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
            env={"LC_ALL": "C", **({"LD_LIBRARY_PATH": str(libraries)} if (libraries / "libpq.so.5").exists() else {})},
        ).stdout
        answers = shown.split("=====\n")
        for (_, text, expected), answer in zip(steps, answers, strict=False):
            assert answer.rstrip("\n").splitlines() == "\n".join(expected).rstrip("\n").splitlines(), text


def test_the_python_session_prints_what_it_says(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_URL", database.dsn("acme_app"))
    (block,) = blocks("pycon")
    test = doctest.DocTestParser().get_doctest(block, {}, "README", "README.md", 0)
    assert len(test.examples) > 10
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


def test_the_token_of_another_library_is_taken(database: Database) -> None:
    pytest.importorskip("jwt")
    (block,) = blocks("python")
    ((kid, secret),) = call(database.connect(), "create_signing_key", audience="here")
    names = {"kid": kid, "secret": secret, "audience": "here"}
    exec(block, names)
    assert database.storage(names["token"], "acme_app").save_ai_progress("m", 0.5).version == 1


def test_the_functions_listed_are_the_api(database: Database) -> None:
    table = README.split("## The functions")[1].split("## Limits")[0]
    listed = set(
        re.findall(r"`([a-z_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    )
    with psycopg.connect(database.dsn()) as connection:
        api = {
            row[0]
            for row in connection.execute("select proname from pg_proc where pronamespace = 'ai_storage'::regnamespace")
        }
    assert listed == api - {"version"}


def test_the_links_lead_somewhere() -> None:
    root = Path(__file__).parent.parent
    for page in [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
