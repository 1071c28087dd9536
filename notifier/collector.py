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
    nothing is delivered. With the default thresholds that is half of a busy worker's time. So it waits until a crowd
    has gone. What is garbage without a cycle is freed at once all the same.

    Young objects are looked at ten times a second, and more often while there is work for clients
    (`transports/turns.py`).
    Python itself would do so when there are so many more than before; where connections come and go that is seldom, and
    the look is then at very many.

    The C allocator keeps freed memory for later unless it lies at the end, and after a crowd some small thing that
    stays lies behind almost all of it. To give it back (malloc_trim(3)) takes a tenth of a second for 400 MiB; that
    waits for the same moment. What Python keeps for small objects stays with it.
    """

    CALM = 50  # that end or recover in a second
    CROWD = 1000
    LEAST_ENDED = 10_000
    TIMES_CONNECTED = 10
    AT_ONCE = 20  # times as many: whether it is calm or not
    AT_LEAST_EVERY_S = 3600.0

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._trim = _malloc_trim()
        self._collected_at_s = time.monotonic()
        self._ended_before = 0  # when it last looked for cycles
        self._gone_before = self._given_back = 0
        gc.collect()
        gc.freeze()  # what the imports have made stays for good
        gc.disable()

    def tick(self) -> None:
        """Once a second."""
        gone = self._stats.ended + self._stats.recoveries.total()
        is_calm, self._gone_before = gone - self._gone_before <= self.CALM, gone
        if self._is_time(is_calm=is_calm):
            self._ended_before = self._stats.ended
            self._collected_at_s = time.monotonic()
            gc.collect()
        if is_calm and gone - self._given_back >= self.CROWD:
            self._given_back = gone
            self._trim(0)

    def _is_time(self, *, is_calm: bool) -> bool:
        """To look for old cycles."""
        ended = self._stats.ended - self._ended_before
        enough = max(self.LEAST_ENDED, self._stats.connections.total() * self.TIMES_CONNECTED)
        if ended >= (enough if is_calm else enough * self.AT_ONCE):
            return True
        return ended > 0 and time.monotonic() - self._collected_at_s > self.AT_LEAST_EVERY_S


def look_at_young() -> None:
    """For garbage cycles."""
    gc.collect(0)


def _malloc_trim() -> Callable[[int], int]:
    """That of glibc; one that does nothing elsewhere."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda _pad: 0
    return found
