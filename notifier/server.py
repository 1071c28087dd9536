"""Builds everything from a configuration, starts it, drains it: the one place that knows all rooms."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from notifier import __version__
from notifier.api.amqp import AmqpApi
from notifier.api.audit import Audit
from notifier.auth.keys import ApiKeys
from notifier.auth.operators import Operators
from notifier.auth.tokens import Tokens
from notifier.cluster.alone import NoBackends, NoBus
from notifier.cluster.backends import RabbitMQBackends
from notifier.cluster.bus import RabbitMQBus
from notifier.cluster.connection import ControlConnection, Part
from notifier.collector import Collector, look_at_young
from notifier.config import Config
from notifier.core import leaving
from notifier.core.archiving import Gathering, Nobody
from notifier.core.control import Control
from notifier.core.feed import Feed
from notifier.core.node import Node
from notifier.core.recovery import NoArchive
from notifier.core.stats import Stats
from notifier.doors import Doors
from notifier.errors import ConfigError
from notifier.log.filling import Filler
from notifier.log.memory import MemoryLog
from notifier.log.rabbitmq import RabbitMQLog
from notifier.protocol.codes import SHUTDOWN
from notifier.pulse import Pulse
from notifier.reload import Outcome, Reloader
from notifier.state.archive import Keys, RedisArchive
from notifier.state.shared import Shared
from notifier.state.store import Store
from notifier.telemetry.describe import describe
from notifier.telemetry.health import Check, Health
from notifier.telemetry.metrics import Metrics
from notifier.telemetry.tracing import Tracing
from notifier.transports.turns import Turns
from notifier.workers.siblings import Siblings
from notifier.workers.status import StatusEndpoints

if TYPE_CHECKING:
    from notifier.operator.doctor import Finding

_logger = logging.getLogger(__name__)

RELOAD = "reload"
LOOK_S = 0.02  # how often something is looked at that nobody tells of


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)  # last: from here on the name is no longer the module's


class Server:
    """One worker. `start`, then `drain`, then `stop`."""

    def __init__(
        self, config: Config, siblings: Siblings | None = None, load: Callable[[], Config] | None = None
    ) -> None:
        """`load` reads the configuration again; without it, it stays as it is. Must be called inside a running loop.

        Raises ConfigError when the channel rules cannot be used.
        """
        self.config = config
        self.siblings = siblings
        clock = SystemClock()
        loop = asyncio.get_running_loop()
        self.tokens = Tokens(config.auth, clock)
        self.keys = ApiKeys(config.api.keys)
        self.audit = Audit(config.api.audit)
        admin = config.admin
        self.operators = Operators(admin.operators, admin.session, admin.session_max, clock.time)
        self.reloader = Reloader(config, load or (lambda: config), self._apply)
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
            limits=config.limits,
            leeway_s=config.auth.leeway,
            verifier=self.tokens,
            clock=clock,
            defer=loop.call_soon,
            later=loop.call_later,
            new_id=_new_id,
        )
        node = self.node
        node.worker = siblings.index if siblings is not None else 0
        self.store = Store(config.redis, node.stats) if config.redis.url else None
        self.archive = self._new_archive(self.store) if self.store is not None else None
        node.archive = self.archive or NoArchive()
        self.log: MemoryLog | RabbitMQLog
        self.bus: NoBus | RabbitMQBus = NoBus()
        self.cluster: ControlConnection | None = None
        self._amqp_api: AmqpApi | None = None
        if config.log.kind == "rabbitmq":
            self.log = RabbitMQLog(config.rabbitmq, config.log, node.feed, node.stats, node.node_id)
            self.cluster = self._join_cluster()
        else:
            self.log = MemoryLog(node.feed, clock, _new_id()[:8])
            node.backends = NoBackends()
        node.log = self.log
        node.turns = Turns(look_at_young)
        self.shared = Shared(config, self.store, node, self.bus) if self.store is not None else None
        presence = self.shared.presence if self.shared is not None else None
        node.control = Control(node, self.bus, lambda: describe(node), presence)
        self.tracing: Tracing | None = None
        if config.telemetry.otlp_endpoint:
            self.tracing = node.feed.tracer = Tracing(config.telemetry, loop.call_soon)
        self.health = Health()
        self.health.add("log", self._check_log)
        if self.cluster is not None:
            # For operators: what is beside the log keeps nobody away.
            self.health.add("control", lambda: Check(True, self.cluster.problem if self.cluster else ""))
        if self.shared is not None:
            # For operators, too: live delivery does not need it.
            self.health.add("redis", lambda: Check(True, self.shared.detail if self.shared else ""))
        if self.archive is not None:
            self.health.add("archive", lambda: Check(True, self.archive.problem if self.archive else ""))
        self.health.add("leaving", self._check_leaving)
        self.status = StatusEndpoints(self.health, Metrics(node), siblings)
        self.doors = Doors(
            config,
            node,
            self.status,
            self.keys,
            self.audit,
            self.reload_all,
            siblings,
            self.operators,
            self._examine,
        )
        self._reloads: set[asyncio.Task[None]] = set()
        self._pulse = Pulse(self._look, self._tick)
        self.collector: Collector | None = None

    def _join_cluster(self) -> ControlConnection:
        """What other workers and backends are reached by."""
        node, rabbitmq = self.node, self.config.rabbitmq
        self.bus = RabbitMQBus(rabbitmq.control, node.node_id, node.stats, declare=rabbitmq.declare)
        node.backends = backends = RabbitMQBackends()
        parts: list[Part] = [self.bus, backends]
        if rabbitmq.api:
            max_body = self.config.api.max_body
            self._amqp_api = AmqpApi(node, rabbitmq.api, max_body, self.audit, declare=rabbitmq.declare)
            parts.append(self._amqp_api)
        if self.archive is not None:
            parts.append(self._new_filler(self.archive))
        return ControlConnection(rabbitmq, node.node_id, node.stats, parts)

    def _new_archive(self, store: Store) -> RedisArchive | None:
        """None where no rule wants one."""
        node, config = self.node, self.config
        if not any(rule.archives for rule in node.rules):
            return None
        keys = Keys(store, node.rules, max_bytes=config.publications.max_bytes, repeat_window=config.log.repeat_window)
        return RedisArchive(store, keys, node.rules, lambda: node.history.epoch, lambda: node.history.end, node.stats)

    def _new_filler(self, archive: RedisArchive) -> Filler:
        node, config = self.node, self.config

        def new_feed(gathering: Gathering) -> Feed:
            return Feed(
                node.rules,
                gathering,
                Nobody(),
                Stats(),  # what it counts has been counted by the worker's own feed
                node.clock,
                max_bytes=config.publications.max_bytes,
                repeat_window=config.log.repeat_window,
            )

        return Filler(
            config.rabbitmq,
            config.log,
            archive,
            new_feed,
            lambda: node.history.epoch if self.log.ready else "",
            node.stats,
            node.node_id,
            reach_s=archive.longest_s,
        )

    async def start(self) -> None:
        """Listen, then begin to read the log: /livez answers at once, /readyz when the log has been read. A worker that
        takes another one's place reads first, because its siblings serve all clients until then.

        Raises ConfigError when the address cannot be listened on.
        """
        replaces = self.siblings is not None and self.siblings.replaces
        if not replaces:
            await self._open()
        self._pulse.start()
        if self.store is not None:
            self.store.start()
        if self.shared is not None:
            await self.shared.start()
        if self.archive is not None:
            self.archive.start()
        await self.log.start()
        if self.cluster is not None:
            self.cluster.start()
        if replaces:
            while not self.log.ready:  # noqa: ASYNC110 - once in a worker's life
                await asyncio.sleep(0.05)
            await self._open()

    async def _open(self) -> None:
        """Siblings are answered from the moment on from which clients may come here."""
        if self.siblings is not None:
            await self.siblings.serve({**self.status.answers(), RELOAD: self.begin_reload})
        await self.doors.open()

    async def drain(self) -> None:
        """Be not ready, then take no new clients and move those that are here off in slices, so that they do not all
        arrive elsewhere at the same moment; then answer what has been asked. `leaving.Timetable` says until when."""
        node, clock = self.node, asyncio.get_running_loop().time
        server, began = self.config.server, clock()
        table = leaving.timetable(server.shutdown_delay, server.shutdown_grace)
        node.leaving = True
        _logger.info("leaving", extra={"clients": len(node.sessions)})
        await asyncio.sleep(table.moving_s)
        node.draining = True
        sessions = list(node.sessions.values())
        requests = asyncio.create_task(self._amqp_api.finish()) if self._amqp_api is not None else None
        for at_s, part in leaving.slices(sessions, table.moved_s - table.moving_s, random.SystemRandom()):
            await asyncio.sleep(began + table.moving_s + at_s - clock())
            node.disconnect_all(SHUTDOWN, part)
        node.disconnect_all(SHUTDOWN, [*node.sessions.values(), *node.newcomers()])
        await _while(lambda: bool(node.going), began + table.cut_s)
        _logger.info("clients moved off", extra={"clients": len(sessions)})
        if node.going:
            _logger.warning("clients cut off that did not take their last bytes", extra={"clients": len(node.going)})
        self._cut_off()
        self.doors.close()
        await _while(lambda: self.doors.busy, began + table.answered_s)
        if requests is not None:
            await asyncio.wait({requests}, timeout=max(0.0, began + table.answered_s - clock()))
            requests.cancel()

    def _cut_off(self) -> None:
        """End the connections of all clients, whatever is unsent."""
        for session in [*self.node.sessions.values(), *self.node.newcomers()]:
            session.disconnect(SHUTDOWN)
        for session in list(self.node.going):
            session.connection.abort()

    async def stop(self) -> None:
        """Let go of everything, as it is."""
        self._pulse.stop()
        if self.siblings is not None:
            await self.siblings.close()
        self.doors.close()
        self._cut_off()
        await self.doors.clear()
        if isinstance(self.bus, RabbitMQBus):
            await self.bus.leave()
        if self.cluster is not None:
            await self.cluster.stop()
        if self.archive is not None:
            await self.archive.stop()
        await self.log.stop()
        if self.shared is not None:
            await self.shared.stop()
        if self.store is not None:
            await self.store.stop()
        await self.tokens.close()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)

    async def reload_all(self) -> Outcome:
        """This worker reads the configuration again, and so do its siblings. Raises ConfigError."""
        outcome = await self.reloader.run()
        if self.siblings is not None:
            await self.siblings.ask(RELOAD)
        return outcome

    async def _examine(self) -> list[Finding]:
        """What `notifier doctor` would say here."""
        from notifier.operator import doctor  # noqa: PLC0415 - seldom used, and not small

        return await doctor.examine(self.config)

    async def _apply(self, config: Config) -> None:
        """What can change without a restart changes. Raises ConfigError; then nothing has changed."""
        self._check_archived(config)
        take_keys = self.tokens.prepared(config.auth)
        self.node.reload(config.channels, config.clients, config.connect, config.rpc)
        await take_keys()
        self.config = msgspec.structs.replace(self.config, auth=config.auth, channels=config.channels)
        self.node.anonymous, self.node.leeway_s = config.auth.anonymous, config.auth.leeway
        self.keys.replace(config.api.keys)
        self.operators.replace(config.admin.operators)
        self.node.rates.reload(config.limits)
        self.doors.reload(config.limits)
        self.audit.mode = config.api.audit
        logging.getLogger("notifier").setLevel(config.logging.level.upper())
        self.doors.renew_certificate()

    def _check_archived(self, config: Config) -> None:
        """What an archive holds is decided by the rules it was begun with. Raises ConfigError for others."""
        before, after = (
            [(rule.match, rule.history is not None, rule.archive is not None) for rule in each]
            for each in (self.config.channels, config.channels)
        )
        if before != after and any(archived for *_, archived in (*before, *after)):
            raise ConfigError(
                ["channels: which ones have a history or an archive has changed: with an archive this needs a restart"]
            )

    def begin_reload(self) -> bytes:
        """Read the configuration again, beside everything else; the outcome is in the log."""
        task = asyncio.create_task(self.reloader.run_and_tell())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
        return b"begun"

    def _check_leaving(self) -> Check:
        if self.node.draining:
            return Check(False, "moving clients off")
        return Check(not self.node.leaving, "asked to end" * self.node.leaving)

    def _check_log(self) -> Check:
        if self.log.problem:
            return Check(False, self.log.problem)
        if not self.log.ready:
            return Check(False, "reading the log")
        return Check(True, self.log.how if isinstance(self.log, RabbitMQLog) else "")

    def _look(self, late_s: float) -> None:
        self.node.stats.loop_lag.observe(late_s)
        if self.collector:
            look_at_young()

    def _tick(self) -> None:
        try:
            self.node.tick()
            self.doors.renew_certificate()
            if self.collector:
                self.collector.tick()
        except Exception:
            _logger.exception("the node's tick failed")


async def _while(condition: Callable[[], bool], until: float) -> None:
    """Wait as long as it holds, but no longer than until this time of the loop."""
    while condition() and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - only while leaving
        await asyncio.sleep(LOOK_S)


def _new_id() -> str:
    return secrets.token_hex(16)
