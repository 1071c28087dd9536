"""One of the connections that are looked at closely."""

from __future__ import annotations

from loadtest.frames import BINARY, Frame
from loadtest.traffic import Reader
from loadtest.wire import Wire


class Sample:
    """Parses all frames, and checks and times all publications. `times_ns`: when those of the last `take` were
    published."""

    def __init__(self, wire: Wire, reader: Reader, size: int, rest: bytes) -> None:
        """`size` is that of the bodies."""
        self._decode = wire.decoder()
        self._compressed = wire.compressed
        self._reader = reader
        self._least = wire.smallest(size)
        self._splitter = wire.splitter(rest)
        self._faults: list[str] = []
        self.times_ns: list[int] = []

    @property
    def received(self) -> int:
        return self._reader.received

    def take(self, data: bytes) -> list[Frame]:
        """Answers the frames that are no publications. Raises FrameError."""
        self.times_ns.clear()
        others = []
        for frame in self._splitter.take(data):
            if frame.opcode > BINARY or len(frame.payload) < self._least:
                others.append(frame)
                continue
            try:
                self.times_ns.append(self._reader.take(self._decode(self._message(frame))))
            except ValueError as error:
                self._faults.append(str(error))
        return others

    def _message(self, frame: Frame) -> bytes:
        if frame.packed and not self._compressed:
            raise ValueError("a compressed frame that nobody asked for")
        return frame.message

    def collect_faults(self) -> list[str]:
        """What was wrong since the last call, in words."""
        if not self._faults:
            return []
        found, self._faults = self._faults, []
        return found
