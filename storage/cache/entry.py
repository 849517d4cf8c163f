"""One row of the cache: its size, and the arithmetic of CACHE INCR on its value (commands.md §5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from storage.errors import InternalError, UserError
from storage.stats import PrefixTotals
from storage.vocabulary import Binary, Path, Value

# The deadline of an entry that never expires: later than any wall clock, and still a signed 64-bit number.
NEVER = (1 << 63) - 1

# What a row counts besides its texts, as in CubeStore after a rescan.
ROW_OVERHEAD_BYTES = 160

_I64_MAX = (1 << 63) - 1

# More digits than any 64-bit number has, without leading zeros.
_MAX_DIGITS = 19

EMPTY = "cannot parse integer from empty string"
INVALID = "invalid digit found in string"
TOO_LARGE = "number too large to fit in target type"
TOO_SMALL = "number too small to fit in target type"


@dataclass(slots=True, eq=False)
class Entry:
    """A cached value. It is live while `expires_ms`, on the wall clock, is later than now; NEVER without a TTL.

    `used_ms` (time of the last GET, INCR or SET), `uses` (the counter of LFU) and `slot` (the place in the list that
    is sampled) are kept by the eviction policies that need them. `is_kept` entries are evicted last. `totals` counts
    the uses of all entries of the prefix.

    Entries refer to bytes and numbers only, never to each other or to an index: removing one frees it at once.
    """

    path: Path
    value: Value
    expires_ms: int
    used_ms: int = 0
    uses: int = 0
    slot: int = 0
    is_kept: bool = False
    totals: PrefixTotals = field(init=False, repr=False)  # set by the index of prefixes


def row_bytes(path: Path, value: Value) -> int:
    """What a row counts against the limits, in bytes."""
    return len(path) + len(value) + ROW_OVERHEAD_BYTES


def is_binary_text(path: Path) -> str:
    """Why a binary value is not incremented."""
    return f'Unable to increment cache item "{path.decode(errors="replace")}": value is binary'


def incremented(path: Path, value: Value) -> bytes:
    """The text of `value` plus one. O(length): a long run of digits is never converted.

    Raises `UserError` for a binary value, and `InternalError` with CubeStore's text unless the value is `[+-]?[0-9]+`
    and both numbers are 64-bit.
    """
    if isinstance(value, Binary):
        raise UserError(is_binary_text(path))
    if not value:
        raise InternalError(EMPTY)
    negative = value.startswith(b"-")
    digits = value[1:] if negative or value.startswith(b"+") else value
    if not digits.isdigit():
        raise InternalError(INVALID)
    digits = digits.lstrip(b"0") or b"0"
    number = int(digits) if len(digits) <= _MAX_DIGITS else _I64_MAX + 2
    number = -number if negative else number
    if number >= _I64_MAX:
        raise InternalError(TOO_LARGE)
    if number < -_I64_MAX - 1:
        raise InternalError(TOO_SMALL)
    return b"%d" % (number + 1)
