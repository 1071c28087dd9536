"""With the rights on the broker and in Redis that the pages ask for, and with no others, everything works."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shlex
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import pytest
from aiormq.exceptions import ChannelAccessRefused

from notifier.config import load
from notifier.operator.doctor import Level, examine
from tests.servers import ROOT, ServerProcess, make_token
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis

VHOST = "rights"
CHANNELS = [
    {
        "match": "#",
        "history": {"size": 10, "ttl": "1m"},
        "archive": {"size": 20, "ttl": "1h"},
        "presence": True,
        "join_leave": "always",
        "subscribe": ["anyone"],
        "publish": ["anyone"],
    }
]


def told(page: str, command: str) -> list[str]:
    """The words of a command that the page tells."""
    [line] = re.findall(rf"^ *{command} (.*)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    return shlex.split(line)


@pytest.fixture
def broker_url(rabbitmq: RabbitMQ) -> Iterator[str]:
    password = secrets.token_hex(8)
    rabbitmq.ctl("add_vhost", VHOST)
    rabbitmq.ctl("add_user", "notifier", password)
    user, *rights = told("security.md", "rabbitmqctl set_permissions")
    rabbitmq.ctl("set_permissions", "--vhost", VHOST, user, *rights)
    yield f"amqp://notifier:{password}@{LOCALHOST}:{rabbitmq.port}/{VHOST}"
    rabbitmq.ctl("delete_user", "notifier")
    rabbitmq.ctl("delete_vhost", VHOST)


@pytest.fixture
def redis_url(private_redis: Redis) -> str:
    user, *rules = told("redis.md", "ACL SETUSER")
    private_redis.cli("acl", "setuser", user, *rules)
    [password] = [rule[1:] for rule in rules if rule.startswith(">")]
    return f"redis://{user}:{password}@{LOCALHOST}:{private_redis.port}/0"


@pytest.fixture
async def server(tmp_path: Path, broker_url: str, redis_url: str) -> AsyncIterator[ServerProcess]:
    """With the names that things have by default: those are what the patterns are for."""
    made = ServerProcess(
        tmp_path,
        {
            "log": {"kind": "rabbitmq", "marker_interval": "500ms"},
            "rabbitmq": {"url": broker_url},
            "redis": {"url": redis_url},
            "limits": {"connects_per_user": 100, "connects_per_user_burst": 100},
            "channels": CHANNELS,
        },
    )
    await made.start()
    yield made
    await made.terminate()


async def test_a_server_with_the_rights_of_the_pages_lacks_none(
    server: ServerProcess, broker_url: str, rabbitmq: RabbitMQ
) -> None:
    """S35, S37."""
    async with aiohttp.ClientSession() as http, http.ws_connect(server.ws_url) as socket:
        commands = [{"id": 1, "connect": {"token": make_token("ann")}}, {"id": 2, "subscribe": {"channel": "a"}}]
        await socket.send_str("\n".join(map(json.dumps, commands)))
        await eventually(lambda: _present(server))
        assert await server.call("publish", channel="a", data=1)
        text = ""
        while '"data":1' not in text:
            text = await asyncio.wait_for(socket.receive_str(), 10 * SECOND)
        await _rejected(broker_url)
        await server.call("revoke", user="ann")
        async for _ in socket:
            pass
        assert socket.close_code == 3005
        async with http.get(f"{server.url}/readyz") as response:
            assert (response.status, "degraded" in await response.text()) == (200, False)
    assert [finding for finding in await examine(load(server.file, {})) if finding.level is Level.FAIL] == []
    lines = server.log.read_text()
    assert not re.search(r'"level": "(error|critical)"|ACCESS_REFUSED|NOPERM', lines), lines


async def _present(server: ServerProcess) -> Any:
    return (await server.call("presence", channel="a"))["presence"]


async def _rejected(url: str) -> None:
    """What is no publication is copied, which is written to a queue."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("notifications")
        await exchange.publish(aio_pika.Message(b"no JSON"), "a")
        queue = await channel.get_queue("notifications.rejected")
        await eventually(lambda: queue.get(fail=False), 20 * SECOND)


async def test_those_rights_reach_nothing_else(
    server: ServerProcess, broker_url: str, redis_url: str, private_redis: Redis
) -> None:
    async with await aio_pika.connect(broker_url) as connection:
        for name in ("orders", "notifications2", "amq.rabbitmq.trace"):
            channel = await connection.channel()
            with pytest.raises(ChannelAccessRefused):
                await channel.declare_queue(name)
    user, password = re.findall(r"//(\w+):(\w+)@", redis_url)[0]
    for words in (["config", "get", "*"], ["flushall"], ["keys", "*"], ["acl", "list"], ["get", "somebody:elses"]):
        answer = private_redis.cli("--user", user, "--pass", password, "--no-auth-warning", *words)
        assert "NOPERM" in answer, words
