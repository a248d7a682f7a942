"""Trains real models on scikit-learn's bundled data sets, as servers of two organisations, with every epoch saved.

Three MCP servers train the same two models: two of the organisation acme, one of globex. Then a new code version of
the first server takes its models over by promote and trains on, from the weights the database holds. At last the first
server shares one model with the second, which trains on in it until the first takes it back. All that is printed and
drawn after training is read back from the database, each tenant's part with that tenant's credential.

Repeating it is safe: it deletes its own models first. Their version numbers go on counting all the same, since no
version of a name is ever given twice.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from . import ModelNotFound, NotAuthorized, StorageError, TenantAwareStorage, Version, calls, embedded, migrate

MISSING = ""
try:
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter
    from rich import box
    from rich.console import Console
    from rich.progress import BarColumn, Progress
    from rich.table import Table
    from sklearn.datasets import load_diabetes, load_digits
    from sklearn.linear_model import SGDClassifier, SGDRegressor
    from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
except ModuleNotFoundError as error:
    MISSING = error.name or "a package"

__all__ = ["main"]

DIABETES, DIGITS = "diabetes-regression", "digits-classifier"


@dataclass(frozen=True, slots=True)
class Server:
    """One MCP server. key: its isolation key. seed: which samples it has. eta0: learning rates of its two models."""

    key: str
    seed: int
    regressor_eta0: float
    classifier_eta0: float
    line: tuple[str, str]

    @property
    def login(self) -> str:
        return "ai_storage_demo_" + self.key.split(":")[0]


# Okabe and Ito's colours, which colour-blind people can tell apart too.
FIRST = Server("acme:mcp-server-1:project-health:production:v1", 1, 2e-4, 5e-4, ("#0072b2", "-"))
SECOND = Server("acme:mcp-server-2:project-health:production:v1", 2, 4e-4, 3e-4, ("#e69f00", "-"))
FOREIGN = Server("globex:mcp-server-1:project-health:production:v1", 3, 3e-4, 1e-3, ("#009e73", "-"))
# The same samples as FIRST, so that the scores stay comparable; what is new in v2 are the learning rates.
SUCCESSOR = Server("acme:mcp-server-1:project-health:production:v2", 1, 4e-4, 2e-3, ("#0072b2", "--"))
SERVERS = (FIRST, SUCCESSOR, SECOND, FOREIGN)

Storages = dict[Server, TenantAwareStorage]
Curves = dict[Server, dict[str, list[Version]]]


class Trainee:
    """A linear model in training, and its samples: a quarter of them held out."""

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        common = {"learning_rate": "constant", "random_state": server.seed}
        if name == DIABETES:
            self.load, self.model = load_diabetes, SGDRegressor(eta0=server.regressor_eta0, **common)
        else:
            self.load, self.model = load_digits, SGDClassifier(loss="log_loss", eta0=server.classifier_eta0, **common)
        x, y = self.load(return_X_y=True)
        x, x_test, self.y, self.y_test = train_test_split(x, y, test_size=0.25, random_state=server.seed)
        scaler = StandardScaler().fit(x)
        self.x, self.x_test = scaler.transform(x), scaler.transform(x_test)
        self.classes = np.unique(y)

    def train_epoch(self) -> None:
        # A first call has to name all classes, as a batch need not have samples of each.
        self.model.partial_fit(self.x, self.y, **({"classes": self.classes} if self.name == DIGITS else {}))

    def evaluate(self) -> tuple[float, dict[str, float]]:
        """Mean squared error and further metrics on the held-out samples."""
        if self.name == DIABETES:
            predicted = self.model.predict(self.x_test)
            return float(mean_squared_error(self.y_test, predicted)), {"r2": float(r2_score(self.y_test, predicted))}
        p = self.model.predict_proba(self.x_test)
        accuracy = accuracy_score(self.y_test, self.classes[p.argmax(axis=1)])
        loss = log_loss(self.y_test, p, labels=self.classes)
        # The Brier score: the error of the probabilities against 1 for the true class and 0 for the others.
        brier = np.mean((p - (self.y_test[:, None] == self.classes)) ** 2)
        return float(brier), {"accuracy": float(accuracy), "log_loss": float(loss)}

    def describe(self, epoch: int) -> dict[str, Any]:
        """The metadata of one epoch: with the weights, so that training can go on from it."""
        return {
            "epoch": epoch,
            "dataset": self.load.__name__,
            "algorithm": type(self.model).__name__,
            "hyperparameters": self.model.get_params(),
            "coef": self.model.coef_.tolist(),
            "intercept": self.model.intercept_.tolist(),
            "t": self.model.t_,
        }

    def restore(self, metadata: dict[str, Any]) -> None:
        self.model.coef_, self.model.intercept_ = np.array(metadata["coef"]), np.array(metadata["intercept"])
        self.model.t_ = metadata["t"]


def _shared(storage: TenantAwareStorage, owner: Server) -> list[calls.Progress]:
    """What a server sees of another's digits classifier."""
    return storage.load_ai_progress(DIGITS, owner=owner.key)


def _train(storage: TenantAwareStorage, trainee: Trainee, epochs: int, owner: Server | None = None) -> Iterator[int]:
    """Go on from what is stored, or from nothing, and save every epoch. Yields: the version saved.

    owner: of the model, when it is a shared one.
    """
    version, epoch, samples = 0, 0, 0
    for stored in _shared(storage, owner) if owner else storage.load_ai_progress(trainee.name, scope="own"):
        trainee.restore(stored.metadata)
        version, epoch, samples = stored.version, stored.metadata["epoch"], stored.training_samples or 0
    for current in range(epoch + 1, epoch + epochs + 1):
        trainee.train_epoch()
        samples += len(trainee.x)
        mse, metrics = trainee.evaluate()
        metadata = trainee.describe(current)
        # expected_version: of two demos at the same time one is refused, instead of both mixing their curves.
        version = storage.save_ai_progress(
            trainee.name,
            mse,
            training_samples=samples,
            metrics=metrics,
            metadata=metadata,
            expected_version=version,
            owner=owner.key if owner else None,
        ).version
        yield version


def _train_all(console: Console, storages: Storages, epochs: int) -> None:
    """Train both models of each server, with a progress bar per server that counts what the database has saved."""
    columns = ("{task.description}", BarColumn(bar_width=20), "{task.completed}/{task.total} versions saved")
    with Progress(*columns, console=console) as progress:
        bars = {server: progress.add_task(server.key, total=2 * epochs) for server in storages}
        for server, storage in storages.items():
            for name in (DIABETES, DIGITS):
                for _ in _train(storage, Trainee(name, server), epochs):
                    progress.advance(bars[server])


def _share(console: Console, storages: Storages, epochs: int) -> bool:
    """Share a model with another server, which trains on in it, and take it back. Returns: whether that held."""
    owner, guest = storages[FIRST], storages[SECOND]
    owner.share_model(DIGITS, [{"server_id": SECOND.key.split(":")[1]}], ["read", "write"])
    for model in _shared(guest, FIRST):
        may = " and ".join(model.permissions)
        console.print(f"{SECOND.key} may {may} version {model.version} of")
        console.print(f"  {model.model_name} of {model.owner_key}")

    # The samples of FIRST, so that the scores stay comparable; the learning rate is its own.
    for _ in _train(guest, Trainee(DIGITS, replace(SECOND, seed=FIRST.seed)), epochs, FIRST):
        pass
    saved = [version for version in owner.load_history(DIGITS) if version.saved_by == SECOND.key]
    console.print(f"{FIRST.key} then has versions {saved[-1].version}-{saved[0].version}")
    console.print(f"  saved by {saved[0].saved_by}")

    ended = owner.unshare_model(DIGITS)
    console.print(f"{FIRST.key} takes it back: {ended} grant ended")
    left = _shared(guest, FIRST)
    console.print(f"  {SECOND.key} now sees {len(left)} models of it")
    try:
        guest.save_ai_progress(DIGITS, saved[0].mse, owner=FIRST.key)
    except ModelNotFound as refusal:
        console.print(f"Refused, SQLSTATE {refusal.sqlstate}: {SECOND.key} saves in it", soft_wrap=True)
        return not left
    console.print(f"NOT REFUSED: {SECOND.key} saves in a model that was taken back.", soft_wrap=True)
    return False


def _authorize(dsn: str, server: Server) -> str:
    """Let the login of a server's organisation act for all of the organisation's tenants. Returns: a DSN for it."""
    password = secrets.token_urlsafe()
    migrate.init(dsn, app_login=server.login, pattern=server.key.split(":")[0] + ":*:*:*:*")
    # A new password each time, kept nowhere: a server that asks for one lets the demo in, and nobody after it.
    with psycopg.connect(dsn, autocommit=True) as admin:
        verifier = admin.pgconn.encrypt_password(password.encode(), server.login.encode(), b"scram-sha-256").decode()
        admin.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(server.login), sql.Literal(verifier)))
    return make_conninfo(dsn, user=server.login, password=password)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4f}"


def _load(storages: Storages) -> tuple[Table, Curves]:
    """Load all that each server sees: as a table, and as training curves, oldest version first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("tenant, and the models it sees", overflow="fold")
    for heading in ("versions", "first mse", "best mse", "current metric"):
        table.add_column(heading, justify="right")
    curves: Curves = {server: {} for server in storages}
    for server, storage in storages.items():
        owner = None
        for model in storage.load_ai_progress():
            if model.owner_key != owner:
                owner = model.owner_key
                table.add_row(owner, style="bold")
            curve = curves[server][model.model_name] = storage.load_history(model.model_name, owner=owner)[::-1]
            errors = [version.mse for version in curve if version.mse is not None]
            table.add_row(
                f"  {model.model_name}",
                f"{len(curve)} ({curve[0].version}-{curve[-1].version})",
                _number(errors[0] if errors else None),
                _number(min(errors, default=None)),
                next((f"{name} {_number(value)}" for name, value in sorted(model.metrics.items())), "-"),
            )
        table.add_section()
    return table, curves


def _draw(curves: Curves, out: Path) -> list[Path]:
    """Draw the training curves of all servers side by side."""
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set(title="Diabetes progression", ylabel="mean squared error (held-out samples)")
    left.yaxis.set_major_formatter("{x:,.0f}")
    right.set(title="Handwritten digits", ylabel="accuracy (held-out samples)")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes, name in ((left, DIABETES), (right, DIGITS)):
        for server, models in curves.items():
            colour, style = server.line
            epochs = [version.metadata["epoch"] for version in models[name]]
            values = [version.mse if name == DIABETES else version.metrics["accuracy"] for version in models[name]]
            axes.plot(epochs, values, style, color=colour, linewidth=2, label=server.key)
            if server is SUCCESSOR:
                axes.plot(epochs[0], values[0], "o", markersize=8, markerfacecolor="white", color=colour)
                place = {"xytext": (0, 14), "textcoords": "offset points", "ha": "center"}
                axes.annotate("promoted to v2", (epochs[0], values[0]), color=colour, **place)
            guest = [at for at, version in enumerate(models[name]) if version.saved_by == SECOND.key != server.key]
            if guest:
                colour = SECOND.line[0]
                axes.plot(epochs[guest[0] :], values[guest[0] :], ":", color=colour, linewidth=3)
                place = {"xytext": (0, -32), "textcoords": "offset points", "ha": "right"}
                axes.annotate("shared: server 2 trains on", (epochs[-1], values[-1]), color=colour, **place)
        axes.set_xlabel("epoch")
        axes.margins(y=0.1)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylim(bottom=0)  # only now: set before the plots, it would freeze the axis at 0 to 1
    figure.suptitle("Training curves, loaded from the database tenant by tenant", weight="bold")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    paths = [out / "training-curves.svg", out / "training-curves.png"]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths


def _run(dsn: str | None, epochs: int, out: Path, console: Console) -> int:
    out.mkdir(parents=True, exist_ok=True)
    started = None
    if dsn is None:
        console.print("No --dsn given: starting the embedded PostgreSQL server ...")
        started = dsn = embedded.start()
    dsns = {server.login: _authorize(dsn, server) for server in (FIRST, FOREIGN)}
    with ExitStack() as stack:
        connect = {login: stack.enter_context(psycopg.connect(dsns[login], autocommit=True)) for login in dsns}
        storages = {server: TenantAwareStorage(connect[server.login], server.key) for server in SERVERS}
        for row in connect[FIRST.login].execute("select ai_storage.version(), current_setting('server_version')"):
            console.print("tenant-ai-storage {} on PostgreSQL {}".format(*row))

        console.print("\n[bold]Training: every epoch is saved as a version[/bold]")
        for storage in storages.values():
            for name in (DIABETES, DIGITS):
                storage.delete(name)
        _train_all(console, {server: storages[server] for server in (FIRST, SECOND, FOREIGN)}, epochs)

        console.print("\n[bold]A new code version: it gets the models by promote and trains on[/bold]")
        for model in storages[SUCCESSOR].promote("v1"):
            console.print(f"{model.model_name}: the current state of v1 is now version {model.version} of v2")
        _train_all(console, {SUCCESSOR: storages[SUCCESSOR]}, max(1, epochs // 2))

        console.print("\n[bold]Sharing: server 1 lets server 2 train on in one model, then takes it back[/bold]")
        if not _share(console, storages, max(1, epochs // 2)):
            return 1

        console.print("\n[bold]What each tenant sees[/bold]")
        table, curves = _load(storages)
        console.print(table)
        try:
            TenantAwareStorage(connect[FIRST.login], FOREIGN.key).load_ai_progress()
        except NotAuthorized as refusal:
            console.print(f"Refused, SQLSTATE {refusal.sqlstate}: {FIRST.login} as {FOREIGN.key}", soft_wrap=True)
        else:
            console.print(f"NOT REFUSED: {FIRST.login} as {FOREIGN.key}. Look at what it is authorised for.")
            return 1

        for path in _draw(curves, out):
            console.print(f"Training curves: {path}", soft_wrap=True, markup=False)
    if started:
        place = embedded.default_data_dir()
        console.print(f"\nThe embedded server runs on, with its data in {place}.", soft_wrap=True, markup=False)
        console.print("pydb db stop stops it; pydb db destroy deletes it with all data in it.")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo. Returns: the exit status."""
    parser = argparse.ArgumentParser(prog="pydb demo", description="Train real models and save every epoch.")
    # Not DATABASE_URL: nobody's own database gets the demo's logins and models unasked.
    admin = "DSN of a login that may run pydb init (default: an embedded server, which is started)"
    parser.add_argument("--dsn", help=admin)
    parser.add_argument("--out", type=Path, default="demo-out", help="folder for the pictures (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="epochs per model (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error("--epochs has to be 1 or more")
    if MISSING:
        print(f"The demo needs {MISSING}: pip install 'tenant-ai-storage[demo]'", file=sys.stderr)
        return 1
    # Without emoji: rich would take part of a key such as a:star:b for one.
    console = Console(emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 100)
    try:
        return _run(options.dsn or None, options.epochs, options.out, console)
    except (StorageError, migrate.MigrationError, embedded.EmbeddedError, psycopg.Error, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
