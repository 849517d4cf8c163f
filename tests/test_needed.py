"""A machine that lacks a program is told the package, test by test and in one line at the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needed import DEBIAN_PACKAGES, packages_of, reason, require

ROOT = Path(__file__).resolve().parents[1]
# What .ci/run does not install: a part of every Debian, and a client whose test has a substitute (`make lint-deploy`).
_NOT_IN_CI = {"util-linux", "kubernetes-client"}


def test_ci_installs_every_package_of_the_table() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    wanted = {name for group in re.findall(r"wanted\+=\(([^)]*)\)", script) for name in group.split()}
    packages = {name for names in DEBIAN_PACKAGES.values() for name in names.split()}
    assert packages - wanted == _NOT_IN_CI


def test_packages_are_found_in_reasons() -> None:
    reasons = [reason("npm"), reason("strace"), reason("npm"), "needs the right to mount"]
    assert packages_of(reasons) == ["nodejs", "npm", "strace"]


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_ci_fails_where_others_skip(ci: str, outcome: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", ci)
    require(True, "strace")
    with pytest.raises(outcome, match=r"needs strace \(Debian: strace\)"):
        require(False, "strace")


def test_a_run_ends_with_the_line_that_installs_what_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/mysql/test_mariadb_client.py"],
        cwd=ROOT,
        env={**os.environ, "CI": "", "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert "needs mariadb (Debian: mariadb-client)" in done.stdout
    assert "For the skipped tests: apt-get install mariadb-client\n" in done.stdout
