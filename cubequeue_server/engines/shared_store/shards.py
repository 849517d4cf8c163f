"""Where things lie: the shard of a path or an id, its keys, and the lanes of its indexes (lua/head.lua)."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final
from zlib import crc32

from cubequeue_server.engines.shared_store.connection import bulks
from cubequeue_server.engines.shared_store.scripts import Script
from storage.vocabulary import Path, RequestKey

# Prefixes whose place is remembered; real deployments have a few dozen.
_MAX_REMEMBERED: Final = 4_096
# Ids go with the time since then (lua/head.lua): so they stay below 2^53 until 2096.
_EPOCH_MS: Final = 1_735_689_600_000
_IDS_PER_MS: Final = 4_000


def lane_of(prefix: Path, owner: bytes | None = None) -> bytes:
    """The lane of a prefix, or of the EXCLUSIVE items of one owner in it."""
    return blake2b(prefix if owner is None else b"%b\0%b" % (prefix, owner), digest_size=16).digest()


class Shards:
    """`count` shards under a name. A queue lies in one, a cache entry in that of its whole path."""

    def __init__(self, name: str, count: int) -> None:
        self.count = count
        self.tags = [b"{%b:%d}" % (name.encode(), shard) for shard in range(count)]
        self._places: dict[Path, tuple[int, bytes]] = {}
        self._heads: dict[tuple[Script, int], bytes] = {}

    def place(self, prefix: Path) -> tuple[int, bytes]:
        """The shard and the lane of a queue."""
        place = self._places.get(prefix)
        if place is None:
            if len(self._places) >= _MAX_REMEMBERED:
                self._places.clear()
            place = self._places[prefix] = crc32(prefix) % self.count, lane_of(prefix)
        return place

    def of_path(self, path: Path) -> int:
        """The shard of a cache entry."""
        return crc32(path) % self.count

    def of_id(self, id_: int) -> int:
        """The shard of an item."""
        return id_ % self.count

    def number_at(self, now_ms: int) -> int:
        """The lowest number (id / shards) that is given at a time of the store."""
        return max(now_ms - _EPOCH_MS, 0) * _IDS_PER_MS // self.count

    def key(self, shard: int, name: str) -> bytes:
        """A key of a shard."""
        return self.tags[shard] + name.encode()

    def head(self, script: Script, shard: int) -> bytes:
        """The beginning of a call, up to the keys that are of the shard; its arguments are as many as it names."""
        head = self._heads.get((script, shard))
        if head is None:
            head = self._heads[script, shard] = self.head_of(script, shard, 0, 0)
        return head

    def head_of(self, script: Script, shard: int, more_keys: int, more_args: int) -> bytes:
        """The same for a call with more keys or arguments than it names."""
        keys = len(script.keys) + more_keys
        words = 3 + keys + len(script.args) + more_args
        static = bulks([self.key(shard, name) for name in script.static_keys])
        return b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n%b%b" % (words, script.sha, bulks([b"%d" % keys]), static)

    def answer_keys(self, shard: int, request_key: RequestKey | None) -> bytes:
        """The two keys of a connection's kept answers, as words of a command."""
        tag = self.tags[shard]
        if request_key is None:
            size = len(tag) + 3
            return b"$%d\r\n%bu0:\r\n$%d\r\n%bu1:\r\n" % (size, tag, size, tag)
        user, connection, _ = request_key
        size = len(tag) + 4 + len(user) + len(connection)
        return b"$%d\r\n%bu0:%b\0%b\r\n$%d\r\n%bu1:%b\0%b\r\n" % (
            size, tag, user, connection, size, tag, user, connection,
        )  # fmt: skip

    def piece_keys(self, shard: int, nonce: bytes, count: int) -> list[bytes]:
        """The keys of a large value."""
        return [b"%bb:%b:%d" % (self.tags[shard], nonce, number) for number in range(count)]


def undo(source: bytes, script: Script) -> bytes:
    """A call by the hash of a script as one that brings its text along."""
    by_hash = b"$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % script.sha
    return source.replace(by_hash, b"$4\r\nEVAL\r\n%b" % bulks([script.source]), 1)
