"""Prometheus metrics, read from the worker's plain counters when scraped; `definitions` says which there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from notifier.core.node import Node
from notifier.core.stats import Histogram
from notifier.telemetry.definitions import ALL, PREFIX, Definition, Kind

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
        for definition in ALL:
            found = definition.read(self._node)
            if isinstance(found, Histogram):
                yield _histogram(definition, found)
            elif found is not None:
                yield _family(definition, found)


def _family(definition: Definition, found: float | Mapping[Any, float]) -> Metric:
    kind = CounterMetricFamily if definition.kind is Kind.COUNTER else GaugeMetricFamily
    name = PREFIX + definition.name
    if not isinstance(found, Mapping):
        return kind(name, definition.text, found)
    family = kind(name, definition.text, labels=[definition.label])
    for value, number in found.items():
        family.add_metric([str(value)], number)
    return family


def _histogram(definition: Definition, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(PREFIX + definition.name, definition.text, buckets=buckets, sum_value=histogram.total)
