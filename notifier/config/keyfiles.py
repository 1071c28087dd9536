"""Public keys, as they stand in the configuration or in files that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_public_key(entry: str) -> Any:
    """The public key of an entry of `auth.public_keys`, as an object of `cryptography`.

    Raises ValueError that says what is wrong; nothing of the entry stands in it but a file's name.
    """
    # To load that package takes half as long as all the rest here, and most configurations do not need it.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    pem = read_key_file(entry.removeprefix("@")) if entry.startswith("@") else entry.encode()
    if b"PRIVATE KEY-----" in pem:
        raise ValueError("a private key; only whoever signs tokens may have that: expected the public key")
    if b"-----BEGIN CERTIFICATE" in pem:
        raise ValueError("a certificate; expected the public key in it")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not a public key in PEM (-----BEGIN PUBLIC KEY-----), or one of an unknown kind") from error
    match key:
        case rsa.RSAPublicKey() if key.key_size < 2048:
            raise ValueError(f"an RSA key of {key.key_size} bits; expected at least 2048")
        case ec.EllipticCurvePublicKey() if key.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
            raise ValueError(f"a key on the curve {key.curve.name}; expected P-256, P-384 or P-521")
        case rsa.RSAPublicKey() | ec.EllipticCurvePublicKey() | ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return key
        case _:
            raise ValueError("a key of a kind that signs no tokens; expected RSA, EC, Ed25519 or Ed448")


def read_key_file(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {getattr(error, 'strerror', None) or 'not a file name'}") from error
