"""The functions that a SELECT may call: each one listed, compiled and typed; all others are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlglot import expressions as exp

from cubequeue_server.engines.sql.plan import NOW_PARAMETER, Typed
from cubequeue_server.engines.sql.typing_rules import as_text, as_type, common_type
from storage.errors import UserError
from storage.vocabulary import ColumnType

if TYPE_CHECKING:
    from cubequeue_server.engines.sql.expressions import Expressions

_INT, _FLOAT, _STRING = ColumnType.INT, ColumnType.FLOAT, ColumnType.STRING
_BOOLEAN, _TIMESTAMP = ColumnType.BOOLEAN, ColumnType.TIMESTAMP
_MAX_ARGUMENTS: Final = 100


@dataclass(slots=True, frozen=True)
class Compiled:
    """A call: its name in upper case, its arguments as sqlglot's nodes, and what compiles those."""

    name: str
    arguments: list[Any]
    expressions: Expressions

    def take(self, least: int, most: int | None = None) -> list[Typed]:
        """The arguments, compiled, if there are as many as there should be. Raises UserError."""
        self.count(least, most)
        return [self.expressions.compile(argument) for argument in self.arguments]

    def count(self, least: int, most: int | None = None) -> None:
        """Raises UserError unless the number of arguments is in range."""
        if not least <= len(self.arguments) <= (least if most is None else most):
            raise UserError(f"{self.name} with {len(self.arguments)} arguments is not supported")

    def time(self, index: int) -> Typed:
        """An argument as a time."""
        return as_type(self.expressions.compile(self.arguments[index]), _TIMESTAMP)

    def word(self, index: int) -> str:
        """An argument that is a constant word, such as a unit of time."""
        node = self.arguments[index]
        text = self.expressions.text_constant(node)
        if text is None and isinstance(node, exp.Var | exp.Column):
            text = node.name
        if text is None:
            raise UserError(f"{self.name} needs a constant there")
        return text

    def bind(self, value: str) -> str:
        return self.expressions.bind(value)


Function = Callable[[Compiled], Typed]


def function_of(node: Any) -> tuple[str, list[Any]]:  # sqlglot's tree is untyped
    """Name and arguments of a call, whether sqlglot knows the function or not."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).upper(), list(node.expressions)
    known = _KNOWN.get(type(node))
    if known is None:
        return "", []
    name, keys = known
    arguments: list[Any] = []
    for key in keys:
        value = node.args.get(key)
        arguments += value if isinstance(value, list) else [] if value is None else [value]
    return name, arguments


# sqlglot's classes: what we call the function, and which of their parts are its arguments, in order.
_KNOWN: Final[dict[type, tuple[str, tuple[str, ...]]]] = {
    exp.Floor: ("FLOOR", ("this", "decimals", "to")),
    exp.Ceil: ("CEIL", ("this", "decimals", "to")),
    exp.Round: ("ROUND", ("this", "decimals")),
    exp.Abs: ("ABS", ("this",)),
    exp.Sign: ("SIGN", ("this",)),
    exp.Sqrt: ("SQRT", ("this",)),
    exp.Pow: ("POWER", ("this", "expression")),
    exp.Least: ("LEAST", ("this", "expressions")),
    exp.Greatest: ("GREATEST", ("this", "expressions")),
    exp.Coalesce: ("COALESCE", ("this", "expressions")),
    exp.Nullif: ("NULLIF", ("this", "expression")),
    exp.Concat: ("CONCAT", ("expressions",)),
    exp.Lower: ("LOWER", ("this",)),
    exp.Upper: ("UPPER", ("this",)),
    exp.Length: ("LENGTH", ("this",)),
    exp.Substring: ("SUBSTRING", ("this", "start", "length")),
    exp.Left: ("LEFT", ("this", "expression")),
    exp.Right: ("RIGHT", ("this", "expression")),
    exp.Trim: ("TRIM", ("this", "expression", "position")),
    exp.Replace: ("REPLACE", ("this", "expression", "replacement")),
    exp.CurrentTimestamp: ("NOW", ("this",)),
    exp.UtcTimestamp: ("NOW", ("this",)),
    exp.CurrentDate: ("CURRENT_DATE", ("this",)),
    exp.DateTrunc: ("DATE_TRUNC", ("unit", "this", "zone")),
    exp.TimestampTrunc: ("DATE_TRUNC", ("unit", "this", "zone")),
    exp.DateBin: ("DATE_BIN", ("this", "expression", "unit", "zone", "origin")),
    exp.DateAdd: ("DATE_ADD", ("this", "expression")),
    exp.DateSub: ("DATE_SUB", ("this", "expression")),
    exp.Extract: ("DATE_PART", ("this", "expression")),
    exp.Year: ("YEAR", ("this",)),
    exp.Month: ("MONTH", ("this",)),
    exp.Day: ("DAY", ("this",)),
    exp.Date: ("DATE", ("this", "zone", "expressions")),
    exp.ConvertTimezone: ("CONVERT_TZ", ("source_tz", "target_tz", "timestamp")),
    exp.Cast: ("CAST", ("this", "to")),
    exp.TryCast: ("CAST", ("this", "to")),
    exp.Count: ("COUNT", ("this", "expressions")),
    exp.Sum: ("SUM", ("this",)),
    exp.Min: ("MIN", ("this", "expressions")),
    exp.Max: ("MAX", ("this", "expressions")),
    exp.Avg: ("AVG", ("this",)),
}


def _number(typed: Typed, call: Compiled) -> Typed:
    if typed.type not in {_INT, _FLOAT, None}:
        raise UserError(f"{call.name} of {typed.name}: a number is wanted")
    return typed


def _unbracketed(node: Any) -> Any:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _whole(of_quotient: str, of_number: str) -> Function:
    """FLOOR and CEIL: of a quotient exactly, also where integers would be divided towards zero."""

    def compile_call(call: Compiled) -> Typed:
        call.count(1)
        quotient = _unbracketed(call.arguments[0])
        if isinstance(quotient, exp.Div):
            sides = [_number(call.expressions.compile(side), call) for side in (quotient.this, quotient.expression)]
            return Typed(f"{of_quotient}({sides[0].sql}, {sides[1].sql})", _INT, "")
        number = _number(call.take(1)[0], call)
        return Typed(number.sql if number.type is _INT else f"{of_number}({number.sql})", _INT, "")

    return compile_call


def _round(call: Compiled) -> Typed:
    number, *digits = (_number(argument, call) for argument in call.take(1, 2))
    if number.type is _INT and not digits:
        return Typed(number.sql, _INT, "")
    return Typed(f"round({', '.join([number.sql, *(d.sql for d in digits)])})", _FLOAT, "")


def _numeric(sql: str, result: ColumnType | None, count: int = 1) -> Function:
    """A function of numbers; `result` None keeps the type of the argument."""

    def compile_call(call: Compiled) -> Typed:
        arguments = [_number(argument, call) for argument in call.take(count)]
        return Typed(sql.format(*(a.sql for a in arguments)), arguments[0].type if result is None else result, "")

    return compile_call


def _textual(sql: str, result: ColumnType, texts: int, least: int, most: int) -> Function:
    """A function whose first `texts` arguments are texts and the others numbers; `{}` is all of them."""

    def compile_call(call: Compiled) -> Typed:
        arguments = call.take(least, most)
        for index, argument in enumerate(arguments):
            arguments[index] = as_text(argument) if index < texts else _number(argument, call)
        return Typed(sql.format(", ".join(a.sql for a in arguments)), result, "")

    return compile_call


def _of_one_type(sql: str, least: int, most: int = _MAX_ARGUMENTS) -> Function:
    """A function that gives one of its arguments."""

    def compile_call(call: Compiled) -> Typed:
        arguments = call.take(least, most)
        wanted = common_type(arguments)
        if len(arguments) == 1:
            return arguments[0].named("")
        return Typed(sql.format(", ".join(as_type(a, wanted).sql for a in arguments)), wanted, "")

    return compile_call


def _left(call: Compiled) -> Typed:
    text, count = call.take(2)
    return Typed(f"substr({as_text(text).sql}, 1, max({_number(count, call).sql}, 0))", _STRING, "")


def _right(call: Compiled) -> Typed:
    text, count = call.take(2)
    return Typed(f"cq_last_characters({as_text(text).sql}, {as_type(count, _INT).sql})", _STRING, "")


def _now(call: Compiled) -> Typed:
    call.count(0, 1)
    return Typed(NOW_PARAMETER, _TIMESTAMP, "now()")


def _today(call: Compiled) -> Typed:
    call.count(0)
    return Typed(f"cq_truncate('day', {NOW_PARAMETER})", _TIMESTAMP, "current_date()")


def _unix_timestamp(call: Compiled) -> Typed:
    call.count(0, 1)
    moment = call.time(0).sql if call.arguments else NOW_PARAMETER
    return Typed(f"cq_floor_of_quotient({moment}, 1000)", _INT, "")


def _from_unix_time(call: Compiled) -> Typed:
    return Typed(f"(CAST({_number(call.take(1)[0], call).sql} AS INTEGER) * 1000)", _TIMESTAMP, "")


def _to_timestamp(call: Compiled) -> Typed:
    call.count(1)
    return Typed(call.time(0).sql, _TIMESTAMP, "")


def _date(call: Compiled) -> Typed:
    call.count(1)
    return Typed(f"cq_truncate('day', {call.time(0).sql})", _TIMESTAMP, "")


def _date_trunc(call: Compiled) -> Typed:
    call.count(2)
    unit, moment = call.word(0), call.time(1)
    return Typed(
        f"cq_truncate({call.bind(unit)}, {moment.sql})", _TIMESTAMP, f'date_trunc(Utf8("{unit}"), {moment.name})'
    )


def _date_bin(call: Compiled) -> Typed:
    call.count(3)
    months, milliseconds = call.expressions.interval(call.arguments[0])
    moment, origin = call.time(1), call.time(2)
    return Typed(f"cq_bin_start({months}, {milliseconds}, {moment.sql}, {origin.sql})", _TIMESTAMP, "")


def _shifted(sign: int) -> Function:
    def compile_call(call: Compiled) -> Typed:
        call.count(2)
        months, milliseconds = call.expressions.interval(call.arguments[1])
        return Typed(f"cq_add_interval({call.time(0).sql}, {sign * months}, {sign * milliseconds})", _TIMESTAMP, "")

    return compile_call


def _date_part(call: Compiled) -> Typed:
    call.count(2)
    unit, moment = call.word(0), call.time(1)
    return Typed(f"cq_extract({call.bind(unit)}, {moment.sql})", _INT, f'date_part(Utf8("{unit}"), {moment.name})')


def _part(unit: str) -> Function:
    def compile_call(call: Compiled) -> Typed:
        call.count(1)
        return Typed(f"cq_extract('{unit}', {call.time(0).sql})", _INT, "")

    return compile_call


def _convert_tz(call: Compiled) -> Typed:
    """`CONVERT_TZ(time, '+02:00')`: the wall clock there."""
    call.count(2)
    offset = as_text(call.expressions.compile(call.arguments[1]))
    return Typed(f"({call.time(0).sql} + cq_offset({offset.sql}))", _TIMESTAMP, "")


_CAST_TYPES: Final = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INT", "BIGINT"), _INT),
    **dict.fromkeys(("FLOAT", "DOUBLE", "DECIMAL"), _FLOAT),
    **dict.fromkeys(("CHAR", "VARCHAR", "NVARCHAR", "TEXT"), _STRING),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPLTZ", "TIMESTAMPNTZ", "DATETIME", "DATE"), _TIMESTAMP),
    "BOOLEAN": _BOOLEAN,
}


def _cast(call: Compiled) -> Typed:
    operand, target = call.expressions.compile(call.arguments[0]), call.arguments[1]
    word = getattr(target.this, "name", str(target.this))
    wanted = _CAST_TYPES.get(word)
    if wanted is None:
        raise UserError(f"CAST to {word} is not supported")
    cast = as_type(operand, wanted)
    sql = f"cq_truncate('day', {cast.sql})" if word == "DATE" else cast.sql
    return Typed(sql, wanted, f"CAST({operand.name} AS {wanted.value})")


def _count(call: Compiled) -> Typed:
    call.count(1)
    argument = call.arguments[0]
    if isinstance(argument, exp.Star):
        return Typed("count(*)", _INT, "COUNT(UInt8(1))")
    distinct = isinstance(argument, exp.Distinct)
    if distinct and len(argument.expressions) != 1:
        raise UserError("COUNT(DISTINCT …) of one expression only is supported")
    counted = call.expressions.compile(argument.expressions[0] if distinct else argument)
    word = "DISTINCT " if distinct else ""
    return Typed(f"count({word}{counted.sql})", _INT, f"COUNT({word}{counted.name})")


def _aggregate(sql: str, result: ColumnType | None, *, of_numbers: bool) -> Function:
    def compile_call(call: Compiled) -> Typed:
        argument = call.take(1)[0]
        if of_numbers:
            _number(argument, call)
        return Typed(
            f"{sql}({argument.sql})", argument.type if result is None else result, f"{call.name}({argument.name})"
        )

    return compile_call


FUNCTIONS: Final[dict[str, Function]] = {
    "FLOOR": _whole("cq_floor_of_quotient", "cq_floor"),
    "CEIL": _whole("cq_ceiling_of_quotient", "cq_ceiling"),
    "ROUND": _round,
    "ABS": _numeric("abs({})", None),
    "SIGN": _numeric("sign({})", _INT),
    "SQRT": _numeric("cq_square_root({})", _FLOAT),
    "POWER": _numeric("cq_power({}, {})", _FLOAT, 2),
    "LEAST": _of_one_type("min({})", 1),
    "GREATEST": _of_one_type("max({})", 1),
    "COALESCE": _of_one_type("coalesce({})", 1),
    "NULLIF": _of_one_type("nullif({})", 2, 2),
    "CONCAT": _textual("cq_concatenate({})", _STRING, _MAX_ARGUMENTS, 1, _MAX_ARGUMENTS),
    "LOWER": _textual("lower({})", _STRING, 1, 1, 1),
    "UPPER": _textual("upper({})", _STRING, 1, 1, 1),
    "LENGTH": _textual("length({})", _INT, 1, 1, 1),
    "SUBSTRING": _textual("substr({})", _STRING, 1, 2, 3),
    "LEFT": _left,
    "RIGHT": _right,
    "TRIM": _textual("trim({})", _STRING, 1, 1, 1),
    "LTRIM": _textual("ltrim({})", _STRING, 1, 1, 1),
    "RTRIM": _textual("rtrim({})", _STRING, 1, 1, 1),
    "REPLACE": _textual("replace({})", _STRING, 3, 3, 3),
    "NOW": _now,
    "CURRENT_DATE": _today,
    "CURDATE": _today,
    "UNIX_TIMESTAMP": _unix_timestamp,
    "FROM_UNIXTIME": _from_unix_time,
    "TO_TIMESTAMP": _to_timestamp,
    "DATE": _date,
    "DATE_TRUNC": _date_trunc,
    "DATE_BIN": _date_bin,
    "DATE_ADD": _shifted(1),
    "DATE_SUB": _shifted(-1),
    "DATE_PART": _date_part,
    "YEAR": _part("year"),
    "MONTH": _part("month"),
    "DAY": _part("day"),
    "CONVERT_TZ": _convert_tz,
    "CAST": _cast,
    "COUNT": _count,
    "SUM": _aggregate("sum", None, of_numbers=True),
    "AVG": _aggregate("avg", _FLOAT, of_numbers=True),
    "MIN": _aggregate("min", None, of_numbers=False),
    "MAX": _aggregate("max", None, of_numbers=False),
}
