"""Compressed messages (permessage-deflate, RFC 7692), as a client opens them. Pure."""

from __future__ import annotations

import zlib

OFFER = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
NAME = b"permessage-deflate"
# What a sender leaves off at a message's end (RFC 7692 section 7.2.1).
TAIL = b"\x00\x00\xff\xff"
# No publication here is as long; a few bytes can stand for very many.
MOST = 2**24


def inflate(payload: bytes) -> bytes:
    """The message in a compressed frame. Raises ValueError.

    It must stand alone: references to earlier messages are refused, although a client that keeps its window would
    understand them, since a server that sends the same bytes to everybody may not make any.
    """
    opener = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        message = opener.decompress(payload + TAIL, MOST)
    except zlib.error as error:
        raise ValueError(f"not a compressed message: {error}") from error
    if opener.unconsumed_tail:
        raise ValueError(f"a compressed message of more than {MOST:,} bytes")
    return message
