"""The table at the end, in Markdown that also reads well as plain text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from loadtest.environment import Environment
from loadtest.results import Cell, Point, Row, cells
from loadtest.scenarios import Scenario


class Settings(msgspec.Struct, frozen=True):
    """As given on the command line."""

    scenario: str
    servers: list[str]
    points: list[Point]
    rounds: int
    seconds: float
    warm_up_s: float
    baseline: str
    log: str
    server_core: int
    client_core: int
    read_every_s: float


class Report(msgspec.Struct, frozen=True):
    """All there is to say; also what the JSON file holds. `skipped`: server → why."""

    settings: Settings
    environment: Environment
    labels: dict[str, str]
    versions: dict[str, dict[str, str]]
    skipped: dict[str, str]
    rows: list[Row]


def markdown(report: Report, scenario: Scenario) -> str:
    """A table for each point, then what to know about it."""
    settings = report.settings
    found = cells(report.rows, scenario.measure, settings.baseline)
    parts = [f"# {scenario.key}", scenario.about]
    for point in settings.points:
        here = [cell for cell in found if cell.point == point]
        if here:
            parts += [f"## {title(point)}", table(here, scenario, report.labels, settings.baseline)]
            parts += notes(here, report.labels)
    parts += [conditions(report)]
    return "\n\n".join(parts) + "\n"


def title(point: Point) -> str:
    return f"{point.name}, {point.size} bytes" if point.rate else point.name


def table(here: Sequence[Cell], scenario: Scenario, labels: Mapping[str, str], baseline: str) -> str:
    """Sorted by the headline, best first."""
    heads = ["server", scenario.headline_title, f"÷ {labels.get(baseline, baseline)}"]
    heads += [column.title for column in scenario.columns] + ["rounds"]
    lines = []
    for cell in in_order(here, scenario):
        mark = " *" if cell.notes else ""
        values = [labels.get(cell.server, cell.server) + mark]
        values += [form(scenario.headline(cell), scenario.headline_form), form(cell.ratio, ".2f")]
        values += [form(column.pick(cell), column.form) for column in scenario.columns] + [str(cell.rounds)]
        lines.append(values)
    return aligned(heads, lines)


def in_order(here: Sequence[Cell], scenario: Scenario) -> list[Cell]:
    """Best first; those without a value last."""

    def key(cell: Cell) -> tuple[bool, float]:
        value = scenario.headline(cell)
        return value is None, (value or 0) * (1 if scenario.lower_is_better else -1)

    return sorted(here, key=key)


def notes(here: Sequence[Cell], labels: Mapping[str, str]) -> list[str]:
    lines = [f"* {labels.get(cell.server, cell.server)}: {note}" for cell in here for note in cell.notes]
    return ["\n".join(lines)] if lines else []


def conditions(report: Report) -> str:
    """Machine, versions, what was left out."""
    settings, environment = report.settings, report.environment
    how = [
        f"{settings.rounds} rounds, servers in turn; medians; the ratio is taken round by round.",
        f"Window {settings.seconds:g} s after {settings.warm_up_s:g} s of the same traffic.",
        f"Server alone on core {settings.server_core}; clients, publisher and RabbitMQ on core {settings.client_core}.",
    ]
    where = [
        f"{environment.cpu}, {environment.cores} cores, {environment.memory_gb:g} GB; {environment.kernel};",
        f"Python {environment.python}; load average before {environment.load_before}; {environment.started}.",
    ]
    lines = ["## Conditions", "", " ".join(how), "", " ".join(where), ""]
    for server, versions in report.versions.items():
        told = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines.append(f"* {report.labels.get(server, server)}: {told}")
    lines += [f"* {report.labels.get(server, server)}: **left out**: {why}" for server, why in report.skipped.items()]
    return "\n".join(lines)


def aligned(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    ruler = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]

    def row(values: Sequence[str]) -> str:
        first, *others = values
        cells_ = [first.ljust(widths[0]), *(v.rjust(w) for v, w in zip(others, widths[1:], strict=True))]
        return "| " + " | ".join(cells_) + " |"

    return "\n".join([row(heads), row(ruler), *map(row, lines)])


def form(value: float | None, specification: str) -> str:
    return "-" if value is None else format(value, specification)
