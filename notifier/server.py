"""Builds everything from a configuration, starts it, drains it: the one place that knows all rooms."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import time
import uuid
from collections.abc import Callable

from aiohttp import web

from notifier import __version__
from notifier.api.amqp import AmqpApi
from notifier.api.http import ApiEndpoint, DocumentsEndpoint
from notifier.auth.keys import ApiKeys
from notifier.auth.tokens import Tokens
from notifier.cluster.alone import NoBackends, NoBus
from notifier.cluster.backends import RabbitMQBackends
from notifier.cluster.bus import RabbitMQBus
from notifier.cluster.connection import ControlConnection, Part
from notifier.config import Config
from notifier.console.page import Console
from notifier.core.control import Control
from notifier.core.node import Node
from notifier.core.stats import Stats
from notifier.errors import ConfigError, NotifierError
from notifier.log.memory import MemoryLog
from notifier.log.rabbitmq import RabbitMQLog
from notifier.protocol.codes import SHUTDOWN
from notifier.telemetry.describe import describe
from notifier.telemetry.health import Check, Health
from notifier.telemetry.metrics import Metrics
from notifier.transports.emulation import EmulationEndpoints
from notifier.transports.gate import Gate
from notifier.transports.plain import PlainEndpoints
from notifier.transports.unidirectional import UnidirectionalEndpoints
from notifier.transports.websocket import WebSocketEndpoint
from notifier.workers.siblings import Siblings
from notifier.workers.status import StatusEndpoints

_logger = logging.getLogger(__name__)

KEEPALIVE_S = 15.0  # also the deadline for a request's headers (aiohttp arms it when a connection is made)
BACKLOG = 4096
DRAIN_SLICE_S = 0.1
STUCK_S = 5.0


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class Server:
    """One worker. `start`, then `drain`, then `stop`."""

    def __init__(self, config: Config, siblings: Siblings | None = None) -> None:
        """Raises ConfigError when the channel rules cannot be used. Must be called inside a running loop."""
        self.config = config
        self.siblings = siblings
        clock = SystemClock()
        loop = asyncio.get_running_loop()
        self.tokens = Tokens(config.auth, clock)
        self.node = Node(
            name=config.server.name or socket.gethostname(),
            version=__version__,
            channels=config.channels,
            history=config.history,
            clients=config.clients,
            connect=config.connect,
            publications=config.publications,
            repeat_window=config.log.repeat_window,
            anonymous=config.auth.anonymous,
            rpc=config.rpc,
            max_batch=config.api.max_batch,
            leeway_s=config.auth.leeway,
            verifier=self.tokens,
            clock=clock,
            defer=loop.call_soon,
            later=loop.call_later,
            new_id=_new_id,
        )
        node = self.node
        self.log: MemoryLog | RabbitMQLog
        self.bus: NoBus | RabbitMQBus = NoBus()
        self.cluster: ControlConnection | None = None
        if config.log.kind == "rabbitmq":
            self.log = RabbitMQLog(config.rabbitmq, config.log, node.feed, node.stats, node.node_id)
            self.cluster = self._join_cluster()
        else:
            self.log = MemoryLog(node.feed, clock, _new_id()[:8])
            node.backends = NoBackends()
        node.log = self.log
        node.control = Control(node, self.bus, lambda: describe(node))
        self.health = Health()
        self.health.add("log", self._check_log)
        if self.cluster is not None:
            # For operators: what is beside the log keeps nobody away.
            self.health.add("control", lambda: Check(True, self.cluster.problem if self.cluster else ""))
        self.health.add("leaving", lambda: Check(not self.node.draining, "moving clients off" * self.node.draining))
        self.status = StatusEndpoints(self.health, Metrics(node), siblings)
        self._runner: web.AppRunner | None = None
        self._ticker: asyncio.Task[None] | None = None
        self.address = ""
        self.collector: Collector | None = None

    def _join_cluster(self) -> ControlConnection:
        """What other workers and backends are reached by."""
        node, rabbitmq = self.node, self.config.rabbitmq
        self.bus = RabbitMQBus(rabbitmq.control, node.node_id, node.stats, declare=rabbitmq.declare)
        node.backends = backends = RabbitMQBackends()
        parts: list[Part] = [self.bus, backends]
        if rabbitmq.api:
            parts.append(AmqpApi(node, rabbitmq.api, self.config.api.max_body, declare=rabbitmq.declare))
        return ControlConnection(rabbitmq, node.node_id, node.stats, parts)

    async def start(self) -> None:
        """Listen, then begin to read the log: /livez answers at once, /readyz when the log has been read. A worker that
        takes another one's place reads first, because its siblings serve all clients until then.

        Raises ConfigError when the address cannot be listened on.
        """
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            handler_cancellation=True,  # a stream's handler ends with its connection
            shutdown_timeout=1.0,
        )
        await self._runner.setup()
        replaces = self.siblings is not None and self.siblings.replaces
        if not replaces:
            await self._listen(self._runner)
        self._ticker = asyncio.create_task(self._tick())
        await self.log.start()
        if self.cluster is not None:
            self.cluster.start()
        if replaces:
            while not self.log.ready:  # noqa: ASYNC110 - once in a worker's life
                await asyncio.sleep(0.05)
            await self._listen(self._runner)

    async def _listen(self, runner: web.AppRunner) -> None:
        """Siblings are answered from the moment on from which clients may come here."""
        server = self.config.server
        if self.siblings is not None:
            await self.siblings.serve(self.status.answers())
        shared = self.siblings is not None
        site = web.TCPSite(runner, server.host, server.port, backlog=BACKLOG, reuse_port=shared or None)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                [f"server.host, server.port: cannot listen on {server.host}:{server.port}: {error.strerror}"]
            ) from error
        host, port = runner.addresses[0][:2]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    async def drain(self) -> None:
        """Take no new clients, and move those that are here off in slices, so that they do not all arrive elsewhere at
        the same moment."""
        self.node.draining = True
        sessions = list(self.node.sessions.values())
        _logger.info("leaving", extra={"clients": len(sessions)})
        slices = max(1, int(self.config.server.shutdown_grace / 2 / DRAIN_SLICE_S))
        size = max(100, -(-len(sessions) // slices))
        for start in range(0, len(sessions), size):
            self.node.disconnect_all(SHUTDOWN, sessions[start : start + size])
            await asyncio.sleep(DRAIN_SLICE_S)
        self.node.disconnect_all(SHUTDOWN, self.node.sessions.values())

    async def stop(self) -> None:
        """Let go of everything."""
        if self._ticker:
            self._ticker.cancel()
        if self.siblings is not None:
            await self.siblings.close()
        if isinstance(self.bus, RabbitMQBus):
            await self.bus.leave()
        if self.cluster is not None:
            await self.cluster.stop()
        await self.log.stop()
        await self.tokens.close()
        if self._runner:
            await self._runner.cleanup()

    def _application(self) -> web.Application:
        config = self.config
        gate = Gate(config.server)
        keys = ApiKeys(config.api.keys)
        application = web.Application(client_max_size=config.api.max_body)
        route = application.router
        route.add_get("/connection/websocket", WebSocketEndpoint(self.node, gate).handle)
        emulation = EmulationEndpoints(self.node, gate)
        for method in ("POST", "OPTIONS"):
            route.add_route(method, "/connection/http_stream", emulation.http_stream)
            route.add_route(method, "/emulation", emulation.upward)
        for method in ("GET", "POST"):
            route.add_route(method, "/connection/sse", emulation.event_stream)
        one_way = UnidirectionalEndpoints(self.node, gate)
        route.add_get("/connection/uni_websocket", one_way.websocket)
        for method in ("GET", "POST"):
            route.add_route(method, "/connection/uni_sse", one_way.event_stream)
        for method in ("POST", "OPTIONS"):
            route.add_route(method, "/connection/uni_http_stream", one_way.http_stream)
        plain = PlainEndpoints(self.node, gate, config.auth, keys)
        route.add_get("/sse", plain.event_stream)
        route.add_options("/sse", plain.preflight)
        route.add_get("/ws", plain.websocket)
        documents = DocumentsEndpoint(config, keys)
        route.add_route("*", "/api/openapi.json", documents.openapi)
        route.add_route("*", "/api/asyncapi.json", documents.asyncapi)
        api = ApiEndpoint(self.node, keys, config.api.max_body)
        route.add_route("*", "/api", api.handle)
        route.add_route("*", "/api/{method}", api.handle)
        route.add_get("/livez", self.status.livez)
        route.add_get("/readyz", self.status.readyz)
        if config.server.metrics:
            route.add_get("/metrics", self.status.metrics)
        if config.server.console:
            console = Console(config)
            route.add_get("/", console.handle)
        return application

    def _check_log(self) -> Check:
        if self.log.problem:
            return Check(False, self.log.problem)
        if not self.log.ready:
            return Check(False, "reading the log")
        return Check(True)

    async def _tick(self) -> None:
        """Once a second, on the second; how late it comes is the loop's lag."""
        due = time.monotonic() + 1
        while True:
            await asyncio.sleep(max(0, due - time.monotonic()))
            self.node.stats.loop_lag.observe(max(0, time.monotonic() - due))
            due = max(due + 1, time.monotonic())
            try:
                self.node.tick()
                if self.collector:
                    self.collector.tick()
            except Exception:
                _logger.exception("the node's tick failed")


class Collector:
    """Looks for old garbage cycles only when there can be some: after connections have ended.

    Each look walks everything that connections are made of: a third of a second with 10,000 of them, during which
    nothing is delivered. With the default thresholds that is half of a busy worker's time. What is garbage without a
    cycle is freed at once all the same, and young objects are looked at as ever.
    """

    LEAST_ENDED = 1000
    AT_LEAST_EVERY_S = 3600.0

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._ended_before = 0
        self._last = time.monotonic()
        gc.collect()
        gc.freeze()  # what the imports have made stays for good
        gc.set_threshold(50_000, 1_000_000, 1_000_000)

    def tick(self) -> None:
        """Once a second. Ended connections cost at most four times their own share of a look."""
        ended = self._stats.ended - self._ended_before
        enough = max(self.LEAST_ENDED, self._stats.connections.total() // 4)
        if ended >= enough or (ended and time.monotonic() - self._last > self.AT_LEAST_EVERY_S):
            self._ended_before = self._stats.ended
            self._last = time.monotonic()
            gc.collect()


async def serve(config: Config, announce: Callable[[Server], None], siblings: Siblings | None = None) -> None:
    """Run a worker until it is asked to end: the first signal drains it, a second one ends it at once.

    Raises NotifierError when it cannot start.
    """
    server = Server(config, siblings)
    signals: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, None)
    try:
        await server.start()
        server.collector = Collector(server.node.stats)
        announce(server)
        await signals.get()
        await _until_asked_again(server.drain(), signals, config.server.shutdown_grace)
    finally:
        with contextlib.suppress(NotifierError):
            await _until_asked_again(server.stop(), signals, config.server.shutdown_grace)


async def _until_asked_again(work: object, signals: asyncio.Queue[None], deadline_s: float) -> None:
    """Do the work, but no longer than until the next signal or the deadline."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    asked = asyncio.ensure_future(signals.get())
    await asyncio.wait({task, asked}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
    for pending in (task, asked):
        pending.cancel()
    await asyncio.gather(task, asked, return_exceptions=True)


def _new_id() -> str:
    return str(uuid.uuid4())
