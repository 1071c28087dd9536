"""Commands of a client and what comes back (protocol.md sections 2 and 3)."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import jwt
import pytest

from notifier.config import ChannelRule, Clients, Duration, HistoryRule
from notifier.core.hub import Manner
from notifier.core.node import AT_ONCE, Node
from notifier.core.orders import Order, Revocation
from notifier.core.record import Draft
from notifier.errors import Unavailable
from notifier.protocol.encoding import JSON_WEBSOCKET
from notifier.testing import OPEN_RULE, SECRET, Client, ManualClock, Ticks, make_node

KEPT = HistoryRule(size=5, ttl=Duration(3600))
RULES = [
    ChannelRule(match="user.*", history=KEPT, subscribe=["user.{sub}"], publish=["role:service"]),
    ChannelRule(match="plain.*", subscribe=["anyone"], publish=["anyone"]),
    ChannelRule(match="token.*", history=KEPT, subscribe=["token"]),
    OPEN_RULE,
]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time.time())


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def node(clock: ManualClock, ticks: Ticks) -> Node:
    return make_node(RULES, clock=clock, ticks=ticks, clients=Clients(max_channels=3))


def token(user: str = "ann", **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600, **claims}, SECRET, algorithm="HS256")


async def connected(node: Node, text: str = "") -> Client:
    client = Client(node)
    request = {"token": text} if text else {}
    [reply] = await client.send({"id": 1, "connect": request})
    assert "connect" in reply
    return client


def error_of(replies: list[dict[str, Any]]) -> int:
    [reply] = replies
    code: int = reply["error"]["code"]
    assert reply["error"]["message"]
    return code


# --- connect --------------------------------------------------------------------------------------------------------


async def test_connect_tells_the_client_its_id_the_version_and_the_pings(node: Node) -> None:
    client = Client(node)
    [reply] = await client.send({"id": 1, "connect": {"name": "js"}})
    assert reply == {"id": 1, "connect": {"client": "client-1", "version": "0", "ping": 25, "pong": True}}


async def test_a_connection_whose_token_expires_says_when(node: Node) -> None:
    client = Client(node)
    [reply] = await client.send({"id": 1, "connect": {"token": token(exp=int(time.time()) + 100)}})
    assert reply["connect"]["expires"] is True
    assert 90 <= reply["connect"]["ttl"] <= 100


async def test_several_commands_of_a_frame_are_answered_in_order(node: Node) -> None:
    client = Client(node)
    replies = await client.send(
        {"id": 1, "connect": {}},
        {"id": 2, "subscribe": {"channel": "a"}},
        {"id": 3, "subscribe": {"channel": "b"}},
        {"id": 4, "subscribe": {"channel": "c"}},
    )
    assert [reply["id"] for reply in replies] == [1, 2, 3, 4]


async def test_an_invalid_token_closes_with_3500_and_the_rest_of_the_frame_is_not_answered(node: Node) -> None:
    client = Client(node)
    replies = await client.send({"id": 1, "connect": {"token": "x.y.z"}}, {"id": 2, "subscribe": {"channel": "a"}})
    assert replies == []
    assert client.closed_with == 3500


async def test_an_expired_token_is_an_error_and_the_rest_of_the_frame_is_dropped(node: Node) -> None:
    client = Client(node)
    expired = token(exp=int(time.time()) - 100)
    replies = await client.send({"id": 1, "connect": {"token": expired}}, {"id": 2, "subscribe": {"channel": "a"}})
    assert error_of(replies) == 109
    assert client.closed_with == 0
    await client.send({"id": 3, "subscribe": {"channel": "a"}})
    assert client.closed_with == 3501


async def test_after_a_failed_connect_the_connection_does_not_linger(node: Node, clock: ManualClock) -> None:
    client = Client(node)
    await client.send({"id": 1, "connect": {"token": token(exp=int(time.time()) - 100)}})
    clock.advance(6)
    node.tick()
    assert client.closed_with == 3502


async def test_without_a_token_and_without_anonymous_access_the_connection_ends(clock: ManualClock) -> None:
    client = Client(make_node(RULES, clock=clock, anonymous=False))
    await client.send({"id": 1, "connect": {}})
    assert client.closed_with == 3501
    assert client.connection.disconnect is not None
    assert "token" in client.connection.disconnect.reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        '{"id":1}',
        '{"id":-1,"connect":5}',
        '{"id":1,"connect":{}}\n\n{"id":2,"subscribe":{"channel":"a"}}',
        '{"id":1,"connect":{}}\n{"id":2}',
        '{"id":1,"connect":{}}\n{"id":2,"ping":{}}',
        '{"id":1,"connect":{}}\n{"id":2,"connect":{}}',
        '{"id":1,"connect":{}}\n{"id":2,"subscribe":{}}',
        '{"id":1,"connect":{}}\n{"id":2,"unsubscribe":{}}',
        '{"id":1,"connect":{}}\n{"id":2,"publish":{"data":1}}',
        '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"a"},"unsubscribe":{"channel":"a"}}',
        '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"a","delta":"zip"}}',
        '{"id":1,"connect":{}}\n{}',
        '{"id":1,"connect":{}}\n{"id":2,"refresh":{}}',
        '{"id":2,"subscribe":{"channel":"a"}}',
        "{}",
        "[" * 60000,
    ],
)
async def test_violations_of_the_protocol_end_the_connection_with_3501_and_a_reason(node: Node, text: str) -> None:
    client = Client(node)
    await client.send_text(text)
    assert client.closed_with == 3501
    assert client.connection.disconnect is not None
    assert len(client.connection.disconnect.reason) > len("bad request: ")


async def test_unknown_keys_are_ignored(node: Node) -> None:
    client = Client(node)
    [reply] = await client.send({"id": 1, "connect": {"flag": 1, "whatever": [1]}, "more": None})
    assert "connect" in reply


# --- pings ----------------------------------------------------------------------------------------------------------


async def test_a_client_that_answers_pings_stays(node: Node, clock: ManualClock) -> None:
    client = await connected(node)
    for _ in range(120):
        clock.advance(1)
        node.tick()
        if {} in client.connection.take_messages():
            await client.send({})
    assert client.closed_with == 0
    assert node.stats.disconnects.total() == 0


async def test_a_client_that_does_not_answer_is_disconnected_in_time(node: Node, clock: ManualClock) -> None:
    client = await connected(node)
    waited = 0
    while not client.closed_with:
        clock.advance(1)
        waited += 1
        node.tick()
        assert waited <= 25 + 8 + 1
    assert client.closed_with == 3012


async def test_a_pong_that_waits_behind_a_command_is_not_missing(node: Node, clock: ManualClock) -> None:
    """The client has answered; but what it asked for before that is waited for here."""
    client = await connected(node)
    caught_up = asyncio.Event()
    node.log.catch_up = caught_up.wait  # type: ignore[method-assign, assignment]
    ahead = {"id": 2, "subscribe": {"channel": "a", "recover": True, "offset": 9, "epoch": "epoch-1"}}
    waiting = asyncio.create_task(client.send(ahead))
    await asyncio.sleep(0)
    for _ in range(60):
        clock.advance(1)
        node.tick()
    assert client.closed_with == 0
    caught_up.set()
    await waiting
    for _ in range(60):
        clock.advance(1)
        node.tick()
    assert client.closed_with == 3012


async def test_a_silent_newcomer_is_stale_after_ten_seconds(node: Node, clock: ManualClock) -> None:
    client = Client(node)
    clock.advance(9)
    node.tick()
    assert client.closed_with == 0
    clock.advance(2)
    node.tick()
    assert client.closed_with == 3502


# --- subscribe ------------------------------------------------------------------------------------------------------


async def test_a_plain_channel_has_an_empty_reply(node: Node) -> None:
    client = await connected(node)
    assert await client.send({"id": 2, "subscribe": {"channel": "plain.x"}}) == [{"id": 2, "subscribe": {}}]


async def test_a_channel_with_history_gives_a_position_to_recover_from(node: Node) -> None:
    client = await connected(node)
    await node.publish(Draft(["other"], b"1"))
    [reply] = await client.send({"id": 2, "subscribe": {"channel": "a", "flag": 1}})
    assert reply["subscribe"] == {"recoverable": True, "positioned": True, "epoch": "epoch-1", "offset": 1}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"channel": "user.bob"}, 103),
        ({"channel": "token.x"}, 103),
        ({"channel": "token.x", "token": "rubbish"}, 103),
        ({"channel": "a" * 256}, 107),
        ({"channel": "a b"}, 107),
        ({"channel": "#"}, 103),
        ({"channel": "a", "type": 1}, 103),
    ],
)
async def test_a_refused_subscription_is_an_error_and_the_connection_goes_on(
    node: Node, request_: dict[str, Any], code: int
) -> None:
    client = await connected(node, token("ann"))
    assert error_of(await client.send({"id": 2, "subscribe": request_})) == code
    assert client.closed_with == 0
    assert len(node.hub) == 0


async def test_unknown_and_forbidden_channels_are_told_apart_by_nothing() -> None:
    client = await connected(make_node([ChannelRule(match="secret.*")]))
    [one] = await client.send({"id": 2, "subscribe": {"channel": "secret.x"}})
    [other] = await client.send({"id": 2, "subscribe": {"channel": "missing"}})
    assert one == other


async def test_nor_by_the_time_that_the_answer_takes() -> None:
    """S47. Both ways are the same: by turns, so that what else the machine does falls on both alike."""
    client = await connected(
        make_node([ChannelRule(match="secret.*")], clients=Clients(command_rate=0), clock=ManualClock())
    )
    took: dict[str, list[int]] = {"secret.x": [], "missing.x": []}
    for _ in range(2000):
        for channel, times in took.items():
            began = time.perf_counter_ns()
            await client.send({"id": 2, "subscribe": {"channel": channel}})
            times.append(time.perf_counter_ns() - began)
    forbidden, unknown = (statistics.median(times) for times in took.values())
    assert 0.7 < forbidden / unknown < 1.4


async def test_the_second_subscribe_of_a_channel_is_refused_and_the_first_stays(node: Node) -> None:
    client = await connected(node)
    await client.send({"id": 2, "subscribe": {"channel": "a"}})
    assert error_of(await client.send({"id": 3, "subscribe": {"channel": "a"}})) == 105
    assert node.hub.subscribers("a") == 1


async def test_the_number_of_channels_is_limited(node: Node) -> None:
    client = await connected(node)
    for number in range(3):
        await client.send({"id": 2, "subscribe": {"channel": f"c{number}"}})
    assert error_of(await client.send({"id": 3, "subscribe": {"channel": "c4"}})) == 106


async def test_a_client_that_was_away_gets_what_it_missed_with_the_offset_it_asked_from(node: Node) -> None:
    for n in range(1, 4):
        await node.publish(Draft(["a"], b"%d" % n))
    client = await connected(node)
    request = {"channel": "a", "recover": True, "offset": 1, "epoch": "epoch-1"}
    [reply] = await client.send({"id": 2, "subscribe": request})
    assert reply["subscribe"] == {
        "recoverable": True,
        "positioned": True,
        "epoch": "epoch-1",
        "offset": 1,
        "was_recovering": True,
        "recovered": True,
        "publications": [{"data": 2, "offset": 2}, {"data": 3, "offset": 3}],
    }


async def test_where_nothing_was_missed_the_position_becomes_fresh(node: Node) -> None:
    await node.publish(Draft(["a"], b"1"))
    for _ in range(9):
        await node.publish(Draft(["other"], b"1"))
    client = await connected(node)
    request = {"channel": "a", "recover": True, "offset": 1, "epoch": "epoch-1"}
    [reply] = await client.send({"id": 2, "subscribe": request})
    assert reply["subscribe"]["recovered"] is True
    assert "publications" not in reply["subscribe"]
    assert reply["subscribe"]["offset"] == 10


@pytest.mark.parametrize("position", [{"offset": 1, "epoch": "epoch-1"}, {"offset": 9, "epoch": "_"}, {"offset": 99}])
async def test_a_position_that_cannot_be_recovered_gives_nothing_and_the_end_of_the_log(
    node: Node, position: dict[str, Any]
) -> None:
    """F-C6."""
    for n in range(9):
        await node.publish(Draft(["user.ann"], b"%d" % n))
    client = await connected(node, token("ann"))
    [reply] = await client.send({"id": 2, "subscribe": {"channel": "user.ann", "recover": True, **position}})
    assert reply["subscribe"] == {
        "recoverable": True,
        "positioned": True,
        "epoch": "epoch-1",
        "offset": 9,
        "was_recovering": True,
    }


async def test_a_client_that_would_rather_fail_gets_112(node: Node) -> None:
    client = await connected(node)
    request = {"channel": "a", "recover": True, "offset": 5, "epoch": "x", "flag": 3}
    assert error_of(await client.send({"id": 2, "subscribe": request})) == 112
    assert node.hub.subscribers("a") == 0


async def test_a_position_ahead_of_this_worker_waits_until_it_has_caught_up(node: Node) -> None:
    """The client was on a node that had read further (design.md, history and recovery)."""
    client = await connected(node)
    real_catch_up = node.log.catch_up

    async def catch_up() -> None:
        await node.publish(Draft(["a"], b'"read now"'))
        await real_catch_up()

    node.log.catch_up = catch_up  # type: ignore[method-assign]
    [reply] = await client.send(
        {"id": 2, "subscribe": {"channel": "a", "recover": True, "offset": 1, "epoch": "epoch-1"}}
    )
    assert reply["subscribe"]["recovered"] is True
    assert reply["subscribe"]["offset"] == 1


async def test_a_position_in_a_log_that_this_worker_does_not_know_yet_waits_until_it_has_caught_up(node: Node) -> None:
    """The log was made anew, and the client comes from a node that has seen it already."""
    client = await connected(node)

    async def catch_up() -> None:
        node.feed.begin(0)
        node.feed.named("epoch-2")

    node.log.catch_up = catch_up  # type: ignore[method-assign]
    [reply] = await client.send(
        {"id": 2, "subscribe": {"channel": "a", "recover": True, "offset": 0, "epoch": "epoch-2"}}
    )
    assert reply["subscribe"]["recovered"] is True
    assert reply["subscribe"]["epoch"] == "epoch-2"


async def test_while_the_log_is_away_a_position_ahead_of_this_worker_is_not_called_lost(node: Node) -> None:
    """F-N12: What this worker has not read it cannot deny: the client may recover on another node, or here later."""
    client = await connected(node)

    async def catch_up() -> None:
        raise Unavailable("the log: not connected")

    node.log.catch_up = catch_up  # type: ignore[method-assign]
    [reply] = await client.send(
        {"id": 2, "subscribe": {"channel": "a", "recover": True, "offset": 9, "epoch": "epoch-1"}}
    )
    assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}
    assert node.hub.subscribers("a") == 0


async def test_while_the_log_is_read_for_the_first_time_subscribing_is_a_temporary_error(node: Node) -> None:
    client = await connected(node)
    node.log.ready = False  # type: ignore[misc]
    [reply] = await client.send({"id": 2, "subscribe": {"channel": "a"}})
    assert reply["error"] == {"code": 100, "message": "internal server error", "temporary": True}


async def test_publications_during_a_recovering_subscribe_come_exactly_once(node: Node, ticks: Ticks) -> None:
    """F-C10."""
    client = await connected(node)
    await node.publish(Draft(["a"], b"1"))
    node.hub.join("a", Client(node).connection, Manner(JSON_WEBSOCKET))
    await node.publish(Draft(["a"], b"2"))  # waits in the hub for the tick's end
    request = {"channel": "a", "recover": True, "offset": 0, "epoch": "epoch-1"}
    [reply] = await client.send({"id": 2, "subscribe": request})
    await node.publish(Draft(["a"], b"3"))
    ticks.end()
    assert [p["data"] for p in reply["subscribe"]["publications"]] == [1, 2]
    assert [m["push"]["pub"]["data"] for m in client.connection.take_messages()] == [3]


# --- tokens for channels --------------------------------------------------------------------------------------------


async def test_a_token_for_the_channel_opens_it_until_it_expires(node: Node, clock: ManualClock) -> None:
    client = await connected(node, token("ann"))
    until = int(time.time()) + 10
    text = token("ann", channel="token.x", exp=until)
    [reply] = await client.send({"id": 2, "subscribe": {"channel": "token.x", "token": text}})
    assert reply["subscribe"]["expires"] is True
    for _ in range(40):
        clock.advance(1)
        node.tick()
        messages = client.connection.take_messages()
        if {} in messages:
            await client.send({})
        if pushed := [message["push"] for message in messages if "push" in message]:
            break
    assert pushed == [{"channel": "token.x", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}]
    assert clock.time() - until >= 25


@pytest.mark.parametrize("wrong", [{"user": "bob"}, {"channel": "token.y"}, {"channel": ""}])
async def test_a_token_for_somebody_or_something_else_opens_nothing(node: Node, wrong: dict[str, str]) -> None:
    client = await connected(node, token("ann"))
    text = token(wrong.get("user", "ann"), channel=wrong.get("channel", "token.x"))
    assert error_of(await client.send({"id": 2, "subscribe": {"channel": "token.x", "token": text}})) == 103


async def test_a_subscription_is_prolonged_by_sub_refresh(node: Node) -> None:
    client = await connected(node, token("ann"))
    await client.send({"id": 2, "subscribe": {"channel": "token.x", "token": token("ann", channel="token.x")}})
    longer = token("ann", channel="token.x", exp=int(time.time()) + 9000)
    [reply] = await client.send({"id": 3, "sub_refresh": {"channel": "token.x", "token": longer}})
    assert 8900 < reply["sub_refresh"]["ttl"] <= 9000


async def test_a_subscription_token_cannot_connect(node: Node) -> None:
    client = Client(node)
    await client.send({"id": 1, "connect": {"token": token("ann", channel="token.x")}})
    assert client.closed_with == 3500


# --- refresh --------------------------------------------------------------------------------------------------------


async def test_an_expired_connection_ends_after_the_grace_and_a_refreshed_one_does_not(
    node: Node, clock: ManualClock
) -> None:
    short = token("ann", exp=int(time.time()) + 10)
    gone, kept = await connected(node, short), await connected(node, short)
    [reply] = await kept.send({"id": 2, "refresh": {"token": token("ann")}})
    assert reply["refresh"]["expires"] is True
    for _ in range(60):
        clock.advance(1)
        node.tick()
        for client in (gone, kept):
            if {} in client.connection.take_messages():
                await client.send({})
    assert gone.closed_with == 3005
    assert kept.closed_with == 0


async def test_what_a_refreshed_token_no_longer_allows_ends(node: Node) -> None:
    node.rules._all[0] = make_node([ChannelRule(match="user.*", history=KEPT, subscribe=["role:support"])]).rules._all[
        0
    ]
    client = await connected(node, token("ann", roles=["support"]))
    await client.send({"id": 2, "subscribe": {"channel": "user.bob"}})
    messages = await client.send({"id": 3, "refresh": {"token": token("ann")}})
    assert {"push": {"channel": "user.bob", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}} in messages
    assert node.hub.subscribers("user.bob") == 0


@pytest.mark.parametrize(
    ("text", "code"), [(token("bob"), 3500), ("rubbish", 3500), (token("ann", exp=int(time.time()) - 99), 3005)]
)
async def test_a_refresh_that_fails_ends_the_connection(node: Node, text: str, code: int) -> None:
    client = await connected(node, token("ann"))
    await client.send({"id": 2, "refresh": {"token": text}})
    assert client.closed_with == code


# --- unsubscribe, publish, history ----------------------------------------------------------------------------------


async def test_after_the_reply_to_unsubscribe_nothing_of_the_channel_comes(node: Node, ticks: Ticks) -> None:
    client = await connected(node)
    await client.send({"id": 2, "subscribe": {"channel": "a"}})
    await node.publish(Draft(["a"], b"1"))
    messages = await client.send({"id": 3, "unsubscribe": {"channel": "a"}})
    await node.publish(Draft(["a"], b"2"))
    ticks.end()
    assert [next(iter(message)) for message in messages] == ["push", "id"]
    assert client.connection.take_messages() == []
    assert await client.send({"id": 4, "unsubscribe": {"channel": "a"}}) == [{"id": 4, "unsubscribe": {}}]


async def test_a_publication_of_a_client_carries_who_made_it(node: Node, ticks: Ticks) -> None:
    publisher, reader = await connected(node, token("ann", info={"name": "Ann"})), await connected(node)
    await reader.send({"id": 2, "subscribe": {"channel": "a"}})
    assert await publisher.send({"id": 2, "publish": {"channel": "a", "data": {"x": [1]}}}) == [
        {"id": 2, "publish": {}}
    ]
    ticks.end()
    [message] = reader.connection.take_messages()
    assert message["push"]["pub"] == {
        "data": {"x": [1]},
        "info": {"user": "ann", "client": "client-1", "conn_info": {"name": "Ann"}},
        "offset": 1,
    }


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"channel": "user.ann", "data": 1}, 103),
        ({"channel": "a"}, 107),
        ({"channel": "a", "data": "x" * 65536}, 107),
        ({"channel": "a b", "data": 1}, 107),
    ],
)
async def test_a_refused_publish_is_an_error(node: Node, request_: dict[str, Any], code: int) -> None:
    client = await connected(node, token("ann"))
    assert error_of(await client.send({"id": 2, "publish": request_})) == code
    assert node.history.end == 0


async def test_publishing_while_the_log_is_away_is_a_temporary_error(node: Node) -> None:
    async def append(draft: Draft) -> int:
        raise Unavailable("away")

    node.log.append = append  # type: ignore[method-assign]
    client = await connected(node)
    [reply] = await client.send({"id": 2, "publish": {"channel": "a", "data": 1}})
    assert reply["error"]["temporary"] is True
    assert client.closed_with == 0


@pytest.mark.parametrize(
    ("request_", "data"),
    [
        ({"limit": 2}, [1, 2]),
        ({"limit": 2, "reverse": True}, [5, 4]),
        ({"limit": 10, "since": {"offset": 3, "epoch": "epoch-1"}}, [4, 5]),
        ({"limit": 10, "since": {"offset": 3}, "reverse": True}, [2, 1]),
        ({"limit": 10, "since": {"offset": 5, "epoch": "epoch-1"}}, []),
        ({"limit": -1}, [1, 2, 3, 4, 5]),
        ({}, []),
    ],
)
async def test_history_pages(node: Node, request_: dict[str, Any], data: list[int]) -> None:
    for n in range(1, 6):
        await node.publish(Draft(["a"], b"%d" % n))
    client = await connected(node)
    [reply] = await client.send({"id": 2, "history": {"channel": "a", **request_}})
    assert [publication["data"] for publication in reply["history"]["publications"]] == data
    assert reply["history"]["epoch"] == "epoch-1"
    assert reply["history"]["offset"] == 5


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"channel": "plain.x"}, 108),
        ({"channel": "user.bob"}, 103),
        ({"channel": "a", "since": {"offset": 1, "epoch": "other"}}, 112),
        ({"channel": "a", "since": {"offset": 0}, "reverse": True}, 107),
    ],
)
async def test_a_refused_history_is_an_error(node: Node, request_: dict[str, Any], code: int) -> None:
    client = await connected(node)
    assert error_of(await client.send({"id": 2, "history": {"limit": 1, **request_}})) == code


@pytest.mark.parametrize("method", ["presence", "presence_stats"])
async def test_what_is_not_offered_is_said_to_be_not_available(node: Node, method: str) -> None:
    client = await connected(node)
    assert error_of(await client.send({"id": 2, method: {"channel": "a"}})) == 108


@pytest.mark.parametrize("method", ["presence", "presence_stats"])
async def test_presence_is_for_those_who_may_subscribe(method: str, clock: ManualClock) -> None:
    """S45."""
    node = make_node([ChannelRule(match="room.*", presence=True, subscribe=["role:staff"])], clock=clock)
    staff, other = await connected(node, token("bob", roles=["staff"])), await connected(node, token())
    await staff.send({"id": 2, "subscribe": {"channel": "room.1"}})
    [answer] = await staff.send({"id": 3, method: {"channel": "room.1"}})
    assert answer[method]
    assert error_of(await other.send({"id": 2, method: {"channel": "room.1"}})) == 103
    assert error_of(await other.send({"id": 3, method: {"channel": "nowhere"}})) == 103


async def test_send_has_nobody_to_take_it(node: Node) -> None:
    client = await connected(node)
    await client.send({"send": {"data": 1}})
    assert client.closed_with == 3508


async def test_send_is_never_answered_not_even_when_it_fails(clock: ManualClock, ticks: Ticks) -> None:
    node = make_node(RULES, clock=clock, ticks=ticks, clients=Clients(send_queue="to-nobody"))
    client = await connected(node)
    assert await client.send({"send": {"data": 1}}) == []
    assert node.stats.errors[100] == 1
    assert "rpc" in (await client.send({"id": 2, "rpc": {"method": "notifier.time"}}))[0]


# --- leaving --------------------------------------------------------------------------------------------------------


async def test_nothing_stays_behind_when_everybody_has_left(node: Node, clock: ManualClock) -> None:
    clients = [await connected(node, token("ann")) for _ in range(5)]
    for client in clients:
        await client.send({"id": 2, "subscribe": {"channel": "a"}}, {"id": 3, "subscribe": {"channel": "b"}})
    silent = Client(node)
    for client in (*clients, silent):
        client.session.end()
        client.session.end()
    clock.advance(1000)
    node.tick()
    assert node.sessions == {}
    assert len(node.hub) == 0
    assert node.stats.subscriptions == 0
    assert node.stats.connections.total() == 0
    assert node.stats.connected.total() == 0
    assert all(not len(agenda) for agenda in (node._pings, node._pongs, node._waiting, node._expiries))


async def test_a_client_that_goes_while_its_recovery_waits_leaves_nothing(node: Node) -> None:
    client = await connected(node)
    waiting = asyncio.Event()

    async def catch_up() -> None:
        client.session.end()
        waiting.set()

    node.log.catch_up = catch_up  # type: ignore[method-assign]
    await client.send({"id": 2, "subscribe": {"channel": "a", "recover": True, "offset": 9, "epoch": "epoch-1"}})
    assert waiting.is_set()
    assert len(node.hub) == 0
    assert node.stats.subscriptions == 0


async def test_a_token_that_is_revoked_while_its_recovery_waits_gives_no_subscription(node: Node) -> None:
    client = await connected(node, token("ann"))

    async def catch_up() -> None:
        await node.order(Order(revoke=Revocation("s1")))

    node.log.catch_up = catch_up  # type: ignore[method-assign]
    request = {"channel": "token.1", "token": token("ann", channel="token.1", jti="s1")}
    replies = await client.send({"id": 2, "subscribe": {**request, "recover": True, "offset": 9, "epoch": "epoch-1"}})
    assert error_of(replies) == 109
    assert node.hub.subscribers("token.1") == 0


async def test_when_the_log_is_made_anew_every_subscriber_is_told_to_look_again(node: Node) -> None:
    client = await connected(node)
    await client.send({"id": 2, "subscribe": {"channel": "a"}})
    node.feed.begin(0)
    assert client.connection.take_messages() == [
        {"push": {"channel": "a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
    ]
    assert client.closed_with == 0


# --- limits ---------------------------------------------------------------------------------------------------------


async def test_too_many_commands_are_refused_until_time_has_passed(clock: ManualClock) -> None:
    node = make_node(RULES, clock=clock, clients=Clients(command_rate=2, command_burst=3))
    client = await connected(node)
    rpc = {"rpc": {"method": "notifier.time"}}
    answers = [(await client.send({"id": n, **rpc}))[0] for n in range(2, 6)]
    assert [answer.get("error", {}).get("code", 0) for answer in answers] == [0, 0, 111, 111]
    assert answers[-1]["error"]["temporary"] is True
    [left] = await client.send({"id": 9, "unsubscribe": {"channel": "a"}})
    assert left == {"id": 9, "unsubscribe": {}}, "the SDKs give their connection up when this fails"
    clock.advance(2)
    assert "rpc" in (await client.send({"id": 10, **rpc}))[0]
    assert not client.closed_with


async def test_sending_too_much_ends_the_connection(clock: ManualClock) -> None:
    node = make_node(RULES, clock=clock, clients=Clients(command_rate=1, command_burst=1, send_queue="q"))
    client = await connected(node)
    await client.send({"send": {"data": 1}})
    assert client.closed_with == 3013


async def test_without_a_rate_there_is_no_limit(clock: ManualClock) -> None:
    node = make_node(RULES, clock=clock, clients=Clients(command_rate=0, command_burst=1))
    client = await connected(node)
    commands = [{"id": n, "rpc": {"method": "notifier.time"}} for n in range(2, 50)]
    assert all("rpc" in reply for reply in await client.send(*commands))


async def test_a_name_longer_than_allowed_is_refused(clock: ManualClock) -> None:
    node = make_node(RULES, clock=clock, clients=Clients(max_channel_bytes=10))
    client = await connected(node)
    assert error_of(await client.send({"id": 2, "subscribe": {"channel": "a" * 11}})) == 107
    assert "subscribe" in (await client.send({"id": 3, "subscribe": {"channel": "a" * 10}}))[0]


# --- crowds -----------------------------------------------------------------------------------------------------------


async def test_a_crowd_of_silent_newcomers_is_ended_in_slices_without_those_who_say_who_they_are_meanwhile(
    clock: ManualClock, ticks: Ticks
) -> None:
    node = make_node(RULES, clock=clock, ticks=ticks)
    crowd = [Client(node) for _ in range(250)]
    clock.advance(11)
    node.tick()
    assert [client.closed_with for client in crowd].count(3502) == AT_ONCE
    await crowd[-1].send({"id": 1, "connect": {"token": token("ann")}})
    for _ in range(250 // AT_ONCE):
        ticks.end()
    assert [client.closed_with for client in crowd].count(3502) == 249
    assert not crowd[-1].closed_with


async def test_a_crowd_whose_network_is_gone_is_ended_in_slices_without_those_who_answer_late(
    clock: ManualClock, ticks: Ticks
) -> None:
    node = make_node(RULES, clock=clock, ticks=ticks)
    crowd = [await connected(node) for _ in range(250)]
    for client in crowd:
        client.session.ping()
        client.session.due_pong = node._pongs.add(node._in(8), client.session)
    clock.advance(9)
    node.tick()
    assert [client.closed_with for client in crowd].count(3012) == AT_ONCE
    await crowd[-1].send_text("{}")
    crowd[-2].session.end()
    for _ in range(250 // AT_ONCE):
        ticks.end()
    assert [client.closed_with for client in crowd].count(3012) == 248
    assert not crowd[-1].closed_with


async def test_the_pings_of_many_are_sent_in_slices_to_those_who_are_still_there(
    clock: ManualClock, ticks: Ticks
) -> None:
    node = make_node(RULES, clock=clock, ticks=ticks)
    crowd = [await connected(node) for _ in range(AT_ONCE + 10)]
    clock.advance(node.limits.ping_interval + 1)
    node.tick()
    waiting = [client for client in crowd if not client.session.awaits_pong]
    assert len(waiting) == 10
    waiting[0].session.end()
    ticks.end()
    assert [client.session.awaits_pong for client in waiting] == [False] + [True] * 9
