"""The same answers as the server gives, and the reason for each."""

from __future__ import annotations

import pytest

from notifier.config import ChannelRule, Config, Duration, HistoryRule
from notifier.core.identity import ANONYMOUS, Identity
from notifier.operator import access

ANN = Identity("ann", roles=frozenset({"support"}), claims={"sub": "ann", "teams": ["red", "blue"], "bad": "a.b"})
CONFIG = Config(
    channels=[
        ChannelRule(match="user.*", subscribe=["user.{sub}", "role:admin"], publish=["role:service"]),
        ChannelRule(match="team.*", subscribe=["team.{teams}"], publish=["subscriber"]),
        ChannelRule(match="odd.*", subscribe=["odd.{bad}"]),
        ChannelRule(match="private.*", subscribe=["token"], history=HistoryRule(size=5, ttl=Duration(60))),
        ChannelRule(match="orders.#", wildcard=True, subscribe=["role:support"]),
        ChannelRule(match="closed"),
    ]
)


@pytest.mark.parametrize(
    ("identity", "channel", "granted", "allowed", "words"),
    [
        (ANN, "user.ann", None, True, ["channels[0]", 'allowed, by "user.{sub}" with sub = ann', '"role:service"']),
        (ANN, "user.bob", None, False, ["refused", '"user.{sub}" with sub = ann, "role:admin"']),
        (ANONYMOUS, "user.ann", None, False, ["the token has no sub"]),
        (ANN, "team.blue", None, True, ["with teams = red, blue", "publish: allowed while subscribed"]),
        (ANN, "odd.a.b", None, False, ["no [[channels]] rule matches"]),
        (ANN, "odd.x", None, False, ["has no bad that could stand in a channel's name"]),
        (ANN, "private.1", None, False, ['"token"', "5 publications, 60 s"]),
        (ANN, "private.1", True, True, ["by the subscription token"]),
        (ANN, "private.1", False, False, ["token is bad"]),
        (ANN, "orders.*.eu", None, True, ["pattern orders.*.eu", 'by "role:support"']),
        (ANN, "user.#", None, False, ["no [[channels]] rule"]),
        (ANN, "user.*", None, False, ["wildcard = true"]),
        (ANN, "closed", None, False, ["the rule lets nobody"]),
    ],
)
def test_who_may_and_why(
    identity: Identity, channel: str, granted: bool | None, *, allowed: bool, words: list[str]
) -> None:
    answer = access.explain(CONFIG, identity, channel, granted)
    text = "\n".join(answer.lines)
    assert answer.allowed is allowed, text
    for word in words:
        assert word in text


def test_what_is_no_channel_is_said() -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        access.explain(CONFIG, ANN, "a b")


def test_claims_are_named_and_not_shown() -> None:
    said = access.who(Identity("ann", claims={"sub": "ann", "email": "canary@example.com"}))
    assert "email" in said
    assert "canary" not in said
