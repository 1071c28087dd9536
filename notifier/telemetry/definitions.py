"""Definitions: every metric of a worker, in one table: name, kind, meaning, labels, and how it is read from the node.

`docs/metrics.md` is made from it. Labels come from closed sets only, so that nobody outside decides how many series
there are.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct

from notifier.core.node import Node
from notifier.core.stats import Histogram

PREFIX = "notifier_"
Combine = Callable[[float, float], float]


class Kind(StrEnum):
    """The kinds of Prometheus."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Definition(Struct, frozen=True):
    """`name` is without the prefix, and that of a counter without `_total`. `read` answers a number, for a metric with
    a label the numbers by its values, for a histogram the histogram; None where there is nothing to measure, as without
    Redis. `values` are the label's, for people. `combine` makes one number of those of two workers.
    """

    name: str
    kind: Kind
    text: str
    read: Callable[[Node], float | Mapping[Any, float] | Histogram | None]
    label: str = ""
    values: str = ""
    combine: Combine = operator.add

    @property
    def full_name(self) -> str:
        """As it is scraped."""
        return f"{PREFIX}{self.name}{'_total' * (self.kind is Kind.COUNTER)}"


def _gauge(name: str, text: str, read: Callable[[Node], float | None], combine: Combine = operator.add) -> Definition:
    return Definition(name, Kind.GAUGE, text, read, combine=combine)


def _by(kind: Kind, name: str, text: str, read: Callable[[Node], Counter[Any]], label: str, values: str) -> Definition:
    return Definition(name, kind, text, read, label=label, values=values)


def _counter(name: str, text: str, read: Callable[[Node], float]) -> Definition:
    return Definition(name, Kind.COUNTER, text, read)


def _histogram(name: str, text: str, read: Callable[[Node], Histogram]) -> Definition:
    return Definition(name, Kind.HISTOGRAM, text, read)


_TRANSPORTS = "websocket, http_stream, emulated_sse, sse, ws, uni_websocket, uni_sse, uni_http_stream"

_GAUGES = (
    Definition(
        "build_info", Kind.GAUGE, "1, by version.", lambda n: {n.version: 1}, "version", "one a process", combine=max
    ),
    _by(Kind.GAUGE, "connections", "Open connections.", lambda n: n.stats.connections, "transport", _TRANSPORTS),
    _by(
        Kind.GAUGE, "clients", "Connections whose client has connected.", lambda n: n.stats.connected,
        "transport", _TRANSPORTS,
    ),
    _gauge("subscriptions", "Subscriptions of connected clients.", lambda n: n.stats.subscriptions),
    _gauge("channels", "Channels with subscribers.", lambda n: len(n.hub)),
    _gauge("history_bytes", "Bytes of retained publications.", lambda n: n.history.size_bytes),
    _gauge("history_publications", "Retained publications.", lambda n: n.history.publications),
    _gauge("history_channels", "Channels whose last offset is known.", lambda n: n.history.channels),
    _gauge("log_end", "Offset of the last record read.", lambda n: n.history.end, min),
    _gauge("log_known_from", "Position from which nothing was missed.", lambda n: n.history.known_from, max),
    _gauge("log_ready", "1 when all of the log has been read since the start.", lambda n: int(n.log.ready), min),
    _gauge("log_up", "1 when the log works now.", lambda n: int(not n.log.problem), min),
    _gauge("log_lag_seconds", "Age of the last marker that was read back.", lambda n: n.log.lag_s, max),
    _gauge("log_publishing_blocked", "1 when the broker holds publishers back.", lambda n: int(n.log.blocked), max),
    _gauge("archive_lag", "Places of the log that the archive is behind its end.", lambda n: n.stats.archive_lag, max),
    _gauge("archive_filling", "1 at the worker that fills the archive.", lambda n: n.stats.archive_filling),
    _gauge("draining", "1 while clients are moved off.", lambda n: int(n.draining), max),
    _gauge("going", "Disconnected clients whose connections are not gone yet.", lambda n: len(n.going)),
    _gauge("waiting", "Newcomers that wait to be let in.", lambda n: n.stats.waiting),
    _gauge("redis_up", "1 when Redis works now; absent without Redis.", lambda n: n.stats.redis_up, min),
    _gauge(
        "certificate_expiry_timestamp_seconds",
        "Wall time at which the TLS certificate in use expires; absent without TLS.",
        lambda n: n.stats.certificate_expires_at,
        min,
    ),
)  # fmt: skip

_COUNTERS = (
    _counter("publications", "Publications read from the log.", lambda n: n.stats.publications),
    _counter("repeats", "Records dropped as repeats of a message id.", lambda n: n.stats.repeats),
    _counter("outdated", "Records dropped as older versions of a channel's state.", lambda n: n.stats.outdated),
    _counter("unruled", "Publications on channels that no rule matches.", lambda n: n.stats.unruled),
    _counter("deliveries", "Publications written to connections.", lambda n: n.stats.deliveries),
    _counter("delivered_bytes", "Bytes of them.", lambda n: n.stats.delivered_bytes),
    _counter("encodings", "Publications encoded; deliveries share them.", lambda n: n.stats.encodings),
    _counter("redis_calls", "Calls to Redis.", lambda n: n.stats.redis_calls),
    _counter("log_resets", "Times the log was found made anew.", lambda n: n.stats.log_reset),
    _counter("log_holes", "Times records were gone before they were read.", lambda n: n.stats.log_holes),
    _counter(
        "archive_entries", "Publications written to the archive, and removals.", lambda n: n.stats.archive_entries
    ),
    _counter("archive_reads", "Times the archive was asked.", lambda n: n.stats.archive_reads),
    _by(
        Kind.COUNTER, "rejected", "Records that are no publications.", lambda n: n.stats.rejected, "reason",
        "not_json, not_utf8, too_large, bad_channel, bad_type, bad_header, bad_expiration, bad_marker, bad_order, "
        "internal; of orders between workers: bad_control, too_many_control",
    ),
    _by(
        Kind.COUNTER, "disconnects", "Connections ended by the server.", lambda n: n.stats.disconnects, "code",
        "the protocol's codes, such as 3001 shutdown, 3008 slow, 3012 no pong, 3500 invalid token; other: of backends",
    ),
    _by(
        Kind.COUNTER, "errors", "Commands answered with an error.", lambda n: n.stats.errors, "code",
        "the protocol's codes, 100 to 112; other: of backends",
    ),
    _by(
        Kind.COUNTER, "commands", "Commands by method.", lambda n: n.stats.commands, "method",
        "connect, subscribe, publish and the protocol's others",
    ),
    _by(
        Kind.COUNTER, "recoveries", "Positions judged, by verdict.", lambda n: n.stats.recoveries, "verdict",
        "recovered, no_history, other_epoch, not_known, trimmed, ahead",
    ),
    _by(
        Kind.COUNTER, "archive_failures", "Reads and writes that failed.", lambda n: n.stats.archive_failures, "kind",
        "read, write, slow",
    ),
    _by(
        Kind.COUNTER, "refused", "Connects and publications that were not taken.", lambda n: n.stats.refused, "reason",
        "address_connects, address_connections, user_connects, user_publishes, user_connections, storm, full, leaving, "
        "not_ready, operator",
    ),
    _by(
        Kind.COUNTER, "redis_failed_calls", "Calls to Redis that failed.", lambda n: n.stats.redis_failed, "reason",
        "away, timeout, out_of_memory and other kinds of failure",
    ),
    _by(
        Kind.COUNTER, "reconnects", "Attempts to reach the broker again.", lambda n: n.stats.reconnects, "connection",
        "reading, publishing, control, archive",
    ),
)  # fmt: skip

_HISTOGRAMS = (
    _histogram(
        "broker_to_socket_seconds",
        "From when a record was on its way to the log to the last write of the flush that delivers it; the oldest "
        "record of a flush.",
        lambda n: n.stats.broker_to_socket,
    ),
    _histogram(
        "record_to_socket_seconds",
        "From the first record of a tick to its last write.",
        lambda n: n.stats.record_to_socket,
    ),
    _histogram(
        "append_to_read_seconds",
        "From appending to reading it back, through the broker.",
        lambda n: n.stats.append_to_read,
    ),
    _histogram("flush_frames", "Frames written in one flush.", lambda n: n.stats.flush_frames),
    _histogram("flush_seconds", "Time of one flush.", lambda n: n.stats.flush_seconds),
    _histogram("loop_lag_seconds", "How late the event loop was.", lambda n: n.stats.loop_lag),
)

ALL: tuple[Definition, ...] = (*_GAUGES, *_COUNTERS, *_HISTOGRAMS)
