"""Bytes around messages: WebSocket frames of a server (RFC 6455 section 5.2) and server-sent events.

A server's frames are not masked, so that one frame's bytes are right for every client.
"""

from __future__ import annotations

from notifier.protocol.codes import Disconnect

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
RSV1 = 0x40  # beside an opcode: the payload is compressed (RFC 7692 section 6)
MAX_REASON_BYTES = 123


def frame(opcode: int, payload: bytes) -> bytes:
    """One final, unmasked frame."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (0x80 | opcode, size, payload)
    if size < 65536:
        return b"%c\x7e%b%b" % (0x80 | opcode, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (0x80 | opcode, size.to_bytes(8, "big"), payload)


def close_frame(disconnect: Disconnect) -> bytes:
    """A close frame; the reason is cut to what a control frame may hold, at a character's boundary."""
    reason = disconnect.reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
    return frame(CLOSE, disconnect.code.to_bytes(2, "big") + reason)


def event(data: bytes, *, name: str = "", cursor: str = "") -> bytes:
    """One server-sent event. `data` must be free of newlines, `name` and `cursor` of control characters."""
    head = f"id: {cursor}\n" if cursor else ""
    if name:
        head += f"event: {name}\n"
    return b"%bdata: %b\n\n" % (head.encode(), data)


def cursor_event(cursor: str) -> bytes:
    """An event without data: EventSource takes over the cursor and shows nothing to the app."""
    return b"id: %b\n\n" % cursor.encode()


def retry_event(delay_s: float) -> bytes:
    """How long EventSource waits before it connects again."""
    return retry(delay_s) + b"\n"


def retry(delay_s: float) -> bytes:
    """The same as the beginning of another event."""
    return b"retry: %d\n" % round(delay_s * 1000)
