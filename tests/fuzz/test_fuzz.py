"""A short run of each target, and one with a defect in the program, which must be found."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.defects import DEFECTS
from tests.fuzz.targets import SEEDS, TARGETS
from tests.servers import ROOT, lacking
from tests.services.deadline import SECOND

SECONDS = 2
SECONDS_TO_FIND = int(60 * SECOND)


def fuzz(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("atheris") is None:
        if sys.version_info < (3, 12):
            lacking("atheris is not installed; `make test` installs it")
        pytest.skip("atheris has no release for this Python")
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *words],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        capture_output=True, text=True, timeout=50 * SECOND + SECONDS_TO_FIND, check=False,
    )  # fmt: skip


def test_each_target_has_its_seeds_and_its_defect() -> None:
    assert TARGETS.keys() == SEEDS.keys() == DEFECTS.keys()


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_nothing_is_found_in_a_short_run(target: str, tmp_path: Path) -> None:
    done = fuzz(tmp_path, target, "--seconds", str(SECONDS))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "stat::number_of_executed_units" in done.stderr


@pytest.mark.parametrize("target", sorted(DEFECTS))
def test_a_defect_is_found(target: str, tmp_path: Path) -> None:
    done = fuzz(tmp_path, target, "--seconds", str(SECONDS_TO_FIND), "--defect")
    assert done.returncode != 0, "the defect was not found"
    assert "Uncaught Python exception" in done.stdout + done.stderr, done.stderr[-3000:]
