"""A client that outlasts its connections: what has no answer is sent again under the same id, as real drivers do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random

from websockets.exceptions import WebSocketException

from storage.vocabulary import OtherSql, Statement
from tests.crash.checker import must_be_kept
from tests.crash.history import History, Operation, expanded
from tests.protocol.sql_writer import write
from tests.server.client import Address, Client, ClosedError, connected

RETRY_S = 0.1
CONNECT_S = 5.0


class Driver:
    """Any number of statements at once, on one connection at a time, to any of the addresses. Its connection id is its
    own for ever."""

    def __init__(self, addresses: Sequence[Address], name: str, history: History, random: Random) -> None:
        self.name = name
        self._addresses = addresses
        self._history = history
        self._random = random
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._ends = AsyncExitStack()
        self._last_id = 0
        self._earlier: list[tuple[Operation, Client]] = []  # whose answers came over which connection
        self.resent = self.asked_again = 0

    async def ask(self, statement: Statement) -> Operation:
        """Have a statement answered, however many connections that takes."""
        self._last_id += 1
        operation = self._history.begin(self.name, self._last_id, statement)
        client = await self._answer(operation)
        if must_be_kept(operation):
            self._earlier = [*self._earlier[-20:], (operation, client)]
        return operation

    async def ask_again(self) -> None:
        """Send a message that was answered over an earlier connection once more: its answer must be the same."""
        current = await self._connected()
        candidates = [each for each in self._earlier if each[1] is not current]
        if candidates:
            chosen = self._random.choice(candidates)
            self._earlier.remove(chosen)  # a connection that sees a message twice drops it
            self.asked_again += 1
            await self._answer(chosen[0])

    async def _answer(self, operation: Operation) -> Client:
        ask = operation.statement
        query = (ask.text if isinstance(ask, OtherSql) else write(expanded(ask))).decode()
        while True:
            client = await self._connected()
            try:
                await client.send(query, message_id=operation.message_id)
                reply = await client.reply(operation.message_id)
            except (ClosedError, WebSocketException):
                self.resent += 1
                await client.closed()
                continue
            self._history.end(operation, reply)
            return client

    async def _connected(self) -> Client:
        async with self._connecting:
            while self._client is None or self._client.is_closed:
                try:
                    await self._ends.aclose()
                    async with asyncio.timeout(CONNECT_S):
                        self._client = await self._ends.enter_async_context(
                            connected(self._random.choice(self._addresses), self.name)
                        )
                except (OSError, EOFError, WebSocketException):
                    await asyncio.sleep(RETRY_S * self._random.random())
            return self._client

    def drop(self) -> None:
        """Lose the connection, as a bad network does."""
        if self._client is not None:
            self._client.drop()

    async def close(self) -> None:
        """No more statements."""
        await self._ends.aclose()
