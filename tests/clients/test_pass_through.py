"""The real drivers with an upstream CubeStore: what they send for pre-aggregations arrives as it was sent."""

from __future__ import annotations

import gzip
import re
from base64 import b64decode
from collections import Counter
from pathlib import Path

import pytest

from protocol.decode import decode_request
from protocol.encode import encode_error, encode_result
from protocol.relayed import place_of_format
from storage.vocabulary import Columns, ColumnType, Result
from tests.clients.processes import Cubequeue, NodeProcess
from tests.upstream.harness import InThread
from tests.upstream.stand_in import Received, StandIn, Upload, text_answer

pytestmark = pytest.mark.node

HERE = re.compile(
    rb"SELECT 1|(QUEUE|CACHE|SYS CACHESTORE) .*|SELECT FLOOR\(\(UNIX_TIMESTAMP\(\)\) / 10\) as refresh_key", re.DOTALL
)
_NAMES = ("column_name", "table_name", "table_schema", "data_type", "schema_name", "build_range_end")
SCHEMA_COLUMNS = Columns(*((name, ColumnType.STRING) for name in _NAMES))
VERSIONS = ["1.7.43", "1.6.66", "1.6.44", "1.3.40", None]


async def answer(received: Received) -> bytes | None:
    message_id, text = received.request.message_id, received.text
    if "never_made" in text:
        return encode_error(message_id, "Internal: Error: table prod_pre_aggregations.never_made does not exist")
    if "information_schema.schemata" in text:
        return encode_result(message_id, Result(SCHEMA_COLUMNS, []))
    if "information_schema" in text:
        return encode_result(message_id, Result(SCHEMA_COLUMNS, [(b"id", b"t", b"s", b"text", b"s", None)]))
    return text_answer(received, text[:20])


class Uploads:
    """The files that came."""

    def __init__(self) -> None:
        self.seen: list[Upload] = []

    async def __call__(self, upload: Upload) -> bytes:
        self.seen.append(upload)
        return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def without_format(raw: bytes) -> bytes:
    """The message as it reaches an older server."""
    place = place_of_format(raw)
    return raw[:place] + b"\0" + raw[place + 1 :] if place else raw


@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_what_a_driver_sends_arrives_byte_for_byte_or_not_at_all(
    packages: Path, generation: str, version: str | None, tmp_path: Path
) -> None:
    if version not in {"1.7.43", None} and generation not in {"0.35.81", "1.7.43"}:
        pytest.skip("all drivers on two versions, two drivers on all")
    uploads = Uploads()
    stand_in = StandIn(version)
    stand_in.answer, stand_in.upload_answer = answer, uploads
    with (
        InThread(stand_in),
        Cubequeue(tmp_path / "log", _behind(stand_in)) as server,
        NodeProcess(server, packages, ["pass-through.js"], {}, 60) as node,
    ):
        lines = list(node.lines())
        assert node.exit_code() == 0, (lines, node.errors)
    sent = [b64decode(text) for line in lines for text in line.get("sent", ())]
    got = [b64decode(text) for line in lines for text in line.get("got", ())]
    assert lines[-1]["ok"]

    texts = [decode_request(raw).query for raw in sent]
    passed = [raw for raw, text in zip(sent, texts, strict=True) if not HERE.fullmatch(text)]
    is_old = version is None or version < "1.6.66"
    assert Counter(each.raw for each in stand_in.received) == Counter(map(without_format, passed) if is_old else passed)
    assert len(passed) > 10
    assert any(HERE.fullmatch(text) for text in texts)
    assert not any(re.match("QUEUE|CACHE", text) for text in stand_in.texts())
    assert not Counter(stand_in.replies) - Counter(got)

    (upload,) = uploads.seen
    assert re.match(
        rb"POST /upload-temp-file\?name=prod_pre_aggregations\.orders_\S+-0\.csv\.gz HTTP/1\.1", upload.head
    )
    assert gzip.decompress(upload.content).count(b"\n") >= 20_000
    log = server.log.read_text()
    assert "secret-of-ksql" not in log
    assert server.complaints == []


def _behind(stand_in: StandIn) -> dict[str, str]:
    return {"CUBEQUEUE_UPSTREAM": f"ws://127.0.0.1:{stand_in.port}"}
