"""The server API over AMQP: a request to the exchange `notifications.api` with the method as its routing key, or in
`type`; the answer goes to the request's `reply_to`, with its `correlation_id`.

Who may publish to that exchange is RabbitMQ's to say. All workers take requests from one queue: each is answered once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

import msgspec
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPException

from notifier.api import methods
from notifier.api.audit import Audit
from notifier.broker.link import LOST, lost_is_no_cancellation
from notifier.core.node import Node
from notifier.protocol.codes import INTERNAL, METHOD_NOT_FOUND, CommandFailed, Error, bad_request
from notifier.telemetry import logs

_logger = logging.getLogger(__name__)

AT_ONCE = 100


class AmqpApi:
    """Takes requests for as long as a connection lasts. `name` is the exchange's and the queue's."""

    def __init__(self, node: Node, name: str, max_body: int, audit: Audit, *, declare: bool) -> None:
        self._node = node
        self._name = name
        self._max_body = max_body
        self._audit = audit
        self._declare = declare
        self._queue: AbstractQueue | None = None
        self._consumer = ""
        self._answering = 0

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
        self._consumer = await queue.consume(partial(self._take, channel))
        self._queue = queue
        try:
            await channel.closed()
        finally:
            self._queue = None

    async def finish(self) -> None:
        """Take no more requests, and answer those that were taken. What waits in the queue is for other workers."""
        queue, self._queue = self._queue, None
        if queue is not None:
            with contextlib.suppress(*LOST, AMQPException), lost_is_no_cancellation():
                await queue.cancel(self._consumer)
        while self._answering:  # noqa: ASYNC110 - once in a worker's life
            await asyncio.sleep(0.02)

    async def _take(self, channel: AbstractChannel, message: AbstractIncomingMessage) -> None:
        self._answering += 1
        try:
            await self._reply(channel, message, await self._answer(message))
        finally:
            self._answering -= 1

    async def _reply(self, channel: AbstractChannel, message: AbstractIncomingMessage, answer: bytes) -> None:
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
            by = f"AMQP user {message.user_id}" if message.user_id else "AMQP"
            with logs.of_request(message.correlation_id or ""):
                return await self._audit.call(self._node, name, message.body, by)
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
