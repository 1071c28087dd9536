"""Memory and archive together, against the simplest thing that can be right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.config import ChannelRule, Duration, HistoryRule
from notifier.core import recovery, target
from notifier.core.history import Verdict
from notifier.core.node import Node
from notifier.core.orders import Order
from notifier.core.ports import Excerpt
from notifier.core.record import Draft, Record
from notifier.core.recovery import Missed
from notifier.core.stream import Cursor, Resumption, look_up, resume
from notifier.core.target import Target
from notifier.errors import Unavailable
from notifier.protocol.messages import Position, Publication
from notifier.testing import Client, ManualClock, make_node

MEMORY, ARCHIVE = HistoryRule(size=2, ttl=Duration(60)), HistoryRule(size=6, ttl=Duration(3600))
OPEN = ["anyone"]
RULES = [
    ChannelRule(match="latest.#", history=MEMORY, archive=ARCHIVE, recovery="cache", subscribe=OPEN, publish=OPEN),
    ChannelRule(match="delta.#", history=MEMORY, archive=ARCHIVE, delta=True, subscribe=OPEN, publish=OPEN),
    ChannelRule(match="brief.#", history=MEMORY, subscribe=OPEN, publish=OPEN),
    ChannelRule(
        match="#", history=MEMORY, archive=ARCHIVE, tag_filter=True, wildcard=True, subscribe=OPEN, publish=OPEN
    ),
]  # fmt: skip


@dataclass
class ListArchive:
    """An archive that is a list: `fill` brings it forward, `away` makes it fail, `on_read` runs before each answer."""

    node: Node
    log: list[Publication | tuple[int, str]] = field(default_factory=list)
    filled: int = 0
    begins: int = 0
    away: bool = False
    reads: int = 0
    on_read: Callable[[], None] = lambda: None

    def fill(self, until: int) -> None:
        self.filled = max(self.filled, until)

    def _kept(self, channel: str) -> tuple[int, list[Publication]]:
        floor, kept = self.begins, list[Publication]()
        for entry in self.log:
            if isinstance(entry, tuple):
                if entry[1] == channel and entry[0] <= self.filled and kept:
                    floor, kept = kept[-1].offset, []
            elif entry.channel == channel and self.begins < entry.offset <= self.filled:
                kept.append(entry)
                if len(kept) > ARCHIVE.size:
                    floor = kept.pop(0).offset
        return floor, kept

    def _check(self, reach: int) -> None:
        self.reads += 1
        self.on_read()
        if self.away or self.filled < reach:
            raise Unavailable("not now")

    async def after(self, channel: str, offset: int, reach: int) -> Excerpt:
        self._check(reach)
        floor, kept = self._kept(channel)
        found = [p for p in kept if p.offset > offset] if offset >= floor else []
        return Excerpt("epoch-1", self.filled, floor, found)

    async def page(self, channel: str, offset: int | None, limit: int, reach: int, *, reverse: bool) -> Excerpt:
        self._check(reach)
        kept = self._kept(channel)[1]
        if reverse:
            kept = [p for p in reversed(kept) if offset is None or p.offset < offset]
        else:
            kept = [p for p in kept if offset is None or p.offset > offset]
        return Excerpt("epoch-1", self.filled, 0, kept[:limit])


def copy(publication: Publication) -> Publication:
    """As it comes out of an archive."""
    names = ("index", "last", "event", "info", "tags", "traceparent", "expires_at")
    fields = {name: getattr(publication, name) for name in names}
    return Publication(publication.channel, publication.offset, bytes(bytearray(publication.data)), **fields)


class World:
    """A node, its archive, and all that was ever published. `restart` begins a new node on the same log."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.records: list[Record] = []
        self.node = make_node(RULES, clock=self.clock)
        self.archive = ListArchive(self.node)
        self.node.archive = self.archive
        self._note(self.node)

    def _note(self, node: Node) -> None:
        append, remove = node.history.append, node.history.remove

        def note(publication: Publication, *rest: object) -> None:
            append(publication, *rest)  # type: ignore[arg-type]
            self.archive.log.append(copy(publication))

        def note_removal(channel: str, *rest: object) -> None:
            remove(channel, *rest)  # type: ignore[arg-type]
            self.archive.log.append((node.history.end, channel))

        node.history.append = note  # type: ignore[method-assign, assignment]
        node.history.remove = note_removal  # type: ignore[method-assign, assignment]

    def restart(self) -> None:
        """A node that has read nothing of before."""
        end = self.node.history.end
        self.node = make_node(RULES, clock=self.clock)
        self.node.feed.begin(end)
        self.node.feed.named("epoch-1")
        self.node.log._end = end  # type: ignore[attr-defined]
        self.node.history.end = end
        self.node.archive = self.archive
        self._note(self.node)

    async def publish(self, *channels: str, data: bytes = b"1", **fields: object) -> int:
        [first, *_] = await self.node.publish(Draft(list(channels), data, **fields))  # type: ignore[arg-type]
        return first.offset

    def target(self, name: str) -> Target:
        found = target.find(self.node.rules, name)
        assert found is not None
        return found

    async def missed(self, channel: str, offset: int, epoch: str = "epoch-1") -> Missed:
        wanted, position = self.target(channel), Position(offset, epoch)
        excerpt = await recovery.look_up(self.node, wanted, position)
        return recovery.missed(self.node.history, wanted, position, excerpt, self.clock.time())

    async def offsets(self, channel: str, offset: int) -> list[int] | None:
        verdict, found = await self.missed(channel, offset)
        return [p.offset for p in found] if verdict is Verdict.RECOVERED else None

    def all_of(self, channel: str) -> list[Publication]:
        return [p for p in self.archive.log if isinstance(p, Publication) and p.channel == channel]


async def filled_world(count: int = 6, channel: str = "a") -> World:
    world = World()
    for number in range(count):
        await world.publish(channel, data=b"%d" % number)
    world.archive.fill(count)
    return world


async def test_what_memory_has_is_never_asked_of_the_archive() -> None:
    world = await filled_world()
    assert await world.offsets("a", 4) == [5, 6]
    assert world.archive.reads == 0


async def test_what_memory_lacks_comes_from_the_archive_and_the_rest_from_memory() -> None:
    world = await filled_world()
    assert await world.offsets("a", 1) == [2, 3, 4, 5, 6]
    _, found = await world.missed("a", 1)
    assert found[-2:] == world.node.history.after("a", 0, 0), "the very objects, so that what was encoded is shared"


async def test_an_archive_that_is_behind_is_enough_when_it_reaches_what_memory_has() -> None:
    world = await filled_world()
    world.archive.filled = 4
    assert await world.offsets("a", 1) == [2, 3, 4, 5, 6]
    world.archive.filled = 3
    with pytest.raises(Unavailable):
        await world.missed("a", 1)


async def test_positions_that_nobody_has_any_more_are_refused() -> None:
    world = await filled_world(9)
    assert await world.offsets("a", 3) == [4, 5, 6, 7, 8, 9]
    assert (await world.missed("a", 2)).verdict is Verdict.TRIMMED
    assert (await world.missed("a", 5, "other")).verdict is Verdict.OTHER_EPOCH
    assert (await world.missed("a", 10)).verdict is Verdict.AHEAD


async def test_without_the_archive_what_only_it_could_answer_is_an_error_and_the_rest_goes_on() -> None:
    world = await filled_world()
    world.archive.away = True
    assert await world.offsets("a", 4) == [5, 6]
    with pytest.raises(Unavailable):
        await world.missed("a", 1)
    client = Client(world.node)
    await client.send({"id": 1, "connect": {}})
    known = {"recover": True, "epoch": "epoch-1"}
    [failed] = await client.send({"id": 2, "subscribe": {"channel": "a", "offset": 1, **known}})
    assert failed["error"]["code"] == 100
    assert failed["error"]["temporary"]
    [begun] = await client.send({"id": 3, "subscribe": {"channel": "a", "offset": 4, **known}})
    assert begun["subscribe"]["recovered"]


async def test_a_channel_whose_rule_wants_no_archive_is_refused_at_once() -> None:
    world = World()
    for _ in range(4):
        await world.publish("brief.a")
    world.archive.away = True
    assert (await world.missed("brief.a", 1)).verdict is Verdict.TRIMMED


async def test_a_quiet_channel_recovers_on_a_node_that_has_read_nothing_of_before() -> None:
    world = await filled_world(3)
    world.restart()
    assert await world.offsets("a", 3) == []
    assert await world.offsets("a", 1) == [2, 3]
    assert await world.offsets("never", 1) == []
    await world.publish("a")
    assert await world.offsets("a", 1) == [2, 3, 4]


async def test_by_a_pattern_only_memory_is_asked() -> None:
    world = await filled_world()
    assert (await world.missed("#.x", 0)).verdict is Verdict.RECOVERED
    world.restart()
    assert (await world.missed("#.x", 0)).verdict is Verdict.NOT_KNOWN
    assert world.archive.reads == 0


async def test_what_was_removed_is_not_shown_while_the_archive_has_not_heard_of_it() -> None:
    world = await filled_world()
    await world.node.order(Order(remove_history="a"))
    with pytest.raises(Unavailable):
        await world.missed("a", 1)
    world.archive.fill(7)
    assert (await world.missed("a", 1)).verdict is Verdict.TRIMMED
    assert await world.offsets("a", 6) == []


async def test_a_busy_channel_waits_for_who_is_asking_the_archive() -> None:
    """What comes meanwhile would push out of memory what the archive has not got yet."""
    world = await filled_world()

    def publish_more() -> None:
        for offset in range(7, 17):
            world.node.feed.take(Record(offset, "a", b"1"), world.clock.time())

    world.archive.on_read = publish_more
    assert await world.offsets("a", 1) == list(range(2, 17))


async def test_afterwards_memory_is_as_small_as_before() -> None:
    world = await filled_world()
    history, rule = world.node.history, world.target("a").rule
    history.hold("a")
    history.hold("a")
    for _ in range(5):
        await world.publish("a")
    assert len(history.after("a", 0, 0)) == 7
    history.release("a", rule)
    assert len(history.after("a", 0, 0)) == 7
    history.release("a", rule)
    assert [p.offset for p in history.after("a", 0, 0)] == [10, 11]
    assert history.publications == 2
    history.trim(world.clock.time() + 1e6)
    assert (history.publications, history.size_bytes) == (0, 0)


async def test_when_they_no_longer_meet_it_is_an_error_and_nothing_is_passed_over() -> None:
    world = await filled_world()
    wanted, position = world.target("a"), Position(1, "epoch-1")
    excerpt = await recovery.look_up(world.node, wanted, position)
    world.node.history.release("a", wanted.rule)
    for _ in range(5):
        await world.publish("a")
    with pytest.raises(Unavailable):
        recovery.missed(world.node.history, wanted, position, excerpt, world.clock.time())
    world.node.history.epoch = "epoch-2"
    with pytest.raises(Unavailable):
        recovery.missed(world.node.history, wanted, Position(1, ""), excerpt, world.clock.time())


async def test_what_has_expired_is_left_out_without_making_a_gap() -> None:
    world = World()
    for offset in range(1, 7):
        world.node.feed.take(Record(offset, "a", b"1", ttl_s=5.0 if offset == 2 else 1e9), world.clock.time())
    world.archive.fill(6)
    assert await world.offsets("a", 0) == [1, 2, 3, 4, 5, 6]
    world.clock.advance(10)
    assert await world.offsets("a", 0) == [1, 3, 4, 5, 6]


async def test_a_subscription_by_tags_and_one_with_deltas_get_the_archived_ones_as_they_should() -> None:
    world = World()
    for number in range(6):
        text = b'"%d %b"' % (number, b"a" * 40)
        await world.publish("a", "delta.a", data=text, tags={"n": str(number % 2)})
    world.archive.fill(6)
    client = Client(world.node)
    await client.send({"id": 1, "connect": {}})
    known = {"recover": True, "epoch": "epoch-1", "offset": 0}
    odd = {"key": "n", "cmp": "eq", "val": "1"}
    [begun] = await client.send({"id": 2, "subscribe": {"channel": "a", **known, "tf": odd}})
    assert [p["offset"] for p in begun["subscribe"]["publications"]] == [2, 4, 6]
    [begun] = await client.send({"id": 3, "subscribe": {"channel": "delta.a", **known, "delta": "fossil"}})
    shown = begun["subscribe"]["publications"]
    assert [(p["offset"], p.get("delta", False)) for p in shown] == [
        (1, False), (2, False), (3, False), (4, False), (5, False), (6, True)
    ]  # fmt: skip


async def test_where_only_the_last_one_matters_it_comes_from_the_archive_when_memory_has_let_it_go() -> None:
    world = World()
    await world.publish("latest.a", data=b'"old"')
    world.archive.fill(1)
    world.clock.advance(100)
    world.node.tick()
    client = Client(world.node)
    await client.send({"id": 1, "connect": {}})
    [begun] = await client.send({"id": 2, "subscribe": {"channel": "latest.a"}})
    assert [p["data"] for p in begun["subscribe"]["publications"]] == ["old"]
    world.archive.away = True
    other = Client(world.node)
    await other.send({"id": 1, "connect": {}})
    [failed] = await other.send({"id": 2, "subscribe": {"channel": "latest.a"}})
    assert failed["error"]["code"] == 100
    [begun] = await other.send({"id": 3, "subscribe": {"channel": "latest.never"}})
    assert "publications" not in begun["subscribe"], "memory knows that there was none"


async def test_a_newcomer_to_a_stream_begins_without_the_last_one_when_only_an_archive_that_is_away_has_it() -> None:
    world = World()
    await world.publish("latest.a", data=b'"old"')
    world.archive.fill(1)
    world.clock.advance(100)
    world.node.tick()
    wanted = world.target("latest.a")

    async def beginning(cursor: Cursor | None) -> Resumption:
        return resume(world.node, [wanted], cursor, await look_up(world.node, [wanted], cursor))

    assert [p.data for p in (await beginning(None)).publications] == [b'"old"']
    world.archive.away = True
    assert (await beginning(None)).verdicts == {}
    with pytest.raises(Unavailable):
        await beginning(Cursor("another", 1))


async def test_a_cursor_over_several_channels_recovers_them_in_the_logs_order() -> None:
    world = World()
    for number in range(5):
        await world.publish("a", "b", "brief.c", data=b"%d" % number)
    world.archive.fill(5)
    wanted = [world.target(name) for name in ("a", "b", "brief.c")]
    for index in (-1, 0):
        cursor = Cursor("epoch-1", 2, index)
        excerpts = await look_up(world.node, wanted, cursor)
        resumed = resume(world.node, wanted, cursor, excerpts)
        assert {name: verdict.name for name, verdict in resumed.verdicts.items()} == {
            "a": "RECOVERED", "b": "RECOVERED", "brief.c": "TRIMMED"
        }  # fmt: skip
        rest = [("a", 3), ("b", 3), ("a", 4), ("b", 4), ("a", 5), ("b", 5)]
        between = [("b", 2)] if index == 0 else []
        assert [(p.channel, p.offset) for p in resumed.publications] == between + rest


async def page(world: World, since: int | None, limit: int, *, reverse: bool = False) -> list[int]:
    rule = world.target("a").rule
    return [p.offset for p in await recovery.page(world.node, "a", rule, since, limit, reverse=reverse)]


async def test_pages_of_the_history_go_on_in_the_archive() -> None:
    world = await filled_world(6)
    assert await page(world, None, 3) == [1, 2, 3]
    assert await page(world, None, 100) == [1, 2, 3, 4, 5, 6]
    assert await page(world, 2, 3) == [3, 4, 5]
    assert await page(world, None, 4, reverse=True) == [6, 5, 4, 3]
    assert await page(world, 5, 3, reverse=True) == [4, 3, 2]
    assert await page(world, 3, 10, reverse=True) == [2, 1]
    assert await page(world, 9, 10) == []
    before = world.archive.reads
    assert await page(world, 4, 10) == [5, 6]
    assert await page(world, None, 2, reverse=True) == [6, 5]
    assert await page(world, None, 0) == []
    assert world.archive.reads == before
    world.archive.away = True
    with pytest.raises(Unavailable):
        await page(world, None, 10)
    world.restart()
    world.archive.away = False
    assert await page(world, None, 10, reverse=True) == [6, 5, 4, 3, 2, 1]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 12), st.one_of(st.none(), st.integers(0, 13)), st.integers(1, 8), st.booleans(), st.data())
async def test_any_page_is_what_a_list_would_give(
    count: int, since: int | None, limit: int, reverse: bool, data: st.DataObject
) -> None:
    world = World()
    for _ in range(count):
        await world.publish("a")
    world.archive.fill(count)
    if data.draw(st.booleans()):
        world.restart()
    kept = list(range(max(1, count - ARCHIVE.size + 1), count + 1))
    if reverse:
        wanted = [offset for offset in reversed(kept) if since is None or offset < since]
    else:
        wanted = [offset for offset in kept if since is None or offset > since]
    assert await page(world, since, limit, reverse=reverse) == wanted[:limit]


STEP = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from("abc")),
    st.tuples(st.just("publish"), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["fill", "fill", "trim", "restart", "remove", "lose"]), st.sampled_from("abc")),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(STEP, max_size=40), st.integers(0, 40), st.integers(0, 3))
async def test_whatever_happens_a_position_is_recovered_exactly_or_not_at_all(
    steps: list[tuple[str, str]], position: int, behind: int
) -> None:
    """Published, trimmed, filled, a node begun anew, in any order: what is recovered is what a list has, and it is only
    refused when somebody has let go of a part of it."""
    world = World()
    for step, channel in steps:
        if step == "publish":
            await world.publish(channel)
        elif step == "fill":
            world.archive.fill(world.node.history.end - behind)
        elif step == "trim":
            world.clock.advance(40)
            world.node.tick()
        elif step == "restart":
            world.restart()
        elif step == "remove":
            await world.node.order(Order(remove_history=channel))
        else:
            world.archive.begins = world.archive.filled = world.node.history.end
    position = min(position, world.node.history.end)
    for channel in "abc":
        wanted = [p.offset for p in world.all_of(channel) if p.offset > position]
        try:
            found = await world.offsets(channel, position)
        except Unavailable:
            assert world.archive.filled < world.node.history.reach(channel), "it heals"
            continue
        floor, _ = world.archive._kept(channel)
        if position >= floor and world.archive.filled >= world.node.history.reach(channel):
            assert found == wanted
        else:
            assert found in (None, wanted)
