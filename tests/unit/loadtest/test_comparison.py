"""The comparison: what it does for whom, its table, its picture, and the page that is made from it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from loadtest import compare, comparison, publishing
from loadtest.comparison import Comparison, Part
from loadtest.peers.catalogue import PEERS
from loadtest.results import TIMES, Point, Row
from loadtest.scenarios import CHANNELS, FANOUT, SCENARIOS, on_channels, parse_point

from .samples import POINT, report, row

HEADING = f"fanout: 1,000 {TIMES} 50/s, 200 bytes"
PAGE = f"# Performance\n\nWords.\n\n{publishing.BEGIN}\n{publishing.END}\n\nMore words.\n"


def found(*rows: Row, key: str = "fanout", own: str = "notifier", points: list[Point] | None = None) -> Comparison:
    made = report([])
    part = Part(key, key if key in SCENARIOS else "fanout", points or [POINT], own, list(rows))
    return Comparison(
        made.environment, False, 3, 8.0, 0, 1, parts=[part], labels=made.labels,
        versions={"uws": {"node": "v20"}, "notifier": {"notifier": "1.0"}}, tuned={"uws": "no pings"},
        skipped={"nchan": "not installed"}, left_out={"many": "too few files"},
    )  # fmt: skip


# --- the work -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("works", [compare.FULL, compare.QUICK], ids=["full", "quick"])
def test_all_work_is_of_servers_and_scenarios_that_exist(works: tuple[compare.Work, ...]) -> None:
    assert len({work.key for work in works}) == len(works)
    for work in works:
        assert set(work.servers) <= PEERS.keys()
        assert {point.scenario for point in work.points} == {work.scenario} <= SCENARIOS.keys()
        assert any(work.key == full.key and work.scenario == full.scenario for full in compare.FULL)


def test_every_server_but_no_other_is_somewhere_in_it() -> None:
    assert {key for work in compare.FULL for key in work.servers} == set(PEERS)


def test_every_part_has_our_server_to_hold_the_others_against() -> None:
    assert all(work.own in work.servers for work in compare.FULL)


def test_parts_and_servers_can_be_chosen() -> None:
    options = compare.parse(["--only", "fanout,sse", "--peers", "uws,notifier,mercure"])
    assert [(work.key, *work.servers) for work in options.works] == [
        ("fanout", "uws", "notifier"),
        ("sse", "notifier", "mercure"),
    ]
    assert options.rounds == 5


def test_a_quick_run_takes_servers_that_are_asked_for() -> None:
    [work] = compare.parse(["--quick", "--only", "fanout", "--peers", "ws,nchan"]).works
    assert (set(work.servers), work.points[0].connections) == ({"ws", "nchan"}, 200)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "fan-out"], "--only: fan-out: not among fanout"),
        (["--peers", "uws,nobody"], "--peers: nobody: not among notifier"),
        (["--only", "churn", "--peers", "floor"], "nothing of the work is left"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare.parse(words)
    assert said in capsys.readouterr().err


def test_channels_are_shared_evenly_by_few_connections() -> None:
    assert [(point.connections, point.channels) for point in CHANNELS.points[:2]] == [(1, 1), (10, 10)]
    assert parse_point("channels", "100000x2000", 200) == on_channels(100_000, 2000)
    assert on_channels(100_000, 2000).connections == 1000
    with pytest.raises(ValueError, match="multiple"):
        on_channels(1500, 10)


# --- what is shown --------------------------------------------------------------------------------------------------


def lines_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_ratios_are_taken_round_by_round_and_the_best_comes_first() -> None:
    rows = [row("uws", 1, 4.0), row("uws", 2, 8.0), row("notifier", 1, 3.0), row("notifier", 2, 4.0)]
    heads, _, heading, *lines = lines_of(comparison.table(found(*rows)))
    assert heading[0] == f"**{HEADING}**"
    assert [line[0] for line in lines] == ["notifier", "µWebSockets"]
    place = heads.index("ours ÷ it")
    assert lines[0][place : place + 2] == ["1.00", "1.00 to 1.00"]
    assert lines[1][place : place + 2] == ["0.62", "0.50 to 0.75"]


def test_a_failed_round_of_ours_makes_no_pair() -> None:
    rows = [row("uws", 1, 4.0), row("uws", 2, 8.0), row("notifier", 1, 3.0), row("notifier", 2, None, failed="no")]
    *_, last = lines_of(comparison.table(found(*rows)))
    assert (last[0], last[2], last[3]) == ("µWebSockets", "0.75", "-")


def test_the_text_says_how_with_what_and_what_was_left_out() -> None:
    text = comparison.markdown(found(row("uws", 1, 4.0, "disturbed: much"), row("notifier", 1, 3.0)))
    assert "| µWebSockets * " in text
    assert f"* {HEADING} · µWebSockets: round 1: disturbed: much" in text
    assert "* µWebSockets: node v20; no pings" in text
    assert "* nchan: **left out**: not installed" in text
    assert "* many: **left out**: too few files" in text


def test_of_a_curve_it_is_told_how_flat_it_is_and_how_it_lies_to_the_others() -> None:
    points = [Point("subscribers", 100, 500), Point("subscribers", 1000, 50)]
    floor = [row("uws", 1, figure, point=point) for figure, point in zip((4.0, 8.0), points, strict=True)]
    ours = [row("notifier", 1, figure, point=point) for figure, point in zip((5.0, 9.0), points, strict=True)]
    [text] = comparison.flatness(found(*floor, *ours, key="subscribers", points=points))
    assert "subscribers · notifier: CPU µs a delivery 5.00 to 9.00, ±29% around the middle" in text
    assert "subscribers · µWebSockets: CPU µs a delivery 4.00 to 8.00, ±33% around the middle" in text
    assert "subscribers · µWebSockets: ours ÷ it 1.12 to 1.25, ±5% around the middle" in text
    assert "notifier: ours ÷ it" not in text


def test_a_slow_round_counts_for_all_points_of_a_curve_alike() -> None:
    points = [Point("subscribers", 100, 500), Point("subscribers", 1000, 50)]
    figures = {1: (4.0, 6.0), 2: (8.0, 12.0), 3: (4.0, 6.0), 4: (100.0, None)}
    rows = [
        row("notifier", number, figure, point=point, failed="" if figure else "no")
        for number, pair in figures.items()
        for figure, point in zip(pair, points, strict=True)
    ]
    [text] = comparison.flatness(found(*rows, key="subscribers", points=points))
    assert "subscribers · notifier: ÷ the mean of its round 0.80 to 1.20, ±20% around the middle" in text


def test_one_point_is_no_curve() -> None:
    points = [Point("subscribers", 100, 500)]
    assert comparison.flatness(found(row("notifier", 1, 5.0, point=points[0]), key="subscribers", points=points)) == []
    assert comparison.flatness(found(row("uws", 1, 4.0), row("notifier", 1, 3.0))) == []


def test_the_picture_has_a_panel_for_each_point_and_one_for_a_curve() -> None:
    other = Point("fanout", 10_000, 5)
    made = found(
        row("uws", 1, 4.0), row("notifier", 1, 3.0), row("notifier", 1, 3.0, point=other), points=[POINT, other]
    )
    curve = [Point("channels", 1, 10, channels=1), Point("channels", 10, 10, channels=10)]
    rows = [row("notifier", 1, 10.0, point=point) for point in curve]
    made.parts.append(Part("channels", "channels", curve, "notifier", rows))
    root = ET.fromstring(comparison.picture(made))
    texts = [text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert sum(text.startswith("fanout: ") for text in texts) == 2
    assert sum(text.startswith("channels: ") for text in texts) == 1
    assert {"1 channels", "10 channels"} <= set(texts)


# --- the page -------------------------------------------------------------------------------------------------------


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / publishing.PAGE).write_text(PAGE)
    return tmp_path


def test_the_figures_are_made_from_results_and_only_between_the_lines(docs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run.json"
    run.write_bytes(msgspec.json.encode(found(row("uws", 1, 4.0), row("notifier", 1, 3.0))))
    assert publishing.main([str(run), "--docs", str(docs)]) == 0
    page = (docs / publishing.PAGE).read_text()
    assert page.startswith("# Performance\n\nWords.\n")
    assert page.endswith("\n\nMore words.\n")
    assert "| µWebSockets" in page
    assert "(performance/compare.svg)" in page
    assert (docs / "performance" / "compare.svg").exists()
    assert b"2026-01-01" not in (docs / "performance" / "compare.json").read_bytes()
    assert publishing.main(["--check", "--docs", str(docs)]) == 0


def test_what_was_changed_by_hand_is_found(docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run.json"
    run.write_bytes(msgspec.json.encode(found(row("uws", 1, 4.0), row("notifier", 1, 3.0))))
    publishing.main([str(run), "--docs", str(docs)])
    page = docs / publishing.PAGE
    page.write_text(page.read_text().replace("4.00", "9.00"))
    assert publishing.main(["--check", "--docs", str(docs)]) == 1
    assert "not made from the results" in capsys.readouterr().err
    assert publishing.main(["--docs", str(docs)]) == 0
    assert "9.00" not in page.read_text()


def test_a_page_without_a_place_for_figures_is_left_alone(docs: Path) -> None:
    (docs / publishing.PAGE).write_text("nothing")
    assert publishing.main(["--docs", str(docs)]) == 2
    assert (docs / publishing.PAGE).read_text() == "nothing"


def test_our_page_is_made_from_our_results() -> None:
    assert publishing.main(["--check"]) == 0


def test_a_fan_out_is_measured_by_what_one_delivery_costs() -> None:
    assert comparison.told(row("uws", 1, 4.0), FANOUT.key).startswith(
        "4.00 CPU µs a delivery, p50 1.00 ms, p99 3.00 ms"
    )
