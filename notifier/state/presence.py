"""Presence: who is on the channels of all workers, kept in Redis.

Each worker writes its own entries, in batches, under a lease that it renews every few seconds. Entries without a lease
count for nothing, so those of a worker that was killed are gone when its lease is; somebody else then sweeps them away
and announces that their clients have left. What Redis has lost, its workers write again.

Keys, all parts of one channel in one slot of a cluster:

    presence:leases                 sorted set: leases by their end
    presence:on:LEASE               set: the channels with entries of the lease
    presence:{cCHANNEL}:LEASE       hash: client id to entry
    presence:{cCHANNEL}:count       the numbers of a large channel, for a second
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from redis.asyncio import Redis

from notifier.core.presence import PresenceList, too_many
from notifier.errors import Unavailable
from notifier.protocol.messages import ClientInfo, PresenceStatsResult
from notifier.state import entries
from notifier.state.leases import Leases
from notifier.state.script import Script
from notifier.state.store import Store
from notifier.tasks import end

_logger = logging.getLogger(__name__)

BATCH_S = 0.1
RETRY_S = 2.0
KEPT_S, REFRESH_S = 300, 100.0  # so that nothing stays for ever whose lease was lost, and nothing else goes
CHANNELS_AT_ONCE = 100
ENTRIES_AT_ONCE = 1000
LARGE = 1000
LARGE_FOR_MS = 1000

Tells = Callable[[str, str], bool]


class RedisPresence:
    """A `core.ports.Presence`. `tells(channel, client id)` says whether others are told when this client leaves."""

    def __init__(self, store: Store, leases: Leases, local: PresenceList, tells: Tells) -> None:
        self._store = store
        self._leases = leases
        self._local = local
        self._tells = tells
        self._changed: dict[str, set[str]] = {}
        self._written: set[str] = set()
        self._stale = True
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._list = Script("presence_list")
        self._count = Script("presence_count")
        local.on_change = self._note
        leases.on_lost = self._write_all_again
        store.on_back.append(self._write_all_again)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._write_changes()), asyncio.create_task(self._refresh())]

    async def stop(self) -> None:
        """Take the own entries away, if Redis is there."""
        await end(*self._tasks)
        with contextlib.suppress(Unavailable):
            for channels in _parts(self._written, CHANNELS_AT_ONCE):
                await self._pipeline([("DEL", self._key(channel)) for channel in channels])
            await self._store.call(lambda redis: redis.delete(self._index))

    async def of(self, channel: str, most: int) -> dict[str, ClientInfo]:
        keys = await self._keys(channel)
        if not keys:
            return {}
        number, values = await self._store.call(lambda redis: self._list.run(redis, keys, most))
        if number > most:
            raise too_many(number, most)
        found: dict[str, ClientInfo] = {}
        for value in values:
            with contextlib.suppress(ValueError):
                info, _ = entries.unpack(value)
                found[info.client] = info
        return found

    async def count(self, channel: str) -> PresenceStatsResult:
        keys = await self._keys(channel)
        if not keys:
            return PresenceStatsResult(0, 0)
        kept = self._key(channel, "count")
        answer = await self._store.call(lambda redis: self._count.run(redis, [kept, *keys], LARGE, LARGE_FOR_MS))
        clients, users = answer.split()
        return PresenceStatsResult(int(clients), int(users))

    async def _keys(self, channel: str) -> list[str]:
        """Where the channel's entries are that count. Who asks finds what happened on this worker before."""
        if channel in self._changed:
            async with self._writing:
                await self._flush()
        return [self._key(channel, lease) for lease in await self._leases.alive()]

    def _key(self, channel: str, of: str = "") -> str:
        # A letter before the name: with an empty tag a cluster would take the whole key for it.
        return self._store.key("presence", f"{{c{channel}}}", of or self._leases.own)

    @property
    def _index(self) -> str:
        return index_key(self._store, self._leases.own)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _note(self, channel: str, client_id: str) -> None:
        if self._stale:
            return  # all will be written
        self._changed.setdefault(channel, set()).add(client_id)
        self._wake.set()

    def _write_all_again(self) -> None:
        self._stale = True
        self._changed.clear()
        self._wake.set()

    async def _write_changes(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(BATCH_S)
            self._wake.clear()
            try:
                async with self._writing:
                    await (self._write_all() if self._stale else self._flush())
            except Unavailable:
                await asyncio.sleep(RETRY_S)
            except Exception:
                _logger.exception("presence could not be written")
                await asyncio.sleep(RETRY_S)

    async def _flush(self) -> None:
        """Write what has changed. Raises Unavailable."""
        changed, self._changed = self._changed, {}
        with self._all_again_unless_done():
            for channels in _parts(changed, CHANNELS_AT_ONCE):
                await self._write({channel: changed[channel] for channel in channels})

    async def _write_all(self) -> None:
        """Make what is in Redis what is here: add, change and remove. Raises Unavailable."""
        self._stale = False
        self._changed.clear()
        with self._all_again_unless_done():
            self._written = {name.decode() for name in await members(self._store, self._index)}
            here = set(self._local.channels())
            for channels in _parts(self._written | here, CHANNELS_AT_ONCE):
                there = await self._pipeline([("HKEYS", self._key(channel)) for channel in channels])
                changed = {}
                for channel, known in zip(channels, there, strict=True):
                    changed[channel] = {client_id.decode() for client_id in known} | self._local.of(channel).keys()
                await self._write(changed)

    @contextlib.contextmanager
    def _all_again_unless_done(self) -> Iterator[None]:
        """Whatever was done of it when it failed, or whoever waited for it went away."""
        try:
            yield
        except BaseException:
            self._write_all_again()
            raise

    async def _write(self, changed: dict[str, set[str]]) -> None:
        """These clients of these channels: what is there now, or nothing. Raises Unavailable."""
        begun = [channel for channel in changed if channel not in self._written and self._local.of(channel)]
        commands: list[tuple[Any, ...]] = [("SADD", self._index, *begun)] if begun else []
        for channel, client_ids in changed.items():
            commands += self._commands(channel, client_ids)
        ended = [channel for channel in changed if channel in self._written and not self._local.of(channel)]
        commands += [("SREM", self._index, *ended)] if ended else []
        # What changes from here on is noted, and written next time.
        self._written.update(begun)
        self._written.difference_update(ended)
        for part in _parts(commands, ENTRIES_AT_ONCE):
            await self._pipeline(part)

    def _commands(self, channel: str, client_ids: set[str]) -> Iterable[tuple[Any, ...]]:
        key, present = self._key(channel), self._local.of(channel)
        if not present:
            return [("DEL", key)]
        commands: list[tuple[Any, ...]] = []
        commands += [("HDEL", key, *part) for part in _parts(client_ids - present.keys(), ENTRIES_AT_ONCE)]
        for part in _parts(client_ids & present.keys(), ENTRIES_AT_ONCE):
            packed = ((name, entries.pack(present[name], tells=self._tells(channel, name))) for name in part)
            commands.append(("HSET", key, *(word for pair in packed for word in pair)))
        if len(present) <= len(client_ids):
            commands.append(("EXPIRE", key, KEPT_S))  # it may be new; from then on `_refresh` does it
        return commands

    async def _refresh(self) -> None:
        """Keep what is here from expiring, and write what is gone all the same (evicted, removed by somebody)."""
        while True:
            await asyncio.sleep(REFRESH_S)
            for channels in _parts(self._written, CHANNELS_AT_ONCE):
                try:
                    kept = await self._pipeline([("EXPIRE", self._key(channel), KEPT_S) for channel in channels])
                except Unavailable:
                    break
                for channel in (name for name, is_there in zip(channels, kept, strict=True) if not is_there):
                    for client_id in self._local.of(channel):
                        self._note(channel, client_id)
            with contextlib.suppress(Unavailable):
                if self._written and not await self._store.call(lambda redis: redis.exists(self._index)):
                    self._write_all_again()

    async def _pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        return await pipeline(self._store, commands)


def index_key(store: Store, lease: str) -> str:
    return store.key("presence", "on", lease)


async def members(store: Store, key: str) -> list[bytes]:
    """A set's members, in steps, so that none of them takes long. Raises Unavailable."""
    found: list[bytes] = []
    cursor = 0
    while True:
        cursor, some = await store.call(lambda redis, at=cursor: redis.sscan(key, at, count=1000))  # type: ignore[misc]
        found += some
        if not cursor:
            return found


async def pipeline(store: Store, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Many commands at once, in their order for each key. Raises Unavailable, also when only one of them failed."""

    async def run(redis: Redis) -> list[Any]:
        many = redis.pipeline(transaction=False)
        for command in commands:
            many.execute_command(*command)
        return await many.execute()

    return await store.call(run) if commands else []


def _parts(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    rest = iter(list(items))
    while part := list(islice(rest, size)):
        yield part
