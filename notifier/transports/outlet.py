"""Outlet: the one way bytes leave on a socket, and what happens when a client does not take them.

On the fast lane: the `send` of its sink, which is the kernel's, with nothing of ours around it. Going through the
transport for every frame would touch each connection's memory twice more, at a third of the cost of the whole delivery.
What the kernel does not take at once goes to the transport, and so does everything after it until the transport has
nothing left: order is kept. How much waits there is looked at before more is added; a client with too much of it is
slow.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from abc import ABC, abstractmethod
from collections.abc import Callable

from notifier.core.ports import Sink
from notifier.core.session import Session
from notifier.protocol import frames
from notifier.protocol.codes import SLOW, Disconnect

POLL_S, LONGEST_POLL_S = 0.02, 0.5
HELD_BYTES = 65536

Farewell = Callable[[Disconnect], bytes]


def _nothing(_disconnect: Disconnect) -> bytes:
    return b""


class BorrowedSocket(socket.socket):
    """A socket object on a descriptor that belongs to a transport. It sends; it never closes.

    Detached, it refuses to send, and can be attached again.
    """

    __slots__ = ()

    def __init__(self, descriptor: int) -> None:
        self.attach(descriptor)

    def attach(self, descriptor: int) -> None:
        # All four given, so that nothing is asked of the kernel; the transport has made it non-blocking.
        super().__init__(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0, fileno=descriptor)

    def __del__(self) -> None:
        self.detach()


class Outlet(ABC):
    """A `core.ports.Connection` on a transport.

    The descriptor may be used only while it is the transport's, and the transport closes it right after it has told its
    protocol that the connection is lost; so the outlet must be told of it (`lost`) before anything else is done. A
    number used any later could be somebody else's connection.
    """

    __slots__ = (
        "_close_timeout",
        "_descriptor",
        "_direct",
        "_farewell",
        "_held",
        "_limit",
        "_max_buffer",
        "closing",
        "session",
        "transport",
    )

    session: Session

    def __init__(
        self, transport: asyncio.Transport, max_buffer: int, close_timeout: float, farewell: Farewell = _nothing
    ) -> None:
        """`farewell` makes the bytes that say why it ends, where a close frame does not say it."""
        self.transport = transport
        self.closing = False
        self._close_timeout = close_timeout
        self._farewell = farewell
        self._max_buffer = self._limit = max_buffer
        self._held: bytearray | None = None
        self._direct: BorrowedSocket | None = None
        if transport.get_extra_info("sslcontext") is None:
            self._descriptor: int = transport.get_extra_info("socket").fileno()
            self._direct = BorrowedSocket(self._descriptor)
            if transport.get_write_buffer_size():
                self._direct.detach()  # the answer to an earlier request waits there

    @property
    def sink(self) -> Sink:
        return self if self._direct is None else self._direct

    def write(self, data: bytes) -> None:
        """Hand bytes to the kernel, or queue them behind those that wait already."""
        if self._held is not None:
            self._held += data
            if len(self._held) > HELD_BYTES:
                self.release()
                self.hold()
            return
        try:
            taken = self.sink.send(data)
        except OSError:
            taken = 0
        if taken != len(data):
            self.queue(data, taken)

    def hold(self) -> None:
        """What is written from here on is sent at once, by `release`: answers to several commands cost one `send`.
        Publications do not come this way, so nothing may be waited for in between; or one could overtake the answer
        to its own subscription."""
        self._held = bytearray()

    def release(self) -> None:
        held, self._held = self._held, None
        if held:
            self.write(bytes(held))

    def write_large(self, data: bytes) -> None:
        """Write what the client asked for: a long answer alone makes nobody slow, asking on without reading does."""
        queued = self.transport.get_write_buffer_size()
        if queued <= self._max_buffer:
            self._limit = max(self._limit, queued + len(data) + self._max_buffer)
        self.write(data)

    def queue(self, data: bytes, taken: int) -> None:
        """The kernel took only so many of these bytes, or an error says that it takes none."""
        if self.closing or self.transport.is_closing():
            return
        if self._direct is not None:
            if self._direct.fileno() < 0 and not self.transport.get_write_buffer_size():
                self._direct.attach(self._descriptor)  # the transport has caught up
                self._limit = self._max_buffer + len(data)  # which may be a long answer
                self.write(data)
                return
            self._direct.detach()
        queued = self.transport.get_write_buffer_size()
        if queued > self._limit:
            self._slow()
            return
        self.transport.write(memoryview(data)[taken:])

    @property
    def is_behind(self) -> bool:
        return self.closing or self.transport.get_write_buffer_size() > self._max_buffer

    async def breathe(self) -> None:
        """What is as long without taking a byte as a closing handshake may last is slow. It is looked at ever more
        seldom: there may be thousands of those."""
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time
        least, since, poll_s = self.unread(), now(), POLL_S
        while self.is_behind and not self.closing:
            await asyncio.sleep(poll_s)
            poll_s = min(2 * poll_s, LONGEST_POLL_S)
            unread = self.unread()
            if unread < least:
                least, since, poll_s = unread, now(), POLL_S
            elif now() - since > self._close_timeout:
                self.finish()
                self.session.disconnect(SLOW)

    def unread(self) -> int:
        if self.closing or self.transport.is_closing():
            return 0
        in_kernel = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        return self.transport.get_write_buffer_size() + int.from_bytes(in_kernel, sys.byteorder)

    def finish(self) -> None:
        """Nothing more is written here."""
        self.release()
        self.closing = True
        if self._direct is not None:
            self._direct.detach()

    def lost(self) -> None:
        """The connection is gone; its descriptor is about to be."""
        self._held = None
        self.finish()
        self.session.gone()

    def abort(self) -> None:
        self.finish()
        self.transport.abort()

    def part(self) -> None:
        """Close the socket, when what waits has been sent or the deadline has passed."""
        self.finish()
        at_once = self._direct is not None and not self.transport.get_write_buffer_size()
        self.transport.close()
        if not at_once:
            self.abort_in_time()

    def abort_in_time(self) -> None:
        """Make sure that the socket is gone after the deadline, whatever the peer does."""
        asyncio.get_running_loop().call_later(self._close_timeout, self.transport.abort)

    @abstractmethod
    def close(self, disconnect: Disconnect) -> None:
        """Say why, and end."""

    def send(self, data: bytes, /) -> int:
        """Where bytes must be encrypted on their way, through the transport."""
        if not self.closing:
            if self.transport.get_write_buffer_size() > self._limit:
                self._slow()
            else:
                self.transport.write(data)
        return len(data)

    def _slow(self) -> None:
        self.finish()
        # Not now: the hub walks the channel's members at this moment.
        asyncio.get_running_loop().call_soon(self.session.disconnect, SLOW)


class WebSocketOutlet(Outlet):
    """Frames as they are; the end is a close frame with a deadline for the peer's answer."""

    __slots__ = ()

    def close(self, disconnect: Disconnect) -> None:
        """Say why; what comes is read on until the peer has answered, or the deadline has passed."""
        self._write_last(self._farewell(disconnect) + frames.close_frame(disconnect))
        self.abort_in_time()

    def answer_close(self, why: Disconnect) -> None:
        """When the peer has closed, or broken the WebSocket's own rules."""
        self._write_last(frames.close_frame(why))

    def _write_last(self, last: bytes) -> None:
        if self.closing:
            self.transport.write(last)  # behind all that a slow client did not take
        else:
            self.write(last)
        self.finish()


class StreamOutlet(Outlet):
    """The body of an answer without end: bytes as they are, then the socket is closed."""

    __slots__ = ()

    def close(self, disconnect: Disconnect) -> None:
        last = self._farewell(disconnect)
        if last and not self.closing:
            self.write(last)
        self.part()
