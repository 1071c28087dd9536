"""Clients that were away for longer than memory reaches, with every library, on two nodes that share an archive."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import aiohttp
import pytest

from tests.sdk.client import CallFailed
from tests.sdk.conftest import NewClient, NewJavaScript
from tests.sdk.steps import got, subscribed
from tests.servers import NewServer, ServerProcess, make_token, on_rabbitmq
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis

MOST = 500
CHANNELS = [
    {
        "match": "news.#",
        "history": {"size": 2, "ttl": "1h"},
        "archive": {"size": MOST, "ttl": "7d"},
        "subscribe": ["anyone"],
        "publish": ["anyone"],
    }
]


@pytest.fixture
def sections(rabbitmq: RabbitMQ, private_redis: Redis) -> dict[str, Any]:
    redis = {"url": private_redis.url, "prefix": f"test-{secrets.token_hex(4)}", "timeout": "1s"}
    return {**on_rabbitmq(rabbitmq.url), "redis": redis, "channels": CHANNELS}


async def metric(server: ServerProcess, name: str) -> float:
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/metrics") as response:
        text = await response.text()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"notifier_{name} "))


async def checks(server: ServerProcess) -> Any:
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/readyz") as response:
        assert response.status == 200
        return (await response.json())["checks"]


async def test_who_was_away_for_long_recovers_everything_on_another_node(
    sections: dict[str, Any], new_server: NewServer, new_javascript: NewJavaScript, new_python: NewClient
) -> None:
    one, other = await asyncio.gather(new_server(sections), new_server(sections))
    clients = [await new_javascript(one, make_token("ann")), await new_python(one, make_token("bob"))]
    for client in clients:
        await subscribed(client, "news.a", "news.quiet")
    first = await one.publish("news.a", 0, tags={"kind": "first"})
    cursor = f"{(await one.call('history', channel='news.a'))['epoch']}:{first}"
    for client in clients:
        await got(client, "news.a", [0])
        await client.disconnect()
    for number in range(1, 100):
        await other.publish("news.a", number, tags={"kind": "later"})
    for client in clients:
        await client.connect()
        await got(client, "news.a", list(range(100)))
        assert all(event.recovered for name in ("news.a", "news.quiet") for event in client.all("subscribed", name)[1:])
        assert client.all("publication", "news.a")[5].tags == {"kind": "later"}
        assert (await client.history("news.a", limit=MOST)).data == list(range(100))
    resumed = await resume(other, "news.a,news.quiet", cursor, 99)
    assert resumed[0] == {"recovered": True, "was_recovering": True,
                          "channels": {"news.a": {"recovered": True}, "news.quiet": {"recovered": True}}}  # fmt: skip
    assert resumed[1:] == list(range(1, 100))


async def resume(server: ServerProcess, channels: str, cursor: str, count: int) -> list[Any]:
    """What the beginning of an SSE stream says, and so many publications after it."""
    found: list[Any] = []
    headers = {"Last-Event-ID": cursor, "Authorization": f"Bearer {make_token('ann')}"}
    async with (
        asyncio.timeout(20 * SECOND),
        aiohttp.ClientSession() as http,
        http.get(f"{server.url}/sse?channels={channels}", headers=headers) as response,
    ):
        async for line in response.content:
            if line.startswith(b"data:") and len(line.strip()) > 5:
                found.append(json.loads(line[5:]))
            if len(found) > count:
                break
    return found


async def test_who_was_away_for_longer_than_the_archive_reaches_is_told(
    sections: dict[str, Any], new_server: NewServer, new_javascript: NewJavaScript
) -> None:
    server = await new_server(sections)
    client = await new_javascript(server, make_token("ann"))
    await subscribed(client, "news.a")
    await server.publish("news.a", 0)
    await got(client, "news.a", [0])
    await client.disconnect()
    for _ in range(2):  # more than both the archive and what has not reached it yet
        await server.post("batch", commands=[{"publish": {"channel": "news.a", "data": 1}}] * MOST, parallel=True)
    await client.connect()
    again = (await eventually(lambda: client.all("subscribed", "news.a")[1:], 20 * SECOND))[0]
    assert (again.was_recovering, again.recovered) == (True, False)


async def test_while_redis_is_away_clients_try_again_and_are_never_told_that_they_lost_something(
    sections: dict[str, Any], private_redis: Redis, new_server: NewServer, new_javascript: NewJavaScript
) -> None:
    server = await new_server(sections)
    away, steady = [await new_javascript(server, make_token(user)) for user in ("ann", "bob")]
    for client in (away, steady):
        await subscribed(client, "news.a")
    await server.publish("news.a", 0)
    for client in (away, steady):
        await got(client, "news.a", [0])
    await away.disconnect()
    for number in range(1, 10):
        await server.publish("news.a", number)
    await got(steady, "news.a", list(range(10)))
    await eventually(lambda: _is_filled(server), 20 * SECOND)
    await asyncio.to_thread(private_redis.kill)
    await away.connect()
    await eventually(lambda: away.state == "connected")
    with pytest.raises(CallFailed) as failed:
        await steady.history("news.a", limit=MOST)
    assert failed.value.code == 100
    assert (await checks(server))["archive"]["ok"]
    await eventually(lambda: _archive_problem(server), 20 * SECOND)
    await server.publish("news.a", 10)
    await got(steady, "news.a", list(range(11)))
    assert away.state_of("news.a") == "subscribing"
    assert len(away.all("subscribed", "news.a")) == 1
    await asyncio.to_thread(private_redis.start)
    await eventually(lambda: len(away.data("news.a")) == 11, 60 * SECOND)
    assert away.data("news.a") == list(range(11))
    assert [event.recovered for event in away.all("subscribed", "news.a")[1:]] == [True]
    assert len(steady.all("subscribed", "news.a")) == 1


async def _archive_problem(server: ServerProcess) -> bool:
    return bool((await checks(server))["archive"].get("detail"))


async def _is_filled(server: ServerProcess) -> bool:
    return await metric(server, "archive_entries_total") >= 10


async def test_workers_of_one_server_fill_one_archive_and_tell_how_far_it_is(
    sections: dict[str, Any], new_server: NewServer
) -> None:
    server = await new_server({**sections, "server": {"workers": 2}})
    for number in range(20):
        await server.publish("news.a", number)

    async def told() -> bool:
        assert await metric(server, "archive_filling") == 1
        assert await metric(server, "archive_entries_total") == 20
        return not (await checks(server))["archive"].get("detail")

    await eventually(told, 60 * SECOND)
    history = await server.call("history", channel="news.a", limit=MOST)
    assert [publication["data"] for publication in history["publications"]] == list(range(20))
    assert await metric(server, "archive_reads_total") >= 1
