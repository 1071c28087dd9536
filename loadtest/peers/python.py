"""Servers in Python: pip brings the packages into a virtual environment in the cache, a script beside this file uses
them."""

from __future__ import annotations

import json
import subprocess
import sys
from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from loadtest.feeds import Feed
from loadtest.peers.node import INSTALL_DEADLINE_S, SocketIoFeed, SocketIoWire
from loadtest.peers.peer import Missing, Peer
from loadtest.peers.versions import without_addresses
from loadtest.wire import Wire

# What is installed, by name; asked in the environment itself.
VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
UVICORN = "uvicorn with uvloop, no compression, no pings, no access log"


class PythonPeer(Peer, ABC):
    """`packages`: name → exact version; the first one is the server itself. `module` runs with the port as argument."""

    packages: ClassVar[Mapping[str, str]]
    module: ClassVar[str]

    def install(self) -> dict[str, str]:
        if self._installed() != self.packages:
            self._fetch()
        return {**self._installed(), "python": sys.version.split()[0]}

    def command(self, folder: Path) -> Sequence[str]:  # noqa: ARG002 - needs no folder
        return [str(self._python), "-m", f"loadtest.peers.{self.module}", str(self.port)]

    @property
    def _python(self) -> Path:
        return self.cache / "bin" / "python"

    def _installed(self) -> dict[str, str]:
        command = [str(self._python), "-c", VERSIONS, *self.packages]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            return {}
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def _fetch(self) -> None:
        wanted = [f"{name}=={version}" for name, version in self.packages.items()]
        make = [sys.executable, "-m", "venv", "--clear", str(self.cache)]
        pip = [str(self._python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *wanted]
        for command in (make, pip):
            try:
                subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S, check=True)
            except subprocess.TimeoutExpired:
                raise Missing(f"{command[2]} took longer than {INSTALL_DEADLINE_S} s") from None
            except subprocess.CalledProcessError as error:
                raise Missing(f"{' '.join(wanted)}: {without_addresses(error.stderr or error.stdout)}") from error


class Websockets(PythonPeer):
    """The usual WebSocket library of Python, with its own `broadcast`."""

    key = "websockets"
    label = "websockets, broadcast()"
    settings = "uvloop, no compression, no pings"
    packages: ClassVar[Mapping[str, str]] = {"websockets": "17.4", "uvloop": "0.23.0"}
    module = "websockets_server"


class Starlette(PythonPeer):
    """A WebSocket endpoint as its documentation writes it; `await send_text` for each client."""

    key = "starlette"
    label = "Starlette"
    settings = UVICORN
    packages: ClassVar[Mapping[str, str]] = {
        "starlette": "1.10.0", "uvicorn": "0.54.0", "uvloop": "0.23.0", "httptools": "0.9.0", "websockets": "17.4",
    }  # fmt: skip
    module = "starlette_server"


class PythonSocketIo(PythonPeer):
    """Rooms of the Socket.IO server for Python, over WebSocket only."""

    key = "python-socketio"
    label = "python-socketio"
    settings = UVICORN
    packages: ClassVar[Mapping[str, str]] = {
        "python-socketio": "5.18.1", "uvicorn": "0.54.0", "uvloop": "0.23.0", "httptools": "0.9.0",
        "websockets": "17.4",
    }  # fmt: skip
    module = "socketio_server"
    ping_every_s = 25.0
    wire: Wire = SocketIoWire()

    def feed(self) -> Feed:
        return SocketIoFeed(self.port)


class DjangoChannels(PythonPeer):
    """Groups of Django's Channels. Their layer is in memory: the one over Redis, for several processes, costs more."""

    key = "channels"
    label = "Django Channels"
    settings = UVICORN + ", layer in memory with room for 10,000 messages"
    packages: ClassVar[Mapping[str, str]] = {
        "channels": "4.3.2", "django": "5.2.19", "uvicorn": "0.54.0", "uvloop": "0.23.0", "httptools": "0.9.0",
        "websockets": "17.4",
    }  # fmt: skip
    module = "channels_server"
