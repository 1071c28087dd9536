"""Chunks as they come in frames (deps/rabbitmq_stream/docs/PROTOCOL.adoc, section Deliver)."""

import asyncio
import struct
import time
import zlib

import pytest
from rstream.connection import ConnectionClosed
from rstream.constants import OffsetType

from notifier.broker.stream import LONGEST_S, Address, Chunk, StreamConnection, _Connection, unpacked

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


async def connection(handle: object, *frames: bytes) -> _Connection:
    """One to which these frames have come at once, and then nothing more."""
    made = _Connection("127.0.0.1", 1, None, handle)  # type: ignore[arg-type]
    made._reader = reader = asyncio.StreamReader()
    reader.feed_data(b"".join(map(sized, frames)))
    reader.feed_eof()
    return made


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

    with pytest.raises(ConnectionClosed):
        await (await connection(handle, *(frame(first=place) for place in range(20)))).read_frame()
    assert seen == list(range(20))


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
    with pytest.raises(ConnectionClosed):
        await (await connection(handle, *(frame() for _ in range(60)))).read_frame()
    ended = True
    await watching
    assert turns > 60 / 6  # a few chunks for each; one or two turns in all, were there none in between


async def test_a_damaged_chunk_ends_the_reading() -> None:
    async def handle(_chunk: Chunk) -> None:
        """It never comes here."""
        raise AssertionError

    with pytest.raises(ValueError, match="checksum"):
        await (await connection(handle, frame(crc=1))).read_frame()


@pytest.mark.parametrize(("error", "unreadable"), [(ConnectionResetError(), False), (ValueError(), True)])
async def test_only_what_cannot_be_understood_is_unreadable_and_not_a_connection_that_was_lost(
    error: Exception, unreadable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def subscribed(*_: object) -> None:
        """The broker would have answered."""

    async def credit(*_: object) -> None:
        raise error

    one = StreamConnection(Address("127.0.0.1", 1, "guest", "guest", "/", None, ""), "test", 60, 5)
    monkeypatch.setattr(one._client, "subscribe", subscribed)
    monkeypatch.setattr(one._client, "credit", credit)
    await one.subscribe("stream", OffsetType.FIRST, None, 1, lambda _chunk: one.credit(1))
    with pytest.raises(ConnectionClosed):
        await one._handle(Chunk(0, 2, DATA))
    assert one.unreadable is unreadable
    assert one.lost.done() is unreadable
    await one.close()
