"""What examples/clients and PostGraphile run on. `make servers` gets it, by apt where possible and by npm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "examples" / "clients"
POSTGRAPHILE = FOLDER.parent / "postgraphile"
# From PyPI, with the development tools: PostGraphile wants a newer one than Debian has.
NODE = Path(sys.prefix) / "bin"
JDBC = "/usr/share/java/postgresql.jar"


@dataclass(frozen=True, slots=True)
class Client:
    """An example client: how it is run, how to tell that its runtime and its driver are here, and their packages."""

    name: str
    command: tuple[str, ...]
    probe: tuple[str, ...]
    packages: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def is_here(self) -> bool:
        """Whether its runtime and its driver are installed."""
        environment = {**os.environ, **self.environment}
        try:
            return subprocess.run(self.probe, cwd=FOLDER, env=environment, capture_output=True).returncode == 0
        except FileNotFoundError:
            return False


CLIENTS = (
    Client("node", (f"{NODE}/node", "session.mjs"), (f"{NODE}/node", "--eval", "require.resolve('pg')")),
    Client(
        "java",
        ("java", "-XX:TieredStopAtLevel=1", "-cp", JDBC, "Session.java"),
        ("sh", "-c", f"command -v javac && test -e {JDBC}"),
        ("default-jdk-headless", "libpostgresql-jdbc-java"),
    ),
    Client(
        "php",
        ("php", "session.php"),
        ("php", "-r", "exit(extension_loaded('pdo_pgsql') ? 0 : 1);"),
        ("php-cli", "php-pgsql"),
    ),
    Client("ruby", ("ruby", "session.rb"), ("ruby", "-rpg", "-e", ""), ("ruby", "ruby-pg")),
    Client("perl", ("perl", "session.pl"), ("perl", "-MDBD::Pg", "-e", ""), ("libdbd-pg-perl",)),
    # No package is asked for, since a compiler takes longest to get: it is run where golang-go is installed, as the
    # example says where modules can be downloaded, and with Debian's golang-github-lib-pq-dev where that is.
    Client("go", ("go", "run", "session.go"), ("go", "mod", "download")),
    Client(
        "go, Debian's driver",
        ("go", "run", "session.go"),
        ("go", "list", "github.com/lib/pq"),
        environment={"GO111MODULE": "off", "GOPATH": "/usr/share/gocode"},
    ),
)


def missing_packages() -> list[str]:
    """The packages of the system that the clients want and do not find."""
    return [package for client in CLIENTS if client.packages and not client.is_here() for package in client.packages]


def has_modules(folder: Path) -> bool:
    """Whether node_modules holds the versions that package.json pins."""
    pinned = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]
    found = {name: folder / "node_modules" / name / "package.json" for name in pinned}
    return all(
        path.exists() and json.loads(path.read_text("utf-8"))["version"] == pinned[name] for name, path in found.items()
    )


def install_modules() -> None:
    """Get the modules of Node, where npm can; what it says otherwise is printed."""
    options = ["--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    environment = {**os.environ, "PATH": f"{NODE}{os.pathsep}{os.environ['PATH']}"}
    for folder in (FOLDER, POSTGRAPHILE):
        if not has_modules(folder):
            subprocess.run([NODE / "npm", "install", *options], cwd=folder, env=environment, check=False)
