"""Tokens: which are believed; what they say is in test_claims.py, how they are signed in test_signatures.py."""

from __future__ import annotations

import time
from typing import Any

import pytest

from notifier.auth import tokens
from notifier.auth.tokens import Tokens
from notifier.config import Auth, Secret
from notifier.errors import ConfigError, TokenError, TokenExpired
from tests.unit.auth import issuer

KEY, OLD_KEY = "a-secret-of-at-least-thirty-two-bytes", "the-one-before-it-of-thirty-two-bytes"
NOW = int(time.time())
LATER = NOW + 86_400  # tokens are made when the tests are collected, long before some of them run
AUTH = Auth(hmac_keys=[Secret(KEY), Secret(OLD_KEY)])


def signed(key: str = KEY, **claims: Any) -> str:
    return issuer.token(key, "HS256", **{"exp": LATER, **claims})


async def test_a_good_token_says_who_the_client_is() -> None:
    identity = await Tokens(AUTH).connection(signed(roles=["a", "b"]))
    assert identity.user == "ann"
    assert identity.roles == {"a", "b"}
    assert identity.expires_at == LATER


async def test_while_keys_are_replaced_the_old_one_still_verifies() -> None:
    assert (await Tokens(AUTH).connection(signed(OLD_KEY))).user == "ann"


async def test_keys_of_all_kinds_can_be_used_at_once() -> None:
    verifier = Tokens(Auth(hmac_keys=[Secret(KEY)], public_keys=[issuer.public_pem("rsa"), issuer.public_pem("p256")]))
    for token in (
        signed(),
        issuer.token(issuer.private_key("rsa"), "RS256", exp=LATER),
        issuer.token(issuer.private_key("rsa"), "PS512", exp=LATER),
        issuer.token(issuer.private_key("p256"), "ES256", exp=LATER),
    ):
        assert (await verifier.connection(token)).user == "ann"
    with pytest.raises(TokenError, match="algorithm"):
        await verifier.connection(issuer.token(issuer.private_key("p384"), "ES384", exp=LATER))


async def test_an_expired_token_is_told_from_a_wrong_one() -> None:
    with pytest.raises(TokenExpired):
        await Tokens(AUTH).connection(signed(exp=NOW - 60))
    with pytest.raises(TokenError) as caught:
        await Tokens(AUTH).connection(signed("another-secret-of-at-least-thirty-two", exp=NOW - 60))
    assert not isinstance(caught.value, TokenExpired)


async def test_without_a_key_no_token_is_believed() -> None:
    with pytest.raises(TokenError, match="no key"):
        await Tokens(Auth()).connection(signed())


def test_keys_that_cannot_be_used_are_told() -> None:
    with pytest.raises(ConfigError, match=r"auth\.hmac_keys\[1\]: 5 bytes"):
        Tokens(Auth(hmac_keys=[Secret(KEY), Secret("short")]))
    with pytest.raises(ConfigError, match=r"auth\.public_keys\[0\]: a private key") as caught:
        Tokens(Auth(public_keys=[issuer.private_pem("ed25519")]))
    assert "BEGIN" not in str(caught.value)


async def test_tokens_that_are_made_here_are_believed_here() -> None:
    auth = Auth(hmac_keys=AUTH.hmac_keys, audience="app", issuer="me")
    token = tokens.make(auth, {"sub": "ann", "roles": ["x"]}, 60)
    identity = await Tokens(auth).connection(token)
    assert identity.user == "ann"
    assert identity.roles == {"x"}
    with pytest.raises(TokenError):
        tokens.make(Auth(), {"sub": "ann"}, 60)


async def test_there_is_nothing_to_let_go_of_without_a_key_set() -> None:
    await Tokens(AUTH).close()
