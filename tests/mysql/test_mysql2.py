"""The MySQL port by npm's mysql2, texts and prepared statements."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import make_certificate
from tests.cli.running import Running, serving
from tests.clients.install import folders
from tests.clients.processes import package_folder

pytestmark = pytest.mark.node

SCRIPT = Path(__file__).resolve().parent / "js" / "mysql2.js"
VERSIONS = [folder.name for folder in folders("mysql")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("has_users", [False, True])
def test_mysql2(version: str, has_users: bool, server: Running) -> None:
    packages = package_folder("mysql", version)
    if has_users:
        with serving("--mysql-bind", "127.0.0.1:auto", CUBEQUEUE_USER="ann", CUBEQUEUE_PASSWORD="s3cret") as guarded:
            assert answers(guarded, packages) == EXPECTED
    else:
        assert answers(server, packages) == EXPECTED


@pytest.mark.parametrize("version", VERSIONS)
def test_mysql2_inside_of_tls(version: str, tmp_path: Path) -> None:
    packages, certificate = package_folder("mysql", version), make_certificate(tmp_path)
    flags = ["--tls-cert", str(certificate.certificate), "--tls-key", str(certificate.key)]
    with serving("--mysql-bind", "127.0.0.1:auto", *flags) as secured:
        assert answers(secured, packages, CA_FILE=str(certificate.certificate)) == EXPECTED


def answers(server: Running, packages: Path, **variables: str) -> dict[str, Any]:
    host, port = server.mysql
    done = subprocess.run(
        ["node", SCRIPT, host, str(port), "ann", "s3cret"],
        env={**os.environ, "CLIENT_FOLDER": str(packages), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {line["name"]: line["value"] for line in map(json.loads, done.stdout.splitlines())}


ITEM = {"id": "a", "priority": 4, "exclusive": "false", "extra": None, "value": 'it\'s "quoted" \\ \n'}
UNKNOWN = [1815, "HY000", 'ParserError("Unknown queue command: foo")']
EXPECTED = {
    "text": [1, [ITEM], 0],
    "prepared": [
        [{"success": "true"}],
        [{"value": 'it\'s \\ ? "here" \N{GRINNING FACE}'}],
        [{"id": "a", "priority": 4}],
        [{"mark": "?", "nothing": None, "large": 5_000_000_000}],
        [{"success": "true"}],
        [{"value": "0xFF00"}],
        0,
    ],
    "the same one again": ["1", "2", "3", "4", "5"],
    "error": [[UNKNOWN, UNKNOWN], [{"one": 1}]],
    "wait": "woken",
    "other commands": [{"one": 1}],
    "rows": ["a"],
}
