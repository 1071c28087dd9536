"""From a record to publications."""

from __future__ import annotations

import pytest

from notifier.config import ChannelRule, Duration, HistoryRule
from notifier.core.history import Verdict
from notifier.core.hub import Manner
from notifier.core.node import Node
from notifier.core.record import Draft, Record
from notifier.errors import Rejected
from notifier.protocol.encoding import JSON_WEBSOCKET
from notifier.protocol.messages import Position
from notifier.testing import OPEN_RULE, ManualClock, RecordingConnection, Ticks, make_node

NEWS = ChannelRule(match="news", history=HistoryRule(size=10, ttl=Duration(60)), subscribe=["anyone"])


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def node(ticks: Ticks, clock: ManualClock) -> Node:
    return make_node(ticks=ticks, clock=clock)


def take(node: Node, record: Record) -> None:
    node.feed.take(record, node.clock.time())


def listener(node: Node, *channels: str) -> RecordingConnection:
    connection = RecordingConnection()
    for channel in channels:
        node.hub.join(channel, connection, Manner(JSON_WEBSOCKET))
    return connection


def test_a_record_reaches_the_subscribers_of_its_channel_only(node: Node, ticks: Ticks) -> None:
    ann, bob = listener(node, "user.ann"), listener(node, "user.bob")
    take(node, Record(1, "user.ann", b'{"n": 1}'))
    ticks.end()
    assert ann.take_messages() == [{"push": {"channel": "user.ann", "pub": {"data": {"n": 1}, "offset": 1}}}]
    assert bob.writes == []


def test_more_channels_come_from_the_header_each_once(node: Node, ticks: Ticks) -> None:
    client = listener(node, "a", "b", "c")
    take(node, Record(1, "a", b"1", channels="b  c a b"))
    ticks.end()
    assert sorted(message["push"]["channel"] for message in client.take_messages()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Record(1, "a", b"{"), "not_json"),
        (Record(1, "a", b""), "not_json"),
        (Record(1, "a", b'"\xff"'), "not_utf8"),
        (Record(1, "a", b"[" * 100_000), "too_large"),
        (Record(1, "a", b"[" * 50_000), "not_json"),
        (Record(1, "a", b'"' + b"x" * 65536 + b'"'), "too_large"),
        (Record(1, "a b", b"1"), "bad_channel"),
        (Record(1, "", b"1"), "bad_channel"),
        (Record(1, "a", b"1", channels="ok #"), "bad_channel"),
        (Record(1, "a", b"1", event="x\ny"), "bad_type"),
    ],
)
def test_what_is_no_publication_is_rejected_with_its_reason_and_never_shown(
    node: Node, ticks: Ticks, record: Record, reason: str
) -> None:
    client = listener(node, "a", "ok")
    with pytest.raises(Rejected) as caught:
        take(node, record)
    ticks.end()
    assert caught.value.reason == reason
    assert client.writes == []
    assert node.history.end == 1
    assert node.history.publications == 0


def test_a_repeated_message_id_is_neither_delivered_nor_kept_again(node: Node, ticks: Ticks) -> None:
    client = listener(node, "a")
    take(node, Record(1, "a", b"1", message_id="x"))
    take(node, Record(2, "a", b"1", message_id="x"))
    take(node, Record(3, "b", b"1", message_id="x"))
    ticks.end()
    assert [message["push"]["pub"]["offset"] for message in client.take_messages()] == [1]
    assert node.history.publications == 2
    assert node.feed.offset_of("a", Draft(["a"], b"1", message_id="x"), 2) == 1
    assert node.stats.repeats == 1


def test_an_expired_record_is_not_delivered_any_more(node: Node, ticks: Ticks, clock: ManualClock) -> None:
    client = listener(node, "a")
    node.feed.take(Record(1, "a", b"1", ttl_s=5), clock.time() - 10)
    node.feed.take(Record(2, "a", b"2", ttl_s=50), clock.time() - 10)
    ticks.end()
    assert [message["push"]["pub"]["offset"] for message in client.take_messages()] == [2]


def test_a_record_that_skips_history_is_live_only_and_has_no_offset(node: Node, ticks: Ticks) -> None:
    client = listener(node, "a")
    take(node, Record(1, "a", b"1", skip_history=True))
    ticks.end()
    assert client.take_messages() == [{"push": {"channel": "a", "pub": {"data": 1}}}]
    assert node.history.publications == 0
    assert node.history.verdict("a", node.rules.find("a"), Position(0, "epoch-1")) is Verdict.RECOVERED  # type: ignore[arg-type]


def test_a_channel_without_a_rule_is_for_nobody(ticks: Ticks) -> None:
    node = make_node([NEWS], ticks=ticks)
    client = listener(node, "other")
    take(node, Record(1, "other", b"1"))
    ticks.end()
    assert client.writes == []
    assert node.stats.unruled == 1


def test_newlines_between_tokens_are_taken_out_and_everything_else_stays(node: Node, ticks: Ticks) -> None:
    client = listener(node, "a")
    take(node, Record(1, "a", b'{\r\n "big": 12345678901234567890.10,\n "t": "\\n\xc3\xa4"\n}'))
    ticks.end()
    [frame] = client.writes
    assert b'{   "big": 12345678901234567890.10,  "t": "\\n\xc3\xa4" }' in frame


def test_where_reading_began_nothing_is_answered_for_that_could_be_a_repeat(ticks: Ticks) -> None:
    node = make_node([OPEN_RULE], ticks=ticks)
    rule = node.rules.find("a")
    assert rule is not None
    node.feed.begin(10)
    node.feed.named("e")
    for offset in range(5, 13):
        take(node, Record(offset, "a", b"1", message_id="same" if offset < 12 else ""))
    assert [p.offset for p in node.history.after("a", 0, 0)] == [12]
    assert node.history.verdict("a", rule, Position(9, "e")) is Verdict.NOT_KNOWN
    assert node.history.verdict("a", rule, Position(10, "e")) is Verdict.RECOVERED


def test_a_log_shorter_than_the_repeat_window_is_answered_for_from_its_end_on(ticks: Ticks) -> None:
    node = make_node([OPEN_RULE], ticks=ticks)
    node.feed.begin(5000)
    node.feed.named("e")
    take(node, Record(101, "a", b"1"))
    node.feed.caught_up()
    client = listener(node, "a")
    take(node, Record(102, "a", b"2"))
    ticks.end()
    assert [message["push"]["pub"]["offset"] for message in client.take_messages()] == [102]
    assert node.history.known_from == 101


def test_a_record_that_says_when_it_was_sent_is_measured_where_it_is_delivered(
    node: Node, ticks: Ticks, clock: ManualClock
) -> None:
    listener(node, "a")
    take(node, Record(1, "a", b"1", sent_at=clock.time() - 0.25))
    take(node, Record(2, "nobody", b"1", sent_at=clock.time() - 7))
    take(node, Record(3, "a", b"1"))
    ticks.end()
    assert node.stats.broker_to_socket.total == pytest.approx(0.25)
    assert node.stats.broker_to_socket.count == 1


def test_a_record_from_a_clock_that_is_ahead_took_no_time(node: Node, ticks: Ticks, clock: ManualClock) -> None:
    listener(node, "a")
    take(node, Record(1, "a", b"1", sent_at=clock.time() + 60))
    ticks.end()
    assert node.stats.broker_to_socket.total == 0
    assert node.stats.broker_to_socket.count == 1
