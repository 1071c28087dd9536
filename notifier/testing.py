"""For tests, ours and our users': a node without sockets, a connection that records, a clock moved by hand."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from notifier.auth.tokens import Tokens
from notifier.cluster.alone import NoBackends, NoBus
from notifier.config import (
    Auth,
    ChannelRule,
    Clients,
    Connect,
    Duration,
    HistoryRule,
    HistorySection,
    Publications,
    Secret,
    Size,
)
from notifier.core import commands
from notifier.core.control import Control
from notifier.core.node import Node
from notifier.core.recovery import NoArchive
from notifier.core.session import Session
from notifier.log.memory import MemoryLog
from notifier.protocol import frames
from notifier.protocol.codes import ConnectionEnded, Disconnect
from notifier.protocol.encoding import JSON_WEBSOCKET, ClientEncoding
from notifier.telemetry.describe import describe

SECRET = "a-secret-of-at-least-thirty-two-bytes"  # noqa: S105 - for tests

OPEN_RULE = ChannelRule(
    match="#", history=HistoryRule(size=100, ttl=Duration(3600)), subscribe=["anyone"], publish=["anyone"]
)


class ManualClock:
    """Time that passes only when it is told to."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._wall = wall
        self._monotonic = 1000.0

    def time(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._wall += seconds
        self._monotonic += seconds


class Ticks:
    """What a loop does at a tick's end, when it is told to."""

    def __init__(self) -> None:
        self._deferred: list[Callable[[], None]] = []
        self.delays: list[float] = []

    def __call__(self, function: Callable[[], None]) -> None:
        self._deferred.append(function)

    def later(self, delay_s: float, function: Callable[[], None]) -> None:
        """As good as the next tick's end; `delays` notes for how long."""
        self.delays.append(delay_s)
        self._deferred.append(function)

    def end(self) -> None:
        """The tick is over."""
        deferred, self._deferred = self._deferred, []
        for function in deferred:
            function()


class RecordingConnection:
    """A `core.ports.Connection` that keeps what it is given: `writes` as they came, `disconnect` once closed."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.disconnect: Disconnect | None = None

    @property
    def sink(self) -> RecordingConnection:
        return self

    def send(self, data: bytes, /) -> int:
        assert self.disconnect is None, "nothing may be written after the close"  # noqa: S101
        self.writes.append(data)
        return len(data)

    def queue(self, data: bytes, taken: int) -> None:  # noqa: ARG002 - a port's shape
        raise AssertionError("this connection takes everything")

    def write(self, data: bytes) -> None:
        self.send(data)

    write_large = write

    is_behind = False

    async def breathe(self) -> None:
        """Nobody else is here."""

    def unread(self) -> int:
        return 0

    def close(self, disconnect: Disconnect) -> None:
        assert self.disconnect is None, "closed twice"  # noqa: S101
        self.disconnect = disconnect

    def abort(self) -> None:
        """There is nothing unsent."""

    def take_messages(self) -> list[dict[str, Any]]:
        """The JSON messages in the WebSocket frames written so far, and forget them."""
        text = b"".join(map(bytes, self.writes))
        self.writes.clear()
        return list(itertools.chain.from_iterable(map(_lines, payloads(text))))


class Client:
    """A session with a recording connection, spoken to in JSON."""

    def __init__(self, node: Node, encoding: ClientEncoding = JSON_WEBSOCKET) -> None:
        self.connection = RecordingConnection()
        self.session = Session(node, self.connection, "websocket", encoding)

    async def send(self, *messages: dict[str, Any]) -> list[dict[str, Any]]:
        """Send commands in one frame; the answer is everything that was written up to now."""
        return await self.send_text("\n".join(map(json.dumps, messages)))

    async def send_text(self, text: str) -> list[dict[str, Any]]:
        try:
            await commands.run(self.session, self.session.encoding.codec.commands(text.encode()))
        except ConnectionEnded as error:
            self.session.disconnect(error.disconnect)
        return self.connection.take_messages()

    @property
    def closed_with(self) -> int:
        """The disconnect's code; 0 while the connection is open."""
        return self.connection.disconnect.code if self.connection.disconnect else 0


def make_node(
    rules: Sequence[ChannelRule] = (OPEN_RULE,),
    *,
    clock: ManualClock | None = None,
    ticks: Ticks | None = None,
    clients: Clients | None = None,
    connect: Connect | None = None,
    anonymous: bool = True,
    max_history_bytes: int = 2**20,
    max_quiet_channels: int = 1000,
    repeat_window: int = 1000,
) -> Node:
    """A node on a memory log, with tokens signed by `SECRET`. Ids are client-1, client-2, …"""
    numbers = itertools.count()
    clock = clock or ManualClock()
    ticks = ticks or Ticks()
    node = Node(
        name="test",
        version="0",
        channels=rules,
        history=HistorySection(max_bytes=Size(max_history_bytes), max_quiet_channels=max_quiet_channels),
        clients=clients or Clients(),
        connect=connect or Connect(),
        publications=Publications(),
        repeat_window=repeat_window,
        anonymous=anonymous,
        verifier=Tokens(Auth(hmac_keys=[Secret(SECRET)])),
        clock=clock,
        defer=ticks,
        later=ticks.later,
        new_id=lambda: f"client-{next(numbers)}",
    )
    node.log = log = MemoryLog(node.feed, clock, "epoch-1")
    log.ready = True
    node.backends = NoBackends()
    node.archive = NoArchive()
    node.control = Control(node, NoBus(), lambda: describe(node))
    return node


def payloads(data: bytes) -> list[bytes]:
    """The payloads of unmasked frames, inflated where they are compressed."""
    found = []
    while data:
        opening, size, head = data[0], data[1], 2
        if size == 126:
            size, head = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[2:10], "big"), 10
        payload = data[head : head + size]
        found.append(zlib.decompress(payload + b"\x00\x00\xff\xff\x03\x00", -15) if opening & frames.RSV1 else payload)
        data = data[head + size :]
    return found


def _lines(payload: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in payload.split(b"\n")]
