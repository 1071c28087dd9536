"""Server-sent events (HTML standard, section 9.2) in an endless HTTP answer, split and counted. Pure."""

from __future__ import annotations

from collections.abc import Callable

from loadtest.frames import TEXT, Frame, FrameError
from loadtest.traffic import MARK

LONGEST_SIZE = 16  # digits of a chunk's size


class Dechunker:
    """Takes the chunks' frames off (RFC 9112, section 7.1). The end of the body is not looked for: it has none."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0

    def take(self, data: bytes) -> bytes:
        """Raises FrameError."""
        self._rest += data
        found = []
        while self._rest:
            if self._left:
                part = self._rest[: self._left]
                found.append(part)
                self._left -= len(part)
                self._rest = self._rest[len(part) :]
                continue
            line, ended, rest = self._rest.partition(b"\r\n")
            if not ended:
                break
            self._rest = rest
            self._left = self._size(line) if line else 0  # an empty line ends the chunk before
        return b"".join(found)

    @staticmethod
    def _size(line: bytes) -> int:
        try:
            return int(line[:LONGEST_SIZE].partition(b";")[0], 16)
        except ValueError:
            raise FrameError(f"not the size of a chunk: {line[:40]!r}") from None


class EventSplitter:
    """One connection's events: the data of each as the payload of a text frame, empty where it has none."""

    def __init__(self, rest: bytes = b"", *, chunked: bool = False) -> None:
        self._dechunk: Callable[[bytes], bytes] = Dechunker().take if chunked else bytes
        self._rest = self._dechunk(rest)

    def take(self, data: bytes) -> list[Frame]:
        """Raises FrameError."""
        *events, self._rest = (self._rest + self._dechunk(data)).split(b"\n\n")
        return [Frame(TEXT, _data(event)) for event in events]


class EventCounter:
    """Counts the publications in many streams of events by how their bodies begin, in C, also where a read ends within
    that. Where the border of two chunks (RFC 9112) lies within it, it is missed: the total shows that."""

    def __init__(self, slots: int) -> None:
        self.counts = [0] * slots
        self._tails = [b""] * slots

    def feed(self, slot: int, buffer: bytearray, length: int) -> None:
        """Take the first `length` bytes of the buffer as the stream's next."""
        keep = len(MARK) - 1
        seam = self._tails[slot] + buffer[: min(keep, length)]
        self.counts[slot] += buffer.count(MARK, 0, length) + seam.count(MARK)
        self._tails[slot] = bytes(buffer[length - keep : length]) if length >= keep else bytes(seam[-keep:])


def _data(event: bytes) -> bytes:
    lines = [line for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
