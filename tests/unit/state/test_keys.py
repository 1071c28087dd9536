"""Names of keys in Redis: no channel, lease or user can be written so that it has somebody else's key."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from notifier.config import Redis
from notifier.core.channel import problem_with
from notifier.state.presence import RedisPresence, index_key
from notifier.state.store import Store

NASTY = st.text(":{}*?[]^$./c|-~abc", min_size=1, max_size=12)
LEASES = st.text("0123456789abcdef", min_size=32, max_size=32)  # made by the server
STORE = Store(Redis())  # never started


def key(channel: str, lease: str) -> str:
    place: Any = SimpleNamespace(_store=STORE, _leases=SimpleNamespace(own="f" * 32))
    return RedisPresence._key(place, channel, lease)


@given(NASTY, LEASES, NASTY, LEASES)
def test_two_channels_never_share_a_key(channel: str, lease: str, other: str, other_lease: str) -> None:
    """S14, S15 (CVE-2026-39972 was such a name)."""
    assume(not problem_with(channel) and not problem_with(other))
    assert (key(channel, lease) == key(other, other_lease)) == ((channel, lease) == (other, other_lease))
    assert key(channel, lease) not in {
        STORE.key("presence", "leases"),
        STORE.key("presence", "swept", lease),
        STORE.key("presence", "sweep", lease),
        index_key(STORE, lease),
    }


@given(NASTY, LEASES)
def test_all_keys_of_a_channel_are_on_one_node_of_a_cluster(channel: str, lease: str) -> None:
    assume(not problem_with(channel))
    assert tag_of(key(channel, lease)) == tag_of(key(channel, "e" * 32)) != ""


def tag_of(name: str) -> str:
    """What Redis looks at, by its cluster specification."""
    _, _, rest = name.partition("{")
    return rest.partition("}")[0]


def test_keys_begin_with_the_prefix() -> None:
    assert key("a", "b").startswith(Redis().prefix + ":")
