"""The suite's part on losing the server and coming back."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.sdk.client import Client
from tests.sdk.conftest import NewClient
from tests.sdk.load import Load, is_complete
from tests.sdk.steps import got, subscribed
from tests.servers import Backend, NewServer, ServerProcess, make_token, on_rabbitmq
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ


class Recovery:
    """Nothing lost, nothing doubled; and where that cannot be, it is told."""

    async def test_who_disconnects_and_comes_back_misses_nothing(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        await server.publish("open.news", 1)
        await got(client, "open.news", [1])
        await client.disconnect()
        await eventually(lambda: client.state == "disconnected")
        await server.publish("open.news", 2)
        await client.connect()
        await eventually(lambda: len(client.all("subscribed", "open.news")) == 2)
        await server.publish("open.news", 3)
        await got(client, "open.news", [1, 2, 3])

    async def test_who_comes_and_goes_under_load_misses_nothing(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        async with Load(server, [], ["open.news"]) as load:
            for times in range(2, 30):
                await client.unsubscribe("open.news")
                await client.subscribe("open.news")
                await eventually(partial(_subscribed_times, client, "open.news", times))
            await load.stop()
        await eventually(partial(_has, client, "open.news", load.last_of("open.news")))
        assert is_complete(client.data("open.news"), load.confirmed["open.news"], set())
        assert all(event.recovered for event in client.all("subscribed", "open.news")[1:])

    async def test_who_missed_megabytes_gets_them_in_the_midst_of_live_ones_and_is_not_called_slow(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        await client.disconnect()
        await eventually(lambda: client.state == "disconnected")
        missed = [await server.publish("open.news", f"{number} {'x' * 60_000}") for number in range(200)]
        async with Load(server, [], ["open.news"]) as load:
            await client.connect()
            await eventually(lambda: len(client.data("open.news")) > len(missed) + 50, 20 * SECOND)
            await load.stop()
        await eventually(partial(_has, client, "open.news", load.last_of("open.news")))
        heard = client.data("open.news")
        assert [int(text.split()[0]) for text in heard[: len(missed)]] == list(range(len(missed)))
        assert is_complete(heard[len(missed) :], load.confirmed["open.news"], set())
        assert [event.code for event in client.all("connecting")] == [0, 0], "only those that it asked for"

    async def test_an_orderly_end_moves_clients_off_with_a_code_that_brings_them_back(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        await server.terminate()
        await eventually(lambda: client.all("connecting")[-1].code == 3001)
        await server.start()
        await eventually(lambda: client.state_of("open.news") == "subscribed")

    async def test_a_log_that_began_anew_is_told_as_not_recovered(
        self, server: ServerProcess, new_client: NewClient
    ) -> None:
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "open.news")
        for number in range(3):
            await server.publish("open.news", number)
        await got(client, "open.news", [0, 1, 2])
        server.kill()
        await server.start()  # its log was in memory
        again = await eventually(lambda: client.all("subscribed", "open.news")[1:], 20 * SECOND)
        assert (again[0].was_recovering, again[0].recovered) == (True, False)
        await server.publish("open.news", "after")
        await got(client, "open.news", [0, 1, 2, "after"])

    async def test_nothing_confirmed_is_lost_or_doubled_when_the_server_is_killed_under_load(
        self, rabbitmq: RabbitMQ, new_server: NewServer, new_client: NewClient
    ) -> None:
        server = await new_server(on_rabbitmq(rabbitmq.url))
        client = await new_client(server, make_token("ann"))
        over_amqp, over_api = ["open.a", "open.b", "open.c"], ["open.api"]
        channels = over_amqp + over_api
        await subscribed(client, *channels)
        async with Load(server, over_amqp, over_api) as load:
            for _ in range(3):
                await load.go_on_for(100)
                server.kill()
                await load.go_on_for(100)
                await server.start()
                await _caught_up_with(client, load, over_amqp)
            await load.stop()
            await _caught_up_with(client, load, channels)
        for channel in channels:
            assert is_complete(client.data(channel), load.confirmed[channel], load.unknown[channel])
            again = client.all("subscribed", channel)[1:]
            assert len(again) >= 3
            assert all(event.recovered for event in again)

    async def test_a_backend_s_message_arrives_with_what_it_says_about_itself(
        self, rabbitmq: RabbitMQ, new_server: NewServer, new_client: NewClient
    ) -> None:
        server = await new_server(on_rabbitmq(rabbitmq.url))
        client = await new_client(server, make_token("ann"))
        await subscribed(client, "user.ann", "open.audit")
        async with Backend(server) as backend:
            headers: dict[str, Any] = {"tag-kind": "order", "channels": "open.audit"}
            await backend.publish("user.ann", {"order": 1}, headers=headers, message_id="order-1")
            await backend.publish("user.ann", {"order": 1}, headers=headers, message_id="order-1")
            await backend.publish("user.ann", {"order": 2}, message_id="order-2")
        await got(client, "user.ann", [{"order": 1}, {"order": 2}])
        await got(client, "open.audit", [{"order": 1}])
        assert client.all("publication", "user.ann")[0].tags == {"kind": "order"}


async def _caught_up_with(client: Client, load: Load, channels: list[str]) -> None:
    for channel in channels:
        await eventually(partial(_has, client, channel, load.last_of(channel)), 30 * SECOND)


def _has(client: Client, channel: str, number: int) -> bool:
    return number in client.data(channel)[-2000:]


def _subscribed_times(client: Client, channel: str, times: int) -> bool:
    return len(client.all("subscribed", channel)) >= times
