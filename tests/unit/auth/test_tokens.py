"""Tokens: which are believed, and what they say."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.auth import tokens
from notifier.auth.tokens import Tokens
from notifier.config import Auth, Secret
from notifier.errors import TokenError, TokenExpired

KEY, OLD_KEY = "a-secret-of-at-least-thirty-two-bytes", "the-one-before-it-of-thirty-two-bytes"
NOW = int(time.time())
LATER = NOW + 86_400  # tokens are made when the tests are collected, long before some of them run
AUTH = Auth(hmac_keys=[Secret(KEY), Secret(OLD_KEY)])


def signed(key: str = KEY, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    claims = {"sub": "ann", "exp": LATER, **claims}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm=algorithm, headers=headers)


def by_hand(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, signature])


async def test_a_good_token_says_who_the_client_is() -> None:
    identity = await Tokens(AUTH).connection(signed(roles=["a", "b"], info={"name": "Ann"}, org="x"))
    assert identity.user == "ann"
    assert identity.roles == {"a", "b"}
    assert identity.info == b'{"name":"Ann"}'
    assert identity.claims["org"] == "x"
    assert identity.expires_at == LATER


async def test_while_keys_are_replaced_the_old_one_still_verifies() -> None:
    assert (await Tokens(AUTH).connection(signed(OLD_KEY))).user == "ann"


@pytest.mark.parametrize(
    ("claims", "never"), [({"exp": None}, True), ({"expire_at": 0}, True), ({"expire_at": 2_000_000_000}, False)]
)
async def test_when_a_connection_expires(claims: dict[str, Any], *, never: bool) -> None:
    verifier = Tokens(Auth(hmac_keys=AUTH.hmac_keys, require_exp=False))
    expires_at = (await verifier.connection(signed(**claims))).expires_at
    assert expires_at == (float("inf") if never else 2_000_000_000)


@pytest.mark.parametrize("roles", ["a b", ["a", "b", 5]])
async def test_roles_are_a_list_or_names_with_spaces(roles: object) -> None:
    assert (await Tokens(AUTH).connection(signed(roles=roles))).roles == {"a", "b"}


async def test_the_roles_may_stand_in_another_claim() -> None:
    verifier = Tokens(Auth(hmac_keys=AUTH.hmac_keys, roles_claim="groups"))
    assert (await verifier.connection(signed(groups=["g"], roles=["x"]))).roles == {"g"}


@pytest.mark.parametrize("claims", [{"exp": NOW - 60}, {"nbf": NOW + 600}, {"iat": NOW + 600}])
async def test_a_token_out_of_its_time_is_expired(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenExpired):
        await Tokens(AUTH).connection(signed(**claims))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        signed("another-secret-of-at-least-thirty-two"),
        signed(algorithm="HS512", key=KEY * 2),
        signed(exp=None),
        signed(sub=None) + "x",
        signed(aud="another app"),
        signed(channel="a"),
        signed(headers={"crit": ["x"], "x": 1}),
        by_hand({"alg": "none", "typ": "JWT"}, {"sub": "ann", "exp": LATER}),
        by_hand({"alg": "None"}, {"sub": "ann", "exp": LATER}),
        by_hand({"alg": "hs256"}, {"sub": "ann", "exp": LATER}, "AAAA"),
        by_hand({"alg": "RS256"}, {"sub": "ann", "exp": LATER}, "AAAA"),
        "x" * 9000,
        "." * 8000,
        by_hand({"alg": "HS256"}, json.loads("[" * 500 + "]" * 500)),
    ],
)
async def test_everything_else_is_refused_and_nothing_of_it_is_told(token: str) -> None:
    with pytest.raises(TokenError) as caught:
        await Tokens(AUTH).connection(token)
    assert not isinstance(caught.value, TokenExpired)
    assert len(token) < 3 or token not in str(caught.value)


@pytest.mark.parametrize("claims", [{"sub": 5}, {"sub": ["x"]}, {"expire_at": "soon"}, {"expire_at": True}])
async def test_claims_of_the_wrong_type_are_refused(claims: dict[str, Any]) -> None:
    payload = {"exp": LATER, **claims}
    with pytest.raises(TokenError):
        await Tokens(AUTH).connection(jwt.api_jws.encode(json.dumps(payload).encode(), KEY, algorithm="HS256"))


async def test_audience_and_issuer_are_required_where_they_are_configured() -> None:
    verifier = Tokens(Auth(hmac_keys=AUTH.hmac_keys, audience="app", issuer="me"))
    assert (await verifier.connection(signed(aud=["app", "other"], iss="me"))).user == "ann"
    refused: list[dict[str, Any]] = [
        {"aud": "app"},
        {"iss": "me"},
        {"aud": "other", "iss": "me"},
        {"aud": "app", "iss": "you"},
    ]
    for claims in refused:
        with pytest.raises(TokenError):
            await verifier.connection(signed(**claims))


async def test_without_a_key_no_token_is_believed() -> None:
    with pytest.raises(TokenError, match="no key"):
        await Tokens(Auth()).connection(signed())


async def test_a_subscription_token_is_for_one_user_and_one_channel() -> None:
    verifier = Tokens(AUTH)
    token = signed(channel="a")
    assert (await verifier.subscription(token, "ann", "a")).user == "ann"
    for user, channel in (("bob", "a"), ("ann", "b")):
        with pytest.raises(TokenError):
            await verifier.subscription(token, user, channel)


async def test_tokens_that_are_made_here_are_believed_here() -> None:
    auth = Auth(hmac_keys=AUTH.hmac_keys, audience="app", issuer="me")
    token = tokens.make(auth, {"sub": "ann", "roles": ["x"]}, 60)
    identity = await Tokens(auth).connection(token)
    assert identity.user == "ann"
    assert identity.roles == {"x"}
    with pytest.raises(TokenError):
        tokens.make(Auth(), {"sub": "ann"}, 60)


CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "channel", "expire_at", "info", "roles", "x"]),
    st.none() | st.booleans() | st.integers(-(2**40), 2**70) | st.text(max_size=5)
    | st.lists(st.text(max_size=3), max_size=2) | st.floats(allow_nan=True),
)  # fmt: skip


@given(CLAIMS)
async def test_whatever_a_signed_token_says_it_is_an_identity_or_a_token_error(claims: dict[str, Any]) -> None:
    token = jwt.api_jws.encode(json.dumps(claims).encode(), KEY, algorithm="HS256")
    try:
        identity = await Tokens(AUTH).connection(token)
    except TokenError:
        return
    assert isinstance(claims["exp"], (int, float, str))
    assert identity.user == claims.get("sub", "")
