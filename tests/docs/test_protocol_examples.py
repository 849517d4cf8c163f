"""Every example, every byte and every picture of docs/protocol.md is what the code does."""

from __future__ import annotations

import pytest

from protocol.commands import COMMANDS
from protocol.messages import ResponseFormat
from tests.docs.blocks import PROTOCOL, Block, blocks
from tests.docs.dump import read_dump
from tests.docs.pictures import state_diagram
from tests.docs.transcript import Conversation
from tests.storage.cache_transitions import CACHE_TRANSITIONS
from tests.storage.transitions import ITEM_TRANSITIONS, RESULT_TRANSITIONS, WAITER_TRANSITIONS

EXAMPLES = blocks(PROTOCOL, "cubequeue")
DUMPS = blocks(PROTOCOL, "cubequeue-bytes")
CONNECTION_ID = "c1"


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_server_answers_as_written(example: Block) -> None:
    assert Conversation().play(example.lines) == example.lines


@pytest.mark.parametrize("block", DUMPS, ids=str)
def test_the_bytes_are_those_of_the_wire(block: Block) -> None:
    dump = read_dump(block.lines)
    conversation = Conversation()
    for statement in dump.before:
        conversation.ask(statement)
    exchange = conversation.ask(dump.statement, dump.parameters, dump.message_id, CONNECTION_ID, dump.response_format)
    assert exchange.answer == dump.answer
    assert dump.request in (exchange.request, b"")  # left out where another dump has shown the like
    assert dump.reply == exchange.reply


def test_there_are_bytes_of_requests_and_of_each_kind_of_reply() -> None:
    dumps = [read_dump(block.lines) for block in DUMPS]
    assert any(dump.request and dump.parameters is None for dump in dumps)
    assert any(dump.request and dump.parameters for dump in dumps)
    assert {dump.answer[0].split("=")[0].split()[1] for dump in dumps} >= {"id", "no", "error"}
    assert any(dump.response_format is ResponseFormat.ARROW for dump in dumps)


@pytest.mark.parametrize(
    "picture",
    [state_diagram(table) for table in (ITEM_TRANSITIONS, RESULT_TRANSITIONS, WAITER_TRANSITIONS, CACHE_TRANSITIONS)],
    ids=("item", "result", "waiter", "cache-entry"),
)
def test_the_pictures_are_those_of_the_tables(picture: str) -> None:
    assert PROTOCOL.count(picture) == 1, picture


def test_there_is_no_other_picture_of_states() -> None:
    assert len(blocks(PROTOCOL, "mermaid")) == 4


@pytest.mark.parametrize("command", [command.head.decode() for command in COMMANDS])
def test_every_command_has_an_example(command: str) -> None:
    words = command.split()
    assert any(line[2:].split()[:2] == words for example in EXAMPLES for line in example.lines if line[:1] == ">")
