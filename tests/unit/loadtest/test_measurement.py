"""How many connections of a row are looked at closely, and how long its end is waited for."""

from __future__ import annotations

import pytest

from loadtest.measurement import BEHIND_DEADLINE_S, FINISH_DEADLINE_S, patience_s, samples_of
from loadtest.traffic import Traffic

from .samples import window


@pytest.mark.parametrize(
    ("traffic", "expected"),
    [
        (Traffic("fanout", 1000, 50, 200), 20),
        (Traffic("fanout", 10_000, 5, 200), 200),
        (Traffic("fanout", 1000, 1200, 200), 6),  # of which each has 1,200 publications a second to check
        (Traffic("fanout", 10_000, 0, 200), 200),  # idle
        (Traffic("unicast", 10_000, 10_000, 200), 2000),
    ],
)
def test_the_sample_is_large_where_each_gets_little(traffic: Traffic, expected: int) -> None:
    assert samples_of(traffic) == expected


@pytest.mark.parametrize(
    ("deliveries", "expected"),
    [(500_000, FINISH_DEADLINE_S), (900_000, FINISH_DEADLINE_S), (400_000, BEHIND_DEADLINE_S)],
)
def test_only_who_has_fallen_behind_is_not_waited_for(deliveries: int, expected: float) -> None:
    assert patience_s(window(deliveries=deliveries), Traffic("fanout", 1000, 50, 200)) == expected
