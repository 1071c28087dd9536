"""Allowance: how much one connection may ask for, by `clients.command_rate` and `command_burst`.

Commands above the rate are refused, which costs something too. Whoever goes on all the same, and whoever sends frames
that are no commands (pings, parts of messages), may do so at the same rate and as many at once; then it is a flood.
"""

from __future__ import annotations

from notifier.core.ports import Row
from notifier.core.session import Session
from notifier.protocol.codes import TOO_MANY_COMMANDS, ConnectionEnded

QUIET_COMMANDS = 5
"""Who has used no more of its burst is quiet: it has just subscribed, or asks for something now and then."""


def take(session: Session) -> bool:
    """Whether one more command is within the rate; it is counted then. A connection may save up to `command_burst`."""
    if not session.node.limits.command_rate:
        return True
    _gain(session)
    if session.allowance < 1:
        return False
    session.allowance -= 1
    return True


def spend(session: Session, commands: float) -> None:
    """A command was worth so many more: those after it wait for them."""
    session.allowance -= commands


def exceed(session: Session) -> None:
    """Count what was refused, or is no command. Raises ConnectionEnded (3013) when it is too much."""
    limits = session.node.limits
    if not limits.command_rate:
        return
    _gain(session)
    session.excess += 1
    if session.excess > limits.command_burst:
        raise ConnectionEnded(TOO_MANY_COMMANDS)


def row_of(session: Session) -> Row:
    """Where its commands wait when there is much to do: behind those of whoever has asked for less lately."""
    limits = session.node.limits
    if not session.is_connected:
        return Row.NEW
    if not limits.command_rate:
        return Row.QUIET
    _gain(session)
    if session.allowance < 1 or session.excess > 1:
        return Row.FLOODING
    return Row.QUIET if session.allowance >= limits.command_burst - QUIET_COMMANDS else Row.BUSY


def _gain(session: Session) -> None:
    """What time has brought."""
    limits, now_s = session.node.limits, session.node.clock.monotonic()
    gained = (now_s - session.allowed_at) * limits.command_rate
    session.allowed_at = now_s
    session.allowance = min(session.allowance + gained, limits.command_burst)
    session.excess = max(0.0, session.excess - gained)
