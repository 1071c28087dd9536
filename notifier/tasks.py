"""Beginning work at once, and ending tasks that are at work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

_logger = logging.getLogger(__name__)

AGAIN_AFTER_S = 3.0
"""Longer than what a cancelled task usually takes to close what it has open."""
ROUNDS = 10


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel them and wait until they have ended. What they raise was for others, or is of no use any more. A task that
    ends itself is left out.

    Who does not end is cancelled again. Python 3.11's `asyncio.wait_for`, with which libraries wait for answers,
    forgets that its task was cancelled when the answer comes at that moment (python/cpython#86296, mended in 3.12):
    such a task would go on, and whoever ends it would wait for ever. Who is cancelled in here gives them one more round
    to end, so that nobody is left behind without need.
    """
    cancelled = False
    pending = {task for task in tasks if not task.done() and task is not asyncio.current_task()}
    for _ in range(ROUNDS):
        if not pending:
            break
        for task in pending:
            task.cancel()
        try:
            _, pending = await asyncio.wait(pending, timeout=AGAIN_AFTER_S)
        except asyncio.CancelledError:
            if cancelled:
                raise
            cancelled = True
            pending = {task for task in pending if not task.done()}
            continue
        if cancelled:
            break
    if pending:
        _logger.error("tasks have not ended: %s", ", ".join(map(str, pending)))
    for task in tasks:
        _look_at(task)
    if cancelled:
        raise asyncio.CancelledError


def _look_at(task: asyncio.Future[Any]) -> None:
    """So that nobody complains that its end was not noticed."""
    if task.done():
        with contextlib.suppress(asyncio.CancelledError):
            task.exception()


def begun(work: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None] | None:
    """Does the work up to where it has to wait for something. The answer is the rest, which is to be awaited; None when
    there is none. Raises what the work raises.

    Up to there nothing in it may ask which task it is in, as `asyncio.timeout` does.
    """
    try:
        waited_for = work.send(None)
    except StopIteration:
        return None
    return _finished(work, waited_for)


async def _finished(work: Coroutine[Any, Any, None], waited_for: Any) -> None:
    await _passed_on(work, waited_for)


@coroutine
def _passed_on(work: Coroutine[Any, Any, None], waited_for: Any) -> Generator[Any, Any, None]:
    """As `await` would do it that has begun already."""
    try:
        while True:
            try:
                yield waited_for
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is passed on
                waited_for = work.throw(error)
            else:
                waited_for = work.send(None)
    except StopIteration:
        return
