"""Frames of RabbitMQ's stream protocol as they come, and the chunks in them
(deps/rabbitmq_stream/docs/PROTOCOL.adoc, sections Frame and Deliver).

Nearly all that comes are chunks. rstream would look at each of their fields by itself and pass them on to another task;
here one is handled in the call that brings its last bytes. That counts where each publication comes in a chunk of its
own (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, cast

from rstream.connection import ConnectionClosed
from rstream.constants import Key

from notifier.tasks import begun, end

LONGEST_S = 0.003  # that chunks are handled one after the other without a turn for others
FULL_BYTES = 2**16  # a read that brought as much has left more
_MESSAGES = 0  # the kind of a chunk that is for readers
_SIZE_BYTES = 4  # before each frame

_DELIVER = Key.Deliver.value.to_bytes(2) + (1).to_bytes(2)  # with the version of its layout
_HEADER = struct.Struct(">4x B bb HI q QQ III 4x")
"""Of a chunk in its frame: key and version; subscription; magic and version, kind; entries, messages; time; epoch,
first offset; checksum, length, trailer's length; reserved."""


class Chunk(NamedTuple):
    """Messages as they lie on the broker's disk: so many entries, the first one of which stands at this place."""

    first_place: int
    entries: int
    data: bytes


Handle = Callable[[Chunk], Coroutine[Any, Any, None]]


class Frames(asyncio.Protocol):
    """Has `handle` called with each chunk in its order, with the next one when it has ended; while it waits for
    something, nothing is read. The other frames are for who calls `read`."""

    _transport: asyncio.Transport

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._buffer = bytearray()
        self._others: deque[bytearray] = deque()
        self._news: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._work: asyncio.Task[None] | None = None

    async def read(self) -> bytearray:
        """The next frame that is no chunk; one caller at a time.

        Raises ConnectionClosed, what `handle` raised, or ValueError when something cannot be understood.
        """
        while not self._others:
            if self._error is not None:
                raise self._error
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return self._others.popleft()

    async def stop(self) -> None:
        """Handle nothing more, and end what is being done."""
        self._end(ConnectionClosed())
        if self._work is not None:
            await end(self._work)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type

    def data_received(self, data: bytes) -> None:
        if self._error is None:
            self._buffer += data
            if self._work is None:
                self._go_on()
            if self._work is None and len(data) >= FULL_BYTES:
                self._wait(asyncio.sleep(0))  # libuv would read on, some dozens of times, without a turn for others

    def connection_lost(self, _exc: Exception | None) -> None:
        self._end(ConnectionClosed())

    def _go_on(self) -> None:
        began = time.monotonic()
        try:
            while self._error is None and (frame := self._next()) is not None:
                if not frame.startswith(_DELIVER):
                    self._others.append(frame)
                    self._tell()
                    continue
                rest = begun(self._handle(unpacked(frame)))
                if rest is None and self._buffer and time.monotonic() - began > LONGEST_S:
                    rest = asyncio.sleep(0)  # where many small ones have come at once
                if rest is not None:
                    self._wait(rest)
                    return
        except Exception as error:  # noqa: BLE001 - it is passed on
            self._end(error)

    def _next(self) -> bytearray | None:
        """The next frame, if all of it has come."""
        buffer = self._buffer
        stop = _SIZE_BYTES + int.from_bytes(buffer[:_SIZE_BYTES])
        if len(buffer) < stop:
            return None
        frame = buffer[_SIZE_BYTES:stop]
        del buffer[:stop]
        return frame

    def _wait(self, rest: Coroutine[Any, Any, None]) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()
        self._work = asyncio.get_running_loop().create_task(rest)
        self._work.add_done_callback(self._waited)

    def _waited(self, work: asyncio.Task[None]) -> None:
        self._work = None
        if work.cancelled():
            return
        error = work.exception()
        if error is not None:
            self._end(error if isinstance(error, Exception) else ConnectionClosed())
            return
        self._go_on()
        if self._work is None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _end(self, why: Exception) -> None:
        """Nothing more is handled."""
        if self._error is None:
            self._error = why
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def unpacked(frame: bytes | bytearray) -> Chunk:
    """Raises ValueError when it is none, or damaged."""
    if len(frame) < _HEADER.size:
        raise ValueError("a chunk is shorter than its header")
    _, _, kind, entries, _, _, _, first_place, checksum, length, _ = _HEADER.unpack_from(frame)
    data = bytes(memoryview(frame)[_HEADER.size :])
    if kind != _MESSAGES:
        raise ValueError(f"chunks of the kind {kind} are not known")
    if len(data) != length:
        raise ValueError("a chunk is not as long as it says")
    if zlib.crc32(data) != checksum:
        raise ValueError("a chunk's checksum is wrong")
    return Chunk(first_place, entries, data)
