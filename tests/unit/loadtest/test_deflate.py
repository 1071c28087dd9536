"""Compressed messages, against an independent compressor."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode

from loadtest.deflate import MOST, TAIL, inflate


def compressed(*messages: bytes, alone: bool) -> list[bytes]:
    """What another implementation sends. `alone`: no message refers to one before it."""
    sender = PerMessageDeflate(False, alone, 15, 15)
    return [bytes(sender.encode(TheirFrame(Opcode.TEXT, message)).data) for message in messages]


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4))
def test_messages_that_stand_alone_are_opened(messages: list[bytes]) -> None:
    assert [inflate(payload) for payload in compressed(*messages, alone=True)] == messages


def test_a_message_that_refers_to_the_one_before_is_refused() -> None:
    message = b"the same words again, and enough of them to be worth a reference"
    first, second = compressed(message, message, alone=False)
    assert inflate(first) == message
    with pytest.raises(ValueError, match="not a compressed message"):
        inflate(second)


def test_what_is_not_compressed_is_refused() -> None:
    with pytest.raises(ValueError, match="not a compressed message"):
        inflate(b'{"push":{}}')


def test_a_few_bytes_cannot_become_too_many() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = packer.compress(b"\0" * (MOST + 1)) + packer.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(ValueError, match="more than"):
        inflate(payload.removesuffix(TAIL))
