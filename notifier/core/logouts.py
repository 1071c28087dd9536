"""Logouts: sessions of operators that were ended before their time, remembered while they would have lasted."""

from __future__ import annotations

MOST = 10_000


class Logouts:
    """By the session's id. Bounded: the oldest are forgotten first."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, session: str, until: float, now: float) -> None:
        """Wall time in seconds, both."""
        self._until = {known: end for known, end in self._until.items() if end > now}
        self._until[session] = until
        if len(self._until) > MOST:
            del self._until[next(iter(self._until))]

    def __contains__(self, session: str) -> bool:
        return session in self._until
