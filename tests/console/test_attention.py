"""What is wrong, in words: each kind of trouble appears, with its link, and goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cubequeue_server.engines.upstream.counters import UpstreamCounters
from cubequeue_server.observe.console import attention
from cubequeue_server.observe.console.attention import Attention, duration
from cubequeue_server.observe.limits import Limit
from storage.vocabulary import QueueAdd, QueueHeartbeat, QueueRetrieve, QueueStalled
from tests.console.scene import WORKER, Scene


class Limits:
    """Limits that the test sets."""

    def __init__(self) -> None:
        self.found: list[Limit] = []

    async def measure(self) -> list[Limit]:
        return self.found


class Clients:
    """Connections that the test sets."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    async def rows(self) -> list[dict[str, Any]]:
        return self.found


class Watch:
    """A scene and what is wrong in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attention, "_FRESH_S", 0)
        self.scene = Scene()
        self.limits, self.clients = Limits(), Clients()
        self.upstream = UpstreamCounters(is_up=1)
        self._attention = Attention(
            replace(self.scene.sources, upstream=self.upstream),
            self.scene.queues,
            self.clients,  # type: ignore[arg-type]  # all that is asked of them
            self.limits,  # type: ignore[arg-type]
            self.scene.names,
        )

    async def texts(self, refusal: str | None = None) -> list[tuple[str, str, str]]:
        return [(each["kind"], each["severity"], each["text"]) for each in await self._attention.find(refusal)]

    async def links(self) -> list[str]:
        return [each["link"] for each in await self._attention.find(None)]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


async def test_nothing_is_wrong(watch: Watch) -> None:
    watch.scene.live(b"q:a", wait_ms=10, run_ms=10)
    assert await watch.texts() == []


async def test_stalled_items_and_their_owner(watch: Watch) -> None:
    scene = watch.scene
    scene.run(QueueAdd(b"sql:a", b"{}"), QueueAdd(b"sql:b", b"{}"))
    scene.run(QueueRetrieve(b"sql:a", 9), QueueRetrieve(b"sql:b", 9), caller=WORKER)
    scene.run(QueueStalled(b"sql", 5_000))
    scene.later(6_000)
    scene.run(QueueHeartbeat(b"sql:b"))
    assert await watch.texts() == [("stalled", "critical", "1 item has no heartbeat in sql, claimed by worker-1")]
    assert await watch.links() == ["#/queue/c3Fs"]
    scene.run(QueueHeartbeat(b"sql:a"))
    assert await watch.texts() == []


async def test_a_queue_that_is_late(watch: Watch) -> None:
    scene = watch.scene
    for number in range(40):
        scene.live(b"sql:%d" % number, wait_ms=100)
    scene.run(QueueAdd(b"sql:late", b"{}"))
    scene.later(999)
    assert await watch.texts() == []
    scene.later(90_000)
    [(kind, severity, text)] = await watch.texts()
    assert (kind, severity) == ("late", "warning")
    assert text.startswith("The oldest item of sql waits for 1 min 30 s; 95 % waited less than 1")


async def test_few_waits_are_no_usual_ones(watch: Watch) -> None:
    watch.scene.live(b"sql:a", wait_ms=100)
    watch.scene.run(QueueAdd(b"sql:late", b"{}"))
    watch.scene.later(90_000)
    assert await watch.texts() == []


async def test_refused_writes_come_first(watch: Watch) -> None:
    watch.limits.found = [Limit("items", 9, 10, "items", "CUBEQUEUE_QUEUE_MAX_ITEMS")]
    assert await watch.texts("refused: the disk is full") == [
        ("refused", "critical", "Writes are refused: the disk is full"),
        ("limit", "warning", "90% of items are used: 9 of 10 (CUBEQUEUE_QUEUE_MAX_ITEMS)"),
    ]


async def test_a_cubestore_behind_that_is_away(watch: Watch) -> None:
    watch.upstream.is_up, watch.upstream.waiting = 0, 3
    text = "The CubeStore of CUBEQUEUE_UPSTREAM cannot be reached, 3 statements wait for it"
    assert await watch.texts() == [("upstream", "critical", text)]
    watch.upstream.is_up = 1
    assert await watch.texts() == []


@pytest.mark.parametrize(
    ("name", "used", "found"),
    [
        ("items", 79, []),
        ("items", 80, [("limit", "warning")]),
        ("items", 95, [("limit", "critical")]),
        ("cache_bytes", 100, []),
        ("disk_bytes", 80, [("disk", "warning")]),
    ],
)
async def test_limits(watch: Watch, name: str, used: int, found: list[tuple[str, str]]) -> None:
    watch.limits.found = [Limit(name, used, 100, "things", "SETTING"), Limit("none", 0, 0, "things", "SETTING")]
    assert [(kind, severity) for kind, severity, _ in await watch.texts()] == found


async def test_a_client_that_sends_errors(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"number": 1, "errors": 2, "last_error": "no", "name": None, "process_id": "uuid", "peer": "10.0.0.1:7"}
    watch.clients.found = [row, {**row, "number": 2, "errors": 0}]
    assert await watch.texts() == [("errors", "warning", "uuid got 2 errors, the latest: no")]
    assert await watch.links() == ["#/clients?search=10.0.0.1%3A7"]
    monkeypatch.setattr(attention, "_RECENT_S", 0)  # no error came since
    assert await watch.texts() == []
    monkeypatch.setattr(attention, "_RECENT_S", 300)
    watch.clients.found = [{**row, "errors": 3}]
    assert await watch.texts() == [("errors", "warning", "uuid got 3 errors, the latest: no")]


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_500, "1.5 s"),
        (59_999, "60.0 s"),
        (90_000, "1 min 30 s"),
        (7_320_000, "2 h 2 min"),
    ],
)
def test_durations_for_people(ms: int, text: str) -> None:
    assert duration(ms) == text
