"""The whole protocol's part on what a backend does to clients."""

from __future__ import annotations

from tests.sdk.conftest import NewClient
from tests.sdk.steps import got, subscribed
from tests.servers import ServerProcess, make_token
from tests.services.deadline import eventually


class Remote:
    """Connections and subscriptions that the server API ends."""

    async def test_a_user_is_disconnected_for_good(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        banned = await new_client(server, make_token(f"ann-{name}"))
        forced = await new_client(server, make_token(f"bob-{name}"))
        other = await new_client(server, make_token(f"carol-{name}"))
        await server.call("disconnect", user=f"ann-{name}", disconnect={"code": 4500, "reason": "banned ☹"})
        await server.call("disconnect", user=f"bob-{name}")
        ended = await banned.told("disconnected")
        assert (ended.code, ended.reason) == (4500, "banned ☹")
        ended = await forced.told("disconnected")
        assert (ended.code, ended.reason) == (3503, "force disconnect")
        await other.rpc("notifier.time", None)
        assert len(banned.all("connecting")) == len(forced.all("connecting")) == 1, "they did not try again"
        assert other.state == "connected"

    async def test_one_of_a_user_s_connections_is_moved_and_misses_nothing(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        moved = await new_client(server, make_token(name))
        stays = await new_client(server, make_token(name))
        for client in (moved, stays):
            await subscribed(client, f"open.{name}")
        reason = {"code": 4000, "reason": "move"}
        await server.call("disconnect", user=name, client=moved.told_id, disconnect=reason)
        await server.publish(f"open.{name}", 1)
        await eventually(lambda: len(moved.all("subscribed", f"open.{name}")) == 2)
        again = moved.all("connecting")[1]
        assert (again.code, again.reason) == (4000, "move")
        await got(moved, f"open.{name}", [1])
        await got(stays, f"open.{name}", [1])
        await server.call("disconnect", user=name, whitelist=[moved.all("connected")[-1].client])
        await stays.told("disconnected")
        await moved.rpc("notifier.time", None)
        assert moved.state == "connected"
        assert len(stays.all("connecting")) == 1

    async def test_a_subscription_is_ended_for_good_and_the_others_go_on(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        client = await new_client(server, make_token(name))
        await subscribed(client, f"open.{name}.a", f"open.{name}.b")
        await server.call("unsubscribe", user=name, channel=f"open.{name}.a")
        ended = await client.told("unsubscribed", f"open.{name}.a")
        assert (ended.code, ended.reason) == (2000, "server unsubscribe")
        await server.publish(f"open.{name}.a", "too late")
        await server.publish(f"open.{name}.b", "in time")
        await got(client, f"open.{name}.b", ["in time"])
        assert client.data(f"open.{name}.a") == []
        assert len(client.all("subscribing", f"open.{name}.a")) == 1
        await subscribed(client, f"open.{name}.a")
        await got(client, f"open.{name}.a", ["too late"])

    async def test_a_connection_that_is_called_expired_comes_back(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        client = await new_client(server, make_token(name))
        await server.call("refresh", user=name, expired=True)
        await eventually(lambda: len(client.all("connected")) == 2)
        assert [event.code for event in client.all("connecting")] == [0, 3005]

    async def test_revoked_tokens_end_connections_which_come_back_with_new_ones(
        self, server: ServerProcess, new_client: NewClient, name: str
    ) -> None:
        client = await new_client(server, tokens=lambda: make_token(name))
        await client.subscribe(f"private.{name}", make_token(name, jti=name, channel=f"private.{name}"))
        await client.told("subscribed", f"private.{name}")
        await server.call("revoke", token=name)
        await client.told("unsubscribed", f"private.{name}")
        assert len(client.all("connecting")) == 1, "the connection rests on another token"
        await server.call("revoke", user=name)
        await eventually(lambda: len(client.all("connected")) == 2)
        assert client.all("connecting")[1].code == 3005
        assert client.tokens_asked > 1
