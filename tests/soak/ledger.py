"""What was true: what was sent and confirmed, what stood in the log and where, which faults there were and when.

Made from the journals alone; knows nothing of what clients got, but for the epochs' names.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable

from tests.soak.journal import (
    Answered,
    Complaint,
    Delivered,
    Event,
    FaultBegun,
    FaultEnded,
    FaultSeen,
    Lag,
    Phase,
    ReadDone,
    Record,
    Sent,
    StreamDeleted,
    Subscribed,
)

LATE_S = 0.5
SHADOW_S = 8.0


class Publication:
    """All attempts to publish one id."""

    __slots__ = ("attempts", "channels", "first_at", "ok_at", "outcomes")

    def __init__(self, channels: list[str], at: float) -> None:
        self.channels = channels
        self.first_at = at
        self.ok_at = 0.0  # when it was confirmed first; 0 never
        self.attempts = 0
        self.outcomes: Counter[str] = Counter()

    @property
    def may_be_there(self) -> bool:
        """Whether an attempt was confirmed, is not known, or has no answer."""
        return self.outcomes["ok"] + self.outcomes["unknown"] > 0 or self.attempts > self.outcomes["no"]


class Generation:
    """One stream's records. `lines` are, for each channel, the offsets of what must be delivered on it, in order.

    A record is a repeat when its id stands on the channel at one of the `window` places before it (design.md: the
    answer depends on the log alone).
    """

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.end = 0
        self.complete = True
        self.epoch = ""
        self.ids: dict[int, str] = {}
        self.lines: dict[str, list[int]] = defaultdict(list)
        self.repeats: set[tuple[str, int]] = set()
        self.first_of: dict[tuple[str, str], int] = {}
        self.deleted: StreamDeleted | None = None
        self._window = window
        self._last: dict[tuple[str, str], int] = {}
        self._offsets: list[int] = []

    def add(self, record: Record) -> None:
        if record.offset in self.ids:
            return  # read again
        self.ids[record.offset] = record.id
        self._offsets.append(record.offset)
        for channel in record.channels:
            key = channel, record.message_id
            before = self._last.get(key)
            if record.message_id and before is not None and before >= record.offset - self._window:
                self.repeats.add((channel, record.offset))
            else:
                self.lines[channel].append(record.offset)
                self.first_of.setdefault((channel, record.id), record.offset)
            self._last[key] = record.offset

    def next_after(self, offset: int) -> int:
        """The first publication's offset on any channel after this one; 0: there is none."""
        place = bisect_right(self._offsets, offset)
        return self._offsets[place] if place < len(self._offsets) else 0


class Fault:
    """One deed of the nemesis, and the time in which its consequences may be felt."""

    __slots__ = ("begun", "ended", "how", "kind", "nodes", "number", "recovered_s", "seen", "target")

    def __init__(self, begun: FaultBegun) -> None:
        self.number, self.kind, self.nodes, self.target = begun.number, begun.kind, set(begun.nodes), begun.target
        self.begun = begun.at
        self.ended = float("inf")
        self.recovered_s = -1.0
        self.seen = False
        self.how = ""

    def felt(self, at: float, after_s: float) -> bool:
        return self.begun - 0.5 <= at <= self.ended + max(0.0, self.recovered_s) + after_s


class Ledger:
    """Made in one walk over all events."""

    def __init__(self, window: int) -> None:
        self.sent: dict[str, Publication] = {}
        self.answers: list[tuple[str, Answered]] = []
        self.generations: dict[int, Generation] = {}
        self.by_epoch: dict[str, Generation] = {}
        self.faults: dict[int, Fault] = {}
        self.phases: list[Phase] = []
        self.complaints: list[Complaint] = []
        self.known_until = 0.0  # what was in the log later than that has not been read
        self._window = window
        self._votes: dict[str, Counter[int]] = defaultdict(Counter)
        self._named: dict[tuple[str, int], str] = {}
        self._told: dict[str, None] = {}
        self._lags: list[Lag] = []

    def take_all(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case Delivered():
                    self._named.setdefault((event.epoch, event.offset), event.id)
                case Subscribed():
                    self._told.setdefault(event.epoch)
                case Sent():
                    self._send(event)
                case Answered():
                    self._answer(event)
                case Record() | ReadDone() | StreamDeleted():
                    self._read(event)
                case Phase() | Lag() | Complaint():
                    self._note(event)
                case FaultBegun() | FaultSeen() | FaultEnded():
                    self._fault(event)
        self._name_generations()

    def generation(self, number: int) -> Generation:
        if number not in self.generations:
            self.generations[number] = Generation(number, self._window)
        return self.generations[number]

    @property
    def last(self) -> Generation:
        return self.generation(max(self.generations, default=0))

    def phase_at(self, name: str) -> float:
        return next((phase.at for phase in self.phases if phase.name == name), 0.0)

    def felt(self, at: float, kinds: tuple[str, ...], node: int | None = None, after_s: float = 15.0) -> bool:
        """Whether a fault of one of these kinds (or beginning so) may be felt at this time, on this node."""
        return any(
            fault.felt(at, after_s) and fault.kind.startswith(kinds) and (node is None or node in fault.nodes)
            for fault in self.faults.values()
        )

    def generator_was_late(self, at: float) -> bool:
        """Whether a process of the test stood still around this time: then a connection that is lost proves nothing."""
        return any(lag.at - lag.late_s - SHADOW_S <= at <= lag.at + SHADOW_S for lag in self._lags)

    def longest_silence(self, at: float) -> float:
        """How long at most nothing was written to the log before this time, because of a fault."""
        found = [
            min(fault.ended, at) - fault.begun + 2
            for fault in self.faults.values()
            if fault.kind.startswith(("broker.", "link.")) and fault.felt(at, 10)
        ]
        return max(found, default=0.0)

    def deleted_between(self, generation: Generation | None, at: float) -> bool:
        """Whether the stream of this generation had been deleted, or was just being so, at that time."""
        return generation is not None and generation.deleted is not None and generation.deleted.since <= at

    def _note(self, event: Phase | Lag | Complaint) -> None:
        match event:
            case Phase():
                self.phases.append(event)
            case Complaint():
                self.complaints.append(event)
            case Lag() if event.late_s > LATE_S:
                self._lags.append(event)

    def _read(self, event: Record | ReadDone | StreamDeleted) -> None:
        generation = self.generation(event.generation)
        match event:
            case Record():
                generation.add(event)
            case ReadDone():
                generation.end = max(generation.end, event.end)
                generation.complete = event.complete
                self.known_until = max(self.known_until, event.since)
            case StreamDeleted():
                generation.deleted = event

    def _send(self, event: Sent) -> None:
        publication = self.sent.get(event.id)
        if publication is None:
            publication = self.sent[event.id] = Publication(event.channels, event.at)
        publication.attempts += 1

    def _answer(self, event: Answered) -> None:
        publication = self.sent[event.id]
        publication.outcomes[event.outcome] += 1
        if event.outcome == "ok":
            publication.ok_at = publication.ok_at or event.at
            if event.epoch:
                self.answers.append((publication.channels[0], event))

    def _fault(self, event: FaultBegun | FaultSeen | FaultEnded) -> None:
        match event:
            case FaultBegun():
                self.faults[event.number] = Fault(event)
            case FaultSeen():
                self.faults[event.number].seen = event.seen
                self.faults[event.number].how = event.how
            case FaultEnded():
                self.faults[event.number].ended = event.at
                self.faults[event.number].recovered_s = event.recovered_s

    def _name_generations(self) -> None:
        """An epoch is the name of the stream whose records agree best with what was shown under it."""
        for (epoch, offset), ident in self._named.items():
            for generation in self.generations.values():
                if generation.ids.get(offset) == ident:
                    self._votes[epoch][generation.number] += 1
        for epoch, votes in self._votes.items():
            [(number, _)] = votes.most_common(1)
            generation = self.generations[number]
            self.by_epoch[epoch] = generation
            generation.epoch = generation.epoch or epoch
        self._name_the_rest()

    def _name_the_rest(self) -> None:
        """A stream in which nothing was delivered: when there is one such stream and one such epoch, that is its."""
        epochs = [epoch for epoch in self._told if epoch and epoch not in self.by_epoch]
        generations = [generation for generation in self.generations.values() if not generation.epoch]
        if len(epochs) == len(generations) == 1:
            self.by_epoch[epochs[0]] = generations[0]
            generations[0].epoch = epochs[0]
