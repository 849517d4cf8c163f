"""What a SELECT compiles to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from storage.vocabulary import Columns, ColumnType


@dataclass(slots=True, frozen=True)
class Plan:
    """SQLite's SQL, the values of its parameters but `:now`, and the columns of the result."""

    sql: str
    values: Mapping[str, int | float | str]
    columns: Columns


@dataclass(slots=True, frozen=True)
class Typed:
    """An expression in SQLite's SQL, with its type and the name that a column of it gets upstream.

    `type` None is that of a bare NULL. `chain` is the operator when `sql` is a bracketed row of operands of one
    operator class, so that a long row stays one bracket deep.
    """

    sql: str
    type: ColumnType | None
    name: str
    chain: str = ""

    def named(self, name: str) -> Typed:
        return replace(self, name=name)


@dataclass(slots=True)
class Values:
    """Collects the values of a plan: literals are bound, never written into SQL."""

    bound: dict[str, int | float | str] = field(default_factory=dict)

    def bind(self, value: float | str) -> str:
        """The parameter that stands for a value."""
        name = f"v{len(self.bound)}"
        self.bound[name] = value
        return f":{name}"


NOW = "now"
NOW_PARAMETER = f":{NOW}"
