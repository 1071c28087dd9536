"""One-way sessions and their cursors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.config import ChannelRule
from notifier.core import target
from notifier.core.history import Verdict
from notifier.core.identity import ANONYMOUS
from notifier.core.node import Node
from notifier.core.record import Draft
from notifier.core.stream import Cursor, Stream, parse_cursor, resume
from notifier.core.target import Target
from notifier.protocol.encoding import SSE, cursor
from notifier.protocol.messages import Publication
from notifier.testing import OPEN_RULE, RecordingConnection, Ticks, make_node


def targets(node: Node, *names: str) -> list[Target]:
    found = [target.find(node.rules, name) for name in names]
    return [each for each in found if each is not None]


@pytest.mark.parametrize(
    "text",
    ["", "x", "e:", ":5", "e:-1", "e:5.", "e:5.x", "e:5\n", "a:b:5", "e:99999999999999999999", "é:5", "e:5.9999"],
)
def test_what_is_no_cursor_is_none(text: str) -> None:
    assert parse_cursor(text) is None


@given(st.from_regex(r"[a-z0-9-]{1,36}", fullmatch=True), st.integers(1, 2**62), st.integers(0, 99), st.booleans())
def test_every_cursor_that_is_sent_can_be_read(epoch: str, offset: int, index: int, last: bool) -> None:
    sent = cursor(epoch, Publication("a", offset, b"1", index=index, last=last))
    assert parse_cursor(sent) == Cursor(epoch, offset, -1 if last else index)


@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True), min_size=1, max_size=8),
    st.data(),
)
async def test_a_stream_cut_anywhere_resumes_with_exactly_the_rest(
    records: list[list[str]], data: st.DataObject
) -> None:
    """F-C3: Also between two publications of one record."""
    node = make_node()
    wanted = targets(node, "a", "b")
    whole: list[Publication] = []
    for number, channels in enumerate(records, start=1):
        await node.publish(Draft(list(channels), b"%d" % number))
    whole = resume(node, wanted, Cursor("epoch-1", 0)).publications
    if not whole:
        return
    cut = data.draw(st.integers(0, len(whole) - 1))
    seen = parse_cursor(cursor("epoch-1", whole[cut]))
    assert seen is not None
    resumption = resume(node, wanted, seen)
    assert set(resumption.verdicts.values()) == {Verdict.RECOVERED}
    assert resumption.publications == whole[cut + 1 :]


@pytest.mark.parametrize(
    ("index", "a", "b"), [(0, "RECOVERED", "TRIMMED"), (1, "RECOVERED", "RECOVERED")], ids=["between", "behind"]
)
async def test_of_a_record_that_was_seen_in_part_only_the_rest_must_still_be_there(index: int, a: str, b: str) -> None:
    """What was trimmed since is lost to this client only where it had not got that far."""
    node = make_node()
    wanted = targets(node, "a", "b")
    await node.publish(Draft(["a", "b"], b"1"))
    for _ in range(wanted[0].rule.size):
        await node.publish(Draft(["a"], b"2"))
        await node.publish(Draft(["b"], b"2"))
    verdicts = resume(node, wanted, Cursor("epoch-1", 1, index)).verdicts
    assert {channel: verdict.name for channel, verdict in verdicts.items()} == {"a": a, "b": b}


async def test_each_channel_has_its_own_verdict() -> None:
    node = make_node(max_history_bytes=1)
    await node.publish(Draft(["a"], b"1"))
    await node.publish(Draft(["b"], b"1"))
    resumption = resume(node, targets(node, "a", "b"), Cursor("epoch-1", 1))
    assert {channel: verdict.name for channel, verdict in resumption.verdicts.items()} == {
        "a": "RECOVERED",
        "b": "TRIMMED",
    }


async def test_a_stream_of_several_channels_keeps_the_logs_order_and_leaves_nothing() -> None:
    ticks = Ticks()
    node = make_node(ticks=ticks)
    connection = RecordingConnection()
    stream = Stream(node, connection, "sse", SSE)
    stream.connect(ANONYMOUS)
    stream.begin(targets(node, "a", "b"))
    for channel in "abba":
        await node.publish(Draft([channel], b"1"))
    ticks.end()
    assert [line for line in b"".join(connection.writes).split(b"\n") if line.startswith(b"id")] == [
        b"id: epoch-1:1",
        b"id: epoch-1:2",
        b"id: epoch-1:3",
        b"id: epoch-1:4",
    ]
    stream.end()
    stream.end()
    assert len(node.hub) == 0
    assert node.stats.subscriptions == 0
    assert node.sessions == {}


async def test_when_the_log_is_made_anew_the_stream_ends_so_that_the_client_comes_back_and_is_told() -> None:
    node = make_node()
    for channels in (["a"], ["a", "b"]):
        connection = RecordingConnection()
        stream = Stream(node, connection, "sse", SSE)
        stream.connect(ANONYMOUS)
        stream.begin(targets(node, *channels))
        node.feed.begin(0)
        assert connection.disconnect is not None
        assert connection.disconnect.code == 3010
        assert not connection.disconnect.terminal
    assert len(node.hub) == 0


async def test_the_heartbeat_is_the_cursor_at_the_end_of_the_log() -> None:
    node = make_node()
    connection = RecordingConnection()
    stream = Stream(node, connection, "sse", SSE)
    stream.connect(ANONYMOUS)
    stream.begin(targets(node, "a"))
    await node.publish(Draft(["other"], b"1"))
    stream.ping()
    assert connection.writes == [b"id: epoch-1:1\n\n"]


PATTERN_RULE = ChannelRule(
    match="a.#", history=OPEN_RULE.history, subscribe=["anyone"], publish=["anyone"], wildcard=True
)


async def test_a_stream_by_a_pattern_resumes_all_channels_that_match() -> None:
    node = make_node([PATTERN_RULE, OPEN_RULE])
    for channel in ("a.b.x", "a.c.x", "a.b.y", "b.b.x", "a.b.x"):
        await node.publish(Draft([channel], b"1"))
    resumption = resume(node, targets(node, "a.*.x", "b.b.x"), Cursor("epoch-1", 1))
    assert set(resumption.verdicts.values()) == {Verdict.RECOVERED}
    assert [(found.channel, found.offset) for found in resumption.publications] == [
        ("a.c.x", 2),
        ("b.b.x", 4),
        ("a.b.x", 5),
    ]


async def test_a_publication_that_two_targets_cover_comes_once_when_resumed() -> None:
    node = make_node([PATTERN_RULE])
    await node.publish(Draft(["a.b"], b"1"))
    assert len(resume(node, targets(node, "a.*", "a.b"), Cursor("epoch-1", 0)).publications) == 1
