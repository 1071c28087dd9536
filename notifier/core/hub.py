"""Hub: who is subscribed to what, and the fast lane from a publication to the sockets.

On the fast lane: `Hub.publish`, `Hub.flush` and `Audience.write`. No await, log line or task; an encoding is made once
for a publication, all frames of one tick of the loop are joined and written once to each connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from operator import length_hint
from typing import NamedTuple

from notifier.core.patterns import Patterns
from notifier.core.ports import Clock, Connection, Sink
from notifier.core.record import NEVER
from notifier.core.rules import Rule
from notifier.core.stats import Stats
from notifier.protocol.encoding import Encoding
from notifier.protocol.filters import TagFilter
from notifier.protocol.messages import Publication, Reply

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.005


class Manner(NamedTuple):
    """How a subscription gets what is published. Subscribers of a channel with equal manners get the same bytes.

    `first` is the encoding of the next publication where that one differs from all after it: with deltas, the one that
    the others are differences to. `joins` says that it is told who comes and goes.
    """

    encoding: Encoding
    first: Encoding | None = None
    accepts: TagFilter | None = None
    joins: bool = False


class Audience:
    """Connections that get exactly the same bytes, and the frames that wait for the tick's end.

    All subscribers of one channel in one manner share an audience. A stream of several channels has one of its own that
    stands in each of them, so that its frames keep the log's order across channels.

    `sinks` are the members' sinks, in the members' order: delivering walks this list alone, because each object of a
    connection that is touched must first come from memory. `pending` is None while nothing waits.
    """

    __slots__ = ("_places", "encoding", "homes", "manner", "members", "pending", "sinks", "stats", "successor")

    def __init__(self, manner: Manner, stats: Stats) -> None:
        self.manner = manner
        self.encoding = manner.first or manner.encoding
        self.stats = stats
        self.members: list[Connection] = []
        self.sinks: list[Sink] = []
        self.pending: list[bytes] | None = None
        self.homes: list[Subscribers] = []
        self.successor: Audience | None = None
        self._places: dict[Connection, int] = {}

    def add(self, connection: Connection) -> None:
        if connection not in self._places:
            self._places[connection] = len(self.members)
            self.members.append(connection)
            self.sinks.append(connection.sink)

    def discard(self, connection: Connection) -> None:
        """The last member takes the place that becomes free."""
        place = self._places.pop(connection, None)
        if place is None:
            return
        last, sink = self.members.pop(), self.sinks.pop()
        if last is not connection:
            self.members[place], self.sinks[place] = last, sink
            self._places[last] = place

    def write(self) -> int:
        """Write the waiting frames to all members; answers their number, 0 if somebody was faster."""
        pending = self.pending
        if pending is None:
            return 0
        self.pending = None
        count = len(pending)
        data = pending[0] if count == 1 else b"".join(pending)
        size = len(data)
        sinks = iter(self.sinks)
        while True:
            # What only a slow member needs is no part of the innermost loop: not even whose turn it is. That is counted
            # back from how many are left.
            try:
                for sink in sinks:
                    taken = sink.send(data)
                    if taken != size:
                        break
                else:
                    break
            except OSError:
                taken = 0
            self.members[-1 - length_hint(sinks)].queue(data, taken)
        members = len(self.sinks)
        self.stats.deliveries += count * members
        self.stats.delivered_bytes += size * members
        return count


class Subscribers:
    """The audiences of one channel, or of one pattern within a rule: the shared ones by manner, and all of them."""

    __slots__ = ("audiences", "name", "rule", "shared")

    def __init__(self, name: str, rule: Rule | None = None) -> None:
        """With a rule, `name` is a pattern, and only the rule's channels belong to it."""
        self.name = name
        self.rule = rule
        self.audiences: dict[Audience, None] = {}
        self.shared: dict[Manner, Audience] = {}


class Hub:
    """`defer` calls a function at the end of the loop's tick, `later` after so many seconds.

    A flush that took long is followed by a pause as long, up to `LONGEST_PAUSE_S`: what arrives meanwhile is written
    together, which costs little more than one frame alone, and whatever else the loop has to do gets its turn.
    `write_delay_s` is the shortest time from the beginning of one flush to that of the next: what comes first after a
    longer silence does not wait.
    """

    def __init__(
        self,
        defer: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], object],
        clock: Clock,
        stats: Stats,
        write_delay_s: float = 0.0,
    ) -> None:
        self.epoch = ""
        self.write_delay_s = write_delay_s
        self._defer = defer
        self._later = later
        self._clock = clock
        self._stats = stats
        self._not_before = 0.0
        self._channels: dict[str, Subscribers] = {}
        self._patterns: dict[Rule, Patterns[Subscribers]] = {}
        self._dirty: list[Audience] = []
        self._begun: list[Audience] = []
        self._since = 0.0
        self._sent_at = NEVER

    def publish(self, publication: Publication, rule: Rule) -> int:
        """Queue the publication for everybody who is subscribed to its channel; answers for how many."""
        subscribers = self._channels.get(publication.channel)
        audiences: Iterable[Audience] = subscribers.audiences if subscribers is not None else ()
        if (patterns := self._patterns.get(rule)) and (by_pattern := patterns.matching(publication.channel)):
            # An audience of several targets may stand here more than once.
            audiences = dict.fromkeys(chain(audiences, *(found.audiences for found in by_pattern)))
        made: dict[Encoding, bytes] = {}
        reached = 0
        for audience in audiences:
            manner = audience.manner
            if manner.accepts is not None and not manner.accepts.accepts(publication.tags):
                continue
            encoding = audience.encoding
            frame = made.get(encoding)
            if frame is None:
                frame = made[encoding] = encoding.publication(publication, self.epoch)
                self._stats.encodings += 1
            if manner.first is not None and encoding is manner.first:
                self._begin(audience)
            self._add(audience, frame)
            reached += len(audience.sinks)  # the flush walks these anyway
        return reached

    def _add(self, audience: Audience, frame: bytes) -> None:
        if audience.pending is not None:
            audience.pending.append(frame)
            return
        audience.pending = [frame]
        if not self._dirty:
            self._since = self._clock.monotonic()
            self._defer(self._flush_in_time)
        self._dirty.append(audience)

    def announce(self, channel: str, message: Reply) -> None:
        """Queue a push that is no publication for those who want to know who comes and goes."""
        subscribers = self._channels.get(channel)
        if subscribers is None:
            return
        made: dict[Encoding, bytes] = {}
        for audience in subscribers.audiences:
            if audience.manner.joins:
                frame = made.get(audience.encoding)
                if frame is None:
                    frame = made[audience.encoding] = audience.encoding.announcement(message)
                self._add(audience, frame)

    def sent(self, at: float) -> None:
        """Something that waits for the flush was on its way to the log at this time of the monotonic clock. The flush
        observes how long the oldest such thing took, also where nobody is there to get it: the way is the same."""
        if self._sent_at == NEVER and not self._dirty:
            self._defer(self._flush_in_time)
        self._sent_at = min(at, self._sent_at)

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._dirty:
            self._write()
        if self._sent_at != NEVER:
            self._stats.broker_to_socket.observe(max(0.0, self._clock.monotonic() - self._sent_at))
            self._sent_at = NEVER

    def _write(self) -> None:
        dirty, self._dirty = self._dirty, []
        clock = self._clock
        started = clock.monotonic()
        frames = 0
        for audience in dirty:
            frames += audience.write()
        ended = clock.monotonic()
        took_s = ended - started
        pause_s = min(took_s, LONGEST_PAUSE_S) if took_s >= SHORTEST_PAUSE_S else 0.0
        self._not_before = max(ended + pause_s, started + self.write_delay_s)
        stats = self._stats
        stats.flush_frames.observe(frames)
        stats.flush_seconds.observe(took_s)
        stats.record_to_socket.observe(ended - self._since)
        if self._begun:
            self._merge_begun()

    def _flush_in_time(self) -> None:
        """Flush now, or when the pause after the last flush is over."""
        pause_s = self._not_before - self._clock.monotonic()
        if pause_s > 0:
            self._later(pause_s, self.flush)
        else:
            self.flush()

    # --- joining and leaving ----------------------------------------------------------------------------------------

    def join(self, channel: str, connection: Connection, manner: Manner) -> Audience:
        """From now on the connection gets the channel's publications. What waits for others is written before."""
        return self._join(self._channel(channel), connection, manner)

    def join_by_pattern(self, pattern: str, rule: Rule, connection: Connection, manner: Manner) -> Audience:
        """The same for all of the rule's channels that match."""
        return self._join(self._pattern(pattern, rule), connection, manner)

    def attach(self, targets: Iterable[tuple[str, Rule, bool]], connection: Connection, encoding: Encoding) -> Audience:
        """One audience for the connection in all of these; see `Audience`. A target is a name, its rule, and whether
        the name is a pattern."""
        audience = Audience(Manner(encoding), self._stats)
        audience.add(connection)
        for name, rule, by_pattern in targets:
            subscribers = self._pattern(name, rule) if by_pattern else self._channel(name)
            subscribers.audiences[audience] = None
            audience.homes.append(subscribers)
        return audience

    def leave(self, audience: Audience, connection: Connection) -> None:
        """The connection gets what was published so far, and nothing after it."""
        while audience.successor is not None:
            audience = audience.successor
        audience.write()
        audience.discard(connection)
        if not audience.members:
            self._drop(audience)

    def subscribers(self, channel: str) -> int:
        """How many are subscribed to the channel by its name."""
        found = self._channels.get(channel)
        return sum(len(audience.members) for audience in found.audiences) if found else 0

    def has_room_for(self, pattern: str, rule: Rule, most: int) -> bool:
        """Whether the pattern is one that somebody has already, or there are fewer than so many; 0: any number."""
        patterns = self._patterns.get(rule)
        known = patterns is not None and patterns.get(pattern) is not None
        return known or not most or sum(map(len, self._patterns.values())) < most

    def channels(self) -> list[str]:
        """The channels that have subscribers."""
        return list(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    def _channel(self, name: str) -> Subscribers:
        subscribers = self._channels.get(name)
        if subscribers is None:
            subscribers = self._channels[name] = Subscribers(name)
        return subscribers

    def _pattern(self, name: str, rule: Rule) -> Subscribers:
        patterns = self._patterns.get(rule)
        if patterns is None:
            patterns = self._patterns[rule] = Patterns()
        subscribers = patterns.get(name)
        if subscribers is None:
            subscribers = Subscribers(name, rule)
            patterns.add(name, subscribers)
        return subscribers

    def _join(self, subscribers: Subscribers, connection: Connection, manner: Manner) -> Audience:
        audience = subscribers.shared.get(manner)
        if audience is None:
            audience = subscribers.shared[manner] = Audience(manner, self._stats)
            subscribers.audiences[audience] = None
            audience.homes.append(subscribers)
        audience.write()
        audience.add(connection)
        return audience

    def _drop(self, audience: Audience) -> None:
        """Nobody is left in it."""
        for home in audience.homes:
            home.audiences.pop(audience, None)
            if home.shared.get(audience.manner) is audience:
                del home.shared[audience.manner]
            if not home.audiences:
                self._forget(home)
        audience.homes = []

    def _forget(self, subscribers: Subscribers) -> None:
        if subscribers.rule is None:
            self._channels.pop(subscribers.name, None)
        elif (patterns := self._patterns.get(subscribers.rule)) is not None:
            patterns.discard(subscribers.name)
            if not patterns:
                del self._patterns[subscribers.rule]

    # --- a first publication unlike all others -----------------------------------------------------------------------

    def _begin(self, audience: Audience) -> None:
        """The audience has its first publication; from here on it gets what those get who had theirs before, and when
        nothing waits for it any more it becomes one with them."""
        [home] = audience.homes
        del home.shared[audience.manner]
        audience.manner = audience.manner._replace(first=None)
        audience.encoding = audience.manner.encoding
        self._begun.append(audience)

    def _merge_begun(self) -> None:
        begun, self._begun = self._begun, []
        for audience in begun:
            if not audience.homes:
                continue  # all have left
            [home] = audience.homes
            elder = home.shared.setdefault(audience.manner, audience)
            if elder is audience:
                continue
            for connection in audience.members:
                elder.add(connection)
            audience.successor = elder
            audience.homes = []
            home.audiences.pop(audience, None)
