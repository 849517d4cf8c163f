"""The Lua scripts: read from the files beside this module, put together from their parts, and named by their content.

Each file says at its top what it does and, in lines that are read here, what it needs:

-- keys: s d k u0 u1      short names of the keys; in the script they are variables. u0 and u1 come last
-- args: clock key        the arguments, likewise
-- flags: no-writes       those of the engine: what only reads, and what a full engine must not refuse
-- uses: items            the parts (other files) that it rests on, in their order
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).with_name("lua")
_HEADERS: Final = ("keys", "args", "flags", "uses")
DYNAMIC: Final = ("u0", "u1")  # the keys that are of a connection


class Script:
    """One script, by the name of its file."""

    def __init__(self, name: str) -> None:
        self.name = name
        text = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        headers = {word: _header(name, text, word) for word in _HEADERS}
        self.keys = headers["keys"]
        self.args = headers["args"]
        flags = headers["flags"]
        self.only_reads = "no-writes" in flags
        shebang = f"#!lua flags={','.join(flags)}" if flags else "#!lua"
        parts = [shebang, f"local {', '.join(self.keys)} = unpack(KEYS)"]
        if self.args:
            parts.append(f"local {', '.join(self.args)} = unpack(ARGV)")
        parts.append(f"local PIECES = {len(self.keys) + 1}")
        parts += [_code_of(part) for part in ("head", *headers["uses"])]
        parts.append(_code(text))
        self.source: Final = "\n".join(parts).encode()
        self.sha: Final = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()

    @property
    def static_keys(self) -> list[str]:
        """The keys that are of the shard."""
        return [key for key in self.keys if key not in DYNAMIC]

    @cached_property
    def is_keyed(self) -> bool:
        """Whether it looks for a kept answer, and keeps one."""
        return "u0" in self.keys

    def __repr__(self) -> str:
        return f"Script({self.name})"


def _header(name: str, text: str, word: str) -> list[str]:
    start = f"-- {word}:"
    found = [line for line in text.splitlines() if line.startswith(start)]
    if len(found) != 1:
        raise AssertionError(f"{name}.lua has {len(found)} lines that begin with {start!r}")
    return found[0].removeprefix(start).split()


def _code_of(part: str) -> str:
    return _code((_FOLDER / f"{part}.lua").read_text(encoding="utf-8"))


def _code(text: str) -> str:
    """Without comments that are whole lines: an engine keeps the text of every script it has seen."""
    return "\n".join(line for line in text.splitlines() if line and not line.lstrip().startswith("--"))


ADD = Script("add")
ADD_AND_RETRIEVE = Script("add_and_retrieve")
RETRIEVE = Script("retrieve")
GET = Script("get")
LIST = Script("list")
TO_CANCEL = Script("to_cancel")
HEARTBEAT = Script("heartbeat")
CANCEL = Script("cancel")
ACK = Script("ack")
MERGE_EXTRA = Script("merge_extra")
RESULT = Script("result")
WAIT = Script("wait")
TAKE = Script("take")
ASK = Script("ask")
CLEAR = Script("clear")
CACHE_SET = Script("cache_set")
CACHE_INCR = Script("cache_incr")
CACHE_REMOVE = Script("cache_remove")
CACHE_KEYS = Script("cache_keys")
USES = Script("uses")
EVICT = Script("evict")
SWEEP = Script("sweep")
FORGET = Script("forget")
UNLINK = Script("unlink")
CONFIRM = Script("confirm")
UNDELIVERED = Script("undelivered")
KEPT = Script("kept")
SETUP = Script("setup")
SIZES = Script("sizes")
FIGURES = Script("figures")
PIECE = Script("piece")

ALL: Final = tuple(value for value in list(globals().values()) if isinstance(value, Script))
BY_SHA: Final = {script.sha: script for script in ALL}
