"""Which engine answers which family of statements: the only place that knows. A new engine is one row here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.commands import COMMANDS
from storage.engine import Engine, Store
from storage.vocabulary import OtherSql, Statement, SysForeign

# SQL that is not the store's: SELECT, start-up texts, DDL, SYS of CubeStore's other engines.
OF_SQL: Final[frozenset[type[Statement]]] = frozenset({OtherSql, SysForeign})


class Router:
    """The engines of one server. `routes` gives the engine of each class of statements."""

    def __init__(self, store: Store, sql: Engine) -> None:
        self.store = store
        self._engines = (store, sql)
        of_store = {command.statement for command in COMMANDS} - OF_SQL
        self.routes: Mapping[type[Statement], Engine] = {
            **dict.fromkeys(of_store, store),
            **dict.fromkeys(OF_SQL, sql),
        }

    def tick(self, now_ms: int, max_rows: int) -> bool:
        """Background work of all engines; True when more is due."""
        is_more_due = False
        for engine in self._engines:
            is_more_due |= engine.tick(now_ms, max_rows)
        return is_more_due

    def end_waits(self, now_ms: int) -> None:
        """End all waits."""
        for engine in self._engines:
            engine.end_waits(now_ms)
