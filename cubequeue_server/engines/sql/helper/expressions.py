"""Compiles expressions of sqlglot's tree to SQLite's SQL with types, by the table of `rules`.

Semantics are those of CubeStore's engine: the quotient of integers is an integer, and a comparison with a time converts
a text to a time.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, NamedTuple

from sqlglot import expressions as exp

from cubequeue_server.engines.sql.helper.dialect import column_name
from cubequeue_server.engines.sql.helper.functions import parse_interval
from cubequeue_server.engines.sql.helper.rules import BOOLEAN, CASTS, FLOAT, INT, RULES, STRING, TIMESTAMP, TYPES, Rule
from storage.errors import UserError
from storage.vocabulary import ColumnType

_MAX_INT: Final = (1 << 63) - 1
_DECIMAL: Final = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Flags that sqlglot sets in nodes on its own; none of them changes the meaning.
_FLAGS: Final = frozenset({"safe", "typed", "coalesce", "ignore_nulls", "big_int", "negate", "position", "is_null"})

Type = ColumnType | None


class Typed(NamedTuple):
    """An expression in SQLite's SQL.

    `type` is None for a bare NULL. `chain` is the rule's when `sql` is a bracketed row of its operators. `large` is
    the SQL of the reference to a large value when this is a bare column of such values.
    """

    sql: str
    type: Type
    chain: str = ""
    large: str = ""


class Expressions(ABC):
    """Compiles the expressions of one SELECT. `values` collects the values of the statement's parameters."""

    def __init__(self, values: dict[str, float | str]) -> None:
        self._values = values

    @abstractmethod
    def column(self, table: str, name: str) -> Typed:
        """A column by its table, which may be empty, and name. Raises UserError."""

    @abstractmethod
    def subquery(self, query: Any) -> tuple[str, list[Type]]:
        """The SQL of a nested SELECT and the types of its columns. Raises UserError."""

    def compile(self, node: Any) -> Typed:  # sqlglot's tree is untyped
        """Raises UserError for an unsupported expression, RecursionError for one that is nested too deeply."""
        special = self._specials.get(type(node))
        if special is not None:
            return special(self, node)
        name, rule, nodes = _call(node)
        arguments = self._arguments(node, name, rule.wants, nodes)
        gives = common_type(argument.type for argument in arguments) if rule.gives is None else rule.gives
        if rule.chain and arguments[0].chain == rule.chain:  # SQLite limits the depth of brackets
            arguments[0] = arguments[0]._replace(sql=arguments[0].sql[1:-1])
        texts = [argument.sql for argument in arguments]
        sql = rule.sql.format(*texts, all=", ".join(texts))
        return Typed(f"(NOT {sql})" if node.args.get("negate") else sql, gives, rule.chain)

    def _arguments(self, node: Any, name: str, wants: str, nodes: list[Any]) -> list[Typed]:
        letters, _, optional = wants.partition(".")
        least, most = len(letters), len(letters) + len(optional)
        letters = wants[0] * len(nodes) if wants.endswith("+") else letters + optional
        if not (nodes if wants.endswith("+") else least <= len(nodes) <= most):
            raise UserError(f"{name} with {len(nodes)} arguments is not supported")
        arguments = [self._argument(letter, argument, node) for letter, argument in zip(letters, nodes, strict=False)]
        for group, type_of in (("=", _compared_type), ("c", common_type)):
            if group in letters:
                wanted = type_of(argument.type for argument in arguments)
                arguments = [_as_type(argument, wanted) for argument in arguments]
        return arguments

    def _argument(self, wanted: str, node: Any, call: Any) -> Typed:
        if wanted == "i":
            return Typed("{}, {}".format(*_interval(node)), None)
        if wanted == "w":
            if isinstance(node, exp.Var | exp.Column) or (isinstance(node, exp.Literal) and node.is_string):
                return self._bound(node.name, STRING)
            raise UserError(f"{column_name(call)} needs a constant there")
        argument = self.compile(node)
        if wanted == "n" and argument.type not in {INT, FLOAT, None}:
            raise UserError(f"{column_name(call)}: numbers are wanted")
        return _as_type(argument, {"s": STRING, "t": TIMESTAMP}.get(wanted))

    def _bound(self, value: float | str, type_: ColumnType) -> Typed:
        name = f"v{len(self._values)}"
        self._values[name] = value
        return Typed(f":{name}", type_)

    # Nodes that need more than a rule

    def _literal(self, node: Any) -> Typed:
        number = str(node.this)
        if node.is_string:
            return self._bound(number, STRING)
        if number.isdecimal() and len(number) < 20 and int(number) <= _MAX_INT:
            return Typed(str(int(number)), INT)
        if len(number) > 400 or _DECIMAL.fullmatch(number) is None:
            raise UserError(f"number {number[:60]} is not supported")
        return self._bound(float(number), FLOAT)

    def _column(self, node: Any) -> Typed:
        if isinstance(node.this, exp.Star):
            raise UserError("* is supported as a column of its own only")
        return self.column(node.table, node.name)

    def _subquery(self, node: Any) -> Typed:
        sql, types = self.subquery(node)
        if len(types) != 1:
            raise UserError("a SELECT in an expression needs exactly one column")
        return Typed(f"({sql})", types[0])

    def _in(self, node: Any) -> Typed:
        query, nodes = node.args.get("query"), [node.this, *node.expressions]
        if query is not None:
            return Typed(f"({self.compile(node.this).sql} IN {self._subquery(query).sql})", BOOLEAN)
        left, *options = self._arguments(node, "IN", "=+", nodes)
        if not options:
            raise UserError("IN needs a list or a SELECT")
        return Typed(f"({left.sql} IN ({', '.join(option.sql for option in options)}))", BOOLEAN)

    def _case(self, node: Any) -> Typed:
        """CASE in both forms, and IF(condition, yes, no)."""
        is_case = isinstance(node, exp.Case)
        branches = node.args["ifs"] if is_case else [node]
        conditions = [branch.this for branch in branches]
        otherwise = node.args.get("default" if is_case else "false") or exp.Null()
        if is_case and node.this is not None:
            subject, *tests = self._arguments(node, "CASE", "=+", [node.this, *conditions])
        else:
            subject, tests = Typed("", None), [self.compile(condition) for condition in conditions]
        *yes, no = self._arguments(node, "CASE", "c+", [*(branch.args["true"] for branch in branches), otherwise])
        whens = " ".join(f"WHEN {test.sql} THEN {result.sql}" for test, result in zip(tests, yes, strict=True))
        return Typed(f"(CASE {subject.sql} {whens} ELSE {no.sql} END)", common_type(each.type for each in (*yes, no)))

    def _cast(self, node: Any) -> Typed:
        word = getattr(node.args["to"].this, "name", str(node.args["to"].this))
        wanted = TYPES.get(word)
        if wanted is None or any(node.args.get(key) for key in ("format", "action", "default")):
            raise UserError(f"CAST to {word} is not supported")
        cast = _as_type(self.compile(node.this), wanted)
        return cast._replace(sql=f"cq_truncate('day', {cast.sql})", chain="") if word == "DATE" else cast

    _specials: ClassVar[dict[type, Callable[[Expressions, Any], Typed]]] = {
        exp.Literal: _literal,
        exp.Boolean: lambda _, node: Typed("1" if node.this else "0", BOOLEAN),
        exp.Null: lambda _self, _node: Typed("NULL", None),
        exp.Column: _column,
        exp.Paren: lambda self, node: self.compile(node.this),
        **dict.fromkeys((exp.Subquery, exp.Select), _subquery),
        exp.In: _in,
        exp.Exists: lambda self, node: Typed(f"EXISTS ({self.subquery(node.this)[0]})", BOOLEAN),
        **dict.fromkeys((exp.Case, exp.If), _case),
        **dict.fromkeys((exp.Cast, exp.TryCast), _cast),
    }


def _call(node: Any) -> tuple[str, Rule, list[Any]]:
    """The name of an operator or function, its rule and its arguments. Raises UserError."""
    kind: type[Any] = type(node)
    is_anonymous = kind is exp.Anonymous  # a function unknown to sqlglot
    nodes = node.expressions if is_anonymous else list(node.iter_expressions())
    name = node.name.upper() if is_anonymous else kind.__name__.upper()
    key: type[Any] | str = name if is_anonymous else kind
    if kind is exp.Trim:
        key = node.args.get("position") or kind
    elif kind in {exp.Floor, exp.Ceil} and len(nodes) == 1 and isinstance(node.this.unnest(), exp.Div):
        quotient = node.this.unnest()
        key, nodes = f"{name} /", [quotient.this, quotient.expression]
    elif kind in {exp.Add, exp.Sub} and isinstance(node.expression, exp.Interval):
        key = exp.DateAdd if kind is exp.Add else exp.DateSub
    elif kind is exp.Count and nodes and isinstance(nodes[0], exp.Star):
        key, nodes = "COUNT(*)", nodes[1:]
    elif kind is exp.Count and nodes and isinstance(nodes[0], exp.Distinct):
        key, nodes = "COUNT(DISTINCT)", nodes[0].expressions
    elif name == "UNIX_TIMESTAMP" and not nodes:
        nodes = [exp.CurrentTimestamp()]
    rule = RULES.get(key)
    if rule is None:
        raise UserError(f"{name} is not supported in SELECT")
    for part, value in node.args.items():
        if value and not isinstance(value, exp.Expr | list | str) and part not in _FLAGS:
            raise UserError(f"{name} with {part.upper()} is not supported")
    return name, rule, nodes


def _interval(node: Any) -> tuple[int, int]:
    """(months, milliseconds) of `INTERVAL '7 DAY'`, `INTERVAL 7 DAY` and the like."""
    amount = node.this if isinstance(node, exp.Interval) else None
    if not isinstance(amount, exp.Literal):
        raise UserError("a constant interval such as INTERVAL '7 DAY' is wanted")
    unit = node.args.get("unit")
    return parse_interval(f"{amount.name} {unit.name}" if unit is not None else amount.name)


def _as_type(typed: Typed, wanted: Type) -> Typed:
    """The expression converted to a type; a bare NULL has any. Raises UserError for an impossible conversion."""
    if typed.type == wanted or wanted is None:
        return typed
    if typed.type is None:
        return typed._replace(type=wanted)
    cast = CASTS.get((typed.type, wanted))
    if cast is None:
        raise UserError(f"a {typed.type.value} cannot become a {wanted.value}")
    return Typed(cast.format(typed.sql), wanted)


def common_type(types: Iterable[Type]) -> Type:
    """The type that branches of a CASE or rows of a UNION share: Float for numbers of both kinds, else a text."""
    known = set(types) - {None}
    if len(known) <= 1:
        return next(iter(known), None)
    return FLOAT if known == {INT, FLOAT} else STRING


def _compared_type(types: Iterable[Type]) -> Type:
    """The type in which values are compared: a time for texts beside a time; None when each keeps its own."""
    known = set(types) - {None}
    if len(known) <= 1 or known == {INT, FLOAT}:
        return None
    return TIMESTAMP if TIMESTAMP in known else STRING
