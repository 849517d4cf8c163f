"""The arithmetic of CACHE INCR on the text of a value (commands.md §5)."""

from __future__ import annotations

from storage.errors import InternalError, UserError
from storage.vocabulary import Binary, Path, Value

I64_MAX = (1 << 63) - 1
I64_MIN = -(1 << 63)

# More digits than any 64-bit number has, leading zeros aside.
_MAX_DIGITS = 19

_EMPTY = "cannot parse integer from empty string"
_INVALID = "invalid digit found in string"
_TOO_LARGE = "number too large to fit in target type"
_TOO_SMALL = "number too small to fit in target type"


def incremented(path: Path, value: Value) -> bytes:
    """The text of `value` plus one. Raises `UserError` for a binary value, `InternalError` for text that is no i64
    or whose successor is none. O(length): a long run of digits is never converted."""
    if isinstance(value, Binary):
        raise UserError(f'Unable to increment cache item "{path.decode(errors="replace")}": value is binary')
    number = parse_i64(value)
    if number == I64_MAX:
        raise InternalError(_TOO_LARGE)
    return b"%d" % (number + 1)


def parse_i64(text: bytes) -> int:
    """The number that `[+-]?[0-9]+` means. Raises `InternalError` with upstream's text for anything else."""
    if not text:
        raise InternalError(_EMPTY)
    negative = text.startswith(b"-")
    digits = text[1:] if negative or text.startswith(b"+") else text
    if not digits.isdigit():
        raise InternalError(_INVALID)
    digits = digits.lstrip(b"0") or b"0"
    number = int(digits) if len(digits) <= _MAX_DIGITS else I64_MAX + 2
    number = -number if negative else number
    if number > I64_MAX:
        raise InternalError(_TOO_LARGE)
    if number < I64_MIN:
        raise InternalError(_TOO_SMALL)
    return number
