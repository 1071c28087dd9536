"""What peers send that want to do harm, byte by byte on raw sockets; and that the others notice nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from notifier.config import Clients, Duration
from notifier.doors import KEEPALIVE_S
from notifier.transports.garbage import UNREADABLE
from tests.integration.server.conftest import API_KEY, RunningServer, StartServer, start_server
from tests.servers import ROOT
from tests.services.deadline import SECOND, eventually

__all__ = ["start_server"]

MASK = b"\x11\x22\x33\x44"
POST = b"POST /api/info HTTP/1.1\r\nHost: x\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
CONNECT = b'{"id":1,"connect":{}}'
TOO_MANY = struct.pack("!H", 3013) + b"too many requests"
HANDSHAKE = (
    b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(payload: bytes, opcode: int = 1, *, final: bool = True, mask: bool = True) -> bytes:
    """A client's frame."""
    first = (0x80 if final else 0) | opcode
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, bit | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, bit | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(payload))
    if not mask:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))


class Raw:
    """A socket to the server, and nothing that helps."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """The other side may have closed already: that is its right."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def rest(self, deadline_s: float = 20 * SECOND) -> bytes:
        """Everything up to the end, which must come."""
        async with asyncio.timeout(deadline_s):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read(-1)
        return b""


@asynccontextmanager
async def raw(server: RunningServer) -> AsyncIterator[Raw]:
    parts = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**22)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def raw_websocket(server: RunningServer) -> AsyncIterator[Raw]:
    async with raw(server) as peer:
        await peer.send(HANDSHAKE)
        assert b" 101 " in await peer.reader.readuntil(b"\r\n\r\n")
        yield peer


@pytest.fixture
async def server(start_server: StartServer) -> RunningServer:
    limits = Clients(close_timeout=Duration(1), connect_timeout=Duration(2))
    return await start_server(clients=limits)  # type: ignore[no-any-return]


async def still_serves(server: RunningServer) -> None:
    """An honest client gets its notification."""
    async with server.client() as client:
        await client.subscribe("news.1")
        await server.publish("news.1", "hello")
        assert (await client.receive())["push"]["pub"]["data"] == "hello"


async def nothing_stays(server: RunningServer) -> None:
    await eventually(lambda: server.node.stats.connections.total() == 0, 20 * SECOND)
    assert not server.node.sessions


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- HTTP -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 2000 + b"\r\n", b"400"),
        (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 1_000_000 + b"\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nA\x00: b\r\n\r\n", b"400"),
        (b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n", b"400"),
        (b"nonsense canary\r\n\r\n", b"400"),
        (b"GET /canary HTTP/1.1\r\nHost: x\r\ncanary\r\n\r\n", b"400"),
        (LIVEZ + b"A: b\r\n" * 100 + b"\r\n", b"400"),
        (b"POST /api/info HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400"),
        (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST /api/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n", b"40"),
    ],
)
async def test_malformed_requests_are_refused_and_are_no_error_of_ours(
    server: RunningServer, request_: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is the same whatever was sent, and nothing of that is in it; the log stays quiet."""
    async with raw(server) as peer:
        await peer.send(request_)
        answer = await peer.rest(KEEPALIVE_S + 20 * SECOND)
    # What is still unread when the server closes turns the answer into a reset.
    assert not answer or answer.split(b" ", 2)[1].startswith(status)
    assert b"text/html" not in answer
    assert b"canary" not in answer
    if answer:
        assert b"X-Content-Type-Options: nosniff" in answer
        assert answer.endswith(UNREADABLE.encode())
    assert not caplog.records
    await still_serves(server)


async def test_headers_byte_by_byte_end_with_the_time_for_them(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte is no new beginning."""
    monkeypatch.setattr("notifier.doors.KEEPALIVE_S", 1.0)
    server = await start_server()

    async def drip(peer: Raw) -> None:
        with contextlib.suppress(ConnectionError):
            for byte in itertools.cycle(b"A: b\r\n"):
                peer.writer.write(bytes([byte]))
                await asyncio.sleep(0.1)

    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(raw(server)) for _ in range(100)]
        for peer in peers:
            await peer.send(LIVEZ)
        dripping = [asyncio.create_task(drip(peer)) for peer in peers]
        await still_serves(server)
        answers = await asyncio.gather(*(peer.rest() for peer in peers))
        assert set(answers) == {b""}
        for task in dripping:
            task.cancel()
        await asyncio.gather(*dripping, return_exceptions=True)


async def test_the_bounds_of_requests_are_those_that_were_asked_for(server: RunningServer) -> None:
    """aiohttp leaves all of them out, with a warning only, when it does not know the name of one."""
    async with raw(server) as peer:
        await peer.send(b"G")
        handling = server.server.doors.runners[0].server
        assert handling is not None
        await eventually(lambda: bool(handling.connections), 5 * SECOND)
        [protocol] = handling.connections
        assert (protocol.max_headers, protocol.max_line_size, protocol.max_field_size) == (64, 8190, 8190)
        assert protocol._keepalive_timeout == KEEPALIVE_S
        assert protocol.access_logger is None


async def test_no_answer_can_be_taken_for_what_it_is_not(server: RunningServer) -> None:
    for path in ("livez", "readyz", "metrics", "api/openapi.json", "api/info", "nowhere", "sse", "connection/sse"):
        async with server.http.get(f"{server.url}/{path}") as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff", path


async def test_a_body_that_unpacks_to_a_thousand_times_its_size_is_refused(server: RunningServer) -> None:
    body = zlib.compress(b" " * 50_000_000)
    headers = f"Host: x\r\nX-API-Key: {API_KEY}\r\nContent-Encoding: deflate\r\nContent-Length: {len(body)}"
    async with raw(server) as peer:
        await peer.send(f"POST /api/info HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n".encode() + body)
        answer = await peer.rest()
    assert answer.split(b" ", 2)[1] in {b"413", b"400"}


async def test_many_requests_on_one_connection_are_answered_in_order_or_not_at_all(server: RunningServer) -> None:
    async with raw(server) as peer:
        await peer.send((LIVEZ + b"\r\n") * 5000 + LIVEZ + b"Connection: close\r\n\r\n")
        answer = await peer.rest(60 * SECOND)
    assert 0 < answer.count(b"HTTP/1.1 200") <= 5001
    assert answer.count(b"HTTP/1.1") == answer.count(b"HTTP/1.1 200")
    await still_serves(server)


async def test_a_second_request_behind_a_refused_upgrade_is_not_smuggled_in(server: RunningServer) -> None:
    body = b'{"channel":"news.1","data":"evil"}'
    smuggled = b"POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        API_KEY.encode(), len(body), body,
    )  # fmt: skip
    evil = b"Host: x\r\nOrigin: https://evil.example\r\nContent-Length: %d" % len(smuggled)
    request = HANDSHAKE.replace(b"Host: x", evil)
    before = server.node.history.end
    async with raw(server) as peer:
        await peer.send(request + smuggled)
        assert b" 403 " in await peer.reader.readuntil(b"\r\n\r\n")
        await still_serves(server)
    assert server.node.history.end == before + 1


# --- WebSocket ------------------------------------------------------------------------------------------------------


async def test_empty_fragments_without_an_end_are_not_kept(server: RunningServer) -> None:
    async with raw_websocket(server) as peer:
        told = asyncio.create_task(peer.reader.readuntil(TOO_MANY))
        await peer.send(frame(b"", 1, final=False))
        flood = frame(b"", 0, final=False) * 10_000
        for _ in range(20):
            await peer.send(flood)
        await still_serves(server)
        await told
    await nothing_stays(server)


async def test_tiny_fragments_are_bounded_by_the_message(server: RunningServer) -> None:
    async with raw_websocket(server) as peer:
        await peer.send(frame(b"x", 1, final=False))
        flood = frame(b"x", 0, final=False) * 10_000
        for _ in range(10):
            await peer.send(flood)
        await peer.rest()  # it ends, with 1009 where the reset leaves that behind
    assert server.node.history.end == 0
    await still_serves(server)
    await nothing_stays(server)


async def test_frames_that_are_not_masked_are_refused(server: RunningServer) -> None:
    """RFC 6455 section 5.1: or a page could make a proxy see requests in them."""
    async with raw_websocket(server) as peer:
        await peer.send(frame(CONNECT, mask=False))
        assert await peer.rest() == b"\x88\x22" + struct.pack("!H", 1002) + b"a client's frames must be masked"
    await nothing_stays(server)


async def test_a_flood_of_pings_is_bounded_and_costs_nobody_else_anything(server: RunningServer) -> None:
    async with raw_websocket(server) as peer:
        await peer.send(frame(CONNECT))
        flood = frame(b"x" * 125, 9) * 2000

        async def go_on() -> None:
            for _ in range(200):
                await peer.send(flood)  # and never reads

        flooding = asyncio.create_task(go_on())
        for _ in range(5):
            await still_serves(server)
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
    await nothing_stays(server)


async def test_a_flood_of_commands_is_refused_and_the_others_are_served(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(command_rate=50, command_burst=100))
    async with raw_websocket(server) as peer:
        await peer.send(frame(CONNECT))
        commands = b"\n".join(b'{"id":%d,"publish":{"channel":"nowhere","data":1}}' % n for n in range(2, 1000))
        await peer.send(frame(commands))
        await still_serves(server)
        assert TOO_MANY in await peer.rest()
        assert 100 <= server.node.stats.errors[111] < 300


@pytest.mark.parametrize("step", [1, 7])
async def test_a_session_cut_off_at_every_byte_leaves_nothing_behind(server: RunningServer, step: int) -> None:
    session = HANDSHAKE + frame(CONNECT) + frame(b'{"id":2,"subscribe":{"channel":"news.1"}}') + frame(b"\x03\xe8", 8)
    before = open_files()
    for at in range(0, len(session), step * 5):
        async with raw(server) as peer:
            await peer.send(session[:at])
    await nothing_stays(server)
    await eventually(lambda: open_files() <= before + 2, 20 * SECOND)
    await still_serves(server)


async def test_changed_bytes_break_only_their_own_connection(server: RunningServer) -> None:
    chance = random.Random(20)
    session = frame(CONNECT) + frame(b'{"id":2,"subscribe":{"channel":"news.1"}}') + frame(b"ping", 9)
    for _ in range(150):
        broken = bytearray(session)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        async with raw_websocket(server) as peer:
            await peer.send(bytes(broken))
    await still_serves(server)
    await nothing_stays(server)


# --- counts, not only bytes ---------------------------------------------------------------------------------------

NOTHING = [b"\n" * 60_000, b"{}\n" * 20_000, b"\n{}" * 20_000, b"[" * 60_000, b'{"id":1}\n' * 6000]


@pytest.mark.parametrize("nothing", NOTHING, ids=lambda nothing: nothing[:8].decode())
async def test_a_message_of_very_many_parts_with_nothing_in_them_ends_its_connection(
    server: RunningServer, nothing: bytes
) -> None:
    """CVE-2026-32689 was this: eight megabytes of line ends."""
    async with raw_websocket(server) as peer:
        await peer.send(frame(CONNECT) + frame(nothing))
        assert struct.pack("!H", 3501) in await peer.rest()
    for path in ("connection/http_stream", "connection/sse", "connection/uni_http_stream", "connection/uni_sse"):
        async with server.http.post(f"{server.url}/{path}", data=nothing) as response:
            told = await response.text()
            assert response.status == 400 or "3501" in told, (path, told[:100])
    await still_serves(server)
    await nothing_stays(server)


async def test_a_message_of_sixty_thousand_empty_commands_in_protobuf_ends_its_connection(
    server: RunningServer,
) -> None:
    async with raw(server) as peer:
        await peer.send(HANDSHAKE.replace(b"/websocket ", b"/websocket?cf_protocol=protobuf "))
        assert b" 101 " in await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(frame(b"\x04\x08\x01\x22\x00", 2) + frame(b"\x00" * 60_000, 2))
        assert struct.pack("!H", 3501) in await peer.rest()
    await still_serves(server)
    await nothing_stays(server)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("batch", b'{"commands":[' + b"{}," * 30_000 + b"{}]}"),
        ("broadcast", b'{"channels":[' + b'"a",' * 24_000 + b'"a"],"data":1}'),
        ("publish", b"\n" * 99_000),
        ("batch", b'{"parallel":true,"commands":[' + b'{"info":{}},' * 8000 + b'{"info":{}}]}'),
    ],
)
async def test_a_batch_of_very_many_parts_is_refused_as_a_whole(server: RunningServer, path: str, body: bytes) -> None:
    headers = {"X-API-Key": API_KEY}
    async with server.http.post(f"{server.url}/api/{path}", data=body, headers=headers) as response:
        answer = await response.text()
    assert response.status == 400 or '"code":107' in answer
    assert len(answer) < 1000
    assert server.node.history.end == 0
    await still_serves(server)


async def test_a_query_of_very_many_channels_is_refused(server: RunningServer) -> None:
    names = ",".join(str(number) for number in range(1600))
    for query in (f"channels={names}", f"channels={',' * 7000}", "channel=a&" * 800):
        async with server.http.get(f"{server.url}/sse?{query}") as response:
            assert response.status in {200, 400}
            if response.status == 200:
                assert query.startswith("channel=a"), "the same name again is one"
    await nothing_stays(server)


# --- many at once ---------------------------------------------------------------------------------------------------


async def test_half_open_and_silent_connections_end_by_themselves(server: RunningServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(raw_websocket(server)) for _ in range(100)]
        assert server.node.stats.connections.total() == 100
        await still_serves(server)
        await nothing_stays(server)
        for peer in silent[:3]:
            assert b"stale" in await peer.rest()


async def test_log_lines_cannot_be_forged_by_what_a_peer_sends(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    evil = "x\\r\\n2026 ERROR forged \x1b[31m"
    async with raw(server) as peer:
        await peer.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nUser-Agent: \x1b[31m\xff\xfe" + b"a" * 5000 + b"\r\n\r\n")
        await peer.reader.read(100)
    async with server.client() as client:
        await client.send({"id": 2, "subscribe": {"channel": evil}})
        assert "error" in await client.receive()
    assert not [record for record in caplog.records if "forged" in record.getMessage() or "\x1b" in record.getMessage()]


def test_nothing_is_checked_by_assertions_that_an_option_turns_off() -> None:
    """`python -O` leaves assertions out (CVE-2025-69227 came from that): those that are there guard no input."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / "notifier").rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if line.strip().startswith("assert ") and "noqa: S101" not in line
    ]
    assert found == []
