"""Subscribing: how a subscription begins, whoever asked for it (protocol.md sections 2.3, 5.2, 5.4).

What must be waited for comes first (`judged`); then `settled` decides, and `begin` writes nothing that could be
overtaken: what is published from there on is either in the result or comes after it.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Raw

from notifier.core import recovery
from notifier.core.history import Verdict
from notifier.core.hub import Manner
from notifier.core.identity import SubscriptionGrant
from notifier.core.ports import Excerpt
from notifier.core.recovery import Missed
from notifier.core.session import NEVER, Session, Subscription
from notifier.core.target import Target
from notifier.protocol.codes import INTERNAL, LIMIT_EXCEEDED, CommandFailed, bad_request
from notifier.protocol.filters import TagFilter
from notifier.protocol.messages import EMPTY, Form, Position, Publication, Shown, SubscribeRequest, SubscribeResult

_LONGEST_TTL_S = 2**31 - 1  # what every SDK can hold, and set a timer for


class Judged(NamedTuple):
    """A subscription that may begin: its target, what was asked, what the archive has of it, and who allowed it;
    once it is settled, also what the client missed."""

    target: Target
    request: SubscribeRequest
    excerpt: Excerpt | None = None
    grant: SubscriptionGrant | None = None
    server_side: bool = False
    missed: Missed = Missed(Verdict.NO_HISTORY, [])

    @property
    def recovers(self) -> bool:
        """Where only the last publication matters, everybody asks for it."""
        return self.request.recover or self.target.rule.cache_recovery

    @property
    def position(self) -> Position:
        return Position(self.request.offset, self.request.epoch)


async def judged(
    session: Session,
    target: Target,
    request: SubscribeRequest,
    grant: SubscriptionGrant | None = None,
    *,
    server_side: bool = False,
) -> Judged:
    """What is needed to say what the client missed. May wait until this worker has read as far as the client, and for
    the archive. Raises Unavailable when it is away and nobody else can tell, CommandFailed (106) when the worker has as
    many patterns as it takes."""
    node = session.node
    if target.pattern is not None and not node.hub.has_room_for(target.name, target.rule, node.limits.max_patterns):
        raise CommandFailed(LIMIT_EXCEEDED)
    judged = Judged(target, request, None, grant, server_side)
    if not target.rule.keeps_history or not judged.recovers:
        return judged
    if not judged.target.wants_latest:
        return judged._replace(excerpt=await recovery.look_up(node, target, judged.position))
    await node.judge(target, judged.position)
    return judged._replace(excerpt=await recovery.look_up_latest(node, target))


def settled(session: Session, judged: Judged) -> Judged:
    """What the client missed, decided now; `begin` must follow before anything is waited for.

    Raises Unavailable when so much has happened meanwhile that it must be judged again; then nothing has happened.
    """
    target, node = judged.target, session.node
    if not target.rule.keeps_history or not judged.recovers:
        return judged
    now_s = node.clock.time()
    if not target.wants_latest:
        return judged._replace(missed=recovery.missed(node.history, target, judged.position, judged.excerpt, now_s))
    latest = recovery.latest(node.history, target, judged.excerpt, now_s)
    verdict = target.verdict(node.history, judged.position)
    return judged._replace(missed=Missed(verdict, [] if latest is None else [latest]))


def begin(session: Session, judged: Judged) -> SubscribeResult:
    """Subscribe now, what was judged is settled. Raises CommandFailed when the tag filter is wrong, or the rules have
    changed since `judged`; then nothing has happened."""
    target, request, grant = judged.target, judged.request, judged.grant
    if not target.is_current:
        raise CommandFailed(INTERNAL)
    rule = target.rule
    accepts = _filter(judged)
    delta = rule.delta and request.delta == "fossil" and target.pattern is None and accepts is None
    result = SubscribeResult(was_recovering=judged.recovers, delta=delta)
    if grant is not None:
        result.data = Raw(grant.data) if grant.data else EMPTY
        result.expires, result.ttl = time_left(session, grant.expires_at)
    found = _recover(session, judged, result, accepts)
    via = target.name if target.pattern is not None else ""
    if delta:
        result.publications = _chained(found)
    elif via:
        result.publications = [Shown(publication, named=True) for publication in found]
    else:
        result.publications = list(found)
    end = session.node.history.end
    continues = result.recovered and not rule.cache_recovery
    subscription = Subscription(
        target.name,
        rule,
        by_pattern=bool(via),
        grant=grant,
        server_side=judged.server_side,
        since=request.offset if continues else end,
        recovered_to=end if continues else 0,
        accepts=accepts,
    )
    session.join(subscription, _manner(session, judged, accepts, found, delta=delta))
    return result


def time_left(session: Session, expires_at: float) -> tuple[bool, int]:
    """Whether something expires, and in how many seconds; at least one, since zero would not be written."""
    if expires_at == NEVER:
        return False, 0
    return True, min(max(1, int(expires_at - session.node.clock.time())), _LONGEST_TTL_S)


def _filter(judged: Judged) -> TagFilter | None:
    if judged.request.tf is None:
        return None
    if not judged.target.rule.tag_filter:
        raise bad_request("this channel does not take tag filters")
    try:
        return TagFilter(judged.request.tf)
    except ValueError as error:
        raise bad_request(f"tf: {error}") from error


def _recover(session: Session, judged: Judged, result: SubscribeResult, accepts: TagFilter | None) -> list[Publication]:
    """Where the subscription stands, and what was missed before."""
    target, request = judged.target, judged.request
    if not target.rule.keeps_history:
        return []
    history = session.node.history
    result.recoverable = result.positioned = True
    result.epoch = history.epoch
    result.offset = history.end
    if not judged.recovers:
        return []
    verdict, found = judged.missed
    session.node.stats.recoveries[verdict.name.lower()] += 1
    if target.wants_latest:
        known = request.offset > 0 and request.epoch == history.epoch
        result.recovered = bool(found) or (known and verdict is Verdict.RECOVERED)
        if found and known and found[-1].offset <= request.offset <= history.end:
            found = []
    elif verdict is Verdict.RECOVERED:
        result.recovered = True
    else:
        return []
    if accepts is not None:
        found = [publication for publication in found if accepts.accepts(publication.tags)]
    if found:
        result.offset = request.offset  # the SDK moves it with each publication it hands to the app
    return found


def _chained(found: list[Publication]) -> list[Publication | Shown]:
    """With deltas: the first one whole, each of the others as a difference where it follows its base."""
    shown: list[Publication | Shown] = []
    before: bytes | None = None
    for publication in found:
        follows = before is not None and publication.base is before
        shown.append(Shown(publication, Form.PATCH if follows else Form.WHOLE))
        before = publication.data
    return shown


def _manner(
    session: Session, judged: Judged, accepts: TagFilter | None, found: list[Publication], *, delta: bool
) -> Manner:
    target, rule = judged.target, judged.target.rule
    wanted = judged.grant.overrides if judged.grant is not None else {}
    joins = wanted.get(
        "force_push_join_leave",
        rule.join_leave == "always" or (rule.join_leave == "on_request" and judged.request.join_leave),
    )
    encoding = session.encoding
    if target.pattern is not None:
        return Manner(encoding.variant(Form.PLAIN, target.name), accepts=accepts)
    if not delta:
        return Manner(encoding, accepts=accepts, joins=joins)
    patched = encoding.variant(Form.PATCH)
    has_base = bool(found) and session.node.history.next_base(target.name) is found[-1].data
    return Manner(patched, None if has_base else encoding.variant(Form.WHOLE), joins=joins)
