"""What a worker has of presence in Redis, without the worker."""

from __future__ import annotations

from typing import Self

from notifier.config import Redis
from notifier.core.presence import PresenceList
from notifier.protocol.messages import ClientInfo
from notifier.state.leases import Leases
from notifier.state.presence import RedisPresence
from notifier.state.store import Store
from notifier.state.sweep import Sweeper
from tests.services.deadline import SECOND, eventually


class Member:
    """Notes in `left` whose leaves it would announce, in `again` how often its own joins. It hears those in `heard`."""

    def __init__(self, section: Redis, name: str) -> None:
        self.name = name
        self.local = PresenceList()
        self.left: list[tuple[str, str]] = []
        self.again = 0
        self.heard: set[str] = set()
        self.silent_on: set[str] = set()
        self.store = Store(section)
        self.leases = Leases(self.store, name)
        self.presence = RedisPresence(
            self.store, self.leases, self.local, lambda channel, _: channel not in self.silent_on
        )
        Sweeper(
            self.store,
            self.leases,
            self.heard.__contains__,
            lambda channel, info: self.left.append((channel, info.client)),
        )
        self.leases.on_swept = self._announce_again

    async def start(self) -> Self:
        self.store.start()
        self.leases.start()
        self.presence.start()
        await eventually(lambda: not self.store.problem and self.leases._beaten, 60 * SECOND)
        await self.written()
        return self

    async def stop(self) -> None:
        await self.presence.stop()
        await self.leases.stop()
        await self.store.stop()

    async def kill(self) -> None:
        """Gone without a word."""
        assert self.leases._beating is not None
        for task in (*self.presence._tasks, self.leases._beating):
            task.cancel()
        await self.store.stop()

    def join(self, channel: str, *clients: str, user: str | None = None) -> None:
        for client in clients:
            self.local.add(channel, ClientInfo(f"user of {client}" if user is None else user, client))

    def leave(self, channel: str, *clients: str) -> None:
        for client in clients:
            self.local.remove(channel, client)

    async def on(self, channel: str) -> list[str]:
        return sorted(await self.presence.of(channel, 10_000))

    async def written(self) -> None:
        """All that has happened here is in Redis."""
        presence = self.presence
        await eventually(lambda: not (presence._stale or presence._changed or presence._writing.locked()), 30 * SECOND)

    def _announce_again(self) -> None:
        self.again += 1
