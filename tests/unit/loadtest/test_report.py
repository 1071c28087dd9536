"""The table and the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import msgspec

from loadtest import chart
from loadtest.report import Report, aligned, markdown
from loadtest.results import Point
from loadtest.scenarios import CONNECT, FANOUT

from .samples import report, row

SVG = "{http://www.w3.org/2000/svg}"


def test_a_table_lines_up() -> None:
    text = aligned(["name", "n"], [["a", "1"], ["longer", "1,000"]])
    assert text.splitlines() == [
        "| name   |     n |",
        "| :----- | ----: |",
        "| a      |     1 |",
        "| longer | 1,000 |",
    ]


def test_the_report_shows_the_best_first_with_ratio_notes_and_what_was_left_out() -> None:
    rows = [row("uws", 1, 6.0), row("notifier", 1, 3.0, "disturbed: much"), row("nchan", 1, None, failed="no start")]
    text = markdown(report(rows, {"ws": "node and npm are not installed"}), FANOUT)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["notifier *", "µWebSockets", "nchan *"]
    assert "0.50" in lines[2]
    assert "* notifier: round 1: disturbed: much" in text
    assert "* nchan: failed: no start" in text
    assert "* ws: **left out**: node and npm are not installed" in text


def test_what_a_delivery_weighs_is_shown() -> None:
    rows = [row("uws", 1, 6.0), row("uws", 2, 6.0)]
    rows[0].bytes_a_delivery, rows[1].bytes_a_delivery = 1000.0, 1100.4
    heads, _, values = [
        [cell.strip() for cell in line.split("|")]
        for line in markdown(report(rows), FANOUT).splitlines()
        if line.startswith("| ")
    ]
    assert values[heads.index("bytes a delivery")] == "1,050"


def test_where_more_is_better_the_largest_comes_first() -> None:
    rows = [row("uws", 1, None), row("notifier", 1, None)]
    rows[0].connections_per_s, rows[1].connections_per_s = 1000.0, 2000.0
    text = markdown(report(rows), CONNECT)
    assert text.index("| notifier") < text.index("| µWebSockets")


def test_the_file_holds_everything() -> None:
    made = report([row("uws", 1, 6.0)], {"ws": "why"})
    assert msgspec.json.decode(msgspec.json.encode(made), type=Report) == made


def bars(text: str) -> list[ET.Element]:
    root = ET.fromstring(text)
    return [shape for shape in root.iter(f"{SVG}rect") if shape.get("rx")]


def test_the_picture_is_valid_and_its_bars_are_to_scale_from_zero() -> None:
    other = Point("fanout", 10_000, 5)
    rows = [row("uws", 1, 6.0), row("notifier", 1, 3.0), row("uws", 1, 9.0, point=other)]
    text = chart.draw(report(rows), FANOUT)
    widths = [float(bar.get("width", "")) for bar in bars(text)]
    assert len(widths) == 3
    assert widths[0] * 2 == widths[1], "one panel, one scale"
    assert widths[1] == widths[2], "each panel has its own"
    assert "A &lt;CPU&gt; &amp; more" in text


def test_nothing_in_the_picture_lies_outside_it() -> None:
    rows = [row(server, 1, value) for server, value in (("uws", 6.0), ("notifier", 1234.5), ("nchan", None))]
    root = ET.fromstring(chart.draw(report(rows), FANOUT))
    height = float(root.get("height", ""))
    for shape in root.iter():
        assert 0 <= float(shape.get("y", "0")) <= height
        assert 0 <= float(shape.get("x", "0")) + float(shape.get("width", "0")) <= chart.WIDTH


def test_a_server_without_a_value_has_a_bar_without_length() -> None:
    [bar] = bars(chart.draw(report([row("uws", 1, None, failed="no start")]), FANOUT))
    assert bar.get("width") == "1.0"
