"""What the tests of the documentation share: a broker as the pages expect it, and servers on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need
from tests.servers import NewServer, ServerProcess, servers
from tests.services.rabbitmq import RabbitMQ


@pytest.fixture(scope="package")
def broker() -> Iterator[RabbitMQ]:
    """One of their own: the examples publish to the exchange `notifications`, and one uses the management plugin."""
    need(RabbitMQ)
    with RabbitMQ(plugins=["rabbitmq_management"]) as broker:
        yield broker


@pytest.fixture
def on_broker(broker: RabbitMQ) -> dict[str, Any]:
    """Sections of a server with the names that are the default."""
    return {
        "log": {"kind": "rabbitmq", "marker_interval": "500ms"},
        "rabbitmq": {"url": broker.url, "exchange": "notifications"},
    }


@pytest.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[NewServer]:
    async with servers(tmp_path) as start:
        yield start


@pytest.fixture
async def server(new_server: NewServer, on_broker: dict[str, Any]) -> ServerProcess:
    return await new_server(on_broker)
