"""The floor: a bare loop that only sends, in C and in Python. What a server costs above it is the server's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.feeds import Feed, FloorFeed
from loadtest.peers.compiling import compile_c
from loadtest.peers.peer import Peer
from loadtest.wire import PlainWire, Step


class FloorWire(PlainWire):
    """No HTTP: one line, one answer, then ready-made frames."""

    def steps(self, index: int, *channels: str) -> list[Step]:  # noqa: ARG002 - channels are known by their numbers
        return [Step(f"SUB {index}\n".encode(), b"OK\n", framed=False)]


class Floor(Peer):
    """Compiled when it is needed."""

    key = "floor"
    label = "floor (bare C send)"
    settings = "blocking sends, TCP_NODELAY, no HTTP, no WebSocket"
    wire = FloorWire()

    def install(self) -> dict[str, str]:
        return {"cc": compile_c("floor.c", self._program)}

    def command(self, folder: Path) -> Sequence[str]:  # noqa: ARG002 - needs no folder
        return [str(self._program), str(self.port)]

    def feed(self) -> Feed:
        return FloorFeed(self.port)

    @property
    def _program(self) -> Path:
        return self.cache / "floor"


class PythonFloor(Peer):
    """The same loop in Python; `python_floor_server.py`, beside this file."""

    key = "python-floor"
    label = "floor (bare Python send)"
    settings = Floor.settings
    wire = FloorWire()

    def install(self) -> dict[str, str]:
        return {"python": sys.version.split()[0]}

    def command(self, folder: Path) -> Sequence[str]:  # noqa: ARG002 - needs no folder
        return [sys.executable, "-m", "loadtest.peers.python_floor_server", str(self.port)]

    def feed(self) -> Feed:
        return FloorFeed(self.port)
