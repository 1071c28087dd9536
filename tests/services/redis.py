"""A private Redis."""

import os
import socket

from .ports import LOCALHOST
from .process import Process
from .server import Server


class Redis(Server):
    """Keeps nothing over a kill or a stop, unless `appendonly`: then everything (an fsync at each write)."""

    programs = ("redis-server",)
    package = "redis-server"

    def __init__(self, *, appendonly: bool = False, settings: dict[str, str] | None = None) -> None:
        super().__init__()
        self._settings = {
            "port": str(self.port),
            "bind": LOCALHOST,
            "dir": str(self.folder),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "always",
            "enable-debug-command": "local",  # DEBUG SLEEP, DEBUG JMAP and the like, for tests of faults
            **(settings or {}),
        }

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The same server through a proxy's port."""
        return f"redis://{LOCALHOST}:{port}/0"

    def _spawn(self) -> Process:
        options = [word for key, value in self._settings.items() for word in (f"--{key}", value)]
        return Process(["redis-server", *options], dict(os.environ), self.folder, self.log)

    def _greets(self, connection: socket.socket) -> bool:
        connection.sendall(b"PING\r\n")
        return connection.recv(64).startswith(b"+PONG")  # -LOADING while it reads its file
