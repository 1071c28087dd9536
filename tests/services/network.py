"""A network of its own for a server: a namespace at the other end of a cable, and what can happen to the cable.

What is lost here is lost by the kernel: no connection is closed, nobody is told. It needs root and the Debian package
iproute2, of the kernel nothing but veth and tbf (a packet filter or netem many have not).
"""

from __future__ import annotations

import atexit
import contextlib
import ipaddress
import json
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from .deadline import SECOND, wait_until
from .ports import claim

# Private addresses, and those for measuring devices on networks of their own (RFC 2544), each cut into pairs.
RANGES = [ipaddress.IPv4Network("10.213.0.0/16"), ipaddress.IPv4Network("198.18.0.0/16")]
PAIRS = 2**14
PREFIX = "notifier-"  # with five digits behind it as long as the name of an interface may be
NAMESPACES = Path("/run/netns")
NOBODY = "02:00:00:00:00:01"  # a hardware address (one that is given by hand) that no interface has
TRIES = 100


class NoNetwork(RuntimeError):
    """This machine lets us make none; the text says why."""


class Network:
    """Use ``with``. `here` is our address, `there` that of the servers inside, which `inside` starts.

    Namespace, addresses and cable have one number, and one process on this machine at a time has that number's name,
    which the kernel frees when it ends: what is left over under a free name is of a run that was killed, and removed.
    """

    def __init__(self) -> None:
        self.name = ""
        self.here = self.there = ""
        self._claim: socket.socket | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Raises NoNetwork."""
        if shutil.which("ip") is None or shutil.which("tc") is None:
            raise NoNetwork("the Debian package iproute2 is not installed; `make test` installs it")
        if os.geteuid():
            raise NoNetwork("network namespaces can be made by root alone")
        _remove_leftovers()
        number, pair, self._claim = _free_pair()
        self.name = f"{PREFIX}{number}"
        self.here, self.there = map(str, pair.hosts())
        atexit.register(self.close)
        try:
            self._make(pair)
        except BaseException as error:
            self.close()
            if isinstance(error, _Refused):
                raise NoNetwork(f"no network namespace can be made here: {error}") from None
            raise

    def close(self) -> None:
        """End what still runs inside, and remove everything."""
        if self._claim is not None:
            _remove(self.name)
            self._claim.close()
            self._claim = None
        atexit.unregister(self.close)

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The same command, to be run inside. It becomes the process that it starts."""
        return ["ip", "netns", "exec", self.name, *argv]

    # --- what happens to the cable ----------------------------------------------------------------------------------

    def unplug(self) -> None:
        """Nothing goes either way any more: as with a cable that was pulled out at the other end."""
        self._ip_there("link", "set", self.name, "down")

    def deafen(self) -> None:
        """What comes from inside gets lost, what goes there arrives. Those inside do not notice that they send it
        to a hardware address which nobody has."""
        self._ip_there("neigh", "replace", self.here, "lladdr", NOBODY, "dev", self.name, "nud", "permanent")

    def narrow(self, rate: str = "256kbit", queue: str = "400ms") -> None:
        """What comes from inside has to pass so slowly; of what would wait longer, packets are lost. Raises NoNetwork
        where the kernel cannot do that."""
        words = ["root", "tbf", "rate", rate, "burst", "8kb", "latency", queue]
        try:
            _run("tc", "-n", self.name, "qdisc", "replace", "dev", self.name, *words)
        except _Refused as error:
            raise NoNetwork(f"no line can be made narrow here: {error}") from None

    def heal(self) -> None:
        self._ip_there("link", "set", self.name, "up")
        with contextlib.suppress(_Refused):  # there is no such entry
            self._ip_there("neigh", "del", self.here, "dev", self.name)
        with contextlib.suppress(_Refused):  # nor such a queue
            _run("tc", "-n", self.name, "qdisc", "del", "dev", self.name, "root")

    @property
    def lost(self) -> int:
        """Packets that had to wait too long since it is narrow."""
        [queue] = json.loads(_run("tc", "-n", self.name, "-s", "-j", "qdisc", "show", "dev", self.name))
        return int(queue["drops"])

    @property
    def arrived(self) -> int:
        """Packets from here that have arrived inside."""
        [link] = json.loads(self._ip_there("-s", "-j", "link", "show", self.name))
        return int(link["stats64"]["rx"]["packets"])

    # ----------------------------------------------------------------------------------------------------------------

    def _make(self, pair: ipaddress.IPv4Network) -> None:
        _run("ip", "netns", "add", self.name)  # the first: by it what a killed run left behind is found
        # Should the cable's own route go, such as with the cable, then nothing may leave by the machine's usual way.
        _run("ip", "route", "add", "blackhole", str(pair), "metric", "4000000000")
        _run("ip", "link", "add", self.name, "type", "veth", "peer", "name", self.name, "netns", self.name)
        self._ip_there("link", "set", "lo", "up")
        for ip, address in ((_ip_here, self.here), (self._ip_there, self.there)):
            # Without IPv6, which would talk by itself and be counted.
            ip("link", "set", self.name, "addrgenmode", "none")
            ip("addr", "add", f"{address}/{pair.prefixlen}", "dev", self.name)
            ip("link", "set", self.name, "up")

    def _ip_there(self, *words: str) -> str:
        return _run("ip", "-n", self.name, *words)


class _Refused(RuntimeError):
    """What a command of iproute2 said instead."""


def _ip_here(*words: str) -> str:
    return _run("ip", *words)


def _run(*argv: str) -> str:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30 * SECOND, check=False
    )
    if done.returncode:
        raise _Refused(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


# --- numbers ----------------------------------------------------------------------------------------------------------


def _free_pair() -> tuple[int, ipaddress.IPv4Network, socket.socket]:
    """A number that nobody has, with two addresses to which no route of this machine leads but the default one."""
    known = list(_routes())
    for range_number in range(len(RANGES)):
        for number in random.sample(range(range_number * PAIRS, (range_number + 1) * PAIRS), TRIES):
            pair = _pair(number)
            if any(pair.overlaps(route) for route in known):
                continue
            if (name := _claim(number)) is not None:
                return number, pair, name
    raise NoNetwork(f"this machine has routes to all of {', '.join(map(str, RANGES))}")


def _pair(number: int) -> ipaddress.IPv4Network:
    range_number, place = divmod(number, PAIRS)
    return ipaddress.IPv4Network((int(RANGES[range_number].network_address) + 4 * place, 30))


def _claim(number: int) -> socket.socket | None:
    return claim(f"network-{number}")


def _routes() -> Iterator[ipaddress.IPv4Network]:
    routes: list[dict[str, Any]] = json.loads(_run("ip", "-4", "-j", "route", "show", "table", "all"))
    for route in routes:
        if route["dst"] != "default":
            yield ipaddress.IPv4Network(route["dst"])


# --- leftovers --------------------------------------------------------------------------------------------------------


def _remove_leftovers() -> None:
    for path in NAMESPACES.glob(f"{PREFIX}*"):
        number = path.name.removeprefix(PREFIX)
        if number.isdigit() and int(number) < len(RANGES) * PAIRS and (name := _claim(int(number))) is not None:
            _remove(path.name)
            name.close()


def _remove(name: str) -> None:
    """Whatever of it is there, and the namespace last."""
    with contextlib.suppress(_Refused, AssertionError):
        wait_until(lambda: _end_all_inside(name) == 0)
    pair = _pair(int(name.removeprefix(PREFIX)))
    for words in (["link", "del", name], ["route", "del", "blackhole", str(pair)], ["netns", "del", name]):
        with contextlib.suppress(_Refused):
            _run("ip", *words)


def _end_all_inside(name: str) -> int:
    """Kill the processes that are in a namespace, which none but tests can have started there; how many there were."""
    pids = [int(word) for word in _run("ip", "netns", "pids", name).split()]
    place = (NAMESPACES / name).stat().st_ino
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            handle = os.pidfd_open(pid)
            try:
                # The handle is of one process; whether that one is inside is looked at again, now that it stays so.
                if (Path("/proc") / str(pid) / "ns" / "net").stat().st_ino == place:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
    return len(pids)
