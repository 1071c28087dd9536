"""What happens when, and who goes when."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from notifier.core.leaving import SLICE_S, slices, timetable


@given(st.floats(0, 100), st.floats(1, 100))
def test_every_step_has_its_time_within_the_grace_period(delay_s: float, left_s: float) -> None:
    table = timetable(delay_s, delay_s + left_s)
    steps = [delay_s, table.moved_s, table.cut_s, table.answered_s, table.ended_s]
    assert table.moving_s == delay_s
    assert steps == sorted(steps)
    assert len(set(steps)) == len(steps)
    assert table.ended_s == delay_s + left_s


@given(st.integers(0, 5000), st.floats(0, 10), st.integers())
def test_everybody_goes_once_and_in_time(count: int, window_s: float, seed: int) -> None:
    found = slices(range(count), window_s, Random(seed))
    assert sorted(client for _, part in found for client in part) == list(range(count))
    moments = [at_s for at_s, _ in found]
    assert moments == sorted(moments)
    assert all(0 <= at_s <= max(window_s, SLICE_S) for at_s in moments)


def test_many_are_spread_evenly_over_the_window() -> None:
    found = slices(range(20_000), 10, Random(1))
    assert len(found) == 100
    assert {len(part) for _, part in found} == {200}
    assert found[-1][0] > 9.8


def test_a_few_do_not_wait_for_each_other() -> None:
    assert len(slices(range(100), 10, Random(1))) == 1
    assert [len(part) for _, part in slices(range(250), 10, Random(1))] == [100, 100, 50]


def test_who_came_together_does_not_go_together() -> None:
    first = slices(range(1000), 10, Random(1))[0][1]
    assert max(first) > 500
    assert first != slices(range(1000), 10, Random(2))[0][1], "nor in the same order each time"
