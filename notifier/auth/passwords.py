"""Passwords of operators: kept as scrypt hashes (RFC 7914), so that who reads the configuration does not learn them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import unicodedata
from typing import NamedTuple

from notifier.config import OPERATOR

SHORTEST, MAX_BYTES = 12, 1024
COST, BLOCK, PARALLEL = 2**15, 8, 3  # 32 MiB and a quarter of a second: OWASP, password storage
SALT_BYTES, HASH_BYTES = 16, 32


class Password(NamedTuple):
    """What is known of a password. `cost`, `block` and `parallel` are scrypt's N, r and p."""

    cost: int
    block: int
    parallel: int
    salt: bytes
    digest: bytes

    def is_(self, text: str) -> bool:
        """Whether this is the password. Takes a quarter of a second, and as long for a wrong one."""
        return hmac.compare_digest(_digest(text, self.salt, self.cost, self.block, self.parallel), self.digest)


def entry_for(name: str, text: str) -> str:
    """An entry of `admin.operators`. Raises ValueError for a name or a password that cannot be one."""
    if len(text) < SHORTEST or len(text.encode()) > MAX_BYTES:
        raise ValueError(f"a password has at least {SHORTEST} characters, and at most {MAX_BYTES} bytes")
    salt = secrets.token_bytes(SALT_BYTES)
    digest = _digest(text, salt, COST, BLOCK, PARALLEL)
    entry = f"{name}:scrypt:{COST}:{BLOCK}:{PARALLEL}:{_to_text(salt)}:{_to_text(digest)}"
    if OPERATOR.fullmatch(entry) is None:
        raise ValueError("a name has 1 to 64 letters, digits and . _ @ -, and begins with a letter or a digit")
    return entry


def parsed(entry: str) -> tuple[str, Password]:
    """The name and the password of an entry that the configuration has accepted."""
    match = OPERATOR.fullmatch(str.__str__(entry))
    assert match is not None  # noqa: S101 - `config.check` has seen it
    cost, block, parallel = int(match["n"]), int(match["r"]), int(match["p"])
    return match["name"], Password(cost, block, parallel, _to_bytes(match["salt"]), _to_bytes(match["hash"]))


def stranger(like: Password | None) -> Password:
    """Nobody's, to be looked at for names that are nobody's: so those cannot be told by the time it takes."""
    cost, block, parallel = like[:3] if like is not None else (COST, BLOCK, PARALLEL)
    return Password(cost, block, parallel, secrets.token_bytes(SALT_BYTES), secrets.token_bytes(HASH_BYTES))


def _digest(text: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    """Keyboards write the same letter in several ways: RFC 8265 section 4.2 has one of them."""
    given = unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")
    most = 2 * 128 * block * (cost + parallel)
    return hashlib.scrypt(given, salt=salt, n=cost, r=block, p=parallel, maxmem=most, dklen=HASH_BYTES)


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _to_bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
