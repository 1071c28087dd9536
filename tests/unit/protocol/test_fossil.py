"""Patches: the public SDK's decoder, and a strict one, make the target out of them, whatever the two are."""

from __future__ import annotations

import json
import random
import re
import time

import pytest
from centrifuge.fossil import apply_delta
from hypothesis import given
from hypothesis import strategies as st

from notifier.protocol.fossil import make_patch, shorter_patch

pieces = st.lists(st.sampled_from([b"abcdefghijklmnop", b"0123456789", b"x", b"lorem ipsum dolor sit amet", b"\0\xff"]))
texts = st.lists(st.sampled_from(["aé€😀", "lorem ipsum dolor sit amet", "é" * 20, "😀" * 9, "x"])).map("".join)


DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
NUMBER = rb"(0|[1-9A-Z_a-z~][0-9A-Z_a-z~]*)"


def number(digits: bytes) -> int:
    value = 0
    for digit in digits:
        value = value * 64 + DIGITS.index(digit)
    return value


def applied(source: bytes, patch: bytes) -> bytes:
    """The target, by the letter of section 5.4: nothing between or after the parts, no leading zeros, no empty run."""
    head = re.match(NUMBER + rb"\n", patch)
    assert head
    target, at = b"", head.end()
    while part := re.compile(NUMBER + rb"(?:@" + NUMBER + rb",|(:))").match(patch, at):
        length, at = number(part[1]), part.end()
        run = patch[at : at + length] if part[3] else source[number(part[2]) : number(part[2]) + length]
        assert len(run) == length > 0
        target += run
        at += length if part[3] else 0
    tail = re.compile(NUMBER + rb";").fullmatch(patch, at)
    assert tail
    assert number(head[1]) == len(target)
    padded = target + b"\0" * (-len(target) % 4)
    words = (int.from_bytes(padded[n : n + 4], "big") for n in range(0, len(padded), 4))
    assert number(tail[1]) == sum(words) % 2**32
    assert bytes(apply_delta(source, patch)) == target
    return target


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes(source: bytes, target: bytes) -> None:
    assert applied(source, make_patch(source, target)) == target


@given(pieces, pieces)
def test_anything_made_of_the_same_pieces(source: list[bytes], target: list[bytes]) -> None:
    one, other = b"".join(source), b"".join(target)
    assert applied(one, make_patch(one, other)) == other


@given(st.text(max_size=100) | texts, st.text(max_size=100) | texts)
def test_a_patch_of_texts_is_a_text(source: str, target: str) -> None:
    patch = make_patch(source.encode(), target.encode(), as_text=True)
    patch.decode()
    assert applied(source.encode(), patch) == target.encode()


@pytest.mark.parametrize("changed", ["ê", "©"])
def test_a_character_of_which_one_byte_changes_is_never_cut(changed: str) -> None:
    """`ê` begins with the byte that `é` begins with, `©` ends with the one it ends with."""
    source, target = ("é" * 40).encode(), ("é" * 20 + changed + "é" * 19).encode()
    patch = make_patch(source, target, as_text=True)
    assert changed in patch.decode()
    assert applied(source, patch) == target
    assert len(patch) < 30


def test_the_example_of_the_protocol_comes_out_as_there() -> None:
    source = b'{"a":1,"pad":"xxxxxxxxxxxxxxxxxxxx"}'
    target = source.replace(b"1", b"2")
    assert make_patch(source, target) == b"_\n5@0,1:2U@6,2vCbtw;"


def document(n: int) -> bytes:
    words = random.Random(5)
    pad = {f"field{k}": "".join(words.choices("abcdefgh ", k=40)) for k in range(20)}
    return json.dumps({**dict(list(pad.items())[:9]), "counter": n, **dict(list(pad.items())[9:])}).encode()


def test_one_field_that_changes_in_a_kilobyte_costs_little() -> None:
    source, target = document(1234), document(1235)
    assert len(source) > 1000
    assert len(make_patch(source, target, as_text=True)) < 40


def test_several_fields_that_change_cost_little_each() -> None:
    source = document(1234)
    target = source.replace(b'"field2": "', b'"field2": "new ').replace(b'"field15": "', b'"field15": "new ')
    assert len(make_patch(source, target, as_text=True)) < 80


def test_blocks_that_moved_are_found() -> None:
    source = random.Random(1).randbytes(60_000)
    target = source[30_000:] + source[:30_000]
    patch = make_patch(source, target)
    assert applied(source, patch) == target
    assert len(patch) < 100


def test_halves_of_a_text_that_changed_places_are_found() -> None:
    characters = random.Random(1)
    one, other = ("".join(characters.choices("aé€😀", k=500)) for _ in range(2))
    source, target = (one + other).encode(), (other + one).encode()
    patch = make_patch(source, target, as_text=True)
    patch.decode()
    assert applied(source, patch) == target
    assert len(patch) < 60


@pytest.mark.parametrize(
    ("source", "target"), [(b"", b"abc"), (b"abc", b""), (b"abcdefgh", b"abcdefgh!"), (b"a", b"b")]
)
def test_a_patch_that_is_not_shorter_is_none(source: bytes, target: bytes) -> None:
    assert shorter_patch(source, target, as_text=False) is None


def test_a_patch_that_is_shorter_is_given() -> None:
    source, target = document(1234), document(1235)
    for as_text in (True, False):
        assert shorter_patch(source, target, as_text=as_text) == make_patch(source, target, as_text=as_text)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (b"a" * 65_536, b"b" + b"a" * 65_534 + b"c"),
        (b"a" * 65_536, (b"a" * 16 + b"b") * 3_855),
        ((b"a" * 16 + b"b") * 3_855, b"a" * 65_536),
        ((b"a" * 15 + b"b") * 4_096, (b"a" * 31 + b"b") * 2_048),
    ],
)
def test_what_repeats_itself_takes_no_longer_for_it(source: bytes, target: bytes) -> None:
    """Milliseconds; comparing every place with every other would take minutes."""
    begun = time.process_time()
    patch = make_patch(source, target)
    assert time.process_time() - begun < 2
    assert applied(source, patch) == target


def test_the_search_for_blocks_that_moved_ends() -> None:
    source, target = document(1234), random.Random(3).randbytes(2**24)
    begun = time.process_time()
    assert len(make_patch(source, target)) > len(target)
    assert time.process_time() - begun < 2


def test_what_nothing_was_found_in_is_still_right() -> None:
    source, target = b"a" * 60_000, random.Random(2).randbytes(60_000)
    assert applied(source, make_patch(source, target)) == target
