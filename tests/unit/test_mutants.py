"""The tool that changes the program a little: each change is one, the program is as before afterwards, and one that the
tests must notice is noticed."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from tests import mutants
from tests.servers import ROOT

CODE = """
def f(a: int, b: bool) -> int:
    if a < 3 and b:
        return a + 1
    return -1
"""
CHANGED = {"a <= 3", "a < 3 or b", "a - 1", "4", "2", "if not (a < 3 and b):"}


def test_each_change_is_one_and_none_stays(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text(CODE)
    found = list(mutants.mutants(file))
    assert {what for _, what, _ in found} == CHANGED
    texts = [text for _, _, text in found]
    original = ast.unparse(ast.parse(CODE))
    assert len({*texts, original}) == len(CHANGED) + 1
    for text in texts:
        assert sum(one != other for one, other in zip(text.splitlines(), original.splitlines(), strict=True)) == 1


def test_a_change_that_matters_is_noticed_and_none_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = "notifier/core/repeats.py"
    for part in ("notifier", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(mutants, "TESTS", ["tests/unit/core/test_repeats.py"])
    text = (ROOT / file).read_text()
    assert not mutants.is_noticed(tmp_path, file, text)
    assert mutants.is_noticed(tmp_path, file, text.replace("def first(", "def last("))
    assert (tmp_path / file).read_text() == text


def test_there_is_something_to_change() -> None:
    assert sum(len(list(mutants.mutants(ROOT / file))) for file in mutants.FILES) > 200
