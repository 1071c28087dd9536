"""Tail: reads the stream in order, from where it must, and notices when it is not the same stream.

How it is read is a reader's affair (`entry.EntryReader`); what is read, in what order, and when not to trust it, stands
here. Readers take a place outside the stream for the nearest one inside without a word, and get nothing past its
end; and not every place holds a message, since the broker keeps notes of its own in the stream, one at the beginning of
a segment at least (all seen on 3.10.8, over both protocols). So what was read last is looked up again after each attach
and whenever a place is skipped: while that record is where it was, nothing after it can be gone, for retention takes
from the beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from aio_pika.abc import AbstractConnection

from notifier.broker.link import Lost
from notifier.config import LogSection, RabbitMQ
from notifier.core.ports import Reader
from notifier.core.stats import Stats
from notifier.errors import Rejected
from notifier.log import amqp, markers
from notifier.log.entry import Entry, EntryReader
from notifier.log.markers import Marker, Naming
from notifier.log.readers import Readers

_logger = logging.getLogger(__name__)

T = TypeVar("T")


class Tail:
    """Feeds a reader with the stream's records.

    `on_begin` is called when the log is read anew, `on_marker` for each marker, `on_rejected` for each record that is
    no publication, `on_own` with the reference and offset of each record that carries one of this worker's. `name` is
    what the broker shows for a connection of its own.

    With `resume_at` the reader has had everything up to that offset: reading begins so far before it that what follows
    is judged as before, and `known_from` tells the reader whether the stream still reached back so far. `room` is
    awaited before the broker gets leave to send more.
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
        on_rejected: Callable[[Entry, int, Rejected], None],
        on_own: Callable[[str, int], None],
        name: str = "notifier reading",
        resume_at: int | None = None,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._readers = Readers(rabbitmq, name)
        self._section = section
        self._reader = reader
        self._stats = stats
        self._on_begin = on_begin
        self._on_marker = on_marker
        self._on_rejected = on_rejected
        self._on_own = on_own
        self._resume_at = resume_at
        self._room = room
        self._last: Entry | None = None
        self._last_place = -1
        self._naming = Naming(from_start=False)
        self._log_time = 0.0  # the last marker's time while old records are read; 0 when what comes is new
        self._checked = False  # the last record has been looked up: a place may be skipped behind it
        self._held: list[Entry] | None = None  # what came behind a skipped place, until that is clear
        self._flowing = asyncio.Event()  # not set while something is held
        self._lost: asyncio.Future[str]  # made by each run, as the next one
        self._attention: asyncio.Event
        self._attached = False
        self.attached_at = float("inf")  # monotonic; from then on what is appended comes here
        self.caught_up = False

    @property
    def epoch(self) -> str:
        """The log's name, as soon as a record that was read here says it."""
        return self._naming.epoch

    @property
    def end(self) -> int:
        """The offset of what was read last."""
        return self._last_place + 1

    def marker(self, node_id: str, copied: int) -> Marker:
        """A marker as this worker can write it now."""
        # Only who reads the log now may say how it is called: it could have been made anew in the meantime.
        named = self.caught_up and self._attached
        return Marker(
            node_id,
            time.time(),
            self._naming.epoch if named else markers.new_epoch(),
            proposal=not named,
            seen=self.end if named else 0,
            copied=copied,
        )

    @property
    def protocol(self) -> str:
        """How the stream is read, or was when it was last: "stream" or "amqp"; empty before that."""
        return self._readers.protocol

    @property
    def instead(self) -> str:
        """Why it is not read over the stream protocol, where that was tried."""
        return self._readers.instead

    async def run(self, connection: AbstractConnection) -> None:
        """Read on until the connection or the consumer is lost. Raises Lost, or what the connection raises."""
        self._lost = asyncio.get_running_loop().create_future()
        self._attention = asyncio.Event()
        self._held = None
        self._flowing.set()
        reader = await self._readers.choose(connection)
        async with asyncio.timeout(2 * self._patience_s):
            place = await (self._begin(reader) if self._last is None else self._go_on(reader))
        try:
            async with reader.read(place, self._receive, self._flowing, ahead=True, room=self._room) as lost:
                self._attached = True
                self.attached_at = time.monotonic()
                await self._look_after(reader, lost, connection)
        finally:
            self._attached = False
            self.attached_at = float("inf")

    async def _look_after(self, reader: EntryReader, lost: asyncio.Future[str], connection: AbstractConnection) -> None:
        """Do what the fast lane asks for and must not do itself, until the consumer is lost."""
        closed = asyncio.ensure_future(connection.closed())
        asked = asyncio.ensure_future(self._attention.wait())
        try:
            while True:
                ends: set[asyncio.Future[Any]] = {self._lost, lost, closed, asked}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for ended in (self._lost, lost):
                    if ended.done():
                        raise Lost(ended.result())
                if closed.done():
                    raise Lost("the connection was closed")
                self._attention.clear()
                asked = asyncio.ensure_future(self._attention.wait())
                if self._held is not None:
                    await self._look_into_hole(reader)
                elif not self.caught_up:
                    await self._find_name(reader)
                    self.settle()
        finally:
            closed.cancel()
            asked.cancel()

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

    async def _begin(self, reader: EntryReader) -> int:
        """The place from which to read back as far as positions must be answered for, and the repeat window before
        that."""
        since = time.time() - self._section.known_for
        if self._resume_at is None:
            place = (await self._first_at(reader, datetime.fromtimestamp(since, UTC))).place
        else:
            place = self._resume_at
        asked = max(0, place - self._section.repeat_window)
        self._checked = False
        self._log_time = since
        self._last_place = asked - 1
        self.caught_up = False
        self._naming = Naming(from_start=asked == 0)
        return asked

    async def _go_on(self, reader: EntryReader) -> int:
        """The place behind the last record, after seeing that that is still where it was."""
        await self._check_last(reader)
        self._checked = True
        return self._last_place + 1

    async def _look_into_hole(self, reader: EntryReader) -> None:
        """A place was skipped, and what came behind it is held until it is clear that nothing was lost."""
        if self._last is not None:
            await self._check_last(reader)
        elif (await self._first_at(reader, 0)).place > self._last_place + 1:
            self._resume_at = None  # retention was faster than whoever wants to go on
        held, self._held = self._held or [], None
        self._checked = True
        self._flowing.set()
        for entry in held:
            self._receive(entry)

    async def _check_last(self, reader: EntryReader) -> None:
        """Look the last record up again. Raises Lost when it is not where it was: then everything is read anew."""
        assert self._last is not None  # noqa: S101 - callers have read something
        found, end = await self._look_up(reader, self._last_place)
        if found is None and not 0 <= end < self._last_place:
            # It has just been started or has too much to do: that proves nothing.
            raise Lost("the broker did not answer in time")
        if found is not None and _identity(found) == _identity(self._last):
            return
        if found is not None and found.place > self._last_place:
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

    async def _look_up(self, reader: EntryReader, place: int) -> tuple[Entry | None, int]:
        """The first record that is not before a place, None if there was none in time; and the last place of which the
        broker told meanwhile, -1 for none: by what its last chunk holds and what is appended now, it shows where a
        stream ends that is shorter."""
        end = -1
        flowing = _flowing()

        def look(entry: Entry) -> None:
            nonlocal end
            end = entry.place

        try:
            async with asyncio.timeout(self._patience_s), reader.read("last", look, flowing, ahead=True):
                return await self._first_at(reader, place), end
        except TimeoutError:
            return None, end

    async def _first_at(self, reader: EntryReader, start: datetime | int) -> Entry:
        """The first record that is not before a place or, as exactly as the broker's chunks allow, a time."""
        found: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        flowing = _flowing()

        def look(entry: Entry) -> None:
            if not found.done():
                found.set_result(entry)
                flowing.clear()

        async with reader.read(start, look, flowing, ahead=False) as lost:
            return await self._or_lost(found, lost)

    @property
    def _patience_s(self) -> float:
        """For what is in the stream already: a marker follows within its interval, if it can be appended."""
        return 2 * self._section.marker_interval + self._section.append_timeout

    async def _find_name(self, reader: EntryReader) -> None:
        """Read the log from its beginning up to the first marker that names it, beside the tail.

        Needed when no worker has written a marker for as long as the tail reaches back.
        """
        naming = Naming(from_start=True)
        end = self._last_place
        found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        flowing = _flowing()

        def look(entry: Entry) -> None:
            if entry.key == markers.CHANNEL:
                with contextlib.suppress(Rejected):
                    naming.read(markers.decode(entry.body), entry.place + 1)
            if (naming.epoch or entry.place >= end) and not found.done():
                found.set_result(None)
                flowing.clear()

        async with reader.read("first", look, flowing, ahead=True) as lost:
            await self._or_lost(found, lost)
        naming.settle()
        self._naming = naming

    async def _or_lost(self, wanted: asyncio.Future[T], lost: asyncio.Future[str]) -> T:
        futures: set[asyncio.Future[Any]] = {wanted, self._lost, lost}
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            raise Lost((lost if lost.done() else self._lost).result())
        return wanted.result()

    # --- the fast lane ----------------------------------------------------------------------------------------------

    def _receive(self, entry: Entry) -> None:
        if self._held is not None:
            self._held.append(entry)
            return
        place = entry.place
        if place <= self._last_place or self._lost.done():
            return  # what was read before is not read again
        if self._last is None:
            if self._resume_at is not None and place != self._last_place + 1 and not self._checked:
                self._hold(entry)
                return
            # Retention may have been faster than we: then this is later than what was asked for.
            self._on_begin()
            known_from = place + self._section.repeat_window if place else 0
            self._reader.begin(known_from if self._resume_at is None else self._resume_at)
        elif place != self._last_place + 1 and not self._checked:
            self._hold(entry)
            return
        self._checked = False
        offset = place + 1
        self._last, self._last_place = entry, place
        try:
            if entry.key == markers.CHANNEL:
                self._mark(entry, offset)
            else:
                self._reader.take(amqp.to_record(entry, offset), self._log_time or time.time())
        except Rejected as error:
            self._reject(entry, offset, error)
        except Exception:  # a record that breaks the program must not stop the log
            _logger.exception("a record could not be handled", extra={"offset": offset, "message_id": entry.message_id})
            self._reject(entry, offset, Rejected("internal", "the record could not be handled"))
        if entry.headers and (ref := amqp.ref_of(entry)):
            self._on_own(ref, offset)

    def _hold(self, entry: Entry) -> None:
        """A place was skipped: what comes now waits."""
        self._held = [entry]
        self._flowing.clear()
        self._attention.set()

    def _reject(self, entry: Entry, offset: int, why: Rejected) -> None:
        self._stats.rejected[why.reason] += 1
        self._reader.pass_over(offset)
        self._on_rejected(entry, offset, why)

    def _mark(self, entry: Entry, offset: int) -> None:
        marker = markers.decode(entry.body)
        self._reader.pass_over(offset)
        self._naming.read(marker, offset)
        if self._log_time:
            self._log_time = min(marker.time, time.time())
        self._on_marker(marker)


def _flowing() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def _identity(entry: Entry) -> tuple[Any, ...]:
    return entry.place, entry.key, entry.message_id, entry.body
