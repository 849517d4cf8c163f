"""What a server tells on its status port, asked for by a command that is connected to that very server."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any, Final
from urllib.parse import urlsplit

from cubequeue_server.commands.address import CommandError, credentials, refused, status_url
from cubequeue_server.commands.client import Connection

_TIMEOUT_S: Final = 5.0
_MAX_ANSWER_BYTES: Final = 16 << 20


class StatusPort:
    """The status port of the server at the other end of `connection`.

    A server of cubequeue announces it. One that another server answers on, as behind a mapping of ports, is not asked
    again: its figures would be taken for those of this server.
    """

    def __init__(self, connection: Connection, given: str | None = None) -> None:
        self.url = status_url(given, connection.url, connection.status_port)
        self._instance = connection.instance
        self._is_announced = given is not None or connection.status_port is not None
        self._is_another = False

    async def get(self, path: str) -> dict[str, Any]:
        """The object that a path of JSON answers with. Raises CommandError, which says why there is none."""
        body = await self.text(path)
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise CommandError(f"status port {self.url}: {path} is not what cubequeue has there")
        instance = content.get("instance")
        if isinstance(instance, str) and self._instance is not None and instance != self._instance:
            self._is_another = True
            return await self.get(path)
        return content

    async def text(self, path: str) -> bytes:
        """What a path answers with. Raises CommandError."""
        if not self._is_announced:
            raise CommandError("the server announced no status port (CUBESTORE_STATUS_PORT)")
        if self._is_another:
            raise CommandError(
                f"{self.url} is the status port of another server: name that of this one by --status-url"
            )
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> bytes:
        parts, headers = urlsplit(self.url), credentials()
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(parts.hostname), parts.port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CommandError(f"status port {self.url}: {reason}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            why = refused(answer.status, are_given=bool(headers)) or f"answered {answer.status} to {path}"
            raise CommandError(f"status port {self.url}: {why}")
        return body
