"""What the doctor says of the machine."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from notifier.config import Config, Server, Workers
from notifier.operator.doctor import Level, machine
from tests.servers import ROOT

FEW = 500


@pytest.fixture
def _few_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def texts(config: Config, level: Level) -> str:
    return "; ".join(f"{each.text} -> {each.fix}" for each in await machine.look(config) if each.level is level)


@pytest.mark.usefixtures("_few_files")
async def test_a_low_limit_of_open_files_is_told_with_how_to_raise_it() -> None:
    told = await texts(Config(), Level.WARN)
    assert f"may have {FEW} files open" in told
    assert "LimitNOFILE=" in told


async def test_more_workers_than_cores_are_told() -> None:
    assert "256 workers share" in await texts(Config(server=Server(workers=Workers(256))), Level.WARN)
    assert "workers: 1, cores: " in await texts(Config(), Level.OK)


@pytest.mark.parametrize(
    ("word", "level", "words"),
    [(0, Level.OK, "kept right"), (5, Level.WARN, "nothing keeps the clock right"), (-1, Level.OK, "cannot be seen")],
)
def test_a_clock_that_nobody_keeps_right_is_told(word: int, level: Level, words: str) -> None:
    found = machine.clock(word)
    assert found.level is level
    assert words in found.text
    assert bool(found.fix) is (level is Level.WARN)


async def test_the_kernel_is_asked() -> None:
    found = [each for each in await machine.look(Config()) if "clock" in each.text]
    assert found == [machine.clock(machine._kernel_s_word())]
    assert -1 <= machine._kernel_s_word() <= machine.TIME_ERROR


@pytest.mark.parametrize(("variable", "words"), [("", "parser in C"), ("1", "less strict -> unset AIOHTTP_NO_EXT")])
def test_a_parser_that_is_less_strict_is_told(variable: str, words: str) -> None:
    """S43."""
    code = "from notifier.operator.doctor import machine as m; f = m.parser(); print(f.text, '->', f.fix)"
    environ = {**os.environ, "AIOHTTP_NO_EXTENSIONS": variable, "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True).stdout
    assert words in told
