"""The stream read over its own protocol: chunks of messages, as they lie on the broker's disk.

On the fast lane: `_Reading.take`. A chunk of thousands must not hold up everybody else, so the loop gets its turn every
few milliseconds; then the hub writes what was read until there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from rstream.constants import OffsetType

from notifier.broker.stream import Address, StreamConnection
from notifier.broker.stream_frames import Chunk
from notifier.config import RabbitMQ
from notifier.errors import Rejected
from notifier.log import chunks, sections
from notifier.log.entry import Entry, Start

AHEAD_CHUNKS = 100  # each holds one message where little is published, and a round trip should be worth many
FEW_CHUNKS = 1
SLICE_S = 0.003
SLICE_MESSAGES = 32  # after so many it looks at the clock


class StreamReader:
    """An `EntryReader`. Each reading has a connection of its own, so that none waits behind another one's chunks.
    `unreadable` is set when something came that could not be understood: it would come again."""

    protocol = "stream"

    def __init__(self, address: Address, section: RabbitMQ, name: str) -> None:
        self._address = address
        self._section = section
        self._name = name
        self.unreadable = False

    async def check(self, deadline_s: float) -> None:
        """Connect and log in, and let go again. Raises Lost, saying why it is not possible."""
        async with self._connected(deadline_s):
            pass

    @asynccontextmanager
    async def read(
        self,
        start: Start,
        receive: Callable[[Entry], None],
        flowing: asyncio.Event,
        *,
        ahead: bool,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncIterator[asyncio.Future[str]]:
        async with self._connected(self._section.connect_timeout) as connection:
            credit = AHEAD_CHUNKS if ahead else FEW_CHUNKS
            first = start if isinstance(start, int) else 0
            reading = _Reading(connection, self._section.stream, first, receive, flowing, credit, room)
            await connection.subscribe(self._section.stream, *_specification(start), credit, reading.take)
            yield connection.lost

    @asynccontextmanager
    async def _connected(self, deadline_s: float) -> AsyncIterator[StreamConnection]:
        connection = StreamConnection(self._address, self._name, self._section.heartbeat, deadline_s)
        try:
            await connection.open()
            yield connection
        finally:
            self.unreadable |= connection.unreadable
            await connection.close()


class _Reading:
    """Takes chunks to pieces and has more sent."""

    def __init__(
        self,
        connection: StreamConnection,
        stream: str,
        first: int,
        receive: Callable[[Entry], None],
        flowing: asyncio.Event,
        credit: int,
        room: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._connection = connection
        self._key = stream  # of what was not published through an exchange: as AMQP 0.9.1 shows it
        self._first = first
        self._receive = receive
        self._flowing = flowing
        self._room = room
        self._credit_every = max(1, credit // 4)
        self._taken = 0

    async def take(self, chunk: Chunk) -> None:
        """Hand on what is in it, from the place on that was asked for: a chunk is never sent in part.

        Raises ValueError when it cannot be understood.
        """
        clock, flowing, receive, key = time.monotonic, self._flowing, self._receive, self._key
        until = clock() + SLICE_S
        for place, message in enumerate(chunks.messages(chunk.data, chunk.entries), chunk.first_place):
            if place < self._first:
                continue
            if not flowing.is_set():
                await flowing.wait()
            receive(entry_at(message, place, key))
            if not place % SLICE_MESSAGES and clock() > until:
                await asyncio.sleep(0)
                until = clock() + SLICE_S
        self._taken += 1
        if self._taken >= self._credit_every:
            if self._room is not None:
                await self._room()
            await self._connection.credit(self._taken)
            self._taken = 0


def entry_at(message: bytes | Rejected, place: int, key: str) -> Entry:
    """The entry in what stands at a place, be it unreadable."""
    if isinstance(message, Rejected):
        return Entry(place, "", b"", unreadable=message.detail)
    try:
        return sections.entry_of(message, place, key)
    except Rejected as why:
        return Entry(place, "", message, unreadable=why.detail)


def _specification(start: Start) -> tuple[OffsetType, int | None]:
    match start:
        case int():
            return OffsetType.OFFSET, start
        case datetime():
            return OffsetType.TIMESTAMP, int(start.timestamp() * 1000)
        case "last":
            return OffsetType.LAST, None
        case _:
            return OffsetType.FIRST, None
