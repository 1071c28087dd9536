"""nginx, HAProxy and Caddy with the configurations in deploy/proxies, before two nodes on this machine.

Each listens with TLS, as it is configured, and once more without, for clients that are to end as a lost connection
does: with TLS asyncio waits for the other side's goodbye.
"""

from __future__ import annotations

import os
import socket
import ssl
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from tests.deploy.conftest import DEPLOY, run
from tests.services.certificates import Authority
from tests.services.ports import LOCALHOST, free_port
from tests.services.process import Process
from tests.services.server import Server


class Proxy(Server):
    """A proxy before the nodes on these ports. `tls_port` is 0 where there is no TLS to be had."""

    def __init__(self, nodes: Sequence[int]) -> None:
        super().__init__()
        self.nodes = [f"{LOCALHOST}:{port}" for port in nodes]
        self.environ = dict(os.environ)
        self.tls_port = free_port()
        authority = Authority(self.folder)
        authority.issue(self.folder / "chain.pem", self.folder / "key.pem")
        self.trust = ssl.create_default_context(cafile=authority.file)

    @property
    def name(self) -> str:
        return self.package

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    @abstractmethod
    def check(self) -> str:
        """What its checker says. Fails the test when there is something wrong."""

    def _greets(self, connection: socket.socket) -> bool:
        return True


class Nginx(Proxy):
    programs = ("/usr/sbin/nginx",)
    package = "nginx"

    def __init__(self, nodes: Sequence[int]) -> None:
        super().__init__(nodes)
        text = (DEPLOY / "proxies" / "nginx.conf").read_text()
        folders = "".join(
            f"{name}_temp_path {self.folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        for old, new in (
            ("server node1:8000", f"server {self.nodes[0]}"),
            ("server node2:8000", f"server {self.nodes[1]}"),
            ("listen 443", f"listen {LOCALHOST}:{self.port}; listen {LOCALHOST}:{self.tls_port}"),
            ("listen 80;", f"listen {LOCALHOST}:{free_port()};"),
            ("fail_timeout=5s", "fail_timeout=1s"),  # the tests end nodes more often
            ("/etc/nginx/tls", str(self.folder)),
            ("/var/log/nginx", str(self.folder)),
            ("http {", f"http {{ {folders}"),
        ):
            assert text.count(old) >= 1, old
            text = text.replace(old, new)
        self._file = self.folder / "nginx.conf"
        self._file.write_text(text)
        self._argv = ["/usr/sbin/nginx", "-c", str(self._file), "-p", str(self.folder), "-e", str(self.log)]
        self._own = f"pid {self.folder / 'nginx.pid'};"

    def check(self) -> str:
        return run(*self._argv, "-g", self._own, "-t")

    def _spawn(self) -> Process:
        self.folder.chmod(0o755)  # its workers are somebody else
        return Process([*self._argv, "-g", f"{self._own} daemon off;"], self.environ, self.folder, self.log)


class Haproxy(Proxy):
    programs = ("/usr/sbin/haproxy",)
    package = "haproxy"

    def __init__(self, nodes: Sequence[int]) -> None:
        super().__init__(nodes)
        both = self.folder / "notifier.pem"
        both.write_bytes((self.folder / "chain.pem").read_bytes() + (self.folder / "key.pem").read_bytes())
        self.environ |= {
            "NOTIFIER_BIND": f"{LOCALHOST}:{self.tls_port}",
            "NOTIFIER_CERTIFICATE": str(both),
            "NOTIFIER_NODE1": self.nodes[0],
            "NOTIFIER_NODE2": self.nodes[1],
        }
        shipped = DEPLOY / "proxies" / "haproxy.cfg"
        self._file = self.folder / "haproxy.cfg"
        self._file.write_text(
            shipped.read_text().replace("frontend clients\n", f"frontend clients\n    bind {LOCALHOST}:{self.port}\n")
        )
        self._shipped = ["haproxy", "-f", str(shipped)]

    def check(self) -> str:
        return run(*self._shipped, "-c", env=self.environ)

    def _spawn(self) -> Process:
        return Process(["/usr/sbin/haproxy", "-f", str(self._file), "-db"], self.environ, self.folder, self.log)


class Caddy(Proxy):
    """Without TLS: for a site of that name it would ask an authority on the internet."""

    programs = ("caddy",)
    package = "caddy"

    def __init__(self, nodes: Sequence[int]) -> None:
        super().__init__(nodes)
        self.tls_port = 0
        self.environ |= {
            "CADDY_ADMIN": f"{LOCALHOST}:{free_port()}",
            "NOTIFIER_SITE": self.url,
            "NOTIFIER_NODES": " ".join(self.nodes),
            **{name: str(self.folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")},
        }
        self._words = ["--config", str(DEPLOY / "proxies" / "Caddyfile"), "--adapter", "caddyfile"]

    def check(self) -> str:
        """As it is shipped, and as it is run here."""
        untouched = {**self.environ}
        for name in ("NOTIFIER_SITE", "NOTIFIER_NODES"):
            del untouched[name]
        return run("caddy", "validate", *self._words, env=untouched) + run(
            "caddy", "validate", *self._words, env=self.environ
        )

    def _spawn(self) -> Process:
        return Process(["caddy", "run", *self._words], self.environ, self.folder, self.log)


ALL: tuple[type[Proxy], ...] = (Nginx, Haproxy, Caddy)
CONFIGURATIONS = {kind.package: DEPLOY / "proxies" / name for kind, name in zip(
    ALL, ("nginx.conf", "haproxy.cfg", "Caddyfile"), strict=True
)}  # fmt: skip


def text_of(name: str) -> str:
    """A configuration without its comments."""
    lines = Path(CONFIGURATIONS[name]).read_text().splitlines()
    return "\n".join(line.split("#")[0].rstrip() for line in lines)
