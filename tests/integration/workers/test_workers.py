"""Several workers on one port: one server to everybody outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import NewServer, ServerProcess, make_token, on_rabbitmq, received, servers
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ

WORKERS = 3


@pytest.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[NewServer]:
    async with servers(tmp_path) as new:
        yield new


@pytest.fixture
async def server(new_server: NewServer, rabbitmq: RabbitMQ) -> ServerProcess:
    sections = {**on_rabbitmq(rabbitmq.url), "server": {"workers": WORKERS}}
    return await new_server(sections)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


async def connected(
    http: aiohttp.ClientSession, server: ServerProcess, channel: str
) -> aiohttp.ClientWebSocketResponse:
    """As a client does it: told to come back (its worker has not heard from the broker for a moment), it comes back."""

    async def connect() -> aiohttp.ClientWebSocketResponse:
        return await http.ws_connect(server.ws_url)

    socket = await eventually(connect, 30 * SECOND, retry=(aiohttp.WSServerHandshakeError,))
    await socket.send_str(
        json.dumps({"id": 1, "connect": {"token": make_token("ann")}})
        + "\n"
        + json.dumps({"id": 2, "subscribe": {"channel": channel}})
    )
    for _ in range(2):
        assert "error" not in (await socket.receive_json(timeout=5 * SECOND))
    return socket


async def metrics(http: aiohttp.ClientSession, server: ServerProcess) -> dict[str, float]:
    async with http.get(f"{server.url}/metrics") as response:
        text = await response.text()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels or sample.labels == {"transport": "websocket"}
    }


async def ready(http: aiohttp.ClientSession, server: ServerProcess) -> dict[str, Any]:
    async with http.get(f"{server.url}/readyz") as response:
        body: dict[str, Any] = await response.json()
    return body


def pids_of_workers(server: ServerProcess) -> list[int]:
    assert server.pid
    text = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


async def test_all_workers_serve_and_metrics_are_those_of_all(
    server: ServerProcess, http: aiohttp.ClientSession
) -> None:
    sockets = [await connected(http, server, "open.a") for _ in range(40)]
    await server.publish("open.a", {"n": 1})
    for socket in sockets:
        push = json.loads((await received(socket)).data)
        assert push["push"]["pub"]["data"] == {"n": 1}

    async def counted() -> bool:
        seen = await metrics(http, server)
        assert seen["notifier_clients"] == 40
        assert seen["notifier_subscriptions"] == 40
        assert seen["notifier_deliveries_total"] == 40
        assert seen["notifier_publications_total"] == WORKERS
        assert seen["notifier_log_up"] == 1
        return True

    for _ in range(5):  # whichever of them answers
        await eventually(counted)
    nodes = (await server.call("info"))["nodes"]
    assert len(nodes) == WORKERS
    assert sum(node["num_clients"] for node in nodes) == 40
    assert all(node["num_clients"] for node in nodes), "the kernel spreads connections over all of them"
    for socket in sockets:
        await socket.close()


async def test_a_worker_that_dies_is_replaced_and_the_others_do_not_notice(
    server: ServerProcess, http: aiohttp.ClientSession
) -> None:
    sockets = [await connected(http, server, "open.a") for _ in range(30)]
    victim, *others = pids_of_workers(server)
    os.kill(victim, signal.SIGKILL)
    replaced = await eventually(lambda: set(pids_of_workers(server)) - {victim, *others}, 15 * SECOND)
    assert len(replaced) == 1

    async def all_ready() -> bool:
        body = await ready(http, server)
        assert body["checks"]["log"]["ok"]
        return Counter(worker["status"] for worker in body["workers"].values()) == {"ready": WORKERS}

    await eventually(all_ready, 20 * SECOND)
    await server.publish("open.a", {"n": 2})
    alive = 0
    for socket in sockets:
        message = await received(socket)
        if message.type is aiohttp.WSMsgType.TEXT:
            assert json.loads(message.data)["push"]["pub"]["data"] == {"n": 2}
            alive += 1
    assert 0 < alive < len(sockets)
    again = [await connected(http, server, "open.a") for _ in range(10)]
    for socket in (*sockets, *again):
        await socket.close()


async def test_a_signal_to_the_parent_moves_all_clients_off_and_ends_it_well(
    server: ServerProcess, http: aiohttp.ClientSession
) -> None:
    sockets = [await connected(http, server, "open.a") for _ in range(20)]
    workers = pids_of_workers(server)
    ending = asyncio.create_task(server.terminate())
    for socket in sockets:
        message = await received(socket)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 3001)
        await socket.close()
    await ending
    assert server.exit_code == 0
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


async def test_a_signal_to_the_parent_and_to_every_worker_is_one_signal(
    server: ServerProcess, http: aiohttp.ClientSession
) -> None:
    """As service managers send it to all processes of a service."""
    sockets = [await connected(http, server, "open.a") for _ in range(20)]
    for pid in (*pids_of_workers(server), server.pid):
        os.kill(pid, signal.SIGTERM)
    for socket in sockets:
        message = await received(socket)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 3001)
    await eventually(lambda: not server.running, 10 * SECOND)
    assert server.exit_code == 0


async def test_while_workers_leave_none_of_them_is_ready_and_all_are_alive(
    new_server: NewServer, rabbitmq: RabbitMQ, http: aiohttp.ClientSession
) -> None:
    section = {"workers": WORKERS, "shutdown_delay": 3 * SECOND, "shutdown_grace": 8 * SECOND}
    server = await new_server({**on_rabbitmq(rabbitmq.url), "server": section})
    socket = await connected(http, server, "open.a")
    os.kill(server.pid, signal.SIGTERM)

    async def leaving() -> bool:
        body = await ready(http, server)
        return [worker["status"] for worker in body["workers"].values()] == ["not ready"] * WORKERS

    await eventually(leaving, 2 * SECOND)
    for _ in range(10):  # whichever of them answers
        async with http.get(f"{server.url}/readyz") as response:
            assert response.status == 503
        async with http.get(f"{server.url}/livez") as response:
            assert response.status == 200
    assert (await received(socket)).data == 3001
    await eventually(lambda: not server.running, 10 * SECOND)
    assert server.exit_code == 0


async def test_a_second_signal_to_the_parent_ends_all_at_once(
    new_server: NewServer, rabbitmq: RabbitMQ, http: aiohttp.ClientSession
) -> None:
    section = {"workers": WORKERS, "shutdown_delay": 30 * SECOND, "shutdown_grace": 60 * SECOND}
    server = await new_server({**on_rabbitmq(rabbitmq.url), "server": section})
    await connected(http, server, "open.a")
    workers = pids_of_workers(server)
    os.kill(server.pid, signal.SIGTERM)
    await eventually(lambda: server.log.read_text().count('"leaving"') == WORKERS)
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    await eventually(lambda: not server.running, 10 * SECOND)
    assert time.monotonic() - began < 2 * SECOND
    assert server.exit_code == 0
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


async def test_an_address_in_use_stops_the_start_with_its_reason(
    server: ServerProcess, new_server: NewServer, rabbitmq: RabbitMQ
) -> None:
    with pytest.raises(RuntimeError, match="cannot listen on"):
        await new_server({**on_rabbitmq(rabbitmq.url), "server": {"workers": 1, "port": server.port}})
