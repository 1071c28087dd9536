"""Signed tokens (RFC 7515, compact form) and the keys that verify them.

Which algorithms a key may be used with comes from its kind alone (RFC 8725 section 3.1): a token's header only chooses
among them. PyJWT does the cryptography; the header is read here, since it tells which key is needed.
"""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from notifier.errors import TokenError

MAX_TOKEN_BYTES = 8192
MAX_KEY_ID_CHARS = 256
MIN_RSA_BITS = 2048  # RFC 7518 section 3.3

Check = Callable[[bytes, bytes], bool]
"""Whether this (message, signature) is by the key's owner."""

_KNOWN = get_default_algorithms()
_HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # at least as long as the hash: RFC 7518 section 3.2
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ASYMMETRIC = frozenset({*_RSA, *_CURVES.values(), "EdDSA"})

# What a segment may end with, by its length modulo four: bits that belong to no byte are zero (RFC 4648 section 3.5).
_ENDS = {0: string.ascii_letters + string.digits + "-_", 2: "AQgw", 3: "AEIMQUYcgkosw048"}
_HEADS = 64  # that are remembered: a backend's tokens all begin with the same one

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class Signed:
    """A token taken apart, not verified. `key_id` is None when the header names no key."""

    __slots__ = ("algorithm", "key_id", "message", "payload", "signature")

    def __init__(self, algorithm: str, key_id: str | None, message: bytes, payload: bytes, signature: bytes) -> None:
        self.algorithm = algorithm
        self.key_id = key_id
        self.message = message
        self.payload = payload
        self.signature = signature


class _Header(msgspec.Struct):
    """What of a header is looked at. Keys and addresses of keys in it (jwk, jku, x5u) are never used."""

    alg: str
    kid: str | None = None
    crit: Any = msgspec.UNSET
    b64: Any = msgspec.UNSET


_HEADER = msgspec.json.Decoder(_Header)


def read(token: str) -> Signed:
    """Take a token apart. Raises TokenError."""
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenError("the token is too long")
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        raise TokenError("the token is not valid: it cannot be read")
    head, body, seal = parts.groups()
    try:
        header = _header(head)
        payload, signature = _decoded(body), _decoded(seal)
    except (ValueError, RecursionError) as error:
        raise TokenError("the token is not valid: it cannot be read") from error
    if header.crit is not msgspec.UNSET or header.b64 is not msgspec.UNSET:
        raise TokenError("the token is not valid: it demands an extension that is not understood")  # RFC 7515, 4.1.11
    if header.kid is not None and len(header.kid) > MAX_KEY_ID_CHARS:
        raise TokenError("the token is not valid: kid is too long")
    return Signed(header.alg, header.kid, token[: parts.end(2)].encode(), payload, signature)


@lru_cache(_HEADS)
def _header(head: str) -> _Header:
    """Raises ValueError or RecursionError."""
    return _HEADER.decode(_decoded(head))


def shared_key(secret: str, *, short: bool = False) -> Mapping[str, Check]:
    """What an HMAC key can verify, by algorithm; with `short` however short it is. Raises ValueError when it is none,
    or too short for any."""
    key = secret.encode()
    try:
        _KNOWN["HS256"].prepare_key(key)  # refuses public keys of all forms: everybody knows those
    except jwt.InvalidKeyError as error:
        raise ValueError("this is a public key or certificate, not a shared one") from error
    checks = {name: _check(name, key) for name, length in _HMAC_BYTES.items() if short or len(key) >= length}
    if not checks:
        raise ValueError(f"{len(key)} bytes; HS256 needs at least 32")
    return checks


def public_key(key: object) -> Mapping[str, Check]:
    """What a public key can verify, by algorithm; nothing when its kind, curve or length is not accepted."""
    match key:
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            names: tuple[str, ...] = _RSA
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            names = (_CURVES[key.curve.name],)
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            names = ("EdDSA",)
        case _:
            names = ()
    return {name: _check(name, key) for name in names}


def _check(algorithm: str, key: Any) -> Check:
    verify = _KNOWN[algorithm].verify
    return lambda message, signature: verify(message, key, signature)


def _decoded(segment: str) -> bytes:
    """Base64url without padding. Raises ValueError, also when bits stand where there should be none: one token is
    written in one way only."""
    if segment[-1] not in _ENDS.get(len(segment) % 4, ""):
        raise ValueError("not canonical")
    return base64.urlsafe_b64decode(segment + "==")
