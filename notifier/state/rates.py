"""Rates of users over all nodes.

What this worker alone would not allow is refused without asking; so whoever does too much costs Redis nothing, and
while it is away each worker goes on with its own count.
"""

from __future__ import annotations

from hashlib import blake2b

from notifier.config import Limits
from notifier.core.ports import Rates
from notifier.core.rates import What, rates
from notifier.errors import Unavailable
from notifier.state.script import Script
from notifier.state.store import Store


class RedisRates:
    """A `core.ports.Rates`."""

    def __init__(self, store: Store, limits: Limits, local: Rates) -> None:
        self._store = store
        self._local = local
        self._rates = rates(limits)
        self._script = Script("rate")

    def reload(self, limits: Limits) -> None:
        self._rates = rates(limits)
        self._local.reload(limits)

    async def take(self, what: What, user: str) -> float:
        wait_s = await self._local.take(what, user)
        rate = self._rates[what]
        if wait_s or not user or not rate.interval_s:
            return wait_s
        # A user's name is as long as its token's: what is kept of it is short, and says nothing.
        key = self._store.key("rate", what.value, blake2b(user.encode(), digest_size=16).hexdigest())
        interval_us, ahead_us = round(rate.interval_s * 1e6), round(rate.ahead_s * 1e6)
        try:
            wait_us = await self._store.call(lambda redis: self._script.run(redis, [key], interval_us, ahead_us))
        except Unavailable:
            return 0.0
        return float(wait_us) / 1e6
