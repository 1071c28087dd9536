"""Frames split and counted, however they are cut, against an independent implementation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import SERVER, Protocol

from loadtest import frames
from loadtest.frames import Frame, FrameCounter, FrameError, client_frame, server_frame, split

LEAST = 20
SIZES = st.sampled_from([0, 2, LEAST - 1, LEAST, 125, 126, 200, 300])


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_client_frame_is_read_by_a_server(size: int) -> None:
    protocol = Protocol(SERVER, max_size=None)
    protocol.receive_data(client_frame(b"x" * size))
    [event] = protocol.events_received()
    assert event.opcode is Opcode.TEXT  # type: ignore[union-attr]
    assert event.data == b"x" * size  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_split_gives_back_what_was_framed_and_keeps_the_rest(size: int) -> None:
    whole = server_frame(b"x" * size)
    assert split(whole + whole[:-1]) == ([Frame(frames.TEXT, b"x" * size)], whole[:-1])


def packed_frame(payload: bytes) -> bytes:
    return server_frame(payload, frames.TEXT | frames.RSV1)


@pytest.mark.parametrize(
    "data",
    [b"\x01\x00", b"\x81\x80", b"\xa1\x00", b"\xc9\x00"],
    ids=["fragment", "masked", "another extension", "compressed ping"],
)
def test_frames_that_no_server_here_may_send_are_errors(data: bytes) -> None:
    with pytest.raises(FrameError):
        split(data)


def test_a_compressed_message_is_opened() -> None:
    [frame], _ = split(packed_frame(b"\xf2\x48\xcd\xc9\xc9\x07\x00"))  # RFC 7692 section 7.2.3.1
    assert frame.message == b"Hello"


@given(
    st.lists(st.tuples(SIZES, st.booleans()), max_size=30),
    st.lists(st.integers(1, 1500), min_size=1, max_size=20),
)
def test_every_publication_is_counted_once_wherever_the_chunks_end(
    publications: list[tuple[int, bool]], cuts: list[int]
) -> None:
    sizes = [size for size, _ in publications]
    stream = b"".join((packed_frame if packed else server_frame)(b"x" * size) for size, packed in publications)
    counter = FrameCounter(1, LEAST)
    others: list[Frame] = []
    turn = 0
    while stream:
        cut = cuts[turn % len(cuts)]
        turn += 1
        chunk, stream = stream[:cut], stream[cut:]
        others += counter.feed(0, bytearray(chunk + b"left from before"), len(chunk)) or []
    assert counter.counts == [sum(size >= LEAST for size in sizes)]
    assert [len(frame.payload) for frame in others] == [size for size in sizes if size < LEAST]


def test_streams_are_counted_apart() -> None:
    counter = FrameCounter(3, LEAST)
    whole = server_frame(b"x" * 200)
    counter.feed(2, bytearray(whole[:50]), 50)
    counter.feed(1, bytearray(whole * 12), 12 * len(whole))
    counter.feed(2, bytearray(whole[50:]), len(whole) - 50)
    assert counter.counts == [0, 12, 1]


@pytest.mark.parametrize("size", [LEAST, 125, 126, 65_535, 65_536])
def test_frames_with_headers_of_any_length_are_counted(size: int) -> None:
    counter = FrameCounter(1, LEAST)
    chunk = bytearray(server_frame(b"x" * size) * 3)
    for _ in range(3):
        assert counter.feed(0, chunk, len(chunk)) is None
    assert counter.counts == [9]


def test_compressed_frames_of_one_size_are_counted() -> None:
    counter = FrameCounter(1, LEAST)
    chunk = bytearray(packed_frame(b"x" * 200) * 12)
    for _ in range(3):
        assert counter.feed(0, chunk, len(chunk)) is None
    assert counter.counts == [36]


def test_frames_that_grow_during_a_run_are_counted() -> None:
    """A publication's offset gets another digit."""
    counter = FrameCounter(1, LEAST)
    stream = [server_frame(b"x" * (200 + (number >= 37))) for number in range(100)]
    for begin in range(0, 100, 10):
        chunk = bytearray(b"".join(stream[begin : begin + 10]))
        counter.feed(0, chunk, len(chunk))
    assert counter.counts == [100]


def test_one_wrong_header_among_many_right_ones_is_seen() -> None:
    counter = FrameCounter(1, LEAST)
    whole = server_frame(b"x" * 200)
    counter.feed(0, bytearray(whole), len(whole))
    chunk = bytearray(whole * 5)
    chunk[3 * len(whole)] = 0x41
    with pytest.raises(FrameError):
        counter.feed(0, chunk, len(chunk))


def test_pings_are_handed_out() -> None:
    counter = FrameCounter(1, LEAST)
    chunk = bytearray(server_frame(b"x" * 200) + server_frame(b"{}") + server_frame(b"p", frames.PING))
    assert counter.feed(0, chunk, len(chunk)) == [Frame(frames.TEXT, b"{}"), Frame(frames.PING, b"p")]
