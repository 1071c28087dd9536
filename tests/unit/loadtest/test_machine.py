"""/proc and limits, on this very machine."""

from __future__ import annotations

import os
import resource
import subprocess
import time

import pytest

from loadtest import limits, procfs
from loadtest.limits import NotEnough


def test_the_time_used_is_seen() -> None:
    before, own = procfs.cpu_seconds([os.getpid()]), time.process_time()
    while time.process_time() < own + 0.1:
        pass
    assert 0.05 <= procfs.cpu_seconds([os.getpid()]) - before < 1


def test_children_are_found_and_have_memory_of_their_own() -> None:
    child = subprocess.Popen(["sleep", "30"])
    try:
        tree = procfs.tree(os.getpid())
        assert tree[0] == os.getpid()
        assert child.pid in tree
        assert procfs.memory_bytes([child.pid]) > 0
    finally:
        child.kill()
        child.wait()
    assert child.pid not in procfs.tree(os.getpid())


def test_a_process_that_has_ended_counts_nothing() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert procfs.cpu_seconds([child.pid]) == procfs.memory_bytes([child.pid]) == 0
    assert procfs.waited_seconds([child.pid]) == 0


def test_a_core_has_been_busy() -> None:
    number = min(os.sched_getaffinity(0))
    assert procfs.core(number).busy_s > 0
    with pytest.raises(ValueError, match="no core"):
        procfs.core(99_999)


def test_connections_beyond_one_addresss_ports_come_from_the_next() -> None:
    assert [limits.source_address(index) for index in (0, 19_999, 20_000, 60_000)] == [
        "127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.4",
    ]  # fmt: skip


def test_too_few_open_files_or_cores_are_told_before_anything_starts() -> None:
    with pytest.raises(NotEnough, match="hard limit"):
        limits.allow_open_files(10**9)
    with pytest.raises(NotEnough, match="a core each"):
        core = min(os.sched_getaffinity(0))
        limits.check_cores(core, core)


def test_the_hard_limit_is_raised_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [(100, 1000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: now[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: now.append(pair))
    assert limits.allow_open_files(500) == 1000
    assert now[-1] == (1000, 1000)
    assert limits.allow_open_files(5000) == 5000 + limits.SPARE_FILES
    assert now[-1] == (5000 + limits.SPARE_FILES,) * 2


def test_a_core_is_left_again() -> None:
    before = os.sched_getaffinity(0)
    with limits.on_core(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
