"""A private RabbitMQ of the Debian package: own node name, ports, epmd, folder and cookie."""

import contextlib
import os
import re
import secrets
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .deadline import SECOND, wait_until
from .network import Network
from .plugins import LISTENERS
from .ports import LOCALHOST, free_port
from .process import Process
from .server import Server

# The scripts in /usr/sbin are wrappers that insist on the user rabbitmq and on /var/lib/rabbitmq; these do not.
SCRIPTS = Path("/usr/lib/rabbitmq/bin")

# Alarms stop all publishers. Ours shall not go off because the machine is small or its disk nearly full.
SETTINGS = {
    "vm_memory_high_watermark.absolute": "2GiB",
    "disk_free_limit.absolute": "1MB",
    "log.file.level": "info",
}
# Its schedulers would go on looking for work for a while before they sleep; what runs beside them needs the core more.
NO_BUSY_WAITING = "+sbwt none +sbwtdcpu none +sbwtdio none"
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
CONNECTION_START = b"\x00\x0a\x00\x0a"  # AMQP 0.9.1, class 10, method 10; after the frame's 7 bytes of header


class RabbitMQ(Server):
    """Guest may log in with all rights. A restart after `stop` or `kill` finds the data of before.

    Ready means: it speaks AMQP. Its streams follow within half a second, when each has a leader again; until then
    declaring or consuming one is answered with NOT_FOUND, "home node ... is down or inaccessible" (3.10.8).

    `plugins` are enabled from the start; those in `plugins.LISTENERS` get a free port each, see `port_of`.
    `settings` are further lines of rabbitmq.conf. One that was made `beside` another can be made one cluster with it.
    In a `network` it runs inside of that one, and is reached at its address.
    """

    programs = (str(SCRIPTS / "rabbitmq-server"), "erl", "epmd")
    package = "rabbitmq-server"

    def __init__(
        self,
        *,
        plugins: Iterable[str] = (),
        settings: Mapping[str, str] | None = None,
        beside: "RabbitMQ | None" = None,
        network: Network | None = None,
    ) -> None:
        super().__init__()
        self._network = network
        if network is not None:
            self.host = network.there
        self.node = f"notifier-{secrets.token_hex(4)}@localhost"
        self._plugins = tuple(plugins)
        self._plugin_ports = {name: free_port() for name in self._plugins if name in LISTENERS}
        self._epmd: Process | None = None
        self._beside = beside
        self._cookie: str = beside._cookie if beside else secrets.token_hex(16)
        self._env = self._environment()
        self._write_files(settings or {})

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int, user: str = "guest", password: str = "guest") -> str:
        """The same broker through a proxy's port, or as somebody else."""
        return f"amqp://{user}:{password}@{self.host}:{port}/"

    def port_of(self, plugin: str) -> int:
        """Where an enabled plugin listens."""
        return self._plugin_ports[plugin]

    def ctl(self, *args: str, deadline_s: float = 60 * SECOND) -> str:
        """What ``rabbitmqctl`` says to these words. Takes about a second; raises when it fails."""
        command = self._placed([str(SCRIPTS / "rabbitmqctl"), "--quiet", "--node", self.node, *args])
        done = subprocess.run(
            command,
            env=self._env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout

    def kill(self) -> None:
        """The end without warning. Waits first for what 3.10.8 loses for good in its first second with streams."""
        if self.running:
            with contextlib.suppress(AssertionError):  # a frozen broker writes nothing
                wait_until(self._streams_are_registered, 2 * SECOND)
        super().kill()

    def close(self) -> None:
        """End everything, the name daemon too, and remove the data."""
        super().kill()
        if self._epmd:
            self._epmd.kill()
        super().close()

    def _spawn(self) -> Process:
        # Erlang would start a missing epmd as a daemon that outlives everybody; a child of ours can be ended.
        if self._epmd is None and self._beside is None:
            port = self._env["ERL_EPMD_PORT"]
            argv = ["epmd", "-port", port, "-address", LOCALHOST]
            self._epmd = Process(self._placed(argv), self._env, self.folder, self.folder / "epmd.log")
        return Process(self._placed([str(SCRIPTS / "rabbitmq-server")]), self._env, self.folder, self.log)

    def _placed(self, argv: Sequence[str]) -> list[str]:
        return list(argv) if self._network is None else self._network.inside(argv)

    def _greets(self, connection: socket.socket) -> bool:
        """The listeners open last of all, when queues are recovered and plugins started."""
        connection.sendall(PROTOCOL_HEADER)
        return connection.recv(64)[7:11] == CONNECTION_START

    def _streams_are_registered(self) -> bool:
        """Whether the coordinator of streams, where one has begun, stands in the file that names it.

        The very first stream of a broker begins it. Ra saves the file half a second later; killed before that, the
        broker never starts the coordinator again, and no stream of before gets a leader ever after (seen).
        """
        for server in self.folder.glob("data/*/coordination/*/RABBIT*"):
            if b"rabbit_stream_coordinator" not in (server.parent / "names.dets").read_bytes():
                return False
        return True

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        own = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        loopback_only = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
        ctl_port = str(free_port())
        env = own | {
            "HOME": str(folder),  # of the cookie
            "ERL_EPMD_PORT": self._beside._env["ERL_EPMD_PORT"] if self._beside else str(free_port()),
            "ERL_EPMD_ADDRESS": LOCALHOST,
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CTL_DIST_PORT_MIN": ctl_port,
            "RABBITMQ_CTL_DIST_PORT_MAX": ctl_port,
            "RABBITMQ_CTL_ERL_ARGS": loopback_only,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{loopback_only} {NO_BUSY_WAITING}",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
        }
        if not self._plugins and (core := self._core_only()):
            env["RABBITMQ_PLUGINS_DIR"] = str(core)
        return env

    def _core_only(self) -> Path | None:
        """A plugins folder without plugins, for a start in 5 instead of 6 seconds.

        RabbitMQ loads each module of every plugin it *could* enable to ask for its feature flags. Its own
        dependencies live in the same folder and must stay.
        """
        homes = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/plugins"))
        if not homes:
            return None
        core = self.folder / "plugins"
        core.mkdir()
        for entry in homes[-1].iterdir():
            if entry.name.startswith("rabbitmq_prelaunch") or not re.match("rabbitmq_|README", entry.name):
                (core / entry.name).symlink_to(entry)
        return core

    def _write_files(self, settings: Mapping[str, str]) -> None:
        lines = {"listeners.tcp.1": f"{self.host}:{self.port}", **SETTINGS}
        if self.host != LOCALHOST:
            lines["loopback_users.guest"] = "false"
        for plugin, port in self._plugin_ports.items():
            lines |= LISTENERS[plugin](self.host, port)
        lines |= settings
        text = "".join(f"{key} = {value}\n" for key, value in lines.items())
        (self.folder / "rabbitmq.conf").write_text(text)
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        (self.folder / "rabbitmq-env.conf").touch()  # instead of the machine's
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)  # Erlang refuses one that others can read
