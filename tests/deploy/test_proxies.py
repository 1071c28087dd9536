"""Real proxies with the configurations in deploy/proxies, before two real nodes on one log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from aiohttp import web

from notifier.config import Clients
from notifier.config import Server as ServerSection
from notifier.transports.address import Addresses
from tests.conftest import need
from tests.deploy import proxies
from tests.deploy.proxies import Proxy
from tests.servers import API_KEY, ServerProcess, on_rabbitmq
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST, free_port
from tests.services.rabbitmq import RabbitMQ

PROMPTLY_S = 3 * SECOND  # a proxy that gathers would wait for kilobytes, or for the end
# HAProxy asks once a second, and believes the second answer.
SERVER = {"trusted_proxies": [f"{LOCALHOST}/32"], "shutdown_delay": "3s", "shutdown_grace": "6s"}
SECTIONS: dict[str, Any] = {
    "auth": {"anonymous": True},
    "clients": {"sse_heartbeat": "1s"},
    "channels": [
        {
            "match": "open.#",
            "history": {"size": 100, "ttl": "1h"},
            "presence": True,
            "subscribe": ["anyone"],
        }
    ],
}


@pytest.fixture(scope="module")
def nodes(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServerProcess]]:
    """Two of one cluster. A test that ends one starts it again."""
    folder = tmp_path_factory.mktemp("nodes")
    sections = {**SECTIONS, **on_rabbitmq(rabbitmq.url)}
    made = [ServerProcess(folder, {**sections, "server": {**SERVER, "name": name}}) for name in ("one", "two")]
    try:
        asyncio.run(_start(made))
        yield made
    finally:
        for node in made:
            node.kill()


async def _start(made: list[ServerProcess]) -> None:
    await asyncio.gather(*(node.start() for node in made))


@pytest.fixture(scope="module")
def all_proxies(nodes: list[ServerProcess]) -> Iterator[dict[str, Proxy]]:
    with contextlib.ExitStack() as stack:
        made = {}
        for kind in proxies.ALL:
            need(kind)
            made[kind.package] = stack.enter_context(kind([node.port for node in nodes]))
        yield made


@pytest.fixture(params=[kind.package for kind in proxies.ALL])
def proxy(request: pytest.FixtureRequest, all_proxies: dict[str, Proxy]) -> Proxy:
    return all_proxies[request.param]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30 * SECOND)) as made:
        yield made


class MovedOff(Exception):
    """The node leaves, and says so before it has answered; a client comes again."""


class Visitor:
    """A browser's connection through a proxy, subscribed to one channel."""

    def __init__(self, http: aiohttp.ClientSession, proxy: Proxy, channel: str) -> None:
        self.proxy = proxy
        self.channel = channel
        self.node = ""
        self.position: dict[str, Any] = {}
        self.got: list[Any] = []
        self.code: int | None = None
        self._http = http
        self._socket: aiohttp.ClientWebSocketResponse

    async def come(self) -> dict[str, Any]:
        """Connect and subscribe, from where it was if it has been here; the answer is the subscription's.

        Raises MovedOff.
        """
        url = f"{self.proxy.url}/connection/websocket"
        self._socket = await self._http.ws_connect(url)
        recover = {"recover": True, **self.position} if self.position else {}
        await self._ask({"id": 1, "connect": {}})
        subscribed = (await self._ask({"id": 2, "subscribe": {"channel": self.channel, **recover}}))["subscribe"]
        self.got += [each["data"] for each in subscribed.get("publications", [])]
        self.position = {"epoch": subscribed["epoch"], "offset": subscribed.get("offset", 0)}
        return dict(subscribed)

    async def read(self) -> None:
        """Until the connection ends."""
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                self.code = self._socket.close_code
                return
            for line in message.data.splitlines():
                self._take(json.loads(line))

    async def leave(self) -> None:
        await self._socket.close()

    async def __aenter__(self) -> Self:
        await self.come()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    def _take(self, message: dict[str, Any]) -> None:
        if publication := message.get("push", {}).get("pub"):
            self.got.append(publication["data"])
            self.position["offset"] = publication["offset"]

    async def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        await self._socket.send_str(json.dumps(command))
        async with asyncio.timeout(10 * SECOND):
            while True:
                frame = await self._socket.receive()
                if frame.type is aiohttp.WSMsgType.CLOSE and frame.data == 3001:
                    raise MovedOff
                for line in frame.data.splitlines():
                    message = json.loads(line)
                    if message.get("id") == command["id"]:
                        assert "error" not in message, message
                        return dict(message)
                    self._take(message)


async def next_data(stream: aiohttp.StreamReader | asyncio.StreamReader, prefix: bytes = b"data:") -> str:
    """The next line that begins so, as soon as it is there."""
    async with asyncio.timeout(PROMPTLY_S):
        while True:
            line = await stream.readline()
            assert line, "the stream has ended"
            if line.startswith(prefix):
                return line.decode()


# --- what a proxy says of its configuration, and what we say of it ----------------------------------------------------


def test_its_own_checker_accepts_the_configuration(proxy: Proxy) -> None:
    said = proxy.check().lower()
    assert "ok" in said or "valid" in said
    assert not re.search(r"\[(warn|warning|emerg|alert)\]|deprecat", said), said


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("nginx", r"proxy_(?:read|send)_timeout (\d+)s"),
        ("haproxy", r"timeout (?:client|server|tunnel) +(\d+)s"),
    ],
)
def test_silence_is_borne_longer_than_it_lasts(name: str, pattern: str) -> None:
    """Nothing comes for a ping's interval, and its answer may take as long as it may. Caddy never ends a silent one."""
    found = [float(text) for text in re.findall(pattern, proxies.text_of(name))]
    defaults = Clients()
    longest_s = max(defaults.ping_interval + defaults.pong_timeout, defaults.sse_heartbeat)
    assert len(found) >= 2
    assert min(found) > 2 * longest_s


@pytest.mark.parametrize("name", [kind.package for kind in proxies.ALL])
def test_no_query_is_written_down(name: str) -> None:
    text = proxies.text_of(name)
    assert not re.search(r"\$request_uri(?! *;)|\$request\b|\$args|\$query_string|%HU|%r\b|option httplog", text)
    assert ("access_log" in text) == (name == "nginx"), "Caddy writes none unless it is told to"


# --- traffic ----------------------------------------------------------------------------------------------------------


async def test_a_websocket_gets_publications_of_both_nodes(
    proxy: Proxy, nodes: list[ServerProcess], http: aiohttp.ClientSession
) -> None:
    async with Visitor(http, proxy, f"open.{proxy.name}.socket") as visitor:
        reading = asyncio.create_task(visitor.read())
        for number, node in enumerate(nodes):
            await node.publish(visitor.channel, number)
        await eventually(lambda: visitor.got == [0, 1], PROMPTLY_S)
        await visitor.leave()
        await reading


async def test_events_arrive_one_by_one(proxy: Proxy, nodes: list[ServerProcess], http: aiohttp.ClientSession) -> None:
    channel = f"open.{proxy.name}.events"
    async with http.get(f"{proxy.url}/sse", params={"channels": channel}) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert "subscribed" in await next_data(response.content, b"event:")
        await next_data(response.content)
        for number in range(3):
            await nodes[0].publish(channel, {"n": number})
            assert f'"n":{number}' in (await next_data(response.content)).replace(" ", "")


async def test_the_sdks_fallback_over_http_streams_and_its_commands(
    proxy: Proxy, nodes: list[ServerProcess], http: aiohttp.ClientSession
) -> None:
    channel = f"open.{proxy.name}.stream"
    body = '{"id":1,"connect":{}}'
    async with http.post(f"{proxy.url}/connection/http_stream", data=body) as response:
        connected = json.loads(await next_data(response.content, b"{"))["connect"]
        command = json.dumps({"id": 2, "subscribe": {"channel": channel}})
        upward = {"session": connected["session"], "node": connected["node"], "data": command}
        async with http.post(f"{proxy.url}/emulation", json=upward) as sent:
            assert sent.status == 204
        assert "subscribe" in await next_data(response.content, b"{")
        await nodes[1].publish(channel, "hello")
        assert "hello" in await next_data(response.content, b"{")


async def test_events_arrive_over_tls(proxy: Proxy, nodes: list[ServerProcess]) -> None:
    if not proxy.tls_port:
        assert proxy.name == "caddy"
        return

    def first_event() -> str:
        connection = HTTPSConnection(LOCALHOST, proxy.tls_port, context=proxy.trust, timeout=PROMPTLY_S)
        with contextlib.closing(connection):
            connection.request("GET", "/sse?channels=open.tls")
            response = connection.getresponse()
            return next(line for line in iter(response.readline, b"") if line.startswith(b"event:")).decode()

    assert "subscribed" in await asyncio.to_thread(first_event)


async def test_a_client_that_goes_is_gone_at_its_node(proxy: Proxy, nodes: list[ServerProcess]) -> None:
    """At once, or with HAProxy when the next heartbeats cannot be written."""
    channel = f"open.{proxy.name}.going"

    async def there() -> int:
        stats = [await node.call("presence_stats", channel=channel) for node in nodes]
        return max(int(each["num_clients"]) for each in stats)

    reader, writer = await asyncio.open_connection(LOCALHOST, proxy.port)
    writer.write(f"GET /sse?channels={channel} HTTP/1.1\r\nHost: {LOCALHOST}\r\n\r\n".encode())
    await next_data(reader)
    await eventually(there)
    writer.transport.abort()
    await eventually(lambda: _nobody(there))


async def _nobody(there: Callable[[], Awaitable[int]]) -> bool:
    return await there() == 0


async def test_only_clients_paths_lead_inside(proxy: Proxy, http: aiohttp.ClientSession) -> None:
    key = {"X-API-Key": API_KEY}
    for path in ("/", "/metrics", "/api/info", "/api", "/readyz", "/livez", "/sse/../api/info", "/API/info",
                 "/connection/../metrics", "//metrics"):  # fmt: skip
        async with http.post(f"{proxy.url}{path}", json={}, headers=key) as response:
            assert response.status in {400, 404}, (path, response.status)
        async with http.get(f"{proxy.url}{path}", headers=key) as response:
            assert response.status in {400, 404}, (path, response.status)


async def test_a_large_body_stops_at_the_proxy(proxy: Proxy, http: aiohttp.ClientSession) -> None:
    with contextlib.suppress(aiohttp.ClientConnectionError):  # it may end the connection before all was sent
        async with http.post(f"{proxy.url}/emulation", data=b"x" * 2**20) as response:
            assert response.status == 413 or (proxy.name == "caddy" and response.status == 502)  # 2.6, before it knew


async def test_nodes_are_told_where_a_client_comes_from_and_not_what_it_says_of_it(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Here the node is one that answers with what it believes, as `notifier.transports.address` does."""
    addresses = Addresses(ServerSection(trusted_proxies=[f"{LOCALHOST}/32"]))

    async def answer(asked: web.Request) -> web.Response:
        return web.Response(text=str(addresses.of(asked)))

    async def ready(_: web.Request) -> web.Response:
        return web.Response()

    application = web.Application()
    application.router.add_get("/sse", answer)
    application.router.add_get("/readyz", ready)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, LOCALHOST, port).start()
    lies = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7", "X-Real-IP": "203.0.113.7"}
    try:
        for kind in proxies.ALL:
            need(kind)
            proxy = kind([port, port])
            try:
                await asyncio.to_thread(proxy.start)
                connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
                async with (
                    aiohttp.ClientSession(connector=connector) as http,
                    http.get(f"{proxy.url}/sse", headers=lies) as response,
                ):
                    assert (response.status, await response.text()) == (200, "127.0.0.9"), kind
            finally:
                proxy.close()
    finally:
        await runner.cleanup()


# --- nodes that go ----------------------------------------------------------------------------------------------------


async def clients(node: ServerProcess) -> dict[str, int]:
    """How many each node has, by its name."""
    return {each["name"]: int(each["num_clients"]) for each in (await node.call("info"))["nodes"]}


async def crowd(http: aiohttp.ClientSession, proxy: Proxy, nodes: list[ServerProcess], name: str) -> list[Visitor]:
    """Clients behind the proxy, two at each node: to the one with the fewest goes the next, as soon as the proxy has
    seen that it is there. Whom a node does not need goes again."""
    visitors: dict[str, list[Visitor]] = {"one": [], "two": []}

    async def both() -> bool:
        before = await clients(nodes[0])
        visitor = Visitor(http, proxy, f"open.{proxy.name}.{name}")
        await visitor.come()
        after = await clients(nodes[0])
        grown = [node for node in after if after[node] > before[node]]
        visitor.node = grown[0] if grown else ""  # none where somebody who left earlier was counted until now
        if grown and len(visitors[visitor.node]) < 2:
            visitors[visitor.node].append(visitor)
        else:
            await visitor.leave()
        return all(len(found) == 2 for found in visitors.values())

    await eventually(both, 30 * SECOND)
    return [*visitors["one"], *visitors["two"]]


async def test_a_node_that_leaves_costs_nobody_anything(
    all_proxies: dict[str, Proxy], nodes: list[ServerProcess], http: aiohttp.ClientSession
) -> None:
    """A rolling restart: clients are moved off, come back by the proxy at once, and recover."""
    staying, leaving = nodes
    everybody = [each for proxy in all_proxies.values() for each in await crowd(http, proxy, nodes, "leaving")]
    reading = {visitor: asyncio.create_task(visitor.read()) for visitor in everybody}
    for proxy in all_proxies.values():
        await staying.publish(f"open.{proxy.name}.leaving", "before")
    await eventually(lambda: all(visitor.got == ["before"] for visitor in everybody))
    ending = asyncio.create_task(leaving.terminate())
    refused = 0
    try:
        while not ending.done():
            for name, proxy in all_proxies.items():  # newcomers find their way all the time
                try:
                    async with Visitor(http, proxy, f"open.{name}.newcomers"):
                        refused = 0
                except MovedOff:
                    refused += 1
                    assert refused < 100, "newcomers are sent to a node that leaves, again and again"
        await ending
        gone = [visitor for visitor in everybody if visitor.node == "two"]
        await eventually(lambda: all(reading[visitor].done() for visitor in gone))
        assert not any(reading[visitor].done() for visitor in everybody if visitor not in gone)
        assert {visitor.code for visitor in gone} == {3001}
        for proxy in all_proxies.values():
            await staying.publish(f"open.{proxy.name}.leaving", "meanwhile")
        for visitor in gone:
            assert (await visitor.come())["recovered"], visitor.proxy.name
        await eventually(lambda: all(visitor.got == ["before", "meanwhile"] for visitor in everybody))
    finally:
        await ending
        await leaving.start()
        for visitor in everybody:
            await visitor.leave()
        await asyncio.gather(*reading.values())


async def test_a_node_that_is_gone_is_passed_over(
    all_proxies: dict[str, Proxy], nodes: list[ServerProcess], http: aiohttp.ClientSession
) -> None:
    """No goodbye: the connections break, and whoever comes next gets the other node."""
    staying, dying = nodes
    everybody = [each for proxy in all_proxies.values() for each in await crowd(http, proxy, nodes, "dying")]
    reading = {visitor: asyncio.create_task(visitor.read()) for visitor in everybody}
    dying.kill()
    try:
        for name, proxy in all_proxies.items():
            async with Visitor(http, proxy, f"open.{name}.newcomers"):
                pass
        gone = [visitor for visitor in everybody if visitor.node == "two"]
        await eventually(lambda: all(reading[visitor].done() for visitor in gone))
        assert not any(reading[visitor].done() for visitor in everybody if visitor not in gone)
        for proxy in all_proxies.values():
            await staying.publish(f"open.{proxy.name}.dying", 1)
        for visitor in gone:
            assert (await visitor.come())["recovered"], visitor.proxy.name
        await eventually(lambda: all(visitor.got == [1] for visitor in everybody))
    finally:
        await dying.start()
        for visitor in everybody:
            await visitor.leave()
        await asyncio.gather(*reading.values())
