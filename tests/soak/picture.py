"""The picture of a run: deliveries, lag and faults over one time axis, as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from tests.soak.figures import Figures
from tests.soak.sizes import Settings

WIDTH, MARGIN, LABELS = 960, 28, 150
PANEL, GAP, ROW, HEAD = 130, 46, 15, 104
INK, QUIET, LINE, PAPER = "#1d2329", "#5c6670", "#e3e6ea", "#ffffff"
OWN, LAG, MOST, FAULT = "#0b6e4f", "#6a8caf", "#c3cfdd", "#b3541e"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
COLUMNS = 600
DECADES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


def draw(settings: Settings, figures: Figures) -> str:
    """Three panels, one below the other."""
    kinds = list(dict.fromkeys(span.kind for span in sorted(figures.spans, key=lambda span: span.kind)))
    seconds = max(len(figures.deliveries), 1)
    first, second = HEAD, HEAD + PANEL + GAP
    third = second + PANEL + GAP
    height = third + ROW * len(kinds) + 60
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    heading = f"Soak, size {settings.size.name}, seed {settings.seed}, faults {settings.faults}"
    subtitle = (
        f"{settings.size.nodes} nodes, {settings.size.clients} clients, {settings.size.rate:g} publications/s;"
        f" {sum(figures.deliveries):,} deliveries"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FONT}">',
            f"<title>{escape(heading)}</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
            _text(MARGIN, 34, heading, 19, INK, "600"),
            _text(MARGIN, 57, subtitle, 13, QUIET),
            *_rates(figures, first, seconds),
            *_lags(figures, second, seconds),
            *_faults(figures, kinds, third, seconds),
            *_axis(height - 34, seconds),
            "</svg>",
            "",
        ]
    )


def _rates(figures: Figures, top: float, seconds: int) -> list[str]:
    values = _columns([float(value) for value in figures.deliveries])
    most = max(values, default=0.0) or 1.0
    heights = [value / most for value in values]
    return [
        _text(MARGIN, top - 8, "Deliveries a second", 13, INK, "600"),
        *_grid(top, [(f"{most * share:,.0f}", share) for share in (0.0, 0.5, 1.0)]),
        _area(heights, top, OWN),
    ]


def _lags(figures: Figures, top: float, seconds: int) -> list[str]:
    """On a logarithmic scale: outages are thousands of times as long as a delivery takes."""
    ticks = [(_duration(value), _decade(value)) for value in DECADES]
    return [
        _text(MARGIN, top - 8, "From sending to delivery: most (light) and p99 of each second", 13, INK, "600"),
        *_grid(top, ticks),
        _area([_decade(value) for value in _columns(figures.lag_most)], top, MOST),
        _area([_decade(value) for value in _columns(figures.lag_p99)], top, LAG),
    ]


def _faults(figures: Figures, kinds: Sequence[str], top: float, seconds: int) -> list[str]:
    parts = [_text(MARGIN, top - 8, "Faults", 13, INK, "600")]
    for place, kind in enumerate(kinds):
        y = top + ROW * place
        parts.append(_text(LABELS + MARGIN - 8, y + 11, kind, 11, QUIET, anchor="end"))
        for span in figures.spans:
            if span.kind == kind:
                x, until = _x(span.begun, seconds), _x(span.ended, seconds)
                width = max(until - x, 1.5)
                parts.append(f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 5}" fill="{FAULT}"/>')
    return parts


def _axis(y: float, seconds: int) -> list[str]:
    step = next((step for step in (10, 30, 60, 120, 300, 600, 1800, 3600) if seconds / step <= 12), 7200)
    return [
        _text(_x(at, seconds), y, f"{at // 60}:{at % 60:02}", 11, QUIET, anchor="middle")
        for at in range(0, seconds, step)
    ] + [_text(MARGIN, y, "minutes", 11, QUIET)]


def _grid(top: float, ticks: Sequence[tuple[str, float]]) -> list[str]:
    parts = []
    for label, share in ticks:
        y = top + PANEL * (1 - share)
        parts.append(f'<line x1="{LABELS + MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="{LINE}"/>')
        parts.append(_text(LABELS + MARGIN - 8, y + 4, label, 11, QUIET, anchor="end"))
    return parts


def _area(heights: Sequence[float], top: float, colour: str) -> str:
    """Filled from the ground up; one step for each value."""
    bottom = top + PANEL
    left, width = LABELS + MARGIN, WIDTH - LABELS - 2 * MARGIN
    points = [f"{left},{bottom}"]
    for place, height in enumerate(heights):
        y = bottom - PANEL * height
        points += [f"{left + width * at / len(heights):.1f},{y:.1f}" for at in (place, place + 1)]
    points.append(f"{left + width},{bottom}")
    return f'<polygon points="{" ".join(points)}" fill="{colour}"/>'


def _columns(values: Sequence[float]) -> list[float]:
    """The most of each column, when there are more seconds than columns."""
    each = max(1, math.ceil(len(values) / COLUMNS))
    return [max(values[at : at + each]) for at in range(0, len(values), each)]


def _x(at: float, seconds: int) -> float:
    left, width = LABELS + MARGIN, WIDTH - LABELS - 2 * MARGIN
    return left + width * min(max(at / seconds, 0.0), 1.0)


def _decade(value: float) -> float:
    low, high = math.log10(DECADES[0]), math.log10(DECADES[-1])
    return min(max((math.log10(max(value, DECADES[0])) - low) / (high - low), 0.0), 1.0)


def _duration(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


def _text(x: float, y: float, text: str, size: int, colour: str, weight: str = "400", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" font-weight="{weight}"'
        f' text-anchor="{anchor}">{escape(text)}</text>'
    )
