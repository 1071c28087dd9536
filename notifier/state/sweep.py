"""Sweep: what a worker that was killed has left behind is taken away, and its clients' leaves are announced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from notifier.protocol.messages import ClientInfo
from notifier.state import entries
from notifier.state.leases import Leases
from notifier.state.presence import CHANNELS_AT_ONCE, index_key, members, pipeline
from notifier.state.store import Store

_logger = logging.getLogger(__name__)

CLAIM_S = 15
ANNOUNCED_AT_ONCE = 500


class Sweeper:
    """`is_heard(node id)`: the worker still speaks with the others, so it is not gone, it only has lost Redis.
    `announce_left(channel, info)` tells those who want to know."""

    def __init__(
        self,
        store: Store,
        leases: Leases,
        is_heard: Callable[[str], bool],
        announce_left: Callable[[str, ClientInfo], None],
    ) -> None:
        self._store = store
        self._leases = leases
        self._is_heard = is_heard
        self._announce_left = announce_left
        leases.on_dead = self.sweep

    async def sweep(self, lease: str) -> None:
        """By one worker at a time; if that one ends in the middle of it, another one goes on a little later, and some
        leaves are announced twice. Raises Unavailable."""
        if self._is_heard(lease) or not await self._claim(lease, first=True):
            return
        index = index_key(self._store, lease)
        channels = [channel.decode() for channel in await members(self._store, index)]
        _logger.info("a worker is gone", extra={"node": lease, "channels": len(channels)})
        for start in range(0, len(channels), CHANNELS_AT_ONCE):
            await self._sweep_channels(lease, channels[start : start + CHANNELS_AT_ONCE])
            await self._claim(lease, first=False)
        await self._store.call(lambda redis: redis.delete(index))
        await self._leases.mark_swept(lease)
        await self._leases.remove(lease)

    async def _claim(self, lease: str, *, first: bool) -> bool:
        key = self._store.key("presence", "sweep", lease)
        return bool(await self._store.call(lambda redis: redis.set(key, self._leases.own, ex=CLAIM_S, nx=first)))

    async def _sweep_channels(self, lease: str, channels: list[str]) -> None:
        keys = [self._store.key("presence", f"{{c{channel}}}", lease) for channel in channels]
        answers = await pipeline(self._store, [("HVALS", key) for key in keys])
        for channel, values in zip(channels, answers, strict=True):
            for start in range(0, len(values), ANNOUNCED_AT_ONCE):
                self._announce(channel, values[start : start + ANNOUNCED_AT_ONCE])
                await asyncio.sleep(0)  # what was announced goes out with the end of the tick
        done: list[tuple[str, ...]] = [("DEL", key) for key in keys]
        await pipeline(self._store, [*done, ("SREM", index_key(self._store, lease), *channels)])

    def _announce(self, channel: str, values: list[bytes]) -> None:
        for value in values:
            with contextlib.suppress(ValueError):
                info, tells = entries.unpack(value)
                if tells:
                    self._announce_left(channel, info)
