"""Revocations that Redis keeps: for workers that start later, and through outages."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from notifier.core.orders import Revocation
from notifier.state import revocations
from notifier.state.revocations import RedisRevocations
from notifier.state.store import Store
from notifier.testing import ManualClock
from tests.integration.state.conftest import NewStore, section
from tests.servers import NewServer, ServerProcess, make_token, servers
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST
from tests.services.proxy import TcpProxy
from tests.services.redis import Redis

ANN = Revocation(user="ann", before=100.0)
TOKEN = Revocation(token_id="t1")
ALL = Revocation(everybody=True, before=5.0)
DAY_S = 86400.0


class Member:
    """Notes what it finds."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.found: list[Revocation] = []
        self.store = store
        self.shared = RedisRevocations(store, DAY_S, clock, self.found.extend)

    async def settled(self) -> None:
        await eventually(self.shared.settled.is_set, 30 * SECOND)

    async def written(self) -> None:
        await eventually(lambda: not self.shared._unwritten, 30 * SECOND)


NewMember = Callable[..., Awaitable[Member]]


@pytest.fixture
async def new_member(private_redis: Redis) -> AsyncIterator[NewMember]:
    made: list[Member] = []
    private_redis.cli("flushall")

    async def make(clock: ManualClock, url: str = private_redis.url) -> Member:
        store = Store(section(url))
        made.append(member := Member(store, clock))
        member.shared.start()
        store.start()
        return member

    yield make
    for member in made:
        await member.shared.stop()
        await member.store.stop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


async def test_who_starts_later_finds_all_of_them(new_member: NewMember, clock: ManualClock) -> None:
    one = await new_member(clock)
    await one.settled()
    assert one.found == []
    for revocation in (ANN, TOKEN, ALL, ANN):
        one.shared.note(revocation)
    await one.written()
    two = await new_member(clock)
    await two.settled()
    assert sorted(two.found, key=str) == sorted([ANN, TOKEN, ALL], key=str)


async def test_they_are_kept_for_their_time_however_often_they_are_noted(
    new_member: NewMember, clock: ManualClock, private_redis: Redis
) -> None:
    one = await new_member(clock)
    one.shared.note(ANN)
    await one.written()
    clock.advance(DAY_S / 2)
    one.shared.note(ANN)
    one.shared.note(TOKEN)
    await one.written()
    clock.advance(DAY_S / 2 + 1)
    two = await new_member(clock)
    await two.settled()
    assert two.found == [TOKEN]
    two.shared.note(ALL)
    await two.written()
    assert private_redis.cli("zcard", "notifier:revocations") == "2"


async def test_what_was_noted_during_an_outage_is_kept_after_it(
    new_member: NewMember, clock: ManualClock, private_redis: Redis
) -> None:
    one = await new_member(clock)
    await one.settled()
    private_redis.freeze()
    one.shared.note(ANN)
    await eventually(lambda: one.store.problem != "", 30 * SECOND)
    one.shared.note(TOKEN)
    private_redis.thaw()
    await one.written()
    two = await new_member(clock)
    await two.settled()
    assert sorted(two.found, key=str) == sorted([ANN, TOKEN], key=str)


async def test_what_others_kept_during_an_outage_is_found_after_it(
    new_member: NewMember, clock: ManualClock, private_redis: Redis
) -> None:
    async with TcpProxy(LOCALHOST, private_redis.port) as proxy:
        one, two = await new_member(clock, private_redis.url_at(proxy.port)), await new_member(clock)
        await one.settled()
        proxy.freeze()
        one.shared.note(ALL)
        await eventually(lambda: one.store.problem != "", 30 * SECOND)
        two.shared.note(ANN)
        await two.written()
        assert one.found == []
        proxy.heal()
        await eventually(lambda: ANN in one.found, 60 * SECOND)
        await one.written()


async def test_there_is_a_most_of_them(
    new_member: NewMember, clock: ManualClock, private_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "MOST", 2000)
    one = await new_member(clock)
    await one.settled()
    for n in range(2500):
        one.shared.note(Revocation(token_id=f"t{n}"))
        clock.advance(0.001)
    assert len(one.shared._unwritten) == 2000
    await one.written()
    one.shared.note(TOKEN)
    await one.written()
    assert private_redis.cli("zcard", "notifier:revocations") == "2000"
    two = await new_member(clock)
    await two.settled()
    assert len(two.found) == 2000
    assert TOKEN in two.found


async def test_what_is_no_revocation_is_passed_over(
    new_member: NewMember, clock: ManualClock, private_redis: Redis
) -> None:
    """S34."""
    for member in ("x", "[]", '{"user":1}', "[" * 50_000):
        private_redis.cli("zadd", "notifier:revocations", "5000", member)
    one = await new_member(clock)
    one.shared.note(ANN)
    await one.written()
    assert one.found == []


# --- whole servers ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def new_server(tmp_path: Path) -> AsyncIterator[NewServer]:
    async with servers(tmp_path) as start:
        yield start


async def connects(server: ServerProcess, token: str) -> str:
    async with connect(server.ws_url) as socket:
        await socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
        return str(await socket.recv())


async def test_a_server_with_another_log_knows_what_was_revoked_before_it_takes_a_client(
    new_server: NewServer, private_redis: Redis, new_store: NewStore
) -> None:
    """Its own log says nothing of it, as one that starts long after the revocation."""
    private_redis.cli("flushall")
    sections = {"redis": {"url": private_redis.url, "timeout": "20s"}}  # a server starts without a Redis that is slow
    one = await new_server(sections)
    token, other = make_token("ann", iat=int(time.time()) - 10), make_token("bob")
    assert '"connect"' in await connects(one, token)
    await one.call("revoke", user="ann")
    store = await new_store(private_redis.url)

    async def kept() -> bool:
        found = await store.call(lambda redis: redis.zrange("notifier:revocations", 0, -1))
        return "ann" in str(found)

    await eventually(kept, 30 * SECOND)
    two = await new_server(sections)
    assert '"code":109' in await connects(two, token)
    assert '"connect"' in await connects(two, other)


async def test_a_server_starts_without_redis_and_learns_of_revocations_when_it_comes(
    new_server: NewServer, private_redis: Redis
) -> None:
    private_redis.cli("flushall")
    one = await new_server({"redis": {"url": private_redis.url, "timeout": "500ms"}})
    await one.call("revoke", user="ann")
    await eventually(lambda: private_redis.cli("zcard", "notifier:revocations") == "1", 30 * SECOND)
    private_redis.freeze()
    two = await new_server({"redis": {"url": private_redis.url, "timeout": "500ms"}})
    async with connect(two.ws_url) as socket:
        token = make_token("ann", iat=int(time.time()) - 10)
        await socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
        assert '"connect"' in str(await socket.recv())
        private_redis.thaw()
        async with asyncio.timeout(60 * SECOND):
            await socket.wait_closed()
        assert socket.close_code == 3005
