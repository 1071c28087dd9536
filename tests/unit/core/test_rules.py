"""Which rule a channel has, and whom it lets in."""

from __future__ import annotations

import pytest

from notifier.config import ChannelRule, Duration, HistoryRule
from notifier.core.identity import ANONYMOUS, Identity
from notifier.core.rules import Rights, Rules
from notifier.errors import ConfigError

ANN = Identity("ann", roles=frozenset({"support"}), claims={"sub": "ann", "teams": ["red", "blue"], "level": 3})


@pytest.mark.parametrize(
    ("terms", "identity", "channel", "allowed"),
    [
        ([], ANN, "news", False),
        (["anyone"], ANONYMOUS, "news", True),
        (["authenticated"], ANONYMOUS, "news", False),
        (["authenticated"], ANN, "news", True),
        (["role:support"], ANN, "news", True),
        (["role:admin"], ANN, "news", False),
        (["user.{sub}"], ANN, "user.ann", True),
        (["user.{sub}"], ANN, "user.bob", False),
        (["user.{sub}.#"], ANN, "user.ann.inbox.1", True),
        (["team.{teams}.chat"], ANN, "team.blue.chat", True),
        (["team.{teams}.chat"], ANN, "team.green.chat", False),
        (["level.{level}"], ANN, "level.3", True),
        (["user.{missing}"], ANN, "user.ann", False),
        (["user.{sub}"], ANONYMOUS, "user.", False),
        (["token"], ANN, "news", False),
        (["user.{sub}", "role:support"], ANN, "user.bob", True),
    ],
)
def test_rights(terms: list[str], identity: Identity, channel: str, *, allowed: bool) -> None:
    assert Rights(terms).allow(identity, channel) is allowed


@pytest.mark.parametrize("value", ["x" * 251, "an\x7fn", "\0"])
def test_a_claim_that_makes_no_channel_allows_none(value: str) -> None:
    identity = Identity(value, claims={"sub": value, "all": [value, "ann"]})
    assert not Rights(["user.{sub}"]).allow(identity, "user.ann")
    assert Rights(["user.{all}"]).allow(identity, "user.ann")


@pytest.mark.parametrize("value", ["*", "#", "a.b", "#.x", "a b", "", "ä", True, None, {"x": 1}])
def test_a_claim_never_stands_for_more_than_one_word(value: object) -> None:
    """A user named `#` must not get everybody's channels."""
    identity = Identity("x", claims={"sub": value})
    rights = Rights(["user.{sub}"])
    for channel in ("user.ann", "user.a.b", "user.#", "user.*", "user.", "user.True", "user.ä"):
        assert not rights.allow(identity, channel)


def test_the_first_matching_rule_wins_and_no_rule_is_none() -> None:
    rules = Rules([ChannelRule(match="news.secret", subscribe=[]), ChannelRule(match="news.*", subscribe=["anyone"])])
    secret, public = rules.find("news.secret"), rules.find("news.open")
    assert secret is not None
    assert not secret.subscribe.allow(ANN, "news.secret")
    assert public is not None
    assert public.subscribe.allow(ANONYMOUS, "news.open")
    assert rules.find("other") is None


def test_all_problems_of_all_rules_are_told_at_once() -> None:
    specs = [
        ChannelRule(match="has space"),
        ChannelRule(match="ok", subscribe=["user.{sub}.{org}"], publish=["role:"]),
        ChannelRule(match="ok", subscribe=["user.{sub"]),
    ]
    with pytest.raises(ConfigError) as caught:
        Rules(specs)
    told = "\n".join(caught.value.problems)
    assert "channels[0].match" in told
    assert "channels[1].subscribe" in told
    assert "channels[1].publish" in told
    assert "channels[2].subscribe" in told


@pytest.mark.parametrize(("size", "ttl"), [(9, 60), (10, 59)])
def test_an_archive_reaches_at_least_as_far_as_the_history(size: int, ttl: float) -> None:
    history, archive = HistoryRule(size=10, ttl=Duration(60)), HistoryRule(size=size, ttl=Duration(ttl))
    for kept in (history, None):
        with pytest.raises(ConfigError, match=r"channels\[0\]\.archive: needs a history, and must reach"):
            Rules([ChannelRule(match="#", history=kept, archive=archive)])
    [rule] = Rules([ChannelRule(match="#", history=history, archive=HistoryRule(size=10, ttl=Duration(60)))])
    assert rule.archives
    assert (rule.archive_size, rule.archive_ttl_s) == (10, 60)
