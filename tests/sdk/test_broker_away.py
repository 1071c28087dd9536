"""The broker dies: what clients see of it, and of its return."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.sdk.client import CallFailed, Client
from tests.sdk.conftest import NewClient, NewJavaScript
from tests.servers import Backend, NewServer, make_token, on_rabbitmq
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ


async def test_connections_outlive_the_broker_and_everything_goes_on_when_it_is_back(
    private_rabbitmq: RabbitMQ, new_server: NewServer, new_javascript: NewJavaScript, new_python: NewClient
) -> None:
    """F-B1."""
    server = await new_server(on_rabbitmq(private_rabbitmq.url))
    clients = [await new_javascript(server, make_token("ann")), await new_python(server, make_token("bob"))]
    for client in clients:
        await client.subscribe("open.news")
    await eventually(lambda: all(client.state_of("open.news") == "subscribed" for client in clients))
    await server.publish("open.news", "before")
    await eventually(lambda: all(client.data("open.news") for client in clients))

    await asyncio.to_thread(private_rabbitmq.kill)
    for client in clients:
        with pytest.raises(CallFailed) as failed:
            await client.publish("open.news", "into the void")
        assert failed.value.code == 100
    await asyncio.to_thread(private_rabbitmq.start)
    await eventually(lambda: server.publish("open.news", "after"), 60 * SECOND)
    async with Backend(server) as backend:
        await backend.publish("open.news", "from the backend")

    for client in clients:
        await eventually(partial(_has, client, "from the backend"))
        assert len(client.all("connecting")) == 1, "it was connected all the time"
        assert client.data("open.news")[0] == "before"
        assert client.data("open.news").count("after") >= 1


def _has(client: Client, data: str) -> bool:
    return data in client.data("open.news")
