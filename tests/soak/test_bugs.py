"""Seeded bugs are planted into the process that asks for one, and the server's own commands still run there."""

from __future__ import annotations

import asyncio
import sys

import pytest

from notifier import __version__
from tests.services.deadline import SECOND
from tests.soak.bugs import BUGS
from tests.soak.process import ROOT, _environment


async def node(*words: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.soak.node",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=_environment(),
        cwd=ROOT,
    )
    async with asyncio.timeout(30 * SECOND):
        said, _ = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize("bug", ["", *BUGS])
async def test_a_node_with_any_bug_runs_the_normal_command_line(bug: str) -> None:
    words = ["--bug", bug, "--seed", "3"] if bug else []
    code, said = await node(*words, "version")
    assert code == 0, said
    assert __version__ in said


async def test_a_bug_that_does_not_exist_is_said() -> None:
    code, said = await node("--bug", "imaginary", "version")
    assert code == 2
    assert "invalid choice" in said


def test_there_are_enough_of_them_to_trust_the_checker() -> None:
    assert len(BUGS) >= 9
    assert all(bug.about for bug in BUGS.values())
