"""The connection for everything that is not the log: other workers, backends that answer calls, the API over AMQP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelClosed

from notifier.broker.link import LOST, REFUSED_DELAY_S, Link, Lost, describe
from notifier.config import RabbitMQ
from notifier.core.stats import Stats
from notifier.tasks import end

_logger = logging.getLogger(__name__)

SETTLED_AFTER_S = 1.0


class Part(Protocol):
    """Works on a channel of its own for as long as the connection lasts, and raises when it is lost."""

    async def run(self, connection: AbstractConnection) -> None: ...


class ControlConnection:
    """`start` returns at once; the broker may come later. Losing it costs no client its connection."""

    def __init__(self, rabbitmq: RabbitMQ, node_id: str, stats: Stats, parts: Sequence[Part]) -> None:
        self._link = Link(rabbitmq, "control", node_id, stats)
        self._parts = parts
        self._task: asyncio.Task[None] | None = None
        self._refused: dict[Part, str] = {}

    @property
    def problem(self) -> str:
        """Why it does not work now, or a part of it; empty when all does."""
        return self._link.problem or next(iter(self._refused.values()), "")

    def start(self) -> None:
        self._task = asyncio.create_task(self._link.run(self._work))

    async def stop(self) -> None:
        if self._task is not None:
            await end(self._task)

    async def _work(self, connection: AbstractConnection) -> None:
        running = [asyncio.create_task(self._run(part, connection)) for part in self._parts]
        try:
            self._link.well()
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(*running)

    async def _run(self, part: Part, connection: AbstractConnection) -> None:
        """A part that the broker refuses (permissions, a name that is taken) does not take the others with it: it tries
        again later. Always raises, when the connection is lost."""
        while True:
            settled = asyncio.get_running_loop().call_later(SETTLED_AFTER_S, self._refused.pop, part, None)
            try:
                await part.run(connection)
            except ChannelClosed as error:
                text = describe(error)
                if text != self._refused.get(part):
                    _logger.warning("RabbitMQ refuses %s: %s", type(part).__name__, text)
                self._refused[part] = text
            except LOST:
                raise
            except Exception as error:
                _logger.exception("%s failed", type(part).__name__)
                raise Lost(f"{type(part).__name__} failed") from error
            else:
                raise Lost("the connection was lost")
            finally:
                settled.cancel()
            await asyncio.sleep(REFUSED_DELAY_S)
