"""Log lines: JSON for machines, plain text on a terminal. One line an entry, whatever is in it; on standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from notifier.config import LoggingSection

MAX_FIELD_CHARS = 2000
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
    for name in ("aiormq", "aio_pika", "aiohttp.access", "aiohttp.websocket"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {
        name: _short(value) if isinstance(value, str) else value
        for name, value in vars(record).items()
        if name not in _STANDARD
    }


def _short(text: str, limit: int = MAX_FIELD_CHARS) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else text[:limit] + "…"
