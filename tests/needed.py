"""What some tests need of a machine: each program with its Debian package, in one table.

Without it a test is skipped, with the package in the reason; where CI=true it fails, for CI installs all of them
(.ci/run). A run of pytest ends with one line that installs what was missing.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from typing import Final

import pytest

# From a program to the Debian package that brings it.
DEBIAN_PACKAGES: Final = {
    "Chromium": "chromium",
    "haproxy": "haproxy",
    "kubectl": "kubernetes-client",
    "mariadb": "mariadb-client",
    "npm": "nodejs npm",
    "openssl": "openssl",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}
_IN_REASON: Final = re.compile(r"\(Debian: ([a-z0-9+. -]+)\)")


def reason(what: str) -> str:
    """The reason of a skip for want of something, with the package if it is a program of the table."""
    package = DEBIAN_PACKAGES.get(what)
    return f"needs {what}" if package is None else f"needs {what} (Debian: {package})"


def require(condition: object, what: str) -> None:
    """Skip the test unless `condition` holds; fail it where CI=true."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(reason(what))
    pytest.skip(reason(what))


def require_program(name: str) -> None:
    """The same for a program of the table."""
    require(shutil.which(name), name)


def packages_of(reasons: Iterable[str]) -> list[str]:
    """The Debian packages that reasons of skips name, sorted."""
    return sorted({package for each in reasons for names in _IN_REASON.findall(each) for package in names.split()})
