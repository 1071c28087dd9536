"""The server API over a real broker: every kind of answer, and workers that compete for requests."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aio_pika
import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from notifier.api.amqp import AmqpApi
from notifier.api.audit import Audit
from notifier.cluster.connection import ControlConnection
from notifier.config import ChannelRule, Duration, HistoryRule, RabbitMQ
from notifier.core.node import Node
from notifier.errors import Unavailable
from notifier.testing import make_node
from tests.integration.log.test_odd_properties import ODD, careless_library
from tests.services.deadline import SECOND, eventually

MAX_BODY = 10_000
RULES = [
    ChannelRule(match="plain.#"),
    ChannelRule(match="#", history=HistoryRule(size=10, ttl=Duration(60))),
]


class Worker:
    """A node with nothing but the API over AMQP."""

    def __init__(self, section: RabbitMQ, *, declare: bool = True) -> None:
        self.node: Node = make_node(RULES)
        api = AmqpApi(self.node, section.api, MAX_BODY, Audit("changes"), declare=declare)
        self.connection = ControlConnection(section, "worker", self.node.stats, [api])
        self.connection.start()

    @property
    def published(self) -> int:
        return self.node.stats.publications


NewWorker = Callable[..., Worker]


@pytest.fixture
async def new_worker(section: RabbitMQ) -> AsyncIterator[NewWorker]:
    made: list[Worker] = []

    def make(**options: Any) -> Worker:
        made.append(Worker(section, **options))
        return made[-1]

    yield make
    for worker in made:
        await worker.connection.stop()


class Caller:
    """A backend that calls the API over AMQP, and a queue for its answers."""

    def __init__(self, channel: AbstractChannel, name: str) -> None:
        self.channel = channel
        self.name = name
        self.answers: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self.queue = ""

    async def open(self) -> None:
        queue = await self.channel.declare_queue(exclusive=True)
        await queue.consume(self.answers.put, no_ack=True)
        self.queue = queue.name

    async def send(self, method: str, body: bytes, **fields: Any) -> None:
        exchange = await self.channel.get_exchange(self.name)
        await exchange.publish(Message(body, **{"reply_to": self.queue, **fields}), method)

    async def receive(self) -> AbstractIncomingMessage:
        async with asyncio.timeout(10 * SECOND):
            return await self.answers.get()

    async def call(self, method: str, body: bytes | dict[str, Any], **fields: Any) -> dict[str, Any]:
        await self.send(method, body if isinstance(body, bytes) else json.dumps(body).encode(), **fields)
        answer: dict[str, Any] = json.loads((await self.receive()).body)
        return answer


@pytest.fixture
async def caller(outsider: AbstractChannel, section: RabbitMQ) -> Caller:
    caller = Caller(outsider, section.api)
    await caller.open()
    return caller


async def taken(channel: AbstractChannel, name: str, workers: int) -> None:
    """So many workers take requests."""

    async def enough() -> bool:
        queue = await channel.declare_queue(name, durable=True)
        return queue.declaration_result.consumer_count == workers

    await eventually(enough)


@pytest.fixture
async def worker(new_worker: NewWorker, outsider: AbstractChannel, section: RabbitMQ) -> Worker:
    worker = new_worker()
    await taken(outsider, section.api, 1)
    return worker


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_the_result_comes_back_with_the_correlation_id(worker: Worker, caller: Caller) -> None:
    await caller.send("publish", b'{"channel":"news","data":{"a":1}}', correlation_id="ref-1")
    answer = await caller.receive()
    assert (answer.correlation_id, answer.content_type) == ("ref-1", "application/json")
    assert json.loads(answer.body) == {"result": {"offset": 1, "epoch": "epoch-1"}}
    history = await caller.call("history", {"channel": "news", "limit": -1})
    assert history["result"]["publications"] == [{"data": {"a": 1}, "offset": 1}]


@pytest.mark.parametrize(
    ("method", "body", "code", "words"),
    [
        ("nonsense", b"{}", 104, "method not found"),
        ("", b"{}", 104, "method not found"),
        ("publish", b"{", 107, "truncated"),
        ("publish", b"\xff", 107, ""),
        ("publish", b"[1]", 107, "object"),
        ("publish", b'{"channel":5}', 107, "$.channel"),
        ("publish", b'{"data":' + b"[" * 5000, 107, "deeply"),
        ("publish", b"", 107, "needs a name"),
        ("publish", b'{"channel":"a b","data":1}', 107, "printable"),
        ("publish", b" " * (MAX_BODY + 1), 107, f"larger than {MAX_BODY} bytes"),
        ("presence", b'{"channel":"news"}', 108, "not available"),
        ("history", b'{"channel":"news","since":{"epoch":"other"}}', 112, "unrecoverable"),
        ("rpc", b"{}", 104, "method not found"),
    ],
)
async def test_what_is_wrong_is_an_error_in_the_answer(
    worker: Worker, caller: Caller, method: str, body: bytes, code: int, words: str
) -> None:
    answer = await caller.call(method, body)
    assert list(answer) == ["error"]
    assert answer["error"]["code"] == code
    assert words in answer["error"]["message"]


async def test_the_property_type_names_the_method_before_the_routing_key(worker: Worker, caller: Caller) -> None:
    answer = await caller.call("whatever", {"channel": "news", "data": 1}, type="publish")
    assert answer["result"]["offset"] == 1


async def test_a_batch_is_answered_with_its_replies(worker: Worker, caller: Caller) -> None:
    commands = [{"publish": {"channel": "a", "data": 1}}, {"presence": {"channel": "a"}}]
    first, second = (await caller.call("batch", {"commands": commands}))["replies"]
    assert first == {"publish": {"offset": 1, "epoch": "epoch-1"}}
    assert second["error"]["code"] == 108


async def test_without_an_address_it_is_done_all_the_same(worker: Worker, caller: Caller) -> None:
    await caller.send("publish", b'{"channel":"plain.a","data":1}', reply_to=None)
    await caller.send("nonsense", b"", reply_to=None)
    assert await caller.call("channels", b"") == {"result": {"channels": {}}}
    await eventually(lambda: worker.published == 1)
    assert caller.answers.empty()


@pytest.mark.parametrize("address", ["nowhere", "amq.rabbitmq.reply-to.nonsense"])
async def test_an_address_that_leads_nowhere_harms_nobody(worker: Worker, caller: Caller, address: str) -> None:
    await caller.send("publish", b'{"channel":"plain.a","data":1}', reply_to=address)
    assert (await caller.call("publish", {"channel": "plain.a", "data": 1})) == {"result": {}}
    assert worker.published == 2
    assert not worker.connection.problem


@pytest.mark.parametrize("name", ["correlation_id", "message_id", "app_id"])
async def test_properties_that_are_no_texts_harm_nobody(
    worker: Worker, caller: Caller, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with careless_library(monkeypatch):
        await caller.send("publish", b'{"channel":"plain.a","data":1}', **{name: ODD})
    assert json.loads((await caller.receive()).body) == {"result": {}}
    assert not worker.connection.problem


async def test_a_request_whose_answer_cannot_be_sent_is_not_tried_for_ever(
    worker: Worker, caller: Caller, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read as Latin-1 it is longer than a short string may be when it is written."""
    monkeypatch.setattr("tests.integration.log.test_odd_properties.BYTES", b"\xff" * 200)
    with careless_library(monkeypatch):
        await caller.send("publish", b'{"channel":"plain.a","data":1}', correlation_id=ODD)
    assert await caller.call("publish", {"channel": "plain.a", "data": 1}) == {"result": {}}
    await eventually(lambda: "could not be sent" in caplog.text)
    assert worker.published == 2
    assert not worker.connection.problem


async def test_direct_reply_to_is_an_address(worker: Worker, caller: Caller) -> None:
    """https://www.rabbitmq.com/docs/direct-reply-to: callers need no queue of their own."""
    queue = await caller.channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
    await queue.consume(caller.answers.put, no_ack=True)
    answer = await caller.call("publish", {"channel": "plain.a", "data": 1}, reply_to="amq.rabbitmq.reply-to")
    assert answer == {"result": {}}


async def test_data_may_come_in_base64(worker: Worker, caller: Caller) -> None:
    encoded = base64.b64encode(b'{"x":1}').decode()
    assert "result" in await caller.call("publish", {"channel": "news", "b64data": encoded})


async def test_a_fault_of_this_program_is_answered_too_and_the_next_request_is_taken(
    worker: Worker, caller: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_draft: object) -> int:
        raise RuntimeError("a fault")

    monkeypatch.setattr(worker.node.log, "append", fail)
    answer = await caller.call("publish", {"channel": "news", "data": 1})
    assert answer == {"error": {"code": 100, "message": "internal server error", "temporary": True}}
    assert "a request over AMQP failed" in caplog.text
    assert await caller.call("channels", b"") == {"result": {"channels": {}}}


async def test_while_the_log_is_away_the_error_is_temporary(
    worker: Worker, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_draft: object) -> int:
        raise Unavailable("the log is away")

    monkeypatch.setattr(worker.node.log, "append", fail)
    error = (await caller.call("publish", {"channel": "news", "data": 1}))["error"]
    assert (error["code"], error["temporary"]) == (100, True)
    assert "the log is away" in error["message"]


# --- who takes it -----------------------------------------------------------------------------------------------------


async def test_competing_workers_answer_each_request_once(
    new_worker: NewWorker, caller: Caller, section: RabbitMQ
) -> None:
    workers = [new_worker() for _ in range(3)]
    await taken(caller.channel, section.api, 3)
    for n in range(30):
        await caller.send("publish", b'{"channel":"plain.a","data":1}', correlation_id=str(n))
    refs = [(await caller.receive()).correlation_id for _ in range(30)]
    assert sorted(int(ref or -1) for ref in refs) == list(range(30))
    assert [worker.published for worker in workers] == [10, 10, 10]
    assert caller.answers.empty()


async def test_what_a_worker_took_and_did_not_answer_another_one_does(
    new_worker: NewWorker, caller: Caller, section: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = new_worker(), new_worker()
    await taken(caller.channel, section.api, 2)
    asked = asyncio.Event()

    async def wait(_draft: object) -> int:
        asked.set()
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(stuck.node.log, "append", wait)
    for ref in ("1", "2"):
        await caller.send("publish", b'{"channel":"plain.a","data":1}', correlation_id=ref)
    first = await caller.receive()
    await asked.wait()
    await stuck.connection.stop()
    second = await caller.receive()
    assert {first.correlation_id, second.correlation_id} == {"1", "2"}
    assert other.published == 2


async def test_requests_wait_for_the_first_worker(
    new_worker: NewWorker, caller: Caller, section: RabbitMQ, outsider: AbstractChannel
) -> None:
    worker = new_worker()
    await taken(outsider, section.api, 1)
    await worker.connection.stop()
    await caller.send("publish", b'{"channel":"plain.a","data":1}')
    new_worker()
    assert json.loads((await caller.receive()).body) == {"result": {}}


async def test_what_others_declared_is_only_used_when_the_configuration_says_so(
    new_worker: NewWorker, outsider: AbstractChannel, section: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.cluster.connection.REFUSED_DELAY_S", 0.2)
    worker = new_worker(declare=False)
    await eventually(lambda: f"no exchange '{section.api}'" in worker.connection.problem)
    await outsider.declare_exchange(section.api, aio_pika.ExchangeType.TOPIC, durable=True)
    await eventually(lambda: f"no queue '{section.api}'" in worker.connection.problem)
    await taken(outsider, section.api, 1)
    await eventually(lambda: not worker.connection.problem)
