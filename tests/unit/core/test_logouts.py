"""Sessions that were ended are remembered for as long as they would have lasted, and no longer."""

from __future__ import annotations

import pytest

from notifier.core import logouts
from notifier.core.logouts import Logouts


def test_a_session_is_remembered_until_it_would_have_ended() -> None:
    ended = Logouts()
    ended.add("a", until=100, now=50)
    assert "a" in ended
    assert "b" not in ended
    ended.add("b", until=200, now=150)
    assert "b" in ended
    assert "a" not in ended, "its time is over anyway"


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logouts, "MOST", 2)
    ended = Logouts()
    for session in "abc":
        ended.add(session, until=100, now=50)
    assert [session in ended for session in "abc"] == [False, True, True]
