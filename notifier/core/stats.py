"""What a worker counts. Plain numbers, so that counting on the fast lane costs an addition; read when scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
FRAMES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Histogram:
    """Observations by upper bound, in the bounds' unit."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class Stats:
    """All counters of a worker. Keys of the counters by reason, code or transport come from closed sets."""

    def __init__(self) -> None:
        self.publications = 0
        self.repeats = 0
        self.outdated = 0
        self.unruled = 0
        self.rejected: Counter[str] = Counter()
        self.deliveries = 0
        self.delivered_bytes = 0
        self.encodings = 0
        self.connections: Counter[str] = Counter()
        self.ended = 0
        self.connected: Counter[str] = Counter()
        self.disconnects: Counter[int | str] = Counter()
        self.errors: Counter[int | str] = Counter()
        self.commands: Counter[str] = Counter()
        self.recoveries: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.waiting = 0
        self.subscriptions = 0
        self.reconnects: Counter[str] = Counter()
        self.redis_up: int | None = None  # None where there is none
        self.redis_calls = 0
        self.certificate_expires_at: float | None = None  # wall time in seconds; None without TLS
        self.redis_failed: Counter[str] = Counter()
        self.log_reset = 0
        self.log_holes = 0
        self.archive_lag = 0
        self.archive_filling = 0
        self.archive_entries = 0
        self.archive_reads = 0
        self.archive_failures: Counter[str] = Counter()
        self.flush_frames = Histogram(FRAMES)
        self.flush_seconds = Histogram(SECONDS)
        self.record_to_socket = Histogram(SECONDS)
        self.broker_to_socket = Histogram(SECONDS)
        self.append_to_read = Histogram(SECONDS)
        self.loop_lag = Histogram(SECONDS)
