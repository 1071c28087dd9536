"""The server API over AMQP: a request to the exchange `notifications.api` with the method as its routing key, or in
`type`; the answer goes to the request's `reply_to`, with its `correlation_id`.

Who may publish to that exchange is RabbitMQ's to say. All workers take requests from one queue: each is answered once.
"""

from __future__ import annotations

import logging
from functools import partial

import msgspec
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPException

from notifier.api import methods
from notifier.broker.link import LOST
from notifier.core.node import Node
from notifier.protocol.codes import INTERNAL, METHOD_NOT_FOUND, CommandFailed, Error, bad_request

_logger = logging.getLogger(__name__)

AT_ONCE = 100


class AmqpApi:
    """Takes requests for as long as a connection lasts. `name` is the exchange's and the queue's."""

    def __init__(self, node: Node, name: str, max_body: int, *, declare: bool) -> None:
        self._node = node
        self._name = name
        self._max_body = max_body
        self._declare = declare

    async def run(self, connection: AbstractConnection) -> None:
        channel = connection.channel()
        await channel.initialize()
        await channel.set_qos(AT_ONCE)
        exchange = await channel.declare_exchange(
            self._name, ExchangeType.TOPIC, durable=True, passive=not self._declare
        )
        queue = await channel.declare_queue(self._name, durable=True, passive=not self._declare)
        if self._declare:
            await queue.bind(exchange, "#")
        await queue.consume(partial(self._take, channel))
        await channel.closed()

    async def _take(self, channel: AbstractChannel, message: AbstractIncomingMessage) -> None:
        answer = await self._answer(message)
        try:
            if message.reply_to:
                reply = Message(
                    answer,
                    content_type="application/json",
                    correlation_id=message.correlation_id,
                    delivery_mode=DeliveryMode.NOT_PERSISTENT,
                )
                await channel.default_exchange.publish(reply, message.reply_to, mandatory=False)
            await message.ack()
        except (*LOST, AMQPException):
            pass  # another worker gets the request; an `idempotency_key` makes that harmless
        except Exception:  # what does not fit into properties; the next request may
            _logger.exception("an answer over AMQP could not be sent")
            await message.reject(requeue=False)

    async def _answer(self, message: AbstractIncomingMessage) -> bytes:
        name = message.type or message.routing_key or ""
        if len(message.body) > self._max_body:
            return _error(bad_request(f"the body is larger than {self._max_body} bytes").error)
        try:
            return await methods.call(self._node, name, message.body)
        except methods.NoSuchMethod:
            return _error(METHOD_NOT_FOUND)
        except methods.BadBody as error:
            return _error(bad_request(str(error)).error)
        except CommandFailed as error:
            return _error(error.error)
        except Exception:  # one request must not end the others, and whoever asked waits
            _logger.exception("a request over AMQP failed", extra={"method": name[:100]})
            return _error(INTERNAL)


def _error(error: Error) -> bytes:
    return msgspec.json.encode({"error": error})
