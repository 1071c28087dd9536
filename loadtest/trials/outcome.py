"""What a trial has found, as a table, as JSON, and as pass or fail. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from loadtest.environment import Environment
from loadtest.report import aligned


class Bound(msgspec.Struct, frozen=True):
    """A figure and what it may be: at most `limit`, or at least, where `least`. None: it could not be measured."""

    name: str
    value: float | None
    limit: float
    unit: str = ""
    least: bool = False

    @property
    def holds(self) -> bool:
        if self.value is None:
            return False
        return self.value >= self.limit if self.least else self.value <= self.limit


class Outcome(msgspec.Struct, kw_only=True):
    """`figures` are what else is worth knowing, as they are shown; `notes` say why not to trust them."""

    trial: str
    about: str
    settings: dict[str, str | int | float]
    environment: Environment
    bounds: list[Bound]
    figures: dict[str, str]
    notes: list[str] = []
    passed: bool = False


def judged(outcome: Outcome) -> Outcome:
    """The same with `passed`: all bounds hold."""
    outcome.passed = bool(outcome.bounds) and all(bound.holds for bound in outcome.bounds)
    return outcome


def markdown(outcome: Outcome) -> str:
    lines = [[bound.name, _shown(bound.value, bound.unit), _limit(bound), _verdict(bound)] for bound in outcome.bounds]
    parts = [f"# {outcome.trial}: {'pass' if outcome.passed else 'FAIL'}", outcome.about]
    parts += [aligned(["what", "measured", "bound", ""], lines), _listed(outcome.figures)]
    if outcome.notes:
        parts.append("\n".join(f"* {note}" for note in outcome.notes))
    environment = outcome.environment
    settings = ", ".join(f"{name} {value}" for name, value in outcome.settings.items())
    parts.append(
        f"{settings}. {environment.cpu}, {environment.cores} cores; {environment.kernel}; Python {environment.python}; "
        f"load average before {environment.load_before}; {environment.started}."
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _listed(figures: Mapping[str, str]) -> str:
    return "\n".join(f"* {name}: {value}" for name, value in figures.items())


def _verdict(bound: Bound) -> str:
    return "holds" if bound.holds else "BROKEN"


def _limit(bound: Bound) -> str:
    return f"{'at least' if bound.least else 'at most'} {_shown(bound.limit, bound.unit)}"


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    number = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.1f}"
    return f"{number} {unit}".strip()
