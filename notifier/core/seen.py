"""Seen: what became of the last records that were read, for whoever asks where a message has gone.

On the fast lane: `note`, which keeps references only. Everything else is found out when somebody asks.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from notifier.core.node import Node
    from notifier.core.session import Session, Subscription

KEPT = 10_000
MOST_CONNECTIONS = 100

Fate = int | str
"""To how many connections a publication was written, or why to none at all."""


class Entry(NamedTuple):
    """One record, made of what `Seen.note` was given. `names` are its channels, `fates` what became of it on each;
    `rejected` says why it was no publication. `time_s` is the wall time at which this worker read it."""

    offset: int
    message_id: str
    time_s: float
    names: tuple[str, ...]
    fates: list[Fate]
    tags: dict[str, str] | None
    rejected: str


Noted = tuple[int, str, float, tuple[str, ...], list[Fate], dict[str, str] | None, str]
"""A plain tuple with an Entry's fields: it costs a third of it."""


class Seen:
    """The last records of the log, as this worker read them."""

    __slots__ = ("_entries", "note")

    def __init__(self) -> None:
        self._entries: deque[Noted] = deque(maxlen=KEPT)
        self.note = self._entries.append

    def find(self, message_id: str, offset: int) -> list[Entry]:
        """The records with this message id, or the one at this offset; oldest first."""
        entries = map(Entry._make, self._entries)
        return [e for e in entries if (e.message_id == message_id if message_id else e.offset == offset)]

    @property
    def oldest(self) -> int:
        """The offset from which on records are remembered; 0 when there are none."""
        return self._entries[0][0] if self._entries else 0


class ConnectionFate(Struct, omit_defaults=True):
    """What a connection that is subscribed now got of it. `recovered`: as something that it had missed; `why` it did
    not get it."""

    client: str
    user: str
    got: bool
    recovered: bool = False
    why: str = ""


class ChannelFate(Struct, omit_defaults=True):
    """What became of a record on one channel. `rule` is the number of the rule in the configuration, from 0 on, -1 for
    none; `written` to how many connections it was written when it was read; `connections` are those that are subscribed
    now, `more` how many are left out."""

    channel: str
    rule: int
    match: str
    outcome: str
    written: int = 0
    connections: list[ConnectionFate] = []
    more: int = 0


class RecordFate(Struct, omit_defaults=True):
    """One record on one worker."""

    offset: int
    message_id: str
    read_at: float
    channels: list[ChannelFate]
    rejected: str = ""


class Explanation(Struct, omit_defaults=True):
    """What one worker knows. Without records: it has not read such a record, or not since `remembers_from`."""

    node: str
    name: str
    epoch: str
    log_end: int
    remembers_from: int
    records: list[RecordFate] = []


def explain(node: Node, message_id: str, offset: int) -> Explanation:
    """What became of the records with this message id, or of the one at this offset, here."""
    seen = node.feed.seen
    records = [
        RecordFate(
            entry.offset,
            entry.message_id,
            entry.time_s,
            [_channel(node, entry, name, fate) for name, fate in zip(entry.names, entry.fates, strict=True)],
            entry.rejected,
        )
        for entry in seen.find(message_id, offset)
    ]
    return Explanation(node.node_id, node.name, node.history.epoch, node.history.end, seen.oldest, records)


def _channel(node: Node, entry: Entry, name: str, fate: Fate) -> ChannelFate:
    rule = node.rules.find(name)
    told = ChannelFate(name, rule.index if rule else -1, rule.spec.match if rule else "", "delivered")
    if isinstance(fate, str):
        told.outcome = fate
        return told
    told.written = fate
    for session in node.sessions.values():
        subscription = _subscription(session, name)
        if subscription is None:
            continue
        if len(told.connections) == MOST_CONNECTIONS:
            told.more += 1
            continue
        why = _why_not(subscription, entry)
        recovered = not why and entry.offset <= subscription.recovered_to
        told.connections.append(ConnectionFate(session.client_id, session.identity.user, not why, recovered, why))
    return told


def _subscription(session: Session, name: str) -> Subscription | None:
    """By which the session gets what is published on a channel."""
    found = session.subscriptions.get(name)
    if found is not None:
        return found
    by_pattern = (each for each in session.subscriptions.values() if each.by_pattern)
    return next((each for each in by_pattern if each.covers(name, session.node.rules)), None)


def _why_not(subscription: Subscription, entry: Entry) -> str:
    if subscription.since >= entry.offset:
        return f"subscribed later, at {subscription.since}"
    accepts = subscription.accepts
    if accepts is not None and not accepts.accepts(entry.tags):
        return "its tag filter does not accept it"
    return ""
