"""Uploads to the CubeStore behind: both heads are read and rewritten, the bodies pass as they come.

client ─ head ─▶ credentials ─▶ Upload ─ dial ─▶ CubeStore        then a byte tunnel with back-pressure both ways
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from cubequeue_server.engines.upstream import texts
from cubequeue_server.engines.upstream.counters import UpstreamCounters
from cubequeue_server.engines.upstream.dialer import reason_of
from cubequeue_server.engines.upstream.target import Target
from cubequeue_server.net.http_body import BadBodyError, Body, body_of_answer, body_of_request
from cubequeue_server.net.http_client import AnswerHead, NoHttpError, host_header, take_answer_head
from cubequeue_server.net.http_head import Head, RefusedError, error_response
from cubequeue_server.net.lingering import Lingering
from cubequeue_server.observe.logs import log_event

_log = logging.getLogger(__name__)

# Of each side. Together with one read of the loop, at most 256 KB, it bounds what an upload holds.
_HIGH_WATER_BYTES: Final = 128 * 1024
_LOW_WATER_BYTES: Final = 32 * 1024
_BEATS: Final = 8  # in the idle timeout

# Of one connection only (RFC 9110, section 7.6.1), or written anew.
_NOT_PASSED: Final = frozenset(
    {b"host", b"authorization", b"x-process-id", b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade"}
)


@dataclass(slots=True, frozen=True)
class Request:
    """An upload whose head was read and whose credentials were checked."""

    transport: asyncio.Transport
    head: Head
    process_id: bytes | None
    already_read: bytes


class Uploads:
    """The uploads of one server, at most `max_uploads` of its target at a time."""

    def __init__(self, target: Target, counters: UpstreamCounters) -> None:
        self.target = target
        self.counters = counters
        self._running: set[Upload] = set()

    def begin(self, request: Request, close_timeout_s: float, max_discarded_bytes: int) -> None:
        """Pass an upload on. The other arguments limit the end of its connection. Raises RefusedError."""
        if request.head.method != b"POST":
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "files are uploaded with POST", {"Allow": "POST"})
        if len(self._running) >= self.target.max_uploads:
            self.counters.uploads_refused += 1
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, texts.too_many_uploads(self.target.max_uploads))
        try:
            body = body_of_request(request.head.headers)
        except BadBodyError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
        upload = Upload(self, request, body, close_timeout_s, max_discarded_bytes)
        self._running.add(upload)
        self.counters.uploads = len(self._running)

    def forget(self, upload: Upload) -> None:
        """An upload has ended."""
        self._running.discard(upload)
        self.counters.uploads = len(self._running)

    def stop(self) -> None:
        """End all of them."""
        for upload in list(self._running):
            upload.abort()


class _Side(asyncio.Protocol):
    """One of the two connections of an upload."""

    __slots__ = ("_upload", "is_client", "other", "transport")

    def __init__(self, upload: Upload, transport: asyncio.Transport, *, is_client: bool) -> None:
        self._upload = upload
        self.transport = transport
        self.is_client = is_client
        self.other: asyncio.Transport | None = None
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES, low=_LOW_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.is_client:
            self._upload.on_client_data(data)
        else:
            self._upload.on_upstream_data(data)

    def eof_received(self) -> bool:
        self._upload.on_end(None, is_client=self.is_client)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._upload.on_end(error, is_client=self.is_client)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.is_closing():
            self.other.resume_reading()


class Upload:
    """One file on its way. What the client sends behind its body is dropped: both connections end with the answer."""

    def __init__(
        self, uploads: Uploads, request: Request, body: Body, close_timeout_s: float, max_discarded_bytes: int
    ) -> None:
        self._uploads = uploads
        self._target = uploads.target
        self._counters = uploads.counters
        self._request = request
        self._linger = close_timeout_s, max_discarded_bytes
        self._loop = asyncio.get_running_loop()
        self._body = body
        self._body_bytes = 0
        self._answer_buffer = bytearray()
        self._answer_head: AnswerHead | None = None
        self._answer: Body | None = None  # once its head has gone to the client
        self._answer_bytes = 0
        self._is_over = False
        self._moved_bytes, self._idle_s = -1, 0.0  # as of the last beat
        self._beat_timer: asyncio.TimerHandle | None = None
        self._client = request.transport
        self._upstream: asyncio.Transport | None = None
        self._client_side = _Side(self, self._client, is_client=True)
        self._client.pause_reading()
        self._client.set_protocol(self._client_side)
        self._dialing = self._loop.create_task(self._dial())

    # To the CubeStore

    async def _dial(self) -> None:
        target, began_s, backoff_s = self._target, self._loop.time(), self._target.backoff_s
        while True:
            try:
                await self._connect()
            except OSError as error:  # TimeoutError and errors of TLS are among them
                reason = reason_of(error, target.connect_timeout_s)
            else:
                return
            waited_s = self._loop.time() - began_s
            if waited_s + backoff_s > target.timeout_s:
                self._counters.uploads_unreachable += 1
                self._fail(HTTPStatus.BAD_GATEWAY, texts.unreachable(target, reason, round(waited_s)))
                return
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, target.max_backoff_s)

    async def _connect(self) -> None:
        target = self._target
        host, port = target.endpoint
        async with asyncio.timeout(target.connect_timeout_s):
            transport, _ = await self._loop.create_connection(
                asyncio.Protocol, host, port, ssl=target.tls, server_hostname=host if target.tls else None
            )
        if self._is_over:
            transport.abort()
            return
        upstream = self._upstream = transport
        side = _Side(self, upstream, is_client=False)
        side.other, self._client_side.other = self._client, upstream
        upstream.set_protocol(side)
        upstream.write(b"\r\n".join(self._request_lines()) + b"\r\n\r\n")
        self._beat()
        self.on_client_data(self._request.already_read)
        if not self._is_over:
            self._client.resume_reading()

    def _request_lines(self) -> Iterator[bytes]:
        head, target = self._request.head, self._target
        query = head.target.partition(b"?")[2]
        yield b"POST %b%b%b HTTP/1.1" % (head.path, b"?" if query else b"", query)
        yield b"Host: " + host_header(target.endpoint)
        yield b"Connection: close"
        passed = [each for each in head.headers if each[0] not in _NOT_PASSED]
        own = target.headers(self._request.process_id, head.header(b"authorization"))
        for name, value in (*passed, *own):
            yield b"%b: %b" % (name, value)

    def on_client_data(self, data: bytes) -> None:
        """Bytes of the file; what stands behind it is dropped."""
        if self._is_over or self._body.is_whole or self._upstream is None:
            return
        try:
            taken = self._body.feed(data)
        except BadBodyError as error:
            self._counters.uploads_broken += 1
            self._fail(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._body_bytes += taken
        self._counters.upload_bytes += taken
        self._upstream.write(data if taken == len(data) else data[:taken])
        self._note_held()

    # From the CubeStore

    def on_upstream_data(self, data: bytes) -> None:
        """Bytes of the answer."""
        if self._is_over:
            return
        try:
            if self._answer is None:
                self._answer_buffer += data
                self._read_answer_head()
            else:
                self._pass_answer(data)
        except (NoHttpError, BadBodyError) as error:
            self._lose(str(error))

    def _read_answer_head(self) -> None:
        while (head := take_answer_head(self._answer_buffer)) is not None:
            lines = [b"HTTP/1.1 %d %b" % (head.status, head.phrase)]
            lines += [b"%b: %b" % each for each in head.headers if each[0] not in {b"connection", b"keep-alive"}]
            if head.status >= HTTPStatus.OK:
                lines.append(b"Connection: close")
            self._client.write(b"\r\n".join(lines) + b"\r\n\r\n")
            if head.status >= HTTPStatus.OK:
                self._answer_head, self._answer = head, body_of_answer(head.status, head.headers)
                self._pass_answer(bytes(self._answer_buffer))
                return

    def _pass_answer(self, data: bytes) -> None:
        assert self._answer is not None
        taken = self._answer.feed(data)
        self._answer_bytes += taken
        self._client.write(data[:taken])
        self._note_held()
        if self._answer.is_whole:
            self._finish()

    def _finish(self) -> None:
        """The answer is whole. It may have come before the file was: an error is passed on before the end."""
        assert self._answer_head is not None
        if self._answer_head.status < HTTPStatus.BAD_REQUEST:
            self._counters.uploads_done += 1
        else:
            self._counters.uploads_declined += 1
        self._end()
        self._let_client_go()

    # Ends

    def on_end(self, error: Exception | None, *, is_client: bool) -> None:
        """One of the connections is gone, or its peer says no more."""
        if self._is_over:
            return
        if is_client:
            self._counters.uploads_broken += 1
            self._log("the client has gone")
            self.abort()
        elif self._answer is not None and not self._answer.is_whole and error is None:
            self._finish()  # an answer without a length ends with its connection
        else:
            self._lose(getattr(error, "strerror", None) or str(error or "") or "the connection ended")

    def _lose(self, reason: str) -> None:
        self._counters.uploads_broken += 1
        self._fail(HTTPStatus.BAD_GATEWAY, texts.upload_lost(self._target, reason))

    def _fail(self, status: HTTPStatus, text: str) -> None:
        """Answer with an error, unless an answer has begun: then only the end of the connection can tell."""
        self._log(text)
        has_begun = self._answer is not None
        self._end()
        if has_begun:
            self._client.abort()
        else:
            self._client.write(error_response(RefusedError(status, text)))
            self._let_client_go()

    def _log(self, reason: str) -> None:
        log_event(_log, logging.WARNING, "an upload failed", {"bytes": self._body_bytes, "reason": reason})

    def abort(self) -> None:
        """End both connections at once."""
        self._end()
        self._client.abort()

    def _end(self) -> None:
        self._is_over = True
        self._dialing.cancel()
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        if self._upstream is not None:
            self._upstream.abort()
        self._client_side.other = None
        self._uploads.forget(self)

    def _let_client_go(self) -> None:
        if self._client.is_closing():
            return
        Lingering(self._client, *self._linger, lambda: None)

    # Bounds

    @property
    def held_bytes(self) -> int:
        """Bytes that were read from one side and not yet written to the other."""
        upstream = 0 if self._upstream is None else self._upstream.get_write_buffer_size()
        return upstream + self._client.get_write_buffer_size() + len(self._answer_buffer)

    def _note_held(self) -> None:
        self._counters.upload_held_peak_bytes = max(self._counters.upload_held_peak_bytes, self.held_bytes)

    def _beat(self) -> None:
        """End an upload whose file, or whose answer once it has begun, makes no progress.

        A CubeStore may take minutes over a file that it has got: nobody owes anything then.
        """
        assert self._upstream is not None
        waiting_bytes = self._upstream.get_write_buffer_size()
        moved_bytes = self._body_bytes - waiting_bytes + self._answer_bytes
        is_owed = not self._body.is_whole or waiting_bytes or self._answer is not None
        is_idle = is_owed and moved_bytes == self._moved_bytes
        self._moved_bytes = moved_bytes
        timeout_s = self._target.upload_idle_timeout_s
        self._idle_s = self._idle_s + timeout_s / _BEATS if is_idle else 0.0
        if self._idle_s >= timeout_s:
            self._counters.uploads_idle += 1
            is_upstreams = bool(waiting_bytes) or self._answer is not None
            self._fail(HTTPStatus.GATEWAY_TIMEOUT, texts.upload_idle(self._target if is_upstreams else None, timeout_s))
        else:
            self._beat_timer = self._loop.call_later(timeout_s / _BEATS, self._beat)
