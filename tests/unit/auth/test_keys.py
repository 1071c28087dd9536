"""API keys."""

from __future__ import annotations

import pytest

from notifier.auth.keys import ApiKeys
from notifier.config import Secret


@pytest.mark.parametrize(
    ("key", "accepted"), [("one", True), ("two", True), ("on", False), ("", False), ("ö\udcff", False)]
)
def test_only_configured_keys_are_accepted(key: str, *, accepted: bool) -> None:
    assert ApiKeys([Secret("one"), Secret("two")]).accept(key) is accepted


def test_a_key_is_known_by_its_number() -> None:
    keys = ApiKeys([Secret("one"), Secret("two")])
    assert [keys.find(key) for key in ("one", "two", "three")] == [1, 2, 0]


def test_without_keys_and_with_an_empty_one_nobody_gets_in() -> None:
    assert not ApiKeys([]).accept("")
    assert not ApiKeys([Secret("")]).accept("")
