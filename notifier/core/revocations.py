"""Revocations: tokens that are no longer believed although their signature and their dates are right.

They are read from the log, so they hold on every worker, and on one that starts within `log.known_for`; with Redis, on
one that starts within `auth.revocations_for`. A revocation is needed for no longer than the tokens live that it is
about: keep their lifetime shorter than that.
"""

from __future__ import annotations

from typing import Any

from notifier.core.orders import Revocation

MOST = 100_000


class Revocations:
    """Bounded: of each kind the oldest entries are forgotten first."""

    __slots__ = ("_everybody_before", "_tokens", "_users")

    def __init__(self) -> None:
        self._everybody_before = 0.0
        self._tokens: dict[str, None] = {}
        self._users: dict[str, float] = {}

    def add(self, revocation: Revocation) -> bool:
        """Whether it says more than those before."""
        if revocation.everybody:
            is_new = revocation.before > self._everybody_before
            self._everybody_before = max(self._everybody_before, revocation.before)
        elif revocation.token_id:
            is_new = revocation.token_id not in self._tokens
            self._tokens[revocation.token_id] = None
            _forget_oldest(self._tokens)
        else:
            known = self._users.pop(revocation.user, 0.0)
            is_new = revocation.before > known
            self._users[revocation.user] = max(known, revocation.before)
            _forget_oldest(self._users)
        return is_new

    def hit(self, user: str, token_id: str, issued_at: float) -> bool:
        """Whether a token is revoked. One that does not say when it was issued is older than any revocation."""
        return (
            issued_at < self._everybody_before
            or (bool(token_id) and token_id in self._tokens)
            or issued_at < self._users.get(user, 0.0)
        )

    def __bool__(self) -> bool:
        return bool(self._everybody_before or self._tokens or self._users)


def _forget_oldest(entries: dict[str, Any]) -> None:
    if len(entries) > MOST:
        del entries[next(iter(entries))]
