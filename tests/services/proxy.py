"""A TCP proxy that misbehaves when told to: the network's faults, without root and switchable while it runs."""

import asyncio
import contextlib
import socket
from typing import Self

from .link import Faults, Link, Way
from .ports import LOCALHOST, free_port

__all__ = ["TcpProxy", "Way"]


class TcpProxy:
    """Forwards to a target from a port of its own; use ``async with``.

    Faults add up and stay until `heal`. They apply to connections of before and after alike, with two exceptions,
    which say so. Forwarded bytes are counted in `carried`, per way, over all connections.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.host = LOCALHOST
        self.port = free_port()
        self.target = (target_host, target_port)
        self.carried = {Way.C2S: 0, Way.S2C: 0}
        self.accepted = 0
        self._faults = Faults()
        self._listener: socket.socket | None = None
        self._links: dict[asyncio.Task[None], Link] = {}

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connections(self) -> int:
        return len(self._links)

    def heal(self) -> None:
        """Forget all faults: what was held back goes on its way, new connections are accepted."""
        self._faults.heal()
        if self._listener is None:
            self._listen()

    def freeze(self, way: Way = Way.BOTH) -> None:
        """Forward nothing more this way and close nothing: half-open, as behind a dead router.

        Also the end of a connection is held back. Senders go on until the kernel's buffers are full.
        """
        self._faults.freeze(way)

    def delay(self, seconds: float) -> None:
        """Let everything arrive so much later, both ways, without limiting the throughput.

        What is already on its way keeps its time of arrival, also when the proxy is healed.
        """
        self._faults.delay_s = seconds

    def chop(self, size: int) -> None:
        """Write at most so many bytes at once, both ways, so that readers see frames in pieces.

        Slow: a thousand pieces a second at most. A reader that is slower still gets some of them joined.
        """
        self._faults.piece = size

    def close_after(self, count: int, way: Way = Way.S2C) -> None:
        """Close each connection when it has carried exactly so many bytes more that way."""
        self._faults.close_after(count, way)
        for link in self._links.values():
            link.allow_from_here()

    def refuse(self) -> None:
        """Answer new connections with "refused", as a host without the server does. Leaves the live ones alone."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def reset(self) -> None:
        """Cut the live connections with an RST at both ends. Leaves new ones alone."""
        await self._end(reset=True)

    async def close(self) -> None:
        self.refuse()
        await self._end(reset=False)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind((self.host, self.port))
        listener.listen(1024)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._listener = listener

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            client, _ = listener.accept()
            self.accepted += 1
            link = Link(client, self.target, self._faults, self.carried)
            task = asyncio.create_task(link.run())
            self._links[task] = link
            task.add_done_callback(self._links.pop)

    async def _end(self, *, reset: bool) -> None:
        links = dict(self._links)
        for task, link in links.items():
            link.reset = reset
            task.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        for link in links.values():
            link.end()  # for those that were cancelled before they began
