"""One-way and emulated transports over real sockets (protocol.md sections 1.4 to 1.8)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from notifier.config import ChannelRule, Clients, Duration
from tests.integration.server.conftest import RunningServer, StartServer, token
from tests.services.deadline import SECOND, eventually

WAYS = ["uni_websocket", "uni_sse", "uni_http_stream"]


class Way:
    """One connection by one of the three ways; `next` is the next push, None at the end."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.close_code: int | None = None

    async def next(self) -> dict[str, Any] | None:
        if isinstance(self._source, aiohttp.ClientWebSocketResponse):
            while True:
                message = await self._source.receive(timeout=10 * SECOND)
                if message.type is aiohttp.WSMsgType.TEXT:
                    found: dict[str, Any] = json.loads(message.data)
                    return found
                if message.type is not aiohttp.WSMsgType.PING:
                    self.close_code = self._source.close_code
                    return None
        while line := (await self._source.content.readline()).decode().strip().removeprefix("data: "):
            if line.startswith("retry: "):
                continue  # how long an EventSource shall wait before it comes back
            pushed: dict[str, Any] = json.loads(line)
            return pushed
        if self._source.content.at_eof():
            return None
        return await self.next()


@asynccontextmanager
async def opened(server: RunningServer, way: str, **request: Any) -> AsyncIterator[Way]:
    url = f"{server.url}/connection/{way}"
    text = json.dumps(request)
    if way == "uni_websocket":
        async with server.http.ws_connect(f"{url}?cf_connect={quote(text)}", autoping=False) as socket:
            yield Way(socket)
    elif way == "uni_sse":
        async with server.http.get(f"{url}?cf_connect={quote(text)}") as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert await response.content.readline() == b"\r\n"
            yield Way(response)
    else:
        async with server.http.post(url, data=text) as response:
            yield Way(response)


@pytest.mark.parametrize("way", WAYS)
async def test_first_comes_the_connect_push_then_publications_bare(server: RunningServer, way: str) -> None:
    async with opened(server, way, token=token("ann"), subs={"user.ann": {}, "user.bob": {}, "closed.a": {}}) as one:
        first = await one.next()
        assert first is not None
        connect = first["connect"]
        assert connect["client"]
        assert connect["session"]
        assert "node" not in connect
        assert "pong" not in connect
        assert list(connect["subs"]) == ["user.ann"], "what the client may not have is left out"
        await server.publish("user.bob", 1)
        offset = await server.publish("user.ann", {"n": 1})
        assert await one.next() == {"channel": "user.ann", "pub": {"data": {"n": 1}, "offset": offset}}


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_missed_comes_with_the_connect_push(server: RunningServer, way: str) -> None:
    seen = await server.publish("a", 1)
    await server.publish("a", 2)
    epoch = server.node.history.epoch
    async with opened(server, way, subs={"a": {"recover": True, "offset": seen, "epoch": epoch}}) as one:
        first = await one.next()
        assert first is not None
        found = first["connect"]["subs"]["a"]
        assert found["recovered"] is True
        assert [publication["data"] for publication in found["publications"]] == [2]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"token": "rubbish"}, 3500),
        ({"token": "EXPIRED"}, 3005),
        ({"subs": {"a b": {}}}, 3501),
    ],
)
async def test_what_cannot_connect_is_told_why(
    server: RunningServer, way: str, request_: dict[str, Any], code: int
) -> None:
    if request_.get("token") == "EXPIRED":
        request_ = {"token": token("ann", exp=1)}
    async with opened(server, way, **request_) as one:
        push = await one.next()
        assert push is not None
        assert push["disconnect"]["code"] == code
        assert push["disconnect"]["reason"]
        assert await one.next() is None
        if way == "uni_websocket":
            assert one.close_code == code


@pytest.mark.parametrize("way", WAYS)
async def test_a_disconnect_is_the_last_push_and_nothing_stays(server: RunningServer, way: str) -> None:
    async with opened(server, way, token=token("ann"), subs={"user.ann": {}}) as one:
        await one.next()
        await server.api("disconnect", user="ann")
        assert await one.next() == {"disconnect": {"code": 3503, "reason": "force disconnect"}}
        assert await one.next() is None
    await eventually(lambda: not server.node.sessions and not len(server.node.hub))


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_goes_leaves_nothing_behind(server: RunningServer, way: str) -> None:
    async with opened(server, way, subs={"a": {}}) as one:
        await one.next()
        assert len(server.node.sessions) == 1
    await eventually(lambda: not server.node.sessions and not len(server.node.hub) and not server.node.inboxes)


@pytest.mark.parametrize("way", WAYS)
async def test_pings_keep_it_alive_and_need_no_answer(start_server: StartServer, way: str) -> None:
    limits = Clients(ping_interval=Duration(2), pong_timeout=Duration(1))
    server = await start_server(clients=limits)
    async with opened(server, way) as one:
        await one.next()
        assert [await one.next() for _ in range(3)] == [{}, {}, {}]


async def test_a_websocket_may_ask_in_its_first_frame_instead(server: RunningServer) -> None:
    async with server.http.ws_connect(f"{server.url}/connection/uni_websocket") as socket:
        await socket.send_json({"subs": {"a": {}}})
        assert "a" in (await socket.receive_json())["connect"]["subs"]
        await socket.send_json({"id": 1, "subscribe": {"channel": "b"}})
        assert "disconnect" in await socket.receive_json()
        assert (await socket.receive()).data == 3501


@pytest.mark.parametrize("frame", ["no json", "[]", "5"])
async def test_a_first_frame_that_is_no_request_ends_it(server: RunningServer, frame: str) -> None:
    async with server.http.ws_connect(f"{server.url}/connection/uni_websocket") as socket:
        await socket.send_str(frame)
        assert (await socket.receive_json())["disconnect"]["code"] == 3501
        assert (await socket.receive()).data == 3501


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "uni_websocket?cf_connect=%7B", b"", 400),
        ("GET", "uni_websocket", b"", 426),
        ("GET", "uni_sse?cf_connect=%5B", b"", 400),
        ("POST", "uni_sse", b"rubbish", 400),
        ("PUT", "uni_sse", b"{}", 405),
        ("POST", "uni_http_stream", b"rubbish", 400),
        ("POST", "uni_http_stream", b" " * 70_000, 413),
        ("GET", "uni_http_stream", b"", 405),
        ("OPTIONS", "uni_http_stream", b"", 204),
        ("GET", "http_stream", b"", 405),
        ("POST", "http_stream", b"rubbish", 400),
        ("POST", "http_stream", b" " * 70_000, 413),
        ("OPTIONS", "http_stream", b"", 204),
        ("GET", "sse", b"", 400),
        ("GET", "sse?cf_connect=%7B", b"", 400),
        ("PUT", "sse", b"{}", 405),
    ],
)
async def test_what_is_wrong_with_the_request_is_a_status(
    server: RunningServer, method: str, path: str, body: bytes, status: int
) -> None:
    async with server.http.request(method, f"{server.url}/connection/{path}", data=body) as response:
        assert response.status == status, await response.text()
    assert server.node.stats.connections.total() == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("rubbish", 400),
        ('{"session":"unknown","node":"unknown","data":"{}"}', 404),
        (" " * 70_000, 413),
    ],
)
async def test_what_is_wrong_with_an_emulated_command_is_a_status(
    server: RunningServer, body: str, status: int
) -> None:
    async with server.http.post(f"{server.url}/emulation", data=body) as response:
        assert response.status == status


@pytest.mark.parametrize(("origin", "status"), [("http://evil.example", 403), ("http://localhost:3000", 204)])
@pytest.mark.parametrize("path", ["/connection/http_stream", "/connection/uni_http_stream", "/emulation"])
async def test_only_allowed_origins_may_ask(server: RunningServer, path: str, origin: str, status: int) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Headers": "content-type"}
    async with server.http.options(f"{server.url}{path}", headers=headers) as response:
        assert response.status == status
        if status == 204:
            assert response.headers["Access-Control-Allow-Origin"] == origin
            assert response.headers["Access-Control-Allow-Credentials"] == "true"
            assert response.headers["Access-Control-Allow-Headers"] == "content-type"
            assert response.headers["Access-Control-Max-Age"] == "300"


async def test_emulated_commands_are_answered_on_the_stream_in_order(server: RunningServer) -> None:
    url = f"{server.url}/connection/http_stream"
    async with server.http.post(url, data='{"id":1,"connect":{}}') as response:
        assert response.headers["X-Accel-Buffering"] == "no"
        connect = json.loads(await response.content.readline())["connect"]
        commands = '{"id":2,"subscribe":{"channel":"a"}}\n{"id":3,"publish":{"channel":"a","data":1}}'
        body = {"session": connect["session"], "node": connect["node"], "data": commands}
        async with server.http.post(f"{server.url}/emulation", json=body) as answer:
            assert (answer.status, await answer.read()) == (204, b"")
        seen = [json.loads(await response.content.readline()) for _ in range(3)]
        assert seen[0]["id"] == 2
        assert {"push" if "push" in message else message["id"] for message in seen[1:]} == {3, "push"}
        body["data"] = "{}"
        async with server.http.post(f"{server.url}/emulation", json=body) as answer:
            assert answer.status == 204
        assert json.loads(await response.content.readline())["push"]["disconnect"]["code"] == 3501, "an unasked pong"
        assert await response.content.readline() == b""
    async with server.http.post(f"{server.url}/emulation", json=body) as answer:
        assert answer.status == 404, "the secret is of no use any more"


async def test_an_emulated_client_that_does_not_answer_pings_is_told(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(ping_interval=Duration(2), pong_timeout=Duration(1)))
    url = f"{server.url}/connection/sse?cf_connect=" + quote('{"id":1,"connect":{}}')
    async with server.http.get(url) as response:
        lines = [line.decode().strip() async for line in response.content]
    messages = [json.loads(line.removeprefix("data: ")) for line in lines if line and not line.startswith("retry: ")]
    assert messages[1:] == [{}, {"push": {"disconnect": {"code": 3012, "reason": "no pong"}}}]


# --- /ws ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def plain(server: RunningServer, query: str, **headers: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with server.http.ws_connect(f"{server.url}/ws?{query}", headers=headers) as socket:
        yield socket


async def test_a_plain_websocket_gets_all_channels_and_resumes_them(server: RunningServer) -> None:
    async with plain(server, "channels=a,b") as socket:
        told = await socket.receive_json()
        assert told["event"] == "notifier.subscribed"
        assert told["data"]["recovered"] is False
        assert (await socket.receive_json())["event"] == "notifier.position"
        await server.publish("a", 1)
        await server.publish("other", 2)
        await server.publish("b", {"n": 3}, tags={"k": "v"})
        first, second = await socket.receive_json(), await socket.receive_json()
    assert (first["channel"], first["data"]) == ("a", 1)
    assert (second["channel"], second["data"], second["tags"]) == ("b", {"n": 3}, {"k": "v"})
    await server.publish("a", 4)
    async with plain(server, f"channels=a,b&last_event_id={quote(first['cursor'])}") as socket:
        assert (await socket.receive_json())["data"]["recovered"] is True
        assert [(await socket.receive_json())["data"] for _ in range(2)] == [{"n": 3}, 4]
        await socket.send_str("hello?")
        await socket.receive_json()
        assert (await socket.receive()).data == 3501


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {}, 400),
        ("channels=a%20b", {}, 400),
        ("channels=user.ann", {}, 403),
        ("channels=a", {"Authorization": "Bearer rubbish"}, 401),
        ("channels=a", {"Origin": "http://evil.example"}, 403),
    ],
)
async def test_a_plain_websocket_is_refused_before_it_opens(
    server: RunningServer, query: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with plain(server, query, **headers):
            pass
    assert caught.value.status == status


async def test_a_plain_websocket_whose_peer_is_silent_is_closed(start_server: StartServer) -> None:
    server = await start_server(clients=Clients(sse_heartbeat=Duration(1), pong_timeout=Duration(1)))
    async with server.http.ws_connect(f"{server.url}/ws?channels=a", autoping=False) as socket:
        while (message := await socket.receive(timeout=10 * SECOND)).type is not aiohttp.WSMsgType.CLOSE:
            pass
        assert message.data == 3012


@pytest.mark.parametrize("path", ["sse", "ws"])
async def test_a_worker_that_has_as_many_patterns_as_it_takes_says_so(start_server: StartServer, path: str) -> None:
    wild = ChannelRule(match="#", wildcard=True, subscribe=["anyone"])
    server: RunningServer = await start_server(clients=Clients(max_patterns=1), channels=[wild])
    async with server.http.get(f"{server.url}/sse?channels=a.*") as response:
        assert response.status == 200
        for _ in range(2):
            async with server.http.get(f"{server.url}/{path}?channels=b.%2A") as refused:
                assert (refused.status, refused.headers["Retry-After"]) == (429, "10")
                assert "as many patterns as it takes" in await refused.text()
