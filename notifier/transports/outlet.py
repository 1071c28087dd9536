"""Outlet: the one way bytes leave on a socket, and what happens when a client does not take them.

On the fast lane: `send`, which is the kernel's, with nothing of ours around it. Going through the transport for every
frame would touch each connection's memory twice more, at a third of the cost of the whole delivery. What the kernel
does not take at once goes to the transport, and so does everything after it until the transport has nothing left:
order is kept. How much waits there is looked at before more is added; a client with too much of it is slow.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from abc import ABC, abstractmethod
from collections.abc import Callable

from notifier.core.session import Session
from notifier.protocol import frames
from notifier.protocol.codes import SLOW, Disconnect

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
    """A `core.ports.Connection` on a transport, and the transport's protocol beside aiohttp's.

    The descriptor may be used only while it is the transport's, and the transport closes it right after it has told its
    protocol; so the outlet must be told first. A number used any later could be somebody else's connection.
    """

    __slots__ = (
        "_close_timeout",
        "_descriptor",
        "_direct",
        "_farewell",
        "_limit",
        "_max_buffer",
        "closing",
        "send",
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
        self._direct: BorrowedSocket | None = None
        self.send: Callable[[bytes], int] = self._send_through_transport
        if transport.get_extra_info("sslcontext") is None:
            self._descriptor: int = transport.get_extra_info("socket").fileno()
            self._direct = BorrowedSocket(self._descriptor)
            self.send = self._direct.send
        transport.set_protocol(Tap(transport.get_protocol(), self))

    def write(self, data: bytes) -> None:
        """Hand bytes to the kernel, or queue them behind those that wait already."""
        try:
            taken = self.send(data)
        except OSError:
            taken = 0
        if taken != len(data):
            self.queue(data, taken)

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
                self._limit = self._max_buffer
                self.write(data)
                return
            self._direct.detach()
        queued = self.transport.get_write_buffer_size()
        if queued > self._limit:
            self._slow()
            return
        self.transport.write(memoryview(data)[taken:])

    def unread(self) -> int:
        if self.closing or self.transport.is_closing():
            return 0
        in_kernel = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        return self.transport.get_write_buffer_size() + int.from_bytes(in_kernel, sys.byteorder)

    def finish(self) -> None:
        """Nothing more is written here."""
        self.closing = True
        if self._direct is not None:
            self._direct.detach()

    def lost(self) -> None:
        """The connection is gone; its descriptor is about to be."""
        self.finish()
        self.session.end()

    def abort_after(self, delay_s: float) -> None:
        """Make sure that the socket is gone by then, whatever the peer does."""
        asyncio.get_running_loop().call_later(delay_s, self.transport.abort)

    @abstractmethod
    def close(self, disconnect: Disconnect) -> None:
        """Say why, and end."""

    def _send_through_transport(self, data: bytes) -> int:
        """Where bytes must be encrypted on their way."""
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
        """Say why; the handler goes on reading until the peer has answered, or the deadline has passed."""
        last = self._farewell(disconnect) + frames.close_frame(disconnect)
        if self.closing:
            self.transport.write(last)  # behind all that a slow client did not take
        else:
            self.write(last)
        self.finish()
        self.abort_after(self._close_timeout)


class StreamOutlet(Outlet):
    """The body of an answer without end: bytes as they are, then the socket is closed."""

    __slots__ = ()

    def close(self, disconnect: Disconnect) -> None:
        last = self._farewell(disconnect)
        if last and not self.closing:
            self.write(last)
        self.finish()
        self.transport.close()
        self.abort_after(self._close_timeout)


class Tap(asyncio.Protocol):
    """Stands before aiohttp's protocol and passes everything on, but hears first when the connection is lost."""

    __slots__ = ("_inner", "_outlet", "data_received", "eof_received", "pause_writing", "resume_writing")

    def __init__(self, inner: asyncio.BaseProtocol, outlet: Outlet) -> None:
        assert isinstance(inner, asyncio.Protocol)  # noqa: S101 - a server's transport has no other kind
        self._inner = inner
        self._outlet = outlet
        # The inner one's own methods: nothing is added to the way of incoming bytes.
        self.data_received = inner.data_received  # type: ignore[method-assign]
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        self._outlet.lost()
        self._inner.connection_lost(exc)
