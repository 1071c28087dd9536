"""systemd: told that the service is there and that its loop turns (sd_notify(3): Type=notify, WatchdogSec=)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping

BEATS = 3  # in the time after which systemd takes the process for dead


def tell_ready(environ: Mapping[str, str] = os.environ) -> None:
    """Clients may come, whatever the broker does; and from now on a sign of life, as often as systemd wants one. Does
    nothing under another service manager. Must be called inside the main process's running loop."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    _send(address, b"READY=1")
    # The variables are inherited: a process that is not meant keeps quiet.
    if environ.get("WATCHDOG_USEC", "").isdigit() and environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
        _beat(address, int(environ["WATCHDOG_USEC"]) / 1e6 / BEATS)


def _beat(address: str, every_s: float) -> None:
    _send(address, b"WATCHDOG=1")
    asyncio.get_running_loop().call_later(every_s, _beat, address, every_s)


def _send(address: str, message: bytes) -> None:
    """A name that begins with @ is abstract: in no file system."""
    path = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(message, path)
