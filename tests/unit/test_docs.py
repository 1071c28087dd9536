"""What the documents say is there is there: tests that they name, pictures, rows of tables. tests/docs has the rest."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.test_names import COMMANDS, KEYS
from tests.pictures import FOLDER, PICTURES
from tests.servers import ROOT
from tests.soak.nemesis import ACTIONS

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEST = re.compile(r"`((?:[a-z_0-9]+/)+test_[a-z_0-9]+\.py)(?:::(test_[a-z_0-9]+))?`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_that_are_named_exist(document: Path) -> None:
    for file, name in TEST.findall(document.read_text()):
        path = ROOT / file if file.startswith("tests/") else ROOT / "tests" / file
        assert path.is_file(), file
        assert not name or f"def {name}(" in path.read_text(), f"{file}::{name}"


def test_the_pictures_are_those_that_the_command_makes() -> None:
    made = {picture.name for picture in PICTURES}
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "console.md").read_text()
    assert {path.name for path in FOLDER.iterdir()} == made
    assert set(re.findall(r"pictures/([\w.-]+)", text)) == made
    for name in made:
        picture = (FOLDER / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 150_000


def test_the_security_table_has_a_test_in_every_row() -> None:
    rows = rows_of_threats()
    assert len(rows) >= 45
    for number, threat, defence, setting, tests in rows:
        assert threat
        assert defence
        assert setting
        named = TEST.findall(tests)
        assert named, threat
        assert tests == ", ".join(f"`{file}{name and '::'}{name}`" for file, name in named), "nothing but tests"
        assert re.fullmatch(r"(S\d+(, S\d+)*)?", number), threat


def rows_of_threats() -> list[list[str]]:
    """Number, threat, defence, setting, tests."""
    return [row for row in _rows_of_security() if len(row) == 5][1:]


def _rows_of_security() -> list[list[str]]:
    lines = (ROOT / "docs" / "security.md").read_text().splitlines()
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines if line.startswith("| ")]


def test_each_property_of_the_checklist_has_its_row() -> None:
    rows = [row for row in _rows_of_security() if len(row) == 3][1:]
    wanted = [*(f"P{number}" for number in range(1, 13)), *(f"T{number}" for number in range(1, 8))]
    assert [row[0] for row in rows] == wanted
    for number, what, tests in rows:
        assert what
        assert TEST.findall(tests), number


def test_each_threat_of_the_checklist_has_its_row() -> None:
    numbers = {number for row in rows_of_threats() for number in row[0].split(", ") if number}
    assert numbers == {f"S{number}" for number in range(1, 53)}


@pytest.mark.parametrize("row", rows_of_threats(), ids=lambda row: row[1][:60])
def test_settings_of_the_security_table_exist(row: list[str]) -> None:
    keys = {f"{section}.{key}" for section, found in KEYS.items() for key in found} - {
        f"{section}.{key}" for section in ("channels", "rpc") for key in KEYS[section]
    }
    of_rules = KEYS["channels"]
    words = row[3].split(", ")
    for word in words if words != ["always"] else []:
        bare = word.removeprefix("`").removesuffix("`")
        assert word == f"`{bare}`", row[1]
        known = bare in keys or bare in of_rules or bare in {f"[[{name}]]" for name in ("channels", "rpc")}
        command, option = bare.removeprefix("notifier "), bare
        is_option = any(option in action.option_strings for parser in COMMANDS.values() for action in parser._actions)
        assert known or bare.strip("[]") in KEYS or command in COMMANDS or is_option, f"{row[1]}: {word}"


# The rows of the study of faults, and one that tests of the network added: brokers, Redis, nodes, clients.
FAULTS = {
    f"F-{kind}{number}"
    for kind, count in {"B": 25, "R": 20, "N": 13, "C": 10}.items()
    for number in range(1, count + 1)
}
CODE = re.compile(r"\bF-[BRNC][0-9]+\b")
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
ACTION = re.compile(r"`([a-z]+(?:\.[a-z_]+)?)`")


def rows_of_faults() -> tuple[list[str], list[str]]:
    """Of those that happen, and of those that cannot."""
    text = (ROOT / "docs" / "reliability.md").read_text()
    happen, _, cannot = text.partition("### What cannot happen here")
    rows = [[line for line in part.splitlines() if line.startswith("| F-")] for part in (happen, cannot)]
    return rows[0], rows[1]


def codes_named_by(file: str) -> set[str]:
    """By docstrings of its tests."""
    functions = [node for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, FUNCTION)]
    return {code for node in functions if node.name.startswith("test_") for code in CODE.findall(_told(node))}


def _told(node: FUNCTION) -> str:
    return ast.get_docstring(node) or ""


def codes_named_by_the_soak() -> set[str]:
    """By docstrings of what it does."""
    paths = [path for path in (ROOT / "tests" / "soak").glob("*.py") if not path.name.startswith("test_")]
    functions = [node for path in paths for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, FUNCTION)]
    return {code for node in functions for code in CODE.findall(_told(node))}


def test_every_fault_is_in_the_table_once() -> None:
    happen, cannot = rows_of_faults()
    found = Counter(code for row in [*happen, *cannot] for code in CODE.findall(row.split("|")[1]))
    assert found == dict.fromkeys(FAULTS, 1)


@pytest.mark.parametrize("row", rows_of_faults()[0], ids=lambda row: row.split("|")[1].strip())
def test_what_shows_a_fault_names_it(row: str) -> None:
    cells = row.rsplit("|", 2)
    codes, shown_by = set(CODE.findall(cells[0].split("|")[1])), cells[1]
    files, by_soak = [file for file, _ in TEST.findall(shown_by)], "soak: " in shown_by
    assert files or by_soak
    for file in files:
        assert codes & codes_named_by(file), file
    named = {code for file in files for code in codes_named_by(file)}
    if by_soak:
        named |= codes_named_by_the_soak()
        for part in shown_by.split(";"):
            for action in ACTION.findall(part) if "soak: " in part else []:
                assert codes & set(CODE.findall(ACTIONS[action].__doc__ or "")), action
    assert codes <= named
