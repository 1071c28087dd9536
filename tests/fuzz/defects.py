"""One defect for each target, put into the program for a run: fuzzing that does not find it proves nothing."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from notifier.auth import claims
from notifier.broker import decoding
from notifier.config import Config
from notifier.core import channel, node, orders
from notifier.core.history import History
from notifier.log import amqp, sections
from notifier.log.entry import Entry
from notifier.protocol import codec_protobuf, fossil, reading


def _history_without_a_check(self: History, channel: str, since: int | None, limit: int, *_: Any, **__: Any) -> Any:
    """A client's number is used as it comes."""
    return [None][: 1 // limit] and []


def _length_that_trusts(data: bytes, at: int) -> tuple[int, int]:
    """A varint that is cut off is read on behind its end."""
    length = count = 0
    while (byte := data[at + count]) >= 0x80:
        length |= (byte & 0x7F) << (7 * count)
        count += 1
    return length | byte << (7 * count), at + count + 1


def _table_that_trusts(data: bytes) -> tuple[int, dict[str, Any]]:
    """The length of a table is believed."""
    return 4 + int.from_bytes(data[:4]), {}


def _entry_without_a_guard(data: bytes, place: int, key: str) -> Entry:
    """What is damaged breaks the reader."""
    entry = Entry(place, key, b"")
    entry.body = b"".join(sections._take_sections(data, entry))
    return entry


def _copies_one_too_many(one: bytes, start: int, other: bytes, begin: int, most: int) -> int:
    """The comparison stops at the first 64 bytes."""
    equal = 0
    while equal < most and one[start + equal] == other[begin + equal]:
        equal += 1
    return most if equal >= 8 else equal


def _problem_with_length_only(name: str) -> str:
    """Any characters are a channel's name."""
    return "" if 0 < len(name) < 256 else "too long"


def _decode_that_raises_anything(table: Any, *_: Any) -> Config:
    return Config(**{name: value for name, value in table.items() if name == "server"}, **table.get("clients", {}))


DEFECTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "json-commands": lambda: mock.patch.object(History, "page", _history_without_a_check),
    "protobuf-commands": lambda: mock.patch.object(codec_protobuf, "_length", _length_that_trusts),
    "websocket-frames": lambda: mock.patch.object(reading, "_unpacked", lambda packed, _: zlib.decompress(packed, -15)),
    "records": lambda: mock.patch.object(amqp, "_expiration", lambda text: int(text) / 1000),
    "stream-chunks": lambda: mock.patch.object(sections, "entry_of", _entry_without_a_guard),
    "amqp-tables": lambda: mock.patch.object(decoding, "table", _table_that_trusts),
    "workers-messages": lambda: mock.patch.object(orders, "decode", orders._decode),
    "tokens": lambda: mock.patch.object(claims, "accept", lambda *_, **__: None),
    "request-headers": lambda: mock.patch.object(channel, "problem_with", _problem_with_length_only),
    "patches": lambda: mock.patch.object(fossil, "_alike", _copies_one_too_many),
    "events": lambda: mock.patch.object(node, "compact", bytes),
    "configurations": lambda: mock.patch("notifier.config.loading._decode", _decode_that_raises_anything),
}
