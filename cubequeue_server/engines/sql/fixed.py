"""Statements with a fixed answer: SET, SHOW, what MySQL clients ask at start-up, schemas, SYS for other engines,
and the refusals that say what this server is (commands.md §6, §9; clients.md §6)."""

from __future__ import annotations

import re
from typing import Final

from storage.errors import InternalError, UserError
from storage.system_tables import SystemTable
from storage.vocabulary import EMPTY_RESULT, Columns, ColumnType, Result

_STRING: Final = ColumnType.STRING

_PURPOSE: Final = (
    "cubequeue keeps Cube's queue and cache only, it does not store pre-aggregations. Let deployments that build "
    "pre-aggregations use a real CubeStore, or define them with `external: false` to keep them in the data source"
)
_QUOTED_TEXT_CHARACTERS: Final = 200
_OWN_TABLES: Final = tuple(table.value.removeprefix("system.") for table in SystemTable)
_ALIKE: Final = 0.75


def _one(name: str, value: str) -> Result:
    return Result(Columns((name, _STRING)), [(value.encode(),)])


_ONE_NULL: Final = Result(Columns(("database()", _STRING)), [(None,)])


def _variable(name: str, value: str) -> Result:
    return Result(Columns(("Variable_name", _STRING), ("Value", _STRING)), [(name.encode(), value.encode())])


# Whole texts, in lower case.
_STARTUP: Final = {
    "select current_user()": _one("current_user()", "root"),
    # What the shells of MySQL and MariaDB ask for \s, for USE and at their start: no schema is chosen, ever.
    "select database()": _ONE_NULL,
    "select database(), user() limit 1": Result(
        Columns(("database()", _STRING), ("user()", _STRING)), [(None, b"root")]
    ),
    "select user()": _one("user()", "root"),
    "select connection_id()": _one("connection_id()", "1"),
    "select connection_id() as connectionid": _one("connectionid", "1"),
    "set names utf8": EMPTY_RESULT,
    "set character set utf8": EMPTY_RESULT,
    "show character set where charset = 'utf8mb4'": EMPTY_RESULT,
}
# Whole texts, in exactly this case.
_STARTUP_EXACT: Final = {
    "SHOW SESSION VARIABLES LIKE 'lower_case_table_names'": _variable("lower_case_table_names", "2"),
    "SHOW SESSION VARIABLES LIKE 'sql_mode'": _variable("sql_mode", "TRADITIONAL"),
}
_MAX_STARTUP_BYTES: Final = 128

# What CubeStore's store of metadata would list; here there is nothing of each kind.
_SHOWN: Final = {
    "SCHEMAS": Result(Columns(("id", _STRING), ("name", _STRING)), ()),
    "TABLES": Result(Columns(("id", _STRING), ("table_schema", _STRING), ("table_name", _STRING)), ()),
    "CHUNKS": Result(Columns(("id", _STRING), ("partition_id", _STRING)), ()),
    "INDEXES": Result(Columns(("id", _STRING), ("name", _STRING), ("table_id", _STRING)), ()),
    "PARTITIONS": Result(Columns(("id", _STRING), ("index_id", _STRING)), ()),
}

# First words of what belongs to the pre-aggregation engine.
_FOREIGN_FIRST_WORDS: Final = frozenset(
    {"CREATE", "DROP", "INSERT", "ALTER", "TRUNCATE", "DELETE", "UPDATE", "MERGE", "COPY", "DUMP", "EXPLAIN"}
)
_SCHEMA_WORDS: Final = frozenset({"SCHEMA", "DATABASE"})


# How much of blanks and comments there may be before the first words of a statement.
_MAX_BLANK_BYTES: Final = 64 * 1024
_BLANK: Final = rb"(?:\s++|--[^\n]*+(?:\n|$)|/\*[^*]*+\*++(?:[^/*][^*]*+\*++)*+/)*+"
_FIRST_WORDS: Final = re.compile(_BLANK + (rb"(\(|[A-Za-z_$][\w$]{0,63})?" + _BLANK) * 4)


def first_words(text: bytes) -> list[str]:
    """The first four words of a statement in upper case, comments skipped, brackets counted as words.

    The statement may be megabytes long that nobody will parse. Raises InternalError for a comment that does not end.
    """
    match = _FIRST_WORDS.match(text, 0, _MAX_BLANK_BYTES)
    assert match is not None
    if len(text) <= _MAX_BLANK_BYTES and text.startswith(b"/*", match.end()):
        raise InternalError('TokenizerError("Unexpected EOF while in a multi-line comment")')
    return [word.decode().upper() for word in match.groups() if word is not None]


def answer_startup(text: bytes) -> Result | None:
    """The answer to a fixed text of a client's start-up, None for other texts."""
    if len(text) > _MAX_STARTUP_BYTES:
        return None
    whole = text.decode().strip().rstrip(";").rstrip()
    return _STARTUP_EXACT.get(whole) or _STARTUP.get(whole.lower())


def answer_by_words(words: list[str], text: bytes) -> Result:
    """The answer to a statement that is no SELECT, by its first words in upper case. Raises UserError."""
    first, second = (*words, "", "")[:2]
    if first in {"SET", "USE"}:
        return EMPTY_RESULT
    if first == "SHOW":
        return _show(second)
    if second in _SCHEMA_WORDS and first == "CREATE":
        # Nothing is remembered of it: Cube asks `IF NOT EXISTS` and goes on.
        return EMPTY_RESULT
    if first == "DROP" and words[2:4] == ["IF", "EXISTS"]:
        return EMPTY_RESULT
    if first in _FOREIGN_FIRST_WORDS:
        raise UserError(f"{' '.join(words[:2])} is not supported: {_PURPOSE}.")
    raise unsupported(text)


def answer_foreign(text: str) -> Result:
    """The answer to a SYS statement of other engines: done where there is nothing to do. Raises UserError."""
    words = text.split()
    if words[0] in {"DROP", "KILL"} or (words[0] == "METASTORE" and words[1] != "SET_CURRENT"):
        return EMPTY_RESULT
    raise UserError(f"SYS {text} is not supported: there are no snapshots, partitions and workers here. {_PURPOSE}.")


def no_such_table(name: str) -> UserError:
    """The error of a SELECT from a table that is not here; who means one of ours is told how it is called."""
    from difflib import get_close_matches  # noqa: PLC0415  # wanted for mistakes only

    schema, _, table = name.lower().rpartition(".")
    meant = get_close_matches(table, _OWN_TABLES, 1, _ALIKE) if schema in {"", "system"} else []
    hint = f"did you mean system.{meant[0]}?" if meant else f"{_PURPOSE}."
    return UserError(f"Table {name} was not found: {hint}")


def unsupported(text: bytes) -> UserError:
    """The error of a statement that is none of the known ones; at most 200 characters of it are quoted."""
    shown = text[: 4 * _QUOTED_TEXT_CHARACTERS].decode(errors="ignore").strip()
    if len(shown) > _QUOTED_TEXT_CHARACTERS:
        shown = shown[:_QUOTED_TEXT_CHARACTERS] + "…"
    return UserError(f"Unsupported SQL: '{shown}'")


def _show(what: str) -> Result:
    shown = _SHOWN.get(what)
    if shown is None:
        raise UserError(f"Unknown SHOW: {what.lower()}")
    return shown
