"""The stream read over AMQP 0.9.1, which every broker speaks.

A stream's consumer needs a prefetch and acknowledgements, which are credit only; every delivery carries its place. The
broker clamps places outside the stream without a word (seen on 3.10.8).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel, DeliveredMessage

from notifier.broker.link import Lost
from notifier.config import RabbitMQ
from notifier.log.entry import Entry, Start

FRAME_BUFFER = 3000
_PLACE = "x-stream-offset"


class AmqpReader:
    """An `EntryReader`. Each reading has a channel of its own."""

    protocol = "amqp"

    def __init__(self, connection: AbstractConnection, section: RabbitMQ) -> None:
        self._connection = connection
        self._section = section

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
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        prefetch = self._section.prefetch if ahead else 1
        channel = await self._open(prefetch, lost)
        acks_every, unacked = max(1, prefetch // 4), 0

        async def on_message(message: DeliveredMessage) -> None:
            nonlocal unacked
            entry = entry_of(message)
            if not isinstance(start, int) or entry.place >= start:
                receive(entry)
            unacked += 1
            if unacked >= acks_every:
                unacked = 0
                if not flowing.is_set():
                    await flowing.wait()
                if room is not None:
                    await room()
                await channel.basic_ack(_tag_of(message), multiple=True, wait=False)

        await channel.basic_consume(self._section.stream, on_message, arguments={_PLACE: start})
        yield lost
        await channel.close()  # only when all is well: otherwise the connection is closed, without waiting for answers

    async def _open(self, prefetch: int, lost: asyncio.Future[str]) -> AbstractChannel:
        """A channel of the library below aio-pika, whose callbacks cost half as much.

        With its own few frames of buffer the loop would turn once for every three records, and each turn writes to all
        subscribers; so the buffer holds what one read from the socket can bring.
        """
        transport = self._connection.transport
        if transport is None:
            raise Lost("the connection is closed")
        channel = await transport.connection.channel(publisher_confirms=False, frame_buffer_size=FRAME_BUFFER)
        await channel.basic_qos(prefetch_count=prefetch)

        def lose(reason: str) -> None:
            if not lost.done():
                lost.set_result(reason)

        async def on_cancel(_frame: object) -> None:
            lose("the broker cancelled the consumer: the stream was deleted or moved")

        channel.on_consumer_cancel_callbacks.add(on_cancel)
        channel.closing.add_done_callback(lambda _: lose("the channel was closed"))
        return channel


def entry_of(message: DeliveredMessage) -> Entry:
    """The entry in a message."""
    properties = message.header.properties
    headers: dict[str, Any] = properties.headers or {}
    place = headers.get(_PLACE)
    return Entry(
        place if isinstance(place, int) else -1,
        getattr(message.delivery, "routing_key", "") or "",
        message.body,
        properties.message_id or "",
        properties.message_type or "",
        properties.expiration or "",
        properties.content_type or "",
        headers if len(headers) > 1 else None,
    )


def _tag_of(message: DeliveredMessage) -> int:
    """What an acknowledgement names."""
    return getattr(message.delivery, "delivery_tag", 0) or 0
