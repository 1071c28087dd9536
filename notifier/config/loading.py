"""Loading: a file and variables become a `Config`, or a list of everything that is wrong with them.

A file is decoded whole, then checked whole: every mistake is told at once, with its path, what was found and what is
allowed. Reading it does nothing else.
"""

from __future__ import annotations

import os
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from notifier.config.checking import check
from notifier.config.file import Config
from notifier.config.values import Duration, Secret, Size, Workers
from notifier.errors import ConfigError

ENV_PREFIX = "NOTIFIER_"


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """The checked configuration from a TOML file (none: only defaults) and `NOTIFIER_SECTION__KEY` variables.

    Raises ConfigError with one sentence for every mistake.
    """
    table = _read(path) if path else {}
    problems = _apply_environ(table, environ)
    config = _decode(table, Config, "", problems)
    if isinstance(config, Config):
        problems += check(config)
    if problems or not isinstance(config, Config):
        raise ConfigError(problems)
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error


def _apply_environ(table: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    problems = []
    sections = {f.name: f.type for f in msgspec.structs.fields(Config)}
    for name, text in sorted(environ.items()):
        if not name.startswith(ENV_PREFIX):
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if not key or section not in sections:
            problems.append(f"{name}: no such key; variables are named {ENV_PREFIX}SECTION__KEY")
            continue
        place = table.setdefault(section, {})
        if isinstance(place, dict):
            place[key] = _value_of_variable(text, _field_type(sections[section], key))
    return problems


def _field_type(section: Any, key: str) -> Any:
    if not (isinstance(section, type) and issubclass(section, Struct)):
        return str
    return {f.name: _bare(f.type) for f in msgspec.structs.fields(section)}.get(key, str)


def _value_of_variable(text: str, expected: Any) -> Any:
    """A variable's text as TOML would have it, so that lists and tables can be written; a plain text stays one."""
    if expected in (str, Secret):
        return text
    if typing.get_origin(expected) is list and not text.lstrip().startswith("["):
        return text.split(",") if text else []
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _bare(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _decode(value: Any, kind: Any, path: str, problems: list[str]) -> Any:
    """`value` as `kind`, walking tables and lists so that every mistake is found, not only the first."""
    bare = _bare(kind)
    if typing.get_origin(bare) in (types.UnionType, typing.Union):
        bare = next(arm for arm in typing.get_args(bare) if arm is not types.NoneType)
    if isinstance(bare, type) and issubclass(bare, Struct):
        return _decode_table(value, bare, path, problems)
    if typing.get_origin(bare) is list and isinstance(value, list):
        item = typing.get_args(bare)[0]
        return [_decode(entry, item, f"{path}[{index}]", problems) for index, entry in enumerate(value)]
    try:
        return msgspec.convert(value, kind, dec_hook=_convert)
    except msgspec.ValidationError as error:
        problems.append(f"{path}: {_sentence(str(error))}; found {_shown(value, bare)}")
    return None


def _decode_table(value: Any, kind: type[Struct], path: str, problems: list[str]) -> Struct | None:
    if not isinstance(value, dict):
        problems.append(f"{path}: expected a table; found {_shown(value, kind)}")
        return None
    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    before = len(problems)
    prefix = f"{path}." if path else ""
    known = ", ".join(fields)
    problems += [f"{prefix}{name}: unknown key; known here: {known}" for name in sorted(value.keys() - fields.keys())]
    problems += [f"{prefix}{f.name}: missing" for f in fields.values() if f.required and f.name not in value]
    decoded = {
        name: _decode(value[name], fields[name].type, f"{prefix}{name}", problems) for name in fields if name in value
    }
    return kind(**decoded) if len(problems) == before else None


def _convert(kind: type, value: Any) -> Any:
    if kind is Duration:
        return Duration.parse(value)
    if kind is Size:
        return Size.parse(value)
    if kind is Workers:
        return Workers.parse(value)
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError("expected a text")


def _sentence(text: str) -> str:
    return text[0].lower() + text[1:].replace("`", "")


def _shown(value: Any, kind: Any) -> str:
    if kind is Secret or Secret in typing.get_args(kind):
        return "a value that is not shown"
    return repr(value)[:80]
