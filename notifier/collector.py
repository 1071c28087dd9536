"""Collector: when Python may look for garbage cycles."""

from __future__ import annotations

import gc
import time

from notifier.core.stats import Stats


class Collector:
    """Looks for old garbage cycles seldom, and only when there can be some: after connections have ended. Those leave
    none behind as long as nothing went wrong in them (see `Session.gone`).

    Each look walks everything that connections are made of: a third of a second with 10,000 of them, during which
    nothing is delivered. With the default thresholds that is half of a busy worker's time. What is garbage without a
    cycle is freed at once all the same, and young objects are looked at as ever.
    """

    LEAST_ENDED = 10_000
    TIMES_CONNECTED = 10
    AT_LEAST_EVERY_S = 3600.0

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._ended_before = 0
        self._last = time.monotonic()
        gc.collect()
        gc.freeze()  # what the imports have made stays for good
        gc.set_threshold(50_000, 1_000_000, 1_000_000)

    def tick(self) -> None:
        """Once a second."""
        ended = self._stats.ended - self._ended_before
        enough = max(self.LEAST_ENDED, self._stats.connections.total() * self.TIMES_CONNECTED)
        if ended >= enough or (ended and time.monotonic() - self._last > self.AT_LEAST_EVERY_S):
            self._ended_before = self._stats.ended
            self._last = time.monotonic()
            gc.collect()
