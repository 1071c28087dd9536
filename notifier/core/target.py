"""Target: what a subscription is for, a channel or a rule's channels that match a pattern; asked of history alike."""

from __future__ import annotations

from typing import NamedTuple

from notifier.core import channel as channels
from notifier.core.channel import Pattern
from notifier.core.history import History, Verdict
from notifier.core.rules import Rule, Rules
from notifier.protocol.messages import Position, Publication


class Target(NamedTuple):
    """`pattern` is None for a channel."""

    name: str
    rule: Rule
    rules: Rules
    pattern: Pattern | None = None

    @property
    def is_current(self) -> bool:
        """Whether the rule is still the one for the name: rules may change while something is waited for."""
        rules, name = self.rules, self.name
        return (rules.find(name) if self.pattern is None else rules.covering(name)) is self.rule

    @property
    def archived(self) -> bool:
        """Whether an archive may know more than memory. What matches a pattern would have to be looked for in all
        channels that there are, so there memory alone counts."""
        return self.pattern is None and self.rule.archives

    @property
    def wants_latest(self) -> bool:
        """Whether only the last publication matters. By a pattern there is no such thing as the last one."""
        return self.rule.cache_recovery and self.pattern is None

    def verdict(self, history: History, position: Position, index: int = -1) -> Verdict:
        """With an `index`, the next record was seen up to that place; by a pattern, that helps nobody."""
        if self.pattern is None:
            return history.verdict(self.name, self.rule, position, index)
        return history.verdict_by_pattern(self.matches, self.rule, position)

    def after(self, history: History, offset: int, now_s: float, index: int = -1) -> list[Publication]:
        """What is retained after a place in the log, in the log's order."""
        if self.pattern is None:
            return history.after(self.name, offset, now_s, index)
        return history.after_by_pattern(self.matches, offset, now_s, index)

    def matches(self, channel: str) -> bool:
        """Whether a channel belongs here: its own rule decides, not one that only looks like it."""
        if self.pattern is None:
            return channel == self.name
        return self.pattern.matches(channel) and self.rules.find(channel) is self.rule


def find(rules: Rules, name: str, max_bytes: int = channels.MAX_BYTES) -> Target | None:
    """What a name stands for; None when no rule is for it, or the rule wants no patterns.

    Raises ValueError, saying what is wrong, when it is no name at all.
    """
    by_pattern = channels.is_pattern(name)
    if problem := channels.problem_with_pattern(name) if by_pattern else channels.problem_with(name):
        raise ValueError(problem)
    if len(name) > max_bytes:
        raise ValueError(f"a channel's name has at most {max_bytes} bytes")
    if not by_pattern:
        rule = rules.find(name)
        return Target(name, rule, rules) if rule is not None else None
    rule = rules.covering(name)
    return Target(name, rule, rules, Pattern(name)) if rule is not None and rule.wildcard else None
