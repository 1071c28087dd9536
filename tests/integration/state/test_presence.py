"""Presence of several workers on one Redis, through all that can happen to either."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec import Raw

from notifier.errors import Unavailable
from notifier.protocol.codes import CommandFailed
from notifier.protocol.messages import ClientInfo
from notifier.state import leases, presence, sweep
from tests.conftest import need
from tests.integration.state.conftest import section
from tests.integration.state.member import Member
from tests.services.deadline import SECOND, eventually
from tests.services.redis import Cluster, Redis

NewMember = Callable[..., Awaitable[Member]]

LEASE_S = 1.5 * SECOND


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.1)
    monkeypatch.setattr(leases, "LEASE_S", LEASE_S)
    monkeypatch.setattr(presence, "BATCH_S", 0.02)
    monkeypatch.setattr(presence, "RETRY_S", 0.05)
    monkeypatch.setattr(presence, "REFRESH_S", 0.2)


@pytest.fixture(scope="module")
def servers() -> Any:
    need(Redis)
    with Redis() as one, Cluster() as three:
        yield {"single": one, "cluster": three}


@pytest.fixture(params=["single", "cluster"])
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def new_member(servers: Any, shape: str) -> AsyncIterator[NewMember]:
    """Starts members on a server that is empty at first."""
    made: list[Member] = []
    server = servers[shape]
    for node in getattr(server, "nodes", [server]):
        node.cli("flushall")

    async def make(name: str = "", **settings: Any) -> Member:
        made.append(Member(section(server.url, mode=shape, **settings), name or f"node-{len(made)}"))
        return await made[-1].start()

    yield make
    for member in made:
        await member.stop()


async def shows(member: Member, channel: str, *clients: str) -> None:
    """Sooner or later these are on the channel, and no others."""
    found: list[str] = []

    async def same() -> bool:
        found[:] = await member.on(channel)
        assert found == sorted(clients)
        return True

    await eventually(same, 30 * SECOND, retry=(AssertionError, Unavailable))


async def keys_of(server: Any) -> set[str]:
    nodes = getattr(server, "nodes", [server])
    return {key for node in nodes for key in (await asyncio.to_thread(node.cli, "keys", "*")).split()}


# --- together ---------------------------------------------------------------------------------------------------------


async def test_all_see_all(new_member: NewMember) -> None:
    one, two = await new_member(), await new_member()
    one.join("room", "a", "b")
    two.join("room", "c")
    two.join("other", "d")
    for member in (one, two):
        await shows(member, "room", "a", "b", "c")
        await shows(member, "other", "d")
    one.leave("room", "b")
    two.leave("room", "c")
    two.leave("other", "d")
    for member in (one, two):
        await shows(member, "room", "a")
        await shows(member, "other")


async def test_who_asks_finds_what_happened_here_before(new_member: NewMember, monkeypatch: pytest.MonkeyPatch) -> None:
    member = await new_member("late")
    monkeypatch.setattr(presence, "BATCH_S", 60.0)
    member.join("room", "a")
    assert await member.on("room") == ["a"]
    assert (await member.presence.count("room")).num_clients == 1
    member.leave("room", "a")
    assert await member.on("room") == []


async def test_what_others_see_of_a_client_arrives_whole(new_member: NewMember) -> None:
    one, two = await new_member(), await new_member()
    info = ClientInfo("zoë:1", "c1", Raw(b'{"a":[1,"\\u00e9"]}'), Raw(b"2"))
    one.local.add("room", info)
    await shows(two, "room", "c1")
    assert (await two.presence.of("room", 10))["c1"] == info


@pytest.mark.parametrize("channel", ["a.b", "{x}", "}x{", "{}", "a:b", "$x", "x" * 255])
async def test_any_channel(new_member: NewMember, channel: str) -> None:
    one, two = await new_member(), await new_member()
    one.join(channel, "a")
    two.join(channel, "b")
    await shows(one, channel, "a", "b")
    assert (await two.presence.count(channel)).num_clients == 2
    await shows(one, channel + "y")


async def test_numbers_are_counted_where_the_entries_are(new_member: NewMember, servers: Any, shape: str) -> None:
    one, two = await new_member(), await new_member()
    one.join("room", "a", "b", user="zoë")
    two.join("room", "c", user="zoë")
    two.join("room", "d", user="1:x")
    two.join("room", "e", user="")
    await one.written()
    await two.written()
    for member in (one, two):
        found = await member.presence.count("room")
        assert (found.num_clients, found.num_users) == (5, 3)
    found = await one.presence.count("nobody")
    assert (found.num_clients, found.num_users) == (0, 0)


async def test_a_large_channel_is_counted_once_for_all_and_not_listed(
    new_member: NewMember, servers: Any, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LARGE_FOR_MS", 60_000)
    one, two = await new_member(timeout=5 * SECOND), await new_member(timeout=5 * SECOND)
    one.join("room", *(f"c{n}" for n in range(3000)))
    await one.written()
    assert (await two.presence.count("room")).num_clients == 3000
    one.leave("room", "c0")
    await one.written()
    assert (await two.presence.count("room")).num_clients == 3000, "as it was counted a moment ago"
    with pytest.raises(CommandFailed, match="106 limit exceeded: 2999 clients, at most 2998 are listed"):
        await two.presence.of("room", 2998)
    assert len(await two.presence.of("room", 2999)) == 2999


async def test_changes_of_a_moment_are_one_exchange(
    new_member: NewMember, servers: Any, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "REFRESH_S", 60.0)
    member = await new_member("busy")
    await member.written()
    calls = member.store._stats.redis_calls
    for n in range(500):
        member.join(f"room.{n % 50}", f"c{n}")
        member.join("gone", f"c{n}")
        member.leave("gone", f"c{n}")
    await member.written()
    beats = 40
    assert member.store._stats.redis_calls - calls <= 2 + beats
    assert (await member.presence.count("room.7")).num_clients == 10
    assert not any("gone" in key for key in await keys_of(servers[shape]))


async def test_who_leaves_in_order_leaves_nothing_behind(new_member: NewMember, servers: Any, shape: str) -> None:
    one, two = await new_member("one"), await new_member("two")
    one.join("room", "a")
    two.join("room", "b")
    await shows(two, "room", "a", "b")
    await one.stop()
    assert await two.on("room") == ["b"]
    assert not any(key.endswith("one") for key in await keys_of(servers[shape]))
    await asyncio.sleep(0.3)
    assert two.left == []


# --- workers that are gone --------------------------------------------------------------------------------------------


async def test_a_killed_workers_clients_are_gone_with_its_lease_and_their_leaves_are_announced_once(
    new_member: NewMember, servers: Any, shape: str
) -> None:
    """F-N1."""
    one, two, three = await new_member("one"), await new_member("two"), await new_member("three")
    for member in (one, two, three):
        member.silent_on.add("quiet")
    one.join("room", "a", "b")
    one.join("quiet", "a")
    two.join("room", "c")
    await shows(three, "room", "a", "b", "c")
    await shows(three, "quiet", "a")
    killed = time.monotonic()
    await one.kill()
    await shows(three, "room", "c")
    assert time.monotonic() - killed < LEASE_S + 1 * SECOND
    await shows(two, "quiet")
    await eventually(lambda: len(two.left) + len(three.left) == 2)
    await eventually_swept("one", servers[shape])
    assert sorted(two.left + three.left) == [("room", "a"), ("room", "b")]


async def eventually_swept(lease: str, server: Any) -> None:
    async def swept() -> bool:
        left = {key for key in await keys_of(server) if key.endswith(f":{lease}")}
        return left <= {f"notifier:presence:swept:{lease}", f"notifier:presence:sweep:{lease}"}

    await eventually(swept, 30 * SECOND)


async def test_a_worker_that_others_still_hear_is_not_swept(new_member: NewMember) -> None:
    """It only has lost Redis: its clients are where they were."""
    one, two = await new_member("one"), await new_member("two")
    two.heard.add("one")
    one.join("room", "a")
    await shows(two, "room", "a")
    await one.kill()
    await shows(two, "room")
    await asyncio.sleep(0.5)
    assert two.left == []
    two.heard.clear()
    await eventually(lambda: two.left == [("room", "a")], 30 * SECOND)


async def test_a_worker_that_was_taken_for_gone_writes_again_and_announces_again(new_member: NewMember) -> None:
    """F-N6: frozen for longer than its lease."""
    one, two = await new_member("one"), await new_member("two")
    one.join("room", "a")
    await shows(two, "room", "a")
    two_keeps = one.leases._beating
    assert two_keeps is not None
    two_keeps.cancel()
    await eventually(lambda: two.left == [("room", "a")], 30 * SECOND)
    await shows(two, "room")
    one.leases.start()
    await shows(two, "room", "a")
    await eventually(lambda: one.again == 1)


async def test_a_sweep_that_was_broken_off_is_finished_by_another(
    new_member: NewMember, servers: Any, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "CLAIM_S", 1)
    one, two = await new_member("one"), await new_member("two")
    for n in range(250):
        one.join(f"room.{n}", "a")
    await one.written()

    died = asyncio.Event()

    def die(*_: object) -> None:
        died.set()
        raise asyncio.CancelledError

    two.leases.on_dead.__self__._announce_left = die  # type: ignore[attr-defined]
    await one.kill()
    async with asyncio.timeout(30 * SECOND):
        await died.wait()
    await two.kill()
    three = await new_member("three")
    await eventually(lambda: len(three.left) >= 250, 30 * SECOND)
    await eventually_swept("one", servers[shape])
    assert len(set(three.left)) == len(three.left)


# --- Redis that forgets -----------------------------------------------------------------------------------------------


async def test_what_redis_has_lost_is_written_again(
    new_member: NewMember, servers: Any, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-R14: the next beat notices it."""
    monkeypatch.setattr(presence, "REFRESH_S", 600.0)
    one, two = await new_member("one"), await new_member("two")
    one.join("room", "a")
    two.join("room", "b")
    await shows(one, "room", "a", "b")
    server = servers[shape]
    for node in getattr(server, "nodes", [server]):
        await asyncio.to_thread(node.cli, "flushall")
    await shows(one, "room", "a", "b")
    await asyncio.sleep(0.3)
    assert (one.left, two.left, one.again, two.again) == ([], [], 0, 0), "nobody has come or gone"


@pytest.mark.parametrize("shape", ["single"])
@pytest.mark.parametrize("gone", ["presence:{croom}:one", "presence:on:one"])
async def test_one_key_that_is_gone_is_written_again(
    new_member: NewMember, servers: Any, shape: str, gone: str
) -> None:
    """F-R9: evicted, or deleted by somebody."""
    one, two = await new_member("one"), await new_member("two")
    one.join("room", "a")
    await shows(two, "room", "a")
    servers[shape].cli("del", f"notifier:{gone}")
    await eventually(lambda: servers[shape].cli("exists", f"notifier:{gone}") == "1", 30 * SECOND)
    await shows(two, "room", "a")


@pytest.mark.parametrize("shape", ["single"])
async def test_an_outage_answers_at_once_and_afterwards_all_is_as_it_is_here(
    new_member: NewMember, servers: Any, shape: str
) -> None:
    server = servers[shape]
    one, two = await new_member("one"), await new_member("two")
    one.join("room", "a", "b")
    two.join("room", "c")
    await shows(one, "room", "a", "b", "c")
    server.freeze()
    with pytest.raises(Unavailable):
        await one.on("room")
    started = time.monotonic()
    for _ in range(100):
        with pytest.raises(Unavailable):
            await one.on("room")
    assert time.monotonic() - started < 0.5 * SECOND
    one.leave("room", "a")
    one.join("room", "d")
    one.join("new", "d")
    await eventually(lambda: one.presence._changed == {})  # nothing piles up
    server.thaw()
    for member in (one, two):
        await shows(member, "room", "b", "c", "d")
        await shows(member, "new", "d")


@pytest.mark.parametrize("shape", ["single"])
async def test_an_outage_may_have_cost_the_last_writes(new_member: NewMember, servers: Any, shape: str) -> None:
    """F-R4: a failover to a replica that lagged behind."""
    server = servers[shape]
    one, two = await new_member("one"), await new_member("two")
    one.join("room", "a", "b")
    await shows(two, "room", "a", "b")
    server.cli("hdel", "notifier:presence:{croom}:one", "a")
    await shows(two, "room", "b")
    server.freeze()
    await eventually(lambda: one.store.problem != "", 30 * SECOND)
    server.thaw()
    await shows(two, "room", "a", "b")


@pytest.mark.parametrize("shape", ["single"])
async def test_without_memory_changes_are_written_when_there_is_some(
    new_member: NewMember, servers: Any, shape: str
) -> None:
    server = servers[shape]
    one, two = await new_member("one"), await new_member("two")
    one.join("room", "a")
    await shows(two, "room", "a")
    server.cli("config", "set", "maxmemory", "1")
    try:
        one.join("room", "b")
        one.leave("room", "a")
        await eventually(lambda: one.presence._stale)
        assert one.presence._changed == {}
    finally:
        server.cli("config", "set", "maxmemory", "0")
    await shows(two, "room", "b")


@pytest.mark.parametrize("shape", ["single"])
async def test_who_goes_away_while_asking_loses_no_change(new_member: NewMember, servers: Any, shape: str) -> None:
    one, two = await new_member("one", timeout=10 * SECOND), await new_member("two")
    one.join("room", "a")
    servers[shape].freeze()
    asking = asyncio.create_task(one.on("room"))
    await asyncio.sleep(0.1)
    asking.cancel()
    servers[shape].thaw()
    await shows(two, "room", "a")


@pytest.mark.parametrize("shape", ["single"])
async def test_what_is_no_entry_is_left_out(new_member: NewMember, servers: Any, shape: str) -> None:
    """S34."""
    one = await new_member("one")
    one.join("room", "a")
    await one.written()
    for n, value in enumerate(["", "x", "+3:abc", "+x:{}", '+1:a{"user":1}', "+1:a" + "[" * 100_000]):
        servers[shape].cli("hset", "notifier:presence:{croom}:one", f"bad-{n}", value)
    assert await one.on("room") == ["a"]
