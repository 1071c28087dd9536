"""The connection for everything that is not the log: other workers, backends that answer calls, the API over AMQP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from aio_pika.abc import AbstractConnection

from notifier.broker.link import Link, Lost
from notifier.config import RabbitMQ
from notifier.core.stats import Stats


class Part(Protocol):
    """Works on a channel of its own for as long as the connection lasts, and raises when it is lost."""

    async def run(self, connection: AbstractConnection) -> None: ...


class ControlConnection:
    """`start` returns at once; the broker may come later. Losing it costs no client its connection."""

    def __init__(self, rabbitmq: RabbitMQ, node_id: str, stats: Stats, parts: Sequence[Part]) -> None:
        self._link = Link(rabbitmq, "control", node_id, stats)
        self._parts = parts
        self._task: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str:
        """Why it does not work now; empty when it does."""
        return self._link.problem

    def start(self) -> None:
        self._task = asyncio.create_task(self._link.run(self._work))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self, connection: AbstractConnection) -> None:
        running = [asyncio.create_task(part.run(connection)) for part in self._parts]
        try:
            self._link.well()
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise Lost("the connection was lost")
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
