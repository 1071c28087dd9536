"""The one unit of all deadlines in tests, and waiting for a condition instead of sleeping.

A deadline is an upper bound that a healthy machine never reaches, so it may be generous; on a slow machine all of
them are stretched together: ``TEST_TIME_FACTOR=5 make test``.
"""

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")
Retry = tuple[type[Exception], ...]

SECOND = float(os.environ.get("TEST_TIME_FACTOR", "1"))
"""Write ``5 * SECOND`` for every deadline, never a bare number."""

POLL_S = 0.01


@overload
async def eventually(check: Callable[[], Awaitable[T]], deadline_s: float = ..., retry: Retry = ...) -> T: ...
@overload
async def eventually(check: Callable[[], T], deadline_s: float = ..., retry: Retry = ...) -> T: ...
async def eventually(
    check: Callable[[], T | Awaitable[T]],
    deadline_s: float = 10 * SECOND,
    retry: Retry = (AssertionError,),
) -> T:
    """Ask `check` until its answer is true and return that answer.

    An answer that is false (``None`` too: a check made of asserts ends with ``return True``) and an exception of
    `retry` mean "not yet"; any other exception passes through at once. A check that hangs is cut off at the
    deadline. Raises AssertionError with the last failure.
    """
    ends = time.monotonic() + deadline_s
    last = "it never answered"
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    answer = check()
                    value = await answer if inspect.isawaitable(answer) else answer
                except retry as error:
                    last = f"{type(error).__name__}: {error}"
                else:
                    if value:
                        return value
                    last = f"the answer was {value!r}"
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        if time.monotonic() < ends:  # the check's own time-out, not ours
            raise
        raise AssertionError(_failure(check, deadline_s, last)) from None


def wait_until(
    check: Callable[[], T],
    deadline_s: float = 10 * SECOND,
    retry: Retry = (AssertionError,),
) -> T:
    """The same for code without an event loop. Does not cut off a check that hangs."""
    ends = time.monotonic() + deadline_s
    while True:
        try:
            value = check()
        except retry as error:
            last = f"{type(error).__name__}: {error}"
        else:
            if value:
                return value
            last = f"the answer was {value!r}"
        if time.monotonic() > ends:
            raise AssertionError(_failure(check, deadline_s, last))
        time.sleep(POLL_S)


def _failure(check: object, deadline_s: float, last: str) -> str:
    try:
        what = " ".join(inspect.getsource(check).split())  # type: ignore[arg-type]
    except (OSError, TypeError):
        what = repr(check)
    return f"not within {deadline_s:g} s: {last}; waited for: {what[:300]}"
