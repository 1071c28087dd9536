"""What programs say about themselves."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

DEADLINE_S = 20


def said(command: Sequence[str], folder: Path | None = None) -> str:
    """What a short command prints; nothing if there is no such program, or it takes too long."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip()


def of_package(name: str) -> str:
    """The version of a Debian package."""
    found = said(["dpkg-query", "-W", "-f", "${Version}", name])
    return "unknown" if not found or "no packages found" in found else found
