"""One connection through the proxy: two ways, each read, held as long as the faults say, and written on."""

import asyncio
import contextlib
import enum
import socket
import struct

READ_SIZE = 65_536
# Chunks on their way under `delay`. Bounded, so that a frozen way comes to push back on its sender.
IN_FLIGHT = 256
# After each piece of a chopped chunk, for the reader to take it before the kernel joins the next one to it.
PAUSE_S = 0.001


class Way(enum.Flag):
    C2S = enum.auto()
    S2C = enum.auto()
    BOTH = C2S | S2C


class Faults:
    """What is wrong with the network just now; shared by all connections of a proxy."""

    def __init__(self) -> None:
        self._open = {Way.C2S: asyncio.Event(), Way.S2C: asyncio.Event()}
        self.heal()

    def heal(self) -> None:
        self.delay_s = 0.0
        self.piece = 0
        self.limit: dict[Way, int] = {}
        for gate in self._open.values():
            gate.set()

    def freeze(self, way: Way) -> None:
        for one in way:
            self._open[one].clear()

    def close_after(self, count: int, way: Way) -> None:
        self.limit |= dict.fromkeys(way, count)

    async def passage(self, way: Way) -> None:
        await self._open[way].wait()


class Link:
    """A client, a server, and what goes between them. Ends when both ways ended, or is cancelled."""

    def __init__(self, client: socket.socket, target: tuple[str, int], faults: Faults, carried: dict[Way, int]) -> None:
        self.reset = False
        self._client = client
        self._server = socket.socket()
        self._target = target
        self._faults = faults
        self._total = carried
        self._carried = {Way.C2S: 0, Way.S2C: 0}
        self._from = dict(self._carried)

    def allow_from_here(self) -> None:
        """Count the limit of bytes from now on."""
        self._from = dict(self._carried)

    async def run(self) -> None:
        """Connect, then forward until there is nothing more to come from either side."""
        for end in (self._client, self._server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(self._server, self._target)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._forward(self._client, self._server, Way.C2S))
                ways.create_task(self._forward(self._server, self._client, Way.S2C))
        except* _LimitReached:
            pass
        except* OSError:
            # The target refused us or one end was reset: so shall be the other.
            self.reset = True
        finally:
            self.end()

    def end(self) -> None:
        """Close both ends, with an RST where `reset` says so. May be called again."""
        for end in (self._client, self._server):
            if self.reset:
                _linger_not(end)
            end.close()

    async def _forward(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)
        async with asyncio.TaskGroup() as pair:
            pair.create_task(self._read(source, queue, way))
            pair.create_task(self._write(sink, queue, way))

    async def _read(self, source: socket.socket, queue: asyncio.Queue[tuple[float, bytes]], way: Way) -> None:
        loop = asyncio.get_running_loop()
        data = b"first"
        while data:
            await self._faults.passage(way)
            data = await loop.sock_recv(source, READ_SIZE)
            await queue.put((loop.time(), data))

    async def _write(self, sink: socket.socket, queue: asyncio.Queue[tuple[float, bytes]], way: Way) -> None:
        loop = asyncio.get_running_loop()
        while True:
            arrived, data = await queue.get()
            await asyncio.sleep(arrived + self._faults.delay_s - loop.time())
            if not data:
                await self._faults.passage(way)
                break
            for piece in self._pieces(data):
                await self._faults.passage(way)
                await self._send(sink, piece, way)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)  # half-closed: the other way may have more to say

    def _pieces(self, data: bytes) -> list[bytes]:
        size = self._faults.piece or len(data)
        return [data[at : at + size] for at in range(0, len(data), size)]

    async def _send(self, sink: socket.socket, piece: bytes, way: Way) -> None:
        left = self._left(way)
        if left is not None:
            piece = piece[:left]
        await asyncio.get_running_loop().sock_sendall(sink, piece)
        self._carried[way] += len(piece)
        self._total[way] += len(piece)
        if self._left(way) == 0:
            raise _LimitReached
        if self._faults.piece:
            await asyncio.sleep(PAUSE_S)

    def _left(self, way: Way) -> int | None:
        limit = self._faults.limit.get(way)
        return None if limit is None else max(0, self._from[way] + limit - self._carried[way])


class _LimitReached(Exception):
    """As many bytes were carried as should be."""


def _linger_not(end: socket.socket) -> None:
    """Make its closing an RST: with a linger time of zero the kernel drops what it holds and says so."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
