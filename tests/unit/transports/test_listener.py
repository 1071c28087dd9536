"""Connections are taken a few at a time, and too many open files are no reason to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest
import uvloop

from notifier.transports.listener import IN_A_TURN, Listener
from tests.services.deadline import SECOND, eventually
from tests.services.ports import LOCALHOST

COUNT = 3 * IN_A_TURN


class Taken(asyncio.Protocol):
    """A connection that was taken."""

    def __init__(self, all_of_them: list[asyncio.Transport]) -> None:
        self._all = all_of_them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._all.append(cast("asyncio.Transport", transport))


@pytest.fixture
async def taken() -> AsyncIterator[list[asyncio.Transport]]:
    found: list[asyncio.Transport] = []
    yield found
    for transport in found:
        transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
async def listener(taken: list[asyncio.Transport]) -> AsyncIterator[Listener]:
    made = Listener(lambda: Taken(taken))
    yield made
    made.close()


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    made = [socket.socket() for _ in range(COUNT)]
    yield made
    for one in made:
        one.close()


def connect(clients: list[socket.socket], address: tuple[str, int]) -> None:
    """Returns when the kernel has all of them."""
    for one in clients:
        one.connect(address)


async def test_a_crowd_is_taken_in_turns_and_everybody_else_has_one_in_between(
    listener: Listener, taken: list[asyncio.Transport], clients: list[socket.socket]
) -> None:
    connect(clients, await listener.open(LOCALHOST, 0))
    before = 0
    while len(taken) < COUNT:
        await asyncio.sleep(0)
        assert len(taken) - before <= IN_A_TURN
        before = len(taken)


async def test_too_many_open_files_only_delay_those_who_wait(
    listener: Listener, taken: list[asyncio.Transport], clients: list[socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    address = await listener.open(LOCALHOST, 0)
    connect(clients, address)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(one.name) for one in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    fillers = []
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        await eventually(lambda: "no more connections can be taken" in caplog.text)
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(taken) < COUNT
    await eventually(lambda: len(taken) == COUNT, 5 * SECOND)
    assert len(caplog.records) == 1, "said once, not in every turn"


async def test_closed_it_takes_nobody_and_those_who_were_taken_stay(
    listener: Listener, taken: list[asyncio.Transport], clients: list[socket.socket]
) -> None:
    address = await listener.open(LOCALHOST, 0)
    one, other = clients[:2]
    one.connect(address)
    await eventually(lambda: taken)
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        other.connect(address)
    taken[0].write(b"still here")
    assert await asyncio.to_thread(one.recv, 100) == b"still here"


async def test_it_listens_on_all_addresses_of_a_name_and_says_what_is_taken(listener: Listener) -> None:
    host, port = await listener.open("localhost", 0)
    assert port
    assert host in {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match="in use"):
        await Listener(lambda: Taken([])).open(host, port)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_small_frames_are_not_held_back(loop: object) -> None:
    """TCP_NODELAY, as with the loop's own way."""

    async def look() -> int:
        found: list[asyncio.Transport] = []
        listener = Listener(lambda: Taken(found))
        with socket.create_connection(await listener.open(LOCALHOST, 0)):
            await eventually(lambda: found)
            listener.close()
            option: int = found[0].get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            found[0].abort()
            await asyncio.sleep(0)
            return option

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        assert runner.run(look())
