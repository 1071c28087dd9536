"""What the machine allows: open files and ports for the connections, cores for server and clients."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

SPARE_FILES = 200
# The kernel gives a source address about 28,000 ports (net.ipv4.ip_local_port_range).
CONNECTIONS_PER_ADDRESS = 20_000


class NotEnough(Exception):
    """The machine does not allow what was asked for."""


def allow_open_files(connections: int) -> int:
    """Raise this process's soft limit to the hard one, and that one too if it is too low and this process may; its
    children inherit both. Raises NotEnough."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and connections + SPARE_FILES > hard:
        with contextlib.suppress(OSError, ValueError):
            needed = connections + SPARE_FILES
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))
            return needed
    if hard != resource.RLIM_INFINITY and connections + SPARE_FILES > hard:
        raise NotEnough(
            f"{connections:,} connections need {connections + SPARE_FILES:,} open files; the hard limit is {hard:,}"
            " (ulimit -Hn, LimitNOFILE of systemd)"
        )
    return hard


def source_address(index: int) -> str:
    """127.0.0.1, 127.0.0.2 …: another one for every 20,000 connections."""
    return f"127.0.0.{1 + index // CONNECTIONS_PER_ADDRESS}"


def check_cores(server: int, clients: int) -> None:
    """Raises NotEnough."""
    available = os.sched_getaffinity(0)
    if missing := {server, clients} - available:
        raise NotEnough(f"core {min(missing)} is not there; this process may use {sorted(available)}")
    if server == clients:
        raise NotEnough("server and clients need a core each, or the one is measured by the other")


@contextlib.contextmanager
def on_core(number: int) -> Iterator[None]:
    """What is started inside runs on that core, with all that it starts itself."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
