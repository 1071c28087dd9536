"""Prometheus metrics, read from the worker's plain counters when scraped. Labels come from closed sets only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from notifier.core.node import Node
from notifier.core.stats import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The registry of one worker."""

    def __init__(self, node: Node) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, GCCollector, PlatformCollector):
            collector(registry=self._registry)
        self._registry.register(NodeCollector(node))

    def text(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)


class NodeCollector(Collector):
    """All of a node's numbers as metric families."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterable[Metric]:
        yield from self._gauges()
        yield from self._counters()
        yield from self._labelled()
        yield from self._histograms()

    def _gauges(self) -> Iterable[Metric]:
        node, history = self._node, self._node.history
        for name, text, value in (
            ("subscriptions", "Subscriptions of connected clients.", node.stats.subscriptions),
            ("channels", "Channels with subscribers.", len(node.hub)),
            ("history_bytes", "Bytes of retained publications.", history.size_bytes),
            ("history_publications", "Retained publications.", history.publications),
            ("history_channels", "Channels whose last offset is known.", history.channels),
            ("log_end", "Offset of the last record read.", history.end),
            ("log_known_from", "Position from which nothing was missed.", history.known_from),
            ("log_ready", "1 when all of the log has been read since the start.", int(node.log.ready)),
            ("log_up", "1 when the log works now.", int(not node.log.problem)),
            ("log_lag_seconds", "Age of the last marker that was read back.", node.log.lag_s),
            ("log_publishing_blocked", "1 when the broker holds publishers back.", int(node.log.blocked)),
            ("draining", "1 while clients are moved off.", int(node.draining)),
        ):
            yield GaugeMetricFamily(f"notifier_{name}", text, value)

    def _counters(self) -> Iterable[Metric]:
        stats = self._node.stats
        for name, text, value in (
            ("publications", "Publications read from the log.", stats.publications),
            ("repeats", "Records dropped as repeats of a message id.", stats.repeats),
            ("outdated", "Records dropped as older versions of a channel's state.", stats.outdated),
            ("unruled", "Publications on channels that no rule matches.", stats.unruled),
            ("deliveries", "Publications written to connections.", stats.deliveries),
            ("delivered_bytes", "Bytes of them.", stats.delivered_bytes),
            ("encodings", "Publications encoded; deliveries share them.", stats.encodings),
            ("log_resets", "Times the log was found made anew.", stats.log_reset),
            ("log_holes", "Times records were gone before they were read.", stats.log_holes),
        ):
            yield CounterMetricFamily(f"notifier_{name}", text, value)

    def _labelled(self) -> Iterable[Metric]:
        stats = self._node.stats
        gauges: tuple[tuple[str, str, str, Counter[Any]], ...] = (
            ("connections", "Open connections.", "transport", stats.connections),
            ("clients", "Connections whose client has connected.", "transport", stats.connected),
        )
        for name, text, label, values in gauges:
            yield _family(GaugeMetricFamily, name, text, label, values)
        counters: tuple[tuple[str, str, str, Counter[Any]], ...] = (
            ("rejected", "Records that are no publications.", "reason", stats.rejected),
            ("disconnects", "Connections ended by the server.", "code", stats.disconnects),
            ("errors", "Commands answered with an error.", "code", stats.errors),
            ("commands", "Commands by method.", "method", stats.commands),
            ("recoveries", "Positions judged, by verdict.", "verdict", stats.recoveries),
            ("reconnects", "Attempts to reach the broker again.", "connection", stats.reconnects),
        )
        for name, text, label, values in counters:
            yield _family(CounterMetricFamily, name, text, label, values)

    def _histograms(self) -> Iterable[Metric]:
        stats = self._node.stats
        for name, text, histogram in (
            ("flush_frames", "Frames written in one flush.", stats.flush_frames),
            ("flush_seconds", "Time of one flush.", stats.flush_seconds),
            ("record_to_socket_seconds", "From the first record of a tick to its last write.", stats.record_to_socket),
            ("append_to_read_seconds", "From appending to reading it back, through the broker.", stats.append_to_read),
            ("loop_lag_seconds", "How late the event loop was.", stats.loop_lag),
        ):
            yield _histogram(name, text, histogram)


def _family(
    kind: type[GaugeMetricFamily | CounterMetricFamily], name: str, text: str, label: str, values: Counter[Any]
) -> Metric:
    family = kind(f"notifier_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([str(value)], number)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(f"notifier_{name}", text, buckets=buckets, sum_value=histogram.total)
