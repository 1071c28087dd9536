"""The broker: its version, whether all is declared and permitted, alarms, its certificate, its clock's use."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPException, ChannelClosed

from notifier.broker.link import LOST, Lost, describe
from notifier.config import Config, RabbitMQ
from notifier.errors import WorkRefused
from notifier.log import topology
from notifier.log.readers import Readers
from notifier.operator.doctor.certificate import certificate_of
from notifier.operator.doctor.finding import Finding, Level, fail, ok, warn

TOPIC = "rabbitmq"
FIRST_WITH_STREAMS, FIRST_TESTED = (3, 9), (3, 10)
ALARM_WITHIN_S = 1.0
STEP_WITHIN_S = 4.0


async def look(config: Config) -> list[Finding]:
    if config.log.kind != "rabbitmq":
        return []
    section = config.rabbitmq
    found = await _certificate(section)
    try:
        async with asyncio.timeout(section.connect_timeout):
            connection = await aio_pika.connect(
                str.__str__(section.url), client_properties={"connection_name": "notifier doctor"}
            )
    except (*LOST, AMQPException) as error:
        fix = "see that the broker runs, and rabbitmq.url: host, port, user, password, virtual host"
        return [*found, fail(TOPIC, describe(error), fix)]
    for step in (_version, _alarm, _permissions, _declarations, _protocol):
        try:
            async with asyncio.timeout(STEP_WITHIN_S):
                found += await step(connection, section)
            if step is _alarm and found[-1].level is Level.FAIL:
                break  # the broker reads nothing more from this connection
        except (*LOST, AMQPException) as error:
            found.append(fail(TOPIC, describe(error), "see the broker's log"))
    with contextlib.suppress(*LOST):
        async with asyncio.timeout(STEP_WITHIN_S):  # a broker that holds publishers back does not hear the goodbye
            await connection.close()
    return found


async def _version(connection: AbstractConnection, _section: RabbitMQ) -> list[Finding]:
    properties = _server_properties(connection)
    text = _text(properties.get("version"))
    numbers = tuple(int(number) for number in re.findall(r"\d+", text)[:2])
    if not numbers:
        return [warn(TOPIC, "the broker does not tell its version", "see that it is RabbitMQ, 3.10 or newer")]
    if numbers < FIRST_WITH_STREAMS:
        return [fail(TOPIC, f"RabbitMQ {text} has no streams", "RabbitMQ 3.10 or newer")]
    if numbers < FIRST_TESTED:
        return [warn(TOPIC, f"RabbitMQ {text} is older than what this server is tested with", "3.10 or newer")]
    return [ok(TOPIC, f"RabbitMQ {text}")]


async def _alarm(connection: AbstractConnection, _section: RabbitMQ) -> list[Finding]:
    """A publisher to a queue of its own gets its confirms at once, unless the broker holds publishers back: then it
    takes a first message, and no second one."""
    channel = await connection.channel()
    queue = await channel.declare_queue("", exclusive=True)
    began = time.monotonic()
    try:
        async with asyncio.timeout(ALARM_WITHIN_S):
            for _ in range(2):
                await channel.default_exchange.publish(aio_pika.Message(b""), queue.name)
    except TimeoutError:
        text = "the broker holds publishers back: a memory or disk alarm"
        return [fail(TOPIC, text, "rabbitmq-diagnostics alarms; free memory or disk there")]
    return [ok(TOPIC, f"takes messages within {(time.monotonic() - began) * 1000:.0f} ms")]


async def _permissions(connection: AbstractConnection, section: RabbitMQ) -> list[Finding]:
    """What a node does on its queues and exchanges, tried. Only rights that are missing are findings."""
    tries: list[tuple[str, str, Callable[[AbstractChannel], Awaitable[object]]]] = [
        ("read", section.stream, lambda channel: _read(channel, section.stream)),
        ("write", section.exchange, lambda channel: _write(channel, section.exchange)),
        ("write", section.control, lambda channel: _write(channel, section.control)),
        ("configure", "amq.gen-*", lambda channel: channel.declare_queue("", exclusive=True)),
    ]
    found: list[Finding] = []
    for right, name, attempt in tries:
        channel = await connection.channel(publisher_confirms=True)
        try:
            await attempt(channel)
            await channel.close()
        except ChannelClosed as error:
            text = describe(error)
            if "ACCESS_REFUSED" in text or "access to" in text:
                fix = f"rabbitmqctl set_permissions: let the user {right} {name}"
                found.append(fail(TOPIC, f"the user may not {right} {name}", fix))
    return found or [ok(TOPIC, "permissions suffice")]


async def _read(channel: AbstractChannel, name: str) -> None:
    queue = await channel.declare_queue(name, passive=True)
    await channel.set_qos(prefetch_count=1)
    tag = await queue.consume(_ignore, arguments={"x-stream-offset": "next"})
    await queue.cancel(tag)


async def _ignore(_message: object) -> None:
    pass


async def _write(channel: AbstractChannel, name: str) -> None:
    """The broker looks at the right to write before it looks at the message, and takes none in somebody else's name
    (https://www.rabbitmq.com/docs/validated-user-id): so the right is tried, and nothing is written."""
    exchange = await channel.get_exchange(name, ensure=False)
    await exchange.publish(aio_pika.Message(b"null", user_id=str(uuid.uuid4())), "$notifier.doctor")


async def _declarations(connection: AbstractConnection, section: RabbitMQ) -> list[Finding]:
    channel = await connection.channel()
    try:
        await topology.ensure(channel, section)
        await channel.close()
    except WorkRefused as error:
        fix = "delete it while nothing uses it, or set rabbitmq.* to what is there, or rabbitmq.declare = false"
        return [fail(TOPIC, str(error), fix)]
    return [ok(TOPIC, f"exchange {section.exchange}, stream {section.stream}, queue {section.rejected} are there")]


async def _protocol(connection: AbstractConnection, section: RabbitMQ) -> list[Finding]:
    """Which way the log can be read."""
    readers = Readers(section, "notifier doctor")
    fix = "rabbitmq-plugins enable rabbitmq_stream; let its port 5552 through, or say where it is: rabbitmq.stream_url"
    try:
        await readers.find(connection)
    except Lost as error:
        return [fail(TOPIC, f"the log cannot be read over the stream protocol: {error}", fix)]
    if readers.instead:
        text = f"the log is read over AMQP 0.9.1, which takes six times the CPU for each message: {readers.instead}"
        return [warn(TOPIC, text, f'{fix}; or rabbitmq.reader = "amqp"')]
    return [
        ok(TOPIC, f"the log is read over {'the stream protocol' if readers.protocol == 'stream' else 'AMQP 0.9.1'}")
    ]


async def _certificate(section: RabbitMQ) -> list[Finding]:
    """When the broker's certificate ends, where there is one."""
    url = urlsplit(str.__str__(section.url))
    if url.scheme != "amqps":
        return []
    return await certificate_of(TOPIC, url.hostname or "", url.port or 5671)


def _server_properties(connection: AbstractConnection) -> Mapping[str, Any]:
    transport = getattr(connection, "transport", None)
    found: Mapping[str, Any] = getattr(getattr(transport, "connection", None), "server_properties", None) or {}
    return found


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
