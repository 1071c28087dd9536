"""Which version of a channel's state counts."""

from __future__ import annotations

from notifier.core.versions import Versions


def test_only_a_higher_version_is_taken() -> None:
    versions = Versions(100)
    taken = [versions.is_newer("a", "", version, offset) for offset, version in enumerate([1, 1, 3, 2, 4], start=1)]
    assert taken == [True, False, True, False, True]
    assert versions.taken_at("a") == 5


def test_each_channel_counts_by_itself_and_each_epoch_anew() -> None:
    versions = Versions(100)
    assert versions.is_newer("a", "x", 5, 1)
    assert versions.is_newer("b", "x", 1, 2)
    assert versions.is_newer("a", "y", 1, 3)
    assert not versions.is_newer("a", "", 1, 4)


def test_beyond_the_window_nothing_is_known() -> None:
    """So that a worker that has read only that much decides the same."""
    versions = Versions(10)
    assert versions.is_newer("a", "", 5, 1)
    assert not versions.is_newer("a", "", 5, 11)
    assert versions.is_newer("a", "", 5, 12)
