"""Server-sent events, taken apart and counted however they are cut."""

from __future__ import annotations

import pytest

from loadtest.events import EventCounter, EventSplitter
from loadtest.frames import FrameError
from loadtest.traffic import Bodies

BODIES = [Bodies(200).make(number, 1000 + number) for number in range(5)]
STREAM = b": hello\n\n" + b"".join(b"event: e\nid: 1\ndata: %s\n\n" % body for body in BODIES) + b"id: 9\n\n"


def chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def chunked(data: bytes, size: int) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in chunks(data, size))


@pytest.mark.parametrize("read", [1, 3, 7, 64, 5000])
@pytest.mark.parametrize("chunk", [0, 5, 100, 4096])
def test_events_come_out_whole(read: int, chunk: int) -> None:
    sent = chunked(STREAM, chunk) if chunk else STREAM
    splitter = EventSplitter(sent[:2], chunked=bool(chunk))
    found = [frame.payload for part in chunks(sent[2:], read) for frame in splitter.take(part)]
    assert found == [b"", *BODIES, b""]


def test_data_of_several_lines_is_one_text() -> None:
    [frame] = EventSplitter().take(b"data: a\ndata:b\n\n")
    assert frame.payload == b"a\nb"


def test_what_is_no_chunk_is_told() -> None:
    with pytest.raises(FrameError, match="not the size of a chunk"):
        EventSplitter(chunked=True).take(b"hello\r\n")


@pytest.mark.parametrize("read", [1, 3, 5, 6, 7, 64, 5000])
def test_publications_are_counted_wherever_a_read_ends(read: int) -> None:
    counter = EventCounter(2)
    for part in chunks(STREAM, read):
        buffer = bytearray(part + b'{"t":"')  # what an earlier, longer read has left behind
        counter.feed(1, buffer, len(part))
    assert counter.counts == [0, len(BODIES)]
