"""A client of `/connection/websocket` that speaks the Centrifuge protocol in JSON, as little of it as it needs."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import msgspec
from aiohttp import WSMsgType
from msgspec import Raw, Struct

from tests.soak import publications
from tests.soak.clients import Client, Gone, Orders, Position, Spec
from tests.soak.journal import Delivered, Journal, Refused, Subscribed, Unsubscribed, now

SILENCE_S = 8.0
"""Pings come every 4 s (`sizes.node_sections`)."""
MOMENT_S = 0.25
RESUBSCRIBE_S = (0.3, 1.0)
SMALL_BUFFER_BYTES = 4096
SMALL_SEGMENT_BYTES = 1000


class Pub(Struct):
    data: Raw = Raw(b"")
    offset: int = 0


class Ended(Struct):
    code: int = 0


class Push(Struct):
    channel: str = ""
    pub: Pub | None = None
    unsubscribe: Ended | None = None


class Result(Struct):
    recovered: bool = False
    epoch: str = ""
    offset: int = 0
    publications: list[Pub] = []


class Failure(Struct):
    code: int = 0
    message: str = ""
    temporary: bool = False


class Reply(Struct):
    id: int = 0
    error: Failure | None = None
    connect: dict[str, Any] | None = None
    subscribe: Result | None = None
    push: Push | None = None


_decode = msgspec.json.Decoder(Reply).decode


class WebSocketClient(Client):
    def __init__(self, spec: Spec, orders: Orders, journal: Journal) -> None:
        super().__init__(spec, orders, journal)
        self._http: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._asked: dict[int, tuple[str, Position | None]] = {}
        self._again: list[tuple[float, str]] = []
        self._last_id = 1
        self._heard_at = 0.0

    async def open(self, url: str) -> None:
        connector = aiohttp.TCPConnector(socket_factory=_narrow if self.spec.kind == "slow" else None)
        self._http = aiohttp.ClientSession(connector=connector)
        self._socket = await self._http.ws_connect(
            f"{url}/connection/websocket", autoping=False, max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=1)
        )
        self._asked.clear()
        self._again.clear()
        self._heard_at = now()
        await self._send({"id": 1, "connect": {}})
        message = await self._socket.receive()
        if message.type is not WSMsgType.TEXT or _decode(message.data.split("\n")[0]).connect is None:
            raise Gone(self._socket.close_code or 0, "connecting was not answered")
        await self._send(*(self._subscription(channel) for channel in self.spec.channels))

    async def take(self) -> None:
        assert self._socket is not None
        try:
            message = await self._socket.receive(MOMENT_S)
        except TimeoutError:
            if now() - self._heard_at > SILENCE_S:
                raise Gone(0, "silence") from None
        else:
            self._heard_at = now()
            if message.type is not WSMsgType.TEXT:
                raise Gone(self._socket.close_code or 0, str(message.extra or ""))
            for line in message.data.split("\n"):
                if line:
                    await self._take_reply(_decode(line))
        if self._again and self._again[0][0] < now():
            _, channel = self._again.pop(0)
            await self._send(self._subscription(channel))

    async def stall(self) -> None:
        transport = self._transport
        if transport is not None:
            transport.pause_reading()
        await super().stall()
        if transport is not None and not transport.is_closing():
            transport.resume_reading()

    @property
    def _transport(self) -> asyncio.Transport | None:
        connection = self._socket._response.connection if self._socket is not None else None
        return connection.transport if connection is not None else None

    async def close(self) -> None:
        transport = self._transport
        connection, self._socket = self._socket, None
        http, self._http = self._http, None
        try:
            if connection is not None:
                if self.chance.random() < 0.5 and transport is not None:
                    transport.abort()
                else:
                    async with asyncio.timeout(2):
                        await connection.close()
        except (TimeoutError, OSError, aiohttp.ClientError):
            pass
        finally:
            if http is not None:
                await http.close()

    async def _send(self, *commands: object) -> None:
        assert self._socket is not None
        try:
            await self._socket.send_str("\n".join(msgspec.json.encode(command).decode() for command in commands))
        except (ConnectionError, RuntimeError) as error:
            raise Gone(0, type(error).__name__) from error

    def _subscription(self, channel: str) -> dict[str, object]:
        self._last_id += 1
        position = self.positions.get(channel)
        self._asked[self._last_id] = channel, position
        request: dict[str, object] = {"channel": channel}
        if position is not None:
            request |= {"recover": True, "epoch": position.epoch, "offset": position.offset}
        return {"id": self._last_id, "subscribe": request}

    async def _take_reply(self, reply: Reply) -> None:
        if reply.push is not None:
            self._take_push(reply.push)
        elif not reply.id:
            await self._send({})  # a ping
        elif reply.id in self._asked:
            channel, position = self._asked.pop(reply.id)
            if reply.error is not None:
                self._refused(channel, reply.error)
            elif reply.subscribe is not None:
                self._begin(channel, position, reply.subscribe)

    def _take_push(self, push: Push) -> None:
        channel = push.channel
        if push.pub is not None:
            position = self.positions.get(channel, Position("", 0))
            self._deliver(channel, position.epoch, push.pub, recovered=False)
        elif push.unsubscribe is not None:
            self.subscribed.discard(channel)
            self.journal.write(Unsubscribed(now(), self.spec.name, channel, push.unsubscribe.code))
            self._later(channel)

    def _refused(self, channel: str, error: Failure) -> None:
        self.journal.write(Refused(now(), self.spec.name, channel, error.code, error.message))
        self._later(channel)

    def _later(self, channel: str) -> None:
        self._again.append((now() + self.chance.uniform(*RESUBSCRIBE_S), channel))
        self._again.sort()

    def _begin(self, channel: str, position: Position | None, result: Result) -> None:
        epoch, offset = position or Position("", -1)
        found = result.publications
        self.journal.write(
            Subscribed(
                now(), self.spec.name, channel, epoch, offset, result.recovered, result.epoch, result.offset, len(found)
            )
        )
        self.subscribed.add(channel)
        self.positions[channel] = Position(result.epoch, result.offset)
        for pub in found:
            self._deliver(channel, result.epoch, pub, recovered=True)

    def _deliver(self, channel: str, epoch: str, pub: Pub, *, recovered: bool) -> None:
        ident, sent_at, intact = publications.read(pub.data, channel)
        self.journal.write(
            Delivered(now(), self.spec.name, channel, epoch, pub.offset, ident, sent_at, intact, recovered)
        )
        self.positions[channel] = Position(epoch, pub.offset)


def _narrow(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose peer soon has to wait: the kernel gives each end room by the size of a segment."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENT_BYTES)
    return made
