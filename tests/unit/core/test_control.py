"""Two nodes that hear each other: what is done to clients and asked about them holds wherever they are connected."""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import Any

import jwt
import pytest

from notifier.config import ChannelRule, Clients, Duration, HistoryRule
from notifier.core.control import Control
from notifier.core.node import Node
from notifier.core.record import Draft
from notifier.core.told import End, Join, Leave, Renew, Whom
from notifier.errors import Rejected, Unavailable
from notifier.protocol.codes import CommandFailed, Disconnect, Unsubscribe
from notifier.telemetry.describe import describe
from notifier.testing import SECRET, Client, ManualClock, Ticks, make_node

KEPT = HistoryRule(size=10, ttl=Duration(3600))
RULES = [
    ChannelRule(match="room.*", presence=True, join_leave="on_request", subscribe=["anyone"]),
    ChannelRule(match="#", history=KEPT, subscribe=["anyone"]),
]
BYE = Disconnect(4501, "bye")
OUT = Unsubscribe(2000, "server unsubscribe")


class LocalBus:
    """A `core.ports.Bus` inside the test. `away`: nobody can be reached."""

    def __init__(self, node_id: str, members: list[LocalBus]) -> None:
        self.node_id = node_id
        self.away = False
        self.unheard: list[bytes] = []
        self._members = members
        members.append(self)

    def knows(self, node_id: str) -> bool:
        return any(member.node_id == node_id for member in self._others)

    async def tell(self, message: bytes) -> None:
        self._check()
        for member in self._others:
            assert await member.on_message(message) == b""

    def say(self, message: bytes) -> None:
        self.unheard.append(message)

    async def ask(self, question: bytes) -> list[bytes]:
        self._check()
        return [await member.on_message(question) for member in self._others]

    async def on_message(self, _message: bytes) -> bytes:
        raise AssertionError("nobody listens")

    @property
    def _others(self) -> list[LocalBus]:
        return [member for member in self._members if member is not self]

    def _check(self) -> None:
        if self.away:
            raise Unavailable("RabbitMQ is away")


class Cluster:
    """Two nodes, `here` and `there`, with a log each."""

    def __init__(self) -> None:
        self.clock = ManualClock(time.time())
        self.ticks = Ticks()
        self._members: list[LocalBus] = []
        self._numbers = itertools.count(1)
        self.here, self.there = self.add("here"), self.add("there")

    def add(self, name: str) -> Node:
        node = make_node(RULES, clock=self.clock, ticks=self.ticks, clients=Clients(max_channels=3))
        node.node_id = name
        node.new_id = lambda: f"c{next(self._numbers)}"
        bus = LocalBus(name, self._members)
        node.control = Control(node, bus, partial(describe, node))  # type: ignore[arg-type]
        return node

    @property
    def bus(self) -> LocalBus:
        return self._members[0]

    async def end_tick(self) -> int:
        """The tick is over, and what was said in it is heard. Answers how many messages that were."""
        self.ticks.end()
        heard = 0
        for member in self._members:
            while member.unheard:
                await member.tell(member.unheard.pop(0))
                heard += 1
        self.ticks.end()
        return heard


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def connected(node: Node, user: str = "", **claims: Any) -> Client:
    client = Client(node)
    claims = {"sub": user, "exp": int(time.time()) + 86_400, **claims}
    token = jwt.encode(claims, SECRET, algorithm="HS256") if user else ""
    [reply] = await client.send({"id": 1, "connect": {"token": token}})
    assert "connect" in reply, reply
    return client


async def subscribed(client: Client, channel: str) -> Client:
    [reply] = await client.send({"id": 2, "subscribe": {"channel": channel}})
    assert "subscribe" in reply, reply
    return client


def pushed(client: Client) -> list[dict[str, Any]]:
    return [message["push"] for message in client.connection.take_messages()]


# --- disconnecting ----------------------------------------------------------------------------------------------------


async def test_a_users_connections_end_everywhere_and_nobody_elses(cluster: Cluster) -> None:
    mine = [await connected(cluster.here, "ann"), await connected(cluster.there, "ann")]
    others = [await connected(cluster.here, "bob"), await connected(cluster.there)]
    await cluster.here.control.tell(End(Whom(user="ann"), BYE))
    assert [client.connection.disconnect for client in mine] == [BYE, BYE]
    assert [client.closed_with for client in others] == [0, 0]


async def test_without_a_user_those_of_nobody_in_particular_end(cluster: Cluster) -> None:
    nobody, ann = await connected(cluster.there), await connected(cluster.there, "ann")
    await cluster.here.control.tell(End(Whom(), BYE))
    assert (nobody.closed_with, ann.closed_with) == (4501, 0)


async def test_one_connection_is_meant_by_its_client_or_its_session(cluster: Cluster) -> None:
    clients = [await connected(cluster.there, "ann") for _ in range(3)]
    clients[1].session.key = "secret"
    await cluster.here.control.tell(End(Whom(user="ann", client=clients[0].session.client_id), BYE))
    assert [client.closed_with for client in clients] == [4501, 0, 0]
    await cluster.here.control.tell(End(Whom(user="ann", session="secret"), BYE))
    assert [client.closed_with for client in clients] == [4501, 4501, 0]
    await cluster.here.control.tell(End(Whom(user="bob", client=clients[2].session.client_id), BYE))
    assert clients[2].closed_with == 0


async def test_some_are_spared(cluster: Cluster) -> None:
    clients = [await connected(node, "ann") for node in (cluster.here, cluster.there, cluster.there)]
    await cluster.here.control.tell(End(Whom(user="ann", spared=[clients[1].session.client_id]), BYE))
    assert [client.closed_with for client in clients] == [4501, 0, 4501]


async def test_when_the_others_cannot_be_reached_nothing_is_done_here_either(cluster: Cluster) -> None:
    client = await connected(cluster.here, "ann")
    cluster.bus.away = True
    with pytest.raises(Unavailable):
        await cluster.here.control.tell(End(Whom(user="ann"), BYE))
    assert client.closed_with == 0


# --- subscriptions ----------------------------------------------------------------------------------------------------


async def test_an_unsubscribed_client_is_told_and_gets_nothing_more(cluster: Cluster) -> None:
    client = await subscribed(await connected(cluster.there, "ann"), "news")
    bystander = await subscribed(await connected(cluster.there, "bob"), "news")
    await cluster.here.control.tell(Leave(Whom(user="ann"), "news", OUT))
    assert pushed(client) == [{"channel": "news", "unsubscribe": {"code": 2000, "reason": "server unsubscribe"}}]
    await cluster.there.publish(Draft(["news"], b"1"))
    cluster.ticks.end()
    assert pushed(client) == []
    assert len(pushed(bystander)) == 1
    await cluster.here.control.tell(Leave(Whom(user="ann"), "news", OUT))
    assert pushed(client) == []


async def test_a_subscribed_client_is_told_with_its_data_and_gets_what_follows(cluster: Cluster) -> None:
    clients = [await connected(cluster.here, "ann"), await connected(cluster.there, "ann")]
    await cluster.here.control.tell(Join(Whom(user="ann"), "news", data='{"hello":1}'))
    for client in clients:
        [push] = pushed(client)
        assert push["channel"] == "news"
        assert push["subscribe"]["data"] == {"hello": 1}
        assert push["subscribe"]["recoverable"] is True
    await cluster.there.publish(Draft(["news"], b"1"))
    cluster.ticks.end()
    assert pushed(clients[1]) == [{"channel": "news", "pub": {"data": 1, "offset": 1}}]
    assert clients[1].session.subscriptions["news"].server_side


async def test_what_was_missed_since_a_position_comes_as_pushes(cluster: Cluster) -> None:
    for n in range(3):
        await cluster.there.publish(Draft(["news"], b"%d" % n))
    client = await connected(cluster.there, "ann")
    await cluster.here.control.tell(Join(Whom(user="ann"), "news", since=(1, "epoch-1")))
    begin, *missed = pushed(client)
    assert begin["subscribe"]["offset"] == 1
    assert [push["pub"]["offset"] for push in missed] == [2, 3]


async def test_who_is_subscribed_already_is_an_error_where_it_was_asked_for(cluster: Cluster) -> None:
    here = await subscribed(await connected(cluster.here, "ann"), "news")
    also_here, there = await connected(cluster.here, "ann"), await connected(cluster.there, "ann")
    with pytest.raises(CommandFailed) as caught:
        await cluster.here.control.tell(Join(Whom(user="ann"), "news"))
    assert caught.value.error.code == 100
    assert pushed(here) == []
    assert [len(pushed(client)) for client in (also_here, there)] == [1, 1]
    await cluster.there.control.tell(Leave(Whom(user="ann", client=there.session.client_id), "news", OUT))
    await cluster.there.control.tell(Join(Whom(user="ann"), "news"))  # it failed elsewhere: nobody is told
    assert "news" in there.session.subscriptions


async def test_nobody_gets_more_channels_than_a_connection_may_have(cluster: Cluster) -> None:
    client = await connected(cluster.here, "ann")
    for n in range(3):
        await cluster.here.control.tell(Join(Whom(user="ann"), f"news.{n}"))
    with pytest.raises(CommandFailed):
        await cluster.here.control.tell(Join(Whom(user="ann"), "news.3"))
    assert len(client.session.subscriptions) == 3


async def test_a_subscription_may_end_by_itself_and_differ_from_its_rule(cluster: Cluster) -> None:
    client, other = await connected(cluster.there, "ann"), await connected(cluster.there, "bob")
    await subscribed(other, "room.1")
    until = cluster.clock.time() + 60
    join = Join(
        Whom(user="ann"), "room.1", info='{"seat":3}', expires_at=until, overrides={"force_push_join_leave": True}
    )
    await cluster.here.control.tell(join)
    present = await cluster.here.control.presence("room.1")
    assert bytes(present[client.session.client_id].chan_info) == b'{"seat":3}'
    await cluster.end_tick()
    client.connection.writes.clear()
    other.session.unsubscribe("room.1", OUT)
    await cluster.end_tick()
    assert [list(push) for push in pushed(client)] == [["channel", "leave"]]
    cluster.clock.advance(60 + cluster.there.limits.expired_grace + 2)
    cluster.there.tick()
    assert client.closed_with == 3006


async def test_before_the_log_has_been_read_nobody_is_subscribed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await connected(cluster.here, "ann")
    monkeypatch.setattr(cluster.here.log, "ready", False)
    with pytest.raises(Unavailable):
        await cluster.here.control.tell(Join(Whom(user="ann"), "news"))
    assert client.session.subscriptions == {}


# --- refreshing -------------------------------------------------------------------------------------------------------


async def test_a_connection_gets_another_end(cluster: Cluster) -> None:
    client = await connected(cluster.there, "ann")
    await cluster.here.control.tell(Renew(Whom(user="ann"), cluster.clock.time() + 60, '{"new":1}'))
    assert pushed(client) == [{"refresh": {"expires": True, "ttl": 60}}]
    cluster.clock.advance(60 + cluster.there.limits.expired_grace + 2)
    cluster.there.tick()
    assert client.closed_with == 3005


async def test_a_connection_may_be_allowed_to_stay_for_ever(cluster: Cluster) -> None:
    client = await connected(cluster.there, "ann", exp=int(cluster.clock.time()) + 60)
    await cluster.here.control.tell(Renew(Whom(user="ann")))
    assert pushed(client) == [{"refresh": {}}]
    cluster.clock.advance(60 + cluster.there.limits.expired_grace + 2)
    cluster.there.tick()
    assert client.closed_with == 0


# --- asking -----------------------------------------------------------------------------------------------------------


async def test_presence_is_of_all_nodes_until_they_leave(cluster: Cluster) -> None:
    here = await subscribed(await connected(cluster.here, "ann", info={"n": 1}), "room.1")
    there = await subscribed(await connected(cluster.there, "bob"), "room.1")
    for node in (cluster.here, cluster.there):
        present = await node.control.presence("room.1")
        assert {info.user for info in present.values()} == {"ann", "bob"}
        assert bytes(present[here.session.client_id].conn_info) == b'{"n":1}'
    there.session.disconnect(BYE)
    assert list(await cluster.here.control.presence("room.1")) == [here.session.client_id]
    assert await cluster.here.control.presence("room.2") == {}


async def test_a_client_asks_for_presence_on_all_nodes(cluster: Cluster) -> None:
    here = await subscribed(await connected(cluster.here, "ann"), "room.1")
    await subscribed(await connected(cluster.there, "bob"), "room.1")
    [reply] = await here.send({"id": 3, "presence_stats": {"channel": "room.1"}})
    assert reply["presence_stats"] == {"num_clients": 2, "num_users": 2}
    cluster.bus.away = True
    [reply] = await here.send({"id": 4, "presence": {"channel": "room.1"}})
    assert reply["error"]["code"] == 100
    assert reply["error"]["temporary"] is True


async def test_channels_are_those_of_all_nodes_with_the_sum_of_their_subscribers(cluster: Cluster) -> None:
    await subscribed(await connected(cluster.here, "ann"), "news.a")
    for channel in ("news.a", "news.b"):
        await subscribed(await connected(cluster.there, "bob"), channel)
    assert await cluster.here.control.channels("") == {"news.a": 2, "news.b": 1}
    assert await cluster.here.control.channels("*.b") == {"news.b": 1}
    assert await cluster.there.control.channels("sport.*") == {}


async def test_connections_of_a_user_say_where_they_are(cluster: Cluster) -> None:
    here = await subscribed(await connected(cluster.here, "ann"), "news")
    there = await connected(cluster.there, "ann", exp=4_000_000_000)
    await connected(cluster.there, "bob")
    first, second = await cluster.here.control.connections("ann")
    assert (first.client, first.node, first.channels) == (here.session.client_id, "here", ["news"])
    assert (second.client, second.node, second.channels) == (there.session.client_id, "there", [])
    assert (second.user, second.transport, second.expires_at) == ("ann", "websocket", 4_000_000_000)
    assert await cluster.here.control.connections("eve") == []


async def test_info_is_of_all_nodes_this_one_first(cluster: Cluster) -> None:
    await subscribed(await connected(cluster.there, "ann"), "news")
    here, there = await cluster.here.control.info()
    assert (here.uid, here.num_clients) == ("here", 0)
    assert (there.uid, there.num_clients, there.num_users, there.num_channels, there.num_subs) == ("there", 1, 1, 1, 1)
    assert (await cluster.there.control.info())[0].uid == "there"


@pytest.mark.parametrize("question", ["presence", "channels", "connections"])
async def test_when_nobody_can_be_asked_half_an_answer_is_none(cluster: Cluster, question: str) -> None:
    cluster.bus.away = True
    with pytest.raises(Unavailable):
        await getattr(cluster.here.control, question)("x")
    with pytest.raises(Unavailable):
        await cluster.here.control.info()


# --- who comes and goes -----------------------------------------------------------------------------------------------


async def test_who_comes_and_goes_is_told_on_all_nodes_once_a_tick(cluster: Cluster) -> None:
    watcher = await connected(cluster.there, "ann")
    await watcher.send({"id": 2, "subscribe": {"channel": "room.1", "join_leave": True}})
    await cluster.end_tick()
    watcher.connection.writes.clear()
    comers = [await subscribed(await connected(cluster.here, f"user-{n}"), "room.1") for n in range(3)]
    comers[0].session.disconnect(BYE)
    assert await cluster.end_tick() == 1
    told = [(name, push[name]["info"]["user"]) for push in pushed(watcher) for name in push if name != "channel"]
    assert told == [("join", "user-0"), ("join", "user-1"), ("join", "user-2"), ("leave", "user-0")]
    assert await cluster.end_tick() == 0


# --- commands for connections elsewhere -------------------------------------------------------------------------------


async def test_commands_of_an_emulated_connection_find_its_node(cluster: Cluster) -> None:
    taken: list[bytes] = []

    async def inbox(data: bytes) -> None:
        taken.append(data)

    cluster.there.inboxes["secret"] = inbox
    data = b'{"id":1}\x00\xff'
    assert await cluster.here.control.run("there", "secret", data)
    assert await cluster.there.control.run("there", "secret", data)
    assert taken == [data, data]
    assert await cluster.here.control.run("there", "other", data)  # that node knows, and has no way to say so
    assert not await cluster.there.control.run("there", "other", data)
    assert not await cluster.here.control.run("nowhere", "secret", data)
    assert taken == [data, data]


async def test_commands_are_run_by_the_node_they_are_for_alone(cluster: Cluster) -> None:
    third = cluster.add("third")
    taken: list[str] = []

    async def inbox(_data: bytes) -> None:
        taken.append("third")

    third.inboxes["secret"] = inbox
    await cluster.here.control.run("there", "secret", b"1")
    assert taken == []


# --- what is no message -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"type":"nonsense"}',
        b'{"type":"end"}',
        b'{"type":"end","whom":{"user":1},"why":{"code":1,"reason":""}}',
        b'{"type":"join","whom":{},"channel":"a b"}',
        b"[" * 100_000,
    ],
)
async def test_what_no_worker_has_written_is_refused(cluster: Cluster, body: bytes) -> None:
    client = await connected(cluster.there)
    with pytest.raises(Rejected) as caught:
        await cluster.there.control._take(body)
    assert caught.value.reason == "bad_control"
    assert client.closed_with == 0


async def test_an_answer_that_cannot_be_read_is_an_error(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_question: bytes) -> list[bytes]:
        return [b'{"a":"b"}']

    monkeypatch.setattr(cluster.bus, "ask", answer)
    for asked in ("presence", "channels", "connections"):
        with pytest.raises(Unavailable, match="version"):
            await getattr(cluster.here.control, asked)("x")
