"""Two nodes on one log in RabbitMQ: a client at one of them, and what is done at the other one."""

from __future__ import annotations

from functools import partial

import cent
import pytest

from tests.sdk.client import Client, Present, Way
from tests.sdk.cluster import Cluster, Line
from tests.sdk.conftest import NewClient, NewJavaScript
from tests.sdk.steps import got, lost, subscribed
from tests.servers import API_KEY, ServerProcess, make_token
from tests.services.deadline import eventually

WAYS_DOWN = [Way(transport="http_stream"), Way(transport="sse"), Way(transport="http_stream", protobuf=True)]


@pytest.mark.parametrize("way", WAYS_DOWN, ids=str)
async def test_commands_that_arrive_at_another_node_than_their_stream_are_handed_over(
    nodes: Cluster, new_javascript: NewJavaScript, way: Way, name: str
) -> None:
    client = await new_javascript(
        nodes.one, make_token(f"ann-{name}"), way=way, emulation=f"{nodes.other.url}/emulation"
    )
    channel = f"open.{name}"
    await subscribed(client, channel)
    for number in range(20):
        await client.publish(channel, number)
    await got(client, channel, list(range(20)))
    assert (await client.history(channel, limit=100)).data == list(range(20))
    assert (await client.rpc("notifier.whoami", None))["user"] == f"ann-{name}"
    connections = (await nodes.other.call("connections", user=f"ann-{name}"))["connections"]
    assert list(connections) == [client.told_id]
    await client.unsubscribe(channel)
    await eventually(lambda: _has_no_channel(nodes.other, channel))
    assert len(client.all("connecting")) == 1


async def test_every_node_knows_who_is_there_wherever_they_are(
    nodes: Cluster, new_javascript: NewJavaScript, new_python: NewClient, name: str
) -> None:
    room = f"room.{name}"
    ann = await new_javascript(nodes.one, make_token(f"ann-{name}"), way=Way(transport="http_stream"))
    twin = await new_python(nodes.other, make_token(f"ann-{name}"), way=Way(protobuf=True))
    bob = await new_javascript(nodes.other, make_token(f"bob-{name}"))
    for client in (ann, twin, bob):
        await subscribed(client, room)
    here = {client.told_id: client.told_id for client in (ann, twin, bob)}
    for client in (ann, twin, bob):
        assert {entry.client: id_ for id_, entry in (await client.presence(room)).items()} == here
        assert await client.presence_stats(room) == (3, 2)
    for node in nodes:
        async with cent.AsyncClient(f"{node.url}/api", API_KEY) as api:
            assert (await api.presence(cent.PresenceRequest(channel=room))).presence.keys() == here.keys()
            stats = await api.presence_stats(cent.PresenceStatsRequest(channel=room))
            assert (stats.num_clients, stats.num_users) == (3, 2)
            found = (await api.channels(cent.ChannelsRequest(pattern=f"*.{name}"))).channels
            assert {channel: entry.num_clients for channel, entry in found.items()} == {room: 3}
            infos = {entry.name: entry for entry in (await api.info(cent.InfoRequest())).nodes}
            assert {info: entry.num_clients for info, entry in infos.items()} == {"one": 1, "other": 2}
    assert await ann.presence(room) == await bob.presence(room)
    assert (await bob.presence(room))[ann.told_id] == Present(user=f"ann-{name}", client=ann.told_id)


async def test_who_comes_and_goes_at_one_node_is_told_at_the_other(
    nodes: Cluster, new_javascript: NewJavaScript, new_python: NewClient, name: str
) -> None:
    room = f"room.{name}"
    ann = await new_javascript(nodes.one, make_token("ann"))
    bob = await new_python(nodes.other, make_token("bob", info={"name": "Bob"}))
    await ann.subscribe(room, join_leave=True)
    await eventually(lambda: ann.all("join", room))
    await subscribed(bob, room)
    await eventually(lambda: len(ann.all("join", room)) == 2)
    await bob.disconnect()
    left = await ann.told("leave", room)
    assert [event.user for event in ann.all("join", room)] == ["ann", "bob"]
    assert (left.user, left.client, left.conn_info) == ("bob", bob.told_id, {"name": "Bob"})


async def test_the_api_of_one_node_acts_on_clients_of_the_other(
    nodes: Cluster, new_javascript: NewJavaScript, new_python: NewClient, name: str
) -> None:
    user, channel = f"ann-{name}", f"open.{name}"
    clients: list[Client] = [
        await new_javascript(nodes.one, make_token(user), way=Way(transport="http_stream")),
        await new_javascript(nodes.other, make_token(user), way=Way(protobuf=True)),
        await new_python(nodes.one, make_token(user)),
    ]
    await nodes.other.call("subscribe", user=user, channel=channel, data={"by": "api"})
    for client in clients:
        assert (await client.told("subscribed", channel)).data == {"by": "api"}
    await nodes.one.publish(channel, 1)
    for client in clients:
        await got(client, channel, [1])
    await nodes.other.call("unsubscribe", user=user, channel=channel)
    for client in clients:
        await client.told("unsubscribed", channel)
    reason = {"code": 4001, "reason": "elsewhere"}
    await nodes.other.call("disconnect", user=user, disconnect=reason)
    for client in clients:
        await eventually(partial(_connected_times, client, 2))
        again = client.all("connecting")[1]
        assert (again.code, again.reason) == (4001, "elsewhere")
    spared = clients[0].told_id
    await nodes.other.call("disconnect", user=user, whitelist=[spared])
    for client in clients[1:]:
        assert (await client.told("disconnected")).code == 3503
    await nodes.other.call("revoke", user=user)
    assert (await clients[0].told("disconnected")).code in {1, 109}


async def test_a_client_that_is_moved_to_another_node_misses_nothing(
    nodes: Cluster, new_javascript: NewJavaScript, name: str
) -> None:
    channel, own = f"open.{name}", f"user.{name}"
    async with Line(nodes.one) as line:
        client = await new_javascript(line, make_token(name), way=Way(transport="http_stream"))
        await subscribed(client, channel)
        await nodes.one.publish(channel, 1)
        await nodes.other.publish(channel, 2)
        await got(client, channel, [1, 2])
        for node, number in ((nodes.other, 3), (nodes.one, 5)):
            await lost(client, line)
            await nodes.one.publish(channel, number)
            await nodes.other.publish(own, number)
            line.mend(node)
            await nodes.one.publish(channel, number + 1)
            await got(client, channel, list(range(1, number + 2)))
        await got(client, own, [3, 5])
        assert all(event.recovered for event in client.all("subscribed", channel)[1:])


def _connected_times(client: Client, times: int) -> bool:
    return len(client.all("connected")) == times


async def _has_no_channel(node: ServerProcess, channel: str) -> bool:
    return channel not in (await node.call("channels"))["channels"]
