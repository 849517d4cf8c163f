"""The count of what changed in state that is to outlast the process."""

from __future__ import annotations


class Effects:
    """One object a store, told of every row that is put or deleted.

    `seq` rises with each: it tells whether a statement changed anything, and numbers what replies wait for.
    """

    __slots__ = ("seq",)

    def __init__(self) -> None:
        self.seq = 0
