"""Fossil deltas: a publication as the difference to the one before it (protocol.md section 5.4).

    LENGTH \\n ( N @ OFFSET , | N : N bytes )* CHECKSUM ;

`N@OFFSET,` copies bytes of the source, `N:` inserts bytes; numbers are in base 64. The checksum is the sum of the
target as big-endian 32-bit words. The format is that of the Fossil version control system
(https://fossil-scm.org/home/doc/trunk/www/delta_format.wiki).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_BLOCK = 16
# To look for moved blocks in less would cost more than the bytes it could save.
_SHORTEST_SEARCH = 64
# Writing a copy takes about as many bytes; a shorter one is not worth it.
_SHORTEST_COPY = 5
# Moved blocks are looked for at so many places where there is none, no more: the work for one publication has a bound.
_MISSES = 16_384


class _Copy(NamedTuple):
    """`length` bytes of the target from `at` on, which stand in the source at `source`."""

    at: int
    length: int
    source: int


def shorter_patch(source: bytes, target: bytes, *, as_text: bool) -> bytes | None:
    """The patch that makes the target out of the source; None where it would not be shorter than the target.

    With `as_text` both are UTF-8, and so is the patch: no inserted run begins or ends within a character.
    """
    patch = make_patch(source, target, as_text=as_text)
    return patch if len(patch) < len(target) else None


def make_patch(source: bytes, target: bytes, *, as_text: bool = False) -> bytes:
    """The same, however long it gets."""
    parts = [_number(len(target)), b"\n"]
    done = 0
    for copy in _copies(source, target, as_text=as_text):
        if copy.at > done:
            parts += (_number(copy.at - done), b":", target[done : copy.at])
        parts += (_number(copy.length), b"@", _number(copy.source), b",")
        done = copy.at + copy.length
    if done < len(target):
        parts += (_number(len(target) - done), b":", target[done:])
    parts += (_number(_checksum(target)), b";")
    return b"".join(parts)


def _copies(source: bytes, target: bytes, *, as_text: bool) -> list[_Copy]:
    """What the target has of the source, from left to right, without overlaps."""
    shortest = min(len(source), len(target))
    prefix = _alike(source, 0, target, 0, shortest)
    suffix = _alike_at_end(source, target, shortest - prefix)
    end = len(target) - suffix
    found = [_Copy(0, prefix, 0)]
    if end - prefix >= _SHORTEST_SEARCH:
        found += _moved(source, target, prefix, end)
    found.append(_Copy(end, suffix, len(source) - suffix))
    if as_text:
        found = [_whole_characters(target, copy) for copy in found]
    return [copy for copy in found if copy.length >= _SHORTEST_COPY]


def _moved(source: bytes, target: bytes, start: int, end: int) -> list[_Copy]:
    """Blocks of the source, wherever they stand in this part of the target."""
    places: dict[bytes, int] = {}
    for begin in range(0, len(source) - _BLOCK + 1, _BLOCK):
        places.setdefault(source[begin : begin + _BLOCK], begin)
    found = []
    at, free, misses = start, start, 0
    while at <= end - _BLOCK and misses < _MISSES:
        place = places.get(target[at : at + _BLOCK])
        if place is None:
            at += 1
            misses += 1
            continue
        back = 0
        while at - back > free and place > back and target[at - back - 1] == source[place - back - 1]:
            back += 1
        most = min(len(source) - place, end - at)
        length = _alike(source, place, target, at, most)
        found.append(_Copy(at - back, back + length, place - back))
        at = free = at + length
    return found


def _alike(one: bytes, start: int, other: bytes, begin: int, most: int) -> int:
    """How many bytes from there on are equal, at most so many; compared in ever longer slices, in C."""
    low, step = 0, 64
    while low < most:
        size = min(step, most - low)
        if one[start + low : start + low + size] == other[begin + low : begin + low + size]:
            low += size
            step *= 2
        elif size == 1:
            break
        else:
            most = low + size
            step = max(1, size // 2)
    return low


def _alike_at_end(one: bytes, other: bytes, most: int) -> int:
    """How many of the last bytes are equal, at most so many."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[len(one) - middle :] == other[len(other) - middle :]:
            low = middle
        else:
            high = middle - 1
    return low


def _whole_characters(target: bytes, copy: _Copy) -> _Copy:
    """The copy without the parts of characters at its ends, so that what is inserted beside it is UTF-8."""
    begin, end = copy.at, copy.at + copy.length
    while begin < end and target[begin] & 0xC0 == 0x80:
        begin += 1
    while end > begin and end < len(target) and target[end] & 0xC0 == 0x80:
        end -= 1
    return _Copy(begin, end - begin, copy.source + begin - copy.at)


def _checksum(target: bytes) -> int:
    padded = target + b"\0" * (-len(target) % 4)
    words: tuple[int, ...] = struct.unpack(f">{len(padded) // 4}I", padded)
    return sum(words) & 0xFFFFFFFF


def _number(value: int) -> bytes:
    digits = bytearray()
    while value or not digits:
        digits.append(_DIGITS[value & 63])
        value >>= 6
    digits.reverse()
    return bytes(digits)
