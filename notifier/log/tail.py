"""Tail: reads the stream in order over AMQP 0.9.1, from where it must, and notices when it is not the same stream.

A stream's consumer needs a prefetch and acknowledgements, which are credit only; every delivery carries its place. The
broker clamps places outside the stream without a word, and delivers nothing past its end; and not every place holds a
message, since the broker keeps notes of its own in the stream, one at the beginning of a segment at least (all seen on
3.10.8). So what was read last is looked up again after each attach and whenever a place is skipped: while that record
is where it was, nothing after it can be gone, for retention takes from the beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel, DeliveredMessage

from notifier.broker.link import Lost
from notifier.config import LogSection, RabbitMQ
from notifier.core.ports import Reader
from notifier.core.stats import Stats
from notifier.errors import Rejected
from notifier.log import amqp, markers
from notifier.log.markers import Marker, Naming

_logger = logging.getLogger(__name__)

T = TypeVar("T")

FRAME_BUFFER = 3000


class Tail:
    """Feeds a reader with the stream's records.

    `on_begin` is called when the log is read anew, `on_marker` for each marker, `on_rejected` for each record that is
    no publication, `on_own` with the reference and offset of each record that carries one of this worker's.
    """

    def __init__(
        self,
        rabbitmq: RabbitMQ,
        section: LogSection,
        reader: Reader,
        stats: Stats,
        *,
        on_begin: Callable[[], None],
        on_marker: Callable[[Marker], None],
        on_rejected: Callable[[DeliveredMessage, int, Rejected], None],
        on_own: Callable[[str, int], None],
    ) -> None:
        self._rabbitmq = rabbitmq
        self._section = section
        self._reader = reader
        self._stats = stats
        self._on_begin = on_begin
        self._on_marker = on_marker
        self._on_rejected = on_rejected
        self._on_own = on_own
        self._last: DeliveredMessage | None = None
        self._last_place = -1
        self._naming = Naming(from_start=False)
        self._log_time = 0.0  # the last marker's time while old records are read; 0 when what comes is new
        self._acks_every = max(1, rabbitmq.prefetch // 4)
        self._checked = False  # the last record has been looked up: a place may be skipped behind it
        self._held: list[DeliveredMessage] | None = None  # what came behind a skipped place, until that is clear
        self._lost: asyncio.Future[str]  # made by each run, as the next one
        self._attention: asyncio.Event
        self._attached = False
        self.caught_up = False

    def marker(self, node_id: str, copied: int) -> Marker:
        """A marker as this worker can write it now."""
        # Only who reads the log now may say how it is called: it could have been made anew in the meantime.
        named = self.caught_up and self._attached
        return Marker(
            node_id,
            time.time(),
            self._naming.epoch if named else markers.new_epoch(),
            proposal=not named,
            seen=self._last_place + 1 if named else 0,
            copied=copied,
        )

    async def run(self, connection: AbstractConnection) -> None:
        """Read on until the consumer is lost. Raises Lost, or what the connection raises."""
        self._lost = asyncio.get_running_loop().create_future()
        self._attention = asyncio.Event()
        self._held = None
        try:
            channel = await (self._begin(connection) if self._last is None else self._go_on(connection))
            self._attached = True
            await self._look_after(connection, channel)
        finally:
            self._attached = False

    async def _look_after(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        """Do what the fast lane asks for and must not do itself, until the consumer is lost."""
        while True:
            asked = asyncio.ensure_future(self._attention.wait())
            await asyncio.wait({self._lost, channel.closing, asked}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if self._lost.done() or channel.is_closed:
                raise Lost(self._lost.result() if self._lost.done() else "the channel was closed")
            self._attention.clear()
            if self._held is not None:
                await self._look_into_hole(connection)
            elif not self.caught_up:
                await self._find_name(connection)
                self.settle()

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
            self._attention.set()
            return False
        self._reader.named(self._naming.epoch)
        self._reader.caught_up()
        self._log_time = 0.0
        self.caught_up = True
        _logger.info("the log has been read", extra={"epoch": self._naming.epoch, "end": self._last_place + 1})
        return True

    # --- where reading begins ---------------------------------------------------------------------------------------

    async def _begin(self, connection: AbstractConnection) -> AbstractChannel:
        """Read back as far as positions must be answered for, and the repeat window before that."""
        since = time.time() - self._section.known_for
        start = await self._first_at(connection, datetime.fromtimestamp(since, UTC))
        asked = max(0, amqp.place_of(start) - self._section.repeat_window)
        self._log_time = since
        self._last_place = asked - 1
        self.caught_up = False
        self._naming = Naming(from_start=asked == 0)
        return await self._consume(connection, asked)

    async def _go_on(self, connection: AbstractConnection) -> AbstractChannel:
        """Read on behind the last record, after seeing that it is still where it was."""
        await self._check_last(connection)
        self._checked = True
        return await self._consume(connection, self._last_place + 1)

    async def _look_into_hole(self, connection: AbstractConnection) -> None:
        """A place was skipped, and what came behind it is held until it is clear that nothing was lost."""
        await self._check_last(connection)
        held, self._held = self._held or [], None
        self._checked = True
        for message in held:
            self._receive(message)

    async def _check_last(self, connection: AbstractConnection) -> None:
        """Look the last record up again. Raises Lost when it is not where it was: then everything is read anew."""
        assert self._last is not None  # noqa: S101 - callers have read something
        try:
            async with asyncio.timeout(2 * self._section.marker_interval + self._section.append_timeout):
                found = await self._first_at(connection, self._last_place)
        except TimeoutError:
            found = None
        if found is not None and _identity(found) == _identity(self._last):
            return
        if found is not None and amqp.place_of(found) > self._last_place:
            _logger.error("records were lost before they were read", extra={"end": self._last_place + 1})
            self._stats.log_holes += 1
        else:
            _logger.error("the stream was made anew", extra={"end": self._last_place + 1})
            self._stats.log_reset += 1
        # Everything is read anew; until then no marker of this worker may name the log.
        self._last = None
        self._naming = Naming(from_start=False)
        self.caught_up = False
        raise Lost("what was read is not in the stream any more")

    async def _first_at(self, connection: AbstractConnection, start: datetime | int) -> DeliveredMessage:
        """The first record that is not before a place or, as exactly as the broker's chunks allow, a time."""
        found: asyncio.Future[DeliveredMessage] = asyncio.get_running_loop().create_future()

        async def look(message: DeliveredMessage) -> None:
            if isinstance(start, int) and amqp.place_of(message) < start:
                await channel.basic_ack(amqp.tag_of(message), wait=False)
            elif not found.done():
                found.set_result(message)

        channel = await self._open(connection, prefetch=1)
        await channel.basic_consume(self._rabbitmq.stream, look, arguments={"x-stream-offset": start})
        message = await self._or_lost(found)
        await channel.close()
        return message

    async def _consume(self, connection: AbstractConnection, place: int) -> AbstractChannel:
        channel = await self._open(connection, self._rabbitmq.prefetch)
        unacked = 0

        async def on_message(message: DeliveredMessage) -> None:
            nonlocal unacked
            self._receive(message)
            unacked += 1
            if unacked >= self._acks_every and self._held is None:
                unacked = 0
                await channel.basic_ack(amqp.tag_of(message), multiple=True, wait=False)

        await channel.basic_consume(self._rabbitmq.stream, on_message, arguments={"x-stream-offset": place})
        return channel

    async def _open(self, connection: AbstractConnection, prefetch: int) -> AbstractChannel:
        """A channel of the library below aio-pika, whose callbacks cost half as much.

        With its own few frames of buffer the loop would turn once for every three records, and each turn writes to all
        subscribers; so the buffer holds what one read from the socket can bring.
        """
        if connection.transport is None:
            raise Lost("the connection is closed")
        channel = await connection.transport.connection.channel(
            publisher_confirms=False, frame_buffer_size=FRAME_BUFFER
        )
        await channel.basic_qos(prefetch_count=prefetch)
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
        found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        channel = await self._open(connection, self._rabbitmq.prefetch)

        async def look(message: DeliveredMessage) -> None:
            if amqp.key_of(message) == markers.CHANNEL:
                with contextlib.suppress(Rejected):
                    naming.read(markers.decode(message.body), amqp.place_of(message) + 1)
            if (naming.epoch or amqp.place_of(message) >= end) and not found.done():
                found.set_result(None)
            await channel.basic_ack(amqp.tag_of(message), wait=False)

        await channel.basic_consume(self._rabbitmq.stream, look, arguments={"x-stream-offset": "first"})
        await self._or_lost(found)
        await channel.close()
        naming.settle()
        self._naming = naming

    async def _or_lost(self, wanted: asyncio.Future[T]) -> T:
        futures: set[asyncio.Future[Any]] = {wanted, self._lost}
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise Lost(self._lost.result())
        return wanted.result()

    # --- the fast lane ----------------------------------------------------------------------------------------------

    def _receive(self, message: DeliveredMessage) -> None:
        if self._held is not None:
            self._held.append(message)
            return
        place = amqp.place_of(message)
        if place <= self._last_place or self._lost.done():
            return  # what was read before is not read again
        if self._last is None:
            # Retention may have been faster than we: then this is later than what was asked for.
            self._on_begin()
            self._reader.begin(place + self._section.repeat_window if place else 0)
        elif place != self._last_place + 1 and not self._checked:
            self._held = [message]
            self._attention.set()
            return
        self._checked = False
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
        self._naming.read(marker, offset)
        if self._log_time:
            self._log_time = min(marker.time, time.time())
        self._on_marker(marker)


def _identity(message: DeliveredMessage) -> tuple[Any, ...]:
    properties = message.header.properties
    return amqp.place_of(message), amqp.key_of(message), properties.message_id, message.body
