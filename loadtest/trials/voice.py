"""The process that publishes in a trial: evenly, until it is told to stop."""

from __future__ import annotations

import asyncio
import time
from multiprocessing.connection import Connection

import msgspec
from aiormq.exceptions import AMQPError

from loadtest.feeds import Feed
from loadtest.limits import on_core
from loadtest.publisher import Connected, Failed
from loadtest.traffic import Bodies, Traffic

LONGEST_SLEEP_S = 0.05
CLOSE_DEADLINE_S = 20.0


class Spec(msgspec.Struct, frozen=True):
    """`most`: end after so many without being told; 0 for no end."""

    feed: Feed
    traffic: Traffic
    client_core: int
    most: int = 0


class Stop(msgspec.Struct, frozen=True):
    """Publish no more, and say how many there were."""


class Said(msgspec.Struct, frozen=True):
    """`latest_s`: how much later than planned one of them was handed over, at most."""

    count: int
    latest_s: float


def main(spec: Spec, pipe: Connection) -> None:
    """The process."""
    with on_core(spec.client_core):
        try:
            asyncio.run(_main(spec, pipe))
        except (OSError, RuntimeError, TimeoutError, AMQPError) as error:
            pipe.send(Failed(f"{type(error).__name__}: {error}"))


async def _main(spec: Spec, pipe: Connection) -> None:
    feed, rate = spec.feed, spec.traffic.rate
    bodies, channel = Bodies(spec.traffic.size), spec.traffic.channels_of(0)[0]
    await feed.open()
    pipe.send(Connected())
    began, count, latest_s = time.monotonic(), 0, 0.0
    while not pipe.poll() and (not spec.most or count < spec.most):
        late_s = time.monotonic() - (began + count / rate)
        if late_s < 0:
            await asyncio.sleep(min(-late_s, LONGEST_SLEEP_S))
            continue
        latest_s = max(latest_s, late_s)
        feed.send(channel, bodies.make(count, time.monotonic_ns()))
        count += 1
        await feed.flush()
    async with asyncio.timeout(CLOSE_DEADLINE_S):
        await feed.close()
    pipe.send(Said(count, latest_s))
