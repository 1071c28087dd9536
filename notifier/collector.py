"""Collector: when Python may look for garbage cycles, and when memory goes back to the kernel."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable

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
        self._returner = Returner(stats)
        gc.collect()
        gc.freeze()  # what the imports have made stays for good
        gc.set_threshold(50_000, 1_000_000, 1_000_000)

    def tick(self) -> None:
        """Once a second."""
        self._collect()
        self._returner.tick()

    def _collect(self) -> None:
        ended = self._stats.ended - self._ended_before
        enough = max(self.LEAST_ENDED, self._stats.connections.total() * self.TIMES_CONNECTED)
        if ended >= enough or (ended and time.monotonic() - self._last > self.AT_LEAST_EVERY_S):
            self._ended_before = self._stats.ended
            self._last = time.monotonic()
            gc.collect()


class Returner:
    """Gives the kernel back what a crowd has left, once it is gone.

    The C allocator keeps freed memory for later unless it lies at the end, and after a crowd some small thing that
    stays lies behind almost all of it (malloc_trim(3)). It takes a tenth of a second for 400 MiB, so not while
    connections still come and go.
    """

    LEAST = 1000
    CALM = 50  # in a second

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._trim = _malloc_trim()
        self._returned_at = self._before = 0

    def tick(self) -> None:
        """Once a second."""
        now = self._stats.ended + self._stats.recoveries.total()
        just_now, self._before = now - self._before, now
        if just_now <= self.CALM and now - self._returned_at >= self.LEAST:
            self._returned_at = now
            self._trim(0)


def _malloc_trim() -> Callable[[int], int]:
    """That of glibc; one that does nothing elsewhere."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda _pad: 0
    return found
