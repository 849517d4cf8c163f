"""Which web pages may use the server: a browser asks for any page that its user opens (SECURITY.md, "Browsers").

`Origin` says which page opens a WebSocket. `Host` says under which name this server was looked up: a page of a foreign
name that points here (DNS rebinding) counts as of the same origin in the browser, and could read everything.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from typing import Final

# Names that no stranger can register, and that point to a stranger's page nowhere.
_INSIDE: Final = (".localhost", ".svc", ".cluster.local", ".internal", ".local")


def is_allowed_origin(origin: bytes, allowed: frozenset[str]) -> bool:
    """Whether `allowed`, in lower case, names the origin, such as `https://admin.example.com`."""
    return origin.decode("latin-1").lower() in allowed


class AllowedHosts:
    """The names under which the page is served: addresses, names of the inside, that of this machine, and `names`.

    A name that begins with a dot stands for all that end in it.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        given = [name.lower() for name in names]
        self._names = frozenset([*given, socket.gethostname().lower()])
        self._suffixes = (*_INSIDE, *(name for name in given if name.startswith(".")))

    def admit(self, host: bytes | None) -> bool:
        """Whether a request with this header `Host` is answered; every browser sends one."""
        if host is None:
            return True
        name = _without_port(host.decode("latin-1")).lower().removesuffix(".")
        return "." not in name or name in self._names or name.endswith(self._suffixes) or _is_address(name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, name)
            return True
    return False
