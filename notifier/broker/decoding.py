"""Reading what other programs put into properties and headers, whatever it is.

pamqp refuses a whole frame for one value that it cannot read, and with the frame goes the connection. RabbitMQ passes
such values on as they come, so one message with a short string that is not UTF-8 (AMQP 0.9.1, section 4.2.5.3), or with
a timestamp in microseconds, would end the connection of every worker that gets it, again and again. With `be_tolerant`
the frame is read: a text that is not UTF-8 as Latin-1, and what cannot be read at all as None.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from pamqp import decode

_LENGTH_BYTES = 4


def be_tolerant() -> None:
    """For all connections of this process."""
    decode.METHODS["shortstr"] = short_string
    for name, code, reader in (("timestamp", b"T", timestamp), ("table", b"F", table)):
        decode.METHODS[name] = decode.TABLE_MAPPING[code] = reader


def short_string(data: bytes) -> tuple[int, str]:
    """How many bytes were read, and the text. Raises ValueError when there is nothing."""
    if not data:
        raise ValueError("a short string needs a length")
    end = data[0] + 1
    return end, text(data[1:end])


def text(data: bytes) -> str:
    """A text that should be UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def timestamp(data: bytes) -> tuple[int, dt.datetime | None]:
    """Seconds since 1970 (RabbitMQ: https://www.rabbitmq.com/amqp-0-9-1-errata); None for what is no date in them."""
    if len(data) < 8:
        raise ValueError("a timestamp has 8 bytes")
    try:
        return 8, dt.datetime.fromtimestamp(int.from_bytes(data[:8]), tz=dt.UTC)
    except (ValueError, OverflowError, OSError):
        return 8, None


def table(data: bytes) -> tuple[int, dict[str, Any]]:
    """How many bytes were read, and the fields up to the first one of an unknown type. Raises ValueError when the data
    is shorter than it says."""
    end = _LENGTH_BYTES + _length(data)
    if end > len(data):
        raise ValueError("a table is longer than its data")
    found: dict[str, Any] = {}
    at = _LENGTH_BYTES
    while at < end:
        size, name = short_string(data[at:end])
        at += size
        try:
            size, found[name] = _value(data[at:end])
        except ValueError:
            break  # how long it is nobody knows
        at += size
    return end, found


def _value(data: bytes) -> tuple[int, Any]:
    try:
        return decode.embedded_value(data)
    except RecursionError:
        return 1 + _LENGTH_BYTES + _length(data[1:]), None


def _length(data: bytes) -> int:
    if len(data) < _LENGTH_BYTES:
        raise ValueError("a length has 4 bytes")
    return int.from_bytes(data[:_LENGTH_BYTES])
