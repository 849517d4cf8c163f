"""Date arithmetic on whole milliseconds since the epoch, UTC, as SQL functions use it.

Every function raises UserError for a value it cannot work with, years outside 1 to 9999 included.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from storage.errors import UserError

SECOND_MS: Final = 1_000
DAY_MS: Final = 86_400 * SECOND_MS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_TIMESTAMP: Final = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_OFFSET: Final = re.compile(r"([+-])(\d{2}):?(\d{2})", re.ASCII)
_INTERVAL_PART: Final = re.compile(r"\s*([+-]?\d{1,9})\s*([a-z]+)\s*", re.ASCII | re.IGNORECASE)

_UNIT_MS: Final = {
    "millisecond": 1,
    "second": SECOND_MS,
    "minute": 60 * SECOND_MS,
    "hour": 3_600 * SECOND_MS,
    "day": DAY_MS,
    "week": 7 * DAY_MS,
}
_UNIT_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}


def parse_timestamp(text: str) -> int:
    """`2020-01-31`, `2020-01-31T10:20:30.123Z`, with a blank for the T, with or without a zone (UTC then)."""
    match = _TIMESTAMP.fullmatch(text.strip())
    if match is None:
        raise UserError(f"Error parsing '{text[:60]}' as timestamp")
    year, month, day, hour, minute, second, fraction, zone = match.groups(default="0")
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError as error:
        raise UserError(f"Error parsing '{text[:60]}' as timestamp: {error}") from error
    return to_ms(moment) + int(fraction.ljust(3, "0")[:3]) - (0 if zone in {"0", "Z", "UTC"} else parse_offset(zone))


def parse_offset(text: str) -> int:
    """Milliseconds east of UTC of `+02:00`, `-0330`, `Z` and `UTC`."""
    if text.upper() in {"Z", "UTC"}:
        return 0
    match = _OFFSET.fullmatch(text)
    if match is None:
        raise UserError(f"'{text[:60]}' is not a time zone offset such as +02:00")
    minutes = int(match[2]) * 60 + int(match[3])
    return (-minutes if match[1] == "-" else minutes) * 60 * SECOND_MS


def parse_interval(text: str) -> tuple[int, int]:
    """(months, milliseconds) of `7 DAY`, `1 DAY 2 HOURS`, `-3 months` and so on."""
    months = milliseconds = position = 0
    while position < len(text):
        match = _INTERVAL_PART.match(text, position)
        if match is None:
            raise UserError(f"'{text[:60]}' is not an interval such as 7 DAY")
        number, unit = int(match[1]), unit_name(match[2])
        if unit in _UNIT_MONTHS:
            months += number * _UNIT_MONTHS[unit]
        elif unit in _UNIT_MS:
            milliseconds += number * _UNIT_MS[unit]
        else:
            raise UserError(f"'{match[2][:60]}' is not a unit of time")
        position = match.end()
    return months, milliseconds


def unit_name(word: str) -> str:
    """A unit of time in lower case and in the singular."""
    unit = word.strip().lower()
    return unit[:-1] if unit.endswith("s") else unit


def add_interval(timestamp: int | None, months: int, milliseconds: int) -> int | None:
    """The time later by months first, the day cut to the month's last, and then by milliseconds."""
    if timestamp is None:
        return None
    moment = _moment(timestamp)
    if months:
        month_number = moment.year * 12 + moment.month - 1 + months
        year, month = month_number // 12, month_number % 12 + 1
        _check_year(year)
        moment = moment.replace(year=year, month=month, day=min(moment.day, _days_in_month(year, month)))
    return to_ms(_moment(to_ms(moment) + milliseconds))


def truncate(unit: str, timestamp: int | None) -> int | None:
    """The start of the second … year, a week starting on Monday, that a time is in."""
    if timestamp is None:
        return None
    unit = unit_name(unit)
    if unit == "week":
        # The epoch was a Thursday: three days after a Monday.
        return (timestamp + 3 * DAY_MS) // _UNIT_MS["week"] * _UNIT_MS["week"] - 3 * DAY_MS
    if unit in _UNIT_MS:
        return timestamp // _UNIT_MS[unit] * _UNIT_MS[unit]
    if unit not in _UNIT_MONTHS:
        raise UserError(f"'{unit[:60]}' is not a unit of time that can be truncated to")
    moment = _moment(timestamp)
    month = (moment.month - 1) // _UNIT_MONTHS[unit] * _UNIT_MONTHS[unit] + 1
    return to_ms(datetime(moment.year, month, 1, tzinfo=UTC))


def bin_start(months: int, milliseconds: int, timestamp: int | None, origin: int | None) -> int | None:
    """The start of the interval, counted from `origin`, that a time is in."""
    if timestamp is None or origin is None:
        return None
    if (months == 0) == (milliseconds == 0) or months < 0 or milliseconds < 0:
        raise UserError("DATE_BIN needs a positive interval of months, or of shorter units, not of both")
    if milliseconds:
        return origin + (timestamp - origin) // milliseconds * milliseconds
    moment, start = _moment(timestamp), _moment(origin)
    distance = (moment.year - start.year) * 12 + moment.month - start.month
    begun = add_interval(origin, distance // months * months, 0)
    assert begun is not None
    return begun if begun <= timestamp else add_interval(origin, (distance // months - 1) * months, 0)


def extract(unit: str, timestamp: int | None) -> int | None:
    """A part of a time: year, quarter, month, week (ISO), day, dow (Sunday 0), doy, hour … or epoch in seconds."""
    if timestamp is None:
        return None
    moment = _moment(timestamp)
    parts = {
        "year": moment.year,
        "quarter": (moment.month + 2) // 3,
        "month": moment.month,
        "week": moment.isocalendar().week,
        "day": moment.day,
        "dow": moment.isoweekday() % 7,
        "doy": moment.timetuple().tm_yday,
        "hour": moment.hour,
        "minute": moment.minute,
        "second": moment.second,
        "millisecond": timestamp % SECOND_MS,
        "epoch": timestamp // SECOND_MS,
    }
    part = parts.get(unit_name(unit))
    if part is None:
        raise UserError(f"'{unit[:60]}' is not a part of a time")
    return part


def show(timestamp: int | None) -> str | None:
    """`2020-01-01T00:00:00.000Z`."""
    if timestamp is None:
        return None
    return _moment(timestamp).strftime("%Y-%m-%dT%H:%M:%S") + f".{timestamp % SECOND_MS:03d}Z"


def to_ms(moment: datetime) -> int:
    """Whole milliseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _moment(timestamp: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=timestamp)
    except OverflowError as error:
        raise UserError("a time is outside the years 1 to 9999") from error


def _check_year(year: int) -> None:
    if not 1 <= year <= 9999:
        raise UserError("a time is outside the years 1 to 9999")


def _days_in_month(year: int, month: int) -> int:
    first_of_next = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC) if (year, month) != (9999, 12) else None
    return 31 if first_of_next is None else (first_of_next - timedelta(days=1)).day
