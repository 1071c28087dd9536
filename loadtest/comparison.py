"""What a comparison has found, and how it is shown: one table, one picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from loadtest import chart
from loadtest.chart import FLOOR, OTHER, OWN, Bar, Panel
from loadtest.environment import Environment
from loadtest.report import aligned, form, in_order, title
from loadtest.results import Cell, Point, Row, cells, median_of, ratios
from loadtest.scenarios import SCENARIOS, Scenario

HEADS = ("server", "figure", "ours ÷ it", "lowest to highest", "p50 ms", "p99 ms", "more", "generator", "rounds")
# Columns of the scenarios whose values are told in one column here.
MORE = ("bytes a delivery", "CPU µs a connection", "memory after ÷ before", "switches/s", "CPU while idle")
# The curves are shown as one panel each, of our server alone.
CURVES = ("subscribers", "channels", "sizes")
# Of these it is told how flat they are.
FLAT = ("subscribers", "channels")
PICTURED = ("fanout", "unicast", "sse", "storm", "recovery", "idle", *CURVES)
OWN_KEYS = ("notifier", "notifier-sse", "notifier-delta", "notifier-deflate")


class Part(msgspec.Struct):
    """One part of the work. `own`: which of our servers the others are held against."""

    key: str
    scenario: str
    points: list[Point]
    own: str
    rows: list[Row] = []


class Comparison(msgspec.Struct):
    """All there is to say. `tuned`: how each server is set; `skipped`: server → why; `left_out`: work → why."""

    environment: Environment
    quick: bool
    rounds: int
    seconds: float
    server_core: int
    client_core: int
    parts: list[Part] = []
    labels: dict[str, str] = {}
    versions: dict[str, dict[str, str]] = {}
    tuned: dict[str, str] = {}
    skipped: dict[str, str] = {}
    left_out: dict[str, str] = {}


class Group(msgspec.Struct, frozen=True):
    """The servers at one point, best first."""

    part: Part
    scenario: Scenario
    point: Point
    cells: list[Cell]

    @property
    def heading(self) -> str:
        return f"{self.part.key}: {title(self.point)}"

    def own_ratios(self, server: str) -> list[float]:
        """Ours to the server's figure, round by round."""
        return list(ratios(self._rows(self.part.own), self._rows(server), self.scenario.measure))

    def by_round(self, server: str) -> dict[int, float]:
        """The server's figure in each round that did not fail."""
        return {row.round: figure for row in self._rows(server) if (figure := self.scenario.measure(row)) is not None}

    def _rows(self, server: str) -> list[Row]:
        return [row for row in self.part.rows if (row.point, row.server) == (self.point, server) and not row.failed]


def groups(found: Comparison) -> Iterator[Group]:
    """In the order of the work; points at which nothing was measured are left out."""
    for part in found.parts:
        scenario = SCENARIOS[part.scenario]
        all_cells = cells(part.rows, scenario.measure, part.own)
        for point in part.points:
            if here := [cell for cell in all_cells if cell.point == point]:
                yield Group(part, scenario, point, in_order(here, scenario))


def markdown(found: Comparison) -> str:
    """The table, what to know about it, and the conditions."""
    return "\n\n".join(["# Comparison", table(found), *flatness(found), *notes(found), conditions(found)]) + "\n"


def table(found: Comparison) -> str:
    """One for all the work; a line in bold begins each point."""
    lines = []
    for group in groups(found):
        lines.append([f"**{group.heading}**", f"**{group.scenario.headline_title}**", *[""] * (len(HEADS) - 2)])
        lines += [_line(found, group, cell) for cell in group.cells]
    return aligned(HEADS, lines)


def _line(found: Comparison, group: Group, cell: Cell) -> list[str]:
    pairs = group.own_ratios(cell.server)
    spread = f"{min(pairs):.2f} to {max(pairs):.2f}" if len(pairs) > 1 else "-"
    columns = [column for column in group.scenario.columns if column.title in MORE and column.pick(cell) is not None]
    more = [f"{column.title} {form(column.pick(cell), column.form)}" for column in columns]
    return [
        found.labels.get(cell.server, cell.server) + (" *" if cell.notes else ""),
        form(group.scenario.headline(cell), group.scenario.headline_form),
        form(median_of(pairs), ".2f"),
        spread,
        form(cell.p50, ".2f"),
        form(cell.p99, ".2f"),
        "; ".join(more),
        form(cell.generator_cpu, ".0%"),
        str(cell.rounds),
    ]


def flatness(found: Comparison) -> list[str]:
    """How far each server's figures lie apart over the points of a curve, also divided by the mean of their round, so
    that a slow minute counts for all points alike; and ours as a multiple of the others'."""
    lines = []
    for key in FLAT:
        curve = [group for group in groups(found) if group.part.key == key]
        for server in dict.fromkeys(cell.server for group in curve for cell in group.cells):
            label = found.labels.get(server, server)
            figures = [
                group.scenario.headline(cell) for group in curve for cell in group.cells if cell.server == server
            ]
            multiples = [median_of(group.own_ratios(server)) for group in curve]
            lines += _apart(f"* {key} · {label}: {curve[0].scenario.headline_title}", figures)
            lines += _apart(f"* {key} · {label}: ÷ the mean of its round", _within_rounds(curve, server))
            if server != curve[0].part.own:
                lines += _apart(f"* {key} · {label}: ours ÷ it", multiples)
    return ["\n".join(["How flat, from the lowest to the highest point:", "", *lines])] if lines else []


def _within_rounds(curve: Sequence[Group], server: str) -> list[float | None]:
    """The figure of each point, divided by the mean of all points in the same round: the median of the rounds in which
    none is missing or 0."""
    figures = [group.by_round(server) for group in curve]
    whole = set.intersection(*({number for number, figure in point.items() if figure} for point in figures))
    means = {number: statistics.fmean(point[number] for point in figures) for number in whole}
    return [median_of(point[number] / means[number] for number in whole) for point in figures]


def _apart(what: str, figures: Sequence[float | None]) -> list[str]:
    """Nothing where there are no two points to compare."""
    known = [figure for figure in figures if figure]
    if len(known) < 2:
        return []
    low, high = min(known), max(known)
    return [f"{what} {low:.2f} to {high:.2f}, ±{(high - low) / (high + low):.0%} around the middle"]


def notes(found: Comparison) -> list[str]:
    lines = [
        f"* {group.heading} · {found.labels.get(cell.server, cell.server)}: {note}"
        for group in groups(found)
        for cell in group.cells
        for note in cell.notes
    ]
    return ["\n".join(["Rows with a star:", "", *lines])] if lines else []


def conditions(found: Comparison) -> str:
    """How, on what, with which versions and settings, and what was left out."""
    machine = found.environment
    rounds = f"{found.rounds} round" + "s" * (found.rounds != 1)
    how = [
        f"{rounds} of all the work, servers in turn; medians; `ours ÷ it` is taken within each round.",
        f"Window {found.seconds:g} s. Server alone on core {found.server_core}; clients, publisher and the RabbitMQ",
        f"beside our server on core {found.client_core}.",
        *["A quick run: the figures show that it works, and little more."] * found.quick,
    ]
    where = [
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:g} GB; {machine.kernel}; Python {machine.python};",
        f"load average before {machine.load_before}.",
    ]
    parts = [" ".join(how), " ".join(where)]
    if (own_us := generator_us(found)) is not None:
        parts.append(f"The generator itself took {own_us:.2f} µs of CPU for a delivery (median of all rows).")
    lines = []
    for server, versions in found.versions.items():
        if server not in found.skipped:
            told = ", ".join(f"{name} {version}" for name, version in versions.items())
            settings = found.tuned.get(server, "")
            lines.append(f"* {found.labels.get(server, server)}: {told}" + f"; {settings}" * bool(settings))
    lines += [f"* {found.labels.get(server, server)}: **left out**: {why}" for server, why in found.skipped.items()]
    lines += [f"* {work}: **left out**: {why}" for work, why in found.left_out.items()]
    return "\n\n".join([*parts, "\n".join(lines)])


def generator_us(found: Comparison) -> float | None:
    """CPU of the process with the clients, for one delivery."""
    windows = [row.window for part in found.parts for row in part.rows if row.latency and not row.failed]
    return median_of(
        window.generator_cpu_s / window.deliveries * 1e6 for window in windows if window and window.deliveries
    )


def told(row: Row, scenario: str) -> str:
    """One line for a row."""
    if row.failed:
        return f"FAILED: {row.failed}"
    shown = SCENARIOS[scenario]
    text = f"{form(shown.measure(row), shown.headline_form)} {shown.headline_title}"
    if row.latency:
        text += f", p50 {row.latency.p50:.2f} ms, p99 {row.latency.p99:.2f} ms"
    return "; ".join([text, *row.notes])


def picture(found: Comparison) -> str:
    """A panel for each point of the main parts, and one for each curve of growth; SVG."""
    every = list(groups(found))
    chosen = [group for group in every if group.part.key in PICTURED] or every
    panels = [_panel(found, group) for group in chosen if group.part.key not in CURVES]
    curves = [[group for group in chosen if group.part.key == key] for key in CURVES]
    panels += [_curve(curve) for curve in curves if curve]
    machine, rounds = found.environment, f"{found.rounds} round" + "s" * (found.rounds != 1)
    foot = [
        f"Median of {rounds} of {found.seconds:g} s. * see the notes beside the table.",
        f"{machine.cpu}, {machine.cores} cores, {machine.kernel}, Python {machine.python}",
    ]
    subtitle = "Each panel has a scale of its own and says whether less or more is better."
    return chart.svg("This server and others, the same work on one core", subtitle, panels, foot)


def _panel(found: Comparison, group: Group) -> Panel:
    better = "less is better" if group.scenario.lower_is_better else "more is better"
    bars = [
        Bar(
            found.labels.get(cell.server, cell.server) + " *" * bool(cell.notes),
            group.scenario.headline(cell),
            form(group.scenario.headline(cell), group.scenario.headline_form),
            OWN if cell.server in OWN_KEYS else FLOOR if "floor" in cell.server else OTHER,
        )
        for cell in group.cells
    ]
    return Panel(f"{group.heading} · {group.scenario.headline_title}, {better}", bars)


def _curve(curve: Sequence[Group]) -> Panel:
    scenario = curve[0].scenario
    bars = []
    for group in curve:
        for cell in group.cells:
            if cell.server == group.part.own:
                value = scenario.headline(cell)
                bars.append(Bar(_grown(group), value, form(value, scenario.headline_form), OWN))
    return Panel(f"{curve[0].part.key}: {scenario.headline_title} of our server as it grows", bars)


def _grown(group: Group) -> str:
    """What is more at this point than at the one before."""
    point = group.point
    if group.part.key == "sizes":
        return f"{point.size:,} bytes"
    return f"{point.channels:,} channels" if point.channels else f"{point.connections:,} subscribers"


def write(base: Path, found: Comparison) -> list[Path]:
    """JSON with everything, the table, the picture, beside each other."""
    base.parent.mkdir(parents=True, exist_ok=True)
    contents = {
        ".json": msgspec.json.format(msgspec.json.encode(found), indent=1),
        ".md": markdown(found).encode(),
        ".svg": picture(found).encode(),
    }
    written = []
    for suffix, content in contents.items():
        path = base.with_suffix(suffix)
        path.write_bytes(content)
        written.append(path)
    return written
