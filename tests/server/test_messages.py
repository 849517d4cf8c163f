"""Messages that are no plain query, from outside: what is answered, what closes, what is ignored (wire.md §2 to §5)."""

from __future__ import annotations

import pytest
from flatbuffers import Builder

from protocol.client_codec import ArrowReply, ErrorReply, Rows, encode_query
from protocol.messages import InlineTable
from tests.protocol.oracle import build_table, finish_message
from tests.server.client import BINARY, connected, frame, raw
from tests.server.harness import WatchedStore, serving, until

GET = encode_query(8, "CACHE GET 'a'")
EMPTY = Rows(8, ("value",), [(None,)])
TABLE = InlineTable(b"t", (b"a", b"b"), (b"int", b"decimal(10, 2)"), b"1,2\n,\n")


def other_command(kind: int) -> bytes:
    """A message whose command is of this kind, and empty."""
    builder = Builder(64)
    return finish_message(builder, 7, kind, build_table(builder))


def unknown_parameter(kind: int) -> bytes:
    """A query with one parameter whose value is of this kind, and empty."""
    builder = Builder(64)
    query = builder.CreateString("CACHE GET ?")
    parameter = build_table(builder, ("Uint8", kind), ("UOffsetTRelative", build_table(builder)))
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(parameter)
    parameters = builder.EndVector()
    return finish_message(
        builder,
        7,
        1,
        build_table(builder, ("UOffsetTRelative", query), None, None, ("UOffsetTRelative", parameters)),
    )


def with_table(table: InlineTable) -> bytes:
    return encode_query(7, "CACHE GET 'a'", inline_tables=[table])


ANSWERED_AND_CLOSED = [
    (other_command(0), "Internal: Unexpected command: NONE"),
    (other_command(3), "Internal: Unexpected command: HttpError"),
    (other_command(4), "Internal: Unexpected command: HttpQueryResult"),
    (other_command(9), "Internal: Unexpected command: 9"),
    (unknown_parameter(0), "Internal: Unsupported parameter type: NONE"),
    (unknown_parameter(99), "Internal: Unsupported parameter type: 99"),
    (
        with_table(InlineTable(TABLE.name, TABLE.columns, (b"int", b"uuid"), TABLE.csv_rows)),
        "Column type 'uuid' is not supported",
    ),
    (
        with_table(InlineTable(TABLE.name, TABLE.columns, (b"int",), TABLE.csv_rows)),
        "Internal: Inline table with 2 columns and 1 types",
    ),
]


@pytest.mark.parametrize(("message", "text"), ANSWERED_AND_CLOSED)
async def test_answered_by_an_error_and_closed(message: bytes, text: str) -> None:
    store = WatchedStore()
    async with (
        serving(store) as server,
        raw(server.address) as client,
        connected(server.address) as bystander,
    ):
        await client.upgrade()
        await client.send(frame(BINARY, message) + frame(BINARY, GET))
        assert await client.read_reply() == ErrorReply(7, text)
        assert (await client.read_close())[0] == 1003
        await bystander.settle()
        assert len(store.executed) == 1, "of the bystander: nothing after the close is executed"


async def test_a_result_set_is_answered_by_an_error_and_stays() -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, other_command(2)) + frame(BINARY, GET))
        assert await client.read_reply() == ErrorReply(7, "Unexpected command: HttpResultSet")
        assert await client.read_reply() == EMPTY


async def test_a_message_cut_anywhere_costs_nobody_the_connection() -> None:
    """The query stands whole, with parameters, a table and a trace: each cut is answered or ignored, never more."""
    whole = encode_query(
        7, "CACHE GET ?", [b"a"], connection_id="driver", trace="{}", inline_tables=[TABLE], response_format=1
    )
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        for end in range(len(whole)):
            await client.send(frame(BINARY, whole[:end]) + frame(BINARY, GET))
            reply = await client.read_reply()
            while reply != EMPTY:
                assert reply.message_id == 7
                assert isinstance(reply, ErrorReply | ArrowReply)
                reply = await client.read_reply()
        assert server.counters.undecodable > len(whole) // 2
        assert server.counters.violations == 0


async def test_inline_tables_beside_a_statement_that_has_no_use_for_them() -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, encode_query(8, "CACHE GET 'a'", inline_tables=[TABLE, TABLE])))
        assert await client.read_reply() == EMPTY


@pytest.mark.parametrize(
    "trace", ["", "{}", '{"instance":"i","requestId":"r-span-1"}', "no JSON {", "ä\0\n", "[" * 9999]
)
async def test_any_trace_will_do(trace: str) -> None:
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, encode_query(8, "CACHE GET 'a'", trace=trace)))
        assert await client.read_reply() == EMPTY


@pytest.mark.parametrize("number", [2, 3, 255])
async def test_an_unknown_response_format_is_an_error_and_stays(number: int) -> None:
    store = WatchedStore()
    async with serving(store) as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(frame(BINARY, encode_query(7, "CACHE INCR 'a'", response_format=number)) + frame(BINARY, GET))
        assert await client.read_reply() == ErrorReply(7, f"Unsupported response_format: {number}")
        assert await client.read_reply() == EMPTY


async def test_without_a_connection_id_nothing_is_joined() -> None:
    """The same message twice while the first waits: both wait, both are answered."""
    message = frame(BINARY, encode_query(7, "QUEUE RESULT_BLOCKING 50 5"))
    async with serving() as server, raw(server.address) as client:
        await client.upgrade()
        await client.send(message + message)
        await until(lambda: server.in_flight == 2)
        nothing = Rows(7, ("payload", "type", "id", "external_id"), [])
        assert [await client.read_reply() for _ in range(2)] == [nothing] * 2
        assert server.counters.repeats_joined == 0


async def test_an_empty_connection_id_is_one() -> None:
    message = frame(BINARY, encode_query(7, "CACHE INCR 'a'", connection_id=""))
    async with serving() as server, raw(server.address) as client, raw(server.address) as other:
        for each in (client, other):
            await each.upgrade()
            await each.send(message)
            assert await each.read_reply() == Rows(7, ("value",), [(b"1",)])
