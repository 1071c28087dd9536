"""Identities: who somebody is, and what a channel's name may be made of."""

from __future__ import annotations

import pytest

from notifier.core.identity import ANONYMOUS, Identity, SubscriptionGrant

ANN = Identity(
    "ann",
    roles=frozenset({"support"}),
    claims={"sub": "ann", "teams": ["red", "blue"], "level": 3},
    expires_at=100.0,
    info=b'"Ann"',
    token_id="t1",
    issued_at=50.0,
    meta={"db": 3},
    subs={"news": SubscriptionGrant(data=b"1")},
)


def test_nobody_in_particular_has_nothing() -> None:
    assert (ANONYMOUS.user, ANONYMOUS.roles, ANONYMOUS.info, ANONYMOUS.token_id) == ("", frozenset(), b"", "")
    assert not ANONYMOUS.claims
    assert not ANONYMOUS.meta
    assert not ANONYMOUS.subs
    assert ANONYMOUS.expires_at == SubscriptionGrant().expires_at == float("inf")
    with pytest.raises(TypeError):
        ANONYMOUS.claims["sub"] = "ann"  # type: ignore[index]


def test_a_renewed_identity_is_the_same_with_another_end() -> None:
    renewed = ANN.renewed(200.0)
    changed = {"expires_at"}
    same = set(Identity.__slots__) - changed
    assert {name: getattr(renewed, name) for name in same} == {name: getattr(ANN, name) for name in same}
    assert (renewed.expires_at, ANN.expires_at) == (200.0, 100.0)
    assert ANN.renewed(200.0, b'"Annie"').info == b'"Annie"'


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("ann", ["ann"]),
        (["red", "blue", 7, True, None], ["red", "blue", "7"]),
        (42, ["42"]),
        ("a.b", []),
        ("*", []),
        ("a b", []),
        ("é", []),
        ("", []),
        (None, []),
        ({"a": 1}, []),
    ],
)
def test_words_of_a_channels_name(value: object, words: list[str]) -> None:
    assert Identity("ann", claims={"x": value}).values("x") == words
