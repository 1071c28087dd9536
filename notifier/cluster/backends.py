"""Calls of clients to programs behind the broker: a message to their queue, and the answer by RabbitMQ's direct
reply-to (https://www.rabbitmq.com/docs/direct-reply-to), which needs no queue of ours.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Annotated

import msgspec
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPException, DeliveryError
from msgspec import Meta, Struct

from notifier.broker.link import LOST, describe, lost_is_no_cancellation
from notifier.errors import Unavailable
from notifier.protocol.codes import CommandFailed, Error

REPLY_TO = "amq.rabbitmq.reply-to"
CLIENT, ERROR_CODE = "notifier-client", "notifier-error-code"
MAX_WAITING = 10_000
SEND_WITHIN_S = 5.0
LEAST_CODE, MOST_CODE = 100, 1999  # SDKs take smaller ones for their own (protocol.md section 3.1)


class RabbitMQBackends:
    """A `core.ports.Backends`. A request carries the method in `type` and who asks in the header `notifier-client`; an
    answer is a JSON value, or an error: a number in the header `notifier-error-code` with a text as the body."""

    def __init__(self) -> None:
        self._channel: AbstractChannel | None = None
        self._waiting: dict[str, asyncio.Future[AbstractIncomingMessage]] = {}

    async def run(self, connection: AbstractConnection) -> None:
        """Take part for as long as the connection lasts."""
        channel = connection.channel(on_return_raises=True)
        await channel.initialize()
        try:
            queue = await channel.get_queue(REPLY_TO, ensure=False)
            await queue.consume(self._receive, no_ack=True)
            self._channel = channel
            await channel.closed()
        finally:
            self._channel = None
            for answer in self._waiting.values():  # it would go to a queue that is gone
                if not answer.done():
                    answer.set_exception(Unavailable("RabbitMQ is away"))

    @property
    def ready(self) -> bool:
        """Whether calls can be made now."""
        return self._channel is not None

    async def call(self, queue: str, method: str, data: bytes, info: bytes, timeout_s: float) -> bytes:
        if len(self._waiting) >= MAX_WAITING:
            raise Unavailable("too many calls wait for their answer")
        ref = uuid.uuid4().hex
        answer: asyncio.Future[AbstractIncomingMessage] = asyncio.get_running_loop().create_future()
        self._waiting[ref] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await self._publish(queue, data, info, method, ref, timeout_s)
                return _content(await answer)
        except TimeoutError:
            raise Unavailable("nobody answered in time") from None
        finally:
            del self._waiting[ref]

    async def send(self, queue: str, data: bytes, info: bytes) -> None:
        await self._publish(queue, data, info, "send", "", None)

    async def _publish(
        self, queue: str, data: bytes, info: bytes, kind: str, ref: str, timeout_s: float | None
    ) -> None:
        channel = self._channel
        if channel is None:
            raise Unavailable("RabbitMQ is away")
        message = Message(
            data,
            type=kind,
            headers={CLIENT: info.decode()},
            content_type="application/json",
            correlation_id=ref or None,
            reply_to=REPLY_TO if ref else None,
            expiration=timeout_s,
            delivery_mode=DeliveryMode.NOT_PERSISTENT if ref else DeliveryMode.PERSISTENT,
        )
        try:
            with lost_is_no_cancellation():
                deadline_s = timeout_s or SEND_WITHIN_S
                await channel.default_exchange.publish(message, queue, mandatory=True, timeout=deadline_s)
        except DeliveryError as error:
            raise Unavailable(f"there is no queue {queue} on the broker") from error
        except (*LOST, AMQPException) as error:
            raise Unavailable(describe(error)) from error

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        answer = self._waiting.get(message.correlation_id or "")
        if answer is not None and not answer.done():
            answer.set_result(message)


class _Told(Struct):
    code: Annotated[int, Meta(ge=LEAST_CODE, le=MOST_CODE)]
    message: str


def _content(message: AbstractIncomingMessage) -> bytes:
    """The answer's JSON. Raises CommandFailed when it is an error of the application (protocol.md section 3.1)."""
    code = message.headers.get(ERROR_CODE)
    if code is None:
        return message.body
    try:
        told = msgspec.convert({"code": code, "message": message.body.decode(errors="replace")}, _Told)
    except msgspec.ValidationError as error:
        raise Unavailable(f"the answer's error code is not a number from {LEAST_CODE} to {MOST_CODE}") from error
    raise CommandFailed(Error(told.code, told.message[:1000] or "error"))
