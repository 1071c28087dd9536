"""Recovery: what a client missed, from memory, or from memory and the archive together.

First `look_up` asks the archive, where memory cannot answer alone; that may take a while. Then, when the subscription
begins, `missed` decides without waiting. Memory has everything of a channel after one offset (`History.begins`), the
archive everything up to another one (`Excerpt.filled`): where the two meet, the older part is taken from the archive
and the rest from memory. Where they do not, nobody is told that he has lost something: it is tried again.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from notifier.core.history import History, Verdict
from notifier.core.node import Node
from notifier.core.ports import Excerpt
from notifier.core.rules import Rule
from notifier.core.target import Target
from notifier.errors import Unavailable
from notifier.protocol.messages import Position, Publication

HOLD_S = 5.0  # as long as asking the archive may take, and beginning after it
PAGE = 1000
_BEYOND_MEMORY = (Verdict.TRIMMED, Verdict.NOT_KNOWN)


class Missed(NamedTuple):
    """What became of a position, and the publications after it, oldest first."""

    verdict: Verdict
    publications: list[Publication]


async def look_up(node: Node, target: Target, position: Position) -> Excerpt | None:
    """What the archive has after the position; None where memory can answer alone, or nobody can. A position ahead of
    this worker is waited for, see `Node.judge`.

    Raises Unavailable when only the archive could tell, and cannot now.
    """
    verdict = await node.judge(target, position)
    if not target.archived or verdict not in _BEYOND_MEMORY:
        return None
    _hold(node, target.name, target.rule)
    return await node.archive.after(target.name, position.offset, node.history.reach(target.name))


async def look_up_latest(node: Node, target: Target) -> Excerpt | None:
    """The channel's last publication, where memory cannot say which it is. Raises Unavailable."""
    if not target.archived or node.history.knows_latest(target.name):
        return None
    _hold(node, target.name, target.rule)
    return await node.archive.page(target.name, None, 1, node.history.reach(target.name), reverse=True)


def missed(
    history: History, target: Target, position: Position, excerpt: Excerpt | None, now_s: float, index: int = -1
) -> Missed:
    """What follows on the position, decided now. With an `index` also what comes after that place in the record behind
    the position. Raises Unavailable when memory has changed so much since `look_up` that it must be asked again."""
    offset = position.offset if index < 0 else position.offset + 1
    verdict = target.verdict(history, position, index)
    if verdict is Verdict.RECOVERED:
        return Missed(verdict, target.after(history, offset, now_s, index))
    if not target.archived or verdict not in _BEYOND_MEMORY:
        return Missed(verdict, [])
    excerpt = _joinable(history, target.name, excerpt)
    if position.offset < excerpt.floor:
        return Missed(verdict, [])
    begins = history.begins(target.name)
    found = [
        publication
        for publication in excerpt.publications
        if publication.offset <= begins
        and publication.expires_at > now_s
        and (publication.offset > offset or (publication.offset == offset and -1 < index < publication.index))
    ]
    return Missed(Verdict.RECOVERED, found + history.after(target.name, begins, now_s))


def latest(history: History, target: Target, excerpt: Excerpt | None, now_s: float) -> Publication | None:
    """The channel's last publication, if it is kept and still worth delivering. Raises Unavailable."""
    found = history.latest(target.name, now_s)
    if found is not None or not target.archived or history.knows_latest(target.name):
        return found
    archived = _joinable(history, target.name, excerpt).publications
    return archived[-1] if archived and archived[-1].expires_at > now_s else None


async def page(
    node: Node, channel: str, rule: Rule, since: int | None, limit: int, *, reverse: bool
) -> list[Publication]:
    """At most `limit` publications (protocol.md section 5.1), from the archive too where memory does not reach that
    far. Raises Unavailable when it is needed and away."""
    history, now_s = node.history, node.clock.time()
    recent = history.page(channel, since, limit, now_s, reverse=reverse)
    begins = history.begins(channel)
    here = len(recent) >= limit if reverse else since is not None and since >= begins
    if here or limit <= 0 or not begins or not rule.archives:
        return recent
    _hold(node, channel, rule)
    excerpt, older = None, list[Publication]()
    at = since if not reverse or (since is not None and since <= begins) else begins + 1
    while len(older) < limit:
        wanted = min(limit, PAGE)
        excerpt = await node.archive.page(channel, at, wanted, history.reach(channel), reverse=reverse)
        older += [publication for publication in excerpt.publications if publication.expires_at > now_s]
        if len(excerpt.publications) < wanted:
            break
        at = excerpt.publications[-1].offset
    _joinable(history, channel, excerpt)
    begins = history.begins(channel)
    older = [publication for publication in older if publication.offset <= begins]
    if reverse:
        return (history.page(channel, since, limit, now_s, reverse=True) + older)[:limit]
    after = begins if since is None else max(since, begins)
    return (older + history.page(channel, after, limit, now_s, reverse=False))[:limit]


def _joinable(history: History, channel: str, excerpt: Excerpt | None) -> Excerpt:
    """The excerpt, when it meets what memory has."""
    if excerpt is None or excerpt.epoch != history.epoch or excerpt.filled < history.reach(channel):
        raise Unavailable("the archive does not meet what is in memory yet")
    return excerpt


def _hold(node: Node, channel: str, rule: Rule) -> None:
    node.history.hold(channel)
    node.later(HOLD_S, partial(node.history.release, channel, rule))


class NoArchive:
    """A `core.ports.Archive` for rules that want none: it is never asked."""

    async def after(self, channel: str, offset: int, reach: int) -> Excerpt:  # noqa: ARG002 - a port's shape
        raise Unavailable("there is no archive")

    async def page(self, channel: str, offset: int | None, limit: int, reach: int, *, reverse: bool) -> Excerpt:  # noqa: ARG002
        raise Unavailable("there is no archive")
