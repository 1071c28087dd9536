"""The server API, health and metrics over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from notifier.core.record import Draft
from notifier.errors import Unavailable
from tests.integration.server.conftest import API_KEY, RunningServer, StartServer, token
from tests.services.deadline import SECOND

KEY = {"X-API-Key": API_KEY}


async def status_and_text(server: RunningServer, method: str, path: str, **options: Any) -> tuple[int, str]:
    async with server.http.request(method, server.url + path, **options) as response:
        return response.status, await response.text()


# --- the door ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": "wrong"}, 401),
        ({"X-API-Key": API_KEY}, 200),
        ({"Authorization": f"apikey {API_KEY}"}, 200),
        ({"Authorization": f"Bearer {API_KEY}"}, 401),
    ],
)
async def test_a_key_is_required(server: RunningServer, headers: dict[str, str], status: int) -> None:
    assert (await status_and_text(server, "POST", "/api/info", headers=headers))[0] == status
    assert (await status_and_text(server, "POST", f"/api/info?api_key={API_KEY}"))[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/api/publish", b"", 405, "POST"),
        ("POST", "/api/publish", b"{", 400, "truncated"),
        ("POST", "/api/publish", b'{"channel":5}', 400, "$.channel"),
        ("POST", "/api/publish", b'{"data":' + b"[" * 50_000, 400, "deeply"),
        ("POST", "/api/publish", b'"\xff"', 400, ""),
        ("POST", "/api/nonsense", b"{}", 404, "no such method"),
        ("POST", "/api", b"{", 400, ""),
        ("POST", "/api", b'{"method":"nonsense"}', 404, "no such method"),
        ("POST", "/api/publish", b'{"x":"' + b"x" * 100_000 + b'"}', 413, "100000"),
    ],
)
async def test_what_is_wrong_with_a_request_is_said(
    server: RunningServer, method: str, path: str, body: bytes, status: int, words: str
) -> None:
    found, text = await status_and_text(server, method, path, data=body, headers=KEY)
    assert found == status
    assert words in json.loads(text)["message"]


async def test_the_old_form_names_the_method_in_the_body(server: RunningServer) -> None:
    body = {"method": "publish", "params": {"channel": "a", "data": 1}}
    async with server.http.post(f"{server.url}/api", json=body, headers=KEY) as response:
        assert (await response.json())["result"]["offset"] == 1


async def test_errors_are_statuses_for_those_who_want_them_so(server: RunningServer) -> None:
    headers = {**KEY, "X-Centrifugo-Error-Mode": "transport"}
    for channel, status in (("a b", 400), ("$notifier.x", 400)):
        async with server.http.post(
            f"{server.url}/api/publish", json={"channel": channel, "data": 1}, headers=headers
        ) as response:
            assert response.status == status
            assert (await response.json())["code"] == 107


# --- the methods ------------------------------------------------------------------------------------------------------


async def test_publish_answers_with_the_position_and_the_subscriber_has_it(server: RunningServer) -> None:
    async with server.client() as client:
        await client.subscribe("a")
        answer = await server.api("publish", channel="a", data={"x": [1, None]}, tags={"k": "v"})
        assert answer == {"result": {"offset": 1, "epoch": server.node.history.epoch}}
        assert (await client.receive())["push"]["pub"] == {"data": {"x": [1, None]}, "offset": 1, "tags": {"k": "v"}}


async def test_an_idempotency_key_is_published_once(server: RunningServer) -> None:
    first = await server.api("publish", channel="a", data=1, idempotency_key="k")
    again = await server.api("publish", channel="a", data=1, idempotency_key="k")
    other = await server.api("publish", channel="a", data=1, idempotency_key="other")
    assert first == again != other
    assert server.node.history.publications == 2


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"channel": "", "data": 1}, 107),
        ({"channel": "a"}, 107),
        ({"channel": "a", "data": "x" * 65_535}, 107),
        ({"channel": "a", "b64data": "%%%"}, 107),
        ({"channel": "a", "b64data": "bm8gSlNPTg=="}, 107),
        ({"channel": "a", "data": 1, "b64data": "MQ=="}, 107),
    ],
)
async def test_what_cannot_be_published_is_an_error(server: RunningServer, params: dict[str, Any], code: int) -> None:
    error = (await server.api("publish", **params))["error"]
    assert error["code"] == code
    assert len(error["message"]) > len("bad request: ")
    assert server.node.history.end == 0


async def test_data_may_come_in_base64(server: RunningServer) -> None:
    await server.api("publish", channel="a", b64data="eyJ4IjoxfQ==")
    history = await server.api("history", channel="a", limit=1)
    assert history["result"]["publications"][0]["data"] == {"x": 1}


async def test_a_publication_may_skip_history(server: RunningServer) -> None:
    assert await server.api("publish", channel="a", data=1, skip_history=True) == {"result": {}}
    assert (await server.api("history", channel="a", limit=10))["result"]["publications"] == []


async def test_broadcast_is_one_record_with_an_answer_for_each_channel(server: RunningServer) -> None:
    answer = await server.api("broadcast", channels=["a", "b c", "plain.x", "a"], data=1)
    epoch = server.node.history.epoch
    first, bad, plain, again = answer["result"]["responses"]
    assert first == again == {"result": {"offset": 1, "epoch": epoch}}
    assert bad["error"]["code"] == 107
    assert plain == {"result": {}}
    assert server.node.history.end == 1


async def test_broadcast_is_bounded(server: RunningServer) -> None:
    assert (await server.api("broadcast", channels=list("abcdef"), data=1))["error"]["code"] == 107
    assert (await server.api("broadcast", channels=[], data=1))["error"]["code"] == 107


async def test_history_pages_and_its_errors(server: RunningServer) -> None:
    for n in range(5):
        await server.publish("a", n)
    result = (await server.api("history", channel="a", limit=-1))["result"]
    assert [publication["data"] for publication in result["publications"]] == [0, 1, 2, 3, 4]
    assert result["offset"] == 5
    since = {"offset": 3, "epoch": result["epoch"]}
    result = (await server.api("history", channel="a", limit=10, since=since))["result"]
    assert [publication["offset"] for publication in result["publications"]] == [4, 5]
    wrong = {"offset": 3, "epoch": "other"}
    assert (await server.api("history", channel="a", since=wrong))["error"]["code"] == 112
    assert (await server.api("history", channel="plain.x"))["error"]["code"] == 108


async def test_channels_are_those_with_subscribers(server: RunningServer) -> None:
    async with server.client() as one, server.client() as two:
        await one.subscribe("news.a")
        await two.subscribe("news.a")
        await two.subscribe("other")
        result = (await server.api("channels"))["result"]["channels"]
        assert result == {"news.a": {"num_clients": 2}, "other": {"num_clients": 1}}
        assert list((await server.api("channels", pattern="news.*"))["result"]["channels"]) == ["news.a"]


async def test_info_tells_what_goes_on(server: RunningServer) -> None:
    async with server.client() as client:
        await client.subscribe("a")
        await server.publish("a", 1)
        [node] = (await server.api("info"))["result"]["nodes"]
        assert (node["num_clients"], node["num_channels"], node["num_subs"]) == (1, 1, 1)
        assert node["metrics"]["items"]["publications"] == 1
        assert node["process"]["rss"] > 1_000_000


async def test_while_the_log_is_away_publishing_is_a_temporary_error_with_the_reason(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def append(_draft: Draft) -> int:
        raise Unavailable("the broker is away")

    monkeypatch.setattr(server.node.log, "append", append)
    error = (await server.api("publish", channel="a", data=1))["error"]
    assert error["code"] == 100
    assert error["temporary"] is True
    assert "the broker is away" in error["message"]


# --- health and metrics -----------------------------------------------------------------------------------------------


async def test_ready_names_each_check(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    status, text = await status_and_text(server, "GET", "/readyz")
    assert status == 200
    assert json.loads(text) == {"status": "ready", "checks": {"log": {"ok": True}, "leaving": {"ok": True}}}
    monkeypatch.setattr(server.server.log, "problem", "the broker refused the connection")
    status, text = await status_and_text(server, "GET", "/readyz")
    assert status == 503
    assert json.loads(text)["checks"]["log"] == {"ok": False, "detail": "the broker refused the connection"}
    assert (await status_and_text(server, "GET", "/livez"))[0] == 200


async def test_leaving_is_not_ready_and_still_alive(server: RunningServer) -> None:
    server.node.draining = True
    assert (await status_and_text(server, "GET", "/readyz"))[0] == 503
    assert (await status_and_text(server, "GET", "/livez"))[0] == 200


def samples(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f"{{{key}={value}}}" for key, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_can_be_scraped_and_count(server: RunningServer) -> None:
    async with server.client() as client:
        await client.subscribe("a")
        for _ in range(3):
            await server.publish("a", 1)
            await client.receive()
        found = samples((await status_and_text(server, "GET", "/metrics"))[1])
        assert found["notifier_connections{transport=websocket}"] == 1
        assert found["notifier_subscriptions"] == 1
        assert found["notifier_channels"] == 1
        assert found["notifier_publications_total"] == 3
        assert found["notifier_deliveries_total"] == 3
        assert found["notifier_delivered_bytes_total"] > 100
        assert found["notifier_commands_total{method=subscribe}"] == 1
        assert found["notifier_flush_frames_count"] == 3
        assert found["notifier_record_to_socket_seconds_count"] == 3
        assert found["notifier_broker_to_socket_seconds_count"] == 3
        assert found["notifier_log_end"] == 3
        assert found["notifier_log_ready"] == 1
        assert found["process_resident_memory_bytes"] > 0


async def test_names_from_outside_never_become_labels(server: RunningServer) -> None:
    before = set(samples((await status_and_text(server, "GET", "/metrics"))[1]))
    async with server.client() as client:
        for n in range(50):
            await client.send({"id": n + 1, "subscribe": {"channel": f"random.{n}"}})
            await client.receive()
        for n in range(50):
            await server.publish(f"other.{n}", 1)
            await status_and_text(server, "GET", f"/nowhere/{n}")
            await status_and_text(server, "POST", f"/api/m{n}", headers=KEY)
            await status_and_text(server, f"ODD{n}", "/sse", headers={"User-Agent": f"agent-{n}"})
            await server.api("disconnect", user="ann", disconnect={"code": 4000 + n, "reason": "mine"})
            async with connect(server.websocket_url, subprotocols=[Subprotocol(f"odd-{n}")]) as socket:
                await socket.send(json.dumps({"id": 1, "connect": {"token": token("ann"), "name": f"name-{n}"}}))
                await socket.recv()
                await server.api("disconnect", user="ann", disconnect={"code": 4000 + n, "reason": "mine"})
                await socket.wait_closed()
            async with connect(server.websocket_url) as socket:
                await socket.close(3000 + n)
    after = set(samples((await status_and_text(server, "GET", "/metrics"))[1]))
    new = {name for name in after - before if name.startswith("notifier_")}
    assert new <= {
        "notifier_commands_total{method=connect}", "notifier_commands_total{method=subscribe}",
        "notifier_clients{transport=websocket}", "notifier_connections{transport=websocket}",
        "notifier_disconnects_total{code=other}",
    }  # fmt: skip
    assert "notifier_disconnects_total{code=other}" in new


async def test_the_routes_are_these_and_no_others(server: RunningServer) -> None:
    """An allow-list: a new route is a decision (reliability.md, S39)."""
    application = server.server.doors.runners[0].app
    assert application is not None
    paths = {resource.canonical for resource in application.router.resources()}
    assert paths == {
        "/", "/api", "/api/{method}", "/api/asyncapi.json", "/api/openapi.json", "/api/profile", "/api/reload",
        "/admin", "/admin/api/{method}", "/admin/tail",
        "/connection/http_stream", "/connection/sse", "/connection/uni_http_stream", "/connection/uni_sse",
        "/connection/uni_websocket", "/connection/websocket", "/emulation",
        "/livez", "/metrics", "/readyz", "/sse", "/ws",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/sse?channels=a", "/ws?channels=a", "/connection/websocket"])
async def test_what_has_no_end_has_no_head(server: RunningServer, path: str) -> None:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    headers = {**upgrade, "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert (await status_and_text(server, "HEAD", path, headers=headers))[0] == 405


@pytest.mark.parametrize("path", ["/api/publish", "/connection/http_stream", "/connection/sse", "/emulation"])
async def test_a_body_that_cannot_be_decoded_is_the_sender_s_fault(
    server: RunningServer, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {**KEY, "Content-Encoding": "gzip"}
    status, text = await status_and_text(server, "POST", path, data=b"not in gzip", headers=headers)
    assert status == 400
    assert "Content-Encoding" in text
    assert caplog.text == ""


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer canary\0\r\n\r\n",
        b"GET /sse?token=canary" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 of TLS",
        b"GET /livez HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_answered_and_leaves_nothing_in_the_log(
    server: RunningServer, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_)
    async with asyncio.timeout(10 * SECOND):
        assert b" 400 " in await reader.readline()
    writer.close()
    assert caplog.text == ""


async def test_headers_that_do_not_come_in_time_end_the_connection(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.doors.KEEPALIVE_S", 0.5)
    server = await start_server()
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /livez HTTP/1.1\r\n")
    async with asyncio.timeout(10 * SECOND):
        assert await reader.read() == b""
    writer.close()


# --- profiles ---------------------------------------------------------------------------------------------------------


async def test_a_profile_is_text_for_a_flame_graph(server: RunningServer) -> None:
    async with server.http.get(f"{server.url}/api/profile?seconds=0.2", headers=KEY) as response:
        assert (response.status, response.content_type) == (200, "text/plain")
        text = await response.text()
    assert "MainThread;" in text
    assert all(line.rpartition(" ")[2].isdigit() for line in text.splitlines())
    assert API_KEY not in text


@pytest.mark.parametrize(
    ("method", "query", "headers", "status", "words"),
    [
        ("GET", "", {}, 401, "API key"),
        ("GET", "", {"X-API-Key": "wrong"}, 401, "API key"),
        ("POST", "", KEY, 405, "GET"),
        ("GET", "?seconds=0", KEY, 400, "seconds: above 0, at most 30"),
        ("GET", "?seconds=31", KEY, 400, "seconds"),
        ("GET", "?seconds=nan", KEY, 400, "seconds"),
        ("GET", "?seconds=long", KEY, 400, "seconds"),
    ],
)
async def test_a_profile_is_for_operators_and_short(
    server: RunningServer, method: str, query: str, headers: dict[str, str], status: int, words: str
) -> None:
    found, text = await status_and_text(server, method, f"/api/profile{query}", headers=headers)
    assert found == status
    assert words in json.loads(text)["message"]


async def test_one_profile_at_a_time(server: RunningServer) -> None:
    """The first one's client goes away; so does its profile, and the next may be taken."""
    first = asyncio.ensure_future(status_and_text(server, "GET", "/api/profile?seconds=30", headers=KEY))
    async with asyncio.timeout(10 * SECOND):
        while not any(thread.name == "profiler" for thread in threading.enumerate()):
            await asyncio.sleep(0.01)
        assert (await status_and_text(server, "GET", "/api/profile?seconds=0.01", headers=KEY))[0] == 409
        first.cancel()
        while (await status_and_text(server, "GET", "/api/profile?seconds=0.01", headers=KEY))[0] != 200:
            await asyncio.sleep(0.01)
