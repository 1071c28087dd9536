"""The whole server API with its public client library, `cent`."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import cent
import pytest

from tests.sdk.client import Way
from tests.sdk.cluster import Cluster
from tests.sdk.conftest import NewClient, NewJavaScript
from tests.sdk.steps import got, subscribed
from tests.servers import API_KEY, ServerProcess, make_token
from tests.services.deadline import eventually


@pytest.fixture
def server(nodes: Cluster) -> ServerProcess:
    return nodes.one


@pytest.fixture
async def api(server: ServerProcess) -> AsyncIterator[cent.AsyncClient]:
    async with cent.AsyncClient(f"{server.url}/api", API_KEY) as client:
        yield client


async def test_publish_takes_base64_and_can_leave_history_alone(
    api: cent.AsyncClient, server: ServerProcess, new_python: NewClient, name: str
) -> None:
    channel = f"open.{name}"
    client = await new_python(server, make_token("ann"))
    await subscribed(client, channel)
    encoded = base64.b64encode(json.dumps({"text": "Grüße"}, ensure_ascii=False).encode()).decode()
    kept = await api.publish(cent.PublishRequest(channel=channel, data=None, b64data=encoded))
    passing = await api.publish(cent.PublishRequest(channel=channel, data="live only", skip_history=True))
    await got(client, channel, [{"text": "Grüße"}, "live only"])
    assert (kept.offset > 0, passing.offset) == (True, 0)
    page = await api.history(cent.HistoryRequest(channel=channel, limit=-1))
    assert [(entry.offset, entry.data) for entry in page.publications] == [(kept.offset, {"text": "Grüße"})]


async def test_history_shows_who_published_and_is_empty_once_removed(
    api: cent.AsyncClient, server: ServerProcess, new_python: NewClient, name: str
) -> None:
    channel = f"open.{name}"
    client = await new_python(server, make_token("ann", info={"name": "Ann"}))
    await subscribed(client, channel)
    await client.publish(channel, 1)
    [publication] = (await api.history(cent.HistoryRequest(channel=channel, limit=-1))).publications
    assert publication.info is not None
    assert (publication.info.user, publication.info.client) == ("ann", client.told_id)
    assert publication.info.conn_info == {"name": "Ann"}
    await api.history_remove(cent.HistoryRemoveRequest(channel=channel))
    assert (await api.history(cent.HistoryRequest(channel=channel, limit=-1))).publications == []
    await client.disconnect()
    await client.connect()
    await eventually(lambda: len(client.all("subscribed", channel)) == 2)
    assert client.all("subscribed", channel)[1].recovered, "it has seen what was removed"


async def test_presence_and_its_numbers(
    api: cent.AsyncClient, server: ServerProcess, new_python: NewClient, name: str
) -> None:
    room = f"lobby.{name}"
    ann = await new_python(server, make_token("ann", info={"name": "Ann"}))
    await ann.subscribe(room, make_token("ann", channel=room, info={"seat": 1}))
    await ann.told("subscribed", room)
    present = (await api.presence(cent.PresenceRequest(channel=room))).presence
    entry = present[ann.told_id]
    assert list(present) == [ann.told_id]
    assert (entry.user, entry.client) == ("ann", ann.told_id)
    assert (entry.conn_info, entry.chan_info) == ({"name": "Ann"}, {"seat": 1})
    stats = await api.presence_stats(cent.PresenceStatsRequest(channel=room))
    assert (stats.num_clients, stats.num_users) == (1, 1)
    with pytest.raises(cent.CentApiResponseError) as failed:
        await api.presence(cent.PresenceRequest(channel=f"open.{name}"))
    assert (failed.value.code, failed.value.message) == (108, "not available")


async def test_subscribe_with_all_that_it_can_say_and_unsubscribe(
    api: cent.AsyncClient, server: ServerProcess, new_python: NewClient, name: str
) -> None:
    news, room = f"open.{name}", f"room.{name}"
    client = await new_python(server, make_token(name))
    first = await api.publish(cent.PublishRequest(channel=news, data="seen"))
    await api.publish(cent.PublishRequest(channel=news, data="missed"))
    since = cent.StreamPosition(offset=first.offset, epoch=first.epoch)
    await api.subscribe(cent.SubscribeRequest(user=name, channel=news, recover_since=since, data={"by": "cent"}))
    assert (await client.told("subscribed", news)).data == {"by": "cent"}
    await got(client, news, ["missed"])
    told = cent.ChannelOptionsOverride(force_push_join_leave=cent.BoolValue(value=True))
    await api.subscribe(
        cent.SubscribeRequest(user=name, channel=room, info={"by": "cent"}, client=client.told_id, override=told)
    )
    assert (await client.told("join", room)).chan_info == {"by": "cent"}
    with pytest.raises(cent.CentApiResponseError) as failed:
        await api.subscribe(cent.SubscribeRequest(user=name, channel=room))
    assert failed.value.code == 100, "it is subscribed"
    await api.subscribe(cent.SubscribeRequest(user=f"nobody-{name}", channel=room))
    await api.unsubscribe(cent.UnsubscribeRequest(user=name, channel=room))
    await client.told("unsubscribed", room)
    assert (await api.presence(cent.PresenceRequest(channel=room))).presence == {}


async def test_disconnect_with_and_without_a_reason(
    api: cent.AsyncClient, server: ServerProcess, new_python: NewClient, name: str
) -> None:
    ann = await new_python(server, make_token(f"ann-{name}"))
    bob = await new_python(server, make_token(f"bob-{name}"))
    why = cent.Disconnect(code=4500, reason="that's it")
    await api.disconnect(cent.DisconnectRequest(user=f"ann-{name}", disconnect=why))
    await api.disconnect(cent.DisconnectRequest(user=f"bob-{name}", client=bob.told_id))
    assert ((await ann.told("disconnected")).code, ann.all("disconnected")[0].reason) == (4500, "that's it")
    assert (await bob.told("disconnected")).code == 3503


async def test_refresh_changes_when_a_connection_ends(
    api: cent.AsyncClient, server: ServerProcess, new_python: NewClient, name: str
) -> None:
    client = await new_python(server, make_token(name))
    at = int(time.time()) + 7200
    await api.refresh(cent.RefreshRequest(user=name, expire_at=at))
    [connection] = (await server.call("connections", user=name))["connections"].values()
    assert connection["expires_at"] == at
    await api.refresh(cent.RefreshRequest(user=name, client=client.told_id, expired=True))
    await eventually(lambda: len(client.all("connected")) == 2)
    assert client.all("connecting")[1].code == 3005


async def test_connections_of_a_user_wherever_they_are(
    api: cent.AsyncClient, nodes: Cluster, new_python: NewClient, new_javascript: NewJavaScript, name: str
) -> None:
    news = f"open.{name}"
    here = await new_python(nodes.one, make_token(name), way=Way(protobuf=True))
    there = await new_javascript(nodes.other, make_token(name), way=Way(transport="http_stream"))
    await subscribed(there, news)
    found = (await api.connections(cent.ConnectionsRequest(user=name, expression=""))).connections
    assert {client: (entry.transport, entry.protocol) for client, entry in found.items()} == {
        here.told_id: ("websocket", "protobuf"),
        there.told_id: ("http_stream", "json"),
    }
    channels = {client: _channels_of(entry) for client, entry in found.items()}
    assert channels == {here.told_id: [f"user.{name}"], there.told_id: [news, f"user.{name}"]}


async def test_a_batch_answers_each_of_its_commands_in_order(api: cent.AsyncClient, name: str) -> None:
    for parallel in (False, True):
        result = await api.batch(
            cent.BatchRequest(
                requests=[
                    cent.PublishRequest(channel=f"open.{name}", data=1),
                    cent.BroadcastRequest(channels=[f"open.{name}.a", "nowhere.at.all"], data=2),
                    cent.PresenceStatsRequest(channel=f"room.{name}"),
                    cent.HistoryRequest(channel=f"open.{name}"),
                    cent.ChannelsRequest(pattern=f"*{name}*"),
                    cent.InfoRequest(),
                ],
                parallel=parallel,
            )
        )
        replies: list[Any] = list(result.replies)
        published, broadcast, stats, history, channels, info = replies
        assert published.offset > 0
        assert [response.error and response.error.code for response in broadcast.responses] == [None, 102]
        assert stats.num_clients == 0
        assert history.epoch == published.epoch
        assert channels.channels == {}
        assert {node.name for node in info.nodes} == {"one", "other"}


async def test_a_failing_command_of_a_batch_has_its_error_in_its_place(server: ServerProcess, name: str) -> None:
    # The library cannot read errors in a batch; what it would have been given:
    commands = [
        {"publish": {"channel": "nowhere.at.all", "data": 1}},
        {"publish": {"channel": f"open.{name}", "data": 1}},
    ]
    answer = await server.post("batch", commands=commands)
    failed, published = answer["replies"]
    assert failed == {"error": {"code": 102, "message": "unknown channel"}}
    assert published["publish"]["offset"] > 0


async def test_a_method_that_this_server_does_not_have_is_404(api: cent.AsyncClient) -> None:
    with pytest.raises(cent.CentTransportError) as failed:
        await api.get_user_status(cent.GetUserStatusRequest(users=["ann"]))
    assert failed.value.status_code == 404


def _channels_of(connection: Any) -> list[str]:
    return sorted(connection.state.channels)
