"""One broker for this folder's tests, which kill it; each test has names of its own on it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from notifier.config import LogSection, RabbitMQ
from tests.integration.log.worker import Worker, sections
from tests.services.rabbitmq import RabbitMQ as Broker


@pytest.fixture
def broker(private_rabbitmq: Broker) -> Broker:
    """Running, whatever the last test did to it."""
    return private_rabbitmq


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
