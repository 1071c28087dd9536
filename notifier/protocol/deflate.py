"""permessage-deflate (RFC 7692): frames compressed once, whoever gets them.

Every message is compressed with a window of its own. A client that keeps its window between messages decodes such
frames too, because nothing in them points back beyond their own beginning; so one frame's bytes are right for all.
"""

from __future__ import annotations

import zlib

from notifier.protocol.frames import RSV1, frame

# Below this a frame grows, or saves less than one packet's header.
SMALLEST = 96
LEVEL, MEMORY_LEVEL = 1, 8
_TAIL = b"\x00\x00\xff\xff"


class Deflated:
    """The framing for one opcode and one size of the client's window, in bits (9 to 15)."""

    __slots__ = ("_opcode", "_window_bits")

    def __init__(self, opcode: int, window_bits: int) -> None:
        self._opcode = opcode
        self._window_bits = window_bits

    def __call__(self, payload: bytes) -> bytes:
        if len(payload) < SMALLEST:
            return frame(self._opcode, payload)
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -self._window_bits, MEMORY_LEVEL)
        packed = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        packed = packed.removesuffix(_TAIL)  # RFC 7692 section 7.2.1
        if len(packed) >= len(payload):
            return frame(self._opcode, payload)
        return frame(self._opcode | RSV1, packed)
