"""Names and patterns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.core.channel import Pattern, problem_with

WORDS = st.lists(st.sampled_from(["a", "b", "user", "42"]), min_size=1, max_size=5)
PATTERNS = st.lists(st.sampled_from(["a", "b", "user", "*", "#"]), min_size=1, max_size=5)


@pytest.mark.parametrize("name", ["news", "user.42", "a..b", "x:y", "$private", "a" * 255, "rate#1", "a*b"])
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
