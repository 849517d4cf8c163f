"""The metrics as Prometheus text. Imported with the first scrape: the library costs 3 MB and 50 ms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily as Counter
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from cubequeue_server.observe.counters import Histogram, count, cumulative, sum_s
from cubequeue_server.observe.limits import Limit
from cubequeue_server.observe.metrics import families
from cubequeue_server.observe.metrics.sources import Sources
from cubequeue_server.version import __version__
from storage.stats import QueueFigures, QueueStats
from storage.vocabulary import Statement

# Powers of two of nanoseconds: 1 µs to 17 s for work, 1 ms to 73 min for waits and the lag of the loop.
_WORK_BITS = range(10, 35, 2)
_WAIT_BITS = range(20, 43, 2)
_MAX_REASON = 200
_QUEUE, _QUEUE_STATE, _QUEUE_REASON = ["queue"], ["queue", "state"], ["queue", "reason"]
# The label of each count of ended items.
_REASONS = {
    "acknowledged": "acknowledged", "error": "errors", "expired": "expired", "stalled": "stalled",
    "orphaned": "orphaned", "manual": "manual",
}  # fmt: skip


class Exposition(Collector):
    """Writes what the sources say as text."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._queues: list[tuple[str, QueueFigures]] = []
        self._totals: Mapping[str, QueueStats] = {}
        self._limits: Sequence[Limit] = ()
        self._failure: str | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(
        self,
        queues: list[tuple[str, QueueFigures]],
        totals: Mapping[str, QueueStats],
        limits: Sequence[Limit] = (),
        failure: str | None = None,
    ) -> bytes:
        """The exposition; `queues` and `totals` are those of the sources. A few milliseconds of work.

        `failure` says why writes are refused now.
        """
        self._queues, self._totals, self._limits, self._failure = queues, totals, limits, failure
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the metrics depend on what has happened."""
        return ()

    def collect(self) -> Iterator[Metric]:
        sources = self._sources
        values = sources.values()
        yield InfoMetricFamily("cubequeue_build", "The version, always 1.", {"version": __version__})
        yield from _simple(families.TOTALS, values, Counter)
        yield from _simple(families.GAUGES, values, Gauge)
        yield _by_command(
            "cubequeue_command_seconds",
            "Processing time of statements, from parsing to the encoded answer.",
            sources.counters.durations,
            _WORK_BITS,
        )
        yield _by_command(
            "cubequeue_wait_seconds",
            "Time to the answers that had to wait for a result or for the journal.",
            sources.counters.waits,
            _WAIT_BITS,
        )
        loop = HistogramMetricFamily("cubequeue_loop_lag_seconds", "Lag of the event loop, measured 4 times a second.")
        _add_histogram(loop, [], sources.loop_lags, _WAIT_BITS)
        yield loop
        yield from self._of_upstream()
        yield from self._limits_and_readiness()
        yield from self._queue_figures()
        yield from self._queue_totals()

    def _of_upstream(self) -> Iterator[Metric]:
        upstream = self._sources.upstream
        if upstream is not None:
            help_ = "The version that the upstream CubeStore announces, always 1."
            yield InfoMetricFamily("cubequeue_upstream", help_, {"version": upstream.version})
            seconds = HistogramMetricFamily(
                "cubequeue_upstream_seconds", "Time to the answers of the upstream CubeStore, waits included."
            )
            _add_histogram(seconds, [], upstream.seconds, _WAIT_BITS)
            yield seconds

    def _limits_and_readiness(self) -> Iterator[Metric]:
        limits = Gauge("cubequeue_limit", "Limits, in bytes or in things.", labels=["limit"])
        used = Gauge("cubequeue_limit_used", "What is used of each limit.", labels=["limit"])
        for limit in self._limits:
            limits.add_metric([limit.name], limit.limit)
            used.add_metric([limit.name], limit.used)
        ready = Gauge(
            "cubequeue_ready", "1 when writes are accepted, else 0; the label says why they are not.", labels=["reason"]
        )
        ready.add_metric([(self._failure or "")[:_MAX_REASON]], int(self._failure is None))
        return iter((limits, used, ready))

    def _queue_figures(self) -> Iterator[Metric]:
        items = Gauge("cubequeue_queue_items", "Items of the deepest queues and of all others.", labels=_QUEUE_STATE)
        oldest = Gauge("cubequeue_queue_oldest_pending_seconds", "Age of the oldest pending item.", labels=_QUEUE)
        heartbeat = Gauge(
            "cubequeue_queue_oldest_heartbeat_seconds", "Age of the oldest heartbeat of an active item.", labels=_QUEUE
        )
        for name, queue in self._queues:
            items.add_metric([name, "pending"], queue.pending)
            items.add_metric([name, "active"], queue.active)
            oldest.add_metric([name], (queue.oldest_pending_ms or 0) / 1000)
            heartbeat.add_metric([name], (queue.oldest_heartbeat_ms or 0) / 1000)
        return iter((items, oldest, heartbeat))

    def _queue_totals(self) -> Iterator[Metric]:
        added = Counter("cubequeue_queue_added_total", "Items added.", labels=_QUEUE)
        claimed = Counter("cubequeue_queue_claimed_total", "Items claimed.", labels=_QUEUE)
        waited = Counter(
            "cubequeue_queue_waited_seconds_total", "Time from ADD to claim, of claimed items.", labels=_QUEUE
        )
        ended = Counter(
            "cubequeue_queue_ended_total",
            "Items that left, by reason; stalled, orphaned and manual ones were cancelled.",
            labels=_QUEUE_REASON,
        )
        for name, queue in self._totals.items():
            added.add_metric([name], queue.added)
            claimed.add_metric([name], queue.claimed)
            waited.add_metric([name], queue.waits[0] / 1000)
            for reason, count_name in _REASONS.items():
                ended.add_metric([name, reason], getattr(queue, count_name))
        return iter((added, claimed, waited, ended))


def _simple(
    table: Iterable[families.Family], values: Mapping[str, float], kind: type[Counter | Gauge]
) -> Iterator[Metric]:
    """The metrics of a table whose numbers exist."""
    present = [family for family in table if family.source in values]
    for name, group in groupby(present, attrgetter("name")):
        rows = list(group)
        labels = [rows[0].label[0]] if rows[0].label is not None else []
        metric = kind(name, rows[0].help, labels=labels)
        for row in rows:
            metric.add_metric([row.label[1]] if row.label is not None else [], values[row.source])
        yield metric


def _by_command(
    name: str, help_: str, histograms: Mapping[type[Statement], Histogram], bits: range
) -> HistogramMetricFamily:
    metric = HistogramMetricFamily(name, help_, labels=["family", "command"])
    for statement, histogram in histograms.items():
        _add_histogram(metric, [statement.family, statement.command], histogram, bits)
    return metric


def _add_histogram(metric: HistogramMetricFamily, labels: list[str], histogram: Histogram, bits: range) -> None:
    buckets = [(repr(bound_s), float(below)) for bound_s, below in cumulative(histogram, bits)]
    metric.add_metric(labels, [*buckets, ("+Inf", float(count(histogram)))], sum_s(histogram))
