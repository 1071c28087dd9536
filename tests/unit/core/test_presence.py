"""The list of this worker's clients, and the bound of what is listed."""

from __future__ import annotations

from notifier.config import ChannelRule, Clients
from notifier.core.presence import PresenceList
from notifier.protocol.messages import ClientInfo
from notifier.testing import Client, make_node

RULES = [ChannelRule(match="room.*", presence=True, subscribe=["anyone"])]


def test_each_change_is_told_once() -> None:
    told: list[tuple[str, str]] = []
    present = PresenceList()
    present.on_change = lambda channel, client_id: told.append((channel, client_id))
    present.add("room", ClientInfo("ann", "c1"))
    present.remove("room", "c2")
    present.remove("other", "c1")
    present.remove("room", "c1")
    present.remove("room", "c1")
    assert told == [("room", "c1"), ("room", "c1")]
    assert present.channels() == []


async def test_a_channel_with_more_clients_than_are_listed_is_counted_only() -> None:
    node = make_node(RULES, clients=Clients(presence_limit=2))
    clients = [Client(node) for _ in range(3)]
    for client in clients[:2]:
        await client.send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "room.1"}})
    [reply] = await clients[0].send({"id": 3, "presence": {"channel": "room.1"}})
    assert len(reply["presence"]["presence"]) == 2
    await clients[2].send({"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": "room.1"}})
    [listed, counted] = await clients[0].send(
        {"id": 4, "presence": {"channel": "room.1"}}, {"id": 5, "presence_stats": {"channel": "room.1"}}
    )
    assert listed["error"]["code"] == 106
    assert "3 clients, at most 2 are listed" in listed["error"]["message"]
    assert counted["presence_stats"] == {"num_clients": 3, "num_users": 1}


async def test_whether_others_are_told_of_a_client_is_known_while_it_is_there() -> None:
    rules = [ChannelRule(match="a", presence=True, join_leave="always", subscribe=["anyone"]), *RULES]
    node = make_node(rules)
    client = Client(node)
    await client.send(
        {"id": 1, "connect": {}},
        {"id": 2, "subscribe": {"channel": "a"}},
        {"id": 3, "subscribe": {"channel": "room.1"}},
    )
    client_id = client.session.client_id
    assert [node.tells("a", client_id), node.tells("room.1", client_id), node.tells("a", "x")] == [True, False, False]
