"""Stream: the session of a one-way connection, whose channels are fixed when it begins.

Its cursor covers all of its channels, since all of them are in one log: `EPOCH:OFFSET`, or `EPOCH:OFFSET.INDEX` between
two publications of one record.
"""

from __future__ import annotations

import re

from msgspec import Struct

from notifier.core.history import Verdict
from notifier.core.hub import Audience
from notifier.core.node import Node
from notifier.core.ports import Connection
from notifier.core.rules import Rule
from notifier.core.session import NEVER, Session, Subscription
from notifier.protocol.codes import INSUFFICIENT_STATE, Unsubscribe
from notifier.protocol.frames import cursor_event
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

    __slots__ = ("_audience",)

    def __init__(self, node: Node, connection: Connection, transport: str) -> None:
        super().__init__(node, connection, transport)
        self._audience: Audience | None = None

    @property
    def ping_interval_s(self) -> float:
        return self.node.limits.sse_heartbeat

    def ping(self) -> bool:
        """The cursor at the log's end: it keeps the connection alive, and the client's position fresh."""
        self.connection.write(cursor_event(self.position()))
        return False

    def position(self) -> str:
        return f"{self.node.history.epoch}:{self.node.history.end}"

    def reply(self, reply: Reply) -> None:
        """Nothing is ever asked here."""

    def begin(self, rules: dict[str, Rule]) -> None:
        """Subscribe to all channels at once; what is published from now on comes, in the log's order."""
        self.subscriptions = {
            channel: Subscription(rule, by_token=False, expires_at=NEVER) for channel, rule in rules.items()
        }
        self.node.stats.subscriptions += len(rules)
        if len(rules) == 1:
            self.node.hub.join(next(iter(rules)), self.connection)
        else:
            self._audience = self.node.hub.attach(list(rules), self.connection)

    def leave(self, channel: str) -> None:  # noqa: ARG002 - whichever it is
        self.disconnect(INSUFFICIENT_STATE)

    def unsubscribe(self, channel: str, why: Unsubscribe) -> None:  # noqa: ARG002 - streams end for any reason
        self.leave(channel)

    def end(self) -> None:
        if self._audience is not None and not self.closed:
            self.node.hub.detach(list(self.subscriptions), self._audience)
            self.node.stats.subscriptions -= len(self.subscriptions)
            self.subscriptions = {}
        super().end()


async def judge(node: Node, rules: dict[str, Rule], cursor: Cursor) -> dict[str, Verdict]:
    """Whether the cursor is recoverable, channel by channel."""
    return {channel: await node.judge(channel, rule, _position(cursor)) for channel, rule in rules.items()}


def resume(node: Node, rules: dict[str, Rule], cursor: Cursor) -> Resumption:
    """What follows on the cursor, decided now, without waiting."""
    verdicts = {channel: node.history.verdict(channel, rule, _position(cursor)) for channel, rule in rules.items()}
    now_s = node.clock.time()
    found = [
        publication
        for channel, verdict in verdicts.items()
        if verdict is Verdict.RECOVERED
        for publication in node.history.after(channel, cursor.offset, now_s, cursor.index)
    ]
    found.sort(key=lambda publication: (publication.offset, publication.index))
    for verdict in verdicts.values():
        node.stats.recoveries[verdict.name.lower()] += 1
    return Resumption(verdicts, found)


def _position(cursor: Cursor) -> Position:
    """Between two publications of a record, the record itself must still be there."""
    return Position(cursor.offset if cursor.index < 0 else cursor.offset - 1, cursor.epoch)
