"""A worker without sockets that has an archive: a node, its log on a real broker, the archive on a real Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from notifier.cluster.connection import ControlConnection
from notifier.config import ChannelRule, Duration, HistoryRule, Secret
from notifier.config import Redis as RedisSection
from notifier.core import recovery, target
from notifier.core.archiving import Gathering, Nobody
from notifier.core.feed import Feed
from notifier.core.history import Verdict
from notifier.core.stats import Stats
from notifier.errors import Unavailable
from notifier.log.filling import Filler
from notifier.protocol.messages import Position
from notifier.state.archive import Keys, RedisArchive
from notifier.state.store import Store
from tests.integration.log.worker import Worker, sections
from tests.integration.state.letting_go import let_go
from tests.services.deadline import SECOND, eventually

RULE = ChannelRule(
    match="#",
    history=HistoryRule(size=1, ttl=Duration(60)),
    archive=HistoryRule(size=10_000, ttl=Duration(3600)),
    subscribe=["anyone"],
)


class Place(NamedTuple):
    name: str
    rabbitmq_url: str
    redis_url: str


class Archivist:
    """`start` it. Its own memory holds one publication of a channel."""

    def __init__(self, place: Place, name: str, *, rules: Sequence[ChannelRule] = (RULE,), **changes: Any) -> None:
        """`changes` go to the sections of the log and the broker."""
        broker, log = sections(place.rabbitmq_url, place.name, **changes)
        self.worker = Worker(broker, log, name, rules)
        node = self.node = self.worker.node
        self.log = self.worker.log
        self.store = Store(RedisSection(url=Secret(place.redis_url), prefix=place.name, timeout=Duration(1 * SECOND)))
        keys = self.keys = Keys(self.store, node.rules, max_bytes=node.max_publication, repeat_window=log.repeat_window)
        self.archive = RedisArchive(
            self.store, keys, node.rules, lambda: node.history.epoch, lambda: node.history.end, node.stats
        )
        node.archive = self.archive

        def new_feed(gathering: Gathering) -> Feed:
            return Feed(
                node.rules, gathering, Nobody(), Stats(), node.clock,
                max_bytes=node.max_publication, repeat_window=log.repeat_window,
            )  # fmt: skip

        self.filler = Filler(
            broker, log, self.archive, new_feed, lambda: node.history.epoch if self.log.ready else "", node.stats, name,
            reach_s=self.archive.longest_s,
        )  # fmt: skip
        self.control = ControlConnection(broker, name, node.stats, [self.filler])
        self.broker = broker
        self._running = False

    async def start(self) -> Self:
        self._running = True
        self.store.start()
        self.archive.start()
        await self.log.start()
        self.control.start()
        await self.worker.ready()
        return self

    async def stop(self) -> None:
        if self._running:
            self._running = False
            await self.control.stop()
            await self.archive.stop()
            await self.log.stop()
            await let_go(self.store)

    @property
    def is_filling(self) -> bool:
        return bool(self.node.stats.archive_filling)

    async def publish(self, channel: str, number: int, **fields: Any) -> int:
        return await self.worker.publish(channel, b"%d" % number, **fields)

    async def recovered(self, channel: str, offset: int) -> list[int] | Verdict:
        """The numbers published after a position, or why they cannot be told. Raises Unavailable."""
        wanted = target.find(self.node.rules, channel)
        assert wanted is not None
        position = Position(offset, self.node.history.epoch)
        excerpt = await recovery.look_up(self.node, wanted, position)
        verdict, found = recovery.missed(self.node.history, wanted, position, excerpt, self.node.clock.time())
        return [int(p.data) for p in found] if verdict is Verdict.RECOVERED else verdict

    async def archived(self, channel: str) -> list[int]:
        """The numbers that the archive itself has of a channel, once it has been filled up to now."""
        page = await self.archive.page(channel, None, 10**6, self.node.history.end, reverse=False)
        return [int(p.data) for p in page.publications]

    async def filled(self) -> None:
        """Everything that this worker has read is in the archive."""
        end = self.node.history.end

        async def reached() -> bool:
            places = await self.archive.places(self.node.history.epoch)
            return all(place is not None and place >= end for place in places)

        await eventually(reached, 60 * SECOND, retry=(AssertionError, Unavailable))
