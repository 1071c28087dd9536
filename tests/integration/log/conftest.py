"""One broker for this folder's tests, which kill it; each test has names of its own on it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from notifier.config import LogSection, RabbitMQ
from tests.integration.log.worker import Worker, sections
from tests.services.rabbitmq import RabbitMQ as Broker


@pytest.fixture(scope="module")
def broker_of_module() -> Iterator[Broker]:
    if (package := Broker.missing()) is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{package} is not installed")
        pytest.skip(f"{package} is not installed")
    with Broker() as broker:
        asyncio.run(_declare_first_stream(broker.url))
        broker.restart()
        yield broker


async def _declare_first_stream(url: str) -> None:
    """RabbitMQ 3.10 keeps its streams down for good when it is killed within seconds of the very first one: what runs
    them is written to disk late. An orderly restart writes it."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("first", durable=True, arguments={"x-queue-type": "stream"})


@pytest.fixture
def broker(broker_of_module: Broker) -> Broker:
    """Running, whatever the last test did to it."""
    broker_of_module.thaw()
    broker_of_module.start()
    return broker_of_module


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^a-z0-9]", "-", request.node.name.lower())[:60]


@pytest.fixture
def section(broker: Broker, name: str) -> tuple[RabbitMQ, LogSection]:
    return sections(broker.url, name)


@pytest.fixture
async def new_worker(section: tuple[RabbitMQ, LogSection]) -> AsyncIterator[Callable[[], Worker]]:
    """Makes workers; whatever still runs at the end is stopped."""
    made: list[Worker] = []

    def make() -> Worker:
        made.append(Worker(*section, name=f"worker-{len(made)}"))
        return made[-1]

    yield make
    for worker in made:
        await worker.log.stop()


@pytest.fixture
async def publisher(broker: Broker) -> AsyncIterator[AbstractChannel]:
    """A backend's channel, with confirms."""
    connection = await aio_pika.connect(broker.url)
    yield await connection.channel()
    await connection.close()
