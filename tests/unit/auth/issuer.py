"""Somebody who issues tokens: keys of every kind, tokens signed with them, and what is published of them."""

from __future__ import annotations

import base64
import functools
import hmac
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET = "a-secret-of-at-least-thirty-two-bytes"
LONG_SECRET = "a-secret-that-is-long-enough-for-all-three-algorithms-with-shared-keys"
KINDS = {
    "rsa": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "p256": ("ES256",),
    "p384": ("ES384",),
    "p521": ("ES512",),
    "ed25519": ("EdDSA",),
    "ed448": ("EdDSA",),
}
PAIRS = [(kind, algorithm) for kind, algorithms in KINDS.items() for algorithm in algorithms]
_CURVES: dict[str, ec.EllipticCurve] = {
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
    "k256": ec.SECP256K1(),
}


def private_key(kind: str, number: int = 0) -> Any:
    """A key of this kind, the same each time; another one for each number."""
    return _private_key(kind, number)


@functools.cache
def _private_key(kind: str, _number: int) -> Any:
    match kind:
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "short_rsa":
            return rsa.generate_private_key(65537, 1024)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
        case _:
            return ec.generate_private_key(_CURVES[kind])


def public_pem(kind: str, number: int = 0) -> str:
    key = private_key(kind, number).public_key()
    return str(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem(kind: str) -> str:
    return str(private_key(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def jwk(kind: str, key_id: str | None, number: int = 0, **members: Any) -> dict[str, Any]:
    """The public key as a JSON Web Key; a member that is None is left out."""
    key = _algorithm(kind).to_jwk(private_key(kind, number).public_key(), as_dict=True)
    return _jwk(key, key_id, members)


def private_jwk(kind: str, key_id: str) -> dict[str, Any]:
    """What nobody should publish."""
    return _jwk(_algorithm(kind).to_jwk(private_key(kind), as_dict=True), key_id, {})


def _algorithm(kind: str) -> Any:
    return RSAAlgorithm if "rsa" in kind else OKPAlgorithm if kind.startswith("ed") else ECAlgorithm


def _jwk(key: dict[str, Any], key_id: str | None, members: dict[str, Any]) -> dict[str, Any]:
    key.pop("key_ops", None)
    return {k: v for k, v in {**key, "kid": key_id, **members}.items() if v is not None}


def token(key: Any, algorithm: str, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token of ann's. A claim that is None is left out."""
    said = {k: v for k, v in {"sub": "ann", **claims}.items() if v is not None}
    return jwt.encode(said, key, algorithm=algorithm, headers=headers)


def signed_text(payload: bytes, key: Any = SECRET, algorithm: str = "HS256") -> str:
    """A token whose payload may be anything."""
    return jwt.api_jws.encode(payload, key, algorithm=algorithm)


def by_hand(header: dict[str, Any], claims: Any, signature: str = "AAAA") -> str:
    """Anything in the shape of a token."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, signature])


def hmac_text(secret: bytes, message: str, digest: str = "sha256") -> str:
    """A signature made with anything as the shared key, whatever PyJWT thinks of it."""
    return base64.urlsafe_b64encode(hmac.digest(secret, message.encode(), digest)).rstrip(b"=").decode()
