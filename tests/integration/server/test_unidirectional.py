"""`/connection/uni_websocket`, `/connection/uni_sse`, `/connection/uni_http_stream` over real sockets (protocol.md
section 1.8)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from notifier.config import Auth, ChannelRule, Clients, Duration, Secret, Size
from notifier.config import Server as ServerSection
from tests.integration.server.conftest import SECRET, Body, RunningServer, StartServer, stream, token
from tests.services.deadline import SECOND, eventually

FRAMED = ["uni_websocket", "uni_websocket frame"]
STREAMED = ["uni_sse", "uni_sse POST", "uni_http_stream"]
WAYS = [*FRAMED, *STREAMED]
ORIGIN = "https://app.example.com"
ROOMS = [
    ChannelRule(match="room.*", presence=True, join_leave="always", subscribe=["anyone"]),
    ChannelRule(match="mine.*", subscribe=["mine.{sub}"]),
]


class Frames:
    """Text frames of one push each."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.closed: tuple[int, str] | None = None

    async def next(self) -> dict[str, Any] | None:
        """The next push; None at the end."""
        try:
            text = await self.socket.recv()
        except ConnectionClosed as error:
            self.closed = (error.rcvd.code, error.rcvd.reason) if error.rcvd else None
            return None
        assert isinstance(text, str)
        push: dict[str, Any] = json.loads(text)
        return push


def websocket_url(server: RunningServer, query: str = "") -> str:
    return server.websocket_url.replace("/websocket", "/uni_websocket") + query


@asynccontextmanager
async def opened(
    server: RunningServer, way: str, request: dict[str, Any], **headers: str
) -> AsyncIterator[Frames | Body]:
    text = json.dumps(request)
    if way in STREAMED:
        async with stream(server, way, text, **headers) as body:
            yield body
        return
    query = "" if way == "uni_websocket frame" else f"?cf_connect={quote(text)}"
    url = websocket_url(server, query)
    async with connect(url, additional_headers=headers, compression=None) as socket:
        if not query:
            await socket.send(text)
        yield Frames(socket)


@asynccontextmanager
async def connected(
    server: RunningServer, way: str, **request: Any
) -> AsyncIterator[tuple[Frames | Body, dict[str, Any]]]:
    """The pushes after the first one, and what that one says."""
    async with opened(server, way, request) as pushes:
        first = await pushes.next()
        assert first is not None
        assert list(first) == ["connect"]
        yield pushes, first["connect"]


async def ending(pushes: Frames | Body) -> dict[str, Any]:
    """The disconnect, which must be the last thing that comes; on a WebSocket the close frame says the same."""
    push = await pushes.next()
    assert push is not None
    assert list(push) == ["disconnect"]
    assert await pushes.next() is None
    found: dict[str, Any] = push["disconnect"]
    if isinstance(pushes, Frames):
        assert pushes.closed == (found["code"], found["reason"])
    return found


# --- connecting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_the_first_push_tells_who_the_client_is_and_asks_for_nothing(server: RunningServer, way: str) -> None:
    async with connected(server, way) as (_, told):
        [session] = server.node.sessions.values()
        assert told == {
            "client": session.client_id,
            "version": server.node.version,
            "ping": 25,
            "session": session.key,
        }
        assert told["session"] != told["client"]
        assert not server.node.inboxes, "nobody can send commands for it"


@pytest.mark.parametrize("way", WAYS)
async def test_a_token_tells_who_and_how_long(server: RunningServer, way: str) -> None:
    async with connected(server, way, token=token("ann", exp=int(time.time()) + 600), name="x", data={"a": 1}) as (
        _,
        told,
    ):
        assert told["expires"] is True
        assert 590 <= told["ttl"] <= 600
        assert [session.identity.user for session in server.node.sessions.values()] == ["ann"]


@pytest.mark.parametrize("way", ["uni_sse", "uni_sse POST"])
async def test_events_need_no_request_at_all(server: RunningServer, way: str) -> None:
    url = f"{server.url}/connection/uni_sse"
    async with server.http.request("POST" if way.endswith("POST") else "GET", url) as response:
        assert await response.content.readexactly(2) == b"\r\n"
        assert "connect" in (await Body(response).next() or {})


@pytest.mark.parametrize("way", STREAMED)
async def test_the_headers_keep_caches_and_proxies_away(server: RunningServer, way: str) -> None:
    async with opened(server, way, {}) as pushes:
        assert isinstance(pushes, Body)
        headers = pushes.response.headers
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["Cache-Control"].startswith("private, no-cache, no-store, must-revalidate, max-age=0")
        assert headers["Pragma"] == "no-cache"
        assert "Content-Length" not in headers
        assert "Transfer-Encoding" not in headers
        if way.startswith("uni_sse"):
            assert headers["Content-Type"] == "text/event-stream; charset=utf-8"


# --- channels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_channels_that_may_be_had_are_given_and_others_left_out(server: RunningServer, way: str) -> None:
    wanted: dict[str, Any] = {"user.ann": {}, "user.bob": {}, "closed.a": {}, "plain.a": {}}
    async with connected(server, way, token=token("ann"), subs=wanted) as (pushes, told):
        assert set(told["subs"]) == {"user.ann", "plain.a"}
        assert told["subs"]["plain.a"] == {}
        given = told["subs"]["user.ann"]
        assert (given["recoverable"], given["positioned"], given["epoch"]) == (True, True, server.node.history.epoch)
        for channel in ("user.bob", "closed.a"):
            await server.publish(channel, "not for ann")
        offset = await server.publish("user.ann", {"n": "a\nb"}, tags={"k": "v"})
        await server.publish("plain.a", 2)
        assert await pushes.next() == {
            "channel": "user.ann", "pub": {"data": {"n": "a\nb"}, "offset": offset, "tags": {"k": "v"}}
        }  # fmt: skip
        assert await pushes.next() == {"channel": "plain.a", "pub": {"data": 2}}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["unknown", "a b", "a" * 256, "", "room.#"])
async def test_a_channel_that_cannot_be_is_a_bad_request(start_server: StartServer, way: str, name: str) -> None:
    server = await start_server(channels=ROOMS)
    async with opened(server, way, {"subs": {"room.1": {}, name: {}}}) as pushes:
        assert (await ending(pushes))["code"] == 3501
    await eventually(lambda: server.is_empty)


@pytest.mark.parametrize("way", WAYS)
async def test_too_many_channels_end_it(start_server: StartServer, way: str) -> None:
    server = await start_server(clients=Clients(max_channels=2))
    async with connected(server, way, subs={"a": {}, "b": {}}) as (_, told):
        assert set(told["subs"]) == {"a", "b"}
    async with opened(server, way, {"subs": {"a": {}, "b": {}, "c": {}}}) as pushes:
        assert await ending(pushes) == {"code": 3505, "reason": "channel limit"}


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_missed_comes_with_the_connect_push_and_only_that(server: RunningServer, way: str) -> None:
    seen = await server.publish("a", 1)
    missed = [await server.publish("a", n) for n in (2, 3)]
    epoch = server.node.history.epoch
    known = {"recover": True, "offset": seen, "epoch": epoch}
    async with connected(server, way, subs={"a": known, "b": {**known, "epoch": "other"}}) as (pushes, told):
        assert told["subs"]["a"]["recovered"] is True
        assert told["subs"]["a"]["was_recovering"] is True
        assert told["subs"]["a"]["publications"] == [
            {"data": n, "offset": offset} for n, offset in zip((2, 3), missed, strict=True)
        ]
        assert "recovered" not in told["subs"]["b"]
        assert "publications" not in told["subs"]["b"]
        assert told["subs"]["b"]["was_recovering"] is True
        offset = await server.publish("a", 4)
        assert await pushes.next() == {"channel": "a", "pub": {"data": 4, "offset": offset}}


async def test_nothing_is_lost_or_repeated_while_it_connects(server: RunningServer) -> None:
    stop = asyncio.Event()

    async def publish() -> None:
        while not stop.is_set():
            await server.publish("a", 0)

    seen = await server.publish("a", 0)
    publishing = asyncio.create_task(publish())
    epoch = server.node.history.epoch
    for way in WAYS * 3:
        known = {"recover": True, "offset": seen, "epoch": epoch}
        async with connected(server, way, subs={"a": known}) as (pushes, told):
            offsets = [publication["offset"] for publication in told["subs"]["a"].get("publications", [])]
            for _ in range(3):
                push = await pushes.next()
                assert push is not None
                offsets.append(push["pub"]["offset"])
        assert offsets == list(range(seen + 1, offsets[-1] + 1))
        seen = offsets[-1]
    stop.set()
    await publishing


@pytest.mark.parametrize("way", WAYS)
async def test_what_else_happens_on_its_channels_comes_bare_too(start_server: StartServer, way: str) -> None:
    server = await start_server(channels=ROOMS)
    async with connected(server, way, token=token("ann"), subs={"room.1": {}}) as (pushes, told):
        me = {"info": {"user": "ann", "client": told["client"]}}
        assert await pushes.next() == {"channel": "room.1", "join": me}
        async with server.client(token("bob")) as bob:
            await bob.subscribe("room.1")
            push = await pushes.next()
            assert push is not None
            assert push["join"]["info"]["user"] == "bob"
        assert "leave" in (await pushes.next() or {})
        await server.api("subscribe", user="ann", channel="mine.ann")
        assert await pushes.next() == {"channel": "mine.ann", "subscribe": {}}
        await server.publish("mine.ann", 1)
        assert await pushes.next() == {"channel": "mine.ann", "pub": {"data": 1}}
        await server.api("unsubscribe", user="ann", channel="mine.ann")
        assert await pushes.next() == {
            "channel": "mine.ann", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}
        }  # fmt: skip
        await server.api("refresh", user="ann", expire_at=int(time.time()) + 100)
        push = await pushes.next()
        assert push is not None
        assert push["refresh"]["expires"] is True
        assert (await server.api("presence_stats", channel="room.1"))["result"]["num_clients"] == 1


# --- pings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_pings_need_no_answer(server: RunningServer, way: str) -> None:
    async with connected(server, way, subs={"a": {}}) as (pushes, _):
        for _ in range(3):
            server.pass_time(25)
            assert await pushes.next() == {}
        server.pass_time(24)
        await server.publish("a", 1)
        while (push := await pushes.next()) == {}:
            pass
        assert push is not None
        assert push["pub"]["data"] == 1
        assert not server.node.stats.disconnects


async def test_a_websocket_is_pinged_with_its_own_frames_too(server: RunningServer) -> None:
    async with server.http.ws_connect(websocket_url(server, "?cf_connect={}"), autoping=False) as socket:
        await socket.receive_json()
        server.pass_time(25)
        assert await socket.receive_json() == {}
        assert (await socket.receive(5 * SECOND)).type.name == "PING"


# --- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("claims", "code", "reason"),
    [
        (None, 3500, "invalid token"),
        ({"exp": 1}, 3005, "connection expired"),
        ({"expire_at": 1}, 3005, "connection expired"),
        ({"subs": {"a b": {}}}, 3004, "internal server error"),
    ],
)
async def test_whoever_cannot_connect_is_told_why(
    server: RunningServer, way: str, claims: dict[str, Any] | None, code: int, reason: str
) -> None:
    text = "rubbish" if claims is None else token("ann", **claims)
    async with opened(server, way, {"token": text, "subs": {"a": {}}}) as pushes:
        assert await ending(pushes) == {"code": code, "reason": reason}
    await eventually(lambda: server.is_empty)


@pytest.mark.parametrize("way", WAYS)
async def test_without_a_token_only_where_anonymous_clients_are_welcome(start_server: StartServer, way: str) -> None:
    server = await start_server(auth=Auth(hmac_keys=[Secret(SECRET)]))
    async with opened(server, way, {}) as pushes:
        told = await ending(pushes)
        assert (told["code"], told["reason"]) == (3501, "bad request: a token is required")


@pytest.mark.parametrize("way", WAYS)
async def test_a_connection_ends_some_time_after_its_token(server: RunningServer, way: str) -> None:
    async with connected(server, way, token=token("ann", exp=int(time.time()) + 600)) as (pushes, _):
        server.pass_time(700)
        while (push := await pushes.next()) == {}:
            pass
        assert push == {"disconnect": {"code": 3005, "reason": "connection expired"}}


@pytest.mark.parametrize("way", WAYS)
async def test_a_disconnect_is_the_last_push(server: RunningServer, way: str) -> None:
    async with connected(server, way, token=token("ann"), subs={"user.ann": {}}) as (pushes, told):
        await server.api("disconnect", user="ann", session="other")
        await server.publish("user.ann", 1)
        assert "pub" in (await pushes.next() or {})
        await server.publish("user.ann", 2)
        await server.api("disconnect", user="ann", session=told["session"])
        assert "pub" in (await pushes.next() or {})
        assert await ending(pushes) == {"code": 3503, "reason": "force disconnect"}
    await eventually(lambda: server.is_empty)


@pytest.mark.parametrize("way", WAYS)
async def test_leaving_moves_clients_off(server: RunningServer, way: str) -> None:
    async with connected(server, way) as (pushes, _):
        leaving = asyncio.create_task(server.server.drain())
        assert await ending(pushes) == {"code": 3001, "reason": "shutdown"}
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
        async with connected(server, way, token=token("ann"), subs={"room.1": {}}) as (pushes, told):
            info = {"info": {"user": "ann", "client": told["client"]}}
            assert await other.receive() == {"push": {"channel": "room.1", "join": info}}
            assert (await server.api("presence_stats", channel="room.1"))["result"]["num_clients"] == 2
            if not isinstance(pushes, Body):
                if abruptly:
                    pushes.socket.transport.abort()
                else:
                    await pushes.socket.close()
            elif abruptly:
                assert pushes.response.connection is not None
                assert pushes.response.connection.transport is not None
                pushes.response.connection.transport.abort()
            else:
                pushes.response.close()
            assert await other.receive() == {"push": {"channel": "room.1", "leave": info}}
        assert (await server.api("presence_stats", channel="room.1"))["result"]["num_clients"] == 1
    await eventually(lambda: server.is_empty)
    assert not server.node.stats.disconnects, "nobody was sent away"


@pytest.mark.parametrize("way", STREAMED)
async def test_a_client_that_does_not_read_is_dropped(start_server: StartServer, way: str) -> None:
    server = await start_server(clients=Clients(max_buffer=Size(100_000), close_timeout=Duration(0.5)))
    async with connected(server, way, subs={"a": {}}) as (pushes, _):
        assert isinstance(pushes, Body)
        connection = pushes.response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.pause_reading()
        async with asyncio.timeout(20 * SECOND):
            while not server.node.stats.disconnects[3008]:
                await server.publish("a", "x" * 60_000)
        await eventually(lambda: server.is_empty)


# --- what a WebSocket may send --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ['{"id":1,"subscribe":{"channel":"b"}}', "{}", "", b"\0"])
@pytest.mark.parametrize("way", FRAMED)
async def test_a_command_on_a_one_way_websocket_ends_it(server: RunningServer, way: str, sent: str | bytes) -> None:
    async with connected(server, way, subs={"a": {}}) as (pushes, _):
        assert isinstance(pushes, Frames)
        await pushes.socket.send(sent)
        assert (await ending(pushes))["code"] == 3501
    await eventually(lambda: server.is_empty)


@pytest.mark.parametrize("sent", ["rubbish", "[]", "5", "", '{"subs":[]}', '{"token":1}', "[" * 60_000, b"{}"])
async def test_a_first_frame_that_is_no_request_ends_it(server: RunningServer, sent: str | bytes) -> None:
    async with connect(websocket_url(server)) as socket:
        await socket.send(sent)
        told = await ending(Frames(socket))
        assert told["code"] == 3501
        assert told["reason"].startswith("bad request: ")
    await eventually(lambda: server.is_empty)


@pytest.mark.parametrize("way", ["first", "later"])
async def test_a_frame_above_the_limit_is_1009(server: RunningServer, way: str) -> None:
    async with connect(websocket_url(server)) as socket:
        if way == "later":
            await socket.send("{}")
            await socket.recv()
        await socket.send(" " * 65_537)
        pushes = Frames(socket)
        assert await pushes.next() is None
        assert pushes.closed is not None
        assert pushes.closed[0] == 1009
    await eventually(lambda: server.is_empty)


async def test_a_frame_of_exactly_the_limit_is_taken(server: RunningServer) -> None:
    async with connect(websocket_url(server), compression=None) as socket:
        await socket.send("{}".ljust(65_536))
        assert "connect" in json.loads(await socket.recv())


async def test_a_ping_may_come_before_the_request(server: RunningServer) -> None:
    async with connect(websocket_url(server)) as socket:
        await asyncio.wait_for(await socket.ping(), 5 * SECOND)
        await socket.send("{}")
        assert "connect" in json.loads(await socket.recv())
        await asyncio.wait_for(await socket.ping(), 5 * SECOND)


async def test_whoever_leaves_without_a_request_is_let_go(server: RunningServer) -> None:
    async with connect(websocket_url(server)) as socket:
        await socket.close(1000)
        assert socket.close_code == 1000
    await eventually(lambda: server.is_empty)
    assert not server.node.stats.disconnects


async def test_a_silent_newcomer_is_closed_as_stale(server: RunningServer) -> None:
    async with connect(websocket_url(server)) as socket:
        await eventually(lambda: server.node.stats.connections["uni_websocket"])
        server.pass_time(11)
        assert await ending(Frames(socket)) == {"code": 3502, "reason": "stale"}


# --- statuses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["?cf_connect=rubbish", "?cf_connect=[]", "?cf_connect=%7B", "?cf_connect=%ff"])
async def test_a_bad_request_in_the_query_is_400_before_the_upgrade(server: RunningServer, query: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(websocket_url(server, query)):
            pass
    assert caught.value.response.status_code == 400
    assert b"connect request: " in (caught.value.response.body or b"")
    assert server.is_empty


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "uni_websocket", "", 426),
        ("POST", "uni_websocket", "{}", 405),
        ("GET", "uni_sse?cf_connect=%5B", "", 400),
        ("POST", "uni_sse", "rubbish", 400),
        ("POST", "uni_sse", " " * 65_537, 413),
        ("PUT", "uni_sse", "{}", 405),
        ("POST", "uni_http_stream", "rubbish", 400),
        ("POST", "uni_http_stream", "", 400),
        ("POST", "uni_http_stream", '{"subs":{"a":1}}', 400),
        ("POST", "uni_http_stream", "{}{}", 400),
        ("POST", "uni_http_stream", " " * 65_537, 413),
        ("OPTIONS", "uni_http_stream", "", 204),
        ("GET", "uni_http_stream", "", 405),
    ],
)
@pytest.mark.parametrize("origin", ["", ORIGIN])
async def test_what_is_wrong_with_a_request_is_a_status_that_the_page_may_read(
    start_server: StartServer, method: str, path: str, body: str, status: int, origin: str
) -> None:
    server = await start_server(server=ServerSection(port=0, allowed_origins=[ORIGIN]))
    headers = {"Origin": origin} if origin else {}
    async with server.http.request(method, f"{server.url}/connection/{path}", data=body, headers=headers) as response:
        assert response.status == status, await response.text()
        if status not in (405, 426):
            assert response.headers.get("Access-Control-Allow-Origin", "") == origin
        if status == 400:
            assert "connect request: " in await response.text()
    assert server.is_empty


@pytest.mark.parametrize("way", STREAMED)
async def test_the_page_of_an_allowed_origin_may_read_the_stream(start_server: StartServer, way: str) -> None:
    server = await start_server(server=ServerSection(port=0, allowed_origins=[ORIGIN]))
    async with opened(server, way, {}, Origin=ORIGIN) as pushes:
        assert isinstance(pushes, Body)
        assert pushes.response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert pushes.response.headers["Access-Control-Allow-Credentials"] == "true"
        assert pushes.response.headers["Vary"] == "Origin"


@pytest.mark.parametrize(("method", "path"), [("GET", "uni_sse"), ("POST", "uni_sse"), ("POST", "uni_http_stream")])
async def test_pages_of_other_origins_are_refused(server: RunningServer, method: str, path: str) -> None:
    url, headers = f"{server.url}/connection/{path}", {"Origin": "https://evil.example"}
    async with server.http.request(method, url, data="{}", headers=headers) as response:
        assert response.status == 403
        assert "Access-Control-Allow-Origin" not in response.headers
    with pytest.raises(InvalidStatus) as caught:
        async with connect(websocket_url(server, "?cf_connect={}"), additional_headers=headers):
            pass
    assert caught.value.response.status_code == 403


async def test_while_not_ready_newcomers_are_sent_elsewhere(server: RunningServer) -> None:
    server.node.draining = True
    for path in ("uni_sse", "uni_http_stream"):
        async with server.http.post(f"{server.url}/connection/{path}", data="{}") as response:
            assert response.status == 503
            assert response.headers["Retry-After"]
    with pytest.raises(InvalidStatus) as caught:
        async with connect(websocket_url(server, "?cf_connect={}")):
            pass
    assert caught.value.response.status_code == 503


async def test_no_token_ends_up_in_a_log(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0, logger="notifier")
    text = token("ann")
    async with connected(server, "uni_sse", token=text) as (_, told):
        pass
    async with server.http.get(f"{server.url}/connection/uni_sse?cf_connect={text}") as response:
        assert response.status == 400
        assert text not in await response.text()
    assert text not in caplog.text
    assert told["session"] not in caplog.text
