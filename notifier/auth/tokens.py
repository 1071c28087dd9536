"""JSON Web Tokens (RFC 7519): to identities and grants, and made for trying things out.

Which algorithms are accepted comes from the keys, never from the token (reliability.md, S3). The texts of errors say
what was wrong with a token but hold nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import jwt

from notifier.auth import claims, signatures
from notifier.auth.claims import Claims
from notifier.auth.jwks import Jwks
from notifier.auth.signatures import Check
from notifier.config import Auth, read_public_key
from notifier.core.identity import Identity, SubscriptionGrant
from notifier.core.ports import Clock
from notifier.errors import ConfigError, TokenError

ALGORITHM = "HS256"
"""Of tokens that are made here."""


class Tokens:
    """Verifies connection and subscription tokens by all keys of the configuration; several keys let one be replaced
    without a cut. A token with a key's id (`kid`) is verified by that key of the key set, or by a key without an id."""

    def __init__(self, auth: Auth, clock: Clock = time) -> None:
        """Raises ConfigError when a key cannot be used."""
        self._auth = auth
        self._clock = clock
        self._keys = _by_algorithm(auth)
        self._jwks = Jwks(auth, clock) if auth.jwks_url or auth.oidc_issuer else None

    async def connection(self, token: str) -> Identity:
        """The identity of a connection token. Raises TokenExpired, TokenError or TokensUnavailable."""
        said, whole = await self._verified(token)
        if said.channel:
            raise TokenError("a subscription token cannot connect")
        return claims.identity(said, whole, self._auth)

    async def subscription(self, token: str, user: str, channel: str, client: str = "") -> SubscriptionGrant:
        """What a token for a subscription to the channel gives this user, or only this client of the user.

        Raises TokenExpired, TokenError or TokensUnavailable.
        """
        said, _ = await self._verified(token)
        if said.channel != channel or not channel:
            raise TokenError("the token is for another channel")
        if said.sub != user:
            raise TokenError("the token is for another user")
        if said.client and said.client != client:
            raise TokenError("the token is for another client")
        return claims.grant(said)

    def prepared(self, auth: Auth) -> Callable[[], Awaitable[None]]:
        """Other keys and demands, read and checked; from when the answer is called they hold. Who is connected stays.

        Raises ConfigError.
        """
        keys = _by_algorithm(auth)
        return lambda: self._take(auth, keys)

    async def _take(self, auth: Auth, keys: dict[str, list[Check]]) -> None:
        before, before_auth = self._jwks, self._auth
        if _about_published_keys(auth) != _about_published_keys(before_auth):
            self._jwks = Jwks(auth, self._clock) if auth.jwks_url or auth.oidc_issuer else None
        self._auth, self._keys = auth, keys
        if before is not None and before is not self._jwks:
            await before.close()

    async def close(self) -> None:
        """Let go of connections."""
        if self._jwks is not None:
            await self._jwks.close()

    async def _verified(self, token: str) -> tuple[Claims, dict[str, Any]]:
        """The claims, once the signature has been found good: nothing in them is looked at before."""
        if not self._keys and self._jwks is None:
            raise TokenError("no key is configured to verify tokens with")
        signed = signatures.read(token)
        for check in self._keys.get(signed.algorithm, ()):
            if check(signed.message, signed.signature):
                break
        else:
            check = await self._published(signed.algorithm, signed.key_id)
            if not check(signed.message, signed.signature):
                raise TokenError("the token's signature is wrong")
        said, whole = claims.read(signed.payload)
        claims.accept(said, self._auth, self._clock.time())
        return said, whole

    async def _published(self, algorithm: str, key_id: str | None) -> Check:
        """The key of the key set to try. Raises TokenError when there is none, and TokensUnavailable."""
        if self._jwks is None or algorithm not in signatures.ASYMMETRIC:
            if algorithm in self._keys:
                raise TokenError("the token's signature is wrong")
            raise TokenError("the token is not valid: its algorithm is not accepted")
        check = await self._jwks.find(key_id, algorithm)
        if check is None:
            raise TokenError("the token is not valid: no key is known for it")
        return check


def make(auth: Auth, given: dict[str, Any], ttl_s: float) -> str:
    """A token with these claims, signed with the first key. Raises TokenError when there is no key."""
    if not auth.hmac_keys:
        raise TokenError("auth.hmac_keys is empty: there is no key to sign with")
    now = int(time.time())
    said = {"iat": now, "exp": now + int(ttl_s), **given}
    if auth.audience:
        said.setdefault("aud", auth.audience)
    if auth.required_issuer:
        said.setdefault("iss", auth.required_issuer)
    return jwt.encode(said, str(auth.hmac_keys[0]), algorithm=ALGORITHM)


def _about_published_keys(auth: Auth) -> list[Any]:
    names = [name for name in auth.__struct_fields__ if name.startswith(("jwks_", "oidc_"))]
    return [getattr(auth, name) for name in names]


def _by_algorithm(auth: Auth) -> dict[str, list[Check]]:
    """What can verify signatures of each algorithm. Raises ConfigError."""
    found: dict[str, list[Check]] = {}
    for checks in _configured(auth):
        for algorithm, check in checks.items():
            found.setdefault(algorithm, []).append(check)
    return found


def _configured(auth: Auth) -> Iterator[Mapping[str, Check]]:
    """What each key of the configuration can verify. Raises ConfigError."""
    for index, secret in enumerate(auth.hmac_keys):
        try:
            yield signatures.shared_key(secret, short=auth.short_keys)
        except ValueError as error:
            raise ConfigError([f"auth.hmac_keys[{index}]: {error}"]) from error
    for index, entry in enumerate(auth.public_keys):
        try:
            yield signatures.public_key(read_public_key(entry))
        except ValueError as error:
            raise ConfigError([f"auth.public_keys[{index}]: {error}"]) from error
