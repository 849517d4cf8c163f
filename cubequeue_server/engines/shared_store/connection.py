"""One connection to a node: commands out, replies in their order. hiredis parses; writing is a join of bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeAlias, cast

from hiredis import Reader, ReplyError

from cubequeue_server.engines.shared_store.errors import StoreRefusedError, StoreUnreachableError
from cubequeue_server.settings.store_address import Address

# bytes, int, None, a ReplyError, or a list of those.
Reply: TypeAlias = Any

_CONNECT_TIMEOUT_S: Final = 2.0
_READ_AT_ONCE: Final = 256 * 1024


class Taker(Protocol):
    """What gets the reply to a command."""

    def take(self, reply: Reply) -> None:
        """The reply is there. Raises nothing."""


class Connection(asyncio.BufferedProtocol):
    """Commands of one turn of the loop are written together.

    `on_lost` is called once when the connection ends, with the commands that have no reply. `batch` runs a function
    that completes many requests. `on_push` is given what comes without being asked for, by one who subscribes.
    """

    def __init__(
        self,
        on_lost: Callable[[list[Taker]], None],
        batch: Callable[[Callable[[], object]], None],
        on_push: Callable[[list[Reply]], bool] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._batch = batch
        self._on_push = on_push
        self._transport: asyncio.Transport | None = None
        self._reader = Reader()
        self._buffer = bytearray(_READ_AT_ONCE)
        self._view = memoryview(self._buffer)
        self._out: list[bytes] = []
        self._pending: deque[Taker] = deque()
        self._is_flush_due = False
        self._flushes: deque[tuple[float, int]] = deque()  # when, and how many commands had been written by then
        self._written = self._answered = 0
        self.reason = ""  # why it ended

    # Commands.

    def send(self, request: bytes, taker: Taker) -> None:
        """Write a command in this turn of the loop."""
        self._out.append(request)
        self._pending.append(taker)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        out, self._out = self._out, []
        if self._transport is None or not out:
            return
        self.before_flush(out)
        self._written = self._answered + len(self._pending)
        self._flushes.append((self._loop.time(), self._written))
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def before_flush(self, out: list[bytes]) -> None:
        """A subclass may add commands."""

    def ask(self, *words: bytes | str | int) -> asyncio.Future[Reply]:
        """Send a command that is not hot; the future gets its reply. Raises StoreUnreachableError when it is lost."""
        answer = Answer(self._loop.create_future())
        if self.is_lost:
            answer.lose(self.reason)
        else:
            self.send(command(*words), answer)
        return answer.future

    # Replies.

    @property
    def oldest_s(self) -> float | None:
        """When the oldest command was written that has no reply; None when all have one."""
        flushes, answered = self._flushes, self._answered
        while flushes and flushes[0][1] <= answered:
            flushes.popleft()
        return flushes[0][0] if flushes else None

    @property
    def pending(self) -> int:
        """Commands without a reply."""
        return len(self._pending)

    def get_buffer(self, _size_hint: int) -> memoryview:
        return self._view

    def buffer_updated(self, size: int) -> None:
        self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # any buffer will do
        self._batch(self._drain)

    def _drain(self) -> None:
        try:
            self.drain()
        except Exception as error:  # it would not be known whose the next reply is
            self.cut(f"unexpected {type(error).__name__}: {error}")
            raise

    def drain(self) -> None:
        """Hand over the replies that are whole."""
        gets, pending = self._reader.gets, self._pending
        while (reply := gets()) is not False:
            if self._on_push is not None and type(reply) is list and self._on_push(reply):
                continue
            self._answered += 1
            pending.popleft().take(reply)

    # Its life.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    @property
    def is_lost(self) -> bool:
        return self._transport is None

    def cut(self, reason: str) -> None:
        """End it at once: nothing that was not read yet is believed."""
        if self._transport is not None:
            self.reason = reason
            self._transport.abort()
            self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None:
            return
        self._transport = None
        self.reason = self.reason or (str(exc) if exc else "the connection was closed")
        lost = list(self._pending)
        self._pending.clear()
        self._out.clear()
        self._flushes.clear()
        for taker in lost:
            if isinstance(taker, Answer):
                taker.lose(self.reason)
        self._on_lost([taker for taker in lost if not isinstance(taker, Answer)])


class Answer:
    """The reply to a command that is not hot, as a future."""

    def __init__(self, future: asyncio.Future[Reply]) -> None:
        self.future = future

    def take(self, reply: Reply) -> None:
        if self.future.done():
            return
        if isinstance(reply, ReplyError):
            self.future.set_exception(StoreRefusedError(str(reply)))
        else:
            self.future.set_result(reply)

    def lose(self, reason: str) -> None:
        if not self.future.done():
            self.future.set_exception(StoreUnreachableError(reason))


class Nobody:
    """Takes the reply to a command that nobody waits for."""

    def take(self, reply: Reply) -> None:
        """Nothing follows from it."""


NOBODY: Final = Nobody()


def command(*words: bytes | str | int) -> bytes:
    """A command in the engine's protocol."""
    texts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n%b" % (len(texts), bulks(texts))


def bulks(texts: Iterable[bytes]) -> bytes:
    """Words of a command."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in texts])


async def connect(address: Address, connection: Connection, tls: ssl.SSLContext | None, server_name: str) -> None:
    """Open a connection. Raises StoreUnreachableError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            await loop.create_connection(
                lambda: connection, *address, ssl=tls, server_hostname=server_name if tls is not None else None
            )
    except TimeoutError:
        raise StoreUnreachableError(f"no connection within {_CONNECT_TIMEOUT_S:.0f} s") from None
    except (OSError, ssl.SSLError) as error:
        raise StoreUnreachableError(_reason(error)) from error


def _reason(error: OSError | ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    return (error.strerror or str(error)).lower() if not isinstance(error, ssl.SSLError) else f"TLS: {error.reason}"
