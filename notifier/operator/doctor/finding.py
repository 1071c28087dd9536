"""Finding: one thing that was looked at."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Level(StrEnum):
    """How bad it is. `FAIL`: something does not work. `WARN`: it will hurt one day, or under load."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True, omit_defaults=True):
    """`topic` is a part of the system, `text` what was found, `fix` what to do about it."""

    topic: str
    level: Level
    text: str
    fix: str = ""


def ok(topic: str, text: str) -> Finding:
    return Finding(topic, Level.OK, text)


def warn(topic: str, text: str, fix: str) -> Finding:
    return Finding(topic, Level.WARN, text, fix)


def fail(topic: str, text: str, fix: str) -> Finding:
    return Finding(topic, Level.FAIL, text, fix)
