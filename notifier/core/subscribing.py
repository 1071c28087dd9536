"""Subscribing: how a subscription begins, whoever asked for it (protocol.md sections 2.3, 5.2, 5.4).

What must be waited for comes first (`judged`); then `begin` decides and writes nothing that could be overtaken: what is
published from there on is either in the result or comes after it.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Raw

from notifier.core.history import Verdict
from notifier.core.hub import Manner
from notifier.core.identity import SubscriptionGrant
from notifier.core.session import NEVER, Session, Subscription
from notifier.core.target import Target
from notifier.protocol.codes import bad_request
from notifier.protocol.filters import TagFilter
from notifier.protocol.messages import EMPTY, Form, Position, Publication, Shown, SubscribeRequest, SubscribeResult

_LONGEST_TTL_S = 2**31 - 1  # what every SDK can hold, and set a timer for


class Judged(NamedTuple):
    """A subscription that may begin: its target, what was asked, what may be recovered, and who allowed it."""

    target: Target
    request: SubscribeRequest
    verdict: Verdict
    grant: SubscriptionGrant | None = None
    server_side: bool = False

    @property
    def recovers(self) -> bool:
        return _asks_to_recover(self.target, self.request)


async def judged(
    session: Session,
    target: Target,
    request: SubscribeRequest,
    grant: SubscriptionGrant | None = None,
    *,
    server_side: bool = False,
) -> Judged:
    """Whether the position asked for can be recovered. May wait until this worker has read as far as the client."""
    verdict = Verdict.NO_HISTORY
    if target.rule.keeps_history and _asks_to_recover(target, request):
        verdict = await session.node.judge(target, Position(request.offset, request.epoch))
    return Judged(target, request, verdict, grant, server_side)


def begin(session: Session, judged: Judged) -> SubscribeResult:
    """Subscribe now. Raises CommandFailed when the tag filter is wrong; then nothing has happened."""
    target, request, grant = judged.target, judged.request, judged.grant
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
    subscription = Subscription(target.name, rule, by_pattern=bool(via), grant=grant, server_side=judged.server_side)
    session.join(subscription, _manner(session, judged, accepts, found, delta=delta))
    return result


def time_left(session: Session, expires_at: float) -> tuple[bool, int]:
    """Whether something expires, and in how many seconds; at least one, since zero would not be written."""
    if expires_at == NEVER:
        return False, 0
    return True, min(max(1, int(expires_at - session.node.clock.time())), _LONGEST_TTL_S)


def _asks_to_recover(target: Target, request: SubscribeRequest) -> bool:
    """Where only the last publication matters, everybody asks for it."""
    return request.recover or target.rule.cache_recovery


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
    history, now_s = session.node.history, session.node.clock.time()
    result.recoverable = result.positioned = True
    result.epoch = history.epoch
    result.offset = history.end
    if not judged.recovers:
        return []
    session.node.stats.recoveries[judged.verdict.name.lower()] += 1
    if target.rule.cache_recovery and target.pattern is None:
        latest = history.latest(target.name, now_s)
        known = request.offset > 0 and request.epoch == history.epoch
        if latest is not None:
            result.recovered = True
            found = [] if known and latest.offset <= request.offset <= history.end else [latest]
        else:
            result.recovered = known and judged.verdict is Verdict.RECOVERED
            found = []
    elif judged.verdict is Verdict.RECOVERED:
        result.recovered = True
        found = target.after(history, request.offset, now_s)
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
