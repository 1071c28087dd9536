"""A client of `/sse`: an EventSource that keeps the last id, and reads the envelope to know the channel."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
from msgspec import Raw, Struct

from tests.soak import publications
from tests.soak.clients import Client, Gone, Orders, Position, Spec
from tests.soak.journal import Delivered, Journal, Placed, Refused, Subscribed, now

SILENCE_S = 6.0
"""A stream without publications gets its cursor every 2 s (`sizes.node_sections`)."""
MOMENT_S = 0.25


class Told(Struct):
    """What became of one channel."""

    recovered: bool = False


class Begun(Struct):
    channels: dict[str, Told] = {}


class Envelope(Struct):
    channel: str = ""
    data: Raw = Raw(b"")


class Farewell(Struct):
    code: int = 0
    reason: str = ""


class EventStreamClient(Client):
    def __init__(self, spec: Spec, orders: Orders, journal: Journal) -> None:
        super().__init__(spec, orders, journal)
        self._http: aiohttp.ClientSession | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._reading: asyncio.Task[bytes] | None = None
        self._cursor = ""
        self._caught_up = False
        self._heard_at = 0.0
        self._event: dict[str, str] = {}
        self._farewell: Farewell | None = None

    async def open(self, url: str) -> None:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), read_bufsize=1 << 20)
        headers = {"Last-Event-ID": self._cursor} if self._cursor else {}
        query = {"channels": ",".join(self.spec.channels), "envelope": "1"}
        self._response = await self._http.get(f"{url}/sse", params=query, headers=headers)
        if self._response.status != 200:
            self.journal.write(Refused(now(), self.spec.name, "", self._response.status, ""))
            raise Gone(0, f"status {self._response.status}")
        self._caught_up = False
        self._farewell = None
        self._event = {}
        self._heard_at = now()

    async def take(self) -> None:
        assert self._response is not None
        self._reading = self._reading or asyncio.create_task(self._response.content.readline())
        await asyncio.wait({self._reading}, timeout=MOMENT_S)
        if not self._reading.done():
            if now() - self._heard_at > SILENCE_S:
                raise Gone(0, "silence")
            return
        done, self._reading = self._reading, None
        line = done.result()
        self._heard_at = now()
        if not line.endswith(b"\n"):
            told = self._farewell
            raise Gone(told.code if told else 0, told.reason if told else "end of the stream")
        self._take_line(line[:-1].decode())

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None
        if self._response is not None:
            self._response.close()
            self._response = None
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _take_line(self, line: str) -> None:
        if line:
            field, _, value = line.partition(": ")
            self._event[field] = value
            return
        event, self._event = self._event, {}
        if "id" in event:
            self._cursor = event["id"]
        match event.get("event", ""):
            case "notifier.subscribed":
                self._begin(event["data"])
            case "notifier.disconnect":
                self._farewell = msgspec.json.decode(event["data"], type=Farewell)
            case "" if "data" in event:
                self._deliver(event["id"], event["data"])
            case "" if "id" in event:
                self._place(event["id"])

    def _begin(self, data: str) -> None:
        epoch, offset = _position(self._cursor) if self._cursor else Position("", -1)
        begun = msgspec.json.decode(data, type=Begun)
        for channel, told in begun.channels.items():
            start = Position(epoch, offset) if told.recovered else Position("", -1)
            self.journal.write(
                Subscribed(now(), self.spec.name, channel, epoch, offset, told.recovered, start.epoch, start.offset, 0)
            )
        self.subscribed = set(begun.channels)

    def _deliver(self, cursor: str, data: str) -> None:
        envelope = msgspec.json.decode(data, type=Envelope)
        ident, sent_at, intact = publications.read(envelope.data, envelope.channel)
        epoch, offset = _position(cursor)
        self.journal.write(
            Delivered(
                now(), self.spec.name, envelope.channel, epoch, offset, ident, sent_at, intact, not self._caught_up
            )
        )
        self.positions[envelope.channel] = Position(epoch, offset)

    def _place(self, cursor: str) -> None:
        self._caught_up = True
        position = _position(cursor)
        self.journal.write(Placed(now(), self.spec.name, position.epoch, position.offset))
        for channel in self.spec.channels:
            self.positions[channel] = position


def _position(cursor: str) -> Position:
    """Without the place within a record: the checker knows what was seen of it."""
    epoch, _, offset = cursor.rpartition(":")
    return Position(epoch, int(offset.partition(".")[0]))
