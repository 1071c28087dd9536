"""The tail: what an operator is shown of what is read, and that it costs and keeps nothing beyond its bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from notifier.admin import tail as tails
from notifier.admin.tail import Filter, Tail, Tails, TooMany
from notifier.core.node import Node
from notifier.core.record import Record
from notifier.errors import Rejected
from notifier.testing import make_node


@pytest.fixture
def node() -> Node:
    return make_node()


def read(node: Node, offset: int, channel: str = "room.1", body: bytes = b'{"n":1}', **fields: Any) -> None:
    """The worker reads a record."""
    node.feed.take(Record(offset, channel, body, **fields), node.clock.time())


def offsets(tail: Tail) -> list[int]:
    return [seen.offset for seen in tail.take()]


def test_what_is_read_is_shown_in_order(node: Node) -> None:
    tail = Tails(node).open(Filter("", ""))
    read(node, 1, message_id="m-1", event="greeting", channels="room.2")
    read(node, 2)
    first, second = tail.take()
    assert (first.offset, list(first.channels), first.message_id, first.event) == (
        1,
        ["room.1", "room.2"],
        "m-1",
        "greeting",
    )
    assert (first.data, first.size_bytes, list(first.fates)) == ('{"n":1}', 7, [0, 0])
    assert (second.offset, tail.take(), tail.dropped) == (2, [], 0)


def test_nothing_is_noted_when_nobody_looks(node: Node) -> None:
    watching = Tails(node)
    first, second = watching.open(Filter("", "")), watching.open(Filter("", ""))
    watching.close(first)
    read(node, 1)
    assert offsets(second) == [1]
    watching.close(second)
    assert node.feed.watcher is None
    read(node, 2)
    assert offsets(second) == []


def test_what_is_no_publication_is_shown_with_the_reason(node: Node) -> None:
    tail = Tails(node).open(Filter("", ""))
    with pytest.raises(Rejected):
        read(node, 1, body=b"\xff not json")
    [seen] = tail.take()
    assert "not_utf8" in seen.rejected
    assert seen.data.endswith("not json")


@pytest.mark.parametrize(
    ("pattern", "user", "subscriptions", "expected"),
    [
        ("", "", set(), [1, 2, 3]),
        ("orders.*", "", set(), [1, 2]),
        ("orders.eu", "", set(), [1]),
        ("", "ann", {"orders.eu"}, [1, 3]),
        ("", "ann", {"orders.*"}, [1, 2, 3]),
        ("orders.#", "ann", {"orders.eu"}, [1]),
        ("", "ann", set(), [3]),
        ("", "bob", set(), []),
    ],
)
def test_filters(node: Node, pattern: str, user: str, subscriptions: set[str], expected: list[int]) -> None:
    wanted = Filter(pattern, user)
    wanted.follow(subscriptions)
    tail = Tails(node).open(wanted)
    read(node, 1, "orders.eu")
    read(node, 2, "orders.us")
    read(node, 3, "chat", info=json.dumps({"user": "ann", "client": "c1"}))
    assert offsets(tail) == expected


def test_what_nobody_takes_is_dropped_oldest_first_and_counted(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "MOST_HELD", 3)
    tail = Tails(node).open(Filter("", ""))
    for offset in range(1, 6):
        read(node, offset)
    assert (offsets(tail), tail.dropped) == ([3, 4, 5], 2)


def test_only_the_beginning_of_large_data_is_kept(node: Node) -> None:
    tail = Tails(node).open(Filter("", ""))
    body = json.dumps("ü" * 5000, ensure_ascii=False).encode()
    read(node, 1, body=body)
    [seen] = tail.take()
    assert (len(seen.data), seen.size_bytes) == (tails.PREVIEW_CHARS, len(body))


def test_there_are_so_many_tails_and_no_more(node: Node) -> None:
    watching = Tails(node)
    opened = [watching.open(Filter("", "")) for _ in range(tails.MOST_TAILS)]
    with pytest.raises(TooMany):
        watching.open(Filter("", ""))
    watching.close(opened[0])
    watching.open(Filter("", ""))


def test_rubbish_as_a_publisher_s_info_harms_nobody(node: Node) -> None:
    tail = Tails(node).open(Filter("", ""))
    for offset, info in enumerate(("[", "7", '{"user":5}'), 1):
        read(node, offset, info=info)
    assert offsets(tail) == [1, 2, 3]
