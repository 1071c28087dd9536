"""Servers and clients of one test, ended with it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from tests.sdk import javascript
from tests.sdk.client import Client, TokenSource, Way
from tests.sdk.cluster import Cluster, cluster
from tests.sdk.javascript import WEBSOCKET, JavaScriptClient, JavaScriptHost
from tests.sdk.python import PythonClient
from tests.servers import NewServer, ServerProcess, lacking, servers
from tests.services.deadline import eventually
from tests.services.rabbitmq import RabbitMQ

C = TypeVar("C", bound=Client)
NewClient = Callable[..., Awaitable[Client]]
NewJavaScript = Callable[..., Awaitable[JavaScriptClient]]


class Address(Protocol):
    """Where a server is, or something before it."""

    @property
    def url(self) -> str: ...

    @property
    def ws_url(self) -> str: ...


@pytest.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[NewServer]:
    async with servers(tmp_path) as start:
        yield start


@pytest.fixture
async def server(new_server: NewServer) -> ServerProcess:
    """A server with the embedded log."""
    return await new_server()


@pytest.fixture(scope="session")
def nodes(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster of the whole session. Leave it running; use channels and users of your own."""
    made = cluster(rabbitmq.url, tmp_path_factory.mktemp("cluster"))
    try:
        asyncio.run(made.start())
        yield made
    finally:
        made.kill()


@pytest.fixture
def name() -> str:
    """A word for channels and users that no other test has."""
    return secrets.token_hex(4)


@pytest.fixture(scope="session")
def javascript_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JavaScriptHost]:
    """Where clients with the JavaScript library live."""
    if problem := javascript.missing():
        lacking(problem)
    host = JavaScriptHost(tmp_path_factory.mktemp("node"))
    yield host
    host.close()


@pytest.fixture
async def new_javascript(javascript_host: JavaScriptHost) -> AsyncIterator[NewJavaScript]:
    """Makes clients with the JavaScript library; `connected=False` leaves one alone."""
    made: list[JavaScriptClient] = []

    async def make(
        server: Address,
        token: str = "",
        tokens: TokenSource | None = None,
        *,
        connected: bool = True,
        way: Way = WEBSOCKET,
        emulation: str = "",
    ) -> JavaScriptClient:
        url = server.ws_url if way.transport == "websocket" else f"{server.url}/connection/{way.transport}"
        upward = emulation or f"{server.url}/emulation"
        client = JavaScriptClient(javascript_host, url, token, tokens, way=way, emulation=upward)
        made.append(client)
        await client.open()
        return await _connected(client) if connected else client

    yield make
    await asyncio.gather(*(client.close() for client in made))


@pytest.fixture
async def new_python() -> AsyncIterator[NewClient]:
    """The same with the Python library."""
    made: list[PythonClient] = []

    async def make(
        server: Address,
        token: str = "",
        tokens: TokenSource | None = None,
        *,
        connected: bool = True,
        way: Way = WEBSOCKET,
    ) -> PythonClient:
        client = PythonClient(server.ws_url, token, tokens, protobuf=way.protobuf)
        made.append(client)
        return await _connected(client) if connected else client

    yield make
    for client in made:
        await client.close()


async def _connected(client: C) -> C:
    await client.connect()
    await eventually(lambda: client.state == "connected")
    return client
