"""Access: what a client may do with a channel, and by which term of which rule, in sentences for people."""

from __future__ import annotations

from typing import NamedTuple

from notifier.config import Config
from notifier.core import channel as channels
from notifier.core import target
from notifier.core.identity import Identity
from notifier.core.rules import Rights, Rule, Rules
from notifier.core.target import Target


class Access(NamedTuple):
    """`allowed` is whether the client may subscribe; `lines` say so, and why."""

    allowed: bool
    lines: list[str]


def explain(config: Config, identity: Identity, name: str, granted: bool | None = None) -> Access:
    """Go the way that a subscribe and a publish would go. `granted`: whether there is a good subscription token for the
    channel, None when there is none at all.

    Raises ConfigError when the rules cannot be used, and ValueError, saying what is wrong, for what is no channel.
    """
    rules = Rules(config.channels)
    found = target.find(rules, name, config.clients.max_channel_bytes)
    if found is None:
        return Access(False, [_no_rule(rules, name)])
    rule = found.rule
    what = "pattern" if found.pattern is not None else "channel"
    lines = [f'{what} {name}: channels[{rule.index}], match = "{config.channels[rule.index].match}"']
    allowed, why = _subscribe(rule, identity, found, granted)
    lines.append(f"subscribe: {why}")
    if found.pattern is None:
        lines.append(f"publish: {_publish(rule.publish, identity, name)}")
        lines.append(f"history: {_keeps(rule)}; presence: {'yes' if rule.presence else 'no'}")
    return Access(allowed, lines)


def who(identity: Identity) -> str:
    """The client, as the rules see it; no claim's value but the user's id and roles."""
    user = f"user {identity.user}" if identity.user else "nobody in particular (no token)"
    roles = f", roles: {', '.join(sorted(identity.roles))}" if identity.roles else ""
    claims = f", claims: {', '.join(sorted(identity.claims))}" if identity.claims else ""
    return user + roles + claims


def _no_rule(rules: Rules, name: str) -> str:
    covering = rules.covering(name) if channels.is_pattern(name) else None
    if covering is not None:
        return f"pattern {name}: refused, channels[{covering.index}] does not have wildcard = true"
    kind = "pattern" if channels.is_pattern(name) else "channel"
    return f"{kind} {name}: refused, no [[channels]] rule matches it"


def _subscribe(rule: Rule, identity: Identity, found: Target, granted: bool | None) -> tuple[bool, str]:
    if rule.subscribe.with_token and granted is not None:
        return (
            granted,
            "allowed, by the subscription token" if granted else "refused, the subscription token is bad",
        )
    term = rule.subscribe.why(identity, found.name)
    if term:
        return True, f'allowed, by "{term}"{_filled_in(term, identity)}'
    return False, _refused(rule.subscribe, identity)


def _publish(rights: Rights, identity: Identity, name: str) -> str:
    term = rights.why(identity, name)
    if term:
        return f'allowed, by "{term}"{_filled_in(term, identity)}'
    if rights.subscribers:
        return "allowed while subscribed"
    return _refused(rights, identity)


def _refused(rights: Rights, identity: Identity) -> str:
    if not rights.terms:
        return "refused, the rule lets nobody"
    wanted = ", ".join(f'"{term}"{_filled_in(term, identity)}' for term in rights.terms)
    return f"refused, none of these holds: {wanted}"


def _filled_in(term: str, identity: Identity) -> str:
    """What became of the term's claim."""
    name = term.partition("{")[2].partition("}")[0]
    if not name:
        return ""
    values = identity.values(name)
    if values:
        return f" with {name} = {', '.join(values[:5])}"
    return f" (the token has no {name} that could stand in a channel's name)"


def _keeps(rule: Rule) -> str:
    return f"{rule.size} publications, {rule.ttl_s:g} s" if rule.keeps_history else "none"
