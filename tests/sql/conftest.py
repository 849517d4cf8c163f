from __future__ import annotations

from collections.abc import Callable

import pytest

from cubequeue_server.engines.sql.engine import SqlEngine
from storage.asking import ANYBODY
from storage.vocabulary import Cell, OtherSql, Result
from tests.asking import Told

NOW_MS = 1_700_000_001_234  # 2023-11-14T22:13:21.234Z

Execute = Callable[..., Result]


@pytest.fixture(scope="session")
def engine() -> SqlEngine:
    engine = SqlEngine(Told)
    engine.prepare()
    return engine


@pytest.fixture
def execute(engine: SqlEngine) -> Execute:
    def run(text: str | bytes, *parameters: Cell, now_ms: int = NOW_MS) -> Result:
        encoded = text.encode() if isinstance(text, str) else text
        result = engine.execute(OtherSql(encoded, parameters), ANYBODY, None, now_ms)
        assert isinstance(result, Result)
        return result

    return run
