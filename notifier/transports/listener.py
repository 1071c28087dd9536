"""Listener: takes connections from the kernel, a few in each turn of the loop.

The loop's own way takes all that wait there at once. After an outage those are thousands, and nothing is delivered
while they are taken and their first bytes are looked at. Here they stay where they cost nothing: in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable

_logger = logging.getLogger(__name__)

BACKLOG = 4096
IN_A_TURN = 4  # about 1 ms until the handshakes are done; a record needs some turns on its way from the log
PAUSE_S = 0.5
READ_BYTES = 16384  # at once from one connection: each may hold so much, and what it takes to look at it
HANDSHAKE_S = 10.0  # of TLS
UNSENT_BYTES = 131072
"""What the kernel takes for a connection beyond what is on its way to the client (TCP_NOTSENT_LOWAT, tcp(7)). By itself
it would take up to 4 MiB (tcp_wmem) for each client that does not read, and none of them would count as slow before."""

# What says that there are too many open files, or too little memory, for now (accept(2)).
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """open → close. `make` makes the protocol of each connection."""

    def __init__(self, make: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None = None) -> None:
        self._make = make
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._arriving: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._exhausted = False

    async def open(self, host: str, port: int, *, shared: bool = False) -> tuple[str, int]:
        """Listen, `shared` with other processes; the answer is the address. Raises OSError."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                self._sockets.append(_listening(family, address, shared=shared))
        except OSError:
            self.close()
            raise
        self._watch()
        name = self._sockets[0].getsockname()
        return name[0], name[1]

    def close(self) -> None:
        """Take no more. Connections that were taken go on."""
        if self._pause is not None:
            self._pause.cancel()
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        self._sockets = []

    def _watch(self) -> None:
        self._pause = None
        for listening in self._sockets:
            self._loop.add_reader(listening, self._take, listening)

    def _take(self, listening: socket.socket) -> None:
        for _ in range(IN_A_TURN):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._rest(error)
                return
            self._exhausted = False
            connection.setblocking(False)
            task = self._loop.create_task(self._arrive(connection))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _arrive(self, connection: socket.socket) -> None:
        try:
            handshake_s = HANDSHAKE_S if self._tls is not None else None
            transport, _ = await self._loop.connect_accepted_socket(
                self._make, connection, ssl=self._tls, ssl_handshake_timeout=handshake_s
            )
            if hasattr(transport, "max_size"):  # asyncio's; uvloop reads into a buffer that all share
                transport.max_size = READ_BYTES
        except OSError:  # it has gone already
            connection.close()

    def _rest(self, error: OSError) -> None:
        """Look again in a while: those who wait keep the socket readable, and the loop would do nothing else."""
        if not self._exhausted:
            _logger.error("no more connections can be taken for now: %s", error.strerror)
        self._exhausted = True
        for listening in self._sockets:
            self._loop.remove_reader(listening)
        self._pause = self._loop.call_later(PAUSE_S, self._watch)


def _listening(family: int, address: object, *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is taken here has these three as well
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)  # type: ignore[arg-type]
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
