"""Workers' parts on a real broker, each test with names of its own on it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from notifier.config import Duration, RabbitMQ, Secret
from tests.integration.cluster.member import Member
from tests.services.deadline import SECOND
from tests.services.rabbitmq import RabbitMQ as Broker

NewMember = Callable[..., Member]


@pytest.fixture
def broker(rabbitmq: Broker) -> Broker:
    """The broker that other tests use as well."""
    return rabbitmq


@pytest.fixture
def section(broker: Broker, request: pytest.FixtureRequest) -> RabbitMQ:
    name = re.sub(r"[^a-z0-9]", "-", request.node.name.lower())[:60]
    return RabbitMQ(
        url=Secret(broker.url),
        control=f"{name}.control",
        api=f"{name}.api",
        connect_timeout=Duration(3 * SECOND),
    )


@pytest.fixture
async def new_member(section: RabbitMQ) -> AsyncIterator[NewMember]:
    """Makes members of one cluster; `start` them, whatever still runs at the end is stopped."""
    made: list[Member] = []

    def make(section: RabbitMQ = section) -> Member:
        made.append(Member(section, f"member-{len(made)}"))
        return made[-1]

    yield make
    for member in made:
        await member.stop()


@pytest.fixture
async def outsider(broker: Broker) -> AsyncIterator[AbstractChannel]:
    """A channel of somebody else."""
    connection = await aio_pika.connect(broker.url)
    yield await connection.channel()
    await connection.close()
