"""What Linux tells about processes and cores under /proc (proc(5)). Reads only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

PROC = Path("/proc")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Core(msgspec.Struct, frozen=True):
    """Seconds since the start of the machine. `stolen`: another guest of the same host had the core."""

    busy_s: float
    stolen_s: float


def tree(pid: int) -> list[int]:
    """The process and its descendants, parents first; without those that have ended."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found.extend(children.get(one, ()))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of the processes with all their threads, ended ones too. In steps of 10 ms."""
    return sum((int(fields[11]) + int(fields[12])) * TICK_S for pid in pids if (fields := _stat(pid)))


def waited_seconds(pids: Iterable[int]) -> float:
    """How long their threads were ready to run while something else had the core (schedstat's second number)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in (PROC / str(pid) / "task").iterdir():
                total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9


def memory_bytes(pids: Iterable[int]) -> int:
    """Resident memory; pages that several of the processes share are counted once (Pss)."""
    return sum(_memory(pid) for pid in pids)


def _memory(pid: int) -> int:
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in (PROC / str(pid) / name).read_text().splitlines():
                if line.startswith(key):
                    return int(line.split()[1]) * 1024
    return 0


def core(number: int) -> Core:
    """The use of one core. Columns: user nice system idle iowait irq softirq steal (proc_stat(5))."""
    for line in (PROC / "stat").read_text().splitlines():
        name, *columns = line.split()
        if name == f"cpu{number}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(column) * TICK_S for column in columns[:8])
            return Core(user + nice + system + irq + softirq, steal)
    raise ValueError(f"this machine has no core {number}")


def cpu_model() -> str:
    for line in (PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def _stat(pid: int) -> list[str]:
    """The fields after the command's name, which may itself hold spaces and brackets; none if it has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
