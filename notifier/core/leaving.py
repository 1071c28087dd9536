"""Leaving: what happens when after a worker was asked to end, and who is moved off at which moment."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from msgspec import Struct

T = TypeVar("T")

SLICE_S = 0.1
LEAST_IN_A_SLICE = 100  # a few clients need not wait for each other


class Timetable(Struct, frozen=True):
    """Seconds since the signal. Until `moving_s` everything goes on but /readyz; by `moved_s` the last client has been
    told to go, at `cut_s` who is still there is cut off, at `answered_s` requests that are not answered are given up,
    and at `ended_s` the process has ended. All of these are the latest moments: whoever has nobody to wait for goes on.
    """

    moving_s: float
    moved_s: float
    cut_s: float
    answered_s: float
    ended_s: float


def timetable(delay_s: float, grace_s: float) -> Timetable:
    """`delay_s` is part of `grace_s`. Half of the rest is for moving clients off, then they have time to take what is
    written to them already."""
    left_s = grace_s - delay_s
    return Timetable(delay_s, delay_s + 0.5 * left_s, delay_s + 0.8 * left_s, delay_s + 0.95 * left_s, grace_s)


def slices(clients: Sequence[T], window_s: float, chance: Random) -> list[tuple[float, list[T]]]:
    """Everybody once, in an order by chance, in slices with the second of the window at which each of them goes.

    The order by chance keeps those apart who came together, from one network or after one outage.
    """
    shuffled = list(clients)
    chance.shuffle(shuffled)
    most = max(1, int(window_s / SLICE_S))
    size = max(LEAST_IN_A_SLICE, -(-len(shuffled) // most))
    return [
        (SLICE_S * (number + chance.random()), shuffled[start : start + size])
        for number, start in enumerate(range(0, len(shuffled), size))
    ]
