"""The cache for people: prefixes, keys and values."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import pytest

from cubequeue_server.observe.console.lists import BadRequestError
from storage.vocabulary import CacheGet, CacheSet
from tests.console.scene import START_MS, Scene, request


def encoded(path: bytes) -> str:
    return urlsafe_b64encode(path).decode()


def scene() -> Scene:
    made = Scene()
    for number in range(5):
        made.run(CacheSet(b"big:k%d" % number, b"x" * 1_000, 60))
    made.run(CacheSet(b"many:A", b"1"), CacheSet(b"bare", b"2"))
    made.run(CacheGet(b"big:k0"), CacheGet(b"big:none"), CacheGet(b"many:A"))
    return made


async def listed(made: Scene, **asked: object) -> dict[str, Any]:
    return await made.cache.listed(request(**asked))


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["big", "many", ""]),
        ({"sort": "name"}, ["", "big", "many"]),
        ({"sort": "name", "order": "desc"}, ["many", "big", ""]),
        ({"sort": "reads"}, ["big", "many", ""]),
        ({"sort": "hit_rate"}, ["many", "big", ""]),
        ({"search": "MAN"}, ["many"]),
        ({"limit": 1, "offset": 1}, ["many"]),
    ],
)
async def test_prefixes(asked: dict[str, object], names: list[str]) -> None:
    assert [row["name"] for row in (await listed(scene(), **asked))["rows"]] == names


async def test_the_figures_of_a_prefix() -> None:
    answer = await listed(scene())
    big = answer["rows"][0]
    assert (big["entries"], big["hits"], big["misses"], big["id"]) == (5, 1, 1, encoded(b"big"))
    assert 5_000 < big["bytes"] < 6_000
    assert (answer["sums"]["entries"], answer["sums"]["hits"]) == (7, 2)


async def test_keys_are_paged_and_searched() -> None:
    made = scene()
    answer = await made.cache.keys(request(prefix=encoded(b"big"), limit=2, offset=1))
    assert [row["key"] for row in answer["rows"]] == ["k1", "k2"]
    assert (answer["total"], answer["next"]) == (5, 3)
    assert answer["rows"][0]["expire_ms"] == START_MS + 60_000
    assert [row["key"] for row in (await made.cache.keys(request(prefix="")))["rows"]] == ["bare"]
    found = await made.cache.keys(request(prefix=encoded(b"many"), search="a"))
    assert [row["key"] for row in found["rows"]] == ["A"]


async def test_a_value_is_shown_and_does_not_count_as_read() -> None:
    made = scene()
    entry = await made.cache.one(b"many:A")
    assert entry is not None
    assert (entry["key"], entry["prefix"], entry["value"]["text"], entry["expire_ms"]) == ("A", "many", "1", None)
    assert await made.cache.one(b"many:none") is None
    assert (await listed(made))["sums"]["hits"] == 2


async def test_sizes_are_measured_again_when_told() -> None:
    made = scene()
    assert (await listed(made))["sums"]["entries"] == 7
    made.run(CacheSet(b"new:k", b"x"))
    assert (await listed(made))["sums"]["entries"] == 7
    made.cache.forget_sizes()
    assert (await listed(made))["sums"]["entries"] == 8


@pytest.mark.parametrize("asked", [{"sort": "color"}, {"order": "up"}, {"limit": "x"}])
async def test_bad_parameters(asked: dict[str, str]) -> None:
    with pytest.raises(BadRequestError, match=next(iter(asked))):
        await listed(Scene(), **asked)
    with pytest.raises(BadRequestError, match="prefix"):
        await Scene().cache.keys(request())
