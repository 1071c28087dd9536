"""What is retained, and which positions are recoverable."""

from __future__ import annotations

import tracemalloc
from collections import deque
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.config import ChannelRule, Duration, HistoryRule
from notifier.core.history import OVERHEAD_BYTES, History, Verdict
from notifier.core.rules import Rule
from notifier.protocol.messages import Position, Publication

RULE = Rule(0, ChannelRule(match="#", history=HistoryRule(size=3, ttl=Duration(60))))
LONG_RULE = Rule(0, ChannelRule(match="#", history=HistoryRule(size=20, ttl=Duration(60))))
PLAIN = Rule(1, ChannelRule(match="plain"))


def history(max_bytes: int = 2**20, max_quiet: int = 1000) -> History:
    made = History(max_bytes, max_quiet)
    made.begin(0)
    made.epoch = "e"
    return made


def publish(to: History, offset: int, channel: str = "a", *, at: float = 0, now: float | None = None) -> Publication:
    publication = Publication(channel, offset, b"1")
    to.end = offset
    to.append(publication, RULE, at, at if now is None else now)
    return publication


def offsets(publications: list[Publication]) -> list[int]:
    return [publication.offset for publication in publications]


def test_everything_after_a_position_comes_back_in_order() -> None:
    kept = history()
    for offset in (1, 4, 9):
        publish(kept, offset)
    assert kept.verdict("a", RULE, Position(1, "e")) is Verdict.RECOVERED
    assert offsets(kept.after("a", 1, 0)) == [4, 9]


def test_a_position_before_what_was_trimmed_by_count_is_not_recoverable() -> None:
    kept = history()
    for offset in (1, 2, 3, 4, 5):
        publish(kept, offset)
    assert kept.verdict("a", RULE, Position(1, "e")) is Verdict.TRIMMED
    assert kept.verdict("a", RULE, Position(2, "e")) is Verdict.RECOVERED
    assert offsets(kept.after("a", 2, 0)) == [3, 4, 5]


def test_a_position_before_what_was_trimmed_by_age_is_not_recoverable() -> None:
    kept = history()
    publish(kept, 1, at=0)
    publish(kept, 2, at=50)
    kept.trim(61)
    assert kept.verdict("a", RULE, Position(0, "e")) is Verdict.TRIMMED
    assert kept.verdict("a", RULE, Position(1, "e")) is Verdict.RECOVERED


def test_a_quiet_channel_stays_recoverable_after_its_last_publication_was_trimmed() -> None:
    kept = history()
    publish(kept, 7, at=0)
    kept.trim(1000)
    assert kept.publications == 0
    assert kept.verdict("a", RULE, Position(7, "e")) is Verdict.RECOVERED
    assert kept.after("a", 7, 1000) == []
    assert kept.verdict("a", RULE, Position(6, "e")) is Verdict.TRIMMED


def test_of_a_publication_that_was_too_old_when_it_was_read_only_the_offset_is_known() -> None:
    kept = history()
    publish(kept, 7, at=0, now=1000)
    assert kept.publications == 0
    assert kept.verdict("a", RULE, Position(7, "e")) is Verdict.RECOVERED
    assert kept.verdict("a", RULE, Position(6, "e")) is Verdict.TRIMMED


def test_a_channel_that_speaks_again_remembers_what_was_trimmed() -> None:
    kept = history()
    publish(kept, 7, at=0)
    kept.trim(1000)
    publish(kept, 9, at=1000)
    assert kept.verdict("a", RULE, Position(6, "e")) is Verdict.TRIMMED
    assert kept.verdict("a", RULE, Position(7, "e")) is Verdict.RECOVERED
    assert offsets(kept.after("a", 7, 1000)) == [9]


def test_other_epochs_positions_ahead_and_unknown_positions_have_each_their_verdict() -> None:
    """F-C6."""
    kept = History(2**20, 10)
    kept.begin(100)
    kept.epoch = "e"
    publish(kept, 120)
    assert kept.verdict("a", RULE, Position(110, "other")) is Verdict.OTHER_EPOCH
    assert kept.verdict("a", RULE, Position(121, "e")) is Verdict.AHEAD
    assert kept.verdict("a", RULE, Position(99, "e")) is Verdict.NOT_KNOWN
    assert kept.verdict("a", RULE, Position(100, "e")) is Verdict.RECOVERED
    assert kept.verdict("a", RULE, Position(100, "")) is Verdict.RECOVERED
    assert kept.verdict("plain", PLAIN, Position(110, "e")) is Verdict.NO_HISTORY


def test_expired_publications_are_left_out_without_making_a_gap() -> None:
    kept = history()
    publish(kept, 1)
    gone = Publication("a", 2, b"1", expires_at=10)
    kept.append(gone, RULE, 0, 0)
    kept.end = 2
    publish(kept, 3)
    assert kept.verdict("a", RULE, Position(1, "e")) is Verdict.RECOVERED
    assert offsets(kept.after("a", 1, 5)) == [2, 3]
    assert offsets(kept.after("a", 1, 11)) == [3]
    assert offsets(kept.page("a", None, 10, 11, reverse=False)) == [1, 3]


def test_bytes_of_all_channels_together_are_bounded_and_the_oldest_go_first() -> None:
    """F-N8."""
    kept = history(max_bytes=3 * (OVERHEAD_BYTES + 1))
    for offset, channel in enumerate("abcde", start=1):
        publish(kept, offset, channel)
    assert kept.size_bytes <= 3 * (OVERHEAD_BYTES + 1)
    assert kept.verdict("a", RULE, Position(0, "e")) is Verdict.TRIMMED
    assert kept.verdict("c", RULE, Position(0, "e")) is Verdict.RECOVERED


def test_when_too_many_channels_are_quiet_the_longest_quiet_ones_are_forgotten_honestly() -> None:
    kept = history(max_quiet=2)
    for offset, channel in enumerate("abc", start=1):
        publish(kept, offset, channel, at=0)
    kept.trim(1000)
    # `a` was forgotten, so a client of it that missed offset 1 must not be told that it missed nothing
    assert kept.known_from == 1
    assert kept.verdict("a", RULE, Position(0, "e")) is Verdict.NOT_KNOWN
    assert kept.verdict("b", RULE, Position(2, "e")) is Verdict.RECOVERED


def test_pages_go_both_ways_and_begin_where_they_are_asked_to() -> None:
    kept = history()
    for offset in (2, 4, 6):
        publish(kept, offset)
    assert offsets(kept.page("a", None, 2, 0, reverse=False)) == [2, 4]
    assert offsets(kept.page("a", None, 2, 0, reverse=True)) == [6, 4]
    assert offsets(kept.page("a", 2, 10, 0, reverse=False)) == [4, 6]
    assert offsets(kept.page("a", 6, 10, 0, reverse=True)) == [4, 2]
    assert offsets(kept.page("a", 3, 10, 0, reverse=False)) == [4, 6]
    assert kept.page("a", None, 0, 0, reverse=False) == []
    assert kept.page("unknown", None, 10, 0, reverse=False) == []


def test_the_second_publication_of_a_record_can_be_asked_for_alone() -> None:
    kept = history()
    kept.append(Publication("a", 5, b"1", index=0, last=False), RULE, 0, 0)
    kept.append(Publication("b", 5, b"1", index=1), RULE, 0, 0)
    kept.end = 5
    assert offsets(kept.after("b", 5, 0, index=0)) == [5]
    assert kept.after("a", 5, 0, index=0) == []
    assert kept.after("b", 5, 0) == []


def test_entries_of_trimmed_publications_do_not_pile_up_behind_a_quiet_channel() -> None:
    kept = history()
    publish(kept, 1, "quiet")
    for offset in range(2, 5000):
        publish(kept, offset, "busy")
    shelf = kept._shelves[RULE]
    assert len(shelf.line) < 200
    kept.trim(1000)
    assert (kept.publications, kept.size_bytes, len(shelf.line), shelf.dead) == (0, 0, 0, 0)


@dataclass
class Model:
    """The simplest history that can be right: every publication ever, and a look through all of them."""

    published: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def retained(self, channel: str, now: float) -> list[int]:
        newest = self.published.get(channel, [])[-RULE.size :]
        return [offset for at, offset in newest if at + RULE.ttl_s > now]

    def after(self, channel: str, offset: int, now: float) -> list[int] | None:
        wanted = [o for _, o in self.published.get(channel, []) if o > offset]
        return wanted if wanted == [o for o in self.retained(channel, now) if o > offset] else None


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0, 40, allow_nan=False), st.integers(1, 3)), min_size=1, max_size=60
)


@settings(max_examples=300)
@given(STEPS, st.integers(0, 130))
def test_recovery_is_all_or_nothing_and_never_refused_without_need(
    steps: list[tuple[str, float, int]], position: int
) -> None:
    kept, model, now, offset = history(), Model(), 0.0, 0
    for channel, pause, hole in steps:
        now += pause
        offset += hole
        publish(kept, offset, channel, at=now)
        model.published.setdefault(channel, []).append((now, offset))
        kept.trim(now)
        for asked in "abc":
            position_now = min(position, offset)
            expected = model.after(asked, position_now, now)
            verdict = kept.verdict(asked, RULE, Position(position_now, "e"))
            assert (verdict is Verdict.RECOVERED) == (expected is not None)
            if expected is not None:
                assert offsets(kept.after(asked, position_now, now)) == expected
    assert kept.publications == sum(len(model.retained(channel, now)) for channel in "abc")


def test_a_window_that_becomes_long_and_short_again_holds_the_newest_in_order() -> None:
    kept = history()
    for now in range(1, 100):
        kept.end = now
        kept.append(Publication("a", now, b"1"), LONG_RULE, now, now)
        newest = list(range(max(1, now - 19), now + 1))
        assert offsets(kept.page("a", None, 100, now, reverse=False)) == newest
        assert kept.floor("a") == newest[0] - 1
    for now in range(140, 160):
        kept.trim(now)
        assert offsets(kept.page("a", None, 100, now, reverse=True)) == list(range(99, now - 60, -1))
    assert kept.publications == kept.size_bytes == 0


def memory_of(channels: int, each: int) -> float:
    """Bytes that a publication takes beside its data, of so many in each channel."""
    kept, rule = history(max_bytes=2**30), Rule(0, ChannelRule(match="#", history=HistoryRule(100, Duration(60))))
    tracemalloc.start()
    try:
        for offset in range(1, channels * each + 1):
            kept.append(Publication(f"user.{offset % channels}", offset, b"%0200d" % offset), rule, 0, 0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return taken / (channels * each) - 200


def test_a_publication_takes_what_is_counted_and_alone_in_its_channel_at_most_half_as_much_again() -> None:
    assert memory_of(100, each=50) < OVERHEAD_BYTES
    assert memory_of(5000, each=1) < 1.5 * OVERHEAD_BYTES


def test_a_window_is_a_list_while_it_is_short_and_then_what_lets_go_of_its_oldest_at_once() -> None:
    kept = filled(*["short"] * 15, *["long"] * 16, rule=LONG_RULE)
    kinds = {channel: type(window.kept) for channel, window in kept._windows.items()}
    assert kinds == {"short": list, "long": deque}


# --- several channels at once, the last one, removal, bases ---------------------------------------------------------


def filled(*channels: str, rule: Rule = RULE) -> History:
    made = history()
    for offset, channel in enumerate(channels, start=1):
        made.append(Publication(channel, offset, b'"%d"' % offset), rule, 0, 0)
        made.end = offset
    return made


def starts_with_a(channel: str) -> bool:
    return channel.startswith("a")


def test_by_a_pattern_the_publications_of_all_channels_come_in_the_logs_order() -> None:
    kept = filled("ab", "x", "aa", "ab", "x", "aa")
    found = kept.after_by_pattern(starts_with_a, 1, 0)
    assert [(publication.channel, publication.offset) for publication in found] == [("aa", 3), ("ab", 4), ("aa", 6)]
    assert kept.verdict_by_pattern(starts_with_a, RULE, Position(1, "e")) is Verdict.RECOVERED


def test_by_a_pattern_one_trimmed_channel_is_enough_to_be_told_also_when_it_is_quiet() -> None:
    kept = filled("ab", "x", "aa")
    kept.remove("ab", RULE)
    assert kept.verdict_by_pattern(starts_with_a, RULE, Position(0, "e")) is Verdict.TRIMMED
    assert kept.verdict_by_pattern(starts_with_a, RULE, Position(1, "e")) is Verdict.RECOVERED
    assert kept.verdict_by_pattern(lambda name: name == "aa", RULE, Position(0, "e")) is Verdict.RECOVERED


def test_the_latest_is_the_last_one_that_is_still_worth_delivering() -> None:
    kept = filled("a", "a")
    latest = kept.latest("a", 0)
    assert latest is not None
    assert latest.offset == 2
    latest.expires_at = 5
    assert kept.latest("a", 5) is None
    assert kept.latest("b", 0) is None


def test_a_removed_history_is_gone_but_who_saw_its_last_publication_missed_nothing() -> None:
    kept = filled("a", "b", "a", "b")
    kept.remove("a", RULE)
    kept.remove("unknown", RULE)
    assert kept.after("a", 0, 0) == []
    assert kept.verdict("a", RULE, Position(1, "e")) is Verdict.TRIMMED
    assert kept.verdict("a", RULE, Position(3, "e")) is Verdict.RECOVERED
    assert [publication.offset for publication in kept.after("b", 0, 0)] == [2, 4]
    assert kept.publications == 2


@given(st.lists(st.sampled_from(["a", "b", "remove a", "trim"]), max_size=60))
def test_after_any_removals_the_bounds_are_counted_right(steps: list[str]) -> None:
    kept = history()
    now = 0.0
    for offset, step in enumerate(steps, start=1):
        kept.end = offset
        now += 1
        if step == "trim":
            kept.trim(now)
        elif step == "remove a":
            kept.remove("a", RULE)
        else:
            kept.append(Publication(step, offset, b"1"), RULE, now, now)
    assert kept.publications == sum(len(kept.after(channel, 0, 0)) for channel in "ab")
    kept.trim(now + 1e9)
    assert kept.publications == 0
    assert kept.size_bytes == 0


DELTA_RULE = Rule(0, ChannelRule(match="#", history=HistoryRule(size=3, ttl=Duration(60)), delta=True))


def test_each_publication_has_the_one_before_it_as_its_base_unless_not_everybody_has_that() -> None:
    kept = filled("a", "a", "b", "a", rule=DELTA_RULE)
    first, second, third = kept.after("a", 0, 0)
    assert first.base is None
    assert second.base is first.data
    assert third.base is second.data
    assert kept.next_base("a") is third.data
    kept.pass_by("a")
    assert kept.next_base("a") is None
    fading = Publication("a", 5, b"5", expires_at=10)
    kept.append(fading, DELTA_RULE, 0, 0)
    assert fading.base is None
    last = Publication("a", 6, b"6")
    kept.append(last, DELTA_RULE, 0, 0)
    assert last.base is None, "who comes back has not got what had faded"


def test_without_deltas_nothing_is_held_for_them() -> None:
    assert [publication.base for publication in filled("a", "a").after("a", 0, 0)] == [None, None]
