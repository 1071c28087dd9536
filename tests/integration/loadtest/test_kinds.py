"""The load test's kinds of work, small, against this server with its embedded log: do they measure anything at all?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loadtest.kinds import kind_of
from loadtest.measurement import Timing
from loadtest.peers.product import Product, ProductEvents
from loadtest.results import Point, Row
from loadtest.scenarios import on_channels


def measured(point: Point, folder: Path, peer: type[Product] = Product) -> Row:
    cores = sorted(os.sched_getaffinity(0))
    timing = Timing(0.5, 0.2, cores[0], cores[-1], 0.025, 0.2)
    row = kind_of(point.scenario)(peer(folder, "memory"), point, timing, lambda _: None).run(1)
    assert not row.failed
    assert not [note for note in row.notes if note.startswith(("wrong", "incomplete"))]
    return row


@pytest.mark.parametrize("peer", [Product, ProductEvents])
def test_everything_arrives_over_sockets_and_event_streams(tmp_path: Path, peer: type[Product]) -> None:
    row = measured(Point("fanout", 40, 20), tmp_path, peer)
    assert row.received == row.expected
    assert row.received
    assert row.latency
    assert row.latency.p50 > 0


@pytest.mark.parametrize("point", [Point("mixed", 36, 40), on_channels(3000, 40)], ids=["mixed", "channels"])
def test_everybody_gets_what_is_for_them(tmp_path: Path, point: Point) -> None:
    row = measured(point, tmp_path)
    assert row.received == row.expected


def test_a_storm_is_timed_while_others_are_served(tmp_path: Path) -> None:
    row = measured(Point("storm", 40), tmp_path)
    assert row.connections_per_s
    assert row.connection_latency
    assert row.connection_latency.count == 40


def test_a_recovery_storm_ends_with_everybody_recovered(tmp_path: Path) -> None:
    """F-C5."""
    row = measured(Point("recovery", 40), tmp_path)
    assert row.recovered_s
    assert row.memory_ratio


def test_churn_counts_what_was_answered(tmp_path: Path) -> None:
    row = measured(Point("churn", 400), tmp_path)  # enough of them to stay below the rate that each may have
    assert row.switches_per_s
    assert row.cpu_us is not None
