"""Two nodes on one log, with every feature switched on, for tests that leave them as they found them."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any, NamedTuple, Self

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from tests.servers import ServerProcess, on_rabbitmq
from tests.services.deadline import eventually
from tests.services.proxy import TcpProxy

HOUR = {"size": 1000, "ttl": "1h"}
CHANNELS: list[dict[str, Any]] = [
    {"match": "user.*", "history": HOUR, "subscribe": ["user.{sub}"], "publish": ["role:service"]},
    {"match": "private.#", "history": HOUR, "subscribe": ["token"]},
    {"match": "fleeting.#", "subscribe": ["anyone"], "publish": ["anyone"]},
    {"match": "open.#", "history": HOUR, "subscribe": ["anyone"], "publish": ["anyone"]},
    {"match": "brief.#", "history": {"size": 2, "ttl": "1h"}, "subscribe": ["anyone"]},
    {"match": "latest.#", "history": HOUR, "recovery": "cache", "subscribe": ["anyone"]},
    {"match": "document.#", "history": HOUR, "delta": True, "subscribe": ["anyone"]},
    {"match": "ticker.#", "history": HOUR, "tag_filter": True, "subscribe": ["anyone"]},
    {"match": "orders.#", "history": HOUR, "wildcard": True, "subscribe": ["anyone"]},
    {"match": "room.#", "presence": True, "join_leave": "on_request", "subscribe": ["anyone"]},
    {
        "match": "lobby.#",
        "presence": True,
        "join_leave": "always",
        "subscribe": ["anyone", "token"],
        "publish": ["subscriber"],
    },
]
"""As in `tests.servers`, `nowhere.at.all` is unknown."""


class Cluster(NamedTuple):
    """Whatever is told to one node holds on the other one."""

    one: ServerProcess
    other: ServerProcess

    async def start(self) -> None:
        """Returns when both are ready and know each other."""
        await asyncio.gather(self.one.start(), self.other.start())
        for node in self:
            await eventually(lambda node=node: _sees_both(node))  # type: ignore[misc]

    def kill(self) -> None:
        for node in self:
            node.kill()


def cluster(url: str, folder: Path) -> Cluster:
    """Not started. One node compresses what it writes to WebSockets, the other one does not."""
    queues = f"test-{secrets.token_hex(4)}"
    sections: dict[str, Any] = {
        **on_rabbitmq(url),
        "channels": CHANNELS,
        "connect": {"subscribe": ["user.{sub}"]},
        "rpc": [
            {"method": "shop.#", "queue": f"{queues}.calls", "allow": ["authenticated"]},
            {"method": "admin.#", "queue": f"{queues}.calls", "allow": ["role:admin"]},
            {"method": "absent.#", "queue": f"{queues}.absent", "timeout": "1s", "allow": ["anyone"]},
        ],
    }
    clients = {"send_queue": f"{queues}.sent"}
    return Cluster(
        ServerProcess(folder, {**sections, "clients": clients, "server": {"name": "one"}}),
        ServerProcess(folder, {**sections, "clients": {**clients, "compression": True}, "server": {"name": "other"}}),
    )


async def _sees_both(node: ServerProcess) -> bool:
    nodes = (await node.call("info"))["nodes"]
    return {entry["name"] for entry in nodes} == {"one", "other"}


class Line:
    """The way to a server. While it is cut nobody can connect."""

    def __init__(self, server: ServerProcess) -> None:
        self._proxy = TcpProxy("127.0.0.1", server.port)

    async def __aenter__(self) -> Self:
        await self._proxy.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._proxy.close()

    @property
    def url(self) -> str:
        return f"http://{self._proxy.host}:{self._proxy.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self._proxy.host}:{self._proxy.port}/connection/websocket"

    async def cut(self) -> None:
        self._proxy.refuse()
        await self._proxy.reset()

    def mend(self, server: ServerProcess | None = None) -> None:
        """With a server, what connects from now on comes to that one."""
        if server is not None:
            self._proxy.target = (self._proxy.target[0], server.port)
        self._proxy.heal()


class Shop:
    """A backend that answers calls of clients with what it was asked and by whom, and notes what they send."""

    def __init__(self, server: ServerProcess) -> None:
        self._config = server.config
        self._connection: AbstractConnection | None = None
        self._exchange: aio_pika.abc.AbstractExchange | None = None
        self.sent: list[tuple[str, Any]] = []
        """User and data."""

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._config["rabbitmq"]["url"])
        channel = await self._connection.channel()
        self._exchange = channel.default_exchange
        calls = await channel.declare_queue(self._config["rpc"][0]["queue"], auto_delete=True)
        await calls.consume(self._answer, no_ack=True)
        sent = await channel.declare_queue(self._config["clients"]["send_queue"], auto_delete=True)
        await sent.consume(self._note, no_ack=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection:
            await self._connection.close()

    async def _answer(self, request: AbstractIncomingMessage) -> None:
        assert self._exchange is not None
        headers: dict[str, Any] = {}
        if request.type == "shop.closed":
            body, headers["notifier-error-code"] = b"closed on Sundays", 1042
        else:
            answer = {"method": request.type, "data": json.loads(request.body), "user": _user(request)}
            body = json.dumps(answer).encode()
        reply = aio_pika.Message(body, correlation_id=request.correlation_id, headers=headers)
        await self._exchange.publish(reply, request.reply_to or "")

    async def _note(self, message: AbstractIncomingMessage) -> None:
        self.sent.append((_user(message), json.loads(message.body)))


def _user(message: AbstractIncomingMessage) -> str:
    return str(json.loads(str(message.headers["notifier-client"]))["user"])
