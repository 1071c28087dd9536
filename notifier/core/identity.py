"""Who a client is and what it may: what its tokens said, or nobody in particular."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

NEVER = float("inf")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class SubscriptionGrant:
    """What a token says of one subscription (protocol.md sections 4.2, 4.3).

    `info` is JSON that others see beside the client on this channel, `data` JSON that it gets with the reply; both are
    empty for none. `expires_at` is wall time in seconds, infinity for never. `overrides` are options of the channel's
    rule that are set otherwise for this subscription. `token_id` and `issued_at` (0 when the token does not say when)
    are for revoking it; what no token gave is younger than any revocation.
    """

    __slots__ = ("data", "expires_at", "info", "issued_at", "overrides", "token_id")

    def __init__(
        self,
        *,
        info: bytes = b"",
        data: bytes = b"",
        expires_at: float = NEVER,
        token_id: str = "",
        issued_at: float = NEVER,
        overrides: Mapping[str, bool] = _NOTHING,
    ) -> None:
        self.info = info
        self.data = data
        self.expires_at = expires_at
        self.token_id = token_id
        self.issued_at = issued_at
        self.overrides = overrides


class Identity:
    """A user with roles and claims. `expires_at` is wall time in seconds, infinity for never.

    `info` is JSON that others see beside the user's publications and presence; `meta` is for other programs on the
    server's side only. `subs` are the channels that the server subscribes the client to. `token_id` and `issued_at`
    (wall time in seconds; 0 when the token does not say) are for revoking the token.
    """

    __slots__ = ("claims", "expires_at", "info", "issued_at", "meta", "roles", "subs", "token_id", "user")

    def __init__(
        self,
        user: str = "",
        *,
        roles: frozenset[str] = frozenset(),
        claims: Mapping[str, Any] = _NOTHING,
        expires_at: float = NEVER,
        info: bytes = b"",
        token_id: str = "",
        issued_at: float = 0.0,
        meta: Mapping[str, Any] = _NOTHING,
        subs: Mapping[str, SubscriptionGrant] = _NOTHING,
    ) -> None:
        self.user = user
        self.roles = roles
        self.claims = claims
        self.expires_at = expires_at
        self.info = info
        self.token_id = token_id
        self.issued_at = issued_at
        self.meta = meta
        self.subs = subs

    def renewed(self, expires_at: float, info: bytes = b"") -> Identity:
        """The same with another end, and other `info` unless it is empty."""
        return Identity(
            self.user,
            roles=self.roles,
            claims=self.claims,
            expires_at=expires_at,
            info=info or self.info,
            token_id=self.token_id,
            issued_at=self.issued_at,
            meta=self.meta,
            subs=self.subs,
        )

    def values(self, claim: str) -> list[str]:
        """A claim's values as words of a channel's name. One with a dot, a wildcard or a space is none: it could stand
        for somebody else's channels."""
        value = self.claims.get(claim)
        found = value if isinstance(value, list) else [value]
        words = [str(item) for item in found if isinstance(item, (str, int)) and not isinstance(item, bool)]
        return [word for word in words if word and not set(word) & _NOT_IN_A_WORD and word.isascii()]


_NOT_IN_A_WORD = set(".*# \t\r\n")

ANONYMOUS = Identity()
