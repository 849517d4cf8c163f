"""The recordings are whole, and our own codec reads every recorded message of CubeStore."""

from __future__ import annotations

import pytest

from protocol.client_codec import ErrorReply, decode_reply
from protocol.commands import parse_statement
from protocol.decode import decode_request
from protocol.messages import ResponseFormat
from storage.vocabulary import OtherSql
from tests.recorded.files import cubestore_answers, deployment_statements, uploads, upstream_exchanges


def test_all_lines_are_there() -> None:
    assert len(cubestore_answers()) == 9_000
    assert len({step.sequence for step in cubestore_answers()}) == 150
    assert len(upstream_exchanges()) == 26
    assert len(deployment_statements()) == 1_090
    assert len(uploads()) == 58


def test_messages_of_cubestore_are_read() -> None:
    for number, exchange in enumerate(upstream_exchanges(), 1):
        request, reply = decode_request(exchange.request), decode_reply(exchange.reply)
        assert request.query.decode() == exchange.sql
        assert request.response_format == ResponseFormat[exchange.format.upper()]
        assert (request.message_id, reply.message_id) == (number, number)
        assert isinstance(reply, ErrorReply) == exchange.sql.startswith(
            ("SELECT FROM", "SELECT * FROM prod.missing", "SHOW")
        )


def test_uploads_are_chunked_posts() -> None:
    for upload in uploads():
        assert upload.method == "POST"
        assert upload.target.startswith("/upload-temp-file?name=")
        assert ("Transfer-Encoding", "chunked") in upload.headers
        assert len(upload.body_start) == 200
        assert upload.reply.startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize("run", sorted({statement.run for statement in deployment_statements()}))
def test_every_statement_of_deployments_is_parsed(run: str) -> None:
    """QUEUE, CACHE and SYS become statements of the store; everything else is other SQL."""
    for recorded in deployment_statements():
        if recorded.run != run:
            continue
        statement = parse_statement(recorded.sql.encode(), recorded.parameters)
        family = recorded.sql.split(None, 1)[0].upper()
        if family in {"QUEUE", "CACHE", "SYS"}:
            assert recorded.route == "here", recorded.sql
            assert statement.family == family.lower(), recorded.sql
        else:
            assert statement == OtherSql(recorded.sql.encode(), recorded.parameters or ()), recorded.sql
