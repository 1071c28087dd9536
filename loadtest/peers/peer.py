"""What is the same for all servers: what an adapter must say, and the life of the process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from loadtest.feeds import Feed, WebSocketFeed
from loadtest.limits import on_core
from loadtest.opening import ADDRESS
from loadtest.wire import PlainWire, Wire

SCRIPTS = Path(__file__).parent
ROOT = SCRIPTS.parents[1]
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 15.0


class Missing(Exception):
    """The server cannot be had on this machine; the reason is the message."""


class NotStarted(Exception):
    """The process ended or did not get ready; the message ends with its last words."""


class Peer(ABC):
    """install (once) → prepare (once) → (start → stop)* → release. One process at a time.

    `settings` tells how it is tuned. `ping_every_s`: how often it pings an idle client, 0 if it does not. `history`:
    how many publications of a channel the next start keeps, where it keeps any.
    """

    key: ClassVar[str]
    label: ClassVar[str]
    settings: ClassVar[str] = ""
    ping_every_s: ClassVar[float] = 0.0
    wire: Wire = PlainWire()

    def __init__(self, cache: Path) -> None:
        self.cache = cache / self.key
        self.history = 10
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._output: Path | None = None

    @abstractmethod
    def install(self) -> dict[str, str]:
        """Bring it into the cache, unless it is there; answers name → version. Raises Missing."""

    @abstractmethod
    def command(self, folder: Path) -> Sequence[str]:
        """What to run, for the port `self.port`; the folder is empty and only for this start."""

    def environment(self) -> Mapping[str, str]:
        """What is added to the environment."""
        return {}

    def feed(self) -> Feed:
        """How to publish to the server that runs."""
        return WebSocketFeed(self.port)

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """What it needs beside it, for all its starts. Raises NotStarted."""

    def release(self) -> None:  # noqa: B027 - most need nothing
        """End what `prepare` started."""

    def ready(self) -> bool:
        """Whether the running server takes clients. May raise OSError for "not yet"."""
        with socket.create_connection((ADDRESS, self.port), timeout=1.0):
            return True

    def start(self, folder: Path, core: int) -> int:
        """Its process id, when it is ready. Raises NotStarted."""
        self.port = free_port()
        self._output = folder / "output.log"
        with self._output.open("wb") as output, on_core(core):
            self._process = subprocess.Popen(
                self.command(folder),
                env={**os.environ, **self.environment()},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        ends = time.monotonic() + START_DEADLINE_S
        while True:
            with contextlib.suppress(OSError):
                if self.ready():
                    return self._process.pid
            if self._process.poll() is not None or time.monotonic() > ends:
                self.stop()
                raise NotStarted(f"{self.label} did not get ready:\n{self.last_words()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """The orderly end; past the deadline the hard one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def last_words(self) -> str:
        """The end of what it printed."""
        return self._output.read_text(errors="replace")[-2000:] if self._output and self._output.exists() else ""


def free_port() -> int:
    """A port nobody listens on now, outside the range from which clients' ports are taken."""
    for port in range(20_000 + os.getpid() % 5000, 32_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((ADDRESS, port))
            return port
    raise NotStarted("no free port between 20,000 and 32,000")
