"""The hot paths of the core, each for itself, without sockets, loop or clock: what `instructions.py` counts.

A case whose work is changed gets another name: counts are compared by name with those of the parent commit.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import jwt

from notifier.auth.tokens import Tokens
from notifier.config import Auth, Secret
from notifier.core import commands
from notifier.core.hub import Manner
from notifier.core.node import Node
from notifier.core.record import Record
from notifier.core.session import Session
from notifier.protocol.encoding import JSON_WEBSOCKET, PROTOBUF_WEBSOCKET, SSE, Encoding
from notifier.protocol.messages import Publication
from notifier.testing import SECRET, ManualClock, RecordingConnection, Ticks, make_node

BODY = b'{"id":4711,"title":"Your order has been sent","text":"' + b"It arrives on Tuesday. " * 6 + b'"}'
CONNECTIONS = 1000

Case = tuple[str, Callable[[], None]]


class Counted(RecordingConnection):
    """A connection that takes everything and keeps nothing."""

    def send(self, data: bytes) -> int:
        return len(data)


class Bench:
    """A node to which records are given as a log would; `end` is the end of the loop's tick."""

    def __init__(self) -> None:
        self.ticks = Ticks()
        self.node: Node = make_node(clock=ManualClock(), ticks=self.ticks, max_quiet_channels=100_000)
        self._offset = 0

    def take(self, channel: str) -> None:
        self._offset += 1
        self.node.feed.take(Record(self._offset, channel, BODY), 1_800_000_000.0)

    def join(self, channel: str) -> None:
        self.node.hub.join(channel, Counted(), Manner(JSON_WEBSOCKET))

    def client(self) -> Session:
        session = Session(self.node, Counted(), "websocket", JSON_WEBSOCKET)
        self.run(session, b'{"id":1,"connect":{}}')
        return session

    @staticmethod
    def run(session: Session, frame: bytes) -> None:
        finish(commands.run(session, session.encoding.codec.commands(frame)))


def cases() -> Iterator[Case]:
    """Each with all that it needs already made."""
    yield "fan-out to 1,000, 5 publications", _fanout()
    yield "200 publications for one client each", _unicast()
    for encoding in (JSON_WEBSOCKET, PROTOBUF_WEBSOCKET, SSE):
        yield f"encode 300 as {encoding.name}", _encode(encoding)
    yield "30 recoveries of 50 publications", _recovery()
    yield "decode 300 subscribes", _decode()
    yield "verify 30 tokens", _tokens()
    yield "100 clients come and go", _arrivals()


def _fanout() -> Callable[[], None]:
    bench = Bench()
    for _ in range(CONNECTIONS):
        bench.join("news")

    def run() -> None:
        for _ in range(5):
            bench.take("news")
            bench.ticks.end()

    return run


def _unicast() -> Callable[[], None]:
    bench = Bench()
    names = [f"user.{number}" for number in range(CONNECTIONS)]
    for name in names:
        bench.join(name)

    def run() -> None:
        for name in names[:200]:
            bench.take(name)
            bench.ticks.end()

    return run


def _encode(encoding: Encoding) -> Callable[[], None]:
    publications = [Publication("news", number, BODY) for number in range(1, 301)]

    def run() -> None:
        for publication in publications:
            encoding.publication(publication, "epoch-1")

    return run


def _recovery() -> Callable[[], None]:
    bench = Bench()
    for _ in range(100):
        bench.take("news")
    clients = [bench.client() for _ in range(30)]
    words = b'{"id":2,"subscribe":{"channel":"news","recover":true,"epoch":"epoch-1","offset":50}}'
    frame = words + b'\n{"id":3,"unsubscribe":{"channel":"news"}}'

    def run() -> None:
        for client in clients:
            bench.run(client, frame)

    return run


def _decode() -> Callable[[], None]:
    frame = b"\n".join(b'{"id":%d,"subscribe":{"channel":"room.%d"}}' % (number, number) for number in range(1, 301))

    def run() -> None:
        JSON_WEBSOCKET.codec.commands(frame)

    return run


def _tokens() -> Callable[[], None]:
    tokens = Tokens(Auth(hmac_keys=[Secret(SECRET)]), ManualClock())
    text = jwt.encode({"sub": "42", "exp": 4_102_444_800}, SECRET, algorithm="HS256")

    def run() -> None:
        for _ in range(30):
            finish(tokens.connection(text))

    return run


def _arrivals() -> Callable[[], None]:
    bench = Bench()
    frame = b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}\n{"id":3,"subscribe":{"channel":"user.7"}}'

    def run() -> None:
        for _ in range(100):
            session = Session(bench.node, Counted(), "websocket", JSON_WEBSOCKET)
            bench.run(session, frame)
            session.end()

    return run


def finish(work: Coroutine[Any, Any, Any]) -> None:
    """Run what does not wait for anything."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise AssertionError("a hot path has waited for something")


def main(begin: Callable[[], None], end: Callable[[str], None]) -> None:
    """All cases; each is run once before it counts, so that caches are filled."""
    for name, run in cases():
        run()
        gc.collect()
        gc.disable()
        begin()
        run()
        end(name)
        gc.enable()
