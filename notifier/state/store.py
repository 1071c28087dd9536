"""Store: the way to Redis. A call either succeeds soon, or fails at once with `Unavailable`.

After a call has failed for want of Redis it counts as away: calls fail without being tried until a probe, once a
second, finds it well again. So an outage costs whoever asks nothing but the answer, and piles nothing up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import Redis

from notifier.config import Redis as RedisSection
from notifier.config import redis_address
from notifier.core.stats import Stats
from notifier.errors import Unavailable
from notifier.state.client import Client, connect
from notifier.state.failures import BUSY, FAILURES, Failure, failure_of
from notifier.tasks import end

_logger = logging.getLogger(__name__)

T = TypeVar("T")

PROBE_EVERY_S = 1.0
PROBE_REFUSED_EVERY_S = 5.0  # a user or a password that is wrong stays so until somebody does something
PROBE_WELL_EVERY_S = 5.0
MOST_WAITING = 5000
REFUSAL_SHOWN_FOR_S = 30.0


class Store:
    """`start` returns at once; Redis may come later. `on_back` functions are called each time it is reached (again),
    and when it is another server than before.

    `problem` says why Redis is away, empty when it is not; `refusal` what it has refused lately while it was there.
    """

    def __init__(self, section: RedisSection, stats: Stats | None = None) -> None:
        self._section = section
        self._prefix = section.prefix
        self._stats = stats or Stats()
        self._client: Client | None = None
        self._probing: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()
        self._tried = asyncio.Event()
        self._turns = asyncio.Semaphore(section.connections)
        self._waiting = 0
        self._refused: tuple[str, float] = "", 0.0
        self._reason = ""
        self._servers: frozenset[str] = frozenset()
        self.on_back: list[Callable[[], None]] = []
        self.problem = "not connected yet"
        self._stats.redis_up = 0

    def start(self) -> None:
        self._probing = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._probing is not None:
            await end(self._probing)
        self.problem = self.problem or "stopped"
        await asyncio.gather(*self._closing)
        if self._client is not None:
            await self._client.close()

    async def tried(self) -> None:
        """Wait until Redis was reached for the first time, or was found away."""
        await self._tried.wait()

    @property
    def refusal(self) -> str:
        text, until = self._refused
        return text if time.monotonic() < until else ""

    def key(self, *parts: str) -> str:
        """The name of a key: the prefix and the parts, with colons between them."""
        return ":".join((self._prefix, *parts))

    async def call(self, work: Callable[[Redis], Awaitable[T]]) -> T:
        """Do the work with the client, which answers in bytes. It has one deadline as a whole, `redis.timeout`, and is
        cut off there; what it had sent may have been done.

        Raises Unavailable when Redis is away, does not want it, or has too much to do.
        """
        if self.problem:
            raise self._unavailable()
        if self._waiting >= MOST_WAITING:
            raise self._failure(BUSY)
        client: Client | None = None
        self._waiting += 1
        cancelled_before = _cancelling()
        try:
            async with asyncio.timeout(self._section.timeout), self._turns:
                if self.problem or self._client is None:
                    raise self._unavailable()
                client = self._client
                self._stats.redis_calls += 1
                with client.in_use() as redis:
                    return await work(redis)
        except FAILURES as error:
            failure = failure_of(error) if client is not None else BUSY
            if failure.away and client is self._client:
                self._away(failure)
            raise self._failure(failure) from None  # the library's text may hold what was sent
        finally:
            self._waiting -= 1
            _heed_cancelling(cancelled_before)

    def _unavailable(self) -> Unavailable:
        self._stats.redis_failed["away"] += 1
        return Unavailable(f"Redis is away: {self.problem}")

    def _failure(self, failure: Failure) -> Unavailable:
        self._stats.redis_failed[failure.reason] += 1
        if failure.away:
            return Unavailable(f"Redis is away: {failure.text}")
        if failure is not BUSY:
            self._refuse(failure)
        return Unavailable(f"Redis has not answered: {failure.text}")

    def _refuse(self, failure: Failure) -> None:
        if not self.refusal:
            _logger.warning("Redis has refused a call: %s", failure.text)
        self._refused = failure.text, time.monotonic() + REFUSAL_SHOWN_FOR_S

    def _away(self, failure: Failure) -> None:
        if failure.text != self.problem:
            _logger.warning("Redis is away: %s", failure.text)
        self.problem, self._reason = failure.text, failure.reason
        self._stats.redis_up = 0
        self._failed.set()

    async def _watch(self) -> None:
        """Look whether Redis is well, for ever: often when it is not, sometimes when it is."""
        while True:
            failure = await self._probe()
            _heed_cancelling(0)
            if failure is not None and failure.away:
                self._away(failure)
            elif failure is not None:
                self._refuse(failure)
            self._tried.set()
            if not self.problem:
                self._failed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PROBE_WELL_EVERY_S):
                        await self._failed.wait()
            if self.problem:
                delay_s = PROBE_REFUSED_EVERY_S if self._reason == "auth" else PROBE_EVERY_S
                await asyncio.sleep(delay_s * random.uniform(0.75, 1.25))  # noqa: S311 - spread, not secret

    async def _probe(self) -> Failure | None:
        """What is wrong, None when all is well: it answers, and takes a write. After an outage a new client is tried,
        which takes the old one's place when it works."""
        fresh: Client | None = None
        servers: frozenset[str] = frozenset()
        hosts = len(redis_address(self._section.url).hosts)
        try:
            # Longer than a call: those of a cluster's nodes or sentinels that are silent are asked before the others.
            async with asyncio.timeout(self._section.timeout * (1 + (hosts if hosts > 1 else 0))):
                client = fresh = connect(self._section) if self.problem or self._client is None else None
                client = client or self._client
                assert client is not None  # noqa: S101 - for the type checker: one of the two is there
                await client.ping()
                servers = await client.servers()
                failure = await self._write(client)
        except FAILURES as error:
            failure = failure_of(error)
            failure = failure._replace(away=True)
        if failure is None or not failure.away:
            if fresh is not None:
                self._take(fresh)
            elif servers != self._servers:
                # A failover or a restart that no call has met: the last writes may be lost.
                _logger.info("Redis is another server than before")
                self._back()
            self._servers = servers
        elif fresh is not None:
            await fresh.close()
        return failure

    async def _write(self, client: Client) -> Failure | None:
        """A replica answers a ping like a master; a write tells them apart."""
        try:
            await client.redis.set(self.key("probe"), "1", ex=60)
        except FAILURES as error:
            return failure_of(error)
        return None

    def _take(self, fresh: Client) -> None:
        old, self._client = self._client, fresh
        if old is not None:
            closing = asyncio.create_task(old.retire())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self.problem = self._reason = ""
        self._stats.redis_up = 1
        _logger.info("connected to Redis")
        self._back()

    def _back(self) -> None:
        for function in self.on_back:
            function()


def _cancelling() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _heed_cancelling(before: int) -> None:
    """Python 3.11's `asyncio.wait_for`, with which the library writes, forgets that its task was cancelled when that
    happens as the write is done (python/cpython#86296, mended in 3.12): whoever cancelled it would wait for ever."""
    if _cancelling() > before:
        raise asyncio.CancelledError
