"""Message ids within the last N records."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from notifier.core.repeats import Repeats


def test_a_repeat_within_the_window_answers_with_the_first_offset() -> None:
    repeats = Repeats(10)
    assert repeats.first("a", "x", 1) == 1
    assert repeats.first("a", "x", 5) == 1
    assert repeats.known("a", "x") == 1


def test_ids_belong_to_their_channel() -> None:
    repeats = Repeats(10)
    assert repeats.first("a", "x", 1) == 1
    assert repeats.first("b", "x", 2) == 2


def test_the_window_is_counted_in_records_and_then_forgotten() -> None:
    repeats = Repeats(10)
    repeats.first("a", "x", 1)
    assert repeats.first("a", "x", 12) == 12
    for offset in range(13, 500):
        repeats.first("a", str(offset), offset)
    assert len(repeats) <= 12


def test_a_window_of_none_drops_nothing() -> None:
    repeats = Repeats(0)
    assert repeats.first("a", "x", 1) == 1
    assert repeats.first("a", "x", 2) == 2


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=60), st.integers(0, 60))
def test_a_worker_that_began_a_window_earlier_decides_as_one_that_read_everything(
    records: list[tuple[str, str]], start: int
) -> None:
    """F-B18."""
    window = 8
    everything, late = Repeats(window), Repeats(window)
    for offset, (channel, message_id) in enumerate(records, start=1):
        was_repeat = everything.first(channel, message_id, offset) != offset
        if offset > start:
            is_repeat = late.first(channel, message_id, offset) != offset
            if offset > start + window:
                assert is_repeat == was_repeat
