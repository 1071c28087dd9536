"""Rates: how often somebody may do something, by the generic cell rate algorithm (GCRA, ITU-T I.371).

One number is kept for each key: the time at which all that was done would have been done at the even rate. Whoever is
ahead of it by no more than the burst may go on. `state/scripts/rate.lua` has the same rule for all nodes together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum
from typing import Generic, TypeVar

from notifier.config import Limits

MOST_KEYS = 100_000

K = TypeVar("K", bound=Hashable)


class What(Enum):
    """What the rate of a user is about. The value names it in keys and metrics."""

    CONNECT = "user_connects"
    PUBLISH = "user_publishes"


class Rate:
    """So many a second for long, and `burst` at once after a while without any. `interval_s` is 0 for any number."""

    __slots__ = ("ahead_s", "interval_s")

    def __init__(self, per_second: float, burst: int) -> None:
        self.interval_s = 1 / per_second if per_second else 0.0
        self.ahead_s = burst * self.interval_s

    def spend(self, even_s: float, now_s: float) -> tuple[float, float]:
        """The new time to keep instead of `even_s`, and how long to wait before it would be allowed; 0: it is."""
        after_s = max(even_s, now_s) + self.interval_s
        wait_s = after_s - self.ahead_s - now_s
        return (after_s, 0.0) if wait_s <= 1e-9 else (even_s, wait_s)


class Limiter(Generic[K]):
    """One rate for each of many keys. Bounded: who was not seen for longest is forgotten first."""

    __slots__ = ("_even", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._even: dict[K, float] = {}

    def change(self, rate: Rate) -> None:
        """Another rate from now on; what was counted stays."""
        self._rate = rate

    def take(self, key: K, now_s: float) -> float:
        """Seconds to wait; 0 when it is allowed, which is then counted."""
        if not self._rate.interval_s:
            return 0.0
        even = self._even
        kept_s, wait_s = self._rate.spend(even.pop(key, 0.0), now_s)
        even[key] = kept_s  # as the youngest
        if len(even) > MOST_KEYS:
            del even[next(iter(even))]
        self._forget_idle(now_s)
        return wait_s

    def __len__(self) -> int:
        return len(self._even)

    def _forget_idle(self, now_s: float) -> None:
        """Two of the oldest, if nothing depends on them any more: so what was many once does not stay for ever."""
        for key in [key for key, _ in zip(self._even, (1, 2), strict=False)]:
            if self._even[key] <= now_s:
                del self._even[key]


class LocalRates:
    """A `core.ports.Rates` of this worker alone. Nobody in particular (the empty user) has no rate: it is not one."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._limiters: dict[What, Limiter[str]] = {what: Limiter(rate) for what, rate in rates(limits).items()}

    async def take(self, what: What, user: str) -> float:
        return self._limiters[what].take(user, self._monotonic()) if user else 0.0

    def reload(self, limits: Limits) -> None:
        for what, rate in rates(limits).items():
            self._limiters[what].change(rate)


def rates(limits: Limits) -> dict[What, Rate]:
    """The rates of users."""
    return {
        What.CONNECT: Rate(limits.connects_per_user, limits.connects_per_user_burst),
        What.PUBLISH: Rate(limits.publishes_per_user, limits.publishes_per_user_burst),
    }
