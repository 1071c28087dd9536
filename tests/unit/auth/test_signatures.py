"""Signatures: which keys verify which tokens, and all the ways to pretend."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.auth import signatures
from notifier.auth.tokens import Tokens
from notifier.config import Auth, Secret
from notifier.errors import TokenError, TokenExpired
from tests.unit.auth import issuer
from tests.unit.auth.issuer import KINDS, LONG_SECRET, PAIRS, SECRET, by_hand

LATER = int(time.time()) + 86_400  # tokens are made when the tests are collected, long before some of them run


def verifier(*kinds: str, secrets: tuple[str, ...] = ()) -> Tokens:
    return Tokens(Auth(hmac_keys=[Secret(s) for s in secrets], public_keys=[issuer.public_pem(kind) for kind in kinds]))


async def refused(tokens: Tokens, token: str) -> str:
    with pytest.raises(TokenError) as caught:
        await tokens.connection(token)
    assert not isinstance(caught.value, TokenExpired)
    assert not any(part in str(caught.value) for part in token.split(".") if len(part) > 3)
    return str(caught.value)


@pytest.mark.parametrize(("kind", "algorithm"), PAIRS)
async def test_a_public_key_verifies_what_its_private_key_signed(kind: str, algorithm: str) -> None:
    token = issuer.token(issuer.private_key(kind), algorithm, exp=LATER)
    assert (await verifier(kind).connection(token)).user == "ann"
    assert (await verifier(*KINDS, secrets=(SECRET,)).connection(token)).user == "ann"


@pytest.mark.parametrize(("kind", "algorithm"), PAIRS)
async def test_another_key_of_the_same_kind_does_not(kind: str, algorithm: str) -> None:
    await refused(verifier(kind), issuer.token(issuer.private_key(kind, 1), algorithm, exp=LATER))


@pytest.mark.parametrize(("kind", "algorithm"), PAIRS)
async def test_a_signature_that_was_changed_is_refused(kind: str, algorithm: str) -> None:
    message, _, signature = issuer.token(issuer.private_key(kind), algorithm, exp=LATER).rpartition(".")
    tokens = verifier(kind)
    changed = ("B" if signature[0] == "A" else "A") + signature[1:]
    for bad in (changed, signature[:-4], signature + "AAAA", "AAAA", ""):
        await refused(tokens, f"{message}.{bad}")


@pytest.mark.parametrize("secret", [SECRET, LONG_SECRET[:48], LONG_SECRET])
async def test_how_long_a_shared_key_is_decides_what_it_verifies(secret: str) -> None:
    for algorithm, least in {"HS256": 32, "HS384": 48, "HS512": 64}.items():
        token = with_hmac(secret.encode(), {"alg": algorithm})
        if len(secret) >= least:
            assert (await verifier(secrets=(secret,)).connection(token)).user == "ann"
        else:
            assert "algorithm" in await refused(verifier(secrets=(secret,)), token)


@pytest.mark.parametrize(
    "text", ["short", "x" * 31, issuer.public_pem("rsa"), '{"kty": "oct", "k": "' + "a" * 40 + '"}']
)
def test_what_is_no_shared_key_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"at least 32|public key"):
        signatures.shared_key(text)


# --- pretending ------------------------------------------------------------------------------------------------------


def with_hmac(secret: bytes, header: dict[str, Any]) -> str:
    message = by_hand(header, {"sub": "ann", "exp": LATER}, "").removesuffix(".")
    return f"{message}.{issuer.hmac_text(secret, message, 'sha' + header['alg'][2:])}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_public_key_is_no_shared_secret(kind: str, algorithm: str) -> None:
    """Algorithm confusion (RFC 8725 section 2.1): everybody knows the public key's text."""
    pem = issuer.public_pem(kind)
    tokens = verifier(kind, secrets=(LONG_SECRET,))
    for text in (pem, pem.strip(), pem.replace("\n", "")):
        await refused(tokens, with_hmac(text.encode(), {"alg": algorithm}))


@pytest.mark.parametrize(("kind", "algorithm"), PAIRS)
async def test_a_key_is_only_used_as_its_kind_allows(kind: str, algorithm: str) -> None:
    """The header says another algorithm than the one that signed."""
    token = issuer.token(issuer.private_key(kind), algorithm, exp=LATER)
    _, payload, signature = token.split(".")
    for other in {"none", "None", "", algorithm.lower(), "HS256", *(name for _, name in PAIRS)} - {algorithm}:
        header = base64.urlsafe_b64encode(json.dumps({"alg": other}).encode()).rstrip(b"=").decode()
        await refused(verifier(kind, secrets=(LONG_SECRET,)), f"{header}.{payload}.{signature}")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
async def test_a_token_without_a_signature_is_refused(algorithm: str) -> None:
    tokens = verifier(*KINDS, secrets=(SECRET,))
    for signature in ("", "AAAA"):
        await refused(tokens, by_hand({"alg": algorithm, "typ": "JWT"}, {"sub": "ann", "exp": LATER}, signature))


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["x"], "x": 1},
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": None},
        {"crit": ["b64"], "b64": True},
        {"kid": 5},
        {"kid": "k" * 257},
        {"kid": ["k"]},
    ],
)
async def test_what_a_header_demands_and_nobody_understands_is_refused(headers: dict[str, Any]) -> None:
    await refused(verifier(secrets=(SECRET,)), with_hmac(SECRET.encode(), {"alg": "HS256", **headers}))


async def test_keys_that_a_token_brings_along_are_not_used() -> None:
    mine = issuer.private_key("rsa", 1)
    for headers in ({"jwk": issuer.jwk("rsa", "k", 1)}, {"jku": "http://127.0.0.1:1/"}, {"x5u": "http://127.0.0.1:1/"}):
        await refused(verifier("rsa"), issuer.token(mine, "RS256", headers, exp=LATER))


async def test_a_keys_id_means_nothing_to_keys_without_one() -> None:
    for key_id in ("", "../../dev/null", "' OR 1=1 --", "k" * 256):
        token = issuer.token(issuer.private_key("p256"), "ES256", {"kid": key_id}, exp=LATER)
        assert (await verifier("p256").connection(token)).user == "ann"


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "x", "a.b", "a.b.c", "a.b.c.d", "é.é.é", "\ud800.a.b", "x" * 9000, "." * 8000,
     "a" * 8193, by_hand(["HS256"], {}), by_hand({}, {}), by_hand({"alg": 5}, {}), by_hand({"alg": None}, {}),  # type: ignore[arg-type]
     by_hand({"alg": "HS256"}, json.loads("[" * 500 + "]" * 500))],
)  # fmt: skip
async def test_what_is_no_token_is_refused(token: str) -> None:
    await refused(verifier(secrets=(SECRET,)), token)


async def test_how_long_a_token_may_be() -> None:
    tokens = verifier(secrets=(SECRET,))
    for size, good in ((5000, True), (7000, False)):
        token = issuer.token(SECRET, "HS256", exp=LATER, info="x" * size)
        assert (len(token) <= 8192) is good
        if good:
            assert (await tokens.connection(token)).user == "ann"
        else:
            assert "too long" in await refused(tokens, token)


async def test_a_token_is_written_in_one_way_only() -> None:
    """Other spellings of the same bytes would go round a list of tokens that are no longer good."""
    token = issuer.token(SECRET, "HS256", exp=LATER)
    message, _, signature = token.rpartition(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = last[last.index(signature[-1]) ^ 1]
    for other in (
        f"{token}=",
        f"{token}\n",
        f" {token}",
        f"{message}.{signature[:-1]}{spare}",
        token.replace("-", "+") + "!",
    ):
        await refused(verifier(secrets=(SECRET,)), other)


GOOD = issuer.token(SECRET, "HS256", exp=LATER, info={"name": "Ann"})
TOKENS = verifier(secrets=(SECRET,))


@given(st.integers(0, len(GOOD) - 1), st.characters(max_codepoint=0x2FF))
async def test_a_token_that_was_changed_anywhere_is_refused(index: int, character: str) -> None:
    changed = GOOD[:index] + character + GOOD[index + 1 :]
    if changed == GOOD:
        return
    with pytest.raises(TokenError):
        await TOKENS.connection(changed)
    with pytest.raises((jwt.PyJWTError, UnicodeError)):
        jwt.decode(changed, SECRET, algorithms=["HS256"])
