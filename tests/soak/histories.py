"""Histories to judge the checker with: a small world that behaves as the server promises, and writes journals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.soak.journal import (
    Answered,
    AtRest,
    Closed,
    Connected,
    Delivered,
    Event,
    FaultBegun,
    FaultEnded,
    FaultSeen,
    Phase,
    Placed,
    ReadDone,
    Record,
    Sent,
    StreamDeleted,
    Subscribed,
)
from tests.soak.sizes import CI, Settings, rule_of

SETTINGS = Settings(size=CI, seed=1, faults="all")
EPOCHS = ("first-epoch", "second-epoch")


class World:
    """One log with any number of clients. `now` goes on by a hundredth of a second with everything that happens."""

    def __init__(self) -> None:
        self.events: list[Event] = [Phase(0.0, "warm-up")]
        self.now = 100.0
        self.generation = 0
        self.log: list[tuple[int, list[str], str]] = []
        self.clients: dict[str, dict[str, int]] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._connected: set[str] = set()
        self._held: dict[str, dict[str, tuple[str, int]]] = {}
        self._times: dict[int, float] = {}
        self._faults = 0

    @property
    def epoch(self) -> str:
        return EPOCHS[self.generation]

    @property
    def end(self) -> int:
        return self.log[-1][0] if self.log else 0

    def write(self, event: Event) -> None:
        self.events.append(event)

    def wait(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 3)

    # --- what publishers do -----------------------------------------------------------------------------------------

    def publish(self, *channels: str, publisher: str = "p1", outcome: str = "ok", lands: bool = True) -> str:
        """A new publication; with `lands` it stands in the log, whatever its publisher was told."""
        key = publisher, channels[0]
        self._numbers[key] = self._numbers.get(key, 0) + 1
        ident = f"{publisher}/{channels[0]}/{self._numbers[key]}"
        self.send(ident, list(channels), outcome=outcome, lands=lands)
        return ident

    def send(self, ident: str, channels: Sequence[str], *, outcome: Any = "ok", lands: bool = True) -> None:
        """An attempt. A second one with the same id is a repeat."""
        self.wait(0.01)
        names = list(channels)
        repeat = any(record[2] == ident for record in self.log)
        self.write(Sent(self.now, ident, names, 1, "amqp", repeat))
        if lands:
            offset = self.end + 2  # holes are normal
            self.log.append((offset, names, ident))
            self._times[offset] = self.now
            if not repeat:
                self._fan_out(offset, names, ident)
        self.write(Answered(self.now + 0.002, ident, 1, outcome))

    def _fan_out(self, offset: int, channels: list[str], ident: str) -> None:
        for client in sorted(self._connected):
            for channel in channels:
                if channel in self.clients[client]:
                    self._show(client, channel, offset, ident, recovered=False)

    # --- what clients do --------------------------------------------------------------------------------------------

    def come(self, client: str, *channels: str, node: int = 0) -> None:
        """Connect and subscribe, with the positions held from before."""
        self.wait(0.01)
        held = self._held.setdefault(client, {})
        wanted = list(channels) or list(held)
        self.clients[client] = {}
        self._connected.add(client)
        self.write(Connected(self.now, client, client.partition("-")[0], node, True))
        for channel in wanted:
            self._subscribe(client, channel, held.get(channel))

    def _subscribe(self, client: str, channel: str, held: tuple[str, int] | None) -> None:
        missed = self._missed(channel, held[1]) if held is not None else []
        recovered = held is not None and held[0] == self.epoch and self._is_kept(channel, missed)
        epoch, asked = held or ("", -1)
        offset = asked if recovered and missed else self.end
        count = len(missed) if recovered else 0
        self.write(Subscribed(self.now, client, channel, epoch, asked, recovered, self.epoch, offset, count))
        self.clients[client][channel] = offset
        self._held[client][channel] = self.epoch, offset
        if recovered:
            for found, ident in missed:
                self._show(client, channel, found, ident, recovered=True)

    def leave(self, client: str) -> None:
        self.wait(0.01)
        self._connected.discard(client)
        self.write(Closed(self.now, client, 0, "", True))

    def place(self, client: str) -> None:
        """What a stream of server-sent events is told when nothing else comes."""
        self.wait(0.01)
        self.write(Placed(self.now, client, self.epoch, self.end))
        for channel in self.clients[client]:
            self.clients[client][channel] = self.end
            self._held[client][channel] = self.epoch, self.end

    def _show(self, client: str, channel: str, offset: int, ident: str, *, recovered: bool) -> None:
        at = round(self.now + 0.001, 3)
        self.write(Delivered(at, client, channel, self.epoch, offset, ident, self.now, True, recovered))
        self.clients[client][channel] = offset
        self._held[client][channel] = self.epoch, offset

    def _missed(self, channel: str, after: int) -> list[tuple[int, str]]:
        seen: set[str] = set()
        found = []
        for offset, channels, ident in self.log:
            if channel in channels and offset > after and ident not in seen and self._first(ident) == offset:
                found.append((offset, ident))
            seen.add(ident)
        return found

    def _first(self, ident: str) -> int:
        return next(offset for offset, _, found in self.log if found == ident)

    def _is_kept(self, channel: str, missed: list[tuple[int, str]]) -> bool:
        rule = rule_of(channel)
        return not missed or (len(missed) <= rule.size and self._times[missed[0][0]] > self.now - rule.ttl_s)

    # --- what the nemesis does --------------------------------------------------------------------------------------

    def fault(self, kind: str, seconds: float = 1.0, node: int = 0) -> None:
        self._faults += 1
        self.write(FaultBegun(self.now, self._faults, kind, "node", [node]))
        self.write(FaultSeen(self.now, self._faults, True, "seen"))
        self.wait(seconds)
        self.write(FaultEnded(self.now, self._faults, 0.1))

    def delete_stream(self) -> None:
        """Read to its end, then gone; the next one has another epoch and begins at the beginning. All have left."""
        for client in sorted(self._connected):
            self.leave(client)
        since = self.now
        self.read()
        self.wait(0.01)
        self.write(StreamDeleted(self.now, since, self.generation))
        self.generation += 1
        self.log = []
        self._times = {}

    def read(self) -> None:
        for offset, channels, ident in self.log:
            self.write(Record(self.now, self.generation, offset, channels, ident, ident))
        self.write(ReadDone(self.now, self.now, self.generation, self.end, True))

    def finish(self) -> list[Event]:
        """Everybody is back and at rest, and the log has been read."""
        for client in sorted(self._held):
            if client not in self._connected:
                self.come(client)
        self.read()
        for client in sorted(self._connected):
            self.write(AtRest(self.now, client, list(self.clients[client])))
        return self.events


def deliveries(events: Sequence[Event]) -> Iterator[int]:
    """The places of all deliveries in a history."""
    return (place for place, event in enumerate(events) if isinstance(event, Delivered))
