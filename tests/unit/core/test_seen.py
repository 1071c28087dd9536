"""Where a message has gone: each way it can end is told, and who got it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from notifier.config import ChannelRule, Duration, HistoryRule
from notifier.core.node import Node
from notifier.core.record import Record
from notifier.core.seen import KEPT, MOST_CONNECTIONS, ChannelFate, explain
from notifier.errors import Rejected
from notifier.testing import Client, ManualClock, make_node

HISTORY = HistoryRule(size=10, ttl=Duration(3600))
RULES = [
    ChannelRule(match="plain.*", subscribe=["anyone"]),
    ChannelRule(match="news.#", history=HISTORY, tag_filter=True, wildcard=True, subscribe=["anyone"]),
]


@pytest.fixture
def node() -> Node:
    return make_node(RULES, clock=ManualClock(time.time()))


def take(node: Node, offset: int, channel: str = "news.1", body: bytes = b"1", **fields: Any) -> None:
    node.feed.take(Record(offset, channel, body, **fields), node.clock.time())


def only(node: Node, message_id: str = "m1", offset: int = 0) -> ChannelFate:
    [record] = explain(node, message_id, offset).records
    [channel] = record.channels
    return channel


async def subscribed(node: Node, channel: str, **fields: Any) -> Client:
    client = Client(node)
    answers = await client.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": channel, **fields}})
    assert "subscribe" in answers[1], answers
    return client


async def test_who_got_it_and_by_which_rule(node: Node) -> None:
    client = await subscribed(node, "news.1")
    by_pattern = await subscribed(node, "news.*")
    take(node, 5, message_id="m1")
    told = only(node)
    assert (told.rule, told.match, told.outcome, told.written) == (1, "news.#", "delivered", 2)
    assert {each.client for each in told.connections if each.got} == {
        client.session.client_id, by_pattern.session.client_id
    }  # fmt: skip
    assert only(node, "", offset=5) == told


async def test_who_came_later_did_not_get_it_unless_it_recovered(node: Node) -> None:
    await subscribed(node, "news.1")
    take(node, 5)
    take(node, 6, message_id="m1")
    await subscribed(node, "news.1")
    await subscribed(node, "news.1", recover=True, offset=5, epoch=node.history.epoch)
    first, later, recovered = only(node).connections
    assert (first.got, first.recovered) == (True, False)
    assert (recovered.got, recovered.recovered) == (True, True)
    assert (later.got, later.why) == (False, "subscribed later, at 6")


async def test_a_filter_that_does_not_accept_it_is_the_reason(node: Node) -> None:
    await subscribed(node, "news.1", tf={"op": "", "cmp": "eq", "key": "lang", "val": "de"})
    take(node, 5, message_id="m1", tags={"lang": "en"})
    [told] = only(node).connections
    assert (told.got, told.why) == (False, "its tag filter does not accept it")
    assert only(node).written == 0


@pytest.mark.parametrize(
    ("channel", "fields", "words"),
    [
        ("nowhere", {}, "no rule"),
        ("news.1", {"ttl_s": 0.0}, "expired"),
    ],
)
def test_why_it_was_not_delivered(node: Node, channel: str, fields: dict[str, Any], words: str) -> None:
    take(node, 5, channel, message_id="m1", **fields)
    assert words in only(node).outcome


def test_repeats_and_old_versions_are_told(node: Node) -> None:
    take(node, 5, message_id="m1")
    take(node, 6, message_id="m1")
    first, second = explain(node, "m1", 0).records
    assert (first.channels[0].outcome, second.channels[0].outcome) == ("delivered", "a repeat of a message id")
    take(node, 7, message_id="m2", version=2)
    take(node, 8, message_id="m3", version=1)
    assert "older version" in only(node, "m3").outcome


def test_what_was_rejected_is_told_with_the_reason(node: Node) -> None:
    with pytest.raises(Rejected):
        take(node, 5, body=b"{", message_id="m1")
    [record] = explain(node, "m1", 0).records
    assert record.rejected.startswith("not_json")
    assert record.channels == []


def test_several_channels_each_have_their_own(node: Node) -> None:
    take(node, 5, "news.1", channels="plain.1 nowhere", message_id="m1")
    [record] = explain(node, "m1", 0).records
    assert [(each.channel, each.rule) for each in record.channels] == [("news.1", 1), ("plain.1", 0), ("nowhere", -1)]


async def test_only_so_much_is_remembered_and_told(node: Node) -> None:
    for _ in range(MOST_CONNECTIONS + 5):
        await subscribed(node, "plain.1")
    take(node, 1, "plain.1", message_id="m1")
    told = only(node)
    assert (len(told.connections), told.more, told.written) == (MOST_CONNECTIONS, 5, MOST_CONNECTIONS + 5)
    for offset in range(2, KEPT + 2):
        take(node, offset, "nowhere")
    answer = explain(node, "m1", 0)
    assert answer.records == []
    assert answer.remembers_from == 2
