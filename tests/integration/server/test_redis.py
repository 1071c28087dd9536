"""A server with Redis: what operators see of it, and that it keeps nobody away."""

from __future__ import annotations

import aiohttp

from notifier.config import Auth, ChannelRule, Config, Duration, Redis, Secret
from notifier.config import Server as ServerSection
from notifier.server import Server
from tests.services.deadline import SECOND, eventually
from tests.services.redis import Redis as RedisServer


async def test_without_redis_a_server_is_degraded_but_ready(private_redis: RedisServer) -> None:
    config = Config(
        server=ServerSection(port=0),
        auth=Auth(anonymous=True),
        redis=Redis(url=Secret(private_redis.url), timeout=Duration(0.5 * SECOND)),
        channels=[ChannelRule(match="#", subscribe=["anyone"], publish=["anyone"])],
    )
    server = Server(config)
    await server.start()
    try:
        async with aiohttp.ClientSession() as http:

            async def seen() -> tuple[str, str]:
                async with http.get(f"{server.doors.address}readyz") as response:
                    assert response.status == 200
                    redis = (await response.json())["checks"]["redis"]
                async with http.get(f"{server.doors.address}metrics") as response:
                    lines = (await response.text()).splitlines()
                    [up] = [line for line in lines if line.startswith("notifier_redis_up ")]
                return redis.get("detail", ""), up.split()[1]

            async def shows(detail: str, up: str) -> bool:
                told, gauge = await seen()
                return told.startswith(detail) and bool(told) == bool(detail) and gauge == up

            await eventually(lambda: shows("", "1.0"))
            private_redis.kill()
            await eventually(lambda: shows("degraded: ", "0.0"), 30 * SECOND)
            private_redis.start()
            await eventually(lambda: shows("", "1.0"), 30 * SECOND)
    finally:
        await server.stop()


async def test_without_a_redis_there_is_no_gauge_of_it() -> None:
    server = Server(Config(server=ServerSection(port=0)))
    await server.start()
    try:
        async with aiohttp.ClientSession() as http, http.get(f"{server.doors.address}metrics") as response:
            assert "notifier_redis_up" not in await response.text()
    finally:
        await server.stop()
