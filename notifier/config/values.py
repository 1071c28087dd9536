"""Values of the configuration that are written with a unit, or must not be seen; and what all sections are."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct


class Secret(str):
    """A text that never shows itself in logs, tracebacks and dumps."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"


class Duration(float):
    """Seconds. Written `250ms`, `15s`, `5m`, `24h`, `7d`, or as a number of seconds."""

    __slots__ = ()
    UNITS: typing.ClassVar = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Raises ValueError when `value` is no duration."""
        return cls(_measure(value, cls.UNITS, 'a duration such as "15s", "5m" or "24h"'))


class Size(int):
    """Bytes. Written `64KiB`, `256MiB`, `10GB`, or as a number of bytes."""

    __slots__ = ()
    UNITS: typing.ClassVar = {
        "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    }  # fmt: skip

    @classmethod
    def parse(cls, value: object) -> Size:
        """Raises ValueError when `value` is no size."""
        return cls(_measure(value, cls.UNITS, 'a size such as "64KiB" or "10GB"'))


class Workers(int):
    """A number of processes. Written as a number from 1 on, or `auto`: one for each core."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Workers:
        """Raises ValueError when `value` is no such number."""
        if value == "auto":
            return cls(len(os.sched_getaffinity(0)))
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 256:
            return cls(value)
        raise ValueError('expected a number of workers from 1 to 256, or "auto"')


def _measure(value: object, units: Mapping[str, float], expected: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"expected {expected}")
    return float(match[1]) * units[match[2]]


Count = Annotated[int, Meta(ge=1)]
PerSecond = Annotated[float, Meta(ge=0)]
Rights = list[str]


class Section(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the file. Each field's description is in `config/notifier.toml` and `docs/configuration.md`."""
