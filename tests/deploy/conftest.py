"""What the tests of deploy/ share: the folder, its tools, and two nodes that serve as a proxy's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import lacking
from tests.services.deadline import SECOND

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

Tool = Callable[..., str]


def find(command: str) -> str:
    """The path of a command. Skips without it, fails without it in CI."""
    beside = str(Path(sys.executable).parent)  # where the packages of the tests have theirs
    path = shutil.which(command) or shutil.which(command, path=f"{beside}:/usr/sbin:/sbin")
    if path is None:
        lacking(f"the command {command} is missing; `make test` installs it")
    return path


def run(*argv: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: bytes = b"") -> str:
    """What a checker says, on both its outputs. Fails with it when the checker finds something."""
    words = [find(str(argv[0])), *map(str, argv[1:])]
    done = subprocess.run(
        words, cwd=cwd, env=env, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90 * SECOND
    )
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{text}")
    return text
