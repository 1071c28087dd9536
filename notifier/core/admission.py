"""Admission: newcomers in the order in which they came, no more than so many a second and so many in one turn.

It only decides. Whoever uses it gives it a turn, and everybody else theirs before the next one: so a crowd of newcomers
costs those who are there already no more than the handshakes of one turn.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from typing import Generic, TypeVar

from notifier.core.ports import Clock

T = TypeVar("T", bound=Hashable)

IN_A_TURN = 8  # about 1.5 ms of handshakes
MAX_WAITING = 10_000  # each holds a connection and a request


class Answer(Enum):
    """To somebody who asks to be let in."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"


class Admission(Generic[T]):
    """`rate` a second, 0 for any number; who would wait, or has waited, for longer than `patience_s` is refused."""

    def __init__(self, rate: float, patience_s: float, clock: Clock) -> None:
        self._rate = rate
        self._patience_s = patience_s
        self._clock = clock
        self._most = min(MAX_WAITING, int(rate * patience_s))
        self._waiting: dict[T, float] = {}  # until when
        self._tokens = float(IN_A_TURN)
        self._filled_at = clock.monotonic()

    def ask(self, who: T) -> Answer:
        """NOW uses up a part of this turn; LATER means that a turn brings the answer."""
        if not self._rate:
            return Answer.NOW
        if not self._waiting and self._tokens >= 1:
            self._tokens -= 1
            return Answer.NOW
        if len(self._waiting) >= self._most:
            return Answer.NEVER
        self._waiting[who] = self._clock.monotonic() + self._patience_s
        return Answer.LATER

    def withdraw(self, who: T) -> None:
        """It has gone, or has its answer."""
        self._waiting.pop(who, None)

    def turn(self) -> tuple[list[T], list[T]]:
        """Who is let in, and who is refused after all."""
        now = self._clock.monotonic()
        self._tokens = min(self._tokens + (now - self._filled_at) * self._rate, IN_A_TURN)
        self._filled_at = now
        refused = []
        for who, until in self._waiting.items():
            if until > now:
                break  # in the order in which they came, so all others have more time
            refused.append(who)
        for who in refused:
            del self._waiting[who]
        admitted = [who for who, _ in zip(self._waiting, range(int(self._tokens)), strict=False)]
        for who in admitted:
            del self._waiting[who]
        self._tokens -= len(admitted)
        return admitted, refused

    @property
    def next_turn_s(self) -> float | None:
        """When the next turn can be of use, from the last one on; None when nobody waits and the turn is whole."""
        if self._waiting:
            return max(0.0, 1 - self._tokens) / self._rate
        return 0.0 if self._tokens < IN_A_TURN else None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)
