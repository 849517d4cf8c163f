"""An audit of the rows of a shared store: each index against each other, as `lua/head.lua` has the layout.

It reads the engine by a client of its own, and knows the layout from the page, not from the code.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from typing import Any

import redis

from cubequeue_server.engines.shared_store.shards import Shards, lane_of

ITEM = struct.Struct(">cQQQQQII8s16s16sIIIIcc")
COUNTERS = (
    "seq", "now", "due", "rdue", "cdue", "swept", "items", "active", "bytes", "results", "rbytes", "abytes",
    "undelivered", "entries", "cbytes", "stamp",
)  # fmt: skip


ZSETS = {"p", "a", "hb", "c", "o", "e", "rx", "uz", "uxz", "wx", "ci", "ce", "bx"}
SETS = {"hq", "hc", "hz"}


def audit(client: redis.Redis, shards: Shards) -> None:
    """Raises AssertionError."""
    content = _read(client)
    by_shard: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for key, value in content.items():
        tag, _, name = key.partition(b"}")
        by_shard[int(tag.rpartition(b":")[2])][name.decode("latin-1")] = value
    for shard, mine in by_shard.items():
        _Shard(shards, shard, mine).check()


def _read(client: redis.Redis) -> dict[bytes, Any]:
    """Everything, by key; of pieces their TTL."""
    keys: list[bytes] = client.keys()  # type: ignore[assignment]  # not async
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        name = key.partition(b"}")[2].decode("latin-1")
        if name.startswith("b:"):
            pipeline.ttl(key)
        elif name in {"s", "y"}:
            pipeline.get(key)
        elif name in ZSETS:
            pipeline.zrange(key, 0, -1, withscores=True)
        elif name in SETS:
            pipeline.smembers(key)
        else:
            pipeline.hgetall(key)
    return dict(zip(keys, pipeline.execute(), strict=True))


class _Shard:
    def __init__(self, shards: Shards, shard: int, content: dict[str, Any]) -> None:
        self.shards = shards
        self.shard = shard
        self.content = content
        raw = content.get("s")
        self.counters = dict(zip(COUNTERS, struct.unpack(">16Q", raw[:128]), strict=True)) if raw else None

    def hash(self, name: str) -> dict[bytes, bytes]:
        return dict(self.content.get(name, {}))

    def zset(self, name: str) -> set[bytes]:
        pairs = self.content.get(name, [])
        assert all(score == 0 for _, score in pairs)
        return {member for member, _ in pairs}

    def members(self, name: str) -> set[bytes]:
        return set(self.content.get(name, set()))

    def check(self) -> None:
        if self.counters is None:
            return
        holders: Counter[bytes] = Counter()
        self.check_items(holders)
        self.check_results(holders)
        self.check_cache(holders)
        self.check_answers(holders)
        self.check_waits(holders)
        self.check_pieces(holders)

    def value_size(self, stored: bytes, holders: Counter[bytes]) -> int:
        if stored[:1] in b"TB":
            holders[stored[1:17]] += 1
            return int.from_bytes(stored[17:25], "big")
        assert stored[:1] in b"tb"
        return len(stored) - 1

    def check_items(self, holders: Counter[bytes]) -> None:
        assert self.counters is not None
        rows, values = self.hash("d"), self.hash("v")
        expected: defaultdict[str, set[bytes]] = defaultdict(set)
        counts: defaultdict[bytes, list[int]] = defaultdict(lambda: [0, 0])
        paths, size_bytes, active, ends = {}, 0, 0, []
        for id8, row in rows.items():
            (status, beat, _, at, created, orphaned, size, extra, priority, lane, qlane, path_size, prefix_size,
             process_size, _, exclusive, kind) = ITEM.unpack_from(row)  # fmt: skip
            path = row[ITEM.size : ITEM.size + path_size]
            prefix, _, key = path.rpartition(b":")
            assert len(prefix) == prefix_size
            assert qlane == lane_of(prefix)
            process = row[ITEM.size + path_size :][: process_size - 1] if process_size else None
            assert lane == (lane_of(prefix, process) if exclusive == b"1" else qlane)
            assert int.from_bytes(id8, "big") % self.shards.count == self.shard
            assert self.shards.place(prefix)[0] == self.shard
            assert int.from_bytes(id8, "big") // self.shards.count <= self.counters["seq"]
            paths[path] = id8
            assert self.value_size(values[id8], holders) == size
            assert values[id8][:1] == kind
            stored_extra = values.get(id8 + b"x")
            assert extra == (0 if stored_extra is None else len(stored_extra) + 1)
            size_bytes += size + max(extra - 1, 0)
            expected["e"].add(_ms(at) + id8)
            ends.append(at)
            if status == b"p":
                counts[prefix][0] += 1
                expected["p"].add(lane + priority + id8)
                expected["o" if orphaned else "c"].add(qlane + _ms(orphaned or created) + id8)
            else:
                active += 1
                counts[prefix][1] += 1
                expected["a"].add(qlane + id8 + key)
                expected["hb"].add(qlane + _ms(beat) + id8)
        assert self.hash("k") == paths
        assert set(values) == set(rows) | {id8 + b"x" for id8 in rows if id8 + b"x" in values}
        for name in ("p", "a", "hb", "c", "o", "e"):
            assert self.zset(name) == expected[name], name
        assert self.hash("q") == {prefix: struct.pack(">II", *each) for prefix, each in counts.items()}
        assert (len(rows), active, size_bytes) == tuple(self.counters[name] for name in ("items", "active", "bytes"))
        assert not ends or 0 < self.counters["due"] <= min(ends)
        nonces = {value[1:17] for value in values.values() if value[:1] in b"TB" and len(value) == 29}
        self.queue_nonces = {nonce for nonce in nonces if nonce in holders}

    def check_results(self, holders: Counter[bytes]) -> None:
        assert self.counters is not None
        rows, values = self.hash("r"), self.hash("rv")
        assert set(rows) == set(values)
        newest: dict[bytes, bytes] = {}
        ends, size_bytes, expected = [], 0, set()
        for id8 in sorted(rows):
            flag, end, path_size, external_size = struct.unpack_from(">cQII", rows[id8])
            assert flag in (b"v", b"t")
            path = rows[id8][17 : 17 + path_size]
            newest[b"p" + path] = id8
            if external_size:
                newest[b"x" + struct.pack(">I", path_size) + path + rows[id8][17 + path_size :]] = id8
            expected.add(_ms(end) + id8)
            ends.append(end)
            size_bytes += self.value_size(values[id8], holders)
            if values[id8][:1] in b"TB":
                self.queue_nonces.add(values[id8][1:17])
        assert self.hash("rk") == newest
        assert self.zset("rx") == expected
        assert (len(rows), size_bytes) == (self.counters["results"], self.counters["rbytes"])
        assert not ends or 0 < self.counters["rdue"] <= min(ends)
        assert self.members("hq") == self.queue_nonces
        assert not self.hash("d").keys() & rows.keys(), "an item and its result both live"

    def check_cache(self, holders: Counter[bytes]) -> None:
        assert self.counters is not None
        rows, values = self.hash("ch"), self.hash("C")
        assert set(rows) == set(values)
        ordered, ending, size_bytes, ends, nonces = set(), set(), 0, [], set()
        for path, row in rows.items():
            end, order, size, _, _, kind, lane = struct.unpack_from(">QQQQBc16s", row)
            assert self.shards.of_path(path) == self.shard
            assert lane == lane_of(path.rpartition(b":")[0])
            assert order <= self.counters["seq"]
            assert values[path][:8] == _ms(end)
            stored = values[path][8:]
            assert stored[:1] == kind
            assert self.value_size(stored, holders) == size
            if kind in b"TB":
                assert row[50:] == stored[1:17]
                nonces.add(row[50:])
            ordered.add(lane + row[8:16] + path)
            if end:
                ending.add(_ms(end) + path)
                ends.append(end)
            size_bytes += len(path) + size + 160
        assert self.zset("ci") == ordered
        assert self.zset("ce") == ending
        assert (len(rows), size_bytes) == (self.counters["entries"], self.counters["cbytes"])
        assert not ends or 0 < self.counters["cdue"] <= min(ends)
        assert self.members("hc") == nonces

    def check_answers(self, holders: Counter[bytes]) -> None:
        assert self.counters is not None
        size_bytes = 0
        generations = {member[8:].partition(b"}")[2]: member[:8] for member in sorted(self.zset("uz"))}
        for name in self.content:
            if not name.startswith(("u0:", "u1:")):
                continue
            rows = self.hash(name)
            begun, held = struct.unpack(">QQ", rows.pop(b""))
            assert generations[name.encode("latin-1")] == _ms(begun)
            nonces = rows.pop(b"R", b"")
            rows = {field: row for field, row in rows.items() if field[:1] != b"?"}
            mine = [row[13:29] for row in rows.values() if row[12]]
            listed = [nonces[at : at + 16] for at in range(0, len(nonces), 16)]
            assert sorted(mine) == sorted(listed)
            holders.update(listed)
            assert sum(int.from_bytes(row[8:12], "big") for row in rows.values()) == held
            size_bytes += held
        undelivered = self.hash("ux")
        for row in undelivered.values():
            size_bytes += int.from_bytes(row[8:12], "big")
            if row[12]:
                holders[row[13:29]] += 1
        assert {member[8:] for member in self.zset("uxz")} == set(undelivered)
        assert (size_bytes, len(undelivered)) == (self.counters["abytes"], self.counters["undelivered"])

    def check_waits(self, holders: Counter[bytes]) -> None:
        expected = set()
        for field, row in self.hash("w").items():
            assert row
            assert len(row) % 16 == 0
            expected |= {row[at + 8 : at + 16] + b"w" + field for at in range(0, len(row), 16)}
        for field, row in self.hash("wo").items():
            expected |= {
                row[at + 8 : at + 16] + b"o" + field for at in range(0, len(row) if field[:1] == b"p" else 1, 24)
            }
            if field[:1] == b"i" and row[16:17] == b"v":
                external_size = int.from_bytes(row[17:21], "big")
                stored = row[21 + max(external_size - 1, 0) :]
                if stored[:1] in b"TB":
                    holders[stored[1:17]] += 1
        assert expected <= self.zset("wx")

    def check_pieces(self, holders: Counter[bytes]) -> None:
        held = {nonce: struct.unpack(">II", row) for nonce, row in self.hash("bq").items()}
        cleared = self.members("hz")
        for nonce in cleared:
            holders[nonce] += 1
        assert {nonce: count for nonce, (count, _) in held.items()} == dict(holders)
        ending = {member[8:24]: int.from_bytes(member[24:28], "big") for member in self.zset("bx")}
        wanted = {nonce: count for nonce, (_, count) in held.items()} | ending
        for nonce, count in wanted.items():
            for number in range(count):
                assert self.content[f"b:{nonce.decode()}:{number}"] == -1, f"a piece of {nonce!r} has a TTL"
        for name, ttl_s in self.content.items():
            if name.startswith("b:"):
                assert name.split(":")[1].encode() in wanted or ttl_s > 0, f"{name} is nobody's"


def _ms(ms: int) -> bytes:
    return ms.to_bytes(8, "big")
