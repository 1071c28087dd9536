"""History: what the channels retain, and whether a client's position can be recovered.

A position (epoch, offset) on a channel is recoverable when the epoch is the log's, `offset >= floor` (nothing after it
was trimmed) and `offset >= known_from` (nothing after it was missed by this worker). Then the client gets everything
after it, all of it; otherwise it is told so, and gets nothing.

On the fast lane: `append`. No await, no timer; what must be trimmed is trimmed by the next append or `trim`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from itertools import chain, islice

from notifier.core.record import NEVER
from notifier.core.rules import Rule, Rules
from notifier.protocol.messages import Position, Publication

# What a retained publication counts beside its data: the objects, their places in two queues. The only one of a channel
# takes about 500, with its window.
OVERHEAD_BYTES = 400

# A window that has never held as many is a list: an empty deque alone takes 760 bytes, and most channels hold few.
FEW = 16

NO_INDEX = 2**31

Matches = Callable[[str], bool]


class Verdict(StrEnum):
    """Whether a position is recoverable, and if not, why."""

    RECOVERED = "recovered"
    NO_HISTORY = "channel keeps no history"
    OTHER_EPOCH = "the log was made anew"
    NOT_KNOWN = "older than what this server knows"
    TRIMMED = "history has been trimmed"
    AHEAD = "position is ahead of the log"


class Window:
    """One channel's retained publications, oldest first. `floor` is the highest offset that was trimmed, `floor_index`
    the place of what was trimmed there in its record, where it is known. `kept` is a list until it holds `FEW`."""

    __slots__ = ("broken", "floor", "floor_index", "kept")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.floor_index = NO_INDEX
        self.kept: list[Publication] | deque[Publication] = []
        self.broken = False  # something came after the last one that not everybody who continues here has

    @property
    def top(self) -> int:
        return self.kept[-1].offset if self.kept else self.floor


class Shelf:
    """The publications of one rule's channels in the log's order, which is the order of their ageing too."""

    __slots__ = ("dead", "line", "rule")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.line: deque[tuple[float, Publication]] = deque()
        self.dead = 0  # entries whose publication has left its window by count; dropped when they are half of it


class History:
    """All windows of a worker, in bounds of age and count for each channel and of bytes for all of them.

    `end` is the offset of the last record read, `known_from` the position from which nothing was missed.
    """

    def __init__(self, max_bytes: int, max_quiet_channels: int) -> None:
        self.epoch = ""
        self.end = 0
        self.known_from = 0
        self.size_bytes = 0
        self.publications = 0
        self._max_bytes = max_bytes
        self._max_quiet = max_quiet_channels
        self._windows: dict[str, Window] = {}
        # Tops of the channels that retain nothing, in the order in which they fell quiet.
        self._quiet: dict[str, int] = {}
        self._shelves: dict[Rule, Shelf] = {}
        self._held: dict[str, int] = {}
        self._removed_at = 0

    def begin(self, known_from: int) -> None:
        """Start over with a log that is empty to us up to `known_from`."""
        self.end = self.known_from = self._removed_at = known_from
        self._windows.clear()
        self._quiet.clear()
        self._shelves.clear()
        self.size_bytes = self.publications = 0

    def append(self, publication: Publication, rule: Rule, time_s: float, now_s: float) -> None:
        """The channel's window gets the publication, unless it is too old already: then only its offset is known."""
        channel = publication.channel
        window = self._windows.get(channel)
        if window is None:
            if time_s + rule.ttl_s <= now_s:
                self._note_quiet(channel, publication.offset)
                return
            unseen = max(self.known_from, rule.known_from)
            window = self._windows[channel] = Window(self._quiet.pop(channel, unseen))
        if rule.delta:
            self._give_base(window, publication)
        shelf = self._shelves.get(rule)
        if shelf is None:
            shelf = self._shelves[rule] = Shelf(rule)
        kept = window.kept
        kept.append(publication)
        if len(kept) == FEW and isinstance(kept, list):
            window.kept = kept = deque(kept)
        shelf.line.append((time_s, publication))
        self.publications += 1
        self.size_bytes += len(publication.data) + OVERHEAD_BYTES
        if len(kept) > rule.size and channel not in self._held:
            self._drop_excess(window, shelf)
        if self.size_bytes > self._max_bytes:
            self._shrink()

    def pass_by(self, channel: str) -> None:
        """The channel had a publication that is not kept: what comes next has no base that all receivers share."""
        window = self._windows.get(channel)
        if window is not None:
            window.broken = True

    def remove(self, channel: str, rule: Rule) -> None:
        """Let go of all publications of one channel. Who has seen the last of them has missed nothing."""
        self._removed_at = self.end
        window = self._windows.get(channel)
        if window is not None:
            self._shelves[rule].dead += len(window.kept)
            self._empty(channel, window)

    def _empty(self, channel: str, window: Window) -> None:
        while window.kept:
            self._drop_oldest(window)
        del self._windows[channel]
        self._note_quiet(channel, window.floor)

    def follow(self, rules: Rules) -> None:
        """The rules have changed: each channel keeps what its new one says, beginning with what there is."""
        for entry in self._take_out_what_moves(rules):
            publication = entry[1]
            window = self._windows.get(publication.channel)
            rule = rules.find(publication.channel)
            if window is None:
                continue
            if rule is None or not rule.keeps_history:
                self._empty(publication.channel, window)
                continue
            shelf = self._shelves.setdefault(rule, Shelf(rule))
            shelf.line.append(entry)
            while len(window.kept) > rule.size:
                self._drop_oldest(window)
        for shelf in self._shelves.values():
            shelf.line = deque(sorted(shelf.line, key=lambda entry: (entry[1].offset, entry[1].index)))
            self._sweep(shelf)
        # Nobody will note any more where these end: should they keep history again, they begin with nothing known.
        for channel in [name for name in self._quiet if not _keeps(rules, name)]:
            del self._quiet[channel]

    def _take_out_what_moves(self, rules: Rules) -> list[tuple[float, Publication]]:
        """The entries whose channel has another rule now, off their shelves."""
        moving: list[tuple[float, Publication]] = []
        for rule, shelf in list(self._shelves.items()):
            self._sweep(shelf)
            staying: deque[tuple[float, Publication]] = deque()
            for entry in shelf.line:
                (staying if rules.find(entry[1].channel) is rule else moving).append(entry)
            shelf.line = staying
            if not staying:
                del self._shelves[rule]
        return moving

    def hold(self, channel: str) -> None:
        """While somebody waits for the archive, keep what comes to the channel: what the archive answers must meet what
        is here. Bounded by time and by the bytes of all channels."""
        self._held[channel] = self._held.get(channel, 0) + 1

    def release(self, channel: str, rule: Rule) -> None:
        """The opposite of one `hold`."""
        left = self._held.pop(channel) - 1
        window = self._windows.get(channel)
        if left:
            self._held[channel] = left
        elif window is not None and len(window.kept) > rule.size and rule in self._shelves:
            self._drop_excess(window, self._shelves[rule])

    def trim(self, now_s: float) -> None:
        """Let go of what is too old. Cheap: only what goes is looked at."""
        for shelf in self._shelves.values():
            oldest = now_s - shelf.rule.ttl_s
            line = shelf.line
            while line and line[0][0] <= oldest:
                self._retire(shelf)

    def verdict(self, channel: str, rule: Rule, position: Position, index: int = -1) -> Verdict:
        """Whether a client with this position can be given everything after it. With an `index`, it has also seen the
        next record up to that place in it.

        An empty epoch matches any: a client that never got one has seen nothing (protocol.md section 5.2).
        """
        verdict = self._verdict(rule, position)
        if verdict is not Verdict.RECOVERED:
            return verdict
        if channel not in self._windows and channel not in self._quiet and position.offset < rule.known_from:
            return Verdict.NOT_KNOWN
        if position.offset < self.floor(channel):
            window = self._windows.get(channel)
            if window is None or window.floor != position.offset + 1 or window.floor_index > index:
                return Verdict.TRIMMED
        return verdict

    def verdict_by_pattern(self, matches: Matches, rule: Rule, position: Position) -> Verdict:
        """The same for all channels that match: of none of them anything may be missing."""
        verdict = self._verdict(rule, position)
        if verdict is Verdict.RECOVERED and position.offset < rule.known_from:
            return Verdict.NOT_KNOWN
        if verdict is Verdict.RECOVERED:
            floors = chain(((name, window.floor) for name, window in self._windows.items()), self._quiet.items())
            if any(floor > position.offset and matches(name) for name, floor in floors):
                return Verdict.TRIMMED
        return verdict

    def _verdict(self, rule: Rule, position: Position) -> Verdict:
        if not rule.keeps_history:
            return Verdict.NO_HISTORY
        if position.epoch and position.epoch != self.epoch:
            return Verdict.OTHER_EPOCH
        if position.offset > self.end:
            return Verdict.AHEAD
        if position.offset < self.known_from:
            return Verdict.NOT_KNOWN
        return Verdict.RECOVERED

    def after(self, channel: str, offset: int, now_s: float, index: int = -1) -> list[Publication]:
        """The retained publications after an offset, oldest first, without those not worth delivering any more.

        With an `index`, also those of the record at `offset` itself that come after that place in it.
        """
        window = self._windows.get(channel)
        if window is None:
            return []
        found: list[Publication] = []
        for publication in reversed(window.kept):
            if publication.offset < offset or (
                publication.offset == offset and (index < 0 or publication.index <= index)
            ):
                break
            if publication.expires_at > now_s:
                found.append(publication)
        found.reverse()
        return found

    def after_by_pattern(self, matches: Matches, offset: int, now_s: float, index: int = -1) -> list[Publication]:
        """The same for all channels that match, in the log's order."""
        found = [
            publication
            for name, window in self._windows.items()
            if window.top >= offset and matches(name)
            for publication in self.after(name, offset, now_s, index)
        ]
        found.sort(key=lambda publication: (publication.offset, publication.index))
        return found

    def latest(self, channel: str, now_s: float) -> Publication | None:
        """The channel's last publication, if it is retained and still worth delivering."""
        window = self._windows.get(channel)
        if window is None or not window.kept or window.kept[-1].expires_at <= now_s:
            return None
        return window.kept[-1]

    def page(self, channel: str, since: int | None, limit: int, now_s: float, *, reverse: bool) -> list[Publication]:
        """At most `limit` retained publications: from the oldest, or after `since`; backwards from the newest, or from
        before `since` (protocol.md section 5.1)."""
        window = self._windows.get(channel)
        if window is None or limit <= 0:
            return []
        kept = reversed(window.kept) if reverse else iter(window.kept)
        wanted = (
            publication
            for publication in kept
            if publication.expires_at > now_s
            and (since is None or (publication.offset < since if reverse else publication.offset > since))
        )
        return list(islice(wanted, limit))

    def begins(self, channel: str) -> int:
        """The offset after which everything of the channel is here."""
        return max(self.floor(channel), self.known_from)

    def reach(self, channel: str) -> int:
        """Up to where an archive must have been filled to be joined to what is here: without a hole, and without what
        was removed."""
        return max(self.begins(channel), self._removed_at)

    def knows_latest(self, channel: str) -> bool:
        """Whether what `latest` says is all that there is to say."""
        window = self._windows.get(channel)
        return bool(window is not None and window.kept) or not self.begins(channel)

    def top(self, channel: str) -> int:
        """Where a channel's history ends: at its last retained publication, or else with the log, since nothing of the
        channel came after what is known of it."""
        window = self._windows.get(channel)
        return window.top if window is not None and window.kept else self.end

    def next_base(self, channel: str) -> bytes | None:
        """What the channel's next publication may be told as a difference to: the data of the last one, unless some of
        those who continue here have not got that one."""
        window = self._windows.get(channel)
        return None if window is None or window.broken or not window.kept else window.kept[-1].data

    def _give_base(self, window: Window, publication: Publication) -> None:
        if window.kept and not window.broken:
            publication.base = window.kept[-1].data
        window.broken = publication.expires_at != NEVER

    def floor(self, channel: str) -> int:
        """The highest offset of the channel that was trimmed; 0 when none is known."""
        window = self._windows.get(channel)
        return window.floor if window is not None else self._quiet.get(channel, 0)

    def _drop_excess(self, window: Window, shelf: Shelf) -> None:
        while len(window.kept) > shelf.rule.size:
            self._drop_oldest(window)
            shelf.dead += 1
        if shelf.dead > 64 and shelf.dead * 2 > len(shelf.line):
            self._sweep(shelf)

    def _drop_oldest(self, window: Window) -> None:
        kept = window.kept
        publication = kept.pop(0) if isinstance(kept, list) else kept.popleft()
        window.floor, window.floor_index = publication.offset, publication.index
        self.publications -= 1
        self.size_bytes -= len(publication.data) + OVERHEAD_BYTES

    def _retire(self, shelf: Shelf) -> None:
        """Take the shelf's oldest entry away, and with it its publication if its channel still retains it."""
        _, publication = shelf.line.popleft()
        window = self._windows.get(publication.channel)
        if window is None or not window.kept or window.kept[0] is not publication:
            shelf.dead -= 1
            return
        self._drop_oldest(window)
        if not window.kept:
            del self._windows[publication.channel]
            self._note_quiet(publication.channel, window.floor)

    def _sweep(self, shelf: Shelf) -> None:
        """Drop entries whose publication has left its window by count; each costs one look, once."""
        shelf.line = deque(entry for entry in shelf.line if self._is_retained(entry[1]))
        shelf.dead = 0

    def _is_retained(self, publication: Publication) -> bool:
        window = self._windows.get(publication.channel)
        return window is not None and publication.offset > window.floor

    def _shrink(self) -> None:
        """Let the oldest publication of all go until the rest fits."""
        while self.size_bytes > self._max_bytes:
            oldest = min(
                (shelf for shelf in self._shelves.values() if shelf.line), key=lambda shelf: shelf.line[0][1].offset
            )
            self._retire(oldest)

    def _note_quiet(self, channel: str, top: int) -> None:
        """Remember a quiet channel's last offset. When there are too many, the longest quiet one is forgotten, and with
        it everything before its last offset."""
        self._quiet.pop(channel, None)
        self._quiet[channel] = top
        if len(self._quiet) > self._max_quiet:
            longest = next(iter(self._quiet))
            self.known_from = max(self.known_from, self._quiet.pop(longest))

    @property
    def channels(self) -> int:
        return len(self._windows) + len(self._quiet)


def _keeps(rules: Rules, channel: str) -> bool:
    rule = rules.find(channel)
    return rule is not None and rule.keeps_history
