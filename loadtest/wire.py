"""How a client of one server talks: its opening words, its pings, and where a publication's body is in a frame."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from loadtest.frames import CLOSE, client_frame, first

HTTP_END = b"\r\n\r\n"


class Step(NamedTuple):
    """Send this (if anything), then wait for an answer that contains `until`.

    `framed`: the answers are WebSocket frames.
    """

    send: bytes
    until: bytes
    framed: bool = True


class Wire(Protocol):
    """`ping` is the payload of the server's own kind of ping (empty: none), `pong` the whole frame to answer with."""

    ping: bytes
    pong: bytes

    def steps(self, index: int, channel: str) -> list[Step]:
        """What connection number `index` does to become a subscriber of the channel."""
        ...

    def body(self, payload: bytes) -> bytes:
        """The body of the one publication in a frame. Raises ValueError when it holds something else."""
        ...


class PlainWire:
    """WebSocket; the channel's name is the first message, answered `ok`; a frame's payload is the body itself."""

    ping = b""
    pong = b""

    def steps(self, index: int, channel: str) -> list[Step]:  # noqa: ARG002 - all connections are alike
        return [upgrade("/subscribe"), Step(client_frame(channel.encode()), b"ok")]

    def body(self, payload: bytes) -> bytes:
        return payload


def upgrade(path: str) -> Step:
    """The opening handshake (RFC 6455 section 4.1). The key is always the one of the RFC's example."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return Step(request.encode(), HTTP_END, framed=False)


class Refused(Exception):
    """The server's answer to an opening step is not the one that was waited for."""


class Dialogue:
    """One connection's opening, as bytes in and bytes out."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps
        self._at = 0
        self._seen = b""

    @property
    def done(self) -> bool:
        return self._at == len(self._steps)

    @property
    def rest(self) -> bytes:
        """What came after the last answer."""
        return self._seen

    def begin(self) -> bytes:
        return self._steps[0].send

    def take(self, data: bytes) -> bytes:
        """What to send next; nothing while the answer is incomplete, and when the dialogue is done. Raises Refused."""
        self._seen += data
        while not self.done:
            step = self._steps[self._at]
            if not (self._answered_in_frames(step) if step.framed else self._answered(step)):
                break
            self._at += 1
            if not self.done and (words := self._steps[self._at].send):
                return words
        return b""

    def _answered(self, step: Step) -> bool:
        if self._seen.startswith(b"HTTP/") and b" 101 " not in self._seen[:16]:
            raise Refused(self._seen[:200].decode(errors="replace"))
        answer, found, rest = self._seen.partition(step.until)
        if found:
            self._seen = rest
        elif len(answer) > 2**16:
            raise Refused(answer[:200].decode(errors="replace"))
        return bool(found)

    def _answered_in_frames(self, step: Step) -> bool:
        while (one := first(self._seen)) is not None:
            frame, end = one
            self._seen = self._seen[end:]
            if step.until in frame.payload:
                return True
            if frame.opcode == CLOSE or b'"error"' in frame.payload:
                raise Refused(frame.payload[:200].decode(errors="replace"))
        return False
