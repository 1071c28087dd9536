"""Who connects too often, over real sockets: each kind of client is told in a way that it understands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from notifier.config import Auth, ChannelRule, Clients, Config, Limits, Secret
from notifier.config import Server as ServerSection
from notifier.server import Server
from tests.integration.server.conftest import SECRET, token
from tests.services.deadline import eventually

PROXY = "X-Forwarded-For"
UNLIMITED, USUAL = Limits(connects_per_address=0), Clients()


@asynccontextmanager
async def running(
    limits: Limits = UNLIMITED, clients: Clients = USUAL, *, max_connections: int = 0
) -> AsyncIterator[Server]:
    """A server behind a proxy: these tests."""
    server = Server(
        Config(
            server=ServerSection(port=0, trusted_proxies=["127.0.0.0/8"], max_connections=max_connections),
            clients=clients,
            auth=Auth(hmac_keys=[Secret(SECRET)], anonymous=True),
            limits=limits,
            channels=[ChannelRule(match="#", subscribe=["anyone"])],
        )
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def by_address() -> AsyncIterator[Server]:
    """One connect, and the next in 20 s."""
    async with running(Limits(connects_per_address=0.05, connects_per_address_burst=1)) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "connection/websocket"),
        ("GET", "connection/uni_websocket"),
        ("GET", "ws?channels=a"),
        ("POST", "connection/http_stream"),
        ("GET", "connection/sse?cf_connect={}"),
        ("GET", "connection/uni_sse"),
        ("POST", "connection/uni_http_stream"),
    ],
)
async def test_an_address_above_its_rate_gets_429_and_the_seconds_to_wait(
    by_address: Server, method: str, path: str
) -> None:
    async with aiohttp.ClientSession() as http:
        url = by_address.doors.address + path
        async with http.request(method, url, headers={PROXY: "192.0.2.1"}) as response:
            assert response.status != 429
        async with http.request(method, url, headers={PROXY: "192.0.2.1"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "20")
        async with http.request(method, url, headers={PROXY: "192.0.2.2"}) as response:
            assert response.status != 429
        async with http.get(by_address.doors.address + "metrics") as response:
            assert 'notifier_refused_total{reason="address_connects"} 1.0' in await response.text()


async def test_an_event_source_above_the_rate_gets_a_stream_that_ends(by_address: Server) -> None:
    """It would give up for good on any other status."""
    async with aiohttp.ClientSession() as http:
        url = by_address.doors.address + "sse?channels=a"
        async with http.get(url, headers={PROXY: "192.0.2.1"}) as response:
            assert (await response.content.readline()).startswith(b"retry: 1000")
        async with http.get(url, headers={PROXY: "192.0.2.1"}) as response:
            assert response.status == 200
            text = await response.text()
    retry_ms = int(text.split()[1])
    assert 19_000 < retry_ms <= 20_000
    assert '"code":3013' in text


STREAMS = [
    ("GET", "sse?channels=a", ""),
    ("GET", "connection/uni_sse", ""),
    ("POST", "connection/uni_http_stream", "{}"),
    ("POST", "connection/http_stream", '{"id":1,"connect":{}}'),
    ("GET", "connection/sse?cf_connect=%7B%22id%22:1,%22connect%22:%7B%7D%7D", ""),
]


@pytest.mark.parametrize(("method", "path", "body"), STREAMS)
async def test_an_address_has_no_more_connections_than_one_may_have(method: str, path: str, body: str) -> None:
    """Whatever they are, and however slowly they come; those of others are not touched, and who leaves makes room."""
    async with running(Limits(connections_per_address=2)) as server, aiohttp.ClientSession() as http:
        url, mine = server.doors.address, {PROXY: "192.0.2.1"}
        async with connect(url.replace("http", "ws", 1) + "ws?channels=a", additional_headers=mine) as socket:
            await socket.recv()
            async with http.request(method, url + path, data=body, headers=mine) as stream:
                assert stream.status == 200
                await stream.content.read(1)
                async with http.get(url + "ws?channels=a", headers=mine) as refused:
                    assert (refused.status, refused.headers["Retry-After"]) == (429, "10")
                async with http.request(method, url + path, data=body, headers={PROXY: "192.0.2.2"}) as other:
                    assert other.status == 200
            await eventually(lambda: server.node.stats.connections.total() == 1)
            async with http.request(method, url + path, data=body, headers=mine) as stream:
                assert stream.status == 200
                await stream.content.read(1)
        assert server.node.stats.refused == {"address_connections": 1}
        await eventually(lambda: not len(server.doors._gate._seats))


async def test_a_request_that_becomes_no_connection_keeps_none() -> None:
    async with running(Limits(connections_per_address=1)) as server, aiohttp.ClientSession() as http:
        url, mine = server.doors.address, {PROXY: "192.0.2.1"}
        for path, status in (("connection/websocket", 426), ("sse", 400), ("sse?channels=a%20b", 400)):
            async with http.get(url + path, headers=mine) as response:
                assert response.status == status
        async with http.post(url + "connection/http_stream", data="{", headers=mine) as response:
            assert response.status == 400
        assert not len(server.doors._gate._seats)


async def test_what_is_no_connect_is_not_counted(by_address: Server) -> None:
    async with aiohttp.ClientSession() as http:
        for _ in range(5):
            for method, path in (("OPTIONS", "connection/http_stream"), ("POST", "emulation"), ("GET", "readyz")):
                async with http.request(
                    method, by_address.doors.address + path, headers={PROXY: "192.0.2.1"}
                ) as response:
                    assert response.status != 429


async def test_a_user_above_the_rate_is_told_by_each_kind_of_connection() -> None:
    async with running(Limits(connects_per_user=0.05, connects_per_user_burst=1)) as server:
        url = server.doors.address.replace("http", "ws", 1)
        bearer = {"Authorization": f"Bearer {token('ann')}"}
        async with connect(url + "ws?channels=a", additional_headers=bearer):
            pass
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url + "ws?channels=a", additional_headers=bearer):
                pass
        answer = caught.value.response
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "20")
        async with aiohttp.ClientSession() as http:
            async with http.get(server.doors.address + "sse?channels=a", headers=bearer) as response:
                assert '"code":3013' in await response.text()
            body = '{"token":"%s"}' % token("ann")  # noqa: UP031
            async with http.post(server.doors.address + "connection/uni_http_stream", data=body) as response:
                assert '"code":3013' in await response.text()
        async with connect(url + "connection/websocket") as socket:
            await socket.send('{"id":1,"connect":{"token":"%s"}}' % token("ann"))  # noqa: UP031
            await socket.wait_closed()
            assert socket.close_code == 3013


async def test_a_full_worker_sends_newcomers_elsewhere_until_somebody_leaves() -> None:
    """F-N8: what its memory holds is what it takes."""
    async with running(max_connections=2) as server, aiohttp.ClientSession() as http:
        url = server.doors.address
        async with connect(url.replace("http", "ws", 1) + "connection/websocket") as socket:
            async with http.get(url + "sse?channels=a") as stream:
                assert (await stream.content.readline()).startswith(b"retry: 1000")
                async with http.get(url + "ws?channels=a") as refused:
                    assert refused.status == 503
                    assert int(refused.headers["Retry-After"]) > 0
                async with http.get(url + "sse?channels=a") as refused:
                    assert '"code":' in await refused.text()
                async with http.get(url + "metrics") as response:
                    assert 'notifier_refused_total{reason="full"} 2.0' in await response.text()
            await eventually(lambda: server.node.stats.connections.total() == 1)
            async with http.get(url + "sse?channels=a") as response:
                assert (await response.content.readline()).startswith(b"retry: 1000")
            await socket.ping()


async def test_a_user_has_no_more_connections_than_one_may_have_and_is_told_not_to_try_again() -> None:
    async with running(clients=Clients(max_per_user=2)) as server, aiohttp.ClientSession() as http:
        bearer = {"Authorization": f"Bearer {token('ann')}"}
        url = server.doors.address.replace("http", "ws", 1) + "connection/websocket"

        async def code_of(user: str) -> int | None:
            async with connect(url) as socket:
                await socket.send('{"id":1,"connect":{"token":"%s"}}' % token(user))  # noqa: UP031
                if '"connect"' in str(await _answer(socket)):
                    return None
                await socket.wait_closed()
                return socket.close_code

        async with connect(url) as first, http.get(server.doors.address + "sse?channels=a", headers=bearer) as second:
            await first.send('{"id":1,"connect":{"token":"%s"}}' % token("ann"))  # noqa: UP031
            await first.recv()
            await second.content.readline()
            assert await code_of("ann") == 3504
            assert await code_of("bob") is None
            async with http.get(server.doors.address + "sse?channels=a", headers=bearer) as third:
                assert (third.status, third.headers["Retry-After"]) == (429, "10")
        await eventually(lambda: server.node.users == 0)
        assert await code_of("ann") is None


async def _answer(socket: ClientConnection) -> str:
    """The next message; empty when there is none any more."""
    try:
        return str(await socket.recv())
    except ConnectionClosed:
        return ""
