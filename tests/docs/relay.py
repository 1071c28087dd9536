"""Between a publisher and the broker: a network that fails at the worst moment, once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from tests.services.ports import LOCALHOST, free_port

# AMQP 0.9.1, sections 2.3.5 and 1.8.3: a method frame's payload begins with the numbers of class and method.
PUBLISH, ACK = b"\x00\x3c\x00\x28", b"\x00\x3c\x00\x50"


class LosesAConfirm:
    """Use ``async with``. The first time that the broker confirms a publish, nobody is told: the connection ends, or,
    with `silently`, stays open without a word. Other connections are passed on. `lost`: it has happened."""

    def __init__(self, host: str, port: int, *, silently: bool = False) -> None:
        self.port = free_port()
        self._silently = silently
        self.lost = False
        self._target = (host, port)
        self._publishing = False
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, LOCALHOST, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        await self._server.wait_closed()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._links.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection(*self._target)
        up = asyncio.create_task(self._up(reader, broker_writer))
        try:
            with contextlib.suppress(OSError):
                await self._down(broker_reader, writer)
        finally:
            up.cancel()
            broker_writer.close()
            writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                self._publishing |= PUBLISH in data
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent = False
        while data := await reader.read(65_536):
            if self._publishing and not self.lost and ACK in data:
                self.lost = True
                silent = self._silently
                if not silent:
                    return
            if silent:
                continue
            writer.write(data)
            await writer.drain()
