"""The public client library of the server API, `cent`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import cent
import pytest

from tests.sdk.conftest import NewClient
from tests.servers import API_KEY, ServerProcess, make_token
from tests.services.deadline import eventually


@pytest.fixture
async def api(server: ServerProcess) -> AsyncIterator[cent.AsyncClient]:
    async with cent.AsyncClient(f"{server.url}/api", API_KEY) as client:
        yield client


async def test_publish_answers_with_the_position_and_the_subscriber_gets_it(
    api: cent.AsyncClient, server: ServerProcess, new_python: NewClient
) -> None:
    client = await new_python(server, make_token("ann"))
    await client.subscribe("open.news")
    await eventually(lambda: client.state_of("open.news") == "subscribed")
    result = await api.publish(cent.PublishRequest(channel="open.news", data={"n": 1}, tags={"lang": "en"}))
    publication = await client.told("publication", "open.news")
    assert (publication.data, publication.offset, publication.tags) == ({"n": 1}, result.offset, {"lang": "en"})
    assert result.epoch


async def test_publish_to_a_channel_without_history_answers_without_a_position(api: cent.AsyncClient) -> None:
    result = await api.publish(cent.PublishRequest(channel="fleeting.typing", data="…"))
    assert (result.offset, result.epoch) == (0, "")


async def test_an_idempotency_key_publishes_once_and_answers_the_same(api: cent.AsyncClient) -> None:
    request = cent.PublishRequest(channel="open.news", data=1, idempotency_key="once")
    first = await api.publish(request)
    assert await api.publish(request) == first
    page = await api.history(cent.HistoryRequest(channel="open.news", limit=-1))
    assert len(page.publications) == 1


async def test_broadcast_answers_for_each_channel_in_order(api: cent.AsyncClient) -> None:
    result = await api.broadcast(cent.BroadcastRequest(channels=["open.a", "nowhere.at.all", "open.b"], data=1))
    first, unknown, last = result.responses
    assert first.error is None
    assert last.error is None
    assert unknown.error is not None
    assert unknown.error.code == 102
    for channel in ("open.a", "open.b"):
        page = await api.history(cent.HistoryRequest(channel=channel, limit=-1))
        assert [publication.data for publication in page.publications] == [1]


async def test_history_is_read_from_either_end_and_since_a_position(api: cent.AsyncClient) -> None:
    offsets = [(await api.publish(cent.PublishRequest(channel="open.news", data=n))).offset for n in range(5)]
    page = await api.history(cent.HistoryRequest(channel="open.news", limit=2, reverse=True))
    assert [(p.offset, p.data) for p in page.publications] == [(offsets[4], 4), (offsets[3], 3)]
    assert page.offset == offsets[4]
    since = cent.StreamPosition(offset=offsets[1] or 0, epoch=page.epoch)
    rest = await api.history(cent.HistoryRequest(channel="open.news", limit=-1, since=since))
    assert [publication.data for publication in rest.publications] == [2, 3, 4]
    top = await api.history(cent.HistoryRequest(channel="open.news"))
    assert (top.publications, top.offset) == ([], offsets[4])


async def test_channels_lists_those_with_subscribers(
    api: cent.AsyncClient, server: ServerProcess, new_python: NewClient
) -> None:
    for user in ("ann", "bob"):
        client = await new_python(server, make_token(user))
        for channel in ("open.news", f"user.{user}"):
            await client.subscribe(channel)
            await eventually(lambda c=client, name=channel: c.state_of(name) == "subscribed")  # type: ignore[misc]
    result = await api.channels(cent.ChannelsRequest())
    found = {name: channel.num_clients for name, channel in result.channels.items()}
    assert found == {"open.news": 2, "user.ann": 1, "user.bob": 1}
    some = await api.channels(cent.ChannelsRequest(pattern="user.*"))
    assert sorted(some.channels) == ["user.ann", "user.bob"]


async def test_info_counts_clients_users_and_subscriptions(
    api: cent.AsyncClient, server: ServerProcess, new_python: NewClient
) -> None:
    for user in ("ann", "ann", "bob"):
        client = await new_python(server, make_token(user))
        await client.subscribe("open.news")
        await eventually(lambda c=client: c.state_of("open.news") == "subscribed")  # type: ignore[misc]
    [node] = (await api.info(cent.InfoRequest())).nodes
    assert (node.num_clients, node.num_users, node.num_channels, node.num_subs) == (3, 2, 1, 3)
    assert node.version
    assert node.process is not None
    assert node.process.rss > 0


async def test_an_unknown_channel_is_102(api: cent.AsyncClient) -> None:
    with pytest.raises(cent.CentApiResponseError) as failed:
        await api.publish(cent.PublishRequest(channel="nowhere.at.all", data=1))
    assert (failed.value.code, failed.value.message) == (102, "unknown channel")


async def test_history_of_a_channel_without_one_is_108(api: cent.AsyncClient) -> None:
    with pytest.raises(cent.CentApiResponseError) as failed:
        await api.history(cent.HistoryRequest(channel="fleeting.typing", limit=1))
    assert failed.value.code == 108


async def test_a_position_of_another_log_is_112(api: cent.AsyncClient) -> None:
    since = cent.StreamPosition(offset=1, epoch="another")
    with pytest.raises(cent.CentApiResponseError) as failed:
        await api.history(cent.HistoryRequest(channel="open.news", limit=1, since=since))
    assert failed.value.code == 112


async def test_a_wrong_key_is_401(server: ServerProcess) -> None:
    async with cent.AsyncClient(f"{server.url}/api", "a-wrong-key") as client:
        with pytest.raises(cent.CentUnauthorizedError):
            await client.info(cent.InfoRequest())


async def test_the_blocking_client_works_as_well(server: ServerProcess) -> None:
    def publish_and_read() -> list[object]:
        client = cent.Client(f"{server.url}/api", API_KEY)
        client.publish(cent.PublishRequest(channel="open.news", data={"n": 1}))
        page = client.history(cent.HistoryRequest(channel="open.news", limit=-1))
        client.close()
        return [publication.data for publication in page.publications]

    assert await asyncio.to_thread(publish_and_read) == [{"n": 1}]
