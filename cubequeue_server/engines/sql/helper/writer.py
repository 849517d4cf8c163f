"""Writes an annotated SELECT for SQLite: sqlglot writes the clauses, `rules` give the expressions."""

from __future__ import annotations

import re
from typing import Any, Final

from sqlglot import expressions as exp
from sqlglot.errors import ErrorLevel
from sqlglot.generators.sqlite import SQLiteGenerator

from cubequeue_server.engines.sql.helper import rules
from cubequeue_server.engines.sql.helper.dialect import is_integer, shown, type_of
from cubequeue_server.engines.sql.helper.functions import parse_interval
from storage.errors import UserError

# The SQL function that gives the large value of a reference.
LARGE_VALUE: Final = "cq_large"
# In the `meta` of a column: it holds references to large values; they may stand in the result themselves.
IS_LARGE, IS_REFERENCE = "large", "reference"

_DECIMAL: Final = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Writer(SQLiteGenerator):
    """Writes one statement. `values` collects the values of its parameters. Raises UserError."""

    def __init__(self) -> None:
        super().__init__(dialect="sqlite", identify=True, comments=False, unsupported_level=ErrorLevel.IGNORE)
        self.values: dict[str, float | str] = {}

    def _call(self, node: Any) -> str:  # sqlglot's tree is untyped
        name, rule, nodes = rules.call(node)
        arguments = self._arguments(node, name, rule.wants, nodes)
        sql = rule.sql.format(*arguments, all=", ".join(arguments))
        return f"(NOT {sql})" if node.args.get("negate") else sql

    def _arguments(self, node: Any, name: str, wants: str, nodes: list[Any]) -> list[str]:
        letters, _, optional = wants.partition(".")
        least, most = len(letters), len(letters) + len(optional)
        letters = wants[0] * len(nodes) if wants.endswith("+") else letters + optional
        if not (nodes if wants.endswith("+") else least <= len(nodes) <= most):
            raise UserError(f"{name} with {len(nodes)} arguments is not supported")
        wanted: dict[str, rules.Type] = {"s": rules.STRING, "t": rules.TIMESTAMP}
        wanted["="] = rules.compared_type(map(type_of, nodes))
        wanted["c"] = rules.common_type(map(type_of, nodes))
        return [
            self._argument(letter, argument, node, wanted.get(letter))
            for letter, argument in zip(letters, nodes, strict=False)
        ]

    def _argument(self, letter: str, node: Any, call: Any, wanted: rules.Type) -> str:
        if letter == "i":
            return "{}, {}".format(*_interval(node))
        if letter == "w":
            if isinstance(node, exp.Var | exp.Column) or (isinstance(node, exp.Literal) and node.is_string):
                return self._bound(node.name)
            raise UserError(f"{shown(call)} needs a constant there")
        if letter == "n" and type_of(node) not in {rules.INT, rules.FLOAT, None}:
            raise UserError(f"{shown(call)}: numbers are wanted")
        return self._converted(node, wanted)

    def _converted(self, node: Any, wanted: rules.Type) -> str:
        """An expression converted to a type; None converts nothing, and a bare NULL has any type."""
        sql, type_ = self.sql(node), type_of(node)
        if wanted is None or type_ is None or type_ == wanted:
            return sql
        cast = rules.CASTS.get((type_, wanted))
        if cast is None:
            raise UserError(f"a {type_.value} cannot become a {wanted.value}")
        return cast.format(sql)

    def _bound(self, value: float | str) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def _literal(self, node: Any) -> str:
        number = str(node.this)
        if node.is_string:
            return self._bound(number)
        if is_integer(node):
            return str(int(number))
        if len(number) > 400 or _DECIMAL.fullmatch(number) is None:
            raise UserError(f"number {number[:60]} is not supported")
        return self._bound(float(number))

    def _column(self, node: Any) -> str:
        sql = self.column_sql(node)
        return f"{LARGE_VALUE}({sql})" if node.meta.get(IS_LARGE) and not node.meta.get(IS_REFERENCE) else sql

    def _table(self, node: Any) -> str:
        name = exp.to_identifier(".".join(part.name for part in node.parts), quoted=True)
        return f"{self.sql(name)} AS {self.sql(node, 'alias')}"

    def _in(self, node: Any) -> str:
        if query := node.args.get("query"):
            return f"({self.sql(node, 'this')} IN {self.sql(query)})"
        left, *options = self._arguments(node, "IN", "=+", [node.this, *node.expressions])
        return f"({left} IN ({', '.join(options)}))"

    def _case(self, node: Any) -> str:
        conditions, values = rules.branches(node)
        if isinstance(node, exp.Case) and node.this is not None:
            subject, *tests = self._arguments(node, "CASE", "=+", [node.this, *conditions])
        else:
            subject, tests = "", [self.sql(condition) for condition in conditions]
        *yes, no = self._arguments(node, "CASE", "c+", values)
        whens = " ".join(f"WHEN {test} THEN {value}" for test, value in zip(tests, yes, strict=True))
        return f"(CASE {subject} {whens} ELSE {no} END)"

    def _cast(self, node: Any) -> str:
        word = getattr(node.to.this, "name", str(node.to.this))
        if word not in rules.TYPES:
            raise UserError(f"CAST to {word} is not supported")
        sql = self._converted(node.this, rules.TYPES[word])
        return f"cq_truncate('day', {sql})" if word == "DATE" else sql

    TRANSFORMS = {  # noqa: RUF012  # read by sqlglot
        **SQLiteGenerator.TRANSFORMS,
        **dict.fromkeys([kind for kind in rules.RULES if isinstance(kind, type)], _call),
        **dict.fromkeys((exp.Case, exp.If), _case),
        **dict.fromkeys((exp.Cast, exp.TryCast), _cast),
        exp.Anonymous: _call,
        exp.Boolean: lambda _, node: "1" if node.this else "0",
        exp.Column: _column,
        exp.In: _in,
        exp.Literal: _literal,
        exp.Table: _table,
    }


def _interval(node: Any) -> tuple[int, int]:
    """(months, milliseconds) of `INTERVAL '7 DAY'`, `INTERVAL 7 DAY` and the like."""
    amount = node.this if isinstance(node, exp.Interval) else None
    if not isinstance(amount, exp.Literal):
        raise UserError("a constant interval such as INTERVAL '7 DAY' is wanted")
    unit = node.args.get("unit")
    return parse_interval(f"{amount.name} {unit.name}" if unit is not None else amount.name)
