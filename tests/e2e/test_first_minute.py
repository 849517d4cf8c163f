"""The first minute of the README: the model and the script of the repository, on a real Cube."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.clients.processes import Cubequeue
from tests.docs.blocks import ROOT
from tests.e2e.api_server import SECRET, ApiServer, DataSource

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_cube_answers_with_the_model_of_the_repository(tmp_path: Path) -> None:
    folder = tmp_path / "api"
    folder.mkdir()
    with (
        Cubequeue(tmp_path / "cubequeue.log") as cubequeue,
        ApiServer("1.7.43", cubequeue, DataSource(tmp_path), folder, 0, model=ROOT / "deploy/model") as cube,
    ):
        query = json.dumps({"measures": ["shop_orders.count"], "dimensions": ["shop_orders.status"]})
        environment = {**os.environ, "CUBEJS_API_SECRET": SECRET, "CUBE_URL": cube.url}
        until_s = time.monotonic() + 60
        while True:
            done = subprocess.run(
                [ROOT / "deploy/ask", query], env=environment, check=True, capture_output=True, text=True, timeout=30
            )
            answer = json.loads(done.stdout)
            if answer.get("error") != "Continue wait":
                break
            assert time.monotonic() < until_s
    rows = {row["shop_orders.status"]: int(row["shop_orders.count"]) for row in answer["data"]}
    assert rows == {"new": 1, "paid": 2, "shipped": 1}
