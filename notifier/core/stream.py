"""Stream: the session of a one-way connection, whose channels are fixed when it begins.

Its cursor covers all of its channels, since all of them are in one log: `EPOCH:OFFSET`, or `EPOCH:OFFSET.INDEX` between
two publications of one record.
"""

from __future__ import annotations

import re

from msgspec import Struct

from notifier.core import recovery
from notifier.core.history import NO_INDEX, Verdict
from notifier.core.hub import Audience, Manner
from notifier.core.node import Node
from notifier.core.ports import Connection, Excerpt
from notifier.core.recovery import Missed
from notifier.core.session import Session, Subscription
from notifier.core.target import Target
from notifier.errors import Unavailable
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


def note_resumed(session: Stream, resumption: Resumption, cursor: Cursor) -> None:
    """What was missed has been written: these subscriptions have everything after the cursor."""
    end = session.node.history.end
    for name, verdict in resumption.verdicts.items():
        subscription = session.subscriptions[name]
        if verdict is Verdict.RECOVERED and not subscription.rule.cache_recovery:
            subscription.since, subscription.recovered_to = cursor.offset, end


class Resumption(Struct):
    """What a stream begins with: a verdict for each channel that something was asked of, and the publications that come
    first, in the log's order."""

    verdicts: dict[str, Verdict]
    publications: list[Publication]


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
            target.name: Subscription(
                target.name, target.rule, by_pattern=target.pattern is not None, since=self.node.history.end
            )
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


Excerpts = dict[str, Excerpt | None]


async def look_up(node: Node, targets: list[Target], cursor: Cursor | None) -> Excerpts:
    """What the archive has, by channel. Waits, where needed, until this worker has read as far as the client. Raises
    Unavailable."""
    found: Excerpts = {}
    for target in targets:
        if target.wants_latest:
            found[target.name] = await _look_up_latest(node, target, cursor)
        elif cursor is not None:
            found[target.name] = await recovery.look_up(node, target, _position(cursor))
    return found


async def _look_up_latest(node: Node, target: Target, cursor: Cursor | None) -> Excerpt | None:
    """For a newcomer, who has asked for nothing, it is no reason to stay away when the archive is."""
    if cursor is not None:
        await node.judge(target, _position(cursor))
        return await recovery.look_up_latest(node, target)
    try:
        return await recovery.look_up_latest(node, target)
    except Unavailable:
        return None


def resume(node: Node, targets: list[Target], cursor: Cursor | None, excerpts: Excerpts | None = None) -> Resumption:
    """What the stream begins with, decided now, without waiting: what follows on the cursor, and the last publication
    of channels of which only that matters, with or without a cursor. Raises Unavailable when it must be looked up
    again."""
    found_before = excerpts or {}
    verdicts: dict[str, Verdict] = {}
    found: dict[tuple[int, int], Publication] = {}
    for target in targets:
        excerpt = found_before.get(target.name)
        missed = None
        if target.wants_latest:
            missed = _latest(node, target, cursor, excerpt)
        elif cursor is not None:
            position, now_s = _position(cursor), node.clock.time()
            missed = recovery.missed(node.history, target, position, excerpt, now_s, cursor.index)
        if missed is None:
            continue
        verdicts[target.name] = missed.verdict
        found |= {(publication.offset, publication.index): publication for publication in missed.publications}
        if cursor is not None:
            node.stats.recoveries[missed.verdict.name.lower()] += 1
    return Resumption(verdicts, [found[place] for place in sorted(found)])


def _latest(node: Node, target: Target, cursor: Cursor | None, excerpt: Excerpt | None) -> Missed | None:
    """The channel's last publication, unless the client has it: with that it has all that matters. None where there is
    none, and nothing was asked."""
    history = node.history
    try:
        latest = recovery.latest(history, target, excerpt, node.clock.time())
    except Unavailable:
        if cursor is not None:
            raise
        latest = None
    if latest is None:
        return Missed(target.verdict(history, _position(cursor), cursor.index), []) if cursor is not None else None
    known = cursor is not None and cursor.epoch == history.epoch and cursor.offset <= history.end
    seen = _place(cursor) if cursor is not None and known else (0, 0)
    return Missed(Verdict.RECOVERED, [latest] if (latest.offset, latest.index) > seen else [])


def _place(cursor: Cursor) -> tuple[int, int]:
    """The last place that was seen."""
    return cursor.offset, cursor.index if cursor.index >= 0 else NO_INDEX


def _position(cursor: Cursor) -> Position:
    """Between two publications of a record, what is left of the record itself must still be there."""
    return Position(cursor.offset if cursor.index < 0 else cursor.offset - 1, cursor.epoch)
