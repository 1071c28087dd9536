"""Rates over several workers: together with Redis, each for itself without."""

from __future__ import annotations

import asyncio
import time

import pytest

from notifier.config import Limits
from notifier.core.rates import LocalRates, What
from notifier.state.rates import RedisRates
from notifier.state.store import Store
from tests.integration.state.conftest import NewStore, well
from tests.services.deadline import SECOND, eventually
from tests.services.redis import Cluster, Redis

LIMITS = Limits(connects_per_user=1, connects_per_user_burst=10, publishes_per_user=1000, publishes_per_user_burst=5)


@pytest.fixture(autouse=True)
def _empty(private_redis: Redis) -> None:
    private_redis.cli("flushall")


def worker(store: Store, limits: Limits = LIMITS) -> RedisRates:
    return RedisRates(store, limits, LocalRates(limits, time.monotonic))


async def allowed(rates: RedisRates, user: str, times: int, what: What = What.CONNECT) -> int:
    return [await rates.take(what, user) == 0 for _ in range(times)].count(True)


@pytest.mark.parametrize("mode", ["single", "cluster"])
async def test_workers_share_one_rate_for_each_user(
    new_store: NewStore, private_redis: Redis, cluster: Cluster, mode: str
) -> None:
    url = {"single": private_redis.url, "cluster": cluster.url}[mode]
    one, two = [worker(await new_store(url, mode=mode)) for _ in range(2)]
    started = time.monotonic()
    first = await allowed(one, "ann", 7)
    second = await allowed(two, "ann", 10)
    gained = int(time.monotonic() - started) + 1
    assert first == 7
    assert 3 <= second <= 3 + gained
    wait_s = await two.take(What.CONNECT, "ann")
    assert 0 < wait_s <= 1
    assert await allowed(two, "bob: {x} *", 10) == 10
    await eventually(lambda: _free(two), 30 * SECOND)


async def _free(rates: RedisRates) -> bool:
    return await rates.take(What.CONNECT, "ann") == 0


async def test_what_is_done_at_the_rate_is_always_allowed(new_store: NewStore, private_redis: Redis) -> None:
    rates = worker(await new_store(private_redis.url))
    for _ in range(20):
        wait_s = await rates.take(What.PUBLISH, "ann")
        await asyncio.sleep(wait_s or 0.002)


async def test_without_redis_each_worker_counts_for_itself(new_store: NewStore, private_redis: Redis) -> None:
    stores = [await new_store(private_redis.url) for _ in range(2)]
    one, two = map(worker, stores)
    assert await allowed(one, "ann", 4) == 4
    private_redis.kill()
    started = time.monotonic()
    found = [await allowed(one, "ann", 20), await allowed(two, "ann", 20)]
    assert time.monotonic() - started < 1 * SECOND
    assert 6 <= found[0] <= 8
    assert 10 <= found[1] <= 12
    private_redis.start()
    for store in stores:
        await well(store)


async def test_nothing_stays_in_redis(new_store: NewStore, private_redis: Redis) -> None:
    store = await new_store(private_redis.url)
    rates = worker(store)
    await allowed(rates, "a user whose name says something", 5, What.PUBLISH)
    assert "says" not in private_redis.cli("keys", "*")
    await eventually(lambda: private_redis.cli("keys", "notifier:rate:*") == "", 30 * SECOND)


async def test_a_user_far_above_the_rate_costs_redis_nothing(new_store: NewStore, private_redis: Redis) -> None:
    store = await new_store(private_redis.url)
    rates = worker(store)
    await allowed(rates, "ann", 10)
    calls = store._stats.redis_calls
    await allowed(rates, "ann", 500)
    assert store._stats.redis_calls - calls <= 3
