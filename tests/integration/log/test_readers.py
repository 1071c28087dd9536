"""Which protocol the log is read over: the broker's own for streams where it can be had, else AMQP 0.9.1."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from notifier.config import Secret
from tests.integration.log.worker import Worker, sections, stream_url
from tests.services.deadline import SECOND, eventually
from tests.services.ports import free_port
from tests.services.rabbitmq import RabbitMQ as Broker


@pytest.fixture
def reader() -> str:
    """Each test says it itself."""
    return "any"


def with_stream(broker: Broker, **changes: Any) -> dict[str, Any]:
    return {"stream_url": Secret(stream_url(broker.port_of("rabbitmq_stream"))), **changes}


async def test_where_the_broker_offers_it_the_stream_protocol_is_used(broker: Broker, name: str) -> None:
    async with Worker(*sections(broker.url, name, **with_stream(broker))) as worker:
        await worker.ready()
        assert worker.log.how == "read over the stream protocol"
        await worker.publish("a", b"1")
        assert worker.bodies("a") == [b"1"]


async def test_where_it_does_not_amqp_is_used_and_why_is_said_once(
    broker: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Worker(*sections(broker.url, name, stream_url=Secret(stream_url(free_port())))) as worker:
        await worker.ready()
        assert worker.log.how.startswith("read over AMQP 0.9.1: the stream protocol at 127.0.0.1:")
        worker.log._tail.give_up("test")
        await eventually(lambda: worker.log._reading.problem != "")
        await worker.ready()
        await worker.publish("a", b"1")
    assert sum(record.message == "reading the log" for record in caplog.records) == 1


async def test_where_it_is_demanded_nothing_else_will_do(broker: Broker, name: str) -> None:
    port = free_port()
    async with Worker(*sections(broker.url, name, stream_url=Secret(stream_url(port)), reader="stream")) as worker:
        await eventually(lambda: f"the stream protocol at 127.0.0.1:{port}" in worker.log.problem, 30 * SECOND)
        assert not worker.log.ready


async def test_another_broker_that_answers_there_is_not_taken_for_this_one(
    broker: Broker, rabbitmq: Broker, name: str
) -> None:
    """Two brokers on one machine: one of them has the usual port."""
    async with Worker(*sections(rabbitmq.url, name, **with_stream(broker))) as worker:
        await worker.ready()
        assert "another one" in worker.log.how


async def test_wrong_credentials_of_the_stream_alone_are_said_without_showing_them(
    broker: Broker, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"rabbitmq-stream://guest:s3cret-pass@127.0.0.1:{broker.port_of('rabbitmq_stream')}"
    async with Worker(*sections(broker.url, name, stream_url=Secret(url))) as worker:
        await worker.ready()
        assert "refused the credentials" in worker.log.how
    assert "s3cret-pass" not in caplog.text
