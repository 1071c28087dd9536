"""What tokens say (RFC 7519; protocol.md sections 4.2 and 4.3): checked claims, to identities and grants."""

from __future__ import annotations

import binascii
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from notifier.config import Auth
from notifier.core.identity import Identity, SubscriptionGrant
from notifier.errors import TokenError, TokenExpired

NEVER = float("inf")


class _Flag(Struct):
    value: bool


class _Overrides(Struct):
    """Options of the channel's rule, set otherwise."""

    presence: _Flag | UnsetType = UNSET
    join_leave: _Flag | UnsetType = UNSET
    force_push_join_leave: _Flag | UnsetType = UNSET
    force_recovery: _Flag | UnsetType = UNSET
    force_positioning: _Flag | UnsetType = UNSET


class _Subscription(Struct):
    """What a subscription is given. `b64…` is the same as the field without it, in base64, and wins."""

    info: Any = None
    b64info: str = ""
    data: Any = None
    b64data: str = ""
    override: _Overrides | UnsetType = UNSET


class Claims(_Subscription):
    """The claims of both kinds of tokens. Times are in seconds since 1970."""

    sub: str = ""
    aud: str | list[str] = ""
    iss: str = ""
    exp: float | UnsetType = UNSET
    nbf: float = 0.0
    iat: float = 0.0
    jti: str = ""
    expire_at: float | UnsetType = UNSET
    meta: dict[str, Any] = {}
    channels: list[str] = []
    subs: dict[str, _Subscription] | UnsetType = UNSET
    channel: str = ""
    client: str = ""


_CLAIMS = msgspec.json.Decoder(Claims)


def read(payload: bytes) -> tuple[Claims, dict[str, Any]]:
    """A token's claims that are known here, each of the right type, and all of them as they are.

    Raises TokenError, which names a claim of a wrong type.
    """
    try:
        return _CLAIMS.decode(payload), msgspec.json.decode(payload)
    except msgspec.ValidationError as error:
        raise TokenError(f"the token is not valid: {_named(error)}") from error
    except (ValueError, RecursionError) as error:
        raise TokenError("the token is not valid: its claims are not JSON") from error


def accept(claims: Claims, auth: Auth, now: float) -> None:
    """Check for whom, by whom and for when a token is. Raises TokenError, TokenExpired when only its time is wrong."""
    if auth.require_exp and claims.exp is UNSET:
        raise TokenError("the token is not valid: it has no claim 'exp'")
    audience = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if auth.audience not in audience if auth.audience else any(audience):
        raise TokenError("the token is not valid: it is for another audience")
    if auth.required_issuer and claims.iss != auth.required_issuer:
        raise TokenError("the token is not valid: it is from another issuer")
    if max(claims.nbf, claims.iat) > now + auth.leeway:
        raise TokenExpired("the token is not valid yet")
    if claims.exp is not UNSET and claims.exp <= now - auth.leeway:
        raise TokenExpired("the token is expired")


def identity(claims: Claims, whole: dict[str, Any], auth: Auth) -> Identity:
    """Who a connection token is about. Raises TokenError."""
    return Identity(
        claims.sub,
        roles=_roles(whole.get(auth.roles_claim)),
        claims=whole,
        expires_at=_expiry(claims),
        info=_json("info", claims.info, claims.b64info),
        token_id=claims.jti,
        issued_at=claims.iat,
        meta=claims.meta,
        subs=_subs(claims),
    )


def grant(claims: Claims) -> SubscriptionGrant:
    """What a subscription token gives. Raises TokenError."""
    return _grant(claims, claims, _expiry(claims))


def _subs(claims: Claims) -> dict[str, SubscriptionGrant]:
    """They end with the connection, so they have no end of their own."""
    if claims.subs is not UNSET:
        return {name: _grant(subscription, claims, NEVER) for name, subscription in claims.subs.items()}
    plain = _Subscription()
    return {name: _grant(plain, claims, NEVER) for name in claims.channels}


def _grant(given: _Subscription, token: Claims, expires_at: float) -> SubscriptionGrant:
    return SubscriptionGrant(
        info=_json("info", given.info, given.b64info),
        data=_json("data", given.data, given.b64data),
        expires_at=expires_at,
        token_id=token.jti,
        issued_at=token.iat,
        overrides={} if given.override is UNSET else _set(given.override),
    )


def _set(overrides: _Overrides) -> dict[str, bool]:
    return {name: flag.value for name, flag in msgspec.structs.asdict(overrides).items() if flag is not UNSET}


def _json(name: str, value: Any, encoded: str) -> bytes:
    """A claim's value as JSON on one line; `encoded` (RFC 4648 base64) before `value`. Raises TokenError."""
    if not encoded:
        return b"" if value is None else msgspec.json.encode(value)
    try:
        return msgspec.json.encode(msgspec.json.decode(binascii.a2b_base64(encoded, strict_mode=True)))
    except (ValueError, RecursionError) as error:
        raise TokenError(f"the token is not valid: b64{name} is not JSON in base64") from error


def _roles(value: Any) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(item for item in value if isinstance(item, str))
    return frozenset()


def _expiry(claims: Claims) -> float:
    """When the right ends: `expire_at` before `exp`, and 0 in the former for never (protocol.md section 4.2)."""
    if claims.expire_at is not UNSET:
        return claims.expire_at or NEVER
    return NEVER if claims.exp is UNSET else claims.exp


def _named(error: msgspec.ValidationError) -> str:
    """Which claim has which wrong type. msgspec tells names of claims and types, never values."""
    text, _, path = str(error).replace("`", "").partition(" - at $.")
    text = text[0].lower() + text[1:]
    return f"{path}: {text}" if path else text
