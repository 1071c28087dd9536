"""Trials in small, against real servers: they find what they look for, and nothing else."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from loadtest import cli
from tests.conftest import need
from tests.services.deadline import SECOND
from tests.services.rabbitmq import RabbitMQ

TRIED = 180


def tried(folder: Path, *words: str) -> dict[str, Any]:
    """The outcome of a trial."""
    need(RabbitMQ)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("a trial needs two cores")
    argv = [*words, "--server-core", str(cores[0]), "--client-core", str(cores[1]), "--out", str(folder)]
    # In a process of its own: it takes over signals and cores.
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=cli.main, args=(argv,))
    process.start()
    process.join(TRIED)
    assert process.exitcode is not None, "it did not end"
    [path] = folder.glob("*.json")
    assert path.with_suffix(".md").exists()
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def values(outcome: dict[str, Any]) -> dict[str, float]:
    return {bound["name"]: bound["value"] for bound in outcome["bounds"]}


CONTINUITY = {
    "delivered": 100,
    "delivered twice": 0,
    "not recovered": 0,
    "clients that are not back": 0,
    "deliveries that were wrong": 0,
}


@pytest.mark.timeout(240 * SECOND)
def test_clients_that_are_cut_get_everything(tmp_path: Path) -> None:
    words = "jitter --clients 40 --messages 40 --rate 10 --cut-every 1 --away 0.3"
    found = values(tried(tmp_path, *words.split()))
    assert CONTINUITY.items() <= found.items()
    assert found["connections cut"] > 20


@pytest.mark.timeout(240 * SECOND)
def test_clients_of_nodes_that_are_restarted_get_everything(tmp_path: Path) -> None:
    words = "deploy --clients 40 --nodes 2 --rate 10 --delay 0.5 --retry 0.1"
    outcome = tried(tmp_path, *words.split())
    found = values(outcome)
    assert CONTINUITY.items() <= found.items()
    assert found["nodes that ended well"] == 2
    assert "3001 shutdown" in outcome["figures"]["ends of connections and attempts"]


@pytest.mark.timeout(240 * SECOND)
def test_clients_that_stop_are_gone_and_the_others_miss_nothing(tmp_path: Path) -> None:
    words = "slow --clients 20 --stopped 5 --rate 100 --size 4000 --buffer 64 --seconds 1"
    found = values(tried(tmp_path, *words.split()))
    assert found["clients gone with 3008"] == 5
    assert found["deliveries that the healthy miss"] == found["connections that the healthy lost"] == 0
