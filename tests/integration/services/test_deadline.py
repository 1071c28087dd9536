"""Waiting for a condition: it returns early, fails late, and says what it was waiting for."""

import asyncio

import pytest

from tests.services.deadline import eventually, wait_until


async def test_it_returns_the_first_true_answer() -> None:
    answers = iter([0, None, 7, 8])
    assert await eventually(lambda: next(answers)) == 7


async def test_a_check_may_be_a_coroutine_and_may_assert() -> None:
    tries = []

    async def third_time() -> bool:
        tries.append(1)
        assert len(tries) == 3
        return True

    assert await eventually(third_time)


async def test_the_failure_says_what_was_awaited_and_what_came_last() -> None:
    seen = {"count": 2}
    with pytest.raises(AssertionError, match=r"not within 0.05 s: the answer was False; .*seen\[.count.\] == 3"):
        await eventually(lambda: seen["count"] == 3, 0.05)


async def test_a_check_that_hangs_is_cut_off() -> None:
    with pytest.raises(AssertionError, match="it never answered"):
        await eventually(asyncio.Event().wait, 0.05)


async def test_an_exception_that_is_not_to_be_retried_passes_through() -> None:
    def broken() -> bool:
        raise KeyError("name")

    with pytest.raises(KeyError):
        await eventually(broken)
    with pytest.raises(AssertionError, match="KeyError: 'name'"):
        await eventually(broken, 0.05, retry=(KeyError,))


def test_without_a_loop_it_is_the_same() -> None:
    with pytest.raises(AssertionError, match="the answer was 0"):
        wait_until(int, 0.05)
    assert wait_until(lambda: "now") == "now"
