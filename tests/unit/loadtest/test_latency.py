"""Quantiles."""

from __future__ import annotations

import pytest

from loadtest.latency import Quantiles, quantile


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_quantiles_of_a_hundred_values(share: float, expected: int) -> None:
    assert quantile(range(1, 101), share) == expected


def test_one_value_is_every_quantile() -> None:
    assert Quantiles.of_ns([2_500_000]) == Quantiles(1, 2.5, 2.5, 2.5, 2.5)


def test_there_are_none_of_nothing() -> None:
    assert Quantiles.of_ns([]) is None


def test_order_does_not_matter() -> None:
    assert Quantiles.of_ns([3_000_000, 1_000_000, 2_000_000]) == Quantiles(3, 2.0, 3.0, 3.0, 3.0)
