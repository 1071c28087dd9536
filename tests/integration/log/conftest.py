"""One broker for each module of this folder, whose tests kill it; each test has names of its own on it.

All of them run for both ways of reading the log.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from notifier.config import LogSection, RabbitMQ, Secret
from tests.conftest import need
from tests.integration.log.worker import Worker, sections, stream_url
from tests.services.rabbitmq import RabbitMQ as Broker


@pytest.fixture(scope="module")
def _broker() -> Iterator[Broker]:
    need(Broker)
    with Broker(plugins=["rabbitmq_stream"]) as broker:
        yield broker


@pytest.fixture
def broker(_broker: Broker) -> Broker:
    """Running, whatever the last test did to it."""
    _broker.thaw()
    return _broker.start()


@pytest.fixture(params=["amqp", "stream"])
def reader(request: pytest.FixtureRequest) -> str:
    """How the log is read."""
    return str(request.param)


@pytest.fixture
def name(request: pytest.FixtureRequest, reader: str) -> str:
    return re.sub(r"[^a-z0-9]", "-", f"{reader}-{request.node.name.lower()}")[:60]


@pytest.fixture
def how(broker: Broker, reader: str) -> dict[str, Any]:
    """What `sections` is told besides the broker's URL."""
    return {"reader": reader, "stream_url": Secret(stream_url(broker.port_of("rabbitmq_stream")))}


@pytest.fixture
def section(broker: Broker, name: str, how: dict[str, Any]) -> tuple[RabbitMQ, LogSection]:
    return sections(broker.url, name, **how)


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
