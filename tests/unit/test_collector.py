"""What a crowd has left goes back to the kernel, and only when it has gone."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifier.collector import Collector, look_at_young
from notifier.core.stats import Stats


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def stats() -> Iterator[Stats]:
    """What a collector has changed is put back."""
    yield Stats()
    gc.enable()
    gc.unfreeze()


def left_behind() -> tuple[list[bytes], list[bytes]]:
    """Memory of a crowd, in pieces, with something that stays between them."""
    crowd, staying = [], []
    for number in range(20_000):
        crowd.append(bytes(2000))
        if not number % 100:
            staying.append(bytes(600))
    return crowd, staying


def test_what_a_crowd_has_left_goes_back_when_it_has_gone(stats: Stats) -> None:
    collector = Collector(stats)
    crowd, staying = left_behind()
    crowd.clear()
    full = resident()
    stats.ended += 5000
    collector.tick()
    assert resident() > full - 2**20, "not while they are still leaving"
    collector.tick()
    assert resident() < full - 20 * 2**20
    assert len(staying) == 200


def test_a_few_are_no_crowd(stats: Stats, monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    collector = Collector(stats)
    monkeypatch.setattr(collector, "_trim", trimmed.append)
    for _ in range(60):
        stats.ended += 10
        collector.tick()
    assert not trimmed
    stats.recoveries["recovered"] += 1000
    collector.tick()
    collector.tick()
    collector.tick()
    assert trimmed == [0]


def cycles() -> int:
    """How many garbage cycles of a kind are still there, after so many were made."""
    return sum(isinstance(each, Cycle) for each in gc.get_objects())


class Cycle:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_young_cycles_go_within_a_tenth_of_a_second_and_old_ones_after_a_crowd(stats: Stats) -> None:
    collector = Collector(stats)
    Cycle()
    look_at_young()
    assert not cycles()
    old = Cycle()
    look_at_young()
    del old
    look_at_young()
    stats.ended += Collector.LEAST_ENDED
    collector.tick()
    assert cycles() == 1, "not while they are still leaving"
    collector.tick()
    assert not cycles()


def test_a_crowd_that_never_stops_coming_and_going_is_looked_through_all_the_same(stats: Stats) -> None:
    collector = Collector(stats)
    old = Cycle()
    look_at_young()
    del old
    for _ in range(Collector.AT_ONCE):
        stats.ended += Collector.LEAST_ENDED
        collector.tick()
    assert not cycles()
