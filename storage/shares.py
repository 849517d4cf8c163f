"""Bounded room for kept answers, shared so that no client takes it from the others.

The room is shared by a dynamic threshold: the more of it is used, the less may one owner hold.

    an owner (a user, or an address where there is none)    goes on while it holds no more than what is free
    an owner that holds more                                goes on by connections that hold little, up to three times
                                                            what is free

An owner thus gets half of what the others leave, three quarters by many connections: something is always left for the
next one. Connection ids alone cannot take more, because a client chooses these itself.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from storage.errors import UserError
from storage.vocabulary import RequestKey

# The name of a user, or an address of a client without one.
OwnerName: TypeAlias = bytes | str

# An owner over its own threshold holds up to so many times what is free, by connections that hold a part of it at most.
_OWNER_TIMES = 3
_CONNECTION_PART = 4


class Owner:
    """What one user or address holds in a pool, by connection id."""

    __slots__ = ("connections", "is_refused", "name", "pool", "size_bytes")

    def __init__(self, name: OwnerName, pool: Pool) -> None:
        self.name = name
        self.pool = pool
        self.connections: dict[bytes, Share] = {}
        self.size_bytes = 0
        self.is_refused = False  # since it holds something


class Share:
    """What one connection id of an owner holds."""

    __slots__ = ("connection_id", "owner", "size_bytes")

    def __init__(self, connection_id: bytes, owner: Owner) -> None:
        self.connection_id = connection_id
        self.owner = owner
        self.size_bytes = 0


class Pool:
    """The room of one kind of answers. `confirmed` are the keys of those that may go, the oldest first.

    Answers are counted in three places: here, with their owner and with their connection. The caller adds the bytes;
    `take` takes them away. Every operation is O(1).
    """

    __slots__ = (
        "_kind",
        "confirmed",
        "give_way_bytes",
        "max_bytes",
        "owners",
        "refusals",
        "refused_owners",
        "size_bytes",
    )

    def __init__(self, kind: str, max_bytes: int, give_way_bytes: int) -> None:
        self._kind = kind
        self.max_bytes = max_bytes
        self.give_way_bytes = min(give_way_bytes, max_bytes // 2)  # nobody is over a threshold below that
        self.owners: dict[OwnerName, Owner] = {}
        self.confirmed: deque[RequestKey] = deque()  # in the order of confirmation; some may be gone meanwhile
        self.size_bytes = 0
        self.refusals = 0
        self.refused_owners = 0  # that hold something

    def share(self, name: OwnerName, connection_id: bytes) -> Share:
        """The share of a connection, a new one if it holds nothing yet."""
        owner = self.owners.get(name)
        if owner is None:
            owner = self.owners[name] = Owner(name, self)
        share = owner.connections.get(connection_id)
        if share is None:
            share = owner.connections[connection_id] = Share(connection_id, owner)
        return share

    def take(self, share: Share, size_bytes: int) -> None:
        """A connection holds so much less."""
        owner = share.owner
        share.size_bytes -= size_bytes
        owner.size_bytes -= size_bytes
        self.size_bytes -= size_bytes
        if not share.size_bytes:
            del owner.connections[share.connection_id]
            if not owner.connections:
                del self.owners[owner.name]
                self.refused_owners -= owner.is_refused

    def has_room(self, key: RequestKey, host: str) -> bool:
        """Whether the sender of this request may have another answer kept. Pointless below `give_way_bytes`."""
        free = self.max_bytes - self.size_bytes
        if free <= 0:
            return False
        owner = self.owners.get(key[0] or host)
        if owner is None or owner.size_bytes <= free:
            return True
        share = owner.connections.get(key[1])
        held = 0 if share is None else share.size_bytes
        return owner.size_bytes <= _OWNER_TIMES * free and held * _CONNECTION_PART <= free

    def demand_room(self, key: RequestKey, host: str) -> None:
        """Raise `UserError` when the sender of this request has used up its share."""
        if self.has_room(key, host):
            return
        self.refusals += 1
        owner = self.owners.get(key[0] or host)
        if owner is not None and not owner.is_refused:
            owner.is_refused = True
            self.refused_owners += 1
        held, who = 0 if owner is None else owner.size_bytes, _described(key[0], host)
        raise UserError(
            f"refused: the answers kept for clients that might ask again fill the share of {who}: {held} bytes of"
            f" {self._kind} that are not known to have arrived. CUBEQUEUE_ANSWERS_MAX_SIZE gives {self.max_bytes} bytes"
            f" to all clients, of which {max(0, self.max_bytes - self.size_bytes)} are free"
        )


def _described(user: bytes, host: str) -> str:
    return f"user '{user.decode(errors='replace')}'" if user else f"address {host or 'unknown'}"
