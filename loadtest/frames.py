"""WebSocket frames (RFC 6455 section 5.2) as a client sends, splits and counts them. Pure."""

from __future__ import annotations

import struct
from typing import NamedTuple

from loadtest.deflate import inflate

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
RSV1 = 0x40
MASKED = 0x80
SHORT, LONG, LONGER = 125, 126, 127
# A client must mask. With the key 0 the masked bytes are the bytes themselves; the server's work is the same.
MASK_KEY = b"\0\0\0\0"


class Frame(NamedTuple):
    """`packed`: its payload is compressed (RSV1, RFC 7692 section 6)."""

    opcode: int
    payload: bytes
    packed: bool = False

    @property
    def message(self) -> bytes:
        """The payload before it was compressed. Raises ValueError."""
        return inflate(self.payload) if self.packed else self.payload


class FrameError(ValueError):
    """The bytes are no frame that a server may send here."""


def header(length: int, opcode: int, mask: int = 0) -> bytes:
    """The first bytes of a whole message with a payload of this many bytes."""
    first = FIN | opcode
    if length <= SHORT:
        return bytes((first, mask | length))
    if length < 2**16:
        return struct.pack("!BBH", first, mask | LONG, length)
    return struct.pack("!BBQ", first, mask | LONGER, length)


def server_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    return header(len(payload), opcode) + payload


def client_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    return header(len(payload), opcode, MASKED) + MASK_KEY + payload


def first(data: bytes, position: int = 0) -> tuple[Frame, int] | None:
    """A server's frame that begins at the position, and where the next one begins; None while it is incomplete.

    Raises FrameError.
    """
    have = len(data)
    start = position + 2
    if start > have:
        return None
    opening, length = data[position], data[position + 1]
    opcode = opening & 0x0F
    packed = opening == FIN | RSV1 | opcode
    if not packed and opening != FIN | opcode:
        raise FrameError(f"a fragment or an unknown extension: first byte {opening:#04x}")
    if packed and opcode > BINARY:
        raise FrameError(f"a compressed control frame: first byte {opening:#04x}")
    if length > SHORT:
        if length > LONGER:
            raise FrameError("a masked frame from a server")
        start = position + (4 if length == LONG else 10)
        if start > have:
            return None
        length = int.from_bytes(data[position + 2 : start], "big")
    end = start + length
    return None if end > have else (Frame(opcode, data[start:end], packed), end)


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """The complete frames of a server, and the bytes of the one that is not complete. Raises FrameError."""
    found = []
    position = 0
    while (one := first(data, position)) is not None:
        frame, position = one
        found.append(frame)
    return found, data[position:]


class FrameSplitter:
    """One connection's frames, whole ones only, however its bytes are cut."""

    def __init__(self, rest: bytes = b"") -> None:
        self._rest = rest

    def take(self, data: bytes) -> list[Frame]:
        """Raises FrameError."""
        frames, self._rest = split(self._rest + data)
        return frames


class FrameCounter:
    """Counts the publications in many streams of frames, exactly, however the streams are cut into chunks.

    A publication is a text or binary frame whose payload has at least `least` bytes; smaller ones are pings and
    answers, which `feed` hands out. Every header is looked at. Nearly always all frames of a chunk are of one size:
    then one `struct` takes all headers out at once, in C, also where a chunk begins or ends within a frame.
    """

    def __init__(self, slots: int, least: int) -> None:
        self.counts = [0] * slots
        self._rests = [b""] * slots
        self._least = least
        self._expect(header(max(least, LONG), TEXT), max(least, LONG))

    def feed(self, slot: int, buffer: bytearray, length: int) -> list[Frame] | None:
        """Take the first `length` bytes of the buffer as the stream's next. Answers frames that are no publications.

        Raises FrameError.
        """
        rest = self._rests[slot]
        missing = self._size - len(rest) if rest else 0
        times, left = divmod(length - missing, self._size)
        if (
            0 <= missing <= length
            and (times or rest)
            and self._is_usual(rest, buffer)
            and self._usual_follow(buffer, missing, times)
        ):
            self.counts[slot] += times + bool(rest)
            self._rests[slot] = b""
            if left:
                return self._walk(slot, bytes(memoryview(buffer)[length - left : length]))
            return None
        return self._walk(slot, bytes(memoryview(buffer)[:length]))

    def _is_usual(self, rest: bytes, buffer: bytearray) -> bool:
        """Whether the frame that was cut off, if there is one, is of the usual size."""
        width = len(self._header)
        return not rest or (rest[:width] + buffer[: max(0, width - len(rest))]) == self._header

    def _usual_follow(self, buffer: bytearray, start: int, times: int) -> bool:
        return not times or self._headers(times).unpack_from(buffer, start) == self._expected[times]

    def _headers(self, times: int) -> struct.Struct:
        """Takes the headers out of so many frames of the usual size."""
        known = self._structs.get(times)
        if known is None:
            width = len(self._header)
            known = self._structs[times] = struct.Struct(f"{width}s{self._size - width}x" * times)
            self._expected[times] = (self._header,) * times
        return known

    def _walk(self, slot: int, data: bytes) -> list[Frame] | None:
        frames, self._rests[slot] = split(self._rests[slot] + data)
        others = None
        last = None
        for frame in frames:
            if frame.opcode <= BINARY and len(frame.payload) >= self._least:
                self.counts[slot] += 1
                last = frame
            else:
                others = others or []
                others.append(frame)
        if last is not None and len(last.payload) + len(self._header) != self._size:
            self._expect(header(len(last.payload), last.opcode | (RSV1 if last.packed else 0)), len(last.payload))
        return others

    def _expect(self, usual: bytes, payload_bytes: int) -> None:
        """From now on the usual frame has this header and so many bytes of payload."""
        self._header = usual
        self._size = len(usual) + payload_bytes
        self._structs: dict[int, struct.Struct] = {}
        self._expected: dict[int, tuple[bytes, ...]] = {}
