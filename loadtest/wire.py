"""How a client of one server talks: its opening words, its pings, and where a publication's body is in a message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from loadtest.deflate import NAME, OFFER
from loadtest.events import EventCounter, EventSplitter
from loadtest.frames import CLOSE, Frame, FrameCounter, FrameSplitter, client_frame, first

HTTP_END = b"\r\n\r\n"

Decode = Callable[[bytes], bytes]


class Step(NamedTuple):
    """Send this (if anything), then wait for an answer that contains `until`.

    `framed`: the answers are WebSocket frames; an HTTP answer must have this `status`. The answer must hold `needs` as
    well, `times` times at least, or it is a refusal.
    """

    send: bytes
    until: bytes
    framed: bool = True
    needs: bytes = b""
    times: int = 1
    status: bytes = b" 101 "


class Splitter(Protocol):
    """One connection's bytes, taken apart. Raises FrameError."""

    def take(self, data: bytes) -> list[Frame]: ...


class Counter(Protocol):
    """All connections' publications. `feed` answers what else came."""

    counts: list[int]

    def feed(self, slot: int, buffer: bytearray, length: int) -> list[Frame] | None: ...


class Wire(ABC):
    """`ping` is the payload of the server's own kind of ping (empty: none), `pong` the whole frame to answer with.
    `compressed`: permessage-deflate is agreed on."""

    ping = b""
    pong = b""
    compressed = False

    @abstractmethod
    def steps(self, index: int, *channels: str) -> list[Step]:
        """What connection number `index` does to become a subscriber of the channels."""

    def switch(self, turn: int, before: str, after: str) -> list[Step]:  # noqa: ARG002 - for those who can
        """What a subscriber does to leave one channel for another; `turn` rises from 0 on each connection. Raises
        Unspeakable."""
        raise Unspeakable(f"{type(self).__name__} has no words for leaving a channel")

    @abstractmethod
    def body(self, message: bytes) -> bytes:
        """The body of the one publication in a message. Raises ValueError when it holds something else."""

    def decoder(self) -> Decode:
        """The same for all messages of one connection, in their order, where what came before must be known."""
        return self.body

    def smallest(self, size: int) -> int:
        """How many bytes of payload a frame has at least that holds a publication with a body of this size. All other
        frames after the opening must have fewer."""
        return size

    def splitter(self, rest: bytes) -> Splitter:
        """Of a connection from which this came behind the opening."""
        return FrameSplitter(rest)

    def counter(self, slots: int, size: int) -> Counter:
        """For so many connections, and bodies of this size."""
        return FrameCounter(slots, self.smallest(size))


class Unspeakable(Exception):
    """The server's clients cannot do that."""


class PlainWire(Wire):
    """WebSocket; the channel's name is the first message, answered `ok`; a message is the body itself."""

    def steps(self, index: int, *channels: str) -> list[Step]:  # noqa: ARG002 - all connections are alike
        return [upgrade("/subscribe"), *(Step(client_frame(channel.encode()), b"ok") for channel in channels)]

    def body(self, message: bytes) -> bytes:
        return message


class EventsWire(Wire):
    """Server-sent events; who has got the answer's headers is subscribed. `chunked`: the answer's body is."""

    chunked = False

    @abstractmethod
    def path(self, channels: Sequence[str]) -> str:
        """What to ask for."""

    def steps(self, index: int, *channels: str) -> list[Step]:  # noqa: ARG002 - all connections are alike
        return [listen(self.path(channels))]

    def body(self, message: bytes) -> bytes:
        return message

    def splitter(self, rest: bytes) -> Splitter:
        return EventSplitter(rest, chunked=self.chunked)

    def counter(self, slots: int, size: int) -> Counter:  # noqa: ARG002 - bodies are counted by how they begin
        return EventCounter(slots)


def listen(path: str, headers: str = "") -> Step:
    """The request of an event source."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{headers}\r\n"
    return Step(request.encode(), HTTP_END, framed=False, needs=b"text/event-stream", status=b" 200 ")


def upgrade(path: str, *, compressed: bool = False, protocol: str = "") -> Step:
    """The opening handshake (RFC 6455 section 4.1). The key is always the one of the RFC's example."""
    extras = (OFFER if compressed else "") + (f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else "")
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extras}\r\n"
    )
    return Step(request.encode(), HTTP_END, framed=False, needs=NAME if compressed else b"")


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
        if self._seen.startswith(b"HTTP/") and step.status not in self._seen[:16]:
            raise Refused(self._seen[:200].decode(errors="replace"))
        answer, found, rest = self._seen.partition(step.until)
        if found:
            _check(step, answer)
            self._seen = rest
        elif len(answer) > 2**16:
            raise Refused(answer[:200].decode(errors="replace"))
        return bool(found)

    def _answered_in_frames(self, step: Step) -> bool:
        while (one := first(self._seen)) is not None:
            frame, end = one
            self._seen = self._seen[end:]
            message = frame.message
            if step.until in message:
                _check(step, message)
                return True
            if frame.opcode == CLOSE or b'"error"' in message:
                raise Refused(message[:200].decode(errors="replace"))
        return False


def _check(step: Step, answer: bytes) -> None:
    if answer.count(step.needs) < step.times:
        raise Refused(f"without {step.needs.decode()}: {answer[:500].decode(errors='replace')}")
