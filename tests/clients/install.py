"""Install the npm packages that the tests drive: one generation of the Cube client to a folder.

    python tests/clients/install.py clients      the drivers and QueryQueue of seven generations
    python tests/clients/install.py e2e          whole Cube API servers (builds sqlite3 from source)
    python tests/clients/install.py mysql        mysql2, a client of the MySQL port

A folder whose lock file has not changed since its last install is left alone. Without Node the tests skip, so this
succeeds with a word about it; where CI=true it fails.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
GROUPS = {
    "clients": TESTS / "clients" / "packages",
    "e2e": TESTS / "e2e" / "packages",
    "mysql": TESTS / "mysql" / "packages",
}
STAND_IN = TESTS / "clients" / "native-stand-in"
INSTALLS_AT_ONCE = 2
NODE_MINIMUM = 20
SQLITE = Path("node_modules") / "sqlite3"

_sqlite_build = threading.Lock()


def folders(group: str) -> list[Path]:
    """The package folders of one group, oldest generation first."""
    found = [path.parent for path in GROUPS[group].glob("*/package-lock.json")]
    return sorted(found, key=lambda path: [int(part) for part in path.name.split(".")])


def missing_node() -> str | None:
    """Why the Node tests cannot run on this machine, or None."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return f"Node {NODE_MINIMUM} and npm (Debian: nodejs npm)"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    if int(version.lstrip("v").split(".", maxsplit=1)[0]) < NODE_MINIMUM:
        return f"Node {NODE_MINIMUM}, this is {version}"
    return None


def is_installed(folder: Path) -> bool:
    """Whether the folder holds what its lock file says."""
    stamp = _stamp(folder)
    return stamp.exists() and stamp.read_text() == _fingerprint(folder)


def install(folder: Path) -> str:
    """Bring one folder up to date; a line about what was done."""
    started = time.monotonic()
    if is_installed(folder):
        _put_stand_in(folder)
        return f"{folder.parent.parent.name} {folder.name}: up to date"
    # Scripts stay off (.npmrc): the packages' own ones download binaries that the tests have no use for.
    _npm(folder, "ci", "--loglevel=error")
    if (folder / SQLITE).is_dir():
        _build_sqlite(folder)
    _put_stand_in(folder)
    _stamp(folder).write_text(_fingerprint(folder))
    return f"{folder.parent.parent.name} {folder.name}: installed in {time.monotonic() - started:.0f} s"


def _build_sqlite(folder: Path) -> None:
    """From source, and once for all folders: it takes a minute."""
    release = folder / SQLITE / "build" / "Release"
    with _sqlite_build:
        for other in folder.parent.iterdir():
            built = other / SQLITE / "build" / "Release" / "node_sqlite3.node"
            if built.exists() and _version(other / SQLITE) == _version(folder / SQLITE):
                release.mkdir(parents=True, exist_ok=True)
                shutil.copy2(built, release)
                return
        _npm(folder, "rebuild", "sqlite3", "--build-from-source", "--ignore-scripts=false", *_node_headers())


def _version(package: Path) -> str:
    version: str = json.loads((package / "package.json").read_text())["version"]
    return version


def _npm(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["npm", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=900,
    )
    if done.returncode != 0:
        raise SystemExit(f"npm {arguments[0]} failed in {folder}:\n{done.stdout}{done.stderr}")


def _node_headers() -> list[str]:
    """Node's own headers where it was installed with them, so that the build needs no download."""
    node = shutil.which("node")
    assert node is not None
    prefix = Path(node).resolve().parent.parent
    return [f"--nodedir={prefix}"] if (prefix / "include" / "node" / "node_version.h").exists() else []


def _put_stand_in(folder: Path) -> None:
    """Node loads a folder named `index.node` as readily as the binary of that name.

    Those need it that decode every answer natively, and so ask for the reader it rests on, and whole servers.
    """
    modules = folder / "node_modules"
    if (modules / "apache-arrow").is_dir() or (modules / "@cubejs-backend" / "server").is_dir():
        shutil.copytree(STAND_IN, modules / "@cubejs-backend" / "native" / "index.node", dirs_exist_ok=True)


def _stamp(folder: Path) -> Path:
    return folder / "node_modules" / ".installed"


def _fingerprint(folder: Path) -> str:
    return hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()


def main(arguments: list[str]) -> int:
    """Install the named groups."""
    reason = missing_node()
    if reason is not None:
        print(f"The tests with the real Cube clients cannot run: they need {reason}.", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0
    wanted = [folder for group in arguments or ["clients"] for folder in folders(group)]
    with ThreadPoolExecutor(INSTALLS_AT_ONCE) as pool:
        for line in pool.map(install, wanted):
            print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
