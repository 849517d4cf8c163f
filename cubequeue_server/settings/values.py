"""What the text of a setting means: one `Kind` for each type of value, with its unit, and the way back to text.

A kind parses what an environment variable, a flag or a TOML value says, or raises `ValueError` with the reason. It
knows nothing of names, defaults or ranges: those are the table's (settings_table.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from urllib.parse import unquote

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SECOND_MS = 1_000

PORT_OFF = 0
PORT_AUTO = -1


class Endpoint(NamedTuple):
    """Where a listener binds; port 0 lets the kernel choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Kind(Protocol):
    """A type of value; `placeholder` stands for it in the help."""

    @property
    def placeholder(self) -> str: ...

    def parse(self, text: str) -> object:
        """The value of a text. Raises ValueError."""

    def show(self, value: object) -> str:
        """The text of a value, for the help and for error lines."""


def _number_and_unit(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)", text, re.ASCII)
    if match is None:
        raise ValueError("not a number with an optional unit")
    return match[1], match[2].lower()


def _scaled(text: str, units: Mapping[str, int], example: str) -> int:
    number, unit = _number_and_unit(text)
    if unit not in units:
        raise ValueError(f"unknown unit {unit!r}, write for example {example}")
    if len(number) > 20:
        raise ValueError("too many digits")
    whole, _, fraction = number.partition(".")
    scale = units[unit]
    exact = int(whole + fraction) * scale
    power: int = 10 ** len(fraction)
    value, rest = divmod(exact, power)
    if rest:
        raise ValueError("not a whole number of the smallest unit")
    return value


@dataclass(slots=True, frozen=True)
class Integer:
    """A whole number."""

    placeholder: str = "N"

    def parse(self, text: str) -> int:
        if re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII) is None:
            raise ValueError("not a whole number")
        return int(text)

    def show(self, value: object) -> str:
        return str(value)


@dataclass(slots=True, frozen=True)
class Size:
    """Bytes: a plain number, or a unit: `64MB` is 64·10⁶, `64MiB` is 64·2²⁰; upper or lower case alike."""

    placeholder: str = "SIZE"

    def parse(self, text: str) -> int:
        return _scaled(text, _SIZE_UNITS, "64MiB")

    def show(self, value: object) -> str:
        assert isinstance(value, int)
        for name, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
            if value >= factor and value % factor == 0:
                return f"{value // factor} {name}"
        return f"{value} bytes"


_SIZE_UNITS: Mapping[str, int] = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "ki": KIB, "kib": KIB, "mi": MIB, "mib": MIB, "gi": GIB, "gib": GIB, "ti": 1 << 40, "tib": 1 << 40,
}  # fmt: skip


@dataclass(slots=True, frozen=True)
class Duration:
    """Milliseconds inside; outside a plain number of seconds, as CubeStore has it, or a unit: `500ms`, `10m`."""

    placeholder: str = "SECONDS"

    def parse(self, text: str) -> int:
        return _scaled(text, _DURATION_UNITS, "30s")

    def show(self, value: object) -> str:
        assert isinstance(value, int)
        return f"{value // SECOND_MS} s" if value % SECOND_MS == 0 else f"{value} ms"


_DURATION_UNITS: Mapping[str, int] = {
    "": SECOND_MS, "ms": 1, "s": SECOND_MS, "m": 60 * SECOND_MS, "h": 3_600 * SECOND_MS, "d": 86_400 * SECOND_MS,
}  # fmt: skip


@dataclass(slots=True, frozen=True)
class Boolean:
    """A truth value."""

    placeholder: str = "BOOL"

    def parse(self, text: str) -> bool:
        word = text.lower()
        if word in {"true", "t", "1", "yes", "on"}:
            return True
        if word in {"false", "f", "0", "no", "off"}:
            return False
        raise ValueError("not true or false")

    def show(self, value: object) -> str:
        return "true" if value else "false"


@dataclass(slots=True, frozen=True)
class Choice:
    """One word of a few, in any case."""

    words: tuple[str, ...]
    placeholder: str

    def parse(self, text: str) -> str:
        word = text.lower()
        if word not in self.words:
            raise ValueError(f"not one of {', '.join(self.words)}")
        return word

    def show(self, value: object) -> str:
        return str(value)


@dataclass(slots=True, frozen=True)
class Text:
    """A text; `pattern` says which texts will do and `form` puts that into words."""

    placeholder: str = "TEXT"
    pattern: str = r"(?s).*"
    form: str = "any text"

    def parse(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise ValueError(f"not {self.form}")
        return text

    def show(self, value: object) -> str:
        return str(value) or "none"


MAX_PATTERNS = 32
_MAX_PATTERN_BYTES = 256


@dataclass(slots=True, frozen=True)
class Patterns:
    """Texts with commas between them, in which `*` stands for any text; an empty one is none."""

    placeholder: str = "PATTERNS"

    def parse(self, text: str) -> tuple[bytes, ...]:
        patterns = tuple(part.strip().encode(errors="surrogateescape") for part in text.split(","))
        if patterns == (b"",):
            return ()
        if b"" in patterns or len(patterns) > MAX_PATTERNS or max(map(len, patterns)) > _MAX_PATTERN_BYTES:
            raise ValueError(f"not up to {MAX_PATTERNS} patterns of {_MAX_PATTERN_BYTES} bytes, with commas between")
        return patterns

    def show(self, value: object) -> str:
        assert isinstance(value, tuple)
        return ",".join(pattern.decode(errors="replace") for pattern in value) or "none"


@dataclass(slots=True, frozen=True)
class Texts:
    """Any number of texts with commas between them; `pattern` and `form` are those of each, as in `Text`."""

    placeholder: str
    pattern: str
    form: str

    def parse(self, text: str) -> tuple[str, ...]:
        texts = tuple(part.strip() for part in text.split(",") if part.strip())
        for each in texts:
            if re.fullmatch(self.pattern, each) is None:
                raise ValueError(f"{each} is not {self.form}")
        return texts

    def show(self, value: object) -> str:
        assert isinstance(value, tuple)
        return ", ".join(value) or "none"


@dataclass(slots=True, frozen=True)
class Secret:
    """A text that is shown nowhere."""

    placeholder: str = "SECRET"

    def parse(self, text: str) -> str:
        return text

    def show(self, value: object) -> str:
        return "hidden" if value else "none"


@dataclass(slots=True, frozen=True)
class Port:
    """A TCP port, `auto` for a free one that the kernel chooses, and 0 for off where a listener may be off."""

    may_be_off: bool = True
    placeholder: str = "PORT"

    def parse(self, text: str) -> int:
        if text.lower() == "auto":
            return PORT_AUTO
        if re.fullmatch(r"\d{1,5}", text, re.ASCII) is None or int(text) > 65_535:
            raise ValueError(self._form)
        port = int(text)
        if port == PORT_OFF and not self.may_be_off:
            raise ValueError(f"this listener cannot be off, {self._form}")
        return port

    @property
    def _form(self) -> str:
        return "allowed are 1 to 65535, auto for a free port" + (", 0 for off" if self.may_be_off else "")

    def show(self, value: object) -> str:
        return {PORT_AUTO: "auto", PORT_OFF: "off"}.get(value, str(value)) if isinstance(value, int) else str(value)


@dataclass(slots=True, frozen=True)
class Address:
    """`host:port`, an IPv6 host in brackets, the port as in `Port`."""

    may_be_off: bool = True
    placeholder: str = "HOST:PORT"

    def parse(self, text: str) -> Endpoint:
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not host or (":" in host and not bracketed):
            raise ValueError("not host:port (an IPv6 host in brackets)")
        return Endpoint(host[1:-1] if bracketed else host, Port(self.may_be_off).parse(port))

    def show(self, value: object) -> str:
        assert isinstance(value, Endpoint)
        host = f"[{value.host}]" if ":" in value.host else value.host
        return f"{host}:{Port().show(value.port)}"


@dataclass(slots=True, frozen=True)
class UpstreamAddress:
    """Where a CubeStore listens, and the credentials that its URL names; as text it has none."""

    is_tls: bool
    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{'wss' if self.is_tls else 'ws'}://{Endpoint(self.host, self.port)}"


_UPSTREAM_PORT = 3030
_UPSTREAM_URL = re.compile(
    r"(?P<scheme>wss?)://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]]+)(?::(?P<port>\d{1,5}))?(?:/|/ws)?",
    re.IGNORECASE,
)


@dataclass(slots=True, frozen=True)
class UpstreamUrl:
    """A `ws://` or `wss://` URL of a CubeStore, None for none. User and password are percent-encoded, as in any URL."""

    placeholder: str = "URL"

    def parse(self, text: str) -> UpstreamAddress:
        match = _UPSTREAM_URL.fullmatch(text)
        port = int(match["port"] or _UPSTREAM_PORT) if match is not None else 0
        if match is None or not 0 < port <= 65_535:
            raise ValueError("not ws:// or wss://[user:password@]host[:port]")
        user, password = unquote(match["user"] or ""), unquote(match["password"] or "")
        return UpstreamAddress(match["scheme"].lower() == "wss", match["host"].strip("[]"), port, user, password)

    def show(self, value: object) -> str:
        return str(value) if value else "none"


def without_credentials(url: str) -> str:
    """What may be shown of a URL, also of one that cannot be read: whatever stands ahead of its last `@` is hidden."""
    before, at, rest = url.rpartition("@")
    return f"{before.partition('://')[0]}://***@{rest}" if at and "://" in before else f"***@{rest}" if at else url
