"""Entries out of AMQP 1.0 sections: the form in which RabbitMQ keeps messages in streams.

OASIS AMQP 1.0: types and their encodings are in part 1, section 1.6, the sections of a message in part 3, section 3.2.
On the fast lane: only what an entry holds is decoded; the rest is stepped over.

Properties of AMQP 0.9.1 that AMQP 1.0 does not have are kept by name (seen on 3.10.8, in its order): routing key,
exchange, priority, delivery mode and expiration as annotations; type and application id beside the headers, among the
application properties. RabbitMQ 4 keeps the type as an annotation and the expiration as the header section's ttl.
"""

from __future__ import annotations

import base64
import struct
import uuid
from collections.abc import Callable
from typing import Any

from notifier.broker import decoding
from notifier.errors import Rejected
from notifier.log.entry import Entry

HEADER, ANNOTATIONS, PROPERTIES, APPLICATION, DATA, SEQUENCE, VALUE = 0x70, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77
_MESSAGE_ID, _CONTENT_TYPE = 0, 6  # places in the properties section
_TTL = 2  # place in the header section
_MAX_SHORT_BYTES = 255
_WIDTHS = {4: 0, 5: 1, 6: 2, 7: 4, 8: 8, 9: 16}  # bytes of a value, by the upper half of its type's code

_NULL, _ULONG_0, _SMALL_ULONG, _ULONG = 0x40, 0x44, 0x53, 0x80
_BINARY_8, _BINARY_32, _TEXT_8, _TEXT_32, _SYMBOL_8, _SYMBOL_32 = 0xA0, 0xB0, 0xA1, 0xB1, 0xA3, 0xB3
_UUID, _LIST_0, _LIST_8, _LIST_32, _MAP_8, _MAP_32 = 0x98, 0x45, 0xC0, 0xD0, 0xC1, 0xD1


def entry_of(data: bytes, place: int, key: str) -> Entry:
    """The entry at a place. `key` is what it has when it was not published through an exchange.

    Raises Rejected for bytes that are no message.
    """
    entry = Entry(place, key, b"")
    try:
        body = _take_sections(data, entry)
    except (IndexError, ValueError, struct.error) as error:
        raise Rejected("unreadable", "not a message of AMQP 1.0") from error
    entry.body = body[0] if len(body) == 1 else b"".join(body)
    return entry


def _take_sections(data: bytes, entry: Entry) -> list[bytes]:
    """What the entry holds, but for the parts of its body: those are returned."""
    body: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        begin = at
        if data[at] or data[at + 1] != _SMALL_ULONG:
            raise ValueError("no section")
        code, at = data[at + 2], at + 3
        if code == DATA:
            size, at = _size(data, at, _BINARY_8, _BINARY_32)
            body.append(data[at : at + size])
            at += size
        elif code in _SECTIONS:
            take, short, long = _SECTIONS[code]
            at, stop = _bounds(data, at, short, long)
            if take(data, at, stop, entry) != stop:
                raise ValueError("an item is longer than its list")
            at = stop
        else:
            at = _after(data, at)
            if code in (VALUE, SEQUENCE):
                body.append(data[begin:at])  # as AMQP 0.9.1 shows it
    if at > end:
        raise ValueError("a section is longer than the message")
    return body


def _annotations(data: bytes, at: int, stop: int, entry: Entry) -> int:
    while at < stop:
        if data[at] == _SYMBOL_8:
            begin = at + 2
            at = begin + data[at + 1]
            name = data[begin:at]
        else:
            name, at = b"", _after(data, at)
        if data[at] == _TEXT_8:
            begin = at + 2
            at = begin + data[at + 1]
            if name == b"x-routing-key":
                entry.key = decoding.text(data[begin:at])
            elif name == b"x-basic-expiration":
                entry.expiration = decoding.text(data[begin:at])
            elif name == b"x-basic-type":
                entry.type = decoding.text(data[begin:at])
        else:
            at = _after(data, at)
    return at


def _properties(data: bytes, at: int, stop: int, entry: Entry) -> int:
    index = 0
    while at < stop:
        if data[at] == _NULL:
            at += 1
        elif index == _MESSAGE_ID:
            entry.message_id, at = _message_id(data, at)
        elif index == _CONTENT_TYPE:
            size, at = _size(data, at, _SYMBOL_8, _SYMBOL_32)
            entry.content_type = decoding.text(data[at : at + size])
            at += size
        elif index > _CONTENT_TYPE:
            return stop
        else:
            at = _after(data, at)
        index += 1
    return at


def _application(data: bytes, at: int, stop: int, entry: Entry) -> int:
    """The headers. A name that is no text is left out."""
    headers: dict[str, Any] = {}
    while at < stop:
        name, at = value_of(data, at)
        value, at = value_of(data, at)
        if name == "x-basic-type":
            entry.type = value if isinstance(value, str) else ""
        elif isinstance(name, str) and name != "x-basic-app-id":
            headers[name] = value
    entry.headers = headers or None
    return at


def _header(data: bytes, at: int, stop: int, entry: Entry) -> int:
    index = 0
    while at < stop:
        value, at = value_of(data, at)
        if index == _TTL and isinstance(value, int):
            entry.expiration = str(value)
        index += 1
    return at


def _message_id(data: bytes, at: int) -> tuple[str, int]:
    """An id of any of the four types that there are, as AMQP 0.9.1 shows it."""
    code = data[at]
    if code == _UUID:
        return f"urn:uuid:{uuid.UUID(bytes=data[at + 1 : at + 17])}", at + 17
    if code in (_BINARY_8, _BINARY_32):
        size, at = _size(data, at, _BINARY_8, _BINARY_32)
        text = base64.b64encode(data[at : at + size]).decode()
        return text if len(text) <= _MAX_SHORT_BYTES else "", at + size
    if code in (_ULONG_0, _SMALL_ULONG, _ULONG):
        number, at = value_of(data, at)
        return str(number), at
    size, at = _size(data, at, _TEXT_8, _TEXT_32)
    return decoding.text(data[at : at + size]) if size <= _MAX_SHORT_BYTES else "", at + size


def value_of(data: bytes, at: int) -> tuple[Any, int]:
    """A value as pamqp gives it over AMQP 0.9.1, and where it ends; None for what a header of RabbitMQ cannot be."""
    code = data[at]
    if code in _TEXTS:
        size, at = _size(data, at, code & 0xAF, code | 0x10)
        raw = data[at : at + size]
        try:
            return raw.decode(), at + size
        except UnicodeDecodeError:
            return raw, at + size
    read = _READ.get(code)
    if read is not None:
        stop = at + 1 + _WIDTHS[code >> 4]
        return read(data[at + 1 : stop]), stop
    if code in (_BINARY_8, _BINARY_32):
        size, at = _size(data, at, _BINARY_8, _BINARY_32)
        return bytearray(data[at : at + size]), at + size
    return None, _after(data, at)


def _after(data: bytes, at: int) -> int:
    """Where the value ends that begins here."""
    wanted = 1
    while wanted:
        code = data[at]
        width = _WIDTHS.get(code >> 4)
        if not code:
            at += 1
            wanted += 1  # a described value: what describes it, then the value
            continue
        if width is not None:
            at += 1 + width
        elif code < _BINARY_8:
            raise ValueError("no type has this code")
        elif code & 0x10:
            at += 5 + int.from_bytes(data[at + 1 : at + 5])
        else:
            at += 2 + data[at + 1]
        wanted -= 1
    return at


def _size(data: bytes, at: int, short: int, long: int) -> tuple[int, int]:
    """The size of a value of one of two types, and where its bytes begin."""
    if data[at] == short:
        return data[at + 1], at + 2
    if data[at] == long:
        return int.from_bytes(data[at + 1 : at + 5]), at + 5
    raise ValueError("a value of another type")


def _bounds(data: bytes, at: int, short: int, long: int) -> tuple[int, int]:
    """Where the items of a list or map begin and end. Their count, which comes before them, says nothing more."""
    if data[at] == short:
        return at + 3, at + 2 + data[at + 1]
    if short == _LIST_8 and data[at] == _LIST_0:
        return at + 1, at + 1
    size, at = _size(data, at, short, long)
    return at + 4, at + size


def _unpack(form: str) -> Callable[[bytes], Any]:
    unpack = struct.Struct(form).unpack
    return lambda raw: unpack(raw)[0]


def _time(raw: bytes) -> Any:
    """Milliseconds; over AMQP 0.9.1 seconds."""
    return decoding.timestamp((int.from_bytes(raw, signed=True) // 1000 % 2**64).to_bytes(8))[1]


_SECTIONS: dict[int, tuple[Callable[[bytes, int, int, Entry], int], int, int]] = {
    HEADER: (_header, _LIST_8, _LIST_32),
    ANNOTATIONS: (_annotations, _MAP_8, _MAP_32),
    PROPERTIES: (_properties, _LIST_8, _LIST_32),
    APPLICATION: (_application, _MAP_8, _MAP_32),
}
"""What reads the items of a section and answers where they end, and as which of two types the section stands there."""
_TEXTS = (_TEXT_8, _TEXT_32, _SYMBOL_8, _SYMBOL_32)
_READ: dict[int, Callable[[bytes], Any]] = {
    0x40: lambda _: None,
    0x41: lambda _: True,
    0x42: lambda _: False,
    0x43: lambda _: 0,
    0x44: lambda _: 0,
    0x50: int.from_bytes,
    0x51: _unpack(">b"),
    0x52: int.from_bytes,
    0x53: int.from_bytes,
    0x54: _unpack(">b"),
    0x55: _unpack(">b"),
    0x56: lambda raw: raw != b"\0",
    0x60: int.from_bytes,
    0x61: _unpack(">h"),
    0x70: int.from_bytes,
    0x71: _unpack(">i"),
    0x72: _unpack(">f"),
    0x80: int.from_bytes,
    0x81: _unpack(">q"),
    0x82: _unpack(">d"),
    0x83: _time,
}
