"""Leases: which workers are alive, by what they themselves have said of late.

The ends of leases are times of Redis' clock, so no worker's clock matters.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from notifier.errors import Unavailable
from notifier.state.script import Script
from notifier.state.store import Store
from notifier.tasks import end

_logger = logging.getLogger(__name__)

BEAT_S = 3.0
LEASE_S = 10.0
SWEPT_FOR_S = 3600


class Leases:
    """This worker's lease, which is called as its node is, and the others'.

    `on_lost` is called when Redis did not know the lease that it had been told (it lost its data, or somebody took this
    worker for gone); `on_swept` besides in the second case; `on_dead` is awaited with each lease that is over.
    """

    def __init__(self, store: Store, own: str) -> None:
        self.own = own
        self._store = store
        self._key = store.key("presence", "leases")
        self._beat = Script("lease_beat")
        self._alive = Script("lease_alive")
        self._beaten = False
        self._beating: asyncio.Task[None] | None = None
        self._now = asyncio.Event()
        self.on_lost: Callable[[], None] = _nothing
        self.on_swept: Callable[[], None] = _nothing
        self.on_dead: Callable[[str], Awaitable[None]] = _nothing_to_sweep
        store.on_back.append(self._now.set)

    def start(self) -> None:
        self._beating = asyncio.create_task(self._beat_for_ever())

    async def stop(self) -> None:
        """Give the lease back, if Redis is there."""
        if self._beating is not None:
            await end(self._beating)
        with contextlib.suppress(Unavailable):
            await self.remove(self.own)

    async def alive(self) -> list[str]:
        """Raises Unavailable."""
        found = await self._store.call(lambda redis: self._alive.run(redis, [self._key]))
        return [lease.decode() for lease in found]

    async def remove(self, lease: str) -> None:
        """Raises Unavailable."""
        await self._store.call(lambda redis: redis.zrem(self._key, lease))

    async def mark_swept(self, lease: str) -> None:
        """If it was not gone after all, it learns that others were told so. Raises Unavailable."""
        await self._store.call(lambda redis: redis.set(self._swept_key(lease), "1", ex=SWEPT_FOR_S))

    async def _beat_for_ever(self) -> None:
        sweeping: asyncio.Task[None] | None = None
        try:
            while True:
                self._now.clear()
                try:
                    dead = await self._renew()
                    if dead and (sweeping is None or sweeping.done()):
                        sweeping = asyncio.create_task(self._sweep(dead))
                except Unavailable:
                    pass  # it goes on when Redis is back
                except Exception:
                    _logger.exception("the lease could not be renewed")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await self._now.wait()
        finally:
            if sweeping is not None:
                await end(sweeping)

    async def _renew(self) -> list[str]:
        """The leases that are over."""
        new, dead = await self._store.call(
            lambda redis: self._beat.run(redis, [self._key], self.own, int(LEASE_S * 1000))
        )
        if new:
            self.on_lost()
            forgotten = await self._store.call(lambda redis: redis.delete(self._swept_key(self.own)))
            if self._beaten and forgotten:
                self.on_swept()
        self._beaten = True
        return [lease.decode() for lease in dead]

    async def _sweep(self, dead: list[str]) -> None:
        for lease in dead:
            try:
                await self.on_dead(lease)
            except Unavailable:
                return
            except Exception:
                _logger.exception("what a worker left behind could not be swept away")

    def _swept_key(self, lease: str) -> str:
        return self._store.key("presence", "swept", lease)


def _nothing() -> None:
    pass


async def _nothing_to_sweep(_lease: str) -> None:
    pass
