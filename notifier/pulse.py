"""Pulse: what a worker does by the clock, and how late its loop is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

SECOND_S = 1.0
LOOK_S = 0.1  # seldom enough to cost little, often enough to see whatever holds the loop up for longer than one look


class Pulse:
    """Calls `look` about ten times a second, with how late the loop was in seconds, and `tick` once a second.

    One timer and no task: it is most of what an idle worker does.
    """

    def __init__(self, look: Callable[[float], None], tick: Callable[[], None]) -> None:
        self._look = look
        self._tick = tick
        self._look_at = self._tick_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Must be called inside a running loop."""
        now = time.monotonic()
        self._tick_at = now + SECOND_S
        self._wait(now)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, now: float) -> None:
        self._look_at = min(now + LOOK_S, self._tick_at)
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._look_at - now), self._beat)

    def _beat(self) -> None:
        now = time.monotonic()
        try:
            self._look(max(0.0, now - self._look_at))
            if now >= self._tick_at:
                self._tick_at = max(self._tick_at + SECOND_S, now)
                self._tick()
        finally:
            if self._timer is not None:  # it was not stopped meanwhile
                self._wait(time.monotonic())
