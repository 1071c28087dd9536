"""Who a client is: what its token said, or nobody in particular."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Identity:
    """A user with roles and claims. `expires_at` is wall time in seconds, infinity for never.

    `info` is JSON that others see beside the user's publications and presence.
    """

    __slots__ = ("claims", "expires_at", "info", "roles", "user")

    def __init__(
        self,
        user: str = "",
        *,
        roles: frozenset[str] = frozenset(),
        claims: Mapping[str, Any] | None = None,
        expires_at: float = float("inf"),
        info: bytes = b"",
    ) -> None:
        self.user = user
        self.roles = roles
        self.claims = claims or {}
        self.expires_at = expires_at
        self.info = info

    def values(self, claim: str) -> list[str]:
        """A claim's values as words of a channel's name. One with a dot, a wildcard or a space is none: it could stand
        for somebody else's channels."""
        value = self.claims.get(claim)
        found = value if isinstance(value, list) else [value]
        words = [str(item) for item in found if isinstance(item, (str, int)) and not isinstance(item, bool)]
        return [word for word in words if word and not set(word) & _NOT_IN_A_WORD and word.isascii()]


_NOT_IN_A_WORD = set(".*# \t\r\n")

ANONYMOUS = Identity()
