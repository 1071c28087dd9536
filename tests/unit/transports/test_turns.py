"""The loop's turns: who asks for much waits, everybody gets on, and the loop goes on in between."""

from __future__ import annotations

import asyncio
import time

import pytest

from notifier.core.ports import Row
from notifier.transports import turns
from notifier.transports.turns import PASSED_OVER, WOKEN, Turns


def busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


async def work(shared: Turns, pieces: int, done: list[str], name: str) -> None:
    if shared.must_wait(Row.QUIET):
        await shared.wait(Row.QUIET)
    for _ in range(pieces):
        busy(0.001)
        done.append(name)
        if shared.is_over:
            await shared.wait(Row.QUIET)


async def test_hundreds_who_have_much_to_do_leave_the_loop_time_for_others() -> None:
    shared, done = Turns(), list[str]()
    workers = [asyncio.create_task(work(shared, 3, done, str(number))) for number in range(200)]
    before, between = 0, []
    while not all(worker.done() for worker in workers):
        await asyncio.sleep(0)
        between.append(len(done) - before)
        before = len(done)
    assert len(done) == 600
    assert max(between) <= turns.LONGEST_S / 0.001 + WOKEN + 1
    assert not len(shared)


async def test_they_get_on_in_the_order_in_which_they_came() -> None:
    shared, done = Turns(), list[str]()
    names = [f"{number:03}" for number in range(100)]
    await asyncio.gather(*(work(shared, 1, done, name) for name in names))
    assert done == names


async def test_where_little_is_to_do_nobody_waits() -> None:
    shared = Turns()
    for _ in range(100):
        assert not shared.must_wait(Row.QUIET)
        await asyncio.sleep(0)
    assert not len(shared)


async def test_who_gives_up_takes_nobodys_place() -> None:
    shared = Turns()
    impatient = [asyncio.create_task(shared.wait(Row.QUIET)) for _ in range(50)]
    await asyncio.sleep(0)
    patient = asyncio.create_task(shared.wait(Row.QUIET))
    for task in impatient[WOKEN:]:
        task.cancel()
    async with asyncio.timeout(5):
        await patient
    with pytest.raises(asyncio.CancelledError):
        await impatient[-1]
    await asyncio.gather(*impatient[:WOKEN])


async def test_nobody_waits_behind_a_flood_and_a_flood_gets_on() -> None:
    shared, done = Turns(), list[str]()

    async def wait(row: Row) -> None:
        await shared.wait(row)
        done.append(row.name)

    flood = [asyncio.create_task(wait(Row.FLOODING)) for _ in range(50 * WOKEN)]
    busy = [asyncio.create_task(wait(Row.BUSY)) for _ in range(50 * WOKEN)]
    await asyncio.sleep(0)
    quiet = [asyncio.create_task(wait(Row.QUIET)) for _ in range(3 * WOKEN)]
    await asyncio.gather(*quiet)
    before = done[: len(done) - done[::-1].index("QUIET")]
    assert len(before) <= 3 * WOKEN + WOKEN + 2  # a turn of others may have begun before
    await asyncio.gather(*busy)
    assert 1 <= done.count("FLOODING") <= len(busy) / WOKEN / PASSED_OVER + 2 * WOKEN
    await asyncio.gather(*flood)
    assert not len(shared)


async def test_a_flood_alone_has_whole_turns() -> None:
    shared = Turns()
    flood = [asyncio.create_task(shared.wait(Row.FLOODING)) for _ in range(3 * WOKEN)]
    for _ in range(6):
        await asyncio.sleep(0)
    assert all(task.done() for task in flood)


async def test_what_turns_leave_behind_is_tidied_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    tidied: list[float] = []
    monkeypatch.setattr(turns, "TIDY_EVERY_S", 0.005)
    shared, done = Turns(lambda: tidied.append(time.monotonic())), list[str]()
    began = time.monotonic()
    await asyncio.gather(*(work(shared, 5, done, str(number)) for number in range(10)))
    took_s = time.monotonic() - began
    assert 1 <= len(tidied) <= took_s / 0.005 + 1
