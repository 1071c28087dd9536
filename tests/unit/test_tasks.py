"""Work begins at once; tasks are ended whatever they do with a cancellation, and nothing of them is left."""

from __future__ import annotations

import asyncio

import pytest

from notifier import tasks
from notifier.tasks import end
from tests.services.deadline import SECOND


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_AFTER_S", 0.01)


async def forget(times: int) -> None:
    """As `asyncio.wait_for` may do it in Python 3.11: go on although it was cancelled."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not times:
                raise
            times -= 1


async def forgetful(times: int) -> asyncio.Task[None]:
    task = asyncio.create_task(forget(times))
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_who_forgets_that_it_was_cancelled_ends_all_the_same(times: int) -> None:
    task = await forgetful(times)
    async with asyncio.timeout(10 * SECOND):
        await end(task)
    assert task.cancelled()


async def test_nobody_is_left_behind_by_who_is_cancelled_while_it_waits() -> None:
    task = await forgetful(1)
    ending = asyncio.create_task(end(task))
    await asyncio.sleep(0)
    ending.cancel()
    async with asyncio.timeout(10 * SECOND):
        await asyncio.wait([ending])
    assert ending.cancelled()
    assert task.cancelled()


async def test_what_has_failed_is_not_raised_and_not_complained_about() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    await end(task)
    del task
    assert complaints == []


async def test_who_ends_everybody_does_not_end_itself() -> None:
    task = await forgetful(0)
    current = asyncio.current_task()
    assert current is not None
    async with asyncio.timeout(10 * SECOND):
        await end(task, current)
    assert task.cancelled()
    assert not current.cancelling()


async def test_who_never_ends_is_told_of_and_not_waited_for_without_an_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "ROUNDS", 3)
    task = await forgetful(5)
    async with asyncio.timeout(10 * SECOND):
        await end(task)
    assert "have not ended" in caplog.text
    assert not task.done()
    await end(task)


async def test_a_deadline_around_it_holds() -> None:
    task = await forgetful(1000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await end(task)
    for _ in range(1000):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])


async def test_work_that_waits_for_nothing_is_done_at_once() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    assert tasks.begun(work()) is None
    assert done == [1]


@pytest.mark.parametrize("late", [False, True])
async def test_the_rest_of_work_waits_for_the_same_things_in_a_task(*, late: bool) -> None:
    waited_for: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    done: list[int] = []

    async def work() -> None:
        done.append(await waited_for)
        await asyncio.sleep(0)
        done.append(2)

    rest = tasks.begun(work())
    assert rest is not None
    if not late:
        waited_for.set_result(1)
    task = asyncio.create_task(rest)
    if late:
        await asyncio.sleep(0)
        assert not done
        waited_for.set_result(1)
    await task
    assert done == [1, 2]


@pytest.mark.parametrize("waits", [False, True])
async def test_what_the_work_raises_is_raised(*, waits: bool) -> None:
    async def work() -> None:
        if waits:
            await asyncio.sleep(0)
        raise KeyError("x")

    async def all_of_it() -> None:
        if (rest := tasks.begun(work())) is not None:
            await rest

    with pytest.raises(KeyError):
        await all_of_it()


async def test_the_rest_of_work_is_cancelled_with_its_task() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    rest = tasks.begun(work())
    assert rest is not None
    task = asyncio.create_task(rest)
    await asyncio.sleep(0)
    await end(task)
    assert ended == ["cancelled"]
    assert task.cancelled()


@pytest.mark.parametrize("first", [False, True])
async def test_the_rest_of_work_that_is_forgotten_is_closed_in_any_order(*, first: bool) -> None:
    """As the garbage collector may do it."""
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append("closed")

    one = work()
    rest = tasks.begun(one)
    assert rest is not None
    rest.send(None)  # as a task would, and then be forgotten
    if first:
        one.close()
    rest.close()
    assert ended == ["closed"]
