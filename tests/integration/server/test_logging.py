"""What the server's own log lines say, over real sockets: whom and what they are about, and no secret of anybody."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect

from notifier.config import DEV_OPERATOR, Admin, Auth, Secret
from notifier.telemetry.logs import JsonFormatter
from tests.integration.server.conftest import API_KEY, SECRET, RunningServer, StartServer, token
from tests.servers import ServerProcess, on_rabbitmq
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis

KEY = {"X-API-Key": API_KEY}
Logged = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def logged() -> Iterator[Logged]:
    """The lines so far, of everybody and from debug on, as they would stand on standard error."""
    written, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    loggers = [logging.getLogger(name) for name in ("notifier", "aiohttp", "aiormq", "aio_pika", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


async def test_what_is_logged_of_a_request_has_the_id_that_its_answer_has(
    server: RunningServer, logged: Logged
) -> None:
    ids = []
    for headers in (KEY, {**KEY, "X-Request-ID": "order-17"}, {**KEY, "X-Request-ID": "a b" * 100}):
        async with server.http.post(f"{server.url}/api/disconnect", json={"user": "ann"}, headers=headers) as response:
            ids.append(response.headers["X-Request-ID"])
    async with server.http.post(f"{server.url}/api/disconnect", headers={"X-Request-ID": "guess-1"}) as response:
        ids.append(response.headers["X-Request-ID"])
    assert ids[1::2] == ["order-17", "guess-1"]
    assert len(set(ids)) == 4
    assert [line["request"] for line in logged() if line["logger"] == "notifier.audit"] == ids
    async with server.http.get(f"{server.url}/livez") as response:
        assert "X-Request-ID" not in response.headers


async def test_what_is_logged_of_a_client_has_its_id(server: RunningServer, logged: Logged) -> None:
    async with connect(server.websocket_url, compression=None) as socket:
        await socket.send(json.dumps({"id": 1, "connect": {"token": token("ann")}}))
        client = json.loads(await socket.recv())["connect"]["client"]
        await server.api("disconnect", user="ann", disconnect={"code": 4001, "reason": "bye"})
        await socket.wait_closed()
    await eventually(lambda: [line["message"] for line in logged() if line.get("client") == client][2:])
    first, second, third = [line for line in logged() if line.get("client") == client]
    assert (first["message"], first["user"], first["transport"]) == ("a client has connected", "ann", "websocket")
    assert {second["message"], third["message"]} == {"a client is disconnected: bye", "a client has gone"}
    assert second["code"] == 4001


# --- no secrets -------------------------------------------------------------------------------------------------------

CANARY = "canary-0f3a91"  # stands in everything that a client may hold secret


async def answers_to_whom_nobody_knows(server: RunningServer) -> AsyncIterator[str]:
    """A secret in every place of a request, and all of the answers."""
    requests: list[tuple[str, str, dict[str, str], str]] = [
        ("GET", f"/sse?channels=a&token={CANARY}", {}, ""),
        ("GET", f"/ws?channels=a&token={CANARY}", {}, ""),
        ("GET", "/sse?channels=a", {"Authorization": f"Bearer {CANARY}"}, ""),
        ("GET", "/sse?channels=a", {"Cookie": f"token={CANARY}"}, ""),
        ("GET", "/sse?channels=a", {"X-API-Key": CANARY}, ""),
        ("GET", "/sse?channels=a", {"Last-Event-ID": CANARY, "Referer": f"http://x/?{CANARY}"}, ""),
        ("GET", "/connection/websocket", {"Sec-WebSocket-Protocol": CANARY, "Origin": f"https://{CANARY}.example"}, ""),
        ("GET", f"/connection/sse?cf_connect=%7B%22token%22:%22{CANARY}%22%7D", {}, ""),
        ("POST", "/connection/http_stream", {}, json.dumps({"id": 1, "connect": {"token": CANARY}})),
        ("POST", "/connection/uni_http_stream", {}, json.dumps({"token": CANARY})),
        ("POST", "/connection/uni_sse", {}, f'{{"token":"{CANARY}"'),
        ("POST", "/emulation", {}, json.dumps({"session": CANARY, "node": CANARY, "data": "{}"})),
        ("POST", f"/api/publish?api_key={CANARY}", {}, "{}"),
        ("POST", "/api/publish", {"X-API-Key": CANARY}, "{}"),
        ("POST", "/api/publish", {"Authorization": f"apikey {CANARY}"}, "{}"),
        ("POST", "/api/publish", KEY, f'{{"channel":"a","data":"{CANARY}"'),
        ("POST", "/api/publish", KEY, json.dumps({"channel": "user.1", "data": CANARY})),
        ("POST", "/api/reload", {"X-API-Key": CANARY}, ""),
        ("POST", "/admin/api/login", {"X-Notifier-Console": "active"}, json.dumps({"name": "dev", "password": CANARY})),
        ("POST", "/admin/api/login", {"X-Notifier-Console": "active"}, json.dumps({"name": CANARY, "password": "x"})),
        ("GET", "/admin/tail", {"Cookie": f"notifier-operator={CANARY}"}, ""),
        ("GET", f"/{CANARY}", {"User-Agent": CANARY, "Proxy-Authorization": CANARY}, ""),
        ("GET", "/metrics", {}, ""),
        ("GET", "/readyz", {}, ""),
    ]
    for method, path, headers, body in requests:
        async with server.http.request(method, server.url + path, headers=headers, data=body or None) as response:
            told = f"{method} {path.replace(CANARY, '…')}: {response.status} {dict(response.headers)} "
            with contextlib.suppress(TimeoutError):  # a stream that goes on; what it begins with is enough
                async with asyncio.timeout(0.3):
                    told += (await response.content.read(100_000)).decode()
            yield told


async def test_no_secret_of_a_client_ends_up_in_a_log_an_answer_or_a_metric(
    start_server: StartServer, logged: Logged
) -> None:
    auth = Auth(hmac_keys=[Secret(SECRET)], query_token=True, cookie="token")
    server = await start_server(auth=auth, admin=Admin(operators=[Secret(DEV_OPERATOR)]))
    seen = [told async for told in answers_to_whom_nobody_knows(server)]
    good = token("ann")
    async with server.client(good) as client:
        for command in (
            {"refresh": {"token": CANARY}},
            {"subscribe": {"channel": "a", "token": CANARY}},
            {"sub_refresh": {"channel": "a", "token": CANARY}},
            {"rpc": {"method": "m", "data": CANARY}},
        ):
            await client.send({"id": 2, **command})
    seen += [await (await server.http.get(f"{server.url}/metrics")).text()]
    assert len(seen) == 25
    assert not [told for told in seen if CANARY in told]
    lines = logged()
    assert [line for line in lines if line["logger"] == "notifier.audit"], "somebody was listened to"
    assert not [line for line in lines if CANARY in json.dumps(line) or good in json.dumps(line)]


async def test_a_server_that_is_refused_everywhere_shows_no_secret_of_its_own(
    tmp_path: Path, rabbitmq: RabbitMQ, redis_server: Redis
) -> None:
    """As a process, at debug: wrong passwords of the broker and of Redis, and nobody where Sentry should be."""
    operator = f"ann:scrypt:16384:8:1:bm90aWZpZXItZGV2LTEhIQ:{CANARY * 3}AAAA"
    sections: dict[str, Any] = {
        **on_rabbitmq(rabbitmq.url.replace("guest:guest", f"guest:{CANARY}")),
        "redis": {"url": redis_server.url.replace("://", f"://app:{CANARY}@")},
        "auth": {"hmac_keys": [f"{CANARY}-that-is-as-long-as-a-key-must-be"]},
        "api": {"keys": [f"{CANARY}-api"]},
        "telemetry": {"sentry_dsn": f"http://{CANARY}@127.0.0.1:1/1"},
        "logging": {"level": "debug"},
        "admin": {"operators": [operator[: operator.rindex(":") + 44]]},
    }
    server = ServerProcess(tmp_path, sections)
    starting = asyncio.create_task(server.start())
    try:
        async with aiohttp.ClientSession() as http:

            async def told() -> str:
                texts = []
                for path in ("readyz", "metrics"):
                    async with http.get(f"{server.url}/{path}") as response:
                        texts.append(await response.text())
                assert "credentials" in texts[0]
                return "".join(texts)

            text = await eventually(told, 30 * SECOND, retry=(AssertionError, aiohttp.ClientError))
        await eventually(lambda: server.log.read_text().count("\n") >= 2)
        assert CANARY not in text + server.log.read_text()
    finally:
        starting.cancel()
        server.kill()
