"""Copies of records that are no publications, for people to look at: each once, into one queue.

All workers see every bad record; the one that holds an exclusive queue copies it. Its markers say how far it has got,
so that neither a new holder nor a restarted one copies again what has been copied.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelClosed
from aiormq.exceptions import ChannelLockedResource

from notifier.core.rates import Limiter, Rate
from notifier.errors import Rejected
from notifier.log.entry import Entry

_logger = logging.getLogger(__name__)

MAX_PENDING = 10_000
HOLDER_RETRY_S = 5.0
MAX_DETAIL_CHARS = 300
MAX_SHORT_BYTES = 255
LINES_A_MINUTE = 10  # of each reason: a publisher that errs fills a queue that is bounded, not the log
LINES_AT_ONCE = 20


def _short(text: str) -> str | None:
    """What was read as it could be may be longer than it was (`broker.decoding`)."""
    return text.encode()[:MAX_SHORT_BYTES].decode(errors="ignore") or None


class Rejects:
    """What waits to be copied, and up to which offset all has been."""

    def __init__(self, queue: str, stream: str) -> None:
        self._queue = queue
        self._holder_queue = f"{stream}.rejects-holder"
        self._pending: deque[tuple[int, Entry, Rejected]] = deque(maxlen=MAX_PENDING)
        self._more = asyncio.Event()
        self._lines: Limiter[str] = Limiter(Rate(LINES_A_MINUTE / 60, LINES_AT_ONCE))
        self.copied = 0

    def note(self, entry: Entry, offset: int, why: Rejected) -> None:
        """A bad record was read."""
        if offset > self.copied:
            self._pending.append((offset, entry, why))
            self._more.set()

    def done(self, offset: int) -> None:
        """Everything up to this offset has been copied, by whomever."""
        self.copied = max(self.copied, offset)
        while self._pending and self._pending[0][0] <= self.copied:
            self._pending.popleft()

    def begin(self) -> None:
        """The log is read anew; if it is another one, its offsets begin again."""
        self._pending.clear()
        self.copied = 0

    async def run(self, connection: AbstractConnection, caught_up: asyncio.Event) -> None:
        """Become the holder as soon as it can be, then copy what comes. Ends when the connection does."""
        await caught_up.wait()  # until then it is not known what has been copied
        while True:
            channel = connection.channel(on_return_raises=True)
            await channel.initialize()
            try:
                # The broker gives it to one connection and frees it when that connection is gone.
                await channel.declare_queue(self._holder_queue, exclusive=True)
                break
            except (ChannelLockedResource, ChannelClosed):
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # the refusal took the place of the cancellation (seen with aiormq 7.2.4)
                await asyncio.sleep(HOLDER_RETRY_S)
        while True:
            await self._more.wait()
            self._more.clear()
            while self._pending:
                offset, entry, why = self._pending[0]
                await self._copy(channel, entry, offset, why)
                self.done(offset)

    async def _copy(self, channel: AbstractChannel, entry: Entry, offset: int, why: Rejected) -> None:
        copy = Message(
            entry.body,
            headers={
                "x-rejected-reason": why.reason,
                "x-rejected-detail": why.detail[:MAX_DETAIL_CHARS],
                "x-rejected-offset": offset,
                "x-rejected-routing-key": entry.key,
            },
            message_id=_short(entry.message_id),
            content_type=_short(entry.content_type),
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        await channel.default_exchange.publish(copy, self._queue, mandatory=True, timeout=10)
        if self._lines.take(why.reason, time.monotonic()):
            return  # the queue and `notifier_rejected_total` have it
        _logger.warning(
            "a record was rejected: %s",
            why.detail[:MAX_DETAIL_CHARS],
            extra={"reason": why.reason, "offset": offset, "message_id": entry.message_id},
        )
