"""The JSON codec (protocol.md section 1.3): commands from text, replies and pushes to bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from notifier.protocol.codes import bad_command
from notifier.protocol.messages import Command, Form, Publication, Reply, Shown

# What msgspec can raise on bytes from outside; catching only the first one would let a client stop its handler.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)

_decode_command = msgspec.json.Decoder(Command).decode
_decode_raw = msgspec.json.Decoder(Raw).decode


def _publication_hook(value: Any) -> Raw:
    if isinstance(value, Shown):
        return Raw(publication(value.publication, value.form, named=value.named))
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


def join(messages: Sequence[bytes]) -> bytes:
    """Several messages in one frame."""
    return messages[0] if len(messages) == 1 else b"\n".join(messages)


def publication(message: Publication, form: Form = Form.PLAIN, named: bool = False) -> bytes:
    """The publication object of pushes and replies. `named`: with its channel, also as a tag, which the SDKs show."""
    data, is_patch = (message.data, False) if form is Form.PLAIN else _as_text(message, form)
    parts = [b'{"data":', data]
    if message.info:
        parts += (b',"info":', message.info)
    if message.offset and message.positioned:
        parts.append(b',"offset":%d' % message.offset)
    tags = {**(message.tags or {}), "channel": message.channel} if named else message.tags
    if tags:
        parts += (b',"tags":', encode(tags))
    if is_patch:
        parts.append(b',"delta":true')
    if named:
        parts += (b',"channel":', encode(message.channel))
    parts.append(b"}")
    return b"".join(parts)


def _as_text(message: Publication, form: Form) -> tuple[bytes, bool]:
    """The data, or a patch, and whether it is one. Where deltas are used, both kinds are texts."""
    patch = message.patch(as_text=True) if form is Form.PATCH else None
    return encode((message.data if patch is None else patch).decode()), patch is not None


def push(message: Publication, form: Form = Form.PLAIN, via: str = "") -> bytes:
    """The push of one publication. `via` is the pattern by which the client is subscribed, if it is by one."""
    return b'{"push":%b}' % bare_push(message, form, via)


def bare_push(message: Publication, form: Form = Form.PLAIN, via: str = "") -> bytes:
    """The same for one-way transports."""
    return b'{"channel":%b,"pub":%b}' % (encode(via or message.channel), publication(message, form, named=bool(via)))


def bare_reply(message: Reply) -> bytes:
    """A push, or a ping, for one-way transports."""
    return PING if message.push is None else encode(message.push)


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
