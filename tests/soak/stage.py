"""The stage: broker, Redis, nodes, and a switchable proxy on every way between them. Loopback only; ends what it
started, by process id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import _toml
from tests.services.deadline import SECOND
from tests.services.ports import LOCALHOST, free_port
from tests.services.process import Process
from tests.services.proxy import TcpProxy
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis
from tests.soak.clients import Address
from tests.soak.process import ROOT
from tests.soak.sizes import Settings, node_sections

POLL_S = 0.15
API_KEY = "the-api-key-of-the-soak"
EXCHANGE, STREAM = "notifications", "notifier.log"
GAUGES = ("notifier_subscriptions", "notifier_connections", "notifier_clients", "notifier_repeats_total",
          "notifier_log_resets_total", "notifier_log_publishing_blocked", "notifier_history_bytes",
          "notifier_log_lag_seconds", "process_open_fds", "process_resident_memory_bytes")  # fmt: skip


class SoakNode:
    """A real `notifier serve`, reached directly or through `door`, with its own way to the broker and to Redis."""

    def __init__(self, number: int, settings: Settings, broker: RabbitMQ, redis: TcpProxy, folder: Path) -> None:
        self.number = number
        self.port = free_port()
        self.door = TcpProxy(LOCALHOST, self.port)
        self.link = TcpProxy(LOCALHOST, broker.port)
        self.log = folder / f"node-{number}.log"
        self.away = False  # the nemesis has taken it down
        self._folder = folder
        self._process: Process | None = None
        self._argv = [sys.executable, "-m", "tests.soak.node"]
        if settings.bug:
            self._argv += ["--bug", settings.bug, "--seed", str(settings.seed)]
        file = folder / f"node-{number}.toml"
        sections = node_sections(settings) | {
            "server": {"port": self.port, "name": f"node-{number}", "shutdown_grace": "5s"},
            "rabbitmq": {
                "url": broker.url_at(self.link.port),
                "exchange": EXCHANGE,
                "stream": STREAM,
                "heartbeat": "3s",
                "connect_timeout": "4s",
            },
            "api": {"keys": [API_KEY]},
        }
        file.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in sections.items()))
        self._argv += ["serve", "--config", str(file)]
        self._environ = {name: text for name, text in os.environ.items() if not name.startswith("NOTIFIER_")}
        self._environ |= {
            "PYTHONPATH": str(ROOT),
            "NOTIFIER_REDIS__URL": f"redis://{LOCALHOST}:{redis.port}/0",
        }

    @property
    def address(self) -> Address:
        return Address(self.url, f"http://{LOCALHOST}:{self.door.port}")

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive

    def start(self) -> None:
        if not self.running:
            self._process = Process(self._argv, self._environ, self._folder, self.log)
        self.away = False

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()


class Stage:
    """Everything that runs beside publishers and clients. Use ``async with``."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.broker = RabbitMQ()
        # The second one takes over in a failover; the nodes always go through the one proxy.
        self.redis = [Redis(appendonly=True), Redis(appendonly=True)]
        self.redis_door = TcpProxy(LOCALHOST, self.redis[0].port)
        self.nodes = [
            SoakNode(number, settings, self.broker, self.redis_door, folder) for number in range(settings.size.nodes)
        ]
        self._exits = contextlib.AsyncExitStack()
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._begin()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _begin(self) -> None:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2 * SECOND))
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in (self.broker, *self.redis)))
        await self.follow(self.redis[1], self.redis[0])
        await self._exits.enter_async_context(self.redis_door)
        for node in self.nodes:
            await self._exits.enter_async_context(node.door)
            await self._exits.enter_async_context(node.link)
            node.start()
        await self.all_ready(60 * SECOND)

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await asyncio.to_thread(node.end)
        await self._exits.aclose()
        for server in (self.broker, *self.redis):
            await asyncio.to_thread(server.close)
        if self._http is not None:
            await self._http.close()

    # --- looking ----------------------------------------------------------------------------------------------------

    async def is_ready(self, node: SoakNode) -> bool:
        try:
            return await self._status(node, "readyz") == 200
        except (OSError, TimeoutError, aiohttp.ClientError):
            return False

    async def all_ready(self, deadline_s: float) -> None:
        """Raises AssertionError when a node is not ready in time, and with its log when it has ended."""

        async def check() -> bool:
            found = []
            for node in self.nodes:
                if not node.running and not node.away:
                    tail = node.log.read_text(errors="replace")[-3000:]
                    raise RuntimeError(f"node {node.number} has ended by itself:\n{tail}")
                found.append(await self.is_ready(node))
            return all(found)

        if not await within(check, deadline_s):
            raise AssertionError(f"not all nodes were ready within {deadline_s:g} s")

    async def is_alive(self, node: SoakNode, within_s: float = 1.0) -> bool:
        try:
            async with asyncio.timeout(within_s):
                return await self._status(node, "livez") == 200
        except (OSError, TimeoutError, aiohttp.ClientError):
            return False

    async def gauges(self, node: SoakNode) -> dict[str, float]:
        """A node's numbers, summed over their labels; empty when it does not answer."""
        assert self._http is not None
        try:
            async with self._http.get(f"{node.url}/metrics") as response:
                text = await response.text()
        except (OSError, TimeoutError, aiohttp.ClientError):
            return {}
        found = dict.fromkeys(GAUGES, 0.0)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in found:
                    found[sample.name] += sample.value
        return found

    async def call(self, node: SoakNode, method: str, **params: Any) -> dict[str, Any]:
        """The result of a method of a node's server API."""
        assert self._http is not None
        headers = {"X-API-Key": API_KEY}
        async with self._http.post(f"{node.url}/api/{method}", json=params, headers=headers) as response:
            answer: dict[str, Any] = await response.json()
            result: dict[str, Any] = answer.get("result", {})
            return result

    async def _status(self, node: SoakNode, path: str) -> int:
        assert self._http is not None
        async with self._http.get(f"{node.url}/{path}") as response:
            return response.status

    # --- Redis ------------------------------------------------------------------------------------------------------

    async def redis_says(self, server: Redis, *words: str, within_s: float = 2.0) -> str:
        """The first line of its answer; empty when there is none in time."""
        writer = None
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_connection(LOCALHOST, server.port)
                writer.write((" ".join(words) + "\r\n").encode())
                line = (await reader.readline()).decode().strip()
                return (await reader.readuntil(b"\n")).decode().strip() if line.startswith("$") else line
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return ""
        finally:
            if writer is not None:
                writer.close()

    async def follow(self, replica: Redis, primary: Redis) -> None:
        await self.redis_says(replica, "REPLICAOF", LOCALHOST, str(primary.port))


async def within(check: Callable[[], Awaitable[bool]], deadline_s: float) -> bool:
    """Whether the check comes true in time. Asks so seldom that asking costs the machine nothing."""
    ends = time.monotonic() + deadline_s
    while not await check():
        if time.monotonic() > ends:
            return False
        await asyncio.sleep(POLL_S)
    return True
