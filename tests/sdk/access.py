"""The suite's part on who may do what."""

from __future__ import annotations

import pytest

from tests.sdk.client import CallFailed
from tests.sdk.conftest import NewClient
from tests.sdk.steps import got, subscribed
from tests.servers import ServerProcess, make_token
from tests.services.deadline import eventually


class Access:
    """Rights and tokens. What takes its time is in `test_all_ways_at_once.py`."""

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

    async def test_with_an_expired_subscription_token_the_app_is_asked_for_another(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"), tokens=lambda: make_token("ann", channel="private.one"))
        await client.subscribe("private.one", make_token("ann", ttl_s=-60, channel="private.one"), asks=True)
        await eventually(lambda: client.state_of("private.one") == "subscribed")
        assert client.tokens_asked == 1
        assert [event.code for event in client.all("error", "private.one")] == [109]
