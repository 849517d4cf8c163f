"""Hypothesis strategies for statements and for the many ways to write one."""

from __future__ import annotations

from hypothesis import strategies as st

from storage.vocabulary import (
    Binary,
    CacheClear,
    CacheGet,
    CacheIncr,
    CacheKeys,
    CacheRemove,
    CacheSet,
    CachestoreAction,
    Cell,
    QueueAck,
    QueueActive,
    QueueAdd,
    QueueAddAndRetrieve,
    QueueCancel,
    QueueClear,
    QueueGet,
    QueueHeartbeat,
    QueueList,
    QueueMergeExtra,
    QueueOrphaned,
    QueuePending,
    QueueResult,
    QueueResultBlocking,
    QueueRetrieve,
    QueueStalled,
    QueueToCancel,
    Statement,
    SysCachestore,
)
from tests.protocol.sql_writer import QUOTING, Keyword, Number, pieces, sqlstring, write_value

HOSTILE = st.text(alphabet="'\"`\\\0\b\t\n\r\x1a\x0b\x0c-/*?;0nZabvx%_ é\u2028\uffff😀", max_size=30)
TEXTS = (HOSTILE | st.text(max_size=60)).map(str.encode)
LONG_TEXTS = st.builds(lambda text, times: text * times, HOSTILE.map(str.encode), st.integers(1, 400))
VALUES = TEXTS | LONG_TEXTS | st.binary(max_size=40).map(Binary)
EXTERNAL_IDS = st.none() | HOSTILE.map(lambda text: text.encode()[:48].decode(errors="ignore").encode())
UINT32 = st.integers(0, (1 << 32) - 1)
UINT64 = st.integers(0, (1 << 64) - 1)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
KEYREFS = TEXTS | UINT64

_ADD_OPTIONS = {
    "priority": INT64,
    "orphaned_s": st.none() | UINT32,
    "exclusive": st.booleans(),
    "external_id": EXTERNAL_IDS,
}

STATEMENTS: st.SearchStrategy[Statement] = st.one_of(
    st.builds(QueueAdd, path=TEXTS, payload=VALUES, **_ADD_OPTIONS),
    st.builds(QueueAddAndRetrieve, path=TEXTS, payload=VALUES, concurrency=UINT32, **_ADD_OPTIONS),
    st.builds(QueueGet, KEYREFS),
    st.builds(QueueList, TEXTS, st.booleans()),
    st.builds(QueuePending, TEXTS, st.booleans()),
    st.builds(QueueActive, TEXTS, st.booleans()),
    st.builds(QueueCancel, KEYREFS),
    st.builds(QueueHeartbeat, KEYREFS),
    st.builds(QueueAck, KEYREFS, st.none() | VALUES),
    st.builds(QueueMergeExtra, KEYREFS, TEXTS),
    st.builds(QueueStalled, TEXTS, UINT32),
    st.builds(QueueOrphaned, TEXTS, UINT32),
    st.builds(QueueToCancel, TEXTS, UINT32, UINT32),
    st.builds(QueueRetrieve, TEXTS, UINT32, st.booleans()),
    st.builds(QueueResult, KEYREFS, EXTERNAL_IDS),
    st.builds(QueueResultBlocking, KEYREFS, UINT64),
    st.builds(QueueClear),
    st.builds(CacheSet, TEXTS, VALUES, st.none() | UINT32, st.booleans()),
    st.builds(CacheGet, TEXTS),
    st.builds(CacheKeys, TEXTS),
    st.builds(CacheIncr, TEXTS),
    st.builds(CacheRemove, TEXTS),
    st.builds(CacheClear),
    st.builds(SysCachestore, st.sampled_from(CachestoreAction)),
)

GAPS = st.sampled_from((b" ", b"  ", b"\n", b"\t \r\n", b" /* it's \" ` -- */ ", b"--x'\n", b"/**/", b"\x0b\x0c"))


@st.composite
def written(draw: st.DrawFn, statement: Statement) -> tuple[bytes, tuple[Cell, ...] | None]:
    """The statement in some style of quoting, case and gaps, with some of its values as native parameters."""
    is_plain = draw(st.booleans())
    words: list[bytes] = []
    parameters: list[Cell] = []
    for piece in pieces(statement):
        if isinstance(piece, Keyword):
            words.append(piece.word if is_plain else draw(st.sampled_from((piece.word, piece.word.lower()))))
        elif (not isinstance(piece.value, int) or piece.value < 1 << 63) and draw(st.integers(0, 4)) == 0:
            words.append(draw(st.sampled_from((b"?", b"?1"))))
            parameters.append(piece.value)
        elif isinstance(piece, Number):
            words.append(b"%d" % piece.value)
        else:
            quoting = sqlstring if is_plain else draw(st.sampled_from(QUOTING))
            words.append(write_value(piece.value, quoting))
    gaps = [b" " if is_plain else draw(GAPS) for _ in words[1:]]
    text = words[0] + b"".join(gap + word for gap, word in zip(gaps, words[1:], strict=True))
    surplus = draw(st.lists(st.just(None), max_size=2))
    return text, (*parameters, *surplus) if parameters or surplus else draw(st.sampled_from((None, ())))


WRITTEN = STATEMENTS.flatmap(lambda statement: st.tuples(st.just(statement), written(statement)))


def values(statement: Statement) -> list[Cell]:
    """The fields of a statement, in their order."""
    return [getattr(statement, name) for name in type(statement).__struct_fields__]
