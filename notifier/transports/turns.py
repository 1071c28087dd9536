"""Turns: what clients say is worked on for a bounded time in each turn of the loop; the rest waits, in order.

A loop does all that is ready before it looks again for what has come. Where thousands of connections are ready at once,
each with a little to do, that is seconds, during which nothing is delivered. So whoever works for a client asks before
each piece of it whether the turn is over, and if so waits for a later one. Clients that ask for more than they may wait
in a row of their own, so that nobody stands behind a flood.
"""

from __future__ import annotations

import asyncio
from collections import deque

LONGEST_S = 0.004
WOKEN = 8  # of those who wait; each may do one piece of work, whatever that takes


class Turns:
    """Must be made inside a running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = 0.0
        self._next: asyncio.Handle | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._flooding: deque[asyncio.Future[None]] = deque()

    @property
    def is_over(self) -> bool:
        """Whether so much was done in this turn that what is asked for must wait. The first who asks begins it."""
        now = self._loop.time()
        if self._next is None:
            self._begin(now)
            return False
        return now - self._began >= LONGEST_S

    def must_wait(self) -> bool:
        """The same for somebody who has not begun: it does not overtake those who wait."""
        return bool(self._waiting) or self.is_over

    async def wait(self, *, flooding: bool = False) -> None:
        """For a later turn, in which one piece of work may be done without asking; `flooding`, when nobody else waits,
        but for one of those in each turn."""
        turn = self._loop.create_future()
        (self._flooding if flooding else self._waiting).append(turn)
        if self._next is None:
            self._begin(self._loop.time())
        await turn

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting) + len(self._flooding)

    def _begin(self, now: float) -> None:
        self._began = now
        self._next = self._loop.call_soon(self._end)  # at the beginning of the loop's next turn

    def _end(self) -> None:
        self._next = None
        woken = _wake(self._waiting, WOKEN)
        woken += _wake(self._flooding, max(1, WOKEN - woken))
        if woken:
            self._begin(self._loop.time())


def _wake(waiting: deque[asyncio.Future[None]], most: int) -> int:
    """Those who have waited for longest; how many."""
    woken = 0
    while waiting and woken < most:
        turn = waiting.popleft()
        if not turn.done():  # or it has gone meanwhile
            turn.set_result(None)
            woken += 1
    return woken
