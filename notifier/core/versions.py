"""Which version of a channel's state was published last, so that an older one that comes late is dropped.

As with repeats the answer depends on the log alone: a version counts against the last one that was taken within the N
records before it.
"""

from __future__ import annotations


class Versions:
    """Only records that have a version are looked at."""

    __slots__ = ("_last", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        # channel -> (epoch of the versions, version, offset); in the order of the offsets
        self._last: dict[str, tuple[str, int, int]] = {}

    def is_newer(self, channel: str, epoch: str, version: int, offset: int) -> bool:
        """Whether the record at this offset is to be taken (protocol.md section 5.3); it is the last one then."""
        last = self._last
        oldest = offset - self._window
        while last and next(iter(last.values()))[2] < oldest:
            del last[next(iter(last))]
        known = last.get(channel)
        if known is not None and version <= known[1] and (not epoch or epoch == known[0]):
            return False
        last.pop(channel, None)
        last[channel] = (epoch, version, offset)
        return True

    def taken_at(self, channel: str) -> int:
        """The offset of the last versioned publication that was taken; 0 when none is known."""
        known = self._last.get(channel)
        return known[2] if known else 0

    def clear(self) -> None:
        self._last.clear()
