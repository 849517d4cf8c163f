"""A SELECT, parsed by sqlglot, to a plan for SQLite: sources, clauses and set operations; expressions are elsewhere.

Everything in a statement has to be known here: a part of the tree that is not is refused, never passed on. Nested
SELECTs are materialised: SQLite would else write their expressions out wherever they are used, again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlglot
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from cubequeue_server.engines.sql.expressions import Expressions
from cubequeue_server.engines.sql.fixed import no_such_table
from cubequeue_server.engines.sql.plan import LARGE_VALUE, Plan, Typed, Values
from cubequeue_server.engines.sql.source import Source
from cubequeue_server.engines.sql.tables import LARGE_COLUMNS, SYSTEM_TABLES, columns_of, stored_name
from cubequeue_server.engines.sql.typing_rules import as_type, common_type
from storage.errors import InternalError, UserError
from storage.system_tables import SYSTEM_COLUMNS
from storage.vocabulary import Columns, ColumnType

# Tables and nested SELECTs of one statement: what multiplies is few.
_MAX_SOURCES: Final = 16
_MAX_SET_OPERATIONS: Final = 200

_SELECT_PARTS: Final = frozenset(
    [
        "kind",
        "expressions",
        "from",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "order",
        "limit",
        "offset",
        "distinct",
        "with",
        "with_",
        "operation_modifiers",
        "hint",
        "into",
    ]
)
_SET_OPERATORS: Final = {exp.Union: "UNION", exp.Except: "EXCEPT", exp.Intersect: "INTERSECT"}

Column = tuple[str, ColumnType | None]


def compile_select(source: Source) -> Plan:
    """The plan of one SELECT. Raises InternalError when it is no SQL and UserError when it is not supported.

    Time grows with the text, about 10 µs a token.
    """
    tree = _parse(source.text)
    compiler = _Compiler(source.literals, tree)
    sql, columns = compiler.query(tree, {})
    typed = [(name, column_type or ColumnType.STRING) for name, column_type in columns]
    reads = {}
    for name, used in compiler.used_columns.items():
        table = SYSTEM_TABLES[name]
        reads[table] = tuple(at for at, column in enumerate(SYSTEM_COLUMNS[table].names) if column in used)
    return Plan(sql, compiler.values.bound, Columns(*typed), reads, compiler.references)


def _parse(text: str) -> Any:  # sqlglot's tree is untyped
    try:
        trees = sqlglot.parse(text)
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        reason = str(details[0].get("description") or "the text could not be parsed").split(" but got <")[0]
        raise InternalError(f'ParserError("{reason[:200]}")') from None
    except RecursionError:
        raise UserError("SELECT is nested too deeply") from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise UserError("only a single SELECT is supported")
    return trees[0]


@dataclass(slots=True)
class _Scope:
    """What the expressions of one SELECT can name: the columns of its sources, and the aliases of its own.

    `tables` names the sources that are the store's tables; `use` is told which of their columns are wanted.
    """

    query: Callable[[Any], tuple[str, list[Column]]]
    use: Callable[[str, str], None]
    sources: dict[str, list[Column]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, Typed] = field(default_factory=dict)
    outer: _Scope | None = None

    def column(self, table: str, name: str) -> Typed:
        wanted = name.lower()
        if not table and wanted in self.aliases:
            return self.aliases[wanted]
        for alias, columns in self.sources.items():
            if table.lower() not in {"", alias}:
                continue
            for column, column_type in columns:
                if column.lower() == wanted:
                    return self._column_of(alias, column, column_type)
        if self.outer is not None:
            return self.outer.column(table, name)
        raise UserError(f"Column {f'{table}.' if table else ''}{name} was not found")

    def subquery(self, query: Any) -> tuple[str, list[Column]]:
        return self.query(query)

    def columns(self, table: str) -> Iterator[Typed]:
        """The columns that `*`, or `table.*`, stands for."""
        for alias, columns in self.sources.items():
            if table.lower() in {"", alias}:
                for name, column_type in columns:
                    yield self._column_of(alias, name, column_type)

    def _column_of(self, alias: str, column: str, column_type: ColumnType | None) -> Typed:
        sql = f"{_quoted(alias)}.{_quoted(column)}"
        table = self.tables.get(alias)
        if table is not None:
            self.use(table, column)
            if column in LARGE_COLUMNS:
                return Typed(f"{LARGE_VALUE}({sql})", column_type, column, reference=sql)
        return Typed(sql, column_type, column)


class _Compiler:
    """Compiles the queries of one statement, nested ones included."""

    def __init__(self, literals: tuple[str, ...], outermost: Any) -> None:
        self.values = Values()
        self.used_columns: dict[str, set[str]] = {}
        self.references: frozenset[int] = frozenset()
        self._literals = literals
        while isinstance(outermost, exp.Subquery):
            outermost = outermost.this
        self._outermost = outermost
        self._sources = 0
        self._scope: _Scope | None = None

    def query(self, tree: Any, tables: dict[str, list[Column]]) -> tuple[str, list[Column]]:
        """A SELECT or a set operation; `tables` are the named SELECTs of WITH around it."""
        if isinstance(tree, exp.Subquery):
            if any(value for key, value in tree.args.items() if key != "this"):
                raise UserError("clauses after a bracketed SELECT are not supported")
            return self.query(tree.this, tables)
        prefix, known = self._with(tree, tables)
        if isinstance(tree, exp.Select):
            sql, columns = self._select(tree, known)
        elif isinstance(tree, exp.SetOperation):
            sql, columns = self._set_operation(tree, known)
        else:
            raise UserError(f"{type(tree).__name__.upper()} is not supported")
        return prefix + sql, columns

    def _with(self, tree: Any, tables: dict[str, list[Column]]) -> tuple[str, dict[str, list[Column]]]:
        clause = tree.args.get("with_") or tree.args.get("with")
        if clause is None:
            return "", tables
        if clause.args.get("recursive"):
            raise UserError("WITH RECURSIVE is not supported")
        known, parts = dict(tables), []
        for named in clause.expressions:
            self._count_source()
            sql, columns = self.query(named.this, known)
            known[named.alias.lower()] = columns
            parts.append(f"{_quoted(named.alias.lower())} AS MATERIALIZED ({sql})")
        return f"WITH {', '.join(parts)} ", known

    def _set_operation(self, tree: Any, tables: dict[str, list[Column]]) -> tuple[str, list[Column]]:
        """A row of them, which leans to the left and may be long."""
        rights: list[Any] = []
        left = tree
        while isinstance(left, exp.SetOperation):
            if len(rights) >= _MAX_SET_OPERATIONS:
                raise UserError(f"more than {_MAX_SET_OPERATIONS} set operations are not supported")
            if left is not tree and any(left.args.get(key) for key in ("order", "limit", "offset")):
                raise UserError("ORDER BY and LIMIT inside a set operation are not supported")
            rights.append(left)
            left = left.this
        sql, columns = self._operand(left, tables)
        for operation in reversed(rights):
            right_sql, right_columns = self._operand(operation.expression, tables)
            if len(right_columns) != len(columns):
                raise UserError("the SELECTs of a set operation have different numbers of columns")
            columns = [
                (name, _merged(one, other)) for (name, one), (_, other) in zip(columns, right_columns, strict=True)
            ]
            word = _SET_OPERATORS[type(operation)]
            sql = f"{sql} {word} {'' if operation.args.get('distinct') else 'ALL '}{right_sql}"
        scope = _Scope(lambda query: self.query(query, tables), self._use, {"": columns})
        scope.aliases = {name.lower(): Typed(_quoted(name), column_type, name) for name, column_type in columns}
        return sql + self._tail(tree, Expressions(scope, self.values, self._literals)), columns

    def _operand(self, tree: Any, tables: dict[str, list[Column]]) -> tuple[str, list[Column]]:
        sql, columns = self.query(tree, tables)
        return f"SELECT * FROM ({sql})", columns  # noqa: S608  # written here from what is allowed

    def _select(self, tree: Any, tables: dict[str, list[Column]]) -> tuple[str, list[Column]]:
        _refuse_unknown_parts(tree)
        scope = _Scope(lambda query: self.query(query, tables), self._use, outer=self._scope)
        outer, self._scope = self._scope, scope
        try:
            expressions = Expressions(scope, self.values, self._literals)
            sources = self._from(tree, scope, expressions, tables)
            selected = list(self._selected(tree, scope, expressions))
            where = self._condition("WHERE", tree.args.get("where"), expressions)
            refers = tree is self._outermost and _may_refer(tree)
            scope.aliases = {
                typed.name.lower(): typed
                if refers and typed.reference
                else Typed(_quoted(typed.name), typed.type, typed.name)
                for typed in selected
            }
            grouped = self._group(tree.args.get("group"), expressions)
            having = self._condition("HAVING", tree.args.get("having"), expressions)
            tail = self._tail(tree, expressions)
        finally:
            self._scope = outer
        distinct = "DISTINCT " if tree.args.get("distinct") else ""
        if refers:
            self.references = frozenset(at for at, typed in enumerate(selected) if typed.reference)
            selected = [replace(typed, sql=typed.reference or typed.sql) for typed in selected]
        columns = ", ".join(f"{typed.sql} AS {_quoted(typed.name)}" for typed in selected)
        # Each part was compiled from what is allowed, every literal is bound, every name quoted.
        sql = f"SELECT {distinct}{columns}{sources}{where}{grouped}{having}{tail}"
        return sql, [(typed.name, typed.type) for typed in selected]

    def _selected(self, tree: Any, scope: _Scope, expressions: Expressions) -> Iterator[Typed]:
        for node in tree.expressions:
            if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
                columns = list(scope.columns(node.table if isinstance(node, exp.Column) else ""))
                if not columns or any(node.args.get(key) for key in ("except", "except_", "replace", "rename")):
                    raise UserError("* has no columns to stand for")
                yield from columns
            elif isinstance(node, exp.Alias):
                yield expressions.compile(node.this).named(node.alias)
            else:
                yield expressions.compile(node)

    def _from(self, tree: Any, scope: _Scope, expressions: Expressions, tables: dict[str, list[Column]]) -> str:
        clause = tree.args.get("from_") or tree.args.get("from")
        if clause is None:
            return ""
        parts = [self._source(clause.this, scope, tables)]
        for join in tree.args.get("joins") or ():
            source = self._source(join.this, scope, tables)
            kind = " ".join(word for word in (join.side, join.kind) if word).upper()
            if kind not in {"", "INNER", "LEFT", "LEFT OUTER", "CROSS"} or join.args.get("using"):
                raise UserError("only JOIN, LEFT JOIN and CROSS JOIN with ON are supported")
            condition = join.args.get("on")
            on = f" ON {expressions.compile(condition).sql}" if condition is not None else ""
            parts.append(f"{kind or 'INNER'} JOIN {source}{on}")
        return " FROM " + " ".join(parts)

    def _source(self, node: Any, scope: _Scope, tables: dict[str, list[Column]]) -> str:
        self._count_source()
        if isinstance(node, exp.Subquery):
            alias = (node.alias or f"subquery_{self._sources}").lower()
            inner, self._scope = self._scope, None
            try:
                sql, columns = self.query(node.this, tables)
            finally:
                self._scope = inner
            sql = f"(WITH source AS MATERIALIZED ({sql}) SELECT * FROM source)"  # noqa: S608  # of what is allowed
        elif isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            sql, columns, system_table = _table(node, tables)
            alias = (node.alias or node.name).lower()
            if system_table:
                scope.tables[alias] = system_table
                self.used_columns.setdefault(system_table, set())
        else:
            raise UserError("only tables and SELECTs are supported after FROM")
        if alias in scope.sources:
            raise UserError(f"{alias} is named twice after FROM")
        scope.sources[alias] = columns
        return f"{sql} AS {_quoted(alias)}"

    def _condition(self, word: str, clause: Any, expressions: Expressions) -> str:
        return "" if clause is None else f" {word} {expressions.compile(clause.this).sql}"

    def _group(self, clause: Any, expressions: Expressions) -> str:
        if clause is None:
            return ""
        if any(value for key, value in clause.args.items() if key != "expressions"):
            raise UserError("only GROUP BY expressions are supported")
        return f" GROUP BY {', '.join(_position(node) or expressions.compile(node).sql for node in clause.expressions)}"

    def _tail(self, tree: Any, expressions: Expressions) -> str:
        """ORDER BY, LIMIT and OFFSET."""
        sql = ""
        if (order := tree.args.get("order")) is not None:
            keys = []
            for ordered in order.expressions:
                key = _position(ordered.this) or expressions.compile(ordered.this).sql
                keys.append(f"{key} {'DESC' if ordered.args.get('desc') else 'ASC'}")
            sql += f" ORDER BY {', '.join(keys)}"
        limit, offset = tree.args.get("limit"), tree.args.get("offset")
        if limit is not None or offset is not None:
            sql += f" LIMIT {_constant(limit) if limit is not None else -1}"
        if offset is not None:
            sql += f" OFFSET {_constant(offset)}"
        return sql

    def _use(self, table: str, column: str) -> None:
        self.used_columns[table].add(column)

    def _count_source(self) -> None:
        self._sources += 1
        if self._sources > _MAX_SOURCES:
            raise UserError(f"SELECT from more than {_MAX_SOURCES} tables is not supported")


def _table(node: Any, tables: dict[str, list[Column]]) -> tuple[str, list[Column], str]:
    """The table's SQL and columns, and its name if it is one of the store's."""
    name = ".".join(part.name for part in node.parts).lower()
    if name in tables:
        return _quoted(name), tables[name], ""
    columns = columns_of(name)
    if columns is None:
        raise no_such_table(".".join(part.name for part in node.parts))
    return stored_name(name), list(columns), name if name in SYSTEM_TABLES else ""


def _may_refer(tree: Any) -> bool:
    """Whether large values can be left where they are: nothing is made of the result columns but rows of a reply."""
    order = tree.args.get("order")
    by_position = order is not None and any(_position(ordered.this) for ordered in order.expressions)
    return not by_position and not any(tree.args.get(key) for key in ("distinct", "group", "having"))


def _refuse_unknown_parts(tree: Any) -> None:
    unknown = [key for key, value in tree.args.items() if value and key not in _SELECT_PARTS]
    refused = [key for key in ("kind", "hint", "into", "operation_modifiers") if tree.args.get(key)]
    if unknown or refused:
        raise UserError(f"SELECT with {(unknown + refused)[0].strip('_').upper()} is not supported")
    if not tree.expressions:
        raise UserError("SELECT without a column is not supported")
    distinct = tree.args.get("distinct")
    if distinct is not None and distinct.args.get("on"):
        raise UserError("SELECT DISTINCT ON is not supported")


def _position(node: Any) -> str:
    """The number of a result column, empty when the node is an expression."""
    is_number = isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdigit()
    return str(int(node.this)) if is_number and len(str(node.this)) < 5 else ""


def _constant(clause: Any) -> int:
    node = clause.expression
    if not isinstance(node, exp.Literal) or node.is_string or not str(node.this).isdigit() or len(str(node.this)) > 18:
        raise UserError("LIMIT and OFFSET need a number")
    return int(node.this)


def _merged(one: ColumnType | None, other: ColumnType | None) -> ColumnType | None:
    sides = [Typed("NULL", one, "left"), Typed("NULL", other, "right")]
    merged = common_type(sides)
    for side in sides:
        as_type(side, merged)
    return merged


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""').replace("\0", "") + '"'
