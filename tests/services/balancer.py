"""A TCP load balancer as they come: it asks the servers behind it whether they are ready, and sends each new connection
to one that is. A server that refuses is passed over."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Coroutine, Sequence
from typing import Any, Self

from .link import Faults, Link, Way
from .ports import LOCALHOST, free_port

CHECK_EVERY_S = 0.1
CHECK_TIMEOUT_S = 5.0
REQUEST = b"GET /readyz HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n"


class Balancer:
    """Use ``async with``. Before a server was asked for the first time it counts as not ready."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.port = free_port()
        self.ready: set[int] = set()
        self._turns = itertools.cycle(ports)
        self._ports = list(ports)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.socket()

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{LOCALHOST}:{self.port}/connection/websocket"

    async def __aenter__(self) -> Self:
        for port in self._ports:
            self._begin(self._watch(port))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setblocking(False)
        self._listener.bind((LOCALHOST, self.port))
        self._listener.listen(1024)
        self._begin(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            self._begin(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        """With nobody ready the connection ends at once, as with an error of the balancer's own."""
        for port in [next(self._turns) for _ in self._ports]:
            if port in self.ready and await _listens(port):
                await Link(client, (LOCALHOST, port), Faults(), {Way.C2S: 0, Way.S2C: 0}).run()
                return
        client.close()

    async def _watch(self, port: int) -> None:
        while True:
            if await _is_ready(port):
                self.ready.add(port)
            else:
                self.ready.discard(port)
            await asyncio.sleep(CHECK_EVERY_S)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOCALHOST, port)
    except OSError:
        return False
    writer.close()
    return True


async def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(LOCALHOST, port)
            try:
                writer.write(REQUEST)
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    return False
