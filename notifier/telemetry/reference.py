"""Reference: `docs/metrics.md`, made from the definitions."""

from __future__ import annotations

import operator
from operator import attrgetter

from notifier.telemetry.definitions import ALL, Definition, Kind

_HEAD = """\
# Metrics

What `/metrics` answers, in the text format of Prometheus. Made by `make metrics` from
`notifier/telemetry/definitions.py`; do not edit by hand.

With several workers a node answers for all of them: what counts is added up; of what says where one stands, it gives
the least or the greatest, as the last column says. `deploy/prometheus/alerts.yml` has alerts,
`deploy/grafana/notifier.json` a dashboard.

**Latency.** `notifier_broker_to_socket_seconds` is the whole way of a notification through this server: from when its
record was on its way to the log until the last write of the flush that delivers it. One observation a flush, of its
oldest record. Where a record's beginning is known:

* what this worker appends itself: publications through the API and of its clients, and the marker that it writes every
  `log.marker_interval`, so that the metric is there also while nothing else is published. By a steady clock;
* records with the header `timestamp_in_ms`, which RabbitMQ writes when it is told to (from 3.12 on
  `message_interceptors.incoming.set_header_timestamp.overwrite = false` in `rabbitmq.conf`), or a publisher. By wall
  clocks, so as good as the machines agree on the time.

`notifier_append_to_read_seconds` is the broker's part of it and `notifier_record_to_socket_seconds` this server's.
"""

_TAIL = """
## Of the process

`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`,
`process_max_fds` and `process_start_time_seconds`, `python_info`, and `python_gc_collections_total`,
`python_gc_objects_collected_total` and `python_gc_objects_uncollectable_total` by `generation`, as Prometheus's client
for Python defines them.
"""

_TOGETHER = {operator.add: "sum", min: "least", max: "greatest"}
_TITLES = {Kind.GAUGE: "Gauges", Kind.COUNTER: "Counters", Kind.HISTOGRAM: "Histograms"}


def reference() -> str:
    """The whole page."""
    return _HEAD + "".join(map(_section, Kind)) + _TAIL


def _section(kind: Kind) -> str:
    found = sorted((each for each in ALL if each.kind is kind), key=attrgetter("name"))
    lines = [
        f"\n## {_TITLES[kind]}\n",
        "| metric | meaning | label | workers |",
        "|---|---|---|---|",
        *map(_row, found),
    ]
    return "\n".join(lines) + "\n"


def _row(definition: Definition) -> str:
    label = f"`{definition.label}`: {definition.values}" if definition.label else ""
    return f"| `{definition.full_name}` | {definition.text} | {label} | {_TOGETHER[definition.combine]} |"
