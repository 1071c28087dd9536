"""What one connection may ask for: refused first, and then no longer borne."""

from __future__ import annotations

import pytest

from notifier.config import ChannelRule, Clients, Duration, HistoryRule
from notifier.core import allowance
from notifier.core.node import Node
from notifier.core.ports import Row
from notifier.protocol.codes import ConnectionEnded
from notifier.testing import Client, ManualClock, make_node

WHO = {"rpc": {"method": "notifier.time"}}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def node(clock: ManualClock) -> Node:
    return make_node(clock=clock, clients=Clients(command_rate=10, command_burst=20))


async def connected(node: Node) -> Client:
    client = Client(node)
    await client.send({"id": 1, "connect": {}})
    return client


async def ask(client: Client, count: int) -> None:
    for number in range(2, count + 2):
        if not client.closed_with:
            await client.send({"id": number, **WHO})


async def test_whoever_goes_on_when_refused_is_disconnected(node: Node) -> None:
    client = await connected(node)
    await ask(client, 19 + 20)
    assert node.stats.errors[111] == 20
    assert not client.closed_with
    await ask(client, 1)
    assert (client.closed_with, node.sessions) == (3013, {})


async def test_a_little_too_much_for_long_is_refused_and_borne(node: Node, clock: ManualClock) -> None:
    client = await connected(node)
    for _ in range(60):
        await ask(client, 15)
        clock.advance(1)
    assert not client.closed_with
    assert node.stats.errors[111] > 100


async def test_what_is_no_command_is_counted_at_the_same_rate(node: Node, clock: ManualClock) -> None:
    client = await connected(node)
    for _ in range(20):
        allowance.exceed(client.session)
    clock.advance(1)
    for _ in range(10):
        allowance.exceed(client.session)
    with pytest.raises(ConnectionEnded, match="3013"):
        allowance.exceed(client.session)


async def test_without_a_rate_nothing_is_too_much() -> None:
    node = make_node(clients=Clients(command_rate=0, command_burst=1))
    client = await connected(node)
    for _ in range(1000):
        allowance.exceed(client.session)


async def test_looking_through_all_channels_counts_as_many_commands(clock: ManualClock) -> None:
    kept = HistoryRule(size=1, ttl=Duration(3600))
    rule = ChannelRule(match="#", history=kept, wildcard=True, subscribe=["anyone"])
    node = make_node([rule], clock=clock, clients=Clients(command_rate=10, command_burst=20))
    client = await connected(node)
    for number in range(5000):
        node.history._quiet[f"a.{number}"] = 1
    since = {"recover": True, "offset": 0, "epoch": node.history.epoch}
    asked = [{"subscribe": {"channel": f"*.{number}", **since}} for number in range(6)]
    answers = [(await client.send({"id": number, **one}))[0] for number, one in enumerate(asked, 2)]
    assert ["subscribe" in answer for answer in answers] == [True] * 4 + [False] * 2
    assert node.stats.errors[111] == 2


async def test_who_asks_for_much_waits_behind_others_until_it_has_been_quiet(node: Node, clock: ManualClock) -> None:
    client = await connected(node)
    assert allowance.row_of(client.session) is Row.QUIET
    await ask(client, 12)
    assert allowance.row_of(client.session) is Row.BUSY
    await ask(client, 13)
    assert allowance.row_of(client.session) is Row.FLOODING
    clock.advance(2)
    assert allowance.row_of(client.session) is Row.QUIET
    for _ in range(5):
        allowance.exceed(client.session)
    assert allowance.row_of(client.session) is Row.FLOODING


async def test_without_a_rate_all_stand_in_one_row() -> None:
    client = await connected(make_node(clients=Clients(command_rate=0)))
    await ask(client, 500)
    assert allowance.row_of(client.session) is Row.QUIET
