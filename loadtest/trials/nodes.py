"""Nodes of this repository's server on one private RabbitMQ, to be asked, restarted and watched."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from loadtest import procfs
from loadtest.feeds import AmqpFeed, Feed
from loadtest.limits import on_core
from loadtest.opening import ADDRESS
from loadtest.peers.broker import BROKER, stream_url
from loadtest.peers.peer import ROOT, NotStarted, free_port
from tests.services.rabbitmq import RabbitMQ

SECRET = "only-for-the-load-test-on-loopback-0123456789"
EXCHANGE = "notifications"
READY_S = 60.0
END_S = 40.0

CONFIG = """
[server]
host = "{host}"
port = {port}
{server}

[log]
kind = "rabbitmq"

[rabbitmq]
url = "{url}"
stream_url = "{stream_url}"
exchange = "{exchange}"
stream = "{stream}"
rejected = "{stream}.rejected"
control = "{stream}.control"
api = ""

[auth]
hmac_keys = ["{secret}"]

[clients]
{clients}

[limits]
{limits}

[logging]
level = "warning"

{channels}
[[channels]]
match = "#"
history = {{ size = 10000, ttl = "10m" }}
subscribe = ["anyone"]
"""


class Node:
    """start → (end → start)*. The port stays the same."""

    def __init__(self, folder: Path, text: Callable[[int], str], core: int) -> None:
        self.port = free_port()
        self.exit_codes: list[int] = []
        self._core = core
        self._config = folder / f"{self.port}.toml"
        self._config.write_text(text(self.port))
        self._output = folder / f"{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def said(self) -> str:
        """What it has printed, warnings and worse."""
        return self._output.read_text(errors="replace")

    @property
    def workers(self) -> list[int]:
        """The processes that serve clients: its children, or itself where it has none."""
        return procfs.tree(self.pid)[1:] or [self.pid]

    def start(self) -> None:
        """Returns when it is ready. Raises NotStarted."""
        argv = [sys.executable, "-m", "notifier", "serve", "--config", str(self._config)]
        with self._output.open("ab") as output, on_core(self._core):
            self._process = subprocess.Popen(
                argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        ends = time.monotonic() + READY_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > ends:
                raise NotStarted(f"a node did not get ready:\n{self._output.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def end(self) -> float:
        """SIGTERM, and how many seconds it took to end."""
        process, self._process = self._process, None
        if process is None:
            return 0.0
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
        if process.poll() is None:
            process.kill()
            process.wait()
        self.exit_codes.append(process.returncode)
        return time.monotonic() - began

    def metric(self, name: str) -> float:
        """The sum of a metric's samples whose name and labels begin so. Raises OSError."""
        _, text = self._get("/metrics")
        found = re.findall(rf"^{re.escape(name)}[^ ]* (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def _is_ready(self) -> bool:
        try:
            return self._get("/readyz")[0] == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


class Nodes:
    """All nodes, the broker behind them, and the way to publish to it."""

    def __init__(self, broker: RabbitMQ, nodes: Sequence[Node]) -> None:
        self.broker = broker
        self.nodes = nodes

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    def feed(self) -> Feed:
        return AmqpFeed(self.broker.url, EXCHANGE)


@contextlib.contextmanager
def running(
    count: int,
    core: int,
    *,
    server: Mapping[str, object] | None = None,
    clients: Mapping[str, object] | None = None,
    limits: Mapping[str, object] | None = None,
    channels: str = "",
) -> Iterator[Nodes]:
    """Started one after the other, ended together. `server`, `clients` and `limits` add keys to their configuration,
    `channels` rules that stand before the one for all others.

    Raises NotStarted.
    """
    if missing := RabbitMQ.missing():
        raise NotStarted(f"the Debian package {missing} is not installed")
    broker = BROKER.acquire()
    stream = f"trial.{os.getpid()}.{time.monotonic_ns()}"  # a log that nobody has written to

    def text(port: int) -> str:
        return CONFIG.format(
            host=ADDRESS, port=port, url=broker.url, stream_url=stream_url(broker), exchange=EXCHANGE, stream=stream,
            secret=SECRET, server=_keys(server), clients=_keys(clients), limits=_keys(limits), channels=channels,
        )  # fmt: skip

    made: list[Node] = []
    try:
        with tempfile.TemporaryDirectory(prefix="trial-") as folder:
            for _ in range(count):
                made.append(Node(Path(folder), text, core))
                made[-1].start()
            yield Nodes(broker, made)
            for node in made:
                node.end()
    finally:
        for node in made:
            node.end()
        BROKER.release()


def _keys(section: Mapping[str, object] | None) -> str:
    return "\n".join(f"{key} = {value!r}".replace("'", '"') for key, value in (section or {}).items())
