"""What is published: an id that says who sent it, the monotonic time, padding and a checksum over all of it."""

from __future__ import annotations

import random
import zlib

import msgspec
from msgspec import Struct

# Payloads are mostly small; a few are nearly as large as publications may be (64 KiB), so that a client that does not
# read soon falls behind.
PADDING = (10,) * 24 + (200,) * 9 + (2000,) * 4 + (16_000,) * 2 + (60_000,)


class Body(Struct, frozen=True):
    """`id` is `publisher/channel/number`. `channels` are all that the publication is for."""

    id: str
    channels: list[str]
    sent_at: float
    padding: str
    check: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Body).decode


def make(ident: str, channels: list[str], sent_at: float, chance: random.Random) -> bytes:
    padding = "x" * chance.choice(PADDING)
    return _encode(Body(ident, channels, sent_at, padding, _checksum(ident, channels, sent_at, padding)))


def read(data: bytes | msgspec.Raw, channel: str = "") -> tuple[str, float, bool]:
    """The id, the time of sending, and whether it came intact, on a channel it is for."""
    try:
        body = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "", 0.0, False
    intact = body.check == _checksum(body.id, body.channels, body.sent_at, body.padding)
    return body.id, body.sent_at, intact and (not channel or channel in body.channels)


def _checksum(ident: str, channels: list[str], sent_at: float, padding: str) -> int:
    return zlib.crc32(f"{ident} {channels} {sent_at!r} {padding}".encode())
