"""Servers in Go: built once into the cache, by name, through the toolchain and its module proxy."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import jwt

from loadtest.feeds import Feed, HttpFeed
from loadtest.opening import ADDRESS
from loadtest.peers.peer import SCRIPTS, Missing, Peer
from loadtest.peers.product_wire import ProductWire
from loadtest.peers.versions import said, without_addresses
from loadtest.wire import EventsWire, Wire

BUILD_DEADLINE_S = 900
SECRET = "only-for-the-load-test-on-loopback-0123456789"
API_KEY = "load-test"


class GoPeer(Peer, ABC):
    """`program` is what is built in the cache's folder, from `module`."""

    module: ClassVar[str]
    program: ClassVar[str]

    def install(self) -> dict[str, str]:
        go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
        if go is None:
            raise Missing("go is not installed")
        if not self._binary.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            self.build(go)
        return self._versions(said([go, "version", "-m", str(self._binary)]))

    def _versions(self, told: str) -> dict[str, str]:
        """Out of `go version -m`: `PROGRAM: GO`, then lines such as `mod NAME VERSION SUM`."""
        lines = [line.split() for line in told.splitlines()]
        modules = {words[1]: words[2] for words in lines[1:] if len(words) > 2 and words[0] in ("mod", "dep")}
        return {self.program: modules.get(self.module, "unknown"), "go": lines[0][-1] if lines else "unknown"}

    @abstractmethod
    def build(self, go: str) -> None:
        """Make the program. Raises Missing."""

    def environment(self) -> Mapping[str, str]:
        return {"GOMAXPROCS": "1"}

    def run(self, command: Sequence[str], folder: Path | None = None) -> None:
        """A step of building. Raises Missing with the tool's words."""
        env = {"GOBIN": str(self.cache), "GOFLAGS": "-buildvcs=false"}
        try:
            done = subprocess.run(
                ["env", *(f"{name}={value}" for name, value in env.items()), *command],
                cwd=folder, capture_output=True, text=True, timeout=BUILD_DEADLINE_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Missing(f"go {' '.join(command[1:3])} took longer than {BUILD_DEADLINE_S} s") from None
        if done.returncode:
            raise Missing(f"go {' '.join(command[1:])}: {without_addresses(done.stderr)}")

    @property
    def _binary(self) -> Path:
        return self.cache / self.program


class Centrifugo(GoPeer):
    """The reference server of the protocol that ours speaks, with its own engine in memory. Published to over HTTP."""

    key = "centrifugo"
    label = "Centrifugo"
    settings = "HS256 tokens, 10 publications of history for 1 min in memory, log level error, GOMAXPROCS=1"
    ping_every_s = 25.0
    module = "github.com/centrifugal/centrifugo/v6"
    program = "centrifugo"
    wire: Wire = ProductWire(SECRET)

    def build(self, go: str) -> None:
        self.run([go, "install", f"{self.module}@latest"])

    def command(self, folder: Path) -> Sequence[str]:
        rule = {
            "allow_subscribe_for_client": True,
            "force_recovery": True,
            "history_size": self.history,
            "history_ttl": "60s",
        }
        config = {
            "http_server": {"address": ADDRESS, "port": self.port},
            "client": {"token": {"hmac_secret_key": SECRET}, "allowed_origins": ["*"]},
            "channel": {"without_namespace": rule},
            "http_api": {"key": API_KEY},
            "health": {"enabled": True},
            "log": {"level": "error"},
        }
        path = folder / "config.json"
        path.write_text(json.dumps(config))
        return [str(self._binary), "--config", str(path)]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{ADDRESS}:{self.port}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False

    def feed(self) -> Feed:
        return HttpFeed(self.port, "/api/publish", '{"channel":"%s","data":%s}', f"X-API-Key: {API_KEY}\r\n")


class MercureWire(EventsWire):
    """Anybody may subscribe."""

    chunked = True

    def path(self, channels: Sequence[str]) -> str:
        return "/.well-known/mercure?" + "&".join(f"topic={channel}" for channel in channels)


class Mercure(GoPeer):
    """Its hub as a library, in `mercure.go` beside this file: the server around it is built from a module whose own
    `replace` lines keep `go install` away. Server-sent events only; published to over HTTP."""

    key = "mercure"
    label = "Mercure, SSE"
    settings = "local transport, anonymous subscribers, no write timeout, no log, GOMAXPROCS=1"
    module = "github.com/dunglas/mercure"
    program = "mercure"
    wire: Wire = MercureWire()

    def build(self, go: str) -> None:
        source = self.cache / "source"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        shutil.copy(SCRIPTS / "mercure.go", source / "main.go")
        self.run([go, "mod", "init", "hub"], source)
        self.run([go, "get", f"{self.module}@v0.16.3"], source)
        self.run([go, "mod", "tidy"], source)
        self.run([go, "build", "-o", str(self._binary), "."], source)

    def command(self, folder: Path) -> Sequence[str]:  # noqa: ARG002 - needs no folder
        return [str(self._binary), str(self.port), SECRET]

    def feed(self) -> Feed:
        token = jwt.encode({"mercure": {"publish": ["*"]}}, SECRET, algorithm="HS256")
        headers = f"Authorization: Bearer {token}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        return HttpFeed(self.port, "/.well-known/mercure", "topic=%s&data=%s", headers)
