"""Claims: what tokens may say, and what it means."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.auth.tokens import Tokens
from notifier.config import Auth, Duration, Secret
from notifier.core.identity import Identity, SubscriptionGrant
from notifier.errors import TokenError, TokenExpired
from notifier.testing import ManualClock
from tests.unit.auth import issuer
from tests.unit.auth.issuer import SECRET, signed_text

KEYS = [Secret(SECRET)]
CLOCK = ManualClock()
NOW = int(CLOCK.time())
NEVER = float("inf")
TOKENS = Tokens(Auth(hmac_keys=KEYS, leeway=Duration(5)), CLOCK)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def signed(**claims: Any) -> str:
    return signed_text(json.dumps({"sub": "ann", "exp": NOW + 60, **claims}).encode())


async def connection(tokens: Tokens = TOKENS, **claims: Any) -> Identity:
    return await tokens.connection(signed(**claims))


async def subscription(**claims: Any) -> SubscriptionGrant:
    return await TOKENS.subscription(signed(**{"channel": "news", **claims}), "ann", "news", "c1")


# --- connection tokens ----------------------------------------------------------------------------------------------


async def test_a_token_that_says_little() -> None:
    identity = await connection()
    assert (identity.user, identity.token_id, identity.issued_at, identity.info) == ("ann", "", 0.0, b"")
    assert (dict(identity.meta), dict(identity.subs), identity.roles) == ({}, {}, frozenset())
    assert identity.expires_at == NOW + 60


async def test_a_token_that_says_everything() -> None:
    identity = await connection(jti="t1", iat=NOW - 7, nbf=NOW - 7, meta={"db": 3}, info={"name": "Ann"}, org="x")
    assert (identity.token_id, identity.issued_at) == ("t1", NOW - 7)
    assert identity.meta == {"db": 3}
    assert identity.info == b'{"name":"Ann"}'
    assert identity.claims["org"] == "x"


async def test_a_token_without_a_user_is_anonymous() -> None:
    token = signed_text(json.dumps({"exp": NOW + 60}).encode())
    assert (await TOKENS.connection(token)).user == ""


@pytest.mark.parametrize(
    ("claims", "expires_at"),
    [
        ({}, NOW + 60),
        ({"expire_at": 0}, NEVER),
        ({"expire_at": NOW + 9}, NOW + 9),
        ({"expire_at": NOW - 9}, NOW - 9),
        ({"exp": NOW + 0.5}, NOW + 0.5),
    ],
)
async def test_when_a_connection_ends(claims: dict[str, Any], expires_at: float) -> None:
    assert (await connection(**claims)).expires_at == expires_at
    assert (await subscription(**claims)).expires_at == expires_at


async def test_a_token_without_an_end_is_only_good_where_that_is_allowed() -> None:
    token = signed_text(b'{"sub": "ann"}')
    with pytest.raises(TokenError, match="no claim 'exp'"):
        await TOKENS.connection(token)
    assert (await Tokens(Auth(hmac_keys=KEYS, require_exp=False)).connection(token)).expires_at == NEVER


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"exp": NOW - 4}, True),
        ({"exp": NOW - 5}, False),
        ({"nbf": NOW + 5}, True),
        ({"nbf": NOW + 6}, False),
        ({"iat": NOW + 5}, True),
        ({"iat": NOW + 6}, False),
    ],
)
async def test_clocks_may_differ_by_the_leeway(claims: dict[str, Any], *, good: bool) -> None:
    """F-C9."""
    if good:
        assert (await connection(**claims)).user == "ann"
        return
    with pytest.raises(TokenExpired):
        await connection(**claims)


@pytest.mark.parametrize(
    ("claims", "info"),
    [
        ({"info": {"name": "Ann"}}, b'{"name":"Ann"}'),
        ({"info": "a\nb"}, b'"a\\nb"'),
        ({"info": None}, b""),
        ({"info": False}, b"false"),
        ({"info": [], "b64info": ""}, b"[]"),
        ({"b64info": b64('{\n "a": 1\n}')}, b'{"a":1}'),
        ({"info": 1, "b64info": b64("2")}, b"2"),
    ],
)
async def test_info_is_json_on_one_line(claims: dict[str, Any], info: bytes) -> None:
    assert (await connection(**claims)).info == info
    assert (await subscription(**claims)).info == info
    assert (await connection(subs={"news": claims})).subs["news"].info == info


@pytest.mark.parametrize(
    "encoded", ["!", b64("{"), b64("1") + "x", base64.b64encode(b"\xff").decode(), b64("1") + "\n", b64("[" * 4000)]
)
async def test_b64_claims_must_be_json_in_base64(encoded: str) -> None:
    for name in ("b64info", "b64data"):
        with pytest.raises(TokenError, match=f"{name} is not JSON"):
            await subscription(**{name: encoded})
        with pytest.raises(TokenError, match=f"{name} is not JSON"):
            await connection(subs={"news": {name: encoded}})


async def test_channels_are_subscribed_to_by_the_server() -> None:
    subs = (await connection(channels=["a", "b"], jti="t1", iat=5)).subs
    assert list(subs) == ["a", "b"]
    grant = subs["a"]
    assert (grant.info, grant.data, grant.expires_at, dict(grant.overrides)) == (b"", b"", NEVER, {})
    assert (grant.token_id, grant.issued_at) == ("t1", 5)


async def test_subs_say_more_and_replace_channels() -> None:
    override = {"presence": {"value": True}, "force_recovery": {"value": False}, "later": {"value": True}}
    subs = (await connection(channels=["x"], subs={"a": {"data": [1], "override": override}, "b": {}})).subs
    assert list(subs) == ["a", "b"]
    assert subs["a"].data == b"[1]"
    assert subs["a"].overrides == {"presence": True, "force_recovery": False}
    assert (await connection(channels=["x"], subs={})).subs == {}


@pytest.mark.parametrize("roles", ["a b", ["a", "b", 5]])
async def test_roles_are_a_list_or_names_with_spaces(roles: object) -> None:
    assert (await connection(roles=roles)).roles == {"a", "b"}


async def test_the_roles_may_stand_in_another_claim() -> None:
    tokens = Tokens(Auth(hmac_keys=KEYS, roles_claim="groups"), CLOCK)
    assert (await connection(tokens, groups=["g"], roles=["x"])).roles == {"g"}


async def test_a_subscription_token_cannot_connect() -> None:
    with pytest.raises(TokenError, match="cannot connect"):
        await connection(channel="news")
    assert (await connection(channel="")).user == "ann"


# --- subscription tokens --------------------------------------------------------------------------------------------


async def test_what_a_subscription_token_gives() -> None:
    override = {"join_leave": {"value": True}}
    grant = await subscription(info=1, data={"a": [1, 2]}, jti="t2", iat=NOW - 1, override=override)
    assert (grant.info, grant.data, grant.token_id, grant.issued_at) == (b"1", b'{"a":[1,2]}', "t2", NOW - 1)
    assert grant.overrides == {"join_leave": True}
    assert (await subscription(data=1, b64data=b64("2"))).data == b"2"


@pytest.mark.parametrize(
    ("claims", "whose"),
    [
        ({"sub": "bob"}, "user"),
        ({"sub": ""}, "user"),
        ({"channel": "other"}, "channel"),
        ({"channel": ""}, "channel"),
        ({"client": "c2"}, "client"),
    ],
)
async def test_a_subscription_token_is_for_one_user_and_one_channel(claims: dict[str, Any], whose: str) -> None:
    with pytest.raises(TokenError, match=f"for another {whose}"):
        await subscription(**claims)


async def test_a_subscription_token_may_be_for_one_client() -> None:
    assert (await subscription(client="c1")).expires_at == NOW + 60
    with pytest.raises(TokenError, match="for another client"):
        await TOKENS.subscription(signed(channel="news", client="c1"), "ann", "news")
    assert (await TOKENS.subscription(signed(channel="news"), "ann", "news")).expires_at == NOW + 60


async def test_a_connection_token_is_for_no_channel() -> None:
    with pytest.raises(TokenError, match="for another channel"):
        await TOKENS.subscription(signed(), "ann", "")


# --- for whom, by whom ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audience", "claim", "good"),
    [
        ("", None, True),
        ("", "", True),
        ("", [], True),
        ("", "app", False),
        ("", ["", "app"], False),
        ("app", "app", True),
        ("app", ["other", "app"], True),
        ("app", "application", False),
        ("app", ["other"], False),
        ("app", [], False),
        ("app", None, False),
    ],
)
async def test_whom_a_token_is_for(audience: str, claim: Any, *, good: bool) -> None:
    tokens = Tokens(Auth(hmac_keys=KEYS, audience=audience), CLOCK)
    claims = {} if claim is None else {"aud": claim}
    if good:
        assert (await connection(tokens, **claims)).user == "ann"
        return
    with pytest.raises(TokenError, match="another audience"):
        await connection(tokens, **claims)


async def test_who_issued_a_token() -> None:
    tokens = Tokens(Auth(hmac_keys=KEYS, issuer="me"), CLOCK)
    assert (await connection(tokens, iss="me")).user == "ann"
    for claims in ({}, {"iss": "you"}, {"iss": "me "}):
        with pytest.raises(TokenError, match="another issuer"):
            await connection(tokens, **claims)


# --- wrong types ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sub", 4711),
        ("sub", ["canary"]),
        ("sub", None),
        ("exp", "canary"),
        ("exp", True),
        ("nbf", "canary"),
        ("iat", {"canary": 1}),
        ("expire_at", "canary"),
        ("expire_at", None),
        ("jti", 4711),
        ("aud", 4711),
        ("aud", ["a", 4711]),
        ("iss", ["canary"]),
        ("b64info", 4711),
        ("meta", ["canary"]),
        ("meta", "canary"),
        ("channels", "canary"),
        ("channels", ["a", 4711]),
        ("subs", ["canary"]),
        ("subs", {"canary": "canary"}),
        ("subs", {"canary": {"b64data": 4711}}),
        ("subs", {"canary": {"override": {"presence": True}}}),
        ("channel", 4711),
        ("client", ["canary"]),
        ("override", {"presence": {"value": "canary"}}),
        ("override", {"presence": {}}),
        ("override", {"force_positioning": {"value": 1}}),
    ],
)
async def test_claims_of_the_wrong_type_are_named_but_not_shown(name: str, value: Any) -> None:
    with pytest.raises(TokenError) as caught:
        await connection(**{name: value})
    assert not isinstance(caught.value, TokenExpired)
    assert f": {name}" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize(
    "payload",
    [b"", b"5", b"[]", b'"x"', b"null", b"{", b'{"exp":1e999}', b'{"exp":NaN}', b'{"sub":"\xff"}', b'{"x":"\xff"}',
     b'{"sub":"\\ud800"}', b"{}{}", b'{"exp":' + b"9" * 5000 + b"}", b'{"info":' + b"[" * 2900 + b"]" * 2900 + b"}"],
)  # fmt: skip
async def test_a_payload_that_is_no_claims_is_refused(payload: bytes) -> None:
    with pytest.raises(TokenError):
        await TOKENS.connection(signed_text(payload) if payload else issuer.by_hand({"alg": "HS256"}, ""))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**70) | st.text(max_size=5) | st.floats(allow_nan=True),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
NAMES = ["sub", "exp", "nbf", "iat", "aud", "iss", "jti", "expire_at", "info", "b64info", "meta", "channels", "subs",
         "channel", "client", "data", "override", "roles", "x"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
async def test_whatever_a_signed_token_says_it_is_an_identity_or_a_token_error(claims: dict[str, Any]) -> None:
    try:
        identity = await TOKENS.connection(signed_text(json.dumps(claims).encode()))
    except TokenError:
        return
    assert claims["exp"] > NOW - 5
    assert identity.user == claims.get("sub", "")
    assert b"\n" not in identity.info


def test_the_machines_clock_is_the_default() -> None:
    assert abs(Tokens(Auth(hmac_keys=KEYS))._clock.time() - time.time()) < 60
