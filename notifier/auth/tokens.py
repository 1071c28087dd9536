"""JSON Web Tokens (RFC 7519): to identities, and made for trying things out.

One algorithm is accepted, and it comes from the configuration, never from the token (reliability.md, S3). The texts of
errors say what was wrong with a token but hold nothing of it.
"""

from __future__ import annotations

import time
from typing import Any

import jwt
import msgspec

from notifier.config import Auth
from notifier.core.identity import Identity
from notifier.errors import TokenError, TokenExpired

ALGORITHM = "HS256"
MAX_TOKEN_BYTES = 8192


class Tokens:
    """Verifies connection and subscription tokens by shared keys; several keys let one be replaced without a cut."""

    def __init__(self, auth: Auth) -> None:
        self._keys = list(auth.hmac_keys)
        self._auth = auth
        self._options: Any = {
            "require": ["exp"] if auth.require_exp else [],
            "verify_aud": True,
            "enforce_minimum_key_length": True,
        }

    async def connection(self, token: str) -> Identity:
        """The identity of a connection token. Raises TokenExpired or TokenError."""
        claims = self._claims(token)
        if claims.get("channel"):
            raise TokenError("a subscription token cannot connect")
        return self._identity(claims)

    async def subscription(self, token: str, user: str, channel: str) -> Identity:
        """The identity of a subscription token for this user and channel. Raises TokenExpired or TokenError."""
        claims = self._claims(token)
        if claims.get("channel") != channel:
            raise TokenError("the token is for another channel")
        if claims.get("sub", "") != user:
            raise TokenError("the token is for another user")
        return self._identity(claims)

    def _claims(self, token: str) -> dict[str, Any]:
        if not self._keys:
            raise TokenError("no key is configured to verify tokens with")
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError("the token is too long")
        failure: Exception | None = None
        for key in self._keys:
            try:
                return jwt.decode(
                    token,
                    str(key),
                    algorithms=[ALGORITHM],
                    audience=self._auth.audience or None,
                    issuer=self._auth.issuer or None,
                    leeway=self._auth.leeway,
                    options=self._options,
                )
            except jwt.InvalidSignatureError as error:
                failure = error
            except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError) as error:
                raise TokenExpired("the token is expired or not valid yet") from error
            except (jwt.PyJWTError, ValueError, RecursionError) as error:
                raise TokenError(f"the token is not valid: {_kind(error)}") from error
        raise TokenError("the token's signature is wrong") from failure

    def _identity(self, claims: dict[str, Any]) -> Identity:
        user = claims.get("sub", "")
        if not isinstance(user, str):
            raise TokenError("the token is not valid: sub is not a text")
        info = claims.get("info")
        return Identity(
            user,
            roles=_roles(claims.get(self._auth.roles_claim)),
            claims=claims,
            expires_at=_expiry(claims),
            info=b"" if info is None else msgspec.json.encode(info),
        )


def make(auth: Auth, claims: dict[str, Any], ttl_s: float) -> str:
    """A token signed with the first key. Raises TokenError when there is no key."""
    if not auth.hmac_keys:
        raise TokenError("auth.hmac_keys is empty: there is no key to sign with")
    now = int(time.time())
    claims = {"iat": now, "exp": now + int(ttl_s), **claims}
    if auth.audience:
        claims.setdefault("aud", auth.audience)
    if auth.issuer:
        claims.setdefault("iss", auth.issuer)
    return jwt.encode(claims, str(auth.hmac_keys[0]), algorithm=ALGORITHM)


def _roles(value: Any) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(item for item in value if isinstance(item, str))
    return frozenset()


def _expiry(claims: dict[str, Any]) -> float:
    """When the connection ends: `expire_at` before `exp`, and 0 in the former for never (protocol.md section 4.2)."""
    value = claims.get("expire_at", claims.get("exp"))
    if value is None or value == 0:
        return float("inf")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TokenError("the token is not valid: expire_at is not a number")
    return float(value)


def _kind(error: BaseException) -> str:
    """What was wrong, by the error's kind: its text may quote the token."""
    match error:
        case jwt.MissingRequiredClaimError():
            return f"it has no claim {error.claim!r}"
        case jwt.InvalidAudienceError():
            return "it is for another audience"
        case jwt.InvalidIssuerError():
            return "it is from another issuer"
        case jwt.InvalidAlgorithmError():
            return "its algorithm is not accepted"
        case jwt.InvalidIssuedAtError():
            return "it was issued in the future"
        case _:
            return "it cannot be read"
