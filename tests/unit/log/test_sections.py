"""Messages of AMQP 1.0, as RabbitMQ keeps them in streams. That both ways of reading show the same is a test of
integration/log; here is what no broker of today writes."""

from __future__ import annotations

import datetime as dt
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notifier.errors import Rejected
from notifier.log import sections
from notifier.log.entry import Entry


def section(code: int, value: bytes) -> bytes:
    return bytes([0, 0x53, code]) + value


def text(value: str) -> bytes:
    raw = value.encode()
    return (bytes([0xA1, len(raw)]) if len(raw) < 256 else b"\xb1" + len(raw).to_bytes(4)) + raw


def symbol(value: str) -> bytes:
    return bytes([0xA3, len(value)]) + value.encode()


def compound(code: int, items: list[bytes]) -> bytes:
    """A list (0xd0) or map (0xd1) with long sizes."""
    body = len(items).to_bytes(4) + b"".join(items)
    return bytes([code]) + len(body).to_bytes(4) + body


def data(value: bytes) -> bytes:
    return section(0x75, b"\xb0" + len(value).to_bytes(4) + value)


def entry(*parts: bytes) -> Entry:
    return sections.entry_of(b"".join(parts), 7, "the.stream")


def headers(*items: bytes) -> dict[str, object] | None:
    return entry(section(0x74, compound(0xD1, list(items))), data(b"1")).headers


def test_a_body_alone_has_the_key_of_who_published_past_the_exchange() -> None:
    assert entry(data(b"[1]")) == Entry(7, "the.stream", b"[1]")


def test_a_body_in_parts_is_one() -> None:
    assert entry(data(b"[1"), data(b",2]")).body == b"[1,2]"


def test_what_rabbitmq_keeps_of_a_message_is_found() -> None:
    """The annotations of 3.10 and those of 4."""
    annotations = [symbol("x-exchange"), text("e"), symbol("x-routing-key"), text("user.42"),
                   symbol("x-basic-expiration"), text("1500"), symbol("x-basic-type"), text("made"),
                   symbol("x-basic-priority"), bytes([0x50, 3])]  # fmt: skip
    properties = [text("id-1"), b"\x40", b"\x40", b"\x40", b"\x40", b"\x40", symbol("text/plain")]
    found = entry(section(0x72, compound(0xD1, annotations)), section(0x73, compound(0xD0, properties)), data(b"1"))
    assert found == Entry(7, "user.42", b"1", "id-1", "made", "1500", "text/plain")
    lives = entry(section(0x70, compound(0xD0, [b"\x41", b"\x50\x04", b"\x70" + (2500).to_bytes(4)])), data(b"1"))
    assert lives.expiration == "2500"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"\x40", None),
        (b"\x41", True),
        (b"\x56\x00", False),
        (b"\x55\xff", -1),
        (b"\x71" + struct.pack(">i", -70_000), -70_000),
        (b"\x81" + struct.pack(">q", 2**40), 2**40),
        (b"\x82" + struct.pack(">d", 1.5), 1.5),
        (b"\x83" + (1_700_000_000_000).to_bytes(8), dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC)),
        (text("é" * 200), "é" * 200),
        (b"\xa1\x02\xff\xfe", b"\xff\xfe"),
        (b"\xa0\x02ab", bytearray(b"ab")),
        (compound(0xD0, [b"\x41", text("in a list")]), None),
        (b"\x00" + symbol("type") + text("described"), None),
    ],
)
def test_headers_are_as_over_amqp_0_9_1_and_what_cannot_be_one_is_nothing(raw: bytes, value: object) -> None:
    assert headers(text("name"), raw, text("behind"), b"\x41") == {"name": value, "behind": True}


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\x98" + bytes(range(16)), "urn:uuid:00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (b"\xa0\x03abc", "YWJj"),
        (b"\x53\x2a", "42"),
        (b"\x44", "0"),
        (b"\xb1" + (300).to_bytes(4) + b"x" * 300, ""),
    ],
)
def test_ids_of_all_types_are_as_over_amqp_0_9_1(raw: bytes, shown: str) -> None:
    assert entry(section(0x73, compound(0xD0, [raw])), data(b"1")).message_id == shown


def test_a_section_that_nobody_knows_is_stepped_over() -> None:
    assert (
        entry(section(0x71, compound(0xD1, [symbol("a"), text("b")])), data(b"1"), section(0x78, b"\xc1\x01\x00")).body
        == b"1"
    )


WHOLE = b"".join([
    section(0x72, compound(0xD1, [symbol("x-routing-key"), text("a")])),
    section(0x73, compound(0xD0, [text("id")])),
    section(0x74, compound(0xD1, [text("n"), b"\x71\0\0\0\1"])),
    data(b"1234"),
])  # fmt: skip


@given(st.integers(1, len(WHOLE) - 1), st.binary(max_size=4))
@example(len(WHOLE) - 1, b"")
def test_what_is_cut_off_or_damaged_is_a_message_or_none_and_nothing_else(cut: int, instead: bytes) -> None:
    for damaged in (WHOLE[:cut] + instead, WHOLE[:cut] + instead + WHOLE[cut + len(instead) :]):
        try:
            found = sections.entry_of(damaged, 7, "k")
        except Rejected as why:
            assert why.reason == "unreadable"
        else:
            assert found.place == 7
