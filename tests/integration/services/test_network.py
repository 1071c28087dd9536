"""Networks are removed again, whatever happened to who made them."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.deadline import SECOND, wait_until
from tests.services.network import NAMESPACES, Network

MAKER = """
import subprocess, sys, time
from tests.services.network import Network

with Network() as network:
    inside = subprocess.Popen(network.inside([sys.executable, "-c", "import time; time.sleep(600)"]))
    print(network.name, network.here, inside.pid, flush=True)
    time.sleep(600)
"""

# It skips where no network can be made, and leaves one beside which others are made.
pytestmark = pytest.mark.usefixtures("module_network")


def places_of(name: str, here: str) -> list[str]:
    """Where there is something of a network."""
    pair = str(ipaddress.IPv4Network(f"{here}/30", strict=False))
    routes = json.loads(subprocess.check_output(["ip", "-4", "-j", "route", "show", "table", "all"]))
    there = {
        "namespace": (NAMESPACES / name).exists(),
        "cable": (Path("/sys/class/net") / name).exists(),
        "routes": any(route["dst"] == pair for route in routes),
    }
    return [place for place, is_there in there.items() if is_there]


def test_nothing_is_left_of_one_that_was_closed(module_network: Network) -> None:
    with Network() as network:
        assert network.here != module_network.here
        assert places_of(network.name, network.here) == ["namespace", "cable", "routes"]
    assert places_of(network.name, network.here) == []


def test_nothing_is_left_of_one_in_which_something_failed() -> None:
    network = Network()
    with pytest.raises(ZeroDivisionError), network:
        network.unplug()
        raise ZeroDivisionError
    assert places_of(network.name, network.here) == []


def test_what_a_killed_process_left_behind_is_removed_with_all_that_runs_in_it(module_network: Network) -> None:
    with subprocess.Popen([sys.executable, "-c", MAKER], stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        name, here, inside = maker.stdout.readline().split()
        try:
            with Network():
                assert places_of(name, here) == ["namespace", "cable", "routes"], "its maker lives"
        finally:
            maker.kill()
    assert places_of(name, here) == ["namespace", "cable", "routes"]
    with Network():
        assert places_of(name, here) == []
    wait_until(lambda: not is_running(int(inside)), 10 * SECOND)
    assert places_of(module_network.name, module_network.here) == ["namespace", "cable", "routes"]


def is_running(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
