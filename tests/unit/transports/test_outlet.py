"""The outlet: one way out, whether bytes go to the kernel or wait behind others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notifier.protocol.codes import SHUTDOWN, SLOW, Disconnect
from notifier.transports.outlet import HELD_BYTES, WebSocketOutlet


class Behind:
    """A transport on a socket, and what it was given to write. It sends nothing until it is told to."""

    def __init__(self, end: socket.socket, waiting: bytes = b"") -> None:
        self.socket = end
        self.waiting = bytearray(waiting)

    def get_extra_info(self, name: str) -> object:
        return self.socket if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.waiting += data

    def abort(self) -> None:
        """After a deadline that no test waits for."""

    def send(self) -> None:
        self.socket.send(self.waiting)
        self.waiting.clear()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        yield near, far


def outlet_on(transport: Behind) -> WebSocketOutlet:
    return WebSocketOutlet(cast("asyncio.Transport", transport), 2**20, 1.0)


def test_what_waits_in_the_transport_already_is_not_overtaken(ends: tuple[socket.socket, socket.socket]) -> None:
    """The answer to an earlier request on the same connection."""
    near, far = ends
    transport = Behind(near, b"answer ")
    outlet = outlet_on(transport)
    outlet.write(b"stream ")
    transport.send()
    outlet.write(b"and on")
    assert not transport.waiting, "it goes to the kernel again"
    assert far.recv(100) == b"answer stream and on"
    outlet.finish()


def test_what_is_held_is_sent_in_order_and_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    outlet = outlet_on(Behind(near))
    outlet.hold()
    outlet.write(b"one ")
    outlet.write_large(b"two ")
    with pytest.raises(BlockingIOError):
        far.recv(100)
    outlet.release()
    outlet.write(b"three")
    assert far.recv(100) == b"one two three"
    outlet.finish()


def test_no_more_is_held_than_fits_into_memory_for_all(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    outlet = outlet_on(Behind(near))
    outlet.hold()
    outlet.write(b"x" * (HELD_BYTES + 1))
    assert len(far.recv(2 * HELD_BYTES)) == HELD_BYTES + 1
    outlet.write(b"held")
    with pytest.raises(BlockingIOError):
        far.recv(100)
    outlet.finish()


async def test_what_is_held_comes_before_the_end(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    outlet = outlet_on(Behind(near))
    outlet.hold()
    outlet.write(b"held ")
    outlet.close(SHUTDOWN)
    assert far.recv(100) == b"held \x88\x0a\x0b\xb9shutdown"


# --- whatever happens -------------------------------------------------------------------------------------------------

MOST = 500
STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 1000)),
    st.tuples(st.sampled_from(["hold", "release", "send", "read"]), st.just(0)),
)


class Ended:
    """A session that is told that it is slow."""

    def __init__(self) -> None:
        self.why: list[Disconnect] = []

    def disconnect(self, why: Disconnect) -> None:
        self.why.append(why)


class Way(Behind):
    """The transport keeps what the kernel does not take."""

    def send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            del self.waiting[: self.socket.send(self.waiting)]


@example([("write", 1000)] * 60)
@given(st.lists(STEPS, max_size=80))
async def test_all_that_was_written_arrives_in_its_order_or_the_client_is_slow(steps: list[tuple[str, int]]) -> None:
    """And never does more wait than may, and what was written at once."""
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        transport, session = Way(near), Ended()
        outlet = WebSocketOutlet(cast("asyncio.Transport", transport), MOST, 1.0)
        outlet.session = session  # type: ignore[assignment]
        written, arrived, at_once = bytearray(), bytearray(), 0
        for step, size in [*steps, ("release", 0)]:
            if step == "write":
                data = bytes((len(written) + index) % 251 for index in range(size))
                written += data
                outlet.write(data)
            elif step == "read":
                arrived += read(far)
            elif step == "send":
                transport.send()
            else:
                outlet.release()
                if step == "hold":
                    outlet.hold()
            at_once = max(at_once, size, len(outlet._held or b""))
            assert len(transport.waiting) <= MOST + 2 * at_once
        while (last := read(far)) or transport.waiting:
            arrived += last
            transport.send()
        await asyncio.sleep(0)
        assert written.startswith(arrived)
        assert session.why == ([] if len(arrived) == len(written) else [SLOW])
        outlet.finish()


def read(end: socket.socket) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return end.recv(2**20)
    return b""
