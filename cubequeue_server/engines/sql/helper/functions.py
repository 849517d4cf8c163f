"""The functions that SQLite lacks, or has with other semantics than CubeStore.

A time is whole milliseconds since the epoch, UTC. A function raises UserError for a value that it cannot work with,
years outside 1 to 9999 included.
"""

from __future__ import annotations

import math
import re
from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from storage.errors import UserError

Value = int | float | str | None

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_DAY_MS: Final = 86_400_000
_INTERVAL_PART: Final = re.compile(r"\s*([+-]?\d{1,9})\s*([a-z]+)\s*", re.ASCII | re.IGNORECASE)
_UNIT_MS: Final = {
    "millisecond": 1, "second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": _DAY_MS, "week": 7 * _DAY_MS,
}  # fmt: skip
_UNIT_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
# The parts of a time that strftime gives as a number.
_PARTS: Final = {
    "year": "%Y", "month": "%m", "week": "%V", "day": "%d", "dow": "%w", "doy": "%j",
    "hour": "%H", "minute": "%M", "second": "%S",
}  # fmt: skip
_TRUTHS: Final = {
    **dict.fromkeys(("true", "t", "1", "yes"), True),
    **dict.fromkeys(("false", "f", "0", "no"), False),
}

# Numbers


def _divide(dividend: float, divisor: float) -> float:
    """The quotient; that of integers is an integer, rounded towards zero."""
    if isinstance(dividend, int) and isinstance(divisor, int):
        quotient = abs(dividend) // abs(divisor)
        return quotient if (dividend < 0) == (divisor < 0) else -quotient
    return dividend / divisor


def _remainder(dividend: float, divisor: float) -> float:
    """The remainder, with the sign of the dividend."""
    if isinstance(dividend, int) and isinstance(divisor, int):
        rest = abs(dividend) % abs(divisor)
        return -rest if dividend < 0 else rest
    if not divisor:
        raise ZeroDivisionError
    return math.fmod(dividend, divisor)


def _parsed(parse: Callable[[str], Value], type_: str) -> Callable[[str], Value]:
    def call(text: str) -> Value:
        try:
            return parse(text)
        except (ValueError, KeyError):
            raise UserError(f"Cannot cast string '{text[:60]}' to value of {type_} type") from None

    return call


# Times


def parse_interval(text: str) -> tuple[int, int]:
    """(months, milliseconds) of `7 DAY`, `1 DAY 2 HOURS`, `-3 months` and so on. Raises UserError."""
    months = milliseconds = position = 0
    while position < len(text):
        match = _INTERVAL_PART.match(text, position)
        unit = "" if match is None else _unit(match[2])
        if match is None or (unit not in _UNIT_MONTHS and unit not in _UNIT_MS):
            raise UserError(f"'{text[:60]}' is not an interval such as 7 DAY")
        months += int(match[1]) * _UNIT_MONTHS.get(unit, 0)
        milliseconds += int(match[1]) * _UNIT_MS.get(unit, 0)
        position = match.end()
    return months, milliseconds


def _unit(word: str) -> str:
    """A unit of time in lower case and in the singular."""
    return word.strip().lower().removesuffix("s")


def _timestamp(text: str) -> int:
    """`2020-01-31`, `2020-01-31T10:20:30.123Z`, with a blank for the T, with or without a zone (default UTC)."""
    try:
        moment = datetime.fromisoformat(text.strip().replace(" UTC", "Z"))
    except ValueError:
        raise UserError(f"Error parsing '{text[:60]}' as timestamp") from None
    return _ms(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _offset(zone: str) -> int:
    """Milliseconds east of UTC of `+02:00`, `-0330` and `Z`."""
    try:
        return -_ms(datetime.fromisoformat("1970-01-01T00:00" + zone.replace("UTC", "Z")))
    except (ValueError, TypeError):  # TypeError: without a zone
        raise UserError(f"'{zone[:60]}' is not a time zone offset such as +02:00") from None


def _move(timestamp: int, sign: int, months: int, milliseconds: int) -> int:
    """The time later by months, with the day limited to the month's last, and then by milliseconds."""
    moment = _moment(timestamp)
    if months:
        year, month = divmod(moment.year * 12 + moment.month - 1 + sign * months, 12)
        last = monthrange(_first(year, month + 1).year, month + 1)[1]
        moment = moment.replace(year=year, month=month + 1, day=min(moment.day, last))
    return _ms(_moment(_ms(moment) + sign * milliseconds))


def _truncate(unit: str, timestamp: int) -> int:
    """The start of the second … year that contains a time. A week starts on Monday."""
    word = _unit(unit)
    if word in _UNIT_MS:
        # The epoch was a Thursday: three days after a Monday.
        shift_ms = 3 * _DAY_MS if word == "week" else 0
        return (timestamp + shift_ms) // _UNIT_MS[word] * _UNIT_MS[word] - shift_ms
    if word not in _UNIT_MONTHS:
        raise UserError(f"'{word[:60]}' is not a unit of time that can be truncated to")
    moment = _moment(timestamp)
    return _ms(_first(moment.year, (moment.month - 1) // _UNIT_MONTHS[word] * _UNIT_MONTHS[word] + 1))


def _bin_start(months: int, milliseconds: int, timestamp: int, origin: int) -> int:
    """The start of the interval, counted from `origin`, that contains a time."""
    if (months == 0) == (milliseconds == 0) or months < 0 or milliseconds < 0:
        raise UserError("DATE_BIN needs a positive interval of months, or of shorter units, not of both")
    if milliseconds:
        return origin + (timestamp - origin) // milliseconds * milliseconds
    moment, start = _moment(timestamp), _moment(origin)
    count = ((moment.year - start.year) * 12 + moment.month - start.month) // months
    begun = _move(origin, 1, count * months, 0)
    return begun if begun <= timestamp else _move(origin, 1, (count - 1) * months, 0)


def _extract(part: str, timestamp: int) -> int:
    """A part of a time: year, quarter, month, week (ISO), day, dow (Sunday 0), doy, hour … or epoch in seconds."""
    moment, word = _moment(timestamp), _unit(part)
    if word in _PARTS:
        return int(moment.strftime(_PARTS[word]))
    others = {"quarter": (moment.month + 2) // 3, "millisecond": timestamp % 1_000, "epoch": timestamp // 1_000}
    if word not in others:
        raise UserError(f"'{word[:60]}' is not a part of a time")
    return others[word]


def _show(timestamp: int) -> str:
    """`2020-01-01T00:00:00.000Z`."""
    return _moment(timestamp).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MS


def _moment(timestamp: int) -> datetime:
    try:
        return _EPOCH + timestamp * _MS
    except OverflowError as error:
        raise UserError("a time is outside the years 1 to 9999") from error


def _first(year: int, month: int) -> datetime:
    if not 1 <= year <= 9999:
        raise UserError("a time is outside the years 1 to 9999")
    return datetime(year, month, 1, tzinfo=UTC)


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "cq_divide": _divide,
    "cq_remainder": _remainder,
    "cq_floor": lambda dividend, divisor: math.floor(dividend if divisor == 1 else dividend // divisor),
    "cq_ceiling": lambda dividend, divisor: math.ceil(dividend if divisor == 1 else -(-dividend // divisor)),
    "cq_power": math.pow,
    "cq_square_root": math.sqrt,
    "cq_least": lambda *values: min(values),
    "cq_greatest": lambda *values: max(values),
    "cq_integer": _parsed(lambda text: int(text[:25]), "Int64"),
    "cq_double": _parsed(lambda text: float(text[:400]), "Float64"),
    "cq_boolean": _parsed(lambda text: _TRUTHS[text.strip().lower()], "Boolean"),
    "cq_right": lambda text, count: text[-count:] if count > 0 else "",
    "cq_timestamp": _timestamp,
    "cq_offset": _offset,
    "cq_move": _move,
    "cq_truncate": _truncate,
    "cq_bin_start": _bin_start,
    "cq_extract": _extract,
    "cq_show_time": _show,
}


def guarded(name: str, function: Callable[..., Any], on_error: Callable[[Exception], None]) -> Callable[..., Value]:
    """The function as SQLite gets it: NULL in, NULL out; `on_error` gets the reason of a failure."""

    def call(*arguments: Value) -> Value:
        if None in arguments:
            return None
        try:
            return function(*arguments)  # type: ignore[no-any-return]
        except ZeroDivisionError:
            on_error(UserError("Divide by zero error"))
        except (ArithmeticError, ValueError) as error:
            on_error(UserError(f"{name.removeprefix('cq_').upper()}: {error}"))
        except Exception as error:
            on_error(error)
        raise ValueError

    return call
