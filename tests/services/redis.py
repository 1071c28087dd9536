"""A private Redis: one server, one with a replica and a sentinel, or a cluster."""

import contextlib
import os
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Self

from .deadline import SECOND, wait_until
from .ports import LOCALHOST, free_port
from .process import Process
from .server import Server


class Redis(Server):
    """Keeps nothing over a kill or a stop, unless `appendonly`: then everything (an fsync at each write).

    With `tls` it speaks nothing else; the folder has `server.pem` and `server.key`, of whoever made them.
    """

    programs = ("redis-server",)
    package = "redis-server"

    def __init__(
        self, *, appendonly: bool = False, settings: dict[str, str] | None = None, tls: Path | None = None
    ) -> None:
        super().__init__()
        self._tls = tls
        self._settings = {
            "port": str(self.port),
            "bind": LOCALHOST,
            "dir": str(self.folder),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "always",
            "enable-debug-command": "local",  # DEBUG SLEEP, DEBUG JMAP and the like, for tests of faults
            **(_tls_settings(self.port, tls) if tls else {}),
            **(settings or {}),
        }

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The same server through a proxy's port."""
        return f"redis{'s' if self._tls else ''}://{LOCALHOST}:{port}/0"

    def cli(self, *words: str) -> str:
        """The answer to a command, as an operator would give it."""
        command = ["redis-cli", "-h", LOCALHOST, "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10 * SECOND).stdout.strip()

    def _spawn(self) -> Process:
        options = [word for key, value in self._settings.items() for word in (f"--{key}", value)]
        return Process(["redis-server", *options], dict(os.environ), self.folder, self.log)

    def _greets(self, connection: socket.socket) -> bool:
        if self._tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = context.wrap_socket(connection)
        with connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))  # -LOADING while it reads its file


class Sentinel(Redis):
    """Watches one master under the name `main`, and makes its replica the master within seconds."""

    def __init__(self, master: Redis, *, password: str = "") -> None:
        super().__init__()
        self._lines = [
            f"port {self.port}",
            f"bind {LOCALHOST}",
            f"dir {self.folder}",
            f"sentinel monitor main {LOCALHOST} {master.port} 1",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 5000",
            *([f"requirepass {password}"] if password else []),
        ]

    def _spawn(self) -> Process:
        file = self.folder / "sentinel.conf"
        if not file.exists():  # it writes what it learns into it
            file.write_text("\n".join(self._lines) + "\n")
        return Process(["redis-server", str(file), "--sentinel"], dict(os.environ), self.folder, self.log)


class Watched:
    """A master, a replica and a sentinel that knows both."""

    def __init__(self) -> None:
        self.first = Redis(settings={"repl-diskless-sync-delay": "0"})
        self.second = Redis(settings={"replicaof": f"{LOCALHOST} {self.first.port}", "repl-diskless-sync-delay": "0"})
        self.sentinel = Sentinel(self.first)
        self._all = [self.first, self.second, self.sentinel]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for server in self._all:
                stack.enter_context(server)
            wait_until(lambda: "master_link_status:up" in self.second.cli("info", "replication"), 30 * SECOND)
            wait_until(lambda: "num-slaves\n1" in self.sentinel.cli("sentinel", "master", "main"), 30 * SECOND)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return f"redis://{LOCALHOST}:{self.sentinel.port}/0"


class Cluster:
    """Three masters that share the slots; with `replicas` each has one that takes its place."""

    def __init__(self, *, replicas: bool = False) -> None:
        self.nodes = [self._node() for _ in range(6 if replicas else 3)]
        self._replicas = int(replicas)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self.nodes[0].cli(
                "--cluster", "create", *(f"{LOCALHOST}:{node.port}" for node in self.nodes),
                "--cluster-replicas", str(self._replicas), "--cluster-yes",
            )  # fmt: skip
            wait_until(lambda: all(map(_settled, self.nodes)), 30 * SECOND)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        return f"redis://{','.join(f'{LOCALHOST}:{node.port}' for node in self.nodes)}"

    def of_key(self, key: str) -> Redis:
        """The master that has the key."""
        slot = self.nodes[0].cli("cluster", "keyslot", key)
        for line in self.nodes[0].cli("cluster", "nodes").splitlines():
            words = line.split()
            if "master" in words[2] and any(_covers(span, int(slot)) for span in words[8:]):
                port = int(words[1].partition("@")[0].rpartition(":")[2])
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody has the slot {slot}")

    @staticmethod
    def _node() -> Redis:
        return Redis(
            settings={
                "cluster-enabled": "yes",
                "cluster-config-file": "nodes.conf",
                "cluster-node-timeout": "1500",
                "cluster-port": str(free_port()),
                "repl-diskless-sync-delay": "0",
            }
        )


def _settled(node: Redis) -> bool:
    """It sees the whole cluster, and a replica has all of its master's data: before that it cannot take its place."""
    replication = node.cli("info", "replication")
    in_step = "role:master" in replication or "master_link_status:up" in replication
    return in_step and "cluster_state:ok" in node.cli("cluster", "info")


def _covers(span: str, slot: int) -> bool:
    first, _, last = span.partition("-")
    return first.isdigit() and int(first) <= slot <= int(last or first)


def _tls_settings(port: int, folder: Path) -> dict[str, str]:
    return {
        "port": "0",
        "tls-port": str(port),
        "tls-cert-file": str(folder / "server.pem"),
        "tls-key-file": str(folder / "server.key"),
        "tls-ca-cert-file": str(folder / "ca.pem"),
        "tls-auth-clients": "optional",
    }
