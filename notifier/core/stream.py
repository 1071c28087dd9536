"""Stream: the session of a one-way connection, whose channels are fixed when it begins.

Its cursor covers all of its channels, since all of them are in one log: `EPOCH:OFFSET`, or `EPOCH:OFFSET.INDEX` between
two publications of one record.
"""

from __future__ import annotations

import re

from msgspec import Struct

from notifier.core.history import Verdict
from notifier.core.hub import Audience, Manner
from notifier.core.node import Node
from notifier.core.ports import Connection
from notifier.core.session import Session, Subscription
from notifier.core.target import Target
from notifier.protocol.codes import INSUFFICIENT_STATE, Unsubscribe
from notifier.protocol.encoding import JSON_WEBSOCKET, StreamEncoding
from notifier.protocol.messages import Position, Publication, Reply

_CURSOR = re.compile(r"([A-Za-z0-9_-]{1,64}):(\d{1,19})(?:\.(\d{1,3}))?", re.ASCII)


class Cursor(Struct, frozen=True):
    """A place in a stream of several channels. `index` is -1 when the whole record at `offset` was seen."""

    epoch: str
    offset: int
    index: int = -1


def parse_cursor(text: str) -> Cursor | None:
    """The cursor in a `Last-Event-ID`; None for what this server cannot have sent."""
    match = _CURSOR.fullmatch(text)
    if match is None:
        return None
    return Cursor(match[1], int(match[2]), int(match[3]) if match[3] else -1)


class Resumption(Struct):
    """What became of a cursor: a verdict for each channel, and the publications after it, in the log's order."""

    verdicts: dict[str, Verdict]
    publications: list[Publication]

    @property
    def recovered(self) -> bool:
        return all(verdict is Verdict.RECOVERED for verdict in self.verdicts.values())


class Stream(Session):
    """A session that writes only. What ends one of its subscriptions ends the stream: the client comes back with its
    cursor and is told then what it missed."""

    __slots__ = ("_audience", "_shown")

    def __init__(self, node: Node, connection: Connection, transport: str, shown: StreamEncoding) -> None:
        super().__init__(node, connection, transport, JSON_WEBSOCKET)
        self._shown = shown
        self._audience: Audience | None = None

    @property
    def ping_interval_s(self) -> float:
        return self.node.limits.sse_heartbeat

    def ping(self) -> bool:
        """The cursor at the log's end: it keeps the connection alive, and the client's position fresh."""
        self.connection.write(self._shown.heartbeat(self.position()))
        self.awaits_pong = self._shown.answers_pings
        self.unread = self.connection.unread() if self.awaits_pong else 0
        return self.awaits_pong

    @property
    def takes_subscriptions(self) -> bool:
        return False

    def heard(self) -> None:
        self.awaits_pong = False

    def position(self) -> str:
        return f"{self.node.history.epoch}:{self.node.history.end}"

    def reply(self, reply: Reply) -> None:
        """Nothing is ever asked here."""

    def begin(self, targets: list[Target]) -> None:
        """Subscribe to all at once; what is published from now on comes, in the log's order."""
        hub, connection = self.node.hub, self.connection
        self.subscriptions = {
            target.name: Subscription(target.name, target.rule, by_pattern=target.pattern is not None)
            for target in targets
        }
        self.node.stats.subscriptions += len(targets)
        for subscription in self.subscriptions.values():
            self.enter(subscription)
        [only, *others] = targets
        if others or only.pattern is not None:
            wanted = [(target.name, target.rule, target.pattern is not None) for target in targets]
            self._audience = hub.attach(wanted, connection, self._shown)
        else:
            self._audience = hub.join(only.name, connection, Manner(self._shown))

    def leave(self, name: str) -> None:  # noqa: ARG002 - whichever it is
        self.disconnect(INSUFFICIENT_STATE)

    def unsubscribe(self, name: str, why: Unsubscribe) -> None:  # noqa: ARG002 - streams end for any reason
        self.leave(name)

    def end(self) -> None:
        if self._audience is not None and not self.closed:
            self.node.hub.leave(self._audience, self.connection)
            self.node.stats.subscriptions -= len(self.subscriptions)
            for subscription in self.subscriptions.values():
                self.exit(subscription)
            self.subscriptions = {}
        super().end()


async def judge(node: Node, targets: list[Target], cursor: Cursor) -> None:
    """Wait, where needed, until this worker has read as far as the client."""
    for target in targets:
        await node.judge(target, _position(cursor))


def resume(node: Node, targets: list[Target], cursor: Cursor) -> Resumption:
    """What follows on the cursor, decided now, without waiting."""
    verdicts = {target.name: target.verdict(node.history, _position(cursor)) for target in targets}
    now_s = node.clock.time()
    found = {
        (publication.offset, publication.index): publication
        for target in targets
        if verdicts[target.name] is Verdict.RECOVERED
        for publication in target.after(node.history, cursor.offset, now_s, cursor.index)
    }
    for verdict in verdicts.values():
        node.stats.recoveries[verdict.name.lower()] += 1
    return Resumption(verdicts, [found[place] for place in sorted(found)])


def _position(cursor: Cursor) -> Position:
    """Between two publications of a record, the record itself must still be there."""
    return Position(cursor.offset if cursor.index < 0 else cursor.offset - 1, cursor.epoch)
