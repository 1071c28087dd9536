"""Quantiles. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec


class Quantiles(msgspec.Struct, frozen=True):
    """Of `count` values, in milliseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of_ns(cls, values: Sequence[int]) -> Quantiles | None:
        """From nanoseconds; None where there are none."""
        if not values:
            return None
        ordered = sorted(values)
        at = [quantile(ordered, share) / 1e6 for share in (0.5, 0.9, 0.99, 1.0)]
        return cls(len(ordered), *at)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed (nearest rank)."""
    rank = max(1, math.ceil(share * len(ordered)))
    return ordered[rank - 1]
