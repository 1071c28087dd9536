"""Feed: a record of the log becomes publications, and the publications go into history and to the hub.

On the fast lane: `take`. This is the story's first page: check once, drop repeats, keep, hand on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from notifier.core import channel as channels
from notifier.core import orders
from notifier.core.orders import Order, Revocation
from notifier.core.ports import Clock, Tracer, Watcher
from notifier.core.record import NEVER, Draft, Record
from notifier.core.repeats import Repeats
from notifier.core.rules import Rule, Rules
from notifier.core.seen import Fate, Seen
from notifier.core.stats import Stats
from notifier.core.versions import Versions
from notifier.errors import Rejected
from notifier.protocol.codec_json import compact
from notifier.protocol.messages import Publication


class Keeper(Protocol):
    """Where publications are kept. `end` is the offset of the last record read, `known_from` the one from which nothing
    was missed."""

    epoch: str
    end: int
    known_from: int

    def begin(self, known_from: int) -> None: ...
    def append(self, publication: Publication, rule: Rule, time_s: float, now_s: float) -> None: ...
    def pass_by(self, channel: str) -> None: ...
    def remove(self, channel: str, rule: Rule) -> None: ...
    def top(self, channel: str) -> int: ...


class Outlet(Protocol):
    """Where publications go on to."""

    epoch: str

    def publish(self, publication: Publication, rule: Rule) -> int: ...
    def sent(self, at: float) -> None: ...


class Feed:
    """The reader that a log calls. `on_reset` is called when what subscribers hold is no longer worth anything,
    `on_revoked` for every revocation."""

    def __init__(
        self,
        rules: Rules,
        history: Keeper,
        hub: Outlet,
        stats: Stats,
        clock: Clock,
        *,
        max_bytes: int,
        repeat_window: int,
    ) -> None:
        self.rules = rules
        self._history = history
        self._hub = hub
        self._stats = stats
        self._clock = clock
        self._max_bytes = max_bytes
        self._repeats = Repeats(repeat_window)
        self._versions = Versions(repeat_window)
        self.seen = Seen()
        self.tracer: Tracer | None = None
        self.watcher: Watcher | None = None
        self.on_reset: Callable[[], None] = _nothing
        self.on_revoked: Callable[[Revocation], None] = _nothing

    def begin(self, known_from: int) -> None:
        self._repeats.clear()
        self._versions.clear()
        self._history.begin(known_from)
        self.on_reset()

    def named(self, epoch: str) -> None:
        self._history.epoch = self._hub.epoch = epoch

    def caught_up(self) -> None:
        # A log that holds fewer records than the repeat window: from here on this worker sees all there is to see.
        self._history.known_from = min(self._history.known_from, self._history.end)

    def pass_over(self, offset: int) -> None:
        self._history.end = offset

    def sent(self, at: float) -> None:
        self._hub.sent(at)

    def take(self, record: Record, time_s: float) -> None:
        self._history.end = record.offset
        if record.channel == orders.CHANNEL:
            self._obey(orders.decode(record.body))
            return
        now_s = self._clock.time()
        names = _channels_of(record) if record.channels else (record.channel,)
        try:
            data = self._checked(record, names)
        except Rejected as error:
            self.seen.note((record.offset, record.message_id, now_s, (), [], None, str(error)))
            if self.watcher is not None:
                self.watcher.note(record, names, [], now_s, str(error))
            raise
        expires_at = time_s + record.ttl_s if record.ttl_s != NEVER else NEVER
        fates: list[Fate] = []
        last = len(names) - 1
        for index, name in enumerate(names):
            fates.append(self._take_on(name, record, data, index, index == last, time_s, now_s, expires_at))
        if record.sent_at and any(isinstance(fate, int) and fate for fate in fates):  # somebody gets it
            self._hub.sent(self._clock.monotonic() - max(0.0, now_s - record.sent_at))
        self.seen.note((record.offset, record.message_id, now_s, names, fates, record.tags, ""))
        if self.watcher is not None:
            self.watcher.note(record, names, fates, now_s, "")

    def _take_on(
        self,
        name: str,
        record: Record,
        data: bytes,
        index: int,
        last: bool,
        time_s: float,
        now_s: float,
        expires_at: float,
    ) -> Fate:
        """The record on one of its channels."""
        rule = self.rules.find(name)
        if rule is None:
            self._stats.unruled += 1
            return "no rule matches the channel"
        if record.message_id and self._is_repeat(name, record):
            self._stats.repeats += 1
            return "a repeat of a message id"
        if record.version and rule.keeps_history and not self._is_newer(name, record):
            self._stats.outdated += 1
            return "an older version of the channel's state"
        if record.offset <= self._history.known_from:
            # Too close to where reading began to say whether it is a repeat; nobody can ask for it.
            return "read only to know what came before"
        publication = Publication(
            name,
            0 if record.skip_history else record.offset,
            data,
            index=index,
            last=last,
            positioned=rule.keeps_history,
            event=record.event,
            info=record.info.encode(),
            tags=record.tags,
            traceparent=record.traceparent,
            expires_at=expires_at,
        )
        self._stats.publications += 1
        if publication.positioned and publication.offset:
            self._history.append(publication, rule, time_s, now_s)
        elif rule.delta:
            self._history.pass_by(name)
        if expires_at <= now_s:
            return "expired before it was read"
        reached = self._hub.publish(publication, rule)
        if self.tracer is not None and record.traceparent:
            self.tracer.note(record, name, reached, time_s)
        return reached

    def offset_of(self, channel: str, draft: Draft, offset: int) -> int:
        """The offset to answer with for a draft that was appended at `offset`: the first one's, if it was a repeat, and
        the channel's last one, if it was outdated."""
        first = self._repeats.known(channel, draft.message_id) if draft.message_id else None
        if first is not None:
            return first
        if draft.version and self._versions.taken_at(channel) not in (0, offset):
            return self._history.top(channel)
        return offset

    def _obey(self, order: Order) -> None:
        if order.revoke is not None:
            self.on_revoked(order.revoke)
        rule = self.rules.find(order.remove_history) if order.remove_history else None
        if rule is not None:
            self._history.remove(order.remove_history, rule)

    def _is_repeat(self, name: str, record: Record) -> bool:
        return self._repeats.first(name, record.message_id, record.offset) != record.offset

    def _is_newer(self, name: str, record: Record) -> bool:
        return self._versions.is_newer(name, record.version_epoch, record.version, record.offset)

    def _checked(self, record: Record, names: tuple[str, ...]) -> bytes:
        if len(record.body) > self._max_bytes:
            raise Rejected("too_large", f"{len(record.body)} bytes; the limit is {self._max_bytes}")
        for name in names:
            if problem := channels.problem_with(name):
                raise Rejected("bad_channel", problem)
        if record.event and not record.event.isprintable():
            raise Rejected("bad_type", "the property type has control characters")
        try:
            return compact(record.body)
        except ValueError as error:
            raise Rejected("not_utf8" if "UTF-8" in str(error) else "not_json", str(error)) from error


def _channels_of(record: Record) -> tuple[str, ...]:
    """The routing key's channel and those of the header, each once, in their order."""
    return tuple(dict.fromkeys((record.channel, *record.channels.split())))


def _nothing(*_: object) -> None:
    pass
