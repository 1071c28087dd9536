"""Which message ids were seen on a channel within the last N records.

The answer depends on the log alone: a record is a repeat when the same id stands on the same channel at one of the N
places before it, whether that one was a repeat itself or not. So every worker that has read those N gives the same.
"""

from __future__ import annotations


class Repeats:
    """On the fast lane: one look-up for each record that has a message id."""

    __slots__ = ("_seen", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        # (channel, message id) -> (offset of the first one, of the last one); in the order of the last one.
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}

    def first(self, channel: str, message_id: str, offset: int) -> int:
        """The offset of the publication that this one repeats; its own when it repeats none."""
        seen = self._seen
        key = (channel, message_id)
        oldest = offset - self._window
        entry = seen.pop(key, None)
        first = entry[0] if entry is not None and entry[1] >= oldest else offset
        seen[key] = (first, offset)
        while (entry := next(iter(seen.values())))[1] < oldest:
            del seen[next(iter(seen))]
        return first

    def known(self, channel: str, message_id: str) -> int | None:
        """The offset under which an id of a channel was delivered, if it is in the window."""
        entry = self._seen.get((channel, message_id))
        return entry[0] if entry else None

    def clear(self) -> None:
        self._seen.clear()

    def __len__(self) -> int:
        return len(self._seen)
