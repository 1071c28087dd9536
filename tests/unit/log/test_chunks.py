"""Chunks of the stream protocol: whatever is in them, each place has its message or a reason why not."""

from __future__ import annotations

import contextlib
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.errors import Rejected
from notifier.log import chunks

MESSAGES = st.lists(st.binary(max_size=300), min_size=1, max_size=20)


def entry(message: bytes) -> bytes:
    return len(message).to_bytes(4) + message


def batch(
    messages: list[bytes], compression: int = 0, size: int | None = None, count: int | None = None, cut: int = 0
) -> bytes:
    """`size` and `count` are what it says of itself; `cut` bytes are missing at its end."""
    plain = b"".join(map(entry, messages))
    plain = plain[: len(plain) - cut]
    packed = gzip.compress(plain, mtime=0) if compression == 1 else plain
    head = bytes([0x80 | compression << 4]) + (len(messages) if count is None else count).to_bytes(2)
    return head + (len(plain) if size is None else size).to_bytes(4) + len(packed).to_bytes(4) + packed


@given(MESSAGES)
def test_messages_come_as_they_are_in_their_order(messages: list[bytes]) -> None:
    data = b"".join(map(entry, messages))
    assert list(chunks.messages(data, len(messages))) == messages


@pytest.mark.parametrize("compression", [0, 1])
def test_batches_are_unfolded_among_the_others(compression: int) -> None:
    data = entry(b"1") + batch([b"2", b"", b"3" * 500], compression) + entry(b"4")
    assert list(chunks.messages(data, 3)) == [b"1", b"2", b"", b"3" * 500, b"4"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (batch([b"2", b"3"], 2), "its compression is not gzip"),
        (batch([b"2", b"3"], 1, size=5), "it is not as long as it says"),
        (batch([b"2", b"3"], 1, size=chunks.MAX_BATCH_BYTES + 1), "the limit is"),
        (batch([b"2" * 9], count=2, cut=1), "longer than its batch"),
    ],
    ids=["compression", "length", "limit", "end"],
)
def test_each_message_of_a_batch_that_cannot_be_read_has_the_reason(data: bytes, why: str) -> None:
    """So that the places of those behind it are right."""
    found = list(chunks.messages(entry(b"1") + data + entry(b"4"), 3))
    assert (found[0], found[-1], len(found)) == (b"1", b"4", 4)
    for rejected in found[1:3]:
        assert isinstance(rejected, Rejected)
        assert why in rejected.detail


def test_a_small_batch_does_not_unfold_to_more_than_it_says() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    head = bytes([0x90]) + (1).to_bytes(2) + (1000).to_bytes(4) + len(bomb).to_bytes(4)
    [found] = chunks.messages(head + bomb, 1)
    assert isinstance(found, Rejected)


@given(MESSAGES, st.integers(min_value=1))
def test_what_is_cut_off_is_no_chunk(messages: list[bytes], cut: int) -> None:
    data = b"".join(map(entry, messages))
    with pytest.raises(ValueError):
        list(chunks.messages(data[: -(cut % len(data) or 1)], len(messages)))


@given(st.binary(max_size=200), st.integers(0, 50))
def test_no_bytes_break_anything(data: bytes, entries: int) -> None:
    with contextlib.suppress(ValueError):
        list(chunks.messages(data, entries))
