"""Redis: reachable, what it does when memory is short, whether its data outlives it, its clock."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import NoPermissionError, RedisError

from notifier.config import Config
from notifier.errors import Unavailable
from notifier.operator.doctor.certificate import certificate_of
from notifier.operator.doctor.finding import Finding, fail, ok, warn
from notifier.state.store import Store

TOPIC = "redis"
FIRST_TESTED = (7, 0)
CLOCK_MAY_DIFFER_S = 2.0
TRIED_EVERY_S = 0.05


async def look(config: Config) -> list[Finding]:
    if not config.redis.url:
        return []
    url = urlsplit(str.__str__(config.redis.url))
    found = await certificate_of(TOPIC, url.hostname or "", url.port or 6379) if url.scheme == "rediss" else []
    store = Store(config.redis)
    store.start()
    try:
        if not await _reached(store, 2 * config.redis.timeout):
            return [*found, fail(TOPIC, f"cannot be used: {store.problem}", "see that it runs, and [redis]")]
        return [*found, *await _settings(store), *await _clock(store)]
    except Unavailable as error:
        return [*found, fail(TOPIC, str(error), "see Redis' log")]
    finally:
        await store.stop()


async def _reached(store: Store, deadline_s: float) -> bool:
    give_up = time.monotonic() + deadline_s
    while store.problem and time.monotonic() < give_up:  # noqa: ASYNC110 - it is looked at once
        await asyncio.sleep(TRIED_EVERY_S)
    return not store.problem


async def _settings(store: Store) -> list[Finding]:
    said = await _info(store)
    if said is None:
        return [ok(TOPIC, "reachable; its user may not ask for INFO, so its settings are not looked at")]
    version = str(said.get("redis_version", ""))
    found = [ok(TOPIC, f"Redis {version}")]
    if tuple(int(number) for number in version.split(".")[:2] if number.isdigit()) < FIRST_TESTED:
        found = [warn(TOPIC, f"Redis {version} is older than what this server is tested with", "7.0 or newer")]
    policy = str(said.get("maxmemory_policy", ""))
    if said.get("maxmemory") and not policy.startswith(("noeviction", "volatile")):
        text = f"maxmemory-policy {policy}: when memory is short, Redis drops parts of the archive"
        found.append(warn(TOPIC, text, "CONFIG SET maxmemory-policy noeviction"))
    if not said.get("aof_enabled"):
        text = "appendonly is off: after a restart of Redis the archive is filled again from the log alone"
        found.append(warn(TOPIC, text, "CONFIG SET appendonly yes, where the archive must reach further than the log"))
    return found


async def _info(store: Store) -> dict[str, Any] | None:
    async def ask(client: Any) -> dict[str, Any] | None:
        try:
            return dict(await client.info())
        except NoPermissionError:
            return None

    return await store.call(ask)


async def _clock(store: Store) -> list[Finding]:
    async def ask(client: Any) -> float | None:
        try:
            seconds, microseconds = await client.time()
        except RedisError:
            return None
        return float(seconds) + float(microseconds) / 1e6

    before = time.time()
    there = await store.call(ask)
    if there is None:
        return []
    difference = there - (before + time.time()) / 2
    if abs(difference) > CLOCK_MAY_DIFFER_S:
        text = f"its clock and this machine's differ by {abs(difference):.0f} s: tokens expire at other times"
        return [warn(TOPIC, text, "synchronise the clocks (NTP) of all machines")]
    return [ok(TOPIC, "its clock agrees with this machine's")]
