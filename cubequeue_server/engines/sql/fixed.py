"""Statements that are answered at once, without a parser (commands.md §6, §9; clients.md §6).

`SELECT 1`, refresh keys and the questions of clients at their start; SET, SHOW, DESCRIBE and schemas; SYS for other
engines; and the refusals, which say what this server is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from cubequeue_server.engines.sql.tables import OWN_TABLES, TABLES
from storage.errors import InternalError, UserError
from storage.vocabulary import EMPTY_RESULT, Columns, ColumnType, OtherSql, Result

_PURPOSE: Final = (
    "cubequeue keeps Cube's queue and cache only, it does not store pre-aggregations. Let deployments that build "
    "pre-aggregations use a real CubeStore, or define them with `external: false` to keep them in the data source"
)
_QUOTED_TEXT_CHARACTERS: Final = 200
_OWN_TABLES: Final = tuple(name.removeprefix("system.") for name in OWN_TABLES)
_ALIKE: Final = 0.75


def _texts(*names: str) -> Columns:
    return Columns(*((name, ColumnType.STRING) for name in names))


def _row(cells: Mapping[str, str | None]) -> Result:
    return Result(_texts(*cells), [tuple(None if text is None else text.encode() for text in cells.values())])


# Whole texts, in lower case. The shells of MySQL and MariaDB ask for database() at \s, at USE and at their start: no
# schema is ever chosen.
_STARTUP: Final = {
    "select current_user()": _row({"current_user()": "root"}),
    "select database()": _row({"database()": None}),
    "select database(), user() limit 1": _row({"database()": None, "user()": "root"}),
    "select user()": _row({"user()": "root"}),
    "select connection_id()": _row({"connection_id()": "1"}),
    "select connection_id() as connectionid": _row({"connectionid": "1"}),
    "set names utf8": EMPTY_RESULT,
    "set character set utf8": EMPTY_RESULT,
    "show character set where charset = 'utf8mb4'": EMPTY_RESULT,
}
# Whole texts, in exactly this case.
_STARTUP_EXACT: Final = {
    f"SHOW SESSION VARIABLES LIKE '{name}'": _row({"Variable_name": name, "Value": value})
    for name, value in {"lower_case_table_names": "2", "sql_mode": "TRADITIONAL"}.items()
}
# CubeStore's store of metadata would list these; here there is nothing of each kind.
_SHOWN: Final = {
    "SCHEMAS": Result(_texts("id", "name"), ()),
    "TABLES": Result(_texts("id", "table_schema", "table_name"), ()),
    "CHUNKS": Result(_texts("id", "partition_id"), ()),
    "INDEXES": Result(_texts("id", "name", "table_id"), ()),
    "PARTITIONS": Result(_texts("id", "index_id"), ()),
}
# First words of statements for the pre-aggregation engine.
_FOREIGN_FIRST_WORDS: Final = frozenset(
    {"CREATE", "DROP", "INSERT", "ALTER", "TRUNCATE", "DELETE", "UPDATE", "MERGE", "COPY", "DUMP", "EXPLAIN"}
)
_SCHEMA_WORDS: Final = frozenset({"SCHEMA", "DATABASE"})

_ONE: Final = re.compile(rb"\s*select\s+1\s*;?\s*", re.IGNORECASE)
ONE_RESULT: Final = Result(Columns(("Int64(1)", ColumnType.INT)), [(1,)])
# FLOOR((±offset + UNIX_TIMESTAMP() ± shift) / interval) AS name; at most 15 digits a number, so sums stay exact.
_REFRESH_KEY: Final = re.compile(
    rb"\s*select\s+floor\s*\(\s*\(\s*(?:(-?)\s*(\d{1,15})\s*\+\s*)?unix_timestamp\s*\(\s*\)"
    rb"\s*(?:([+-])\s*(\d{1,15})\s*)?\)\s*/\s*(\d{1,15})\s*\)\s+as\s+([a-z_][a-z0-9_]{0,63})\s*;?\s*",
    re.IGNORECASE,
)
_DESCRIBE: Final = re.compile(
    rb"\s*(?:DESCRIBE|DESC|EXPLAIN|SHOW\s+(?:FULL\s+)?(?:COLUMNS|FIELDS)\s+(?:FROM|IN))"
    rb"\s+`?(\w+)`?\s*\.\s*`?(\w+)`?\s*;?\s*",
    re.IGNORECASE,
)
_PROCESS_LIST: Final = re.compile(rb"\s*SHOW\s+(?:FULL\s+)?PROCESSLIST\s*;?\s*", re.IGNORECASE)
# SHOW PROCESSLIST, in MySQL's columns.
PROCESS_LIST: Final = OtherSql(
    b"SELECT id AS Id, user AS User, peer AS Host, protocol AS db,"
    b" CASE WHEN in_flight > 0 THEN 'Query' ELSE 'Sleep' END AS Command,"
    b" (unix_timestamp() - unix_timestamp(since)) AS Time,"
    b" CASE WHEN waiting > 0 THEN 'waits for a result' ELSE '' END AS State,"
    b" coalesce(name, process_id, agent) AS Info FROM system.connections ORDER BY id"
)
_DESCRIPTION: Final = _texts("Field", "Type", "Null", "Key", "Default", "Extra")
_MYSQL_TYPES: Final = {
    ColumnType.STRING: b"text",
    ColumnType.INT: b"bigint",
    ColumnType.FLOAT: b"double",
    ColumnType.BOOLEAN: b"boolean",
    ColumnType.TIMESTAMP: b"timestamp",
}
_MAX_BYTES: Final = 256  # of a text with one of these forms
_key_columns: Final[dict[bytes, Columns]] = {}
_MAX_KEY_NAMES: Final = 64

# How much of blanks and comments there may be before the first words of a statement.
_MAX_BLANK_BYTES: Final = 64 * 1024
_BLANK: Final = rb"(?:\s++|--[^\n]*+(?:\n|$)|/\*[^*]*+\*++(?:[^/*][^*]*+\*++)*+/)*+"
_FIRST_WORDS: Final = re.compile(_BLANK + (rb"(\(|[A-Za-z_$][\w$]{0,63})?" + _BLANK) * 4)


def answer_known(text: bytes, now_ms: int) -> Result | None:
    """The answer to `SELECT 1`, to a refresh key or to a text of a client's start; None for any other text."""
    if len(text) > _MAX_BYTES:
        return None
    if _ONE.fullmatch(text):
        return ONE_RESULT
    match = _REFRESH_KEY.fullmatch(text)
    if match is not None:
        return _refresh_key(match, now_ms // 1000)
    return answer_startup(text)


def answer_startup(text: bytes) -> Result | None:
    """The answer to a text of a client's start; None for any other text."""
    whole = text.decode().strip().rstrip(";").rstrip()
    return _STARTUP_EXACT.get(whole) or _STARTUP.get(whole.lower())


def is_process_list(text: bytes) -> bool:
    """Whether a text is SHOW PROCESSLIST."""
    return len(text) <= _MAX_BYTES and _PROCESS_LIST.fullmatch(text) is not None


def _refresh_key(match: re.Match[bytes], seconds: int) -> Result | None:
    sign, offset, shift_sign, shift, interval, name = match.groups(default=b"0")
    seconds += -int(offset) if sign == b"-" else int(offset)
    seconds += -int(shift) if shift_sign == b"-" else int(shift)
    if int(interval) == 0:
        return None
    columns = _key_columns.get(name)
    if columns is None:
        columns = Columns((name.decode(), ColumnType.INT))
        if len(_key_columns) < _MAX_KEY_NAMES:  # one object a name, for encoders that cache by identity
            _key_columns[name] = columns
    return Result(columns, [(seconds // int(interval),)])


def first_words(text: bytes) -> list[str]:
    """The first four words of a statement in upper case, comments skipped, brackets counted as words.

    O(1): the rest of a statement may be megabytes long. Raises InternalError for a comment that does not end.
    """
    match = _FIRST_WORDS.match(text, 0, _MAX_BLANK_BYTES)
    assert match is not None
    if len(text) <= _MAX_BLANK_BYTES and text.startswith(b"/*", match.end()):
        raise InternalError('TokenizerError("Unexpected EOF while in a multi-line comment")')
    return [word.decode().upper() for word in match.groups() if word is not None]


def answer_by_words(words: list[str], text: bytes) -> Result:
    """The answer to a statement other than SELECT, by its first words in upper case. Raises UserError."""
    first, second = (*words, "", "")[:2]
    description = _describe(text)
    if description is not None:
        return description
    if first in {"SET", "USE"}:
        return EMPTY_RESULT
    if first == "SHOW":
        if second not in _SHOWN:
            raise UserError(f"Unknown SHOW: {second.lower()}")
        return _SHOWN[second]
    if second in _SCHEMA_WORDS and first == "CREATE":
        # Nothing is remembered of it: Cube asks `IF NOT EXISTS` and goes on.
        return EMPTY_RESULT
    if first == "DROP" and words[2:4] == ["IF", "EXISTS"]:
        return EMPTY_RESULT
    if first in _FOREIGN_FIRST_WORDS:
        raise UserError(f"{' '.join(words[:2])} is not supported: {_PURPOSE}.")
    shown = text[: 4 * _QUOTED_TEXT_CHARACTERS].decode(errors="ignore").strip()
    if len(shown) > _QUOTED_TEXT_CHARACTERS:
        shown = shown[:_QUOTED_TEXT_CHARACTERS] + "…"
    raise UserError(f"Unsupported SQL: '{shown}'")


def described_table(text: bytes) -> str | None:
    """The table that a DESCRIBE or SHOW COLUMNS is about, in lower case; None for other texts."""
    match = _DESCRIBE.fullmatch(text) if len(text) <= _MAX_BYTES else None
    return None if match is None else b".".join(match.groups()).decode(errors="replace").lower()


def _describe(text: bytes) -> Result | None:
    """The answer to DESCRIBE and SHOW COLUMNS of a table, in MySQL's columns; None for other texts and tables."""
    columns = TABLES.get(described_table(text) or "")
    if columns is None:
        return None
    rows = [(name.encode(), _MYSQL_TYPES[type_], b"YES", b"", None, b"") for name, type_ in columns.items()]
    return Result(_DESCRIPTION, rows)


def answer_foreign(text: str) -> Result:
    """The answer to a SYS statement of other engines: empty if there is nothing to do. Raises UserError."""
    words = text.split()
    if words[0] in {"DROP", "KILL"} or (words[0] == "METASTORE" and words[1] != "SET_CURRENT"):
        return EMPTY_RESULT
    raise UserError(f"SYS {text} is not supported: there are no snapshots, partitions and workers here. {_PURPOSE}.")


def no_such_table(name: str) -> UserError:
    """The error of a SELECT from an absent table; it suggests the table of ours with a similar name."""
    from difflib import get_close_matches  # noqa: PLC0415  # wanted for mistakes only

    schema, _, table = name.lower().rpartition(".")
    meant = get_close_matches(table, _OWN_TABLES, 1, _ALIKE) if schema in {"", "system"} else []
    hint = f"did you mean system.{meant[0]}?" if meant else f"{_PURPOSE}."
    return UserError(f"Table {name} was not found: {hint}")
