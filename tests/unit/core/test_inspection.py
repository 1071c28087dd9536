"""What operators ask all workers: two nodes that hear each other, and clients on both."""

from __future__ import annotations

import pytest

from notifier.core.inspection import ChannelsTop, ConnectionsLike, CountsOf, FoundHere, LoggedOut
from notifier.core.node import Node
from tests.unit.core.test_control import Cluster, connected, subscribed


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def clients_of(answer: FoundHere) -> list[str]:
    return [each.user for each in answer.connections]


def like(search: str = "", channel: str = "", most: int = 10, **after: int) -> ConnectionsLike:
    return ConnectionsLike(search, channel, most, after)


async def test_every_worker_tells_how_it_is(cluster: Cluster) -> None:
    await subscribed(await connected(cluster.there, "ann"), "room.1")
    cluster.clock.advance(5)
    here, there = await cluster.here.control.states()
    assert (here.uid, there.uid) == ("here", "there")
    assert (here.state, here.clients, there.clients, there.users, there.subscriptions) == ("ready", 0, 1, 1, 1)
    assert (there.channels, there.uptime_s, there.problem) == (1, 5.0, "")
    assert there.rss_bytes > 0
    assert len(there.loop_lag.counts) == len(there.loop_lag.bounds) + 1


async def test_a_worker_that_leaves_or_fails_says_so(cluster: Cluster) -> None:
    cluster.there.leaving = True
    assert [each.state for each in await cluster.here.control.states()] == ["ready", "leaving"]
    cluster.there.leaving = False
    cluster.there.log = Broken()  # type: ignore[assignment]
    [_, there] = await cluster.here.control.states()
    assert (there.state, there.problem) == ("failing", "RabbitMQ is away")


class Broken:
    """A log that does not work."""

    ready = True
    problem = "RabbitMQ is away"
    lag_s = 12.0
    blocked = False


@pytest.mark.parametrize(
    ("question", "users"),
    [
        (like(), ["Ann", "annette", "bob"]),
        (like("ann"), ["Ann", "annette"]),
        (like("BOB"), ["bob"]),
        (like("nobody"), []),
        (like(channel="room.1"), ["Ann", "bob"]),
        (like("ann", "room.1"), ["Ann"]),
        (like(channel="room"), []),
    ],
)
async def test_connections_are_found_by_user_and_channel(
    cluster: Cluster, question: ConnectionsLike, users: list[str]
) -> None:
    await subscribed(await connected(cluster.here, "Ann"), "room.1")
    await connected(cluster.here, "annette")
    await subscribed(await connected(cluster.here, "bob"), "room.1")
    answer = question.answer(cluster.here)
    assert clients_of(answer) == users
    assert answer.total == len(users)


async def test_connections_are_found_by_the_beginning_of_the_client_s_id(cluster: Cluster) -> None:
    await connected(cluster.here, "ann")
    [found] = like().answer(cluster.here).connections
    assert clients_of(like(found.client[:2]).answer(cluster.here)) == ["ann"]
    assert found.expires_at > cluster.clock.time()


async def test_a_page_of_connections_is_bounded_and_the_next_one_goes_on(cluster: Cluster) -> None:
    for number in range(5):
        await connected(cluster.here, f"u{number}")
    for search in ("", "u"):
        first = like(search, most=2).answer(cluster.here)
        assert (clients_of(first), first.total) == (["u0", "u1"], 5)
        assert clients_of(like(search, most=2, here=2).answer(cluster.here)) == ["u2", "u3"]
        assert clients_of(like(search, most=2, here=4).answer(cluster.here)) == ["u4"]


async def test_many_subscriptions_of_a_connection_are_counted_and_some_are_named(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifier.core.inspection.MOST_CHANNELS_SHOWN", 2)
    client = await connected(cluster.here, "ann")
    for channel in ("a", "b", "c"):
        await subscribed(client, channel)
    [found] = like().answer(cluster.here).connections
    assert (found.channels, found.subscriptions) == (["a", "b"], 3)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", {"room.1": 2, "room.2": 1, "news": 1}),
        ("room", {"room.1": 2, "room.2": 1}),
        ("room.*", {"room.1": 2, "room.2": 1}),
        ("*.2", {"room.2": 1}),
        ("nowhere", {}),
    ],
)
async def test_channels_are_found_by_a_part_or_a_pattern(cluster: Cluster, search: str, found: dict[str, int]) -> None:
    await _three_channels(cluster.here)
    assert ChannelsTop(search, 10).answer(cluster.here) == found


async def test_of_many_channels_those_with_most_subscribers_are_told(cluster: Cluster) -> None:
    await _three_channels(cluster.here)
    assert ChannelsTop("", 1).answer(cluster.here) == {"room.1": 2}


async def test_channels_are_counted_by_name(cluster: Cluster) -> None:
    await _three_channels(cluster.here)
    assert CountsOf(["room.1", "nowhere"]).answer(cluster.here) == {"room.1": 2}


async def test_a_session_that_is_ended_is_ended_everywhere(cluster: Cluster) -> None:
    await cluster.here.control.tell(LoggedOut("session", cluster.clock.time() + 60))
    assert "session" in cluster.here.logouts
    assert "session" in cluster.there.logouts


async def _three_channels(node: Node) -> None:
    ann, bob = await connected(node, "ann"), await connected(node, "bob")
    for client, channel in ((ann, "room.1"), (ann, "room.2"), (bob, "room.1"), (bob, "news")):
        await subscribed(client, channel)
