"""Profiles: they show where threads are, nothing else, one at a time, and never grow without bound."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator

import pytest

from notifier.telemetry import profile
from notifier.telemetry.profile import Busy, Profiler
from tests.services.deadline import SECOND

SECRET = "what-nobody-else-may-see"


@contextlib.contextmanager
def somebody_waits() -> Iterator[None]:
    """A thread with a name that would break a line, in a function that holds a secret."""
    leave = threading.Event()

    def wait_here(secret: str) -> None:
        leave.wait()
        assert secret

    thread = threading.Thread(target=wait_here, args=(SECRET,), name="some; body\n")
    thread.start()
    try:
        yield
    finally:
        leave.set()
        thread.join()


async def test_a_profile_shows_functions_and_how_often_they_were_seen() -> None:
    with somebody_waits():
        text = await Profiler("worker-1").run(0.2)
    assert all(re.fullmatch(r"worker-1;\S+ [1-9]\d*", line) for line in text.splitlines())
    [stack] = [line for line in text.splitlines() if "wait_here" in line]
    assert re.match(r"worker-1;some:_body_;threading:Thread\._bootstrap:\d+;", stack)
    assert re.search(r"tests\.unit\.telemetry\.test_profile:somebody_waits\.<locals>\.wait_here:\d+;threading:", stack)
    assert "MainThread;" in text
    assert ";profiler;" not in text, "it does not show itself"
    assert SECRET not in text


async def test_one_at_a_time() -> None:
    profiler = Profiler()
    first = asyncio.ensure_future(profiler.run(0.2))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await profiler.run(0.1)
    assert await first
    assert await profiler.run(0.05)


async def test_who_goes_away_leaves_the_place_to_others() -> None:
    profiler = Profiler()
    first = asyncio.ensure_future(profiler.run(3600))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    async with asyncio.timeout(10 * SECOND):
        while True:
            with contextlib.suppress(Busy):
                assert await profiler.run(0.05)
                return
            await asyncio.sleep(0.01)


async def test_there_is_an_end_to_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "MAX_STACKS", 1)
    monkeypatch.setattr(profile, "MAX_DEPTH", 2)
    with somebody_waits():
        lines = (await Profiler().run(0.2)).splitlines()
    assert len(lines) == 2
    assert sum(line.startswith(profile.OTHERS) for line in lines) == 1
    [stack] = [line for line in lines if not line.startswith(profile.OTHERS)]
    assert stack.count(";") == 2, "the thread and the two inner functions"
