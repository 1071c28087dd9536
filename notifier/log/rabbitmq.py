"""The log on RabbitMQ: one stream. Reading and publishing have a connection each, so that a broker that holds
publishers back (a memory or disk alarm) never holds back what is delivered."""

from __future__ import annotations

import asyncio
import contextlib
import time

from aio_pika.abc import AbstractConnection, AbstractExchange

from notifier.broker.link import LOST, Link, describe, lost_is_no_cancellation
from notifier.config import LogSection, RabbitMQ
from notifier.core.ports import Reader
from notifier.core.record import Draft
from notifier.core.stats import Stats
from notifier.errors import Unavailable
from notifier.log import amqp, markers, topology
from notifier.log.rejects import Rejects
from notifier.log.tail import Tail
from notifier.tasks import end

MAX_APPENDS = 10_000
STALE_MARKERS = 3


class RabbitMQLog:
    """A `core.ports.Log`. `start` returns at once; the broker may come later."""

    def __init__(self, rabbitmq: RabbitMQ, section: LogSection, reader: Reader, stats: Stats, node_id: str) -> None:
        self._rabbitmq = rabbitmq
        self._section = section
        self._stats = stats
        self._node_id = node_id
        self._rejects = Rejects(rabbitmq.rejected, rabbitmq.stream)
        self._reader = reader
        self._tail = Tail(
            rabbitmq,
            section,
            reader,
            stats,
            on_begin=self._rejects.begin,
            on_marker=lambda marker: self._rejects.done(marker.copied),
            on_rejected=self._rejects.note,
            on_own=self._read_back,
            name=f"notifier {node_id} reading",
        )
        self._reading = Link(rabbitmq, "reading", node_id, stats)
        self._publishing = Link(rabbitmq, "publishing", node_id, stats)
        self._exchange: AbstractExchange | None = None
        self._appends: dict[str, tuple[asyncio.Future[int], float]] = {}
        self._last_ref = 0
        self._caught_up = asyncio.Event()
        self._marker_read_at = time.monotonic()
        self._marker_confirmed_at = 0.0
        self._declaring = asyncio.Lock()
        self._catching_up = asyncio.Lock()
        self._runs_begun = self._runs_ended = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._reading.run(self._read)),
            asyncio.create_task(self._publishing.run(self._publish)),
        ]

    async def stop(self) -> None:
        await end(*self._tasks)

    # --- what others see --------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        return self._tail.caught_up

    @property
    def problem(self) -> str:
        if self._reading.problem:
            return f"reading: {self._reading.problem}"
        if self._publishing.problem:
            return f"publishing: {self._publishing.problem}"
        if self._publishing.blocked:
            return "publishing: the broker holds publishers back (memory or disk alarm)"
        if self.ready and self.lag_s > self._patience_s:
            return f"no marker was read back for {self.lag_s:.0f} s"
        return ""

    @property
    def how(self) -> str:
        """Which protocol the log is read over, for people."""
        match self._tail.protocol, self._tail.instead:
            case "stream", _:
                return "read over the stream protocol"
            case "amqp", "":
                return "read over AMQP 0.9.1"
            case "amqp", why:
                return f"read over AMQP 0.9.1: {why}"
            case _:
                return ""

    @property
    def lag_s(self) -> float:
        return time.monotonic() - self._marker_read_at

    @property
    def blocked(self) -> bool:
        return self._publishing.blocked

    async def append(self, draft: Draft) -> int:
        """The record's offset, once this worker has read it back. Raises Unavailable; the record may still appear
        then."""
        try:
            async with asyncio.timeout(self._section.append_timeout):
                return await self._append(draft)
        except TimeoutError:
            raise Unavailable("the log did not take the record in time; it may still appear") from None
        except LOST as error:
            raise Unavailable(f"the log: {describe(error)}") from error

    async def catch_up(self) -> None:
        """Read everything that is in the log now. Callers at the same time share one marker."""
        needed = self._runs_begun + 1
        try:
            async with asyncio.timeout(self._section.append_timeout), self._catching_up:
                if self._runs_ended < needed:
                    self._runs_begun += 1
                    await self._append(self._marker())
                    self._runs_ended = self._runs_begun
        except TimeoutError:
            raise Unavailable("the log could not be read to its end in time") from None
        except LOST as error:
            raise Unavailable(f"the log: {describe(error)}") from error

    # --- reading ----------------------------------------------------------------------------------------------------

    async def _read(self, connection: AbstractConnection) -> None:
        await self._ensure_topology(connection)
        watch = asyncio.create_task(self._watch())
        try:
            await self._tail.run(connection)
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        """See to it that a consumer that gets nothing is not trusted: markers that were confirmed must come back. As
        long as what is before them comes, they are only late; another consumer would get it no sooner."""
        self._reading.well()
        self._marker_read_at = moved_at = time.monotonic()
        read = self._tail.end
        while True:
            await asyncio.sleep(self._section.marker_interval)
            if self._tail.end != read:
                read, moved_at = self._tail.end, time.monotonic()
            since = max(self._marker_read_at, self._tail.attached_at, moved_at)
            if self._marker_confirmed_at - since > self._patience_s:
                self._tail.give_up("confirmed markers do not come back")

    def _read_back(self, ref: str, offset: int) -> None:
        waiting = self._appends.pop(ref, None)
        if waiting is None:
            return
        future, since = waiting
        self._marker_read_at = time.monotonic()
        self._stats.append_to_read.observe(self._marker_read_at - since)
        if self.ready:  # else it waited for all that had to be read before it
            self._reader.sent(since)
        if self._tail.settle():
            self._caught_up.set()
        else:
            self._caught_up.clear()
        if not future.done():
            future.set_result(offset)

    # --- publishing -------------------------------------------------------------------------------------------------

    async def _publish(self, connection: AbstractConnection) -> None:
        await self._ensure_topology(connection)
        channel = connection.channel(on_return_raises=True)
        await channel.initialize()
        self._exchange = await channel.get_exchange(self._rabbitmq.exchange, ensure=False)
        self._publishing.well()
        beating = asyncio.create_task(self._beat())
        copying = asyncio.create_task(self._rejects.run(connection, self._caught_up))
        try:
            lost = asyncio.ensure_future(channel.closed())
            done, _ = await asyncio.wait({lost, beating, copying}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._exchange = None
            await end(beating, copying)

    async def _beat(self) -> None:
        """A marker now and every few seconds. Ends when one comes back as unroutable, so that the topology is looked
        at again."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._section.append_timeout):
                    await self._send(self._marker(), self._expect()[0])
                    self._marker_confirmed_at = time.monotonic()
            self._forget_overdue()
            await asyncio.sleep(self._section.marker_interval if self.ready else min(1, self._section.marker_interval))

    async def _append(self, draft: Draft) -> int:
        ref, future = self._expect()
        try:
            await self._send(draft, ref)
            return await future
        finally:
            self._appends.pop(ref, None)

    async def _send(self, draft: Draft, ref: str) -> None:
        """Publish and wait for the broker's confirm."""
        exchange = self._exchange
        if exchange is None:
            raise Unavailable(f"the log: {self._publishing.problem or 'not connected'}")
        with lost_is_no_cancellation():
            await exchange.publish(amqp.to_message(draft, ref), draft.channels[0], mandatory=True)

    def _expect(self) -> tuple[str, asyncio.Future[int]]:
        if len(self._appends) >= MAX_APPENDS:
            raise Unavailable("too many records wait to be read back")
        self._last_ref += 1
        ref = f"{self._node_id}-{self._last_ref}"
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._appends[ref] = future, time.monotonic()
        return ref, future

    def _forget_overdue(self) -> None:
        """Markers that never came back must not pile up."""
        oldest = time.monotonic() - 10 * self._patience_s
        for ref in [ref for ref, (_, since) in self._appends.items() if since < oldest]:
            del self._appends[ref]

    def _marker(self) -> Draft:
        marker = self._tail.marker(self._node_id, self._rejects.copied)
        return Draft([markers.CHANNEL], markers.encode(marker))

    async def _ensure_topology(self, connection: AbstractConnection) -> None:
        async with self._declaring:  # a stream that two connections declare at once is an internal error of the broker
            channel = connection.channel()
            await channel.initialize()
            await topology.ensure(channel, self._rabbitmq)
            await channel.close()

    @property
    def _patience_s(self) -> float:
        return STALE_MARKERS * self._section.marker_interval + self._section.append_timeout
