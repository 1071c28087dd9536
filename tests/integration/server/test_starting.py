"""A starting node behind a slow broker: it takes clients once it has read the log to its end, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.servers import Backend, NewServer, ServerProcess, make_token, on_rabbitmq, servers
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST
from tests.services.proxy import TcpProxy
from tests.services.rabbitmq import RabbitMQ

COUNT = 200
DELAY_S = 0.2


@pytest.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[NewServer]:
    async with servers(tmp_path) as new:
        yield new


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def subscribed(http: aiohttp.ClientSession, server: ServerProcess, **since: Any) -> dict[str, Any]:
    """The reply to a subscription to `open.a`. Raises WSServerHandshakeError when the server takes nobody."""
    async with http.ws_connect(server.ws_url) as socket:
        await socket.send_json({"id": 1, "connect": {"token": make_token("ann")}})
        await socket.receive_json()
        await socket.send_json({"id": 2, "subscribe": {"channel": "open.a", **since}})
        reply: dict[str, Any] = (await socket.receive_json())["subscribe"]
        return reply


async def test_it_takes_nobody_before_it_has_caught_up_and_then_knows_everything(
    rabbitmq: RabbitMQ, new_server: NewServer, http: aiohttp.ClientSession
) -> None:
    sections = on_rabbitmq(rabbitmq.url)
    first = await new_server(sections)
    position = await subscribed(http, first)
    async with Backend(first) as backend:
        for number in range(COUNT):
            await backend.publish("open.a", number)
    async with TcpProxy(LOCALHOST, rabbitmq.port) as slow:
        slow.delay(DELAY_S)
        sections["rabbitmq"] |= {"url": rabbitmq.url_at(slow.port), "prefetch": 40}
        second = ServerProcess(first.log.parent, sections)
        starting = asyncio.create_task(second.start())
        try:
            refusals = await _refusals_until_ready(http, second)
            reply = await subscribed(http, second, recover=True, epoch=position["epoch"], offset=position["offset"])
        finally:
            starting.cancel()
            second.kill()
    assert "reading the log" in refusals
    assert reply["recovered"] is True
    assert [publication["data"] for publication in reply["publications"]] == list(range(COUNT))


async def _refusals_until_ready(http: aiohttp.ClientSession, server: ServerProcess) -> set[str]:
    """What /readyz has said meanwhile. While it says no, newcomers are sent away."""
    said: set[str] = set()

    async def is_ready() -> bool:
        async with http.get(f"{server.url}/readyz") as response:
            if response.status == 200:
                return True
            detail = (await response.json())["checks"]["log"]["detail"]
        try:
            await subscribed(http, server)
        except aiohttp.WSServerHandshakeError as error:
            assert error.status == 503
            said.add(detail)
        return False

    await eventually(is_ready, 60 * SECOND, retry=(aiohttp.ClientConnectorError,))
    return said
