"""The suite's part on who may do what, and for how long."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from tests.sdk.client import CallFailed, TokenSource
from tests.sdk.conftest import NewClient
from tests.sdk.steps import got, subscribed
from tests.servers import NewServer, ServerProcess, make_token
from tests.services.deadline import SECOND, eventually


class Access:
    """Rights, tokens, pings."""

    async def test_a_channel_of_somebody_else_is_refused_for_good_and_the_connection_goes_on(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await client.subscribe("user.bob")
        await subscribed(client, "user.ann")
        refused = await client.told("unsubscribed", "user.bob")
        assert (refused.code, refused.reason) == (103, "permission denied")
        await server.publish("user.bob", "for bob")
        await server.publish("user.ann", "for ann")
        await got(client, "user.ann", ["for ann"])
        assert client.data("user.bob") == []
        assert len(client.all("subscribing", "user.bob")) == 1, "it did not try again"
        assert len(client.all("connecting")) == 1

    async def test_publishing_without_the_right_fails_and_nobody_gets_it(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        service = await new_client(server, make_token("backend", roles=["service"]))
        await subscribed(client, "user.ann")
        with pytest.raises(CallFailed) as failed:
            await client.publish("user.ann", "forged")
        assert failed.value.code == 103
        await service.publish("user.ann", "genuine")
        await got(client, "user.ann", ["genuine"])

    async def test_a_subscription_token_opens_its_channel_and_no_other(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        token = make_token("ann", channel="private.one")
        await client.subscribe("private.one", token)
        await client.subscribe("private.two", token)
        await eventually(lambda: client.state_of("private.one") == "subscribed")
        refused = await client.told("unsubscribed", "private.two")
        assert refused.code == 103
        await server.publish("private.one", "secret")
        await got(client, "private.one", ["secret"])

    async def test_an_invalid_token_ends_it_for_good(self, server: ServerProcess, new_client: NewClient) -> None:
        client = await new_client(
            server, make_token("ann", key="somebody-else's-key-of-thirty-two-bytes"), connected=False
        )
        await client.subscribe("open.news")
        await client.connect()
        ended = await client.told("disconnected")
        assert (ended.code, ended.reason) == (3500, "invalid token")
        assert len(client.all("connecting")) == 1, "it did not try again"
        assert client.all("subscribed", "open.news") == []

    async def test_no_token_ends_it_for_good(self, server: ServerProcess, new_client: NewClient) -> None:
        client = await new_client(server, connected=False)
        await client.connect()
        ended = await client.told("disconnected")
        assert ended.code == 3501

    async def test_with_an_expired_token_the_app_is_asked_for_another(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(
            server, make_token("ann", ttl_s=-60), tokens=lambda: make_token("ann"), connected=False
        )
        await client.subscribe("user.ann")
        await client.connect()
        await eventually(lambda: client.state_of("user.ann") == "subscribed")
        assert client.tokens_asked == 1
        assert 109 in [event.code for event in client.all("error")]

    async def test_with_an_expired_token_and_no_other_it_ends(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann", ttl_s=-60), connected=False)
        await client.connect()
        ended = await client.told("disconnected")
        assert (ended.code, ended.reason) == (1, "unauthorized")

    async def test_a_token_is_renewed_before_it_ends_the_connection(
        self, new_server: NewServer, new_client: NewClient
    ) -> None:
        server = await new_server({"auth": {"leeway": "0s"}, "clients": {"expired_grace": "2s"}})
        expires_at = int(time.time()) + 2
        renewing = await new_client(server, tokens=_once_until(expires_at))
        # Both tokens end at the same second; the one that nobody renews shows when the server has acted on it.
        assert await _close_code_of_silent_client(server, make_token("bob", exp=expires_at)) == 3005
        await subscribed(renewing, "user.ann")
        assert renewing.tokens_asked == 2
        assert len(renewing.all("connecting")) == 1, "the connection is still the first one"

    async def test_with_an_expired_subscription_token_the_app_is_asked_for_another(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"), tokens=lambda: make_token("ann", channel="private.one"))
        await client.subscribe("private.one", make_token("ann", ttl_s=-60, channel="private.one"), asks=True)
        await eventually(lambda: client.state_of("private.one") == "subscribed")
        assert client.tokens_asked == 1
        assert [event.code for event in client.all("error", "private.one")] == [109]

    async def test_a_subscription_token_is_renewed_before_it_ends_the_subscription(
        self, new_server: NewServer, new_client: NewClient
    ) -> None:
        server = await new_server({"auth": {"leeway": "0s"}, "clients": {"expired_grace": "2s"}})
        client = await new_client(server, make_token("ann"), tokens=lambda: make_token("ann", channel="private.one"))
        short = make_token("ann", ttl_s=2, channel="private.one")
        await client.subscribe("private.one", short, asks=True)
        assert await _unsubscribe_code_of_silent_client(server, make_token("ann"), short) == 2501
        await server.publish("private.one", "still here")
        await got(client, "private.one", ["still here"])
        assert client.tokens_asked == 1
        assert len(client.all("subscribing", "private.one")) == 1

    async def test_who_answers_pings_stays_and_who_does_not_is_ended(
        self, new_server: NewServer, new_client: NewClient
    ) -> None:
        server = await new_server({"clients": {"ping_interval": "2s", "pong_timeout": "1s"}})
        client = await new_client(server, make_token("ann"))
        assert await _close_code_of_silent_client(server, make_token("bob")) == 3012
        assert await _close_code_of_silent_client(server, make_token("bob")) == 3012
        await subscribed(client, "open.news")
        assert len(client.all("connecting")) == 1


async def _close_code_of_silent_client(server: ServerProcess, token: str) -> int | None:
    """Connect without any library, answer nothing, and wait for the end."""
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as socket:
        await socket.send_json({"id": 1, "connect": {"token": token}})
        async with asyncio.timeout(20 * SECOND):
            async for _ in socket:
                pass
        return socket.close_code


async def _unsubscribe_code_of_silent_client(server: ServerProcess, token: str, subscription_token: str) -> Any:
    """Subscribe without any library, renew nothing, and wait for the push that ends it."""
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as socket:
        await socket.send_json({"id": 1, "connect": {"token": token}})
        await socket.send_json({"id": 2, "subscribe": {"channel": "private.one", "token": subscription_token}})
        async with asyncio.timeout(20 * SECOND):
            async for message in socket:
                for line in map(json.loads, message.data.split("\n")):
                    if "unsubscribe" in line.get("push", {}):
                        return line["push"]["unsubscribe"]["code"]
    raise AssertionError("the connection has ended")


def _once_until(expires_at: int) -> TokenSource:
    """A source whose first token ends then, and whose others last."""
    given: list[str] = []

    def source() -> str:
        given.append(make_token("ann", exp=expires_at) if not given else make_token("ann"))
        return given[-1]

    return source
