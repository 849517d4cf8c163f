"""The histograms of each queue as Prometheus text, a queue at a time: a library would hold the loop up for 20 ms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from storage.minutes import Durations
from storage.stats import QueueStats

# Bounds of 2 ms to 2.3 h, each twice the one before.
_BITS: Final = range(1, 24)
_BOUNDS: Final = tuple(f"{(1 << bits) / 1000:.12g}" for bits in _BITS)


def queue_histograms(totals: Mapping[str, QueueStats]) -> Iterator[bytes]:
    """The text in parts, each 0.1 ms of work. A queue without durations has no samples."""
    yield from _histogram(
        "cubequeue_queue_wait_seconds",
        "Time from ADD to claim, of claimed items.",
        {name: stats.waits for name, stats in totals.items()},
    )
    yield from _histogram(
        "cubequeue_queue_run_seconds",
        "Time from claim to ACK, of acknowledged items.",
        {name: stats.runs for name, stats in totals.items()},
    )


def _histogram(name: str, help_: str, queues: Mapping[str, Durations]) -> Iterator[bytes]:
    yield f"# HELP {name} {help_}\n# TYPE {name} histogram\n".encode()
    for queue, durations in queues.items():
        count = sum(durations[1:])
        if not count:
            continue
        label = queue.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        below = accumulate(durations[1 : _BITS.stop])
        lines = [
            f'{name}_bucket{{queue="{label}",le="{bound}"}} {times}'
            for bound, times in zip(_BOUNDS, below, strict=True)
        ]
        lines.append(f'{name}_bucket{{queue="{label}",le="+Inf"}} {count}')
        lines.append(f'{name}_count{{queue="{label}"}} {count}')
        lines.append(f'{name}_sum{{queue="{label}"}} {durations[0] / 1000}')
        yield ("\n".join(lines) + "\n").encode()
