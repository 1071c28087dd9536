"""What stands in the archive's keys and entries."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from notifier.config import ChannelRule, Duration, HistoryRule, Secret
from notifier.config import Redis as RedisSection
from notifier.core.rules import Rules
from notifier.protocol.codec_json import compact
from notifier.protocol.messages import Publication
from notifier.state.archive import PARTS, TAGS, Keys, _slot, decode, encode
from notifier.state.store import Store

FIELDS = ("channel", "offset", "data", "index", "last", "event", "info", "tags", "traceparent", "expires_at")
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


def as_data(value: Any) -> bytes:
    return compact(json.dumps(value, ensure_ascii=False, indent=1).encode(errors="replace"))


PUBLICATIONS = st.builds(
    lambda offset, value, **fields: Publication("a", offset, as_data(value), **fields),
    st.integers(1, 2**50),
    JSON,
    index=st.integers(0, 999),
    last=st.booleans(),
    event=st.text(max_size=5),
    info=st.sampled_from([b"", b'{"user":"ann","conn_info":{"x":"\\n"}}']),
    tags=st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=3), min_size=1),
    traceparent=st.sampled_from(["", "00-1-2-03"]),
    expires_at=st.sampled_from([float("inf"), 0.0, 1_800_000_000.25]),
)


@given(st.lists(PUBLICATIONS, max_size=4))
def test_publications_come_out_as_they_went_in(publications: list[Publication]) -> None:
    lines = b"\n".join(
        part for p in publications for part in (encode(p)[0].encode(), *encode(p)[1:])
    )  # as the reading script answers
    found = decode("a", lines)
    assert [[getattr(p, name) for name in FIELDS] for p in found] == [
        [getattr(p, name) for name in FIELDS] for p in publications
    ]


def test_what_has_nothing_but_data_costs_nothing_but_data() -> None:
    assert encode(Publication("a", 7, b'{"x":1}')) == ("7-0", b'{"x":1}', b"")


def keys(*specs: ChannelRule, repeat_window: int = 10) -> Keys:
    return Keys(
        Store(RedisSection(url=Secret("redis://127.0.0.1"))), Rules(specs), max_bytes=1000, repeat_window=repeat_window
    )


KEPT = HistoryRule(size=1, ttl=Duration(1))


def test_all_keys_of_a_part_are_in_one_slot_and_the_parts_spread_evenly() -> None:
    assert [_slot(tag) * PARTS // 16384 for tag in TAGS] == list(range(PARTS))
    made = keys(ChannelRule(match="#", history=KEPT, archive=KEPT))
    for channel in ("a", "user.42", "{odd}", "}{", "chat:room.{7}"):
        part = made.part_of(channel)
        for key in (made.index("e", part), made.stream("e", channel)):
            tag = key[key.index("{") + 1 : key.index("}")]
            assert tag == TAGS[part]
        assert made.stream("e", channel).startswith(made.index("e", part) + ":")
    shares = Counter(made.part_of(f"user.{number}") for number in range(16_000))
    assert min(shares.values()) > 800


def test_what_decides_which_publications_there_are_is_in_the_names_and_nothing_else() -> None:
    rule = ChannelRule(match="a.#", history=KEPT, archive=KEPT)
    names = [
        keys(rule),
        keys(rule, repeat_window=11),
        keys(ChannelRule(match="a.*", history=KEPT, archive=KEPT)),
        keys(ChannelRule(match="a.b", history=KEPT), rule),
    ]
    assert len({made.stream("e", "a.1") for made in names}) == len(names)
    longer = HistoryRule(size=2, ttl=Duration(2))
    same = keys(ChannelRule(match="a.#", history=KEPT, archive=longer, presence=True, subscribe=["anyone"]))
    assert same.stream("e", "a.1") == keys(rule).stream("e", "a.1") != same.stream("f", "a.1")
