"""The private RabbitMQ: what is confirmed survives, what is frozen is silent, what is closed is gone."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from tests.conftest import need
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST
from tests.services.rabbitmq import RabbitMQ


async def declare(channel: AbstractChannel, name: str) -> AbstractQueue:
    """The stream, made when missing."""
    return await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "stream"})


@contextlib.asynccontextmanager
async def opened(broker: RabbitMQ, stream: str) -> AsyncIterator[tuple[AbstractChannel, AbstractQueue]]:
    """A channel and the stream on it, tried again while a broker that just started elects its leader."""

    async def attempt() -> AbstractConnection:
        connection = await aio_pika.connect(broker.url)
        try:
            await declare(await connection.channel(), stream)
        except BaseException:
            await connection.close()
            raise
        return connection

    async with await eventually(attempt, retry=(ChannelNotFoundEntity,)) as connection:
        channel = await connection.channel()
        yield channel, await declare(channel, stream)


async def publish(broker: RabbitMQ, queue: str, bodies: list[bytes]) -> None:
    """Append to a stream, made when missing; returns when the broker has confirmed all of them."""
    async with opened(broker, queue) as (channel, _):
        for body in bodies:
            await channel.default_exchange.publish(aio_pika.Message(body), routing_key=queue)


async def consume(broker: RabbitMQ, queue: str, count: int) -> list[bytes]:
    """The first records of a stream."""
    bodies: list[bytes] = []

    async def keep(message: AbstractIncomingMessage) -> None:
        bodies.append(message.body)
        await message.ack()

    async with opened(broker, queue) as (channel, stream):
        await channel.set_qos(prefetch_count=100)
        await stream.consume(keep, arguments={"x-stream-offset": "first"})
        await eventually(lambda: len(bodies) >= count)
    return bodies


async def test_a_published_record_is_read_back(rabbitmq: RabbitMQ) -> None:
    await publish(rabbitmq, "services.read", [b"one", b"two"])
    assert await consume(rabbitmq, "services.read", 2) == [b"one", b"two"]


async def test_what_was_confirmed_survives_a_kill(private_rabbitmq: RabbitMQ) -> None:
    broker = private_rabbitmq
    await publish(broker, "services.kill", [b"before"])
    await asyncio.to_thread(broker.kill)
    assert not broker.running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOCALHOST, broker.port))

    await asyncio.to_thread(broker.start)
    await publish(broker, "services.kill", [b"after"])
    assert await consume(broker, "services.kill", 2) == [b"before", b"after"]


async def test_what_was_confirmed_survives_an_orderly_restart(private_rabbitmq: RabbitMQ) -> None:
    broker = private_rabbitmq
    await publish(broker, "services.restart", [b"before"])
    await asyncio.to_thread(broker.restart)
    assert await consume(broker, "services.restart", 1) == [b"before"]


async def test_a_frozen_broker_is_silent_but_its_connections_live(private_rabbitmq: RabbitMQ) -> None:
    broker = private_rabbitmq
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        broker.freeze()
        answer = asyncio.ensure_future(channel.declare_queue("services.frozen", durable=True))
        done, _ = await asyncio.wait([answer], timeout=0.3)
        assert not done
        broker.thaw()
        async with asyncio.timeout(10 * SECOND):
            assert (await answer).name == "services.frozen"


def test_rabbitmqctl_speaks_to_the_private_broker(rabbitmq: RabbitMQ) -> None:
    assert rabbitmq.node in rabbitmq.ctl("eval", "node().")
    with pytest.raises(RuntimeError, match="does not exist"):
        rabbitmq.ctl("delete_user", "nobody")


def test_a_plugin_listens_on_its_own_port_and_nothing_outlives_the_end() -> None:
    need(RabbitMQ)
    with RabbitMQ(plugins=["rabbitmq_stream"]) as broker:
        socket.create_connection((LOCALHOST, broker.port_of("rabbitmq_stream"))).close()
        folder = broker.folder
        assert mentioning(folder)
    assert not mentioning(folder)
    assert not folder.exists()


def mentioning(folder: Path) -> list[str]:
    """The processes that were started with this folder in their environment."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(folder).encode() in environ.read_bytes():
                found.append(environ.parent.name)
        except OSError:
            pass  # ended meanwhile, or somebody else's
    return found
