"""Deltas applied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.fossil import apply, checksum
from notifier.protocol.fossil import make_patch

SOURCE = b'{"a":1,"pad":"xxxxxxxxxxxxxxxxxxxx"}'
TARGET = SOURCE.replace(b"1", b"2")
PATCH = b"_\n5@0,1:2U@6,2vCbtw;"  # the example of protocol.md section 5.4


def test_the_protocols_example() -> None:
    assert apply(SOURCE, PATCH) == TARGET


def test_bytes_may_be_copied_from_anywhere_and_twice() -> None:
    assert apply(b"abcdef", b"9\n3@3,3@0,3@3,0;".replace(b"0;", number(checksum(b"defabcdef")) + b";")) == b"defabcdef"


def number(value: int) -> bytes:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
    return (number(value >> 6) if value >> 6 else b"") + digits[value & 63].encode()


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_what_the_server_makes_of_two_texts_gives_back_the_second(
    head: bytes, old: bytes, new: bytes, end: bytes
) -> None:
    source, target = head + old + end, head + new + end
    assert apply(source, make_patch(source, target)) == target


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        (b"", "something else than a number at byte 0"),
        (b"5@0,", "without its target's length"),
        (PATCH[:-1], "something else than a number"),
        (PATCH + b";", "does not end where it should"),
        (PATCH.replace(b"1:2", b"1:3"), "another source"),
        (PATCH.replace(b"_\n", b"Z\n"), "another source"),
        (PATCH.replace(b"5@0,", b"5@0;"), "copies 5 bytes"),
        (PATCH.replace(b"U@6,", b"U@7,"), "copies 30 bytes from 7 of 36"),
        (b"_\n~~~:x", "something else than a number"),
    ],
)
def test_a_broken_patch_is_refused(patch: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        apply(SOURCE, patch)


def test_a_patch_for_another_source_is_refused() -> None:
    with pytest.raises(ValueError, match="another source"):
        apply(SOURCE.replace(b"pad", b"bad"), PATCH)
