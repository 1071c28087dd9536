"""Patterns that are subscribed to: those that match are found, and found without looking at all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.core import patterns
from notifier.core.channel import Pattern
from notifier.core.patterns import Patterns

WORDS = st.sampled_from(["a", "b", "*", "#", "n:a", "n:*", "n:#", "ab"])
PATTERNS = st.lists(WORDS, min_size=1, max_size=5).map(".".join)
NAMES = st.lists(st.sampled_from(["a", "b", "n:a", "n:b", "ab"]), min_size=1, max_size=5).map(".".join)


@given(st.lists(PATTERNS, unique=True, max_size=12), st.lists(PATTERNS, max_size=6), st.lists(NAMES, max_size=6))
def test_those_are_found_that_match(added: list[str], removed: list[str], names: list[str]) -> None:
    found: Patterns[str] = Patterns()
    for pattern in added:
        found.add(pattern, pattern)
        for name in names:
            found.matching(name)  # what is kept must not stay when another one comes
    for pattern in removed:
        found.discard(pattern)
    left = [pattern for pattern in added if pattern not in removed]
    assert len(found) == len(left)
    assert [found.get(pattern) for pattern in left] == left
    for name in names:
        for _ in range(2):
            assert sorted(found.matching(name)) == sorted(one for one in left if Pattern(one).matches(name))


@given(st.lists(PATTERNS, unique=True, max_size=12))
def test_of_those_that_have_gone_nothing_stays(added: list[str]) -> None:
    found: Patterns[str] = Patterns()
    for pattern in added:
        found.add(pattern, pattern)
    for pattern in reversed(added):
        found.discard(pattern)
    assert not found
    assert not found._by_namespace


def test_looking_for_them_costs_no_more_when_there_are_many_others(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0
    with_rests = patterns._with_rests

    def counted(places: list[patterns._Word[int]]) -> dict[patterns._Word[int], None]:
        nonlocal looked_at
        found = with_rests(places)
        looked_at += len(found)
        return found

    monkeypatch.setattr(patterns, "_with_rests", counted)
    many: Patterns[int] = Patterns()
    for number in range(5000):
        many.add(f"user.{number}.*", number)
        many.add(f"*.{number}.#", number)
    assert many.matching("user.7.x") == [7, 7]
    assert many.matching("nobody") == []
    assert looked_at < 20


def test_answers_that_are_kept_are_bounded_by_what_is_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MOST_KEPT", 100)
    many: Patterns[int] = Patterns()
    for number in range(30):
        many.add("#." + ".".join("*" for _ in range(number)) if number else "#", number)
    for number in range(1000):
        many.matching(f"a.b.c.d.e.{number}")
        assert many._kept_size <= 100 + 30
        assert len(many._kept) <= 100
