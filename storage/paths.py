"""How a path reads: it is split at its last colon into prefix and key (commands.md §3)."""

from __future__ import annotations

from storage.vocabulary import Path


def prefix_of(path: Path) -> Path:
    """What stands before the last `:`; empty if there is none."""
    return path.rpartition(b":")[0]


def key_of(path: Path) -> bytes:
    """What stands after the last `:`; the whole path if there is none."""
    return path.rpartition(b":")[2]


def prefix_of_argument(argument: bytes) -> Path:
    """The prefix that the argument of CACHE KEYS means: one trailing `:*` or `:` is cut."""
    return argument[:-2] if argument.endswith(b":*") else argument.removesuffix(b":")
