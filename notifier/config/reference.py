"""The reference: a file with every key, its default and its meaning, made from the fields."""

from __future__ import annotations

import textwrap
import typing
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from notifier.config.file import Config
from notifier.config.rules import ChannelRule, RpcRule
from notifier.config.values import Duration, Size


def reference() -> str:
    """A configuration file that shows every key with its description and its default."""
    lines = [
        "# Every key with its default. Each one can also be a variable: NOTIFIER_SECTION__KEY.",
        "# `notifier check --config FILE` says what is wrong with a file, and where.",
    ]
    for section in msgspec.structs.fields(Config):
        if isinstance(section.type, type) and issubclass(section.type, Struct):
            lines += ["", f"# {section.type.__doc__}", f"[{section.name}]"]
            lines += _reference_of(section.type)
    for kind in (ChannelRule, RpcRule):
        lines += ["", *_comment(" ".join(str(kind.__doc__).split())), *_keys_of(kind)]
    return "\n".join(lines) + "\n" + _REFERENCE_CHANNELS


_REFERENCE_CHANNELS = """
[[channels]]
match = "user.*"
history = { size = 100, ttl = "24h" }
subscribe = ["user.{sub}", "role:support"]
publish = ["role:service"]

[[channels]]
match = "news.#"
history = { size = 20, ttl = "1h" }
subscribe = ["anyone"]
"""


def _reference_of(section: type[Struct]) -> list[str]:
    lines = []
    for entry in msgspec.structs.fields(section):
        lines += ["", *_comment(description(entry)), f"{entry.name} = {as_toml(default(entry))}"]
    return lines


def _keys_of(entry: type[Struct]) -> list[str]:
    """The keys of a table that there may be several of."""
    keys = msgspec.structs.fields(entry)
    width = max(len(key.name) for key in keys) + 2
    return [line for key in keys for line in _comment(description(key), f"{key.name}: ".ljust(width))]


def _comment(text: str, before: str = "") -> list[str]:
    return textwrap.wrap(text, 110, initial_indent=f"# {before}", subsequent_indent="# " + " " * len(before))


def description(key: msgspec.structs.FieldInfo) -> str:
    """What a key means, as it stands at the field."""
    text: str = typing.get_args(key.type)[-1].description
    return text


def default(key: msgspec.structs.FieldInfo) -> Any:
    """What a key is without being set."""
    return key.default if key.default is not msgspec.NODEFAULT else key.default_factory()


def as_toml(value: Any) -> str:
    """A value as it is written in the file."""
    match value:
        case bool():
            return str(value).lower()
        case Duration():
            return f'"{_in_units(value, Duration.UNITS)}"'
        case Size():
            return f'"{_in_units(value, Size.UNITS)}"'
        case str():
            return f'"{value}"'
        case _:
            return str(value)


def _in_units(value: float, units: Mapping[str, float]) -> str:
    """The number in the largest unit that leaves no fraction."""
    if not value:
        return "0s" if "s" in units else "0B"
    unit, factor = max(
        ((unit, factor) for unit, factor in units.items() if value % factor == 0), key=lambda pair: pair[1]
    )
    return f"{value / factor:g}{unit}"
