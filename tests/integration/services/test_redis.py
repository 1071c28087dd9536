"""The private Redis: volatile by default, durable when asked."""

import asyncio

import pytest
from redis.asyncio import Redis as Client
from redis.exceptions import ConnectionError as Refused

from tests.conftest import need
from tests.services.redis import Redis


async def test_what_is_set_is_read_back(redis_server: Redis) -> None:
    async with Client.from_url(redis_server.url) as client:
        await client.set("services.key", "value")
        assert await client.get("services.key") == b"value"


async def test_a_killed_redis_refuses_and_comes_back_empty(private_redis: Redis) -> None:
    async with Client.from_url(private_redis.url) as client:
        await client.set("services.key", "value")
    private_redis.kill()
    async with Client.from_url(private_redis.url) as client:
        with pytest.raises(Refused):
            await client.get("services.key")
        private_redis.start()
        assert await client.get("services.key") is None


async def test_an_appendonly_redis_remembers_over_a_kill() -> None:
    need(Redis)
    with Redis(appendonly=True) as server:
        async with Client.from_url(server.url) as client:
            await client.set("services.key", "value")
        server.kill()
        server.start()
        async with Client.from_url(server.url) as client:
            assert await client.get("services.key") == b"value"


async def test_a_frozen_redis_answers_when_it_is_thawed(private_redis: Redis) -> None:
    async with Client.from_url(private_redis.url) as client:
        await client.ping()
        private_redis.freeze()
        answer = asyncio.ensure_future(client.ping())
        done, _ = await asyncio.wait([answer], timeout=0.2)
        assert not done
        private_redis.thaw()
        assert await answer
