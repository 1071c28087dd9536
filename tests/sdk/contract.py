"""What each client library must see of the server: one suite, run over every library.

A library's file subclasses `Contract` and has a fixture `new_client`.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.sdk.client import CallFailed, Client
from tests.sdk.conftest import NewClient, NewServer
from tests.sdk.load import Load, is_complete
from tests.servers import Backend, ServerProcess, make_token, on_rabbitmq
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ

ANY_JSON = [
    {"text": "Grüße, 世界 🎉", "list": [1, 2.5, None, True], "deep": {"er": {"est": "yes"}}},
    'line\nbreak, "quotes" and a \u2028 separator',
    [],
    {},
    0,
    False,
    None,
    "",
    9007199254740991,
]


async def subscribed(client: Client, *channels: str) -> None:
    for channel in channels:
        await client.subscribe(channel)
    await eventually(lambda: all(client.state_of(channel) == "subscribed" for channel in channels))


async def got(client: Client, channel: str, data: list[Any]) -> None:
    """Wait until the client has as many publications, and look at all of them."""
    await eventually(lambda: len(client.data(channel)) >= len(data))
    assert client.data(channel) == data


class Contract:
    """The suite."""

    # --- publications -----------------------------------------------------------------------------------------------

    async def test_a_publication_reaches_all_subscribers_with_the_name_of_who_sent_it(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        ann = await new_client(server, make_token("ann"))
        bob = await new_client(server, make_token("bob"))
        await subscribed(ann, "open.news")
        await subscribed(bob, "open.news")
        await ann.publish("open.news", {"text": "hello"})
        await got(ann, "open.news", [{"text": "hello"}])
        await got(bob, "open.news", [{"text": "hello"}])
        assert bob.all("publication", "open.news")[0].user == "ann"

    async def test_data_of_any_kind_arrives_as_it_was_sent(self, server: ServerProcess, new_client: NewClient) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        for data in ANY_JSON:
            await server.publish("open.news", data)
        await got(client, "open.news", ANY_JSON)

    async def test_a_publication_as_large_as_may_be_arrives(self, server: ServerProcess, new_client: NewClient) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        data = "x" * (64 * 1024 - 2)
        await server.publish("open.news", data)
        await got(client, "open.news", [data])

    async def test_tags_arrive_with_the_publication(self, server: ServerProcess, new_client: NewClient) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        await server.publish("open.news", 1, tags={"lang": "en"})
        await got(client, "open.news", [1])
        publication = client.all("publication", "open.news")[0]
        assert (publication.tags, publication.user) == ({"lang": "en"}, None)

    async def test_offsets_rise_and_are_those_that_the_publisher_was_told(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        told = []
        for number in range(5):
            told.append(await server.publish("open.news", number))
            await server.publish("open.other", number)
        await got(client, "open.news", [0, 1, 2, 3, 4])
        offsets = [event.offset for event in client.all("publication", "open.news")]
        assert offsets == told == sorted(set(told))

    async def test_a_channel_without_history_is_live_only(self, server: ServerProcess, new_client: NewClient) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "fleeting.typing")
        await client.publish("fleeting.typing", "…")
        await got(client, "fleeting.typing", ["…"])
        assert client.all("publication", "fleeting.typing")[0].offset == 0
        with pytest.raises(CallFailed) as failed:
            await client.history("fleeting.typing", limit=10)
        assert failed.value.code == 108

    async def test_several_subscriptions_at_once_each_get_their_own(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"), connected=False)
        channels = [f"open.{number}" for number in range(20)]
        for channel in channels:
            await client.subscribe(channel)
        await client.connect()
        await eventually(lambda: all(client.state_of(channel) == "subscribed" for channel in channels))
        for channel in channels:
            await server.publish(channel, channel)
        for channel in channels:
            await got(client, channel, [channel])

    async def test_one_broadcast_reaches_the_subscriptions_of_all_its_channels(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.a", "open.b", "open.c")
        await server.call("broadcast", channels=["open.a", "open.b"], data="both")
        await server.publish("open.c", "after it")
        await got(client, "open.c", ["after it"])
        assert client.data("open.a") == client.data("open.b") == ["both"]

    async def test_after_unsubscribing_nothing_more_comes_and_the_others_go_on(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.a", "open.b")
        await server.publish("open.a", "before")
        await got(client, "open.a", ["before"])
        await client.unsubscribe("open.a")
        await eventually(lambda: client.state_of("open.a") == "unsubscribed")
        await eventually(lambda: _channels_of(server), retry=(AssertionError,))
        await server.publish("open.a", "after")
        await server.publish("open.b", "a fence")
        await got(client, "open.b", ["a fence"])
        assert client.data("open.a") == ["before"]

    async def test_who_subscribes_again_gets_what_came_in_between(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.a")
        await server.publish("open.a", 1)
        await got(client, "open.a", [1])
        await client.unsubscribe("open.a")
        await server.publish("open.a", 2)
        await subscribed(client, "open.a")
        await server.publish("open.a", 3)
        await got(client, "open.a", [1, 2, 3])

    # --- history ----------------------------------------------------------------------------------------------------

    async def test_history_is_read_in_pages_from_either_end(self, server: ServerProcess, new_client: NewClient) -> None:
        client = await new_client(server, make_token("ann"))
        offsets = [await server.publish("open.news", number) for number in range(5)]
        oldest = await client.history("open.news", limit=2)
        assert oldest.items == [(offsets[0], 0), (offsets[1], 1)]
        assert oldest.offset == offsets[-1]
        newest = await client.history("open.news", limit=2, reverse=True)
        assert newest.data == [4, 3]
        rest = await client.history("open.news", limit=100, since=(offsets[1], oldest.epoch))
        assert rest.data == [2, 3, 4]
        before = await client.history("open.news", limit=100, since=(offsets[3], oldest.epoch), reverse=True)
        assert before.data == [2, 1, 0]
        nothing = await client.history("open.news")
        assert (nothing.items, nothing.offset) == ([], offsets[-1])

    async def test_history_since_a_position_of_another_log_is_refused(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await server.publish("open.news", 1)
        with pytest.raises(CallFailed) as failed:
            await client.history("open.news", limit=1, since=(1, "another"))
        assert failed.value.code == 112

    # --- rights -----------------------------------------------------------------------------------------------------

    async def test_a_channel_of_somebody_else_is_refused_for_good_and_the_connection_goes_on(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await client.subscribe("user.bob")
        await subscribed(client, "user.ann")
        refused = await eventually(lambda: client.last("unsubscribed", "user.bob"))
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
        refused = await eventually(lambda: client.last("unsubscribed", "private.two"))
        assert refused.code == 103
        await server.publish("private.one", "secret")
        await got(client, "private.one", ["secret"])

    # --- tokens -----------------------------------------------------------------------------------------------------

    async def test_an_invalid_token_ends_it_for_good(self, server: ServerProcess, new_client: NewClient) -> None:
        client = await new_client(
            server, make_token("ann", key="somebody-else's-key-of-thirty-two-bytes"), connected=False
        )
        await client.subscribe("open.news")
        await client.connect()
        ended = await eventually(lambda: client.last("disconnected"))
        assert (ended.code, ended.reason) == (3500, "invalid token")
        assert len(client.all("connecting")) == 1, "it did not try again"
        assert client.all("subscribed", "open.news") == []

    async def test_no_token_ends_it_for_good(self, server: ServerProcess, new_client: NewClient) -> None:
        client = await new_client(server, connected=False)
        await client.connect()
        ended = await eventually(lambda: client.last("disconnected"))
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
        ended = await eventually(lambda: client.last("disconnected"))
        assert (ended.code, ended.reason) == (1, "unauthorized")

    async def test_a_token_is_renewed_before_it_ends_the_connection(
        self, new_server: NewServer, new_client: NewClient
    ) -> None:
        server = await new_server({"auth": {"leeway": "0s"}, "clients": {"expired_grace": "2s"}})
        expires_at = int(time.time()) + 2
        renewing = await new_client(server, tokens=_once_until(expires_at))
        stubborn = await new_client(server, make_token("bob", exp=expires_at))
        # Both tokens end at the same second; the one that is not renewed shows when the server has acted on it.
        cut_off = await eventually(lambda: len(stubborn.all("connecting")) > 1, 20 * SECOND)
        assert cut_off
        assert stubborn.all("connecting")[1].code == 3005
        await subscribed(renewing, "user.ann")
        assert renewing.tokens_asked == 2
        assert len(renewing.all("connecting")) == 1, "the connection is still the first one"

    # --- losing the server ------------------------------------------------------------------------------------------

    async def test_who_disconnects_and_comes_back_misses_nothing(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        await server.publish("open.news", 1)
        await got(client, "open.news", [1])
        await client.disconnect()
        await eventually(lambda: client.state == "disconnected")
        await server.publish("open.news", 2)
        await client.connect()
        await eventually(lambda: client.last("subscribed", "open.news") is not client.all("subscribed", "open.news")[0])
        await server.publish("open.news", 3)
        await got(client, "open.news", [1, 2, 3])

    async def test_an_orderly_end_moves_clients_off_with_a_code_that_brings_them_back(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        await server.terminate()
        await eventually(lambda: client.all("connecting")[-1].code == 3001)
        await server.start()
        await eventually(lambda: client.state_of("open.news") == "subscribed")

    async def test_a_log_that_began_anew_is_told_as_not_recovered(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        for number in range(3):
            await server.publish("open.news", number)
        await got(client, "open.news", [0, 1, 2])
        server.kill()
        await server.start()  # its log was in memory
        again = await eventually(lambda: client.all("subscribed", "open.news")[1:], 20 * SECOND)
        assert (again[0].was_recovering, again[0].recovered) == (True, False)
        await server.publish("open.news", "after")
        await got(client, "open.news", [0, 1, 2, "after"])

    async def test_nothing_confirmed_is_lost_or_doubled_when_the_server_is_killed_under_load(
        self, rabbitmq: RabbitMQ, new_server: NewServer, new_client: NewClient
    ) -> None:
        server = await new_server(on_rabbitmq(rabbitmq.url))
        client = await new_client(server, make_token("ann"))
        over_amqp, over_api = ["open.a", "open.b", "open.c"], ["open.api"]
        channels = over_amqp + over_api
        await subscribed(client, *channels)
        async with Load(server, over_amqp, over_api) as load:
            for _ in range(3):
                await load.go_on_for(100)
                server.kill()
                await load.go_on_for(100)
                await server.start()
                await _caught_up_with(client, load, over_amqp)
            await load.stop()
            await _caught_up_with(client, load, channels)
        for channel in channels:
            assert is_complete(client.data(channel), load.confirmed[channel], load.unknown[channel])
            again = client.all("subscribed", channel)[1:]
            assert len(again) >= 3
            assert all(event.recovered for event in again)

    async def test_a_backend_s_message_arrives_with_what_it_says_about_itself(
        self, rabbitmq: RabbitMQ, new_server: NewServer, new_client: NewClient
    ) -> None:
        server = await new_server(on_rabbitmq(rabbitmq.url))
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "user.ann", "open.audit")
        async with Backend(server) as backend:
            headers: dict[str, Any] = {"tag-kind": "order", "channels": "open.audit"}
            await backend.publish("user.ann", {"order": 1}, headers=headers, message_id="order-1")
            await backend.publish("user.ann", {"order": 1}, headers=headers, message_id="order-1")
            await backend.publish("user.ann", {"order": 2}, message_id="order-2")
        await got(client, "user.ann", [{"order": 1}, {"order": 2}])
        await got(client, "open.audit", [{"order": 1}])
        assert client.all("publication", "user.ann")[0].tags == {"kind": "order"}


async def _channels_of(server: ServerProcess) -> bool:
    return list((await server.call("channels"))["channels"]) == ["open.b"]


async def _caught_up_with(client: Client, load: Load, channels: list[str]) -> None:
    for channel in channels:
        last = load.last_of(channel)
        await eventually(lambda c=channel, n=last: n in client.data(c)[-2000:], 30 * SECOND)  # type: ignore[misc]


def _once_until(expires_at: int) -> Any:
    """A source whose first token ends then, and whose others last."""
    given: list[str] = []

    def source() -> str:
        given.append(make_token("ann", exp=expires_at) if not given else make_token("ann"))
        return given[-1]

    return source
