"""A whole server on the embedded log in this process, and ways to speak to it that are not its own."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect

from notifier.config import (
    Api,
    Auth,
    ChannelRule,
    Clients,
    Config,
    Duration,
    HistoryRule,
    Publications,
    Secret,
    Size,
)
from notifier.config import Server as ServerSection
from notifier.core.ports import Clock
from notifier.server import Server

SECRET = "a-secret-of-at-least-thirty-two-bytes"
API_KEY = "key-of-the-tests"
KEPT = HistoryRule(size=100, ttl=Duration(60))
RULES = [
    ChannelRule(match="user.*", history=KEPT, subscribe=["user.{sub}"], publish=["user.{sub}"]),
    ChannelRule(match="closed.#"),
    ChannelRule(match="plain.#", subscribe=["anyone"]),
    ChannelRule(match="#", history=KEPT, subscribe=["anyone"], publish=["anyone"]),
]


def token(user: str = "ann", **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600, **claims}, SECRET, algorithm="HS256")


class LaterClock:
    """Another clock, ahead of it."""

    def __init__(self, clock: Clock, ahead_s: float) -> None:
        self._clock = clock
        self._ahead_s = ahead_s

    def time(self) -> float:
        return self._clock.time() + self._ahead_s

    def monotonic(self) -> float:
        return self._clock.monotonic() + self._ahead_s


class RunningServer:
    """A server that listens, and the API of it."""

    def __init__(self, server: Server, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.node = server.node
        self.url = server.doors.address.rstrip("/")
        self.http = http

    @property
    def websocket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/connection/websocket"

    def pass_time(self, seconds: float) -> None:
        """What is due within so many seconds happens now."""
        self.node.clock = LaterClock(self.node.clock, seconds)
        self.node.tick()

    @property
    def is_empty(self) -> bool:
        """Nothing of any client has stayed behind."""
        node = self.node
        left = [node.sessions, node.inboxes, node.users, len(node.hub), node.presence.of("room.1")]
        counted = [node.stats.connections.total(), node.stats.connected.total(), node.stats.subscriptions]
        return not any(left) and not any(counted)

    async def api(self, method: str, **params: Any) -> dict[str, Any]:
        async with self.http.post(f"{self.url}/api/{method}", json=params, headers={"X-API-Key": API_KEY}) as response:
            assert response.status == 200, await response.text()
            answer: dict[str, Any] = await response.json()
            return answer

    async def publish(self, channel: str, data: Any, **fields: Any) -> int:
        answer = await self.api("publish", channel=channel, data=data, **fields)
        offset: int = answer["result"].get("offset", 0)
        return offset

    @asynccontextmanager
    async def client(self, text: str = "", **options: Any) -> AsyncIterator[Client]:
        """A connected client of an independent WebSocket library."""
        async with connect(self.websocket_url, **{"compression": None, **options}) as socket:
            client = Client(socket)
            await client.send({"id": 1, "connect": {"token": text} if text else {}})
            assert "connect" in await client.receive()
            yield client


class Client:
    """JSON lines over a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._lines: list[dict[str, Any]] = []

    async def send(self, *commands: dict[str, Any]) -> None:
        await self.socket.send("\n".join(map(json.dumps, commands)))

    async def receive(self) -> dict[str, Any]:
        while not self._lines:
            self._lines = [json.loads(line) for line in str(await self.socket.recv()).split("\n")]
        return self._lines.pop(0)

    async def subscribe(self, channel: str, **fields: Any) -> dict[str, Any]:
        await self.send({"id": 9, "subscribe": {"channel": channel, **fields}})
        return await self.receive()


class Body:
    """The endless body of an answer, message by message: JSON lines, or events without anything but `data`."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self._events = response.headers["Content-Type"].startswith("text/event-stream")
        self.retry_ms = 0
        """How long an EventSource would wait before it comes back, once the server has said it."""

    async def next(self) -> dict[str, Any] | None:
        """The next message; None at the end."""
        line = await self.response.content.readline()
        if self._events and line.startswith(b"retry: "):
            self.retry_ms = int(line.removeprefix(b"retry: "))
            line = await self.response.content.readline()
        if line and self._events:
            assert line.startswith(b"data: "), line
            assert await self.response.content.readline() == b"\n"
        if not line:
            return None
        assert line.endswith(b"\n")
        message: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
        return message


@asynccontextmanager
async def stream(server: RunningServer, way: str, request: str, **headers: str) -> AsyncIterator[Body]:
    """A stream of replies or pushes below `/connection/`; `way` is the path, with ` POST` where GET is usual."""
    path, _, method = way.partition(" ")
    by_query = path.endswith("sse") and not method
    query = f"?cf_connect={quote(request)}" if by_query else ""
    url = f"{server.url}/connection/{path}{query}"
    body = None if by_query else request
    async with server.http.request("GET" if by_query else "POST", url, data=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        if path.endswith("sse"):
            assert await response.content.readexactly(2) == b"\r\n"
        yield Body(response)


class Events:
    """An open event stream, read field by field."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> dict[str, str]:
        """The fields of the next event, also of one that has no data."""
        fields: dict[str, str] = {}
        while True:
            line = (await self.response.content.readline()).decode()
            if not line:
                raise EOFError
            if line == "\n":
                return fields
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value

    async def beginning(self) -> dict[str, Any]:
        """What the first event says, after `retry`."""
        assert list(await self.next()) == ["retry"]
        event = await self.next()
        assert event["event"] == "notifier.subscribed"
        told: dict[str, Any] = json.loads(event["data"])
        return told


StartServer = Callable[..., Any]


@pytest.fixture
async def start_server() -> AsyncIterator[StartServer]:
    """Starts servers with changed sections; they are stopped at the end."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))

        async def start(**sections: Any) -> RunningServer:
            config = Config(
                **{
                    "server": ServerSection(port=0),
                    "auth": Auth(hmac_keys=[Secret(SECRET)], anonymous=True),
                    "api": Api(keys=[Secret(API_KEY)], max_body=Size(100_000), max_batch=5),
                    "clients": Clients(),
                    "publications": Publications(),
                    "channels": RULES,
                    **sections,
                }
            )
            server = Server(config)
            await server.start()
            stack.push_async_callback(server.stop)
            return RunningServer(server, http)

        yield start


@pytest.fixture
async def server(start_server: StartServer) -> RunningServer:
    running: RunningServer = await start_server()
    return running


@pytest.fixture
async def events(server: RunningServer) -> AsyncIterator[Callable[..., Any]]:
    """Opens event streams on `server`."""
    async with AsyncExitStack() as stack:

        async def open_(query: str, **headers: str) -> Events:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            response = await stack.enter_async_context(server.http.get(f"{server.url}/sse?{query}", headers=named))
            return Events(response)

        yield open_
