"""Free TCP ports on loopback for servers that must be told theirs beforehand."""

import random
import socket
from pathlib import Path

LOCALHOST = "127.0.0.1"
LOWEST = 10_000
TRIES = 200

_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, and which this process has not given out before.

    It lies outside the range from which the kernel takes the client's end of a connection: a server that is down for
    a moment would otherwise find its port taken on restart, and somebody polling it would sooner or later connect
    to *himself* (a TCP simultaneous open: source and destination port are the same; seen).
    """
    low, high = _ephemeral_range()
    below = range(LOWEST, low)
    candidates = below if len(below) > 1000 else range(high + 1, 65_536)
    for port in random.sample(candidates, min(TRIES, len(candidates))):
        if port not in _given and _bindable(port):
            _given.add(port)
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
