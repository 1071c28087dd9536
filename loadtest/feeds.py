"""The ways in which publications reach a server. All of them write and go on; answers are read by the way."""

from __future__ import annotations

import asyncio
import struct
from typing import Protocol

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, ChannelFrame
from pamqp import commands
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from loadtest.frames import client_frame, server_frame
from loadtest.opening import ADDRESS
from loadtest.wire import Dialogue, Step, upgrade

PERSISTENT = 2
EVERYBODY = 0xFFFF_FFFF


class Feed(Protocol):
    """open → (send* → flush)* → close."""

    async def open(self) -> None: ...

    def send(self, channel: str, body: bytes) -> None: ...

    async def flush(self) -> None:
        """Hand what was sent to the kernel; waits only if the server does not take it."""
        ...

    async def close(self) -> None:
        """Returns when the server has taken everything."""
        ...


class StreamFeed:
    """One TCP connection whose answers are thrown away."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writer: asyncio.StreamWriter
        self._waste: asyncio.Task[None]

    async def open(self) -> None:
        reader, self._writer = await asyncio.open_connection(ADDRESS, self._port)
        dialogue = Dialogue(self.opening())
        self._writer.write(dialogue.begin())
        while not dialogue.done:
            data = await reader.read(4096)
            if not data:
                raise ConnectionError("the server closed the publisher's connection")
            self._writer.write(dialogue.take(data))
        self._waste = asyncio.create_task(self._read(reader))

    def opening(self) -> list[Step]:
        return [upgrade("/publish")]

    def send(self, channel: str, body: bytes) -> None:
        self._writer.write(client_frame(channel.encode() + b"\n" + body))

    async def flush(self) -> None:
        await self._writer.drain()
        await asyncio.sleep(0)

    async def close(self) -> None:
        while self._writer.transport.get_write_buffer_size():
            await asyncio.sleep(0.01)
        self._writer.close()
        self._waste.cancel()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(65_536):
            pass


class WebSocketFeed(StreamFeed):
    """WebSocket on `/publish`: channel, line feed, body."""


class FloorFeed(StreamFeed):
    """To `peers/floor.c`: number of the listener and length, then a frame that is ready to be sent on."""

    def opening(self) -> list[Step]:
        return [Step(b"PUB 0\n", b"OK\n", framed=False)]

    def send(self, channel: str, body: bytes) -> None:
        _, dot, number = channel.partition(".")
        frame = server_frame(body)
        self._writer.write(struct.pack("<II", int(number) if dot else EVERYBODY, len(frame)) + frame)


class HttpFeed:
    """POST requests on one connection, one behind the other without waiting (pipelining, RFC 9112 section 9.3.2).

    `path` and `wrap` have `%s` for the channel, `wrap` a second one for the body.
    """

    def __init__(self, port: int, path: str, wrap: str = "", headers: str = "") -> None:
        self._port = port
        self._path = path
        self._wrap = wrap
        self._headers = headers
        self._sent = 0
        self._answered = 0
        self._refused = ""
        self._writer: asyncio.StreamWriter
        self._answers: asyncio.Task[None]

    async def open(self) -> None:
        reader, self._writer = await asyncio.open_connection(ADDRESS, self._port)
        self._answers = asyncio.create_task(self._read(reader))

    def send(self, channel: str, body: bytes) -> None:
        path = self._path % channel if "%s" in self._path else self._path
        data = (self._wrap % (channel, body.decode())).encode() if self._wrap else body
        head = f"POST {path} HTTP/1.1\r\nHost: {ADDRESS}\r\n{self._headers}Content-Length: {len(data)}\r\n\r\n"
        self._writer.write(head.encode() + data)
        self._sent += 1

    async def flush(self) -> None:
        await self._writer.drain()
        await asyncio.sleep(0)
        if self._refused:
            raise RuntimeError(f"publishing was answered: {self._refused}")

    async def close(self) -> None:
        while self._answered < self._sent:
            if self._answers.done():
                raise ConnectionError(f"connection closed after {self._answered} of {self._sent} answers")
            await asyncio.sleep(0.01)
        self._writer.close()
        self._answers.cancel()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
            body = await reader.readexactly(int(fields.get("content-length", "0")))
            self._answered += 1
            if not head.startswith("HTTP/1.1 2") or b'"error"' in body:
                self._refused = head.splitlines()[0] + " " + body[:200].decode(errors="replace")


class AmqpFeed:
    """Persistent messages to a topic exchange, without publisher confirms, one write for all of a flush.

    Method and header frame of a channel are the same each time and are kept.
    """

    def __init__(self, url: str, exchange: str) -> None:
        self._url = url
        self._exchange = exchange
        self._heads: dict[tuple[str, int], bytes] = {}
        self._pending: list[bytes] = []
        self._connection: AbstractConnection
        self._channel: AbstractChannel

    async def open(self) -> None:
        self._connection = await aiormq.connect(self._url)
        self._channel = await self._connection.channel(publisher_confirms=False)

    def send(self, channel: str, body: bytes) -> None:
        head = self._heads.get((channel, len(body)))
        if head is None:
            head = self._heads[channel, len(body)] = self._head(channel, len(body))
        self._pending += (head, ChannelFrame.marshall(self._channel.number, [ContentBody(body)]).payload)

    async def flush(self) -> None:
        written = asyncio.get_running_loop().create_future()
        frame = ChannelFrame(b"".join(self._pending), should_close=False, drain_future=written)
        self._pending.clear()
        await self._connection.write_queue.put(frame)
        await written

    async def close(self) -> None:
        await self._connection.close()

    def _head(self, channel: str, size: int) -> bytes:
        method = commands.Basic.Publish(exchange=self._exchange, routing_key=channel)
        properties = commands.Basic.Properties(content_type="application/json", delivery_mode=PERSISTENT)
        frames: list[Frame | ContentHeader | ContentBody | Heartbeat] = [
            method,
            ContentHeader(body_size=size, properties=properties),
        ]
        return ChannelFrame.marshall(self._channel.number, frames).payload
