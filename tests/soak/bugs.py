"""Seeded bugs: defects planted into the real classes of one process, to see that the checker would catch them.

The product's code has no switch for any of them; `tests.soak.node` plants one and then runs the normal command line.
Each is something that somebody could really write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from notifier.core import stream, subscribing
from notifier.core.feed import Feed
from notifier.core.history import History, Verdict
from notifier.core.hub import Audience, Hub, Manner, Subscribers
from notifier.core.node import Node
from notifier.core.ports import Connection
from notifier.core.presence import PresenceList
from notifier.core.record import Draft
from notifier.core.recovery import Missed
from notifier.core.repeats import Repeats
from notifier.core.rules import Rule
from notifier.core.session import Session
from notifier.core.stream import Cursor, Resumption
from notifier.core.target import Target
from notifier.errors import Unavailable
from notifier.log import markers
from notifier.log.entry import EntryReader
from notifier.log.rabbitmq import RabbitMQLog
from notifier.log.tail import Tail
from notifier.protocol.messages import Position, Publication, SubscribeRequest
from notifier.transports.outlet import Outlet


class Bug(Struct, frozen=True):
    """`plant` gets the run's seed."""

    about: str
    plant: Callable[[int], None]


def _one_in(every: int, seed: int, number: int) -> bool:
    return number % every == seed % every


def _drop_in_fanout(seed: int) -> None:
    publish, count = Hub.publish, 0

    def forgetful(self: Hub, publication: Publication, rule: Rule) -> int:
        nonlocal count
        count += 1
        return 0 if _one_in(500, seed, count) else publish(self, publication, rule)

    Hub.publish = forgetful  # type: ignore[method-assign]


def _drop_in_history(seed: int) -> None:
    append, count = History.append, 0

    def forgetful(self: History, publication: Publication, rule: Rule, time_s: float, now_s: float) -> None:
        nonlocal count
        count += 1
        if not _one_in(500, seed, count):
            append(self, publication, rule, time_s, now_s)

    History.append = forgetful  # type: ignore[method-assign]


def _show_repeats(_seed: int) -> None:
    def first(self: Repeats, channel: str, message_id: str, offset: int) -> int:
        return offset

    Repeats.first = first  # type: ignore[method-assign]


def _floor_too_high(_seed: int) -> None:
    verdict = History.verdict

    def strict(self: History, channel: str, rule: Rule, position: Position, index: int = -1) -> Verdict:
        found = verdict(self, channel, rule, position, index)
        floor = self.floor(channel)
        return Verdict.TRIMMED if found is Verdict.RECOVERED and floor and position.offset <= floor else found

    History.verdict = strict  # type: ignore[method-assign]


def _recover_a_part(_seed: int) -> None:
    verdict = History.verdict

    def generous(self: History, channel: str, rule: Rule, position: Position, index: int = -1) -> Verdict:
        found = verdict(self, channel, rule, position, index)
        return Verdict.RECOVERED if found is Verdict.TRIMMED else found

    History.verdict = generous  # type: ignore[method-assign]


def _keep_epoch(_seed: int) -> None:
    markers.new_epoch = lambda: "0123456789ab"


def _tail_from_next(_seed: int) -> None:
    async def go_on(self: Tail, reader: EntryReader) -> int:
        self._checked = True
        found = [self._last_place]
        flowing = asyncio.Event()
        flowing.set()
        async with reader.read("last", lambda entry: found.append(entry.place), flowing, ahead=True):
            await asyncio.sleep(0.3)
        return max(found) + 1

    Tail._go_on = go_on  # type: ignore[method-assign]


def _join_without_flush(_seed: int) -> None:
    """As on a busy worker, frames wait for some milliseconds; that alone would harm nobody."""

    def join(self: Hub, subscribers: Subscribers, connection: Connection, manner: Manner) -> Audience:
        audience = subscribers.shared.get(manner)
        if audience is None:
            audience = subscribers.shared[manner] = Audience(manner, self._stats)
            subscribers.audiences[audience] = None
            audience.homes.append(subscribers)
        audience.add(connection)
        return audience

    def flush_late(self: Hub) -> None:
        self._later(0.005, self.flush)

    Hub._join = join  # type: ignore[method-assign]
    Hub._flush_in_time = flush_late  # type: ignore[method-assign]


def _wait_before_joining(_seed: int) -> None:
    """Something is asked between the decision and the subscription, as of a store that takes some milliseconds."""
    join = Session.join

    def join_later(self: Session, subscription: Any, manner: Manner) -> None:
        def go() -> None:
            if not self.closed and subscription.name not in self.subscriptions:
                join(self, subscription, manner)

        asyncio.get_running_loop().call_later(0.005, go)

    Session.join = join_later  # type: ignore[method-assign]


def _know_too_much(_seed: int) -> None:
    begin = Feed.begin

    def begin_from_zero(self: Feed, known_from: int) -> None:
        begin(self, known_from)
        self._history.known_from = 0

    Feed.begin = begin_from_zero  # type: ignore[method-assign]


def _recover_ahead(_seed: int) -> None:
    async def judge(self: Node, target: Target, position: Position) -> Verdict:
        verdict = target.verdict(self.history, position)
        return Verdict.RECOVERED if verdict is Verdict.AHEAD else verdict

    Node.judge = judge  # type: ignore[method-assign]


def _acknowledge_anyway(_seed: int) -> None:
    append = RabbitMQLog.append

    async def hopeful(self: RabbitMQLog, draft: Draft) -> int:
        try:
            return await append(self, draft)
        except Unavailable:
            return 0

    RabbitMQLog.append = hopeful  # type: ignore[method-assign]


def _drop_for_slow(_seed: int) -> None:
    def drop(self: Outlet) -> None:
        """The client takes what it can."""

    Outlet._slow = drop  # type: ignore[method-assign]


def _accept_expired_cursors(_seed: int) -> None:
    resume = stream.resume

    def generous(node: Node, targets: list[Target], cursor: Cursor | None, excerpts: Any = None) -> Resumption:
        found = resume(node, targets, cursor, excerpts)
        found.verdicts = dict.fromkeys(found.verdicts, Verdict.RECOVERED)
        return found

    stream.resume = generous


def _forget_position(_seed: int) -> None:
    """A subscription with a position is answered as one without."""
    begin = subscribing.begin

    def forgetful(session: Session, judged: Any) -> Any:
        position: SubscribeRequest = judged.request
        if position.recover and position.offset % 100 == 0:
            judged = judged._replace(missed=Missed(Verdict.TRIMMED, []))
        return begin(session, judged)

    subscribing.begin = forgetful


def _leave_ghosts(seed: int) -> None:
    remove, count = PresenceList.remove, 0

    def forgetful(self: PresenceList, channel: str, client_id: str) -> None:
        nonlocal count
        count += 1
        if not _one_in(50, seed, count):
            remove(self, channel, client_id)

    PresenceList.remove = forgetful  # type: ignore[method-assign]


BUGS: dict[str, Bug] = {
    "drop-in-fanout": Bug("fan-out leaves out one publication in 500", _drop_in_fanout),
    "drop-in-history": Bug("history leaves out one publication in 500", _drop_in_history),
    "show-repeats": Bug("repeats of a message id are not dropped", _show_repeats),
    "floor-too-high": Bug("a position at the floor is called trimmed: > instead of >=", _floor_too_high),
    "recover-a-part": Bug("recovery looks away from what was trimmed: recovered, with a part", _recover_a_part),
    "keep-epoch": Bug("the epoch stays the same when the stream was made anew", _keep_epoch),
    "tail-from-next": Bug("after a lost connection the tail goes on at the stream's end", _tail_from_next),
    "join-without-flush": Bug("a subscriber is added before the pending frames are written", _join_without_flush),
    "wait-before-joining": Bug("something is waited for between recovery and subscription", _wait_before_joining),
    "know-too-much": Bug("a starting node answers for what it has not read", _know_too_much),
    "recover-ahead": Bug("a position ahead of the node is called recovered", _recover_ahead),
    "acknowledge-anyway": Bug("publishing is answered although the broker has not confirmed", _acknowledge_anyway),
    "drop-for-slow": Bug("a slow client's frames are dropped instead of its connection", _drop_for_slow),
    "accept-expired-cursors": Bug("an SSE cursor that is too old is resumed", _accept_expired_cursors),
    "forget-position": Bug("one position in 100 is called lost without a reason", _forget_position),
    "leave-ghosts": Bug("one client in 50 stays present when it has left", _leave_ghosts),
}
