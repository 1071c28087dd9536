"""Revocations that outlive the log: a worker that starts later than `log.known_for` still learns of them.

The log comes first: a revocation holds when it stands there. Every worker that reads it there notes it here as well,
which costs nothing when it is known (they are rare), and makes up for what an outage of Redis or of a worker has lost.

Key: `revocations`, a sorted set of revocations in JSON by the wall time until which they are kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import islice

import msgspec
from redis.asyncio import Redis

from notifier.core.orders import Revocation
from notifier.core.ports import Clock
from notifier.core.revocations import MOST
from notifier.errors import Unavailable
from notifier.state.store import Store
from notifier.tasks import end

_logger = logging.getLogger(__name__)

AT_ONCE = 1000
RETRY_S = 2.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Revocation).decode


class RedisRevocations:
    """`obey` is called with those that are found in Redis, new ones or not. `settled` is set when all have been looked
    at for the first time, or could not be."""

    def __init__(self, store: Store, keep_s: float, clock: Clock, obey: Callable[[list[Revocation]], None]) -> None:
        self._store = store
        self._key = store.key("revocations")
        self._keep_s = keep_s
        self._clock = clock
        self._obey = obey
        self._unwritten: dict[bytes, float] = {}
        self._to_load = False
        self._wake = asyncio.Event()
        self._working: asyncio.Task[None] | None = None
        self.settled = asyncio.Event()
        store.on_back.append(self._load_again)

    def start(self) -> None:
        self._working = asyncio.create_task(self._work())

    async def stop(self) -> None:
        if self._working is not None:
            await end(self._working)

    def note(self, revocation: Revocation) -> None:
        """Keep it, when Redis can be reached."""
        self._unwritten[_encode(revocation)] = self._clock.time() + self._keep_s
        if len(self._unwritten) > MOST:
            del self._unwritten[next(iter(self._unwritten))]
        self._wake.set()

    def _load_again(self) -> None:
        self._to_load = True
        self._wake.set()

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._to_load:
                    await self._load()
                    self._to_load = False
                await self._write()
            except Unavailable:
                if not self._store.problem:  # otherwise it says when it is back
                    asyncio.get_running_loop().call_later(RETRY_S, self._wake.set)
            except Exception:
                _logger.exception("revocations could not be shared")
            finally:
                self.settled.set()

    async def _load(self) -> None:
        """Raises Unavailable."""
        cursor, now_s = 0, self._clock.time()
        while True:
            cursor, found = await self._store.call(
                lambda redis, at=cursor: redis.zscan(self._key, at, count=AT_ONCE)  # type: ignore[misc]
            )
            self._obey([revocation for member, until in found if until > now_s and (revocation := _revocation(member))])
            if not cursor:
                return

    async def _write(self) -> None:
        """Raises Unavailable; then they are written later."""
        while self._unwritten:
            some = dict(islice(self._unwritten.items(), AT_ONCE))
            await self._store.call(lambda redis, some=some: self._add(redis, some))  # type: ignore[misc]
            for member in some:
                self._unwritten.pop(member, None)

    async def _add(self, redis: Redis, some: dict[bytes, float]) -> None:
        """Those that are known keep their end: reading the log again makes nothing younger."""
        many = redis.pipeline(transaction=False)
        many.zadd(self._key, some, nx=True)
        many.zremrangebyscore(self._key, "-inf", self._clock.time())
        many.zremrangebyrank(self._key, 0, -MOST - 1)
        await many.execute()


def _revocation(member: bytes) -> Revocation | None:
    """None for what no worker has written."""
    try:
        return _decode(member)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
