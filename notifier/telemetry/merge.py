"""Metrics of several workers as those of one: what counts is added up, what says where one stands is not."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

# Of these all workers say the same, or one speaks for the others: the worst, or the one who is behind.
_ELSE: dict[str, Callable[[float, float], float]] = {
    "notifier_log_end": min,
    "notifier_log_known_from": max,
    "notifier_log_ready": min,
    "notifier_log_up": min,
    "notifier_log_lag_seconds": max,
    "notifier_log_publishing_blocked": max,
    "notifier_draining": max,
    "python_info": max,
    "process_start_time_seconds": min,
    "process_max_fds": min,
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
    combine: Callable[[float, float], float] = _ELSE.get(family.name, operator.add)
    for sample in family.samples:
        key = sample.name, tuple(sorted(sample.labels.items()))
        known = into.get(key)
        into[key] = sample if known is None else Sample(sample.name, sample.labels, combine(known.value, sample.value))
