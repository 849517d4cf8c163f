"""Hits and misses of GET by prefix, and who waits for which queue."""

from __future__ import annotations

import random

from storage.asking import ANYBODY
from storage.limits import AnswerLimits, CacheLimits, QueueLimits
from storage.memory import MemoryStore
from storage.stats import PrefixTotalsTable
from storage.vocabulary import CacheClear, CacheGet, CacheSet, QueueAdd, QueueResultBlocking, Statement
from tests.asking import Told, rows_of, run
from tests.audit import audit


def ask(store: MemoryStore, *statements: Statement) -> None:
    for statement in statements:
        store.execute(statement, ANYBODY, None, 1_000_000)


def new_store() -> MemoryStore:
    return MemoryStore(QueueLimits(), CacheLimits(), AnswerLimits(), 1, random.Random(7).random, Told)


def test_hits_and_misses_by_prefix_outlive_the_entries() -> None:
    store = new_store()
    ask(store, CacheGet(b"p:1"), CacheSet(b"p:1", b""), CacheGet(b"p:1"), CacheGet(b"p:1"), CacheGet(b"q"))
    ask(store, CacheClear(), CacheGet(b"p:1"), CacheSet(b"p:2", b""), CacheGet(b"p:2"))
    totals = run(store.cache_totals())
    assert {prefix: (each.hits, each.misses) for prefix, each in totals.named.items()} == {b"p": (3, 2), b"": (0, 1)}
    assert (store.gauges()["cache_hits"], store.gauges()["cache_misses"]) == (3, 3)
    audit(store)


def test_names_are_bounded() -> None:
    table = PrefixTotalsTable(2)
    for number in range(5):
        table.of(b"%d" % number).hits += 1
        table.of(b"%d" % number).misses += 2
    assert list(table.named) == [b"0", b"1"]
    assert (table.other.hits, table.hits, table.misses) == (3, 5, 10)


def test_who_waits_for_which_item() -> None:
    store = new_store()
    ask(store, QueueAdd(b"q:a", b""))
    ask(store, *(QueueResultBlocking(key, 1_000) for key in (b"q:a", b"q:a", 1, b"r:b", 999)))
    assert sorted(run(rows_of(store.waited_paths())), key=str) == [None, b"q:a", b"q:a", b"q:a", b"r:b"]
