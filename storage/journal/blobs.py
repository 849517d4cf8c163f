"""Long texts, each stored once however many rows name it."""

from __future__ import annotations

from collections.abc import Iterable

from storage.journal.rows import INLINE_BYTES
from storage.vocabulary import Binary, Cell


class Blob:
    """One text, and how many rows name it. A lease counts as a row."""

    __slots__ = ("is_leased", "is_written", "number", "references", "value")

    def __init__(self, value: bytes, number: int, is_written: bool) -> None:
        self.value = value
        self.number = number
        self.references = 0
        self.is_written = is_written
        self.is_leased = False


class Blobs:
    """All texts that rows name, told apart by the identity of their bytes object: no payload is ever compared.

    The state machine passes one object along from the request to the item, its answers and its result. What no row
    names any more is deleted by the next group, unless it is named again until then. Every operation is O(1).
    """

    __slots__ = ("_by_identity", "_next_number", "new", "unnamed")

    def __init__(self) -> None:
        self._by_identity: dict[int, Blob] = {}
        self._next_number = 1
        self.new: list[Blob] = []
        self.unnamed: list[Blob] = []

    def __len__(self) -> int:
        return len(self._by_identity)

    def acquire(self, value: Cell, times: int = 1) -> None:
        """So many more rows name this text. Short texts stand in the rows themselves."""
        if not isinstance(value, bytes) or len(value) <= INLINE_BYTES:
            return
        blob = self._by_identity.get(id(value))
        if blob is None:
            blob = self._by_identity[id(value)] = Blob(value, self._next_number, is_written=False)
            self._next_number += 1
            self.new.append(blob)
        blob.references += times

    def release(self, value: Cell) -> None:
        """One row less names it."""
        if not isinstance(value, bytes) or len(value) <= INLINE_BYTES:
            return
        blob = self._by_identity[id(value)]
        blob.references -= 1
        if not blob.references:
            self.unnamed.append(blob)

    def lease(self, value: bytes) -> int:
        """Number a text that is written now, before any row names it. It stays until `end_lease` at least."""
        blob = self._by_identity[id(value)] = Blob(value, self._next_number, is_written=True)
        self._next_number += 1
        blob.is_leased = True
        blob.references = 1
        return blob.number

    def end_lease(self, value: bytes) -> None:
        """From now on only rows keep this text. Without effect where it has no lease."""
        blob = self._by_identity.get(id(value))
        if blob is not None and blob.is_leased:
            blob.is_leased = False
            self.release(value)

    def number(self, value: bytes) -> int:
        """The number of a text that was acquired."""
        return self._by_identity[id(value)].number

    def take_new(self) -> list[Blob]:
        """What is to be written, once."""
        new = [blob for blob in self.new if blob.references]
        self.new = []
        for blob in new:
            blob.is_written = True
        return new

    def take_unnamed(self) -> list[Blob]:
        """What is to be deleted, once. Call it before `take_new`."""
        gone = []
        for blob in self.unnamed:
            if not blob.references and self._by_identity.get(id(blob.value)) is blob:
                del self._by_identity[id(blob.value)]
                if blob.is_written:
                    gone.append(blob)
        self.unnamed = []
        return gone

    def restore(self, texts: Iterable[tuple[int, bytes]]) -> RestoredBlobs:
        """Take over texts that are on the disk; those that nothing names then are deleted by the next group."""
        restored = RestoredBlobs(self._by_identity)
        for number, value in texts:
            restored.add(Blob(value, number, is_written=True))
            if number >= self._next_number:
                self._next_number = number + 1
        return restored

    def forget_unnamed(self, restored: RestoredBlobs) -> None:
        """Have the next group delete what nothing has named since `restore`."""
        self.unnamed += [blob for blob in restored.blobs() if not blob.references]

    def check_invariants(self) -> None:
        """Audit, O(n); raises AssertionError."""
        for identity, blob in self._by_identity.items():
            assert id(blob.value) == identity
            assert blob.references >= 0
            assert blob.references or blob in self.unnamed, "nothing would ever delete it"


class RestoredBlobs:
    """Texts of an earlier process by their number, while the rows that name them are read."""

    __slots__ = ("_by_identity", "_by_number")

    def __init__(self, by_identity: dict[int, Blob]) -> None:
        self._by_identity = by_identity
        self._by_number: dict[int, Blob] = {}

    def add(self, blob: Blob) -> None:
        """One text."""
        self._by_number[blob.number] = blob
        self._by_identity[id(blob.value)] = blob

    def get(self, number: int, is_binary: bool) -> bytes:
        """The text with this number. Raises KeyError when it is gone."""
        blob = self._by_number[number]
        if is_binary and type(blob.value) is not Binary:
            del self._by_identity[id(blob.value)]
            blob.value = Binary(blob.value)
            self._by_identity[id(blob.value)] = blob
        return blob.value

    def blobs(self) -> Iterable[Blob]:
        """All of them."""
        return self._by_number.values()
