"""The floor: a bare loop in C that only sends. What a server costs above it is the server's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from loadtest.feeds import Feed, FloorFeed
from loadtest.peers.peer import SCRIPTS, Missing, Peer
from loadtest.peers.versions import said
from loadtest.wire import PlainWire, Step


class FloorWire(PlainWire):
    """No HTTP: one line, one answer, then ready-made frames."""

    def steps(self, index: int, channel: str) -> list[Step]:  # noqa: ARG002 - channels are known by their numbers
        return [Step(f"SUB {index}\n".encode(), b"OK\n", framed=False)]


class Floor(Peer):
    """Compiled when it is needed."""

    key = "floor"
    label = "floor (bare C send)"
    wire = FloorWire()

    def install(self) -> dict[str, str]:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise Missing("no C compiler (cc, gcc)")
        self.cache.mkdir(parents=True, exist_ok=True)
        command = [compiler, "-O2", "-Wall", "-o", str(self._program), str(SCRIPTS / "floor.c")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise Missing(f"{compiler} failed: {done.stderr[-500:]}")
        return {"cc": (said([compiler, "--version"]) or "unknown").splitlines()[0]}

    def command(self, folder: Path) -> Sequence[str]:  # noqa: ARG002 - needs no folder
        return [str(self._program), str(self.port)]

    def feed(self) -> Feed:
        return FloorFeed(self.port)

    @property
    def _program(self) -> Path:
        return self.cache / "floor"
