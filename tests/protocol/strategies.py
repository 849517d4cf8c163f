"""Requests and results of every shape, for the property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from protocol.messages import InlineTable, Request
from storage.vocabulary import Binary, Cell, Columns, ColumnType, Result

message_ids = st.integers(0, 2**32 - 1)
texts = st.text(max_size=40).map(lambda text: text.encode(errors="replace"))
binaries = st.binary(max_size=40).map(Binary)
int64s = st.integers(-(2**63), 2**63 - 1)
parameters: st.SearchStrategy[Cell] = st.one_of(
    st.none(), st.booleans(), int64s, st.floats(allow_nan=False), texts, binaries
)
column_types = st.sampled_from([b"text", b"int", b"bigint", b"timestamp", b"decimal(5)", b"hyperloglogpp"])


@st.composite
def inline_tables(draw: st.DrawFn) -> InlineTable:
    columns = draw(st.lists(st.tuples(texts, column_types), max_size=3))
    names, types = tuple(name for name, _ in columns), tuple(type_ for _, type_ in columns)
    return InlineTable(draw(texts), names, types, draw(texts))


requests = st.builds(
    Request,
    message_id=message_ids,
    connection_id=st.none() | texts,
    query=texts,
    parameters=st.none() | st.lists(parameters, max_size=6).map(tuple),
    response_format=st.integers(0, 3),
    trace=st.none() | texts,
    inline_tables=st.lists(inline_tables(), max_size=2).map(tuple),
)

_CELLS: dict[ColumnType, st.SearchStrategy[Cell]] = {
    ColumnType.STRING: texts | binaries,
    ColumnType.BOOLEAN: st.booleans(),
    ColumnType.INT: int64s,
    ColumnType.BYTES: texts | binaries,
    ColumnType.FLOAT: st.floats(allow_nan=False),
    ColumnType.TIMESTAMP: st.integers(-62_135_596_800_000, 253_402_300_799_999),
}


@st.composite
def results(draw: st.DrawFn) -> Result:
    columns = Columns(*draw(st.lists(st.tuples(st.text("abc_", max_size=8), st.sampled_from(ColumnType)), max_size=5)))
    if not columns:
        return Result(columns, ())
    row = st.tuples(*(st.none() | _CELLS[type_] for type_ in columns.types))
    return Result(columns, draw(st.lists(row, max_size=6)))
