"""Reads the stream with a plain consumer, from its first record to its end: what really is in the log, and where."""

from __future__ import annotations

import asyncio
import uuid

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError

from tests.services.deadline import SECOND
from tests.soak import publications
from tests.soak.journal import Journal, ReadDone, Record, now

END = "soak.end"
"""A routing key that no rule of the nodes matches: a record that only says where a read ends."""
PREFETCH = 1000
DEADLINE_S = 120 * SECOND


class Reader:
    """`generation` counts the streams that there have been."""

    def __init__(self, url: str, exchange: str, stream: str) -> None:
        self.generation = 0
        self._url = url
        self._exchange = exchange
        self._stream = stream

    async def read(self, journal: Journal) -> dict[str, int]:
        """Journal all publications that are in the stream now; the answer is each channel's last offset."""
        async with asyncio.timeout(DEADLINE_S):
            since = now()
            connection = await aio_pika.connect(self._url)
            async with connection:
                mark = await self._mark_end(connection)
                channel = await connection.channel(publisher_confirms=False)
                tops, read = await self._read_to(mark, channel, since, journal)
        journal.write(read)
        journal.flush()
        return tops

    async def _mark_end(self, connection: aio_pika.abc.AbstractConnection) -> str:
        mark = str(uuid.uuid4())
        message = aio_pika.Message(b"0", message_id=mark, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        while True:
            channel = await connection.channel(on_return_raises=True)
            exchange = await channel.get_exchange(self._exchange, ensure=False)
            try:
                await exchange.publish(message, END, mandatory=True)
            except DeliveryError:  # the stream is being made anew
                await asyncio.sleep(0.5)
            else:
                return mark

    async def _read_to(
        self, mark: str, channel: AbstractChannel, since: float, journal: Journal
    ) -> tuple[dict[str, int], ReadDone]:
        await channel.set_qos(PREFETCH)
        tops: dict[str, int] = {}
        first = -1
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def take(message: AbstractIncomingMessage) -> None:
            nonlocal first
            if done.done():
                return
            offset = int(message.headers["x-stream-offset"]) + 1  # type: ignore[arg-type]
            first = offset if first < 0 else first
            key = message.routing_key or ""
            if key == END:
                if message.message_id == mark:
                    done.set_result(offset)
            elif not key.startswith("$"):
                channels = list(dict.fromkeys([key, *str(message.headers.get("channels", "")).split()]))
                ident, _, _ = publications.read(message.body)
                journal.write(Record(now(), self.generation, offset, channels, message.message_id or "", ident))
                tops.update(dict.fromkeys(channels, offset))
            await message.ack(multiple=False)

        queue = await channel.get_queue(self._stream, ensure=False)
        tag = await queue.consume(take, arguments={"x-stream-offset": "first"})
        end = await done
        await queue.cancel(tag)
        # The first place may hold a note of the broker's own (3.10.8): one more is still the beginning.
        return tops, ReadDone(now(), since, self.generation, end, first <= 2)
