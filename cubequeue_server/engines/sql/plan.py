"""What a SELECT compiles to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from storage.system_tables import SystemTable
from storage.vocabulary import Columns, ColumnType


@dataclass(slots=True, frozen=True)
class Plan:
    """SQLite's SQL, the values of its parameters but `:now`, and the columns of the result.

    `reads` are the tables of the store that are to be there, and which of their columns, by position. The result
    columns in `references` do not hold values but what `TableDatabase` has put in their place.
    """

    sql: str
    values: Mapping[str, int | float | str]
    columns: Columns
    reads: Mapping[SystemTable, tuple[int, ...]] = field(default_factory=dict)
    references: frozenset[int] = frozenset()


@dataclass(slots=True, frozen=True)
class Typed:
    """An expression in SQLite's SQL, with its type and the name that a column of it gets upstream.

    `type` None is that of a bare NULL. `chain` is the operator when `sql` is a bracketed row of operands of one
    operator class, so that a long row stays one bracket deep. `reference` is what stands for the value of a bare
    column that holds large ones.
    """

    sql: str
    type: ColumnType | None
    name: str
    chain: str = ""
    reference: str = ""

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
# The function that gives the large value that a reference stands for.
LARGE_VALUE = "cq_large"
