"""The outermost table of every message, cut around what differs from one to the next (wire.md §4)."""

from __future__ import annotations

from protocol.flat import Block, Scalar, message, table


def cut_message(command_type: int, command: Block, tail: Block, connection: Block | None = None) -> tuple[bytes, bytes]:
    """An HttpMessage as the bytes before its message id and those after it, without the `tail` it ends in.

    The tail is what the command ends in: other bytes can take its place, if what refers to them stays true.
    """
    root = table(Scalar("I", 0), Scalar("B", command_type), command, connection, tail=2)
    whole = message(root)
    id_at = len(whole) - len(root.data) + root.target + 4  # the first field of the table
    return whole[:id_at], whole[id_at + 4 : len(whole) - len(tail.data)]
