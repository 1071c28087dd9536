"""One measured row, and what all rounds of a server at a point say together. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec

from loadtest.latency import Quantiles
from loadtest.window import Window

GENERATOR_FULL = 0.85
CORE_FULL = 0.97
SERVER_DISTURBED = 0.05
STOLEN = 0.02
BEHIND = 0.02
PUBLISHER_LATE_MS = 25
TIMES = "\N{MULTIPLICATION SIGN}"


class Point(msgspec.Struct, frozen=True):
    """What is done to a server. `rate` is 0 where nothing is published, `channels` where that follows from the rest."""

    scenario: str
    connections: int
    rate: float = 0
    size: int = 200
    channels: int = 0

    @property
    def name(self) -> str:
        if not self.rate:
            return f"{self.connections:,} connections"
        if self.channels:
            return f"{self.channels:,} channels on {self.connections:,} connections, {self.rate:,g}/s in all"
        if self.scenario == "mixed":
            return f"{self.connections:,} connections, {self.rate:,g}/s in all"
        if self.scenario == "unicast":
            return f"{self.connections:,} channels, {self.rate:,g}/s in all"
        return f"{self.connections:,} {TIMES} {self.rate:,g}/s"


class Row(msgspec.Struct, kw_only=True):
    """One server at one point in one round.

    `cpu_us`: the server's CPU time for one delivery, or for one opened connection. `bytes_a_delivery`: what a client
    reads from its socket for one, frame and all. `notes`: why not to trust it, or only in part; `failed`: why there is
    nothing else. `beside_cpu_s`: what RabbitMQ used while publishing lasted. `recovered_s`: until all clients had
    got what they had missed; `memory_ratio`: the server's after that to before.
    """

    server: str
    point: Point
    round: int
    failed: str = ""
    notes: list[str] = []
    cpu_us: float | None = None
    latency: Quantiles | None = None
    connections_per_s: float | None = None
    connection_cpu_us: float | None = None
    connection_latency: Quantiles | None = None
    kb_per_connection: float | None = None
    memory_before: int | None = None
    memory_after: int | None = None
    idle_cpu: float | None = None
    deliveries_per_s: float | None = None
    bytes_a_delivery: float | None = None
    expected: int | None = None
    received: int | None = None
    window: Window | None = None
    publisher_lag: Quantiles | None = None
    publisher_cpu_s: float | None = None
    beside_cpu_s: float | None = None
    recovered_s: float | None = None
    memory_ratio: float | None = None
    switches_per_s: float | None = None
    generator_cpu: float | None = None


class Cell(msgspec.Struct, kw_only=True):
    """Medians over the rounds. `ratio`: to the baseline, round by round, then the median."""

    server: str
    point: Point
    rounds: int
    ratio: float | None
    cpu_us: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None
    deliveries_per_s: float | None
    bytes_a_delivery: float | None
    connections_per_s: float | None
    connection_cpu_us: float | None
    connection_p99: float | None
    kb_per_connection: float | None
    idle_cpu: float | None
    generator_cpu: float | None
    recovered_s: float | None
    memory_ratio: float | None
    switches_per_s: float | None
    notes: list[str]


def trust_notes(window: Window) -> list[str]:
    """What else was going on while it was measured."""
    notes = []
    generator = window.generator_cpu_s / window.seconds
    if generator > GENERATOR_FULL:
        notes.append(f"suspect: generator used {generator:.0%} of its core")
    elif window.client_core_busy > CORE_FULL:
        notes.append(f"latency suspect: clients' core {window.client_core_busy:.0%} busy")
    if (others := window.server_core_busy - window.server_cpu_s / window.seconds) > SERVER_DISTURBED:
        notes.append(f"disturbed: others used {others:.0%} of the server's core")
    if window.stolen > STOLEN:
        notes.append(f"disturbed: the host took {window.stolen:.0%} of a core")
    return notes


def missing(window: Window, due_per_s: float, at_once: int) -> float:
    """How many of the deliveries due in the window did not come; negative where more came. A publication at the
    window's edge (`at_once` deliveries) may be in it or not: 0 within that."""
    due = due_per_s * window.seconds
    gap = due - window.deliveries
    return gap if abs(gap) > BEHIND * due + at_once else 0.0


def pace_notes(window: Window, due_per_s: float, at_once: int) -> list[str]:
    """Whether the server kept up."""
    if not missing(window, due_per_s, at_once):
        return []
    return [f"off the pace: {window.deliveries / (due_per_s * window.seconds):.1%} of the deliveries due in the window"]


def lag_notes(lag: Quantiles | None) -> list[str]:
    if lag is None or lag.p99 <= PUBLISHER_LATE_MS:
        return []
    return [f"uneven: the publisher was {lag.p99:.0f} ms late at p99"]


def cells(rows: Iterable[Row], measure: Callable[[Row], float | None], baseline: str) -> list[Cell]:
    """One for each server and point, in the order in which they were first measured."""
    groups: dict[tuple[str, Point], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.server, row.point), []).append(row)
    return [_cell(group, groups.get((baseline, point), []), measure) for (_, point), group in groups.items()]


def _cell(group: Sequence[Row], base: Sequence[Row], measure: Callable[[Row], float | None]) -> Cell:
    good = [row for row in group if not row.failed]
    notes = dict.fromkeys(row.failed and f"failed: {row.failed.splitlines()[0]}" for row in group if row.failed)
    for row in good:
        notes.update(dict.fromkeys(f"round {row.round}: {note}" for note in row.notes))

    def median(pick: Callable[[Row], float | None]) -> float | None:
        return median_of(pick(row) for row in good)

    return Cell(
        server=group[0].server,
        point=group[0].point,
        rounds=len(good),
        ratio=median_of(ratios(good, base, measure)),
        cpu_us=median(lambda row: row.cpu_us),
        p50=median(lambda row: row.latency.p50 if row.latency else None),
        p90=median(lambda row: row.latency.p90 if row.latency else None),
        p99=median(lambda row: row.latency.p99 if row.latency else None),
        max=median(lambda row: row.latency.max if row.latency else None),
        deliveries_per_s=median(lambda row: row.deliveries_per_s),
        bytes_a_delivery=median(lambda row: row.bytes_a_delivery),
        connections_per_s=median(lambda row: row.connections_per_s),
        connection_cpu_us=median(lambda row: row.connection_cpu_us),
        connection_p99=median(lambda row: row.connection_latency.p99 if row.connection_latency else None),
        kb_per_connection=median(lambda row: row.kb_per_connection),
        idle_cpu=median(lambda row: row.idle_cpu),
        generator_cpu=median(lambda row: row.generator_cpu),
        recovered_s=median(lambda row: row.recovered_s),
        memory_ratio=median(lambda row: row.memory_ratio),
        switches_per_s=median(lambda row: row.switches_per_s),
        notes=list(notes),
    )


def ratios(rows: Sequence[Row], base: Sequence[Row], measure: Callable[[Row], float | None]) -> Iterable[float]:
    """Each round's value against the same round's value of the baseline."""
    by_round = {row.round: measure(row) for row in base if not row.failed}
    for row in rows:
        own, other = measure(row), by_round.get(row.round)
        if own is not None and other:
            yield own / other


def median_of(values: Iterable[float | None]) -> float | None:
    """Of those that are there."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None
