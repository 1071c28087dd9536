"""Subscriptions beyond the plain one: deltas, filters, patterns, the last value, presence, who comes and goes."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from notifier.config import ChannelRule, Clients, Duration, HistoryRule
from notifier.core.node import Node
from notifier.core.record import Draft
from notifier.testing import SECRET, Client, ManualClock, Ticks, make_node

KEPT = HistoryRule(size=5, ttl=Duration(3600))
RULES = [
    ChannelRule(match="delta.*", history=KEPT, delta=True, subscribe=["anyone"]),
    ChannelRule(match="tags.*", history=KEPT, tag_filter=True, delta=True, subscribe=["anyone"]),
    ChannelRule(match="cache.*", history=KEPT, recovery="cache", subscribe=["anyone"]),
    ChannelRule(match="orders.secret.#", history=KEPT, subscribe=["role:boss"]),
    ChannelRule(match="orders.#", history=KEPT, wildcard=True, subscribe=["orders.{org}.*", "role:boss"]),
    ChannelRule(match="room.*", presence=True, join_leave="on_request", subscribe=["anyone"], publish=["subscriber"]),
    ChannelRule(match="loud.*", join_leave="always", subscribe=["anyone"]),
    ChannelRule(match="#", history=KEPT, subscribe=["anyone"]),
]


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def node(ticks: Ticks) -> Node:
    return make_node(RULES, ticks=ticks, clock=ManualClock(time.time()))


async def connected(node: Node, **claims: Any) -> Client:
    client = Client(node)
    claims = {"sub": "ann", "exp": int(time.time()) + 86_400, **claims}
    [reply] = await client.send({"id": 1, "connect": {"token": jwt.encode(claims, SECRET, algorithm="HS256")}})
    assert "connect" in reply, reply
    return client


async def subscribed(client: Client, channel: str, **request: Any) -> dict[str, Any]:
    reply = (await client.send({"id": 2, "subscribe": {"channel": channel, **request}}))[0]
    assert "subscribe" in reply, reply
    result: dict[str, Any] = reply["subscribe"]
    return result


def received(client: Client) -> list[dict[str, Any]]:
    return [message["push"]["pub"] for message in client.connection.take_messages()]


# --- deltas ---------------------------------------------------------------------------------------------------------


def document(n: int) -> bytes:
    return b'{"n":%d,"text":"%b"}' % (n, b"lorem ipsum " * 20)


async def test_with_deltas_data_is_a_text_first_whole_then_a_patch(node: Node, ticks: Ticks) -> None:
    client = await connected(node)
    assert (await subscribed(client, "delta.a", delta="fossil"))["delta"] is True
    for n in (1, 2):
        await node.publish(Draft(["delta.a"], document(n)))
    ticks.end()
    first, second = received(client)
    assert first["data"] == document(1).decode()
    assert "delta" not in first
    assert second["delta"] is True
    assert len(second["data"]) < 50


async def test_who_did_not_ask_for_deltas_gets_the_data_itself(node: Node, ticks: Ticks) -> None:
    client = await connected(node)
    assert "delta" not in await subscribed(client, "delta.a")
    await node.publish(Draft(["delta.a"], document(1)))
    ticks.end()
    [publication] = received(client)
    assert publication["data"]["n"] == 1


async def test_where_the_rule_has_no_deltas_asking_for_them_changes_nothing(node: Node) -> None:
    client = await connected(node)
    assert "delta" not in await subscribed(client, "other", delta="fossil")


async def test_recovered_publications_are_a_chain_that_goes_on_live(node: Node, ticks: Ticks) -> None:
    for n in (1, 2, 3):
        await node.publish(Draft(["delta.a"], document(n)))
    client = await connected(node)
    result = await subscribed(client, "delta.a", delta="fossil", recover=True, offset=1, epoch="epoch-1")
    assert [publication.get("delta", False) for publication in result["publications"]] == [False, True]
    assert result["publications"][0]["data"] == document(2).decode()
    await node.publish(Draft(["delta.a"], document(4)))
    ticks.end()
    assert received(client)[0]["delta"] is True


async def test_after_a_recovery_of_nothing_the_next_one_is_whole(node: Node, ticks: Ticks) -> None:
    await node.publish(Draft(["delta.a"], document(1)))
    client = await connected(node)
    await subscribed(client, "delta.a", delta="fossil", recover=True, offset=1, epoch="epoch-1")
    await node.publish(Draft(["delta.a"], document(2)))
    ticks.end()
    assert "delta" not in received(client)[0]


async def test_what_bypasses_history_is_nobodys_base(node: Node, ticks: Ticks) -> None:
    """Somebody who recovers has not got it."""
    client = await connected(node)
    await subscribed(client, "delta.a", delta="fossil")
    for n, skip in ((1, False), (2, True), (3, False), (4, False)):
        await node.publish(Draft(["delta.a"], document(n), skip_history=skip))
    ticks.end()
    assert [publication.get("delta", False) for publication in received(client)] == [False, False, False, True]


# --- tags -----------------------------------------------------------------------------------------------------------

EU = {"key": "region", "cmp": "eq", "val": "eu"}


async def publish_tagged(node: Node) -> None:
    for region in ("eu", "us", "eu"):
        await node.publish(Draft(["tags.a"], b'"%b"' % region.encode(), tags={"region": region}))


async def test_a_filter_lets_through_what_has_the_tags(node: Node, ticks: Ticks) -> None:
    filtered, other = await connected(node), await connected(node)
    assert "delta" not in await subscribed(filtered, "tags.a", tf=EU, delta="fossil")
    await subscribed(other, "tags.a")
    await publish_tagged(node)
    ticks.end()
    assert [publication["offset"] for publication in received(filtered)] == [1, 3]
    assert [publication["offset"] for publication in received(other)] == [1, 2, 3]


async def test_what_is_filtered_out_of_a_recovery_is_no_gap(node: Node) -> None:
    await publish_tagged(node)
    client = await connected(node)
    result = await subscribed(client, "tags.a", tf=EU, recover=True, epoch="epoch-1")
    assert result["recovered"] is True
    assert [publication["offset"] for publication in result["publications"]] == [1, 3]


@pytest.mark.parametrize(
    ("channel", "tree"), [("other", EU), ("tags.a", {"op": "xor"}), ("tags.a", {"cmp": "zz", "key": "a"})]
)
async def test_a_filter_that_cannot_be_used_is_refused(node: Node, channel: str, tree: dict[str, Any]) -> None:
    client = await connected(node)
    [reply] = await client.send({"id": 2, "subscribe": {"channel": channel, "tf": tree}})
    assert reply["error"]["code"] == 107
    assert len(node.hub) == 0


# --- the last value -------------------------------------------------------------------------------------------------


async def test_a_cache_gives_the_last_publication_to_whoever_has_not_got_it(node: Node) -> None:
    for n in (b"1", b"2"):
        await node.publish(Draft(["cache.a"], n))
    result = await subscribed(await connected(node), "cache.a")
    assert result["recovered"] is True
    assert [publication["data"] for publication in result["publications"]] == [2]
    result = await subscribed(await connected(node), "cache.a", recover=True, offset=2, epoch="epoch-1")
    assert result["recovered"] is True
    assert "publications" not in result
    result = await subscribed(await connected(node), "cache.a", recover=True, offset=2, epoch="another")
    assert [publication["data"] for publication in result["publications"]] == [2]


async def test_an_empty_cache_has_nothing_to_recover(node: Node) -> None:
    result = await subscribed(await connected(node), "cache.a")
    assert "recovered" not in result
    result = await subscribed(await connected(node), "cache.a", flag=2)
    assert "recovered" not in result


# --- patterns -------------------------------------------------------------------------------------------------------


async def test_a_pattern_gets_its_channels_with_their_names_and_recovers_them(node: Node, ticks: Ticks) -> None:
    client = await connected(node, org="acme")
    result = await subscribed(client, "orders.acme.*")
    assert result["recoverable"] is True
    for channel in ("orders.acme.1", "orders.other.1", "orders.acme.2"):
        await node.publish(Draft([channel], b"1"))
    ticks.end()
    assert [publication["channel"] for publication in received(client)] == ["orders.acme.1", "orders.acme.2"]
    late = await connected(node, org="acme")
    result = await subscribed(late, "orders.acme.*", recover=True, offset=1, epoch="epoch-1")
    assert [publication["tags"]["channel"] for publication in result["publications"]] == ["orders.acme.2"]


async def test_a_pattern_never_reaches_channels_of_another_rule(node: Node, ticks: Ticks) -> None:
    client = await connected(node, roles=["boss"])
    await subscribed(client, "orders.#")
    await node.publish(Draft(["orders.secret.plan"], b"1"))
    await node.publish(Draft(["orders.x"], b"1"))
    ticks.end()
    assert [publication["channel"] for publication in received(client)] == ["orders.x"]


@pytest.mark.parametrize(
    "pattern", ["orders.*.*", "orders.#", "orders.acme.#", "*.acme.x", "#", "user.*", "orders.other.*"]
)
async def test_a_pattern_wider_than_the_right_is_refused(node: Node, pattern: str) -> None:
    client = await connected(node, org="acme")
    [reply] = await client.send({"id": 2, "subscribe": {"channel": pattern}})
    assert reply["error"]["code"] == 103


async def test_a_pattern_is_not_recovered_when_one_of_its_channels_was_trimmed(node: Node) -> None:
    for _ in range(6):
        await node.publish(Draft(["orders.acme.1"], b"1"))
    await node.publish(Draft(["orders.acme.2"], b"1"))
    client = await connected(node, org="acme")
    result = await subscribed(client, "orders.acme.*", recover=True, offset=0, epoch="epoch-1")
    assert "recovered" not in result
    assert "publications" not in result


# --- presence, joins and leaves -------------------------------------------------------------------------------------


async def test_presence_tells_who_is_subscribed(node: Node) -> None:
    ann, bob = await connected(node, info={"name": "Ann"}), await connected(node, sub="bob")
    for client in (ann, bob):
        await subscribed(client, "room.1")
    [reply] = await ann.send({"id": 3, "presence": {"channel": "room.1"}})
    assert reply["presence"]["presence"] == {
        ann.session.client_id: {
            "user": "ann",
            "client": ann.session.client_id,
            "conn_info": {"name": "Ann"},
        },
        bob.session.client_id: {"user": "bob", "client": bob.session.client_id},
    }
    bob.session.end()
    [reply] = await ann.send({"id": 3, "presence_stats": {"channel": "room.1"}})
    assert reply["presence_stats"] == {"num_clients": 1, "num_users": 1}
    await ann.send({"id": 4, "unsubscribe": {"channel": "room.1"}})
    [reply] = await ann.send({"id": 3, "presence": {"channel": "room.1"}})
    assert reply["presence"] == {"presence": {}}


@pytest.mark.parametrize("method", ["presence", "presence_stats"])
async def test_presence_is_not_available_where_the_rule_has_none(node: Node, method: str) -> None:
    client = await connected(node)
    [reply] = await client.send({"id": 2, method: {"channel": "loud.1"}})
    assert reply["error"]["code"] == 108


@pytest.mark.parametrize(
    ("channel", "request_", "told"),
    [("room.1", {"join_leave": True}, True), ("room.1", {}, False), ("loud.1", {}, True)],
)
async def test_joins_and_leaves_are_told_to_those_who_should_know(
    node: Node, ticks: Ticks, channel: str, request_: dict[str, Any], told: bool
) -> None:
    ann = await connected(node)
    await subscribed(ann, channel, **request_)
    ticks.end()
    own = ann.connection.take_messages()
    assert ([list(message["push"]) for message in own] == [["channel", "join"]]) is told
    bob = await connected(node, sub="bob")
    await subscribed(bob, channel)
    bob.session.end()
    ticks.end()
    seen = [message["push"] for message in ann.connection.take_messages()]
    if told:
        assert [push["join" if "join" in push else "leave"]["info"]["user"] for push in seen] == ["bob", "bob"]
        assert [next(key for key in push if key != "channel") for push in seen] == ["join", "leave"]
    else:
        assert seen == []


async def test_subscribers_may_publish_where_the_rule_says_so(node: Node) -> None:
    client = await connected(node)
    [reply] = await client.send({"id": 2, "publish": {"channel": "room.1", "data": 1}})
    assert reply["error"]["code"] == 103
    await subscribed(client, "room.1")
    [reply] = await client.send({"id": 3, "publish": {"channel": "room.1", "data": 1}})
    assert reply == {"id": 3, "publish": {}}


# --- how many patterns ------------------------------------------------------------------------------------------------


async def test_a_worker_takes_so_many_different_patterns_and_any_number_of_clients_on_them(ticks: Ticks) -> None:
    node = make_node(RULES, ticks=ticks, clock=ManualClock(time.time()), clients=Clients(max_patterns=2))
    one, other = await connected(node, roles=["boss"]), await connected(node, roles=["boss"])
    for pattern in ("orders.*.eu", "orders.#"):
        await subscribed(one, pattern)
        await subscribed(other, pattern)
    [refused] = await other.send({"id": 3, "subscribe": {"channel": "orders.*.us"}})
    assert refused["error"] == {"code": 106, "message": "limit exceeded"}
    one.session.end()
    other.session.end()
    await subscribed(await connected(node, roles=["boss"]), "orders.*.us")
