"""Channel rules: what a channel keeps and who may use it. The first matching rule wins; no rule, no access."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from notifier.config import ChannelRule
from notifier.core.channel import Pattern, problem_with_pattern
from notifier.core.identity import Identity
from notifier.errors import ConfigError

_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_-]+)\}")
_CACHED_CHANNELS = 100_000
_WORDS = {"anyone", "authenticated", "token", "subscriber"}


class Rights:
    """Who may do one thing with a channel: any of the listed terms."""

    __slots__ = ("_anyone", "_authenticated", "_patterns", "_roles", "subscribers", "terms", "with_token")

    def __init__(self, terms: Sequence[str]) -> None:
        """Raises ValueError, naming the term, when one cannot be understood."""
        self.terms = tuple(terms)
        self._anyone = "anyone" in terms
        self._authenticated = "authenticated" in terms
        self.with_token = "token" in terms
        self.subscribers = "subscriber" in terms
        self._roles = frozenset(term.removeprefix("role:") for term in terms if term.startswith("role:"))
        self._patterns = [ClaimPattern(term) for term in terms if term not in _WORDS and not term.startswith("role:")]
        if "" in self._roles:
            raise ValueError("'role:' names no role")

    def allow(self, identity: Identity, channel: str) -> bool:
        """Whether the client may, by who it is alone; a token for the channel is looked at elsewhere. For a pattern in
        the channel's place: whether it may with every channel that the pattern matches."""
        return (
            self._anyone
            or (self._authenticated and bool(identity.user))
            or not self._roles.isdisjoint(identity.roles)
            or any(pattern.allows(identity, channel) for pattern in self._patterns)
        )

    def why(self, identity: Identity, channel: str) -> str:
        """The first term by which `allow` is true; empty when it is not."""
        return next((term for term in self.terms if Rights([term]).allow(identity, channel)), "")


class ClaimPattern:
    """A topic pattern with `{claim}` in it. A list claim allows what any of its values allows."""

    __slots__ = ("_claim", "_fixed", "_text")

    def __init__(self, text: str) -> None:
        """Raises ValueError when the text is no pattern, or names more than one claim."""
        self._text = text
        claims = _PLACEHOLDER.findall(text)
        if len(set(claims)) > 1:
            raise ValueError(f"{text!r} names more than one claim")
        if re.search(r"[{}]", _PLACEHOLDER.sub("x", text)):
            raise ValueError(f"{text!r} has a brace without its claim")
        self._claim = claims[0] if claims else ""
        self._fixed = Pattern(_PLACEHOLDER.sub("x", text)) if self._claim else Pattern(text)

    def allows(self, identity: Identity, channel: str) -> bool:
        if not self._claim:
            return bool(identity.user) and self._fixed.covers(channel)
        return any(Pattern(text).covers(channel) for text in self.filled_in(identity))

    def filled_in(self, identity: Identity) -> list[str]:
        """The pattern with each of the claim's values in its place. Some make none: too long a name, say."""
        if not self._claim:
            return [self._text]
        found = [self._text.replace("{" + self._claim + "}", value) for value in identity.values(self._claim)]
        return [text for text in found if not problem_with_pattern(text)]


class Rule:
    """One compiled rule. `size` is 0 where the channel keeps no history; `ttl_s` is in seconds; the same for the
    archive. `known_from` is where in the log it began to count: before that its channels may have kept nothing. What
    the other fields mean stands at `config.ChannelRule`."""

    __slots__ = (
        "archive_size",
        "archive_ttl_s",
        "cache_recovery",
        "delta",
        "index",
        "join_leave",
        "keeps_history",
        "known_from",
        "pattern",
        "presence",
        "publish",
        "size",
        "spec",
        "subscribe",
        "tag_filter",
        "ttl_s",
        "wildcard",
    )

    def __init__(self, index: int, spec: ChannelRule) -> None:
        """Raises ConfigError with every term that cannot be understood."""
        self.index = index
        self.spec = spec
        self.known_from = 0
        self.size = spec.history.size if spec.history else 0
        self.ttl_s = float(spec.history.ttl) if spec.history else 0.0
        self.keeps_history = self.size > 0 and self.ttl_s > 0
        self.archive_size = spec.archive.size if spec.archive else 0
        self.archive_ttl_s = float(spec.archive.ttl) if spec.archive else 0.0
        self.cache_recovery = spec.recovery == "cache"
        self.presence = spec.presence
        self.join_leave = spec.join_leave
        self.delta = spec.delta
        self.tag_filter = spec.tag_filter
        self.wildcard = spec.wildcard
        problems: list[str] = []
        path = f"channels[{index}]"
        self.pattern = _compiled(Pattern, spec.match, "#", f"{path}.match", problems)
        self.subscribe = _compiled(Rights, spec.subscribe, [], f"{path}.subscribe", problems)
        self.publish = _compiled(Rights, spec.publish, [], f"{path}.publish", problems)
        if self.cache_recovery and not self.keeps_history:
            problems.append(f'{path}.recovery: "cache" needs a history')
        if self.delta and not self.keeps_history:
            problems.append(f"{path}.delta: needs a history")
        if self.archives and not (
            self.keeps_history and self.size <= self.archive_size and self.ttl_s <= self.archive_ttl_s
        ):
            problems.append(f"{path}.archive: needs a history, and must reach at least as far: in size and in ttl")
        if self.subscribe.subscribers:
            problems.append(f'{path}.subscribe: "subscriber" is for publish')
        if self.publish.with_token:
            problems.append(f'{path}.publish: "token" is for subscribe')
        if problems:
            raise ConfigError(problems)

    def differs_in_rights_only(self, other: Rule) -> bool:
        """Whether the other one keeps and tells the same things, and only lets in others."""
        ours = msgspec.structs.replace(self.spec, subscribe=[], publish=[])
        return ours == msgspec.structs.replace(other.spec, subscribe=[], publish=[])

    @property
    def archives(self) -> bool:
        return self.archive_size > 0


S = TypeVar("S")
T = TypeVar("T")


def _compiled(kind: Callable[[S], T], value: S, instead: S, path: str, problems: list[str]) -> T:
    """The value as what it stands for, or something harmless and a note of what is wrong."""
    try:
        return kind(value)
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return kind(instead)


class Rules:
    """The ordered list. A channel's rule is looked up once and remembered."""

    __slots__ = ("_all", "_found")

    def __init__(self, specs: Sequence[ChannelRule]) -> None:
        """Raises ConfigError with the problems of all rules."""
        self._all: list[Rule] = []
        self._found: dict[str, Rule | None] = {}
        self.replace(specs)

    def replace(self, specs: Sequence[ChannelRule], known_from: int = 0) -> bool:
        """Other rules from this place of the log on; those that are as they were stay the same objects. Answers whether
        anything changed.

        Raises ConfigError with the problems of all rules; then nothing has changed.
        """
        before, rules = list(self._all), []
        problems: list[str] = []
        for index, spec in enumerate(specs):
            same = next((rule for rule in before if rule.spec == spec), None)
            if same is not None:
                before.remove(same)
                rules.append(same)
                continue
            try:
                rule = Rule(index, spec)
                rule.known_from = known_from
                rules.append(rule)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        changed = rules != self._all
        for index, rule in enumerate(rules):
            rule.index = index
        self._all = rules
        self._found.clear()
        return changed

    def find(self, channel: str) -> Rule | None:
        try:
            return self._found[channel]
        except KeyError:
            pass
        if len(self._found) >= _CACHED_CHANNELS:
            self._found.clear()
        rule = next((rule for rule in self._all if rule.pattern.matches(channel)), None)
        self._found[channel] = rule
        return rule

    def covering(self, pattern: str) -> Rule | None:
        """The first rule whose channels include all that the pattern matches."""
        return next((rule for rule in self._all if rule.pattern.covers(pattern)), None)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)
