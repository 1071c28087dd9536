"""Rules that change while clients are connected: what they notice, and that nothing is claimed that is not known."""

from __future__ import annotations

import random
import time
from typing import Any

import jwt
import pytest

from notifier.config import ChannelRule, Clients, Connect, Duration, HistoryRule, RpcRule
from notifier.core.node import FOLLOW_AT_ONCE, Node
from notifier.core.record import Draft
from notifier.errors import ConfigError
from notifier.testing import SECRET, Client, ManualClock, Ticks, make_node


def kept(size: int = 5, ttl: float = 3600) -> HistoryRule:
    return HistoryRule(size=size, ttl=Duration(ttl))


NEWS = ChannelRule(match="news.#", history=kept(), subscribe=["anyone"], wildcard=True)
PLAIN = ChannelRule(match="plain.#", subscribe=["anyone"])


class Place:
    """A node whose rules change."""

    def __init__(self, *rules: ChannelRule) -> None:
        self.clock = ManualClock(time.time())
        self.ticks = Ticks()
        self.node: Node = make_node(rules or (NEWS, PLAIN), clock=self.clock, ticks=self.ticks)

    def reload(self, *rules: ChannelRule, clients: Clients | None = None, rpc: list[RpcRule] | None = None) -> None:
        self.node.reload(rules, clients or Clients(), Connect(), rpc or [])

    async def client(self, **claims: Any) -> Client:
        client = Client(self.node)
        claims = {"sub": "ann", "exp": int(time.time()) + 86_400, **claims}
        await client.send({"id": 1, "connect": {"token": jwt.encode(claims, SECRET, algorithm="HS256")}})
        return client

    async def publish(self, channel: str, n: int) -> int:
        [appended] = await self.node.publish(Draft([channel], b'{"n":%d}' % n))
        self.ticks.end()
        return appended.offset


@pytest.fixture
def place() -> Place:
    return Place()


async def subscribe(client: Client, channel: str, **fields: Any) -> dict[str, Any]:
    [reply] = await client.send({"id": 2, "subscribe": {"channel": channel, **fields}})
    return reply


def pushes(client: Client) -> list[dict[str, Any]]:
    return [message["push"] for message in client.connection.take_messages()]


async def test_rules_that_stay_as_they_are_disturb_nobody(place: Place) -> None:
    client = await place.client()
    await subscribe(client, "news.1")
    place.reload(PLAIN, NEWS, ChannelRule(match="other", subscribe=["anyone"]))
    await place.publish("news.1", 1)
    [push] = pushes(client)
    assert push["pub"]["data"] == {"n": 1}


async def test_who_may_no_longer_is_unsubscribed_at_once_and_the_others_are_not(place: Place) -> None:
    ann, boss = await place.client(), await place.client(roles=["boss"])
    for client in (ann, boss):
        await subscribe(client, "news.1")
    place.reload(ChannelRule(match="news.#", history=kept(), subscribe=["role:boss"], wildcard=True))
    [push] = pushes(ann)
    assert push["unsubscribe"]["code"] == 2000
    await place.publish("news.1", 1)
    assert pushes(ann) == []
    assert [push["pub"]["data"]["n"] for push in pushes(boss)] == [1]
    assert (await subscribe(ann, "news.1"))["error"]["code"] == 103


@pytest.mark.parametrize("rule", [None, ChannelRule(match="news.#", history=kept(9), subscribe=["anyone"])])
async def test_what_is_kept_otherwise_begins_anew_from_the_clients_position(
    place: Place, rule: ChannelRule | None
) -> None:
    client = await place.client()
    result = (await subscribe(client, "news.1"))["subscribe"]
    first = await place.publish("news.1", 1)
    pushes(client)
    place.reload(*([rule] if rule else []))
    [push] = pushes(client)
    assert push["unsubscribe"]["code"] == 2500  # SDKs subscribe again by themselves
    again = await subscribe(client, "news.1", recover=True, offset=first, epoch=result["epoch"])
    if rule is None:
        assert again["error"]["code"] == 103
    else:
        assert again["subscribe"]["recovered"] is True


async def test_patterns_begin_anew_and_miss_nothing(place: Place) -> None:
    client = await place.client()
    await subscribe(client, "news.*")
    offset = await place.publish("news.1", 1)
    pushes(client)
    place.reload(ChannelRule(match="news.#", history=kept(9), subscribe=["anyone"], wildcard=True))
    assert pushes(client)[0]["unsubscribe"]["code"] == 2500
    await place.publish("news.2", 2)
    epoch = place.node.history.epoch
    again = (await subscribe(client, "news.*", recover=True, offset=offset, epoch=epoch))["subscribe"]
    assert again["recovered"] is True
    assert [publication["data"]["n"] for publication in again["publications"]] == [2]


async def test_a_smaller_history_is_kept_from_now_on_and_said(place: Place) -> None:
    offsets = [await place.publish("news.1", n) for n in range(5)]
    place.reload(ChannelRule(match="news.#", history=kept(2), subscribe=["anyone"]))
    client, epoch = await place.client(), place.node.history.epoch
    lost = (await subscribe(client, "news.1", recover=True, offset=offsets[1], epoch=epoch))["subscribe"]
    assert not lost.get("recovered")
    await client.send({"id": 3, "unsubscribe": {"channel": "news.1"}})
    found = (await subscribe(client, "news.1", recover=True, offset=offsets[2], epoch=epoch))["subscribe"]
    assert [publication["data"]["n"] for publication in found["publications"]] == [3, 4]


async def test_a_shorter_history_ages_by_its_new_rule(place: Place) -> None:
    await place.publish("news.1", 1)
    place.reload(ChannelRule(match="news.#", history=kept(ttl=60), subscribe=["anyone"]))
    place.clock.advance(61)
    place.node.tick()
    assert place.node.history.publications == 0
    assert place.node.history.size_bytes == 0


async def test_what_was_not_kept_before_is_never_claimed_to_be_known(place: Place) -> None:
    """A position from a node with the new rule already, on a channel of which this one has kept nothing."""
    before = await place.publish("news.1", 0)
    await place.publish("plain.1", 1)
    after = await place.publish("news.1", 2)
    place.reload(NEWS, ChannelRule(match="plain.#", history=kept(), subscribe=["anyone"]))
    client, epoch = await place.client(), place.node.history.epoch
    lost = (await subscribe(client, "plain.1", recover=True, offset=before, epoch=epoch))["subscribe"]
    assert not lost.get("recovered")
    known = (await subscribe(client, "plain.2", recover=True, offset=after, epoch=epoch))["subscribe"]
    assert known["recovered"] is True


async def test_history_that_was_off_for_a_while_does_not_come_back_with_a_hole(place: Place) -> None:
    offset = await place.publish("news.1", 1)
    place.reload(ChannelRule(match="news.#", subscribe=["anyone"]))
    await place.publish("news.1", 2)
    place.reload(NEWS)
    client, epoch = await place.client(), place.node.history.epoch
    again = (await subscribe(client, "news.1", recover=True, offset=offset, epoch=epoch))["subscribe"]
    assert not again.get("recovered")


def test_rules_that_cannot_be_used_change_nothing(place: Place) -> None:
    rule = place.node.rules.find("news.1")
    with pytest.raises(ConfigError) as caught:
        place.reload(ChannelRule(match="a b"), ChannelRule(match="ok", subscribe=["user.{sub"]))
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigError):
        place.reload(rpc=[RpcRule(method="a b", queue="q")])
    assert place.node.rules.find("news.1") is rule


async def test_limits_hold_for_those_who_are_connected(place: Place) -> None:
    client = await place.client()
    await subscribe(client, "news.1")
    place.reload(NEWS, PLAIN, clients=Clients(max_channels=1))
    assert (await subscribe(client, "news.2"))["error"]["code"] == 106


async def test_a_new_write_delay_holds_from_the_next_write_on(place: Place) -> None:
    place.reload(NEWS, PLAIN, clients=Clients(write_delay=Duration(0.5)))
    assert place.node.hub.write_delay_s == 0.5


async def test_many_clients_are_moved_in_slices(place: Place) -> None:
    clients = [await place.client() for _ in range(FOLLOW_AT_ONCE + 1)]
    for client in clients:
        await subscribe(client, "news.1")
    place.reload()
    assert sum(bool(client.session.subscriptions) for client in clients) == 1
    place.ticks.end()
    assert not any(client.session.subscriptions for client in clients)


async def test_any_sequence_of_rules_keeps_the_books_right() -> None:
    """What is counted is what is there, whatever moved where; and it all ages away."""
    chance = random.Random(7)
    place = Place(NEWS)
    for _ in range(60):
        for _ in range(chance.randrange(6)):
            await place.publish(f"{chance.choice(['news', 'plain', 'x'])}.{chance.randrange(3)}", 1)
            place.clock.advance(chance.random() * 5)
        rules = [
            ChannelRule(match=match, history=kept(chance.randrange(1, 6), chance.choice([20, 60])))
            if chance.random() < 0.7
            else ChannelRule(match=match)
            for match in chance.sample(["news.#", "plain.#", "#", "news.1"], k=3)
        ]
        place.reload(*rules)
        place.node.tick()
        history = place.node.history
        windows = history._windows
        assert history.publications == sum(len(window.kept) for window in windows.values())
        lined = [entry[1] for shelf in history._shelves.values() for entry in shelf.line]
        live = [publication for window in windows.values() for publication in window.kept]
        assert {id(publication) for publication in live} <= {id(publication) for publication in lined}
        for channel, window in windows.items():
            rule = place.node.rules.find(channel)
            assert rule is not None
            assert 0 < len(window.kept) <= rule.size
            assert [p.offset for p in window.kept] == sorted(p.offset for p in window.kept)
    place.clock.advance(120)
    place.node.tick()
    assert place.node.history.publications == place.node.history.size_bytes == 0
