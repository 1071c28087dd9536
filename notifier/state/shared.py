"""Shared: what nodes share in Redis beside the archive, started and stopped together."""

from __future__ import annotations

import asyncio
import contextlib

from notifier.config import Config
from notifier.core.node import Node
from notifier.core.ports import Bus
from notifier.protocol.messages import ClientInfo
from notifier.state.leases import Leases
from notifier.state.presence import RedisPresence
from notifier.state.rates import RedisRates
from notifier.state.revocations import RedisRevocations
from notifier.state.store import Store
from notifier.state.sweep import Sweeper


class Shared:
    """`start` after the store and the node's control, and before the log is read."""

    def __init__(self, config: Config, store: Store, node: Node, bus: Bus) -> None:
        self._node = node
        self.store = store
        self._leases = Leases(self.store, node.node_id)
        self.presence = RedisPresence(self.store, self._leases, node.presence, node.tells)
        self._leases.on_swept = self._announce_again
        self._revocations = RedisRevocations(self.store, config.auth.revocations_for, node.clock, node.revoke)
        node.on_revoked = self._revocations.note
        node.rates = RedisRates(self.store, config.limits, node.rates)
        self._start_within_s = 2 * config.redis.timeout
        Sweeper(self.store, self._leases, bus.knows, self._announce_left)

    @property
    def detail(self) -> str:
        """What operators should know; empty when all is well."""
        problem = self.store.problem or self.store.refusal
        return f"degraded: {problem}" if problem else ""

    async def start(self) -> None:
        """Returns when the revocations are known, or when Redis is away or slow: nobody is kept waiting for it long."""
        self._revocations.start()
        self._leases.start()
        self.presence.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._start_within_s):
                await self.store.tried()
                if not self.store.problem:
                    await self._revocations.settled.wait()

    async def stop(self) -> None:
        await self._revocations.stop()
        await self.presence.stop()
        await self._leases.stop()

    def _announce_left(self, channel: str, info: ClientInfo) -> None:
        self._node.control.announce(channel, info, left=True)

    def _announce_again(self) -> None:
        self._node.control.announce_again()
