"""The stand-in for the native decoder is as strict as the real one, so that what it accepts is worth something."""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from protocol.arrow import encode_arrow
from protocol.encode import encode_error, encode_result
from storage.vocabulary import Columns, ColumnType, Result
from tests.clients.processes import JS, package_folder

pytestmark = pytest.mark.node

RESULT = Result(
    Columns(
        ("id", ColumnType.STRING),
        ("added", ColumnType.BOOLEAN),
        ("pending", ColumnType.INT),
        ("extra", ColumnType.STRING),
        ("at", ColumnType.TIMESTAMP),
    ),
    [(b"7", True, 5, "ä😀\0".encode(), 0), (b"", False, -(2**62), None, 1_700_000_000_123)],
)
ROWS: list[dict[str, Any]] = [
    {"id": "7", "added": "true", "pending": "5", "extra": "ä😀\0"},
    {"id": "", "added": "false", "pending": str(-(2**62)), "extra": None},
]
LEGACY_TIMES = ["1970-01-01T00:00:00.000Z", "2023-11-14T22:13:20.123Z"]
ARROW_TIMES = ["1970-01-01T00:00:00.000", "2023-11-14T22:13:20.123"]


@pytest.fixture(scope="module")
def packages() -> Path:
    return package_folder("clients", "1.7.43")


def decode(packages: Path, messages: list[bytes]) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["node", "decode-all.js"],
        cwd=JS,
        env={**os.environ, "CLIENT_FOLDER": str(packages)},
        input=json.dumps([base64.b64encode(message).decode() for message in messages]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def with_times(times: list[str]) -> list[dict[str, Any]]:
    return [{**row, "at": time} for row, time in zip(ROWS, times, strict=True)]


def test_both_forms_of_an_answer_are_read(packages: Path) -> None:
    nothing = Result(RESULT.columns, [])
    completed = Result(Columns(), [])
    messages = [encode_result(1, RESULT), encode_arrow(1, RESULT), encode_result(1, nothing), encode_arrow(1, nothing)]
    messages += [encode_result(1, completed), encode_arrow(1, completed), encode_error(1, "it's broken")]
    assert decode(packages, messages) == [
        {"rows": with_times(LEGACY_TIMES)},
        {"rows": with_times(ARROW_TIMES)},
        *[{"rows": []}] * 4,
        {"refused": "it's broken"},
    ]


@pytest.mark.parametrize("encode", [encode_result, encode_arrow])
def test_a_message_that_was_cut_is_refused(packages: Path, encode: Any) -> None:
    message = encode(1, RESULT)
    cuts = [message[:end] for end in range(0, len(message) - 4, 3)]
    assert [answer for answer in decode(packages, cuts) if "refused" not in answer] == []


def test_what_the_javascript_reader_would_let_pass_is_refused(packages: Path) -> None:
    message = encode_result(1, Result(Columns(("column", ColumnType.STRING)), [(b"value",)]))
    at = message.index(b"value")
    no_end = message[: at + 5] + b"x" + message[at + 6 :]
    not_utf8 = message.replace(b"value", b"val\xffe")
    unaligned = struct.pack("<I", struct.unpack_from("<I", message)[0] + 1) + message[4:]
    answers = decode(packages, [message, no_end, not_utf8, unaligned])
    assert answers[0] == {"rows": [{"column": "value"}]}
    reasons = ["no NUL", "not UTF-8", "unaligned"]
    for answer, reason in zip(answers[1:], reasons, strict=True):
        assert reason in answer["refused"]
