"""The benchmark suite runs, counts what is sent, and makes its page of what it measured. No figure is judged here."""

from __future__ import annotations

import re
import runpy
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import __main__ as command
from bench import capacity, cells, measures, page, server
from bench.proxy import delaying

TINY = measures.Plan(
    rounds=1,
    seconds=0.005,
    clients={measures.SOCKET: (1, 2), measures.TCP: (1,), measures.DELAYED: (1,)},
    other_rounds=1,
    other_seconds=0.005,
    other_clients=(1,),
    sized=8,
    calls=10,
    batches=1,
    imports=1,
)


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Iterator[measures.Report]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "installed", dict)  # MLflow takes longer to start than all of this
        yield measures.measure(request.config.getoption("--pg"), TINY, "plain", quick=True, say=lambda _: None)


def test_the_relay_counts_statements_and_round_trips(report: measures.Report) -> None:
    sent = {(one.contender, one.operation): (one.statements, one.round_trips) for one in report.counted}
    for operation in ("load", "load_one", "save"):
        assert sent["floor", operation] == (1, 1)
        assert sent["pattern", operation] == (4, 4)
        assert sent["pattern, pipelined", operation] == (4, 1)
        assert sent["audited", operation] == (4, 4)
        assert sent["ours", operation] == (1, 1)
        assert sent["ours, token", operation] == (2, 1)  # before it, what keeps the token out of errors


def test_the_relay_holds_back_what_is_sent_and_keeps_its_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def echo() -> None:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    connection.sendall(data)

        thread = threading.Thread(target=echo)
        thread.start()
        delay = 0.0005
        with delaying(listener.getsockname(), delay) as address, socket.create_connection(address) as client:
            for number in range(20):
                sent = b"%d\n" % number
                began = time.perf_counter()
                client.sendall(sent)
                assert client.recv(100) == sent
                assert time.perf_counter() - began >= delay
            client.sendall(b"a")
            client.sendall(b"b")
            assert client.makefile("rb").read(2) == b"ab"
        thread.join(10)


SCRIPTS = sorted(
    path.stem
    for path in Path(command.__file__).parent.glob("*.py")
    if 'if __name__ == "__main__"' in path.read_text("utf-8")
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_says_what_it_does(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--help"])
    monkeypatch.delitem(sys.modules, f"bench.{script}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"bench.{script}", run_name="__main__")
    assert ended.value.code == 0
    assert "--pg" in capsys.readouterr().out


def test_figures_are_reduced_alike_everywhere() -> None:
    assert server.p99([3.0]) == 3.0
    assert server.p99(range(200, 0, -1)) == 198
    assert server.median_range([3, 1, 2], ".1f") == ("2.0", "1.0-3.0")
    assert server.median_range(range(40), ".1f", tails=20) == ("19.5", "2.0-37.0")


def test_what_is_not_installed_is_named_and_left_out(report: measures.Report) -> None:
    assert report.missing == ["MLflow", "LangGraph"]
    assert "not installed" in page.render(report)
    assert any(target.met is None for target in page.targets(report))


def test_the_page_is_made_of_the_figures_alone(report: measures.Report, tmp_path: Path) -> None:
    page.save_report(report, tmp_path / "benchmarks.json")
    assert page.load_report(tmp_path / "benchmarks.json") == report
    page.write_page(report, tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.suffix for path in files} == {".json", ".md", ".svg"}
    assert command.main(["--page", "--docs", str(tmp_path)]) == 0
    assert {path: path.read_bytes() for path in files} == files
    text = (tmp_path / "benchmarks.md").read_text()
    for path in files:
        if path.suffix == ".svg":
            assert f"(benchmarks/{path.name})" in text


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    """A folder with the published figures and the page they go into."""
    for name in ("benchmarks.json", "benchmarks-scale.json", "capacity.json", "scaling.md"):
        shutil.copy(page.DOCS / name, tmp_path)
    return tmp_path


def test_the_capacity_is_computed_from_the_figures_alone(figures: Path) -> None:
    path = figures / "scaling.md"
    path.write_text(re.sub(r"(<!-- begin .*? -->).*?(<!-- end)", r"\1\n\2", path.read_text(), flags=re.DOTALL))
    assert capacity.main(["--docs", str(figures)]) == 0
    files = {one: one.read_bytes() for one in figures.rglob("*") if one.is_file()}
    assert "(benchmarks/capacity.svg)" in path.read_text()
    assert capacity.main(["--docs", str(figures)]) == 0
    assert {one: one.read_bytes() for one in figures.rglob("*") if one.is_file()} == files


def test_a_page_without_a_place_for_the_capacity_is_refused(figures: Path) -> None:
    path = figures / "scaling.md"
    path.write_text(path.read_text().replace("<!-- end needs -->", ""))
    with pytest.raises(LookupError, match="needs"):
        capacity.write_page(figures)


def test_the_model_of_capacity_multiplies_what_was_measured() -> None:
    nothing = capacity.Log(0, 0)
    cost = capacity.Costs(
        us={"load": 200.0, "save": 500.0, "shared": 1000.0, "seal": 50.0},
        spread={},
        per_seal_us=0.0,
        batch_us=0.0,
        token_us=0.0,
        log={"save": capacity.Log(1000, 0), "shared": nothing, "seal": nothing},
        model=(200.0, 100.0),
        version=(150.0, 50.0),
        event=(300.0, 100.0),
        seal=0.0,
        tenant=0.0,
        connection=0.0,
    )
    work = capacity.Workload("test", saves=0.1, loads=10.0, shared=0.0, busy=1.0, kept=10, colour="")
    need = capacity.need(work, 100, cost)
    models, saves = 1e7, 10.0
    assert need.cores == pytest.approx((1000 * 200 + saves * (500 + 50)) / 1e6 * 3 / 0.5)
    assert need.disk == pytest.approx(models * 300 + models * 10 * 200 + (models + saves * 31_536_000) * 400)
    assert need.log == pytest.approx(saves * 1000 * 86_400)
    assert need.memory == pytest.approx(models * 200 + models * 100 + models * 10 * 50 + 100 * 100 * 2 * 8192)
    assert capacity.need(replace(work, saves=0.0, loads=0.0), 100, cost).cores == 0.0
    # A half of the organisations takes a half. Behind PgBouncer a call takes more, sealing does not.
    assert capacity.need(work, 50, cost).cores == pytest.approx(need.cores / 2)
    calls = {call: cells.Cost((0, 0, 0), (times, 1, 2)) for call, times in (("load", 1.5), ("save", 2), ("shared", 1))}
    figures = capacity.Figures("", {}, {}, {}, {}, {}, {"way": calls, "way" + cells.BOUNCER: calls})
    assert capacity.need(work, 100, capacity.by_way(cost, figures, "way")).cores == pytest.approx(
        (1000 * 300 + saves * (1000 + 50)) / 1e6 * 3 / 0.5
    )
    bouncers = capacity.bouncers(work, cost, figures, "way")
    assert bouncers == pytest.approx(100 * (1000 * 300 + saves * 1000) / 1e6 * 3 / 0.5)


def test_calls_in_cells_are_measured_by_each_way(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    for name, value in {"TENANTS": 4, "CALLS": 4, "WARM_CALLS": 1, "WARM_ROUNDS": 1}.items():
        monkeypatch.setattr(cells, name, value)
    with cells.ways(pytestconfig.getoption("--pg")) as ways:
        found = cells.summary(cells.measure(ways, 2))
    bounced = {name + cells.BOUNCER for name in (cells.BY_CELL, cells.BY_ORGANISATION, cells.DISCARDING)}
    assert set(found) == set(ways) | bounced
    for by_call in found.values():
        assert set(by_call) == set(cells.CALLED)
        assert all(cost.us[1] > 0 and cost.times[1] > 0 for cost in by_call.values())
    assert found[cells.PREPARED]["load"].times == (1, 1, 1)
