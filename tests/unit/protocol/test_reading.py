"""Reading frames: what clients may send (RFC 6455 section 5), cut anywhere, and what they may not."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.protocol.frames import BINARY, CLOSE, PING, RSV1, TEXT
from notifier.protocol.reading import PART, FrameError, FrameReader, Message, close_code

FINAL = 0x80
LIMIT = 70_000
MASK = b"\x11\x22\x33\x44"


def frame(payload: bytes, first: int = FINAL | TEXT, mask: bytes = MASK) -> bytes:
    """A client's frame, masked byte by byte."""
    if len(payload) < 126:
        head = struct.pack("!BB", first, 0x80 | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, len(payload))
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def packed(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def messages(reader: FrameReader, data: bytes = b"") -> list[Message]:
    """All that are whole."""
    if data:
        reader.feed(data)
    found = []
    while (message := reader.read()) is not None:
        if message.opcode != PART:
            found.append(message)
    return found


def refused(data: bytes, *, compressed: bool = False) -> int:
    with pytest.raises(FrameError) as caught:
        messages(FrameReader(LIMIT, packed=compressed), data)
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 65535, 65536, LIMIT])
def test_a_message_of_any_length_arrives_as_it_was(size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    assert messages(FrameReader(LIMIT), frame(payload[:size], FINAL | BINARY)) == [Message(BINARY, payload[:size])]


@given(
    parts=st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), max_size=8),
    cuts=st.lists(st.integers(0, 3000), max_size=20),
    mask=st.binary(min_size=4, max_size=4),
)
def test_wherever_the_stream_is_cut_the_same_messages_come_out(
    parts: list[tuple[bool, bytes]], cuts: list[int], mask: bytes
) -> None:
    """Whole messages, and ones in two parts with a ping between them."""
    data, expected = b"", []
    for in_two, payload in parts:
        if in_two:
            data += frame(payload, BINARY, mask) + frame(b"!", FINAL | PING, mask) + frame(payload, FINAL | PART, mask)
            expected += [Message(PING, b"!"), Message(BINARY, payload * 2)]
        else:
            data += frame(payload, FINAL | BINARY, mask)
            expected.append(Message(BINARY, payload))
    reader, found = FrameReader(LIMIT), []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        found += messages(reader, data[begin:end])
    assert found == expected
    assert reader.waiting == 0


def test_frames_that_wait_are_counted() -> None:
    reader = FrameReader(LIMIT)
    data = frame(b"one") + frame(b"two") + frame(b"three")[:-1]
    reader.feed(data)
    assert reader.waiting == len(data)
    reader.read()
    assert reader.waiting == len(data) - len(frame(b"one"))
    assert [message.payload for message in messages(reader)] == [b"two"]
    assert [message.payload for message in messages(reader, frame(b"three")[-1:])] == [b"three"]


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("not masked", b"\x81\x01a"),
        ("an unknown opcode", frame(b"", FINAL | 3)),
        ("an unknown control opcode", frame(b"", FINAL | 0xB)),
        ("a reserved bit", frame(b"", FINAL | 0x20 | TEXT)),
        ("compressed, which was not agreed on", frame(packed(b"a"), FINAL | RSV1 | TEXT)),
        ("a control frame in parts", frame(b"", PING)),
        ("a long control frame", frame(b"a" * 126, FINAL | PING)),
        ("a part of no message", frame(b"a", FINAL | PART)),
        ("a message within another one", frame(b"a", TEXT) + frame(b"b", FINAL | TEXT)),
    ],
)
def test_what_breaks_the_rules_is_1002(what: str, data: bytes) -> None:
    assert refused(data) == 1002, what


@pytest.mark.parametrize("data", [frame(b"\xff"), frame(b"\xc3", TEXT) + frame(b"x", FINAL | PART)])
def test_text_that_is_not_utf8_is_1007(data: bytes) -> None:
    assert refused(data) == 1007


def test_a_character_may_be_cut_between_two_parts() -> None:
    data = frame(b"\xc3", TEXT) + frame(b"\xa4", FINAL | PART)
    assert messages(FrameReader(LIMIT), data) == [Message(TEXT, "ä".encode())]


def test_what_is_too_large_is_refused_before_it_has_come() -> None:
    assert refused(frame(b"a" * (LIMIT + 1))[:14]) == 1009
    assert refused(frame(b"", FINAL | BINARY)[:1] + b"\xff" + b"\xff" * 8) == 1009
    half = LIMIT // 2 + 1
    assert refused(frame(b"a" * half, TEXT) + frame(b"a" * half, FINAL | PART)[:14]) == 1009


# --- compressed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, LIMIT])
def test_a_compressed_message_is_unpacked(size: int) -> None:
    reader = FrameReader(LIMIT, packed=True)
    found = messages(reader, frame(packed(b"a" * size), FINAL | RSV1 | TEXT) * 2 + frame(b"plain"))
    assert found == [Message(TEXT, b"a" * size)] * 2 + [Message(TEXT, b"plain")]


def test_so_is_one_in_parts_and_one_of_several_deflate_streams() -> None:
    data = packed(b"hello hello hello")
    parts = frame(data[:3], RSV1 | TEXT) + frame(data[3:], FINAL | PART)
    compressor = zlib.compressobj(wbits=-15)
    ended = compressor.compress(b"first,") + compressor.flush()  # with its last block marked (RFC 7692, 7.2.3.4)
    found = messages(FrameReader(LIMIT, packed=True), parts + frame(ended + packed(b"second"), FINAL | RSV1 | TEXT))
    assert [message.payload for message in found] == [b"hello hello hello", b"first,second"]


def test_what_unpacks_to_too_much_or_not_at_all_is_refused() -> None:
    assert refused(frame(packed(b"a" * (LIMIT + 1)), FINAL | RSV1 | TEXT), compressed=True) == 1009
    assert refused(frame(b"\x03\x00" * 1000, FINAL | RSV1 | TEXT), compressed=True) == 1009, "a thousand empty streams"
    assert refused(frame(b"\xff\xff", FINAL | RSV1 | TEXT), compressed=True) == 1007
    data = packed(b"hello")
    assert refused(frame(data, TEXT) + frame(b"", FINAL | RSV1 | PART), compressed=True) == 1002


# --- closing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "code"), [(b"", 0), (b"\x03\xe8", 1000), (b"\x0b\xb8why", 3000), (b"\x13\x87", 4999)]
)
def test_the_code_of_a_close_frame_is_read(payload: bytes, code: int) -> None:
    assert messages(FrameReader(LIMIT), frame(payload, FINAL | CLOSE)) == [Message(CLOSE, payload)]
    assert close_code(payload) == code


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_a_code_that_nobody_may_send_is_1002(code: int) -> None:
    with pytest.raises(FrameError) as caught:
        close_code(code.to_bytes(2, "big"))
    assert caught.value.code == 1002


@pytest.mark.parametrize(("payload", "code"), [(b"\x03", 1002), (b"\x03\xe8\xff", 1007)])
def test_a_close_frame_that_cannot_be_read_is_refused(payload: bytes, code: int) -> None:
    with pytest.raises(FrameError) as caught:
        close_code(payload)
    assert caught.value.code == code
