"""`/connection/websocket` through real sockets, with a client library that is not the server's."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from notifier.config import Auth, Clients, Duration, Secret, Size
from notifier.config import Server as ServerSection
from notifier.core import commands
from notifier.transports.listener import UNSENT_BYTES
from notifier.transports.outlet import Outlet
from tests.integration.server.conftest import SECRET, RunningServer, StartServer, token
from tests.services.deadline import SECOND, eventually


async def closed(client: object) -> tuple[int, str]:
    """The code and reason the server closes with; publications before it are skipped."""
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            await client.recv()  # type: ignore[attr-defined]
    assert caught.value.rcvd is not None, "the server said nothing before it closed"
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def test_a_publication_reaches_its_subscriber_and_nobody_else(server: RunningServer) -> None:
    async with server.client(token("ann")) as ann, server.client(token("bob")) as bob:
        await ann.subscribe("user.ann")
        assert (await bob.subscribe("user.ann"))["error"]["code"] == 103
        await bob.subscribe("user.bob")
        await server.publish("user.ann", {"for": "ann"})
        await server.publish("user.bob", {"for": "bob"})
        assert (await ann.receive())["push"]["pub"]["data"] == {"for": "ann"}
        assert (await bob.receive())["push"]["pub"]["data"] == {"for": "bob"}


async def test_a_plain_request_is_answered_with_an_error_status(server: RunningServer) -> None:
    async with server.http.get(f"{server.url}/connection/websocket") as response:
        assert response.status == 426


async def test_an_invalid_token_is_told_in_the_close_frame(server: RunningServer) -> None:
    async with connect(server.websocket_url) as socket:
        await socket.send('{"id":1,"connect":{"token":"x"}}\n{"id":2,"subscribe":{"channel":"a"}}')
        assert await closed(socket) == (3500, "invalid token")


async def test_a_frame_of_exactly_the_limit_is_taken_and_one_byte_more_is_1009(server: RunningServer) -> None:
    limit = 65536
    async with server.client() as client:
        empty = json.dumps({"id": 2, "unsubscribe": {"channel": "a", "x": ""}})
        await client.socket.send(empty.replace('""', '"' + "x" * (limit - len(empty)) + '"'))
        assert "unsubscribe" in await client.receive()
        await client.socket.send(empty.replace('""', '"' + "x" * (limit + 1 - len(empty)) + '"'))
        code, _ = await closed(client.socket)
        assert code == 1009


async def test_a_fragmented_message_over_the_limit_is_1009_too(server: RunningServer) -> None:
    async with server.client() as client:
        await client.socket.send(["x" * 10_000] * 7)
        code, _ = await closed(client.socket)
        assert code == 1009


async def test_text_that_is_not_utf8_is_1007(server: RunningServer) -> None:
    async with server.client() as client:
        await client.socket.send(b'{"id":2,"rpc":{"method":"\xff"}}', text=True)
        code, _ = await closed(client.socket)
        assert code == 1007


@pytest.mark.parametrize(("told", "answer"), [(1000, 1000), (3999, 3999), (1006, 1002), (5000, 1002), (65535, 1002)])
async def test_the_answer_to_a_close_has_a_code_that_may_be_sent(server: RunningServer, told: int, answer: int) -> None:
    client = await asyncio.to_thread(StoppedReader, server)
    client.socket.sendall(b"\x88\x82\0\0\0\0" + told.to_bytes(2, "big"))
    client.socket.settimeout(10 * SECOND)
    received = b""
    while chunk := await asyncio.to_thread(client.socket.recv, 65536):
        received += chunk
    _, _, close = received.rpartition(b"\x88")
    assert close[1:3] == answer.to_bytes(2, "big")
    client.socket.close()


async def test_binary_frames_are_refused_with_a_reason(server: RunningServer) -> None:
    async with server.client() as client:
        await client.socket.send(b"\x00")
        code, reason = await closed(client.socket)
        assert code == 3501
        assert "JSON" in reason


async def test_a_ping_of_the_websocket_layer_is_answered(server: RunningServer) -> None:
    async with server.client() as client:
        await asyncio.wait_for(await client.socket.ping(), 5 * SECOND)


async def test_an_offered_subprotocol_is_echoed(server: RunningServer) -> None:
    async with connect(server.websocket_url, subprotocols=["centrifuge-json"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "centrifuge-json"


async def test_a_client_that_leaves_is_forgotten(server: RunningServer) -> None:
    async with server.client() as client:
        await client.subscribe("a")
        assert server.node.hub.subscribers("a") == 1
    await eventually(lambda: len(server.node.hub) == 0 and not server.node.sessions)
    assert server.node.stats.connections.total() == 0


async def test_a_connection_that_breaks_is_forgotten(server: RunningServer) -> None:
    async with server.client() as client:
        await client.subscribe("a")
        client.socket.transport.abort()
        await eventually(lambda: len(server.node.hub) == 0 and not server.node.sessions)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("https://APP.example.com:443", True),
        ("http://localhost:3000", True),
        ("http://127.0.0.1:8000", True),
        ("https://app.example.com.evil.test", False),
        ("https://evil.test", False),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("https://app.example.com/", False),
        ("https://app.example.com/path", False),
        ("https://user@app.example.com", False),
        ("https://localhost.evil.test", False),
        ("http://127.evil.test", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("https://app.example.com.", False),
        ("https://[::1", False),
    ],
)
async def test_pages_of_other_origins_cannot_connect(start_server: StartServer, origin: str, *, allowed: bool) -> None:
    server = await start_server(server=ServerSection(port=0, allowed_origins=["https://app.example.com"]))
    options = {"additional_headers": {"Origin": origin}}
    if allowed:
        async with server.client(**options):
            return
    with pytest.raises(InvalidStatus) as caught:
        async with server.client(**options):
            pass
    assert caught.value.response.status_code == 403


async def test_two_origins_are_one_too_many(server: RunningServer) -> None:
    headers = [("Origin", "http://localhost"), ("Origin", "http://localhost")]
    with pytest.raises(InvalidStatus):
        async with connect(server.websocket_url, additional_headers=headers):
            pass


async def test_a_silent_newcomer_is_closed_as_stale(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(connect_timeout=Duration(1)))
    async with connect(server.websocket_url) as socket:
        assert await closed(socket) == (3502, "stale")


async def test_a_client_that_does_not_answer_pings_is_closed(start_server: StartServer) -> None:
    """F-C2."""
    server = await start_server(clients=Clients(ping_interval=Duration(2), pong_timeout=Duration(1)))
    async with server.client() as client:
        assert await client.receive() == {}
        assert await closed(client.socket) == (3012, "no pong")


async def test_a_connection_ends_some_time_after_its_token(start_server: StartServer) -> None:
    server = await start_server(
        auth=Auth(hmac_keys=[Secret(SECRET)], leeway=Duration(0)), clients=Clients(expired_grace=Duration(1))
    )
    async with server.client(token("ann", exp=int(time.time()) + 1)) as client:
        assert await closed(client.socket) == (3005, "connection expired")


class StoppedReader:
    """A client that subscribes and then never reads again, with a small window in the kernel."""

    def __init__(self, server: RunningServer) -> None:
        self.socket = sockets.socket()
        self.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        host, port = server.url.removeprefix("http://").split(":")
        self.socket.connect((host, int(port)))
        self.socket.sendall(
            b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        self.send(b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"busy"}}')

    def send(self, payload: bytes) -> None:
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self.socket.sendall(b"\x81" + length + b"\0\0\0\0" + payload)

    def take(self, size: int) -> None:
        """Read after all, so many bytes."""
        while size > 0:
            chunk = self.socket.recv(min(size, 1_000_000))
            assert chunk, f"closed {size} bytes early"
            size -= len(chunk)


async def test_a_client_that_stops_reading_is_disconnected_and_costs_the_others_nothing(
    start_server: StartServer,
) -> None:
    """F-C1."""
    limit = 200_000
    server = await start_server(clients=Clients(max_buffer=Size(limit), close_timeout=Duration(1)))
    stopped = await asyncio.to_thread(StoppedReader, server)
    await eventually(lambda: server.node.hub.subscribers("busy") == 1)
    [session] = server.node.sessions.values()
    transport = session.connection.transport
    async with server.client() as healthy:
        await healthy.subscribe("busy")
        largest = 0
        sent = 0
        while not server.node.stats.disconnects[3008]:
            sent += 1
            assert sent < 1000, "the stopped client was never found slow"
            await server.publish("busy", "x" * 20_000)
            assert (await healthy.receive())["push"]["pub"]["offset"] == sent
            largest = max(largest, transport.get_write_buffer_size())
        assert largest <= limit + 2 * 20_100, "no more waits for a client than the limit and one publication"
        in_the_kernel = sent * 20_000 - largest
        assert in_the_kernel < 2 * UNSENT_BYTES + 200_000, "nor does the kernel hold more: what it can send, and a bit"
        await eventually(lambda: server.node.hub.subscribers("busy") == 1)
        await eventually(lambda: transport.is_closing() and not transport.get_write_buffer_size(), 5 * SECOND)
    stopped.socket.close()


async def test_a_long_answer_alone_makes_nobody_slow(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(max_buffer=Size(100_000)))
    for _ in range(100):
        await server.publish("a", "x" * 50_000)
    async with server.client(max_size=None) as client:
        await client.send({"id": 2, "subscribe": {"channel": "a", "recover": True, "offset": 0, "epoch": ""}})
        await eventually(lambda: server.node.hub.subscribers("a") == 1)
        await server.publish("a", "after")
        reply = await client.receive()
        assert len(reply["subscribe"]["publications"]) == 100
        assert (await client.receive())["push"]["pub"]["data"] == "after"
    assert server.node.stats.disconnects.total() == 0


async def test_nor_does_a_second_long_answer_once_the_first_was_taken(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(max_buffer=Size(100_000)))
    for _ in range(100):
        await server.publish("a", "x" * 60_000)
    reader = await asyncio.to_thread(StoppedReader, server)
    for n in range(2):
        await asyncio.to_thread(reader.send, b'{"id":3,"history":{"channel":"a","limit":100}}')
        await eventually(lambda n=n: server.node.stats.commands["history"] > n)  # type: ignore[misc]
        if n:
            await server.publish("busy", "while it is being sent")
        await asyncio.to_thread(reader.take, 6_000_000)
    assert server.node.stats.disconnects.total() == 0
    reader.socket.close()


async def test_what_breaks_inside_ends_the_connection_as_an_internal_error(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("bug")

    monkeypatch.setitem(commands._HANDLERS, "history", broken)
    async with server.client() as client:
        await client.send({"id": 2, "history": {"channel": "a"}})
        assert await closed(client.socket) == (3004, "internal server error")


async def test_while_leaving_clients_are_moved_off_and_newcomers_are_sent_elsewhere(server: RunningServer) -> None:
    async with server.client() as client:
        server.node.draining = True
        with pytest.raises(InvalidStatus) as caught:
            async with connect(server.websocket_url):
                pass
        leaving = asyncio.create_task(server.server.drain())
        assert await closed(client.socket) == (3001, "shutdown")
        await leaving
    refusal = caught.value.response
    assert refusal.status_code == 503
    assert refusal.headers["Connection"] == "close"
    assert int(refusal.headers["Retry-After"]) in range(1, 4)


async def test_a_peer_that_never_answers_the_close_is_dropped(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(close_timeout=Duration(0.2)))
    stopped = await asyncio.to_thread(StoppedReader, server)
    await eventually(lambda: server.node.sessions)
    outlet = next(iter(server.node.sessions.values())).connection
    assert isinstance(outlet, Outlet)
    await server.server.drain()
    await eventually(outlet.transport.is_closing, 5 * SECOND)
    stopped.socket.close()


async def test_a_client_that_asks_on_without_reading_the_answers_is_slow(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(max_buffer=Size(100_000), close_timeout=Duration(0.5)))
    for _ in range(20):
        await server.publish("a", "x" * 50_000)
    stopped = await asyncio.to_thread(StoppedReader, server)
    request = b'{"id":3,"history":{"channel":"a","limit":20}}'
    for _ in range(30):
        await asyncio.to_thread(stopped.send, request)
        if server.node.stats.disconnects[3008]:
            break
        await server.api("info")  # the server has had a turn
    await eventually(lambda: server.node.stats.disconnects[3008] == 1)
    stopped.socket.close()


async def test_many_long_answers_asked_for_at_once_hold_nobody_else_up(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(max_buffer=Size(100_000), close_timeout=Duration(0.5)))
    for _ in range(100):
        await server.publish("a", "x" * 60_000)
    stopped = await asyncio.to_thread(StoppedReader, server)
    request = b"\n".join(b'{"id":%d,"history":{"channel":"a","limit":100}}' % (n + 3) for n in range(300))
    before = server.node.stats.commands["history"]
    await asyncio.to_thread(stopped.send, request)
    await eventually(lambda: server.node.stats.commands["history"] > before)
    await eventually(lambda: server.node.stats.disconnects[3008] == 1)
    assert server.node.stats.commands["history"] - before < 20, "answers were made that nobody took"
    stopped.socket.close()


async def test_many_long_answers_asked_for_at_once_all_come_to_who_reads_them(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(max_buffer=Size(100_000)))
    for _ in range(20):
        await server.publish("a", "x" * 50_000)
    async with server.client(max_size=None, max_queue=1) as client:
        await client.send(*({"id": n + 2, "history": {"channel": "a", "limit": 20}} for n in range(40)))
        for n in range(40):
            reply = await client.receive()
            assert (reply["id"], len(reply["history"]["publications"])) == (n + 2, 20)
    assert server.node.stats.disconnects.total() == 0


async def test_a_thousand_short_commands_let_others_go_on_in_between(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone_on: list[float] = []

    async def busy(*_: object) -> None:
        asyncio.get_running_loop().call_soon(lambda: gone_on.append(time.monotonic()))
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass

    monkeypatch.setitem(commands._HANDLERS, "history", busy)
    async with server.client() as client:
        await client.send(*({"id": n, "history": {"channel": "a"}} for n in range(2, 302)))
        await eventually(lambda: len(gone_on) == 300)
    assert len({round(at, 3) for at in gone_on}) > 20


async def test_while_connections_come_and_go_everybody_gets_only_what_is_theirs(server: RunningServer) -> None:
    """F-C7. Descriptors are numbers that the kernel gives out again at once: bytes must never follow a number to
    somebody else."""
    stop = asyncio.Event()
    wrong: list[object] = []
    received = 0

    async def come_and_go(channel: str) -> None:
        nonlocal received
        while not stop.is_set():
            async with server.client() as client:
                await client.subscribe(channel)
                for _ in range(3):
                    message = await client.receive()
                    received += 1
                    if message["push"]["channel"] != channel:
                        wrong.append(message)
                if received % 2:
                    client.socket.transport.abort()

    tasks = [asyncio.create_task(come_and_go(f"c{n}")) for n in range(20)]
    async with asyncio.timeout(30 * SECOND):
        while received < 1500:
            for n in range(20):
                await server.publish(f"c{n}", "x" * 500)
    stop.set()
    while not all(task.done() for task in tasks):
        for n in range(20):
            await server.publish(f"c{n}", "end")
    await asyncio.gather(*tasks)
    assert wrong == []
    await eventually(lambda: len(server.node.hub) == 0 and not server.node.sessions)


async def test_order_is_kept_while_a_client_falls_behind_and_catches_up(start_server: StartServer) -> None:
    """Between what the kernel takes at once and what waits in the transport."""
    server = await start_server(clients=Clients(max_buffer=Size(50_000_000)))
    async with server.client(max_size=None, max_queue=1) as client:
        await client.subscribe("a")
        for round_ in range(5):
            for n in range(200):
                await server.publish("a", [round_, n, "x" * 20_000])
            for n in range(200):
                assert (await client.receive())["push"]["pub"]["data"][:2] == [round_, n]


async def test_a_ping_behind_a_long_answer_waits_for_a_slow_but_willing_reader(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(ping_interval=Duration(3), pong_timeout=Duration(1)))
    for _ in range(100):
        await server.publish("a", "x" * 60_000)
    reader = await asyncio.to_thread(StoppedReader, server)
    await asyncio.to_thread(reader.send, b'{"id":3,"subscribe":{"channel":"a","recover":true}}')
    taken = 0
    started = time.monotonic()
    while taken < 5_900_000:  # about 8 s, more than an interval and two timeouts
        await asyncio.sleep(0.02)
        chunk = await asyncio.to_thread(reader.socket.recv, 15_000)
        assert chunk, f"closed after {taken} bytes"
        taken += len(chunk)
    assert time.monotonic() - started > 5
    assert server.node.stats.disconnects.total() == 0
    await eventually(lambda: server.node.stats.disconnects[3012] == 1, 20 * SECOND)
    reader.socket.close()
