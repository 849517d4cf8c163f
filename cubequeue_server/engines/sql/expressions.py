"""Expressions of sqlglot's tree to SQLite's SQL with types: what is not listed here is refused.

Semantics are those of CubeStore's engine: integers divide as integers, `||` joins texts, comparisons bring a text to
the time it is compared with. FLOOR and CEIL of a quotient are exact, whatever the sign, and integers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar, Final, Protocol

from sqlglot import expressions as exp

from cubequeue_server.engines.sql import times
from cubequeue_server.engines.sql.functions import FUNCTIONS, Compiled, function_of
from cubequeue_server.engines.sql.plan import Typed, Values
from cubequeue_server.engines.sql.source import STAND_IN
from cubequeue_server.engines.sql.typing_rules import as_text, as_type, common_type
from storage.errors import UserError
from storage.vocabulary import ColumnType

_INT, _FLOAT, _STRING = ColumnType.INT, ColumnType.FLOAT, ColumnType.STRING
_BOOLEAN, _TIMESTAMP = ColumnType.BOOLEAN, ColumnType.TIMESTAMP
_NUMBERS: Final = frozenset({_INT, _FLOAT, None})
_MAX_INT: Final = (1 << 63) - 1
_DECIMAL: Final = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Names(Protocol):
    """What an expression can refer to."""

    def column(self, table: str, name: str) -> Typed:
        """A column; `table` empty when it was not qualified. Raises UserError."""

    def subquery(self, query: Any) -> tuple[str, list[tuple[str, ColumnType | None]]]:
        """A nested SELECT and its columns."""


class Expressions:
    """Compiles expressions of one query. Recursion is as deep as the nesting, which the source bounds."""

    def __init__(self, names: Names, values: Values, literals: tuple[str, ...]) -> None:
        self._names = names
        self._values = values
        self._literals = literals
        self._done: dict[int, Typed] = {}

    def compile(self, node: Any) -> Typed:  # sqlglot's tree is untyped
        """One expression, compiled once however often it is asked for. Raises UserError for what is not supported."""
        typed = self._done.get(id(node))
        if typed is None:
            typed = self._done[id(node)] = self._compile(node)
        return typed

    def _compile(self, node: Any) -> Typed:
        if isinstance(node, _BINARY_NODES):
            return self._spine(node)
        compiler = self._compilers.get(type(node))
        return self._function(node) if compiler is None else compiler(self, node)

    def text_constant(self, node: Any) -> str | None:
        """The value of a text literal, None when the node is none."""
        if isinstance(node, exp.Literal) and node.is_string:
            return str(node.this)
        if isinstance(node, exp.Placeholder) and str(node.this).startswith(STAND_IN):
            return self._literals[int(str(node.this).removeprefix(STAND_IN))]
        return None

    def bind(self, value: str) -> str:
        """The parameter that stands for a text."""
        return self._values.bind(value)

    # Literals and names

    def _literal(self, node: Any) -> Typed:
        text = self.text_constant(node)
        if text is not None:
            return Typed(self._values.bind(text), _STRING, f'Utf8("{text}")')
        number = str(node.this)
        if number.isdigit() and len(number) < 20 and int(number) <= _MAX_INT:
            return Typed(self._values.bind(int(number)), _INT, f"Int64({int(number)})")
        if len(number) > 400 or _DECIMAL.fullmatch(number) is None:
            raise UserError(f"number {number[:60]} is not supported")
        return Typed(self._values.bind(float(number)), _FLOAT, f"Float64({float(number)!r})")

    def _boolean(self, node: Any) -> Typed:
        return Typed("1" if node.this else "0", _BOOLEAN, f"Boolean({'true' if node.this else 'false'})")

    def _null(self, _node: Any) -> Typed:
        return Typed("NULL", None, "NULL")

    def _column(self, node: Any) -> Typed:
        if isinstance(node.this, exp.Star):
            raise UserError("* is supported as a column of its own only")
        return self._names.column(node.table, node.name)

    def _bracket(self, node: Any) -> Typed:
        return self.compile(node.this)

    def _subquery(self, node: Any) -> Typed:
        query = node.this if isinstance(node, exp.Subquery) else node
        if not isinstance(query, exp.Query):
            return self.compile(query)
        sql, columns = self._names.subquery(query)
        if len(columns) != 1:
            raise UserError("a SELECT in an expression needs exactly one column")
        return Typed(f"({sql})", columns[0][1], columns[0][0])

    # Operators

    def _spine(self, node: Any) -> Typed:
        """A row of operators that lean to the left: walked in a loop, for it may be a thousand long."""
        rights: list[Any] = []
        while isinstance(node, _BINARY_NODES):
            rights.append(node)
            node = node.this
        result = self.compile(node)
        for operator in reversed(rights):
            result = self._binary(operator, result)
        return result

    def _binary(self, node: Any, left: Typed) -> Typed:
        kind = type(node)
        if kind in _ARITHMETIC and isinstance(node.expression, exp.Interval):
            return self._shifted(left, node.expression, 1 if kind is exp.Add else -1, kind)
        right = self.compile(node.expression)
        if kind in _LOGIC:
            return _chained(left, right, _LOGIC[kind], _LOGIC[kind], _BOOLEAN)
        if kind in _COMPARISONS:
            return _compared(left, right, _COMPARISONS[kind])
        if kind is exp.DPipe:
            sides = as_text(left), as_text(right)
            return _chained(*sides, "||", "||", _STRING).named(f"{left.name} || {right.name}")
        return _calculated(left, right, kind)

    def _shifted(self, time: Typed, interval: Any, sign: int, kind: type) -> Typed:
        if kind not in {exp.Add, exp.Sub}:
            raise UserError("an interval can be added and subtracted only")
        months, milliseconds = self.interval(interval)
        moment = as_type(time, _TIMESTAMP)
        name = f"{time.name} {'+' if sign > 0 else '-'} Interval"
        return Typed(f"cq_add_interval({moment.sql}, {sign * months}, {sign * milliseconds})", _TIMESTAMP, name)

    def interval(self, node: Any) -> tuple[int, int]:
        """(months, milliseconds) of `INTERVAL '7 DAY'`, `INTERVAL 7 DAY` and the like."""
        if not isinstance(node, exp.Interval):
            raise UserError("an interval such as INTERVAL '7 DAY' is wanted")
        amount, sign = node.this, 1
        while isinstance(amount, exp.Neg | exp.Paren):
            sign = -sign if isinstance(amount, exp.Neg) else sign
            amount = amount.this
        text = self.text_constant(amount)
        if text is None:
            if not isinstance(amount, exp.Literal):
                raise UserError("an interval needs a constant")
            text = str(amount.this)
        unit = node.args.get("unit")
        if unit is not None and text.strip().lstrip("+-").isdigit():
            text = f"{text} {unit.name}"
        months, milliseconds = times.parse_interval(text)
        return sign * months, sign * milliseconds

    def _negated(self, node: Any) -> Typed:
        operand = self.compile(node.this)
        if operand.type not in _NUMBERS:
            raise UserError(f"- of {operand.name} is not supported")
        return Typed(f"(-{operand.sql})", operand.type, f"(- {operand.name})")

    def _not(self, node: Any) -> Typed:
        operand = self.compile(node.this)
        return Typed(f"(NOT {operand.sql})", _BOOLEAN, f"NOT {operand.name}")

    def _is(self, node: Any) -> Typed:
        left, right = self.compile(node.this), self.compile(node.expression)
        if right.sql not in {"NULL", "0", "1"}:
            raise UserError("IS is supported with NULL, TRUE and FALSE only")
        return Typed(f"({left.sql} IS {right.sql})", _BOOLEAN, f"{left.name} IS {right.name}")

    def _like(self, node: Any) -> Typed:
        text, pattern = as_text(self.compile(node.this)), as_text(self.compile(node.expression))
        sides = f"{text.sql}, {pattern.sql}"
        if isinstance(node, exp.ILike):
            sides = f"lower({text.sql}), lower({pattern.sql})"
        sql = f"cq_like({sides})"
        return Typed(f"(NOT {sql})" if node.args.get("negate") else sql, _BOOLEAN, f"{text.name} LIKE {pattern.name}")

    def _in(self, node: Any) -> Typed:
        left = self.compile(node.this)
        query = node.args.get("query")
        if query is not None:
            inner = self._subquery(query)
            return Typed(f"({left.sql} IN {inner.sql})", _BOOLEAN, f"{left.name} IN (SELECT)")
        if not node.expressions:
            raise UserError("IN needs a list or a SELECT")
        left, *options = _aligned([left, *(self.compile(option) for option in node.expressions)])
        items = ", ".join(option.sql for option in options)
        return Typed(f"({left.sql} IN ({items}))", _BOOLEAN, f"{left.name} IN ([…])")

    def _between(self, node: Any) -> Typed:
        value, low, high = _aligned([self.compile(part) for part in (node.this, node.args["low"], node.args["high"])])
        return Typed(f"({value.sql} BETWEEN {low.sql} AND {high.sql})", _BOOLEAN, f"{value.name} BETWEEN …")

    def _exists(self, node: Any) -> Typed:
        sql, _ = self._names.subquery(node.this)
        return Typed(f"EXISTS ({sql})", _BOOLEAN, "EXISTS")

    def _case(self, node: Any) -> Typed:
        """CASE in both forms, and IF(condition, yes, no)."""
        branches = node.args["ifs"] if isinstance(node, exp.Case) else [node]
        conditions = [self.compile(branch.this) for branch in branches]
        subject = ""
        if isinstance(node, exp.Case) and node.this is not None:
            first, *conditions = _aligned([self.compile(node.this), *conditions])
            subject = first.sql + " "
        results = [self.compile(branch.args["true"]) for branch in branches]
        otherwise = node.args.get("default") if isinstance(node, exp.Case) else node.args.get("false")
        results.append(Typed("NULL", None, "NULL") if otherwise is None else self.compile(otherwise))
        wanted = common_type(results)
        *yes, no = [as_type(result, wanted) for result in results]
        pairs = list(zip(conditions, yes, strict=True))
        sql = " ".join(f"WHEN {condition.sql} THEN {result.sql}" for condition, result in pairs)
        name = " ".join(f"WHEN {condition.name} THEN {result.name}" for condition, result in pairs)
        return Typed(f"(CASE {subject}{sql} ELSE {no.sql} END)", wanted, f"CASE {name} ELSE {no.name} END")

    def _function(self, node: Any) -> Typed:
        name, arguments = function_of(node)
        function = FUNCTIONS.get(name)
        if function is None:
            raise UserError(f"{name or type(node).__name__.upper()} is not supported in SELECT")
        typed = function(Compiled(name, arguments, self))
        return typed if typed.name else typed.named(f"{name.lower()}({', '.join(self._names_of(arguments))})")

    def _names_of(self, arguments: list[Any]) -> list[str]:
        return [
            self.compile(a).name
            for a in arguments
            if not isinstance(a, exp.Interval | exp.Star | exp.Var | exp.DataType)
        ]

    _compilers: ClassVar[dict[type, Callable[[Expressions, Any], Typed]]] = {
        exp.Literal: _literal,
        exp.Placeholder: _literal,
        exp.Boolean: _boolean,
        exp.Null: _null,
        exp.Column: _column,
        exp.Paren: _bracket,
        exp.Subquery: _subquery,
        exp.Select: _subquery,
        exp.Neg: _negated,
        exp.Not: _not,
        exp.Is: _is,
        exp.Like: _like,
        exp.ILike: _like,
        exp.In: _in,
        exp.Between: _between,
        exp.Exists: _exists,
        exp.Case: _case,
        exp.If: _case,
    }


_LOGIC: Final = {exp.And: "AND", exp.Or: "OR"}
_COMPARISONS: Final = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "IS",
}
_ARITHMETIC: Final = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/", exp.IntDiv: "/", exp.Mod: "%"}
_BINARY_NODES: Final = (*_LOGIC, *_COMPARISONS, *_ARITHMETIC, exp.DPipe)


def _chained(left: Typed, right: Typed, operator: str, chain: str, result: ColumnType | None) -> Typed:
    """`(a op b)`, and `(a op b op c)` where the left side is a row of the same operator class already."""
    start = left.sql[1:-1] if left.chain == chain else left.sql
    return Typed(f"({start} {operator} {right.sql})", result, f"{left.name} {operator} {right.name}", chain)


def _calculated(left: Typed, right: Typed, kind: Any) -> Typed:
    operator = _ARITHMETIC[kind]
    if left.type not in _NUMBERS or right.type not in _NUMBERS:
        raise UserError(f"{left.name} {operator} {right.name}: numbers are wanted")
    result = _FLOAT if _FLOAT in {left.type, right.type} else _INT
    name = f"{left.name} {operator} {right.name}"
    if operator in {"/", "%"}:
        function = "cq_divide" if operator == "/" else "cq_remainder"
        return Typed(f"{function}({left.sql}, {right.sql})", result, name)
    return _chained(left, right, operator, "*" if operator == "*" else "+", result)


def _compared(left: Typed, right: Typed, operator: str) -> Typed:
    one, other = _aligned([left, right])
    return Typed(f"({one.sql} {operator} {other.sql})", _BOOLEAN, f"{left.name} {operator} {right.name}")


def _aligned(compared: list[Typed]) -> list[Typed]:
    """What is compared, in one type: texts beside a time become times, numbers beside a text become texts."""
    types = {typed.type for typed in compared} - {None}
    if len(types) <= 1 or types == {_INT, _FLOAT}:
        return compared
    wanted = _TIMESTAMP if _TIMESTAMP in types else _STRING
    return [as_type(typed, wanted) for typed in compared]
