"""Servers in JavaScript: npm brings the package into the cache, a script beside this file uses it."""

from __future__ import annotations

import json
import shutil
import subprocess
from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from loadtest.feeds import Feed, WebSocketFeed
from loadtest.frames import client_frame
from loadtest.peers.peer import SCRIPTS, Missing, Peer
from loadtest.peers.versions import said, without_addresses
from loadtest.wire import Step, Wire, upgrade

INSTALL_DEADLINE_S = 300


class NodePeer(Peer, ABC):
    """`packages`: name → exact version; the first one is the server itself."""

    packages: ClassVar[Mapping[str, str]]
    script: ClassVar[str]

    def install(self) -> dict[str, str]:
        node, npm = shutil.which("node"), shutil.which("npm")
        if not node or not npm:
            raise Missing("node and npm are not installed")
        if any(self._installed(name) != version for name, version in self.packages.items()):
            self._fetch(npm)
        found = {name: self._installed(name) or "?" for name in self.packages}
        return {"node": said([node, "--version"]), **found}

    def command(self, folder: Path) -> Sequence[str]:  # noqa: ARG002 - needs no folder
        return ["node", str(SCRIPTS / self.script), str(self.port)]

    def environment(self) -> Mapping[str, str]:
        return {"NODE_PATH": str(self._modules), "NODE_ENV": "production"}

    @property
    def _modules(self) -> Path:
        return self.cache / "node_modules"

    def _installed(self, name: str) -> str | None:
        try:
            version = json.loads((self._modules / name / "package.json").read_text())["version"]
        except (OSError, ValueError, KeyError):
            return None
        return str(version)

    def _fetch(self, npm: str) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        wanted = [f"{name}@{version}" for name, version in self.packages.items()]
        command = [npm, "install", "--prefix", str(self.cache), "--no-audit", "--no-fund", "--save-exact", *wanted]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S, check=False)
        except subprocess.TimeoutExpired:
            raise Missing(f"npm install took longer than {INSTALL_DEADLINE_S} s") from None
        if done.returncode:
            raise Missing(f"npm install {' '.join(wanted)}: {without_addresses(done.stderr)}")


class MicroWebSockets(NodePeer):
    """C++ behind a thin layer of JavaScript; `app.publish` to a topic."""

    key = "uws"
    settings = "no compression, no pings"
    label = "µWebSockets"
    packages: ClassVar[Mapping[str, str]] = {"@trufflesuite/uws-js-unofficial": "20.30.0-unofficial.0"}
    script = "uws.js"


class Ws(NodePeer):
    """The usual WebSocket library of Node; `send` to each client, as its own broadcast example does."""

    key = "ws"
    settings = "no compression, no UTF-8 check, no client tracking"
    label = "ws (Node)"
    packages: ClassVar[Mapping[str, str]] = {"ws": "8.23.0"}
    script = "ws.js"


class SocketIoWire(Wire):
    """Engine.IO 4 and Socket.IO 5 packets in WebSocket frames, without HTTP polling before."""

    ping = b"2"
    pong = client_frame(b"3")
    _prefix = b'42["m",'

    def steps(self, index: int, *channels: str) -> list[Step]:  # noqa: ARG002 - all connections are alike
        return [
            upgrade("/socket.io/?EIO=4&transport=websocket"),
            Step(b"", b'0{"sid"'),
            Step(client_frame(b"40"), b'40{"sid"'),
            *(self._asked("subscribe", channel) for channel in channels),
        ]

    def switch(self, turn: int, before: str, after: str) -> list[Step]:  # noqa: ARG002 - the server answers in order
        return [self._asked("unsubscribe", before), self._asked("subscribe", after)]

    @staticmethod
    def _asked(event: str, channel: str) -> Step:
        return Step(client_frame(f'420["{event}","{channel}"]'.encode()), b"430[")

    def body(self, message: bytes) -> bytes:
        if not message.startswith(self._prefix) or not message.endswith(b"]"):
            raise ValueError(f"not an event with a publication: {message[:80]!r}…")
        return message[len(self._prefix) : -1]


class SocketIoFeed(WebSocketFeed):
    """A client that emits `publish`."""

    def opening(self) -> list[Step]:
        return SocketIoWire().steps(0)

    def send(self, channel: str, body: bytes) -> None:
        self._writer.write(client_frame(b'42["publish","%s",%s]' % (channel.encode(), body)))


class SocketIo(NodePeer):
    """Rooms of the usual real-time server of Node, over WebSocket only."""

    key = "socketio"
    settings = "WebSocket only, no compression, first HTTP request let go, NODE_ENV=production"
    ping_every_s = 25.0
    label = "Socket.IO"
    packages: ClassVar[Mapping[str, str]] = {"socket.io": "4.8.4"}
    script = "socketio.js"
    wire = SocketIoWire()

    def feed(self) -> Feed:
        return SocketIoFeed(self.port)
