"""Where a worker's time goes: its threads' stacks, sampled on request.

A sample is a look at all threads at one moment; where many samples agree, there the time goes. Of a thread that waits,
the place where it waits is seen. Only names of modules and functions and numbers of lines are told, never a value.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections import Counter
from types import FrameType

INTERVAL_S = 0.0097  # not a round number, or samples would keep step with what happens every so many milliseconds
MAX_STACKS = 5000
MAX_DEPTH = 100
OTHERS = "(others)"


class Busy(Exception):
    """One profile at a time: a second one would see the first, and cost as much again."""


class Profiler:
    """`root` stands at the bottom of every stack, where there is something to say for this process; may be empty."""

    def __init__(self, root: str = "") -> None:
        self._root = root
        self._free = threading.Lock()

    async def run(self, seconds: float) -> str:
        """The stacks of so many seconds, as flame graphs are made of: a line for each stack, outermost function first,
        separated by semicolons, and how often it was seen. Raises Busy. Ends early when cancelled."""
        if not self._free.acquire(blocking=False):
            raise Busy
        loop, done, stop = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
        seen: Counter[str] = Counter()

        def work() -> None:
            try:
                self._sample(seen, time.monotonic() + seconds, stop)
            finally:
                self._free.release()
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(done.set)

        try:
            threading.Thread(target=work, name="profiler", daemon=True).start()
        except RuntimeError:
            self._free.release()
            raise
        try:
            await done.wait()
        finally:
            stop.set()
        return "".join(f"{stack} {count}\n" for stack, count in seen.most_common())

    def _sample(self, seen: Counter[str], end: float, stop: threading.Event) -> None:
        own = threading.get_ident()
        while time.monotonic() < end and not stop.wait(INTERVAL_S):
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():  # noqa: SLF001 - documented, be it with an underscore
                if ident == own:
                    continue
                stack = ";".join(filter(None, [self._root, _told(names.get(ident, "thread")), *_stack(frame)]))
                seen[stack if stack in seen or len(seen) < MAX_STACKS else OTHERS] += 1


def _stack(frame: FrameType) -> list[str]:
    """The functions, outermost first; of a deeper stack the inner part."""
    found: list[str] = []
    at: FrameType | None = frame
    while at is not None and len(found) < MAX_DEPTH:
        module = at.f_globals.get("__name__", "?")
        found.append(_told(f"{module}:{at.f_code.co_qualname}:{at.f_lineno}"))
        at = at.f_back
    return found[::-1]


def _told(name: str) -> str:
    """Without the characters that mean something in a line of stacks."""
    return name.translate({ord(";"): ":", ord(" "): "_", ord("\n"): "_"})
