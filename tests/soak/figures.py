"""Figures of a run, made from its journals: rates and lag over time, recoveries, faults and what they cost."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

from msgspec import Struct

from tests.soak.checker import History
from tests.soak.journal import Closed, Connected, Delivered, Gauges, Lag, Subscribed
from tests.soak.ledger import Fault, Ledger

BINS_PER_DECADE = 20
LEAST_S = 0.0001


class Summary(Struct, frozen=True):
    """Of a number of values, in their unit; zeros when there are none. Percentiles are within 12 %."""

    count: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    most: float = 0.0


class Spread:
    """Values counted in bins of a geometric scale, so that millions take no room."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self._most = 0.0

    def add(self, value: float) -> None:
        self._bins[round(math.log10(max(value, LEAST_S)) * BINS_PER_DECADE)] += 1
        self._most = max(self._most, value)

    def at(self, share: float) -> float:
        wanted, found = share * self._bins.total(), 0
        for number in sorted(self._bins):
            found += self._bins[number]
            if found >= wanted:
                return float(min(10 ** (number / BINS_PER_DECADE), self._most))
        return 0.0

    def summary(self) -> Summary:
        if not self._bins:
            return Summary()
        p50, p99, p999 = (round(self.at(share), 5) for share in (0.5, 0.99, 0.999))
        return Summary(self._bins.total(), p50, p99, p999, self._most)


class FaultRow(Struct, frozen=True):
    """All faults of one kind. `seen` of them verifiably took effect. Times in seconds."""

    kind: str
    count: int
    seen: int
    recovery: Summary
    disconnects: int


class Span(Struct, frozen=True):
    """A fault in the picture, in seconds from the beginning of the warm-up."""

    kind: str
    begun: float
    ended: float


class NodeRow(Struct, frozen=True):
    """A node's memory in MiB and its file descriptors: at the beginning, the most, and after everybody had left."""

    node: int
    rss: tuple[float, float, float]
    fds: tuple[float, float, float]


class Figures(Struct, frozen=True):
    """`deliveries` are counted by second, `lag_p99` and `lag_most` are of the live ones in that second, in seconds."""

    seconds: float
    latency: dict[str, Summary]
    replayed: Summary
    away: Summary
    faults: list[FaultRow]
    nodes: list[NodeRow]
    generator_late: Summary
    generator_cpu: dict[str, float]
    deliveries: list[int]
    lag_p99: list[float]
    lag_most: list[float]
    spans: list[Span]


class Walk:
    """Gathers while it goes over the events."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._zero = ledger.phase_at("warm-up")
        self._chaos = ledger.phase_at("chaos")
        self._faults = [fault for fault in ledger.faults.values() if not fault.kind.startswith("client.")]
        self._troubled = _seconds_of(self._faults, self._zero)
        self._latency = {name: Spread() for name in ("baseline", "during faults", "between faults")}
        self._per_second: dict[int, Spread] = defaultdict(Spread)
        self._counts: Counter[int] = Counter()
        self._replayed, self._away, self._late = Spread(), Spread(), Spread()
        self._left_at: dict[str, float] = {}
        self._disconnects: Counter[int] = Counter()
        self._cpu: dict[str, float] = {}
        self._gauges: dict[int, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))

    def take(self, event: object) -> None:
        match event:
            case Delivered():
                self._deliver(event)
            case Subscribed() if event.recovered and event.count:
                self._replayed.add(event.count)
            case Closed() if not event.own:
                if event.client.startswith(("steady", "late")):  # the others take their time on purpose
                    self._left_at[event.client] = event.at
                self._disconnects[int(event.at)] += 1
            case Connected():
                left_at = self._left_at.pop(event.client, None)
                if left_at is not None:
                    self._away.add(event.at - left_at)
            case Lag():
                self._late.add(event.late_s)
                self._cpu[event.process] = event.cpu_s
            case Gauges() if event.values:
                self._gauges[event.node][event.when].append(event.values)

    def _deliver(self, event: Delivered) -> None:
        second = int(event.at - self._zero)
        self._counts[second] += 1
        if event.recovered or not event.sent_at:
            return
        latency = max(0.0, event.at - event.sent_at)
        self._per_second[second].add(latency)
        if event.at < self._chaos:
            self._latency["baseline"].add(latency)
        else:
            self._latency["during faults" if second in self._troubled else "between faults"].add(latency)

    def figures(self) -> Figures:
        last = max(self._counts, default=0) + 1
        return Figures(
            seconds=round(self._ledger.phase_at("end") - self._zero, 1),
            latency={name: spread.summary() for name, spread in self._latency.items()},
            replayed=self._replayed.summary(),
            away=self._away.summary(),
            faults=self._fault_rows(),
            nodes=[self._node_row(node) for node in sorted(self._gauges)],
            generator_late=self._late.summary(),
            generator_cpu=self._cpu,
            deliveries=[self._counts[second] for second in range(last)],
            lag_p99=[round(self._per_second[second].at(0.99), 4) for second in range(last)],
            lag_most=[round(self._per_second[second].at(1), 4) for second in range(last)],
            spans=[self._span(fault) for fault in self._ledger.faults.values()],
        )

    def _fault_rows(self) -> list[FaultRow]:
        kinds: dict[str, list[Fault]] = defaultdict(list)
        for fault in self._ledger.faults.values():
            kinds[fault.kind].append(fault)
        rows = []
        for kind, faults in sorted(kinds.items()):
            recovery = Spread()
            disconnects = 0
            for fault in faults:
                if fault.recovered_s >= 0:
                    recovery.add(fault.recovered_s)
                until = int(min(fault.ended, fault.begun + 600)) + 1
                disconnects += sum(self._disconnects[second] for second in range(int(fault.begun), until))
            rows.append(
                FaultRow(kind, len(faults), sum(fault.seen for fault in faults), recovery.summary(), disconnects)
            )
        return rows

    def _node_row(self, node: int) -> NodeRow:
        def three(name: str, unit: float) -> tuple[float, float, float]:
            found = {when: [line[name] / unit for line in lines] for when, lines in self._gauges[node].items()}
            everything = [value for values in found.values() for value in values]
            begun, left = found.get("begun", [0.0]), found.get("left", [0.0])
            return round(begun[0], 1), round(max(everything), 1), round(left[-1], 1)

        return NodeRow(node, three("process_resident_memory_bytes", 2**20), three("process_open_fds", 1))

    def _span(self, fault: Fault) -> Span:
        ended = fault.ended if math.isfinite(fault.ended) else fault.begun
        return Span(fault.kind, round(fault.begun - self._zero, 2), round(ended - self._zero, 2))


def measure(history: History, window: int) -> Figures:
    """Walk over the journals."""
    ledger = Ledger(window)
    ledger.take_all(history())
    walk = Walk(ledger)
    for event in history():
        walk.take(event)
    return walk.figures()


def _seconds_of(faults: list[Fault], zero: float) -> set[int]:
    """The seconds in which something was wrong, up to when all nodes were ready again."""
    troubled: set[int] = set()
    for fault in faults:
        if math.isfinite(fault.ended):
            until = fault.ended + max(0.0, fault.recovered_s)
            troubled.update(range(int(fault.begun - zero), int(until - zero) + 2))
    return troubled
