"""Long replies in pieces, made step by step: no step takes long, and what is large is never copied.

Joining the pieces of a reply of 20 MB takes 20 ms, most of it for fresh memory, and a reply of many rows takes a few
microseconds a row: a server that answers others meanwhile does neither in one go.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

# A reply of fewer bytes is joined: one copy costs less than its pieces would.
JOINED_BYTES: Final = 64 * 1024
# A text of so many bytes stays the object that it is; smaller neighbours are joined.
LARGE_BYTES: Final = 16 * 1024
# What one step does at most, whichever comes first: about half a millisecond.
STEP_ROWS: Final = 128  # a multiple of eight: bitmaps of whole steps can be joined
STEP_BYTES: Final = 256 * 1024

RowT = TypeVar("RowT")


class Pieces:
    """A message that was not joined. Its length is that of the whole."""

    __slots__ = ("_size", "pieces")

    def __init__(self, pieces: Sequence[bytes] = ()) -> None:
        self.pieces: list[bytes] = []
        self._size = 0
        if pieces:
            self.add(pieces)

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)

    def add(self, pieces: Sequence[bytes]) -> None:
        """Put these behind what is there: large ones by reference, the others joined. O(pieces + bytes joined)."""
        small: list[bytes] = []
        for piece in pieces:
            if len(piece) < LARGE_BYTES:
                small.append(piece)
                continue
            if small:
                self.add_joined(small)
                small = []
            self.pieces.append(piece)
            self._size += len(piece)
        if small:
            self.add_joined(small)

    def add_joined(self, pieces: Sequence[bytes]) -> None:
        """Put these behind what is there, as one."""
        piece = b"".join(pieces)
        self.pieces.append(piece)
        self._size += len(piece)

    def extend(self, others: Pieces) -> None:
        """Put all of another's behind what is there, as they are."""
        self.pieces += others.pieces
        self._size += len(others)


Message: TypeAlias = bytes | Pieces
# Makes a message: each `next` is one step, and the message is the value of the StopIteration.
Steps: TypeAlias = Generator[None, None, Pieces]


def finish(steps: Steps) -> Pieces:
    """All steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            pieces: Pieces = end.value
            return pieces


def blocks_of(rows: Sequence[RowT]) -> Iterator[Sequence[RowT]]:
    """The rows in blocks for one step each."""
    return (rows[start : start + STEP_ROWS] for start in range(0, len(rows), STEP_ROWS))
