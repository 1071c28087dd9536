"""The whole protocol's part on publishing, calling and being refused."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from tests.sdk.client import CallFailed
from tests.sdk.cluster import Shop
from tests.sdk.conftest import NewClient
from tests.sdk.publications import ANY_JSON
from tests.sdk.steps import got, subscribed
from tests.servers import ServerProcess, make_token

LARGE = "x" * (64 * 1024 - 2)


class Conversation:
    """What clients say, to each other and to backends."""

    async def test_what_one_client_publishes_others_get_as_it_was_and_find_in_history(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        channel = f"open.{name}"
        ann = await new_client(server, make_token("ann", info={"name": "Änn"}))
        bob = await new_client(server, make_token("bob"))
        await subscribed(ann, channel)
        await subscribed(bob, channel)
        for data in ANY_JSON:
            await ann.publish(channel, data)
        await server.publish(channel, LARGE)
        await got(ann, channel, [*ANY_JSON, LARGE])
        await got(bob, channel, [*ANY_JSON, LARGE])
        *publications, _ = bob.all("publication", channel)
        assert {(event.user, event.client) for event in publications} == {("ann", ann.told_id)}
        assert publications[0].conn_info == {"name": "Änn"}
        offsets = [event.offset for event in publications]
        assert offsets == sorted(set(offsets))
        page = await bob.history(channel, limit=100)
        assert page.items[:-1] == list(zip(offsets, ANY_JSON, strict=True))
        assert (await bob.history(channel, limit=2, reverse=True)).data == [LARGE, ANY_JSON[-1]]
        assert (await bob.history(channel, limit=1, since=(offsets[2], page.epoch))).data == [ANY_JSON[3]]

    async def test_a_token_that_is_not_accepted_ends_it_for_good(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        tokens = {
            make_token("ann", key="somebody-else's-key-of-thirty-two-bytes"): (3500, "invalid token"),
            make_token("ann", channel="open.news"): (3500, "invalid token"),
            make_token("ann", ttl_s=-60): (1, "unauthorized"),
            "": (3501, "bad request: a token is required"),
        }
        for token, why in tokens.items():
            client = await new_client(server, token, connected=False)
            await client.subscribe("open.news")
            await client.connect()
            ended = await client.told("disconnected")
            assert (ended.code, ended.reason) == why
            assert client.all("subscribed", "open.news") == []

    async def test_for_an_expired_token_the_app_is_asked_for_another(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        expired = make_token("ann", ttl_s=-60)
        client = await new_client(server, expired, tokens=lambda: make_token("ann"))
        assert client.tokens_asked == 1
        channel = f"private.{name}"
        other = await new_client(server, make_token("ann"), tokens=lambda: make_token("ann", channel=channel))
        await other.subscribe(channel, make_token("ann", ttl_s=-60, channel=channel), asks=True)
        await other.told("subscribed", channel)
        assert other.tokens_asked == 1
        assert len(other.all("connecting")) == 1

    async def test_a_subscriber_may_publish_where_the_rule_says_so(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        client = await new_client(server, make_token("ann"))
        assert await _code(client.publish(f"lobby.{name}", "from outside")) == 103
        await subscribed(client, f"lobby.{name}")
        await client.publish(f"lobby.{name}", "from inside")
        await got(client, f"lobby.{name}", ["from inside"])

    async def test_calls_are_answered_by_the_server_or_by_a_backend(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann", roles=["customer"]))
        who = await client.rpc("notifier.whoami", None)
        assert who == {"user": "ann", "client": client.told_id, "roles": ["customer"]}
        assert (await client.rpc("notifier.time", {}))["time"] > 1_700_000_000
        async with Shop(server):
            answer = await client.rpc("shop.order", {"item": "Käse"})
            assert answer == {"method": "shop.order", "data": {"item": "Käse"}, "user": "ann"}
            with pytest.raises(CallFailed) as failed:
                await client.rpc("shop.closed", None)
            assert (failed.value.code, str(failed.value)) == (1042, "1042 closed on Sundays")
            assert await _code(client.rpc("admin.order", None)) == 103

    async def test_calls_that_nobody_answers_fail(self, server: ServerProcess, new_client: NewClient) -> None:
        client = await new_client(server, make_token("ann"))
        assert await _code(client.rpc("absent.method", None)) == 100
        assert await _code(client.rpc("no.such.method", None)) == 104
        assert client.state == "connected"

    async def test_a_subscription_that_is_refused_says_why_and_the_connection_goes_on(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        client = await new_client(server, make_token(f"ann-{name}"))
        codes = {
            "nowhere.at.all": 103,
            "user.somebody": 103,
            "private.one": 103,
            "not a name": 107,
            "open.*": 103,  # not a channel that takes patterns
            "#": 103,
        }
        for channel, code in codes.items():
            await client.subscribe(channel)
            refused = await client.told("unsubscribed", channel)
            assert (channel, refused.code) == (channel, code)
            assert refused.reason
        await client.subscribe(f"user.ann-{name}")
        assert (await client.told("unsubscribed", f"user.ann-{name}")).code == 105, "the server has done it already"
        await client.subscribe(f"open.{name}", tags={"key": "lang", "cmp": "eq", "val": "en"})
        assert (await client.told("unsubscribed", f"open.{name}")).code == 107
        await client.subscribe(f"ticker.{name}", tags={"key": "price", "cmp": "gt", "val": "much"})
        assert (await client.told("unsubscribed", f"ticker.{name}")).code == 107
        await subscribed(client, f"open.{name}.b")
        assert len(client.all("connecting")) == 1

    async def test_a_call_that_is_refused_says_why_and_the_connection_goes_on(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        client = await new_client(server, make_token(f"ann-{name}"))
        assert await _code(client.publish(f"user.ann-{name}", 1)) == 103
        assert await _code(client.publish("nowhere.at.all", 1)) == 103
        assert await _code(client.publish(f"open.{name}", "x" * 65_000)) is None
        assert await _code(client.history("user.somebody", limit=1)) == 103
        assert await _code(client.history(f"fleeting.{name}", limit=1)) == 108
        assert await _code(client.history(f"open.{name}", limit=1, since=(1, "another"))) == 112
        assert await _code(client.presence("user.somebody")) == 103
        assert await _code(client.presence(f"open.{name}")) == 108
        assert await _code(client.presence_stats(f"open.{name}")) == 108
        assert len(client.all("connecting")) == 1


async def _code(call: Awaitable[Any]) -> int | None:
    """The error that a call was answered with; None when it worked."""
    try:
        await call
    except CallFailed as error:
        return error.code
    return None
