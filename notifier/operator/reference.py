"""Reference: `docs/configuration.md`, made from the sections of `notifier/config`."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo

from notifier.config import (
    ENV_PREFIX,
    ChannelRule,
    Config,
    Duration,
    HistoryRule,
    RpcRule,
    Secret,
    Size,
    Workers,
    as_toml,
    default,
    description,
)
from notifier.reload import is_reloaded

_HEAD = """\
# Configuration

One TOML file, `notifier serve --config FILE`. Made by `make config` from `notifier/config`; do not edit by hand.
`config/notifier.toml` is the same as a file to copy from.

The file is checked whole at the start: an unknown key, a wrong type or an impossible pair stops it, and every mistake
is told with its path. `notifier check --config FILE` does only that.

**Variables.** Every key of the first tables can be a variable of the environment as well, which wins over the file. A
list is written with commas between its entries, or as in TOML. Rules, of which there are several, stand in the file.

**Reload.** With *yes* a new value is taken up by SIGHUP or `POST /api/reload`; a file with a mistake changes nothing.
The others wait for a restart, and the answer names them.

| type | written |
|---|---|
| text | `"words"`; *secret*: it never shows itself in logs and error texts |
| number | `42` |
| switch | `true`, `false` |
| duration | `"250ms"`, `"15s"`, `"5m"`, `"24h"`, `"7d"`, or a number of seconds |
| size | `"64KiB"`, `"256MiB"`, `"10GB"`, or a number of bytes |
| list | `["a", "b"]` |
"""

_RULES = """
## Rules
"""

_NAMES: dict[Any, str] = {
    str: "text",
    Secret: "text, secret",
    bool: "switch",
    int: "number",
    float: "number",
    Duration: "duration",
    Size: "size in bytes",
    Workers: 'number, or `"auto"`',
    HistoryRule: "table: `size` (number), `ttl` (duration)",
}


def reference() -> str:
    """The whole page."""
    sections = [each for each in msgspec.structs.fields(Config) if _is_table(each.type)]
    return _HEAD + "".join(map(_section, sections)) + _RULES + _rule("channels", ChannelRule) + _rule("rpc", RpcRule)


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _section(section: FieldInfo) -> str:
    lines = [
        f"\n## [{section.name}]\n",
        f"{_doc(section.type)}\n",
        "| key | type | default | reload | meaning, and variable |",
        "|---|---|---|---|---|",
    ]
    for key in msgspec.structs.fields(section.type):
        reload = "yes" if is_reloaded(f"{section.name}.{key.name}") else "no"
        variable = f"{ENV_PREFIX}{section.name}__{key.name}".upper()
        meaning = f"{_escaped(description(key))}<br>`{variable}`"
        lines.append(_row([f"`{key.name}`", type_of(key.type), _default(key), reload, meaning]))
    return "\n".join(lines) + "\n"


def _rule(name: str, kind: type[Struct]) -> str:
    reload = "yes" if is_reloaded(name) else "no"
    lines = [
        f"\n### [[{name}]]\n",
        f"{_doc(kind)} Reload: {reload}.\n",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        _row([f"`{key.name}`", type_of(key.type), _default(key), _escaped(description(key))])
        for key in msgspec.structs.fields(kind)
    ]
    return "\n".join(lines) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _doc(kind: type[Struct]) -> str:
    return " ".join(str(kind.__doc__).split())


def _default(key: FieldInfo) -> str:
    if key.required:
        return "required"
    value = default(key)
    return "none" if value is None else f"`{as_toml(value)}`"


def type_of(kind: Any) -> str:
    """A field's type in words, with its bounds."""
    if typing.get_origin(kind) is Annotated:
        bare, *metas = typing.get_args(kind)
        return type_of(bare) + "".join(map(_bounds, metas))
    if typing.get_origin(kind) is Literal:
        return " or ".join(f'`"{each}"`' for each in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return f"list of {type_of(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) is types.UnionType:
        kind = typing.get_args(kind)[0]
    return _NAMES[kind]


def _bounds(meta: Meta) -> str:
    least = "" if meta.ge is None else f" from {meta.ge:g}"
    most = "" if meta.le is None else f" to {meta.le:g}"
    return least + most


def _escaped(text: str) -> str:
    """As a cell of a table, in which * and # mean themselves."""
    return text.replace("|", "\\|").replace("*", "\\*")
