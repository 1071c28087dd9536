"""Log lines: JSON for machines, plain text on a terminal. One line an entry, whatever is in it; on standard error.

What is logged while a request is handled, and by what it has begun, has its id (`request`); what is about a client or a
message has theirs (`client`, `message_id`, `offset`).
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from notifier.config import LoggingSection

MAX_FIELD_CHARS = 2000
REQUEST_ID = "X-Request-ID"
_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,64}")
_request: ContextVar[str] = ContextVar("request", default="")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """`{"time": …, "level": …, "logger": …, "message": …}` and the entry's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _short(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = _short(self.formatException(record.exc_info), 10 * MAX_FIELD_CHARS)
        return json.dumps(entry, default=str)  # ASCII only, so that nothing in it can look like a line's end


class TextFormatter(logging.Formatter):
    """For people: time, level, message, fields. Control characters are escaped: an entry cannot forge another."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_timestamp(record)} {record.levelname:<7} {_short(record.getMessage())}{fields}"
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def set_up(section: LoggingSection) -> None:
    """Send all loggers' entries to standard error. Libraries are heard from warnings on."""
    as_text = section.format == "text" or (section.format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("notifier").setLevel(section.level.upper())
    # They log each attempt of ours with the URL's host, and errors that we tell ourselves.
    for name in ("aiormq", "aio_pika", "aiohttp.access", "aiohttp.websocket", "redis"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def of_request(said: str) -> Iterator[str]:
    """What is logged meanwhile is about this request. Its id is what its sender said, if that may stand in a log, or a
    new one."""
    found = said if _ID.fullmatch(said) else secrets.token_hex(8)
    before = _request.set(found)
    try:
        yield found
    finally:
        _request.reset(before)


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    request = _request.get()
    found = {"request": request} if request else {}
    return found | {
        name: _short(value) if isinstance(value, str) else value
        for name, value in vars(record).items()
        if name not in _STANDARD
    }


def _short(text: str, limit: int = MAX_FIELD_CHARS) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else text[:limit] + "…"
