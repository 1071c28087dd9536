"""Publish a notification with aio-pika: python publish_aio_pika.py CHANNEL JSON"""

import asyncio
import contextlib
import json
import os
import sys
import uuid

import aio_pika
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, PublishError

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@localhost/")


class Publisher:
    """Keeps a connection open. Many tasks may publish at once."""

    def __init__(self):
        self._exchange = None
        self._connection = None
        self._opening = asyncio.Lock()

    async def publish(self, channel, data):
        """Returns when the broker has it. Raises PublishError when no stream is bound to the exchange, and what
        `aio_pika.connect` raises when the broker stays away."""
        message = aio_pika.Message(
            json.dumps(data).encode(),
            message_id=str(uuid.uuid4()),  # the same at every try, so that no client gets it twice
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        for pause_s in (0.5, 1, 2, 4, 8, None):
            try:
                exchange = await self._open()
                await exchange.publish(message, channel, mandatory=True, timeout=10)
            except PublishError:
                raise
            except CONNECTION_EXCEPTIONS:  # perhaps it has it all the same: try again
                await self.close()
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
            else:
                return

    async def close(self):
        connection, self._connection, self._exchange = self._connection, None, None
        if connection:
            with contextlib.suppress(*CONNECTION_EXCEPTIONS):  # it may be dead already
                await asyncio.wait_for(connection.close(), timeout=1)

    async def _open(self):
        async with self._opening:
            if self._exchange is None:
                self._connection = await aio_pika.connect(URL, timeout=10)
                channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                self._exchange = await channel.get_exchange("notifications")
            return self._exchange


async def main():
    publisher = Publisher()
    await publisher.publish(sys.argv[1], json.loads(sys.argv[2]))
    await publisher.close()
    print("confirmed")


if __name__ == "__main__":
    asyncio.run(main())
