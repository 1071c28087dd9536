"""What the numbers were measured on: machine, kernel, versions."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from pathlib import Path

import msgspec

from loadtest import procfs

PACKAGES = ("aiohttp", "uvloop", "aio-pika", "aiormq", "msgspec", "PyJWT")


class Environment(msgspec.Struct, frozen=True):
    """`load_before`: the load average over one minute before the first measurement; others' work disturbs."""

    started: str
    kernel: str
    cpu: str
    cores: int
    memory_gb: float
    load_before: float
    python: str
    packages: dict[str, str]
    sysctl: dict[str, str]


def look() -> Environment:
    """Of this moment."""
    return Environment(
        started=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=procfs.cpu_model(),
        cores=os.cpu_count() or 0,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        load_before=round(os.getloadavg()[0], 2),
        python=platform.python_version(),
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        sysctl={name: _sysctl(name) for name in ("net.ipv4.tcp_wmem", "net.ipv4.tcp_rmem", "net.core.somaxconn")},
    )


def _sysctl(name: str) -> str:
    try:
        return " ".join((Path("/proc/sys") / name.replace(".", "/")).read_text().split())
    except OSError:
        return "unknown"
