"""Frames of the stream protocol as they come, and the chunks in them (deps/rabbitmq_stream/docs/PROTOCOL.adoc)."""

import asyncio
import struct
import time
import zlib

import pytest
from rstream.connection import ConnectionClosed

from notifier.broker.stream_frames import FULL_BYTES, LONGEST_S, Chunk, Frames, Handle, unpacked

DATA = b"\0\0\0\3one\0\0\0\3two"


def frame(
    data: bytes = DATA, *, kind: int = 0, entries: int = 2, first: int = 41, crc: int | None = None, length: int = -1
) -> bytes:
    return b"".join(
        (
            struct.pack(">HHB", 8, 1, 0),
            struct.pack(">bbHI", 0x50, kind, entries, entries),
            struct.pack(">qQQ", 1_700_000_000_000, 1, first),
            struct.pack(">I", zlib.crc32(data) if crc is None else crc),
            struct.pack(">III", len(data) if length < 0 else length, 0, 0),
            data,
        )
    )


def test_a_chunk_says_where_it_begins_and_what_is_in_it() -> None:
    assert unpacked(frame()) == Chunk(41, 2, DATA)
    assert unpacked(bytearray(frame(first=2**40))).first_place == 2**40


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (frame(crc=1), "checksum"),
        (frame(DATA + b"x", length=len(DATA)), "not as long as it says"),
        (frame(length=len(DATA) + 1), "not as long as it says"),
        (frame(kind=1), "of the kind 1"),
        (frame()[:40], "shorter than its header"),
        (frame()[:4], "shorter than its header"),
    ],
)
def test_a_damaged_chunk_is_none(broken: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        unpacked(broken)


def test_every_bit_of_the_data_counts() -> None:
    whole = bytearray(frame())
    for at in range(len(whole) - len(DATA), len(whole)):
        whole[at] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            unpacked(whole)
        whole[at] ^= 1


def sized(one: bytes) -> bytes:
    return len(one).to_bytes(4) + one


HEARTBEAT = struct.pack(">HH", 23, 1)


class Source:
    """A transport whose other side has sent all of this; it is read in pieces of so many bytes, unless it is paused."""

    def __init__(self, frames: Frames, data: bytes, piece: int = 2**18) -> None:
        self.pauses, self.is_paused, self._closed = 0, False, False
        self._frames, self._data, self._piece = frames, data, piece
        frames.connection_made(self)  # type: ignore[arg-type]

    @property
    def unread(self) -> int:
        return len(self._data)

    def is_closing(self) -> bool:
        return self._closed

    def pause_reading(self) -> None:
        self.pauses += 1
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    async def run(self) -> None:
        """Until all has been read and handled; then the connection ends."""
        while self._data or self._frames._work is not None:
            if self._data and not self.is_paused:
                piece, self._data = self._data[: self._piece], self._data[self._piece :]
                self._frames.data_received(piece)
            await asyncio.sleep(0)
        self._closed = True
        self._frames.connection_lost(None)


async def handled(handle: Handle, *frames: bytes) -> Source:
    """These have come at once and been handled, and then the connection has ended."""
    made = Frames(handle)
    source = Source(made, b"".join(map(sized, frames)))
    running = asyncio.create_task(source.run())
    with pytest.raises(ConnectionClosed):
        await made.read()
    await running
    return source


async def test_chunks_are_handled_in_their_order_one_at_a_time() -> None:
    seen: list[int] = []
    busy = False

    async def handle(chunk: Chunk) -> None:
        nonlocal busy
        assert not busy
        busy = True
        await asyncio.sleep(0)
        seen.append(chunk.first_place)
        busy = False

    source = await handled(handle, *(frame(first=place) for place in range(20)))
    assert seen == list(range(20))
    assert source.pauses == 20


async def test_many_small_ones_at_once_leave_turns_of_the_loop_for_others() -> None:
    turns, ended = 0, False

    async def others() -> None:
        nonlocal turns
        while not ended:
            turns += 1
            await asyncio.sleep(0)

    async def handle(_chunk: Chunk) -> None:
        time.sleep(LONGEST_S / 3)  # busy: nobody else has the loop meanwhile

    watching = asyncio.create_task(others())
    await handled(handle, *(frame() for _ in range(60)))
    ended = True
    await watching
    assert turns > 60 / 6  # a few chunks for each; one or two turns in all, were there none in between


@pytest.mark.parametrize("piece", [1, 3, 50, 1000])
async def test_frames_may_come_in_any_pieces(piece: int) -> None:
    seen: list[int] = []

    async def handle(chunk: Chunk) -> None:
        assert chunk.data == DATA
        seen.append(chunk.first_place)

    made = Frames(handle)
    data = b"".join(sized(frame(first=place)) + sized(HEARTBEAT) for place in range(9))
    source = asyncio.create_task(Source(made, data, piece).run())
    assert [bytes(await made.read()) for _ in range(9)] == [HEARTBEAT] * 9
    await source
    assert seen == list(range(9))


async def test_while_a_chunk_is_waited_for_nothing_is_read_and_then_the_rest_is() -> None:
    seen: list[int] = []
    go_on = asyncio.Event()

    async def handle(chunk: Chunk) -> None:
        seen.append(chunk.first_place)
        await go_on.wait()

    made = Frames(handle)
    one = sized(frame(first=41))
    source = Source(made, one + b"".join(sized(frame(first=place)) for place in (43, 45)), piece=len(one))
    running = asyncio.create_task(source.run())
    for _ in range(10):
        await asyncio.sleep(0)
    assert seen == [41]
    assert source.unread == 2 * len(one)
    made.data_received(sized(frame(first=42)))  # what was on its way already
    assert seen == [41]
    go_on.set()
    await running
    assert seen == [41, 42, 43, 45]


async def test_after_a_full_read_others_have_a_turn() -> None:
    """libuv reads on as long as reads are full, within one turn of the loop."""

    async def handle(_chunk: Chunk) -> None:
        """Nothing to do."""

    made = Frames(handle)
    source = Source(made, b"")
    made.data_received(sized(frame(bytes(FULL_BYTES))))
    assert source.pauses == 1
    for _ in range(5):
        await asyncio.sleep(0)
    assert not source.is_paused
    made.data_received(sized(frame()))
    assert source.pauses == 1


async def test_what_comes_behind_the_end_of_the_connection_is_not_handled() -> None:
    seen: list[int] = []

    async def handle(chunk: Chunk) -> None:
        seen.append(chunk.first_place)
        await asyncio.sleep(0)

    made = Frames(handle)
    Source(made, b"")
    made.data_received(sized(frame()) + sized(frame(first=43)))
    made.connection_lost(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert seen == [41]


async def test_what_needs_nothing_to_be_waited_for_is_done_when_the_bytes_are_there() -> None:
    seen: list[Chunk] = []

    async def handle(chunk: Chunk) -> None:
        seen.append(chunk)

    made = Frames(handle)
    Source(made, b"")
    made.data_received(sized(frame()))
    assert seen == [Chunk(41, 2, DATA)]


async def broken(handle: Handle, *frames: bytes) -> None:
    """Raises what is wrong; nothing that comes later is handled."""
    made = Frames(handle)
    running = asyncio.create_task(Source(made, b"".join(map(sized, frames))).run())
    try:
        await made.read()
    finally:
        await running


async def test_a_damaged_chunk_ends_the_reading() -> None:
    async def handle(_chunk: Chunk) -> None:
        """It never comes here."""
        raise AssertionError

    with pytest.raises(ValueError, match="checksum"):
        await broken(handle, frame(crc=1), frame())


@pytest.mark.parametrize("waits", [False, True])
async def test_a_chunk_that_cannot_be_handled_ends_the_reading(*, waits: bool) -> None:
    seen: list[int] = []

    async def handle(chunk: Chunk) -> None:
        seen.append(chunk.first_place)
        if waits:
            await asyncio.sleep(0)
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        made = Frames(handle)
        Source(made, b"")
        made.data_received(sized(frame()) + sized(frame(first=43)))
        await made.read()
    assert seen == [41]


async def test_nothing_is_handled_after_the_stop() -> None:
    seen: list[int] = []
    ended = asyncio.Event()

    async def handle(chunk: Chunk) -> None:
        seen.append(chunk.first_place)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    made = Frames(handle)
    Source(made, b"")
    made.data_received(sized(frame()) + sized(frame(first=43)))
    await asyncio.sleep(0)
    await made.stop()
    assert ended.is_set()
    made.data_received(sized(frame(first=45)))
    await asyncio.sleep(0)
    assert seen == [41]
    with pytest.raises(ConnectionClosed):
        await made.read()
