"""What the archive keeps on a real Redis, and what it says when Redis has lost some of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from notifier.config import ChannelRule, Duration, HistoryRule, Secret
from notifier.config import Redis as RedisSection
from notifier.core.archiving import Batch, Entry
from notifier.core.ports import Excerpt
from notifier.core.rules import Rules
from notifier.core.stats import Stats
from notifier.errors import Unavailable
from notifier.protocol.messages import Publication
from notifier.state import archive as module
from notifier.state.archive import PARTS, Keys, RedisArchive
from notifier.state.store import Store
from tests.integration.state.letting_go import let_go
from tests.services.deadline import SECOND, eventually
from tests.services.redis import Redis as Server

SIZE = 5
EPOCH = "e1"
_numbers = itertools.count()


def rules(size: int = SIZE, ttl: float = 3600) -> Rules:
    kept = HistoryRule(size=1, ttl=Duration(0.1))
    return Rules([ChannelRule(match="#", history=kept, archive=HistoryRule(size=size, ttl=Duration(ttl)))])


@dataclass
class Filling:
    """An archive, and where its filler is, who writes to all parts at once."""

    archive: RedisArchive
    store: Store
    keys: Keys
    rules: Rules
    client: Redis
    stats: Stats
    place: int | None = None

    def entry(self, offset: int, channel: str, data: bytes = b"1", *, index: int = 0, time_s: float = 0) -> Entry:
        rule = self.rules.find(channel)
        assert rule is not None
        time_s = time_s or time.time()
        return Entry(channel, offset, rule, time_s, Publication(channel, offset, data, index=index))

    def removal(self, offset: int, channel: str) -> Entry:
        rule = self.rules.find(channel)
        assert rule is not None
        return Entry(channel, offset, rule, 0.0)

    async def fill(self, until: int, *entries: Entry, anew: int | None = None) -> None:
        for part in range(PARTS):
            own = [entry for entry in entries if self.archive.part_of(entry.channel) == part]
            assert await self.archive.advance(EPOCH, part, Batch(self.place, until, own, anew)) == until
        self.place = until

    async def begin(self, begins: int = 0) -> None:
        await self.fill(begins, anew=begins)

    async def publish(self, *offsets: int, channel: str = "a") -> None:
        await self.fill(offsets[-1], *(self.entry(offset, channel) for offset in offsets))

    async def after(self, offset: int, channel: str = "a", reach: int = 0) -> Excerpt:
        return await self.archive.after(channel, offset, reach)

    async def recovered(self, offset: int, channel: str = "a") -> list[int] | None:
        """The offsets after a position, None when it is not recoverable."""
        excerpt = await self.after(offset, channel)
        return [p.offset for p in excerpt.publications] if offset >= excerpt.floor else None

    def stream(self, channel: str = "a") -> str:
        return self.keys.stream(EPOCH, channel)

    def index(self, channel: str = "a") -> str:
        return self.keys.index(EPOCH, self.archive.part_of(channel))


New = Callable[..., Any]


@contextlib.asynccontextmanager
async def fillings(default_url: str) -> AsyncIterator[New]:
    """Makes them, and lets go of them at the end."""
    made: list[Filling] = []

    async def make(specs: Rules | None = None, prefix: str = "", url: str = "") -> Filling:
        found = specs or rules()
        url = url or default_url
        section = RedisSection(url=Secret(url), prefix=prefix or f"test-{next(_numbers)}")
        store, stats = Store(section), Stats()
        store.start()
        await eventually(lambda: not store.problem)
        keys = Keys(store, found, max_bytes=1000, repeat_window=10)
        archive = RedisArchive(store, keys, found, lambda: EPOCH, lambda: 0, stats)
        made.append(Filling(archive, store, keys, found, Redis.from_url(url), stats))
        return made[-1]

    try:
        yield make
    finally:
        for filling in made:
            await filling.archive.stop()
            await let_go(filling.store)
            await filling.client.aclose()


@pytest.fixture
async def new_filling(redis_server: Server) -> AsyncIterator[New]:
    async with fillings(redis_server.url) as make:
        yield make


@pytest.fixture
async def filling(new_filling: New) -> Filling:
    made: Filling = await new_filling()
    await made.begin()
    return made


async def test_what_was_put_in_comes_back_after_any_position_whole_and_in_order(filling: Filling) -> None:
    rule = filling.rules.find("a")
    assert rule is not None
    told = Publication(
        "a", 7, b'{"n": "\xc3\xa9"}', index=3, last=False, event="made", info=b'{"user":"ann"}', tags={"lang": "en"},
        traceparent="00-1-2-03", expires_at=4e9,
    )  # fmt: skip
    await filling.fill(9, filling.entry(2, "a"), Entry("a", 7, rule, time.time(), told), filling.entry(9, "b"))
    excerpt = await filling.after(2)
    assert (excerpt.epoch, excerpt.filled) == (EPOCH, 9)
    [found] = excerpt.publications
    for name in ("channel", "offset", "data", "index", "last", "event", "info", "tags", "traceparent", "expires_at"):
        assert getattr(found, name) == getattr(told, name)
    assert found.positioned
    assert await filling.recovered(0) == [2, 7]
    assert await filling.recovered(5) == [7]
    assert await filling.recovered(7) == []
    assert await filling.recovered(0, "b") == [9]
    assert await filling.recovered(0, "never published to") == []


async def test_the_same_batch_twice_changes_nothing(filling: Filling) -> None:
    batch = [filling.entry(1, "a"), filling.entry(2, "a")]
    await filling.fill(2, *batch)
    filling.place = 0
    await filling.fill(2, *batch)
    assert await filling.recovered(0) == [1, 2]
    assert await filling.client.xlen(filling.stream()) == 2


async def test_what_redis_has_already_is_taken_as_written(filling: Filling) -> None:
    """As after a script that was cut off in the middle."""
    await filling.publish(1)
    await filling.client.xadd(filling.stream(), {"p": 1, "d": "1"}, id="2-0")
    await filling.fill(3, filling.entry(2, "a"), filling.entry(3, "a"))
    assert await filling.recovered(0) == [1, 2, 3]


async def test_whoever_is_not_where_the_archive_is_changes_nothing(filling: Filling) -> None:
    """A holder that has been replaced, or one that an old Redis has come back to."""
    await filling.publish(1, 2)
    part = filling.archive.part_of("a")
    stale = [filling.entry(2, "a", b'"other"'), filling.entry(3, "a", b'"other"')]
    for since, anew in ((1, None), (None, 0), (1, 3), (7, None)):
        assert await filling.archive.advance(EPOCH, part, Batch(since, 9, stale, anew)) == 2
    assert [p.data for p in (await filling.after(0)).publications] == [b"1", b"1"]


async def test_a_holder_whose_time_is_over_says_what_the_new_one_says(new_filling: New) -> None:
    """Both are fed with the same log; whoever comes second to a place is told where the part is."""
    one = await new_filling(prefix="two-holders")
    other = await new_filling(prefix="two-holders")
    await one.begin()
    offsets = list(range(1, 41))

    async def fill(filling: Filling, step: int) -> None:
        part, at = filling.archive.part_of("a"), 0
        while at < 40:
            until = min(40, at + step)
            entries = [filling.entry(offset, "a", b"%d" % offset) for offset in offsets[at:until]]
            at = await filling.archive.advance(EPOCH, part, Batch(at, until, entries)) or 0
            await asyncio.sleep(0)

    await asyncio.gather(fill(one, 3), fill(other, 7))
    excerpt = await one.after(40 - SIZE)
    assert [(p.offset, p.data) for p in excerpt.publications] == [(n, b"%d" % n) for n in offsets[-SIZE:]]
    assert excerpt.floor <= 40 - SIZE
    assert await one.client.xlen(one.stream()) == SIZE


async def test_a_channel_keeps_so_many_and_positions_before_are_told_so(filling: Filling) -> None:
    await filling.publish(*range(10, 10 + SIZE + 3))
    assert await filling.recovered(11) is None
    assert await filling.recovered(12) == [13, 14, 15, 16, 17]


async def test_a_channel_is_let_go_of_when_it_is_too_old_but_its_last_offset_is_known(new_filling: New) -> None:
    filling = await new_filling(rules(ttl=1000))
    await filling.begin()
    almost = time.time() - 999.7
    await filling.fill(2, *(filling.entry(offset, "a", time_s=almost) for offset in (1, 2)))

    async def gone() -> bool:
        return not await filling.client.exists(filling.stream())

    await eventually(gone)
    assert await filling.recovered(1) is None
    assert await filling.recovered(2) == []


async def test_what_was_too_old_when_it_was_written_is_not_kept_longer(new_filling: New) -> None:
    filling = await new_filling(rules(ttl=3600))
    await filling.begin()
    await filling.fill(1, filling.entry(1, "a", time_s=time.time() - 3599.5))
    assert 0 < await filling.client.pttl(filling.stream()) <= 500 or not await filling.client.exists(filling.stream())
    await filling.fill(2, filling.entry(2, "b"))
    assert await filling.client.pttl(filling.stream("b")) > 3_500_000


async def test_in_a_channel_that_never_rests_the_old_ones_go_as_well(new_filling: New) -> None:
    filling = await new_filling(rules(size=1000, ttl=1000))
    await filling.begin()
    now = time.time()
    for number in range(1, 101):
        await filling.fill(number, filling.entry(number, "a", time_s=now - 2000 + 20 * number))
    kept = await filling.client.xlen(filling.stream())
    assert 50 <= kept <= 65, "those of the last 1000 s, and at most an eighth more"


async def test_the_index_forgets_channels_that_are_too_old_and_says_so(new_filling: New) -> None:
    filling = await new_filling(rules(ttl=1000))
    await filling.begin()
    now = time.time()
    part = filling.archive.part_of("a")
    channels = [name for name in map(str, range(200)) if filling.archive.part_of(name) == part][:10]
    for number, channel in enumerate(channels, start=1):
        await filling.fill(number, filling.entry(number, channel, time_s=now - 3000 + 200 * number))
    assert await filling.client.zscore(filling.index(), channels[0]) is None
    assert await filling.recovered(0, channels[0]) is None, "it has had a publication"
    assert await filling.recovered(0, channels[1]) is None
    names = [name for name in await filling.client.zrange(filling.index(), 0, -1) if not name.startswith(b" ")]
    assert 5 <= len(names) <= 7
    assert len([1 async for _ in filling.client.scan_iter(f"{filling.index()}*")]) <= 8


async def test_nothing_is_left_when_nobody_fills_it_any_more(new_filling: New) -> None:
    filling = await new_filling(rules(ttl=0.3))
    await filling.begin()
    await filling.publish(1)

    async def empty() -> bool:
        return not [1 async for _ in filling.client.scan_iter(f"{filling.store.key('archive')}:*")]

    await eventually(empty)


async def test_a_removed_history_is_gone_but_who_saw_its_last_publication_missed_nothing(filling: Filling) -> None:
    await filling.publish(1, 2)
    await filling.fill(4, filling.removal(3, "a"), filling.entry(4, "b"))
    assert not await filling.client.exists(filling.stream())
    assert await filling.recovered(1) is None
    assert await filling.recovered(2) == []
    await filling.publish(5)
    assert await filling.recovered(1) is None
    assert await filling.recovered(2) == [5]


# --- pages ----------------------------------------------------------------------------------------------------------


async def test_pages_go_both_ways(filling: Filling) -> None:
    await filling.publish(2, 4, 6, 8)

    async def page(offset: int | None, limit: int, *, reverse: bool = False) -> list[int]:
        excerpt = await filling.archive.page("a", offset, limit, 0, reverse=reverse)
        return [p.offset for p in excerpt.publications]

    assert await page(None, 3) == [2, 4, 6]
    assert await page(4, 3) == [6, 8]
    assert await page(3, 1) == [4]
    assert await page(None, 3, reverse=True) == [8, 6, 4]
    assert await page(6, 3, reverse=True) == [4, 2]
    assert await page(7, 1, reverse=True) == [6]


async def test_more_than_a_page_comes_in_several_and_as_one(new_filling: New, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 7)
    monkeypatch.setattr(module, "PAGE_BYTES", 10)
    filling = await new_filling(rules(size=1000))
    await filling.begin()
    await filling.publish(*range(1, 251))
    assert await filling.recovered(0) == list(range(1, 251))
    assert await filling.recovered(236) == list(range(237, 251))
    backwards = await filling.archive.page("a", None, 100, 0, reverse=True)
    assert [p.offset for p in backwards.publications] == list(range(250, 150, -1))


async def test_what_goes_while_it_is_read_page_by_page_is_not_passed_over(
    filling: Filling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    await filling.publish(1, 2, 3, 4)
    read = filling.archive._read_script.run
    pages = 0

    async def run(*args: Any) -> Any:
        nonlocal pages
        answer = await read(*args)
        pages += 1
        if pages == 1:
            await filling.publish(*range(5, 12))
        return answer

    monkeypatch.setattr(filling.archive._read_script, "run", run)
    assert await filling.recovered(0) is None


# --- what gets lost -------------------------------------------------------------------------------------------------


async def test_a_stream_that_was_evicted_is_missed_also_after_the_channel_has_spoken_again(filling: Filling) -> None:
    """F-R9."""
    await filling.publish(1, 2, 3)
    await filling.client.delete(filling.stream())
    assert await filling.recovered(1) is None
    assert await filling.recovered(3) == []
    await filling.publish(4)
    assert await filling.recovered(2) is None
    assert await filling.recovered(3) == [4]


async def test_the_end_of_a_stream_that_is_missing_is_noticed(filling: Filling) -> None:
    await filling.publish(1, 2, 3)
    await filling.client.xdel(filling.stream(), "3-0")
    assert await filling.recovered(1) is None


async def test_without_its_index_a_part_is_empty_and_what_is_left_of_it_is_never_shown(filling: Filling) -> None:
    await filling.publish(1, 2)
    await filling.client.delete(filling.index())
    with pytest.raises(Unavailable):
        await filling.after(0)
    assert (await filling.archive.places(EPOCH)).count(None) == 1
    part = filling.archive.part_of("a")
    assert await filling.archive.advance(EPOCH, part, Batch(None, 5, [filling.entry(5, "a")], anew=3)) == 5
    assert await filling.client.xlen(filling.stream()) == 1
    assert await filling.recovered(2) is None, "nobody knows what was there up to 3"
    assert await filling.recovered(3) == [5]


async def test_a_redis_that_has_gone_back_in_time_says_so_and_is_filled_from_there(filling: Filling) -> None:
    """A failover with lag, or an old snapshot."""
    await filling.publish(1, 2)
    index, stream = [await filling.client.dump(key) for key in (filling.index(), filling.stream())]
    await filling.publish(3, 4)
    assert index is not None
    assert stream is not None
    await filling.client.restore(filling.index(), 0, index, replace=True)
    await filling.client.restore(filling.stream(), 0, stream, replace=True)
    assert (await filling.after(2)).filled == 2
    part = filling.archive.part_of("a")
    assert await filling.archive.advance(EPOCH, part, Batch(4, 5, [filling.entry(5, "a")])) == 2
    again = [filling.entry(offset, "a") for offset in (3, 4, 5)]
    assert await filling.archive.advance(EPOCH, part, Batch(2, 5, again)) == 5
    assert await filling.recovered(1) == [2, 3, 4, 5]


async def test_a_hole_in_what_was_filled_makes_all_positions_before_it_unrecoverable(filling: Filling) -> None:
    await filling.publish(1, 2)
    await filling.fill(60, filling.entry(55, "a"), anew=50)
    assert await filling.recovered(2) is None
    assert await filling.recovered(2, "b") is None, "also where nothing seems to have come"
    assert await filling.recovered(50) == [55]
    assert await filling.recovered(50, "b") == []


async def test_other_epochs_and_other_rules_have_keys_of_their_own(new_filling: New) -> None:
    filling = await new_filling(prefix="shared")
    await filling.begin()
    await filling.publish(1)
    other = await new_filling(
        Rules([ChannelRule(match="a", history=HistoryRule(size=1, ttl=Duration(1)),
                           archive=HistoryRule(size=1, ttl=Duration(1)))]), prefix="shared"
    )  # fmt: skip
    assert await other.archive.places(EPOCH) == [None] * PARTS
    assert await filling.archive.places("e2") == [None] * PARTS
    wider = await new_filling(rules(size=500, ttl=7200), prefix="shared")
    assert await wider.archive.places(EPOCH) == [1] * PARTS, "what is kept for longer is the same"


async def test_the_archive_waits_for_what_it_must_be_filled_to_and_not_for_long(filling: Filling) -> None:
    await filling.publish(1)
    asked = asyncio.create_task(filling.after(0, reach=3))
    await asyncio.sleep(0)
    await filling.publish(3)
    assert [p.offset for p in (await asked).publications] == [1, 3]
    with pytest.raises(Unavailable, match="filled as far"):
        await filling.after(0, reach=4)


async def test_those_who_ask_the_same_at_the_same_time_share_one_answer(
    filling: Filling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filling.publish(1, 2)
    calls = 0
    read = filling.archive._read_script.run

    async def run(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return await read(*args)

    monkeypatch.setattr(filling.archive._read_script, "run", run)
    answers = await asyncio.gather(*(filling.after(0) for _ in range(500)))
    assert calls == 1
    assert all(answer.publications is answers[0].publications for answer in answers)
    one, other = asyncio.create_task(filling.after(1)), asyncio.create_task(filling.after(1))
    await asyncio.sleep(0)
    one.cancel()
    assert [p.offset for p in (await other).publications] == [2], "whoever leaves takes nobody with him"


async def test_a_redis_without_memory_for_more_refuses_and_goes_on_later(
    private_redis: Server, new_filling: New
) -> None:
    filling = await new_filling(url=private_redis.url)
    await filling.begin()
    await filling.publish(1)
    await filling.client.config_set("maxmemory", 1)
    for anew in (None, 1):
        with pytest.raises(Unavailable):
            await filling.fill(2, filling.entry(2, "a"), anew=anew)
        await eventually(lambda: not filling.store.problem, 10 * SECOND)
    await filling.client.config_set("maxmemory", 0)
    assert await filling.archive.places(EPOCH) == [1] * PARTS, "nothing was taken away for what could not be written"
    assert await filling.recovered(0) == [1]
    await filling.publish(2)
    assert await filling.recovered(0) == [1, 2]


async def test_how_far_it_is_behind_is_told_whoever_fills_it(filling: Filling) -> None:
    await filling.publish(4)
    filling.archive._end = lambda: 9
    await filling.archive._look()
    assert filling.stats.archive_lag == 5
    assert filling.archive.problem == ""
    filling.archive._end = lambda: 20_004
    await filling.archive._look()
    assert filling.archive.problem == "20000 records behind the log"
    filling.archive._seen = 4, time.monotonic() - 100
    await filling.archive._look()
    assert filling.archive.problem == "nobody has filled it for 100 s"
    await filling.publish(20_004)
    await filling.archive._look()
    assert filling.archive.problem == ""
    await filling.client.delete(filling.index())
    await filling.archive._look()
    assert "being filled" in filling.archive.problem


# --- against a model ------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "publish", "publish", "remove", "fill", "evict", "lose"]),
        st.sampled_from("abc"),
        st.integers(1, 3),
    ),
    max_size=40,
)


class Model:
    """What was published, and what of it Redis has kept, by channel."""

    def __init__(self, filling: Filling) -> None:
        self.filling = filling
        self.offset = 0
        self.waiting: list[Entry] = []
        self.published: dict[str, list[int]] = {}
        self.kept: dict[str, list[int]] = {}
        self.lost = False

    async def do(self, step: str, channel: str, hole: int) -> None:
        self.offset += hole
        if step == "publish":
            self.waiting.append(self.filling.entry(self.offset, channel))
        elif step == "remove":
            self.waiting.append(self.filling.removal(self.offset, channel))
        elif step == "evict":
            await self.filling.client.delete(self.filling.stream(channel))
            self.kept[channel] = []
        else:
            begins = await self.lose(self.offset - hole) if step == "lose" else None
            await self.filling.fill(self.offset, *self.waiting, anew=begins)
            for entry in self.waiting:
                self.note(entry)
            self.waiting = []

    async def lose(self, begins: int) -> int:
        """All indexes; and what waits is written after that offset."""
        for part in range(PARTS):
            await self.filling.client.delete(self.filling.keys.index(EPOCH, part))
        self.filling.place, self.kept, self.lost = None, {}, True
        return begins

    def note(self, entry: Entry) -> None:
        kept = self.kept.get(entry.channel, [])
        if entry.publication is None:
            self.kept[entry.channel] = []
        else:
            self.published.setdefault(entry.channel, []).append(entry.offset)
            self.kept[entry.channel] = [*kept, entry.offset][-SIZE:]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.integers(0, 60))
async def test_after_any_losses_a_position_is_recovered_wholly_or_refused(
    redis_server: Server, steps: list[tuple[str, str, int]], position: int
) -> None:
    async with fillings(redis_server.url) as new_filling:
        filling: Filling = await new_filling()
        await filling.begin()
        model = Model(filling)
        for step in steps:
            await model.do(*step)
        position = min(position, filling.place or 0)
        for channel in "abc":
            wanted = [offset for offset in model.published.get(channel, []) if offset > position]
            recovered = await filling.recovered(position, channel)
            assert recovered in (None, wanted)
            if not model.lost and wanted == [at for at in model.kept.get(channel, []) if at > position]:
                assert recovered == wanted, "never refused without need"
