"""The suite's part on what is published, and on history."""

from __future__ import annotations

import pytest

from tests.sdk.client import CallFailed
from tests.sdk.conftest import NewClient
from tests.sdk.steps import got, subscribed
from tests.servers import ServerProcess, make_token
from tests.services.deadline import eventually

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


class Publications:
    """Who gets what, and how it looks."""

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
        with pytest.raises(CallFailed) as failed:
            await client.history("fleeting.typing", limit=10)
        assert failed.value.code == 108

    async def test_publications_of_a_channel_without_history_have_no_offset(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "fleeting.typing")
        await client.publish("fleeting.typing", "…")
        await got(client, "fleeting.typing", ["…"])
        assert client.all("publication", "fleeting.typing")[0].offset == 0

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
        await eventually(lambda: _channels_are(server, ["open.b"]))
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


async def _channels_are(server: ServerProcess, names: list[str]) -> bool:
    """Whether just these have subscribers."""
    return list((await server.call("channels"))["channels"]) == names
