"""A worker without sockets on a real broker: a node and its RabbitMQ log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Self

from notifier.config import ChannelRule, Duration, LogSection, RabbitMQ, Secret
from notifier.core.node import Node
from notifier.core.record import Draft, Record
from notifier.log.rabbitmq import RabbitMQLog
from notifier.testing import OPEN_RULE, make_node
from tests.services.deadline import SECOND, eventually


class WallClock:
    """The machine's time."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class Worker:
    """Notes every record it takes, as (offset, channel, body), and how often it had to begin anew."""

    def __init__(
        self, section: RabbitMQ, log: LogSection, name: str = "worker", rules: Sequence[ChannelRule] = (OPEN_RULE,)
    ) -> None:
        self.node: Node = make_node(
            rules,
            clock=WallClock(),  # type: ignore[arg-type]
            repeat_window=log.repeat_window,
        )
        self.taken: list[tuple[int, str, bytes]] = []
        self.begun = 0
        self._take, self._begin = self.node.feed.take, self.node.feed.begin
        self.node.feed.take = self._note_take  # type: ignore[method-assign]
        self.node.feed.begin = self._note_begin  # type: ignore[method-assign]
        self.log = RabbitMQLog(section, log, self.node.feed, self.node.stats, name)
        self.node.log = self.log

    async def __aenter__(self) -> Self:
        await self.log.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.log.stop()

    async def ready(self) -> Self:
        await eventually(lambda: self.log.ready and not self.log.problem, 60 * SECOND)
        return self

    async def publish(self, channel: str, body: bytes, **fields: Any) -> int:
        [appended] = await self.node.publish(Draft([channel], body, **fields))
        return appended.offset

    def bodies(self, channel: str) -> list[bytes]:
        return [body for _, taken, body in self.taken if taken == channel]

    def _note_take(self, record: Record, time_s: float) -> None:
        self._take(record, time_s)
        self.taken.append((record.offset, record.channel, record.body))

    def _note_begin(self, known_from: int) -> None:
        self.begun += 1
        self.taken.clear()
        self._begin(known_from)


def sections(url: str, name: str, **changes: Any) -> tuple[RabbitMQ, LogSection]:
    """Sections with names of their own on the broker and short intervals. `changes` go to where the key is."""
    broker: dict[str, Any] = {
        "url": Secret(url),
        "exchange": f"{name}.exchange",
        "stream": f"{name}.log",
        "rejected": f"{name}.rejected",
        "connect_timeout": Duration(3 * SECOND),
    }
    log: dict[str, Any] = {
        "kind": "rabbitmq",
        "marker_interval": Duration(0.3),
        "append_timeout": Duration(3 * SECOND),
        "repeat_window": 100,
    }
    for key, value in changes.items():
        (broker if key in RabbitMQ.__struct_fields__ else log)[key] = value
    return RabbitMQ(**broker), LogSection(**log)


def stream_url(port: int) -> str:
    return f"rabbitmq-stream://127.0.0.1:{port}"
