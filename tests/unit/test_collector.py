"""What a crowd has left goes back to the kernel, and only when it has gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from notifier.collector import Returner
from notifier.core.stats import Stats


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def stats() -> Stats:
    return Stats()


def left_behind() -> tuple[list[bytes], list[bytes]]:
    """Memory of a crowd, in pieces, with something that stays between them."""
    crowd, staying = [], []
    for number in range(20_000):
        crowd.append(bytes(2000))
        if not number % 100:
            staying.append(bytes(600))
    return crowd, staying


def test_what_a_crowd_has_left_goes_back_when_it_has_gone(stats: Stats) -> None:
    returner = Returner(stats)
    crowd, staying = left_behind()
    crowd.clear()
    full = resident()
    stats.ended += 5000
    returner.tick()
    assert resident() > full - 2**20, "not while they are still leaving"
    returner.tick()
    assert resident() < full - 20 * 2**20
    assert len(staying) == 200


def test_a_few_are_no_crowd(stats: Stats, monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    returner = Returner(stats)
    monkeypatch.setattr(returner, "_trim", trimmed.append)
    for _ in range(60):
        stats.ended += 10
        returner.tick()
    assert not trimmed
    stats.recoveries["recovered"] += 1000
    returner.tick()
    returner.tick()
    returner.tick()
    assert trimmed == [0]
