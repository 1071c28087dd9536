"""`/sse` as a plain EventSource sees it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from notifier.config import Auth, ChannelRule, Clients, Duration, HistoryRule, Secret, Size
from notifier.config import Server as ServerSection
from notifier.core.orders import Order, Revocation
from notifier.errors import Unavailable
from tests.integration.server.conftest import API_KEY, SECRET, Events, RunningServer, StartServer, token
from tests.services.deadline import SECOND, eventually

Open = Callable[..., Any]


async def test_the_first_event_says_that_nothing_was_resumed_and_then_publications_come(
    server: RunningServer, events: Open
) -> None:
    stream: Events = await events("channels=a,b")
    told = await stream.beginning()
    assert told["recovered"] is False
    assert told["was_recovering"] is False
    assert list(told["channels"]) == ["a", "b"]
    position = await stream.next()
    assert list(position) == ["id"]
    offset = await server.publish("b", {"x": 1})
    event = await stream.next()
    assert event == {"id": f"{server.node.history.epoch}:{offset}", "data": '{"x": 1}'}


async def test_the_headers_keep_proxies_from_buffering(events: Open) -> None:
    stream: Events = await events("channels=a")
    headers = stream.response.headers
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["X-Accel-Buffering"] == "no"
    assert "no-cache" in headers["Cache-Control"]
    assert "no-transform" in headers["Cache-Control"]
    assert "Content-Length" not in headers
    assert "Transfer-Encoding" not in headers, "the body is raw, so that the same bytes are right for everybody"


@pytest.mark.parametrize("way", ["header", "query"])
async def test_a_cursor_resumes_all_channels_in_the_logs_order(server: RunningServer, events: Open, way: str) -> None:
    first: Events = await events("channels=a,b")
    await first.beginning()
    await first.next()
    await server.publish("a", 1)
    cursor = (await first.next())["id"]
    first.response.close()
    for n, channel in enumerate("babba", start=2):
        await server.publish(channel, n)
    await server.publish("c", "not asked for")
    second: Events = (
        await events("channels=a,b", Last_Event_ID=cursor)
        if way == "header"
        else await events(f"channels=a,b&last_event_id={cursor}")
    )
    told = await second.beginning()
    assert told == {
        "recovered": True,
        "was_recovering": True,
        "channels": {"a": {"recovered": True}, "b": {"recovered": True}},
    }
    assert [json.loads((await second.next())["data"]) for _ in range(5)] == [2, 3, 4, 5, 6]
    assert await second.next() == {"id": f"{server.node.history.epoch}:{server.node.history.end}"}


async def test_the_header_wins_over_the_query(server: RunningServer, events: Open) -> None:
    """F-C8."""
    await server.publish("a", 1)
    epoch = server.node.history.epoch
    stream: Events = await events("channels=a&last_event_id=rubbish", Last_Event_ID=f"{epoch}:0")
    assert (await stream.beginning())["recovered"] is True


@pytest.mark.parametrize("cursor", ["rubbish", "other:1", "99", "%F0%9F%92%A9"])
async def test_a_cursor_that_cannot_be_resumed_is_told_with_the_reason_before_anything_else(
    server: RunningServer, events: Open, cursor: str
) -> None:
    """F-C8."""
    await server.publish("a", 1)
    stream: Events = await events(f"channels=a&last_event_id={cursor}")
    told = await stream.beginning()
    assert told["recovered"] is False
    assert told["was_recovering"] is True
    assert told["channels"]["a"]["reason"]
    assert list(await stream.next()) == ["id"], "nothing of before is sent"


async def test_only_the_channel_that_lost_something_is_said_to_have(server: RunningServer, events: Open) -> None:
    await server.publish("a", "first")
    position = server.node.history.end
    for n in range(101):
        await server.publish("a", n)
    await server.publish("b", "kept")
    stream: Events = await events(f"channels=a,b&last_event_id={server.node.history.epoch}:{position}")
    told = await stream.beginning()
    assert told["recovered"] is False
    assert told["channels"] == {
        "a": {"recovered": False, "reason": "history has been trimmed"},
        "b": {"recovered": True},
    }
    assert (await stream.next())["data"] == '"kept"'


async def test_where_only_the_last_publication_matters_it_comes_first_to_whoever_has_not_got_it(
    start_server: StartServer,
) -> None:
    rules = [
        ChannelRule(match="#", history=HistoryRule(size=2, ttl=Duration(60)), recovery="cache", subscribe=["anyone"])
    ]
    server = await start_server(channels=rules)
    seen = [f"{server.node.history.epoch}:{await server.publish('price', n)}" for n in range(5)]

    async def beginning(cursor: str) -> tuple[bool, str | None]:
        headers = {"Last-Event-ID": cursor} if cursor else {}
        async with server.http.get(f"{server.url}/sse?channels=price", headers=headers) as response:
            stream = Events(response)
            told = await stream.beginning()
            return told["recovered"], (await stream.next()).get("data")

    assert await beginning("") == (True, "4")
    assert await beginning(seen[0]) == (True, "4"), "what was trimmed does not matter"
    assert await beginning("another:1") == (True, "4")
    assert await beginning(seen[-1]) == (True, None)
    ahead = f"{server.node.history.epoch}:{server.node.history.end + 1000}"
    assert await beginning(ahead) == (True, "4"), "nobody can have seen what the log does not have"
    async with server.http.get(f"{server.url}/sse?channels=price,empty") as response:
        told = await Events(response).beginning()
        assert told["recovered"] is False
        assert told["channels"] == {
            "price": {"recovered": True},
            "empty": {"recovered": False, "reason": "no cursor was given"},
        }


async def test_an_envelope_tells_the_channel(server: RunningServer, events: Open) -> None:
    stream: Events = await events("channel=a&channel=b&envelope=1")
    await stream.beginning()
    await stream.next()
    offset = await server.publish("b", 1, tags={"lang": "en"})
    assert json.loads((await stream.next())["data"]) == {
        "channel": "b", "data": 1, "offset": offset, "tags": {"lang": "en"}
    }  # fmt: skip


async def test_an_idle_stream_gets_its_cursor_now_and_then(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(sse_heartbeat=Duration(1)))
    async with server.http.get(f"{server.url}/sse?channels=a") as response:
        stream = Events(response)
        await stream.beginning()
        before = await stream.next()
        await server.publish("other", 1)
        async with asyncio.timeout(10 * SECOND):
            while (beat := await stream.next()) == before:
                pass
        assert beat == {"id": f"{server.node.history.epoch}:1"}


@pytest.mark.parametrize(
    ("query", "headers", "status", "words"),
    [
        ("", {}, 400, "channels are required"),
        ("channels=", {}, 400, "needs a name"),
        ("channels=a%20b", {}, 400, "without spaces"),
        ("channels=%23", {}, 403, "not allowed"),
        ("channels=" + ",".join(map(str, range(129))), {}, 400, "at most 128"),
        ("channels=user.bob", {"Authorization": "ANN"}, 403, "not allowed"),
        ("channels=closed.x", {}, 403, "not allowed"),
        ("channels=a", {"Authorization": "Bearer x.y.z"}, 401, "token"),
        ("channels=a&token=abc", {}, 401, "not enabled"),
        ("channels=a", {"X-API-Key": "wrong"}, 401, "API key"),
    ],
)
async def test_what_is_wrong_with_a_request_is_said_with_a_status(
    server: RunningServer, query: str, headers: dict[str, str], status: int, words: str
) -> None:
    if headers.get("Authorization") == "ANN":
        headers = {"Authorization": f"Bearer {token('ann')}"}
    async with server.http.get(f"{server.url}/sse?{query}", headers=headers) as response:
        assert response.status == status
        error = (await response.json())["error"]
        assert words in error["message"]
        assert error["code"] == status


@pytest.mark.parametrize("claims", [{"exp": -60}, {"exp": 60, "expire_at": -60}], ids=["exp", "expire_at"])
async def test_an_expired_token_is_401_so_that_eventsource_does_not_try_for_ever(
    server: RunningServer, claims: dict[str, int]
) -> None:
    now = int(time.time())
    headers = {"Authorization": f"Bearer {token('ann', **{name: now + after for name, after in claims.items()})}"}
    async with server.http.get(f"{server.url}/sse?channels=a", headers=headers) as response:
        assert response.status == 401


async def test_without_a_token_only_where_anonymous_clients_are_welcome(start_server: StartServer) -> None:
    server = await start_server(auth=Auth(hmac_keys=[Secret(SECRET)]))
    async with server.http.get(f"{server.url}/sse?channels=a") as response:
        assert response.status == 401


@pytest.mark.parametrize("way", ["bearer", "cookie", "query"])
async def test_the_token_opens_the_users_own_channel(start_server: StartServer, way: str) -> None:
    server = await start_server(auth=Auth(hmac_keys=[Secret(SECRET)], cookie="notifier", query_token=True))
    text = token("ann")
    query = "channels=user.ann" + (f"&token={text}" if way == "query" else "")
    headers = {"bearer": {"Authorization": f"bearer {text}"}, "cookie": {"Cookie": f"notifier={text}"}}.get(way, {})
    async with server.http.get(f"{server.url}/sse?{query}", headers=headers) as response:
        assert response.status == 200
        stream = Events(response)
        await stream.beginning()
        await stream.next()
        await server.publish("user.ann", "hello")
        assert (await stream.next())["data"] == '"hello"'


async def test_a_backend_with_an_api_key_may_read_every_channel_that_has_a_rule(
    server: RunningServer, events: Open
) -> None:
    stream: Events = await events("channels=user.bob", X_API_Key=API_KEY)
    await stream.beginning()


async def test_a_stream_ends_some_time_after_its_token_and_says_so(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(expired_grace=Duration(1)))
    headers = {"Authorization": f"Bearer {token('ann', exp=int(time.time()) + 1)}"}
    async with server.http.get(f"{server.url}/sse?channels=a", headers=headers) as response:
        stream = Events(response)
        await stream.beginning()
        async with asyncio.timeout(10 * SECOND):
            while (event := await stream.next()).get("event") != "notifier.disconnect":
                pass
        assert json.loads(event["data"]) == {"code": 3005, "reason": "connection expired", "reconnect": True}
        with pytest.raises(EOFError):
            await stream.next()


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://app.example.com", True), ("https://evil.test", False), ("null", False)]
)
async def test_pages_of_allowed_origins_can_read_the_stream_and_others_cannot(
    start_server: StartServer, origin: str, *, allowed: bool
) -> None:
    server = await start_server(server=ServerSection(port=0, allowed_origins=["https://app.example.com"]))
    async with server.http.get(f"{server.url}/sse?channels=a", headers={"Origin": origin}) as response:
        assert response.status == (200 if allowed else 403)
        assert response.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
        if allowed:
            assert response.headers["Access-Control-Allow-Credentials"] == "true"
            assert response.headers["Vary"] == "Origin"
    preflight = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    async with server.http.options(f"{server.url}/sse?channels=a", headers=preflight) as response:
        assert response.status == (204 if allowed else 403)


@pytest.mark.parametrize("path", ["sse", "ws"])
async def test_a_token_that_is_revoked_while_the_cursor_waits_opens_no_stream(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async def catch_up() -> None:
        await server.node.order(Order(revoke=Revocation("t1")))

    monkeypatch.setattr(server.node.log, "catch_up", catch_up)
    url = f"{server.url}/{path}?channels=user.ann&last_event_id={server.node.history.epoch}:99"
    headers = {"Authorization": f"Bearer {token('ann', jti='t1')}"}
    if path == "ws":
        async with server.http.ws_connect(url, headers=headers) as socket:
            assert (await socket.receive()).data == 3005
    else:
        async with server.http.get(url, headers=headers) as response:
            assert '"code":3005' in await response.text()
    await eventually(lambda: server.is_empty)


async def test_a_stream_that_is_left_is_forgotten(server: RunningServer, events: Open) -> None:
    one: Events = await events("channels=a")
    several: Events = await events("channels=a,b")
    await one.beginning()
    await several.beginning()
    assert server.node.hub.subscribers("a") == 2
    one.response.close()
    several.response.close()
    await eventually(lambda: len(server.node.hub) == 0 and not server.node.sessions)
    assert server.node.stats.subscriptions == 0
    assert server.node.stats.connections.total() == 0


async def test_while_not_ready_eventsource_is_told_to_come_back(server: RunningServer) -> None:
    """On any status but 200 it would give up for good."""
    server.node.draining = True
    async with server.http.get(f"{server.url}/sse?channels=a") as response:
        assert response.status == 200
        stream = Events(response)
        assert list(await stream.next()) == ["retry"]
        assert json.loads((await stream.next())["data"])["reconnect"] is True
        with pytest.raises(EOFError):
            await stream.next()


async def test_a_cursor_ahead_of_a_node_that_cannot_read_the_log_is_told_to_come_back(server: RunningServer) -> None:
    """F-N12: It may be one of another node that has read further: what this one has not read it cannot call lost."""

    async def catch_up() -> None:
        raise Unavailable("the log: not connected")

    server.node.log.catch_up = catch_up  # type: ignore[method-assign]
    headers = {"Last-Event-ID": f"{server.node.history.epoch}:1000"}
    async with server.http.get(f"{server.url}/sse?channels=a", headers=headers) as response:
        assert response.status == 200
        stream = Events(response)
        assert list(await stream.next()) == ["retry"]
        assert json.loads((await stream.next())["data"])["reconnect"] is True


@pytest.mark.parametrize("path", ["/sse?channels=a", "/connection/websocket"])
async def test_a_client_that_went_before_it_was_answered_is_no_error(
    server: RunningServer, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a node was frozen for longer than its clients waited."""
    monkeypatch.setattr(aiohttp.web.BaseRequest, "transport", None)
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} if "websocket" in path else {}  # fmt: skip
    async with server.http.get(f"{server.url}{path}", headers=headers) as response:
        assert response.status == 503, "which nobody would have read"
    await eventually(lambda: server.is_empty)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_leaving_ends_the_stream_with_a_reconnect(server: RunningServer, events: Open) -> None:
    stream: Events = await events("channels=a")
    await stream.beginning()
    await stream.next()
    draining = asyncio.create_task(server.server.drain())
    event = await stream.next()
    assert json.loads(event["data"]) == {"code": 3001, "reason": "shutdown", "reconnect": True}
    await draining


async def test_an_old_client_of_http_1_0_gets_the_same_stream(server: RunningServer) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /sse?channels=a HTTP/1.0\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head
    assert b"chunked" not in head
    await reader.readuntil(b"notifier.subscribed")
    await server.publish("a", "hello")
    await reader.readuntil(b'data: "hello"\n\n')
    writer.close()


async def test_a_stream_that_is_not_read_is_dropped(start_server: StartServer) -> None:
    """F-C1."""
    server = await start_server(clients=Clients(max_buffer=Size(100_000), close_timeout=Duration(0.5)))
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(b"GET /sse?channels=a HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"notifier.subscribed")
    sent = 0
    while not server.node.stats.disconnects[3008]:
        sent += 1
        assert sent < 1000
        await server.publish("a", "x" * 50_000)
    await eventually(lambda: not server.node.sessions)
    writer.close()


async def test_no_query_ends_up_in_a_log(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    async with server.http.get(f"{server.url}/sse?channels=a&token=canary") as response:
        await response.read()
    assert "canary" not in caplog.text
