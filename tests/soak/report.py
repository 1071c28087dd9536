"""The report: one page of Markdown, the same as JSON, and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from loadtest.report import aligned
from tests.soak import orchestra, picture
from tests.soak.checker import Verdict
from tests.soak.figures import Figures, Summary, measure
from tests.soak.journal import read
from tests.soak.sizes import Settings

INVARIANTS = {
    "lost": "confirmed, but not in the log",
    "gap": "silent gaps: missing within an unbroken chain",
    "duplicate": "visible duplicates",
    "repeat shown": "repeats of a message id that were shown",
    "inversion": "inversions within a chain",
    "order": "a publisher's order not kept",
    "two truths": "two publications under one epoch and offset",
    "false answer": "answers of the server API with a wrong offset",
    "phantom": "publications that nobody has sent",
    "damaged": "publications that did not arrive intact",
    "foreign epoch": "an epoch changed within a chain",
    "position went back": "a chain went on before its position",
    "unjustified break": "breaks without a listed cause",
    "recovered without a position": "recovered, though nothing was asked",
    "delivery without a subscription": "deliveries without a subscription",
    "unexplained disconnect": "disconnects without a cause",
    "unexplained unsubscribe": "unsubscribes without a cause",
    "unexplained error": "errors without a cause",
    "absent": "clients that did not come back",
    "presence": "presence that is not who is there",
    "residue": "something left behind by those who have left",
    "complaint": "unhandled exceptions, wrong exits, nodes that stayed away",
}


class Report(Struct, frozen=True):
    settings: Settings
    verdict: Verdict
    bound_95: float
    figures: Figures


def write(settings: Settings, folder: Path, verdict: Verdict, out: Path | None) -> str:
    """The page; with `out` it is written there with its JSON and its picture."""
    paths = orchestra.journals(folder)
    figures = measure(lambda: read(paths), settings.size.repeat_window)
    report = Report(settings, verdict, bound(verdict), figures)
    text = markdown(report)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.md").write_text(text)
        (out / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(_short(report))) + b"\n")
        (out / "picture.svg").write_text(picture.draw(settings, figures))
    return text


def bound(verdict: Verdict) -> float:
    """The 95 % upper bound of the share of pairs that are wrong, when none of them was (rule of three)."""
    return 3 / verdict.seen["pairs"] if verdict.seen.get("pairs") else 1.0


def markdown(report: Report) -> str:
    """One page."""
    settings, verdict = report.settings, report.verdict
    size = settings.size
    parts = [
        f"# Soak: size {size.name}, seed {settings.seed}, faults {settings.faults}",
        _conclusion(report),
        f"{size.nodes} nodes, {size.clients} clients on {size.each} of {size.channels} channels each,"
        f" {size.rate:g} publications/s, {size.chaos_s:g} s of faults. Commit {settings.commit}."
        + (f" Seeded bug: {settings.bug}." if settings.bug else ""),
        "![Deliveries, lag and faults over time](picture.svg)",
        "## What must not be",
        aligned(["", "found"], [[text, str(verdict.counts.get(kind, 0))] for kind, text in INVARIANTS.items()]),
        "## What was seen",
        _seen(verdict),
        "## Faults",
        _faults(report.figures),
        "## Times",
        _times(report.figures),
        "## Nodes and generator",
        _nodes(report.figures),
        _machine(settings),
    ]
    if verdict.thin:
        parts.insert(2, "**Does not count as proof**, it saw too little: " + "; ".join(verdict.thin) + ".")
    if verdict.findings:
        parts += ["## Findings", *(f"* **{finding.kind}**: {finding.text}" for finding in verdict.findings)]
    return "\n\n".join(parts) + "\n"


def _conclusion(report: Report) -> str:
    verdict = report.verdict
    pairs = verdict.seen.get("pairs", 0)
    wrong = sum(verdict.counts.values())
    if wrong:
        return f"**{wrong} findings** over {pairs:,} pairs of a chain and a publication."
    return (
        f"**Nothing found** over {pairs:,} pairs of a chain and a publication: with 95 % confidence fewer than"
        f" {report.bound_95:.1e} of them are lost, doubled or out of order under these faults (rule of three)."
    )


def _seen(verdict: Verdict) -> str:
    seen = verdict.seen
    rows = [
        ["publications confirmed / refused / outcome unknown",
         f"{seen.get('ok', 0):,} / {seen.get('no', 0):,} / {seen.get('unknown', 0):,}"],
        ["deliveries", f"{seen.get('deliveries', 0):,}"],
        ["chains", f"{seen.get('chains', 0):,}"],
        ["positions that clients came back with", f"{seen.get('recoveries asked', 0):,}"],
        ["recoveries that brought publications", f"{seen.get('recoveries', 0):,}"],
        ["publications recovered", f"{seen.get('recovered publications', 0):,}"],
        ["repeats in the log, shown to nobody", f"{seen.get('repeats', 0):,}"],
        ["late joiners", f"{seen.get('late', 0):,}"],
        *([f"told that recovery is not possible: {cause}", f"{count:,}"] for cause, count in verdict.causes.items()),
    ]  # fmt: skip
    return aligned(["", "count"], rows)


def _faults(figures: Figures) -> str:
    if not figures.faults:
        return "None."
    rows = [
        [
            row.kind,
            str(row.count),
            str(row.seen),
            _seconds(row.recovery.p50) if row.recovery.count else "",
            _seconds(row.recovery.most) if row.recovery.count else "",
            str(row.disconnects),
        ]
        for row in figures.faults
    ]
    head = ["fault", "count", "took effect", "all ready again, p50", "most", "disconnects meanwhile"]
    return aligned(head, rows)


def _times(figures: Figures) -> str:
    rows = [[f"sending to delivery, {name}", *_cells(summary)] for name, summary in figures.latency.items()]
    rows.append(["connection lost to connected again", *_cells(figures.away)])
    rows.append(["the generator's own lateness", *_cells(figures.generator_late)])
    return aligned(["", "count", "p50", "p99", "p99.9", "most"], rows) + (
        "\n\nOutages count: what was sent while the broker was away is as late as that. Replayed in one recovery:"
        f" {figures.replayed.p50:.0f} publications at the median, {figures.replayed.most:.0f} at most."
    )


def _nodes(figures: Figures) -> str:
    rows = [
        [str(row.node), *(f"{value:g}" for value in row.rss), *(f"{value:g}" for value in row.fds)]
        for row in figures.nodes
    ]
    head = ["node", "MiB at first", "most", "after all left", "descriptors at first", "most", "after all left"]
    cpu = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in figures.generator_cpu.items())
    return aligned(head, rows) + f"\n\nCPU time of the generator in {figures.seconds:.0f} s: {cpu}."


def _machine(settings: Settings) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in settings.machine.items())
    found = ", ".join(f"{name} {value}" for name, value in settings.versions.items())
    size = settings.size
    again = f"python -m tests.soak --size {size.name} --seed {settings.seed} --faults {settings.faults}"
    again += f" --seconds {size.chaos_s:g}" + (f" --bug {settings.bug}" if settings.bug else "")
    return (
        f"{machine}. {found}.\n\nAgain: `{again}`\n\nWhat it cannot show: loss of disks, networks between hosts, other"
        " versions of the broker, orders of events that no seed has brought."
    )


def _cells(summary: Summary) -> list[str]:
    return [f"{summary.count:,}", *map(_seconds, (summary.p50, summary.p99, summary.p999, summary.most))]


def _seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def _short(report: Report) -> Any:
    """Without the series: those are in the picture."""
    found = msgspec.to_builtins(report)
    for name in ("deliveries", "lag_p99", "lag_most"):
        del found["figures"][name]
    return found
