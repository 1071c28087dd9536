"""Workers with an archive: each test has names of its own on broker and Redis."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from tests.integration.archive.worker import Archivist, Place
from tests.services.rabbitmq import RabbitMQ as Broker
from tests.services.redis import Redis as Server

NewArchivist = Callable[..., Archivist]


@pytest.fixture
def place(rabbitmq: Broker, private_redis: Server, request: pytest.FixtureRequest) -> Place:
    """Where a test's workers work. Its Redis is up, whatever the last test did to it."""
    return Place(re.sub(r"[^a-z0-9]", "-", request.node.name.lower())[:60], rabbitmq.url, private_redis.url)


@pytest.fixture
async def new_archivist(place: Place) -> AsyncIterator[NewArchivist]:
    """Makes workers; whatever still runs at the end is stopped."""
    made: list[Archivist] = []

    def make(**changes: object) -> Archivist:
        made.append(Archivist(place, f"worker-{len(made)}", **changes))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for worker in made:
        await worker.stop()


@pytest.fixture
async def publisher(rabbitmq: Broker) -> AsyncIterator[AbstractChannel]:
    """A backend's channel, with confirms."""
    connection = await aio_pika.connect(rabbitmq.url)
    yield await connection.channel()
    await connection.close()
