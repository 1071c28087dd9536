"""The way to the other workers on RabbitMQ: a fanout exchange, and for each worker an exclusive queue that the broker
names. Workers say hello every few seconds, so that each knows whose answers to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable

from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import AMQPException

from notifier.broker.link import LOST, Lost, describe, lost_is_no_cancellation
from notifier.core.stats import Stats
from notifier.errors import Rejected, Unavailable
from notifier.tasks import end

_logger = logging.getLogger(__name__)

HELLO_EVERY_S, FORGOTTEN_AFTER_S = 2.0, 7.0
ANSWER_WITHIN_S = 1.0
MESSAGE_TTL_S = 10
MAX_AT_ONCE, MAX_OTHERS, MAX_UNSAID = 1000, 1000, 1000
HELLO, BYE, TELL, ASK, ANSWER = _KINDS = "hello", "bye", "tell", "ask", "answer"


class RabbitMQBus:
    """A `core.ports.Bus`. What is told while the broker is away is not told later: `tell` says so."""

    on_message: Callable[[bytes], Awaitable[bytes]]

    def __init__(self, exchange: str, node_id: str, stats: Stats, *, declare: bool = True) -> None:
        self._name = exchange
        self._declare = declare
        self._node_id = node_id
        self._stats = stats
        self._exchange: AbstractExchange | None = None
        self._direct: AbstractExchange | None = None
        self._queue = ""
        self._seen: dict[str, float] = {}
        self._questions: dict[str, tuple[set[str], list[bytes], asyncio.Event]] = {}
        self._handling: set[asyncio.Task[None]] = set()
        self._unsaid: asyncio.Queue[bytes] = asyncio.Queue(MAX_UNSAID)

    async def run(self, connection: AbstractConnection) -> None:
        """Take part for as long as the connection lasts."""
        channel = connection.channel()
        await channel.initialize()
        saying = asyncio.create_task(self._say_what_is_unsaid())
        try:
            await self._join(channel)
            await self._say_hello(channel)
        except Unavailable as error:
            raise Lost(str(error)) from error
        finally:
            self._exchange = None
            self._seen.clear()
            await end(saying)

    async def leave(self) -> None:
        """Tell the others not to wait for this one."""
        with contextlib.suppress(Unavailable):
            await self._publish(BYE)

    @property
    def others(self) -> list[str]:
        oldest = time.monotonic() - FORGOTTEN_AFTER_S
        return [node for node, seen in self._seen.items() if seen > oldest]

    def knows(self, node_id: str) -> bool:
        return node_id in self.others

    async def tell(self, message: bytes) -> None:
        await self._publish(TELL, message)

    def say(self, message: bytes) -> None:
        if not self._seen:
            return
        try:
            self._unsaid.put_nowait(message)
        except asyncio.QueueFull:
            self._stats.rejected["too_many_control"] += 1

    async def ask(self, question: bytes) -> list[bytes]:
        """A worker that does not answer within a second is taken for gone, until it says hello again."""
        waiting = set(self.others)
        if not waiting and self._exchange is not None:
            return []
        ref = uuid.uuid4().hex
        done = asyncio.Event()
        answers: list[bytes] = []
        self._questions[ref] = waiting, answers, done
        try:
            await self._publish(ASK, question, ref)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await done.wait()
        finally:
            del self._questions[ref]
        for silent in waiting:
            self._seen.pop(silent, None)
        return answers

    async def _join(self, channel: AbstractChannel) -> None:
        exchange = await channel.declare_exchange(
            self._name, ExchangeType.FANOUT, durable=True, passive=not self._declare
        )
        queue = await channel.declare_queue("", exclusive=True)
        await queue.bind(exchange)
        await queue.consume(self._receive, no_ack=True)
        self._exchange, self._direct, self._queue = exchange, channel.default_exchange, queue.name

    async def _say_hello(self, channel: AbstractChannel) -> None:
        lost = asyncio.ensure_future(channel.closed())
        while not lost.done():
            await self._publish(HELLO)
            await asyncio.wait({lost}, timeout=HELLO_EVERY_S)
            self._seen = {node: self._seen[node] for node in self.others}

    async def _say_what_is_unsaid(self) -> None:
        while True:
            message = await self._unsaid.get()
            with contextlib.suppress(Unavailable):
                await self._publish(TELL, message)

    async def _publish(self, kind: str, body: bytes = b"", ref: str = "", to: str = "") -> None:
        exchange = self._direct if to else self._exchange
        if self._exchange is None or exchange is None:
            raise Unavailable("RabbitMQ is away: the other workers cannot be reached")
        message = Message(
            body,
            type=kind,
            app_id=self._node_id,
            correlation_id=ref or None,
            reply_to=self._queue,
            expiration=MESSAGE_TTL_S,
            delivery_mode=DeliveryMode.NOT_PERSISTENT,
        )
        try:
            with lost_is_no_cancellation():
                await exchange.publish(message, to, timeout=ANSWER_WITHIN_S, mandatory=False)
        except (*LOST, AMQPException) as error:
            raise Unavailable(f"the other workers cannot be reached: {describe(error)}") from error

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        sender = message.app_id or ""
        if sender == self._node_id:
            return
        is_new = sender not in self._seen
        if not sender or message.type not in _KINDS or (is_new and len(self._seen) >= MAX_OTHERS):
            self._stats.rejected["bad_control"] += 1
            return
        if message.type == BYE:
            self._seen.pop(sender, None)
            return
        self._seen[sender] = time.monotonic()
        if message.type == HELLO and is_new:
            with contextlib.suppress(Unavailable):
                await self._publish(HELLO)
        elif message.type == ANSWER:
            self._take_answer(sender, message.correlation_id or "", message.body)
        elif message.type in (TELL, ASK):
            if len(self._handling) >= MAX_AT_ONCE:
                self._stats.rejected["too_many_control"] += 1
                return
            # Beside the way in: what one message waits for must not hold the others back.
            task = asyncio.create_task(self._handle(message))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

    async def _handle(self, message: AbstractIncomingMessage) -> None:
        try:
            answer = await self.on_message(message.body)
            if message.type == ASK and message.reply_to:
                await self._publish(ANSWER, answer, message.correlation_id or "", message.reply_to)
        except Rejected as error:
            self._stats.rejected[error.reason] += 1
        except Unavailable:
            pass  # whoever asked has lost the broker as well
        except Exception:  # one message must not end the others
            _logger.exception("a message of another worker could not be handled")

    def _take_answer(self, sender: str, ref: str, body: bytes) -> None:
        question = self._questions.get(ref)
        if question is None or sender not in question[0]:
            return
        waiting, answers, done = question
        waiting.discard(sender)
        answers.append(body)
        if not waiting:
            done.set()
