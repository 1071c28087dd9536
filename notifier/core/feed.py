"""Feed: a record of the log becomes publications, and the publications go into history and to the hub.

On the fast lane: `take`. This is the story's first page: check once, drop repeats, keep, hand on.
"""

from __future__ import annotations

from notifier.core import channel as channels
from notifier.core.history import History
from notifier.core.hub import Hub
from notifier.core.ports import Clock
from notifier.core.record import NEVER, Record
from notifier.core.repeats import Repeats
from notifier.core.rules import Rules
from notifier.core.stats import Stats
from notifier.errors import Rejected
from notifier.protocol.codec_json import compact
from notifier.protocol.messages import Publication


class Feed:
    """The reader that a log calls. `on_reset` is called when what subscribers hold is no longer worth anything."""

    def __init__(
        self,
        rules: Rules,
        history: History,
        hub: Hub,
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
        self.on_reset = _nothing

    def begin(self, known_from: int) -> None:
        self._repeats.clear()
        self._history.begin(known_from)
        self.on_reset()

    def named(self, epoch: str) -> None:
        self._history.epoch = self._hub.epoch = epoch

    def caught_up(self) -> None:
        # A log that holds fewer records than the repeat window: from here on this worker sees all there is to see.
        self._history.known_from = min(self._history.known_from, self._history.end)

    def pass_over(self, offset: int) -> None:
        self._history.end = offset

    def take(self, record: Record, time_s: float) -> None:
        self._history.end = record.offset
        names = _channels_of(record) if record.channels else (record.channel,)
        data = self._checked(record, names)
        now_s = self._clock.time()
        expires_at = time_s + record.ttl_s if record.ttl_s != NEVER else NEVER
        last = len(names) - 1
        for index, name in enumerate(names):
            rule = self.rules.find(name)
            if rule is None:
                self._stats.unruled += 1
                continue
            if record.message_id and self._is_repeat(name, record):
                self._stats.repeats += 1
                continue
            if record.offset <= self._history.known_from:
                continue  # too close to where reading began to say whether it is a repeat; nobody can ask for it
            publication = Publication(
                name,
                0 if record.skip_history else record.offset,
                data,
                index=index,
                last=index == last,
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
            if expires_at > now_s:
                self._hub.publish(publication)

    def offset_of(self, channel: str, message_id: str, offset: int) -> int:
        """The offset to answer with for a record that was appended at `offset`: the first one's, if it was a repeat."""
        first = self._repeats.known(channel, message_id) if message_id else None
        return offset if first is None else first

    def _is_repeat(self, name: str, record: Record) -> bool:
        return self._repeats.first(name, record.message_id, record.offset) != record.offset

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


def _nothing() -> None:
    pass
