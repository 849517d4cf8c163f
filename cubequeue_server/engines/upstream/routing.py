"""Which statements outside QUEUE, CACHE and SYS CACHESTORE are answered here, and which pass to the CubeStore behind.

| statement                                                          | goes |
| ------------------------------------------------------------------ | ---- |
| `SELECT 1`, refresh keys of one form, texts of a client's start-up | here |
| a SELECT from tables of this server, a DESCRIBE of them            | here |
| SHOW PROCESSLIST, which tells of this server's connections         | here |
| everything else, also what nobody can read                         | up   |
"""

from __future__ import annotations

import re
from typing import Final

from cubequeue_server.engines.sql.fixed import (
    ONE_RESULT,
    answer_known,
    answer_startup,
    described_table,
    first_words,
    is_process_list,
)
from cubequeue_server.engines.sql.tables import OWN_TABLES
from cubequeue_server.engines.upstream import texts
from cubequeue_server.engines.upstream.upstream import Upstream
from cubequeue_server.requests.ask import RELAYED
from protocol.table_names import named_tables, visible
from storage.asking import Caller, Later
from storage.engine import Engine
from storage.errors import StatementError, UserError
from storage.vocabulary import OtherSql, RequestKey, Result, Statement

_SELECTS: Final = frozenset({"SELECT", "WITH", "("})
_OURS: Final = frozenset(tuple(name.encode().split(b".")) for name in OWN_TABLES)
# A longer text passes unread; of a longer visible one the tables are not listed.
_MAX_FIXED_BYTES: Final = 256
MAX_READ_BYTES: Final = 256 * 1024
_MAX_LISTED_BYTES: Final = 32 * 1024
_NAMES_OURS: Final = re.compile(
    rb"(?<![\w$.\x80-\xff])[\"`]?system[\"`]?\s*\.\s*[\"`]?(%b)[\"`]?(?![\w$\x80-\xff])"
    % b"|".join(name for _, name in sorted(_OURS)),
    re.IGNORECASE,
)
_REFRESH_KEY: Final = ("refresh_key",)
_MAY_READ: Final = re.compile(rb"[\s(]*(?:select|with|desc|show|explain|--|/\*)", re.IGNORECASE)


class UpstreamSql:
    """An engine for SQL: `sql` answers what is answered here, and everything else is `RELAYED`."""

    def __init__(self, sql: Engine, upstream: Upstream) -> None:
        self._sql = sql
        self._upstream = upstream
        self.give_up = sql.give_up
        self.end_waits = sql.end_waits
        self.confirm_delivered = sql.confirm_delivered
        self.mark_undelivered = sql.mark_undelivered
        self.tick = sql.tick

    def execute(
        self, statement: Statement, caller: Caller, request_key: RequestKey | None, now_ms: int
    ) -> Result | Later:
        """The result of what is answered here, or RELAYED. Raises UserError for a SELECT from tables of both sides."""
        if not isinstance(statement, OtherSql):
            return RELAYED
        text = statement.text
        if len(text) <= _MAX_FIXED_BYTES:
            fixed = self._fixed(text, now_ms)
            if fixed is not None:
                return fixed
        return self._sql.execute(statement, caller, request_key, now_ms) if is_for_our_tables(text) else RELAYED

    def _fixed(self, text: bytes, now_ms: int) -> Result | Later | None:
        """The answer to a text of a fixed form; None for others."""
        known = answer_known(text, now_ms)
        if known is ONE_RESULT:  # Cube asks it to see whether the server is there
            absence = self._upstream.absence
            if absence is not None:
                raise UserError(absence)
        if known is None or known is ONE_RESULT or known.columns.names == _REFRESH_KEY:
            return known
        return answer_startup(text) or RELAYED  # a refresh key of another name


def is_for_our_tables(text: bytes) -> bool:
    """Whether a statement reads or describes tables of this server. Raises UserError when it reads others as well.

    A text without the word `system` costs a look through it; the tables of others are listed only where the word can
    name a schema.
    """
    if len(text) > MAX_READ_BYTES or _MAY_READ.match(text) is None:
        return False
    if b"system" not in text.lower():
        return is_process_list(text)
    described = described_table(text)
    if described is not None:
        return described in OWN_TABLES
    return _is_select(text) and _reads_ours(visible(text))


def _is_select(text: bytes) -> bool:
    try:
        words = first_words(text)
    except StatementError:
        return False
    return bool(words) and words[0] in _SELECTS


def _reads_ours(shown: bytes) -> bool:
    if _NAMES_OURS.search(shown) is None:
        return False
    if len(shown) > _MAX_LISTED_BYTES:
        return True
    names = named_tables(shown)
    ours = names & _OURS
    theirs = {name for name in names - ours if len(name) > 1}
    if ours and theirs:
        raise UserError(texts.tables_of_both(_shown(min(ours)), _shown(min(theirs))))
    return bool(ours)


def _shown(name: tuple[bytes, ...]) -> str:
    return b".".join(name)[:200].decode(errors="replace")
