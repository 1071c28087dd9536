"""A bar chart as SVG, written directly. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

import msgspec

from loadtest.report import Report, form, in_order, title
from loadtest.results import cells
from loadtest.scenarios import Scenario

WIDTH = 920
MARGIN = 32
LABELS = 190  # space for the servers' names
VALUES = 90  # space for the numbers behind the bars
BAR, STEP = 18, 27
PANEL_HEAD, PANEL_GAP = 34, 26
HEAD, FOOT = 84, 58
OWN, FLOOR, OTHER = "#0b6e4f", "#b9bec5", "#6a8caf"
INK, QUIET, LINE, PAPER = "#1d2329", "#5c6670", "#e3e6ea", "#ffffff"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Bar(msgspec.Struct, frozen=True):
    label: str
    value: float | None
    text: str
    colour: str


class Panel(msgspec.Struct, frozen=True):
    """Its bars share one scale, which begins at zero."""

    title: str
    bars: Sequence[Bar]


def draw(report: Report, scenario: Scenario) -> str:
    """One panel for each point, best server first."""
    settings = report.settings
    found = cells(report.rows, scenario.measure, settings.baseline)
    panels = []
    for point in settings.points:
        here = in_order([cell for cell in found if cell.point == point], scenario)
        bars = [
            Bar(
                _label(cell.server, report.labels) + (" *" if cell.notes else ""),
                scenario.headline(cell),
                form(scenario.headline(cell), scenario.headline_form),
                {"notifier": OWN, "floor": FLOOR}.get(cell.server, OTHER),
            )
            for cell in here
        ]
        if bars:
            panels.append(Panel(title(point), bars))
    direction = "Shorter" if scenario.lower_is_better else "Longer"
    machine = report.environment
    starred = "* see the notes beside the table." if any(cell.notes for cell in found) else ""
    foot = [
        f"Median of {settings.rounds} rounds of {settings.seconds:g} s. Each server alone on a core. {starred}",
        f"{machine.cpu}, {machine.kernel}, Python {machine.python}, {machine.started[:10]}",
    ]
    subtitle = f"{scenario.about} {direction} is better."
    return svg(f"{scenario.key}: {scenario.headline_title}", subtitle, panels, foot)


def svg(heading: str, subtitle: str, panels: Sequence[Panel], foot: Sequence[str]) -> str:
    """The whole picture."""
    parts: list[str] = []
    y = HEAD
    for panel in panels:
        parts += _panel(panel, y)
        y += PANEL_HEAD + STEP * len(panel.bars) + PANEL_GAP
    parts += [_text(MARGIN, y + 12 + 18 * place, line, 12, QUIET) for place, line in enumerate(foot)]
    height = y + FOOT
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FONT}">',
            f"<title>{escape(heading)}</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
            _text(MARGIN, 36, heading, 20, INK, "600"),
            _text(MARGIN, 60, subtitle, 13, QUIET),
            *parts,
            "</svg>",
            "",
        ]
    )


def _panel(panel: Panel, top: float) -> list[str]:
    left, right = MARGIN + LABELS, WIDTH - MARGIN - VALUES
    largest = max((bar.value or 0 for bar in panel.bars), default=0) or 1
    first = top + PANEL_HEAD
    bottom = first + STEP * len(panel.bars)
    parts = [
        _text(MARGIN, top + 18, panel.title, 14, INK, "600"),
        f'<line x1="{left}" x2="{left}" y1="{first - 2}" y2="{bottom - 4}" stroke="{LINE}"/>',
    ]
    for place, bar in enumerate(panel.bars):
        y = first + STEP * place
        length = (bar.value or 0) / largest * (right - left)
        weight = "600" if bar.colour == OWN else "400"
        parts.append(_text(left - 10, y + 14, bar.label, 13, INK, weight, "end"))
        parts.append(
            f'<rect x="{left}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" rx="2" fill="{bar.colour}"/>'
        )
        parts.append(_text(left + length + 8, y + 14, bar.text, 13, INK, weight))
    return parts


def _text(x: float, y: float, text: str, size: int, colour: str, weight: str = "400", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" font-weight="{weight}"'
        f' text-anchor="{anchor}">{escape(text)}</text>'
    )


def _label(server: str, labels: Mapping[str, str]) -> str:
    return labels.get(server, server)
