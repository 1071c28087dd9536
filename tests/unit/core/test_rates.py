"""Rates: what is allowed is never more than the rate and the burst, and never less."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.config import ChannelRule, Limits
from notifier.core import rates
from notifier.core.node import Node
from notifier.core.rates import Limiter, LocalRates, Rate, What
from notifier.testing import SECRET, Client, ManualClock, make_node


def test_a_burst_at_once_and_then_the_rate() -> None:
    limiter = Limiter[str](Rate(2.0, 3))
    assert [limiter.take("a", 100.0) for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]
    assert limiter.take("a", 100.4) == pytest.approx(0.1)
    assert limiter.take("a", 100.5) == 0
    assert limiter.take("a", 100.9) > 0
    assert [limiter.take("a", 200.0) for _ in range(3)] == [0, 0, 0]
    assert limiter.take("a", 200.0) > 0


def test_keys_have_nothing_to_do_with_each_other() -> None:
    limiter = Limiter[str](Rate(1.0, 1))
    assert [limiter.take(key, 5.0) > 0 for key in "aabb"] == [False, True, False, True]


def test_a_rate_of_zero_is_any_number_and_keeps_nothing() -> None:
    limiter = Limiter[str](Rate(0.0, 1))
    assert not any(limiter.take("a", 1.0) for _ in range(100))
    assert len(limiter) == 0


@given(
    st.floats(0.01, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), min_size=1, max_size=200),
)
def test_never_more_than_rate_and_burst(per_second: float, burst: int, steps: list[float]) -> None:
    limiter = Limiter[str](Rate(per_second, burst))
    now, allowed = 1000.0, []
    for step in steps:
        now += step
        wait_s = limiter.take("a", now)
        assert wait_s <= 1 / per_second + 1e-6
        if not wait_s:
            allowed.append(now)
    for first in range(len(allowed)):
        for last in range(first, len(allowed)):
            assert last - first + 1 <= burst + (allowed[last] - allowed[first]) * per_second + 1e-3


@given(st.floats(0.01, 1000), st.integers(1, 50), st.lists(st.floats(0, 10), max_size=50))
def test_who_waits_as_long_as_told_is_allowed(per_second: float, burst: int, steps: list[float]) -> None:
    limiter, now = Limiter[str](Rate(per_second, burst)), 1000.0
    for step in steps:
        now += step
        if wait_s := limiter.take("a", now):
            now += wait_s + 1e-6
            assert limiter.take("a", now) == 0


def test_there_is_a_most_of_keys_and_idle_ones_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_KEYS", 100)
    limiter = Limiter[int](Rate(1.0, 1))
    for key in range(1000):
        limiter.take(key, 5.0)
    assert len(limiter) == 100
    assert limiter.take(999, 5.0) > 0, "the youngest are remembered"
    for _ in range(60):
        limiter.take(1, 50.0)
    assert len(limiter) == 1


async def test_nobody_in_particular_has_no_rate() -> None:
    local = LocalRates(Limits(connects_per_user=1, connects_per_user_burst=1), lambda: 5.0)
    assert [await local.take(What.CONNECT, "") for _ in range(5)] == [0] * 5
    assert [await local.take(What.CONNECT, "ann") > 0 for _ in range(2)] == [False, True]
    assert await local.take(What.PUBLISH, "ann") == 0


# --- in a session -----------------------------------------------------------------------------------------------------


def node_with(clock: ManualClock, **limits: Any) -> Node:
    rules = [ChannelRule(match="#", subscribe=["anyone"], publish=["anyone"])]
    node = make_node(rules, clock=clock)
    node.rates = LocalRates(Limits(**limits), clock.monotonic)
    return node


async def come(node: Node, user: str) -> Client:
    token = jwt.encode({"sub": user, "exp": int(time.time()) + 86_400}, SECRET, algorithm="HS256")
    client = Client(node)
    await client.send({"id": 1, "connect": {"token": token}})
    return client


async def test_a_user_who_connects_too_often_is_to_come_back_later() -> None:
    clock = ManualClock(time.time())
    node = node_with(clock, connects_per_user=1, connects_per_user_burst=2)
    assert [(await come(node, "ann")).closed_with for _ in range(3)] == [0, 0, 3013]
    assert (await come(node, "bob")).closed_with == 0
    clock.advance(1)
    assert (await come(node, "ann")).closed_with == 0
    assert node.stats.refused == {"user_connects": 1}
    assert len(node.of_user("ann")) == 3


async def test_a_user_who_publishes_too_often_gets_an_error_that_passes() -> None:
    clock = ManualClock(time.time())
    node = node_with(clock, publishes_per_user=1, publishes_per_user_burst=2)
    one, two = await come(node, "ann"), await come(node, "ann")
    publish = {"publish": {"channel": "news", "data": 1}}
    answers = [*await one.send({"id": 2, **publish}, {"id": 3, **publish}), *await two.send({"id": 4, **publish})]
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, None, 111]
    assert answers[2]["error"]["temporary"] is True
    assert node.stats.publications == 2
    clock.advance(1)
    assert "publish" in (await two.send({"id": 5, **publish}))[0]
