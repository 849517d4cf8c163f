"""What an expression may consist of: each operator and function, its arguments, its type, and its SQL for SQLite.

Semantics are those of CubeStore's engine: the quotient of integers is an integer, and a comparison with a time converts
a text to a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sqlglot import expressions as exp

from storage.errors import UserError
from storage.vocabulary import ColumnType

INT, FLOAT, STRING = ColumnType.INT, ColumnType.FLOAT, ColumnType.STRING
BOOLEAN, TIMESTAMP = ColumnType.BOOLEAN, ColumnType.TIMESTAMP

Type = ColumnType | None  # None is the type of a bare NULL


class Rule(NamedTuple):
    """An operator or function.

    `wants` has a letter for each argument, those after a dot may be left out, and `+` repeats the one before it:
    `n` a number, `s` converted to text, `t` to a time, `=` to a type in which they can be compared, `c` to the type
    that all of these have in common, `*` anything, `w` a constant word, `i` a constant interval, which becomes two
    arguments, months and milliseconds. `gives` is the type, None for the one that the arguments have in common. In
    `sql`, `{all}` stands for all arguments. Operators for which SQLite and sqlglot differ in precedence have brackets.
    """

    wants: str
    gives: Type
    sql: str


_COMPARISONS: Final = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.NullSafeEQ: "IS", exp.NullSafeNEQ: "IS NOT",
}  # fmt: skip

# By sqlglot's class, or by name where sqlglot knows no such function. A quotient in FLOOR and CEIL is floored exactly,
# whatever its sign. AND and OR need no rule.
RULES: Final[dict[type[exp.Expr] | str, Rule]] = {
    exp.Not: Rule("*", BOOLEAN, "(NOT {})"),
    exp.Is: Rule("**", BOOLEAN, "({} IS {})"),
    **{kind: Rule("==", BOOLEAN, f"({{}} {operator} {{}})") for kind, operator in _COMPARISONS.items()},
    exp.Between: Rule("===", BOOLEAN, "({} BETWEEN {} AND {})"),
    exp.Like: Rule("ss", BOOLEAN, "({} LIKE {})"),
    exp.ILike: Rule("ss", BOOLEAN, "(lower({}) LIKE lower({}))"),
    exp.DPipe: Rule("ss", STRING, "{} || {}"),
    exp.Neg: Rule("n", None, "- {}"),
    exp.Add: Rule("nn", None, "{} + {}"),
    exp.Sub: Rule("nn", None, "{} - {}"),
    exp.Mul: Rule("nn", None, "{} * {}"),
    exp.Div: Rule("nn", None, "cq_divide({}, {})"),
    exp.IntDiv: Rule("nn", None, "cq_divide({}, {})"),
    exp.Mod: Rule("nn", None, "cq_remainder({}, {})"),
    # Numbers
    exp.Floor: Rule("n", INT, "cq_floor({}, 1)"),
    exp.Ceil: Rule("n", INT, "cq_ceiling({}, 1)"),
    "FLOOR /": Rule("nn", INT, "cq_floor({}, {})"),
    "CEIL /": Rule("nn", INT, "cq_ceiling({}, {})"),
    exp.Round: Rule("n.n", FLOAT, "round({all})"),
    exp.Abs: Rule("n", None, "abs({})"),
    exp.Sign: Rule("n", INT, "sign({})"),
    exp.Sqrt: Rule("n", FLOAT, "cq_square_root({})"),
    exp.Pow: Rule("nn", FLOAT, "cq_power({}, {})"),
    # Any values
    exp.Least: Rule("c+", None, "cq_least({all})"),
    exp.Greatest: Rule("c+", None, "cq_greatest({all})"),
    exp.Coalesce: Rule("c+", None, "coalesce({all}, NULL)"),
    exp.Nullif: Rule("cc", None, "nullif({}, {})"),
    # Texts
    exp.Concat: Rule("s+", STRING, "cq_concatenate({all})"),
    exp.Lower: Rule("s", STRING, "lower({})"),
    exp.Upper: Rule("s", STRING, "upper({})"),
    exp.Length: Rule("s", INT, "length({})"),
    exp.Substring: Rule("sn.n", STRING, "substr({all})"),
    exp.Left: Rule("sn", STRING, "substr({}, 1, max({}, 0))"),
    exp.Right: Rule("sn", STRING, "cq_right({}, {})"),
    exp.Trim: Rule("s", STRING, "trim({})"),
    "LEADING": Rule("s", STRING, "ltrim({})"),
    "TRAILING": Rule("s", STRING, "rtrim({})"),
    exp.Replace: Rule("sss", STRING, "replace({all})"),
    # Times
    "NOW": Rule(".n", TIMESTAMP, ":now"),
    exp.CurrentTimestamp: Rule(".n", TIMESTAMP, ":now"),
    exp.UtcTimestamp: Rule(".n", TIMESTAMP, ":now"),
    "CURDATE": Rule("", TIMESTAMP, "cq_truncate('day', :now)"),
    exp.CurrentDate: Rule("", TIMESTAMP, "cq_truncate('day', :now)"),
    "UNIX_TIMESTAMP": Rule("t", INT, "cq_floor({}, 1000)"),
    "UNIX_TIMESTAMP()": Rule("", INT, "cq_floor(:now, 1000)"),
    "FROM_UNIXTIME": Rule("n", TIMESTAMP, "(CAST({} AS INTEGER) * 1000)"),
    "TO_TIMESTAMP": Rule("t", TIMESTAMP, "{}"),
    exp.Date: Rule("t", TIMESTAMP, "cq_truncate('day', {})"),
    exp.DateTrunc: Rule("wt", TIMESTAMP, "cq_truncate({}, {})"),
    exp.TimestampTrunc: Rule("tw", TIMESTAMP, "cq_truncate({1}, {0})"),
    exp.DateBin: Rule("itt", TIMESTAMP, "cq_bin_start({all})"),
    exp.DateAdd: Rule("ti", TIMESTAMP, "cq_move({}, 1, {})"),
    exp.DateSub: Rule("ti", TIMESTAMP, "cq_move({}, -1, {})"),
    exp.Extract: Rule("wt", INT, "cq_extract({}, {})"),
    "DATE_PART": Rule("wt", INT, "cq_extract({}, {})"),
    exp.Year: Rule("t", INT, "cq_extract('year', {})"),
    exp.Month: Rule("t", INT, "cq_extract('month', {})"),
    exp.Day: Rule("t", INT, "cq_extract('day', {})"),
    "CONVERT_TZ": Rule("ts", TIMESTAMP, "({} + cq_offset({}))"),
    # Aggregates
    "COUNT(*)": Rule("", INT, "count(*)"),
    "COUNT(DISTINCT)": Rule("*", INT, "count(DISTINCT {})"),
    exp.Count: Rule("*", INT, "count({})"),
    exp.Sum: Rule("n", None, "sum({})"),
    exp.Avg: Rule("n", FLOAT, "avg({})"),
    exp.Min: Rule("*", None, "min({})"),
    exp.Max: Rule("*", None, "max({})"),
}

# From and to: the SQL of a cast. Any other cast is refused.
CASTS: Final = {
    (INT, FLOAT): "CAST({} AS REAL)",
    (INT, STRING): "CAST({} AS TEXT)",
    (INT, BOOLEAN): "({} <> 0)",
    (FLOAT, INT): "CAST({} AS INTEGER)",
    (FLOAT, STRING): "CAST({} AS TEXT)",
    (FLOAT, BOOLEAN): "({} <> 0)",
    (BOOLEAN, INT): "({})",
    (BOOLEAN, FLOAT): "CAST({} AS REAL)",
    (BOOLEAN, STRING): "(CASE {} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END)",
    (STRING, INT): "cq_integer({})",
    (STRING, FLOAT): "cq_double({})",
    (STRING, BOOLEAN): "cq_boolean({})",
    (STRING, TIMESTAMP): "cq_timestamp({})",
    (TIMESTAMP, STRING): "cq_show_time({})",
}

# By sqlglot's names of types.
TYPES: Final[dict[str, ColumnType]] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT"), INT),
    **dict.fromkeys(("FLOAT", "DOUBLE", "DECIMAL"), FLOAT),
    **dict.fromkeys(("CHAR", "VARCHAR", "NVARCHAR", "TEXT"), STRING),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPLTZ", "TIMESTAMPNTZ", "DATETIME", "DATE"), TIMESTAMP),
    "BOOLEAN": BOOLEAN,
}


def call(node: Any) -> tuple[str, Rule, list[Any]]:
    """The name of an operator or function, its rule and its arguments. Raises UserError for one without a rule."""
    kind: type[Any] = type(node)
    is_unknown = kind is exp.Anonymous  # to sqlglot
    name = node.name.upper() if is_unknown else kind.__name__.upper()
    nodes = node.expressions if is_unknown else list(node.iter_expressions())
    key: type[Any] | str = name if is_unknown else kind
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
        key = "UNIX_TIMESTAMP()"
    rule = RULES.get(key)
    if rule is None:
        raise UserError(f"{name} is not supported in SELECT")
    return name, rule, nodes


def branches(node: Any) -> tuple[list[Any], list[Any]]:
    """Conditions and values of CASE and of IF(condition, yes, no); the last value is that of ELSE."""
    is_case = isinstance(node, exp.Case)
    ifs = node.args["ifs"] if is_case else [node]
    otherwise = node.args.get("default" if is_case else "false") or exp.Null()
    return [each.this for each in ifs], [*(each.args["true"] for each in ifs), otherwise]


def common_type(types: Iterable[Type]) -> Type:
    """The type that branches of a CASE or rows of a UNION share: Float for numbers of both kinds, else a text."""
    known = set(types) - {None}
    if len(known) <= 1:
        return next(iter(known), None)
    return FLOAT if known == {INT, FLOAT} else STRING


def compared_type(types: Iterable[Type]) -> Type:
    """The type in which values are compared: a time for texts beside a time; None when each keeps its own."""
    known = set(types) - {None}
    if len(known) <= 1 or known == {INT, FLOAT}:
        return None
    return TIMESTAMP if TIMESTAMP in known else STRING
