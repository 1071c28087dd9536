"""The JSON codec (protocol.md section 1.3): commands from text, replies and pushes to bytes."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from notifier.protocol.codes import bad_command
from notifier.protocol.messages import Command, Publication, Reply

# What msgspec can raise on bytes from outside; catching only the first one would let a client stop its handler.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)

_decode_command = msgspec.json.Decoder(Command).decode
_decode_raw = msgspec.json.Decoder(Raw).decode


def _publication_hook(value: Any) -> Raw:
    if isinstance(value, Publication):
        return Raw(publication(value))
    raise TypeError(f"{type(value).__name__} is not part of the protocol")


encode = msgspec.json.Encoder(enc_hook=_publication_hook).encode

PING = b"{}"


def commands(text: str) -> list[Command]:
    """The commands of one frame: objects separated by one newline, with at most one newline after the last.

    Raises ConnectionEnded (3501) when any of them is no command; then none is to be run.
    """
    lines = text.split("\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    try:
        return [_decode_command(line) for line in lines]
    except DECODE_ERRORS as error:
        raise bad_command(what_was_wrong(error)) from error


def reply(message: Reply) -> bytes:
    """One reply, without a newline in it."""
    return encode(message)


def publication(message: Publication) -> bytes:
    """The publication object of pushes and replies."""
    parts = [b'{"data":', message.data]
    if message.info:
        parts += (b',"info":', message.info)
    if message.offset and message.positioned:
        parts.append(b',"offset":%d' % message.offset)
    if message.tags:
        parts += (b',"tags":', encode(message.tags))
    parts.append(b"}")
    return b"".join(parts)


def push(message: Publication) -> bytes:
    """The push of one publication."""
    return b'{"push":{"channel":%b,"pub":%b}}' % (encode(message.channel), publication(message))


def envelope(message: Publication) -> bytes:
    """A publication with its channel, for streams that carry several."""
    return b'{"channel":%b,%b' % (encode(message.channel), publication(message)[1:])


def compact(data: bytes) -> bytes:
    """A JSON value as it came in, checked, without raw newlines: those would break frames that hold several lines.

    Raises ValueError, saying what is wrong, when `data` is not one JSON value in UTF-8.
    """
    try:
        data.decode()  # Raw does not look inside strings, and one bad byte closes every browser that gets it
        _decode_raw(data)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise ValueError(what_was_wrong(error)) from error
    if b"\n" in data or b"\r" in data:
        # Between tokens only: the decoder refuses control characters inside strings.
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    return data


def what_was_wrong(error: BaseException) -> str:
    """For people, what one of DECODE_ERRORS says."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeError):
        return "not UTF-8"
    return str(error).replace("`", "")
