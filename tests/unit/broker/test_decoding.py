"""Values that other programs write into properties and headers."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode, encode

from notifier.broker import decoding

VALUES = st.recursive(
    st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=20), st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(min_size=1, max_size=20), VALUES, max_size=5))
def test_what_is_right_is_read_as_pamqp_reads_it(fields: dict[str, object]) -> None:
    data = encode.field_table(fields) + b"more"  # type: ignore[arg-type]
    assert decoding.table(data) == decode.field_table(data)


@given(st.text(max_size=60))
def test_a_text_is_read_as_it_was_written(text: str) -> None:
    data = encode.short_string(text)
    assert decoding.short_string(data + b"more") == (len(data), text)


@given(st.binary(max_size=255))
def test_any_bytes_are_a_text(data: bytes) -> None:
    size, text = decoding.short_string(bytes([len(data)]) + data)
    assert size == len(data) + 1
    assert data in (text.encode(), text.encode("latin-1", "ignore"))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
        (1_800_000_000, dt.datetime(2027, 1, 15, 8, tzinfo=dt.UTC)),
        (1_800_000_000_000_000, None),
        (2**64 - 1, None),
    ],
)
def test_a_time_that_is_none_is_left_out(number: int, expected: dt.datetime | None) -> None:
    assert decoding.timestamp(number.to_bytes(8) + b"more") == (8, expected)


def field(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + value


def table(*fields: bytes) -> bytes:
    data = b"".join(fields)
    return len(data).to_bytes(4) + data


A, B = field(b"a", b"b\x01"), field(b"b", b"b\x02")


def test_a_name_that_is_not_utf8_keeps_its_place() -> None:
    assert decoding.table(table(A, field(b"\xff", b"b\x05"), B))[1] == {"a": 1, "\xff": 5, "b": 2}


def test_what_is_nested_too_deeply_is_left_out() -> None:
    deep = b"F" + table(A)
    for _ in range(5000):
        deep = b"F" + table(field(b"n", deep))
    decoding.be_tolerant()
    data = table(A, field(b"n", deep), B)
    size, found = decoding.table(data)
    assert size == len(data)
    assert (found["a"], found["b"]) == (1, 2)


def test_after_a_value_of_an_unknown_type_nothing_more_can_be_read() -> None:
    data = table(A, field(b"x", b"?123"), B)
    assert decoding.table(data + b"more") == (len(data), {"a": 1})


@pytest.mark.parametrize("data", [b"", b"\x00\x00", b"\x00\x00\x00\x05ab"])
def test_data_that_is_shorter_than_it_says_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"length|longer"):
        decoding.table(data)


@given(st.binary(max_size=200))
def test_nothing_else_is_ever_raised(data: bytes) -> None:
    decoding.be_tolerant()
    size, _ = decoding.table(table(data))
    assert size == len(data) + 4
