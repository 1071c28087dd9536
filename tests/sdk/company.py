"""The whole protocol's part on who else is there."""

from __future__ import annotations

from tests.sdk.client import Client, Present
from tests.sdk.conftest import NewClient
from tests.sdk.steps import subscribed
from tests.servers import ServerProcess, make_token
from tests.services.deadline import eventually


class Company:
    """Presence, and who comes and goes."""

    async def test_who_is_on_a_channel_can_be_asked_until_they_leave(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        room = f"room.{name}"
        ann = await new_client(server, make_token("ann"))
        twin = await new_client(server, make_token("ann"))
        bob = await new_client(server, make_token("bob", info={"name": "Bób"}))
        for client in (ann, twin, bob):
            await subscribed(client, room)
        assert await ann.presence(room) == {
            ann.told_id: Present(user="ann", client=ann.told_id),
            twin.told_id: Present(user="ann", client=twin.told_id),
            bob.told_id: Present(user="bob", client=bob.told_id, conn_info={"name": "Bób"}),
        }
        assert await bob.presence_stats(room) == (3, 2)
        await bob.unsubscribe(room)
        await twin.disconnect()
        await eventually(lambda: _is_alone(ann, room))

    async def test_who_asks_for_it_is_told_who_comes_and_goes(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        room = f"room.{name}"
        ann = await new_client(server, make_token("ann"))
        bob = await new_client(server, make_token("bob"))
        await ann.subscribe(room, join_leave=True)
        await eventually(lambda: ann.all("join", room))
        await subscribed(bob, room)
        await eventually(lambda: len(ann.all("join", room)) == 2)
        await bob.unsubscribe(room)
        await eventually(lambda: ann.all("leave", room))
        assert [event.user for event in ann.all("join", room)] == ["ann", "bob"]
        assert [(event.user, event.client) for event in ann.all("leave", room)] == [("bob", bob.told_id)]
        assert bob.all("join", room) == bob.all("leave", room) == []

    async def test_where_the_rule_says_so_all_are_told_with_what_tokens_say_of_who_comes(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        lobby = f"lobby.{name}"
        ann = await new_client(server, make_token("ann"))
        bob = await new_client(server, make_token("bob", info={"name": "Bob"}))
        await subscribed(ann, lobby)
        await bob.subscribe(lobby, make_token("bob", channel=lobby, info={"seat": 4}, data={"welcome": True}))
        assert (await bob.told("subscribed", lobby)).data == {"welcome": True}
        await eventually(lambda: len(ann.all("join", lobby)) == 2)
        came = ann.all("join", lobby)[1]
        assert (came.user, came.conn_info, came.chan_info) == ("bob", {"name": "Bob"}, {"seat": 4})
        assert (await ann.presence(lobby))[bob.told_id].chan_info == {"seat": 4}
        await bob.disconnect()
        left = await ann.told("leave", lobby)
        assert (left.user, left.chan_info) == ("bob", {"seat": 4})


async def _is_alone(client: Client, room: str) -> bool:
    return list(await client.presence(room)) == [client.told_id] and await client.presence_stats(room) == (1, 1)
