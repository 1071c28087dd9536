"""Medians, ratios round by round, and what makes a row suspect."""

from __future__ import annotations

import pytest

from loadtest.latency import Quantiles
from loadtest.results import Point, cells, lag_notes, pace_notes, trust_notes
from loadtest.scenarios import cpu_us, parse_point

from .samples import POINT, row, window


def test_the_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_the_medians() -> None:
    rows = [
        row("uws", 1, 1.0), row("notifier", 1, 2.0),
        row("uws", 2, 4.0), row("notifier", 2, 6.0),
        row("uws", 3, 5.0), row("notifier", 3, 5.5),
    ]  # fmt: skip
    own = next(cell for cell in cells(rows, cpu_us, "uws") if cell.server == "notifier")
    assert own.cpu_us == 5.5
    assert own.ratio == 1.5


def test_a_round_without_the_baseline_gives_no_ratio_but_counts_for_the_median() -> None:
    rows = [row("uws", 1, 2.0), row("notifier", 1, 3.0), row("notifier", 2, 5.0)]
    own = cells(rows, cpu_us, "uws")[1]
    assert (own.cpu_us, own.ratio, own.rounds) == (4.0, 1.5, 2)


def test_failed_rounds_are_told_and_left_out() -> None:
    [cell] = cells([row("uws", 1, 2.0), row("uws", 2, None, failed="did not start\ndetails")], cpu_us, "uws")
    assert (cell.cpu_us, cell.rounds, cell.notes) == (2.0, 1, ["failed: did not start"])


def test_servers_are_compared_at_the_same_point_only() -> None:
    other = Point("fanout", 10_000, 5)
    found = cells([row("uws", 1, 2.0), row("notifier", 1, 3.0, point=other)], cpu_us, "uws")
    assert [(cell.point, cell.ratio) for cell in found] == [(POINT, 1.0), (other, None)]


def test_an_undisturbed_window_needs_no_note() -> None:
    assert trust_notes(window()) == []
    assert pace_notes(window(), 50_000, 1000) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generator_cpu_s": 8.6}, "suspect: generator used 86%"),
        ({"client_core_busy": 0.98}, "latency suspect: clients' core 98%"),
        ({"server_core_busy": 0.5}, "disturbed: others used 20% of the server's core"),
        ({"stolen": 0.1}, "disturbed: the host took 10%"),
    ],
)
def test_what_makes_a_window_suspect_is_said(changes: dict[str, float], words: str) -> None:
    [note] = trust_notes(window(**changes))
    assert note.startswith(words)


def test_a_server_that_falls_behind_is_told_but_not_for_one_publication_at_the_edge() -> None:
    assert pace_notes(window(deliveries=489_500), 50_000, 1000) == []
    assert pace_notes(window(deliveries=400_000), 50_000, 1000) == [
        "off the pace: 80.0% of the deliveries due in the window"
    ]


def test_a_late_publisher_is_told() -> None:
    assert lag_notes(Quantiles(9, 0.1, 0.1, 5.0, 40.0)) == []
    assert lag_notes(Quantiles(9, 0.1, 0.1, 40.0, 60.0)) == ["uneven: the publisher was 40 ms late at p99"]


def test_points_are_read() -> None:
    assert parse_point("fanout", "1000x0.5", 200) == Point("fanout", 1000, 0.5, 200)
    assert parse_point("idle", "10000", 200).name == "10,000 connections"


@pytest.mark.parametrize(("scenario", "text"), [("fanout", "1000"), ("idle", "10x5"), ("fanout", "0x5"), ("idle", "x")])
def test_points_that_make_no_sense_are_refused(scenario: str, text: str) -> None:
    with pytest.raises(ValueError):
        parse_point(scenario, text, 200)
