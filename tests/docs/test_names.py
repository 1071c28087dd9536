"""What the pages name in code exists: targets of make, commands and options, keys of the configuration, paths of HTTP;
and what they show of a configuration can be used."""

from __future__ import annotations

import argparse
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from notifier.admin.endpoints import METHODS
from notifier.api.openapi import document
from notifier.cli.arguments import parser
from notifier.config import DEV_OPERATOR, Config, HistoryRule, load
from notifier.errors import ConfigError
from notifier.telemetry.definitions import ALL
from tests.docs.pages import PAGES, Page
from tests.servers import ROOT
from tests.soak.nemesis import ACTIONS

each_page = pytest.mark.parametrize("page", PAGES, ids=str)

SHELL = {"", "sh", "console", "bash", "yaml", "ini"}


def code_of(page: Page) -> list[str]:
    """Words in code, and lines of blocks that are commands."""
    return [*page.words, *(line for block in page.blocks if block.language in SHELL for line in _lines(block.body))]


def _lines(body: str) -> list[str]:
    return body.replace("\\\n", " ").splitlines()


# --- make -------------------------------------------------------------------------------------------------------------

TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
MAKE = re.compile(r"(?:^|[\s;&`])make ((?:[a-z-]+(?:\s|$))+|[a-z-]+)")


@each_page
def test_targets_of_make_exist(page: Page) -> None:
    for line in code_of(page):
        for words in MAKE.findall(line.partition(" # ")[0]):
            assert set(words.split()) <= TARGETS, line


# --- the command line -------------------------------------------------------------------------------------------------


def _commands() -> dict[str, argparse.ArgumentParser]:
    [action] = [each for each in parser()._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(action.choices)


COMMANDS = _commands()
# A path is none: `helm upgrade --install notifier deploy/helm/notifier`.
COMMAND = re.compile(r"(?:^|[\s(/])notifier (?P<command>[a-z]+)(?!\/|[a-z])(?P<rest>[^|;&)]*)")


@each_page
def test_commands_and_their_options_exist(page: Page) -> None:
    for line in code_of(page):
        for match in COMMAND.finditer(line):
            if match["command"] == "on":  # "notifier 0.1.0 on http://": what it prints
                continue
            parser = COMMANDS.get(match["command"])
            assert parser is not None, line
            known = {option for action in parser._actions for option in action.option_strings}
            for option in re.findall(r"(?:^|\s)(--?[A-Za-z][\w-]*)", match["rest"].partition(" > ")[0]):
                assert option in known, f"{line}: there are {sorted(known)}"


# --- keys of the configuration ----------------------------------------------------------------------------------------


def _keys() -> dict[str, set[str]]:
    found = {}
    for section in msgspec.structs.fields(Config):
        kind = section.type
        if typing.get_origin(kind) is list:
            [kind] = typing.get_args(kind)
        assert issubclass(kind, Struct)
        found[section.name] = {key.name for key in msgspec.structs.fields(kind)}
    of_rules = {key.name for key in msgspec.structs.fields(HistoryRule)}
    return found | {"history": found["history"] | of_rules, "archive": of_rules}


KEYS = _keys()
KEY = re.compile(r"(?P<section>[a-z]+)\.(?P<key>[a-z_]+)(?: = .*)?")
VARIABLE = re.compile(r"NOTIFIER_([A-Z]+)__([A-Z_]+)")
# What has a dot, and a first word that is also a section's name, but is something else.
OTHER = set(ACTIONS)
FILES = {"md", "py", "toml", "conf"}


@each_page
def test_keys_of_the_configuration_exist(page: Page) -> None:
    for word in page.words:
        match = KEY.fullmatch(word)
        if match and match["section"] in KEYS and word not in OTHER and match["key"] not in FILES:
            assert match["key"] in KEYS[match["section"]], word
    for section, key in VARIABLE.findall(page.text):
        if section != "SECTION":
            assert key.lower() in KEYS.get(section.lower(), ()), f"NOTIFIER_{section}__{key}"
    for section in re.findall(r"`\[([a-z]+)\]`", page.prose):
        assert section in KEYS, section


# --- paths of HTTP ----------------------------------------------------------------------------------------------------


def _routes() -> set[str]:
    text = (ROOT / "notifier" / "doors.py").read_text()
    adding = r"add_(?:get|post|options|route|websocket)\((?:\"\*\"|method|route)?,?\s*\"(/[^\"]*)\""
    found = set(re.findall(adding, text))
    return {path for path in found if "{" not in path}


VIEWS = METHODS | {"login", "logout"}
ROUTES = _routes() | set(document()["paths"]) | {"/api/METHOD", "/admin/api", *(f"/admin/api/{name}" for name in VIEWS)}
# Of files, programs and networks; of an application; of other software.
ELSEWHERE = re.compile(
    r"/(etc|usr|var|run|proc|dev|tmp|path|opt|sys|v1|topic|exchange|pusher)\b|/\d+$"
    r"|/(token|notifications|items|host|vhost)$|/$|/\*|//"
)
PATH = re.compile(r"(?:(?:GET|POST|HEAD) )?(?P<path>/[A-Za-z][\w./{}<>-]*)(?:\?\S*)?")
URL = re.compile(r"(?:127\.0\.0\.1|localhost):(?:8000|8001|8080)(?P<path>/[\w./-]*)")


def named_paths(page: Page) -> Iterator[str]:
    for word in page.words:
        if (match := PATH.fullmatch(word)) and not ELSEWHERE.search(match["path"]):
            yield match["path"]
    for match in URL.finditer(page.text):
        if match["path"] != "/":
            yield match["path"]


@each_page
def test_paths_of_http_exist(page: Page) -> None:
    for path in named_paths(page):
        assert path in ROUTES, f"{path}: there are {sorted(ROUTES)}"


# --- metrics ----------------------------------------------------------------------------------------------------------

METRICS = {definition.full_name for definition in ALL}


@each_page
def test_metrics_exist(page: Page) -> None:
    for text in code_of(page):
        for name in re.findall(r"\bnotifier_[a-z_]+\b", text):
            bare = re.sub(r"_(bucket|sum|count)$", "", name)
            assert bare in METRICS or name in METRICS, name


# --- configurations ---------------------------------------------------------------------------------------------------

# What stands around a part of a file that does not stand for itself.
AROUND: dict[str, Any] = {
    "log": {"kind": "rabbitmq"},
    "redis": {"url": "redis://localhost/"},
    "auth": {"hmac_keys": ["a-key-of-at-least-thirty-two-bytes"]},
}
PART = "part of a file"


def configurations(page: Page) -> Iterator[tuple[str, bool]]:
    for block in page.blocks:
        if block.language == "toml":
            yield block.body, block.note == PART


def problems_of(body: str, folder: Path, *, part: bool) -> list[str]:
    """What `notifier check` says to it. A file that it names need not be here."""
    table = tomllib.loads(body)
    if part:
        table = {**AROUND, **table}
        table |= {name: {**AROUND[name], **table[name]} for name in AROUND}
        for operators in [table.get("admin", {}).get("operators", [])]:
            operators[:] = [DEV_OPERATOR if "…" in entry else entry for entry in operators]
    file = folder / "config.json"
    file.write_text(_toml(table))
    try:
        load(file, {})
    except ConfigError as error:
        return [problem for problem in error.problems if "No such file" not in problem]
    return []


def _toml(table: dict[str, Any]) -> str:
    from tests.servers import _toml as value_of

    return "".join(f"{key} = {value_of(value)}\n" for key, value in table.items())


@each_page
def test_configurations_can_be_used(page: Page, tmp_path: Path) -> None:
    for body, part in configurations(page):
        assert problems_of(body, tmp_path, part=part) == [], body


def test_what_is_looked_at() -> None:
    """The checks above see something."""
    lines = [line for page in PAGES for line in code_of(page)]
    assert len([line for line in lines if MAKE.search(line)]) > 15
    assert {match["command"] for line in lines for match in COMMAND.finditer(line)} >= {
        "serve",
        "check",
        "token",
        "tail",
    }
    assert len({word for page in PAGES for word in page.words if KEY.fullmatch(word)}) > 40
    assert len({path for page in PAGES for path in named_paths(page)}) > 15
    assert len([body for page in PAGES for body, part in configurations(page) if not part]) > 2


@pytest.mark.parametrize(
    ("body", "part", "expected"),
    [
        ("[server]\nprot = 80", False, "server.prot: unknown key"),
        ('[[channels]]\nmatch = "a"\narchive = { size = 1, ttl = "1h" }', False, "channels[0].archive"),
        ('[[channels]]\nmatch = "a"\nhistory = { size = 1, ttl = "1x" }', True, "channels[0].history.ttl"),
        ('[admin]\noperators = ["ann"]', True, "admin.operators[0]"),
    ],
)
def test_what_cannot_be_used_is_found(body: str, part: bool, expected: str, tmp_path: Path) -> None:
    [problem, *_] = problems_of(body, tmp_path, part=part)
    assert problem.startswith(expected)
