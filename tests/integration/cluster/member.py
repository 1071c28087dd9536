"""What a worker has on the control connection, without the worker: a bus and the way to backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from notifier.cluster.backends import RabbitMQBackends
from notifier.cluster.bus import RabbitMQBus
from notifier.cluster.connection import ControlConnection
from notifier.config import RabbitMQ
from notifier.core.stats import Stats
from tests.services.deadline import SECOND, eventually


class Member:
    """Notes what it is told or asked, in `heard`, and answers `NAME: QUESTION`."""

    def __init__(self, section: RabbitMQ, name: str) -> None:
        self.name = name
        self.heard: list[bytes] = []
        self.stats = Stats()
        self.bus = RabbitMQBus(section.control, name, self.stats)
        self.bus.on_message = self._answer
        self.backends = RabbitMQBackends()
        self.connection = ControlConnection(section, name, self.stats, [self.bus, self.backends])

    def start(self) -> Self:
        self.connection.start()
        return self

    async def stop(self) -> None:
        await self.connection.stop()

    async def ready(self) -> Self:
        """Its parts work."""
        await eventually(
            lambda: not self.connection.problem and self.backends.ready and self.bus._exchange is not None, 60 * SECOND
        )
        return self

    async def knows(self, *others: Member) -> None:
        await eventually(lambda: sorted(self.bus.others) == sorted(other.name for other in others), 60 * SECOND)

    async def _answer(self, message: bytes) -> bytes:
        self.heard.append(message)
        return f"{self.name}: ".encode() + message


async def gather(members: Sequence[Member]) -> None:
    """Start them and wait until each knows all others."""
    for member in members:
        member.start()
    for member in members:
        await member.knows(*(other for other in members if other is not member))
