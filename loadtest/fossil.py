"""Fossil deltas (protocol.md section 5.4), as a client applies them. Pure.

LENGTH \\n ( N @ PLACE , | N : N bytes )* CHECKSUM ;
"""

from __future__ import annotations

import re
import struct

_NUMBER = re.compile(rb"([0-9A-Z_a-z~]+)([\n@,:;])")
_VALUES = {
    digit: value for value, digit in enumerate(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~")
}


def apply(source: bytes, patch: bytes) -> bytes:
    """What the patch makes of the source. Raises ValueError when it is none, or makes something else than it says."""
    length, mark, at = _number(patch, 0)
    if mark != b"\n":
        raise ValueError(f"a patch without its target's length: {patch[:80]!r}")
    parts = []
    while True:
        number, mark, at = _number(patch, at)
        if mark == b"@":
            place, mark, at = _number(patch, at)
            if mark != b"," or place + number > len(source):
                raise ValueError(f"a patch that copies {number} bytes from {place} of {len(source)}")
            parts.append(source[place : place + number])
        elif mark == b":":
            parts.append(patch[at : at + number])
            at += number
        else:
            break
    target = b"".join(parts)
    if mark != b";" or at != len(patch):
        raise ValueError(f"a patch that does not end where it should: {patch[:80]!r}")
    if len(target) != length or checksum(target) != number:
        raise ValueError(f"a patch for another source: {patch[:80]!r}")
    return target


def checksum(target: bytes) -> int:
    """The sum of the big-endian 32-bit words, the last one filled up with zeros."""
    count = -(-len(target) // 4)
    words: tuple[int, ...] = struct.unpack(f">{count}I", target.ljust(4 * count, b"\0"))
    return sum(words) & 0xFFFF_FFFF


def _number(patch: bytes, at: int) -> tuple[int, bytes, int]:
    """The number that begins there, the mark behind it, and where it goes on."""
    found = _NUMBER.match(patch, at)
    if found is None:
        raise ValueError(f"a patch with something else than a number at byte {at}: {patch[:80]!r}")
    value = 0
    for digit in found[1]:
        value = value << 6 | _VALUES[digit]
    return value, found[2], found.end()
