"""Turns: what clients say is worked on for a bounded time in each turn of the loop; the rest waits, in order.

A loop does all that is ready before it looks again for what has come. Where thousands of connections are ready at once,
each with a little to do, that is seconds, during which nothing is delivered. So whoever works for a client asks before
each piece of it whether the turn is over, and if so waits for a later one. Who waits stands in one of several rows
(`core.ports.Row`), so that nobody stands behind a flood.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from notifier.core.ports import Row

LONGEST_S = 0.002
LONGEST_WHILE_OTHERS_WAIT_S = 0.001
WOKEN = 4  # each may do one piece of work, whatever that takes
TIDY_EVERY_S = 0.01
PASSED_OVER = 16  # turns in which a row may wait for those before it


class Turns:
    """Must be made inside a running loop. `tidy` is done between turns, often enough that it never takes long."""

    def __init__(self, tidy: Callable[[], object] = int) -> None:
        self._tidy = tidy
        self._loop = asyncio.get_running_loop()
        self._began = self._tidied = 0.0
        self._next: asyncio.Handle | None = None
        self._rows: list[deque[asyncio.Future[None]]] = [deque() for _ in Row]
        self._passed_over = [0 for _ in Row]

    @property
    def is_over(self) -> bool:
        """Whether so much was done in this turn that what is asked for must wait. The first who asks begins it."""
        now = self._loop.time()
        if self._next is None:
            self._begin(now)
            return False
        return now - self._began >= (LONGEST_WHILE_OTHERS_WAIT_S if any(self._rows) else LONGEST_S)

    def must_wait(self, row: Row) -> bool:
        """The same for somebody who has not begun: it overtakes nobody in its row or in one before it."""
        return any(self._rows[: row + 1]) or self.is_over

    async def wait(self, row: Row) -> None:
        """For a later turn, in which one piece of work may be done without asking. A row is served when those before it
        are empty, and once in a while all the same."""
        turn = self._loop.create_future()
        self._rows[row].append(turn)
        if self._next is None:
            self._begin(self._loop.time())
        await turn

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._rows))

    def _begin(self, now: float) -> None:
        self._began = now
        self._next = self._loop.call_soon(self._end)  # at the beginning of the loop's next turn

    def _end(self) -> None:
        self._next = None
        if self._began - self._tidied >= TIDY_EVERY_S:
            self._tidied = self._began
            self._tidy()
        woken = 0
        for row, waiting in enumerate(self._rows):
            late = self._passed_over[row] >= PASSED_OVER
            served = _wake(waiting, max(WOKEN - woken, int(late)))
            self._passed_over[row] = 0 if served or not waiting else self._passed_over[row] + 1
            woken += served
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
