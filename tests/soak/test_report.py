"""The page, the figures and the picture of a run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from tests.soak import picture, report
from tests.soak.checker import check
from tests.soak.figures import Spread, measure
from tests.soak.histories import SETTINGS, World
from tests.soak.journal import Event, Gauges, Journal, Lag, Phase

SVG = "{http://www.w3.org/2000/svg}"


def a_run() -> list[Event]:
    world = World()
    world.events[0] = Phase(100.0, "warm-up")
    world.come("steady-1", "wide.0")
    world.publish("wide.0")
    world.wait(2)
    world.write(Phase(world.now, "chaos"))
    world.fault("node.kill", 2.0)
    world.publish("wide.0", "tiny.3")
    world.write(Lag(world.now, "clients-0", 0.002, 1.5))
    values = {"process_resident_memory_bytes": 50 * 2**20, "process_open_fds": 20.0}
    world.write(Gauges(world.now, 0, "running", values))
    events = world.finish()
    return [*events, Phase(world.now + 1, "end")]


def written(tmp_path: Path, events: list[Event]) -> Path:
    with Journal(tmp_path / "nemesis.jsonl") as journal:
        for event in events:
            journal.write(event)
    return tmp_path


def test_a_clean_run_says_what_its_size_implies(tmp_path: Path) -> None:
    events = a_run()
    verdict = check(SETTINGS, lambda: events)
    text = report.write(SETTINGS, written(tmp_path, events), verdict, tmp_path / "out")
    assert "**Nothing found** over 2 pairs" in text
    assert "1.5e+00" in text  # the rule of three: 3 in 2
    assert "Does not count as proof" in text
    assert "| node.kill |" in text
    assert "python -m tests.soak --size ci --seed 1 --faults all" in text
    assert (tmp_path / "out" / "report.md").read_text() == text
    found = msgspec.json.decode((tmp_path / "out" / "report.json").read_bytes())
    assert found["verdict"]["seen"]["pairs"] == 2
    assert found["bound_95"] == pytest.approx(1.5)


def test_findings_are_on_the_page(tmp_path: Path) -> None:
    events = a_run()
    del events[next(place for place, event in enumerate(events) if type(event).__name__ == "Delivered")]
    verdict = check(SETTINGS, lambda: events)
    text = report.write(SETTINGS, written(tmp_path, events), verdict, None)
    assert "**1 findings**" in text
    assert "**gap**" in text


def test_every_kind_of_finding_has_its_line_on_the_page() -> None:
    source = (Path(__file__).parent / "checker.py").read_text()
    kinds = {line.split('_find("')[1].split('"')[0] for line in source.splitlines() if '_find("' in line}
    assert kinds <= report.INVARIANTS.keys()


def test_the_figures_tell_calm_from_trouble() -> None:
    events = a_run()
    figures = measure(lambda: events, 250)
    assert figures.latency["baseline"].count == 1
    assert figures.latency["during faults"].count == 1
    assert figures.faults[0].kind == "node.kill"
    assert figures.faults[0].seen == 1
    assert sum(figures.deliveries) == 2


def test_the_picture_is_an_svg_with_a_bar_for_each_fault() -> None:
    events = a_run()
    root = ET.fromstring(picture.draw(SETTINGS, measure(lambda: events, 250)))
    assert root.tag == f"{SVG}svg"
    assert len([found for found in root.iter(f"{SVG}rect") if found.get("fill") == picture.FAULT]) == 1
    assert len(list(root.iter(f"{SVG}polygon"))) == 3
    assert "node.kill" in {found.text for found in root.iter(f"{SVG}text")}


def test_percentiles_are_within_their_bins() -> None:
    spread = Spread()
    for number in range(1, 1001):
        spread.add(number / 1000)
    summary = spread.summary()
    assert summary.count == 1000
    assert summary.p50 == pytest.approx(0.5, rel=0.12)
    assert summary.p99 == pytest.approx(0.99, rel=0.12)
    assert summary.most == 1.0


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    from tests.soak.journal import read

    path = tmp_path / "nemesis.jsonl"
    path.write_bytes(b'["phase",1.0,"warm-up"]\n["phase",2.0,"cha')
    assert list(read([path])) == [Phase(1.0, "warm-up")]
