"""A backend beside its broker, as a process of its own: says number after number, each when the one before it was
confirmed, and prints those that were, with the offset at which it finds them in the stream. For ``python -m``; SIGTERM
ends it when the last one is printed.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import aio_pika
from aio_pika.abc import AbstractIncomingMessage


async def speak(url: str, exchange_name: str, stream_name: str, key: str, pause_s: float, size: int) -> None:
    found: dict[int, asyncio.Future[int]] = {}

    async def note(message: AbstractIncomingMessage) -> None:
        if message.routing_key == key:
            place = message.headers["x-stream-offset"]
            assert isinstance(place, int)
            found.pop(json.loads(message.body)["n"]).set_result(place + 1)
        await message.ack()

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        stream = await channel.get_queue(stream_name, ensure=False)
        await stream.consume(note, arguments={"x-stream-offset": "next"})
        exchange = await channel.get_exchange(exchange_name, ensure=False)
        number = 0
        while not ended.is_set():
            found[number] = offset = asyncio.get_running_loop().create_future()
            body = json.dumps({"n": number, "padding": "x" * size}).encode()
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, key)
            print(number, await offset, flush=True)
            number += 1
            await asyncio.sleep(pause_s)


if __name__ == "__main__":
    url, exchange, stream, key, pause_s, size = sys.argv[1:]
    asyncio.run(speak(url, exchange, stream, key, float(pause_s), int(size)))
