"""The whole proof in its smallest size: real broker, Redis and nodes under every kind of fault, then the checker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import need
from tests.services.deadline import SECOND
from tests.services.rabbitmq import RabbitMQ
from tests.services.redis import Redis
from tests.soak import cli, report
from tests.soak.sizes import CI, GROUPS, Settings

SEED = 20


@pytest.mark.timeout(900 * SECOND)
def test_nothing_is_lost_doubled_or_reordered_under_faults(tmp_path: Path) -> None:
    """`python -m tests.soak --seed 20` is the same run; its journals stay in pytest's folder when this fails."""
    need(RabbitMQ)
    need(Redis)
    settings = Settings(size=CI, seed=SEED, faults="all")
    verdict = cli.play(settings, GROUPS, tmp_path, print)
    assert verdict.counts_as_proof, report.write(settings, tmp_path, verdict, tmp_path / "report")
