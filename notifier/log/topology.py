"""What must exist on the broker: the exchange, the stream, their binding, the queue for rejected records.

Legal on RabbitMQ 3.10 and on 4.x: everything is durable or exclusive, nothing global.
"""

from __future__ import annotations

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from notifier.broker.link import Lost
from notifier.config import RabbitMQ
from notifier.errors import WorkRefused

MAX_REJECTED = 100_000


async def ensure(channel: AbstractChannel, section: RabbitMQ) -> None:
    """Declare everything, or only check it where the configuration says so. Raises WorkRefused with what differs, or
    Lost when the stream is there and will be available later.

    The channel is closed by the broker when something is refused.
    """
    try:
        await (_declare if section.declare else _check)(channel, section)
    except ChannelPreconditionFailed as error:
        raise WorkRefused(
            f"the broker has it declared differently: {_text(error)}; rabbitmq.declare = false takes it as it is"
        ) from error
    except ChannelNotFoundEntity as error:
        if "down or inaccessible" in _text(error):
            raise Lost("the stream is not available on the broker: its node is down or still starting") from error
        raise WorkRefused(f"missing on the broker, and rabbitmq.declare is false: {_text(error)}") from error


async def _declare(channel: AbstractChannel, section: RabbitMQ) -> None:
    exchange = await channel.declare_exchange(section.exchange, ExchangeType.TOPIC, durable=True)
    stream = await channel.declare_queue(
        section.stream,
        durable=True,
        arguments={
            "x-queue-type": "stream",
            "x-max-age": f"{int(section.max_age)}s",
            "x-max-length-bytes": int(section.max_bytes),
        },
    )
    await stream.bind(exchange, "#")
    await channel.declare_queue(
        section.rejected, durable=True, arguments={"x-max-length": MAX_REJECTED, "x-overflow": "drop-head"}
    )


async def _check(channel: AbstractChannel, section: RabbitMQ) -> None:
    """A missing binding shows when a marker comes back as unroutable."""
    await channel.declare_exchange(section.exchange, ExchangeType.TOPIC, durable=True, passive=True)
    await channel.declare_queue(section.stream, durable=True, passive=True)
    await channel.declare_queue(section.rejected, durable=True, passive=True)


def _text(error: Exception) -> str:
    return str(error.args[-1]) if error.args else type(error).__name__
