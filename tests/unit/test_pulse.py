"""A worker's pulse: its beats, how late they are, and that an error does not stop them."""

from __future__ import annotations

import asyncio
import time

import pytest

from notifier import pulse
from notifier.pulse import Pulse
from tests.services.deadline import SECOND, eventually


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "SECOND_S", 0.1)
    monkeypatch.setattr(pulse, "LOOK_S", 0.01)


async def test_it_looks_some_times_between_two_ticks() -> None:
    beats: list[str] = []
    beating = Pulse(lambda _late_s: beats.append("look"), lambda: beats.append("tick"))
    beating.start()
    await eventually(lambda: beats.count("tick") >= 3, 10 * SECOND)
    beating.stop()
    assert beats[0] == "look"
    assert beats.count("look") > 2 * beats.count("tick")


async def test_it_says_how_late_the_loop_was_and_goes_on_from_there() -> None:
    late: list[float] = []
    ticks: list[float] = []
    beating = Pulse(late.append, lambda: ticks.append(time.monotonic()))
    beating.start()
    time.sleep(0.35)  # whatever holds the loop up
    held_up_until = time.monotonic()
    await eventually(lambda: len(ticks) >= 3, 10 * SECOND)
    beating.stop()
    assert late[0] > 0.3
    assert ticks[0] >= held_up_until
    assert ticks[2] - ticks[0] > 0.1  # what was missed is not made up for


async def test_after_the_stop_it_is_silent() -> None:
    beats: list[float] = []
    beating = Pulse(beats.append, lambda: None)
    beating.start()
    await eventually(lambda: bool(beats), 10 * SECOND)
    beating.stop()
    before = len(beats)
    await asyncio.sleep(0.05)  # some beats' time
    assert len(beats) == before


async def test_what_fails_does_not_stop_it() -> None:
    ticks: list[int] = []

    def fail() -> None:
        ticks.append(1)
        raise KeyError("x")

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    beating = Pulse(lambda _late_s: None, fail)
    beating.start()
    await eventually(lambda: len(ticks) >= 2, 10 * SECOND)
    beating.stop()


async def test_it_can_be_stopped_from_within() -> None:
    ticks: list[int] = []

    def stop() -> None:
        ticks.append(1)
        beating.stop()

    beating = Pulse(lambda _late_s: None, stop)
    beating.start()
    await eventually(lambda: bool(ticks), 10 * SECOND)
    await asyncio.sleep(0.25)  # two more ticks' time
    assert len(ticks) == 1
