"""Sizes as people read them."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def human_size(size_bytes: int) -> str:
    """A size in decimal units, as upstream prints it: 2 digits unless the number is whole, `2.10 MB`, `64 MB`."""
    unit = 0
    scale = 1
    while size_bytes >= scale * 1000 and unit < len(_UNITS) - 1:
        scale *= 1000
        unit += 1
    digits = 2 if size_bytes % scale else 0
    return f"{size_bytes / scale:.{digits}f} {_UNITS[unit]}"
