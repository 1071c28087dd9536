"""What programs say about themselves."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

DEADLINE_S = 20
LONGEST_WORDS = 300


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


def without_addresses(words: str) -> str:
    """The end of what a tool said, in one line, for a report that others read: without the hosts it asked."""
    return re.sub(r"https?://\S+", "(an address)", " ".join(words.split()))[-LONGEST_WORDS:]
