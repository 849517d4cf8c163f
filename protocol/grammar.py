"""The rules of QUEUE, CACHE and SYS (commands.md §2), read token by token in any spelling that CubeStore accepts.

A rule reads what follows the two words that begin a statement: terminals one after the other, each of which is one
field of the statement. The rest of this module are the terminals of one statement only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from protocol.cursor import INT64, UINT32, UINT64, UINT128, Cursor, IntegerType
from protocol.errors import ParserError
from storage.vocabulary import CachestoreAction, QueueAdd, QueueAddAndRetrieve, Statement

EXTERNAL_ID_MAX_BYTES: Final = 48
_ADD_OPTIONS: Final = frozenset((b"EXCLUSIVE", b"PRIORITY", b"ORPHANED", b"EXTERNAL_ID"))
_CACHESTORE_ACTIONS: Final = {action.name.encode(): action for action in CachestoreAction}
_METASTORE_ACTIONS: Final = frozenset((b"COMPACTION", b"HEALTHCHECK", b"TRUNCATE"))

Rule: TypeAlias = Callable[[Cursor], Statement]
Terminal: TypeAlias = Callable[[Cursor], Any]
StatementT = TypeVar("StatementT", bound=Statement)


def rule(make: type[StatementT], **terminals: Terminal) -> Rule:
    """Reads the terminals in this order and makes the statement of them."""

    def read(cursor: Cursor) -> StatementT:
        return make(**{name: terminal(cursor) for name, terminal in terminals.items()})

    return read


def integer(name: str, type_: IntegerType = UINT32) -> Terminal:
    """A number in a range; errors call it `name`."""
    return partial(_integer, name, type_)


def _integer(name: str, type_: IntegerType, cursor: Cursor) -> int:
    return cursor.integer(name, type_)


def flag(word: bytes) -> Terminal:
    """Whether a modifier is there."""
    return lambda cursor: cursor.flag(word)


def behind(word: bytes, terminal: Terminal, default: object = None) -> Terminal:
    """A terminal behind a modifier, or the default where that is missing."""
    return lambda cursor: terminal(cursor) if cursor.flag(word) else default


def external_id(cursor: Cursor) -> bytes:
    """A text of at most 48 bytes."""
    text = cursor.string()
    if len(text) > EXTERNAL_ID_MAX_BYTES:
        raise ParserError(f"external_id exceeds maximum allowed length of {EXTERNAL_ID_MAX_BYTES} characters")
    return text


def _add_options(cursor: Cursor) -> dict[str, Any]:
    """The options of ADD in any order, each at most once."""
    options: dict[str, Any] = {}
    while (name := cursor.option(_ADD_OPTIONS)) is not None:
        if name == b"PRIORITY" and "priority" not in options:
            options["priority"] = cursor.integer("priority", INT64)
        elif name == b"ORPHANED" and "orphaned_s" not in options:
            options["orphaned_s"] = cursor.integer("orphaned", UINT32)
        elif name == b"EXCLUSIVE" and "exclusive" not in options:
            options["exclusive"] = True
        elif name == b"EXTERNAL_ID" and "external_id" not in options:
            options["external_id"] = external_id(cursor)
        else:
            raise ParserError(f"Duplicate option: {name.decode()}")
    return options


def add(cursor: Cursor) -> QueueAdd:
    """ADD."""
    options = _add_options(cursor)
    return QueueAdd(cursor.key(), cursor.value(), **options)


def add_and_retrieve(cursor: Cursor) -> QueueAddAndRetrieve:
    """ADD_AND_RETRIEVE."""
    options = _add_options(cursor)
    return QueueAddAndRetrieve(cursor.key(), cursor.value(), cursor.integer("concurrency", UINT32), **options)


# SYS: what CubeStore's other engines would do is kept as its normal form.


def cachestore_action(cursor: Cursor) -> CachestoreAction:
    """The word behind SYS CACHESTORE."""
    action = _CACHESTORE_ACTIONS.get(cursor.word() or b"")
    if action is None:
        raise ParserError("Unknown cachestore command")
    return action


def metastore(cursor: Cursor) -> str:
    """SYS METASTORE …"""
    action = cursor.word()
    if action == b"SET_CURRENT":
        return f"METASTORE SET_CURRENT {cursor.integer('metastore snapshot id', UINT128)}"
    if action is None or action not in _METASTORE_ACTIONS:
        raise ParserError("Unknown metastore command")
    return f"METASTORE {action.decode()}"


def drop(cursor: Cursor) -> str:
    """SYS DROP [QUERY] CACHE."""
    query = "QUERY " if cursor.flag(b"QUERY") else ""
    if not cursor.flag(b"CACHE"):
        raise ParserError("Unknown drop command")
    return f"DROP {query}CACHE"


def kill(cursor: Cursor) -> str:
    """SYS KILL ALL JOBS."""
    if not (cursor.flag(b"ALL") and cursor.flag(b"JOBS")):
        raise unknown_system_command()
    return "KILL ALL JOBS"


def repartition(cursor: Cursor) -> str:
    """SYS REPARTITION id."""
    return f"REPARTITION {cursor.integer('partition id', UINT64)}"


def panic(cursor: Cursor) -> str:
    """SYS PANIC WORKER."""
    if not cursor.flag(b"WORKER"):
        raise unknown_system_command()
    return "PANIC WORKER"


def unknown_system_command() -> ParserError:
    """The error of a SYS statement that is none."""
    return ParserError("Unknown system command")
