"""JSON in and out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.protocol import codec_json
from notifier.protocol.codes import ConnectionEnded
from notifier.protocol.messages import Publication, Reply, SubscribeResult

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def test_one_trailing_newline_is_allowed() -> None:
    assert [c.id for c in codec_json.commands('{"id":1,"connect":{}}\n{"id":2,"connect":{}}\n')] == [1, 2]


@given(st.text())
def test_any_text_is_commands_or_the_end_of_the_connection(text: str) -> None:
    try:
        codec_json.commands(text)
    except ConnectionEnded as error:
        assert error.disconnect.code == 3501
        assert 0 < len(error.disconnect.reason.encode()) <= 123 or not error.disconnect.reason.isascii()


@given(JSON, st.sampled_from([None, 0, 2]))
def test_a_payload_comes_out_as_it_went_in(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return  # lone surrogates are not UTF-8
    data = codec_json.compact(raw)
    assert b"\n" not in data
    assert b"\r" not in data
    pushed = json.loads(codec_json.push(Publication("a", 1, data)))
    assert pushed["push"]["pub"]["data"] == value


def test_numbers_keep_every_digit() -> None:
    raw = b'{"n":12345678901234567890123.4567890123456789012e-7}'
    assert raw[5:-1] in codec_json.push(Publication("a", 1, codec_json.compact(raw)))


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "truncated"), (b"nope", "invalid"), (b"1 2", "trailing"), (b'"\xff"', "UTF-8"), (b"[" * 5000, "deeply"),
     (b'"a\nb"', "invalid"), (b"NaN", "invalid"), (b"\xef\xbb\xbf1", "invalid")],
)  # fmt: skip
def test_what_is_not_json_is_told_why(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        codec_json.compact(data)


def test_zero_values_are_left_out_and_empty_results_are_not() -> None:
    assert codec_json.reply(Reply(id=3, subscribe=SubscribeResult())) == b'{"id":3,"subscribe":{}}'
    assert codec_json.reply(Reply()) == b"{}"


def test_a_publication_has_what_it_has() -> None:
    full = Publication("a", 7, b"1", info=b'{"user":"u","client":"c"}', tags={"k": "v"})
    assert json.loads(codec_json.publication(full)) == {
        "data": 1,
        "info": {"user": "u", "client": "c"},
        "offset": 7,
        "tags": {"k": "v"},
    }
    assert json.loads(codec_json.publication(Publication("a", 0, b"null"))) == {"data": None}


def test_an_envelope_names_the_channel() -> None:
    assert json.loads(codec_json.envelope(Publication('a"b', 7, b"[1]"))) == {
        "channel": 'a"b',
        "data": [1],
        "offset": 7,
    }
