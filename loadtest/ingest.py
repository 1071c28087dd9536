"""Ingest: what reading the log costs, from the wire to the history of channels that nobody subscribes to.

A stream is filled once; then a fresh process on one core reads it from its beginning, over each of the broker's
protocols in turn. What is counted is that process's CPU between the first record and the last.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection

import aio_pika
import msgspec
import uvloop

from loadtest import environment
from loadtest.feeds import AmqpFeed
from loadtest.limits import NotEnough, check_cores, on_core
from loadtest.peers.broker import STREAMS, stream_url
from loadtest.traffic import Bodies
from notifier.collector import Collector, look_at_young
from notifier.config import ChannelRule, Config, Duration, HistoryRule, LogSection, RabbitMQ, Secret
from notifier.log.rabbitmq import RabbitMQLog
from notifier.pulse import Pulse
from notifier.server import Server
from tests.services.rabbitmq import RabbitMQ as Broker

WAYS = ("stream", "amqp")
EXCHANGE, STREAM, REJECTED = "ingest", "ingest.log", "ingest.rejected"
AT_ONCE = 500
POLL_S = 0.002
PATIENCE_S = 120.0


class Job(msgspec.Struct, frozen=True):
    """What a reading process is told."""

    url: str
    stream_url: str
    way: str
    messages: int
    core: int


class Reading(msgspec.Struct, frozen=True):
    """Between the first record and the last: `longest_s` is the longest time for which the loop had no turn."""

    way: str
    cpu_us: float
    per_s: float
    longest_s: float


def main(argv: list[str]) -> int:
    """Exit code 0: measured; 2: cannot be measured here."""
    parser = argparse.ArgumentParser(prog="python -m loadtest ingest", description=__doc__)
    add = parser.add_argument
    add("--messages", type=int, default=200_000, help="in the stream (default: %(default)s)")
    add("--channels", type=int, default=1000, help="that they are spread over (default: %(default)s)")
    add("--size", type=int, default=200, help="bytes of one message's data (default: %(default)s)")
    add("--rounds", type=int, default=5, help="every round reads in every way (default: %(default)s)")
    add("--server-core", type=int, default=0, help="core of the reader (default: %(default)s)")
    add("--client-core", type=int, default=1, help="core of the broker (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        check_cores(options.server_core, options.client_core)
    except NotEnough as error:
        print(f"loadtest: {error}")
        return 2
    with on_core(options.client_core), Broker(plugins=[STREAMS]) as broker:
        asyncio.run(_fill(broker.url, options.messages, options.channels, options.size))
        jobs = [
            Job(broker.url, stream_url(broker), way, options.messages, options.server_core)
            for round_ in range(options.rounds)
            for way in (WAYS if round_ % 2 else WAYS[::-1])
        ]
        print(table([_measured(job) for job in jobs], options))
    return 0


def table(readings: list[Reading], options: argparse.Namespace) -> str:
    """Markdown: medians and the ratio of each to reading over AMQP 0.9.1."""
    seen = environment.look()
    lines = [
        f"{options.messages:,} messages of {options.size} bytes, {options.channels:,} channels, {options.rounds} times",
        f"{seen.cpu}, Python {seen.python}, load {seen.load_before}",
        "",
        "| read over | CPU µs a message | ratio | messages/s | longest turn of the loop, ms |",
        "|---|---|---|---|---|",
    ]
    base = statistics.median(reading.cpu_us for reading in readings if reading.way == "amqp")
    for way in WAYS:
        own = [reading for reading in readings if reading.way == way]
        cpu_us = statistics.median(reading.cpu_us for reading in own)
        per_s = statistics.median(reading.per_s for reading in own)
        longest_ms = 1000 * statistics.median(reading.longest_s for reading in own)
        lines.append(f"| {way} | {cpu_us:.1f} | {cpu_us / base:.2f} | {per_s:,.0f} | {longest_ms:.1f} |")
    return "\n".join(lines)


async def _fill(url: str, messages: int, channels: int, size: int) -> None:
    """A stream as the server would declare it, with as many messages."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    stream = await channel.declare_queue(STREAM, durable=True, arguments={"x-queue-type": "stream"})
    await channel.declare_queue(REJECTED, durable=True)
    await stream.bind(exchange, "#")
    feed = AmqpFeed(url, EXCHANGE)
    await feed.open()
    bodies = Bodies(size)
    for start in range(0, messages, AT_ONCE):
        for number in range(start, min(start + AT_ONCE, messages)):
            feed.send(f"user.{number % channels}", bodies.make(number, 0))
        await feed.flush()
    # Published without confirms: what the broker has not appended when the connection ends is lost.
    async with asyncio.timeout(PATIENCE_S):
        while ((await stream.declare()).message_count or 0) < messages:
            await asyncio.sleep(POLL_S)
    await feed.close()
    await connection.close()


def _measured(job: Job) -> Reading:
    """In a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(job, theirs))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        raise RuntimeError("the reading process ended without a result") from None
    finally:
        process.join()
    assert isinstance(found, Reading)
    return found


def _read(job: Job, result: Connection) -> None:
    with on_core(job.core):
        result.send(uvloop.run(_reading(job)))


async def _reading(job: Job) -> Reading:
    server = Server(_config(job))
    history = server.node.history
    log = server.log
    assert isinstance(log, RabbitMQLog)
    # Garbage is looked for as in a worker (`notifier.running`), which is not what Python does by itself.
    collector = Collector(server.node.stats)
    pulse = Pulse(lambda _late_s: look_at_young(), collector.tick)
    pulse.start()
    await log.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not history.end:
                await asyncio.sleep(0)
            first, begin_s, begin_cpu_s = history.end, time.monotonic(), time.process_time()
            longest_s, last_s = 0.0, begin_s
            while history.end < job.messages:
                await asyncio.sleep(POLL_S)
                now_s = time.monotonic()
                longest_s, last_s = max(longest_s, now_s - last_s - POLL_S), now_s
            cpu_s, seconds = time.process_time() - begin_cpu_s, time.monotonic() - begin_s
    finally:
        await log.stop()
        pulse.stop()
    count = history.end - first
    return Reading(job.way, cpu_s / count * 1e6, count / seconds, longest_s)


def _config(job: Job) -> Config:
    rule = ChannelRule(match="#", history=HistoryRule(size=10, ttl=Duration(30 * 86400)), subscribe=["anyone"])
    rabbitmq = RabbitMQ(
        url=Secret(job.url),
        stream_url=Secret(job.stream_url),
        reader="stream" if job.way == "stream" else "amqp",
        exchange=EXCHANGE,
        stream=STREAM,
        rejected=REJECTED,
        declare=False,
    )
    return Config(log=LogSection(kind="rabbitmq"), rabbitmq=rabbitmq, channels=[rule])
