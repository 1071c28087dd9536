"""The whole protocol's part on subscriptions that the server makes."""

from __future__ import annotations

from tests.sdk.client import Client
from tests.sdk.cluster import Line
from tests.sdk.conftest import NewClient
from tests.sdk.steps import back, got, lost
from tests.servers import ServerProcess, make_token
from tests.services.deadline import eventually


class Given:
    """From the configuration, from tokens, and by the server API."""

    async def test_a_client_has_its_own_channel_and_those_of_its_token_from_the_start(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        own, news = f"user.{name}", f"open.{name}"
        client = await new_client(server, make_token(name, channels=[news]))
        await eventually(lambda: _subscribed(client, own, news))
        await server.publish(own, "for you")
        await server.publish(news, {"n": 1}, tags={"lang": "en"})
        await got(client, own, ["for you"])
        await got(client, news, [{"n": 1}])
        [publication] = client.all("publication", news)
        assert publication.tags == {"lang": "en"}
        assert publication.offset

    async def test_a_token_says_what_a_subscription_brings_and_how_it_differs_from_the_rule(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        room, hidden = f"lobby.{name}", f"lobby.{name}.hidden"
        subs = {
            room: {"data": {"hello": "Wörld"}, "info": {"role": "host"}},
            hidden: {"override": {"presence": {"value": False}, "join_leave": {"value": False}}},
        }
        client = await new_client(server, make_token(name, subs=subs))
        assert (await client.told("subscribed", room)).data == {"hello": "Wörld"}
        assert (await client.told("join", room)).chan_info == {"role": "host"}
        assert (await client.presence(room))[client.told_id].chan_info == {"role": "host"}
        assert await client.presence(hidden) == {}
        assert client.all("join", hidden) == []

    async def test_they_miss_nothing_while_the_line_is_cut(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        own, news = f"user.{name}", f"open.{name}"
        async with Line(server) as line:
            client = await new_client(line, make_token(name, channels=[news]))
            await eventually(lambda: _subscribed(client, own, news))
            await server.publish(own, 1)
            await got(client, own, [1])
            await lost(client, line)
            assert client.state_of(own) == client.state_of(news) == "subscribing"
            for number in (2, 3):
                await server.publish(own, number)
            await server.publish(news, "first")
            again = await back(client, line, own)
            assert (again.was_recovering, again.recovered) == (True, True)
            await got(client, own, [1, 2, 3])
            await got(client, news, ["first"])
            await server.publish(own, 4)
            await got(client, own, [1, 2, 3, 4])

    async def test_the_api_subscribes_a_connected_client_and_ends_it_again(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        news = f"open.{name}"
        client = await new_client(server, make_token(name))
        first, *_ = [await server.publish(news, number) for number in (1, 2, 3)]
        epoch = (await server.call("history", channel=news))["epoch"]
        since = {"offset": first, "epoch": epoch}
        await server.call("subscribe", user=name, channel=news, data={"by": "api"}, recover_since=since)
        assert (await client.told("subscribed", news)).data == {"by": "api"}
        await server.publish(news, 4)
        await got(client, news, [2, 3, 4])
        await server.call("unsubscribe", user=name, channel=news)
        await client.told("unsubscribed", news)
        await server.publish(news, 5)
        await server.publish(f"user.{name}", "a fence")
        await got(client, f"user.{name}", ["a fence"])
        assert client.data(news) == [2, 3, 4]

    async def test_the_api_subscribes_a_client_to_a_pattern(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        pattern = f"orders.*.{name}"
        client = await new_client(server, make_token(name))
        first = await server.publish(f"orders.1.{name}", "seen")
        await server.publish(f"orders.2.{name}", "missed")
        epoch = (await server.call("history", channel=f"orders.1.{name}"))["epoch"]
        since = {"offset": first, "epoch": epoch}
        await server.call("subscribe", user=name, channel=pattern, recover_since=since)
        await client.told("subscribed", pattern)
        await server.publish(f"orders.3.{name}", "live")
        await got(client, pattern, ["missed", "live"])
        tags = [event.tags["channel"] for event in client.all("publication", pattern)]
        assert tags == [f"orders.2.{name}", f"orders.3.{name}"]
        await server.call("unsubscribe", user=name, channel=pattern)
        await client.told("unsubscribed", pattern)


def _subscribed(client: Client, *channels: str) -> bool:
    return all(client.state_of(channel) == "subscribed" for channel in channels)
