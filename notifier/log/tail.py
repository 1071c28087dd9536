"""Tail: reads the stream in order over AMQP 0.9.1, from where it must, and notices when it is not the same stream.

A stream's consumer needs a prefetch and acknowledgements, which are credit only; every delivery carries its place. The
broker clamps places outside the stream without a word, and delivers nothing past its end (seen on 3.10.8), so the first
delivery after each attach is compared with what was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel, DeliveredMessage

from notifier.config import LogSection, RabbitMQ
from notifier.core.ports import Reader
from notifier.core.stats import Stats
from notifier.errors import Rejected
from notifier.log import amqp, markers
from notifier.log.markers import Marker, Naming

_logger = logging.getLogger(__name__)


class Lost(ConnectionError):
    """The consumer is of no use any more; a new one is needed."""


class Tail:
    """Feeds a reader with the stream's records.

    `on_marker` is called for each marker, `on_rejected` for each record that is no publication, `on_own` with the
    reference and offset of each record that carries one of this worker's.
    """

    def __init__(
        self,
        rabbitmq: RabbitMQ,
        section: LogSection,
        reader: Reader,
        stats: Stats,
        *,
        on_marker: Callable[[Marker], None],
        on_rejected: Callable[[DeliveredMessage, int, Rejected], None],
        on_own: Callable[[str, int], None],
    ) -> None:
        self._rabbitmq = rabbitmq
        self._section = section
        self._reader = reader
        self._stats = stats
        self._on_marker = on_marker
        self._on_rejected = on_rejected
        self._on_own = on_own
        self._last: DeliveredMessage | None = None
        self._last_place = -1
        self._naming = Naming(from_start=False)
        self._log_time = 0.0  # the last marker's time while old records are read; 0 when what comes is new
        self._acks_every = max(1, rabbitmq.prefetch // 4)
        self._lost: asyncio.Future[str]  # made by each run, as the next two
        self._first: asyncio.Future[int]
        self._nameless: asyncio.Event
        self.caught_up = False

    @property
    def epoch(self) -> str:
        """The log's epoch; empty until it is known."""
        return self._naming.epoch

    async def run(self, connection: AbstractConnection) -> None:
        """Read on until the consumer is lost. Raises Lost, or what the connection raises."""
        loop = asyncio.get_running_loop()
        self._lost = loop.create_future()
        self._first = loop.create_future()
        self._nameless = asyncio.Event()
        channel = await (self._begin(connection) if self._last is None else self._go_on(connection))
        nameless = asyncio.ensure_future(self._nameless.wait())
        try:
            await asyncio.wait({self._lost, channel.closing, nameless}, return_when=asyncio.FIRST_COMPLETED)
            if nameless.done():
                await self._find_name(connection)
                self.settle()
                await asyncio.wait({self._lost, channel.closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nameless.cancel()
        raise Lost(self._lost.result() if self._lost.done() else "the channel was closed")

    def give_up(self, reason: str) -> None:
        """End `run`, so that a new consumer is made."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)

    def settle(self) -> bool:
        """This worker has read back a marker of its own, so all there was before it. False while it is not known yet
        how the log is called."""
        if self.caught_up or self._last is None:
            return self.caught_up
        if not self._naming.settle():
            self._nameless.set()
            return False
        self._reader.named(self.epoch)
        self._reader.caught_up()
        self._log_time = 0.0
        self.caught_up = True
        _logger.info("the log has been read", extra={"epoch": self.epoch, "end": self._last_place + 1})
        return True

    # --- where reading begins ---------------------------------------------------------------------------------------

    async def _begin(self, connection: AbstractConnection) -> AbstractChannel:
        """Read back as far as positions must be answered for, and the repeat window before that."""
        since = time.time() - self._section.known_for
        start = await self._place_at(connection, datetime.fromtimestamp(since, UTC))
        asked = max(0, start - self._section.repeat_window)
        self._log_time = since
        self._last_place = asked - 1
        self.caught_up = False
        self._naming = Naming(from_start=asked == 0)
        return await self._consume(connection, asked, None)

    async def _go_on(self, connection: AbstractConnection) -> AbstractChannel:
        """Read on behind the last record, after seeing that it is still the same one in the same place."""
        channel = await self._consume(connection, self._last_place, self._last)
        try:
            async with asyncio.timeout(2 * self._section.marker_interval + self._section.append_timeout):
                await self._or_lost(self._first)
        except TimeoutError:
            self._forget("the stream ends before what was read: it was made anew")
            raise Lost("the stream was made anew") from None
        return channel

    async def _place_at(self, connection: AbstractConnection, when: datetime) -> int:
        """The place of the first record that is not older than `when`, as exactly as the broker's chunks allow."""
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def look(message: DeliveredMessage) -> None:
            if not found.done():
                found.set_result(amqp.place_of(message))

        channel = await self._open(connection, prefetch=1)
        await channel.basic_consume(self._rabbitmq.stream, look, arguments={"x-stream-offset": when})
        place = await self._or_lost(found)
        await channel.close()
        return place

    async def _consume(
        self, connection: AbstractConnection, place: int, expected: DeliveredMessage | None
    ) -> AbstractChannel:
        """Begin to receive at `place`, where `expected` must stand if it is given."""
        channel = await self._open(connection, self._rabbitmq.prefetch)
        unacked = 0

        async def on_message(message: DeliveredMessage) -> None:
            nonlocal unacked, expected
            if expected is None:
                self._receive(message)
            elif amqp.place_of(message) >= place:
                self._compare(expected, message)
                expected = None
            unacked += 1
            if unacked >= self._acks_every:
                unacked = 0
                await channel.basic_ack(amqp.tag_of(message), multiple=True, wait=False)

        await channel.basic_consume(self._rabbitmq.stream, on_message, arguments={"x-stream-offset": place})
        return channel

    async def _open(self, connection: AbstractConnection, prefetch: int) -> AbstractChannel:
        opened = connection.channel(publisher_confirms=False)
        await opened.initialize()
        await opened.set_qos(prefetch_count=prefetch)
        channel = await opened.get_underlay_channel()
        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        return channel

    async def _cancelled(self, _frame: object) -> None:
        self.give_up("the broker cancelled the consumer: the stream was deleted or moved")

    async def _find_name(self, connection: AbstractConnection) -> None:
        """Read the log from its beginning up to the first marker that names it, beside the tail.

        Needed when no worker has written a marker for as long as the tail reaches back.
        """
        naming = Naming(from_start=True)
        end = self._last_place
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        channel = await self._open(connection, self._rabbitmq.prefetch)

        async def look(message: DeliveredMessage) -> None:
            if amqp.key_of(message) == markers.CHANNEL:
                with contextlib.suppress(Rejected):
                    naming.read(markers.decode(message.body))
            if (naming.epoch or amqp.place_of(message) >= end) and not found.done():
                found.set_result(0)
            await channel.basic_ack(amqp.tag_of(message), wait=False)

        await channel.basic_consume(self._rabbitmq.stream, look, arguments={"x-stream-offset": "first"})
        await self._or_lost(found)
        await channel.close()
        naming.settle()
        self._naming = naming

    async def _or_lost(self, wanted: asyncio.Future[int]) -> int:
        futures: set[asyncio.Future[Any]] = {wanted, self._lost}
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise Lost(self._lost.result())
        return wanted.result()

    def _compare(self, expected: DeliveredMessage, message: DeliveredMessage) -> None:
        if not _same(expected, message):
            self._forget("another record is in the place of the last one: the stream was made anew")
            self.give_up("the stream was made anew")
        elif not self._first.done():
            self._first.set_result(self._last_place)

    def _forget(self, why: str) -> None:
        """What was read belongs to a log that is gone."""
        _logger.error("%s", why, extra={"end": self._last_place + 1})
        self._stats.log_reset += 1
        self._last = None
        self.caught_up = False

    # --- the fast lane ----------------------------------------------------------------------------------------------

    def _receive(self, message: DeliveredMessage) -> None:
        place = amqp.place_of(message)
        if place <= self._last_place or self._lost.done():
            return  # what was read before is not read again
        if self._last is None:
            # Retention may have been faster than we: then this is later than what was asked for.
            self._reader.begin(place + self._section.repeat_window if place else 0)
        elif place != self._last_place + 1:
            self._hole(place)
            return
        offset = place + 1
        self._last, self._last_place = message, place
        try:
            if amqp.key_of(message) == markers.CHANNEL:
                self._mark(message, offset)
            else:
                self._reader.take(amqp.to_record(message, offset), self._log_time or time.time())
        except Rejected as error:
            self._stats.rejected[error.reason] += 1
            self._reader.pass_over(offset)
            self._on_rejected(message, offset, error)
        except Exception:  # a record that breaks the program must not stop the log
            _logger.exception("a record could not be handled", extra={"offset": offset})
            self._stats.rejected["internal"] += 1
            self._reader.pass_over(offset)
            self._on_rejected(message, offset, Rejected("internal", "the record could not be handled"))
        if ref := amqp.ref_of(message):
            self._on_own(ref, offset)

    def _mark(self, message: DeliveredMessage, offset: int) -> None:
        marker = markers.decode(message.body)
        self._reader.pass_over(offset)
        self._naming.read(marker)
        if self._log_time:
            self._log_time = min(marker.time, time.time())
        self._on_marker(marker)

    def _hole(self, place: int) -> None:
        """Records are gone that this worker has not read: retention was faster. Everything is read anew."""
        _logger.error("records were lost before they were read", extra={"read": self._last_place, "next": place})
        self._stats.log_holes += 1
        self._last = None
        self.caught_up = False
        self.give_up("records were lost")


def _same(one: DeliveredMessage, other: DeliveredMessage) -> bool:
    return _identity(one) == _identity(other)


def _identity(message: DeliveredMessage) -> tuple[Any, ...]:
    properties = message.header.properties
    return amqp.place_of(message), amqp.key_of(message), properties.message_id, message.body
