"""Ending tasks that are at work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
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
