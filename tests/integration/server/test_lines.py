"""What a connection is once its request has been answered: what it costs while nobody speaks, and what keeps its order
when a client says much at once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp.web import BaseRequest, StreamResponse
from aiohttp.web_protocol import RequestHandler

from notifier.config import ChannelRule, Clients
from notifier.core.ports import Row
from notifier.protocol.messages import ClientInfo
from notifier.transports import outlet
from notifier.transports.conversation import READ_AHEAD_BYTES
from notifier.transports.outlet import BorrowedSocket, Outlet
from tests.integration.server.conftest import KEPT, RunningServer, StartServer
from tests.security.test_hostile import CONNECT, HANDSHAKE, frame, nothing_stays, raw
from tests.services.deadline import SECOND, eventually

SUBSCRIBE = b'{"id":2,"subscribe":{"channel":"news.1"}}'
EVENTS = b"GET /sse?channels=news.1 HTTP/1.1\r\nHost: x\r\n\r\n"
COMMANDS = b"POST /connection/http_stream HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
    len(CONNECT + b"\n" + SUBSCRIBE), CONNECT + b"\n" + SUBSCRIBE,
)  # fmt: skip
WAYS = {
    "websocket": HANDSHAKE + frame(CONNECT + b"\n" + SUBSCRIBE),
    "ws": HANDSHAKE.replace(b"/connection/websocket", b"/ws?channels=news.1"),
    "sse": EVENTS,
    "http_stream": COMMANDS,
}
RULES = [ChannelRule(match="#", presence=True, history=KEPT, subscribe=["anyone"])]
MANY = 50
MOST_OBJECTS = 40
"""That the collector looks at, for one connection, both of its ends."""


@pytest.fixture
async def server(start_server: StartServer) -> RunningServer:
    return await start_server(channels=RULES)  # type: ignore[no-any-return]


@asynccontextmanager
async def subscribed(server: RunningServer, way: str, count: int) -> AsyncIterator[None]:
    """So many silent subscribers, of whom this process knows nothing but a socket."""
    loop = asyncio.get_running_loop()
    host, port = server.url.removeprefix("http://").split(":")
    before, clients = server.node.hub.subscribers("news.1"), []
    for _ in range(count):
        transport, _ = await loop.create_connection(asyncio.Protocol, host, int(port))
        transport.write(WAYS[way])
        clients.append(transport)
    await eventually(lambda: server.node.hub.subscribers("news.1") == before + count, 20 * SECOND)
    try:
        yield
    finally:
        for transport in clients:
            transport.abort()


def kept_by_aiohttp() -> int:
    gc.collect()
    return sum(isinstance(found, BaseRequest | StreamResponse | RequestHandler) for found in gc.get_objects())


@pytest.mark.parametrize("way", WAYS)
async def test_a_silent_client_costs_no_task_no_request_and_few_objects(server: RunningServer, way: str) -> None:
    async with subscribed(server, way, MANY):
        await eventually(lambda: kept_by_aiohttp() == 0)
        tasks, objects = len(asyncio.all_tasks()), len(gc.get_objects())
        async with subscribed(server, way, MANY):
            await eventually(lambda: kept_by_aiohttp() == 0)
            assert len(asyncio.all_tasks()) == tasks
            assert (len(gc.get_objects()) - objects) / MANY < MOST_OBJECTS
    await nothing_stays(server)


@pytest.mark.parametrize("way", WAYS)
async def test_connections_that_end_leave_no_garbage(server: RunningServer, way: str) -> None:
    async with subscribed(server, way, 1):
        pass  # what is made once is made
    await nothing_stays(server)
    gc.collect()
    gc.disable()
    try:
        async with subscribed(server, way, MANY):
            pass
        await nothing_stays(server)
        await eventually(lambda: not [1 for found in gc.get_objects() if isinstance(found, RequestHandler | Outlet)])
    finally:
        gc.enable()


async def test_the_answers_to_the_commands_of_one_frame_are_one_send(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []

    class Watched(BorrowedSocket):
        def send(self, data: bytes, /) -> int:  # type: ignore[override]
            sent.append(data)
            return super().send(data)

    monkeypatch.setattr(outlet, "BorrowedSocket", Watched)
    async with server.client() as client:
        sent.clear()
        await client.send(*({"id": n, "subscribe": {"channel": f"news.{n}"}} for n in range(2, 12)))
        assert [(await client.receive())["id"] for _ in range(10)] == list(range(2, 12))
        assert len(sent) == 1


async def test_an_answer_does_not_wait_for_what_a_later_command_waits_for(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And publications come after the answer to their subscription."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def presence(_channel: str) -> dict[str, ClientInfo]:
        asked.set()
        await go_on.wait()
        return {}

    monkeypatch.setattr(server.node.control, "presence", presence)
    async with server.client() as client:
        await client.send(
            {"id": 2, "subscribe": {"channel": "room.1"}},
            {"id": 3, "presence": {"channel": "room.1"}},
            {"id": 4, "subscribe": {"channel": "room.2"}},
        )
        assert (await client.receive())["id"] == 2
        await asked.wait()
        await server.publish("room.1", "first")
        assert (await client.receive())["push"]["pub"]["data"] == "first"
        go_on.set()
        assert [(await client.receive())["id"] for _ in range(2)] == [3, 4]


async def test_while_a_command_waits_what_is_behind_it_stays_outside(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: RunningServer = await start_server(channels=RULES, clients=Clients(command_rate=0))
    go_on = asyncio.Event()

    async def presence(_channel: str) -> dict[str, ClientInfo]:
        await go_on.wait()
        return {}

    monkeypatch.setattr(server.node.control, "presence", presence)
    history = b'{"id":%d,"history":{"channel":"room.1"}}%b'
    count = 4000
    async with raw(server) as peer:
        await peer.send(HANDSHAKE + frame(CONNECT) + frame(b'{"id":2,"presence":{"channel":"room.1"}}'))
        await eventually(lambda: bool(server.node.sessions))
        [session] = server.node.sessions.values()
        transport = session.connection.transport  # type: ignore[attr-defined]
        commands = (frame(history % (n, b" " * 4000)) for n in range(3, count + 3))
        sending = asyncio.create_task(peer.send(b"".join(commands)))
        await eventually(lambda: not transport.is_reading(), 20 * SECOND)
        waiting = transport.get_protocol()._reader.waiting
        assert READ_AHEAD_BYTES < waiting < READ_AHEAD_BYTES + 2**19
        go_on.set()
        async with asyncio.timeout(60 * SECOND):
            while b'"id":%d,' % (count + 2) not in await peer.reader.read(2**20):
                pass
        await sending
    await nothing_stays(server)


async def test_a_publication_right_behind_the_handshake_is_not_lost(server: RunningServer) -> None:
    """What is sent before the handshake's answer has come is taken all the same, and in its order."""
    async with raw(server) as peer:
        await peer.send(WAYS["websocket"])
        assert b" 101 " in await peer.reader.readuntil(b"\r\n\r\n")
        await eventually(lambda: server.node.hub.subscribers("news.1") == 1)
        await server.publish("news.1", "hello")
        told = await peer.reader.readuntil(b'"hello"')
        assert told.index(b'"connect"') < told.index(b'"subscribe"') < told.index(b'"hello"')


class NoTurns:
    """The loop's turns where each is over, until `go_on`."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.rows: list[Row] = []

    @property
    def is_over(self) -> bool:
        return not self.go_on.is_set()

    def must_wait(self, _row: Row) -> bool:
        return self.is_over

    async def wait(self, row: Row) -> None:
        self.rows.append(row)
        await self.go_on.wait()


async def test_who_waits_for_a_turn_is_not_read_meanwhile_and_is_served_then(server: RunningServer) -> None:
    async with server.client() as client:
        [session] = server.node.sessions.values()
        transport = session.connection.transport  # type: ignore[attr-defined]
        server.node.turns = turns = NoTurns()
        await client.send({"id": 2, "subscribe": {"channel": "news.1"}})
        await eventually(lambda: turns.rows == [Row.QUIET])
        assert not transport.is_reading()
        turns.go_on.set()
        assert (await client.receive())["id"] == 2
        await eventually(transport.is_reading)
