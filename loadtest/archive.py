"""`python -m loadtest archive`: how fast clients that were away for long get what they missed.

A private Redis is filled as the server fills it, by the same functions, only faster; then the server runs on a log that
ends there, and clients come back to it: some one after the other, then all at once.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import statistics
import struct
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

import msgspec
import uvloop

from loadtest import procfs
from loadtest.frames import client_frame
from loadtest.limits import NotEnough, allow_open_files, check_cores, on_core
from notifier.config import Auth, ChannelRule, Clients, Config, Duration, HistoryRule, Secret, Size
from notifier.config import Redis as RedisSection
from notifier.config import Server as ServerSection
from notifier.core.archiving import Batch, Entry
from notifier.core.ports import Clock, Reader
from notifier.core.rules import Rules
from notifier.core.stats import Stats
from notifier.log.memory import MemoryLog
from notifier.protocol.messages import Publication
from notifier.server import Server, SystemClock
from notifier.state.archive import PARTS, Keys, RedisArchive
from notifier.state.store import Store
from tests.services.redis import Redis

EPOCH = "loadtest"
AT_ONCE = 500  # connections that are being opened at the same time
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0  # between attempts, as the SDKs do


class Plan(NamedTuple):
    """What is in the archive. Publications go to the users in turn; offsets have no holes."""

    users: int
    total: int
    rate: float
    size: int
    missed: int

    def channel(self, user: int) -> str:
        return f"user.{user}"

    def position(self, user: int) -> int:
        """Where a user was when it left: `missed` publications of its own before the end."""
        last = self.total - (self.total - 1 - user) % self.users
        return max(0, last - self.missed * self.users)

    def waiting(self, user: int) -> int:
        """How many publications came for it since."""
        return sum(1 for _ in range(self.position(user) + self.users, self.total + 1, self.users))


class Outcome(NamedTuple):
    seconds: float
    attempts: int
    publications: int
    bytes: int


class LateLog(MemoryLog):
    """A log of which nothing is known but where it ends."""

    def __init__(self, reader: Reader, clock: Clock, end: int) -> None:
        super().__init__(reader, clock, EPOCH)
        self._end = end
        reader.begin(end)
        reader.pass_over(end)


def main(argv: list[str]) -> int:
    """Exit code 0: everybody got everything; 1: not so; 2: cannot be measured here."""
    options = _parse(argv)
    total = int(options.hours * 3600 * options.rate)
    missed = int(options.away * 3600 * options.rate / options.users)
    plan = Plan(options.users, total, options.rate, options.size, missed)
    try:
        check_cores(options.server_core, options.client_core)
        allow_open_files(plan.users)
    except NotEnough as error:
        print(f"loadtest: {error}")
        return 2
    with Redis() as redis, on_core(options.client_core):
        return uvloop.run(_measure(plan, redis.url, options))


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest archive", description=__doc__)
    add = parser.add_argument
    add("--hours", type=float, default=24, help="how much is in the archive (default: %(default)s)")
    add("--rate", type=float, default=100, help="publications a second in that time (default: %(default)s)")
    add("--users", type=int, default=10_000, help="with a channel each (default: %(default)s)")
    add("--away", type=float, default=12, help="hours that a client was away (default: %(default)s)")
    add("--size", type=int, default=200, help="bytes of a publication (default: %(default)s)")
    add("--alone", type=int, default=100, help="clients that come one after the other first (default: %(default)s)")
    add("--server-core", type=int, default=0)
    add("--client-core", type=int, default=1, help="for Redis and the clients (default: %(default)s)")
    return parser.parse_args(argv)


async def _measure(plan: Plan, redis_url: str, options: argparse.Namespace) -> int:
    config = _config(redis_url)
    began = time.monotonic()
    used = await _fill(config, plan)
    took = time.monotonic() - began
    print(f"archive: {plan.total:,} publications of {plan.users:,} users in {used / 2**20:,.0f} MiB of Redis")
    print(f"  {used / plan.total:.0f} bytes each; filled in {took:.0f} s, {plan.total / took:,.0f} a second")
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=_serve, args=(config, plan.total, options.server_core, theirs))
    server.start()
    try:
        port = await asyncio.to_thread(ours.recv)
        users = random.sample(range(plan.users), min(options.alone, plan.users))
        alone = [await _come_back(port, plan, user) for user in users]
        _show("one after the other", alone)
        cpu, began = procfs.cpu_seconds([server.pid or 0]), time.monotonic()
        gate = asyncio.Semaphore(AT_ONCE)
        storm = await asyncio.gather(*(_come_back(port, plan, user, gate) for user in range(plan.users)))
        took = time.monotonic() - began
        cpu = procfs.cpu_seconds([server.pid or 0]) - cpu
        _show(f"all {plan.users:,} at once: everybody back after {took:.1f} s, {cpu:.1f} s of CPU", storm)
    finally:
        ours.send(None)
        await asyncio.to_thread(server.join, 10)
        server.kill()
    wanted = [plan.waiting(user) for user in (*users, *range(plan.users))]
    wrong = sum(got.publications != want for got, want in zip((*alone, *storm), wanted, strict=True))
    print(f"  {wrong} clients did not get exactly what they had missed")
    return int(wrong > 0)


def _show(name: str, outcomes: list[Outcome]) -> None:
    seconds = sorted(outcome.seconds for outcome in outcomes)
    attempts = sum(outcome.attempts for outcome in outcomes)
    print(f"{name}: {statistics.mean(outcome.publications for outcome in outcomes):.0f} publications a client")
    print(
        f"  seconds: median {seconds[len(seconds) // 2]:.3f}, p99 {seconds[len(seconds) * 99 // 100]:.3f}, "
        f"most {seconds[-1]:.3f}; {attempts - len(outcomes)} attempts were answered with a temporary error; "
        f"{sum(outcome.bytes for outcome in outcomes) / 2**20:,.0f} MiB"
    )


# --- the archive ----------------------------------------------------------------------------------------------------


def _config(redis_url: str) -> Config:
    rule = ChannelRule(
        match="user.*",
        history=HistoryRule(size=10, ttl=Duration(60)),
        archive=HistoryRule(size=100_000, ttl=Duration(7 * 86400)),
        subscribe=["anyone"],
    )
    return Config(
        server=ServerSection(port=0),
        redis=RedisSection(url=Secret(redis_url), timeout=Duration(5)),
        auth=Auth(anonymous=True),
        clients=Clients(max_buffer=Size(2**24)),
        channels=[rule],
    )


async def _fill(config: Config, plan: Plan) -> int:
    """Answers with the bytes that Redis uses for it."""
    store, rules = Store(config.redis), Rules(config.channels)
    store.start()
    while store.problem:
        await asyncio.sleep(0.05)
    limits = {"max_bytes": config.publications.max_bytes, "repeat_window": config.log.repeat_window}
    keys = Keys(store, rules, **limits)
    archive = RedisArchive(store, keys, rules, lambda: EPOCH, lambda: plan.total, Stats())
    before = await _memory(store)
    places: list[int | None] = [None] * PARTS
    for chunk in _chunks(plan, rules):
        until = chunk[-1].offset
        parts: list[list[Entry]] = [[] for _ in range(PARTS)]
        for entry in chunk:
            parts[archive.part_of(entry.channel)].append(entry)
        for part, entries in enumerate(parts):
            place = places[part]
            batch = Batch(place, until, entries, anew=0 if place is None else None)
            places[part] = await archive.advance(EPOCH, part, batch)
            assert places[part] == until
    used = await _memory(store) - before
    await store.stop()
    return used


def _chunks(plan: Plan, rules: Rules) -> Iterator[list[Entry]]:
    rule = rules.find(plan.channel(0))
    assert rule is not None
    began, step = time.time() - plan.total / plan.rate, 500 * PARTS
    for start in range(0, plan.total, step):
        chunk = []
        for number in range(start, min(start + step, plan.total)):
            channel = plan.channel(number % plan.users)
            data = b'{"n":%d,"text":"' % number
            data += b"x" * (plan.size - len(data) - 2) + b'"}'
            publication = Publication(channel, number + 1, data)
            chunk.append(Entry(channel, number + 1, rule, began + number / plan.rate, publication))
        yield chunk


async def _memory(store: Store) -> int:
    answer: dict[str, int] = await store.call(lambda redis: redis.info("memory"))
    return int(answer["used_memory"])


# --- the server -----------------------------------------------------------------------------------------------------


def _serve(config: Config, end: int, core: int, pipe: Connection) -> None:
    os.sched_setaffinity(0, {core})
    uvloop.run(_serve_until_told(config, end, pipe))


async def _serve_until_told(config: Config, end: int, pipe: Connection) -> None:
    server = Server(config)
    server.log = server.node.log = LateLog(server.node.feed, SystemClock(), end)
    await server.start()
    while server.store is None or server.store.problem:
        await asyncio.sleep(0.05)
    pipe.send(int(server.doors.address.rsplit(":", 1)[1].rstrip("/")))
    await asyncio.to_thread(pipe.recv)
    await server.stop()


# --- clients --------------------------------------------------------------------------------------------------------


async def _come_back(port: int, plan: Plan, user: int, gate: asyncio.Semaphore | None = None) -> Outcome:
    """From the first packet to the whole answer; what is refused for now is asked for again, ever more slowly."""
    began, attempts, pause_s = time.monotonic(), 0, FIRST_PAUSE_S
    gate = gate or asyncio.Semaphore()
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        writer.write(
            b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
    writer.write(client_frame(b'{"id":1,"connect":{}}'))
    await _next(reader)
    asked = {"channel": plan.channel(user), "recover": True, "epoch": EPOCH, "offset": plan.position(user)}
    command = client_frame(msgspec.json.encode({"id": 2, "subscribe": asked}))
    while True:
        attempts += 1
        writer.write(command)
        answer = await _next(reader)
        while answer == b"{}":  # a ping, while the answer is on its way
            writer.write(client_frame(b"{}"))
            answer = await _next(reader)
        if b'"error"' not in answer[:40]:
            break
        await asyncio.sleep(pause_s * random.uniform(0.5, 1))
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
    took = time.monotonic() - began
    writer.close()
    recovered = b'"recovered":true' in answer[-200:] or b'"recovered":true' in answer[:300]
    return Outcome(took, attempts, answer.count(b',"offset":') - 1 if recovered else -1, len(answer))


async def _next(reader: asyncio.StreamReader) -> bytes:
    """The payload of the next frame."""
    length = (await reader.readexactly(2))[1]
    if length == 126:
        [length] = struct.unpack("!H", await reader.readexactly(2))
    elif length == 127:
        [length] = struct.unpack("!Q", await reader.readexactly(8))
    return await reader.readexactly(length)
