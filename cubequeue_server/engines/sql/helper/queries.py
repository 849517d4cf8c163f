"""A SELECT to its plan: sqlglot parses it, resolves its names and infers its types; `writer` writes it for SQLite.

A tree consists of the listed nodes and of functions and operators with a rule: any other is refused, never passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlglot.schema import MappingSchema

from cubequeue_server.engines.sql.helper import rules
from cubequeue_server.engines.sql.helper.dialect import DIALECT, SQLGLOT_TYPES, Parameter, parse, shown, type_of
from cubequeue_server.engines.sql.helper.writer import IS_LARGE, IS_REFERENCE, Writer
from cubequeue_server.engines.sql.tables import LARGE_COLUMNS, TABLES
from storage.errors import UserError
from storage.vocabulary import ColumnType

_TAIL: Final = "order limit offset with_"
# Nodes without a rule, and the parts that each may have.
_PARTS: Final[dict[type[exp.Expr], str]] = {
    exp.Select: f"expressions from_ joins where group having distinct {_TAIL}",
    **dict.fromkeys((exp.Union, exp.Except, exp.Intersect), f"this expression distinct {_TAIL}"),
    **dict.fromkeys((exp.Subquery, exp.CTE, exp.Alias), "this alias"),
    **dict.fromkeys((exp.With, exp.Group, exp.Order, exp.Distinct), "expressions"),
    **dict.fromkeys((exp.From, exp.Where, exp.Having, exp.Exists, exp.Paren, exp.TableAlias), "this"),
    **dict.fromkeys((exp.Limit, exp.Offset), "expression"),
    **dict.fromkeys((exp.Boolean, exp.Var, exp.DataTypeParam), "this"),
    **dict.fromkeys((exp.And, exp.Or), "this expression"),
    **dict.fromkeys((exp.Cast, exp.TryCast), "this to safe"),
    **dict.fromkeys((exp.Star, exp.Null), ""),
    exp.Case: "this ifs default",
    exp.Column: "this table db",
    exp.DataType: "this expressions nested",
    exp.Identifier: "this quoted",
    exp.If: "this true false",
    exp.In: "this expressions query",
    exp.Interval: "this unit",
    exp.Join: "this on side kind",
    exp.Literal: "this is_string",
    exp.Ordered: "this desc nulls_first",
    exp.Table: "this db catalog alias",
}
# Flags that sqlglot sets in functions and operators on its own; none of them changes the meaning.
_FLAGS: Final = frozenset({"safe", "typed", "coalesce", "ignore_nulls", "big_int", "negate", "position", "is_null"})

_SCHEMA: Final = MappingSchema(dialect=DIALECT)
for _name, _columns in TABLES.items():
    _SCHEMA.add_table(_name, {name: SQLGLOT_TYPES[type_].name for name, type_ in _columns.items()})


class NoSuchTableError(UserError):
    """There is no table of that name, which is the text."""


class Plan(NamedTuple):
    """SQLite's SQL, the values of its parameters but `:now`, and the columns of the result.

    `reads` are the tables that have to be there, and which of their columns. The result columns in `references`, by
    position, hold references to large values instead of values.
    """

    sql: str
    values: dict[str, float | str]
    columns: list[tuple[str, ColumnType]]
    reads: dict[str, list[str]]
    references: list[int]


def plan_select(text: bytes, parameters: Sequence[Parameter]) -> Plan:
    """The plan of one SELECT.

    Raises InternalError when it is no SQL and UserError when it is not supported. Takes about 50 µs a token, but with
    some texts any time and memory, and raises RecursionError for others: sqlglot goes back and tries again.
    """
    tree = parse(text, parameters)
    _check(tree)
    tree = tree.unnest().copy()
    for select in tree.find_all(exp.Select):
        select.set("expressions", [_named(node) for node in select.expressions])
    try:
        tree = qualify(tree, DIALECT, schema=_SCHEMA, on_qualify=_check_table, quote_identifiers=False)
    except SqlglotError as error:
        raise UserError(str(error).partition("Line")[0].rstrip(" .(")) from None
    annotate_types(tree, _SCHEMA, dialect=DIALECT)
    reads = _mark_columns(tree)
    if any(select.is_star for select in tree.selects):
        raise UserError("SELECT has no columns")
    references = _mark_references(tree)
    names = [select.meta.get("name", select.alias) for select in tree.selects]
    columns = [(name, type_ or ColumnType.STRING) for name, type_ in zip(names, _types(tree), strict=True)]
    writer = Writer()
    sql = writer.generate(tree).replace("\0", "")  # which SQLite allows in no name
    return Plan(sql, writer.values, columns, reads, references)


def _check(tree: Any) -> None:
    """Raises UserError for a node or a part that is not supported."""
    for node in tree.walk():
        parts = _PARTS.get(type(node))
        if parts is None:
            rules.call(node)  # raises for a node without a rule
            others = {key for key, value in node.args.items() if not isinstance(value, exp.Expr | list | str)} - _FLAGS
        else:
            others = node.args.keys() - parts.split()
        for key in others:
            if node.args[key]:
                raise UserError(f"{type(node).__name__.upper()} {key.strip('_').upper()} is not supported")


def _check_table(table: Any) -> None:
    name = _name_of(table)
    if name not in TABLES:
        raise NoSuchTableError(name)


def _name_of(table: Any) -> str:
    return ".".join(part.name for part in table.parts)


def _named(node: Any) -> Any:
    """A result column with a name; `meta` keeps the case of the name, which qualify() lowers."""
    if node.is_star:
        return node
    name = node.alias or shown(node)
    if isinstance(node, exp.Subquery):
        node.set("alias", None)
    named = exp.Alias(this=node.unalias(), alias=exp.to_identifier(name, quoted=True))
    named.meta["name"] = name
    return named


def _mark_columns(tree: Any) -> dict[str, list[str]]:
    """Mark columns of large values. The columns that are read, by table."""
    reads: dict[str, set[str]] = {}
    for scope in traverse_scope(tree):
        for table in scope.tables:
            if _name_of(table) in TABLES:
                reads.setdefault(_name_of(table), set())
        for column in scope.columns:
            source = _source(scope, column.table)
            if isinstance(source, exp.Table):
                reads[_name_of(source)].add(column.name)
                column.meta[IS_LARGE] = column.name in LARGE_COLUMNS
    return {table: [name for name in TABLES[table] if name in used] for table, used in reads.items()}


def _source(scope: Scope | None, name: str) -> Any:
    while scope is not None and name not in scope.sources:
        scope = scope.parent
    return None if scope is None else scope.sources[name]


def _mark_references(tree: Any) -> list[int]:
    """Mark the result columns that may hold references, and give their positions: no other clause looks at them."""
    order = tree.args.get("order") or exp.Order(expressions=[])
    by_position = any(isinstance(ordered.this, exp.Literal) for ordered in order.expressions)
    if by_position or not isinstance(tree, exp.Select) or any(map(tree.args.get, ("distinct", "group", "having"))):
        return []
    selects = {at: select for at, select in enumerate(tree.selects) if select.this.meta.get(IS_LARGE)}
    columns = {select.alias: select.this.copy() for select in selects.values()}
    for column in list(order.find_all(exp.Column)):
        if not column.table and column.name in columns:
            column.replace(columns[column.name].copy())  # the value in place of the alias
    for select in selects.values():
        select.this.meta[IS_REFERENCE] = True
    return list(selects)


def _types(query: Any) -> list[rules.Type]:
    """The types of the columns of a SELECT or of a set operation."""
    if isinstance(query, exp.SetOperation):
        return [rules.common_type(pair) for pair in zip(_types(query.left), _types(query.right), strict=False)]
    return [type_of(select) for select in query.unnest().selects]
