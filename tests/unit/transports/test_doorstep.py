"""What becomes of a connection's first bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from notifier.transports.doorstep import READ_AHEAD_BYTES, Doorstep, Doorsteps
from notifier.transports.line import HandedOver, hand_over
from tests.services.deadline import SECOND, eventually

REQUEST = (
    b"GET /ws?a=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1234)})
        self.written = b""
        self.closed = self.aborted = self.reading_paused = False
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


class Plain(asyncio.Protocol):
    """In aiohttp's place."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data


class Endpoint:
    """Answers what it is told to, once it may."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []
        self.may = asyncio.Event()
        self.may.set()
        self.answer: web.StreamResponse | BaseException = web.Response(text="no\n", status=503)
        self.cancelled = False

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Place:
    def __init__(self, patience_s: float = 60.0) -> None:
        self.endpoint = Endpoint()
        self.plain = Plain()
        self.steps = Doorsteps(lambda: self.plain, {b"/ws": self.endpoint}, patience_s)
        self.wire = Wire()
        self.step: Doorstep = self.steps()
        self.step.connection_made(self.wire)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    found = Place()
    yield found
    found.steps.clear()


async def asked(place: Place) -> None:
    await eventually(lambda: place.endpoint.requests)


async def answered(place: Place) -> tuple[bytes, bytes]:
    """Head and body, after which the connection was closed."""
    await eventually(lambda: place.wire.closed)
    head, _, body = place.wire.written.partition(b"\r\n\r\n")
    return head, body


async def test_the_endpoint_gets_the_request_as_aiohttp_reads_it(place: Place) -> None:
    place.step.data_received(REQUEST)
    await asked(place)
    [request] = place.endpoint.requests
    assert request.path == "/ws"
    assert request.query == {"a": "1"}
    assert request.headers["Upgrade"] == "websocket"
    assert request.remote == "192.0.2.1"
    assert request.transport is place.wire
    assert place.plain.data == b""


@pytest.mark.parametrize(
    "data",
    [
        REQUEST[:40],  # the rest comes later
        REQUEST.replace(b"/ws", b"/other"),
        REQUEST.replace(b"GET ", b"POST "),
        b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n",  # no upgrade
        REQUEST.replace(b"Host: x", b"Host x"),  # cannot be read
        REQUEST.replace(b"Host: x", b"Host: x\r\nContent-Length: 5") + b"12345",
        REQUEST.replace(b"Host: x", b"Host: x\r\nTRANSFER-encoding: chunked") + b"0\r\n\r\n",
        REQUEST.replace(b"Host: x", b"X: " + b"x" * 9000),
        b"\x16\x03\x01",
        b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100,
        # What follows is not looked at, whatever it is.
        b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * 6000,
    ],
)
async def test_everything_else_is_aiohttps_from_the_first_byte(place: Place, data: bytes) -> None:
    place.step.data_received(data)
    assert place.plain.data == data
    assert place.plain.transport is place.wire
    assert place.wire.protocol is place.plain
    assert place.endpoint.requests == []
    assert not place.steps.there


async def test_a_refusal_is_a_whole_answer_and_the_last_one(place: Place) -> None:
    place.endpoint.answer = web.HTTPTooManyRequests(text="too many\n", headers={"Retry-After": "7"})
    place.step.data_received(REQUEST)
    head, body = await answered(place)
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 429 Too Many Requests"
    assert {"Retry-After: 7", "Content-Length: 9", "Connection: close", "X-Content-Type-Options: nosniff"} < set(lines)
    assert body == b"too many\n"


async def test_an_answer_that_is_returned_is_written_too(place: Place) -> None:
    place.step.data_received(REQUEST)
    assert await answered(place) == (place.wire.written.partition(b"\r\n\r\n")[0], b"no\n")
    assert place.wire.written.startswith(b"HTTP/1.1 503 ")


async def test_a_failing_endpoint_is_an_error_of_ours_and_says_no_more(place: Place) -> None:
    place.endpoint.answer = ValueError("a secret")
    place.step.data_received(REQUEST)
    head, body = await answered(place)
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in body


async def test_what_comes_behind_the_request_waits_for_whoever_takes_the_connection(place: Place) -> None:
    taken: list[bytes] = []

    class Line(asyncio.Protocol):
        seat = None
        outlet: Any = None

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0)
        line: Any = Line()
        line.outlet = type("Outlet", (), {"transport": place.wire})
        taken.append(hand_over(request, line))  # type: ignore[arg-type]
        raise HandedOver

    place.steps.endpoints = {b"/ws": take}
    place.step.data_received(REQUEST + b"first")
    place.step.data_received(b"second")
    await eventually(lambda: taken)
    assert taken == [b"firstsecond"]
    assert isinstance(place.wire.protocol, Line)
    assert not place.steps.there
    await asyncio.sleep(0)
    assert place.wire.written == b""  # it is not ours any more
    assert not place.wire.closed


async def test_no_more_is_read_ahead_than_that(place: Place) -> None:
    place.endpoint.may.clear()
    place.step.data_received(REQUEST)
    place.step.data_received(b"x" * READ_AHEAD_BYTES)
    assert not place.wire.reading_paused
    place.step.data_received(b"x")
    assert place.wire.reading_paused


async def test_the_endpoint_hears_when_the_client_goes(place: Place) -> None:
    place.endpoint.may.clear()
    place.step.data_received(REQUEST)
    await asked(place)
    place.step.connection_lost(None)
    await eventually(lambda: place.endpoint.cancelled)
    assert place.wire.written == b""
    assert not place.steps.there


async def test_an_endpoint_that_was_given_up_leaves_no_connection_behind(place: Place) -> None:
    place.endpoint.answer = asyncio.CancelledError()
    place.step.data_received(REQUEST)
    await eventually(lambda: place.wire.closed)
    assert place.wire.written == b""


async def test_a_refusal_is_no_circle_of_objects(place: Place) -> None:
    refused = place.endpoint.answer = web.HTTPForbidden()
    place.step.data_received(REQUEST)
    await answered(place)
    assert refused.__traceback__ is None


async def test_who_says_nothing_does_not_stay() -> None:
    place = Place(patience_s=0.01)
    await eventually(lambda: place.wire.closed, 5 * SECOND)


async def test_who_has_said_something_is_not_sent_away_for_silence() -> None:
    place = Place(patience_s=0.02)
    place.endpoint.may.clear()
    place.step.data_received(REQUEST)
    later = Place(patience_s=0.02)  # its patience ends after that of the first
    await eventually(lambda: later.wire.closed, 5 * SECOND)
    assert not place.wire.closed
    place.steps.clear()


async def test_who_is_there_when_the_server_ends_is_cut_off(place: Place) -> None:
    place.steps.clear()
    assert place.wire.aborted
