"""Metrics of several workers as those of one: what counts is added up, what says where one stands is not."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from notifier.telemetry.definitions import ALL, PREFIX, Combine

# Of these all workers say the same, or one speaks for the others: the worst, or the one who is behind.
_COMBINE: dict[str, Combine] = {
    **{PREFIX + definition.name: definition.combine for definition in ALL},
    "python_info": max,
    "process_start_time_seconds": min,
}
Key = tuple[str, tuple[tuple[str, str], ...]]


def merged(texts: Sequence[bytes]) -> bytes:
    """One exposition text out of several."""
    registry = CollectorRegistry()
    registry.register(_Several(texts))
    return generate_latest(registry)


class _Several(Collector):
    def __init__(self, texts: Sequence[bytes]) -> None:
        self._texts = texts

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        samples: dict[str, dict[Key, Sample]] = {}
        for text in self._texts:
            for family in text_string_to_metric_families(text.decode()):
                families.setdefault(family.name, family)
                _add(samples.setdefault(family.name, {}), family)
        for name, family in families.items():
            family.samples[:] = samples[name].values()
            yield family


def _add(into: dict[Key, Sample], family: Metric) -> None:
    combine: Combine = _COMBINE.get(family.name, operator.add)
    for sample in family.samples:
        key = sample.name, tuple(sorted(sample.labels.items()))
        known = into.get(key)
        into[key] = sample if known is None else Sample(sample.name, sample.labels, combine(known.value, sample.value))
