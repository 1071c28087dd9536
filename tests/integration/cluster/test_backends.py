"""Calls of clients to a program that consumes a queue of a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import aio_pika
import pytest
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from notifier.cluster import backends
from notifier.config import Duration, RabbitMQ, RpcRule, Secret
from notifier.core.rpc import Methods
from notifier.errors import Unavailable
from notifier.protocol.codes import CommandFailed
from notifier.testing import Client, make_node
from tests.integration.cluster.conftest import NewMember
from tests.integration.cluster.member import Member
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ as Broker

INFO = b'{"user":"ann","client":"c1"}'
ENOUGH = 10 * SECOND


@pytest.fixture
async def member(new_member: NewMember) -> Member:
    return await new_member().start().ready()


class Backend:
    """Answers every call by a function of it; None leaves it without an answer."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue) -> None:
        self._channel = channel
        self.queue = queue
        self.asked: list[AbstractIncomingMessage] = []
        self.answer: Callable[[AbstractIncomingMessage], Message | None] = lambda message: Message(message.body)

    async def take(self, message: AbstractIncomingMessage) -> None:
        self.asked.append(message)
        await message.ack()
        answer = self.answer(message)
        if answer is not None and message.reply_to:
            answer.correlation_id = answer.correlation_id or message.correlation_id
            await self._channel.default_exchange.publish(answer, message.reply_to)


@pytest.fixture
async def backend(outsider: AbstractChannel, section: RabbitMQ) -> Backend:
    queue = await outsider.declare_queue(section.control + ".calls", auto_delete=True)
    backend = Backend(outsider, queue)
    await queue.consume(backend.take)
    return backend


async def call(member: Member, backend: Backend, data: bytes = b"1", timeout_s: float = ENOUGH) -> bytes:
    return await member.backends.call(backend.queue.name, "math.sum", data, INFO, timeout_s)


async def test_a_call_reaches_the_consumer_with_who_asks_and_the_answer_comes_back(
    member: Member, backend: Backend
) -> None:
    backend.answer = lambda message: Message(json.dumps(sum(json.loads(message.body))).encode())
    assert await call(member, backend, b"[1,2,3]") == b"6"
    [asked] = backend.asked
    assert (asked.type, asked.content_type) == ("math.sum", "application/json")
    assert asked.headers == {"notifier-client": INFO.decode()}
    assert asked.delivery_mode == DeliveryMode.NOT_PERSISTENT
    assert asked.expiration == ENOUGH


async def test_answers_find_their_calls_in_any_order(member: Member, backend: Backend) -> None:
    held: list[AbstractIncomingMessage] = []

    def hold(message: AbstractIncomingMessage) -> None:
        held.append(message)

    backend.answer = hold
    calls = [asyncio.create_task(call(member, backend, b"%d" % n)) for n in range(10)]
    await eventually(lambda: len(held) == 10)
    for message in reversed(held):
        assert message.reply_to
        answer = Message(message.body, correlation_id=message.correlation_id)
        await backend._channel.default_exchange.publish(answer, message.reply_to)
    assert await asyncio.gather(*calls) == [b"%d" % n for n in range(10)]


async def test_an_error_of_the_application_is_the_clients_error(member: Member, backend: Backend) -> None:
    backend.answer = lambda _: Message("zu groß".encode(), headers={"notifier-error-code": 1234})
    with pytest.raises(CommandFailed) as caught:
        await call(member, backend)
    assert (caught.value.error.code, caught.value.error.message) == (1234, "zu groß")


@pytest.mark.parametrize(
    ("code", "text"),
    [("1234", b"x"), (True, b"x"), (-1, b"x"), (99, b"x"), (2000, b"x"), (2**40, b"x"), (12.5, b"x"), ([1], b"x")],
)
async def test_a_code_that_clients_would_misunderstand_is_not_passed_on(
    member: Member, backend: Backend, code: Any, text: bytes
) -> None:
    backend.answer = lambda _: Message(text, headers={"notifier-error-code": code})
    with pytest.raises(Unavailable, match="100 to 1999"):
        await call(member, backend)


async def test_an_error_without_a_text_or_with_too_much_of_it_has_a_fitting_one(
    member: Member, backend: Backend
) -> None:
    backend.answer = lambda message: Message(message.body, headers={"notifier-error-code": 400})
    for data, text in ((b"", "error"), (b"\xff", "\N{REPLACEMENT CHARACTER}"), (b"x" * 5000, "x" * 1000)):
        with pytest.raises(CommandFailed) as caught:
            await call(member, backend, data)
        assert caught.value.error.message == text


async def test_when_nobody_answers_the_caller_is_told_in_time(member: Member, backend: Backend) -> None:
    backend.answer = lambda _: None
    started = time.monotonic()
    with pytest.raises(Unavailable, match="in time"):
        await call(member, backend, timeout_s=0.3)
    assert time.monotonic() - started < 0.3 + 5 * SECOND
    assert not member.backends._waiting


async def test_a_call_that_nobody_takes_leaves_its_queue_when_its_time_is_over(
    member: Member, outsider: AbstractChannel, section: RabbitMQ
) -> None:
    queue = await outsider.declare_queue(section.control + ".idle", exclusive=True)
    with pytest.raises(Unavailable, match="in time"):
        await member.backends.call(queue.name, "m", b"1", INFO, 0.2)
    await eventually(lambda: _is_empty(queue))


async def _is_empty(queue: AbstractQueue) -> bool:
    return await queue.get(fail=False) is None


async def test_a_late_answer_and_one_to_nobody_are_ignored(member: Member, backend: Backend) -> None:
    backend.answer = lambda _: None
    with pytest.raises(Unavailable):
        await call(member, backend, timeout_s=0.1)
    [late] = backend.asked
    assert late.reply_to
    for ref in (late.correlation_id, "never asked", None):
        await backend._channel.default_exchange.publish(Message(b"1", correlation_id=ref), late.reply_to)
    backend.answer = lambda _: Message(b"2")
    assert await call(member, backend) == b"2"


async def test_a_queue_that_is_missing_is_named(member: Member) -> None:
    with pytest.raises(Unavailable, match="no queue nowhere on the broker"):
        await member.backends.call("nowhere", "m", b"1", INFO, ENOUGH)
    with pytest.raises(Unavailable, match="no queue nowhere on the broker"):
        await member.backends.send("nowhere", b"1", INFO)


async def test_what_is_sent_waits_in_its_queue(member: Member, backend: Backend) -> None:
    await member.backends.send(backend.queue.name, b'{"n":1}', INFO)
    await eventually(lambda: backend.asked)
    [sent] = backend.asked
    assert (sent.body, sent.type, sent.reply_to, sent.correlation_id) == (b'{"n":1}', "send", None, None)
    assert sent.delivery_mode == DeliveryMode.PERSISTENT
    assert sent.headers["notifier-client"] == INFO.decode()


async def test_waiting_calls_are_bounded(member: Member, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "MAX_WAITING", 1)
    backend.answer = lambda _: None
    first = asyncio.create_task(call(member, backend, timeout_s=60))
    await eventually(lambda: backend.asked)
    with pytest.raises(Unavailable, match="too many"):
        await call(member, backend)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    backend.answer = lambda _: Message(b"2")
    assert await call(member, backend) == b"2"


async def test_a_client_calls_a_backend_by_the_rules_of_the_configuration(member: Member, backend: Backend) -> None:
    node = make_node()
    node.backends = member.backends
    node.methods = Methods([RpcRule(method="math.*", queue=backend.queue.name, allow=["anyone"])])
    client = Client(node)
    await client.send({"id": 1, "connect": {}})
    backend.answer = lambda message: Message(b'{"you asked":\n' + message.body + b"}")
    [reply] = await client.send({"id": 2, "rpc": {"method": "math.sum", "data": [1]}})
    assert reply == {"id": 2, "rpc": {"data": {"you asked": [1]}}}
    assert json.loads(str(backend.asked[0].headers["notifier-client"]))["client"] == client.session.client_id


async def test_calls_end_at_once_when_the_broker_goes_and_work_again_when_it_is_back(
    private_rabbitmq: Broker, new_member: NewMember
) -> None:
    section = RabbitMQ(url=Secret(private_rabbitmq.url), connect_timeout=Duration(3 * SECOND))
    member = await new_member(section).start().ready()
    await _declare(private_rabbitmq, "q")
    waiting = asyncio.create_task(member.backends.call("q", "m", b"1", INFO, 600))
    await eventually(lambda: bool(member.backends._waiting))
    private_rabbitmq.kill()
    with pytest.raises(Unavailable):
        await waiting
    await eventually(lambda: bool(member.connection.problem))
    with pytest.raises(Unavailable, match="away"):
        await member.backends.call("q", "m", b"1", INFO, ENOUGH)
    with pytest.raises(Unavailable, match="away"):
        await member.backends.send("q", b"1", INFO)
    private_rabbitmq.start()
    await member.ready()
    await _declare(private_rabbitmq, "q")  # a broker killed this soon may have forgotten it
    await member.backends.send("q", b"1", INFO)


async def _declare(broker: Broker, queue: str) -> None:
    async with await aio_pika.connect(broker.url) as connection:
        await (await connection.channel()).declare_queue(queue, durable=True)


async def test_what_is_sent_to_a_broker_that_hangs_ends_in_time(
    private_rabbitmq: Broker, new_member: NewMember, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "SEND_WITHIN_S", 0.5)
    section = RabbitMQ(url=Secret(private_rabbitmq.url), connect_timeout=Duration(3 * SECOND))
    member = await new_member(section).start().ready()
    private_rabbitmq.freeze()
    with pytest.raises(Unavailable):
        await member.backends.send("anything", b"1", INFO)
    private_rabbitmq.thaw()
