"""Parsing takes time linear in the text, whatever the text, and the usual statements take microseconds."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import suppress

import pytest

from protocol.commands import parse_statement
from protocol.errors import StatementSyntaxError

SIZE = 1_000_000
VALUE = b"CACHE SET k '"
TAIL = b"CACHE GET k "

WORST: dict[str, tuple[bytes, bytes, bytes]] = {
    "plain": (VALUE, b"abcdefghij", b"'"),
    "escaped quotes": (VALUE, b"\\'", b"'"),
    "escaped double quotes": (VALUE, b'\\"', b"'"),
    "backslashes": (VALUE, b"\\\\", b"'"),
    "doubled quotes": (VALUE, b"''", b"'"),
    "mixed escapes": (VALUE, b"\\n\\0\\Z\\'", b"'"),
    "all escapes": (VALUE, b"\\0\\a\\b\\f\\n\\r\\t\\Z\\%\\\\", b"'"),
    "JSON in SQL": (VALUE, rb"{\"a\":\"b\\u0041\\n\",", b"'"),
    "not closed": (VALUE, b"\\'", b""),
    "doubled double quotes": (b'CACHE SET k "', b'""', b'"'),
    "literals behind": (TAIL, b"'ab' ", b""),
    "escaped literals behind": (TAIL, b"'a\\'b' ", b""),
    "literals of all kinds behind": (TAIL, b"'a' \"b\" `c` ", b""),
    "long literals behind": (TAIL, b"'" + b"\\'" * 210 + b"' ", b""),
    "comments before": (b"", b"/* a */", b"CACHE GET k"),
    "line comments before": (b"", b"--a\n", b"CACHE GET k"),
    "comments of asterisks": (b"", b"/**a**a**/", b"CACHE GET k"),
    "comments behind": (TAIL, b"/* a */", b""),
    "minus signs behind": (TAIL + b"'' \"\" ", b"- ", b""),
    "slashes behind": (TAIL + b"'' \"\" ", b"/", b""),
    "one comment": (b"/*", b"*a", b"*/CACHE GET k"),
    "comment not closed": (b"/*", b"*a", b""),
    "digits": (b"QUEUE GET ", b"1", b""),
    "zeros": (b"QUEUE GET ", b"0", b"1"),
    "a word": (b"CACHE GET ", b"a", b""),
    "an unknown command": (b"CACHE ", b"a", b""),
    "lines before an error": (TAIL[:10], b"\n", b";"),
    "white space": (b"CACHE", b" ", b"GET k"),
}


def cpu_seconds(text: bytes) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        with suppress(StatementSyntaxError):
            parse_statement(text, None)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("name", WORST)
def test_linear(name: str) -> None:
    before, body, behind = WORST[name]

    def text(size: int) -> bytes:
        return before + body * (size // len(body)) + behind

    small, large = cpu_seconds(text(SIZE)), cpu_seconds(text(8 * SIZE))
    print(f"{name}: {large / 8 * 10 * 1000:.1f} ms for 10 MB")
    # 8 if linear, 64 if quadratic; some milliseconds are noise.
    assert large < 24 * small + 0.005
    assert large < 3


@pytest.mark.parametrize("name", WORST)
def test_memory_is_a_small_multiple(name: str) -> None:
    before, body, behind = WORST[name]
    text = before + body * (SIZE // len(body)) + behind
    tracemalloc.start()
    with suppress(StatementSyntaxError):
        parse_statement(text, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * len(text)


KEY = b"SQL_QUERY_STANDALONE_default:0cc175b9c0f1b6a831c399e269772661"
USUAL = {
    "HEARTBEAT id": b"QUEUE HEARTBEAT 1825000000123",
    "HEARTBEAT path": b"QUEUE HEARTBEAT '" + KEY + b"'",
    "RETRIEVE": b"QUEUE RETRIEVE CONCURRENCY 2 '" + KEY + b"'",
    "CACHE GET": b"CACHE GET '" + KEY + b"'",
    "ADD 2 KB": b"QUEUE ADD PRIORITY 10 ORPHANED 600 '" + KEY + b"' '" + b"x" * 2048 + b"'",
    "ADD 5 KB, escaped": b"QUEUE ADD PRIORITY 10 '" + KEY + b"' '" + b'{\\"a\\":\\"bcdefghij\\"},' * 230 + b"'",
}


@pytest.mark.parametrize("name", USUAL)
def test_usual_statements_take_microseconds(name: str) -> None:
    text, rounds = USUAL[name], 2000
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(rounds):
            parse_statement(text, None)
        best = min(best, (time.process_time() - start) / rounds)
    print(f"{name}: {best * 1e6:.2f} µs")
    assert best < 200e-6
