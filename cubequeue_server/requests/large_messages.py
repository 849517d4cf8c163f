"""Large messages, read between other requests and written ahead: nobody waits for more than a step of one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import NamedTuple, Protocol

from cubequeue_server.net.websocket import LargeMessage
from cubequeue_server.requests.ask import told
from cubequeue_server.requests.client import Client
from protocol.errors import DecodeError
from protocol.large import read_large
from protocol.messages import Request
from storage.engine import Store
from storage.vocabulary import RequestKey, Statement


class Desk(Protocol):
    """The dispatcher, as this module sees it. It raises nothing."""

    def answer(
        self,
        client: Client,
        request: Request,
        key: RequestKey | None,
        message: LargeMessage,
        statement: Statement,
    ) -> None:
        """Answer a request whose statement this is."""

    def refuse_text(self, client: Client, request: Request, error: Exception) -> None:
        """Answer a request whose text is no statement."""

    def refuse_message(self, client: Client, error: DecodeError) -> None:
        """Answer a message that is no request."""


class _Received(NamedTuple):
    client: Client
    request: Request
    key: RequestKey | None
    message: LargeMessage


class LargeMessages:
    """Reads large messages one after the other, a step in each turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, desk: Desk, store: Store) -> None:
        self._loop = loop
        self._desk = desk
        self._store = store
        self._waiting: deque[_Received] = deque()
        self._task: asyncio.Task[None] | None = None

    def add(self, client: Client, request: Request, key: RequestKey | None, message: LargeMessage) -> None:
        """Read a message, and have its request answered. O(1)."""
        self._waiting.append(_Received(client, request, key, message))
        if self._task is None:
            self._task = self._loop.create_task(self._serve())

    def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()

    async def _serve(self) -> None:
        try:
            while self._waiting:
                received = self._waiting.popleft()
                try:
                    await self._answer(received)
                finally:
                    received.message.done()
        finally:
            self._task = None

    async def _answer(self, received: _Received) -> None:
        client, request, key, message = received
        try:
            statement = await self._read(request)
        except DecodeError as error:
            self._desk.refuse_message(client, error)
            return
        except Exception as error:  # one message must not take others down
            self._desk.refuse_text(client, request, error)
            return
        later = self._store.write_ahead(statement)
        if later is not None:
            await told(later)
        try:
            self._desk.answer(client, request, key, message, statement)
        finally:
            self._store.let_go(statement)

    async def _read(self, request: Request) -> Statement:
        steps = read_large(request)
        joined: bytes | None = None
        while True:
            try:
                pieces = steps.send(joined)
            except StopIteration as end:
                statement: Statement = end.value
                return statement
            joined = None
            if pieces is None:
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(RuntimeError):  # there is no thread to be had
                joined = await self._loop.run_in_executor(None, b"".join, pieces)
            if joined is None:
                joined = b"".join(pieces)
