"""Archiving: what the archive is to get, gathered from the log by the same decisions as everywhere else.

The records go through a `Feed` as on every worker; only what it hands on is kept here for the archive instead of for
subscribers. So an archive holds what memory holds, whoever fills it, and filled twice it is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

from msgspec import Struct

from notifier.core.rules import Rule
from notifier.protocol.messages import Publication

OVERHEAD_BYTES = 400
MAX_PENDING, MAX_PENDING_BYTES = 5000, 16 * 2**20
BATCH, BATCH_BYTES = 500, 2 * 2**20


class Entry(Struct, frozen=True, gc=False):
    """A publication, or without one the order to remove what there is of the channel. `time_s` is when it was
    appended to the log, wall time in seconds."""

    channel: str
    offset: int
    rule: Rule
    time_s: float
    publication: Publication | None = None

    @property
    def size_bytes(self) -> int:
        return OVERHEAD_BYTES + (len(self.publication.data) if self.publication is not None else 0)


class Batch(Struct, frozen=True):
    """What brings a part from the offset `since` to the offset `until`; `since` is None for an empty part.

    `anew`: what the part held cannot be gone on with. It is emptied, and what is in it then begins after that offset.
    """

    since: int | None
    until: int
    entries: list[Entry]
    anew: int | None = None


class Gathering:
    """A `core.feed.Keeper`: the entries that wait for each part, `places` is up to where each one is filled."""

    def __init__(self, part_of: Callable[[str], int], places: list[int | None]) -> None:
        self.epoch = ""
        self.end = self.known_from = 0
        self.places = places
        self.caught_up = False
        self._part_of = part_of
        self._waiting: list[deque[Entry]] = [deque() for _ in places]
        self._count = self._bytes = 0

    @property
    def full(self) -> bool:
        return self._count >= MAX_PENDING or self._bytes >= MAX_PENDING_BYTES

    # --- what a feed calls ------------------------------------------------------------------------------------------

    def begin(self, known_from: int) -> None:
        self.end, self.known_from = 0, known_from
        self.caught_up = False
        for waiting in self._waiting:
            waiting.clear()
        self._count = self._bytes = 0

    def append(self, publication: Publication, rule: Rule, time_s: float, now_s: float) -> None:  # noqa: ARG002
        if rule.archives:
            self._add(Entry(publication.channel, publication.offset, rule, time_s, publication))

    def remove(self, channel: str, rule: Rule) -> None:
        if rule.archives and self.end > self.known_from:
            self._add(Entry(channel, self.end, rule, 0.0))

    def pass_by(self, channel: str) -> None:
        """What is not kept is not archived."""

    def top(self, channel: str) -> int:  # noqa: ARG002 - nobody publishes here
        return self.end

    def _add(self, entry: Entry) -> None:
        part = self._part_of(entry.channel)
        place = self.places[part]
        if place is None or entry.offset > place:
            self._waiting[part].append(entry)
            self._count += 1
            self._bytes += entry.size_bytes

    # --- what goes to the archive -----------------------------------------------------------------------------------

    def batch(self, part: int) -> Batch | None:
        """The next one for a part; None when there is nothing to be said. It stays here until it is `done`."""
        place, begins = self.places[part], self.known_from
        if self.end < begins:
            return None  # too close to where reading began to say what is a repeat
        entries = self._first(part)
        rest = len(entries) < len(self._waiting[part])
        until = entries[-1].offset if rest else self.end
        if place is None or place < begins:
            return Batch(place, until, entries, anew=begins)
        if until < place:
            # A log of the same name that ends earlier has lost its end: what was read of it here will be overwritten.
            return Batch(place, until, entries, anew=until) if self.caught_up else None
        return Batch(place, until, entries) if until > place else None

    def has_waiting(self, part: int) -> bool:
        return bool(self._waiting[part])

    def done(self, part: int, batch: Batch) -> None:
        waiting = self._waiting[part]
        for entry in batch.entries:
            waiting.popleft()
            self._count -= 1
            self._bytes -= entry.size_bytes
        self.places[part] = batch.until

    def _first(self, part: int) -> list[Entry]:
        """So many as go at once, but never only some of a record's: an offset is either reached or not."""
        waiting = self._waiting[part]
        size_bytes, count = 0, 0
        for count, entry in enumerate(waiting, start=1):
            size_bytes += entry.size_bytes
            enough = count >= BATCH or size_bytes >= BATCH_BYTES
            if enough and (count == len(waiting) or waiting[count].offset != entry.offset):
                break
        return list(islice(waiting, count))


class Nobody:
    """A `core.feed.Outlet`: what is archived is not delivered."""

    epoch = ""

    def publish(self, publication: Publication, rule: Rule) -> int:  # noqa: ARG002 - a port's shape
        """To nobody."""
        return 0

    def sent(self, at: float) -> None:
        """Nothing is flushed."""
