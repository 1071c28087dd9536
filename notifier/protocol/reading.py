"""Reading: the frames of a client's WebSocket (RFC 6455 section 5), to messages.

Between two frames a reader holds nothing: there is one for each connection, and most of them are silent.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from notifier.protocol.frames import BINARY, CLOSE, PING, PONG, RSV1, TEXT

PART = 0x0  # of a message, in a frame of its own; as an opcode: a continuation
_FINAL = 0x80
_RESERVED = 0x70
_OPCODES = frozenset({PART, TEXT, BINARY, CLOSE, PING, PONG})
_MOST_IN_CONTROL = 125
_TAIL = b"\x00\x00\xff\xff"
_MOST_MEMBERS = 16  # deflate streams in one message; usually it is one (RFC 7692 section 7.2.3.4)

PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG = 1002, 1007, 1009


class FrameError(Exception):
    """A frame after which the connection cannot go on. `code` is for the close frame (RFC 6455 section 7.4.1)."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


class Message(NamedTuple):
    """A whole message, a control frame, or with the opcode `PART` word of a frame whose message goes on. The payload is
    unmasked and unpacked; that of a text is UTF-8."""

    opcode: int
    payload: bytes


_PART = Message(PART, b"")


def is_text(data: bytes, text: bytes) -> bool:
    """Whether these bytes are one frame of a client's that holds exactly this text of at most 125 bytes."""
    if len(data) != len(text) + 6 or data[0] != _FINAL | TEXT or data[1] != 0x80 | len(text):
        return False
    return _unmasked(data[6:], data[2:6]) == text


class FrameReader:
    """`feed` it bytes, then `read` until there is nothing. With `packed`, messages may be compressed, each with a
    window of its own (permessage-deflate with `client_no_context_takeover`)."""

    __slots__ = ("_at", "_begun", "_buffer", "_first", "_max_size", "_packed")

    def __init__(self, max_size: int, *, packed: bool = False) -> None:
        """Messages may have up to `max_size` bytes, packed and unpacked."""
        self._max_size = max_size
        self._packed = packed
        self._buffer: bytes | bytearray = b""
        self._at = 0
        self._begun: bytearray | None = None  # what there is of a message in parts; `_first` is its first byte
        self._first = 0

    @property
    def waiting(self) -> int:
        """How many bytes have not been read."""
        return len(self._buffer) - self._at

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a message."""
        return not self._buffer and self._begun is None

    def feed(self, data: bytes) -> None:
        if not self._buffer:
            self._buffer = data
            return
        if not isinstance(self._buffer, bytearray):
            self._buffer = bytearray(self._buffer)
        del self._buffer[: self._at]
        self._at = 0
        self._buffer += data

    def forget(self) -> None:
        """What has not been read."""
        self._buffer, self._at, self._begun = b"", 0, None

    def read(self) -> Message | None:
        """The next frame's message; None when its end has not come yet. Raises FrameError."""
        frame = self._frame()
        if frame is None:
            return None
        first, payload = frame
        opcode = first & 0x0F
        if opcode >= CLOSE:
            return Message(opcode, payload)
        if self._begun is None:
            if first & _FINAL:
                return self._whole(first, payload)
            self._begun, self._first = bytearray(payload), first
            return _PART
        self._begun += payload
        if not first & _FINAL:
            return _PART
        whole, self._begun = bytes(self._begun), None
        return self._whole(self._first, whole)

    def _frame(self) -> tuple[int, bytes] | None:
        """A frame's first byte and its payload, unmasked."""
        buffer, begin = self._buffer, self._at
        if len(buffer) < begin + 2:
            return None
        first, second = buffer[begin], buffer[begin + 1]
        self._check_first(first)
        if not second & 0x80:
            raise FrameError(PROTOCOL_ERROR, "a client's frames must be masked")  # RFC 6455 section 5.1
        size, begin = second & 0x7F, begin + 2
        if first & 0x0F >= CLOSE:
            if size > _MOST_IN_CONTROL:
                raise FrameError(PROTOCOL_ERROR, "a control frame is too long")
        elif size >= 126:
            width = 2 if size == 126 else 8
            if len(buffer) < begin + width:
                return None
            size, begin = int.from_bytes(buffer[begin : begin + width], "big"), begin + width
        if size + len(self._begun or b"") > self._max_size and first & 0x0F < CLOSE:
            raise FrameError(TOO_BIG, f"a message has at most {self._max_size} bytes")  # before any of it is kept
        end = begin + 4 + size
        if len(buffer) < end:
            return None
        payload = _unmasked(buffer[begin + 4 : end], buffer[begin : begin + 4])
        if end == len(buffer):
            self._buffer, self._at = b"", 0
        else:
            self._at = end
        return first, payload

    def _check_first(self, first: int) -> None:
        """Raises FrameError for a frame that may not come here."""
        opcode, reserved = first & 0x0F, first & _RESERVED
        if opcode not in _OPCODES:
            raise FrameError(PROTOCOL_ERROR, "unknown opcode")
        if reserved and not (reserved == RSV1 and self._packed and opcode != PART):
            raise FrameError(PROTOCOL_ERROR, "reserved bits are set")
        if opcode >= CLOSE:
            if not first & _FINAL:
                raise FrameError(PROTOCOL_ERROR, "a control frame is in parts")
        elif (opcode == PART) is (self._begun is None):
            raise FrameError(PROTOCOL_ERROR, "a part of no message, or a message within another one")

    def _whole(self, first: int, payload: bytes) -> Message:
        opcode = first & 0x0F
        if first & RSV1:
            payload = _unpacked(payload, self._max_size)
        if opcode == TEXT:
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise FrameError(INVALID_TEXT, "a text is not UTF-8") from None
        return Message(opcode, payload)


def close_code(payload: bytes) -> int:
    """The code in a peer's close frame, 0 when there is none. Raises FrameError (RFC 6455 sections 5.5.1, 7.4)."""
    if not payload:
        return 0
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (1000 <= code <= 1014 or 3000 <= code < 5000) or code in (1004, 1005, 1006):
        raise FrameError(PROTOCOL_ERROR, "a code that nobody may send")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_TEXT, "a reason is not UTF-8") from None
    return code


def _unmasked(payload: bytes | bytearray, mask: bytes | bytearray) -> bytes:
    """As one number, since Python has no faster way to combine bytes (RFC 6455 section 5.3)."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def _unpacked(packed: bytes, max_size: int) -> bytes:
    """Raises FrameError; stops as soon as it is too much (CWE-409)."""
    rest, found = packed + _TAIL, b""
    try:
        for _ in range(_MOST_MEMBERS):
            inflating = zlib.decompressobj(-zlib.MAX_WBITS)
            found += inflating.decompress(rest, max_size + 1 - len(found))
            if len(found) > max_size:
                break
            rest = inflating.unused_data
            if not inflating.eof or not rest:
                return found
    except zlib.error:
        raise FrameError(INVALID_TEXT, "a message cannot be unpacked") from None
    raise FrameError(TOO_BIG, f"a message has at most {max_size} bytes")
