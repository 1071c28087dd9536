"""Outlet: the one way bytes leave on a socket, and what happens when a client does not take them.

On the fast lane: `write`. asyncio's transport sends at once or queues; how much is queued is looked at before each
write, and a client with too much of it is disconnected as slow.
"""

from __future__ import annotations

import asyncio

from notifier.protocol.encoding import Encoding


class Outlet:
    """A transport with a limit. `on_slow` is called, once and at the tick's end, when a client is over it."""

    __slots__ = ("_base_limit", "_limit", "closing", "encoding", "transport")

    def __init__(self, transport: asyncio.WriteTransport, encoding: Encoding, max_buffer: int) -> None:
        self.transport = transport
        self.encoding = encoding
        self.closing = False
        self._base_limit = self._limit = max_buffer

    def write(self, data: bytes) -> None:
        if self.closing:
            return
        transport = self.transport
        queued = transport.get_write_buffer_size()
        if queued > self._base_limit and self._too_slow(queued):
            return
        transport.write(data)

    def write_large(self, data: bytes) -> None:
        """Write what the client asked for: a long answer alone makes nobody slow."""
        if not self.closing:
            queued = self.transport.get_write_buffer_size()
            self._limit = max(self._limit, queued + len(data) + self._base_limit)
            self.transport.write(data)

    def _too_slow(self, queued: int) -> bool:
        if queued <= self._limit:
            return False
        self.closing = True
        # Not now: the hub walks the channel's members at this moment.
        asyncio.get_running_loop().call_soon(self.on_slow)
        return True

    def on_slow(self) -> None:
        """What to do with a slow client; the transport's file says."""
        raise NotImplementedError

    def abort_after(self, delay_s: float) -> None:
        """Make sure that the socket is gone by then, whatever the peer does."""
        asyncio.get_running_loop().call_later(delay_s, self._abort)

    def _abort(self) -> None:
        if not self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()
