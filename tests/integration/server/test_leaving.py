"""SIGTERM to a real process: what health checks, clients, newcomers and publishers see, and that it ends in time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.servers import API_KEY, NewServer, ServerProcess, make_token, on_rabbitmq, servers
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST, free_port
from tests.services.proxy import TcpProxy, Way
from tests.services.rabbitmq import RabbitMQ

MESSAGE_BYTES = 20_000
CLOSE = b"\x88\x0a\x0b\xb9shutdown"  # with the code 3001


class StoppedReader:
    """A client that subscribes to `open.a` and does not read before it is told to. Its window is small."""

    def __init__(self, server: ServerProcess) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect((LOCALHOST, server.port))
        self.socket.sendall(
            b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        connect = json.dumps({"id": 1, "connect": {"token": make_token("bob")}})
        payload = f'{connect}\n{{"id":2,"subscribe":{{"channel":"open.a"}}}}'.encode()
        self.socket.sendall(b"\x81\xfe" + len(payload).to_bytes(2, "big") + b"\0\0\0\0" + payload)

    def read_to_the_end(self) -> bytes:
        self.socket.settimeout(10 * SECOND)
        found = bytearray()
        while data := self.socket.recv(65_536):
            found += data
            if found.endswith(CLOSE):
                self.socket.sendall(b"\x88\x82\0\0\0\0" + CLOSE[2:4])
        return bytes(found)


NewReader = Callable[[ServerProcess], Awaitable[StoppedReader]]


@pytest.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[NewServer]:
    async with servers(tmp_path) as new:
        yield new


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@pytest.fixture
async def new_reader() -> AsyncIterator[NewReader]:
    """Makes clients that do not read."""
    made: list[StoppedReader] = []

    async def make(server: ServerProcess) -> StoppedReader:
        made.append(await asyncio.to_thread(StoppedReader, server))
        return made[-1]

    yield make
    for reader in made:
        reader.socket.close()


async def connected(
    http: aiohttp.ClientSession, server: ServerProcess, channel: str = "open.a"
) -> aiohttp.ClientWebSocketResponse:
    found = await http.ws_connect(server.ws_url)
    await found.send_str(
        json.dumps({"id": 1, "connect": {"token": make_token("ann")}})
        + "\n"
        + json.dumps({"id": 2, "subscribe": {"channel": channel}})
    )
    for _ in range(2):
        assert "error" not in (await found.receive_json(timeout=10 * SECOND))
    return found


async def signalled(server: ServerProcess, times: int = 1) -> None:
    """Send SIGTERM, each time once it can be seen that the one before was taken."""
    for _ in range(times):
        os.kill(server.pid, signal.SIGTERM)
        await eventually(lambda: '"leaving"' in server.log.read_text())


async def ended(server: ServerProcess, within_s: float) -> None:
    await eventually(lambda: not server.running, within_s)
    assert server.exit_code == 0, server.log.read_text()


async def status(http: aiohttp.ClientSession, server: ServerProcess, path: str) -> int:
    async with http.get(f"{server.url}{path}") as response:
        await response.read()
        return response.status


async def close_code(client: aiohttp.ClientWebSocketResponse) -> int | None:
    """Read to the end; nothing is sent in return, but the answer to the close frame."""
    while (await client.receive(timeout=20 * SECOND)).type is aiohttp.WSMsgType.TEXT:
        pass
    return client.close_code


async def filled(server: ServerProcess, count: int) -> None:
    """Publish more than the kernel takes for a client that does not read."""
    for number in range(count):
        await server.publish("open.a", f"{number} {'x' * MESSAGE_BYTES}")


async def test_a_balancer_sees_at_once_that_it_is_leaving_and_has_time_to_act_on_it(
    new_server: NewServer, http: aiohttp.ClientSession
) -> None:
    delay_s = 3 * SECOND
    server = await new_server({"server": {"shutdown_delay": delay_s, "shutdown_grace": delay_s + 5 * SECOND}})
    early = await connected(http, server)
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    await eventually(lambda: _is(http, server, "/readyz", 503), delay_s / 2)
    assert await status(http, server, "/livez") == 200
    late = await connected(http, server)
    await server.publish("open.a", "still here")
    for client in (early, late):
        assert "still here" in await client.receive_str(timeout=10 * SECOND)
    async with http.get(f"{server.url}/livez") as response:
        assert response.headers["Connection"] == "close", "its next request goes elsewhere"
    assert await close_code(early) == await close_code(late) == 3001
    assert time.monotonic() - began > delay_s * 0.9
    await ended(server, 5 * SECOND)


async def _is(http: aiohttp.ClientSession, server: ServerProcess, path: str, wanted: int) -> bool:
    return await status(http, server, path) == wanted


async def test_many_clients_are_told_to_go_one_slice_after_the_other(
    new_server: NewServer, http: aiohttp.ClientSession
) -> None:
    server = await new_server()
    clients = [await connected(http, server) for _ in range(450)]
    ends: list[float] = []

    async def follow(client: aiohttp.ClientWebSocketResponse) -> None:
        assert await close_code(client) == 3001
        ends.append(time.monotonic())

    following = [asyncio.create_task(follow(client)) for client in clients]
    os.kill(server.pid, signal.SIGTERM)
    await asyncio.gather(*following)
    ends.sort()
    assert ends[-1] - ends[0] > 0.25, "five slices, a tenth of a second apart"
    await ended(server, 5 * SECOND)


async def test_event_streams_end_with_a_time_to_come_back_that_is_not_the_same_for_all(
    new_server: NewServer, http: aiohttp.ClientSession
) -> None:
    server = await new_server({"clients": {"sse_retry": "2s"}})
    headers = {"Authorization": f"Bearer {make_token('ann')}"}
    streams = [await http.get(f"{server.url}/sse?channels=open.a", headers=headers) for _ in range(12)]
    for stream in streams:
        assert b"retry: 2000\n" in await stream.content.readuntil(b"event: notifier.subscribed")
    await server.publish("open.a", "before")
    os.kill(server.pid, signal.SIGTERM)
    retries = set()
    for stream in streams:
        rest = await asyncio.wait_for(stream.content.read(), 10 * SECOND)
        before, _, last = rest.partition(b"retry: ")
        assert b'data: "before"' in before
        retry, _, event = last.partition(b"\n")
        assert event.startswith(b"event: notifier.disconnect\n")
        assert b'"reconnect":true' in event
        retries.add(int(retry))
    assert len(retries) > 6
    assert all(1000 <= retry <= 3000 for retry in retries)
    await ended(server, 10 * SECOND)


async def test_what_is_queued_for_a_client_reaches_it_before_the_close(
    new_server: NewServer, new_reader: NewReader, http: aiohttp.ClientSession
) -> None:
    server = await new_server({"clients": {"max_buffer": "8MiB"}, "server": {"shutdown_grace": 20 * SECOND}})
    watching = await connected(http, server)
    reader = await new_reader(server)
    await eventually(lambda: _has_subscribers(server, 2))
    await filled(server, 100)
    os.kill(server.pid, signal.SIGTERM)
    assert await close_code(watching) == 3001
    found = await asyncio.to_thread(reader.read_to_the_end)
    for number in range(100):
        assert f'"{number} xxx'.encode() in found
    assert found.endswith(CLOSE)
    await ended(server, 10 * SECOND)


async def _has_subscribers(server: ServerProcess, count: int) -> bool:
    found = (await server.call("channels"))["channels"]
    return bool(found.get("open.a", {}).get("num_clients") == count)


async def test_a_stuck_client_does_not_keep_it_past_its_grace_period(
    new_server: NewServer, new_reader: NewReader
) -> None:
    """F-N2."""
    grace_s = 4 * SECOND
    section = {"shutdown_grace": grace_s}
    server = await new_server({"server": section, "clients": {"max_buffer": "8MiB", "close_timeout": 60 * SECOND}})
    await new_reader(server)
    await eventually(lambda: _has_subscribers(server, 1))
    await filled(server, 100)
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    await ended(server, grace_s + 2 * SECOND)
    assert time.monotonic() - began > grace_s / 2, "it has waited for the client"
    assert "cut off" in server.log.read_text()


async def test_a_second_signal_ends_it_at_once(new_server: NewServer, new_reader: NewReader) -> None:
    """F-N4."""
    section = {"shutdown_grace": 60 * SECOND, "shutdown_delay": 30 * SECOND}
    server = await new_server({"server": section})
    await new_reader(server)
    await eventually(lambda: _has_subscribers(server, 1))
    await signalled(server)
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    await ended(server, 5 * SECOND)
    assert time.monotonic() - began < 2 * SECOND


async def test_who_has_not_said_yet_who_it_is_is_told_to_go_as_well(
    new_server: NewServer, http: aiohttp.ClientSession
) -> None:
    server = await new_server()
    silent = await http.ws_connect(server.ws_url)
    os.kill(server.pid, signal.SIGTERM)
    assert await close_code(silent) == 3001
    await ended(server, 5 * SECOND)


async def test_newcomers_are_sent_elsewhere_while_clients_are_moved_off(
    new_server: NewServer, new_reader: NewReader, http: aiohttp.ClientSession
) -> None:
    server = await new_server({"server": {"shutdown_grace": 20 * SECOND}, "clients": {"close_timeout": 30 * SECOND}})
    reader = await new_reader(server)  # does not answer the close, so this takes its time
    await eventually(lambda: _has_subscribers(server, 1))
    os.kill(server.pid, signal.SIGTERM)
    await eventually(lambda: _is(http, server, "/readyz", 503))

    async def refused() -> bool:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(server.ws_url)
        assert caught.value.headers is not None
        return caught.value.status == 503 and "Retry-After" in caught.value.headers

    await eventually(refused)
    async with http.get(f"{server.url}/sse?channels=open.a") as response:
        assert response.status == 200, "EventSource gives up for good on any other"
        text = await response.text()
        assert text.startswith("retry: ")
        assert '"reconnect":true' in text
    result = await server.publish("open.a", "late")
    assert result, "a backend that does not know it yet is still served"
    assert await status(http, server, "/livez") == 200
    await asyncio.to_thread(reader.read_to_the_end)
    await ended(server, 10 * SECOND)


async def test_a_publication_that_was_asked_for_is_answered(
    rabbitmq: RabbitMQ, new_server: NewServer, http: aiohttp.ClientSession
) -> None:
    async with TcpProxy(LOCALHOST, rabbitmq.port) as slow:
        server = await new_server(on_rabbitmq(rabbitmq.url_at(slow.port)) | {"server": {"shutdown_grace": 20 * SECOND}})
        slow.delay(0.5)
        before = slow.carried[Way.C2S]
        asking = [asyncio.create_task(_publication(http, server)) for _ in range(5)]
        await eventually(lambda: slow.carried[Way.C2S] > before + 5 * MESSAGE_BYTES)
        await signalled(server)
        assert not any(task.done() for task in asking)
        offsets = [(await task)["result"]["offset"] for task in asking]
        assert len(set(offsets)) == 5
        await ended(server, 20 * SECOND)


async def _publication(http: aiohttp.ClientSession, server: ServerProcess) -> Any:
    body = {"channel": "open.a", "data": "x" * MESSAGE_BYTES}
    async with http.post(f"{server.url}/api/publish", json=body, headers={"X-API-Key": API_KEY}) as response:
        return await response.json()


async def test_it_ends_as_well_when_it_was_never_ready(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    server = ServerProcess(tmp_path, on_rabbitmq(f"amqp://guest:guest@{LOCALHOST}:{free_port()}/"))
    starting = asyncio.create_task(server.start())
    await eventually(lambda: _is(http, server, "/readyz", 503), 20 * SECOND, retry=(aiohttp.ClientError,))
    starting.cancel()
    os.kill(server.pid, signal.SIGTERM)
    await ended(server, 5 * SECOND)
