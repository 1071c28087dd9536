"""A machine that gives too little: time, descriptors, a clock that can be believed."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.server.conftest import LaterClock, RunningServer, token
from tests.servers import API_KEY, NewServer, make_token, received, servers
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST

DAY_S = 86_400.0


@pytest.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[NewServer]:
    async with servers(tmp_path) as new:
        yield new


async def test_a_loop_that_stood_still_is_seen_and_costs_nobody_the_connection(server: RunningServer) -> None:
    """F-N5."""
    async with server.client() as client:
        await client.subscribe("a")
        before = server.node.stats.loop_lag.total
        time.sleep(1)
        await server.publish("a", 1)
        assert (await client.receive())["push"]["pub"]["data"] == 1
        await eventually(lambda: server.node.stats.loop_lag.total - before > 0.5)


class Stepped(LaterClock):
    """The wall clock was set; the monotonic one knows nothing of it."""

    def monotonic(self) -> float:
        return self._clock.monotonic()


@pytest.mark.parametrize("step_s", [-DAY_S, -90.0, 90.0, DAY_S])
async def test_a_clock_that_is_set_ends_no_connection_and_hides_no_gap(server: RunningServer, step_s: float) -> None:
    """F-N9: what had a while to live may be gone, and who asks for it is told so."""
    async with server.client(token("ann")) as client, server.client() as other:
        await client.subscribe("a")
        start = (await other.subscribe("a"))["subscribe"]
        await server.publish("a", 1)
        clock = Stepped(server.node.clock, step_s)
        server.node.clock = server.node.feed._clock = clock
        server.server.log._clock = clock  # type: ignore[union-attr]
        server.node.tick()
        await server.publish("a", 2)
        for one in (client, other):
            assert [(await one.receive())["push"]["pub"]["data"] for _ in range(2)] == [1, 2]
        async with server.client() as returned:
            since = {"recover": True, "epoch": start["epoch"], "offset": start.get("offset", 0)}
            reply = (await returned.subscribe("a", **since))["subscribe"]
        shown = [publication["data"] for publication in reply.get("publications", [])]
        assert reply.get("recovered", False) is (step_s < 60)
        assert shown == ([1, 2] if reply.get("recovered") else [])


async def test_without_descriptors_those_who_are_there_go_on_and_newcomers_wait(new_server: NewServer) -> None:
    """F-N7."""
    server = await new_server()
    crowd: list[socket.socket] = []
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as client:
        await client.send_json({"id": 1, "connect": {"token": make_token("ann")}})
        await client.send_json({"id": 2, "subscribe": {"channel": "open.a"}})
        for _ in range(2):
            await client.receive_json()

        async def round_trip(number: int) -> None:
            """By an HTTP connection that is there already."""
            body = {"channel": "open.a", "data": number}
            async with http.post(f"{server.url}/api/publish", json=body, headers={"X-API-Key": API_KEY}) as response:
                assert response.status == 200
                await response.read()
            push = json.loads((await received(client)).data)
            assert push["push"]["pub"]["data"] == number

        await round_trip(0)
        few = _descriptors(server.pid) + 4
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (few, few))
        crowd.extend(socket.create_connection((LOCALHOST, server.port)) for _ in range(20))
        await eventually(lambda: "no more connections can be taken" in server.log.read_text())
        used_s, began = _cpu_s(server.pid), time.monotonic()
        for number in range(1, 11):
            await round_trip(number)
            await asyncio.sleep(0.2)
        assert _cpu_s(server.pid) - used_s < (time.monotonic() - began) / 2
        assert server.log.read_text().count("no more connections can be taken") == 1
        for one in crowd:
            one.close()
        async with http.ws_connect(server.ws_url) as late:
            await late.send_json({"id": 1, "connect": {"token": make_token("bob")}})
            assert "connect" in await late.receive_json(timeout=20 * SECOND)
        await round_trip(11)


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
