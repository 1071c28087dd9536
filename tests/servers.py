"""The real server as a process of its own, the tokens it accepts, and a backend that publishes to its broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import aio_pika
import aiohttp
import jwt
import pytest
from aio_pika.abc import AbstractConnection, AbstractExchange

from notifier.config import DEV_API_KEY
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST, free_port
from tests.services.process import Process

KEY = "the-key-of-the-tests-has-thirty-two-bytes-and-more"
API_KEY = "the-api-key-of-the-tests"
PING = "{}"
ROOT = Path(__file__).parent.parent

Sections = Mapping[str, Mapping[str, Any] | list[Any]]

CHANNELS: list[dict[str, Any]] = [
    {
        "match": "user.*",
        "history": {"size": 100, "ttl": "1h"},
        "subscribe": ["user.{sub}"],
        "publish": ["role:service"],
    },
    {"match": "private.#", "history": {"size": 100, "ttl": "1h"}, "subscribe": ["token"], "publish": ["role:service"]},
    {"match": "fleeting.#", "subscribe": ["anyone"], "publish": ["anyone"]},
    {"match": "open.#", "history": {"size": 50_000, "ttl": "1h"}, "subscribe": ["anyone"], "publish": ["anyone"]},
]
"""A channel that matches none of them, `nowhere.at.all`, is unknown."""


def lacking(what: str) -> NoReturn:
    """Skip for want of a part, but never in CI: there a missing part is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def make_token(user: str, ttl_s: float = 3600, key: str = KEY, **claims: Any) -> str:
    """A connection token; with the claim `channel` one for a subscription. A negative `ttl_s` makes an expired one."""
    now = int(time.time())
    return jwt.encode({"sub": user, "iat": now, "exp": now + ttl_s, **claims}, key, algorithm="HS256")


async def received(socket: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
    """The next message that is no ping. Pings come by the clock, so one may come before anything, and are answered."""
    while (message := await socket.receive(timeout=10 * SECOND)).data == PING:
        await socket.send_str(PING)
    return message


def on_rabbitmq(url: str) -> dict[str, dict[str, Any]]:
    """Sections for a log of its own on a broker that others use as well; servers with the same ones are one cluster."""
    name = f"test-{secrets.token_hex(4)}"
    return {
        "log": {"kind": "rabbitmq", "marker_interval": "500ms"},
        "rabbitmq": {
            "url": url,
            "exchange": f"{name}.notifications",
            "stream": f"{name}.log",
            "rejected": f"{name}.rejected",
            "control": f"{name}.control",
            "api": f"{name}.api",
        },
    }


class ServerProcess:
    """start → (kill · terminate → start)* → kill. The port stays the same from the constructor on.

    `sections` are added to a configuration with `CHANNELS`, `KEY` and `API_KEY`; with `dev` the server runs as
    `notifier serve --dev` does instead. `log` is what it has printed.
    """

    def __init__(self, folder: Path, sections: Sections | None = None, *, dev: bool = False) -> None:
        self.port = free_port()
        self.log = folder / f"server-{self.port}.log"
        self.api_key = DEV_API_KEY if dev else API_KEY
        self._folder = folder
        self._process: Process | None = None
        self.environ = {name: text for name, text in os.environ.items() if not name.startswith("NOTIFIER_")}
        self.environ["PYTHONPATH"] = str(ROOT)
        self._argv = [sys.executable, "-m", "notifier", "serve"]
        self.config = _config({} if sections is None else sections, self.port)
        self.file = folder / f"server-{self.port}.toml"
        if dev:
            self._argv.append("--dev")
            self.environ["NOTIFIER_SERVER__PORT"] = str(self.port)
        else:
            self.write()
            self._argv += ["--config", str(self.file)]

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    def write(self) -> None:
        """The file gets what `config` says; a running server reads it again when it is told to."""
        self.file.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in self.config.items()))

    @property
    def ws_url(self) -> str:
        return f"ws://{LOCALHOST}:{self.port}/connection/websocket"

    @property
    def pid(self) -> int:
        """0 before it was started."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        return self._process.exit_code if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive

    async def start(self) -> Self:
        """Start it and wait until it has read its log."""
        if not self.running:
            self._process = Process(self._argv, self.environ, self._folder, self.log)
        async with aiohttp.ClientSession() as http:
            await eventually(lambda: self._is_ready(http), 30 * SECOND, retry=(AssertionError, aiohttp.ClientError))
        return self

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing flushed. Returns when it is gone."""
        if self._process:
            self._process.kill()

    async def terminate(self) -> None:
        """SIGTERM: clients are moved off first."""
        if self._process:
            await asyncio.to_thread(self._process.terminate)

    async def call(self, method: str, **params: Any) -> Any:
        """The result of a method of the server API."""
        answer = await self.post(method, **params)
        assert "result" in answer, answer
        return answer["result"]

    async def post(self, method: str, **params: Any) -> Any:
        """Whatever a method of the server API answers with."""
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/api/{method}", json=params, headers={"X-API-Key": self.api_key}) as response,
        ):
            return await response.json()

    async def publish(self, channel: str, data: Any, **fields: Any) -> int:
        """Publish through the server API; the answer is the offset."""
        result = await self.call("publish", channel=channel, data=data, **fields)
        return int(result.get("offset", 0))

    async def _is_ready(self, http: aiohttp.ClientSession) -> bool:
        if not self.running:
            raise RuntimeError(f"the server has ended:\n{self.log.read_text(errors='replace')[-4000:]}")
        async with http.get(f"{self.url}/readyz") as response:
            assert response.status == 200, await response.text()
        return True


NewServer = Callable[..., Awaitable[ServerProcess]]


@contextlib.asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[NewServer]:
    """Starts servers, with the arguments of `ServerProcess`, and kills them all at the end."""
    made: list[ServerProcess] = []

    async def start(sections: Sections | None = None, *, dev: bool = False) -> ServerProcess:
        made.append(ServerProcess(folder, sections, dev=dev))
        return await made[-1].start()

    try:
        yield start
    finally:
        for server in made:
            server.kill()


class Backend:
    """Publishes over AMQP with confirms, as an application's backend does. Knows nothing of the server."""

    def __init__(self, server: ServerProcess) -> None:
        self._section = server.config["rabbitmq"]
        self._connection: AbstractConnection | None = None
        self._exchange: AbstractExchange | None = None

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._section["url"])
        channel = await self._connection.channel()
        self._exchange = await channel.get_exchange(self._section["exchange"])
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection:
            await self._connection.close()

    async def publish(self, routing_key: str, data: Any, **properties: Any) -> None:
        """Returns when the broker has confirmed."""
        assert self._exchange is not None
        message = aio_pika.Message(
            json.dumps(data).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **properties
        )
        await self._exchange.publish(message, routing_key)


def _config(sections: Sections, port: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "channels": CHANNELS,
        "server": {"port": port, "shutdown_grace": "5s"},
        "auth": {"hmac_keys": [KEY]},
        "api": {"keys": [API_KEY]},
    }
    for name, section in sections.items():
        config[name] = {**config.get(name, {}), **section} if isinstance(section, Mapping) else section
    return config


def _toml(value: Any) -> str:
    """A value in TOML. Texts are as in JSON, which is the same for what stands in a configuration."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
