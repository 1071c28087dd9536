"""Agenda: what is due at which second. One of them serves any number of connections without a timer for each."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Agenda(Generic[T]):
    """Items by the whole second at which they are due."""

    __slots__ = ("_at", "_next")

    def __init__(self, now: int) -> None:
        self._at: dict[int, dict[T, None]] = {}
        self._next = now

    def add(self, due: int, item: T) -> int:
        """Note the item; the answer is where `discard` finds it."""
        due = max(due, self._next)
        self._at.setdefault(due, {})[item] = None
        return due

    def discard(self, due: int, item: T) -> None:
        bucket = self._at.get(due)
        if bucket is not None:
            bucket.pop(item, None)
            if not bucket:
                del self._at[due]

    def due(self, now: int) -> list[T]:
        """Take out everything that is due by now, in the order of time."""
        found: list[T] = []
        if now - self._next > len(self._at):
            seconds = sorted(second for second in self._at if second <= now)
        else:
            seconds = list(range(self._next, now + 1))
        for second in seconds:
            found += self._at.pop(second, ())
        self._next = max(self._next, now + 1)
        return found

    def items(self) -> list[T]:
        """All of them."""
        return [item for bucket in self._at.values() for item in bucket]

    def __len__(self) -> int:
        return sum(map(len, self._at.values()))
