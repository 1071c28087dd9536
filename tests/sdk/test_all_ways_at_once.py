"""What takes its time, over every library, transport and encoding at once: tokens that end, pings, an orderly end."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import aiohttp
import pytest

from tests.sdk.client import Client, Event, TokenSource, Way
from tests.sdk.conftest import NewClient, NewJavaScript
from tests.sdk.javascript import WAYS as OF_JAVASCRIPT
from tests.sdk.python import WAYS as OF_PYTHON
from tests.sdk.steps import got, subscribed
from tests.servers import NewServer, ServerProcess, make_token
from tests.services.deadline import SECOND, eventually


@pytest.fixture
def ways(new_javascript: NewJavaScript, new_python: NewClient) -> list[tuple[NewClient, Way]]:
    """All that there are, each with what makes its clients."""
    return [(new_javascript, way) for way in OF_JAVASCRIPT] + [(new_python, way) for way in OF_PYTHON]


async def test_tokens_are_renewed_before_they_end_a_connection(
    new_server: NewServer, ways: list[tuple[NewClient, Way]]
) -> None:
    server = await new_server({"auth": {"leeway": "0s"}, "clients": {"expired_grace": "2s"}})
    expires_at = int(time.time() + 3 * SECOND)
    clients: list[Client] = await asyncio.gather(
        *(new(server, tokens=_once_until(expires_at, "ann"), way=way) for new, way in ways)
    )
    # All tokens end at the same second; the one that nobody renews shows when the server has acted on it.
    assert await _close_code_of_silent_client(server, make_token("bob", exp=expires_at)) == 3005
    for client in clients:
        await client.rpc("notifier.time", None)
        assert client.tokens_asked == 2
        assert len(client.all("connecting")) == 1, "the connection is still the first one"


async def test_tokens_are_renewed_before_they_end_a_subscription_and_alone_it_ends_where_nobody_does(
    new_server: NewServer, ways: list[tuple[NewClient, Way]]
) -> None:
    server = await new_server({"auth": {"leeway": "0s"}, "clients": {"expired_grace": "1s"}})
    lasting = {channel: make_token("ann", channel=channel) for channel in ("private.one", "private.two")}
    short = {channel: make_token("ann", ttl_s=2, channel=channel) for channel in lasting}
    clients: list[Client] = await asyncio.gather(
        *(new(server, make_token("ann"), tokens=lambda: lasting["private.one"], way=way) for new, way in ways)
    )
    for client in clients:
        await client.subscribe("private.one", short["private.one"], asks=True)
        await client.subscribe("private.two", short["private.two"])
    for client in clients:
        await client.told("unsubscribed", "private.two")
        assert client.all("unsubscribed", "private.two")[0].code == 1, "what the libraries say for: unauthorized"
    await server.publish("private.one", "still here")
    for client in clients:
        await got(client, "private.one", ["still here"])
        assert client.tokens_asked == 1
        assert len(client.all("subscribing", "private.one")) == 1
        assert len(client.all("connecting")) == 1


async def test_an_orderly_end_moves_clients_off_and_a_log_that_began_anew_is_told(
    new_server: NewServer, ways: list[tuple[NewClient, Way]]
) -> None:
    server = await new_server()
    clients: list[Client] = await asyncio.gather(*(new(server, make_token("ann"), way=way) for new, way in ways))
    for client in clients:
        await subscribed(client, "open.news")
    await server.publish("open.news", "before")
    for client in clients:
        await got(client, "open.news", ["before"])
    await server.terminate()
    for client in clients:
        again = (await eventually(partial(_later, client, "connecting")))[0]
        assert (again.code, again.reason) == (3001, "shutdown")
    await server.start()  # its log was in memory
    for client in clients:
        again = (await eventually(partial(_later, client, "subscribed", "open.news")))[0]
        assert (again.was_recovering, again.recovered) == (True, False)
    await server.publish("open.news", "after")
    for client in clients:
        await got(client, "open.news", ["before", "after"])


async def test_pings_are_answered_and_who_does_not_answer_is_ended(
    new_server: NewServer, ways: list[tuple[NewClient, Way]]
) -> None:
    server = await new_server({"clients": {"ping_interval": "3s", "pong_timeout": "2s"}})
    clients: list[Client] = await asyncio.gather(*(new(server, make_token("ann"), way=way) for new, way in ways))
    assert await _close_code_of_silent_client(server, make_token("bob")) == 3012
    for client in clients:
        await client.rpc("notifier.time", None)
        assert len(client.all("connecting")) == 1


def _later(client: Client, name: str, channel: str = "") -> list[Event]:
    """All such events but the first."""
    return client.all(name, channel)[1:]


async def _close_code_of_silent_client(server: ServerProcess, token: str) -> int | None:
    """Connect without any library, answer nothing, and wait for the end."""
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as socket:
        await socket.send_json({"id": 1, "connect": {"token": token}})
        async with asyncio.timeout(20 * SECOND):
            async for _ in socket:
                pass
        return socket.close_code


def _once_until(expires_at: int, user: str) -> TokenSource:
    """A source whose first token ends then, and whose others last."""
    given: list[str] = []

    def source() -> str:
        given.append(make_token(user, exp=expires_at) if not given else make_token(user))
        return given[-1]

    return source
