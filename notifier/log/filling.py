"""Filling the archive from the log: one worker at a time does it, the holder of an exclusive queue.

The holder reads the log beside the worker's own tail, from where the archive has been filled to, so it catches up after
any outage from the log itself. Each time it becomes the holder, and whenever something is not as it should be, it asks
the archive anew where it stands. A holder whose time is over without its knowing (the broker has lost its connection,
it has not) can only say again what the log says, or is refused: a part of the archive goes on from one place only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelLockedResource

from notifier.broker.link import Link, Lost
from notifier.config import Duration, LogSection, RabbitMQ
from notifier.core.archiving import Gathering
from notifier.core.feed import Feed
from notifier.core.ports import Vault
from notifier.core.stats import Stats
from notifier.errors import Unavailable
from notifier.log.markers import Marker
from notifier.log.tail import Tail
from notifier.tasks import end

_logger = logging.getLogger(__name__)

HOLDER_RETRY_S = 2.0
FLUSH_EVERY_S, IDLE_EVERY_S = 0.2, 1.0
RETRY_S = 1.0

NewFeed = Callable[[Gathering], Feed]
"""A feed as the worker's own one, into something else. What it counts is counted there already."""


class Filler:
    """A part of the control connection: the queue that makes it the holder is on it. `epoch` says how the log is called
    as far as this worker has read it, empty while it has not read all of it."""

    def __init__(
        self,
        rabbitmq: RabbitMQ,
        section: LogSection,
        vault: Vault,
        new_feed: NewFeed,
        epoch: Callable[[], str],
        stats: Stats,
        node_id: str,
        *,
        reach_s: float,
    ) -> None:
        """`reach_s` is how far back an empty archive is filled."""
        self._rabbitmq = rabbitmq
        self._section = msgspec.structs.replace(section, known_for=Duration(reach_s))
        self._vault = vault
        self._new_feed = new_feed
        self._epoch = epoch
        self._stats = stats
        self._node_id = node_id
        self._queue = f"{rabbitmq.stream}.archive-{vault.name}"
        self._failing = False

    async def run(self, connection: AbstractConnection) -> None:
        """Fill the archive for as long as the connection lasts and nobody else does."""
        channel = await self._become_holder(connection)
        link = Link(self._rabbitmq, "archive", self._node_id, self._stats)
        lost = asyncio.ensure_future(channel.closed())
        filling = asyncio.create_task(link.run(lambda own: self._fill(own, link)))
        try:
            await asyncio.wait({lost, filling}, return_when=asyncio.FIRST_COMPLETED)
            if filling.done():
                filling.result()
        finally:
            self._stats.archive_filling = 0
            await end(lost, filling)

    async def _become_holder(self, connection: AbstractConnection) -> AbstractChannel:
        while True:
            channel = connection.channel()
            await channel.initialize()
            try:
                # The broker gives it to one connection and frees it when that connection is gone.
                await channel.declare_queue(self._queue, exclusive=True)
            except ChannelLockedResource:
                await asyncio.sleep(HOLDER_RETRY_S)
            else:
                return channel

    async def _fill(self, connection: AbstractConnection, link: Link) -> None:
        """Raises Lost when it is to be begun again."""
        epoch = await self._named()
        gathering = Gathering(self._vault.part_of, await self._places(epoch))
        _logger.info("filling the archive", extra={"epoch": epoch, "places": _range(gathering.places)})
        began = time.time()
        room = asyncio.Event()
        room.set()

        async def wait_for_room() -> None:
            if gathering.full:
                room.clear()
                await room.wait()

        def settle(marker: Marker) -> None:
            if marker.node == self._node_id and marker.time >= began and tail.settle():
                gathering.caught_up = True

        tail = Tail(
            self._rabbitmq,
            self._section,
            self._new_feed(gathering),
            Stats(),
            on_begin=lambda: None,
            on_marker=settle,
            on_rejected=lambda *_: None,  # whoever copies them counts them
            on_own=lambda *_: None,
            name=f"notifier {self._node_id} archive",
            resume_at=_lowest(gathering.places),
            room=wait_for_room,
        )
        link.well()
        self._stats.archive_filling = 1
        writing = self._write(tail, gathering, epoch, room)
        tasks = [asyncio.create_task(tail.run(connection)), asyncio.create_task(writing)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(*tasks)

    async def _named(self) -> str:
        while not (epoch := self._epoch()):  # noqa: ASYNC110 - the log says it when it has been read
            await asyncio.sleep(FLUSH_EVERY_S)
        return epoch

    async def _places(self, epoch: str) -> list[int | None]:
        while True:
            try:
                return await self._vault.places(epoch)
            except Unavailable as error:
                await self._pause(error)

    async def _write(self, tail: Tail, gathering: Gathering, epoch: str, room: asyncio.Event) -> None:
        idle_at = 0.0
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            if self._epoch() not in ("", epoch) or tail.epoch not in ("", epoch):
                raise Lost("the log was made anew")
            if not tail.epoch:
                continue  # what is read now may belong to another log than what the archive holds
            everywhere = time.monotonic() >= idle_at
            if everywhere:
                idle_at = time.monotonic() + IDLE_EVERY_S
            for part in range(self._vault.parts):
                if everywhere or gathering.has_waiting(part):
                    await self._advance(gathering, epoch, part)
            if not gathering.full:
                room.set()

    async def _advance(self, gathering: Gathering, epoch: str, part: int) -> None:
        """All that waits for a part. Raises Lost when the part is not where it was left."""
        while True:
            batch = gathering.batch(part)
            if batch is None:
                return
            try:
                place = await self._vault.advance(epoch, part, batch)
            except Unavailable as error:
                await self._pause(error)
                return
            if place != batch.until:
                raise Lost("the archive is not where it was left")
            self._failing = False
            gathering.done(part, batch)
            if not gathering.has_waiting(part):
                return

    async def _pause(self, error: Unavailable) -> None:
        """Nothing is skipped: it is tried again, and the log keeps what comes meanwhile."""
        self._stats.archive_failures["write"] += 1
        if not self._failing:
            _logger.warning("the archive cannot be filled: %s", error)
        self._failing = True
        await asyncio.sleep(RETRY_S)


def _lowest(places: list[int | None]) -> int | None:
    """Where to go on; None when some part has to be filled from the beginning."""
    known = [place for place in places if place is not None]
    return min(known) if len(known) == len(places) else None


def _range(places: list[int | None]) -> str:
    known = [place for place in places if place is not None]
    return f"{len(known)} of {len(places)} parts, from {min(known)} to {max(known)}" if known else "all parts are empty"
