"""A SELECT to SQLite's SQL: `expressions` compiles its expressions in place, then sqlglot writes SQLite's dialect.

Every table and name is replaced by ours. The rest of the tree may consist of the listed clauses only: any other part is
refused, never passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlglot import expressions as exp

from cubequeue_server.engines.sql.helper.dialect import Parameter, column_name, parse
from cubequeue_server.engines.sql.helper.expressions import Expressions, Type, Typed, common_type
from cubequeue_server.engines.sql.tables import LARGE_COLUMNS, TABLES
from storage.errors import UserError
from storage.vocabulary import ColumnType

# The SQL function that gives the large value of a reference.
LARGE_VALUE: Final = "cq_large"

Column = tuple[str, Type]  # name and type

_TAIL: Final = "order limit offset with_"
# The clauses of a compiled tree, and the parts of each.
_CLAUSES: Final[dict[type, frozenset[str]]] = {
    kind: frozenset(parts.split())
    for kind, parts in {
        exp.Select: f"expressions from_ joins where group having distinct {_TAIL}",
        **dict.fromkeys((exp.Union, exp.Except, exp.Intersect), f"this expression distinct {_TAIL}"),
        **dict.fromkeys((exp.Subquery, exp.CTE), "this alias"),
        **dict.fromkeys((exp.With, exp.Group, exp.Order, exp.Distinct), "expressions"),
        **dict.fromkeys((exp.From, exp.TableAlias, exp.Where, exp.Having), "this"),
        **dict.fromkeys((exp.Limit, exp.Offset), "expression"),
        exp.Join: "this on side kind",
        exp.Table: "this db catalog alias",
        exp.Identifier: "this quoted",
        exp.Ordered: "this desc nulls_first",
        exp.Star: "",
    }.items()
}


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

    Raises InternalError when it is no SQL and UserError when it is not supported. Takes about 20 µs a token, but with
    some texts any time and memory, and raises RecursionError for others: sqlglot goes back and tries again.
    """
    tree = parse(text, parameters)
    _check(tree, is_compiled=False)
    tree = tree.unnest()
    statement = _Statement()
    columns = statement.compile(tree, {}, None, is_outermost=True)
    _check(tree, is_compiled=True)
    reads = {table: [name for name in TABLES[table] if name in used] for table, used in statement.reads.items()}
    typed = [(name, type_ or ColumnType.STRING) for name, type_ in columns]
    return Plan(_sql(tree), statement.values, typed, reads, statement.references)


def _check(tree: Any, *, is_compiled: bool) -> None:
    """Raises UserError for a part that may not be there; a compiled expression is a Var of SQL."""
    for node in tree.walk():
        allowed = _CLAUSES.get(type(node))
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


class _Statement:
    """Compiles the queries of one statement in the tree, nested ones included."""

    def __init__(self) -> None:
        self.values: dict[str, float | str] = {}
        self.reads: dict[str, set[str]] = {}
        self.references: list[int] = []

    def compile(
        self, tree: Any, known: Mapping[str, list[Column]], outer: _Scope | None, *, is_outermost: bool = False
    ) -> list[Column]:
        """Compile a SELECT or set operation; `known` are the SELECTs of WITH around it. Its columns."""
        if with_ := tree.args.get("with_"):
            for named in with_.expressions:
                alias = named.alias.lower()
                known = {**known, alias: self.compile(named.this, known, None)}
                named.set("alias", exp.TableAlias(this=_identifier(alias)))
        scope = _Scope(self, known, outer)
        if isinstance(tree, exp.Select):
            return scope.select(tree, is_outermost=is_outermost)
        if isinstance(tree, exp.SetOperation):
            return self._set_operation(tree, scope)
        if isinstance(tree, exp.Subquery):
            return self.compile(tree.this, known, outer)
        raise UserError(f"{type(tree).__name__.upper()} is not supported")

    def _set_operation(self, tree: Any, scope: _Scope) -> list[Column]:
        sides = []
        for key in ("this", "expression"):
            side = tree.args[key]
            sides.append(self.compile(side, scope.known, scope.outer))
            if isinstance(side, exp.Subquery):  # SQLite has no brackets there
                source = exp.Subquery(this=side.unnest(), alias=exp.TableAlias(this=_identifier("side")))
                tree.set(key, exp.Select(expressions=[exp.Star()], from_=exp.From(this=source)))
        if len(sides[0]) != len(sides[1]):
            raise UserError("the SELECTs of a set operation have different numbers of columns")
        columns = [(name, common_type([one, other])) for (name, one), (_, other) in zip(*sides, strict=True)]
        scope.sources[""] = columns
        scope.order(tree)
        return columns


class _Scope(Expressions):
    """One SELECT: its expressions can name the columns of its sources and the aliases of its own columns."""

    def __init__(self, statement: _Statement, known: Mapping[str, list[Column]], outer: _Scope | None) -> None:
        super().__init__(statement.values)
        self.known = known
        self.outer = outer
        self.sources: dict[str, list[Column]] = {}
        self._tables: dict[str, str] = {}  # the tables among the sources
        self._aliases: dict[str, Typed] = {}
        self._statement = statement

    def select(self, tree: Any, *, is_outermost: bool) -> list[Column]:
        """Compile the SELECT. Its columns."""
        joins = tree.args.get("joins") or []
        for part in [tree.args["from_"], *joins] if tree.args.get("from_") else []:
            part.set("this", self._source(part.this))
        for join in joins:
            self._replace(join, "on")
        selected = list(self._selected(tree))
        if not selected:
            raise UserError("SELECT has no columns")
        self._replace(tree.args.get("where"), "this")
        refers = is_outermost and _may_refer(tree)
        self._aliases = {
            name.lower(): typed if refers and typed.large else Typed(_quoted(name), typed.type)
            for name, typed in selected
        }
        if group := tree.args.get("group"):
            group.set("expressions", [self._key(node) for node in group.expressions])
        self._replace(tree.args.get("having"), "this")
        self.order(tree)
        if refers:
            self._statement.references = [at for at, (_, typed) in enumerate(selected) if typed.large]
        columns = [f"{(refers and typed.large) or typed.sql} AS {_quoted(name)}" for name, typed in selected]
        tree.set("expressions", [exp.Var(this=sql) for sql in columns])
        return [(name, typed.type) for name, typed in selected]

    def order(self, tree: Any) -> None:
        """Compile ORDER BY."""
        for ordered in tree.args["order"].expressions if tree.args.get("order") else ():
            ordered.set("this", self._key(ordered.this))

    def column(self, table: str, name: str) -> Typed:
        wanted = name.lower()
        if not table and wanted in self._aliases:
            return self._aliases[wanted]
        for alias, column, type_ in self._columns(table):
            if column.lower() == wanted:
                return self._typed(alias, column, type_)
        if self.outer is not None:
            return self.outer.column(table, name)
        raise UserError(f"Column {f'{table}.' if table else ''}{name} was not found")

    def subquery(self, query: Any) -> tuple[str, list[Type]]:
        columns = self._statement.compile(query.unnest(), self.known, self)
        return _sql(query.unnest()), [type_ for _, type_ in columns]

    def _columns(self, table: str) -> Iterator[tuple[str, str, Type]]:
        """Source, name and type of all columns, or of those of one source."""
        for alias, columns in self.sources.items():
            if table.lower() in {"", alias}:
                for name, type_ in columns:
                    yield alias, name, type_

    def _typed(self, alias: str, column: str, type_: Type) -> Typed:
        sql = f"{_quoted(alias)}.{_quoted(column)}" if alias else _quoted(column)
        table = self._tables.get(alias)
        if table is not None:
            self._statement.reads[table].add(column)
            if column in LARGE_COLUMNS:
                return Typed(f"{LARGE_VALUE}({sql})", type_, large=sql)
        return Typed(sql, type_)

    def _source(self, node: Any) -> Any:
        """The replacement of a table or nested SELECT after FROM; adds it to `sources`."""
        if isinstance(node, exp.Subquery) and isinstance(node.unnest(), exp.Query):
            alias = (node.alias or f"subquery {len(self.sources)}").lower()
            columns = self._statement.compile(node.unnest(), self.known, None)
            source: Any = exp.Subquery(this=node.unnest())
        elif isinstance(node, exp.Table) and all(isinstance(part, exp.Identifier) for part in node.parts):
            name = ".".join(part.name for part in node.parts)
            alias = (node.alias or node.name).lower()
            table = name.lower()
            source = exp.Table(this=_identifier(table))
            if table in self.known:
                columns = self.known[table]
            elif table in TABLES:
                columns = list(TABLES[table].items())
                self._tables[alias] = table
                self._statement.reads.setdefault(table, set())
            else:
                raise NoSuchTableError(name)
        else:
            raise UserError("only tables and SELECTs are supported after FROM")
        if alias in self.sources:
            raise UserError(f"{alias} is named twice after FROM")
        self.sources[alias] = columns
        source.set("alias", exp.TableAlias(this=_identifier(alias)))
        return source

    def _selected(self, tree: Any) -> Iterator[tuple[str, Typed]]:
        """Name and expression of each result column."""
        for node in tree.expressions:
            if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
                for alias, name, type_ in self._columns("" if isinstance(node, exp.Star) else node.table):
                    yield name, self._typed(alias, name, type_)
            elif isinstance(node, exp.Alias):
                yield node.alias, self.compile(node.this)
            else:
                yield column_name(node), self.compile(node)

    def _key(self, node: Any) -> Any:
        """A key of GROUP BY or ORDER BY. Only a bare number is the position of a result column."""
        sql = self.compile(node).sql
        return exp.Var(this="NULL" if sql.strip("(-)").isdecimal() and not _is_integer(node) else sql)

    def _replace(self, parent: Any, key: str) -> None:
        if parent is not None and (node := parent.args.get(key)) is not None:
            parent.set(key, exp.Var(this=self.compile(node).sql))


def _may_refer(tree: Any) -> bool:
    """Whether a result column may hold references: no clause but ORDER BY with column names looks at the results."""
    order = tree.args.get("order")
    by_position = order is not None and any(ordered.find(exp.Column) is None for ordered in order.expressions)
    return not by_position and not any(tree.args.get(key) for key in ("distinct", "group", "having"))


def _is_integer(node: Any) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdecimal()


def _identifier(name: str) -> Any:
    return exp.Identifier(this=name, quoted=True)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("\0", "") + '"'


def _sql(tree: Any) -> str:
    return str(tree.sql("sqlite", comments=False))
