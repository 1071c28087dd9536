"""Channel rules: what a channel keeps and who may use it. The first matching rule wins; no rule, no access."""

from __future__ import annotations

import re
from collections.abc import Sequence

from notifier.config import ChannelRule
from notifier.core.channel import Pattern
from notifier.core.identity import Identity
from notifier.errors import ConfigError

_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_-]+)\}")
_CACHED_CHANNELS = 100_000


class Rights:
    """Who may do one thing with a channel: any of the listed terms."""

    __slots__ = ("_anyone", "_authenticated", "_patterns", "_roles", "with_token")

    def __init__(self, terms: Sequence[str]) -> None:
        """Raises ValueError, naming the term, when one cannot be understood."""
        self._anyone = "anyone" in terms
        self._authenticated = "authenticated" in terms
        self.with_token = "token" in terms
        self._roles = frozenset(term.removeprefix("role:") for term in terms if term.startswith("role:"))
        self._patterns = [
            ClaimPattern(term)
            for term in terms
            if term not in {"anyone", "authenticated", "token"} and not term.startswith("role:")
        ]
        if "" in self._roles:
            raise ValueError("'role:' names no role")

    def allow(self, identity: Identity, channel: str) -> bool:
        """Whether the client may, by who it is alone; a token for the channel is looked at elsewhere."""
        return (
            self._anyone
            or (self._authenticated and bool(identity.user))
            or not self._roles.isdisjoint(identity.roles)
            or any(pattern.allows(identity, channel) for pattern in self._patterns)
        )


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
            return bool(identity.user) and self._fixed.matches(channel)
        return any(
            Pattern(self._text.replace("{" + self._claim + "}", value)).matches(channel)
            for value in identity.values(self._claim)
        )


class Rule:
    """One compiled rule. `size` is 0 where the channel keeps no history; `ttl_s` is in seconds."""

    __slots__ = ("index", "pattern", "publish", "size", "subscribe", "ttl_s")

    def __init__(self, index: int, spec: ChannelRule) -> None:
        """Raises ConfigError with every term that cannot be understood."""
        problems: list[str] = []
        self.index = index
        self.size = spec.history.size if spec.history else 0
        self.ttl_s = float(spec.history.ttl) if spec.history else 0.0
        self.subscribe = Rights([])
        self.publish = Rights([])
        path = f"channels[{index}]"
        try:
            self.pattern = Pattern(spec.match)
        except ValueError as error:
            problems.append(f"{path}.match: {error}")
        try:
            self.subscribe = Rights(spec.subscribe)
        except ValueError as error:
            problems.append(f"{path}.subscribe: {error}")
        try:
            self.publish = Rights(spec.publish)
        except ValueError as error:
            problems.append(f"{path}.publish: {error}")
        if problems:
            raise ConfigError(problems)

    @property
    def keeps_history(self) -> bool:
        return self.size > 0 and self.ttl_s > 0


class Rules:
    """The ordered list. A channel's rule is looked up once and remembered."""

    __slots__ = ("_all", "_found")

    def __init__(self, specs: Sequence[ChannelRule]) -> None:
        """Raises ConfigError with the problems of all rules."""
        self._all: list[Rule] = []
        self._found: dict[str, Rule | None] = {}
        problems: list[str] = []
        for index, spec in enumerate(specs):
            try:
                self._all.append(Rule(index, spec))
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)

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

    def __len__(self) -> int:
        return len(self._all)
