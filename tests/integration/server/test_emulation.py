"""`/connection/http_stream`, `/connection/sse` and `/emulation` over real sockets (protocol.md sections 1.4 to 1.7)."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket as sockets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.streams import StreamReader

from notifier.config import ChannelRule, Clients, Duration, Size
from notifier.config import Server as ServerSection
from notifier.core import commands
from notifier.protocol import client_pb2 as pb
from notifier.transports import emulation
from tests.integration.server.conftest import Body, RunningServer, StartServer, stream, token
from tests.services.deadline import SECOND, eventually

WAYS = ["http_stream", "sse", "sse POST"]
ORIGIN = "https://app.example.com"
ROOMS = [ChannelRule(match="room.*", presence=True, join_leave="always", subscribe=["anyone"])]
CONNECT: dict[str, Any] = {"id": 1, "connect": {}}


def lines(*commands: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, commands))


class Emulated:
    """A connected client: a stream down, requests up."""

    def __init__(self, server: RunningServer, body: Body, connect: dict[str, Any]) -> None:
        self._url = f"{server.url}/emulation"
        self._http = server.http
        self.body = body
        self.connect = connect
        self.next = body.next

    async def send(self, *commands: dict[str, Any], **instead: str) -> int:
        """The status of a request with these commands."""
        request = {"session": self.connect["session"], "node": self.connect["node"], "data": lines(*commands)}
        async with self._http.post(self._url, json={**request, **instead}) as response:
            assert response.status != 204 or await response.read() == b""
            return response.status

    async def ask(self, **command: Any) -> dict[str, Any]:
        """What the stream says next after a command."""
        assert await self.send({"id": 9, **command}) == 204
        message = await self.next()
        assert message is not None
        return message


@asynccontextmanager
async def connected(server: RunningServer, way: str = "http_stream", **request: Any) -> AsyncIterator[Emulated]:
    async with stream(server, way, lines({"id": 1, "connect": request})) as body:
        reply = await body.next()
        assert reply is not None
        assert reply["id"] == 1
        yield Emulated(server, body, reply["connect"])


# --- the stream -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_the_first_reply_tells_where_commands_go(server: RunningServer, way: str) -> None:
    async with connected(server, way) as client:
        assert client.connect == {
            "client": next(iter(server.node.sessions)),
            "version": server.node.version,
            "ping": 25,
            "pong": True,
            "session": next(iter(server.node.inboxes)),
            "node": server.node.node_id,
        }


@pytest.mark.parametrize("way", WAYS)
async def test_the_headers_keep_caches_and_proxies_away(server: RunningServer, way: str) -> None:
    async with stream(server, way, lines(CONNECT)) as body:
        headers = body.response.headers
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["Cache-Control"].startswith("private, no-cache, no-store, must-revalidate, max-age=0")
        assert headers["Pragma"] == "no-cache"
        assert "Content-Length" not in headers
        assert "Transfer-Encoding" not in headers
        assert "Content-Encoding" not in headers
        assert "Access-Control-Allow-Origin" not in headers
        if way.startswith("sse"):
            assert headers["Content-Type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("way", WAYS)
async def test_publications_come_down_as_on_a_websocket(server: RunningServer, way: str) -> None:
    async with connected(server, way) as client:
        assert "subscribe" in await client.ask(subscribe={"channel": "news"})
        offset = await server.publish("news", {"text": "héllo\nthere"})
        assert await client.next() == {
            "push": {"channel": "news", "pub": {"data": {"text": "héllo\nthere"}, "offset": offset}}
        }


@pytest.mark.parametrize("way", WAYS)
async def test_the_opening_request_may_hold_more_than_the_connect_command(server: RunningServer, way: str) -> None:
    more = [{"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "publish": {"channel": "a", "data": 1}}]
    async with stream(server, way, lines(CONNECT, *more)) as body:
        found = [await body.next() for _ in range(4)]
        assert [message["id"] for message in found if message and "id" in message] == [1, 2, 3]
        assert {"channel": "a"}.items() <= next(
            message["push"] for message in found if message and "push" in message
        ).items()


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_was_away_gets_the_rest(server: RunningServer, way: str) -> None:
    seen = await server.publish("a", 1)
    await server.publish("a", 2)
    async with connected(server, way) as client:
        known = {"recover": True, "offset": seen, "epoch": server.node.history.epoch}
        reply = await client.ask(subscribe={"channel": "a", **known})
        assert reply["subscribe"]["recovered"] is True
        assert [publication["data"] for publication in reply["subscribe"]["publications"]] == [2]


# --- commands -------------------------------------------------------------------------------------------------------


async def test_answers_come_down_the_stream_in_the_order_of_the_commands(server: RunningServer) -> None:
    async with connected(server) as client:
        asked = [{"id": n, "history": {"channel": "a"}} for n in range(2, 12)]
        assert await client.send(*asked[:5]) == 204
        assert await client.send(*asked[5:]) == 204
        answers = [await client.next() for _ in asked]
        assert [answer["id"] for answer in answers if answer] == list(range(2, 12))


async def test_requests_that_come_at_once_are_run_one_after_the_other(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = 0

    async def slow(*_: object) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.01)
        running -= 1

    monkeypatch.setitem(commands._HANDLERS, "history", slow)
    async with connected(server) as client:
        sent = await asyncio.gather(*(client.send({"id": n, "history": {"channel": "a"}}) for n in range(2, 12)))
        assert sent == [204] * 10
        assert "unsubscribe" in await client.ask(unsubscribe={"channel": "a"})


async def test_commands_of_the_first_request_are_run_before_those_of_others(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def waiting(*_: object) -> None:
        await go_on.wait()

    monkeypatch.setitem(commands._HANDLERS, "history", waiting)
    first = lines(CONNECT, {"id": 2, "history": {"channel": "a"}}, {"id": 3, "rpc": {"method": "notifier.whoami"}})
    async with stream(server, "http_stream", first) as body:
        reply = await body.next()
        assert reply is not None
        client = Emulated(server, body, reply["connect"])
        later = asyncio.create_task(client.send({"id": 4, "rpc": {"method": "notifier.whoami"}}))
        await eventually(lambda: server.node.stats.commands["history"] == 1)
        await server.api("info")  # there was time for the later one
        go_on.set()
        assert await later == 204
        replies = [await body.next(), await body.next()]
        assert [reply["id"] for reply in replies if reply] == [3, 4]


async def test_too_many_requests_that_wait_end_the_connection(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()
    monkeypatch.setattr(emulation, "MAX_WAITING", 3)

    async def stuck(*_: object) -> None:
        await go_on.wait()

    monkeypatch.setitem(commands._HANDLERS, "history", stuck)
    async with connected(server) as client:
        waiting = [asyncio.create_task(client.send({"id": 2, "history": {"channel": "a"}})) for _ in range(4)]
        assert await client.next() == {"push": {"disconnect": {"code": 3013, "reason": "too many requests"}}}
        assert await client.next() is None
        go_on.set()
        assert await asyncio.gather(*waiting) == [204] * 4
    await eventually(lambda: server.is_empty)


async def test_a_command_that_is_none_ends_the_connection(server: RunningServer) -> None:
    async with connected(server) as client:
        assert await client.send(data='{"id":2,') == 204
        message = await client.next()
        assert message is not None
        assert message["push"]["disconnect"]["code"] == 3501
        assert message["push"]["disconnect"]["reason"].startswith("bad request: ")
        assert await client.next() is None


async def test_what_breaks_inside_ends_the_connection_as_an_internal_error(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("bug")

    monkeypatch.setitem(commands._HANDLERS, "history", broken)
    async with connected(server) as client:
        assert await client.send({"id": 2, "history": {"channel": "a"}}) == 204
        assert await client.next() == {"push": {"disconnect": {"code": 3004, "reason": "internal server error"}}}
        assert await client.next() is None
    await eventually(lambda: server.is_empty)


# --- the secret -----------------------------------------------------------------------------------------------------


async def test_commands_reach_only_the_connection_whose_secret_they_carry(server: RunningServer) -> None:
    async with connected(server) as one, connected(server) as two:
        assert one.connect["session"] != two.connect["session"]
        assert len(one.connect["session"]) >= 32
        assert "subscribe" in await two.ask(subscribe={"channel": "a"})
        await server.publish("a", 1)
        assert "push" in (await two.next() or {})
        assert list(server.node.sessions[one.connect["client"]].subscriptions) == []


@pytest.mark.parametrize("guess", ["client", "other", ""])
async def test_what_others_know_of_a_connection_is_not_its_secret(server: RunningServer, guess: str) -> None:
    async with connected(server) as client:
        session = client.connect["client"] if guess == "client" else guess
        assert await client.send({"id": 2, "subscribe": {"channel": "a"}}, session=session) == 404
        assert await client.send({"id": 2, "subscribe": {"channel": "a"}}, node="other") == 404
        assert server.node.hub.subscribers("a") == 0


async def test_a_websocket_cannot_be_reached_by_requests(server: RunningServer) -> None:
    async with connected(server) as client, server.client() as other:
        await other.subscribe("a")
        [websocket] = [session for session in server.node.sessions.values() if session.transport == "websocket"]
        for session in ("", websocket.client_id):
            assert await client.send({"id": 2, "unsubscribe": {"channel": "a"}}, session=session) == 404
        assert server.node.hub.subscribers("a") == 1


async def test_the_secret_is_of_no_use_after_the_end(server: RunningServer) -> None:
    async with connected(server, token=token("ann")) as client:
        await server.api("disconnect", user="ann")
        assert await client.next() == {"push": {"disconnect": {"code": 3503, "reason": "force disconnect"}}}
        assert await client.next() is None
        assert await client.send({"id": 2, "subscribe": {"channel": "a"}}) == 404
    assert server.is_empty


async def test_others_on_a_channel_do_not_learn_the_secret(start_server: StartServer) -> None:
    server = await start_server(channels=ROOMS)
    async with server.client() as other, connected(server, token=token("ann")) as client:
        await other.subscribe("room.1")
        seen = [await other.receive()]  # its own join
        assert await client.send({"id": 2, "subscribe": {"channel": "room.1"}}) == 204
        seen.append(await other.receive())
        await other.send({"id": 3, "presence": {"channel": "room.1"}})
        seen.append(await other.receive())
        assert "ann" in json.dumps(seen)
        assert client.connect["session"] not in json.dumps(seen)


async def test_no_secret_ends_up_in_a_log(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    text = token("ann")
    async with connected(server, "sse", token=text) as client:
        await client.send(data="rubbish")
        await client.send(node="other")
    assert text not in caplog.text
    assert client.connect["session"] not in caplog.text


# --- pings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_who_answers_pings_stays_and_who_does_not_is_told(server: RunningServer, way: str) -> None:
    async with connected(server, way) as client:
        for _ in range(2):
            server.pass_time(25)
            assert await client.next() == {}
            assert await client.send({}) == 204
        server.pass_time(9)
        assert server.node.sessions, "both pings were answered"
        server.pass_time(25)
        assert await client.next() == {}
        server.pass_time(9)
        assert await client.next() == {"push": {"disconnect": {"code": 3012, "reason": "no pong"}}}
        assert await client.next() is None
    await eventually(lambda: server.is_empty)


async def test_a_pong_that_nobody_asked_for_is_a_bad_request(server: RunningServer) -> None:
    async with connected(server) as client:
        assert await client.send({}) == 204
        message = await client.next()
        assert message is not None
        assert message["push"]["disconnect"]["code"] == 3501
        assert await client.next() is None


# --- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_an_invalid_token_is_told_and_nothing_else(server: RunningServer, way: str) -> None:
    commands_ = lines({"id": 1, "connect": {"token": "rubbish"}}, {"id": 2, "subscribe": {"channel": "a"}})
    async with stream(server, way, commands_) as body:
        assert await body.next() == {"push": {"disconnect": {"code": 3500, "reason": "invalid token"}}}
        assert await body.next() is None
    assert server.is_empty


@pytest.mark.parametrize("way", WAYS)
async def test_an_expired_token_is_an_error_reply_and_the_connection_is_dead(server: RunningServer, way: str) -> None:
    old = token("ann", exp=int(time.time()) - 3600)
    commands_ = lines({"id": 1, "connect": {"token": old}}, {"id": 2, "subscribe": {"channel": "a"}})
    async with stream(server, way, commands_) as body:
        assert await body.next() == {"id": 1, "error": {"code": 109, "message": "token expired"}}
        server.pass_time(6)
        message = await body.next()
        assert message is not None
        assert "disconnect" in message["push"], "the second command was dropped"
        assert await body.next() is None
    await eventually(lambda: server.is_empty)


@pytest.mark.parametrize("way", WAYS)
async def test_whoever_does_not_begin_with_connect_is_told(server: RunningServer, way: str) -> None:
    async with stream(server, way, lines({"id": 1, "subscribe": {"channel": "a"}})) as body:
        message = await body.next()
        assert message is not None
        assert message["push"]["disconnect"]["code"] == 3501
        assert await body.next() is None
    assert server.is_empty


@pytest.mark.parametrize("way", WAYS)
async def test_a_disconnect_by_secret_ends_that_connection(server: RunningServer, way: str) -> None:
    async with connected(server, way, token=token("ann")) as client, connected(server, token=token("ann")) as other:
        why = {"code": 4500, "reason": "moved"}
        await server.api("disconnect", user="ann", session=client.connect["session"], disconnect=why)
        assert await client.next() == {"push": {"disconnect": why}}
        assert await client.next() is None
        assert "subscribe" in await other.ask(subscribe={"channel": "a"})


async def test_leaving_moves_clients_off_and_sends_newcomers_elsewhere(
    start_server: StartServer,
) -> None:
    server = await start_server(server=ServerSection(port=0, allowed_origins=[ORIGIN]))
    url = f"{server.url}/connection/http_stream"
    async with connected(server) as client:
        server.node.draining = True
        async with server.http.post(url, data=lines(CONNECT), headers={"Origin": ORIGIN}) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) in range(1, 4)
            assert response.headers["Connection"] == "close"
            assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        leaving = asyncio.create_task(server.server.drain())
        assert await client.next() == {"push": {"disconnect": {"code": 3001, "reason": "shutdown"}}}
        assert await client.next() is None
        await leaving


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("abruptly", [False, True])
async def test_a_client_that_goes_has_left_and_leaves_nothing_behind(
    start_server: StartServer, way: str, *, abruptly: bool
) -> None:
    server = await start_server(channels=ROOMS)
    async with server.client() as other:
        await other.subscribe("room.1")
        await other.receive()  # its own join
        async with connected(server, way, token=token("ann")) as client:
            assert await client.send({"id": 2, "subscribe": {"channel": "room.1"}}) == 204
            info = {"info": {"user": "ann", "client": client.connect["client"]}}
            assert await other.receive() == {"push": {"channel": "room.1", "join": info}}
            present = await server.api("presence_stats", channel="room.1")
            assert present == {"result": {"num_clients": 2, "num_users": 2}}
            connection = client.body.response.connection
            assert connection is not None
            if abruptly:
                assert connection.transport is not None
                connection.transport.abort()
            else:
                client.body.response.close()
            assert await other.receive() == {"push": {"channel": "room.1", "leave": info}}
        present = await server.api("presence_stats", channel="room.1")
        assert present == {"result": {"num_clients": 1, "num_users": 1}}
        assert await client.send({}) == 404
    await eventually(lambda: server.is_empty)


async def test_many_that_come_and_go_leave_nothing_behind(server: RunningServer) -> None:
    """F-C7."""

    async def visit(way: str) -> None:
        async with connected(server, way) as client:
            await client.ask(subscribe={"channel": "a"})

    await asyncio.gather(*(visit(way) for way in WAYS * 8))
    await eventually(lambda: server.is_empty)


@pytest.mark.parametrize("way", ["http_stream", "sse"])
async def test_a_client_that_does_not_read_is_dropped(start_server: StartServer, way: str) -> None:
    """F-C1."""
    limit = 100_000
    server = await start_server(clients=Clients(max_buffer=Size(limit), close_timeout=Duration(0.5)))
    socket = sockets.socket()
    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    host, port = server.url.removeprefix("http://").split(":")
    await asyncio.to_thread(socket.connect, (host, int(port)))
    body = lines(CONNECT, {"id": 2, "subscribe": {"channel": "a"}}).encode()
    socket.sendall(b"POST /connection/%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % (way.encode(), len(body)))
    socket.sendall(b"Content-Type: application/json\r\n\r\n" + body)
    await eventually(lambda: server.node.hub.subscribers("a") == 1)
    transport = next(iter(server.node.sessions.values())).connection.transport
    largest = 0
    async with asyncio.timeout(20 * SECOND):
        while not server.node.stats.disconnects[3008]:
            await server.publish("a", "x" * 50_000)
            largest = max(largest, transport.get_write_buffer_size())
    assert largest <= limit + 2 * 50_100, "no more waits for a client than the limit and one publication"
    await eventually(lambda: server.is_empty and transport.is_closing() and not transport.get_write_buffer_size())
    socket.close()


# --- statuses and headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/connection/http_stream", "rubbish", 400),
        ("POST", "/connection/http_stream", "", 400),
        ("POST", "/connection/http_stream", '{"id":1,"connect":{}}\n\n', 400),
        ("POST", "/connection/http_stream", "[" * 60_000, 400),
        ("POST", "/connection/http_stream", " " * 65_537, 413),
        ("OPTIONS", "/connection/http_stream", "", 204),
        ("GET", "/connection/http_stream", "", 405),
        ("PUT", "/connection/http_stream", "{}", 405),
        ("GET", "/connection/sse", "", 400),
        ("GET", "/connection/sse?cf_connect=", "", 400),
        ("GET", "/connection/sse?cf_connect=rubbish", "", 400),
        ("GET", "/connection/sse?cf_connect=%ff", "", 400),
        ("POST", "/connection/sse", "", 400),
        ("POST", "/connection/sse", "rubbish", 400),
        ("POST", "/connection/sse", " " * 65_537, 413),
        ("PUT", "/connection/sse", "{}", 405),
        ("OPTIONS", "/connection/sse", "", 405),
        ("POST", "/emulation", "rubbish", 400),
        ("POST", "/emulation", "", 400),
        ("POST", "/emulation", "[]", 400),
        ("POST", "/emulation", '{"session":1}', 400),
        ("POST", "/emulation", '{"session":"a","node":"b","data":"\\ud800"}', 400),
        ("POST", "/emulation", "{}", 404),
        ("POST", "/emulation", '{"session":"a","node":"b","data":"{}"}', 404),
        ("POST", "/emulation", " " * 65_537, 413),
        ("OPTIONS", "/emulation", "", 204),
        ("GET", "/emulation", "", 405),
        ("DELETE", "/emulation", "", 405),
    ],
)
@pytest.mark.parametrize("origin", ["", ORIGIN])
async def test_what_is_wrong_with_a_request_is_a_status_that_the_page_may_read(
    start_server: StartServer, method: str, path: str, body: str, status: int, origin: str
) -> None:
    """A browser hides answers without these headers from the SDK, which then takes the server for lost."""
    server = await start_server(server=ServerSection(port=0, allowed_origins=[ORIGIN]))
    headers = {"Origin": origin} if origin else {}
    async with server.http.request(method, f"{server.url}{path}", data=body, headers=headers) as response:
        assert response.status == status, await response.text()
        if status != 405:
            assert response.headers.get("Access-Control-Allow-Origin", "") == origin
            assert response.headers.get("Access-Control-Allow-Credentials", "") == ("true" if origin else "")
        if status == 400:
            assert (await response.text()).strip(), "it says what was wrong"
    assert server.is_empty


@pytest.mark.parametrize("path", ["/connection/http_stream", "/emulation"])
async def test_a_page_may_ask_first_whether_it_may_ask(start_server: StartServer, path: str) -> None:
    server = await start_server(server=ServerSection(port=0, allowed_origins=[ORIGIN]))
    headers = {"Origin": ORIGIN, "Access-Control-Request-Headers": "content-type,x-other"}
    async with server.http.options(f"{server.url}{path}", headers=headers) as response:
        assert (response.status, await response.read()) == (204, b"")
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert response.headers["Access-Control-Allow-Methods"] == "POST, OPTIONS"
        assert response.headers["Access-Control-Allow-Headers"] == "content-type,x-other"
        assert response.headers["Access-Control-Max-Age"] == "300"
        assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("way", WAYS)
async def test_the_page_of_an_allowed_origin_may_read_the_stream(start_server: StartServer, way: str) -> None:
    server = await start_server(server=ServerSection(port=0, allowed_origins=[ORIGIN]))
    async with stream(server, way, lines(CONNECT), Origin=ORIGIN) as body:
        assert body.response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert body.response.headers["Access-Control-Allow-Credentials"] == "true"
        assert body.response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{ORIGIN}.evil.example", ""])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/connection/http_stream"),
        ("OPTIONS", "/connection/http_stream"),
        ("GET", "/connection/sse?cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D"),
        ("POST", "/connection/sse"),
        ("POST", "/emulation"),
        ("OPTIONS", "/emulation"),
    ],
)
async def test_pages_of_other_origins_are_refused(
    start_server: StartServer, method: str, path: str, origin: str
) -> None:
    server = await start_server(server=ServerSection(port=0, allowed_origins=[ORIGIN]))
    url = f"{server.url}{path}"
    async with server.http.request(method, url, data=lines(CONNECT), headers={"Origin": origin}) as response:
        assert response.status == 403
        assert not [name for name in response.headers if name.startswith("Access-Control")]
    assert server.is_empty


@pytest.mark.parametrize("path", ["/connection/http_stream", "/connection/sse", "/emulation"])
async def test_a_body_of_exactly_the_limit_is_taken(server: RunningServer, path: str) -> None:
    connect, envelope = '{"id":1,"connect":{}}', '{"session":"a","node":"b","data":"{}"}'
    body = (envelope if path == "/emulation" else connect).ljust(65_536)
    async with server.http.post(f"{server.url}{path}", data=body) as response:
        assert response.status == (404 if path == "/emulation" else 200)


async def test_a_request_too_large_harms_nothing(server: RunningServer) -> None:
    async with connected(server) as client:
        assert await client.send(data=" " * 65_536) == 413
        assert "subscribe" in await client.ask(subscribe={"channel": "a"})


@pytest.mark.parametrize("path", ["/connection/http_stream", "/connection/sse", "/emulation"])
async def test_a_body_is_measured_as_it_comes_and_as_it_unpacks(server: RunningServer, path: str) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * 1000

    async with server.http.post(f"{server.url}{path}", data=in_pieces()) as response:
        assert response.status == 413
    packed = gzip.compress(b" " * 10_000_000)
    assert len(packed) < 65_536
    async with server.http.post(f"{server.url}{path}", data=packed, headers={"Content-Encoding": "gzip"}) as response:
        assert response.status == 413


@pytest.mark.parametrize("path", ["/connection/http_stream", "/connection/sse", "/emulation", "/api/publish"])
async def test_what_is_left_of_a_refused_body_is_not_unpacked(
    server: RunningServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = 0
    feed = StreamReader.feed_data

    def counting(self: StreamReader, data: bytes, *rest: Any) -> bool:
        nonlocal unpacked
        unpacked += len(data)
        return feed(self, data, *rest)

    monkeypatch.setattr(StreamReader, "feed_data", counting)
    packed = gzip.compress(bytes(100_000_000))  # 97 KB
    with contextlib.suppress(aiohttp.ClientConnectionError):  # it may still have been sending
        async with server.http.post(
            f"{server.url}{path}", data=packed, headers={"Content-Encoding": "gzip"}
        ) as response:
            assert response.status in {401, 413}
    await eventually(lambda: unpacked)
    async with server.http.get(f"{server.url}/livez") as response:  # whatever goes on has had its turn
        assert response.status == 200
    assert unpacked < 10_000_000


@pytest.mark.parametrize("path", ["/connection/http_stream", "/connection/sse", "/emulation"])
async def test_a_body_that_does_not_come_is_not_waited_for(
    server: RunningServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulation, "BODY_TIMEOUT_S", 0.05)
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 5 * SECOND)
    writer.close()
    assert server.is_empty


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
async def test_whatever_does_not_say_that_it_is_protobuf_is_json(
    server: RunningServer, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    url = f"{server.url}/connection/http_stream"
    body = lines(CONNECT).encode()
    async with server.http.post(url, data=body, headers=headers, skip_auto_headers=["Content-Type"]) as response:
        connect = json.loads(await response.content.readline())["connect"]
        request = {"session": connect["session"], "node": connect["node"], "data": '{"id":2,"history":{"channel":"a"}}'}
        async with server.http.post(
            f"{server.url}/emulation",
            data=json.dumps(request).encode(),
            headers=headers,
            skip_auto_headers=["Content-Type"],
        ) as answer:
            assert answer.status == 204
        assert json.loads(await response.content.readline())["id"] == 2


# --- Protobuf -------------------------------------------------------------------------------------------------------

PROTOBUF = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}


def delimited(*messages: Any) -> bytes:
    """Messages as they follow each other on the wire; these are all shorter than 128 bytes."""
    return b"".join(bytes([message.ByteSize()]) + message.SerializeToString() for message in messages)


class ProtobufStream:
    """An emulated connection in Protobuf."""

    def __init__(self, server: RunningServer, response: aiohttp.ClientResponse) -> None:
        self._server = server
        self._response = response
        self.connect = pb.ConnectResult()

    async def next(self) -> pb.Reply | None:
        content, length, shift = self._response.content, 0, 0
        while first := await content.read(1):
            length |= (first[0] & 0x7F) << shift
            shift += 7
            if first[0] < 0x80:
                return pb.Reply.FromString(await content.readexactly(length))
        return None

    async def raw(self) -> bytes:
        return await self._response.content.readany()

    async def send(self, data: bytes) -> int:
        request = pb.EmulationRequest(node=self.connect.node, session=self.connect.session, data=data)
        url = f"{self._server.url}/emulation"
        async with self._server.http.post(url, data=request.SerializeToString(), headers=PROTOBUF) as response:
            return response.status


@asynccontextmanager
async def protobuf(server: RunningServer, **request: Any) -> AsyncIterator[ProtobufStream]:
    body = delimited(pb.Command(id=1, connect=pb.ConnectRequest(**request)))
    async with server.http.post(f"{server.url}/connection/http_stream", data=body, headers=PROTOBUF) as response:
        assert response.status == 200
        client = ProtobufStream(server, response)
        reply = await client.next()
        assert reply is not None
        client.connect.CopyFrom(reply.connect)
        yield client


async def test_protobuf_goes_down_and_up(server: RunningServer) -> None:
    async with protobuf(server) as client:
        assert client.connect.client in server.node.sessions
        assert (client.connect.ping, client.connect.pong) == (25, True)
        data = delimited(
            pb.Command(id=2, subscribe=pb.SubscribeRequest(channel="a")),
            pb.Command(id=3, history=pb.HistoryRequest(channel="a")),
        )
        assert await client.send(data) == 204
        for number in (2, 3):
            reply = await client.next()
            assert reply is not None
            assert (reply.id, reply.error.code) == (number, 0)
        offset = await server.publish("a", {"text": "x" * 300})
        pushed = await client.next()
        assert pushed is not None
        assert (pushed.push.channel, pushed.push.pub.offset) == ("a", offset)
        assert json.loads(pushed.push.pub.data) == {"text": "x" * 300}


async def test_a_ping_in_protobuf_is_one_zero_byte_and_so_is_its_answer(server: RunningServer) -> None:
    async with protobuf(server) as client:
        for _ in range(2):
            server.pass_time(25)
            assert await client.raw() == b"\0"
            assert await client.send(b"\0") == 204
        server.pass_time(25)
        assert await client.raw() == b"\0"
        server.pass_time(9)
        ended = await client.next()
        assert ended is not None
        assert (ended.push.disconnect.code, ended.push.disconnect.reason) == (3012, "no pong")
        assert await client.next() is None
    await eventually(lambda: server.is_empty)


@pytest.mark.parametrize("data", [b"", b"\x05abc", b"\x80\x80\x80\x80\x80\x80", lines(CONNECT).encode()])
async def test_what_is_no_command_in_protobuf_ends_the_connection(server: RunningServer, data: bytes) -> None:
    async with protobuf(server) as client:
        assert await client.send(data) == 204
        ended = await client.next()
        assert ended is not None
        assert ended.push.disconnect.code == 3501
        assert await client.next() is None
    url = f"{server.url}/connection/http_stream"
    async with server.http.post(url, data=data, headers=PROTOBUF) as response:
        assert response.status == 400
    assert server.is_empty


async def test_what_is_no_request_in_protobuf_is_400(server: RunningServer) -> None:
    async with server.http.post(f"{server.url}/emulation", data=b"\xff\xff", headers=PROTOBUF) as response:
        assert response.status == 400


async def test_an_expired_token_is_an_error_reply_in_protobuf_too(server: RunningServer) -> None:
    old = token("ann", exp=int(time.time()) - 3600)
    command = pb.Command(id=1, connect=pb.ConnectRequest(token=old)).SerializeToString()
    length = len(command)
    body = bytes([length & 0x7F | 0x80, length >> 7]) + command
    async with server.http.post(f"{server.url}/connection/http_stream", data=body, headers=PROTOBUF) as response:
        reply = await ProtobufStream(server, response).next()
        assert reply is not None
        assert (reply.id, reply.error.code, reply.error.message) == (1, 109, "token expired")
