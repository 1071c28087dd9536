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

    def verdict(self, history: History, position: Position) -> Verdict:
        if self.pattern is None:
            return history.verdict(self.name, self.rule, position)
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
