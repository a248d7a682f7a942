"""What is said of a report: tables on the terminal, the same as a page, and plots."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.contenders import MODELS, TENANTS
from bench.measures import BESIDE, DELAYED, SOCKET, TCP, Batch, Counted, Report, Series, Size
from bench.server import table

DOCS = Path(__file__).parent.parent / "docs"
WHAT = {
    "load": f"load all {MODELS} models of a tenant",
    "load_one": "load one model by name",
    "save": "save an existing model",
}
#: Figures of rounds, as median, lowest and highest.
Spread = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Section:
    """A table with what to know about it."""

    title: str
    text: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    plot: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """limit: what the value is not to go beyond. most: it is the largest that is allowed, and not the least."""

    text: str
    limit: float
    most: bool
    value: Spread | None
    unit: str = ""

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value[0] <= self.limit if self.most else self.value[0] >= self.limit


# Reading a report ------------------------------------------------------------------------------------------------


def load_report(path: Path) -> Report:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    lists = {"series": Series, "counted": Counted, "sizes": Size, "batches": Batch}
    return Report(**{**found, **{name: [kind(**one) for one in found[name]] for name, kind in lists.items()}})


def save_report(report: Report, path: Path) -> None:
    """One line for each series and each figure, so that a difference can be read."""

    def text(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(f"    {json.dumps(one)}" for one in value) + "\n  ]"
        return json.dumps(value)

    lines = ",\n".join(f"  {json.dumps(name)}: {text(value)}" for name, value in asdict(report).items())
    path.write_text(f"{{\n{lines}\n}}\n", "utf-8")


def spread(values: Sequence[float]) -> Spread | None:
    return (statistics.median(values), min(values), max(values)) if values else None


def find(report: Report, contender: str, operation: str, transport: str = SOCKET, clients: int = 1) -> Series | None:
    for one in report.series:
        if (one.contender, one.operation, one.transport, one.clients) == (contender, operation, transport, clients):
            return one
    return None


def ratio(one: Series | None, other: Series | None, figure: str = "p50") -> Spread | None:
    """Of two figures of the same round each."""
    if one is None or other is None:
        return None
    pairs = zip(getattr(one, figure), getattr(other, figure), strict=True)
    return spread([mine / theirs for mine, theirs in pairs])


def bytes_of(report: Report, what: str) -> float:
    return sum(size.total for size in report.sizes if size.what == what)


# Targets ---------------------------------------------------------------------------------------------------------


def targets(report: Report) -> list[Target]:
    def times(a: str, b: str, operation: str, transport: str = SOCKET, clients: int = 1) -> Spread | None:
        return ratio(find(report, a, operation, transport, clients), find(report, b, operation, transport, clients))

    def rate(a: str, b: str, operation: str, clients: int = 1) -> Spread | None:
        one, other = (find(report, name, operation, SOCKET, clients) for name in (a, b))
        return ratio(one, other, "per_second")

    def tail(operation: str) -> Spread | None:
        one = find(report, "ours", operation, SOCKET, 32)
        return None if one is None else spread([p99 / p50 for p99, p50 in zip(one.p99, one.p50, strict=True)])

    def single(value: float) -> Spread:
        return value, value, value

    def per_core(batch: Batch) -> Spread | None:
        return spread([1e6 / one for one in batch.server_us])

    model = bytes_of(report, "ours: model") + bytes_of(report, "ours: share of the tenant registry")
    return [
        Target("load 20 models: times the floor", 1.3, True, times("ours", "floor", "load")),
        Target("load 20 models: times the pattern", 0.45, True, times("ours", "pattern", "load")),
        Target(
            "load 20 models over TCP with 0.5 ms more: times the pattern",
            0.35,
            True,
            times("ours", "pattern", "load", DELAYED),
        ),
        Target(
            "save, with history and audit: times the floor, which has neither",
            1.6,
            True,
            times("ours", "floor", "save"),
        ),
        Target("save: times the audited pattern in a pipeline", 1.0, True, times("ours", "audited, pipelined", "save")),
        Target(
            "loads of 20 models per second, 8 clients: times the pattern",
            2.0,
            False,
            rate("ours", "pattern", "load", 8),
        ),
        Target(
            "saves per second, 8 clients: times the audited pattern", 1.3, False, rate("ours", "audited", "save", 8)
        ),
        *(
            Target(f"{what} per second: times MLflow's {where}", limit, False, rate(BESIDE, name, operation))
            for where, name, limit in (("SQL store", "MLflow store", 20.0), ("HTTP server", "MLflow server", 100.0))
            for what, operation in (
                ("saves", "save"),
                ("loads of one model", "load_one"),
                ("loads of 20 models", "load"),
            )
        ),
        Target(
            "saves per second: times LangGraph's PostgresSaver.put", 0.8, False, rate(BESIDE, "LangGraph saver", "save")
        ),
        Target(
            "loads of 20 models per second: times LangGraph's PostgresStore.search",
            3.0,
            False,
            rate(BESIDE, "LangGraph store", "load"),
        ),
        Target(
            "bytes per model, table and indexes: times the pattern",
            0.6,
            True,
            single(model / bytes_of(report, "pattern: model")),
        ),
        Target(
            "write-ahead log per save: times the audited pattern",
            1.3,
            True,
            single(report.wal["ours"] / report.wal["audited"]),
        ),
        *(
            Target(f"{WHAT[operation]}, 32 clients: p99, times p50", 5.0, True, tail(operation))
            for operation in ("load", "load_one", "save")
        ),
        *(
            Target(
                f"models per second and core in batches of {batch.models:,}, {batch.what}",
                20000.0,
                False,
                per_core(batch),
            )
            for batch in report.batches
        ),
        *(
            Target(
                f"{WHAT[operation]}: client's processor time of pydb beyond bare psycopg",
                60.0,
                True,
                spread(report.added_us[operation]),
                "us",
            )
            for operation in ("load", "load_one", "save")
        ),
        Target("import pydb", 80.0, True, spread(report.import_ms), "ms"),
    ]


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def shown(value: Spread | None, form: Callable[[float], str] = number) -> tuple[str, str]:
    """Median and range, as text."""
    if value is None:
        return "not measured", ""
    middle, low, high = map(form, value)
    return middle, "" if low == high else f"{low} to {high}"


def target_section(report: Report) -> Section:
    rows = []
    for one in targets(report):
        middle, between = shown(one.value)
        limit = f"{'at most' if one.most else 'at least'} {number(one.limit)} {one.unit}".strip()
        met = {None: "", True: "yes", False: "no"}[one.met]
        rows.append((one.text, limit, f"{middle} {one.unit}".strip() if one.value else middle, between, met))
    return Section(
        "Targets",
        "Where nothing else is said: one client, a Unix socket, p50. Medians of the rounds, and their range. "
        "[performance.md](performance.md) says why some are missed.",
        ("what", "target", "measured", "range", "met"),
        rows,
    )


# Sections --------------------------------------------------------------------------------------------------------


def micro(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f}" if values else ""


def latency_sections(report: Report) -> list[Section]:
    sections = []
    groups = dict.fromkeys(
        (one.transport, one.clients, one.operation, one.contender in report_others(report) or one.contender == BESIDE)
        for one in report.series
    )
    for transport, clients, operation, beside in groups:
        own = [
            one
            for one in report.series
            if (one.transport, one.clients, one.operation) == (transport, clients, operation)
            and (one.contender in report_others(report) or one.contender == BESIDE) == beside
        ]
        names = (BESIDE,) if beside else ("floor", "pattern")
        bases = [base for base in own if base.contender in names]
        rows = []
        for one in own:
            p50, between = shown(spread(one.p50), "{:.3f}".format)
            rate, rates = shown(spread(one.per_second), "{:,.0f}".format)
            ratios = [shown(ratio(one, base), "{:.2f}".format)[0] for base in bases]
            p99 = f"{statistics.median(one.p99):.3f}"
            rows.append(
                (one.contender, p50, between, p99, rate, rates, micro(one.server_us), micro(one.client_us), *ratios)
            )
        sections.append(
            Section(
                f"{WHAT[operation]}: {transport}, {clients} client{'s' if clients > 1 else ''}",
                "",
                (
                    "contender",
                    "p50 ms",
                    "range",
                    "p99 ms",
                    "ops/s",
                    "range",
                    "server us",
                    "client us",
                    *(f"x {base.contender}" for base in bases),
                ),
                rows,
            )
        )
    return sections


def report_others(report: Report) -> list[str]:
    return [name for name in report.contenders if name.startswith(("MLflow", "LangGraph"))]


def figure_sections(report: Report) -> list[Section]:
    names = list(dict.fromkeys(one.contender for one in report.counted))
    counts = {(one.contender, one.operation): one for one in report.counted}
    counted = []
    for name in names:
        row = [name]
        for operation in WHAT:
            one = counts.get((name, operation))
            row.append("" if one is None else f"{one.statements:g} in {one.round_trips:g}")
        counted.append(tuple(row))
    pattern = bytes_of(report, "pattern: model")
    rows = report.sizes[0].rows
    return [
        Section(
            "Statements and round trips per call",
            "Counted by a relay between client and server, once statements are prepared: `4 in 1` is four statements "
            "in one round trip.",
            ("contender", *WHAT.values()),
            counted,
        ),
        Section(
            "Write-ahead log per save",
            "Bytes per save of an existing model, on a server where nothing else is written. After a checkpoint every "
            "model is saved once and then counted once, so that whole pages, which are logged at their first change "
            "after a checkpoint, play no part. A checkpoint under way makes all of them more expensive.",
            ("contender", "bytes", "x audited"),
            [
                (name, f"{value:,.0f}", f"{value / report.wal['audited']:.2f}" if name in report.wal else "")
                for name, value in report.wal.items()
            ],
            "bytes",
        ),
        Section(
            "Bytes on disk",
            f"{rows:,} models of {rows // MODELS:,} tenants, vacuumed, in bytes per model or per version. Each further "
            "save of ours adds a version and an event; an event is kept as not sealed or as sealed, not as both. Of "
            "the audited design it adds a version and an audit row with the old and the new row. The tenant registry "
            "and the seals are shared out.",
            ("what", "heap", "indexes", "total", "x pattern: model"),
            [
                (one.what, f"{one.heap:.0f}", f"{one.indexes:.0f}", f"{one.total:.0f}", f"{one.total / pattern:.2f}")
                for one in report.sizes
            ],
        ),
        Section(
            "Memory per connection",
            "Private memory of the server's process after 1,000 calls of all kinds (MLflow: 200), without the shared "
            "buffers."
            if not report.quick
            else "Private memory of the server's process, without the shared buffers.",
            ("contender", "MiB"),
            [(name, f"{value / 2**20:.1f}") for name, value in report.memory.items()],
        ),
        Section(
            "Batches",
            "save_ai_progress_batch with history and audit, on one connection. Models per second and core are a "
            "million by the server's microseconds per model.",
            ("batches of", "models/s", "range", "server us per model", "client us per model", "models/s per core"),
            [
                (
                    f"{one.models:,} {one.what}",
                    *shown(spread(one.per_second), "{:,.0f}".format),
                    *(f"{statistics.median(us):.1f}" if us else "" for us in (one.server_us, one.client_us)),
                    f"{1e6 / statistics.median(one.server_us):,.0f}" if one.server_us else "",
                )
                for one in report.batches
            ],
        ),
        Section(
            "What else was measured",
            "",
            ("what", "median", "range"),
            [
                *(
                    (f"`select 1`, {transport}", *shown(spread(values), "{:.3f} ms".format))
                    for transport, values in report.select_ms.items()
                ),
                (
                    "added to a round trip by the relay",
                    *shown(
                        spread([a - b for a, b in zip(report.select_ms[DELAYED], report.select_ms[TCP], strict=True)]),
                        "{:.3f} ms".format,
                    ),
                ),
                *(
                    (f"client's processor time of pydb, {WHAT[operation]}", *shown(spread(values), "{:.1f} us".format))
                    for operation, values in report.added_us.items()
                ),
                ("`import pydb` in a fresh interpreter", *shown(spread(report.import_ms), "{:.0f} ms".format)),
            ],
        ),
    ]


def facts(report: Report) -> list[str]:
    """What to know of the run, a paragraph each."""
    load = report.load_average[0]
    per_round = report.slice_seconds
    payload = {
        "plain": "about 45 bytes of metadata and no further metrics, which is what the usual table has columns for",
        "rich": "about 150 bytes of metadata and three metrics",
    }[report.payload]
    lines = [
        f"{report.date}. {'; '.join(f'{name} {value}' for name, value in report.machine.items())}. "
        + "; ".join(f"{name} {value}" for name, value in report.versions.items())
        + ". Settings: "
        + ", ".join(f"{name}={value}" for name, value in report.settings.items())
        + ".",
        f"{TENANTS} tenants with {MODELS} models each; a model is a name, an error, a number of samples, and "
        f"{payload}. {rounds(report)} rounds; in each, the contenders take turns in slices of {per_round['ours']:g} s "
        f"(of {per_round['others']:g} s beside MLflow and LangGraph), in an order that shifts from round to round. "
        "Figures are medians of the rounds, with the lowest and the highest. Ratios are made in a round and only then "
        "reduced to their median: compare these between machines, and not the milliseconds.",
    ]
    if load > 0.5:
        lines.append(
            f"**The machine was shared:** its load average was {load:g} before the run. Latencies, ops/s and the "
            "p99 tell of its neighbours too; processor time, counts and bytes do so far less."
        )
    if report.quick:
        lines.append("**A quick run:** few short rounds, to see that all works.")
    if report.missing:
        lines.append(
            f"**Left out:** {' and '.join(report.missing)}, not installed; `make bench` installs them (extra `bench`)."
        )
    return lines


def rounds(report: Report) -> int:
    return max(len(one.p50) for one in report.series)


# Output ----------------------------------------------------------------------------------------------------------


def render(report: Report) -> str:
    """All tables, for the terminal."""
    lines = [line.replace("**", "") for line in facts(report)]
    lines += ["", *(f"  {name:<20} {about}" for name, about in report.contenders.items())]
    for section in (target_section(report), *figure_sections(report), *latency_sections(report)):
        lines += ["", section.title, *table(section.header, section.rows)]
    return "\n".join(lines)


def markdown(section: Section, level: int) -> list[str]:
    lines = [f"{'#' * level} {section.title[0].upper()}{section.title[1:]}", ""]
    if section.text:
        lines += [section.text, ""]
    if section.plot:
        lines += [f"![{section.title}](benchmarks/{section.plot}.svg)", ""]
    lines += [
        f"| {' | '.join(section.header)} |",
        f"|---|{'---:|' * (len(section.header) - 1)}",
        *(f"| {' | '.join(row)} |" for row in section.rows),
        "",
    ]
    return lines


INTRODUCTION = """# Benchmarks

Written by `make bench`, which takes about 10 minutes; [the figures](benchmarks.json) are beside this page.
[bench/README.md](../bench/README.md) says how they are made and what else can be measured; [scale.md](scale.md) what
becomes of it with 30 million models.
"""

WHAT_IT_IS = """The first five are what people write by hand, on the same server in the same run. All use psycopg 3 as
it comes, which prepares statements, decode what they load, and connect as one login that is neither superuser nor
owner of a table. A client is a process. TCP is the loopback, without TLS; a relay holds back what a client sends, so
that a round trip takes 0.5 ms longer, and what it really adds is among the figures below. Server and client
microseconds are processor time per call: of the connection's server process, and of the client. The audited design's
loads are the pattern's, and not measured again.
"""


def write_page(report: Report, docs: Path) -> None:
    """benchmarks.md and its plots."""
    lines = [INTRODUCTION]
    for line in facts(report):
        lines += [line, ""]
    lines += markdown(target_section(report), 2)
    lines += ["## Contenders", "", "| name | what it is |", "|---|---|"]
    lines += [f"| {name} | {about} |" for name, about in report.contenders.items()]
    lines += ["", WHAT_IT_IS, "## At a glance", ""]
    folder = docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    for name, title in plot(report, folder).items():
        lines += [f"![{title}](benchmarks/{name}.svg)", ""]
    for section in figure_sections(report):
        lines += markdown(section, 2)
    lines += [
        "## All latencies",
        "",
        "ours, beside them: measured anew in the rounds of MLflow and LangGraph, so that ratios are of one round.",
        "",
    ]
    for section in latency_sections(report):
        lines += markdown(section, 3)
    (docs / "benchmarks.md").write_text("\n".join(lines).rstrip() + "\n", "utf-8")


# Plots -----------------------------------------------------------------------------------------------------------

GREY, BLUE = "#9aa5b1", "#1f6feb"
COLORS = {
    "floor": "#52606d",
    "pattern": "#d9822b",
    "pattern, pipelined": "#f0b775",
    "audited": "#a3335c",
    "audited, pipelined": "#d98bab",
    "ours": BLUE,
    "ours, token": "#79aaf5",
}


# Text stays text, and the same figures are the same file.
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.facecolor": "white",
}


def plot(report: Report, folder: Path) -> dict[str, str]:
    """Draw everything that there are figures for. Returns: file -> title."""
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE):
        return draw(report, folder)


def draw(report: Report, folder: Path) -> dict[str, str]:
    """What plot() draws, in the style that is set."""
    from matplotlib import pyplot

    drawn: dict[str, str] = {}

    def keep(figure: Any, name: str, title: str) -> None:
        figure.suptitle(title, fontsize=11)
        figure.tight_layout()
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
        drawn[name] = title

    def label(axes: Any, ends: list[float], texts: list[str]) -> None:
        """Write each value behind its bar."""
        for at, (end, text) in enumerate(zip(ends, texts, strict=True)):
            axes.annotate(text, (end, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_xlim(0, max(ends) * 1.22)
        axes.tick_params(axis="y", length=0)

    def bars(axes: Any, values: dict[str, Spread], form: str) -> None:
        """Medians with their range, the first on top."""
        names = list(values)[::-1]
        middles = [values[name][0] for name in names]
        low = [values[name][0] - values[name][1] for name in names]
        high = [values[name][2] - values[name][0] for name in names]
        colors = [BLUE if name == BESIDE else COLORS.get(name, GREY) for name in names]
        axes.barh(names, middles, color=colors, xerr=(low, high), error_kw={"elinewidth": 0.8, "ecolor": "#333"})
        label(axes, [values[name][2] for name in names], list(map(form.format, middles)))

    def chart(figure_of: str, series: Callable[[str], list[Series]], form: str) -> Any:
        figure, panels = pyplot.subplots(1, len(WHAT), figsize=(11, 3.2))
        for axes, (operation, what) in zip(panels, WHAT.items(), strict=True):
            values = {one.contender: spread(getattr(one, figure_of)) for one in series(operation)}
            bars(axes, {name: value for name, value in values.items() if value is not None}, form)
            axes.set_title(what)
        return figure

    for name, transport in (("latency-socket", SOCKET), ("latency-delayed", DELAYED)):
        figure = chart(
            "p50",
            lambda operation, at=transport: [
                one
                for one in report.series
                if (one.operation, one.transport, one.clients) == (operation, at, 1) and one.contender in COLORS
            ],
            "{:.3f}",
        )
        keep(figure, name, f"p50 in ms, one client, {transport} (less is better; lines: range of the rounds)")

    figure = chart(
        "server_us",
        lambda operation: [
            one
            for one in report.series
            if (one.operation, one.transport, one.clients) == (operation, SOCKET, 1) and one.contender in COLORS
        ],
        "{:.0f}",
    )
    keep(figure, "cpu", "Processor time of the server per call in us, one client, Unix socket (less is better)")

    counts = sorted({one.clients for one in report.series if one.transport == SOCKET and one.contender == "ours"})
    if len(counts) > 1:
        figure, panels = pyplot.subplots(1, len(WHAT), figsize=(11, 3.4))
        for axes, (operation, what) in zip(panels, WHAT.items(), strict=True):
            for contender, color in COLORS.items():
                points = [(count, find(report, contender, operation, SOCKET, count)) for count in counts]
                rates = [(at, statistics.median(one.per_second)) for at, one in points if one is not None]
                if rates:
                    axes.plot(*zip(*rates, strict=True), marker="o", markersize=3, color=color, label=contender)
            axes.set_xscale("log", base=2)
            axes.set_xticks(counts, [str(count) for count in counts])
            axes.set_ylim(bottom=0)
            axes.set_title(what)
            axes.set_xlabel("clients")
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=8)
        figure.suptitle("Calls per second, Unix socket (more is better)", fontsize=11)
        figure.tight_layout(rect=(0, 0.06, 1, 1))
        figure.savefig(folder / "throughput.svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
        drawn["throughput"] = "Calls per second"

    if others := report_others(report):
        figure = chart(
            "per_second",
            lambda operation: [
                one
                for one in report.series
                if (one.operation, one.clients) == (operation, 1) and one.contender in (BESIDE, *others)
            ],
            "{:,.0f}",
        )
        keep(figure, "others", "Calls per second, one client, Unix socket (more is better)")

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 2.8))
    model = ("ours: model", "ours: share of the tenant registry")
    stacks = {
        "pattern: model": ("pattern: model",),
        "ours: model": model,
        "audited: further save": ("audited: kept version", "audited: audit row of a further save"),
        "ours: further save": (
            "ours: kept version",
            "ours: event, sealed",
            f"ours: seal, shared by {MODELS} events",
        ),
    }
    sizes = {name: sum(bytes_of(report, part) for part in parts) for name, parts in stacks.items()}
    for axes, values, title in (
        (left, sizes, "on disk"),
        (right, {name: value for name, value in report.wal.items() if name in COLORS}, "write-ahead log per save"),
    ):
        names = list(values)[::-1]
        axes.barh(
            names, [values[name] for name in names], color=[COLORS.get(name.split(":")[0], GREY) for name in names]
        )
        label(axes, [values[name] for name in names], [f"{values[name]:,.0f}" for name in names])
        axes.set_title(title)
    keep(figure, "bytes", "Bytes (less is better)")
    return {name: title for name, title in drawn.items() if name != "bytes"}
