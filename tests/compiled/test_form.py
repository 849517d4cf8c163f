"""Tests run on the form they say they do: sources here, the modules of the compiled wheel with `make test-compiled`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

SUFFIX = {"pure": ".py", "compiled": ".so"}[os.environ.get("CUBEQUEUE_FORM", "pure")]


@pytest.mark.parametrize(
    "name",
    ["protocol.parser", "storage.queue.statements", "storage.cache.statements", "cubequeue_server.requests.dispatcher"],
)
def test_a_hot_module_has_the_form_of_this_run(name: str) -> None:
    assert Path(str(importlib.import_module(name).__file__)).suffix == SUFFIX
