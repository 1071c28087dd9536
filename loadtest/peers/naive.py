"""What one writes first in Python: aiohttp, and `await ws.send_str()` for one client after the other."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.peers.peer import Peer


class Naive(Peer):
    """`naive_server.py`, beside this file."""

    key = "naive"
    label = "aiohttp, await each"
    settings = "uvloop, no compression, no access log"

    def install(self) -> dict[str, str]:
        return {name: importlib.metadata.version(name) for name in ("aiohttp", "uvloop")}

    def command(self, folder: Path) -> Sequence[str]:  # noqa: ARG002 - needs no folder
        return [sys.executable, "-m", "loadtest.peers.naive_server", str(self.port)]
