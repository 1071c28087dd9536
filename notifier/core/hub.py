"""Hub: who is subscribed to what, and the fast lane from a publication to the sockets.

On the fast lane: `Hub.publish`, `Hub.flush` and `Audience.write`. No await, log line or task; an encoding is made once
for a publication, all frames of one tick of the loop are joined and written once to each connection.
"""

from __future__ import annotations

from collections.abc import Callable

from notifier.core.ports import Clock, Connection
from notifier.core.stats import Stats
from notifier.protocol.encoding import Encoding
from notifier.protocol.messages import Publication

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.005


class Audience:
    """Connections that get exactly the same bytes, and the frames that wait for the tick's end.

    All subscribers of one channel with one encoding share an audience. A stream of several channels has one of its own
    that stands in each of them, so that its frames keep the log's order across channels.

    `sends` are the members' send functions, in the members' order: delivering walks this list alone, because touching
    anything else of a connection costs more than the call.
    """

    __slots__ = ("_places", "encoding", "members", "pending", "sends", "stats")

    def __init__(self, encoding: Encoding, stats: Stats) -> None:
        self.encoding = encoding
        self.stats = stats
        self.members: list[Connection] = []
        self.sends: list[Callable[[bytes], int]] = []
        self.pending: list[bytes] = []
        self._places: dict[Connection, int] = {}

    def add(self, connection: Connection) -> None:
        if connection not in self._places:
            self._places[connection] = len(self.members)
            self.members.append(connection)
            self.sends.append(connection.send)

    def discard(self, connection: Connection) -> None:
        """The last member takes the place that becomes free."""
        place = self._places.pop(connection, None)
        if place is None:
            return
        last, send = self.members.pop(), self.sends.pop()
        if last is not connection:
            self.members[place], self.sends[place] = last, send
            self._places[last] = place

    def write(self) -> int:
        """Write the waiting frames to all members; answers their number, 0 if somebody was faster."""
        pending = self.pending
        count = len(pending)
        if not count:
            return 0
        self.pending = []
        data = pending[0] if count == 1 else b"".join(pending)
        size = len(data)
        for place, send in enumerate(self.sends):
            try:
                taken = send(data)
            except OSError:
                taken = 0
            if taken != size:
                self.members[place].queue(data, taken)
        members = len(self.sends)
        self.stats.deliveries += count * members
        self.stats.delivered_bytes += size * members
        return count


class Subscribers:
    """One channel's audiences: the shared ones by encoding, and all of them."""

    __slots__ = ("audiences", "shared")

    def __init__(self) -> None:
        self.audiences: dict[Audience, None] = {}
        self.shared: dict[Encoding, Audience] = {}


class Hub:
    """`defer` calls a function at the end of the loop's tick, `later` after so many seconds.

    A flush that took long is followed by a pause as long, up to `LONGEST_PAUSE_S`: what arrives meanwhile is written
    together, which costs little more than one frame alone, and whatever else the loop has to do gets its turn.
    """

    def __init__(
        self,
        defer: Callable[[Callable[[], None]], object],
        later: Callable[[float, Callable[[], None]], object],
        clock: Clock,
        stats: Stats,
    ) -> None:
        self.epoch = ""
        self._defer = defer
        self._later = later
        self._clock = clock
        self._stats = stats
        self._not_before = 0.0
        self._channels: dict[str, Subscribers] = {}
        self._dirty: list[Audience] = []
        self._since = 0.0

    def publish(self, publication: Publication) -> None:
        """Queue the publication for everybody who is subscribed to its channel."""
        subscribers = self._channels.get(publication.channel)
        if subscribers is None:
            return
        made: dict[Encoding, bytes] = {}
        for audience in subscribers.audiences:
            encoding = audience.encoding
            frame = made.get(encoding)
            if frame is None:
                frame = made[encoding] = encoding.publication(publication, self.epoch)
                self._stats.encodings += 1
            if not audience.pending:
                if not self._dirty:
                    self._since = self._clock.monotonic()
                    self._defer(self._flush_in_time)
                self._dirty.append(audience)
            audience.pending.append(frame)

    def flush(self) -> None:
        """Write what has been gathered."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, []
        clock = self._clock
        started = clock.monotonic()
        frames = sum(audience.write() for audience in dirty)
        ended = clock.monotonic()
        took_s = ended - started
        self._not_before = ended + min(took_s, LONGEST_PAUSE_S) if took_s >= SHORTEST_PAUSE_S else 0.0
        stats = self._stats
        stats.flush_frames.observe(frames)
        stats.flush_seconds.observe(took_s)
        stats.record_to_socket.observe(ended - self._since)

    def _flush_in_time(self) -> None:
        """Flush now, or when the pause after the last flush is over."""
        pause_s = self._not_before - self._clock.monotonic()
        if pause_s > 0:
            self._later(pause_s, self.flush)
        else:
            self.flush()

    def join(self, channel: str, connection: Connection) -> None:
        """From now on the connection gets the channel's publications. What waits for others is written before."""
        subscribers = self._settled(channel)
        audience = subscribers.shared.get(connection.encoding)
        if audience is None:
            audience = subscribers.shared[connection.encoding] = Audience(connection.encoding, self._stats)
            subscribers.audiences[audience] = None
        audience.add(connection)

    def leave(self, channel: str, connection: Connection) -> None:
        """The connection gets what was published so far, and nothing after it."""
        subscribers = self._settled(channel)
        audience = subscribers.shared.get(connection.encoding)
        if audience is not None:
            audience.discard(connection)
            if not audience.members:
                del subscribers.shared[connection.encoding]
                del subscribers.audiences[audience]
        self._forget_if_empty(channel, subscribers)

    def attach(self, channels: list[str], connection: Connection) -> Audience:
        """One audience for the connection in all of these channels; see `Audience`."""
        audience = Audience(connection.encoding, self._stats)
        audience.add(connection)
        for channel in channels:
            self._settled(channel).audiences[audience] = None
        return audience

    def detach(self, channels: list[str], audience: Audience) -> None:
        for channel in channels:
            subscribers = self._settled(channel)
            subscribers.audiences.pop(audience, None)
            self._forget_if_empty(channel, subscribers)

    def subscribers(self, channel: str) -> int:
        found = self._channels.get(channel)
        return sum(len(audience.members) for audience in found.audiences) if found else 0

    def channels(self) -> list[str]:
        """The channels that have subscribers."""
        return list(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    def _settled(self, channel: str) -> Subscribers:
        """The channel's subscribers, with nothing waiting for them."""
        subscribers = self._channels.get(channel)
        if subscribers is None:
            subscribers = self._channels[channel] = Subscribers()
        for audience in subscribers.audiences:
            if audience.pending:
                audience.write()
        return subscribers

    def _forget_if_empty(self, channel: str, subscribers: Subscribers) -> None:
        if not subscribers.audiences:
            del self._channels[channel]
