"""The functions that SQLite has not, or not as CubeStore has them. NULL in, NULL out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from cubequeue_server.engines.sql import times
from storage.errors import UserError

# The longest value that an expression may have.
MAX_VALUE_BYTES: Final = 1 << 20

Value = int | float | str | None


def _divide(dividend: Value, divisor: Value) -> Value:
    """Integers are divided as integers, towards zero."""
    left, right = _numbers(dividend, divisor)
    if left is None or right is None:
        return None
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left / right


def _floor_of_quotient(dividend: Value, divisor: Value) -> Value:
    left, right = _numbers(dividend, divisor)
    return None if left is None or right is None else _whole(left // right)


def _ceiling_of_quotient(dividend: Value, divisor: Value) -> Value:
    left, right = _numbers(dividend, divisor)
    return None if left is None or right is None else _whole(-(-left // right))


def _remainder(dividend: Value, divisor: Value) -> Value:
    """With the sign of the dividend."""
    left, right = _numbers(dividend, divisor)
    if left is None or right is None:
        return None
    if isinstance(left, int) and isinstance(right, int):
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    return math.fmod(left, right)


def _numbers(dividend: Value, divisor: Value) -> tuple[int | float | None, int | float | None]:
    assert not isinstance(dividend, str)
    assert not isinstance(divisor, str)
    if divisor == 0:
        raise UserError("Divide by zero error")
    return dividend, divisor


def _whole(number: float) -> int:
    if not math.isfinite(number):
        raise UserError("the result is not a finite number")
    return math.floor(number)


def _floor(number: Value) -> Value:
    return None if number is None else _whole(float(number))


def _ceiling(number: Value) -> Value:
    return None if number is None else -_whole(-float(number))


def _power(base: float | None, exponent: float | None) -> float | None:
    if base is None or exponent is None:
        return None
    try:
        result = math.pow(base, exponent)
    except (OverflowError, ValueError) as error:
        raise UserError(f"POWER: {error}") from error
    return result


def _square_root(number: float | None) -> float | None:
    if number is None:
        return None
    if number < 0:
        raise UserError("SQRT of a negative number")
    return math.sqrt(number)


def _integer(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text[:25])
    except ValueError as error:
        raise UserError(f"Cannot cast string '{text[:60]}' to value of Int64 type") from error


def _double(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text[:400])
    except ValueError as error:
        raise UserError(f"Cannot cast string '{text[:60]}' to value of Float64 type") from error


def _boolean(text: str | None) -> int | None:
    if text is None:
        return None
    word = text.strip().lower()
    if word not in {"true", "false", "t", "f", "1", "0", "yes", "no"}:
        raise UserError(f"Cannot cast string '{text[:60]}' to value of Boolean type")
    return word in {"true", "t", "1", "yes"}


def _last_characters(text: str | None, count: int | None) -> str | None:
    if text is None or count is None:
        return None
    return text[-count:] if count > 0 else ""


def _concatenate(*parts: Value) -> str:
    """Of texts; a NULL counts as nothing, as CONCAT has it."""
    return "".join(str(part) for part in parts if part is not None)[: MAX_VALUE_BYTES + 1]


_MAX_PATTERN, _MAX_MATCHED = 1_000, MAX_VALUE_BYTES


def _like(text: str | None, pattern: str | None) -> int | None:
    """LIKE, case-sensitive, in time linear in the text for patterns without `_`; long ones are refused."""
    if text is None or pattern is None:
        return None
    if len(pattern) > _MAX_PATTERN or len(text) > _MAX_MATCHED:
        raise UserError(f"LIKE of more than {_MAX_PATTERN} on {_MAX_MATCHED} characters is not supported")
    if "_" in pattern:
        return _matches_by_character(text, pattern)
    first, *rest = pattern.split("%")
    if not rest:
        return text == pattern
    last = rest.pop()
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    position, end = len(first), len(text) - len(last)
    for part in rest:
        position = text.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def _matches_by_character(text: str, pattern: str) -> bool:
    """Greedy, going back to the last `%` only: O(text · pattern), hence for short ones only."""
    if len(text) * len(pattern) > 1_000_000:
        raise UserError("LIKE with _ on so long a text is not supported")
    at = in_pattern = 0
    after_percent, resume = -1, 0
    while at < len(text):
        if in_pattern < len(pattern) and pattern[in_pattern] == "%":
            in_pattern += 1
            after_percent, resume = in_pattern, at
        elif in_pattern < len(pattern) and pattern[in_pattern] in {"_", text[at]}:
            in_pattern, at = in_pattern + 1, at + 1
        elif after_percent >= 0:
            resume += 1
            in_pattern, at = after_percent, resume
        else:
            return False
    return pattern[in_pattern:].strip("%") == ""


SCALARS: Final[dict[str, Callable[..., Value]]] = {
    "cq_divide": _divide,
    "cq_floor_of_quotient": _floor_of_quotient,
    "cq_ceiling_of_quotient": _ceiling_of_quotient,
    "cq_remainder": _remainder,
    "cq_floor": _floor,
    "cq_ceiling": _ceiling,
    "cq_power": _power,
    "cq_square_root": _square_root,
    "cq_integer": _integer,
    "cq_double": _double,
    "cq_boolean": _boolean,
    "cq_concatenate": _concatenate,
    "cq_last_characters": _last_characters,
    "cq_like": _like,
    "cq_timestamp": lambda text: None if text is None else times.parse_timestamp(text),
    "cq_offset": lambda text: None if text is None else times.parse_offset(text),
    "cq_add_interval": times.add_interval,
    "cq_truncate": times.truncate,
    "cq_bin_start": times.bin_start,
    "cq_extract": times.extract,
    "cq_show_time": times.show,
}
