"""Crowds of newcomers: in at a bounded rate, or sent away before they have cost anything."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from loadtest.opening import Opener
from loadtest.peers.product_wire import ProductWire
from notifier.config import Duration
from notifier.config import Server as ServerSection
from notifier.core.admission import IN_A_TURN
from notifier.core.session import Session
from tests.integration.server.conftest import Events, RunningServer, StartServer
from tests.servers import KEY, ServerProcess, make_token
from tests.services.deadline import SECOND, eventually


async def handshake(server: RunningServer) -> int:
    """Its status; the connection is closed again."""
    try:
        async with server.http.ws_connect(server.websocket_url):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        assert error.headers is not None
        assert int(error.headers["Retry-After"]) in range(1, 4)
        assert error.headers["Connection"] == "close"
        return error.status


def slow_entrance(rate: int, patience_s: float) -> ServerSection:
    return ServerSection(port=0, max_connect_rate=rate, connect_patience=Duration(patience_s))


async def test_a_crowd_waits_for_its_turn_and_who_would_wait_too_long_is_sent_away_at_once(
    start_server: StartServer,
) -> None:
    server: RunningServer = await start_server(server=slow_entrance(10, 2))
    found = Counter(await asyncio.gather(*(handshake(server) for _ in range(IN_A_TURN + 60))))
    assert found[101] >= IN_A_TURN + 20
    assert found[503] == IN_A_TURN + 60 - found[101] > 0
    assert server.node.stats.refused == {"storm": found[503]}
    assert server.node.stats.waiting == 0
    text = await (await server.http.get(f"{server.url}/metrics")).text()
    assert f'notifier_refused_total{{reason="storm"}} {found[503]}.0' in text


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/connection/http_stream"), ("POST", "/connection/uni_http_stream"), ("GET", "/ws?channels=a")],
)
async def test_every_way_in_is_through_the_same_entrance(start_server: StartServer, method: str, path: str) -> None:
    server: RunningServer = await start_server(server=slow_entrance(1, 0))
    await asyncio.gather(*(handshake(server) for _ in range(IN_A_TURN)))
    body = b'{"id":1,"connect":{}}' if method == "POST" else None
    async with server.http.request(method, f"{server.url}{path}", data=body) as response:
        assert response.status == 503
        assert response.headers["Retry-After"]
    async with server.http.get(f"{server.url}/readyz") as response:
        assert response.status == 200, "health is asked by another door"


async def test_an_event_source_is_told_to_come_back(start_server: StartServer) -> None:
    server: RunningServer = await start_server(server=slow_entrance(1, 0))
    await asyncio.gather(*(handshake(server) for _ in range(IN_A_TURN)))
    async with server.http.get(f"{server.url}/sse?channels=a") as response:
        assert response.status == 200
        stream = Events(response)
        assert 500 <= int((await stream.next())["retry"]) <= 1500
        assert json.loads((await stream.next())["data"])["reconnect"] is True


async def test_who_gives_up_while_it_waits_takes_nobodys_place(start_server: StartServer) -> None:
    server: RunningServer = await start_server(server=slow_entrance(1, 60))
    await asyncio.gather(*(handshake(server) for _ in range(IN_A_TURN)))
    impatient = [asyncio.create_task(handshake(server)) for _ in range(20)]
    await eventually(lambda: server.node.stats.waiting == 20)
    for task in impatient:
        task.cancel()
    await eventually(lambda: server.node.stats.waiting == 0)
    assert await asyncio.wait_for(handshake(server), 5 * SECOND) == 101


async def test_those_who_wait_are_sent_away_when_the_server_begins_to_leave(start_server: StartServer) -> None:
    server: RunningServer = await start_server(server=slow_entrance(2, 60))
    await asyncio.gather(*(handshake(server) for _ in range(IN_A_TURN)))
    waiting = [asyncio.create_task(handshake(server)) for _ in range(3)]
    await eventually(lambda: server.node.stats.waiting == 3)
    server.node.draining = True
    assert await asyncio.gather(*waiting) == [503] * 3


async def test_deliveries_go_on_while_thousands_connect(tmp_path: Path) -> None:
    """F-C4: Not how fast: that is for the load test. But none waits for the end of the crowd."""
    server = ServerProcess(tmp_path)
    crowd = 1500
    try:
        await server.start()
        async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as client:
            await client.send_json({"id": 1, "connect": {"token": make_token("ann")}})
            await client.send_json({"id": 2, "subscribe": {"channel": "open.steady"}})
            for _ in range(2):
                await client.receive_json()
            wire = ProductWire(KEY)
            opener = Opener(server.port, [wire.steps(number, "open.crowd") for number in range(crowd)])
            arriving = asyncio.create_task(asyncio.to_thread(opener.run, crowd, 60 * SECOND))
            delivered: list[tuple[int, int]] = []
            while not arriving.done():
                await server.publish("open.steady", len(delivered))
                push = await client.receive_json(timeout=10 * SECOND)
                delivered.append((push["push"]["pub"]["data"], len(opener.ready)))
            ready = await arriving
            among_the_crowd = {present for _, present in delivered if 0 < present < crowd}
            assert [number for number, _ in delivered] == list(range(len(delivered)))
            assert len(among_the_crowd) >= 5
            for one in ready:
                one.socket.close()
    finally:
        server.kill()


async def test_connections_that_have_ended_leave_nothing_that_must_be_looked_for(server: RunningServer) -> None:
    """The look would cost the more the more others there are, and stop everything meanwhile."""
    gc.collect()
    gc.disable()
    before = _sessions()
    try:
        async with server.client() as client, server.http.get(f"{server.url}/sse?channels=a") as stream:
            await client.subscribe("a")
            await Events(stream).beginning()
            assert _sessions() == before + 2
        await eventually(lambda: _sessions() == before)
    finally:
        gc.enable()


def _sessions() -> int:
    return sum(isinstance(found, Session) for found in gc.get_objects())
