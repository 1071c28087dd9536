"""Small C programs, compiled when they are needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from loadtest.peers.peer import SCRIPTS, Missing
from loadtest.peers.versions import said


def compile_c(source: str, target: Path, *options: str) -> str:
    """Compile one of our sources; the answer is the compiler's version. Raises Missing."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing("no C compiler (cc, gcc)")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-Wall", *options, "-o", str(target), str(SCRIPTS / source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Missing(f"{compiler} failed: {done.stderr[-500:]}")
    return (said([compiler, "--version"]) or "unknown").splitlines()[0]
