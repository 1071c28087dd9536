"""Chunks: how the stream protocol brings messages, some thousands at once.

RabbitMQ's stream protocol, section "Deliver" (deps/rabbitmq_stream/docs/PROTOCOL.adoc): an entry is a message with its
size before it, or a batch of messages that its publisher may have compressed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from notifier.errors import Rejected

_BATCH = 0x80
_PLAIN, _GZIP = 0, 1
_BATCH_HEADER_BYTES = 11
MAX_BATCH_BYTES = 64 * 2**20
"""What a compressed batch may unfold to: some kilobytes can say that they are gigabytes."""


def messages(data: bytes, entries: int) -> Iterator[bytes | Rejected]:
    """Each message of a chunk in its order; for each of a batch that cannot be read, why.

    Raises ValueError when the bytes are no chunk.
    """
    at, end = 0, len(data)
    for _ in range(entries):
        if at >= end:
            raise ValueError("a chunk has fewer entries than it says")
        if data[at] & _BATCH:
            size = int.from_bytes(data[at + 7 : at + _BATCH_HEADER_BYTES])
            stop = at + _BATCH_HEADER_BYTES + size
            if stop > end:
                raise ValueError("a batch is longer than its chunk")
            yield from _batch(data[at:stop])
        else:
            begin = at + 4
            stop = begin + int.from_bytes(data[at:begin])
            if stop > end:
                raise ValueError("an entry is longer than its chunk")
            yield data[begin:stop]
        at = stop


def _batch(data: bytes) -> Iterator[bytes | Rejected]:
    count = int.from_bytes(data[1:3])
    try:
        found = list(_unfolded(_plain(data), count))
    except (ValueError, zlib.error) as error:
        why = Rejected("unreadable", f"in a batch that cannot be read: {error}")
        for _ in range(count):
            yield why
    else:
        yield from found


def _plain(data: bytes) -> bytes:
    """The messages of a batch as they were before it was compressed. Raises ValueError or zlib.error."""
    compression, size = (data[0] & ~_BATCH) >> 4, int.from_bytes(data[3:7])
    if compression == _PLAIN:
        return data[_BATCH_HEADER_BYTES:]
    if compression != _GZIP:
        raise ValueError("its compression is not gzip")
    if size > MAX_BATCH_BYTES:
        raise ValueError(f"{size} bytes; the limit is {MAX_BATCH_BYTES}")
    plain = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(data[_BATCH_HEADER_BYTES:], size + 1)
    if len(plain) != size:
        raise ValueError("it is not as long as it says")
    return plain


def _unfolded(data: bytes, count: int) -> Iterator[bytes]:
    at = 0
    for _ in range(count):
        begin = at + 4
        at = begin + int.from_bytes(data[at:begin])
        if at > len(data):
            raise ValueError("a message is longer than its batch")
        yield data[begin:at]
