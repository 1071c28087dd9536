"""Two servers as processes of their own, on one RabbitMQ and one Redis."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from notifier.state.leases import BEAT_S, LEASE_S
from tests.servers import NewServer, ServerProcess, make_token, on_rabbitmq, servers
from tests.services.deadline import SECOND, eventually
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis

ROOMS = [
    {"match": "room.*", "presence": True, "join_leave": "always", "subscribe": ["anyone"], "publish": ["anyone"]},
]


@pytest.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[NewServer]:
    async with servers(tmp_path) as start:
        yield start


@pytest.fixture
def sections(rabbitmq: RabbitMQ, private_redis: Redis) -> dict[str, Any]:
    private_redis.cli("flushall")
    return {
        **on_rabbitmq(rabbitmq.url),
        "redis": {"url": private_redis.url, "timeout": "1s"},
        "channels": ROOMS,
    }


class Guest:
    """A client that notes who comes and goes."""

    def __init__(self, socket: ClientConnection, client_id: str) -> None:
        self.socket = socket
        self.client_id = client_id
        self.pushes: list[tuple[str, str]] = []
        self.data: list[Any] = []
        self.replies: dict[int, Any] = {}
        self.listening = asyncio.create_task(self._listen())

    @classmethod
    async def come(cls, server: ServerProcess, user: str, room: str) -> Guest:
        socket = await connect(server.ws_url)
        await socket.send(json.dumps({"id": 1, "connect": {"token": make_token(user)}}))
        reply = json.loads(await socket.recv())
        guest = cls(socket, reply["connect"]["client"])
        assert "subscribe" in await guest.ask(2, subscribe={"channel": room})
        return guest

    async def ask(self, number: int, **command: Any) -> Any:
        self.replies.pop(number, None)
        await self.socket.send(json.dumps({"id": number, **command}))
        return await eventually(lambda: self.replies.get(number), 30 * SECOND)

    async def leave(self) -> None:
        self.listening.cancel()
        await self.socket.close()

    async def _listen(self) -> None:
        async for text in self.socket:
            for line in str(text).split("\n"):
                message = json.loads(line)
                push = message.get("push", {})
                for kind in ("join", "leave"):
                    if kind in push:
                        self.pushes.append((kind, push[kind]["info"]["user"]))
                if "pub" in push:
                    self.data.append(push["pub"]["data"])
                if message == {}:
                    await self.socket.send("{}")
                self.replies[message.get("id", 0)] = message


async def users(server: ServerProcess, room: str) -> list[str]:
    found = await server.call("presence", channel=room)
    return sorted(info["user"] for info in found["presence"].values())


async def test_a_killed_nodes_clients_are_gone_within_its_lease_and_others_are_told(
    new_server: NewServer, sections: dict[str, Any]
) -> None:
    """F-N1."""
    one, two = await new_server(sections), await new_server(sections)
    here = await Guest.come(one, "ann", "room.1")
    there = await Guest.come(two, "bob", "room.1")
    await eventually(lambda: ("join", "bob") in here.pushes, 30 * SECOND)
    for server in (one, two):
        await eventually(lambda server=server: _same(users(server, "room.1"), ["ann", "bob"]), 30 * SECOND)  # type: ignore[misc]
    assert await one.call("presence_stats", channel="room.1") == {"num_clients": 2, "num_users": 2}
    killed = time.monotonic()
    two.kill()
    await eventually(lambda: _same(users(one, "room.1"), ["ann"]), 60 * SECOND)
    assert time.monotonic() - killed < LEASE_S + 2 * SECOND
    await eventually(lambda: ("leave", "bob") in here.pushes, 60 * SECOND)
    assert time.monotonic() - killed < LEASE_S + 2 * BEAT_S + 5 * SECOND
    assert here.pushes.count(("leave", "bob")) == 1
    assert (await here.ask(3, presence={"channel": "room.1"}))["presence"]["presence"].keys() == {here.client_id}
    await there.leave()
    await here.leave()


async def test_without_redis_presence_answers_an_error_at_once_and_all_else_goes_on(
    new_server: NewServer, sections: dict[str, Any], private_redis: Redis
) -> None:
    one, two = await new_server(sections), await new_server(sections)
    here = await Guest.come(one, "ann", "room.1")
    await eventually(lambda: _same(users(two, "room.1"), ["ann"]), 30 * SECOND)
    private_redis.freeze()
    await here.ask(3, presence={"channel": "room.1"})
    started = time.monotonic()
    for number in range(4, 14):
        answer = await here.ask(number, presence_stats={"channel": "room.1"})
        assert answer["error"] == {"code": 100, "message": "internal server error", "temporary": True}
    answer = await one.post("presence", channel="room.1")
    assert (answer["error"]["code"], "Redis is away" in answer["error"]["message"]) == (100, True)
    assert time.monotonic() - started < 1 * SECOND
    there = await Guest.come(two, "bob", "room.1")
    await eventually(lambda: ("join", "bob") in here.pushes, 10 * SECOND)
    await two.publish("room.1", "still here")
    await eventually(lambda: here.data == ["still here"], 10 * SECOND)
    await there.leave()
    await eventually(lambda: ("leave", "bob") in here.pushes, 10 * SECOND)
    private_redis.thaw()
    await eventually(lambda: _same(users(two, "room.1"), ["ann"]), 60 * SECOND)
    await here.leave()


async def _same(found: Any, expected: list[str]) -> bool:
    answer = await found
    assert answer == expected
    return True
