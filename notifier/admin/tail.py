"""Tail: what is read from the log, shown to operators while they look. Nothing here runs while nobody does.

Each tail holds a bounded number of records until they are written. What does not fit is dropped, the oldest first, and
counted: the operator is told how many, and the worker never waits for a slow browser.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from notifier.core.channel import Pattern, is_pattern
from notifier.core.node import Node
from notifier.core.record import Record

MOST_TAILS = 8
MOST_HELD = 500
PREVIEW_CHARS = 2000


class TooMany(Exception):
    """There are as many tails on this worker as there may be."""


class Seen(Struct, omit_defaults=True):
    """A record that was read. `data` is the beginning of its body, which has `size_bytes`. `fates` says for each
    channel to how many connections of this worker it was written, or why to none; `user` published it, where a client
    did."""

    offset: int
    read_at: float
    channels: Sequence[str]
    fates: Sequence[int | str]
    data: str
    size_bytes: int
    message_id: str = ""
    event: str = ""
    user: str = ""
    tags: dict[str, str] | None = None
    rejected: str = ""


class _Publisher(Struct):
    user: str = ""


class Filter:
    """`pattern` is a channel or a pattern, empty for all channels. With a `user`, only what that user publishes or is
    subscribed to: `follow` says to what."""

    def __init__(self, pattern: str, user: str) -> None:
        """Raises ValueError for what is no pattern."""
        self.user = user
        self._pattern = Pattern(pattern) if pattern else None
        self._names: frozenset[str] = frozenset()
        self._patterns: list[Pattern] = []

    def follow(self, subscriptions: set[str]) -> None:
        self._names = frozenset(subscriptions)
        self._patterns = [Pattern(name) for name in subscriptions if is_pattern(name)]

    def accepts(self, names: Sequence[str], publisher: str) -> bool:
        if self._pattern is not None and not any(map(self._pattern.matches, names)):
            return False
        return not self.user or publisher == self.user or any(map(self._concerns_user, names))

    def _concerns_user(self, name: str) -> bool:
        return name in self._names or any(pattern.matches(name) for pattern in self._patterns)


class Tail:
    """What one operator looks at."""

    def __init__(self, wanted: Filter) -> None:
        self.filter = wanted
        self.dropped = 0
        self.something = asyncio.Event()
        self._held: deque[Seen] = deque()

    def add(self, seen: Seen) -> None:
        if len(self._held) == MOST_HELD:
            self._held.popleft()
            self.dropped += 1
        self._held.append(seen)
        self.something.set()

    def take(self) -> list[Seen]:
        """What has come since, oldest first."""
        self.something.clear()
        taken = list(self._held)
        self._held.clear()
        return taken


class Tails:
    """A `core.ports.Watcher` of a node's feed, while there is a tail."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tails: list[Tail] = []

    def open(self, wanted: Filter) -> Tail:
        """Raises TooMany."""
        if len(self._tails) >= MOST_TAILS:
            raise TooMany
        tail = Tail(wanted)
        self._tails.append(tail)
        self._node.feed.watcher = self
        return tail

    def close(self, tail: Tail) -> None:
        self._tails.remove(tail)
        if not self._tails:
            self._node.feed.watcher = None

    def note(
        self, record: Record, channels: Sequence[str], fates: Sequence[int | str], now_s: float, rejected: str
    ) -> None:
        publisher = _publisher(record.info)
        seen = None
        for tail in self._tails:
            if tail.filter.accepts(channels, publisher):
                seen = seen or _seen(record, channels, fates, now_s, rejected, publisher)
                tail.add(seen)


def _seen(
    record: Record, channels: Sequence[str], fates: Sequence[int | str], now_s: float, rejected: str, publisher: str
) -> Seen:
    # A character has at most four bytes; one that is cut in two is shown as such.
    text = record.body[: 4 * PREVIEW_CHARS].decode("utf-8", "replace")[:PREVIEW_CHARS]
    return Seen(
        record.offset,
        now_s,
        channels,
        fates,
        text,
        len(record.body),
        record.message_id,
        record.event,
        publisher,
        record.tags,
        rejected,
    )


def _publisher(info: str) -> str:
    """Whose client published it, from its info in JSON; empty for a backend."""
    if not info:
        return ""
    try:
        return msgspec.json.decode(info, type=_Publisher).user
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""
