"""What `make` would do on a fresh machine, without doing it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import ROOT


@pytest.mark.parametrize(
    ("target", "locks"),
    [
        ("run", ["requirements.lock"]),
        ("setup", ["requirements.lock", "requirements-dev.lock"]),
        ("docs", ["requirements.lock", "requirements-dev.lock", "requirements-docs.lock"]),
    ],
)
def test_a_target_installs_what_it_needs_and_no_more(target: str, locks: list[str], tmp_path: Path) -> None:
    command = ["make", "--dry-run", target, f"VENV={tmp_path / 'venv'}"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    assert re.findall(r"-r (requirements\S*\.lock)", planned) == locks
