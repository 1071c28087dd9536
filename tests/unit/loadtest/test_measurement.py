"""How many connections of a row are looked at closely."""

from __future__ import annotations

import pytest

from loadtest.measurement import samples_of
from loadtest.traffic import Traffic


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
