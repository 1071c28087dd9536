"""Free TCP ports on loopback for servers that must be told theirs beforehand."""

import random
import socket
from pathlib import Path

LOCALHOST = "127.0.0.1"
LOWEST = 10_000
TRIES = 200

_reserved: list[int] = []  # descriptors of the names that stand for ports, held as long as this process lives


def free_port() -> int:
    """A port that nobody listens on, and which no process on this machine has been given before and may still use.

    It lies outside the range from which the kernel takes the client's end of a connection: a server that is down for
    a moment would otherwise find its port taken on restart, and somebody polling it would sooner or later connect
    to *himself* (a TCP simultaneous open: source and destination port are the same; seen).
    """
    low, high = _ephemeral_range()
    below = range(LOWEST, low)
    candidates = below if len(below) > 1000 else range(high + 1, 65_536)
    for port in random.sample(candidates, min(TRIES, len(candidates))):
        if _bindable(port) and _reserve(port):
            return port
    raise RuntimeError(f"no free port in {candidates}")


def _ephemeral_range() -> tuple[int, int]:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return 32_768, 60_999  # Linux's default
    return int(low), int(high)


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
    return True


def _reserve(port: int) -> bool:
    """Several processes run tests beside each other, and a server that is down for a moment must find its port."""
    name = claim(f"port-{port}")
    if name is None:
        return False
    _reserved.append(name.detach())
    return True


def claim(text: str) -> socket.socket | None:
    """A name that one process of this machine can have at a time, until it closes the socket or ends (unix(7), abstract
    sockets); None when somebody has it."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0notifier-test-{text}")
    except OSError:
        name.close()
        return None
    return name
