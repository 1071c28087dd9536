"""Names and patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.core.channel import Pattern, problem_with

WORDS = st.lists(st.sampled_from(["a", "b", "user", "42"]), min_size=1, max_size=5)
PATTERNS = st.lists(st.sampled_from(["a", "b", "user", "*", "#"]), min_size=1, max_size=5)


@pytest.mark.parametrize(
    "name", ["news", "user.42", "a..b", "x:y", "$private", "a" * 255, "rate#1", "a*b", "#42", "chat:#42"]
)
def test_these_are_channels(name: str) -> None:
    assert problem_with(name) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "needs a name"),
        ("a" * 256, "at most 255"),
        ("two words", "without spaces"),
        ("línea", "ASCII"),
        ("a\nb", "ASCII"),
        ("*", "patterns"),
        ("orders.*.eu", "patterns"),
        ("orders.#", "patterns"),
        ("chat:*", "patterns"),
        ("$notifier.marker", "server's own"),
    ],
)
def test_these_are_none_and_the_problem_says_why(name: str, words: str) -> None:
    assert words in problem_with(name)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("user.*", "user.42", True),
        ("user.*", "user", False),
        ("user.*", "user.42.x", False),
        ("user.#", "user", True),
        ("user.#", "user.42.x", True),
        ("#", "anything.at.all", True),
        ("#.error", "error", True),
        ("#.error", "app.db.error", True),
        ("#.error", "app.db.error.x", False),
        ("a.#.b.#.c", "a.x.b.b.c", True),
        ("a.#.b", "a.b.x", False),
        ("*.*", "a.b", True),
        ("a+b", "a+b", True),
        ("chat:#", "chat:room.7", True),
        ("chat:#", "chat:a:b.c", True),
        ("chat:#", "chat", False),
        ("chat:#", "chats:room", False),
        ("chat:#", "x.chat:room", False),
        ("chat:*", "chat:room", True),
        ("chat:*", "chat:room.7", False),
        ("chat:room.*", "chat:room.7", True),
        ("*", "chat:room", True),
        ("user.*", "user.a:b", True),
    ],
)
def test_patterns_match_as_topic_bindings_do(pattern: str, name: str, *, matches: bool) -> None:
    assert Pattern(pattern).matches(name) is matches


@given(PATTERNS, WORDS)
def test_matching_agrees_with_a_regular_expression(pattern: list[str], words: list[str]) -> None:
    parts = {"*": r"\.[^.]*", "#": r"(?:\.[^.]*)*"}
    expression = "".join(parts.get(word, r"\." + re.escape(word)) for word in pattern)
    expected = re.fullmatch(expression, "." + ".".join(words)) is not None
    assert Pattern(".".join(pattern)).matches(".".join(words)) is expected


def test_a_pattern_full_of_hashes_is_not_slow() -> None:
    assert not Pattern(".".join(["#", "a"] * 60)).matches(".".join(["a"] * 126 + ["b"]))


@pytest.mark.parametrize(
    ("pattern", "other", "covers"),
    [
        ("a.*", "a.b", True),
        ("a.*", "a.*", True),
        ("a.*", "a.#", False),
        ("a.#", "a.*", True),
        ("a.#", "a.#", True),
        ("a.#", "a.*.b.#", True),
        ("#", "anything.#", True),
        ("a.*.c", "a.*.c", True),
        ("a.*.c", "a.#.c", False),
        ("a.b", "a.*", False),
        ("a.b", "a.b", True),
        ("chat:#", "chat:*", True),
        ("chat:*", "chat:#", False),
        ("chat:#", "*", False),
    ],
)
def test_which_patterns_lie_within_another(pattern: str, other: str, *, covers: bool) -> None:
    assert Pattern(pattern).covers(other) is covers


@given(PATTERNS, PATTERNS, WORDS)
def test_what_lies_within_a_pattern_is_matched_by_it(outer: list[str], inner: list[str], words: list[str]) -> None:
    """Or a subscription to a pattern would reach channels that its owner may not have."""
    name = ".".join(words)
    if Pattern(".".join(outer)).covers(".".join(inner)) and Pattern(".".join(inner)).matches(name):
        assert Pattern(".".join(outer)).matches(name)
