"""A SELECT to what SQLite is given: sqlglot parses it and writes it again in SQLite's dialect.

In between every expression is compiled by `expressions`, every table and name is replaced by ours, and what then is
left of the tree has to be in the list of parts below: a part that is not is refused, never passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import sqlglot
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from cubequeue_server.engines.sql.helper.expressions import Expressions, Typed, common_type, shown
from cubequeue_server.engines.sql.helper.rules import STRING
from cubequeue_server.engines.sql.helper.source import Parameter, readable
from cubequeue_server.engines.sql.tables import LARGE_COLUMNS, TABLES
from storage.errors import InternalError, UserError
from storage.vocabulary import ColumnType

# The SQL function that gives the large value that a reference stands for.
LARGE_VALUE: Final = "cq_large"

Column = tuple[str, ColumnType | None]  # name and type

_TAIL: Final = frozenset({"order", "limit", "offset", "with_"})
_SET_PARTS: Final = frozenset({"this", "expression", "distinct"}) | _TAIL
# The parts of a tree that may be left when the expressions are compiled, and what each may consist of.
_PARTS: Final[dict[type, frozenset[str]]] = {
    exp.Select: frozenset({"expressions", "from_", "joins", "where", "group", "having", "distinct"}) | _TAIL,
    exp.Union: _SET_PARTS,
    exp.Except: _SET_PARTS,
    exp.Intersect: _SET_PARTS,
    exp.Subquery: frozenset({"this", "alias"}),
    exp.With: frozenset({"expressions"}),
    exp.CTE: frozenset({"this", "alias"}),
    exp.From: frozenset({"this"}),
    exp.Join: frozenset({"this", "on", "side", "kind"}),
    exp.Table: frozenset({"this", "db", "catalog", "alias"}),
    exp.TableAlias: frozenset({"this"}),
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Where: frozenset({"this"}),
    exp.Group: frozenset({"expressions"}),
    exp.Having: frozenset({"this"}),
    exp.Order: frozenset({"expressions"}),
    exp.Ordered: frozenset({"this", "desc", "nulls_first"}),
    exp.Limit: frozenset({"expression"}),
    exp.Offset: frozenset({"expression"}),
    exp.Distinct: frozenset({"expressions"}),
    exp.Star: frozenset(),
}


class NoSuchTableError(UserError):
    """There is no table of that name, which is the text."""


class Plan(NamedTuple):
    """SQLite's SQL, the values of its parameters but `:now`, and the columns of the result.

    `reads` are the tables that have to be there, and which of their columns. The result columns in `references`, by
    position, do not hold values but what stands for large ones.
    """

    sql: str
    values: dict[str, float | str]
    columns: list[tuple[str, ColumnType]]
    reads: dict[str, list[str]]
    references: list[int]


def plan_select(text: bytes, parameters: Sequence[Parameter]) -> Plan:
    """The plan of one SELECT.

    Raises InternalError when it is no SQL and UserError when it is not supported. Takes about 20 µs a token, but with
    some texts any time and memory, and raises RecursionError for others: sqlglot goes back and tries again.
    """
    tree = _parse(readable(text, parameters))
    _check(tree, is_compiled=False)
    tree = tree.unnest()
    planner = _Planner()
    columns = planner.query(tree, {}, is_outermost=True)
    _check(tree, is_compiled=True)
    reads = {table: [name for name in TABLES[table] if name in used] for table, used in planner.reads.items()}
    typed = [(name, type_ or STRING) for name, type_ in columns]
    return Plan(tree.sql("sqlite", comments=False), planner.values, typed, reads, planner.references)


def _parse(text: str) -> Any:  # sqlglot's tree is untyped
    try:
        trees = [tree for tree in sqlglot.parse(text) if tree is not None]
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        reason = str(details[0].get("description") or "the text could not be parsed").split(" but got <")[0]
        raise InternalError(f'ParserError("{reason[:200]}")') from None
    if len(trees) > 1:
        raise UserError("more than one statement in one text is not supported")
    if not trees or not isinstance(trees[0], exp.Query):
        raise UserError("only a single SELECT is supported")
    return trees[0]


def _check(tree: Any, *, is_compiled: bool) -> None:
    """Raises UserError for a part that may not be there; compiled expressions are a Var of SQL each."""
    for node in tree.walk():
        allowed = _PARTS.get(type(node))
        if allowed is None:
            if is_compiled and not isinstance(node, exp.Var | exp.Literal):
                raise UserError(f"{type(node).__name__.upper()} is not supported")
            continue
        for key, value in node.args.items():
            if value and key not in allowed:
                raise UserError(f"{type(node).__name__.upper()} {key.strip('_').upper()} is not supported")
        if isinstance(node, exp.Limit | exp.Offset) and not _is_integer(node.expression):
            raise UserError("LIMIT and OFFSET need a number")
        if is_compiled and isinstance(node, exp.Distinct) and node.expressions:
            raise UserError("DISTINCT of an expression is supported in COUNT only")


def _is_integer(node: Any) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdecimal()


class _Scope:
    """What the expressions of one SELECT can name: the columns of its sources, and the aliases of its own."""

    def __init__(self, planner: _Planner, known: Mapping[str, list[Column]], outer: _Scope | None) -> None:
        self.sources: dict[str, list[Column]] = {}
        self.tables: dict[str, str] = {}  # of the sources, those that are no nested SELECTs
        self.aliases: dict[str, Typed] = {}
        self._planner = planner
        self._known = known
        self._outer = outer

    def column(self, table: str, name: str) -> Typed:
        wanted = name.lower()
        if not table and wanted in self.aliases:
            return self.aliases[wanted]
        for alias, column, type_ in self.columns(table):
            if column.lower() == wanted:
                return self.typed(alias, column, type_)
        if self._outer is not None:
            return self._outer.column(table, name)
        raise UserError(f"Column {f'{table}.' if table else ''}{name} was not found")

    def columns(self, table: str) -> Iterator[tuple[str, str, ColumnType | None]]:
        """Source, name and type of all columns, or of those of one source."""
        for alias, columns in self.sources.items():
            if table.lower() in {"", alias}:
                for name, type_ in columns:
                    yield alias, name, type_

    def typed(self, alias: str, column: str, type_: ColumnType | None) -> Typed:
        sql = f"{_quoted(alias)}.{_quoted(column)}" if alias else _quoted(column)
        table = self.tables.get(alias)
        if table is not None:
            self._planner.reads[table].add(column)
            if column in LARGE_COLUMNS:
                return Typed(f"{LARGE_VALUE}({sql})", type_, large=sql)
        return Typed(sql, type_)

    def subquery(self, query: Any) -> tuple[str, list[ColumnType | None]]:
        columns = self._planner.query(query.unnest(), self._known, self)
        return query.unnest().sql("sqlite", comments=False), [type_ for _, type_ in columns]


class _Planner:
    """Compiles the queries of one statement where they are in the tree, nested ones included."""

    def __init__(self) -> None:
        self.values: dict[str, float | str] = {}
        self.reads: dict[str, set[str]] = {}
        self.references: list[int] = []

    def query(
        self, tree: Any, known: Mapping[str, list[Column]], outer: _Scope | None = None, *, is_outermost: bool = False
    ) -> list[Column]:
        """Compile a SELECT or set operation; `known` are the SELECTs of WITH around it. Its columns."""
        if with_ := tree.args.get("with_"):
            for named in with_.expressions:
                alias = named.alias.lower()
                known = {**known, alias: self.query(named.this, known)}
                named.set("alias", exp.TableAlias(this=_identifier(alias)))
        if isinstance(tree, exp.Select):
            return self._select(tree, known, outer, is_outermost=is_outermost)
        if isinstance(tree, exp.SetOperation):
            return self._set_operation(tree, known, outer)
        if isinstance(tree, exp.Subquery):
            return self.query(tree.this, known, outer)
        raise UserError(f"{type(tree).__name__.upper()} is not supported")

    def _set_operation(self, tree: Any, known: Mapping[str, list[Column]], outer: _Scope | None) -> list[Column]:
        sides = []
        for key in ("this", "expression"):
            side = tree.args[key]
            sides.append(self.query(side, known, outer))
            if isinstance(side, exp.Subquery):  # SQLite has no brackets there
                source = exp.Subquery(this=side.unnest(), alias=exp.TableAlias(this=_identifier("side")))
                tree.set(key, exp.Select(expressions=[exp.Star()], from_=exp.From(this=source)))
        if len(sides[0]) != len(sides[1]):
            raise UserError("the SELECTs of a set operation have different numbers of columns")
        columns = [(name, common_type([one, other])) for (name, one), (_, other) in zip(*sides, strict=True)]
        scope = _Scope(self, known, outer)
        scope.sources[""] = columns
        self._order(tree, Expressions(scope.column, scope.subquery, self.values))
        return columns

    def _select(
        self, tree: Any, known: Mapping[str, list[Column]], outer: _Scope | None, *, is_outermost: bool
    ) -> list[Column]:
        scope = _Scope(self, known, outer)
        expressions = Expressions(scope.column, scope.subquery, self.values)
        joins = tree.args.get("joins") or []
        for part in [tree.args["from_"], *joins] if tree.args.get("from_") else []:
            part.set("this", self._source(part.this, known, scope))
        for join in joins:
            _replace(join, "on", expressions)
        selected = list(_selected(tree, scope, expressions))
        if not selected:
            raise UserError("SELECT has no columns")
        _replace(tree.args.get("where"), "this", expressions)
        refers = is_outermost and _may_refer(tree)
        scope.aliases = {
            name.lower(): typed if refers and typed.large else Typed(_quoted(name), typed.type)
            for name, typed in selected
        }
        if group := tree.args.get("group"):
            group.set("expressions", [_key(node, expressions) for node in group.expressions])
        _replace(tree.args.get("having"), "this", expressions)
        self._order(tree, expressions)
        if refers:
            self.references = [at for at, (_, typed) in enumerate(selected) if typed.large]
        columns = [f"{(refers and typed.large) or typed.sql} AS {_quoted(name)}" for name, typed in selected]
        tree.set("expressions", [exp.Var(this=sql) for sql in columns])
        return [(name, typed.type) for name, typed in selected]

    def _source(self, node: Any, known: Mapping[str, list[Column]], scope: _Scope) -> Any:
        """What to put in the place of a table or nested SELECT; notes its columns in `scope`."""
        if isinstance(node, exp.Subquery) and isinstance(node.unnest(), exp.Query):
            alias = (node.alias or f"subquery {len(scope.sources)}").lower()
            columns = self.query(node.unnest(), known)
            source: Any = exp.Subquery(this=node.unnest())
        elif isinstance(node, exp.Table) and all(isinstance(part, exp.Identifier) for part in node.parts):
            name = ".".join(part.name for part in node.parts)
            alias = (node.alias or node.name).lower()
            table = name.lower()
            source = exp.Table(this=_identifier(table))
            if table in known:
                columns = known[table]
            elif table in TABLES:
                columns = list(TABLES[table].items())
                scope.tables[alias] = table
                self.reads.setdefault(table, set())
            else:
                raise NoSuchTableError(name)
        else:
            raise UserError("only tables and SELECTs are supported after FROM")
        if alias in scope.sources:
            raise UserError(f"{alias} is named twice after FROM")
        scope.sources[alias] = columns
        source.set("alias", exp.TableAlias(this=_identifier(alias)))
        return source

    def _order(self, tree: Any, expressions: Expressions) -> None:
        for ordered in tree.args["order"].expressions if tree.args.get("order") else ():
            ordered.set("this", _key(ordered.this, expressions))


def _selected(tree: Any, scope: _Scope, expressions: Expressions) -> Iterator[tuple[str, Typed]]:
    """Name and expression of each result column."""
    for node in tree.expressions:
        if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
            for alias, name, type_ in scope.columns("" if isinstance(node, exp.Star) else node.table):
                yield name, scope.typed(alias, name, type_)
        elif isinstance(node, exp.Alias):
            yield node.alias, expressions.compile(node.this)
        else:
            name = shown(node)
            yield name, expressions.compile(node)


def _may_refer(tree: Any) -> bool:
    """Whether large values can be left where they are: nothing is made of the result columns but rows of a reply."""
    order = tree.args.get("order")
    by_position = order is not None and any(ordered.find(exp.Column) is None for ordered in order.expressions)
    return not by_position and not any(tree.args.get(key) for key in ("distinct", "group", "having"))


def _key(node: Any, expressions: Expressions) -> Any:
    """What is grouped or ordered by. Of constants only a bare number is the place of a result column."""
    sql = expressions.compile(node).sql
    return exp.Var(this="NULL" if sql.strip("(-)").isdecimal() and not _is_integer(node) else sql)


def _replace(parent: Any, key: str, expressions: Expressions) -> None:
    if parent is not None and (node := parent.args.get(key)) is not None:
        parent.set(key, exp.Var(this=expressions.compile(node).sql))


def _identifier(name: str) -> Any:
    return exp.Identifier(this=name, quoted=True)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("\0", "") + '"'
