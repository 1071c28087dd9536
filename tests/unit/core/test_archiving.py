"""What waits for the archive, part by part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.config import ChannelRule, Duration, HistoryRule
from notifier.core import archiving
from notifier.core.archiving import Batch, Gathering, Nobody
from notifier.core.feed import Feed
from notifier.core.orders import CHANNEL as ORDERS
from notifier.core.orders import Order, encode
from notifier.core.record import Record
from notifier.core.rules import Rules
from notifier.core.stats import Stats
from notifier.errors import Rejected
from notifier.testing import ManualClock, make_node

KEPT = HistoryRule(size=10, ttl=Duration(60))
SPECS = [
    ChannelRule(match="kept.#", history=KEPT, archive=KEPT, subscribe=["anyone"]),
    ChannelRule(match="brief.#", history=KEPT, subscribe=["anyone"]),
]
WINDOW = 5


def part_of(channel: str) -> int:
    return int(channel[-1]) % 2


def gather(*places: int | None) -> tuple[Gathering, Feed]:
    gathering = Gathering(part_of, list(places) or [None, None])
    feed = Feed(
        Rules(SPECS), gathering, Nobody(), Stats(), ManualClock(), max_bytes=100, repeat_window=WINDOW
    )  # fmt: skip
    return gathering, feed


def offsets(batch: Batch | None) -> list[int]:
    return [entry.offset for entry in batch.entries] if batch is not None else []


def test_only_what_a_rule_wants_archived_is_gathered_and_by_the_decisions_of_every_worker() -> None:
    gathering, feed = gather(0, 0)
    feed.begin(0)
    take = [
        Record(1, "kept.1", b"1"),
        Record(2, "brief.1", b"1"),
        Record(3, "nobody.1", b"1"),
        Record(4, "kept.1", b"1", message_id="id"),
        Record(5, "kept.1", b"1", message_id="id"),
        Record(6, "kept.1", b"1", version=7),
        Record(7, "kept.1", b"1", version=6),
        Record(8, "kept.1", b"1", skip_history=True),
        Record(9, "kept.1", b"1", ttl_s=0.0),
        Record(10, "brief.1", b"1", channels="kept.1 kept.2"),
    ]
    for record in take:
        feed.take(record, 0)
    with pytest.raises(Rejected):
        feed.take(Record(11, "kept.1", b"not json"), 0)
    feed.pass_over(11)
    batch = gathering.batch(1)
    assert offsets(batch) == [1, 4, 6, 9, 10]
    assert batch is not None
    assert batch.until == 11
    assert offsets(gathering.batch(0)) == [10]


@given(st.lists(st.tuples(st.sampled_from(["kept.1", "kept.2", "brief.1"]), st.sampled_from(["", "a", "b"]),
                          st.integers(0, 2), st.booleans()), max_size=40))  # fmt: skip
def test_what_is_gathered_is_what_a_worker_keeps(records: list[tuple[str, str, int, bool]]) -> None:
    node = make_node([ChannelRule(match="#", history=HistoryRule(size=1000, ttl=Duration(1e6)))], repeat_window=WINDOW)
    gathering, feed = gather(0, 0)
    feed.begin(0)
    for offset, (channel, message_id, version, skip) in enumerate(records, start=1):
        for reader in (feed, node.feed):
            record = Record(offset, channel, b"1", message_id=message_id, version=version, skip_history=skip)
            reader.take(record, node.clock.time())
    for channel in ("kept.1", "kept.2"):
        kept = [p.offset for p in node.history.after(channel, 0, 0)]
        batch = gathering.batch(part_of(channel))
        assert offsets(batch) == kept


def test_an_order_to_remove_a_history_comes_in_its_place() -> None:
    gathering, feed = gather(0, 0)
    feed.begin(0)
    feed.take(Record(1, "kept.1", b"1"), 0)
    feed.take(Record(2, ORDERS, encode(Order(remove_history="kept.1"))), 0)
    feed.take(Record(3, ORDERS, encode(Order(remove_history="brief.1"))), 0)
    feed.take(Record(4, "kept.1", b"1"), 0)
    batch = gathering.batch(1)
    assert batch is not None
    assert [(entry.offset, entry.publication is None) for entry in batch.entries] == [(1, False), (2, True), (4, False)]


def test_a_part_goes_on_where_it_is_and_what_it_has_is_not_given_again() -> None:
    gathering, feed = gather(3, 1)
    feed.begin(1)
    for offset in range(1, 6):
        feed.take(Record(offset, "kept.1", b"1", channels="kept.2"), 0)
    assert offsets(gathering.batch(1)) == [2, 3, 4, 5]
    batch = gathering.batch(0)
    assert batch is not None
    assert (batch.since, batch.until, batch.anew, offsets(batch)) == (3, 5, None, [4, 5])
    gathering.done(0, batch)
    assert gathering.batch(0) is None
    assert not gathering.has_waiting(0)


def test_an_empty_part_begins_where_the_log_could_be_judged() -> None:
    gathering, feed = gather(None, 100)
    feed.begin(20)
    feed.take(Record(19, "kept.2", b"1"), 0)
    assert gathering.batch(0) is None, "what came here may be a repeat of what was before"
    feed.take(Record(21, "kept.2", b"1"), 0)
    batch = gathering.batch(0)
    assert batch is not None
    assert (batch.since, batch.anew, offsets(batch)) == (None, 20, [21])


def test_a_part_that_the_log_does_not_reach_back_to_begins_anew_and_says_from_where() -> None:
    gathering, feed = gather(7, 30)
    feed.begin(20)
    feed.take(Record(21, "kept.2", b"1", channels="kept.1"), 0)
    batch = gathering.batch(0)
    assert batch is not None
    assert (batch.since, batch.anew, offsets(batch)) == (7, 20, [21])
    assert gathering.batch(1) is None, "this one is ahead, and has it"


def test_a_log_that_has_lost_its_end_takes_the_archive_back() -> None:
    gathering, feed = gather(30, 30)
    feed.begin(30)
    feed.pass_over(8)
    assert gathering.batch(0) is None, "it may only not have been read yet"
    feed.caught_up()
    gathering.caught_up = True
    batch = gathering.batch(0)
    assert batch is not None
    assert (batch.since, batch.until, batch.anew) == (30, 8, 8)


def test_a_batch_holds_so_many_but_never_only_a_part_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "BATCH", 3)
    gathering, feed = gather(0, 0)
    feed.begin(0)
    feed.take(Record(1, "kept.1", b"1"), 0)
    feed.take(Record(2, "kept.1", b"1"), 0)
    feed.take(Record(3, "kept.1", b"1", channels="kept.3 kept.5 kept.7"), 0)
    feed.take(Record(4, "kept.1", b"1"), 0)
    feed.take(Record(5, "kept.2", b"1"), 0)
    batch = gathering.batch(1)
    assert batch is not None
    assert (batch.until, offsets(batch)) == (3, [1, 2, 3, 3, 3, 3])
    assert gathering.batch(1) == batch, "it stays until it is done"
    gathering.done(1, batch)
    batch = gathering.batch(1)
    assert batch is not None
    assert (batch.since, batch.until, offsets(batch)) == (3, 5, [4])


def test_it_is_full_before_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "MAX_PENDING_BYTES", 1000)
    gathering, feed = gather(0, 0)
    feed.begin(0)
    full = []
    for offset in range(1, 5):
        full.append(gathering.full)
        feed.take(Record(offset, "kept.1", b"1"), 0)
    assert full == [False, False, False, True]
    batch = gathering.batch(1)
    assert batch is not None
    gathering.done(1, batch)
    assert not gathering.full
    feed.take(Record(5, "kept.1", b"1"), 0)
    feed.begin(0)
    assert not gathering.has_waiting(1)
