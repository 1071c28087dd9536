"""The archive: for each channel a Redis Stream whose entry ids are the log's places, offset and index.

Channels are spread over a few parts. All keys of a part are in one slot of a cluster, and one script brings a part from
one offset of the log to another: its streams, and its index, which says how far it is filled and at which offset each
channel's last publication stands. So how far it is filled and what is in it cannot come apart, whatever Redis loses:

* A part that has gone back in time (a failover with lag, an old snapshot) says so itself, and is filled again from
  there. A script that begins elsewhere than where the part is does nothing, so nobody whose time is over does harm.
* A part that has lost its index (a flush, an eviction) is empty. What streams are left of it nobody asks for.
* A stream that was lost alone shows in the index, which knows its last offset; and its next entry says what was before
  it, as each entry does.

Which channels are archived is part of the keys' names, and so is the log's epoch: what was filled by other rules, or
from another log, is never taken for what is missing here. It goes with its time to live.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
import zlib
from binascii import crc_hqx
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from notifier.core.archiving import Batch, Entry
from notifier.core.ports import Excerpt
from notifier.core.record import NEVER
from notifier.core.rules import Rules
from notifier.core.stats import Stats
from notifier.errors import Unavailable
from notifier.protocol.messages import Publication
from notifier.state.script import Script
from notifier.state.store import Store
from notifier.tasks import end

PARTS = 16
SLOTS = 16384

PAGE, PAGE_BYTES = 1000, 2**20
READS_AT_ONCE, MAX_READS = 8, 5000
READ_WITHIN_S = 4.0  # SDKs give a command up after 5 s
REACH_WITHIN_S, LOOK_AGAIN_S = 1.5, 0.1
LOOK_EVERY_S = 5.0
STILL_S, FAR_BEHIND = 60.0, 10_000  # what operators are told of


def _slot(tag: str) -> int:
    """The slot of a cluster that a hash tag stands for (Redis cluster specification, key distribution model)."""
    return crc_hqx(tag.encode(), 0) % SLOTS


# One tag in each sixteenth of the slots, so that the nodes of a cluster get equal shares.
TAGS = [
    next(tag for tag in map(str, itertools.count()) if _slot(tag) * PARTS // SLOTS == part) for part in range(PARTS)
]


class Extras(Struct, omit_defaults=True):
    """What few publications have beside their data: event, info, tags, trace context, expiry in wall time, and whether
    another channel's comes after it in the same record."""

    e: str = ""
    i: str = ""
    t: dict[str, str] | None = None
    c: str = ""
    x: float | None = None
    m: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Extras).decode
_NOTHING = _encode(Extras())
_FILLED, _MARK = " filled", " mark "  # in an index, see archive_advance.lua


def encode(publication: Publication) -> tuple[str, bytes, bytes]:
    """Id, data and extras of a publication's entry; the extras are empty where there are none."""
    extras = Extras(
        publication.event,
        publication.info.decode(),
        publication.tags or None,
        publication.traceparent,
        None if publication.expires_at == NEVER else publication.expires_at,
        not publication.last,
    )
    encoded = _encode(extras)
    return (
        f"{publication.offset}-{publication.index}",
        publication.data,
        b"" if encoded == _NOTHING else encoded,
    )


def decode(channel: str, lines: bytes) -> list[Publication]:
    """The publications in what the reading script answers, in its order."""
    if not lines:
        return []
    parts = lines.split(b"\n")  # there is none in data and extras, see `codec_json.compact`
    found = []
    for place, data, extras in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        offset, _, index = place.partition(b"-")
        if not extras:
            found.append(Publication(channel, int(offset), data, index=int(index)))
            continue
        more = _decode(extras)
        found.append(
            Publication(
                channel,
                int(offset),
                data,
                index=int(index),
                last=not more.m,
                event=more.e,
                info=more.i.encode(),
                tags=more.t,
                traceparent=more.c,
                expires_at=NEVER if more.x is None else more.x,
            )
        )
    return found


class Keys:
    """The names of all keys, by part."""

    def __init__(self, store: Store, rules: Rules, *, max_bytes: int, repeat_window: int) -> None:
        """What else than the log decides which publications there are, is in the names."""
        decides = [(rule.pattern.text, rule.keeps_history, rule.archives) for rule in rules]
        text = repr((decides, max_bytes, repeat_window))
        self.rules = hashlib.sha256(text.encode()).hexdigest()[:8]
        self._store = store

    def part_of(self, channel: str) -> int:
        return zlib.crc32(channel.encode()) % PARTS

    def index(self, epoch: str, part: int) -> str:
        return self._store.key("archive", "{" + TAGS[part] + "}", self.rules, epoch)

    def stream(self, epoch: str, channel: str) -> str:
        return f"{self.index(epoch, self.part_of(channel))}:{channel}"


class _Read(NamedTuple):
    """What the reading script answers."""

    filled: int
    begins: int
    top: int
    before: int | None
    more: bool
    publications: list[Publication]


class RedisArchive:
    """A `core.ports.Archive` and its `Vault`. `epoch` and `end` say how the log is called, and where it ends.

    `problem` says why it does not work now, or what is wrong with it; empty when all is well.
    """

    parts = PARTS

    def __init__(
        self, store: Store, keys: Keys, rules: Rules, epoch: Callable[[], str], end: Callable[[], int], stats: Stats
    ) -> None:
        ttls = [rule.archive_ttl_s for rule in rules if rule.archives]
        self._longest_s = max(ttls)
        self._mark_every_s = max(min(ttls) / 8, self._longest_s / 256)
        self._store = store
        self._keys = keys
        self._epoch = epoch
        self._end = end
        self._stats = stats
        self._read_script = Script("archive_read")
        self._advance_script = Script("archive_advance")
        self._marks: list[list[tuple[float, int]]] = [[] for _ in range(PARTS)]
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self._reading: dict[tuple[str, int, int], asyncio.Task[Excerpt]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._seen = -1, 0.0  # the lowest place of all parts, and since when it has been that
        self.part_of = keys.part_of
        self.name = keys.rules
        self.problem = "not looked at yet"

    @property
    def longest_s(self) -> float:
        """For how long anything is kept, in seconds."""
        return self._longest_s

    def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        await end(*self._reading.values(), *([self._watching] if self._watching else []))

    # --- reading ----------------------------------------------------------------------------------------------------

    async def after(self, channel: str, offset: int, reach: int) -> Excerpt:
        """Those who ask the same at the same time share one answer."""
        key = channel, offset, reach
        task = self._reading.get(key)
        if task is None:
            if len(self._reading) >= MAX_READS:
                raise Unavailable("too many wait for the archive")
            task = self._reading[key] = asyncio.create_task(self._in_time(self._after(channel, offset, reach)))
            task.add_done_callback(lambda done: self._read_is_over(key, done))
        return await asyncio.shield(task)

    async def page(self, channel: str, offset: int | None, limit: int, reach: int, *, reverse: bool) -> Excerpt:
        return await self._in_time(self._page(channel, offset, limit, reach, reverse=reverse))

    def _read_is_over(self, key: tuple[str, int, int], task: asyncio.Task[Excerpt]) -> None:
        del self._reading[key]
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more

    async def _in_time(self, work: Awaitable[Excerpt]) -> Excerpt:
        self._stats.archive_reads += 1
        try:
            async with asyncio.timeout(READ_WITHIN_S):
                return await work
        except TimeoutError:
            self._stats.archive_failures["slow"] += 1
            raise Unavailable("the archive has not answered in time") from None
        except Unavailable:
            self._stats.archive_failures["read"] += 1
            raise

    async def _after(self, channel: str, offset: int, reach: int) -> Excerpt:
        epoch, found, at = self._epoch(), list[Publication](), offset
        while True:
            read = await self._read(epoch, channel, at, PAGE, reach)
            if not read.top:
                return Excerpt(epoch, read.filled, read.begins, [])
            if read.top <= at:
                return Excerpt(epoch, read.filled, min(read.top, offset), found)
            if read.before is None or read.before > at:
                return Excerpt(epoch, read.filled, read.top, [])
            found += read.publications
            at = found[-1].offset
            if not read.more and at != read.top:
                return Excerpt(epoch, read.filled, read.top, [])
            if not read.more:
                return Excerpt(epoch, read.filled, offset, found)

    async def _page(self, channel: str, offset: int | None, limit: int, reach: int, *, reverse: bool) -> Excerpt:
        epoch, found, at = self._epoch(), list[Publication](), offset
        while True:
            read = await self._read(epoch, channel, at, min(limit - len(found), PAGE), reach, reverse=reverse)
            found += read.publications
            if not read.more or len(found) >= limit:
                return Excerpt(epoch, read.filled, 0, found)
            at = found[-1].offset

    async def _read(
        self, epoch: str, channel: str, at: int | None, limit: int, reach: int, *, reverse: bool = False
    ) -> _Read:
        """One page. Waits until the part is filled as far as it must be."""
        keys = [self._keys.index(epoch, self.part_of(channel)), self._keys.stream(epoch, channel)]
        arguments = channel, "<" if reverse else ">", "" if at is None else at, limit, PAGE_BYTES
        until = time.monotonic() + REACH_WITHIN_S
        while True:
            async with self._turns:
                answer = await self._store.call(lambda redis: self._read_script.run(redis, keys, *arguments))
            if answer and -int(answer[0]) >= reach:
                # The numbers are scores, negative where they are no channel's.
                filled, begins, top, before, more, lines = answer
                return _Read(
                    -int(filled),
                    -int(begins),
                    int(top or 0),
                    int(before) if before else None,
                    bool(more),
                    decode(channel, lines),
                )
            if time.monotonic() > until:
                raise Unavailable("the archive has not been filled as far as it is needed")
            await asyncio.sleep(LOOK_AGAIN_S)

    # --- filling ----------------------------------------------------------------------------------------------------

    async def places(self, epoch: str) -> list[int | None]:
        found: list[int | None] = []
        for part in range(PARTS):
            notes = await self._notes(self._keys.index(epoch, part))
            found.append(notes.get(_FILLED))
            self._marks[part] = sorted(
                (float(name.removeprefix(_MARK)), offset) for name, offset in notes.items() if name.startswith(_MARK)
            )
        return found

    async def _notes(self, index: str) -> dict[str, int]:
        """What stands in a part's index beside the channels."""
        own: Any = await self._store.call(lambda redis: redis.zrangebyscore(index, "-inf", 0, withscores=True))
        return {name.decode(): -int(score) for name, score in own}

    async def advance(self, epoch: str, part: int, batch: Batch) -> int | None:
        keys = [self._keys.index(epoch, part)]
        numbers: dict[str, int] = {}
        mark, prune = self._marked(part, batch)
        arguments: list[str | float | bytes] = [
            "" if batch.since is None else batch.since,
            batch.until,
            "" if batch.anew is None else batch.anew,
            mark,
            prune,
            int(self._longest_s * 1000),
        ]
        now_s = time.time()
        for entry in batch.entries:
            number = numbers.get(entry.channel)
            if number is None:
                keys.append(self._keys.stream(epoch, entry.channel))
                number = numbers[entry.channel] = len(keys)
            arguments += [number, entry.channel, *self._arguments(part, entry, now_s)]
        answer = await self._store.call(lambda redis: self._advance_script.run(redis, keys, *arguments))
        place = int(answer) if answer else None
        if place == batch.until:
            self._stats.archive_entries += len(batch.entries)
        return place

    def _arguments(self, part: int, entry: Entry, now_s: float) -> tuple[str | float | bytes, ...]:
        publication, rule = entry.publication, entry.rule
        if publication is None:
            return "", "", "", 0, "", 0
        age_s = max(0.0, now_s - entry.time_s)
        oldest = self._offset_at(part, now_s - rule.archive_ttl_s)
        return (
            *encode(publication),
            rule.archive_size,
            f"{oldest}-0" if oldest else "",
            max(1, int((rule.archive_ttl_s - age_s) * 1000)),
        )

    def _marked(self, part: int, batch: Batch) -> tuple[str, int]:
        """The name of a mark to set, if one is due, and the offset before which nothing is remembered any more.

        Marks say at which time the log was where, so that what is too old can be told by its offset."""
        marks = self._marks[part]
        if batch.anew is not None:
            marks.clear()
        time_s = batch.entries[-1].time_s if batch.entries else 0.0
        if not time_s or (marks and time_s < marks[-1][0] + self._mark_every_s):
            return "", 0
        marks.append((time_s, batch.until))
        oldest = self._offset_at(part, time_s - self._longest_s)
        self._marks[part] = [mark for mark in marks if mark[1] >= oldest]
        return f"{_MARK}{time_s:.3f}", oldest

    def _offset_at(self, part: int, time_s: float) -> int:
        """The offset before which everything was appended before that time; 0 when it is not known."""
        marks = self._marks[part]
        place = bisect_right(marks, time_s, key=lambda mark: mark[0])
        return marks[place - 1][1] + 1 if place else 0

    # --- for operators ----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """How far it is behind the log, whoever fills it."""
        while True:
            await self._look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        epoch, places = self._epoch(), list[int | None]()
        if not epoch:
            return
        try:
            for part in range(PARTS):
                places.append(await self._filled(self._keys.index(epoch, part)))
        except Unavailable as error:
            self.problem = str(error)
            return
        end = self._end()
        self._stats.archive_lag = max(0, end - min(place or 0 for place in places))
        self.problem = self._problem_with(places)

    async def _filled(self, index: str) -> int | None:
        score = await self._store.call(lambda redis: redis.zscore(index, _FILLED))
        return None if score is None else -int(score)

    def _problem_with(self, places: list[int | None]) -> str:
        if None in places:
            return "it is being filled from the beginning, or nobody fills it"
        lowest, now = min(place or 0 for place in places), time.monotonic()
        if lowest != self._seen[0] or lowest >= self._end():
            self._seen = lowest, now
        still_s = now - self._seen[1]
        if still_s > STILL_S:
            return f"nobody has filled it for {still_s:.0f} s"
        return f"{self._stats.archive_lag} records behind the log" if self._stats.archive_lag > FAR_BEHIND else ""
