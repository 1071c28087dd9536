"""Subscriptions that the server gives when a client connects, and what becomes of them."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from notifier.config import ChannelRule, Clients, Connect, Duration, HistoryRule
from notifier.core.node import Node
from notifier.core.orders import Order, Revocation
from notifier.core.record import Draft
from notifier.testing import SECRET, Client, ManualClock, Ticks, make_node

KEPT = HistoryRule(size=5, ttl=Duration(3600))
RULES = [
    ChannelRule(match="user.*", history=KEPT, subscribe=["user.{sub}"]),
    ChannelRule(match="news.*", history=KEPT, join_leave="always", subscribe=["anyone"]),
    ChannelRule(match="closed.*", history=KEPT),
]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time.time())


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def node(clock: ManualClock, ticks: Ticks) -> Node:
    return make_node(
        RULES, clock=clock, ticks=ticks, connect=Connect(subscribe=["user.{sub}"]), clients=Clients(max_channels=3)
    )


def token(user: str = "ann", **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600, **claims}, SECRET, algorithm="HS256")


async def connect(client: Client, text: str, **request: Any) -> dict[str, Any]:
    reply = (await client.send({"id": 1, "connect": {"token": text, **request}}))[0]
    return reply.get("connect") or reply


async def test_a_user_is_subscribed_to_the_channels_of_the_configuration_and_of_the_token(
    node: Node, ticks: Ticks
) -> None:
    client = Client(node)
    result = await connect(client, token(channels=["closed.1"]))
    assert set(result["subs"]) == {"user.ann", "closed.1"}
    assert result["subs"]["user.ann"] == {"recoverable": True, "positioned": True, "epoch": "epoch-1"}
    await node.publish(Draft(["closed.1"], b"1"))
    ticks.end()
    assert [message["push"]["channel"] for message in client.connection.take_messages()] == ["closed.1"]


async def test_nobody_in_particular_gets_none(node: Node) -> None:
    client = Client(node)
    [reply] = await client.send({"id": 1, "connect": {}})
    assert "subs" not in reply["connect"]


async def test_what_was_missed_comes_with_the_reply(node: Node) -> None:
    for n in (b"1", b"2"):
        await node.publish(Draft(["user.ann"], n))
    result = await connect(Client(node), token(), subs={"user.ann": {"recover": True, "offset": 1, "epoch": "epoch-1"}})
    found = result["subs"]["user.ann"]
    assert found["recovered"] is True
    assert [publication["data"] for publication in found["publications"]] == [2]


async def test_options_of_the_token_go_with_the_subscription(node: Node, ticks: Ticks) -> None:
    subs = {
        "news.1": {"data": {"hello": 1}, "info": {"seat": 5}, "override": {"force_push_join_leave": {"value": True}}}
    }
    client = Client(node)
    result = await connect(client, token(subs=subs))
    assert result["subs"]["news.1"]["data"] == {"hello": 1}
    ticks.end()
    [join] = client.connection.take_messages()
    assert join["push"]["join"]["info"]["chan_info"] == {"seat": 5}


@pytest.mark.parametrize(("claims", "code"), [({"channels": ["unknown"]}, 102), ({"channels": ["bad name"]}, 107)])
async def test_a_channel_that_cannot_be_had_fails_the_connect(node: Node, claims: dict[str, Any], code: int) -> None:
    client = Client(node)
    reply = await connect(client, token(**claims))
    assert reply["error"]["code"] == code
    assert len(node.hub) == 0


async def test_more_channels_than_allowed_end_the_connection(node: Node) -> None:
    client = Client(node)
    await client.send({"id": 1, "connect": {"token": token(channels=[f"news.{n}" for n in range(4)])}})
    assert client.closed_with == 3505


async def test_a_refreshed_token_with_other_channels_makes_the_client_come_back(node: Node) -> None:
    client = Client(node)
    await connect(client, token(channels=["news.1"]))
    [reply] = await client.send({"id": 2, "refresh": {"token": token(channels=["news.1"])}})
    assert reply["refresh"]["expires"] is True
    await client.send({"id": 3, "refresh": {"token": token(channels=["news.2"])}})
    assert client.closed_with == 3010


async def test_when_the_log_is_made_anew_the_client_comes_back_and_is_told(node: Node) -> None:
    client = Client(node)
    await connect(client, token())
    node.feed.begin(0)
    assert client.closed_with == 3010


async def test_a_server_side_subscription_that_runs_out_ends_the_connection(node: Node, clock: ManualClock) -> None:
    client = Client(node)
    await connect(client, token(exp=int(clock.time()) + 100_000))
    session = client.session
    session.subscriptions["user.ann"].expires_at = clock.time() + 10
    node.watch_expiry(session)
    clock.advance(10 + node.limits.expired_grace + 2)
    session.awaits_pong = False
    node.tick()
    assert client.closed_with == 3006


async def test_expire_at_in_the_past_is_told_apart_from_an_expired_token(node: Node) -> None:
    client = Client(node)
    reply = await connect(client, token(expire_at=int(time.time()) - 100))
    assert reply["error"]["code"] == 110


async def test_a_token_that_is_revoked_while_its_recovery_waits_does_not_connect(node: Node) -> None:
    client = Client(node)

    async def catch_up() -> None:
        await node.order(Order(revoke=Revocation(user="ann", before=time.time() + 1)))

    node.log.catch_up = catch_up  # type: ignore[method-assign]
    reply = await connect(client, token("ann"), subs={"user.ann": {"recover": True, "offset": 9, "epoch": "epoch-1"}})
    assert reply["error"]["code"] == 109
    assert not node.sessions
    assert not len(node.hub)


@pytest.mark.parametrize("user", ["x" * 251, "an\x7fn"])
async def test_a_user_whose_id_is_no_word_of_a_channel_has_no_channel_and_connects(node: Node, user: str) -> None:
    result = await connect(Client(node), token(user))
    assert "subs" not in result
    assert result["client"]
