"""The way to Redis, with everything that can happen on it (reliability.md, section 2.4)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import subprocess
import time
import traceback
from pathlib import Path

import pytest
from cryptography import x509
from redis.asyncio import Redis as Commands

from notifier.config import Duration
from notifier.errors import Unavailable
from notifier.state import store as stores
from notifier.state.failures import REASONS
from notifier.state.script import Script
from notifier.state.store import Store
from tests.conftest import need
from tests.integration.state.certificates import Authority
from tests.integration.state.conftest import TIMEOUT_S, NewStore, well
from tests.services import certificates
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST, free_port
from tests.services.proxy import TcpProxy, Way
from tests.services.redis import Cluster, Redis, Sentinel, Watched

SECRET = "a-password-nobody-may-see"


async def put(store: Store, key: str, value: str) -> None:
    await store.call(lambda redis: redis.set(store.key(key), value))


async def put_in_the_end(store: Store, key: str, value: str) -> None:
    async def done() -> bool:
        await put(store, key, value)
        return True

    await eventually(done, 30 * SECOND, retry=(Unavailable,))


async def get(store: Store, key: str) -> str:
    value = await store.call(lambda redis: redis.get(store.key(key)))
    return value.decode() if isinstance(value, bytes) else ""


async def failed(store: Store) -> str:
    """What a call says that fails, in time."""
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await put(store, "any", "value")
    assert time.monotonic() - started < TIMEOUT_S + 0.5 * SECOND
    return str(caught.value)


async def away(store: Store, because: str) -> None:
    """It is noticed that Redis is away, be it by the next call."""

    async def noticed() -> bool:
        with pytest.raises(Unavailable):
            await put(store, "any", "value")
        return because in store.problem

    await eventually(noticed, 30 * SECOND)


# --- away and back ----------------------------------------------------------------------------------------------------


async def test_what_is_put_is_found(new_store: NewStore, redis_server: Redis) -> None:
    store = await new_store(redis_server.url)
    await put(store, "x", "1")
    assert await get(store, "x") == "1"
    assert store.key("a", "b") == "notifier:a:b"


async def test_before_redis_is_there_calls_fail_and_then_they_succeed(new_store: NewStore) -> None:
    need(Redis)
    server = Redis()
    try:
        store = await new_store(server.url, connected=False)
        await store.tried()
        assert "Redis is away: no connection: connection refused" in await failed(store)
        server.start()
        await well(store)
        await put(store, "x", "1")
    finally:
        server.close()


async def test_killed_calls_fail_at_once_and_it_heals_by_itself(new_store: NewStore, private_redis: Redis) -> None:
    """F-R1."""
    store = await new_store(private_redis.url)
    back: list[float] = []
    store.on_back.append(lambda: back.append(time.monotonic()))
    private_redis.kill()
    await failed(store)
    assert not store._stats.redis_up
    private_redis.start()
    await well(store)
    await put(store, "x", "1")
    assert (len(back), store._stats.redis_up) == (1, 1)


async def test_frozen_one_call_waits_and_the_others_fail_without_touching_it(
    new_store: NewStore, private_redis: Redis
) -> None:
    """F-R6."""
    async with TcpProxy(LOCALHOST, private_redis.port) as proxy:
        store = await new_store(private_redis.url_at(proxy.port))
        private_redis.freeze()
        assert "does not answer in time" in await failed(store)
        sent, started = proxy.carried[Way.C2S], time.monotonic()
        for _ in range(1000):
            assert "does not answer in time" in await failed(store)
        assert time.monotonic() - started < 0.5 * SECOND
        assert proxy.carried[Way.C2S] - sent < 200, "a probe at most"
        private_redis.thaw()
        await well(store)
        await put(store, "x", "1")


async def test_frozen_calls_that_wait_for_their_turn_fail_with_the_first(
    new_store: NewStore, private_redis: Redis
) -> None:
    store = await new_store(private_redis.url, connections=2)
    private_redis.freeze()
    started = time.monotonic()
    answers = await asyncio.gather(*(put(store, "x", "1") for _ in range(500)), return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert time.monotonic() - started < TIMEOUT_S + 0.5 * SECOND
    private_redis.thaw()


async def test_silence_is_noticed_without_any_call(
    new_store: NewStore, private_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PROBE_WELL_EVERY_S", 0.05)
    store = await new_store(private_redis.url)
    private_redis.freeze()
    await eventually(lambda: store.problem == "it does not answer in time")
    private_redis.thaw()
    await well(store)


async def test_loading_is_waited_out(new_store: NewStore) -> None:
    """F-R3."""
    need(Redis)
    slow = {"key-load-delay": "1000", "loading-process-events-interval-bytes": "1024"}
    with Redis(appendonly=True, settings=slow) as server:
        server.cli("debug", "populate", "3000", "filling", "100")
        server.cli("bgrewriteaof")
        await eventually(lambda: "aof_rewrite_in_progress:0" in server.cli("info", "persistence"))
        store = await new_store(server.url)
        await put(store, "x", "1")
        server.kill()
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        await away(store, "still reading its data")
        await starting
        await well(store)
        assert await get(store, "x") == "1"


async def test_a_lost_reply_is_not_asked_for_again(new_store: NewStore, private_redis: Redis) -> None:
    """F-R20: the command was executed once, and is not sent twice."""
    async with TcpProxy(LOCALHOST, private_redis.port) as proxy:
        store = await new_store(private_redis.url_at(proxy.port))
        proxy.freeze(Way.S2C)
        with pytest.raises(Unavailable):
            await store.call(lambda redis: redis.incr("counted"))
        proxy.heal()
        await well(store)
        assert await store.call(lambda redis: redis.get("counted")) == b"1"


async def test_a_connection_that_breaks_before_the_reply_is_no_reason_to_ask_again(
    new_store: NewStore, private_redis: Redis
) -> None:
    async with TcpProxy(LOCALHOST, private_redis.port) as proxy:
        store = await new_store(private_redis.url_at(proxy.port), timeout=30 * SECOND)
        await store.call(lambda redis: redis.delete("counted"))
        proxy.freeze(Way.S2C)
        call = asyncio.create_task(store.call(lambda redis: redis.incr("counted")))
        await eventually(lambda: private_redis.cli("get", "counted") == "1")
        await proxy.reset()
        with pytest.raises(Unavailable):
            await call
        proxy.heal()
        await well(store)
        assert await store.call(lambda redis: redis.get("counted")) == b"1"


async def test_a_call_that_went_out_before_an_outage_does_not_end_the_time_after_it(
    new_store: NewStore, private_redis: Redis
) -> None:
    store = await new_store(private_redis.url, timeout=30 * SECOND)
    resume = asyncio.Event()

    async def long(redis: Commands) -> None:
        await resume.wait()
        await redis.get("x")
        raise ConnectionError

    early = asyncio.create_task(store.call(long))
    await asyncio.sleep(0)
    private_redis.kill()
    await failed(store)
    private_redis.start()
    await well(store)
    resume.set()
    with pytest.raises(Unavailable):
        await early
    assert store.problem == ""


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_without_memory_writes_fail_and_reads_go_on(new_store: NewStore, own_redis: Redis) -> None:
    """F-R8."""
    store = await new_store(own_redis.url)
    await put(store, "x", "1")
    own_redis.cli("config", "set", "maxmemory", "1")
    assert await failed(store) == "Redis has not answered: it has no memory left"
    assert (await get(store, "x"), store.problem, store.refusal) == ("1", "", "it has no memory left")
    own_redis.cli("config", "set", "maxmemory", "0")
    await put(store, "x", "2")
    assert store._stats.redis_failed["out_of_memory"] == 1


async def test_while_redis_cannot_write_to_its_disk_calls_fail(new_store: NewStore, own_redis: Redis) -> None:
    """F-R18: Redis refuses writes when its last snapshot could not be saved."""
    store = await new_store(own_redis.url)
    await put(store, "x", "1")
    in_the_way = own_redis.folder / "dump.rdb"
    in_the_way.mkdir()
    own_redis.cli("config", "set", "save", "3600 1")

    async def noticed() -> bool:
        own_redis.cli("bgsave")
        try:
            await put(store, "x", "2")
        except Unavailable:
            return True
        return False

    await eventually(noticed, 30 * SECOND)
    assert "it cannot write to its disk" in (store.problem, store.refusal)
    in_the_way.rmdir()
    await eventually(lambda: "started" in own_redis.cli("bgsave"))
    await put_in_the_end(store, "x", "3")


async def test_paused_writes_wait_no_longer_than_calls_may_and_reads_go_on(
    new_store: NewStore, own_redis: Redis
) -> None:
    """F-R7."""
    store = await new_store(own_redis.url)
    own_redis.cli("client", "pause", "60000", "write")
    assert "does not answer in time" in await failed(store)
    own_redis.cli("client", "unpause")
    await put_in_the_end(store, "x", "1")


async def test_a_slow_way_makes_calls_slow_and_nothing_else(new_store: NewStore, private_redis: Redis) -> None:
    """F-R5: answers are late, and the loop goes on meanwhile."""
    async with TcpProxy(LOCALHOST, private_redis.port) as proxy:
        store = await new_store(private_redis.url_at(proxy.port))
        proxy.delay(0.2)
        calls = asyncio.gather(*(put(store, f"x{n}", "1") for n in range(20)))
        turns = 0
        while not calls.done():
            await asyncio.sleep(0.01)
            turns += 1
        await calls
        assert turns >= 5
        assert store.problem == ""


async def test_a_replica_counts_as_away_until_it_is_master_again(new_store: NewStore, own_redis: Redis) -> None:
    """F-R10."""
    store = await new_store(own_redis.url)
    own_redis.cli("replicaof", LOCALHOST, str(free_port()))
    assert "takes no writes" in await failed(store)
    store._failed.set()
    for _ in range(3):  # a ping alone would find it well
        assert await store._probe() is not None
    own_redis.cli("replicaof", "no", "one")
    await well(store)
    await put(store, "x", "1")


async def test_what_the_user_may_not_do_fails_alone(new_store: NewStore, own_redis: Redis) -> None:
    """F-R17, S35: a user with its own keys and nothing else."""
    own_redis.cli("acl", "setuser", "app", "on", f">{SECRET}", "~notifier:*", "+@all", "-@dangerous", "-@admin")
    store = await new_store(f"redis://app:{SECRET}@{LOCALHOST}:{own_redis.port}/0")
    await put(store, "x", "1")
    with pytest.raises(Unavailable, match="may not do"):
        await store.call(lambda redis: redis.flushall())
    with pytest.raises(Unavailable, match="may not do"):
        await store.call(lambda redis: redis.set("somebody:elses", "1"))
    assert await get(store, "x") == "1"


async def test_a_user_who_was_deleted_is_tried_seldom_and_comes_back(
    new_store: NewStore, own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "PROBE_EVERY_S", 0.01)
    monkeypatch.setattr(stores, "PROBE_REFUSED_EVERY_S", 0.5)
    own_redis.cli("acl", "setuser", "app", "on", f">{SECRET}", "~*", "+@all")
    store = await new_store(f"redis://app:{SECRET}@{LOCALHOST}:{own_redis.port}/0")
    own_redis.cli("acl", "deluser", "app")  # and its connections are closed
    await away(store, "refuses the user or the password")
    before = int(own_redis.cli("info", "stats").partition("total_connections_received:")[2].split()[0])
    await asyncio.sleep(1)
    after = int(own_redis.cli("info", "stats").partition("total_connections_received:")[2].split()[0])
    assert after - before <= 5, "two or three attempts, and two of the test itself"
    own_redis.cli("acl", "setuser", "app", "on", f">{SECRET}", "~*", "+@all")
    await well(store)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_nothing_tells_the_password(
    new_store: NewStore, own_redis: Redis, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S38."""
    caplog.set_level(logging.DEBUG)
    own_redis.cli("config", "set", "requirepass", "another")
    url = f"{scheme}://user:{SECRET}@{LOCALHOST}:{own_redis.port}/0"
    store = await new_store(url, connected=False)
    await store.tried()
    with pytest.raises(Unavailable) as caught:
        await put(store, "x", SECRET)
    told = [*traceback.format_exception(caught.value), store.problem, caplog.text, repr(store), repr(store._section)]
    assert SECRET not in "".join(told)
    assert "away" in "".join(told)


async def test_a_key_of_another_kind_fails_alone(new_store: NewStore, redis_server: Redis) -> None:
    store = await new_store(redis_server.url)
    await store.call(lambda redis: redis.delete("a:list"))
    await store.call(lambda redis: redis.rpush("a:list", "1"))
    with pytest.raises(Unavailable, match="it refuses a command"):
        await store.call(lambda redis: redis.get("a:list"))
    assert store.problem == ""


async def test_scripts_that_were_forgotten_are_sent_again(
    new_store: NewStore, own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-R15."""
    script = Script.__new__(Script)
    script._text = "return {KEYS[1], ARGV[1]}"
    script._sha = "24ff9a0ee0a02e3b8cb0d17a1dd1ee8d0b0d2a11"  # nobody knows it: EVAL keeps it under the true one
    store = await new_store(own_redis.url)
    for _ in range(2):
        assert await store.call(lambda redis: script.run(redis, ["k"], "v")) == [b"k", b"v"]
        own_redis.cli("script", "flush")


# --- many at once -----------------------------------------------------------------------------------------------------


async def test_a_thousand_calls_at_once_share_the_connections(new_store: NewStore, own_redis: Redis) -> None:
    """F-R16."""
    store = await new_store(own_redis.url, connections=5, timeout=Duration(60 * SECOND))
    await asyncio.gather(*(put(store, f"k{n}", str(n)) for n in range(1000)))
    assert await asyncio.gather(*(get(store, f"k{n}") for n in range(1000))) == [str(n) for n in range(1000)]
    assert int(own_redis.cli("info", "clients").partition("connected_clients:")[2].split()[0]) <= 5 + 1 + 1


async def test_calls_beyond_what_may_wait_fail_at_once(
    new_store: NewStore, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "MOST_WAITING", 10)
    store = await new_store(redis_server.url, connections=1)
    answers = await asyncio.gather(*(put(store, "x", "1") for _ in range(100)), return_exceptions=True)
    refused = [answer for answer in answers if answer is not None]
    assert len(refused) == 90
    assert all("more calls at once" in str(answer) for answer in refused)
    assert store.problem == ""


async def _cancel_many(store: Store) -> None:
    await asyncio.gather(*(put(store, f"k{n}", f"value {n}") for n in range(200)))
    for turn in range(5):
        reading = {n: asyncio.create_task(get(store, f"k{n}")) for n in range(200)}
        await asyncio.sleep(0.001 * turn)
        for n in range(0, 200, 2):
            reading[n].cancel()
        answers = await asyncio.gather(*reading.values(), return_exceptions=True)
        for n, answer in enumerate(answers):
            assert isinstance(answer, asyncio.CancelledError) or answer == f"value {n}"
        assert sum(isinstance(answer, str) for answer in answers) >= 100


async def test_cancelled_calls_never_cross_answers(new_store: NewStore, redis_server: Redis) -> None:
    """F-R19: 500 calls are cancelled at all stages, connecting among them; every answer has the key asked for."""
    await _cancel_many(await new_store(redis_server.url, connections=10, timeout=5 * SECOND))


async def test_cancelled_calls_never_cross_answers_in_a_cluster(new_store: NewStore, cluster: Cluster) -> None:
    await _cancel_many(await new_store(cluster.url, mode="cluster", connections=10, timeout=5 * SECOND))


@pytest.mark.parametrize("mode", ["single", "cluster"])
async def test_a_cancelled_call_is_cancelled_whenever_that_happens(
    new_store: NewStore, redis_server: Redis, cluster: Cluster, mode: str
) -> None:
    """With Python 3.11 the library forgets it at one of the places where it waits."""
    url = {"single": redis_server.url, "cluster": cluster.url}[mode]
    store = await new_store(url, mode=mode, timeout=5 * SECOND)

    async def for_ever() -> None:
        while True:
            await put(store, "x", "1")

    for steps in range(60):
        task = asyncio.create_task(for_ever())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10 * SECOND)
        assert done, f"after {steps} steps it goes on"
        assert task.cancelled()


# --- sentinel ---------------------------------------------------------------------------------------------------------


async def test_a_failover_is_followed(new_store: NewStore, watched: Watched) -> None:
    """F-R4 without a lag."""
    store = await new_store(watched.url, mode="sentinel", master="main")
    await put(store, "x", "1")
    await eventually(lambda: watched.second.cli("get", store.key("x")) == "1")
    watched.first.kill()
    await failed(store)
    await well(store)
    await put(store, "x", "2")
    assert watched.second.cli("get", store.key("x")) == "2"
    assert await get(store, "x") == "2"


async def test_a_master_that_became_a_replica_is_left(new_store: NewStore, watched: Watched) -> None:
    store = await new_store(watched.url, mode="sentinel", master="main")
    await put(store, "x", "1")
    await eventually(lambda: watched.sentinel.cli("sentinel", "failover", "main") == "OK", 60 * SECOND)
    cut_off = (AssertionError, subprocess.CalledProcessError)
    await eventually(lambda: "role:slave" in watched.first.cli("info", "replication"), 60 * SECOND, cut_off)

    async def moved() -> bool:
        await put(store, "x", "2")
        return watched.second.cli("get", store.key("x")) == "2"

    await eventually(moved, 60 * SECOND, retry=(Unavailable,))
    await put(store, "x", "3")
    assert watched.second.cli("get", store.key("x")) == "3"


async def test_a_restart_between_two_calls_is_noticed(
    new_store: NewStore, private_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-R2, F-R9: no call fails, but what was written may be gone."""
    store = await new_store(private_redis.url)
    back: list[bool] = []
    store.on_back.append(lambda: back.append(True))
    private_redis.restart()
    monkeypatch.setattr(stores, "PROBE_WELL_EVERY_S", 0.05)
    await eventually(lambda: back, 30 * SECOND)
    assert store.problem == ""


async def test_a_silent_sentinel_does_not_hide_another_one(new_store: NewStore, own_redis: Redis) -> None:
    with Sentinel(own_redis) as one, Sentinel(own_redis) as other:
        one.freeze()
        store = await new_store(
            f"redis://{LOCALHOST}:{one.port},{LOCALHOST}:{other.port}", mode="sentinel", master="main"
        )
        await put(store, "x", "1")


async def test_an_unknown_master_is_told(new_store: NewStore, own_redis: Redis) -> None:
    with Sentinel(own_redis) as sentinel:
        store = await new_store(
            f"redis://{LOCALHOST}:{sentinel.port}", connected=False, mode="sentinel", master="other"
        )
        await store.tried()
        assert store.problem == "no sentinel that can be reached knows a master of this name"


async def test_sentinels_have_passwords_of_their_own(new_store: NewStore, own_redis: Redis) -> None:
    with Sentinel(own_redis, password=SECRET) as sentinel:
        url = f"redis://{LOCALHOST}:{sentinel.port}"
        store = await new_store(url, mode="sentinel", master="main", sentinel_password=SECRET)
        await put(store, "x", "1")


# --- cluster ----------------------------------------------------------------------------------------------------------


async def test_keys_are_where_the_cluster_wants_them(new_store: NewStore, cluster: Cluster) -> None:
    store = await new_store(cluster.url, mode="cluster")
    for n in range(50):
        await put(store, f"k{n}", str(n))
    assert [await get(store, f"k{n}") for n in range(50)] == [str(n) for n in range(50)]
    assert all(int(node.cli("dbsize")) > 3 for node in cluster.nodes)


async def test_one_node_that_can_be_reached_is_enough_to_begin(new_store: NewStore, cluster: Cluster) -> None:
    nowhere = f"{LOCALHOST}:{free_port()}"
    store = await new_store(f"redis://{nowhere},{LOCALHOST}:{cluster.nodes[2].port}", mode="cluster")
    await put(store, "x", "1")


async def test_a_moved_slot_is_followed(new_store: NewStore, cluster: Cluster) -> None:
    store = await new_store(cluster.url, mode="cluster")
    await put(store, "moving", "1")
    key = store.key("moving")
    source = cluster.of_key(key)
    target = next(node for node in cluster.nodes if node is not source)
    slot, ids = source.cli("cluster", "keyslot", key), {n: n.cli("cluster", "myid") for n in (source, target)}
    target.cli("cluster", "setslot", slot, "importing", ids[source])
    source.cli("cluster", "setslot", slot, "migrating", ids[target])
    source.cli("migrate", LOCALHOST, str(target.port), key, "0", "5000")
    await put_in_the_end(store, "moving", "2")  # asks
    for node in cluster.nodes:
        node.cli("cluster", "setslot", slot, "node", ids[target])
    await put_in_the_end(store, "moving", "3")  # moved
    assert target.cli("get", key) == "3"


async def test_a_cluster_heals_when_a_replica_has_taken_over(new_store: NewStore, replicated_cluster: Cluster) -> None:
    store = await new_store(replicated_cluster.url, mode="cluster")
    await put(store, "any", "1")
    dead = replicated_cluster.of_key(store.key("any"))
    dead.kill()
    await failed(store)
    await well(store)
    await put(store, "any", "2")
    assert await get(store, "any") == "2"


async def test_a_part_of_a_cluster_that_is_frozen_is_away_as_a_whole_until_it_is_back(
    new_store: NewStore, replicated_cluster: Cluster
) -> None:
    store = await new_store(replicated_cluster.url, mode="cluster")
    frozen = replicated_cluster.of_key(store.key("any"))
    frozen.freeze()
    await failed(store)
    started = time.monotonic()
    await failed(store)
    assert time.monotonic() - started < 0.2 * SECOND
    frozen.thaw()
    await well(store)
    await put(store, "any", "2")


async def test_one_node_of_a_cluster_says_that_it_is_one(new_store: NewStore, cluster: Cluster) -> None:
    other = next(node for node in cluster.nodes if node is not cluster.of_key("notifier:probe"))
    store = await new_store(other.url, connected=False)
    await store.tried()
    assert "redis.mode" in store.problem


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.sign("server", x509.IPAddress(ipaddress.ip_address(LOCALHOST)))
    return authority


async def test_with_its_own_authority(new_store: NewStore, authority: Authority) -> None:
    need(Redis)
    with Redis(tls=authority.folder) as server:
        store = await new_store(server.url, ca_file=str(authority.folder / "ca.pem"))
        await put(store, "x", "1")
        assert await get(store, "x") == "1"


async def test_a_server_that_wants_a_certificate_gets_it(new_store: NewStore, authority: Authority) -> None:
    need(Redis)
    authority.sign("client")
    files = {f"{name}_file": str(authority.folder / f"client.{ext}") for name, ext in (("cert", "pem"), ("key", "key"))}
    ca_file = str(authority.folder / "ca.pem")
    strict = Redis(tls=authority.folder, settings={"tls-auth-clients": "yes"})
    with contextlib.closing(strict):
        strict._process = strict._spawn()
        store = await new_store(strict.url, ca_file=ca_file, **files)
        await put(store, "x", "1")
        without = await new_store(strict.url, connected=False, ca_file=ca_file)
        await without.tried()
        assert without.problem


async def test_an_unknown_authority_and_a_wrong_name_are_refused(
    new_store: NewStore, authority: Authority, tmp_path: Path
) -> None:
    need(Redis)
    ca_file = str(authority.folder / "ca.pem")
    with Redis(tls=authority.folder) as server:
        store = await new_store(server.url, connected=False)
        await store.tried()
        assert store.problem.startswith("its certificate is not accepted: ")
        store = await new_store(server.url.replace(LOCALHOST, "localhost"), connected=False, ca_file=ca_file)
        await store.tried()
        assert store.problem.startswith("its certificate is not accepted: Hostname mismatch")


async def test_a_certificate_that_ran_out_is_said_and_a_new_one_is_enough(new_store: NewStore, tmp_path: Path) -> None:
    """F-N11, of Redis."""
    need(Redis)
    authority = certificates.Authority(tmp_path)
    authority.issue(tmp_path / "server.pem", tmp_path / "server.key", days=0)
    with Redis(tls=tmp_path) as server:
        store = await new_store(server.url, connected=False, ca_file=str(authority.file))
        await store.tried()
        assert "certificate has expired" in store.problem
        authority.issue(tmp_path / "server.pem", tmp_path / "server.key")
        await asyncio.to_thread(server.restart)
        await well(store)
        await put(store, "x", "1")


async def test_a_cluster_with_tls(new_store: NewStore, authority: Authority) -> None:
    """Each node is checked, and shares what the files say."""
    need(Redis)
    settings = {"cluster-enabled": "yes", "cluster-port": str(free_port()), "tls-cluster": "yes"}
    with Redis(tls=authority.folder, settings=settings) as server:
        store = await new_store(
            server.url.removesuffix("/0"), connected=False, mode="cluster", ca_file=str(authority.folder / "ca.pem")
        )
        await store.tried()
        assert store.problem == "no node of the cluster can be reached, or some keys have none"
        command = ["redis-cli", "-h", LOCALHOST, "-p", str(server.port), "--tls", "--insecure"]
        process = await asyncio.create_subprocess_exec(*command, "cluster", "addslotsrange", "0", "16383")
        assert await process.wait() == 0
        await well(store)
        await put(store, "x", "1")


async def test_all_that_was_counted_has_a_known_reason(new_store: NewStore, private_redis: Redis) -> None:
    store = await new_store(private_redis.url)
    private_redis.kill()
    await failed(store)
    await failed(store)
    assert set(store._stats.redis_failed) <= REASONS | {"away"}
    assert store._stats.redis_failed["away"] == 1
