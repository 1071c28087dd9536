"""The process that publishes: so many a second, evenly, never waiting for an answer.

A publication carries the moment at which it was really handed over. When the publisher is late, that does not show as
the server's latency but in its own report.
"""

from __future__ import annotations

import array
import asyncio
import time
from multiprocessing.connection import Connection

import msgspec
from aiormq.exceptions import AMQPError

from loadtest.feeds import Feed
from loadtest.latency import Quantiles
from loadtest.limits import on_core
from loadtest.traffic import Bodies, Traffic

# A timer of the loop is only good to a millisecond or two. The last bit is slept without it: nothing else is to do.
COARSE_S = 0.003
# Above 1,000 a second what is due within a millisecond goes out in one write, as from several backends at once: with a
# write for each, publisher and broker would take the clients' core for themselves.
SHORTEST_PAUSE_S = 0.001
CLOSE_DEADLINE_S = 20.0


class Spec(msgspec.Struct, frozen=True):
    feed: Feed
    traffic: Traffic
    client_core: int


class Connected(msgspec.Struct, frozen=True):
    """Ready to publish."""


class Start(msgspec.Struct, frozen=True):
    """Publish this many from this moment of the monotonic clock on."""

    at: float
    count: int


class Published(msgspec.Struct, frozen=True):
    """`lag`: how much later than planned they were handed over."""

    count: int
    seconds: float
    cpu_s: float
    lag: Quantiles | None


class Failed(msgspec.Struct, frozen=True):
    reason: str


def main(spec: Spec, pipe: Connection) -> None:
    """The process: connects, waits for `Start`, publishes, reports, ends."""
    with on_core(spec.client_core):
        try:
            asyncio.run(_main(spec, pipe))
        except (OSError, RuntimeError, TimeoutError, AMQPError) as error:
            pipe.send(Failed(f"{type(error).__name__}: {error}"))


async def _main(spec: Spec, pipe: Connection) -> None:
    feed = spec.feed
    await feed.open()
    pipe.send(Connected())
    start = await asyncio.to_thread(pipe.recv)
    if not isinstance(start, Start):
        return
    published = await publish(feed, spec.traffic, start)
    async with asyncio.timeout(CLOSE_DEADLINE_S):
        await feed.close()
    pipe.send(published)


async def publish(feed: Feed, traffic: Traffic, start: Start) -> Published:
    """All of them, each when it is due."""
    bodies = Bodies(traffic.size)
    channels = traffic.order()
    interval = 1 / traffic.rate
    lags = array.array("q")
    number = 0
    clock, begin_cpu_s = time.monotonic, time.process_time()
    await _sleep_until(start.at)
    while number < start.count:
        flushed = clock()
        due = min(start.count, int((flushed - start.at) * traffic.rate) + 1)
        while number < due:
            now_ns = time.monotonic_ns()
            lags.append(max(0, now_ns - int((start.at + number * interval) * 1e9)))
            feed.send(channels[number % len(channels)], bodies.make(number, now_ns))
            number += 1
        await feed.flush()
        await _sleep_until(max(start.at + number * interval, flushed + SHORTEST_PAUSE_S))
    return Published(number, clock() - start.at, time.process_time() - begin_cpu_s, Quantiles.of_ns(lags))


async def _sleep_until(moment: float) -> None:
    left = moment - time.monotonic()
    if left > COARSE_S:
        await asyncio.sleep(left - COARSE_S)
        left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)
