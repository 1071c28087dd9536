"""Chunks as they come in frames (deps/rabbitmq_stream/docs/PROTOCOL.adoc, section Deliver)."""

import struct
import zlib

import pytest

from notifier.broker.stream import Chunk, unpacked

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
